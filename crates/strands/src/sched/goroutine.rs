//! A goroutine's two records.
//!
//! The **[`Goroutine`]** is on the heap, small, and exists from `go` until both the goroutine has ended
//! and its handle is gone. It holds the closure, later the result. While fresh it stands in queues that
//! everybody may steal from, and has no stack.
//!
//! The **[`Started`]** record is at the top of its stack, and exists from the first instruction to the
//! last. From then on the goroutine is *at home* on one OS thread, unless it *roams*: see `roaming`.
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
//! | `Goroutine::runnable` | the queue it is in | nobody | nobody |
//! | `body` | the closure: whoever starts it | the goroutine itself | the result: see `join` |
//! | `join` | shared word, see below | shared | shared |
//! | `Started::link` | – | the home's list or inbox | nobody |
//! | `Started::runnable` | – | of a roaming one: the queue it is in | nobody |
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

use super::future::Cancelled;
use super::here::Here;
use super::locals::{Locals, Owner};
use super::offenders::Site;
use crate::identity::{Identity, ThreadId};
use crate::queue::{Link, Linked};
use crate::stack::Class;
use crate::sys;
use crate::wait::{self, FIRST_FREE, Waiter};
use std::alloc::Layout;
use std::any::Any;
use std::cell::{Cell, UnsafeCell};
use std::io;
use std::mem::ManuallyDrop;
use std::num::NonZeroU64;
use std::panic::{AssertUnwindSafe, Location, catch_unwind};
use std::ptr::{self, NonNull};
use std::sync::Arc;
use std::sync::atomic::{AtomicPtr, AtomicUsize, Ordering};
use std::task::Waker;

/// Where a goroutine was started in the source.
pub(crate) type Birth = &'static Location<'static>;

/// What stands in queues that everybody may take from: a fresh goroutine, of whose record this is the start, or a
/// roaming one that is ready, and has one within.
#[repr(C)]
pub(crate) struct Runnable {
    link: Link<Runnable>,
    /// [`STARTED`]'s, or that of a fresh goroutine.
    vtable: &'static Vtable,
}

// SAFETY: `link` returns the one field that queues use, and it is in one queue at a time.
unsafe impl Linked for Runnable {
    fn link(&self) -> &Link<Runnable> {
        &self.link
    }

    #[inline]
    fn has_begun(&self) -> bool {
        ptr::eq(self.vtable, &STARTED)
    }
}

impl Runnable {
    /// For the record of a goroutine that has started.
    pub(super) fn started() -> Runnable {
        Runnable { link: Link::new(), vtable: &STARTED }
    }

    /// The fresh goroutine that this is, if it is one.
    #[inline]
    pub(super) fn as_fresh(this: NonNull<Runnable>) -> Option<NonNull<Goroutine>> {
        // SAFETY: whoever has taken it out of a queue has it, alive.
        let vtable = unsafe { this.as_ref() }.vtable;
        (!ptr::eq(vtable, &STARTED)).then(|| this.cast())
    }
}

/// Has no fresh goroutine.
static STARTED: Vtable = {
    unsafe fn run(_: NonNull<Goroutine>, _: &Cell<*const Goroutine>) {
        unreachable!("it runs already");
    }
    unsafe fn free(_: NonNull<Goroutine>) {
        unreachable!("its record is on its stack");
    }
    Vtable { run, free, result_offset: usize::MAX }
};

/// The heap record, without its generic tail.
#[repr(C)]
pub(crate) struct Goroutine {
    runnable: Runnable,
    pub(super) join: AtomicUsize,
    pub(super) id: NonZeroU64,
    pub(super) birth: Birth,
    /// An `Arc<Identity>`, made when first asked for (or at birth, for a named one); null until then.
    identity: AtomicPtr<Identity>,
    /// What it has of `goroutine_local!`s; while fresh, what it inherits.
    locals: Owner,
    class: Class,
    roams: bool,
}

const OPEN: usize = 0;
pub(super) const ENDED: usize = 1;
pub(super) const DETACHED: usize = 2;
/// Only the handle sees this: `poll` has taken the result, the record is still to be freed.
pub(super) const TAKEN: usize = 3;
pub(super) const WAKER_TAG: usize = 4;

/// The claim token of a join: the goroutine has ended.
const JOINED: usize = FIRST_FREE;

pub(super) struct Vtable {
    /// Runs the closure to its end, or a future as far as it goes, on the goroutine's own stack. In the cell is
    /// the record, until it must not be touched any more. If it is there still when this returns, it is a future
    /// that has to be polled again: see `future`.
    pub(super) run: unsafe fn(NonNull<Goroutine>, &Cell<*const Goroutine>),
    /// Frees the record, whose result has been taken or dropped.
    pub(super) free: unsafe fn(NonNull<Goroutine>),
    /// Where the result is, from the record's start.
    pub(super) result_offset: usize,
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
    pub(crate) roams: bool,
    pub(crate) locals: Option<Box<Locals>>,
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
    unsafe fn run(head: NonNull<Goroutine>, own: &Cell<*const Goroutine>) {
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
        if let Err(payload) = &caught
            && Here::runtime_aborts_on_panic()
        {
            // SAFETY: the record is alive, see above.
            unsafe { (*this).head.abort_for(payload) };
        }
        if let Err(payload) = caught {
            // SAFETY: the closure has been read out, and no result was written.
            unsafe { (*body).result = ManuallyDrop::new(Err(payload)) };
        }
        // SAFETY: read out once, here.
        let completion = unsafe { ManuallyDrop::take(&mut *(*this).completion.get()) };
        // SAFETY: alive, and its result is in the body.
        unsafe { hand_over::<T>(head, own) };
        completion.complete(panicked);
    }

    /// # Safety
    /// Nobody else has the record, and closure, result and completion have been taken out.
    unsafe fn free(head: NonNull<Goroutine>) {
        // SAFETY: the caller's promise; `new` allocated it with this layout.
        unsafe {
            head.as_ref().drop_identity();
            std::alloc::dealloc(head.as_ptr().cast(), Layout::new::<Self>());
        }
    }
}

/// Ends the goroutine's values, and gives record and result to whoever is to have them.
///
/// # Safety
/// Called once, by the goroutine itself, whose result is of `T` and in its body. The record must not be touched
/// after this.
#[inline]
pub(super) unsafe fn hand_over<T>(head: NonNull<Goroutine>, own: &Cell<*const Goroutine>) {
    // SAFETY: alive until the swap below, and it is the goroutine itself that ends them.
    unsafe { head.as_ref().locals.end() };
    // What user code may still run below (a waker, a result's drop) finds no record.
    own.set(ptr::null());
    // Ordering: Release hands the result to the handle's owner, who reads `join` with Acquire;
    // Acquire makes the waiter's frame, the waker or the owner's last accesses visible to us.
    // SAFETY: alive until this swap at least.
    let former = unsafe { head.as_ref().join.swap(ENDED, Ordering::AcqRel) };
    match former {
        // The record belongs to the handle now: not a word to it any more.
        OPEN => {}
        DETACHED => {
            // SAFETY: the handle is gone, so the result and the record are ours.
            unsafe {
                drop_result::<T>(head);
                Goroutine::free(head);
            }
        }
        waker if waker & WAKER_TAG != 0 => {
            // It is the user's code, and nobody is left to take its panic: the hook has printed it.
            // SAFETY: whoever swaps a tagged word out owns the box.
            wait::wake_future(Some(unsafe { waker_from(waker) }));
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
    // SAFETY: freshly allocated with this layout.
    unsafe {
        packet.write(Packet {
            head: Goroutine::new(const { &Packet::<F, T, C>::VTABLE }, traits),
            body: UnsafeCell::new(Body { closure: ManuallyDrop::new(closure) }),
            completion: UnsafeCell::new(ManuallyDrop::new(completion)),
        });
    }
    Ok(packet.cast())
}

impl Goroutine {
    pub(super) fn new(vtable: &'static Vtable, traits: Traits) -> Goroutine {
        let identity = match traits.name {
            None => ptr::null_mut(),
            name => {
                let identity = Identity::new(ThreadId::of_goroutine(traits.id), name);
                Arc::into_raw(Arc::new(identity)).cast_mut()
            }
        };
        Goroutine {
            runnable: Runnable { link: Link::new(), vtable },
            join: AtomicUsize::new(OPEN),
            id: traits.id,
            birth: traits.birth,
            identity: AtomicPtr::new(identity),
            locals: Owner::new(traits.locals),
            class: traits.class,
            roams: traits.roams,
        }
    }

    /// Runs the goroutine from its first instruction to its last.
    ///
    /// # Safety
    /// The caller is on the goroutine's own stack, and this is its one start. `own` is where the goroutine
    /// itself finds its record.
    pub(super) unsafe fn run(this: NonNull<Goroutine>, own: &Cell<*const Goroutine>) {
        // SAFETY: the caller's promise; the record is alive until the goroutine has ended.
        unsafe { (this.as_ref().runnable.vtable.run)(this, own) };
    }

    /// Frees the record.
    ///
    /// # Safety
    /// The goroutine has ended, its result has been taken out, and nobody else has the record.
    pub(super) unsafe fn free(this: NonNull<Goroutine>) {
        // SAFETY: the caller's promise.
        unsafe { (this.as_ref().runnable.vtable.free)(this) };
    }

    /// Reports its panic, and ends the process.
    #[cold]
    pub(super) fn abort_for(&self, payload: &Box<dyn Any + Send>) -> ! {
        report_panic(self.id, self.identity(), self.birth, payload);
        std::process::abort();
    }

    /// # Safety
    /// The record is about to be freed, and nobody else has it.
    pub(super) unsafe fn drop_identity(&self) {
        let identity = self.identity.load(Ordering::Acquire);
        if !identity.is_null() {
            // SAFETY: the record's own count of an `Arc`, given up here.
            drop(unsafe { Arc::from_raw(identity.cast_const()) });
        }
    }

    /// Its `goroutine_local!`s. For the goroutine itself.
    pub(super) fn locals(&self) -> &Owner {
        &self.locals
    }

    /// Where it comes from, as far as offenders are told apart.
    pub(super) fn site(&self) -> Site {
        Site::of(self.kind(), self.birth)
    }

    /// Stands for its closure's type: each has a vtable (or several, which makes several sites of one).
    #[inline]
    pub(super) fn kind(&self) -> usize {
        ptr::from_ref(self.runnable.vtable).addr()
    }

    /// The class of its stack.
    #[inline]
    pub(crate) fn class(&self) -> Class {
        self.class
    }

    /// Whether it is to have thread-locals of its own.
    #[inline]
    pub(super) fn roams(&self) -> bool {
        self.roams
    }

    /// Its identity, if it has a name or somebody has asked before.
    pub(super) fn identity(&self) -> Option<&Identity> {
        // Ordering: Acquire pairs with the Release in `identity_or_make`.
        let identity = self.identity.load(Ordering::Acquire);
        // SAFETY: once set it stays until the record is freed.
        unsafe { identity.as_ref() }
    }

    /// Its identity.
    pub(super) fn identity_or_make(&self) -> Arc<Identity> {
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
/// `word` was swapped out of a `join` word with its tag.
pub(super) unsafe fn waker_from(word: usize) -> Waker {
    let boxed = ptr::with_exposed_provenance_mut::<Waker>(word & !WAKER_TAG);
    // SAFETY: the address of a `Box<Waker>` put there by `poll`, and whoever swaps it out owns it.
    *unsafe { Box::from_raw(boxed) }
}

/// Drops the result of a goroutine whose handle is gone; a panic that nobody saw is printed.
///
/// # Safety
/// The record is ended, its result is of `T` and still there, and nobody else will touch it.
pub(super) unsafe fn drop_result<T>(head: NonNull<Goroutine>) {
    // SAFETY: the caller's promise.
    let result = unsafe { take_result::<T>(head) };
    // SAFETY: alive.
    let goroutine = unsafe { head.as_ref() };
    if let Err(payload) = &result
        && !payload.is::<Cancelled>()
    {
        report_panic(goroutine.id, goroutine.identity(), goroutine.birth, payload);
    }
    drop_or_abort(result, goroutine);
}

/// Drops a result. If that panics there is nowhere to take it: std aborts here too.
pub(super) fn drop_or_abort<T>(result: T, of: &Goroutine) {
    if catch_unwind(AssertUnwindSafe(|| drop(result))).is_err() {
        let (id, birth) = (of.id, of.birth);
        let what = format!("dropping the result of goroutine {id} (born at {birth}) panicked");
        sys::say(format!("strands: {what}, aborting\n").as_bytes());
        std::process::abort();
    }
}

/// # Safety
/// As for [`drop_result`].
pub(super) unsafe fn take_result<T>(head: NonNull<Goroutine>) -> std::thread::Result<T> {
    // SAFETY: the offset is that of the result in this very packet.
    unsafe {
        let offset = head.as_ref().runnable.vtable.result_offset;
        head.as_ptr().byte_add(offset).cast::<std::thread::Result<T>>().read()
    }
}

#[cold]
fn report_panic(
    id: NonZeroU64,
    identity: Option<&Identity>,
    birth: Birth,
    payload: &Box<dyn Any + Send>,
) {
    let message = payload
        .downcast_ref::<&str>()
        .copied()
        .or_else(|| payload.downcast_ref::<String>().map(String::as_str))
        .unwrap_or("Box<dyn Any>");
    let name = identity.and_then(Identity::name);
    let named = name.map(|name| format!(" {name:?}")).unwrap_or_default();
    let who = format!("goroutine {id}{named}, born at {birth},");
    sys::say(format!("{who} panicked, and nobody joined it: {message}\n").as_bytes());
}
