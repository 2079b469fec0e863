//! A heap of deadlines that says of each item where it is, so that any one can be taken out again.
//!
//! ```text
//!   items    (deadline, id) as a heap of fours: 0 │ 1 2 3 4 │ 5 … 8 │ 9 … 12 │ …
//!   records  by id: where its item is, and its value; the agenda's, which gives out the ids
//! ```
//!
//! Items change places all the time, their ids never. What has to be told of a change is a record: a few words
//! each, side by side. (Rejected: each value knows the place of its item. The values lie in their
//! goroutines' stacks, a page each: sixteen misses of cache and TLB for each that is taken out of 50,000.)
//!
//! Fours and not twos: half the levels, and four children are in one or two cache lines.

use super::agenda::{Item, Place, Record};

/// Children of an item.
const ARITY: usize = 4;

/// Items by deadline.
pub(super) struct Heap {
    items: Vec<Item>,
}

impl Heap {
    pub(super) const fn new() -> Heap {
        Heap { items: Vec::new() }
    }

    #[inline]
    pub(super) fn len(&self) -> usize {
        self.items.len()
    }

    /// The one with the earliest deadline.
    #[inline]
    pub(super) fn first(&self) -> Option<Item> {
        self.items.first().copied()
    }

    pub(super) fn push<T>(&mut self, item: Item, records: &mut [Record<T>]) {
        self.items.push(item);
        self.rise(self.items.len() - 1, records);
    }

    /// Takes out what is at this place.
    pub(super) fn take<T>(&mut self, place: usize, records: &mut [Record<T>]) {
        self.items.swap_remove(place);
        if place < self.items.len() {
            self.sink(place, records);
            self.rise(place, records);
        }
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

    #[inline]
    fn put<T>(&mut self, at: usize, item: Item, records: &mut [Record<T>]) {
        self.items[at] = item;
        records[item.id as usize].place = Place::in_heap(at);
    }

    /// Moves an item up to where it belongs.
    fn rise<T>(&mut self, mut at: usize, records: &mut [Record<T>]) {
        let item = self.items[at];
        while at > 0 {
            let parent = (at - 1) / ARITY;
            if self.items[parent].deadline <= item.deadline {
                break;
            }
            self.put(at, self.items[parent], records);
            at = parent;
        }
        self.put(at, item, records);
    }

    /// Moves an item down to where it belongs.
    fn sink<T>(&mut self, mut at: usize, records: &mut [Record<T>]) {
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
            self.put(at, self.items[least], records);
            at = least;
        }
        self.put(at, item, records);
    }

    /// Panics if an item is before its parent, or not where `records` says.
    #[cfg(test)]
    pub(super) fn check<T>(&self, records: &[Record<T>]) {
        for (at, item) in self.items.iter().enumerate() {
            assert_eq!(records[item.id as usize].place, Place::in_heap(at));
            assert!(at == 0 || self.items[(at - 1) / ARITY].deadline <= item.deadline);
        }
    }
}
