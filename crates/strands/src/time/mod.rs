//! Sleeping, time limits and ticks: for goroutines, for plain OS threads, and in async code on any executor.
//!
//! ```
//! use strands::time::{self, Duration};
//!
//! let answer = time::timeout(Duration::from_secs(60), || 6 * 7);
//! assert_eq!(answer, Ok(42));
//!
//! let mut ticks = time::interval(Duration::from_millis(2));
//! let first = ticks.tick();
//! assert_eq!(ticks.tick() - first, Duration::from_millis(2));
//! ```
//!
//! | | blocks | future |
//! |---|---|---|
//! | for so long | [`sleep`] | [`sleep_async`] |
//! | until a moment | [`sleep_until`] | [`sleep_until_async`] |
//! | a time limit | [`timeout`] of a closure | [`timeout`] of a future |
//! | again and again | [`Interval::tick`] | [`Interval::tick_async`] |
//!
//! # How late
//!
//! Nothing ends early, and nothing is rounded to milliseconds (tokio's timers are). A timer that stands alone
//! is late by what the kernel takes to wake a thread: some tens of microseconds on an idle machine. Where
//! several come due within 225 µs of each other, one wake-up may serve them all, at the end of that
//! time. A goroutine's timer also waits for whoever occupies the thread on which the goroutine is at home.
//!
//! A million timers may be pending. One that is no longer wanted (its future was dropped, what it limited was
//! in time) is taken out at once.
//!
//! # Async
//!
//! The futures need no runtime of ours to be entered, and none of tokio's. In a task of ours (`task::spawn`), or under
//! `task::block_on` in a goroutine, the worker that polls one sees to its timer. For all others a thread called
//! `strands-alarms` does, which is started by the first of them that has to wait. Wakers are called on that
//! thread, one after the other, so one that takes its time holds the others up. The futures are [`Send`]
//! and [`Unpin`], and dropping them loses nothing.

mod interval;
mod sleep;
mod timeout;

pub use crate::everyday::sleep;
pub use interval::{Interval, MissedTickBehavior, Tick, interval, interval_at};
pub use sleep::{Sleep, sleep_async, sleep_until, sleep_until_async};
pub use timeout::{ByClosure, ByFuture, Elapsed, Limited, Timeout, timeout, timeout_at};

pub use std::time::{Duration, Instant};
