//! Models of the channel: who gets which message, in all orders.
//!
//! Every message knows whether it was opened or dropped, and has a cell in it, so that loom finds out if it
//! is opened by somebody for whom it has not been written yet. That somebody waits for a wake-up which never
//! comes is a deadlock, which loom reports.
//!
//! The small models are explored whole; of the larger ones, all orders in which up to three or four switches
//! come at a time when the thread could have gone on.

mod meetings;
mod selects;

use super::{Receiver, RecvError, Sender, TryRecvError, TrySendError};
use crate::primitive::UnsafeCell;
use loom::thread::{self, JoinHandle};
// Not loom's: the tests' own notes must not put the threads in order.
use std::future::Future;
use std::sync::Mutex;
use std::task::{Context, Poll, Waker};
use std::time::{Duration, Instant};

const MESSAGES: usize = 3;

/// What has become of each message.
#[derive(Clone)]
struct Log(std::sync::Arc<Mutex<[Fate; MESSAGES]>>);

#[derive(Clone, Copy, Default, PartialEq, Eq, Debug)]
struct Fate {
    made: usize,
    opened: usize,
    dropped: usize,
}

impl Log {
    fn new() -> Log {
        Log(std::sync::Arc::new(Mutex::new([Fate::default(); MESSAGES])))
    }

    fn message(&self, id: usize) -> Message {
        self.0.lock().unwrap()[id].made += 1;
        let message = Message { id, body: UnsafeCell::new(0), log: self.clone() };
        // SAFETY: nobody else has it.
        message.body.with_mut(|body| unsafe { *body = id });
        message
    }

    /// Every message was dropped once, and these were opened before.
    fn assert_opened(&self, ids: &[usize]) {
        for (id, fate) in self.0.lock().unwrap().iter().enumerate() {
            let opened = usize::from(ids.contains(&id));
            assert_eq!(*fate, Fate { made: fate.made, opened, dropped: fate.made }, "of {id}");
        }
    }
}

struct Message {
    id: usize,
    body: UnsafeCell<usize>,
    log: Log,
}

// SAFETY: the cell is for the one who has the message.
unsafe impl Send for Message {}

impl Message {
    /// Its number; for a receiver.
    fn open(self) -> usize {
        self.log.0.lock().unwrap()[self.id].opened += 1;
        self.number()
    }

    /// Its number; for one who has got it back.
    fn number(&self) -> usize {
        // SAFETY: it is ours.
        self.body.with_mut(|body| unsafe { *body })
    }
}

impl Drop for Message {
    fn drop(&mut self) {
        assert_eq!(self.number(), self.id);
        self.log.0.lock().unwrap()[self.id].dropped += 1;
    }
}

fn model(preemptions: impl Into<Option<usize>>, f: impl Fn(&Log) + Send + Sync + 'static) {
    let mut model = loom::model::Builder::new();
    model.preemption_bound = preemptions.into();
    model.check(move || f(&Log::new()));
}

fn channel(cap: Option<usize>) -> (Sender<Message>, Receiver<Message>) {
    match cap {
        Some(cap) => super::bounded(cap),
        None => super::unbounded(),
    }
}

fn joined<T, const N: usize>(threads: [JoinHandle<T>; N]) -> [T; N] {
    threads.map(|thread| thread.join().unwrap())
}

#[test]
fn rendezvous_passes_messages_in_order() {
    model(4, |log| {
        let (tx, rx) = channel(Some(0));
        let sender = {
            let log = log.clone();
            thread::spawn(move || {
                for id in 0..2 {
                    assert!(tx.send(log.message(id)).is_ok());
                }
            })
        };
        assert_eq!([(); 2].map(|()| rx.recv().unwrap().open()), [0, 1]);
        assert_eq!(rx.recv().err(), Some(RecvError));
        sender.join().unwrap();
        log.assert_opened(&[0, 1]);
    });
}

/// Two senders with a message each, and a receiver of both, on a channel of capacity `cap`.
fn two_senders(cap: usize) {
    model(3, move |log| {
        let (tx, rx) = channel(Some(cap));
        let senders = [0, 1].map(|id| {
            let (tx, log) = (tx.clone(), log.clone());
            thread::spawn(move || assert!(tx.send(log.message(id)).is_ok()))
        });
        let mut received = [(); 2].map(|()| rx.recv().unwrap().open());
        received.sort_unstable();
        assert_eq!(received, [0, 1]);
        joined(senders);
        assert_eq!(rx.try_recv().err(), Some(TryRecvError::Empty));
        log.assert_opened(&[0, 1]);
    });
}

#[test]
fn two_senders_meet_one_receiver() {
    two_senders(0);
}

#[test]
fn two_senders_share_one_place_in_the_buffer() {
    two_senders(1);
}

/// A sender of two messages, and two receivers of one each, who receive each in their way.
fn two_receivers(cap: usize, ways: [fn(&Receiver<Message>) -> Result<Message, RecvError>; 2]) {
    model(3, move |log| {
        let (tx, rx) = channel(Some(cap));
        let receivers = ways.map(|receive| {
            let rx = rx.clone();
            thread::spawn(move || receive(&rx).unwrap().open())
        });
        for id in 0..2 {
            assert!(tx.send(log.message(id)).is_ok());
        }
        let mut received = joined(receivers);
        received.sort_unstable();
        assert_eq!(received, [0, 1]);
        log.assert_opened(&[0, 1]);
    });
}

#[test]
fn one_sender_meets_two_receivers() {
    two_receivers(0, [Receiver::recv; 2]);
}

#[test]
fn two_receivers_share_one_place_in_the_buffer() {
    two_receivers(1, [Receiver::recv; 2]);
}

#[test]
fn a_full_buffer_holds_its_sender_back_and_keeps_the_order() {
    model(4, |log| {
        let (tx, rx) = channel(Some(1));
        let sender = {
            let log = log.clone();
            thread::spawn(move || {
                for id in 0..3 {
                    assert!(tx.send(log.message(id)).is_ok());
                    assert!(tx.len() <= 1);
                }
            })
        };
        assert_eq!([(); 3].map(|()| rx.recv().unwrap().open()), [0, 1, 2]);
        sender.join().unwrap();
        log.assert_opened(&[0, 1, 2]);
    });
}

#[test]
fn the_end_of_the_last_sender_ends_a_receive() {
    for cap in [Some(0), Some(1), None] {
        model(3, move |log| {
            let (tx, rx) = channel(cap);
            let senders = [tx.clone(), tx].map(|tx| thread::spawn(move || drop(tx)));
            assert_eq!(rx.recv().err(), Some(RecvError));
            joined(senders);
            assert_eq!(rx.try_recv().err(), Some(TryRecvError::Disconnected));
            log.assert_opened(&[]);
        });
    }
}

#[test]
fn the_end_of_the_last_sender_ends_all_receives() {
    model(3, |log| {
        let (tx, rx) = channel(Some(0));
        let receivers = [(); 2].map(|()| {
            let rx = rx.clone();
            thread::spawn(move || assert!(rx.recv().is_err()))
        });
        drop(tx);
        joined(receivers);
        log.assert_opened(&[]);
    });
}

#[test]
fn what_was_sent_before_the_end_is_received() {
    model(4, |log| {
        let (tx, rx) = channel(Some(1));
        let sender = {
            let log = log.clone();
            thread::spawn(move || assert!(tx.send(log.message(0)).is_ok()))
        };
        assert_eq!(rx.recv().map(Message::open), Ok(0));
        assert_eq!(rx.recv().err(), Some(RecvError));
        sender.join().unwrap();
        log.assert_opened(&[0]);
    });
}

#[test]
fn the_end_of_the_last_receiver_gives_a_blocked_sender_its_message_back() {
    model(None, |log| {
        let (tx, rx) = channel(Some(0));
        let receiver = thread::spawn(move || drop(rx));
        let returned = tx.send(log.message(0)).unwrap_err().into_inner();
        assert_eq!(returned.number(), 0);
        drop(returned);
        receiver.join().unwrap();
        log.assert_opened(&[]);
    });
}

#[test]
fn the_end_of_the_last_receiver_gives_all_blocked_senders_their_messages_back() {
    model(3, |log| {
        let (tx, rx) = channel(Some(0));
        let senders = [0, 1].map(|id| {
            let (tx, log) = (tx.clone(), log.clone());
            thread::spawn(move || assert_eq!(tx.send(log.message(id)).unwrap_err().0.number(), id))
        });
        drop(rx);
        joined(senders);
        log.assert_opened(&[]);
    });
}

#[test]
fn the_end_of_the_last_receiver_drops_what_is_in_the_buffer() {
    model(None, |log| {
        let (tx, rx) = channel(Some(1));
        let receiver = thread::spawn(move || drop(rx));
        // The first may find room, or that nobody is left; the second certainly comes back.
        let first = tx.send(log.message(0));
        assert_eq!(tx.send(log.message(1)).unwrap_err().0.number(), 1);
        drop(first);
        receiver.join().unwrap();
        // Dropped with the receiver, though the channel lives.
        log.assert_opened(&[]);
        assert!(tx.is_empty());
    });
}

#[test]
fn a_receiver_that_takes_one_and_leaves_accounts_for_all() {
    for cap in [0, 1] {
        model(4, move |log| {
            let (tx, rx) = channel(Some(cap));
            let receiver = thread::spawn(move || rx.recv().unwrap().open());
            assert!(tx.send(log.message(0)).is_ok());
            let second = tx.send(log.message(1));
            assert!(cap == 1 || second.is_err());
            drop(second);
            assert_eq!(receiver.join().unwrap(), 0);
            log.assert_opened(&[0]);
        });
    }
}

#[test]
fn both_ends_may_end_at_once() {
    for cap in [Some(1), None] {
        model(None, move |log| {
            let (tx, rx) = channel(cap);
            assert!(tx.send(log.message(0)).is_ok());
            let receiver = thread::spawn(move || drop(rx));
            drop(tx);
            receiver.join().unwrap();
            log.assert_opened(&[]);
        });
    }
}

#[test]
fn try_send_meets_a_blocked_receiver_or_takes_its_message_back() {
    for cap in [0, 1] {
        model(None, move |log| {
            let (tx, rx) = channel(Some(cap));
            let sender = {
                let log = log.clone();
                thread::spawn(move || match tx.try_send(log.message(0)) {
                    Ok(()) => true,
                    Err(TrySendError::Full(message)) => {
                        assert_eq!((message.number(), cap), (0, 0));
                        false
                    }
                    Err(TrySendError::Disconnected(_)) => unreachable!("the receiver is there"),
                })
            };
            let received = rx.recv().map(Message::open);
            let sent = sender.join().unwrap();
            assert_eq!(received, if sent { Ok(0) } else { Err(RecvError) });
            log.assert_opened(if sent { &[0] } else { &[] });
        });
    }
}

#[test]
fn try_recv_meets_a_blocked_sender_or_leaves_it_its_message() {
    for cap in [0, 1] {
        model(None, move |log| {
            let (tx, rx) = channel(Some(cap));
            let sender = {
                let log = log.clone();
                thread::spawn(move || tx.send(log.message(0)).is_ok())
            };
            let received = match rx.try_recv() {
                Ok(message) => {
                    assert_eq!(message.open(), 0);
                    true
                }
                Err(error) => {
                    assert_eq!(error, TryRecvError::Empty);
                    false
                }
            };
            drop(rx);
            let sent = sender.join().unwrap();
            assert!(sent || !received);
            assert!(cap == 1 || received == sent);
            log.assert_opened(if received { &[0] } else { &[] });
        });
    }
}

#[test]
fn two_try_recvs_get_one_message_once() {
    model(3, |log| {
        let (tx, rx) = channel(Some(1));
        let receivers = [(); 2].map(|()| {
            let rx = rx.clone();
            thread::spawn(move || usize::from(rx.try_recv().map(Message::open).is_ok()))
        });
        assert!(tx.try_send(log.message(0)).is_ok());
        let late = usize::from(rx.try_recv().map(Message::open).is_ok());
        assert_eq!(joined(receivers).into_iter().sum::<usize>() + late, 1);
        log.assert_opened(&[0]);
    });
}

#[test]
fn a_receiver_that_gives_up_has_left_the_line_and_taken_nothing() {
    for cap in [0, 1] {
        model(None, move |log| {
            let (tx, rx) = channel(Some(cap));
            let receiver = {
                let rx = rx.clone();
                thread::spawn(move || rx.recv_deadline(passed()).map(Message::open))
            };
            let sent = tx.try_send(log.message(0)).is_ok();
            let received = receiver.join().unwrap();
            assert!(received.is_err() || received == Ok(0) && sent);
            // What was sent and not received is there for the next.
            let left = rx.try_recv().map(Message::open);
            assert_eq!(left.is_ok(), sent && received.is_err());
            log.assert_opened(if sent { &[0] } else { &[] });
        });
    }
}

#[test]
fn a_sender_that_gives_up_has_its_message() {
    for cap in [0, 1] {
        model(None, move |log| {
            let (tx, rx) = channel(Some(cap));
            if cap == 1 {
                assert!(tx.send(log.message(1)).is_ok());
            }
            let sender = {
                let log = log.clone();
                thread::spawn(move || tx.send_deadline(log.message(0), passed()).is_ok())
            };
            let received = rx.try_recv().map(Message::open);
            let sent = sender.join().unwrap();
            if cap == 1 {
                assert_eq!(received, Ok(1));
                assert_eq!(rx.try_recv().map(Message::open).is_ok(), sent);
                log.assert_opened(if sent { &[0, 1] } else { &[1] });
            } else {
                assert_eq!(received.is_ok(), sent);
                log.assert_opened(if sent { &[0] } else { &[] });
            }
        });
    }
}

fn passed() -> Instant {
    Instant::now() - Duration::from_secs(1)
}

#[test]
fn close_gives_a_blocked_sender_its_message_back_and_ends_a_blocked_receive() {
    for cap in [0, 1] {
        model(3, move |log| {
            let (tx, rx) = channel(Some(cap));
            let sender = {
                let log = log.clone();
                thread::spawn(move || {
                    let sent = tx.send(log.message(0));
                    (sent.is_ok(), tx.is_closed())
                })
            };
            let closer = {
                let rx = rx.clone();
                thread::spawn(move || rx.close())
            };
            let received = rx.recv().map(Message::open);
            let (sent, was_closed) = sender.join().unwrap();
            closer.join().unwrap();
            assert!(sent || was_closed);
            assert!(!sent || received == Ok(0));
            assert_eq!(received.is_ok(), sent);
            log.assert_opened(if sent { &[0] } else { &[] });
        });
    }
}
