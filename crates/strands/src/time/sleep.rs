//! Sleeping until a moment, by blocking and as a future.

use crate::sched::{self, AlarmFuture};
use std::fmt;
use std::future::Future;
use std::pin::Pin;
use std::task::{Context, Poll};
use std::time::{Duration, Instant};

/// Waits until `deadline` at least. One that has passed yields.
///
/// Blocks: the goroutine, or else the thread.
///
/// # Examples
///
/// ```
/// use strands::time::{self, Duration, Instant};
///
/// let deadline = Instant::now() + Duration::from_millis(3);
/// strands::go(move || time::sleep_until(deadline)).join().unwrap();
/// assert!(Instant::now() >= deadline);
/// ```
pub fn sleep_until(deadline: Instant) {
    sched::sleep_until(deadline);
}

/// A future that is ready when `time` has passed, counted from this call (and not from the first poll).
///
/// Anything longer than thirty years is thirty years.
///
/// # Examples
///
/// On any executor; here on none, but polled by hand:
///
/// ```
/// use std::pin::pin;
/// use std::task::{Context, Waker};
/// use strands::time::{self, Duration};
///
/// let mut sleep = pin!(time::sleep_async(Duration::from_millis(1)));
/// let mut context = Context::from_waker(Waker::noop());
/// while sleep.as_mut().poll(&mut context).is_pending() {
///     time::sleep(Duration::from_millis(1));
/// }
/// # use std::future::Future;
/// ```
pub fn sleep_async(time: Duration) -> Sleep {
    sleep_until_async(sched::deadline(time))
}

/// A future that is ready at `deadline`. See [`sleep_async`].
pub fn sleep_until_async(deadline: Instant) -> Sleep {
    Sleep { alarm: AlarmFuture::new(deadline) }
}

/// Ready at its deadline. Made by [`sleep_async`] and [`sleep_until_async`].
///
/// Cancel-safe: dropping it takes its timer back. Nothing is allocated, and no timer set, before the first
/// poll that finds the deadline ahead. Once it was ready it stays so. tokio's `Sleep` must be pinned; this
/// one is [`Unpin`].
///
/// # Panics
/// The first poll, if memory, or a thread for the first timer of the process, is refused.
#[must_use = "a future does nothing unless it is awaited"]
pub struct Sleep {
    alarm: AlarmFuture,
}

impl Sleep {
    /// When it is ready.
    pub fn deadline(&self) -> Instant {
        self.alarm.deadline()
    }

    /// Whether it has been ready. (A deadline that has passed since the last poll does not show.)
    pub fn is_elapsed(&self) -> bool {
        self.alarm.has_gone_off()
    }

    /// Gives it another deadline, whether or not it has been ready. Poll it anew, for no task is woken by
    /// the former deadline, nor by the new one before that.
    pub fn reset(&mut self, deadline: Instant) {
        self.alarm = AlarmFuture::new(deadline);
    }
}

impl Future for Sleep {
    type Output = ();

    fn poll(mut self: Pin<&mut Self>, context: &mut Context<'_>) -> Poll<()> {
        Pin::new(&mut self.alarm).poll(context.waker())
    }
}

impl fmt::Debug for Sleep {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Sleep").field("deadline", &self.deadline()).finish_non_exhaustive()
    }
}
