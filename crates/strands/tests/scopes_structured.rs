//! Scopes whose children may fail: who is cancelled, what is reported, and that all are waited for.

mod process;

use process::{on_processors, parameter, stage};
use std::panic::{AssertUnwindSafe, catch_unwind, resume_unwind};
use std::sync::atomic::{AtomicUsize, Ordering};
use std::time::Duration;
use strands::channel::bounded;
use strands::context::{self, ContextError};
use strands::{Failed, runtime, supervise, try_scope, try_scope_with};

const HOUR: Duration = Duration::from_secs(3600);

#[test]
fn children_borrow_and_success_is_the_bodys_value() {
    on_processors(&[1, 2, 4], || {
        let words = ["one".to_owned(), "two".to_owned()];
        let mut total = 0;
        let counted = AtomicUsize::new(0);
        let joined = try_scope(|s| {
            let lengths: Vec<_> =
                words.iter().map(|word| s.go(|| Ok::<_, ()>(word.len()))).collect();
            s.go(|| {
                total = 7;
                // A child starts others.
                for _ in 0..100 {
                    s.go(|| {
                        counted.fetch_add(1, Ordering::SeqCst);
                        Ok(())
                    });
                }
                Ok(())
            });
            Ok(lengths.into_iter().map(|length| length.join().unwrap()).sum::<usize>())
        });
        assert_eq!((joined, total, counted.load(Ordering::SeqCst)), (Ok(6), 7, 100));
    });
}

#[test]
fn the_first_error_by_time_is_returned_and_cancels_the_rest() {
    let (release, released) = bounded::<()>(0);
    let failed = try_scope(|s| {
        for _ in 0..3 {
            s.go(|| s.context().sleep(HOUR).map_err(|error| error.to_string()));
        }
        // Started last, fails first.
        let failing = s.go(|| {
            released.recv().unwrap();
            Err::<(), _>("first".to_owned())
        });
        assert!(!failing.is_finished());
        release.send(()).unwrap();
        assert_eq!(failing.join(), None);
        Ok(())
    });
    let canceled = ContextError::Canceled.to_string();
    assert_eq!(failed, Err(Failed { first: "first".to_owned(), others: vec![canceled; 3] }));
    let failed = failed.unwrap_err();
    assert_eq!((failed.to_string(), failed.clone().into_first()), ("first".into(), "first".into()));
}

#[test]
fn the_bodys_error_counts_as_a_childs() {
    let failed = try_scope(|s| {
        s.go(|| s.context().sleep(HOUR).map_err(|_| 2));
        Err::<(), _>(1)
    });
    assert_eq!(failed, Err(Failed { first: 1, others: vec![2] }));
}

#[test]
fn errors_may_borrow() {
    let text = String::from("local");
    let failed = try_scope(|s| {
        s.go(|| Err::<(), &str>(&text));
        Ok(())
    });
    assert_eq!(failed.unwrap_err().first, "local");
}

#[test]
fn a_panic_cancels_is_waited_out_and_goes_before_errors() {
    let ended = AtomicUsize::new(0);
    let body = || {
        try_scope(|s| {
            for _ in 0..3 {
                s.go(|| {
                    let slept = s.context().sleep(HOUR);
                    ended.fetch_add(1, Ordering::SeqCst);
                    slept
                });
            }
            let panics = s.go(|| -> Result<(), _> { resume_unwind(Box::new(7_u8)) });
            assert_eq!(panics.join(), None);
            Ok(())
        })
    };
    let payload = catch_unwind(AssertUnwindSafe(body)).unwrap_err();
    assert_eq!(payload.downcast_ref(), Some(&7_u8));
    assert_eq!(ended.load(Ordering::SeqCst), 3);
    // The body's, too.
    let body = || {
        try_scope(|s| -> Result<(), ContextError> {
            s.go(|| s.context().sleep(HOUR));
            resume_unwind(Box::new(8_u8))
        })
    };
    let payload = catch_unwind(AssertUnwindSafe(body)).unwrap_err();
    assert_eq!(payload.downcast_ref(), Some(&8_u8));
}

#[test]
fn a_scope_is_under_a_context_and_its_own_ends_with_it() {
    let (top, cancel) = context::with_cancel(&context::background());
    let top = context::with_value(&top, "value");
    let mut kept = None;
    let done = try_scope_with(&top, |s| {
        kept = Some(s.context().clone());
        assert_eq!(s.context().value(), Some(&"value"));
        Ok::<_, ()>(s.context().err())
    });
    assert_eq!(done, Ok(None));
    assert_eq!(kept.unwrap().err(), Some(ContextError::Canceled));
    assert_eq!(top.err(), None);

    // A cancellation from above reaches the children, and alone is no failure.
    let told = try_scope_with(&top, |s| {
        let waits = s.go(|| Ok::<_, ()>(s.context().sleep(HOUR)));
        cancel.cancel();
        Ok(waits.join().unwrap())
    });
    assert_eq!(told, Ok(Err(ContextError::Canceled)));
    // One that was done before is seen from the start.
    let told = try_scope_with(&top, |s| Ok::<_, ()>(s.context().err()));
    assert_eq!(told, Ok(Some(ContextError::Canceled)));
}

#[test]
fn a_deadline_reaches_the_children() {
    let (top, _cancel) = context::with_timeout(&context::background(), Duration::from_millis(3));
    let late = try_scope_with(&top, |s| {
        for _ in 0..10 {
            s.go(|| s.context().sleep(HOUR));
        }
        Ok(())
    });
    let expected = Failed {
        first: ContextError::DeadlineExceeded,
        others: vec![ContextError::DeadlineExceeded; 9],
    };
    assert_eq!(late, Err(expected));
}

#[test]
fn a_forgotten_handle_keeps_nobody_from_being_waited_for() {
    let ended = AtomicUsize::new(0);
    let waited = try_scope(|s| {
        for _ in 0..50 {
            std::mem::forget(s.go(|| {
                strands::sleep(Duration::from_millis(1));
                ended.fetch_add(1, Ordering::SeqCst);
                Ok::<_, ()>(String::from("its result"))
            }));
        }
        Ok(())
    });
    assert_eq!((waited, ended.load(Ordering::SeqCst)), (Ok(()), 50));
}

#[test]
fn of_many_that_fail_at_once_all_are_reported() {
    on_processors(&[1, 2, 4], || {
        for _ in 0..100 {
            let failed = try_scope(|s| {
                for n in 0..20 {
                    s.go(move || {
                        strands::yield_now();
                        Err::<(), _>(n)
                    });
                }
                Ok(())
            });
            let Failed { first, others } = failed.unwrap_err();
            let mut all: Vec<_> = std::iter::once(first).chain(others).collect();
            all.sort_unstable();
            assert!(all.into_iter().eq(0..20));
        }
    });
}

#[test]
fn the_supervised_do_not_touch_each_other() {
    let numbers = [1, 2, 3, 4];
    let (tx, rx) = bounded::<()>(0);
    let (sum, outcomes) = supervise(|s| {
        for number in &numbers {
            let rx = rx.clone();
            s.go(move || match number {
                1 => resume_unwind(Box::new("lost")),
                2 => Err("failed"),
                _ => {
                    // After the others have failed.
                    rx.recv().unwrap();
                    Ok(*number)
                }
            });
        }
        tx.send(()).unwrap();
        tx.send(()).unwrap();
        numbers.iter().sum::<i32>()
    });
    assert_eq!((sum, outcomes.len()), (10, 4));
    assert_eq!(outcomes[0].as_ref().unwrap_err().downcast_ref(), Some(&"lost"));
    let rest: Vec<_> = outcomes.into_iter().skip(1).map(Result::unwrap).collect();
    assert_eq!(rest, [Err("failed"), Ok(3), Ok(4)]);
}

#[test]
fn a_supervisors_panic_is_its_own_and_waits() {
    let ended = AtomicUsize::new(0);
    let body = || {
        supervise(|s| {
            for _ in 0..10 {
                s.go(|| {
                    strands::sleep(Duration::from_millis(1));
                    ended.fetch_add(1, Ordering::SeqCst)
                });
            }
            resume_unwind(Box::new(7_u8))
        })
    };
    let caught = catch_unwind(AssertUnwindSafe(|| {
        let ((), _outcomes): ((), Vec<std::thread::Result<usize>>) = body();
    }));
    assert_eq!(caught.unwrap_err().downcast_ref(), Some(&7_u8));
    assert_eq!(ended.load(Ordering::SeqCst), 10);
}

#[test]
fn a_child_that_does_not_look_is_waited_for_and_a_deadlock_is_found() {
    let program = stage(|| {
        let (_tx, rx) = bounded::<()>(0);
        let _ = try_scope(|s| {
            // Waits without the context.
            s.go(|| rx.recv().map_err(|_| ()));
            Err::<(), _>(())
        });
    });
    let Some(program) = program else { return };
    let outcome = program.run();
    assert_eq!(outcome.status.code(), Some(2), "{outcome}");
    assert!(outcome.stderr.contains("scope end"), "{outcome}");
}

#[test]
fn where_panics_abort_they_do_so_in_scopes_and_groups_too() {
    let program = stage(|| {
        let config = runtime::Config::new().panic(runtime::PanicPolicy::Abort);
        runtime::configure(config).unwrap();
        // The body's is the caller's own affair.
        let body = || try_scope(|_| -> Result<(), ()> { resume_unwind(Box::new(())) });
        assert!(catch_unwind(AssertUnwindSafe(body)).is_err());
        eprintln!("so far, so good");
        match parameter().as_str() {
            "try_scope" => drop(try_scope(|s| {
                s.go(|| -> Result<(), ()> { panic!("on purpose") });
                Ok(())
            })),
            "supervise" => drop(supervise(|s| s.go(|| panic!("on purpose")))),
            _ => {
                let group = strands::sync::Group::<()>::new();
                group.go(|| panic!("on purpose"));
                let _ = group.wait();
            }
        }
    });
    let Some(program) = program else { return };
    for how in ["try_scope", "supervise", "group"] {
        let outcome = program.clone().parameter(how).run();
        assert_eq!(outcome.status.code(), Some(128 + libc::SIGABRT), "{how}: {outcome}");
        for words in ["so far, so good", "born at crates/strands/tests/scopes_structured.rs"] {
            assert!(outcome.stderr.contains(words), "{how}: {outcome}");
        }
    }
}
