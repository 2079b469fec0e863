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
//! (`turns` is the loop, `rest` is what it does when all is empty, `host` is another life that it may lead, `gifts`
//! spreads connections, `courtesy` has it yield its CPU before it sleeps, `company` take turns on one that it shares, and `batch` has it not wake others for what is soon done; here are the worker's record, and what others and its own goroutines ask of it.)
//!
//! | field | who |
//! |---|---|
//! | `own`, `seat` | the worker's thread only, by way of a [`Here`]: its loop, and its goroutines while they run |
//! | `inbox`, `gifts`, `parker`, `timers`, `errands` | anyone |
//! | `mailbox` | the one who takes the worker off the list of sleepers; then the worker |
//! | `turn`, `tallies`, `tid`, `is_host` | written by the worker, read by anyone |
//! | `thread_pointer` | its thread, and handlers of signals there |
//! | `cpu` | a hint, written by the worker and by whoever has moved it |

mod batch;
mod company;
mod courtesy;
mod gifts;
mod host;
mod rest;
mod turns;

use super::future;
use super::goroutine::{Goroutine, Runnable};
use super::here::Here;
use super::idle::{Assignment, Sleeper};
use super::panic_count::PanicWord;
use super::parker::{Parker, Where};
use super::poller::{self, Poller};
use super::runtime::Runtime;
use super::started::{Look, Started};
use super::tenure::Inside;
use super::timers::{NEVER, Timers};
use crate::queue::{Inbox, List, Pushed, RunQueue};
use crate::stack::{self, SlotRef, StackPool};
use crate::sys::epoll::Events;
use crate::wait::Seat;
use batch::Batch;
use company::Company;
pub(super) use company::Occupants;
use courtesy::Courtesy;
use crossbeam_utils::CachePadded;
use std::cell::{Cell, UnsafeCell};
use std::io;
use std::num::NonZeroU64;
use std::ptr::{self, NonNull};
use std::sync::atomic::{AtomicBool, AtomicI32, AtomicPtr, AtomicU64, AtomicUsize, Ordering};
use std::sync::{Mutex, OnceLock};
use std::time::Duration;

/// How many ids a worker takes at a time.
const IDS: u64 = 128;

#[repr(C)]
pub(crate) struct Worker {
    /// First of all, for the seam knows its thread by it.
    seat: CachePadded<Seat>,
    index: usize,
    runtime: &'static Runtime,
    inbox: CachePadded<Inbox<Started>>,
    /// Fresh goroutines that are to be at home here: see `gifts`.
    gifts: Inbox<Runnable>,
    given: AtomicUsize,
    parker: CachePadded<Parker>,
    /// Of the goroutines at home.
    timers: CachePadded<Timers>,
    /// Made when one of its goroutines first waits for a descriptor.
    poller: OnceLock<Poller>,
    /// An [`Assignment`] as a number; 0 for none.
    mailbox: AtomicUsize,
    turn: CachePadded<TurnMark>,
    tid: AtomicI32,
    thread_pointer: AtomicUsize,
    /// The CPU where it was last seen.
    cpu: AtomicUsize,
    /// Without a processor, for one guest.
    is_host: AtomicBool,
    spawned: AtomicU64,
    ended: AtomicU64,
    /// Goroutines at home.
    residents: AtomicUsize,
    has_errands: AtomicBool,
    errands: Mutex<Errands>,
    own: Own,
}

/// What the monitor sees of the turns that goroutines have.
struct TurnMark {
    /// Counts them, so that it can see that something moves.
    progress: AtomicU64,
    /// Whose it is, or was last. Slots are never unmapped, so it may be read at any time, as dumps do.
    record: AtomicPtr<Started>,
    /// Whether the worker uses its processor's queue.
    inside: Inside,
}

// SAFETY: `own` is reached through a `Here` only, which exists on one thread; `seat` through `wait::seat`, on the same.
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
    /// Taken out of the processor's next slot by a goroutine that parks, for the loop to run at once.
    in_hand: Cell<Option<NonNull<Runnable>>>,
    tick: Cell<u32>,
    processor: Cell<Option<usize>>,
    searching: Cell<bool>,
    /// Whether the next goroutine that is spawned here is to go where there are fewest.
    spreads: Cell<bool>,
    pool: UnsafeCell<StackPool>,
    ids: Cell<(u64, u64)>,
    panics: Cell<PanicWord>,
    /// How long to wait awake for work, in nanoseconds.
    patience: Cell<u64>,
    courtesy: Courtesy,
    company: Company,
    batch: Batch,
    random: Cell<u64>,
}

const _: () = assert!(std::mem::offset_of!(Worker, seat) == 0, "a seat leads to its worker");

/// How many workers there usually are: one for each processor, and some more whose goroutines hold their threads.
fn usual_workers(processors: usize) -> usize {
    (2 * processors).clamp(8, 128)
}

impl Worker {
    pub(super) fn new(index: usize, runtime: &'static Runtime) -> Worker {
        Worker {
            seat: CachePadded::new(Seat::new(usual_workers(runtime.settings.processors))),
            index,
            runtime,
            inbox: CachePadded::new(Inbox::new()),
            gifts: Inbox::new(),
            given: AtomicUsize::new(0),
            parker: CachePadded::new(Parker::new()),
            timers: CachePadded::new(Timers::new()),
            poller: OnceLock::new(),
            mailbox: AtomicUsize::new(0),
            turn: CachePadded::new(TurnMark {
                progress: AtomicU64::new(0),
                record: AtomicPtr::new(ptr::null_mut()),
                inside: Inside::new(),
            }),
            tid: AtomicI32::new(0),
            thread_pointer: AtomicUsize::new(0),
            cpu: AtomicUsize::new(0),
            is_host: AtomicBool::new(false),
            spawned: AtomicU64::new(0),
            ended: AtomicU64::new(0),
            residents: AtomicUsize::new(0),
            has_errands: AtomicBool::new(false),
            errands: Mutex::new(Errands::default()),
            own: Own {
                home: UnsafeCell::new(List::new()),
                next: Cell::new(None),
                in_a_row: Cell::new(0),
                in_hand: Cell::new(None),
                tick: Cell::new(0),
                processor: Cell::new(None),
                searching: Cell::new(false),
                spreads: Cell::new(false),
                pool: UnsafeCell::new(StackPool::new()),
                ids: Cell::new((0, 0)),
                panics: Cell::new(PanicWord::unknown()),
                patience: Cell::new(rest::SEARCH),
                courtesy: Courtesy::new(),
                company: Company::new(),
                batch: Batch::new(),
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

    pub(super) fn timers(&self) -> &Timers {
        &self.timers
    }

    pub(super) fn progress(&self) -> u64 {
        self.turn.progress.load(Ordering::Relaxed)
    }

    /// Marks the beginning of a goroutine's turn.
    #[inline]
    fn begin_turn(&self, started: NonNull<Started>) {
        bump(&self.turn.progress);
        // Ordering: Release pairs with the Acquire in `whose_turn`: with the record comes its number.
        self.turn.record.store(started.as_ptr(), Ordering::Release);
    }

    /// Marks that no goroutine has a turn: whatever the thread does now is not the last one's doing.
    fn end_turns(&self) {
        self.turn.record.store(ptr::null_mut(), Ordering::Release);
        bump(&self.turn.progress);
    }

    /// The goroutine whose turn it is here, if `progress`, which was read a while ago, is that turn's.
    pub(super) fn whose_turn(&self, progress: u64) -> Option<Look> {
        // Ordering: Acquire, see `begin_turn`: if this is the next turn's record, its number is there too.
        let record = self.turn.record.load(Ordering::Acquire);
        // SAFETY: put there by the worker's loop: a record in a slot.
        let look = NonNull::new(record).and_then(|record| unsafe { Look::at_record(record) })?;
        (self.progress() == progress && look.home == self.index).then_some(look)
    }

    /// Its word whether it uses its processor's queue.
    pub(super) fn inside(&self) -> &Inside {
        &self.turn.inside
    }

    /// The address of the futex that it sleeps on then.
    pub(super) fn futex(&self) -> usize {
        self.parker.address()
    }

    /// Whether it is a host.
    pub(super) fn is_host(&self) -> bool {
        self.is_host.load(Ordering::Relaxed)
    }

    /// Whether its thread sleeps because there is nothing to do.
    pub(super) fn is_asleep(&self) -> bool {
        self.parker.is_asleep()
    }

    /// How many goroutines it has spawned, and how many have ended with it.
    pub(super) fn tallies(&self) -> (u64, u64) {
        (self.spawned.load(Ordering::Relaxed), self.ended.load(Ordering::Relaxed))
    }

    pub(super) fn inbox_is_empty(&self) -> bool {
        self.inbox.is_empty() && !self.has_gifts()
    }

    /// Its poller, if it has one.
    pub(super) fn poller(&self) -> Option<&Poller> {
        self.poller.get()
    }

    /// Wakes it if it sleeps.
    #[inline]
    fn wake(&self) {
        self.parker.wake_by(|| {
            if let Some(poller) = self.poller.get() {
                poller.ring();
            }
        });
    }

    /// Whether goroutines are at home here.
    pub(super) fn has_residents(&self) -> bool {
        self.residents.load(Ordering::Relaxed) > 0
    }

    /// How many.
    pub(super) fn residents(&self) -> usize {
        self.residents.load(Ordering::Relaxed)
    }

    /// Brings a goroutine that is at home here and has become ready. From any thread.
    pub(super) fn post(&self, started: NonNull<Started>) {
        // SAFETY: the goroutine was parked and has been claimed once, so it is alive and in no queue;
        // only its home takes it out.
        let pushed = unsafe { self.inbox.push(started) };
        if pushed == Pushed::First {
            self.wake();
        }
    }

    /// Wakes it, to look at what there is for it.
    pub(super) fn call(&self) {
        self.wake();
    }

    /// Leaves stacks to be trimmed if they are at home here, and wakes the worker for it.
    pub(super) fn ask_to_trim(&self, slots: &[SlotRef], return_stacks: bool) {
        let mut errands = self.errands.lock().unwrap_or_else(|e| e.into_inner());
        errands.trims.extend_from_slice(slots);
        errands.return_stacks |= return_stacks;
        drop(errands);
        self.has_errands.store(true, Ordering::SeqCst);
        self.wake();
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

    /// Makes goroutines ready whose time has come; true if there were any.
    ///
    /// They go to the end of the list, in the order of their deadlines, and not into the next slot: they have
    /// been woken by nobody who hands something over.
    fn fire_timers(self, now: u64) -> bool {
        let next = self.own.next.take();
        self.own.batch.begin();
        let any = self.timers.fire(now, |wake| {
            wake.deliver();
            if let Some(started) = self.own.next.take() {
                // SAFETY: it has just been made ready, so it is alive until it runs, which is later and here.
                unsafe { started.as_ref() }.prefetch_cold();
                self.push_home(started);
            }
        });
        self.own.next.set(next);
        let others = if any { self.work_for_others() } else { 0 };
        if self.own.batch.end(any, others, || self.runtime.clock.now()) {
            self.runtime.announce();
        }
        any
    }

    /// How many are in its processor's queue that others may take.
    fn work_for_others(self) -> usize {
        let processor = self.own.processor.get();
        processor.map_or(0, |processor| self.runtime.processors[processor].queue().ring().len())
    }

    /// Announces what is in its own queue, unless that is a batch that is still coming in.
    #[inline]
    fn announce_own(self, queue: &RunQueue<Runnable>) {
        if !self.own.batch.is_filling() {
            self.runtime.announce_own(queue);
        }
    }

    /// A turn has ended, before which nobody had been told of what the timers brought. If it lasts, somebody is.
    #[cold]
    fn tell_of_batch(self) {
        let others = self.work_for_others();
        if self.own.batch.has_lasted(others, || self.runtime.clock.now()) {
            self.runtime.announce();
        }
    }

    /// Its poller, made now if it has none.
    pub(super) fn poller_or_make(self) -> io::Result<&'static Poller> {
        let worker = self.worker();
        match worker.poller.get() {
            Some(poller) => Ok(poller),
            None => {
                let poller = Poller::new()?;
                Ok(worker.poller.get_or_init(|| poller))
            }
        }
    }

    /// Whether this is its poller.
    #[inline]
    pub(super) fn has_poller(self, poller: &Poller) -> bool {
        self.poller.get().is_some_and(|mine| ptr::eq(mine, poller))
    }

    /// Its poller, if anything is registered there.
    #[inline]
    fn poller_in_use(self) -> Option<&'static Poller> {
        self.worker().poller.get().filter(|poller| poller.has_sources())
    }

    /// Makes goroutines ready whose descriptors have become so, and returns how many.
    fn look_at_poller(self, now: u64) -> usize {
        let Some(poller) = self.poller_in_use() else { return 0 };
        let mut woken = 0;
        let mut events = Events::new();
        loop {
            poller.look(&mut events, now);
            woken += self.deliver(&events);
            if !events.is_full() {
                return woken;
            }
        }
    }

    /// Wakes those who have waited for these. They go to the end of the list, as in `fire_timers`.
    fn deliver(self, events: &Events) -> usize {
        let next = self.own.next.take();
        let mut foreign = Vec::new();
        let woken = poller::handle(events, |wake| {
            if future::is_foreign(&wake) {
                foreign.push(wake);
                return;
            }
            wake.deliver();
            if let Some(started) = self.own.next.take() {
                self.push_home(started);
            }
        });
        self.own.next.set(next);
        if !foreign.is_empty() {
            poller::deliver_aside(foreign);
        }
        woken
    }

    /// Where it is to sleep now.
    fn bed(self) -> Where {
        if self.poller_in_use().is_some() { Where::Poller } else { Where::Futex }
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
        if self.own.spreads.get() {
            self.own.spreads.set(false);
            if self.give_away(goroutine) {
                return;
            }
        }
        match self.enter() {
            Some(entered) => {
                let queue = entered.queue();
                // SAFETY: entered: we are the one producer. The goroutine is new and in no queue, and
                // anybody may start it (`go` requires `Send`).
                unsafe { queue.push_next(goroutine.cast(), &runtime.injector) };
                drop(entered);
                self.announce_own(queue);
            }
            // We are blocked for too long, or surplus: others will run it.
            None => runtime.inject(goroutine),
        }
    }

    /// Takes in a future that has been woken, to run next.
    pub(super) fn push_woken(self, future: NonNull<Goroutine>) {
        let runtime = self.runtime;
        match self.enter() {
            Some(entered) => {
                let queue = entered.queue();
                // SAFETY: entered: we are the one producer. Whoever calls has scheduled it, so it is in no
                // queue and stays, and anybody may poll it (its future is `Send`).
                unsafe { queue.push_next(future.cast(), &runtime.injector) };
                drop(entered);
                self.announce_own(queue);
            }
            None => runtime.inject(future),
        }
    }

    /// Takes in a future that wants another turn, behind all others.
    pub(super) fn push_back(self, future: NonNull<Goroutine>) {
        match self.enter() {
            // SAFETY: as in `push_woken`.
            Some(entered) => unsafe { entered.queue().push(future.cast(), &self.runtime.injector) },
            None => self.runtime.inject(future),
        }
    }

    /// Makes a roaming goroutine ready: it runs next. Called by its waker, on this worker.
    pub(super) fn ready_roaming(self, started: NonNull<Started>) {
        let runnable = Started::as_runnable(started);
        match self.enter() {
            Some(entered) => {
                let queue = entered.queue();
                // SAFETY: entered: we are the one producer. It is suspended, in no queue, and roams.
                unsafe { queue.push_next(runnable, &self.runtime.injector) };
                drop(entered);
                self.announce_own(queue);
            }
            // SAFETY: as above.
            None => unsafe { self.runtime.inject_ready(runnable) },
        }
    }

    /// Puts a roaming goroutine that has given its turn up behind the others.
    pub(super) fn requeue_roaming(self, started: NonNull<Started>) {
        let runnable = Started::as_runnable(started);
        match self.enter() {
            Some(entered) => {
                let queue = entered.queue();
                // SAFETY: as in `ready_roaming`.
                unsafe { queue.push(runnable, &self.runtime.injector) };
                drop(entered);
                self.announce_own(queue);
            }
            // SAFETY: as above.
            None => unsafe { self.runtime.inject_ready(runnable) },
        }
    }

    /// Enters this worker's processor, if it has one still.
    #[inline]
    fn enter(self) -> Option<super::processor::Entered<'static>> {
        let processor = self.own.processor.get()?;
        let worker = self.worker();
        let entered = self.runtime.processors[processor].enter(self.index, worker.inside());
        if entered.is_none() {
            self.own.processor.set(None);
        }
        entered
    }

    fn do_errands(self) {
        if !self.has_errands.swap(false, Ordering::SeqCst) {
            return;
        }
        let errands = std::mem::take(&mut *self.errands.lock().unwrap_or_else(|e| e.into_inner()));
        for slot in errands.trims {
            self.trim(slot);
        }
        // SAFETY: `own` is this thread's, and no reference to the pool is held.
        if errands.return_stacks && !unsafe { (*self.own.pool.get()).is_empty() } {
            self.give_stacks_back();
            // The monitor may take us for asleep still. By this it sees that there is something to trim.
            bump(&self.turn.progress);
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

    /// Sleeps where it lay down, until it is woken, something has become ready, or the time is up.
    fn sleep_in(self, bed: Where, timeout: Option<Duration>, events: &mut Events) {
        match (bed, self.worker().poller.get()) {
            (Where::Poller, Some(poller)) => {
                self.parker.sleep_by(|| poller.sleep(events, timeout));
                poller.got_up(self.runtime.clock.now());
            }
            _ => self.parker.sleep(timeout),
        }
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
            let bed = self.bed();
            self.parker.lie_down_in(bed);
            let (until, now) = (self.timers.earliest(), self.runtime.clock.now());
            if self.inbox.is_empty() && until > now {
                let timeout = (until != NEVER).then(|| Duration::from_nanos(until - now));
                let mut events = Events::new();
                self.sleep_in(bed, timeout, &mut events);
                self.deliver(&events);
            } else {
                self.parker.get_up();
            }
            self.fire_timers(self.runtime.clock.now());
        }
    }
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
        ptr::eq(self.0, other.0)
    }
}

impl Sleeper for Bed {
    fn assign(self, what: Assignment) {
        self.0.mailbox.store(encode(what), Ordering::Release);
    }

    fn wake(self) {
        self.0.wake();
    }
}

fn encode(what: Assignment) -> usize {
    (what.processor + 1) << 1 | usize::from(what.searching)
}

fn decode(mail: usize) -> Option<Assignment> {
    let processor = (mail >> 1).checked_sub(1)?;
    Some(Assignment { processor, searching: mail & 1 == 1 })
}
