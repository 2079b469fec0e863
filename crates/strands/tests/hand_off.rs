//! Threads that goroutines hold: hand-off from those that are blocked, for whatever reason, and from those that
//! compute. Calls that are known to block are in `blocking`.
//!
//! Where a test has to show that something goes on *while* something else does not, the second waits for
//! the first: with a scheduler that gets it wrong the test hangs, and is ended by its process's patience.

mod holding;
mod process;

use holding::{a_thousand_run, compute_until, is_set, join_all, set};
use process::{on_processors, stage};
use std::io::{Read, Write};
use std::process::{Command, Stdio};
use std::sync::atomic::{AtomicBool, AtomicI32, AtomicUsize, Ordering::SeqCst};
use std::sync::{Arc, Barrier, Condvar, Mutex};
use std::time::{Duration, Instant};
use strands::{JoinHandle, go, runtime};

const ONE: &[usize] = &[1];
const ONE_AND_TWO: &[usize] = &[1, 2];

/// A thread-blocking call in progress, and what ends it.
struct Blocked {
    handle: JoinHandle<()>,
    release: Box<dyn FnOnce()>,
}

impl Blocked {
    /// Starts a goroutine that runs `block`, and returns when it is about to.
    fn by(block: impl FnOnce() + Send + 'static, release: impl FnOnce() + 'static) -> Blocked {
        let about_to = Arc::new(AtomicBool::new(false));
        let handle = {
            let about_to = Arc::clone(&about_to);
            go(move || {
                set(&about_to);
                block();
            })
        };
        while !is_set(&about_to) {
            strands::yield_now();
        }
        Blocked { handle, release: Box::new(release) }
    }

    fn in_a_pipe() -> Blocked {
        let (mut reader, mut writer) = std::io::pipe().expect("a pipe");
        Blocked::by(
            move || reader.read_exact(&mut [0]).expect("readable"),
            move || writer.write_all(b"!").expect("writable"),
        )
    }

    fn in_sleep() -> Blocked {
        let released = Arc::new(AtomicBool::new(false));
        let release = Arc::clone(&released);
        Blocked::by(
            move || {
                while !is_set(&released) {
                    std::thread::sleep(Duration::from_millis(50));
                }
            },
            move || set(&release),
        )
    }

    fn in_a_condvar() -> Blocked {
        let pair = Arc::new((Mutex::new(false), Condvar::new()));
        let release = Arc::clone(&pair);
        Blocked::by(
            move || {
                let guard = pair.0.lock().expect("not poisoned");
                drop(pair.1.wait_while(guard, |released| !*released).expect("not poisoned"));
            },
            move || {
                *release.0.lock().expect("not poisoned") = true;
                release.1.notify_all();
            },
        )
    }

    /// In a mutex that a plain thread holds.
    fn in_a_mutex() -> Blocked {
        let mutex = Arc::new(Mutex::new(()));
        let (release, released) = std::sync::mpsc::channel::<()>();
        let (held, is_held) = std::sync::mpsc::channel();
        let holder = {
            let mutex = Arc::clone(&mutex);
            std::thread::spawn(move || {
                let guard = mutex.lock().expect("not poisoned");
                held.send(()).expect("received");
                let _ = released.recv();
                drop(guard);
            })
        };
        is_held.recv().expect("sent");
        Blocked::by(
            move || drop(mutex.lock().expect("not poisoned")),
            move || {
                drop(release);
                holder.join().expect("no panic");
            },
        )
    }

    /// In waiting for a process to end.
    fn in_a_wait() -> Blocked {
        let mut cat = Command::new("cat")
            .stdin(Stdio::piped())
            .stdout(Stdio::null())
            .spawn()
            .expect("cat is everywhere");
        let input = cat.stdin.take();
        Blocked::by(move || assert!(cat.wait().expect("ours").success()), move || drop(input))
    }

    /// In a system call that nobody wraps.
    fn in_a_raw_system_call() -> Blocked {
        let (reader, writer) = std::io::pipe().expect("a pipe");
        Blocked::by(
            move || {
                let mut byte = 0_u8;
                let fd = std::os::fd::AsRawFd::as_raw_fd(&reader);
                // SAFETY: the kernel writes one byte to `byte`.
                let read = unsafe { libc::syscall(libc::SYS_read, fd, &raw mut byte, 1_usize) };
                assert_eq!(read, 0, "the end of the pipe");
            },
            move || drop(writer),
        )
    }

    /// In a C library.
    fn in_a_semaphore() -> Blocked {
        // SAFETY: all zeroes is room for a semaphore.
        let semaphore = Box::leak(Box::new(unsafe { std::mem::zeroed::<libc::sem_t>() }));
        // SAFETY: it is ours, and never freed.
        assert_eq!(unsafe { libc::sem_init(semaphore, 0, 0) }, 0);
        let address = std::ptr::from_mut(semaphore).expose_provenance();
        let at = move || std::ptr::with_exposed_provenance_mut::<libc::sem_t>(address);
        Blocked::by(
            // SAFETY: initialised above.
            move || while unsafe { libc::sem_wait(at()) } != 0 {},
            // SAFETY: likewise.
            move || assert_eq!(unsafe { libc::sem_post(at()) }, 0),
        )
    }

    /// In touching memory that somebody else has to bring, as a file on a slow disk. `None` if the kernel does not
    /// let us.
    fn in_a_page_fault() -> Option<Blocked> {
        const USER_MODE_ONLY: libc::c_int = 1;
        const API: libc::c_ulong = 0xc018_aa3f;
        const REGISTER: libc::c_ulong = 0xc020_aa00;
        const ZEROPAGE: libc::c_ulong = 0xc020_aa04;
        const PAGE: usize = 4096;
        // SAFETY: no pointers.
        let fd = unsafe { libc::syscall(libc::SYS_userfaultfd, libc::O_CLOEXEC | USER_MODE_ONLY) };
        let fd = i32::try_from(fd).ok().filter(|fd| *fd >= 0)?;
        // SAFETY: a new mapping touches nothing of ours.
        let page = unsafe {
            let access = libc::PROT_READ | libc::PROT_WRITE;
            let kind = libc::MAP_PRIVATE | libc::MAP_ANONYMOUS;
            libc::mmap(std::ptr::null_mut(), PAGE, access, kind, -1, 0)
        };
        assert_ne!(page, libc::MAP_FAILED);
        let address = page.expose_provenance();
        let ask = move |request: libc::c_ulong, mut words: [u64; 4]| {
            // SAFETY: each of the three requests has a structure of at most four words.
            unsafe { libc::ioctl(fd, request, words.as_mut_ptr()) == 0 }
        };
        let range = [address as u64, PAGE as u64];
        if !ask(API, [0xaa, 0, 0, 0]) || !ask(REGISTER, [range[0], range[1], 1, 0]) {
            return None;
        }
        Some(Blocked::by(
            move || {
                let page = std::ptr::with_exposed_provenance::<u8>(address);
                // SAFETY: mapped for good.
                assert_eq!(unsafe { page.read_volatile() }, 0);
            },
            move || assert!(ask(ZEROPAGE, [range[0], range[1], 0, 0])),
        ))
    }

    /// In being stopped by a debugger, which is another process. `None` if that may not.
    fn by_a_debugger() -> Option<Blocked> {
        let tid = Arc::new(AtomicI32::new(0));
        let released = Arc::new(AtomicBool::new(false));
        let blocked = {
            let (tid, released, release) =
                (Arc::clone(&tid), Arc::clone(&released), Arc::clone(&released));
            Blocked::by(
                move || {
                    // SAFETY: it takes nothing.
                    tid.store(unsafe { libc::gettid() }, SeqCst);
                    compute_until(|| is_set(&released));
                },
                move || set(&release),
            )
        };
        while tid.load(SeqCst) == 0 {
            std::thread::sleep(Duration::from_millis(1));
        }
        let tid = tid.load(SeqCst);
        let (mut answer, tell) = std::io::pipe().expect("a pipe");
        let (until, end) = std::io::pipe().expect("a pipe");
        let fds = [&tell, &end].map(std::os::fd::AsRawFd::as_raw_fd);
        let until_fd = std::os::fd::AsRawFd::as_raw_fd(&until);
        // SAFETY: the child makes system calls only.
        let debugger = unsafe { libc::fork() };
        if debugger == 0 {
            // SAFETY: system calls on our own descriptors and memory.
            unsafe {
                libc::close(fds[1]);
                let none = std::ptr::null_mut::<libc::c_void>();
                let mut status = 0;
                let stopped = libc::ptrace(libc::PTRACE_SEIZE, tid, none, none) == 0
                    && libc::ptrace(libc::PTRACE_INTERRUPT, tid, none, none) == 0
                    && libc::waitpid(tid, &mut status, libc::__WALL) == tid;
                libc::write(fds[0], [u8::from(stopped)].as_ptr().cast(), 1);
                let mut byte = 0_u8;
                libc::read(until_fd, (&raw mut byte).cast(), 1);
                libc::ptrace(libc::PTRACE_DETACH, tid, none, none);
                libc::_exit(0);
            }
        }
        let mut stopped = [0];
        answer.read_exact(&mut stopped).expect("the debugger answers");
        let let_go = move || {
            drop(end);
            let mut status = 0;
            // SAFETY: writes the status to where it is told to.
            assert_eq!(unsafe { libc::waitpid(debugger, &mut status, 0) }, debugger);
        };
        let Blocked { handle, release } = blocked;
        if stopped != [1] {
            let_go();
            release();
            handle.join().expect("no panic");
            return None;
        }
        let release = move || {
            let_go();
            release();
        };
        Some(Blocked { handle, release: Box::new(release) })
    }

    fn release(self) {
        assert!(!self.handle.is_finished(), "it was to be blocked until now");
        (self.release)();
        self.handle.join().expect("no panic");
    }
}

#[test]
fn fresh_goroutines_run_while_others_block_their_threads() {
    on_processors(ONE_AND_TWO, || {
        let blocked = [
            Blocked::in_a_pipe(),
            Blocked::in_sleep(),
            Blocked::in_a_condvar(),
            Blocked::in_a_mutex(),
            Blocked::in_a_wait(),
        ];
        a_thousand_run();
        blocked.into_iter().for_each(Blocked::release);
    });
}

/// Has `blocked` block the only processor's thread, with nothing else going on, and others run meanwhile. It must not
/// take longer than it takes to call a thread a hog, were that by its time: it is blocked, and known to be.
fn is_handed_off(blocked: Blocked) {
    let before = runtime::metrics();
    a_thousand_run();
    let after = runtime::metrics();
    assert!(after.handoffs_blocked > before.handoffs_blocked, "{before:?} {after:?}");
    blocked.release();
}

#[test]
fn foreign_code_is_handed_off() {
    on_processors(ONE, || {
        is_handed_off(Blocked::in_a_raw_system_call());
        is_handed_off(Blocked::in_a_semaphore());
    });
}

#[test]
fn a_page_fault_is_handed_off() {
    on_processors(ONE, || match Blocked::in_a_page_fault() {
        Some(blocked) => is_handed_off(blocked),
        None => {
            println!("skipped: no page faults of our own making");
            a_thousand_run();
        }
    });
}

#[test]
fn a_thread_that_a_debugger_has_stopped_is_handed_off() {
    on_processors(ONE, || match Blocked::by_a_debugger() {
        Some(blocked) => is_handed_off(blocked),
        None => println!("skipped: nobody may trace us"),
    });
}

#[test]
fn goroutines_queued_behind_one_that_blocks_run_elsewhere() {
    on_processors(ONE_AND_TWO, || {
        let (mut reader, mut writer) = std::io::pipe().expect("a pipe");
        let before = runtime::metrics();
        // All are in the parent's queue when it blocks: nobody else has spawned anything.
        let parent = go(move || {
            let children: Vec<_> = (0..1000).map(|n| go(move || n)).collect();
            reader.read_exact(&mut [0]).expect("readable");
            children
        });
        let started = || runtime::metrics().goroutines_live;
        while started() != 1 {
            std::thread::sleep(Duration::from_millis(1));
        }
        assert!(!parent.is_finished());
        writer.write_all(b"!").expect("writable");
        join_all(parent.join().expect("no panic"));
        let after = runtime::metrics();
        assert!(after.goroutines_started >= before.goroutines_started + 1001);
    });
}

#[test]
fn a_blocked_thread_is_known_as_such() {
    on_processors(ONE, || {
        let before = runtime::metrics();
        let blocked = [Blocked::in_a_pipe(), Blocked::in_a_condvar()];
        a_thousand_run();
        blocked.into_iter().for_each(Blocked::release);
        let after = runtime::metrics();
        if std::fs::read("/proc/self/task/self/syscall").is_err()
            && std::fs::read("/proc/thread-self/syscall").is_err()
        {
            return println!("skipped: the kernel does not tell what a thread does");
        }
        assert!(after.handoffs_blocked >= before.handoffs_blocked + 2, "{before:?} {after:?}");
    });
}

#[test]
fn a_blocked_thread_loses_its_processor_in_milliseconds() {
    on_processors(ONE, || {
        // Ten times what is promised; and the best of many, lest a busy machine be blamed on us.
        let goal = Duration::from_millis(200);
        let took = || {
            let blocked = Blocked::in_a_pipe();
            let begun = Instant::now();
            a_thousand_run();
            let took = begun.elapsed();
            blocked.release();
            took
        };
        let times: Vec<_> = (0..50).map(|_| took()).take_while(|time| *time > goal).collect();
        assert!(times.len() < 50, "{times:?}");
    });
}

#[test]
fn fresh_goroutines_run_while_others_compute() {
    on_processors(ONE_AND_TWO, || {
        let before = runtime::metrics();
        let done = Arc::new(AtomicBool::new(false));
        let hogs: Vec<_> = (0..3)
            .map(|_| {
                let done = Arc::clone(&done);
                go(move || compute_until(|| is_set(&done)))
            })
            .collect();
        a_thousand_run();
        assert!(hogs.iter().all(|hog| !hog.is_finished()));
        set(&done);
        join_all(hogs);
        let after = runtime::metrics();
        assert!(after.handoffs_hogging > before.handoffs_hogging, "{before:?} {after:?}");
    });
}

#[test]
fn children_of_a_computing_parent_run() {
    on_processors(ONE_AND_TWO, || {
        let parent = go(|| {
            // One is in the next slot, the others in the ring; then there is one more without a processor.
            for count in [1, 300, 1] {
                let ended = Arc::new(AtomicUsize::new(0));
                for _ in 0..count {
                    let ended = Arc::clone(&ended);
                    go(move || ended.fetch_add(1, SeqCst));
                }
                compute_until(|| ended.load(SeqCst) == count);
            }
        });
        parent.join().expect("no panic");
    });
}

#[test]
fn a_goroutine_that_blocked_goes_on_and_may_spawn() {
    on_processors(ONE_AND_TWO, || {
        for _ in 0..20 {
            let (mut reader, mut writer) = std::io::pipe().expect("a pipe");
            let blocked = go(move || {
                reader.read_exact(&mut [0]).expect("readable");
                let children = (0..100).map(|n| go(move || n));
                join_all(children).into_iter().sum::<i32>()
            });
            a_thousand_run();
            writer.write_all(b"!").expect("writable");
            assert_eq!(blocked.join().expect("no panic"), 4950);
        }
    });
}

#[test]
fn surplus_threads_are_used_again() {
    on_processors(ONE, || {
        let mut most = 0;
        for _ in 0..20 {
            let blocked: Vec<_> = (0..4).map(|_| Blocked::in_a_pipe()).collect();
            a_thousand_run();
            most = most.max(runtime::metrics().workers);
            blocked.into_iter().for_each(Blocked::release);
        }
        // Five are needed; some more if one is not asleep yet when it would be needed again.
        assert!((5..=15).contains(&most), "{most} workers");
    });
}

#[test]
fn what_starts_after_a_long_idle_is_looked_after_too() {
    on_processors(ONE_AND_TWO, || {
        // The runtime is there, without a worker, and long enough for all that watches to fall asleep.
        let processors = runtime::metrics().processors;
        std::thread::sleep(Duration::from_millis(100));
        for _ in 0..3 {
            let done = Arc::new(AtomicBool::new(false));
            let hogs: Vec<_> = (0..processors)
                .map(|_| {
                    let done = Arc::clone(&done);
                    go(move || compute_until(|| is_set(&done)))
                })
                .collect();
            go(move || set(&done));
            // Not by `join`: a thread that is blocked there for long asks somebody to look.
            while !hogs.iter().all(JoinHandle::is_finished) {
                std::thread::sleep(Duration::from_millis(1));
            }
            std::thread::sleep(Duration::from_millis(50));
        }
    });
}

/// Processes that use up the CPUs, until dropped.
struct Burners(Vec<std::process::Child>);

impl Burners {
    fn start(count: usize) -> Burners {
        let burner = || {
            let mut command = Command::new("timeout");
            command.args(["60", "sh", "-c", "while :; do :; done"]).spawn().expect("coreutils")
        };
        Burners((0..count).map(|_| burner()).collect())
    }
}

impl Drop for Burners {
    fn drop(&mut self) {
        for burner in &mut self.0 {
            // SAFETY: no pointers; `timeout` passes it on to its child, and ends.
            unsafe { libc::kill(burner.id() as libc::pid_t, libc::SIGTERM) };
            let _ = burner.wait();
        }
    }
}

#[test]
fn a_thread_that_waits_for_a_cpu_is_no_hog() {
    let Some(program) = stage(|| {
        // With six others on the same CPU a thread waits for tens of milliseconds at a time.
        let _burners = Burners::start(6);
        let end = Instant::now() + Duration::from_secs(3);
        let busy: Vec<_> = (0..4)
            .map(|_| {
                go(move || {
                    while Instant::now() < end {
                        // Far less than ten milliseconds, but often.
                        let mut left = 20_000_u32;
                        while left > 0 {
                            left = std::hint::black_box(left - 1);
                        }
                        go(|| ()).join().expect("no panic");
                        strands::yield_now();
                    }
                })
            })
            .collect();
        join_all(busy);
        let metrics = runtime::metrics();
        assert_eq!(metrics.handoffs_hogging, 0, "{metrics:?}");
        assert!(metrics.workers <= 4, "{metrics:?}");
    }) else {
        return;
    };
    program.processors(2).by(["taskset", "-c", "0"]).run().succeeded();
}

#[test]
fn a_thread_that_has_nothing_to_run_yet_is_no_hog() {
    let Some(program) = stage(|| {
        let _burners = Burners::start(6);
        // All are asleep, and each worker that gets up waits for the CPU that others use.
        let end = Instant::now() + Duration::from_secs(3);
        let sleepers = (0..8).map(|n| {
            go(move || {
                while Instant::now() < end {
                    strands::sleep(Duration::from_micros(500 + 100 * n));
                }
            })
        });
        join_all(sleepers.collect::<Vec<_>>());
        let metrics = runtime::metrics();
        assert_eq!((metrics.handoffs_hogging, metrics.offending_sites), (0, 0), "{metrics:?}");
    }) else {
        return;
    };
    program.processors(2).by(["taskset", "-c", "0"]).run().succeeded();
}

#[test]
fn a_thousand_goroutines_block_at_once() {
    on_processors(ONE_AND_TWO, || {
        let barrier = Arc::new(Barrier::new(1000));
        let all = (0..1000).map(|_| {
            let barrier = Arc::clone(&barrier);
            go(move || barrier.wait().is_leader())
        });
        assert_eq!(join_all(all).into_iter().filter(|leader| *leader).count(), 1);
        let metrics = runtime::metrics();
        assert!((1000..1100).contains(&metrics.workers), "{metrics:?}");
    });
}

#[test]
fn threads_are_capped_and_what_is_more_waits() {
    let Some(program) = stage(|| {
        let most = Arc::new(AtomicUsize::new(0));
        let now = Arc::new(AtomicUsize::new(0));
        let sleepers = (0..500).map(|_| {
            let (most, now) = (Arc::clone(&most), Arc::clone(&now));
            go(move || {
                most.fetch_max(now.fetch_add(1, SeqCst) + 1, SeqCst);
                std::thread::sleep(Duration::from_millis(20));
                now.fetch_sub(1, SeqCst);
            })
        });
        join_all(sleepers);
        // Calls that are known to block come under the same cap, and are made all the same.
        join_all(
            (0..200)
                .map(|_| go(|| strands::blocking(|| std::thread::sleep(Duration::from_millis(1))))),
        );
        let metrics = runtime::metrics();
        println!("most {} {}", most.load(SeqCst), metrics.workers + metrics.blocking_threads);
    }) else {
        return;
    };
    let outcome = program.processors(2).env("STRANDS_MAXTHREADS", "20").run().succeeded();
    let (most, threads) = outcome.value("most").split_once(' ').expect("two");
    let (most, threads): (usize, usize) = (most.parse().unwrap(), threads.parse().unwrap());
    // Two that ask at the same time may both be let through.
    assert!((10..=22).contains(&most) && threads <= 22, "{outcome}");
    let told = outcome.stderr.matches("threads are in use").count();
    assert_eq!(told, 1, "{outcome}");
}

#[test]
fn hogs_on_every_processor_and_the_main_thread_stop_nobody() {
    let Some(program) = stage(|| {
        let done = Arc::new(AtomicBool::new(false));
        let hogs: Vec<_> = (0..4)
            .map(|_| {
                let done = Arc::clone(&done);
                go(move || compute_until(|| is_set(&done)))
            })
            .collect();
        // Each of these is fresh: those that wait are at home, perhaps with a hog.
        for round in 1..=20 {
            let ended = Arc::new(AtomicUsize::new(0));
            for _ in 0..round {
                let ended = Arc::clone(&ended);
                go(move || {
                    let ended = Arc::clone(&ended);
                    go(move || ended.fetch_add(1, SeqCst));
                });
            }
            compute_until(|| ended.load(SeqCst) == round);
        }
        set(&done);
        join_all(hogs);
    }) else {
        return;
    };
    program.processors(2).run().succeeded();
}

#[test]
fn a_thread_that_never_comes_back_does_not_keep_the_process() {
    let Some(program) = stage(|| {
        let (reader, writer) = std::io::pipe().expect("a pipe");
        // Nobody closes it, and nobody writes to it.
        std::mem::forget(writer);
        let _blocked = Blocked::by(move || drop((&reader).read(&mut [0])), || ());
        let mutex: &'static Mutex<()> = Box::leak(Box::new(Mutex::new(())));
        std::mem::forget(mutex.lock());
        let _locked = Blocked::by(move || drop(mutex.lock()), || ());
        a_thousand_run();
    }) else {
        return;
    };
    let outcome = program.processors(1).run().succeeded();
    assert!(outcome.took < Duration::from_secs(30), "{outcome}");
}

#[test]
fn a_goroutine_may_fork() {
    /// The code with which `child` ends, which plays in a fork and makes system calls only.
    fn in_a_fork(child: impl FnOnce() -> i32) -> i32 {
        // SAFETY: see above.
        match unsafe { libc::fork() } {
            // SAFETY: ends the process at once.
            0 => unsafe { libc::_exit(child()) },
            pid => {
                let mut status = 0;
                // SAFETY: writes the status to where it is told to.
                assert_eq!(unsafe { libc::waitpid(pid, &mut status, 0) }, pid);
                assert!(libc::WIFEXITED(status), "{status}");
                libc::WEXITSTATUS(status)
            }
        }
    }
    on_processors(ONE_AND_TWO, || {
        let forks = (0..20).map(|n| {
            go(move || {
                assert_eq!(in_a_fork(|| n), n);
                // What it had borrowed or locked is the child's, too: it is the same goroutine.
                strands::yield_now();
                let shell = in_a_fork(|| {
                    let words = [c"sh", c"-c", c"exit 7"].map(std::ffi::CStr::as_ptr);
                    let words = [words[0], words[1], words[2], std::ptr::null()];
                    // SAFETY: texts that end, in a list that does.
                    unsafe { libc::execv(c"/bin/sh".as_ptr(), words.as_ptr()) }
                });
                assert_eq!(shell, 7);
                assert!(Command::new("true").status().expect("it is everywhere").success());
            })
        });
        join_all(forks);
    });
}

#[test]
fn deadlines_pass_while_other_workers_are_blocked() {
    on_processors(ONE_AND_TWO, || {
        let blocked = [Blocked::in_a_pipe(), Blocked::in_a_condvar(), Blocked::in_a_pipe()];
        let sleepers: Vec<_> =
            (0..100).map(|n| go(move || strands::sleep(Duration::from_millis(n % 20)))).collect();
        join_all(sleepers);
        blocked.into_iter().for_each(Blocked::release);
    });
}
