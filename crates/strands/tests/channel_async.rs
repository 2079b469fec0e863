//! Channels in async code: on an executor of three lines, and polled by hand. A future that is dropped has
//! consumed nothing and lost nothing, whenever that is.
#![cfg(not(loom))]

mod parties;

use parties::{
    Bell, CAPACITIES, Counted, KINDS, block_on, channel, poll, start, start_blocked, wait_until,
};
use std::panic::{AssertUnwindSafe, catch_unwind, resume_unwind};
use std::pin::pin;
use std::sync::atomic::{AtomicBool, AtomicUsize, Ordering::SeqCst};
use std::sync::{Arc, Mutex, TryLockError};
use std::task::{Context, Poll, RawWaker, RawWakerVTable, Waker};
use strands::channel::{
    Receiver, RecvError, Select, SendError, Sender, TryRecvError, TrySendError, bounded,
};
use strands::select;

// ---- On an executor ----

#[test]
fn a_pipeline_of_all_three_worlds_keeps_the_order() {
    const COUNT: usize = 500;
    for cap in CAPACITIES {
        let (tx, second) = channel(cap);
        let (to_third, third) = channel(cap);
        let (to_us, rx) = channel(cap);
        let goroutine = strands::go(move || (0..COUNT).for_each(|n| tx.send(n).unwrap()));
        let tasks = std::thread::spawn(move || {
            block_on(async {
                while let Ok(n) = second.recv_async().await {
                    to_third.send_async(n).await.unwrap();
                }
            });
        });
        let thread = std::thread::spawn(move || third.iter().for_each(|n| to_us.send(n).unwrap()));
        let received = block_on(async {
            let mut all = Vec::new();
            while let Ok(n) = rx.recv_async().await {
                all.push(n);
            }
            all
        });
        assert!(received.into_iter().eq(0..COUNT), "{cap:?}");
        goroutine.join().unwrap();
        tasks.join().unwrap();
        thread.join().unwrap();
    }
}

#[test]
fn a_future_may_be_awaited_inside_a_goroutine_and_go_to_another_thread_half_way() {
    let (tx, rx) = bounded::<String>(0);
    let sender = strands::go(move || block_on(async move { tx.send_async("hello".into()).await }));
    assert_eq!(rx.recv().as_deref(), Ok("hello"));
    assert_eq!(sender.join().unwrap(), Ok(()));
    let (tx, rx) = bounded(0);
    std::thread::scope(|scope| {
        let mut future = Box::pin(rx.recv_async());
        assert!(poll(future.as_mut(), &Bell::new()).is_pending());
        let waiting = scope.spawn(move || block_on(future));
        tx.send(1).unwrap();
        assert_eq!(waiting.join().unwrap(), Ok(1));
    });
}

#[test]
fn futures_of_sendable_messages_are_sendable() {
    fn check<T: Send + Sync>(_: &T) {}
    let (tx, rx) = bounded::<std::cell::Cell<u8>>(1);
    check(&rx.recv_async());
    check(&tx.send_async(std::cell::Cell::new(1)));
}

// ---- Polled by hand ----

#[test]
fn a_pending_receive_is_woken_once_when_its_message_is_there() {
    for cap in CAPACITIES {
        let (tx, rx) = channel(cap);
        let bell = Bell::new();
        let mut future = pin!(rx.recv_async());
        for _ in 0..3 {
            assert!(poll(future.as_mut(), &bell).is_pending());
        }
        assert_eq!(bell.rung(), 0);
        tx.try_send(1).unwrap();
        assert_eq!(bell.rung(), 1);
        // It is the future's, and nobody else's.
        assert_eq!((rx.len(), rx.try_recv()), (0, Err(TryRecvError::Empty)));
        assert_eq!(poll(future.as_mut(), &bell), Poll::Ready(Ok(1)));
        assert_eq!(bell.rung(), 1);
    }
}

#[test]
fn a_pending_send_is_woken_once_when_its_message_is_taken() {
    for cap in [0, 1, 3] {
        let (tx, rx) = bounded(cap);
        (0..cap).for_each(|n| tx.try_send(n).unwrap());
        let bell = Bell::new();
        let mut future = pin!(tx.send_async(cap));
        for _ in 0..3 {
            assert!(poll(future.as_mut(), &bell).is_pending());
        }
        assert_eq!((bell.rung(), rx.len()), (0, cap));
        assert_eq!(rx.try_recv(), Ok(0));
        assert_eq!((bell.rung(), rx.len()), (1, cap));
        assert_eq!(poll(future.as_mut(), &bell), Poll::Ready(Ok(())));
        assert!(rx.try_iter().eq(1..=cap));
    }
}

#[test]
fn what_can_be_done_at_once_is_ready_at_the_first_poll() {
    let (tx, rx) = bounded(1);
    assert_eq!(poll(pin!(tx.send_async(1)), &Bell::new()), Poll::Ready(Ok(())));
    assert_eq!(poll(pin!(rx.recv_async()), &Bell::new()), Poll::Ready(Ok(1)));
    rx.close();
    assert_eq!(poll(pin!(tx.send_async(2)), &Bell::new()), Poll::Ready(Err(SendError(2))));
    assert_eq!(poll(pin!(rx.recv_async()), &Bell::new()), Poll::Ready(Err(RecvError)));
}

#[test]
fn only_the_waker_of_the_last_poll_is_woken() {
    let (tx, rx) = bounded(0);
    let bells: [Arc<Bell>; 3] = std::array::from_fn(|_| Bell::new());
    let mut receive = pin!(rx.recv_async());
    for bell in &bells {
        assert!(poll(receive.as_mut(), bell).is_pending());
    }
    // Those that were replaced are gone, too.
    assert_eq!(bells.each_ref().map(Arc::strong_count), [1, 1, 2]);
    tx.try_send(1).unwrap();
    assert_eq!(bells.each_ref().map(|bell| bell.rung()), [0, 0, 1]);
    assert_eq!(poll(receive.as_mut(), &bells[0]), Poll::Ready(Ok(1)));

    let mut send = pin!(tx.send_async(2));
    for bell in &bells {
        assert!(poll(send.as_mut(), bell).is_pending());
    }
    assert_eq!(rx.try_recv(), Ok(2));
    assert_eq!(bells.each_ref().map(|bell| bell.rung()), [0, 0, 2]);
    assert_eq!(poll(send.as_mut(), &bells[0]), Poll::Ready(Ok(())));
    assert_eq!(bells.each_ref().map(Arc::strong_count), [1, 1, 1]);
}

#[test]
fn a_receive_that_is_over_may_be_polled_again_and_receives_again() {
    let (tx, rx) = bounded(2);
    let mut future = pin!(rx.recv_async());
    tx.try_send(1).unwrap();
    tx.try_send(2).unwrap();
    for n in [1, 2] {
        assert_eq!(poll(future.as_mut(), &Bell::new()), Poll::Ready(Ok(n)));
    }
    assert!(poll(future.as_mut(), &Bell::new()).is_pending());
    tx.try_send(3).unwrap();
    assert_eq!(poll(future.as_mut(), &Bell::new()), Poll::Ready(Ok(3)));
}

#[test]
fn a_send_that_is_over_must_not_be_polled_again() {
    for by_itself in [false, true] {
        let (tx, rx) = bounded(1);
        tx.try_send(0).unwrap();
        let mut future = pin!(tx.send_async(1));
        if by_itself {
            assert!(poll(future.as_mut(), &Bell::new()).is_pending());
        }
        assert_eq!(rx.try_recv(), Ok(0));
        assert_eq!(poll(future.as_mut(), &Bell::new()), Poll::Ready(Ok(())));
        let again = catch_unwind(AssertUnwindSafe(|| poll(future.as_mut(), &Bell::new())));
        assert!(again.is_err());
        assert_eq!(rx.try_iter().collect::<Vec<_>>(), [1]);
    }
}

#[test]
fn all_three_worlds_stand_in_one_line() {
    for cap in [0, 1] {
        let (tx, rx) = bounded(cap);
        let [one, two] = KINDS.map(|kind| {
            let rx = rx.clone();
            start_blocked(kind, move || rx.recv())
        });
        let mut three = pin!(rx.recv_async());
        assert!(poll(three.as_mut(), &Bell::new()).is_pending());
        let four = {
            let rx = rx.clone();
            start_blocked(KINDS[0], move || select! { recv(rx) -> message => message })
        };
        let mut five = pin!(rx.recv_async());
        assert!(poll(five.as_mut(), &Bell::new()).is_pending());
        (1..=5).for_each(|n| tx.try_send(n).unwrap());
        assert_eq!([one.join(), two.join(), four.join()], [Ok(1), Ok(2), Ok(4)]);
        assert_eq!(poll(five.as_mut(), &Bell::new()), Poll::Ready(Ok(5)));
        assert_eq!(poll(three.as_mut(), &Bell::new()), Poll::Ready(Ok(3)));
    }
}

#[test]
fn an_async_send_meets_a_select_that_receives_and_the_other_way_round() {
    for kind in KINDS {
        let (tx, rx) = bounded(0);
        let bell = Bell::new();
        let mut send = pin!(tx.send_async(1));
        assert!(poll(send.as_mut(), &bell).is_pending());
        let receiver = {
            let rx = rx.clone();
            start(kind, move || select! { recv(rx) -> message => message })
        };
        assert_eq!(receiver.join(), Ok(1));
        assert_eq!((bell.rung(), poll(send, &bell)), (1, Poll::Ready(Ok(()))));
        let receiver = start_blocked(kind, move || select! { recv(rx) -> message => message });
        assert_eq!(poll(pin!(tx.send_async(2)), &bell), Poll::Ready(Ok(())));
        assert_eq!(receiver.join(), Ok(2));
    }
}

// ---- Dropped ----

#[test]
fn a_future_dropped_before_it_was_polled_has_done_nothing() {
    let drops = Arc::new(AtomicUsize::new(0));
    for cap in CAPACITIES {
        let (tx, rx) = channel(cap);
        drop(tx.send_async(Counted(Arc::clone(&drops))));
        drop(rx.recv_async());
        assert_eq!(drops.swap(0, SeqCst), 1);
        assert!(rx.try_recv().is_err());
    }
}

#[test]
fn a_pending_receive_that_is_dropped_leaves_the_line() {
    for cap in CAPACITIES {
        let (tx, rx) = channel(cap);
        let (one, two) = (Bell::new(), Bell::new());
        let mut first = Box::pin(rx.recv_async());
        let mut second = pin!(rx.recv_async());
        assert!(poll(first.as_mut(), &one).is_pending());
        assert!(poll(second.as_mut(), &two).is_pending());
        drop(first);
        assert_eq!(Arc::strong_count(&one), 1, "its waker goes with it");
        tx.try_send(1).unwrap();
        assert_eq!((one.rung(), two.rung()), (0, 1));
        assert_eq!(poll(second.as_mut(), &two), Poll::Ready(Ok(1)));
    }
}

#[test]
fn a_pending_send_that_is_dropped_leaves_the_line_and_drops_its_message() {
    for cap in [0, 1] {
        let drops = Arc::new(AtomicUsize::new(0));
        let (tx, rx) = bounded(cap);
        (0..cap).for_each(|_| assert!(tx.try_send(None).is_ok()));
        let bell = Bell::new();
        let mut first = Box::pin(tx.send_async(Some(Counted(Arc::clone(&drops)))));
        let mut second = Box::pin(tx.send_async(None));
        assert!(poll(first.as_mut(), &bell).is_pending());
        assert!(poll(second.as_mut(), &bell).is_pending());
        drop(first);
        assert_eq!(drops.load(SeqCst), 1);
        (0..=cap).for_each(|_| assert!(rx.try_recv().unwrap().is_none()));
        assert!(poll(second.as_mut(), &bell).is_ready());
        assert!(rx.try_recv().is_err());
        assert_eq!(drops.load(SeqCst), 1);
    }
}

#[test]
fn a_send_dropped_after_its_message_was_taken_has_sent_it() {
    let drops = Arc::new(AtomicUsize::new(0));
    let (tx, rx) = bounded(0);
    let mut send = Box::pin(tx.send_async(Counted(Arc::clone(&drops))));
    assert!(poll(send.as_mut(), &Bell::new()).is_pending());
    let message = rx.try_recv().unwrap();
    drop(send);
    assert_eq!(drops.load(SeqCst), 0);
    drop(message);
    assert_eq!(drops.load(SeqCst), 1);
}

#[test]
fn a_message_handed_to_a_receive_that_is_dropped_goes_to_the_one_who_waits() {
    for kind in KINDS {
        for cap in CAPACITIES {
            let (tx, rx) = channel(cap);
            let mut future = Box::pin(rx.recv_async());
            assert!(poll(future.as_mut(), &Bell::new()).is_pending());
            let next = {
                let rx = rx.clone();
                start_blocked(kind, move || rx.recv())
            };
            tx.try_send(1).unwrap();
            drop(future);
            assert_eq!(next.join(), Ok(1), "{kind:?} {cap:?}");
            assert!(rx.try_recv().is_err());
        }
    }
}

#[test]
fn a_message_handed_to_a_receive_that_is_dropped_comes_first_when_nobody_waits() {
    for cap in CAPACITIES {
        let (tx, rx) = channel(cap);
        let mut future = Box::pin(rx.recv_async());
        assert!(poll(future.as_mut(), &Bell::new()).is_pending());
        tx.try_send(0).unwrap();
        let room = cap.unwrap_or(3);
        (1..=room).for_each(|n| tx.try_send(n).unwrap());
        drop(future);
        // The channel holds one more than it has room for, and does not say so.
        assert_eq!(rx.len(), cap.unwrap_or(4));
        if cap.is_some() {
            assert_eq!(tx.try_send(9), Err(TrySendError::Full(9)));
        }
        let mut waiting = pin!(tx.send_async(room + 1));
        let is_sent = poll(waiting.as_mut(), &Bell::new()).is_ready();
        assert_eq!(is_sent, cap.is_none());
        assert!(rx.iter().take(room + 2).eq(0..=room + 1), "{cap:?}");
    }
}

#[test]
fn a_message_handed_to_a_receive_that_is_dropped_wakes_a_select_and_those_who_watch() {
    for kind in KINDS {
        for watches in [false, true] {
            let (tx, rx) = bounded(0);
            let mut future = Box::pin(rx.recv_async());
            assert!(poll(future.as_mut(), &Bell::new()).is_pending());
            tx.try_send(1).unwrap();
            let next = {
                let rx = rx.clone();
                start_blocked(kind, move || {
                    let mut select = Select::new();
                    select.recv(&rx);
                    if watches {
                        select.ready();
                        rx.try_recv()
                    } else {
                        select.select().recv(&rx).map_err(Into::into)
                    }
                })
            };
            drop(future);
            assert_eq!(next.join(), Ok(1));
        }
    }
}

#[test]
fn a_stray_message_is_dropped_with_the_channel() {
    let drops = Arc::new(AtomicUsize::new(0));
    for cap in CAPACITIES {
        let (tx, rx) = channel(cap);
        let mut future = Box::pin(rx.recv_async());
        assert!(poll(future.as_mut(), &Bell::new()).is_pending());
        assert!(tx.try_send(Counted(Arc::clone(&drops))).is_ok());
        drop(future);
        assert_eq!(drops.load(SeqCst), 0);
        drop(rx);
        assert_eq!(drops.swap(0, SeqCst), 1);
        drop(tx);
    }
}

// ---- Closed ----

#[test]
fn close_wakes_pending_futures() {
    for cap in [0, 1] {
        let drops = Arc::new(AtomicUsize::new(0));
        let (tx, rx) = bounded::<Counted>(cap);
        let (one, two) = (Bell::new(), Bell::new());
        let mut receive = pin!(rx.recv_async());
        assert!(poll(receive.as_mut(), &one).is_pending());
        rx.close();
        assert_eq!(one.rung(), 1);
        assert!(matches!(poll(receive.as_mut(), &one), Poll::Ready(Err(RecvError))));
        assert!(matches!(poll(receive.as_mut(), &one), Poll::Ready(Err(RecvError))));
        drop(tx);

        let (tx, rx) = bounded(cap);
        (0..cap).for_each(|_| assert!(tx.try_send(Counted(Arc::clone(&drops))).is_ok()));
        let mut send = pin!(tx.send_async(Counted(Arc::clone(&drops))));
        let mut dropped = Box::pin(tx.send_async(Counted(Arc::clone(&drops))));
        assert!(poll(send.as_mut(), &two).is_pending());
        assert!(poll(dropped.as_mut(), &two).is_pending());
        drop(rx);
        assert_eq!((two.rung(), drops.load(SeqCst)), (2, cap));
        // The message that comes back is dropped with a future that nobody polls any more.
        drop(dropped);
        assert_eq!(drops.load(SeqCst), cap + 1);
        let Poll::Ready(Err(SendError(message))) = poll(send.as_mut(), &two) else {
            panic!("it was closed");
        };
        assert_eq!(drops.load(SeqCst), cap + 1);
        drop(message);
        assert_eq!(drops.load(SeqCst), cap + 2);
    }
}

#[test]
fn a_message_handed_over_before_the_channel_was_closed_is_received_after() {
    let (tx, rx) = bounded(0);
    for is_dropped in [false, true] {
        let mut future = Box::pin(rx.recv_async());
        let Poll::Pending = poll(future.as_mut(), &Bell::new()) else { continue };
        tx.try_send(1).unwrap();
        if is_dropped {
            tx.close();
            drop(future);
            assert_eq!(rx.recv(), Ok(1));
            assert_eq!(rx.recv(), Err(RecvError));
        } else {
            assert_eq!(poll(future.as_mut(), &Bell::new()), Poll::Ready(Ok(1)));
        }
    }
}

// ---- Wakers of all sorts ----

/// Calls its closure whenever something is done with it.
struct Hook(Mutex<Box<dyn FnMut(&'static str) + Send>>);

impl Hook {
    fn waker(f: impl FnMut(&'static str) + Send + 'static) -> Waker {
        static VTABLE: RawWakerVTable = RawWakerVTable::new(
            |data| {
                // SAFETY: made by `Arc::into_raw` and alive.
                let hook = unsafe { Arc::from_raw(data.cast::<Hook>()) };
                let clone = std::mem::ManuallyDrop::new(hook);
                clone.call("clone");
                RawWaker::new(Arc::into_raw(Arc::clone(&clone)).cast(), &VTABLE)
            },
            |data| {
                // SAFETY: as above; it is ours.
                unsafe { Arc::from_raw(data.cast::<Hook>()) }.call("wake");
            },
            |_| unreachable!("it is woken by value"),
            |data| {
                // SAFETY: as above; it is ours.
                unsafe { Arc::from_raw(data.cast::<Hook>()) }.call("drop");
            },
        );
        let data = Arc::into_raw(Arc::new(Hook(Mutex::new(Box::new(f))))).cast();
        // SAFETY: the table does what it has to, and `Hook` may go anywhere.
        unsafe { Waker::from_raw(RawWaker::new(data, &VTABLE)) }
    }

    fn call(&self, what: &'static str) {
        match self.0.try_lock() {
            Ok(mut f) => f(what),
            // What has panicked once may go on.
            Err(TryLockError::Poisoned(f)) => f.into_inner()(what),
            // It is being called.
            Err(TryLockError::WouldBlock) => {}
        }
    }
}

/// Looks at the channel in ways that lock it, and changes nothing.
fn look_at(tx: &Sender<i32>, rx: &Receiver<i32>) {
    let _ = (tx.is_full(), rx.len(), tx.is_closed());
    let mut select = Select::new();
    select.recv(rx);
    select.send(tx);
    let _ = select.try_ready();
}

#[test]
fn a_waker_may_use_the_channel_whatever_is_done_with_it() {
    for cap in [0, 2] {
        let (tx, rx) = bounded(cap);
        let calls = Arc::new(Mutex::new(Vec::new()));
        let hook = || {
            let (tx, rx, calls) = (tx.clone(), rx.clone(), Arc::clone(&calls));
            Hook::waker(move |what| {
                look_at(&tx, &rx);
                calls.lock().unwrap().push(what);
            })
        };
        let (one, other) = (hook(), hook());
        let mut future = Box::pin(rx.recv_async());
        for waker in [&one, &other, &one] {
            let polled = Future::poll(future.as_mut(), &mut Context::from_waker(waker));
            assert!(polled.is_pending());
        }
        tx.try_send(1).unwrap();
        let polled = Future::poll(future.as_mut(), &mut Context::from_waker(&other));
        assert_eq!(polled, Poll::Ready(Ok(1)));
        assert!(Future::poll(future.as_mut(), &mut Context::from_waker(&one)).is_pending());
        drop(future);
        // Sends, taken and dropped.
        (0..cap).for_each(|_| tx.try_send(0).unwrap());
        let mut send = Box::pin(tx.send_async(2));
        for waker in [&one, &other] {
            let polled = Future::poll(send.as_mut(), &mut Context::from_waker(waker));
            assert!(polled.is_pending());
        }
        drop(send);
        drop((one, other));
        let calls = calls.lock().unwrap();
        for what in ["clone", "wake", "drop"] {
            assert!(calls.contains(&what), "{calls:?}");
        }
    }
}

/// Panics at the first of these after it was armed.
fn touchy(what: &'static str, is_armed: &Arc<AtomicBool>) -> Waker {
    let is_armed = Arc::clone(is_armed);
    Hook::waker(move |done| {
        if what == done && is_armed.swap(false, SeqCst) {
            // As a panic, but without the noise.
            resume_unwind(Box::new(what));
        }
    })
}

#[test]
fn a_waker_that_panics_when_woken_harms_nobody() {
    let is_armed = Arc::new(AtomicBool::new(true));
    let waker = touchy("wake", &is_armed);
    let (tx, rx) = bounded(0);
    let mut future = pin!(rx.recv_async());
    assert!(Future::poll(future.as_mut(), &mut Context::from_waker(&waker)).is_pending());
    assert_eq!(tx.try_send(1), Ok(()));
    assert!(!is_armed.load(SeqCst));
    assert_eq!(poll(future.as_mut(), &Bell::new()), Poll::Ready(Ok(1)));
}

#[test]
fn a_waker_that_panics_when_cloned_or_dropped_leaves_the_future_whole() {
    for what in ["clone", "drop"] {
        let is_armed = Arc::new(AtomicBool::new(false));
        let waker = touchy(what, &is_armed);
        let poll_panics = |poll: &mut dyn FnMut(&mut Context<'_>)| {
            is_armed.store(true, SeqCst);
            let polled = catch_unwind(AssertUnwindSafe(|| poll(&mut Context::from_waker(&waker))));
            assert_eq!(polled.unwrap_err().downcast_ref(), Some(&what));
        };
        let (tx, rx) = bounded(0);
        let bell = Bell::new();
        let mut future = Box::pin(rx.recv_async());
        assert!(Future::poll(future.as_mut(), &mut Context::from_waker(&waker)).is_pending());
        poll_panics(&mut |cx| _ = Future::poll(future.as_mut(), cx));
        assert_eq!(tx.try_send(1), Ok(()), "it is still in line");
        assert_eq!(poll(future.as_mut(), &bell), Poll::Ready(Ok(1)));

        let mut send = Box::pin(tx.send_async(2));
        assert!(Future::poll(send.as_mut(), &mut Context::from_waker(&waker)).is_pending());
        poll_panics(&mut |cx| _ = Future::poll(send.as_mut(), cx));
        assert_eq!(rx.try_recv(), Ok(2), "it is still in line");
        assert_eq!(poll(send.as_mut(), &bell), Poll::Ready(Ok(())));
    }
}

// ---- As a stream ----

#[cfg(feature = "futures")]
mod stream {
    use super::*;
    use futures_core::Stream;
    use std::future::poll_fn;
    use std::pin::Pin;
    use strands::channel::{after, never};

    fn poll_next<T>(rx: &mut Receiver<T>, waker: &Waker) -> Poll<Option<T>> {
        Pin::new(rx).poll_next(&mut Context::from_waker(waker))
    }

    #[test]
    fn a_stream_yields_all_messages_and_ends_with_the_channel() {
        for cap in CAPACITIES {
            let (tx, mut rx) = channel(cap);
            let sender = strands::go(move || (0..100).for_each(|n| tx.send(n).unwrap()));
            let all = block_on(async {
                let mut all = Vec::new();
                while let Some(n) = poll_fn(|cx| Pin::new(&mut rx).poll_next(cx)).await {
                    all.push(n);
                }
                assert_eq!(poll_fn(|cx| Pin::new(&mut rx).poll_next(cx)).await, None);
                all
            });
            assert!(all.into_iter().eq(0..100));
            sender.join().unwrap();
        }
    }

    #[test]
    fn a_stream_that_moves_keeps_its_place_and_one_that_is_dropped_gives_its_message_back() {
        let (tx, mut rx) = bounded(0);
        let clone = rx.clone();
        let bell = Bell::new();
        let waker = Waker::from(Arc::clone(&bell));
        assert!(poll_next(&mut rx, &waker).is_pending());
        let mut moved = Box::new(rx);
        tx.try_send(1).unwrap();
        assert_eq!(bell.rung(), 1);
        assert_eq!(poll_next(&mut moved, &waker), Poll::Ready(Some(1)));
        assert!(poll_next(&mut moved, &waker).is_pending());
        tx.try_send(2).unwrap();
        assert_eq!(clone.try_recv(), Err(TryRecvError::Empty));
        drop(moved);
        assert_eq!(clone.try_recv(), Ok(2));
        let mut pending = clone.clone();
        assert!(poll_next(&mut pending, &waker).is_pending());
        drop(pending);
        assert_eq!(tx.try_send(3), Err(TrySendError::Full(3)));
    }

    #[test]
    fn the_last_receiver_may_be_a_stream_that_was_handed_a_message() {
        let drops = Arc::new(AtomicUsize::new(0));
        let (tx, mut rx) = bounded(0);
        assert!(poll_next(&mut rx, Waker::noop()).is_pending());
        assert!(tx.try_send(Counted(Arc::clone(&drops))).is_ok());
        drop(rx);
        assert_eq!(drops.load(SeqCst), 1);
        assert!(tx.try_send(Counted(Arc::clone(&drops))).is_err());
    }

    #[test]
    fn a_waker_that_panics_leaves_the_stream_in_line() {
        for what in ["clone", "drop"] {
            let is_armed = Arc::new(AtomicBool::new(false));
            let waker = touchy(what, &is_armed);
            let (tx, mut rx) = bounded(0);
            assert!(poll_next(&mut rx, &waker).is_pending());
            is_armed.store(true, SeqCst);
            assert!(catch_unwind(AssertUnwindSafe(|| poll_next(&mut rx, &waker))).is_err());
            assert_eq!(tx.try_send("still in line"), Ok(()));
            assert_eq!(poll_next(&mut rx, &waker), Poll::Ready(Some("still in line")));
        }
    }

    #[test]
    fn receivers_without_senders_are_streams_too() {
        assert!(poll_next(&mut after(std::time::Duration::ZERO), Waker::noop()).is_ready());
        assert!(poll_next(&mut never::<u8>(), Waker::noop()).is_pending());
    }
}

// ---- Everything at once ----

/// Futures that are polled and dropped as chance has it, while others send.
#[test]
fn receives_that_are_dropped_at_any_time_lose_nothing() {
    const COUNT: usize = 2000;
    for cap in CAPACITIES {
        let (tx, rx) = channel(cap);
        let sender = strands::go(move || (0..COUNT).for_each(|n| tx.send(n).unwrap()));
        let bell = Bell::new();
        let mut received = Vec::new();
        loop {
            let mut future = Box::pin(rx.recv_async());
            let before = bell.rung();
            match poll(future.as_mut(), &bell) {
                Poll::Ready(Ok(n)) => received.push(n),
                Poll::Ready(Err(RecvError)) => break,
                Poll::Pending if received.len() % 3 == 0 => {
                    wait_until(|| bell.rung() > before);
                    match poll(future.as_mut(), &bell) {
                        Poll::Ready(Ok(n)) => received.push(n),
                        Poll::Ready(Err(RecvError)) => break,
                        Poll::Pending => unreachable!("it was woken"),
                    }
                }
                Poll::Pending => {}
            }
        }
        assert!(received.into_iter().eq(0..COUNT), "{cap:?}");
        sender.join().unwrap();
    }
}
