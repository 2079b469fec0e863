//! The global queue: what comes from outside of the workers, and what did not fit into a
//! processor's ring.
//!
//! Two lists under a lock: of those that [have begun](Linked::has_begun), and of those that have
//! not, which may be very many. Whoever takes some takes as many of the one as of the other, if there are.
//! So one that was driven out of a ring when it had just been woken does not wait until a hundred
//! thousand have started, each of which costs much more than its turn; and these go on meanwhile.
//! Within each list the oldest is first.
//!
//! It is asked once in 61 turns and when everything else is empty, and filled
//! by half rings, so a lock held for a few pointers is cheap; a lock-free queue of unbounded length
//! would pay an allocation or a counted pointer for each element. What must be cheap is *looking*,
//! and that takes no lock: `len` mirrors the lists' length.

use std::ptr::NonNull;
use std::sync::PoisonError;

use crossbeam_utils::CachePadded;

use super::{Linked, List, Ring};
use crate::primitive::atomic::{AtomicUsize, Ordering::*};
use crate::primitive::{Mutex, MutexGuard};

/// An unbounded queue that all threads share.
pub(crate) struct Injector<T> {
    inner: Mutex<Inner<T>>,
    /// The length of both lists. Written under the lock, read without. Padded, since idle workers
    /// read it while others write the lock.
    len: CachePadded<AtomicUsize>,
}

struct Inner<T> {
    batch: Batch<T>,
    /// Of an odd number, those that have begun get the odd one.
    begun_are_next: bool,
}

/// Nodes on their way into the injector, sorted as they are kept there.
#[must_use = "dropping a batch forgets the nodes in it"]
pub(super) struct Batch<T> {
    begun: List<T>,
    fresh: List<T>,
}

impl<T: Linked> Batch<T> {
    /// An empty batch.
    pub(super) const fn new() -> Self {
        Batch { begun: List::new(), fresh: List::new() }
    }

    /// Puts `node` behind all others of its kind.
    ///
    /// # Safety
    /// The [contract of every push](super#the-contract-of-every-push).
    pub(super) unsafe fn push(&mut self, node: NonNull<T>) {
        // SAFETY: alive: the caller's promise.
        let has_begun = unsafe { node.as_ref() }.has_begun();
        let list = if has_begun { &mut self.begun } else { &mut self.fresh };
        // SAFETY: the same contract, handed on.
        unsafe { list.push_back(node) };
    }

    /// The number of nodes.
    fn len(&self) -> usize {
        self.begun.len() + self.fresh.len()
    }
}

impl<T: Linked> Inner<T> {
    /// Takes `count`, or all if there are fewer: as many of the one kind as of the other, or what there is.
    fn take(&mut self, count: usize) -> List<T> {
        let Batch { begun, fresh } = &mut self.batch;
        let mut half = count / 2;
        if count % 2 == 1 && !begun.is_empty() && !fresh.is_empty() {
            half += usize::from(self.begun_are_next);
            self.begun_are_next = !self.begun_are_next;
        }
        let mut taken = begun.take_front(half.max(count.saturating_sub(fresh.len())));
        taken.append(&mut fresh.take_front(count - taken.len()));
        taken
    }
}

impl<T: Linked> Injector<T> {
    /// An empty queue.
    pub(crate) fn new() -> Self {
        let inner = Inner { batch: Batch::new(), begun_are_next: true };
        Injector { inner: Mutex::new(inner), len: CachePadded::new(AtomicUsize::new(0)) }
    }

    /// Adds `node` at the back.
    ///
    /// # Safety
    /// The [contract of every push](super#the-contract-of-every-push).
    pub(crate) unsafe fn push(&self, node: NonNull<T>) {
        let mut inner = self.lock();
        // SAFETY: the same contract, handed on.
        unsafe { inner.batch.push(node) };
        self.publish_len(&inner);
    }

    /// Adds all of `batch` at the back, under one lock. The promise for each node was made when it
    /// was pushed into `batch`.
    pub(super) fn push_batch(&self, mut batch: Batch<T>) {
        if batch.len() == 0 {
            return;
        }
        let mut inner = self.lock();
        inner.batch.begun.append(&mut batch.begun);
        inner.batch.fresh.append(&mut batch.fresh);
        self.publish_len(&inner);
    }

    /// Takes one.
    #[cfg(test)]
    pub(crate) fn pop(&self) -> Option<NonNull<T>> {
        if self.is_empty() {
            return None;
        }
        let mut inner = self.lock();
        let node = inner.take(1).pop_front();
        self.publish_len(&inner);
        node
    }

    /// Takes one, to be run at once, and moves up to `max` more to the back of `ring`, as far
    /// as they fit.
    ///
    /// # Safety
    /// The caller is the producer of `ring`.
    pub(crate) unsafe fn pop_batch_into<const N: usize>(
        &self,
        ring: &Ring<T, N>,
        max: usize,
    ) -> Option<NonNull<T>> {
        if self.is_empty() {
            return None;
        }
        // There cannot be less room by the time we fill it: nobody else does.
        let more = max.min(ring.room());
        let mut batch = {
            let mut inner = self.lock();
            let batch = inner.take(1 + more);
            self.publish_len(&inner);
            batch
        };
        let first = batch.pop_front();
        // SAFETY:
        // - the caller is the ring's producer, and `room` said that the batch fits.
        // - for each node, what its pusher promised us holds until it leaves the ring.
        unsafe { ring.push_batch(batch) };
        first
    }

    /// The number of elements. See [what emptiness means](super#what-emptiness-means).
    pub(crate) fn len(&self) -> usize {
        // Ordering: Relaxed: whoever acts on the answer takes the lock. A push that happened before
        // this call is seen all the same, as every atomic is coherent with itself.
        self.len.load(Relaxed)
    }

    /// Whether there is nothing. See [what emptiness means](super#what-emptiness-means).
    pub(crate) fn is_empty(&self) -> bool {
        self.len() == 0
    }

    fn publish_len(&self, inner: &MutexGuard<'_, Inner<T>>) {
        // Ordering: Relaxed: the lock orders the writers, and the readers look at nothing else.
        self.len.store(inner.batch.len(), Relaxed);
    }

    /// Nothing in here panics under the lock, so it cannot be poisoned; were it, the lists would be
    /// whole, since each change of them ends before anything that could panic begins.
    fn lock(&self) -> MutexGuard<'_, Inner<T>> {
        self.inner.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

#[cfg(all(test, not(loom)))]
mod tests {
    use std::collections::VecDeque;
    use std::sync::atomic::AtomicUsize;
    use std::thread;

    use super::super::testing::{Node, Random, id, nodes, nodes_of, send, take};
    use super::*;

    #[test]
    fn what_is_pushed_first_is_popped_first() {
        let nodes = nodes(4);
        let injector = Injector::new();
        let mut batch = Batch::new();
        // SAFETY: alive until the end of the test; each in one queue.
        unsafe {
            injector.push((&nodes[0]).into());
            batch.push((&nodes[1]).into());
            batch.push((&nodes[2]).into());
            injector.push_batch(batch);
            injector.push((&nodes[3]).into());
        }
        assert_eq!(injector.len(), 4);
        for expected in 0..4 {
            assert_eq!(injector.pop().map(id), Some(expected));
        }
        assert!(injector.is_empty() && injector.pop().is_none());
    }

    #[test]
    fn a_batch_is_one_to_run_and_the_rest_in_order() {
        let nodes = nodes(8);
        let injector = Injector::new();
        let ring = Ring::<Node, 4>::new();
        for node in &nodes {
            // SAFETY: alive until the end of the test; in one queue.
            unsafe { injector.push(node.into()) };
        }
        // SAFETY: this thread is the ring's only producer.
        unsafe {
            assert_eq!(injector.pop_batch_into(&ring, 2).map(id), Some(0));
            assert_eq!((ring.len(), injector.len()), (2, 5));
            // Asked for more than fits.
            assert_eq!(injector.pop_batch_into(&ring, 100).map(id), Some(3));
            assert_eq!((ring.len(), injector.len()), (4, 2));
            // The ring is full: still one to run.
            assert_eq!(injector.pop_batch_into(&ring, 100).map(id), Some(6));
            for expected in [1, 2, 4, 5] {
                assert_eq!(ring.pop().map(id), Some(expected));
            }
            assert_eq!(injector.pop_batch_into(&ring, 100).map(id), Some(7));
            assert!(ring.is_empty() && injector.pop_batch_into(&ring, 1).is_none());
        }
    }

    fn ids(list: List<Node>) -> Vec<usize> {
        list.map(id).collect()
    }

    #[test]
    fn those_that_have_begun_and_those_that_have_not_are_taken_alike() {
        let nodes = nodes_of(20, |id| id >= 10);
        let injector = Injector::new();
        let mut batch = Batch::new();
        for node in &nodes {
            // SAFETY: alive until the end of the test; in one queue.
            unsafe { batch.push(node.into()) };
        }
        injector.push_batch(batch);
        let mut inner = injector.lock();
        assert_eq!(ids(inner.take(4)), [10, 11, 0, 1]);
        // The odd one goes to each in turn, so of two who take one after the other neither starves.
        assert_eq!(ids(inner.take(3)), [12, 13, 2]);
        assert_eq!(ids(inner.take(1)), [3]);
        assert_eq!(ids(inner.take(1)), [14]);
        assert_eq!(ids(inner.take(1)), [4]);
        // There are five of each.
        assert_eq!(ids(inner.take(8)), [15, 16, 17, 18, 5, 6, 7, 8]);
        assert_eq!(ids(inner.take(100)), [19, 9]);
        assert_eq!(ids(inner.take(1)), []);
    }

    #[test]
    fn where_there_are_few_of_a_kind_the_others_fill_up() {
        for (begun, taken) in [(2, [8, 9, 0, 1, 2, 3]), (8, [2, 3, 4, 5, 0, 1])] {
            let nodes = nodes_of(10, |id| id >= 10 - begun);
            let injector = Injector::new();
            for node in &nodes {
                // SAFETY: alive until the end of the test; in one queue.
                unsafe { injector.push(node.into()) };
            }
            assert_eq!(ids(injector.lock().take(6)), taken);
        }
    }

    #[test]
    fn it_does_what_a_vec_deque_does() {
        let mut random = Random::seeded();
        let nodes = nodes(64);
        let injector = Injector::new();
        let mut outside: Vec<_> = nodes.iter().map(NonNull::from).collect();
        let mut model = VecDeque::new();
        for _ in 0..if cfg!(miri) { 500 } else { 20_000 } {
            match random.below(4) {
                0 => {
                    let mut batch = Batch::new();
                    let count = random.below(5).min(outside.len());
                    for node in outside.drain(outside.len() - count..) {
                        model.push_back(id(node));
                        // SAFETY: alive until the end of the test; it came from outside.
                        unsafe { batch.push(node) };
                    }
                    injector.push_batch(batch);
                }
                1 => {
                    if let Some(node) = outside.pop() {
                        model.push_back(id(node));
                        // SAFETY: as above.
                        unsafe { injector.push(node) };
                    }
                }
                _ => {
                    let node = injector.pop();
                    assert_eq!(node.map(id), model.pop_front());
                    outside.extend(node);
                }
            }
            assert_eq!(injector.len(), model.len());
        }
    }

    #[test]
    fn under_stress_each_node_arrives_once() {
        let each = if cfg!(miri) { 40 } else { 20_000 };
        let nodes = nodes(2 * each);
        let injector = Injector::new();
        let taken = AtomicUsize::new(0);
        thread::scope(|s| {
            for mine in nodes.chunks(each) {
                s.spawn(|| {
                    for nodes in mine.chunks(5) {
                        let mut batch = Batch::new();
                        // SAFETY: alive until the end of the test; each pushed once.
                        unsafe {
                            injector.push(send(&nodes[0]));
                            for node in &nodes[1..] {
                                batch.push(send(node));
                            }
                        }
                        injector.push_batch(batch);
                    }
                });
                s.spawn(|| {
                    let ring = Ring::<Node, 4>::new();
                    while taken.load(Relaxed) < nodes.len() {
                        // SAFETY: this thread is the ring's only producer.
                        let first = unsafe { injector.pop_batch_into(&ring, 3) };
                        // SAFETY: as above.
                        let rest = std::iter::from_fn(|| unsafe { ring.pop() });
                        let count = first.into_iter().chain(rest).map(take).count();
                        taken.fetch_add(count, Relaxed);
                    }
                });
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

    #[test]
    fn a_pusher_a_batch_and_two_takers_agree() {
        loom::model(|| {
            let nodes = Arc::new(nodes(3));
            let injector = Arc::new(Injector::new());
            let pusher = thread::spawn({
                let (nodes, injector) = (nodes.clone(), injector.clone());
                move || {
                    let mut batch = Batch::new();
                    // SAFETY: alive until the end of the model; each pushed once.
                    unsafe {
                        batch.push(send(&nodes[0]));
                        batch.push(send(&nodes[1]));
                        injector.push_batch(batch);
                        injector.push(send(&nodes[2]));
                    }
                }
            });
            let taker = thread::spawn({
                let injector = injector.clone();
                move || injector.pop().map(take)
            });
            let ring = Ring::<Node, 2>::new();
            // SAFETY: this thread is the ring's only producer.
            unsafe {
                if let Some(node) = injector.pop_batch_into(&ring, 1) {
                    take(node);
                }
                taker.join().unwrap();
                pusher.join().unwrap();
                while let Some(node) = ring.pop().or_else(|| injector.pop()) {
                    take(node);
                }
            }
            assert!(injector.is_empty());
            assert!(nodes.iter().all(|node| node.times_taken() == 1));
        });
    }
}
