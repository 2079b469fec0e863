//! Safe code that means no good: what is forgotten, dropped in odd orders, panics half-way, or comes back in.

mod child;
mod waiting;

use child::wait_until;
use std::cell::RefCell;
use std::panic::{AssertUnwindSafe, catch_unwind};
use std::sync::atomic::{AtomicBool, AtomicUsize, Ordering::SeqCst};
use std::task::Poll;
use std::time::{Duration, Instant};
use strands::channel::bounded;
use strands::context::{self, Context, ContextError};
use strands::sync::{
    Arc, Condvar, LazyLock, Mutex, MutexGuard, OnceLock, Pool, RwLock, RwLockReadGuard, Semaphore,
    WaitGroup,
};
use strands::{go, goroutine_local};
use waiting::{A_MOMENT, KINDS, Polled, block_on};

#[test]
fn a_forgotten_guard_keeps_the_lock_and_no_more() {
    let locks = Arc::new((Mutex::new(1), RwLock::new(2), RwLock::new(3)));
    std::mem::forget(locks.0.lock());
    std::mem::forget(locks.1.read());
    std::mem::forget(locks.2.write());
    for kind in KINDS {
        let locks = Arc::clone(&locks);
        kind.start(move || {
            assert!(locks.0.try_lock_for(A_MOMENT).is_err());
            assert!(locks.1.try_write_for(A_MOMENT).is_err());
            assert_eq!(*locks.1.read().unwrap(), 2);
            assert!(locks.2.try_read_for(A_MOMENT).is_err());
            assert!(locks.2.try_write_for(A_MOMENT).is_err());
        })
        .join();
    }
    let (mutex, read, written) = Arc::into_inner(locks).unwrap();
    let all = (mutex.into_inner(), read.into_inner(), written.into_inner());
    assert_eq!((all.0.unwrap(), all.1.unwrap(), all.2.unwrap()), (1, 2, 3));
}

/// However it ends, and wherever it has what it holds: on its stack, in a local of its own, in the panic's payload, in a
/// result that nobody takes.
#[test]
fn a_goroutine_that_has_ended_holds_nothing() {
    static LOCK: Mutex<u8> = Mutex::new(0);
    static SHARED: RwLock<u8> = RwLock::new(0);
    static GATE: LazyLock<Arc<Semaphore>> = LazyLock::new(|| Arc::new(Semaphore::new(3)));
    goroutine_local! {
        static LOCKED: RefCell<Option<MutexGuard<'static, u8>>> = const { RefCell::new(None) };
        static READS: RefCell<Option<RwLockReadGuard<'static, u8>>> = const { RefCell::new(None) };
    }
    for panics in [false, true] {
        let holds = go(move || {
            LOCKED.with(|place| *place.borrow_mut() = LOCK.lock().ok());
            READS.with(|place| *place.borrow_mut() = SHARED.read().ok());
            let _reads = SHARED.read();
            let _permit = GATE.acquire();
            strands::yield_now();
            let owned = [(); 2].map(|()| Arc::clone(&GATE).acquire_owned().unwrap());
            assert!(LOCK.try_lock().is_err() && SHARED.try_write().is_err());
            if panics {
                std::panic::panic_any(owned);
            }
            owned
        });
        let outcome = holds.join();
        assert_eq!(outcome.is_err(), panics);
        assert_eq!(GATE.available_permits(), 1, "two are in the outcome");
        drop(outcome);
        assert_eq!(GATE.available_permits(), 3);
        // Those in the locals were given back after the panic, so that nothing is poisoned.
        assert!(LOCK.try_lock().is_ok() && SHARED.try_write().is_ok());
        let (had, has_had) = bounded(0);
        drop(go(move || {
            let permits = Arc::clone(&GATE).acquire_many_owned(3).unwrap();
            had.send(()).unwrap();
            permits
        }));
        has_had.recv().unwrap();
        wait_until("the result that nobody takes is dropped", || GATE.available_permits() == 3);
    }
}

/// What they have in the line stays where it is, for they were pinned; and nobody looks at it once the lock is gone.
#[test]
fn forgotten_futures_may_outlive_their_lock() {
    for polls in [1, 2] {
        let (mutex, lock, gate, group) =
            (Mutex::new(0), RwLock::new(0), Semaphore::new(0), WaitGroup::new());
        group.add(1);
        let (held, written) = (mutex.lock().unwrap(), lock.write().unwrap());
        {
            let mut locking = Box::pin(mutex.lock_async());
            let mut reading = Box::pin(lock.read_async());
            let mut writing = Box::pin(lock.write_async());
            let mut acquiring = Box::pin(gate.acquire_many_async(2));
            let mut waiting = Box::pin(group.wait_async());
            for _ in 0..polls {
                assert!(Polled::new(locking.as_mut()).poll().is_pending());
                assert!(Polled::new(reading.as_mut()).poll().is_pending());
                assert!(Polled::new(writing.as_mut()).poll().is_pending());
                assert!(Polled::new(acquiring.as_mut()).poll().is_pending());
                assert!(Polled::new(waiting.as_mut()).poll().is_pending());
            }
            std::mem::forget((locking, reading, writing, acquiring, waiting));
        }
        drop((held, written));
        gate.add_permits(1);
        group.done();
        drop((mutex, lock, gate, group));
    }
}

#[test]
fn futures_are_dropped_in_any_order_and_the_rest_are_served() {
    // Of three in line two go, in each order.
    for first in 0..3 {
        for second in (0..3).filter(|second| *second != first) {
            let (mutex, lock) = (Mutex::new(0), RwLock::new(0));
            let (held, read) = (mutex.lock().unwrap(), lock.read().unwrap());
            let mut locking = [(); 3].map(|()| Some(Box::pin(mutex.lock_async())));
            let mut writing = [(); 3].map(|()| Some(Box::pin(lock.write_async())));
            for (one, other) in locking.iter_mut().flatten().zip(writing.iter_mut().flatten()) {
                assert!(Polled::new(one.as_mut()).poll().is_pending());
                assert!(Polled::new(other.as_mut()).poll().is_pending());
            }
            (locking[first], writing[first]) = (None, None);
            drop((held, read));
            (locking[second], writing[second]) = (None, None);
            locking.into_iter().flatten().for_each(|one| *block_on(one).unwrap() += 1);
            writing.into_iter().flatten().for_each(|one| *block_on(one).unwrap() += 1);
            assert_eq!((*mutex.try_lock().unwrap(), *lock.try_write().unwrap()), (1, 1));
        }
    }
}

/// One has the lock again and again, so that it comes to take nobody into account; another wants it now and then, in every
/// way there is, and gives up at times. It is alone: a third one would have the owner look for those who wait.
#[test]
fn a_lock_that_is_hardly_ever_waited_for_forgets_nobody_and_loses_no_turn() {
    const ROUNDS: u64 = 300;
    for kind in KINDS {
        let (lock, is_over) = (Arc::new(Mutex::new(0_u64)), Arc::new(AtomicBool::new(false)));
        let owner = {
            let (lock, is_over) = (Arc::clone(&lock), Arc::clone(&is_over));
            std::thread::spawn(move || {
                let mut turns = 0_u64;
                while !is_over.load(SeqCst) {
                    *lock.lock().unwrap() += 1;
                    turns += 1;
                }
                turns
            })
        };
        let wants_it = Arc::clone(&lock);
        let other = kind.start(move || {
            let lock = wants_it;
            let mut turns = 0;
            for round in 0..ROUNDS {
                // Long enough for some thousand turns of the owner's.
                strands::sleep(Duration::from_micros(200));
                match round % 4 {
                    0 | 1 => {
                        let patience = Duration::from_secs(60);
                        *lock.try_lock_for(patience).expect("forgotten in line") += 1;
                    }
                    2 => match lock.try_lock_for(Duration::from_micros(round)) {
                        Ok(mut count) => *count += 1,
                        Err(_) => continue,
                    },
                    _ => {
                        // It may be in line when it is dropped, and may have been chosen.
                        let mut waits = Polled::new(lock.lock_async());
                        match waits.poll() {
                            Poll::Ready(count) => *count.unwrap() += 1,
                            Poll::Pending => continue,
                        }
                    }
                }
                turns += 1;
            }
            turns
        });
        // The owner is to end whatever has become of the other.
        let turns: Result<u64, _> = other.outcome();
        is_over.store(true, SeqCst);
        let all = owner.join().unwrap() + turns.expect("it was served");
        assert_eq!(*lock.lock().unwrap(), all);
    }
}

#[test]
fn guards_are_dropped_in_any_order() {
    let lock = RwLock::new(0);
    let mut guards: Vec<_> = (0..5).map(|_| Some(lock.read().unwrap())).collect();
    for n in [3, 0, 4, 1, 2] {
        assert!(lock.try_write().is_err());
        guards[n] = None;
    }
    assert!(lock.try_write().is_ok());
    let (one, other) = (Mutex::new(()), Mutex::new(()));
    let guards = (one.lock().unwrap(), other.lock().unwrap());
    drop(guards.0);
    assert!(one.try_lock().is_ok() && other.try_lock().is_err());
}

#[test]
fn times_may_be_none_at_all_past_and_for_ever() {
    let past = Instant::now().checked_sub(A_MOMENT).unwrap();
    let (mutex, lock, gate) = (Mutex::new(()), RwLock::new(()), Semaphore::new(1));
    for time in [Duration::ZERO, Duration::MAX] {
        assert!(mutex.try_lock_for(time).is_ok());
        assert!(lock.try_read_for(time).is_ok() && lock.try_write_for(time).is_ok());
        assert!(gate.acquire_timeout(time).is_ok());
    }
    assert!(mutex.try_lock_until(past).is_ok());
    assert!(lock.try_read_until(past).is_ok() && lock.try_write_until(past).is_ok());
    let held = (mutex.lock().unwrap(), lock.read().unwrap(), gate.acquire().unwrap());
    assert!(mutex.try_lock_for(Duration::ZERO).is_err() && mutex.try_lock_until(past).is_err());
    assert!(lock.try_write_for(Duration::ZERO).is_err() && lock.try_write_until(past).is_err());
    assert!(lock.try_read_until(past).is_ok(), "the writer that gave up is in nobody's way");
    assert!(gate.acquire_timeout(Duration::ZERO).is_err() && gate.acquire_deadline(past).is_err());
    drop(held);
    for kind in KINDS {
        let pair = Arc::new((Mutex::new(false), Condvar::new()));
        let other = Arc::clone(&pair);
        let waiting = kind.start(move || {
            let guard = other.0.lock().unwrap();
            let (guard, result) =
                other.1.wait_timeout_while(guard, Duration::ZERO, |ready| !*ready).unwrap();
            assert!(result.timed_out() && !*guard);
            let (guard, result) =
                other.1.wait_timeout_while(guard, Duration::MAX, |ready| !*ready).unwrap();
            *guard && !result.timed_out()
        });
        waiting.until_it_waits("cond wait");
        *pair.0.lock().unwrap() = true;
        pair.1.notify_all();
        assert!(waiting.join());
    }
}

#[test]
fn a_condition_that_panics_poisons_and_unlocks() {
    let pair = (Mutex::new(0), Condvar::new());
    let wait = || pair.1.wait_while(pair.0.lock().unwrap(), |_| panic!("a panic that is meant"));
    assert!(catch_unwind(AssertUnwindSafe(wait)).is_err());
    assert!(
        pair.0.is_poisoned()
            && !matches!(pair.0.try_lock(), Err(strands::sync::TryLockError::WouldBlock))
    );
    pair.0.clear_poison();
    let under = context::background();
    let mut looks = 0;
    let (ctx, cancel) = context::with_cancel(&under);
    cancel.cancel();
    let wait = || {
        let look = |_: &mut i32| {
            looks += 1;
            assert!(looks < 2, "a panic that is meant");
            true
        };
        pair.1.wait_while_ctx(pair.0.lock().unwrap(), look, &ctx)
    };
    assert!(catch_unwind(AssertUnwindSafe(wait)).is_err());
    assert!(
        pair.0.is_poisoned()
            && !matches!(pair.0.try_lock(), Err(strands::sync::TryLockError::WouldBlock))
    );
}

/// Locks again what it was guarded by, and notifies, while a panic is under way.
#[test]
fn a_drop_in_a_panic_may_use_every_lock() {
    struct Busy(Arc<(Mutex<u32>, Condvar, RwLock<u32>, Semaphore)>);
    impl Drop for Busy {
        fn drop(&mut self) {
            *self.0.0.lock().unwrap() += 1;
            self.0.1.notify_all();
            *self.0.2.write().unwrap() += 1;
            drop(self.0.3.acquire().unwrap());
            strands::yield_now();
        }
    }
    let shared = Arc::new((Mutex::new(0), Condvar::new(), RwLock::new(0), Semaphore::new(1)));
    let all: Vec<_> = (0..8)
        .map(|_| {
            let busy = Busy(Arc::clone(&shared));
            go(move || {
                let _busy = busy;
                panic!("a panic that is meant");
            })
        })
        .collect();
    all.into_iter().for_each(|one| _ = one.join().unwrap_err());
    // Who was panicking already when it locked has poisoned nothing.
    assert_eq!((*shared.0.lock().unwrap(), *shared.2.read().unwrap()), (8, 8));
}

#[test]
fn what_a_place_or_a_pool_holds_may_come_back_in_when_dropped() {
    static POOL: LazyLock<Pool<Returning>> = LazyLock::new(|| Pool::new(|| Returning));
    static DROPS: AtomicUsize = AtomicUsize::new(0);
    struct Returning;
    impl Drop for Returning {
        fn drop(&mut self) {
            // One of two: the other is made, or taken out of the pool, and goes back.
            if DROPS.fetch_add(1, SeqCst).is_multiple_of(2) {
                drop(POOL.get());
            }
        }
    }
    go(|| {
        let all: Vec<_> = (0..100).map(|_| POOL.get()).collect();
        drop(all);
        drop(Returning);
    })
    .join()
    .unwrap();
    let place = OnceLock::new();
    let made = catch_unwind(AssertUnwindSafe(|| {
        place.get_or_init(|| -> Vec<Returning> { panic!("a panic that is meant") }).len()
    }));
    assert!(made.is_err());
    assert_eq!(place.get_or_init(|| vec![Returning]).len(), 1);
    drop(place);
    assert!(DROPS.load(SeqCst) > 0);
}

#[test]
fn a_function_of_a_context_may_use_the_context_and_cancel_it_again() {
    let (ctx, cancel) = context::with_cancel(&context::background());
    let cancel = Arc::new(cancel);
    let (seen, is_seen) = bounded(3);
    for _ in 0..3 {
        let (ctx_again, cancel, seen) = (ctx.clone(), Arc::clone(&cancel), seen.clone());
        let after = context::after_func(&ctx, move || {
            cancel.cancel();
            let (child, _handle) = context::with_cancel(&ctx_again);
            let late = context::after_func(&child, || {});
            assert!(!late.stop(), "it has been called");
            seen.send(child.err()).unwrap();
        });
        std::mem::forget(after);
    }
    cancel.cancel();
    for _ in 0..3 {
        assert_eq!(is_seen.recv().unwrap(), Some(ContextError::Canceled));
    }
}

/// A value that looks at its context, and at its own lock, as it goes.
#[test]
fn values_of_a_context_are_dropped_where_locks_can_be_had() {
    struct Looking(Context, Arc<Mutex<u32>>);
    impl Drop for Looking {
        fn drop(&mut self) {
            assert!(self.0.err().is_some());
            *self.1.lock().unwrap() += 1;
        }
    }
    let count = Arc::new(Mutex::new(0));
    let (parent, cancel) = context::with_cancel(&context::background());
    let ctx = context::with_value(&parent, Looking(parent.clone(), Arc::clone(&count)));
    let (child, child_cancel) = context::with_cancel(&ctx);
    cancel.cancel();
    let guard = count.lock().unwrap();
    drop((parent, ctx));
    assert_eq!(*guard, 0, "the child has it still");
    drop(guard);
    drop((child_cancel, child));
    assert_eq!(*count.lock().unwrap(), 1);
}
