//! The messages that a channel holds: a ring, or a chain of blocks.
//!
//! A bounded channel keeps them in a ring, which grows with what is in it, up to the bound. An unbounded one
//! may hold millions: a ring that doubles would move them all under the channel's lock, while everybody waits.
//! So there it is a chain of blocks of [`BLOCK`] messages, of which none ever moves; a block that has been
//! emptied is kept for the next one needed.

use std::collections::{LinkedList, VecDeque};

/// A bounded buffer has room for up to this many from the start.
const EAGER: usize = 256;

/// Messages in a block.
const BLOCK: usize = 64;

pub(super) enum Buffer<T> {
    Ring(VecDeque<T>),
    Chain(Chain<T>),
}

pub(super) struct Chain<T> {
    /// None of them is empty but perhaps the first and the last.
    blocks: LinkedList<VecDeque<T>>,
    /// At most one, empty.
    spare: LinkedList<VecDeque<T>>,
    len: usize,
}

impl<T> Buffer<T> {
    pub(super) fn new(cap: Option<usize>) -> Buffer<T> {
        match cap {
            Some(cap) => Buffer::Ring(VecDeque::with_capacity(cap.min(EAGER))),
            None => {
                Buffer::Chain(Chain { blocks: LinkedList::new(), spare: LinkedList::new(), len: 0 })
            }
        }
    }

    /// What is left when all has been taken out.
    pub(super) fn nothing() -> Buffer<T> {
        Buffer::Ring(VecDeque::new())
    }

    #[inline]
    pub(super) fn len(&self) -> usize {
        match self {
            Buffer::Ring(ring) => ring.len(),
            Buffer::Chain(chain) => chain.len,
        }
    }

    /// Whether a message can be put in where it is to be, with no more memory.
    #[inline]
    pub(super) fn has_space(&self) -> bool {
        match self {
            Buffer::Ring(ring) => ring.len() < ring.capacity(),
            Buffer::Chain(chain) => {
                chain.blocks.back().is_some_and(|block| block.len() < block.capacity())
            }
        }
    }

    #[inline]
    pub(super) fn push_back(&mut self, message: T) {
        match self {
            Buffer::Ring(ring) => ring.push_back(message),
            Buffer::Chain(chain) => chain.push_back(message),
        }
    }

    #[inline]
    pub(super) fn pop_front(&mut self) -> Option<T> {
        match self {
            Buffer::Ring(ring) => ring.pop_front(),
            Buffer::Chain(chain) => chain.pop_front(),
        }
    }

    /// As `pop_front`, but for a message whose block has to be reached first.
    #[inline]
    pub(super) fn pop_at_hand(&mut self) -> Option<T> {
        match self {
            Buffer::Ring(ring) => ring.pop_front(),
            Buffer::Chain(chain) => chain.pop_at_hand(),
        }
    }
}

impl<T> Chain<T> {
    #[inline]
    fn push_back(&mut self, message: T) {
        self.len += 1;
        if let Some(block) = self.blocks.back_mut()
            && block.len() < block.capacity()
        {
            return block.push_back(message);
        }
        self.push_back_in_new_block(message);
    }

    #[cold]
    fn push_back_in_new_block(&mut self, message: T) {
        if self.spare.is_empty() {
            self.spare.push_back(VecDeque::with_capacity(BLOCK));
        }
        self.blocks.append(&mut self.spare);
        if let Some(block) = self.blocks.back_mut() {
            block.push_back(message);
        }
    }

    #[inline]
    fn pop_at_hand(&mut self) -> Option<T> {
        let message = self.blocks.front_mut()?.pop_front()?;
        self.len -= 1;
        Some(message)
    }

    fn pop_front(&mut self) -> Option<T> {
        if self.len > 0 && self.blocks.front().is_some_and(VecDeque::is_empty) {
            self.drop_first_block();
        }
        self.pop_at_hand()
    }

    #[cold]
    fn drop_first_block(&mut self) {
        let rest = self.blocks.split_off(1);
        let first = std::mem::replace(&mut self.blocks, rest);
        if self.spare.is_empty() {
            self.spare = first;
        }
    }
}

#[cfg(all(test, not(loom)))]
mod tests {
    use super::*;

    #[test]
    fn both_kinds_do_what_a_queue_does() {
        let seed = std::time::SystemTime::now()
            .duration_since(std::time::UNIX_EPOCH)
            .map_or(1, |d| d.as_nanos() as u64 | 1);
        println!("seed {seed}");
        for cap in [None, Some(1000)] {
            let mut state = seed;
            let mut buffer = Buffer::new(cap);
            let mut model = VecDeque::new();
            for n in 0..20_000 {
                state ^= state << 13;
                state ^= state >> 7;
                state ^= state << 17;
                // Swings between filling and emptying.
                let filling = (n / 700) % 2 == 0;
                match state % 16 {
                    choice if (choice < 11) == filling => {
                        buffer.push_back(n);
                        model.push_back(n);
                    }
                    _ => assert_eq!(buffer.pop_front(), model.pop_front()),
                }
                assert_eq!(buffer.len(), model.len());
            }
            while let Some(expected) = model.pop_front() {
                assert_eq!(buffer.pop_front(), Some(expected));
            }
            assert_eq!(buffer.pop_front(), None);
        }
    }

    #[test]
    fn blocks_are_used_again() {
        let mut buffer = Buffer::new(None);
        for n in 0..10 * BLOCK {
            buffer.push_back(n);
            buffer.push_back(n);
            assert_eq!(buffer.pop_front(), Some(n / 2));
        }
        while buffer.pop_front().is_some() {}
        let Buffer::Chain(chain) = &buffer else { unreachable!("unbounded") };
        assert_eq!((chain.blocks.len(), chain.spare.len()), (1, 1));
    }
}
