//! How a thread sleeps until the earliest of many moments, when others may add an earlier one at any time.
//!
//! ```text
//!   the sleeper                              who adds a moment
//!   ───────────                              ─────────────────
//!   T1  until = when it will wake up         A1  put it where the sleeper looks
//!   T2  fence                                A2  fence
//!   T3  is there anything earlier?           A3  earlier than `until`? then wake the sleeper
//!       then get up and begin again
//!   T4  sleep until then
//! ```
//!
//! No moment is slept through: the two fences are in one order. If T2 comes first, A3 sees `until` and wakes
//! the sleeper if it has to; its bed (see `parker`) is made before T1, and loses no wake-up. If A2 comes
//! first, T3 sees what A1 has put there. While the sleeper is awake, `until` is 0 and nobody wakes it. loom
//! checks it, below.

use super::parker::Parker;
use crate::primitive::atomic::{AtomicU64, Ordering, fence};
use std::time::Duration;

/// A bed, and until when it is slept in.
pub(crate) struct Bedtime {
    parker: Parker,
    /// 0 while the sleeper is awake.
    until: AtomicU64,
}

impl Bedtime {
    pub(crate) fn new() -> Bedtime {
        Bedtime { parker: Parker::new(), until: AtomicU64::new(0) }
    }

    /// Announces a sleep (T1, T2). The sleeper looks once more for anything earlier, and then calls `sleep` or
    /// `get_up`.
    pub(crate) fn lie_down(&self, until: u64) {
        self.parker.lie_down();
        self.until.store(until, Ordering::Relaxed);
        fence(Ordering::SeqCst);
    }

    /// Takes the announcement back.
    pub(crate) fn get_up(&self) {
        self.parker.get_up();
        self.until.store(0, Ordering::Relaxed);
    }

    /// Sleeps until woken, or until the timeout has passed (T4).
    pub(crate) fn sleep(&self, timeout: Option<Duration>) {
        self.parker.sleep(timeout);
        self.until.store(0, Ordering::Relaxed);
    }

    /// Has the sleeper look again, if it would sleep beyond this moment, which has been put in place (A2, A3).
    pub(crate) fn notice(&self, moment: u64) {
        fence(Ordering::SeqCst);
        if moment < self.until.load(Ordering::Relaxed) {
            self.parker.wake();
        }
    }
}

#[cfg(all(test, loom))]
mod loom_tests {
    use super::*;
    use crate::primitive::Arc;

    /// With no time-outs in loom, a sleep beyond a moment that was added is a sleep for ever: a deadlock.
    #[test]
    fn no_earlier_moment_is_slept_through() {
        let mut model = loom::model::Builder::new();
        model.preemption_bound = Some(3);
        model.check(|| {
            let shared = Arc::new((Bedtime::new(), AtomicU64::new(u64::MAX)));
            let adders: Vec<_> = [5, 7]
                .into_iter()
                .map(|moment| {
                    let shared = Arc::clone(&shared);
                    loom::thread::spawn(move || {
                        shared.1.fetch_min(moment, Ordering::Relaxed);
                        shared.0.notice(moment);
                    })
                })
                .collect();
            loop {
                let until = shared.1.load(Ordering::Relaxed);
                if until == 5 {
                    break;
                }
                shared.0.lie_down(until);
                if shared.1.load(Ordering::Relaxed) < until {
                    shared.0.get_up();
                } else {
                    shared.0.sleep(None);
                }
            }
            adders.into_iter().for_each(|adder| adder.join().unwrap());
        });
    }
}
