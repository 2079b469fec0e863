//! Workers that share a CPU while they serve descriptors, and workers that ought to.
//!
//! There are as many workers as CPUs, and often more threads than that: a client on the same machine, another server, an
//! agent. Then some share a CPU, and the kernel lets one of them run until its next tick, four milliseconds later, unless
//! it sleeps. A busy server never does. Meanwhile the connections of the other, which are at home with it, wait.
//! That is most of what is slow about the slowest requests. So:
//!
//! - **Turns.** A worker that knows of another on its CPU yields every [`TURN`], and when it has nothing to do (`courtesy`).
//!   Whom it yields to does the same.
//! - **Calling over.** A worker that waits behind a *stranger* cannot appeal to it, and the kernel leaves it there as long as
//!   all CPUs are busy, even if another worker keeps its own busy with looking whether there is something to do. So
//!   that one calls it over: the two then share this CPU in turns, and the stranger keeps the other for itself. With a client
//!   that needs a CPU of its own, as each does that is as fast as its server, nobody disturbs anybody.
//!
//! How a worker knows: each leaves its number as the CPU's *occupant* whenever it looks at its poller or gets up. Whoever finds
//! another number there than its own has been away, and that one was here. It is taken to be here still as long as it is
//! up and has not been seen on another CPU.
//!
//! A worker waits for a CPU if it is up and has not looked at its poller for [`STUCK`], where a busy one does so every 50 µs;
//! and if its CPU clock stands still, which tells it from one whose goroutine computes. It is called over once for each
//! time that it waits.

use super::super::here::Here;
use super::Worker;
use crate::sys::cpu::{self, Mover};
use crossbeam_utils::CachePadded;
use std::cell::Cell;
use std::sync::atomic::{AtomicUsize, Ordering};

/// How long a worker keeps a CPU that it shares, in nanoseconds: some ten times what it takes to change over, and short
/// enough that the connections of four of them are served within half a millisecond.
const TURN: u64 = 100_000;
/// A turn that takes longer was not a worker's that keeps to turns, or it has a goroutine that computes.
const LONG_TURN: u64 = 10 * TURN;
/// After so long without a look at its poller a worker is taken to be stuck.
const STUCK: u64 = 100_000;
/// How often a worker with nothing to do asks whether another is stuck: it may have nothing to do very often.
const ASK_EVERY: u64 = 50_000;
/// Nobody's number.
const NOBODY: usize = usize::MAX;

/// Who was last seen on which CPU.
pub(in crate::sched) struct Occupants {
    last: Box<[CachePadded<AtomicUsize>]>,
    mover: Mover,
}

impl Occupants {
    pub(in crate::sched) fn new() -> Occupants {
        let nobody = || CachePadded::new(AtomicUsize::new(NOBODY));
        Occupants { last: (0..cpu::configured()).map(|_| nobody()).collect(), mover: Mover::new() }
    }

    /// Notes that a worker is there; who was there before, if it was another.
    fn note(&self, cpu: usize, worker: usize) -> Option<usize> {
        // Ordering: Relaxed, a hint. It is mostly ours already, and then only read.
        let last = self.last.get(cpu)?;
        let former = last.load(Ordering::Relaxed);
        if former != worker {
            last.store(worker, Ordering::Relaxed);
        }
        (former != worker && former != NOBODY).then_some(former)
    }
}

/// What a worker knows of those with whom it shares its CPU.
pub(super) struct Company {
    /// Who was here last, of the others.
    neighbour: Cell<usize>,
    /// How long it keeps the CPU if there is.
    turn: Cell<u64>,
    /// Since when the CPU has been this one's.
    since: Cell<u64>,
    /// When it may ask again whether another is stuck, which one, and who was called over last: a worker, and the time of
    /// its last look by which it seemed to be stuck.
    ask_at: Cell<u64>,
    ask_whom: Cell<usize>,
    called: Cell<(usize, u64)>,
}

impl Company {
    pub(super) const fn new() -> Company {
        Company {
            neighbour: Cell::new(NOBODY),
            turn: Cell::new(TURN),
            since: Cell::new(0),
            ask_at: Cell::new(0),
            ask_whom: Cell::new(0),
            called: Cell::new((NOBODY, 0)),
        }
    }
}

/// How long to keep the CPU after a yield that took so long: half as long, but for a turn at least. Of two workers that
/// begin with long turns, for whatever reason, each makes it half of the other's, and soon they have short ones. And
/// who has company of one whose goroutine computes until the kernel's tick is not left with a hundredth of the CPU.
fn turn_after(took: u64) -> u64 {
    (took / 2).max(TURN)
}

impl Here {
    /// Yields if this worker has had a CPU for long enough that it shares with another. For a busy one that has just looked
    /// at its poller.
    pub(super) fn take_turns(self, now: u64) {
        let company = &self.own.company;
        self.see_who_is_here();
        if self.has_company() && now >= company.since.get() + company.turn.get() {
            self.yield_and_look();
        }
    }

    /// Lets others have the CPU, and looks at the poller. Returns how many that has woken, and whether to yield once more if
    /// it is none.
    pub(super) fn yield_and_look(self) -> (usize, bool) {
        let clock = &self.runtime.clock;
        // Lest whoever has the CPU next believes that nobody was here.
        self.see_who_is_here();
        let before = clock.now();
        std::thread::yield_now();
        let after = clock.now();
        let company = &self.own.company;
        let took = after - before;
        let had_company = self.has_company();
        self.see_who_is_here();
        company.turn.set(turn_after(took));
        company.since.set(after);
        let brought = self.look_at_poller(after);
        if had_company && took <= LONG_TURN {
            // That was a turn, and says nothing of strangers.
            return (brought, true);
        }
        (brought, self.own.courtesy.weigh(took, brought))
    }

    /// Whether a yield is worth while, going by the last ones.
    pub(super) fn may_yield(self) -> bool {
        let company = &self.own.company;
        let is_in_turn = self.has_company() && company.turn.get() <= LONG_TURN / 2;
        is_in_turn || self.own.courtesy.is_due()
    }

    /// Notes that this worker is on its CPU, and remembers who was there before.
    pub(super) fn see_who_is_here(self) {
        let cpu = cpu::current();
        if self.cpu.load(Ordering::Relaxed) != cpu {
            self.cpu.store(cpu, Ordering::Relaxed);
        }
        if let Some(former) = self.runtime.occupants.note(cpu, self.index) {
            self.own.company.neighbour.set(former);
        }
    }

    /// Whether the one who was here last is up, and here still as far as it knows. It need not have had a turn since: the
    /// kernel may find that it is not its turn.
    fn has_company(self) -> bool {
        let neighbour = self.own.company.neighbour.get();
        let neighbour = (neighbour != NOBODY).then(|| self.runtime.worker(neighbour)).flatten();
        let here = self.cpu.load(Ordering::Relaxed);
        neighbour
            .is_some_and(|other| !other.is_asleep() && other.cpu.load(Ordering::Relaxed) == here)
    }

    /// Has another worker come here that waits for a CPU elsewhere. For one that has nothing to do.
    pub(super) fn call_over(self, now: u64) {
        let company = &self.own.company;
        if now < company.ask_at.get() || self.runtime.cpus == 1 {
            return;
        }
        company.ask_at.set(now + ASK_EVERY);
        let whom = company.ask_whom.get();
        let Some(other) = self.runtime.worker(whom) else { return company.ask_whom.set(0) };
        company.ask_whom.set(whom + 1);
        let Some(looked) = other.stuck_since(now).filter(|_| whom != self.index) else { return };
        let here = cpu::current();
        let is_here = other.cpu.load(Ordering::Relaxed) == here;
        let is_new = company.called.replace((whom, looked)) != (whom, looked);
        if !is_here {
            if !is_new || !self.runtime.occupants.mover.bring(other.tid(), here) {
                return;
            }
            self.runtime.called_over.fetch_add(1, Ordering::Relaxed);
            other.cpu.store(here, Ordering::Relaxed);
        }
        company.neighbour.set(whom);
    }
}

impl Worker {
    /// The time of its last look, if it is up and that was too long ago.
    fn stuck_since(&self, now: u64) -> Option<u64> {
        let poller = self.poller().filter(|poller| poller.has_sources())?;
        let looked = poller.last_look()?;
        (now >= looked + STUCK && !self.is_asleep() && self.tid() != 0).then_some(looked)
    }
}

#[cfg(all(test, not(loom)))]
mod tests {
    use super::*;

    #[test]
    fn long_turns_become_short_ones() {
        let turns = std::iter::successors(Some(4_000_000), |&took| Some(turn_after(took)));
        assert_eq!(
            turns.take(7).collect::<Vec<_>>(),
            [4_000_000, 2_000_000, 1_000_000, 500_000, 250_000, 125_000, TURN]
        );
    }

    #[test]
    fn who_finds_that_another_was_there_has_company() {
        let occupants = Occupants::new();
        assert_eq!(occupants.note(0, 1), None, "nobody was here");
        assert_eq!(occupants.note(0, 1), None, "nobody came");
        assert_eq!(occupants.note(0, 2), Some(1));
        assert_eq!(occupants.note(0, 2), None);
        assert_eq!(occupants.note(0, 1), Some(2));
        assert_eq!(occupants.note(usize::MAX, 1), None, "a CPU of which nobody has heard");
    }
}
