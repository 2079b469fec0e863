//! Spare threads for calls that are known to block.
//!
//! A goroutine that calls `blocking(f)` parks, and `f` runs on a spare thread, so the goroutine's
//! siblings at home go on. The threads are kept for a while and reused; there are as many as calls are in
//! progress, up to a bound, beyond which calls wait their turn.

use super::here::{self, Here};
use super::runtime::Runtime;
use crate::wait::{FIRST_FREE, WaitKind, Waiter};
use std::cell::UnsafeCell;
use std::collections::VecDeque;
use std::panic::{AssertUnwindSafe, catch_unwind, resume_unwind};
use std::sync::atomic::{AtomicUsize, Ordering};
use std::sync::{Condvar, Mutex, MutexGuard, PoisonError};
use std::time::Duration;

/// Go's bound on threads, too.
const MOST_THREADS: usize = 10_000;
/// How long a spare thread without work is kept.
const KEEP: Duration = Duration::from_secs(10);

const DONE: usize = FIRST_FREE;

/// The spare threads of a runtime.
pub(crate) struct Spares {
    state: Mutex<State>,
    work: Condvar,
    /// Calls that have been made and have not returned.
    in_progress: AtomicUsize,
    /// Threads that exist now.
    threads: AtomicUsize,
}

#[derive(Default)]
struct State {
    calls: VecDeque<Call>,
    /// Threads that wait for work.
    free: usize,
    /// Threads, including those that are being started.
    threads: usize,
}

/// A call in its caller's frame.
struct Call {
    frame: *const (),
    run: unsafe fn(*const ()),
}

// SAFETY: it is made from a `Frame` whose closure and result are `Send`, and run once.
unsafe impl Send for Call {}

struct Frame<F, T> {
    closure: UnsafeCell<Option<F>>,
    result: UnsafeCell<Option<std::thread::Result<T>>>,
    waiter: Waiter,
}

impl<F: FnOnce() -> T, T> Frame<F, T> {
    /// # Safety
    /// `this` is a `Frame<F, T>` whose owner parks until its waiter is claimed; called once.
    unsafe fn run(this: *const ()) {
        // SAFETY: the caller's promise.
        let frame = unsafe { &*this.cast::<Self>() };
        // SAFETY: until the claim below the cells are ours: the owner is parked.
        let closure = unsafe { (*frame.closure.get()).take() }.expect("a call runs once");
        let result = catch_unwind(AssertUnwindSafe(closure));
        // SAFETY: as above.
        unsafe { *frame.result.get() = Some(result) };
        let claimed = frame.waiter.try_claim(DONE);
        debug_assert!(claimed, "nobody else claims a blocking call");
        // SAFETY: just claimed, and the frame is not touched again.
        unsafe { frame.waiter.finish() }.deliver();
    }
}

/// Runs `f` on a spare thread and returns what it returns; on a plain thread, runs it here.
pub(crate) fn blocking<F, T>(f: F) -> T
where
    F: FnOnce() -> T + Send,
    T: Send,
{
    let (Some(_), Some(here)) = (here::current(), Here::get()) else { return f() };
    let spares = &here.runtime().spares;
    let frame = Frame {
        closure: UnsafeCell::new(Some(f)),
        result: UnsafeCell::new(None),
        waiter: Waiter::exclusive(),
    };
    spares.in_progress.fetch_add(1, Ordering::SeqCst);
    let call = Call { frame: (&raw const frame).cast(), run: Frame::<F, T>::run };
    if spares.submit(here.runtime(), call) {
        frame.waiter.park(WaitKind::Blocking.into(), None);
    } else {
        // No thread is to be had: then this one blocks, and others take over its work.
        here.give_processor_up();
        // SAFETY: the cells are ours: nobody has the frame.
        let closure = unsafe { (*frame.closure.get()).take() }.expect("not run yet");
        let result = catch_unwind(AssertUnwindSafe(closure));
        // SAFETY: likewise.
        unsafe { *frame.result.get() = Some(result) };
    }
    spares.in_progress.fetch_sub(1, Ordering::SeqCst);
    match frame.result.into_inner().expect("a finished call has a result") {
        Ok(value) => value,
        Err(payload) => resume_unwind(payload),
    }
}

impl Spares {
    pub(super) fn new() -> Spares {
        Spares {
            state: Mutex::new(State::default()),
            work: Condvar::new(),
            in_progress: AtomicUsize::new(0),
            threads: AtomicUsize::new(0),
        }
    }

    /// Calls that have been made and have not returned.
    pub(super) fn in_progress(&self) -> usize {
        self.in_progress.load(Ordering::SeqCst)
    }

    /// Threads that exist now.
    pub(super) fn threads(&self) -> usize {
        self.threads.load(Ordering::SeqCst)
    }

    fn lock(&self) -> MutexGuard<'_, State> {
        self.state.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// Hands the call to a spare thread, new or waiting. False: there is none and none can be made.
    fn submit(&self, runtime: &'static Runtime, call: Call) -> bool {
        let mut state = self.lock();
        // Threads that wait may have been notified already for calls still in the queue, so it is the
        // queue as a whole that must find enough of them.
        if state.calls.len() >= state.free && state.threads < MOST_THREADS {
            state.threads += 1;
            drop(state);
            let started = std::thread::Builder::new()
                .name("strands-blocking".into())
                .spawn(move || runtime.spares.serve());
            state = self.lock();
            if started.is_err() {
                state.threads -= 1;
                if state.threads == 0 {
                    return false;
                }
            }
        }
        // A new thread looks at the queue first of all; a busy one, when it has finished.
        state.calls.push_back(call);
        drop(state);
        self.work.notify_one();
        true
    }

    /// A spare thread's life.
    fn serve(&self) {
        self.threads.fetch_add(1, Ordering::SeqCst);
        let mut state = self.lock();
        loop {
            while let Some(call) = state.calls.pop_front() {
                drop(state);
                // SAFETY: the frame's owner is parked until `run` has claimed it, and a call is run once.
                unsafe { (call.run)(call.frame) };
                state = self.lock();
            }
            state.free += 1;
            let (again, _) = self
                .work
                .wait_timeout_while(state, KEEP, |state| state.calls.is_empty())
                .unwrap_or_else(PoisonError::into_inner);
            state = again;
            state.free -= 1;
            if state.calls.is_empty() {
                break;
            }
        }
        state.threads -= 1;
        drop(state);
        self.threads.fetch_sub(1, Ordering::SeqCst);
    }
}
