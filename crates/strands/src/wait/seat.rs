//! Seats: the threads on which a scheduler runs its goroutines, as seen by those who wait.
//!
//! Where goroutines meet, some things are better kept for each thread than for all together: readers of a lock, say,
//! counted where no other processor writes. A seat tells such places apart: it has a number that is no other
//! thread's at the same time. It also knows which places its thread is seen at often, for that is where such a thing
//! pays; it is noted here, in the thread's own memory, since a note at the place itself would cost what is to be
//! saved.
//!
//! Plain threads have no seat, nor has anybody under a foreign executor.

use std::cell::Cell;
use std::sync::atomic::{AtomicUsize, Ordering};

#[cfg(not(loom))]
std::thread_local! {
    static SEAT: Cell<*const Seat> = const { Cell::new(std::ptr::null()) };
}
// In a model each thread has its own.
#[cfg(loom)]
loom::thread_local! {
    static SEAT: Cell<*const Seat> = Cell::new(std::ptr::null());
}

/// After so many visits a place is one that is visited often.
const OFTEN: u32 = if cfg!(loom) { 2 } else { 4_096 };
/// So many places are watched at once.
const WATCHED: usize = 32;

static NUMBERS: AtomicUsize = AtomicUsize::new(0);

/// What a scheduler's thread is known by. A part of the scheduler's own record of that thread.
pub(crate) struct Seat {
    number: usize,
    usual: usize,
    haunts: [Haunt; WATCHED],
}

/// A place, and how much more often it was visited of late than others that would have to be watched here.
struct Haunt {
    place: Cell<usize>,
    visits: Cell<u32>,
}

impl Seat {
    /// A seat beside others, of which there are usually as many.
    pub(crate) fn new(usual: usize) -> Seat {
        Seat::numbered(NUMBERS.fetch_add(1, Ordering::Relaxed), usual)
    }

    fn numbered(number: usize, usual: usize) -> Seat {
        let haunts = [(); WATCHED].map(|()| Haunt { place: Cell::new(0), visits: Cell::new(0) });
        Seat { number, usual, haunts }
    }

    /// For models, which see to it that no two have the same number.
    #[cfg(all(test, loom))]
    pub(crate) fn for_model(number: usize) -> Seat {
        Seat::numbered(number, 2)
    }

    /// Which one it is: no other seat has the number.
    #[inline]
    pub(crate) fn number(&self) -> usize {
        self.number
    }

    /// How many there usually are, and so how many numbers are worth providing for.
    pub(crate) fn usual(&self) -> usize {
        self.usual
    }

    /// Notes a visit at a place. True for every so many visits at a place that is visited more often than others.
    #[inline]
    pub(crate) fn is_often_at(&self, place: usize) -> bool {
        // Places are at least 16 bytes apart; the multiplication spreads what they differ in.
        let hash = (place >> 4).wrapping_mul(0x9e37_79b9_7f4a_7c15_u64 as usize);
        let haunt = &self.haunts[hash >> (usize::BITS - WATCHED.ilog2())];
        let visits = haunt.visits.get();
        if haunt.place.get() == place {
            let often = visits + 1 == OFTEN;
            haunt.visits.set(if often { 0 } else { visits + 1 });
            often
        } else {
            haunt.disturb(place);
            false
        }
    }
}

impl Haunt {
    /// Another place has been visited that is to be watched here.
    #[cold]
    fn disturb(&self, place: usize) {
        let visits = self.visits.get();
        if visits == 0 {
            self.place.set(place);
            self.visits.set(1);
        } else {
            self.visits.set(visits - 1);
        }
    }
}

/// Tells whose seat this thread has from now on (null: none). For schedulers.
///
/// # Safety
/// The seat lives for good, and no other thread has it until this one has said that it has none.
pub(crate) unsafe fn take_seat(seat: *const Seat) {
    SEAT.with(|cell| cell.set(seat));
}

/// Where the thread-local is that says so, of the thread that asks. For schedulers whose goroutines have
/// thread-locals of their own: what they write there is subject to the contract of [`take_seat`].
#[cfg(not(loom))]
pub(crate) fn seat_place() -> *const Cell<*const Seat> {
    SEAT.with(std::ptr::from_ref)
}

/// The pointer that the scheduler has left.
///
/// Inlined: for functions that are not, see [`seat`].
#[inline(always)]
pub(crate) fn seat_pointer() -> *const Seat {
    SEAT.with(Cell::get)
}

/// The seat of this thread, if it has one. Not to be kept across a switch.
///
/// Never inlined, so that no caller can keep a thread-local's address across a switch.
#[inline(never)]
pub(crate) fn seat() -> Option<&'static Seat> {
    // SAFETY: the contract of `take_seat`: it lives for good, and it is this thread's, so nobody else is at its cells.
    unsafe { seat_pointer().as_ref() }
}

#[cfg(all(test, not(loom)))]
mod tests {
    use super::*;

    fn visits_until_often(seat: &Seat, places: &[usize]) -> Option<u32> {
        let mut visits = 0;
        while visits < 4 * OFTEN {
            for &place in places {
                visits += 1;
                if seat.is_often_at(place) {
                    return Some(visits);
                }
            }
        }
        None
    }

    #[test]
    fn numbers_differ() {
        assert_ne!(Seat::new(1).number(), Seat::new(1).number());
    }

    #[test]
    fn a_place_that_is_visited_often_is_found_and_found_again() {
        let seat = Seat::new(1);
        assert_eq!(visits_until_often(&seat, &[0x1000]), Some(OFTEN));
        assert_eq!(visits_until_often(&seat, &[0x1000]), Some(OFTEN));
    }

    #[test]
    fn one_of_many_places_is_found_if_it_is_visited_more_often_than_the_others() {
        let seat = Seat::new(1);
        let often = (0..20 * OFTEN as usize).any(|n| {
            // Another one each time, so that those who share its place in the table come by.
            let _ = seat.is_often_at(0x10_0000 + 16 * n);
            seat.is_often_at(0x1000)
        });
        assert!(often);
    }

    #[test]
    fn many_places_that_are_visited_alike_are_not() {
        let seat = Seat::new(1);
        let places: Vec<usize> = (0..10 * WATCHED).map(|n| 0x1000 + 64 * n).collect();
        let often = (0..2 * OFTEN)
            .any(|_| places.iter().filter(|place| seat.is_often_at(**place)).count() > 0);
        assert!(!often, "as none stands out");
    }
}
