//! smol: its global executor and async-channel.

use std::time::Duration;

use smol::channel::{Receiver, Sender, bounded};
use smol::future::race;
use smol::{Task, Timer};

use crate::futures::{Channels, Runtime};

/// A blocking call is made plainly, inside a task.
pub(crate) struct Smol;

/// A blocking call is made through `unblock`.
pub(crate) struct SmolPool;

macro_rules! runtime {
    ($name:ident, |$f:ident| $go_blocking:expr) => {
        impl Runtime for $name {
            type Handle = Task<u64>;

            /// The threads come from `SMOL_THREADS`.
            fn enter(_procs: usize) {}

            fn root<T: Send + 'static>(f: impl Future<Output = T> + Send + 'static) -> T {
                smol::block_on(smol::spawn(f))
            }

            fn go(f: impl Future<Output = u64> + Send + 'static) -> Self::Handle {
                smol::spawn(f)
            }

            fn go_blocking($f: impl FnOnce() -> u64 + Send + 'static) -> Self::Handle {
                $go_blocking
            }

            fn detach(handle: Self::Handle) {
                handle.detach();
            }

            fn join(handle: Self::Handle) -> impl Future<Output = u64> + Send {
                handle
            }

            fn yield_now() -> impl Future<Output = ()> + Send {
                smol::future::yield_now()
            }

            async fn sleep(length: Duration) {
                Timer::after(length).await;
            }
        }
    };
}

runtime!(Smol, |f| smol::spawn(async { f() }));
runtime!(SmolPool, |f| smol::unblock(f));

/// async-channel: no rendezvous, so capacity 0 becomes 1.
impl Channels for Smol {
    type Tx = Sender<u64>;
    type Rx = Receiver<u64>;

    fn channel(capacity: usize) -> (Self::Tx, Self::Rx) {
        bounded(capacity.max(1))
    }

    async fn send(tx: &Self::Tx, value: u64) -> bool {
        tx.send(value).await.is_ok()
    }

    async fn recv(rx: &mut Self::Rx) -> Option<u64> {
        rx.recv().await.ok()
    }

    async fn recv_any([a, b, c, d]: &mut [Self::Rx; 4]) -> u64 {
        let (ab, cd) = (race(a.recv(), b.recv()), race(c.recv(), d.recv()));
        race(ab, cd).await.expect("the senders are kept")
    }

    fn another_tx(tx: &Self::Tx) -> Self::Tx {
        tx.clone()
    }

    fn another_rx(rx: &Self::Rx) -> Self::Rx {
        rx.clone()
    }
}

async_locks!(Smol, smol::lock::Mutex<u64>, smol::lock::RwLock<u64>);
