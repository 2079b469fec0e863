//! Selects that send: their message is made when the arm has been chosen, and what the arm was chosen for,
//! room or a receiver, is kept for it until then. What may happen in between.
#![cfg(not(loom))]

mod parties;

use parties::{Bell, KINDS, LONG, MIXES, channel, poll, start, start_blocked, wait_until};
use std::panic::{AssertUnwindSafe, catch_unwind, resume_unwind};
use std::pin::pin;
use std::task::Poll;
use std::time::Duration;
use strands::channel::{
    Receiver, RecvError, RecvTimeoutError, Select, SendError, Sender, TryRecvError, TrySendError,
    bounded,
};
use strands::{select, select_biased};

/// A message that could not be made.
fn broken<T>() -> T {
    // As a panic, but without the noise.
    resume_unwind(Box::new("broken"))
}

/// Runs `f`, which breaks its promise.
fn breaking(f: impl FnOnce()) {
    let payload = catch_unwind(AssertUnwindSafe(f)).expect_err("it breaks its promise");
    assert_eq!(payload.downcast_ref(), Some(&"broken"));
}

// ---- Room ----

/// Capacity 1, and the place is promised: the channel is a rendezvous until the message is made.
#[test]
fn while_all_room_is_promised_others_meet_hand_to_hand() {
    for (one, other) in MIXES {
        let (tx, rx) = bounded(1);
        select! {
            send(tx, {
                assert!(rx.is_full() && rx.is_empty());
                assert_eq!(tx.try_send(2), Err(TrySendError::Full(2)));
                assert_eq!(rx.try_recv(), Err(TryRecvError::Empty));
                // The sender waits first.
                let sender = { let tx = tx.clone(); start_blocked(one, move || tx.send(2)) };
                let receiver = { let rx = rx.clone(); start(other, move || rx.recv()) };
                assert_eq!(receiver.join(), Ok(2), "{one:?} {other:?}");
                assert_eq!(sender.join(), Ok(()));
                // The receiver waits first, and the sender is a select, that makes its message later too.
                let receiver = { let rx = rx.clone(); start_blocked(other, move || rx.recv()) };
                let sender = {
                    let tx = tx.clone();
                    start(one, move || select! { send(tx, 3) -> sent => sent })
                };
                assert_eq!(receiver.join(), Ok(3), "{one:?} {other:?}");
                assert_eq!(sender.join(), Ok(()));
                1
            }) -> sent => assert_eq!(sent, Ok(())),
        }
        assert_eq!((rx.len(), rx.recv()), (1, Ok(1)));
    }
}

#[test]
fn a_sender_who_waits_for_promised_room_is_not_forgotten_when_the_message_goes_elsewhere() {
    for (one, other) in MIXES {
        let (tx, rx) = bounded(1);
        let parties;
        select! {
            send(tx, {
                let receiver = { let rx = rx.clone(); start_blocked(other, move || rx.recv()) };
                let sender = { let tx = tx.clone(); start(one, move || tx.send(2)) };
                parties = (receiver, sender);
                1
            }) -> sent => assert_eq!(sent, Ok(())),
        }
        let (receiver, sender) = parties;
        let first = receiver.join().unwrap();
        assert_eq!(rx.recv_timeout(LONG), Ok(3 - first), "{one:?} {other:?}");
        assert_eq!(sender.join(), Ok(()));
    }
}

#[test]
fn room_whose_message_is_never_made_goes_to_the_next_sender() {
    for kind in KINDS {
        for later in [false, true] {
            let (tx, rx) = bounded(1);
            let mut sender = None;
            breaking(|| {
                select! {
                    send(tx, {
                        let tx = tx.clone();
                        sender = Some(start_blocked(kind, move || match later {
                            // A promise, too.
                            true => select! { send(tx, 2) -> sent => sent },
                            false => tx.send(2),
                        }));
                        broken()
                    }) -> _ => unreachable!("there is no message"),
                }
            });
            assert_eq!(sender.unwrap().join(), Ok(()));
            assert_eq!((rx.recv(), rx.is_full()), (Ok(2), false));
        }
    }
}

#[test]
fn whoever_watches_is_told_when_promised_room_is_free_again() {
    for kind in KINDS {
        let (tx, _rx) = bounded(1);
        let mut watcher = None;
        breaking(|| {
            select! {
                send(tx, {
                    let tx = tx.clone();
                    watcher = Some(start_blocked(kind, move || {
                        let mut select = Select::new();
                        let index = select.send(&tx);
                        (select.ready() == index, tx.try_send(2))
                    }));
                    broken()
                }) -> _ => unreachable!("there is no message"),
            }
        });
        assert_eq!(watcher.unwrap().join(), (true, Ok(())));
    }
}

#[test]
fn room_in_a_channel_that_is_closed_meanwhile_gives_the_message_back() {
    for cap in [Some(1), Some(3), None] {
        let (tx, rx) = channel(cap);
        select! { send(tx, { rx.close(); 7 }) -> sent => assert_eq!(sent, Err(SendError(7))) }
        assert_eq!(rx.recv(), Err(RecvError));
        let (tx, rx) = channel(cap);
        select! { send(tx, { drop(rx); 7 }) -> sent => assert_eq!(sent, Err(SendError(7))) }
    }
}

#[test]
fn several_places_can_be_promised_at_once() {
    let (tx, rx) = bounded(3);
    select! { send(tx, {
        select! { send(tx, {
            select! { send(tx, {
                assert!(rx.is_full());
                select! { send(tx, 4) -> _ => unreachable!("no room"), default => {} }
                3
            }) -> sent => sent.unwrap() }
            2
        }) -> sent => sent.unwrap() }
        1
    }) -> sent => sent.unwrap() }
    assert_eq!(rx.try_iter().collect::<Vec<_>>(), [3, 2, 1]);
}

// ---- A partner ----

/// The ways to receive, to be told whether they got the message.
#[derive(Clone, Copy, Debug)]
enum Way {
    Receive,
    Deadline,
    Select,
    SelectDeadline,
    Dynamic,
    Iterator,
}

const WAYS: [Way; 6] =
    [Way::Receive, Way::Deadline, Way::Select, Way::SelectDeadline, Way::Dynamic, Way::Iterator];

impl Way {
    fn receive<T: Send>(self, rx: &Receiver<T>) -> Option<T> {
        let (_other_tx, other) = bounded::<()>(0);
        match self {
            Way::Receive => rx.recv().ok(),
            Way::Deadline => rx.recv_timeout(LONG).ok(),
            Way::Select => select! {
                recv(other) -> _ => unreachable!("nobody sends"),
                recv(rx) -> message => message.ok(),
            },
            Way::SelectDeadline => select! {
                recv(other) -> _ => unreachable!("nobody sends"),
                recv(rx) -> message => message.ok(),
                default(LONG) => None,
            },
            Way::Dynamic => {
                let mut select = Select::new();
                select.recv(&other);
                let index = select.recv(rx);
                let operation = select.select();
                assert_eq!(operation.index(), index);
                operation.recv(rx).ok()
            }
            Way::Iterator => rx.iter().next(),
        }
    }
}

#[test]
fn a_receiver_that_waits_gets_the_message_that_is_made_for_it() {
    for (sends, receives) in MIXES {
        for way in WAYS {
            let (tx, rx) = bounded(0);
            let receiver = {
                let rx = rx.clone();
                start_blocked(receives, move || way.receive(&rx))
            };
            let sender = start(sends, move || {
                select! {
                    send(tx, {
                        // It is taken: nobody else finds it.
                        assert_eq!(tx.try_send(1), Err(TrySendError::Full(1)));
                        assert_eq!(rx.try_recv(), Err(TryRecvError::Empty));
                        strands::yield_now();
                        2
                    }) -> sent => sent,
                }
            });
            assert_eq!(sender.join(), Ok(()));
            assert_eq!(receiver.join(), Some(2), "{sends:?} {receives:?} {way:?}");
        }
    }
}

#[test]
fn a_receiver_that_comes_gets_the_message_that_is_made_for_it() {
    for (sends, receives) in MIXES {
        for way in WAYS {
            let (tx, rx) = bounded(0);
            let sender = start_blocked(sends, move || select! { send(tx, 2) -> sent => sent });
            let receiver = start(receives, move || way.receive(&rx));
            assert_eq!(receiver.join(), Some(2), "{sends:?} {receives:?} {way:?}");
            assert_eq!(sender.join(), Ok(()));
        }
        // As does one who only tries, and waits no longer than the message takes to be made.
        let (tx, rx) = bounded(0);
        let sender = start_blocked(sends, move || select! { send(tx, 2) -> sent => sent });
        let receiver = start(receives, move || rx.try_recv());
        assert_eq!(receiver.join(), Ok(2));
        assert_eq!(sender.join(), Ok(()));
    }
}

#[test]
fn a_receiver_whose_message_is_never_made_begins_anew() {
    for (sends, receives) in MIXES {
        for way in WAYS {
            let (tx, rx) = bounded(0);
            let receiver = start_blocked(receives, move || way.receive(&rx));
            let sender = start(sends, move || {
                for _ in 0..3 {
                    breaking(|| {
                        select! { send(tx, broken()) -> _ => unreachable!("there is no message") }
                    });
                }
                // Whether or not it is back in line by now.
                tx.send(4)
            });
            assert_eq!(sender.join(), Ok(()));
            assert_eq!(receiver.join(), Some(4), "{sends:?} {receives:?} {way:?}");
        }
    }
}

#[test]
fn a_receiver_that_tries_and_gets_no_message_has_found_the_channel_empty() {
    for (sends, receives) in MIXES {
        let (tx, rx) = bounded::<i32>(0);
        let sender = {
            let tx = tx.clone();
            start_blocked(sends, move || {
                breaking(|| select! { send(tx, broken()) -> _ => unreachable!("no message") });
            })
        };
        let receiver = start(receives, move || rx.try_recv());
        assert_eq!(receiver.join(), Err(TryRecvError::Empty));
        sender.join();
        drop(tx);
    }
}

/// The deadline passes while the message is being made: then it does not count any more, unless nothing comes.
#[test]
fn a_deadline_does_not_take_back_what_was_promised() {
    for (sends, receives) in MIXES {
        for keeps in [false, true] {
            let (tx, rx) = bounded(0);
            let receiver = start(receives, move || rx.recv_timeout(Duration::from_millis(30)));
            let sender = {
                let tx = tx.clone();
                start(sends, move || {
                    let sent = catch_unwind(AssertUnwindSafe(|| {
                        select! {
                            send(tx, {
                                strands::sleep(Duration::from_millis(60));
                                if keeps { 5 } else { broken() }
                            }) -> sent => sent,
                        }
                    }));
                    sent.ok()
                })
            };
            let received = receiver.join();
            let sent = sender.join();
            assert_eq!(sent.is_some(), keeps);
            // A slow machine may let it time out before the sender comes.
            let expected =
                if sent == Some(Ok(())) { Ok(5) } else { Err(RecvTimeoutError::Timeout) };
            assert_eq!(received, expected, "{sends:?} {receives:?} {keeps}");
            drop(tx);
        }
    }
}

#[test]
fn closing_lets_a_promise_be_kept() {
    for (sends, receives) in MIXES {
        for keeps in [false, true] {
            let (tx, rx) = bounded(0);
            let receiver = start_blocked(receives, move || rx.recv());
            let sender =
                start(sends, move || {
                    catch_unwind(AssertUnwindSafe(|| select! {
                    send(tx, { tx.close(); if keeps { 5 } else { broken() } }) -> sent => sent,
                }))
                .ok()
                });
            assert_eq!(sender.join(), keeps.then_some(Ok(())));
            assert_eq!(receiver.join(), if keeps { Ok(5) } else { Err(RecvError) });
        }
    }
}

// ---- A partner that goes away ----

#[test]
fn a_message_made_for_a_future_that_was_dropped_goes_to_the_next() {
    for kind in KINDS {
        for waits in [false, true] {
            let (tx, rx) = bounded(0);
            let bell = Bell::new();
            let mut next = None;
            let mut future = Box::pin(rx.recv_async());
            assert!(poll(future.as_mut(), &bell).is_pending());
            select! {
                send(tx, {
                    // It was chosen, and not yet woken.
                    assert_eq!(bell.rung(), 0);
                    assert!(poll(future.as_mut(), &bell).is_pending());
                    drop(future);
                    if waits {
                        let rx = rx.clone();
                        next = Some(start_blocked(kind, move || rx.recv()));
                    }
                    6
                }) -> sent => assert_eq!(sent, Ok(())),
            }
            match next {
                Some(next) => assert_eq!(next.join(), Ok(6)),
                None => assert_eq!(rx.try_recv(), Ok(6)),
            }
            assert_eq!(rx.try_recv(), Err(TryRecvError::Empty));
            assert_eq!(bell.rung(), 0);
        }
    }
}

#[test]
fn a_message_made_for_a_future_that_was_dropped_comes_back_if_the_channel_is_closed() {
    let (tx, rx) = bounded(0);
    let mut future = Box::pin(rx.recv_async());
    assert!(poll(future.as_mut(), &Bell::new()).is_pending());
    select! { send(tx, { drop(future); rx.close(); 6 }) -> sent => assert_eq!(sent, Err(SendError(6))) }
    let (tx, rx) = bounded(0);
    let mut future = Box::pin(rx.recv_async());
    assert!(poll(future.as_mut(), &Bell::new()).is_pending());
    select! { send(tx, { drop(future); drop(rx); 6 }) -> sent => assert_eq!(sent, Err(SendError(6))) }
}

#[test]
fn a_broken_promise_to_a_future_wakes_it_and_leaves_it_waiting() {
    for is_dropped in [false, true] {
        let (tx, rx) = bounded(0);
        let (bell, other) = (Bell::new(), Bell::new());
        let mut future = Some(Box::pin(rx.recv_async()));
        assert!(poll(future.as_mut().unwrap().as_mut(), &bell).is_pending());
        breaking(|| {
            select! { send(tx, {
                if is_dropped { drop(future.take()) }
                broken()
            }) -> _ => unreachable!("there is no message") }
        });
        let Some(mut future) = future else {
            assert_eq!((bell.rung(), tx.try_send(1)), (0, Err(TrySendError::Full(1))));
            continue;
        };
        assert_eq!(bell.rung(), 1, "it has to come back into line");
        assert!(poll(future.as_mut(), &other).is_pending());
        assert_eq!(tx.try_send(8), Ok(()));
        assert_eq!((other.rung(), poll(future.as_mut(), &other)), (1, Poll::Ready(Ok(8))));
    }
}

/// A future that comes to a select which waits to send: it is the one that was promised.
#[test]
fn a_future_waits_for_a_message_that_is_promised_to_it() {
    for kind in KINDS {
        for keeps in [false, true] {
            let (tx, rx) = bounded(0);
            let (go_on, goes_on) = bounded::<()>(0);
            let sender = start_blocked(kind, move || {
                catch_unwind(AssertUnwindSafe(|| select! {
                    send(tx, { goes_on.recv().unwrap(); if keeps { 9 } else { broken() } }) -> sent => sent,
                }))
                .ok()
            });
            let bell = Bell::new();
            let mut future = pin!(rx.recv_async());
            assert!(poll(future.as_mut(), &bell).is_pending());
            go_on.send(()).unwrap();
            wait_until(|| bell.rung() == 1);
            let sent = sender.join();
            assert_eq!(sent, keeps.then_some(Ok(())));
            let expected = if keeps { Ok(9) } else { Err(RecvError) };
            assert_eq!(poll(future.as_mut(), &bell), Poll::Ready(expected));
        }
    }
}

// ---- A select and itself ----

fn itself() -> i32 {
    unreachable!("it sends to itself")
}

#[test]
fn a_select_does_not_meet_itself() {
    let (tx, rx) = bounded::<i32>(0);
    for _ in 0..100 {
        select! {
            recv(rx) -> _ => unreachable!("it sends to itself"),
            send(tx, itself()) -> _ => {}
            recv(rx) -> _ => unreachable!("it sends to itself"),
            default => {}
        }
    }
    for kind in KINDS {
        let (tx, rx) = (tx.clone(), rx.clone());
        start(kind, move || {
            select! {
                send(tx, itself()) -> _ => {}
                recv(rx) -> _ => unreachable!("it sends to itself"),
                default(Duration::from_millis(3)) => {}
            }
        })
        .join();
    }
    // Nobody is left in any line.
    assert_eq!(tx.try_send(1), Err(TrySendError::Full(1)));
    assert_eq!(rx.try_recv(), Err(TryRecvError::Empty));
}

/// Both would send and receive. Each round one does one and the other the other.
#[test]
fn two_selects_of_both_kinds_meet_each_other() {
    const ROUNDS: usize = 2000;
    for (one, other) in MIXES {
        let (tx, rx) = bounded(0);
        let play = |id: usize| {
            let (tx, rx) = (tx.clone(), rx.clone());
            move || {
                let (mut sent, mut received) = (0, 0);
                for round in 0..ROUNDS {
                    select! {
                        send(tx, (id, round)) -> result => { result.unwrap(); sent += 1; }
                        recv(rx) -> message => {
                            assert_eq!(message.unwrap(), (1 - id, round));
                            received += 1;
                        }
                    }
                }
                (sent, received)
            }
        };
        let parties = [start(one, play(0)), start(other, play(1))];
        let [(sent, received), (others_sent, others_received)] = parties.map(|party| party.join());
        assert_eq!((sent, received), (others_received, others_sent));
        assert_eq!(sent + received, ROUNDS);
    }
}

#[test]
fn the_same_channel_in_many_arms_is_served_once() {
    for (one, other) in MIXES {
        for cap in [0, 1, 3] {
            const COUNT: usize = 500;
            let (tx, rx) = bounded(cap);
            let sender = start(one, move || {
                for n in 0..COUNT {
                    select! {
                        send(tx, n) -> sent => sent.unwrap(),
                        send(tx, n) -> sent => sent.unwrap(),
                        send(tx.clone(), n) -> sent => sent.unwrap(),
                    }
                }
            });
            let receiver = start(other, move || {
                let next = || {
                    select! {
                        recv(rx) -> message => message,
                        recv(&rx) -> message => message,
                        recv(rx.clone()) -> message => message,
                    }
                };
                (0..COUNT).for_each(|n| assert_eq!(next(), Ok(n)));
                assert_eq!(next(), Err(RecvError));
            });
            sender.join();
            receiver.join();
        }
    }
}

// ---- Operations that are not completed ----

/// Selects, and drops the operation instead of completing it: that panics, and gives back what it held.
fn drop_operation(add: impl FnOnce(&mut Select<'_>)) {
    let mut select = Select::new();
    add(&mut select);
    let operation = select.select();
    let panic = catch_unwind(AssertUnwindSafe(|| drop(operation))).unwrap_err();
    let message = *panic.downcast::<&str>().unwrap();
    assert_eq!(message, "dropped `SelectedOperation` without completing the operation");
}

/// Adds an end that outlives every select of these tests.
fn leak<T>(end: T) -> &'static T {
    Box::leak(Box::new(end))
}

#[test]
fn a_dropped_receive_gives_the_message_back() {
    for kind in KINDS {
        for cap in [Some(0), Some(1), None] {
            let (tx, rx) = channel(cap);
            let rx = leak(rx);
            let sender = match cap {
                Some(0) => start_blocked(kind, move || tx.send(1)),
                _ => start(kind, move || tx.send(1)),
            };
            drop_operation(|select| _ = select.recv(rx));
            assert_eq!(rx.try_recv(), Ok(1));
            assert_eq!(sender.join(), Ok(()));
        }
    }
}

#[test]
fn a_dropped_send_gives_room_or_receiver_back() {
    for kind in KINDS {
        let (tx, rx) = bounded(1);
        let tx = leak(tx);
        drop_operation(|select| _ = select.send(tx));
        assert_eq!((tx.try_send(1), rx.recv()), (Ok(()), Ok(1)));
        let (tx, rx) = bounded(0);
        let tx = leak(tx);
        let receiver = start_blocked(kind, move || rx.recv());
        drop_operation(|select| _ = select.send(tx));
        assert_eq!(tx.send(2), Ok(()));
        assert_eq!(receiver.join(), Ok(2));
    }
}

#[test]
fn an_operation_completed_with_the_wrong_end_gives_back_what_it_held() {
    let (tx, rx) = bounded(1);
    let (other_tx, other_rx) = bounded(1);
    let mut select = Select::new();
    select.send(&tx);
    let operation = select.select();
    assert!(catch_unwind(AssertUnwindSafe(|| operation.send(&other_tx, 1))).is_err());
    tx.try_send(2).unwrap();
    other_tx.try_send(3).unwrap();
    let mut select = Select::new();
    select.recv(&rx);
    let operation = select.select();
    assert!(catch_unwind(AssertUnwindSafe(|| operation.recv(&other_rx))).is_err());
    assert_eq!((rx.try_recv(), other_rx.try_recv()), (Ok(2), Ok(3)));
}

// ---- When the message is made ----

#[test]
fn the_message_of_an_arm_that_loses_is_never_made() {
    let never = |_: &Sender<i32>| -> i32 { unreachable!("it lost") };
    let (tx, rx) = bounded(0);
    let (ready_tx, ready_rx) = bounded(8);
    for n in 0..8 {
        select_biased! {
            send(tx, never(&tx)) -> _ => unreachable!("nobody receives"),
            send(ready_tx, n) -> sent => sent.unwrap(),
            send(ready_tx, never(&tx)) -> _ => unreachable!("the first wins"),
        }
    }
    assert!(ready_rx.try_iter().eq(0..8));
    drop(rx);
    // On a closed channel it is made, and comes back.
    select! { send(tx, 9) -> sent => assert_eq!(sent, Err(SendError(9))) }
}
