//! Roaming goroutines, over more threads than there are processors on a small machine.

#![allow(dead_code, reason = "each test file uses a part of it")]

use std::sync::Once;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::time::{Duration, Instant};
use strands::runtime::{self, Config};
use strands::thread::{Affinity, Builder, JoinHandle};

/// Nothing here takes a tenth of it on an idle machine.
pub(crate) const PATIENCE: Duration = Duration::from_secs(240);

/// Three processors, whatever the machine has. False where goroutines cannot roam: these tests say so, and then have
/// nothing to test.
pub(crate) fn start() -> bool {
    static CONFIGURED: Once = Once::new();
    CONFIGURED.call_once(|| runtime::configure(Config::new().processors(3)).unwrap());
    roam(|| {}).join().unwrap();
    match runtime::metrics().roaming_refused {
        None => true,
        Some(why) => {
            eprintln!("skipped, for goroutines cannot roam here: {why}");
            if MUST_ROAM {
                panic!("they should be able to roam");
            }
            false
        }
    }
}

/// Where a refusal is a failure.
const MUST_ROAM: bool = cfg!(all(
    target_os = "linux",
    target_env = "gnu",
    target_arch = "x86_64",
    not(strands_portable_switch)
));

/// A roaming goroutine.
pub(crate) fn roam<T: Send + 'static>(f: impl FnOnce() -> T + Send + 'static) -> JoinHandle<T> {
    Builder::new().affinity(Affinity::Roaming).spawn(f).unwrap()
}

/// One that is at home, whatever the default.
pub(crate) fn stay<T: Send + 'static>(f: impl FnOnce() -> T + Send + 'static) -> JoinHandle<T> {
    Builder::new().affinity(Affinity::Home).spawn(f).unwrap()
}

/// The OS thread just now.
#[inline(never)]
pub(crate) fn tid() -> i32 {
    // SAFETY: it takes nothing.
    unsafe { libc::gettid() }
}

/// Counts how often a goroutine has changed its thread.
#[derive(Default)]
pub(crate) struct Moves {
    last: i32,
    pub(crate) count: usize,
}

impl Moves {
    pub(crate) fn look(&mut self) {
        let now = tid();
        if self.last != now && self.last != 0 {
            self.count += 1;
        }
        self.last = now;
    }
}

/// Goroutines at home, one on each of as many threads: they do not wait before all have started.
pub(crate) fn on_threads<T: Send + 'static>(
    count: usize,
    f: impl Fn(usize) -> T + Clone + Send + 'static,
) -> Vec<JoinHandle<T>> {
    let arrived = std::sync::Arc::new(AtomicUsize::new(0));
    let begun = Instant::now();
    (0..count)
        .map(|number| {
            let (arrived, f) = (arrived.clone(), f.clone());
            stay(move || {
                arrived.fetch_add(1, Ordering::SeqCst);
                while arrived.load(Ordering::SeqCst) < count {
                    assert!(begun.elapsed() < PATIENCE, "no thread for it");
                    std::thread::yield_now();
                }
                f(number)
            })
        })
        .collect()
}
