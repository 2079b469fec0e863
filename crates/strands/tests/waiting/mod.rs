//! For tests of what waits: starting goroutines and threads alike, seeing that one waits, and polling futures
//! by hand.

#![allow(dead_code, reason = "each test file uses a part of it")]

use std::pin::Pin;
use std::sync::Arc;
use std::sync::atomic::{AtomicUsize, Ordering::SeqCst};
use std::task::{Context, Poll, Wake, Waker};
use std::time::Duration;

use super::child::wait_until;

/// Those who can wait by blocking.
#[derive(Clone, Copy, Debug, PartialEq)]
pub(crate) enum Kind {
    Goroutine,
    Thread,
}

pub(crate) const KINDS: [Kind; 2] = [Kind::Goroutine, Kind::Thread];

/// A goroutine or a thread, with a name of its own.
pub(crate) struct Started<T> {
    name: String,
    handle: Handle<T>,
}

enum Handle<T> {
    Goroutine(strands::JoinHandle<T>),
    Thread(std::thread::JoinHandle<T>),
}

impl Kind {
    pub(crate) fn start<T: Send + 'static>(
        self,
        f: impl FnOnce() -> T + Send + 'static,
    ) -> Started<T> {
        static COUNT: AtomicUsize = AtomicUsize::new(0);
        // Without a runtime there is no dump.
        strands::run(|| ());
        let name = format!("waiting {}", COUNT.fetch_add(1, SeqCst));
        let handle = match self {
            Kind::Goroutine => {
                let builder = strands::thread::Builder::new().name(name.clone());
                Handle::Goroutine(builder.spawn(f).expect("there is memory"))
            }
            Kind::Thread => {
                let builder = std::thread::Builder::new().name(name.clone());
                Handle::Thread(builder.spawn(f).expect("there is memory"))
            }
        };
        Started { name, handle }
    }
}

impl<T> Started<T> {
    pub(crate) fn join(self) -> T {
        match self.outcome() {
            Ok(value) => value,
            Err(payload) => std::panic::resume_unwind(payload),
        }
    }

    pub(crate) fn outcome(self) -> std::thread::Result<T> {
        match self.handle {
            Handle::Goroutine(handle) => handle.join(),
            Handle::Thread(handle) => handle.join(),
        }
    }

    pub(crate) fn is_finished(&self) -> bool {
        match &self.handle {
            Handle::Goroutine(handle) => handle.is_finished(),
            Handle::Thread(handle) => handle.is_finished(),
        }
    }

    /// Returns when it waits, for this reason.
    #[track_caller]
    pub(crate) fn until_it_waits(&self, why: &str) {
        wait_until(&format!("{} waits: {why}", self.name), || self.waits(why));
    }

    pub(crate) fn waits(&self, why: &str) -> bool {
        strands::runtime::dump().contains(&format!("{:?} [{why},", self.name))
    }
}

/// How often it was woken.
pub(crate) struct Bell(AtomicUsize);

impl Wake for Bell {
    fn wake(self: Arc<Bell>) {
        self.0.fetch_add(1, SeqCst);
    }
}

impl Bell {
    pub(crate) fn new() -> Arc<Bell> {
        Arc::new(Bell(AtomicUsize::new(0)))
    }

    pub(crate) fn rung(&self) -> usize {
        self.0.load(SeqCst)
    }
}

/// A future that is polled by hand.
pub(crate) struct Polled<F> {
    future: Pin<Box<F>>,
    pub(crate) bell: Arc<Bell>,
}

impl<F: Future> Polled<F> {
    pub(crate) fn new(future: F) -> Polled<F> {
        Polled { future: Box::pin(future), bell: Bell::new() }
    }

    pub(crate) fn poll(&mut self) -> Poll<F::Output> {
        let waker = Waker::from(Arc::clone(&self.bell));
        self.future.as_mut().poll(&mut Context::from_waker(&waker))
    }

    #[track_caller]
    pub(crate) fn assert_pending(&mut self) {
        assert!(self.poll().is_pending());
    }

    #[track_caller]
    pub(crate) fn expect_ready(&mut self) -> F::Output {
        match self.poll() {
            Poll::Ready(output) => output,
            Poll::Pending => panic!("it is not ready"),
        }
    }
}

/// Runs a future to its end on this thread or goroutine.
pub(crate) fn block_on<F: Future>(future: F) -> F::Output {
    struct Unpark(strands::thread::Thread);
    impl Wake for Unpark {
        fn wake(self: Arc<Unpark>) {
            self.0.unpark();
        }
    }
    let waker = Waker::from(Arc::new(Unpark(strands::thread::current())));
    let mut future = std::pin::pin!(future);
    loop {
        match future.as_mut().poll(&mut Context::from_waker(&waker)) {
            Poll::Ready(output) => return output,
            Poll::Pending => strands::thread::park(),
        }
    }
}

/// Longer than anything takes that is to be in time.
pub(crate) const PLENTY: Duration = Duration::from_secs(60);
/// Long enough for a time-out.
pub(crate) const A_MOMENT: Duration = Duration::from_millis(5);
