//! A lock for critical sections of a few nanoseconds: one compare-and-swap to take, one swap to give
//! back, a short spin and then the kernel when it is contended.
//!
//! It blocks the *thread*, so nothing may be suspended while it is held, and no user code (no `Drop`,
//! no `Clone`, no comparison) may run under it. In return it needs no goroutine to exist.
//!
//! | word | meaning |
//! |---|---|
//! | `FREE` | nobody holds it |
//! | `HELD` | held, nobody sleeps |
//! | `CONTENDED` | held, and somebody may sleep in the kernel |

use std::fmt;
use std::ops::{Deref, DerefMut};

#[cfg(not(loom))]
pub(crate) use native::ShortLock;
#[cfg(loom)]
pub(crate) use under_loom::ShortLock;

#[cfg(not(loom))]
mod native {
    use super::*;
    use crate::primitive::Futex;
    use std::cell::UnsafeCell;
    use std::marker::PhantomData;
    use std::sync::atomic::Ordering;

    const FREE: u32 = 0;
    const HELD: u32 = 1;
    const CONTENDED: u32 = 2;

    /// Guessed: about a microsecond, several times the longest section that the lock is meant for.
    const SPINS: u32 = 40;

    pub(crate) struct ShortLock<T> {
        word: Futex,
        value: UnsafeCell<T>,
    }

    // SAFETY: the lock hands the value from thread to thread, one at a time.
    unsafe impl<T: Send> Send for ShortLock<T> {}
    // SAFETY: as above.
    unsafe impl<T: Send> Sync for ShortLock<T> {}

    impl<T> ShortLock<T> {
        pub(crate) const fn new(value: T) -> ShortLock<T> {
            ShortLock { word: Futex::new(FREE), value: UnsafeCell::new(value) }
        }

        #[inline]
        pub(crate) fn lock(&self) -> ShortLockGuard<'_, T> {
            // Ordering: Acquire pairs with the Release in the guard's drop.
            if self.word.replace(FREE, HELD, Ordering::Acquire, Ordering::Relaxed).is_err() {
                self.lock_slow();
            }
            ShortLockGuard { lock: self, not_send: PhantomData }
        }

        /// The lock if it is free just now.
        #[inline]
        pub(crate) fn try_lock(&self) -> Option<ShortLockGuard<'_, T>> {
            self.word
                .replace(FREE, HELD, Ordering::Acquire, Ordering::Relaxed)
                .ok()
                .map(|_| ShortLockGuard { lock: self, not_send: PhantomData })
        }

        #[cold]
        fn lock_slow(&self) {
            for _ in 0..SPINS {
                if self.word.load(Ordering::Relaxed) == FREE
                    && self.word.replace(FREE, HELD, Ordering::Acquire, Ordering::Relaxed).is_ok()
                {
                    return;
                }
                std::hint::spin_loop();
            }
            // From here on we leave `CONTENDED` behind, since others may sleep: at worst it costs the
            // next owner one wake-up of nobody.
            while self.word.swap(CONTENDED, Ordering::Acquire) != FREE {
                self.word.wait(CONTENDED, None);
            }
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
            let word: *const Futex = &self.lock.word;
            // Ordering: Release pairs with the Acquire of the next owner.
            if self.lock.word.swap(FREE, Ordering::Release) == CONTENDED {
                // The next owner may already have freed the lock: only its address is used.
                Futex::wake_one(word);
            }
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
    fn a_held_lock_refuses_a_try_and_wakes_a_sleeper() {
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
