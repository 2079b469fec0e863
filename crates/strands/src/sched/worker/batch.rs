//! What timers make ready at once, and whether others are woken for it.
//!
//! Where many timers are pending, a worker is woken for some thirty of them at a time. Tasks and roaming goroutines
//! among them may be run by anybody, so each would have another worker woken, which costs more than running all of
//! them: with 100,000 sleeps on two workers every batch woke the other one, and took half as much CPU time again.
//!
//! So nobody is woken while a batch comes in. The worker begins with it, and looks at the clock after each turn: what is
//! left when [`LASTS`] have passed is announced then. One that is [`LONG`] is announced at once, and so are the next ones after
//! one that has lasted, since its like are probably no shorter.
//!
//! What others can do is late by [`LASTS`] and the one turn that is not over then. If that turn does not end, the monitor
//! sees to the rest, as with everything in the queue of a worker that is awake.

use std::cell::Cell;

/// As long as others take to be there when they are woken, in nanoseconds.
const LASTS: u64 = 50_000;
/// So many last.
const LONG: usize = 64;
/// How many are announced at once after one that has lasted.
const WARY: u32 = 8;

/// The batch that a worker is at.
pub(super) struct Batch {
    /// It is coming in.
    is_filling: Cell<bool>,
    /// It came in at this time, and others have not been told.
    untold: Cell<Option<u64>>,
    /// So many more are announced at once.
    wary: Cell<u32>,
}

impl Batch {
    pub(super) const fn new() -> Batch {
        Batch { is_filling: Cell::new(false), untold: Cell::new(None), wary: Cell::new(0) }
    }

    /// One may begin to come in.
    pub(super) fn begin(&self) {
        self.is_filling.set(true);
    }

    /// Whether one is coming in, so that nothing is to be announced.
    #[inline]
    pub(super) fn is_filling(&self) -> bool {
        self.is_filling.get()
    }

    /// It has come in, or nothing has, and `others` could now run so many of those in the queue. True if they are to be
    /// told at once.
    pub(super) fn end(&self, any: bool, others: usize, now: impl FnOnce() -> u64) -> bool {
        self.is_filling.set(false);
        if !any || others == 0 {
            return false;
        }
        let wary = self.wary.get();
        self.wary.set(wary.saturating_sub(1));
        let at_once = others >= LONG || wary > 0;
        if at_once {
            self.untold.set(None);
        } else if self.untold.get().is_none() {
            self.untold.set(Some(now()));
        }
        at_once
    }

    /// Whether others have yet to be told, should it last.
    #[inline]
    pub(super) fn is_untold(&self) -> bool {
        self.untold.get().is_some()
    }

    /// A turn has ended, and others could run so many of what is left. True if they are to be told now.
    pub(super) fn has_lasted(&self, others: usize, now: impl FnOnce() -> u64) -> bool {
        let Some(since) = self.untold.get() else { return false };
        let is_over = others == 0;
        let has_lasted = !is_over && now() - since >= LASTS;
        if has_lasted {
            self.wary.set(WARY);
        }
        if is_over || has_lasted {
            self.untold.set(None);
        }
        has_lasted
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn untouched() -> u64 {
        unreachable!("there is no need to look at the clock")
    }

    /// One comes in.
    fn come(batch: &Batch, others: usize, now: u64) -> bool {
        batch.begin();
        assert!(batch.is_filling());
        let at_once = batch.end(true, others, || now);
        assert!(!batch.is_filling());
        at_once
    }

    #[test]
    fn a_batch_that_is_soon_over_is_never_told_of() {
        let batch = Batch::new();
        assert!(!come(&batch, 3, 1_000) && batch.is_untold());
        for left in [2, 1] {
            assert!(!batch.has_lasted(left, || 1_000 + LASTS - 1));
        }
        assert!(!batch.has_lasted(0, untouched));
        assert!(!batch.is_untold());
        assert!(!batch.has_lasted(5, untouched), "what came since is no part of it");
    }

    #[test]
    fn a_batch_that_others_have_no_part_in_is_none_and_neither_is_nothing() {
        let batch = Batch::new();
        batch.begin();
        assert!(!batch.end(true, 0, untouched) && !batch.is_untold());
        batch.begin();
        assert!(!batch.end(false, LONG, untouched) && !batch.is_untold());
    }

    #[test]
    fn one_that_lasts_is_told_of_once_and_the_next_ones_at_once() {
        let batch = Batch::new();
        assert!(!come(&batch, 9, 7));
        assert!(batch.has_lasted(8, || 7 + LASTS));
        assert!(!batch.has_lasted(7, untouched));
        for _ in 0..WARY {
            assert!(come(&batch, 1, 0));
            assert!(!batch.is_untold());
        }
        assert!(!come(&batch, 1, 7), "such are told of at once for good");
    }

    #[test]
    fn batches_that_come_one_upon_the_other_last_from_the_first() {
        let batch = Batch::new();
        assert!(!come(&batch, 3, 0));
        batch.begin();
        assert!(!batch.end(false, 2, untouched), "nothing has come");
        assert!(!come(&batch, 5, LASTS - 1));
        assert!(batch.has_lasted(4, || LASTS));
    }

    #[test]
    fn a_long_one_is_told_of_at_once() {
        let batch = Batch::new();
        assert!(!come(&batch, LONG - 1, 7));
        assert!(come(&batch, LONG, 7));
        assert!(!batch.is_untold());
    }
}
