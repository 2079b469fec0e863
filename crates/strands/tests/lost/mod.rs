//! Programs that are to be found dead: what they say would be lost, and whether the report says the same.

#![allow(dead_code, reason = "each test file uses a part of it")]

use crate::dumped::{Line, here, number};
use crate::process::{Outcome, Program};
use std::collections::HashMap;
use std::panic::Location;
use std::time::Duration;
use strands::{JoinHandle, thread};

pub(crate) const VERDICT: &str = "fatal error: all goroutines are asleep - deadlock!";

/// Longer than the first look at a quiet program, and than some of those that follow.
pub(crate) const A_WHILE: Duration = Duration::from_millis(1500);

/// Starts a goroutine that will wait for good, and prints what the report has to say of it.
#[track_caller]
pub(crate) fn lost(name: &str, why: &str, wait: impl FnOnce() + Send + 'static) -> JoinHandle<()> {
    let builder = thread::Builder::new().name(name.to_owned()).stack_size(64 << 10);
    let handle = builder.spawn(wait).expect("spawned");
    println!("lost {}|{name}|{why}|{}", number(&handle), here(Location::caller()));
    handle
}

/// Runs a program that is to be found dead, with all that it said would be lost; and nothing else.
#[track_caller]
pub(crate) fn reported(program: Program) -> Outcome {
    let outcome = program.run();
    assert_eq!(outcome.status.code(), Some(2), "{outcome}");
    assert!(outcome.stderr.starts_with(VERDICT), "{outcome}");
    let mut found: HashMap<_, _> =
        Line::all(&outcome.stderr).into_iter().map(|line| (line.id, line)).collect();
    for lost in outcome.values("lost") {
        let [id, name, why, birth] = lost.split('|').collect::<Vec<_>>()[..] else {
            panic!("{lost}")
        };
        let id: u64 = id.parse().expect("a number");
        let line = found.remove(&id).unwrap_or_else(|| panic!("goroutine {id}: {outcome}"));
        assert_eq!(line.name.as_deref(), Some(name), "{outcome}");
        assert_eq!(line.why, why, "{outcome}");
        assert_eq!(line.birth, birth, "{outcome}");
        let age = line.age.unwrap_or_else(|| panic!("its age: {outcome}"));
        assert!((0.0..60.0).contains(&age), "{outcome}");
        let object = line.object.as_deref().unwrap_or_default();
        match why {
            "chan receive" | "chan send" => assert!(object.starts_with("channel 0x"), "{outcome}"),
            "join" => assert!(object.starts_with("goroutine "), "{outcome}"),
            "mutex lock" => assert!(object.starts_with("mutex 0x"), "{outcome}"),
            "rwlock read" | "rwlock write" => assert!(object.starts_with("rwlock 0x"), "{outcome}"),
            _ => assert_eq!(object, "", "{outcome}"),
        }
    }
    // `run` and the like have no name.
    found.retain(|_, line| line.name.is_some());
    assert!(found.is_empty(), "{found:?} {outcome}");
    outcome
}

/// Runs a program that takes its time, and must not be found dead meanwhile.
#[track_caller]
pub(crate) fn lived(program: Program) -> Outcome {
    let outcome = program.run().succeeded();
    assert!(!outcome.stderr.contains(VERDICT), "{outcome}");
    outcome
}
