//! The crowd of those who wait for something that a mutex guards to become true.
//!
//! Whoever waits joins before it unlocks. So whoever changes the condition under the mutex, and then
//! notifies, finds it there: no notification falls between the unlocking and the sleep.

use super::super::line::{Crowd, Place, dismiss};
use super::mutex::RawMutex;
use crate::primitive::atomic::{AtomicBool, Ordering};
use crate::wait::{FIRST_FREE, Reason, ShortLock, TIMED_OUT, Token, WaitKind};
use std::cell::Cell;
use std::future::Future;
use std::pin::Pin;
use std::task::{Context, Poll};
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

/// Waiting to be notified, as a future. The first poll joins, and then unlocks the mutex; it is not locked again.
///
/// One that is dropped leaves. If it has been notified by then, and nobody has seen it, another is.
pub(in crate::sync) struct Notice<'a> {
    condvar: &'a RawCondvar,
    mutex: &'a RawMutex,
    unlocked: &'a Cell<bool>,
    place: Option<Place>,
}

impl<'a> Notice<'a> {
    /// `unlocked` will say whether the mutex has been unlocked.
    ///
    /// # Safety
    /// The caller owns the mutex, and from then on does not.
    pub(in crate::sync) unsafe fn new(
        condvar: &'a RawCondvar,
        mutex: &'a RawMutex,
        unlocked: &'a Cell<bool>,
    ) -> Notice<'a> {
        Notice { condvar, mutex, unlocked, place: None }
    }
}

impl Future for Notice<'_> {
    type Output = ();

    fn poll(self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<()> {
        // SAFETY: the place is not moved while it is in line.
        let this = unsafe { self.get_unchecked_mut() };
        // What belongs to the executor is cloned and dropped outside the short lock.
        let waker = cx.waker().clone();
        if let Some(place) = &this.place {
            let (notified, former) = {
                let _crowd = this.condvar.crowd.lock();
                match place.outcome() {
                    Some(_) => (true, Some(waker)),
                    None => (false, place.renew(waker)),
                }
            };
            drop(former);
            if notified {
                this.place = None;
                return Poll::Ready(());
            }
            return Poll::Pending;
        }
        if this.unlocked.replace(true) {
            return Poll::Ready(());
        }
        let place = this.place.insert(Place::of_future(waker));
        {
            let mut crowd = this.condvar.crowd.lock();
            // SAFETY: we are pinned, and the place is out of line before it is dropped: by its claim, or in `drop`.
            unsafe { crowd.join(place) };
            this.condvar.occupied.store(true, Ordering::Relaxed);
        }
        // SAFETY: the promise of `new`, and this is the first time.
        unsafe { this.mutex.unlock() };
        Poll::Pending
    }
}

impl Drop for Notice<'_> {
    fn drop(&mut self) {
        let Some(place) = &self.place else { return };
        let was_in = {
            let mut crowd = self.condvar.crowd.lock();
            let was_in = crowd.leave(place);
            self.condvar.note(&crowd);
            was_in
        };
        if !was_in {
            self.condvar.notify_one();
        }
    }
}
