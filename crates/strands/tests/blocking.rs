//! Calls that are known to block: they run on spare threads.

mod holding;
mod process;

use holding::{join_all, os_thread};
use process::on_processors;
use std::io::{Read, Write};
use std::sync::{Arc, Barrier};
use strands::{go, runtime};

const ONE: &[usize] = &[1];
const ONE_AND_TWO: &[usize] = &[1, 2];

#[test]
fn a_blocking_call_runs_on_another_thread_and_borrows() {
    on_processors(ONE_AND_TWO, || {
        strands::run(|| {
            let mut text = String::from("borrowed");
            let here = os_thread();
            let there = strands::blocking(|| {
                text.push_str(" and returned");
                os_thread()
            });
            assert_ne!(here, there);
            assert_eq!(here, os_thread(), "it went on elsewhere");
            assert_eq!(text, "borrowed and returned");
            // What runs there is no goroutine: it may block.
            let nested = strands::blocking(|| {
                let here = os_thread();
                (here, strands::blocking(os_thread))
            });
            assert_eq!(nested.0, nested.1);
        });
        let here = os_thread();
        assert_eq!(strands::blocking(os_thread), here, "a plain thread may block");
    });
}

#[test]
fn a_panic_in_a_blocking_call_is_its_callers() {
    on_processors(ONE, || {
        let failed = go(|| strands::blocking(|| std::panic::panic_any(42_u32))).join();
        assert_eq!(failed.expect_err("it panics").downcast_ref(), Some(&42_u32));
        strands::run(|| {
            let caught = std::panic::catch_unwind(|| {
                strands::blocking(|| std::panic::resume_unwind(Box::new("payload")))
            });
            assert_eq!(caught.expect_err("it panics").downcast_ref(), Some(&"payload"));
            assert_eq!(strands::blocking(|| 7), 7, "the thread is still of use");
        });
    });
}

#[test]
fn two_hundred_blocking_calls_are_in_progress_at_once() {
    on_processors(ONE_AND_TWO, || {
        let barrier = Arc::new(Barrier::new(200));
        for _ in 0..3 {
            let calls: Vec<_> = (0..200)
                .map(|_| {
                    let barrier = Arc::clone(&barrier);
                    // None returns before all are there.
                    go(move || strands::blocking(|| barrier.wait().is_leader()))
                })
                .collect();
            let leaders = join_all(calls).into_iter().filter(|leader| *leader).count();
            assert_eq!(leaders, 1);
        }
        let threads = runtime::metrics().blocking_threads;
        assert!((200..=400).contains(&threads), "{threads} threads for 200 calls");
    });
}

#[test]
fn siblings_at_home_go_on_during_a_blocking_call() {
    on_processors(ONE, || {
        let (mut reader, mut writer) = std::io::pipe().expect("a pipe");
        strands::run(|| {
            let before = runtime::metrics();
            let sibling = go(move || {
                (0..100).for_each(|_| strands::yield_now());
                writer.write_all(b"!").expect("writable");
                os_thread()
            });
            // It gets to know its home before the call begins.
            strands::yield_now();
            strands::blocking(|| reader.read_exact(&mut [0]).expect("readable"));
            let roams = before.affinity == runtime::Affinity::Roaming;
            assert!(sibling.join().expect("no panic") == os_thread() || roams);
            let after = runtime::metrics();
            assert_eq!(after.handoffs_blocked, before.handoffs_blocked, "nobody was blocked");
        });
    });
}
