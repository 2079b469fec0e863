//! The record of a source: its two sides, who waits at them, and what an edge does.
//!
//! # Edges, and why none is lost
//!
//! The kernel tells of a change once. So each side has a word that remembers it:
//!
//! ```text
//!   { edges: 62, plain: 1 (inverted), ready: 1 }
//!
//!   one who tries                               an edge
//!   ─────────────                               ───────
//!   T1  seen = word; not ready: go to T4        E1  under the lock: edges + 1, ready
//!   T2  the call; it would block                E2  empty the line, claiming those in it
//!   T3  clear `ready`, if word == seen          E3  unlock; wake them
//!   T4  under the lock: ready? then go to T1
//!       else get in line, park
//! ```
//!
//! `ready` means that a call may succeed, and is the state of a new source. It is only cleared by one who has found
//! that a call would block, and only if no edge was noted since before that call (T3 compares the edges, too). So
//! with `ready` cleared, whatever makes a call succeed comes after a call that would have blocked, and so is a
//! change of which the kernel has yet to tell; E1 will set the bit again, and whoever is in line by then is
//! woken, since both look under the lock.
//!
//! A read that brings less than it asked for has emptied a TCP socket as surely as one that would block, and may clear
//! the bit likewise, which saves a call for each request. But not if the end of the stream has been seen, for
//! that would be overlooked: it is not a change any more. Nor if there are urgent bytes, short of which a read
//! stops. Then the side is no longer *plain*.
//!
//! # Who accepts
//!
//! Of those who wait for bytes all are woken: there may be some for each, and nobody knows what they are going to do.
//! Who waits in a call of `accept` is going to accept, one connection. So these have a line of their own, of
//! which an edge wakes the first; and whoever leaves a call of `accept` wakes the next if there is another
//! connection ([`next_acceptor`](Record::next_acceptor)). One that waits for nothing wakes nobody, and none is
//! forgotten: as long as a listener is ready, either nobody is in that line, or somebody is awake who was.
//!
//! # Who owns what
//!
//! | what | who |
//! |---|---|
//! | `descriptor`, `timeouts`, `flags` | whoever has a [`Source`](super::Source) |
//! | a [`Place`] in a line, the lines, wakers, the registration | the lock |
//! | `next_free` | the slab's lock |

use super::Poller;
use super::slab;
use crate::sys::epoll;
use crate::wait::{ShortLock, Token, Waiter, Wake};
use std::cell::Cell;
use std::marker::PhantomPinned;
use std::ptr;
use std::sync::atomic::{AtomicI32, AtomicU8, AtomicU32, AtomicU64, AtomicUsize, Ordering};
use std::task::Waker;

/// Bits of a side's word.
const READY: u64 = 1;
const NOT_PLAIN: u64 = 2;
const EDGE: u64 = 4;

/// The line of those who wait to accept, after those of the two sides.
const ACCEPTORS: usize = 2;

/// At most so many are woken between two looks at the lock.
const BATCH: usize = 16;
/// So many async tasks without a name may wait at a side: see `visitor`.
pub(super) const MOST_WAKERS: usize = 32;
/// The name of those who have none, and that of one who has yet to get one.
pub(super) const NAMELESS: u64 = 0;
pub(super) const FRESH: u64 = u64::MAX;

/// Which side of a source.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Side {
    /// Reading and accepting.
    Read = 0,
    /// Writing and connecting.
    Write = 1,
}

impl Side {
    /// What the kernel is to tell of.
    pub(super) fn wanted(self) -> u32 {
        match self {
            Side::Read => epoll::READABLE | epoll::URGENT,
            Side::Write => epoll::WRITABLE,
        }
    }

    pub(super) fn bit(self) -> u8 {
        1 << self as u8
    }

    /// What one waits for in `poll`.
    pub(super) fn polled(self) -> u32 {
        match self {
            Side::Read => epoll::READABLE,
            Side::Write => epoll::WRITABLE,
        }
    }
}

/// What a side's word said.
#[derive(Clone, Copy)]
pub(super) struct Seen(u64);

impl Seen {
    pub(super) fn is_ready(self) -> bool {
        self.0 & READY != 0
    }

    /// Whether a read that was short has left nothing behind.
    pub(super) fn is_plain(self) -> bool {
        self.0 & NOT_PLAIN == 0
    }
}

/// Where one party waits for a side.
pub(crate) struct Place {
    waiter: Cell<*const Waiter>,
    token: Cell<Token>,
    next: Cell<*const Place>,
    previous: Cell<*const Place>,
    in_line: Cell<bool>,
    /// Which of the lines it is for.
    line: Cell<usize>,
    _pinned: PhantomPinned,
}

// SAFETY: what others do to a place they do under the lock of the record in whose line it is; before it is in line
// and after it has left, its owner has it alone.
unsafe impl Send for Place {}
// SAFETY: as above.
unsafe impl Sync for Place {}

impl Place {
    pub(crate) const fn new() -> Place {
        Place {
            waiter: Cell::new(ptr::null()),
            token: Cell::new(0),
            next: Cell::new(ptr::null()),
            previous: Cell::new(ptr::null()),
            in_line: Cell::new(false),
            line: Cell::new(Side::Read as usize),
            _pinned: PhantomPinned,
        }
    }

    /// Of one who is going to accept a connection.
    pub(super) fn of_acceptor(self) -> Place {
        self.line.set(ACCEPTORS);
        self
    }
}

/// Those who wait at a side, in order.
struct Line {
    first: *const Place,
    last: *const Place,
    length: usize,
}

impl Line {
    const fn new() -> Line {
        Line { first: ptr::null(), last: ptr::null(), length: 0 }
    }

    /// # Safety
    /// The place stays where it is, and its waiter too, until it has left the line.
    unsafe fn join(&mut self, place: &Place) {
        debug_assert!(!place.in_line.get());
        place.in_line.set(true);
        place.next.set(ptr::null());
        place.previous.set(self.last);
        // SAFETY: places in line are alive, and their links are ours under the lock.
        match unsafe { self.last.as_ref() } {
            Some(last) => last.next.set(place),
            None => self.first = place,
        }
        self.last = place;
        self.length += 1;
    }

    fn leave(&mut self, place: &Place) {
        if !place.in_line.replace(false) {
            return;
        }
        let (previous, next) = (place.previous.get(), place.next.get());
        // SAFETY: neighbours in line are alive, and their links are ours under the lock.
        unsafe {
            match previous.as_ref() {
                Some(previous) => previous.next.set(next),
                None => self.first = next,
            }
            match next.as_ref() {
                Some(next) => next.previous.set(previous),
                None => self.last = previous,
            }
        }
        self.length -= 1;
    }

    /// Takes the first out and claims it; `None` inside if it has given up.
    fn take_first(&mut self) -> Option<Option<Wake>> {
        // SAFETY: places in line are alive, and so are their waiters.
        let (place, waiter) = unsafe {
            let place = self.first.as_ref()?;
            (place, &*place.waiter.get())
        };
        self.leave(place);
        // SAFETY: just claimed, and neither is touched again.
        Some(waiter.try_claim(place.token.get()).then(|| unsafe { waiter.finish() }))
    }
}

pub(super) struct State {
    /// Those of the two sides, and that of the acceptors.
    lines: [Line; 3],
    /// Those of async tasks, with their names.
    wakers: [Vec<(u64, Waker)>; 2],
    last_name: u64,
    /// Grows whenever the record is given back: what the kernel says of an earlier one is not for us.
    generation: u32,
    /// With which poller it is registered, for what, and its habits of moving: see `registration`.
    pub(super) poller: Option<&'static Poller>,
    pub(super) told_of: u32,
    /// For which sides the makeshift poller has an entry.
    pub(super) makeshift: u8,
    pub(super) moves: u8,
    pub(super) strangers: u16,
}

// SAFETY: places are reached under the lock only.
unsafe impl Send for State {}

impl State {
    /// Whether anybody waits.
    pub(super) fn is_waited_for(&self) -> bool {
        self.is_waited_for_at(Side::Read) || self.is_waited_for_at(Side::Write)
    }

    pub(super) fn is_waited_for_at(&self, side: Side) -> bool {
        self.lines[side as usize].length > 0
            || !self.wakers[side as usize].is_empty()
            || (side == Side::Read && self.lines[ACCEPTORS].length > 0)
    }
}

pub(crate) struct Record {
    index: u32,
    pub(super) next_free: AtomicU32,
    pub(super) owners: AtomicUsize,
    pub(super) descriptor: AtomicI32,
    pub(super) flags: AtomicU8,
    /// In nanoseconds; 0 for none.
    pub(super) timeouts: [AtomicU64; 2],
    sides: [AtomicU64; 2],
    pub(super) state: ShortLock<State>,
}

impl Record {
    pub(super) fn new(index: u32) -> Record {
        Record {
            index,
            next_free: AtomicU32::new(slab::NONE),
            owners: AtomicUsize::new(0),
            descriptor: AtomicI32::new(-1),
            flags: AtomicU8::new(0),
            timeouts: [const { AtomicU64::new(0) }; 2],
            sides: [const { AtomicU64::new(READY) }; 2],
            state: ShortLock::new(State {
                lines: [const { Line::new() }; 3],
                wakers: [const { Vec::new() }; 2],
                last_name: NAMELESS,
                generation: 0,
                poller: None,
                told_of: 0,
                makeshift: 0,
                moves: 0,
                strangers: 0,
            }),
        }
    }

    pub(super) fn index(&self) -> u32 {
        self.index
    }

    /// The number under which it is registered.
    pub(super) fn number(&self, state: &State) -> u64 {
        u64::from(state.generation) << 32 | u64::from(self.index)
    }

    pub(super) fn is_waited_for(&self) -> bool {
        // Who holds the lock may be about to get in line.
        self.state.try_lock().is_none_or(|state| state.is_waited_for())
    }

    fn word(&self, side: Side) -> &AtomicU64 {
        &self.sides[side as usize]
    }

    /// T1.
    #[inline]
    pub(super) fn look(&self, side: Side) -> Seen {
        // Ordering: Acquire, so that the call comes after the look.
        Seen(self.word(side).load(Ordering::Acquire))
    }

    /// T3: a call has found nothing more to do. True if the side is not ready now.
    #[inline]
    pub(super) fn clear(&self, side: Side, seen: Seen) -> bool {
        // Ordering: Release, so that the call came before. What an edge tells of is the kernel's memory, not ours.
        let cleared = self.word(side).compare_exchange(
            seen.0,
            seen.0 & !READY,
            Ordering::AcqRel,
            Ordering::Relaxed,
        );
        cleared.is_ok()
    }

    /// T4, under the lock: gets in line, unless it is there or the side is ready. True if it is in line.
    ///
    /// # Safety
    /// Place and waiter stay where they are until the place has left the line: by [`leave`](Record::leave), or by
    /// the waiter having been claimed for `token` and finished.
    pub(super) unsafe fn join(
        &self,
        state: &mut State,
        side: Side,
        place: &Place,
        waiter: &Waiter,
        token: Token,
    ) -> bool {
        if place.in_line.get() {
            return true;
        }
        // Ordering: Relaxed, edges are noted under the lock.
        if self.word(side).load(Ordering::Relaxed) & READY != 0 {
            return false;
        }
        place.waiter.set(waiter);
        place.token.set(token);
        if place.line.get() != ACCEPTORS {
            place.line.set(side as usize);
        }
        // SAFETY: the caller's promise.
        unsafe { state.lines[place.line.get()].join(place) };
        true
    }

    /// Gets out of line, if it is in. Nobody touches place or waiter after that.
    pub(super) fn leave(&self, place: &Place) {
        self.state.lock().lines[place.line.get()].leave(place);
    }

    /// Takes the first of those who wait to accept out of their line, for there is a connection.
    pub(super) fn next_acceptor(state: &mut State) -> Option<Wake> {
        // Whoever has given up leaves by itself, and the next is in its place.
        std::iter::from_fn(|| state.lines[ACCEPTORS].take_first()).flatten().next()
    }

    /// Whether somebody waits to accept.
    pub(super) fn has_acceptors(&self) -> bool {
        self.state.lock().lines[ACCEPTORS].length > 0
    }

    /// T4 for an async task, of this name: it may get one now. True if its waker will be called; what is left in
    /// `waker` is to be dropped, and the one that is returned has been pushed out.
    pub(super) fn leave_waker(
        &self,
        state: &mut State,
        side: Side,
        name: &Cell<u64>,
        waker: &mut Option<Waker>,
    ) -> (bool, Option<Waker>) {
        if self.word(side).load(Ordering::Relaxed) & READY != 0 {
            return (false, None);
        }
        if name.get() == FRESH {
            state.last_name += 1;
            name.set(state.last_name);
        }
        let name = name.get();
        let wakers = &mut state.wakers[side as usize];
        if name != NAMELESS {
            match (wakers.iter_mut().find(|(other, _)| *other == name), waker.as_mut()) {
                // Another task's, it may be.
                (Some((_, former)), Some(waker)) => std::mem::swap(former, waker),
                _ => wakers.extend(waker.take().map(|waker| (name, waker))),
            }
            return (true, None);
        }
        let nameless = || wakers.iter().filter(|(other, _)| *other == NAMELESS);
        if nameless().any(|(_, other)| waker.as_ref().is_some_and(|waker| waker.will_wake(other))) {
            return (true, None);
        }
        let are_too_many = nameless().count() == MOST_WAKERS;
        let first =
            wakers.iter().position(|(other, _)| *other == NAMELESS).filter(|_| are_too_many);
        let pushed_out = first.map(|first| wakers.remove(first).1);
        wakers.extend(waker.take().map(|waker| (NAMELESS, waker)));
        (true, pushed_out)
    }

    /// Takes back the waker of this name, if it is there still.
    pub(super) fn take_waker_back(&self, side: Side, name: u64) -> Option<Waker> {
        let wakers = &mut self.state.lock().wakers[side as usize];
        let at = wakers.iter().position(|(other, _)| *other == name)?;
        Some(wakers.remove(at).1)
    }

    /// E1 and E2 for one side; at most a [`BATCH`] of those who were in line when it began.
    fn edge(&self, state: &mut State, side: Side, plain: bool) -> usize {
        let word = self.word(side);
        let bits = if plain { READY } else { READY | NOT_PLAIN };
        // Ordering: Release pairs with the Acquire in `look`. In between nobody clears what is about to be set: who
        // has seen the former word fails to compare, and who sees this one waits for the lock.
        word.fetch_add(EDGE, Ordering::Release);
        word.fetch_or(bits, Ordering::Release);
        state.lines[side as usize].length
    }

    /// The record ceases to be this source's.
    pub(super) fn retire(&self) -> [Vec<(u64, Waker)>; 2] {
        let mut state = self.state.lock();
        debug_assert!(
            state.lines.iter().all(|line| line.length == 0),
            "a source that is waited for"
        );
        state.generation = state.generation.wrapping_add(1);
        (state.makeshift, state.moves, state.strangers) = (0, 0, 0);
        std::mem::take(&mut state.wakers)
    }

    /// The record becomes that of a source with this descriptor.
    pub(super) fn begin(&self, descriptor: i32, flags: u8) {
        self.sides.iter().for_each(|side| side.store(READY, Ordering::Relaxed));
        self.timeouts.iter().for_each(|timeout| timeout.store(0, Ordering::Relaxed));
        self.flags.store(flags, Ordering::Relaxed);
        self.descriptor.store(descriptor, Ordering::Relaxed);
        // Ordering: Relaxed, whoever gets the source gets it by other means.
        self.owners.store(1, Ordering::Relaxed);
    }
}

/// What the kernel has told of the source that is registered under this number.
pub(super) fn notice(number: u64, what: u32, mut deliver: impl FnMut(Wake)) {
    let record = slab::get(number as u32);
    let reads = what & (epoll::READABLE | epoll::URGENT | epoll::ENDED) != 0;
    let writes = what & (epoll::WRITABLE | epoll::BROKEN) != 0;
    let plain = what & (epoll::URGENT | epoll::ENDED) == 0;
    for (side, is_told) in [(Side::Read, reads), (Side::Write, writes)] {
        if !is_told {
            continue;
        }
        let mut state = record.state.lock();
        if state.generation != (number >> 32) as u32 {
            return;
        }
        let mut waiting = record.edge(&mut state, side, plain);
        let wakers = std::mem::take(&mut state.wakers[side as usize]);
        if side == Side::Read
            && state.lines[ACCEPTORS].length > 0
            && let Some(wake) = Record::next_acceptor(&mut state)
        {
            drop(state);
            deliver(wake);
            state = record.state.lock();
        }
        loop {
            let mut wakes = [const { None }; BATCH];
            let mut count = 0;
            while waiting > 0 && count < BATCH {
                waiting -= 1;
                match state.lines[side as usize].take_first() {
                    Some(Some(wake)) => {
                        wakes[count] = Some(wake);
                        count += 1;
                    }
                    Some(None) => {}
                    None => waiting = 0,
                }
            }
            drop(state);
            wakes.into_iter().flatten().for_each(&mut deliver);
            if waiting == 0 {
                break;
            }
            // Who comes meanwhile has seen the edge. The source may be gone, but nobody can wait for it then.
            state = record.state.lock();
        }
        wakers.into_iter().for_each(|(_, waker)| deliver(Wake::of_future(waker)));
    }
}
