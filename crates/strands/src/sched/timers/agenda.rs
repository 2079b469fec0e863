//! Values by deadline, of which any one can be taken out again: a heap, and before it a room full of drawers.
//!
//! ```text
//!                     horizon                               a second later
//!   ──────────────────────┼──────┬──────┬──────┬─ … ─┬──────┼──────────────────────► deadlines
//!          heap           │  drawers of 1 ms, unsorted      │          heap
//!                         └──────┴──────┴──────┴─ … ─┴──────┘
//! ```
//!
//! A heap of 100,000 timers does not fit into the caches next to a processor, and each that is taken out of it makes its
//! way down through eight levels. But few are due soon, and most within a second. So what comes later than
//! the horizon is put into the drawer of its time, in one step, and is taken out of there in one step too. When all before
//! the horizon are gone, it moves to the end of the next drawer, the items of which go into the heap: that
//! is a small one then.
//!
//! That is also the moment to have the processor fetch what lies behind the values: all of a drawer together, and soon
//! before they are due. With drawers of 4 ms it would be a pause that the latest of all timers would show.
//!
//! What is due later than all drawers goes into the heap at once. (Rejected: a wheel of several levels. Each of its higher
//! drawers, with the timers of seventeen seconds, is sorted into the lower ones all at once: ten milliseconds for a
//! million, under the lock.)
//!
//! **Invariant:** if anything is in the drawers, the first of the heap is due before the horizon, and so is the first
//! of all.

use super::heap::Heap;
use crate::sys::cache::prefetch;

/// The room is opened when the heap has so many; and with room for no more than these, an empty agenda keeps it.
const SMALL: usize = 1024;
/// How many drawers there are.
const DRAWERS: usize = 1024;
/// The binary logarithm of the nanoseconds of one.
const WIDTH: u32 = 20;
/// An empty drawer keeps room for so many.
const KEPT: usize = 64;
/// Of a fuller drawer than this the rest is not fetched beforehand: it would drive out what was.
const FETCHED: usize = 1024;
/// No id, at the end of the list of free ones.
const END: u32 = u32::MAX;

#[derive(Clone, Copy)]
pub(super) struct Item {
    pub(super) deadline: u64,
    pub(super) id: u32,
}

/// Where an item is; or, of an id that is free, the next free one.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) struct Place {
    drawer: u32,
    at: u32,
}

impl Place {
    const HEAP: u32 = u32::MAX;

    #[inline]
    pub(super) fn in_heap(at: usize) -> Place {
        Place { drawer: Place::HEAP, at: at as u32 }
    }
}

/// What there is of an id. The two are side by side, since whoever takes a value out has just had to do with its place:
/// apart, each value that comes due would be a miss of its own.
#[derive(Clone, Copy)]
pub(super) struct Record<T> {
    pub(super) place: Place,
    value: T,
}

/// What an agenda holds.
pub(super) trait Value: Copy {
    /// It will soon be taken out: has the processor fetch what lies behind it.
    fn prefetch(self);
}

/// Values by deadline.
pub(super) struct Agenda<T> {
    heap: Heap,
    room: Option<Room>,
    /// By id.
    records: Vec<Record<T>>,
    free: u32,
}

/// The drawers.
struct Room {
    drawers: Box<[Vec<Item>]>,
    /// Of all drawers.
    count: usize,
    /// Where the first of them begins: a multiple of their width.
    horizon: u64,
}

impl<T: Value> Agenda<T> {
    pub(super) const fn new() -> Agenda<T> {
        Agenda { heap: Heap::new(), room: None, records: Vec::new(), free: END }
    }

    /// The earliest deadline.
    #[inline]
    pub(super) fn first(&self) -> Option<u64> {
        self.heap.first().map(|item| item.deadline)
    }

    /// Puts a value in. The id names it until it is taken out.
    pub(super) fn push(&mut self, deadline: u64, value: T) -> u32 {
        let id = if self.free == END {
            let id = u32::try_from(self.records.len()).ok().filter(|id| *id < END);
            let id = id.expect("fewer than four thousand million timers");
            self.records.push(Record { place: Place::in_heap(0), value });
            id
        } else {
            let id = self.free;
            let record = &mut self.records[id as usize];
            self.free = record.place.at;
            record.value = value;
            id
        };
        let item = Item { deadline, id };
        if let Some(room) = &mut self.room
            && room.has_drawer_for(deadline, &self.heap)
        {
            self.records[id as usize].place = room.put(item);
            return id;
        }
        self.heap.push(item, &mut self.records);
        if self.room.is_none() && self.heap.len() >= SMALL {
            self.open_room();
        }
        id
    }

    /// Takes the earliest out, if its deadline is not after `now`.
    pub(super) fn pop_due(&mut self, now: u64) -> Option<T> {
        let first = self.heap.first().filter(|first| first.deadline <= now)?;
        self.take_from_heap(0, first.id);
        Some(self.records[first.id as usize].value)
    }

    /// Takes out what `id` names. It must be in.
    pub(super) fn remove(&mut self, id: u32) {
        let place = self.records[id as usize].place;
        match &mut self.room {
            Some(room) if place.drawer != Place::HEAP => {
                room.take(place, &mut self.records);
                self.give_back(id);
            }
            _ => self.take_from_heap(place.at as usize, id),
        }
    }

    /// How many are due at `time`, but at most `limit`.
    pub(super) fn count_due(&mut self, time: u64, limit: usize) -> usize {
        if let Some(room) = &mut self.room {
            while room.count > 0 && room.horizon <= time {
                room.empty_next(&mut self.heap, &mut self.records);
            }
        }
        self.heap.count_due(time, limit)
    }

    /// The memory of an agenda that was large and is empty: to be dropped where no lock is held.
    pub(super) fn remains(&mut self) -> Option<Agenda<T>> {
        (self.heap.len() == 0 && self.records.len() > SMALL)
            .then(|| std::mem::replace(self, Agenda::new()))
    }

    #[cold]
    fn open_room(&mut self) {
        self.room = Some(Room::new());
    }

    fn take_from_heap(&mut self, at: usize, id: u32) {
        self.heap.take(at, &mut self.records);
        self.give_back(id);
        if let Some(room) = &mut self.room {
            while room.count > 0 && !room.is_behind(&self.heap) {
                room.empty_next(&mut self.heap, &mut self.records);
            }
        }
    }

    fn give_back(&mut self, id: u32) {
        self.records[id as usize].place = Place::in_heap(self.free as usize);
        self.free = id;
    }
}

impl Room {
    /// The drawers are made one by one where they are to be. An array of them would first be on the stack of the
    /// goroutine whose timer it is, which is to get by with a page.
    #[inline(never)]
    fn new() -> Room {
        Room { drawers: (0..DRAWERS).map(|_| Vec::new()).collect(), count: 0, horizon: 0 }
    }

    /// Whether the first in the heap is due before all that is or could be here.
    fn is_behind(&self, heap: &Heap) -> bool {
        heap.first().is_some_and(|first| first.deadline < self.horizon)
    }

    /// Whether there is a drawer for this deadline. An empty room is first moved to where the heap begins.
    fn has_drawer_for(&mut self, deadline: u64, heap: &Heap) -> bool {
        if self.count == 0 {
            let Some(first) = heap.first() else { return false };
            self.horizon = ((first.deadline >> WIDTH) + 1).saturating_mul(1 << WIDTH);
        }
        deadline >= self.horizon && (deadline - self.horizon) >> WIDTH < DRAWERS as u64
    }

    fn drawer_of(deadline: u64) -> usize {
        (deadline >> WIDTH) as usize % DRAWERS
    }

    fn put(&mut self, item: Item) -> Place {
        let number = Room::drawer_of(item.deadline);
        let drawer = &mut self.drawers[number];
        drawer.push(item);
        self.count += 1;
        Place { drawer: number as u32, at: drawer.len() as u32 - 1 }
    }

    fn take<T>(&mut self, place: Place, records: &mut [Record<T>]) {
        let drawer = &mut self.drawers[place.drawer as usize];
        drawer.swap_remove(place.at as usize);
        if let Some(moved) = drawer.get(place.at as usize) {
            records[moved.id as usize].place = place;
        }
        self.count -= 1;
    }

    /// Moves the horizon behind the next drawer that has something, which goes into the heap. There must be one.
    fn empty_next<T: Value>(&mut self, heap: &mut Heap, records: &mut [Record<T>]) {
        loop {
            let drawer = &mut self.drawers[Room::drawer_of(self.horizon)];
            self.horizon = self.horizon.saturating_add(1 << WIDTH);
            if drawer.is_empty() {
                continue;
            }
            self.count -= drawer.len();
            // They have been left alone since they were put in: all misses side by side.
            drawer
                .iter()
                .for_each(|item| prefetch((&raw const records[item.id as usize]).addr(), 1));
            drawer.iter().take(FETCHED).for_each(|item| records[item.id as usize].value.prefetch());
            drawer.drain(..).for_each(|item| heap.push(item, records));
            if drawer.capacity() > KEPT {
                *drawer = Vec::new();
            }
            return;
        }
    }
}

#[cfg(test)]
mod tests {
    use super::super::testing::{Random, seed};
    use super::*;
    use std::collections::BTreeMap;

    impl Value for u64 {
        fn prefetch(self) {}
    }

    impl Value for (u64, u64) {
        fn prefetch(self) {}
    }

    impl<T: Value> Agenda<T> {
        /// Panics if anything is not where it should be.
        fn check(&self) {
            self.heap.check(&self.records);
            let Some(room) = &self.room else { return };
            let mut count = 0;
            for (number, drawer) in room.drawers.iter().enumerate() {
                for (at, item) in drawer.iter().enumerate() {
                    let place = Place { drawer: number as u32, at: at as u32 };
                    assert_eq!(self.records[item.id as usize].place, place);
                    assert!(item.deadline >= room.horizon);
                    assert!((item.deadline - room.horizon) >> WIDTH < DRAWERS as u64);
                    assert_eq!(Room::drawer_of(item.deadline), number);
                    count += 1;
                }
            }
            assert_eq!(room.count, count);
            assert!(count == 0 || room.is_behind(&self.heap));
        }
    }

    /// As if it had been large: the room is open.
    fn opened() -> Agenda<(u64, u64)> {
        Agenda { room: Some(Room::new()), ..Agenda::new() }
    }

    /// Deadlines that are `grain` apart, so that all are before the horizon, or in drawers, or mostly behind these.
    fn compare_with_model(mut agenda: Agenda<(u64, u64)>, random: &mut Random, grain: u64) {
        // By deadline and number, what names it. Few different deadlines, so that some are the same.
        let mut model: BTreeMap<(u64, u64), u32> = BTreeMap::new();
        let mut now = 0;
        for number in 0..600 {
            match random.below(6) {
                0 if !model.is_empty() => {
                    let nth = random.below(model.len() as u64) as usize;
                    let (key, id) = model.iter().nth(nth).map(|(k, id)| (*k, *id)).unwrap();
                    model.remove(&key);
                    agenda.remove(id);
                }
                1 => {
                    let popped = agenda.pop_due(now);
                    let earliest = model.keys().next().filter(|key| key.0 <= now).copied();
                    assert_eq!(popped.map(|(deadline, _)| deadline), earliest.map(|k| k.0));
                    popped.map(|key| model.remove(&key).expect("it was in"));
                }
                2 => now += random.below(20) * grain,
                _ => {
                    let key = (now + random.below(200) * grain, number);
                    model.insert(key, agenda.push(key.0, key));
                }
            }
            agenda.check();
            assert_eq!(agenda.first(), model.keys().next().map(|key| key.0));
            if random.below(4) == 0 {
                let (time, limit) = (now + random.below(250) * grain, random.below(20) as usize);
                let due = model.range(..=(time, u64::MAX)).count();
                assert_eq!(agenda.count_due(time, limit), due.min(limit));
                agenda.check();
            }
        }
        for (key, id) in model {
            assert_eq!(agenda.first(), Some(key.0));
            agenda.remove(id);
        }
        assert_eq!(agenda.first(), None);
    }

    #[test]
    fn any_mixture_of_pushes_pops_and_removals_is_as_in_the_model() {
        let mut random = Random::new(seed());
        for _ in 0..if cfg!(miri) { 1 } else { 20 } {
            compare_with_model(Agenda::new(), &mut random, 1);
            for grain in [1, 1 << (WIDTH - 4), 1 << WIDTH, 3 << WIDTH, 1 << 50] {
                compare_with_model(opened(), &mut random, grain);
            }
        }
    }

    #[test]
    fn the_last_moments_of_all_have_a_drawer_too() {
        let mut agenda = opened();
        let deadlines = [2, DRAWERS as u64 / 2, 1].map(|back| u64::MAX - (back << WIDTH));
        for (at, deadline) in deadlines.into_iter().chain([u64::MAX - 1, u64::MAX - 1]).enumerate()
        {
            agenda.push(deadline, (deadline, at as u64));
            agenda.check();
        }
        for at in [1, 0, 2, 3, 4] {
            assert_eq!(agenda.pop_due(u64::MAX - 1).map(|value| value.1), Some(at));
            agenda.check();
        }
    }

    #[test]
    fn most_of_many_wait_in_drawers_and_come_out_in_order() {
        let mut random = Random::new(seed());
        let (count, long_up) = (20 * SMALL as u64, 1 << 50);
        let mut agenda = Agenda::new();
        for at in 0..count {
            let deadline = long_up + random.below(500_000_000);
            agenda.push(deadline, (deadline, at));
        }
        agenda.check();
        assert!(agenda.room.as_ref().unwrap().count as u64 > count / 10 * 9);
        let mut last = 0;
        let mut popped = 0;
        while let Some((deadline, _)) = agenda.pop_due(u64::MAX) {
            assert!(last <= deadline);
            assert!(agenda.heap.len() < 2 * SMALL, "the heap stays small");
            last = deadline;
            popped += 1;
        }
        assert_eq!(popped, count);
    }

    #[test]
    fn what_was_large_leaves_nothing_when_it_is_empty() {
        let mut agenda = Agenda::new();
        let ids: Vec<u32> = (0..2 * SMALL as u64).map(|at| agenda.push(at << WIDTH, at)).collect();
        assert!(agenda.remains().is_none(), "it is not empty");
        ids.into_iter().for_each(|id| agenda.remove(id));
        assert_eq!(agenda.remains().map(|remains| remains.records.len()), Some(2 * SMALL));
        assert_eq!(agenda.records.capacity(), 0);
        assert!(agenda.room.is_none());
        agenda.push(1, 1);
        assert_eq!(agenda.pop_due(1), Some(1));
        assert!(agenda.remains().is_none(), "it was never large");
    }
}
