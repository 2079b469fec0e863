//! The seam at which everything waits.
//!
//! Channels, joins, scopes, timers and `park` are all built on one small protocol, and name nothing
//! else: not the scheduler, not the operating system. Whoever waits is a [`Task`]: a goroutine of some
//! scheduler, an OS thread, or an async task on any executor.
//!
//! ```text
//!   the one who waits                            the one who wakes (or the timer)
//!   ─────────────────                            ────────────────────────────────
//!   let w = Waiter::new();
//!   put a pointer to w where wakers look  ──►    find w there (under that place's lock)
//!                                                w.try_claim(token) ── false: another was first
//!   w.park(why, deadline) … asleep …             move the value into w's neighbourhood
//!                                                let wake = w.finish();    (w may die from here on)
//!   … awake: returns the token            ◄──    unlock; wake.deliver();
//! ```
//!
//! * **One-shot.** A waiter is claimed exactly once, by one compare-and-swap from `WAITING`, whoever
//!   else tries. This is what makes select, time-outs and cancellation safe: the loser of the race
//!   has taken nothing and given nothing. (A waiter that stands in one place only and has no deadline
//!   has no second claimant; it is made [`exclusive`](Waiter::exclusive), and saves the swap.)
//! * **Claim, then move, then wake.** Between the claim and the wake the waiter cannot leave, so the
//!   claimant may write into its stack frame.
//! * **Wake outside locks.** [`Waiter::finish`] hands out a [`Wake`] that no longer needs the waiter,
//!   so the (possibly slow) wake-up happens after the lock has been dropped.
//!
//! A scheduler takes part by embedding a [`TaskHeader`] in its goroutines and telling this module on
//! each switch which one is running ([`set_current`]). It is an instance, not a build flag: another
//! scheduler can drive other goroutines of the same program through the same channels.
//!
//! **Invariant:** nothing in here names `sched`, but for one call: a plain thread that has been
//! blocked for a while asks `sched::watch` to look for deadlocks.

mod biased;
mod holder;
mod linger;
mod lock;
#[cfg(all(test, loom))]
mod loom_tests;
mod patience;
mod reason;
mod seat;
#[cfg(not(loom))]
mod signal;
mod thread;

pub(crate) use biased::{BiasedLock, BiasedLockGuard};
#[cfg(not(loom))]
pub(crate) use biased::{Whereabouts, whereabouts};
#[cfg(not(loom))]
pub(crate) use holder::stack_pointer;
pub(crate) use holder::{Followed, Held, Holder};
pub(crate) use lock::{ShortLock, ShortLockGuard};
#[cfg(not(loom))]
pub(crate) use patience::napping_place;
pub(crate) use reason::{Reason, WaitKind};
#[cfg(not(loom))]
pub(crate) use seat::seat_place;
pub(crate) use seat::{Seat, seat, seat_pointer, take_seat};
#[cfg(not(loom))]
pub(crate) use signal::Signal;
pub(crate) use thread::ThreadParker;
#[cfg(not(loom))]
pub(crate) use thread::{BlockedThread, Sleeps, blocked_threads, elsewhere};

use crate::primitive::atomic::{AtomicUsize, Ordering};
use crate::primitive::{Arc, UnsafeCell};
use std::cell::Cell;
use std::panic::{AssertUnwindSafe, catch_unwind};
use std::ptr::NonNull;
use std::task::Waker;
use std::time::Instant;

/// What a waiter was claimed for. The meaning is the claimant's, but for the two named here.
pub(crate) type Token = usize;

/// Nobody has claimed the waiter yet.
const WAITING: Token = 0;
/// The deadline passed first.
pub(crate) const TIMED_OUT: Token = 1;
/// The first token that a place of waiting may use for its own meanings.
pub(crate) const FIRST_FREE: Token = 2;

/// The scheduler's side of a goroutine: the first field of its record.
#[repr(C)]
pub(crate) struct TaskHeader {
    pub(crate) vtable: &'static TaskVtable,
}

/// What a scheduler can do with a goroutine of its own.
pub(crate) struct TaskVtable {
    /// Suspends the running goroutine until `unpark`.
    ///
    /// # Safety
    /// `task` is the goroutine that runs now, and its waiter has been or will be claimed exactly once.
    pub(crate) park: unsafe fn(task: &TaskHeader, why: Reason),
    /// The same, with a timer that claims the waiter as [`TIMED_OUT`] when the time has come.
    ///
    /// # Safety
    /// As for `park`.
    pub(crate) park_until: unsafe fn(task: &TaskHeader, why: Reason, waiter: &Waiter, Instant),
    /// Makes the goroutine ready. Comes once for each park, perhaps before the park itself.
    ///
    /// # Safety
    /// `task` is alive, and the caller holds the claim on its waiter.
    pub(crate) unpark: unsafe fn(task: NonNull<TaskHeader>),
    /// Gives others a turn.
    ///
    /// # Safety
    /// `task` is the goroutine that runs now.
    pub(crate) give_way: unsafe fn(task: &TaskHeader),
    /// Whether nothing else is ready where the goroutine runs, while others may run elsewhere.
    ///
    /// # Safety
    /// `task` is the goroutine that runs now.
    pub(crate) is_alone: unsafe fn(task: &TaskHeader) -> bool,
    /// Where its record says for which lock it waits.
    ///
    /// # Safety
    /// `task` is the goroutine that runs now.
    pub(crate) followed: unsafe fn(task: &TaskHeader) -> &Followed,
}

thread_local! {
    static CURRENT: Cell<*const TaskHeader> = const { Cell::new(std::ptr::null()) };
}

/// Tells which goroutine runs on this thread from now on (null: none). For schedulers.
#[inline]
pub(crate) fn set_current(task: *const TaskHeader) {
    CURRENT.set(task);
    TRIES.set(0);
}

/// Where the thread-locals of this module are that go with a turn, of the thread that asks: what [`set_current`] sets, and
/// what goes with the thread that a turn is on. For schedulers whose goroutines have thread-locals of their own.
#[cfg(not(loom))]
pub(crate) struct Places {
    pub(crate) current: *const Cell<*const TaskHeader>,
    pub(crate) tries: *const Cell<u32>,
    /// What [`whereabouts`] says.
    pub(crate) whereabouts: *const Cell<&'static Whereabouts>,
}

#[cfg(not(loom))]
pub(crate) fn places() -> Places {
    Places {
        current: CURRENT.with(std::ptr::from_ref),
        tries: TRIES.with(std::ptr::from_ref),
        whereabouts: biased::place_of_whereabouts(),
    }
}

/// The goroutine that runs on this thread, if one does.
///
/// Never inlined, so that no caller can keep a thread-local's address across a switch.
#[inline(never)]
pub(crate) fn current() -> Option<NonNull<TaskHeader>> {
    NonNull::new(CURRENT.get().cast_mut())
}

/// After so many messages in one turn that came from other hands, with a sender waiting or the lock held, a goroutine
/// gives others a turn at its next such receive, and after so many selects. One that is fed from elsewhere might never have
/// to wait, and those at home with it would. It is a lot: who counts on what is there, with a thread's lock in its hands, is
/// not to be suspended.
const FED: u32 = 1 << 11;

/// After so many tries in vain in one turn a goroutine gives others a turn. It is polling, then; one that
/// merely looks now and then, perhaps with a thread's lock in its hands, is not to be suspended by that.
const PATIENCE: u32 = 256;

thread_local! {
    /// In this turn: tries in vain, and messages received, in units of [`MESSAGE`].
    static TRIES: Cell<u32> = const { Cell::new(0) };
}

const MESSAGE: u32 = 2 * PATIENCE;

/// Something was tried that would have had to wait, and may be tried again at once: a goroutine that does nothing
/// else gives others a turn, for what it polls for may have to be done on its very thread.
///
/// Never inlined, as [`current`].
#[cold]
#[inline(never)]
pub(crate) fn tried_in_vain() {
    let tries = TRIES.get() + 1;
    TRIES.set(tries);
    if tries % MESSAGE >= PATIENCE {
        give_way();
    }
}

/// A message came from other hands, to one who would have waited for it; or it is about to. With no lock held.
#[inline(always)]
pub(crate) fn is_fed() {
    let tries = TRIES.get().wrapping_add(MESSAGE);
    TRIES.set(tries);
    if tries >= FED * MESSAGE {
        give_way();
    }
}

/// Gives others a turn, if it is a goroutine that runs.
#[cold]
#[inline(never)]
fn give_way() {
    TRIES.set(0);
    if let Some(task) = current() {
        // SAFETY: it runs here.
        unsafe { (task.as_ref().vtable.give_way)(task.as_ref()) };
    }
}

/// Whoever can wait: a goroutine, an OS thread or an async task.
pub(crate) enum Task {
    Goroutine(NonNull<TaskHeader>),
    Thread(Arc<ThreadParker>),
    /// The waker is the owner's, under the lock under which it would be finished; `finish` takes it.
    Future(UnsafeCell<Option<Waker>>),
}

// SAFETY: a goroutine's record is used through its vtable alone, which may be called from any thread; a
// waker may be sent.
unsafe impl Send for Task {}
// SAFETY: as above; shared access only reads the pointer, and the waker has one owner at a time.
unsafe impl Sync for Task {}

impl Task {
    #[inline]
    fn current() -> Task {
        match current() {
            Some(task) => Task::Goroutine(task),
            None => Task::Thread(ThreadParker::current()),
        }
    }
}

/// One act of waiting. Lives in the frame of the one who waits and is shared by pointer.
pub(crate) struct Waiter {
    claim: AtomicUsize,
    /// Threads and async tasks only: 1 once the claimant has finished. (A goroutine needs none: it cannot
    /// wake before it is woken, the others can.)
    finished: AtomicUsize,
    /// Only one place can claim it, under that place's lock: then a claim cannot fail.
    exclusive: bool,
    task: Task,
}

impl Waiter {
    /// A waiter for whoever is running now, to be claimed by whoever is first.
    #[inline]
    pub(crate) fn new() -> Waiter {
        Waiter::with(false)
    }

    /// A waiter for whoever is running now that will be in one place only, and have no deadline, so that
    /// there is no race to claim it.
    #[inline]
    pub(crate) fn exclusive() -> Waiter {
        Waiter::with(true)
    }

    /// A waiter for an async task, to be claimed by whoever is first.
    ///
    /// It is not parked but polled: see [`outcome`](Waiter::outcome).
    pub(crate) fn of_future(waker: Waker) -> Waiter {
        Waiter::of(Task::Future(UnsafeCell::new(Some(waker))), false)
    }

    #[inline]
    fn with(exclusive: bool) -> Waiter {
        Waiter::of(Task::current(), exclusive)
    }

    #[inline]
    fn of(task: Task, exclusive: bool) -> Waiter {
        let (claim, finished) = (AtomicUsize::new(WAITING), AtomicUsize::new(0));
        Waiter { claim, finished, exclusive, task }
    }

    /// Waits until somebody has claimed and finished this waiter, and returns what it was claimed for:
    /// [`TIMED_OUT`] if `deadline` passed first.
    ///
    /// Blocks: the goroutine, or else the thread.
    #[inline]
    pub(crate) fn park(&self, why: Reason, deadline: Option<Instant>) -> Token {
        debug_assert!(deadline.is_none() || !self.exclusive, "a deadline is a second claimant");
        match &self.task {
            Task::Goroutine(task) => {
                // SAFETY: `new` found this goroutine running here, and it still is; claims are
                // one-shot, so exactly one unpark follows.
                unsafe {
                    let task = task.as_ref();
                    match deadline {
                        None => (task.vtable.park)(task, why),
                        Some(deadline) => (task.vtable.park_until)(task, why, self, deadline),
                    }
                }
            }
            Task::Thread(parker) => self.park_thread(parker, why, deadline),
            Task::Future(_) => unreachable!("an async task is polled, not parked"),
        }
        // Ordering: Acquire pairs with the Release in `try_claim`. The claimant's later writes (the
        // value) come to us by the wake-up itself, or for threads by `finished`.
        let token = self.claim.load(Ordering::Acquire);
        debug_assert_ne!(token, WAITING, "woken without a claim");
        token
    }

    /// As [`park`](Waiter::park), for a lock: meanwhile reports can tell who holds it.
    pub(crate) fn park_behind(
        &self,
        holder: &Holder,
        why: Reason,
        deadline: Option<Instant>,
    ) -> Token {
        #[cfg(not(loom))]
        let _following = {
            let followed = match &self.task {
                // SAFETY: `new` found this goroutine running here, and it still is.
                Task::Goroutine(task) => unsafe {
                    let task = task.as_ref();
                    (task.vtable.followed)(task)
                },
                Task::Thread(parker) => parker.followed(),
                Task::Future(_) => unreachable!("an async task is polled, not parked"),
            };
            holder::Following::new(followed, holder)
        };
        // Models look at the wait; what follows it has its own.
        #[cfg(loom)]
        let _ = holder;
        self.park(why, deadline)
    }

    /// What the waiter was claimed for, once whoever claimed it has finished. For async tasks.
    pub(crate) fn outcome(&self) -> Option<Token> {
        // Ordering: Acquire pairs with the Release in `finish`: token and value are there.
        (self.finished.load(Ordering::Acquire) != 0).then(|| self.claim.load(Ordering::Relaxed))
    }

    /// Replaces the waker of an async task. The former one comes back, to be dropped where no lock is held.
    ///
    /// # Safety
    /// The waiter has not been finished, and cannot be just now: the caller holds the lock under which it
    /// would be; if it is in several places, all of them.
    pub(crate) unsafe fn replace_waker(&self, waker: Waker) -> Option<Waker> {
        match &self.task {
            // SAFETY: the waker is with its owner, and nobody can take it just now.
            Task::Future(cell) => cell.with_mut(|cell| unsafe { (*cell).replace(waker) }),
            _ => unreachable!("only async tasks have wakers"),
        }
    }

    /// Whether it is this waker that an async task has left.
    ///
    /// # Safety
    /// As for [`replace_waker`](Waiter::replace_waker).
    pub(crate) unsafe fn would_wake(&self, waker: &Waker) -> bool {
        match &self.task {
            Task::Future(cell) => {
                // SAFETY: unclaimed, and nobody can claim or replace it just now.
                cell.with(|cell| unsafe { (*cell).as_ref().is_some_and(|w| w.will_wake(waker)) })
            }
            _ => unreachable!("only async tasks have wakers"),
        }
    }

    #[cold]
    fn park_thread(&self, parker: &ThreadParker, why: Reason, mut deadline: Option<Instant>) {
        #[cfg(not(loom))]
        linger::linger(|| self.finished.load(Ordering::Relaxed), 1);
        // Ordering: Acquire pairs with the Release in `finish`: the value is there.
        while self.finished.load(Ordering::Acquire) == 0 {
            let in_time = parker.sleep(why, deadline);
            if !in_time {
                if self.try_claim(TIMED_OUT) {
                    return;
                }
                // Somebody was quicker and is about to finish: no more deadline.
                deadline = None;
            }
        }
    }

    /// Claims this waiter for `token`. True for exactly one caller; that one must go on to `finish`
    /// (unless it is the waiter itself, giving up).
    #[inline]
    pub(crate) fn try_claim(&self, token: Token) -> bool {
        debug_assert_ne!(token, WAITING);
        if self.exclusive {
            // Its place hands it to one claimant, under a lock that orders us after whatever the waiter
            // has prepared; what we do is ordered before its return by the wake-up.
            debug_assert_eq!(self.claim.load(Ordering::Relaxed), WAITING, "claimed twice");
            self.claim.store(token, Ordering::Relaxed);
            return true;
        }
        // Ordering: Release, so that `park` sees the token with all that came before it; Acquire, so
        // that the claimant sees the frame that the waiter has prepared.
        self.claim.compare_exchange(WAITING, token, Ordering::AcqRel, Ordering::Relaxed).is_ok()
    }

    /// Changes what the waiter was claimed for.
    ///
    /// # Safety
    /// The caller's `try_claim` succeeded, and it has not called `finish`.
    pub(crate) unsafe fn amend(&self, token: Token) {
        debug_assert_ne!(token, WAITING);
        // Ordering: Release, as in `try_claim`.
        self.claim.store(token, Ordering::Release);
    }

    /// Ends the claimant's access to the waiter and its frame, and returns the wake-up to deliver.
    ///
    /// # Safety
    /// The caller's `try_claim` succeeded, and it calls this once, last of all.
    #[inline]
    pub(crate) unsafe fn finish(&self) -> Wake {
        match &self.task {
            Task::Goroutine(task) => Wake(Woken::Goroutine(*task)),
            Task::Thread(parker) => {
                // The order matters: once `finished` is set the thread may leave and take the waiter
                // with it, so the parker is ours before that.
                let parker = Arc::clone(parker);
                // Ordering: Release pairs with the Acquire in `park_thread`.
                self.finished.store(1, Ordering::Release);
                Wake(Woken::Thread(parker))
            }
            Task::Future(cell) => {
                // Taken, not cloned: a clone would run the executor's code under the caller's lock.
                // SAFETY: claimed by us, and not yet finished.
                let waker = cell.with_mut(|cell| unsafe { (*cell).take() });
                // Ordering: Release pairs with the Acquire in `outcome`.
                self.finished.store(1, Ordering::Release);
                Wake(Woken::Future(waker))
            }
        }
    }
}

/// A wake-up that is owed. Dropping it delivers it, so it cannot be lost.
#[must_use = "deliver the wake-up once the locks have been dropped"]
pub(crate) struct Wake(Woken);

enum Woken {
    Goroutine(NonNull<TaskHeader>),
    Thread(Arc<ThreadParker>),
    Future(Option<Waker>),
}

// SAFETY: as for `Task`.
unsafe impl Send for Woken {}

impl Wake {
    /// A call of a waker.
    #[cfg(not(loom))]
    pub(crate) fn of_future(waker: Waker) -> Wake {
        Wake(Woken::Future(Some(waker)))
    }

    /// The waker that it calls, which may be other people's code.
    #[cfg(not(loom))]
    #[inline]
    pub(crate) fn waker(&self) -> Option<&Waker> {
        match &self.0 {
            Woken::Future(waker) => waker.as_ref(),
            _ => None,
        }
    }

    /// Wakes the task. Call it with no lock held: it may enter the kernel, or an executor.
    #[inline]
    pub(crate) fn deliver(self) {
        match self.0 {
            Woken::Goroutine(task) => {
                std::mem::forget(self);
                // SAFETY: as in `drop`.
                unsafe { (task.as_ref().vtable.unpark)(task) };
            }
            Woken::Thread(_) | Woken::Future(_) => drop(self),
        }
    }

    #[cold]
    #[inline(never)]
    fn wake_other(&mut self) {
        match &mut self.0 {
            Woken::Goroutine(_) => {}
            Woken::Thread(parker) => parker.wake(),
            Woken::Future(waker) => wake_future(waker.take()),
        }
    }
}

impl Drop for Wake {
    #[inline]
    fn drop(&mut self) {
        match &mut self.0 {
            // SAFETY: `finish` was called under the claim, so the goroutine is parked (or about to
            // be) until this very call, and its record is alive.
            Woken::Goroutine(task) => unsafe { (task.as_ref().vtable.unpark)(*task) },
            Woken::Thread(_) | Woken::Future(_) => self.wake_other(),
        }
    }
}

/// Calls a waker: code of some executor, whose panic is none of the business of whoever sends a message.
#[cold]
pub(crate) fn wake_future(waker: Option<Waker>) {
    let Some(waker) = waker else { return };
    if let Err(payload) = catch_unwind(AssertUnwindSafe(|| waker.wake())) {
        // Dropping it might panic again.
        std::mem::forget(payload);
    }
}
