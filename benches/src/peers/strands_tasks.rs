//! strands' tasks: futures that its workers run beside the goroutines. What tokio's tasks are to be compared with.

use std::time::Duration;

use strands::channel::{Receiver, Sender, bounded};
use strands::{task, time};

use crate::futures::{Channels, Runtime};

pub(crate) struct StrandsTasks;

impl Runtime for StrandsTasks {
    type Handle = task::JoinHandle<u64>;

    /// The processors come from `STRANDS_MAXPROCS`.
    fn enter(_procs: usize) {}

    fn root<T: Send + 'static>(f: impl Future<Output = T> + Send + 'static) -> T {
        task::spawn(f).join().expect("the root task panicked")
    }

    fn go(f: impl Future<Output = u64> + Send + 'static) -> Self::Handle {
        task::spawn(f)
    }

    fn go_blocking(f: impl FnOnce() -> u64 + Send + 'static) -> Self::Handle {
        task::spawn(async { f() })
    }

    fn detach(handle: Self::Handle) {
        drop(handle);
    }

    async fn join(handle: Self::Handle) -> u64 {
        handle.await.expect("a task panicked")
    }

    async fn yield_now() {
        let mut is_first = true;
        std::future::poll_fn(|cx| {
            if std::mem::take(&mut is_first) {
                cx.waker().wake_by_ref();
                return std::task::Poll::Pending;
            }
            std::task::Poll::Ready(())
        })
        .await;
    }

    fn sleep(length: Duration) -> impl Future<Output = ()> + Send {
        time::sleep_async(length)
    }
}

impl Channels for StrandsTasks {
    type Tx = Sender<u64>;
    type Rx = Receiver<u64>;

    fn channel(capacity: usize) -> (Self::Tx, Self::Rx) {
        bounded(capacity)
    }

    async fn send(tx: &Self::Tx, value: u64) -> bool {
        tx.send_async(value).await.is_ok()
    }

    async fn recv(rx: &mut Self::Rx) -> Option<u64> {
        rx.recv_async().await.ok()
    }

    fn another_tx(tx: &Self::Tx) -> Self::Tx {
        tx.clone()
    }

    fn another_rx(rx: &Self::Rx) -> Self::Rx {
        rx.clone()
    }
}
