//! Giving memory back from stacks that once went deep: the monitor's side of it.
//!
//! A scanner goes around over all slots and asks the kernel how many pages each has. A suspended goroutine
//! that needs fewer is reported to its home, which trims it when it is in its loop, where none of its
//! goroutines runs: so nobody else ever touches a stack. Free slots that are large are called in from the
//! workers' pools, and trimmed here.
//!
//! It goes slowly, a hundredth of a processor at most, since nobody waits for it; and it stops when nothing
//! has run since it last found nothing, so that an idle program is idle. Where the whole process holds little more than
//! a page for each stack, there is nothing to be had, and nothing is looked at: a slot of 8 MiB takes a microsecond. Little
//! is 16 MiB, and a page for every eight stacks: of what the program has on its heap there is more, the more goroutines
//! it has.

use super::runtime::Runtime;
use super::started;
use crate::stack::{Progress, Scanner, SlotRef};
use crate::sys::mem;
use std::sync::atomic::Ordering;
use std::time::Duration;

const MILLI: u64 = 1_000_000;

/// Between steps, and how long one may take.
const EVERY: u64 = 100 * MILLI;
const BUDGET: u64 = MILLI;
/// From the start of one round to that of the next, at least.
const ROUND_EVERY: u64 = 1_000 * MILLI;
/// Slots between two looks at the clock.
const CHUNK: usize = 64;
/// Rounds in a row that ask for something, with nothing having run: what was asked for takes a round to be
/// seen. Not for ever, though: locked memory, for one, cannot be given back.
const ROUNDS: u32 = 4;

/// Memory, beside a page for each stack, of which it is not worth while to look for what could be given back.
const LITTLE: usize = 16 << 20;
/// Nor is it where so many stacks have to be looked at for each page that there could be.
const LOOKS_A_PAGE: usize = 8;

pub(super) struct Trimmer {
    runtime: &'static Runtime,
    scanner: Scanner,
    last_step: u64,
    round_began: u64,
    in_round: bool,
    rounds_due: u32,
    has_asked: bool,
}

impl Trimmer {
    pub(super) fn new(runtime: &'static Runtime) -> Trimmer {
        Trimmer {
            runtime,
            scanner: Scanner::new(),
            last_step: 0,
            round_began: 0,
            in_round: false,
            rounds_due: 0,
            has_asked: false,
        }
    }

    /// Goroutines have run, so stacks may have grown.
    pub(super) fn something_ran(&mut self) {
        self.rounds_due = ROUNDS;
    }

    /// How long until there is something to do, if there is anything left to look at.
    pub(super) fn pause(&self, now: u64) -> Option<Duration> {
        let step = self.last_step + EVERY;
        let round = if self.in_round || self.round_began == 0 { 0 } else { self.next_round() };
        self.is_due().then(|| Duration::from_nanos(step.max(round).saturating_sub(now)))
    }

    fn is_due(&self) -> bool {
        self.rounds_due > 0
    }

    fn next_round(&self) -> u64 {
        self.round_began + ROUND_EVERY
    }

    /// Whether stacks can hold much that they do not need.
    fn is_worth_while(&self) -> bool {
        let least = self.runtime.stacks.carved() * mem::page_size();
        mem::held().is_none_or(|held| held > least + least / LOOKS_A_PAGE + LITTLE)
    }

    /// Does a little, if it is time to.
    pub(super) fn step(&mut self, now: u64) {
        if !self.is_due() || now - self.last_step < EVERY {
            return;
        }
        self.last_step = now;
        if !self.in_round {
            if now < self.next_round() && self.round_began != 0 {
                return;
            }
            (self.round_began, self.has_asked) = (now, false);
            if !self.is_worth_while() {
                self.rounds_due = 0;
                return;
            }
            self.in_round = true;
        }
        let mut parked: Vec<SlotRef> = Vec::new();
        let mut free = false;
        loop {
            let progress = self.scanner.step(&self.runtime.stacks, CHUNK, |slot, pages| {
                match started::pages_in_use(slot) {
                    Some(used) if pages > used => parked.push(slot),
                    Some(_) => {}
                    // A page or two more are soon in use again.
                    None => free |= pages > 4,
                }
            });
            if progress == Progress::Round {
                self.in_round = false;
                break;
            }
            if self.runtime.clock.now() - now >= BUDGET {
                break;
            }
        }
        self.ask(&parked, free);
        if !self.in_round {
            self.rounds_due = if self.has_asked { self.rounds_due - 1 } else { 0 };
        }
    }

    fn ask(&mut self, parked: &[SlotRef], free: bool) {
        if parked.is_empty() && !free {
            return;
        }
        self.has_asked = true;
        for slot in parked {
            // Those that roam are nobody's while they are parked: until a waker has to wait for us.
            if started::trim_roaming(*slot) {
                self.runtime.trimmed.fetch_add(1, Ordering::Relaxed);
            }
        }
        for worker in self.runtime.workers() {
            let mine: Vec<SlotRef> = parked
                .iter()
                .copied()
                .filter(|slot| started::home_of(*slot) == Some(worker.index()))
                .collect();
            if worker.tid() != 0 && (free || !mine.is_empty()) {
                worker.ask_to_trim(&mine, free);
            }
        }
        if free {
            // Those that have been called in before; 2 µs each.
            self.runtime.stacks.trim_free(8 * CHUNK);
        }
    }
}
