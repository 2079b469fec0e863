//! Guards: the pages at the bottom of a slot that stop an overflow.
//!
//! Two ways to make one. `MADV_GUARD_INSTALL` (Linux 6.13) writes a marker into the page table:
//! the mapping stays whole, and a batch takes one call. Before that there is `mprotect`, which
//! turns every guard into a mapping of its own and the slot above it into another. A process has
//! 65,530 mappings unless told otherwise; the one too many is refused to whoever asks for it,
//! which is as likely a `malloc` in a library as us. So those guards are counted, process-wide, and
//! the count stops well before.

use std::io;
use std::ptr;
use std::sync::atomic::{AtomicUsize, Ordering};

use super::slot::Slot;
use crate::sys::mem::{self, Advice, Myself};

/// How guards are made.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub(crate) enum GuardMode {
    /// The best way that the kernel has.
    #[default]
    Auto,
    /// `mprotect`, as on kernels before 6.13. For tests.
    Mprotect,
}

/// Mappings that we leave to the rest of the program.
const SPARE_MAPPINGS: usize = 8192;
/// What the arithmetic below may be off by: regions, alternate stacks, threads.
const MARGIN: usize = 64;

/// The guards by `mprotect` that all `Stacks` together have promised to make.
static PROMISED: AtomicUsize = AtomicUsize::new(0);

/// Makes guards.
#[derive(Debug)]
pub(super) enum Guards {
    /// In batches where the sandbox allows it, one at a time where not.
    Markers(Option<Myself>),
    Mprotect {
        /// The most that [`PROMISED`] may say.
        most: usize,
        max_map_count: usize,
    },
}

impl Guards {
    pub(super) fn new(mode: GuardMode) -> Guards {
        match mode {
            GuardMode::Auto if markers_work() => Guards::Markers(Myself::open().ok()),
            GuardMode::Auto | GuardMode::Mprotect => {
                let max_map_count = mem::max_map_count();
                let most =
                    (max_map_count.saturating_sub(SPARE_MAPPINGS) / 2).saturating_sub(MARGIN);
                Guards::Mprotect { most, max_map_count }
            }
        }
    }

    /// Sets guards aside: at least `least`, at most `most`, as many as the budget has.
    ///
    /// # Errors
    /// [`OutOfMemory`](io::ErrorKind::OutOfMemory) when it has fewer than `least`.
    pub(super) fn set_aside(&self, least: usize, most: usize) -> io::Result<usize> {
        let Guards::Mprotect { most: limit, max_map_count } = *self else {
            return Ok(most);
        };
        let mut got = 0;
        let taken = PROMISED.try_update(Ordering::Relaxed, Ordering::Relaxed, |promised| {
            got = most.min(limit.saturating_sub(promised));
            (got >= least).then_some(promised + got)
        });
        match taken {
            Ok(_) => Ok(got),
            Err(promised) => Err(io::Error::new(
                io::ErrorKind::OutOfMemory,
                format!(
                    "{least} more goroutine stacks: before Linux 6.13 each takes two mappings, and \
                     vm.max_map_count is {max_map_count}, of which {promised} stacks have theirs \
                     and {SPARE_MAPPINGS} mappings are left to the rest of the program; \
                     raise it with `sysctl vm.max_map_count=…`"
                ),
            )),
        }
    }

    /// Undoes [`set_aside`](Guards::set_aside), once the region is gone.
    pub(super) fn give_back(&self, guards: usize) {
        if let Guards::Mprotect { .. } = self {
            PROMISED.fetch_sub(guards, Ordering::Relaxed);
        }
    }

    /// Whether regions should be no larger than what is asked for, a guard being scarce.
    pub(super) fn are_scarce(&self) -> bool {
        matches!(self, Guards::Mprotect { .. })
    }

    /// Guards slots that nobody uses yet. Slots without a guard would be a silent overwrite of the
    /// neighbour, so this aborts when it cannot; after [`set_aside`](Guards::set_aside) that takes
    /// a kernel without memory for its page tables.
    pub(super) fn install(&self, fresh: &[Slot]) {
        match self {
            Guards::Markers(Some(myself)) => {
                for batch in fresh.chunks(BATCH) {
                    let done = mark(myself, batch);
                    batch[done..].iter().for_each(guard_one);
                }
            }
            Guards::Markers(None) => fresh.iter().for_each(guard_one),
            Guards::Mprotect { .. } => fresh.iter().for_each(protect_one),
        }
    }
}

/// How many ranges go in one call: 1 KiB of them. 32 get within 5 % of what 512 do.
const BATCH: usize = 64;

/// Marks a batch with one call; returns how many it got done.
fn mark(myself: &Myself, batch: &[Slot]) -> usize {
    let empty = libc::iovec { iov_base: ptr::null_mut(), iov_len: 0 };
    let mut ranges = [empty; BATCH];
    for (range, slot) in ranges.iter_mut().zip(batch) {
        range.iov_base = ptr::with_exposed_provenance_mut(slot.base());
        range.iov_len = slot.class().guard_len();
    }
    // SAFETY: the lowest pages of slots that we own; nothing is in them.
    let bytes = unsafe { myself.advise_all(&ranges[..batch.len()], Advice::Guard) };
    // All slots of a batch come from one class. An error stands for "none".
    batch.first().map_or(0, |slot| bytes.unwrap_or(0) / slot.class().guard_len())
}

fn guard_one(slot: &Slot) {
    // SAFETY: the lowest pages of a slot that we own; nothing is in them.
    let done = unsafe { mem::advise(slot.base(), slot.class().guard_len(), Advice::Guard) };
    if done.is_err() {
        // Locked memory (`mlockall`) takes no markers before 6.15. Uncounted: there are few such
        // programs, and they have few stacks.
        protect_one(slot);
    }
}

fn protect_one(slot: &Slot) {
    // SAFETY: the lowest pages of a slot that we own; nothing is in them.
    if let Err(error) = unsafe { mem::forbid(slot.base(), slot.class().guard_len()) } {
        eprintln!("strands: cannot guard the stack at {:?}: {error}", slot.by_ref());
        std::process::abort();
    }
}

/// Whether this kernel knows markers. Asking costs three system calls; a version number would not
/// tell of sandboxes and backports.
fn markers_work() -> bool {
    let page = mem::page_size();
    let Ok(addr) = mem::map(page) else {
        return false;
    };
    // SAFETY: a page of our own that nobody else knows of; gone at the end.
    unsafe {
        let works = mem::advise(addr, page, Advice::Guard).is_ok();
        mem::unmap(addr, page);
        works
    }
}

#[cfg(test)]
mod tests {
    use super::super::in_child::{in_child, stderr};
    use super::super::slot::Class;
    use super::super::{StackPool, Stacks};
    use super::*;

    #[test]
    fn mprotect_fallback_counts_and_refuses() {
        let output =
            in_child(concat!(module_path!(), "::mprotect_fallback_counts_and_refuses"), || {
                let Guards::Mprotect { most, .. } = Guards::new(GuardMode::Mprotect) else {
                    unreachable!();
                };
                let stacks = Stacks::new(GuardMode::Mprotect);
                let mut pool = StackPool::new();
                let dense = Class::for_size(64 << 10).unwrap();
                let mut slots = Vec::new();
                let mut reserved = 0;
                let error = loop {
                    match stacks.reserve(dense, 1) {
                        Ok(()) => reserved += 1,
                        Err(error) => break error,
                    }
                    slots.push(pool.take(&stacks, dense));
                };
                assert!(reserved > most - 512 && reserved <= most, "{reserved} of {most}");
                assert_eq!(error.kind(), io::ErrorKind::OutOfMemory);
                assert!(error.to_string().contains("vm.max_map_count"), "{error}");
                // Other classes draw on the same budget.
                assert!(stacks.reserve(Class::DEFAULT, 1).is_err());

                // The rest of the program is as well as ever: so many mappings, no two alike.
                for i in 0..SPARE_MAPPINGS - 1000 {
                    let addr = mem::map(mem::page_size()).unwrap();
                    if i % 2 == 0 {
                        // SAFETY: ours.
                        unsafe { mem::forbid(addr, mem::page_size()).unwrap() };
                    }
                }
                // What comes back can be had again.
                pool.give(&stacks, slots.pop().unwrap());
                pool.drain(&stacks);
                stacks.reserve(dense, 1).unwrap();
            });
        assert!(output.status.success(), "{}", stderr(&output));
    }

    #[test]
    fn markers_are_used_where_the_kernel_has_them() {
        match Guards::new(GuardMode::Auto) {
            Guards::Markers(_) => assert!(markers_work()),
            Guards::Mprotect { .. } => assert!(!markers_work()),
        }
    }
}
