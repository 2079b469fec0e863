//! Contexts: who is told, once, in time, and what is left behind.

mod child;
mod contexts;
mod process;

use child::{Child, wait_until};
use contexts::{HOUR, canceled, root};
use process::{on_processors, stage};
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, AtomicUsize, Ordering};
use std::time::{Duration, Instant};
use strands::channel::{TryRecvError, unbounded};
use strands::context::{
    self, Context, ContextError, RecvContextError, SendContextError, Signal, SignalReceived,
};
use strands::{go, yield_now};

use ContextError::{Canceled, DeadlineExceeded};

#[test]
fn the_background_is_never_done_and_has_nothing() {
    for ctx in [root(), context::todo(), Context::default()] {
        assert_eq!((ctx.err(), ctx.check(), ctx.deadline()), (None, Ok(()), None));
        assert!(context::cause(&ctx).is_none());
        assert_eq!(ctx.done().try_recv(), Err(TryRecvError::Empty));
        assert_eq!(ctx.value::<u8>(), None);
        assert!(context::after_func(&ctx, || unreachable!()).stop());
    }
}

#[test]
fn errors_speak_as_in_go() {
    assert_eq!(Canceled.to_string(), "context canceled");
    assert_eq!(DeadlineExceeded.to_string(), "context deadline exceeded");
    assert_eq!(RecvContextError::from(Canceled).to_string(), "context canceled");
    assert_eq!(SendContextError::Done(1, Canceled).to_string(), "context canceled");
    let kind = |error| std::io::Error::from(error).kind();
    assert_eq!(kind(DeadlineExceeded), std::io::ErrorKind::TimedOut);
    assert_ne!(kind(Canceled), std::io::ErrorKind::Interrupted);
}

#[test]
fn a_cancellation_reaches_all_below_and_nobody_else() {
    let (top, cancel_top) = context::with_cancel(&root());
    let (left, cancel_left) = context::with_cancel(&top);
    let (right, _cancel_right) = context::with_cancel(&top);
    let (leaf, _cancel_leaf) = context::with_timeout(&context::with_value(&left, 1_u8), HOUR);
    let apart = context::without_cancel(&leaf);
    cancel_left.cancel();
    assert_eq!([&left, &leaf].map(Context::err), [Some(Canceled); 2]);
    assert_eq!([&top, &right, &apart].map(Context::err), [None; 3]);
    assert_eq!((leaf.value(), apart.value()), (Some(&1_u8), Some(&1_u8)));
    assert!(leaf.deadline().is_some() && apart.deadline().is_none());
    cancel_top.cancel();
    assert_eq!([&top, &right].map(Context::err), [Some(Canceled); 2]);
    let (late, _cancel) = context::with_cancel(&top);
    assert_eq!(late.err(), Some(Canceled), "one that comes too late is done from the start");
    assert!(late.done().recv().is_err());
    assert_eq!(apart.err(), None);
}

#[test]
fn the_first_cancellation_counts_and_its_cause_goes_down() {
    let (top, cancel_top) = context::with_cancel(&root());
    let (low, cancel_low) = context::with_cancel(&top);
    let words = |ctx: &Context| context::cause(ctx).map(|cause| cause.to_string());
    assert_eq!(words(&top), None);
    cancel_low.cancel_with("low");
    cancel_top.cancel_with("top");
    cancel_top.cancel_with("again");
    cancel_low.cancel();
    assert_eq!((words(&top).unwrap(), words(&low).unwrap()), ("top".into(), "low".into()));
    let (late, _cancel) = context::with_timeout(&top, Duration::ZERO);
    assert_eq!((words(&late).unwrap(), late.err()), ("top".into(), Some(Canceled)));
    assert_eq!(words(&canceled()).unwrap(), "context canceled");
    let error = context::cause(&canceled()).unwrap();
    assert_eq!(error.downcast_ref(), Some(&Canceled));
}

#[test]
fn a_deadline_may_have_a_cause_which_counts_if_it_comes_first() {
    let words = |ctx: &Context| context::cause(ctx).map(|cause| cause.to_string());
    let (late, _cancel) = context::with_timeout_cause(&root(), Duration::ZERO, "slow");
    assert_eq!((words(&late).unwrap(), late.err()), ("slow".into(), Some(DeadlineExceeded)));
    let (below, _cancel) = context::with_deadline_cause(&late, Instant::now() + HOUR, "slower");
    assert_eq!((words(&below).unwrap(), below.err()), ("slow".into(), Some(DeadlineExceeded)));
    let soon = Duration::from_millis(3);
    let (ctx, _cancel) = context::with_timeout_cause(&root(), soon, "soon");
    let (child, _keep) = context::with_timeout_cause(&ctx, HOUR, "never");
    assert_eq!(words(&child), None);
    assert_eq!(child.sleep(HOUR), Err(DeadlineExceeded));
    assert_eq!((words(&ctx).unwrap(), words(&child).unwrap()), ("soon".into(), "soon".into()));
    let (ctx, cancel) = context::with_timeout_cause(&root(), HOUR, "never");
    cancel.cancel_with("first");
    assert_eq!((words(&ctx).unwrap(), ctx.err()), ("first".into(), Some(Canceled)));
}

#[test]
fn of_many_who_cancel_at_once_one_wins() {
    for _ in 0..200 {
        let (ctx, cancel) = context::with_cancel(&root());
        let (below, _cancel) = context::with_cancel(&ctx);
        std::thread::scope(|s| {
            for n in 0..4 {
                let (ctx, cancel) = (&ctx, &cancel);
                s.spawn(move || {
                    cancel.cancel_with(n.to_string());
                    assert_eq!(ctx.err(), Some(Canceled));
                });
            }
        });
        let cause = context::cause(&ctx).unwrap().to_string();
        assert!(["0", "1", "2", "3"].contains(&&*cause));
        assert_eq!(context::cause(&below).unwrap().to_string(), cause);
    }
}

#[test]
fn a_deadline_ends_it_not_before_and_those_below() {
    let limit = Duration::from_millis(10);
    let before = Instant::now();
    let (ctx, _cancel) = context::with_timeout(&root(), limit);
    let (below, _keep) = context::with_timeout(&ctx, HOUR);
    assert_eq!(below.deadline(), ctx.deadline());
    assert!(ctx.deadline().unwrap() >= before + limit);
    let waits = {
        let below = below.clone();
        go(move || below.sleep(HOUR))
    };
    assert!(ctx.done().recv().is_err());
    assert!(before.elapsed() >= limit);
    assert_eq!(ctx.err(), Some(DeadlineExceeded));
    assert_eq!(waits.join().unwrap(), Err(DeadlineExceeded));
    assert_eq!(below.err(), Some(DeadlineExceeded));
    assert!(before.elapsed() < limit + Duration::from_secs(20));
}

#[test]
fn a_deadline_that_has_passed_ends_it_from_the_start_and_a_far_one_does_not_overflow() {
    let now = Instant::now();
    for moment in [now, now - Duration::from_millis(1)] {
        let (ctx, _cancel) = context::with_deadline(&root(), moment);
        assert_eq!((ctx.err(), ctx.deadline()), (Some(DeadlineExceeded), Some(moment)));
        assert!(ctx.done().try_recv() == Err(TryRecvError::Disconnected));
    }
    assert_eq!(context::with_timeout(&root(), Duration::ZERO).0.err(), Some(DeadlineExceeded));
    let (ctx, _cancel) = context::with_timeout(&root(), Duration::MAX);
    assert_eq!((ctx.err(), ctx.deadline()), (None, None));
    assert_eq!(ctx.sleep(Duration::from_millis(1)), Ok(()));
    let (ctx, _cancel) = context::with_timeout(&root(), HOUR * 24 * 365 * 100);
    assert_eq!(ctx.err(), None);
    assert_eq!(ctx.run(async { 1 }), Ok(1));
}

#[test]
fn dropping_the_handle_cancels_and_keeping_it_does_not() {
    let (ctx, cancel) = context::with_cancel(&root());
    let (kept, keep) = context::with_cancel(&ctx);
    keep.keep();
    assert_eq!(kept.err(), None);
    drop(cancel);
    assert_eq!([&ctx, &kept].map(Context::err), [Some(Canceled); 2]);
    let (kept, keep) = context::with_timeout(&root(), Duration::from_millis(2));
    keep.keep();
    assert!(kept.done().recv().is_err());
    assert_eq!(kept.err(), Some(DeadlineExceeded));
}

#[test]
fn nobody_can_make_it_done_by_way_of_its_receiver() {
    let (ctx, cancel) = context::with_cancel(&root());
    let done = ctx.done().clone();
    done.close();
    ctx.done().close();
    assert_eq!((done.is_closed(), done.try_recv()), (false, Err(TryRecvError::Empty)));
    drop(done.clone());
    let done_of_kept = {
        let (kept, keep) = context::with_cancel(&root());
        keep.keep();
        kept.done().clone()
    };
    assert_eq!(done_of_kept.try_recv(), Err(TryRecvError::Empty), "gone is not cancelled");
    cancel.cancel();
    assert_eq!(done.try_recv(), Err(TryRecvError::Disconnected));
}

#[test]
fn values_are_found_by_type_the_latest_first() {
    #[derive(Debug, PartialEq)]
    struct User(&'static str);
    let ctx = context::with_value(&root(), User("one"));
    let (below, _cancel) = context::with_cancel(&context::with_value(&ctx, 7_u64));
    let other = context::with_value(&below, User("other"));
    assert_eq!((ctx.value(), ctx.value::<u64>()), (Some(&User("one")), None));
    assert_eq!((below.value(), below.value()), (Some(&User("one")), Some(&7_u64)));
    assert_eq!((other.value(), other.value()), (Some(&User("other")), Some(&7_u64)));
    assert_eq!(other.value::<&str>(), None);
}

#[test]
fn a_function_is_called_once_when_it_is_done_or_at_once_if_it_is() {
    let (ctx, cancel) = context::with_cancel(&root());
    let (tx, rx) = unbounded();
    let send = |n: u32| {
        let tx = tx.clone();
        move || tx.send(n).unwrap()
    };
    let _first = context::after_func(&ctx, send(1));
    let second = context::after_func(&ctx, send(2));
    let third = context::after_func(&ctx, send(3));
    assert!(second.stop());
    assert_eq!(rx.try_recv(), Err(TryRecvError::Empty));
    cancel.cancel();
    cancel.cancel();
    let mut called = [rx.recv().unwrap(), rx.recv().unwrap()];
    called.sort_unstable();
    assert_eq!(called, [1, 3]);
    assert!(!third.stop(), "too late");
    let late = context::after_func(&ctx, send(4));
    assert_eq!(rx.recv(), Ok(4));
    assert!(!late.stop());
    drop(tx);
    assert!(rx.recv().is_err(), "and nothing else");
}

#[test]
fn a_function_is_dropped_with_its_context() {
    let (tx, rx) = unbounded::<u8>();
    let (ctx, cancel) = context::with_cancel(&root());
    drop(context::after_func(&ctx, move || drop(tx)));
    cancel.keep();
    assert_eq!(rx.try_recv(), Err(TryRecvError::Empty));
    drop(ctx);
    assert_eq!(rx.try_recv(), Err(TryRecvError::Disconnected));
}

#[test]
fn a_panic_in_a_function_harms_nobody_else() {
    let (ctx, cancel) = context::with_cancel(&root());
    let (below, _cancel) = context::with_cancel(&ctx);
    drop(context::after_func(&ctx, || std::panic::resume_unwind(Box::new("on purpose"))));
    let (tx, rx) = unbounded();
    drop(context::after_func(&below, move || tx.send(1).unwrap()));
    cancel.cancel();
    assert_eq!(rx.recv(), Ok(1));
}

#[test]
fn no_child_misses_the_cancellation_of_its_parent() {
    on_processors(&[1, 2, 4], || {
        for _ in 0..50 {
            let (top, cancel) = context::with_cancel(&root());
            let made = AtomicUsize::new(0);
            strands::scope(|s| {
                for n in 0..8 {
                    let (top, made) = (top.clone(), &made);
                    s.go(move || {
                        let mut kept = Vec::new();
                        // Until it is noticed from outside, and somewhat longer.
                        let mut left = 50;
                        while left > 0 {
                            let (child, keep) = context::with_cancel(&top);
                            let (grandchild, keep_too) = context::with_cancel(&child);
                            let is_asked = (kept.len() + n) % 2 == 0;
                            is_asked.then(|| grandchild.done().clone());
                            kept.push((child, keep, grandchild, keep_too));
                            made.fetch_add(1, Ordering::Relaxed);
                            left -= usize::from(top.err().is_some());
                            if kept.len() % 64 == 0 {
                                yield_now();
                            }
                        }
                        for (child, keep, grandchild, keep_too) in kept {
                            assert!(child.done().recv().is_err());
                            assert!(grandchild.done().recv().is_err());
                            assert_eq!(grandchild.err(), Some(Canceled));
                            keep.keep();
                            keep_too.keep();
                        }
                    });
                }
                wait_until("children are made", || made.load(Ordering::Relaxed) > 100);
                cancel.cancel();
            });
        }
    });
}

#[test]
fn nobody_who_asks_for_done_at_the_last_moment_waits_for_ever() {
    for round in 0..2_000 {
        let (ctx, cancel) = context::with_cancel(&root());
        let go_ahead = Arc::new(AtomicBool::new(false));
        let waits = {
            let (ctx, go_ahead) = (ctx.clone(), Arc::clone(&go_ahead));
            go(move || {
                while !go_ahead.load(Ordering::Acquire) {
                    yield_now();
                }
                ctx.done().recv().unwrap_err()
            })
        };
        go_ahead.store(true, Ordering::Release);
        for _ in 0..round % 64 {
            std::hint::spin_loop();
        }
        cancel.cancel();
        waits.join().unwrap();
    }
}

#[test]
fn a_hundred_thousand_who_wait_are_told_in_one_pass() {
    const COUNT: usize = 100_000;
    let (ctx, cancel) = context::with_cancel(&root());
    let (_tx, rx) = unbounded::<u8>();
    let ready = AtomicUsize::new(0);
    let mut told = Duration::ZERO;
    let mut from = Instant::now();
    strands::scope(|s| {
        for n in 0..COUNT {
            let (ctx, rx, ready) = (&ctx, &rx, &ready);
            s.go(move || {
                ready.fetch_add(1, Ordering::Relaxed);
                if n % 2 == 0 {
                    assert!(rx.recv_ctx(ctx).is_err());
                } else {
                    assert!(ctx.done().recv().is_err());
                }
            });
        }
        wait_until("all wait", || ready.load(Ordering::Relaxed) == COUNT);
        from = Instant::now();
        cancel.cancel();
        told = from.elapsed();
    });
    let all = from.elapsed();
    println!("{COUNT} waiters: cancelled in {told:?}, all ended after {all:?}");
    // A hundred times what is usual; were each to pass over the others, it would be hours.
    assert!(all < Duration::from_secs(100));
}

#[test]
fn a_chain_of_contexts_may_be_long() {
    let (top, cancel) = context::with_cancel(&root());
    let mut low = context::with_value(&top, 0_usize);
    for n in 0..200_000_usize {
        let (next, keep) = context::with_cancel(&low);
        keep.keep();
        low = context::with_value(&next, n);
    }
    cancel.cancel();
    assert_eq!(low.err(), Some(Canceled));
    drop(low);
    assert_eq!(top.err(), Some(Canceled));
}

#[test]
fn a_context_that_is_gone_leaves_no_timer_behind() {
    let program = stage(|| {
        for n in 0..1_000 {
            let (ctx, cancel) = context::with_timeout(&root(), HOUR);
            match n % 3 {
                0 => cancel.keep(),
                1 => drop(cancel),
                _ => drop((ctx, cancel)),
            }
        }
        // Were a timer left, something could still happen, and this would not be a deadlock.
        let (_tx, rx) = unbounded::<u8>();
        let _ = go(move || rx.recv()).join();
    });
    let Some(program) = program else { return };
    let outcome = program.run();
    assert_eq!(outcome.status.code(), Some(2), "{outcome}");
    assert!(outcome.stderr.contains("deadlock"), "{outcome}");
}

#[test]
fn who_waits_under_a_deadline_is_no_deadlock_and_without_it_is() {
    let program = stage(|| {
        let (_tx, rx) = unbounded::<u8>();
        let (ctx, _cancel) = context::with_timeout(&root(), Duration::from_millis(300));
        let receiver = rx.clone();
        let received = go(move || receiver.recv_ctx(&ctx)).join().unwrap();
        assert_eq!(received, Err(RecvContextError::Done(DeadlineExceeded)));
        eprintln!("so far, so good");
        let (ctx, _cancel) = context::with_cancel(&root());
        let _ = go(move || rx.recv_ctx(&ctx)).join();
    });
    let Some(program) = program else { return };
    let outcome = program.run();
    assert_eq!(outcome.status.code(), Some(2), "{outcome}");
    assert!(outcome.stderr.contains("so far, so good"), "{outcome}");
    assert!(outcome.stderr.contains("deadlock"), "{outcome}");
}

#[test]
fn a_signal_ends_its_contexts_and_the_second_one_the_process() {
    let raise = |signal: i32| {
        // SAFETY: no pointers.
        assert_eq!(unsafe { libc::raise(signal) }, 0);
    };
    let ended = Child::of("a_signal_ends_its_contexts_and_the_second_one_the_process").run(|| {
        use Signal::{Hangup, Interrupt, Terminate};
        // Whoever started the tests may have it ignored, as `nohup` does.
        // SAFETY: nobody else has set an action for it.
        unsafe { libc::signal(libc::SIGHUP, libc::SIG_DFL) };
        let (both, _keep) = context::signals(&root(), &[Interrupt, Terminate]).unwrap();
        let (one, _keep_too) = context::ctrl_c(&root()).unwrap();
        let (other, dropped) = context::signals(&root(), &[Hangup]).unwrap();
        raise(libc::SIGTERM);
        assert!(both.done().recv().is_err());
        let cause = context::cause(&both).unwrap();
        assert_eq!(cause.downcast_ref(), Some(&SignalReceived(Terminate)));
        assert_eq!((both.err(), one.err(), other.err()), (Some(Canceled), None, None));
        raise(libc::SIGINT);
        assert!(one.done().recv().is_err());
        assert_eq!(context::cause(&one).unwrap().to_string(), "received SIGINT");
        // The registration goes a moment after `done`.
        let (third, _keep) = context::signals(&root(), &[Terminate]).unwrap();
        raise(libc::SIGTERM);
        assert!(third.done().recv().is_err());
        drop(dropped);
        assert_eq!(other.err(), Some(Canceled));
        eprintln!("orderly");
        raise(libc::SIGHUP);
        unreachable!("it has its former effect again");
    });
    use std::os::unix::process::ExitStatusExt;
    assert_eq!(ended.status.signal(), Some(libc::SIGHUP), "{ended}");
    ended.assert_said(&["orderly"]);
}
