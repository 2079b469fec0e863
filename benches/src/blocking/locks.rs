//! What locks cost, and waiting for a group of goroutines.

use std::hint::black_box;
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};
use std::time::Instant;

use super::{Locks, Runtime};
use crate::measure::{Metric, Pace};
use crate::workload::{GROUP, SHARERS, Sizes, WRITE_EVERY};

/// `goroutines` of them share the increments of one counter. A single one never waits.
pub(super) fn mutex<R: Runtime, L: Locks>(goroutines: u64, sizes: &Sizes) -> Vec<Metric> {
    let counter = Arc::new(L::mutex());
    let (metrics, total) = turns::<R, _>(goroutines, sizes, |share| {
        let counter = counter.clone();
        move || {
            (0..share).for_each(|_| _ = L::increment(&counter));
            share
        }
    });
    assert_eq!(L::increment(&counter), total, "increments were lost");
    metrics
}

/// Each of them writes at every 1,000th turn and reads at the others.
pub(super) fn rwlock_read<R: Runtime, L: Locks>(sizes: &Sizes) -> Vec<Metric> {
    let counter = Arc::new(L::rwlock());
    let (metrics, total) = turns::<R, _>(SHARERS, sizes, |share| {
        let counter = counter.clone();
        move || {
            for turn in 1..=share {
                if turn % WRITE_EVERY == 0 {
                    L::write(&counter);
                } else {
                    black_box(L::read(&counter));
                }
            }
            share
        }
    });
    assert_eq!(L::read(&counter), total / WRITE_EVERY, "writes were lost");
    metrics
}

/// `goroutines` of them, made by `one` of the turns each has to take; also returns the turns of all runs.
fn turns<R: Runtime, F: FnOnce() -> u64 + Send + 'static>(
    goroutines: u64,
    sizes: &Sizes,
    one: impl Fn(u64) -> F,
) -> (Vec<Metric>, u64) {
    let mut pace = Pace::new(goroutines * WRITE_EVERY, sizes.budget);
    let mut total = 0;
    while let Some(n) = pace.next() {
        let start = Instant::now();
        let handles: Vec<_> = (0..goroutines).map(|_| R::go(one(n / goroutines))).collect();
        total += handles.into_iter().map(R::join).sum::<u64>();
        pace.took(start.elapsed());
    }
    (pace.ns_each(), total)
}

/// Again and again 1,000 goroutines are started and waited for.
pub(super) fn waitgroup<L: Locks>(sizes: &Sizes) -> Vec<Metric> {
    let mut pace = Pace::new(GROUP, sizes.budget);
    while let Some(n) = pace.next() {
        let done = Arc::new(AtomicU64::new(0));
        let start = Instant::now();
        (0..n / GROUP).for_each(|_| L::gather(GROUP, &done));
        pace.took(start.elapsed());
        assert_eq!(done.load(Ordering::Relaxed), n, "goroutines were lost");
    }
    pace.ns_each()
}
