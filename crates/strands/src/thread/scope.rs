//! Scopes: goroutines that borrow.
//!
//! [`scope`] returns after all its children have ended, so they may borrow what lives outside of it. A
//! child has ended when its closure has run *and* its result has been handed to its handle or dropped:
//! a result may borrow too.
//!
//! ```text
//!   scope(|s| { … })                      each child, last of all
//!   ────────────────                      ───────────────────────
//!   run the body, catching its panic      its result: to the handle, or dropped
//!   wait until children == 0     ◄──────  children -= 1; the last one wakes the scope
//! ```
//!
//! **Invariant:** nothing here returns or unwinds while a child runs.

use super::{JoinArm, Thread};
use crate::sched::{self, Completion, Join, Order};
use crate::wait::{FIRST_FREE, ShortLock, WaitKind, Waiter};
use std::fmt;
use std::io;
use std::marker::PhantomData;
use std::panic::{AssertUnwindSafe, Location, RefUnwindSafe, catch_unwind, resume_unwind};
use std::ptr;
use std::sync::{Arc, OnceLock};

const ALL_ENDED: usize = FIRST_FREE;

/// A scope in which goroutines can be spawned that borrow: see [`scope`].
pub struct Scope<'scope, 'env: 'scope> {
    children: Arc<Children>,
    /// Invariant in both: a longer or shorter lifetime would let a child borrow what ends before it.
    scope: PhantomData<&'scope mut &'scope ()>,
    env: PhantomData<&'env mut &'env ()>,
}

// As std's: a panic leaves nothing half done in either, and nothing is pinned by the handle.
impl RefUnwindSafe for Scope<'_, '_> {}
impl<T> Unpin for ScopedJoinHandle<'_, T> {}

/// Shared with the children, who touch it last of all.
struct Children(ShortLock<State>);

struct State {
    running: usize,
    /// Children that panicked, less those whose panic was joined. Below zero for a moment when the
    /// joiner is quicker than the child's last words.
    panicked: isize,
    /// The scope's end, if it waits.
    waiter: *const Waiter,
}

// SAFETY: the waiter behind the pointer is followed under the lock only, and its owner does not leave
// before it has been claimed.
unsafe impl Send for State {}

impl Children {
    fn change_panicked(&self, by: isize) {
        self.0.lock().panicked += by;
    }

    /// Waits until no child runs; true if one panicked and nobody joined it.
    fn wait(&self) -> bool {
        let waiter = Waiter::exclusive();
        {
            let mut state = self.0.lock();
            if state.running == 0 {
                return state.panicked > 0;
            }
            state.waiter = &waiter;
        }
        waiter.park(WaitKind::Scope.into(), None);
        self.0.lock().panicked > 0
    }
}

/// A child's part in its scope.
struct Membership(Arc<Children>);

impl Completion for Membership {
    fn complete(self, panicked: bool) {
        let wake = {
            let mut state = self.0.0.lock();
            state.panicked += isize::from(panicked);
            state.running -= 1;
            let last = state.running == 0;
            let waiter =
                if last { std::mem::replace(&mut state.waiter, ptr::null()) } else { ptr::null() };
            // SAFETY: the scope's end waits until claimed, and only we claim it.
            unsafe { waiter.as_ref() }.map(|waiter| {
                let claimed = waiter.try_claim(ALL_ENDED);
                debug_assert!(claimed, "nobody else claims a scope's end");
                // SAFETY: just claimed.
                unsafe { waiter.finish() }
            })
        };
        drop(wake);
    }
}

/// Runs `f` with a scope in which goroutines can be started that borrow local things, and returns after
/// all of them have ended.
///
/// As [`std::thread::scope`]; but it ends also if a handle was [forgotten](std::mem::forget). For goroutines that
/// may fail there are [`try_scope`](crate::try_scope) and [`supervise`](crate::supervise).
///
/// Blocks: the goroutine, or else the thread.
///
/// # Panics
/// If `f` panics, with its payload, after the children have ended; or if a child panicked and was not
/// joined.
///
/// # Examples
///
/// ```
/// let words = ["to", "share", "by", "communicating"];
/// let mut longest = 0;
/// let total: usize = strands::scope(|s| {
///     s.go(|| longest = words.iter().map(|word| word.len()).max().unwrap_or(0));
///     let lengths = words.map(|word| s.go(move || word.len()));
///     lengths.into_iter().map(|handle| handle.join().unwrap()).sum()
/// });
/// assert_eq!((total, longest), (22, 13));
/// ```
///
/// A child cannot borrow what is local to the body:
///
/// ```compile_fail
/// strands::scope(|s| {
///     let local = 1;
///     s.go(|| println!("{local}"));
/// });
/// ```
///
/// nor can a handle leave the scope:
///
/// ```compile_fail
/// let mut stolen = None;
/// strands::scope(|s| stolen = Some(s.go(|| 1)));
/// ```
#[track_caller]
pub fn scope<'env, F, T>(f: F) -> T
where
    F: for<'scope> FnOnce(&'scope Scope<'scope, 'env>) -> T,
{
    // SAFETY: all that is done with it is done in `enclose`.
    let scope = unsafe { Scope::new() };
    match scope.enclose(|| f(&scope)) {
        (Err(payload), _) => resume_unwind(payload),
        (Ok(_), true) => panic!("a scoped goroutine panicked"),
        (Ok(value), false) => value,
    }
}

impl<'scope, 'env> Scope<'scope, 'env> {
    /// A scope without children.
    ///
    /// # Safety
    /// Nobody gets at it but the body of [`enclose`](Scope::enclose), which is called once, and where `'scope`
    /// and `'env` are such as `scope` declares them: they last until it has returned.
    pub(crate) unsafe fn new() -> Scope<'scope, 'env> {
        let state = State { running: 0, panicked: 0, waiter: ptr::null() };
        Scope {
            children: Arc::new(Children(ShortLock::new(state))),
            scope: PhantomData,
            env: PhantomData,
        }
    }

    /// Runs `body` and waits until all children have ended, whatever it does; returns what came of it, and
    /// whether a child panicked that nobody joined.
    pub(crate) fn enclose<T>(&self, body: impl FnOnce() -> T) -> (std::thread::Result<T>, bool) {
        let result = catch_unwind(AssertUnwindSafe(body));
        let panicked = self.children.wait();
        (result, panicked)
    }

    /// Starts a goroutine that may borrow whatever outlives the scope.
    ///
    /// # Panics
    /// If memory or a thread is refused.
    #[track_caller]
    pub fn go<F, T>(&'scope self, f: F) -> ScopedJoinHandle<'scope, T>
    where
        F: FnOnce() -> T + Send + 'scope,
        T: Send + 'scope,
    {
        match self.spawn_with(Order::plain(Location::caller()), f) {
            Ok(handle) => handle,
            Err(error) => panic!("failed to spawn a goroutine: {error}"),
        }
    }

    /// [`go`](Scope::go) by std's name.
    ///
    /// # Panics
    /// If memory or a thread is refused.
    #[track_caller]
    pub fn spawn<F, T>(&'scope self, f: F) -> ScopedJoinHandle<'scope, T>
    where
        F: FnOnce() -> T + Send + 'scope,
        T: Send + 'scope,
    {
        self.go(f)
    }

    pub(super) fn spawn_with<F, T>(
        &'scope self,
        order: Order,
        f: F,
    ) -> io::Result<ScopedJoinHandle<'scope, T>>
    where
        F: FnOnce() -> T + Send + 'scope,
        T: Send + 'scope,
    {
        self.children.0.lock().running += 1;
        let member = Membership(Arc::clone(&self.children));
        // SAFETY: `scope` does not return before the child has completed, which is after its closure has
        // run and its result was dropped or handed over. A handle that holds the result cannot outlive
        // `'scope`; if it is forgotten, so is the result.
        match unsafe { sched::spawn(order, f, member) } {
            Ok(join) => Ok(ScopedJoinHandle {
                join,
                children: Arc::clone(&self.children),
                thread: OnceLock::new(),
                scope: PhantomData,
            }),
            Err(error) => {
                // The one who calls us is the body or a child, so nobody waits for zero yet.
                self.children.0.lock().running -= 1;
                Err(error)
            }
        }
    }
}

impl fmt::Debug for Scope<'_, '_> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Scope")
            .field("running", &self.children.0.lock().running)
            .finish_non_exhaustive()
    }
}

/// Owns the right to join a scoped goroutine.
///
/// As [`std::thread::ScopedJoinHandle`]. Dropping it is fine: the scope waits all the same.
pub struct ScopedJoinHandle<'scope, T> {
    join: Join<T>,
    children: Arc<Children>,
    thread: OnceLock<Thread>,
    scope: PhantomData<&'scope ()>,
}

impl<T> ScopedJoinHandle<'_, T> {
    /// Waits for the goroutine to end, and returns what it returned, or the payload of its panic.
    ///
    /// Blocks: the goroutine, or else the thread.
    ///
    /// # Errors
    /// The goroutine panicked; with that the panic is dealt with, and the scope will not panic for it.
    ///
    /// # Panics
    /// If it has been joined by [`join_ctx`](ScopedJoinHandle::join_ctx) before.
    pub fn join(self) -> std::thread::Result<T> {
        assert!(!self.join.is_taken(), "a goroutine was joined twice");
        let result = self.join.join();
        note_joined(&self.children, &result);
        result
    }

    /// As `join` for one who waits for the arm that `wait` is given, if that succeeds.
    pub(crate) fn join_by<E>(
        &mut self,
        wait: impl FnOnce(&JoinArm<'_, T>) -> Result<(), E>,
    ) -> Result<std::thread::Result<T>, E> {
        let arm = JoinArm::new(&mut self.join);
        wait(&arm)?;
        let result = arm.finish();
        note_joined(&self.children, &result);
        Ok(result)
    }

    /// Whether the goroutine has ended, so that `join` would not wait. Never blocks.
    pub fn is_finished(&self) -> bool {
        self.join.is_finished()
    }

    /// A handle to the goroutine.
    pub fn thread(&self) -> &Thread {
        self.thread.get_or_init(|| Thread::new(self.join.identity()))
    }
}

/// A panic that was joined is dealt with.
fn note_joined<T>(children: &Children, result: &std::thread::Result<T>) {
    if result.is_err() {
        // The child counts its panic when it completes, which may be a moment from now.
        children.change_panicked(-1);
    }
}

impl<T> fmt::Debug for ScopedJoinHandle<'_, T> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("ScopedJoinHandle").finish_non_exhaustive()
    }
}
