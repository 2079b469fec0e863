//! How a worker sleeps: on a futex of its own, or in its poller while it has one that somebody is registered with.
//!
//! ```text
//!   the worker                           whoever brings it something
//!   ──────────                           ───────────────────────────
//!   W1  state = ASLEEP                   P1  put it where the worker looks
//!   W2  fence                            P2  fence
//!   W3  anything there? then get up      P3  state == ASLEEP? then state = WOKEN, and wake it:
//!   W4  sleep while ASLEEP                     by a futex call, or by ringing a bell in its poller
//! ```
//!
//! Why no wake-up is lost: the two fences are in one order. If W2 comes first, P3 sees `ASLEEP` (or a
//! later state, which means the worker is up and will look again) and wakes. If P2 comes first, W3 sees
//! what P1 has put there, and the worker does not sleep. loom checks it, below.
//!
//! A worker that sleeps in its poller is `POLLING` instead of `ASLEEP`. A bell that is rung between P3's look and W4
//! makes W4 return at once; one that is rung late, when the worker is up for another reason, makes its next sleep
//! return for nothing. Neither is a wake-up lost.

use crate::primitive::Futex;
use crate::primitive::atomic::{Ordering, fence};
use std::time::Duration;

const AWAKE: u32 = 0;
const ASLEEP: u32 = 1;
const WOKEN: u32 = 2;
const POLLING: u32 = 3;

/// Where a worker sleeps.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Where {
    /// On its futex.
    Futex,
    /// In its poller.
    Poller,
}

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

    /// Whether the worker sleeps, or is about to.
    pub(crate) fn is_asleep(&self) -> bool {
        matches!(self.state.load(Ordering::Relaxed), ASLEEP | POLLING)
    }

    /// What the worker sleeps on, as the kernel knows it.
    #[cfg(not(loom))]
    pub(crate) fn address(&self) -> usize {
        std::ptr::from_ref(&self.state).addr()
    }

    /// Announces sleep (W1, W2). The caller looks once more at everything it may be woken for, and then
    /// calls `sleep` or `get_up`.
    pub(crate) fn lie_down(&self) {
        self.lie_down_in(Where::Futex);
    }

    /// The same for one that may sleep in its poller.
    pub(crate) fn lie_down_in(&self, place: Where) {
        let asleep = match place {
            Where::Futex => ASLEEP,
            Where::Poller => POLLING,
        };
        self.state.store(asleep, Ordering::Relaxed);
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

    /// The same for one that lay down in its poller: `wait` sleeps there, until the bell is rung if nothing else.
    pub(crate) fn sleep_by(&self, wait: impl FnOnce()) {
        // Ordering: Acquire pairs with the Release in `wake_slow`.
        if self.state.load(Ordering::Acquire) == POLLING {
            wait();
        }
        // Ordering: Acquire, as above: whoever has rung the bell has changed the state before.
        self.state.swap(AWAKE, Ordering::Acquire);
    }

    /// Wakes whoever sleeps here, who never polls (P2, P3). What it is to find has been put in place before.
    #[inline]
    pub(crate) fn wake(&self) {
        self.wake_by(|| debug_assert!(false, "it has no poller"));
    }

    /// The same for one that may sleep in its poller: there, `ring` wakes it.
    #[inline]
    pub(crate) fn wake_by(&self, ring: impl FnOnce()) {
        fence(Ordering::SeqCst);
        let state = self.state.load(Ordering::Relaxed);
        if state == ASLEEP || state == POLLING {
            self.wake_slow(state, ring);
        }
    }

    #[cold]
    fn wake_slow(&self, asleep: u32, ring: impl FnOnce()) {
        // Ordering: Release pairs with the Acquire in `sleep`. If the state has changed the worker is up, or was and
        // has looked again.
        if self.state.replace(asleep, WOKEN, Ordering::Release, Ordering::Relaxed).is_ok() {
            match asleep {
                POLLING => ring(),
                _ => Futex::wake_one(&self.state),
            }
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

    /// A poller's bell: remembers that it was rung until somebody has heard it.
    #[derive(Default)]
    struct Bell(loom::sync::Mutex<bool>, loom::sync::Condvar);

    impl Bell {
        fn ring(&self) {
            *self.0.lock().unwrap() = true;
            self.1.notify_one();
        }

        fn hear(&self) {
            let mut rung = self.0.lock().unwrap();
            while !std::mem::take(&mut *rung) {
                rung = self.1.wait(rung).unwrap();
            }
        }
    }

    #[test]
    fn no_wake_up_is_lost_in_the_poller() {
        let mut model = loom::model::Builder::new();
        model.preemption_bound = Some(3);
        model.check(|| {
            let bed = Arc::new((Parker::new(), AtomicUsize::new(0), Bell::default()));
            let bringers: Vec<_> = (0..2)
                .map(|_| {
                    let bed = Arc::clone(&bed);
                    loom::thread::spawn(move || {
                        bed.1.fetch_add(1, Ordering::Relaxed);
                        bed.0.wake_by(|| bed.2.ring());
                    })
                })
                .collect();
            let mut found = 0;
            let mut place = Where::Poller;
            while found < 2 {
                found += bed.1.swap(0, Ordering::Relaxed);
                if found == 2 {
                    break;
                }
                bed.0.lie_down_in(place);
                if bed.1.load(Ordering::Relaxed) > 0 {
                    bed.0.get_up();
                } else if place == Where::Poller {
                    bed.0.sleep_by(|| bed.2.hear());
                } else {
                    bed.0.sleep(None);
                }
                // In turn, as one whose last source has gone.
                place = Where::Futex;
            }
            for bringer in bringers {
                bringer.join().unwrap();
            }
        });
    }
}
