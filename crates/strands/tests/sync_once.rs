//! `Once`, `OnceLock`, `LazyLock` and `Barrier`: what std's promise, for goroutines and for threads.

mod child;
mod waiting;

use std::cell::Cell;
use std::panic::{AssertUnwindSafe, RefUnwindSafe, UnwindSafe, catch_unwind};
use std::sync::atomic::{AtomicUsize, Ordering::SeqCst};
use strands::channel::bounded;
use strands::sync::{Arc, Barrier, LazyLock, Once, OnceLock};
use waiting::{KINDS, Kind};

/// What the types promise.
const _: fn() = || {
    fn is_shared<T: Send + Sync + UnwindSafe + RefUnwindSafe>() {}
    fn is_send<T: Send>() {}
    is_shared::<Once>();
    is_shared::<OnceLock<String>>();
    is_shared::<LazyLock<String>>();
    is_shared::<Barrier>();
    is_send::<OnceLock<Cell<u8>>>();
};

fn message(result: Result<(), Box<dyn std::any::Any + Send>>) -> String {
    let payload = result.expect_err("it panics");
    match payload.downcast::<String>() {
        Ok(text) => *text,
        Err(payload) => (*payload.downcast::<&str>().expect("a text")).to_owned(),
    }
}

fn caught(f: impl FnOnce()) -> Result<(), Box<dyn std::any::Any + Send>> {
    catch_unwind(AssertUnwindSafe(f))
}

#[test]
fn it_happens_once_and_those_who_come_meanwhile_wait() {
    for runner in KINDS {
        for kind in KINDS {
            let (once, count) = (Arc::new(Once::new()), Arc::new(AtomicUsize::new(0)));
            let ((entered, is_inside), (release, gate)) = (bounded(0), bounded(0));
            let (runs, counts) = (Arc::clone(&once), Arc::clone(&count));
            let runner = runner.start(move || {
                runs.call_once(|| {
                    entered.send(()).unwrap();
                    gate.recv().unwrap();
                    counts.fetch_add(1, SeqCst);
                });
            });
            is_inside.recv().unwrap();
            assert!(!once.is_completed());
            let waiting: Vec<_> = (0..3)
                .map(|_| {
                    let (once, count) = (Arc::clone(&once), Arc::clone(&count));
                    let waiting = kind.start(move || {
                        once.call_once(|| unreachable!("another runs it"));
                        count.load(SeqCst)
                    });
                    waiting.until_it_waits("once");
                    waiting
                })
                .collect();
            release.send(()).unwrap();
            assert!(waiting.into_iter().all(|waiting| waiting.join() == 1));
            runner.join();
            assert!(once.is_completed());
            once.wait();
        }
    }
}

#[test]
fn a_once_is_poisoned_as_in_std() {
    macro_rules! seen {
        ($once:ty) => {{
            let once = <$once>::new();
            let mut seen = vec![message(caught(|| once.call_once(|| panic!("first"))))];
            seen.push(message(caught(|| once.call_once(|| ()))));
            seen.push(message(caught(|| once.wait())));
            let again = caught(|| {
                once.call_once_force(|state| {
                    assert!(state.is_poisoned());
                    panic!("second")
                });
            });
            seen.push(message(again));
            seen.push(once.is_completed().to_string());
            once.call_once_force(|state| assert!(state.is_poisoned()));
            seen.push(once.is_completed().to_string());
            once.call_once(|| unreachable!());
            once.call_once_force(|_| unreachable!());
            once.wait();
            once.wait_force();
            seen
        }};
    }
    let (ours, theirs) = (seen!(Once), seen!(std::sync::Once));
    assert_eq!(ours, theirs);
    let fresh = Once::new();
    fresh.call_once_force(|state| assert!(!state.is_poisoned()));
}

/// The closure that fails lets the next one try.
#[test]
fn when_a_closure_panics_those_who_wait_find_out() {
    for kind in KINDS {
        let once = Arc::new(Once::new());
        let ((entered, is_inside), (release, gate)) = (bounded(0), bounded::<()>(0));
        let runs = Arc::clone(&once);
        let fails = Kind::Goroutine.start(move || {
            runs.call_once(|| {
                entered.send(()).unwrap();
                gate.recv().unwrap();
                panic!("in the closure");
            });
        });
        is_inside.recv().unwrap();
        let (plain, force) = (Arc::clone(&once), Arc::clone(&once));
        let plain = kind.start(move || plain.call_once(|| ()));
        plain.until_it_waits("once");
        release.send(()).unwrap();
        assert!(fails.outcome().is_err());
        assert!(plain.outcome().is_err());
        kind.start(move || force.call_once_force(|_| ())).join();
        assert!(once.is_completed());
    }
}

#[test]
fn a_place_is_filled_once() {
    let mut place = OnceLock::new();
    assert!(place.get().is_none() && place.get_mut().is_none());
    assert_eq!(format!("{place:?}"), "OnceLock(<uninit>)");
    assert_eq!(place.set(1), Ok(()));
    assert_eq!(place.set(2), Err(2));
    assert_eq!((place.get_or_init(|| unreachable!()), place.wait()), (&1, &1));
    *place.get_mut().unwrap() = 3;
    assert_eq!(format!("{place:?}"), "OnceLock(3)");
    assert_eq!(place.clone(), OnceLock::from(3));
    assert_eq!(place.take(), Some(3));
    assert_eq!(place, OnceLock::default());
    assert_eq!(*place.get_or_init(|| 4), 4);
    assert_eq!(place.into_inner(), Some(4));
    assert_eq!(OnceLock::<u8>::new().into_inner(), None);
}

#[test]
fn one_makes_the_value_and_others_wait_for_it() {
    for kind in KINDS {
        let place = Arc::new(OnceLock::new());
        let ((entered, is_inside), (release, gate)) = (bounded(0), bounded(0));
        let (made, waited) = (Arc::clone(&place), Arc::clone(&place));
        let early = kind.start(move || *waited.wait());
        early.until_it_waits("once");
        let maker = Kind::Goroutine.start(move || {
            *made.get_or_init(|| {
                entered.send(()).unwrap();
                gate.recv().unwrap()
            })
        });
        is_inside.recv().unwrap();
        let asks = Arc::clone(&place);
        let asks = kind.start(move || *asks.get_or_init(|| unreachable!()));
        asks.until_it_waits("once");
        assert_eq!(place.get(), None);
        release.send(7).unwrap();
        assert_eq!((early.join(), maker.join(), asks.join()), (7, 7, 7));
    }
}

#[test]
fn a_place_stays_empty_when_its_maker_panics() {
    let place = OnceLock::new();
    assert!(caught(|| _ = place.get_or_init(|| panic!("in the closure"))).is_err());
    assert_eq!(place.get(), None);
    assert_eq!(*place.get_or_init(|| 5), 5);
}

#[test]
fn values_in_places_are_dropped_once() {
    static DROPPED: AtomicUsize = AtomicUsize::new(0);
    struct Counts;
    impl Drop for Counts {
        fn drop(&mut self) {
            DROPPED.fetch_add(1, SeqCst);
        }
    }
    drop(OnceLock::from(Counts));
    drop(OnceLock::<Counts>::new());
    drop(OnceLock::from(Counts).into_inner());
    assert!(OnceLock::from(Counts).set(Counts).is_err());
    assert_eq!(DROPPED.load(SeqCst), 4);
}

/// The place may hold what borrows from something that ends at the same time.
#[test]
fn a_place_may_hold_a_borrow() {
    let (text, place) = (String::from("text"), OnceLock::new());
    assert_eq!(*place.get_or_init(|| text.as_str()), "text");
}

#[test]
fn a_lazy_value_is_made_when_asked_for() {
    static MADE: AtomicUsize = AtomicUsize::new(0);
    static LAZY: LazyLock<String> = LazyLock::new(|| {
        MADE.fetch_add(1, SeqCst);
        "made".to_owned()
    });
    assert_eq!(format!("{LAZY:?}"), "LazyLock(<uninit>)");
    assert!(LazyLock::get(&LAZY).is_none());
    let all: Vec<_> = KINDS.map(|kind| kind.start(|| LAZY.len())).into();
    assert!(all.into_iter().all(|one| one.join() == 4));
    assert_eq!((MADE.load(SeqCst), LazyLock::force(&LAZY).as_str()), (1, "made"));
    assert_eq!(format!("{LAZY:?}"), "LazyLock(\"made\")");
    let mut own = LazyLock::new(|| 1);
    *own += 1;
    *LazyLock::force_mut(&mut own) += 1;
    assert_eq!((LazyLock::get(&own), *own), (Some(&3), 3));
    assert_eq!(*LazyLock::<u8>::default(), 0);
}

#[test]
fn a_lazy_value_is_poisoned_as_in_std() {
    macro_rules! seen {
        ($lazy:ident) => {{
            let lazy: $lazy<u8> = $lazy::new(|| panic!("in the closure"));
            let first = message(caught(|| _ = *lazy));
            (first, message(caught(|| _ = *lazy)))
        }};
    }
    use std::sync::LazyLock as Theirs;
    assert_eq!(seen!(LazyLock), seen!(Theirs));
}

#[test]
fn a_barrier_lets_all_pass_together_with_one_leader() {
    for kind in KINDS {
        let barrier = Arc::new(Barrier::new(4));
        for _round in 0..5 {
            let waiting: Vec<_> = (0..3)
                .map(|_| {
                    let barrier = Arc::clone(&barrier);
                    let waiting = kind.start(move || barrier.wait().is_leader());
                    waiting.until_it_waits("barrier");
                    waiting
                })
                .collect();
            assert!(barrier.wait().is_leader());
            assert!(waiting.into_iter().all(|waiting| !waiting.join()));
        }
    }
}

#[test]
fn a_barrier_for_nobody_holds_nobody_up() {
    for size in [0, 1] {
        let barrier = Barrier::new(size);
        assert!(barrier.wait().is_leader() && barrier.wait().is_leader());
    }
}

/// Those who are through already may wait for the next round before all of this round have gone.
#[test]
fn the_rounds_of_a_barrier_do_not_mix() {
    const SIZE: usize = 70;
    const ROUNDS: usize = 20;
    let barrier = Arc::new(Barrier::new(SIZE));
    let rounds: Arc<Vec<AtomicUsize>> =
        Arc::new((0..ROUNDS).map(|_| AtomicUsize::new(0)).collect());
    let all: Vec<_> = (0..SIZE)
        .map(|n| {
            let (barrier, rounds) = (Arc::clone(&barrier), Arc::clone(&rounds));
            let kind = if n % 10 == 0 { Kind::Thread } else { Kind::Goroutine };
            kind.start(move || {
                let mut led = 0;
                for round in &*rounds {
                    round.fetch_add(1, SeqCst);
                    led += usize::from(barrier.wait().is_leader());
                    assert_eq!(round.load(SeqCst), SIZE);
                }
                led
            })
        })
        .collect();
    assert_eq!(all.into_iter().map(|one| one.join()).sum::<usize>(), ROUNDS);
}
