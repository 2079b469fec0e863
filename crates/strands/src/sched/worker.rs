//! A worker: an OS thread that runs goroutines.
//!
//! Each has goroutines *at home* with it, which no other may run, and most of the time a processor, which
//! entitles it to start fresh ones. Its loop takes turns between the two, so that neither can starve the
//! other; looks at the global queue now and then; and when all is empty it searches, and then sleeps.
//!
//! ```text
//!          inbox ──► home: next, list ──┐
//!   (wake-ups from                      ├─► execute ──► parked / yielded / ended
//!    other threads)    processor: ──────┘
//!                      next, ring ◄── injector, other processors' rings
//! ```
//!
//! # Who may touch what
//!
//! | field | who |
//! |---|---|
//! | `own` | the worker's thread only, by way of a [`Here`]: its loop, and its goroutines while they run |
//! | `inbox`, `parker`, `errands` | anyone |
//! | `mailbox` | the one who takes the worker off the list of sleepers; then the worker |
//! | `progress`, `tallies` | written by the worker, read by anyone |

use super::goroutine::{Goroutine, Started, Turn};
use super::here::Here;
use super::idle::{Assignment, Sleeper};
use super::panic_count::PanicWord;
use super::parker::Parker;
use super::{Runtime, timers};
use crate::queue::{Inbox, List, Pushed};
use crate::stack::{self, SlotRef, StackPool};
use crate::wait;
use crossbeam_utils::CachePadded;
use std::cell::{Cell, UnsafeCell};
use std::io;
use std::num::NonZeroU64;
use std::ptr::NonNull;
use std::sync::Mutex;
use std::sync::atomic::{AtomicBool, AtomicI32, AtomicU64, AtomicUsize, Ordering};
use std::time::Duration;

/// How often the global queue goes before all others. A prime, as in Go, lest it beat with a pattern of
/// the program's.
const INJECTOR_EVERY: u32 = 61;
/// How often a busy worker looks at the clock, if there are timers at all.
const TIMERS_EVERY: u32 = 16;
/// How many goroutines in a row may run out of turn because another has just woken them. A pair that
/// wakes each other for ever must not starve the list. Guessed; see `benches` before changing.
const NEXT_IN_A_ROW: u32 = 32;
/// How often the ring goes before the next slot. Goroutines each of which spawns the next keep the slot full.
const RING_EVERY: u32 = 32;
/// How long a worker searches before it sleeps, in nanoseconds: about what a wake-up costs.
const SEARCH: u64 = 20_000;
/// The same when its last sleep was long, so that work is rare.
const SHORT_SEARCH: u64 = 5_000;
/// A sleep longer than this counts as long.
const LONG_SLEEP: u64 = 1_000_000;
/// How many ids a worker takes at a time.
const IDS: u64 = 128;
/// How long a surplus worker waits for work before its thread ends.
const RETIREMENT: Duration = Duration::from_secs(10);

/// What a worker runs next.
enum Task {
    Fresh(NonNull<Goroutine>),
    Ready(NonNull<Started>),
}

/// How a rest ended.
enum Rest {
    /// Look again.
    Up,
    /// With this found.
    Found(Task),
    /// The thread is no longer needed.
    Retire,
}

pub(crate) struct Worker {
    index: usize,
    runtime: &'static Runtime,
    inbox: CachePadded<Inbox<Started>>,
    parker: CachePadded<Parker>,
    /// An [`Assignment`] as a number; 0 for none.
    mailbox: AtomicUsize,
    /// Counts turns, so that the monitor can see that something moves.
    progress: CachePadded<AtomicU64>,
    tid: AtomicI32,
    spawned: AtomicU64,
    ended: AtomicU64,
    /// Goroutines at home.
    residents: AtomicUsize,
    has_errands: AtomicBool,
    errands: Mutex<Errands>,
    own: Own,
}

// SAFETY: `own` is reached through a `Here` only, which exists on one thread.
unsafe impl Sync for Worker {}
// SAFETY: as above; a worker's record passes from thread to thread only when it is reused, by a spawn.
unsafe impl Send for Worker {}

/// What others ask of a worker, to be done in its loop.
#[derive(Default)]
struct Errands {
    /// Stacks to give memory back from, if they are of this worker's goroutines.
    trims: Vec<SlotRef>,
    /// Whether to give all free stacks back.
    return_stacks: bool,
}

/// What belongs to the worker's thread alone. No reference into it outlives a statement or two, and no
/// user code runs meanwhile: that is what makes the `UnsafeCell`s sound.
struct Own {
    home: UnsafeCell<List<Started>>,
    next: Cell<Option<NonNull<Started>>>,
    in_a_row: Cell<u32>,
    tick: Cell<u32>,
    processor: Cell<Option<usize>>,
    searching: Cell<bool>,
    pool: UnsafeCell<StackPool>,
    ids: Cell<(u64, u64)>,
    panics: Cell<PanicWord>,
    last_sleep: Cell<u64>,
    random: Cell<u64>,
}

impl Worker {
    pub(super) fn new(index: usize, runtime: &'static Runtime) -> Worker {
        Worker {
            index,
            runtime,
            inbox: CachePadded::new(Inbox::new()),
            parker: CachePadded::new(Parker::new()),
            mailbox: AtomicUsize::new(0),
            progress: CachePadded::new(AtomicU64::new(0)),
            tid: AtomicI32::new(0),
            spawned: AtomicU64::new(0),
            ended: AtomicU64::new(0),
            residents: AtomicUsize::new(0),
            has_errands: AtomicBool::new(false),
            errands: Mutex::new(Errands::default()),
            own: Own {
                home: UnsafeCell::new(List::new()),
                next: Cell::new(None),
                in_a_row: Cell::new(0),
                tick: Cell::new(0),
                processor: Cell::new(None),
                searching: Cell::new(false),
                pool: UnsafeCell::new(StackPool::new()),
                ids: Cell::new((0, 0)),
                panics: Cell::new(PanicWord::unknown()),
                last_sleep: Cell::new(0),
                random: Cell::new(0x9e37_79b9_7f4a_7c15 ^ (index as u64 + 1)),
            },
        }
    }

    pub(crate) fn index(&self) -> usize {
        self.index
    }

    pub(crate) fn runtime(&self) -> &'static Runtime {
        self.runtime
    }

    pub(super) fn progress(&self) -> u64 {
        self.progress.load(Ordering::Relaxed)
    }

    /// Its thread's id, or 0 while it has none.
    pub(super) fn tid(&self) -> i32 {
        self.tid.load(Ordering::Acquire)
    }

    /// How many goroutines it has spawned, and how many have ended with it.
    pub(super) fn tallies(&self) -> (u64, u64) {
        (self.spawned.load(Ordering::Relaxed), self.ended.load(Ordering::Relaxed))
    }

    pub(super) fn inbox_is_empty(&self) -> bool {
        self.inbox.is_empty()
    }

    /// Whether goroutines are at home here.
    pub(super) fn has_residents(&self) -> bool {
        self.residents.load(Ordering::Relaxed) > 0
    }

    /// Brings a goroutine that is at home here and has become ready. From any thread.
    pub(super) fn post(&self, started: NonNull<Started>) {
        // SAFETY: the goroutine was parked and has been claimed once, so it is alive and in no queue;
        // only its home takes it out.
        let pushed = unsafe { self.inbox.push(started) };
        if pushed == Pushed::First {
            self.parker.wake();
        }
    }

    /// Leaves stacks to be trimmed if they are at home here, and wakes the worker for it.
    pub(super) fn ask_to_trim(&self, slots: &[SlotRef], return_stacks: bool) {
        let mut errands = self.errands.lock().unwrap_or_else(|e| e.into_inner());
        errands.trims.extend_from_slice(slots);
        errands.return_stacks |= return_stacks;
        drop(errands);
        self.has_errands.store(true, Ordering::SeqCst);
        self.parker.wake();
    }
}

/// What goroutines ask of the worker they run on.
impl Here {
    /// Makes a goroutine ready that is at home here: it runs next.
    #[inline]
    pub(super) fn ready(self, started: NonNull<Started>) {
        if let Some(former) = self.own.next.replace(Some(started)) {
            self.push_home(former);
        }
    }

    #[inline]
    fn push_home(self, started: NonNull<Started>) {
        // SAFETY: `own` is this thread's, and nobody holds a reference to the list; the goroutine is at
        // home here, suspended, and in no other queue.
        unsafe { (*self.own.home.get()).push_back(started) };
    }

    /// Promises a stack for a goroutine about to be spawned.
    #[inline]
    pub(super) fn promise_stack(self, class: stack::Class) -> io::Result<()> {
        // SAFETY: `own` is this thread's, and no reference to the pool is held.
        unsafe { (*self.own.pool.get()).reserve(&self.runtime.stacks, class) }
    }

    /// Takes the promise back.
    pub(super) fn release_promise(self, class: stack::Class) {
        // SAFETY: as in `promise_stack`.
        unsafe { (*self.own.pool.get()).unreserve(&self.runtime.stacks, class) };
    }

    /// An id for a goroutine.
    #[inline]
    pub(super) fn new_id(self) -> NonZeroU64 {
        let (mut next, mut end) = self.own.ids.get();
        if next == end {
            next = self.runtime.take_ids(IDS);
            end = next + IDS;
        }
        self.own.ids.set((next + 1, end));
        NonZeroU64::new(next).expect("ids start at one")
    }

    /// Takes in a goroutine that has just been made, and lets somebody know.
    pub(super) fn push_fresh(self, goroutine: NonNull<Goroutine>) {
        bump(&self.spawned);
        let runtime = self.runtime;
        match self.enter() {
            Some(entered) => {
                let queue = entered.queue();
                // SAFETY: entered: we are the one producer. The goroutine is new and in no queue, and
                // anybody may start it (`go` requires `Send`).
                unsafe { queue.push_next(goroutine, &runtime.injector) };
                drop(entered);
                runtime.announce_own(queue);
            }
            // We are blocked for too long, or surplus: others will run it.
            None => runtime.inject(goroutine),
        }
    }

    /// Enters this worker's processor, if it has one still.
    #[inline]
    fn enter(self) -> Option<super::processor::Entered<'static>> {
        let processor = self.own.processor.get()?;
        let entered = self.runtime.processors[processor].enter(self.index);
        if entered.is_none() {
            self.own.processor.set(None);
        }
        entered
    }
}

/// The loop.
impl Here {
    /// Runs goroutines until the worker retires.
    pub(super) fn work(self, first: Option<Assignment>) {
        self.tid.store(crate::sys::thread_id(), Ordering::Release);
        self.own.panics.set(self.runtime.panic_count.on_this_thread());
        if let Some(assignment) = first {
            self.take_assignment(assignment);
        }
        self.runtime.monitor.nudge();
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
        }
        self.tid.store(0, Ordering::Release);
    }

    /// The next thing to run, without going out of the way for it.
    fn pick(self) -> Option<Task> {
        let tick = self.own.tick.get().wrapping_add(1);
        self.own.tick.set(tick);
        if !self.inbox.is_empty() {
            self.take_in();
        }
        if tick.is_multiple_of(TIMERS_EVERY) {
            self.now_and_then(tick);
        }
        if tick.is_multiple_of(INJECTOR_EVERY)
            && let Some(goroutine) = self.pop_injector()
        {
            return Some(Task::Fresh(goroutine));
        }
        // Home and fresh work take turns. Were one of them always first, two goroutines that yield to
        // each other, or spawn each other, would keep all others waiting.
        let fresh_first = tick.is_multiple_of(2);
        let task = if fresh_first {
            self.pop_fresh(tick).or_else(|| self.pop_home())
        } else {
            self.pop_home().or_else(|| self.pop_fresh(tick))
        };
        task.or_else(|| self.pop_injector().map(Task::Fresh))
    }

    #[cold]
    fn take_in(self) {
        let mut arrived = self.inbox.drain();
        // SAFETY: `own` is this thread's, and nobody holds a reference to the list.
        unsafe { (*self.own.home.get()).append(&mut arrived) };
    }

    #[inline]
    fn pop_home(self) -> Option<Task> {
        if let Some(next) = self.own.next.take() {
            let in_a_row = self.own.in_a_row.get();
            if in_a_row < NEXT_IN_A_ROW {
                self.own.in_a_row.set(in_a_row + 1);
                return Some(Task::Ready(next));
            }
            self.push_home(next);
        }
        self.own.in_a_row.set(0);
        // SAFETY: `own` is this thread's, and nobody holds a reference to the list.
        unsafe { (*self.own.home.get()).pop_front() }.map(Task::Ready)
    }

    #[inline]
    fn pop_fresh(self, tick: u32) -> Option<Task> {
        let processor = self.own.processor.get()?;
        if self.runtime.processors[processor].queue().is_empty() {
            return None;
        }
        let entered = self.enter()?;
        let queue = entered.queue();
        if tick.is_multiple_of(RING_EVERY)
            // SAFETY: entered.
            && let Some(goroutine) = unsafe { queue.ring().pop() }
        {
            return Some(Task::Fresh(goroutine));
        }
        // SAFETY: entered.
        unsafe { queue.pop() }.map(Task::Fresh)
    }

    fn pop_injector(self) -> Option<NonNull<Goroutine>> {
        let injector = &self.runtime.injector;
        if injector.is_empty() {
            return None;
        }
        let entered = self.enter()?;
        // Our share, so that the other processors find something too.
        let share = injector.len() / self.runtime.processors.len();
        // SAFETY: entered: the ring's one producer.
        unsafe { injector.pop_batch_into(entered.queue().ring(), share.min(64)) }
    }

    /// The rarer duties of a busy worker.
    fn now_and_then(self, tick: u32) {
        let timers = &self.runtime.timers;
        if timers.earliest() != timers::NEVER {
            timers.fire(self.runtime.clock.now());
        }
        if self.own.processor.get().is_none() {
            self.take_idle_processor();
        }
        if tick.is_multiple_of(8 * TIMERS_EVERY) && self.has_errands.load(Ordering::Relaxed) {
            self.do_errands();
        }
    }

    fn take_idle_processor(self) {
        if let Some(processor) = self.runtime.idle.try_take() {
            self.take_assignment(Assignment { processor, searching: false });
        }
    }

    fn take_assignment(self, assignment: Assignment) {
        self.runtime.processors[assignment.processor].assign(self.index);
        self.own.processor.set(Some(assignment.processor));
        self.own.searching.set(assignment.searching);
    }

    /// Runs a goroutine until it gives its turn up.
    #[inline]
    fn execute(self, task: Task) {
        let started = match task {
            Task::Ready(started) => started,
            Task::Fresh(goroutine) => self.settle(goroutine),
        };
        self.progress.store(self.progress.load(Ordering::Relaxed) + 1, Ordering::Relaxed);
        // SAFETY: suspended at home here, out of all queues, so alive and ours to resume.
        let record = unsafe { started.as_ref() };
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
                // SAFETY: `own` is this thread's, and no reference to the pool is held.
                unsafe { (*self.own.pool.get()).give(&self.runtime.stacks, slot) };
            }
        }
    }

    /// Gives a fresh goroutine a stack, and makes it at home here.
    fn settle(self, goroutine: NonNull<Goroutine>) -> NonNull<Started> {
        self.residents.store(self.residents.load(Ordering::Relaxed) + 1, Ordering::Relaxed);
        // SAFETY: fresh and just popped: alive.
        let class = unsafe { goroutine.as_ref() }.class();
        // SAFETY: `own` is this thread's, and no reference to the pool is held. A slot was promised when
        // the goroutine was spawned.
        let slot = unsafe { (*self.own.pool.get()).take(&self.runtime.stacks, class) };
        // SAFETY: popped from its queue by us, on this thread.
        unsafe { Started::settle(goroutine, slot, self.worker()) }
    }

    /// Looks further afield, and then sleeps.
    fn rest(self) -> Rest {
        let runtime = self.runtime;
        if self.own.processor.get().is_some()
            && (self.own.searching.get() || runtime.idle.start_search())
        {
            self.own.searching.set(true);
            match self.search() {
                Search::Found(goroutine) => {
                    runtime.search_ended(true);
                    return Rest::Found(Task::Fresh(goroutine));
                }
                Search::Home => return Rest::Up,
                Search::Nothing => runtime.search_ended(false),
            }
        }
        self.parker.lie_down();
        let processor = self.own.processor.take();
        let processor = processor.filter(|p| match runtime.processors[*p].enter(self.index) {
            Some(entered) => {
                entered.release();
                true
            }
            None => false,
        });
        runtime.idle.lie_down(Bed(self.worker()), processor, self.own.searching.take());
        // Work that nobody has a processor for is not ours to look after: those who have them will.
        let work = runtime.idle.any_idle() && runtime.has_spare_work();
        if work || !self.inbox.is_empty() || self.has_errands.load(Ordering::SeqCst) {
            self.parker.get_up();
            self.get_up();
            self.do_errands();
            return Rest::Up;
        }
        self.sleep()
    }

    fn sleep(self) -> Rest {
        let runtime = self.runtime;
        let before = runtime.clock.now();
        let kept = runtime.timers.keep();
        let surplus = !self.has_residents() && self.index >= runtime.processors.len();
        let timeout = match kept {
            Some(until) => Some(Duration::from_nanos(until.saturating_sub(before))),
            None => surplus.then_some(RETIREMENT),
        };
        if timeout.is_none_or(|timeout| !timeout.is_zero()) {
            self.parker.sleep(timeout);
        } else {
            self.parker.get_up();
        }
        let after = runtime.clock.now();
        self.own.last_sleep.set(after - before);
        if let Some(until) = kept {
            runtime.timers.stop_keeping(until);
        }
        let mail = self.get_up();
        if kept.is_some() {
            runtime.timers.fire(after);
        }
        self.do_errands();
        let idle = !mail && self.inbox.is_empty() && self.own.next.get().is_none();
        if surplus && kept.is_none() && idle && after - before >= RETIREMENT.as_nanos() as u64 {
            return self.retire();
        }
        Rest::Up
    }

    /// Comes off the list of sleepers; true if there was mail. Otherwise takes a processor if one is idle.
    ///
    /// The monitor sleeps only while all workers are on the list, and is told by whoever comes off it.
    fn get_up(self) -> bool {
        let alone = self.runtime.idle.get_up(Bed(self.worker()));
        self.runtime.monitor.nudge();
        if alone {
            self.take_idle_processor();
            return false;
        }
        let mail = self.mailbox.swap(0, Ordering::Acquire);
        let assignment = decode(mail).expect("whoever took us off the list left mail");
        self.take_assignment(assignment);
        true
    }

    /// Ends the thread, unless it is needed after all.
    fn retire(self) -> Rest {
        if let Some(entered) = self.enter() {
            entered.release();
            if let Some(processor) = self.own.processor.take() {
                self.runtime.idle.give_back(processor);
            }
            // Somebody may have announced work while the processor was ours.
            self.runtime.announce_spare_work();
        }
        self.give_stacks_back();
        Rest::Retire
    }

    fn end_search(self) {
        self.own.searching.set(false);
        self.runtime.idle.end_search();
        self.runtime.announce_spare_work();
    }

    /// Looks for fresh work everywhere, for a while.
    fn search(self) -> Search {
        let runtime = self.runtime;
        let begun = runtime.clock.now();
        let long = if self.own.last_sleep.get() > LONG_SLEEP { SHORT_SEARCH } else { SEARCH };
        let patience = if runtime.cpus > 1 { long } else { 0 };
        let before = runtime.progress_of_owners();
        loop {
            if !self.inbox.is_empty() {
                return Search::Home;
            }
            if let Some(goroutine) = self.pop_injector().or_else(|| self.steal()) {
                return Search::Found(goroutine);
            }
            let now = runtime.clock.now();
            if runtime.timers.earliest() <= now && runtime.timers.fire(now) {
                return Search::Home;
            }
            if now - begun >= patience {
                break;
            }
            for _ in 0..32 {
                std::hint::spin_loop();
            }
        }
        // A goroutine that waits alone is mostly about to run where its data is. If its processor has
        // not moved since we began to search, it is not.
        self.steal_from_the_stuck(&before).map_or(Search::Nothing, Search::Found)
    }

    /// Half of what another processor has, if it has more than one.
    fn steal(self) -> Option<NonNull<Goroutine>> {
        let processors = &self.runtime.processors;
        let start = self.random() as usize % processors.len();
        for at in (start..processors.len()).chain(0..start) {
            let victim = processors[at].queue();
            if Some(at) != self.own.processor.get() && victim.ring().len() > 1 {
                let entered = self.enter()?;
                // SAFETY: entered: we are the producer of the destination, and it is not the victim's.
                if let Some(goroutine) = unsafe { victim.steal_half_into(entered.queue()) } {
                    return Some(goroutine);
                }
            }
        }
        None
    }

    fn steal_from_the_stuck(self, before: &[Option<(usize, u64)>]) -> Option<NonNull<Goroutine>> {
        let now = self.runtime.progress_of_owners();
        for (at, processor) in self.runtime.processors.iter().enumerate() {
            let victim = processor.queue();
            let stuck = before.get(at) == now.get(at);
            if Some(at) == self.own.processor.get() || !stuck || victim.is_empty() {
                continue;
            }
            let entered = self.enter()?;
            // SAFETY: as in `steal`.
            let found = unsafe { victim.steal_half_into(entered.queue()) };
            if let Some(goroutine) = found.or_else(|| victim.steal_next()) {
                return Some(goroutine);
            }
        }
        None
    }

    fn random(self) -> u64 {
        let mut x = self.own.random.get();
        x ^= x << 13;
        x ^= x >> 7;
        x ^= x << 17;
        self.own.random.set(x);
        x
    }

    fn do_errands(self) {
        if !self.has_errands.swap(false, Ordering::SeqCst) {
            return;
        }
        let errands = std::mem::take(&mut *self.errands.lock().unwrap_or_else(|e| e.into_inner()));
        for slot in errands.trims {
            self.trim(slot);
        }
        if errands.return_stacks {
            self.give_stacks_back();
        }
    }

    /// Gives back the memory below a suspended goroutine of ours.
    fn trim(self, slot: SlotRef) {
        let record = Started::of_slot(slot);
        // SAFETY: slots are never unmapped, and `is_at_home` reads atomics only. If it is true, this very
        // thread settled the goroutine and nobody else changes its record; and since we are in our
        // loop, none of our goroutines runs.
        unsafe {
            if (*record).is_at_home(self.index) {
                let lowest = (*record).lowest_used();
                if lowest != 0 {
                    stack::release_below(slot, lowest.max(slot.limit()));
                    self.runtime.trimmed.fetch_add(1, Ordering::Relaxed);
                }
            }
        }
    }

    fn give_stacks_back(self) {
        // SAFETY: `own` is this thread's, and no reference to the pool is held.
        unsafe { (*self.own.pool.get()).drain(&self.runtime.stacks) };
    }

    /// Hands the processor to another worker, since this thread is about to block.
    #[cold]
    pub(super) fn give_processor_up(self) {
        if let Some(entered) = self.enter() {
            entered.release();
            if let Some(processor) = self.own.processor.take() {
                self.runtime.hand_over(processor);
            }
        }
    }

    /// Waits, as a thread, until `started` is ready again. For a goroutine that must not switch: see
    /// `panic_count`. The processor is handed on first.
    #[cold]
    pub(super) fn block_until_ready(self, started: NonNull<Started>) {
        self.give_processor_up();
        loop {
            self.take_in();
            if self.own.next.get() == Some(started) {
                self.own.next.set(None);
                return;
            }
            // SAFETY: `own` is this thread's, and nobody holds a reference to the list.
            let home = unsafe { &mut *self.own.home.get() };
            for _ in 0..home.len() {
                let Some(first) = home.pop_front() else { break };
                if first == started {
                    return;
                }
                // SAFETY: it was in this list until just now.
                unsafe { home.push_back(first) };
            }
            self.parker.lie_down();
            if self.inbox.is_empty() {
                self.parker.sleep(None);
            } else {
                self.parker.get_up();
            }
        }
    }
}

enum Search {
    Found(NonNull<Goroutine>),
    /// Nothing fresh, but a goroutine at home has become ready.
    Home,
    Nothing,
}

/// Adds one to a counter that only this thread writes.
#[inline]
fn bump(counter: &AtomicU64) {
    counter.store(counter.load(Ordering::Relaxed) + 1, Ordering::Relaxed);
}

/// A worker on the list of sleepers.
#[derive(Clone, Copy)]
pub(crate) struct Bed(pub(super) &'static Worker);

impl PartialEq for Bed {
    fn eq(&self, other: &Self) -> bool {
        std::ptr::eq(self.0, other.0)
    }
}

impl Sleeper for Bed {
    fn assign(self, what: Assignment) {
        self.0.mailbox.store(encode(what), Ordering::Release);
    }

    fn wake(self) {
        self.0.parker.wake();
    }
}

fn encode(what: Assignment) -> usize {
    (what.processor + 1) << 1 | usize::from(what.searching)
}

fn decode(mail: usize) -> Option<Assignment> {
    let processor = (mail >> 1).checked_sub(1)?;
    Some(Assignment { processor, searching: mail & 1 == 1 })
}
