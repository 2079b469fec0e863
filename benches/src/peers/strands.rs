//! strands, through its public API.

use std::sync::{
    Arc,
    atomic::{AtomicU64, Ordering},
};
use std::time::Duration;

use strands::channel::{Receiver, Sender, bounded};
use strands::runtime::{self, Affinity, Config};
use strands::sync::WaitGroup;
use strands::thread::{Builder, JoinHandle};

use crate::blocking::{Channels, Runtime};

pub(crate) struct Strands;

/// Has goroutines roam, or ends the process.
pub(crate) fn roam() {
    let roaming = Config::new().affinity(Affinity::Roaming);
    runtime::configure(roaming).expect("nothing has run yet");
    let refused = runtime::metrics().roaming_refused;
    assert!(refused.is_none(), "goroutines cannot roam here: {refused:?}");
}

impl Runtime for Strands {
    type Handle = JoinHandle<u64>;

    /// The processors come from `STRANDS_MAXPROCS`.
    fn enter(_procs: usize) {}

    fn root<T: Send + 'static>(f: impl FnOnce() -> T + Send + 'static) -> T {
        strands::run(f)
    }

    fn go(f: impl FnOnce() -> u64 + Send + 'static) -> Self::Handle {
        strands::go(f)
    }

    fn go_dense(f: impl FnOnce() -> u64 + Send + 'static) -> Self::Handle {
        let builder = Builder::new().stack_size(64 << 10);
        builder.spawn(f).expect("memory for a goroutine")
    }

    fn join(handle: Self::Handle) -> u64 {
        handle.join().expect("a goroutine panicked")
    }

    fn yield_now() {
        strands::yield_now();
    }

    fn sleep(length: Duration) {
        strands::sleep(length);
    }
}

impl Channels for Strands {
    type Tx = Sender<u64>;
    type Rx = Receiver<u64>;

    fn channel(capacity: usize) -> (Self::Tx, Self::Rx) {
        bounded(capacity)
    }

    fn send(tx: &Self::Tx, value: u64) -> bool {
        tx.send(value).is_ok()
    }

    fn recv(rx: &mut Self::Rx) -> Option<u64> {
        rx.recv().ok()
    }

    fn recv_any([a, b, c, d]: &mut [Self::Rx; 4]) -> u64 {
        let message = strands::select! {
            recv(a) -> message => message,
            recv(b) -> message => message,
            recv(c) -> message => message,
            recv(d) -> message => message,
        };
        message.expect("the senders are kept")
    }

    fn another_tx(tx: &Self::Tx) -> Self::Tx {
        tx.clone()
    }

    fn another_rx(rx: &Self::Rx) -> Self::Rx {
        rx.clone()
    }
}

blocking_locks!(
    Strands,
    strands::sync::Mutex<u64>,
    strands::sync::RwLock<u64>,
    [.unwrap()],
    fn gather(goroutines: u64, done: &Arc<AtomicU64>) {
        let group = WaitGroup::new();
        for _ in 0..goroutines {
            let done = done.clone();
            group.go(move || done.fetch_add(1, Ordering::Relaxed));
        }
        group.wait();
    }
);
