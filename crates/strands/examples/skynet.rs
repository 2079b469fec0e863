//! Skynet: a tree of goroutines ten wide, whose million leaves are added up.
//!
//! ```text
//!                 sum
//!         ┌────────┼────────┐
//!        sum      sum  …   sum
//!       ┌─┼─┐    ┌─┼─┐    ┌─┼─┐
//!       0 1 …                 … 999999
//! ```
//!
//! Each inner goroutine starts ten children, which know nothing of it but a channel to send their
//! number on, and adds up what they send. Each leaf sends its place. A tree of `LEVELS` levels has
//! 10^LEVELS leaves, so six of them print 499999500000, the sum of 0 to 999,999: the work is all in
//! starting and ending 1,111,111 goroutines.
//!
//! ```text
//! cargo run --release --example skynet -- 6
//! ```

use std::time::Instant;

use strands::channel::{self, Sender};
use strands::thread::Builder;

#[path = "common/args.rs"]
mod args;

const CHILDREN: u64 = 10;

#[strands::main]
fn main() {
    let [levels] = args::numbers("skynet [LEVELS]", [(6, 0..=8)]);
    let started = Instant::now();

    let (tx, rx) = channel::bounded(1);
    grow(0, CHILDREN.pow(levels as u32), tx);
    let sum = rx.recv().expect("the root sends its sum");
    println!("{sum}");

    eprintln!("{:.2?}", started.elapsed());
}

/// Starts a goroutine that sends the sum of the `leaves` leaves from `first` on.
fn grow(first: u64, leaves: u64, parent: Sender<u64>) {
    let node = move || {
        let sum = if leaves == 1 {
            first
        } else {
            // A child can leave its number here and end, without waiting for its parent to look.
            let (tx, rx) = channel::bounded(CHILDREN as usize);
            for child in 0..CHILDREN {
                let leaves = leaves / CHILDREN;
                grow(first + child * leaves, leaves, tx.clone());
            }
            drop(tx);
            rx.iter().sum()
        };
        parent.send(sum).expect("the parent counts to ten");
    };
    // A small stack: hundreds of thousands may be in use at once.
    let spawned = Builder::new().stack_size(64 << 10).spawn(node);
    spawned.expect("there is memory for another goroutine");
}
