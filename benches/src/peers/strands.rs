//! strands, through its public API.

use std::sync::{
    Arc,
    atomic::{AtomicU64, Ordering},
};
use std::time::{Duration, Instant};

use strands::channel::{Receiver, Sender, bounded};
use strands::context;
use strands::runtime::{self, Affinity, Config};
use strands::sync::WaitGroup;
use strands::thread::{Builder, JoinHandle};

use crate::blocking::{Channels, Runtime};
use crate::measure::Metric;

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
    },
    fn fan_out(goroutines: usize) -> Vec<Metric> {
        let (ctx, cancel) = context::with_cancel(&context::background());
        let up = Arc::new(AtomicU64::new(0));
        let all: Vec<_> = (0..goroutines)
            .map(|_| {
                let (ctx, up) = (ctx.clone(), up.clone());
                strands::go(move || {
                    up.fetch_add(1, Ordering::Relaxed);
                    assert!(ctx.done().recv().is_err());
                    assert!(ctx.err().is_some());
                })
            })
            .collect();
        while up.load(Ordering::Relaxed) < goroutines as u64 {
            strands::sleep(Duration::from_millis(1));
        }
        // The last of them has still to get from the counter to the context.
        strands::sleep(Duration::from_millis(50));
        let start = Instant::now();
        cancel.cancel();
        let called = start.elapsed();
        all.into_iter().for_each(|one| one.join().expect("a goroutine panicked"));
        let ended = start.elapsed();
        let each = |time: Duration| time.as_nanos() as f64 / goroutines as f64;
        vec![Metric::new("call", "ns", each(called)), Metric::new("each", "ns", each(ended))]
    }
);
