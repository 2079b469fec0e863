//! Channels as their users see them: on goroutines, on plain threads, and between the two.
#![cfg(not(loom))]

mod parties;

use parties::{
    CAPACITIES, Counted, Handle, KINDS, Kind, MIXES, channel, start, start_blocked, wait_until,
};
use std::cell::Cell;
use std::error::Error;
use std::fmt;
use std::iter::FusedIterator;
use std::panic::{RefUnwindSafe, UnwindSafe};
use std::sync::Arc;
use std::sync::atomic::{AtomicUsize, Ordering::SeqCst};
use std::time::Duration;
use strands::channel::{
    ReadyTimeoutError, Receiver, RecvError, RecvTimeoutError, Select, SelectTimeoutError,
    SendError, SendTimeoutError, Sender, TryReadyError, TryRecvError, TrySelectError, TrySendError,
    bounded, never, unbounded,
};
use strands::runtime;

// ---- Capacity ----

#[test]
fn the_capacity_is_what_was_asked_for() {
    for cap in CAPACITIES {
        let (tx, rx) = channel::<u8>(cap);
        assert_eq!((tx.capacity(), rx.capacity()), (cap, cap));
    }
}

#[test]
fn a_bounded_channel_takes_exactly_its_capacity() {
    for cap in [0, 1, 2, 300] {
        let (tx, rx) = bounded(cap);
        for n in 0..cap {
            assert_eq!((tx.len(), tx.is_empty(), tx.is_full()), (n, n == 0, false));
            tx.try_send(n).unwrap();
        }
        assert_eq!((rx.len(), rx.is_empty(), rx.is_full()), (cap, cap == 0, true));
        assert_eq!(tx.try_send(cap), Err(TrySendError::Full(cap)));
        for n in 0..cap {
            assert_eq!(rx.try_recv(), Ok(n));
            assert_eq!((rx.len(), rx.is_full()), (cap - n - 1, false));
        }
        assert_eq!(rx.try_recv(), Err(TryRecvError::Empty));
    }
}

#[test]
fn an_unbounded_channel_is_never_full() {
    let (tx, rx) = unbounded();
    for n in 0..100_000 {
        tx.try_send(n).unwrap();
        assert!(!tx.is_full());
    }
    assert_eq!((tx.len(), rx.len()), (100_000, 100_000));
    assert!(rx.try_iter().eq(0..100_000));
    assert!(rx.is_empty() && !rx.is_full());
}

#[test]
fn those_who_wait_are_not_counted() {
    for kind in KINDS {
        for cap in [0, 2] {
            let (tx, rx) = bounded(cap);
            for n in 0..cap {
                tx.send(n).unwrap();
            }
            let waiting = start_blocked(kind, move || tx.send(cap));
            assert_eq!((rx.len(), rx.is_empty(), rx.is_full()), (cap, cap == 0, true));
            assert!(rx.iter().take(cap + 1).eq(0..=cap));
            assert_eq!(waiting.join(), Ok(()));
        }
        let (tx, rx) = bounded::<u8>(2);
        let waiting = start_blocked(kind, move || rx.recv());
        assert_eq!((tx.len(), tx.is_empty(), tx.is_full()), (0, true, false));
        drop(tx);
        assert_eq!(waiting.join(), Err(RecvError));
    }
}

#[test]
fn try_send_in_a_rendezvous_wants_somebody_who_waits() {
    for kind in KINDS {
        let (tx, rx) = bounded(0);
        assert_eq!(tx.try_send(1), Err(TrySendError::Full(1)));
        let waiting = start_blocked(kind, move || rx.recv());
        assert_eq!(tx.try_send(2), Ok(()));
        // One receiver takes one message.
        assert!(tx.try_send(3).is_err());
        assert_eq!(waiting.join(), Ok(2));
    }
}

#[test]
fn try_recv_takes_the_message_out_of_the_hands_of_one_who_waits() {
    for kind in KINDS {
        let (tx, rx) = bounded(0);
        assert_eq!(rx.try_recv(), Err(TryRecvError::Empty));
        let waiting = start_blocked(kind, move || tx.send(7));
        assert_eq!(rx.try_recv(), Ok(7));
        assert_eq!(waiting.join(), Ok(()));
        assert_eq!(rx.try_recv(), Err(TryRecvError::Disconnected));
    }
}

#[test]
fn same_channel_tells_channels_apart() {
    let (tx, rx) = bounded::<u8>(1);
    let (other_tx, other_rx) = bounded::<u8>(1);
    assert!(tx.same_channel(&tx.clone()) && rx.same_channel(&rx.clone()));
    assert!(!tx.same_channel(&other_tx) && !rx.same_channel(&other_rx));
}

// ---- Words and types, as crossbeam-channel 0.5 has them ----

#[test]
fn debug_names_the_end_and_nothing_else() {
    let (tx, rx) = bounded(1);
    tx.send(()).unwrap();
    assert_eq!(format!("{tx:?}"), "Sender { .. }");
    assert_eq!(format!("{rx:?}"), "Receiver { .. }");
    assert_eq!(format!("{:?}", rx.iter()), "Iter { .. }");
    assert_eq!(format!("{:?}", rx.try_iter()), "TryIter { .. }");
    assert_eq!(format!("{tx:>14?}"), " Sender { .. }");
    assert_eq!(format!("{:?}", rx.into_iter()), "IntoIter { .. }");
}

#[test]
fn errors_read_as_crossbeams_do() {
    fn texts(error: impl Error) -> (String, String) {
        (format!("{error:?}"), error.to_string())
    }
    fn pair(debug: &str, display: &str) -> (String, String) {
        (debug.to_owned(), display.to_owned())
    }
    let disconnected = "sending on a disconnected channel";
    let over = "receiving on an empty and disconnected channel";
    assert_eq!(texts(SendError(1)), pair("SendError(..)", disconnected));
    assert_eq!(texts(TrySendError::Full(1)), pair("Full(..)", "sending on a full channel"));
    assert_eq!(texts(TrySendError::Disconnected(1)), pair("Disconnected(..)", disconnected));
    assert_eq!(texts(RecvError), pair("RecvError", over));
    assert_eq!(texts(TryRecvError::Empty), pair("Empty", "receiving on an empty channel"));
    assert_eq!(texts(TryRecvError::Disconnected), pair("Disconnected", over));
    let late = "timed out waiting on send operation";
    assert_eq!(texts(SendTimeoutError::Timeout(1)), pair("SendTimeoutError(..)", late));
    let gone = pair("SendTimeoutError(..)", disconnected);
    assert_eq!(texts(SendTimeoutError::Disconnected(1)), gone);
    let late = "timed out waiting on receive operation";
    assert_eq!(texts(RecvTimeoutError::Timeout), pair("Timeout", late));
    let over = "channel is empty and disconnected";
    assert_eq!(texts(RecvTimeoutError::Disconnected), pair("Disconnected", over));
    let blocked = "all operations in select would block";
    assert_eq!(texts(TrySelectError), pair("TrySelectError", blocked));
    let late = "timed out waiting on select";
    assert_eq!(texts(SelectTimeoutError), pair("SelectTimeoutError", late));
}

#[test]
fn errors_give_the_message_back_and_can_be_asked_and_converted() {
    assert_eq!(SendError("text").into_inner(), "text");
    for (error, full) in [(TrySendError::Full(3), true), (TrySendError::Disconnected(3), false)] {
        assert_eq!((error.is_full(), error.is_disconnected()), (full, !full));
        assert_eq!(error.into_inner(), 3);
    }
    assert!(TryRecvError::Empty.is_empty() && !TryRecvError::Empty.is_disconnected());
    assert!(TryRecvError::Disconnected.is_disconnected() && !TryRecvError::Disconnected.is_empty());
    assert_eq!(TrySendError::from(SendError(5)), TrySendError::Disconnected(5));
    assert_eq!(TryRecvError::from(RecvError), TryRecvError::Disconnected);
    for (error, late) in
        [(SendTimeoutError::Timeout(3), true), (SendTimeoutError::Disconnected(3), false)]
    {
        assert_eq!((error.is_timeout(), error.is_disconnected()), (late, !late));
        assert_eq!(error.into_inner(), 3);
    }
    assert!(RecvTimeoutError::Timeout.is_timeout() && !RecvTimeoutError::Timeout.is_disconnected());
    let over = RecvTimeoutError::from(RecvError);
    assert!(over.is_disconnected() && !over.is_timeout());
    assert_eq!(SendTimeoutError::from(SendError(5)), SendTimeoutError::Disconnected(5));
}

#[test]
fn ends_go_anywhere_if_their_messages_are_send() {
    fn check<T: Send + Sync + UnwindSafe + RefUnwindSafe + 'static>() {}
    // Neither Sync nor unwind safe themselves.
    check::<Sender<Cell<u8>>>();
    check::<Receiver<Cell<u8>>>();
    check::<Sender<Box<dyn FnMut() + Send>>>();
}

#[test]
fn what_is_made_of_ends_can_be_shown_cloned_and_sent_as_crossbeams() {
    fn is_send_and_sync<T: Send + Sync>(_: &T) {}
    fn ends_for_good<I: FusedIterator>(_: &I) {}
    fn is_plain<E: Copy + Eq + fmt::Debug>(_: E) {}
    static NEVER: Receiver<Cell<u8>> = never();
    assert_eq!(NEVER.try_recv(), Err(TryRecvError::Empty));
    let (tx, rx) = bounded(2);
    tx.send(1).unwrap();
    tx.send(2).unwrap();
    let mut select = Select::default();
    select.recv(&rx);
    is_send_and_sync(&select);
    assert_eq!(format!("{select:?}"), "Select { .. }");
    let operation = select.clone().select();
    assert_eq!(format!("{operation:?}"), "SelectedOperation { .. }");
    assert_eq!(operation.recv(&rx), Ok(1));
    assert_eq!((format!("{:?}", rx.iter()), format!("{:?}", rx.try_iter())), {
        ("Iter { .. }".to_owned(), "TryIter { .. }".to_owned())
    });
    ends_for_good(&rx.iter());
    drop((tx, select));
    assert_eq!((&rx).into_iter().collect::<Vec<_>>(), [2]);
    let owned = rx.into_iter();
    ends_for_good(&owned);
    assert_eq!(format!("{owned:?}"), "IntoIter { .. }");
    is_plain(SendError(1));
    is_plain(TrySendError::Full(1));
    is_plain(SendTimeoutError::Timeout(1));
    is_plain((RecvError, TryRecvError::Empty, RecvTimeoutError::Timeout));
    is_plain((TrySelectError, SelectTimeoutError, TryReadyError, ReadyTimeoutError));
}

// ---- Order ----

#[test]
fn messages_arrive_in_the_order_in_which_they_were_sent() {
    for (sender, receiver) in MIXES {
        for cap in CAPACITIES {
            let (tx, rx) = channel(cap);
            let sent = start(sender, move || (0..500).for_each(|n| tx.send(n).unwrap()));
            let received = start(receiver, move || rx.into_iter().collect::<Vec<_>>());
            assert!(received.join().into_iter().eq(0..500), "{sender:?} {receiver:?} {cap:?}");
            sent.join();
        }
    }
}

#[test]
fn with_many_on_both_sides_each_message_goes_to_one_and_each_senders_stay_in_order() {
    for cap in CAPACITIES {
        let (tx, rx) = channel(cap);
        let senders: Vec<_> = (0..4)
            .map(|id| {
                let tx = tx.clone();
                start(KINDS[id % 2], move || (0..500).for_each(|n| tx.send((id, n)).unwrap()))
            })
            .collect();
        drop(tx);
        let receivers: Vec<_> = (0..4)
            .map(|id| {
                let rx = rx.clone();
                start(KINDS[id % 2], move || rx.into_iter().collect::<Vec<_>>())
            })
            .collect();
        drop(rx);
        senders.into_iter().for_each(Handle::join);
        let mut all = Vec::new();
        for received in receivers.into_iter().map(Handle::join) {
            for id in 0..4 {
                let of_one = received.iter().filter(|m| m.0 == id).map(|m| m.1);
                assert!(of_one.is_sorted(), "{cap:?}");
            }
            all.extend(received);
        }
        all.sort_unstable();
        assert!(all.into_iter().eq((0..4).flat_map(|id| (0..500).map(move |n| (id, n)))));
    }
}

#[test]
fn a_channel_that_one_thread_has_had_to_itself_serves_all_who_come() {
    // Each party sends before it receives, so there is a message for whoever wants one.
    fn turns(count: usize, begun: &AtomicUsize, tx: &Sender<usize>, rx: &Receiver<usize>) -> usize {
        let turn = |n| {
            tx.send(n).unwrap();
            begun.fetch_add(1, SeqCst);
            rx.recv().unwrap()
        };
        (0..count).map(turn).sum()
    }
    const ALONE: usize = 4_000;
    const TOGETHER: usize = 1_000;
    for round in 0..40 {
        let (tx, rx) = if round % 2 == 0 { bounded(64) } else { unbounded() };
        let begun = Arc::new(AtomicUsize::new(0));
        let party = |kind, count, after| {
            let (tx, rx, begun) = (tx.clone(), rx.clone(), Arc::clone(&begun));
            start(kind, move || {
                while begun.load(SeqCst) < after {
                    strands::thread::yield_now();
                }
                turns(count, &begun, &tx, &rx)
            })
        };
        // The owner goes on while the others come.
        let owner = party(MIXES[round % MIXES.len()].0, 2 * ALONE, 0);
        let others = KINDS.map(|kind| party(kind, TOGETHER, ALONE));
        let sum: usize = owner.join() + others.into_iter().map(Handle::join).sum::<usize>();
        let sums = |count: usize| count * (count - 1) / 2;
        assert_eq!(sum, sums(2 * ALONE) + KINDS.len() * sums(TOGETHER));
        assert!(rx.is_empty());
    }
}

#[test]
fn receivers_are_served_first_come_first_served() {
    for cap in CAPACITIES {
        let (tx, rx) = channel(cap);
        let waiting: Vec<_> = (0..8)
            .map(|at| {
                let rx = rx.clone();
                start_blocked(KINDS[at % 2], move || rx.recv())
            })
            .collect();
        (0..8).for_each(|n| tx.send(n).unwrap());
        for (at, receiver) in waiting.into_iter().enumerate() {
            assert_eq!(receiver.join(), Ok(at), "{cap:?}");
        }
    }
}

#[test]
fn senders_are_served_first_come_first_served() {
    for cap in [0, 1, 3] {
        let (tx, rx) = bounded(cap);
        (0..cap).for_each(|n| tx.send(n).unwrap());
        let waiting: Vec<_> = (0..8)
            .map(|at| {
                let tx = tx.clone();
                start_blocked(KINDS[at % 2], move || tx.send(cap + at))
            })
            .collect();
        drop(tx);
        assert!(rx.iter().eq(0..cap + 8), "{cap}");
        assert!(waiting.into_iter().all(|sender| sender.join().is_ok()));
    }
}

#[test]
fn a_receive_lets_the_first_sender_go_on() {
    for kind in KINDS {
        for cap in [1, 2, 5] {
            let (tx, rx) = bounded(cap);
            (0..cap).for_each(|n| tx.send(n).unwrap());
            let first = {
                let tx = tx.clone();
                start_blocked(kind, move || tx.send(cap))
            };
            let second = start_blocked(kind, move || tx.send(cap + 1));
            assert_eq!(rx.recv(), Ok(0));
            // With its message in the buffer, which is full again.
            assert_eq!(first.join(), Ok(()));
            assert_eq!(rx.len(), cap);
            assert!(rx.iter().eq(1..cap + 2));
            assert_eq!(second.join(), Ok(()));
        }
    }
}

#[test]
fn nobody_who_comes_later_takes_what_one_who_waits_was_given() {
    for kind in KINDS {
        for cap in [0, 1] {
            // The receiver has the message from the moment it was sent, whether it has woken or not.
            let (tx, rx) = bounded(cap);
            let receiver = {
                let rx = rx.clone();
                start_blocked(kind, move || rx.recv())
            };
            tx.send(1).unwrap();
            assert_eq!(rx.try_recv(), Err(TryRecvError::Empty));
            assert_eq!(receiver.join(), Ok(1));
        }
        // Likewise the sender has its place.
        let (tx, rx) = bounded(1);
        tx.send(1).unwrap();
        let sender = {
            let tx = tx.clone();
            start_blocked(kind, move || tx.send(2))
        };
        assert_eq!(rx.recv(), Ok(1));
        assert_eq!(tx.try_send(3), Err(TrySendError::Full(3)));
        assert_eq!(sender.join(), Ok(()));
        assert_eq!(rx.recv(), Ok(2));
    }
}

// ---- The end of one side ----

#[test]
fn what_was_sent_is_received_after_the_senders_are_gone() {
    for cap in [Some(3), None] {
        let (tx, rx) = channel(cap);
        let second = tx.clone();
        tx.send(1).unwrap();
        drop(tx);
        second.send(2).unwrap();
        drop(second);
        assert_eq!((rx.recv(), rx.try_recv()), (Ok(1), Ok(2)));
        for _ in 0..2 {
            assert_eq!(rx.recv(), Err(RecvError));
            assert_eq!(rx.try_recv(), Err(TryRecvError::Disconnected));
        }
    }
}

#[test]
fn a_message_that_cannot_arrive_comes_back() {
    for cap in CAPACITIES {
        let (tx, rx) = channel(cap);
        drop(rx.clone());
        assert!(cap == Some(0) || tx.try_send("arrives").is_ok());
        drop(rx);
        assert_eq!(tx.send("back"), Err(SendError("back")));
        assert_eq!(tx.try_send("back"), Err(TrySendError::Disconnected("back")));
        assert!(tx.is_empty());
    }
}

#[test]
fn the_end_of_the_receivers_frees_blocked_senders_with_their_messages() {
    for cap in [0, 2] {
        let (tx, rx) = bounded(cap);
        (0..cap).for_each(|n| tx.send(n).unwrap());
        let senders: Vec<_> = (0..6)
            .map(|at| {
                let tx = tx.clone();
                start_blocked(KINDS[at % 2], move || tx.send(100 + at))
            })
            .collect();
        drop(rx);
        for (at, sender) in senders.into_iter().enumerate() {
            assert_eq!(sender.join(), Err(SendError(100 + at)));
        }
    }
}

#[test]
fn the_end_of_the_senders_frees_blocked_receivers() {
    for cap in CAPACITIES {
        let (tx, rx) = channel::<u8>(cap);
        let receivers: Vec<_> = (0..6)
            .map(|at| {
                let rx = rx.clone();
                start_blocked(KINDS[at % 2], move || rx.recv())
            })
            .collect();
        let second = tx.clone();
        drop(tx);
        assert_eq!(rx.try_recv(), Err(TryRecvError::Empty), "one sender is left");
        drop(second);
        assert!(receivers.into_iter().all(|receiver| receiver.join() == Err(RecvError)));
    }
}

#[test]
fn ten_thousand_receivers_are_freed_by_one_drop() {
    let (tx, rx) = bounded::<u8>(0);
    let handles: Vec<_> = (0..10_000)
        .map(|_| {
            let rx = rx.clone();
            strands::go(move || rx.recv())
        })
        .collect();
    wait_until(|| runtime::dump().matches("[chan receive").count() >= 10_000);
    drop(tx);
    assert!(handles.into_iter().all(|handle| handle.join().unwrap() == Err(RecvError)));
}

#[test]
fn ten_thousand_senders_get_their_messages_back_from_one_drop() {
    let (tx, rx) = bounded(0);
    let drops = Arc::new(AtomicUsize::new(0));
    let handles: Vec<_> = (0..10_000)
        .map(|_| {
            let (tx, message) = (tx.clone(), Counted(Arc::clone(&drops)));
            strands::go(move || tx.send(message).is_err())
        })
        .collect();
    wait_until(|| runtime::dump().matches("[chan send").count() >= 10_000);
    drop(rx);
    assert!(handles.into_iter().all(|handle| handle.join().unwrap()));
    assert_eq!(drops.load(SeqCst), 10_000);
}

#[test]
fn what_is_left_is_dropped_with_the_last_receiver() {
    for cap in [Some(5), None] {
        let drops = Arc::new(AtomicUsize::new(0));
        let (tx, rx) = channel(cap);
        for _ in 0..5 {
            tx.send(Counted(Arc::clone(&drops))).unwrap();
        }
        drop(rx.recv());
        assert_eq!(drops.load(SeqCst), 1);
        let second = rx.clone();
        drop(rx);
        assert_eq!(drops.load(SeqCst), 1, "somebody can still receive");
        drop(second);
        assert_eq!(drops.load(SeqCst), 5, "though a sender is left");
        assert!(tx.is_empty());
        assert!(tx.send(Counted(Arc::clone(&drops))).is_err());
        assert_eq!(drops.load(SeqCst), 6);
    }
}

#[test]
fn a_sender_dropped_in_a_goroutine_ends_the_wait_of_a_thread_and_the_other_way_round() {
    for kind in KINDS {
        let (tx, rx) = bounded::<u8>(0);
        let dropper = start(kind, move || {
            strands::sleep(Duration::from_millis(5));
            drop(tx);
        });
        assert_eq!(rx.recv(), Err(RecvError));
        dropper.join();
    }
    let (tx, rx) = bounded::<u8>(0);
    let waiting = start_blocked(Kind::Goroutine, move || rx.recv());
    drop(tx);
    assert_eq!(waiting.join(), Err(RecvError));
}

#[test]
fn a_panic_that_drops_the_sender_ends_the_wait() {
    for kind in KINDS {
        let (tx, rx) = bounded::<u8>(0);
        let panics = start(kind, move || {
            let _tx = tx;
            panic!("on purpose");
        });
        assert_eq!(rx.recv(), Err(RecvError));
        assert!(panics.outcome().is_err());
    }
}

// ---- Iterators ----

#[test]
fn iterators_end_with_the_channel() {
    let (tx, rx) = bounded(1);
    let sender = strands::go(move || (0..10).for_each(|n| tx.send(n).unwrap()));
    let mut all = Vec::new();
    for n in &rx {
        all.push(n);
        if n == 2 {
            break;
        }
    }
    all.extend(rx.iter().take(3));
    all.extend(rx);
    assert!(all.into_iter().eq(0..10));
    sender.join().unwrap();
}

#[test]
fn an_iterator_that_has_ended_stays_ended() {
    let (tx, rx) = unbounded();
    tx.send(1).unwrap();
    drop(tx);
    let mut iter = rx.iter();
    assert_eq!([iter.next(), iter.next(), iter.next()], [Some(1), None, None]);
}

#[test]
fn try_iter_ends_when_there_is_nothing_and_can_be_asked_again() {
    let (tx, rx) = unbounded();
    let mut iter = rx.try_iter();
    assert_eq!(iter.next(), None);
    tx.send(1).unwrap();
    assert_eq!((iter.next(), iter.next()), (Some(1), None));
    tx.send(2).unwrap();
    drop(tx);
    assert_eq!((iter.next(), iter.next()), (Some(2), None));
}

#[test]
fn an_owned_iterator_is_a_receiver_and_ends_the_channel_with_it() {
    let (tx, rx) = unbounded();
    tx.send(1).unwrap();
    let mut iter = rx.into_iter();
    assert_eq!(iter.next(), Some(1));
    tx.send(2).unwrap();
    drop(iter);
    assert_eq!(tx.send(3), Err(SendError(3)));
}
