//! Nothing hangs in silence: the report when nobody can ever go on, and no such report as long as somebody can. What it tells
//! of circles is in `circles`.

mod dumped;
mod lost;
mod process;

use dumped::Line;
use lost::{A_WHILE, lived, lost, reported};
use process::stage;
use std::io::{Read, Write};
use std::sync::Arc;
use std::time::{Duration, Instant};
use strands::channel::{bounded, unbounded};
use strands::{JoinHandle, go, runtime, thread};

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
