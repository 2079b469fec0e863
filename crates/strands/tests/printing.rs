//! What goroutines print in a program of tests is there, whichever test was the first to have a goroutine.
//!
//! libtest keeps what a test prints, shows it if that test fails, and has std hand this on to the threads that the test
//! makes. Two tests here, of which the first has the runtime's threads made, do nothing unless a third runs them, one
//! after the other, in a process of their own.

use std::env;
use std::future::Future;
use std::pin::pin;
use std::process::Command;
use std::sync::{Arc, mpsc};
use std::task::{Context, Wake, Waker};
use std::time::Duration;
use strands::{blocking, go, time};

/// Is set in the process of the two.
const STAGED: &str = "STRANDS_TEST_PRINTING";

const PRINTED: &str = "a goroutine of the second test has printed this";
const PANICKED: &str = "a goroutine of the second test has panicked with this";
const ON_A_SPARE_THREAD: &str = "a call that blocks has printed this";
const BY_AN_ALARM: &str = "a waker that an alarm has called has printed this";

fn is_staged() -> bool {
    env::var_os(STAGED).is_some()
}

/// A waker of a stranger's, which prints.
struct Prints(&'static str, mpsc::Sender<()>);

impl Wake for Prints {
    fn wake(self: Arc<Self>) {
        println!("{}", self.0);
        let _ = self.1.send(());
    }
}

/// Has such a waker called by an alarm, and returns when it was.
fn have_an_alarm_print(text: &'static str) {
    let (tell, told) = mpsc::channel();
    let waker = Waker::from(Arc::new(Prints(text, tell)));
    let mut alarm = pin!(time::sleep_async(Duration::from_millis(1)));
    if alarm.as_mut().poll(&mut Context::from_waker(&waker)).is_pending() {
        told.recv().expect("the alarm has the waker");
    } else {
        // So late that it had gone off already.
        println!("{text}");
    }
}

#[test]
fn staged_1_has_threads_made_and_passes() {
    if is_staged() {
        go(|| blocking(|| ())).join().expect("no panic");
        have_an_alarm_print("of no interest");
    }
}

#[test]
fn staged_2_prints_and_fails() {
    if is_staged() {
        go(|| println!("{PRINTED}")).join().expect("no panic");
        go(|| blocking(|| println!("{ON_A_SPARE_THREAD}"))).join().expect("no panic");
        have_an_alarm_print(BY_AN_ALARM);
        go(|| panic!("{PANICKED}")).join().expect("nothing went wrong");
    }
}

#[test]
fn what_goroutines_print_is_not_lost_with_a_test_that_is_over() {
    let both = ["staged_1_has_threads_made_and_passes", "staged_2_prints_and_fails"];
    let output = Command::new(env::current_exe().expect("a test knows where it is"))
        .args(both)
        .args(["--exact", "--test-threads=1"])
        .env(STAGED, "1")
        .env_remove("RUST_TEST_NOCAPTURE")
        .env_remove("RUST_TEST_SHUFFLE")
        .output()
        .expect("a test can be run");
    let text = [output.stdout, output.stderr]
        .map(|text| String::from_utf8_lossy(&text).into_owned())
        .concat();
    assert!(!output.status.success() && text.contains("1 passed; 1 failed"), "{text}");
    for printed in [PRINTED, PANICKED, ON_A_SPARE_THREAD, BY_AN_ALARM] {
        assert!(text.contains(printed), "`{printed}` was lost:\n{text}");
    }
}
