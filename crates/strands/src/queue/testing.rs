//! What the tests of the queues share: a node that notices when it is taken twice, or before what
//! its pusher did to it is visible.

use std::ptr::NonNull;

use super::{Link, Linked};
use crate::primitive::UnsafeCell;

/// A node with a number, and with a cell that only its holder may touch.
pub(super) struct Node {
    link: Link<Node>,
    id: usize,
    has_begun: bool,
    /// How often the node was taken. A plain cell: loom fails the test if two holders touch it and
    /// nothing orders one before the other; so do Miri and the thread sanitizer.
    taken: UnsafeCell<usize>,
}

// SAFETY: `link` is a field, the same one each time.
unsafe impl Linked for Node {
    fn link(&self) -> &Link<Node> {
        &self.link
    }

    fn has_begun(&self) -> bool {
        self.has_begun
    }
}

// SAFETY: `taken` is touched by the holder of the node alone, which is what the tests are about.
unsafe impl Sync for Node {}

impl Node {
    /// How often the node was taken, for when all is over.
    pub(super) fn times_taken(&self) -> usize {
        // SAFETY: the threads that touched it have been joined.
        self.taken.with(|taken| unsafe { *taken })
    }
}

/// Nodes numbered from 0, of which none has begun.
pub(super) fn nodes(count: usize) -> Vec<Node> {
    nodes_of(count, |_| false)
}

/// Nodes numbered from 0, of which those that `begun` says so of have begun.
pub(super) fn nodes_of(count: usize, begun: impl Fn(usize) -> bool) -> Vec<Node> {
    let node = |id| Node { link: Link::new(), id, has_begun: begun(id), taken: UnsafeCell::new(0) };
    (0..count).map(node).collect()
}

/// The number of `node`.
pub(super) fn id(node: NonNull<Node>) -> usize {
    // SAFETY: every test keeps its nodes alive until its end.
    unsafe { node.as_ref() }.id
}

/// Touches `node` as its holder: before a push, or after a take. Returns its number.
pub(super) fn touch(node: NonNull<Node>, times: usize) -> usize {
    // SAFETY:
    // - alive: every test keeps its nodes alive until its end.
    // - ours alone: that is what is being tested.
    unsafe {
        node.as_ref().taken.with_mut(|taken| *taken += times);
        node.as_ref().id
    }
}

/// Notes that the caller has taken `node`. Returns its number.
pub(super) fn take(node: NonNull<Node>) -> usize {
    touch(node, 1)
}

/// A node on its way in: touched, so that its taker must see the touch.
pub(super) fn send(node: &Node) -> NonNull<Node> {
    touch(node.into(), 0);
    node.into()
}

/// A generator of reproducible random numbers (xorshift).
#[cfg(not(loom))]
pub(super) struct Random(u64);

#[cfg(not(loom))]
impl Random {
    /// Seeds from `STRANDS_SEED` or the clock, and prints the seed.
    pub(super) fn seeded() -> Self {
        use std::time::{SystemTime, UNIX_EPOCH};
        let seed = match std::env::var("STRANDS_SEED") {
            Ok(seed) => seed.parse().expect("STRANDS_SEED is a number"),
            // Under Miri's isolation the clock is a constant, which is good enough.
            Err(_) => SystemTime::now()
                .duration_since(UNIX_EPOCH)
                .map_or(1, |now| now.as_nanos() as u64 | 1),
        };
        println!("STRANDS_SEED={seed}");
        Random(seed.max(1))
    }

    /// A number below `limit`.
    pub(super) fn below(&mut self, limit: usize) -> usize {
        self.0 ^= self.0 << 13;
        self.0 ^= self.0 >> 7;
        self.0 ^= self.0 << 17;
        (self.0 >> 16) as usize % limit
    }
}
