//! The atomics, cells and locks that the lock-free parts are built from: std's, or loom's when the
//! crate is compiled with `--cfg loom`, so that the very code that ships is the code that is checked.
//!
//! **Invariant:** `queue`, `wait`, `channel`, `sched::idle`, `sched::tenure` and what loom checks of `sync` take these from here and
//! nowhere else.

#[cfg(not(loom))]
pub(crate) use native::*;
#[cfg(loom)]
pub(crate) use under_loom::*;

#[cfg(not(loom))]
mod native {
    pub(crate) use std::hint;
    pub(crate) use std::sync::{Arc, Mutex, MutexGuard, atomic};

    /// Full barriers of which one side of a protocol has none to pay for, as the other sees to both. See
    /// `sys::membarrier`.
    pub(crate) mod lopsided {
        /// The frequent side's: the compiler keeps the order.
        #[inline(always)]
        pub(crate) fn light() {
            std::sync::atomic::compiler_fence(std::sync::atomic::Ordering::SeqCst);
        }

        /// Whether the rare side can have its barrier; if not, perhaps later.
        pub(crate) fn is_ready() -> bool {
            crate::sys::membarrier::is_ready()
        }

        /// The rare side's.
        pub(crate) fn heavy() {
            crate::sys::membarrier::everywhere();
        }
    }

    use crate::sys::futex;
    use std::sync::atomic::{AtomicU8, AtomicU32, Ordering};
    use std::time::Duration;

    /// A plain store to a word that others read and write in one step at the same time.
    #[inline(always)]
    pub(crate) fn overwrite(word: &AtomicU8, value: u8, order: Ordering) {
        word.store(value, order);
    }

    /// `std::cell::UnsafeCell` with loom's access by closure.
    #[derive(Debug, Default)]
    #[repr(transparent)]
    pub(crate) struct UnsafeCell<T>(std::cell::UnsafeCell<T>);

    impl<T> UnsafeCell<T> {
        pub(crate) const fn new(value: T) -> Self {
            UnsafeCell(std::cell::UnsafeCell::new(value))
        }

        /// Reads through a shared raw pointer; dereferencing it is the caller's `unsafe`.
        #[inline(always)]
        pub(crate) fn with<R>(&self, f: impl FnOnce(*const T) -> R) -> R {
            f(self.0.get())
        }

        /// Writes through a raw pointer; dereferencing it is the caller's `unsafe`.
        #[inline(always)]
        pub(crate) fn with_mut<R>(&self, f: impl FnOnce(*mut T) -> R) -> R {
            f(self.0.get())
        }
    }

    /// An atomic word on which a thread can sleep.
    #[derive(Debug)]
    pub(crate) struct Futex(AtomicU32);

    impl Futex {
        pub(crate) const fn new(value: u32) -> Futex {
            Futex(AtomicU32::new(value))
        }

        #[inline(always)]
        pub(crate) fn load(&self, order: Ordering) -> u32 {
            self.0.load(order)
        }

        #[inline(always)]
        pub(crate) fn store(&self, value: u32, order: Ordering) {
            self.0.store(value, order);
        }

        #[inline(always)]
        pub(crate) fn swap(&self, value: u32, order: Ordering) -> u32 {
            self.0.swap(value, order)
        }

        #[inline(always)]
        pub(crate) fn replace(
            &self,
            from: u32,
            to: u32,
            success: Ordering,
            failure: Ordering,
        ) -> Result<u32, u32> {
            self.0.compare_exchange(from, to, success, failure)
        }

        /// Sleeps while the word holds `expected`, for at most `timeout`. May wake for no reason.
        pub(crate) fn wait(&self, expected: u32, timeout: Option<Duration>) {
            futex::wait(&self.0, expected, timeout);
        }

        /// Wakes one sleeper. Takes a pointer since the word may already be gone: see
        /// [`futex::wake_one`].
        pub(crate) fn wake_one(this: *const Futex) {
            futex::wake_one(this.cast());
        }
    }
}

#[cfg(loom)]
mod under_loom {
    pub(crate) use loom::cell::UnsafeCell;
    pub(crate) use loom::hint;
    pub(crate) use loom::sync::{Arc, Mutex, MutexGuard, atomic};

    /// loom has no barrier that one thread passes for all: here each side has its own. So what is checked is that
    /// each side has one in the right place, and not that the one side's can be left to the other.
    pub(crate) mod lopsided {
        use loom::sync::atomic::{Ordering, fence};

        pub(crate) fn light() {
            fence(Ordering::SeqCst);
        }

        pub(crate) fn is_ready() -> bool {
            true
        }

        pub(crate) fn heavy() {
            fence(Ordering::SeqCst);
        }
    }

    use loom::sync::Condvar;
    use loom::sync::atomic::{AtomicU8, AtomicU32, Ordering};
    use std::time::Duration;

    /// By a swap. When a plain store races with a read-modify-write, loom does not remember which was
    /// first, and in the end lets the storing thread read a value that has been replaced since: a
    /// wake-up lost that no machine loses.
    pub(crate) fn overwrite(word: &AtomicU8, value: u8, order: Ordering) {
        word.swap(value, order);
    }

    /// The kernel's futex as loom can explore it: the check and the sleep are one step under a lock.
    #[derive(Debug)]
    pub(crate) struct Futex {
        word: AtomicU32,
        queue: Mutex<()>,
        sleepers: Condvar,
    }

    impl Futex {
        pub(crate) fn new(value: u32) -> Futex {
            Futex { word: AtomicU32::new(value), queue: Mutex::new(()), sleepers: Condvar::new() }
        }

        pub(crate) fn load(&self, order: Ordering) -> u32 {
            self.word.load(order)
        }

        /// By a swap: see [`overwrite`].
        pub(crate) fn store(&self, value: u32, order: Ordering) {
            self.word.swap(value, order);
        }

        pub(crate) fn swap(&self, value: u32, order: Ordering) -> u32 {
            self.word.swap(value, order)
        }

        pub(crate) fn replace(
            &self,
            from: u32,
            to: u32,
            success: Ordering,
            failure: Ordering,
        ) -> Result<u32, u32> {
            self.word.compare_exchange(from, to, success, failure)
        }

        /// Time-outs are not modelled: a sleeper that needs one to go on is a deadlock to loom.
        pub(crate) fn wait(&self, expected: u32, _timeout: Option<Duration>) {
            let guard = self.queue.lock().unwrap();
            if self.word.load(Ordering::SeqCst) == expected {
                drop(self.sleepers.wait(guard).unwrap());
            }
        }

        pub(crate) fn wake_one(this: *const Futex) {
            // SAFETY: the models keep their futexes alive in an `Arc` until all threads have ended.
            let this = unsafe { &*this };
            let guard = this.queue.lock().unwrap();
            this.sleepers.notify_one();
            drop(guard);
        }
    }
}
