//! [`Receiver`]: the consumer's end.

use super::core::RecvEnd;
use super::timed::Source;
use super::{
    IntoIter, Iter, RecvArm, RecvError, RecvFuture, RecvTimeoutError, TryIter, TryRecvError,
};
use std::fmt;
use std::panic::{RefUnwindSafe, UnwindSafe};
use std::sync::Arc;
use std::time::{Duration, Instant};

/// The receiving side of a channel. Clones share the channel, and each message goes to one of them; when the
/// last one is dropped, senders get their messages back.
///
/// It is the consumer's role, and nothing else:
///
/// ```compile_fail,E0599
/// let (tx, rx) = strands::channel::bounded(1);
/// rx.send(1);
/// ```
pub struct Receiver<T> {
    pub(super) flavor: Flavor<T>,
    /// For the receiver as a stream.
    #[cfg(feature = "futures")]
    pub(super) stream: super::stream::Wait<T>,
}

/// Where messages come from.
pub(super) enum Flavor<T> {
    Channel(RecvEnd<T>),
    /// The clock.
    Timed(Arc<dyn Source<T>>),
    Never,
}

// SAFETY: messages of `T: Send` go from any thread to any other, under the channel's lock.
unsafe impl<T: Send> Send for Receiver<T> {}
// SAFETY: as above; `T` itself is never shared.
unsafe impl<T: Send> Sync for Receiver<T> {}
impl<T> UnwindSafe for Receiver<T> {}
impl<T> RefUnwindSafe for Receiver<T> {}

impl<T> Receiver<T> {
    pub(super) const fn of(flavor: Flavor<T>) -> Receiver<T> {
        Receiver {
            flavor,
            #[cfg(feature = "futures")]
            stream: super::stream::Wait::new(),
        }
    }

    pub(super) fn flavor(&self) -> &Flavor<T> {
        &self.flavor
    }

    #[doc(hidden)]
    #[inline]
    pub fn __recv_arm(&self) -> RecvArm<'_, T> {
        RecvArm::new(self)
    }

    #[inline(always)]
    fn recv_until(&self, deadline: Option<Instant>) -> Result<T, RecvTimeoutError> {
        match &self.flavor {
            Flavor::Channel(end) => end.recv(deadline),
            Flavor::Timed(_) | Flavor::Never => self.recv_moment(deadline),
        }
    }

    #[cold]
    fn recv_moment(&self, deadline: Option<Instant>) -> Result<T, RecvTimeoutError> {
        if let Flavor::Timed(source) = &self.flavor {
            return source.recv(deadline);
        }
        super::timed::wait_until(deadline);
        Err(RecvTimeoutError::Timeout)
    }

    /// Receives the next message, waiting for one if there is none.
    ///
    /// Blocks: the goroutine, or else the thread.
    ///
    /// # Errors
    /// The channel is empty, and all senders are gone or it was closed.
    #[inline(always)]
    pub fn recv(&self) -> Result<T, RecvError> {
        self.recv_until(None).map_err(|_| RecvError)
    }

    /// As [`recv`](Receiver::recv), for at most `timeout`.
    ///
    /// Blocks: the goroutine, or else the thread.
    ///
    /// # Errors
    /// [`Timeout`](RecvTimeoutError::Timeout) or [`Disconnected`](RecvTimeoutError::Disconnected).
    ///
    /// # Examples
    ///
    /// ```
    /// use std::time::Duration;
    /// use strands::channel::{RecvTimeoutError, bounded};
    ///
    /// let (_tx, rx) = bounded::<i32>(1);
    /// assert_eq!(rx.recv_timeout(Duration::from_millis(1)), Err(RecvTimeoutError::Timeout));
    /// ```
    pub fn recv_timeout(&self, timeout: Duration) -> Result<T, RecvTimeoutError> {
        self.recv_until(Instant::now().checked_add(timeout))
    }

    /// As [`recv`](Receiver::recv), until `deadline` at most. One that has passed still allows what is possible
    /// at once.
    ///
    /// Blocks: the goroutine, or else the thread.
    ///
    /// # Errors
    /// As [`recv_timeout`](Receiver::recv_timeout).
    pub fn recv_deadline(&self, deadline: Instant) -> Result<T, RecvTimeoutError> {
        self.recv_until(Some(deadline))
    }

    /// Receives the next message, and lets `deal` see it before its sender goes on: an *extended rendezvous*. Returns the
    /// message, and what the closure returned.
    ///
    /// In a rendezvous, the `send` that brought the message returns when the closure has returned, or panicked; so does a
    /// select that sends, and a [`send_async`](super::Sender::send_async) is ready then. A time-out of the sender does not
    /// count from the moment when its message was taken. In a channel that holds messages their senders have gone on
    /// before: there it is a receive, and then the closure.
    ///
    /// One who receives so does not stand in line, but waits until a sender does. So it meets nobody who does not
    /// wait, as [`try_send`](super::Sender::try_send); those who receive otherwise are served first, and of several that
    /// receive so any may be the next.
    ///
    /// Blocks: the goroutine, or else the thread.
    ///
    /// # Errors
    /// As [`recv`](Receiver::recv).
    ///
    /// # Examples
    ///
    /// ```
    /// use std::sync::atomic::{AtomicU32, Ordering};
    /// use strands::channel::bounded;
    ///
    /// static TOTAL: AtomicU32 = AtomicU32::new(0);
    ///
    /// let (tx, rx) = bounded(0);
    /// let customer = strands::go(move || {
    ///     tx.send(5).unwrap();
    ///     TOTAL.load(Ordering::Relaxed)
    /// });
    /// let (paid, total) = rx.recv_with(|sum| TOTAL.fetch_add(*sum, Ordering::Relaxed) + *sum)?;
    /// assert_eq!((paid, total), (5, 5));
    /// assert_eq!(customer.join().unwrap(), 5); // never 0: it was counted before the send returned
    /// # Ok::<(), strands::channel::RecvError>(())
    /// ```
    pub fn recv_with<R>(&self, deal: impl FnOnce(&mut T) -> R) -> Result<(T, R), RecvError> {
        match &self.flavor {
            Flavor::Channel(end) if end.has_meetings() => end.recv_with(deal),
            _ => self.recv().map(|mut message| {
                let result = deal(&mut message);
                (message, result)
            }),
        }
    }

    /// Receives a message in async code, on any executor.
    ///
    /// Blocks nothing: the future is pending as long as there is none. It stands in one line with the
    /// goroutines and threads that receive. Dropped before it was ready, it has received nothing: a message
    /// that was handed to it meanwhile goes to the next receiver.
    ///
    /// # Errors
    /// As [`recv`](Receiver::recv).
    pub fn recv_async(&self) -> RecvFuture<'_, T> {
        RecvFuture::new(self)
    }

    /// Receives a message if there is one now, in the channel or in the hands of a waiting sender. Does not
    /// wait; with one exception: in a rendezvous, if a [`select!`](crate::select) sends that has been chosen by
    /// this and is still evaluating the message.
    ///
    /// # Errors
    /// [`Empty`](TryRecvError::Empty) or [`Disconnected`](TryRecvError::Disconnected).
    #[inline]
    pub fn try_recv(&self) -> Result<T, TryRecvError> {
        match &self.flavor {
            Flavor::Channel(end) => end.try_recv(),
            Flavor::Timed(source) => source.attempt().ok_or(TryRecvError::Empty),
            Flavor::Never => Err(TryRecvError::Empty),
        }
    }

    /// Closes the channel for all: nothing more can be sent, what was sent can be received. Senders that wait
    /// get their messages back, receivers that wait an error. Closing it again does nothing; nor does closing
    /// a receiver that has no senders, of [`tick`](super::tick), a context's or the like.
    ///
    /// # Examples
    ///
    /// ```
    /// use strands::channel::{SendError, bounded};
    ///
    /// let (tx, rx) = bounded(2);
    /// tx.send(1).unwrap();
    /// rx.close();
    /// assert_eq!(tx.send(2), Err(SendError(2)));
    /// assert_eq!(rx.iter().collect::<Vec<_>>(), [1]);
    /// ```
    pub fn close(&self) {
        if let Flavor::Channel(end) = &self.flavor
            && !end.is_signal()
        {
            end.close();
        }
    }

    /// Disconnects a [`signal`](super::signal): all who wait are woken, in one pass.
    pub(crate) fn go_off(&self) {
        if let Flavor::Channel(end) = &self.flavor {
            end.close();
        }
    }

    /// Whether the channel was closed, or all its senders are gone. There may still be messages to receive.
    pub fn is_closed(&self) -> bool {
        matches!(&self.flavor, Flavor::Channel(end) if end.is_closed())
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
        match &self.flavor {
            Flavor::Channel(end) => end.len(),
            Flavor::Timed(source) => {
                usize::from(source.next().is_some_and(|when| when <= Instant::now()))
            }
            Flavor::Never => 0,
        }
    }

    /// Whether it holds no message. A rendezvous never does.
    pub fn is_empty(&self) -> bool {
        self.len() == 0
    }

    /// Whether it holds as many messages as it can. A rendezvous always does.
    pub fn is_full(&self) -> bool {
        match &self.flavor {
            Flavor::Channel(end) => end.is_full(),
            Flavor::Timed(_) => !self.is_empty(),
            Flavor::Never => true,
        }
    }

    /// How many messages it can hold; `None` if there is no bound.
    pub fn capacity(&self) -> Option<usize> {
        match &self.flavor {
            Flavor::Channel(end) => end.capacity(),
            Flavor::Timed(_) => Some(1),
            Flavor::Never => Some(0),
        }
    }

    /// Whether both receive from the same channel.
    pub fn same_channel(&self, other: &Receiver<T>) -> bool {
        match (&self.flavor, &other.flavor) {
            (Flavor::Channel(one), Flavor::Channel(other)) => one.same(other),
            (Flavor::Timed(one), Flavor::Timed(other)) => Arc::ptr_eq(one, other),
            (Flavor::Never, Flavor::Never) => true,
            _ => false,
        }
    }
}

impl<T> Clone for Receiver<T> {
    fn clone(&self) -> Self {
        Receiver::of(match &self.flavor {
            Flavor::Channel(end) => Flavor::Channel(end.clone()),
            Flavor::Timed(source) => Flavor::Timed(Arc::clone(source)),
            Flavor::Never => Flavor::Never,
        })
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
