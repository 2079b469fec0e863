//! Poisoning, exactly as std has it: a lock whose owner has panicked says so, once, to each who comes after.

use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::{LockResult, PoisonError};
use std::thread;

/// Whether an owner has panicked while it held the lock.
pub(super) struct Flag {
    failed: AtomicBool,
}

/// Whether the owner was panicking already when it took the lock: then it is not this section that failed.
pub(super) struct Panicking(bool);

impl Flag {
    pub(super) const fn new() -> Flag {
        Flag { failed: AtomicBool::new(false) }
    }

    /// For one who has just taken the lock.
    #[inline]
    pub(super) fn enter(&self) -> Panicking {
        Panicking(thread::panicking())
    }

    /// For the owner, before it gives the lock back.
    #[inline]
    pub(super) fn leave(&self, entered: &Panicking) {
        if !entered.0 && thread::panicking() {
            // Ordering: Relaxed; who locks next is ordered after us by the lock.
            self.failed.store(true, Ordering::Relaxed);
        }
    }

    #[inline]
    pub(super) fn get(&self) -> bool {
        self.failed.load(Ordering::Relaxed)
    }

    pub(super) fn clear(&self) {
        self.failed.store(false, Ordering::Relaxed);
    }

    /// What the lock gives out: a guard or the data, with a warning if it is poisoned.
    #[inline]
    pub(super) fn wrap<G>(&self, guard: G) -> LockResult<G> {
        if self.get() { Err(PoisonError::new(guard)) } else { Ok(guard) }
    }
}
