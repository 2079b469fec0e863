//! What becomes of others when goroutines hold their threads, and what an idle runtime uses.
//!
//! The main thread, which is no goroutine, directs these.

use std::hint::black_box;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};
use std::time::{Duration, Instant};

use super::{Channels, Runtime, channels, tasks};
use crate::measure::{Metric, cpu_time, percentiles, sleep_thread_until};
use crate::workload::Sizes;

/// How often a fresh goroutine is started beside the hogs.
const TICK: Duration = Duration::from_millis(5);

pub(super) fn blocked_threads<R: Runtime>(sizes: &Sizes) -> Vec<Metric> {
    let blocked = Arc::new(AtomicU64::new(0));
    let blockers: Vec<_> = (0..2 * sizes.procs)
        .map(|_| {
            let (blocked, length) = (blocked.clone(), sizes.block);
            R::go(move || {
                blocked.fetch_add(1, Ordering::Relaxed);
                std::thread::sleep(length);
                1
            })
        })
        .collect();
    // From the moment when every processor is held.
    while blocked.load(Ordering::Relaxed) < sizes.procs as u64 {
        std::thread::sleep(Duration::from_micros(50));
    }

    let done = Arc::new(AtomicU64::new(0));
    let took_ns = Arc::new(AtomicU64::new(0));
    let fresh = sizes.fresh;
    let start = Instant::now();
    let handles: Vec<_> = (0..fresh)
        .map(|_| {
            let (done, took_ns) = (done.clone(), took_ns.clone());
            R::go(move || {
                if done.fetch_add(1, Ordering::Relaxed) + 1 == fresh {
                    took_ns.store(start.elapsed().as_nanos() as u64, Ordering::Relaxed);
                }
                1
            })
        })
        .collect();
    let joined: u64 = handles.into_iter().map(R::join).sum();
    assert_eq!(joined, fresh, "goroutines were lost");
    let blockers: u64 = blockers.into_iter().map(R::join).sum();
    assert_eq!(blockers, 2 * sizes.procs as u64);
    let ms = took_ns.load(Ordering::Relaxed) as f64 / 1e6;
    vec![Metric::new("all_done", "ms", ms)]
}

pub(super) fn hog_latency<R: Runtime>(sizes: &Sizes) -> Vec<Metric> {
    let stop = Arc::new(AtomicBool::new(false));
    let hogging = Arc::new(AtomicU64::new(0));
    let hogs: Vec<_> = (0..sizes.procs)
        .map(|_| {
            let (stop, hogging) = (stop.clone(), hogging.clone());
            R::go(move || {
                hogging.fetch_add(1, Ordering::Relaxed);
                let mut x = 1u64;
                while !stop.load(Ordering::Relaxed) {
                    for _ in 0..1_000 {
                        x = black_box(x.wrapping_mul(3));
                    }
                }
                1
            })
        })
        .collect();
    while hogging.load(Ordering::Relaxed) < sizes.procs as u64 {
        std::thread::sleep(Duration::from_micros(50));
    }

    let began = Instant::now();
    let ticks = (sizes.hog.as_nanos() / TICK.as_nanos()) as u32;
    let mut handles = Vec::new();
    let mut lags = Vec::new();
    for tick in 1..=ticks {
        let due = began + TICK * tick;
        sleep_thread_until(due);
        let spawned = Instant::now();
        lags.push((spawned - due).as_nanos() as u64);
        handles.push(R::go(move || spawned.elapsed().as_nanos() as u64));
    }
    stop.store(true, Ordering::Relaxed);
    let delays: Vec<u64> = handles.into_iter().map(R::join).collect();
    assert_eq!(hogs.into_iter().map(R::join).sum::<u64>(), sizes.procs as u64);
    let since_due: Vec<u64> = delays.iter().zip(&lags).map(|(d, l)| d + l).collect();
    let mut metrics = percentiles("delay", &delays).to_vec();
    metrics.extend(percentiles("since_due", &since_due));
    metrics
}

pub(super) fn idle_cpu<R: Runtime, C: Channels>(sizes: &Sizes) -> Vec<Metric> {
    let work = sizes.clone();
    R::root(move || {
        tasks::spawn_join::<R>(&work);
        channels::ping_pong::<R, C>(&work);
        tasks::yields::<R>(1_000, &work);
    });
    // The kernel books what a thread has used when it stops running, or at a tick, of 4 ms.
    std::thread::sleep(Duration::from_millis(10));
    let cpu = cpu_time();
    std::thread::sleep(sizes.idle);
    let used = (cpu_time() - cpu).as_secs_f64();
    vec![Metric::new("cpu", "µs", used * 1e6)]
}
