//! Regions: how much address space to ask for, and where slots start in it.
//!
//! Address space costs nothing, so the first region of a class is as large as a million default
//! stacks. Where something limits it, we share: stacks take at most half of what they find, and a
//! region at most half of what stacks may still take, because the program's heap lives there too.

use std::io;
use std::sync::atomic::{AtomicUsize, Ordering};

use super::guard::Guards;
use super::slot::Class;
use crate::sys::mem::{self, Advice};

/// The most slots in a region, and the most bytes. All fifteen classes together then ask for 103 of
/// the 128 TiB that a process has on x86-64.
const MOST_SLOTS: usize = 1 << 24;
const MOST_BYTES: usize = 8 << 40;
/// The fewest slots worth a region of their own, where there is a choice.
const FEW_SLOTS: usize = 16;
/// How many slots a region gets at least when guards are scarce.
const SCARCE_SLOTS: usize = 1024;

/// What all regions together have mapped.
static MAPPED: AtomicUsize = AtomicUsize::new(0);

/// A mapping, cut into slots of one class. Whoever holds it unmaps it or passes it on.
#[must_use]
#[derive(Debug)]
pub(super) struct Region {
    pub(super) base: usize,
    pub(super) slots: usize,
    pub(super) class: Class,
}

impl Region {
    /// Maps a region for at least `needed` slots, and as many more as is decent, `mapped` being how
    /// many the class has already.
    ///
    /// # Errors
    /// [`OutOfMemory`](io::ErrorKind::OutOfMemory), saying what ran out.
    pub(super) fn map(
        class: Class,
        needed: usize,
        mapped: usize,
        guards: &Guards,
    ) -> io::Result<Region> {
        let wanted = wanted(class, needed, mapped, guards)?;
        let slots = guards.set_aside(needed, wanted)?;
        let region = Region::map_most(class, needed, slots);
        let used = region.as_ref().map_or(0, |region| region.slots);
        guards.give_back(slots - used);
        let region = region?;
        MAPPED.fetch_add(region.len(), Ordering::Relaxed);
        Ok(region)
    }

    /// Unmaps it.
    ///
    /// # Safety
    /// Nobody uses any of its slots, or ever will.
    pub(super) unsafe fn unmap(self, guards: &Guards) {
        // SAFETY: our mapping, of which the caller says that nobody uses it.
        unsafe { mem::unmap(self.base, self.len()) };
        guards.give_back(self.slots);
        MAPPED.fetch_sub(self.len(), Ordering::Relaxed);
    }

    fn len(&self) -> usize {
        self.slots << self.class.shift()
    }

    /// Maps `slots` slots, or half as many, and so on down to `needed`.
    fn map_most(class: Class, needed: usize, slots: usize) -> io::Result<Region> {
        let mut slots = slots;
        let mut refused = false;
        loop {
            match Region::map_exactly(class, slots) {
                // What is granted after a refusal may be all that there is. Leave half of it.
                Ok(region) if refused => return Ok(region.keep((slots / 2).max(needed))),
                Ok(region) => return Ok(region),
                Err(error) if slots == needed => return Err(no_room(class, needed, &error)),
                Err(_) => {
                    refused = true;
                    slots = (slots / 2).max(needed);
                }
            }
        }
    }

    fn map_exactly(class: Class, slots: usize) -> io::Result<Region> {
        let too_many = || io::Error::from(io::ErrorKind::OutOfMemory);
        let len = slots.checked_mul(class.size()).ok_or_else(too_many)?;
        // From this class on, where a boundary falls decides between one page-table page for a
        // stack and two: a guard ends where a page-table page's addresses begin.
        let span = mem::page_table_span();
        let slack = if class.size() >= span { span } else { 0 };
        let addr = mem::map(len.checked_add(slack).ok_or_else(too_many)?)?;
        let base = if slack == 0 {
            addr
        } else {
            let guard = class.guard_len();
            (addr + guard).next_multiple_of(span) - guard
        };
        // SAFETY: what we mapped and do not keep. `base - addr` is less than `slack`, both being
        // whole pages.
        unsafe {
            mem::unmap(addr, base - addr);
            mem::unmap(base + len, addr + slack - base);
        }
        // SAFETY: our mapping; neither piece of advice drops anything.
        unsafe {
            // A kernel without huge pages refuses the first, and needs it not. Without the second
            // a core dump is larger.
            let _ = mem::advise(base, len, Advice::NoHugePages);
            let _ = mem::advise(base, len, Advice::DontDump);
        }
        Ok(Region { base, slots, class })
    }

    /// Unmaps all but the first `slots` slots.
    fn keep(mut self, slots: usize) -> Region {
        let before = self.len();
        self.slots = slots;
        // SAFETY: the upper part of our mapping, which nobody has seen yet.
        unsafe { mem::unmap(self.base + self.len(), before - self.len()) };
        self
    }
}

/// How many slots to ask for: at least `needed`.
fn wanted(class: Class, needed: usize, mapped: usize, guards: &Guards) -> io::Result<usize> {
    let size = class.size();
    let mut wanted = MOST_SLOTS.min(MOST_BYTES / size);
    if guards.are_scarce() {
        // Guards that one class sets aside are lost to the others, so grow by doubling.
        wanted = wanted.min(mapped.max(SCARCE_SLOTS));
    }
    if let Some((left, limit)) = mem::room() {
        let ours = MAPPED.load(Ordering::Relaxed);
        let slack = 2 * mem::page_table_span();
        let ours_at_most = (left + ours) / 2;
        let may_take = ours_at_most.saturating_sub(ours + slack) / size;
        if needed > may_take {
            return Err(io::Error::new(
                io::ErrorKind::OutOfMemory,
                format!(
                    "{needed} more goroutine stacks of {class}: {limit} leaves room for \
                     {may_take}; half of it is kept for the heap"
                ),
            ));
        }
        wanted = wanted.min((may_take / 2).max(FEW_SLOTS.min(may_take)));
    }
    Ok(wanted.max(needed))
}

fn no_room(class: Class, needed: usize, error: &io::Error) -> io::Error {
    io::Error::new(
        io::ErrorKind::OutOfMemory,
        format!("{needed} more goroutine stacks of {class}: no address space for them ({error})"),
    )
}

#[cfg(test)]
mod tests {
    use super::super::guard::GuardMode;
    use super::super::in_child::{in_child, limit, stderr};
    use super::super::{StackPool, Stacks};
    use super::*;

    #[test]
    fn a_guard_shares_its_page_table_page_with_the_stack_below() {
        let guards = Guards::new(GuardMode::Auto);
        for class in Class::all() {
            let region = Region::map_exactly(class, 3).unwrap();
            MAPPED.fetch_add(region.len(), Ordering::Relaxed);
            let span = mem::page_table_span();
            assert_eq!(region.base % mem::page_size(), 0);
            if class.size() >= span {
                assert_eq!((region.base + class.guard_len()) % span, 0);
                let second = region.base + class.size();
                let last_of_first = second - 1;
                let last_of_guard = second + class.guard_len() - 1;
                assert_eq!(last_of_first / span, last_of_guard / span, "{class}");
            }
            // SAFETY: nobody has seen it.
            unsafe { region.unmap(&guards) };
        }
    }

    #[test]
    fn impossible_numbers_are_refused() {
        let guards = Guards::new(GuardMode::Auto);
        for needed in [1 << 45, usize::MAX / 2, usize::MAX] {
            let error = Region::map(Class::DEFAULT, needed, 0, &guards).unwrap_err();
            assert_eq!(error.kind(), io::ErrorKind::OutOfMemory);
            assert!(error.to_string().contains("8 MiB"), "{error}");
        }
    }
    /// Takes what there is under a limit of 4 GiB, 512 stacks' worth.
    fn take_all(resource: u32, name: &str) {
        limit(resource, 4 << 30);
        let stacks = Stacks::new(GuardMode::Auto);
        let error = stacks.reserve(Class::DEFAULT, 1000).unwrap_err();
        assert_eq!(error.kind(), io::ErrorKind::OutOfMemory);
        assert!(error.to_string().contains(name), "{error}");
        assert_eq!(stacks.promised(Class::DEFAULT), 0);

        let mut one_by_one = (0..).map(|_| stacks.reserve(Class::DEFAULT, 1));
        let reserved = one_by_one.position(|result| result.is_err()).unwrap();
        assert!((100..=256).contains(&reserved), "{reserved} of 512");
        // The heap has its half.
        let heap = vec![0_u8; 1 << 30];
        assert_eq!(std::hint::black_box(heap).len(), 1 << 30);
    }

    #[test]
    fn reservation_beyond_rlimit_is_an_error() {
        let name = concat!(module_path!(), "::reservation_beyond_rlimit_is_an_error");
        let output = in_child(name, || take_all(mem::RLIMIT_AS, "RLIMIT_AS"));
        assert!(output.status.success(), "{}", stderr(&output));
    }

    #[test]
    fn reservation_beyond_the_data_limit_is_an_error() {
        let name = concat!(module_path!(), "::reservation_beyond_the_data_limit_is_an_error");
        let output = in_child(name, || take_all(mem::RLIMIT_DATA, "RLIMIT_DATA"));
        assert!(output.status.success(), "{}", stderr(&output));
    }

    #[test]
    fn promises_are_kept_where_nothing_can_be_mapped_any_more() {
        let name =
            concat!(module_path!(), "::promises_are_kept_where_nothing_can_be_mapped_any_more");
        let output = in_child(name, || {
            limit(mem::RLIMIT_AS, 4 << 30);
            let stacks = Stacks::new(GuardMode::Auto);
            let class = Class::DEFAULT;
            let refused = AtomicUsize::new(0);
            std::thread::scope(|scope| {
                for worker in 0..4 {
                    let (stacks, refused) = (&stacks, &refused);
                    scope.spawn(move || {
                        let mut pool = StackPool::new();
                        for round in 0..300 {
                            let mut slots = Vec::new();
                            for i in 0..1 + (round * 37 + worker * 11) % 280 {
                                if pool.reserve(stacks, class).is_err() {
                                    refused.fetch_add(1, Ordering::Relaxed);
                                } else if i % 7 == 0 {
                                    pool.unreserve(stacks, class);
                                } else {
                                    slots.push(pool.take(stacks, class));
                                }
                                if i % 16 == 0 {
                                    stacks.trim_free(4);
                                }
                            }
                            slots.into_iter().for_each(|slot| pool.give(stacks, slot));
                        }
                        pool.drain(stacks);
                    });
                }
            });
            assert!(refused.into_inner() > 0, "there was enough for all");
            assert_eq!(stacks.promised(class), 0);
            let (capacity, carved) = stacks.extent(class);
            assert!(carved <= capacity && capacity <= 256, "{carved} of {capacity}");
        });
        assert!(output.status.success(), "{}", stderr(&output));
    }
}
