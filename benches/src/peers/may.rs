//! may: stackful coroutines. Its channels are all unbounded.

use std::time::Duration;

use may::coroutine::{self, Builder, JoinHandle};
use may::sync::{mpmc, spsc};

use crate::blocking::{Channels, Runtime};

pub(crate) struct May;

/// may counts stacks in words.
const fn words(bytes: usize) -> usize {
    bytes / size_of::<usize>()
}

fn spawn<T: Send + 'static>(
    builder: Builder,
    f: impl FnOnce() -> T + Send + 'static,
) -> JoinHandle<T> {
    // SAFETY: may asks that the closure uses no thread-locals across a suspension and does not
    // overflow its stack: the workloads keep none, and each is a few shallow frames.
    let spawned = unsafe { builder.spawn(f) };
    spawned.expect("memory for a coroutine")
}

impl Runtime for May {
    type Handle = JoinHandle<u64>;

    fn enter(procs: usize) {
        may::config().set_workers(procs);
    }

    /// On a roomy stack: this one also reads memory figures and formats messages.
    fn root<T: Send + 'static>(f: impl FnOnce() -> T + Send + 'static) -> T {
        let handle = spawn(Builder::new().stack_size(words(512 << 10)), f);
        handle.join().expect("the root coroutine panicked")
    }

    fn go(f: impl FnOnce() -> u64 + Send + 'static) -> Self::Handle {
        spawn(Builder::new(), f)
    }

    fn go_dense(f: impl FnOnce() -> u64 + Send + 'static) -> Self::Handle {
        spawn(Builder::new().stack_size(words(64 << 10)), f)
    }

    fn join(handle: Self::Handle) -> u64 {
        handle.join().expect("a coroutine panicked")
    }

    fn yield_now() {
        coroutine::yield_now();
    }

    fn sleep(length: Duration) {
        coroutine::sleep(length);
    }
}

/// `may::sync::mpmc`.
impl Channels for May {
    type Tx = mpmc::Sender<u64>;
    type Rx = mpmc::Receiver<u64>;

    fn channel(_capacity: usize) -> (Self::Tx, Self::Rx) {
        mpmc::channel()
    }

    fn send(tx: &Self::Tx, value: u64) -> bool {
        tx.send(value).is_ok()
    }

    fn recv(rx: &mut Self::Rx) -> Option<u64> {
        rx.recv().ok()
    }

    fn another_tx(tx: &Self::Tx) -> Self::Tx {
        tx.clone()
    }

    fn another_rx(rx: &Self::Rx) -> Self::Rx {
        rx.clone()
    }
}

/// `may::sync::spsc`, may's fastest.
pub(crate) struct Spsc;

impl Channels for Spsc {
    type Tx = spsc::Sender<u64>;
    type Rx = spsc::Receiver<u64>;

    fn channel(_capacity: usize) -> (Self::Tx, Self::Rx) {
        spsc::channel()
    }

    fn send(tx: &Self::Tx, value: u64) -> bool {
        tx.send(value).is_ok()
    }

    fn recv(rx: &mut Self::Rx) -> Option<u64> {
        rx.recv().ok()
    }

    fn another_tx(_tx: &Self::Tx) -> Self::Tx {
        unreachable!("one producer only: kept from such workloads")
    }

    fn another_rx(_rx: &Self::Rx) -> Self::Rx {
        unreachable!("one consumer only: kept from such workloads")
    }
}

blocking_locks!(May, may::sync::Mutex<u64>, may::sync::RwLock<u64>, [.unwrap()]);
