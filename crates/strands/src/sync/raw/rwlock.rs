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
//! # The word
//!
//! | bits | meaning | changed by |
//! |---|---|---|
//! | the lowest, `READERS` | how many read | anyone |
//! | `HELD_BACK` | readers are in line | under the short lock |
//! | `WRITER` | a writer writes, or waits for the readers to leave | the owner of `writers` |
//!
//! **No wake-up is lost.** A reader that joins has seen `WRITER` when it set `HELD_BACK`, in one step under the
//! short lock; the writer clears `WRITER` by a step that sees `HELD_BACK`, or under the short lock. The last
//! reader and the writer of W4 both look at the count under the short lock: whoever is second sees the other.

use super::super::line::{Line, Place, Wakes};
use super::RawMutex;
use super::mutex::{LOOKS, Locking, pause};
use crate::primitive::atomic::{AtomicUsize, Ordering};
use crate::wait::{FIRST_FREE, Reason, ShortLock, TIMED_OUT, Token, WaitKind};
use std::fmt;
use std::mem;
use std::panic::{RefUnwindSafe, UnwindSafe};
use std::pin::Pin;
use std::task::{Context, Poll, Waker};
use std::time::Instant;

const WRITER: usize = 1 << (usize::BITS - 1);
const HELD_BACK: usize = 1 << (usize::BITS - 2);
const READERS: usize = HELD_BACK - 1;

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
                state: AtomicUsize::new(0),
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

    /// R1. The count cannot run over: 2⁶² guards would have to be leaked, one at a time.
    #[inline]
    fn count_in(&self) -> bool {
        // Ordering: Acquire pairs with the Release of the last writer.
        let may_read = self.state.fetch_add(1, Ordering::Acquire) & WRITER == 0;
        if !may_read {
            self.count_out_again();
        }
        may_read
    }

    #[cold]
    fn count_out_again(&self) {
        // SAFETY: counted in just now, by the same caller, who has used nothing.
        unsafe { self.unlock_read() };
    }

    /// False: the deadline has passed.
    #[inline]
    pub(in crate::sync) fn read_until(&self, deadline: Option<Instant>) -> bool {
        self.count_in() || self.read_slow(deadline)
    }

    #[cold]
    fn read_slow(&self, deadline: Option<Instant>) -> bool {
        for look in 0..LOOKS {
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
        let token = place.park(self.reason(WaitKind::RwLockRead), deadline);
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
            let to = if free { seen + 1 } else { seen | HELD_BACK };
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
        // Ordering: Release pairs with the Acquire of the writer that finds no reader, W3 and W4.
        let before = self.state.fetch_sub(1, Ordering::Release);
        if before & !HELD_BACK == WRITER | 1 {
            self.wake_writer();
        }
    }

    #[cold]
    fn wake_writer(&self) {
        let wake = {
            let mut waiting = self.waiting.lock();
            // The writer we have seen may have given up, and another may wait for other readers.
            // Ordering: Acquire: all readers are ordered before the writer, by way of us.
            let alone = self.state.load(Ordering::Acquire) & !HELD_BACK == WRITER;
            if alone { waiting.writer.claim_first(ADMITTED) } else { None }
        };
        drop(wake);
    }

    // ---- Writing ----

    /// Takes the lock if nobody has it.
    #[inline]
    pub(in crate::sync) fn try_write(&self) -> bool {
        if self.state.load(Ordering::Relaxed) != 0 || !self.writers.try_lock() {
            return false;
        }
        // Ordering: Acquire pairs with the Release of the readers; `writers` orders us after writers.
        let taken =
            self.state.compare_exchange(0, WRITER, Ordering::Acquire, Ordering::Relaxed).is_ok();
        if !taken {
            // SAFETY: locked just now.
            unsafe { self.writers.unlock() };
        }
        taken
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
        // Ordering: as in `try_write`.
        self.state.fetch_or(WRITER, Ordering::Acquire) & READERS == 0
    }

    fn no_reader_is_left(&self) -> bool {
        // Ordering: Acquire pairs with the Release of the readers.
        self.state.load(Ordering::Acquire) & READERS == 0
    }

    #[cold]
    fn wait_for_readers(&self, deadline: Option<Instant>) -> bool {
        for look in 0..LOOKS {
            pause(look);
            if self.no_reader_is_left() {
                return true;
            }
        }
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

    /// W4. True: there is no reader any more.
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
        // Ordering: Release pairs with the Acquire of whoever comes next.
        let untouched =
            self.state.compare_exchange(WRITER, 0, Ordering::Release, Ordering::Relaxed).is_ok();
        if !untouched {
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
        self.state.fetch_add(more, Ordering::Relaxed);
        let mut first = true;
        loop {
            let mut wakes = Wakes::new();
            {
                let mut waiting = self.waiting.lock();
                if mem::take(&mut first) {
                    // Ordering: Release, as in `unlock_write`.
                    self.state.fetch_and(!(WRITER | HELD_BACK), Ordering::Release);
                }
                while !wakes.is_full() && !waiting.readers.is_empty() {
                    // Counted before the finish: from then on a thread may go on, and count itself out.
                    let count = || _ = self.state.fetch_add(1, Ordering::Relaxed);
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

    #[inline]
    pub(in crate::sync) fn is_locked(&self) -> bool {
        self.state.load(Ordering::Relaxed) & !HELD_BACK != 0
    }

    #[inline]
    pub(in crate::sync) fn is_locked_exclusively(&self) -> bool {
        let state = self.state.load(Ordering::Relaxed);
        state & WRITER != 0 && state & READERS == 0
    }
}

impl fmt::Debug for RawRwLock {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let state = self.state.load(Ordering::Relaxed);
        f.debug_struct("RawRwLock")
            .field("readers", &(state & READERS))
            .field("held_back", &(state & HELD_BACK != 0))
            .field("writer", &(state & WRITER != 0))
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
