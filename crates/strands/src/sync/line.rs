//! Lines of those who wait at a lock, and how they are let go.
//!
//! A [`Place`] is in the frame of the one who waits (or in its future): a waiter of the seam, a number that
//! means something to the lock, and links. A [`Line`] is a list of places, guarded by the lock's own short
//! lock. Nothing moves through a place, so a claim and its finish are one step under the short lock: whoever
//! holds that lock and finds a place out of line knows that its waiter has been served, or has given up.
//!
//! # Who owns a place when
//!
//! | when | the waiter | links and note |
//! |---|---|---|
//! | before it is in a line | its owner | its owner |
//! | in a line | whoever claims it | the short lock |
//! | claimed | the claimant, until its finish, in the same section | nobody |
//! | after that | its owner | its owner |
//!
//! A deadline claims a waiter without the short lock. Such a place stays in line, is stepped over, and is
//! taken out by its owner ([`Line::leave`]).

use crate::wait::{Holder, Reason, ShortLock, Token, Waiter, Wake};
use std::cell::Cell;
use std::marker::PhantomPinned;
use std::ptr;
use std::task::Waker;
use std::time::Instant;

/// So many are woken between two looks at the short lock, when many are.
const BATCH: usize = 32;

/// Where one party waits.
pub(super) struct Place {
    waiter: Waiter,
    note: Cell<usize>,
    next: Cell<*const Place>,
    previous: Cell<*const Place>,
    in_line: Cell<bool>,
    _pinned: PhantomPinned,
}

// SAFETY: see the table above: links, note and the like have one owner at a time, and go from one to the next
// by way of the short lock.
unsafe impl Send for Place {}
// SAFETY: as above.
unsafe impl Sync for Place {}

impl Place {
    /// For whoever is running now, who will wait until `deadline`.
    pub(super) fn until(deadline: Option<Instant>) -> Place {
        // With no deadline nobody but the holder of the short lock can claim it.
        Place::of(if deadline.is_none() { Waiter::exclusive() } else { Waiter::new() })
    }

    /// For an async task.
    pub(super) fn of_future(waker: Waker) -> Place {
        Place::of(Waiter::of_future(waker))
    }

    fn of(waiter: Waiter) -> Place {
        Place {
            waiter,
            note: Cell::new(0),
            next: Cell::new(ptr::null()),
            previous: Cell::new(ptr::null()),
            in_line: Cell::new(false),
            _pinned: PhantomPinned,
        }
    }

    /// Waits to be claimed.
    ///
    /// Blocks: the goroutine, or else the thread.
    #[inline]
    pub(super) fn park(&self, why: Reason, deadline: Option<Instant>) -> Token {
        self.waiter.park(why, deadline)
    }

    /// The same, for a lock that somebody holds, whom reports are to name meanwhile.
    pub(super) fn park_behind(
        &self,
        holder: &Holder,
        why: Reason,
        deadline: Option<Instant>,
    ) -> Token {
        self.waiter.park_behind(holder, why, deadline)
    }

    /// For an async task that has found itself in line, under the short lock: the former waker, which is to
    /// be dropped after that lock.
    pub(super) fn renew(&self, waker: Waker) -> Option<Waker> {
        debug_assert!(self.in_line.get());
        // SAFETY: in line, so unclaimed, as an async task has no deadline that could have claimed it; and the
        // short lock is held.
        unsafe { self.waiter.replace_waker(waker) }
    }

    /// For an async task: what it was claimed for, if it was.
    pub(super) fn outcome(&self) -> Option<Token> {
        self.waiter.outcome()
    }
}

/// A line of places. Under the short lock.
pub(super) struct Line {
    first: *const Place,
    last: *const Place,
}

// SAFETY: places are reached under the short lock only.
unsafe impl Send for Line {}

impl Line {
    pub(super) const fn new() -> Line {
        Line { first: ptr::null(), last: ptr::null() }
    }

    #[inline]
    pub(super) fn is_empty(&self) -> bool {
        self.first.is_null()
    }

    /// The note of the first in line, if there is one. It may have given up.
    pub(super) fn first_note(&self) -> Option<usize> {
        // SAFETY: places in the line are alive.
        unsafe { self.first.as_ref() }.map(|place| place.note.get())
    }

    /// Goes to the end of the line, with a note for whoever looks.
    ///
    /// # Safety
    /// The place stays where it is until it was claimed and woken, or was taken out by
    /// [`leave`](Line::leave).
    pub(super) unsafe fn join(&mut self, place: &Place, note: usize) {
        place.note.set(note);
        self.link(place, self.last, ptr::null());
    }

    /// Goes to the head of the line: for one who has waited before.
    ///
    /// # Safety
    /// As for [`join`](Line::join).
    pub(super) unsafe fn join_first(&mut self, place: &Place) {
        self.link(place, ptr::null(), self.first);
    }

    fn link(&mut self, place: &Place, previous: *const Place, next: *const Place) {
        debug_assert!(!place.in_line.get());
        place.in_line.set(true);
        place.previous.set(previous);
        place.next.set(next);
        // SAFETY: places in the line are alive, and their links are ours under the short lock.
        unsafe {
            match previous.as_ref() {
                Some(previous) => previous.next.set(place),
                None => self.first = place,
            }
            match next.as_ref() {
                Some(next) => next.previous.set(place),
                None => self.last = place,
            }
        }
    }

    fn unlink(&mut self, place: &Place) {
        place.in_line.set(false);
        let (previous, next) = (place.previous.get(), place.next.get());
        // SAFETY: neighbours in the line are alive, and their links are ours under the short lock.
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

    /// Takes a place out. False: it was out already.
    pub(super) fn leave(&mut self, place: &Place) -> bool {
        let was_in = place.in_line.get();
        if was_in {
            self.unlink(place);
        }
        was_in
    }

    /// Claims the first who can be claimed, for `token`, and takes it out. The wake-up is to be delivered
    /// after the short lock.
    #[inline]
    pub(super) fn claim_first(&mut self, token: Token) -> Option<Wake> {
        while !self.is_empty() {
            let wake = self.take_first(token);
            if wake.is_some() {
                return wake;
            }
        }
        None
    }

    /// Takes the first out, and claims it for `token`. `None` if it has given up.
    #[inline]
    pub(super) fn take_first(&mut self, token: Token) -> Option<Wake> {
        self.take_first_and(token, || ())
    }

    /// The same; `prepare` is called between claim and finish. (After the finish a thread may go on, whatever
    /// we have yet to do.)
    #[inline]
    pub(super) fn take_first_and(&mut self, token: Token, prepare: impl FnOnce()) -> Option<Wake> {
        // SAFETY: places in the line are alive, and so are their waiters.
        let place = unsafe { self.first.as_ref() }?;
        self.unlink(place);
        place.waiter.try_claim(token).then(|| {
            prepare();
            // SAFETY: claimed by us; the place is not touched again.
            unsafe { place.waiter.finish() }
        })
    }
}

/// Wake-ups that are owed, up to a number that fits into a frame.
pub(super) struct Wakes {
    wakes: [Option<Wake>; BATCH],
    count: usize,
}

impl Wakes {
    pub(super) fn new() -> Wakes {
        Wakes { wakes: [const { None }; BATCH], count: 0 }
    }

    pub(super) fn is_full(&self) -> bool {
        self.count == BATCH
    }

    pub(super) fn push(&mut self, wake: Wake) {
        self.wakes[self.count] = Some(wake);
        self.count += 1;
    }

    /// Wakes them all. Call it with no lock held.
    pub(super) fn deliver(self) {
        self.wakes.into_iter().flatten().for_each(Wake::deliver);
    }
}

/// Those who wait for one event: the line, and how often the event has come about.
///
/// Whoever joins notes for which occurrence it waits. So a crowd can be let go in batches, with the short
/// lock free between them, and those who come meanwhile wait for the next.
pub(super) struct Crowd {
    line: Line,
    occurrences: usize,
}

impl Crowd {
    pub(super) const fn new() -> Crowd {
        Crowd { line: Line::new(), occurrences: 0 }
    }

    pub(super) fn is_empty(&self) -> bool {
        self.line.is_empty()
    }

    /// Joins those who wait for the next occurrence.
    ///
    /// # Safety
    /// As for [`Line::join`].
    pub(super) unsafe fn join(&mut self, place: &Place) {
        // SAFETY: the caller's promise.
        unsafe { self.line.join(place, self.occurrences) };
    }

    pub(super) fn leave(&mut self, place: &Place) -> bool {
        self.line.leave(place)
    }

    /// Claims one of them.
    pub(super) fn claim_first(&mut self, token: Token) -> Option<Wake> {
        self.line.claim_first(token)
    }

    /// The event has come about: whoever has waited is now to be let go, by [`dismiss`]. `None` if nobody has.
    #[must_use = "somebody waits to be let go"]
    pub(super) fn occur(&mut self) -> Option<Occurrence> {
        if self.line.is_empty() {
            return None;
        }
        let this = Occurrence(self.occurrences);
        self.occurrences = self.occurrences.wrapping_add(1);
        Some(this)
    }
}

/// Which one it was.
#[derive(Clone, Copy)]
pub(super) struct Occurrence(usize);

impl Occurrence {
    fn is_awaited_by(self, note: usize) -> bool {
        // Wrapping, as the count does: nobody waits for half the numbers there are.
        self.0.wrapping_sub(note) <= usize::MAX / 2
    }
}

/// Lets all go who have waited for this occurrence, a batch at a time. Call it with no lock held.
pub(super) fn dismiss<S>(
    lock: &ShortLock<S>,
    crowd: impl Fn(&mut S) -> &mut Crowd,
    occurrence: Option<Occurrence>,
    token: Token,
) {
    let Some(occurrence) = occurrence else { return };
    loop {
        let mut wakes = Wakes::new();
        {
            let mut state = lock.lock();
            let line = &mut crowd(&mut state).line;
            while !wakes.is_full()
                && line.first_note().is_some_and(|note| occurrence.is_awaited_by(note))
            {
                // `None`: it has given up, and what is first now may wait for the next.
                if let Some(wake) = line.take_first(token) {
                    wakes.push(wake);
                }
            }
        }
        let done = !wakes.is_full();
        wakes.deliver();
        if done {
            return;
        }
    }
}

#[cfg(all(test, not(loom)))]
mod tests {
    use super::*;
    use crate::wait::{FIRST_FREE, TIMED_OUT};
    use std::time::Duration;

    fn places<const N: usize>() -> [Place; N] {
        let deadline = Some(Instant::now() + Duration::from_secs(1));
        [(); N].map(|()| Place::until(deadline))
    }

    fn served(place: &Place) -> bool {
        !place.waiter.try_claim(TIMED_OUT)
    }

    #[test]
    fn the_line_is_served_in_order_and_steps_over_those_who_gave_up() {
        let places = places::<5>();
        let mut line = Line::new();
        for (note, place) in places[1..].iter().enumerate() {
            // SAFETY: all places stay until the end of the test.
            unsafe { line.join(place, note) };
        }
        // SAFETY: as above.
        unsafe { line.join_first(&places[0]) };
        assert!(line.leave(&places[2]));
        assert!(!line.leave(&places[2]));
        assert!(places[1].waiter.try_claim(TIMED_OUT));
        for expected in [0, 3, 4] {
            assert!(line.claim_first(FIRST_FREE).is_some());
            assert!(!places[expected].in_line.get());
            assert!(served(&places[expected]));
        }
        assert!(line.claim_first(FIRST_FREE).is_none());
        assert!(line.is_empty());
    }

    #[test]
    fn who_joins_after_the_event_waits_for_the_next() {
        let places = places::<3>();
        let lock = ShortLock::new(Crowd::new());
        assert!(lock.lock().occur().is_none(), "nobody has waited");
        // SAFETY: all places stay until the end of the test.
        unsafe {
            lock.lock().join(&places[0]);
            lock.lock().join(&places[1]);
        }
        let occurrence = lock.lock().occur();
        // SAFETY: as above.
        unsafe { lock.lock().join(&places[2]) };
        dismiss(&lock, |crowd| crowd, occurrence, FIRST_FREE);
        assert_eq!(places.each_ref().map(served), [true, true, false]);
        assert!(lock.lock().leave(&places[2]));
    }
}
