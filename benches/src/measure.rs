//! Instruments used inside a measured process: pacing, samples, processor time, memory.

use std::time::{Duration, Instant};

use crate::cpus;

/// One figure of a workload. Every metric is a cost: lower is better.
#[derive(Clone, Debug, PartialEq)]
pub(crate) struct Metric {
    pub(crate) name: String,
    pub(crate) unit: String,
    pub(crate) value: f64,
}

impl Metric {
    pub(crate) fn new(name: &str, unit: &str, value: f64) -> Metric {
        Metric { name: name.to_owned(), unit: unit.to_owned(), value }
    }
}

/// Finds a count large enough to time: runs grow until one lasts as long as the budget, and that
/// one is the result. The earlier ones are its warm-up.
///
/// ```text
/// while let Some(n) = pace.next() { let t = Instant::now(); …n operations…; pace.took(t.elapsed()); }
/// ```
pub(crate) struct Pace {
    count: u64,
    step: u64,
    budget: Duration,
    took: Option<Duration>,
    runs: u32,
}

impl Pace {
    /// Counts stay multiples of `step`, so that they divide evenly among the goroutines.
    pub(crate) fn new(step: u64, budget: Duration) -> Pace {
        Pace { count: step, step, budget, took: None, runs: 0 }
    }

    /// The count to run next, or `None` when the last run was long enough.
    pub(crate) fn next(&mut self) -> Option<u64> {
        let Some(took) = self.took else {
            return Some(self.count);
        };
        // At least one warm-up, however slow the peer is.
        if self.runs >= 2 && took >= self.budget {
            return None;
        }
        let wanted = self.budget.as_secs_f64() * 1.2 / took.as_secs_f64().max(1e-9);
        let grown = (self.count as f64 * wanted.clamp(1.0, 10.0)) as u64;
        self.count = grown.max(self.step).div_ceil(self.step) * self.step;
        Some(self.count)
    }

    pub(crate) fn took(&mut self, took: Duration) {
        self.took = Some(took);
        self.runs += 1;
    }

    /// What one operation of the last run cost, as the workload's only metric.
    pub(crate) fn ns_each(&self) -> Vec<Metric> {
        let took = self.took.unwrap_or_default();
        let each = took.as_nanos() as f64 / self.count as f64;
        vec![Metric::new("each", "ns", each)]
    }
}

/// The `p`-th quantile (0.0 to 1.0) of `sorted`, by nearest rank.
pub(crate) fn quantile(sorted: &[f64], p: f64) -> f64 {
    assert!(!sorted.is_empty(), "no samples");
    let rank = (p * (sorted.len() - 1) as f64).round() as usize;
    sorted[rank]
}

/// `name_p50` and `name_p99` of samples in nanoseconds, as microseconds.
pub(crate) fn percentiles(name: &str, samples_ns: &[u64]) -> [Metric; 2] {
    let mut us: Vec<f64> = samples_ns.iter().map(|&ns| ns as f64 / 1e3).collect();
    us.sort_by(f64::total_cmp);
    [("p50", 0.50), ("p99", 0.99)]
        .map(|(label, p)| Metric::new(&format!("{name}_{label}"), "µs", quantile(&us, p)))
}

/// Processor time that all threads of this process have used.
pub(crate) fn cpu_time() -> Duration {
    let mut spec = libc::timespec { tv_sec: 0, tv_nsec: 0 };
    // SAFETY: `spec` is a valid place for a timespec; the clock exists on every Linux.
    let status = unsafe { libc::clock_gettime(libc::CLOCK_PROCESS_CPUTIME_ID, &mut spec) };
    assert_eq!(status, 0, "clock_gettime");
    Duration::new(spec.tv_sec as u64, spec.tv_nsec as u32)
}

/// Bytes of memory this process holds: resident pages and the page tables that map them.
///
/// Page tables are counted because a stack that touches one page of a large reservation costs a
/// page-table page too, which RSS does not show.
pub(crate) fn memory() -> u64 {
    let status = std::fs::read_to_string("/proc/self/status").expect("/proc/self/status");
    let kib = |key: &str| -> u64 {
        let line = status.lines().find_map(|line| line.strip_prefix(key));
        let figure = line.and_then(|rest| rest.split_whitespace().next());
        figure
            .and_then(|text| text.parse().ok())
            .unwrap_or_else(|| panic!("no {key} in /proc/self/status"))
    };
    (kib("VmRSS:") + kib("VmPTE:")) * 1024
}

/// Confines this process to `procs` processors, for peers that have no such setting.
pub(crate) fn pin_to(procs: usize) {
    let allowed = cpus::allowed();
    if procs < allowed.len() {
        cpus::confine(&allowed[..procs]);
    }
}

/// The lengths of the `many_sleeps` sleeps: 1 to 500 ms, the same for every peer.
///
/// Xorshift64*, seeded by position; `go/sleeps.go` has the same lines.
pub(crate) fn sleep_length(position: u64) -> Duration {
    let mut x = (position + 1).wrapping_mul(0x9E37_79B9_7F4A_7C15);
    x ^= x >> 12;
    x ^= x << 25;
    x ^= x >> 27;
    let random = x.wrapping_mul(0x2545_F491_4F6C_DD1D) >> 33;
    Duration::from_micros(1_000 + random % 499_001)
}

/// Sleeps the OS thread until `deadline`; returns at once when it has passed.
pub(crate) fn sleep_thread_until(deadline: Instant) {
    std::thread::sleep(deadline.saturating_duration_since(Instant::now()));
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn pace_ends_with_a_run_that_fills_the_budget() {
        let mut pace = Pace::new(4, Duration::from_millis(1));
        let mut runs = Vec::new();
        while let Some(n) = pace.next() {
            assert_eq!(n % 4, 0);
            runs.push(n);
            pace.took(Duration::from_nanos(100 * n));
        }
        assert!(runs.len() >= 2 && *runs.last().unwrap() >= 10_000, "{runs:?}");
        assert_eq!(pace.ns_each()[0].value, 100.0);
    }

    #[test]
    fn quantiles_are_nearest_ranks() {
        let samples: Vec<u64> = (0..=100).rev().map(|us| us * 1_000).collect();
        let [p50, p99] = percentiles("late", &samples);
        assert_eq!((p50.value, p99.value), (50.0, 99.0));
        assert_eq!(p50.name, "late_p50");
    }

    #[test]
    fn sleep_lengths_cover_the_range() {
        let lengths: Vec<_> = (0..10_000).map(sleep_length).collect();
        let mean = lengths.iter().sum::<Duration>() / 10_000;
        assert!(lengths.iter().all(|d| (1..=500).contains(&d.as_millis())));
        assert!((240..=260).contains(&mean.as_millis()), "{mean:?}");
    }

    #[test]
    fn memory_and_processor_time_are_seen() {
        let (bytes, cpu) = (memory(), cpu_time());
        let block = std::hint::black_box(vec![1u8; 32 << 20]);
        assert!(memory() > bytes + (24 << 20));
        assert!(cpu_time() > cpu);
        drop(block);
    }
}
