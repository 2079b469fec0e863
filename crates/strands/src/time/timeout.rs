//! Time limits, for blocking code and for futures.

use crate::everyday::go;
use crate::identity::ParkToken;
use crate::sched::{self, AlarmFuture};
use crate::wait::WaitKind;
use std::error::Error;
use std::fmt;
use std::future::Future;
use std::panic::resume_unwind;
use std::pin::{Pin, pin};
use std::sync::Arc;
use std::task::{Context, Poll, Wake, Waker};
use std::time::{Duration, Instant};

/// Gives `what` so much time, counted from this call.
///
/// * **A closure** is run as a goroutine, and waited for: returns what it returns, or [`Elapsed`]. Blocking
///   code cannot be stopped from outside, and nothing is unwound: when the time is up **the goroutine goes
///   on**, detached, and its result is dropped when it ends. That is why the closure may borrow nothing. Have
///   it look at a flag or a channel if it is to end.
/// * **A future** becomes a [`Timeout`], a future that resolves to its output or to [`Elapsed`]. When the
///   time is up it is polled no more, and dropping the `Timeout` cancels it as dropping any future does.
///
/// With a limit of zero, a future is polled once; a closure is started and not waited for.
///
/// Blocks, with a closure: the goroutine, or else the thread.
///
/// # Errors
/// [`Elapsed`]: it was not in time.
///
/// # Panics
/// With a closure: if it panics in time, with the same payload (a panic that comes later is printed, as of
/// any goroutine that nobody joins); or if memory or a thread is refused.
///
/// # Examples
///
/// ```
/// use strands::time::{self, Duration};
///
/// assert_eq!(time::timeout(Duration::from_secs(60), || 1 + 1), Ok(2));
///
/// let late = time::timeout(Duration::from_millis(1), || time::sleep(Duration::from_secs(3600)));
/// assert!(late.is_err());
/// ```
///
/// ```
/// use strands::time::{self, Duration, Elapsed};
///
/// async fn answer() -> Result<u32, Elapsed> {
///     time::timeout(Duration::from_secs(60), async { 42 }).await
/// }
/// # use std::{future::Future, pin::pin, task::{Context, Poll, Waker}};
/// # let ready = pin!(answer()).poll(&mut Context::from_waker(Waker::noop()));
/// # assert_eq!(ready, Poll::Ready(Ok(42)));
/// ```
#[track_caller]
pub fn timeout<X, Kind>(limit: Duration, what: X) -> X::Limited
where
    X: Limited<Kind>,
    Kind: sealed::Kind,
{
    what.until(sched::deadline(limit))
}

/// Gives `what` until that moment. See [`timeout`].
#[track_caller]
pub fn timeout_at<X, Kind>(deadline: Instant, what: X) -> X::Limited
where
    X: Limited<Kind>,
    Kind: sealed::Kind,
{
    what.until(deadline)
}

/// What can be given a time limit: closures and futures. See [`timeout`].
///
/// `Kind` tells the two apart, and is never written: nothing is both.
pub trait Limited<Kind: sealed::Kind> {
    /// What comes of it: a result, or the future of one.
    type Limited;

    #[doc(hidden)]
    fn until(self, deadline: Instant) -> Self::Limited;
}

/// The kind of [`Limited`] that closures are.
#[derive(Debug)]
pub enum ByClosure {}

/// The kind of [`Limited`] that futures are.
#[derive(Debug)]
pub enum ByFuture {}

mod sealed {
    pub trait Kind {}
    impl Kind for super::ByClosure {}
    impl Kind for super::ByFuture {}
}

impl<F, T> Limited<ByClosure> for F
where
    F: FnOnce() -> T + Send + 'static,
    T: Send + 'static,
{
    type Limited = Result<T, Elapsed>;

    #[track_caller]
    fn until(self, deadline: Instant) -> Result<T, Elapsed> {
        let bell = Arc::new(Bell(ParkToken::new()));
        let waker = Waker::from(Arc::clone(&bell));
        let mut context = Context::from_waker(&waker);
        let mut end = pin!(go(self));
        let ended = match end.as_mut().poll(&mut context) {
            Poll::Pending => {
                bell.0.park(WaitKind::Join.into(), Some(deadline));
                end.poll(&mut context)
            }
            ended => ended,
        };
        match ended {
            Poll::Ready(Ok(value)) => Ok(value),
            Poll::Ready(Err(payload)) => resume_unwind(payload),
            Poll::Pending => Err(Elapsed(())),
        }
    }
}

/// Rung by the goroutine that ends, for whoever waits for that.
struct Bell(ParkToken);

impl Wake for Bell {
    fn wake(self: Arc<Self>) {
        self.0.unpark();
    }
}

impl<F: Future> Limited<ByFuture> for F {
    type Limited = Timeout<F>;

    fn until(self, deadline: Instant) -> Timeout<F> {
        Timeout { future: self, alarm: AlarmFuture::new(deadline) }
    }
}

/// A future with a time limit, made by [`timeout`].
///
/// The future is polled first, so one that is ready at the last moment is in time. Cancel-safe if the future
/// is: dropping it drops the future, and takes the timer back.
#[must_use = "a future does nothing unless it is awaited"]
pub struct Timeout<F> {
    future: F,
    alarm: AlarmFuture,
}

impl<F> Timeout<F> {
    /// The future.
    pub fn get_ref(&self) -> &F {
        &self.future
    }

    /// The future, for changing it.
    pub fn get_mut(&mut self) -> &mut F {
        &mut self.future
    }

    /// The future, without its limit.
    pub fn into_inner(self) -> F {
        self.future
    }
}

impl<F: Future> Future for Timeout<F> {
    type Output = Result<F::Output, Elapsed>;

    fn poll(self: Pin<&mut Self>, context: &mut Context<'_>) -> Poll<Self::Output> {
        // SAFETY: `future` is pinned when we are: from here it is reached through a `Pin` only (the methods
        // above want us unpinned), it has no `Drop` of ours to move it out, and we are `Unpin` only if it is.
        // `alarm` is `Unpin` and never pinned.
        let (future, alarm) = unsafe {
            let this = self.get_unchecked_mut();
            (Pin::new_unchecked(&mut this.future), &mut this.alarm)
        };
        if let Poll::Ready(output) = future.poll(context) {
            return Poll::Ready(Ok(output));
        }
        Pin::new(alarm).poll(context.waker()).map(|()| Err(Elapsed(())))
    }
}

impl<F> fmt::Debug for Timeout<F> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Timeout").field("deadline", &self.alarm.deadline()).finish_non_exhaustive()
    }
}

/// The error of [`timeout`]: the time was up.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub struct Elapsed(());

impl fmt::Display for Elapsed {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("the time limit has elapsed")
    }
}

impl Error for Elapsed {}

impl From<Elapsed> for std::io::Error {
    fn from(elapsed: Elapsed) -> std::io::Error {
        std::io::Error::new(std::io::ErrorKind::TimedOut, elapsed)
    }
}
