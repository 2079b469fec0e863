//! The async forms of the locks: polled by hand, dropped at every stage, and sharing a lock with goroutines and
//! threads.

mod child;
mod waiting;

use std::sync::atomic::{AtomicUsize, Ordering::SeqCst};
use std::task::{Context, Poll, Wake, Waker};
use strands::sync::{
    Acquire, AcquireError, Arc, Mutex, MutexLock, RwLock, RwLockRead, RwLockWrite, Semaphore,
    TryLockError, Wait, WaitGroup,
};
use waiting::{KINDS, Polled, block_on};

/// The futures may be polled anywhere.
const _: fn() = || {
    fn is_send<T: Send>() {}
    is_send::<MutexLock<'static, u8>>();
    is_send::<RwLockRead<'static, u8>>();
    is_send::<RwLockWrite<'static, u8>>();
    is_send::<Acquire<'static>>();
    is_send::<Wait<'static>>();
};

#[test]
fn a_free_lock_is_taken_at_the_first_poll() {
    let (mutex, rwlock, gate) = (Mutex::new(1), RwLock::new(2), Semaphore::new(3));
    assert_eq!(*Polled::new(mutex.lock_async()).expect_ready().unwrap(), 1);
    assert_eq!(*Polled::new(rwlock.read_async()).expect_ready().unwrap(), 2);
    assert_eq!(*Polled::new(rwlock.write_async()).expect_ready().unwrap(), 2);
    assert_eq!(Polled::new(gate.acquire_many_async(3)).expect_ready().unwrap().count(), 3);
    assert!(mutex.try_lock().is_ok() && rwlock.try_write().is_ok());
    assert_eq!(gate.available_permits(), 3);
}

/// A future that is polled when it should not be any more locks again, or waits for that.
#[test]
fn a_future_that_is_polled_on_has_no_second_right_to_the_lock() {
    let (mutex, rwlock, gate) = (Mutex::new(()), RwLock::new(()), Semaphore::new(1));
    let mut lock = Polled::new(mutex.lock_async());
    let mut write = Polled::new(rwlock.write_async());
    let mut acquire = Polled::new(gate.acquire_async());
    for _ in 0..2 {
        let held = (lock.expect_ready(), write.expect_ready(), acquire.expect_ready());
        lock.assert_pending();
        write.assert_pending();
        acquire.assert_pending();
        drop(held);
    }
    let held = (lock.expect_ready(), write.expect_ready(), acquire.expect_ready());
    let mut late = Polled::new(rwlock.read_async());
    late.assert_pending();
    drop(held);
    let held = late.expect_ready();
    assert!(late.poll().is_ready());
    write.assert_pending();
    assert!(rwlock.try_read().is_err(), "a writer waits");
    drop(held);
    assert!(write.poll().is_ready());
    drop(write);
    assert!(rwlock.try_write().is_ok());
}

#[test]
fn a_future_that_was_never_polled_is_nothing() {
    let (mutex, rwlock, gate) = (Mutex::new(()), RwLock::new(()), Semaphore::new(0));
    drop((mutex.lock_async(), rwlock.read_async(), rwlock.write_async(), gate.acquire_async()));
    assert!(mutex.try_lock().is_ok() && rwlock.try_write().is_ok());
}

#[test]
fn a_future_is_woken_when_it_can_go_on() {
    let (mutex, rwlock, gate) = (Mutex::new(()), RwLock::new(()), Semaphore::new(0));
    let (locked, written) = (mutex.lock().unwrap(), rwlock.write().unwrap());
    let (mut lock, mut read) = (Polled::new(mutex.lock_async()), Polled::new(rwlock.read_async()));
    let mut write = Polled::new(rwlock.write_async());
    let mut acquire = Polled::new(gate.acquire_async());
    for _ in 0..2 {
        lock.assert_pending();
        read.assert_pending();
        write.assert_pending();
        acquire.assert_pending();
    }
    assert_eq!(lock.bell.rung() + read.bell.rung() + acquire.bell.rung(), 0);
    drop((locked, written));
    gate.add_permits(1);
    assert_eq!((lock.bell.rung(), read.bell.rung(), acquire.bell.rung()), (1, 1, 1));
    assert!(lock.expect_ready().is_ok());
    assert!(acquire.expect_ready().is_ok());
    let reading = read.expect_ready().unwrap();
    write.assert_pending();
    drop(reading);
    assert!(write.expect_ready().is_ok());
}

/// The waker of the last poll is the one that counts.
#[test]
fn a_future_may_move_to_another_task() {
    let mutex = Mutex::new(());
    let guard = mutex.lock().unwrap();
    let mut lock = Polled::new(mutex.lock_async());
    lock.assert_pending();
    let former = std::mem::replace(&mut lock.bell, waiting::Bell::new());
    lock.assert_pending();
    assert_eq!(Arc::strong_count(&former), 1, "the former waker is kept");
    drop(guard);
    assert_eq!((former.rung(), lock.bell.rung()), (0, 1));
    assert!(lock.expect_ready().is_ok());
}

/// A future that waits is dropped: in line, and when it has been woken.
#[test]
fn a_dropped_lock_future_passes_the_mutex_on() {
    for kind in KINDS {
        for woken in [false, true] {
            let mutex = Arc::new(Mutex::new(0));
            let guard = mutex.lock().unwrap();
            let mut first = Polled::new(mutex.lock_async());
            first.assert_pending();
            let other = Arc::clone(&mutex);
            let second = kind.start(move || *other.lock().unwrap() += 1);
            second.until_it_waits("mutex lock");
            if woken {
                drop(guard);
                assert_eq!(first.bell.rung(), 1);
                drop(first);
            } else {
                drop(first);
                drop(guard);
            }
            second.join();
            assert_eq!(*mutex.try_lock().unwrap(), 1);
        }
    }
}

/// Its place in line is gone, too: those behind it are not held up by it, nor is it woken.
#[test]
fn a_dropped_lock_future_is_not_woken() {
    let mutex = Mutex::new(());
    let guard = mutex.lock().unwrap();
    let (mut first, mut second) =
        (Polled::new(mutex.lock_async()), Polled::new(mutex.lock_async()));
    first.assert_pending();
    second.assert_pending();
    let bell = Arc::clone(&first.bell);
    drop(first);
    drop(guard);
    assert_eq!((bell.rung(), second.bell.rung()), (0, 1));
    assert!(second.expect_ready().is_ok());
}

/// A lock that has been handed to a future that is then dropped goes to the next in line.
#[test]
fn a_lock_that_was_handed_to_a_dropped_future_goes_on() {
    for kind in KINDS {
        let mutex = Arc::new(Mutex::new(0));
        let mut guard = mutex.lock().unwrap();
        let mut first = Polled::new(mutex.lock_async());
        first.assert_pending();
        let other = Arc::clone(&mutex);
        let second = kind.start(move || *other.lock().unwrap() += 1);
        second.until_it_waits("mutex lock");
        // Woken in vain after more than a millisecond: from now on the lock is handed over.
        std::thread::sleep(waiting::A_MOMENT);
        drop(guard);
        guard = match mutex.try_lock() {
            Ok(guard) => guard,
            Err(TryLockError::WouldBlock) => unreachable!("the future was woken, and nobody else"),
            Err(TryLockError::Poisoned(_)) => unreachable!(),
        };
        first.assert_pending();
        drop(guard);
        assert!(mutex.try_lock().is_err(), "it was handed over");
        drop(first);
        second.join();
        assert_eq!(*mutex.lock().unwrap(), 1);
        assert!(mutex.try_lock().is_ok(), "the hunger is over");
    }
}

#[test]
fn a_dropped_write_future_lets_readers_in() {
    for woken in [false, true] {
        let rwlock = RwLock::new(());
        let reading = rwlock.read().unwrap();
        let mut write = Polled::new(rwlock.write_async());
        write.assert_pending();
        let mut read = Polled::new(rwlock.read_async());
        read.assert_pending();
        let mut queued = Polled::new(rwlock.write_async());
        queued.assert_pending();
        if woken {
            drop(reading);
            assert_eq!(write.bell.rung(), 1);
            read.assert_pending();
            drop(write);
        } else {
            drop(write);
            drop(reading);
        }
        assert_eq!(read.bell.rung(), 1);
        let reading = read.expect_ready().unwrap();
        queued.assert_pending();
        drop(reading);
        drop(queued.expect_ready().unwrap());
        assert!(rwlock.try_write().is_ok());
    }
}

#[test]
fn a_dropped_read_future_does_not_count_as_a_reader() {
    for woken in [false, true] {
        let rwlock = RwLock::new(());
        let writing = rwlock.write().unwrap();
        let mut read = Polled::new(rwlock.read_async());
        read.assert_pending();
        if woken {
            drop(writing);
            assert_eq!(read.bell.rung(), 1);
            assert!(rwlock.try_write().is_err(), "it has been counted");
            drop(read);
        } else {
            drop(read);
            drop(writing);
        }
        assert!(rwlock.try_write().is_ok());
    }
}

#[test]
fn a_dropped_acquire_future_has_acquired_nothing() {
    for granted in [false, true] {
        let gate = Semaphore::new(0);
        let mut large = Polled::new(gate.acquire_many_async(3));
        large.assert_pending();
        let mut small = Polled::new(gate.acquire_async());
        small.assert_pending();
        gate.add_permits(if granted { 3 } else { 2 });
        assert_eq!((large.bell.rung() == 1, small.bell.rung()), (granted, 0));
        drop(large);
        assert_eq!(small.bell.rung(), 1);
        drop(small.expect_ready().unwrap());
        assert_eq!(gate.available_permits(), if granted { 3 } else { 2 });
    }
}

#[test]
fn a_closed_semaphore_ends_the_futures() {
    let gate = Semaphore::new(0);
    let (mut kept, mut dropped) =
        (Polled::new(gate.acquire_async()), Polled::new(gate.acquire_async()));
    kept.assert_pending();
    dropped.assert_pending();
    gate.close();
    drop(dropped);
    assert_eq!(kept.expect_ready().unwrap_err(), AcquireError);
    assert_eq!(Polled::new(gate.acquire_async()).expect_ready().unwrap_err(), AcquireError);
}

#[test]
fn a_future_tells_of_poison() {
    let lock = (Arc::new(Mutex::new(())), Arc::new(RwLock::new(())));
    let (mutex, rwlock) = (Arc::clone(&lock.0), Arc::clone(&lock.1));
    let dies = strands::go(move || {
        let _guards = (mutex.lock().unwrap(), rwlock.write().unwrap());
        panic!("in the section");
    });
    dies.join().unwrap_err();
    assert!(Polled::new(lock.0.lock_async()).expect_ready().is_err());
    assert!(Polled::new(lock.1.read_async()).expect_ready().is_err());
    assert!(Polled::new(lock.1.write_async()).expect_ready().is_err());
}

/// A waker that panics, or locks, is called where that harms nobody.
#[test]
fn wakers_run_with_no_lock_held() {
    struct Locks(Arc<Mutex<u8>>, AtomicUsize);
    impl Wake for Locks {
        fn wake(self: Arc<Locks>) {
            assert!(self.0.try_lock().is_ok());
            self.1.fetch_add(1, SeqCst);
            panic!("as wakers must not");
        }
    }
    let mutex = Arc::new(Mutex::new(0));
    let locks = Arc::new(Locks(Arc::clone(&mutex), AtomicUsize::new(0)));
    let waker = Waker::from(Arc::clone(&locks));
    let guard = mutex.lock().unwrap();
    let mut future = Box::pin(mutex.lock_async());
    assert!(future.as_mut().poll(&mut Context::from_waker(&waker)).is_pending());
    drop(guard);
    assert_eq!(locks.1.load(SeqCst), 1);
    let poll = future.as_mut().poll(&mut Context::from_waker(&waker));
    assert!(matches!(poll, Poll::Ready(Ok(_))));
}

/// Goroutines, threads and async tasks, on one lock each, some of which give up.
#[test]
fn all_kinds_share_a_lock() {
    const EACH: usize = 300;
    let shared = Arc::new((Mutex::new(0), RwLock::new(0), Semaphore::new(2)));
    let inside = Arc::new(AtomicUsize::new(0));
    let mut all = Vec::new();
    for kind in [KINDS, KINDS].concat() {
        for is_async in [false, true] {
            let (shared, inside) = (Arc::clone(&shared), Arc::clone(&inside));
            all.push(kind.start(move || {
                let (mutex, rwlock, gate) = &*shared;
                for n in 0..EACH {
                    if is_async {
                        if n % 3 == 0 {
                            // Polled once, and dropped wherever that leaves it.
                            _ = Polled::new(mutex.lock_async()).poll();
                            _ = Polled::new(rwlock.read_async()).poll();
                            _ = Polled::new(rwlock.write_async()).poll();
                            _ = Polled::new(gate.acquire_many_async(2)).poll();
                        }
                        *block_on(mutex.lock_async()).unwrap() += 1;
                        *block_on(rwlock.write_async()).unwrap() += 1;
                        assert!(*block_on(rwlock.read_async()).unwrap() > 0);
                        let _permit = block_on(gate.acquire_async()).unwrap();
                        assert!(inside.fetch_add(1, SeqCst) < 2);
                        inside.fetch_sub(1, SeqCst);
                    } else {
                        *mutex.lock().unwrap() += 1;
                        *rwlock.write().unwrap() += 1;
                        assert!(*rwlock.read().unwrap() > 0);
                        let _permit = gate.acquire().unwrap();
                        assert!(inside.fetch_add(1, SeqCst) < 2);
                        inside.fetch_sub(1, SeqCst);
                    }
                }
                EACH
            }));
        }
    }
    let total: usize = all.into_iter().map(|one| one.join()).sum();
    assert_eq!(*shared.0.try_lock().unwrap(), total);
    assert_eq!(*shared.1.try_write().unwrap(), total);
    assert_eq!(shared.2.available_permits(), 2);
}

#[test]
fn a_group_is_waited_for_by_futures_too_which_may_go_at_any_time() {
    let group = WaitGroup::new();
    Polled::new(group.wait_async()).expect_ready();
    group.add(1);
    let (mut waits, mut goes) = (Polled::new(group.wait_async()), Polled::new(group.wait_async()));
    waits.assert_pending();
    goes.assert_pending();
    drop(goes);
    // With a waker of another task.
    waits.assert_pending();
    let other = group.clone();
    let goroutine = strands::go(move || block_on(other.wait_async()));
    assert_eq!(waits.bell.rung(), 0);
    group.done();
    assert_eq!(waits.bell.rung(), 1);
    goroutine.join().unwrap();
    // Counted anew: those who waited before are let go all the same.
    group.add(1);
    waits.expect_ready();
    Polled::new(group.wait_async()).assert_pending();
}
