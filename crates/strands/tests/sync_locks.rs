//! `Mutex`, `RwLock` and `Condvar`: what std's promise, for goroutines and for threads.

mod child;
mod waiting;

use child::Child;
use std::fmt::Debug;
use std::panic::{AssertUnwindSafe, RefUnwindSafe, UnwindSafe, catch_unwind};
use std::time::{Duration, Instant};
use strands::channel::bounded;
use strands::sync::{
    Arc, Barrier, Condvar, LockResult, Mutex, MutexGuard, RwLock, RwLockReadGuard,
    RwLockWriteGuard, TryLockError, TryLockResult, raw,
};
use strands::{go, run, sleep, yield_now};
use waiting::{A_MOMENT, KINDS, Kind, PLENTY};

/// What the types promise. What they must not allow is in `compile_fail` examples beside them.
const _: fn() = || {
    fn is_shared<T: Send + Sync + UnwindSafe + RefUnwindSafe>() {}
    fn is_sync<T: Sync>() {}
    is_shared::<Mutex<std::cell::Cell<u8>>>();
    is_shared::<RwLock<u8>>();
    is_shared::<Condvar>();
    is_sync::<MutexGuard<'static, u8>>();
    is_sync::<RwLockReadGuard<'static, u8>>();
    is_sync::<RwLockWriteGuard<'static, u8>>();
};

static IN_A_STATIC: (Mutex<u8>, RwLock<u8>, Condvar) =
    (Mutex::new(1), RwLock::new(2), Condvar::new());

fn would_block<G>(result: TryLockResult<G>) -> bool {
    matches!(result, Err(TryLockError::WouldBlock))
}

fn is_poisoned<G>(result: TryLockResult<G>) -> bool {
    matches!(result, Err(TryLockError::Poisoned(_)))
}

/// Panics with the guard in hand.
fn panic_with<G>(lock: impl FnOnce() -> LockResult<G>) {
    let caught = catch_unwind(AssertUnwindSafe(|| {
        let _guard = lock().unwrap_or_else(|poisoned| poisoned.into_inner());
        panic!("in the section");
    }));
    assert!(caught.is_err());
}

fn shown(value: &(impl Debug + ?Sized)) -> String {
    format!("{value:?}")
}

// ---- Mutex ----

#[test]
fn a_mutex_guards_and_gives_back() {
    assert_eq!(*IN_A_STATIC.0.lock().unwrap(), 1);
    let mut lock = Mutex::from(1);
    *lock.lock().unwrap() += 1;
    *lock.get_mut().unwrap() += 1;
    assert_eq!(*lock.try_lock().unwrap(), 3);
    assert_eq!(lock.into_inner().unwrap(), 3);
    assert_eq!(*Mutex::<u8>::default().lock().unwrap(), 0);
}

#[test]
fn a_mutex_guards_what_has_no_size_known() {
    let lock: &Mutex<[i32]> = &Mutex::new([1, 2, 3]);
    lock.lock().unwrap()[1] = 5;
    assert_eq!(&*lock.lock().unwrap(), &[1, 5, 3]);
}

#[test]
fn a_held_mutex_refuses_a_try_and_is_shown_as_locked() {
    let lock = Mutex::new(7);
    let guard = lock.lock().unwrap();
    assert!(would_block(lock.try_lock()));
    assert!(would_block(lock.try_lock_for(Duration::ZERO)));
    assert!(would_block(lock.try_lock_until(Instant::now() - A_MOMENT)));
    assert_eq!(shown(&lock), "Mutex { data: <locked>, poisoned: false, .. }");
    assert_eq!((shown(&guard), guard.to_string()), ("7".into(), "7".into()));
    drop(guard);
    assert_eq!(shown(&lock), "Mutex { data: 7, poisoned: false, .. }");
    assert!(lock.try_lock_until(Instant::now() - A_MOMENT).is_ok());
}

/// Everything that std says about poisoning, on both, side by side.
macro_rules! poisoning_of_a_mutex {
    ($mutex:ty) => {{
        let mut lock = <$mutex>::new(1);
        let mut seen = Vec::new();
        panic_with(|| lock.lock());
        seen.push(lock.is_poisoned());
        seen.push(lock.lock().is_err());
        seen.push(is_poisoned(lock.try_lock()));
        seen.push(lock.get_mut().is_err());
        *lock.lock().unwrap_err().into_inner() += 1;
        seen.push(shown(&lock) == "Mutex { data: 2, poisoned: true, .. }");
        lock.clear_poison();
        seen.push(lock.is_poisoned());
        seen.push(*lock.lock().unwrap() == 2);
        // A guard that was there before the panic is dropped while unwinding.
        struct LocksWhenDropped<'a>(&'a $mutex);
        impl Drop for LocksWhenDropped<'_> {
            fn drop(&mut self) {
                // It was panicking already, so this section has not failed.
                *self.0.lock().unwrap() += 1;
            }
        }
        let caught = catch_unwind(AssertUnwindSafe(|| {
            let _locks = LocksWhenDropped(&lock);
            panic!("outside the section");
        }));
        seen.push(caught.is_err());
        seen.push(lock.is_poisoned());
        panic_with(|| lock.lock());
        seen.push(lock.into_inner().unwrap_err().into_inner() == 3);
        seen
    }};
}

#[test]
fn a_mutex_is_poisoned_as_in_std() {
    let ours = poisoning_of_a_mutex!(Mutex<i32>);
    assert_eq!(ours, poisoning_of_a_mutex!(std::sync::Mutex<i32>));
    assert_eq!(ours, [true, true, true, true, true, false, true, true, false, true]);
    assert!(run(|| poisoning_of_a_mutex!(Mutex<i32>) == ours), "in a goroutine");
}

#[test]
fn a_goroutine_that_dies_poisons_and_one_that_parks_meanwhile_does_not() {
    let (sick, well) = (Arc::new(Mutex::new(0)), Arc::new(Mutex::new(0)));
    let dying = Arc::clone(&sick);
    let holding = Arc::clone(&well);
    run(move || {
        let quiet = go(move || {
            let _guard = holding.lock().unwrap();
            yield_now();
            go(move || {
                let _guard = dying.lock().unwrap();
                panic!("in the section");
            })
            .join()
            .unwrap_err();
        });
        quiet.join().unwrap();
    });
    assert!(sick.is_poisoned() && !well.is_poisoned());
}

#[test]
fn who_waits_is_told_that_the_owner_has_died() {
    for kind in KINDS {
        let locks = Arc::new((Mutex::new(()), RwLock::new(())));
        let ((entered, is_inside), (release, gate)) = (bounded(0), bounded::<()>(0));
        let owns = Arc::clone(&locks);
        let owner = kind.start(move || {
            let _guards = (owns.0.lock().unwrap(), owns.1.write().unwrap());
            entered.send(()).unwrap();
            gate.recv().unwrap();
            panic!("in the section");
        });
        is_inside.recv().unwrap();
        let [locker, reader] = [Arc::clone(&locks), Arc::clone(&locks)];
        let locker = kind.start(move || locker.0.lock().is_err());
        let reader = kind.start(move || reader.1.read().is_err());
        locker.until_it_waits("mutex lock");
        reader.until_it_waits("rwlock read");
        release.send(()).unwrap();
        assert!(owner.outcome().is_err());
        assert!(locker.join() && reader.join());
    }
}

#[test]
fn who_waits_for_a_mutex_gets_it_whatever_it_is() {
    for owner in KINDS {
        for kind in KINDS {
            let lock = Arc::new(Mutex::new(0));
            let (held, release) = (Arc::clone(&lock), bounded(0));
            let (locked, is_locked) = bounded(0);
            let owner = owner.start(move || {
                let mut guard = held.lock().unwrap();
                locked.send(()).unwrap();
                release.1.recv().unwrap();
                *guard = 1;
            });
            is_locked.recv().unwrap();
            let waits = Arc::clone(&lock);
            let waiting = kind.start(move || *waits.lock().unwrap());
            waiting.until_it_waits("mutex lock");
            release.0.send(()).unwrap();
            assert_eq!(waiting.join(), 1);
            owner.join();
        }
    }
}

#[test]
fn a_wait_for_a_mutex_ends_with_its_time_or_in_time() {
    for kind in KINDS {
        let lock = Arc::new(Mutex::new(()));
        let guard = lock.lock().unwrap();
        let (late, later) = (Arc::clone(&lock), Arc::clone(&lock));
        let start = Instant::now();
        kind.start(move || assert!(would_block(late.try_lock_for(A_MOMENT)))).join();
        assert!(start.elapsed() >= A_MOMENT);
        let in_time = kind.start(move || later.try_lock_for(PLENTY).is_ok());
        in_time.until_it_waits("mutex lock");
        drop(guard);
        assert!(in_time.join());
    }
}

/// One who gives up leaves the line to those behind it.
#[test]
fn who_gives_up_on_a_mutex_does_not_stand_in_the_way() {
    for kind in KINDS {
        let lock = Arc::new(Mutex::new(()));
        let guard = lock.lock().unwrap();
        let first = Arc::clone(&lock);
        let first = kind.start(move || would_block(first.try_lock_for(4 * A_MOMENT)));
        let second = Arc::clone(&lock);
        let second = kind.start(move || drop(second.lock().unwrap()));
        second.until_it_waits("mutex lock");
        assert!(first.join());
        drop(guard);
        second.join();
        assert!(lock.try_lock().is_ok());
    }
}

/// With one processor, goroutines that sleep, receive and yield with the lock in hand.
#[test]
fn a_mutex_may_be_held_across_a_wait() {
    let test = "a_mutex_may_be_held_across_a_wait";
    let ended = Child::of(test).env("STRANDS_MAXPROCS", "1").run(|| {
        run(|| {
            let lock = Arc::new(Mutex::new(0));
            let (tx, rx) = bounded(0);
            let feeder = go(move || (0..20).for_each(|n| tx.send(n).unwrap()));
            let workers: Vec<_> = (0..20)
                .map(|_| {
                    let (lock, rx) = (Arc::clone(&lock), rx.clone());
                    go(move || {
                        let mut total = lock.lock().unwrap();
                        sleep(Duration::from_micros(100));
                        *total += rx.recv().unwrap();
                        yield_now();
                    })
                })
                .collect();
            workers.into_iter().for_each(|worker| worker.join().unwrap());
            feeder.join().unwrap();
            assert_eq!(*lock.lock().unwrap(), 190);
        });
    });
    ended.assert_success();
}

/// The data's destructor runs under nobody's lock.
#[test]
fn what_a_mutex_guards_may_use_it_when_dropped() {
    struct Reenters(Arc<Mutex<Option<Reenters>>>);
    impl Drop for Reenters {
        fn drop(&mut self) {
            assert!(self.0.try_lock().is_ok());
        }
    }
    let lock = Arc::new(Mutex::new(None));
    *lock.lock().unwrap() = Some(Reenters(Arc::clone(&lock)));
    let former = lock.lock().unwrap().take();
    drop(former);
}

// ---- RwLock ----

#[test]
fn a_rwlock_has_many_readers_or_one_writer() {
    assert_eq!(*IN_A_STATIC.1.read().unwrap(), 2);
    let mut lock = RwLock::from(1);
    {
        let (one, other) = (lock.read().unwrap(), lock.try_read().unwrap());
        assert_eq!(*one + *other, 2);
        assert!(would_block(lock.try_write()));
        assert!(would_block(lock.try_write_for(Duration::ZERO)));
        assert_eq!(shown(&lock), "RwLock { data: 1, poisoned: false, .. }");
    }
    {
        let mut writer = lock.write().unwrap();
        *writer += 1;
        assert!(would_block(lock.try_read()) && would_block(lock.try_write()));
        assert!(would_block(lock.try_read_until(Instant::now() - A_MOMENT)));
        assert!(would_block(lock.try_write_until(Instant::now() - A_MOMENT)));
        assert_eq!(shown(&lock), "RwLock { data: <locked>, poisoned: false, .. }");
    }
    *lock.get_mut().unwrap() += 1;
    assert_eq!(*lock.try_write_for(Duration::ZERO).unwrap(), 3);
    assert_eq!(*lock.try_read_for(Duration::ZERO).unwrap(), 3);
    assert_eq!(lock.into_inner().unwrap(), 3);
    assert_eq!(*RwLock::<u8>::default().read().unwrap(), 0);
}

macro_rules! poisoning_of_a_rwlock {
    ($lock:ty) => {{
        let mut lock = <$lock>::new(1);
        let mut seen = Vec::new();
        panic_with(|| lock.read());
        seen.push(lock.is_poisoned());
        panic_with(|| lock.write());
        seen.push(lock.is_poisoned());
        seen.push(lock.read().is_err() && lock.write().is_err());
        seen.push(is_poisoned(lock.try_read()) && is_poisoned(lock.try_write()));
        seen.push(lock.get_mut().is_err());
        seen.push(shown(&lock) == "RwLock { data: 1, poisoned: true, .. }");
        lock.clear_poison();
        seen.push(lock.read().is_ok() && lock.write().is_ok());
        panic_with(|| lock.write());
        seen.push(lock.into_inner().is_err());
        seen
    }};
}

#[test]
fn a_rwlock_is_poisoned_by_writers_as_in_std() {
    let ours = poisoning_of_a_rwlock!(RwLock<i32>);
    assert_eq!(ours, poisoning_of_a_rwlock!(std::sync::RwLock<i32>));
    assert_eq!(ours, [false, true, true, true, true, true, true, true]);
}

#[test]
fn a_waiting_writer_holds_new_readers_back_and_they_go_before_the_next_writer() {
    for kind in KINDS {
        let lock = Arc::new(RwLock::new(Vec::new()));
        let reading = lock.read().unwrap();
        let write = |name| {
            let lock = Arc::clone(&lock);
            let writer = kind.start(move || lock.write().unwrap().push(name));
            writer.until_it_waits("rwlock write");
            writer
        };
        let first = write("first");
        assert!(would_block(lock.try_read()), "a writer waits");
        let all_three = Arc::new(Barrier::new(3));
        let readers: Vec<_> = (0..3)
            .map(|_| {
                let (lock, all_three) = (Arc::clone(&lock), Arc::clone(&all_three));
                let reader = kind.start(move || {
                    let seen = lock.read().unwrap();
                    all_three.wait();
                    seen.len()
                });
                reader.until_it_waits("rwlock read");
                reader
            })
            .collect();
        let second = {
            let lock = Arc::clone(&lock);
            kind.start(move || lock.write().unwrap().push("second"))
        };
        second.until_it_waits("rwlock write");
        assert_eq!(reading.len(), 0);
        drop(reading);
        first.join();
        for reader in readers {
            assert_eq!(reader.join(), 1, "the readers go between the writers");
        }
        second.join();
        assert_eq!(*lock.read().unwrap(), ["first", "second"]);
    }
}

#[test]
fn a_writer_that_gives_up_lets_readers_in() {
    for kind in KINDS {
        let lock = Arc::new(RwLock::new(()));
        let reading = lock.read().unwrap();
        let gives_up = Arc::clone(&lock);
        let writer = kind.start(move || would_block(gives_up.try_write_for(8 * A_MOMENT)));
        let held_back = Arc::clone(&lock);
        let reader = kind.start(move || drop(held_back.read().unwrap()));
        assert!(writer.join());
        // We read still.
        reader.join();
        drop(reading);
        assert!(lock.try_write().is_ok());
    }
}

#[test]
fn waits_for_a_rwlock_end_with_their_time_or_in_time() {
    for kind in KINDS {
        let lock = Arc::new(RwLock::new(()));
        let writing = lock.write().unwrap();
        let (a, b, c) = (Arc::clone(&lock), Arc::clone(&lock), Arc::clone(&lock));
        assert!(kind.start(move || would_block(a.try_read_for(A_MOMENT))).join());
        assert!(kind.start(move || would_block(b.try_write_for(A_MOMENT))).join());
        let reader = kind.start(move || c.try_read_for(PLENTY).is_ok());
        reader.until_it_waits("rwlock read");
        drop(writing);
        assert!(reader.join());
        assert!(lock.try_write().is_ok());
    }
}

#[test]
fn a_downgrade_lets_readers_in_and_no_writer() {
    for kind in KINDS {
        let lock = Arc::new(RwLock::new(0));
        let mut writing = lock.write().unwrap();
        let (reads, writes) = (Arc::clone(&lock), Arc::clone(&lock));
        let reader = kind.start(move || *reads.read().unwrap());
        reader.until_it_waits("rwlock read");
        let writer = kind.start(move || *writes.write().unwrap() = 2);
        writer.until_it_waits("rwlock write");
        *writing = 1;
        let reading = RwLockWriteGuard::downgrade(writing);
        assert_eq!(reader.join(), 1);
        assert_eq!(*reading, 1);
        drop(reading);
        writer.join();
        assert_eq!(lock.read().map(|value| *value).unwrap(), 2);
    }
}

/// More readers than are let go at a time.
#[test]
fn a_crowd_of_readers_is_let_in() {
    let lock = Arc::new(RwLock::new(1));
    let mut writing = lock.write().unwrap();
    let readers: Vec<_> = (0..200)
        .map(|_| {
            let lock = Arc::clone(&lock);
            Kind::Goroutine.start(move || *lock.read().unwrap())
        })
        .collect();
    readers.iter().for_each(|reader| reader.until_it_waits("rwlock read"));
    *writing = 2;
    drop(writing);
    assert!(readers.into_iter().all(|reader| reader.join() == 2));
    assert!(lock.try_write().is_ok());
}

// ---- Condvar ----

#[test]
fn one_who_waits_is_notified_and_no_other() {
    for kind in KINDS {
        let shared = Arc::new((Mutex::new(0), Condvar::new()));
        let waiting: Vec<_> = (0..3)
            .map(|_| {
                let shared = Arc::clone(&shared);
                let waiting = kind.start(move || {
                    let mut tokens =
                        shared.1.wait_while(shared.0.lock().unwrap(), |t| *t == 0).unwrap();
                    *tokens -= 1;
                });
                waiting.until_it_waits("cond wait");
                waiting
            })
            .collect();
        for waiting in waiting {
            *shared.0.lock().unwrap() += 1;
            shared.1.notify_one();
            // First come, first served.
            waiting.join();
            assert_eq!(*shared.0.lock().unwrap(), 0);
        }
        shared.1.notify_one();
        shared.1.notify_all();
    }
}

#[test]
fn all_who_wait_are_notified() {
    for (kind, count) in [(Kind::Goroutine, 100), (Kind::Thread, 5)] {
        let shared = Arc::new((Mutex::new(false), Condvar::new()));
        let waiting: Vec<_> = (0..count)
            .map(|_| {
                let shared = Arc::clone(&shared);
                kind.start(move || {
                    let mut go_on = shared.0.lock().unwrap();
                    while !*go_on {
                        go_on = shared.1.wait(go_on).unwrap();
                    }
                })
            })
            .collect();
        waiting.iter().for_each(|waiting| waiting.until_it_waits("cond wait"));
        *shared.0.lock().unwrap() = true;
        shared.1.notify_all();
        waiting.into_iter().for_each(|waiting| waiting.join());
    }
}

#[test]
fn a_wait_with_a_time_says_how_it_ended() {
    for kind in KINDS {
        let shared = Arc::new((Mutex::new(0), Condvar::new()));
        let late = Arc::clone(&shared);
        kind.start(move || {
            let start = Instant::now();
            let guard = late.0.lock().unwrap();
            let (guard, result) = late.1.wait_timeout(guard, A_MOMENT).unwrap();
            assert!(result.timed_out() && start.elapsed() >= A_MOMENT);
            let (guard, result) = late.1.wait_timeout(guard, Duration::ZERO).unwrap();
            assert!(result.timed_out());
            let (guard, result) = late.1.wait_timeout_while(guard, A_MOMENT, |n| *n == 0).unwrap();
            assert!(result.timed_out());
            let (_guard, result) = late.1.wait_timeout_while(guard, A_MOMENT, |n| *n == 1).unwrap();
            assert!(!result.timed_out(), "it did not hold to begin with");
        })
        .join();
        let in_time = Arc::clone(&shared);
        let waiting = kind.start(move || {
            let guard = in_time.0.lock().unwrap();
            let (guard, result) =
                in_time.1.wait_timeout_while(guard, Duration::MAX, |n| *n == 0).unwrap();
            assert!(!result.timed_out());
            *guard
        });
        waiting.until_it_waits("cond wait");
        *shared.0.lock().unwrap() = 5;
        shared.1.notify_one();
        assert_eq!(waiting.join(), 5);
    }
}

#[test]
fn a_wait_tells_of_poison() {
    for kind in KINDS {
        let shared = Arc::new((Mutex::new(()), Condvar::new()));
        let waits = Arc::clone(&shared);
        let waiting = kind.start(move || waits.1.wait(waits.0.lock().unwrap()).is_err());
        waiting.until_it_waits("cond wait");
        panic_with(|| shared.0.lock());
        shared.1.notify_all();
        assert!(waiting.join());
        let (guard, condvar) = (shared.0.lock().unwrap_err().into_inner(), &shared.1);
        let (_guard, result) = condvar.wait_timeout(guard, A_MOMENT).unwrap_err().into_inner();
        assert!(result.timed_out());
    }
}

/// One who gives up takes no notification along.
#[test]
fn who_gives_up_at_a_condvar_leaves_the_notification_to_others() {
    for kind in KINDS {
        let shared = Arc::new((Mutex::new(false), Condvar::new()));
        let (late, waits) = (Arc::clone(&shared), Arc::clone(&shared));
        let late = kind.start(move || {
            let guard = late.0.lock().unwrap();
            late.1.wait_timeout(guard, 8 * A_MOMENT).unwrap().1.timed_out()
        });
        late.until_it_waits("cond wait");
        let waiting = kind.start(move || {
            drop(waits.1.wait_while(waits.0.lock().unwrap(), |done| !*done).unwrap());
        });
        waiting.until_it_waits("cond wait");
        assert!(late.join());
        *shared.0.lock().unwrap() = true;
        shared.1.notify_one();
        waiting.join();
    }
}

// ---- lock_api ----

#[test]
fn the_raw_locks_serve_generic_code() {
    use lock_api::{RawMutexFair as _, RawRwLockDowngrade as _};
    fn counts<R: lock_api::RawMutexTimed>(lock: &lock_api::Mutex<R, u32>) -> u32
    where
        R::Duration: From<Duration>,
    {
        *lock.lock() += 1;
        *lock.try_lock_for(Duration::ZERO.into()).expect("it is free")
    }
    static COUNTER: raw::Mutex<u32> = raw::Mutex::new(0);
    assert_eq!(counts(&COUNTER), 1);
    let guard = COUNTER.lock();
    assert!(COUNTER.try_lock().is_none() && COUNTER.is_locked());
    assert!(COUNTER.try_lock_until(Instant::now() - A_MOMENT).is_none());
    let waiting = Kind::Goroutine.start(|| *COUNTER.lock());
    waiting.until_it_waits("mutex lock");
    raw::MutexGuard::unlock_fair(guard);
    assert_eq!(waiting.join(), 1);

    let shared = raw::RwLock::new(1);
    let mut writing = shared.write();
    assert!(shared.is_locked_exclusive() && shared.try_read_for(A_MOMENT).is_none());
    *writing += 1;
    let reading = raw::RwLockWriteGuard::downgrade(writing);
    assert!(!shared.is_locked_exclusive() && shared.is_locked());
    assert_eq!(*reading + *shared.read(), 4);
    assert!(shared.try_write_for(A_MOMENT).is_none());
    drop(reading);
    // SAFETY: each is taken just before.
    unsafe {
        let (mutex, rwlock) = (COUNTER.raw(), shared.raw());
        lock_api::RawMutex::lock(mutex);
        mutex.unlock_fair();
        lock_api::RawRwLock::lock_exclusive(rwlock);
        rwlock.downgrade();
        lock_api::RawRwLock::unlock_shared(rwlock);
    }
    assert!(!COUNTER.is_locked() && !shared.is_locked());
}

/// Guards of a part: who has one has the whole lock, until it is dropped, wherever it has come by.
#[test]
fn a_guard_of_a_part_holds_the_whole_lock() {
    use raw::{MappedMutexGuard, MutexGuard};
    for kind in KINDS {
        let pair = Arc::new(raw::Mutex::new((1, vec![2, 3])));
        let list = MutexGuard::map(pair.lock(), |pair| &mut pair.1);
        let Err(list) = MappedMutexGuard::try_map(list, |list| list.get_mut(7)) else {
            panic!("there is no such number");
        };
        let mut last = MappedMutexGuard::map(list, |list| &mut list[1]);
        assert!(pair.is_locked() && pair.try_lock().is_none());
        let other = Arc::clone(&pair);
        let waiting = kind.start(move || *MutexGuard::map(other.lock(), |pair| &mut pair.0));
        waiting.until_it_waits("mutex lock");
        *last += 1;
        assert_eq!(shown(&last), "4");
        drop(last);
        assert_eq!(waiting.join(), 1);
        let number = MutexGuard::try_map(pair.lock(), |pair| pair.1.first_mut()).ok().unwrap();
        let other = Arc::clone(&pair);
        let waiting = kind.start(move || other.lock().1.clone());
        waiting.until_it_waits("mutex lock");
        MappedMutexGuard::unlock_fair(number);
        assert_eq!(waiting.join(), [2, 4]);
    }
}

#[test]
fn readers_and_writers_of_a_part_are_readers_and_writers() {
    use raw::{MappedRwLockReadGuard, MappedRwLockWriteGuard, RwLockReadGuard, RwLockWriteGuard};
    for kind in KINDS {
        let pair = Arc::new(raw::RwLock::new((1, [2, 3])));
        let first = RwLockReadGuard::map(pair.read(), |pair| &pair.0);
        let numbers = RwLockReadGuard::try_map(pair.read(), |pair| Some(&pair.1)).ok().unwrap();
        let second = MappedRwLockReadGuard::map(numbers, |numbers| &numbers[1]);
        assert_eq!((*first, *second), (1, 3));
        let other = Arc::clone(&pair);
        let writing = kind.start(move || {
            let numbers = RwLockWriteGuard::map(other.write(), |pair| &mut pair.1);
            let mut number = MappedRwLockWriteGuard::map(numbers, |numbers| &mut numbers[1]);
            *number += 1;
            assert!(other.is_locked_exclusive() && other.try_read().is_none());
        });
        writing.until_it_waits("rwlock write");
        drop(first);
        assert!(writing.waits("rwlock write") && pair.try_write().is_none());
        drop(second);
        writing.join();
        assert!(!pair.is_locked() && pair.read().1 == [2, 4]);
    }
}

/// A closure that panics while it chooses the part has the lock given back, and there is no poison.
#[test]
fn a_part_that_is_chosen_in_vain_leaves_the_lock_free() {
    let mutex = raw::Mutex::new(1);
    let lock = raw::RwLock::new(1);
    let panics = |f: &dyn Fn()| assert!(catch_unwind(AssertUnwindSafe(f)).is_err());
    panics(&|| drop(raw::MutexGuard::map(mutex.lock(), |_| -> &mut u8 { panic!("choosing") })));
    panics(&|| drop(raw::RwLockReadGuard::map(lock.read(), |_| -> &u8 { panic!("choosing") })));
    panics(&|| {
        drop(raw::RwLockWriteGuard::map(lock.write(), |_| -> &mut u8 { panic!("choosing") }))
    });
    assert!(mutex.try_lock().is_some() && lock.try_write().is_some());
}
