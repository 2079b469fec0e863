//! Asking the kernel what a thread is doing, and how many threads there are.
//!
//! `/proc/self/task/T/syscall` says `running`, or the number of the system call in which the thread
//! sleeps (−1 for a page fault). Read through a descriptor that stays open it costs 1–4 µs; a
//! descriptor outlives its thread (reads then fail with ESRCH), so it never speaks of a stranger.

use std::fs::File;
use std::io;
use std::os::unix::fs::FileExt;

/// What a thread was doing when the kernel was asked.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Activity {
    /// On a processor, or waiting for one.
    Running,
    /// Asleep in the kernel: in the system call of this number, or −1 in a page fault.
    Blocked(i64),
    /// The kernel would not say.
    Unknown,
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

fn parse(line: &[u8]) -> Activity {
    let word = line.split(|b| *b == b' ' || *b == b'\n').next().unwrap_or_default();
    if word == b"running" {
        return Activity::Running;
    }
    std::str::from_utf8(word)
        .ok()
        .and_then(|w| w.parse().ok())
        .map_or(Activity::Unknown, Activity::Blocked)
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
        assert_eq!(parse(b"202 0x7f 0x80 0x2\n"), Activity::Blocked(202));
        assert_eq!(parse(b"-1 0x7f 0x80\n"), Activity::Blocked(-1));
        assert_eq!(parse(b""), Activity::Unknown);
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
        while probe.look() != Activity::Blocked(libc::SYS_futex) {
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
