//! A worker pool: a fixed number of goroutines that take jobs from one channel.
//!
//! ```text
//!            jobs          results
//!           ┌────▶ worker ────┐
//! producer ─┼────▶ worker ────┼──▶ main
//!           └────▶ worker ────┘
//! ```
//!
//! The channel is the dispatcher: a worker that is free receives, so long jobs hold up nobody but
//! their own worker. Both channels are bounded, so the producer runs no further ahead than the
//! workers can follow. To stop, nobody says anything: the producer ends, the workers find the
//! channel closed and empty and end as well, and the results are complete.
//!
//! Job *n* counts the steps of the Collatz sequence from *n* down to 1. Which worker does it, and in
//! which order results arrive, differs from run to run; what is printed does not.
//!
//! ```text
//! cargo run --release --example worker_pool -- 8 1000000
//! ```

use std::cmp::Reverse;
use std::time::Instant;

use strands::channel;

#[path = "common/args.rs"]
mod args;

/// A job, and what came of it.
struct Answer {
    job: u64,
    steps: u64,
}

#[strands::main]
fn main() {
    let defaults = [(4, 1..=100_000), (100_000, 0..=1_000_000_000)];
    let [workers, jobs] = args::numbers("worker_pool [WORKERS [JOBS]]", defaults);
    let started = Instant::now();

    strands::scope(|s| {
        let (job_tx, job_rx) = channel::bounded(workers as usize);
        let (answer_tx, answer_rx) = channel::bounded(workers as usize);

        s.go(move || {
            for job in 1..=jobs {
                job_tx.send(job).expect("workers work until the jobs end");
            }
        });
        for _ in 0..workers {
            let (job_rx, answer_tx) = (job_rx.clone(), answer_tx.clone());
            s.go(move || {
                for job in job_rx {
                    let steps = collatz(job);
                    let answer = Answer { job, steps };
                    answer_tx.send(answer).expect("main takes all answers");
                }
            });
        }
        // The workers' ends are the ones that count.
        drop((job_rx, answer_tx));

        let (mut count, mut sum, mut longest) = (0_u64, 0, None);
        for answer in answer_rx {
            count += 1;
            sum += answer.steps;
            // Of equally long ones the first, whichever arrives first.
            longest = longest.max(Some((answer.steps, Reverse(answer.job))));
        }
        println!("workers: {workers}");
        println!("jobs: {count}");
        println!("sum: {sum}");
        if let Some((steps, Reverse(job))) = longest {
            println!("longest: {job}, {steps} steps");
        }
    });
    eprintln!("{:.2?}", started.elapsed());
}

/// How many steps lead from `n` to 1: halve it when even, else triple it and add one.
fn collatz(mut n: u64) -> u64 {
    let mut steps = 0;
    while n != 1 {
        n = if n.is_multiple_of(2) { n / 2 } else { 3 * n + 1 };
        steps += 1;
    }
    steps
}
