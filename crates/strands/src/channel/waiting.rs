//! Lines of those who wait at a channel.
//!
//! A [`Place`] is in the frame of the one who waits: a waiter of the seam, a slot through which the message
//! moves, and links. A [`Line`] is a list of places, guarded by the channel's lock. Whoever serves takes the
//! first place whose waiter it can claim; those claimed by another (a select that went elsewhere, a deadline
//! that has passed) are stepped over, and left to their owners.
//!
//! # Who owns a place when
//!
//! | when | the slot | the links |
//! |---|---|---|
//! | before it is in a line | its owner | its owner |
//! | in a line | nobody; after a claim: the claimant | the channel's lock |
//! | claimed and taken out | the claimant, until its `finish` | nobody |
//! | after the wake-up | its owner | nobody |

use crate::primitive::UnsafeCell;
use crate::wait::{Token, Waiter, Wake};
use std::cell::Cell;
use std::marker::PhantomPinned;
use std::mem::MaybeUninit;
use std::ptr::{self, NonNull};

/// Where one party waits, in its frame.
pub(super) struct Place<T> {
    waiter: *const Waiter,
    slot: UnsafeCell<MaybeUninit<T>>,
    next: Cell<*const Place<T>>,
    previous: Cell<*const Place<T>>,
    in_line: Cell<bool>,
    _pinned: PhantomPinned,
}

impl<T> Place<T> {
    /// A place for one who wants a message.
    pub(super) fn empty(waiter: &Waiter) -> Place<T> {
        Place::with(waiter, MaybeUninit::uninit())
    }

    /// A place for one who brings a message.
    pub(super) fn holding(waiter: &Waiter, message: T) -> Place<T> {
        Place::with(waiter, MaybeUninit::new(message))
    }

    fn with(waiter: &Waiter, message: MaybeUninit<T>) -> Place<T> {
        Place {
            waiter,
            slot: UnsafeCell::new(message),
            next: Cell::new(ptr::null()),
            previous: Cell::new(ptr::null()),
            in_line: Cell::new(false),
            _pinned: PhantomPinned,
        }
    }

    /// The message in the slot.
    ///
    /// # Safety
    /// There is one, it is read once, and the caller owns the slot just now.
    pub(super) unsafe fn read(&self) -> T {
        // SAFETY: the caller's promise.
        self.slot.with(|slot| unsafe { (*slot).assume_init_read() })
    }
}

/// Makes loom find whoever touches the slot when the place may have gone.
#[cfg(loom)]
impl<T> Drop for Place<T> {
    fn drop(&mut self) {
        self.slot.with_mut(|_| ());
    }
}

/// A line of places, first come, first served. Under the channel's lock.
pub(super) struct Line<T> {
    first: *const Place<T>,
    last: *const Place<T>,
}

// SAFETY: places are reached under the channel's lock only, and what moves through them is a `T`.
unsafe impl<T: Send> Send for Line<T> {}

impl<T> Line<T> {
    pub(super) const fn new() -> Line<T> {
        Line { first: ptr::null(), last: ptr::null() }
    }

    #[cfg(test)]
    pub(super) fn is_empty(&self) -> bool {
        self.first.is_null()
    }

    /// Goes to the end of the line.
    ///
    /// # Safety
    /// Place and waiter stay where they are until the waiter was claimed and woken, or the place was taken
    /// out by [`leave`](Line::leave).
    pub(super) unsafe fn join(&mut self, place: &Place<T>) {
        debug_assert!(!place.in_line.get());
        place.in_line.set(true);
        place.next.set(ptr::null());
        place.previous.set(self.last);
        // SAFETY: places in the line are alive, and their links are ours under the lock.
        match unsafe { self.last.as_ref() } {
            Some(last) => last.next.set(place),
            None => self.first = place,
        }
        self.last = place;
    }

    /// Takes a place out, if it is still in the line.
    #[cfg_attr(
        not(test),
        expect(dead_code, reason = "for those who give up: deadlines and select")
    )]
    pub(super) fn leave(&mut self, place: &Place<T>) {
        if place.in_line.get() {
            self.unlink(place);
        }
    }

    fn unlink(&mut self, place: &Place<T>) {
        place.in_line.set(false);
        let (previous, next) = (place.previous.get(), place.next.get());
        // SAFETY: neighbours in the line are alive, and their links are ours under the lock.
        unsafe {
            match previous.as_ref() {
                Some(previous) => previous.next.set(next),
                None => self.first = next,
            }
            match next.as_ref() {
                Some(next) => next.previous.set(previous),
                None => self.last = previous,
            }
        }
    }

    /// Claims the first who can be claimed, for `token`, and takes it out.
    #[inline]
    pub(super) fn claim_first(&mut self, token: Token) -> Option<Claimed<T>> {
        loop {
            // SAFETY: places in the line are alive.
            let place = unsafe { self.first.as_ref() }?;
            self.unlink(place);
            // SAFETY: so are their waiters.
            if unsafe { (*place.waiter).try_claim(token) } {
                return Some(Claimed(NonNull::from(place)));
            }
        }
    }
}

/// Proof that a party waits for the caller, and for nobody else.
#[must_use = "whoever is claimed waits to be woken"]
pub(super) struct Claimed<T>(NonNull<Place<T>>);

impl<T> Claimed<T> {
    /// Takes the message of one who brought one, and lets it go.
    #[inline]
    pub(super) fn take(self) -> (T, Wake) {
        // SAFETY: claimed by us, so alive until `finish`; a sender's slot holds its message, and we are
        // the only one to read it.
        unsafe {
            let place = self.0.as_ref();
            let message = place.read();
            (message, (*place.waiter).finish())
        }
    }

    /// Gives a message to one who wants one, and lets it go.
    #[inline]
    pub(super) fn give(self, message: T) -> Wake {
        // SAFETY: claimed by us, so alive until `finish`; a receiver's slot is empty, and ours.
        unsafe {
            let place = self.0.as_ref();
            place.slot.with_mut(|slot| (*slot).write(message));
            (*place.waiter).finish()
        }
    }

    /// Lets it go with its slot as it is.
    pub(super) fn dismiss(self) -> Wake {
        // SAFETY: claimed by us, so alive until `finish`.
        unsafe { (*self.0.as_ref().waiter).finish() }
    }
}

#[cfg(all(test, not(loom)))]
mod tests {
    use super::*;
    use crate::wait::{FIRST_FREE, TIMED_OUT};

    #[test]
    fn the_line_is_served_in_order_and_steps_over_those_who_gave_up() {
        let waiters: Vec<Waiter> = (0..5).map(|_| Waiter::new()).collect();
        let places: Vec<Place<usize>> =
            waiters.iter().enumerate().map(|(i, w)| Place::holding(w, i)).collect();
        let mut line = Line::new();
        for place in &places {
            // SAFETY: all places stay until the end of the test.
            unsafe { line.join(place) };
        }
        line.leave(&places[1]);
        line.leave(&places[1]);
        assert!(waiters[2].try_claim(TIMED_OUT));
        let mut served = Vec::new();
        while let Some(claimed) = line.claim_first(FIRST_FREE) {
            let (message, wake) = claimed.take();
            wake.deliver();
            served.push(message);
        }
        assert_eq!(served, [0, 3, 4]);
        assert!(line.is_empty());
    }
}
