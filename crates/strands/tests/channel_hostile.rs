//! What users may do to channels in safe code, short of having a reason for it: forget what waits, run code in every
//! destructor, clone and panic, ask for no time at all or for more than there is. Nothing may hang, be lost or be freed twice.
#![cfg(not(loom))]

mod parties;

use parties::{Bell, KINDS, MIXES, block_on, poll, start, start_blocked};
use std::mem::forget;
use std::panic::{AssertUnwindSafe, catch_unwind, resume_unwind};
use std::sync::atomic::{AtomicUsize, Ordering::SeqCst};
use std::sync::{Arc, Mutex};
use std::task::Poll;
use std::time::{Duration, Instant};
use strands::channel::{
    Receiver, RecvError, RecvTimeoutError, Select, SelectTimeoutError, SendError, SendTimeoutError,
    Sender, TryRecvError, TrySendError, after, at, bounded, broadcast, tick, unbounded, watch,
};
use strands::{select, select_biased};

/// Longer than any wait, and more than can be added to any moment.
const FOREVER: Duration = Duration::MAX;

/// Runs a closure when it is dropped.
struct OnDrop<F: FnMut()>(F);

impl<F: FnMut()> Drop for OnDrop<F> {
    fn drop(&mut self) {
        (self.0)();
    }
}

// ---- What is forgotten ----

#[test]
fn a_forgotten_receive_keeps_what_it_was_handed_and_nothing_else() {
    for cap in [0, 1] {
        let (tx, rx) = bounded(cap);
        let bell = Bell::new();
        let mut future = Box::pin(rx.recv_async());
        assert_eq!(poll(future.as_mut(), &bell), Poll::Pending);
        forget(future);
        // It stands in line still, and is served in its turn.
        assert_eq!(tx.try_send(1), Ok(()));
        assert_eq!((bell.rung(), rx.try_recv()), (1, Err(TryRecvError::Empty)));
        // The channel goes on without it.
        let receiver = {
            let rx = rx.clone();
            start(KINDS[cap], move || rx.recv())
        };
        assert_eq!(tx.send(2), Ok(()));
        assert_eq!(receiver.join(), Ok(2));
    }
}

#[test]
fn forgotten_waits_are_ended_with_their_channel() {
    let (tx, rx) = bounded(1);
    let bells = [(); 3].map(|()| Bell::new());
    let message = Arc::new(());
    tx.send(Arc::clone(&message)).unwrap();
    let mut send = Box::pin(tx.send_async(Arc::clone(&message)));
    assert_eq!(poll(send.as_mut(), &bells[0]), Poll::Pending);
    forget(send);
    let (other_tx, other_rx) = bounded::<i32>(0);
    let mut receive = Box::pin(other_rx.recv_async());
    assert_eq!(poll(receive.as_mut(), &bells[1]), Poll::Pending);
    forget(receive);
    drop((rx, other_tx));
    assert_eq!(bells.map(|bell| bell.rung()), [1, 1, 0]);
    drop((tx, other_rx));
    // That which was in the buffer is gone; the other is in what was forgotten.
    assert_eq!(Arc::strong_count(&message), 2);
}

#[test]
fn a_forgotten_operation_keeps_its_message_or_its_room_and_nothing_else() {
    let (tx, rx) = bounded(2);
    tx.send(1).unwrap();
    tx.send(2).unwrap();
    let mut select = Select::new();
    select.recv(&rx);
    forget(select.select());
    assert_eq!(rx.try_iter().collect::<Vec<_>>(), [2]);
    let mut select = Select::new();
    select.send(&tx);
    forget(select.select());
    forget(select);
    // Of two places one is left.
    assert_eq!(tx.try_send(3), Ok(()));
    assert_eq!(tx.try_send(4), Err(TrySendError::Full(4)));
    assert_eq!(rx.recv(), Ok(3));
    tx.close();
    assert_eq!(rx.recv(), Err(RecvError));
}

/// As with crossbeam's: neither borrows anything once nobody uses it any more.
#[test]
fn a_select_may_be_older_than_the_ends_that_are_added_and_outlive_them() {
    let mut select = Select::new();
    let mut other = Select::default();
    let (tx, rx) = bounded(1);
    select.send(&tx);
    select.recv(&rx);
    other.recv(&rx);
    let operation = select.select();
    assert_eq!((operation.index(), operation.send(&tx, String::from("a"))), (0, Ok(())));
    let operation = other.select();
    assert_eq!(operation.recv(&rx), Ok(String::from("a")));
}

#[test]
fn a_receiver_that_was_claimed_by_a_forgotten_operation_is_not_freed_under_it() {
    let (tx, rx) = bounded::<i32>(0);
    let bell = Bell::new();
    let mut future = Box::pin(rx.recv_async());
    assert_eq!(poll(future.as_mut(), &bell), Poll::Pending);
    let mut select = Select::new();
    select.send(&tx);
    forget(select.select());
    drop(future);
    tx.close();
    assert_eq!((block_on(rx.recv_async()), bell.rung()), (Err(RecvError), 0));
}

#[test]
fn forgotten_ends_keep_a_channel_open() {
    let (tx, rx) = bounded(1);
    forget(tx.clone());
    drop(tx);
    assert_eq!(rx.try_recv(), Err::<i32, _>(TryRecvError::Empty));
    forget([after(FOREVER), tick(Duration::ZERO)]);
}

// ---- Destructors ----

#[test]
fn a_message_may_own_the_last_receiver_of_the_channel_that_holds_it() {
    struct Parcel(Option<Receiver<Parcel>>, Arc<AtomicUsize>);
    impl Drop for Parcel {
        fn drop(&mut self) {
            self.1.fetch_add(1, SeqCst);
            if let Some(rx) = self.0.take() {
                let _ = rx.try_recv();
            }
        }
    }
    for cap in [Some(4), None] {
        let dropped = Arc::new(AtomicUsize::new(0));
        let (tx, rx) = parties::channel(cap);
        for _ in 0..3 {
            tx.send(Parcel(Some(rx.clone()), Arc::clone(&dropped))).unwrap();
        }
        // The channel owns itself; whoever takes one out and drops it ends the others.
        drop(rx.recv());
        assert_eq!(dropped.load(SeqCst), 3);
        tx.send(Parcel(Some(rx), Arc::clone(&dropped))).unwrap();
        // Now nobody else has a receiver, and a channel that is closed can still be given up.
        tx.close();
        drop(tx);
        assert_eq!(dropped.load(SeqCst), 3);
    }
}

#[test]
fn ends_may_be_cloned_and_the_channel_closed_while_its_messages_are_dropped() {
    let (tx, rx) = unbounded();
    for _ in 0..3 {
        let (sender, kept) = (tx.clone(), Mutex::new(Vec::new()));
        let message: Box<dyn Send> = Box::new(OnDrop(move || {
            kept.lock().unwrap().push(sender.clone());
            let back: Result<(), SendError<Box<dyn Send>>> = sender.send(Box::new(()));
            assert!(back.is_err());
            sender.close();
        }));
        tx.send(message).unwrap();
    }
    drop(rx);
    assert!(tx.is_closed() && tx.is_empty());
}

#[test]
fn selects_work_in_destructors_while_a_panic_unwinds() {
    for kind in KINDS {
        let (tx, rx) = bounded::<i32>(0);
        let (done, done_rx) = bounded(4);
        let peer = start(kind, move || rx.recv());
        let panicking = start(kind, move || {
            let _guard = OnDrop(move || {
                assert!(std::thread::panicking());
                select! { send(tx, 1) -> sent => sent.unwrap() }
                let mut select = Select::new();
                let never = strands::channel::never::<()>();
                select.recv(&never);
                let late = select.select_timeout(Duration::from_millis(1));
                assert_eq!(late.err(), Some(SelectTimeoutError));
                select! { recv(after(Duration::from_millis(1))) -> _ => {}, recv(never) -> _ => {} }
                done.send(()).unwrap();
            });
            resume_unwind(Box::new(()));
        });
        assert_eq!(peer.join(), Ok(1));
        assert!(panicking.outcome().is_err());
        assert_eq!(done_rx.recv(), Ok(()));
    }
}

#[test]
fn an_operation_that_is_dropped_by_a_panic_does_not_panic_again() {
    for kind in KINDS {
        let (tx, rx) = bounded(1);
        tx.send(7).unwrap();
        let operates = {
            let rx = rx.clone();
            start(kind, move || {
                let mut select = Select::new();
                select.recv(&rx);
                let _operation = select.select();
                resume_unwind(Box::new("once"))
            })
        };
        let outcome: Result<(), _> = operates.outcome();
        assert_eq!(outcome.unwrap_err().downcast_ref(), Some(&"once"));
        assert_eq!(rx.try_recv(), Ok(7));
    }
}

/// A value whose clones and drops use the channel from which they come.
struct Meddler<F: Fn()>(Arc<F>);

impl<F: Fn()> Clone for Meddler<F> {
    fn clone(&self) -> Self {
        (self.0)();
        Meddler(Arc::clone(&self.0))
    }
}

impl<F: Fn()> Drop for Meddler<F> {
    fn drop(&mut self) {
        (self.0)();
    }
}

type Meddling = Meddler<Box<dyn Fn() + Send + Sync>>;

#[test]
fn clones_and_drops_may_use_the_broadcast_or_watch_they_come_from() {
    let calls = Arc::new(AtomicUsize::new(0));
    let (tx, rx) = broadcast::<Meddling>(2);
    let meddler = {
        let (calls, tx) = (Arc::clone(&calls), tx.clone());
        move || {
            calls.fetch_add(1, SeqCst);
            drop((tx.receiver_count(), tx.clone(), tx.subscribe()));
        }
    };
    let meddler: Arc<Box<dyn Fn() + Send + Sync>> = Arc::new(Box::new(meddler));
    for _ in 0..5 {
        // The third and those that follow drive out others.
        assert!(tx.send(Meddler(Arc::clone(&meddler))).is_ok());
    }
    assert!(matches!(rx.try_recv(), Err(broadcast::TryRecvError::Lagged(3))));
    assert!(rx.try_recv().is_ok() && rx.try_recv().is_ok());
    assert!(calls.load(SeqCst) >= 5);

    let (tx, rx) = watch(None::<Meddling>);
    let (again, seen) = (rx.clone(), Arc::clone(&calls));
    let meddler: Arc<Box<dyn Fn() + Send + Sync>> = Arc::new(Box::new(move || {
        seen.fetch_add(1, SeqCst);
        drop(again.borrow());
        drop(again.clone());
    }));
    let before = calls.load(SeqCst);
    for _ in 0..3 {
        assert!(tx.send(Some(Meddler(Arc::clone(&meddler)))).is_ok());
    }
    assert!(tx.send(None).is_ok());
    assert_eq!(calls.load(SeqCst), before + 3);
    assert!(rx.try_recv().is_ok());
}

#[test]
fn a_clone_that_panics_leaves_the_broadcast_whole() {
    struct Touchy(bool);
    impl Clone for Touchy {
        fn clone(&self) -> Touchy {
            if self.0 {
                resume_unwind(Box::new("touched"));
            }
            Touchy(false)
        }
    }
    let (tx, rx) = broadcast(4);
    let other = tx.subscribe();
    for touchy in [true, false] {
        assert!(tx.send(Touchy(touchy)).is_ok());
    }
    for rx in [rx, other] {
        assert!(catch_unwind(AssertUnwindSafe(|| rx.try_recv().is_ok())).is_err());
        let next = (0..2).find_map(|_| catch_unwind(AssertUnwindSafe(|| rx.try_recv())).ok());
        assert!(next.expect("it panics once").is_ok());
    }
}

// ---- Time ----

#[test]
fn no_time_at_all_is_a_try_and_all_time_is_no_limit() {
    let (tx, rx) = bounded::<i32>(0);
    let past = Instant::now();
    assert_eq!(tx.send_timeout(1, Duration::ZERO), Err(SendTimeoutError::Timeout(1)));
    assert_eq!(tx.send_deadline(1, past), Err(SendTimeoutError::Timeout(1)));
    assert_eq!(rx.recv_timeout(Duration::ZERO), Err(RecvTimeoutError::Timeout));
    assert_eq!(rx.recv_deadline(past), Err(RecvTimeoutError::Timeout));
    select! { recv(rx) -> _ => unreachable!(), default(Duration::ZERO) => {} }
    let mut select = Select::new();
    select.recv(&rx);
    assert!(
        select.select_timeout(Duration::ZERO).is_err() && select.select_deadline(past).is_err()
    );
    assert!(select.ready_timeout(Duration::ZERO).is_err() && select.ready_deadline(past).is_err());
    for (sends, receives) in MIXES {
        let receivers: [fn(&Receiver<i32>) -> i32; 5] = [
            |rx| rx.recv_timeout(FOREVER).unwrap(),
            |rx| select! { recv(rx) -> message => message.unwrap(), default(FOREVER) => 0 },
            |rx| select_biased! { recv(after(FOREVER)) -> _ => 0, recv(rx) -> m => m.unwrap() },
            |rx| {
                let mut select = Select::new();
                select.recv(rx);
                select.select_timeout(FOREVER).unwrap().recv(rx).unwrap()
            },
            |rx| {
                let mut select = Select::new();
                select.recv(rx);
                assert_eq!(select.ready_timeout(FOREVER), Ok(0));
                rx.recv().unwrap()
            },
        ];
        for receive in receivers {
            let rx = rx.clone();
            let receiver = start_blocked(receives, move || receive(&rx));
            let tx = tx.clone();
            assert_eq!(start(sends, move || tx.send_timeout(2, FOREVER)).join(), Ok(()));
            assert_eq!(receiver.join(), 2);
        }
    }
}

#[test]
fn clocks_of_no_period_and_of_all_time() {
    let begun = Instant::now();
    assert!(after(Duration::ZERO).recv().unwrap() >= begun);
    assert_eq!(at(begun).try_recv(), Ok(begun));
    // Always due, and never twice for the same moment.
    let ticks = tick(Duration::ZERO);
    assert_eq!(ticks.iter().take(1_000).filter(|due| *due >= begun).count(), 1_000);
    let (tx, rx) = bounded(1);
    tx.send(()).unwrap();
    let mut served = [0; 2];
    while served.contains(&0) {
        select! {
            recv(ticks) -> _ => served[0] += 1,
            recv(rx) -> _ => { served[1] += 1; tx.send(()).unwrap() }
        }
    }
    for rx in [after(FOREVER), tick(FOREVER)] {
        assert_eq!(rx.recv_timeout(Duration::ZERO), Err(RecvTimeoutError::Timeout));
        assert_eq!((rx.try_recv(), rx.len()), (Err(TryRecvError::Empty), 0));
    }
}

/// Time-outs of nothing, on both sides of a rendezvous, in all worlds: whoever says that it was sent has been received from.
#[test]
fn time_outs_of_nothing_that_race_agree_on_what_was_sent() {
    const ROUNDS: usize = 3_000;
    for (sends, receives) in MIXES {
        let (tx, rx) = bounded::<usize>(0);
        let senders: Vec<_> = (0..2)
            .map(|_| {
                let tx = tx.clone();
                start(sends, move || {
                    let mut sent = 0;
                    for n in 0..ROUNDS {
                        sent += usize::from(match n % 4 {
                            0 => tx.send_timeout(n, Duration::ZERO).is_ok(),
                            1 => tx.send_timeout(n, Duration::from_nanos(1)).is_ok(),
                            2 => tx.send_timeout(n, Duration::from_micros(5)).is_ok(),
                            _ => select! {
                                send(tx, n) -> sent => sent.is_ok(),
                                default(Duration::from_nanos(1)) => false,
                            },
                        });
                    }
                    sent
                })
            })
            .collect();
        drop(tx);
        let receivers: Vec<_> = (0..2)
            .map(|_| {
                let rx = rx.clone();
                start(receives, move || {
                    let mut received = 0;
                    for n in 0.. {
                        let limit = Duration::from_nanos([0, 1, 1_000, 50_000][n % 4]);
                        match rx.recv_timeout(limit) {
                            Ok(_) => received += 1,
                            Err(RecvTimeoutError::Timeout) => {}
                            Err(RecvTimeoutError::Disconnected) => break,
                        }
                    }
                    received
                })
            })
            .collect();
        let sent: usize = senders.into_iter().map(parties::Handle::join).sum();
        let received: usize = receivers.into_iter().map(parties::Handle::join).sum();
        assert_eq!(sent, received, "{sends:?} {receives:?}");
    }
}

// ---- Size ----

#[test]
fn a_select_may_have_65536_arms_and_any_of_them_wins() {
    const ARMS: usize = 1 << 16;
    for kind in KINDS {
        let (tx, rx) = bounded::<usize>(0);
        let (last_tx, last) = bounded(1);
        let selects = start_blocked(kind, move || {
            // One receiver over and over, and another at the end.
            let mut select = Select::new();
            (1..ARMS).for_each(|_| _ = select.recv(&rx));
            assert_eq!(select.recv(&last), ARMS - 1);
            let operation = select.select();
            let index = operation.index();
            let first = operation.recv(&last);
            assert_eq!(index, ARMS - 1);
            let operation = select.select();
            assert!(operation.index() < ARMS - 1);
            (first, operation.recv(&rx))
        });
        last_tx.send(1).unwrap();
        tx.send(2).unwrap();
        assert_eq!(selects.join(), (Ok(1), Ok(2)));
    }
}

#[test]
fn a_mebibyte_passes_through_every_kind_of_wait() {
    type Giant = [u8; 1 << 20];
    fn is_full_of(giant: &Giant, fill: u8) -> bool {
        giant.iter().all(|byte| *byte == fill)
    }
    let (tx, rx) = bounded::<Giant>(0);
    let receivers: [fn(&Receiver<Giant>) -> bool; 4] = [
        |rx| block_on(rx.recv_async()).is_ok_and(|giant| is_full_of(&giant, 7)),
        |rx| rx.recv_with(|giant| is_full_of(giant, 7)).is_ok_and(|(_, is_full)| is_full),
        |rx| select! { recv(rx) -> giant => is_full_of(&giant.unwrap(), 7) },
        |rx| rx.recv_timeout(parties::LONG).is_ok_and(|giant| is_full_of(&giant, 7)),
    ];
    let senders: [fn(&Sender<Giant>); 3] = [
        |tx| block_on(tx.send_async([7; 1 << 20])).unwrap(),
        |tx| select! { send(tx, [7; 1 << 20]) -> sent => sent.unwrap() },
        |tx| tx.send([7; 1 << 20]).unwrap(),
    ];
    // Without optimisation each move is a copy in a frame of its own, of the channel's end too.
    fn spawn(f: impl FnOnce() + Send + 'static) -> strands::JoinHandle<()> {
        strands::thread::Builder::new().stack_size(256 << 20).spawn(f).expect("memory for it")
    }
    let all = spawn(move || {
        for receive in receivers {
            for send in senders {
                let (rx, tx) = (rx.clone(), tx.clone());
                let receiver = spawn(move || assert!(receive(&rx)));
                spawn(move || send(&tx)).join().unwrap();
                receiver.join().unwrap();
            }
        }
    });
    all.join().unwrap();
}
