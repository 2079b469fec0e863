//! The queues that ready goroutines stand in, from the one nobody else sees to the one everybody
//! shares.
//!
//! ```text
//!                          any thread                       any thread
//!                              │ push                           │ push, push_batch
//!                              ▼                                ▼
//!    ┌─ worker ───────┐   ┌─────────┐                    ┌────────────┐
//!    │ List (at home) │◀──│  Inbox  │            ┌──────▶│  Injector  │
//!    └────────────────┘   └─────────┘            │       └────────────┘
//!                          drain: all            │ half, when     │ pop_batch_into:
//!                          of it at once         │ the ring is    │ one to run and
//!    ┌─ processor ────────────────────┐          │ full           │ a few to keep
//!    │ RunQueue:  next ──kicked──▶ ring ─────────┘                │
//!    └──────────────────────────────▲─│───────────────────────────┘
//!                                   │ └─ steal_half_into ──▶ another processor's ring
//!                                   └─── of another processor
//! ```
//!
//! - [`List`]: a FIFO list with one owner. No atomics.
//! - [`Ring`]: a processor's fixed ring. One producer, who also takes; any number of thieves.
//! - [`RunQueue`]: the ring and, before it, the slot for the one that runs next.
//! - [`Inbox`]: wake-ups from other threads for one worker. Many producers, one drain.
//! - [`Injector`]: the global queue, two lists under a lock.
//!
//! **A queue owns nothing.** Its elements are pointers to nodes, and what a node is it does not
//! know: it reads and writes the node's [`Link`], and asks whether it has begun, and nothing else. A queue dropped with elements
//! in it forgets them.
//!
//! # The contract of every push
//! Pushing is where a pointer enters this module, so pushing is `unsafe` and taking is not (except
//! where only an owner may take). Who pushes promises that the node
//!
//! 1. is *alive* until it has been taken out again, and nobody holds a `&mut` to it meanwhile;
//! 2. is in *no other queue* that uses the same link;
//! 3. may be *taken by whichever thread* can reach the queue.
//!
//! What the pusher did to the node before the push is visible to whoever takes it; each queue says
//! which pair of orderings sees to that.
//!
//! # What emptiness means
//! `len` and `is_empty` are snapshots. A worker that goes to sleep because a queue was empty, and a
//! pusher that wakes nobody because nobody slept, must not both be right:
//!
//! ```text
//! pusher                          sleeper
//! push                            announce that it sleeps
//! fence(SeqCst)                   fence(SeqCst)
//! does anyone sleep? wake it      is the queue empty? then sleep
//! ```
//!
//! The fences belong to the protocol that knows both halves. The queues contribute that all their
//! state is in atomics, so that the recipe holds for each of them.
//!
//! **Invariant:** nothing in `queue` names a scheduler, a goroutine or a stack, which is what lets
//! loom and Miri check all of it.

mod inbox;
mod injector;
mod list;
mod ring;
mod run_queue;
#[cfg(test)]
mod testing;

use std::ptr;

use crate::primitive::UnsafeCell;

pub(crate) use inbox::{Inbox, Pushed};
pub(crate) use injector::Injector;
pub(crate) use list::List;
pub(crate) use ring::{CAPACITY, Ring};
pub(crate) use run_queue::RunQueue;

/// A node that can stand in a queue.
///
/// # Safety
/// - `link` returns the same field of the node each time, and touches nothing else that could race:
///   it is called on whichever thread the node has got to.
/// - Only this module uses what is in the link, and the node is in one queue at a time.
pub(crate) unsafe trait Linked: Sized {
    /// The field by which a queue chains this node to the next one.
    fn link(&self) -> &Link<Self>;

    /// Whether it has had a turn before, so that the [`Injector`] does not have it wait behind all that have not. The
    /// answer is the same as long as the node is in one queue.
    #[inline]
    fn has_begun(&self) -> bool {
        false
    }
}

/// The field of a node that belongs to the queue it is in; outside of queues, nobody's.
///
/// A plain cell and not an atomic: whoever may touch it is alone, and synchronised by the queue's
/// own atomics or lock. Under loom the cell checks exactly that.
pub(crate) struct Link<T>(UnsafeCell<*mut T>);

impl<T> Link<T> {
    /// A link of a node that is in no queue.
    pub(crate) fn new() -> Self {
        Link(UnsafeCell::new(ptr::null_mut()))
    }

    /// The node behind this one, or null.
    ///
    /// # Safety
    /// The caller's queue holds the node, and nobody else reads or writes the link meanwhile.
    unsafe fn get(&self) -> *mut T {
        // SAFETY: nobody else writes the link meanwhile: the caller's promise.
        self.0.with(|next| unsafe { *next })
    }

    /// Puts `next` behind this node.
    ///
    /// # Safety
    /// As for [`get`](Link::get).
    unsafe fn set(&self, next: *mut T) {
        // SAFETY: nobody else touches the link meanwhile: the caller's promise.
        self.0.with_mut(|link| unsafe { *link = next });
    }
}

// SAFETY: a link is a pointer that is never followed without `unsafe`.
unsafe impl<T> Send for Link<T> {}

// SAFETY: every access is `unsafe`, and promises that there is no other at the same time.
unsafe impl<T> Sync for Link<T> {}
