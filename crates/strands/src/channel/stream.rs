//! [`Receiver`] as a stream, with the feature `futures`.
//!
//! Between two polls there is a wait to be kept: in a box, made when the stream is first pending.

use super::Receiver;
use super::future::{RecvWait, poll_source};
use super::receiver::Flavor;
use crate::time::Sleep;
use std::pin::Pin;
use std::task::{Context, Poll};

/// The wait of a receiver that was polled as a stream. Made when it is first pending, and then kept.
pub(super) struct Wait<T> {
    in_line: Option<Pin<Box<RecvWait<T>>>>,
    /// For receivers whose messages are moments.
    alarm: Option<Sleep>,
}

impl<T> Wait<T> {
    pub(super) const fn new() -> Wait<T> {
        Wait { in_line: None, alarm: None }
    }
}

/// The messages, until the channel is empty and all senders are gone or it was closed.
///
/// A receiver that was polled and is pending stands in line; a message that it is given meanwhile is kept for
/// the next poll, and goes back to the channel if the receiver is dropped first.
impl<T> futures_core::Stream for Receiver<T> {
    type Item = T;

    fn poll_next(self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<Option<T>> {
        let this = self.get_mut();
        match &this.flavor {
            // The wait stays where it is: a waker that panics when it is cloned must leave it with its owner,
            // who cancels.
            Flavor::Channel(end) => {
                let wait = this.stream.in_line.get_or_insert_with(|| Box::pin(RecvWait::new()));
                wait.as_mut().poll(end, cx.waker()).map(Result::ok)
            }
            Flavor::Timed(source) => poll_source(&**source, &mut this.stream.alarm, cx).map(Some),
            Flavor::Never => Poll::Pending,
        }
    }
}

impl<T> Drop for Receiver<T> {
    fn drop(&mut self) {
        let in_line = self.stream.in_line.take();
        if let (Some(mut wait), Flavor::Channel(end)) = (in_line, self.flavor()) {
            wait.as_mut().cancel(end);
        }
    }
}
