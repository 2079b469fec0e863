//! A program with large thread-locals: each roaming goroutine has them at the top of its stack's slot, beside what it was
//! promised of room.

mod roamers;

use roamers::start;
use std::cell::{Cell, RefCell};
use strands::thread::{self, Affinity, Builder};

const LARGE: usize = 16 << 10;
/// The least that there is.
const STACK: usize = 64 << 10;

thread_local! {
    /// In the program's own block.
    static BLOCK: RefCell<[u8; LARGE]> = const { RefCell::new([7; LARGE]) };
    static LAST: Cell<u64> = const { Cell::new(0x1a57) };
    /// On the heap.
    static HEAP: RefCell<Vec<u8>> = RefCell::new(vec![9; 1 << 20]);
}

/// Uses so many bytes of the stack, and says where it ended.
#[inline(never)]
fn deep(bytes: usize) -> u8 {
    let room = std::hint::black_box([bytes as u8; 1 << 10]);
    let below = if bytes > 2 << 10 { deep(bytes - (2 << 10)) } else { 0 };
    thread::yield_now();
    assert!(room.iter().all(|byte| *byte == bytes as u8));
    below.wrapping_add(room[0])
}

#[test]
fn they_are_each_ones_own_and_the_stack_keeps_its_room() {
    if !start() {
        return;
    }
    for round in 0..4 {
        let handles = (1..100_u8).map(|number| {
            let roaming = Builder::new().affinity(Affinity::Roaming).stack_size(STACK);
            let body = move || {
                BLOCK.with_borrow_mut(|block| {
                    assert!(block.iter().all(|byte| *byte == 7), "as new, in round {round}");
                    block.fill(number);
                    // What is promised, but for what this has used already.
                    let unoptimised = if cfg!(debug_assertions) { 3 } else { 1 };
                    deep(STACK / 4 / unoptimised);
                    assert!(block.iter().all(|byte| *byte == number), "the stack is beside it");
                });
                HEAP.with_borrow_mut(|heap| {
                    assert!(heap[0] == 9 && heap.len() == 1 << 20);
                    heap[0] = number;
                });
                assert_eq!(LAST.replace(u64::from(number)), 0x1a57);
            };
            roaming.spawn(body).unwrap()
        });
        handles.collect::<Vec<_>>().into_iter().for_each(|handle| handle.join().unwrap());
    }
}
