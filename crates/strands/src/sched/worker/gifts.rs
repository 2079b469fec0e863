//! Spreading connections over the workers.
//!
//! A server's goroutines spend their lives waiting for each other's turn where they first ran. Connections mostly come one
//! at a time: the goroutine that accepts starts another, parks, and its own worker is the first to be free for
//! the new one. Left to itself a server would have all its connections on one worker, and since goroutines stay at
//! home, for good. So the goroutine that is spawned next after an accept goes to the worker with the fewest at home:
//! as a *gift*, into an inbox for what is fresh, which that worker takes in with the other.
//!
//! A gift is for one worker, but need not be: nobody has started it. If the worker does not move, the monitor puts
//! its gifts into the injector, for anybody.

use super::super::goroutine::{Goroutine, Runnable};
use super::super::here::Here;
use super::super::idle::Assignment;
use super::super::runtime::Runtime;
use super::Worker;
use std::ptr::NonNull;
use std::sync::atomic::Ordering;

impl Worker {
    /// Whether somebody has given it something that it has not taken in.
    pub(in crate::sched) fn has_gifts(&self) -> bool {
        !self.gifts.is_empty()
    }

    fn give(&self, goroutine: NonNull<Goroutine>) {
        self.given.fetch_add(1, Ordering::Relaxed);
        // SAFETY: fresh and in no queue, so anybody may start it; only who drains the inbox takes it out.
        let _ = unsafe { self.gifts.push(goroutine.cast()) };
        self.wake();
    }
}

impl Here {
    /// A connection was accepted here: the next goroutine that is spawned is likely to be for it.
    pub(in crate::sched) fn spread_next(self) {
        self.own.spreads.set(true);
    }

    /// Gives the goroutine to a worker with fewer at home, if there is one. False: it is still the caller's.
    pub(super) fn give_away(self, goroutine: NonNull<Goroutine>) -> bool {
        // SAFETY: fresh, and the caller's.
        if unsafe { goroutine.as_ref() }.roams() {
            // Whoever has time will take it.
            return false;
        }
        let runtime = self.runtime;
        let queued = self.own.processor.get().map_or(0, |p| runtime.processors[p].queue().len());
        let mine = self.residents.load(Ordering::Relaxed) + queued;
        let mut alive = 0;
        let mut least: Option<(usize, &'static Worker)> = None;
        for worker in runtime.workers() {
            if worker.tid() == 0 || worker.is_host() || alive == runtime.processors.len() {
                continue;
            }
            alive += 1;
            let given = worker.given.load(Ordering::Relaxed);
            let others = worker.residents.load(Ordering::Relaxed) + given;
            if worker.index() != self.index && least.is_none_or(|(least, _)| others < least) {
                least = Some((others, worker));
            }
        }
        if alive < runtime.processors.len() && mine > 1 {
            return runtime.start_worker_for(goroutine);
        }
        match least {
            Some((others, worker)) if others + 1 < mine => {
                worker.give(goroutine);
                true
            }
            _ => false,
        }
    }

    /// Takes in what it was given: from now on it is at home here.
    #[cold]
    pub(super) fn take_gifts(self) {
        for goroutine in self.gifts.drain() {
            self.given.fetch_sub(1, Ordering::Relaxed);
            let goroutine = Runnable::as_fresh(goroutine).expect("gifts are fresh");
            if let Some(goroutine) = self.keep(goroutine) {
                let started = self.settle(goroutine);
                self.push_home(started);
            }
        }
    }
}

impl Runtime {
    /// Starts another worker, with an idle processor, to give it this.
    fn start_worker_for(&self, goroutine: NonNull<Goroutine>) -> bool {
        let Some(processor) = self.idle.try_take() else { return false };
        // It finds the goroutine in the injector, or somebody else does who has nothing to do.
        // SAFETY: fresh and in no queue, and anybody may start it.
        unsafe { self.injector.push(goroutine.cast()) };
        let _ = self.start_worker(Assignment { processor, searching: false });
        self.announce();
        true
    }

    /// Takes gifts back from a worker that does not move, for anybody to start. For the monitor.
    pub(in crate::sched) fn reclaim_gifts(&self, worker: &Worker) {
        for goroutine in worker.gifts.drain() {
            worker.given.fetch_sub(1, Ordering::Relaxed);
            // SAFETY: fresh, and in no queue now.
            unsafe { self.injector.push(goroutine) };
        }
        self.announce();
    }
}
