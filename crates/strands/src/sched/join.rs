//! The handle's side of a goroutine: joining, polling, detaching. The `join` word and what its values mean
//! are drawn in `goroutine`.

use super::goroutine::{
    DETACHED, ENDED, Goroutine, TAKEN, WAKER_TAG, drop_result, take_result, waker_from,
};
use crate::identity::Identity;
use crate::wait::{Reason, WaitKind, Waiter};
use std::mem::ManuallyDrop;
use std::ptr::NonNull;
use std::sync::Arc;
use std::sync::atomic::Ordering;
use std::task::{Poll, Waker};

/// The handle's side of a goroutine. Dropping it detaches.
pub(crate) struct Join<T> {
    head: NonNull<Goroutine>,
    _result: std::marker::PhantomData<T>,
}

// SAFETY: the result moves to the handle's thread (`T: Send`); the record's own words are atomics.
unsafe impl<T: Send> Send for Join<T> {}
// SAFETY: through a shared handle one only reads the id, the name and whether it has ended; the result
// is out of reach. std's `JoinHandle` is `Sync` for every `T` too.
unsafe impl<T> Sync for Join<T> {}

impl<T> Join<T> {
    /// # Safety
    /// `head` is of a goroutine whose closure returns `T`, and this is its one handle.
    pub(super) unsafe fn new(head: NonNull<Goroutine>) -> Join<T> {
        Join { head, _result: std::marker::PhantomData }
    }

    fn goroutine(&self) -> &Goroutine {
        // SAFETY: the record is alive as long as its handle.
        unsafe { self.head.as_ref() }
    }

    pub(crate) fn is_finished(&self) -> bool {
        matches!(self.goroutine().join.load(Ordering::Acquire), ENDED | TAKEN)
    }

    pub(crate) fn identity(&self) -> Arc<Identity> {
        self.goroutine().identity_or_make()
    }

    /// Waits for the end, and takes the result.
    ///
    /// Blocks: the goroutine, or else the thread.
    pub(crate) fn join(self) -> std::thread::Result<T> {
        let goroutine = self.goroutine();
        // Ordering: Acquire pairs with the Release of the goroutine's last swap.
        let mut seen = goroutine.join.load(Ordering::Acquire);
        if seen != ENDED {
            let waiter = Waiter::exclusive();
            let address = (&raw const waiter).expose_provenance();
            loop {
                // Ordering: Release shows our waiter to the goroutine's swap.
                match goroutine.join.compare_exchange(
                    seen,
                    address,
                    Ordering::AcqRel,
                    Ordering::Acquire,
                ) {
                    Ok(former) => {
                        if former & WAKER_TAG != 0 {
                            // SAFETY: swapped out by us. It was polled before, and is no longer.
                            drop(unsafe { waker_from(former) });
                        }
                        let why = Reason::on(WaitKind::Join, goroutine.id.get() as usize);
                        waiter.park(why, None);
                        break;
                    }
                    Err(ENDED) => break,
                    Err(other) => seen = other,
                }
            }
        }
        let this = ManuallyDrop::new(self);
        // SAFETY: ended, so result and record are the handle's, which is used up here.
        unsafe {
            let result = take_result::<T>(this.head);
            Goroutine::free(this.head);
            result
        }
    }

    /// The result if it has ended, or else remembers the waker. For the handle as a future.
    pub(crate) fn poll(&mut self, waker: &Waker) -> Poll<std::thread::Result<T>> {
        if !self.is_finished() && self.remember(waker.clone()) {
            return Poll::Pending;
        }
        // SAFETY: ended, and the result is the handle's. The record stays, marked as taken from.
        let result = unsafe { take_result::<T>(self.head) };
        self.goroutine().join.store(TAKEN, Ordering::Relaxed);
        Poll::Ready(result)
    }

    /// Wakes the waker when it ends; false if it has ended already. A waker from before is forgotten.
    pub(crate) fn remember(&mut self, waker: Waker) -> bool {
        let goroutine = self.goroutine();
        let boxed = Box::into_raw(Box::new(waker));
        let word = boxed.expose_provenance() | WAKER_TAG;
        let mut seen = goroutine.join.load(Ordering::Acquire);
        while seen != ENDED {
            // Ordering: as in `join`.
            match goroutine.join.compare_exchange(seen, word, Ordering::AcqRel, Ordering::Acquire) {
                Ok(former) => {
                    if former & WAKER_TAG != 0 {
                        // SAFETY: swapped out by us.
                        drop(unsafe { waker_from(former) });
                    }
                    return true;
                }
                Err(other) => seen = other,
            }
        }
        // SAFETY: nobody has seen it.
        drop(unsafe { Box::from_raw(boxed) });
        false
    }

    /// Whether `poll` has handed out the result already.
    pub(crate) fn is_taken(&self) -> bool {
        self.goroutine().join.load(Ordering::Relaxed) == TAKEN
    }
}

impl<T> Drop for Join<T> {
    fn drop(&mut self) {
        let goroutine = self.goroutine();
        // Ordering: Release gives up all our accesses to the goroutine's swap; Acquire for `ENDED`.
        let mut seen = goroutine.join.load(Ordering::Acquire);
        loop {
            match seen {
                ENDED => {
                    // SAFETY: ended, so result and record are ours.
                    unsafe {
                        drop_result::<T>(self.head);
                        Goroutine::free(self.head);
                    }
                    return;
                }
                TAKEN => {
                    // SAFETY: as above, and the result is out.
                    unsafe { Goroutine::free(self.head) };
                    return;
                }
                open_or_waker => {
                    match goroutine.join.compare_exchange(
                        open_or_waker,
                        DETACHED,
                        Ordering::AcqRel,
                        Ordering::Acquire,
                    ) {
                        Ok(former) => {
                            if former & WAKER_TAG != 0 {
                                // SAFETY: swapped out by us.
                                drop(unsafe { waker_from(former) });
                            }
                            return;
                        }
                        Err(other) => seen = other,
                    }
                }
            }
        }
    }
}
