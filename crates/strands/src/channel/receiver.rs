//! [`Receiver`]: the consumer's end.

use super::core::RecvEnd;
use super::{IntoIter, Iter, RecvError, TryIter, TryRecvError};
use std::fmt;
use std::panic::{RefUnwindSafe, UnwindSafe};

/// The receiving side of a channel. Clones share the channel, and each message goes to one of them; when the
/// last one is dropped, senders get their messages back.
pub struct Receiver<T> {
    end: RecvEnd<T>,
}

// SAFETY: messages of `T: Send` go from any thread to any other, under the channel's lock.
unsafe impl<T: Send> Send for Receiver<T> {}
// SAFETY: as above; `T` itself is never shared.
unsafe impl<T: Send> Sync for Receiver<T> {}
impl<T> UnwindSafe for Receiver<T> {}
impl<T> RefUnwindSafe for Receiver<T> {}

impl<T> Receiver<T> {
    pub(super) fn new(end: RecvEnd<T>) -> Receiver<T> {
        Receiver { end }
    }

    /// Receives the next message, waiting for one if there is none.
    ///
    /// Blocks: the goroutine, or else the thread.
    ///
    /// # Errors
    /// The channel is empty and all senders are gone.
    #[inline]
    pub fn recv(&self) -> Result<T, RecvError> {
        self.end.recv()
    }

    /// Receives a message if there is one now, in the channel or in the hands of a waiting sender. Never
    /// blocks.
    ///
    /// # Errors
    /// [`Empty`](TryRecvError::Empty) or [`Disconnected`](TryRecvError::Disconnected).
    #[inline]
    pub fn try_recv(&self) -> Result<T, TryRecvError> {
        self.end.try_recv()
    }

    /// The messages, one by one, until the channel is empty and all senders are gone; `next` waits.
    pub fn iter(&self) -> Iter<'_, T> {
        Iter::new(self)
    }

    /// The messages that are there now; ends when there is none at the moment.
    ///
    /// # Examples
    ///
    /// ```
    /// let (tx, rx) = strands::channel::unbounded();
    /// tx.send(1).unwrap();
    /// tx.send(2).unwrap();
    /// assert_eq!(rx.try_iter().collect::<Vec<_>>(), [1, 2]);
    /// ```
    pub fn try_iter(&self) -> TryIter<'_, T> {
        TryIter::new(self)
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

    /// Whether both receive from the same channel.
    pub fn same_channel(&self, other: &Receiver<T>) -> bool {
        self.end.same(&other.end)
    }
}

impl<T> Clone for Receiver<T> {
    fn clone(&self) -> Self {
        Receiver { end: self.end.clone() }
    }
}

impl<T> fmt::Debug for Receiver<T> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.pad("Receiver { .. }")
    }
}

impl<T> IntoIterator for Receiver<T> {
    type Item = T;
    type IntoIter = IntoIter<T>;

    fn into_iter(self) -> IntoIter<T> {
        IntoIter::new(self)
    }
}

impl<'a, T> IntoIterator for &'a Receiver<T> {
    type Item = T;
    type IntoIter = Iter<'a, T>;

    fn into_iter(self) -> Iter<'a, T> {
        self.iter()
    }
}
