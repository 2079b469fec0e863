//! Lines of those who wait at a channel.
//!
//! A [`Place`] is in the frame (or the pinned future) of the one who waits, with links, and pointers to a
//! waiter of the seam and to the [`Slot`] through which the message moves. A [`Line`] is a list of places,
//! guarded by the channel's lock. Whoever serves takes the first place whose waiter it can claim; those
//! claimed by another (a select that went elsewhere, a deadline that has passed) are stepped over, and left
//! to their owners.
//!
//! A sender that has no slot is a *promise*: an arm of a select, which makes its message only when it has been
//! chosen.
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
use crate::selection;
use crate::wait::{FIRST_FREE, Token, Waiter, Wake};
use std::cell::Cell;
use std::marker::PhantomPinned;
use std::mem::MaybeUninit;
use std::ptr::{self, NonNull};

/// What a place was claimed for.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
#[repr(usize)]
pub(super) enum Kind {
    /// The message has changed hands.
    Passed = FIRST_FREE,
    /// The channel is closed.
    Closed,
    /// Promises: there is room in the buffer for the message, kept free until it comes.
    Room,
    /// Promises: a receiver waits for the message; its ticket is in the place.
    Partner,
    /// The same, and it will keep the sender until it has dealt with the message.
    Meeting,
    /// Whoever promised a message has not kept the promise: as if never claimed.
    Again,
    /// Watchers: something has changed.
    Look,
    /// Claimed by itself: it has seen that it need not wait.
    Oneself,
}

impl Kind {
    /// The token for this kind, by the arm with this index.
    #[inline]
    pub(super) fn token(self, index: usize) -> Token {
        selection::token_of(self as usize, index)
    }

    #[inline]
    pub(super) fn of(token: Token) -> Kind {
        const ALL: [Kind; 8] = [
            Kind::Passed,
            Kind::Closed,
            Kind::Room,
            Kind::Partner,
            Kind::Meeting,
            Kind::Again,
            Kind::Look,
            Kind::Oneself,
        ];
        ALL[selection::kind_of(token) - FIRST_FREE]
    }
}

/// Where a message is while it changes hands.
pub(super) struct Slot<T>(UnsafeCell<MaybeUninit<T>>);

impl<T> Slot<T> {
    #[inline]
    pub(super) fn empty() -> Slot<T> {
        Slot(UnsafeCell::new(MaybeUninit::uninit()))
    }

    #[inline]
    pub(super) fn holding(message: T) -> Slot<T> {
        Slot(UnsafeCell::new(MaybeUninit::new(message)))
    }

    /// The message in the slot.
    ///
    /// # Safety
    /// There is one, it is read once, and the caller owns the slot just now.
    #[inline]
    pub(super) unsafe fn read(&self) -> T {
        // SAFETY: the caller's promise.
        self.0.with(|slot| unsafe { (*slot).assume_init_read() })
    }

    /// Puts a message in.
    ///
    /// # Safety
    /// There is none, and the caller owns the slot just now.
    #[inline]
    pub(super) unsafe fn write(&self, message: T) {
        // SAFETY: the caller's promise.
        self.0.with_mut(|slot| unsafe {
            (*slot).write(message);
        });
    }
}

/// Makes loom find whoever touches the slot when it may have gone.
#[cfg(loom)]
impl<T> Drop for Slot<T> {
    fn drop(&mut self) {
        self.0.with_mut(|_| ());
    }
}

/// Where one party waits, in its frame.
pub(super) struct Place<T> {
    waiter: Cell<*const Waiter>,
    /// Null: a promise, or a watcher.
    slot: Cell<*const Slot<T>>,
    next: Cell<*const Place<T>>,
    previous: Cell<*const Place<T>>,
    in_line: Cell<bool>,
    /// Which arm of its select it is.
    index: Cell<usize>,
    /// Who waits for the promised message; and of one who was handed a message, its number: see `Core`.
    ticket: Cell<u64>,
    _pinned: PhantomPinned,
}

impl<T> Place<T> {
    #[inline]
    pub(super) fn new() -> Place<T> {
        Place {
            waiter: Cell::new(ptr::null()),
            slot: Cell::new(ptr::null()),
            next: Cell::new(ptr::null()),
            previous: Cell::new(ptr::null()),
            in_line: Cell::new(false),
            index: Cell::new(0),
            ticket: Cell::new(0),
            _pinned: PhantomPinned,
        }
    }

    /// A place for `waiter`, with a slot.
    #[inline]
    pub(super) fn with(waiter: &Waiter, slot: &Slot<T>) -> Place<T> {
        let place = Place::new();
        place.prepare(waiter, slot, 0);
        place
    }

    /// Whether it is in a line. To be asked under the lock of that.
    #[inline]
    pub(super) fn is_in_line(&self) -> bool {
        self.in_line.get()
    }

    /// Says who waits here, and as which arm of a select.
    #[inline]
    pub(super) fn prepare(&self, waiter: &Waiter, slot: *const Slot<T>, index: usize) {
        debug_assert!(!self.in_line.get());
        self.waiter.set(waiter);
        self.slot.set(slot);
        self.index.set(index);
    }

    /// Who waits for the message promised here, after [`Kind::Partner`] or [`Kind::Meeting`]; the number of the message handed over, after
    /// [`Kind::Passed`]. For its owner.
    pub(super) fn ticket(&self) -> u64 {
        self.ticket.get()
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

    #[inline]
    pub(super) fn is_empty(&self) -> bool {
        self.first.is_null()
    }

    /// Goes to the end of the line.
    ///
    /// # Safety
    /// Place, waiter and slot stay where they are until the waiter was claimed and woken, or the place was
    /// taken out by [`leave`](Line::leave).
    #[inline]
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
    pub(super) fn leave(&mut self, place: &Place<T>) {
        if place.in_line.get() {
            self.unlink(place);
        }
    }

    #[inline]
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

    /// Claims the first who can be claimed, for `kind`, and takes it out.
    #[inline]
    pub(super) fn claim_first(&mut self, kind: Kind) -> Option<Claimed<T>> {
        self.claim_first_by(|_| kind)
    }

    /// The same, for a kind that depends on the place.
    #[inline]
    pub(super) fn claim_first_by(
        &mut self,
        mut kind: impl FnMut(&Place<T>) -> Kind,
    ) -> Option<Claimed<T>> {
        loop {
            // SAFETY: places in the line are alive.
            let place = unsafe { self.first.as_ref() }?;
            place.in_line.set(false);
            let second = place.next.get();
            self.first = second;
            // SAFETY: as above.
            match unsafe { second.as_ref() } {
                Some(second) => second.previous.set(ptr::null()),
                None => self.last = ptr::null(),
            }
            // SAFETY: so are their waiters.
            if unsafe { (*place.waiter.get()).try_claim(kind(place).token(place.index.get())) } {
                return Some(Claimed(NonNull::from(place)));
            }
        }
    }

    /// Whether anybody is in the line but other arms of the select that `waiter` waits for (null: none).
    #[inline]
    pub(super) fn has_other_than(&self, waiter: *const Waiter) -> bool {
        let mut place = self.first;
        // SAFETY: places in the line are alive, and their links are ours under the lock.
        while let Some(at) = unsafe { place.as_ref() } {
            if at.waiter.get() != waiter {
                return true;
            }
            place = at.next.get();
        }
        false
    }
}

impl<T> Place<T> {
    /// Whether this is a sender's place whose message has not been made yet.
    #[inline]
    pub(super) fn is_promise(&self) -> bool {
        self.slot.get().is_null()
    }

    /// Claims the one whose place it is, who does so itself.
    pub(super) fn claim_oneself(&self, kind: Kind) -> bool {
        // SAFETY: `prepare` was given a waiter that is alive as long as its owner, who calls this, waits.
        unsafe { (*self.waiter.get()).try_claim(kind.token(self.index.get())) }
    }
}

/// Proof that a party waits for the caller, and for nobody else.
#[must_use = "whoever is claimed waits to be woken"]
pub(super) struct Claimed<T>(NonNull<Place<T>>);

// SAFETY: it stands for a `T` that moves, or for the slot that waits for one; see `Line`.
unsafe impl<T: Send> Send for Claimed<T> {}

impl<T> Claimed<T> {
    /// The claimed party's place as proof.
    ///
    /// # Safety
    /// It was claimed, nobody else has a proof of that, and it has not been finished.
    #[inline]
    pub(super) unsafe fn new(place: &Place<T>) -> Claimed<T> {
        Claimed(NonNull::from(place))
    }

    #[inline]
    fn place(&self) -> &Place<T> {
        // SAFETY: claimed by us, so alive until `finish`.
        unsafe { self.0.as_ref() }
    }

    /// Whether it is a sender that has no message yet.
    #[inline]
    pub(super) fn is_promise(&self) -> bool {
        self.place().is_promise()
    }

    pub(super) fn is_at(&self, place: &Place<T>) -> bool {
        ptr::eq(self.0.as_ptr(), place)
    }

    /// Tells a promise who waits for its message, or a receiver the number of its own.
    pub(super) fn set_ticket(&self, ticket: u64) {
        self.place().ticket.set(ticket);
    }

    /// Takes the message of one who brought one, and lets it go.
    #[inline]
    pub(super) fn take(self) -> (T, Wake) {
        // SAFETY: claimed by us, so alive until `finish`; the slot of a sender that is no promise holds its
        // message, and we are the only one to read it.
        unsafe {
            let place = self.place();
            debug_assert!(!place.is_promise());
            let message = (*place.slot.get()).read();
            (message, (*place.waiter.get()).finish())
        }
    }

    /// Takes the message of one who brought one, who goes on waiting. Once.
    pub(super) fn take_and_keep(&self) -> T {
        let place = self.place();
        debug_assert!(!place.is_promise());
        // SAFETY: claimed by us, so the slot is ours until `finish`; it holds a message, since its owner is no promise.
        unsafe { (*place.slot.get()).read() }
    }

    /// Gives a message to one who wants one, and lets it go.
    #[inline]
    pub(super) fn give(self, message: T) -> Wake {
        // SAFETY: claimed by us, so alive until `finish`; a receiver's slot is empty, and ours.
        unsafe {
            let place = self.place();
            (*place.slot.get()).write(message);
            (*place.waiter.get()).finish()
        }
    }

    /// Lets it go with its slot as it is.
    pub(super) fn dismiss(self) -> Wake {
        // SAFETY: claimed by us, so alive until `finish`.
        unsafe { (*self.place().waiter.get()).finish() }
    }

    /// Lets it go, claimed for something else than it was first.
    pub(super) fn dismiss_as(self, kind: Kind) -> Wake {
        let place = self.place();
        // SAFETY: as above; and the claim is ours.
        unsafe {
            let waiter = &*place.waiter.get();
            waiter.amend(kind.token(place.index.get()));
            waiter.finish()
        }
    }
}

#[cfg(all(test, not(loom)))]
mod tests {
    use super::*;
    use crate::wait::TIMED_OUT;

    #[test]
    fn the_line_is_served_in_order_and_steps_over_those_who_gave_up() {
        let waiters: Vec<Waiter> = (0..5).map(|_| Waiter::new()).collect();
        let slots: Vec<Slot<usize>> = (0..5).map(Slot::holding).collect();
        let places: Vec<Place<usize>> =
            waiters.iter().zip(&slots).map(|(w, slot)| Place::with(w, slot)).collect();
        let mut line = Line::new();
        for place in &places {
            // SAFETY: all places stay until the end of the test.
            unsafe { line.join(place) };
        }
        line.leave(&places[1]);
        line.leave(&places[1]);
        assert!(waiters[2].try_claim(TIMED_OUT));
        let mut served = Vec::new();
        while let Some(claimed) = line.claim_first(Kind::Passed) {
            let (message, wake) = claimed.take();
            wake.deliver();
            served.push(message);
        }
        assert_eq!(served, [0, 3, 4]);
        assert!(line.is_empty());
    }

    #[test]
    fn a_token_says_which_arm_and_what_for() {
        for index in [0, 1, 31, 1_000_000] {
            for kind in [Kind::Passed, Kind::Closed, Kind::Partner, Kind::Oneself] {
                let token = kind.token(index);
                assert_eq!(
                    (Kind::of(token), token),
                    (kind, selection::token_of(kind as usize, index))
                );
                assert_ne!(token, TIMED_OUT);
            }
        }
    }
}
