//! Channel, lock or atomic? What each costs on this machine, for the kinds of work that people choose between
//! them for.
//!
//! ```text
//! cargo run --release --example costs              # 50,000 operations each, some seconds at most
//! cargo run --release --example costs -- 1000000
//! ```
//!
//! Each kind of work is done in the ways that one might do it, by four goroutines at a time, and the ways are given
//! with their cost for an operation, the cheapest first. Every result is checked, so each way really does the work.
//!
//! What one sees nearly everywhere: counting is for an atomic; state that is changed in place is for a lock, by a wide
//! margin (the owner who is asked answers in a tenth of a microsecond if all are at home on one thread, and in many if
//! not: run it with `STRANDS_MAXPROCS=1` too, and with `STRANDS_AFFINITY=roaming`); messages that are handed over are for a channel, which costs no more than a queue with a lock and a
//! condition variable and can be closed, selected and bounded besides; and to tell many that something has happened,
//! all ways will do.

use std::collections::{HashMap, VecDeque};
use std::hint::black_box;
use std::time::Instant;

use strands::channel::{bounded, unbounded};
use strands::scope;
use strands::sync::atomic::{AtomicU64, Ordering};
use strands::sync::{Condvar, Mutex, RwLock};

#[path = "common/args.rs"]
mod args;

/// Goroutines that do the work together.
const CREW: u64 = 4;

/// One way to do some work: its name, and what does so many operations.
type Way = (&'static str, fn(u64));

#[strands::main]
fn main() {
    let [operations] = args::numbers("costs [OPERATIONS]", [(50_000, 4..=1_000_000_000)]);
    let each = operations / CREW * CREW;
    let kinds: [(&str, &[Way]); 5] = [
        (
            "count events",
            &[
                ("an atomic", count_by_atomic),
                ("a Mutex", count_by_mutex),
                ("a channel to the one who counts", count_by_channel),
            ],
        ),
        (
            "change the state of a struct, and see the result",
            &[
                ("a Mutex around it", state_by_mutex),
                ("its owner, asked over a channel", state_by_owner),
            ],
        ),
        (
            "read what seldom changes",
            &[
                ("a RwLock", read_by_rwlock),
                ("a Mutex", read_by_mutex),
                ("its owner, asked over a channel", read_by_owner),
            ],
        ),
        (
            "hand messages over",
            &[
                ("a bounded channel", hand_over_by_channel),
                ("an unbounded channel", hand_over_by_unbounded),
                ("a queue in a Mutex, and Condvars", hand_over_by_queue),
            ],
        ),
        (
            "tell all who wait",
            &[("closing a channel", tell_by_close), ("a Mutex and a Condvar", tell_by_condvar)],
        ),
    ];
    for (work, ways) in kinds {
        println!("{work}");
        let mut costs: Vec<_> = ways.iter().map(|(name, way)| (cost(*way, each), name)).collect();
        costs.sort_by(|(one, _), (other, _)| one.total_cmp(other));
        for (nanoseconds, name) in costs {
            println!("  {nanoseconds:>9.1} ns  {name}");
        }
    }
}

/// Nanoseconds for one operation: the better of two runs.
fn cost(way: fn(u64), operations: u64) -> f64 {
    let once = || {
        let start = Instant::now();
        way(operations);
        start.elapsed().as_nanos() as f64 / operations as f64
    };
    once().min(once())
}

/// Has the crew do it, each its share.
fn crew(operations: u64, body: impl Fn(u64) + Sync) {
    scope(|s| {
        for _ in 0..CREW {
            s.go(|| body(operations / CREW));
        }
    });
}

fn count_by_atomic(operations: u64) {
    let count = AtomicU64::new(0);
    crew(operations, |share| {
        for _ in 0..share {
            count.fetch_add(1, Ordering::Relaxed);
        }
    });
    assert_eq!(count.into_inner(), operations);
}

fn count_by_mutex(operations: u64) {
    let count = Mutex::new(0);
    crew(operations, |share| {
        for _ in 0..share {
            *count.lock().unwrap() += 1;
        }
    });
    assert_eq!(count.into_inner().unwrap(), operations);
}

fn count_by_channel(operations: u64) {
    let (events, happened) = bounded::<()>(128);
    let counter = strands::go(move || happened.iter().count() as u64);
    crew(operations, |share| {
        for _ in 0..share {
            events.send(()).unwrap();
        }
    });
    drop(events);
    assert_eq!(counter.join().unwrap(), operations);
}

/// A struct with a state: what was put in for each of a few names.
#[derive(Default)]
struct Ledger(HashMap<u64, u64>);

impl Ledger {
    fn put_in(&mut self, name: u64) -> u64 {
        let sum = self.0.entry(name % 16).or_default();
        *sum += 1;
        *sum
    }

    fn total(&self) -> u64 {
        self.0.values().sum()
    }
}

fn state_by_mutex(operations: u64) {
    let ledger = Mutex::new(Ledger::default());
    crew(operations, |share| {
        for name in 0..share {
            black_box(ledger.lock().unwrap().put_in(name));
        }
    });
    assert_eq!(ledger.into_inner().unwrap().total(), operations);
}

fn state_by_owner(operations: u64) {
    let (requests, incoming) = bounded::<(u64, strands::channel::Sender<u64>)>(128);
    let owner = strands::go(move || {
        let mut ledger = Ledger::default();
        for (name, reply) in incoming {
            reply.send(ledger.put_in(name)).unwrap();
        }
        ledger.total()
    });
    crew(operations, |share| {
        let (reply, answers) = bounded(1);
        for name in 0..share {
            requests.send((name, reply.clone())).unwrap();
            black_box(answers.recv().unwrap());
        }
    });
    drop(requests);
    assert_eq!(owner.join().unwrap(), operations);
}

/// One of so many operations changes what the others read.
const SELDOM: u64 = 1_000;

fn read_by_rwlock(operations: u64) {
    let setting = RwLock::new(0_u64);
    crew(operations, |share| {
        for turn in 0..share {
            if turn % SELDOM == 0 {
                *setting.write().unwrap() += 1;
            } else {
                black_box(*setting.read().unwrap());
            }
        }
    });
    assert_eq!(setting.into_inner().unwrap(), changes(operations));
}

fn read_by_mutex(operations: u64) {
    let setting = Mutex::new(0_u64);
    crew(operations, |share| {
        for turn in 0..share {
            let mut setting = setting.lock().unwrap();
            if turn % SELDOM == 0 {
                *setting += 1;
            } else {
                black_box(*setting);
            }
        }
    });
    assert_eq!(setting.into_inner().unwrap(), changes(operations));
}

fn read_by_owner(operations: u64) {
    let (requests, incoming) = bounded::<(bool, strands::channel::Sender<u64>)>(128);
    let owner = strands::go(move || {
        let mut setting = 0_u64;
        for (change, reply) in incoming {
            setting += u64::from(change);
            reply.send(setting).unwrap();
        }
        setting
    });
    crew(operations, |share| {
        let (reply, answers) = bounded(1);
        for turn in 0..share {
            requests.send((turn % SELDOM == 0, reply.clone())).unwrap();
            black_box(answers.recv().unwrap());
        }
    });
    drop(requests);
    assert_eq!(owner.join().unwrap(), changes(operations));
}

fn changes(operations: u64) -> u64 {
    CREW * (operations / CREW).div_ceil(SELDOM)
}

/// What is handed over: something that is owned, and somebody's at a time.
type Parcel = Box<u64>;

/// Half of the crew sends, half receives; what has arrived is what was sent.
fn hand_over(operations: u64, send: impl Fn(Parcel) + Sync, receive: impl Fn() -> Parcel + Sync) {
    let arrived = AtomicU64::new(0);
    let share = operations / (CREW / 2);
    scope(|s| {
        for _ in 0..CREW / 2 {
            s.go(|| (0..share).for_each(|n| send(Box::new(n))));
            s.go(|| arrived.fetch_add((0..share).map(|_| *receive()).sum(), Ordering::Relaxed));
        }
    });
    assert_eq!(arrived.into_inner(), CREW / 2 * (share * share.saturating_sub(1) / 2));
}

fn hand_over_by_channel(operations: u64) {
    let (tx, rx) = bounded(128);
    hand_over(operations, |parcel| tx.send(parcel).unwrap(), || rx.recv().unwrap());
}

fn hand_over_by_unbounded(operations: u64) {
    let (tx, rx) = unbounded();
    hand_over(operations, |parcel| tx.send(parcel).unwrap(), || rx.recv().unwrap());
}

fn hand_over_by_queue(operations: u64) {
    let queue = Mutex::new(VecDeque::<Parcel>::new());
    let (not_full, not_empty) = (Condvar::new(), Condvar::new());
    hand_over(
        operations,
        |parcel| {
            let queue = queue.lock().unwrap();
            not_full.wait_while(queue, |queue| queue.len() == 128).unwrap().push_back(parcel);
            not_empty.notify_one();
        },
        || {
            let queue = queue.lock().unwrap();
            let mut queue = not_empty.wait_while(queue, |queue| queue.is_empty()).unwrap();
            let parcel = queue.pop_front().expect("it is not empty");
            not_full.notify_one();
            parcel
        },
    );
}

/// So many wait at a time, to be told at once.
const CROWD: u64 = 1_000;

fn tell(operations: u64, round: impl Fn(u64) -> u64) {
    let mut told = 0;
    while told < operations {
        let crowd = CROWD.min(operations - told);
        assert_eq!(round(crowd), crowd);
        told += crowd;
    }
}

fn tell_by_close(operations: u64) {
    tell(operations, |crowd| {
        let (event, waiting) = bounded::<()>(0);
        let told = AtomicU64::new(0);
        scope(|s| {
            for _ in 0..crowd {
                s.go(|| {
                    assert!(waiting.recv().is_err());
                    told.fetch_add(1, Ordering::Relaxed);
                });
            }
            event.close();
        });
        told.into_inner()
    });
}

fn tell_by_condvar(operations: u64) {
    tell(operations, |crowd| {
        let (happened, bell) = (Mutex::new(false), Condvar::new());
        let told = AtomicU64::new(0);
        scope(|s| {
            for _ in 0..crowd {
                s.go(|| {
                    drop(bell.wait_while(happened.lock().unwrap(), |happened| !*happened));
                    told.fetch_add(1, Ordering::Relaxed);
                });
            }
            *happened.lock().unwrap() = true;
            bell.notify_all();
        });
        told.into_inner()
    });
}
