//! Groups: all are waited for, the first failure counts, and no panic is swallowed.

mod child;
mod process;

use child::wait_until;
use process::on_processors;
use std::panic::{AssertUnwindSafe, catch_unwind, resume_unwind};
use std::sync::Arc;
use std::sync::atomic::{AtomicUsize, Ordering};
use strands::channel::{bounded, unbounded};
use strands::context::{self, ContextError};
use strands::sync::Group;

#[test]
fn all_are_waited_for_and_success_is_ok() {
    let group = Group::<()>::new();
    let ended = Arc::new(AtomicUsize::new(0));
    for n in 0..100 {
        let ended = Arc::clone(&ended);
        group.go(move || {
            (0..n % 7).for_each(|_| strands::yield_now());
            ended.fetch_add(1, Ordering::SeqCst);
            Ok(())
        });
    }
    assert_eq!(group.wait(), Ok(()));
    assert_eq!(ended.load(Ordering::SeqCst), 100);
    assert_eq!(Group::<()>::default().wait(), Ok(()), "an empty one");
}

#[test]
fn the_first_error_by_time_counts_and_the_others_are_not_lost() {
    let (group, ctx) = Group::with_context(&context::background());
    // Started in another order than that in which they fail.
    for n in [2, 3] {
        let ctx = ctx.clone();
        group.go(move || match ctx.done().recv() {
            Err(_) => Err(n),
        });
    }
    group.go(|| Err(1));
    group.go(|| Ok(()));
    let errors = group.wait_all();
    assert_eq!((errors.len(), errors[0]), (3, 1));
    assert_eq!(group.wait(), Ok(()), "they have been told");
    group.go(|| Err(4));
    assert_eq!(group.wait(), Err(4), "it is as new");
}

#[test]
fn a_failure_cancels_the_siblings_and_success_only_at_the_end() {
    let (top, _cancel) = context::with_cancel(&context::background());
    let (group, ctx) = Group::with_context(&top);
    let waits = ctx.clone();
    group.go(move || waits.sleep(std::time::Duration::from_secs(3600)).map_err(|e| e.to_string()));
    group.go(|| Err("the first".to_owned()));
    assert_eq!(group.wait_all(), ["the first", "context canceled"]);
    assert_eq!(top.err(), None);

    let (group, ctx) = Group::<()>::with_context(&top);
    let seen = ctx.clone();
    group.go(move || {
        assert_eq!(seen.err(), None);
        Ok(())
    });
    assert_eq!(group.wait(), Ok(()));
    assert_eq!(ctx.err(), Some(ContextError::Canceled));
}

#[test]
fn the_parents_cancellation_reaches_the_group() {
    let (top, cancel) = context::with_cancel(&context::background());
    let (group, ctx) = Group::with_context(&top);
    for _ in 0..3 {
        let ctx = ctx.clone();
        group.go(move || match ctx.done().recv() {
            Err(_) => ctx.check(),
        });
    }
    cancel.cancel();
    assert_eq!(group.wait_all(), [ContextError::Canceled; 3]);
}

#[test]
fn a_panic_cancels_and_comes_out_of_wait() {
    let (group, ctx) = Group::with_context(&context::background());
    let ended = Arc::new(AtomicUsize::new(0));
    for _ in 0..3 {
        let (ctx, ended) = (ctx.clone(), Arc::clone(&ended));
        group.go(move || {
            let Err(_) = ctx.done().recv();
            ended.fetch_add(1, Ordering::SeqCst);
            Err("cancelled")
        });
    }
    group.go(|| resume_unwind(Box::new(7_u8)));
    let payload = catch_unwind(AssertUnwindSafe(|| group.wait())).unwrap_err();
    assert_eq!(payload.downcast_ref(), Some(&7_u8));
    assert_eq!(ended.load(Ordering::SeqCst), 3, "all have ended before");
    assert_eq!(group.wait(), Ok(()), "it is told once");
}

#[test]
fn of_several_panics_one_comes_out_and_once() {
    let group = Group::<()>::new();
    let (tx, rx) = bounded::<()>(0);
    group.go(move || {
        let _ = rx.recv();
        resume_unwind(Box::new("second"))
    });
    group.go(move || {
        let _tx = tx;
        resume_unwind(Box::new("first"))
    });
    let payload = catch_unwind(AssertUnwindSafe(|| group.wait())).unwrap_err();
    // The second one is let go while the first unwinds, so either may be recorded first; one is.
    assert!(["first", "second"].contains(payload.downcast_ref::<&str>().unwrap()));
    assert_eq!(group.wait(), Ok(()));
}

#[test]
fn no_more_run_than_may() {
    on_processors(&[1, 2, 4], || {
        const LIMIT: usize = 3;
        let group = Group::<()>::new();
        group.set_limit(LIMIT);
        let (running, most) = (Arc::new(AtomicUsize::new(0)), Arc::new(AtomicUsize::new(0)));
        for _ in 0..2_000 {
            let (running, most) = (Arc::clone(&running), Arc::clone(&most));
            group.go(move || {
                let now = running.fetch_add(1, Ordering::SeqCst) + 1;
                most.fetch_max(now, Ordering::SeqCst);
                strands::yield_now();
                running.fetch_sub(1, Ordering::SeqCst);
                Ok(())
            });
        }
        assert_eq!(group.wait(), Ok(()));
        let most = most.load(Ordering::SeqCst);
        assert!((1..=LIMIT).contains(&most), "{most}");
    });
}

#[test]
fn at_the_limit_go_waits_and_try_go_does_not() {
    let group = Group::<()>::new();
    group.set_limit(1);
    let (tx, rx) = bounded::<()>(0);
    let wait = rx.clone();
    group.go(move || wait.recv().map_err(|_| ()));
    assert!(!group.try_go(|| unreachable!("the limit is reached")));
    let other = {
        let group = group.clone();
        strands::go(move || group.go(|| Ok(())))
    };
    std::thread::sleep(std::time::Duration::from_millis(5));
    assert!(!other.is_finished());
    tx.send(()).unwrap();
    other.join().unwrap();
    assert_eq!(group.wait(), Ok(()));
    assert!(group.try_go(|| Err(())));
    assert_eq!(group.wait(), Err(()));
    assert!(Group::<()>::new().try_go(|| Ok(())), "without a limit it always does");
}

#[test]
fn a_panic_gives_its_turn_back() {
    let group = Group::<()>::new();
    group.set_limit(1);
    for _ in 0..3 {
        group.go(|| resume_unwind(Box::new(())));
    }
    assert!(catch_unwind(AssertUnwindSafe(|| group.wait())).is_err());
}

#[test]
fn a_limit_is_set_once_and_early() {
    let refused = |group: &Group<()>, limit| {
        catch_unwind(AssertUnwindSafe(|| group.set_limit(limit))).is_err()
    };
    let group = Group::new();
    assert!(refused(&group, 0));
    group.set_limit(2);
    assert!(refused(&group, 3));
    let group = Group::new();
    let (tx, rx) = bounded::<()>(0);
    group.go(move || rx.recv().map_err(|_| ()));
    assert!(refused(&group, 3));
    tx.send(()).unwrap();
    assert_eq!(group.wait(), Ok(()));
}

#[test]
fn a_member_may_start_others_and_many_may_wait() {
    let group = Group::<()>::new();
    let (tx, rx) = unbounded();
    let spawner = group.clone();
    group.go(move || {
        for n in 0..10 {
            let (tx, again) = (tx.clone(), spawner.clone());
            spawner.go(move || {
                again.go(move || {
                    tx.send(n).unwrap();
                    Ok(())
                });
                Ok(())
            });
        }
        Ok(())
    });
    let waiters: Vec<_> = (0..3)
        .map(|_| {
            let group = group.clone();
            std::thread::spawn(move || group.wait())
        })
        .collect();
    for waiter in waiters {
        assert_eq!(waiter.join().unwrap(), Ok(()));
    }
    assert_eq!(rx.iter().count(), 10);
}

#[test]
fn a_group_that_nobody_has_cancels_its_context_when_the_last_has_ended() {
    let (group, ctx) = Group::<()>::with_context(&context::background());
    let (tx, rx) = bounded::<()>(0);
    group.go(move || rx.recv().map_err(|_| ()));
    drop(group);
    assert_eq!(ctx.err(), None);
    tx.send(()).unwrap();
    wait_until("the context is cancelled", || ctx.err().is_some());
}
