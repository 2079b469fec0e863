//! What many waiting goroutines cost: memory, waking, timers.

use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};
use std::time::{Duration, Instant};

use super::{Channels, Runtime};
use crate::measure::{Metric, cpu_time, memory, percentiles, sleep_length};
use crate::workload::Sizes;

/// `n` goroutines, with stacks of 64 KiB when `dense`, wait on one channel; each gets one message.
pub(super) fn parked<R: Runtime, C: Channels>(n: usize, dense: bool) -> Vec<Metric> {
    // Warm up, and touch the memory that holds the handles, so that neither is counted.
    (0..100).for_each(|_| assert_eq!(R::join(R::go(|| 1)), 1));
    let mut handles: Vec<Option<R::Handle>> = Vec::new();
    handles.resize_with(n, || None);
    let up = Arc::new(AtomicU64::new(0));
    let (tx, rx) = C::channel(0);

    let before = memory();
    let start = Instant::now();
    for slot in &mut handles {
        let (up, mut rx) = (up.clone(), C::another_rx(&rx));
        let wait = move || {
            up.fetch_add(1, Ordering::Relaxed);
            C::recv(&mut rx).expect("a message for each")
        };
        *slot = Some(if dense { R::go_dense(wait) } else { R::go(wait) });
    }
    while up.load(Ordering::Relaxed) < n as u64 {
        R::sleep(Duration::from_millis(1));
    }
    let created = start.elapsed();
    // The last of them has still to get from the counter to the channel.
    R::sleep(Duration::from_millis(50));
    let bytes = memory().saturating_sub(before);

    let start = Instant::now();
    (0..n).for_each(|_| assert!(C::send(&tx, 1)));
    let woken: u64 = handles.into_iter().flatten().map(R::join).sum();
    let ended = start.elapsed();
    assert_eq!(woken, n as u64, "goroutines were lost");
    vec![
        Metric::new("bytes", "B", bytes as f64 / n as f64),
        Metric::new("create", "ns", created.as_nanos() as f64 / n as f64),
        Metric::new("wake_join", "ns", ended.as_nanos() as f64 / n as f64),
    ]
}

/// Twice: the second time with the stacks of the first.
pub(super) fn many_sleeps<R: Runtime>(sizes: &Sizes) -> Vec<Metric> {
    let (late, used) = sleeps::<R>(sizes);
    let (_, used_again) = sleeps::<R>(sizes);
    let mut metrics =
        vec![Metric::new("cpu", "s", used), Metric::new("cpu_again", "s", used_again)];
    metrics.extend(percentiles("late", &late));
    metrics
}

/// How late each was, and the CPU time of all.
fn sleeps<R: Runtime>(sizes: &Sizes) -> (Vec<u64>, f64) {
    let cpu = cpu_time();
    let handles: Vec<_> = (0..sizes.sleeps)
        .map(|i| {
            R::go(move || {
                let length = sleep_length(i);
                let start = Instant::now();
                R::sleep(length);
                let slept = start.elapsed();
                assert!(slept >= length, "woken early");
                (slept - length).as_nanos() as u64
            })
        })
        .collect();
    let late: Vec<u64> = handles.into_iter().map(R::join).collect();
    let used = (cpu_time() - cpu).as_secs_f64();
    (late, used)
}
