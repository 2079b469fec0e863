//! Models of the locks: who owns what when, in all orders.
//!
//! What a lock guards is a cell of loom's, which reports two who are in it at once, or one who comes in with
//! nothing to say that the one before it has left. One who waits for a wake-up that never comes is a deadlock,
//! which loom reports. A deadline here is one that has passed: since loom runs the others between any two
//! steps, that is every deadline there is.
//!
//! Of each model all orders are explored in which up to three switches come at a time when the thread could
//! have gone on.

use super::raw::{Locking, Notice, RawCondvar, RawMutex, RawRwLock, Reading, Writing};
use super::{Barrier, Once, Semaphore};
use crate::primitive::{Arc, UnsafeCell};
use loom::thread;
use std::cell::Cell;
use std::pin::pin;
use std::sync::atomic::{AtomicUsize, Ordering::Relaxed};
use std::task::{Context, Wake, Waker};
use std::time::{Duration, Instant};

fn model(preemptions: usize, f: impl Fn() + Send + Sync + 'static) {
    let mut model = loom::model::Builder::new();
    model.preemption_bound = Some(preemptions);
    model.check(f);
}

fn passed() -> Option<Instant> {
    Some(Instant::now() - Duration::from_secs(1))
}

/// A number that a lock guards.
struct Guarded<L> {
    lock: L,
    number: UnsafeCell<usize>,
}

// SAFETY: the cell is for whoever has the lock, which is what the models check.
unsafe impl<L: Send> Send for Guarded<L> {}
// SAFETY: as above.
unsafe impl<L: Sync> Sync for Guarded<L> {}

impl<L> Guarded<L> {
    fn new(lock: L) -> Arc<Guarded<L>> {
        Arc::new(Guarded { lock, number: UnsafeCell::new(0) })
    }

    fn read(&self) -> usize {
        // SAFETY: the caller reads.
        self.number.with(|number| unsafe { *number })
    }

    fn add_one(&self) {
        // SAFETY: the caller writes.
        self.number.with_mut(|number| unsafe { *number += 1 });
    }
}

impl Guarded<RawMutex> {
    /// Adds one, if it gets the lock in time.
    fn add(&self, deadline: Option<Instant>) -> usize {
        if !self.lock.lock_until(deadline) {
            return 0;
        }
        self.leave_after_adding();
        1
    }

    fn leave_after_adding(&self) {
        self.add_one();
        // SAFETY: ours.
        unsafe { self.lock.unlock() };
    }
}

/// Notes that it was woken, and wakes a thread of loom's.
struct Bell {
    rung: loom::sync::Mutex<bool>,
    bell: loom::sync::Condvar,
}

impl Bell {
    fn new() -> std::sync::Arc<Bell> {
        std::sync::Arc::new(Bell {
            rung: loom::sync::Mutex::new(false),
            bell: loom::sync::Condvar::new(),
        })
    }

    fn wait(&self) {
        let mut rung = self.rung.lock().unwrap();
        while !*rung {
            rung = self.bell.wait(rung).unwrap();
        }
        *rung = false;
    }
}

impl Wake for Bell {
    fn wake(self: std::sync::Arc<Bell>) {
        *self.rung.lock().unwrap() = true;
        self.bell.notify_one();
    }
}

/// Polls until ready, or gives up after so many polls. True: it was ready.
macro_rules! drive {
    ($future:expr, $polls:expr) => {{
        let bell = Bell::new();
        let waker = Waker::from(std::sync::Arc::clone(&bell));
        let mut cx = Context::from_waker(&waker);
        let mut future = pin!($future);
        let mut polls: usize = $polls;
        loop {
            if future.as_mut().poll(&mut cx).is_ready() {
                break true;
            }
            polls -= 1;
            if polls == 0 {
                break false;
            }
            bell.wait();
        }
    }};
}

// Below the macro, which they use.
mod calm;
mod lanes;

/// Enough for whatever there is to wait for.
const TO_THE_END: usize = 100;

#[test]
fn a_mutex_has_one_owner_at_a_time_and_serves_all() {
    model(3, || {
        let counter = Guarded::new(RawMutex::new());
        let others = [(); 2].map(|()| {
            let counter = Arc::clone(&counter);
            thread::spawn(move || counter.add(None))
        });
        let mut added = counter.add(None);
        added += others.map(|other| other.join().unwrap()).iter().sum::<usize>();
        assert_eq!(added, 3);
        assert!(counter.lock.try_lock(), "it was left locked: {:?}", counter.lock);
        assert_eq!(counter.read(), 3);
    });
}

#[test]
fn whoever_gives_up_on_a_mutex_has_not_got_it_and_takes_no_wake_up_along() {
    model(3, || {
        let counter = Guarded::new(RawMutex::new());
        let others = [passed(), None].map(|deadline| {
            let counter = Arc::clone(&counter);
            thread::spawn(move || counter.add(deadline))
        });
        let mut added = counter.add(None);
        added += others.map(|other| other.join().unwrap()).iter().sum::<usize>();
        assert!(counter.lock.try_lock(), "it was left locked: {:?}", counter.lock);
        assert_eq!(counter.read(), added);
        assert!(added >= 2);
    });
}

#[test]
fn a_future_that_is_dropped_at_any_time_leaves_the_mutex_to_others() {
    model(3, || {
        let counter = Guarded::new(RawMutex::new());
        counter.lock.lock();
        let dropped = {
            let counter = Arc::clone(&counter);
            thread::spawn(move || {
                let ready = drive!(Locking::new(&counter.lock), 1);
                if ready {
                    counter.leave_after_adding();
                }
                usize::from(ready)
            })
        };
        let waits = {
            let counter = Arc::clone(&counter);
            thread::spawn(move || counter.add(None))
        };
        counter.leave_after_adding();
        let added = 1 + dropped.join().unwrap() + waits.join().unwrap();
        assert!(added >= 2);
        assert!(counter.lock.try_lock(), "it was left locked: {:?}", counter.lock);
        assert_eq!(counter.read(), added);
    });
}

#[test]
fn a_future_gets_the_mutex() {
    model(3, || {
        let counter = Guarded::new(RawMutex::new());
        let others = [(); 2].map(|()| {
            let counter = Arc::clone(&counter);
            thread::spawn(move || counter.add(None))
        });
        assert!(drive!(Locking::new(&counter.lock), TO_THE_END));
        counter.leave_after_adding();
        let _ = others.map(|other| other.join().unwrap());
        assert!(counter.lock.try_lock(), "it was left locked: {:?}", counter.lock);
        assert_eq!(counter.read(), 3);
    });
}

#[test]
fn writers_are_alone_and_readers_are_not_forgotten() {
    model(3, || {
        let shared = Guarded::new(RawRwLock::new());
        let writer = {
            let shared = Arc::clone(&shared);
            thread::spawn(move || {
                assert!(shared.lock.write_until(None));
                shared.add_one();
                // SAFETY: ours.
                unsafe { shared.lock.unlock_write() };
            })
        };
        let reader = {
            let shared = Arc::clone(&shared);
            thread::spawn(move || {
                assert!(shared.lock.read_until(None));
                assert!(shared.read() <= 1);
                // SAFETY: we read.
                unsafe { shared.lock.unlock_read() };
            })
        };
        assert!(shared.lock.read_until(None));
        assert!(shared.read() <= 1);
        // SAFETY: we read.
        unsafe { shared.lock.unlock_read() };
        writer.join().unwrap();
        reader.join().unwrap();
        assert!(shared.lock.try_write(), "it was left locked: {:?}", shared.lock);
        assert_eq!(shared.read(), 1);
    });
}

#[test]
fn two_writers_and_a_reader_all_come_to_their_turn() {
    model(3, || {
        let shared = Guarded::new(RawRwLock::new());
        let writers = [(); 2].map(|()| {
            let shared = Arc::clone(&shared);
            thread::spawn(move || {
                assert!(shared.lock.write_until(None));
                shared.add_one();
                // SAFETY: ours.
                unsafe { shared.lock.unlock_write() };
            })
        });
        assert!(shared.lock.read_until(None));
        assert!(shared.read() <= 2);
        // SAFETY: we read.
        unsafe { shared.lock.unlock_read() };
        let _ = writers.map(|writer| writer.join().unwrap());
        assert!(shared.lock.try_write(), "it was left locked: {:?}", shared.lock);
        assert_eq!(shared.read(), 2);
    });
}

#[test]
fn a_writer_that_gives_up_lets_the_readers_in_that_it_held_back() {
    model(3, || {
        let shared = Guarded::new(RawRwLock::new());
        assert!(shared.lock.read_until(None));
        let writer = {
            let shared = Arc::clone(&shared);
            thread::spawn(move || {
                let writes = shared.lock.write_until(passed());
                if writes {
                    shared.add_one();
                    // SAFETY: ours.
                    unsafe { shared.lock.unlock_write() };
                }
                usize::from(writes)
            })
        };
        let reader = {
            let shared = Arc::clone(&shared);
            thread::spawn(move || {
                if shared.lock.read_until(None) {
                    assert!(shared.read() <= 1);
                    // SAFETY: we read.
                    unsafe { shared.lock.unlock_read() };
                }
            })
        };
        assert_eq!(shared.read(), 0);
        // SAFETY: we read.
        unsafe { shared.lock.unlock_read() };
        let written = writer.join().unwrap();
        reader.join().unwrap();
        assert!(shared.lock.try_write(), "it was left locked: {:?}", shared.lock);
        assert_eq!(shared.read(), written);
    });
}

#[test]
fn dropped_futures_leave_the_rwlock_to_others() {
    for polls in [1, TO_THE_END] {
        model(3, move || {
            let shared = Guarded::new(RawRwLock::new());
            assert!(shared.lock.read_until(None));
            let writer = {
                let shared = Arc::clone(&shared);
                thread::spawn(move || {
                    let writes = drive!(Writing::new(&shared.lock), polls);
                    if writes {
                        shared.add_one();
                        // SAFETY: ours.
                        unsafe { shared.lock.unlock_write() };
                    }
                    usize::from(writes)
                })
            };
            let reader = {
                let shared = Arc::clone(&shared);
                thread::spawn(move || {
                    if drive!(Reading::new(&shared.lock), polls) {
                        assert!(shared.read() <= 1);
                        // SAFETY: we read.
                        unsafe { shared.lock.unlock_read() };
                    }
                })
            };
            assert_eq!(shared.read(), 0);
            // SAFETY: we read.
            unsafe { shared.lock.unlock_read() };
            let written = writer.join().unwrap();
            reader.join().unwrap();
            assert!(shared.lock.try_write(), "it was left locked: {:?}", shared.lock);
            assert_eq!(shared.read(), written);
        });
    }
}

#[test]
fn a_writer_that_becomes_a_reader_lets_readers_in_and_no_writer() {
    model(3, || {
        let shared = Guarded::new(RawRwLock::new());
        assert!(shared.lock.write_until(None));
        let reader = {
            let shared = Arc::clone(&shared);
            thread::spawn(move || {
                assert!(shared.lock.read_until(None));
                assert!(shared.read() >= 1);
                // SAFETY: we read.
                unsafe { shared.lock.unlock_read() };
            })
        };
        let writer = {
            let shared = Arc::clone(&shared);
            thread::spawn(move || {
                assert!(shared.lock.write_until(None));
                shared.add_one();
                // SAFETY: ours.
                unsafe { shared.lock.unlock_write() };
            })
        };
        shared.add_one();
        // SAFETY: we write; then we read.
        unsafe {
            shared.lock.downgrade();
            assert_eq!(shared.read(), 1);
            shared.lock.unlock_read();
        }
        reader.join().unwrap();
        writer.join().unwrap();
        assert!(shared.lock.try_write(), "it was left locked: {:?}", shared.lock);
    });
}

/// A condition that comes true twice, under a mutex, and those who wait for it.
fn two_wait(notify: fn(&RawCondvar), times: usize, deadline: Option<Instant>) {
    model(3, move || {
        let shared = Arc::new((Guarded::new(RawMutex::new()), RawCondvar::new()));
        let waiting = [None, deadline].map(|deadline| {
            let shared = Arc::clone(&shared);
            thread::spawn(move || {
                let (tokens, condvar) = &*shared;
                tokens.lock.lock();
                while tokens.read() == 0 {
                    // SAFETY: ours.
                    if !unsafe { condvar.wait(&tokens.lock, deadline) } {
                        break;
                    }
                }
                let had = tokens.read() > 0;
                // SAFETY: ours.
                unsafe { tokens.lock.unlock() };
                had
            })
        });
        let (tokens, condvar) = &*shared;
        for _ in 0..times {
            tokens.lock.lock();
            tokens.leave_after_adding();
            notify(condvar);
        }
        let had = waiting.map(|thread| thread.join().unwrap());
        assert!(had[0]);
        assert!(had[1] || deadline.is_some());
    });
}

#[test]
fn who_waits_at_a_condvar_is_notified_one_by_one() {
    two_wait(RawCondvar::notify_one, 2, None);
}

#[test]
fn who_waits_at_a_condvar_is_notified_with_all_others() {
    two_wait(RawCondvar::notify_all, 1, None);
}

/// One who gives up must not swallow the notification that another needs.
#[test]
fn a_deadline_at_a_condvar_takes_nothing_from_others() {
    two_wait(RawCondvar::notify_one, 2, passed());
}

/// One who leaves when it has just been notified passes it on.
#[test]
fn a_dropped_wait_at_a_condvar_takes_nothing_from_others() {
    model(3, || {
        let shared = Arc::new((Guarded::new(RawMutex::new()), RawCondvar::new()));
        let leaving = {
            let shared = Arc::clone(&shared);
            thread::spawn(move || {
                let (tokens, condvar) = &*shared;
                tokens.lock.lock();
                let unlocked = Cell::new(false);
                // SAFETY: ours.
                assert!(!drive!(unsafe { Notice::new(condvar, &tokens.lock, &unlocked) }, 1));
                assert!(unlocked.get());
            })
        };
        let waiting = {
            let shared = Arc::clone(&shared);
            thread::spawn(move || {
                let (tokens, condvar) = &*shared;
                tokens.lock.lock();
                while tokens.read() == 0 {
                    // SAFETY: ours.
                    unsafe { condvar.wait(&tokens.lock, None) };
                }
                // SAFETY: ours.
                unsafe { tokens.lock.unlock() };
            })
        };
        let (tokens, condvar) = &*shared;
        tokens.lock.lock();
        tokens.leave_after_adding();
        condvar.notify_one();
        leaving.join().unwrap();
        waiting.join().unwrap();
    });
}

#[test]
fn a_closure_runs_once_and_all_see_what_it_did() {
    model(3, || {
        let shared = Guarded::new(Once::new());
        let runs = std::sync::Arc::new(AtomicUsize::new(0));
        let threads = [(); 2].map(|()| {
            let (shared, runs) = (Arc::clone(&shared), std::sync::Arc::clone(&runs));
            thread::spawn(move || {
                shared.lock.call_once(|| {
                    runs.fetch_add(1, Relaxed);
                    shared.add_one();
                });
                assert_eq!(shared.read(), 1);
            })
        });
        shared.lock.wait();
        assert_eq!(shared.read(), 1);
        let _ = threads.map(|thread| thread.join().unwrap());
        assert_eq!(runs.load(Relaxed), 1);
    });
}

/// Two who want one and two permits, one of whom may give up, and one who brings them back in two steps.
fn permits(gives_up: impl Fn(&Semaphore) -> bool + Send + Sync + Clone + 'static) {
    model(3, move || {
        let gate = Arc::new(Semaphore::new(2));
        let held = [gate.acquire().unwrap(), gate.acquire().unwrap()];
        let (other, gives_up) = (Arc::clone(&gate), gives_up.clone());
        let first = thread::spawn(move || gives_up(&other));
        let other = Arc::clone(&gate);
        let second = thread::spawn(move || assert_eq!(other.acquire().unwrap().count(), 1));
        drop(held);
        first.join().unwrap();
        second.join().unwrap();
        assert_eq!(gate.available_permits(), 2);
    });
}

#[test]
fn who_gives_up_on_permits_leaves_them_to_others() {
    permits(|gate| gate.acquire_deadline(passed().unwrap()).is_ok());
}

#[test]
fn a_dropped_future_leaves_permits_to_others() {
    permits(|gate| drive!(gate.acquire_many_async(2), 1));
}

#[test]
fn who_wants_many_permits_gets_them() {
    permits(|gate| gate.acquire_many(2).unwrap().count() == 2);
    permits(|gate| drive!(gate.acquire_many_async(2), TO_THE_END));
}

#[test]
fn a_semaphore_that_is_closed_leaves_nobody_waiting() {
    model(3, || {
        let gate = Arc::new(Semaphore::new(0));
        let waiting = [(); 2].map(|()| {
            let gate = Arc::clone(&gate);
            thread::spawn(move || assert!(gate.acquire().is_err()))
        });
        gate.close();
        let _ = waiting.map(|thread| thread.join().unwrap());
    });
}

#[test]
fn all_pass_a_barrier_and_what_they_did_before_is_seen() {
    model(3, || {
        let meeting = Arc::new((Barrier::new(2), [(); 2].map(|()| Guarded::new(()))));
        let other = {
            let meeting = Arc::clone(&meeting);
            thread::spawn(move || {
                meeting.1[0].add_one();
                let leads = meeting.0.wait().is_leader();
                assert_eq!(meeting.1[1].read(), 1);
                leads
            })
        };
        meeting.1[1].add_one();
        let leads = meeting.0.wait().is_leader();
        assert_eq!(meeting.1[0].read(), 1);
        assert_ne!(leads, other.join().unwrap());
    });
}
