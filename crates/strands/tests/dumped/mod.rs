//! What a dump says, taken apart.

#![allow(dead_code, reason = "each test file uses a part of it")]

use std::panic::Location;
use strands::JoinHandle;

/// `goroutine 12 "io" [chan receive, 3.2 s, home worker 1]: born at src/main.rs:20, waiting on channel 0x…`
#[derive(Clone, Debug, PartialEq)]
pub(crate) struct Line {
    pub(crate) id: u64,
    pub(crate) name: Option<String>,
    pub(crate) why: String,
    pub(crate) age: Option<f64>,
    pub(crate) birth: String,
    pub(crate) object: Option<String>,
}

impl Line {
    pub(crate) fn parse(line: &str) -> Option<Line> {
        let (who, rest) = line.strip_prefix("goroutine ")?.split_once(" [")?;
        let (id, name) = match who.split_once(' ') {
            Some((id, name)) => (id, Some(name)),
            None => (who, None),
        };
        let name = name.map(|name| {
            let name = name.strip_prefix('"').and_then(|name| name.strip_suffix('"'));
            name.expect("a name is quoted").to_owned()
        });
        let (state, rest) = rest.split_once("]: born at ").expect("where it was born");
        let (birth, object) = match rest.split_once(", waiting on ") {
            Some((birth, object)) => (birth, Some(object.to_owned())),
            None => (rest, None),
        };
        let mut state: Vec<_> = state.split(", ").collect();
        let home = state.pop().expect("its home");
        let home =
            home.strip_prefix("home worker ").or_else(|| home.strip_prefix("last on worker "));
        home.expect("its home").parse::<usize>().expect("a number");
        let age = (state.len() == 2).then(|| state.pop().expect("two"));
        let age = age.map(|age| {
            let seconds = age.strip_suffix(" s").expect("seconds, in these tests");
            seconds.parse().expect("a number")
        });
        let id = id.parse().expect("a number");
        let [why] = state[..] else { panic!("not understood: {line}") };
        Some(Line { id, name, why: why.to_owned(), age, birth: birth.to_owned(), object })
    }

    /// All goroutines in a dump. Each of its lines must make sense.
    pub(crate) fn all(dump: &str) -> Vec<Line> {
        dump.lines().filter_map(Line::parse).collect()
    }
}

pub(crate) fn number(handle: &JoinHandle<()>) -> u64 {
    let id = format!("{:?}", handle.thread().id());
    let digits = id.strip_prefix("ThreadId(goroutine ").and_then(|id| id.strip_suffix(')'));
    digits.expect("a goroutine").parse().expect("a number")
}

pub(crate) fn here(location: &Location<'_>) -> String {
    format!("{}:{}", location.file(), location.line())
}
