//! A report of the dead tells who waits for whom in a circle, by whom locks are held, and no more than that.

mod dumped;
mod lost;
mod process;

use dumped::{Line, number};
use lost::{lost, reported};
use process::{Outcome, stage};
use std::sync::Arc;
use std::task::{Context, Waker};
use std::time::{Duration, Instant};
use strands::channel::bounded;
use strands::sync::{Barrier, Mutex, RwLock};
use strands::{JoinHandle, go, runtime};

/// The circles that a report tells of, with no addresses, and names only.
fn circles(outcome: &Outcome) -> Vec<String> {
    let told = outcome.stderr.lines().filter_map(|line| line.strip_prefix("a circle: "));
    told.map(|circle| {
        let words = circle.split(' ').filter(|word| !word.starts_with("0x"));
        words.filter(|word| word.parse::<u64>().is_err()).collect::<Vec<_>>().join(" ")
    })
    .collect()
}

/// Each of them locks a mutex, waits until all have, and locks that of the next.
fn philosophers(n: usize) -> Vec<JoinHandle<()>> {
    let forks: Arc<Vec<_>> = Arc::new((0..n).map(|_| Mutex::new(())).collect());
    let seated = Arc::new(Barrier::new(n));
    (0..n)
        .map(|at| {
            let (forks, seated) = (Arc::clone(&forks), Arc::clone(&seated));
            lost(&format!("philosopher{at}"), "mutex lock", move || {
                let _left = forks[at].lock();
                seated.wait();
                let _right = forks[(at + 1) % forks.len()].lock();
            })
        })
        .collect()
}

#[test]
fn two_goroutines_that_lock_in_different_orders_are_a_circle() {
    let Some(program) = stage(|| {
        for philosopher in philosophers(2) {
            drop(philosopher.join());
        }
    }) else {
        return;
    };
    for n in [1, 2] {
        let outcome = reported(program.clone().processors(n));
        assert_eq!(
            circles(&outcome),
            ["goroutine \"philosopher0\" waits for mutex held by goroutine \"philosopher1\", \
              which waits for mutex held by goroutine \"philosopher0\""],
            "{outcome}"
        );
        // The lines of those who wait say it, too, with numbers.
        for line in Line::all(&outcome.stderr) {
            let object = line.object.expect("a mutex");
            assert!(object.contains(", held by goroutine "), "{outcome}");
        }
    }
}

#[test]
fn philosophers_that_starve_are_a_circle_and_who_waits_for_them_is_not_in_it() {
    let Some(program) = stage(|| {
        let lock = Arc::new(Mutex::new(()));
        let guard = lock.lock();
        let onlooker = Arc::clone(&lock);
        lost("onlooker", "mutex lock", move || drop(onlooker.lock()));
        for philosopher in philosophers(5) {
            drop(philosopher.join());
        }
        drop(guard);
    }) else {
        return;
    };
    for n in [1, 2] {
        let outcome = reported(program.clone().processors(n));
        let [circle] = &circles(&outcome)[..] else { panic!("{outcome}") };
        for at in 0..5 {
            let step = format!(
                "goroutine \"philosopher{at}\"{} waits for mutex held by goroutine \"philosopher{}\"",
                if at == 0 { "" } else { ", which" },
                (at + 1) % 5
            );
            assert!(circle.contains(&step), "{step} {outcome}");
        }
        assert_eq!(circle.matches(" waits for mutex ").count(), 5, "{outcome}");
        let main = ", held by thread \"main\"";
        let named = Line::all(&outcome.stderr).into_iter().filter(|line| {
            line.name.as_deref() == Some("onlooker")
                && line.object.as_ref().is_some_and(|object| object.ends_with(main))
        });
        let alone = outcome.stderr.contains(", held by thread ");
        assert!(named.count() == 1 || alone, "{outcome}");
    }
}

#[test]
fn a_circle_is_of_those_who_have_the_locks_now_not_of_those_who_had_them() {
    let Some(program) = stage(|| {
        let a = Arc::new(Mutex::new(()));
        let b = Arc::new(Mutex::new(()));
        let (first_has_a, second_waits, third_waits) = (bounded(0), bounded(0), bounded::<()>(0));
        let first = {
            let (a, tx, rx) = (Arc::clone(&a), first_has_a.0.clone(), third_waits.1.clone());
            go(move || {
                let guard = a.lock();
                tx.send(()).expect("received");
                rx.recv().expect("sent");
                drop(guard);
            })
        };
        first_has_a.1.recv().expect("sent");
        // In line for `a` before those who will form the circle.
        let waiting = |name: &'static str| {
            let (a, b, tx) = (Arc::clone(&a), Arc::clone(&b), second_waits.0.clone());
            lost(name, "mutex lock", move || {
                let _b = (name == "third").then(|| b.lock());
                tx.send(()).expect("received");
                let _a = a.lock();
                let _b = b.lock();
            })
        };
        let third = waiting("third");
        second_waits.1.recv().expect("sent");
        until_it_waits(&third);
        let _second = waiting("second");
        second_waits.1.recv().expect("sent");
        until_it_waits(&_second);
        third_waits.0.send(()).expect("received");
        first.join().expect("no panic");
        drop(third.join());
    }) else {
        return;
    };
    // `third` gets `a` and then wants `b`, which it has.
    let outcome = reported(program);
    let told = circles(&outcome);
    assert_eq!(told, ["goroutine \"third\" waits for mutex held by itself"], "{outcome}");
    let second = Line::all(&outcome.stderr)
        .into_iter()
        .find(|line| line.name.as_deref() == Some("second"))
        .and_then(|line| line.object);
    assert!(second.expect("a mutex").ends_with(" \"third\""), "{outcome}");
}

/// Waits until a goroutine is in line for a mutex.
#[track_caller]
fn until_it_waits(handle: &JoinHandle<()>) {
    let begun = Instant::now();
    let waits =
        |line: Line| line.id == number(handle) && line.why == "mutex lock" && line.age.is_some();
    while !Line::all(&runtime::dump()).into_iter().any(waits) {
        assert!(begun.elapsed() < Duration::from_secs(30), "{}", runtime::dump());
        std::thread::sleep(Duration::from_millis(1));
    }
}

#[test]
fn who_locks_a_mutex_that_it_holds_is_a_circle_of_one() {
    let Some(program) = stage(|| {
        let waits = lost("absent-minded", "mutex lock", || {
            let lock = Mutex::new(());
            let _once = lock.lock();
            let _twice = lock.lock();
        });
        drop(waits.join());
    }) else {
        return;
    };
    let outcome = reported(program);
    let told = ["goroutine \"absent-minded\" waits for mutex held by itself"];
    assert_eq!(circles(&outcome), told, "{outcome}");
}

#[test]
fn a_thread_is_named_in_a_circle() {
    let Some(program) = stage(|| {
        let ours = Arc::new(Mutex::new(()));
        let guard = ours.lock();
        let theirs = Arc::clone(&ours);
        let joins = lost("wants", "mutex lock", move || drop(theirs.lock()));
        drop(joins.join());
        drop(guard);
    }) else {
        return;
    };
    let outcome = reported(program);
    let [circle] = &circles(&outcome)[..] else { panic!("{outcome}") };
    // The test runs on a thread of its test's name.
    let told = "goroutine \"wants\" waits for mutex held by thread ";
    assert!(circle.starts_with(told), "{outcome}");
    assert!(circle.ends_with(", which joins goroutine \"wants\""), "{outcome}");
}

#[test]
fn a_writer_and_a_reader_are_a_circle() {
    let Some(program) = stage(|| {
        let locks = Arc::new((RwLock::new(()), RwLock::new(())));
        let both = Arc::new(Barrier::new(2));
        let (locks_too, both_too) = (Arc::clone(&locks), Arc::clone(&both));
        let first = lost("first", "rwlock read", move || {
            let _writes = locks.0.write();
            both.wait();
            let _reads = locks.1.read();
        });
        lost("second", "rwlock write", move || {
            let _writes = locks_too.1.write();
            both_too.wait();
            let _writes = locks_too.0.write();
        });
        drop(first.join());
    }) else {
        return;
    };
    let outcome = reported(program);
    assert_eq!(
        circles(&outcome),
        [
            "goroutine \"first\" waits for rwlock whose writer is goroutine \"second\", which waits for rwlock \
          whose writer is goroutine \"first\""
        ],
        "{outcome}"
    );
}

#[test]
fn where_nobody_waits_for_itself_no_circle_is_told() {
    let Some(program) = stage(|| {
        // One holds a lock for good and waits for a message; the other waits for the lock. A third wants to
        // write what is read, and a fourth waits for a lock whose guard was leaked.
        let lock = Arc::new(Mutex::new(()));
        let read = Arc::new(RwLock::new(()));
        let (tx, rx) = bounded::<()>(0);
        let (holds_lock, is_read, has) = (Arc::clone(&lock), Arc::clone(&read), bounded(0));
        lost("holds", "chan receive", move || {
            let _guard = (holds_lock.lock(), is_read.read());
            has.0.send(()).expect("received");
            let _ = rx.recv();
        });
        has.1.recv().expect("sent");
        lost("waits", "mutex lock", move || drop(lock.lock()));
        lost("writes", "rwlock write", move || drop(read.write()));
        let leaked = Arc::new(Mutex::new(()));
        let leaks = Arc::clone(&leaked);
        go(move || std::mem::forget(leaks.lock())).join().expect("no panic");
        let last = lost("wants what is lost", "mutex lock", move || drop(leaked.lock()));
        drop(last.join());
        drop(tx);
    }) else {
        return;
    };
    let outcome = reported(program);
    assert!(circles(&outcome).is_empty(), "{outcome}");
    assert!(outcome.stderr.contains("\"waits\" [mutex lock, "), "{outcome}");
}

#[test]
fn a_lock_that_is_free_is_held_by_nobody() {
    let Some(program) = stage(|| {
        let lock = Arc::new(Mutex::new(()));
        let (has, may_go, never) = (bounded(0), bounded::<()>(0), bounded::<()>(0));
        let holds = Arc::clone(&lock);
        let owner = lost("owner", "chan receive", move || {
            let guard = holds.lock();
            has.0.send(()).expect("received");
            may_go.1.recv().expect("sent");
            drop(guard);
            let _ = never.1.recv();
        });
        has.1.recv().expect("sent");
        // First in line is a future that is woken, and then polled by nobody.
        let mut first = Box::pin(lock.lock_async());
        let mut context = Context::from_waker(Waker::noop());
        assert!(first.as_mut().poll(&mut context).is_pending());
        let waits = Arc::clone(&lock);
        let second = lost("second", "mutex lock", move || drop(waits.lock()));
        until_it_waits(&second);
        may_go.0.send(()).expect("received");
        drop(second.join());
        drop((owner, never.0));
    }) else {
        return;
    };
    let outcome = reported(program);
    assert!(!outcome.stderr.contains(", held by "), "{outcome}");
}
