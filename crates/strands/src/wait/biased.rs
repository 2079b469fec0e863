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

// No larger than the locks of ten thousand channels in a row should be.
#[cfg(not(loom))]
const _: () = assert!(size_of::<Bias>() <= 32);

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
            patience::until_ones_turn(|| self.take());
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

#[cfg(all(test, loom))]
mod loom_tests;
#[cfg(not(loom))]
mod native;

#[cfg(loom)]
pub(crate) use super::lock::{ShortLock as BiasedLock, ShortLockGuard as BiasedLockGuard};
#[cfg(not(loom))]
pub(crate) use native::{BiasedLock, BiasedLockGuard, place_of_whereabouts, whereabouts};

#[cfg(all(test, not(loom)))]
mod tests {
    use super::*;
    use std::thread;

    pub(super) fn granted() {
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
}
