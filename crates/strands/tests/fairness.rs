//! Fairness: busy neighbours starve nobody, whoever they are and however one waits; most of it at one processor, where
//! there is nobody else to help.
//!
//! Where a test has to show that something goes on *while* something else does not, the second waits for
//! the first: with a scheduler that gets it wrong the test hangs, and is ended by its process's patience.

mod holding;
mod process;

use holding::{a_thousand_run, compute_until, handoffs, is_set, join_all, os_thread, set};
use process::on_processors;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, AtomicU64, Ordering::SeqCst};
use std::time::Duration;
use strands::channel::{Receiver, Sender, bounded};
use strands::thread::{Affinity, Builder};
use strands::{JoinHandle, go, runtime};

const ONE: &[usize] = &[1];
const TWO: &[usize] = &[2];

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
                for _ in 0..20 {
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

/// A goroutine that has been made ready at home with the one that calls, and waits for its turn there: it will set
/// the flag. Another thread may have come and taken it, so it says where it is.
fn one_who_is_ready(done: &Arc<AtomicBool>) -> (JoinHandle<()>, bool) {
    let (started, has_started) = bounded(0);
    let (call, called) = bounded(1);
    let done = Arc::clone(done);
    let one = go(move || {
        started.send(os_thread()).expect("received");
        called.recv().expect("called");
        set(&done);
    });
    let is_at_home_here = has_started.recv() == Ok(os_thread());
    call.send(()).expect("received");
    (one, is_at_home_here)
}

/// More messages than anybody may receive in one turn.
const MANY: usize = 10_000;

#[test]
fn who_receives_without_ever_having_to_wait_gives_others_a_turn() {
    type Receive = fn(&Receiver<()>);
    let ways: [Receive; 4] = [
        |rx| rx.recv().expect("sent"),
        |rx| rx.recv_timeout(Duration::from_secs(60)).expect("sent"),
        |rx| rx.iter().next().expect("sent"),
        |rx| strands::select! { recv(rx) -> message => message.expect("sent") },
    ];
    on_processors(ONE, || {
        // One that roams is at home nowhere.
        let roams = runtime::metrics().affinity == Affinity::Roaming;
        for receive in ways {
            let busy = move || {
                let done = Arc::new(AtomicBool::new(false));
                let (tx, rx) = bounded(1);
                let begun = Arc::new(AtomicU64::new(0));
                let senders: Vec<_> = (0..MANY)
                    .map(|_| {
                        let (tx, begun) = (tx.clone(), Arc::clone(&begun));
                        go(move || {
                            begun.fetch_add(1, SeqCst);
                            // Not all are received.
                            let _ = tx.send(());
                        })
                    })
                    .collect();
                // All but one are in line then, or about to be.
                while begun.load(SeqCst) < MANY as u64 {
                    strands::yield_now();
                }
                let (one, is_at_home_here) = one_who_is_ready(&done);
                let others_had_a_turn = (0..MANY).any(|_| {
                    receive(&rx);
                    is_set(&done)
                });
                drop(rx);
                join_all(senders);
                one.join().expect("no panic");
                (is_at_home_here, others_had_a_turn)
            };
            let is_at_home_here = (0..50).any(|_| {
                let (is_at_home_here, others_had_a_turn) = go(busy).join().expect("no panic");
                assert!(others_had_a_turn);
                is_at_home_here || roams
            });
            assert!(is_at_home_here, "never at home");
        }
    });
}

/// A thread that sends a message whenever one is asked for, a moment later.
struct Feeder {
    asked: Arc<AtomicU64>,
    messages: Receiver<()>,
    thread: std::thread::JoinHandle<()>,
}

impl Feeder {
    const DONE: u64 = u64::MAX;

    fn new() -> Feeder {
        let (tx, messages) = bounded(MANY);
        let asked = Arc::new(AtomicU64::new(0));
        let thread = std::thread::spawn({
            let asked = Arc::clone(&asked);
            move || {
                let mut sent = 0;
                loop {
                    match asked.load(SeqCst) {
                        Feeder::DONE => return,
                        all if all == sent => std::hint::spin_loop(),
                        _ => {
                            (0..20).for_each(|_| std::hint::spin_loop());
                            tx.send(()).expect("a receiver");
                            sent += 1;
                        }
                    }
                }
            }
        });
        Feeder { asked, messages, thread }
    }

    /// Receives a message that is not yet there, but soon will be.
    fn receive(&self) {
        self.asked.fetch_add(1, SeqCst);
        self.messages.recv().expect("a sender");
    }

    fn end(self) {
        self.asked.store(Feeder::DONE, SeqCst);
        self.thread.join().expect("no panic");
    }
}

/// So many messages received, each after staying awake for it, and no turn for somebody who is ready: that is nobody's turn.
const WITHOUT_A_TURN: usize = 200;

/// Who stays awake at an empty channel for a moment, and finds a message each time, need never wait. Those who are
/// ready meanwhile have their turn all the same: by the time the next message is received.
#[test]
fn who_stays_awake_for_each_message_gives_others_a_turn() {
    on_processors(TWO, || {
        // One that roams is at home nowhere.
        let roams = runtime::metrics().affinity == Affinity::Roaming;
        let feeder = Arc::new(Feeder::new());
        // Somebody who is ready already.
        let with_one_who_is_ready = {
            let feeder = Arc::clone(&feeder);
            move || {
                let done = Arc::new(AtomicBool::new(false));
                let (one, is_at_home_here) = one_who_is_ready(&done);
                let others_had_a_turn = (0..WITHOUT_A_TURN).any(|_| {
                    feeder.receive();
                    is_set(&done)
                });
                one.join().expect("no panic");
                (is_at_home_here, others_had_a_turn)
            }
        };
        // Somebody who becomes ready while one stays awake: at some time, or by the hand of another thread.
        let with_one_who_becomes_ready = {
            let feeder = Arc::clone(&feeder);
            move |is_woken: bool| {
                let [done, is_due] = [(); 2].map(|()| Arc::new(AtomicBool::new(false)));
                let (started, has_started) = bounded(0);
                let one = go({
                    let done = Arc::clone(&done);
                    move || {
                        started.send(os_thread()).expect("received");
                        if is_woken {
                            strands::thread::park();
                        } else {
                            strands::sleep(Duration::from_millis(1));
                        }
                        set(&done);
                    }
                });
                let is_at_home_here = has_started.recv() == Ok(os_thread());
                let waker = std::thread::spawn({
                    let (one, is_due) = (one.thread().clone(), Arc::clone(&is_due));
                    move || {
                        std::thread::sleep(Duration::from_millis(2));
                        if is_woken {
                            one.unpark();
                        }
                        set(&is_due);
                    }
                });
                let mut since = 0;
                while !is_set(&done) && since < WITHOUT_A_TURN {
                    feeder.receive();
                    since += usize::from(is_set(&is_due));
                }
                let others_had_a_turn = is_set(&done);
                waker.join().expect("no panic");
                one.join().expect("no panic");
                (is_at_home_here, others_had_a_turn)
            }
        };
        let often = |busy: &dyn Fn() -> (bool, bool)| {
            let is_at_home_here = (0..50).any(|_| {
                let (is_at_home_here, others_had_a_turn) = busy();
                assert!(others_had_a_turn || !is_at_home_here);
                is_at_home_here || roams
            });
            assert!(is_at_home_here, "never at home");
        };
        for _ in 0..20 {
            often(&|| go(with_one_who_is_ready.clone()).join().expect("no panic"));
            for is_woken in [false, true] {
                let busy = with_one_who_becomes_ready.clone();
                often(&move || {
                    go({
                        let busy = busy.clone();
                        move || busy(is_woken)
                    })
                    .join()
                    .expect("no panic")
                });
            }
        }
        drop((with_one_who_is_ready, with_one_who_becomes_ready));
        Arc::into_inner(feeder).expect("the goroutines have ended").end();
    });
}

#[test]
fn who_is_woken_elsewhere_goes_on_though_the_one_who_woke_computes() {
    /// Two goroutines at once, and so on two threads.
    fn both<T: Send + 'static>(
        capacity: usize,
        one: impl FnOnce(Sender<T>) + Send + 'static,
        other: impl FnOnce(Receiver<T>) + Send + 'static,
    ) {
        let (tx, rx) = bounded(capacity);
        let here = Arc::new([const { AtomicBool::new(false) }; 2]);
        let there = Arc::clone(&here);
        let meet = |flags: &[AtomicBool; 2], me: usize| {
            set(&flags[me]);
            compute_until(|| is_set(&flags[1 - me]));
        };
        let one = go(move || (meet(&here, 0), one(tx)).1);
        let other = go(move || (meet(&there, 1), other(rx)).1);
        join_all([one, other]);
    }
    on_processors(TWO, || {
        for capacity in [0, 1, 100] {
            // The sender is in line when the last message that fits has been sent; the receiver has it go on, and
            // does not give its thread up before it has.
            let (before, after) = (Arc::new(AtomicU64::new(0)), Arc::new(AtomicBool::new(false)));
            let (sent, is_on) = (Arc::clone(&before), Arc::clone(&after));
            both(
                capacity,
                move |tx| {
                    for _ in 0..=capacity {
                        sent.fetch_add(1, SeqCst);
                        tx.send(()).expect("received");
                    }
                    set(&is_on);
                },
                move |rx| {
                    compute_until(|| before.load(SeqCst) == capacity as u64 + 1);
                    rx.recv().expect("sent");
                    compute_until(|| is_set(&after));
                },
            );
            // Likewise a receiver that waits.
            let after = Arc::new(AtomicBool::new(false));
            let is_on = Arc::clone(&after);
            both(
                capacity,
                move |tx| {
                    tx.send(()).expect("received");
                    compute_until(|| is_set(&after));
                },
                move |rx| {
                    rx.recv().expect("sent");
                    set(&is_on);
                },
            );
        }
    });
}

/// Those that roam are ready in the queue in which those stand that have not started. Of these no more are fetched than
/// leave room for them: else they would be driven out, to where all others wait.
#[test]
fn those_that_roam_and_are_woken_are_not_put_behind_thousands_that_have_not_started() {
    const FRESH: u64 = 1_000;
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
        start_while_held(FRESH, &started, &holds, &all);
        waker.join().expect("no panic");
        join_all(waiting).into_iter().max().expect("some")
    }
    on_processors(ONE, || among_those_that_roam(|| undisturbed_rounds(FRESH, most_in_a_row)));
}

fn roam<T: Send + 'static>(body: impl FnOnce() -> T + Send + 'static) -> JoinHandle<T> {
    Builder::new().affinity(Affinity::Roaming).spawn(body).expect("memory for it")
}

/// Runs `test` if goroutines can roam here.
fn among_those_that_roam(test: impl FnOnce()) {
    roam(|| ()).join().expect("no panic");
    match runtime::metrics().roaming_refused {
        Some(why) => println!("skipped: goroutines cannot roam here: {why}"),
        None => test(),
    }
}

/// Starts goroutines that count themselves in `started`: all of them, when somebody `holds` the processor, who is then told
/// that they are there. Waits until they have ended.
fn start_while_held(count: u64, started: &Arc<AtomicU64>, holds: &AtomicBool, all: &AtomicBool) {
    while !is_set(holds) {
        std::hint::spin_loop();
    }
    let count_oneself = || {
        let started = Arc::clone(started);
        go(move || started.fetch_add(1, SeqCst))
    };
    let fresh: Vec<_> = (0..count).map(|_| count_oneself()).collect();
    set(all);
    join_all(fresh);
}

/// Has `most_in_a_row` say for how many of `fresh` somebody waited at most, and fails if that is a third of them.
fn undisturbed_rounds(fresh: u64, most_in_a_row: impl Fn() -> u64) {
    // On a busy machine the waker loses its processor meanwhile, for it hogs that. Then there is nothing to be seen.
    let undisturbed = || {
        let before = handoffs();
        let most = most_in_a_row();
        (handoffs() == before).then_some(most)
    };
    let rounds: Vec<u64> = (0..200).filter_map(|_| undisturbed()).take(20).collect();
    assert!(rounds.iter().all(|most| *most < fresh / 3), "{rounds:?} of {fresh} in a row");
    println!("rounds {rounds:?}");
}

/// More are woken at once than there is room for beside the processor. Those for whom there is none come to where thousands
/// wait to be started.
#[test]
fn those_that_roam_and_are_woken_in_a_crowd_do_not_wait_until_thousands_have_started() {
    const FRESH: u64 = 1_000;
    const CROWD: u64 = 300;
    /// How many started between the waking of one and its turn, at most.
    fn most_in_a_row() -> u64 {
        let (started, waiting) = (Arc::new(AtomicU64::new(0)), Arc::new(AtomicU64::new(0)));
        let (holds, all) = (Arc::new(AtomicBool::new(false)), Arc::new(AtomicBool::new(false)));
        let one_of_the_crowd = || {
            let (tx, rx) = bounded::<u64>(1);
            let (started, waiting) = (Arc::clone(&started), Arc::clone(&waiting));
            let waits = roam(move || {
                waiting.fetch_add(1, SeqCst);
                let sent = rx.recv().expect("sent");
                started.load(SeqCst) - sent
            });
            (tx, waits)
        };
        let (wake, crowd): (Vec<_>, Vec<_>) = (0..CROWD).map(|_| one_of_the_crowd()).unzip();
        let waker = {
            let (started, holds, all) =
                (Arc::clone(&started), Arc::clone(&holds), Arc::clone(&all));
            roam(move || {
                while waiting.load(SeqCst) < CROWD {
                    strands::yield_now();
                }
                set(&holds);
                while !is_set(&all) {
                    std::hint::spin_loop();
                }
                for wake in &wake {
                    wake.send(started.load(SeqCst)).expect("received");
                }
            })
        };
        start_while_held(FRESH, &started, &holds, &all);
        waker.join().expect("no panic");
        join_all(crowd).into_iter().max().expect("some")
    }
    on_processors(ONE, || among_those_that_roam(|| undisturbed_rounds(FRESH, most_in_a_row)));
}

/// Nor do they who wait to be started wait for ever for those: these come to where they wait again and again.
#[test]
fn a_crowd_that_roams_and_yields_does_not_starve_one_that_has_not_started() {
    const CROWD: u64 = 600;
    /// So many are for ever.
    const MOST_TURNS: u64 = 2_000_000;
    on_processors(ONE, || {
        among_those_that_roam(|| {
            let (running, turns) = (Arc::new(AtomicU64::new(0)), Arc::new(AtomicU64::new(0)));
            let done = Arc::new(AtomicBool::new(false));
            let one_of_the_crowd = || {
                let (running, turns) = (Arc::clone(&running), Arc::clone(&turns));
                let done = Arc::clone(&done);
                roam(move || {
                    running.fetch_add(1, SeqCst);
                    while !is_set(&done) && turns.fetch_add(1, SeqCst) < MOST_TURNS {
                        strands::yield_now();
                    }
                })
            };
            let crowd: Vec<_> = (0..CROWD).map(|_| one_of_the_crowd()).collect();
            while running.load(SeqCst) < CROWD {
                std::hint::spin_loop();
            }
            let is_on = Arc::clone(&done);
            go(move || set(&is_on)).join().expect("no panic");
            join_all(crowd);
            let turns = turns.load(SeqCst);
            assert!(turns < MOST_TURNS, "it was not started in {turns} turns of others");
        });
    });
}
