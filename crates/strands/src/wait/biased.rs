//! A short lock that costs its habitual user no locked instruction.
//!
//! To take a [`ShortLock`](super::ShortLock) is one compare-and-swap, of 5 ns; what a channel does under it takes
//! 1 ns. But most channels are used by goroutines that are at home on one thread, and so by that thread alone.
//! Such a lock becomes *biased*: its owner takes it by a plain store and a look at whether it is still the
//! owner. Another thread that comes takes the bias away, for good, and from then on the lock is an ordinary one.
//!
//! ```text
//!   the owner                                 another, once
//!   ─────────                                 ─────────────
//!   inside = true                             takes `held`, as all do who are not the owner
//!   (no barrier: the compiler is held off)    owner = SHARED
//!   owner is still me?   no: inside = false,  a barrier on all threads (`membarrier`)
//!                        and in line          waits until `inside` is false
//!   … section …                               … section …
//!   inside = false                            held = false
//! ```
//!
//! **Why they exclude each other.** It is Dekker's algorithm: each writes its own word and then reads the other's,
//! and needs a full barrier between the two. The owner leaves its barrier to the other, who has all threads make one.
//! That barrier comes, in the owner's order, before its look at `owner`, or after. If before, the look finds
//! `SHARED`, and the owner retreats. If after, `inside` has been written by then: the other sees it, and waits; and when it
//! sees it `false` again, it sees what was done inside (Release and Acquire).
//!
//! **Who is the owner** is told by a number that every thread has of its own and nobody after it; a goroutine that
//! roams carries its own along, as all thread-locals, and is a thread in that respect. Its owner does not change: a lock goes
//! from `UNDECIDED` to an owner or to `SHARED`, and from an owner to `SHARED`. (A former owner may have stopped between
//! its first look and its store to `inside`, for how long nobody knows: no other may use that word.)
//!
//! **When.** To take a bias away costs 10 µs, which are 2,000 compare-and-swaps. So a lock is biased when one
//! thread has taken it [`STREAK`] times with nobody in between: it has paid as much as it would at worst cost to
//! have it taken away. What has changed hands [`CHANGES`] times is shared for good.
//!
//! Where the kernel does not do such a barrier, or not yet, no lock is biased.

use super::patience;
use crate::primitive::atomic::{AtomicBool, AtomicU32, AtomicUsize, Ordering};
use crate::primitive::lopsided::{heavy, is_ready, light};

/// So many times one thread takes the lock, with nobody in between, before it is biased to it.
#[cfg(not(loom))]
const STREAK: u32 = 2048;
#[cfg(loom)]
const STREAK: u32 = 1;

/// After so many changes of hands the lock is shared for good.
const CHANGES: u32 = 64;

/// Nobody's number.
const NOBODY: usize = 0;
/// The lock is an ordinary one, for good.
const SHARED: usize = 1;
/// Nobody is the owner yet.
const UNDECIDED: usize = 2;
/// The first number of a thread.
const FIRST: usize = 3;

/// Which of the two words a holder has set.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub(super) enum Way {
    Inside,
    Held,
}

/// The lock without what it protects.
pub(super) struct Bias {
    /// `UNDECIDED`, `SHARED` or the owner's number. Written under `held`.
    owner: AtomicUsize,
    /// The owner holds the lock. Written by the owner.
    inside: AtomicBool,
    /// Another holds it.
    held: AtomicBool,
    /// While undecided: who has taken it, how often in a row; and how often it has changed hands. Under `held`.
    last: AtomicUsize,
    streak: AtomicU32,
    changes: AtomicU32,
}

impl Bias {
    pub(super) fn new() -> Bias {
        Bias {
            owner: AtomicUsize::new(UNDECIDED),
            inside: AtomicBool::new(false),
            held: AtomicBool::new(false),
            last: AtomicUsize::new(UNDECIDED),
            streak: AtomicU32::new(0),
            changes: AtomicU32::new(0),
        }
    }

    /// The word of this way, for giving the lock back by storing `false` (Release).
    #[inline(always)]
    pub(super) fn word(&self, way: Way) -> &AtomicBool {
        match way {
            Way::Inside => &self.inside,
            Way::Held => &self.held,
        }
    }

    /// Takes the lock for its owner, if that is who asks.
    #[inline(always)]
    fn enter(&self, me: usize) -> bool {
        // Ordering: Relaxed; that it is us we have written ourselves.
        if self.owner.load(Ordering::Relaxed) != me {
            return false;
        }
        // Ordering: Relaxed; `light` and `heavy` order it before the look that follows.
        self.inside.store(true, Ordering::Relaxed);
        light();
        // Ordering: Acquire, so that nothing of the section is done before the look.
        if self.owner.load(Ordering::Acquire) == me {
            return true;
        }
        // Ordering: Release, as in giving the lock back, though nothing was done.
        self.inside.store(false, Ordering::Release);
        false
    }

    #[inline(always)]
    fn take(&self) -> bool {
        // Ordering: Acquire pairs with the Release of the last holder.
        self.held.compare_exchange(false, true, Ordering::Acquire, Ordering::Relaxed).is_ok()
    }

    /// Takes the lock if that is possible at once, with nothing to decide.
    #[inline(always)]
    pub(super) fn quick(&self, me: usize) -> Option<Way> {
        if self.enter(me) {
            return Some(Way::Inside);
        }
        if !self.take() {
            return None;
        }
        // Ordering: Relaxed, here and below: `owner` is written under `held`, which we have.
        let owner = self.owner.load(Ordering::Relaxed);
        if owner == SHARED || owner == UNDECIDED && self.goes_on(me) {
            return Some(Way::Held);
        }
        // There is something to decide, which is a longer story.
        self.held.store(false, Ordering::Release);
        None
    }

    /// Counts one more in a row, if it is one more of the same, and not the last that is needed.
    #[inline(always)]
    fn goes_on(&self, me: usize) -> bool {
        let streak = self.streak.load(Ordering::Relaxed) + 1;
        if self.last.load(Ordering::Relaxed) != me || streak >= STREAK {
            return false;
        }
        self.streak.store(streak, Ordering::Relaxed);
        true
    }

    /// Takes the lock.
    #[cold]
    #[inline(never)]
    pub(super) fn lock(&self, me: usize) -> Way {
        if self.enter(me) {
            return Way::Inside;
        }
        if !self.take() {
            patience::until(|| self.take());
        }
        match self.owner.load(Ordering::Relaxed) {
            SHARED => {}
            UNDECIDED => self.consider(me),
            // It cannot be us: who is the owner once was so in `enter`, until it is so no more.
            _ => self.share(),
        }
        Way::Held
    }

    /// Whether it is time to decide.
    fn consider(&self, me: usize) {
        if self.goes_on(me) {
            return;
        }
        self.streak.store(0, Ordering::Relaxed);
        if self.last.load(Ordering::Relaxed) == me {
            if is_ready() {
                self.owner.store(me, Ordering::Relaxed);
            }
            return;
        }
        self.last.store(me, Ordering::Relaxed);
        let changes = self.changes.load(Ordering::Relaxed) + 1;
        self.changes.store(changes, Ordering::Relaxed);
        if changes > CHANGES {
            self.owner.store(SHARED, Ordering::Relaxed);
        }
    }

    /// Takes the bias away. Under `held`.
    #[cold]
    #[inline(never)]
    fn share(&self) {
        self.owner.store(SHARED, Ordering::Relaxed);
        heavy();
        // Ordering: Acquire pairs with the Release of the owner: what it has done inside is seen.
        let is_out = || !self.inside.load(Ordering::Acquire);
        if !is_out() {
            patience::until(is_out);
        }
    }
}

#[cfg(loom)]
pub(crate) use super::lock::{ShortLock as BiasedLock, ShortLockGuard as BiasedLockGuard};
#[cfg(not(loom))]
pub(crate) use native::{BiasedLock, BiasedLockGuard};

#[cfg(not(loom))]
mod native {
    use super::*;
    use std::cell::{Cell, UnsafeCell};
    use std::marker::PhantomData;
    use std::ops::{Deref, DerefMut};

    thread_local! {
        static ME: Cell<usize> = const { Cell::new(NOBODY) };
    }

    /// The number of the thread that runs, made now if it has none.
    #[cold]
    fn number() -> usize {
        static NEXT: AtomicUsize = AtomicUsize::new(FIRST);
        if ME.get() == NOBODY {
            // Not used again: 64 bits do not run out.
            ME.set(NEXT.fetch_add(1, Ordering::Relaxed));
        }
        ME.get()
    }

    /// A short lock that may become biased. What holds for one holds for the other.
    #[repr(C)]
    pub(crate) struct BiasedLock<T> {
        bias: Bias,
        value: UnsafeCell<T>,
    }

    // SAFETY: the lock hands the value from thread to thread, one at a time.
    unsafe impl<T: Send> Send for BiasedLock<T> {}
    // SAFETY: as above.
    unsafe impl<T: Send> Sync for BiasedLock<T> {}

    impl<T> BiasedLock<T> {
        pub(crate) fn new(value: T) -> BiasedLock<T> {
            BiasedLock { bias: Bias::new(), value: UnsafeCell::new(value) }
        }

        #[inline]
        pub(crate) fn lock(&self) -> BiasedLockGuard<'_, T> {
            match self.quick() {
                Some(guard) => guard,
                None => self.lock_slow(),
            }
        }

        /// The lock, if it can be had with a few instructions.
        #[inline(always)]
        pub(crate) fn quick(&self) -> Option<BiasedLockGuard<'_, T>> {
            // A thread that has no number yet is neither an owner nor the last.
            self.bias.quick(ME.get()).map(|way| self.guard(way))
        }

        #[cold]
        fn lock_slow(&self) -> BiasedLockGuard<'_, T> {
            self.guard(self.bias.lock(number()))
        }

        #[inline(always)]
        fn guard(&self, way: Way) -> BiasedLockGuard<'_, T> {
            let word = self.bias.word(way);
            BiasedLockGuard { value: &self.value, word, not_send: PhantomData }
        }
    }

    pub(crate) struct BiasedLockGuard<'a, T> {
        value: &'a UnsafeCell<T>,
        word: &'a AtomicBool,
        not_send: PhantomData<*mut ()>,
    }

    impl<T> Deref for BiasedLockGuard<'_, T> {
        type Target = T;

        #[inline]
        fn deref(&self) -> &T {
            // SAFETY: we hold the lock.
            unsafe { &*self.value.get() }
        }
    }

    impl<T> DerefMut for BiasedLockGuard<'_, T> {
        #[inline]
        fn deref_mut(&mut self) -> &mut T {
            // SAFETY: we hold the lock, and `self` is borrowed for writing.
            unsafe { &mut *self.value.get() }
        }
    }

    impl<T> Drop for BiasedLockGuard<'_, T> {
        #[inline]
        fn drop(&mut self) {
            // Ordering: Release pairs with the Acquire of the next who takes it, by whichever way.
            self.word.store(false, Ordering::Release);
        }
    }
}

#[cfg(all(test, not(loom)))]
mod tests {
    use super::*;
    use std::sync::Arc;

    fn granted() {
        while !is_ready() {
            std::thread::yield_now();
        }
    }

    #[test]
    fn a_lock_that_one_thread_uses_becomes_its_own_until_another_comes() {
        granted();
        let bias = Bias::new();
        let turn = |me| {
            let way = bias.quick(me).unwrap_or_else(|| bias.lock(me));
            bias.word(way).store(false, Ordering::Release);
            way
        };
        for _ in 0..=STREAK {
            assert_eq!(turn(FIRST), Way::Held);
        }
        assert_eq!(turn(FIRST), Way::Inside);
        assert_eq!(turn(FIRST + 1), Way::Held);
        for _ in 0..=2 * STREAK {
            assert_eq!(turn(FIRST), Way::Held);
        }
        assert_eq!(bias.quick(FIRST).map(|way| bias.word(way).load(Ordering::Relaxed)), Some(true));
    }

    #[test]
    fn a_lock_that_changes_hands_belongs_to_nobody() {
        granted();
        let bias = Bias::new();
        for turn in 0..=CHANGES as usize {
            let way = bias.lock(FIRST + turn % 2);
            bias.word(way).store(false, Ordering::Release);
        }
        assert_eq!(bias.owner.load(Ordering::Relaxed), SHARED);
    }

    #[test]
    fn increments_are_not_lost_when_the_bias_is_taken_away() {
        granted();
        for _ in 0..if cfg!(miri) { 2 } else { 200 } {
            let lock = Arc::new(BiasedLock::new(0u32));
            let (owner, other) = (Arc::clone(&lock), Arc::clone(&lock));
            let owner = std::thread::spawn(move || {
                for _ in 0..10 * STREAK {
                    *owner.lock() += 1;
                }
            });
            let other = std::thread::spawn(move || {
                while *other.lock() < STREAK + 100 {
                    std::thread::yield_now();
                }
                for _ in 0..STREAK {
                    *other.lock() += 1;
                }
            });
            owner.join().unwrap();
            other.join().unwrap();
            assert_eq!(*lock.lock(), 11 * STREAK);
        }
    }
}

#[cfg(all(test, loom))]
mod loom_tests {
    use super::*;
    use crate::primitive::{Arc, UnsafeCell};
    use loom::thread;

    struct Counter {
        bias: Bias,
        count: UnsafeCell<u32>,
    }

    // SAFETY: what the models check: the count is touched under the lock.
    unsafe impl Sync for Counter {}
    // SAFETY: as above.
    unsafe impl Send for Counter {}

    impl Counter {
        fn new() -> Arc<Counter> {
            Arc::new(Counter { bias: Bias::new(), count: UnsafeCell::new(0) })
        }

        fn up(&self, me: usize) -> Way {
            let way = self.bias.quick(me).unwrap_or_else(|| self.bias.lock(me));
            // SAFETY: under the lock.
            self.count.with_mut(|count| unsafe { *count += 1 });
            self.bias.word(way).store(false, Ordering::Release);
            way
        }

        fn count(&self) -> u32 {
            // SAFETY: all others are done.
            self.count.with(|count| unsafe { *count })
        }
    }

    fn model(f: impl Fn() + Send + Sync + 'static) {
        let mut model = loom::model::Builder::new();
        // The loops in which one waits make all orders too many.
        model.preemption_bound = Some(4);
        model.check(f);
    }

    /// One who is the owner by now.
    fn owned(me: usize) -> Arc<Counter> {
        let counter = Counter::new();
        for _ in 0..=STREAK {
            assert_eq!(counter.up(me), Way::Held);
        }
        assert_eq!(counter.bias.owner.load(Ordering::Relaxed), me);
        counter
    }

    #[test]
    fn the_owner_and_one_who_takes_the_bias_away_exclude_each_other() {
        model(|| {
            let counter = owned(FIRST);
            let other = {
                let counter = Arc::clone(&counter);
                thread::spawn(move || counter.up(FIRST + 1))
            };
            counter.up(FIRST);
            counter.up(FIRST);
            assert_eq!(other.join().unwrap(), Way::Held);
            assert_eq!(counter.count(), STREAK + 4);
        });
    }

    /// (With the owner inside as well loom would have the two look in turn for ever, and never let it out.)
    #[test]
    fn so_do_two_who_take_it_away_at_once() {
        model(|| {
            let counter = owned(FIRST);
            let other = {
                let counter = Arc::clone(&counter);
                thread::spawn(move || counter.up(FIRST + 1))
            };
            counter.up(FIRST + 2);
            assert_eq!(other.join().unwrap(), Way::Held);
            assert_eq!(counter.count(), STREAK + 3);
        });
    }

    #[test]
    fn a_lock_may_be_biased_while_others_come() {
        model(|| {
            let counter = Counter::new();
            let other = {
                let counter = Arc::clone(&counter);
                thread::spawn(move || counter.up(FIRST + 1))
            };
            for _ in 0..=STREAK + 1 {
                counter.up(FIRST);
            }
            other.join().unwrap();
            assert_eq!(counter.count(), STREAK + 3);
        });
    }
}
