//! What locks cost, and waiting for a group of tasks.

use std::hint::black_box;
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};
use std::time::Instant;

use super::{Channels, Locks, Runtime};
use crate::measure::{Metric, Pace};
use crate::workload::{GROUP, SHARERS, Sizes, WRITE_EVERY};

/// `tasks` of them share the increments of one counter. A single one never waits.
pub(super) async fn mutex<R: Runtime, L: Locks>(tasks: u64, sizes: Sizes) -> Vec<Metric> {
    let counter = Arc::new(L::mutex());
    let (metrics, total) = turns::<R, _>(tasks, &sizes, |share| {
        let counter = counter.clone();
        async move {
            for _ in 0..share {
                L::increment(&counter).await;
            }
            share
        }
    })
    .await;
    assert_eq!(L::increment(&counter).await, total, "increments were lost");
    metrics
}

/// Each of them writes at every 1,000th turn and reads at the others.
pub(super) async fn rwlock_read<R: Runtime, L: Locks>(sizes: Sizes) -> Vec<Metric> {
    let counter = Arc::new(L::rwlock());
    let (metrics, total) = turns::<R, _>(SHARERS, &sizes, |share| {
        let counter = counter.clone();
        async move {
            for turn in 1..=share {
                if turn % WRITE_EVERY == 0 {
                    L::write(&counter).await;
                } else {
                    black_box(L::read(&counter).await);
                }
            }
            share
        }
    })
    .await;
    assert_eq!(L::read(&counter).await, total / WRITE_EVERY, "writes were lost");
    metrics
}

/// `tasks` of them, made by `one` of the turns each has to take; also returns the turns of all runs.
async fn turns<R: Runtime, F: Future<Output = u64> + Send + 'static>(
    tasks: u64,
    sizes: &Sizes,
    one: impl Fn(u64) -> F,
) -> (Vec<Metric>, u64) {
    let mut pace = Pace::new(tasks * WRITE_EVERY, sizes.budget);
    let mut total = 0;
    while let Some(n) = pace.next() {
        let start = Instant::now();
        let handles: Vec<_> = (0..tasks).map(|_| R::go(one(n / tasks))).collect();
        for handle in handles {
            total += R::join(handle).await;
        }
        pace.took(start.elapsed());
    }
    (pace.ns_each(), total)
}

/// Again and again 1,000 tasks are started and waited for. There is no wait group: each task holds
/// a sender, and the channel's end is the end of all.
pub(super) async fn waitgroup<R: Runtime, C: Channels>(sizes: Sizes) -> Vec<Metric> {
    let mut pace = Pace::new(GROUP, sizes.budget);
    while let Some(n) = pace.next() {
        let done = Arc::new(AtomicU64::new(0));
        let start = Instant::now();
        for _ in 0..n / GROUP {
            let (tx, mut rx) = C::channel(1);
            for _ in 0..GROUP {
                let (member, done) = (C::another_tx(&tx), done.clone());
                R::detach(R::go(async move {
                    done.fetch_add(1, Ordering::Relaxed);
                    drop(member);
                    0
                }));
            }
            drop(tx);
            assert_eq!(C::recv(&mut rx).await, None, "nobody sends");
        }
        pace.took(start.elapsed());
        assert_eq!(done.load(Ordering::Relaxed), n, "tasks were lost");
    }
    pace.ns_each()
}
