//! The reader-writer lock: a mutex for writers, a count of readers, and a bit by which a writer holds new
//! readers back. The phases are those of Go's `RWMutex`.
//!
//! ```text
//!   a writer                                        a reader
//!   ────────                                        ────────
//!   W1  writers.lock()                              R1  count + 1; there was no WRITER? then it reads
//!   W2  set WRITER: no reader comes in any more     R2  else as in R3, and under the short lock: HELD_BACK,
//!   W3  count == 0? then it writes                      join, park (who lets it go has counted it)
//!   W4  else, under the short lock: look again,     R3  done: count - 1; if it was the last and WRITER is
//!       join, park                                      set: under the short lock, wake the writer of W4
//!   W5  done: clear WRITER, count in all who were
//!       held back and wake them; writers.unlock()
//! ```
//!
//! So readers and writers alternate: a writer waits for the readers that were in before it, and not for those
//! who come later; and those go before the next writer. Neither can starve the other, and among writers the
//! mutex sees to fairness.
//!
//! A reader that already reads and reads again while a writer waits has locked itself out, as in Go and std.
//!
//! **A reader counts itself before it knows whether it may read.** With a compare-and-swap instead, readers that
//! come at the same time would make each other try again: four of them took twice as long. The price: while readers
//! come and find a writer, the count is too high for a moment. To the writer they are like readers that leave at
//! once, and one that tries to write may be turned away on their account.
//!
//! # Where readers are counted
//!
//! In the lock's own word, at first. That makes two atomic operations a read, on a cache line that all readers pull
//! to and fro. A lock that turns out to be read often opens its [`Lanes`], where each thread counts on its own. There,
//! coming costs one atomic operation, which nobody else is in the way of, and leaving none:
//!
//! ```text
//!   a reader comes       lane + 1; full barrier; there is no WRITER? then it reads
//!   a writer comes       set WRITER; full barrier; all counts add up to 0? then it writes
//!
//!   a reader leaves      lane - 1; (nothing)   ; AWAITED or CLOSED is set? then it looks closer
//!   a writer waits       set AWAITED and CLOSED; barrier in *all threads*; the sum is 0? if not, it parks
//! ```
//!
//! *Coming* is the usual bargain: whoever is second sees the other, so they are never both in. *Leaving* is lopsided:
//! the writer sees to both barriers, by a system call (`primitive::lopsided`). The barrier falls somewhere in
//! each reader's course. A reader that has counted itself out before it is seen by the writer, who adds up after it; one
//! that counts itself out later looks later, too, and sees `AWAITED`. But the call takes microseconds and
//! interrupts everybody. So a writer that has had to make it leaves the lanes `CLOSED`: readers keep to the word, and
//! further writers need no such barrier, until the lock has been read often again.
//!
//! A reader that is under way when the lanes are closed: either the barrier of the writer that has closed them is
//! behind its count, which every writer since then has seen; or it sees `CLOSED` after its count (the lanes are
//! opened only when there is no `WRITER`: if they have been opened meanwhile, that writer is gone, and so is any who
//! relied on their being closed). Then it makes up for the barrier, and looks again. With a barrier on both sides,
//! it sees `AWAITED`, or the writer sees its count.
//!
//! **The sum is never too low.** A reader comes at one count and may leave at another, so each of them means
//! nothing alone. But once `WRITER` is set, and the barrier is passed, all who read have been added in what the writer
//! will find, and no more come. From there on the counts only lose those who leave, and gain and lose again, in this order
//! and in one place, those who come in vain. So a writer that adds up counts while they change may find too many,
//! whom it then waits for and who will look closer as they leave. It cannot find too few.
//!
//! # The word
//!
//! | bits | meaning | changed by |
//! |---|---|---|
//! | `CLOSED` | who reads is counted in this word | set by a writer that waits; cleared by a reader, if there is no `WRITER` |
//! | `HELD_BACK` | readers are in line | under the short lock |
//! | `WRITER` | a writer writes, or waits for the readers to leave | the owner of `writers` |
//! | `AWAITED` | it waits in line for that | the owner of `writers` |
//! | the others, in units of `ONE` | how many read, together with the lanes; wraps | anyone |
//!
//! **No wake-up is lost.** A reader that joins has seen `WRITER` when it set `HELD_BACK`, in one step under the
//! short lock; the writer clears `WRITER` by a step that sees `HELD_BACK`, or under the short lock. A writer sets
//! `AWAITED` before it adds the counts up for the last time, under the short lock; whoever leaves and is not in that
//! sum sees `AWAITED`, and adds them up under the short lock, too. Of two that do the second finds both gone.

use super::super::line::{Line, Place, Wakes};
use super::RawMutex;
use super::lanes::{Lane, Lanes, in_order};
use super::mutex::{Locking, pause};
use crate::primitive::atomic::{AtomicUsize, Ordering, fence};
use crate::primitive::lopsided;
use crate::wait::{self, FIRST_FREE, Reason, Seat, ShortLock, TIMED_OUT, Token, WaitKind};
use std::fmt;
use std::mem;
use std::panic::{RefUnwindSafe, UnwindSafe};
use std::pin::Pin;
use std::task::{Context, Poll, Waker};
use std::time::Instant;

const CLOSED: usize = 1;
const HELD_BACK: usize = 2;
const WRITER: usize = 4;
const AWAITED: usize = 8;
const ONE: usize = 16;
/// Not a count.
const FLAGS: usize = ONE - 1;

/// Looks before waiting: about two microseconds in all.
#[cfg(not(loom))]
const PATIENT_LOOKS: u32 = 6;
#[cfg(loom)]
const PATIENT_LOOKS: u32 = 1;

/// You read: you have been counted. Or you write: the readers have left.
const ADMITTED: Token = FIRST_FREE;

/// A reader-writer lock that guards nothing by itself, and knows nothing of poisoning.
///
/// Use it by way of [`lock_api`], as [`raw::RwLock`](super::RwLock) does, or directly through
/// [`lock_api::RawRwLock`].
///
/// Blocks: the goroutine, or else the thread.
pub struct RawRwLock {
    state: AtomicUsize,
    lanes: Lanes,
    writers: RawMutex,
    waiting: ShortLock<Waiting>,
}

struct Waiting {
    /// Held back by `WRITER`.
    readers: Line,
    /// The owner of `writers`, for whom the readers are to leave.
    writer: Line,
}

impl UnwindSafe for RawRwLock {}
impl RefUnwindSafe for RawRwLock {}

impl RawRwLock {
    const_unless_loom! {
        pub(in crate::sync) fn new() -> RawRwLock {
            RawRwLock {
                state: AtomicUsize::new(CLOSED),
                lanes: Lanes::none(),
                writers: RawMutex::new(),
                waiting: ShortLock::new(Waiting { readers: Line::new(), writer: Line::new() }),
            }
        }
    }

    #[inline]
    fn reason(&self, kind: WaitKind) -> Reason {
        Reason::on(kind, std::ptr::from_ref(self).addr())
    }

    #[inline]
    fn replace(&self, from: usize, to: usize, order: Ordering) -> Result<(), usize> {
        self.state.compare_exchange_weak(from, to, order, Ordering::Relaxed).map(|_| ())
    }

    // ---- Reading ----

    /// Counts a reader in, if no writer is there.
    #[inline]
    pub(in crate::sync) fn try_read(&self) -> bool {
        // Who keeps trying should not keep others from writing.
        self.state.load(Ordering::Relaxed) & WRITER == 0 && self.count_in()
    }

    /// R1.
    #[inline]
    fn count_in(&self) -> bool {
        if self.state.load(Ordering::Relaxed) & (CLOSED | WRITER) == 0
            && let Some(lane) = self.lanes.mine()
        {
            lane.count_in();
            // Ordering: SeqCst, see `Lane::count_in`; with it Acquire, which pairs with the Release of the last writer.
            let may_read = self.state.load(Ordering::SeqCst) & WRITER == 0;
            if !may_read {
                self.leave_lane(&lane);
            }
            return may_read;
        }
        self.count_in_here()
    }

    /// In the word. The count cannot run over: 2⁵⁹ guards would have to be leaked, one at a time.
    #[inline]
    fn count_in_here(&self) -> bool {
        // Ordering: Acquire pairs with the Release of the last writer.
        let before = self.state.fetch_add(ONE, Ordering::Acquire);
        if before & WRITER != 0 {
            self.leave_here();
            return false;
        }
        if let Some(seat) = wait::seat()
            && seat.is_often_at(std::ptr::from_ref(self).addr())
        {
            self.open_lanes(seat);
        }
        true
    }

    /// Has readers count themselves in the lanes from now on, if that can be.
    #[cold]
    fn open_lanes(&self, seat: &Seat) {
        if !lopsided::is_ready() || !self.lanes.make(seat) {
            return;
        }
        let mut seen = self.state.load(Ordering::Relaxed);
        // Not while there is a writer: it may rely on their being closed.
        while seen & CLOSED != 0 && seen & WRITER == 0 {
            // Ordering: Release pairs with the Acquire of the writer that finds them open: it finds them.
            match self.replace(seen, seen & !CLOSED, Ordering::Release) {
                Ok(()) => return,
                Err(now) => seen = now,
            }
        }
    }

    /// False: the deadline has passed.
    #[inline]
    pub(in crate::sync) fn read_until(&self, deadline: Option<Instant>) -> bool {
        self.count_in() || self.read_slow(deadline)
    }

    #[cold]
    fn read_slow(&self, deadline: Option<Instant>) -> bool {
        for look in 0..PATIENT_LOOKS {
            pause(look);
            if self.try_read() {
                return true;
            }
        }
        let place = Place::until(deadline);
        // SAFETY: the place stays in this frame until it was claimed and woken, or is taken out below.
        if unsafe { self.read_or_join(&place) } {
            return true;
        }
        // Whoever has `writers` holds us back: it writes, or is about to.
        let why = self.reason(WaitKind::RwLockRead);
        let token = place.park_behind(self.writers.holder(), why, deadline);
        if token == TIMED_OUT {
            self.stop_waiting_to_read(&place);
        }
        token != TIMED_OUT
    }

    /// Reads if no writer is there, or joins those who are held back.
    ///
    /// # Safety
    /// As for [`Line::join`].
    unsafe fn read_or_join(&self, place: &Place) -> bool {
        let mut waiting = self.waiting.lock();
        let mut seen = self.state.load(Ordering::Relaxed);
        loop {
            let free = seen & WRITER == 0;
            // There may be readers in line all the same, who are being let go: they are not in our way.
            let to = if free { seen.wrapping_add(ONE) } else { seen | HELD_BACK };
            // Ordering: as in `try_read`.
            match self.replace(seen, to, Ordering::Acquire) {
                Ok(()) if free => return true,
                Ok(()) => break,
                Err(now) => seen = now,
            }
        }
        // SAFETY: the caller's promise.
        unsafe { waiting.readers.join(place, 0) };
        false
    }

    /// For one who was not served. True: it was in line still.
    fn stop_waiting_to_read(&self, place: &Place) -> bool {
        let mut waiting = self.waiting.lock();
        let was_in = waiting.readers.leave(place);
        if waiting.readers.is_empty() {
            self.state.fetch_and(!HELD_BACK, Ordering::Relaxed);
        }
        was_in
    }

    /// Counts a reader out.
    ///
    /// # Safety
    /// The caller has been counted in, and no longer uses what the lock guards.
    #[inline]
    pub(in crate::sync) unsafe fn unlock_read(&self) {
        if self.state.load(Ordering::Relaxed) & CLOSED == 0
            && let Some(lane) = self.lanes.mine()
        {
            self.leave_lane(&lane);
        } else {
            self.leave_here();
        }
    }

    // Who has come in vain leaves where it came: see "The sum is never too low".

    #[inline]
    fn leave_lane(&self, lane: &Lane<'_>) {
        lane.count_out();
        lopsided::light();
        if self.state.load(Ordering::Relaxed) & (AWAITED | CLOSED) != 0 {
            self.look_closer();
        }
    }

    #[inline]
    fn leave_here(&self) {
        // Ordering: Release pairs with the Acquire of the writer that finds no reader, W3 and W4.
        if self.state.fetch_sub(ONE, Ordering::Release) & AWAITED != 0 {
            self.wake_writer();
        }
    }

    /// For one that has counted itself out in a lane, and has seen that this may have to be known.
    #[cold]
    fn look_closer(&self) {
        // Partner: `insist`, where the lanes have been closed before and nobody has seen to our barrier.
        fence(Ordering::SeqCst);
        if self.state.load(Ordering::Relaxed) & AWAITED != 0 {
            self.wake_writer();
        }
    }

    #[cold]
    fn wake_writer(&self) {
        let wake = {
            let mut waiting = self.waiting.lock();
            // The writer we have seen may have given up, and another may wait for other readers.
            // All readers are ordered before the writer, by way of us.
            if self.no_reader_is_left() { waiting.writer.claim_first(ADMITTED) } else { None }
        };
        drop(wake);
    }

    // ---- Writing ----

    /// Takes the lock if nobody has it.
    #[inline]
    pub(in crate::sync) fn try_write(&self) -> bool {
        let seen = self.state.load(Ordering::Relaxed);
        if seen & WRITER != 0 || self.readers(seen) != 0 || !self.writers.try_lock() {
            return false;
        }
        // Ordering: Acquire pairs with the Release of the readers; `writers` orders us after writers. SeqCst as in
        // `hold_readers_back`.
        let taken =
            self.state.compare_exchange(seen, seen | WRITER, Ordering::SeqCst, Ordering::Relaxed);
        if taken.is_err() {
            // SAFETY: locked just now.
            unsafe { self.writers.unlock() };
            return false;
        }
        in_order();
        let alone = self.readers(seen) == 0;
        if !alone {
            // SAFETY: `WRITER` is ours, and we have used nothing.
            unsafe { self.unlock_write() };
        }
        alone
    }

    /// False: the deadline has passed.
    #[inline]
    pub(in crate::sync) fn write_until(&self, deadline: Option<Instant>) -> bool {
        if !self.writers.lock_as_part(deadline, self.reason(WaitKind::RwLockWrite)) {
            return false;
        }
        self.hold_readers_back() || self.wait_for_readers(deadline)
    }

    /// W2 and W3. True: there is no reader.
    #[inline]
    fn hold_readers_back(&self) -> bool {
        // Ordering: Acquire pairs with the Release of the readers that were counted in the word. SeqCst: see
        // `Lane::count_in`.
        let before = self.state.fetch_or(WRITER, Ordering::SeqCst);
        in_order();
        self.readers(before) == 0
    }

    /// How many read, in units of `ONE`, given the word.
    #[inline]
    fn readers(&self, state: usize) -> usize {
        (state & !FLAGS).wrapping_add(self.lanes.sum().wrapping_mul(ONE))
    }

    fn no_reader_is_left(&self) -> bool {
        // Ordering: Acquire pairs with the Release of the readers; SeqCst for the sake of `insist`.
        self.readers(self.state.load(Ordering::SeqCst)) == 0
    }

    /// Tells those who read that somebody waits for them: whoever is not seen to have left, from here on, will look.
    fn insist(&self) {
        let before = self.state.fetch_or(AWAITED | CLOSED, Ordering::SeqCst);
        if before & CLOSED == 0 {
            lopsided::heavy();
        } else {
            in_order();
        }
    }

    #[cold]
    fn wait_for_readers(&self, deadline: Option<Instant>) -> bool {
        for look in 0..PATIENT_LOOKS {
            pause(look);
            if self.no_reader_is_left() {
                return true;
            }
        }
        self.insist();
        let place = Place::until(deadline);
        // SAFETY: the place stays in this frame until it was claimed and woken, or is taken out below.
        if unsafe { self.write_or_join(&place) } {
            return true;
        }
        let token = place.park(self.reason(WaitKind::RwLockWrite), deadline);
        if token == TIMED_OUT {
            self.waiting.lock().writer.leave(&place);
            // SAFETY: `WRITER` is ours, and we do not use what the lock guards.
            unsafe { self.unlock_write() };
        }
        token != TIMED_OUT
    }

    /// W4, after `insist`. True: there is no reader any more.
    ///
    /// # Safety
    /// As for [`Line::join`].
    unsafe fn write_or_join(&self, place: &Place) -> bool {
        let mut waiting = self.waiting.lock();
        if self.no_reader_is_left() {
            return true;
        }
        // SAFETY: the caller's promise.
        unsafe { waiting.writer.join(place, 0) };
        false
    }

    /// W5.
    ///
    /// # Safety
    /// The caller has set `WRITER` (whether it has come to write or not), and no longer uses what the lock
    /// guards.
    #[inline]
    pub(in crate::sync) unsafe fn unlock_write(&self) {
        let seen = self.state.load(Ordering::Relaxed);
        let free = seen & !(WRITER | AWAITED);
        // Ordering: Release pairs with the Acquire of whoever comes next.
        let nobody_waits = seen & HELD_BACK == 0
            && self
                .state
                .compare_exchange(seen, free, Ordering::Release, Ordering::Relaxed)
                .is_ok();
        if !nobody_waits {
            self.admit_readers(0);
        }
        // SAFETY: who has set `WRITER` owns it.
        unsafe { self.writers.unlock() };
    }

    /// Turns a writer into a reader, with nobody writing in between.
    ///
    /// # Safety
    /// The caller writes.
    pub(in crate::sync) unsafe fn downgrade(&self) {
        self.admit_readers(1);
        // SAFETY: the caller owns it.
        unsafe { self.writers.unlock() };
    }

    /// Counts `more` readers in, clears `WRITER`, and lets all readers go that have been held back. Those who are
    /// not in the first batch stay in line with nothing in their way: newcomers do not join them any more.
    #[cold]
    fn admit_readers(&self, more: usize) {
        self.state.fetch_add(more * ONE, Ordering::Relaxed);
        let mut first = true;
        loop {
            let mut wakes = Wakes::new();
            {
                let mut waiting = self.waiting.lock();
                if mem::take(&mut first) {
                    // Ordering: Release, as in `unlock_write`.
                    self.state.fetch_and(!(WRITER | AWAITED | HELD_BACK), Ordering::Release);
                }
                while !wakes.is_full() && !waiting.readers.is_empty() {
                    // Counted before the finish: from then on a thread may go on, and count itself out.
                    let count = || _ = self.state.fetch_add(ONE, Ordering::Relaxed);
                    if let Some(wake) = waiting.readers.take_first_and(ADMITTED, count) {
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

    // ---- Looking ----

    /// Whether readers are counted in lanes.
    #[cfg(all(test, loom))]
    pub(in crate::sync) fn has_open_lanes(&self) -> bool {
        self.state.load(Ordering::Relaxed) & CLOSED == 0
    }

    #[inline]
    pub(in crate::sync) fn is_locked(&self) -> bool {
        let state = self.state.load(Ordering::Relaxed);
        state & WRITER != 0 || self.readers(state) != 0
    }

    #[inline]
    pub(in crate::sync) fn is_locked_exclusively(&self) -> bool {
        let state = self.state.load(Ordering::Relaxed);
        state & WRITER != 0 && self.readers(state) == 0
    }
}

impl fmt::Debug for RawRwLock {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let state = self.state.load(Ordering::Relaxed);
        f.debug_struct("RawRwLock")
            .field("readers", &(self.readers(state) / ONE))
            .field("held_back", &(state & HELD_BACK != 0))
            .field("writer", &(state & WRITER != 0))
            .field("lanes", &(state & CLOSED == 0))
            .field("writers", &self.writers)
            .finish_non_exhaustive()
    }
}

/// Coming to read in async code. Once it is ready, the caller is a reader.
pub(in crate::sync) struct Reading<'a> {
    raw: &'a RawRwLock,
    place: Option<Place>,
}

impl<'a> Reading<'a> {
    pub(in crate::sync) fn new(raw: &'a RawRwLock) -> Reading<'a> {
        Reading { raw, place: None }
    }

    pub(in crate::sync) fn poll(self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<()> {
        // SAFETY: the place is not moved while it is in line.
        let this = unsafe { self.get_unchecked_mut() };
        if let Some(place) = &this.place {
            // What belongs to the executor is cloned and dropped outside the short lock.
            let waker = cx.waker().clone();
            let (served, former) = {
                let _waiting = this.raw.waiting.lock();
                match place.outcome() {
                    Some(_) => (true, Some(waker)),
                    None => (false, place.renew(waker)),
                }
            };
            drop(former);
            if served {
                this.place = None;
                return Poll::Ready(());
            }
            return Poll::Pending;
        }
        if this.raw.try_read() {
            return Poll::Ready(());
        }
        let place = this.place.insert(Place::of_future(cx.waker().clone()));
        // SAFETY: we are pinned, and the place is out of line before it is dropped: by its claim, or in `drop`.
        if unsafe { this.raw.read_or_join(place) } {
            this.place = None;
            return Poll::Ready(());
        }
        Poll::Pending
    }
}

impl Drop for Reading<'_> {
    fn drop(&mut self) {
        if let Some(place) = &self.place
            && !self.raw.stop_waiting_to_read(place)
        {
            // SAFETY: it was served, so it has been counted, and nobody has got to know of it.
            unsafe { self.raw.unlock_read() };
        }
    }
}

/// Coming to write in async code. Once it is ready, the caller is the writer.
pub(in crate::sync) struct Writing<'a> {
    raw: &'a RawRwLock,
    /// W1, until `writers` is ours; again once it is ready, so that whoever polls on locks anew.
    locking: Option<Locking<'a>>,
    /// W4: while it is here, `WRITER` is ours.
    place: Option<Place>,
}

impl<'a> Writing<'a> {
    pub(in crate::sync) fn new(raw: &'a RawRwLock) -> Writing<'a> {
        Writing { raw, locking: Some(Locking::new(&raw.writers)), place: None }
    }

    pub(in crate::sync) fn poll(self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<()> {
        // SAFETY: neither part is moved while it is in a line.
        let this = unsafe { self.get_unchecked_mut() };
        let waker = cx.waker().clone();
        if let Some(locking) = &mut this.locking {
            // SAFETY: pinned as we are.
            if unsafe { Pin::new_unchecked(locking) }.poll(cx).is_pending() {
                return Poll::Pending;
            }
            this.locking = None;
            return this.wait_for_readers(waker);
        }
        let place = this.place.as_ref().expect("it waits if it does not lock");
        let (served, former) = {
            let _waiting = this.raw.waiting.lock();
            match place.outcome() {
                Some(_) => (true, Some(waker)),
                None => (false, place.renew(waker)),
            }
        };
        drop(former);
        if !served {
            return Poll::Pending;
        }
        this.ready()
    }

    fn ready(&mut self) -> Poll<()> {
        self.place = None;
        self.locking = Some(Locking::new(&self.raw.writers));
        Poll::Ready(())
    }

    fn wait_for_readers(&mut self, waker: Waker) -> Poll<()> {
        if self.raw.hold_readers_back() {
            return self.ready();
        }
        self.raw.insist();
        let place = self.place.insert(Place::of_future(waker));
        // SAFETY: we are pinned, and the place is out of line before it is dropped: by its claim, or in `drop`.
        if unsafe { self.raw.write_or_join(place) } {
            return self.ready();
        }
        Poll::Pending
    }
}

impl Drop for Writing<'_> {
    fn drop(&mut self) {
        if let Some(place) = &self.place {
            self.raw.waiting.lock().writer.leave(place);
            // SAFETY: `WRITER` is ours, and nobody has got to write.
            unsafe { self.raw.unlock_write() };
        }
    }
}
