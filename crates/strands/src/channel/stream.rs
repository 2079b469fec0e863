//! [`Receiver`] as a stream, with the feature `futures`.

use super::Receiver;
use super::future::RecvWait;
use super::receiver::Flavor;
use std::future::Future;
use std::pin::{Pin, pin};
use std::task::{Context, Poll};

/// The wait of a receiver that was polled as a stream. Made when it is first pending, and then kept.
pub(super) struct Wait<T>(Option<Pin<Box<RecvWait<T>>>>);

impl<T> Wait<T> {
    pub(super) fn new() -> Wait<T> {
        Wait(None)
    }
}

/// The messages, until the channel is empty and all senders are gone or it was closed.
///
/// A receiver that was polled and is pending stands in line; a message that it is given meanwhile is kept for
/// the next poll, and goes back to the channel if the receiver is dropped first.
impl<T> futures_core::Stream for Receiver<T> {
    type Item = T;

    fn poll_next(mut self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<Option<T>> {
        let this = &mut *self;
        let mut wait = this.stream.0.take();
        let Flavor::Channel(end) = this.flavor() else {
            return pin!(this.recv_async()).poll(cx).map(Result::ok);
        };
        let polled = wait.get_or_insert_with(|| Box::pin(RecvWait::new())).as_mut();
        let polled = polled.poll(end, cx.waker());
        this.stream.0 = wait;
        polled.map(Result::ok)
    }
}

impl<T> Drop for Receiver<T> {
    fn drop(&mut self) {
        if let (Some(mut wait), Flavor::Channel(end)) = (self.stream.0.take(), self.flavor()) {
            wait.as_mut().cancel(end);
        }
    }
}
