//! The workloads in blocking style, for runtimes whose goroutines are plain closures: strands,
//! may and OS threads. `futures` holds the same workloads in async style, line for line.

mod channels;
mod disturbed;
mod held;
mod locks;
mod parked;
mod tasks;

use std::sync::Arc;
use std::sync::atomic::AtomicU64;
use std::time::Duration;

use crate::measure::{Metric, pin_to};
use crate::workload::{SHARERS, Sizes, Workload};

/// A runtime that runs closures, each returning a number.
pub(crate) trait Runtime: 'static {
    type Handle: Send + 'static;

    /// Prepares the process; called once, on the main thread.
    fn enter(procs: usize);
    /// Runs `f` as a goroutine (of the runtime's main kind) and waits for it on the main thread.
    fn root<T: Send + 'static>(f: impl FnOnce() -> T + Send + 'static) -> T;
    fn go(f: impl FnOnce() -> u64 + Send + 'static) -> Self::Handle;
    /// As `go`, with a stack of 64 KiB.
    fn go_dense(f: impl FnOnce() -> u64 + Send + 'static) -> Self::Handle;
    /// Waits for the goroutine and returns its number; panics if it has panicked.
    fn join(handle: Self::Handle) -> u64;
    fn yield_now();
    fn sleep(length: Duration);
}

/// Channels of numbers. A capacity that the peer lacks is replaced by its nearest equivalent.
pub(crate) trait Channels: 'static {
    type Tx: Send + 'static;
    type Rx: Send + 'static;

    fn channel(capacity: usize) -> (Self::Tx, Self::Rx);
    /// Whether the message was taken: `false` when the receivers have gone.
    fn send(tx: &Self::Tx, value: u64) -> bool;
    /// `None` when the senders have gone.
    fn recv(rx: &mut Self::Rx) -> Option<u64>;
    /// A message from any of them, whichever has one. The senders have not gone.
    fn recv_any(_rxs: &mut [Self::Rx; 4]) -> u64 {
        unreachable!("no select: kept from such workloads")
    }
    /// A second sender.
    fn another_tx(tx: &Self::Tx) -> Self::Tx;
    /// A second receiver.
    fn another_rx(rx: &Self::Rx) -> Self::Rx;
}

/// Locks about a count, which begins at 0.
pub(crate) trait Locks: 'static {
    type Mutex: Send + Sync + 'static;
    type RwLock: Send + Sync + 'static;

    fn mutex() -> Self::Mutex;
    /// Returns the count that was.
    fn increment(mutex: &Self::Mutex) -> u64;
    fn rwlock() -> Self::RwLock;
    fn read(rwlock: &Self::RwLock) -> u64;
    /// Increments the count.
    fn write(rwlock: &Self::RwLock);
    /// Starts `goroutines` that each increment `done`, and waits for them by a wait group.
    fn gather(_goroutines: u64, _done: &Arc<AtomicU64>) {
        unreachable!("no wait group: kept from such workloads")
    }
    /// As many goroutines wait for a context, which is then cancelled.
    fn fan_out(_goroutines: usize) -> Vec<Metric> {
        unreachable!("no contexts: kept from such workloads")
    }
}

/// Runs one of the lock workloads in this process.
pub(crate) fn run_locks<R: Runtime, L: Locks>(workload: Workload, sizes: Sizes) -> Vec<Metric> {
    R::enter(sizes.procs);
    R::root(move || match workload {
        Workload::MutexUncontended => locks::mutex::<R, L>(1, &sizes),
        Workload::Mutex4 => locks::mutex::<R, L>(SHARERS, &sizes),
        Workload::RwlockRead => locks::rwlock_read::<R, L>(&sizes),
        Workload::Waitgroup => locks::waitgroup::<L>(&sizes),
        Workload::ContextFanout => L::fan_out(sizes.parked_default),
        _ => unreachable!("{} needs no locks", workload.name()),
    })
}

/// Runs one of the other workloads in this process.
pub(crate) fn run<R: Runtime, C: Channels>(workload: Workload, sizes: Sizes) -> Vec<Metric> {
    if workload == Workload::SpscOneCpu {
        pin_to(1);
    }
    R::enter(sizes.procs);
    match workload {
        Workload::SpawnJoin => R::root(move || tasks::spawn_join::<R>(&sizes)),
        Workload::Yield2 => R::root(move || tasks::yields::<R>(2, &sizes)),
        Workload::Yield1000 => R::root(move || tasks::yields::<R>(1_000, &sizes)),
        Workload::Skynet => R::root(move || tasks::skynet::<R, C>(&sizes)),
        Workload::PingPong => R::root(move || channels::ping_pong::<R, C>(&sizes)),
        Workload::Spsc | Workload::SpscOneCpu => R::root(move || channels::spsc::<R, C>(&sizes)),
        Workload::Mpmc => R::root(move || channels::mpmc::<R, C>(&sizes)),
        Workload::Select4Rendezvous => R::root(move || channels::select4::<R, C>(0, &sizes)),
        Workload::Select4Buffered => {
            R::root(move || channels::select4::<R, C>(channels::CAPACITY, &sizes))
        }
        Workload::Ring => R::root(move || channels::ring::<R, C>(&sizes)),
        Workload::Sieve => R::root(move || channels::sieve::<R, C>(&sizes)),
        Workload::Parked1m => R::root(move || parked::parked::<R, C>(sizes.parked_dense, true)),
        Workload::Parked100kDefault => {
            R::root(move || parked::parked::<R, C>(sizes.parked_default, false))
        }
        Workload::ManySleeps => R::root(move || parked::many_sleeps::<R>(&sizes)),
        Workload::BlockedThreads => disturbed::blocked_threads::<R>(&sizes),
        Workload::HogLatency => disturbed::hog_latency::<R>(&sizes),
        Workload::Hogs2 => held::hogs_beside::<R, C>(2, &sizes),
        Workload::Hogs8 => held::hogs_beside::<R, C>(8, &sizes),
        Workload::BlockingSleeps => held::blocking_sleeps::<R>(&sizes),
        Workload::Skewed => held::skewed::<R>(&sizes),
        Workload::MutexUncontended
        | Workload::Mutex4
        | Workload::RwlockRead
        | Workload::Waitgroup
        | Workload::ContextFanout => unreachable!("run_locks has it"),
        Workload::Echo | Workload::IdleConnections | Workload::Transfer => {
            unreachable!("`net` has it")
        }
        Workload::IdleCpu => disturbed::idle_cpu::<R, C>(&sizes),
    }
}
