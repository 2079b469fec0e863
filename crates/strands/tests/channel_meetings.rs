//! `recv_with`: rendezvous whose sender stays until the receiver's closure is done with the message.
#![cfg(not(loom))]

mod parties;

use parties::{Bell, KINDS, Kind, MIXES, poll, start, start_blocked};
use std::panic::{AssertUnwindSafe, catch_unwind, resume_unwind};
use std::pin::pin;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, AtomicUsize, Ordering::SeqCst};
use std::task::{Context, Poll, Wake, Waker};
use std::time::Duration;
use strands::channel::{
    Receiver, RecvError, Select, SendError, Sender, TryRecvError, TrySendError, bounded, sliding,
    unbounded,
};
use strands::select;

/// The ways to send.
#[derive(Clone, Copy, Debug)]
enum Way {
    Send,
    Deadline,
    Select,
    Dynamic,
    Async,
}

const WAYS: [Way; 5] = [Way::Send, Way::Deadline, Way::Select, Way::Dynamic, Way::Async];

impl Way {
    fn send<T: Send>(self, tx: &Sender<T>, message: T) -> Result<(), SendError<T>> {
        let (_other_tx, other) = bounded::<()>(0);
        match self {
            Way::Send => tx.send(message),
            Way::Deadline => tx
                .send_timeout(message, parties::LONG)
                .map_err(|error| SendError(error.into_inner())),
            Way::Select => select! {
                recv(other) -> _ => unreachable!("nobody sends"),
                send(tx, message) -> sent => sent,
            },
            Way::Dynamic => {
                let mut select = Select::new();
                select.recv(&other);
                let index = select.send(tx);
                let operation = select.select();
                assert_eq!(operation.index(), index);
                operation.send(tx, message)
            }
            Way::Async => strands::task::block_on(tx.send_async(message)),
        }
    }
}

/// A message that could not be made: a panic, but without the noise.
fn broken<T>() -> T {
    resume_unwind(Box::new("broken"))
}

/// Takes as long as it takes others to go on who may.
fn take_a_while() {
    for _ in 0..50 {
        strands::yield_now();
    }
    std::thread::sleep(Duration::from_millis(1));
    strands::yield_now();
}

/// A sender that says whether its message had been dealt with when it went on.
fn one_who_sends(
    way: Way,
    tx: Sender<String>,
    dealt: &Arc<AtomicBool>,
) -> impl FnOnce() -> (Result<(), SendError<String>>, bool) + Send + 'static {
    let dealt = Arc::clone(dealt);
    move || {
        let sent = way.send(&tx, String::from("a"));
        (sent, dealt.load(SeqCst))
    }
}

fn one_who_meets(
    rx: Receiver<String>,
    dealt: &Arc<AtomicBool>,
) -> impl FnOnce() -> Result<(String, usize), RecvError> + Send + 'static {
    let dealt = Arc::clone(dealt);
    move || {
        rx.recv_with(|message| {
            take_a_while();
            message.push('b');
            dealt.store(true, SeqCst);
            message.len()
        })
    }
}

#[test]
fn a_sender_goes_on_when_its_message_has_been_dealt_with_whoever_came_first() {
    for (sends, receives) in MIXES {
        for way in WAYS {
            for sender_is_first in [false, true] {
                let (tx, rx) = bounded(0);
                let dealt = Arc::new(AtomicBool::new(false));
                let (send, meet) = (one_who_sends(way, tx, &dealt), one_who_meets(rx, &dealt));
                let (sender, receiver) = if sender_is_first {
                    // A future that is blocked on waits for its bell, not for the channel.
                    let starts = if matches!(way, Way::Async) { start } else { start_blocked };
                    let sender = starts(sends, send);
                    (sender, start(receives, meet))
                } else {
                    let receiver = start_blocked(receives, meet);
                    (start(sends, send), receiver)
                };
                let what = (sends, receives, way, sender_is_first);
                assert_eq!(receiver.join(), Ok((String::from("ab"), 2)), "{what:?}");
                assert_eq!(sender.join(), (Ok(()), true), "{what:?}");
            }
        }
    }
}

#[test]
fn a_panic_of_the_closure_drops_the_message_and_lets_the_sender_go() {
    for (sends, receives) in MIXES {
        for way in WAYS {
            let (tx, rx) = bounded(0);
            let sender = {
                let tx = tx.clone();
                start(sends, move || way.send(&tx, Arc::new(7)))
            };
            let receiver = {
                let rx = rx.clone();
                start(receives, move || {
                    let mut seen = None;
                    let met = catch_unwind(AssertUnwindSafe(|| {
                        rx.recv_with(|message| {
                            seen = Some(Arc::downgrade(message));
                            broken()
                        })
                        .map(|(_, ())| ())
                    }));
                    let message = seen.expect("the closure has run");
                    (met.expect_err("it panics").downcast_ref() == Some(&"broken"), message)
                })
            };
            let (panicked, message) = receiver.join();
            assert!(panicked && message.upgrade().is_none(), "{way:?}");
            assert_eq!(sender.join(), Ok(()));
            // The channel goes on.
            let sender = start(sends, move || tx.send(Arc::new(8)));
            assert_eq!(rx.recv(), Ok(Arc::new(8)));
            assert_eq!(sender.join(), Ok(()));
        }
    }
}

#[test]
fn a_deadline_that_passes_while_the_message_is_dealt_with_does_not_count() {
    for (sends, receives) in MIXES {
        let (tx, rx) = bounded(0);
        let tries = Duration::from_millis(20);
        let receiver = start(receives, move || {
            rx.recv_with(|_| strands::sleep(tries + tries)).map(|(message, ())| message)
        });
        // A slow machine may let it time out before the message is taken.
        let sender = start(sends, move || (0..1_000).find(|n| tx.send_timeout(*n, tries).is_ok()));
        let sent = sender.join();
        assert_eq!(receiver.join(), sent.ok_or(RecvError), "{sends:?} {receives:?}");
        assert!(sent.is_some());
    }
}

#[test]
fn an_async_sender_is_ready_after_the_closure_and_may_be_dropped_within() {
    for kind in KINDS {
        for drops in [false, true] {
            let (tx, rx) = bounded(0);
            let message = Arc::new(());
            let bell = Bell::new();
            let mut future = Box::pin(tx.send_async(Arc::clone(&message)));
            assert_eq!(poll(future.as_mut(), &bell), Poll::Pending);
            let (dealing, dealing_rx) = bounded(0);
            let (go_on, go_on_rx) = bounded::<()>(0);
            let receiver = {
                let rx = rx.clone();
                start(kind, move || {
                    rx.recv_with(|_| {
                        dealing.send(()).unwrap();
                        go_on_rx.recv().unwrap();
                    })
                })
            };
            dealing_rx.recv().unwrap();
            // It waits on, whoever asks, with whatever bell.
            let other = Bell::new();
            assert_eq!(poll(future.as_mut(), &other), Poll::Pending);
            assert_eq!(rx.try_recv(), Err(TryRecvError::Empty));
            if drops {
                drop(future);
                // The message is where it is, and was not dropped with the future.
                assert_eq!(Arc::strong_count(&message), 2);
                go_on.send(()).unwrap();
                drop(receiver.join().unwrap());
                assert_eq!((bell.rung(), other.rung()), (0, 0));
            } else {
                go_on.send(()).unwrap();
                drop(receiver.join().unwrap());
                assert_eq!((bell.rung(), other.rung()), (0, 1), "{kind:?}");
                assert_eq!(poll(future.as_mut(), &other), Poll::Ready(Ok(())));
            }
            assert_eq!(Arc::strong_count(&message), 1);
        }
    }
}

/// One whose wake-up panics, and does not harm whoever meets it, even if that panics, too.
#[test]
fn a_waker_that_panics_harms_neither_the_meeting_nor_its_message() {
    struct Touchy(AtomicUsize);
    impl Wake for Touchy {
        fn wake(self: Arc<Touchy>) {
            self.0.fetch_add(1, SeqCst);
            resume_unwind(Box::new("a waker's panic"));
        }
    }
    for breaks in [false, true] {
        let (tx, rx) = bounded(0);
        let message = Arc::new(());
        let touchy = Arc::new(Touchy(AtomicUsize::new(0)));
        let waker = Waker::from(Arc::clone(&touchy));
        let mut future = pin!(tx.send_async(Arc::clone(&message)));
        assert!(Future::poll(future.as_mut(), &mut Context::from_waker(&waker)).is_pending());
        let met = catch_unwind(AssertUnwindSafe(|| {
            rx.recv_with(|_| if breaks { broken() } else { Arc::strong_count(&message) })
        }));
        assert_eq!(touchy.0.load(SeqCst), 1);
        match met {
            Ok(met) => assert_eq!((met.unwrap().1, breaks), (2, false)),
            Err(payload) => {
                assert_eq!((payload.downcast_ref(), breaks), (Some(&"broken"), true));
            }
        }
        assert_eq!(Arc::strong_count(&message), 1);
        assert_eq!(poll(future.as_mut(), &Bell::new()), Poll::Ready(Ok(())));
    }
}

#[test]
fn a_message_that_is_never_made_leaves_the_receiver_waiting() {
    for (sends, receives) in MIXES {
        let (tx, rx) = bounded(0);
        let receiver = start_blocked(receives, move || rx.recv_with(|message| *message += 1));
        let sender = start(sends, move || {
            for _ in 0..3 {
                let outcome = catch_unwind(AssertUnwindSafe(|| {
                    select! { send(tx, broken()) -> _ => {} }
                }));
                assert!(outcome.is_err());
            }
            tx.send(4)
        });
        assert_eq!(sender.join(), Ok(()));
        assert_eq!(receiver.join(), Ok((5, ())), "{sends:?} {receives:?}");
    }
}

#[test]
fn closing_ends_the_wait_for_a_sender_but_no_meeting() {
    for (sends, receives) in MIXES {
        let (tx, rx) = bounded::<i32>(0);
        let [one, other] = [(); 2].map(|()| {
            let rx = rx.clone();
            start_blocked(receives, move || rx.recv_with(|_| ()))
        });
        tx.close();
        assert_eq!((one.join(), other.join()), (Err(RecvError), Err(RecvError)));

        let (tx, rx) = bounded(0);
        let sender = {
            let tx = tx.clone();
            start(sends, move || tx.send(1))
        };
        let met = rx.recv_with(|_| rx.close());
        assert_eq!(met, Ok((1, ())));
        assert_eq!(sender.join(), Ok(()));
        assert_eq!(tx.send(2), Err(SendError(2)));
    }
}

#[test]
fn those_who_do_not_wait_are_not_met() {
    for kind in KINDS {
        let (tx, rx) = bounded(0);
        let receiver = start_blocked(kind, move || rx.recv_with(|_| ()));
        assert_eq!(tx.try_send(1), Err(TrySendError::Full(1)));
        select! {
            send(tx, 2) -> _ => unreachable!("nobody stands in line"),
            default => {}
        }
        assert_eq!(tx.send(3), Ok(()));
        assert_eq!(receiver.join(), Ok((3, ())));
    }
}

#[test]
fn where_messages_have_left_their_senders_it_is_a_receive_and_then_the_closure() {
    for (tx, rx) in [bounded(2), unbounded(), sliding(2)] {
        tx.send(1).unwrap();
        tx.send(2).unwrap();
        assert_eq!(rx.recv_with(|message| *message + 10), Ok((1, 11)));
        tx.close();
        assert_eq!(rx.recv_with(|message| *message + 10), Ok((2, 12)));
        assert_eq!(rx.recv_with(|message| *message + 10), Err(RecvError));
    }
    // One that holds none gives it to one who waits, and waits for nobody.
    for kind in KINDS {
        let (tx, rx) = sliding(0);
        let receiver = start_blocked(kind, move || rx.recv_with(|message| *message + 10));
        assert_eq!(tx.send(1), Ok(()));
        assert_eq!(receiver.join(), Ok((1, 11)));
    }
    let moment = strands::channel::after(Duration::ZERO).recv_with(|moment| *moment).unwrap();
    assert_eq!(moment.0, moment.1);
    // A message that came back has no sender any more.
    let (tx, rx) = bounded(0);
    let bell = Bell::new();
    {
        let mut future = pin!(rx.recv_async());
        assert_eq!(poll(future.as_mut(), &bell), Poll::Pending);
        tx.send(3).unwrap();
    }
    assert_eq!(rx.recv_with(|message| *message + 10), Ok((3, 13)));
    assert_eq!(rx.try_recv(), Err(TryRecvError::Empty));
}

#[test]
fn the_closure_may_use_the_channel() {
    for (sends, receives) in MIXES {
        let (tx, rx) = bounded(0);
        let senders = [1, 2, 3].map(|n| {
            let tx = tx.clone();
            start_blocked(sends, move || tx.send(n))
        });
        let receiver = start(receives, move || {
            rx.recv_with(|first| {
                let (second, third) = rx.recv_with(|_| rx.try_recv().unwrap()).unwrap();
                [*first, second, third]
            })
            .map(|(_, order)| order)
        });
        assert_eq!(receiver.join(), Ok([1, 2, 3]));
        assert_eq!(senders.map(parties::Handle::join), [Ok(()); 3]);
    }
}

/// All ways to send, several of each, to goroutines and threads that receive in both ways: each message goes to one.
#[test]
fn in_a_crowd_each_message_is_dealt_with_once() {
    const EACH: usize = 200;
    let (tx, rx) = bounded(0);
    let dealt: Arc<Vec<AtomicUsize>> =
        Arc::new((0..2 * WAYS.len() * EACH).map(|_| AtomicUsize::new(0)).collect());
    let mut senders = Vec::new();
    for (k, kind) in KINDS.into_iter().enumerate() {
        for (w, way) in WAYS.into_iter().enumerate() {
            let tx = tx.clone();
            senders.push(start(kind, move || {
                for n in 0..EACH {
                    let id = (k * WAYS.len() + w) * EACH + n;
                    way.send(&tx, id).unwrap();
                }
            }));
        }
    }
    drop(tx);
    let receivers: Vec<_> = [Kind::Goroutine, Kind::Thread, Kind::Goroutine, Kind::Thread]
        .into_iter()
        .enumerate()
        .map(|(n, kind)| {
            let (rx, dealt) = (rx.clone(), Arc::clone(&dealt));
            start(kind, move || {
                loop {
                    let met = if n < 3 {
                        rx.recv_with(|id| dealt[*id].fetch_add(1, SeqCst)).map(|(id, _)| id)
                    } else {
                        rx.recv().inspect(|id| {
                            dealt[*id].fetch_add(1, SeqCst);
                        })
                    };
                    if met.is_err() {
                        return;
                    }
                }
            })
        })
        .collect();
    senders.into_iter().for_each(parties::Handle::join);
    receivers.into_iter().for_each(parties::Handle::join);
    assert!(dealt.iter().all(|count| count.load(SeqCst) == 1));
}
