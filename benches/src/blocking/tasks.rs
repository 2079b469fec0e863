//! What goroutines themselves cost: spawn, join, yield, a tree of them.

use std::time::Instant;

use super::{Channels, Runtime};
use crate::measure::{Metric, Pace};
use crate::workload::Sizes;

pub(super) fn spawn_join<R: Runtime>(sizes: &Sizes) -> Vec<Metric> {
    let mut pace = Pace::new(16, sizes.budget);
    while let Some(n) = pace.next() {
        let start = Instant::now();
        let mut sum = 0;
        for i in 0..n {
            sum += R::join(R::go(move || i));
        }
        pace.took(start.elapsed());
        assert_eq!(sum, n * (n - 1) / 2, "results were lost");
    }
    pace.ns_each()
}

/// `goroutines` of them share the yields.
pub(super) fn yields<R: Runtime>(goroutines: u64, sizes: &Sizes) -> Vec<Metric> {
    let mut pace = Pace::new(goroutines * 10, sizes.budget);
    while let Some(n) = pace.next() {
        let each = n / goroutines;
        let start = Instant::now();
        let yielding = move || {
            (0..each).for_each(|_| R::yield_now());
            each
        };
        let handles: Vec<_> = (0..goroutines).map(|_| R::go(yielding)).collect();
        let done: u64 = handles.into_iter().map(R::join).sum();
        pace.took(start.elapsed());
        assert_eq!(done, n, "yields were lost");
    }
    pace.ns_each()
}

pub(super) fn skynet<R: Runtime, C: Channels>(sizes: &Sizes) -> Vec<Metric> {
    let leaves = sizes.leaves;
    let start = Instant::now();
    let (tx, mut rx) = C::channel(1);
    node::<R, C>(tx, 0, leaves);
    let sum = C::recv(&mut rx).expect("the root has sent its sum");
    let ms = start.elapsed().as_secs_f64() * 1e3;
    assert_eq!(sum, leaves * (leaves - 1) / 2, "leaves were lost");
    vec![Metric::new("total", "ms", ms)]
}

/// Starts the node whose leaves are `first..first + size`; it sends their sum to `parent`.
fn node<R: Runtime, C: Channels>(parent: C::Tx, first: u64, size: u64) {
    R::go(move || {
        if size == 1 {
            assert!(C::send(&parent, first));
            return 0;
        }
        let (tx, mut rx) = C::channel(10);
        for child in 0..10 {
            node::<R, C>(C::another_tx(&tx), first + child * (size / 10), size / 10);
        }
        let sum = (0..10).map(|_| C::recv(&mut rx).expect("a child")).sum();
        assert!(C::send(&parent, sum));
        0
    });
}
