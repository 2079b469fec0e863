//! [`Sender`]: the producer's end.

use super::core::SendEnd;
use super::{SendArm, SendError, SendFuture, SendTimeoutError, TrySendError};
use std::fmt;
use std::panic::{RefUnwindSafe, UnwindSafe};
use std::time::{Duration, Instant};

/// The sending side of a channel. Clones share the channel; when the last one is dropped, receivers get
/// what is left and then an error.
///
/// It is the producer's role, and nothing else:
///
/// ```compile_fail,E0599
/// let (tx, rx) = strands::channel::bounded::<i32>(1);
/// tx.recv();
/// ```
///
/// What it sends is no longer the sender's:
///
/// ```compile_fail,E0382
/// let (tx, rx) = strands::channel::bounded(1);
/// let text = String::from("mine");
/// tx.send(text).unwrap();
/// println!("{text}");
/// ```
pub struct Sender<T> {
    end: SendEnd<T>,
}

// SAFETY: messages of `T: Send` go from any thread to any other, under the channel's lock.
unsafe impl<T: Send> Send for Sender<T> {}
// SAFETY: as above; `T` itself is never shared.
unsafe impl<T: Send> Sync for Sender<T> {}
impl<T> UnwindSafe for Sender<T> {}
impl<T> RefUnwindSafe for Sender<T> {}

impl<T> Sender<T> {
    pub(super) fn new(end: SendEnd<T>) -> Sender<T> {
        Sender { end }
    }

    /// Sends a message, waiting for room (in a rendezvous: for a receiver) if there is none.
    ///
    /// Blocks: the goroutine, or else the thread.
    ///
    /// # Errors
    /// All receivers are gone, or the channel was closed; the error holds the message.
    #[inline]
    pub fn send(&self, message: T) -> Result<(), SendError<T>> {
        self.end.send(message, None).map_err(|error| SendError(error.into_inner()))
    }

    /// As [`send`](Sender::send), for at most `timeout`.
    ///
    /// Blocks: the goroutine, or else the thread.
    ///
    /// # Errors
    /// [`Timeout`](SendTimeoutError::Timeout) or [`Disconnected`](SendTimeoutError::Disconnected), with the
    /// message.
    ///
    /// # Examples
    ///
    /// ```
    /// use std::time::Duration;
    /// use strands::channel::{SendTimeoutError, bounded};
    ///
    /// let (tx, _rx) = bounded(0);
    /// let late = tx.send_timeout("hello", Duration::from_millis(1));
    /// assert_eq!(late, Err(SendTimeoutError::Timeout("hello")));
    /// ```
    pub fn send_timeout(&self, message: T, timeout: Duration) -> Result<(), SendTimeoutError<T>> {
        self.end.send(message, Instant::now().checked_add(timeout))
    }

    /// As [`send`](Sender::send), until `deadline` at most. One that has passed still allows what is possible
    /// at once.
    ///
    /// Blocks: the goroutine, or else the thread.
    ///
    /// # Errors
    /// As [`send_timeout`](Sender::send_timeout).
    pub fn send_deadline(&self, message: T, deadline: Instant) -> Result<(), SendTimeoutError<T>> {
        self.end.send(message, Some(deadline))
    }

    /// Sends a message from async code, on any executor.
    ///
    /// Blocks nothing: the future is pending as long as there is no room. It stands in one line with the
    /// goroutines and threads that send. Dropped before it was ready, it has sent nothing, and the message
    /// is dropped with it.
    ///
    /// # Errors
    /// As [`send`](Sender::send).
    pub fn send_async(&self, message: T) -> SendFuture<'_, T> {
        SendFuture::new(self, message)
    }

    /// Closes the channel for all: nothing more can be sent, what was sent can be received. Senders that wait
    /// get their messages back, receivers that wait an error. Closing it again does nothing.
    ///
    /// # Examples
    ///
    /// ```
    /// use strands::channel::{RecvError, SendError, unbounded};
    ///
    /// let (tx, rx) = unbounded();
    /// tx.send(1).unwrap();
    /// tx.close();
    /// assert_eq!(tx.send(2), Err(SendError(2)));
    /// assert_eq!(rx.recv(), Ok(1));
    /// assert_eq!(rx.recv(), Err(RecvError));
    /// ```
    pub fn close(&self) {
        self.end.close();
    }

    /// Whether the channel was closed, or all its receivers are gone.
    pub fn is_closed(&self) -> bool {
        self.end.is_closed()
    }

    /// Sends a message if that is possible at once: there is room, or a receiver waits. Never blocks.
    ///
    /// # Errors
    /// [`Full`](TrySendError::Full) or [`Disconnected`](TrySendError::Disconnected), with the message.
    #[inline]
    pub fn try_send(&self, message: T) -> Result<(), TrySendError<T>> {
        self.end.try_send(message)
    }

    pub(super) fn end(&self) -> &SendEnd<T> {
        &self.end
    }

    #[doc(hidden)]
    #[inline]
    pub fn __send_arm(&self) -> SendArm<'_, T> {
        SendArm::new(self)
    }

    /// How many messages the channel holds. A rendezvous holds none.
    pub fn len(&self) -> usize {
        self.end.len()
    }

    /// Whether it holds no message. A rendezvous never does.
    pub fn is_empty(&self) -> bool {
        self.end.is_empty()
    }

    /// Whether it holds as many messages as it can. A rendezvous always does.
    pub fn is_full(&self) -> bool {
        self.end.is_full()
    }

    /// How many messages it can hold; `None` if there is no bound.
    pub fn capacity(&self) -> Option<usize> {
        self.end.capacity()
    }

    /// Whether both send to the same channel.
    pub fn same_channel(&self, other: &Sender<T>) -> bool {
        self.end.same(&other.end)
    }
}

impl<T> Clone for Sender<T> {
    fn clone(&self) -> Self {
        Sender { end: self.end.clone() }
    }
}

impl<T> fmt::Debug for Sender<T> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.pad("Sender { .. }")
    }
}
