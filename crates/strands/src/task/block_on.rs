//! [`block_on`]: a future's end, waited for by blocking.

use crate::identity::Bell;
use crate::wait::WaitKind;
use std::future::Future;
use std::pin::pin;
use std::task::{Context, Poll};

/// Runs a future to its end right here, and returns what it returns.
///
/// It is polled by this goroutine (or thread), at first and whenever its waker has been called, by whatever thread. It
/// need not be [`Send`], and may borrow what is here. Under a [`Context`](crate::context::Context) that can be
/// cancelled there is [`Context::run`](crate::context::Context::run).
///
/// This brings no executor's services along. Futures of libraries that ask for tokio's runtime (for its sockets and
/// timers) need one; those of libraries that leave I/O and timers to their user do not.
///
/// Blocks: the goroutine, or else the thread.
///
/// # Panics
/// If the future does.
///
/// # Examples
///
/// ```
/// use strands::{channel, task};
///
/// let (tx, rx) = channel::unbounded();
/// let answer = std::rc::Rc::new(42);
/// let received = task::block_on(async {
///     tx.send_async(*answer).await.unwrap();
///     rx.recv_async().await
/// });
/// assert_eq!(received, Ok(42));
/// ```
pub fn block_on<F: Future>(future: F) -> F::Output {
    let bell = Bell::new();
    let waker = bell.waker();
    let mut context = Context::from_waker(&waker);
    let mut future = pin!(future);
    loop {
        if let Poll::Ready(output) = future.as_mut().poll(&mut context) {
            return output;
        }
        bell.wait(WaitKind::Future.into());
    }
}
