//! A processor: the right to take fresh work, and the queue it is taken from.
//!
//! There are as many as `STRANDS_MAXPROCS` says. A worker (an OS thread) that has one may start fresh
//! goroutines; one that has none runs only what is at home with it. When a worker's thread is blocked
//! or hogged, the monitor takes its processor away and gives it to another. That this never happens while the owner
//! uses the queue is the story of `tenure`.

use super::goroutine::Runnable;
use super::tenure::{Inside, Stay, Tenure};
use crate::queue::RunQueue;
use crossbeam_utils::CachePadded;

/// One of the `STRANDS_MAXPROCS` processors.
pub(crate) struct Processor {
    tenure: CachePadded<Tenure>,
    queue: RunQueue<Runnable>,
}

impl Processor {
    pub(super) fn new() -> Processor {
        Processor { tenure: CachePadded::new(Tenure::new()), queue: RunQueue::new() }
    }

    /// The queue, for those who only look or steal.
    #[inline]
    pub(super) fn queue(&self) -> &RunQueue<Runnable> {
        &self.queue
    }

    /// Who has it.
    #[inline]
    pub(super) fn tenure(&self) -> &Tenure {
        &self.tenure
    }

    /// The index of the worker that has it.
    pub(super) fn owner(&self) -> Option<usize> {
        self.tenure.owner()
    }

    /// Enters it, if `worker`, whose word that is, has it still.
    #[inline(always)]
    pub(super) fn enter<'a>(&'a self, worker: usize, inside: &'a Inside) -> Option<Entered<'a>> {
        self.tenure.enter(worker, inside).map(|stay| Entered { queue: &self.queue, stay })
    }
}

/// Proof that the caller is the one producer of the processor's queue until this is dropped.
pub(super) struct Entered<'a> {
    queue: &'a RunQueue<Runnable>,
    stay: Stay<'a>,
}

impl<'a> Entered<'a> {
    /// The queue, to push to and pop from.
    #[inline]
    pub(super) fn queue(&self) -> &'a RunQueue<Runnable> {
        self.queue
    }

    /// Gives the processor up.
    pub(super) fn release(self) {
        self.stay.release();
    }
}
