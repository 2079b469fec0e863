//! Every region of the process in one table, so that an address finds its slot: from a signal
//! handler too, with no lock and no allocation.
//!
//! One table for all instances of [`Stacks`](super::Stacks), because a handler has only the address
//! to go by. Regions come under a lock and go when their `Stacks` does; readers take no part in it.
//!
//! | field    | written                                   | read                      |
//! |----------|-------------------------------------------|---------------------------|
//! | `base`   | last when a region comes, first when it goes | by anyone; 0 is "vacant" |
//! | the rest | while `base` is 0, under [`CHANGES`]      | between two looks at `base` |
//! | `carved` | by the owner, under its own lock; grows   | by anyone                 |

use std::sync::Mutex;
use std::sync::atomic::{AtomicUsize, Ordering, fence};

use super::slot::{Class, SlotRef};

/// How many regions a process can have. A class needs a second one after a million stacks, or
/// where the address space is limited; then each is as large as all before it.
const ENTRIES: usize = 256;

static TABLE: [Entry; ENTRIES] = [const { Entry::vacant() }; ENTRIES];

/// How many entries were ever in use: as far as a search has to go.
static USED: AtomicUsize = AtomicUsize::new(0);

/// Held by whoever adds or removes a region.
static CHANGES: Mutex<()> = Mutex::new(());

/// A region: side by side, `slots` slots of one class.
#[derive(Debug)]
pub(super) struct Entry {
    base: AtomicUsize,
    slots: AtomicUsize,
    class: AtomicUsize,
    /// How many of the slots have been given a guard and handed out, lowest first.
    carved: AtomicUsize,
    owner: AtomicUsize,
}

impl Entry {
    const fn vacant() -> Entry {
        Entry {
            base: AtomicUsize::new(0),
            slots: AtomicUsize::new(0),
            class: AtomicUsize::new(0),
            carved: AtomicUsize::new(0),
            owner: AtomicUsize::new(0),
        }
    }

    pub(super) fn base(&self) -> usize {
        // Ordering: Acquire pairs with the Release in `add`: the other fields are this region's.
        self.base.load(Ordering::Acquire)
    }

    pub(super) fn slots(&self) -> usize {
        self.slots.load(Ordering::Relaxed)
    }

    pub(super) fn class(&self) -> Class {
        Class::from_index(self.class.load(Ordering::Relaxed))
    }

    /// How many slots have been carved. Those before it may be looked at; that their memory is
    /// mapped was settled when the region came, so nothing hangs on the order of this.
    pub(super) fn carved(&self) -> usize {
        self.carved.load(Ordering::Relaxed)
    }

    /// Says that `carved` slots are in use. For the owner, under its lock.
    pub(super) fn set_carved(&self, carved: usize) {
        debug_assert!(self.carved() <= carved && carved <= self.slots());
        self.carved.store(carved, Ordering::Relaxed);
    }
}

/// Enters a region; `None` when the table is full.
pub(super) fn add(owner: usize, base: usize, class: Class, slots: usize) -> Option<&'static Entry> {
    let _changes = CHANGES.lock().unwrap_or_else(|e| e.into_inner());
    let (at, entry) = TABLE.iter().enumerate().find(|(_, e)| e.base() == 0)?;
    entry.slots.store(slots, Ordering::Relaxed);
    entry.class.store(class.index(), Ordering::Relaxed);
    entry.carved.store(0, Ordering::Relaxed);
    entry.owner.store(owner, Ordering::Relaxed);
    // Ordering: Release, so that whoever sees the base sees the rest.
    entry.base.store(base, Ordering::Release);
    USED.fetch_max(at + 1, Ordering::Release);
    Some(entry)
}

/// Takes a region out of the table. Its owner does so before it unmaps it.
pub(super) fn remove(entry: &'static Entry) {
    let _changes = CHANGES.lock().unwrap_or_else(|e| e.into_inner());
    entry.base.store(0, Ordering::Relaxed);
    // Ordering: the next `add` must not be seen to fill the entry before it was vacated; pairs
    // with the fence in `lookup`.
    fence(Ordering::Release);
}

/// The slot that `addr` belongs to, guard included; `None` if it is in no slot that was ever handed
/// out. Async-signal-safe.
///
/// The answer holds for as long as the slot's [`Stacks`](super::Stacks) lives, which it does while
/// anyone runs in one of its slots.
#[inline]
pub(crate) fn lookup(addr: usize) -> Option<SlotRef> {
    let used = USED.load(Ordering::Acquire);
    TABLE[..used].iter().find_map(|entry| {
        let base = entry.base();
        if base == 0 || addr < base {
            return None;
        }
        let class = entry.class();
        let index = (addr - base) >> class.shift();
        if index >= entry.carved() {
            return None;
        }
        // A region that went away while we read it, its entry perhaps taken by another.
        fence(Ordering::Acquire);
        if entry.base.load(Ordering::Relaxed) != base {
            return None;
        }
        Some(SlotRef::new(base, class, index))
    })
}

/// The first region of `owner` at or after place `from` in the table, and its place.
pub(super) fn next_of(owner: usize, from: usize) -> Option<(usize, &'static Entry)> {
    let used = USED.load(Ordering::Acquire);
    (from..used)
        .map(|at| (at, &TABLE[at]))
        .find(|(_, entry)| entry.base() != 0 && entry.owner.load(Ordering::Relaxed) == owner)
}

#[cfg(test)]
mod tests {
    use super::*;

    // Addresses that nobody maps: the table does not look behind them.
    const NOWHERE: usize = 0xffff_0000_0000_0000;

    #[test]
    fn an_address_finds_its_slot_and_a_stranger_none() {
        let class = Class::for_size(64 << 10).unwrap();
        let entry = add(usize::MAX, NOWHERE, class, 10).unwrap();
        assert_eq!(lookup(NOWHERE), None, "nothing is carved yet");
        entry.set_carved(2);
        let second = lookup(NOWHERE + (64 << 10)).unwrap();
        assert_eq!(second.base(), NOWHERE + (64 << 10));
        assert!(second.guard().contains(&second.base()));
        assert_eq!(lookup(second.end() - 1), Some(second));
        assert!(!second.guard().contains(&(second.end() - 1)));
        assert_eq!(lookup(second.end()), None, "the third is not carved");
        assert_eq!(lookup(NOWHERE - 1), None);
        assert_eq!(lookup(&class as *const Class as usize), None);
        remove(entry);
        assert_eq!(lookup(second.base()), None);
    }

    #[test]
    fn regions_are_found_by_owner() {
        let owner = usize::MAX - 1;
        let a = add(owner, NOWHERE + (1 << 40), Class::DEFAULT, 1).unwrap();
        let b = add(owner, NOWHERE + (2 << 40), Class::DEFAULT, 1).unwrap();
        let (at, first) = next_of(owner, 0).unwrap();
        let (next, second) = next_of(owner, at + 1).unwrap();
        assert_ne!(first.base(), second.base());
        assert!(next_of(owner, next + 1).is_none());
        remove(a);
        remove(b);
        assert!(next_of(owner, 0).is_none());
    }
}
