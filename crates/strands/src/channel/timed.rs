//! Receivers whose messages are moments: [`after`], [`at`], [`tick`]; and [`never`], which has none.
//!
//! There is no sender and no timer behind them: a receiver looks at the clock, and one who waits does so with a
//! deadline. So they cost nothing when they are dropped, or while nobody waits for them.

use super::receiver::Flavor;
use super::{Receiver, RecvTimeoutError};
use crate::wait::{Reason, ShortLock, WaitKind, Waiter};
use std::sync::Arc;
use std::time::{Duration, Instant};

/// Where the messages of a receiver without senders come from.
pub(super) trait Source<T>: Send + Sync {
    /// The message, if it has come.
    fn attempt(&self) -> Option<T>;

    /// When the next will come; `None`: never.
    fn next(&self) -> Option<Instant>;

    /// Waits for the next, or until the deadline.
    fn recv(&self, deadline: Option<Instant>) -> Result<T, RecvTimeoutError> {
        loop {
            if let Some(message) = self.attempt() {
                return Ok(message);
            }
            if deadline.is_some_and(|deadline| deadline <= Instant::now()) {
                return Err(RecvTimeoutError::Timeout);
            }
            wait_until(self.next().into_iter().chain(deadline).min());
        }
    }
}

/// Blocks: the goroutine, or else the thread.
pub(super) fn wait_until(when: Option<Instant>) {
    if when.is_none_or(|when| when > Instant::now()) {
        Waiter::new().park(Reason::from(WaitKind::Receive), when);
    }
}

/// One message, at one moment.
struct At {
    when: Instant,
    is_taken: ShortLock<bool>,
}

impl Source<Instant> for At {
    fn attempt(&self) -> Option<Instant> {
        if Instant::now() < self.when {
            return None;
        }
        let was_taken = std::mem::replace(&mut *self.is_taken.lock(), true);
        (!was_taken).then_some(self.when)
    }

    fn next(&self) -> Option<Instant> {
        (!*self.is_taken.lock()).then_some(self.when)
    }
}

/// A message every so often; at most one waits to be received.
struct Tick {
    next: ShortLock<Instant>,
    period: Duration,
}

impl Tick {
    /// The tick that is due now, or if `ahead` the next one, which its taker will wait for.
    fn take(&self, ahead_until: Option<Option<Instant>>) -> Option<Instant> {
        let mut next = self.next.lock();
        let now = Instant::now();
        let due = *next;
        let may_take = match ahead_until {
            None => due <= now,
            Some(deadline) => deadline.is_none_or(|deadline| due <= deadline),
        };
        may_take.then(|| {
            let from = due.max(now);
            *next = from.checked_add(self.period).unwrap_or(from + LONG);
            due
        })
    }
}

/// As good as for ever.
const LONG: Duration = Duration::from_secs(30 * 365 * 24 * 3600);

impl Source<Instant> for Tick {
    fn attempt(&self) -> Option<Instant> {
        self.take(None)
    }

    fn next(&self) -> Option<Instant> {
        Some(*self.next.lock())
    }

    /// Takes the next tick and then waits for it: several receivers get one each, and being woken a little
    /// late does not put off those that follow.
    fn recv(&self, deadline: Option<Instant>) -> Result<Instant, RecvTimeoutError> {
        let due = self.take(Some(deadline));
        wait_until(due.or(deadline));
        due.ok_or(RecvTimeoutError::Timeout)
    }
}

fn timed(source: impl Source<Instant> + 'static) -> Receiver<Instant> {
    Receiver::of(Flavor::Timed(Arc::new(source)))
}

/// Makes a receiver that gets one message, the moment in question, `duration` from now.
///
/// # Examples
///
/// A time-out for a select; for one that begins anew with each turn of a loop, make it in the loop:
///
/// ```
/// use std::time::Duration;
/// use strands::channel::{after, unbounded};
/// use strands::select;
///
/// let (_tx, rx) = unbounded::<i32>();
/// select! {
///     recv(rx) -> _ => unreachable!("nobody sends"),
///     recv(after(Duration::from_millis(5))) -> _ => println!("timed out"),
/// }
/// ```
pub fn after(duration: Duration) -> Receiver<Instant> {
    Instant::now().checked_add(duration).map_or_else(never, at)
}

/// Makes a receiver that gets one message, `when`, at that moment.
///
/// # Examples
///
/// ```
/// use std::time::{Duration, Instant};
///
/// let when = Instant::now() + Duration::from_millis(2);
/// let rx = strands::channel::at(when);
/// assert!(rx.try_recv().is_err());
/// assert_eq!(rx.recv(), Ok(when));
/// assert!(Instant::now() >= when);
/// ```
pub fn at(when: Instant) -> Receiver<Instant> {
    timed(At { when, is_taken: ShortLock::new(false) })
}

/// Makes a receiver that gets a message every `duration`: the moment when it was due.
///
/// Ticks do not pile up. One that was due and not received waits; those that would have followed are left
/// out, and the next is due `duration` after that one was received. (For other ways to make up for missed
/// ticks there is `time::interval`.)
///
/// # Examples
///
/// ```
/// use std::time::{Duration, Instant};
///
/// let start = Instant::now();
/// let ticks = strands::channel::tick(Duration::from_millis(1));
/// let due: Vec<Instant> = ticks.iter().take(3).collect();
/// assert!(due.windows(2).all(|pair| pair[1] - pair[0] >= Duration::from_millis(1)));
/// assert!(start.elapsed() >= Duration::from_millis(3));
/// ```
pub fn tick(duration: Duration) -> Receiver<Instant> {
    Instant::now()
        .checked_add(duration)
        .map_or_else(never, |next| timed(Tick { next: ShortLock::new(next), period: duration }))
}

/// Makes a receiver that never gets a message, and is never disconnected: a receive that is not wanted now.
///
/// # Examples
///
/// ```
/// use strands::channel::{never, unbounded};
/// use strands::select;
///
/// let (tx, rx) = unbounded();
/// tx.send(1).unwrap();
/// let urgent: Option<strands::channel::Receiver<i32>> = None;
/// select! {
///     recv(rx) -> message => assert_eq!(message, Ok(1)),
///     recv(urgent.as_ref().unwrap_or(&never())) -> _ => unreachable!(),
/// }
/// ```
pub const fn never<T>() -> Receiver<T> {
    Receiver::of(Flavor::Never)
}
