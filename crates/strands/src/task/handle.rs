//! The handles of a task.

use crate::sched::{FutureRef, Join};
use crate::thread::JoinArm;
use std::fmt;
use std::future::Future;
use std::pin::Pin;
use std::task::{Context, Poll};

/// Owns the right to join a task. Dropping it detaches the task, which goes on.
///
/// As [`JoinHandle`](crate::JoinHandle) of a goroutine, it is joined by blocking, as a future on any executor, or as an
/// arm of a [`select!`](crate::select). If a task panicked and its handle is dropped without a join, the panic is
/// printed on stderr.
pub struct JoinHandle<T> {
    // In this order: the task's reference is the last thing that is given up.
    join: Join<T>,
    task: FutureRef,
}

impl<T> JoinHandle<T> {
    pub(super) fn new(join: Join<T>, task: FutureRef) -> JoinHandle<T> {
        JoinHandle { join, task }
    }

    /// Waits for the task to end, and returns what it returned, or the payload of its panic.
    ///
    /// Whatever the task did has happened for the one who returns from this.
    ///
    /// Blocks: the goroutine, or else the thread.
    ///
    /// # Errors
    /// The task panicked: the error is the payload. Or it was cancelled: then it is a [`Cancelled`](super::Cancelled).
    ///
    /// # Panics
    /// If the handle was polled as a future until it was ready.
    ///
    /// # Examples
    ///
    /// ```
    /// let failed = strands::task::spawn(async { std::panic::resume_unwind(Box::new("payload")) });
    /// let payload: Box<dyn std::any::Any + Send> = failed.join().map(|()| ()).unwrap_err();
    /// assert_eq!(payload.downcast_ref(), Some(&"payload"));
    /// ```
    pub fn join(self) -> std::thread::Result<T> {
        assert!(!self.join.is_taken(), "a task was joined twice");
        let JoinHandle { join, task } = self;
        let result = join.join();
        drop(task);
        result
    }

    /// Has the task dropped, at once if it waits, or else at its next `await` that has to wait.
    ///
    /// A join then returns [`Cancelled`](super::Cancelled), unless the task was ready first. Its future is dropped by a
    /// worker, soon after this; who joins it knows that it has been. A poll that blocks its goroutine is not interrupted.
    ///
    /// # Examples
    ///
    /// ```
    /// use strands::task::{self, Cancelled};
    ///
    /// let task = task::spawn(std::future::pending::<()>());
    /// task.abort();
    /// assert!(task.join().unwrap_err().is::<Cancelled>());
    /// ```
    pub fn abort(&self) {
        self.task.cancel();
    }

    /// A handle that can abort the task, and nothing else.
    pub fn abort_handle(&self) -> AbortHandle {
        AbortHandle { task: self.task.clone() }
    }

    /// Whether the task has ended, so that `join` would not wait. Never blocks.
    pub fn is_finished(&self) -> bool {
        self.join.is_finished()
    }

    #[doc(hidden)]
    pub fn __join_arm(&mut self) -> JoinArm<'_, T> {
        JoinArm::new(&mut self.join)
    }
}

// Nothing in it is pinned: the result is moved out of the task's record.
impl<T> Unpin for JoinHandle<T> {}

/// Ready when the task has ended. Nothing is lost by dropping the future that awaits a `&mut JoinHandle`.
///
/// # Panics
/// If it is polled again after it was ready.
impl<T> Future for JoinHandle<T> {
    type Output = std::thread::Result<T>;

    fn poll(mut self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<Self::Output> {
        assert!(!self.join.is_taken(), "a task was joined twice");
        self.join.poll(cx.waker())
    }
}

impl<T> fmt::Debug for JoinHandle<T> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("JoinHandle").finish_non_exhaustive()
    }
}

/// Aborts a task: see [`JoinHandle::abort`].
///
/// As long as there is one, the task counts as one that may be wanted still.
#[derive(Clone)]
pub struct AbortHandle {
    task: FutureRef,
}

impl AbortHandle {
    /// As [`JoinHandle::abort`].
    pub fn abort(&self) {
        self.task.cancel();
    }
}

impl fmt::Debug for AbortHandle {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("AbortHandle").finish_non_exhaustive()
    }
}
