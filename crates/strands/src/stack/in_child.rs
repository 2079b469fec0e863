//! For tests that end their process or limit it: the test runs itself again as a child.

use std::env;
use std::process::{Command, Output};

const MARK: &str = "STRANDS_TEST_CHILD";

/// In the child, runs `body` and exits with 0 if it returns. In the parent, starts the child and
/// returns how it ended. `test` is the calling test's path, `concat!(module_path!(), "::its_name")`.
pub(crate) fn in_child(test: &str, body: impl FnOnce()) -> Output {
    let (_, test) = test.split_once("::").expect("a path that starts with the crate's name");
    if env::var(MARK).as_deref() == Ok(test) {
        // A child that hangs must not outlive the test run.
        // SAFETY: no pointers.
        unsafe { libc::alarm(120) };
        body();
        std::process::exit(0);
    }
    Command::new(env::current_exe().expect("the test binary has a path"))
        .args([test, "--exact", "--nocapture", "--test-threads=1"])
        .env(MARK, test)
        .output()
        .expect("the test binary starts")
}

/// Lets the process have at most so many bytes: of addresses (`RLIMIT_AS`), of private writable
/// memory (`RLIMIT_DATA`).
pub(super) fn limit(resource: u32, bytes: usize) {
    let limit = libc::rlimit { rlim_cur: bytes as libc::rlim_t, rlim_max: bytes as libc::rlim_t };
    // SAFETY: `limit` is live.
    assert_eq!(unsafe { libc::setrlimit(resource as _, &limit) }, 0);
}

/// What a child wrote to standard error.
pub(crate) fn stderr(output: &Output) -> String {
    String::from_utf8_lossy(&output.stderr).into_owned()
}
