//! Whatever waits under a context ends with it, takes nothing from others, and leaves nothing behind.

mod child;
mod contexts;

use child::wait_until;
use contexts::{HOUR, canceled, root};
use std::cell::Cell;
use std::pin::pin;
use std::sync::Arc;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::task::{Poll, Wake, Waker};
use std::time::{Duration, Instant};
use strands::channel::{bounded, unbounded};
use strands::context::{self, Context, ContextError, RecvContextError, SendContextError};
use strands::sync::{Condvar, Mutex, RwLock, Semaphore, WaitGroup};
use strands::{go, select, yield_now};

use ContextError::Canceled;

#[test]
fn under_a_context_that_is_done_nothing_is_done_though_it_could() {
    let ctx = canceled();
    let (tx, rx) = bounded(2);
    tx.send(1).unwrap();
    assert_eq!(rx.recv_ctx(&ctx), Err(RecvContextError::Done(Canceled)));
    assert_eq!(tx.send_ctx(2, &ctx), Err(SendContextError::Done(2, Canceled)));
    assert_eq!(rx.len(), 1);
    let mut handle = go(|| 3);
    wait_until("the goroutine has ended", || handle.is_finished());
    assert_eq!(handle.join_ctx(&ctx).unwrap_err(), Canceled);
    assert_eq!(handle.join().unwrap(), 3);
    assert_eq!(ctx.sleep(HOUR), Err(Canceled));
    assert_eq!(ctx.sleep(Duration::ZERO), Err(Canceled));
    assert_eq!(ctx.sleep_until(Instant::now()), Err(Canceled));
    let polled = Cell::new(false);
    assert_eq!(ctx.run(async { polled.set(true) }), Err(Canceled));
    assert!(!polled.get());
}

#[test]
fn under_a_context_that_is_not_done_all_is_as_without() {
    let (ctx, _cancel) = context::with_cancel(&root());
    for ctx in [ctx, root()] {
        let (tx, rx) = bounded(0);
        let sender = {
            let ctx = ctx.clone();
            go(move || (tx.send_ctx(1, &ctx), tx.send_ctx(2, &ctx)))
        };
        assert_eq!((rx.recv_ctx(&ctx), rx.recv_ctx(&ctx)), (Ok(1), Ok(2)));
        assert_eq!(sender.join().unwrap(), (Ok(()), Ok(())));
        assert_eq!(rx.recv_ctx(&ctx), Err(RecvContextError::Disconnected));
        let (tx, _) = bounded(1);
        assert_eq!(tx.send_ctx(1, &ctx), Err(SendContextError::Disconnected(1)));
        assert_eq!(go(|| 4).join_ctx(&ctx).unwrap().unwrap(), 4);
        let before = Instant::now();
        assert_eq!(ctx.sleep(Duration::from_millis(3)), Ok(()));
        assert!(before.elapsed() >= Duration::from_millis(3));
        let (tx, rx) = unbounded();
        tx.send(5).unwrap();
        assert_eq!(ctx.run(rx.recv_async()), Ok(Ok(5)));
        let later = go(move || tx.send(6));
        assert_eq!(ctx.run(rx.recv_async()), Ok(Ok(6)));
        later.join().unwrap().unwrap();
    }
}

/// Has `wait` wait under a context, in a goroutine and in a thread, until it is cancelled.
fn ends_with_its_context<F>(wait: F)
where
    F: Fn(&Context) -> ContextError + Clone + Send + 'static,
{
    let (ctx, cancel) = context::with_cancel(&root());
    let started = Arc::new(AtomicUsize::new(0));
    let body = || {
        let (ctx, wait, started) = (ctx.clone(), wait.clone(), Arc::clone(&started));
        move || {
            started.fetch_add(1, Ordering::SeqCst);
            wait(&ctx)
        }
    };
    let (goroutine, thread) = (go(body()), std::thread::spawn(body()));
    wait_until("both wait, or are about to", || started.load(Ordering::SeqCst) == 2);
    std::thread::sleep(Duration::from_millis(5));
    assert!(!goroutine.is_finished() && !thread.is_finished());
    cancel.cancel();
    assert_eq!(goroutine.join().unwrap(), Canceled);
    assert_eq!(thread.join().unwrap(), Canceled);
}

#[test]
fn whatever_waits_ends_with_its_context() {
    let (tx, rx) = unbounded::<u8>();
    let receiver = rx.clone();
    ends_with_its_context(move |ctx| match receiver.recv_ctx(ctx) {
        Err(RecvContextError::Done(error)) => error,
        other => panic!("{other:?}"),
    });
    let receiver = rx.clone();
    ends_with_its_context(move |ctx| ctx.run(receiver.recv_async()).unwrap_err());
    let receiver = rx.clone();
    ends_with_its_context(move |ctx| {
        select! {
            recv(ctx.done()) -> end => assert!(end.is_err()),
            recv(receiver) -> _ => unreachable!(),
        }
        ctx.err().unwrap()
    });
    // Nothing was taken by those who were cancelled.
    tx.send(1).unwrap();
    assert_eq!(rx.try_recv(), Ok(1));

    let (tx, rx) = bounded(0);
    ends_with_its_context(move |ctx| match tx.send_ctx(Box::new(7), ctx) {
        Err(SendContextError::Done(message, error)) if *message == 7 => error,
        other => panic!("{other:?}"),
    });
    assert!(rx.try_recv().is_err(), "nothing was sent by those who were cancelled");

    ends_with_its_context(|ctx| ctx.sleep(HOUR).unwrap_err());
    ends_with_its_context(|ctx| ctx.sleep_until(Instant::now() + HOUR).unwrap_err());
    ends_with_its_context(|ctx| {
        let (tx, rx) = unbounded::<u8>();
        let mut handle = go(move || rx.recv());
        let error = handle.join_ctx(ctx).unwrap_err();
        drop(tx);
        assert!(handle.join().unwrap().is_err());
        error
    });
}

#[test]
fn locks_and_permits_are_waited_for_under_a_context() {
    let lock = Arc::new(Mutex::new(0));
    let guard = lock.lock().unwrap();
    let contender = Arc::clone(&lock);
    ends_with_its_context(move |ctx| contender.lock_ctx(ctx).unwrap_err());
    drop(guard);
    assert_eq!(*lock.lock_ctx(&root()).unwrap().unwrap(), 0, "nobody has it");
    assert_eq!(lock.lock_ctx(&canceled()).unwrap_err(), Canceled);

    let lock = Arc::new(RwLock::new(0));
    let guard = lock.write().unwrap();
    let contender = Arc::clone(&lock);
    ends_with_its_context(move |ctx| {
        assert_eq!(contender.read_ctx(ctx).unwrap_err(), Canceled);
        contender.write_ctx(ctx).unwrap_err()
    });
    drop(guard);
    let (one, other) = (lock.read_ctx(&root()), lock.read_ctx(&root()));
    drop((one.unwrap().unwrap(), other.unwrap().unwrap()));
    *lock.write_ctx(&root()).unwrap().unwrap() += 1;

    let semaphore = Arc::new(Semaphore::new(2));
    let permits = semaphore.acquire_many_ctx(2, &root()).unwrap().unwrap();
    let contender = Arc::clone(&semaphore);
    ends_with_its_context(move |ctx| contender.acquire_ctx(ctx).unwrap_err());
    drop(permits);
    assert!(semaphore.try_acquire_many(2).is_ok(), "those who were cancelled have taken nothing");
    semaphore.close();
    assert!(semaphore.acquire_ctx(&root()).unwrap().is_err());

    let group = WaitGroup::new();
    group.add(1);
    let waiting = group.clone();
    ends_with_its_context(move |ctx| waiting.wait_ctx(ctx).unwrap_err());
    let waiting = group.clone();
    let waiter = go(move || waiting.wait_ctx(&root()));
    group.done();
    assert_eq!(waiter.join().unwrap(), Ok(()));
    assert_eq!((group.wait_ctx(&root()), group.wait_ctx(&canceled())), (Ok(()), Err(Canceled)));
}

#[test]
fn conditions_are_waited_for_under_a_context() {
    let pair = Arc::new((Mutex::new(0), Condvar::new()));
    let wait = |ctx: &Context, pair: &(Mutex<i32>, Condvar)| {
        let (number, result) = pair.1.wait_ctx(pair.0.lock().unwrap(), ctx).unwrap();
        assert!(pair.0.try_lock().is_err(), "the mutex is locked again");
        (*number, result)
    };
    let other = Arc::clone(&pair);
    ends_with_its_context(move |ctx| wait(ctx, &other).1.unwrap_err());
    assert_eq!(wait(&canceled(), &pair), (0, Err(Canceled)));

    let other = Arc::clone(&pair);
    let waiter = go(move || {
        let number = other.0.lock().unwrap();
        let (number, result) =
            other.1.wait_while_ctx(number, |number| *number < 2, &root()).unwrap();
        (*number, result)
    });
    for _ in 0..2 {
        *pair.0.lock().unwrap() += 1;
        pair.1.notify_one();
    }
    assert_eq!(waiter.join().unwrap(), (2, Ok(())));
    let (_number, result) =
        pair.1.wait_while_ctx(pair.0.lock().unwrap(), |_| false, &canceled()).unwrap();
    assert_eq!(result, Ok(()), "there was nothing to wait for");
}

/// Each notification is for one of two who wait, the other of whom is cancelled at the same time.
#[test]
fn a_cancelled_wait_takes_no_notification_from_others() {
    for _ in 0..500 {
        let pair = Arc::new((Mutex::new(false), Condvar::new()));
        let (ctx, cancel) = context::with_cancel(&root());
        let waiters = [ctx, root()].map(|ctx| {
            let pair = Arc::clone(&pair);
            go(move || {
                let done = pair.0.lock().unwrap();
                pair.1.wait_while_ctx(done, |done| !*done, &ctx).unwrap().1
            })
        });
        yield_now();
        let canceller = go(move || cancel.cancel());
        *pair.0.lock().unwrap() = true;
        // For one of them; and one who has got it in vain passes it on.
        pair.1.notify_one();
        canceller.join().unwrap();
        let [cancelled, waiter] = waiters;
        if cancelled.join().unwrap().is_ok() {
            pair.1.notify_one();
        }
        assert_eq!(waiter.join().unwrap(), Ok(()));
    }
}

#[test]
fn a_wait_under_a_context_tells_of_poison() {
    let pair = Arc::new((Mutex::new(()), Condvar::new()));
    let other = Arc::clone(&pair);
    let (locked, is_locked) = bounded(1);
    let waiter = go(move || {
        let guard = other.0.lock().unwrap();
        locked.send(()).unwrap();
        other.1.wait_ctx(guard, &root()).unwrap_err().into_inner().1
    });
    is_locked.recv().unwrap();
    let culprit = Arc::clone(&pair);
    go(move || {
        let _guard = culprit.0.lock().unwrap();
        panic!("a panic that is meant");
    })
    .join()
    .unwrap_err();
    while !waiter.is_finished() {
        pair.1.notify_all();
        yield_now();
    }
    assert_eq!(waiter.join().unwrap(), Ok(()));
}

#[test]
fn a_poisoned_lock_is_poisoned_under_a_context_too() {
    let locks = Arc::new((Mutex::new(1), RwLock::new(2)));
    let theirs = Arc::clone(&locks);
    let poisoner = go(move || {
        let _guards = (theirs.0.lock().unwrap(), theirs.1.write().unwrap());
        panic!("on purpose");
    });
    assert!(poisoner.join().is_err());
    assert_eq!(*locks.0.lock_ctx(&root()).unwrap().unwrap_err().into_inner(), 1);
    assert_eq!(*locks.1.read_ctx(&root()).unwrap().unwrap_err().into_inner(), 2);
    assert_eq!(*locks.1.write_ctx(&root()).unwrap().unwrap_err().into_inner(), 2);
}

#[test]
fn a_scoped_goroutine_is_joined_under_a_context_too() {
    let (tx, rx) = unbounded::<u8>();
    strands::scope(|s| {
        let mut waits = s.go(|| rx.recv().unwrap());
        assert_eq!(waits.join_ctx(&canceled()).unwrap_err(), Canceled);
        tx.send(1).unwrap();
        assert_eq!(waits.join_ctx(&root()).unwrap().unwrap(), 1);
        let mut panics = s.go(|| std::panic::resume_unwind(Box::new(2_u8)));
        let payload: Result<(), _> = panics.join_ctx(&root()).unwrap();
        assert_eq!(payload.unwrap_err().downcast_ref(), Some(&2_u8));
        let again = std::panic::AssertUnwindSafe(|| panics.join());
        assert!(std::panic::catch_unwind(again).is_err(), "it was joined");
    });
}

#[test]
fn async_tasks_are_told_too() {
    struct Count(AtomicUsize);
    impl Wake for Count {
        fn wake(self: Arc<Self>) {
            self.0.fetch_add(1, Ordering::SeqCst);
        }
    }
    let count = Arc::new(Count(AtomicUsize::new(0)));
    let waker = Waker::from(Arc::clone(&count));
    let mut task = std::task::Context::from_waker(&waker);
    let (ctx, cancel) = context::with_cancel(&root());
    let mut done = pin!(ctx.done().recv_async());
    assert!(done.as_mut().poll(&mut task).is_pending());
    cancel.cancel();
    assert_eq!(count.0.load(Ordering::SeqCst), 1);
    assert!(matches!(done.as_mut().poll(&mut task), Poll::Ready(Err(_))));
}
