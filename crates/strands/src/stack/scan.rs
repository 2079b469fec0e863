//! Shrinking: which stacks hold more pages than one, and giving back what lies below a stack
//! pointer.
//!
//! A stack that once went deep keeps its pages. [`Scanner`] finds such stacks by asking the kernel
//! which pages of the arena exist (`PAGEMAP_SCAN`), some slots at a time; whoever knows that a
//! stack is parked, and keeps it parked meanwhile, calls [`release_below`].
//!
//! A pass looks at page tables only. It costs 0.1 µs for a slot of 64 KiB and 1 to 2 µs for one
//! of 8 MiB, whose page-table page has 512 entries to look at. Asking about the top few pages of each
//! slot instead is no faster: the call itself costs more.

use std::ops::Range;
use std::sync::atomic::{AtomicUsize, Ordering};

use super::arena::Stacks;
use super::slot::{Class, SlotRef};
use super::table::Entry;
use crate::sys::mem::{self, Advice, PageMap, PageRun};

/// Gives back the pages of a suspended stack below its stack pointer, down to the guard, which
/// stays. Costs 2 to 10 µs with a dozen pages to drop.
///
/// # Safety
/// The slot's goroutine is suspended and stays so for the call; `sp` is its stack pointer, and it
/// needs nothing further below than a red zone.
pub(crate) unsafe fn release_below(slot: SlotRef, sp: usize) {
    /// What code may use below its stack pointer, on x86-64; nowhere is it more.
    const RED_ZONE: usize = 128;
    debug_assert!((slot.limit()..=slot.end()).contains(&sp), "{sp:#x} in {slot:?}");
    let keep = (sp - RED_ZONE) & !(mem::page_size() - 1);
    // SAFETY: below the stack pointer and the red zone there is nothing that anyone needs.
    unsafe { release(slot.limit(), keep) };
}

/// How much at the top of a stack stays when all else is given back.
static KEPT_AT_TOP: AtomicUsize = AtomicUsize::new(0);

/// From now on, free stacks keep so many bytes below their tops.
pub(crate) fn keep_at_top(bytes: usize) {
    // Ordering: whoever keeps something there that must stay has got it later.
    KEPT_AT_TOP.store(bytes, Ordering::Relaxed);
}

/// Gives back the pages of a stack that nobody uses, but for the top one, which its next user
/// touches first, and what is [kept](keep_at_top).
///
/// # Safety
/// The caller owns the slot, or knows that its owner needs nothing of it.
pub(crate) unsafe fn release_all_but_top(slot: SlotRef) {
    // SAFETY: nobody needs what the slot holds.
    let kept = slot.top() - KEPT_AT_TOP.load(Ordering::Relaxed);
    let keep = kept.min(slot.end() - mem::page_size()) & !(mem::page_size() - 1);
    // SAFETY: nobody needs what the slot holds.
    unsafe { release(slot.limit(), keep) };
}

/// # Safety
/// `[from, to)` is whole pages within a slot, and nobody needs what they hold.
unsafe fn release(from: usize, to: usize) {
    if from < to {
        // Locked memory cannot be given back; then we do not.
        // SAFETY: the caller's promise.
        let _ = unsafe { mem::advise(from, to - from, Advice::DontNeed) };
    }
}

/// How far a [`Scanner::step`] got.
#[must_use]
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Progress {
    /// There is more.
    Partial,
    /// It has been past every slot; the next step starts over.
    Round,
}

/// Goes around over all slots of a [`Stacks`], remembering where it stopped.
#[derive(Debug)]
pub(crate) struct Scanner {
    /// `None` where the kernel has no `PAGEMAP_SCAN`: ask `mincore`, which looks at every page.
    pages: Option<PageMap>,
    runs: Box<[PageRun]>,
    /// A place in the table of regions, and a slot in that region.
    region: usize,
    index: usize,
}

impl Scanner {
    pub(crate) fn new() -> Scanner {
        Scanner {
            pages: PageMap::open().ok(),
            runs: vec![PageRun::default(); 256].into_boxed_slice(),
            region: 0,
            index: 0,
        }
    }

    /// Looks at the next `most` slots, and calls `f` for each that has more than one page, with the
    /// number of its pages, in memory or swapped out. Stops at the end of the round.
    pub(crate) fn step(
        &mut self,
        stacks: &Stacks,
        most: usize,
        mut f: impl FnMut(SlotRef, usize),
    ) -> Progress {
        let mut left = most;
        while let Some((at, entry)) = stacks.next_region(self.region) {
            if at != self.region {
                (self.region, self.index) = (at, 0);
            }
            let n = left.min(entry.carved().saturating_sub(self.index));
            if n > 0 {
                self.scan(entry, self.index..self.index + n, &mut f);
            }
            self.index += n;
            left -= n;
            if self.index < entry.carved() {
                return Progress::Partial;
            }
            (self.region, self.index) = (at + 1, 0);
        }
        self.region = 0;
        Progress::Round
    }

    fn scan(&mut self, entry: &Entry, slots: Range<usize>, f: &mut impl FnMut(SlotRef, usize)) {
        let mut tally =
            Tally { region: entry.base(), class: entry.class(), index: slots.start, bytes: 0 };
        let addr = |index: usize| tally.region + (index << tally.class.shift());
        let (mut start, end) = (addr(slots.start), addr(slots.end));
        while let Some(pages) = &self.pages {
            let Ok((n, stopped)) = pages.scan(start, end, &mut self.runs) else {
                // A kernel before 6.7, or a sandbox. It will not change its mind.
                self.pages = None;
                break;
            };
            for run in &self.runs[..n] {
                tally.add(run.start as usize..run.end as usize, f);
            }
            if stopped >= end || stopped <= start {
                return tally.close(f);
            }
            start = stopped;
        }
        // One answer for each page of the slot, so only as much at a time as fits here.
        let mut answers = [0; 512];
        let page = mem::page_size();
        while start < end {
            let n = answers.len().min((end - start) / page);
            if mem::resident(start, &mut answers[..n]).is_ok() {
                let there = answers[..n].iter().enumerate().filter(|(_, there)| **there & 1 != 0);
                for (i, _) in there {
                    let at = start + i * page;
                    tally.add(at..at + page, f);
                }
            }
            start += n * page;
        }
        tally.close(f);
    }
}

/// Sums up the pages of one slot after the other.
struct Tally {
    region: usize,
    class: Class,
    index: usize,
    bytes: usize,
}

impl Tally {
    /// Counts pages that exist, in the order of addresses. A run may reach over several slots: the
    /// top page of one, the guard of the next. Kernels differ in whether guards are reported, so
    /// what lies in a guard is left out here.
    fn add(&mut self, run: Range<usize>, f: &mut impl FnMut(SlotRef, usize)) {
        let first = (run.start - self.region) >> self.class.shift();
        let last = (run.end - 1 - self.region) >> self.class.shift();
        for index in first..=last {
            if index != self.index {
                self.report(f);
                self.index = index;
            }
            let slot = SlotRef::new(self.region, self.class, index);
            let (from, to) = (run.start.max(slot.limit()), run.end.min(slot.end()));
            self.bytes += to.saturating_sub(from);
        }
    }

    fn close(mut self, f: &mut impl FnMut(SlotRef, usize)) {
        self.report(f);
    }

    fn report(&mut self, f: &mut impl FnMut(SlotRef, usize)) {
        let pages = self.bytes / mem::page_size();
        self.bytes = 0;
        if pages > 1 {
            f(SlotRef::new(self.region, self.class, self.index), pages);
        }
    }
}

#[cfg(test)]
mod tests {
    use super::super::slot::Slot;
    use super::super::{GuardMode, StackPool};
    use super::*;

    /// Touches the top `n` pages of a slot.
    fn touch(slot: &Slot, n: usize) {
        for i in 1..=n {
            let addr = slot.end() - i * mem::page_size();
            // SAFETY: within a slot that we own.
            unsafe { std::ptr::with_exposed_provenance_mut::<u8>(addr).write(1) };
        }
    }

    fn found(scanner: &mut Scanner, stacks: &Stacks, most: usize) -> Vec<(SlotRef, usize)> {
        let mut found = Vec::new();
        while scanner.step(stacks, most, |slot, pages| found.push((slot, pages))) != Progress::Round
        {
        }
        found
    }

    fn with_slots(
        mode: GuardMode,
        class: Class,
        n: usize,
        body: impl FnOnce(&Stacks, &mut StackPool, &[Slot]),
    ) {
        let stacks = Stacks::new(mode);
        let mut pool = StackPool::new();
        stacks.reserve(class, n).unwrap();
        let slots: Vec<_> = (0..n).map(|_| pool.take(&stacks, class)).collect();
        body(&stacks, &mut pool, &slots);
        slots.into_iter().for_each(|slot| pool.give(&stacks, slot));
        pool.drain(&stacks);
    }

    #[test]
    fn scan_finds_the_deep_stack_only() {
        for mode in [GuardMode::Auto, GuardMode::Mprotect] {
            for class in [Class::for_size(64 << 10).unwrap(), Class::DEFAULT] {
                with_slots(mode, class, 300, |stacks, _, slots| {
                    slots.iter().for_each(|slot| touch(slot, 1));
                    touch(&slots[123], 9);
                    let deep = vec![(slots[123].by_ref(), 9)];
                    let mut scanner = Scanner::new();
                    for most in [1, 7, 100, usize::MAX] {
                        assert_eq!(found(&mut scanner, stacks, most), deep, "{most} at a time");
                    }
                    scanner.pages = None;
                    assert_eq!(found(&mut scanner, stacks, 64), deep, "by mincore");
                });
            }
        }
    }

    #[test]
    fn a_full_stack_counts_without_its_guard() {
        let class = Class::for_size(64 << 10).unwrap();
        with_slots(GuardMode::Auto, class, 40, |stacks, _, slots| {
            let all = class.size() / mem::page_size() - 1;
            slots.iter().for_each(|slot| touch(slot, all));
            let mut scanner = Scanner::new();
            for _ in 0..2 {
                let found = found(&mut scanner, stacks, usize::MAX);
                assert_eq!(found.len(), 40);
                assert!(found.iter().all(|&(_, pages)| pages == all), "{found:?}");
                scanner.pages = None;
            }
        });
    }

    #[test]
    fn released_pages_are_gone_and_guard_stays() {
        let class = Class::for_size(256 << 10).unwrap();
        for mode in [GuardMode::Auto, GuardMode::Mprotect] {
            with_slots(mode, class, 3, |stacks, _, slots| {
                let slot = &slots[1];
                touch(slot, 20);
                let sp = slot.end() - 3 * mem::page_size() + 256;
                // SAFETY: nobody runs there.
                unsafe { release_below(slot.by_ref(), sp) };
                let mut scanner = Scanner::new();
                assert_eq!(found(&mut scanner, stacks, 10), [(slot.by_ref(), 3)]);
                let byte = |addr| std::ptr::with_exposed_provenance::<u8>(addr);
                // SAFETY: within a slot that we own.
                unsafe {
                    assert_eq!(byte(sp - 256).read(), 1, "kept");
                    assert_eq!(byte(slot.end() - 4 * mem::page_size()).read(), 0, "dropped");
                    release_all_but_top(slot.by_ref());
                    assert_eq!(byte(slot.end() - mem::page_size()).read(), 1, "kept");
                }
                assert_eq!(found(&mut scanner, stacks, 10), []);
                for addr in [slot.base(), slot.limit() - 1] {
                    assert!(!is_readable(addr), "the guard is gone");
                }
                assert!(is_readable(slot.limit()));
            });
        }
    }

    /// Lets the kernel read the byte: it says `EFAULT` where we would die.
    fn is_readable(addr: usize) -> bool {
        let mut pipe = [0; 2];
        // SAFETY: the kernel checks the address.
        unsafe {
            assert_eq!(libc::pipe(pipe.as_mut_ptr()), 0);
            let n = libc::write(pipe[1], std::ptr::with_exposed_provenance(addr), 1);
            libc::close(pipe[0]);
            libc::close(pipe[1]);
            n == 1
        }
    }

    #[test]
    fn free_stacks_are_trimmed_once() {
        let class = Class::for_size(256 << 10).unwrap();
        let stacks = Stacks::new(GuardMode::Auto);
        stacks.reserve(class, 10).unwrap();
        let mut slots = Vec::new();
        stacks.draw(class, 10, &mut slots);
        slots.iter().for_each(|slot| touch(slot, 5));
        stacks.put_back(class, slots.into_iter());
        stacks.unreserve(class, 10);
        assert_eq!(found(&mut Scanner::new(), &stacks, 100).len(), 10);
        assert_eq!(stacks.trim_free(4), 4);
        assert_eq!(found(&mut Scanner::new(), &stacks, 100).len(), 6);
        assert_eq!(stacks.trim_free(100), 6);
        assert_eq!(stacks.trim_free(100), 0);
        assert_eq!(found(&mut Scanner::new(), &stacks, 100), []);
        assert_eq!(stacks.promised(class), 0);
    }
}
