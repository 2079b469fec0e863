//! The word that says where a future stands that workers run: who may poll it, whether it must be polled again,
//! and when its memory may go.
//!
//! ```text
//!   word:  { REFERENCES : CANCELLED : COMPLETE : RUNNING : SCHEDULED }
//!
//!                   ┌──────────── pause, not woken ──────────────┐
//!                   ▼                                            │
//!    spawn     ( idle ) ── wake, cancel, orphan ──► SCHEDULED ── begin ──► RUNNING ── end ──► COMPLETE
//!      │                                             ▲      ▲                │
//!      └─────────────────────────────────────────────┘      └─ pause, woken ─┘
//! ```
//!
//! * Whoever takes the word from idle to `SCHEDULED` puts the task into a queue; nobody else does. So it is in one
//!   queue at most, and polled by one worker at a time.
//! * A wake while it is polled leaves `SCHEDULED` beside `RUNNING`, and `pause` finds it: no wake is lost, and
//!   however many come before the next poll, they are one.
//! * **References** are held by wakers and handles, and one by the task itself until its result has been taken or
//!   dropped. A task that is idle and has its own only is an *orphan*: nobody can wake it any more, so it is
//!   cancelled, which drops the future and what that holds.
//!
//! **Orderings.** `begin` acquires what every earlier operation has released: each of them is a read-modify-write,
//! so all are in one release sequence. Thus a poll sees the poll before it (perhaps on another worker), and what
//! each waker did before its wake.

use crate::primitive::atomic::{AtomicUsize, Ordering};

/// In a queue, or on the way there or from there; or, while it runs, to be queued again.
const SCHEDULED: usize = 1;
/// Being polled or dropped.
const RUNNING: usize = 2;
/// The future is gone.
const COMPLETE: usize = 4;
/// The future is to be dropped, and not to be polled again.
const CANCELLED: usize = 8;
/// One reference.
const REFERENCE: usize = 16;

/// More references than this are a leak in a loop: as for `Arc`, better an end than a wrap.
const MOST: usize = usize::MAX / 2;

/// The state of a task.
pub(crate) struct FutureState(AtomicUsize);

/// What a worker that has the task is to do.
#[must_use]
#[derive(Debug, PartialEq, Eq)]
pub(crate) enum Begun {
    Poll,
    /// Drop the future.
    Drop,
}

/// What becomes of a reference's target.
#[must_use]
#[derive(Debug, PartialEq, Eq)]
pub(crate) enum Released {
    /// Others have it still.
    Held,
    /// Nobody has it: free it.
    Last,
    /// Nobody can wake it: queue it, to be cancelled.
    Orphaned,
}

impl FutureState {
    /// Of a task that is about to be queued, and has one handle.
    pub(crate) fn new() -> FutureState {
        FutureState(AtomicUsize::new(SCHEDULED | (2 * REFERENCE)))
    }

    /// Takes up a task that was in a queue.
    pub(crate) fn begin(&self) -> Begun {
        // Ordering: Acquire, see above.
        let word = self.0.fetch_add(RUNNING - SCHEDULED, Ordering::Acquire);
        debug_assert_eq!(word & (SCHEDULED | RUNNING | COMPLETE), SCHEDULED);
        if word & CANCELLED == 0 { Begun::Poll } else { Begun::Drop }
    }

    /// The poll was in vain. True: queue it again. Otherwise it must not be touched any more.
    #[must_use]
    pub(crate) fn pause(&self) -> bool {
        let mut word = self.0.load(Ordering::Relaxed);
        loop {
            debug_assert_eq!(word & (RUNNING | COMPLETE), RUNNING);
            let is_orphan = word / REFERENCE == 1 && word & SCHEDULED == 0;
            let next = match is_orphan {
                false => word & !RUNNING,
                true => (word & !RUNNING) | SCHEDULED | CANCELLED,
            };
            // Ordering: Release hands the poll's work to the next `begin`.
            match self.0.compare_exchange_weak(word, next, Ordering::Release, Ordering::Relaxed) {
                Ok(_) => return next & SCHEDULED != 0,
                Err(other) => word = other,
            }
        }
    }

    /// The future is gone. (The task's own reference stays.)
    pub(crate) fn end(&self) {
        // Ordering: Relaxed; the result is handed on by the join word, the memory by the references.
        let word = self.0.fetch_xor(RUNNING | COMPLETE, Ordering::Relaxed);
        debug_assert_eq!(word & (RUNNING | COMPLETE), RUNNING);
    }

    /// True: queue it.
    #[must_use]
    pub(crate) fn wake(&self) -> bool {
        // Ordering: Release hands the waker's work to the next `begin`, also when others have woken it before.
        let word = self.0.fetch_or(SCHEDULED, Ordering::Release);
        word & (SCHEDULED | RUNNING | COMPLETE) == 0
    }

    /// Has the future dropped instead of polled, if it is not complete. True: queue it.
    #[must_use]
    pub(crate) fn cancel(&self) -> bool {
        // Ordering: as in `wake`.
        let word = self.0.fetch_or(SCHEDULED | CANCELLED, Ordering::Release);
        word & (SCHEDULED | RUNNING | COMPLETE) == 0
    }

    /// One reference more.
    pub(crate) fn share(&self) {
        // Ordering: Relaxed, as for `Arc`: whoever shares has a reference.
        let word = self.0.fetch_add(REFERENCE, Ordering::Relaxed);
        if word > MOST {
            std::process::abort();
        }
    }

    /// One reference less.
    pub(crate) fn release(&self) -> Released {
        // Ordering: Release gives up our accesses to whoever frees; Acquire takes up all others', for that is
        // perhaps us.
        let word = self.0.fetch_sub(REFERENCE, Ordering::AcqRel);
        match word / REFERENCE {
            1 => Released::Last,
            2 if word & (SCHEDULED | RUNNING | COMPLETE) == 0 => {
                // Nobody has a reference but the task itself, which does nothing while it is idle: nobody
                // else changes the word.
                // Ordering: Relaxed; whatever was released is in the sequence still.
                self.0.fetch_or(SCHEDULED | CANCELLED, Ordering::Relaxed);
                Released::Orphaned
            }
            _ => Released::Held,
        }
    }
}

#[cfg(all(test, not(loom)))]
mod tests {
    use super::*;

    #[test]
    fn wakes_before_a_poll_are_one_and_one_during_it_is_another() {
        let state = FutureState::new();
        assert!(!state.wake(), "it is queued already");
        assert_eq!(state.begin(), Begun::Poll);
        assert!(!state.wake() && !state.wake(), "whoever polls it sees to it");
        assert!(state.pause());
        assert_eq!(state.begin(), Begun::Poll);
        assert!(!state.pause(), "nobody has woken it since");
        assert!(state.wake());
        assert!(!state.wake());
        assert_eq!(state.begin(), Begun::Poll);
        state.end();
        assert!(!state.wake() && !state.cancel(), "there is nothing left to run");
        assert_eq!(state.release(), Released::Held);
        assert_eq!(state.release(), Released::Last);
    }

    #[test]
    fn what_is_cancelled_is_queued_once_and_not_polled() {
        let state = FutureState::new();
        assert_eq!(state.begin(), Begun::Poll);
        assert!(!state.pause());
        assert!(state.cancel());
        assert!(!state.cancel() && !state.wake());
        assert_eq!(state.begin(), Begun::Drop);
    }

    #[test]
    fn what_nobody_can_wake_is_cancelled() {
        let idle = FutureState::new();
        assert_eq!(idle.begin(), Begun::Poll);
        idle.share();
        assert!(!idle.pause());
        assert_eq!(idle.release(), Released::Held);
        assert_eq!(idle.release(), Released::Orphaned, "its last waker or handle has gone");
        assert_eq!(idle.begin(), Begun::Drop);

        let polled = FutureState::new();
        assert_eq!(polled.begin(), Begun::Poll);
        assert_eq!(polled.release(), Released::Held, "it may leave a waker yet");
        assert!(polled.pause(), "it has left none");
        assert_eq!(polled.begin(), Begun::Drop);
    }
}

#[cfg(all(test, loom))]
mod loom_tests {
    use super::*;
    use crate::primitive::{Arc, UnsafeCell};
    use loom::thread;

    /// A task, its queue of one place, and what its polls and wakers write.
    struct Task {
        state: FutureState,
        queued: AtomicUsize,
        /// Written by every poll, which is alone: what loom checks.
        future: UnsafeCell<usize>,
        /// Written by a waker before its wake.
        gift: AtomicUsize,
    }

    // SAFETY: the cell is written by who polls.
    unsafe impl Send for Task {}
    // SAFETY: as above; loom checks it.
    unsafe impl Sync for Task {}

    impl Task {
        fn new() -> Arc<Task> {
            Arc::new(Task {
                state: FutureState::new(),
                queued: AtomicUsize::new(1),
                future: UnsafeCell::new(0),
                gift: AtomicUsize::new(0),
            })
        }

        fn queue(&self) {
            // The queue itself orders nothing here: what a poll sees comes by the state.
            assert_eq!(self.queued.fetch_add(1, Ordering::Relaxed), 0, "in a queue twice");
        }

        fn wake(&self) {
            self.gift.fetch_add(1, Ordering::Relaxed);
            if self.state.wake() {
                self.queue();
            }
        }

        fn release(&self) -> bool {
            match self.state.release() {
                Released::Held => false,
                Released::Last => true,
                Released::Orphaned => {
                    self.queue();
                    false
                }
            }
        }

        /// Polls until `gifts` have come, or it is cancelled; false if it is in no queue.
        fn work(&self, gifts: usize) -> bool {
            let relaxed = Ordering::Relaxed;
            while self.queued.compare_exchange(1, 0, relaxed, relaxed).is_ok() {
                let begun = self.state.begin();
                // SAFETY: this is what is checked.
                self.future.with_mut(|polls| unsafe { *polls += 1 });
                if begun == Begun::Drop || self.gift.load(Ordering::Relaxed) == gifts {
                    self.state.end();
                    return true;
                }
                if self.state.pause() {
                    self.queue();
                }
            }
            false
        }
    }

    #[test]
    fn every_wake_is_followed_by_a_poll_that_sees_what_came_before_it() {
        let mut model = loom::model::Builder::new();
        // Without a bound it runs for minutes.
        model.preemption_bound = Some(3);
        model.check(|| {
            let task = Task::new();
            let wakers: Vec<_> = (0..2)
                .map(|_| {
                    let task = Arc::clone(&task);
                    thread::spawn(move || {
                        task.wake();
                        task.work(2)
                    })
                })
                .collect();
            let mut done = task.work(2);
            for waker in wakers {
                done |= waker.join().unwrap();
            }
            // Whatever is queued when all have looked is nobody's.
            done |= task.work(2);
            assert!(done, "the poll that would have seen both wakes was not made");
        });
    }

    #[test]
    fn references_that_go_at_once_leave_an_orphan_or_none_and_one_frees() {
        loom::model(|| {
            let task = Task::new();
            // The waker that the first poll leaves, and the handle.
            task.state.share();
            let droppers: Vec<_> = (0..2)
                .map(|_| {
                    let task = Arc::clone(&task);
                    thread::spawn(move || usize::from(task.release()))
                })
                .collect();
            let mut ended = task.work(usize::MAX);
            let mut freed: usize =
                droppers.into_iter().map(|dropper| dropper.join().unwrap()).sum();
            ended |= task.work(usize::MAX);
            assert!(ended, "nobody can wake it, and it was not cancelled");
            freed += usize::from(task.release());
            assert_eq!(freed, 1);
        });
    }

    #[test]
    fn a_cancel_during_a_poll_or_beside_a_wake_ends_it_once() {
        loom::model(|| {
            let task = Task::new();
            let others = [true, false].map(|cancels| {
                let task = Arc::clone(&task);
                thread::spawn(move || {
                    let queue = if cancels { task.state.cancel() } else { task.state.wake() };
                    if queue {
                        task.queue();
                    }
                })
            });
            let mut ended = usize::from(task.work(usize::MAX));
            for other in others {
                other.join().unwrap();
            }
            if ended == 0 {
                ended += usize::from(task.work(usize::MAX));
            }
            assert_eq!((ended, task.queued.load(Ordering::Relaxed)), (1, 0));
        });
    }
}
