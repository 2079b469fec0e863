//! [`StackPool`]: the stacks that a worker keeps at hand, with no lock and no atomic in the way.
//!
//! A shelf per class holds free slots, last in, first out (the last is warm), and counts promises:
//!
//! **Invariant:** a shelf holds `slots.len() + spare` promises, one for each slot and `spare` for
//! goroutines that this worker will spawn. In a steady state of spawning, running and finishing,
//! promises and slots go around between the shelf and its goroutines, and `Stacks` hears nothing.

use std::io;

use super::arena::Stacks;
use super::slot::{Class, Slot};
use crate::sys::cache::prefetch;

/// How much of a stack's top is fetched into the cache before somebody starts there: a header of the layer above, and
/// the frames down to a first wait. Guessed.
const FIRST_BYTES: usize = 768;

/// A worker's own free stacks.
#[derive(Debug)]
pub(crate) struct StackPool {
    shelves: [Shelf; Class::COUNT],
}

#[derive(Debug, Default)]
struct Shelf {
    slots: Vec<Slot>,
    spare: usize,
    /// The most promises that it keeps; 0 until it is first refilled.
    most: usize,
}

impl StackPool {
    /// An empty pool. Before the worker goes, [`drain`](StackPool::drain) it.
    pub(crate) fn new() -> StackPool {
        StackPool { shelves: std::array::from_fn(|_| Shelf::default()) }
    }

    /// Promises a slot, as [`Stacks::reserve`] does, mostly without asking there.
    ///
    /// # Errors
    /// As for [`Stacks::reserve`].
    #[inline]
    pub(crate) fn reserve(&mut self, stacks: &Stacks, class: Class) -> io::Result<()> {
        let shelf = &mut self.shelves[class.index()];
        if shelf.spare > 0 {
            shelf.spare -= 1;
            return Ok(());
        }
        shelf.restock(stacks, class)
    }

    /// Takes back a promise that no slot was taken for.
    #[inline]
    pub(crate) fn unreserve(&mut self, stacks: &Stacks, class: Class) {
        let shelf = &mut self.shelves[class.index()];
        shelf.spare += 1;
        if shelf.promises() > shelf.most {
            shelf.spill(stacks, class);
        }
    }

    /// A stack, for a promise that [`reserve`](StackPool::reserve) made here or elsewhere. The
    /// promise is in the slot from now on.
    #[inline]
    pub(crate) fn take(&mut self, stacks: &Stacks, class: Class) -> Slot {
        let shelf = &mut self.shelves[class.index()];
        match shelf.slots.pop() {
            Some(slot) => {
                // It leaves with the promise that the shelf held for it, and we keep the caller's.
                shelf.spare += 1;
                if let Some(next) = shelf.slots.last() {
                    prefetch(next.top() - FIRST_BYTES, FIRST_BYTES / 64);
                }
                slot
            }
            None => shelf.refill(stacks, class),
        }
    }

    /// Takes a stack back, and its promise with it. Nothing on it is in use any more.
    #[inline]
    pub(crate) fn give(&mut self, stacks: &Stacks, slot: Slot) {
        let class = slot.class();
        let shelf = &mut self.shelves[class.index()];
        shelf.slots.push(slot);
        if shelf.promises() > shelf.most {
            shelf.spill(stacks, class);
        }
    }

    /// Takes a stack back from a goroutine that will want one again, and leaves it the promise.
    #[inline]
    pub(crate) fn give_lent(&mut self, stacks: &Stacks, slot: Slot) {
        let class = slot.class();
        let shelf = &mut self.shelves[class.index()];
        if shelf.spare > 0 {
            // The slot is covered by a promise of ours from now on.
            shelf.spare -= 1;
            shelf.slots.push(slot);
        } else {
            // We have none to cover it with. `take` left one, so it was used since, or spilled.
            stacks.put_back(class, std::iter::once(slot));
        }
    }

    /// Whether there is no stack in it.
    pub(crate) fn is_empty(&self) -> bool {
        self.shelves.iter().all(|shelf| shelf.slots.is_empty())
    }

    /// Gives everything back: the worker retires, or will sleep for long.
    pub(crate) fn drain(&mut self, stacks: &Stacks) {
        for (class, shelf) in Class::all().zip(&mut self.shelves) {
            shelf.shrink(stacks, class, 0, 0);
        }
    }
}

impl Shelf {
    fn promises(&self) -> usize {
        self.slots.len() + self.spare
    }

    /// Spawning: no promise at hand.
    #[cold]
    fn restock(&mut self, stacks: &Stacks, class: Class) -> io::Result<()> {
        self.measure(stacks, class);
        let room = self.most.saturating_sub(self.promises());
        let extra = (self.most / 4).min(room);
        if extra > 0 && stacks.try_reserve(class, extra + 1) {
            self.spare = extra;
            return Ok(());
        }
        stacks.reserve(class, 1)
    }

    /// Starting: no stack at hand. Fetches several, as many as there are promises to be had for.
    #[cold]
    fn refill(&mut self, stacks: &Stacks, class: Class) -> Slot {
        let carved = self.measure(stacks, class);
        // Fresh slots cost page tables before anyone runs in them, so a small program gets few.
        let wanted = (self.most / 2).min(carved.max(FEW)).max(1);
        // The caller brings one promise; the rest are ours.
        let covered = self.spare + 1;
        let n = if wanted > covered && stacks.try_reserve(class, wanted - covered) {
            self.spare = 0;
            wanted
        } else {
            let n = wanted.min(covered);
            self.spare -= n - 1;
            n
        };
        stacks.draw(class, n, &mut self.slots);
        // They are cold. All pages at once, and the rest of what is touched first as each one's turn comes near.
        self.slots.iter().for_each(|slot| prefetch(slot.top() - 1, 1));
        self.slots.pop().expect("`draw` brings what it is asked for")
    }

    /// Finishing: more at hand than is decent.
    #[cold]
    fn spill(&mut self, stacks: &Stacks, class: Class) {
        if self.most == 0 {
            self.measure(stacks, class);
        }
        self.shrink(stacks, class, self.most / 2, self.most / 4);
    }

    /// Gives back what goes beyond so many slots and spare promises. The coldest slots go.
    fn shrink(&mut self, stacks: &Stacks, class: Class, slots: usize, spare: usize) {
        let cold = self.slots.len().saturating_sub(slots);
        let promises = cold + self.spare.saturating_sub(spare);
        if cold > 0 {
            stacks.put_back(class, self.slots.drain(..cold));
        }
        if promises > 0 {
            self.spare = self.spare.min(spare);
            // After the slots: see `Stacks::unreserve`.
            stacks.unreserve(class, promises);
        }
    }

    /// Sets `most` by what is mapped, and returns how many slots were ever carved.
    ///
    /// Promises kept here are promises refused elsewhere, which matters where capacity cannot grow.
    /// A 64th of it leaves half of it to be had with 32 workers.
    fn measure(&mut self, stacks: &Stacks, class: Class) -> usize {
        let (capacity, carved) = stacks.extent(class);
        // 256 of up to 2 MiB, 64 of the default, 4 of the largest: what a pool may hold on to in
        // the worst case, all of it touched, is the same for all. Guessed.
        let decent = ((512 << 20) / class.size()).clamp(4, 256);
        self.most = decent.min(capacity / 64);
        carved
    }
}

/// How many fresh slots a program starts with.
const FEW: usize = 8;

#[cfg(test)]
mod tests {
    use super::super::GuardMode;
    use super::*;

    fn dense() -> Class {
        Class::for_size(64 << 10).unwrap()
    }

    #[test]
    fn a_stack_that_is_lent_leaves_the_promise_with_its_borrower() {
        let stacks = Stacks::new(GuardMode::Auto);
        let class = dense();
        stacks.reserve(class, 1).unwrap();
        for spare in [0, 1] {
            let mut pool = StackPool::new();
            for _ in 0..3 {
                let slot = pool.take(&stacks, class);
                if spare == 1 {
                    pool.reserve(&stacks, class).unwrap();
                    pool.unreserve(&stacks, class);
                }
                pool.give_lent(&stacks, slot);
                let shelf = &pool.shelves[class.index()];
                assert_eq!(stacks.promised(class), 1 + shelf.promises());
            }
            pool.drain(&stacks);
            assert_eq!(stacks.promised(class), 1, "the borrower's");
        }
        stacks.unreserve(class, 1);
    }

    #[test]
    fn the_last_stack_given_is_taken_first() {
        let stacks = Stacks::new(GuardMode::Auto);
        let mut pool = StackPool::new();
        let class = dense();
        stacks.reserve(class, 2).unwrap();
        let (a, b) = (pool.take(&stacks, class), pool.take(&stacks, class));
        assert_eq!(b.base(), a.base() + class.size(), "fresh ones come lowest first");
        let name = a.by_ref();
        pool.give(&stacks, b);
        pool.give(&stacks, a);
        pool.reserve(&stacks, class).unwrap();
        let again = pool.take(&stacks, class);
        assert_eq!(again.by_ref(), name);
        pool.give(&stacks, again);
        pool.drain(&stacks);
        assert_eq!(stacks.promised(class), 0);
    }

    #[test]
    fn a_pool_keeps_little_and_drains_to_nothing() {
        let stacks = Stacks::new(GuardMode::Auto);
        let (mut one, mut other) = (StackPool::new(), StackPool::new());
        let class = dense();
        for round in 0..3 {
            // Spawned outside, run by one worker, finished by another.
            stacks.reserve(class, 5000).unwrap();
            let slots: Vec<_> = (0..5000).map(|_| one.take(&stacks, class)).collect();
            slots.into_iter().for_each(|slot| other.give(&stacks, slot));
            assert!(stacks.promised(class) <= 2 * 256, "{}", stacks.promised(class));
            let (_, carved) = stacks.extent(class);
            assert!(carved <= 5000 + 2 * 256, "{carved} in round {round}");
        }
        one.drain(&stacks);
        other.drain(&stacks);
        assert_eq!(stacks.promised(class), 0);
    }

    #[test]
    fn promises_that_were_never_used_come_back() {
        let stacks = Stacks::new(GuardMode::Auto);
        let mut pool = StackPool::new();
        for _ in 0..1000 {
            pool.reserve(&stacks, dense()).unwrap();
        }
        assert!(stacks.promised(dense()) >= 1000);
        for _ in 0..1000 {
            pool.unreserve(&stacks, dense());
        }
        assert!(stacks.promised(dense()) <= 256);
        pool.drain(&stacks);
        assert_eq!(stacks.promised(dense()), 0);
    }
}
