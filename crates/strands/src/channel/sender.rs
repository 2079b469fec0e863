//! [`Sender`]: the producer's end.

use super::core::SendEnd;
use super::{SendError, TrySendError};
use std::fmt;
use std::panic::{RefUnwindSafe, UnwindSafe};

/// The sending side of a channel. Clones share the channel; when the last one is dropped, receivers get
/// what is left and then an error.
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
    /// All receivers are gone; the error holds the message.
    #[inline]
    pub fn send(&self, message: T) -> Result<(), SendError<T>> {
        self.end.send(message)
    }

    /// Sends a message if that is possible at once: there is room, or a receiver waits. Never blocks.
    ///
    /// # Errors
    /// [`Full`](TrySendError::Full) or [`Disconnected`](TrySendError::Disconnected), with the message.
    #[inline]
    pub fn try_send(&self, message: T) -> Result<(), TrySendError<T>> {
        self.end.try_send(message)
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
