//! Deadlines of those who wait: an agenda under a short lock. Each worker has one for the goroutines at home
//! with it and the tasks that were polled there, and the alarms of other async tasks have some of their own.
//!
//! An [`Entry`] lives with the one who waits (in the goroutine's frame, in the future), and the agenda points
//! to it. It can be taken out at any time, and costs nothing later. Whoever notices that a deadline has
//! passed may fire it: the worker that slept until then, or a busy one in passing; the monitor, if the worker
//! is stuck.
//!
//! A goroutine's timer is with its home, since nobody else can run it: there the lock is free, the wake-up
//! takes no other thread, and nobody has to agree on who keeps the time.
//!
//! # How late
//!
//! Deadlines are kept to the nanosecond, and nothing fires early. A sleep of a worker until the next one
//! costs ten microseconds of processor time, in a virtual machine up to twenty-five, so where they stand close, one
//! wake-up serves several: if [`CROWD`] of them come due within [`SLACK`], they are fired together at the end of it.
//! A timer that stands alone is not put off. The slack is such that half of those that are put off are late by less than
//! 150 µs, with what a wake-up and those before them take.
//!
//! **Invariant:** an entry is reached through the agenda only, and under the agenda's lock; once `remove` has
//! returned, nobody will touch it. Nor will anybody once the waiter has been *finished*, for a firing
//! touches the entry before that, and is the one that has claimed the waiter.

mod agenda;
mod heap;

use crate::sys::cache::prefetch;
use crate::wait::{ShortLock, TIMED_OUT, Waiter, Wake};
use agenda::Agenda;
use std::marker::PhantomPinned;
use std::ptr;
use std::sync::atomic::{AtomicU32, AtomicU64, Ordering};

/// Later than all deadlines.
pub(crate) const NEVER: u64 = u64::MAX;

/// Timers that stand close are put off by up to this, in nanoseconds: see "How late".
const SLACK: u64 = 225_000;
/// So many within [`SLACK`] stand close.
const CROWD: usize = 4;
/// At most this many are fired before their wake-ups are delivered.
const BATCH: usize = 32;

/// Not an id of the agenda's: the entry is not in it.
const OUT: u32 = u32::MAX;
/// Nor this: the entry has been taken out, and has claimed its waiter.
const FIRED: u32 = u32::MAX - 1;

/// A wish to be woken.
pub(crate) struct Entry {
    waiter: *const Waiter,
    /// Its id in the agenda, [`OUT`] or [`FIRED`]. Written under the agenda's lock.
    state: AtomicU32,
    _pinned: PhantomPinned,
}

impl Entry {
    /// A timer that will claim `waiter` with [`TIMED_OUT`].
    pub(crate) fn new(waiter: *const Waiter) -> Entry {
        Entry { waiter, state: AtomicU32::new(OUT), _pinned: PhantomPinned }
    }

    /// Whether it was this timer that claimed the waiter. For a goroutine that has been woken: if so, the
    /// entry is out for good, and need not be removed.
    pub(crate) fn has_fired(&self) -> bool {
        // Ordering: what fired it came before the wake-up, and so before this.
        self.state.load(Ordering::Relaxed) == FIRED
    }
}

#[derive(Clone, Copy)]
struct EntryPtr(*const Entry);

impl agenda::Value for EntryPtr {
    #[inline]
    fn prefetch(self) {
        prefetch(self.0.addr(), 1);
    }
}

// SAFETY: entries are reached under the agenda's lock only.
unsafe impl Send for EntryPtr {}

/// Timers of one place.
pub(crate) struct Timers {
    agenda: ShortLock<Agenda<EntryPtr>>,
    /// The earliest deadline, for those who only look.
    next: AtomicU64,
}

impl Timers {
    pub(crate) const fn new() -> Timers {
        Timers { agenda: ShortLock::new(Agenda::new()), next: AtomicU64::new(NEVER) }
    }

    /// Puts the entry in, to fire at `deadline`.
    ///
    /// # Safety
    /// The entry is not in; it stays where it is, and its waiter too, until [`remove`](Timers::remove) has
    /// returned, [`Entry::has_fired`], or the waiter has been finished.
    pub(crate) unsafe fn insert(&self, entry: &Entry, deadline: u64) {
        let mut agenda = self.agenda.lock();
        let id = agenda.push(deadline.min(NEVER - 1), EntryPtr(entry));
        entry.state.store(id, Ordering::Relaxed);
        self.publish(&agenda);
    }

    /// Takes the entry out, if it is still in.
    pub(crate) fn remove(&self, entry: &Entry) {
        let mut agenda = self.agenda.lock();
        let id = entry.state.load(Ordering::Relaxed);
        if id < FIRED {
            agenda.remove(id);
            entry.state.store(OUT, Ordering::Relaxed);
            self.publish(&agenda);
        }
        let remains = agenda.remains();
        drop(agenda);
        drop(remains);
    }

    /// Calls `f` under the lock if the entry is still in: then its waiter has not been claimed by a timer,
    /// and will not be meanwhile. If it is not called it is dropped there, so it should own nothing.
    pub(crate) fn if_pending<R>(&self, entry: &Entry, f: impl FnOnce() -> R) -> Option<R> {
        let _agenda = self.agenda.lock();
        (entry.state.load(Ordering::Relaxed) < FIRED).then(f)
    }

    /// The earliest deadline, or [`NEVER`].
    #[inline]
    pub(crate) fn earliest(&self) -> u64 {
        // Ordering: SeqCst, for who sleeps until then looks after it has announced that it sleeps.
        self.next.load(Ordering::SeqCst)
    }

    /// When to wake up for the earliest: at its deadline, or a little later if it stands in a crowd.
    pub(crate) fn wake_at(&self) -> u64 {
        let earliest = self.earliest();
        if earliest == NEVER {
            return NEVER;
        }
        let together = earliest.saturating_add(SLACK);
        if self.agenda.lock().count_due(together, CROWD) == CROWD { together } else { earliest }
    }

    /// Fires all whose deadline is not after `now`, and has `deliver` wake whom they wake, in the order of
    /// their deadlines. True if there were any.
    #[inline]
    pub(crate) fn fire(&self, now: u64, deliver: impl FnMut(Wake)) -> bool {
        // Ordering: a deadline that is not seen yet is fired at the next look.
        self.next.load(Ordering::Relaxed) <= now && self.fire_due(now, deliver)
    }

    #[cold]
    fn fire_due(&self, now: u64, mut deliver: impl FnMut(Wake)) -> bool {
        let mut any = false;
        loop {
            let mut due = [EntryPtr(ptr::null()); BATCH];
            let mut wakes = [const { None }; BATCH];
            let mut agenda = self.agenda.lock();
            let mut count = 0;
            while count < BATCH
                && let Some(entry) = agenda.pop_due(now)
            {
                due[count] = entry;
                count += 1;
            }
            // One after the other and not between the pops: see `cache`.
            due[..count].iter().for_each(|entry| prefetch(entry.0.addr(), 1));
            for (entry, wake) in due[..count].iter().zip(&mut wakes) {
                // SAFETY: it was in the agenda until now, and the lock is held.
                *wake = unsafe { expire(*entry) };
            }
            self.publish(&agenda);
            let remains = agenda.remains();
            drop(agenda);
            drop(remains);
            for wake in wakes.into_iter().flatten() {
                any = true;
                deliver(wake);
            }
            if count < BATCH {
                return any;
            }
        }
    }

    fn publish(&self, agenda: &Agenda<EntryPtr>) {
        let first = agenda.first().unwrap_or(NEVER);
        // Ordering: it is written under the lock only. Mostly it is the same, and then there is no need to wait for what
        // has just been put in.
        if self.next.load(Ordering::Relaxed) != first {
            self.next.store(first, Ordering::SeqCst);
        }
    }
}

/// Ends the time of an entry that has just come out of the agenda.
///
/// # Safety
/// The lock has been held since.
unsafe fn expire(entry: EntryPtr) -> Option<Wake> {
    // SAFETY: alive, and the waiter too: it was in the agenda, so its owner has to take the lock before it
    // leaves.
    let (entry, waiter) = unsafe { (&*entry.0, &*(*entry.0).waiter) };
    if waiter.try_claim(TIMED_OUT) {
        entry.state.store(FIRED, Ordering::Relaxed);
        // SAFETY: just claimed; entry and waiter are not touched again.
        Some(unsafe { waiter.finish() })
    } else {
        entry.state.store(OUT, Ordering::Relaxed);
        None
    }
}

#[cfg(test)]
mod testing {
    /// xorshift: enough to shuffle with.
    pub(super) struct Random(u64);

    impl Random {
        pub(super) fn new(seed: u64) -> Random {
            Random(seed | 1)
        }

        pub(super) fn below(&mut self, end: u64) -> u64 {
            self.0 ^= self.0 << 13;
            self.0 ^= self.0 >> 7;
            self.0 ^= self.0 << 17;
            self.0 % end
        }
    }

    /// A new seed, printed so that a failure can be repeated.
    pub(super) fn seed() -> u64 {
        let now = std::time::SystemTime::now().duration_since(std::time::UNIX_EPOCH);
        let seed = now.map_or(1, |now| now.as_nanos() as u64);
        println!("seed {seed}");
        seed
    }
}

#[cfg(test)]
mod tests {
    use super::testing::{Random, seed};
    use super::*;
    use std::collections::BTreeSet;
    use std::time::{Duration, Instant};

    impl Timers {
        fn is_untouched(&self) -> bool {
            self.earliest() == NEVER && self.agenda.lock().count_due(NEVER, 1) == 0
        }
    }

    fn waiters(count: usize) -> Vec<Waiter> {
        (0..count).map(|_| Waiter::new()).collect()
    }

    fn has_timed_out(waiter: &Waiter) -> bool {
        !waiter.try_claim(TIMED_OUT + 1)
    }

    #[test]
    fn only_what_is_due_fires_and_a_removed_timer_never_does() {
        let timers = Timers::new();
        let waiters = waiters(4);
        let entries: Vec<Entry> = waiters.iter().map(|w| Entry::new(w)).collect();
        for (i, entry) in entries.iter().enumerate() {
            // SAFETY: entries and waiters stay until the end, where the agenda is empty again.
            unsafe { timers.insert(entry, 10 * i as u64) };
        }
        assert_eq!(timers.earliest(), 0);
        timers.remove(&entries[1]);
        assert!(timers.fire(20, Wake::deliver));
        assert!(!timers.fire(20, Wake::deliver));
        assert_eq!(
            entries.iter().map(Entry::has_fired).collect::<Vec<_>>(),
            [true, false, true, false]
        );
        let claimed: Vec<bool> = waiters.iter().map(has_timed_out).collect();
        assert_eq!(claimed, [true, false, true, false]);
        assert_eq!(timers.earliest(), 30);
        entries.iter().for_each(|entry| timers.remove(entry));
        assert!(timers.is_untouched());
    }

    #[test]
    fn a_timer_whose_waiter_was_claimed_by_another_comes_out_and_wakes_nobody() {
        let timers = Timers::new();
        let waiter = Waiter::new();
        let entry = Entry::new(&waiter);
        // SAFETY: both stay until the end, where it has been taken out.
        unsafe { timers.insert(&entry, 5) };
        assert_eq!(timers.if_pending(&entry, || 1), Some(1));
        assert!(waiter.try_claim(TIMED_OUT + 1));
        assert!(!timers.fire(5, |_| panic!("woken twice")));
        assert!(!entry.has_fired());
        assert_eq!(timers.if_pending(&entry, || 1), None);
        timers.remove(&entry);
        assert!(timers.is_untouched());
    }

    #[test]
    fn random_timers_fire_when_due_and_only_then() {
        let count = if cfg!(miri) { 100 } else { 3_000 };
        let mut random = Random::new(seed());
        let timers = Timers::new();
        let waiters = waiters(count);
        let entries: Vec<Entry> = waiters.iter().map(|w| Entry::new(w)).collect();
        let mut pending = BTreeSet::new();
        let mut fired = 0;
        for (i, entry) in entries.iter().enumerate() {
            let deadline = random.below(10_000);
            // SAFETY: entries and waiters stay until the end, where the agenda is empty again.
            unsafe { timers.insert(entry, deadline) };
            pending.insert((deadline, i));
            if random.below(3) == 0 {
                let at = random.below(pending.len() as u64) as usize;
                let (deadline, i) = *pending.iter().nth(at).unwrap();
                pending.remove(&(deadline, i));
                timers.remove(&entries[i]);
                assert!(!has_timed_out(&waiters[i]), "it was removed in time");
            }
            if random.below(50) == 0 {
                let now = random.below(2_000);
                let mut woken = 0;
                timers.fire(now, |wake| {
                    woken += 1;
                    wake.deliver();
                });
                let later = pending.split_off(&(now + 1, 0));
                let due = std::mem::replace(&mut pending, later);
                assert_eq!(woken, due.len());
                assert!(due.iter().all(|(_, i)| entries[*i].has_fired()));
                fired += woken;
            }
            assert_eq!(timers.earliest(), pending.first().map_or(NEVER, |(deadline, _)| *deadline));
        }
        assert!(fired > 0);
        assert!(pending.iter().all(|(_, i)| !entries[*i].has_fired()));
        pending.iter().for_each(|(_, i)| timers.remove(&entries[*i]));
        assert!(timers.is_untouched());
    }

    #[test]
    fn only_a_crowd_is_put_off() {
        let timers = Timers::new();
        let waiters = waiters(CROWD);
        let entries: Vec<Entry> = waiters.iter().map(|w| Entry::new(w)).collect();
        assert_eq!(timers.wake_at(), NEVER);
        let first = 1_000_000;
        for (i, entry) in entries.iter().enumerate() {
            assert_eq!(timers.wake_at(), if i == 0 { NEVER } else { first });
            let beside = if i == CROWD - 1 { first + SLACK + 1 } else { first + i as u64 };
            // SAFETY: entries and waiters stay until the end, where all have been taken out.
            unsafe { timers.insert(entry, beside) };
        }
        assert_eq!(timers.wake_at(), first, "the last of them is too late to be waited for");
        timers.remove(&entries[CROWD - 1]);
        // SAFETY: as above.
        unsafe { timers.insert(&entries[CROWD - 1], first + SLACK) };
        assert_eq!(timers.wake_at(), first + SLACK);
        assert_eq!(timers.earliest(), first);
        entries.iter().for_each(|entry| timers.remove(entry));
        assert_eq!(timers.wake_at(), NEVER);
    }

    #[test]
    fn a_million_pending_timers_are_held_and_cancelled() {
        let count = if cfg!(miri) { 500 } else { 1_000_000 };
        let mut random = Random::new(seed());
        let timers = Timers::new();
        let waiter = Waiter::new();
        let mut entries: Vec<Entry> = (0..count).map(|_| Entry::new(&waiter)).collect();
        let begun = Instant::now();
        for entry in &entries {
            // SAFETY: entries and waiter stay until the end, where the agenda is empty again.
            unsafe { timers.insert(entry, 1_000 + random.below(1 << 40)) };
        }
        assert!(!timers.fire(999, |_| panic!("too early")));
        // In an order that has nothing to do with that in which they came.
        let (first, last) = entries.split_at_mut(count / 2);
        first.iter().zip(last.iter().rev()).for_each(|(one, other)| {
            timers.remove(one);
            timers.remove(other);
        });
        assert!(timers.is_untouched());
        // A tenth of this is usual, in a debug build; were any step linear, it would be hours.
        assert!(begun.elapsed() < Duration::from_secs(30), "{:?}", begun.elapsed());
    }
}
