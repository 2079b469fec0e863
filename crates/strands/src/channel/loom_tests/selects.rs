//! Models of selects and futures: what is chosen, promised, kept, broken and dropped, in all orders.

use super::*;

/// Two receives, of which exactly one gets the message.
#[test]
fn a_select_over_two_receives_takes_one_message() {
    for cap in [0, 1] {
        model(3, move |log| {
            let ends = [channel(Some(cap)), channel(Some(cap))];
            let senders = [0, 1].map(|id: usize| {
                let (tx, log) = (ends[id].0.clone(), log.clone());
                thread::spawn(move || tx.try_send(log.message(id)).is_ok())
            });
            let [(_, one), (_, other)] = &ends;
            let got = crate::select_biased! {
                recv(one) -> message => message.unwrap().open(),
                recv(other) -> message => message.unwrap().open(),
                default => MESSAGES,
            };
            let sent = joined(senders);
            let mut opened = Vec::from_iter((got < MESSAGES).then_some(got));
            assert!(got == MESSAGES || sent[got]);
            for (id, (_, rx)) in ends.iter().enumerate() {
                if let Ok(message) = rx.try_recv() {
                    assert_ne!(id, got);
                    opened.push(message.open());
                }
            }
            assert_eq!(opened.len(), sent.iter().filter(|sent| **sent).count());
            log.assert_opened(&opened);
        });
    }
}

/// A select that sends meets one that receives, in a rendezvous: both claim and are claimed.
#[test]
fn two_selects_meet() {
    model(3, |log| {
        let (tx, rx) = channel(Some(0));
        let (_other_tx, other_rx) = channel(Some(0));
        let sender = {
            let (log, other_rx) = (log.clone(), other_rx.clone());
            thread::spawn(move || {
                crate::select_biased! {
                    recv(other_rx) -> _ => unreachable!("nobody sends"),
                    send(tx, log.message(0)) -> sent => assert!(sent.is_ok()),
                }
            })
        };
        let got = crate::select_biased! {
            recv(rx) -> message => message.unwrap().open(),
            recv(other_rx) -> _ => unreachable!("nobody sends"),
        };
        assert_eq!(got, 0);
        sender.join().unwrap();
        log.assert_opened(&[0]);
    });
}

/// A plain receive, with a deadline or without, and a select that sends.
#[test]
fn a_receiver_waits_for_a_promised_message() {
    for deadline in [false, true] {
        model(3, move |log| {
            let (tx, rx) = channel(Some(0));
            let sender = {
                let log = log.clone();
                thread::spawn(move || {
                    crate::select_biased! {
                        send(tx, log.message(0)) -> sent => sent.is_ok(),
                    }
                })
            };
            let received = if deadline {
                let received = rx.recv_deadline(passed()).map(Message::open).ok();
                drop(rx);
                received
            } else {
                rx.recv().map(Message::open).ok()
            };
            let sent = sender.join().unwrap();
            assert_eq!(received, sent.then_some(0));
            assert!(deadline || sent);
            log.assert_opened(if sent { &[0] } else { &[] });
        });
    }
}

/// A future that is polled once and then dropped, and one that is polled until it is ready.
#[test]
fn a_dropped_future_has_lost_nothing() {
    for cap in [0, 1] {
        model(3, move |log| {
            let (tx, rx) = channel(Some(cap));
            let sender = {
                let (tx, log) = (tx.clone(), log.clone());
                thread::spawn(move || tx.try_send(log.message(0)).is_ok())
            };
            let polled = {
                let mut future = std::pin::pin!(rx.recv_async());
                let mut cx = Context::from_waker(Waker::noop());
                match future.as_mut().poll(&mut cx) {
                    Poll::Ready(message) => Some(message.unwrap().open()),
                    Poll::Pending => None,
                }
            };
            let sent = sender.join().unwrap();
            let left = rx.try_recv().map(Message::open);
            assert_eq!(
                usize::from(polled.is_some()) + usize::from(left.is_ok()),
                usize::from(sent)
            );
            log.assert_opened(if sent { &[0] } else { &[] });
        });
    }
}

/// A select, and a close from either side: it is served, or it learns of the close, and the message is nowhere else.
#[test]
fn a_select_that_sends_meets_a_close() {
    for cap in [0, 1] {
        model(3, move |log| {
            let (tx, rx) = channel(Some(cap));
            let sender = {
                let log = log.clone();
                thread::spawn(move || {
                    crate::select_biased! {
                        send(tx, log.message(0)) -> sent => sent.is_ok(),
                    }
                })
            };
            let closer = {
                let rx = rx.clone();
                thread::spawn(move || rx.close())
            };
            let received = rx.recv().map(Message::open);
            let sent = sender.join().unwrap();
            closer.join().unwrap();
            assert_eq!(received, if sent { Ok(0) } else { Err(RecvError) });
            log.assert_opened(if sent { &[0] } else { &[] });
        });
    }
}

#[test]
fn a_select_that_receives_meets_a_close() {
    for cap in [0, 1] {
        model(3, move |log| {
            let (tx, rx) = channel(Some(cap));
            let (_other_tx, other_rx) = channel(Some(0));
            let sender = {
                let (tx, log) = (tx.clone(), log.clone());
                thread::spawn(move || tx.try_send(log.message(0)).is_ok())
            };
            let closer = thread::spawn(move || tx.close());
            let receive = || {
                crate::select_biased! {
                    recv(other_rx) -> _ => unreachable!("nobody sends"),
                    recv(rx) -> message => message.map(Message::open),
                }
            };
            let received = receive();
            let sent = sender.join().unwrap();
            closer.join().unwrap();
            assert_eq!(received, if sent { Ok(0) } else { Err(RecvError) });
            assert_eq!(receive(), Err(RecvError));
            log.assert_opened(if sent { &[0] } else { &[] });
        });
    }
}

/// The receiver that was promised the message is a future, which is dropped at any time.
#[test]
fn a_promise_is_kept_to_a_future_that_goes_away() {
    model(3, |log| {
        let (tx, rx) = channel(Some(0));
        let sender = {
            let log = log.clone();
            thread::spawn(move || {
                crate::select_biased! {
                    send(tx, log.message(0)) -> sent => sent.is_ok(),
                }
            })
        };
        let polled = {
            let mut future = std::pin::pin!(rx.recv_async());
            match future.as_mut().poll(&mut Context::from_waker(Waker::noop())) {
                Poll::Ready(message) => Some(message.unwrap().open()),
                Poll::Pending => None,
            }
        };
        // It was promised to the future, or still is to be sent: in either case it comes.
        let left = if polled.is_none() { rx.recv().map(Message::open).ok() } else { None };
        assert!(sender.join().unwrap());
        assert_eq!(polled.or(left), Some(0));
        log.assert_opened(&[0]);
    });
}

/// A promise that is broken: the receiver that was held for it gets the next message; a future, too.
#[test]
fn whoever_was_promised_a_message_in_vain_begins_anew() {
    for is_future in [false, true] {
        model(3, move |log| {
            let (tx, rx) = channel(Some(0));
            let sender = {
                let log = log.clone();
                thread::spawn(move || {
                    // Chosen, and dropped instead of finished.
                    if let Ok(operation) = {
                        let mut select = crate::channel::Select::new();
                        select.send(&tx);
                        select.try_select()
                    } {
                        break_promise(operation);
                    }
                    tx.send(log.message(0)).is_ok()
                })
            };
            let received = if is_future {
                let mut future = std::pin::pin!(rx.recv_async());
                loop {
                    let polled = future.as_mut().poll(&mut Context::from_waker(Waker::noop()));
                    if let Poll::Ready(message) = polled {
                        break message.map(Message::open);
                    }
                    thread::yield_now();
                }
            } else {
                rx.recv().map(Message::open)
            };
            assert_eq!(received, Ok(0));
            assert!(sender.join().unwrap());
            log.assert_opened(&[0]);
        });
    }
}

/// Room that is promised and then not used, with a sender and a receiver who come meanwhile.
#[test]
fn promised_room_that_is_not_used_is_nobodys_loss() {
    for keeps in [false, true] {
        model(3, move |log| {
            let (tx, rx) = channel(Some(1));
            let sender = {
                let (tx, log) = (tx.clone(), log.clone());
                thread::spawn(move || assert!(tx.send(log.message(1)).is_ok()))
            };
            let receiver = {
                let rx = rx.clone();
                thread::spawn(move || rx.recv().map(Message::open).unwrap())
            };
            let mut select = crate::channel::Select::new();
            select.send(&tx);
            match select.try_select() {
                Ok(operation) if keeps => assert!(operation.send(&tx, log.message(0)).is_ok()),
                Ok(operation) => break_promise(operation),
                Err(_) => {}
            }
            let mut opened = vec![receiver.join().unwrap()];
            sender.join().unwrap();
            opened.extend(rx.try_recv().map(Message::open));
            log.assert_opened(&opened);
        });
    }
}

/// Drops what was selected, without the panic that users get: loom takes any panic for a failure.
fn break_promise(operation: crate::channel::SelectedOperation<'_>) {
    operation.break_off();
}

/// One who watches is told, and finds what there is.
#[test]
fn one_who_watches_finds_what_comes() {
    for cap in [0, 1] {
        model(3, move |log| {
            let (tx, rx) = channel(Some(cap));
            let sender = {
                let (tx, log) = (tx.clone(), log.clone());
                thread::spawn(move || assert!(tx.send(log.message(0)).is_ok()))
            };
            let mut select = crate::channel::Select::new();
            let index = select.recv(&rx);
            assert_eq!(select.ready(), index);
            assert_eq!(rx.try_recv().map(Message::open), Ok(0));
            sender.join().unwrap();
            log.assert_opened(&[0]);
        });
        model(3, move |log| {
            let (tx, rx) = channel(Some(cap));
            if cap == 1 {
                assert!(tx.send(log.message(1)).is_ok());
            }
            let receiver = {
                let rx = rx.clone();
                thread::spawn(move || rx.recv().map(Message::open).unwrap())
            };
            let mut select = crate::channel::Select::new();
            let index = select.send(&tx);
            assert_eq!(select.ready(), index);
            assert!(tx.try_send(log.message(0)).is_ok());
            receiver.join().unwrap();
            drop(rx);
        });
    }
}
