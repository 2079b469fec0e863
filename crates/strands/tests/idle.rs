//! A program in which nothing happens uses no CPU, whatever it has done before and whatever waits in it.

mod process;

use process::{Program, stage};
use std::fs;
use std::io::{Read, Write};
use std::time::{Duration, Instant};
use strands::channel::bounded;
use strands::{JoinHandle, go, runtime, thread};

/// In a second of idleness. A thread that looks round every millisecond uses more.
const LITTLE_CPU: Duration = Duration::from_millis(20);
const FEW_SWITCHES: u64 = 50;

/// What the process has used so far.
fn cpu_time() -> Duration {
    let mut time = libc::timespec { tv_sec: 0, tv_nsec: 0 };
    // SAFETY: writes a timespec.
    let result = unsafe { libc::clock_gettime(libc::CLOCK_PROCESS_CPUTIME_ID, &mut time) };
    assert_eq!(result, 0);
    Duration::new(time.tv_sec as u64, time.tv_nsec as u32)
}

/// How often any of its threads has gone to sleep by itself.
fn switches() -> u64 {
    let tasks = fs::read_dir("/proc/self/task").expect("/proc is mounted");
    let of = |status: &str| {
        let line = status.lines().find(|line| line.starts_with("voluntary_ctxt_switches"))?;
        line.split_whitespace().last()?.parse::<u64>().ok()
    };
    tasks
        .filter_map(|task| fs::read_to_string(task.ok()?.path().join("status")).ok())
        .filter_map(|status| of(&status))
        .sum()
}

/// How often the monitor has gone to sleep. Until it has given itself its name, never.
fn looks_of_the_monitor() -> u64 {
    let tasks = fs::read_dir("/proc/self/task").expect("/proc is mounted");
    let looks = tasks
        .filter_map(|task| fs::read_to_string(task.ok()?.path().join("status")).ok())
        .filter(|status| status.contains("strands-monitor"))
        .filter_map(|status| {
            let line = status.lines().find(|line| line.starts_with("voluntary_ctxt_switches"))?;
            line.split_whitespace().last()?.parse::<u64>().ok()
        });
    looks.sum()
}

/// Sleeps for a second, in which nothing else may happen.
fn be_idle() {
    be_idle_but_for(FEW_SWITCHES);
}

fn be_idle_but_for(most_switches: u64) {
    let mut windows = Vec::new();
    // The first may see the end of what was before: stacks that are trimmed, say.
    for _ in 0..5 {
        let (cpu, switched) = (cpu_time(), switches());
        std::thread::sleep(Duration::from_secs(1));
        let used = (cpu_time() - cpu, switches().saturating_sub(switched));
        windows.push(used);
        if used.0 < LITTLE_CPU && used.1 < most_switches {
            println!("idle {used:?}");
            return;
        }
    }
    panic!("it is never idle: {windows:?}\n{}", runtime::dump());
}

/// Some of everything.
fn work() {
    let handles: Vec<_> = (0..1000)
        .map(|n| {
            go(move || match n % 5 {
                0 => strands::yield_now(),
                1 => strands::sleep(Duration::from_micros(n)),
                2 => strands::blocking(|| ()),
                3 => thread::park_timeout(Duration::from_micros(n)),
                _ => drop(go(|| ()).join()),
            })
        })
        .collect();
    handles.into_iter().for_each(|handle| handle.join().expect("no panic"));
}

/// Uses so much of the stack.
fn recurse(bytes: usize) -> usize {
    let page = std::hint::black_box([1_u8; 4096]);
    if bytes <= page.len() { usize::from(page[0]) } else { recurse(bytes - page.len()) + 1 }
}

/// What the calling thread has used so far.
fn own_cpu_time() -> Duration {
    let mut time = libc::timespec { tv_sec: 0, tv_nsec: 0 };
    // SAFETY: writes a timespec.
    let result = unsafe { libc::clock_gettime(libc::CLOCK_THREAD_CPUTIME_ID, &mut time) };
    assert_eq!(result, 0);
    Duration::new(time.tv_sec as u64, time.tv_nsec as u32)
}

/// With one processor and with two, side by side: each counts what its own process does, and that is next to nothing.
fn all(program: Program) {
    std::thread::scope(|s| {
        for processors in [1, 2] {
            let program = program.clone().processors(processors);
            s.spawn(move || program.run().succeeded());
        }
    });
}

#[test]
fn a_runtime_without_goroutines_is_idle() {
    let Some(program) = stage(|| {
        assert_eq!(runtime::metrics().goroutines_started, 0);
        be_idle();
    }) else {
        return;
    };
    all(program);
}

#[test]
fn after_work_a_program_is_idle() {
    let Some(program) = stage(|| {
        work();
        be_idle();
    }) else {
        return;
    };
    all(program);
}

/// Where there can be no memory to be given back, nothing looks for it.
#[test]
fn after_work_that_took_little_memory_even_the_monitor_is_idle() {
    let Some(program) = stage(|| {
        work();
        // A time in which it has seen that all is quiet.
        std::thread::sleep(Duration::from_millis(300));
        let before = looks_of_the_monitor();
        std::thread::sleep(Duration::from_secs(1));
        let looks = looks_of_the_monitor() - before;
        assert!(looks < 6, "{looks}");
    }) else {
        return;
    };
    all(program);
}

#[test]
fn with_parked_goroutines_a_program_is_idle() {
    let Some(program) = stage(|| {
        let (tx, rx) = bounded::<()>(0);
        let waits: Vec<_> = (0..1000)
            .map(|n| {
                let rx = rx.clone();
                go(move || if n % 2 == 0 { thread::park() } else { rx.iter().for_each(drop) })
            })
            .collect();
        work();
        be_idle();
        // And is at work at once.
        work();
        drop(tx);
        for goroutine in waits {
            goroutine.thread().unpark();
            goroutine.join().expect("no panic");
        }
    }) else {
        return;
    };
    all(program);
}

/// Most looks find nobody awake then; but it is not as if the program had gone to sleep and woken up each time.
#[test]
fn the_monitor_looks_seldom_where_goroutines_only_wake_up_to_sleep_again() {
    let Some(program) = stage(|| {
        let (second, tick) = (Duration::from_secs(1), Duration::from_micros(200));
        let looks = go(move || {
            let (begun, before) = (Instant::now(), looks_of_the_monitor());
            while begun.elapsed() < second {
                strands::sleep(tick);
            }
            looks_of_the_monitor() - before
        });
        // Every 2 ms, and more often in the beginning; never more often for being on a slow machine.
        let looks = looks.join().unwrap();
        assert!((1..1000).contains(&looks), "{looks}");
    }) else {
        return;
    };
    all(program);
}

#[test]
fn with_far_deadlines_a_program_is_idle() {
    let Some(program) = stage(|| {
        for n in 0..100 {
            go(move || strands::sleep(Duration::from_secs(3600 + n)));
            go(move || thread::park_timeout(Duration::from_secs(7200 - n)));
        }
        work();
        be_idle();
    }) else {
        return;
    };
    all(program);
}

#[test]
fn with_waiting_threads_a_program_is_idle() {
    let Some(program) = stage(|| {
        let (tx, rx) = bounded::<()>(0);
        std::thread::spawn(move || rx.recv());
        std::thread::spawn(thread::park);
        std::thread::spawn(|| thread::park_timeout(Duration::from_secs(3600)));
        std::thread::spawn(std::thread::park);
        go(thread::park);
        work();
        be_idle();
        drop(tx);
    }) else {
        return;
    };
    all(program);
}

/// Who finds a buffered channel empty, or full, stays awake for a moment before it waits, and for no longer.
#[test]
fn with_those_who_wait_at_buffered_channels_a_program_is_idle() {
    let Some(program) = stage(|| {
        let (empty_tx, empty) = bounded::<()>(128);
        let (full, full_rx) = bounded(1);
        full.send(()).expect("there is room");
        let (receive, send) = (empty.clone(), full.clone());
        let waits = go(move || assert!(receive.recv().is_err() && send.send(()).is_err()));
        std::thread::spawn(move || empty.recv());
        std::thread::spawn(move || full.send(()));
        be_idle();
        drop((empty_tx, full_rx));
        waits.join().expect("no panic");
    }) else {
        return;
    };
    all(program);
}

#[test]
fn with_blocking_calls_in_progress_a_program_is_idle() {
    let Some(program) = stage(|| {
        let (mut reader, mut writer) = std::io::pipe().expect("a pipe");
        let call =
            go(move || strands::blocking(move || reader.read_exact(&mut [0]).expect("readable")));
        work();
        be_idle();
        writer.write_all(b"!").expect("writable");
        call.join().expect("no panic");
        be_idle();
    }) else {
        return;
    };
    all(program);
}

#[test]
fn with_stacks_that_were_deep_a_program_is_idle() {
    let Some(program) = stage(|| {
        // Of those that wait, and of those that have ended.
        let waits: Vec<_> = (0..100)
            .map(|n| {
                go(move || {
                    assert!(recurse(n * 5_000) > 0);
                    thread::park();
                })
            })
            .collect();
        let ended: Vec<_> = (0..100).map(|n| go(move || recurse(n * 5_000))).collect();
        ended.into_iter().for_each(|handle| assert!(handle.join().is_ok()));
        be_idle();
        for goroutine in waits {
            goroutine.thread().unpark();
            goroutine.join().expect("no panic");
        }
        be_idle();
    }) else {
        return;
    };
    all(program);
}

#[test]
fn with_goroutines_that_wait_deep_down_a_program_is_idle() {
    fn wait_below(bytes: usize) -> usize {
        let page = std::hint::black_box([1_u8; 4096]);
        if bytes <= page.len() {
            thread::park();
            return 0;
        }
        wait_below(bytes - page.len()) + usize::from(page[0])
    }
    let Some(program) = stage(|| {
        let waits: Vec<_> = (0..100).map(|n| go(move || wait_below(n * 5_000))).collect();
        work();
        be_idle();
        for goroutine in waits {
            goroutine.thread().unpark();
            goroutine.join().expect("no panic");
        }
    }) else {
        return;
    };
    all(program);
}

/// A goroutine that blocks its thread, and what ends that. When this returns it has a thread.
fn blocked() -> (std::io::PipeWriter, JoinHandle<()>) {
    let (mut reader, writer) = std::io::pipe().expect("a pipe");
    let (tx, rx) = bounded(1);
    let blocked = go(move || {
        tx.send(()).expect("received");
        reader.read_exact(&mut [0]).expect("readable");
    });
    rx.recv().expect("sent");
    (writer, blocked)
}

#[test]
fn after_hand_offs_a_program_is_idle() {
    let Some(program) = stage(|| {
        let hog = || {
            go(|| {
                let end = Instant::now() + Duration::from_millis(50);
                while Instant::now() < end {}
            })
        };
        let hogs: Vec<_> = (0..4).map(|_| hog()).collect();
        let pipes: Vec<_> = (0..4).map(|_| blocked()).collect();
        go(|| ()).join().expect("no panic");
        hogs.into_iter().for_each(|hog| hog.join().expect("no panic"));
        for (mut writer, blocked) in pipes {
            writer.write_all(b"!").expect("writable");
            blocked.join().expect("no panic");
        }
        assert!(runtime::metrics().workers > runtime::metrics().processors);
        work();
        be_idle();
    }) else {
        return;
    };
    all(program);
}

/// Somebody has to look round while a thread is blocked that may come back at any time; but not much.
#[test]
fn with_a_blocked_thread_a_program_is_almost_idle() {
    let Some(program) = stage(|| {
        let (mut writer, blocked) = blocked();
        work();
        be_idle_but_for(1000);
        writer.write_all(b"!").expect("writable");
        blocked.join().expect("no panic");
        be_idle();
    }) else {
        return;
    };
    all(program);
}

/// Who waits for a message on the only CPU leaves that to whoever makes it.
#[test]
fn on_one_cpu_nobody_spins_at_a_channel() {
    const MESSAGES: u32 = 100;
    const WORK: Duration = Duration::from_millis(2);
    let Some(program) = stage(|| {
        for capacity in [0, 1, 128] {
            let (tx, rx) = bounded(capacity);
            let producer = std::thread::spawn(move || {
                for _ in 0..MESSAGES {
                    let start = own_cpu_time();
                    while own_cpu_time() - start < WORK {}
                    tx.send(()).unwrap();
                }
            });
            let start = own_cpu_time();
            assert_eq!(rx.iter().count(), MESSAGES as usize);
            let used = own_cpu_time() - start;
            producer.join().unwrap();
            println!("capacity {capacity}: {used:?}");
            // Spinning, it would have as much of the CPU as the producer.
            assert!(used < WORK * MESSAGES / 10, "{used:?} with capacity {capacity}");
        }
    }) else {
        return;
    };
    program.by(["taskset", "-c", "0"]).run().succeeded();
}
