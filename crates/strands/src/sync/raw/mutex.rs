//! The lock itself: one byte to fight for, and a line for those who have lost.
//!
//! # The idea
//!
//! Taking a free lock is one compare-and-swap, and so is giving it back when nobody waits; of a lock that nobody has
//! waited for in a long time, it is a plain store ([`calm`](super::calm)). A lock that is
//! given back is *free*: whoever comes first takes it, be it the one who gave it back. The one at the head of
//! the line is woken and must try like everybody else, and goes back to the head if it is too late. That is
//! unfair and right: waking takes longer than most sections do, and a lock reserved for somebody still asleep
//! makes everybody wait for the wake-up, each time.
//!
//! So that the unfairness has an end, one who was woken in vain and has waited for a millisecond makes the
//! lock *starving*: it is then handed from owner to owner down the line, and newcomers go to the end. When
//! the line is empty, or its head has not waited that long, that is over. This is Go's way. One millisecond
//! is long compared with a wake-up (so that handing over costs a few per cent at most) and short compared
//! with anything a user notices. **Rejected:** handing over always (a convoy: with threads, 50 µs a turn), and
//! counting lost races instead of time (with short sections the sleeper always loses, so it comes to handing
//! over always).
//!
//! The line is in the lock. **Rejected:** a global table of lines, by address, as Go and parking_lot have it. It makes
//! a lock one word; but locks that have nothing to do with each other then meet in the table, which has to grow
//! with the number of those who wait.
//!
//! Who finds the lock held tries again for about a microsecond before it waits: sections are short, and
//! whoever holds the lock most likely runs on another processor. Where that was worth it, the next try for up to eight; where
//! the lock is held by those who wait for something else, it stays at one.
//!
//! # The bits
//!
//! | bit | meaning | set by | cleared by |
//! |---|---|---|---|
//! | `LOCKED` | somebody owns it | the new owner, by CAS | the owner; stays when it hands over |
//! | `WAITED` | the line is not empty | who joins, under the short lock | who empties the line, under the short lock; by mistake, the owner of a lock that was calm, who then makes up for it |
//! | `WOKEN` | one from the line is awake and tries | the owner who wakes it | that one, when it has the lock, joins again, or is cancelled |
//! | `STARVING` | hand over | who was woken in vain, under the short lock | the one it is handed to; who empties the line |
//!
//! `STARVING` implies `LOCKED`: it is set while another owns the lock, who then hands over.
//!
//! # Who has it
//!
//! Whoever has taken the lock marks it as its own, for reports ([`Holder`]): by one store, which nobody waits for. An
//! owner who gives it back while others wait wipes the mark first, so that nobody is named who has it no more; one who
//! gives it back when nobody waits leaves the mark, for nobody would read it. A report may find the mark of the owner
//! before, or none, while the lock passes from one to the next. When nothing goes on it is exact.
//!
//! # No wake-up is lost
//!
//! Whoever joins has seen `LOCKED` when it set `WAITED`, in one compare-and-swap under the short lock. So the
//! owner's unlock comes later in the order of the byte, sees `WAITED` and wakes the first; unless `WOKEN` is
//! set, and then there is one awake who either gets the lock, and unlocks it in turn, or finds `LOCKED` when
//! it clears `WOKEN`, in one step again. (How that holds for an owner that does not look first: see `calm`.) A future that was woken and is dropped does what it would have done
//! had it taken the lock and given it back ([`cancel`](RawMutex::cancel)).

use super::super::line::{Line, Place};
use super::calm::Calm;
use crate::primitive::atomic::{AtomicU8, Ordering};
use crate::primitive::lopsided::light;
use crate::primitive::{hint, overwrite};
use crate::wait::{FIRST_FREE, Holder, Reason, ShortLock, TIMED_OUT, Token, WaitKind, Wake};
use std::fmt;
use std::panic::{RefUnwindSafe, UnwindSafe};
use std::pin::Pin;
use std::sync::atomic::AtomicU8 as Guess;
use std::task::{Context, Poll, Waker};
use std::time::{Duration, Instant};

const LOCKED: u8 = 1;
const WAITED: u8 = 2;
const WOKEN: u8 = 4;
const STARVING: u8 = 8;

/// The lock is yours.
const HANDED: Token = FIRST_FREE;
/// The lock was free a moment ago: try.
const TRY: Token = FIRST_FREE + 1;

/// Who has waited this long, and was woken in vain, has the lock handed to it.
#[cfg(not(loom))]
const PATIENCE: Duration = Duration::from_millis(1);
/// Models must not depend on the time.
#[cfg(loom)]
const PATIENCE: Duration = Duration::ZERO;
/// Looks before waiting, and so many more where looking was worth it lately. After the first there is a pause of about a
/// microsecond, after each of the others one twice as long.
///
/// Short pauses take the byte's cache line away from those who are using it, again and again; after a long one the
/// other has done many sections at a stretch. With a tenth of that four who shared a lock took 20 ns a turn instead of 13.
const LOOKS: u32 = 1;
#[cfg(not(loom))]
const MORE_LOOKS: u8 = 2;
#[cfg(loom)]
const MORE_LOOKS: u8 = 0;
/// The pause after look number 0 of those who are in a hurry (see [`pause`]), and how much longer ours is.
const FIRST_PAUSES: u32 = if cfg!(loom) { 0 } else { 4 };
const LONGER: u32 = 4;

/// Gives the owner time, after look number `look`.
pub(super) fn pause(look: u32) {
    for _ in 0..FIRST_PAUSES << look {
        hint::spin_loop();
    }
}

/// A lock that guards nothing by itself, and knows nothing of poisoning.
///
/// Use it by way of [`lock_api`], as [`raw::Mutex`](super::Mutex) does, or directly through
/// [`lock_api::RawMutex`].
///
/// Blocks: the goroutine, or else the thread.
// In this order: what is written each time is side by side, and next to what the lock guards.
#[repr(C)]
pub struct RawMutex {
    line: ShortLock<Line>,
    /// Whose it is, for reports.
    holder: Holder,
    state: AtomicU8,
    calm: Calm,
    /// How much longer those look who want the lock, by what came of it lately. (A guess on which nothing hangs: it is no
    /// part of the models.)
    more_looks: Guess,
}

/// What one who wants the lock has been through.
struct Quest {
    /// It was woken, and the lock has `WOKEN` set for it.
    woken: bool,
    /// Since when it waits.
    since: Option<Instant>,
}

impl Quest {
    fn new() -> Quest {
        Quest { woken: false, since: None }
    }

    /// Whether it demands that the lock be handed over.
    fn starves(&self) -> bool {
        self.woken && self.has_waited_long()
    }

    fn has_waited_long(&self) -> bool {
        self.since.is_some_and(|since| since.elapsed() >= PATIENCE)
    }
}

impl UnwindSafe for RawMutex {}
impl RefUnwindSafe for RawMutex {}

impl RawMutex {
    const_unless_loom! {
        pub(in crate::sync) fn new() -> RawMutex {
            RawMutex {
                line: ShortLock::new(Line::new()),
                holder: Holder::new(),
                state: AtomicU8::new(0),
                calm: Calm::new(),
                more_looks: Guess::new(0),
            }
        }
    }

    #[inline]
    pub(in crate::sync) fn is_locked(&self) -> bool {
        self.state.load(Ordering::Relaxed) & LOCKED != 0
    }

    #[inline]
    pub(in crate::sync) fn try_lock(&self) -> bool {
        let taken = self.take_if_untouched() || self.try_lock_touched();
        if taken {
            self.holder.mark();
        }
        taken
    }

    /// Whose it is: for locks of which this is a part.
    pub(super) fn holder(&self) -> &Holder {
        &self.holder
    }

    #[inline]
    fn take_if_untouched(&self) -> bool {
        // Ordering: Acquire pairs with the Release of the unlock before, here and wherever `LOCKED` is set.
        self.state.compare_exchange(0, LOCKED, Ordering::Acquire, Ordering::Relaxed).is_ok()
    }

    #[cold]
    fn try_lock_touched(&self) -> bool {
        let mut seen = self.state.load(Ordering::Relaxed);
        while seen & LOCKED == 0 {
            match self.replace(seen, seen | LOCKED, Ordering::Acquire) {
                Ok(()) => return true,
                Err(now) => seen = now,
            }
        }
        false
    }

    #[inline]
    fn replace(&self, from: u8, to: u8, order: Ordering) -> Result<(), u8> {
        self.state.compare_exchange_weak(from, to, order, Ordering::Relaxed).map(|_| ())
    }

    #[inline]
    pub(in crate::sync) fn lock(&self) {
        if !self.take_if_untouched() {
            self.lock_slow(None, self.reason());
        }
        self.holder.mark();
    }

    /// False: the deadline has passed.
    #[inline]
    pub(in crate::sync) fn lock_until(&self, deadline: Option<Instant>) -> bool {
        self.lock_as_part(deadline, self.reason())
    }

    /// The same, for a lock of which this is a part, and which says why one waits.
    #[inline]
    pub(super) fn lock_as_part(&self, deadline: Option<Instant>, why: Reason) -> bool {
        let taken = self.take_if_untouched() || self.lock_slow(deadline, why);
        if taken {
            self.holder.mark();
        }
        taken
    }

    #[cold]
    fn lock_slow(&self, deadline: Option<Instant>, why: Reason) -> bool {
        let mut quest = Quest::new();
        loop {
            if self.look_for_a_while(&quest) {
                return true;
            }
            let place = Place::until(deadline);
            // SAFETY: the place stays in this frame until it was claimed and woken, or is taken out below.
            if unsafe { self.take_or_join(&mut quest, &place) } {
                self.looking_was_worth_it(self.more_looks.load(Ordering::Relaxed));
                return true;
            }
            let more = self.more_looks.load(Ordering::Relaxed);
            self.more_looks.store(more.saturating_sub(1), Ordering::Relaxed);
            match place.park_behind(&self.holder, why, deadline) {
                HANDED => {
                    self.end_starving(&quest);
                    return true;
                }
                TIMED_OUT => {
                    self.leave(&place);
                    return false;
                }
                _ => quest.woken = true,
            }
        }
    }

    #[inline]
    fn reason(&self) -> Reason {
        Reason::on(WaitKind::MutexLock, std::ptr::from_ref(self).addr())
    }

    /// Takes the lock if it becomes free soon.
    fn look_for_a_while(&self, quest: &Quest) -> bool {
        let more = self.more_looks.load(Ordering::Relaxed);
        for look in 0..LOOKS + u32::from(more) {
            let seen = self.state.load(Ordering::Relaxed);
            if seen & LOCKED == 0 {
                let to = (seen | LOCKED) & if quest.woken { !WOKEN } else { !0 };
                if self.replace(seen, to, Ordering::Acquire).is_ok() {
                    if look > 0 {
                        self.looking_was_worth_it(more);
                    }
                    return true;
                }
            }
            if seen & STARVING != 0 {
                // It will be handed to somebody else.
                return false;
            }
            pause(look + LONGER);
        }
        false
    }

    fn looking_was_worth_it(&self, more: u8) {
        self.more_looks.store((more + 1).min(MORE_LOOKS), Ordering::Relaxed);
    }

    /// Takes the lock if it is free, or joins the line.
    ///
    /// # Safety
    /// As for [`Line::join`].
    unsafe fn take_or_join(&self, quest: &mut Quest, place: &Place) -> bool {
        let starves = if quest.starves() { STARVING } else { 0 };
        if quest.since.is_none() {
            quest.since = Some(Instant::now());
        }
        let mut line = self.line.lock();
        let mut seen = self.state.load(Ordering::Relaxed);
        loop {
            let free = seen & LOCKED == 0;
            if !free && self.calm.end() {
                // What was made free by a plain store is free by now.
                seen = self.state.load(Ordering::Relaxed);
                continue;
            }
            let to = seen | if free { LOCKED } else { WAITED | starves };
            let to = if quest.woken { to & !WOKEN } else { to };
            match self.replace(seen, to, Ordering::Acquire) {
                Ok(()) if free => return true,
                Ok(()) => break,
                Err(now) => seen = now,
            }
        }
        // SAFETY: the caller's promise.
        unsafe {
            if quest.woken {
                line.join_first(place);
            } else {
                line.join(place, 0);
            }
        }
        quest.woken = false;
        false
    }

    /// For one to whom the lock was handed: if it has not waited long, neither have those behind it.
    fn end_starving(&self, quest: &Quest) {
        if !quest.has_waited_long() && self.state.load(Ordering::Relaxed) & STARVING != 0 {
            self.state.fetch_and(!STARVING, Ordering::Relaxed);
        }
    }

    /// Gives the lock back.
    ///
    /// # Safety
    /// The caller owns it, and no longer uses what it guards.
    #[inline]
    pub(in crate::sync) unsafe fn unlock(&self) {
        if self.calm.reigns() {
            // Ordering: Release pairs with the Acquire of the next owner. Before the look: `light` and the `heavy` of
            // whoever ends the calm see to it.
            overwrite(&self.state, 0, Ordering::Release);
            light();
            if !self.calm.reigns() {
                self.make_up();
            }
            return;
        }
        if self.calm.grows() {
            self.become_calm();
        }
        // Ordering: Release pairs with the Acquire of the next owner.
        let untouched =
            self.state.compare_exchange(LOCKED, 0, Ordering::Release, Ordering::Relaxed).is_ok();
        if !untouched {
            self.unlock_slow();
        }
    }

    /// For the owner: from now on the lock is given back by a plain store, if nobody wants it now.
    #[cold]
    pub(in crate::sync) fn become_calm(&self) {
        self.calm.is_disturbed();
        let line = self.line.lock();
        // The line is ours, so nothing but `LOCKED` comes into a state in which there is nothing else.
        if line.is_empty() && self.state.load(Ordering::Relaxed) == LOCKED {
            self.calm.begin();
        }
    }

    #[cfg(test)]
    pub(in crate::sync) fn is_calm(&self) -> bool {
        self.calm.reigns()
    }

    /// The calm was over when we made the lock free by a plain store, which may have wiped out that others wait.
    #[cold]
    fn make_up(&self) {
        let wake = {
            let mut line = self.line.lock();
            if line.is_empty() { None } else { self.serve(&mut line) }
        };
        drop(wake);
    }

    /// Some are in line of a lock that looks as if there were none.
    fn serve(&self, line: &mut Line) -> Option<Wake> {
        let mut seen = self.state.load(Ordering::Relaxed);
        loop {
            // If it is owned again, its owner will find `WAITED`, or do what we do. If one is awake, it will try.
            let served = seen & (LOCKED | WOKEN) != 0;
            let to = seen | WAITED | if served { 0 } else { WOKEN };
            match self.replace(seen, to, Ordering::Relaxed) {
                Ok(()) if served => return None,
                // `WOKEN` is ours, and for one whom we have yet to choose.
                Ok(()) => return self.pass_on(line),
                Err(now) => seen = now,
            }
        }
    }

    #[cold]
    fn unlock_slow(&self) {
        self.holder.wipe();
        self.calm.is_disturbed();
        let mut seen = self.state.load(Ordering::Relaxed);
        // Nobody waits, or one who does is awake.
        while seen & STARVING == 0 && (seen & WAITED == 0 || seen & WOKEN != 0) {
            match self.replace(seen, seen & !LOCKED, Ordering::Release) {
                Ok(()) => return,
                Err(now) => seen = now,
            }
        }
        let wake = self.release(&mut self.line.lock(), false);
        drop(wake);
    }

    /// Gives the lock back, to the first in line if there is one.
    ///
    /// # Safety
    /// As for [`unlock`](Self::unlock).
    #[cfg(not(loom))]
    pub(in crate::sync) unsafe fn unlock_fair(&self) {
        self.holder.wipe();
        let wake = self.release(&mut self.line.lock(), true);
        drop(wake);
    }

    /// The owner gives the lock to the first in line, or frees it and wakes the first.
    fn release(&self, line: &mut Line, fair: bool) -> Option<Wake> {
        // The line is ours, so `WAITED` stays as it is; `STARVING` too, as it takes the line to set it, and
        // the lock to clear it. `WOKEN` may be cleared meanwhile, but not set.
        if fair || self.state.load(Ordering::Relaxed) & STARVING != 0 {
            let wake = line.claim_first(HANDED);
            let mut clear = if line.is_empty() { WAITED | STARVING } else { 0 };
            if wake.is_none() {
                clear |= LOCKED;
            }
            // Ordering: Release, in case it is free now. (One to whom it was handed is ordered after us by
            // the claim and the wake-up.)
            self.state.fetch_and(!clear, Ordering::Release);
            return wake;
        }
        let awake = self.state.load(Ordering::Relaxed) & WOKEN != 0;
        let wake = if awake { None } else { line.claim_first(TRY) };
        let clear = LOCKED | if line.is_empty() { WAITED } else { 0 };
        let set = if wake.is_some() { WOKEN } else { 0 };
        let mut seen = self.state.load(Ordering::Relaxed);
        loop {
            match self.replace(seen, (seen & !clear) | set, Ordering::Release) {
                Ok(()) => return wake,
                Err(now) => seen = now,
            }
        }
    }

    /// Takes one out of the line who has given up and was not served.
    fn leave(&self, place: &Place) {
        let mut line = self.line.lock();
        line.leave(place);
        self.note_if_empty(&line);
    }

    fn note_if_empty(&self, line: &Line) {
        if line.is_empty() {
            self.state.fetch_and(!(WAITED | STARVING), Ordering::Relaxed);
        }
    }

    /// Whoever waits at this place no longer will: passes on what it was given.
    fn cancel(&self, place: &Place) {
        let wake = {
            let mut line = self.line.lock();
            if line.leave(place) {
                self.note_if_empty(&line);
                None
            } else {
                match place.outcome() {
                    Some(HANDED) => self.release(&mut line, false),
                    Some(TRY) => self.pass_on(&mut line),
                    _ => None,
                }
            }
        };
        drop(wake);
    }

    /// One who was woken will not try: if the lock is free, the next must.
    fn pass_on(&self, line: &mut Line) -> Option<Wake> {
        let mut seen = self.state.load(Ordering::Relaxed);
        loop {
            // If it is owned, its owner will find that nobody is awake, and wake the next. `WOKEN` is ours
            // until we have cleared it, so no owner wakes anybody before that.
            let to = if seen & LOCKED != 0 || line.is_empty() { seen & !WOKEN } else { seen };
            match self.replace(seen, to, Ordering::Relaxed) {
                Ok(()) if to & WOKEN == 0 => return None,
                Ok(()) => break,
                Err(now) => seen = now,
            }
        }
        let wake = line.claim_first(TRY);
        let clear =
            if wake.is_none() { WOKEN } else { 0 } | if line.is_empty() { WAITED } else { 0 };
        self.state.fetch_and(!clear, Ordering::Relaxed);
        wake
    }
}

impl fmt::Debug for RawMutex {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("RawMutex").field("locked", &self.is_locked()).finish_non_exhaustive()
    }
}

/// Taking the lock in async code. Once it is ready, the lock is the caller's.
pub(in crate::sync) struct Locking<'a> {
    raw: &'a RawMutex,
    quest: Quest,
    place: Option<Place>,
}

impl<'a> Locking<'a> {
    pub(in crate::sync) fn new(raw: &'a RawMutex) -> Locking<'a> {
        Locking { raw, quest: Quest::new(), place: None }
    }

    pub(in crate::sync) fn poll(self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<()> {
        // SAFETY: the place is not moved while it is in line; it is replaced when it is out.
        let this = unsafe { self.get_unchecked_mut() };
        let poll = this.advance(cx);
        if poll.is_ready() {
            this.raw.holder.mark_task();
        }
        poll
    }

    fn advance(&mut self, cx: &mut Context<'_>) -> Poll<()> {
        if let Some(place) = &self.place {
            // What belongs to the executor is cloned and dropped outside the short lock.
            let waker = cx.waker().clone();
            let (outcome, waker) = {
                let _line = self.raw.line.lock();
                match place.outcome() {
                    None => (None, place.renew(waker)),
                    outcome => (outcome, Some(waker)),
                }
            };
            let Some(token) = outcome else { return Poll::Pending };
            self.place = None;
            if token == HANDED {
                self.raw.end_starving(&self.quest);
                return Poll::Ready(());
            }
            self.quest.woken = true;
            return self.take_or_wait(waker.expect("it was not left in the place"));
        }
        if self.raw.try_lock() {
            return Poll::Ready(());
        }
        self.take_or_wait(cx.waker().clone())
    }

    fn take_or_wait(&mut self, waker: Waker) -> Poll<()> {
        let place = self.place.insert(Place::of_future(waker));
        // SAFETY: we are pinned, and the place is taken out before it is dropped: by its claim, or in `drop`.
        if unsafe { self.raw.take_or_join(&mut self.quest, place) } {
            self.place = None;
            return Poll::Ready(());
        }
        Poll::Pending
    }
}

impl Drop for Locking<'_> {
    fn drop(&mut self) {
        if let Some(place) = &self.place {
            self.raw.cancel(place);
        }
    }
}
