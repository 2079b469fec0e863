//! A processor's ring: a fixed FIFO queue with one producer and many takers, without locks.
//!
//! ```text
//!             head                     tail
//!              ▼                        ▼
//! slots   [ . |A|B|C|D|E|F|G . . . . . . . . ]      7 elements
//!              ╰─────╯                ▲
//!        a thief takes the       the owner pushes here,
//!        older half, by one      by a plain store
//!        CAS of `head`
//! ```
//!
//! `head` and `tail` count elements since the beginning, wrap around at 2³², and are taken modulo
//! `N` to find the slot. The algorithm is the one of Go's `runq`.
//!
//! | who | `head` | `tail` | slots |
//! |---|---|---|---|
//! | the owner (one at a time) | reads; takes by CAS | reads and writes | writes from `tail` on while there is room; reads |
//! | thieves (any number) | read; take by CAS | read | read, and believe it only if their CAS succeeds |
//!
//! **Invariants**
//! - `head <= tail <= head + N`, in wrapping arithmetic.
//! - Elements leave only by a CAS that moves `head` forward. Whoever makes it owns what it passed.
//! - A slot is written again only after its former element has left.
//!
//! # Reading before it is ours
//! A thief reads the slots first and claims them by its CAS afterwards. (Claim first, and the owner
//! could overwrite the slots before they are read; tokio closes that gap with a second head, which
//! makes a push fail while a theft is going on.) So what it reads may be stale, but then another CAS
//! has moved `head` in between, and its own fails. Can a thief that succeeds have read a slot
//! already overwritten? The owner writes a slot again only after it has seen `head` beyond it, by an
//! Acquire load that pairs with the Release of the taking CAS; the thief's reads come before that
//! CAS. So its reads happen before the write, and cannot see it.
//!
//! One hole is known and left open: a thief that sleeps between its reads and its CAS while exactly
//! a multiple of 2³² elements pass would be fooled. At 10 ns each that takes 43 seconds, and it
//! must wake at one value of four billion.

use std::array;
use std::ptr::{self, NonNull};

use crossbeam_utils::CachePadded;

use super::{Injector, Linked, List};
use crate::primitive::atomic::{AtomicPtr, AtomicU32, Ordering::*};
use crate::primitive::hint;

/// How many elements a processor's ring holds. As in Go; guessed there, too.
pub(crate) const CAPACITY: usize = 256;

/// A ring for `N` elements, a power of two.
pub(crate) struct Ring<T, const N: usize = CAPACITY> {
    /// The number of elements that have left. All takers fight for this line…
    head: CachePadded<AtomicU32>,
    /// …and this one the owner writes at every push. The number of elements that have come.
    tail: CachePadded<AtomicU32>,
    slots: [AtomicPtr<T>; N],
}

/// The ring was full; here is the node back.
#[must_use = "the node is in no queue now"]
pub(crate) struct Full<T>(pub(crate) NonNull<T>);

impl<T, const N: usize> Ring<T, N> {
    /// An empty ring.
    pub(crate) fn new() -> Self {
        Self::starting_at(0)
    }

    /// An empty ring through which `index` elements seem to have passed.
    fn starting_at(index: u32) -> Self {
        const {
            assert!(N.is_power_of_two() && 2 <= N && N <= 1 << 16);
        }
        Ring {
            head: CachePadded::new(AtomicU32::new(index)),
            tail: CachePadded::new(AtomicU32::new(index)),
            slots: array::from_fn(|_| AtomicPtr::new(ptr::null_mut())),
        }
    }

    /// Adds `node` at the back.
    ///
    /// # Safety
    /// - The caller is the owner: no other `push`, `push_batch`, `push_overflow` or `pop`, and no
    ///   `steal_into` this ring, runs at the same time, and the previous owner's last one happened
    ///   before.
    /// - The [contract of every push](super#the-contract-of-every-push).
    #[inline]
    pub(crate) unsafe fn push(&self, node: NonNull<T>) -> Result<(), Full<T>> {
        // Ordering: Relaxed: only we, the owner, write `tail`.
        let tail = self.tail.load(Relaxed);
        if self.room_from(tail) == 0 {
            return Err(Full(node));
        }
        self.slot(tail).store(node.as_ptr(), Relaxed);
        self.publish(tail.wrapping_add(1));
        Ok(())
    }

    /// Takes the oldest, in competition with the thieves.
    ///
    /// # Safety
    /// The caller is the owner, as for [`push`](Ring::push).
    #[inline]
    pub(crate) unsafe fn pop(&self) -> Option<NonNull<T>> {
        // Ordering: Relaxed: only we write `tail`. A `head` that is behind fails the CAS; and there
        // is nothing for us to acquire, since we have put into the slots ourselves what is there.
        let tail = self.tail.load(Relaxed);
        let mut head = self.head.load(Relaxed);
        while head != tail {
            let node = self.slot(head).load(Relaxed);
            match self.take(head, 1) {
                Ok(()) => return Some(present(node)),
                Err(now) => head = now,
            }
        }
        None
    }

    /// Steals the older half, rounded up: returns the oldest, to be run at once, and moves the rest
    /// to the back of `dst`, as far as it fits.
    ///
    /// # Safety
    /// The caller is the owner of `dst`, as for [`push`](Ring::push), and this ring is another one.
    pub(crate) unsafe fn steal_into(&self, dst: &Self) -> Option<NonNull<T>> {
        debug_assert!(!ptr::eq(self, dst), "a ring cannot rob itself");
        // Ordering: Relaxed: only we write `dst.tail`.
        let dst_tail = dst.tail.load(Relaxed);
        let room = dst.room_from(dst_tail);
        loop {
            // Pass 1: look.
            // Ordering: the first Acquire pairs with the Release in `take`: whoever moved `head`
            // there had seen `tail` at least as far on, and now so do we. The second pairs with the
            // Release in `publish`: the slots up to `tail`, and what lies behind them, are visible.
            let head = self.head.load(Acquire);
            let tail = self.tail.load(Acquire);
            let len = tail.wrapping_sub(head);
            if len == 0 {
                return None;
            }
            if len > N as u32 {
                // `head` is out of date: more than a whole ring has been pushed since. The CAS would
                // fail; spare the copying.
                assert!(!CHECKED || len < 1 << 31, "the tail was seen behind the head");
                hint::spin_loop();
                continue;
            }

            // Pass 2: copy. Nobody sees what lies behind `dst`'s tail, so this can be undone.
            let count = (len - len / 2).min(room + 1);
            let first = self.slot(head).load(Relaxed);
            for i in 1..count {
                let node = self.slot(head.wrapping_add(i)).load(Relaxed);
                dst.slot(dst_tail.wrapping_add(i - 1)).store(node, Relaxed);
            }

            // Pass 3: claim, then publish.
            if self.take(head, count).is_ok() {
                if count > 1 {
                    dst.publish(dst_tail.wrapping_add(count - 1));
                }
                return Some(present(first));
            }
            hint::spin_loop();
        }
    }

    /// The number of elements. See [what emptiness means](super#what-emptiness-means).
    pub(crate) fn len(&self) -> usize {
        // Ordering: the Acquire keeps `tail` from being seen behind `head`, as in `steal_into`. The
        // other load may be Relaxed: nobody looks into the slots.
        let head = self.head.load(Acquire);
        let tail = self.tail.load(Relaxed);
        // With an old `head` the difference may be more than a ring holds.
        (tail.wrapping_sub(head) as usize).min(N)
    }

    /// Whether there is nothing. See [what emptiness means](super#what-emptiness-means).
    pub(crate) fn is_empty(&self) -> bool {
        self.len() == 0
    }

    /// The number of elements that have come: changed by every push, and by nothing else.
    pub(super) fn tail(&self) -> u32 {
        // Ordering: Relaxed: nobody looks into the slots, and of two calls the later one never sees
        // the older tail.
        self.tail.load(Relaxed)
    }

    /// How many more fit. For the owner: to it, it can only get more.
    pub(super) fn room(&self) -> usize {
        // Ordering: Relaxed: only the owner, who asks, writes `tail`.
        self.room_from(self.tail.load(Relaxed)) as usize
    }

    /// How many more fit from `tail` on, of which the caller, the owner, knows that it is the tail.
    fn room_from(&self, tail: u32) -> u32 {
        // Ordering: Acquire pairs with the Release in `take`: whoever took an element has read its
        // slot before we write it again.
        N as u32 - tail.wrapping_sub(self.head.load(Acquire))
    }

    /// Makes the slots up to `tail` visible. For the owner.
    fn publish(&self, tail: u32) {
        // Ordering: Release pairs with the Acquire load of `tail` in `steal_into`: the slots, and what
        // the pusher did to the nodes, are visible.
        self.tail.store(tail, Release);
    }

    /// Claims the `count` elements from `head` on, or says where `head` is now.
    fn take(&self, head: u32, count: u32) -> Result<(), u32> {
        let next = head.wrapping_add(count);
        // Ordering: Release pairs with two Acquire loads of `head`.
        // - The one in `room_from`: our reads of the slots come before the owner's next writes.
        // - The one in `steal_into`: we have seen `tail` at `next` or further on, and so will they.
        // Failing tells us nothing but a number: Relaxed.
        (self.head).compare_exchange(head, next, Release, Relaxed).map(drop)
    }

    fn slot(&self, index: u32) -> &AtomicPtr<T> {
        &self.slots[index as usize % N]
    }
}

impl<T: Linked, const N: usize> Ring<T, N> {
    /// Adds `node` at the back; if the ring is full, moves its older half and `node` to `injector`
    /// under one lock.
    ///
    /// So a processor that makes more than it runs pays for the lock once in `N / 2` pushes, and the
    /// others find its surplus in one place.
    ///
    /// # Safety
    /// As for [`push`](Ring::push).
    #[inline]
    pub(crate) unsafe fn push_overflow(&self, node: NonNull<T>, injector: &Injector<T>) {
        // SAFETY: the same contract, handed on.
        if let Err(full) = unsafe { self.push(node) } {
            // SAFETY: likewise.
            unsafe { self.push_overflow_slow(full, injector) };
        }
    }

    /// # Safety
    /// As for [`push`](Ring::push).
    #[cold]
    unsafe fn push_overflow_slow(&self, full: Full<T>, injector: &Injector<T>) {
        let Full(mut node) = full;
        loop {
            // SAFETY: the caller is the owner.
            if let Some(mut batch) = unsafe { self.take_half() } {
                // SAFETY: the caller's promise for `node`, which `push` has given back.
                unsafe { batch.push_back(node) };
                injector.push_batch(batch);
                return;
            }
            // A thief was there, so there is room.
            // SAFETY: the caller's promise.
            match unsafe { self.push(node) } {
                Ok(()) => return,
                // Full of what `head` was a moment ago; each round sees it further on.
                Err(Full(back)) => node = back,
            }
        }
    }

    /// Takes the older half of a full ring, unless a thief comes first.
    ///
    /// # Safety
    /// The caller is the owner, as for [`push`](Ring::push).
    unsafe fn take_half(&self) -> Option<List<T>> {
        let half = N as u32 / 2;
        // Ordering: Relaxed: only we write `tail`. If the ring is full, this is its head, and if
        // not, the CAS fails.
        let head = self.tail.load(Relaxed).wrapping_sub(N as u32);
        self.take(head, half).ok()?;
        let mut batch = List::new();
        for i in 0..half {
            // Unlike a thief, we may read after the claim: nobody but us could overwrite the slots.
            let node = present(self.slot(head.wrapping_add(i)).load(Relaxed));
            // SAFETY: the promise made to us when `node` was pushed holds until it leaves `batch`;
            // it is ours by the claim, and in no other queue.
            unsafe { batch.push_back(node) };
        }
        Some(batch)
    }

    /// Adds all of `batch` at the back, published by one store.
    ///
    /// # Safety
    /// - The caller is the owner, as for [`push`](Ring::push).
    /// - The batch is not longer than [`room`](Ring::room).
    /// - For each node in it the [contract of every push](super#the-contract-of-every-push) holds
    ///   until it leaves the ring.
    pub(super) unsafe fn push_batch(&self, batch: List<T>) {
        debug_assert!(batch.len() <= self.room());
        if batch.is_empty() {
            return;
        }
        // Ordering: Relaxed: only we write `tail`.
        let mut tail = self.tail.load(Relaxed);
        for node in batch {
            self.slot(tail).store(node.as_ptr(), Relaxed);
            tail = tail.wrapping_add(1);
        }
        self.publish(tail);
    }
}

/// Whether invariants are checked that cost something. Loom's tests run optimised, but checked.
const CHECKED: bool = cfg!(any(debug_assertions, loom));

/// The node of a slot that we have claimed.
fn present<T>(node: *mut T) -> NonNull<T> {
    NonNull::new(node).expect("a slot between head and tail is not null")
}

#[cfg(all(test, not(loom)))]
mod tests {
    use std::collections::VecDeque;
    use std::iter;
    use std::sync::atomic::AtomicUsize;
    use std::thread;

    use super::super::testing::{Node, Random, id, nodes, send, take};
    use super::*;

    /// A ring whose indices are about to wrap around.
    fn ring<const N: usize>() -> Ring<Node, N> {
        Ring::starting_at(u32::MAX - 1)
    }

    /// Pushes `node`, which must fit.
    fn push<const N: usize>(ring: &Ring<Node, N>, node: &Node) {
        // SAFETY: the tests keep their nodes to their end, push them into one queue, and push from
        // one thread.
        assert!(unsafe { ring.push(node.into()) }.is_ok());
    }

    /// Pops all there is.
    fn rest<const N: usize>(ring: &Ring<Node, N>) -> Vec<usize> {
        // SAFETY: the tests pop from the one thread that pushes.
        iter::from_fn(|| unsafe { ring.pop() }).map(id).collect()
    }

    fn injected(injector: &Injector<Node>) -> Vec<usize> {
        iter::from_fn(|| injector.pop()).map(id).collect()
    }

    #[test]
    fn what_goes_in_first_comes_out_first() {
        let nodes = nodes(4);
        let ring = ring::<4>();
        for round in 1..=4 {
            nodes[..round].iter().for_each(|node| push(&ring, node));
            assert_eq!(ring.len(), round);
            assert!(rest(&ring).into_iter().eq(0..round));
            assert!(ring.is_empty());
        }
    }

    #[test]
    fn a_full_ring_gives_the_node_back() {
        let nodes = nodes(3);
        let ring = ring::<2>();
        push(&ring, &nodes[0]);
        push(&ring, &nodes[1]);
        // SAFETY: as in `push`.
        let full = unsafe { ring.push((&nodes[2]).into()) };
        assert_eq!(full.err().map(|Full(node)| id(node)), Some(2));
        assert_eq!(rest(&ring), [0, 1]);
    }

    #[test]
    fn a_thief_takes_the_older_half_rounded_up() {
        let nodes = nodes(8);
        for len in 0..=8 {
            let (victim, thief) = (ring::<8>(), Ring::<Node, 8>::new());
            nodes[..len].iter().for_each(|node| push(&victim, node));
            // SAFETY: this thread owns both rings.
            let first = unsafe { victim.steal_into(&thief) };
            let half = len.div_ceil(2);
            assert_eq!(first.map(id), (len > 0).then_some(0));
            assert!(rest(&thief).into_iter().eq(1..half), "of {len}");
            assert!(rest(&victim).into_iter().eq(half..len), "of {len}");
        }
    }

    #[test]
    fn a_thief_takes_no_more_than_fits() {
        let nodes = nodes(12);
        for room in 0..4 {
            let (victim, thief) = (ring::<4>(), ring::<4>());
            nodes[..4].iter().for_each(|node| push(&victim, node));
            nodes[8 + room..].iter().for_each(|node| push(&thief, node));
            // SAFETY: this thread owns both rings.
            let first = unsafe { victim.steal_into(&thief) };
            let count = 2.min(room + 1);
            assert_eq!(first.map(id), Some(0));
            assert!(rest(&thief).into_iter().eq((8 + room..12).chain(1..count)));
            assert!(rest(&victim).into_iter().eq(count..4));
        }
    }

    #[test]
    fn an_overflow_moves_the_older_half_to_the_injector() {
        let nodes = nodes(5);
        let (ring, injector) = (ring::<4>(), Injector::new());
        for node in &nodes {
            // SAFETY: as in `push`.
            unsafe { ring.push_overflow(node.into(), &injector) };
        }
        assert_eq!(injected(&injector), [0, 1, 4]);
        assert_eq!(rest(&ring), [2, 3]);
    }

    #[test]
    fn the_real_capacity_is_held_and_overflows_by_half() {
        let count = CAPACITY + 1;
        let nodes = nodes(count);
        let (ring, injector) = (Ring::<Node>::new(), Injector::new());
        for node in &nodes {
            // SAFETY: as in `push`.
            unsafe { ring.push_overflow(node.into(), &injector) };
        }
        assert_eq!(injector.len(), CAPACITY / 2 + 1);
        assert!(rest(&ring).into_iter().eq(CAPACITY / 2..CAPACITY));
    }

    #[test]
    fn it_does_what_a_vec_deque_does() {
        const N: usize = 8;
        let mut random = Random::seeded();
        let nodes = nodes(4 * N);
        let injector = Injector::new();
        let rings = [ring::<N>(), ring::<N>()];
        let mut outside: Vec<_> = nodes.iter().map(NonNull::from).collect();
        let mut models = [VecDeque::new(), VecDeque::new()];
        let mut injected_model = VecDeque::new();
        for _ in 0..if cfg!(miri) { 500 } else { 50_000 } {
            let a = random.below(2);
            let b = 1 - a;
            match random.below(8) {
                0..4 => {
                    let Some(node) = outside.pop() else { continue };
                    // SAFETY: it came from outside; this thread owns all rings.
                    unsafe { rings[a].push_overflow(node, &injector) };
                    if models[a].len() == N {
                        injected_model.extend(models[a].drain(..N / 2));
                        injected_model.push_back(id(node));
                    } else {
                        models[a].push_back(id(node));
                    }
                }
                4 => {
                    // SAFETY: this thread owns all rings.
                    let first = unsafe { rings[a].steal_into(&rings[b]) };
                    let half = models[a].len().div_ceil(2);
                    let count = half.min(N - models[b].len() + 1);
                    let stolen: Vec<_> = models[a].drain(..count).collect();
                    assert_eq!(first.map(id), stolen.first().copied());
                    models[b].extend(stolen.into_iter().skip(1));
                    outside.extend(first);
                }
                5 => {
                    let max = random.below(5);
                    // SAFETY: this thread owns all rings.
                    let first = unsafe { injector.pop_batch_into(&rings[a], max) };
                    assert_eq!(first.map(id), injected_model.pop_front());
                    outside.extend(first);
                    let count = max.min(N - models[a].len()).min(injected_model.len());
                    models[a].extend(injected_model.drain(..count));
                }
                _ => {
                    // SAFETY: this thread owns all rings.
                    let node = unsafe { rings[a].pop() };
                    assert_eq!(node.map(id), models[a].pop_front());
                    outside.extend(node);
                }
            }
            assert_eq!([rings[0].len(), rings[1].len()], [0, 1].map(|i| models[i].len()));
            assert_eq!(injector.len(), injected_model.len());
        }
    }

    /// One owner, who also pops, against thieves that rob it and each other.
    fn stress<const N: usize>(count: usize) {
        const THIEVES: usize = 3;
        let nodes = nodes(count);
        let injector = Injector::new();
        let rings: [Ring<Node, N>; THIEVES + 1] = array::from_fn(|_| ring());
        let taken = AtomicUsize::new(0);
        let took = |node: NonNull<Node>| {
            take(node);
            taken.fetch_add(1, Relaxed);
        };
        thread::scope(|s| {
            let (rings, injector, taken, took) = (&rings, &injector, &taken, &took);
            for me in 1..=THIEVES {
                s.spawn(move || {
                    let mut victim = me;
                    while taken.load(Relaxed) < count {
                        victim = (victim + 1) % rings.len();
                        if victim == me {
                            thread::yield_now();
                            continue;
                        }
                        // SAFETY: `rings[me]` is this thread's, and `victim` is not `me`.
                        let first = unsafe { rings[victim].steal_into(&rings[me]) };
                        first.into_iter().for_each(took);
                        // Keep half of the loot, for the others to steal.
                        for _ in 0..rings[me].len() / 2 {
                            // SAFETY: as above.
                            unsafe { rings[me].pop() }.into_iter().for_each(took);
                        }
                        if first.is_none() {
                            // SAFETY: as above.
                            unsafe { rings[me].pop() }.into_iter().for_each(took);
                        }
                    }
                });
            }
            let mut random = Random::seeded();
            for node in &nodes {
                // SAFETY: `rings[0]` is this thread's; each node is pushed once, and lives.
                unsafe {
                    rings[0].push_overflow(send(node), injector);
                    if random.below(3) == 0 {
                        rings[0].pop().into_iter().for_each(took);
                    }
                    if random.below(16) == 0 {
                        let max = random.below(N);
                        (injector.pop_batch_into(&rings[0], max)).into_iter().for_each(took);
                    }
                }
            }
            while taken.load(Relaxed) < count {
                // SAFETY: as above.
                let node = unsafe { rings[0].pop() }.or_else(|| injector.pop());
                node.into_iter().for_each(took);
            }
        });
        assert!(nodes.iter().all(|node| node.times_taken() == 1));
    }

    #[test]
    fn under_stress_a_tiny_ring_loses_and_doubles_nothing() {
        stress::<2>(if cfg!(miri) { 100 } else { 200_000 });
    }

    #[test]
    fn under_stress_a_real_ring_loses_and_doubles_nothing() {
        stress::<CAPACITY>(if cfg!(miri) { 300 } else { 300_000 });
    }
}

#[cfg(all(test, loom))]
mod loom_tests {
    use std::ops::Range;

    use loom::thread::{self, JoinHandle};

    use super::super::testing::{Node, nodes, send, take};
    use super::*;
    use crate::primitive::Arc;

    /// What the threads of a model share: nodes, and a ring about to wrap around.
    struct Shared<const N: usize> {
        nodes: Vec<Node>,
        ring: Ring<Node, N>,
        injector: Injector<Node>,
    }

    impl<const N: usize> Shared<N> {
        fn new(count: usize) -> Arc<Self> {
            Arc::new(Shared {
                nodes: nodes(count),
                ring: Ring::starting_at(u32::MAX),
                injector: Injector::new(),
            })
        }

        /// For the owner. Pushes `ids`, which must fit.
        fn push(&self, ids: Range<usize>) {
            for node in &self.nodes[ids] {
                // SAFETY: only the owner of the model calls this; each node is pushed once.
                assert!(unsafe { self.ring.push(send(node)) }.is_ok());
            }
        }

        /// For the owner.
        fn pop(&self) -> bool {
            // SAFETY: only the owner of the model calls this.
            unsafe { self.ring.pop() }.map(take).is_some()
        }

        /// For the owner, at the end: what is left, and then each must have been taken once.
        fn finish(&self) {
            while self.pop() {}
            while self.injector.pop().map(take).is_some() {}
            assert!(self.nodes.iter().all(|node| node.times_taken() == 1));
        }
    }

    /// A thread that steals once, and takes all it has stolen.
    fn thief<const N: usize>(shared: &Arc<Shared<N>>) -> JoinHandle<()> {
        let shared = shared.clone();
        thread::spawn(move || steal(&shared))
    }

    fn steal<const N: usize>(shared: &Shared<N>) {
        let mine = Ring::<Node, N>::starting_at(u32::MAX);
        // SAFETY: the calling thread owns `mine`.
        unsafe {
            shared.ring.steal_into(&mine).map(take);
            while let Some(node) = mine.pop() {
                take(node);
            }
        }
    }

    #[test]
    fn an_owner_that_pushes_and_pops_and_a_thief() {
        loom::model(|| {
            let shared = Shared::<2>::new(4);
            shared.push(0..1);
            let thief = thief(&shared);
            // The ring is full, emptied and filled again under the thief's hands.
            shared.push(1..2);
            assert!(shared.pop() || shared.pop() || shared.ring.is_empty());
            for node in &shared.nodes[2..] {
                // SAFETY: this thread is the owner; each node is pushed once.
                if let Err(Full(node)) = unsafe { shared.ring.push(send(node)) } {
                    take(node);
                }
            }
            shared.pop();
            thief.join().unwrap();
            shared.finish();
        });
    }

    #[test]
    fn a_thief_that_steals_several() {
        loom::model(|| {
            let shared = Shared::<4>::new(5);
            shared.push(0..4);
            let thief = thief(&shared);
            shared.pop();
            shared.push(4..5);
            shared.pop();
            thief.join().unwrap();
            shared.finish();
        });
    }

    #[test]
    fn an_owner_and_two_thieves() {
        let mut model = loom::model::Builder::new();
        model.preemption_bound = Some(2);
        model.check(|| {
            let shared = Shared::<2>::new(3);
            shared.push(0..1);
            let thieves = [thief(&shared), thief(&shared)];
            shared.push(1..2);
            shared.pop();
            shared.push(2..3);
            shared.pop();
            for thief in thieves {
                thief.join().unwrap();
            }
            shared.finish();
        });
    }

    #[test]
    fn an_overflow_and_a_thief() {
        loom::model(|| {
            let shared = Shared::<2>::new(4);
            shared.push(0..2);
            let thief = thief(&shared);
            for node in &shared.nodes[2..] {
                // SAFETY: this thread is the owner; each node is pushed once.
                unsafe { shared.ring.push_overflow(send(node), &shared.injector) };
            }
            thief.join().unwrap();
            shared.finish();
        });
    }

    #[test]
    fn a_thief_is_robbed_of_its_loot() {
        let mut model = loom::model::Builder::new();
        model.preemption_bound = Some(3);
        model.check(|| {
            let shared = Shared::<4>::new(4);
            let loot = Arc::new(Ring::<Node, 4>::starting_at(u32::MAX));
            let first = thread::spawn({
                let (shared, loot) = (shared.clone(), loot.clone());
                // SAFETY: this thread owns `loot`.
                move || unsafe {
                    shared.ring.steal_into(&loot).map(take);
                    loot.pop().map(take);
                }
            });
            let second = thread::spawn({
                let loot = loot.clone();
                move || {
                    let mine = Ring::starting_at(0);
                    // SAFETY: this thread owns `mine`; of one element, nothing goes there.
                    unsafe { loot.steal_into(&mine).map(take) };
                }
            });
            shared.push(0..4);
            shared.pop();
            first.join().unwrap();
            second.join().unwrap();
            shared.finish();
        });
    }

    #[test]
    fn a_length_is_never_negative() {
        loom::model(|| {
            let shared = Shared::<4>::new(3);
            let watcher = thread::spawn({
                let shared = shared.clone();
                // A negative one would be cut off at 4.
                move || assert!(shared.ring.len() <= 3)
            });
            for i in 0..3 {
                shared.push(i..i + 1);
                shared.pop();
            }
            watcher.join().unwrap();
            shared.finish();
        });
    }
}
