//! Async tasks that wait for a source: they are polled, leave a waker, and are polled again.
//!
//! A future of ours is a *visitor* with a name: its waker is in the source's list once, under that name, and goes with the
//! future. So any number may wait, and those that were dropped leave nothing behind.
//!
//! What is polled by way of a trait (`AsyncRead` and its kin) has no name: nobody says when it has lost interest. Of
//! those at most [`MOST_WAKERS`](super::record::MOST_WAKERS) are kept for each side, known by whom they wake; one more
//! pushes out, and so wakes, the one that has been there longest. The traits promise that for one task only.

use super::record::{FRESH, NAMELESS, Seen, Side};
use super::source::{SHORT_IS_EMPTY, Source, nothing_of};
use crate::wait;
use std::cell::Cell;
use std::io;
use std::sync::atomic::Ordering;
use std::task::{Context, Poll};

/// One who waits at a side of a source by being polled.
pub(crate) struct Visitor<'a> {
    source: &'a Source,
    side: Side,
    name: Cell<u64>,
}

impl Source {
    /// For a future, which has this as long as it lives.
    pub(crate) fn visit(&self, side: Side) -> Visitor<'_> {
        Visitor { source: self, side, name: Cell::new(FRESH) }
    }

    /// For a poll by way of a trait.
    pub(crate) fn pass_by(&self, side: Side) -> Visitor<'_> {
        Visitor { source: self, side, name: Cell::new(NAMELESS) }
    }
}

impl Visitor<'_> {
    /// Whether a call may succeed. If not, the waker will be called when one may.
    ///
    /// Of several tasks that wait for one side all are woken.
    pub(crate) fn poll_ready(&self, cx: &mut Context<'_>) -> Poll<io::Result<Try>> {
        let (record, side) = (self.source.0, self.side);
        let mut waker = None;
        loop {
            let seen = record.look(side);
            if seen.is_ready() {
                return Poll::Ready(Ok(Try(seen)));
            }
            // With no lock held, here and below: this is an executor's code.
            let mut mine = Some(waker.take().unwrap_or_else(|| cx.waker().clone()));
            let mut state = record.state.lock();
            if let Err(error) = record.register(&mut state, side) {
                drop(state);
                return Poll::Ready(Err(error));
            }
            let (is_in_line, pushed_out) =
                record.leave_waker(&mut state, side, &self.name, &mut mine);
            drop(state);
            wait::wake_future(pushed_out);
            if is_in_line {
                return Poll::Pending;
            }
            waker = mine;
        }
    }

    /// Makes the call, unless it would block; if so, the waker will be called when it may not.
    pub(crate) fn poll_run<T>(
        &self,
        cx: &mut Context<'_>,
        mut call: impl FnMut() -> io::Result<T>,
    ) -> Poll<io::Result<T>> {
        loop {
            let Try(seen) = std::task::ready!(self.poll_ready(cx))?;
            match call() {
                Err(error) if error.kind() == io::ErrorKind::Interrupted => {}
                Err(error) if error.kind() == io::ErrorKind::WouldBlock => {
                    self.source.0.clear(self.side, seen);
                }
                done => return Poll::Ready(done),
            }
        }
    }

    /// The same for a call that reads up to `wanted` bytes of a stream, or writes them.
    pub(crate) fn poll_bytes(
        &self,
        wanted: usize,
        cx: &mut Context<'_>,
        mut call: impl FnMut() -> io::Result<usize>,
    ) -> Poll<io::Result<usize>> {
        if wanted == 0 {
            return Poll::Ready(nothing_of(call()));
        }
        let record = self.source.0;
        loop {
            let Try(seen) = std::task::ready!(self.poll_ready(cx))?;
            match call() {
                Err(error) if error.kind() == io::ErrorKind::Interrupted => {}
                Err(error) if error.kind() == io::ErrorKind::WouldBlock => {
                    record.clear(self.side, seen);
                }
                Ok(read) => {
                    let short = self.side == Side::Read && read < wanted && read > 0;
                    let is_empty = record.flags.load(Ordering::Relaxed) & SHORT_IS_EMPTY != 0;
                    if short && seen.is_plain() && is_empty {
                        record.clear(Side::Read, seen);
                    }
                    return Poll::Ready(Ok(read));
                }
                Err(error) => return Poll::Ready(Err(error)),
            }
        }
    }
}

impl Drop for Visitor<'_> {
    fn drop(&mut self) {
        let name = self.name.get();
        if name != NAMELESS && name != FRESH {
            let waker = self.source.0.take_waker_back(self.side, name);
            // With no lock held.
            drop(waker);
        }
    }
}

/// What was seen before a try.
pub(crate) struct Try(Seen);
