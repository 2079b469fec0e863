//! Models of meetings: the sender goes on after its message has been dealt with, in all orders.

use super::*;
use crate::primitive::atomic::{AtomicBool, Ordering};
use std::panic::{AssertUnwindSafe, catch_unwind, resume_unwind};
use std::pin::pin;

/// Whether the message has been dealt with, told by nothing but the channel: its orderings are at stake.
type Dealt = loom::sync::Arc<AtomicBool>;

fn dealt(dealt: &Dealt) -> bool {
    dealt.load(Ordering::Relaxed)
}

fn deal(dealt: &Dealt) -> impl FnOnce(&mut Message) {
    let dealt = dealt.clone();
    move |_| dealt.store(true, Ordering::Relaxed)
}

#[test]
fn a_sender_goes_on_after_its_message_has_been_dealt_with() {
    model(4, |log| {
        let (tx, rx) = channel(Some(0));
        let note = Dealt::default();
        let sender = {
            let (log, note) = (log.clone(), note.clone());
            thread::spawn(move || {
                assert!(tx.send(log.message(0)).is_ok());
                assert!(dealt(&note));
            })
        };
        let (message, ()) = rx.recv_with(deal(&note)).unwrap();
        assert_eq!(message.open(), 0);
        assert_eq!(rx.recv_with(|_| ()).err(), Some(RecvError));
        sender.join().unwrap();
        log.assert_opened(&[0]);
    });
}

#[test]
fn one_who_meets_and_one_who_receives_get_a_message_each() {
    two_receivers(0, [|rx| rx.recv_with(|_| ()).map(|met| met.0), Receiver::recv]);
}

#[test]
fn a_deadline_ends_the_wait_before_the_message_is_taken_or_not_at_all() {
    model(3, |log| {
        let (tx, rx) = channel(Some(0));
        let note = Dealt::default();
        let sender = {
            let (log, note) = (log.clone(), note.clone());
            thread::spawn(move || {
                let sent = tx.send_deadline(log.message(0), passed()).is_ok();
                assert_eq!(sent, dealt(&note));
                sent
            })
        };
        let met = rx.recv_with(deal(&note)).map(|(message, ())| message.open());
        let sent = sender.join().unwrap();
        assert_eq!(met, if sent { Ok(0) } else { Err(RecvError) });
        log.assert_opened(if sent { &[0] } else { &[] });
    });
}

/// A select makes its message when it is told that it is for a meeting, and stays; or it breaks its promise.
#[test]
fn a_select_that_sends_stays_or_breaks_its_promise() {
    for keeps in [false, true] {
        model(3, move |log| {
            let (tx, rx) = channel(Some(0));
            let note = Dealt::default();
            let sender = {
                let (log, note) = (log.clone(), note.clone());
                thread::spawn(move || {
                    if keeps {
                        let sent = crate::select! { send(tx, log.message(0)) -> sent => sent };
                        assert!(sent.is_ok() && dealt(&note));
                    } else {
                        let mut select = super::super::Select::new();
                        select.send(&tx);
                        select.select().break_off();
                    }
                })
            };
            let met = rx.recv_with(deal(&note)).map(|(message, ())| message.open());
            assert_eq!(met, if keeps { Ok(0) } else { Err(RecvError) });
            sender.join().unwrap();
            log.assert_opened(if keeps { &[0] } else { &[] });
        });
    }
}

/// An async sender that is dropped while its message is dealt with, or before.
#[test]
fn a_future_that_is_dropped_has_sent_its_message_or_has_it() {
    model(4, |log| {
        let (tx, rx) = channel(Some(0));
        let sender = {
            let log = log.clone();
            thread::spawn(move || {
                let mut cx = Context::from_waker(Waker::noop());
                // Both are dropped at the end, the future first.
                let future = pin!(tx.send_async(log.message(0)));
                assert!(future.poll(&mut cx).is_pending());
            })
        };
        let met = rx.recv_with(|_| ()).map(|(message, ())| message.open());
        sender.join().unwrap();
        log.assert_opened(if met.is_ok() { &[0] } else { &[] });
    });
}

/// The end of the channel, and those who mean to meet.
#[test]
fn the_end_of_the_channel_wakes_all_who_mean_to_meet() {
    model(3, |_| {
        let (tx, rx) = channel(Some(0));
        let receivers = [(); 2].map(|()| {
            let rx = rx.clone();
            thread::spawn(move || assert!(rx.recv_with(|_| ()).is_err()))
        });
        drop(tx);
        joined(receivers);
    });
}

#[test]
fn a_panic_lets_the_sender_go() {
    model(3, |log| {
        let (tx, rx) = channel(Some(0));
        let sender = {
            let log = log.clone();
            thread::spawn(move || assert!(tx.send(log.message(0)).is_ok()))
        };
        let broken = AssertUnwindSafe(|| rx.recv_with(|_| resume_unwind(Box::new("broken"))));
        let met: Result<Result<(Message, ()), _>, _> = catch_unwind(broken);
        assert!(met.is_err());
        sender.join().unwrap();
        log.assert_opened(&[]);
    });
}
