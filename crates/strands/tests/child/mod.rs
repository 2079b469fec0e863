//! Tests that end their process, limit it, or want it for themselves: the test runs itself again as a
//! child, and the parent looks at how that ended.

#![allow(dead_code, reason = "each test file uses a part of it")]

use std::env;
use std::ffi::{OsStr, OsString};
use std::io::Read;
use std::process::{Command, ExitStatus, Stdio};
use std::thread;
use std::time::{Duration, Instant};

const MARK: &str = "STRANDS_TEST_CHILD";

/// Longer than any child takes on a busy machine, and short enough to be waited for.
const PATIENCE: Duration = Duration::from_secs(120);

/// A test that hangs in this very process: the harness has named it long before this ends it.
const LAST_RESORT: u32 = 900;

extern "C" fn set_last_resort() {
    // SAFETY: no pointers.
    unsafe { libc::alarm(LAST_RESORT) };
}

// SAFETY: the section holds functions that run before `main`; this one needs nothing of the runtime's.
#[used]
#[unsafe(link_section = ".init_array")]
static SET_LAST_RESORT: extern "C" fn() = set_last_resort;

/// A child to be: the test of that name, with variables of its own.
pub(crate) struct Child {
    test: &'static str,
    env: Vec<(&'static str, OsString)>,
}

/// How a child ended, and what it wrote.
pub(crate) struct Ended {
    pub(crate) status: ExitStatus,
    pub(crate) stdout: String,
    pub(crate) stderr: String,
}

impl Child {
    /// `test` is the name of the calling test.
    pub(crate) fn of(test: &'static str) -> Child {
        Child { test, env: Vec::new() }
    }

    pub(crate) fn env(mut self, name: &'static str, value: impl AsRef<OsStr>) -> Child {
        self.env.push((name, value.as_ref().to_owned()));
        self
    }

    /// In the child: runs `body`, and ends the process with 0 if it returns. In the parent: runs the child,
    /// and kills it and fails if it does not end.
    pub(crate) fn run(self, body: impl FnOnce()) -> Ended {
        self.run_main(|| {
            body();
            std::process::exit(0);
        })
        .expect("the child has exited")
    }

    /// As `run`, but in the child it returns `None` after `body`, so that `main` can return.
    pub(crate) fn run_main(self, body: impl FnOnce()) -> Option<Ended> {
        if env::var(MARK).as_deref() == Ok(self.test) {
            // If the parent is killed, nobody else ends us.
            // SAFETY: no pointers.
            unsafe { libc::alarm(2 * PATIENCE.as_secs() as u32) };
            body();
            return None;
        }
        Some(self.wait())
    }

    fn wait(self) -> Ended {
        let test = self.test;
        let mut child = Command::new(env::current_exe().expect("a test knows where it is"))
            .args([test, "--exact", "--nocapture", "--test-threads=1"])
            .env(MARK, test)
            .envs(self.env)
            .stdin(Stdio::null())
            .stdout(Stdio::piped())
            .stderr(Stdio::piped())
            .spawn()
            .expect("the test binary starts");
        // Somebody has to empty the pipes, or a child that writes much would wait for us.
        let stdout = read(child.stdout.take().expect("piped"));
        let stderr = read(child.stderr.take().expect("piped"));
        let deadline = Instant::now() + PATIENCE;
        let mut stuck = false;
        let status = loop {
            if let Some(status) = child.try_wait().expect("the child is ours") {
                break status;
            }
            if Instant::now() > deadline {
                stuck = true;
                let _ = child.kill();
            }
            thread::sleep(Duration::from_millis(1));
        };
        let text = |reader: thread::JoinHandle<String>| reader.join().expect("a pipe can be read");
        let ended = Ended { status, stdout: text(stdout), stderr: text(stderr) };
        assert!(!stuck, "{test} did not end within {PATIENCE:?}\n{ended}");
        ended
    }
}

fn read(mut pipe: impl Read + Send + 'static) -> thread::JoinHandle<String> {
    thread::spawn(move || {
        let mut bytes = Vec::new();
        pipe.read_to_end(&mut bytes).expect("a pipe can be read");
        String::from_utf8_lossy(&bytes).into_owned()
    })
}

impl Ended {
    /// It ran its body to the end.
    #[track_caller]
    pub(crate) fn assert_success(&self) {
        assert!(self.status.success(), "{self}");
    }

    /// It wrote all of these to standard error.
    #[track_caller]
    pub(crate) fn assert_said(&self, words: &[&str]) {
        for word in words {
            assert!(self.stderr.contains(word), "{word:?} is not in it: {self}");
        }
    }
}

impl std::fmt::Display for Ended {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        let Ended { status, stdout, stderr } = self;
        // Ten thousand lines help nobody.
        let end: Vec<&str> = stderr.lines().rev().take(60).collect();
        write!(f, "{status}\n--- stdout\n{stdout}\n--- stderr\n")?;
        end.iter().rev().try_for_each(|line| writeln!(f, "{line}"))
    }
}

/// Waits for what must come about by itself, and fails if it does not.
#[track_caller]
pub(crate) fn wait_until(what: &str, mut holds: impl FnMut() -> bool) {
    let deadline = Instant::now() + PATIENCE / 2;
    while !holds() {
        assert!(Instant::now() < deadline, "this did not come about: {what}");
        thread::sleep(Duration::from_millis(1));
    }
}
