//! The ring, by one thread and by several.

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
