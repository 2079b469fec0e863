//! A future that workers run, beside the goroutines.
//!
//! Its record begins as a goroutine's does, and stands in the same queues: to a worker it is a fresh goroutine,
//! which anybody may steal. It is given a stack, and polled there. If the poll was in vain, the stack goes back
//! to the pool, and the record is *paused*: in no queue, until a waker makes it fresh again. So
//!
//! * a poll is a goroutine's life: it may block, be it on a channel, a lock or a socket of ours, and then
//!   suspends its stack as any goroutine does; what is needed for that (a worker of its own, hand-off from a
//!   thread that is stuck, a dump) is there already;
//! * between two polls the task is a few words and its future, which is [`Send`], and may go to another worker;
//! * the future is polled and dropped on a stack of its own, never on a worker's;
//! * futures and goroutines take turns in one queue. One that wakes itself while it is polled goes to the back.
//!
//! ```text
//!   { Goroutine | FutureState | Vtable | future, or else the result }
//!     what queues   who may      how it
//!     and handles   poll it      is freed
//!     know
//! ```
//!
//! # Who frees what
//!
//! The `join` word (see `goroutine`) decides who drops the *result*, and whoever does gives up the task's own
//! reference; the [state](super::future_state) counts those of wakers and handles, and the last one frees the
//! *memory*. The *future* is dropped by the poll that ends it, or by a last one that was cancelled.
//!
//! A task keeps the promise of a stack as long as it lives, so no wake can fail.

use super::future_state::{Begun, FutureState, Released};
use super::goroutine::{self, Birth, Goroutine, Traits};
use super::here::Here;
use super::join::Join;
use super::runtime::Runtime;
use crate::identity::Bell;
use crate::wait::Wake;
use std::alloc::Layout;
use std::cell::{Cell, UnsafeCell};
use std::fmt;
use std::future::Future;
use std::io;
use std::mem::{self, ManuallyDrop};
use std::panic::{AssertUnwindSafe, catch_unwind};
use std::pin::Pin;
use std::ptr::{self, NonNull};
use std::task::{Context, Poll, RawWaker, RawWakerVTable, Waker};

/// The payload with which a task ends that was cancelled before it was ready.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Cancelled;

impl fmt::Display for Cancelled {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("the task was cancelled")
    }
}

impl std::error::Error for Cancelled {}

/// The part of the record that does not depend on the future.
#[repr(C)]
struct Head {
    goroutine: Goroutine,
    state: FutureState,
    free: unsafe fn(NonNull<Head>),
}

/// The whole record.
#[repr(C)]
struct Packet<F: Future> {
    head: Head,
    body: UnsafeCell<Body<F, F::Output>>,
}

union Body<F, T> {
    future: ManuallyDrop<F>,
    result: ManuallyDrop<std::thread::Result<T>>,
}

impl<F: Future> Packet<F> {
    const VTABLE: goroutine::Vtable = goroutine::Vtable {
        run: Self::run,
        free: give_up,
        result_offset: mem::offset_of!(Self, body),
    };

    /// Polls the future once, or drops it if it has been cancelled.
    ///
    /// # Safety
    /// As for [`Goroutine::run`], but once for each time that the record has been queued.
    unsafe fn run(goroutine: NonNull<Goroutine>, own: &Cell<*const Goroutine>) {
        let this = goroutine.cast::<Self>().as_ptr();
        // SAFETY: alive until `hand_over`. In the body is the future, which only the one who polls it touches:
        // that is us, from `begin` to `end` or until `pause`, after we have returned.
        let (head, future) = unsafe { (&(*this).head, (*this).body.get().cast::<F>()) };
        let result = match head.state.begin() {
            // SAFETY: as above. The record does not move before it is freed, and the future in it is dropped in
            // place: so it is pinned.
            Begun::Poll => match unsafe { poll(head, Pin::new_unchecked(&mut *future)) } {
                Ok(Poll::Pending) => {
                    // Values that are not `Send` must not be there for the next poll.
                    head.goroutine.locals().end();
                    return;
                }
                Ok(Poll::Ready(output)) => Ok(output),
                Err(payload) => Err(payload),
            },
            Begun::Drop => Err(Box::new(Cancelled) as Box<_>),
        };
        // SAFETY: as above, and it is not touched again.
        let dropped = catch_unwind(AssertUnwindSafe(|| unsafe { ptr::drop_in_place(future) }));
        let result = match (result, dropped) {
            (result, Ok(())) => result,
            // Dropping this payload might panic again.
            (Err(first), Err(second)) if !first.is::<Cancelled>() => {
                mem::forget(second);
                Err(first)
            }
            (superfluous, Err(payload)) => {
                goroutine::drop_or_abort(superfluous, &head.goroutine);
                Err(payload)
            }
        };
        if let Err(payload) = &result
            && !payload.is::<Cancelled>()
            && Here::runtime_aborts_on_panic()
        {
            head.goroutine.abort_for(payload);
        }
        // SAFETY: the future is gone, and nobody looks at the body before `hand_over`.
        unsafe { (*(*this).body.get()).result = ManuallyDrop::new(result) };
        head.state.end();
        // SAFETY: this is the goroutine's end, and its result is there.
        unsafe { goroutine::hand_over::<F::Output>(goroutine, own) };
    }

    /// # Safety
    /// Nobody else has the record; future and result have been dropped or taken.
    unsafe fn free(head: NonNull<Head>) {
        // SAFETY: the caller's promise; `spawn` allocated it with this layout.
        unsafe {
            head.as_ref().goroutine.drop_identity();
            std::alloc::dealloc(head.as_ptr().cast(), Layout::new::<Self>());
        }
    }
}

/// Polls the future of this record.
fn poll<F: Future>(head: &Head, future: Pin<&mut F>) -> std::thread::Result<Poll<F::Output>> {
    // It lends the task's own reference, which stays as long as the future does.
    // SAFETY: the table fits the pointer; each clone takes a reference, and this one is not dropped.
    let waker = ManuallyDrop::new(unsafe { Waker::new(ptr::from_ref(head).cast(), &WAKER) });
    catch_unwind(AssertUnwindSafe(|| future.poll(&mut Context::from_waker(&waker))))
}

/// What becomes of a future after a poll in vain. True: it is to be queued again; otherwise it must not be touched
/// any more. For the worker that has polled it, once its stack has been given back.
///
/// # Safety
/// It has just been polled, and its record has stayed in the cell of its `Started`.
pub(super) unsafe fn pause(goroutine: NonNull<Goroutine>) -> bool {
    // SAFETY: only records of ours are paused, and until it is this one is alive.
    unsafe { goroutine.cast::<Head>().as_ref() }.state.pause()
}

/// Puts a future that has just been scheduled into a queue.
fn queue(head: NonNull<Head>) {
    let goroutine = head.cast::<Goroutine>();
    match Here::get() {
        Some(here) => here.push_woken(goroutine),
        None => Runtime::running().expect("there are futures").inject(goroutine),
    }
}

/// Gives up a reference.
///
/// # Safety
/// The caller has one, and uses it no more.
unsafe fn release(head: NonNull<Head>) {
    // SAFETY: alive by the caller's reference.
    match unsafe { head.as_ref() }.state.release() {
        Released::Held => {}
        // SAFETY: that was the last one, and the task's own is given up only when future and result are gone.
        Released::Last => unsafe { (head.as_ref().free)(head) },
        Released::Orphaned => queue(head),
    }
}

/// Gives up the task's own reference: its result has been taken or dropped.
///
/// # Safety
/// As for [`Goroutine::free`].
unsafe fn give_up(goroutine: NonNull<Goroutine>) {
    // SAFETY: only records of ours have this function; the reference is the caller's by the join word.
    unsafe { release(goroutine.cast()) };
}

/// A waker's data is the record's address.
static WAKER: RawWakerVTable = RawWakerVTable::new(
    |data| {
        // SAFETY: the waker that is cloned has a reference, or lends the task's own.
        unsafe { head_of(data).as_ref() }.state.share();
        RawWaker::new(data, &WAKER)
    },
    |data| {
        wake(data);
        // SAFETY: the waker's reference, which is used up.
        unsafe { release(head_of(data)) };
    },
    wake,
    // SAFETY: the waker's reference, which is used up.
    |data| unsafe { release(head_of(data)) },
);

fn head_of(data: *const ()) -> NonNull<Head> {
    NonNull::new(data.cast_mut().cast()).expect("a record is somewhere")
}

fn wake(data: *const ()) {
    let head = head_of(data);
    // SAFETY: alive by the waker's reference.
    if unsafe { head.as_ref() }.state.wake() {
        queue(head);
    }
}

/// Whether a wake-up runs other people's code, which has to be called aside: an executor's, that is.
pub(super) fn is_foreign(wake: &Wake) -> bool {
    wake.waker().is_some_and(|waker| !is_ours(waker))
}

/// Whether it is a waker of our own futures, or of those who poll one by themselves: these may be called anywhere.
pub(super) fn is_ours(waker: &Waker) -> bool {
    ptr::eq(waker.vtable(), &WAKER) || Bell::is_behind(waker)
}

/// A reference to a task, whatever its result.
pub(crate) struct FutureRef(NonNull<Head>);

// SAFETY: what is reached by it is the state, the identity and the free function, all of them for any thread.
unsafe impl Send for FutureRef {}
// SAFETY: as above.
unsafe impl Sync for FutureRef {}

impl FutureRef {
    /// Has the future dropped instead of polled, unless it has ended.
    pub(crate) fn cancel(&self) {
        // SAFETY: alive by our reference.
        if unsafe { self.0.as_ref() }.state.cancel() {
            queue(self.0);
        }
    }
}

impl Clone for FutureRef {
    fn clone(&self) -> FutureRef {
        // SAFETY: alive by our reference.
        unsafe { self.0.as_ref() }.state.share();
        FutureRef(self.0)
    }
}

impl Drop for FutureRef {
    fn drop(&mut self) {
        // SAFETY: ours, and used up.
        unsafe { release(self.0) };
    }
}

/// Has workers run a future.
///
/// # Errors
/// Memory or a thread was refused. The future is dropped.
pub(crate) fn spawn_future<F>(birth: Birth, future: F) -> io::Result<(Join<F::Output>, FutureRef)>
where
    F: Future + Send + 'static,
    F::Output: Send + 'static,
{
    let make = |id, class| {
        let layout = Layout::new::<Packet<F>>();
        // SAFETY: a packet is never of size zero.
        let memory = unsafe { std::alloc::alloc(layout) }.cast::<Packet<F>>();
        let packet = NonNull::new(memory).ok_or_else(|| {
            let message = format!("no memory for a task's record of {} bytes", layout.size());
            io::Error::new(io::ErrorKind::OutOfMemory, message)
        })?;
        let traits = Traits { id, name: None, birth, class, roams: false, locals: None };
        let goroutine = Goroutine::new(const { &Packet::<F>::VTABLE }, traits);
        let head = Head { goroutine, state: FutureState::new(), free: Packet::<F>::free };
        let body = UnsafeCell::new(Body { future: ManuallyDrop::new(future) });
        // SAFETY: freshly allocated with this layout.
        unsafe { packet.write(Packet { head, body }) };
        io::Result::Ok(packet.cast::<Goroutine>())
    };
    let handle = |made: NonNull<Goroutine>| {
        // SAFETY: `make` made it: the record's result is of this type, and this is its one handle.
        let join = unsafe { Join::new(made) };
        // The second of the references that it begins with.
        (join, FutureRef(made.cast()))
    };
    match Here::get() {
        Some(here) => {
            let class = here.runtime().settings.stack;
            here.promise_stack(class)?;
            let made =
                make(here.new_id(), class).inspect_err(|_| Here::take_promise_back(class))?;
            let handle = handle(made);
            here.push_fresh(made);
            Ok(handle)
        }
        None => {
            let runtime = Runtime::get()?;
            runtime.ensure_worker()?;
            let class = runtime.settings.stack;
            runtime.stacks.reserve(class, 1)?;
            let made = make(runtime.new_id(), class)
                .inspect_err(|_| runtime.stacks.unreserve(class, 1))?;
            let handle = handle(made);
            runtime.inject_from_outside(made);
            Ok(handle)
        }
    }
}
