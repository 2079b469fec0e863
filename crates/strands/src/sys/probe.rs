//! Asking the kernel what a thread is doing, how long it has run, and how many threads there are.
//!
//! `/proc/self/task/T/syscall` says `running`, or the number of the system call in which the thread
//! sleeps (−1 for a page fault), its arguments and its stack pointer. Read through a descriptor that stays
//! open it costs 1–4 µs; a descriptor outlives its thread (reads then fail with ESRCH), so it never speaks
//! of a stranger.
//!
//! `running` is also what a thread is called that waits for a CPU. Its CPU clock tells the two apart.

use std::fs::File;
use std::io;
use std::os::unix::fs::FileExt;

/// What a thread was doing when the kernel was asked.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Activity {
    /// On a processor, or waiting for one.
    Running,
    /// Asleep in the kernel, or stopped by a debugger.
    Blocked(Sleep),
    /// The kernel would not say.
    Unknown,
}

/// How a thread sleeps.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) struct Sleep {
    /// In the system call of this number; −1 in none, but in a page fault, say.
    pub(crate) call: i64,
    /// The first argument of that call.
    pub(crate) argument: usize,
    /// Its stack pointer, or 0 if the kernel keeps that to itself.
    pub(crate) stack_pointer: usize,
}

/// A kept-open view of one thread of this process.
#[derive(Debug)]
pub(crate) struct Probe {
    file: File,
}

impl Probe {
    /// Opens the view of thread `tid`.
    pub(crate) fn open(tid: i32) -> io::Result<Probe> {
        Ok(Probe { file: File::open(format!("/proc/self/task/{tid}/syscall"))? })
    }

    /// What the thread is doing now.
    pub(crate) fn look(&self) -> Activity {
        let mut buf = [0u8; 256];
        match self.file.read_at(&mut buf, 0) {
            Ok(n) if n > 0 => parse(&buf[..n]),
            _ => Activity::Unknown,
        }
    }
}

/// `running`, or `CALL ARGUMENT×6 SP PC`, or `-1 SP PC`.
fn parse(line: &[u8]) -> Activity {
    let line = std::str::from_utf8(line).unwrap_or_default();
    let words: Vec<&str> = line.split_whitespace().collect();
    let Some(first) = words.first() else { return Activity::Unknown };
    if *first == "running" {
        return Activity::Running;
    }
    let address = |word: Option<&&str>| {
        let digits = word.and_then(|word| word.strip_prefix("0x"));
        digits.and_then(|digits| usize::from_str_radix(digits, 16).ok()).unwrap_or(0)
    };
    first.parse().map_or(Activity::Unknown, |call| {
        Activity::Blocked(Sleep {
            call,
            argument: if call < 0 { 0 } else { address(words.get(1)) },
            stack_pointer: address(words.len().checked_sub(2).and_then(|at| words.get(at))),
        })
    })
}

/// How long a thread of this process has run on a CPU, in nanoseconds. It costs a fraction of a microsecond.
pub(crate) fn cpu_time_of(tid: i32) -> Option<u64> {
    // What `pthread_getcpuclockid` returns for that thread: `CPUCLOCK_PERTHREAD_MASK | CPUCLOCK_SCHED`.
    read_clock((!tid << 3) | 4 | 2)
}

/// How long the calling thread has run on a CPU, in nanoseconds.
pub(crate) fn own_cpu_time() -> Option<u64> {
    read_clock(libc::CLOCK_THREAD_CPUTIME_ID)
}

fn read_clock(clock: libc::clockid_t) -> Option<u64> {
    let mut time = libc::timespec { tv_sec: 0, tv_nsec: 0 };
    // SAFETY: `time` is ours to write; a clock that does not exist is an error.
    let done = unsafe { libc::clock_gettime(clock, &mut time) } == 0;
    done.then(|| time.tv_sec as u64 * 1_000_000_000 + time.tv_nsec as u64)
}

/// How many threads this process has, or `None` where /proc is not mounted.
pub(crate) fn thread_count() -> Option<usize> {
    // The link count of the directory is the number of threads plus two: one call, no listing.
    use std::os::unix::fs::MetadataExt;
    let links = std::fs::metadata("/proc/self/task").ok()?.nlink();
    usize::try_from(links).ok()?.checked_sub(2).filter(|n| *n > 0)
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::sync::mpsc;

    #[test]
    fn the_kernels_words_are_understood() {
        assert_eq!(parse(b"running\n"), Activity::Running);
        let asleep = |call, argument, stack_pointer| {
            Activity::Blocked(Sleep { call, argument, stack_pointer })
        };
        let futex = b"202 0x7f 0x80 0x2 0x0 0x0 0xffffffff 0x7ffe10 0x7fb0\n";
        assert_eq!(parse(futex), asleep(202, 0x7f, 0x7ffe10));
        assert_eq!(parse(b"-1 0x7ffe10 0x7fb0\n"), asleep(-1, 0, 0x7ffe10));
        assert_eq!(parse(b"0"), asleep(0, 0, 0));
        assert_eq!(parse(b""), Activity::Unknown);
        assert_eq!(parse(b"what?"), Activity::Unknown);
    }

    #[test]
    fn a_thread_asleep_in_the_kernel_is_seen_there() {
        let (tell, told) = mpsc::channel();
        let (release, released) = mpsc::channel::<()>();
        let thread = std::thread::spawn(move || {
            tell.send(crate::sys::thread_id()).unwrap();
            released.recv().unwrap();
        });
        let probe = Probe::open(told.recv().unwrap()).unwrap();
        // It is on its way into its futex; the kernel shows it there in the end.
        let deadline = std::time::Instant::now() + std::time::Duration::from_secs(10);
        let in_futex = |activity| matches!(activity, Activity::Blocked(sleep) if sleep.call == libc::SYS_futex);
        while !in_futex(probe.look()) {
            assert!(std::time::Instant::now() < deadline, "still {:?}", probe.look());
            std::thread::yield_now();
        }
        // A descriptor outlives its thread, and then knows nothing.
        assert!(thread_count().unwrap() >= 2);
        release.send(()).unwrap();
        thread.join().unwrap();
        while probe.look() != Activity::Unknown {
            assert!(std::time::Instant::now() < deadline, "still {:?}", probe.look());
            std::thread::yield_now();
        }
    }

    #[test]
    fn a_threads_clock_runs_while_it_computes() {
        let before = own_cpu_time().unwrap();
        let (tell, told) = mpsc::channel();
        let (release, released) = mpsc::channel::<()>();
        let other = std::thread::spawn(move || {
            tell.send(crate::sys::thread_id()).unwrap();
            released.recv().unwrap();
        });
        let tid = told.recv().unwrap();
        while own_cpu_time().unwrap() < before + 2_000_000 {}
        assert!(cpu_time_of(crate::sys::thread_id()).unwrap() >= before + 2_000_000);
        // It has slept nearly all the while.
        assert!(cpu_time_of(tid).unwrap() < 1_000_000_000);
        release.send(()).unwrap();
        other.join().unwrap();
        assert_eq!(cpu_time_of(0x3fff_fff0), None, "there is no such thread");
    }

    #[test]
    fn a_thread_that_computes_is_seen_running() {
        use std::sync::atomic::{AtomicBool, Ordering};
        static STOP: AtomicBool = AtomicBool::new(false);
        let (tell, told) = mpsc::channel();
        let thread = std::thread::spawn(move || {
            tell.send(crate::sys::thread_id()).unwrap();
            while !STOP.load(Ordering::Relaxed) {
                std::hint::spin_loop();
            }
        });
        let probe = Probe::open(told.recv().unwrap()).unwrap();
        // It may still be leaving `send`, but not for ever.
        let deadline = std::time::Instant::now() + std::time::Duration::from_secs(10);
        while probe.look() != Activity::Running {
            assert!(std::time::Instant::now() < deadline, "still {:?}", probe.look());
        }
        STOP.store(true, Ordering::Relaxed);
        thread.join().unwrap();
    }
}
