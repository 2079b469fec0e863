//! A channel whose every receiver gets every message.
//!
//! ```
//! use strands::channel::broadcast::{self, RecvError};
//!
//! let (news, one) = broadcast::channel(2);
//! let other = news.subscribe();
//! for n in 1..=3 {
//!     news.send(n).unwrap();
//! }
//! assert_eq!(one.recv(), Err(RecvError::Lagged(1)));
//! assert_eq!((one.recv(), one.recv()), (Ok(2), Ok(3)));
//! drop(news);
//! assert_eq!(one.recv(), Err(RecvError::Disconnected));
//! assert_eq!(other.len(), 2);
//! ```
//!
//! A receiver gets what is sent after it was made. The channel holds the `cap` latest messages.
//!
//! **Lag.** Sending never waits: a receiver that is more than `cap` messages behind has lost the oldest of them.
//! It is told so, once and how many, by [`RecvError::Lagged`], and goes on with the oldest that is still there.
//! One slow receiver holds up neither the sender nor the others.

use super::SendError;
use super::feed::{self, Feed, FeedRef, ReadArm, ReadFuture, Reader};
use crate::selection::{Sealed, Until, within};
use std::collections::VecDeque;
use std::fmt;
use std::panic::{RefUnwindSafe, UnwindSafe};
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, AtomicUsize, Ordering};
use std::time::{Duration, Instant};

/// Makes a channel that holds the `cap` latest messages for each receiver.
///
/// # Panics
/// If `cap` is 0.
pub fn channel<T: Clone>(cap: usize) -> (Sender<T>, Receiver<T>) {
    assert!(cap > 0, "a broadcast channel must hold a message at least");
    let state = State { messages: VecDeque::new(), first: 0, cap, is_closed: false };
    let shared = Arc::new(Shared {
        feed: Feed::new(state),
        senders: AtomicUsize::new(1),
        receivers: AtomicUsize::new(1),
    });
    let receiver = Receiver { shared: Arc::clone(&shared), next: AtomicU64::new(0) };
    (Sender { shared }, receiver)
}

struct Shared<T> {
    feed: Feed<State<T>>,
    senders: AtomicUsize,
    receivers: AtomicUsize,
}

#[doc(hidden)]
pub struct State<T> {
    /// The latest messages, and the number of the first of them; they are counted from 0.
    messages: VecDeque<Arc<T>>,
    first: u64,
    cap: usize,
    is_closed: bool,
}

impl<T> State<T> {
    /// The number of the next message to be sent.
    fn end(&self) -> u64 {
        self.first + self.messages.len() as u64
    }
}

/// Why there is no message to receive.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum RecvError {
    /// The receiver was too slow, and has lost so many messages.
    Lagged(u64),
    /// There is none, and all senders are gone.
    Disconnected,
}

/// Why no message could be received at once, or in time.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum TryRecvError {
    /// There is none just now.
    Empty,
    /// The receiver was too slow, and has lost so many messages.
    Lagged(u64),
    /// There is none, and all senders are gone.
    Disconnected,
}

impl From<RecvError> for TryRecvError {
    fn from(error: RecvError) -> TryRecvError {
        match error {
            RecvError::Lagged(count) => TryRecvError::Lagged(count),
            RecvError::Disconnected => TryRecvError::Disconnected,
        }
    }
}

impl fmt::Display for RecvError {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            RecvError::Lagged(count) => write!(f, "receiver lagged behind by {count} messages"),
            RecvError::Disconnected => f.write_str("channel is empty and disconnected"),
        }
    }
}

impl fmt::Display for TryRecvError {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            TryRecvError::Empty => f.write_str("receiving on an empty channel"),
            TryRecvError::Lagged(count) => RecvError::Lagged(*count).fmt(f),
            TryRecvError::Disconnected => RecvError::Disconnected.fmt(f),
        }
    }
}

impl std::error::Error for RecvError {}
impl std::error::Error for TryRecvError {}

/// Sends to all. Clones share the channel; it is disconnected when the last is dropped.
pub struct Sender<T> {
    shared: Arc<Shared<T>>,
}

/// Receives what is sent after it was made.
///
/// Shared by reference, or used as several arms of a select, it gets each message once.
pub struct Receiver<T> {
    shared: Arc<Shared<T>>,
    /// The number of the message to be received next. Read and written under the feed's lock.
    next: AtomicU64,
}

impl<T> UnwindSafe for Sender<T> {}
impl<T> RefUnwindSafe for Sender<T> {}
impl<T> UnwindSafe for Receiver<T> {}
impl<T> RefUnwindSafe for Receiver<T> {}

impl<T: Clone> Sender<T> {
    /// Sends a message to all receivers, and returns how many there are. Never blocks.
    ///
    /// # Errors
    /// There is no receiver; the error holds the message.
    pub fn send(&self, message: T) -> Result<usize, SendError<T>> {
        let receivers = self.shared.receivers.load(Ordering::Acquire);
        if receivers == 0 {
            return Err(SendError(message));
        }
        let message = Arc::new(message);
        let mut inner = self.shared.feed.lock();
        let state = &mut inner.state;
        let oldest = (state.messages.len() == state.cap).then(|| state.messages.pop_front());
        state.first += u64::from(oldest.is_some());
        state.messages.push_back(message);
        self.shared.feed.release_and_tell(inner);
        drop(oldest);
        Ok(receivers)
    }

    /// Another receiver, of what is sent from now on.
    pub fn subscribe(&self) -> Receiver<T> {
        Receiver::new(&self.shared)
    }

    /// How many receivers there are.
    pub fn receiver_count(&self) -> usize {
        self.shared.receivers.load(Ordering::Relaxed)
    }
}

impl<T: Clone> Receiver<T> {
    fn new(shared: &Arc<Shared<T>>) -> Receiver<T> {
        shared.receivers.fetch_add(1, Ordering::Relaxed);
        let end = shared.feed.lock().state.end();
        Receiver { shared: Arc::clone(shared), next: AtomicU64::new(end) }
    }

    /// Waits for the next message.
    ///
    /// Blocks: the goroutine, or else the thread.
    ///
    /// # Errors
    /// [`Lagged`](RecvError::Lagged) or [`Disconnected`](RecvError::Disconnected).
    pub fn recv(&self) -> Result<T, RecvError> {
        feed::read(self, Until::Served).unwrap_or(Err(RecvError::Disconnected))
    }

    /// As [`recv`](Receiver::recv), for at most `timeout`.
    ///
    /// # Errors
    /// As [`recv`](Receiver::recv); [`Empty`](TryRecvError::Empty) if the time was up.
    pub fn recv_timeout(&self, timeout: Duration) -> Result<T, TryRecvError> {
        feed::read(self, within(timeout)).ok_or(TryRecvError::Empty)?.map_err(TryRecvError::from)
    }

    /// As [`recv`](Receiver::recv), until `deadline` at most.
    ///
    /// # Errors
    /// As [`recv_timeout`](Receiver::recv_timeout).
    pub fn recv_deadline(&self, deadline: Instant) -> Result<T, TryRecvError> {
        let received = feed::read(self, Until::Then(deadline)).ok_or(TryRecvError::Empty)?;
        received.map_err(TryRecvError::from)
    }

    /// The next message, if there is one. Never blocks.
    ///
    /// # Errors
    /// [`Empty`](TryRecvError::Empty), [`Lagged`](TryRecvError::Lagged) or
    /// [`Disconnected`](TryRecvError::Disconnected).
    pub fn try_recv(&self) -> Result<T, TryRecvError> {
        feed::try_read(self).ok_or(TryRecvError::Empty)?.map_err(TryRecvError::from)
    }

    /// As [`recv`](Receiver::recv), in async code on any executor.
    pub fn recv_async(&self) -> ReadFuture<'_, Receiver<T>> {
        ReadFuture::new(self)
    }

    /// Another receiver, of what is sent from now on.
    pub fn resubscribe(&self) -> Receiver<T> {
        Receiver::new(&self.shared)
    }

    /// How many messages are there for this receiver.
    pub fn len(&self) -> usize {
        let inner = self.shared.feed.lock();
        let next = self.next.load(Ordering::Relaxed).max(inner.state.first);
        (inner.state.end() - next) as usize
    }

    /// Whether there is none.
    pub fn is_empty(&self) -> bool {
        self.len() == 0
    }

    #[doc(hidden)]
    pub fn __recv_arm(&self) -> ReadArm<'_, Receiver<T>> {
        ReadArm::new(self)
    }
}

impl<T> Sealed for Receiver<T> {}

impl<T: Clone> Reader for Receiver<T> {
    type Raw = Result<Arc<T>, RecvError>;
    type Output = Result<T, RecvError>;
    type State = State<T>;

    fn __feed(&self) -> FeedRef<'_, State<T>> {
        FeedRef(&self.shared.feed)
    }

    fn __take(&self, state: &mut State<T>) -> Option<Self::Raw> {
        let next = self.next.load(Ordering::Relaxed);
        if next < state.first {
            self.next.store(state.first, Ordering::Relaxed);
            return Some(Err(RecvError::Lagged(state.first - next)));
        }
        match state.messages.get((next - state.first) as usize) {
            Some(message) => {
                self.next.store(next + 1, Ordering::Relaxed);
                Some(Ok(Arc::clone(message)))
            }
            None => state.is_closed.then_some(Err(RecvError::Disconnected)),
        }
    }

    fn __has(&self, state: &State<T>) -> bool {
        state.is_closed || self.next.load(Ordering::Relaxed) < state.end()
    }

    fn __finish(raw: Self::Raw) -> Self::Output {
        // The last one to have it needs no copy.
        raw.map(Arc::unwrap_or_clone)
    }
}

impl<T> Clone for Sender<T> {
    fn clone(&self) -> Self {
        self.shared.senders.fetch_add(1, Ordering::Relaxed);
        Sender { shared: Arc::clone(&self.shared) }
    }
}

impl<T> Drop for Sender<T> {
    fn drop(&mut self) {
        // Ordering: AcqRel, so that all that was done with the other handles happens before.
        if self.shared.senders.fetch_sub(1, Ordering::AcqRel) == 1 {
            let mut inner = self.shared.feed.lock();
            inner.state.is_closed = true;
            self.shared.feed.release_and_tell(inner);
        }
    }
}

impl<T> Drop for Receiver<T> {
    fn drop(&mut self) {
        if self.shared.receivers.fetch_sub(1, Ordering::AcqRel) == 1 {
            let mut inner = self.shared.feed.lock();
            // Nobody can receive these any more: who subscribes later gets what is sent later. Unless one has
            // subscribed just now.
            let mut left = VecDeque::new();
            if self.shared.receivers.load(Ordering::Acquire) == 0 {
                inner.state.first = inner.state.end();
                left = std::mem::take(&mut inner.state.messages);
            }
            drop(inner);
            drop(left);
        }
    }
}

impl<T> fmt::Debug for Sender<T> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.pad("broadcast::Sender { .. }")
    }
}

impl<T> fmt::Debug for Receiver<T> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.pad("broadcast::Receiver { .. }")
    }
}

impl<T> fmt::Debug for State<T> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.pad("broadcast::State { .. }")
    }
}
