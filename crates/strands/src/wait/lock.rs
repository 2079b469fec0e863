//! A lock for critical sections of a few nanoseconds: one compare-and-swap to take, one plain store to
//! give back.
//!
//! It blocks the *thread*, so nothing may be suspended while it is held, and no user code (no `Drop`,
//! no `Clone`, no comparison) may run under it. In return it needs no goroutine to exist.
//!
//! Giving it back wakes nobody, which is what makes it cheap: a lock that wakes has to find out, by a
//! second atomic read-modify-write, whether anybody sleeps. Who finds it held spins for a moment; if the
//! holder still has not let go, the kernel must have taken it off its processor in mid-section, and we
//! give way, and then sleep: see `patience`.
//!
//! A lock that one thread takes again and again may do without the compare-and-swap: see `biased`.
//!
//! **Rejected.** A futex lock (std's, parking_lot's): 25 % of a rendezvous went into its unlocking.

use std::fmt;
use std::ops::{Deref, DerefMut};

#[cfg(not(loom))]
pub(crate) use native::{ShortLock, ShortLockGuard};
#[cfg(loom)]
pub(crate) use under_loom::{ShortLock, ShortLockGuard};

#[cfg(not(loom))]
mod native {
    use super::super::patience;
    use super::*;
    use std::cell::UnsafeCell;
    use std::marker::PhantomData;
    use std::sync::atomic::{AtomicBool, Ordering};

    pub(crate) struct ShortLock<T> {
        held: AtomicBool,
        value: UnsafeCell<T>,
    }

    // SAFETY: the lock hands the value from thread to thread, one at a time.
    unsafe impl<T: Send> Send for ShortLock<T> {}
    // SAFETY: as above.
    unsafe impl<T: Send> Sync for ShortLock<T> {}

    impl<T> ShortLock<T> {
        pub(crate) const fn new(value: T) -> ShortLock<T> {
            ShortLock { held: AtomicBool::new(false), value: UnsafeCell::new(value) }
        }

        #[inline]
        fn take(&self) -> bool {
            // Ordering: Acquire pairs with the Release in the guard's drop.
            self.held.compare_exchange(false, true, Ordering::Acquire, Ordering::Relaxed).is_ok()
        }

        #[inline]
        pub(crate) fn lock(&self) -> ShortLockGuard<'_, T> {
            if !self.take() {
                self.lock_slow();
            }
            ShortLockGuard { lock: self, not_send: PhantomData }
        }

        /// The lock if it is free just now.
        #[inline]
        pub(crate) fn try_lock(&self) -> Option<ShortLockGuard<'_, T>> {
            self.take().then(|| ShortLockGuard { lock: self, not_send: PhantomData })
        }

        #[cold]
        #[inline(never)]
        fn lock_slow(&self) {
            patience::until(|| !self.held.load(Ordering::Relaxed) && self.take());
        }
    }

    pub(crate) struct ShortLockGuard<'a, T> {
        lock: &'a ShortLock<T>,
        not_send: PhantomData<*mut ()>,
    }

    impl<T> Deref for ShortLockGuard<'_, T> {
        type Target = T;

        #[inline]
        fn deref(&self) -> &T {
            // SAFETY: we hold the lock.
            unsafe { &*self.lock.value.get() }
        }
    }

    impl<T> DerefMut for ShortLockGuard<'_, T> {
        #[inline]
        fn deref_mut(&mut self) -> &mut T {
            // SAFETY: we hold the lock, and `self` is borrowed for writing.
            unsafe { &mut *self.lock.value.get() }
        }
    }

    impl<T> Drop for ShortLockGuard<'_, T> {
        #[inline]
        fn drop(&mut self) {
            // Ordering: Release pairs with the Acquire of the next owner.
            self.lock.held.store(false, Ordering::Release);
        }
    }
}

#[cfg(loom)]
mod under_loom {
    use super::*;

    /// loom's mutex in our lock's shape.
    pub(crate) struct ShortLock<T>(loom::sync::Mutex<T>);

    pub(crate) struct ShortLockGuard<'a, T>(loom::sync::MutexGuard<'a, T>);

    impl<T> ShortLock<T> {
        pub(crate) fn new(value: T) -> ShortLock<T> {
            ShortLock(loom::sync::Mutex::new(value))
        }

        pub(crate) fn lock(&self) -> ShortLockGuard<'_, T> {
            ShortLockGuard(self.0.lock().unwrap())
        }

        pub(crate) fn try_lock(&self) -> Option<ShortLockGuard<'_, T>> {
            self.0.try_lock().ok().map(ShortLockGuard)
        }

        /// In the place of a biased lock, whose own models are with it: two ways to the same lock.
        pub(crate) fn quick(&self) -> Option<ShortLockGuard<'_, T>> {
            Some(self.lock())
        }
    }

    impl<T> Deref for ShortLockGuard<'_, T> {
        type Target = T;

        fn deref(&self) -> &T {
            &self.0
        }
    }

    impl<T> DerefMut for ShortLockGuard<'_, T> {
        fn deref_mut(&mut self) -> &mut T {
            &mut self.0
        }
    }
}

impl<T: fmt::Debug> fmt::Debug for ShortLock<T> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("ShortLock").field("value", &*self.lock()).finish()
    }
}

#[cfg(all(test, not(loom)))]
mod tests {
    use super::*;
    use std::sync::Arc;

    #[test]
    fn increments_under_the_lock_are_not_lost() {
        let lock = Arc::new(ShortLock::new(0u64));
        let threads: Vec<_> = (0..4)
            .map(|_| {
                let lock = Arc::clone(&lock);
                std::thread::spawn(move || {
                    for _ in 0..20_000 {
                        *lock.lock() += 1;
                    }
                })
            })
            .collect();
        for thread in threads {
            thread.join().unwrap();
        }
        assert_eq!(*lock.lock(), 80_000);
    }

    #[test]
    fn who_waits_for_long_naps_where_it_can_be_seen() {
        use super::super::patience::napping_place;
        use crate::sys::probe::{Activity, Probe};
        let lock = Arc::new(ShortLock::new(()));
        let guard = lock.lock();
        let (tell, told) = std::sync::mpsc::channel();
        let other = {
            let lock = Arc::clone(&lock);
            std::thread::spawn(move || {
                tell.send(crate::sys::thread_id()).unwrap();
                drop(lock.lock());
            })
        };
        let probe = Probe::open(told.recv().unwrap()).unwrap();
        while !matches!(probe.look(), Activity::Blocked(sleep) if sleep.argument == napping_place())
        {
            std::thread::yield_now();
        }
        drop(guard);
        other.join().unwrap();
    }

    #[test]
    fn a_held_lock_refuses_a_try_and_serves_who_waited() {
        let lock = Arc::new(ShortLock::new(()));
        let guard = lock.lock();
        assert!(lock.try_lock().is_none());
        let other = {
            let lock = Arc::clone(&lock);
            std::thread::spawn(move || drop(lock.lock()))
        };
        drop(guard);
        other.join().unwrap();
    }
}
