//! A lock of threads that is held over a park: at home it can block its own thread for ever, which is said within a
//! second, by whom and what to do; and goroutines that roam do not notice. With std's mutex and parking_lot's.

mod support;

use std::env;
use std::io::{BufRead, BufReader};
use std::process::{Child, Command, Stdio};
use std::sync::Arc;
use std::time::Instant;
use strands::channel::bounded;
use strands::{runtime, thread};
use support::PATIENCE;

const PLAY: &str = "STRANDS_PROOF_PLAY";

/// A mutex of threads.
trait Lock: Default + Send + Sync + 'static {
    /// Calls `f` with the lock held.
    fn with<T>(&self, f: impl FnOnce() -> T) -> T;
    fn is_held(&self) -> bool;
}

impl Lock for std::sync::Mutex<()> {
    fn with<T>(&self, f: impl FnOnce() -> T) -> T {
        let _guard = self.lock().expect("nobody panics with it");
        f()
    }

    fn is_held(&self) -> bool {
        self.try_lock().is_err()
    }
}

impl Lock for parking_lot::Mutex<()> {
    fn with<T>(&self, f: impl FnOnce() -> T) -> T {
        let _guard = self.lock();
        f()
    }

    fn is_held(&self) -> bool {
        self.is_locked()
    }
}

/// Waits, as a thread, for what another goroutine holds.
#[inline(never)]
fn asks_for_the_lock<L: Lock>(lock: &L) {
    lock.with(|| ());
}

/// Two goroutines, on one processor: the first parks with the lock held until the second is done, which asks for it in
/// the meantime; the first is let go by a thread that does not know of that.
fn hold_it_over_a_park<L: Lock>() {
    let (done, is_done) = bounded::<()>(0);
    let asker = strands::run(|| {
        let lock = Arc::new(L::default());
        let held = Arc::clone(&lock);
        let (let_go, rx) = bounded::<()>(1);
        let holder = thread::Builder::new().name("holder".into());
        let holder = holder.spawn(move || held.with(|| rx.recv())).expect("spawned");
        while !lock.is_held() {
            strands::yield_now();
        }
        let asker = thread::Builder::new().name("asker".into()).spawn(move || {
            // It could go on from here, were there a thread for it.
            let_go.send(()).expect("received");
            asks_for_the_lock(&*lock);
            drop(done);
        });
        drop(holder);
        asker.expect("spawned")
    });
    // Where both roam.
    let _ = is_done.recv();
    asker.join().expect("no panic");
    println!("the lock was had");
}

/// In the process that is to play it, plays the lock of that name and ends; elsewhere starts that process.
fn stage(test: &str, affinity: &str, play: fn()) -> Command {
    if env::var(PLAY).is_ok_and(|name| name == test) {
        play();
        std::process::exit(0);
    }
    let mut command = Command::new(env::current_exe().expect("a test knows where it is"));
    command
        .args(["--exact", test, "--nocapture", "--test-threads=1"])
        .env(PLAY, test)
        .env("STRANDS_MAXPROCS", "1")
        .env("STRANDS_AFFINITY", affinity)
        .stdin(Stdio::null())
        .stdout(Stdio::null())
        .stderr(Stdio::piped());
    command
}

/// Ends with the test.
struct Playing(Child);

impl Drop for Playing {
    fn drop(&mut self) {
        let _ = self.0.kill();
        let _ = self.0.wait();
    }
}

#[track_caller]
fn is_explained(mut command: Command) {
    let began = Instant::now();
    let mut playing = Playing(command.spawn().expect("it can be started"));
    let lines = BufReader::new(playing.0.stderr.take().expect("it is piped")).lines();
    let mut said = String::new();
    // (It ends at the latest when the process does, which its last resort sees to.)
    for line in lines {
        said += &line.expect("text");
        said.push('\n');
        if said.contains("remedy: ") {
            break;
        }
        assert!(began.elapsed() < PATIENCE, "{said}");
    }
    let part = |from: &str, to: &str| {
        let (_, after) = said.split_once(from).unwrap_or_else(|| panic!("no {from:?}: {said}"));
        after.split_once(to).unwrap_or_else(|| panic!("no {to:?}: {said}")).0.to_owned()
    };
    let seconds: f64 = part("in a lock or the like, for ", " s").parse().expect("a number");
    // Half a second, on a machine that has nothing else to do.
    assert!(seconds < 5.0, "{said}");
    let waiting = part("will:\n", "cannot run:");
    assert!(waiting.contains("\"asker\""), "who waits: {said}");
    assert!(waiting.contains("held_locks.rs:"), "where it was born: {said}");
    assert!(waiting.contains("asks_for_the_lock"), "where it waits: {said}");
    let siblings = part("cannot run:\n", "remedy");
    assert!(siblings.contains("\"holder\""), "who cannot run: {said}");
    let (_, remedy) = said.split_once("remedy: ").expect("see above");
    assert!(remedy.contains("strands::sync") && remedy.contains("Affinity::Roaming"), "{said}");
}

#[track_caller]
fn is_no_matter(mut command: Command) {
    let output = command.output().expect("it can be started");
    let said = String::from_utf8_lossy(&output.stderr);
    assert!(output.status.success(), "{said}");
    assert!(!said.contains("has blocked its thread"), "{said}");
}

#[test]
fn stds_mutex_held_over_a_park_at_home_is_explained() {
    let test = "stds_mutex_held_over_a_park_at_home_is_explained";
    is_explained(stage(test, "home", hold_it_over_a_park::<std::sync::Mutex<()>>));
}

#[test]
fn parking_lots_mutex_held_over_a_park_at_home_is_explained() {
    let test = "parking_lots_mutex_held_over_a_park_at_home_is_explained";
    is_explained(stage(test, "home", hold_it_over_a_park::<parking_lot::Mutex<()>>));
}

/// Runs `play` if goroutines can roam here.
fn roaming(play: fn()) {
    strands::go(|| ()).join().expect("no panic");
    match runtime::metrics().roaming_refused {
        None => play(),
        Some(why) => println!("skipped: goroutines cannot roam here: {why}"),
    }
}

#[test]
fn stds_mutex_held_over_a_park_is_no_matter_to_those_who_roam() {
    let test = "stds_mutex_held_over_a_park_is_no_matter_to_those_who_roam";
    is_no_matter(stage(test, "roaming", || roaming(hold_it_over_a_park::<std::sync::Mutex<()>>)));
}

#[test]
fn parking_lots_mutex_held_over_a_park_is_no_matter_to_those_who_roam() {
    let test = "parking_lots_mutex_held_over_a_park_is_no_matter_to_those_who_roam";
    is_no_matter(stage(test, "roaming", || {
        roaming(hold_it_over_a_park::<parking_lot::Mutex<()>>);
    }));
}
