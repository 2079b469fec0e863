//! The crowd of those who wait for something that a mutex guards to become true.
//!
//! Whoever waits joins before it unlocks. So whoever changes the condition under the mutex, and then
//! notifies, finds it there: no notification falls between the unlocking and the sleep.

use super::super::line::{Crowd, Place, dismiss};
use super::mutex::RawMutex;
use crate::primitive::atomic::{AtomicBool, Ordering};
use crate::wait::{FIRST_FREE, Reason, ShortLock, TIMED_OUT, Token, WaitKind};
use std::time::Instant;

const NOTIFIED: Token = FIRST_FREE;

/// Those who wait at a condition variable.
pub(in crate::sync) struct RawCondvar {
    /// Whether somebody waits. Changed under the short lock.
    ///
    /// It may be looked at without: one who waits has set it before it unlocked the mutex, and so before
    /// anybody else could change the condition under it.
    occupied: AtomicBool,
    crowd: ShortLock<Crowd>,
}

impl RawCondvar {
    const_unless_loom! {
        pub(in crate::sync) fn new() -> RawCondvar {
            RawCondvar { occupied: AtomicBool::new(false), crowd: ShortLock::new(Crowd::new()) }
        }
    }

    /// Unlocks the mutex, waits to be notified, and locks it again. False: the deadline has passed first.
    ///
    /// # Safety
    /// The caller owns the mutex.
    pub(in crate::sync) unsafe fn wait(&self, mutex: &RawMutex, deadline: Option<Instant>) -> bool {
        let place = Place::until(deadline);
        {
            let mut crowd = self.crowd.lock();
            // SAFETY: the place stays in this frame until it was claimed and woken, or is taken out below.
            unsafe { crowd.join(&place) };
            self.occupied.store(true, Ordering::Relaxed);
        }
        // SAFETY: the caller's promise.
        unsafe { mutex.unlock() };
        let why = Reason::on(WaitKind::CondWait, std::ptr::from_ref(self).addr());
        let in_time = place.park(why, deadline) != TIMED_OUT;
        if !in_time {
            let mut crowd = self.crowd.lock();
            crowd.leave(&place);
            self.note(&crowd);
        }
        mutex.lock();
        in_time
    }

    fn note(&self, crowd: &Crowd) {
        self.occupied.store(!crowd.is_empty(), Ordering::Relaxed);
    }

    #[inline]
    pub(in crate::sync) fn notify_one(&self) {
        if self.occupied.load(Ordering::Relaxed) {
            self.notify_one_slow();
        }
    }

    #[cold]
    fn notify_one_slow(&self) {
        let wake = {
            let mut crowd = self.crowd.lock();
            let wake = crowd.claim_first(NOTIFIED);
            self.note(&crowd);
            wake
        };
        drop(wake);
    }

    #[inline]
    pub(in crate::sync) fn notify_all(&self) {
        if self.occupied.load(Ordering::Relaxed) {
            self.notify_all_slow();
        }
    }

    #[cold]
    fn notify_all_slow(&self) {
        let occurrence = self.crowd.lock().occur();
        dismiss(&self.crowd, |crowd| crowd, occurrence, NOTIFIED);
        let crowd = self.crowd.lock();
        self.note(&crowd);
    }
}
