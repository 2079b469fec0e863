//! A worker's loop: what runs next, and running it.

use super::super::future;
use super::super::goroutine::{Goroutine, Runnable};
use super::super::here::Here;
use super::super::hosts::Guest;
use super::super::idle::Assignment;
use super::super::offenders::Held;
use super::super::roaming;
use super::super::started::{Started, Turn};
use super::super::timers::NEVER;
use super::rest::Rest;
use super::{Worker, bump};
use crate::stack::Slot;
use crate::switch::Switch;
use crate::wait;
use std::ptr::NonNull;
use std::sync::atomic::Ordering;

/// How often the global queue goes before all others. A prime, as in Go, lest it beat with a pattern of
/// the program's.
const INJECTOR_EVERY: u32 = 61;
/// How often a busy worker looks at the clock, if there are timers at all.
const TIMERS_EVERY: u32 = 16;
/// How long a busy worker does without a look at its poller, in nanoseconds.
const LOOK_EVERY: u64 = 50_000;
/// How many goroutines in a row may run out of turn because another has just woken them. A pair that
/// wakes each other for ever must not starve the list. Guessed; see `benches` before changing.
const NEXT_IN_A_ROW: u32 = 32;
/// The ring is filled up from the global queue to this length; and if it is longer, so many are added, so that nobody
/// starves there.
const SHORT_RING: usize = 64;
const FEW: usize = 8;
/// How often the ring goes before the next slot. Goroutines each of which spawns the next keep the slot full.
const RING_EVERY: u32 = 32;
/// What a worker runs next.
pub(super) enum Task {
    Fresh(NonNull<Goroutine>),
    Ready(NonNull<Started>),
}

impl Task {
    /// What has come out of a queue that everybody takes from.
    #[inline]
    pub(super) fn of(runnable: NonNull<Runnable>) -> Task {
        match Runnable::as_fresh(runnable) {
            Some(goroutine) => Task::Fresh(goroutine),
            None => Task::Ready(Started::of_runnable(runnable)),
        }
    }
}

impl Worker {
    /// Its thread's id, or 0 while it has none.
    pub(in crate::sched) fn tid(&self) -> i32 {
        self.tid.load(Ordering::Acquire)
    }

    /// The thread pointer of its thread, for handlers of signals there, which may have interrupted a goroutine that has
    /// another. 0 while no goroutine can run there.
    pub(in crate::sched) fn thread_pointer(&self) -> usize {
        // Ordering: Relaxed: the same thread has written it, see `move_in`.
        self.thread_pointer.load(Ordering::Relaxed)
    }
}

impl Here {
    /// Runs goroutines until the worker retires.
    pub(in crate::sched) fn work(self, first: Option<Assignment>) {
        if let Some(assignment) = first {
            self.take_assignment(assignment);
        }
        self.move_in();
        loop {
            let task = match self.pick() {
                Some(task) => task,
                None => match self.rest() {
                    Rest::Up => continue,
                    Rest::Found(task) => task,
                    Rest::Retire => break,
                },
            };
            if self.own.searching.get() {
                self.end_search();
            }
            self.execute(task);
            if self.own.batch.is_untold() {
                self.tell_of_batch();
            }
        }
        self.move_out();
    }

    /// Makes the calling thread the worker's.
    pub(super) fn move_in(self) {
        // Ordering: Relaxed: read by handlers on this thread only.
        self.thread_pointer.store(roaming::thread_pointer(), Ordering::Relaxed);
        self.tid.store(crate::sys::thread_id(), Ordering::Release);
        self.own.panics.set(self.runtime.panic_count.on_this_thread());
        self.runtime.monitor.nudge();
    }

    /// The thread is about to end.
    pub(super) fn move_out(self) {
        self.tid.store(0, Ordering::Release);
        // Ordering: Relaxed: as in `move_in`. The next thread is not to find this one's.
        self.thread_pointer.store(0, Ordering::Relaxed);
    }

    /// The next thing to run, without going out of the way for it.
    ///
    /// Most often it is the goroutine that was woken last. All else gets its turn when so many of these have
    /// run in a row, and every sixteenth time.
    #[inline(always)]
    pub(super) fn pick(self) -> Option<Task> {
        let tick = self.own.tick.get().wrapping_add(1);
        self.own.tick.set(tick);
        let nothing_arrived = self.inbox_is_empty();
        if nothing_arrived
            && !tick.is_multiple_of(TIMERS_EVERY)
            && let Some(next) = self.take_next()
        {
            return Some(Task::Ready(next));
        }
        if let Some(runnable) = self.own.in_hand.take() {
            return Some(Task::of(runnable));
        }
        if !nothing_arrived {
            self.take_in();
        }
        if tick.is_multiple_of(TIMERS_EVERY) {
            self.now_and_then(tick);
        }
        if tick.is_multiple_of(INJECTOR_EVERY)
            && let Some(goroutine) = self.pop_injector()
        {
            return Some(Task::of(goroutine));
        }
        // Home and fresh work take turns. Were one of them always first, two goroutines that yield to
        // each other, or spawn each other, would keep all others waiting.
        let fresh_first = tick.is_multiple_of(2);
        let task = if fresh_first {
            self.pop_fresh(tick).or_else(|| self.pop_home())
        } else {
            self.pop_home().or_else(|| self.pop_fresh(tick))
        };
        task.or_else(|| self.pop_injector().map(Task::of))
    }

    #[cold]
    pub(super) fn take_in(self) {
        let mut arrived = self.inbox.drain();
        // SAFETY: `own` is this thread's, and nobody holds a reference to the list.
        unsafe { (*self.own.home.get()).append(&mut arrived) };
        if self.has_gifts() {
            self.take_gifts();
        }
    }

    /// The goroutine that was woken last, unless too many of its kind have run in a row.
    #[inline]
    fn take_next(self) -> Option<NonNull<Started>> {
        let next = self.own.next.get()?;
        let in_a_row = self.own.in_a_row.get();
        if in_a_row == NEXT_IN_A_ROW {
            return None;
        }
        self.own.in_a_row.set(in_a_row + 1);
        self.own.next.set(None);
        Some(next)
    }

    #[inline]
    fn pop_home(self) -> Option<Task> {
        if let Some(next) = self.take_next() {
            return Some(Task::Ready(next));
        }
        if let Some(next) = self.own.next.take() {
            self.push_home(next);
        }
        self.own.in_a_row.set(0);
        // SAFETY: `own` is this thread's, and nobody else holds a reference to the list.
        let home = unsafe { &mut *self.own.home.get() };
        let first = home.pop_front()?;
        if let Some(second) = home.front() {
            Started::prefetch(second);
        }
        Some(Task::Ready(first))
    }

    #[inline]
    fn pop_fresh(self, tick: u32) -> Option<Task> {
        let processor = self.own.processor.get()?;
        if self.runtime.processors[processor].queue().is_empty() {
            return None;
        }
        if !tick.is_multiple_of(RING_EVERY)
            && let Some(runnable) = self.take_processors_next(processor)
        {
            return Some(Task::of(runnable));
        }
        let entered = self.enter()?;
        let queue = entered.queue();
        if tick.is_multiple_of(RING_EVERY)
            // SAFETY: entered.
            && let Some(goroutine) = unsafe { queue.ring().pop() }
        {
            return Some(Task::of(goroutine));
        }
        // SAFETY: entered.
        unsafe { queue.pop() }.map(Task::of)
    }

    /// What is in the next slot of the processor, which was ours. There is no need to enter it for that. If it has been
    /// taken away just now, this is a theft, and one goroutine starts without a processor.
    #[inline]
    fn take_processors_next(self, processor: usize) -> Option<NonNull<Runnable>> {
        let processor = &self.runtime.processors[processor];
        (processor.owner() == Some(self.index)).then(|| processor.queue().steal_next())?
    }

    /// The roaming goroutine that runs next, if there is one and nothing else comes before it. Asked by one that is
    /// about to park, or to give its turn up: from here on the turn is the other's.
    #[inline]
    pub(in crate::sched) fn successor(self, of: Switch) -> Option<NonNull<Started>> {
        let processor = self.own.processor.get()?;
        let tick = self.own.tick.get().wrapping_add(1);
        // SAFETY: `own` is this thread's, and nobody else holds a reference to the list.
        let none_at_home = unsafe { &*self.own.home.get() }.front().is_none();
        if tick.is_multiple_of(TIMERS_EVERY)
            || tick.is_multiple_of(INJECTOR_EVERY)
            || !self.inbox_is_empty()
            || self.own.next.get().is_some()
            || self.own.batch.is_untold()
            || !none_at_home
        {
            return None;
        }
        let runnable = match of {
            // The one that it has just woken, most often. What is in the ring waits for the loop, which has other things
            // to look at as well when a turn ends with nobody woken.
            Switch::Parked => self.take_processors_next(processor)?,
            // SAFETY: entered.
            _ => unsafe { self.enter()?.queue().pop()? },
        };
        match Task::of(runnable) {
            Task::Ready(started) => {
                self.own.tick.set(tick);
                self.begin_turn(started);
                Some(started)
            }
            // It has to be started by the loop, whose turn it is in a moment.
            Task::Fresh(_) => {
                self.own.in_hand.set(Some(runnable));
                None
            }
        }
    }

    /// Whether nothing is ready here but the goroutine that asks, and there are processors besides this one.
    pub(in crate::sched) fn has_nothing_else(self) -> bool {
        let Some(processor) = self.own.processor.get() else { return false };
        let processors = &self.runtime.processors;
        // SAFETY: `own` is this thread's, and nobody else holds a reference to the list.
        let none_at_home = unsafe { &*self.own.home.get() }.front().is_none();
        none_at_home
            && self.own.next.get().is_none()
            && self.own.in_hand.get().is_none()
            && self.inbox_is_empty()
            && processors.len() > 1
            && self.runtime.cpus > 1
            && processors[processor].queue().is_empty()
    }

    pub(super) fn pop_injector(self) -> Option<NonNull<Runnable>> {
        let injector = &self.runtime.injector;
        if injector.is_empty() {
            return None;
        }
        let entered = self.enter()?;
        let ring = entered.queue().ring();
        // Our share, so that the other processors find something too; and few if the ring is not short, lest those that
        // become ready and roam be driven out of it, to where they take turns with thousands that have not started.
        let share = injector.len() / self.runtime.processors.len();
        let most = share.min(SHORT_RING.saturating_sub(ring.len()).max(FEW));
        // SAFETY: entered: the ring's one producer.
        unsafe { injector.pop_batch_into(ring, most) }
    }

    /// The rarer duties of a busy worker.
    fn now_and_then(self, tick: u32) {
        if self.timers.earliest() != NEVER {
            self.fire_timers(self.runtime.clock.now());
        }
        if self.poller_in_use().is_some_and(|poller| {
            poller.last_look().is_none_or(|look| self.runtime.clock.now() > look + LOOK_EVERY)
        }) {
            let now = self.runtime.clock.now();
            self.look_at_poller(now);
            self.take_turns(now);
        }
        if self.own.processor.get().is_none() && !self.is_host() {
            self.take_idle_processor();
        }
        if tick.is_multiple_of(8 * TIMERS_EVERY) && self.has_errands.load(Ordering::Relaxed) {
            self.do_errands();
        }
    }

    pub(super) fn take_idle_processor(self) {
        if let Some(processor) = self.runtime.idle.try_take() {
            self.take_assignment(Assignment { processor, searching: false });
        }
    }

    pub(super) fn take_assignment(self, assignment: Assignment) {
        self.runtime.processors[assignment.processor].tenure().assign(self.index);
        self.own.processor.set(Some(assignment.processor));
        self.own.searching.set(assignment.searching);
    }

    /// Runs a goroutine until it gives its turn up.
    #[inline(always)]
    pub(super) fn execute(self, task: Task) {
        let started = match task {
            Task::Ready(started) => started,
            Task::Fresh(goroutine) => match self.keep(goroutine) {
                Some(goroutine) => self.settle(goroutine),
                None => return,
            },
        };
        self.begin_turn(started);
        // SAFETY: suspended at home here (or roaming), out of all queues, so alive and ours to resume.
        let record = unsafe { started.as_ref() };
        if record.roams() {
            return self.execute_roaming(started);
        }
        wait::set_current(started.as_ptr().cast());
        let panics = self.own.panics.get();
        panics.restore(record.panics());
        // SAFETY: this is its home's loop, see above.
        let turn = unsafe { record.resume() };
        match turn {
            Turn::Parked => panics.save(record.panics()),
            Turn::Yielded => {
                panics.save(record.panics());
                self.push_home(started);
            }
            Turn::Ended(slot) => {
                bump(&self.ended);
                self.residents.store(self.residents.load(Ordering::Relaxed) - 1, Ordering::Relaxed);
                self.take_back(slot);
            }
            Turn::Paused(slot, goroutine) => {
                self.residents.store(self.residents.load(Ordering::Relaxed) - 1, Ordering::Relaxed);
                // Before anybody may start it again, since it will ask for a stack by the same promise.
                // SAFETY: as above.
                unsafe { (*self.own.pool.get()).give_lent(&self.runtime.stacks, slot) };
                // SAFETY: a future, polled just now by its one runner, which we are.
                if unsafe { future::pause(goroutine) } {
                    self.push_back(goroutine);
                }
            }
        }
    }

    /// The same for a goroutine that roams.
    #[inline(never)]
    fn execute_roaming(self, started: NonNull<Started>) {
        // SAFETY: as in `execute`.
        let record = unsafe { started.as_ref() };
        // SAFETY: out of all queues: ours to resume.
        let (whose, turn) = unsafe { record.resume_roaming(self.worker()) };
        match turn {
            // From the moment that it has parked it is its waker's, and perhaps runs elsewhere already.
            Turn::Parked => {
                // SAFETY: until then it is ours.
                if !unsafe { whose.as_ref() }.park_or_go_on() {
                    self.ready_roaming(whose);
                }
            }
            Turn::Yielded => self.requeue_roaming(whose),
            Turn::Paused(..) => unreachable!("no future roams"),
            Turn::Ended(slot) => {
                bump(&self.ended);
                self.take_back(slot);
            }
        }
    }

    #[inline]
    fn take_back(self, slot: Slot) {
        // SAFETY: `own` is this thread's, and no reference to the pool is held.
        unsafe { (*self.own.pool.get()).give(&self.runtime.stacks, slot) };
    }

    /// A goroutine to start here. One whose like are known to hold their threads goes to a thread of its own
    /// instead, if there is one: see `offenders`.
    #[inline]
    pub(super) fn keep(self, goroutine: NonNull<Goroutine>) -> Option<NonNull<Goroutine>> {
        if self.runtime.offenders.any() {
            self.keep_well_behaved(goroutine)
        } else {
            Some(goroutine)
        }
    }

    #[cold]
    fn keep_well_behaved(self, goroutine: NonNull<Goroutine>) -> Option<NonNull<Goroutine>> {
        // SAFETY: fresh and just popped: alive.
        let fresh = unsafe { goroutine.as_ref() };
        if self.is_host() {
            return Some(goroutine);
        }
        let site = fresh.site();
        match self.runtime.offenders.find(site) {
            // One that roams has no siblings that would wait for a hog: it has to be shared with like any other.
            Some(Held::Hogged) if fresh.roams() => Some(goroutine),
            Some(held) => self.runtime.set_apart(site, Guest { goroutine, held }),
            None => Some(goroutine),
        }
    }

    /// Gives a fresh goroutine a stack, and makes it at home here, unless it roams.
    #[inline(always)]
    pub(super) fn settle(self, goroutine: NonNull<Goroutine>) -> NonNull<Started> {
        // SAFETY: fresh and just popped: alive.
        let class = unsafe { goroutine.as_ref() }.class();
        // SAFETY: `own` is this thread's, and no reference to the pool is held. A slot was promised when
        // the goroutine was spawned.
        let slot = unsafe { (*self.own.pool.get()).take(&self.runtime.stacks, class) };
        // SAFETY: popped from its queue by us, on this thread.
        let started = unsafe { Started::settle(goroutine, slot, self.worker()) };
        // SAFETY: just made.
        if !unsafe { started.as_ref() }.roams() {
            self.residents.store(self.residents.load(Ordering::Relaxed) + 1, Ordering::Relaxed);
        }
        started
    }
}
