//! What can go wrong under a context.

use std::error::Error;
use std::fmt;
use std::io;

/// Why a context is done.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub enum ContextError {
    /// It, or one above it, was cancelled.
    Canceled,
    /// Its deadline, or that of one above it, has passed.
    DeadlineExceeded,
}

/// Why [`recv_ctx`](crate::channel::Receiver::recv_ctx) has received nothing.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum RecvContextError {
    /// The context is done.
    Done(ContextError),
    /// The channel is empty, and all senders are gone or it was closed.
    Disconnected,
}

/// Why [`send_ctx`](crate::channel::Sender::send_ctx) has sent nothing; here is the message.
#[derive(Clone, Copy, PartialEq, Eq)]
pub enum SendContextError<T> {
    /// The context is done.
    Done(T, ContextError),
    /// All receivers are gone, or the channel was closed.
    Disconnected(T),
}

impl<T> SendContextError<T> {
    /// The message.
    pub fn into_inner(self) -> T {
        match self {
            SendContextError::Done(message, _) | SendContextError::Disconnected(message) => message,
        }
    }
}

/// In Go's words.
impl fmt::Display for ContextError {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(match self {
            ContextError::Canceled => "context canceled",
            ContextError::DeadlineExceeded => "context deadline exceeded",
        })
    }
}

impl fmt::Display for RecvContextError {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            RecvContextError::Done(error) => error.fmt(f),
            RecvContextError::Disconnected => {
                f.write_str("receiving on an empty and disconnected channel")
            }
        }
    }
}

impl<T> fmt::Display for SendContextError<T> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            SendContextError::Done(_, error) => error.fmt(f),
            SendContextError::Disconnected(_) => f.write_str("sending on a disconnected channel"),
        }
    }
}

impl<T> fmt::Debug for SendContextError<T> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            SendContextError::Done(_, error) => write!(f, "Done(.., {error:?})"),
            SendContextError::Disconnected(_) => f.write_str("Disconnected(..)"),
        }
    }
}

impl Error for ContextError {}
impl Error for RecvContextError {}
impl<T> Error for SendContextError<T> {}

impl From<ContextError> for RecvContextError {
    fn from(error: ContextError) -> RecvContextError {
        RecvContextError::Done(error)
    }
}

/// A deadline becomes [`TimedOut`](io::ErrorKind::TimedOut). A cancellation is not
/// [`Interrupted`](io::ErrorKind::Interrupted), upon which much code tries again, but `Other`.
impl From<ContextError> for io::Error {
    fn from(error: ContextError) -> io::Error {
        let kind = match error {
            ContextError::Canceled => io::ErrorKind::Other,
            ContextError::DeadlineExceeded => io::ErrorKind::TimedOut,
        };
        io::Error::new(kind, error)
    }
}
