//! A lock that is given back without a locked instruction, as long as nobody waits for it.
//!
//! Giving a lock back has to find out whether anybody waits, in one step with making it free. That takes a locked
//! instruction, which is half of what an uncontended lock costs (5 ns of 10). But most locks are hardly ever waited
//! for. Such a lock becomes *calm*: its owner makes it free by a plain store, and looks afterwards whether it is still calm.
//! Whoever wants to wait ends the calm first.
//!
//! ```text
//!   the owner gives it back                  one who wants to wait, under the short lock
//!   ───────────────────────                  ───────────────────────────────────────────
//!   U1  calm?  no: by a locked instruction   W1  calm = false
//!   U2  state = 0                            W2  a barrier on all threads (`membarrier`)
//!       (no barrier: the compiler is         W3  state: LOCKED → LOCKED | WAITED, in one step
//!       held off)                                (it is free: takes it)
//!   U3  still calm?  done                    W4  joins the line
//!       no: sees to those in line
//! ```
//!
//! **No wake-up is lost.** The barrier of W2 falls somewhere in the course of whoever is at U1 to U3. If before U3, then U3
//! finds that the calm is over, and the owner takes the short lock and does what its plain store has left undone: see
//! [`RawMutex::make_up`](super::RawMutex). If after U3, then the store of U2 has been made by then; W3 finds the lock free and takes
//! it, or finds it taken by another, of whom the same is true. So of those who are in line nobody is forgotten, though the store of U2 may
//! wipe out a `WAITED`: whoever has wiped it out looks into the line.
//!
//! **What else may the store wipe out?** Nothing. In a calm lock nobody is awake who was in line (`WOKEN`) and none
//! starves, since it becomes calm only if its state is `LOCKED` and nothing else, and the line empty. From W1 until it was
//! waited for and given back, by which time all see that the calm is over, those bits are not set.
//!
//! **When.** To end the calm costs 0.3 to 10 µs and interrupts all threads, once. So a lock becomes calm when it has been given back
//! [`STREAK`] times in a row with nobody in line: it has paid as much by then as it would at worst cost to be wrong.
//! This happens again and again, if a lock is waited for now and then: what it costs is at most twice what the better of the
//! two ways would have. A lock that is used a few times never asks for a barrier.
//!
//! Where the kernel does no such barrier, or not yet, no lock becomes calm.
//!
//! **A lock must outlive the call that gives it back:** U3 looks at it when others may have it already, as the unlocking of a
//! lock that is waited for does in any case. In safe code it does: a guard borrows the lock (or owns a share of it)
//! until its drop has returned.

use crate::primitive::atomic::{AtomicBool, AtomicU16, Ordering};
use crate::primitive::lopsided::{heavy, is_ready};

/// So many times in a row it is given back with nobody waiting before it becomes calm. (The models say themselves when.)
const STREAK: u16 = if cfg!(loom) { u16::MAX } else { 2048 };

/// Whether a lock is calm, and how long nobody has waited for it.
pub(super) struct Calm {
    /// Set by the owner of the lock, cleared by whoever wants to wait; both under the short lock of the line.
    now: AtomicBool,
    /// How often it has been given back since somebody waited, up to `STREAK`. Written by the owner of the lock.
    streak: AtomicU16,
}

impl Calm {
    const_unless_loom! {
        pub(super) fn new() -> Calm {
            Calm { now: AtomicBool::new(false), streak: AtomicU16::new(0) }
        }
    }

    /// U1 and U3.
    #[inline(always)]
    pub(super) fn reigns(&self) -> bool {
        // Ordering: Relaxed; at U1 it may be outdated, and at U3 `light` and `heavy` order it.
        self.now.load(Ordering::Relaxed)
    }

    /// The owner gives the lock back, and as far as it knows nobody waits. True: it is time for the lock to become calm.
    #[inline(always)]
    pub(super) fn grows(&self) -> bool {
        // Ordering: Relaxed, here and below: the streak has one writer at a time, by the lock; and nothing hangs on it.
        let streak = self.streak.load(Ordering::Relaxed) + 1;
        self.streak.store(streak, Ordering::Relaxed);
        streak >= STREAK
    }

    /// The owner has seen that somebody waits; or it begins to count anew.
    pub(super) fn is_disturbed(&self) {
        self.streak.store(0, Ordering::Relaxed);
    }

    /// The lock becomes calm, if that can be had. Under the short lock; the line is empty, and the state `LOCKED` by the
    /// caller.
    pub(super) fn begin(&self) {
        if is_ready() {
            // Ordering: Relaxed; who does not see it yet does the same with a locked instruction.
            self.now.store(true, Ordering::Relaxed);
        }
    }

    /// W1 and W2, under the short lock. True: it was calm, and the state has to be looked at anew.
    pub(super) fn end(&self) -> bool {
        let was = self.now.load(Ordering::Relaxed);
        if was {
            self.now.store(false, Ordering::Relaxed);
            heavy();
        }
        was
    }
}

#[cfg(all(test, not(loom)))]
mod tests {
    use super::super::RawMutex;
    use super::*;
    use std::sync::Arc;
    use std::thread;
    use std::time::{Duration, Instant};

    fn granted() {
        while !is_ready() {
            thread::yield_now();
        }
    }

    fn turn(lock: &RawMutex) {
        lock.lock();
        // SAFETY: ours.
        unsafe { lock.unlock() };
    }

    fn becomes_calm(lock: &RawMutex) {
        (0..=STREAK).for_each(|_| turn(lock));
        assert!(lock.is_calm());
    }

    #[test]
    fn a_lock_that_nobody_waits_for_becomes_calm_until_somebody_does() {
        granted();
        let lock = Arc::new(RawMutex::new());
        (1..STREAK).for_each(|_| turn(&lock));
        assert!(!lock.is_calm());
        becomes_calm(&lock);
        lock.lock();
        let other = {
            let lock = Arc::clone(&lock);
            thread::spawn(move || turn(&lock))
        };
        while lock.is_calm() {
            thread::yield_now();
        }
        // SAFETY: ours.
        unsafe { lock.unlock() };
        other.join().unwrap();
        becomes_calm(&lock);
        // An attempt ends nothing, nor does one who finds it free.
        lock.lock();
        assert!(!lock.try_lock());
        // SAFETY: ours.
        unsafe { lock.unlock_fair() };
        turn(&lock);
        assert!(lock.is_calm());
    }

    /// One gives the lock back without a pause; the other waits until it is calm, and then in line.
    #[test]
    fn nobody_is_forgotten_who_ends_the_calm() {
        granted();
        let rounds = if cfg!(miri) { 2 } else { 300 };
        let lock = Arc::new(RawMutex::new());
        let waits = {
            let lock = Arc::clone(&lock);
            thread::spawn(move || {
                for _ in 0..rounds {
                    while !lock.is_calm() {
                        thread::yield_now();
                    }
                    while lock.is_calm() {
                        let deadline = Instant::now() + Duration::from_secs(60);
                        assert!(lock.lock_until(Some(deadline)), "forgotten in line");
                        // SAFETY: ours.
                        unsafe { lock.unlock() };
                    }
                }
            })
        };
        while !waits.is_finished() {
            turn(&lock);
        }
        waits.join().unwrap();
    }
}
