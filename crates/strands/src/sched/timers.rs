//! Sleeping goroutines, by deadline: binary heaps under short locks, one for each processor.
//!
//! An [`Entry`] lives in the frame of the goroutine that waits, and the heap points to it. Its place in
//! the heap is kept in the entry, so a timer that is no longer wanted is taken out at once and costs
//! nothing later. Whoever notices that a deadline has passed may fire it: an idle worker that slept until
//! then, a busy one in passing, or the monitor.
//!
//! **Invariant:** an entry is reached through the heap only, and under the heap's lock; once `remove` has
//! returned, nobody will touch it.

use crate::wait::{ShortLock, TIMED_OUT, Waiter, Wake};
use crossbeam_utils::CachePadded;
use std::cell::Cell;
use std::marker::PhantomPinned;
use std::sync::atomic::{AtomicU64, AtomicUsize, Ordering};

/// Later than all deadlines.
pub(crate) const NEVER: u64 = u64::MAX;

/// At most this many are fired before their wake-ups are delivered.
const BATCH: usize = 64;

/// A wish to be woken.
pub(crate) struct Entry {
    waiter: *const Waiter,
    shard: Cell<usize>,
    /// Its index in the heap, or `OUT`.
    place: AtomicUsize,
    _pinned: PhantomPinned,
}

const OUT: usize = usize::MAX;

impl Entry {
    /// A timer that will claim `waiter` with [`TIMED_OUT`].
    pub(crate) fn new(waiter: &Waiter) -> Entry {
        Entry { waiter, shard: Cell::new(0), place: AtomicUsize::new(OUT), _pinned: PhantomPinned }
    }
}

#[derive(Default)]
struct Heap {
    /// A binary min-heap of (deadline, entry).
    items: Vec<(u64, EntryPtr)>,
}

#[derive(Clone, Copy)]
struct EntryPtr(*const Entry);

// SAFETY: entries are reached under the heap's lock only.
unsafe impl Send for EntryPtr {}

impl EntryPtr {
    fn place(self, place: usize) {
        // SAFETY: it is in the heap, whose lock is held, so its owner cannot have left.
        unsafe { (*self.0).place.store(place, Ordering::Relaxed) };
    }
}

struct Shard {
    heap: ShortLock<Heap>,
    /// The earliest deadline, for those who only look.
    next: AtomicU64,
}

/// All timers of a runtime.
pub(crate) struct Timers {
    shards: Box<[CachePadded<Shard>]>,
    spread: AtomicUsize,
    /// Until when the worker that keeps the time sleeps; `NEVER` if none does.
    keeper: AtomicU64,
}

impl Timers {
    pub(crate) fn new(shards: usize) -> Timers {
        let shard = || {
            CachePadded::new(Shard {
                heap: ShortLock::new(Heap::default()),
                next: AtomicU64::new(NEVER),
            })
        };
        Timers {
            shards: (0..shards.max(1)).map(|_| shard()).collect(),
            spread: AtomicUsize::new(0),
            keeper: AtomicU64::new(NEVER),
        }
    }

    /// Puts the entry in, to fire at `deadline`.
    ///
    /// # Safety
    /// The entry stays where it is, and its waiter too, until [`remove`](Timers::remove) has returned.
    pub(crate) unsafe fn insert(&self, entry: &Entry, deadline: u64) {
        let shard = self.spread.fetch_add(1, Ordering::Relaxed) % self.shards.len();
        entry.shard.set(shard);
        let shard = &self.shards[shard];
        let mut heap = shard.heap.lock();
        heap.push(deadline.min(NEVER - 1), EntryPtr(entry));
        shard.publish(&heap);
    }

    /// Takes the entry out, if it is still in.
    pub(crate) fn remove(&self, entry: &Entry) {
        let shard = &self.shards[entry.shard.get()];
        let mut heap = shard.heap.lock();
        let place = entry.place.load(Ordering::Relaxed);
        if place != OUT {
            heap.take(place);
            shard.publish(&heap);
        }
    }

    /// The earliest deadline, or [`NEVER`].
    #[inline]
    pub(crate) fn earliest(&self) -> u64 {
        // Ordering: SeqCst, for the look before sleep comes after the sleeper's announcement.
        self.shards.iter().map(|s| s.next.load(Ordering::SeqCst)).min().unwrap_or(NEVER)
    }

    /// Fires all whose deadline is not after `now`; true if there were any.
    pub(crate) fn fire(&self, now: u64) -> bool {
        let mut any = false;
        for shard in &self.shards {
            while shard.next.load(Ordering::Relaxed) <= now {
                let mut wakes: [Option<Wake>; BATCH] = [const { None }; BATCH];
                let mut count = 0;
                {
                    let mut heap = shard.heap.lock();
                    while count < BATCH
                        && let Some(entry) = heap.take_due(now)
                    {
                        // SAFETY: it was in the heap and the lock is held, so entry and waiter are
                        // alive: their owner has to take the lock before it leaves.
                        let waiter = unsafe { &*(*entry.0).waiter };
                        if waiter.try_claim(TIMED_OUT) {
                            // SAFETY: just claimed; entry and waiter are not touched again.
                            wakes[count] = Some(unsafe { waiter.finish() });
                            count += 1;
                        }
                    }
                    shard.publish(&heap);
                }
                any |= count > 0;
                wakes.into_iter().flatten().for_each(Wake::deliver);
            }
        }
        any
    }

    /// Offers to keep the time: until when the worker should sleep, if nobody wakes earlier than that.
    pub(crate) fn keep(&self) -> Option<u64> {
        let earliest = self.earliest();
        let kept = self.keeper.load(Ordering::SeqCst);
        (earliest < kept
            && self
                .keeper
                .compare_exchange(kept, earliest, Ordering::SeqCst, Ordering::SeqCst)
                .is_ok())
        .then_some(earliest)
    }

    /// The worker that has slept until (at most) `until` is awake.
    pub(crate) fn stop_keeping(&self, until: u64) {
        // If another has taken over with an earlier deadline, it stays.
        let _ = self.keeper.compare_exchange(until, NEVER, Ordering::SeqCst, Ordering::SeqCst);
    }
}

impl Shard {
    fn publish(&self, heap: &Heap) {
        let next = heap.items.first().map_or(NEVER, |(deadline, _)| *deadline);
        self.next.store(next, Ordering::SeqCst);
    }
}

impl Heap {
    fn push(&mut self, deadline: u64, entry: EntryPtr) {
        self.items.push((deadline, entry));
        self.rise(self.items.len() - 1);
    }

    fn take_due(&mut self, now: u64) -> Option<EntryPtr> {
        let (deadline, entry) = *self.items.first()?;
        (deadline <= now).then(|| {
            self.take(0);
            entry
        })
    }

    fn take(&mut self, place: usize) {
        let (_, entry) = self.items.swap_remove(place);
        entry.place(OUT);
        if place < self.items.len() {
            self.sink(place);
            self.rise(place);
        }
    }

    /// Moves an item up to where it belongs, and notes its place.
    fn rise(&mut self, mut at: usize) {
        let item = self.items[at];
        while at > 0 {
            let parent = (at - 1) / 2;
            if self.items[parent].0 <= item.0 {
                break;
            }
            self.items[at] = self.items[parent];
            self.items[at].1.place(at);
            at = parent;
        }
        self.items[at] = item;
        item.1.place(at);
    }

    /// Moves an item down to where it belongs, and notes its place.
    fn sink(&mut self, mut at: usize) {
        let item = self.items[at];
        loop {
            let mut child = 2 * at + 1;
            if child >= self.items.len() {
                break;
            }
            if child + 1 < self.items.len() && self.items[child + 1].0 < self.items[child].0 {
                child += 1;
            }
            if item.0 <= self.items[child].0 {
                break;
            }
            self.items[at] = self.items[child];
            self.items[at].1.place(at);
            at = child;
        }
        self.items[at] = item;
        item.1.place(at);
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    /// xorshift: enough to shuffle with.
    fn random(state: &mut u64) -> u64 {
        *state ^= *state << 13;
        *state ^= *state >> 7;
        *state ^= *state << 17;
        *state
    }

    #[test]
    fn deadlines_come_out_in_order_whatever_was_taken_out_between() {
        let seed = std::time::SystemTime::now()
            .duration_since(std::time::UNIX_EPOCH)
            .map_or(1, |d| d.as_nanos() as u64 | 1);
        println!("seed {seed}");
        let mut state = seed;
        let waiters: Vec<Waiter> = (0..500).map(|_| Waiter::new()).collect();
        let entries: Vec<Entry> = waiters.iter().map(Entry::new).collect();
        let mut heap = Heap::default();
        let mut model = Vec::new();
        for entry in &entries {
            let deadline = random(&mut state) % 1000;
            heap.push(deadline, EntryPtr(entry));
            model.push((deadline, std::ptr::from_ref(entry)));
        }
        for _ in 0..200 {
            let (_, entry) = model.swap_remove(random(&mut state) as usize % model.len());
            // SAFETY: all entries are alive.
            heap.take(unsafe { (*entry).place.load(Ordering::Relaxed) });
        }
        model.sort_unstable_by_key(|(deadline, _)| *deadline);
        let mut out = Vec::new();
        while let Some((deadline, _)) = heap.items.first().copied() {
            heap.take(0);
            out.push(deadline);
        }
        assert_eq!(out, model.into_iter().map(|(deadline, _)| deadline).collect::<Vec<_>>());
    }

    #[test]
    fn only_what_is_due_fires_and_a_removed_timer_never_does() {
        let timers = Timers::new(2);
        let waiters: Vec<Waiter> = (0..4).map(|_| Waiter::new()).collect();
        let entries: Vec<Entry> = waiters.iter().map(Entry::new).collect();
        for (i, entry) in entries.iter().enumerate() {
            // SAFETY: entries and waiters stay until the end, where the heap is empty again.
            unsafe { timers.insert(entry, 10 * i as u64) };
        }
        assert_eq!(timers.earliest(), 0);
        timers.remove(&entries[1]);
        assert!(timers.fire(20));
        assert!(!timers.fire(20));
        let claimed: Vec<bool> = waiters.iter().map(|w| !w.try_claim(TIMED_OUT + 1)).collect();
        assert_eq!(claimed, [true, false, true, false]);
        assert_eq!(timers.earliest(), 30);
        entries.iter().for_each(|entry| timers.remove(entry));
        assert_eq!(timers.earliest(), NEVER);
    }

    #[test]
    fn one_keeps_the_time_unless_another_wakes_earlier() {
        let timers = Timers::new(1);
        let waiter = Waiter::new();
        let (late, early) = (Entry::new(&waiter), Entry::new(&waiter));
        assert_eq!(timers.keep(), None, "nothing to keep");
        // SAFETY: both are removed below.
        unsafe { timers.insert(&late, 100) };
        assert_eq!(timers.keep(), Some(100));
        assert_eq!(timers.keep(), None, "it is being kept");
        // SAFETY: as above.
        unsafe { timers.insert(&early, 50) };
        assert_eq!(timers.keep(), Some(50));
        timers.stop_keeping(100);
        assert_eq!(timers.keep(), None);
        timers.stop_keeping(50);
        assert_eq!(timers.keep(), Some(50));
        timers.remove(&late);
        timers.remove(&early);
    }
}
