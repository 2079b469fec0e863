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

use super::injector::Batch;
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
                unsafe { batch.push(node) };
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
    unsafe fn take_half(&self) -> Option<Batch<T>> {
        let half = N as u32 / 2;
        // Ordering: Relaxed: only we write `tail`. If the ring is full, this is its head, and if
        // not, the CAS fails.
        let head = self.tail.load(Relaxed).wrapping_sub(N as u32);
        self.take(head, half).ok()?;
        let mut batch = Batch::new();
        for i in 0..half {
            // Unlike a thief, we may read after the claim: nobody but us could overwrite the slots.
            let node = present(self.slot(head.wrapping_add(i)).load(Relaxed));
            // SAFETY: the promise made to us when `node` was pushed holds until it leaves `batch`;
            // it is ours by the claim, and in no other queue.
            unsafe { batch.push(node) };
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
mod tests;

#[cfg(all(test, loom))]
mod loom_tests;
