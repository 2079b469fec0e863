//! Models of the ring: its producer and its thieves, in all orders.

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
