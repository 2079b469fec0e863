//! The atomics, cells and locks that the lock-free parts are built from: std's, or loom's when the
//! crate is compiled with `--cfg loom`, so that the very code that ships is the code that is checked.
//!
//! **Invariant:** `queue`, `wait`, `channel` and `sched::idle` take these from here and nowhere else.

#[cfg(not(loom))]
pub(crate) use enabled::*;
#[cfg(loom)]
pub(crate) use under_loom::*;

#[cfg(not(loom))]
mod enabled {
    pub(crate) use std::hint;
    pub(crate) use std::sync::{Arc, Mutex, MutexGuard, atomic};

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
}

#[cfg(loom)]
mod under_loom {
    pub(crate) use loom::cell::UnsafeCell;
    pub(crate) use loom::hint;
    pub(crate) use loom::sync::{Arc, Mutex, MutexGuard, atomic};
}
