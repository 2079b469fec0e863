//! Whose a roaming goroutine is while it is suspended, in one word.
//!
//! A goroutine that waits has told its waker where it is before it leaves its stack. So the waker may come while its
//! registers are still being saved, and must not have it resumed then. The worker that ran it learns by this word,
//! once it is off that stack, whether the waker has been.
//!
//! | from \ event | the waker (once for each wait) | its worker, off its stack | the trimmer begins | the trimmer is done |
//! |---|---|---|---|---|
//! | `Awake`: it runs, is queued, or is leaving its stack | `Woken` | `Parked`: leaves it | leaves it | – |
//! | `Woken`: as before, and its waker has been | – | `Awake`: queues it | leaves it | `Awake`: queues it |
//! | `Parked`: off its stack, in no queue | `Awake`: queues it | – | `Scanned` | – |
//! | `Scanned`: as parked, and its stack is being trimmed | `Woken` | – | leaves it | `Parked` |
//!
//! **Invariant:** exactly one event of each wait queues the goroutine, and at that moment nobody is on its stack and
//! nobody trims it. After an event that does not queue it, whoever caused that does not touch the record any more.

use crate::primitive::atomic::{AtomicU8, Ordering};

const AWAKE: u8 = 0;
const WOKEN: u8 = 1;
const PARKED: u8 = 2;
const SCANNED: u8 = 3;

/// See [the module](self).
pub(crate) struct Stage(AtomicU8);

impl Stage {
    #[cfg(all(test, loom))]
    fn new() -> Stage {
        Stage(AtomicU8::new(AWAKE))
    }

    /// Of a goroutine that is about to start. A trimmer may be looking at the slot.
    pub(crate) fn start(&self) {
        // Ordering: Relaxed: whoever wakes it has been told of it later.
        self.0.store(AWAKE, Ordering::Relaxed);
    }

    /// The waker's event. True: the goroutine is the caller's, to be queued.
    #[must_use]
    pub(crate) fn wake(&self) -> bool {
        // Ordering: Acquire pairs with the Release in `park` and `end_scan`: what its worker has saved, and what the
        // trimmer has done, come before whoever resumes it. Release, with the Acquire in `park` and `end_scan`: what
        // the waker did comes before that too, if another queues it.
        if self.0.swap(WOKEN, Ordering::AcqRel) != PARKED {
            return false;
        }
        // Ordering: Relaxed: the goroutine is ours, and its next wait is told of by itself.
        self.0.store(AWAKE, Ordering::Relaxed);
        true
    }

    /// Its worker's event, after the switch. False: its waker has been, and the goroutine is still the caller's, to be
    /// queued.
    #[must_use]
    pub(crate) fn park(&self) -> bool {
        self.leave(AWAKE)
    }

    /// The trimmer's first event. True: nobody resumes the goroutine until `end_scan`.
    #[must_use]
    pub(crate) fn begin_scan(&self) -> bool {
        // Ordering: Acquire pairs with the Release in `leave`: we see how far its stack reaches.
        self.0.compare_exchange(PARKED, SCANNED, Ordering::Acquire, Ordering::Relaxed).is_ok()
    }

    /// The trimmer's second event. False: its waker has been, and the goroutine is the caller's, to be queued.
    #[must_use]
    pub(crate) fn end_scan(&self) -> bool {
        self.leave(SCANNED)
    }

    fn leave(&self, from: u8) -> bool {
        // Ordering: Release and Acquire pair with those in `wake`, see there.
        match self.0.compare_exchange(from, PARKED, Ordering::Release, Ordering::Acquire) {
            Ok(_) => true,
            Err(now) => {
                debug_assert_eq!(now, WOKEN);
                // Ordering: Relaxed: the goroutine is ours, as in `wake`.
                self.0.store(AWAKE, Ordering::Relaxed);
                false
            }
        }
    }
}

#[cfg(all(test, loom))]
mod loom_tests {
    use super::*;
    use crate::primitive::{Arc, UnsafeCell};
    use loom::sync::atomic::AtomicUsize;

    /// A goroutine: what its worker saves, and how often it was queued.
    struct Goroutine {
        stage: Stage,
        /// Its registers and its stack. Loom sees to it that nobody touches them at the same time.
        stack: UnsafeCell<u32>,
        queued: AtomicUsize,
    }

    impl Goroutine {
        fn touch(&self) {
            // SAFETY: the test is that nobody else does.
            self.stack.with_mut(|stack| unsafe { *stack += 1 });
        }

        /// It is the caller's: resumed.
        fn queue(&self) {
            self.touch();
            self.queued.fetch_add(1, Ordering::Relaxed);
        }
    }

    fn model(trims: bool) {
        loom::model(move || {
            let goroutine = Arc::new(Goroutine {
                stage: Stage::new(),
                stack: UnsafeCell::new(0),
                queued: AtomicUsize::new(0),
            });
            let waker = loom::thread::spawn({
                let goroutine = goroutine.clone();
                move || {
                    if goroutine.stage.wake() {
                        goroutine.queue();
                    }
                }
            });
            let trimmer = trims.then(|| {
                let goroutine = goroutine.clone();
                loom::thread::spawn(move || {
                    if goroutine.stage.begin_scan() {
                        goroutine.touch();
                        if !goroutine.stage.end_scan() {
                            goroutine.queue();
                        }
                    }
                })
            });
            // Its worker: the switch, then the hand-off.
            goroutine.touch();
            if !goroutine.stage.park() {
                goroutine.queue();
            }
            waker.join().unwrap();
            if let Some(trimmer) = trimmer {
                trimmer.join().unwrap();
            }
            assert_eq!(goroutine.queued.load(Ordering::Relaxed), 1);
        });
    }

    #[test]
    fn a_wake_up_that_comes_early_queues_it_once_and_off_its_stack() {
        model(false);
    }

    #[test]
    fn a_wake_up_during_a_trim_queues_it_once_and_after_the_trim() {
        model(true);
    }
}
