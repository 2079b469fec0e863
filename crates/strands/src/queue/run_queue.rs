//! A processor's run queue: the ring, and before it the slot for the one that runs next.
//!
//! ```text
//!  push_next ──▶ [ next ] ── the former next ──▶ [ ring ] ── half, when full ──▶ injector
//!                    │                              │
//!                    └──────▶ pop: next, then ◀─────┘ ──▶ steal_half_into
//! ```
//!
//! A goroutine that wakes another and then blocks (a reply on a channel, an unlock) hands its turn
//! on: the woken one runs next, while what it was sent is still in the cache, rather than behind
//! 256 others. Two that wake each other forever would keep the ring waiting; whoever pops gives them
//! one time slice between them, as Go does. That clock is not ours.
//!
//! **Thieves leave the next slot alone**, except by [`steal_next`](RunQueue::steal_next): it is
//! about to run where its data is, and stealing it would send every ping-pong across cores. They
//! need it only when its processor is stuck in something long.
//!
//! | who | `next` | the ring |
//! |---|---|---|
//! | the owner | puts in and takes out, by swap | pushes, pops |
//! | a thief | takes out, by swap | steals |

use std::ptr::{self, NonNull};

use super::{CAPACITY, Injector, Linked, Ring};
use crate::primitive::atomic::{AtomicPtr, Ordering::*};

/// A run queue with one owner and many thieves; the ring has room for `N`.
pub(crate) struct RunQueue<T, const N: usize = CAPACITY> {
    /// The one that runs next, or null. Only the owner makes it other than null. Not padded: the
    /// ring is aligned to a line of its own.
    next: AtomicPtr<T>,
    ring: Ring<T, N>,
}

impl<T: Linked, const N: usize> RunQueue<T, N> {
    /// An empty queue.
    pub(crate) fn new() -> Self {
        RunQueue { next: AtomicPtr::new(ptr::null_mut()), ring: Ring::new() }
    }

    /// Adds `node` at the back; half of the ring moves to `injector` if it is full.
    ///
    /// # Safety
    /// - The caller is the owner: no other `push`, `push_next` or `pop`, and no `steal_half_into`
    ///   this queue, runs at the same time, and the previous owner's last one happened before.
    /// - The [contract of every push](super#the-contract-of-every-push).
    #[inline]
    pub(crate) unsafe fn push(&self, node: NonNull<T>, injector: &Injector<T>) {
        // SAFETY: the same contract, handed on.
        unsafe { self.ring.push_overflow(node, injector) };
    }

    /// Makes `node` the one that runs next. The one that would have been goes to the back.
    ///
    /// # Safety
    /// As for [`push`](RunQueue::push).
    #[inline]
    pub(crate) unsafe fn push_next(&self, node: NonNull<T>, injector: &Injector<T>) {
        // Ordering: Release, here and below, pairs with the Acquire in `steal_next`: what was done to
        // the node is visible to the thief. No Acquire: what we kick out, we have put in.
        if !self.has_next() {
            // A null we see is true, and stays: only we could change it. A store costs next to nothing.
            return self.next.store(node.as_ptr(), Release);
        }
        let kicked = self.next.swap(node.as_ptr(), Release);
        if let Some(kicked) = NonNull::new(kicked) {
            // SAFETY: the caller is the owner, and what it promised when it pushed `kicked` still
            // holds; the swap made it ours, and it is in no queue.
            unsafe { self.ring.push_overflow(kicked, injector) };
        }
    }

    /// Takes the next one, or else the oldest.
    ///
    /// # Safety
    /// The caller is the owner, as for [`push`](RunQueue::push).
    #[inline]
    pub(crate) unsafe fn pop(&self) -> Option<NonNull<T>> {
        // The swap costs something even where there is nothing. A null we see is true, for only we
        // could change it; anything else a thief may take before the swap does.
        if self.has_next() {
            // Ordering: Release pairs with the Acquire in `is_empty`: who sees that we have taken
            // the next one sees also that we had kicked out the one before, into the ring. No
            // Acquire: what we take, we have put in.
            let node = self.next.swap(ptr::null_mut(), Release);
            if let Some(node) = NonNull::new(node) {
                return Some(node);
            }
        }
        // SAFETY: the caller is the owner.
        unsafe { self.ring.pop() }
    }

    /// Steals the older half of the ring, rounded up: returns the oldest, to be run at once, and
    /// moves the rest to the ring of `dst`, as far as it fits. The next slot stays as it is.
    ///
    /// # Safety
    /// The caller is the owner of `dst`, as for [`push`](RunQueue::push), and this queue is another
    /// one.
    pub(crate) unsafe fn steal_half_into(&self, dst: &Self) -> Option<NonNull<T>> {
        // SAFETY: the same contract, handed on.
        unsafe { self.ring.steal_into(&dst.ring) }
    }

    /// Takes the next one away from the owner.
    ///
    /// For when the owner will not come to it soon; see [the module](self) why not otherwise. The owner
    /// itself may take it so, too, without having to show that it still is the owner.
    #[inline]
    pub(crate) fn steal_next(&self) -> Option<NonNull<T>> {
        let node = NonNull::new(self.next.load(Relaxed))?;
        // Ordering: Acquire pairs with the Release in `push_next`. Release, if it is the owner that
        // asks, as in `pop`; a theft puts nothing into this queue, so `is_empty` has no business with it.
        // By comparison and not by a swap: so whoever puts a null there takes something, and the owner may
        // store over a null. If the same node has come back meanwhile, it is there to be taken.
        let taken = self.next.compare_exchange(node.as_ptr(), ptr::null_mut(), AcqRel, Relaxed);
        taken.is_ok().then_some(node)
    }

    /// Whether one is in the next slot. True for the owner only until a thief takes it; false, if
    /// the owner asks, until the owner changes it.
    #[inline]
    pub(crate) fn has_next(&self) -> bool {
        // Ordering: Relaxed: we do not look into the node.
        !self.next.load(Relaxed).is_null()
    }

    /// The number of elements, with the next one. Wrong by one or more while others are at work.
    pub(crate) fn len(&self) -> usize {
        usize::from(self.has_next()) + self.ring.len()
    }

    /// Whether there was nothing, neither next nor in the ring, at one moment during the call.
    ///
    /// To look first at one and then at the other would not do. The next slot holds A, the ring
    /// nothing: so far we see the ring. Now the owner makes B the next one, which kicks A into the
    /// ring, and pops B: now we see the slot. Both were empty when we looked, and the queue never
    /// was. But then the tail has moved, and we look again.
    pub(crate) fn is_empty(&self) -> bool {
        loop {
            let tail = self.ring.tail();
            if !self.ring.is_empty() {
                return false;
            }
            // Ordering: Acquire pairs with the Release in `pop`: if the slot is empty because the
            // owner took what had kicked another into the ring, we see the tail that this moved.
            if !self.next.load(Acquire).is_null() {
                return false;
            }
            if self.ring.tail() == tail {
                // Nothing was pushed to the ring while it was empty and we looked at the slot.
                return true;
            }
        }
    }

    /// The ring, for the injector to fill.
    pub(crate) fn ring(&self) -> &Ring<T, N> {
        &self.ring
    }
}

#[cfg(all(test, not(loom)))]
mod tests {
    use std::sync::atomic::AtomicUsize;
    use std::thread;

    use super::super::testing::{Node, id, nodes, send, take};
    use super::*;

    type Queue = RunQueue<Node, 4>;

    #[test]
    fn the_next_one_runs_before_the_oldest() {
        let nodes = nodes(4);
        let (queue, injector) = (Queue::new(), Injector::new());
        // SAFETY: this thread is the owner; the nodes live, and each is pushed once.
        unsafe {
            queue.push((&nodes[0]).into(), &injector);
            queue.push_next((&nodes[1]).into(), &injector);
            assert!(queue.has_next());
            // It kicks out the one before, which goes to the back.
            queue.push_next((&nodes[2]).into(), &injector);
            queue.push((&nodes[3]).into(), &injector);
            assert_eq!(queue.len(), 4);
            for expected in [2, 0, 1, 3] {
                assert!(!queue.is_empty());
                assert_eq!(queue.pop().map(id), Some(expected));
            }
            assert!(queue.pop().is_none());
        }
        assert!(queue.is_empty());
    }

    #[test]
    fn what_is_kicked_out_overflows_to_the_injector() {
        let nodes = nodes(6);
        let (queue, injector) = (Queue::new(), Injector::new());
        for node in &nodes {
            // SAFETY: this thread is the owner; the nodes live, and each is pushed once.
            unsafe { queue.push_next(node.into(), &injector) };
        }
        // 5 is next; 4 found the ring full of 0, 1, 2, 3.
        assert_eq!((queue.len(), injector.len()), (3, 3));
        // SAFETY: this thread is the owner.
        assert_eq!(unsafe { queue.pop() }.map(id), Some(5));
    }

    #[test]
    fn a_thief_leaves_the_next_one_unless_it_insists() {
        let nodes = nodes(3);
        let (queue, thief) = (Queue::new(), Queue::new());
        let injector = Injector::new();
        // SAFETY: this thread owns both queues; the nodes live, and each is pushed once.
        unsafe {
            queue.push_next((&nodes[0]).into(), &injector);
            assert!(queue.steal_half_into(&thief).is_none());
            assert!(!queue.is_empty());
            assert_eq!(queue.steal_next().map(id), Some(0));
            assert!(queue.steal_next().is_none() && queue.is_empty());

            queue.push((&nodes[1]).into(), &injector);
            queue.push((&nodes[2]).into(), &injector);
            assert!(queue.steal_next().is_none());
            assert_eq!(queue.steal_half_into(&thief).map(id), Some(1));
            assert!(thief.is_empty());
            assert_eq!(queue.pop().map(id), Some(2));
        }
    }

    #[test]
    fn under_stress_each_node_arrives_once() {
        let count = if cfg!(miri) { 200 } else { 200_000 };
        let nodes = nodes(count);
        let (queue, injector) = (Queue::new(), Injector::new());
        let taken = AtomicUsize::new(0);
        let took = |node: NonNull<Node>| {
            take(node);
            taken.fetch_add(1, Relaxed);
        };
        thread::scope(|s| {
            for _ in 0..2 {
                s.spawn(|| {
                    let mine = Queue::new();
                    while taken.load(Relaxed) < count {
                        queue.steal_next().into_iter().for_each(took);
                        // SAFETY: `mine` is this thread's.
                        unsafe {
                            queue.steal_half_into(&mine).into_iter().for_each(took);
                            while let Some(node) = mine.pop() {
                                took(node);
                            }
                        }
                        thread::yield_now();
                    }
                });
            }
            for (i, node) in nodes.iter().enumerate() {
                // SAFETY: this thread is the owner; the nodes live, and each is pushed once.
                unsafe {
                    match i % 3 {
                        0 => queue.push(send(node), &injector),
                        _ => queue.push_next(send(node), &injector),
                    }
                    if i % 2 == 0 {
                        queue.pop().into_iter().for_each(took);
                    }
                }
            }
            while taken.load(Relaxed) < count {
                // SAFETY: as above.
                let node = unsafe { queue.pop() }.or_else(|| injector.pop());
                node.into_iter().for_each(took);
            }
        });
        assert!(nodes.iter().all(|node| node.times_taken() == 1));
    }
}

#[cfg(all(test, loom))]
mod loom_tests {
    use loom::thread;

    use super::super::testing::{Node, nodes, send, take};
    use super::*;
    use crate::primitive::Arc;

    type Queue = RunQueue<Node, 2>;

    #[test]
    fn the_next_one_goes_to_the_owner_or_to_a_thief() {
        loom::model(|| {
            let nodes = Arc::new(nodes(3));
            let queue = Arc::new(Queue::new());
            let thief = thread::spawn({
                let queue = queue.clone();
                move || {
                    let mine = Queue::new();
                    queue.steal_next().map(take);
                    // SAFETY: `mine` is this thread's; of two elements, nothing goes there.
                    unsafe { queue.steal_half_into(&mine).map(take) };
                }
            });
            let injector = Injector::new();
            // SAFETY: this thread is the owner; the nodes live, and each is pushed once.
            unsafe {
                queue.push_next(send(&nodes[0]), &injector);
                queue.push_next(send(&nodes[1]), &injector);
                queue.pop().map(take);
                queue.push_next(send(&nodes[2]), &injector);
                queue.steal_next().map(take);
                thief.join().unwrap();
                while let Some(node) = queue.pop() {
                    take(node);
                }
            }
            assert!(queue.is_empty() && injector.is_empty());
            assert!(nodes.iter().all(|node| node.times_taken() == 1));
        });
    }

    #[test]
    fn a_queue_that_is_never_empty_is_never_seen_empty() {
        // SAFETY: this thread is the owner.
        never_seen_empty(|queue| unsafe { queue.pop() });
        never_seen_empty(Queue::steal_next);
    }

    fn never_seen_empty(pop: fn(&Queue) -> Option<NonNull<Node>>) {
        loom::model(move || {
            let nodes = Arc::new(nodes(2));
            let queue = Arc::new(Queue::new());
            let injector = Injector::new();
            // SAFETY: this thread is the owner; the nodes live, and each is pushed once.
            unsafe { queue.push_next(send(&nodes[0]), &injector) };
            let watcher = thread::spawn({
                let queue = queue.clone();
                move || assert!(!queue.is_empty())
            });
            // SAFETY: as above.
            unsafe {
                queue.push_next(send(&nodes[1]), &injector);
                pop(&queue).map(take);
                watcher.join().unwrap();
                queue.pop().map(take);
            }
            assert!(nodes.iter().all(|node| node.times_taken() == 1));
        });
    }
}
