//! `close`: from either side, at any time, as often as one likes. What was sent is received, what was not comes
//! back, and whoever waits is woken.
#![cfg(not(loom))]

mod parties;

use parties::{
    Bell, CAPACITIES, Counted, Handle, KINDS, MIXES, channel, poll, start, start_blocked,
};
use std::cell::Cell;
use std::panic::{AssertUnwindSafe, catch_unwind};
use std::pin::pin;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, AtomicUsize, Ordering::SeqCst};
use std::task::Poll;
use std::time::Duration;
use strands::channel::{
    Receiver, RecvError, RecvTimeoutError, Select, SendError, SendTimeoutError, Sender,
    TryRecvError, TrySendError, after, bounded, dropping, never, sliding, tick, unbounded,
};
use strands::select;

type Close = fn(&Sender<i32>, &Receiver<i32>);
type Receive = fn(Receiver<i32>) -> Option<i32>;
type Send = fn(Sender<i32>, i32) -> Option<i32>;

/// From either side.
const SIDES: [Close; 2] = [|tx, _| tx.close(), |_, rx| rx.close()];

#[test]
fn what_was_sent_can_be_received_and_nothing_more_be_sent() {
    for close in SIDES {
        for (cap, (tx, rx)) in [
            (1, bounded(1)),
            (3, bounded(3)),
            (9, unbounded()),
            (2, sliding(2)),
            (2, dropping(2)),
            (0, bounded(0)),
        ] {
            (0..cap).for_each(|n| tx.send(n).unwrap());
            assert!(!tx.is_closed() && !rx.is_closed());
            for _ in 0..2 {
                close(&tx, &rx);
                assert!(tx.is_closed() && rx.is_closed());
            }
            assert_eq!(tx.clone().send(7), Err(SendError(7)));
            assert_eq!(tx.try_send(7), Err(TrySendError::Disconnected(7)));
            let late = tx.send_timeout(7, Duration::ZERO);
            assert_eq!(late, Err(SendTimeoutError::Disconnected(7)));
            assert_eq!(poll(pin!(tx.send_async(7)), &Bell::new()), Poll::Ready(Err(SendError(7))));
            select! { send(tx, 7) -> sent => assert_eq!(sent, Err(SendError(7))) }
            let mut select = Select::new();
            select.send(&tx);
            assert_eq!(select.ready(), 0);
            assert_eq!(select.select().send(&tx, 7), Err(SendError(7)));
            assert_eq!(rx.len(), cap as usize);
            assert!(rx.iter().eq(0..cap));
            assert_eq!(rx.recv(), Err(RecvError));
            assert_eq!(rx.clone().try_recv(), Err(TryRecvError::Disconnected));
            assert_eq!(rx.recv_timeout(Duration::ZERO), Err(RecvTimeoutError::Disconnected));
            select! { recv(rx) -> n => assert_eq!(n, Err(RecvError)) }
            close(&tx, &rx);
        }
    }
}

#[test]
fn the_end_of_a_side_is_a_close() {
    let (tx, rx) = bounded::<i32>(1);
    let clone = tx.clone();
    drop(tx);
    assert!(!rx.is_closed());
    drop(clone);
    assert!(rx.is_closed());
    rx.close();
    let (tx, rx) = bounded::<i32>(1);
    drop(rx);
    assert!(tx.is_closed());
    tx.close();
}

#[test]
fn receivers_without_senders_cannot_be_closed() {
    for rx in [after(Duration::ZERO), tick(Duration::from_millis(1)), after(Duration::MAX)] {
        rx.close();
        assert!(!rx.is_closed());
    }
    assert!(after(Duration::ZERO).recv().is_ok());
    let rx = never::<()>();
    rx.close();
    assert_eq!((rx.is_closed(), rx.try_recv()), (false, Err(TryRecvError::Empty)));
}

// ---- Those who wait ----

#[test]
fn everybody_who_waits_to_receive_is_woken() {
    for kind in KINDS {
        for close in SIDES {
            for cap in CAPACITIES {
                let (tx, rx) = channel::<i32>(cap);
                let ways: [Receive; 5] = [
                    |rx| rx.recv().ok(),
                    |rx| rx.recv_timeout(parties::LONG).ok(),
                    |rx| select! { recv(rx) -> n => n.ok(), recv(never::<()>()) -> _ => Some(0) },
                    |rx| rx.iter().next(),
                    |rx| {
                        let mut select = Select::new();
                        select.recv(&rx);
                        assert_eq!(select.ready(), 0);
                        select.select().recv(&rx).ok()
                    },
                ];
                let waiting: Vec<_> = (0..40)
                    .map(|n| {
                        let (rx, way) = (rx.clone(), ways[n % ways.len()]);
                        start_blocked(kind, move || way(rx))
                    })
                    .collect();
                let bell = Bell::new();
                let mut future = pin!(rx.recv_async());
                assert!(poll(future.as_mut(), &bell).is_pending());
                close(&tx, &rx);
                assert!(waiting.into_iter().all(|party| party.join().is_none()));
                assert_eq!(bell.rung(), 1);
                assert_eq!(poll(future, &bell), Poll::Ready(Err(RecvError)));
            }
        }
    }
}

#[test]
fn everybody_who_waits_to_send_is_woken_and_has_the_message() {
    for kind in KINDS {
        for close in SIDES {
            for cap in [0, 2] {
                let (tx, rx) = bounded(cap as usize);
                (0..cap).for_each(|n| tx.send(n).unwrap());
                let ways: [Send; 4] = [
                    |tx, n| tx.send(n).err().map(SendError::into_inner),
                    |tx, n| tx.send_timeout(n, parties::LONG).err().map(|error| error.into_inner()),
                    |tx, n| select! { send(tx, n) -> sent => sent.err().map(SendError::into_inner) },
                    |tx, n| {
                        let mut select = Select::new();
                        select.send(&tx);
                        select.select().send(&tx, n).err().map(SendError::into_inner)
                    },
                ];
                let waiting: Vec<_> = (0..40)
                    .map(|n| {
                        let (tx, way) = (tx.clone(), ways[n as usize % ways.len()]);
                        start_blocked(kind, move || way(tx, 100 + n))
                    })
                    .collect();
                let bell = Bell::new();
                let mut future = pin!(tx.send_async(7));
                assert!(poll(future.as_mut(), &bell).is_pending());
                close(&tx, &rx);
                for (n, party) in (100..).zip(waiting) {
                    assert_eq!(party.join(), Some(n));
                }
                assert_eq!(bell.rung(), 1);
                assert_eq!(poll(future, &bell), Poll::Ready(Err(SendError(7))));
                assert!(rx.iter().eq(0..cap));
            }
        }
    }
}

// ---- Races ----

/// Whoever is told that a message was sent is right, however closely the close follows.
#[test]
fn a_close_that_races_with_sends_loses_nothing() {
    for (sends, receives) in MIXES {
        for cap in CAPACITIES {
            for round in 0..30 {
                let drops = Arc::new(AtomicUsize::new(0));
                let (tx, rx) = channel(cap);
                let senders: Vec<_> = (0..3)
                    .map(|_| {
                        let (tx, drops) = (tx.clone(), Arc::clone(&drops));
                        start(sends, move || {
                            let (mut sent, mut returned) = (0, 0);
                            while returned == 0 {
                                let message = Counted(Arc::clone(&drops));
                                // Nobody else has a turn here while one sends that need not wait.
                                strands::yield_now();
                                let result = match sent % 2 {
                                    0 => tx.send(message),
                                    _ => select! { send(tx, message) -> result => result },
                                };
                                match result {
                                    Ok(()) => sent += 1,
                                    Err(SendError(_)) => returned += 1,
                                }
                            }
                            (sent, returned)
                        })
                    })
                    .collect();
                let receiver = {
                    let rx = rx.clone();
                    start(receives, move || {
                        let mut received = 0;
                        while rx.recv().is_ok() {
                            received += 1;
                            // In some rounds it is the receiver that closes.
                            if received == round {
                                rx.close();
                            }
                        }
                        received
                    })
                };
                if round == 0 {
                    tx.close();
                }
                let ended = senders.into_iter().map(Handle::join);
                let (sent, returned) =
                    ended.fold((0, 0), |(s, r), (sent, returned)| (s + sent, r + returned));
                assert_eq!((sent, returned), (receiver.join(), 3), "{cap:?}");
                assert_eq!(drops.load(SeqCst), sent + returned);
            }
        }
    }
}

// ---- Messages whose drop is a story of its own ----

struct Mine(bool, Arc<AtomicUsize>);

impl Drop for Mine {
    fn drop(&mut self) {
        self.1.fetch_add(1, SeqCst);
        if self.0 && !std::thread::panicking() {
            std::panic::resume_unwind(Box::new("the drop of a message"));
        }
    }
}

fn blast<T>(f: impl FnOnce() -> T) {
    let Err(payload) = catch_unwind(AssertUnwindSafe(f)) else { panic!("it has not panicked") };
    assert_eq!(payload.downcast_ref(), Some(&"the drop of a message"));
}

#[test]
fn a_drop_that_panics_leaves_the_channel_whole() {
    let drops = Arc::new(AtomicUsize::new(0));
    let mine = |is_armed| Mine(is_armed, Arc::clone(&drops));
    // What overflows.
    let (tx, rx) = sliding(1);
    assert!(tx.send(mine(true)).is_ok());
    blast(|| tx.send(mine(false)));
    assert!(rx.len() == 1 && !rx.try_recv().unwrap().0);
    let (tx, rx) = dropping(1);
    assert!(tx.send(mine(false)).is_ok());
    blast(|| tx.send(mine(true)));
    assert!(rx.len() == 1 && !rx.try_recv().unwrap().0);
    // What is in a future.
    let (tx, rx) = bounded(0);
    blast(|| drop(tx.send_async(mine(true))));
    let mut future = Box::pin(tx.send_async(mine(true)));
    assert!(poll(future.as_mut(), &Bell::new()).is_pending());
    blast(|| drop(future));
    assert!(matches!(rx.try_recv(), Err(TryRecvError::Empty)));
    // What a select has received and nobody binds.
    let (tx, rx) = bounded(2);
    assert!(tx.send(mine(true)).is_ok() && tx.send(mine(false)).is_ok());
    blast(|| select! { recv(rx) -> _ => {} });
    assert_eq!(rx.len(), 1);
    drop((tx, rx));
    assert_eq!(drops.load(SeqCst), 8);
}

#[test]
fn a_drop_may_close_the_channel_from_which_it_comes() {
    struct Last(Option<(Sender<Last>, Receiver<Last>)>);
    impl Drop for Last {
        fn drop(&mut self) {
            if let Some((tx, rx)) = self.0.take() {
                tx.close();
                rx.close();
                assert!(tx.send(Last(None)).is_err());
                drop(rx.try_recv());
            }
        }
    }
    let (tx, rx) = sliding(1);
    let last = || Last(Some((tx.clone(), rx.clone())));
    assert!(tx.send(last()).is_ok());
    assert!(tx.send(Last(None)).is_ok());
    assert!(tx.is_closed());
    drop(rx.recv());
    let (tx, rx) = bounded(0);
    let mut future = Box::pin(tx.send_async(Last(Some((tx.clone(), rx)))));
    assert!(poll(future.as_mut(), &Bell::new()).is_pending());
    drop(future);
    assert!(tx.is_closed());
}

// ---- At a thread's exit ----

/// Uses all that channels have when its thread ends, after thread-locals of ours may have gone.
struct AtExit(Arc<AtomicBool>);

impl Drop for AtExit {
    fn drop(&mut self) {
        let (tx, rx) = bounded(0);
        let (other_tx, other_rx) = unbounded();
        let echo = strands::go({
            let rx = rx.clone();
            move || select! { recv(rx) -> n => other_tx.send(n.unwrap()).unwrap() }
        });
        select! { send(tx, 1) -> sent => sent.unwrap(), recv(never::<()>()) -> _ => {} }
        select! { recv(other_rx) -> n => assert_eq!(n, Ok(1)), default(parties::LONG) => panic!("late") }
        echo.join().unwrap();
        assert_eq!(select! { recv(rx) -> _ => 1, default => 2 }, 2);
        assert_eq!(rx.recv_timeout(Duration::from_millis(1)), Err(RecvTimeoutError::Timeout));
        assert!(after(Duration::from_millis(1)).recv().is_ok());
        let mut future = Box::pin(rx.recv_async());
        assert!(poll(future.as_mut(), &Bell::new()).is_pending());
        tx.send(2).unwrap();
        drop(future);
        tx.close();
        assert_eq!((rx.recv(), rx.recv()), (Ok(2), Err(RecvError)));
        self.0.store(true, SeqCst);
    }
}

#[test]
fn selects_futures_and_deadlines_work_in_the_destructors_of_thread_locals() {
    thread_local! {
        static AT_EXIT: Cell<Option<AtExit>> = const { Cell::new(None) };
    }
    // Destructors run in the order of registration: ours before or after those of the user.
    for ours_first in [false, true] {
        let told = Arc::new(AtomicBool::new(false));
        let at_exit = AtExit(Arc::clone(&told));
        let thread = std::thread::spawn(move || {
            let wait = || select! { recv(never::<()>()) -> _ => {}, default(Duration::from_millis(1)) => {} };
            if ours_first {
                wait();
            }
            AT_EXIT.set(Some(at_exit));
            if !ours_first {
                wait();
            }
        });
        thread.join().unwrap();
        assert!(told.load(SeqCst));
    }
}

#[test]
fn a_select_of_one_arm_sees_what_happened_before_it_and_the_end_of_a_drained_channel() {
    for cap in [1, 4] {
        let (tx, rx) = bounded(cap);
        let poll = || {
            strands::select! {
                recv(rx) -> message => Some(message),
                default => None,
            }
        };
        assert_eq!(poll(), None);
        tx.send(1).unwrap();
        assert_eq!(poll(), Some(Ok(1)));
        assert_eq!(poll(), None);
        tx.send(2).unwrap();
        tx.close();
        assert_eq!(poll(), Some(Ok(2)));
        assert_eq!(poll(), Some(Err(RecvError)), "closed and drained");
    }
}
