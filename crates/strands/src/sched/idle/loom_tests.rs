//! Models of the protocol at the head of `idle`: a runtime with an injector and nothing else in it.
//!
//! A worker here takes the steps of `worker` (`work`, `pick`, `rest`, `sleep`, `get_up`, `end_search`) in
//! the same order and with the same conditions; what does not matter here is left out: rings, timers,
//! errands, retirement. If a push is seen by nobody, its work is never done, all workers sleep, and
//! loom reports a deadlock.
//!
//! All models are bounded in preemptions, that is, in how often a thread is interrupted where it could have
//! gone on: they would run for hours otherwise. With any of the fences in `idle`, or the loop in `summon`,
//! taken away, they fail within these bounds.

use super::*;
use crate::primitive::UnsafeCell;
use crate::sched::parker::Parker;
use loom::sync::Notify;
use loom::thread::{self, JoinHandle};
use std::sync::Arc;
use std::sync::atomic as unmodelled;
use std::sync::atomic::Ordering::Relaxed;

/// A worker's shared part.
struct Worker {
    parker: Parker,
    mailbox: AtomicUsize,
    /// How many goroutines at home here others have made ready.
    inbox: AtomicUsize,
    /// All work is done. No part of the model (loom does not see it), but its end.
    stop: unmodelled::AtomicBool,
}

struct Runtime {
    idle: Idle<Bed>,
    /// How much fresh work waits.
    injector: AtomicUsize,
    /// Stands for what a processor's owner may touch, and nobody else.
    processors: Vec<UnsafeCell<()>>,
    workers: Vec<Worker>,
    /// How many of `workers` have been started; how much work is to be done. Outside of the model.
    started: unmodelled::AtomicUsize,
    left: unmodelled::AtomicUsize,
    threads: std::sync::Mutex<Vec<JoinHandle<()>>>,
    /// The work that is done first waits for the work that is done last.
    first_waits_for_last: bool,
    last: Notify,
}

// SAFETY: the cells of processors are touched by their owners.
unsafe impl Send for Runtime {}
// SAFETY: as above; loom checks it.
unsafe impl Sync for Runtime {}

#[derive(Clone, Copy, PartialEq)]
struct Bed(*const Worker);

// SAFETY: the runtime, and with it the worker, lives until all threads have ended.
unsafe impl Send for Bed {}
// SAFETY: as above.
unsafe impl Sync for Bed {}

impl Bed {
    fn worker(&self) -> &Worker {
        // SAFETY: as above.
        unsafe { &*self.0 }
    }
}

impl Sleeper for Bed {
    fn assign(self, what: Assignment) {
        let mail = (what.processor + 1) << 1 | usize::from(what.searching);
        self.worker().mailbox.store(mail, Ordering::Release);
    }

    fn wake(self) {
        self.worker().parker.wake();
    }
}

impl Runtime {
    /// With so many processors, at most so many workers, and so much work to come.
    fn new(processors: usize, workers: usize, work: usize) -> Arc<Runtime> {
        Arc::new(Self::with(processors, workers, work, false))
    }

    fn with(processors: usize, workers: usize, work: usize, first_waits_for_last: bool) -> Runtime {
        Runtime {
            idle: Idle::new(processors),
            injector: AtomicUsize::new(0),
            processors: (0..processors).map(|_| UnsafeCell::new(())).collect(),
            workers: (0..workers)
                .map(|_| Worker {
                    parker: Parker::new(),
                    mailbox: AtomicUsize::new(0),
                    inbox: AtomicUsize::new(0),
                    stop: unmodelled::AtomicBool::new(false),
                })
                .collect(),
            started: unmodelled::AtomicUsize::new(0),
            left: unmodelled::AtomicUsize::new(work),
            threads: std::sync::Mutex::new(Vec::new()),
            first_waits_for_last,
            last: Notify::new(),
        }
    }

    fn inject(self: &Arc<Self>) {
        if let Some(assignment) = self.push_and_announce() {
            self.start_worker(assignment);
        }
    }

    /// Returns what a new worker is to be started with.
    #[must_use]
    fn push_and_announce(&self) -> Option<Assignment> {
        self.injector.fetch_add(1, Relaxed);
        self.announce()
    }

    #[must_use]
    fn announce(&self) -> Option<Assignment> {
        match self.idle.announce()? {
            Summons::Wake(bed) => {
                bed.wake();
                None
            }
            Summons::Start(assignment) => Some(assignment),
        }
    }

    fn has_spare_work(&self) -> bool {
        self.injector.load(Relaxed) > 0
    }

    fn start_worker(self: &Arc<Self>, assignment: Assignment) {
        let runtime = Arc::clone(self);
        self.start_thread(move || runtime.be_worker(assignment));
    }

    fn start_thread(&self, f: impl FnOnce() + 'static) {
        self.threads.lock().unwrap().push(thread::spawn(f));
    }

    fn be_worker(self: &Arc<Self>, assignment: Assignment) {
        let index = self.started.fetch_add(1, Relaxed);
        assert!(index < self.workers.len(), "the model has too few workers");
        let worker = &self.workers[index];
        Here { runtime: self, worker, processor: None, searching: false }.start(assignment);
    }

    /// Starts a producer of one piece of work. Should that call for a new worker, its thread becomes the
    /// worker's: it has nothing else to do, and loom's threads are few.
    fn start_producer(self: &Arc<Self>) {
        let runtime = Arc::clone(self);
        self.start_thread(move || {
            if let Some(assignment) = runtime.push_and_announce() {
                runtime.be_worker(assignment);
            }
        });
    }

    /// Makes a goroutine ready that is at home with a worker.
    fn post(&self, worker: usize) {
        let worker = &self.workers[worker];
        if worker.inbox.fetch_add(1, Ordering::Release) == 0 {
            worker.parker.wake();
        }
    }

    fn execute(&self) {
        if self.left.fetch_sub(1, Relaxed) > 1 {
            if self.first_waits_for_last {
                self.last.wait();
            }
        } else {
            self.last.notify();
            for worker in &self.workers {
                worker.stop.store(true, Relaxed);
                worker.parker.wake();
            }
        }
    }

    /// Waits until all that was started has ended.
    fn join(&self) {
        loop {
            let thread = self.threads.lock().unwrap().pop();
            match thread {
                Some(thread) => thread.join().unwrap(),
                None => break,
            }
        }
        assert_eq!(self.left.load(Relaxed), 0, "work was left, and nobody there to do it");
        assert_eq!(self.injector.load(Relaxed), 0);
    }
}

enum Rest {
    Up,
    Found,
    Stop,
}

/// A worker on its thread.
struct Here<'a> {
    runtime: &'a Arc<Runtime>,
    worker: &'a Worker,
    processor: Option<usize>,
    searching: bool,
}

impl Here<'_> {
    /// A worker from its first moment.
    fn start(mut self, first: Assignment) {
        self.take_assignment(first);
        self.work();
    }

    /// A worker that has lain down, from its last look.
    fn go_on(mut self) {
        if let Rest::Up = self.look_and_sleep() {
            self.work();
        }
    }

    fn work(mut self) {
        loop {
            if !self.pick() {
                match self.rest() {
                    Rest::Up => continue,
                    Rest::Found => {}
                    Rest::Stop => break,
                }
            }
            if self.searching {
                self.end_search();
            }
            self.runtime.execute();
        }
    }

    fn pick(&mut self) -> bool {
        if self.worker.inbox.load(Relaxed) > 0 {
            self.worker.inbox.fetch_sub(1, Ordering::Acquire);
            return true;
        }
        self.pop_injector()
    }

    fn pop_injector(&mut self) -> bool {
        if !self.runtime.has_spare_work() {
            return false;
        }
        let Some(processor) = self.processor else { return false };
        self.runtime.processors[processor].with_mut(|_| ());
        self.runtime.injector.fetch_update(Relaxed, Relaxed, |n| n.checked_sub(1)).is_ok()
    }

    fn rest(&mut self) -> Rest {
        let idle = &self.runtime.idle;
        if self.processor.is_some() && (self.searching || idle.start_search()) {
            self.searching = true;
            if self.worker.inbox.load(Relaxed) > 0 {
                return Rest::Up;
            }
            if self.pop_injector() {
                return Rest::Found;
            }
        }
        self.lie_down();
        self.look_and_sleep()
    }

    fn lie_down(&mut self) {
        self.worker.parker.lie_down();
        let processor = self.processor.take();
        if let Some(processor) = processor {
            self.runtime.processors[processor].with_mut(|_| ());
        }
        let searching = std::mem::take(&mut self.searching);
        self.runtime.idle.lie_down(Bed(self.worker), processor, searching);
    }

    fn look_and_sleep(&mut self) -> Rest {
        let idle = &self.runtime.idle;
        let work = idle.any_idle() && self.runtime.has_spare_work();
        if work || self.worker.inbox.load(Relaxed) > 0 || self.worker.stop.load(Relaxed) {
            self.worker.parker.get_up();
            self.get_up();
            return self.up();
        }
        self.worker.parker.sleep(None);
        self.get_up();
        self.up()
    }

    fn up(&self) -> Rest {
        if self.worker.stop.load(Relaxed) { Rest::Stop } else { Rest::Up }
    }

    fn get_up(&mut self) {
        if self.runtime.idle.get_up(Bed(self.worker)) {
            if let Some(processor) = self.runtime.idle.try_take() {
                self.take_assignment(Assignment { processor, searching: false });
            }
            return;
        }
        let mail = self.worker.mailbox.swap(0, Ordering::Acquire);
        assert_ne!(mail, 0, "whoever took us off the list left mail");
        self.take_assignment(Assignment { processor: (mail >> 1) - 1, searching: mail & 1 == 1 });
    }

    fn take_assignment(&mut self, assignment: Assignment) {
        self.runtime.processors[assignment.processor].with_mut(|_| ());
        self.processor = Some(assignment.processor);
        self.searching = assignment.searching;
    }

    fn end_search(&mut self) {
        self.searching = false;
        self.runtime.idle.end_search();
        if self.runtime.has_spare_work()
            && let Some(assignment) = self.runtime.announce()
        {
            self.runtime.start_worker(assignment);
        }
    }
}

fn model(preemptions: usize, f: impl Fn() + Send + Sync + 'static) {
    let mut model = loom::model::Builder::new();
    model.preemption_bound = Some(preemptions);
    model.check(f);
}

/// The first push starts the worker, the second may come at any moment of its search, its work, its last
/// look or its sleep.
#[test]
fn one_processor_and_two_pushes() {
    model(6, || {
        let runtime = Runtime::new(1, 2, 2);
        runtime.inject();
        runtime.inject();
        runtime.join();
    });
}

/// Two producers, of whom one may rely on the other.
///
/// The worker is about to look a last time before it sleeps, for that is where the loop in `summon` is
/// needed. The first producer sees an idle processor, and says that somebody searches; the worker sees the
/// work, and takes the processor back; the first producer finds none; the worker does the work and goes to
/// sleep; the second producer pushes, and relies on the first. That takes three preemptions.
#[test]
fn one_processor_and_two_producers() {
    model(3, || {
        let runtime = Runtime::new(1, 4, 2);
        runtime.start_producer();
        runtime.start_producer();
        let worker = &runtime.workers[runtime.started.fetch_add(1, Relaxed)];
        let processor = runtime.idle.try_take();
        let mut here = Here { runtime: &runtime, worker, processor, searching: false };
        here.lie_down();
        here.go_on();
        runtime.join();
    });
}

/// Two workers, of whom one may be woken for work that the other takes.
#[test]
fn two_processors_and_two_pushes() {
    model(3, || {
        let runtime = Runtime::new(2, 3, 2);
        runtime.inject();
        runtime.inject();
        runtime.join();
    });
}

/// A searcher that finds more than it can use wakes the next.
#[test]
fn two_processors_and_two_producers() {
    model(2, || {
        let runtime = Runtime::new(2, 3, 2);
        runtime.start_producer();
        runtime.inject();
        runtime.join();
    });
}

/// A searcher on which a producer has relied announces what it leaves behind before it goes to work, which
/// may take for ever.
#[test]
fn what_a_searcher_leaves_behind_is_announced() {
    model(3, || {
        let runtime = Arc::new(Runtime::with(2, 4, 2, true));
        runtime.inject();
        runtime.inject();
        runtime.join();
    });
}

/// A worker that has given its processor up is woken for a goroutine at home, while another producer
/// summons somebody: it has mail or none, and loses neither the goroutine nor the processor.
#[test]
fn a_wake_up_for_home_and_a_push() {
    model(4, || {
        let runtime = Runtime::new(1, 2, 3);
        runtime.inject();
        runtime.start_producer();
        runtime.post(0);
        runtime.join();
    });
}
