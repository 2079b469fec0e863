//! Dining philosophers, with forks that are handed over and not locked.
//!
//! ```text
//!          (fork 0)  Aristotle  (fork 1)
//!     Confucius                    Hypatia
//!     (fork 4)                      (fork 2)
//!         Spinoza    (fork 3)    Laozi
//! ```
//!
//! A place on the table is a channel with room for one fork. To take the fork is to receive it, to put
//! it back is to send it, and in between it belongs to the philosopher: a fork that is not copied can
//! be in one hand only, which the compiler checks. Each fork counts its own meals without a lock.
//!
//! If everybody took the left fork first, all could hold one and wait for the other forever. Here
//! everybody takes the fork with the lower number first. A circle of waiting would have to go up
//! all the way round, and numbers do not: the philosopher between the last fork and the first takes
//! the first one first.
//!
//! ```text
//! cargo run --release --example philosophers -- 10000
//! ```

use strands::channel::{self, Receiver, Sender};

#[path = "common/args.rs"]
mod args;

const NAMES: [&str; 5] = ["Aristotle", "Hypatia", "Laozi", "Spinoza", "Confucius"];

/// Deliberately neither `Clone` nor `Copy`.
struct Fork {
    meals: u64,
}

/// Where a fork lies when nobody holds it.
#[derive(Clone)]
struct Place {
    put: Sender<Fork>,
    take: Receiver<Fork>,
}

impl Place {
    fn with_fork() -> Self {
        let (put, take) = channel::bounded(1);
        put.send(Fork { meals: 0 }).expect("both ends are here");
        Self { put, take }
    }

    fn take(&self) -> Fork {
        self.take.recv().expect("both ends are here")
    }

    fn put(&self, fork: Fork) {
        self.put.send(fork).expect("both ends are here");
    }
}

#[strands::main]
fn main() {
    let [meals] = args::numbers("philosophers [MEALS]", [(1_000, 0..=u64::MAX)]);

    let table = NAMES.map(|_| Place::with_fork());
    let diners: Vec<_> = (0..NAMES.len())
        .map(|seat| {
            let (left, right) = (seat, (seat + 1) % table.len());
            let first = table[left.min(right)].clone();
            let second = table[left.max(right)].clone();
            strands::go(move || dine(meals, &first, &second))
        })
        .collect();

    for (name, diner) in NAMES.iter().zip(diners) {
        let eaten = diner.join().expect("philosophers do not panic");
        println!("{name} has eaten {eaten} times");
    }
    for (number, place) in table.iter().enumerate() {
        println!("fork {number} was used {} times", place.take().meals);
    }
}

/// Eats `meals` times, thinking in between, and returns how often it was.
fn dine(meals: u64, first: &Place, second: &Place) -> u64 {
    let mut eaten = 0;
    while eaten < meals {
        let mut one = first.take();
        let mut other = second.take();
        one.meals += 1;
        other.meals += 1;
        eaten += 1;
        first.put(one);
        second.put(other);

        // To think is to let the others eat.
        strands::yield_now();
    }
    eaten
}
