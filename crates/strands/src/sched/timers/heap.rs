//! A heap of deadlines from which any one can be taken out again.
//!
//! ```text
//!   items   (deadline, id) as a heap of fours: 0 │ 1 2 3 4 │ 5 … 8 │ 9 … 12 │ …
//!   places  by id: where its item is, or, of an id that is free, the next free one
//!   values  by id
//! ```
//!
//! Items change places all the time, their ids never. What has to be told of a change is a word of `places`:
//! four bytes each, side by side. (Rejected: each value knows the place of its item. The values lie in their
//! goroutines' stacks, a page each: sixteen misses of cache and TLB for each that is taken out of 50,000.)
//!
//! Fours and not twos: half the levels, and four children are in one or two cache lines.

/// Children of an item.
const ARITY: usize = 4;
/// No id, at the end of the list of free ones.
const END: u32 = u32::MAX;
/// With room for no more than this many, an empty heap keeps it.
const SMALL: usize = 1024;

#[derive(Clone, Copy)]
struct Item {
    deadline: u64,
    id: u32,
}

/// Values by deadline.
pub(super) struct Heap<T> {
    items: Vec<Item>,
    places: Vec<u32>,
    values: Vec<T>,
    free: u32,
}

impl<T: Copy> Heap<T> {
    pub(super) const fn new() -> Heap<T> {
        Heap { items: Vec::new(), places: Vec::new(), values: Vec::new(), free: END }
    }

    /// The earliest deadline.
    #[inline]
    pub(super) fn first(&self) -> Option<u64> {
        self.items.first().map(|item| item.deadline)
    }

    /// Puts a value in. The id names it until it is taken out.
    pub(super) fn push(&mut self, deadline: u64, value: T) -> u32 {
        let id = if self.free == END {
            let id = u32::try_from(self.values.len()).ok().filter(|id| *id < END);
            let id = id.expect("fewer than four thousand million timers");
            self.places.push(0);
            self.values.push(value);
            id
        } else {
            let id = self.free;
            self.free = self.places[id as usize];
            self.values[id as usize] = value;
            id
        };
        self.items.push(Item { deadline, id });
        self.rise(self.items.len() - 1);
        id
    }

    /// Takes the earliest out, if its deadline is not after `now`.
    pub(super) fn pop_due(&mut self, now: u64) -> Option<T> {
        let first = *self.items.first()?;
        (first.deadline <= now).then(|| {
            self.take(0);
            self.values[first.id as usize]
        })
    }

    /// Takes out what `id` names. It must be in.
    pub(super) fn remove(&mut self, id: u32) {
        self.take(self.places[id as usize] as usize);
    }

    /// How many are due at `time`, but at most `limit`: looks at no more than `ARITY` times as many.
    pub(super) fn count_due(&self, time: u64, limit: usize) -> usize {
        self.count_due_below(0, time, limit)
    }

    fn count_due_below(&self, at: usize, time: u64, limit: usize) -> usize {
        if limit == 0 || self.items.get(at).is_none_or(|item| item.deadline > time) {
            return 0;
        }
        let first = ARITY * at + 1;
        (first..first + ARITY).fold(1, |count, child| {
            count + self.count_due_below(child, time, limit - count.min(limit))
        })
    }

    /// The memory of a heap that was large and is empty: to be dropped where no lock is held.
    pub(super) fn remains(&mut self) -> Option<Heap<T>> {
        (self.items.is_empty() && self.values.len() > SMALL)
            .then(|| std::mem::replace(self, Heap::new()))
    }

    fn take(&mut self, place: usize) {
        let item = self.items.swap_remove(place);
        self.places[item.id as usize] = self.free;
        self.free = item.id;
        if place < self.items.len() {
            self.sink(place);
            self.rise(place);
        }
    }

    #[inline]
    fn put(&mut self, at: usize, item: Item) {
        self.items[at] = item;
        self.places[item.id as usize] = at as u32;
    }

    /// Moves an item up to where it belongs.
    fn rise(&mut self, mut at: usize) {
        let item = self.items[at];
        while at > 0 {
            let parent = (at - 1) / ARITY;
            if self.items[parent].deadline <= item.deadline {
                break;
            }
            self.put(at, self.items[parent]);
            at = parent;
        }
        self.put(at, item);
    }

    /// Moves an item down to where it belongs.
    fn sink(&mut self, mut at: usize) {
        let item = self.items[at];
        loop {
            let first = ARITY * at + 1;
            let children = first..(first + ARITY).min(self.items.len());
            let Some(least) = children.min_by_key(|child| self.items[*child].deadline) else {
                break;
            };
            if item.deadline <= self.items[least].deadline {
                break;
            }
            self.put(at, self.items[least]);
            at = least;
        }
        self.put(at, item);
    }
}

#[cfg(test)]
mod tests {
    use super::super::testing::{Random, seed};
    use super::*;
    use std::collections::BTreeMap;

    impl<T: Copy> Heap<T> {
        /// Panics if an item is before its parent, or its place is not where `places` says.
        fn check(&self) {
            for (at, item) in self.items.iter().enumerate() {
                assert_eq!(self.places[item.id as usize] as usize, at);
                assert!(at == 0 || self.items[(at - 1) / ARITY].deadline <= item.deadline);
            }
        }
    }

    #[test]
    fn any_mixture_of_pushes_pops_and_removals_is_as_in_the_model() {
        let mut random = Random::new(seed());
        for round in 0..if cfg!(miri) { 3 } else { 60 } {
            let mut heap = Heap::new();
            // By deadline and number, what names it. Few different deadlines, so that some are the same.
            let mut model: BTreeMap<(u64, u64), u32> = BTreeMap::new();
            for number in 0..400 {
                match random.below(5) {
                    0 if !model.is_empty() => {
                        let nth = random.below(model.len() as u64) as usize;
                        let (key, id) = model.iter().nth(nth).map(|(k, id)| (*k, *id)).unwrap();
                        model.remove(&key);
                        heap.remove(id);
                    }
                    1 => {
                        let now = random.below(300);
                        let popped = heap.pop_due(now);
                        let earliest = model.keys().next().filter(|key| key.0 <= now).copied();
                        assert_eq!(popped.map(|(deadline, _)| deadline), earliest.map(|k| k.0));
                        popped.map(|key| model.remove(&key).expect("it was in"));
                    }
                    _ => {
                        let key = (random.below(200 + round), number);
                        model.insert(key, heap.push(key.0, key));
                    }
                }
                heap.check();
                assert_eq!(heap.first(), model.keys().next().map(|key| key.0));
                let (time, limit) = (random.below(250), random.below(20) as usize);
                let due = model.range(..=(time, u64::MAX)).count();
                assert_eq!(heap.count_due(time, limit), due.min(limit));
            }
        }
    }

    #[test]
    fn what_was_large_leaves_nothing_when_it_is_empty() {
        let mut heap = Heap::new();
        let ids: Vec<u32> = (0..2 * SMALL as u64).map(|at| heap.push(at, at)).collect();
        assert!(heap.remains().is_none(), "it is not empty");
        ids.into_iter().for_each(|id| heap.remove(id));
        assert_eq!(heap.remains().map(|remains| remains.values.len()), Some(2 * SMALL));
        assert_eq!(heap.values.capacity(), 0);
        heap.push(1, 1);
        assert_eq!(heap.pop_due(1), Some(1));
        assert!(heap.remains().is_none(), "it was never large");
    }
}
