//! Learned offenders: the places in a program whose goroutines hold their threads.
//!
//! A goroutine that blocks its thread or computes for long costs others little, since its processor is taken
//! away (see `monitor`); but its *siblings at home* wait until it is done. So a [`Site`] whose goroutine has held
//! its thread for [`HELD`] in one turn is remembered, and the goroutines it spawns from then on start on threads of
//! their own (see `hosts`), where they hold up nobody. A site is a closure's type, and the place in the
//! source where it was handed to `go`.
//!
//! | state | meaning | next |
//! |---|---|---|
//! | [`State::Free`] | no site has this place in the table | `Offender`, by the first offence |
//! | [`State::Offender`] | its goroutines start on threads of their own | `Reformed`, when as many goroutines in a row as its redemption asks for have behaved |
//! | [`State::Reformed`] | they start where all do | `Offender`, by an offence, with its redemption doubled; or its place is given to another site |
//!
//! Goroutines that *roam* have no siblings at home. Those of a site that blocks start on threads of their own all the same:
//! it takes the monitor a millisecond or more to see that a thread is blocked, and so long all that is queued with it, and
//! the timers that are kept there, wait. When such a guest parks it is off, like any that roams; and as far as can be seen
//! from its host it has behaved. Those that compute start where all do.
//!
//! *Behaved* has a goroutine on a thread of its own that has ended, or had [`ENOUGH_TURNS`] turns, without holding
//! its thread. The redemption is [`FIRST_REDEMPTION`] at first and [`LAST_REDEMPTION`] at most, so a
//! site that offends once in a while is on probation longer each time, and one that had a bad day is not for ever.
//!
//! **What it costs.** Nothing at a spawn and nothing at a switch. At a goroutine's start: one load while there are
//! no offenders; a hash and a few loads when there are. Who offends is seen by the monitor, and on threads
//! of their own, where clocks are cheap beside the switch of threads, by the thread itself.
//!
//! The table has [`SITES`] places. When it is full of offenders, further sites are not learned; their
//! goroutines are handed off as before.

use super::goroutine::Birth;
use crossbeam_utils::CachePadded;
use std::ptr;
use std::sync::atomic::{AtomicBool, AtomicPtr, AtomicU8, AtomicUsize, Ordering};
use std::sync::{Mutex, MutexGuard, PoisonError};

/// Holding a thread for this long in one turn is an offence, in nanoseconds.
pub(super) const HELD: u64 = 10_000_000;
/// How many goroutines in a row must behave before a site has reformed: at first, and at most.
pub(super) const FIRST_REDEMPTION: u32 = 16;
const LAST_REDEMPTION: u32 = 1024;
/// A goroutine that has had so many turns without an offence has behaved, if it never ends.
pub(super) const ENOUGH_TURNS: u32 = 64;
/// Places in the table.
const SITES: usize = 256;
/// How far from where it belongs a site may be.
const REACH: usize = 8;

/// Where goroutines come from.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) struct Site(pub(super) usize);

impl Site {
    /// That of closures of this kind, started at this place.
    pub(super) fn of(kind: usize, birth: Birth) -> Site {
        // Distinct pairs give distinct keys but for an accident, which would make one site of two.
        let birth = ptr::from_ref(birth).addr();
        Site(kind.wrapping_mul(0x9e37_79b9_7f4a_7c15_u64 as usize) ^ birth | 1)
    }

    fn place(self) -> usize {
        (self.0.wrapping_mul(0x9e37_79b9_7f4a_7c15_u64 as usize) >> (usize::BITS - 16)) % SITES
    }
}

/// How a thread was held.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Held {
    /// It was asleep in the kernel.
    Blocked,
    /// It ran.
    Hogged,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
#[repr(u8)]
enum State {
    Free = 0,
    Offender = 1,
    Reformed = 2,
}

impl State {
    fn from_byte(byte: u8) -> State {
        match byte {
            1 => State::Offender,
            2 => State::Reformed,
            _ => State::Free,
        }
    }
}

/// A place in the table. Everybody reads `key`, `state` and `held`; all else is for who has the lock.
struct Place {
    /// A [`Site`]; 0 for none.
    key: AtomicUsize,
    state: AtomicU8,
    held: AtomicU8,
    /// Good goroutines in a row.
    behaved: AtomicUsize,
    redemption: AtomicUsize,
    /// There is something to say about it, and it has been said.
    worth_telling: AtomicBool,
    is_told: AtomicBool,
    birth: AtomicPtr<std::panic::Location<'static>>,
}

/// The table.
pub(super) struct Offenders {
    /// How many sites are `Offender`s.
    count: CachePadded<AtomicUsize>,
    places: Box<[Place]>,
    /// Taken by whoever changes something.
    change: Mutex<()>,
}

/// What a report says of a site.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) struct Portrait {
    pub(super) birth: Birth,
    pub(super) held: Held,
}

impl Offenders {
    pub(super) fn new() -> Offenders {
        let place = || Place {
            key: AtomicUsize::new(0),
            state: AtomicU8::new(State::Free as u8),
            held: AtomicU8::new(0),
            behaved: AtomicUsize::new(0),
            redemption: AtomicUsize::new(0),
            worth_telling: AtomicBool::new(false),
            is_told: AtomicBool::new(false),
            birth: AtomicPtr::new(ptr::null_mut()),
        };
        Offenders {
            count: CachePadded::new(AtomicUsize::new(0)),
            places: (0..SITES).map(|_| place()).collect(),
            change: Mutex::new(()),
        }
    }

    /// How many sites are offenders now.
    pub(super) fn count(&self) -> usize {
        self.count.load(Ordering::Relaxed)
    }

    /// Whether there is anything to ask about. The common answer is no.
    #[inline]
    pub(super) fn any(&self) -> bool {
        self.count.load(Ordering::Relaxed) > 0
    }

    /// How the goroutines of a site hold their threads, if they are known to.
    #[cold]
    pub(super) fn find(&self, site: Site) -> Option<Held> {
        let place = self.place_of(site)?;
        (place.state() == State::Offender).then(|| place.held())
    }

    /// A goroutine of this site has held its thread. True if that is news: the site was none.
    pub(super) fn offend(&self, site: Site, birth: Birth, held: Held) -> bool {
        let _changing = self.lock();
        let place = match self.place_of(site) {
            Some(place) => place,
            None => match self.vacate(site) {
                Some(place) => place,
                None => return false,
            },
        };
        place.behaved.store(0, Ordering::Relaxed);
        place.held.store(held as u8, Ordering::Relaxed);
        if held == Held::Blocked {
            place.worth_telling.store(true, Ordering::Relaxed);
        }
        place.birth.store(ptr::from_ref(birth).cast_mut(), Ordering::Relaxed);
        let former = place.state();
        let redemption = place.redemption.load(Ordering::Relaxed) as u32;
        let redemption = match former {
            State::Free => FIRST_REDEMPTION,
            State::Offender => redemption,
            State::Reformed => (2 * redemption).min(LAST_REDEMPTION),
        };
        place.redemption.store(redemption as usize, Ordering::Relaxed);
        // Ordering: Release pairs with the Acquire in `place_of`: the place is this site's now.
        place.key.store(site.0, Ordering::Release);
        if former != State::Offender {
            place.state.store(State::Offender as u8, Ordering::Relaxed);
            self.count.fetch_add(1, Ordering::Relaxed);
        }
        former == State::Free
    }

    /// One of its goroutines has lived on a thread of its own, and has not held that.
    pub(super) fn behave(&self, site: Site) {
        let _changing = self.lock();
        let Some(place) = self.place_of(site) else { return };
        let behaved = place.behaved.load(Ordering::Relaxed) + 1;
        place.behaved.store(behaved, Ordering::Relaxed);
        if place.state() == State::Offender && behaved >= place.redemption.load(Ordering::Relaxed) {
            place.state.store(State::Reformed as u8, Ordering::Relaxed);
            self.count.fetch_sub(1, Ordering::Relaxed);
        }
    }

    /// One of its goroutines has kept others waiting for long by computing. Many a program computes, and nobody
    /// minds; this is worth telling.
    pub(super) fn has_harmed(&self, site: Site) {
        let _changing = self.lock();
        if let Some(place) = self.place_of(site) {
            place.worth_telling.store(true, Ordering::Relaxed);
        }
    }

    /// One of its goroutines starts on a thread of its own. What there is to say about it, if it has not been said.
    pub(super) fn set_apart(&self, site: Site) -> Option<Portrait> {
        let place = self.place_of(site)?;
        if !place.worth_telling.load(Ordering::Relaxed) || place.is_told.load(Ordering::Relaxed) {
            return None;
        }
        let _changing = self.lock();
        if place.key.load(Ordering::Relaxed) != site.0
            || place.is_told.swap(true, Ordering::Relaxed)
        {
            return None;
        }
        // SAFETY: `offend` put a `&'static` there, under the lock that we have.
        let birth = unsafe { place.birth.load(Ordering::Relaxed).as_ref() }?;
        Some(Portrait { birth, held: place.held() })
    }

    fn lock(&self) -> MutexGuard<'_, ()> {
        self.change.lock().unwrap_or_else(PoisonError::into_inner)
    }

    fn reach(&self, site: Site) -> impl Iterator<Item = &Place> {
        (0..REACH).map(move |step| &self.places[(site.place() + step) % SITES])
    }

    fn place_of(&self, site: Site) -> Option<&Place> {
        // Ordering: Acquire, see `offend`.
        self.reach(site).find(|place| place.key.load(Ordering::Acquire) == site.0)
    }

    /// A place for a new site: a free one, or else that of a reformed one.
    fn vacate(&self, site: Site) -> Option<&Place> {
        let in_state = |state| self.reach(site).find(|place| place.state() == state);
        let place = in_state(State::Free).or_else(|| in_state(State::Reformed))?;
        // Who reads it meanwhile finds no site there.
        place.key.store(0, Ordering::Relaxed);
        place.state.store(State::Free as u8, Ordering::Relaxed);
        place.worth_telling.store(false, Ordering::Relaxed);
        place.is_told.store(false, Ordering::Relaxed);
        Some(place)
    }
}

impl Place {
    fn state(&self) -> State {
        State::from_byte(self.state.load(Ordering::Relaxed))
    }

    fn held(&self) -> Held {
        if self.held.load(Ordering::Relaxed) == Held::Hogged as u8 {
            Held::Hogged
        } else {
            Held::Blocked
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::panic::Location;

    #[track_caller]
    fn here() -> Birth {
        Location::caller()
    }

    const SITE: Site = Site(0x5555);

    #[test]
    fn a_site_is_learned_and_reforms_and_relapses() {
        let offenders = Offenders::new();
        let birth = here();
        assert!(!offenders.any());
        assert!(offenders.offend(SITE, birth, Held::Blocked), "it is news");
        assert!(offenders.any());
        assert_eq!(offenders.find(SITE), Some(Held::Blocked));
        assert!(!offenders.offend(SITE, birth, Held::Hogged), "it is not");
        assert_eq!(offenders.find(SITE), Some(Held::Hogged), "as it was held last");
        assert_eq!(offenders.count(), 1);
        for good in 1..=FIRST_REDEMPTION {
            assert_eq!(offenders.find(SITE), Some(Held::Hogged), "after {good}");
            offenders.behave(SITE);
        }
        assert_eq!(offenders.find(SITE), None);
        assert!(!offenders.any());
        assert!(!offenders.offend(SITE, birth, Held::Blocked), "known before");
        (0..2 * FIRST_REDEMPTION - 1).for_each(|_| offenders.behave(SITE));
        assert!(offenders.find(SITE).is_some(), "a relapse takes twice as many");
        offenders.behave(SITE);
        assert_eq!(offenders.find(SITE), None);
    }

    #[test]
    fn an_offence_begins_the_count_anew_and_there_is_an_end_to_doubling() {
        let offenders = Offenders::new();
        let birth = here();
        offenders.offend(SITE, birth, Held::Blocked);
        (0..FIRST_REDEMPTION - 1).for_each(|_| offenders.behave(SITE));
        offenders.offend(SITE, birth, Held::Blocked);
        (0..FIRST_REDEMPTION - 1).for_each(|_| offenders.behave(SITE));
        assert!(offenders.find(SITE).is_some());
        offenders.behave(SITE);
        for _ in 0..20 {
            offenders.offend(SITE, birth, Held::Blocked);
            (0..LAST_REDEMPTION).for_each(|_| offenders.behave(SITE));
            assert_eq!(offenders.find(SITE), None);
        }
        assert_eq!(offenders.count(), 0);
    }

    #[test]
    fn it_is_told_once() {
        let offenders = Offenders::new();
        let birth = here();
        assert_eq!(offenders.set_apart(SITE), None);
        offenders.offend(SITE, birth, Held::Hogged);
        assert_eq!(offenders.set_apart(SITE), None, "nobody has minded");
        offenders.has_harmed(SITE);
        assert_eq!(offenders.set_apart(SITE), Some(Portrait { birth, held: Held::Hogged }));
        assert_eq!(offenders.set_apart(SITE), None);
        let blocks = Site(0x7777);
        offenders.offend(blocks, birth, Held::Blocked);
        assert_eq!(offenders.set_apart(blocks), Some(Portrait { birth, held: Held::Blocked }));
        assert_eq!(offenders.set_apart(blocks), None);
    }

    #[test]
    fn a_full_table_learns_no_more_and_the_reformed_make_room() {
        let offenders = Offenders::new();
        let birth = here();
        // All of these belong at one place, so that eight of them fill what is in reach.
        let crowd: Vec<Site> =
            (1..).map(Site).filter(|site| site.place() == 7).take(REACH + 1).collect();
        let (late, early) = crowd.split_last().unwrap();
        early.iter().for_each(|site| assert!(offenders.offend(*site, birth, Held::Blocked)));
        assert!(!offenders.offend(*late, birth, Held::Blocked));
        assert_eq!(offenders.find(*late), None);
        assert_eq!(offenders.count(), REACH);
        (0..FIRST_REDEMPTION).for_each(|_| offenders.behave(early[3]));
        assert!(offenders.offend(*late, birth, Held::Blocked));
        assert!(offenders.find(*late).is_some());
        assert_eq!(offenders.find(early[3]), None);
        assert_eq!(offenders.count(), REACH);
    }

    #[test]
    fn places_and_types_make_sites() {
        let places = [here(), here()];
        let sites = [(16, 0), (16, 1), (32, 0), (48, 1)];
        let sites = sites.map(|(kind, place)| Site::of(kind, places[place]));
        for (at, site) in sites.iter().enumerate() {
            assert!(!sites[..at].contains(site));
            assert!(site.place() < SITES);
        }
    }
}
