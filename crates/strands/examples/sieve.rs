//! The prime sieve: a pipeline that grows by one goroutine for each prime.
//!
//! ```text
//! 2 3 4 5 …          3 5 7 9 …          5 7 11 13 …
//! numbers ──▶ not by 2 ────▶ not by 3 ────▶ not by 5 ──▶ …
//! ```
//!
//! Whatever comes out at the end of the pipeline is a prime: it was divisible by none of those
//! before it. It gets a filter of its own, which becomes the new end. The channels are rendezvous
//! channels, so no goroutine works ahead; each is a process in Hoare's sense, with nothing but its
//! two ends. When enough primes are known, the last receiver is dropped, and the hang-up travels back
//! through the pipeline until the numbers themselves stop.
//!
//! ```text
//! cargo run --release --example sieve -- 1000
//! ```

use std::io::{self, Write};

use strands::channel::{self, Receiver, Sender};

#[path = "common/args.rs"]
mod args;

#[strands::main]
fn main() {
    let [count] = args::numbers("sieve [PRIMES]", [(100, 0..=100_000)]);

    strands::scope(|s| {
        let (tx, mut end) = channel::bounded(0);
        s.go(move || numbers(tx));

        for _ in 0..count {
            let prime = end.recv().expect("there is always a next number");
            // A closed pipe is a hang-up as well: whoever reads our primes has enough of them.
            if writeln!(io::stdout(), "{prime}").is_err() {
                break;
            }
            let (tx, rx) = channel::bounded(0);
            s.go(move || filter(prime, end, tx));
            end = rx;
        }
    });
}

/// Sends 2, 3, 4, … until nobody listens.
fn numbers(tx: Sender<u64>) {
    for n in 2.. {
        if tx.send(n).is_err() {
            return;
        }
    }
}

/// Passes on what `prime` does not divide, until either side hangs up.
fn filter(prime: u64, rx: Receiver<u64>, tx: Sender<u64>) {
    for n in rx {
        if !n.is_multiple_of(prime) && tx.send(n).is_err() {
            return;
        }
    }
}
