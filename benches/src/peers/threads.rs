//! OS threads, with the channels that block them.

use std::sync::mpsc;
use std::thread::{self, JoinHandle};
use std::time::Duration;

use crate::blocking::{Channels, Runtime};
use crate::measure::pin_to;

pub(crate) struct Threads;

impl Runtime for Threads {
    type Handle = JoinHandle<u64>;

    fn enter(procs: usize) {
        pin_to(procs);
    }

    fn root<T: Send + 'static>(f: impl FnOnce() -> T + Send + 'static) -> T {
        f()
    }

    fn go(f: impl FnOnce() -> u64 + Send + 'static) -> Self::Handle {
        thread::spawn(f)
    }

    fn go_dense(f: impl FnOnce() -> u64 + Send + 'static) -> Self::Handle {
        let builder = thread::Builder::new().stack_size(64 << 10);
        builder.spawn(f).expect("memory for a thread")
    }

    fn join(handle: Self::Handle) -> u64 {
        handle.join().expect("a thread panicked")
    }

    fn yield_now() {
        thread::yield_now();
    }

    fn sleep(length: Duration) {
        thread::sleep(length);
    }
}

/// `std::sync::mpsc::sync_channel`.
pub(crate) struct Std;

impl Channels for Std {
    type Tx = mpsc::SyncSender<u64>;
    type Rx = mpsc::Receiver<u64>;

    fn channel(capacity: usize) -> (Self::Tx, Self::Rx) {
        mpsc::sync_channel(capacity)
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

    fn another_rx(_rx: &Self::Rx) -> Self::Rx {
        unreachable!("one consumer only: kept from such workloads")
    }
}

/// Channels whose both ends are cloned and block.
macro_rules! shared_channels {
    ($name:ident, $krate:ident $(, $recv_any:item)?) => {
        pub(crate) struct $name;

        impl Channels for $name {
            type Tx = $krate::Sender<u64>;
            type Rx = $krate::Receiver<u64>;

            fn channel(capacity: usize) -> (Self::Tx, Self::Rx) {
                $krate::bounded(capacity)
            }

            fn send(tx: &Self::Tx, value: u64) -> bool {
                tx.send(value).is_ok()
            }

            fn recv(rx: &mut Self::Rx) -> Option<u64> {
                rx.recv().ok()
            }

            $($recv_any)?

            fn another_tx(tx: &Self::Tx) -> Self::Tx {
                tx.clone()
            }

            fn another_rx(rx: &Self::Rx) -> Self::Rx {
                rx.clone()
            }
        }
    };
}

shared_channels!(
    Crossbeam,
    crossbeam_channel,
    fn recv_any([a, b, c, d]: &mut [Self::Rx; 4]) -> u64 {
        let message = crossbeam_channel::select! {
            recv(a) -> message => message,
            recv(b) -> message => message,
            recv(c) -> message => message,
            recv(d) -> message => message,
        };
        message.expect("the senders are kept")
    }
);
shared_channels!(Kanal, kanal);
shared_channels!(
    Flume,
    flume,
    fn recv_any(rxs: &mut [Self::Rx; 4]) -> u64 {
        let any =
            rxs.iter().fold(flume::Selector::new(), |any, rx| any.recv(rx, |message| message));
        any.wait().expect("the senders are kept")
    }
);

blocking_locks!(Std, std::sync::Mutex<u64>, std::sync::RwLock<u64>, [.unwrap()]);

/// parking_lot's locks; it has no channels.
pub(crate) struct ParkingLot;

blocking_locks!(ParkingLot, parking_lot::Mutex<u64>, parking_lot::RwLock<u64>, []);
