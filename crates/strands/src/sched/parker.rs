//! How a worker sleeps: on a futex of its own.
//!
//! ```text
//!   the worker                           whoever brings it something
//!   ──────────                           ───────────────────────────
//!   W1  state = ASLEEP                   P1  put it where the worker looks
//!   W2  fence                            P2  fence
//!   W3  anything there? then get up      P3  state == ASLEEP? then state = WOKEN, futex wake
//!   W4  sleep while ASLEEP
//! ```
//!
//! Why no wake-up is lost: the two fences are in one order. If W2 comes first, P3 sees `ASLEEP` (or a
//! later state, which means the worker is up and will look again) and wakes. If P2 comes first, W3 sees
//! what P1 has put there, and the worker does not sleep. loom checks it, below.

use crate::primitive::Futex;
use crate::primitive::atomic::{Ordering, fence};
use std::time::Duration;

const AWAKE: u32 = 0;
const ASLEEP: u32 = 1;
const WOKEN: u32 = 2;

/// A worker's bed.
pub(crate) struct Parker {
    state: Futex,
}

impl Parker {
    #[cfg(not(loom))]
    pub(crate) const fn new() -> Parker {
        Parker { state: Futex::new(AWAKE) }
    }

    #[cfg(loom)]
    pub(crate) fn new() -> Parker {
        Parker { state: Futex::new(AWAKE) }
    }

    /// Announces sleep (W1, W2). The caller looks once more at everything it may be woken for, and then
    /// calls `sleep` or `get_up`.
    pub(crate) fn lie_down(&self) {
        self.state.store(ASLEEP, Ordering::Relaxed);
        fence(Ordering::SeqCst);
    }

    /// Takes the announcement back.
    pub(crate) fn get_up(&self) {
        self.state.store(AWAKE, Ordering::Relaxed);
    }

    /// Sleeps until woken, or until the timeout has passed (W4).
    pub(crate) fn sleep(&self, timeout: Option<Duration>) {
        while self.state.load(Ordering::Acquire) == ASLEEP {
            self.state.wait(ASLEEP, timeout);
            if timeout.is_some() {
                break;
            }
        }
        self.state.store(AWAKE, Ordering::Relaxed);
    }

    /// Wakes the worker if it sleeps (P2, P3). What it is to find has been put in place before.
    #[inline]
    pub(crate) fn wake(&self) {
        fence(Ordering::SeqCst);
        if self.state.load(Ordering::Relaxed) == ASLEEP {
            self.wake_slow();
        }
    }

    #[cold]
    fn wake_slow(&self) {
        // Ordering: Release pairs with the Acquire in `sleep`.
        if self.state.replace(ASLEEP, WOKEN, Ordering::Release, Ordering::Relaxed).is_ok() {
            Futex::wake_one(&self.state);
        }
    }
}

#[cfg(all(test, loom))]
mod loom_tests {
    use super::*;
    use crate::primitive::Arc;
    use crate::primitive::atomic::AtomicUsize;

    #[test]
    fn no_wake_up_is_lost() {
        let mut model = loom::model::Builder::new();
        model.preemption_bound = Some(3);
        model.check(|| {
            let bed = Arc::new((Parker::new(), AtomicUsize::new(0)));
            let bringers: Vec<_> = (0..2)
                .map(|_| {
                    let bed = Arc::clone(&bed);
                    loom::thread::spawn(move || {
                        bed.1.fetch_add(1, Ordering::Relaxed);
                        bed.0.wake();
                    })
                })
                .collect();
            // A lost wake-up leaves this thread asleep for good, which loom reports as a deadlock.
            let mut found = 0;
            while found < 2 {
                found += bed.1.swap(0, Ordering::Relaxed);
                if found == 2 {
                    break;
                }
                bed.0.lie_down();
                if bed.1.load(Ordering::Relaxed) > 0 {
                    bed.0.get_up();
                } else {
                    bed.0.sleep(None);
                }
            }
            for bringer in bringers {
                bringer.join().unwrap();
            }
        });
    }
}
