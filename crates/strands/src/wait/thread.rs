//! How a plain OS thread waits: on a futex of its own, never on `std::thread::park`, whose token
//! belongs to the user.
//!
//! | `state` | meaning |
//! |---|---|
//! | `AWAKE` | runs, no wake-up pending |
//! | `ASLEEP` | in the kernel or on the way there |
//! | `ASLEEP_FOR_GOOD` | likewise, with no deadline: the thread cannot go on unless it is woken |
//! | `WOKEN` | a wake-up is pending |
//! | `ELSEWHERE` | waits in the kernel for something else ([`elsewhere`]); has no use for wake-ups |
//!
//! [`Sleeps`] counts the threads that are `ASLEEP_FOR_GOOD`, and errs on one side only: a thread
//! goes on the count after it has fallen asleep, and the *waker* takes it off before it wakes it. So the
//! count (which may dip below zero for a moment) never includes a thread that can still run.

#[cfg(not(loom))]
use super::{Followed, Held, stack_pointer};
use super::{Reason, WaitKind};
use crate::primitive::{Arc, Futex};
use std::sync::atomic::{AtomicU8, AtomicU64, AtomicUsize, Ordering};
use std::sync::{Mutex, OnceLock, Weak};
use std::time::{Duration, Instant};

const AWAKE: u32 = 0;
const ASLEEP: u32 = 1;
const ASLEEP_FOR_GOOD: u32 = 2;
const WOKEN: u32 = 3;
const ELSEWHERE: u32 = 4;

/// After this long without a deadline a thread asks for a look at whether anything can still wake it.
const PATIENCE: Duration = Duration::from_millis(200);

/// The place where one thread sleeps. Shared with its wakers, and outlives the thread if it must.
pub(crate) struct ThreadParker {
    state: Futex,
    kind: AtomicU8,
    object: AtomicUsize,
    /// Milliseconds since [`epoch`].
    since: AtomicU64,
    /// An address on its stack.
    stack: AtomicUsize,
    #[cfg(not(loom))]
    followed: Followed,
    name: Option<String>,
    tid: i32,
}

/// How often threads have fallen asleep with no deadline, and how often they have been woken. Both only
/// grow, so two looks that find the same have missed nothing in between.
#[cfg(not(loom))]
#[derive(Clone, Copy, PartialEq, Eq)]
pub(crate) struct Sleeps {
    began: u64,
    ended: u64,
}

#[cfg(not(loom))]
static BEGAN: AtomicU64 = AtomicU64::new(0);
#[cfg(not(loom))]
static ENDED: AtomicU64 = AtomicU64::new(0);

#[cfg(not(loom))]
impl Sleeps {
    pub(crate) fn count() -> Sleeps {
        // In this order: what happens meanwhile makes the sleepers fewer.
        let began = BEGAN.load(Ordering::SeqCst);
        Sleeps { began, ended: ENDED.load(Ordering::SeqCst) }
    }

    /// How many threads sleep with no deadline, woken by nobody yet.
    pub(crate) fn in_progress(self) -> usize {
        self.began.saturating_sub(self.ended) as usize
    }
}

#[cfg(not(loom))]
fn count_blocked(up: bool) {
    // Ordering: SeqCst, for the one who looks for deadlocks compares it with other counters.
    (if up { &BEGAN } else { &ENDED }).fetch_add(1, Ordering::SeqCst);
}

#[cfg(loom)]
fn count_blocked(_up: bool) {}

fn epoch() -> Instant {
    static EPOCH: OnceLock<Instant> = OnceLock::new();
    *EPOCH.get_or_init(Instant::now)
}

#[cfg(not(loom))]
static ALL: Mutex<Vec<Weak<ThreadParker>>> = Mutex::new(Vec::new());

impl ThreadParker {
    /// The calling thread's own.
    #[cfg(not(loom))]
    pub(crate) fn current() -> Arc<ThreadParker> {
        thread_local! {
            static PARKER: Arc<ThreadParker> = ThreadParker::register();
        }
        // A destructor of a thread-local may wait too, after ours has gone: give it one for the occasion.
        PARKER.try_with(Arc::clone).unwrap_or_else(|_| ThreadParker::register())
    }

    #[cfg(not(loom))]
    fn register() -> Arc<ThreadParker> {
        let parker = Arc::new(ThreadParker::new(
            std::thread::current().name().map(str::to_owned),
            crate::sys::thread_id(),
        ));
        let mut all = ALL.lock().unwrap_or_else(|e| e.into_inner());
        all.retain(|other| other.strong_count() > 0);
        all.push(Arc::downgrade(&parker));
        parker
    }

    /// The calling thread's own.
    #[cfg(loom)]
    pub(crate) fn current() -> Arc<ThreadParker> {
        loom::thread_local! {
            static PARKER: Arc<ThreadParker> = Arc::new(ThreadParker::new(None, 0));
        }
        PARKER.with(Arc::clone)
    }

    fn new(name: Option<String>, tid: i32) -> ThreadParker {
        ThreadParker {
            state: Futex::new(AWAKE),
            kind: AtomicU8::new(WaitKind::Running as u8),
            object: AtomicUsize::new(0),
            since: AtomicU64::new(0),
            stack: AtomicUsize::new(0),
            #[cfg(not(loom))]
            followed: Followed::nothing(),
            name,
            tid,
        }
    }

    /// Sleeps until woken or until the deadline has passed; false means the latter. A wake-up that came
    /// before is used up at once. The caller checks what it waits for and comes again.
    pub(crate) fn sleep(&self, why: Reason, deadline: Option<Instant>) -> bool {
        let asleep = if deadline.is_some() { ASLEEP } else { ASLEEP_FOR_GOOD };
        self.note(why);
        // Ordering: Acquire pairs with the Release in `wake`, here and below.
        if self.state.replace(AWAKE, asleep, Ordering::AcqRel, Ordering::Acquire).is_err() {
            self.use_wake_up();
            return true;
        }
        if deadline.is_none() {
            // A waker may have taken us off the count already; then this only evens it out.
            count_blocked(true);
        }
        let in_time = self.sleep_until_woken(asleep, deadline);
        self.kind.store(WaitKind::Running as u8, Ordering::Relaxed);
        in_time
    }

    fn sleep_until_woken(&self, asleep: u32, deadline: Option<Instant>) -> bool {
        let mut patience = Some(PATIENCE);
        loop {
            let timeout = match deadline {
                Some(deadline) => {
                    let left = deadline.saturating_duration_since(Instant::now());
                    if left.is_zero() {
                        // Giving up races with a waker; whoever changes the word first has won.
                        let gave_up = self
                            .state
                            .replace(asleep, AWAKE, Ordering::AcqRel, Ordering::Acquire)
                            .is_ok();
                        if !gave_up {
                            self.use_wake_up();
                        }
                        return !gave_up;
                    }
                    Some(left)
                }
                None => patience,
            };
            self.state.wait(asleep, timeout);
            if self.state.load(Ordering::Acquire) == WOKEN {
                self.use_wake_up();
                return true;
            }
            if deadline.is_none() && patience.take().is_some() {
                #[cfg(not(loom))]
                crate::sched::watch();
            }
        }
    }

    /// Uses up a pending wake-up, or all of them if there were several.
    ///
    /// By a swap, and [`wake`](Self::wake) changes `WOKEN` to `WOKEN` likewise. With a store here and a load
    /// there a wake-up could be lost: one that came late is pending, from a wait that ended without it. Now
    /// the waker of the next wait sets `finished` and then finds `WOKEN`; we set `AWAKE` and then find
    /// `finished` not set. Each has missed the other's store, and we sleep for good.
    fn use_wake_up(&self) {
        self.state.swap(AWAKE, Ordering::AcqRel);
    }

    /// Wakes the thread, or lets its next sleep end at once.
    pub(crate) fn wake(&self) {
        // The thread leaves the count before it can know that it is awake.
        let mut seen = self.state.load(Ordering::Relaxed);
        loop {
            if seen == ASLEEP_FOR_GOOD {
                count_blocked(false);
            }
            match self.state.replace(seen, WOKEN, Ordering::AcqRel, Ordering::Relaxed) {
                Ok(_) if matches!(seen, AWAKE | WOKEN | ELSEWHERE) => return,
                Ok(_) => return Futex::wake_one(&self.state),
                Err(now) => {
                    if seen == ASLEEP_FOR_GOOD {
                        count_blocked(true);
                    }
                    seen = now;
                }
            }
        }
    }

    #[cfg(all(test, loom))]
    pub(super) fn is_woken(&self) -> bool {
        self.state.load(Ordering::SeqCst) == WOKEN
    }

    fn note(&self, why: Reason) {
        use std::sync::atomic::Ordering::Relaxed;
        self.object.store(why.object, Relaxed);
        self.kind.store(why.kind as u8, Relaxed);
        #[cfg(not(loom))]
        {
            self.since.store(epoch().elapsed().as_millis() as u64, Relaxed);
            self.stack.store(stack_pointer(), Relaxed);
        }
    }

    /// Where it says for which lock it waits.
    #[cfg(not(loom))]
    pub(super) fn followed(&self) -> &Followed {
        &self.followed
    }
}

/// Has the calling thread wait in the kernel for something that is none of ours, and dumps say so.
///
/// It is not on the count of [`Sleeps`]: nobody here can tell what may end the wait.
#[cfg(not(loom))]
pub(crate) fn elsewhere<R>(why: Reason, wait: impl FnOnce() -> R) -> R {
    let parker = ThreadParker::current();
    parker.note(why);
    // A wake-up that is pending came late, for a wait that has ended without it: nobody waits for it.
    parker.state.swap(ELSEWHERE, Ordering::AcqRel);
    let result = wait();
    parker.use_wake_up();
    parker.kind.store(WaitKind::Running as u8, Ordering::Relaxed);
    result
}

/// What a dump says of a thread that waits.
#[cfg(not(loom))]
pub(crate) struct BlockedThread {
    pub(crate) name: Option<String>,
    pub(crate) tid: i32,
    pub(crate) why: Reason,
    pub(crate) for_how_long: Duration,
    /// An address on its stack.
    pub(crate) stack: usize,
    /// Who holds the lock for which it waits.
    pub(crate) held: Held,
}

/// The plain threads that wait at the seam just now.
#[cfg(not(loom))]
pub(crate) fn blocked_threads() -> Vec<BlockedThread> {
    use std::sync::atomic::Ordering::Relaxed;
    let all: Vec<_> = {
        let all = ALL.lock().unwrap_or_else(|e| e.into_inner());
        all.iter().filter_map(Weak::upgrade).collect()
    };
    let now = epoch().elapsed();
    let waits = |parker: &Arc<ThreadParker>| {
        let state = parker.state.load(Ordering::Acquire);
        matches!(state, ASLEEP | ASLEEP_FOR_GOOD | ELSEWHERE)
    };
    let look = |parker: Arc<ThreadParker>| BlockedThread {
        name: parker.name.clone(),
        tid: parker.tid,
        why: Reason::on(
            WaitKind::from_byte(parker.kind.load(Relaxed)),
            parker.object.load(Relaxed),
        ),
        for_how_long: now.saturating_sub(Duration::from_millis(parker.since.load(Relaxed))),
        stack: parker.stack.load(Relaxed),
        held: parker.followed.held(),
    };
    all.into_iter().filter(waits).map(look).collect()
}
