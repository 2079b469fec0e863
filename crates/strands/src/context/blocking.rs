//! Waiting in a way that ends with a context.
//!
//! One mechanism serves all: the thing waited for and the context's `done` are the two arms of a biased select. So
//! an operation that loses has done nothing, by the promise that select gives. What is no arm but has a future is
//! polled next to `done`.

use super::{Context, ContextError, RecvContextError, SendContextError};
use crate::channel::{Receiver, Sender};
use crate::everyday::yield_now;
use crate::identity::Bell;
use crate::selection::{self, Arm, Until};
use crate::thread::{JoinHandle, ScopedJoinHandle};
use crate::wait::{Reason, WaitKind};
use std::future::Future;
use std::pin::pin;
use std::task::{self, Poll};
use std::time::{Duration, Instant};

impl Context {
    /// Has the arm do its work, unless the context is done before it can.
    fn with_arm(&self, arm: &dyn Arm) -> Result<(), ContextError> {
        self.check()?;
        // Most often there is no need to wait, and none to look at the context again.
        if arm.attempt() {
            return Ok(());
        }
        let done = self.done().__recv_arm();
        match selection::select(&[&done, arm], true, Until::Served) {
            Some(1) => Ok(()),
            _ => Err(self.error_that_is()),
        }
    }

    /// Why it is done, when it is known to be.
    fn error_that_is(&self) -> ContextError {
        self.err().expect("`done` is disconnected after the error was set")
    }

    /// Waits for `time` at least, unless the context is done before.
    ///
    /// Blocks: the goroutine, or else the thread.
    ///
    /// # Errors
    /// The context is done. If it was from the start, this has not waited.
    pub fn sleep(&self, time: Duration) -> Result<(), ContextError> {
        if time.is_zero() {
            self.check()?;
            yield_now();
            return Ok(());
        }
        self.wait(selection::within(time))
    }

    /// As [`sleep`](Context::sleep), until that moment.
    ///
    /// Blocks: the goroutine, or else the thread.
    ///
    /// # Errors
    /// As [`sleep`](Context::sleep).
    pub fn sleep_until(&self, moment: Instant) -> Result<(), ContextError> {
        self.wait(Until::Then(moment))
    }

    fn wait(&self, until: Until) -> Result<(), ContextError> {
        self.check()?;
        let done = self.done().__recv_arm();
        match selection::select(&[&done], true, until) {
            None => Ok(()),
            Some(_) => Err(self.error_that_is()),
        }
    }

    /// Runs a future to its end right here, unless the context is done before: what makes everything that has
    /// an async form end with a context.
    ///
    /// A future that is left is dropped, which cancels it as far as it allows that; those of this crate have
    /// then taken nothing. If the context is done from the start, the future is not polled. One that is ready
    /// when it is polled wins.
    ///
    /// The future is polled by this goroutine (or thread), and need not be [`Send`]. It should be one that is
    /// woken by something, and not want an executor to be entered.
    ///
    /// Blocks: the goroutine, or else the thread.
    ///
    /// # Errors
    /// The context is done.
    ///
    /// # Examples
    ///
    /// ```
    /// use std::time::Duration;
    /// use strands::channel::watch;
    /// use strands::context::{self, ContextError};
    ///
    /// let (_level, seen) = watch(1);
    /// let (ctx, _cancel) = context::with_timeout(&context::background(), Duration::from_millis(1));
    /// assert_eq!(ctx.run(seen.recv_async()), Err(ContextError::DeadlineExceeded));
    /// ```
    pub fn run<F: Future>(&self, future: F) -> Result<F::Output, ContextError> {
        self.check()?;
        let bell = Bell::new();
        let waker = bell.waker();
        let mut context = task::Context::from_waker(&waker);
        let mut future = pin!(future);
        let mut done = pin!(self.done().recv_async());
        loop {
            if let Poll::Ready(output) = future.as_mut().poll(&mut context) {
                return Ok(output);
            }
            if done.as_mut().poll(&mut context).is_ready() {
                return Err(self.error_that_is());
            }
            bell.wait(Reason::on(WaitKind::Select, 2));
        }
    }
}

impl<T> Receiver<T> {
    /// As [`recv`](Receiver::recv), unless the context is done before a message has come.
    ///
    /// If the context is done from the start nothing is received, though there be a message.
    ///
    /// Blocks: the goroutine, or else the thread.
    ///
    /// # Errors
    /// [`Done`](RecvContextError::Done) or [`Disconnected`](RecvContextError::Disconnected).
    pub fn recv_ctx(&self, context: &Context) -> Result<T, RecvContextError> {
        let arm = self.__recv_arm();
        context.with_arm(&arm)?;
        arm.finish().map_err(|_| RecvContextError::Disconnected)
    }
}

impl<T> Sender<T> {
    /// As [`send`](Sender::send), unless the context is done before there is room, or in a rendezvous a
    /// receiver.
    ///
    /// If the context is done from the start nothing is sent, though there be room.
    ///
    /// Blocks: the goroutine, or else the thread.
    ///
    /// # Errors
    /// [`Done`](SendContextError::Done) or [`Disconnected`](SendContextError::Disconnected), with the message.
    pub fn send_ctx(&self, message: T, context: &Context) -> Result<(), SendContextError<T>> {
        let arm = self.__send_arm();
        match context.with_arm(&arm) {
            Ok(()) => arm.finish(message).map_err(|error| SendContextError::Disconnected(error.0)),
            Err(error) => Err(SendContextError::Done(message, error)),
        }
    }
}

impl<T> JoinHandle<T> {
    /// As [`join`](JoinHandle::join), unless the context is done before the goroutine is. The handle stays, and
    /// may be joined later.
    ///
    /// If the context is done from the start this is an error, though the goroutine may have ended.
    ///
    /// Blocks: the goroutine, or else the thread.
    ///
    /// # Errors
    /// The outer one: the context is done, the goroutine goes on. The inner one: it panicked.
    ///
    /// # Panics
    /// If the goroutine has been joined by this before.
    ///
    /// # Examples
    ///
    /// ```
    /// use std::time::Duration;
    /// use strands::context::{self, ContextError};
    ///
    /// let (tx, rx) = strands::channel::unbounded::<u32>();
    /// let mut handle = strands::go(move || rx.recv());
    /// let (ctx, _cancel) = context::with_timeout(&context::background(), Duration::from_millis(1));
    /// assert_eq!(handle.join_ctx(&ctx).unwrap_err(), ContextError::DeadlineExceeded);
    /// tx.send(1).unwrap();
    /// assert_eq!(handle.join().unwrap(), Ok(1));
    /// ```
    pub fn join_ctx(&mut self, context: &Context) -> Result<std::thread::Result<T>, ContextError> {
        let arm = self.__join_arm();
        context.with_arm(&arm)?;
        Ok(arm.finish())
    }
}

impl<T> ScopedJoinHandle<'_, T> {
    /// As [`join`](ScopedJoinHandle::join), unless the context is done before the goroutine is. See
    /// [`JoinHandle::join_ctx`].
    ///
    /// Blocks: the goroutine, or else the thread.
    ///
    /// # Errors
    /// The outer one: the context is done, the goroutine goes on. The inner one: it panicked, and that is dealt
    /// with.
    ///
    /// # Panics
    /// If the goroutine has been joined by this before.
    pub fn join_ctx(&mut self, context: &Context) -> Result<std::thread::Result<T>, ContextError> {
        self.join_by(|arm| context.with_arm(arm))
    }
}
