//! The workloads of `blocking` in async style, for tokio and smol, line for line.

mod channels;
mod disturbed;
mod locks;
mod parked;
mod tasks;

use std::time::Duration;

use crate::measure::Metric;
use crate::workload::{SHARERS, Sizes, Workload};

/// A runtime that runs futures, each resolving to a number.
pub(crate) trait Runtime: 'static {
    type Handle: Send + 'static;

    /// Prepares the process; called once, on the main thread.
    fn enter(procs: usize);
    /// Runs `f` as a task on a worker and waits for it on the main thread.
    fn root<T: Send + 'static>(f: impl Future<Output = T> + Send + 'static) -> T;
    fn go(f: impl Future<Output = u64> + Send + 'static) -> Self::Handle;
    /// Runs a closure that blocks its thread, in the way of this peer.
    fn go_blocking(f: impl FnOnce() -> u64 + Send + 'static) -> Self::Handle;
    /// Lets the task run on by itself.
    fn detach(handle: Self::Handle);
    /// Waits for the task and returns its number; panics if it has panicked.
    fn join(handle: Self::Handle) -> impl Future<Output = u64> + Send;
    fn yield_now() -> impl Future<Output = ()> + Send;
    fn sleep(length: Duration) -> impl Future<Output = ()> + Send;
}

/// Channels of numbers. A capacity that the peer lacks is replaced by its nearest equivalent.
pub(crate) trait Channels: 'static {
    type Tx: Send + Sync + 'static;
    type Rx: Send + 'static;

    fn channel(capacity: usize) -> (Self::Tx, Self::Rx);
    /// Whether the message was taken: `false` when the receivers have gone.
    fn send(tx: &Self::Tx, value: u64) -> impl Future<Output = bool> + Send;
    /// `None` when the senders have gone.
    fn recv(rx: &mut Self::Rx) -> impl Future<Output = Option<u64>> + Send;
    /// A message from any of them, whichever has one. The senders have not gone.
    fn recv_any(_rxs: &mut [Self::Rx; 4]) -> impl Future<Output = u64> + Send {
        async { unreachable!("no select: kept from such workloads") }
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
    fn increment(mutex: &Self::Mutex) -> impl Future<Output = u64> + Send;
    fn rwlock() -> Self::RwLock;
    fn read(rwlock: &Self::RwLock) -> impl Future<Output = u64> + Send;
    /// Increments the count.
    fn write(rwlock: &Self::RwLock) -> impl Future<Output = ()> + Send;
}

/// Runs one of the lock workloads in this process.
pub(crate) fn run_locks<R: Runtime, C: Channels, L: Locks>(
    workload: Workload,
    sizes: Sizes,
) -> Vec<Metric> {
    R::enter(sizes.procs);
    match workload {
        Workload::MutexUncontended => R::root(locks::mutex::<R, L>(1, sizes)),
        Workload::Mutex4 => R::root(locks::mutex::<R, L>(SHARERS, sizes)),
        Workload::RwlockRead => R::root(locks::rwlock_read::<R, L>(sizes)),
        Workload::Waitgroup => R::root(locks::waitgroup::<R, C>(sizes)),
        _ => unreachable!("{} needs no locks", workload.name()),
    }
}

/// Runs one of the other workloads in this process.
pub(crate) fn run<R: Runtime, C: Channels>(workload: Workload, sizes: Sizes) -> Vec<Metric> {
    R::enter(sizes.procs);
    match workload {
        Workload::SpawnJoin => R::root(tasks::spawn_join::<R>(sizes)),
        Workload::Yield2 => R::root(tasks::yields::<R>(2, sizes)),
        Workload::Yield1000 => R::root(tasks::yields::<R>(1_000, sizes)),
        Workload::Skynet => R::root(tasks::skynet::<R, C>(sizes)),
        Workload::PingPong => R::root(channels::ping_pong::<R, C>(sizes)),
        Workload::Spsc => R::root(channels::spsc::<R, C>(sizes)),
        Workload::Mpmc => R::root(channels::mpmc::<R, C>(sizes)),
        Workload::Select4Rendezvous => R::root(channels::select4::<R, C>(0, sizes)),
        Workload::Select4Buffered => R::root(channels::select4::<R, C>(channels::CAPACITY, sizes)),
        Workload::Ring => R::root(channels::ring::<R, C>(sizes)),
        Workload::Sieve => R::root(channels::sieve::<R, C>(sizes)),
        Workload::Parked1m => R::root(parked::parked::<R, C>(sizes.parked_dense)),
        Workload::Parked100kDefault => R::root(parked::parked::<R, C>(sizes.parked_default)),
        Workload::ManySleeps => R::root(parked::many_sleeps::<R>(sizes)),
        Workload::BlockedThreads => disturbed::blocked_threads::<R>(&sizes),
        Workload::HogLatency => disturbed::hog_latency::<R>(&sizes),
        Workload::SpscOneCpu => unreachable!("for OS threads and strands"),
        Workload::Hogs2 | Workload::Hogs8 | Workload::BlockingSleeps | Workload::Skewed => {
            unreachable!("not for tasks")
        }
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
