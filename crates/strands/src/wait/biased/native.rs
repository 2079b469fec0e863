//! The biased lock with what it protects, and the records of threads.

use super::*;
use crate::wait::ShortLock;
use std::cell::{Cell, UnsafeCell};
use std::marker::PhantomData;
use std::ops::{Deref, DerefMut};

/// Stands for the threads that have no record: they take locks as others do.
static NOBODY: Whereabouts = Whereabouts::new();

/// The records of threads that have ended, one after the other.
static SPARE: ShortLock<Option<&'static Whereabouts>> = ShortLock::new(None);

thread_local! {
    /// The record of the thread that runs. No thread-local with a destructor, so that it can be asked for to the end.
    static ME: Cell<&'static Whereabouts> = const { Cell::new(&NOBODY) };
    static AT_THE_END: AtTheEnd = const { AtTheEnd };
}

struct AtTheEnd;

impl Drop for AtTheEnd {
    fn drop(&mut self) {
        let mine = ME.replace(&NOBODY);
        // Nobody waits for a lock while it has one, so the thread is nowhere inside.
        let mut spare = SPARE.lock();
        let next = spare.map_or(ptr::null_mut(), Whereabouts::as_owner);
        // Ordering: Relaxed, here and below; under the lock.
        mine.next.store(next, Ordering::Relaxed);
        *spare = Some(mine);
    }
}

/// Where the thread-local is that leads to the record, of the thread that asks.
pub(crate) fn place_of_whereabouts() -> *const Cell<&'static Whereabouts> {
    ME.with(ptr::from_ref)
}

/// The record of the thread that runs, which it gets now if it has none. A goroutine with thread-locals of its own is
/// lent that of the thread on which it has its turn: it does not move while it has a lock.
#[inline]
pub(crate) fn whereabouts() -> &'static Whereabouts {
    let me = ME.get();
    if ptr::eq(me, &NOBODY) { first_whereabouts() } else { me }
}

#[cold]
#[inline(never)]
fn first_whereabouts() -> &'static Whereabouts {
    // Once the destructor has run there is none any more.
    if AT_THE_END.try_with(|_| ()).is_ok() {
        ME.set(one_of_the_spare().unwrap_or_else(|| Box::leak(Box::new(Whereabouts::new()))));
    }
    ME.get()
}

fn one_of_the_spare() -> Option<&'static Whereabouts> {
    let mut spare = SPARE.lock();
    let found = (*spare)?;
    // SAFETY: null, or from a reference that lasts for ever.
    *spare = unsafe { found.next.load(Ordering::Relaxed).as_ref() };
    Some(found)
}

/// A short lock that may become biased. What holds for one holds for the other.
#[repr(C)]
pub(crate) struct BiasedLock<T> {
    bias: Bias,
    value: UnsafeCell<T>,
}

// SAFETY: the lock hands the value from thread to thread, one at a time.
unsafe impl<T: Send> Send for BiasedLock<T> {}
// SAFETY: as above.
unsafe impl<T: Send> Sync for BiasedLock<T> {}

impl<T> BiasedLock<T> {
    pub(crate) fn new(value: T) -> BiasedLock<T> {
        BiasedLock { bias: Bias::new(), value: UnsafeCell::new(value) }
    }

    #[inline]
    pub(crate) fn lock(&self) -> BiasedLockGuard<'_, T> {
        match self.quick() {
            Some(guard) => guard,
            None => self.lock_slow(),
        }
    }

    /// The lock, if it can be had with a few instructions.
    #[inline(always)]
    pub(crate) fn quick(&self) -> Option<BiasedLockGuard<'_, T>> {
        self.bias.quick(ME.get()).map(|taken| self.guard(taken))
    }

    #[cold]
    fn lock_slow(&self) -> BiasedLockGuard<'_, T> {
        let me = whereabouts();
        self.guard(self.bias.lock(me, !ptr::eq(me, &NOBODY)))
    }

    /// Says that the thread will not take the lock for a while.
    #[cold]
    pub(crate) fn step_back(&self) {
        self.bias.step_back(ME.get());
    }

    #[inline(always)]
    fn guard<'a>(&'a self, taken: Taken<'a>) -> BiasedLockGuard<'a, T> {
        BiasedLockGuard { value: &self.value, taken, not_send: PhantomData }
    }
}

pub(crate) struct BiasedLockGuard<'a, T> {
    value: &'a UnsafeCell<T>,
    taken: Taken<'a>,
    not_send: PhantomData<*mut ()>,
}

impl<T> Deref for BiasedLockGuard<'_, T> {
    type Target = T;

    #[inline]
    fn deref(&self) -> &T {
        // SAFETY: we hold the lock.
        unsafe { &*self.value.get() }
    }
}

impl<T> DerefMut for BiasedLockGuard<'_, T> {
    #[inline]
    fn deref_mut(&mut self) -> &mut T {
        // SAFETY: we hold the lock, and `self` is borrowed for writing.
        unsafe { &mut *self.value.get() }
    }
}

impl<T> Drop for BiasedLockGuard<'_, T> {
    #[inline]
    fn drop(&mut self) {
        // Ordering: Release pairs with the Acquire of the next who takes it, by whichever way.
        self.taken.store(0, Ordering::Release);
    }
}

#[cfg(test)]
mod tests {
    use super::super::tests::granted;
    use super::super::{AGAIN, STREAK};
    use super::*;
    use std::sync::Arc;
    use std::thread;

    #[test]
    fn a_thread_has_one_record_and_leaves_it_to_a_later_one() {
        let here = whereabouts();
        assert!(ptr::eq(here, whereabouts()));
        // Other tests start threads as well; but a hundred do not all come in between.
        let later = || thread::spawn(|| ptr::from_ref(whereabouts()).addr()).join().unwrap();
        let mut seen: Vec<usize> = (0..100).map(|_| later()).collect();
        assert!(!seen.contains(&ptr::from_ref(here).addr()));
        seen.sort_unstable();
        seen.dedup();
        assert!(seen.len() < 100, "nobody's record was used again");
    }

    #[test]
    fn a_lock_can_be_taken_while_a_thread_comes_to_its_end() {
        struct Last(Arc<BiasedLock<u32>>);
        impl Drop for Last {
            fn drop(&mut self) {
                // The record may be another thread's by now, which would be inside of the same locks by the same word.
                assert!(ptr::eq(whereabouts(), &NOBODY));
                (0..3 * STREAK).for_each(|_| *self.0.lock() += 1);
                assert!(ptr::eq(whereabouts(), &NOBODY));
            }
        }
        thread_local! {
            static FIRST: std::cell::RefCell<Option<Last>> = const { std::cell::RefCell::new(None) };
        }
        granted();
        let lock = Arc::new(BiasedLock::new(0));
        for _ in 0..3 {
            let lock = Arc::clone(&lock);
            let thread = thread::spawn(move || {
                // Dropped after the thread-locals that are first used later than it.
                FIRST.set(Some(Last(Arc::clone(&lock))));
                (0..3 * STREAK).for_each(|_| *lock.lock() += 1);
            });
            thread.join().unwrap();
        }
        assert_eq!(*lock.lock(), 3 * 6 * STREAK);
    }

    /// Who has it steps back at times, and others use it in long and in short streaks.
    #[test]
    fn increments_are_not_lost_whichever_way_the_bias_goes() {
        granted();
        let rounds = if cfg!(miri) { 2 } else { 100 };
        let lock = Arc::new(BiasedLock::new(0));
        let threads = [1, 7, 100, 2 * AGAIN.0, 3 * STREAK].map(|streak| {
            let lock = Arc::clone(&lock);
            thread::spawn(move || {
                for round in 0..rounds {
                    (0..streak).for_each(|_| *lock.lock() += 1);
                    if round % 2 == 0 {
                        lock.step_back();
                    }
                    thread::yield_now();
                }
                rounds * streak
            })
        });
        let all: u32 = threads.map(|thread| thread.join().unwrap()).iter().sum();
        assert_eq!(*lock.lock(), all);
    }

    #[test]
    fn increments_are_not_lost_when_the_bias_is_taken_away() {
        granted();
        for _ in 0..if cfg!(miri) { 2 } else { 200 } {
            let lock = Arc::new(BiasedLock::new(0u32));
            let (owner, other) = (Arc::clone(&lock), Arc::clone(&lock));
            let owner = thread::spawn(move || {
                for _ in 0..10 * STREAK {
                    *owner.lock() += 1;
                }
            });
            let other = thread::spawn(move || {
                while *other.lock() < STREAK + 100 {
                    thread::yield_now();
                }
                for _ in 0..STREAK {
                    *other.lock() += 1;
                }
            });
            owner.join().unwrap();
            other.join().unwrap();
            assert_eq!(*lock.lock(), 11 * STREAK);
        }
    }
}
