//! A channel for one message.
//!
//! ```
//! use strands::channel::oneshot;
//!
//! let (answer, asked) = oneshot::channel();
//! strands::go(move || answer.send(6 * 7).expect("somebody asked"));
//! assert_eq!(asked.recv(), Ok(42));
//! ```
//!
//! The sender is used up by sending. The receiver is a [`channel::Receiver`](super::Receiver) by dereference, so
//! that everything works with it: `recv_timeout`, `recv_async`, an arm of a `select!`.

use super::SendError;
use std::fmt;
use std::ops::Deref;

/// Makes a channel for one message.
pub fn channel<T>() -> (Sender<T>, Receiver<T>) {
    let (sender, receiver) = super::bounded(1);
    (Sender(sender), Receiver(receiver))
}

/// The right to send one message.
///
/// ```compile_fail,E0382
/// let (tx, rx) = strands::channel::oneshot::channel();
/// tx.send(1).unwrap();
/// tx.send(2).unwrap();
/// ```
pub struct Sender<T>(super::Sender<T>);

/// The right to receive it.
pub struct Receiver<T>(super::Receiver<T>);

impl<T> Sender<T> {
    /// Sends the message. Never blocks.
    ///
    /// # Errors
    /// The receiver is gone, or has closed the channel; the error holds the message.
    pub fn send(self, message: T) -> Result<(), SendError<T>> {
        self.0.send(message)
    }

    /// Whether nobody will receive it.
    pub fn is_closed(&self) -> bool {
        self.0.is_closed()
    }
}

impl<T> Deref for Receiver<T> {
    type Target = super::Receiver<T>;

    fn deref(&self) -> &super::Receiver<T> {
        &self.0
    }
}

impl<T> fmt::Debug for Sender<T> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.pad("oneshot::Sender { .. }")
    }
}

impl<T> fmt::Debug for Receiver<T> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.pad("oneshot::Receiver { .. }")
    }
}
