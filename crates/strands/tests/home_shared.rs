//! What goroutines at home on one thread share, since it is the thread's: sound, and as `Affinity` says.

mod process;

use process::stage;
use std::cell::{OnceCell, RefCell};
use std::io::Write;
use std::panic::{AssertUnwindSafe, catch_unwind};
use std::sync::{Arc, OnceLock};
use std::time::{Duration, Instant};
use strands::channel::{Sender, bounded};
use strands::{JoinHandle, go, thread};

thread_local! {
    static BORROWED: RefCell<u32> = const { RefCell::new(0) };
    static ONCE: OnceCell<u32> = const { OnceCell::new() };
}

/// Runs `first` until it waits at the channel, then `then`, then lets it go on: all at home on the one thread.
fn while_it_waits<T: Send + 'static>(
    first: impl FnOnce(&dyn Fn()) -> T + Send + 'static,
    then: impl FnOnce() + Send + 'static,
) -> T {
    strands::run(move || {
        let (tx, rx) = bounded::<()>(0);
        let (arrived, arrives): (Sender<()>, _) = bounded(1);
        let waits: JoinHandle<T> = go(move || {
            first(&|| {
                arrived.send(()).unwrap();
                rx.recv().unwrap();
            })
        });
        arrives.recv().unwrap();
        then();
        tx.send(()).unwrap();
        waits.join().unwrap()
    })
}

#[test]
fn siblings_share_borrows_locks_of_streams_and_the_token_of_stds_park() {
    let Some(program) = stage(|| {
        // A borrow that is held while one waits is held against the others, who panic.
        let value = while_it_waits(
            |wait| {
                BORROWED.with_borrow_mut(|value| {
                    wait();
                    *value += 1;
                    *value
                })
            },
            || {
                let taken = BORROWED.with(|value| value.try_borrow_mut().is_err());
                assert!(taken);
                let panics = catch_unwind(|| BORROWED.with_borrow_mut(|value| *value += 1));
                assert!(panics.is_err());
            },
        );
        assert_eq!(value, 1);
        // An initialiser of a cell that waits finds that another has been quicker, and panics.
        while_it_waits(
            |wait| {
                let initialise = || {
                    ONCE.with(|once| {
                        *once.get_or_init(|| {
                            wait();
                            1
                        })
                    })
                };
                assert!(catch_unwind(AssertUnwindSafe(initialise)).is_err());
            },
            || assert_eq!(ONCE.with(|once| *once.get_or_init(|| 2)), 2),
        );
        // The lock of a stream is the thread's.
        println!();
        while_it_waits(
            |wait| {
                let mut stdout = std::io::stdout().lock();
                write!(stdout, "mixed one ").unwrap();
                wait();
                writeln!(stdout, "end").unwrap();
            },
            || print!("two "),
        );
        // One token for both: whoever parks first takes it.
        while_it_waits(
            |wait| {
                std::thread::current().unpark();
                wait();
                // Taken.
                let begun = Instant::now();
                std::thread::park_timeout(Duration::from_millis(20));
                assert!(begun.elapsed() >= Duration::from_millis(20));
            },
            std::thread::park,
        );
        // Those of this crate are each one's own.
        while_it_waits(
            |wait| {
                thread::current().unpark();
                wait();
                thread::park();
            },
            || thread::park_timeout(Duration::from_millis(1)),
        );
    }) else {
        return;
    };
    let outcome = program.processors(1).env("STRANDS_AFFINITY", "home").run().succeeded();
    assert_eq!(outcome.value("mixed"), "one two end", "{outcome}");
}

#[test]
fn who_waits_in_an_initialiser_of_stds_that_a_sibling_is_in_is_told() {
    let Some(program) = stage(|| {
        std::thread::spawn(|| {
            let once = Arc::new(OnceLock::new());
            let theirs = Arc::clone(&once);
            while_it_waits(
                move |wait| {
                    once.get_or_init(|| {
                        wait();
                        1
                    });
                },
                move || {
                    theirs.get_or_init(|| 2);
                },
            );
        });
        std::thread::sleep(Duration::from_millis(2500));
    }) else {
        return;
    };
    let outcome = program.processors(1).env("STRANDS_AFFINITY", "home").run().succeeded();
    assert_eq!(outcome.stderr.matches("has blocked its thread").count(), 1, "{outcome}");
    assert!(outcome.stderr.contains("Once"), "where it waits: {outcome}");
    assert!(outcome.stderr.contains("remedy: "), "{outcome}");
}
