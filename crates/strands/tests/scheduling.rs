//! Who runs when: stealing, sleeping, waking. Threads that are blocked or hogged are in `hand_off`, busy neighbours in
//! `fairness`.
//!
//! Where a test has to show that something goes on *while* something else does not, the second waits for
//! the first: with a scheduler that gets it wrong the test hangs, and is ended by its process's patience.

mod holding;
mod process;

use holding::{compute_until, handoffs, is_set, join_all, os_thread, set};
use process::on_processors;
use std::cell::Cell;
use std::collections::HashSet;
use std::hint::spin_loop;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, AtomicU64, AtomicUsize, Ordering::SeqCst};
use std::time::{Duration, Instant};
use strands::channel::{Receiver, Sender, bounded, unbounded};
use strands::{JoinHandle, go, runtime, thread};

const ONE: &[usize] = &[1];
const TWO: &[usize] = &[2];
const ONE_AND_TWO: &[usize] = &[1, 2];
const SOME: &[usize] = &[1, 2, 4];

/// xorshift: enough to vary with. Prints its seed.
struct Random(u64);

impl Random {
    fn seeded() -> Random {
        let now = std::time::SystemTime::now().duration_since(std::time::UNIX_EPOCH);
        let seed = now.map_or(1, |now| now.as_nanos() as u64 | 1);
        println!("seed {seed}");
        Random(seed)
    }

    fn below(&mut self, bound: u64) -> u64 {
        self.0 ^= self.0 << 13;
        self.0 ^= self.0 >> 7;
        self.0 ^= self.0 << 17;
        self.0 % bound
    }
}

// ---- Programs that need no parallelism ----

#[test]
fn a_producer_and_a_consumer_finish() {
    on_processors(SOME, || {
        for capacity in [0, 1, 16] {
            let (tx, rx) = bounded(capacity);
            let producer = go(move || (0..20_000_u64).for_each(|n| tx.send(n).expect("received")));
            let consumer = go(move || rx.iter().sum::<u64>());
            producer.join().expect("no panic");
            assert_eq!(consumer.join().expect("no panic"), 19_999 * 10_000);
        }
    });
}

/// Sends `balls` to and fro between two goroutines.
fn ping_pong(balls: u32) -> (JoinHandle<u32>, JoinHandle<()>) {
    let (there, here) = bounded(0);
    let (back, returned) = bounded(0);
    let pong = go(move || here.iter().for_each(|ball: u32| back.send(ball + 1).expect("received")));
    let ping = go(move || {
        (0..balls).fold(0, |ball, _| {
            there.send(ball).expect("received");
            returned.recv().expect("sent")
        })
    });
    (ping, pong)
}

#[test]
fn ping_pongs_finish() {
    on_processors(SOME, || {
        let games: Vec<_> = (0..10).map(|_| ping_pong(5_000)).collect();
        for (ping, pong) in games {
            assert_eq!(ping.join().expect("no panic"), 5_000);
            pong.join().expect("no panic");
        }
    });
}

#[test]
fn a_prime_sieve_sieves() {
    on_processors(SOME, || {
        let (tx, mut numbers) = bounded(0);
        go(move || (2_u32..).try_for_each(|n| tx.send(n)));
        let mut primes = Vec::new();
        while primes.len() < 200 {
            let prime = numbers.recv().expect("sent");
            primes.push(prime);
            let (tx, rest) = bounded(0);
            let unsieved = std::mem::replace(&mut numbers, rest);
            go(move || unsieved.iter().filter(|n| n % prime != 0).try_for_each(|n| tx.send(n)));
        }
        assert_eq!(primes.last(), Some(&1223));
    });
}

#[test]
fn a_tree_of_goroutines_comes_together() {
    fn count(depth: u32) -> u64 {
        if depth == 0 {
            return 1;
        }
        let children = [go(move || count(depth - 1)), go(move || count(depth - 1))];
        1 + join_all(children).into_iter().sum::<u64>()
    }
    on_processors(SOME, || assert_eq!(strands::run(|| count(13)), (1 << 14) - 1));
}

#[test]
fn yielding_to_one_another_comes_to_an_end() {
    on_processors(SOME, || {
        let turns = AtomicU64::new(0);
        strands::scope(|s| {
            for _ in 0..50 {
                s.go(|| {
                    for _ in 0..1000 {
                        turns.fetch_add(1, SeqCst);
                        strands::yield_now();
                    }
                });
            }
        });
        assert_eq!(turns.into_inner(), 50_000);
    });
}

/// A token goes round a ring of goroutines, each of which waits by yielding.
#[test]
fn those_who_wait_by_yielding_let_others_run() {
    on_processors(SOME, || {
        const RING: u64 = 8;
        let token = AtomicU64::new(0);
        strands::scope(|s| {
            for me in 0..RING {
                let token = &token;
                s.go(move || {
                    for round in 0..200 {
                        while token.load(SeqCst) != round * RING + me {
                            strands::yield_now();
                        }
                        token.fetch_add(1, SeqCst);
                    }
                });
            }
        });
        assert_eq!(token.into_inner(), 200 * RING);
    });
}

// ---- Several workers ----

#[test]
fn two_that_compute_run_on_two_workers() {
    on_processors(TWO, || {
        let met = Arc::new(AtomicUsize::new(0));
        let meet = || {
            let met = Arc::clone(&met);
            move || {
                met.fetch_add(1, SeqCst);
                // Each computes until the other is there.
                compute_until(|| met.load(SeqCst) == 2);
                os_thread()
            }
        };
        let threads: HashSet<_> =
            strands::run(|| join_all([go(meet()), go(meet())])).into_iter().collect();
        assert_eq!(threads.len(), 2);
    });
}

#[test]
fn as_many_as_there_are_processors_compute_at_the_same_time() {
    on_processors(&[3], || {
        // They come from a thread, from a goroutine, and from one that computes itself.
        let met = Arc::new(AtomicUsize::new(0));
        let meet = move || {
            met.fetch_add(1, SeqCst);
            compute_until(|| met.load(SeqCst) == 3);
            os_thread()
        };
        let (first, second, third) = (meet.clone(), meet.clone(), meet);
        let outer = go(move || {
            let inner = go(second);
            (first(), inner)
        });
        let third = go(third);
        let (first, inner) = outer.join().expect("no panic");
        let threads = HashSet::from([
            first,
            inner.join().expect("no panic"),
            third.join().expect("no panic"),
        ]);
        assert_eq!(threads.len(), 3);
    });
}

#[test]
fn a_lone_child_of_a_computing_parent_is_started_by_another_worker() {
    on_processors(TWO, || {
        let round = || {
            strands::run(|| {
                // Searches turn out fruitless, until a lone child is not announced to others any more.
                let enough = Instant::now() + Duration::from_millis(5);
                while Instant::now() < enough {
                    go(|| ()).join().expect("no panic");
                }
                // Those who have searched fall asleep.
                compute_for(Duration::from_millis(2));
                let before = handoffs();
                let started = Arc::new(AtomicBool::new(false));
                let child = {
                    let started = Arc::clone(&started);
                    go(move || {
                        set(&started);
                        os_thread()
                    })
                };
                compute_until(|| is_set(&started));
                let after = handoffs();
                assert_ne!(child.join().expect("no panic"), os_thread());
                // Not because the parent lost its processor: there was one to spare.
                after == before
            })
        };
        // Once may be by chance: the other worker is up for another reason. Not each time: a machine that is
        // busy with other things may look at the parent too late.
        let mut in_a_row = 0;
        let helped = (0..200).any(|_| {
            in_a_row = if round() { in_a_row + 1 } else { 0 };
            in_a_row == 5
        });
        assert!(helped, "an idle processor helps nobody");
    });
}

#[test]
fn what_a_thread_starts_is_found_by_workers_in_all_states() {
    on_processors(ONE_AND_TWO, || {
        let mut random = Random::seeded();
        for _ in 0..3_000 {
            // From "still busy" by way of "searching" to "asleep".
            match random.below(4) {
                0 => {}
                1 => compute_for(Duration::from_nanos(random.below(40_000))),
                2 => compute_for(Duration::from_nanos(random.below(400_000))),
                _ => std::thread::yield_now(),
            }
            join_all((0..1 + random.below(3)).map(|n| go(move || n)));
        }
    });
}

fn compute_for(time: Duration) {
    let end = Instant::now() + time;
    while Instant::now() < end {
        spin_loop();
    }
}

#[test]
fn threads_and_goroutines_start_goroutines_all_at_once() {
    on_processors(SOME, || {
        let ended = Arc::new(AtomicUsize::new(0));
        let spawners: Vec<_> = (0..4)
            .map(|_| {
                let ended = Arc::clone(&ended);
                std::thread::spawn(move || {
                    for _ in 0..500 {
                        let ended = Arc::clone(&ended);
                        go(move || {
                            for _ in 0..4 {
                                let ended = Arc::clone(&ended);
                                go(move || ended.fetch_add(1, SeqCst));
                            }
                        });
                    }
                })
            })
            .collect();
        spawners.into_iter().for_each(|spawner| spawner.join().expect("no panic"));
        while ended.load(SeqCst) < 4 * 500 * 4 {
            std::thread::sleep(Duration::from_millis(1));
        }
        let metrics = runtime::metrics();
        assert_eq!(metrics.goroutines_started, 5 * 4 * 500);
        // Nobody was blocked, but a loaded machine may make it look as if somebody computed for long.
        assert!(metrics.workers <= metrics.processors + 8, "{metrics:?}");
    });
}

// ---- Sleeping ----

#[test]
fn sleepers_wake_in_the_order_of_their_deadlines() {
    on_processors(ONE, || {
        let round = || {
            let (tx, rx) = unbounded();
            let begun = Instant::now();
            let sleepers = [10, 9, 3, 7, 6, 5, 4, 8, 2, 1].map(|n| {
                let tx = tx.clone();
                go(move || {
                    let deadline = begun + Duration::from_millis(5 * n);
                    strands::sleep(deadline.saturating_duration_since(Instant::now()));
                    tx.send(n).expect("received");
                })
            });
            join_all(sleepers);
            drop(tx);
            rx.iter().is_sorted()
        };
        // On a busy machine several deadlines may have passed by the time that anybody looks.
        assert!((0..50).any(|_| round()), "never in order");
    });
}

#[test]
fn of_twenty_thousand_sleepers_all_wake_and_none_early() {
    on_processors(ONE_AND_TWO, || {
        let mut random = Random::seeded();
        let sleepers: Vec<_> = (0..20_000)
            .map(|_| {
                let time = Duration::from_micros(1_000 + random.below(49_000));
                let sleep = move || {
                    let before = Instant::now();
                    strands::sleep(time);
                    before.elapsed() >= time
                };
                thread::Builder::new().stack_size(64 << 10).spawn(sleep).expect("spawned")
            })
            .collect();
        assert!(join_all(sleepers).into_iter().all(|in_time| in_time), "early");
    });
}

#[test]
fn short_sleeps_are_not_rounded_to_milliseconds() {
    on_processors(ONE, || {
        strands::run(|| {
            let naps = || {
                let before = Instant::now();
                (0..10).for_each(|_| strands::sleep(Duration::from_micros(50)));
                before.elapsed()
            };
            // Ten times 50 µs; were each a millisecond, none would be done in five.
            let best = (0..200).map(|_| naps()).min().expect("some");
            assert!(best >= Duration::from_micros(500), "early: {best:?}");
            assert!(best < Duration::from_millis(5), "{best:?}");
        });
    });
}

#[test]
fn park_timeout_ends_by_time_or_by_unpark() {
    on_processors(ONE_AND_TWO, || {
        let by_time = go(|| {
            let before = Instant::now();
            thread::park_timeout(Duration::from_millis(20));
            before.elapsed() >= Duration::from_millis(20)
        });
        assert!(by_time.join().expect("no panic"), "early");
        let by_unpark = go(|| thread::park_timeout(Duration::from_secs(3600)));
        by_unpark.thread().unpark();
        by_unpark.join().expect("no panic");
        // The two race: whoever wins, it goes on, and the token is not lost.
        let racing: Vec<_> = (0..2_000)
            .map(|n| {
                let handle = go(move || {
                    thread::park_timeout(Duration::from_micros(n % 200));
                    thread::park_timeout(Duration::from_micros(1));
                });
                handle.thread().unpark();
                handle
            })
            .collect();
        join_all(racing);
    });
}

/// The worker that kept the time wakes up and computes; the next deadline belongs to one at home with
/// another worker, which sleeps and has not set itself an alarm.
#[test]
fn deadlines_pass_while_the_worker_that_keeps_the_time_computes() {
    on_processors(TWO, || {
        for _ in 0..5 {
            let (early, late) = (Duration::from_millis(30), Duration::from_millis(60));
            let met = Arc::new(AtomicUsize::new(0));
            let woken = Arc::new(AtomicBool::new(false));
            let on_a_worker_of_its_own = |then: Box<dyn FnOnce() + Send>| {
                let met = Arc::clone(&met);
                go(move || {
                    met.fetch_add(1, SeqCst);
                    compute_until(|| met.load(SeqCst) == 2);
                    then();
                })
            };
            let sleeper = {
                let woken = Arc::clone(&woken);
                on_a_worker_of_its_own(Box::new(move || {
                    strands::sleep(late);
                    set(&woken);
                }))
            };
            let keeper = on_a_worker_of_its_own(Box::new(move || {
                strands::sleep(early);
                compute_until(|| is_set(&woken));
            }));
            join_all([sleeper, keeper]);
        }
    });
}

#[test]
fn the_longest_sleep_is_no_overflow() {
    on_processors(ONE, || {
        let forever = go(|| strands::sleep(Duration::MAX));
        let parked = go(|| thread::park_timeout(Duration::MAX));
        strands::run(|| strands::sleep(Duration::from_millis(20)));
        assert!(!forever.is_finished() && !parked.is_finished());
        parked.thread().unpark();
        parked.join().expect("no panic");
    });
}

// ---- Threads that we do not know ----

/// An echo that runs as a goroutine.
fn echo() -> (Sender<u64>, Receiver<u64>) {
    let (tx, rx) = bounded(0);
    let (back_tx, back_rx) = bounded(0);
    go(move || rx.iter().for_each(|n| back_tx.send(n).expect("received")));
    (tx, back_rx)
}

#[test]
fn a_thread_wakes_goroutines_whose_worker_is_on_the_way_to_sleep() {
    on_processors(ONE_AND_TWO, || {
        let mut random = Random::seeded();
        let (tx, rx) = echo();
        for n in 0..5_000 {
            // About as long as a worker searches before it sleeps.
            compute_for(Duration::from_nanos(random.below(60_000)));
            tx.send(n).expect("received");
            assert_eq!(rx.recv(), Ok(n));
        }
    });
}

#[test]
fn threads_wake_goroutines_by_unpark() {
    on_processors(ONE_AND_TWO, || {
        let turn = Arc::new(AtomicU64::new(0));
        let parked = {
            let turn = Arc::clone(&turn);
            go(move || {
                for n in 1..=3_000 {
                    while turn.load(SeqCst) < n {
                        thread::park();
                    }
                }
            })
        };
        for _ in 0..3_000 {
            turn.fetch_add(1, SeqCst);
            parked.thread().unpark();
        }
        parked.join().expect("no panic");
    });
}

#[test]
fn many_threads_talk_to_many_goroutines() {
    on_processors(SOME, || {
        let threads: Vec<_> = (0..8)
            .map(|_| {
                std::thread::spawn(|| {
                    let (tx, rx) = echo();
                    for n in 0..500 {
                        tx.send(n).expect("received");
                        assert_eq!(rx.recv(), Ok(n));
                    }
                })
            })
            .collect();
        threads.into_iter().for_each(|thread| thread.join().expect("no panic"));
    });
}

#[test]
fn the_destructor_of_a_threads_local_may_use_goroutines() {
    struct AtTheEnd(Cell<Option<Sender<&'static str>>>);
    impl Drop for AtTheEnd {
        fn drop(&mut self) {
            let Some(tx) = self.0.take() else { return };
            let (inner_tx, inner_rx) = bounded(0);
            let child = go(move || inner_tx.send("from a destructor"));
            strands::sleep(Duration::from_millis(1));
            thread::park_timeout(Duration::from_millis(1));
            tx.send(inner_rx.recv().expect("sent")).expect("received");
            child.join().expect("no panic").expect("received");
        }
    }
    thread_local!(static AT_THE_END: AtTheEnd = const { AtTheEnd(Cell::new(None)) });

    on_processors(ONE_AND_TWO, || {
        for used_before in [false, true] {
            let (tx, rx) = bounded(0);
            let thread = std::thread::spawn(move || {
                if used_before {
                    // Our own locals are then older than that one, and gone before it or after it.
                    go(|| ()).join().expect("no panic");
                    thread::park_timeout(Duration::from_micros(1));
                }
                AT_THE_END.with(|at_the_end| at_the_end.0.set(Some(tx)));
            });
            assert_eq!(rx.recv(), Ok("from a destructor"));
            thread.join().expect("no panic");
        }
    });
}

#[test]
fn a_goroutine_stays_on_its_thread() {
    on_processors(TWO, || {
        let wanderers: Vec<_> = (0..200)
            .map(|n| {
                go(move || {
                    let home = os_thread();
                    for step in 0..50 {
                        match (n + step) % 4 {
                            0 => strands::sleep(Duration::from_micros(100)),
                            1 => strands::yield_now(),
                            2 => drop(go(|| ()).join()),
                            _ => strands::blocking(|| ()),
                        }
                        assert_eq!(os_thread(), home);
                    }
                })
            })
            .collect();
        join_all(wanderers);
    });
}
