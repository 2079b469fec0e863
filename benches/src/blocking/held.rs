//! Goroutines that hold their threads among others that do not: computing, blocking, and now and then one of many.
//!
//! Each begins with a little of the same, unmeasured: what there is to learn about a program is learned early in
//! its life. The main thread, which is no goroutine, directs these.

use std::hint::black_box;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};
use std::time::{Duration, Instant};

use super::{Channels, Runtime};
use crate::measure::{Metric, percentiles, sleep_thread_until};
use crate::workload::Sizes;

/// Between two probes beside the hogs.
const TICK: Duration = Duration::from_millis(5);
/// How long the unmeasured beginning holds threads.
const WARM_UP: Duration = Duration::from_millis(50);
/// Calls that block at once, and the period of the ticker beside them.
const SLEEPERS: u64 = 8;
const TICKER: Duration = Duration::from_millis(1);
/// One request in so many is heavy; what each kind computes; how often one comes, for a load of three fifths on
/// two processors; how long a light one waits in between.
const HEAVY_EVERY: u32 = 51;
const HEAVY: Duration = Duration::from_millis(20);
const LIGHT: Duration = Duration::from_micros(10);
const ARRIVES_EVERY: Duration = Duration::from_micros(350);
const LIGHT_WAITS: Duration = Duration::from_micros(200);

fn compute_until(done: impl Fn() -> bool) {
    let mut x = 1u64;
    while !done() {
        for _ in 0..1_000 {
            x = black_box(x.wrapping_mul(3));
        }
    }
}

fn compute_for(length: Duration) {
    let begun = Instant::now();
    let mut x = 1u64;
    while begun.elapsed() < length {
        for _ in 0..100 {
            x = black_box(x.wrapping_mul(3));
        }
    }
}

fn hogs<R: Runtime>(count: u64, stop: &Arc<AtomicBool>) -> Vec<R::Handle> {
    let hog = || {
        let stop = stop.clone();
        R::go(move || {
            compute_until(|| stop.load(Ordering::Relaxed));
            1
        })
    };
    (0..count).map(|_| hog()).collect()
}

fn join_all<R: Runtime>(handles: Vec<R::Handle>) -> u64 {
    handles.into_iter().map(R::join).sum()
}

pub(super) fn hogs_beside<R: Runtime, C: Channels>(count: u64, sizes: &Sizes) -> Vec<Metric> {
    let stop = Arc::new(AtomicBool::new(false));
    let early = hogs::<R>(1, &stop);
    std::thread::sleep(WARM_UP);
    stop.store(true, Ordering::Relaxed);
    join_all::<R>(early);

    // One that waits to be made ready, and the rest: one that always has something to do, and yields.
    let (tx, mut rx) = C::channel(1_024);
    let began = Instant::now();
    let delays = Arc::new(std::sync::Mutex::new(Vec::new()));
    let ready = {
        let delays = delays.clone();
        R::go(move || {
            while let Some(due) = C::recv(&mut rx) {
                let late = (began.elapsed().as_nanos() as u64).saturating_sub(due);
                delays.lock().expect("no panic").push(late);
            }
            1
        })
    };
    let stop = Arc::new(AtomicBool::new(false));
    let units = Arc::new(AtomicU64::new(0));
    let rest = {
        let (stop, units) = (stop.clone(), units.clone());
        R::go(move || {
            while !stop.load(Ordering::Relaxed) {
                compute_for(2 * LIGHT);
                units.fetch_add(1, Ordering::Relaxed);
                R::yield_now();
            }
            1
        })
    };
    std::thread::sleep(TICK);
    let hogs = hogs::<R>(count, &stop);
    std::thread::sleep(WARM_UP);

    let (first, from) = (units.load(Ordering::Relaxed), Instant::now());
    let ticks = (sizes.hog.as_nanos() / TICK.as_nanos()) as u32;
    let mut fresh = Vec::new();
    for tick in 1..=ticks {
        let due = from + TICK * tick;
        sleep_thread_until(due);
        fresh.push(R::go(move || due.elapsed().as_nanos() as u64));
        assert!(C::send(&tx, (due - began).as_nanos() as u64), "it receives");
    }
    let done = units.load(Ordering::Relaxed) - first;
    let unit = from.elapsed().as_secs_f64() * 1e6 / done.max(1) as f64;
    stop.store(true, Ordering::Relaxed);
    let fresh: Vec<u64> = fresh.into_iter().map(R::join).collect();
    drop(tx);
    assert_eq!(R::join(ready) + R::join(rest) + join_all::<R>(hogs), 2 + count);
    let delays = delays.lock().expect("no panic");
    assert_eq!(delays.len(), ticks as usize, "messages were lost");
    let mut metrics = percentiles("fresh", &fresh).to_vec();
    metrics.extend(percentiles("ready", &delays));
    metrics.push(Metric::new("unit_of_rest", "µs", unit));
    metrics
}

pub(super) fn blocking_sleeps<R: Runtime>(sizes: &Sizes) -> Vec<Metric> {
    let sleepers = |length: Duration| -> Vec<R::Handle> {
        let sleeper = || {
            R::go(move || {
                std::thread::sleep(length);
                1
            })
        };
        (0..SLEEPERS).map(|_| sleeper()).collect()
    };
    join_all::<R>(sleepers(WARM_UP));

    let stop = Arc::new(AtomicBool::new(false));
    let worst = Arc::new(AtomicU64::new(0));
    let ticker = {
        let (stop, worst) = (stop.clone(), worst.clone());
        R::go(move || {
            let mut ticks = 0;
            while !stop.load(Ordering::Relaxed) {
                let due = Instant::now() + TICKER;
                R::sleep(TICKER);
                worst.fetch_max(due.elapsed().as_nanos() as u64, Ordering::Relaxed);
                ticks += 1;
            }
            ticks
        })
    };
    std::thread::sleep(WARM_UP);
    let began = Instant::now();
    assert_eq!(join_all::<R>(sleepers(sizes.block)), SLEEPERS);
    let wall = began.elapsed();
    stop.store(true, Ordering::Relaxed);
    assert!(R::join(ticker) > 1, "it never ticked");
    vec![
        Metric::new("wall", "ms", wall.as_secs_f64() * 1e3),
        Metric::new("worst_tick", "ms", worst.load(Ordering::Relaxed) as f64 / 1e6),
    ]
}

pub(super) fn skewed<R: Runtime>(sizes: &Sizes) -> Vec<Metric> {
    let request = |due: Instant, is_heavy: bool| {
        R::go(move || {
            if is_heavy {
                compute_for(HEAVY);
                return 0;
            }
            compute_for(LIGHT);
            R::sleep(LIGHT_WAITS);
            compute_for(LIGHT);
            due.elapsed().as_nanos() as u64
        })
    };
    let serve = |count: u32| {
        let began = Instant::now();
        let requests: Vec<_> = (1..=count)
            .map(|n| {
                let due = began + ARRIVES_EVERY * n;
                sleep_thread_until(due);
                request(due, n % HEAVY_EVERY == 0)
            })
            .collect();
        requests.into_iter().map(R::join).filter(|took| *took > 0).collect::<Vec<u64>>()
    };
    serve(4 * HEAVY_EVERY);
    let count = (sizes.hog.as_nanos() / ARRIVES_EVERY.as_nanos()) as u32;
    let light = serve(count);
    assert_eq!(light.len() as u32, count - count / HEAVY_EVERY, "requests were lost");
    percentiles("light", &light).to_vec()
}
