//! How many goroutines run at the same time: what is configured, or else what the machine and those who
//! administer it allow.

mod process;

use process::{Program, stage};
use std::fs;
use std::io;
use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::sync::atomic::{AtomicUsize, Ordering::SeqCst};
use std::time::{Duration, Instant};
use strands::runtime::{self, Config};

/// What the program printed as its number of processors.
#[track_caller]
fn processors(program: Program) -> usize {
    program.run().succeeded().value("processors").parse().expect("a number")
}

fn print_processors() {
    println!("processors {}", runtime::metrics().processors);
}

/// How many we have here, before any test restricts itself.
fn of_this_machine() -> usize {
    std::thread::available_parallelism().expect("the kernel tells").get()
}

// ---- What is configured ----

#[test]
fn the_environment_chooses() {
    let Some(program) = stage(|| {
        print_processors();
    }) else {
        return;
    };
    for count in [1, 3, 7] {
        assert_eq!(processors(program.clone().processors(count)), count);
    }
    assert_eq!(processors(program.clone().env("STRANDS_MAXPROCS", " 2 ")), 2);
    // What cannot be meant is named, and the default it is.
    for nonsense in ["0", "-1", "many", "", "1000000"] {
        let outcome = program.clone().env("STRANDS_MAXPROCS", nonsense).run().succeeded();
        assert_eq!(outcome.value("processors"), of_this_machine().to_string());
        assert!(outcome.stderr.contains("STRANDS_MAXPROCS"), "{outcome}");
    }
}

#[test]
fn the_program_chooses_before_the_environment() {
    let Some(program) = stage(|| {
        runtime::configure(Config::new().processors(5)).expect("it is early enough");
        print_processors();
    }) else {
        return;
    };
    assert_eq!(processors(program.clone()), 5);
    assert_eq!(processors(program.processors(3)), 5);
}

#[test]
fn the_environment_chooses_what_the_program_leaves_open() {
    let Some(program) = stage(|| {
        runtime::configure(Config::new().stack_size(1 << 20)).expect("it is early enough");
        print_processors();
    }) else {
        return;
    };
    assert_eq!(processors(program.processors(3)), 3);
}

#[test]
fn if_nobody_chooses_it_is_what_the_machine_has() {
    let Some(program) = stage(|| {
        print_processors();
    }) else {
        return;
    };
    assert_eq!(processors(program), of_this_machine());
}

#[test]
fn no_more_run_at_the_same_time_than_there_are_processors() {
    let Some(program) = stage(|| {
        let (running, most) = (Arc::new(AtomicUsize::new(0)), Arc::new(AtomicUsize::new(0)));
        let before = runtime::metrics();
        let handles: Vec<_> = (0..300)
            .map(|_| {
                let (running, most) = (Arc::clone(&running), Arc::clone(&most));
                strands::go(move || {
                    most.fetch_max(running.fetch_add(1, SeqCst) + 1, SeqCst);
                    // Much shorter than what would cost it the processor.
                    let end = Instant::now() + Duration::from_micros(500);
                    while Instant::now() < end {}
                    running.fetch_sub(1, SeqCst);
                })
            })
            .collect();
        handles.into_iter().for_each(|handle| handle.join().expect("no panic"));
        let after = runtime::metrics();
        // On a busy machine a thread that has to wait for the CPU looks as if it hogged it.
        let handoffs = after.handoffs_hogging + after.handoffs_blocked
            - before.handoffs_hogging
            - before.handoffs_blocked;
        let allowed = after.processors + handoffs as usize;
        assert!(most.load(SeqCst) <= allowed, "{most:?} ran at once. {after:?}");
    }) else {
        return;
    };
    for count in [1, 2, 3] {
        program.clone().processors(count).run().succeeded();
    }
}

// ---- What the affinity mask allows ----

/// The CPUs that we may run on.
fn affinity() -> libc::cpu_set_t {
    // SAFETY: all zero is a set, the empty one.
    let mut set: libc::cpu_set_t = unsafe { std::mem::zeroed() };
    // SAFETY: writes at most a set's size to a set.
    let result = unsafe { libc::sched_getaffinity(0, size_of_val(&set), &mut set) };
    assert_eq!(result, 0, "{}", io::Error::last_os_error());
    set
}

fn first_cpu() -> usize {
    let set = affinity();
    // SAFETY: the index is within the set.
    (0..libc::CPU_SETSIZE as usize).find(|cpu| unsafe { libc::CPU_ISSET(*cpu, &set) }).expect("one")
}

#[test]
fn a_process_that_was_given_one_cpu_has_one_processor() {
    let Some(program) = stage(|| {
        print_processors();
    }) else {
        return;
    };
    let cpu = first_cpu().to_string();
    match std::process::Command::new("taskset").args(["-c", &cpu, "true"]).status() {
        Ok(status) if status.success() => {}
        other => return println!("skipped: no taskset here ({other:?})"),
    }
    assert_eq!(processors(program.by(["taskset", "-c", &cpu])), 1);
}

#[test]
fn a_process_that_restricts_itself_has_as_many_as_it_left() {
    let Some(program) = stage(|| {
        let cpu = first_cpu();
        // SAFETY: all zero is a set, the empty one; the index is within it; a set is read.
        unsafe {
            let mut set: libc::cpu_set_t = std::mem::zeroed();
            libc::CPU_SET(cpu, &mut set);
            assert_eq!(libc::sched_setaffinity(0, size_of_val(&set), &set), 0);
        }
        print_processors();
        // And goroutines run there, hogs included.
        strands::run(|| strands::go(|| ()).join().expect("no panic"));
    }) else {
        return;
    };
    assert_eq!(processors(program), 1);
}

// ---- What the control groups allow ----

/// A group with another in it, removed when dropped.
struct Groups {
    outer: PathBuf,
    inner: PathBuf,
}

impl Groups {
    fn below(root: &Path) -> io::Result<Groups> {
        static MADE: AtomicUsize = AtomicUsize::new(0);
        let number = MADE.fetch_add(1, SeqCst);
        let outer = root.join(format!("strands-test-{}-{number}", std::process::id()));
        let groups = Groups { inner: outer.join("inner"), outer };
        fs::create_dir(&groups.outer)?;
        fs::create_dir(&groups.inner)?;
        Ok(groups)
    }

    /// The program, started in the inner group.
    fn hold(&self, program: Program) -> Program {
        let enter = r#"echo $$ > "$0" && exec "$@""#;
        let procs = self.inner.join("cgroup.procs").into_os_string();
        program.by(["sh".into(), "-c".into(), enter.into(), procs])
    }
}

impl Drop for Groups {
    fn drop(&mut self) {
        // A group empties a moment after its last process has been waited for.
        for group in [&self.inner, &self.outer] {
            for _ in 0..1000 {
                match fs::remove_dir(group) {
                    Err(error) if error.raw_os_error() == Some(libc::EBUSY) => {
                        std::thread::sleep(Duration::from_millis(5));
                    }
                    _ => break,
                }
            }
        }
    }
}

/// Where the kernel shows the hierarchy of the CPU controller, if it is of this type and has these options.
fn mount_of(kind: &str, option: &str) -> Option<PathBuf> {
    let mounts = fs::read_to_string("/proc/self/mounts").ok()?;
    mounts.lines().find_map(|line| {
        let mut fields = line.split(' ');
        let (_, place, is, options) =
            (fields.next()?, fields.next()?, fields.next()?, fields.next()?);
        let fits = is == kind && (option.is_empty() || options.split(',').any(|o| o == option));
        fits.then(|| PathBuf::from(place))
    })
}

#[test]
fn a_quota_of_a_group_above_ours_counts_v1() {
    let Some(program) = stage(|| {
        print_processors();
    }) else {
        return;
    };
    if of_this_machine() < 2 {
        return println!("skipped: there is only one CPU anyway");
    }
    let Some(root) = mount_of("cgroup", "cpu") else {
        return println!("skipped: no CPU controller of version 1 here");
    };
    let groups = Groups::below(&root);
    let set = groups.as_ref().map_err(ToString::to_string).and_then(|groups| {
        fs::write(groups.outer.join("cpu.cfs_period_us"), "100000").map_err(|e| e.to_string())?;
        fs::write(groups.outer.join("cpu.cfs_quota_us"), "100000").map_err(|e| e.to_string())
    });
    let (Ok(groups), Ok(())) = (&groups, &set) else {
        return println!("skipped: no group can be made in {}: {set:?}", root.display());
    };
    let quota = fs::read_to_string(groups.inner.join("cpu.cfs_quota_us")).expect("readable");
    assert_eq!(quota.trim(), "-1", "the inner group has none of its own");
    assert_eq!(processors(groups.hold(program.clone())), 1);
    // It is the quota that does it.
    fs::write(groups.outer.join("cpu.cfs_quota_us"), "-1").expect("writable");
    assert_eq!(processors(groups.hold(program.clone())), of_this_machine());
    // What is chosen goes first.
    fs::write(groups.outer.join("cpu.cfs_quota_us"), "100000").expect("writable");
    assert_eq!(processors(groups.hold(program).processors(3)), 3);
}

#[test]
fn a_quota_of_a_group_above_ours_counts_v2() {
    let Some(program) = stage(|| {
        print_processors();
    }) else {
        return;
    };
    if of_this_machine() < 2 {
        return println!("skipped: there is only one CPU anyway");
    }
    let Some(root) = mount_of("cgroup2", "") else {
        return println!("skipped: no control groups of version 2 here");
    };
    let controllers = fs::read_to_string(root.join("cgroup.controllers")).unwrap_or_default();
    if !controllers.split_whitespace().any(|controller| controller == "cpu") {
        return println!("skipped: the CPU controller is not of version 2 here: {controllers:?}");
    }
    let groups = Groups::below(&root);
    let set = groups.as_ref().map_err(ToString::to_string).and_then(|groups| {
        // For the groups below the root to have it. It may be on already.
        let _ = fs::write(root.join("cgroup.subtree_control"), "+cpu");
        fs::write(groups.outer.join("cpu.max"), "100000 100000").map_err(|e| e.to_string())
    });
    let (Ok(groups), Ok(())) = (&groups, &set) else {
        return println!("skipped: no group can be made in {}: {set:?}", root.display());
    };
    assert_eq!(processors(groups.hold(program.clone())), 1);
    fs::write(groups.outer.join("cpu.max"), "max 100000").expect("writable");
    assert_eq!(processors(groups.hold(program)), of_this_machine());
}

// ---- When threads are refused ----

/// In a group that allows so many processes and threads, if we may make one.
fn with_so_many_threads(program: Program, most: usize) -> Option<process::Outcome> {
    let root = mount_of("cgroup", "pids").or_else(|| mount_of("cgroup2", ""))?;
    let groups = Groups::below(&root).ok()?;
    fs::write(groups.inner.join("pids.max"), most.to_string()).ok()?;
    Some(groups.hold(program).run())
}

#[test]
fn without_threads_to_be_had_calls_that_block_are_late_but_not_lost() {
    let Some(program) = stage(|| {
        // One worker is there; the group is full.
        let first = strands::go(|| ());
        first.join().expect("no panic");
        let mut threads = Vec::new();
        while let Ok(thread) = std::thread::Builder::new().spawn(|| {
            std::thread::park();
        }) {
            threads.push(thread);
        }
        let (tx, rx) = strands::channel::unbounded();
        let calls: Vec<_> = (0..100)
            .map(|n| {
                let tx = tx.clone();
                strands::go(move || {
                    strands::blocking(|| {
                        std::thread::sleep(Duration::from_millis(3));
                        tx.send(n).expect("received");
                    });
                    n
                })
            })
            .collect();
        let sum: i32 = calls.into_iter().map(|call| call.join().expect("no panic")).sum();
        assert_eq!(sum, 4950);
        assert_eq!(rx.try_iter().count(), 100);
        assert_eq!(runtime::metrics().blocking_threads, 0, "the group was not full");
        threads.iter().for_each(|thread| thread.thread().unpark());
        threads.into_iter().for_each(|thread| thread.join().expect("no panic"));
        // And when there are threads again, they are used.
        let (here, there) = strands::run(|| {
            let id = || std::thread::current().id();
            (id(), strands::blocking(id))
        });
        assert_ne!(here, there);
    }) else {
        return;
    };
    for processors in [1, 2] {
        match with_so_many_threads(program.clone().processors(processors), 20) {
            Some(outcome) => drop(outcome.succeeded()),
            None => return println!("skipped: no group can be made that limits threads"),
        }
    }
}

#[test]
fn without_threads_to_be_had_work_goes_on_when_the_blocked_one_returns() {
    let Some(program) = stage(|| {
        let count: usize = process::parameter().parse().expect("a number");
        strands::go(|| ()).join().expect("no panic");
        let mut threads = Vec::new();
        while let Ok(thread) = std::thread::Builder::new().spawn(|| {
            std::thread::park();
        }) {
            threads.push(thread);
        }
        for _ in 0..10 {
            let blocks = strands::go(move || {
                let others: Vec<_> = (0..count).map(|n| strands::go(move || n)).collect();
                std::thread::sleep(Duration::from_millis(30));
                others
            });
            for handle in blocks.join().expect("no panic") {
                handle.join().expect("no panic");
            }
        }
        threads.iter().for_each(|thread| thread.thread().unpark());
    }) else {
        return;
    };
    for (processors, count) in [(1, "1"), (1, "100"), (2, "1"), (2, "100")] {
        let program = program.clone().processors(processors).parameter(count);
        match with_so_many_threads(program, 20) {
            Some(outcome) => drop(outcome.succeeded()),
            None => return println!("skipped: no group can be made that limits threads"),
        }
    }
}
