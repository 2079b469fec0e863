//! Programs that live by the locks, in processes of their own: many goroutines and some threads on 1, 2 and 4
//! processors, and those that can never go on.

mod process;

use process::{on_processors, stage};
use std::sync::atomic::{AtomicUsize, Ordering::SeqCst};
use std::time::{Duration, SystemTime, UNIX_EPOCH};
use strands::channel::bounded;
use strands::sync::{
    Arc, Barrier, Condvar, Mutex, Once, RwLock, RwLockWriteGuard, Semaphore, WaitGroup,
};
use strands::{go, scope, sleep, thread, yield_now};

const PROCESSORS: [usize; 3] = [1, 2, 4];
const GOROUTINES: usize = 1000;
const THREADS: usize = 8;

/// xorshift.
struct Random(u64);

impl Random {
    /// With a seed that is printed, or that of `STRANDS_SEED`.
    fn seeded() -> Random {
        let now =
            || SystemTime::now().duration_since(UNIX_EPOCH).map_or(1, |d| d.as_nanos() as u64);
        let given = std::env::var("STRANDS_SEED").ok().and_then(|seed| seed.parse().ok());
        let seed = given.unwrap_or_else(now);
        eprintln!("STRANDS_SEED={seed}");
        Random(seed | 1)
    }

    fn below(&mut self, limit: u64) -> u64 {
        self.0 ^= self.0 << 13;
        self.0 ^= self.0 >> 7;
        self.0 ^= self.0 << 17;
        (self.0 >> 11) % limit
    }

    fn fork(&mut self) -> Random {
        Random(self.below(u64::MAX) | 1)
    }

    /// Waits in one of several ways, or mostly not at all.
    fn dawdle(&mut self) {
        match self.below(40) {
            0 => sleep(Duration::from_micros(self.below(200))),
            1..4 => yield_now(),
            _ => {}
        }
    }
}

/// Runs `work` in a thousand goroutines and some threads, and waits for them.
fn crowd(random: &mut Random, work: impl Fn(Random) + Send + Sync + Clone + 'static) {
    let group = WaitGroup::new();
    for _ in 0..GOROUTINES {
        let (work, random) = (work.clone(), random.fork());
        group.go(move || work(random));
    }
    let threads: Vec<_> = (0..THREADS)
        .map(|_| {
            let (work, random) = (work.clone(), random.fork());
            std::thread::spawn(move || work(random))
        })
        .collect();
    group.wait();
    for thread in threads {
        thread.join().expect("it has not panicked");
    }
}

#[test]
fn a_crowd_at_a_mutex() {
    on_processors(&PROCESSORS, || {
        let mut random = Random::seeded();
        let shared = Arc::new((Mutex::new((0_u64, 0_u64)), AtomicUsize::new(0)));
        let work = Arc::clone(&shared);
        crowd(&mut random, move |mut random| {
            for _ in 0..20 {
                let guard = if random.below(4) == 0 {
                    work.0.try_lock_for(Duration::from_micros(random.below(300))).ok()
                } else {
                    Some(work.0.lock().unwrap())
                };
                if let Some(mut pair) = guard {
                    pair.0 += 1;
                    random.dawdle();
                    pair.1 += 1;
                    assert_eq!(pair.0, pair.1);
                    work.1.fetch_add(1, SeqCst);
                }
            }
        });
        assert_eq!(shared.0.try_lock().unwrap().0, shared.1.load(SeqCst) as u64);
    });
}

#[test]
fn a_crowd_at_a_rwlock() {
    on_processors(&PROCESSORS, || {
        let mut random = Random::seeded();
        let shared = Arc::new((RwLock::new((0_u64, 0_u64)), AtomicUsize::new(0)));
        let work = Arc::clone(&shared);
        crowd(&mut random, move |mut random| {
            let (lock, written) = &*work;
            for _ in 0..20 {
                let patience = Duration::from_micros(random.below(300));
                let what = random.below(12);
                if what < 8 {
                    let guard =
                        if what < 6 { lock.read().ok() } else { lock.try_read_for(patience).ok() };
                    if let Some(pair) = guard {
                        random.dawdle();
                        assert_eq!(pair.0, pair.1);
                    }
                    continue;
                }
                let guard =
                    if what < 10 { lock.write().ok() } else { lock.try_write_for(patience).ok() };
                if let Some(mut pair) = guard {
                    pair.0 += 1;
                    random.dawdle();
                    pair.1 += 1;
                    written.fetch_add(1, SeqCst);
                    if what == 11 {
                        let pair = RwLockWriteGuard::downgrade(pair);
                        random.dawdle();
                        assert_eq!(pair.0, pair.1);
                    }
                }
            }
        });
        assert_eq!(shared.0.try_write().unwrap().0, shared.1.load(SeqCst) as u64);
    });
}

/// A queue of bounded length, made of a mutex and two conditions.
#[test]
fn a_crowd_at_two_condvars() {
    on_processors(&PROCESSORS, || {
        let mut random = Random::seeded();
        let queue = Arc::new((Mutex::new(Vec::new()), Condvar::new(), Condvar::new()));
        let sum = Arc::new(AtomicUsize::new(0));
        let (work, sums, turn) = (Arc::clone(&queue), Arc::clone(&sum), AtomicUsize::new(0));
        let turn = Arc::new(turn);
        crowd(&mut random, move |mut random| {
            let (items, not_empty, not_full) = &*work;
            // As many take as put.
            let puts = turn.fetch_add(1, SeqCst).is_multiple_of(2);
            for n in 0..10 {
                random.dawdle();
                let mut items = items.lock().unwrap();
                if puts {
                    while items.len() >= 5 {
                        let patience = Duration::from_micros(random.below(300));
                        items = not_full.wait_timeout(items, patience).unwrap().0;
                    }
                    items.push(n);
                    not_empty.notify_one();
                } else {
                    items = not_empty.wait_while(items, |items| items.is_empty()).unwrap();
                    sums.fetch_add(items.pop().unwrap(), SeqCst);
                    drop(items);
                    not_full.notify_one();
                }
            }
        });
        assert_eq!(sum.load(SeqCst), (GOROUTINES + THREADS) / 2 * 45);
        assert!(queue.0.lock().unwrap().is_empty());
    });
}

#[test]
fn a_crowd_at_a_semaphore() {
    on_processors(&PROCESSORS, || {
        let mut random = Random::seeded();
        let shared = Arc::new((Semaphore::new(5), AtomicUsize::new(0)));
        let work = Arc::clone(&shared);
        crowd(&mut random, move |mut random| {
            let (gate, inside) = &*work;
            for _ in 0..20 {
                let n = 1 + random.below(4) as usize;
                let permit = match random.below(4) {
                    0 => {
                        gate.acquire_many_timeout(n, Duration::from_micros(random.below(300))).ok()
                    }
                    1 => gate.try_acquire_many(n).ok(),
                    _ => Some(gate.acquire_many(n).unwrap()),
                };
                if let Some(permit) = permit {
                    assert!(inside.fetch_add(n, SeqCst) + n <= 5);
                    random.dawdle();
                    inside.fetch_sub(n, SeqCst);
                    drop(permit);
                }
            }
        });
        assert_eq!((shared.0.available_permits(), shared.1.load(SeqCst)), (5, 0));
    });
}

#[test]
fn a_crowd_at_a_barrier_and_a_once() {
    on_processors(&PROCESSORS, || {
        let mut random = Random::seeded();
        let onces: Vec<Once> = (0..5).map(|_| Once::new()).collect();
        let shared = Arc::new((Barrier::new(GOROUTINES + THREADS), onces));
        let counts = Arc::new((AtomicUsize::new(0), AtomicUsize::new(0)));
        let (work, count) = (Arc::clone(&shared), Arc::clone(&counts));
        crowd(&mut random, move |mut random| {
            for (round, once) in work.1.iter().enumerate() {
                random.dawdle();
                once.call_once(|| {
                    yield_now();
                    count.0.fetch_add(1, SeqCst);
                });
                assert!(count.0.load(SeqCst) > round);
                if work.0.wait().is_leader() {
                    count.1.fetch_add(1, SeqCst);
                }
            }
        });
        assert_eq!((counts.0.load(SeqCst), counts.1.load(SeqCst)), (5, 5));
    });
}

/// With one processor: what one waits for with a lock in hand is done by others.
#[test]
fn all_locks_may_be_held_across_waits() {
    on_processors(&[1], || {
        let (mutex, rwlock, gate) = (Mutex::new(0), RwLock::new(0), Semaphore::new(1));
        let (tx, rx) = bounded(0);
        scope(|s| {
            for _ in 0..50 {
                s.go(|| {
                    let _permit = gate.acquire().unwrap();
                    let mut one = mutex.lock().unwrap();
                    let mut two = rwlock.write().unwrap();
                    sleep(Duration::from_micros(50));
                    *one += rx.recv().unwrap();
                    *two += 1;
                });
                s.go(|| {
                    let _reading = rwlock.read().unwrap();
                    yield_now();
                });
            }
            s.go(|| (0..50).for_each(|n| tx.send(n).unwrap()));
        });
        assert_eq!((*mutex.lock().unwrap(), *rwlock.read().unwrap()), (1225, 50));
    });
}

/// One that takes the lock again as soon as it has given it back does not keep it for itself. With one processor
/// the other never runs while the lock is free.
#[test]
fn nobody_starves_at_a_mutex() {
    on_processors(&[1], || {
        let (lock, served) = (Mutex::new(()), AtomicUsize::new(0));
        scope(|s| {
            s.go(|| {
                while served.load(SeqCst) < 20 {
                    let guard = lock.lock().unwrap();
                    sleep(Duration::from_micros(50));
                    drop(guard);
                }
            });
            s.go(|| {
                for _ in 0..20 {
                    drop(lock.lock().unwrap());
                    served.fetch_add(1, SeqCst);
                }
            });
        });
    });
}

/// The same for a writer among readers of whom one always reads, and for readers among writers.
#[test]
fn nobody_starves_at_a_rwlock() {
    on_processors(&[1], || {
        let (lock, written, read) = (RwLock::new(()), AtomicUsize::new(0), AtomicUsize::new(0));
        let done = || written.load(SeqCst) >= 20 && read.load(SeqCst) >= 20;
        scope(|s| {
            for _ in 0..2 {
                s.go(|| {
                    while !done() {
                        let guard = lock.read().unwrap();
                        read.fetch_add(1, SeqCst);
                        sleep(Duration::from_micros(50));
                        drop(guard);
                    }
                });
                s.go(|| {
                    while !done() {
                        let guard = lock.write().unwrap();
                        written.fetch_add(1, SeqCst);
                        sleep(Duration::from_micros(50));
                        drop(guard);
                    }
                });
            }
        });
    });
}

/// Those who wait for good are told from each other by what they wait for.
#[test]
fn a_deadlock_names_what_each_waits_for() {
    let program = stage(|| {
        let lost = |name: &str, wait: Box<dyn FnOnce() + Send>| {
            thread::Builder::new().name(name.into()).spawn(wait).expect("spawned")
        };
        lost(
            "mutex",
            Box::new(|| {
                let mutex = Mutex::new(());
                let _twice = (mutex.lock(), mutex.lock());
            }),
        );
        lost(
            "reader",
            Box::new(|| {
                let rwlock = RwLock::new(());
                let _twice = (rwlock.write(), rwlock.read());
            }),
        );
        lost(
            "writer",
            Box::new(|| {
                let rwlock = RwLock::new(());
                let _twice = (rwlock.read(), rwlock.write());
            }),
        );
        lost(
            "condvar",
            Box::new(|| {
                let (mutex, condvar) = (Mutex::new(()), Condvar::new());
                drop(condvar.wait(mutex.lock().unwrap()));
            }),
        );
        lost(
            "once",
            Box::new(|| {
                let once = Once::new();
                once.call_once(|| once.call_once(|| ()));
            }),
        );
        lost("barrier", Box::new(|| _ = Barrier::new(2).wait()));
        lost("semaphore", Box::new(|| drop(Semaphore::new(0).acquire())));
        lost(
            "group",
            Box::new(|| {
                let group = WaitGroup::new();
                group.add(1);
                group.wait();
            }),
        );
        go(|| ()).join().unwrap();
        let group = WaitGroup::new();
        group.add(1);
        group.wait();
    });
    let Some(program) = program else { return };
    let outcome = program.run();
    assert_eq!(outcome.status.code(), Some(2), "{outcome}");
    for (name, why, object) in [
        ("mutex", "mutex lock", "mutex"),
        ("reader", "rwlock read", "rwlock"),
        ("writer", "rwlock write", "rwlock"),
        ("condvar", "cond wait", "condvar"),
        ("once", "once", "once"),
        ("barrier", "barrier", "barrier"),
        ("semaphore", "semaphore acquire", "semaphore"),
        ("group", "wait group", "wait group"),
    ] {
        let (who, what) = (format!("{name:?} [{why}, "), format!("waiting on {object} 0x"));
        let named = |line: &str| line.contains(&who) && line.contains(&what);
        assert!(outcome.stderr.lines().any(named), "{name}: {outcome}");
    }
    assert!(
        outcome
            .stderr
            .lines()
            .any(|line| { line.starts_with("thread ") && line.contains("[wait group, ") })
    );
}
