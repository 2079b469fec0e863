//! What [`broadcast`](super::broadcast) and [`watch`](super::watch) have in common: a state that many read, and
//! a line of those who wait for it to change.
//!
//! Whoever changes the state wakes all who wait, and each looks for itself: a wake-up is news, not a message. So
//! nobody who is woken and goes away takes anything from the others.

use super::waiting::{Kind, Line, Place};
use crate::selection::{self, Arm, Claim, Enlisted, Sealed, Stand, Until};
use crate::wait::{ShortLock, ShortLockGuard, Waiter, Wake};
use std::cell::Cell;
use std::fmt;
use std::future::Future;
use std::pin::Pin;
use std::ptr;
use std::task::{Context, Poll};

/// So many are woken between two looks at the lock.
const BATCH: usize = 32;

/// A state, and those who wait for it to change.
pub(super) struct Feed<S>(ShortLock<Inner<S>>);

pub(super) struct Inner<S> {
    pub(super) state: S,
    line: Line<()>,
}

impl<S> Feed<S> {
    pub(super) fn new(state: S) -> Feed<S> {
        Feed(ShortLock::new(Inner { state, line: Line::new() }))
    }

    /// No user code may run under the lock.
    pub(super) fn lock(&self) -> ShortLockGuard<'_, Inner<S>> {
        self.0.lock()
    }

    /// Gives the lock back after a change, and wakes all who wait.
    pub(super) fn release_and_tell<'a>(&'a self, mut inner: ShortLockGuard<'a, Inner<S>>) {
        loop {
            let mut wakes: [Option<Wake>; BATCH] = [const { None }; BATCH];
            let mut count = 0;
            while count < BATCH
                && let Some(claimed) = inner.line.claim_first(Kind::Look)
            {
                wakes[count] = Some(claimed.dismiss());
                count += 1;
            }
            drop(inner);
            wakes.into_iter().flatten().for_each(Wake::deliver);
            if count < BATCH {
                return;
            }
            inner = self.lock();
        }
    }
}

/// One who reads a feed.
pub trait Reader: Sealed {
    /// What is read under the lock.
    #[doc(hidden)]
    type Raw;
    /// What becomes of it.
    type Output;
    /// What the feed holds.
    #[doc(hidden)]
    type State;

    #[doc(hidden)]
    fn __feed(&self) -> FeedRef<'_, Self::State>;

    /// What there is for this reader, taken. Runs under the lock.
    #[doc(hidden)]
    fn __take(&self, state: &mut Self::State) -> Option<Self::Raw>;

    /// Whether there is something for this reader. Runs under the lock.
    #[doc(hidden)]
    fn __has(&self, state: &Self::State) -> bool;

    /// Makes a message of it. Runs without the lock, and may call the message's code.
    #[doc(hidden)]
    fn __finish(raw: Self::Raw) -> Self::Output;
}

/// A feed, to be borrowed by name outside this module and used inside.
pub struct FeedRef<'a, S>(pub(super) &'a Feed<S>);

impl<S> fmt::Debug for FeedRef<'_, S> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.pad("FeedRef { .. }")
    }
}

/// Takes what there is for the reader now.
pub(super) fn try_read<R: Reader>(reader: &R) -> Option<R::Output> {
    let raw = reader.__take(&mut reader.__feed().0.lock().state);
    if raw.is_none() {
        crate::wait::tried_in_vain();
    }
    raw.map(R::__finish)
}

/// Waits until there is something for the reader; `None`: the time was up.
///
/// Blocks: the goroutine, or else the thread.
pub(super) fn read<R: Reader>(reader: &R, until: Until) -> Option<R::Output> {
    let arm = ReadArm::new(reader);
    selection::select(&[&arm], true, until).map(|_| arm.finish())
}

/// A read as an arm of a select.
pub struct ReadArm<'a, R: Reader> {
    reader: &'a R,
    place: Place<()>,
    got: Cell<Option<R::Raw>>,
}

impl<'a, R: Reader> ReadArm<'a, R> {
    pub(super) fn new(reader: &'a R) -> ReadArm<'a, R> {
        ReadArm { reader, place: Place::new(), got: Cell::new(None) }
    }

    /// What was read. For the arm that has won.
    ///
    /// # Panics
    /// If it has not.
    pub fn finish(&self) -> R::Output {
        R::__finish(self.got.take().expect("an arm of a select that has not won"))
    }

    fn take(&self, inner: &mut Inner<R::State>) -> bool {
        let raw = self.reader.__take(&mut inner.state);
        let has_got = raw.is_some();
        self.got.set(raw);
        has_got
    }

    fn stand_in(&self, stand: Stand<'_>, take: bool) -> Enlisted {
        let feed = self.reader.__feed();
        let mut inner = feed.0.lock();
        if self.place.is_in_line() {
            return Enlisted::InLine;
        }
        self.place.prepare(stand.waiter, ptr::null(), stand.index);
        if !self.reader.__has(&inner.state) {
            // SAFETY: arm and waiter stay until `withdraw` or `unwatch`, the engine's promise.
            unsafe { inner.line.join(&self.place) };
            Enlisted::InLine
        } else if !self.place.claim_oneself(Kind::Oneself) {
            Enlisted::Taken
        } else if !take || self.take(&mut inner) {
            Enlisted::Done
        } else {
            Enlisted::Again
        }
    }
}

impl<R: Reader> Sealed for ReadArm<'_, R> {}

impl<R: Reader> Arm for ReadArm<'_, R> {
    fn attempt(&self) -> bool {
        self.take(&mut self.reader.__feed().0.lock())
    }

    fn enlist(&self, stand: Stand<'_>) -> Enlisted {
        self.stand_in(stand, true)
    }

    fn withdraw(&self) {
        self.reader.__feed().0.lock().line.leave(&self.place);
    }

    fn accept(&self, _claim: Claim) -> bool {
        // It was news: whether there is something for this reader has to be seen.
        self.attempt()
    }

    fn is_ready(&self) -> bool {
        self.reader.__has(&self.reader.__feed().0.lock().state)
    }

    fn watch(&self, stand: Stand<'_>) -> Enlisted {
        self.stand_in(stand, false)
    }

    fn unwatch(&self) {
        self.withdraw();
    }
}

impl<R: Reader> fmt::Debug for ReadArm<'_, R> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.pad("ReadArm { .. }")
    }
}

/// A read in async code. Dropped before it was ready, it has read nothing.
#[must_use = "futures do nothing unless they are polled"]
pub struct ReadFuture<'a, R: Reader> {
    reader: &'a R,
    waiter: Option<Waiter>,
    place: Place<()>,
}

// SAFETY: it is a reader, and a place in a line that is used under the feed's lock.
unsafe impl<R: Reader + Sync> Send for ReadFuture<'_, R> {}
// SAFETY: nothing can be done with a shared one.
unsafe impl<R: Reader + Sync> Sync for ReadFuture<'_, R> {}

impl<'a, R: Reader> ReadFuture<'a, R> {
    pub(super) fn new(reader: &'a R) -> ReadFuture<'a, R> {
        ReadFuture { reader, waiter: None, place: Place::new() }
    }
}

impl<R: Reader> Future for ReadFuture<'_, R> {
    type Output = R::Output;

    fn poll(self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<R::Output> {
        // SAFETY: nothing is moved out of it.
        let this = unsafe { self.get_unchecked_mut() };
        // With no lock held: the clone is the executor's code.
        let waker = cx.waker().clone();
        let feed = this.reader.__feed();
        let mut inner = feed.0.lock();
        let taken = this.reader.__take(&mut inner.state);
        let waits = this.waiter.as_ref().is_some_and(|waiter| waiter.outcome().is_none());
        // What is of no more use, to be dropped without the lock.
        let former;
        match (&taken, &this.waiter) {
            (Some(_), _) => {
                inner.line.leave(&this.place);
                former = (None, this.waiter.take());
            }
            (None, Some(waiter)) if waits => {
                // SAFETY: not finished, and the lock under which it would be is held.
                former = (unsafe { waiter.replace_waker(waker) }, None);
            }
            (None, _) => {
                former = (None, this.waiter.replace(Waiter::of_future(waker)));
                if let Some(waiter) = &this.waiter {
                    this.place.prepare(waiter, ptr::null(), 0);
                }
                // SAFETY: both are pinned, and leave when they are dropped.
                unsafe { inner.line.join(&this.place) };
            }
        }
        drop(inner);
        drop(former);
        taken.map_or(Poll::Pending, |raw| Poll::Ready(R::__finish(raw)))
    }
}

impl<R: Reader> Drop for ReadFuture<'_, R> {
    fn drop(&mut self) {
        if self.waiter.is_some() {
            self.reader.__feed().0.lock().line.leave(&self.place);
        }
    }
}

impl<R: Reader> fmt::Debug for ReadFuture<'_, R> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.pad("ReadFuture { .. }")
    }
}
