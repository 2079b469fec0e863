//! What tests of scheduling do to threads: compute, and wait for one another.

#![allow(dead_code, reason = "each test file uses a part of it")]

use std::hint::black_box;
use std::sync::atomic::{AtomicBool, Ordering::SeqCst};
use std::thread::ThreadId;
use strands::{JoinHandle, go, runtime};

/// Computes, without a system call, until `done`.
pub(crate) fn compute_until(done: impl Fn() -> bool) {
    let mut sum = 0_u64;
    while !done() {
        for n in 0..100 {
            sum = black_box(sum.wrapping_mul(31) + n);
        }
    }
}

pub(crate) fn set(flag: &AtomicBool) {
    flag.store(true, SeqCst);
}

pub(crate) fn is_set(flag: &AtomicBool) -> bool {
    flag.load(SeqCst)
}

/// How many processors have been taken from workers.
pub(crate) fn handoffs() -> u64 {
    let metrics = runtime::metrics();
    metrics.handoffs_blocked + metrics.handoffs_hogging
}

/// The OS thread that this runs on.
pub(crate) fn os_thread() -> ThreadId {
    std::thread::current().id()
}

pub(crate) fn join_all<T>(handles: impl IntoIterator<Item = JoinHandle<T>>) -> Vec<T> {
    // All are started before the first is waited for.
    let handles: Vec<_> = handles.into_iter().collect();
    handles.into_iter().map(|handle| handle.join().expect("no panic")).collect()
}

/// Whether a thousand fresh goroutines run, however long that takes.
pub(crate) fn a_thousand_run() {
    assert_eq!(join_all((0..1000).map(|n| go(move || n))).len(), 1000);
}
