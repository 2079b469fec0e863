//! Readers counted per thread: what keeps those who read one lock on several processors out of each other's way.
//!
//! A lock's lanes are an array of counts, each in cache lines of its own, one for each [`Seat`] with a number below
//! some bound. Only the seat's own thread writes its count. A reader that comes adds one to the count of the seat
//! where it is; one that leaves takes one off the count of the seat where it is *then*, which may be another, for it
//! may have changed its thread in between. So a single count means nothing, and may be below zero (they wrap); but
//! the sum of all, and of the lock's own count, is the number of those who read.
//!
//! They are made when a lock turns out to be read often, in one piece, and stay until the lock is dropped:
//!
//! ```text
//!   ┌──────────────┬──────────┬──────────┬─
//!   │ how many n   │ count 0  │ count 1  │ …  n of them, each padded to where no other processor writes
//!   └──────────────┴──────────┴──────────┴─
//! ```

use crate::primitive::atomic::{AtomicPtr, AtomicUsize, Ordering};
use crate::wait::{self, Seat};
use crossbeam_utils::CachePadded;
use std::ptr;
use std::slice;
use std::sync::atomic::AtomicUsize as Count;

type Line = CachePadded<AtomicUsize>;

/// Of a lock with more seats than that, the others' readers are counted in its own word.
const MOST_LANES: usize = 64;
/// So many locks may have lanes at a time: a program with a million locks is not to have a million arrays.
const MOST_LOCKS: usize = 4_096;

/// How many locks have lanes. Not loom's, for it is no part of any protocol.
static LOCKS: Count = Count::new(0);

/// A lock's lanes, if it has them.
pub(super) struct Lanes(AtomicPtr<Line>);

/// One of them, in the hands of the thread that may write it.
pub(super) struct Lane<'a>(&'a AtomicUsize);

impl Lanes {
    const_unless_loom! {
        pub(super) fn none() -> Lanes {
            Lanes(AtomicPtr::new(ptr::null_mut()))
        }
    }

    #[inline]
    fn all(&self) -> &[Line] {
        // Ordering: Acquire pairs with the Release in `make`.
        let lines = self.0.load(Ordering::Acquire);
        if lines.is_null() {
            return &[];
        }
        // SAFETY: made by `make`, and freed when nobody has us any more: a line with the number of those that follow.
        unsafe { slice::from_raw_parts(lines.add(1), (*lines).load(Ordering::Relaxed)) }
    }

    /// The lane of whoever runs now, who may use it until it is suspended.
    #[inline]
    pub(super) fn mine(&self) -> Option<Lane<'_>> {
        let seat = wait::seat()?;
        self.all().get(seat.number()).map(|line| Lane(line))
    }

    /// The sum of all counts, which wraps.
    ///
    /// What those who have been taken off did before is visible.
    #[inline]
    pub(super) fn sum(&self) -> usize {
        // Ordering: SeqCst as in `Lane::count_in`; with it Acquire, which pairs with the Release in `count_out`.
        self.all().iter().fold(0, |sum, lane| sum.wrapping_add(lane.load(Ordering::SeqCst)))
    }

    /// Makes them, if that has not been done. False: there are none to be had.
    pub(super) fn make(&self, seat: &Seat) -> bool {
        if !self.all().is_empty() {
            return true;
        }
        if LOCKS.fetch_add(1, Ordering::Relaxed) >= MOST_LOCKS {
            LOCKS.fetch_sub(1, Ordering::Relaxed);
            return false;
        }
        let lanes = seat.usual().min(MOST_LANES);
        let count = |n| CachePadded::new(AtomicUsize::new(n));
        let lines: Box<[Line]> =
            std::iter::once(lanes).chain((0..lanes).map(|_| 0)).map(count).collect();
        let lines = Box::into_raw(lines).cast();
        // Ordering: Release: whoever finds the lanes finds them made.
        let made =
            self.0.compare_exchange(ptr::null_mut(), lines, Ordering::Release, Ordering::Relaxed);
        if made.is_err() {
            // Another was quicker.
            // SAFETY: nobody else has got to know of them.
            unsafe { Lanes::free(lines) };
        }
        true
    }

    /// # Safety
    /// Made by `make`, and in nobody's hands.
    unsafe fn free(lines: *mut Line) {
        // SAFETY: the caller's promise: the box that `make` has made.
        unsafe {
            let length = 1 + (*lines).load(Ordering::Relaxed);
            drop(Box::from_raw(ptr::slice_from_raw_parts_mut(lines, length)));
        }
        LOCKS.fetch_sub(1, Ordering::Relaxed);
    }
}

impl Drop for Lanes {
    fn drop(&mut self) {
        let lines = self.0.load(Ordering::Relaxed);
        if !lines.is_null() {
            // SAFETY: the lock is being dropped: nobody has it any more.
            unsafe { Lanes::free(lines) };
        }
    }
}

impl Lane<'_> {
    /// Adds one. What the caller loads next, as SeqCst, is loaded after that.
    #[inline]
    pub(super) fn count_in(&self) {
        // Ordering: SeqCst: one of us sees the other, we or a writer who sets `WRITER` and adds the counts up.
        self.0.fetch_add(1, Ordering::SeqCst);
        in_order();
    }

    /// Takes one off, without a barrier.
    #[inline]
    pub(super) fn count_out(&self) {
        // Nobody else writes it: see `mine`.
        // Ordering: Release pairs with the Acquire of a writer that adds the counts up.
        let count = self.0.load(Ordering::Relaxed);
        self.0.store(count.wrapping_sub(1), Ordering::Release);
    }
}

/// Between two accesses that are SeqCst. They have their order by that; but loom takes only fences to be SeqCst.
#[inline]
pub(super) fn in_order() {
    #[cfg(loom)]
    crate::primitive::atomic::fence(Ordering::SeqCst);
}
