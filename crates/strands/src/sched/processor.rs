//! A processor: the right to take fresh work, and the queue it is taken from.
//!
//! There are as many as `STRANDS_MAXPROCS` says. A worker (an OS thread) that has one may start fresh
//! goroutines; one that has none runs only what is at home with it. When a worker's thread is blocked
//! or hogged, the monitor takes its processor away and gives it to another.
//!
//! Taking away must not collide with the worker using the queue, which it does in the middle of user
//! code (`go` pushes onto it), where nothing can stop it. So the owner *enters* for the few instructions
//! of each use, and only a processor that nobody is in can be taken:
//!
//! ```text
//!   owner word:  { worker + 1, inside: bit 0 }      0: nobody's
//!
//!   nobody ──assign──► (w, out) ◄──enter/leave──► (w, in)
//!                         │
//!                         └──retake, by compare-and-swap──► nobody
//! ```
//!
//! `enter` is one compare-and-swap on a line that nobody else touches in peace. It fails exactly when
//! the processor has been taken away, which is how its former owner finds out.

use super::goroutine::Runnable;
use crate::queue::RunQueue;
use crossbeam_utils::CachePadded;
use std::sync::atomic::{AtomicUsize, Ordering};

const NOBODY: usize = 0;
const INSIDE: usize = 1;

fn out(worker: usize) -> usize {
    (worker + 1) << 1
}

/// One of the `STRANDS_MAXPROCS` processors.
pub(crate) struct Processor {
    owner: CachePadded<AtomicUsize>,
    queue: RunQueue<Runnable>,
}

impl Processor {
    pub(super) fn new() -> Processor {
        Processor { owner: CachePadded::new(AtomicUsize::new(NOBODY)), queue: RunQueue::new() }
    }

    /// The queue, for those who only look or steal.
    #[inline]
    pub(super) fn queue(&self) -> &RunQueue<Runnable> {
        &self.queue
    }

    /// The index of the worker that has it.
    pub(super) fn owner(&self) -> Option<usize> {
        (self.owner.load(Ordering::Relaxed) >> 1).checked_sub(1)
    }

    /// Gives it to `worker`. The caller has it: took it out of the idle ones, or retook it.
    pub(super) fn assign(&self, worker: usize) {
        // Ordering: Release pairs with the Acquire in `enter`: the former owner's queue is visible.
        self.owner.store(out(worker), Ordering::Release);
    }

    /// Enters it, if `worker` has it still.
    #[inline]
    pub(super) fn enter(&self, worker: usize) -> Option<Entered<'_>> {
        let out = out(worker);
        // Ordering: Acquire, see `assign`.
        self.owner
            .compare_exchange(out, out | INSIDE, Ordering::Acquire, Ordering::Relaxed)
            .is_ok()
            .then(|| Entered { processor: self, out })
    }

    /// Takes it away from `worker`; false if that is inside it just now, or has it no more.
    #[must_use]
    pub(super) fn retake(&self, worker: usize) -> bool {
        // Ordering: Acquire pairs with the Release in `Entered::drop`; what the owner last did to the
        // queue is visible, and handed on by `assign`.
        self.owner
            .compare_exchange(out(worker), NOBODY, Ordering::Acquire, Ordering::Relaxed)
            .is_ok()
    }
}

/// Proof that the caller is the one producer of the processor's queue until this is dropped.
pub(super) struct Entered<'a> {
    processor: &'a Processor,
    out: usize,
}

impl<'a> Entered<'a> {
    /// The queue, to push to and pop from.
    #[inline]
    pub(super) fn queue(&self) -> &'a RunQueue<Runnable> {
        &self.processor.queue
    }

    /// Gives the processor up.
    pub(super) fn release(self) {
        self.processor.owner.store(NOBODY, Ordering::Release);
        std::mem::forget(self);
    }
}

impl Drop for Entered<'_> {
    #[inline]
    fn drop(&mut self) {
        // Ordering: Release pairs with the Acquire in `enter` and `retake`.
        self.processor.owner.store(self.out, Ordering::Release);
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn only_its_owner_enters_and_only_from_outside_it_is_retaken() {
        let processor = Processor::new();
        assert!(processor.enter(0).is_none());
        processor.assign(3);
        assert_eq!(processor.owner(), Some(3));
        assert!(processor.enter(0).is_none());
        let inside = processor.enter(3).unwrap();
        assert!(!processor.retake(3), "taken from under its owner");
        drop(inside);
        assert!(!processor.retake(0));
        assert!(processor.retake(3));
        assert!(processor.enter(3).is_none(), "the former owner finds out");
        assert_eq!(processor.owner(), None);
        processor.assign(0);
        processor.enter(0).unwrap().release();
        assert_eq!(processor.owner(), None);
    }
}
