//! Tests that play in a process of their own: with a given number of processors, with nobody else in it,
//! to end by themselves or to be killed.
//!
//! A test calls [`stage`] with what the process is to do. In the test's own process this returns the
//! [`Program`] to be run, which is this very executable, told to run this one test. There `stage` plays
//! the body instead.
//!
//! The harness runs each test on a thread of its own and keeps `main` for itself, which is one thread too
//! many where it matters who can still wake whom. So the process forks before it plays: the child has this
//! one thread, and its body *is* `main`.

#![allow(dead_code, reason = "each test file uses a part of it")]

use std::env;
use std::ffi::OsString;
use std::fmt;
use std::io::{self, Read};
use std::os::unix::process::ExitStatusExt;
use std::panic;
use std::process::{Command, ExitStatus, Stdio};
use std::thread;
use std::time::{Duration, Instant};

/// Names the test whose body the process is to play.
const PLAY: &str = "STRANDS_TEST_PLAY";
/// What the body finds with [`parameter`].
const PARAMETER: &str = "STRANDS_TEST_PARAMETER";
/// Printed when the body has returned.
const CURTAIN: &str = "the body has returned";
/// After this a process counts as hung. Nothing here takes a tenth of it.
const PATIENCE: Duration = Duration::from_secs(60);

/// In the process that is to play it, plays `body`; elsewhere returns the program that does.
pub(crate) fn stage<F: FnOnce()>(body: F) -> Option<Program> {
    let name = test_of::<F>();
    if env::var_os(PLAY).is_none_or(|play| play != name.as_str()) {
        return Some(Program::new(name));
    }
    // SAFETY: the other thread, the harness's, waits for this test to end and holds no lock meanwhile, so
    // the child finds its memory, and the allocator, in order.
    match unsafe { libc::fork() } {
        -1 => panic!("cannot fork: {}", io::Error::last_os_error()),
        0 => {
            end_with_the_parent();
            println!(); // the harness has begun a line
            let played = panic::catch_unwind(panic::AssertUnwindSafe(body)).is_ok();
            if played {
                println!("{CURTAIN}");
            }
            std::process::exit(if played { 0 } else { 101 })
        }
        child => std::process::exit(wait_for(child)),
    }
}

/// Whoever would kill us may be killed first.
fn end_with_the_parent() {
    // SAFETY: both set an attribute of the process, and touch no memory.
    unsafe {
        libc::prctl(libc::PR_SET_PDEATHSIG, libc::SIGKILL);
        libc::alarm(2 * PATIENCE.as_secs() as u32);
    }
}

/// The code with which the child exits; for a signal, as a shell has it.
fn wait_for(child: libc::pid_t) -> i32 {
    let mut status = 0;
    // SAFETY: writes the status to where it is told to.
    while unsafe { libc::waitpid(child, &mut status, 0) } != child {}
    if libc::WIFEXITED(status) { libc::WEXITSTATUS(status) } else { 128 + libc::WTERMSIG(status) }
}

/// Plays `body` on each of these numbers of processors; it must return, and soon.
pub(crate) fn on_processors<F: FnOnce()>(counts: &[usize], body: F) {
    let name = test_of::<F>();
    if env::var_os(PLAY).is_none_or(|play| play != name.as_str()) {
        for count in counts {
            Program::new(name.clone()).processors(*count).run().succeeded();
        }
        return;
    }
    end_with_the_parent();
    thread::spawn(|| {
        thread::sleep(PATIENCE - Duration::from_secs(10));
        eprintln!("it hangs:\n{}", strands::runtime::dump());
        std::process::abort();
    });
    body();
    let processors = env::var("STRANDS_MAXPROCS").expect("set by us");
    assert_eq!(strands::runtime::metrics().processors.to_string(), processors);
    println!("\n{CURTAIN}");
}

/// What the test gave its [`Program`].
pub(crate) fn parameter() -> String {
    env::var(PARAMETER).expect("the test sets it")
}

/// `crate::test::{{closure}}`: the test in which the closure was written. If this should change, no
/// body is played, and all tests fail.
fn test_of<F>() -> String {
    let name = std::any::type_name::<F>();
    let name = name.split_once("::").map_or(name, |(_crate, name)| name);
    name.trim_end_matches("::{{closure}}").to_owned()
}

/// A process yet to be started.
#[derive(Clone)]
pub(crate) struct Program {
    name: String,
    /// Who starts it, with which arguments, if not we.
    by: Vec<OsString>,
    env: Vec<(&'static str, OsString)>,
}

impl Program {
    fn new(name: String) -> Program {
        Program { name, by: Vec::new(), env: Vec::new() }
    }

    /// Started by another program (`taskset`, `sh`), which gets our path and arguments as its last ones.
    pub(crate) fn by<S: Into<OsString>>(mut self, command: impl IntoIterator<Item = S>) -> Program {
        self.by = command.into_iter().map(Into::into).collect();
        self
    }

    pub(crate) fn processors(self, count: usize) -> Program {
        self.env("STRANDS_MAXPROCS", count.to_string())
    }

    pub(crate) fn parameter(self, value: impl Into<OsString>) -> Program {
        self.env(PARAMETER, value)
    }

    pub(crate) fn env(mut self, name: &'static str, value: impl Into<OsString>) -> Program {
        self.env.push((name, value.into()));
        self
    }

    fn command(&self) -> Command {
        let us = env::current_exe().expect("a test knows where it is").into_os_string();
        let mut words = self.by.iter().chain([&us]);
        let mut command = Command::new(words.next().expect("at least us"));
        command
            .args(words)
            .args(["--exact", &self.name, "--nocapture", "--test-threads=1"])
            .env_remove("STRANDS_MAXPROCS")
            .env(PLAY, &self.name)
            .envs(self.env.iter().cloned())
            .stdin(Stdio::null())
            .stdout(Stdio::piped())
            .stderr(Stdio::piped());
        command
    }

    /// Runs it to its end. If that does not come, it is killed and the test fails.
    pub(crate) fn run(self) -> Outcome {
        let mut child = self.command().spawn().expect("a process can be started");
        // Somebody has to empty the pipes, or a child that writes much would wait for us.
        let stdout = child.stdout.take().map(|pipe| thread::spawn(|| read(pipe)));
        let stderr = child.stderr.take().map(|pipe| thread::spawn(|| read(pipe)));
        let begun = Instant::now();
        let mut hung = false;
        let status = loop {
            if let Some(status) = child.try_wait().expect("the child is ours") {
                break status;
            }
            if begun.elapsed() > PATIENCE && !hung {
                hung = true;
                child.kill().expect("the child is ours");
            }
            thread::sleep(Duration::from_millis(2));
        };
        let took = begun.elapsed();
        let text = |reader: Option<thread::JoinHandle<String>>| {
            reader.map_or_else(String::new, |reader| reader.join().expect("a pipe can be read"))
        };
        let outcome =
            Outcome { name: self.name, status, took, stdout: text(stdout), stderr: text(stderr) };
        assert!(!hung, "it hung. {outcome}");
        outcome
    }
}

fn read(mut pipe: impl Read) -> String {
    let mut bytes = Vec::new();
    pipe.read_to_end(&mut bytes).expect("a pipe can be read");
    String::from_utf8_lossy(&bytes).into_owned()
}

/// How a process ended, and what it wrote.
pub(crate) struct Outcome {
    name: String,
    pub(crate) status: ExitStatus,
    pub(crate) took: Duration,
    pub(crate) stdout: String,
    pub(crate) stderr: String,
}

impl Outcome {
    /// The body has been played to its end.
    #[track_caller]
    pub(crate) fn succeeded(self) -> Outcome {
        let played = self.stdout.lines().any(|line| line == CURTAIN);
        assert!(self.status.success() && played, "{self}");
        self
    }

    /// What the body printed on lines that begin with `key` and a blank.
    pub(crate) fn values<'a>(&'a self, key: &'a str) -> impl Iterator<Item = &'a str> {
        self.stdout.lines().filter_map(move |line| line.strip_prefix(key)?.strip_prefix(' '))
    }

    /// The first of [`values`](Outcome::values).
    #[track_caller]
    pub(crate) fn value<'a>(&'a self, key: &'a str) -> &'a str {
        self.values(key).next().unwrap_or_else(|| panic!("it printed no `{key}`. {self}"))
    }
}

impl fmt::Display for Outcome {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let Outcome { name, status, took, stdout, stderr } = self;
        let signal = status.signal().map(|n| format!(" (signal {n})")).unwrap_or_default();
        write!(
            f,
            "{name}: {status}{signal} after {took:?}\n-- stdout\n{stdout}\n-- stderr\n{stderr}\n--"
        )
    }
}
