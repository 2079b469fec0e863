//! For futures that insist on tokio's runtime: feature `tokio`.
//!
//! A thread called `strands-tokio`, started by the first use, runs a current-thread runtime of tokio's: its sockets,
//! timers and tasks live there. A goroutine (or a thread) polls its future by itself, as [`task::block_on`](super::block_on) does,
//! with that runtime *entered*, so that whatever the future asks of tokio it gets.
//!
//! ```
//! use strands::task;
//! use std::time::Duration;
//!
//! let slept = strands::go(|| {
//!     task::tokio::block_on(async {
//!         tokio::time::sleep(Duration::from_millis(1)).await;
//!         "by tokio's clock"
//!     })
//! });
//! assert_eq!(slept.join().unwrap(), "by tokio's clock");
//! ```
//!
//! Every wake-up by tokio's sockets and timers comes from that one thread: what is written for [`net`](crate::net) is
//! faster. What uses tokio's blocking pool gets threads of tokio's.
//!
//! **A poll must not block its goroutine** (on a channel's `recv`, say, where there is `recv_async`): while the runtime is entered
//! it is so for the thread, and tokio panics when goroutines that share it leave in another order than they
//! entered.

use crate::sched::threads;
use std::future::Future;
use std::pin::Pin;
use std::sync::OnceLock;
use std::task::{Context, Poll};
use tokio::runtime::{Builder, Handle};

/// The runtime, to spawn tokio's own tasks on.
///
/// # Panics
/// If its thread, or what tokio needs, is refused.
///
/// # Examples
///
/// ```
/// let task = strands::task::tokio::handle().spawn(async { 6 * 7 });
/// assert_eq!(strands::task::block_on(task).unwrap(), 42);
/// ```
pub fn handle() -> &'static Handle {
    static HANDLE: OnceLock<Handle> = OnceLock::new();
    HANDLE.get_or_init(|| {
        let runtime = Builder::new_current_thread().enable_all().build();
        let runtime = runtime.expect("tokio's runtime can be made");
        let handle = runtime.handle().clone();
        threads::start("strands-tokio", move || runtime.block_on(std::future::pending::<()>()))
            .expect("a thread for tokio's runtime is to be had");
        handle
    })
}

/// As [`task::block_on`](super::block_on), with tokio's runtime entered.
///
/// Blocks: the goroutine, or else the thread.
///
/// # Panics
/// If the future does, or as [`handle`] does.
pub fn block_on<F: Future>(future: F) -> F::Output {
    super::block_on(enter(future))
}

/// The same future, with tokio's runtime entered whenever it is polled, and when it is dropped: for
/// [`task::spawn`](super::spawn), or to be awaited among others.
///
/// # Panics
/// As [`handle`] does.
///
/// # Examples
///
/// ```
/// use std::time::Duration;
/// use strands::task;
///
/// let task = task::spawn(task::tokio::enter(async {
///     tokio::time::timeout(Duration::from_millis(1), std::future::pending::<()>()).await
/// }));
/// assert!(task.join().unwrap().is_err());
/// ```
pub fn enter<F: Future>(future: F) -> Entered<F> {
    Entered { future: Some(Box::pin(future)), handle: handle() }
}

/// A future that is polled within tokio's runtime: see [`enter`].
#[must_use = "a future does nothing unless it is awaited"]
pub struct Entered<F> {
    /// There until the drop.
    future: Option<Pin<Box<F>>>,
    handle: &'static Handle,
}

impl<F: Future> Future for Entered<F> {
    type Output = F::Output;

    fn poll(mut self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<F::Output> {
        let _guard = self.handle.enter();
        self.future.as_mut().expect("there until the drop").as_mut().poll(cx)
    }
}

impl<F> Drop for Entered<F> {
    fn drop(&mut self) {
        let _guard = self.handle.enter();
        self.future = None;
    }
}

impl<F> std::fmt::Debug for Entered<F> {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("Entered").finish_non_exhaustive()
    }
}
