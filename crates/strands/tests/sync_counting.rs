//! `WaitGroup` and `Semaphore`.

mod child;
mod waiting;

use std::panic::{AssertUnwindSafe, RefUnwindSafe, UnwindSafe, catch_unwind};
use std::sync::atomic::{AtomicUsize, Ordering::SeqCst};
use std::time::{Duration, Instant};
use strands::channel::bounded;
use strands::sync::{
    AcquireError, AcquireTimeoutError, Arc, OwnedPermit, Permit, Semaphore, TryAcquireError,
    WaitGroup,
};
use waiting::{A_MOMENT, KINDS, Kind, PLENTY};

/// What the types promise.
const _: fn() = || {
    fn is_shared<T: Send + Sync + UnwindSafe + RefUnwindSafe>() {}
    is_shared::<WaitGroup>();
    is_shared::<Semaphore>();
    is_shared::<Permit<'static>>();
    is_shared::<OwnedPermit>();
};

// ---- WaitGroup ----

#[test]
fn a_wait_ends_when_all_is_done() {
    for kind in KINDS {
        let group = WaitGroup::new();
        group.wait();
        group.add(2);
        group.add(0);
        let waiting: Vec<_> = (0..40)
            .map(|_| {
                let group = group.clone();
                let waiting = kind.start(move || group.wait());
                waiting.until_it_waits("wait group");
                waiting
            })
            .take(if kind == Kind::Thread { 3 } else { 40 })
            .collect();
        group.done();
        assert!(waiting.iter().all(|waiting| waiting.waits("wait group")));
        group.done();
        waiting.into_iter().for_each(|waiting| waiting.join());
        group.wait();
        // Again.
        group.add(1);
        let other = group.clone();
        let waiting = kind.start(move || other.wait());
        waiting.until_it_waits("wait group");
        group.done();
        waiting.join();
    }
}

#[test]
fn one_done_too_many_panics_and_changes_nothing() {
    let group = WaitGroup::default();
    let payload = catch_unwind(|| group.done()).unwrap_err();
    assert_eq!(payload.downcast_ref(), Some(&"negative WaitGroup counter"));
    group.wait();
    group.add(1);
    assert_eq!(format!("{group:?}"), "WaitGroup { count: 1 }");
    assert!(catch_unwind(|| group.add(usize::MAX)).is_err());
    group.done();
    group.wait();
}

#[test]
fn a_wait_for_a_group_ends_with_its_time_or_in_time() {
    for kind in KINDS {
        let group = WaitGroup::new();
        group.add(1);
        let (late, later, past) = (group.clone(), group.clone(), group.clone());
        assert!(!kind.start(move || late.wait_timeout(A_MOMENT)).join());
        assert!(!kind.start(move || past.wait_deadline(Instant::now() - A_MOMENT)).join());
        let in_time = kind.start(move || later.wait_timeout(PLENTY));
        in_time.until_it_waits("wait group");
        group.done();
        assert!(in_time.join());
        assert!(group.wait_timeout(Duration::ZERO) && group.wait_deadline(Instant::now()));
    }
}

#[test]
fn goroutines_of_a_group_are_counted_until_they_end_be_it_by_a_panic() {
    let (group, ended) = (WaitGroup::new(), Arc::new(AtomicUsize::new(0)));
    let (gate, is_open) = bounded::<()>(0);
    for n in 0..10 {
        let (ended, is_open) = (Arc::clone(&ended), is_open.clone());
        group.go(move || {
            assert!(is_open.recv().is_err());
            ended.fetch_add(1, SeqCst);
            assert_ne!(n, 5, "one of them panics, as it should");
        });
    }
    assert!(!group.wait_timeout(A_MOMENT));
    drop(gate);
    group.wait();
    assert_eq!(ended.load(SeqCst), 10);
}

/// What they did is seen after the wait, whoever was the last.
#[test]
fn a_group_may_be_used_over_and_over() {
    let group = WaitGroup::new();
    let count = Arc::new(AtomicUsize::new(0));
    for round in 1..=50 {
        for _ in 0..20 {
            let count = Arc::clone(&count);
            group.go(move || count.fetch_add(1, SeqCst));
        }
        group.wait();
        assert_eq!(count.load(SeqCst), 20 * round);
    }
}

// ---- Semaphore ----

static IN_A_STATIC: Semaphore = Semaphore::new(1);

#[test]
fn permits_are_taken_and_come_back() {
    drop(IN_A_STATIC.acquire().unwrap());
    let gate = Arc::new(Semaphore::new(5));
    let one = gate.acquire().unwrap();
    let three = Arc::clone(&gate).acquire_many_owned(3).unwrap();
    assert_eq!((gate.available_permits(), one.count(), three.count()), (1, 1, 3));
    assert_eq!(gate.try_acquire_many(2).unwrap_err(), TryAcquireError::NoPermits);
    assert_eq!(gate.acquire_timeout(A_MOMENT).map(|p| p.count()), Ok(1));
    let last = Arc::clone(&gate).try_acquire_owned().unwrap();
    assert_eq!(gate.try_acquire().unwrap_err(), TryAcquireError::NoPermits);
    assert_eq!(gate.acquire_timeout(A_MOMENT).unwrap_err(), AcquireTimeoutError::Timeout);
    let past = Instant::now() - A_MOMENT;
    assert_eq!(gate.acquire_deadline(past).unwrap_err(), AcquireTimeoutError::Timeout);
    drop((one, three));
    assert_eq!(gate.acquire_deadline(past).map(|p| p.count()), Ok(1));
    assert_eq!(format!("{gate:?}"), "Semaphore { permits: 4, closed: false, .. }");
    last.forget();
    assert_eq!(gate.available_permits(), 4);
    gate.add_permits(1);
    assert_eq!(gate.available_permits(), 5);
    assert_eq!(gate.acquire_many(0).unwrap().count(), 0);
}

#[test]
fn those_who_wait_for_permits_are_served_in_order() {
    for kind in KINDS {
        let gate = Arc::new(Semaphore::new(3));
        let held = gate.acquire_many(3).unwrap();
        let (order, turns) = bounded(8);
        let start = |n: usize| {
            let (gate, order) = (Arc::clone(&gate), order.clone());
            let waiting = kind.start(move || {
                let permit = gate.acquire_many(n).unwrap();
                order.send(n).unwrap();
                permit.forget();
            });
            waiting.until_it_waits("semaphore acquire");
            waiting
        };
        // The large one goes first, though the small ones could have gone before.
        let waiting = [start(3), start(1), start(2)];
        assert!(gate.try_acquire().is_err());
        drop(held);
        assert_eq!(turns.recv(), Ok(3));
        assert!(waiting[1].waits("semaphore acquire"));
        gate.add_permits(1);
        assert_eq!(turns.recv(), Ok(1));
        gate.add_permits(1);
        assert!(gate.try_acquire().is_err(), "it is kept for the one who wants two");
        gate.add_permits(1);
        assert_eq!(turns.recv(), Ok(2));
        waiting.into_iter().for_each(|waiting| waiting.join());
        assert_eq!(gate.available_permits(), 0);
    }
}

#[test]
fn more_than_there_is_waits_until_it_is_added() {
    for kind in KINDS {
        let gate = Arc::new(Semaphore::new(0));
        let (greedy, modest) = (Arc::clone(&gate), Arc::clone(&gate));
        let greedy = kind.start(move || greedy.acquire_many(2).unwrap().count());
        greedy.until_it_waits("semaphore acquire");
        let modest = kind.start(move || modest.acquire().unwrap().count());
        modest.until_it_waits("semaphore acquire");
        gate.add_permits(1);
        assert!(greedy.waits("semaphore acquire") && modest.waits("semaphore acquire"));
        gate.add_permits(1);
        assert_eq!((greedy.join(), modest.join()), (2, 1));
        assert_eq!(gate.available_permits(), 2);
    }
}

/// One who gives up at the head of the line lets those behind it go on.
#[test]
fn who_gives_up_on_permits_makes_room() {
    for kind in KINDS {
        let gate = Arc::new(Semaphore::new(1));
        let greedy = Arc::clone(&gate);
        let greedy = kind.start(move || greedy.acquire_many_timeout(5, 8 * A_MOMENT).unwrap_err());
        greedy.until_it_waits("semaphore acquire");
        let modest = Arc::clone(&gate);
        kind.start(move || modest.acquire().unwrap().count()).join();
        assert_eq!(greedy.join(), AcquireTimeoutError::Timeout);
        assert_eq!(gate.available_permits(), 1);
    }
}

#[test]
fn a_closed_semaphore_lets_nobody_in_and_everybody_go() {
    for kind in KINDS {
        let gate = Arc::new(Semaphore::new(1));
        let held = gate.acquire().unwrap();
        let waiting: Vec<_> = (0..40)
            .map(|_| {
                let gate = Arc::clone(&gate);
                let waiting = kind.start(move || gate.acquire().map(Permit::forget));
                waiting.until_it_waits("semaphore acquire");
                waiting
            })
            .take(if kind == Kind::Thread { 3 } else { 40 })
            .collect();
        gate.close();
        gate.close();
        assert!(waiting.into_iter().all(|waiting| waiting.join() == Err(AcquireError)));
        drop(held);
        assert!(gate.is_closed());
        assert_eq!(gate.acquire().unwrap_err(), AcquireError);
        assert_eq!(gate.try_acquire().unwrap_err(), TryAcquireError::Closed);
        assert_eq!(gate.acquire_timeout(PLENTY).unwrap_err(), AcquireTimeoutError::Closed);
        assert_eq!(Arc::clone(&gate).acquire_owned().unwrap_err(), AcquireError);
    }
}

#[test]
fn more_permits_than_can_be_are_refused() {
    assert!(catch_unwind(|| Semaphore::new(usize::MAX)).is_err());
    let full = Semaphore::new(Semaphore::MAX_PERMITS);
    for n in [1, usize::MAX] {
        assert!(catch_unwind(AssertUnwindSafe(|| full.add_permits(n))).is_err());
    }
    assert_eq!(full.available_permits(), Semaphore::MAX_PERMITS);
    assert_eq!(full.try_acquire_many(usize::MAX).unwrap_err(), TryAcquireError::NoPermits);
}
