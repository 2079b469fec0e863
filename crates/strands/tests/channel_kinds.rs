//! Channels with a purpose: oneshot, watch, broadcast, sliding, dropping.

use std::cell::Cell;
use std::future::Future;
use std::pin::pin;
use std::sync::Arc;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::task::{Context, Poll, Wake, Waker};
use std::time::Duration;
use strands::channel::{self, RecvError, RecvTimeoutError, SendError, TryRecvError};
use strands::{select, thread};

/// Counts how often it is woken.
#[derive(Default)]
struct Counter(AtomicUsize);

impl Wake for Counter {
    fn wake(self: Arc<Self>) {
        self.0.fetch_add(1, Ordering::SeqCst);
    }
}

/// Counts how many of its kind are alive.
#[derive(Debug)]
struct Counted(Arc<AtomicUsize>);

impl Counted {
    fn new(alive: &Arc<AtomicUsize>) -> Counted {
        alive.fetch_add(1, Ordering::SeqCst);
        Counted(Arc::clone(alive))
    }
}

impl Clone for Counted {
    fn clone(&self) -> Counted {
        Counted::new(&self.0)
    }
}

impl Drop for Counted {
    fn drop(&mut self) {
        self.0.fetch_sub(1, Ordering::SeqCst);
    }
}

#[test]
fn a_oneshot_passes_one_message_or_says_that_none_will_come() {
    let (tx, rx) = channel::oneshot();
    let asker = strands::go(move || rx.recv());
    tx.send(String::from("answer")).unwrap();
    assert_eq!(asker.join().unwrap().as_deref(), Ok("answer"));

    let (tx, rx) = channel::oneshot::<i32>();
    drop(tx);
    assert_eq!(rx.recv(), Err(RecvError));

    let (tx, rx) = channel::oneshot();
    drop(rx);
    assert!(tx.is_closed());
    assert_eq!(tx.send(5), Err(SendError(5)));
}

#[test]
fn a_oneshot_is_an_arm_of_a_select_and_can_be_awaited() {
    let (tx, rx) = channel::oneshot();
    let (_other, never) = channel::bounded::<i32>(0);
    tx.send(1).unwrap();
    let got = select! {
        recv(rx) -> message => message,
        recv(never) -> message => message,
    };
    assert_eq!(got, Ok(1));

    let (tx, rx) = channel::oneshot();
    let counter = Arc::new(Counter::default());
    let waker = Waker::from(Arc::clone(&counter));
    let mut future = pin!(rx.recv_async());
    assert!(future.as_mut().poll(&mut Context::from_waker(&waker)).is_pending());
    strands::go(move || tx.send(2).unwrap()).join().unwrap();
    assert_eq!(counter.0.load(Ordering::SeqCst), 1);
    assert_eq!(future.poll(&mut Context::from_waker(&waker)), Poll::Ready(Ok(2)));
}

#[test]
fn a_watch_shows_the_latest_value_once() {
    let (tx, rx) = channel::watch(0);
    assert!(!rx.has_changed());
    assert_eq!(rx.try_recv(), Err(TryRecvError::Empty));
    for n in 1..=3 {
        tx.send(n).unwrap();
    }
    let behind = rx.clone();
    assert!(rx.has_changed());
    assert_eq!(*rx.borrow(), 3);
    assert_eq!(rx.recv().as_deref(), Ok(&3));
    assert_eq!(rx.recv_timeout(Duration::from_millis(1)), Err(RecvTimeoutError::Timeout));
    let fresh = tx.subscribe();
    assert!(!fresh.has_changed());
    assert_eq!(*behind.borrow_and_update(), 3);
    assert!(!behind.has_changed());
    assert_eq!(tx.receiver_count(), 3);

    tx.send(4).unwrap();
    drop(tx);
    assert_eq!(rx.recv().as_deref(), Ok(&4), "what was sent before the end is seen");
    assert_eq!(rx.changed(), Err(RecvError));
    assert_eq!(rx.try_recv(), Err(TryRecvError::Disconnected));
}

#[test]
fn a_watch_without_receivers_gives_the_value_back() {
    let (tx, rx) = channel::watch(0);
    drop(rx);
    assert_eq!(tx.send(1), Err(SendError(1)));
    assert_eq!(*tx.send_replace(2), 0);
    assert_eq!(*tx.subscribe().borrow(), 2);
}

#[test]
fn all_who_wait_for_a_watch_see_the_change_in_all_three_worlds() {
    let (tx, rx) = channel::watch(0);
    let (ready, is_ready) = channel::bounded(0);
    let goroutines: Vec<_> = (0..100)
        .map(|_| {
            let (rx, ready) = (rx.clone(), ready.clone());
            strands::go(move || {
                ready.send(()).unwrap();
                *rx.recv().unwrap()
            })
        })
        .collect();
    let threads: Vec<_> = (0..4)
        .map(|_| {
            let (rx, ready) = (rx.clone(), ready.clone());
            std::thread::spawn(move || {
                ready.send(()).unwrap();
                *rx.recv().unwrap()
            })
        })
        .collect();
    let counter = Arc::new(Counter::default());
    let waker = Waker::from(Arc::clone(&counter));
    let mut future = pin!(rx.recv_async());
    assert!(future.as_mut().poll(&mut Context::from_waker(&waker)).is_pending());
    for _ in 0..104 {
        is_ready.recv().unwrap();
    }
    tx.send(7).unwrap();
    assert!(goroutines.into_iter().all(|g| g.join().unwrap() == 7));
    assert!(threads.into_iter().all(|t| t.join().unwrap() == 7));
    assert_eq!(counter.0.load(Ordering::SeqCst), 1);
    let polled = future.poll(&mut Context::from_waker(&waker));
    assert!(matches!(polled, Poll::Ready(Ok(value)) if *value == 7));
}

#[test]
fn a_broadcast_reaches_every_receiver_in_order() {
    let (tx, first) = channel::broadcast(1000);
    let receivers: Vec<_> = (0..10).map(|_| tx.subscribe()).chain([first]).collect();
    let readers: Vec<_> = receivers
        .into_iter()
        .map(|rx| strands::go(move || std::iter::from_fn(|| rx.recv().ok()).collect::<Vec<_>>()))
        .collect();
    for n in 0..1000 {
        assert!(tx.send(n).is_ok_and(|count| count <= 11));
    }
    drop(tx);
    for reader in readers {
        assert_eq!(reader.join().unwrap(), Vec::from_iter(0..1000));
    }
}

#[test]
fn who_lags_is_told_how_many_it_has_lost_and_goes_on() {
    use channel::broadcast::{RecvError, TryRecvError};
    let (tx, rx) = channel::broadcast(4);
    for n in 0..10 {
        tx.send(n).unwrap();
    }
    assert_eq!(rx.len(), 4);
    assert_eq!(rx.try_recv(), Err(TryRecvError::Lagged(6)));
    let late = rx.resubscribe();
    assert!(late.is_empty());
    assert_eq!(late.try_recv(), Err(TryRecvError::Empty));
    assert_eq!([(); 4].map(|()| rx.recv()), [Ok(6), Ok(7), Ok(8), Ok(9)]);
    assert_eq!(rx.recv_timeout(Duration::from_millis(1)), Err(TryRecvError::Empty));
    drop(tx);
    assert_eq!(rx.recv(), Err(RecvError::Disconnected));
    assert_eq!(late.recv(), Err(RecvError::Disconnected));
}

#[test]
fn nobody_is_told_of_a_broadcast_without_receivers_and_nothing_is_kept() {
    let alive = Arc::new(AtomicUsize::new(0));
    let (tx, rx) = channel::broadcast(8);
    for _ in 0..20 {
        tx.send(Counted::new(&alive)).unwrap();
    }
    assert_eq!(alive.load(Ordering::SeqCst), 8);
    drop(rx);
    assert_eq!(alive.load(Ordering::SeqCst), 0);
    assert!(tx.send(Counted::new(&alive)).is_err());
    assert_eq!(alive.load(Ordering::SeqCst), 0);
    let rx = tx.subscribe();
    tx.send(Counted::new(&alive)).unwrap();
    assert!(rx.recv().is_ok());
    drop((tx, rx));
    assert_eq!(alive.load(Ordering::SeqCst), 0);
}

#[test]
fn watch_broadcast_and_channels_are_arms_of_one_select() {
    let (level, levels) = channel::watch(0);
    let (news, bulletin) = channel::broadcast(4);
    let (tx, rx) = channel::bounded(1);
    let sender = thread::spawn(move || {
        level.send(1).unwrap();
        news.send("two").unwrap();
        tx.send(3.0).unwrap();
        (level, news, tx)
    });
    let (mut level, mut bulletins, mut numbers) = (0, Vec::new(), Vec::new());
    while level == 0 || bulletins.is_empty() || numbers.is_empty() {
        select! {
            recv(levels) -> seen => level = *seen.unwrap(),
            recv(bulletin) -> message => bulletins.push(message.unwrap()),
            recv(rx) -> number => numbers.push(number.unwrap()),
        }
    }
    assert_eq!((level, bulletins, numbers), (1, vec!["two"], vec![3.0]));
    drop(sender.join().unwrap());
}

#[test]
fn a_dropped_read_leaves_the_news_to_the_next() {
    let (tx, rx) = channel::broadcast(4);
    {
        let mut future = pin!(rx.recv_async());
        assert!(future.as_mut().poll(&mut Context::from_waker(Waker::noop())).is_pending());
        tx.send(1).unwrap();
    }
    assert_eq!(rx.try_recv(), Ok(1));
}

#[test]
fn sliding_keeps_the_latest_and_dropping_the_earliest() {
    let alive = Arc::new(AtomicUsize::new(0));
    for (ends, expected) in [(channel::sliding(3), [7, 8, 9]), (channel::dropping(3), [0, 1, 2])] {
        let (tx, rx) = ends;
        for n in 0..10 {
            tx.send((Cell::new(n), Counted::new(&alive))).unwrap();
        }
        assert!(tx.is_full());
        assert_eq!(alive.load(Ordering::SeqCst), 3);
        let left: Vec<_> = rx.try_iter().map(|(n, _)| n.get()).collect();
        assert_eq!(left, expected);
        drop(rx);
        assert!(tx.send((Cell::new(10), Counted::new(&alive))).is_err());
        assert_eq!(alive.load(Ordering::SeqCst), 0);
    }
}

#[test]
fn sends_that_never_wait_are_always_ready_in_a_select() {
    for (tx, rx) in [channel::sliding(1), channel::dropping(1)] {
        for n in 0..3 {
            select! {
                send(tx, n) -> sent => sent.unwrap(),
                default => unreachable!("it never has to wait"),
            }
        }
        assert!(matches!(rx.try_recv(), Ok(0 | 2)));
    }
}

#[test]
fn a_message_for_one_who_waits_is_not_dropped() {
    for (tx, rx) in [channel::sliding(0), channel::dropping(0)] {
        tx.send(1).unwrap();
        assert_eq!(rx.try_recv(), Err(TryRecvError::Empty), "nobody waited");
        let (ready, is_ready) = channel::bounded(0);
        let reader = strands::go(move || {
            ready.send(()).unwrap();
            rx.recv()
        });
        is_ready.recv().unwrap();
        // It may not have begun to wait; so until it has.
        while !reader.is_finished() {
            let _ = tx.send(2);
            std::thread::yield_now();
        }
        assert_eq!(reader.join().unwrap(), Ok(2));
    }
}

/// Wakes a thread.
struct Unparker(std::thread::Thread);

impl Wake for Unparker {
    fn wake(self: Arc<Self>) {
        self.0.unpark();
    }
}

fn block_on<F: Future>(future: F) -> F::Output {
    let waker = Waker::from(Arc::new(Unparker(std::thread::current())));
    let mut future = pin!(future);
    loop {
        match future.as_mut().poll(&mut Context::from_waker(&waker)) {
            Poll::Ready(output) => return output,
            Poll::Pending => std::thread::park(),
        }
    }
}

#[test]
fn moments_can_be_awaited() {
    let when = std::time::Instant::now() + Duration::from_millis(3);
    assert_eq!(block_on(channel::at(when).recv_async()), Ok(when));
    assert!(std::time::Instant::now() >= when);
    let ticks = channel::tick(Duration::from_millis(1));
    let due: Vec<_> = (0..3).map(|_| block_on(ticks.recv_async()).unwrap()).collect();
    assert!(due.is_sorted());
    let never = channel::never::<i32>();
    let mut never = pin!(never.recv_async());
    assert!(never.as_mut().poll(&mut Context::from_waker(Waker::noop())).is_pending());
}

#[cfg(feature = "futures")]
#[test]
fn receivers_are_streams() {
    use futures_core::Stream;
    fn next<S: Stream + Unpin>(stream: &mut S) -> Option<S::Item> {
        block_on(std::future::poll_fn(|cx| std::pin::Pin::new(&mut *stream).poll_next(cx)))
    }
    let (tx, mut rx) = channel::bounded(1);
    let sender = strands::go(move || (0..100).try_for_each(|n| tx.send(n)));
    assert!((0..100).all(|n| next(&mut rx) == Some(n)));
    assert_eq!(next(&mut rx), None);
    sender.join().unwrap().unwrap();

    let mut ticks = channel::tick(Duration::from_millis(1));
    assert!(next(&mut ticks) < next(&mut ticks));

    // A stream that is dropped with a message it has not looked at leaves it to the next.
    let (tx, mut rx) = channel::bounded(0);
    let other = rx.clone();
    let pending = std::pin::Pin::new(&mut rx).poll_next(&mut Context::from_waker(Waker::noop()));
    assert!(pending.is_pending());
    tx.send(1).unwrap();
    drop(rx);
    assert_eq!(other.try_recv(), Ok(1));
}

#[test]
fn what_comes_back_keeps_its_order() {
    for cap in [Some(2), None] {
        let (tx, rx) = cap.map_or_else(channel::unbounded, channel::bounded);
        let mut futures = [(); 2].map(|()| Box::pin(rx.recv_async()));
        for future in &mut futures {
            assert!(future.as_mut().poll(&mut Context::from_waker(Waker::noop())).is_pending());
        }
        for n in 1..=3 {
            tx.send(n).unwrap();
        }
        // Whoever goes first.
        drop(futures);
        assert_eq!(rx.try_iter().collect::<Vec<_>>(), [1, 2, 3]);
    }
}

#[test]
fn a_channel_that_holds_nothing_holds_a_stray_and_nothing_more() {
    let (tx, rx) = channel::sliding(0);
    {
        let mut future = Box::pin(rx.recv_async());
        assert!(future.as_mut().poll(&mut Context::from_waker(Waker::noop())).is_pending());
        tx.send(1).unwrap();
    }
    tx.send(2).unwrap();
    assert_eq!(rx.try_iter().collect::<Vec<_>>(), [1]);
}
