//! `SingleFlight`, `Pool` and `mpsc`.

mod child;
mod waiting;

use std::collections::HashSet;
use std::hash::{Hash, Hasher};
use std::panic::{AssertUnwindSafe, RefUnwindSafe, UnwindSafe, catch_unwind};
use std::sync::atomic::{AtomicUsize, Ordering::SeqCst};
use std::time::Duration;
use strands::channel::bounded;
use strands::sync::mpsc::{
    self, RecvError, RecvTimeoutError, SendError, TryRecvError, TrySendError,
};
use strands::sync::{Arc, Pool, Pooled, RwLock, RwLockReadGuard, SingleFlight};
use strands::thread::{self, ScopedJoinHandle, Thread};
use waiting::KINDS;

/// What the types promise.
const _: fn() = || {
    fn is_shared<T: Send + Sync>() {}
    fn is_send<T: Send>() {}
    is_shared::<SingleFlight<String, String>>();
    is_shared::<Pool<std::cell::Cell<u8>>>();
    is_shared::<mpsc::Sender<std::cell::Cell<u8>>>();
    is_shared::<mpsc::SyncSender<std::cell::Cell<u8>>>();
    is_send::<mpsc::Receiver<u8>>();
    fn crosses_a_catch<T: UnwindSafe + RefUnwindSafe>() {}
    crosses_a_catch::<mpsc::Receiver<std::cell::Cell<u8>>>();
    crosses_a_catch::<mpsc::IntoIter<u8>>();
    crosses_a_catch::<Thread>();
    fn is_unpin<T: Unpin>() {}
    is_unpin::<ScopedJoinHandle<'_, std::marker::PhantomPinned>>();
};

// ---- what std's have, too ----

#[test]
fn a_guard_that_reads_may_stand_for_one_of_data_that_lasts_less() {
    fn shorter<'a>(
        guard: RwLockReadGuard<'a, &'static str>,
        _than: &'a str,
    ) -> RwLockReadGuard<'a, &'a str> {
        guard
    }
    let lock = RwLock::new("static");
    let local = String::from("local");
    let guard = shorter(lock.read().unwrap(), &local);
    assert_eq!(*guard, "static");
    assert!(lock.try_write().is_err());
    drop(guard);
    *lock.write().unwrap() = "written";
    assert_eq!(*lock.read().unwrap(), "written");
}

#[test]
fn a_scope_may_be_used_by_what_is_caught() {
    let sum = thread::scope(|s| catch_unwind(|| s.spawn(|| 1 + 1).join().unwrap()));
    assert_eq!(sum.unwrap(), 2);
}

// ---- SingleFlight ----

#[test]
fn calls_at_the_same_time_are_one() {
    for kind in KINDS {
        let flights = Arc::new(SingleFlight::new());
        let ((entered, is_inside), (release, gate)) = (bounded(0), bounded(0));
        let leads = Arc::clone(&flights);
        let leader = kind.start(move || {
            leads.call("key", || {
                entered.send(()).unwrap();
                gate.recv().unwrap()
            })
        });
        is_inside.recv().unwrap();
        let sharing: Vec<_> = (0..3)
            .map(|_| {
                let flights = Arc::clone(&flights);
                let sharing = kind.start(move || flights.call("key", || unreachable!()));
                sharing.until_it_waits("once");
                sharing
            })
            .collect();
        assert_eq!(flights.call("other key", || 1), 1);
        release.send(7).unwrap();
        assert_eq!(leader.join(), 7);
        assert!(sharing.into_iter().all(|one| one.join() == 7));
        assert_eq!(flights.call("key", || 8), 8, "results are not kept");
    }
}

#[test]
fn a_panic_reaches_all_who_share_the_call() {
    for kind in KINDS {
        let flights = Arc::new(SingleFlight::<_, ()>::new());
        let ((entered, is_inside), (release, gate)) = (bounded(0), bounded::<()>(0));
        let (leads, shares) = (Arc::clone(&flights), Arc::clone(&flights));
        let leader = kind.start(move || {
            leads.call(1, || {
                entered.send(()).unwrap();
                gate.recv().unwrap();
                panic!("no luck");
            });
        });
        is_inside.recv().unwrap();
        let sharing = kind.start(move || shares.call(1, || unreachable!()));
        sharing.until_it_waits("once");
        release.send(()).unwrap();
        let payload = leader.outcome().unwrap_err();
        assert_eq!(payload.downcast_ref(), Some(&"no luck"));
        let payload = sharing.outcome().unwrap_err();
        assert!(payload.downcast_ref::<String>().unwrap().contains("no luck"));
        flights.call(1, || ());
    }
}

#[test]
fn a_forgotten_call_is_shared_no_more() {
    let flights = Arc::new(SingleFlight::new());
    let ((entered, is_inside), (release, gate)) = (bounded(0), bounded(0));
    let leads = Arc::clone(&flights);
    let leader = strands::go(move || {
        leads.call(String::from("key"), || {
            entered.send(()).unwrap();
            gate.recv().unwrap()
        })
    });
    is_inside.recv().unwrap();
    flights.forget("key");
    flights.forget("no such key");
    assert_eq!(flights.call("key".into(), || 2), 2);
    release.send(1).unwrap();
    assert_eq!(leader.join().unwrap(), 1);
    assert_eq!(flights.call("key".into(), || 3), 3);
}

/// Not even a key that panics when it is hashed leaves those who wait alone.
#[test]
fn a_key_that_panics_leaves_nobody_waiting() {
    static HASHED: AtomicUsize = AtomicUsize::new(0);
    #[derive(Clone, PartialEq, Eq)]
    struct Key;
    impl Hash for Key {
        fn hash<H: Hasher>(&self, _: &mut H) {
            // By the leader, by the one who shares its call, and by the leader again.
            assert_ne!(HASHED.fetch_add(1, SeqCst), 2, "in the hash");
        }
    }
    let flights = Arc::new(SingleFlight::new());
    let ((entered, is_inside), (release, gate)) = (bounded(0), bounded(0));
    let (leads, shares) = (Arc::clone(&flights), Arc::clone(&flights));
    let leader = strands::go(move || {
        leads.call(Key, || {
            entered.send(()).unwrap();
            gate.recv().unwrap()
        })
    });
    is_inside.recv().unwrap();
    let sharing = KINDS[0].start(move || shares.call(Key, || unreachable!()));
    sharing.until_it_waits("once");
    release.send(1).unwrap();
    assert!(leader.join().is_err());
    assert_eq!(sharing.join(), 1);
}

// ---- Pool ----

#[test]
fn what_was_put_back_is_used_again() {
    let made = Arc::new(AtomicUsize::new(0));
    let counts = Arc::clone(&made);
    let pool = Pool::new(move || counts.fetch_add(1, SeqCst));
    let (one, two) = (pool.get(), pool.get());
    assert_eq!((*one, *two), (0, 1));
    drop((one, two));
    let again: HashSet<usize> = [Pooled::take(pool.get()), Pooled::take(pool.get())].into();
    assert_eq!(again, [0, 1].into());
    assert_eq!((*pool.get(), made.load(SeqCst)), (2, 3));
    // Also by another thread, if its own shelf is empty.
    std::thread::scope(|s| s.spawn(|| assert_eq!(*pool.get(), 2)).join().unwrap());
    pool.clear();
    assert_eq!(*pool.get(), 3);
    *pool.get() += 10;
    assert_eq!(format!("{:?}", pool.get()), "13");
}

#[test]
fn a_pool_holds_so_many_and_drops_all_in_the_end() {
    static ALIVE: AtomicUsize = AtomicUsize::new(0);
    struct Counted;
    impl Default for Counted {
        fn default() -> Counted {
            ALIVE.fetch_add(1, SeqCst);
            Counted
        }
    }
    impl Drop for Counted {
        fn drop(&mut self) {
            ALIVE.fetch_sub(1, SeqCst);
        }
    }
    let pool = Pool::<Counted>::default();
    let many: Vec<_> = (0..1000).map(|_| pool.get()).collect();
    assert_eq!(ALIVE.load(SeqCst), 1000);
    drop(many);
    assert!((1..1000).contains(&ALIVE.load(SeqCst)));
    drop(pool);
    assert_eq!(ALIVE.load(SeqCst), 0);
}

/// Nothing is had by two at a time, and the destructor may use the pool.
#[test]
fn a_pool_is_shared_by_many() {
    let pool = Arc::new(Pool::new(|| AtomicUsize::new(0)));
    let all: Vec<_> = (0..200)
        .map(|n| {
            let pool = Arc::clone(&pool);
            KINDS[n % 20 / 19].start(move || {
                for _ in 0..50 {
                    let thing = pool.get();
                    assert_eq!(thing.fetch_add(1, SeqCst), 0);
                    strands::yield_now();
                    thing.fetch_sub(1, SeqCst);
                }
            })
        })
        .collect();
    all.into_iter().for_each(|one| one.join());
    let barren = Pool::<u8>::new(|| panic!("in make"));
    assert!(catch_unwind(AssertUnwindSafe(|| _ = barren.get())).is_err());
    barren.put(5);
    assert_eq!(*barren.get(), 5);
}

// ---- mpsc ----

#[test]
fn mpsc_has_the_face_of_std() {
    let (tx, rx) = mpsc::channel();
    assert_eq!(rx.try_recv(), Err(TryRecvError::Empty));
    tx.send(1).unwrap();
    tx.clone().send(2).unwrap();
    assert_eq!((rx.recv(), rx.try_iter().collect::<Vec<_>>()), (Ok(1), vec![2]));
    assert_eq!(format!("{tx:?} {rx:?}"), "Sender { .. } Receiver { .. }");
    tx.send(3).unwrap();
    drop(tx);
    assert_eq!(rx.iter().next(), Some(3));
    assert_eq!((rx.recv(), rx.try_recv()), (Err(RecvError), Err(TryRecvError::Disconnected)));

    let (tx, rx) = mpsc::sync_channel(1);
    tx.send(1).unwrap();
    assert_eq!(tx.try_send(2), Err(TrySendError::Full(2)));
    assert_eq!((&rx).into_iter().next(), Some(1));
    drop(rx);
    assert_eq!(tx.send(3), Err(SendError(3)));
    assert_eq!(tx.try_send(4), Err(TrySendError::Disconnected(4)));

    let (tx, rx) = mpsc::channel();
    assert_eq!(rx.recv_timeout(Duration::from_millis(1)), Err(RecvTimeoutError::Timeout));
    tx.send(1).unwrap();
    assert_eq!(rx.recv_timeout(Duration::from_secs(60)), Ok(1));
    drop(tx);
    assert_eq!(rx.recv_timeout(Duration::from_secs(60)), Err(RecvTimeoutError::Disconnected));
    let (tx, rx) = mpsc::sync_channel(0);
    let sender = strands::go(move || (0..5).for_each(|n| tx.send(n).unwrap()));
    assert_eq!(rx.into_iter().sum::<i32>(), 10);
    sender.join().unwrap();
}
