//! Messages of all kinds, those with a `Drop` of their own too; and what channels promise about memory.
#![cfg(not(loom))]

mod parties;

use parties::{CAPACITIES, Handle, KINDS, MIXES, channel, start, start_blocked};
use std::any::Any;
use std::cell::{Cell, UnsafeCell};
use std::panic::{AssertUnwindSafe, catch_unwind};
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, AtomicUsize, Ordering::SeqCst};
use std::time::Duration;
use strands::channel::{Receiver, RecvError, Sender, TrySendError, bounded, unbounded};
use strands::thread;

// ---- Messages of all kinds ----

#[test]
fn messages_without_a_size_are_counted_all_the_same() {
    for (sender, receiver) in MIXES {
        for cap in CAPACITIES {
            let (tx, rx) = channel(cap);
            let sent = start(sender, move || (0..1000).for_each(|_| tx.send(()).unwrap()));
            let received = start(receiver, move || rx.iter().count());
            assert_eq!(received.join(), 1000);
            sent.join();
        }
    }
}

#[test]
fn a_mebibyte_passes_by_value() {
    const SIZE: usize = 1 << 20;
    fn giant(fill: u8) -> [u8; SIZE] {
        [fill; SIZE]
    }
    for cap in [Some(0), Some(2), None] {
        let (tx, rx) = channel(cap);
        let sender = std::thread::Builder::new().stack_size(32 * SIZE).spawn(move || {
            for fill in 1..=3 {
                tx.send(giant(fill)).unwrap_or_else(|_| panic!("the receiver is there"));
            }
        });
        // Unoptimised, a value is copied through many frames.
        let builder = thread::Builder::new().stack_size(32 * SIZE);
        let receiver = builder.spawn(move || {
            for fill in 1..=3 {
                let message = rx.recv().unwrap();
                assert!(message.iter().all(|byte| *byte == fill));
            }
        });
        sender.unwrap().join().unwrap();
        receiver.unwrap().join().unwrap();
    }
}

#[test]
fn messages_need_not_be_sync() {
    for (sender, receiver) in MIXES {
        let (tx, rx) = bounded(0);
        let sent = start(sender, move || tx.send(Cell::new(1)).unwrap());
        let received = start(receiver, move || {
            let cell = rx.recv().unwrap();
            cell.set(cell.get() + 1);
            cell.get()
        });
        assert_eq!(received.join(), 2);
        sent.join();
    }
}

#[test]
fn channels_go_through_channels() {
    type Parcel = Box<dyn Any + Send>;
    for (sender, receiver) in MIXES {
        let (tx, rx) = bounded::<Parcel>(1);
        let sent = start(sender, move || {
            let mut tx = tx;
            for _ in 0..500 {
                let (next_tx, next_rx) = bounded::<Parcel>(1);
                tx.send(Box::new(next_rx)).unwrap();
                tx = next_tx;
            }
        });
        let received = start(receiver, move || {
            let mut rx = rx;
            for _ in 0..500 {
                rx = *rx.recv().unwrap().downcast::<Receiver<Parcel>>().unwrap();
            }
        });
        sent.join();
        received.join();
    }
}

#[test]
fn a_channel_may_carry_its_own_ends() {
    struct Knot(#[expect(dead_code, reason = "held")] Option<(Sender<Knot>, Receiver<Knot>)>);
    // Its own sender: ends with the receiver.
    let (tx, rx) = unbounded();
    tx.send(Knot(Some((tx.clone(), unbounded().1)))).unwrap();
    drop(rx);
    assert!(tx.send(Knot(None)).is_err());
    // Received, both go.
    let (tx, rx) = unbounded();
    tx.send(Knot(Some((tx.clone(), rx.clone())))).unwrap();
    drop(tx);
    drop(rx.recv().unwrap());
    assert!(rx.recv().is_err());
}

// ---- Messages with a Drop of their own ----

#[test]
fn a_drop_may_use_channels_and_wait() {
    struct Echo {
        note: Sender<u8>,
        wait_for: Receiver<u8>,
    }
    impl Drop for Echo {
        fn drop(&mut self) {
            self.note.send(1).unwrap();
            assert_eq!(self.wait_for.recv(), Ok(2));
        }
    }
    for kind in KINDS {
        let (note, noted) = bounded(0);
        let (go_on, wait_for) = bounded(0);
        let (tx, rx) = bounded(1);
        tx.send(Echo { note, wait_for }).unwrap();
        // The message is dropped by the end of the receiver, with no lock held: the channel answers.
        let dropper = start(kind, move || drop(rx));
        assert_eq!(noted.recv(), Ok(1));
        let (note, wait_for) = (bounded(1).0, bounded(0).1);
        match tx.try_send(Echo { note, wait_for }) {
            Err(TrySendError::Disconnected(back)) => std::mem::forget(back),
            _ => panic!("the receiver is gone"),
        }
        assert!(tx.is_empty());
        go_on.send(2).unwrap();
        dropper.join();
    }
}

#[test]
fn a_drop_may_send_on_the_very_channel_that_drops_it() {
    struct Boomerang(Option<Sender<Boomerang>>, Arc<AtomicUsize>);
    impl Drop for Boomerang {
        fn drop(&mut self) {
            self.1.fetch_add(1, SeqCst);
            if let Some(tx) = self.0.take() {
                assert!(tx.send(Boomerang(None, Arc::clone(&self.1))).is_err());
            }
        }
    }
    let drops = Arc::new(AtomicUsize::new(0));
    let (tx, rx) = unbounded();
    for _ in 0..3 {
        tx.send(Boomerang(Some(tx.clone()), Arc::clone(&drops))).unwrap();
    }
    drop((tx, rx));
    assert_eq!(drops.load(SeqCst), 6);
}

#[test]
fn a_drop_that_panics_reaches_the_one_who_drops_and_frees_those_who_wait() {
    struct Mine(bool);
    impl Drop for Mine {
        fn drop(&mut self) {
            if self.0 && !std::thread::panicking() {
                panic!("the drop of a message");
            }
        }
    }
    for kind in KINDS {
        let (tx, rx) = bounded(1);
        tx.send(Mine(true)).unwrap();
        let sender = {
            let tx = tx.clone();
            start_blocked(kind, move || tx.send(Mine(false)).is_err())
        };
        let panic = catch_unwind(AssertUnwindSafe(|| drop(rx))).unwrap_err();
        assert_eq!(*panic.downcast::<&str>().unwrap(), "the drop of a message");
        assert!(sender.join());
        assert!(tx.send(Mine(false)).is_err());
    }
}

/// As in crossbeam-channel: two drops that panic are one panic, not an abort. What is behind the first is
/// leaked.
#[test]
fn two_drops_that_panic_do_not_abort() {
    struct Mine(Arc<AtomicUsize>);
    impl Drop for Mine {
        fn drop(&mut self) {
            self.0.fetch_add(1, SeqCst);
            panic!("the drop of a message");
        }
    }
    let drops = Arc::new(AtomicUsize::new(0));
    let (tx, rx) = bounded(2);
    for _ in 0..2 {
        tx.send(Mine(Arc::clone(&drops))).unwrap();
    }
    drop(tx);
    assert!(catch_unwind(AssertUnwindSafe(|| drop(rx))).is_err());
    assert_eq!(drops.load(SeqCst), 1);
}

// ---- Happens-before ----

/// Memory that only channels put in order.
struct Plain(UnsafeCell<u64>);

// SAFETY: the tests access it as the channels allow; sanitizers see it if they do not.
unsafe impl Sync for Plain {}

impl Plain {
    fn new() -> Arc<Plain> {
        Arc::new(Plain(UnsafeCell::new(0)))
    }

    fn get(&self) -> u64 {
        // SAFETY: see above.
        unsafe { *self.0.get() }
    }

    fn add(&self) {
        // SAFETY: see above.
        unsafe { *self.0.get() += 1 }
    }
}

#[test]
fn what_came_before_the_send_is_there_after_the_receive() {
    for (sender, receiver) in MIXES {
        for cap in CAPACITIES {
            let (tx, rx) = channel(cap);
            let (acknowledge, acknowledged) = bounded(0);
            let plain = Plain::new();
            let writer = {
                let plain = Arc::clone(&plain);
                start(sender, move || {
                    for n in 1..=200 {
                        plain.add();
                        tx.send(n).unwrap();
                        acknowledged.recv().unwrap();
                    }
                })
            };
            let reader = start(receiver, move || {
                for n in rx {
                    assert_eq!(plain.get(), n);
                    acknowledge.send(()).unwrap();
                }
            });
            writer.join();
            reader.join();
        }
    }
}

/// The `n`th receive happens before the `n + cap`th send returns: a channel of one place is a mutex.
#[test]
fn a_place_in_the_buffer_is_a_lock() {
    let (tx, rx) = bounded(1);
    let plain = Plain::new();
    let handles: Vec<_> = (0..4)
        .map(|at| {
            let (tx, rx, plain) = (tx.clone(), rx.clone(), Arc::clone(&plain));
            start(KINDS[at % 2], move || {
                for _ in 0..1000 {
                    tx.send(()).unwrap();
                    plain.add();
                    rx.recv().unwrap();
                }
            })
        })
        .collect();
    handles.into_iter().for_each(Handle::join);
    assert_eq!(plain.get(), 4000);
}

#[test]
fn what_came_before_the_end_is_there_after_the_error() {
    for (sender, receiver) in MIXES {
        let (tx, rx) = bounded::<()>(0);
        let plain = Plain::new();
        let dropper = {
            let plain = Arc::clone(&plain);
            start(sender, move || {
                plain.add();
                drop(tx);
            })
        };
        let reader = start(receiver, move || {
            assert_eq!(rx.recv(), Err(RecvError));
            plain.get()
        });
        assert_eq!(reader.join(), 1);
        dropper.join();
    }
}

// ---- Back and forth ----

#[test]
fn ping_pong() {
    for (left, right) in MIXES {
        for cap in [Some(0), Some(1), None] {
            let (ping, pinged) = channel(cap);
            let (pong, ponged) = channel(cap);
            let left = start(left, move || {
                for n in 0..1000 {
                    ping.send(n).unwrap();
                    assert_eq!(ponged.recv(), Ok(n + 1));
                }
            });
            let right = start(right, move || {
                for n in pinged {
                    pong.send(n + 1).unwrap();
                }
            });
            left.join();
            right.join();
        }
    }
}

// ---- At a thread's exit ----

/// Uses channels when its thread ends, after thread-locals of ours may have gone.
struct AtExit {
    told: Arc<AtomicBool>,
}

impl Drop for AtExit {
    fn drop(&mut self) {
        // Waits for goroutines in both directions, and for time.
        let (tx, rx) = bounded(0);
        let sender = strands::go(move || {
            strands::sleep(Duration::from_millis(2));
            tx.send(7).unwrap();
        });
        assert_eq!(rx.recv(), Ok(7));
        assert_eq!(rx.recv(), Err(RecvError));
        sender.join().unwrap();
        let (tx, rx) = bounded(0);
        let receiver = strands::go(move || rx.recv());
        assert_eq!(tx.send(8), Ok(()));
        assert_eq!(receiver.join().unwrap(), Ok(8));
        thread::park_timeout(Duration::from_millis(1));
        self.told.store(true, SeqCst);
    }
}

#[test]
fn channels_work_in_the_destructors_of_thread_locals() {
    thread_local! {
        static AT_EXIT: Cell<Option<AtExit>> = const { Cell::new(None) };
    }
    // Destructors run in the order of registration: ours before or after those of the user.
    for ours_first in [false, true] {
        let told = Arc::new(AtomicBool::new(false));
        let at_exit = AtExit { told: Arc::clone(&told) };
        std::thread::spawn(move || {
            let wait = || {
                let (tx, rx) = bounded(0);
                let sender = strands::go(move || tx.send(1).unwrap());
                assert_eq!(rx.recv(), Ok(1));
                sender.join().unwrap();
                let _ = thread::current();
            };
            if ours_first {
                wait();
            }
            AT_EXIT.set(Some(at_exit));
            if !ours_first {
                wait();
            }
        })
        .join()
        .unwrap();
        assert!(told.load(SeqCst));
    }
}
