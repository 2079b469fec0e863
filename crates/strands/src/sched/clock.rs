//! Time as the runtime counts it: nanoseconds since it started.

use std::sync::atomic::{AtomicU64, Ordering};
use std::time::Instant;

pub(crate) struct Clock {
    start: Instant,
    /// A recent time. Reading a clock costs more than a switch does, so what needs no precision (how long
    /// a goroutine has waited, in a dump) takes this one, which workers and the monitor keep up to date.
    coarse: AtomicU64,
}

impl Clock {
    pub(crate) fn new() -> Clock {
        Clock { start: Instant::now(), coarse: AtomicU64::new(0) }
    }

    /// Now.
    pub(crate) fn now(&self) -> u64 {
        let now = self.nanos_of(Instant::now());
        self.coarse.store(now, Ordering::Relaxed);
        now
    }

    /// A time not long ago: a few milliseconds while anything runs.
    #[inline]
    pub(crate) fn coarse(&self) -> u64 {
        self.coarse.load(Ordering::Relaxed)
    }

    /// A moment on this clock; the past is 0.
    pub(crate) fn nanos_of(&self, moment: Instant) -> u64 {
        moment.saturating_duration_since(self.start).as_nanos().try_into().unwrap_or(u64::MAX)
    }
}
