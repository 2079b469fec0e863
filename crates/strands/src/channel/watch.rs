//! A channel for the latest value: for configurations, states, progress.
//!
//! ```
//! use strands::channel::watch;
//!
//! let (level, seen) = watch::channel(1);
//! level.send(2).unwrap();
//! level.send(3).unwrap();
//! assert_eq!(seen.recv().as_deref(), Ok(&3));
//! assert!(seen.try_recv().is_err(), "there is nothing newer");
//! assert_eq!(*seen.borrow(), 3);
//! ```
//!
//! Each receiver remembers which value it has seen. It gets the latest one if that is newer, and never those in
//! between. Values are shared, in an [`Arc`]; nothing is locked while one looks at them.

use super::feed::{self, Feed, FeedRef, ReadArm, ReadFuture, Reader};
use super::{RecvError, RecvTimeoutError, SendError, TryRecvError};
use crate::selection::{Sealed, Until, within};
use std::fmt;
use std::panic::{RefUnwindSafe, UnwindSafe};
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, AtomicUsize, Ordering};
use std::time::{Duration, Instant};

/// Makes a channel for the latest value, which for now is `initial`. Receivers count it as seen.
pub fn channel<T>(initial: T) -> (Sender<T>, Receiver<T>) {
    let feed = Feed::new(State { version: 0, value: Arc::new(initial), is_closed: false });
    let shared =
        Arc::new(Shared { feed, senders: AtomicUsize::new(1), receivers: AtomicUsize::new(1) });
    let receiver = Receiver { shared: Arc::clone(&shared), seen: AtomicU64::new(0) };
    (Sender { shared }, receiver)
}

struct Shared<T> {
    feed: Feed<State<T>>,
    senders: AtomicUsize,
    receivers: AtomicUsize,
}

#[doc(hidden)]
pub struct State<T> {
    /// How often it has changed.
    version: u64,
    value: Arc<T>,
    is_closed: bool,
}

/// Changes the value. Clones share the channel; it is closed when the last is dropped.
pub struct Sender<T> {
    shared: Arc<Shared<T>>,
}

/// Sees the value. A clone has seen what the original has.
pub struct Receiver<T> {
    shared: Arc<Shared<T>>,
    /// The version it has seen. Read and written under the feed's lock.
    seen: AtomicU64,
}

impl<T> UnwindSafe for Sender<T> {}
impl<T> RefUnwindSafe for Sender<T> {}
impl<T> UnwindSafe for Receiver<T> {}
impl<T> RefUnwindSafe for Receiver<T> {}

impl<T> Sender<T> {
    /// Changes the value, and wakes all who wait for that. Never blocks.
    ///
    /// # Errors
    /// All receivers are gone; the error holds the value.
    pub fn send(&self, value: T) -> Result<(), SendError<T>> {
        if self.shared.receivers.load(Ordering::Acquire) == 0 {
            return Err(SendError(value));
        }
        drop(self.send_replace(value));
        Ok(())
    }

    /// Changes the value even if nobody sees it, and returns the one before.
    pub fn send_replace(&self, value: T) -> Arc<T> {
        let value = Arc::new(value);
        let mut inner = self.shared.feed.lock();
        inner.state.version += 1;
        let former = std::mem::replace(&mut inner.state.value, value);
        self.shared.feed.release_and_tell(inner);
        former
    }

    /// The value.
    pub fn borrow(&self) -> Arc<T> {
        Arc::clone(&self.shared.feed.lock().state.value)
    }

    /// Another receiver, which counts the present value as seen.
    pub fn subscribe(&self) -> Receiver<T> {
        self.shared.receivers.fetch_add(1, Ordering::Relaxed);
        let version = self.shared.feed.lock().state.version;
        Receiver { shared: Arc::clone(&self.shared), seen: AtomicU64::new(version) }
    }

    /// How many receivers there are.
    pub fn receiver_count(&self) -> usize {
        self.shared.receivers.load(Ordering::Relaxed)
    }
}

impl<T> Receiver<T> {
    /// The value. Does not count it as seen.
    pub fn borrow(&self) -> Arc<T> {
        Arc::clone(&self.shared.feed.lock().state.value)
    }

    /// The value, which now counts as seen.
    pub fn borrow_and_update(&self) -> Arc<T> {
        let inner = self.shared.feed.lock();
        self.seen.store(inner.state.version, Ordering::Relaxed);
        Arc::clone(&inner.state.value)
    }

    /// Whether there is a value that this receiver has not seen.
    pub fn has_changed(&self) -> bool {
        self.shared.feed.lock().state.version > self.seen.load(Ordering::Relaxed)
    }

    /// Waits for a value that this receiver has not seen, and returns it.
    ///
    /// Blocks: the goroutine, or else the thread.
    ///
    /// # Errors
    /// There is none, and all senders are gone.
    pub fn recv(&self) -> Result<Arc<T>, RecvError> {
        feed::read(self, Until::Served).unwrap_or(Err(RecvError))
    }

    /// As [`recv`](Receiver::recv), and returns nothing: for use with [`borrow`](Receiver::borrow).
    ///
    /// # Errors
    /// As [`recv`](Receiver::recv).
    pub fn changed(&self) -> Result<(), RecvError> {
        self.recv().map(drop)
    }

    /// As [`recv`](Receiver::recv), for at most `timeout`.
    ///
    /// # Errors
    /// The time was up, or all senders are gone.
    pub fn recv_timeout(&self, timeout: Duration) -> Result<Arc<T>, RecvTimeoutError> {
        let received = feed::read(self, within(timeout)).ok_or(RecvTimeoutError::Timeout)?;
        received.map_err(RecvTimeoutError::from)
    }

    /// As [`recv`](Receiver::recv), until `deadline` at most.
    ///
    /// # Errors
    /// As [`recv_timeout`](Receiver::recv_timeout).
    pub fn recv_deadline(&self, deadline: Instant) -> Result<Arc<T>, RecvTimeoutError> {
        let received = feed::read(self, Until::Then(deadline)).ok_or(RecvTimeoutError::Timeout)?;
        received.map_err(RecvTimeoutError::from)
    }

    /// A value that this receiver has not seen, if there is one. Never blocks.
    ///
    /// # Errors
    /// There is none; and perhaps all senders are gone.
    pub fn try_recv(&self) -> Result<Arc<T>, TryRecvError> {
        feed::try_read(self).ok_or(TryRecvError::Empty)?.map_err(TryRecvError::from)
    }

    /// As [`recv`](Receiver::recv), in async code on any executor.
    pub fn recv_async(&self) -> ReadFuture<'_, Receiver<T>> {
        ReadFuture::new(self)
    }

    #[doc(hidden)]
    pub fn __recv_arm(&self) -> ReadArm<'_, Receiver<T>> {
        ReadArm::new(self)
    }
}

impl<T> Sealed for Receiver<T> {}

impl<T> Reader for Receiver<T> {
    type Raw = Result<Arc<T>, RecvError>;
    type Output = Result<Arc<T>, RecvError>;
    type State = State<T>;

    fn __feed(&self) -> FeedRef<'_, State<T>> {
        FeedRef(&self.shared.feed)
    }

    fn __take(&self, state: &mut State<T>) -> Option<Self::Raw> {
        if state.version > self.seen.load(Ordering::Relaxed) {
            self.seen.store(state.version, Ordering::Relaxed);
            Some(Ok(Arc::clone(&state.value)))
        } else {
            state.is_closed.then_some(Err(RecvError))
        }
    }

    fn __has(&self, state: &State<T>) -> bool {
        state.is_closed || state.version > self.seen.load(Ordering::Relaxed)
    }

    fn __finish(raw: Self::Raw) -> Self::Output {
        raw
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

impl<T> Clone for Receiver<T> {
    fn clone(&self) -> Self {
        self.shared.receivers.fetch_add(1, Ordering::Relaxed);
        let seen = AtomicU64::new(self.seen.load(Ordering::Relaxed));
        Receiver { shared: Arc::clone(&self.shared), seen }
    }
}

impl<T> Drop for Receiver<T> {
    fn drop(&mut self) {
        self.shared.receivers.fetch_sub(1, Ordering::AcqRel);
    }
}

impl<T> fmt::Debug for Sender<T> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.pad("watch::Sender { .. }")
    }
}

impl<T> fmt::Debug for Receiver<T> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.pad("watch::Receiver { .. }")
    }
}

impl<T> fmt::Debug for State<T> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.pad("watch::State { .. }")
    }
}
