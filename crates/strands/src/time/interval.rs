//! Ticks at a fixed distance.

use crate::sched::{self, AlarmFuture};
use std::fmt;
use std::future::Future;
use std::pin::Pin;
use std::task::{Context, Poll};
use std::time::{Duration, Instant};

/// Ticks every `period`, at once for the first time.
///
/// # Panics
/// If `period` is zero.
///
/// # Examples
///
/// ```
/// use strands::time::{self, Duration, Instant};
///
/// let begun = Instant::now();
/// let mut interval = time::interval(Duration::from_millis(2));
/// for _ in 0..4 {
///     interval.tick();
/// }
/// assert!(begun.elapsed() >= Duration::from_millis(6), "three periods between four ticks");
/// ```
#[track_caller]
pub fn interval(period: Duration) -> Interval {
    interval_at(Instant::now(), period)
}

/// Ticks every `period`, at `start` for the first time.
///
/// # Panics
/// If `period` is zero.
#[track_caller]
pub fn interval_at(start: Instant, period: Duration) -> Interval {
    assert!(!period.is_zero(), "the period of an interval must not be zero");
    let policy = MissedTickBehavior::default();
    Interval { alarm: AlarmFuture::new(start), period, policy, has_waited: false }
}

/// What becomes of the ticks that have been missed: of those that came due before they were asked for.
///
/// With a period of 10, ticks at 0, 10, 20, …, and the one at 10 asked for at 35 only:
///
/// | | ticks | |
/// |---|---|---|
/// | `Burst` | 35, 35, 35, 40, 50 | all of them, as fast as they are asked for |
/// | `Delay` | 35, 45, 55, 65 | never closer together than the period |
/// | `Skip` | 35, 40, 50 | as one, and then where they have always been |
///
/// The names are tokio's. There a tick counts as missed when it is five milliseconds late, here when it
/// was asked for too late; one that was waited for, and came late, moves nothing unless it came later than
/// the next was due.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub enum MissedTickBehavior {
    /// They are caught up with. Use it to count time.
    #[default]
    Burst,
    /// All later ones are put off. Use it to leave a pause.
    Delay,
    /// They are left out. Use it to sample.
    Skip,
}

impl MissedTickBehavior {
    /// When the next one is due, after one that was due at `due` and is taken `now`.
    fn next(self, due: Instant, now: Instant, period: Duration, has_waited: bool) -> Instant {
        let late = now.saturating_duration_since(due);
        let from = match self {
            MissedTickBehavior::Burst => due,
            MissedTickBehavior::Delay if has_waited && late < period => due,
            MissedTickBehavior::Delay => now,
            MissedTickBehavior::Skip => {
                let beyond = (late.as_nanos() % period.as_nanos()).try_into();
                // A remainder of more than 2⁶⁴ ns is one of a period longer than that.
                now.checked_sub(beyond.map_or(late, Duration::from_nanos)).unwrap_or(due)
            }
        };
        sched::deadline_from(from, period)
    }
}

/// A source of ticks, made by [`interval`] and [`interval_at`].
///
/// It holds no thread and no goroutine: a tick is waited for by whoever asks for it. (Go's `Ticker` sends
/// on a channel, and drops ticks for a slow receiver; that is [`MissedTickBehavior::Skip`].)
pub struct Interval {
    /// Set to the next tick.
    alarm: AlarmFuture,
    period: Duration,
    policy: MissedTickBehavior,
    /// Whether the next tick has been asked for before it was due.
    has_waited: bool,
}

impl Interval {
    /// Waits for the next tick, and returns when it was due.
    ///
    /// Blocks: the goroutine, or else the thread.
    pub fn tick(&mut self) -> Instant {
        let due = self.alarm.deadline();
        if Instant::now() < due {
            self.has_waited = true;
            sched::sleep_until(due);
        }
        self.advance(due)
    }

    /// The future of the next tick: of the moment when it was due.
    ///
    /// Cancel-safe: a tick that has not been returned comes again, and a future that was dropped leaves no
    /// timer behind. (One that is made anew for each turn of a loop sets a timer each time; there
    /// [`poll_tick`](Interval::poll_tick) is cheaper.)
    pub fn tick_async(&mut self) -> Tick<'_> {
        Tick { interval: self }
    }

    /// Polls for the next tick. The timer stays set until then, or until the interval is dropped.
    pub fn poll_tick(&mut self, context: &mut Context<'_>) -> Poll<Instant> {
        let due = self.alarm.deadline();
        match Pin::new(&mut self.alarm).poll(context.waker()) {
            Poll::Ready(()) => Poll::Ready(self.advance(due)),
            Poll::Pending => {
                self.has_waited = true;
                Poll::Pending
            }
        }
    }

    fn advance(&mut self, due: Instant) -> Instant {
        let next = self.policy.next(due, Instant::now(), self.period, self.has_waited);
        self.alarm = AlarmFuture::new(next);
        self.has_waited = false;
        due
    }

    /// Begins anew: the next tick is a period from now.
    pub fn reset(&mut self) {
        self.alarm = AlarmFuture::new(sched::deadline(self.period));
        self.has_waited = false;
    }

    /// The time from one tick to the next.
    pub fn period(&self) -> Duration {
        self.period
    }

    /// What becomes of missed ticks. At first: [`MissedTickBehavior::Burst`].
    pub fn missed_tick_behavior(&self) -> MissedTickBehavior {
        self.policy
    }

    /// Sets what becomes of missed ticks.
    pub fn set_missed_tick_behavior(&mut self, policy: MissedTickBehavior) {
        self.policy = policy;
    }
}

impl fmt::Debug for Interval {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Interval")
            .field("next", &self.alarm.deadline())
            .field("period", &self.period)
            .field("missed_tick_behavior", &self.policy)
            .finish_non_exhaustive()
    }
}

/// The future of an interval's next tick: see [`Interval::tick_async`].
#[derive(Debug)]
#[must_use = "a future does nothing unless it is awaited"]
pub struct Tick<'a> {
    interval: &'a mut Interval,
}

impl Future for Tick<'_> {
    type Output = Instant;

    fn poll(mut self: Pin<&mut Self>, context: &mut Context<'_>) -> Poll<Instant> {
        self.interval.poll_tick(context)
    }
}

impl Drop for Tick<'_> {
    fn drop(&mut self) {
        self.interval.alarm = AlarmFuture::new(self.interval.alarm.deadline());
    }
}

#[cfg(test)]
mod tests {
    use super::MissedTickBehavior::*;
    use super::*;

    /// Ticks of a period of 10, each asked for at the next of these moments: when they come.
    fn ticks(policy: MissedTickBehavior, asked: &[u64]) -> Vec<u64> {
        let start = Instant::now();
        let at = |time| start + Duration::from_secs(time);
        let mut due = start;
        asked
            .iter()
            .map(|asked| {
                let has_waited = at(*asked) < due;
                let now = at(*asked).max(due);
                due = policy.next(due, now, Duration::from_secs(10), has_waited);
                (now - start).as_secs()
            })
            .collect()
    }

    #[test]
    fn missed_ticks_are_caught_up_with_or_put_off_or_left_out() {
        let asked = [0, 35, 35, 35, 35, 35];
        assert_eq!(ticks(Burst, &asked), [0, 35, 35, 35, 40, 50]);
        assert_eq!(ticks(Delay, &asked), [0, 35, 45, 55, 65, 75]);
        assert_eq!(ticks(Skip, &asked), [0, 35, 40, 50, 60, 70]);
    }

    #[test]
    fn ticks_that_are_waited_for_stay_where_they_are() {
        for policy in [Burst, Delay, Skip] {
            assert_eq!(ticks(policy, &[0, 3, 19, 21, 39]), [0, 10, 20, 30, 40], "{policy:?}");
        }
    }

    #[test]
    fn a_tick_asked_for_a_little_late_puts_off_the_next_only_under_delay() {
        let asked = [0, 14, 14, 14];
        assert_eq!(ticks(Burst, &asked), [0, 14, 20, 30]);
        assert_eq!(ticks(Delay, &asked), [0, 14, 24, 34]);
        assert_eq!(ticks(Skip, &asked), [0, 14, 20, 30]);
    }

    #[test]
    fn a_late_wake_up_moves_nothing_unless_the_next_was_due() {
        let (due, period) = (Instant::now(), Duration::from_secs(10));
        let after = |secs| due + Duration::from_secs(secs);
        assert_eq!(Delay.next(due, after(9), period, true), after(10));
        assert_eq!(Delay.next(due, after(12), period, true), after(22));
        assert_eq!(Skip.next(due, after(12), period, true), after(20));
        assert_eq!(Burst.next(due, after(12), period, true), after(10));
    }

    #[test]
    fn endless_periods_do_not_overflow() {
        let now = Instant::now();
        for policy in [Burst, Delay, Skip] {
            for late in [0, 1, 1_000_000] {
                let taken = now + Duration::from_secs(late);
                let next = policy.next(now, taken, Duration::MAX, false);
                assert!(next > taken, "{policy:?}");
            }
        }
    }
}
