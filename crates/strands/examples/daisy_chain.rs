//! Chinese whispers: a daisy chain of goroutines, each of which adds one and passes it on.
//!
//! ```text
//! 1 ──▶ +1 ──▶ +1 ──▶ … ──▶ +1 ──▶ 1 + LENGTH
//! ```
//!
//! The whole chain stands before anything moves: every goroutine waits in a receive. Then one number
//! goes through it, from rendezvous to rendezvous, and at any moment exactly one goroutine has it.
//! It starts as 1, so a chain of 100,000 prints 100001.
//!
//! So many goroutines that wait at once deserve a word about memory. What each occupies is what it
//! has touched, a page; the room reserved for its stack costs address space, and a share of the page
//! tables that is smaller for small stacks. Hence the `stack_size`.
//!
//! ```text
//! cargo run --release --example daisy_chain -- 1000000
//! ```

use std::io;
use std::time::Instant;

use strands::channel;
use strands::thread::Builder;

#[path = "common/args.rs"]
mod args;

#[strands::main]
fn main() -> io::Result<()> {
    let [length] = args::numbers("daisy_chain [LENGTH]", [(100_000, 0..=10_000_000)]);
    let started = Instant::now();

    let (first, mut end) = channel::bounded(0);
    for _ in 0..length {
        let (tx, rx) = channel::bounded(0);
        let link = move || {
            // No number comes, or nobody takes it, only when `main` has given up.
            if let Ok(n) = end.recv() {
                let _ = tx.send(n + 1);
            }
        };
        Builder::new().stack_size(64 << 10).spawn(link)?;
        end = rx;
    }
    let built = started.elapsed();

    // From a goroutine of its own: in a chain without links the receiver is `main` itself.
    strands::go(move || first.send(1_u64));
    let last = end.recv().expect("every link passes the number on");
    println!("{last}");

    let passed = started.elapsed() - built;
    eprintln!("built in {built:.2?}, passed in {passed:.2?}");
    Ok(())
}
