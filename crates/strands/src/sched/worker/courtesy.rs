//! Whether a worker that is about to sleep for its descriptors lets others have its CPU first, awake.
//!
//! A worker asleep in epoll is woken for the first thing that its peers send, and mostly takes the CPU from the very peer
//! that was about to send more: then each request costs a sleep, a wake-up and two switches of threads. If instead it
//! yields, whoever else wants this CPU goes on, and when the worker's turn comes it finds all that has come together
//! in one look. If nobody wants it, a yield takes less than a microsecond, against several for a sleep, and the look after
//! it often finds something already.
//!
//! But somebody may want the CPU who sends us nothing: a program that computes. Then a yield takes milliseconds, in
//! which those whose requests come wait in vain, where a sleeper would have been woken at once. So each yield that was
//! long is weighed against what it has brought, and if that was little the worker sleeps the next times without: twice,
//! four times, and so on as long as yields prove bad, up to [`LONGEST_BREAK`].

use std::cell::Cell;

/// A yield that takes no longer is good whatever it brings, in nanoseconds: about what a sleep and a wake-up take.
const CHEAP: u64 = 100_000;
/// The most that a longer one may take for each goroutine that it has brought: the cost of a few sleeps.
const PRICE: u64 = 50_000;
/// How often a worker sleeps without having yielded, at most, before it tries again. Such a try may take a slice of the
/// kernel's scheduler, some milliseconds: with this, less than one request in a hundred meets one.
const LONGEST_BREAK: u32 = 256;

/// What a worker has learned of its yields.
pub(super) struct Courtesy {
    /// How often it will not yield.
    skips: Cell<u32>,
    /// How long the last break was.
    last_break: Cell<u32>,
}

impl Courtesy {
    pub(super) const fn new() -> Courtesy {
        Courtesy { skips: Cell::new(0), last_break: Cell::new(1) }
    }

    /// Whether to yield this time.
    pub(super) fn is_due(&self) -> bool {
        match self.skips.get() {
            0 => true,
            skips => {
                self.skips.set(skips - 1);
                false
            }
        }
    }

    /// Learns that a yield took so many nanoseconds, and brought so many goroutines. True if another may follow at once.
    pub(super) fn weigh(&self, took: u64, brought: usize) -> bool {
        if took <= CHEAP {
            return true;
        }
        if took <= PRICE.saturating_mul(brought as u64) {
            self.last_break.set(1);
        } else {
            let longer = (2 * self.last_break.get()).min(LONGEST_BREAK);
            self.last_break.set(longer);
            self.skips.set(longer);
        }
        false
    }
}

#[cfg(all(test, not(loom)))]
mod tests {
    use super::*;

    fn skipped(courtesy: &Courtesy) -> u32 {
        (0..).take_while(|_| !courtesy.is_due()).count() as u32
    }

    #[test]
    fn long_yields_that_bring_little_become_rare() {
        let courtesy = Courtesy::new();
        let mut breaks = Vec::new();
        for _ in 0..10 {
            assert!(!courtesy.weigh(4_000_000, 1));
            breaks.push(skipped(&courtesy));
        }
        assert_eq!(breaks, [2, 4, 8, 16, 32, 64, 128, 256, 256, 256]);
    }

    #[test]
    fn yields_that_are_short_or_bring_enough_go_on() {
        let courtesy = Courtesy::new();
        for (took, brought) in [(500, 0), (CHEAP, 0), (4_000_000, 80), (4_000_000, usize::MAX)] {
            courtesy.weigh(took, brought);
            assert_eq!(skipped(&courtesy), 0, "{took} ns for {brought}");
        }
        assert!(courtesy.weigh(500, 0), "a short one may be followed by another");
        assert!(!courtesy.weigh(4_000_000, 80), "a long one not");
    }

    #[test]
    fn one_good_yield_makes_up_for_the_bad_ones() {
        let courtesy = Courtesy::new();
        for _ in 0..5 {
            courtesy.weigh(4_000_000, 1);
            skipped(&courtesy);
        }
        courtesy.weigh(4_000_000, 100);
        courtesy.weigh(4_000_000, 1);
        assert_eq!(skipped(&courtesy), 2);
        // A cheap one says nothing about those who compute.
        courtesy.weigh(4_000_000, 1);
        skipped(&courtesy);
        courtesy.weigh(500, 0);
        courtesy.weigh(4_000_000, 1);
        assert_eq!(skipped(&courtesy), 8);
    }
}
