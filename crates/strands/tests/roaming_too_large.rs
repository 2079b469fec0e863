//! A program with thread-locals that are too large to be at the top of each stack: its goroutines do not roam, and it is
//! told why.

mod child;

use child::Child;
use std::cell::RefCell;
use strands::runtime;
use strands::thread::{self, Affinity, Builder};

const HUGE: usize = 64 << 10;

thread_local! {
    static BLOCK: RefCell<[u8; HUGE]> = const { RefCell::new([7; HUGE]) };
}

#[test]
fn goroutines_are_at_home_and_that_is_said_once() {
    let test = "goroutines_are_at_home_and_that_is_said_once";
    let ended = Child::of(test).env("STRANDS_AFFINITY", "roaming").run(|| {
        for number in 1..50 {
            let roaming = Builder::new().affinity(Affinity::Roaming).stack_size(64 << 10);
            let body = move || {
                let before =
                    BLOCK.with_borrow_mut(|block| std::mem::replace(&mut block[0], number));
                thread::yield_now();
                assert_eq!(BLOCK.with_borrow(|block| block[0]), number);
                before
            };
            roaming.spawn(body).unwrap().join().unwrap();
        }
        let metrics = runtime::metrics();
        assert_eq!(metrics.affinity, Affinity::Home);
        println!("\nrefused {}", metrics.roaming_refused.expect("a reason"));
    });
    ended.assert_success();
    assert_eq!(ended.stderr.matches("cannot roam here").count(), 1, "{ended}");
    if cfg!(all(target_os = "linux", target_env = "gnu", target_arch = "x86_64")) {
        let why = ended.stdout.split_once("refused the thread-local block of a thread takes ");
        let bytes = why.and_then(|(_, bytes)| bytes.split_once(" bytes")).expect("how large").0;
        assert!((HUGE..2 * HUGE).contains(&bytes.parse().expect("a number")), "{ended}");
    }
}
