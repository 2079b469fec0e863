//! Nothing hangs in silence: the report when nobody can ever go on, and no such report as long as somebody can.

mod dumped;
mod process;

use dumped::{Line, here, number};
use process::{Outcome, Program, stage};
use std::collections::HashMap;
use std::io::{Read, Write};
use std::panic::Location;
use std::sync::Arc;
use std::task::{Context, Waker};
use std::time::{Duration, Instant};
use strands::channel::{bounded, unbounded};
use strands::sync::{Barrier, Mutex, RwLock};
use strands::{JoinHandle, go, runtime, thread};

const VERDICT: &str = "fatal error: all goroutines are asleep - deadlock!";

/// Longer than the first look at a quiet program, and than some of those that follow.
const A_WHILE: Duration = Duration::from_millis(1500);

/// Starts a goroutine that will wait for good, and prints what the report has to say of it.
#[track_caller]
fn lost(name: &str, why: &str, wait: impl FnOnce() + Send + 'static) -> JoinHandle<()> {
    let builder = thread::Builder::new().name(name.to_owned()).stack_size(64 << 10);
    let handle = builder.spawn(wait).expect("spawned");
    println!("lost {}|{name}|{why}|{}", number(&handle), here(Location::caller()));
    handle
}

/// Runs a program that is to be found dead, with all that it said would be lost; and nothing else.
#[track_caller]
fn reported(program: Program) -> Outcome {
    let outcome = program.run();
    assert_eq!(outcome.status.code(), Some(2), "{outcome}");
    assert!(outcome.stderr.starts_with(VERDICT), "{outcome}");
    let mut found: HashMap<_, _> =
        Line::all(&outcome.stderr).into_iter().map(|line| (line.id, line)).collect();
    for lost in outcome.values("lost") {
        let [id, name, why, birth] = lost.split('|').collect::<Vec<_>>()[..] else {
            panic!("{lost}")
        };
        let id: u64 = id.parse().expect("a number");
        let line = found.remove(&id).unwrap_or_else(|| panic!("goroutine {id}: {outcome}"));
        assert_eq!(line.name.as_deref(), Some(name), "{outcome}");
        assert_eq!(line.why, why, "{outcome}");
        assert_eq!(line.birth, birth, "{outcome}");
        let age = line.age.unwrap_or_else(|| panic!("its age: {outcome}"));
        assert!((0.0..60.0).contains(&age), "{outcome}");
        let object = line.object.as_deref().unwrap_or_default();
        match why {
            "chan receive" | "chan send" => assert!(object.starts_with("channel 0x"), "{outcome}"),
            "join" => assert!(object.starts_with("goroutine "), "{outcome}"),
            "mutex lock" => assert!(object.starts_with("mutex 0x"), "{outcome}"),
            "rwlock read" | "rwlock write" => assert!(object.starts_with("rwlock 0x"), "{outcome}"),
            _ => assert_eq!(object, "", "{outcome}"),
        }
    }
    // `run` and the like have no name.
    found.retain(|_, line| line.name.is_some());
    assert!(found.is_empty(), "{found:?} {outcome}");
    outcome
}

/// Runs a program that takes its time, and must not be found dead meanwhile.
#[track_caller]
fn lived(program: Program) -> Outcome {
    let outcome = program.run().succeeded();
    assert!(!outcome.stderr.contains(VERDICT), "{outcome}");
    outcome
}

// ---- Found dead ----

#[test]
fn a_main_that_waits_for_itself_is_reported() {
    let Some(program) = stage(|| {
        let (tx, rx) = bounded::<()>(0);
        let _ = rx.recv();
        drop(tx);
    }) else {
        return;
    };
    let outcome = reported(program);
    assert!(outcome.stderr.contains("[chan receive, "), "{outcome}");
    assert!(outcome.stderr.contains("\nthread "), "{outcome}");
}

#[test]
fn a_main_that_waits_for_itself_after_a_long_silence_is_reported() {
    let Some(program) = stage(|| {
        // All that watches falls asleep, and nobody waits for anything.
        go(|| ()).join().expect("no panic");
        std::thread::sleep(A_WHILE);
        let (tx, rx) = bounded::<()>(0);
        let _ = rx.recv();
        drop(tx);
    }) else {
        return;
    };
    reported(program);
}

#[test]
fn a_main_that_waits_in_run_is_reported() {
    let Some(program) = stage(|| {
        strands::run(|| {
            let (tx, rx) = bounded::<()>(0);
            let _ = rx.recv();
            drop(tx);
        });
    }) else {
        return;
    };
    let outcome = reported(program);
    let lines = Line::all(&outcome.stderr);
    assert_eq!(lines.len(), 1, "{outcome}");
    assert_eq!((lines[0].id, lines[0].why.as_str()), (1, "chan receive"), "{outcome}");
    assert!(lines[0].birth.contains("tests/deadlock.rs:"), "{outcome}");
    assert!(outcome.stderr.contains("[join, "), "the thread that called run: {outcome}");
}

#[test]
fn goroutines_and_a_main_that_wait_for_each_other_are_reported() {
    let Some(program) = stage(|| {
        let (to_us, for_us) = bounded::<()>(0);
        let (to_them, for_them) = bounded::<()>(0);
        for n in 0..3 {
            let (to_us, for_them) = (to_us.clone(), for_them.clone());
            lost(&format!("waits \"{n}\"").replace('"', "'"), "chan receive", move || {
                if for_them.recv().is_ok() {
                    let _ = to_us.send(());
                }
            });
        }
        let full = Arc::new(bounded(1));
        full.0.send(()).expect("there is room");
        lost("sends", "chan send", move || full.0.send(()).unwrap_or_default());
        let _ = for_us.recv();
        drop(to_them);
    }) else {
        return;
    };
    reported(program);
}

#[test]
fn all_that_can_be_waited_for_is_named() {
    let Some(program) = stage(|| {
        lost("parks", "park", thread::park);
        let parked = lost("parks, too", "park", || {
            loop {
                thread::park();
            }
        });
        lost("joins", "join", move || drop(parked.join()));
        lost("scopes", "scope end", || {
            strands::scope(|s| drop(s.go(thread::park)));
        });
        // Those that wait by a rendezvous, and have waited before.
        let (tx, rx) = bounded::<()>(0);
        let receives = {
            let tx = tx.clone();
            lost("receives", "chan receive", move || {
                while rx.recv().is_ok() {}
                drop(tx);
            })
        };
        for _ in 0..10 {
            tx.send(()).expect("received");
        }
        strands::run(|| strands::sleep(Duration::from_millis(1)));
        receives.join().expect("never");
    }) else {
        return;
    };
    let outcome = reported(program);
    let unnamed = Line::all(&outcome.stderr).into_iter().filter(|line| line.name.is_none());
    assert_eq!(unnamed.count(), 1, "the child of the scope: {outcome}");
}

#[test]
fn goroutines_that_join_in_a_circle_are_reported() {
    let Some(program) = stage(|| {
        const RING: usize = 5;
        let ends: Vec<_> = (0..RING).map(|_| bounded::<JoinHandle<()>>(1)).collect();
        let handles: Vec<_> = ends
            .iter()
            .enumerate()
            .map(|(n, (_, rx))| {
                let rx = rx.clone();
                lost(&format!("joiner {n}"), "join", move || {
                    drop(rx.recv().expect("sent").join());
                })
            })
            .collect();
        for (n, handle) in handles.into_iter().enumerate() {
            ends[(n + 1) % RING].0.send(handle).expect("received");
        }
        let (tx, rx) = bounded::<()>(0);
        let _ = rx.recv();
        drop(tx);
    }) else {
        return;
    };
    reported(program);
}

// ---- Circles ----

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

#[test]
fn a_thousand_goroutines_are_reported_each() {
    let Some(program) = stage(|| {
        let (tx, rx) = bounded::<()>(0);
        let handles: Vec<_> = (0..1000)
            .map(|n| {
                let rx = rx.clone();
                lost(&format!("g{n}"), "chan receive", move || rx.recv().unwrap_or_default())
            })
            .collect();
        for handle in handles {
            handle.join().expect("never");
        }
        drop(tx);
    }) else {
        return;
    };
    let outcome = reported(program);
    assert_eq!(outcome.values("lost").count(), 1000);
}

#[test]
fn what_ends_in_a_deadlock_after_much_work_is_reported() {
    let Some(program) = stage(|| {
        for _ in 0..100 {
            let handles: Vec<_> = (0..100).map(|_| go(strands::yield_now)).collect();
            handles.into_iter().for_each(|handle| handle.join().expect("no panic"));
        }
        strands::run(|| {
            strands::sleep(Duration::from_millis(10));
            strands::blocking(|| std::thread::sleep(Duration::from_millis(10)));
            thread::park_timeout(Duration::from_millis(10));
        });
        lost("at last", "park", thread::park).join().expect("never");
    }) else {
        return;
    };
    reported(program);
}

/// What seemed alive when somebody looked ends a moment later: then they must look again.
#[test]
fn a_deadlock_that_begins_when_somebody_looks_is_reported() {
    let Some(program) = stage(|| {
        let micros: u64 = process::parameter().parse().expect("a number");
        // By then main has been blocked for long, and has asked whether anybody can still wake it.
        let late = Duration::from_millis(250);
        // When this one is asleep for good all is quiet, but for the other's deadline.
        go(move || {
            strands::sleep(late);
            thread::park();
        });
        let other = go(move || {
            strands::sleep(late + Duration::from_micros(micros));
            thread::park();
        });
        other.join().expect("never");
    }) else {
        return;
    };
    // As long as it takes until somebody looks, somewhat more or less.
    for micros in (4_000..10_000).step_by(500) {
        reported(program.clone().parameter(micros.to_string()));
    }
}

#[test]
fn a_deadlock_is_reported_though_somebody_holds_the_lock_of_stderr() {
    let Some(program) = stage(|| {
        let (tx, rx) = bounded::<()>(0);
        let stderr = std::io::stderr().lock();
        let stdout = std::io::stdout().lock();
        let _ = rx.recv();
        drop((tx, stderr, stdout));
    }) else {
        return;
    };
    reported(program);
}

#[test]
fn a_deadlock_of_threads_and_goroutines_is_reported_when_the_last_other_thread_has_ended() {
    let Some(program) = stage(|| {
        let (tx, rx) = bounded::<()>(0);
        for _ in 0..3 {
            let rx = rx.clone();
            std::thread::spawn(move || rx.recv());
        }
        // It says nothing when it goes.
        std::thread::spawn(|| std::thread::sleep(A_WHILE));
        lost("waits", "chan receive", move || rx.recv().unwrap_or_default()).join().expect("never");
        drop(tx);
    }) else {
        return;
    };
    let outcome = reported(program);
    assert!(outcome.took >= A_WHILE, "{outcome}");
    let threads = outcome.stderr.lines().filter(|line| line.starts_with("thread "));
    assert_eq!(threads.count(), 4, "{outcome}");
}

#[test]
fn a_deadlock_is_reported_after_main_has_slept() {
    let Some(program) = stage(|| {
        let parked = lost("parks", "park", thread::park);
        std::thread::sleep(A_WHILE);
        parked.join().expect("never");
    }) else {
        return;
    };
    let outcome = reported(program);
    let ages: Vec<_> = Line::all(&outcome.stderr).into_iter().filter_map(|line| line.age).collect();
    assert!(ages.iter().all(|age| *age >= 1.4), "it has waited for longer: {outcome}");
}

#[test]
fn a_deadlock_is_reported_when_surplus_workers_are_asleep() {
    let Some(program) = stage(|| {
        let pipes: Vec<_> = (0..4)
            .map(|_| {
                let (mut reader, writer) = std::io::pipe().expect("a pipe");
                let blocked = go(move || reader.read_exact(&mut [0]).expect("readable"));
                (writer, blocked)
            })
            .collect();
        go(|| ()).join().expect("no panic");
        for (mut writer, blocked) in pipes {
            writer.write_all(b"!").expect("writable");
            blocked.join().expect("no panic");
        }
        assert!(runtime::metrics().workers > 1);
        lost("parks", "park", thread::park).join().expect("never");
    }) else {
        return;
    };
    reported(program.processors(1));
}

// ---- Alive ----

#[test]
fn a_sleeping_goroutine_is_life() {
    let Some(program) = stage(|| {
        go(|| strands::sleep(A_WHILE)).join().expect("no panic");
        go(|| thread::park_timeout(A_WHILE)).join().expect("no panic");
    }) else {
        return;
    };
    lived(program);
}

#[test]
fn a_blocking_call_is_life() {
    let Some(program) = stage(|| {
        let (tx, rx) = bounded(0);
        let waits = go(move || rx.recv());
        go(move || {
            strands::blocking(move || {
                std::thread::sleep(A_WHILE);
                tx.send(())
            })
        })
        .join()
        .expect("no panic")
        .expect("received");
        waits.join().expect("no panic").expect("sent");
    }) else {
        return;
    };
    lived(program);
}

#[test]
fn a_thread_that_does_something_else_is_life() {
    let Some(program) = stage(|| {
        let (tx, rx) = bounded(0);
        std::thread::spawn(move || {
            std::thread::sleep(A_WHILE);
            tx.send(()).expect("received");
        });
        let parked = go(thread::park);
        rx.recv().expect("sent");
        parked.thread().unpark();
        parked.join().expect("no panic");
    }) else {
        return;
    };
    lived(program);
}

#[test]
fn a_thread_in_a_raw_read_is_life() {
    let Some(program) = stage(|| {
        let (tx, rx) = bounded(0);
        let (mut reader, mut writer) = std::io::pipe().expect("a pipe");
        std::thread::spawn(move || {
            reader.read_exact(&mut [0]).expect("readable");
            tx.send(()).expect("received");
        });
        // Who writes is a process: of ours nobody does anything.
        let mut sleep = std::process::Command::new("sh")
            .args(["-c", "sleep 1.5; echo"])
            .stdout(writer.try_clone().expect("a pipe can be cloned"))
            .spawn()
            .expect("a shell is everywhere");
        writer.flush().expect("nothing to flush");
        drop(writer);
        go(move || rx.recv()).join().expect("no panic").expect("sent");
        sleep.wait().expect("ours");
    }) else {
        return;
    };
    lived(program);
}

#[test]
fn a_thread_that_parks_in_its_own_way_is_life() {
    let Some(program) = stage(|| {
        let (tx, rx) = bounded(0);
        let (std_tx, std_rx) = std::sync::mpsc::channel::<()>();
        std::thread::spawn(move || {
            let _ = std_rx.recv_timeout(A_WHILE);
            thread::park_timeout(A_WHILE); // with a deadline, at our seam
            tx.send(()).expect("received");
        });
        go(move || rx.recv()).join().expect("no panic").expect("sent");
        drop(std_tx);
    }) else {
        return;
    };
    lived(program);
}

#[test]
fn a_main_that_sleeps_is_life() {
    let Some(program) = stage(|| {
        let parked: Vec<_> = (0..10).map(|_| go(thread::park)).collect();
        std::thread::sleep(A_WHILE);
        for goroutine in parked {
            goroutine.thread().unpark();
            goroutine.join().expect("no panic");
        }
    }) else {
        return;
    };
    lived(program);
}

#[test]
fn a_goroutine_that_blocks_its_thread_is_life() {
    let Some(program) = stage(|| {
        go(|| std::thread::sleep(A_WHILE)).join().expect("no panic");
    }) else {
        return;
    };
    lived(program.clone().processors(1));
    lived(program.processors(2));
}

#[test]
fn a_program_of_threads_only_is_left_alone() {
    let Some(program) = stage(|| {
        // It waits at our seam for long enough that somebody comes to look.
        let (tx, rx) = bounded(0);
        let sender = std::thread::spawn(move || {
            std::thread::sleep(A_WHILE);
            tx.send(())
        });
        rx.recv().expect("sent");
        sender.join().expect("no panic").expect("received");
    }) else {
        return;
    };
    lived(program);
}

/// Two threads that send each other a ball until then, so that one of them is blocked at any moment, and both
/// never. One of them also does this in between.
fn two_threads_play(until: Instant, mut also: impl FnMut() + Send + 'static) {
    let (tx, rx) = bounded(0);
    let (back_tx, back_rx) = bounded(0);
    let first = std::thread::spawn(move || {
        rx.iter().for_each(|()| back_tx.send(()).expect("received"));
    });
    let second = std::thread::spawn(move || {
        while Instant::now() < until {
            tx.send(()).expect("received");
            back_rx.recv().expect("sent");
            also();
        }
    });
    first.join().expect("no panic");
    second.join().expect("no panic");
}

/// Somewhat longer than it takes until somebody looks whether all are dead.
fn until_somebody_looks(round: u32) -> Duration {
    Duration::from_micros(u64::from(4_500 + round * 67 % 3_000))
}

/// At any moment all but one are blocked, and the one is mostly on its way: if ever the count of those who
/// can go on is wrong, this is where it shows.
#[test]
fn much_waiting_for_each_other_is_life() {
    type Play = fn(Instant);
    let kinds: [(&str, Play); 6] = [
        ("threads", |until| two_threads_play(until, || ())),
        // A goroutine is woken now and then, and when all is quiet again somebody looks.
        ("threads, and a goroutine now and then", |until| {
            let (tx, rx) = bounded(0);
            let woken = go(move || rx.iter().count());
            let (mut last, mut round) = (Instant::now(), 0);
            two_threads_play(until, move || {
                if last.elapsed() > until_somebody_looks(round) {
                    (last, round) = (Instant::now(), round + 1);
                    tx.send(()).expect("received");
                }
            });
            assert!(woken.join().expect("no panic") > 0);
        }),
        ("a thread and a goroutine", |until| {
            let (tx, rx) = bounded(0);
            let (back_tx, back_rx) = bounded(0);
            go(move || rx.iter().for_each(|()| back_tx.send(()).expect("received")));
            while Instant::now() < until {
                tx.send(()).expect("received");
                back_rx.recv().expect("sent");
            }
        }),
        // Whoever wakes us ends at once, and may be gone before it is counted.
        ("threads that come and go", |until| {
            while Instant::now() < until {
                let (tx, rx) = bounded(0);
                std::thread::spawn(move || tx.send(()));
                rx.recv().expect("sent");
            }
        }),
        ("goroutines and threads that come and go", |until| {
            let waits = go(move || {
                while Instant::now() < until {
                    let (tx, rx) = unbounded();
                    std::thread::spawn(move || tx.send(()));
                    rx.recv().expect("sent");
                }
            });
            waits.join().expect("no panic");
        }),
        ("goroutines and threads that come late and go", |until| {
            let waits = go(move || {
                for round in 0.. {
                    if Instant::now() > until {
                        break;
                    }
                    let (tx, rx) = unbounded();
                    std::thread::spawn(move || {
                        std::thread::sleep(until_somebody_looks(round));
                        tx.send(())
                    });
                    rx.recv().expect("sent");
                }
            });
            waits.join().expect("no panic");
        }),
    ];
    let Some(program) = stage(|| {
        let at: usize = process::parameter().parse().expect("a number");
        // Somebody is there to look, and somebody to be found dead.
        let parked = go(thread::park);
        kinds[at].1(Instant::now() + Duration::from_secs(3));
        parked.thread().unpark();
        parked.join().expect("no panic");
    }) else {
        return;
    };
    // All at the same time: each of them is late now and then.
    let runs: Vec<_> = (0..kinds.len())
        .map(|at| program.clone().parameter(at.to_string()))
        .map(|program| std::thread::spawn(|| program.run()))
        .collect();
    for (run, (kind, _)) in runs.into_iter().zip(kinds) {
        let outcome = run.join().expect("no panic");
        assert!(outcome.status.success(), "{kind}: {outcome}");
    }
}
