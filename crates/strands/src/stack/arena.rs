//! [`Stacks`]: all the stacks of a runtime, by class, with the promises that were made.
//!
//! | field      | who writes it                       | meaning                                   |
//! |------------|-------------------------------------|-------------------------------------------|
//! | `promised` | anyone, by CAS                      | slots in use, in pools, or still to come  |
//! | `capacity` | whoever maps a region, under `store`; grows | slots that are mapped             |
//! | `store`    | behind its lock                     | free slots, and regions to carve new ones |
//!
//! **Invariant:** `slots outside of the store <= promised <= capacity`. So [`Stacks::draw`] finds in
//! the store, free or not yet carved, as many slots as its caller has promises for.

use std::io;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::sync::{Mutex, MutexGuard};

use crossbeam_utils::CachePadded;

use super::guard::{GuardMode, Guards};
use super::region::Region;
use super::scan;
use super::slot::{Class, Slot, SlotRef};
use super::table::{self, Entry};

/// Stacks of every class. Regions are mapped when first needed and stay; dropping a `Stacks` to
/// which everything has come back unmaps them.
#[derive(Debug)]
pub(crate) struct Stacks {
    /// Tells our regions in the process-wide table from others'.
    id: usize,
    guards: Guards,
    arenas: [Arena; Class::COUNT],
}

#[derive(Debug, Default)]
struct Arena {
    promised: CachePadded<AtomicUsize>,
    capacity: AtomicUsize,
    store: Mutex<Store>,
}

#[derive(Debug, Default)]
struct Store {
    /// A stack of stacks: what came back last is warmest and goes out first.
    free: Vec<Slot>,
    /// So many at the bottom of `free` hold one page at most.
    trimmed: usize,
    /// The regions, oldest first.
    regions: Vec<&'static Entry>,
    /// Slots handed out for the first time.
    carved: usize,
}

impl Stacks {
    /// No stacks yet: nothing is mapped before the first reservation.
    pub(crate) fn new(mode: GuardMode) -> Stacks {
        static NEXT_ID: AtomicUsize = AtomicUsize::new(1);
        Stacks {
            id: NEXT_ID.fetch_add(1, Ordering::Relaxed),
            guards: Guards::new(mode),
            arenas: std::array::from_fn(|_| Arena::default()),
        }
    }

    /// Promises `n` slots, each of which a later [`StackPool::take`](super::StackPool::take) is
    /// covered by. Maps a region when those mapped are all promised.
    ///
    /// # Errors
    /// [`OutOfMemory`](io::ErrorKind::OutOfMemory), naming the limit that stands in the way:
    /// address space, or with guards by `mprotect` the number of mappings. Nothing is promised then.
    pub(crate) fn reserve(&self, class: Class, n: usize) -> io::Result<()> {
        if self.try_reserve(class, n) {
            return Ok(());
        }
        self.grow(class, n)
    }

    /// [`reserve`](Stacks::reserve) out of what is mapped already.
    #[inline]
    pub(super) fn try_reserve(&self, class: Class, n: usize) -> bool {
        let arena = self.arena(class);
        // Ordering: Acquire pairs with the Releases in `grow` and `unreserve`: what we promise is in
        // the store, as a region or as a free slot, before we or our customer look there.
        let capacity = arena.capacity.load(Ordering::Acquire);
        arena
            .promised
            .try_update(Ordering::Acquire, Ordering::Relaxed, |promised| {
                promised.checked_add(n).filter(|&sum| sum <= capacity)
            })
            .is_ok()
    }

    /// Takes back `n` promises that no slot was taken for. Those of slots that were taken go back
    /// with [`StackPool::give`](super::StackPool::give).
    pub(crate) fn unreserve(&self, class: Class, n: usize) {
        // Ordering: Release; the slots that these promises covered went into the store before.
        let before = self.arena(class).promised.fetch_sub(n, Ordering::Release);
        debug_assert!(before >= n, "{n} promises of {class} taken back, {before} were made");
    }

    #[cold]
    fn grow(&self, class: Class, n: usize) -> io::Result<()> {
        let arena = self.arena(class);
        let mut store = arena.lock();
        // Others may promise what we have just mapped, hence the loop.
        while !self.try_reserve(class, n) {
            let capacity = arena.capacity.load(Ordering::Relaxed);
            let promised = arena.promised.load(Ordering::Relaxed);
            let needed = promised.saturating_add(n).saturating_sub(capacity);
            if needed == 0 {
                continue;
            }
            let region = Region::map(class, needed, capacity, &self.guards)?;
            let slots = region.slots;
            let Some(entry) = table::add(self.id, region.base, class, slots) else {
                // SAFETY: nobody has seen it.
                unsafe { region.unmap(&self.guards) };
                return Err(io::Error::new(
                    io::ErrorKind::OutOfMemory,
                    format!("{n} more goroutine stacks of {class}: too many regions are mapped"),
                ));
            };
            store.regions.push(entry);
            // Ordering: Release; see `try_reserve`.
            arena.capacity.store(capacity + slots, Ordering::Release);
        }
        Ok(())
    }

    /// Moves `n` slots into `out`: those that were used before, then fresh ones with the guards
    /// made here, outside of the lock. The caller holds a promise for each.
    pub(super) fn draw(&self, class: Class, n: usize, out: &mut Vec<Slot>) {
        let had = out.len();
        let mut store = self.arena(class).lock();
        let recycled = n.min(store.free.len());
        let rest = store.free.len() - recycled;
        out.extend(store.free.drain(rest..));
        store.trimmed = store.trimmed.min(rest);
        let fresh = n - recycled;
        store.carve(fresh, out);
        drop(store);
        // The last is taken first; of fresh ones that should be the lowest, whose neighbour shares
        // its page-table page.
        out[had + recycled..].reverse();
        self.guards.install(&out[had + recycled..]);
        if recycled > 0 {
            // And the warm ones before the fresh ones.
            out[had..].rotate_left(recycled);
        }
    }

    /// Takes slots back into the store. Their promises are still the caller's.
    pub(super) fn put_back(&self, class: Class, slots: impl Iterator<Item = Slot>) {
        self.arena(class).lock().free.extend(slots);
    }

    /// How many slots of a class are mapped, and how many were ever handed out.
    pub(super) fn extent(&self, class: Class) -> (usize, usize) {
        let store = self.arena(class).lock();
        let capacity = self.arena(class).capacity.load(Ordering::Relaxed);
        (capacity, store.carved)
    }

    /// The promises that are out.
    #[cfg(test)]
    pub(crate) fn promised(&self, class: Class) -> usize {
        self.arena(class).promised.load(Ordering::Relaxed)
    }

    /// Gives back the pages of free stacks, but for the top one of each: of at most `most` stacks,
    /// those first that have been free for longest. Returns how many it trimmed; 0 says that there
    /// is nothing left to do.
    ///
    /// What workers keep in their pools is not free in this sense. A pool that is
    /// [drained](super::StackPool::drain) is.
    pub(crate) fn trim_free(&self, most: usize) -> usize {
        let mut done = 0;
        for (class, arena) in Class::all().zip(&self.arenas) {
            let mut store = arena.lock();
            let from = store.trimmed;
            let to = store.free.len().min(from.saturating_add(most - done));
            // What we hold has left the store, so it takes promises: otherwise somebody might draw
            // what they were promised and not find it. Where all is promised, little is free.
            if from == to || !self.try_reserve(class, to - from) {
                continue;
            }
            let batch: Vec<Slot> = store.free.drain(from..to).collect();
            drop(store);
            // Two microseconds a stack: not under the lock.
            for slot in &batch {
                // SAFETY: we own the slot, so nobody uses it.
                unsafe { scan::release_all_but_top(slot.by_ref()) };
            }
            let n = batch.len();
            done += n;
            let mut store = arena.lock();
            let at = store.trimmed;
            store.free.splice(at..at, batch);
            store.trimmed += n;
            drop(store);
            self.unreserve(class, n);
        }
        done
    }

    /// Calls `f` with every slot that was ever handed out, in the order of addresses within a
    /// region; of one class, or of all. Whether anyone runs there is for the caller to know.
    pub(crate) fn for_each_carved(&self, class: Option<Class>, mut f: impl FnMut(SlotRef)) {
        let mut from = 0;
        while let Some((at, entry)) = table::next_of(self.id, from) {
            from = at + 1;
            if class.is_some_and(|class| class != entry.class()) {
                continue;
            }
            let (base, class) = (entry.base(), entry.class());
            (0..entry.carved()).for_each(|index| f(SlotRef::new(base, class, index)));
        }
    }

    /// How many slots were ever handed out, of all classes.
    pub(crate) fn carved(&self) -> usize {
        let mut from = 0;
        let mut sum = 0;
        while let Some((at, entry)) = table::next_of(self.id, from) {
            sum += entry.carved();
            from = at + 1;
        }
        sum
    }

    /// The first of our regions at or after a place in the table, and its place.
    pub(super) fn next_region(&self, from: usize) -> Option<(usize, &'static Entry)> {
        table::next_of(self.id, from)
    }

    #[inline]
    fn arena(&self, class: Class) -> &Arena {
        &self.arenas[class.index()]
    }
}

impl Arena {
    fn lock(&self) -> MutexGuard<'_, Store> {
        // Nothing in here panics half-way; a poisoned lock says nothing about the store.
        self.store.lock().unwrap_or_else(|e| e.into_inner())
    }
}

impl Store {
    /// Hands out `n` slots for the first time, lowest first. They have no guards yet.
    fn carve(&mut self, mut n: usize, out: &mut Vec<Slot>) {
        self.carved += n;
        // A region may have come before the one below it was carved up, so look from the first. There
        // are few.
        for entry in &self.regions {
            if n == 0 {
                return;
            }
            let carved = entry.carved();
            let here = n.min(entry.slots() - carved);
            entry.set_carved(carved + here);
            out.extend((carved..carved + here).map(|index| {
                let slot = SlotRef::new(entry.base(), entry.class(), index);
                // SAFETY: `carved` only grows, under the lock that we hold, so this index was never
                // handed out; `draw` makes the guard before anyone sees the slot.
                unsafe { Slot::own(slot) }
            }));
            n -= here;
        }
        if n > 0 {
            // Whoever asked has no promise. Running on without a stack is not an option.
            eprintln!("strands: {n} stacks were taken that nobody reserved");
            std::process::abort();
        }
    }
}

impl Drop for Stacks {
    fn drop(&mut self) {
        for (class, arena) in Class::all().zip(&mut self.arenas) {
            // Somebody still runs in there, or holds a slot. Better leak than pull it away.
            if *arena.promised.get_mut() > 0 {
                continue;
            }
            let store = arena.store.get_mut().unwrap_or_else(|e| e.into_inner());
            for entry in store.regions.drain(..) {
                let region = Region { base: entry.base(), slots: entry.slots(), class };
                table::remove(entry);
                // SAFETY: no promises are out, so every slot is in `free`, and `free` ends with us.
                unsafe { region.unmap(&self.guards) };
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use std::collections::HashSet;
    use std::fs;

    use super::super::{StackPool, lookup};
    use super::*;

    fn dense() -> Class {
        Class::for_size(64 << 10).unwrap()
    }

    fn mappings_around(addr: usize) -> usize {
        let maps = fs::read_to_string("/proc/self/maps").unwrap();
        let (low, high) = (addr, addr + (1 << 30));
        maps.lines()
            .filter(|line| {
                let (start, rest) = line.split_once('-').unwrap();
                let end = rest.split_whitespace().next().unwrap();
                let number = |s| usize::from_str_radix(s, 16).unwrap();
                number(start) < high && number(end) > low
            })
            .count()
    }

    #[test]
    fn a_slot_is_writable_from_top_to_limit() {
        let stacks = Stacks::new(GuardMode::Auto);
        let mut pool = StackPool::new();
        for class in [dense(), Class::DEFAULT] {
            stacks.reserve(class, 1).unwrap();
            let slot = pool.take(&stacks, class);
            for addr in (slot.limit()..slot.end()).step_by(4096) {
                let word = std::ptr::with_exposed_provenance_mut::<usize>(addr);
                // SAFETY: within a slot that we own.
                unsafe {
                    assert_eq!(word.read(), 0);
                    word.write(addr);
                }
            }
            pool.give(&stacks, slot);
        }
        pool.drain(&stacks);
    }

    #[test]
    fn guards_do_not_split_the_mapping() {
        let stacks = Stacks::new(GuardMode::Auto);
        if stacks.guards.are_scarce() {
            return; // A kernel before 6.13: they do.
        }
        let class = dense();
        stacks.reserve(class, 10_000).unwrap();
        let mut slots = Vec::new();
        stacks.draw(class, 10_000, &mut slots);
        assert_eq!(mappings_around(slots[0].base()), 1);
        stacks.put_back(class, slots.into_iter());
        stacks.unreserve(class, 10_000);
    }

    #[test]
    fn no_slot_is_handed_out_twice() {
        let stacks = Stacks::new(GuardMode::Auto);
        let class = dense();
        stacks.reserve(class, 300).unwrap();
        let mut slots = Vec::new();
        stacks.draw(class, 100, &mut slots);
        let warm: Vec<_> = slots.iter().map(Slot::by_ref).collect();
        stacks.put_back(class, slots.drain(..));
        stacks.draw(class, 300, &mut slots);
        let all: HashSet<_> = slots.iter().map(Slot::by_ref).collect();
        assert_eq!(all.len(), 300);
        assert!(warm.iter().all(|slot| all.contains(slot)), "reuse first");
        assert!(slots.iter().all(|s| lookup(s.top() - 1) == Some(s.by_ref())));

        let mut seen = 0;
        stacks.for_each_carved(None, |slot| seen += usize::from(all.contains(&slot)));
        assert_eq!(seen, 300);
        stacks.for_each_carved(Some(Class::DEFAULT), |slot| panic!("{slot:?}"));
        stacks.put_back(class, slots.into_iter());
        stacks.unreserve(class, 300);
    }

    #[test]
    fn dropping_what_all_came_back_to_unmaps_it() {
        let stacks = Stacks::new(GuardMode::Auto);
        let class = Class::for_size(1 << 30).unwrap();
        stacks.reserve(class, 2).unwrap();
        let mut slots = Vec::new();
        stacks.draw(class, 2, &mut slots);
        let addr = slots[0].base();
        stacks.put_back(class, slots.into_iter());
        stacks.unreserve(class, 1);
        assert!(lookup(addr).is_some());
        stacks.unreserve(class, 1);
        drop(stacks);
        assert!(lookup(addr).is_none());
    }

    #[test]
    fn a_second_region_follows_a_full_one() {
        let stacks = Stacks::new(GuardMode::Auto);
        let class = Class::for_size(1 << 30).unwrap();
        stacks.reserve(class, 1).unwrap();
        let (first, _) = stacks.extent(class);
        stacks.reserve(class, first).unwrap();
        assert!(stacks.extent(class).0 > first);
        assert_eq!(stacks.promised(class), first + 1);
        stacks.unreserve(class, first + 1);
    }
}
