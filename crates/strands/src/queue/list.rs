//! A FIFO list threaded through the nodes' links, for one owner: no atomics, no allocation.
//!
//! ```text
//! head ──▶ node ──▶ node ──▶ node ──▶ null
//!                             ▲
//! tail ───────────────────────┘
//! ```
//!
//! **Invariants:** `head` is null exactly if `len` is 0. If it is not null, `len - 1` links lead
//! from `head` to `tail`, and the link of `tail` is null.

use std::ptr::{self, NonNull};

use super::Linked;

/// A FIFO list of nodes; also how a batch of them travels.
///
/// It iterates by taking from the front. It may move to another thread (with all its nodes), and is
/// not shared.
#[must_use = "dropping a list forgets the nodes in it"]
pub(crate) struct List<T> {
    head: *mut T,
    /// Meaningful only while `head` is not null.
    tail: *mut T,
    len: usize,
}

impl<T: Linked> List<T> {
    /// An empty list.
    pub(crate) const fn new() -> Self {
        List { head: ptr::null_mut(), tail: ptr::null_mut(), len: 0 }
    }

    /// Puts `node` behind all others.
    ///
    /// # Safety
    /// The [contract of every push](super#the-contract-of-every-push).
    pub(crate) unsafe fn push_back(&mut self, node: NonNull<T>) {
        // SAFETY: alive and in no other queue, so its link is ours: the caller's promise.
        unsafe { node.as_ref().link().set(ptr::null_mut()) };
        match NonNull::new(self.head) {
            None => self.head = node.as_ptr(),
            // SAFETY: `tail` is in this list (`head` is not null), so it is alive and its link is
            // ours.
            Some(_) => unsafe { (*self.tail).link().set(node.as_ptr()) },
        }
        self.tail = node.as_ptr();
        self.len += 1;
    }

    /// Puts `node` before all others.
    ///
    /// # Safety
    /// The [contract of every push](super#the-contract-of-every-push).
    pub(crate) unsafe fn push_front(&mut self, node: NonNull<T>) {
        // SAFETY: alive and in no other queue, so its link is ours: the caller's promise.
        unsafe { node.as_ref().link().set(self.head) };
        if self.head.is_null() {
            self.tail = node.as_ptr();
        }
        self.head = node.as_ptr();
        self.len += 1;
    }

    /// Takes the first node.
    pub(crate) fn pop_front(&mut self) -> Option<NonNull<T>> {
        let node = NonNull::new(self.head)?;
        // SAFETY: the node is in this list, so it is alive and its link is ours.
        self.head = unsafe { node.as_ref().link().get() };
        self.len -= 1;
        Some(node)
    }

    /// Takes the first `count` nodes, or all if there are fewer.
    ///
    /// Walks over what it takes: `count` links.
    pub(crate) fn take_front(&mut self, count: usize) -> List<T> {
        if count >= self.len {
            return std::mem::replace(self, List::new());
        }
        let mut taken = List::new();
        for _ in 0..count {
            let Some(node) = self.pop_front() else { break };
            // SAFETY: the promise made to us when `node` was pushed holds until it leaves `taken`;
            // it is in no other queue, since we have just taken it out.
            unsafe { taken.push_back(node) };
        }
        taken
    }

    /// Moves all of `other` behind the nodes that are here, in one step whatever its length.
    pub(crate) fn append(&mut self, other: &mut List<T>) {
        let other = std::mem::replace(other, List::new());
        if other.is_empty() {
            return;
        }
        if self.is_empty() {
            *self = other;
            return;
        }
        // SAFETY: `tail` is in this list (which is not empty), so it is alive and its link is ours.
        unsafe { (*self.tail).link().set(other.head) };
        self.tail = other.tail;
        self.len += other.len;
    }

    /// The first, left where it is.
    #[inline]
    pub(crate) fn front(&self) -> Option<NonNull<T>> {
        NonNull::new(self.head)
    }

    /// Whether there is no node.
    pub(crate) fn is_empty(&self) -> bool {
        self.head.is_null()
    }

    /// The number of nodes.
    pub(crate) fn len(&self) -> usize {
        self.len
    }
}

impl<T: Linked> Iterator for List<T> {
    type Item = NonNull<T>;

    fn next(&mut self) -> Option<NonNull<T>> {
        self.pop_front()
    }

    fn size_hint(&self) -> (usize, Option<usize>) {
        (self.len, Some(self.len))
    }
}

// SAFETY: a list is pointers, followed only to the links of its own nodes, which whoever pushed
// them let any thread do (point 3 of the contract).
unsafe impl<T: Linked> Send for List<T> {}

#[cfg(all(test, not(loom)))]
mod tests {
    use std::collections::VecDeque;

    use super::super::testing::{Node, Random, id, nodes};
    use super::*;

    fn ids(list: List<Node>) -> Vec<usize> {
        list.map(id).collect()
    }

    #[test]
    fn what_goes_in_first_comes_out_first() {
        let nodes = nodes(3);
        let mut list = List::new();
        for node in &nodes {
            // SAFETY: alive until the end of the test; in this list only.
            unsafe { list.push_back(node.into()) };
        }
        assert_eq!(list.len(), 3);
        assert_eq!(ids(list), [0, 1, 2]);
    }

    #[test]
    fn appending_keeps_the_order_and_empties_the_other() {
        let nodes = nodes(4);
        let (mut front, mut back) = (List::new(), List::new());
        front.append(&mut back);
        assert!(front.is_empty());
        for node in &nodes[2..] {
            // SAFETY: alive until the end of the test; in this list only.
            unsafe { back.push_back(node.into()) };
        }
        for node in nodes[..2].iter().rev() {
            // SAFETY: as above.
            unsafe { front.push_front(node.into()) };
        }
        front.append(&mut back);
        assert!(back.is_empty() && back.pop_front().is_none());
        back.append(&mut front);
        assert_eq!(back.len(), 4);
        assert_eq!(ids(back), [0, 1, 2, 3]);
    }

    #[test]
    fn a_list_emptied_can_be_filled_again() {
        let nodes = nodes(1);
        let mut list = List::new();
        for _ in 0..3 {
            // SAFETY: alive until the end of the test; popped before it is pushed again.
            unsafe { list.push_back((&nodes[0]).into()) };
            assert_eq!(list.pop_front().map(id), Some(0));
            assert!(list.is_empty() && list.pop_front().is_none());
        }
    }

    #[test]
    fn it_does_what_a_vec_deque_does() {
        let mut random = Random::seeded();
        let nodes = nodes(32);
        let mut outside: Vec<NonNull<Node>> = nodes.iter().map(NonNull::from).collect();
        let (mut list, mut model) = (List::new(), VecDeque::new());
        for _ in 0..if cfg!(miri) { 500 } else { 20_000 } {
            match (random.below(5), outside.pop()) {
                (0, Some(node)) => {
                    // SAFETY: alive until the end of the test; it came from outside of the list.
                    unsafe { list.push_front(node) };
                    model.push_front(id(node));
                }
                (1 | 2, Some(node)) => {
                    // SAFETY: as above.
                    unsafe { list.push_back(node) };
                    model.push_back(id(node));
                }
                (3, back) => {
                    outside.extend(back);
                    let count = random.below(6);
                    let mut taken = list.take_front(count);
                    assert_eq!(taken.len(), count.min(model.len()));
                    // Round it goes: what was at the front is now at the back.
                    list.append(&mut taken);
                    let count = count.min(model.len());
                    model.rotate_left(count);
                }
                (_, back) => {
                    outside.extend(back);
                    let node = list.pop_front();
                    assert_eq!(node.map(id), model.pop_front());
                    outside.extend(node);
                }
            }
            assert_eq!(list.len(), model.len());
            assert_eq!(list.is_empty(), model.is_empty());
        }
        assert_eq!(ids(list), Vec::from(model));
    }
}
