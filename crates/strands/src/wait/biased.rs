//! A short lock that costs its habitual user no locked instruction.
//!
//! To take a [`ShortLock`](super::ShortLock) is one compare-and-swap, of 5 ns; what a channel does under it takes
//! 1 ns. But most channels are used by goroutines that are at home on one thread, and so by that thread alone; and those
//! that are used by several are mostly used by one many times in a row, while another waits for its turn (see
//! `patience`). Such a lock becomes *biased*: its owner takes it by a plain store and a look at whether it is still
//! the owner, until another asks for it.
//!
//! ```text
//!   the owner                                 another, who has taken `held`, as all do who are not the owner
//!   ─────────                                 ─────────────────────────────
//!   my inside = this lock                     owner = the same, WANTED
//!   (no barrier: the compiler is held off)
//!   owner is still me?                        waits a moment for `UNDECIDED`, which is the polite way;
//!      no: my inside = nowhere,               otherwise takes the bias away:
//!          if WANTED: owner = UNDECIDED         owner = UNDECIDED
//!          and in line for `held`               a barrier on all threads (`membarrier`)
//!   … section …                                 waits until the former owner's inside is not this lock
//!   my inside = nowhere                       … section …
//!                                             held = false
//! ```
//!
//! **Why they exclude each other.** The polite way, because it is the owner itself that says it has gone: it is not
//! inside then, and finds no more that it is the owner. What it has done inside is seen (Release and Acquire).
//! The other way is Dekker's algorithm: each writes its own word and then reads the other's, and needs a full barrier
//! between the two. The owner leaves its barrier to the other, who has all threads make one. That barrier comes, in
//! the owner's order, before its look at `owner`, or after. If before, the look finds that it is the owner no more,
//! and it retreats. If after, its `inside` has been written by then: the other sees it, and waits; and when it
//! sees it changed, it sees what was done inside.
//!
//! **`inside` is a word of the thread's**, its [`Whereabouts`], and not of the lock's. For a former owner may have stopped
//! between its first look and its store, for how long nobody knows; when it goes on it writes to a word that means nothing
//! to the owners after it, and retreats. As there is one such word, a thread is inside of one lock at a time, and takes a second one
//! as others do. The records of threads that have ended are used again; their locks then belong to the next thread
//! that has the record, which comes after all they have done.
//!
//! **When.** To take a bias away costs 10 µs, which are 2,000 compare-and-swaps, and to be handed it costs less than one
//! microsecond. So a lock is first biased when one thread has taken it [`STREAK`] times with nobody in between: it has paid as
//! much as it would at worst cost to have it taken away. After others have come [`AGAIN`] times are enough, four times as many
//! after each time that it had to be taken away, and half as many again after each that it was handed over. Who is about to
//! wait, with nothing else to do, gives the bias back unasked. And a lock that goes from hand to hand, with few such streaks, is
//! shared for good.
//!
//! Where the kernel does not do such a barrier, or not yet, no lock is biased.

use super::patience;
use crate::primitive::atomic::{AtomicPtr, AtomicU32, AtomicUsize, Ordering};
use crate::primitive::lopsided::{heavy, is_ready, light};
use std::ptr;

/// So many times one thread takes the lock, with nobody in between, before it is biased to it for the first time. (None of the
/// numbers that `AGAIN` leads to.)
#[cfg(not(loom))]
const STREAK: u32 = 2000;
#[cfg(loom)]
const STREAK: u32 = 1;

/// So many times when others have come before; and at most, when it has had to be taken away.
#[cfg(not(loom))]
const AGAIN: (u32, u32) = (256, 1 << 16);
#[cfg(loom)]
const AGAIN: (u32, u32) = (1, 1);

/// So many streaks that end too soon make the lock shared for good; each that suffices makes up for half of those before.
const TOO_MANY: u32 = 64;

/// Of a thread: of which lock it is inside, as its owner.
#[repr(align(128))]
pub(crate) struct Whereabouts {
    /// The address of the lock, or `NOWHERE`. Written by the thread, with Release.
    inside: AtomicUsize,
    /// The next of those that nobody has.
    #[cfg(not(loom))]
    next: AtomicPtr<Whereabouts>,
}

/// It is 0, so that a lock is given back in one way, however it was taken.
const NOWHERE: usize = 0;

/// What `owner` holds instead of a [`Whereabouts`]: the lock is an ordinary one, for good.
const SHARED: *mut Whereabouts = ptr::without_provenance_mut(2);
/// Nobody is the owner just now.
const UNDECIDED: *mut Whereabouts = ptr::without_provenance_mut(4);
/// What `last` holds before anybody has taken it.
const NOBODY_YET: u32 = 0;
/// A bit of `owner`: another has asked for the lock, and waits.
const WANTED: usize = 1;

/// The lock without what it protects.
pub(super) struct Bias {
    /// `UNDECIDED`, `SHARED`, or the owner's, perhaps with `WANTED`. Written under `held`; only an owner itself may
    /// make it `UNDECIDED` at any time.
    owner: AtomicPtr<Whereabouts>,
    /// 1: another than the owner has it.
    held: AtomicUsize,
    /// While it is not shared for good: who has taken it last as others do (see [`Whereabouts::mark`]), and how often in a row;
    /// how often it takes; how often it was too seldom. Under `held`.
    last: AtomicU32,
    streak: AtomicU32,
    needed: AtomicU32,
    short: AtomicU32,
}

// As large as the locks of ten thousand channels in a row should be.
#[cfg(not(loom))]
const _: () = assert!(size_of::<Bias>() == 32);

/// The word that is to be made 0 (Release) when the lock is given back.
pub(super) type Taken<'a> = &'a AtomicUsize;

impl Whereabouts {
    #[cfg(not(loom))]
    const fn new() -> Whereabouts {
        Whereabouts { inside: AtomicUsize::new(NOWHERE), next: AtomicPtr::new(ptr::null_mut()) }
    }

    #[inline(always)]
    fn as_owner(&self) -> *mut Whereabouts {
        ptr::from_ref(self).cast_mut()
    }

    /// By what it is told from others, nearly always: if two had the same, their streaks would be counted as one.
    #[inline(always)]
    fn mark(&self) -> u32 {
        (self.as_owner().addr() >> 7) as u32 | 1 << 31
    }

    fn as_wanted(&self) -> *mut Whereabouts {
        wanted(self.as_owner())
    }
}

fn wanted(owner: *mut Whereabouts) -> *mut Whereabouts {
    owner.map_addr(|addr| addr | WANTED)
}

impl Bias {
    pub(super) fn new() -> Bias {
        Bias {
            owner: AtomicPtr::new(UNDECIDED),
            held: AtomicUsize::new(0),
            last: AtomicU32::new(NOBODY_YET),
            streak: AtomicU32::new(0),
            needed: AtomicU32::new(STREAK),
            short: AtomicU32::new(0),
        }
    }

    #[inline(always)]
    fn place(&self) -> usize {
        ptr::from_ref(self).addr()
    }

    /// Takes the lock for its owner, if that is who asks.
    #[inline(always)]
    fn enter<'a>(&self, me: &'a Whereabouts) -> Option<Taken<'a>> {
        // Ordering: Relaxed, here and of `inside`; that it is us, and where we are, we have written ourselves.
        if self.owner.load(Ordering::Relaxed) != me.as_owner()
            || me.inside.load(Ordering::Relaxed) != NOWHERE
        {
            return None;
        }
        // Ordering: `light` and `heavy` order it before the look that follows. Release, so that who waits for us to come out
        // of another lock, and finds us in this one, sees what we have done in there.
        me.inside.store(self.place(), Ordering::Release);
        light();
        // Ordering: Acquire, so that nothing of the section is done before the look.
        if self.owner.load(Ordering::Acquire) == me.as_owner() {
            return Some(&me.inside);
        }
        // Ordering: Release, as in giving the lock back, though nothing was done.
        me.inside.store(NOWHERE, Ordering::Release);
        None
    }

    #[inline(always)]
    fn take(&self) -> bool {
        // Ordering: Acquire pairs with the Release of the last holder.
        self.held.compare_exchange(0, 1, Ordering::Acquire, Ordering::Relaxed).is_ok()
    }

    /// Takes the lock if that is possible at once, with nothing to decide.
    #[inline(always)]
    pub(super) fn quick<'a>(&'a self, me: &'a Whereabouts) -> Option<Taken<'a>> {
        if let Some(taken) = self.enter(me) {
            return Some(taken);
        }
        if !self.take() {
            return None;
        }
        // Ordering: Acquire pairs with the Release of an owner that has gone: what it has done inside is seen.
        let owner = self.owner.load(Ordering::Acquire);
        if owner == SHARED || owner == UNDECIDED && self.goes_on(me) {
            return Some(&self.held);
        }
        // There is something to decide, which is a longer story.
        self.held.store(0, Ordering::Release);
        None
    }

    /// Counts one more in a row, if it is one more of the same, and not the last that is needed.
    #[inline(always)]
    fn goes_on(&self, me: &Whereabouts) -> bool {
        // Ordering: Relaxed, here and of all that is written under `held`, which we have.
        let streak = self.streak.load(Ordering::Relaxed) + 1;
        if self.last.load(Ordering::Relaxed) != me.mark()
            || streak >= self.needed.load(Ordering::Relaxed)
        {
            return false;
        }
        self.streak.store(streak, Ordering::Relaxed);
        true
    }

    /// Takes the lock. `may_own` says whether `me` is one thread's alone.
    #[cold]
    #[inline(never)]
    pub(super) fn lock<'a>(&'a self, me: &'a Whereabouts, may_own: bool) -> Taken<'a> {
        if let Some(taken) = self.enter(me) {
            return taken;
        }
        self.hand_over(me);
        if !self.take() {
            patience::until(|| self.take());
        }
        // Ordering: Acquire, as in `quick`.
        match self.owner.load(Ordering::Acquire) {
            SHARED => {}
            UNDECIDED => self.consider(me, may_own),
            // We are inside of another lock, and nobody else is inside of this one.
            owner if owner == me.as_owner() => {
                assert_ne!(me.inside.load(Ordering::Relaxed), self.place())
            }
            owner => self.ask(owner, me),
        }
        &self.held
    }

    /// The owner, if it is us and not inside, and another has asked for the lock, is the owner no more.
    fn hand_over(&self, me: &Whereabouts) {
        self.be_no_owner(me, me.as_wanted());
    }

    /// Gives the bias back, if we have it: we shall not need it for a while. With the lock not taken.
    #[cold]
    #[inline(never)]
    pub(super) fn step_back(&self, me: &Whereabouts) {
        self.be_no_owner(me, me.as_owner());
        self.hand_over(me);
    }

    fn be_no_owner(&self, me: &Whereabouts, owner: *mut Whereabouts) {
        // Ordering: Relaxed, of `inside` we have written it ourselves, and of `owner` it is a guess.
        if self.owner.load(Ordering::Relaxed) == owner
            && me.inside.load(Ordering::Relaxed) != self.place()
        {
            // Ordering: Release: who finds it so sees what we have done inside. If it fails, we were asked in the meantime, or
            // the bias was taken away.
            let _ =
                self.owner.compare_exchange(owner, UNDECIDED, Ordering::Release, Ordering::Relaxed);
        }
    }

    /// Whether it is time to decide. Under `held`, as all that follows.
    fn consider(&self, me: &Whereabouts, may_own: bool) {
        if self.goes_on(me) {
            return;
        }
        self.streak.store(0, Ordering::Relaxed);
        let short = self.short.load(Ordering::Relaxed);
        match self.last.load(Ordering::Relaxed) {
            last if last == me.mark() => {
                if may_own && is_ready() {
                    self.owner.store(me.as_owner(), Ordering::Relaxed);
                    self.short.store(short / 2, Ordering::Relaxed);
                }
                return;
            }
            NOBODY_YET => {}
            _ if short == TOO_MANY => self.owner.store(SHARED, Ordering::Relaxed),
            _ => {
                self.short.store(short + 1, Ordering::Relaxed);
                if self.needed.load(Ordering::Relaxed) == STREAK {
                    self.needed.store(AGAIN.0, Ordering::Relaxed);
                }
            }
        }
        self.last.store(me.mark(), Ordering::Relaxed);
    }

    /// Has the bias given back, or takes it away.
    #[cold]
    #[inline(never)]
    fn ask(&self, owner: *mut Whereabouts, me: &Whereabouts) {
        // SAFETY: it has been made the owner, so it is the record of a thread, which is never freed.
        let its_inside = || unsafe { (*owner).inside.load(Ordering::Acquire) };
        let is_out = || its_inside() != self.place();
        if !is_out() {
            patience::let_work();
        }
        // Ordering: Acquire, here and below, pairs with the Release of an owner that has gone.
        let asked =
            self.owner.compare_exchange(owner, wanted(owner), Ordering::Acquire, Ordering::Acquire);
        let has_gone = || self.owner.load(Ordering::Acquire) != wanted(owner);
        let handed_over = asked.is_err()
            || patience::for_an_answer(has_gone)
            || self
                .owner
                .compare_exchange(wanted(owner), UNDECIDED, Ordering::Acquire, Ordering::Acquire)
                .is_err();
        let needed = match self.needed.load(Ordering::Relaxed) {
            STREAK => AGAIN.0,
            needed if handed_over => AGAIN.0.max(needed / 2),
            needed => AGAIN.1.min(needed * 4),
        };
        self.needed.store(needed, Ordering::Relaxed);
        if !handed_over {
            heavy();
            // Ordering: its Acquire pairs with the Release of the former owner: what it has done inside is seen.
            if !is_out() {
                patience::until(is_out);
            }
        }
        self.last.store(me.mark(), Ordering::Relaxed);
        self.streak.store(0, Ordering::Relaxed);
    }
}

#[cfg(loom)]
pub(crate) use super::lock::{ShortLock as BiasedLock, ShortLockGuard as BiasedLockGuard};
#[cfg(not(loom))]
pub(crate) use native::{BiasedLock, BiasedLockGuard, place_of_whereabouts, whereabouts};

#[cfg(not(loom))]
mod native {
    use super::*;
    use crate::wait::ShortLock;
    use std::cell::{Cell, UnsafeCell};
    use std::marker::PhantomData;
    use std::ops::{Deref, DerefMut};

    /// Stands for the threads that have no record: they take locks as others do.
    static NOBODY: Whereabouts = Whereabouts::new();

    /// The records of threads that have ended, one after the other.
    static SPARE: ShortLock<Option<&'static Whereabouts>> = ShortLock::new(None);

    thread_local! {
        /// The record of the thread that runs. No thread-local with a destructor, so that it can be asked for to the end.
        static ME: Cell<&'static Whereabouts> = const { Cell::new(&NOBODY) };
        static AT_THE_END: AtTheEnd = const { AtTheEnd };
    }

    struct AtTheEnd;

    impl Drop for AtTheEnd {
        fn drop(&mut self) {
            let mine = ME.replace(&NOBODY);
            // Nobody waits for a lock while it has one, so the thread is nowhere inside.
            let mut spare = SPARE.lock();
            let next = spare.map_or(ptr::null_mut(), Whereabouts::as_owner);
            // Ordering: Relaxed, here and below; under the lock.
            mine.next.store(next, Ordering::Relaxed);
            *spare = Some(mine);
        }
    }

    /// Where the thread-local is that leads to the record, of the thread that asks.
    pub(crate) fn place_of_whereabouts() -> *const Cell<&'static Whereabouts> {
        ME.with(ptr::from_ref)
    }

    /// The record of the thread that runs, which it gets now if it has none. A goroutine with thread-locals of its own is
    /// lent that of the thread on which it has its turn: it does not move while it has a lock.
    #[inline]
    pub(crate) fn whereabouts() -> &'static Whereabouts {
        let me = ME.get();
        if ptr::eq(me, &NOBODY) { first_whereabouts() } else { me }
    }

    #[cold]
    #[inline(never)]
    fn first_whereabouts() -> &'static Whereabouts {
        // Once the destructor has run there is none any more.
        if AT_THE_END.try_with(|_| ()).is_ok() {
            ME.set(one_of_the_spare().unwrap_or_else(|| Box::leak(Box::new(Whereabouts::new()))));
        }
        ME.get()
    }

    fn one_of_the_spare() -> Option<&'static Whereabouts> {
        let mut spare = SPARE.lock();
        let found = (*spare)?;
        // SAFETY: null, or from a reference that lasts for ever.
        *spare = unsafe { found.next.load(Ordering::Relaxed).as_ref() };
        Some(found)
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
            self.bias.quick(ME.get()).map(|taken| self.guard(taken))
        }

        #[cold]
        fn lock_slow(&self) -> BiasedLockGuard<'_, T> {
            let me = whereabouts();
            self.guard(self.bias.lock(me, !ptr::eq(me, &NOBODY)))
        }

        /// Says that the thread will not take the lock for a while.
        #[cold]
        pub(crate) fn step_back(&self) {
            self.bias.step_back(ME.get());
        }

        #[inline(always)]
        fn guard<'a>(&'a self, taken: Taken<'a>) -> BiasedLockGuard<'a, T> {
            BiasedLockGuard { value: &self.value, taken, not_send: PhantomData }
        }
    }

    pub(crate) struct BiasedLockGuard<'a, T> {
        value: &'a UnsafeCell<T>,
        taken: Taken<'a>,
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
            self.taken.store(0, Ordering::Release);
        }
    }
}

#[cfg(all(test, not(loom)))]
mod tests {
    use super::*;
    use std::sync::Arc;
    use std::thread;

    fn granted() {
        while !is_ready() {
            thread::yield_now();
        }
    }

    impl Bias {
        /// Takes the lock and gives it back; whether as its owner.
        fn turn(&self, me: &Whereabouts) -> bool {
            let taken = self.quick(me).unwrap_or_else(|| self.lock(me, true));
            taken.store(0, Ordering::Release);
            ptr::eq(taken, &me.inside)
        }

        fn needed(&self) -> u32 {
            self.needed.load(Ordering::Relaxed)
        }

        /// So many turns by one that is not the owner.
        fn turns(&self, me: &Whereabouts, n: u32) {
            (0..n).for_each(|_| assert!(!self.turn(me)));
        }

        /// A lock that has an owner.
        fn of(me: &Whereabouts) -> Bias {
            granted();
            let bias = Bias::new();
            bias.turns(me, STREAK + 1);
            assert!(bias.turn(me));
            bias
        }
    }

    #[test]
    fn a_lock_that_one_thread_uses_becomes_its_own_until_another_comes() {
        let (me, other) = (Whereabouts::new(), Whereabouts::new());
        let bias = Bias::of(&me);
        // It does not answer, so the bias is taken away.
        assert!(!bias.turn(&other));
        assert!(!bias.turn(&me));
        assert_eq!(bias.needed(), AGAIN.0);
    }

    #[test]
    fn one_that_has_been_used_by_several_becomes_anybodys_sooner() {
        let (me, other) = (Whereabouts::new(), Whereabouts::new());
        let bias = Bias::of(&me);
        // The first of them asks.
        bias.turns(&other, 1 + AGAIN.0);
        assert!(bias.turn(&other));
        // And no sooner when it has to be taken away again.
        bias.turns(&me, 1);
        assert_eq!(bias.needed(), 4 * AGAIN.0);
        bias.turns(&me, 4 * AGAIN.0);
        assert!(bias.turn(&me));
        // In the end hardly ever.
        for _ in 0..20 {
            bias.owner.store(me.as_owner(), Ordering::Relaxed);
            bias.ask(me.as_owner(), &other);
        }
        assert_eq!(bias.needed(), AGAIN.1);
    }

    #[test]
    fn an_owner_that_is_asked_hands_the_bias_over() {
        let (me, other) = (Whereabouts::new(), Whereabouts::new());
        let bias = Bias::of(&me);
        bias.owner.store(me.as_wanted(), Ordering::Relaxed);
        // As if another had asked and was still waiting for the answer.
        assert!(!bias.turn(&me));
        assert_eq!(bias.owner.load(Ordering::Relaxed), UNDECIDED);
        assert!(!bias.turn(&other));
    }

    #[test]
    fn who_steps_back_is_the_owner_no_more_and_nobody_has_to_ask() {
        let (me, other) = (Whereabouts::new(), Whereabouts::new());
        let bias = Bias::of(&me);
        bias.step_back(&other);
        assert!(bias.turn(&me));
        bias.step_back(&me);
        assert_eq!(bias.owner.load(Ordering::Relaxed), UNDECIDED);
        let bias = Bias::of(&me);
        bias.owner.store(me.as_wanted(), Ordering::Relaxed);
        bias.step_back(&me);
        assert_eq!(bias.owner.load(Ordering::Relaxed), UNDECIDED);
    }

    #[test]
    fn who_is_inside_of_one_lock_takes_another_as_others_do() {
        let me = Whereabouts::new();
        let (first, second) = (Bias::of(&me), Bias::of(&me));
        let taken = first.quick(&me).unwrap();
        assert!(ptr::eq(taken, &me.inside));
        assert!(second.quick(&me).is_none());
        let also_taken = second.lock(&me, true);
        assert!(ptr::eq(also_taken, &second.held));
        // It is inside of the first all the time, whoever asks.
        assert_eq!(me.inside.load(Ordering::Relaxed), first.place());
        also_taken.store(0, Ordering::Release);
        taken.store(0, Ordering::Release);
        assert!(first.turn(&me) && second.turn(&me));
    }

    #[test]
    fn an_owner_that_is_inside_keeps_the_bias() {
        let me = Whereabouts::new();
        let bias = Bias::of(&me);
        let taken = bias.quick(&me).unwrap();
        bias.owner.store(me.as_wanted(), Ordering::Relaxed);
        bias.step_back(&me);
        assert_eq!(bias.owner.load(Ordering::Relaxed), me.as_wanted());
        taken.store(0, Ordering::Release);
    }

    #[test]
    fn a_lock_that_changes_hands_belongs_to_nobody() {
        granted();
        let (me, other) = (Whereabouts::new(), Whereabouts::new());
        let bias = Bias::new();
        for _ in 0..=TOO_MANY {
            bias.turns(&me, 1);
            bias.turns(&other, 1);
        }
        assert_eq!(bias.owner.load(Ordering::Relaxed), SHARED);
        bias.turns(&me, 2 * STREAK);
    }

    #[test]
    fn one_that_changes_hands_after_long_streaks_may_have_an_owner() {
        granted();
        let (me, other) = (Whereabouts::new(), Whereabouts::new());
        let bias = Bias::new();
        for _ in 0..2 * TOO_MANY {
            bias.turns(&other, 1);
            bias.turns(&me, 1 + AGAIN.0);
            assert!(bias.turn(&me));
            bias.step_back(&me);
        }
    }

    #[test]
    fn who_has_no_record_never_is_the_owner() {
        granted();
        let nobody = Whereabouts::new();
        let bias = Bias::new();
        for _ in 0..3 * STREAK {
            let taken = bias.quick(&nobody).unwrap_or_else(|| bias.lock(&nobody, false));
            assert!(ptr::eq(taken, &bias.held));
            taken.store(0, Ordering::Release);
        }
    }

    #[test]
    fn a_thread_has_one_record_and_leaves_it_to_a_later_one() {
        let here = whereabouts();
        assert!(ptr::eq(here, whereabouts()));
        // Other tests start threads as well; but a hundred do not all come in between.
        let later = || thread::spawn(|| ptr::from_ref(whereabouts()).addr()).join().unwrap();
        let mut seen: Vec<usize> = (0..100).map(|_| later()).collect();
        assert!(!seen.contains(&ptr::from_ref(here).addr()));
        seen.sort_unstable();
        seen.dedup();
        assert!(seen.len() < 100, "nobody's record was used again");
    }

    #[test]
    fn a_lock_can_be_taken_while_a_thread_comes_to_its_end() {
        struct Last(Arc<BiasedLock<u32>>);
        impl Drop for Last {
            fn drop(&mut self) {
                (0..3 * STREAK).for_each(|_| *self.0.lock() += 1);
            }
        }
        thread_local! {
            static FIRST: std::cell::RefCell<Option<Last>> = const { std::cell::RefCell::new(None) };
        }
        granted();
        let lock = Arc::new(BiasedLock::new(0));
        for _ in 0..3 {
            let lock = Arc::clone(&lock);
            let thread = thread::spawn(move || {
                // Dropped after the thread-locals that are first used later than it.
                FIRST.set(Some(Last(Arc::clone(&lock))));
                (0..3 * STREAK).for_each(|_| *lock.lock() += 1);
            });
            thread.join().unwrap();
        }
        assert_eq!(*lock.lock(), 3 * 6 * STREAK);
    }

    /// Who has it steps back at times, and others use it in long and in short streaks.
    #[test]
    fn increments_are_not_lost_whichever_way_the_bias_goes() {
        granted();
        let rounds = if cfg!(miri) { 2 } else { 100 };
        let lock = Arc::new(BiasedLock::new(0));
        let threads = [1, 7, 100, 2 * AGAIN.0, 3 * STREAK].map(|streak| {
            let lock = Arc::clone(&lock);
            thread::spawn(move || {
                for round in 0..rounds {
                    (0..streak).for_each(|_| *lock.lock() += 1);
                    if round % 2 == 0 {
                        lock.step_back();
                    }
                    thread::yield_now();
                }
                rounds * streak
            })
        });
        let all: u32 = threads.map(|thread| thread.join().unwrap()).iter().sum();
        assert_eq!(*lock.lock(), all);
    }

    #[test]
    fn increments_are_not_lost_when_the_bias_is_taken_away() {
        granted();
        for _ in 0..if cfg!(miri) { 2 } else { 200 } {
            let lock = Arc::new(BiasedLock::new(0u32));
            let (owner, other) = (Arc::clone(&lock), Arc::clone(&lock));
            let owner = thread::spawn(move || {
                for _ in 0..10 * STREAK {
                    *owner.lock() += 1;
                }
            });
            let other = thread::spawn(move || {
                while *other.lock() < STREAK + 100 {
                    thread::yield_now();
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

    impl Whereabouts {
        fn new() -> Whereabouts {
            Whereabouts { inside: AtomicUsize::new(NOWHERE) }
        }
    }

    /// A count under the lock, and the records of all who come.
    struct Counter {
        people: [Whereabouts; 3],
        bias: Bias,
        count: UnsafeCell<u32>,
    }

    // SAFETY: what the models check: the count is touched under the lock.
    unsafe impl Sync for Counter {}
    // SAFETY: as above.
    unsafe impl Send for Counter {}

    impl Counter {
        fn new() -> Arc<Counter> {
            let people = std::array::from_fn(|_| Whereabouts::new());
            Arc::new(Counter { people, bias: Bias::new(), count: UnsafeCell::new(0) })
        }

        /// One that the first of them owns by now.
        fn owned() -> Arc<Counter> {
            let counter = Counter::new();
            for _ in 0..=STREAK {
                assert!(!counter.up(0));
            }
            assert!(counter.is_owner(0));
            counter
        }

        fn is_owner(&self, who: usize) -> bool {
            self.bias.owner.load(Ordering::Relaxed) == self.people[who].as_owner()
        }

        /// Whether as the owner.
        fn up(&self, who: usize) -> bool {
            let me = &self.people[who];
            let taken = self.bias.quick(me).unwrap_or_else(|| self.bias.lock(me, true));
            // SAFETY: under the lock.
            self.count.with_mut(|count| unsafe { *count += 1 });
            let as_owner = ptr::eq(taken, &me.inside);
            taken.store(0, Ordering::Release);
            as_owner
        }

        fn step_back(&self, who: usize) {
            self.bias.step_back(&self.people[who]);
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

    fn beside(
        counter: &Arc<Counter>,
        f: impl FnOnce(&Counter) + 'static,
    ) -> thread::JoinHandle<()> {
        let counter = Arc::clone(counter);
        thread::spawn(move || f(&counter))
    }

    #[test]
    fn the_owner_and_one_who_asks_exclude_each_other() {
        model(|| {
            let counter = Counter::owned();
            let other = beside(&counter, |counter| assert!(!counter.up(1)));
            counter.up(0);
            counter.up(0);
            other.join().unwrap();
            assert_eq!(counter.count(), STREAK + 4);
        });
    }

    /// (With the owner inside as well loom would have the two look in turn for ever, and never let it out.)
    #[test]
    fn so_do_two_who_ask_at_once() {
        model(|| {
            let counter = Counter::owned();
            let other = beside(&counter, |counter| assert!(!counter.up(1)));
            counter.up(2);
            other.join().unwrap();
            assert_eq!(counter.count(), STREAK + 3);
        });
    }

    #[test]
    fn so_do_an_owner_that_steps_back_and_one_who_asks() {
        model(|| {
            let counter = Counter::owned();
            let other = beside(&counter, |counter| assert!(!counter.up(1)));
            counter.up(0);
            counter.step_back(0);
            counter.up(0);
            other.join().unwrap();
            assert_eq!(counter.count(), STREAK + 4);
        });
    }

    /// The former owner may be anywhere between its look and its store when the next one is inside.
    #[test]
    fn so_do_a_former_owner_and_the_next() {
        model(|| {
            let counter = Counter::owned();
            let other = beside(&counter, |counter| {
                (0..=STREAK + 1).for_each(|_| _ = counter.up(1));
            });
            counter.up(0);
            other.join().unwrap();
            assert_eq!(counter.count(), 2 * STREAK + 4);
        });
    }

    #[test]
    fn a_lock_may_be_biased_while_others_come() {
        model(|| {
            let counter = Counter::new();
            let other = beside(&counter, |counter| assert!(!counter.up(1)));
            for _ in 0..=STREAK + 1 {
                counter.up(0);
            }
            other.join().unwrap();
            assert_eq!(counter.count(), STREAK + 3);
        });
    }

    /// Who waits for the owner to come out of one lock sees what it has done in there, though it finds it in the other.
    #[test]
    fn an_owner_of_two_locks_excludes_who_asks_for_either() {
        model(|| {
            let counter = Counter::owned();
            let (second, me) = (Bias::new(), &counter.people[0]);
            second.owner.store(me.as_owner(), Ordering::Relaxed);
            let other = beside(&counter, |counter| assert!(!counter.up(1)));
            counter.up(0);
            let taken = second.quick(me).unwrap();
            counter.up(0);
            taken.store(0, Ordering::Release);
            other.join().unwrap();
            assert_eq!(counter.count(), STREAK + 4);
        });
    }
}
