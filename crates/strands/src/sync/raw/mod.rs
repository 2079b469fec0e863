//! The locks without what they guard, and without poisoning: for [`lock_api`].
//!
//! Everything in [`sync`](super) that locks is built on these two. Those who want a lock in the shape of
//! `parking_lot`'s (no poisoning, guards that can be mapped and owned) get it here by type aliases: the guard
//! types, their methods and their documentation are `lock_api`'s.
//!
//! ```
//! use strands::sync::raw::{Mutex, MutexGuard};
//!
//! let pair = Mutex::new((1, "one"));
//! let mut number = MutexGuard::map(pair.lock(), |(number, _)| number);
//! *number += 1;
//! drop(number);
//! assert_eq!(pair.into_inner(), (2, "one"));
//! ```
//!
//! # A lock must outlive the call that gives it back
//!
//! Giving a lock back ends after others can have it: it looks once more whether somebody waits. Guards see to it that the
//! lock is still there, as they borrow it, or own a share of it. Unsafe code that frees a lock must know that
//! all calls of `unlock` and the like have returned; that it was the last to have the lock is not enough. (`parking_lot` and std
//! happen to allow that. Neither promises it.)

#[cfg(not(loom))]
mod api;
mod calm;
mod condvar;
mod lanes;
mod mutex;
mod rwlock;

#[cfg(not(loom))]
pub use api::{
    MappedMutexGuard, MappedRwLockReadGuard, MappedRwLockWriteGuard, Mutex, MutexGuard, RwLock,
    RwLockReadGuard, RwLockWriteGuard,
};
pub use mutex::RawMutex;
pub use rwlock::RawRwLock;

pub(super) use condvar::{Notice, RawCondvar};
pub(super) use mutex::Locking;
pub(super) use rwlock::{Reading, Writing};
