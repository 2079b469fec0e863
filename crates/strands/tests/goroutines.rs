//! Goroutines as a program uses them: spawning, joining, panics, parking, sleeping, blocking.

mod child;

use child::{Child, wait_until};
use std::collections::HashSet;
use std::panic::{catch_unwind, resume_unwind};
use std::sync::atomic::{AtomicBool, AtomicUsize, Ordering::SeqCst};
use std::sync::{Arc, Barrier, mpsc};
use std::time::{Duration, Instant};
use strands::channel::{bounded, unbounded};
use strands::runtime::{dump, metrics};
use strands::thread::{self, Builder};
use strands::{JoinHandle, go, run, scope, sleep, yield_now};

// Spawning and joining.

#[test]
fn join_returns_what_the_closure_returned() {
    assert_eq!(go(|| 6 * 7).join().unwrap(), 42);
    let text = String::from("moved in");
    assert_eq!(thread::spawn(move || text + " and out").join().unwrap(), "moved in and out");
    assert_eq!(run(|| go(|| go(|| 1).join().unwrap() + 1).join().unwrap()), 2);
}

#[test]
fn join_returns_the_payload_of_a_panic() {
    let panicked: JoinHandle<()> = go(|| resume_unwind(Box::new(5_u8)));
    assert_eq!(panicked.join().unwrap_err().downcast_ref(), Some(&5_u8));
    let formatted: JoinHandle<()> = go(|| panic!("{} {}", "with", std::hint::black_box(2)));
    assert_eq!(formatted.join().unwrap_err().downcast_ref::<String>().unwrap(), "with 2");
}

#[test]
fn go_returns_before_the_closure_has_run() {
    let (tx, rx) = bounded(0);
    let goroutine = go(move || tx.send(()).unwrap());
    assert!(!goroutine.is_finished());
    rx.recv().unwrap();
    goroutine.join().unwrap();
}

#[test]
fn many_are_spawned_from_many_threads_and_all_run() {
    const EACH: usize = 2_000;
    let ran = Arc::new(AtomicUsize::new(0));
    std::thread::scope(|threads| {
        for thread in 0..4 {
            let ran = &ran;
            threads.spawn(move || {
                let goroutines: Vec<_> = (0..EACH)
                    .map(|number| {
                        let ran = Arc::clone(ran);
                        go(move || {
                            ran.fetch_add(1, SeqCst);
                            number * thread
                        })
                    })
                    .collect();
                let sum: usize = goroutines.into_iter().map(|g| g.join().unwrap()).sum();
                assert_eq!(sum, thread * EACH * (EACH - 1) / 2);
            });
        }
    });
    assert_eq!(ran.load(SeqCst), 4 * EACH);
}

#[test]
fn goroutines_spawn_goroutines_as_a_tree() {
    fn leaves(levels: u32) -> u64 {
        if levels == 0 {
            return 1;
        }
        let below: Vec<_> = (0..10).map(|_| go(move || leaves(levels - 1))).collect();
        below.into_iter().map(|goroutine| goroutine.join().unwrap()).sum()
    }
    assert_eq!(leaves(4), 10_000);
}

#[test]
fn a_detached_goroutine_outlives_its_spawner_and_its_handle() {
    let (tx, rx) = bounded(0);
    let (open, gate) = bounded::<()>(0);
    go(move || {
        drop(go(move || {
            gate.recv().unwrap_err();
            tx.send("still there").unwrap();
        }));
    })
    .join()
    .unwrap();
    drop(open);
    assert_eq!(rx.recv(), Ok("still there"));
}

#[test]
fn a_finished_goroutine_says_so_and_a_waiting_one_does_not() {
    let (open, gate) = bounded::<()>(0);
    let goroutine = go(move || gate.recv().is_err());
    assert!(!goroutine.is_finished());
    drop(open);
    wait_until("it has finished", || goroutine.is_finished());
    assert!(goroutine.join().unwrap());
}

#[test]
fn a_handle_may_be_joined_elsewhere() {
    let (tx, rx) = unbounded();
    let joiner = go(move || rx.iter().map(|handle: JoinHandle<u32>| handle.join().unwrap()).sum());
    for number in 1..=100 {
        tx.send(go(move || number)).unwrap();
    }
    drop(tx);
    let sum: u32 = joiner.join().unwrap();
    assert_eq!(sum, 5050);
}

#[test]
fn what_the_goroutine_did_is_visible_to_its_joiner() {
    for _ in 0..1000 {
        struct Shared(*mut u64);
        // SAFETY: written by the goroutine before it ends, read after the join.
        unsafe impl Send for Shared {}
        let mut plain = 0_u64;
        let shared = Shared(&raw mut plain);
        go(move || {
            let shared = shared;
            // SAFETY: the joiner waits, and keeps it alive meanwhile.
            unsafe { *shared.0 = 7 }
        })
        .join()
        .unwrap();
        assert_eq!(plain, 7);
    }
}

#[test]
fn run_lends_what_is_local_and_passes_panics_on() {
    let mut numbers = vec![3, 1, 2];
    let largest = run(|| {
        numbers.sort_unstable();
        numbers.last().copied()
    });
    assert_eq!((largest, numbers), (Some(3), vec![1, 2, 3]));
    let caught = catch_unwind(|| run(|| -> u8 { resume_unwind(Box::new("passed on")) }));
    assert_eq!(caught.unwrap_err().downcast_ref(), Some(&"passed on"));
}

#[test]
fn a_scope_lends_what_is_local_to_many() {
    let words = ["to", "share", "by", "communicating"];
    let longest = AtomicUsize::new(0);
    let mut lengths = [0; 4];
    let total = scope(|s| {
        for (word, length) in words.iter().zip(&mut lengths) {
            s.go(|| {
                *length = word.len();
                longest.fetch_max(word.len(), SeqCst);
            });
        }
        let handles = words.map(|word| s.spawn(move || word.len()));
        handles.into_iter().map(|handle| handle.join().unwrap()).sum::<usize>()
    });
    assert_eq!((total, lengths, longest.into_inner()), (22, [2, 5, 2, 13], 13));
}

// Identity.

#[test]
fn every_goroutine_and_thread_has_an_id_of_its_own() {
    let goroutines: Vec<_> = (0..1000).map(|_| go(|| thread::current().id())).collect();
    let mut ids: HashSet<_> = goroutines
        .into_iter()
        .map(|goroutine| {
            let id = goroutine.thread().id();
            assert_eq!(goroutine.join().unwrap(), id);
            id
        })
        .collect();
    ids.insert(thread::current().id());
    ids.insert(std::thread::spawn(|| thread::current().id()).join().unwrap());
    assert_eq!(ids.len(), 1002);
    assert_eq!(thread::current().id(), thread::current().id());
}

#[test]
fn a_name_is_known_inside_outside_and_in_dumps() {
    let (open, gate) = bounded::<()>(0);
    let body = move || {
        gate.recv().unwrap_err();
        thread::current().name().map(str::to_owned)
    };
    let named = Builder::new().name("the named one".into()).spawn(body).unwrap();
    assert_eq!(named.thread().name(), Some("the named one"));
    wait_until("the dump has it", || dump().contains("\"the named one\" [chan receive"));
    let report = dump();
    let line = report.lines().find(|line| line.contains("the named one")).unwrap();
    assert!(line.contains("born at crates/strands/tests/goroutines.rs:"), "{line}");
    drop(open);
    assert_eq!(named.join().unwrap().as_deref(), Some("the named one"));
    wait_until("it is gone", || !dump().contains("the named one"));
    assert_eq!(go(|| thread::current().name().map(str::to_owned)).join().unwrap(), None);
}

// Parking.

#[test]
fn an_unpark_before_the_park_is_remembered_once() {
    run(|| {
        let me = thread::current();
        me.unpark();
        me.unpark();
        thread::park();
        let before = Instant::now();
        thread::park_timeout(Duration::from_millis(20));
        assert!(before.elapsed() >= Duration::from_millis(20), "two unparks are one token");
    });
}

#[test]
fn a_parked_goroutine_is_woken_by_goroutines_and_by_threads() {
    let turns = Arc::new(AtomicUsize::new(0));
    let parked = {
        let turns = Arc::clone(&turns);
        go(move || {
            for _ in 0..1000 {
                thread::park();
                turns.fetch_add(1, SeqCst);
            }
        })
    };
    let wake = |from: usize, to: usize| {
        for turn in from..to {
            parked.thread().unpark();
            while turns.load(SeqCst) == turn {
                yield_now();
            }
        }
    };
    scope(|s| {
        s.go(|| wake(0, 500));
    });
    wake(500, 1000);
    parked.join().unwrap();
}

#[test]
fn park_and_unpark_as_ping_and_pong() {
    let (tell, told) = bounded::<thread::Thread>(0);
    let ping = go(move || {
        let pong = told.recv().unwrap();
        for _ in 0..5000 {
            pong.unpark();
            thread::park();
        }
    });
    let other = ping.thread().clone();
    let pong = go(move || {
        tell.send(thread::current()).unwrap();
        for _ in 0..5000 {
            thread::park();
            other.unpark();
        }
    });
    ping.join().unwrap();
    pong.join().unwrap();
}

#[test]
fn a_timeout_and_an_unpark_may_race() {
    let goroutine = go(|| {
        for round in 0..2000 {
            thread::park_timeout(Duration::from_micros(round % 50));
        }
    });
    while !goroutine.is_finished() {
        goroutine.thread().unpark();
        std::thread::yield_now();
    }
    goroutine.join().unwrap();
}

// Time.

#[test]
fn sleepers_wake_in_the_order_of_their_deadlines_and_never_early() {
    let in_order = || {
        let (tx, rx) = unbounded();
        let begun = Instant::now();
        for place in [4, 1, 3, 0, 2] {
            let tx = tx.clone();
            go(move || {
                let time = Duration::from_millis(5 + 20 * place);
                sleep(time.saturating_sub(begun.elapsed()));
                assert!(begun.elapsed() >= time);
                tx.send(place).unwrap();
            });
        }
        drop(tx);
        rx.iter().eq(0..5)
    };
    // On a busy machine a thread may come to run when two deadlines have passed.
    assert!((0..50).any(|_| in_order()), "never once in order");
}

#[test]
fn ten_thousand_sleep_at_once_and_none_too_short() {
    let begun = Instant::now();
    let sleepers: Vec<_> = (0..10_000)
        .map(|number| {
            go(move || {
                let (time, before) = (Duration::from_millis(50 + number % 50), Instant::now());
                sleep(time);
                assert!(before.elapsed() >= time);
            })
        })
        .collect();
    sleepers.into_iter().for_each(|sleeper| sleeper.join().unwrap());
    // One after the other they would take twelve minutes.
    assert!(begun.elapsed() < Duration::from_secs(60));
}

#[test]
fn extremes_of_time() {
    run(|| {
        sleep(Duration::ZERO);
        thread::park_timeout(Duration::ZERO);
        thread::current().unpark();
        thread::park_timeout(Duration::MAX);
    });
    let forever = go(|| sleep(Duration::MAX));
    (0..100).for_each(|_| std::thread::yield_now());
    assert!(!forever.is_finished());
}

// Sharing the threads.

#[test]
fn yielding_goroutines_take_turns() {
    let ended =
        Child::of("yielding_goroutines_take_turns").env("STRANDS_MAXPROCS", "1").run(|| {
            // All from one goroutine, so that none gets ahead while the others are being spawned.
            run(|| {
                let stop = Arc::new(AtomicBool::new(false));
                let counters: Vec<_> = (0..10)
                    .map(|_| {
                        let stop = Arc::clone(&stop);
                        go(move || {
                            let mut turns = 0_u64;
                            while !stop.load(SeqCst) {
                                turns += 1;
                                yield_now();
                            }
                            turns
                        })
                    })
                    .collect();
                // Spawned after them, and not kept waiting.
                go(move || {
                    (0..1000).for_each(|_| yield_now());
                    stop.store(true, SeqCst);
                });
                for counter in counters {
                    let turns = counter.join().unwrap();
                    assert!((500..=2500).contains(&turns), "{turns} turns in about a thousand");
                }
            });
        });
    ended.assert_success();
}

#[test]
fn a_goroutine_that_blocks_its_thread_does_not_hold_up_fresh_ones() {
    let name = "a_goroutine_that_blocks_its_thread_does_not_hold_up_fresh_ones";
    let ended = Child::of(name).env("STRANDS_MAXPROCS", "1").run(|| {
        let (tell, told) = mpsc::channel();
        let (started, has_started) = bounded(0);
        let blocked = go(move || {
            started.send(()).unwrap();
            told.recv().unwrap()
        });
        has_started.recv().unwrap();
        let others: Vec<_> = (0..100).map(|_| go(yield_now)).collect();
        others.into_iter().for_each(|other| other.join().unwrap());
        tell.send(7).unwrap();
        assert_eq!(blocked.join().unwrap(), 7);
    });
    ended.assert_success();
}

#[test]
fn a_goroutine_that_computes_for_ever_does_not_hold_up_fresh_ones() {
    let name = "a_goroutine_that_computes_for_ever_does_not_hold_up_fresh_ones";
    let ended = Child::of(name).env("STRANDS_MAXPROCS", "1").run(|| {
        static STOP: AtomicBool = AtomicBool::new(false);
        let hog = go(|| {
            while !STOP.load(SeqCst) {
                std::hint::spin_loop();
            }
        });
        let others: Vec<_> = (0..100).map(|_| go(yield_now)).collect();
        others.into_iter().for_each(|other| other.join().unwrap());
        STOP.store(true, SeqCst);
        hog.join().unwrap();
        assert!(metrics().handoffs_hogging > 0);
    });
    ended.assert_success();
}

#[test]
fn blocking_leaves_the_thread_to_the_siblings() {
    // All of them wait for each other in a way that blocks threads, so each must have its own.
    let barrier = Barrier::new(16);
    let home = |number: usize| {
        let me = std::thread::current().id();
        let elsewhere = strands::blocking(|| {
            barrier.wait();
            std::thread::current().id()
        });
        assert_ne!(elsewhere, me);
        assert_eq!(std::thread::current().id(), me);
        number
    };
    let sum: usize = scope(|s| {
        let all: Vec<_> = (0..16).map(|number| s.go(move || home(number))).collect();
        all.into_iter().map(|goroutine| goroutine.join().unwrap()).sum()
    });
    assert_eq!(sum, 120);
}

#[test]
fn blocking_on_a_plain_thread_runs_right_there() {
    let me = std::thread::current().id();
    assert_eq!(strands::blocking(|| std::thread::current().id()), me);
}

// Figures.

#[test]
fn the_figures_count_what_was_started_and_what_lives() {
    let name = "the_figures_count_what_was_started_and_what_lives";
    let ended = Child::of(name).env("STRANDS_MAXPROCS", "2").run(|| {
        let before = metrics();
        assert_eq!((before.processors, before.goroutines_started), (2, 0));
        let (open, gate) = bounded::<()>(0);
        let goroutines: Vec<_> = (0..100)
            .map(|_| {
                let gate = gate.clone();
                go(move || gate.recv().is_err())
            })
            .collect();
        run(|| go(|| ()).join().unwrap());
        wait_until("a hundred are left", || metrics().goroutines_live == 100);
        assert_eq!(metrics().goroutines_started, 102);
        drop(open);
        goroutines.into_iter().for_each(|goroutine| assert!(goroutine.join().unwrap()));
        wait_until("none is left", || metrics().goroutines_live == 0);
        assert!(metrics().workers >= 1 && metrics().threads > metrics().workers);
    });
    ended.assert_success();
}
