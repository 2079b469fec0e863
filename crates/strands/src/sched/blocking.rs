//! Spare threads for calls that are known to block.
//!
//! A goroutine that calls `blocking(f)` parks, and `f` runs on a spare thread, so the goroutine's
//! siblings at home go on. The threads are kept for a while and reused; there are as many as calls are in
//! progress, up to a bound, beyond which calls wait their turn.

use super::here::{self, Here};
use super::runtime::Runtime;
use super::threads;
use crate::wait::{FIRST_FREE, WaitKind, Waiter};
use std::cell::UnsafeCell;
use std::collections::VecDeque;
use std::panic::{AssertUnwindSafe, catch_unwind, resume_unwind};
use std::sync::atomic::{AtomicUsize, Ordering};
use std::sync::{Condvar, Mutex, MutexGuard, PoisonError};
use std::time::Duration;

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
    /// Threads that are being started, and have not looked at the queue yet.
    starting: usize,
    /// All threads, those included.
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
    if !spares.submit(here.runtime(), call) {
        // No thread is to be had: then this one blocks, and others take over its work.
        here.give_processor_up();
        spares.run_queued();
    }
    frame.waiter.park(WaitKind::Blocking.into(), None);
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

    /// Puts the call into the queue, for a spare thread, new or waiting. False: there is none and none can
    /// be made, so the caller must see to the queue itself.
    fn submit(&self, runtime: &'static Runtime, call: Call) -> bool {
        let mut state = self.lock();
        state.calls.push_back(call);
        // Every call in the queue has a thread that is about to come for it, lest one that waits for
        // another be put before it with one thread for both. Which thread comes for which does not matter.
        if state.calls.len() > state.free + state.starting {
            if !runtime.may_start_thread() {
                // It waits its turn, if anybody takes turns.
                return state.threads > 0;
            }
            state.threads += 1;
            state.starting += 1;
            drop(state);
            let started = threads::start("strands-blocking", move || runtime.spares.serve());
            if started.is_err() {
                let mut state = self.lock();
                state.threads -= 1;
                state.starting -= 1;
                if state.threads == 0 {
                    return false;
                }
            }
        } else {
            drop(state);
        }
        self.work.notify_one();
        true
    }

    /// Runs here what is in the queue.
    #[cold]
    fn run_queued(&self) {
        loop {
            let Some(call) = self.lock().calls.pop_front() else { return };
            // SAFETY: the frame's owner is parked or about to until `run` has claimed it (be it ourselves),
            // and a call is run once.
            unsafe { (call.run)(call.frame) };
        }
    }

    /// A spare thread's life.
    fn serve(&self) {
        self.threads.fetch_add(1, Ordering::SeqCst);
        let mut state = self.lock();
        state.starting -= 1;
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
