//! The scheduler: goroutines on workers (OS threads) with processors (rights to take fresh work).
//!
//! ```text
//!                go ──► injector / a processor's queue        monitor: takes processors from
//!                               │                              blocked and hogging workers,
//!                     fresh     ▼      at home                 fires late timers, trims stacks,
//!     processor ◄────────── worker ◄──────── inbox             reports deadlocks
//!     (queue)     has one,   loop             ▲
//!                 or none      │              │ unpark
//!                              ▼              │
//!                     goroutine on its stack ─┴─► wait (the seam) ◄── channels, joins, timers
//! ```
//!
//! | file | story |
//! |---|---|
//! | `goroutine`, `started` | a goroutine's two records, from birth to end |
//! | `spawn`, `join` | making goroutines, and the handle's side |
//! | `future`, `future_state` | futures that workers run, a poll at a time |
//! | `locals` | values per goroutine, and their inheritance |
//! | `worker` | the loop: what runs next, searching, sleeping |
//! | `processor`, `tenure` | the right to take fresh work, and how it is taken away |
//! | `idle`, `parker` | whom to wake, and why no wake-up is lost |
//! | `monitor` | hand-off from blocked and hogging threads, and the rarer duties |
//! | `overdue` | turns that last: who holds a thread, how, and for how long |
//! | `offenders`, `hosts` | places whose goroutines hold their threads, and threads of their own for these |
//! | `stuck` | a goroutine that blocks its thread in a lock, and its siblings |
//! | `trimmer` | giving memory back from stacks that went deep |
//! | `timers`, `clock` | deadlines of goroutines |
//! | `poller` | descriptors that are waited for |
//! | `alarms`, `bedtime` | deadlines of async tasks, and the thread that keeps those of other executors |
//! | `blocking` | spare threads |
//! | `roaming` | goroutines with thread-locals of their own, which change their threads |
//! | `panic_count` | panics that are suspended |
//! | `census` | dumps and the deadlock report |
//! | `threads` | how the runtime's threads are started, which inherit nothing |
//! | `here` | evidence of being on a worker's thread |
//!
//! # Why `go` is a safe function
//!
//! A suspended stack may hold anything: a borrow of a thread-local, an `Rc` that was taken out of one, a
//! `StdoutLock`, the address of a thread-local that the compiler has kept in a register. Rust's type
//! system says of all these that they stay on their thread. So they must: either the goroutine stays there, at
//! home, or all that is a thread's goes where it goes, which is the story of `roaming`. This scheduler keeps the
//! following rules, and `tests/soundness.rs` has a test for each that fails when it is broken.
//!
//! 1. **A goroutine that has started never changes its thread.** Until its first instruction there is only
//!    its closure, which is `Send`, and anybody may start it. From then on it is in its home's list or
//!    inbox, which nobody else takes from. To the compiler and to every library it is a function that this
//!    thread called and that has not returned yet; between two of its instructions other functions of the
//!    same thread have run, as after any call.
//! 2. **A panic that is under way stays with its goroutine.** See `panic_count`.
//! 3. **Workers sleep on a futex of their own.** `std::thread::park` has a token that belongs to whoever
//!    calls it; a worker that used it would eat its goroutines' tokens.
//! 4. **Nothing of ours carries a thread-local's address across a switch.** [`here::Here::get`] and
//!    `wait::current` are never inlined.
//! 5. **A suspended stack is never freed or unwound.** It ends by running to its end, or stays until the
//!    process ends. So whoever lent something to a frame on it may rely on that frame's destructors: what
//!    `scope` does.
//! 6. **A scope ends after its children.** It takes a closure (a guard could be leaked), its lifetimes are
//!    invariant, and a child has ended only when its result has been handed over or dropped.
//! 7. **Results are dropped where user code may run**: on the goroutine's own stack or by the handle's
//!    owner, never on a worker's.
//! 8. **Stack memory is only given back below what a suspended goroutine uses**, by its own home (or, if it roams, by
//!    whoever has claimed it meanwhile), and an overflow hits a guard.
//!
//! What one might fear, and why it holds: `RefCell`s and `Cell`s in thread-locals are shared by the
//! goroutines at home on a thread, as they are by the functions of any thread: a borrow that is held over
//! a suspension can make a neighbour's `borrow_mut` panic, but not race. A `std::sync::Mutex` guard held
//! over one can block the thread on itself: a deadlock of std's kind, not unsoundness.
//!
//! **What does not hold at home.** std initialises a lazy thread-local (one whose initial value is not `const`) by calling
//! the initialiser, storing what it returns, and dropping what an initialiser *within that initialiser* has stored meanwhile,
//! which nobody can have borrowed any longer. If the initialiser suspends its goroutine, a sibling may initialise the same
//! variable, and suspend in the middle of `with`: then the first one drops what the sibling borrows. Nothing of ours runs
//! between the two, and no word of std's says that an initialiser is under way, so it cannot be prevented from here; it
//! is said in the documentation of `Affinity` that such an initialiser must not wait. Under `Roaming` it may
//! (`tests/roaming_hostile.rs`).

mod alarms;
pub(crate) mod bedtime;
mod blocking;
mod census;
mod clock;
mod future;
pub(crate) mod future_state;
mod goroutine;
mod here;
mod holders;
mod hosts;
pub(crate) mod idle;
mod join;
pub(crate) mod locals;
mod monitor;
mod offenders;
mod overdue;
mod panic_count;
pub(crate) mod parker;
mod poller;
mod processor;
mod roaming;
mod runtime;
mod spawn;
mod started;
mod stuck;
mod tenure;
pub(crate) mod threads;
mod timers;
mod trimmer;
mod worker;

pub use crate::config::Affinity;
pub(crate) use alarms::AlarmFuture;
pub(crate) use blocking::blocking;
pub(crate) use census::dump;
pub use future::Cancelled;
pub(crate) use future::{FutureRef, spawn_future};
pub(crate) use goroutine::Completion;
pub(crate) use join::Join;
pub(crate) use poller::{Place, Side, Source};
pub(crate) use roaming::{affinity_in_force, refused as roaming_refused};
pub(crate) use runtime::Runtime;
pub(crate) use spawn::{Order, spawn};

use crate::identity::Identity;
use crate::wait::{WaitKind, Waiter};
use std::any::Any;
use std::sync::Arc;
use std::time::{Duration, Instant};

/// A wait longer than this is as good as for ever; the clock's arithmetic stays far from its end.
const LONGEST: Duration = Duration::from_secs(30 * 365 * 24 * 3600);

/// The deadline that is `after` from now.
pub(crate) fn deadline(after: Duration) -> Instant {
    deadline_from(Instant::now(), after)
}

/// The deadline that is `after` from a moment.
pub(crate) fn deadline_from(moment: Instant, after: Duration) -> Instant {
    moment.checked_add(after.min(LONGEST)).unwrap_or(moment)
}

/// Lets others run: the goroutines at home here and fresh ones, or else other threads.
#[inline]
pub(crate) fn yield_now() {
    match here::current() {
        Some(started) => started.give_way(),
        None => std::thread::yield_now(),
    }
}

/// Waits for `time` at least.
pub(crate) fn sleep(time: Duration) {
    if here::current().is_none() {
        std::thread::sleep(time);
    } else if time.is_zero() {
        yield_now();
    } else {
        Waiter::new().park(WaitKind::Sleep.into(), Some(deadline(time)));
    }
}

/// Waits until that moment at least.
pub(crate) fn sleep_until(moment: Instant) {
    let left = || moment.saturating_duration_since(Instant::now());
    if here::current().is_none() {
        std::thread::sleep(left());
    } else if left().is_zero() {
        yield_now();
    } else {
        Waiter::new().park(WaitKind::Sleep.into(), Some(moment));
    }
}

/// The goroutine that runs here has panicked, and somebody keeps the payload: reports that and ends the process,
/// if panics are to do that.
pub(crate) fn abort_if_told(payload: &Box<dyn Any + Send>) {
    if here::Here::runtime_aborts_on_panic()
        && let Some(record) = here::current().and_then(started::Started::record)
    {
        record.abort_for(payload);
    }
}

/// Whether a goroutine runs here, and no plain thread.
pub(crate) fn is_goroutine() -> bool {
    here::current().is_some()
}

/// This goroutine has accepted a connection: the next that it spawns is to be where there is room.
pub(crate) fn spread_next() {
    if here::current().is_some()
        && let Some(here) = here::Here::get()
    {
        here.spread_next();
    }
}

/// Who runs here: the goroutine, or else the thread.
pub(crate) fn identity() -> Arc<Identity> {
    here::current().map_or_else(Identity::of_os_thread, started::Started::identity)
}

/// A thread has been blocked for a while: somebody should look whether anything can still wake it.
#[cold]
pub(crate) fn watch() {
    if let Ok(runtime) = Runtime::get() {
        runtime.monitor.ask();
    }
}
