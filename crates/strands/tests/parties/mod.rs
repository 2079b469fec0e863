//! Those who use channels in these tests: goroutines, plain threads, and async tasks on an executor of three
//! lines.
//!
//! Who waits where is never guessed by sleeping: the parties have names, and the runtime's dump says when
//! they are blocked.

#![allow(dead_code, reason = "each test file uses a part of it")]

use std::future::Future;
use std::pin::{Pin, pin};
use std::sync::Arc;
use std::sync::atomic::{AtomicUsize, Ordering::SeqCst};
use std::task::{Context, Poll, Wake, Waker};
use std::time::{Duration, Instant};

use strands::channel::{Receiver, Sender, bounded, unbounded};
use strands::{runtime, thread};

use Kind::{Goroutine, Thread};

/// Longer than anything here takes, on any machine.
pub(crate) const LONG: Duration = Duration::from_secs(60);

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Kind {
    Goroutine,
    Thread,
}

pub(crate) const KINDS: [Kind; 2] = [Goroutine, Thread];
pub(crate) const MIXES: [(Kind, Kind); 4] =
    [(Goroutine, Goroutine), (Goroutine, Thread), (Thread, Goroutine), (Thread, Thread)];
pub(crate) const CAPACITIES: [Option<usize>; 4] = [Some(0), Some(1), Some(3), None];

pub(crate) enum Handle<T> {
    Goroutine(strands::JoinHandle<T>),
    Thread(std::thread::JoinHandle<T>),
}

impl<T> Handle<T> {
    pub(crate) fn outcome(self) -> std::thread::Result<T> {
        match self {
            Handle::Goroutine(handle) => handle.join(),
            Handle::Thread(handle) => handle.join(),
        }
    }

    #[track_caller]
    pub(crate) fn join(self) -> T {
        self.outcome().expect("no panic")
    }
}

pub(crate) fn start<T: Send + 'static>(
    kind: Kind,
    f: impl FnOnce() -> T + Send + 'static,
) -> Handle<T> {
    match kind {
        Goroutine => Handle::Goroutine(strands::go(f)),
        Thread => Handle::Thread(std::thread::spawn(f)),
    }
}

/// Starts a party and waits until it blocks on a channel, or in a select.
#[track_caller]
pub(crate) fn start_blocked<T: Send + 'static>(
    kind: Kind,
    f: impl FnOnce() -> T + Send + 'static,
) -> Handle<T> {
    static COUNT: AtomicUsize = AtomicUsize::new(0);
    let name = format!("party {}", COUNT.fetch_add(1, SeqCst));
    let handle = match kind {
        Goroutine => Handle::Goroutine(
            thread::Builder::new().name(name.clone()).spawn(f).expect("a goroutine"),
        ),
        Thread => Handle::Thread(
            std::thread::Builder::new().name(name.clone()).spawn(f).expect("a thread"),
        ),
    };
    let lines = ["chan ", "select"].map(|why| format!("{name:?} [{why}"));
    wait_until(|| {
        let dump = runtime::dump();
        lines.iter().any(|line| dump.contains(line))
    });
    handle
}

#[track_caller]
pub(crate) fn wait_until(mut condition: impl FnMut() -> bool) {
    let begun = Instant::now();
    while !condition() {
        assert!(begun.elapsed() < LONG, "it has not come to pass");
        std::thread::sleep(Duration::from_micros(200));
    }
}

pub(crate) fn channel<T>(cap: Option<usize>) -> (Sender<T>, Receiver<T>) {
    cap.map_or_else(unbounded, bounded)
}

/// Counts its drops.
#[derive(Debug)]
pub(crate) struct Counted(pub(crate) Arc<AtomicUsize>);

impl Drop for Counted {
    fn drop(&mut self) {
        self.0.fetch_add(1, SeqCst);
    }
}

// ---- Async tasks ----

/// A waker that counts how often it was woken.
#[derive(Default)]
pub(crate) struct Bell(AtomicUsize);

impl Wake for Bell {
    fn wake(self: Arc<Self>) {
        self.0.fetch_add(1, SeqCst);
    }
}

impl Bell {
    pub(crate) fn new() -> Arc<Bell> {
        Arc::default()
    }

    pub(crate) fn rung(&self) -> usize {
        self.0.load(SeqCst)
    }
}

/// Polls once, to be woken by this bell.
pub(crate) fn poll<F: Future>(future: Pin<&mut F>, bell: &Arc<Bell>) -> Poll<F::Output> {
    future.poll(&mut Context::from_waker(&Waker::from(Arc::clone(bell))))
}

/// An executor: one task, on the goroutine or thread that calls.
pub(crate) fn block_on<F: Future>(future: F) -> F::Output {
    struct Unpark(thread::Thread);
    impl Wake for Unpark {
        fn wake(self: Arc<Self>) {
            self.0.unpark();
        }
    }
    let waker = Waker::from(Arc::new(Unpark(thread::current())));
    let mut future = pin!(future);
    loop {
        if let Poll::Ready(output) = future.as_mut().poll(&mut Context::from_waker(&waker)) {
            return output;
        }
        // Not the thread: that may be the home of those we wait for.
        thread::park();
    }
}

// ---- Chance ----

/// A random generator, good enough for tests.
pub(crate) struct Random(u64);

impl Random {
    pub(crate) fn new(seed: u64) -> Random {
        Random(seed.wrapping_mul(0x9E37_79B9_7F4A_7C15) | 1)
    }

    /// A number below `end`.
    pub(crate) fn below(&mut self, end: usize) -> usize {
        self.0 ^= self.0 >> 12;
        self.0 ^= self.0 << 25;
        self.0 ^= self.0 >> 27;
        ((self.0.wrapping_mul(0x2545_F491_4F6C_DD1D) >> 33) as usize) % end
    }
}

/// Of `STRANDS_TEST_SEED`, or else of the clock; printed, so that a failure can be had again.
pub(crate) fn seed() -> u64 {
    let given = std::env::var("STRANDS_TEST_SEED").ok().and_then(|seed| seed.parse().ok());
    let seed = given.unwrap_or_else(|| {
        let now = std::time::SystemTime::now().duration_since(std::time::UNIX_EPOCH);
        now.map_or(1, |now| now.as_nanos() as u64)
    });
    println!("STRANDS_TEST_SEED={seed}");
    seed
}
