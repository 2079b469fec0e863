//! A worker's inbox: goroutines at home on its thread that other threads have made ready.
//!
//! A stack by linked nodes (Treiber's), which every producer pushes onto by CAS and the owner takes
//! whole, by one swap, and turns round.
//!
//! ```text
//! top ──▶ C ──▶ B ──▶ A ──▶ null        drain gives A, B, C
//! ```
//!
//! **Why not a list with a tail** (Vyukov's, one swap instead of a CAS loop)? Between its swap and
//! its store of the link a producer that is descheduled hides all that was pushed after it, and an
//! owner that sees a half-linked list can neither run nor sleep. Here a push has either happened or
//! not. **Why no ABA?** That needs someone who pops *one* node and so follows a link it has read too
//! early. A producer only compares the top; if the same node has left and come back, it is still
//! the right one to stand on. (A *different* node at the same address would leave a link with the
//! provenance of the old one. Nodes that may be freed while someone pushes should therefore come
//! from an arena or a free list, where both are one allocation.)
//!
//! | who | field | when |
//! |---|---|---|
//! | a producer | its node's link | until its CAS succeeds |
//! | everyone | `top` | always, by atomic operations |
//! | the drain | the links of all it took | from its swap on |

use std::ptr::{self, NonNull};

use crossbeam_utils::CachePadded;

use super::{Linked, List};
use crate::primitive::atomic::{AtomicPtr, Ordering::*};
use crate::primitive::hint;

/// An unbounded queue with many producers and one owner, who takes everything at once.
pub(crate) struct Inbox<T> {
    /// The newest node, or null. Padded, since other threads write here while the owner works on
    /// what lies beside it.
    top: CachePadded<AtomicPtr<T>>,
}

/// Whether a push found the inbox empty, and so whether its owner must be told.
#[must_use = "the first into an empty inbox has to wake its owner"]
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub(crate) enum Pushed {
    /// The inbox was empty: wake the owner, if it sleeps.
    First,
    /// Somebody was first, and wakes the owner.
    Behind,
}

impl<T: Linked> Inbox<T> {
    /// An empty inbox.
    pub(crate) fn new() -> Self {
        Inbox { top: CachePadded::new(AtomicPtr::new(ptr::null_mut())) }
    }

    /// Adds `node`, from any thread.
    ///
    /// Lock-free: it goes round again only if another push, or the drain, has got through.
    ///
    /// # Safety
    /// The [contract of every push](super#the-contract-of-every-push).
    pub(crate) unsafe fn push(&self, node: NonNull<T>) -> Pushed {
        // Ordering: Relaxed: we do not look into the node on top.
        let mut top = self.top.load(Relaxed);
        loop {
            // SAFETY: alive, in no other queue, and not yet in this one: the link is ours.
            unsafe { node.as_ref().link().set(top) };
            // Ordering: Release pairs with the Acquire in `drain`: the link and what the caller did
            // to the node are visible there. The pushes on top of ours are read-modify-writes,
            // which carry our Release on, so that the one Acquire is enough for the whole stack.
            match (self.top).compare_exchange_weak(top, node.as_ptr(), Release, Relaxed) {
                // We must not touch `node` any more: the owner may have run and freed it.
                Ok(_) if top.is_null() => return Pushed::First,
                Ok(_) => return Pushed::Behind,
                Err(now) => top = now,
            }
            hint::spin_loop();
        }
    }

    /// Takes everything, oldest first.
    ///
    /// For the owner. A second thread that drained would get a share of its own, with the order
    /// between the two lost, but nothing worse; hence no `unsafe`.
    pub(crate) fn drain(&self) -> List<T> {
        let mut list = List::new();
        // The owner looks in at every turn: let that be a load of a line it shares, not a swap.
        if self.is_empty() {
            return list;
        }
        // Ordering: Acquire pairs with the Release of every push since the last drain. No Release:
        // a producer that sees our null looks at nothing else of ours.
        let mut top = self.top.swap(ptr::null_mut(), Acquire);
        while let Some(node) = NonNull::new(top) {
            // SAFETY:
            // - alive and in no other queue: what its pusher promised.
            // - the link is ours: the swap took the whole stack, and the pusher is done with it.
            unsafe {
                top = node.as_ref().link().get();
                list.push_front(node);
            }
        }
        list
    }

    /// Whether nothing is waiting. See [what emptiness means](super#what-emptiness-means).
    pub(crate) fn is_empty(&self) -> bool {
        // Ordering: Relaxed: we do not look into the node. A push that happened before this call is
        // seen all the same, as every atomic is coherent with itself.
        self.top.load(Relaxed).is_null()
    }
}

#[cfg(all(test, not(loom)))]
mod tests {
    use std::collections::VecDeque;
    use std::sync::Barrier;
    use std::sync::atomic::AtomicUsize;
    use std::thread;

    use super::super::testing::{Random, id, nodes, send, take};
    use super::*;

    #[test]
    fn what_is_pushed_first_is_drained_first() {
        let nodes = nodes(3);
        let inbox = Inbox::new();
        for node in &nodes {
            // SAFETY: alive until the end of the test; in this inbox only.
            let _ = unsafe { inbox.push(node.into()) };
        }
        assert!(!inbox.is_empty());
        assert_eq!(inbox.drain().map(id).collect::<Vec<_>>(), [0, 1, 2]);
        assert!(inbox.is_empty());
        assert!(inbox.drain().is_empty());
    }

    #[test]
    fn only_the_first_push_into_an_empty_inbox_is_told_so() {
        let nodes = nodes(2);
        let inbox = Inbox::new();
        for _ in 0..3 {
            // SAFETY: alive until the end of the test; drained before they are pushed again.
            unsafe {
                assert_eq!(inbox.push((&nodes[0]).into()), Pushed::First);
                assert_eq!(inbox.push((&nodes[1]).into()), Pushed::Behind);
            }
            assert_eq!(inbox.drain().len(), 2);
        }
    }

    #[test]
    fn it_does_what_a_vec_deque_does() {
        let mut random = Random::seeded();
        let nodes = nodes(if cfg!(miri) { 200 } else { 10_000 });
        let inbox = Inbox::new();
        let mut model = VecDeque::new();
        for node in &nodes {
            // SAFETY: alive until the end of the test; pushed once.
            let pushed = unsafe { inbox.push(node.into()) };
            assert_eq!(pushed == Pushed::First, model.is_empty());
            model.push_back(id(node.into()));
            if random.below(8) == 0 {
                assert!(inbox.drain().map(id).eq(model.drain(..)));
            }
            assert_eq!(inbox.is_empty(), model.is_empty());
        }
    }

    #[test]
    fn under_stress_each_node_arrives_once_and_in_its_producers_order() {
        const PRODUCERS: usize = 3;
        let each = if cfg!(miri) { 50 } else { 200_000 };
        let start = Barrier::new(PRODUCERS);
        let nodes = nodes(PRODUCERS * each);
        let inbox = Inbox::new();
        let (firsts, mut drains) = (AtomicUsize::new(0), 0);
        thread::scope(|s| {
            for mine in nodes.chunks(each) {
                let (inbox, firsts, start) = (&inbox, &firsts, &start);
                s.spawn(move || {
                    start.wait();
                    for node in mine {
                        // SAFETY: alive until the end of the test; pushed once.
                        if unsafe { inbox.push(send(node)) } == Pushed::First {
                            firsts.fetch_add(1, Relaxed);
                        }
                    }
                });
            }
            let (mut last, mut arrived) = ([None; PRODUCERS], 0);
            while arrived < nodes.len() {
                let batch = inbox.drain();
                drains += usize::from(!batch.is_empty());
                for node in batch {
                    let id = take(node);
                    let last = &mut last[id / each];
                    assert!(*last < Some(id), "{id} after {last:?}");
                    *last = Some(id);
                    arrived += 1;
                }
                hint::spin_loop();
            }
        });
        assert!(nodes.iter().all(|node| node.times_taken() == 1));
        // Each batch has one first, neither more nor less: no wake-up lost, none wasted.
        assert_eq!(firsts.into_inner(), drains);
    }
}

#[cfg(all(test, loom))]
mod loom_tests {
    use std::ops::Range;

    use loom::thread;

    use super::super::testing::{nodes, send, take};
    use super::*;
    use crate::primitive::Arc;
    use crate::primitive::atomic::{AtomicBool, AtomicUsize, fence};

    #[test]
    fn two_producers_and_the_owner_lose_nothing() {
        let mut model = loom::model::Builder::new();
        model.preemption_bound = Some(2);
        model.check(|| {
            let nodes = Arc::new(nodes(3));
            let inbox = Arc::new(Inbox::new());
            let firsts = Arc::new(AtomicUsize::new(0));
            let producer = |ids: Range<usize>| {
                let (nodes, inbox, firsts) = (nodes.clone(), inbox.clone(), firsts.clone());
                thread::spawn(move || {
                    for node in &nodes[ids] {
                        // SAFETY: alive until the end of the model; pushed once.
                        if unsafe { inbox.push(send(node)) } == Pushed::First {
                            firsts.fetch_add(1, Relaxed);
                        }
                    }
                })
            };
            let producers = [producer(0..2), producer(2..3)];
            let mut order = Vec::new();
            let mut batches = 0;
            while order.len() < nodes.len() {
                let batch = inbox.drain();
                if batch.is_empty() {
                    // To loom this says that there is no point in looking again before another
                    // thread has done something.
                    thread::yield_now();
                    continue;
                }
                batches += 1;
                order.extend(batch.map(take));
            }
            for producer in producers {
                producer.join().unwrap();
            }
            assert!(nodes.iter().all(|node| node.times_taken() == 1));
            let position = |id| order.iter().position(|&i| i == id);
            assert!(position(0) < position(1), "{order:?}");
            assert_eq!(firsts.load(Relaxed), batches);
        });
    }

    #[test]
    fn a_node_that_goes_round_is_not_mistaken() {
        // The owner drains and pushes the same node again while a producer holds the old top.
        loom::model(|| {
            let nodes = Arc::new(nodes(2));
            let inbox = Arc::new(Inbox::new());
            // SAFETY: alive until the end of the model; in no other queue.
            let _ = unsafe { inbox.push(send(&nodes[0])) };
            let producer = thread::spawn({
                let (nodes, inbox) = (nodes.clone(), inbox.clone());
                // SAFETY: alive until the end of the model; pushed once.
                move || unsafe { inbox.push(send(&nodes[1])) }
            });
            for node in inbox.drain() {
                if take(node) == 0 {
                    // SAFETY: alive until the end of the model; just drained.
                    let _ = unsafe { inbox.push(node) };
                }
            }
            let _ = producer.join().unwrap();
            for node in inbox.drain() {
                take(node);
            }
            assert_eq!(nodes[0].times_taken(), 2);
            assert_eq!(nodes[1].times_taken(), 1);
            assert!(inbox.is_empty());
        });
    }

    #[test]
    fn by_the_recipe_no_owner_sleeps_over_a_full_inbox() {
        loom::model(|| {
            let nodes = Arc::new(nodes(2));
            let inbox = Arc::new(Inbox::new());
            let asleep = Arc::new(AtomicBool::new(false));
            let producers = [0, 1].map(|i| {
                let (nodes, inbox, asleep) = (nodes.clone(), inbox.clone(), asleep.clone());
                thread::spawn(move || {
                    // SAFETY: alive until the end of the model; pushed once.
                    let pushed = unsafe { inbox.push(send(&nodes[i])) };
                    fence(SeqCst);
                    // Would it wake the owner?
                    pushed == Pushed::First && asleep.load(Relaxed)
                })
            });
            asleep.store(true, Relaxed);
            fence(SeqCst);
            let sleeps = inbox.is_empty();
            let woken = producers.map(|p| p.join().unwrap()).contains(&true);
            assert!(!sleeps || woken);
        });
    }
}
