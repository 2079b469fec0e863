//! The bridge to the async world: futures run beside goroutines, and goroutines wait for futures.
//!
//! ```
//! use strands::task;
//! use strands::time::{self, Duration};
//!
//! // A goroutine (or a thread) waits for a future …
//! let waiting = strands::go(|| {
//!     task::block_on(async {
//!         time::sleep_async(Duration::from_millis(1)).await;
//!         6 * 7
//!     })
//! });
//!
//! // … and a future for a goroutine.
//! let task = task::spawn(async move { waiting.await.unwrap() + 1 });
//! assert_eq!(task.join().unwrap(), 43);
//! ```
//!
//! * [`block_on`] polls a future right here. It need not be [`Send`], and parks the goroutine, or else the thread,
//!   until its waker is called, by whatever thread.
//! * [`spawn`] hands a `Send` future to the workers, which run it beside the goroutines. While it waits it is a few
//!   words; it has a stack only while it is polled. So unlike on other executors **a poll may block** on anything
//!   of this crate: a channel's `recv`, a lock, a socket, a `sleep`. That suspends the task as it
//!   suspends a goroutine, and holds nobody up.
//!
//! What makes async code of this crate's own things: `recv_async` and `send_async` of channels, `lock_async` of
//! locks, a [`JoinHandle`](crate::JoinHandle), [`time::sleep_async`](crate::time::sleep_async). They need no
//! executor of ours, and work under tokio's.
//!
//! # Libraries
//!
//! * Those that want an executor and readers and writers of `futures`: feature `futures`.
//! * hyper 1, and axum without its default features: feature `hyper`, and [`task::hyper`](self#libraries).
//! * Those that insist on tokio: feature `tokio`, and `task::tokio`, which keeps a runtime on a thread of its own.
//!
//! # A task or a goroutine?
//!
//! A goroutine, if the code is yours. `spawn` is for libraries that bring futures. A task that waits costs less memory
//! than a goroutine (no page of stack), and may be taken over by another worker after each wait.

mod block_on;
#[cfg(feature = "futures")]
mod futures;
mod handle;
#[cfg(feature = "hyper")]
pub mod hyper;
#[cfg(feature = "tokio")]
pub mod tokio;

pub use crate::sched::Cancelled;
pub use block_on::block_on;
pub use handle::{AbortHandle, JoinHandle};

use crate::sched;
use std::future::Future;
use std::panic::Location;

/// Has the workers run a future, beside the goroutines.
///
/// Returns at once; the future is polled when its turn comes. The handle joins it, by blocking or as a future;
/// dropping the handle detaches it. As with goroutines, the process does not wait for it when `main` returns.
///
/// The future may be polled by another worker each time, which is why it must be [`Send`]; one that is not can be made
/// and awaited within a goroutine: `go(|| block_on(…))`. A poll has a goroutine's stack, and may do all that a
/// goroutine may. A poll that blocks is suspended as a goroutine is, and stays on its thread until it returns.
///
/// A future that wakes itself goes behind all others that are ready. One that nobody can wake any more (it has left no
/// waker, and its handles are gone) is dropped, with all that it holds.
///
/// [`goroutine_local!`](crate::goroutine_local)s belong to one poll, and are dropped after it: they may hold what is
/// not `Send`.
///
/// # Panics
/// If memory or a thread is refused. A panic of the future stays in its task: `join` returns it.
///
/// # Examples
///
/// ```
/// use strands::{channel, task};
///
/// let (tx, rx) = channel::bounded(0);
/// let task = task::spawn(async move { rx.recv_async().await });
/// tx.send(7).unwrap();
/// assert_eq!(task.join().unwrap(), Ok(7));
/// ```
///
/// What it holds across an `await` must be [`Send`]:
///
/// ```compile_fail
/// strands::task::spawn(async {
///     let shared = std::rc::Rc::new(1);
///     std::future::ready(()).await;
///     drop(shared);
/// });
/// ```
#[track_caller]
pub fn spawn<F>(future: F) -> JoinHandle<F::Output>
where
    F: Future + Send + 'static,
    F::Output: Send + 'static,
{
    match sched::spawn_future(Location::caller(), future) {
        Ok((join, task)) => JoinHandle::new(join, task),
        Err(error) => panic!("failed to spawn a task: {error}"),
    }
}
