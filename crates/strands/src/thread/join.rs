//! [`JoinHandle`]: the other end of a goroutine.

use super::{JoinArm, Thread};
use crate::sched::Join;
use std::fmt;
use std::future::Future;
use std::pin::Pin;
use std::sync::OnceLock;
use std::task::{Context, Poll};

/// Owns the right to join a goroutine. Dropping it detaches the goroutine, which goes on.
///
/// As [`std::thread::JoinHandle`]; and it is a [`Future`], which ends with what `join` would return and
/// may be polled on any executor.
///
/// If a goroutine panicked and its handle is dropped without a join, the panic is printed on stderr with
/// the goroutine's number, name and place of birth.
pub struct JoinHandle<T> {
    join: Join<T>,
    thread: OnceLock<Thread>,
}

impl<T> JoinHandle<T> {
    #[inline]
    pub(crate) fn new(join: Join<T>) -> JoinHandle<T> {
        JoinHandle { join, thread: OnceLock::new() }
    }

    /// Waits for the goroutine to end, and returns what it returned, or the payload of its panic.
    ///
    /// Whatever the goroutine did has happened for the one who returns from this.
    ///
    /// Blocks: the goroutine, or else the thread.
    ///
    /// # Errors
    /// The goroutine panicked. It is already printed by the panic hook; the error is the payload.
    ///
    /// # Panics
    /// If the handle was polled as a future until it was ready.
    ///
    /// # Examples
    ///
    /// ```
    /// let failed = strands::go(|| std::panic::resume_unwind(Box::new("payload"))).join();
    /// assert_eq!(failed.unwrap_err().downcast_ref(), Some(&"payload"));
    /// ```
    pub fn join(self) -> std::thread::Result<T> {
        assert!(!self.join.is_taken(), "a goroutine was joined twice");
        self.join.join()
    }

    #[doc(hidden)]
    pub fn __join_arm(&mut self) -> JoinArm<'_, T> {
        JoinArm::new(&mut self.join)
    }

    /// Whether the goroutine has ended, so that `join` would not wait. Never blocks.
    pub fn is_finished(&self) -> bool {
        self.join.is_finished()
    }

    /// A handle to the goroutine.
    pub fn thread(&self) -> &Thread {
        self.thread.get_or_init(|| Thread::new(self.join.identity()))
    }
}

// Nothing in it is pinned: the result is moved out of the goroutine's record.
impl<T> Unpin for JoinHandle<T> {}

/// Ready when the goroutine has ended. Dropping it detaches the goroutine; nothing is lost by dropping the
/// future that awaits a `&mut JoinHandle`.
///
/// # Panics
/// If it is polled again after it was ready.
impl<T> Future for JoinHandle<T> {
    type Output = std::thread::Result<T>;

    fn poll(mut self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<Self::Output> {
        assert!(!self.join.is_taken(), "a goroutine was joined twice");
        self.join.poll(cx.waker())
    }
}

impl<T> fmt::Debug for JoinHandle<T> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("JoinHandle").finish_non_exhaustive()
    }
}
