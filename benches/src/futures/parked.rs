//! What many waiting tasks cost: memory, waking, timers.

use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};
use std::time::{Duration, Instant};

use super::{Channels, Runtime};
use crate::measure::{Metric, cpu_time, memory, percentiles, sleep_length};
use crate::workload::Sizes;

/// `n` tasks wait on one channel; each gets one message. Tasks have no stacks to size.
pub(super) async fn parked<R: Runtime, C: Channels>(n: usize) -> Vec<Metric> {
    // Warm up, and touch the memory that holds the handles, so that neither is counted.
    for _ in 0..100 {
        assert_eq!(R::join(R::go(async { 1 })).await, 1);
    }
    let mut handles: Vec<Option<R::Handle>> = Vec::new();
    handles.resize_with(n, || None);
    let up = Arc::new(AtomicU64::new(0));
    let (tx, rx) = C::channel(0);

    let before = memory();
    let start = Instant::now();
    for slot in &mut handles {
        let (up, mut rx) = (up.clone(), C::another_rx(&rx));
        *slot = Some(R::go(async move {
            up.fetch_add(1, Ordering::Relaxed);
            C::recv(&mut rx).await.expect("a message for each")
        }));
    }
    drop(rx);
    while up.load(Ordering::Relaxed) < n as u64 {
        R::sleep(Duration::from_millis(1)).await;
    }
    let created = start.elapsed();
    // The last of them has still to get from the counter to the channel.
    R::sleep(Duration::from_millis(50)).await;
    let bytes = memory().saturating_sub(before);

    let start = Instant::now();
    for _ in 0..n {
        assert!(C::send(&tx, 1).await);
    }
    let mut woken = 0;
    for handle in handles.into_iter().flatten() {
        woken += R::join(handle).await;
    }
    let ended = start.elapsed();
    assert_eq!(woken, n as u64, "tasks were lost");
    vec![
        Metric::new("bytes", "B", bytes as f64 / n as f64),
        Metric::new("create", "ns", created.as_nanos() as f64 / n as f64),
        Metric::new("wake_join", "ns", ended.as_nanos() as f64 / n as f64),
    ]
}

/// Twice, as those who block do.
pub(super) async fn many_sleeps<R: Runtime>(sizes: Sizes) -> Vec<Metric> {
    let (late, used) = sleeps::<R>(&sizes).await;
    let (_, used_again) = sleeps::<R>(&sizes).await;
    let mut metrics =
        vec![Metric::new("cpu", "s", used), Metric::new("cpu_again", "s", used_again)];
    metrics.extend(percentiles("late", &late));
    metrics
}

/// How late each was, and the CPU time of all.
async fn sleeps<R: Runtime>(sizes: &Sizes) -> (Vec<u64>, f64) {
    let cpu = cpu_time();
    let handles: Vec<_> = (0..sizes.sleeps)
        .map(|i| {
            R::go(async move {
                let length = sleep_length(i);
                let start = Instant::now();
                R::sleep(length).await;
                let slept = start.elapsed();
                assert!(slept >= length, "woken early");
                (slept - length).as_nanos() as u64
            })
        })
        .collect();
    let mut late = Vec::with_capacity(handles.len());
    for handle in handles {
        late.push(R::join(handle).await);
    }
    let used = (cpu_time() - cpu).as_secs_f64();
    (late, used)
}
