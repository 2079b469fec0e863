//! Threads beyond those for the processors: made when goroutines hold theirs, used again, and gone some while after they
//! are no longer needed.

mod holding;
mod process;

use holding::{a_thousand_run, join_all};
use process::stage;
use std::io::Read;
use std::time::{Duration, Instant};
use strands::{JoinHandle, go, runtime};

/// Goroutines that wait for the end of a pipe, in the kernel; and the end of it.
struct Blocked {
    handles: Vec<JoinHandle<()>>,
    end: std::io::PipeWriter,
}

impl Blocked {
    /// Returns when each holds a thread.
    fn start(count: usize) -> Blocked {
        let (reader, end) = std::io::pipe().expect("a pipe");
        let (tell, told) = std::sync::mpsc::channel();
        let handles = (0..count)
            .map(|_| {
                let (tell, mut reader) = (tell.clone(), reader.try_clone().expect("a descriptor"));
                go(move || {
                    tell.send(()).expect("received");
                    assert_eq!(reader.read(&mut [0]).expect("readable"), 0, "the end");
                })
            })
            .collect();
        (0..count).for_each(|_| told.recv().expect("it starts, on whichever thread"));
        Blocked { handles, end }
    }

    fn release(self) {
        drop(self.end);
        join_all(self.handles);
    }
}

/// The names of the process's threads that run goroutines, or calls that block for them.
fn threads() -> Vec<String> {
    let tasks = std::fs::read_dir("/proc/self/task").expect("a directory");
    let name = |task: std::io::Result<std::fs::DirEntry>| {
        // One that has ended meanwhile has none.
        std::fs::read_to_string(task.ok()?.path().join("comm")).ok()
    };
    let names = tasks.filter_map(name).map(|name| name.trim().to_owned());
    names
        .filter(|name| {
            name.starts_with("strands-")
                && !["strands-monitor", "strands-barrier"].contains(&&**name)
        })
        .collect()
}

/// Waits until there are no more threads than that. It takes ten seconds of nothing to do.
fn until_at_most(count: usize) {
    let begun = Instant::now();
    while threads().len() > count {
        assert!(begun.elapsed() < Duration::from_secs(40), "{:?}", threads());
        std::thread::sleep(Duration::from_millis(20));
    }
}

#[test]
fn workers_are_used_again_and_retire() {
    const BLOCKED: usize = 12;
    let Some(program) = stage(|| {
        let blocked = Blocked::start(BLOCKED);
        a_thousand_run();
        let (most, named) = (runtime::metrics().workers, threads().len());
        assert!(most > BLOCKED && named > BLOCKED, "{most} workers, {named} threads");
        blocked.release();
        for _ in 0..10 {
            let blocked = Blocked::start(BLOCKED / 2);
            a_thousand_run();
            blocked.release();
        }
        // Once the place is known whose goroutines block, those get threads of their own, and these again.
        let workers = runtime::metrics().workers;
        assert!(workers <= most + BLOCKED / 2 + 2, "{workers} workers, where {most} did");
        // What has to be done meanwhile is no reason for them to stay.
        let clock = go(|| (0..100).for_each(|_| strands::sleep(Duration::from_millis(1))));
        clock.join().expect("no panic");
        until_at_most(2);
        assert!(runtime::metrics().workers <= 2, "{:?}", runtime::metrics());
        // Those that have gone come back when they are needed.
        let blocked = Blocked::start(BLOCKED);
        a_thousand_run();
        assert!(runtime::metrics().workers > BLOCKED);
        blocked.release();
    }) else {
        return;
    };
    program.processors(2).env("STRANDS_DEBUG", "advice=off").run().succeeded();
}

#[test]
fn hosts_and_spare_threads_retire() {
    let Some(program) = stage(|| {
        let blocks = |time| go(move || std::thread::sleep(time));
        while runtime::metrics().offending_sites == 0 {
            blocks(Duration::from_millis(60)).join().expect("no panic");
        }
        join_all((0..10).map(|_| blocks(Duration::from_millis(60))));
        assert!(runtime::metrics().threads_apart >= 2, "{:?}", runtime::metrics());
        let call = || go(|| strands::blocking(|| std::thread::sleep(Duration::from_millis(60))));
        join_all((0..10).map(|_| call()));
        assert!(runtime::metrics().blocking_threads >= 2, "{:?}", runtime::metrics());
        until_at_most(1);
        let metrics = runtime::metrics();
        assert_eq!((metrics.threads_apart, metrics.blocking_threads), (0, 0), "{metrics:?}");
        assert!(metrics.workers <= 1, "{metrics:?}");
        // And come back.
        join_all((0..4).map(|_| blocks(Duration::ZERO)));
        join_all((0..4).map(|_| call()));
    }) else {
        return;
    };
    let program = program.env("STRANDS_AFFINITY", "home").env("STRANDS_DEBUG", "advice=off");
    program.processors(1).run().succeeded();
}
