//! The record at the top of a started goroutine's stack: suspending it, resuming it, and looking at it from
//! elsewhere. Its place among the records is drawn in `goroutine`.

use super::goroutine::{Birth, Goroutine, Runnable};
use super::here::Here;
use super::locals::Owner;
use super::offenders::Site;
use super::roaming::{self, BlockPlace, Stage};
use super::timers;
use super::worker::Worker;
use crate::identity::{Identity, ThreadId};
use crate::queue::{Link, Linked};
use crate::stack::{self, Slot, SlotRef};
use crate::switch::{self, Farewell, Machine, Switch};
use crate::sys::{self, cache};
use crate::wait::{Followed, Held, Reason, ShortLock, TaskHeader, TaskVtable, WaitKind, Waiter};
use std::cell::Cell;
use std::num::NonZeroU64;
use std::panic::Location;
use std::ptr::{self, NonNull};
use std::sync::Arc;
use std::sync::atomic::{AtomicPtr, AtomicU8, AtomicU64, AtomicUsize, Ordering, fence};
use std::time::Instant;

/// In `home_index`: it is the worker on which a roaming goroutine last ran.
const ROAMING: usize = 1 << (usize::BITS - 1);

/// What a suspended goroutine may need below the stack pointer that it had when it called the switch, which pushes
/// a few words more.
const BELOW_SUSPENDED: usize = 1024;
/// Cache lines of frames that most goroutines go through between a wake-up and the next wait, or their end.
const FRAMES: usize = 10;

/// What a resumed goroutine did.
#[must_use]
pub(crate) enum Turn {
    /// It waits; its record is in nobody's queue (or already in its home's inbox).
    Parked,
    /// It is ready for another turn.
    Yielded,
    /// It has ended, and this was its stack.
    Ended(Slot),
    /// It is a future that was polled in vain, and this was its stack.
    Paused(Slot, NonNull<Goroutine>),
}

/// The record at the top of a started goroutine's stack.
///
/// What a switch touches comes first, in two cache lines; the rest is for dumps.
#[repr(C, align(64))]
pub(crate) struct Started {
    task: TaskHeader,
    link: Link<Started>,
    /// Of a roaming goroutine: for the queues that everybody takes from.
    runnable: Runnable,
    /// Of a roaming goroutine: the worker that it started with.
    home: &'static Worker,
    /// Its heap record; null when that may be gone.
    goroutine: Cell<*const Goroutine>,
    machine: Machine,
    /// Below this address the stack of a parked goroutine holds nothing.
    lowest_used: AtomicUsize,
    /// Its share of std's panic count while it is suspended: see `panic_count`.
    panics: Cell<[usize; 2]>,
    /// What it waits for and since when. From here on everything is read by dumps, from other threads at
    /// any time.
    object: AtomicUsize,
    since: AtomicU64,
    kind: AtomicU8,
    has_name: Cell<bool>,
    /// Whether it has thread-locals of its own, and is at home nowhere.
    roams: Cell<bool>,
    /// Of a roaming goroutine: whose it is while it is suspended.
    stage: Stage,
    /// The slot's thread-local block, if it has one. It stays with the slot when the goroutine ends.
    block: BlockPlace,
    /// The stack, until the goroutine has ended.
    slot: Cell<Option<Slot>>,
    /// 0: nobody.
    id: AtomicU64,
    /// Of a roaming goroutine: the worker that it last ran on.
    home_index: AtomicUsize,
    birth: AtomicPtr<Location<'static>>,
    /// Of its closure: see `Goroutine::kind`.
    closure: AtomicUsize,
    /// While it waits for a lock. It follows nothing when the goroutine ends, so it needs no fresh start.
    followed: Followed,
    name: ShortLock<Option<Arc<Identity>>>,
}

// What a switch touches is in two cache lines, where the switch is our own.
#[cfg(all(target_arch = "x86_64", not(strands_portable_switch)))]
const _: () = assert!(std::mem::offset_of!(Started, id) <= 128);

// SAFETY: as for `Goroutine`.
unsafe impl Linked for Started {
    fn link(&self) -> &Link<Started> {
        &self.link
    }
}

static TASK_VTABLE: TaskVtable =
    TaskVtable { park, park_until, unpark, give_way, is_alone, followed };

/// # Safety
/// See [`TaskVtable::park`].
unsafe fn park(task: &TaskHeader, why: Reason) {
    // SAFETY: our vtable is in our records only, whose first field the header is.
    let started = unsafe { &*ptr::from_ref(task).cast::<Started>() };
    started.note(why);
    started.wait();
}

/// # Safety
/// See [`TaskVtable::park_until`].
unsafe fn park_until(task: &TaskHeader, why: Reason, waiter: &Waiter, deadline: Instant) {
    // SAFETY: as in `park`.
    let started = unsafe { &*ptr::from_ref(task).cast::<Started>() };
    started.note(why);
    started.wait_until(waiter, deadline);
}

/// Where a goroutine's stack begins.
///
/// # Safety
/// `record` is the record at the top of the stack that this runs on, and this is the goroutine's one start.
unsafe extern "C" fn enter(record: *mut ()) {
    let started = record.cast_const().cast::<Started>();
    // SAFETY: the caller's promise; the heap record is there until the goroutine ends.
    unsafe {
        let goroutine = NonNull::new_unchecked((*started).goroutine.get().cast_mut());
        Goroutine::run(goroutine, &(*started).goroutine);
    }
}

/// Where the stack of a roaming goroutine begins.
///
/// # Safety
/// As for [`enter`]; and it runs with the thread-locals of the slot's block.
unsafe extern "C" fn enter_roaming(record: *mut ()) {
    // SAFETY: the caller's promise: this is the stack's start and, after the goroutine, its end. (A destructor of a
    // thread-local that panics ends the process, as in a thread.)
    unsafe {
        roaming::begin_thread();
        enter(record);
        roaming::end_thread();
    }
}

/// # Safety
/// See [`TaskVtable::give_way`].
unsafe fn give_way(task: &TaskHeader) {
    // SAFETY: our vtable is in our records only, whose first field the header is.
    let started = unsafe { &*ptr::from_ref(task).cast::<Started>() };
    started.give_way();
}

/// # Safety
/// See [`TaskVtable::is_alone`].
unsafe fn is_alone(_task: &TaskHeader) -> bool {
    Here::get().is_some_and(Here::has_nothing_else)
}

/// # Safety
/// See [`TaskVtable::followed`].
unsafe fn followed(task: &TaskHeader) -> &Followed {
    // SAFETY: our vtable is in our records only, whose first field the header is.
    unsafe { &(*ptr::from_ref(task).cast::<Started>()).followed }
}

/// # Safety
/// See [`TaskVtable::unpark`].
unsafe fn unpark(task: NonNull<TaskHeader>) {
    let started = task.cast::<Started>();
    // SAFETY: the caller holds the claim, so the goroutine is parked or about to be: alive.
    let record = unsafe { started.as_ref() };
    if record.roams.get() {
        return unpark_roaming(started);
    }
    record.kind.store(WaitKind::Runnable as u8, Ordering::Relaxed);
    let home = record.home;
    match Here::get() {
        Some(here) if ptr::eq(here.worker(), home) => here.ready(started),
        _ => home.post(started),
    }
}

#[inline(never)]
fn unpark_roaming(started: NonNull<Started>) {
    // SAFETY: as in `unpark`.
    let record = unsafe { started.as_ref() };
    // If it is not ours now, it may not even be there any more: somebody else wakes it.
    if record.stage.wake() {
        make_ready(started);
    }
}

/// Puts a roaming goroutine, which is suspended and the caller's, where it will be taken from.
pub(super) fn make_ready(started: NonNull<Started>) {
    // SAFETY: the caller's, so alive.
    let record = unsafe { started.as_ref() };
    record.kind.store(WaitKind::Runnable as u8, Ordering::Relaxed);
    match Here::get() {
        Some(here) => here.ready_roaming(started),
        // SAFETY: suspended, in no queue, and ours.
        None => unsafe { record.home.runtime().inject_ready(Started::as_runnable(started)) },
    }
}

impl Started {
    /// How much of a slot the record takes.
    const SIZE: usize = size_of::<Started>();

    /// The record of the goroutine that has or had this slot.
    pub(crate) fn of_slot(slot: SlotRef) -> *const Started {
        ptr::with_exposed_provenance(slot.top() - Self::SIZE)
    }

    /// Gives a fresh goroutine its stack, and makes it at home with `home`.
    ///
    /// # Safety
    /// The caller took `goroutine` out of its queue, and is on `home`'s thread.
    pub(crate) unsafe fn settle(
        goroutine: NonNull<Goroutine>,
        slot: Slot,
        home: &'static Worker,
    ) -> NonNull<Started> {
        let this = Self::of_slot(slot.by_ref()).cast_mut();
        let limit = slot.by_ref().limit();
        // SAFETY: alive and ours.
        let head = unsafe { goroutine.as_ref() };
        // SAFETY: the slot is ours and its top holds a record's worth of plain bytes, either zero or an
        // ended goroutine's, of which nothing needs to be dropped. A dump may be reading the atomic
        // fields meanwhile, so these are stored one by one, `id` last, and the rest is written through
        // pointers to the fields.
        unsafe {
            // Ordering: whoever sees one of the words below sees the former goroutine's id gone.
            fence(Ordering::Release);
            (&raw mut (*this).task).write(TaskHeader { vtable: &TASK_VTABLE });
            (&raw mut (*this).link).write(Link::new());
            (&raw mut (*this).runnable).write(Runnable::started());
            (&raw mut (*this).home).write(home);
            (&raw mut (*this).goroutine).write(Cell::new(goroutine.as_ptr()));
            (&raw mut (*this).slot).write(Cell::new(Some(slot)));
            (&raw mut (*this).machine).write(Machine::new());
            // The stack is the slot from the record down to the guard.
            let pristine = (*this).birth.load(Ordering::Relaxed).is_null();
            let roams = head.roams() && roaming::furnish(&(*this).block, this, pristine);
            (*this).roams.set(roams);
            (*this).stage.start();
            match (*this).block.get() {
                None => (*this).machine.prepare(this.addr(), limit, enter, this.cast()),
                // It stays for the next one that roams.
                Some(block) if !roams => {
                    (*this).machine.prepare(block.floor(), limit, enter, this.cast());
                }
                Some(block) => {
                    let (floor, tp) = (block.floor(), block.thread_pointer());
                    this.expose_provenance();
                    (*this).machine.prepare_with_tls(floor, tp, enter_roaming, this.cast());
                }
            }
            (*this).lowest_used.store(0, Ordering::Relaxed);
            (&raw mut (*this).panics).write(Cell::new([0; 2]));
            (&raw mut (*this).has_name).write(Cell::new(false));
            (*this).kind.store(WaitKind::Runnable as u8, Ordering::Relaxed);
            let roaming = if roams { ROAMING } else { 0 };
            (*this).home_index.store(home.index() | roaming, Ordering::Relaxed);
            (*this).birth.store(ptr::from_ref(head.birth).cast_mut(), Ordering::Relaxed);
            (*this).closure.store(head.kind(), Ordering::Relaxed);
            if head.identity().is_some() {
                (*this).has_name.set(true);
                *(*this).name.lock() = Some(head.identity_or_make());
            }
            // Ordering: Release, with the Acquire in `look`: whoever sees the id sees the birth.
            (*this).id.store(head.id.get(), Ordering::Release);
            NonNull::new_unchecked(this)
        }
    }

    /// Has the processor fetch what a resume of `next` will touch: with many goroutines none of it is in
    /// the cache, and the one before it runs meanwhile.
    #[inline]
    pub(super) fn prefetch(next: NonNull<Started>) {
        cache::prefetch(next.addr().get() - 128, 4);
    }

    /// Likewise for one that has waited so long that nothing of it is in a cache but this record: its innermost
    /// frames, and its heap record, for it may be about to end.
    #[inline]
    pub(super) fn prefetch_cold(&self) {
        let deepest = self.lowest_used.load(Ordering::Relaxed) + BELOW_SUSPENDED - 128;
        cache::prefetch(deepest, FRAMES);
        cache::prefetch(self.goroutine.get().addr(), 2);
    }

    /// Lets the goroutine run until it parks, yields or ends.
    ///
    /// # Safety
    /// The caller is its home's loop, and took it out of the home's queue (or just settled it).
    #[inline]
    pub(crate) unsafe fn resume(&self) -> Turn {
        self.kind.store(WaitKind::Running as u8, Ordering::Relaxed);
        // SAFETY: prepared by `settle`, suspended and not ended, as it was in its home's queue.
        match unsafe { self.machine.resume() } {
            Switch::Parked => Turn::Parked,
            Switch::Yielded => {
                self.kind.store(WaitKind::Runnable as u8, Ordering::Relaxed);
                Turn::Yielded
            }
            Switch::Ended => {
                let slot = self.end();
                // Who has ended has forgotten its record; a future that has to be polled again has not.
                match NonNull::new(self.goroutine.get().cast_mut()) {
                    None => Turn::Ended(slot),
                    Some(future) => Turn::Paused(slot, future),
                }
            }
        }
    }

    /// Lets a roaming goroutine run, on `worker`'s thread, until it parks, yields or ends; or until another does that
    /// it has gone over to, or that that one has. Which, and what it did.
    ///
    /// # Safety
    /// The caller is `worker`'s loop, and took it out of its queue (or just settled it).
    #[inline]
    pub(crate) unsafe fn resume_roaming(
        &self,
        worker: &'static Worker,
    ) -> (NonNull<Started>, Turn) {
        // SAFETY: suspended, and the caller's.
        unsafe { self.set_off(worker) };
        // SAFETY: prepared by `settle` with its block, suspended and not ended, as it was in a queue.
        let farewell = unsafe { self.machine.resume_with_tls() };
        let whose = Started::who_said(farewell);
        // SAFETY: until it is in a queue or has been left to its waker it is ours.
        let record = unsafe { whose.as_ref() };
        let turn = match farewell.why() {
            Switch::Parked => Turn::Parked,
            Switch::Yielded => {
                record.kind.store(WaitKind::Runnable as u8, Ordering::Relaxed);
                Turn::Yielded
            }
            Switch::Ended => Turn::Ended(record.end()),
        };
        (whose, turn)
    }

    /// Prepares a roaming goroutine for its turn with `worker`.
    ///
    /// # Safety
    /// It is suspended, and the caller's, who is on `worker`'s thread.
    #[inline]
    unsafe fn set_off(&self, worker: &'static Worker) {
        self.home_index.store(worker.index() | ROAMING, Ordering::Relaxed);
        self.kind.store(WaitKind::Running as u8, Ordering::Relaxed);
        let block = self.block.get().expect("it roams");
        // SAFETY: the caller's promise.
        unsafe { block.take_along(worker) };
    }

    /// Whose farewell it is.
    #[inline]
    fn who_said(farewell: Farewell) -> NonNull<Started> {
        let record = ptr::with_exposed_provenance_mut(farewell.who());
        NonNull::new(record).expect("a machine says whose it is")
    }

    /// Leaves a roaming goroutine that has just been suspended to its waker. False if that has been here
    /// already: then it is still the caller's, and ready.
    #[inline]
    pub(super) fn park_or_go_on(&self) -> bool {
        self.stage.park()
    }

    /// Whether it has thread-locals of its own, and is at home nowhere.
    #[inline]
    pub(super) fn roams(&self) -> bool {
        self.roams.get()
    }

    /// A roaming goroutine as what stands in a queue.
    #[inline]
    pub(super) fn as_runnable(this: NonNull<Started>) -> NonNull<Runnable> {
        // SAFETY: within the record.
        unsafe { this.byte_add(std::mem::offset_of!(Started, runnable)).cast() }
    }

    /// The other way round.
    #[inline]
    pub(super) fn of_runnable(runnable: NonNull<Runnable>) -> NonNull<Started> {
        // SAFETY: made by `as_runnable`, so it is within a record, and may reach all of that.
        unsafe { runnable.byte_sub(std::mem::offset_of!(Started, runnable)).cast() }
    }

    /// It has returned: its stack, with which this record goes.
    fn end(&self) -> Slot {
        // Before the name goes, lest a dump finds the goroutine without it.
        self.id.store(0, Ordering::Relaxed);
        if self.has_name.get() {
            *self.name.lock() = None;
        }
        self.slot.take().expect("it ends once")
    }

    /// Notes what it is about to wait for, and since when.
    #[inline]
    fn note(&self, why: Reason) {
        self.object.store(why.object, Ordering::Relaxed);
        self.since.store(self.home.runtime().clock.coarse(), Ordering::Relaxed);
        self.kind.store(why.kind as u8, Ordering::Relaxed);
    }

    fn wait_until(&self, waiter: &Waiter, deadline: Instant) {
        let timer = timers::Entry::new(waiter);
        let timers = if self.roams() { Here::worker_now().timers() } else { self.home.timers() };
        // SAFETY: before this frame ends the timer has fired, or is removed.
        unsafe { timers.insert(&timer, self.home.runtime().clock.nanos_of(deadline)) };
        self.wait();
        if !timer.has_fired() {
            timers.remove(&timer);
        }
    }

    /// Gives others a turn. Called by the goroutine itself.
    #[inline]
    pub(super) fn give_way(&self) {
        if self.roams() {
            return self.suspend_roaming(Switch::Yielded);
        }
        if !self.home.runtime().panic_count.is_known() && std::thread::panicking() {
            return;
        }
        self.suspend(Switch::Yielded);
    }

    /// Waits for the unpark that follows the claim on its waiter. Called by the goroutine itself.
    #[inline]
    fn wait(&self) {
        if self.roams() {
            return self.suspend_roaming(Switch::Parked);
        }
        if !self.home.runtime().panic_count.is_known() && std::thread::panicking() {
            return self.wait_unswitched();
        }
        self.suspend(Switch::Parked);
    }

    #[cold]
    fn wait_unswitched(&self) {
        let here = Here::get().expect("a goroutine runs on a worker");
        here.block_until_ready(NonNull::from(self));
        self.kind.store(WaitKind::Running as u8, Ordering::Relaxed);
    }

    /// Switches to the worker's loop until that resumes us.
    #[inline]
    fn suspend(&self, how: Switch) {
        self.lowest_used.store(switch::stack_pointer() - BELOW_SUSPENDED, Ordering::Relaxed);
        // SAFETY: this is the goroutine itself, on its own stack.
        unsafe { self.machine.suspend(how) };
    }

    /// The same for a roaming one, which takes its panics along with its other thread-locals.
    ///
    /// It goes over to the one that is to run next, if that roams too and nothing else has to be seen to: so
    /// two that talk to each other load a thread pointer once for each message, and not twice. The one that
    /// is arrived at then does what the loop does for who has left its stack.
    #[inline(never)]
    fn suspend_roaming(&self, how: Switch) {
        self.lowest_used.store(switch::stack_pointer() - BELOW_SUSPENDED, Ordering::Relaxed);
        let farewell = Farewell::new(ptr::from_ref(self).expose_provenance(), how);
        let heard = match Started::successor(how) {
            // SAFETY: this is the goroutine itself, on its own stack; and the other has been suspended here, like
            // all that have started and stand in a queue, out of which it has been taken.
            Some((next, worker)) => unsafe {
                let next = next.as_ref();
                next.set_off(worker);
                self.machine.go_over(&next.machine, farewell)
            },
            // SAFETY: as above.
            None => unsafe { self.machine.suspend_with_tls(farewell) },
        };
        if let Some(farewell) = heard {
            Started::see_off(farewell);
        }
    }

    /// Who runs next on this worker, if it is a roaming goroutine and the loop need not be asked.
    #[inline]
    fn successor(of: Switch) -> Option<(NonNull<Started>, &'static Worker)> {
        // Whoever runs here afterwards must not use it: it is this worker's.
        let here = Here::get()?;
        Some((here.successor(of)?, here.worker()))
    }

    /// Leaves a roaming goroutine that has just parked, and gone over to the calling one, to its waker; or puts it
    /// behind the others, if it has given its turn up.
    #[inline]
    fn see_off(farewell: Farewell) {
        let left = Started::who_said(farewell);
        // SAFETY: it is ours as long as its waker cannot have queued it.
        let record = unsafe { left.as_ref() };
        if farewell.why() == Switch::Yielded {
            record.kind.store(WaitKind::Runnable as u8, Ordering::Relaxed);
            Here::get().expect("a goroutine runs on a worker").requeue_roaming(left);
        } else if !record.park_or_go_on() {
            make_ready(left);
        }
    }

    /// The identity of the goroutine that runs here now.
    pub(crate) fn identity(&self) -> Arc<Identity> {
        match self.record() {
            Some(record) => record.identity_or_make(),
            None => {
                let named = if self.has_name.get() { self.name.lock().clone() } else { None };
                named.unwrap_or_else(|| self.identity_of_ended())
            }
        }
    }

    /// The heap record, until it has been handed over to whoever joins.
    pub(super) fn record(&self) -> Option<&Goroutine> {
        // SAFETY: this is the goroutine itself (see `here::current`), which forgets the record before it gives
        // it away.
        unsafe { self.goroutine.get().as_ref() }
    }

    /// A makeshift, for code that runs after the end: a waker's, a result's drop.
    #[cold]
    fn identity_of_ended(&self) -> Arc<Identity> {
        let id = NonZeroU64::new(self.id.load(Ordering::Relaxed)).expect("it still runs");
        Arc::new(Identity::new(ThreadId::of_goroutine(id), None))
    }

    /// Its `goroutine_local!`s; `None` once they have been dropped.
    pub(super) fn locals(&self) -> Option<&Owner> {
        self.record().map(Goroutine::locals)
    }

    pub(super) fn panics(&self) -> &Cell<[usize; 2]> {
        &self.panics
    }

    pub(super) fn lowest_used(&self) -> usize {
        self.lowest_used.load(Ordering::Relaxed)
    }

    /// Whether this is the record of a goroutine that is at home with worker `index`, which asks.
    pub(super) fn is_at_home(&self, index: usize) -> bool {
        // Ordering: Acquire pairs with the Release in `settle`: with the id comes the home.
        self.id.load(Ordering::Acquire) != 0 && self.home_index.load(Ordering::Relaxed) == index
    }
}

/// What a dump tells of one goroutine.
pub(crate) struct Look {
    pub(crate) id: u64,
    pub(crate) name: Option<Arc<Identity>>,
    pub(crate) birth: Birth,
    pub(crate) site: Site,
    pub(crate) why: Reason,
    /// Who holds the lock for which it waits.
    pub(crate) held: Held,
    pub(crate) since: u64,
    /// The worker where it is at home; or on which it last ran, if it roams.
    pub(crate) home: usize,
    pub(crate) roams: bool,
}

impl Look {
    /// Looks at the goroutine that has this slot, if one does. It may go on meanwhile: each word is
    /// true of it, but not all need be of one moment. If it ends meanwhile, there is nothing to see.
    pub(crate) fn at(slot: SlotRef, patiently: bool) -> Option<Look> {
        // SAFETY: the place of a record in a slot.
        unsafe { Look::at_place(Started::of_slot(slot), patiently) }
    }

    /// Likewise, given the record.
    ///
    /// # Safety
    /// It is or was a goroutine's.
    pub(super) unsafe fn at_record(record: NonNull<Started>) -> Option<Look> {
        // SAFETY: the caller's promise.
        unsafe { Look::at_place(record.as_ptr(), true) }
    }

    /// # Safety
    /// `record` is the place of a record in a slot.
    unsafe fn at_place(record: *const Started, patiently: bool) -> Option<Look> {
        // SAFETY: slots are never unmapped, and those handed out read as zero or as a record. Only the
        // atomic fields are touched, one by one.
        unsafe {
            let id = (*record).id.load(Ordering::Acquire);
            let birth = (*record).birth.load(Ordering::Relaxed);
            if id == 0 || birth.is_null() {
                return None;
            }
            // In a signal handler the lock might be held by the very thread that was interrupted.
            let name = if patiently {
                (*record).name.lock().clone()
            } else {
                (*record).name.try_lock().and_then(|name| name.clone())
            };
            let look = Look {
                id,
                name,
                birth: &*birth,
                site: Site::of((*record).closure.load(Ordering::Relaxed), &*birth),
                why: Reason::on(
                    WaitKind::from_byte((*record).kind.load(Ordering::Relaxed)),
                    (*record).object.load(Ordering::Relaxed),
                ),
                // Nor may one look at locks there.
                held: if patiently { (*record).followed.held() } else { Held::Unknown },
                since: (*record).since.load(Ordering::Relaxed),
                home: (*record).home_index.load(Ordering::Relaxed) & !ROAMING,
                roams: (*record).home_index.load(Ordering::Relaxed) & ROAMING != 0,
            };
            // Ordering: pairs with the fence in `settle`. If a word was the next goroutine's, the id is
            // no longer that of the one before.
            fence(Ordering::Acquire);
            ((*record).id.load(Ordering::Relaxed) == id).then_some(look)
        }
    }
}

/// The worker with which the goroutine in this slot is at home, if there is one that is.
pub(super) fn home_of(slot: SlotRef) -> Option<usize> {
    let record = Started::of_slot(slot);
    // SAFETY: slots are never unmapped, and only atomics are read.
    unsafe {
        let id = (*record).id.load(Ordering::Acquire);
        let home = (*record).home_index.load(Ordering::Relaxed);
        (id != 0 && home & ROAMING == 0).then_some(home)
    }
}

/// Gives back the memory below a parked roaming goroutine, if one is in this slot. From any thread.
pub(super) fn trim_roaming(slot: SlotRef) -> bool {
    let record = Started::of_slot(slot).cast_mut();
    // SAFETY: slots are never unmapped; the two words are atomics. Between the two events of the stage the goroutine
    // is suspended, and below its stack pointer and the red zone nobody needs anything.
    unsafe {
        if !(*record).stage.begin_scan() {
            return false;
        }
        let lowest = (*record).lowest_used.load(Ordering::Relaxed);
        stack::release_below(slot, lowest.max(slot.limit()));
        if !(*record).stage.end_scan() {
            make_ready(NonNull::new_unchecked(record));
        }
    }
    true
}

/// How many pages at the slot's top a suspended goroutine needs; `None` if the slot is free.
pub(super) fn pages_in_use(slot: SlotRef) -> Option<usize> {
    let record = Started::of_slot(slot);
    // SAFETY: as above.
    let (id, lowest) = unsafe {
        ((*record).id.load(Ordering::Acquire), (*record).lowest_used.load(Ordering::Relaxed))
    };
    let page = sys::mem::page_size();
    // One that has not been suspended yet runs just now: it needs all it has.
    (id != 0)
        .then(|| if lowest == 0 { usize::MAX } else { (slot.end() - lowest).div_ceil(page) + 1 })
}
