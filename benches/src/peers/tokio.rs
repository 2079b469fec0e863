//! tokio, with its own channels and with kanal's and flume's.

use std::sync::Arc;
use std::time::Duration;

use tokio::runtime;
use tokio::sync::{Semaphore, mpsc};
use tokio::task::JoinHandle;

use crate::futures::{Channels, Runtime};

/// A blocking call is made plainly, inside a task.
pub(crate) struct Tokio;

/// A blocking call is made through `spawn_blocking`.
pub(crate) struct TokioPool;

fn enter(procs: usize) {
    let built = runtime::Builder::new_multi_thread().worker_threads(procs).enable_time().build();
    let runtime: &'static runtime::Runtime = Box::leak(Box::new(built.expect("a runtime")));
    // The main thread stays within it until the process ends.
    std::mem::forget(runtime.enter());
}

macro_rules! runtime {
    ($name:ident, |$f:ident| $go_blocking:expr) => {
        impl Runtime for $name {
            type Handle = JoinHandle<u64>;

            fn enter(procs: usize) {
                enter(procs);
            }

            fn root<T: Send + 'static>(f: impl Future<Output = T> + Send + 'static) -> T {
                let root = tokio::spawn(f);
                let joined = runtime::Handle::current().block_on(root);
                joined.expect("the root task panicked")
            }

            fn go(f: impl Future<Output = u64> + Send + 'static) -> Self::Handle {
                tokio::spawn(f)
            }

            fn go_blocking($f: impl FnOnce() -> u64 + Send + 'static) -> Self::Handle {
                $go_blocking
            }

            fn detach(handle: Self::Handle) {
                drop(handle);
            }

            async fn join(handle: Self::Handle) -> u64 {
                handle.await.expect("a task panicked")
            }

            fn yield_now() -> impl Future<Output = ()> + Send {
                tokio::task::yield_now()
            }

            fn sleep(length: Duration) -> impl Future<Output = ()> + Send {
                tokio::time::sleep(length)
            }
        }
    };
}

runtime!(Tokio, |f| tokio::spawn(async { f() }));
runtime!(TokioPool, |f| tokio::task::spawn_blocking(f));

/// `tokio::sync::mpsc`: no rendezvous, so capacity 0 becomes 1.
impl Channels for Tokio {
    type Tx = mpsc::Sender<u64>;
    type Rx = mpsc::Receiver<u64>;

    fn channel(capacity: usize) -> (Self::Tx, Self::Rx) {
        mpsc::channel(capacity.max(1))
    }

    async fn send(tx: &Self::Tx, value: u64) -> bool {
        tx.send(value).await.is_ok()
    }

    fn recv(rx: &mut Self::Rx) -> impl Future<Output = Option<u64>> + Send {
        rx.recv()
    }

    async fn recv_any([a, b, c, d]: &mut [Self::Rx; 4]) -> u64 {
        let message = tokio::select! {
            message = a.recv() => message,
            message = b.recv() => message,
            message = c.recv() => message,
            message = d.recv() => message,
        };
        message.expect("the senders are kept")
    }

    fn another_tx(tx: &Self::Tx) -> Self::Tx {
        tx.clone()
    }

    fn another_rx(_rx: &Self::Rx) -> Self::Rx {
        unreachable!("one consumer only: kept from such workloads")
    }
}

/// A semaphore in the place of a channel on which many tasks wait: tokio has none with several
/// consumers. A message is a permit; it carries no value but 1.
pub(crate) struct Permits;

impl Channels for Permits {
    type Tx = Arc<Semaphore>;
    type Rx = Arc<Semaphore>;

    fn channel(_capacity: usize) -> (Self::Tx, Self::Rx) {
        let permits = Arc::new(Semaphore::new(0));
        (permits.clone(), permits)
    }

    async fn send(tx: &Self::Tx, value: u64) -> bool {
        tx.add_permits(value as usize);
        true
    }

    async fn recv(rx: &mut Self::Rx) -> Option<u64> {
        rx.acquire().await.ok()?.forget();
        Some(1)
    }

    fn another_tx(tx: &Self::Tx) -> Self::Tx {
        tx.clone()
    }

    fn another_rx(rx: &Self::Rx) -> Self::Rx {
        rx.clone()
    }
}

/// kanal's async side.
pub(crate) struct Kanal;

impl Channels for Kanal {
    type Tx = kanal::AsyncSender<u64>;
    type Rx = kanal::AsyncReceiver<u64>;

    fn channel(capacity: usize) -> (Self::Tx, Self::Rx) {
        kanal::bounded_async(capacity)
    }

    async fn send(tx: &Self::Tx, value: u64) -> bool {
        tx.send(value).await.is_ok()
    }

    async fn recv(rx: &mut Self::Rx) -> Option<u64> {
        rx.recv().await.ok()
    }

    fn another_tx(tx: &Self::Tx) -> Self::Tx {
        tx.clone()
    }

    fn another_rx(rx: &Self::Rx) -> Self::Rx {
        rx.clone()
    }
}

/// flume's async side.
pub(crate) struct Flume;

impl Channels for Flume {
    type Tx = flume::Sender<u64>;
    type Rx = flume::Receiver<u64>;

    fn channel(capacity: usize) -> (Self::Tx, Self::Rx) {
        flume::bounded(capacity)
    }

    async fn send(tx: &Self::Tx, value: u64) -> bool {
        tx.send_async(value).await.is_ok()
    }

    async fn recv(rx: &mut Self::Rx) -> Option<u64> {
        rx.recv_async().await.ok()
    }

    async fn recv_any([a, b, c, d]: &mut [Self::Rx; 4]) -> u64 {
        let message = tokio::select! {
            message = a.recv_async() => message,
            message = b.recv_async() => message,
            message = c.recv_async() => message,
            message = d.recv_async() => message,
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

async_locks!(Tokio, tokio::sync::Mutex<u64>, tokio::sync::RwLock<u64>);
