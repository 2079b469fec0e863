//! Goroutines for Rust: plain blocking code, as many flows of control as the problem has, on a few OS
//! threads.
//!
//! ```
//! use strands::channel::bounded;
//!
//! let (tx, rx) = bounded(8);
//! let producer = strands::go(move || {
//!     for n in 1..=10_u32 {
//!         tx.send(n).expect("the consumer is there");
//!     }
//! });
//! let sum = strands::go(move || rx.into_iter().sum::<u32>());
//! producer.join().unwrap();
//! assert_eq!(sum.join().unwrap(), 55);
//! ```
//!
//! * [`go`] starts a goroutine: a closure with a stack of its own, which starts with one page and grows to
//!   8 MiB when it must. There may be a million.
//! * A goroutine that waits (for a [`channel`], a [`join`](JoinHandle::join), a [`sleep`]) lets others use its
//!   thread. One that computes for long, or blocks its thread by a call that we know nothing of, loses the
//!   right to start others to another thread, within milliseconds.
//! * Every word here also works on a plain OS thread, and blocks that. Nothing has to be set up: the
//!   runtime starts with the first `go`, and the process ends when `main` returns.
//! * A [`context`] tells those who work for somebody when their work is no longer wanted. [`try_scope`] and
//!   [`sync::Group`] are for goroutines that may fail, [`goroutine_local!`] for values of which each has its own.
//! * [`io`], [`fs`] and [`process`] are shaped as std's; what waits blocks the goroutine. [`task`] is the bridge to
//!   async code: a goroutine waits for a future, futures run beside goroutines, and hyper serves on them.
//! * There is no `async` to write, no `unsafe` to call, and `go` asks of its closure what
//!   [`std::thread::spawn`] asks.
//!
//! # What differs from threads
//!
//! A goroutine stays on the OS thread on which it first ran, and shares that thread's `thread_local!`s with
//! the other goroutines at home there; unless it [roams](thread::Affinity::Roaming), on Linux with glibc: then it has
//! `thread_local!`s of its own, runs wherever a thread is free, and what follows does not concern it. The initialiser of a
//! `thread_local!` must not wait: a sibling may use the variable meanwhile, which std does not reckon with. A *thread-blocking* lock (`std::sync::Mutex`) must not be held across
//! a wait: the goroutine that would release it may be behind the one that blocks their thread on it. The locks of
//! [`sync`] may.
//! Computing for long, or blocking the thread, holds up the goroutines that are at home on it (and no
//! others); [`blocking`] is for calls of which one knows it. Goroutines from a place that is known for it start on
//! threads of their own: the first of them is seen to, and said on stderr (see
//! [`Config::advice`](runtime::Config::advice)).
//!
//! # What differs from Go
//!
//! Handles can be joined and carry results; a panic stays in its goroutine until joined; memory is
//! shared only as Rust allows. `main` need not be a goroutine. Where std has a thing, ours has std's name
//! and shape, with "blocks the thread" replaced by "blocks the goroutine".
//!
//! Supported: Linux.

#![cfg_attr(
    loom,
    allow(
        dead_code,
        unreachable_pub,
        unused_imports,
        reason = "under loom most of the crate is left out: see `mod sched` below"
    )
)]

#[cfg(not(target_os = "linux"))]
compile_error!("strands supports Linux; the calls that would have to be ported are in `src/sys`");

mod identity;
mod primitive;
mod queue;
mod selection;
mod sys;
mod wait;

pub mod channel;
pub mod sync;

#[cfg(not(loom))]
mod config;
#[cfg(not(loom))]
pub mod context;
#[cfg(not(loom))]
mod everyday;
#[cfg(not(loom))]
pub mod fs;
#[cfg(not(loom))]
mod group;
#[cfg(not(loom))]
pub mod io;
#[cfg(not(loom))]
pub mod local;
#[cfg(not(loom))]
pub mod net;
#[cfg(not(loom))]
pub mod process;
#[cfg(not(loom))]
pub mod runtime;
#[cfg(not(loom))]
mod sched;
#[cfg(not(loom))]
mod stack;
#[cfg(not(loom))]
mod structured;
#[cfg(not(loom))]
mod switch;
#[cfg(not(loom))]
pub mod task;
#[cfg(not(loom))]
pub mod thread;
#[cfg(not(loom))]
pub mod time;

/// Under loom, of the scheduler only what loom can check.
#[cfg(loom)]
mod sched {
    pub(crate) mod bedtime;
    pub(crate) mod future_state;
    pub(crate) mod idle;
    pub(crate) mod parker;
    pub(crate) mod roaming {
        pub(crate) mod stage;
    }
    mod tenure;
}

#[cfg(not(loom))]
pub use everyday::{blocking, go, run, sleep, yield_now};
#[cfg(not(loom))]
pub use strands_macros::{main, test};
#[cfg(not(loom))]
pub use structured::{
    Failed, Supervisor, TryJoinHandle, TryScope, supervise, try_scope, try_scope_with,
};
#[cfg(not(loom))]
pub use thread::{JoinHandle, Scope, ScopedJoinHandle, scope};

/// What the macros expand to.
#[doc(hidden)]
pub mod __private {
    pub use crate::selection::{Arm, Until, run, within};
}

/// The examples in the README run, too.
#[cfg(doctest)]
#[doc = include_str!("../../../README.md")]
struct Readme;
