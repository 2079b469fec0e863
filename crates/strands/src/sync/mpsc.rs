//! Channels with one consumer, in the shape of [`std::sync::mpsc`].
//!
//! For code that is to be changed by its `use` lines alone. They are thin clothes over
//! [`strands::channel`](crate::channel), whose receivers can be cloned, and which new code should prefer. Error
//! types are std's own.
//!
//! ```
//! use strands::sync::mpsc;
//!
//! let (tx, rx) = mpsc::channel();
//! for n in 0..3 {
//!     let tx = tx.clone();
//!     strands::go(move || tx.send(n).unwrap());
//! }
//! drop(tx);
//! assert_eq!(rx.iter().sum::<i32>(), 3);
//! ```

pub use std::sync::mpsc::{RecvError, RecvTimeoutError, SendError, TryRecvError, TrySendError};

use crate::channel;
use std::cell::Cell;
use std::fmt;
use std::marker::PhantomData;
use std::panic::{RefUnwindSafe, UnwindSafe};
use std::time::Duration;

/// Makes a channel that holds as many messages as memory does. As [`std::sync::mpsc::channel`].
#[must_use]
pub fn channel<T>() -> (Sender<T>, Receiver<T>) {
    let (sender, receiver) = channel::unbounded();
    (Sender { sender }, Receiver::new(receiver))
}

/// Makes a channel that holds up to `bound` messages; with 0, a rendezvous. As
/// [`std::sync::mpsc::sync_channel`].
#[must_use]
pub fn sync_channel<T>(bound: usize) -> (SyncSender<T>, Receiver<T>) {
    let (sender, receiver) = channel::bounded(bound);
    (SyncSender { sender }, Receiver::new(receiver))
}

/// The sending side of a [`channel()`]. As [`std::sync::mpsc::Sender`].
pub struct Sender<T> {
    sender: channel::Sender<T>,
}

/// The sending side of a [`sync_channel`]. As [`std::sync::mpsc::SyncSender`].
pub struct SyncSender<T> {
    sender: channel::Sender<T>,
}

/// The receiving side. As [`std::sync::mpsc::Receiver`]: it can be sent and not shared.
///
/// ```compile_fail,E0277
/// let (_tx, rx) = strands::sync::mpsc::channel::<i32>();
/// strands::scope(|s| {
///     s.go(|| rx.recv());
/// });
/// ```
pub struct Receiver<T> {
    receiver: channel::Receiver<T>,
    not_sync: PhantomData<Cell<()>>,
}

// A channel stays whole whatever panics, as std's does.
impl<T> UnwindSafe for Receiver<T> {}
impl<T> RefUnwindSafe for Receiver<T> {}

impl<T> Sender<T> {
    /// Sends a message. Never blocks.
    ///
    /// # Errors
    /// The receiver is gone; the error holds the message.
    pub fn send(&self, message: T) -> Result<(), SendError<T>> {
        self.sender.send(message).map_err(|error| SendError(error.into_inner()))
    }
}

impl<T> SyncSender<T> {
    /// Sends a message, waiting for room; in a rendezvous, for the receiver.
    ///
    /// Blocks: the goroutine, or else the thread.
    ///
    /// # Errors
    /// The receiver is gone; the error holds the message.
    pub fn send(&self, message: T) -> Result<(), SendError<T>> {
        self.sender.send(message).map_err(|error| SendError(error.into_inner()))
    }

    /// Sends a message if that is possible at once. Never blocks.
    ///
    /// # Errors
    /// There is no room, or the receiver is gone; the error holds the message.
    pub fn try_send(&self, message: T) -> Result<(), TrySendError<T>> {
        self.sender.try_send(message).map_err(|error| match error {
            channel::TrySendError::Full(message) => TrySendError::Full(message),
            channel::TrySendError::Disconnected(message) => TrySendError::Disconnected(message),
        })
    }
}

impl<T> Receiver<T> {
    fn new(receiver: channel::Receiver<T>) -> Receiver<T> {
        Receiver { receiver, not_sync: PhantomData }
    }

    /// Receives the next message, waiting for one.
    ///
    /// Blocks: the goroutine, or else the thread.
    ///
    /// # Errors
    /// There is none, and all senders are gone.
    pub fn recv(&self) -> Result<T, RecvError> {
        self.receiver.recv().map_err(|_| RecvError)
    }

    /// Receives a message if there is one now. Never blocks.
    ///
    /// # Errors
    /// There is none, or there is none and all senders are gone.
    pub fn try_recv(&self) -> Result<T, TryRecvError> {
        self.receiver.try_recv().map_err(|error| match error {
            channel::TryRecvError::Empty => TryRecvError::Empty,
            channel::TryRecvError::Disconnected => TryRecvError::Disconnected,
        })
    }

    /// Receives the next message, waiting for one for at most `timeout`.
    ///
    /// Blocks: the goroutine, or else the thread.
    ///
    /// # Errors
    /// The time was up, or there is none and all senders are gone.
    pub fn recv_timeout(&self, timeout: Duration) -> Result<T, RecvTimeoutError> {
        self.receiver.recv_timeout(timeout).map_err(|error| match error {
            channel::RecvTimeoutError::Timeout => RecvTimeoutError::Timeout,
            channel::RecvTimeoutError::Disconnected => RecvTimeoutError::Disconnected,
        })
    }

    /// The messages, one by one, until all senders are gone; `next` waits.
    pub fn iter(&self) -> Iter<'_, T> {
        Iter { receiver: self }
    }

    /// The messages that are there now.
    pub fn try_iter(&self) -> TryIter<'_, T> {
        TryIter { receiver: self }
    }
}

impl<T> Clone for Sender<T> {
    fn clone(&self) -> Sender<T> {
        Sender { sender: self.sender.clone() }
    }
}

impl<T> Clone for SyncSender<T> {
    fn clone(&self) -> SyncSender<T> {
        SyncSender { sender: self.sender.clone() }
    }
}

/// What [`Receiver::iter`] returns. `next` blocks the goroutine, or else the thread.
#[derive(Debug)]
pub struct Iter<'a, T> {
    receiver: &'a Receiver<T>,
}

/// What [`Receiver::try_iter`] returns. Never blocks.
#[derive(Debug)]
pub struct TryIter<'a, T> {
    receiver: &'a Receiver<T>,
}

/// A receiver, used up as an iterator. `next` blocks the goroutine, or else the thread.
#[derive(Debug)]
pub struct IntoIter<T> {
    receiver: Receiver<T>,
}

impl<T> Iterator for Iter<'_, T> {
    type Item = T;

    fn next(&mut self) -> Option<T> {
        self.receiver.recv().ok()
    }
}

impl<T> Iterator for TryIter<'_, T> {
    type Item = T;

    fn next(&mut self) -> Option<T> {
        self.receiver.try_recv().ok()
    }
}

impl<T> Iterator for IntoIter<T> {
    type Item = T;

    fn next(&mut self) -> Option<T> {
        self.receiver.recv().ok()
    }
}

impl<'a, T> IntoIterator for &'a Receiver<T> {
    type Item = T;
    type IntoIter = Iter<'a, T>;

    fn into_iter(self) -> Iter<'a, T> {
        self.iter()
    }
}

impl<T> IntoIterator for Receiver<T> {
    type Item = T;
    type IntoIter = IntoIter<T>;

    fn into_iter(self) -> IntoIter<T> {
        IntoIter { receiver: self }
    }
}

macro_rules! opaque {
    ($($name:ident)*) => {$(
        impl<T> fmt::Debug for $name<T> {
            fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
                f.debug_struct(stringify!($name)).finish_non_exhaustive()
            }
        }
    )*};
}

opaque! { Sender SyncSender Receiver }
