//! On which CPU a thread is, and bringing one that waits for its CPU to another.
//!
//! The kernel offers no call for that. It moves a thread at once, though, if the CPU on which it waits is taken out of its
//! mask; given back the mask, the thread stays where it is, as free as before. Two things see to it that no harm is done:
//!
//! - Only a thread that may run on every CPU is moved, for its mask can be given back exactly: all of them. Of a smaller one
//!   nobody can tell what the process was given from what the thread has chosen. So a process that is confined
//!   to some CPUs has its threads where the kernel puts them.
//! - Only a thread whose CPU clock stands still is moved. It is not in the middle of changing its own mask, or of
//!   starting another thread or process, which would inherit the narrow one. Once it is here it waits for the caller, whom
//!   it could only overtake if the caller's own slice ended in the microsecond between the two calls.

use super::probe;
use std::sync::atomic::{AtomicBool, Ordering};

/// The CPU on which the caller is, or was just now.
#[inline]
pub(crate) fn current() -> usize {
    // SAFETY: takes nothing, and touches no memory of ours.
    let cpu = unsafe { libc::sched_getcpu() };
    // Where the kernel does not say, all are on one.
    usize::try_from(cpu).unwrap_or(0)
}

/// How many CPUs this machine can have.
pub(crate) fn configured() -> usize {
    // SAFETY: takes a number, and touches no memory of ours.
    usize::try_from(unsafe { libc::sysconf(libc::_SC_NPROCESSORS_CONF) }).unwrap_or(1).max(1)
}

/// Moves threads, as long as that is found to be possible here.
#[derive(Debug)]
pub(crate) struct Mover {
    is_impossible: AtomicBool,
}

impl Mover {
    pub(crate) const fn new() -> Mover {
        Mover { is_impossible: AtomicBool::new(false) }
    }

    /// Brings a thread of this process that waits for its CPU to the one where the caller is. False: it runs, or
    /// its mask is not ours to change.
    pub(crate) fn bring(&self, tid: i32, cpu: usize) -> bool {
        if self.is_impossible.load(Ordering::Relaxed) {
            return false;
        }
        // A thread of another process has no such clock: it cannot be moved by mistake.
        let Some(before) = probe::cpu_time_of(tid) else { return false };
        if !may_run_anywhere(tid) {
            self.is_impossible.store(true, Ordering::Relaxed);
            return false;
        }
        if probe::cpu_time_of(tid) != Some(before) {
            return false;
        }
        let moved = only(cpu).is_some_and(|here| set_mask(tid, &here) && set_mask(tid, &all()));
        if !moved {
            self.is_impossible.store(true, Ordering::Relaxed);
        }
        moved
    }
}

fn may_run_anywhere(tid: i32) -> bool {
    // SAFETY: takes a number, and touches no memory of ours.
    let online = unsafe { libc::sysconf(libc::_SC_NPROCESSORS_ONLN) };
    mask_of(tid).is_some_and(|mask| {
        // SAFETY: counts the bits of a mask that is initialised.
        libc::c_long::from(unsafe { libc::CPU_COUNT(&mask) }) >= online.max(1)
    })
}

fn none() -> libc::cpu_set_t {
    // SAFETY: an array of integers.
    unsafe { std::mem::zeroed() }
}

fn only(cpu: usize) -> Option<libc::cpu_set_t> {
    let mut mask = none();
    (cpu < libc::CPU_SETSIZE as usize).then(|| {
        // SAFETY: there is such a bit.
        unsafe { libc::CPU_SET(cpu, &mut mask) };
        mask
    })
}

fn all() -> libc::cpu_set_t {
    let mut mask = none();
    for cpu in 0..libc::CPU_SETSIZE as usize {
        // SAFETY: there is such a bit.
        unsafe { libc::CPU_SET(cpu, &mut mask) };
    }
    mask
}

/// `None` also on a machine that has more CPUs than there are bits.
fn mask_of(tid: i32) -> Option<libc::cpu_set_t> {
    let mut mask = none();
    // SAFETY: the mask is live, and as long as is said.
    let read = unsafe { libc::sched_getaffinity(tid, size_of_val(&mask), &raw mut mask) };
    (read == 0).then_some(mask)
}

fn set_mask(tid: i32, mask: &libc::cpu_set_t) -> bool {
    // SAFETY: the mask is live, and as long as is said.
    unsafe { libc::sched_setaffinity(tid, size_of_val(mask), mask) == 0 }
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::sync::mpsc;

    fn cpus_of(tid: i32) -> Vec<usize> {
        let mask = mask_of(tid).unwrap();
        // SAFETY: there are such bits.
        (0..1024).filter(|&cpu| unsafe { libc::CPU_ISSET(cpu, &mask) }).collect()
    }

    /// A thread that sleeps, whose CPU clock stands still, and what it says when it is let go.
    fn asleep<T: Send + 'static>(
        first: impl FnOnce() + Send + 'static,
        last: impl FnOnce() -> T + Send + 'static,
    ) -> (i32, impl FnOnce() -> T) {
        let (tell, told) = mpsc::channel();
        let (release, released) = mpsc::channel::<()>();
        let thread = std::thread::spawn(move || {
            first();
            tell.send(crate::sys::thread_id()).unwrap();
            let _ = released.recv();
            last()
        });
        let tid = told.recv().unwrap();
        let probe = probe::Probe::open(tid).unwrap();
        while !matches!(probe.look(), probe::Activity::Blocked(_)) {
            std::thread::yield_now();
        }
        (tid, move || {
            drop(release);
            thread.join().unwrap()
        })
    }

    #[test]
    fn a_thread_that_was_moved_is_as_free_as_before() {
        let (tid, end) = asleep(|| (), || cpus_of(0));
        let before = cpus_of(tid);
        let mover = Mover::new();
        let is_free = may_run_anywhere(tid);
        assert_eq!(mover.bring(tid, current()), is_free);
        assert_eq!(cpus_of(tid), before);
        assert_eq!(end(), before);
        // The thread is gone, and nobody is in its place.
        assert!(!Mover::new().bring(tid, current()));
    }

    #[test]
    fn a_thread_that_is_confined_stays_where_it_is() {
        let cpus = cpus_of(0);
        if cpus.len() < 2 {
            return;
        }
        let last = *cpus.last().unwrap();
        let confine = move || assert!(set_mask(0, &only(last).unwrap()));
        let (tid, end) = asleep(confine, || ());
        let mover = Mover::new();
        assert!(!mover.bring(tid, cpus[0]));
        assert_eq!(cpus_of(tid), [last]);
        end();
        // And no other is moved from then on.
        let (tid, end) = asleep(|| (), || ());
        assert!(!mover.bring(tid, current()));
        end();
    }

    #[test]
    fn threads_of_other_processes_are_not_touched() {
        let mut child = std::process::Command::new("sleep").arg("60").spawn().unwrap();
        assert!(!Mover::new().bring(child.id() as i32, current()));
        child.kill().unwrap();
        child.wait().unwrap();
    }

    #[test]
    fn a_cpu_beyond_all_masks_is_refused() {
        assert!(only(libc::CPU_SETSIZE as usize).is_none());
        assert!(current() < configured());
    }
}
