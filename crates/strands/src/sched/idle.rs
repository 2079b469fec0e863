//! Who sleeps, which processors nobody has, and whom to wake for fresh work.
//!
//! Waking a thread costs the waker 7–15 µs, and the woken one 25–50 µs. So fresh work wakes *one* worker,
//! and none while one is already *searching*: that one will find the work, or see it in its last look
//! before it sleeps; if it finds more than it can use, it wakes the next.
//!
//! # The protocol
//!
//! ```text
//!   a producer                                the searching worker, finding nothing
//!   ──────────                                ─────────────────────────────────────
//!   P1  push onto a queue                     S1  under the lock: its processor and itself become idle
//!   P2  fence                                 S2  searching = 0
//!   P3  searching == 0 and idle > 0 ?         S3  fence
//!   P4  then searching 0 → 1 by CAS, and      S4  is there anything in any queue?
//!       under the lock take an idle               then get up: take an idle processor, search again
//!       processor and a sleeper, wake it      S5  sleep
//! ```
//!
//! **No work is left with everybody asleep.** Consider the last producer and the last worker to go to
//! sleep, and the order of the fences P2 and S3. If P2 is first, the worker sees the push at S4. If S3
//! is first, the producer sees at P3 what the worker did at S1 and S2, that is a processor idle and
//! nobody searching, and wakes somebody; unless its CAS at P4 fails, in which case another producer's
//! has succeeded, and the worker *that* one wakes starts its search after both pushes. loom checks this
//! module with producers and workers, up to a bound on preemptions.
//!
//! **A sleeper is woken by whoever takes it off the list**, under the lock, and finds its processor in
//! its mailbox. A worker that gets up for another reason (a wake-up for a goroutine at home) takes itself
//! off under the same lock; if it is no longer on the list, its mailbox is already full.
//!
//! What this does not cover: one fresh goroutine in the queue of a processor whose worker is awake. That
//! worker will run it when the goroutine before it parks; if that takes long, the monitor sees to it.

use crate::primitive::atomic::{AtomicUsize, Ordering, fence};
use crate::primitive::{Mutex, MutexGuard};

/// What a sleeping worker finds in its mailbox when it was woken for work.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) struct Assignment {
    /// The processor that is now its own.
    pub(crate) processor: usize,
    /// Whether it is the searching worker.
    pub(crate) searching: bool,
}

/// A sleeping worker, as this module knows it.
pub(crate) trait Sleeper: Copy + PartialEq {
    /// Puts the assignment into its mailbox. Called under the lock.
    fn assign(self, what: Assignment);
    /// Wakes it. Called after the lock has been dropped.
    fn wake(self);
}

/// Whom a producer has to thank.
#[must_use = "somebody has to be woken or started"]
pub(crate) enum Summons<W> {
    /// Wake this worker: its mailbox holds the assignment.
    Wake(W),
    /// Nobody sleeps: start a new worker with this.
    Start(Assignment),
}

pub(crate) struct Idle<W> {
    searching: AtomicUsize,
    /// How many processors nobody has; a copy of what the lock guards.
    idle: AtomicUsize,
    inner: Mutex<Inner<W>>,
}

struct Inner<W> {
    processors: Vec<usize>,
    sleepers: Vec<W>,
}

impl<W: Sleeper> Idle<W> {
    /// All processors are idle, and nobody sleeps.
    pub(crate) fn new(processors: usize) -> Idle<W> {
        Idle {
            searching: AtomicUsize::new(0),
            idle: AtomicUsize::new(processors),
            inner: Mutex::new(Inner {
                // Number 0 is handed out first.
                processors: (0..processors).rev().collect(),
                sleepers: Vec::new(),
            }),
        }
    }

    fn lock(&self) -> MutexGuard<'_, Inner<W>> {
        self.inner.lock().unwrap_or_else(|e| e.into_inner())
    }

    /// Whether some processor is nobody's.
    #[inline]
    pub(crate) fn any_idle(&self) -> bool {
        self.idle.load(Ordering::Relaxed) > 0
    }

    /// Whether somebody searches.
    pub(crate) fn is_searching(&self) -> bool {
        self.searching.load(Ordering::Relaxed) > 0
    }

    /// Says that fresh work has been pushed (P2 to P4).
    #[inline]
    pub(crate) fn announce(&self) -> Option<Summons<W>> {
        fence(Ordering::SeqCst);
        if self.idle.load(Ordering::Relaxed) == 0 || self.searching.load(Ordering::Relaxed) > 0 {
            return None;
        }
        self.summon()
    }

    #[cold]
    fn summon(&self) -> Option<Summons<W>> {
        loop {
            // Ordering: AcqRel, so that a chain of searchers is a chain of happens-before.
            if self.searching.compare_exchange(0, 1, Ordering::AcqRel, Ordering::Relaxed).is_err() {
                return None;
            }
            let mut inner = self.lock();
            if let Some(processor) = self.take_processor(&mut inner) {
                return Some(Self::appoint(&mut inner, Assignment { processor, searching: true }));
            }
            drop(inner);
            // Every processor is somebody's. Another producer may have seen our `1` and relied on us,
            // while the last of those workers gave its processor up: we must look again after we have
            // taken the `1` back, as that producer would have.
            self.searching.store(0, Ordering::Relaxed);
            fence(Ordering::SeqCst);
            if !self.any_idle() {
                return None;
            }
        }
    }

    /// Finds somebody for a processor that the caller has.
    pub(crate) fn hand_over(&self, processor: usize) -> Summons<W> {
        Self::appoint(&mut self.lock(), Assignment { processor, searching: false })
    }

    fn appoint(inner: &mut Inner<W>, what: Assignment) -> Summons<W> {
        match inner.sleepers.pop() {
            Some(worker) => {
                worker.assign(what);
                Summons::Wake(worker)
            }
            None => Summons::Start(what),
        }
    }

    fn take_processor(&self, inner: &mut Inner<W>) -> Option<usize> {
        let processor = inner.processors.pop()?;
        self.idle.store(inner.processors.len(), Ordering::Relaxed);
        Some(processor)
    }

    /// An idle processor, for a worker that is awake and has none.
    pub(crate) fn try_take(&self) -> Option<usize> {
        if !self.any_idle() {
            return None;
        }
        self.take_processor(&mut self.lock())
    }

    /// Gives a processor up, with nobody to have it.
    pub(crate) fn give_back(&self, processor: usize) {
        let mut inner = self.lock();
        inner.processors.push(processor);
        self.idle.store(inner.processors.len(), Ordering::Relaxed);
    }

    /// Becomes the searching worker, if nobody is.
    pub(crate) fn start_search(&self) -> bool {
        self.searching.load(Ordering::Relaxed) == 0
            && self.searching.compare_exchange(0, 1, Ordering::AcqRel, Ordering::Relaxed).is_ok()
    }

    /// The searching worker has found something, and goes to work. Producers have relied on it
    /// meanwhile, so it now looks at the queues, and announces what else is there.
    pub(crate) fn end_search(&self) {
        self.searching.store(0, Ordering::Release);
        fence(Ordering::SeqCst);
    }

    /// Goes on the list of sleepers, and gives up processor and search (S1 to S3). The caller has
    /// announced its sleep to its own bed before, and now looks at all queues once more (S4).
    pub(crate) fn lie_down(&self, worker: W, processor: Option<usize>, searching: bool) {
        {
            let mut inner = self.lock();
            if let Some(processor) = processor {
                inner.processors.push(processor);
                self.idle.store(inner.processors.len(), Ordering::Relaxed);
            }
            inner.sleepers.push(worker);
        }
        if searching {
            self.searching.store(0, Ordering::Release);
        }
        fence(Ordering::SeqCst);
    }

    /// Comes off the list. False: somebody has taken it off before, and its mailbox is full.
    #[must_use]
    pub(crate) fn get_up(&self, worker: W) -> bool {
        let mut inner = self.lock();
        match inner.sleepers.iter().position(|other| *other == worker) {
            Some(at) => {
                inner.sleepers.remove(at);
                true
            }
            None => false,
        }
    }

    /// How many workers sleep, and whether every processor is idle and nobody searches.
    pub(crate) fn census(&self, processors: usize) -> (usize, bool) {
        let inner = self.lock();
        let all = inner.processors.len() == processors && !self.is_searching();
        (inner.sleepers.len(), all)
    }
}

#[cfg(all(test, not(loom)))]
mod tests {
    use super::*;
    use std::cell::Cell;

    #[derive(Clone, Copy)]
    struct Bed<'a>(&'a Cell<Option<Assignment>>);

    impl PartialEq for Bed<'_> {
        fn eq(&self, other: &Self) -> bool {
            std::ptr::eq(self.0, other.0)
        }
    }

    impl Sleeper for Bed<'_> {
        fn assign(self, what: Assignment) {
            self.0.set(Some(what));
        }
        fn wake(self) {}
    }

    #[test]
    fn work_summons_one_searcher_and_no_second_while_it_searches() {
        let idle = Idle::<Bed<'_>>::new(2);
        let Some(Summons::Start(first)) = idle.announce() else { panic!("nobody was summoned") };
        assert_eq!(first, Assignment { processor: 0, searching: true });
        assert!(idle.announce().is_none());
        idle.end_search();
        let Some(Summons::Start(second)) = idle.announce() else { panic!("nobody was summoned") };
        assert_eq!(second.processor, 1);
        idle.end_search();
        assert!(idle.announce().is_none(), "no processor is left");
    }

    #[test]
    fn a_sleeper_goes_before_a_new_worker_and_finds_its_mail() {
        let mail = Cell::new(None);
        let idle = Idle::new(1);
        let Some(Summons::Start(what)) = idle.announce() else { panic!("nobody was summoned") };
        idle.lie_down(Bed(&mail), Some(what.processor), true);
        assert_eq!(idle.census(1), (1, true));
        assert!(matches!(idle.announce(), Some(Summons::Wake(_))));
        assert_eq!(mail.get(), Some(what));
        assert!(!idle.get_up(Bed(&mail)), "it was taken off the list");
    }

    #[test]
    fn who_gets_up_alone_has_no_mail() {
        let mail = Cell::new(None);
        let idle = Idle::new(1);
        idle.lie_down(Bed(&mail), None, false);
        assert!(idle.get_up(Bed(&mail)));
        assert_eq!(mail.get(), None);
        assert_eq!(idle.try_take(), Some(0));
        assert_eq!(idle.try_take(), None);
        idle.give_back(0);
        assert!(idle.any_idle());
    }
}

#[cfg(all(test, loom))]
mod loom_tests;
