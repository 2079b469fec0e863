//! Fairness at one processor: busy neighbours starve nobody, whoever they are and however one waits.
//!
//! Where a test has to show that something goes on *while* something else does not, the second waits for
//! the first: with a scheduler that gets it wrong the test hangs, and is ended by its process's patience.

mod holding;
mod process;

use holding::{a_thousand_run, handoffs, is_set, join_all, set};
use process::on_processors;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, AtomicU64, Ordering::SeqCst};
use std::time::Duration;
use strands::channel::bounded;
use strands::thread::{Affinity, Builder};
use strands::{JoinHandle, go, runtime};

const ONE: &[usize] = &[1];

/// Ends what goes on until it is rung, and counts how often that asks.
#[derive(Default)]
struct Bell {
    rung: AtomicBool,
    turns: AtomicU64,
}

impl Bell {
    fn ring(&self) {
        set(&self.rung);
    }

    fn has_rung(&self) -> bool {
        self.turns.fetch_add(1, SeqCst);
        is_set(&self.rung)
    }
}

/// Two goroutines that yield to each other until the bell rings.
fn two_that_yield(bell: &Arc<Bell>) -> [JoinHandle<()>; 2] {
    let yielding = || {
        let bell = Arc::clone(bell);
        go(move || {
            while !bell.has_rung() {
                strands::yield_now();
            }
        })
    };
    [yielding(), yielding()]
}

/// Two goroutines that wake each other over channels until the bell rings.
fn two_that_wake(bell: &Arc<Bell>) -> [JoinHandle<()>; 2] {
    let (tx, rx) = bounded(0);
    let (back_tx, back_rx) = bounded(0);
    let bell = Arc::clone(bell);
    [
        go(move || {
            while !bell.has_rung() {
                tx.send(()).expect("received");
                back_rx.recv().expect("sent");
            }
        }),
        go(move || rx.iter().for_each(|()| back_tx.send(()).expect("received"))),
    ]
}

/// Goroutines each of which starts the next and ends, until the bell rings.
fn a_chain(bell: &Arc<Bell>) -> [JoinHandle<()>; 1] {
    fn link(bell: Arc<Bell>) {
        if !bell.has_rung() {
            go(move || link(bell));
        }
    }
    let bell = Arc::clone(bell);
    [go(move || link(bell))]
}

/// Two goroutines that sleep, but next to nothing, until the bell rings.
fn sleepers_of_no_time(bell: &Arc<Bell>) -> [JoinHandle<()>; 2] {
    let sleeping = || {
        let bell = Arc::clone(bell);
        go(move || {
            while !bell.has_rung() {
                strands::sleep(Duration::from_nanos(1));
            }
        })
    };
    [sleeping(), sleeping()]
}

/// Runs `victim` against each kind of neighbours that never let the processor go idle. It gets the bell
/// that ends them, and has to ring it, without help from a worker other than theirs.
fn among_busy_neighbours(victim: impl Fn(Arc<Bell>)) {
    let against = |busy: &dyn Fn(&Arc<Bell>) -> Vec<JoinHandle<()>>| {
        let round = |turns| {
            let bell = Arc::new(Bell::default());
            let busy = busy(&bell);
            while bell.turns.load(SeqCst) < turns {
                std::thread::sleep(Duration::from_micros(100));
            }
            let before = handoffs();
            victim(Arc::clone(&bell));
            let after = handoffs();
            assert!(is_set(&bell.rung));
            join_all(busy);
            after == before
        };
        // On a busy machine the neighbours' thread may seem to be hogged, so that another helps the victim.
        // The victim may come together with them, or to a queue that they have left for good.
        assert!((0..50).any(|_| round(0)), "it takes a second worker");
        assert!((0..50).any(|_| round(100)), "later it takes a second worker");
    };
    against(&|bell| two_that_yield(bell).into());
    against(&|bell| two_that_wake(bell).into());
    against(&|bell| a_chain(bell).into());
    against(&|bell| sleepers_of_no_time(bell).into());
    // And all of them at once, several times over.
    against(&|bell| {
        let mut all = Vec::new();
        for _ in 0..3 {
            all.extend(two_that_yield(bell));
            all.extend(two_that_wake(bell));
            all.extend(a_chain(bell));
            all.extend(sleepers_of_no_time(bell));
        }
        all
    });
}

#[test]
fn busy_neighbours_do_not_starve_a_fresh_one() {
    on_processors(ONE, || {
        among_busy_neighbours(|bell| go(move || bell.ring()).join().expect("no panic"));
    });
}

#[test]
fn busy_neighbours_do_not_starve_their_own_children() {
    on_processors(ONE, || {
        among_busy_neighbours(|bell| {
            strands::run(|| {
                // By way of the next slot and the ring; and the parent stays busy.
                let child = go(move || bell.ring());
                while !child.is_finished() {
                    strands::yield_now();
                }
            });
        });
    });
}

#[test]
fn busy_neighbours_do_not_starve_one_woken_by_a_thread() {
    on_processors(ONE, || {
        among_busy_neighbours(|bell| {
            let (tx, rx) = bounded::<()>(0);
            let woken = go(move || {
                rx.iter().take(100).count();
                bell.ring();
            });
            for _ in 0..100 {
                tx.send(()).expect("received");
            }
            woken.join().expect("no panic");
        });
    });
}

#[test]
fn busy_neighbours_do_not_starve_one_at_home() {
    on_processors(ONE, || {
        among_busy_neighbours(|bell| {
            let yields = go(move || {
                for _ in 0..1000 {
                    strands::yield_now();
                }
                bell.ring();
            });
            yields.join().expect("no panic");
        });
    });
}

#[test]
fn busy_neighbours_do_not_starve_a_sleeper() {
    on_processors(ONE, || {
        among_busy_neighbours(|bell| {
            let sleeps = go(move || {
                for _ in 0..5 {
                    strands::sleep(Duration::from_millis(2));
                }
                bell.ring();
            });
            sleeps.join().expect("no panic");
        });
    });
}

#[test]
fn a_flood_of_messages_from_threads_starves_nobody() {
    on_processors(ONE, || {
        let stop = Arc::new(AtomicBool::new(false));
        let (tx, rx) = bounded::<()>(1);
        let floods: Vec<_> = (0..2)
            .map(|_| {
                let (stop, tx) = (Arc::clone(&stop), tx.clone());
                std::thread::spawn(move || {
                    while !is_set(&stop) {
                        tx.send(()).expect("received");
                    }
                })
            })
            .collect();
        drop(tx);
        let flooded = go(move || rx.iter().count());
        go(|| (0..100).for_each(|_| strands::yield_now())).join().expect("no panic");
        a_thousand_run();
        set(&stop);
        floods.into_iter().for_each(|flood| flood.join().expect("no panic"));
        assert!(flooded.join().expect("no panic") > 0);
    });
}

/// Those that roam are ready in the queue in which those stand that have not started. Of these no more are fetched than
/// leave room for them: else they would be driven out, to behind all others.
#[test]
fn those_that_roam_and_are_woken_are_not_put_behind_thousands_that_have_not_started() {
    const FRESH: u64 = 1_000;
    fn roam<T: Send + 'static>(body: impl FnOnce() -> T + Send + 'static) -> JoinHandle<T> {
        Builder::new().affinity(Affinity::Roaming).spawn(body).expect("memory for it")
    }
    /// How many started between the waking of one and its turn, at most.
    fn most_in_a_row() -> u64 {
        let started = Arc::new(AtomicU64::new(0));
        let (holds, all) = (Arc::new(AtomicBool::new(false)), Arc::new(AtomicBool::new(false)));
        let waiting = || {
            let (tx, rx) = bounded::<u64>(1);
            let started = Arc::clone(&started);
            let waits = roam(move || {
                let in_a_row = rx.iter().map(|sent| started.load(SeqCst) - sent);
                in_a_row.max().unwrap_or_default()
            });
            (tx, waits)
        };
        let (wake, waiting): (Vec<_>, Vec<_>) = (0..8).map(|_| waiting()).unzip();
        let waker = {
            let (started, holds, all) =
                (Arc::clone(&started), Arc::clone(&holds), Arc::clone(&all));
            roam(move || {
                // The others wait by now.
                strands::yield_now();
                set(&holds);
                while !is_set(&all) {
                    std::hint::spin_loop();
                }
                while started.load(SeqCst) < FRESH {
                    // Each drives the one before out of the place of who runs next.
                    for wake in &wake {
                        let _ = wake.try_send(started.load(SeqCst));
                    }
                    strands::yield_now();
                }
            })
        };
        while !is_set(&holds) {
            std::hint::spin_loop();
        }
        let fresh: Vec<_> = (0..FRESH)
            .map(|_| {
                let started = Arc::clone(&started);
                go(move || started.fetch_add(1, SeqCst))
            })
            .collect();
        set(&all);
        join_all(fresh);
        waker.join().expect("no panic");
        join_all(waiting).into_iter().max().expect("some")
    }
    on_processors(ONE, || {
        roam(|| ()).join().expect("no panic");
        if let Some(why) = runtime::metrics().roaming_refused {
            return println!("skipped: goroutines cannot roam here: {why}");
        }
        // On a busy machine the waker loses its processor meanwhile, for it hogs that. Then there is nothing to be seen.
        let undisturbed = || {
            let before = handoffs();
            let most = most_in_a_row();
            (handoffs() == before).then_some(most)
        };
        let rounds: Vec<u64> = (0..200).filter_map(|_| undisturbed()).take(20).collect();
        assert!(rounds.iter().all(|most| *most < FRESH / 3), "{rounds:?} of {FRESH} in a row");
        println!("rounds {rounds:?}");
    });
}
