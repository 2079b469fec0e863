//! Locks and the like for goroutines, with std's names and shapes: `std::sync` → `strands::sync`.
//!
//! ```
//! use strands::sync::{Arc, Condvar, Mutex};
//!
//! let queue = Arc::new((Mutex::new(Vec::new()), Condvar::new()));
//! let producer = Arc::clone(&queue);
//! strands::go(move || {
//!     let (items, changed) = &*producer;
//!     items.lock().unwrap().push("work");
//!     changed.notify_one();
//! });
//! let (items, changed) = &*queue;
//! let mut items = changed.wait_while(items.lock().unwrap(), |items| items.is_empty()).unwrap();
//! assert_eq!(items.pop(), Some("work"));
//! ```
//!
//! | as in std | [`Mutex`], [`RwLock`], [`Condvar`], [`Once`], [`OnceLock`], [`LazyLock`], [`Barrier`], [`mpsc`] |
//! |---|---|
//! | std's own | [`Arc`], [`Weak`], [`atomic`], [`PoisonError`], [`TryLockError`], [`LockResult`], [`TryLockResult`] |
//! | as in Go | [`WaitGroup`], [`Group`], [`Semaphore`], [`SingleFlight`], [`Pool`] |
//! | without poisoning | [`raw`]: the same locks under `lock_api` |
//!
//! Every one of them serves goroutines, plain threads and async tasks, on the same object, in any mixture. Who
//! has to wait blocks *itself*: a goroutine is parked, and its thread runs others. So, unlike a lock of
//! `std::sync`, one of these may be held while its owner sleeps or waits for a channel, even with a single
//! processor. In async code the `…_async` methods return futures, which can be dropped at any time.
//!
//! # A lock or a channel?
//!
//! * Data that stays where it is, and is looked at or changed in short sections by many: a lock. A cache, a
//!   counter, the fields of a struct that must agree with each other.
//! * Data that moves on to another who owns it from then on, work that is handed out, results that come
//!   back, the news that something has happened: a [`channel`](crate::channel).
//!
//! Whoever finds itself sending messages to a goroutine that does nothing but guard a map wants a lock; whoever
//! finds itself locking a queue and signalling a condition wants a channel. Where the time matters: a lock that
//! nobody else wants costs one atomic operation (at first two), and a section of a few instructions is over before a
//! message would have been received.
//!
//! # What is promised
//!
//! * **Happens-before.** What an owner did happens before the next owner's lock returns; likewise a writer and
//!   the readers after it, readers and the writer after them; a `done` and the `wait` it ends; what came
//!   before a barrier and what comes after; a permit that is given back and the one that is had for it.
//! * **Nobody starves.** A [`Mutex`] hands itself to one who has waited a millisecond; [`RwLock`] lets readers and
//!   writers alternate; [`Semaphore`] is first come, first served.
//! * **User code** (closures, `Drop`) runs under the lock that it can see, and under none of ours.
//! * **Poisoning** is as in std.
//!
//! Who waits for itself (locks twice, say) is found out if nothing else can go on: the report of the deadlock
//! names what each waits for.
//!
//! **Invariant:** nothing in `sync` names `sched`: it waits at the seam (`wait`), and that is all.

/// A constructor that is `const`, but for loom, whose atomics cannot be made at compile time.
macro_rules! const_unless_loom {
    ($(#[$meta:meta])* $vis:vis fn $name:ident($($arg:ident: $of:ty)?) -> $type:ty $body:block) => {
        #[cfg(not(loom))]
        $(#[$meta])*
        #[must_use]
        #[allow(clippy::new_without_default, reason = "std's `Once` has none either")]
        $vis const fn $name($($arg: $of)?) -> $type $body

        #[cfg(loom)]
        $(#[$meta])*
        #[must_use]
        $vis fn $name($($arg: $of)?) -> $type $body
    };
}

mod barrier;
mod line;
#[cfg(all(test, loom))]
mod loom_tests;
mod once;
pub mod raw;
mod semaphore;

#[cfg(not(loom))]
mod condvar;
#[cfg(not(loom))]
pub mod mpsc;
#[cfg(not(loom))]
mod mutex;
#[cfg(not(loom))]
mod once_lock;
#[cfg(not(loom))]
mod poison;
#[cfg(not(loom))]
mod pool;
#[cfg(not(loom))]
mod rwlock;
#[cfg(not(loom))]
mod single_flight;
#[cfg(not(loom))]
mod wait_group;

pub use once::{Once, OnceState};
pub use std::sync::{Arc, LockResult, PoisonError, TryLockError, TryLockResult, Weak, atomic};

#[cfg(not(loom))]
pub use crate::group::Group;
pub use barrier::{Barrier, BarrierWaitResult};
#[cfg(not(loom))]
pub use condvar::{Condvar, WaitTimeoutResult};
#[cfg(not(loom))]
pub use mutex::{Mutex, MutexGuard, MutexLock};
#[cfg(not(loom))]
pub use once_lock::{LazyLock, OnceLock};
#[cfg(not(loom))]
pub use pool::{Pool, Pooled};
#[cfg(not(loom))]
pub use rwlock::{RwLock, RwLockRead, RwLockReadGuard, RwLockWrite, RwLockWriteGuard};
pub use semaphore::{
    Acquire, AcquireError, AcquireTimeoutError, OwnedPermit, Permit, Semaphore, TryAcquireError,
};
#[cfg(not(loom))]
pub use single_flight::SingleFlight;
#[cfg(not(loom))]
pub use wait_group::{Wait, WaitGroup};

/// When a time-out from now ends; `None` if that is further off than time goes.
fn deadline_in(timeout: std::time::Duration) -> Option<std::time::Instant> {
    std::time::Instant::now().checked_add(timeout)
}
