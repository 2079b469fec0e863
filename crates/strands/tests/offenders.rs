//! Places in a program whose goroutines hold their threads, what is learned of them and what is said; and a thread
//! that waits for a lock which one of its own goroutines holds.
//!
//! Where something is to go on *while* a goroutine holds its thread, that waits for it: a test hangs where it
//! does not.
//!
//! Most of these play with goroutines at home, whatever the default is: those that roam have no siblings to hold up.

mod holding;
mod process;

use holding::{compute_until, is_set, join_all, os_thread, set};
use process::{Outcome, Program, stage};
use std::collections::HashSet;
use std::io::{Read, Write};
use std::sync::atomic::{AtomicBool, AtomicU64, AtomicUsize, Ordering::SeqCst};
use std::sync::{Arc, Mutex};
use std::time::{Duration, Instant};
use strands::channel::{bounded, unbounded};
use strands::net::{TcpListener, TcpStream};
use strands::runtime::{self, Config};
use strands::{JoinHandle, go, thread};

/// More than holding a thread takes to be noticed.
const LONG: Duration = Duration::from_millis(60);
/// It is said within a second; and not again.
const A_WHILE: Duration = Duration::from_millis(2500);
/// As many goroutines in a row must behave before a site has reformed.
const REDEMPTION: usize = 16;

/// Goroutines that do not ask for another affinity are at home in it.
fn at_home(program: Program) -> Program {
    program.env("STRANDS_AFFINITY", "home")
}

/// The line of `go` below.
const BLOCKS_AT: u32 = line!() + 4;

/// Goroutines from here block their threads for as long as they are told.
fn blocks(time: Duration) -> JoinHandle<std::thread::ThreadId> {
    go(move || {
        std::thread::sleep(time);
        os_thread()
    })
}

/// Says when to stop. Boxed, lest each of its kind make goroutines of another kind, from another site.
type Done = Box<dyn Fn() -> bool + Send>;

/// Goroutines from here compute for as long as they are told.
fn computes(done: Done) -> JoinHandle<()> {
    go(move || compute_until(done))
}

/// Computes for as long as it takes.
fn learn_that_it_computes() {
    let known = || runtime::metrics().offending_sites == 1;
    while !known() {
        let end = Instant::now() + 10 * LONG;
        computes(Box::new(move || known() || Instant::now() > end)).join().expect("no panic");
    }
}

fn learn_that_it_blocks() {
    // On a busy machine it may take more than one.
    while runtime::metrics().offending_sites == 0 {
        blocks(LONG).join().expect("no panic");
    }
}

#[test]
fn who_blocks_gets_a_thread_of_its_own_next_time_and_is_told_once() {
    let Some(program) = stage(|| {
        let usual = go(os_thread).join().expect("no panic");
        learn_that_it_blocks();
        assert_eq!(runtime::metrics().goroutines_apart, 0, "nobody can know before");
        let apart: HashSet<_> = (0..3).map(|_| blocks(LONG).join().expect("no panic")).collect();
        assert!(!apart.contains(&usual));
        let metrics = runtime::metrics();
        assert_eq!(metrics.goroutines_apart, 3);
        assert_eq!(metrics.threads_apart, apart.len());
        // Others start where they did.
        go(os_thread).join().expect("no panic");
        assert_eq!(runtime::metrics().goroutines_apart, 3);
    }) else {
        return;
    };
    let outcome = at_home(program).processors(1).run().succeeded();
    let told: Vec<_> = outcome.stderr.lines().filter(|line| line.starts_with("strands:")).collect();
    assert_eq!(told.len(), 1, "{outcome}");
    let place = format!("tests/offenders.rs:{BLOCKS_AT} block");
    assert!(told[0].contains(&place), "the place: {outcome}");
    assert!(told[0].contains("strands::blocking"), "the remedy: {outcome}");
}

#[test]
fn who_roams_and_blocks_starts_on_a_thread_of_its_own_and_roams_on() {
    /// Goroutines from here block their threads, then wait, and tell on which threads they were.
    fn blocks_and_roams(time: Duration) -> JoinHandle<[i32; 2]> {
        // SAFETY: it takes nothing.
        let tid = || unsafe { libc::gettid() };
        let roaming = thread::Builder::new().affinity(thread::Affinity::Roaming);
        let body = move || {
            std::thread::sleep(time);
            let first = tid();
            strands::sleep(Duration::from_millis(1));
            [first, tid()]
        };
        roaming.spawn(body).expect("memory for it")
    }
    let Some(program) = stage(|| {
        if runtime::metrics().affinity != thread::Affinity::Roaming {
            return println!("skipped: goroutines cannot roam here");
        }
        while runtime::metrics().offending_sites == 0 {
            blocks_and_roams(LONG).join().expect("no panic");
        }
        assert_eq!(runtime::metrics().goroutines_apart, 0, "nobody can know before");
        let usual = go(|| {
            // SAFETY: it takes nothing.
            unsafe { libc::gettid() }
        });
        let usual = usual.join().expect("no panic");
        let all: Vec<_> = (0..4).map(|_| blocks_and_roams(LONG)).collect();
        for [first, then] in join_all(all) {
            assert_ne!(first, usual, "it has blocked a thread that others need");
            assert_ne!(first, then, "it has not left its host");
        }
        assert_eq!(runtime::metrics().goroutines_apart, 4);
    }) else {
        return;
    };
    program.processors(1).env("STRANDS_AFFINITY", "roaming").run().succeeded();
}

#[test]
fn who_computes_while_siblings_are_ready_is_told() {
    /// Goroutines from here compute for half a second.
    fn hogs() -> JoinHandle<()> {
        let end = Instant::now() + 8 * LONG;
        computes(Box::new(move || Instant::now() > end))
    }
    let Some(program) = stage(|| {
        if process::parameter() == "alone" {
            while runtime::metrics().goroutines_apart == 0 {
                hogs().join().expect("no panic");
            }
            return;
        }
        // Found out by looks: on a busy machine it may take more than one.
        for _ in 0..10 {
            strands::run(|| {
                let sibling = go(|| (0..100).for_each(|_| strands::yield_now()));
                strands::yield_now();
                let hog = hogs();
                (0..1000).for_each(|_| strands::yield_now());
                hog.join().expect("no panic");
                sibling.join().expect("no panic");
            });
        }
    }) else {
        return;
    };
    let alone = at_home(program.clone()).processors(1).parameter("alone").run().succeeded();
    assert_eq!(alone.stderr, "", "it harms nobody");
    let outcome = at_home(program).processors(1).parameter("with siblings").run().succeeded();
    let told: Vec<_> = outcome.stderr.lines().filter(|line| line.starts_with("strands:")).collect();
    assert_eq!(told.len(), 1, "{outcome}");
    assert!(told[0].contains("compute") && told[0].contains("strands::yield_now"), "{outcome}");
}

#[test]
fn advice_can_be_silenced() {
    let body = || {
        if process::parameter() == "by the program" {
            runtime::configure(Config::new().advice(false)).expect("in time");
        }
        learn_that_it_blocks();
        blocks(LONG).join().expect("no panic");
        assert_eq!(runtime::metrics().goroutines_apart, 1);
    };
    let silent = |outcome: Outcome| assert_eq!(outcome.succeeded().stderr, "");
    let Some(program) = stage(body) else { return };
    for affinity in ["home", "roaming"] {
        let program = program.clone().env("STRANDS_AFFINITY", affinity);
        silent(program.clone().parameter("by the program").run());
        silent(program.parameter("from outside").env("STRANDS_DEBUG", "advice=off").run());
    }
}

#[test]
fn who_behaves_is_trusted_again() {
    let Some(program) = stage(|| {
        learn_that_it_blocks();
        let mut good = 0;
        // On a busy machine one that does not block at all may take ten milliseconds.
        while runtime::metrics().offending_sites > 0 {
            blocks(Duration::ZERO).join().expect("no panic");
            good += 1;
            assert!(good < 100 * REDEMPTION, "it is never trusted again");
        }
        assert!(good >= REDEMPTION, "after {good} only");
        let apart = runtime::metrics().goroutines_apart;
        assert!((REDEMPTION as u64..=good as u64).contains(&apart), "{apart} of {good}");
        blocks(Duration::ZERO).join().expect("no panic");
        assert_eq!(runtime::metrics().goroutines_apart, apart, "it starts where all do");
    }) else {
        return;
    };
    at_home(program).processors(1).run().succeeded();
}

#[test]
fn siblings_go_on_once_an_offender_is_known() {
    /// Goroutines from here wait for a byte, on their threads.
    fn waits(mut reader: std::io::PipeReader, begun: Arc<AtomicBool>) -> JoinHandle<()> {
        go(move || {
            set(&begun);
            reader.read_exact(&mut [0]).expect("readable");
        })
    }
    let Some(program) = stage(|| {
        while runtime::metrics().offending_sites == 0 {
            let (reader, mut writer) = std::io::pipe().expect("a pipe");
            let waiting = waits(reader, Arc::default());
            std::thread::sleep(LONG);
            writer.write_all(b"!").expect("writable");
            waiting.join().expect("no panic");
        }
        // There is one processor, so all of these would have one home.
        strands::run(|| {
            let waiting: Vec<_> = (0..8)
                .map(|_| {
                    let begun = Arc::new(AtomicBool::new(false));
                    let (reader, writer) = std::io::pipe().expect("a pipe");
                    (waits(reader, Arc::clone(&begun)), begun, writer)
                })
                .collect();
            while !waiting.iter().all(|(_, begun, _)| is_set(begun)) {
                strands::yield_now();
            }
            // All block at once, and we are still here to let them go.
            for (waiting, _, mut writer) in waiting {
                writer.write_all(b"!").expect("writable");
                waiting.join().expect("no panic");
            }
        });
        let metrics = runtime::metrics();
        assert!(metrics.goroutines_apart >= 8 && metrics.threads_apart >= 8, "{metrics:?}");
    }) else {
        return;
    };
    at_home(program).processors(1).run().succeeded();
}

/// A sender that is never made to wait does not suspend, since it may hold a thread's lock meanwhile. So its
/// receiver, at home with it, gets nothing until it is done; the next time that is different.
#[test]
fn a_sender_that_never_waits_starves_its_receiver_only_once() {
    /// The receiver waits when the sender comes, which goes on until `done`. Whether the receiver is at home here.
    fn send(heard: &Arc<AtomicBool>, done: Done) -> bool {
        let (tx, rx) = unbounded();
        let begun = Arc::new(AtomicBool::new(false));
        let receiver = {
            let (begun, heard) = (Arc::clone(&begun), Arc::clone(heard));
            go(move || {
                set(&begun);
                rx.iter().for_each(|()| set(&heard));
                os_thread()
            })
        };
        while !is_set(&begun) {
            strands::yield_now();
        }
        let sender = go(move || {
            while !done() {
                tx.send(()).expect("received");
                // Not so many that the receiver, which then never waits either, is the next offender.
                let pause = Instant::now() + Duration::from_micros(100);
                compute_until(|| Instant::now() > pause);
            }
        });
        sender.join().expect("no panic");
        receiver.join().expect("no panic") == os_thread()
    }
    let Some(program) = stage(|| {
        while runtime::metrics().offending_sites == 0 {
            let end = Instant::now() + LONG;
            strands::run(|| send(&Arc::default(), Box::new(move || Instant::now() > end)));
        }
        let round = || {
            let heard = Arc::new(AtomicBool::new(false));
            let enough = Arc::clone(&heard);
            // Long enough to be no reformed character.
            let end = Instant::now() + LONG;
            send(&heard, Box::new(move || is_set(&enough) && Instant::now() > end))
        };
        // On a busy machine a receiver may start elsewhere, where nobody starves it. Each round begins where the
        // processor is.
        assert!((0..100).any(|_| strands::run(round)), "never one home");
    }) else {
        return;
    };
    at_home(program).processors(1).run().succeeded();
}

#[test]
fn known_hogs_take_turns() {
    let Some(program) = stage(|| {
        learn_that_it_computes();
        let done = Arc::new(AtomicBool::new(false));
        let running = Arc::new(AtomicUsize::new(0));
        let hogs: Vec<_> = (0..20)
            .map(|_| {
                let (done, running) = (Arc::clone(&done), Arc::clone(&running));
                let counted = AtomicBool::new(false);
                computes(Box::new(move || {
                    if !counted.swap(true, SeqCst) {
                        running.fetch_add(1, SeqCst);
                    }
                    is_set(&done)
                }))
            })
            .collect();
        // One more comes in after 10 ms, 20 ms, 40 ms and so on: within 300 ms there cannot be all of them.
        let begun = Instant::now();
        while begun.elapsed() < Duration::from_millis(300) {
            std::thread::sleep(Duration::from_millis(5));
        }
        let (count, after) = (running.load(SeqCst), begun.elapsed());
        assert!((1..12).contains(&count), "{count} hogs run after {after:?}");
        // Meanwhile others are not kept waiting; they need no luck.
        join_all((0..100).map(|n| go(move || n)));
        set(&done);
        join_all(hogs);
        assert_eq!(running.load(SeqCst), 20);
    }) else {
        return;
    };
    at_home(program).processors(2).run().succeeded();
}

#[test]
fn hogs_that_wait_for_each_other_all_get_their_turn() {
    let Some(program) = stage(|| {
        learn_that_it_computes();
        let met = Arc::new(AtomicU64::new(0));
        let hogs = (0..6).map(|_| {
            let met = Arc::clone(&met);
            let counted = AtomicBool::new(false);
            computes(Box::new(move || {
                if !counted.swap(true, SeqCst) {
                    met.fetch_add(1, SeqCst);
                }
                met.load(SeqCst) == 6
            }))
        });
        join_all(hogs);
    }) else {
        return;
    };
    at_home(program).processors(1).run().succeeded();
}

#[test]
fn goroutines_on_threads_of_their_own_are_like_all_others() {
    let Some(program) = stage(|| {
        /// Goroutines from here block first, and then do whatever goroutines do.
        fn lives(first: Duration) -> JoinHandle<u64> {
            go(move || {
                std::thread::sleep(first);
                let home = os_thread();
                let (tx, rx) = bounded(0);
                let child = go(move || (0..100_u64).try_for_each(|n| tx.send(n)));
                let sum: u64 = rx.iter().sum();
                child.join().expect("no panic").expect("received");
                strands::sleep(Duration::from_millis(2));
                strands::blocking(|| ());
                let listener = TcpListener::bind("127.0.0.1:0").expect("a port");
                let address = listener.local_addr().expect("bound");
                let client = go(move || {
                    let mut stream = TcpStream::connect(address).expect("somebody listens");
                    strands::sleep(Duration::from_millis(1));
                    stream.write_all(b"!").expect("writable");
                });
                let (mut stream, _) = listener.accept().expect("somebody comes");
                assert_eq!(stream.read(&mut [0; 2]).expect("readable"), 1);
                client.join().expect("no panic");
                thread::park_timeout(Duration::from_millis(1));
                strands::yield_now();
                assert!(go(|| panic!("as it should")).join().is_err());
                assert_eq!(os_thread(), home);
                sum
            })
        }
        while runtime::metrics().offending_sites == 0 {
            lives(LONG).join().expect("no panic");
        }
        let sums = join_all((0..10).map(|_| lives(Duration::ZERO)));
        assert_eq!(sums, [4950; 10]);
        assert!(runtime::metrics().goroutines_apart >= 10);
        // More than there are threads of their own: the rest starts where all do.
        let lives = join_all((0..600).map(|_| lives(Duration::from_millis(20))));
        assert!(lives.iter().all(|sum| *sum == 4950));
        let metrics = runtime::metrics();
        assert!(metrics.threads_apart <= 256, "{metrics:?}");
    }) else {
        return;
    };
    at_home(program).processors(2).run().succeeded();
}

#[test]
fn a_deadlock_is_found_among_threads_of_their_own() {
    let Some(program) = stage(|| {
        learn_that_it_blocks();
        let (tx, rx) = bounded::<()>(0);
        let waits = |rx: strands::channel::Receiver<()>, time| {
            go(move || {
                std::thread::sleep(time);
                let _ = rx.recv();
            })
        };
        while runtime::metrics().offending_sites < 2 {
            drop(waits(rx.clone(), LONG));
            std::thread::sleep(2 * LONG);
        }
        let _ = waits(rx, Duration::ZERO).join();
        drop(tx);
    }) else {
        return;
    };
    let outcome = at_home(program).processors(1).run();
    assert_eq!(outcome.status.code(), Some(2), "{outcome}");
    assert!(outcome.stderr.contains("all goroutines are asleep - deadlock!"), "{outcome}");
}

// ---- A lock that is held over a park ----

/// Waits, as a thread, for what its sibling holds.
#[inline(never)]
fn asks_for_the_lock(mutex: &Mutex<u32>) {
    // Long enough to be noted as something else.
    let end = Instant::now() + LONG;
    compute_until(|| Instant::now() > end);
    *mutex.lock().expect("not poisoned") += 1;
}

/// Two goroutines of one home: the first parks with a lock of std's until the second is done, which asks for it. They
/// stay so; returns after that time.
fn deadlock_with_itself(time: Duration) {
    std::thread::spawn(|| {
        strands::run(|| {
            let mutex = Arc::new(Mutex::new(0));
            let (tx, rx) = bounded::<()>(0);
            let held = Arc::clone(&mutex);
            let holder = thread::Builder::new().name("holder".into());
            let holder = holder.spawn(move || {
                let _guard = held.lock().expect("not poisoned");
                let _ = rx.recv();
            });
            while mutex.try_lock().is_ok() {
                strands::yield_now();
            }
            println!("begun");
            let asks = thread::Builder::new().name("asks".into());
            let asks = asks.spawn(move || {
                asks_for_the_lock(&mutex);
                drop(tx);
            });
            asks.expect("spawned").join().expect("no panic");
            holder.expect("spawned").join().expect("no panic");
        });
    });
    std::thread::sleep(time);
}

fn on_one_processor(program: Program) -> Outcome {
    at_home(program).processors(1).run().succeeded()
}

#[test]
fn a_lock_held_over_a_park_is_explained() {
    let Some(program) = stage(|| deadlock_with_itself(A_WHILE)) else { return };
    let outcome = on_one_processor(program);
    let said = &outcome.stderr;
    assert_eq!(said.matches("has blocked its thread").count(), 1, "once: {outcome}");
    let after = |text: &str| {
        let (_, after) = said.split_once(text).unwrap_or_else(|| panic!("{text:?}: {outcome}"));
        after
    };
    // Within a second.
    let age = after("in a lock or the like, for ");
    let seconds = age.split_once(" s").expect("seconds").0.parse::<f64>().expect("a number");
    assert!(seconds < 1.0 || std::env::var_os("CI").is_some(), "{outcome}");
    // Who waits, and where.
    let waiting = after("will:\n").split_once("cannot run:").expect("in this order").0;
    assert!(waiting.trim_start().starts_with("goroutine 3 \"asks\" ["), "{outcome}");
    assert!(waiting.contains("tests/offenders.rs:"), "{outcome}");
    assert!(waiting.contains("at offenders::asks_for_the_lock\n"), "the backtrace: {outcome}");
    // Who cannot run meanwhile.
    let siblings = after("cannot run:\n").split_once("remedy").expect("in this order").0;
    assert_eq!(siblings.lines().count(), 2, "{outcome}");
    assert!(siblings.contains("\"holder\" [chan receive"), "{outcome}");
    // What to do about it.
    let remedy = after("remedy: ");
    assert!(remedy.contains("strands::sync") && remedy.contains("Affinity::Roaming"), "{outcome}");
}

#[test]
fn a_lock_held_over_a_park_is_nobodys_business_if_they_say_so() {
    let Some(program) = stage(|| deadlock_with_itself(A_WHILE)) else { return };
    let outcome = on_one_processor(program.env("STRANDS_DEBUG", "advice=off"));
    assert_eq!(outcome.stderr, "", "{outcome}");
}

#[test]
fn a_signal_handler_of_the_programs_own_is_left_alone() {
    static CAME: AtomicUsize = AtomicUsize::new(0);
    extern "C" fn count(_: libc::c_int) {
        CAME.fetch_add(1, SeqCst);
    }
    let Some(program) = stage(|| {
        let handler = count as extern "C" fn(libc::c_int);
        // SAFETY: the handler does what a handler may.
        unsafe { libc::signal(libc::SIGURG, handler as *const () as libc::sighandler_t) };
        deadlock_with_itself(A_WHILE);
        assert_eq!(CAME.load(SeqCst), 0, "that one was not for it");
        // SAFETY: it is handled.
        assert_eq!(unsafe { libc::raise(libc::SIGURG) }, 0);
        assert_eq!(CAME.load(SeqCst), 1, "it is in force again");
    }) else {
        return;
    };
    let outcome = on_one_processor(program);
    assert!(outcome.stderr.contains("at offenders::asks_for_the_lock\n"), "{outcome}");
}

/// With no sibling there is nobody to be held up.
#[test]
fn who_blocks_a_thread_that_nobody_else_needs_is_left_alone() {
    let Some(program) = stage(|| {
        let (tell, told) = std::sync::mpsc::channel::<()>();
        let waits = go(move || told.recv().is_ok());
        std::thread::sleep(Duration::from_millis(1200));
        tell.send(()).expect("received");
        assert!(waits.join().expect("no panic"));
    }) else {
        return;
    };
    let outcome = on_one_processor(program);
    assert_eq!(outcome.stderr, "", "{outcome}");
}
