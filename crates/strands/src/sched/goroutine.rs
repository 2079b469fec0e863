//! A goroutine's two records.
//!
//! The **[`Goroutine`]** is on the heap, small, and exists from `go` until both the goroutine has ended
//! and its handle is gone. It holds the closure, later the result. While fresh it stands in queues that
//! everybody may steal from, and has no stack.
//!
//! The **[`Started`]** record is at the top of its stack, and exists from the first instruction to the
//! last. From then on the goroutine is *at home* on one OS thread.
//!
//! ```text
//!   heap                              top of the stack slot
//!   ┌ Goroutine ────────┐            ┌ Started ───────────────────────┐
//!   │ link  vtable join │◄───────────┤ task (the seam's)  link        │
//!   │ id birth thread   │            │ home ─────► Worker             │
//!   │ closure | result  │            │ coroutine: saved stack pointer │
//!   └──────▲────────────┘            │ id birth why since: for dumps  │
//!     JoinHandle                     └────────────────────────────────┘
//!                                    ▼ frames
//! ```
//!
//! # Who owns which field when
//!
//! | field | fresh | running, parked, ready | ended |
//! |---|---|---|---|
//! | `Goroutine::link` | the queue it is in | nobody | nobody |
//! | `body` | the closure: whoever starts it | the goroutine itself | the result: see `join` |
//! | `join` | shared word, see below | shared | shared |
//! | `Started::link` | – | the home's list or inbox | nobody |
//! | `Started::coroutine` | – | its home's loop | its home's loop |
//! | the rest of `Started` | – | written at home only, read by dumps (atomics) | `id` is 0 |
//!
//! The `join` word decides who frees the heap record and who drops the result:
//!
//! | `join` | meaning | next |
//! |---|---|---|
//! | `OPEN` | runs, a handle exists, nobody waits | any |
//! | a [`Waiter`]'s address | runs, the handle's owner waits in `join` | `ENDED`, by the goroutine |
//! | that of a boxed waker, tagged | runs, the handle was polled as a future | any but a `Waiter` |
//! | `DETACHED` | runs, the handle is gone | freed by the goroutine |
//! | `ENDED` | the result is in `body`, the goroutine is done with the record | freed by the handle |

use super::here::Here;
use super::worker::Worker;
use crate::identity::{Identity, ThreadId};
use crate::queue::{Link, Linked};
use crate::stack::{Class, Slot, SlotRef};
use crate::sys;
use crate::wait::{FIRST_FREE, Reason, ShortLock, TaskHeader, TaskVtable, WaitKind, Waiter};
use corosensei::stack::{Stack, StackPointer};
use corosensei::{Coroutine, CoroutineResult, Yielder};
use std::alloc::Layout;
use std::any::Any;
use std::cell::{Cell, UnsafeCell};
use std::io;
use std::mem::{ManuallyDrop, MaybeUninit};
use std::num::NonZeroU64;
use std::panic::{AssertUnwindSafe, Location, catch_unwind};
use std::ptr::{self, NonNull};
use std::sync::Arc;
use std::sync::atomic::{AtomicPtr, AtomicU8, AtomicU64, AtomicUsize, Ordering};
use std::task::Waker;
use std::time::Instant;

/// Where a goroutine was started in the source.
pub(crate) type Birth = &'static Location<'static>;

/// The heap record, without its generic tail.
#[repr(C)]
pub(crate) struct Goroutine {
    link: Link<Goroutine>,
    vtable: &'static Vtable,
    join: AtomicUsize,
    id: NonZeroU64,
    birth: Birth,
    /// An `Arc<Identity>`, made when first asked for (or at birth, for a named one); null until then.
    identity: AtomicPtr<Identity>,
    class: Class,
}

// SAFETY: `link` returns the one field that queues use, and it is in one queue at a time.
unsafe impl Linked for Goroutine {
    fn link(&self) -> &Link<Goroutine> {
        &self.link
    }
}

const OPEN: usize = 0;
const ENDED: usize = 1;
const DETACHED: usize = 2;
const WAKER_TAG: usize = 4;

/// The claim token of a join: the goroutine has ended.
const JOINED: usize = FIRST_FREE;

struct Vtable {
    /// Runs the closure to its end, on the goroutine's own stack.
    run: unsafe fn(NonNull<Goroutine>),
    /// Frees the record, whose result has been taken or dropped.
    free: unsafe fn(NonNull<Goroutine>),
    /// Where the result is, from the record's start.
    result_offset: usize,
}

/// The heap record with its tail.
#[repr(C)]
struct Packet<F, T, C> {
    head: Goroutine,
    body: UnsafeCell<Body<F, T>>,
    completion: UnsafeCell<ManuallyDrop<C>>,
}

union Body<F, T> {
    closure: ManuallyDrop<F>,
    result: ManuallyDrop<std::thread::Result<T>>,
}

/// What else happens when a goroutine has ended, after its result has been handed on or dropped.
pub(crate) trait Completion: Send {
    /// Called last of all, on the goroutine's stack. `panicked`: the result is a panic.
    fn complete(self, panicked: bool);
}

/// Nothing else.
impl Completion for () {
    #[inline]
    fn complete(self, _panicked: bool) {}
}

/// What a goroutine is born with.
pub(crate) struct Traits {
    pub(crate) id: NonZeroU64,
    pub(crate) name: Option<Box<str>>,
    pub(crate) birth: Birth,
    pub(crate) class: Class,
}

impl<F, T, C> Packet<F, T, C>
where
    F: FnOnce() -> T,
    C: Completion,
{
    const VTABLE: Vtable = Vtable {
        run: Self::run,
        free: Self::free,
        result_offset: std::mem::offset_of!(Self, body),
    };

    /// # Safety
    /// As for [`Goroutine::run`].
    unsafe fn run(head: NonNull<Goroutine>) {
        let this = head.cast::<Self>().as_ptr();
        // SAFETY: the record stays alive until `ENDED` or the free below.
        let body = unsafe { (*this).body.get() };
        // In here, so that a large closure or result does not pass through more frames than it must.
        let caught = catch_unwind(AssertUnwindSafe(|| {
            // SAFETY: the caller has started the goroutine, so the body is the closure and ours. It is
            // read out once; from then on the body is empty, and nobody else looks at it before `ENDED`.
            unsafe {
                let closure = (&raw const (*body).closure).cast::<F>().read();
                let result = (&raw mut (*body).result).cast::<std::thread::Result<T>>();
                result.write(Ok(closure()));
            }
        }));
        let panicked = caught.is_err();
        if panicked && Here::runtime_aborts_on_panic() {
            // SAFETY: the record is alive, see above.
            let (id, birth) = unsafe { ((*this).head.id, (*this).head.birth) };
            // SAFETY: likewise.
            let identity = unsafe { (*this).head.identity() };
            report_panic(id, identity, birth, caught.as_ref().err());
            std::process::abort();
        }
        if let Err(payload) = caught {
            // SAFETY: the closure has been read out, and no result was written.
            unsafe { (*body).result = ManuallyDrop::new(Err(payload)) };
        }
        // SAFETY: read out once, here.
        let completion = unsafe { ManuallyDrop::take(&mut *(*this).completion.get()) };
        // Ordering: Release hands the result to the handle's owner, who reads `join` with Acquire;
        // Acquire makes the waiter's frame, the waker or the owner's last accesses visible to us.
        // SAFETY: alive until this swap at least.
        let former = unsafe { (*this).head.join.swap(ENDED, Ordering::AcqRel) };
        match former {
            // The record belongs to the handle now: not a word to it any more.
            OPEN => {}
            DETACHED => {
                // SAFETY: the handle is gone, so the result and the record are ours.
                unsafe {
                    drop_result::<T>(head);
                    Self::free(head);
                }
            }
            waker if waker & WAKER_TAG != 0 => {
                // SAFETY: whoever swaps a tagged word out owns the box.
                unsafe { waker_from(waker) }.wake();
            }
            waiter => {
                let waiter = ptr::with_exposed_provenance::<Waiter>(waiter);
                // SAFETY: the joiner waits until claimed, and only we claim it; its frame stays until
                // the wake that follows.
                let wake = unsafe {
                    let claimed = (*waiter).try_claim(JOINED);
                    debug_assert!(claimed, "nobody else claims a joiner");
                    (*waiter).finish()
                };
                wake.deliver();
            }
        }
        completion.complete(panicked);
    }

    /// # Safety
    /// Nobody else has the record, and closure, result and completion have been taken out.
    unsafe fn free(head: NonNull<Goroutine>) {
        // SAFETY: the caller's promise; `new` allocated it with this layout.
        unsafe {
            drop_identity(head.as_ref().identity.load(Ordering::Acquire));
            std::alloc::dealloc(head.as_ptr().cast(), Layout::new::<Self>());
        }
    }
}

/// Makes the heap record of a goroutine that runs `closure`.
///
/// # Errors
/// Memory was refused.
pub(crate) fn create<F, T, C>(
    traits: Traits,
    closure: F,
    completion: C,
) -> io::Result<NonNull<Goroutine>>
where
    F: FnOnce() -> T,
    C: Completion,
{
    let layout = Layout::new::<Packet<F, T, C>>();
    // SAFETY: a packet is never of size zero.
    let memory = unsafe { std::alloc::alloc(layout) }.cast::<Packet<F, T, C>>();
    let Some(packet) = NonNull::new(memory) else {
        return Err(io::Error::new(
            io::ErrorKind::OutOfMemory,
            format!("no memory for a goroutine's record of {} bytes", layout.size()),
        ));
    };
    let identity = match traits.name {
        None => ptr::null_mut(),
        name => {
            let identity = Identity::new(ThreadId::of_goroutine(traits.id), name);
            Arc::into_raw(Arc::new(identity)).cast_mut()
        }
    };
    // SAFETY: freshly allocated with this layout.
    unsafe {
        packet.write(Packet {
            head: Goroutine {
                link: Link::new(),
                vtable: const { &Packet::<F, T, C>::VTABLE },
                join: AtomicUsize::new(OPEN),
                id: traits.id,
                birth: traits.birth,
                identity: AtomicPtr::new(identity),
                class: traits.class,
            },
            body: UnsafeCell::new(Body { closure: ManuallyDrop::new(closure) }),
            completion: UnsafeCell::new(ManuallyDrop::new(completion)),
        });
    }
    Ok(packet.cast())
}

impl Goroutine {
    /// The class of its stack.
    #[inline]
    pub(crate) fn class(&self) -> Class {
        self.class
    }

    /// Its identity, if it has a name or somebody has asked before.
    fn identity(&self) -> Option<&Identity> {
        // Ordering: Acquire pairs with the Release in `identity_or_make`.
        let identity = self.identity.load(Ordering::Acquire);
        // SAFETY: once set it stays until the record is freed.
        unsafe { identity.as_ref() }
    }

    /// Its identity.
    fn identity_or_make(&self) -> Arc<Identity> {
        let mut pointer = self.identity.load(Ordering::Acquire).cast_const();
        if pointer.is_null() {
            let identity = Identity::new(ThreadId::of_goroutine(self.id), None);
            let made = Arc::into_raw(Arc::new(identity));
            // Ordering: Release publishes the identity to the Acquire loads; Acquire for the loser.
            pointer = match self.identity.compare_exchange(
                ptr::null_mut(),
                made.cast_mut(),
                Ordering::AcqRel,
                Ordering::Acquire,
            ) {
                Ok(_) => made,
                Err(other) => {
                    // SAFETY: ours, and nobody has seen it.
                    drop(unsafe { Arc::from_raw(made) });
                    other.cast_const()
                }
            };
        }
        // SAFETY: the record owns one count of it; we add one for ourselves.
        unsafe {
            Arc::increment_strong_count(pointer);
            Arc::from_raw(pointer)
        }
    }
}

/// # Safety
/// `identity` is null or the record's own count of an `Arc`, given up here.
unsafe fn drop_identity(identity: *mut Identity) {
    if !identity.is_null() {
        // SAFETY: the caller's promise.
        drop(unsafe { Arc::from_raw(identity.cast_const()) });
    }
}

/// # Safety
/// `word` was swapped out of a `join` word with its tag.
unsafe fn waker_from(word: usize) -> Waker {
    let boxed = ptr::with_exposed_provenance_mut::<Waker>(word & !WAKER_TAG);
    // SAFETY: the address of a `Box<Waker>` put there by `poll`, and whoever swaps it out owns it.
    *unsafe { Box::from_raw(boxed) }
}

/// Drops the result of a goroutine whose handle is gone; a panic that nobody saw is printed.
///
/// # Safety
/// The record is ended, its result is of `T` and still there, and nobody else will touch it.
unsafe fn drop_result<T>(head: NonNull<Goroutine>) {
    // SAFETY: the caller's promise.
    let result = unsafe { take_result::<T>(head) };
    // SAFETY: alive.
    let goroutine = unsafe { head.as_ref() };
    if let Err(payload) = &result {
        report_panic(goroutine.id, goroutine.identity(), goroutine.birth, Some(payload));
    }
    // A result whose `Drop` panics has nowhere to take that: std aborts here too.
    if catch_unwind(AssertUnwindSafe(|| drop(result))).is_err() {
        let (id, birth) = (goroutine.id, goroutine.birth);
        let what = format!("dropping the result of goroutine {id} (born at {birth}) panicked");
        sys::say(format!("strands: {what}, aborting\n").as_bytes());
        std::process::abort();
    }
}

/// # Safety
/// As for [`drop_result`].
unsafe fn take_result<T>(head: NonNull<Goroutine>) -> std::thread::Result<T> {
    // SAFETY: the offset is that of the result in this very packet.
    unsafe {
        let offset = head.as_ref().vtable.result_offset;
        head.as_ptr().byte_add(offset).cast::<std::thread::Result<T>>().read()
    }
}

#[cold]
fn report_panic(
    id: NonZeroU64,
    identity: Option<&Identity>,
    birth: Birth,
    payload: Option<&Box<dyn Any + Send>>,
) {
    let message = payload.map_or("", |payload| {
        payload
            .downcast_ref::<&str>()
            .copied()
            .or_else(|| payload.downcast_ref::<String>().map(String::as_str))
            .unwrap_or("Box<dyn Any>")
    });
    let name = identity.and_then(Identity::name);
    let named = name.map(|name| format!(" {name:?}")).unwrap_or_default();
    let who = format!("goroutine {id}{named}, born at {birth},");
    sys::say(format!("{who} panicked, and nobody joined it: {message}\n").as_bytes());
}

/// The handle's side of a goroutine. Dropping it detaches.
pub(crate) struct Join<T> {
    head: NonNull<Goroutine>,
    _result: std::marker::PhantomData<T>,
}

// SAFETY: the result moves to the handle's thread (`T: Send`); the record's own words are atomics.
unsafe impl<T: Send> Send for Join<T> {}
// SAFETY: through a shared handle one only reads the id, the name and whether it has ended; the result
// is out of reach. std's `JoinHandle` is `Sync` for every `T` too.
unsafe impl<T> Sync for Join<T> {}

impl<T> Join<T> {
    /// # Safety
    /// `head` is of a goroutine whose closure returns `T`, and this is its one handle.
    pub(super) unsafe fn new(head: NonNull<Goroutine>) -> Join<T> {
        Join { head, _result: std::marker::PhantomData }
    }

    fn goroutine(&self) -> &Goroutine {
        // SAFETY: the record is alive as long as its handle.
        unsafe { self.head.as_ref() }
    }

    pub(crate) fn is_finished(&self) -> bool {
        matches!(self.goroutine().join.load(Ordering::Acquire), ENDED | TAKEN)
    }

    pub(crate) fn identity(&self) -> Arc<Identity> {
        self.goroutine().identity_or_make()
    }

    /// Waits for the end, and takes the result.
    ///
    /// Blocks: the goroutine, or else the thread.
    pub(crate) fn join(self) -> std::thread::Result<T> {
        let goroutine = self.goroutine();
        // Ordering: Acquire pairs with the Release of the goroutine's last swap.
        let mut seen = goroutine.join.load(Ordering::Acquire);
        if seen != ENDED {
            let waiter = Waiter::exclusive();
            let address = (&raw const waiter).expose_provenance();
            loop {
                // Ordering: Release shows our waiter to the goroutine's swap.
                match goroutine.join.compare_exchange(
                    seen,
                    address,
                    Ordering::AcqRel,
                    Ordering::Acquire,
                ) {
                    Ok(former) => {
                        if former & WAKER_TAG != 0 {
                            // SAFETY: swapped out by us. It was polled before, and is no longer.
                            drop(unsafe { waker_from(former) });
                        }
                        let why = Reason::on(WaitKind::Join, goroutine.id.get() as usize);
                        waiter.park(why, None);
                        break;
                    }
                    Err(ENDED) => break,
                    Err(other) => seen = other,
                }
            }
        }
        let this = ManuallyDrop::new(self);
        // SAFETY: ended, so result and record are the handle's, which is used up here.
        unsafe {
            let result = take_result::<T>(this.head);
            (this.head.as_ref().vtable.free)(this.head);
            result
        }
    }

    /// The result if it has ended, or else remembers the waker. For the handle as a future.
    pub(crate) fn poll(&mut self, waker: &Waker) -> std::task::Poll<std::thread::Result<T>> {
        let goroutine = self.goroutine();
        if goroutine.join.load(Ordering::Acquire) != ENDED {
            let boxed = Box::into_raw(Box::new(waker.clone()));
            let word = boxed.expose_provenance() | WAKER_TAG;
            let mut seen = goroutine.join.load(Ordering::Acquire);
            while seen != ENDED {
                // Ordering: as in `join`.
                match goroutine.join.compare_exchange(
                    seen,
                    word,
                    Ordering::AcqRel,
                    Ordering::Acquire,
                ) {
                    Ok(former) => {
                        if former & WAKER_TAG != 0 {
                            // SAFETY: swapped out by us.
                            drop(unsafe { waker_from(former) });
                        }
                        return std::task::Poll::Pending;
                    }
                    Err(other) => seen = other,
                }
            }
            // SAFETY: nobody has seen it.
            drop(unsafe { Box::from_raw(boxed) });
        }
        // SAFETY: ended, and the result is the handle's. The record stays, marked as taken from.
        let result = unsafe { take_result::<T>(self.head) };
        goroutine.join.store(TAKEN, Ordering::Relaxed);
        std::task::Poll::Ready(result)
    }

    /// Whether `poll` has handed out the result already.
    pub(crate) fn is_taken(&self) -> bool {
        self.goroutine().join.load(Ordering::Relaxed) == TAKEN
    }
}

/// Only the handle sees this: `poll` has taken the result, the record is still to be freed.
const TAKEN: usize = 3;

impl<T> Drop for Join<T> {
    fn drop(&mut self) {
        let goroutine = self.goroutine();
        // Ordering: Release gives up all our accesses to the goroutine's swap; Acquire for `ENDED`.
        let mut seen = goroutine.join.load(Ordering::Acquire);
        loop {
            match seen {
                ENDED => {
                    // SAFETY: ended, so result and record are ours.
                    unsafe {
                        drop_result::<T>(self.head);
                        (goroutine.vtable.free)(self.head);
                    }
                    return;
                }
                TAKEN => {
                    // SAFETY: as above, and the result is out.
                    unsafe { (goroutine.vtable.free)(self.head) };
                    return;
                }
                open_or_waker => {
                    match goroutine.join.compare_exchange(
                        open_or_waker,
                        DETACHED,
                        Ordering::AcqRel,
                        Ordering::Acquire,
                    ) {
                        Ok(former) => {
                            if former & WAKER_TAG != 0 {
                                // SAFETY: swapped out by us.
                                drop(unsafe { waker_from(former) });
                            }
                            return;
                        }
                        Err(other) => seen = other,
                    }
                }
            }
        }
    }
}

/// Why a goroutine switched back to its worker.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Switch {
    /// It waits for an unpark.
    Parked,
    /// It wants another turn.
    Yielded,
}

/// What a resumed goroutine did.
#[must_use]
pub(crate) enum Turn {
    /// It waits; its record is in nobody's queue (or already in its home's inbox).
    Parked,
    /// It is ready for another turn.
    Yielded,
    /// It has ended, and this was its stack.
    Ended(Slot),
}

/// The part of a slot below the `Started` record, as the switch wants it.
struct Room {
    slot: Slot,
    base: StackPointer,
}

// SAFETY: the slot is owned, writable from `limit` up to the record at `base`, and guarded below; `base`
// is a multiple of 64.
unsafe impl Stack for Room {
    fn base(&self) -> StackPointer {
        self.base
    }

    fn limit(&self) -> StackPointer {
        StackPointer::new(self.slot.limit()).expect("a slot is not at address zero")
    }
}

type Machine = Coroutine<(), Switch, (), Room>;

/// The record at the top of a started goroutine's stack.
#[repr(C, align(64))]
pub(crate) struct Started {
    task: TaskHeader,
    link: Link<Started>,
    home: &'static Worker,
    goroutine: Cell<*const Goroutine>,
    machine: UnsafeCell<MaybeUninit<Machine>>,
    yielder: Cell<*const Yielder<(), Switch>>,
    /// Below this address the stack of a parked goroutine holds nothing.
    lowest_used: AtomicUsize,
    /// Its share of std's panic count while it is suspended: see `panic_count`.
    panics: Cell<[usize; 2]>,
    /// 0: nobody. What follows is for dumps, which read it from other threads at any time.
    id: AtomicU64,
    home_index: AtomicUsize,
    birth: AtomicPtr<Location<'static>>,
    kind: AtomicU8,
    has_name: Cell<bool>,
    object: AtomicUsize,
    since: AtomicU64,
    name: ShortLock<Option<Arc<Identity>>>,
}

// SAFETY: as for `Goroutine`.
unsafe impl Linked for Started {
    fn link(&self) -> &Link<Started> {
        &self.link
    }
}

static TASK_VTABLE: TaskVtable = TaskVtable { park, unpark };

/// # Safety
/// See [`TaskVtable::park`].
unsafe fn park(task: &TaskHeader, waiter: &Waiter, why: Reason, deadline: Option<Instant>) {
    // SAFETY: our vtable is in our records only, whose first field the header is.
    let started = unsafe { &*ptr::from_ref(task).cast::<Started>() };
    started.park(waiter, why, deadline);
}

/// # Safety
/// See [`TaskVtable::unpark`].
unsafe fn unpark(task: NonNull<TaskHeader>) {
    let started = task.cast::<Started>();
    // SAFETY: the caller holds the claim, so the goroutine is parked or about to be: alive.
    let record = unsafe { started.as_ref() };
    record.kind.store(WaitKind::Runnable as u8, Ordering::Relaxed);
    let home = record.home;
    match Here::get() {
        Some(here) if ptr::eq(here.worker(), home) => here.ready(started),
        _ => home.post(started),
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
        let place = Self::of_slot(slot.by_ref()).cast_mut();
        let base = StackPointer::new(place.addr()).expect("a slot is not at address zero");
        // SAFETY: alive and ours.
        let head = unsafe { goroutine.as_ref() };
        let this = place;
        let body = move |yielder: &Yielder<(), Switch>, ()| {
            // SAFETY: the record at the top of the stack that this runs on.
            unsafe { (*this).yielder.set(yielder) };
            // SAFETY: this is the goroutine's one start.
            unsafe { (goroutine.as_ref().vtable.run)(goroutine) };
        };
        // SAFETY: the slot is ours and its top holds a record's worth of plain bytes, either zero or an
        // ended goroutine's, of which nothing needs to be dropped. A dump may be reading the atomic
        // fields meanwhile, so these are stored one by one, `id` last, and the rest is written through
        // pointers to the fields.
        unsafe {
            (&raw mut (*this).task).write(TaskHeader { vtable: &TASK_VTABLE });
            (&raw mut (*this).link).write(Link::new());
            (&raw mut (*this).home).write(home);
            (&raw mut (*this).goroutine).write(Cell::new(goroutine.as_ptr()));
            (&raw mut (*this).machine).write(UnsafeCell::new(MaybeUninit::new(
                Machine::with_stack(Room { slot, base }, body),
            )));
            (*this).lowest_used.store(0, Ordering::Relaxed);
            (&raw mut (*this).panics).write(Cell::new([0; 2]));
            (&raw mut (*this).has_name).write(Cell::new(false));
            (*this).kind.store(WaitKind::Runnable as u8, Ordering::Relaxed);
            (*this).home_index.store(home.index(), Ordering::Relaxed);
            (*this).birth.store(ptr::from_ref(head.birth).cast_mut(), Ordering::Relaxed);
            if head.identity().is_some() {
                (*this).has_name.set(true);
                *(*this).name.lock() = Some(head.identity_or_make());
            }
            // Ordering: Release, with the Acquire in `look`: whoever sees the id sees the birth.
            (*this).id.store(head.id.get(), Ordering::Release);
            NonNull::new_unchecked(this)
        }
    }

    /// Lets the goroutine run until it parks, yields or ends.
    ///
    /// # Safety
    /// The caller is its home's loop, and took it out of the home's queue (or just settled it).
    #[inline]
    pub(crate) unsafe fn resume(&self) -> Turn {
        self.kind.store(WaitKind::Running as u8, Ordering::Relaxed);
        // SAFETY: initialised by `settle`; only its home's loop touches it, and not while it runs,
        // since it runs within this very call.
        let machine = unsafe { (*self.machine.get()).assume_init_mut() };
        match machine.resume(()) {
            CoroutineResult::Yield(Switch::Parked) => Turn::Parked,
            CoroutineResult::Yield(Switch::Yielded) => Turn::Yielded,
            CoroutineResult::Return(()) => {
                if self.has_name.get() {
                    *self.name.lock() = None;
                }
                self.id.store(0, Ordering::Relaxed);
                // SAFETY: initialised, and read out once: the record is dead from here on.
                let machine = unsafe { (*self.machine.get()).assume_init_read() };
                Turn::Ended(machine.into_stack().slot)
            }
        }
    }

    fn park(&self, waiter: &Waiter, why: Reason, deadline: Option<Instant>) {
        let runtime = self.home.runtime();
        self.object.store(why.object, Ordering::Relaxed);
        self.since.store(runtime.clock.coarse(), Ordering::Relaxed);
        self.kind.store(why.kind as u8, Ordering::Relaxed);
        match deadline {
            None => self.wait(),
            Some(deadline) => {
                let timer = super::timers::Entry::new(waiter);
                // SAFETY: the entry is taken out below, before this frame ends.
                unsafe { runtime.timers.insert(&timer, runtime.clock.nanos_of(deadline)) };
                self.wait();
                runtime.timers.remove(&timer);
            }
        }
    }

    /// Gives others a turn. Called by the goroutine itself.
    #[inline]
    pub(super) fn give_way(&self) {
        if !self.home.runtime().panic_count.is_known() && std::thread::panicking() {
            return;
        }
        self.suspend(Switch::Yielded);
    }

    /// Waits for the unpark that follows the claim on its waiter. Called by the goroutine itself.
    #[inline]
    fn wait(&self) {
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
        // The frames of the switch itself lie below this one; they are a few words.
        let here = std::hint::black_box(ptr::from_ref(&how)).addr();
        self.lowest_used.store(here - 1024, Ordering::Relaxed);
        // SAFETY: set when the goroutine started, and lives at the bottom of this very stack.
        unsafe { (*self.yielder.get()).suspend(how) }
    }

    /// The identity of the goroutine that runs here now.
    pub(crate) fn identity(&self) -> Arc<Identity> {
        // SAFETY: called by the goroutine itself, whose record lives until it has ended.
        unsafe { (*self.goroutine.get()).identity_or_make() }
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
    pub(crate) why: Reason,
    pub(crate) since: u64,
    pub(crate) home: usize,
}

impl Look {
    /// Looks at the goroutine that has this slot, if one does. It may go on meanwhile: each word is
    /// true, but not all need be of one moment.
    pub(crate) fn at(slot: SlotRef, patiently: bool) -> Option<Look> {
        let record = Started::of_slot(slot);
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
            Some(Look {
                id,
                name,
                birth: &*birth,
                why: Reason::on(
                    WaitKind::from_byte((*record).kind.load(Ordering::Relaxed)),
                    (*record).object.load(Ordering::Relaxed),
                ),
                since: (*record).since.load(Ordering::Relaxed),
                home: (*record).home_index.load(Ordering::Relaxed),
            })
        }
    }
}

/// The worker with which the goroutine in this slot is at home, if there is one.
pub(super) fn home_of(slot: SlotRef) -> Option<usize> {
    let record = Started::of_slot(slot);
    // SAFETY: slots are never unmapped, and only atomics are read.
    unsafe {
        let id = (*record).id.load(Ordering::Acquire);
        (id != 0).then(|| (*record).home_index.load(Ordering::Relaxed))
    }
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
