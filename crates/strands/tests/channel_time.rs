//! Channels and the clock: time-outs, deadlines, and receivers whose messages are moments.
//!
//! Nothing here comes too early; and how late it comes is a machine's own affair, up to a minute.
#![cfg(not(loom))]

mod parties;

use parties::{Bell, CAPACITIES, Handle, KINDS, LONG, MIXES, channel, poll, start, start_blocked};
use std::pin::pin;
use std::task::Poll;
use std::time::{Duration, Instant};
use strands::channel::{
    Receiver, RecvTimeoutError, Select, SendTimeoutError, TryRecvError, after, at, bounded, never,
    tick, unbounded,
};
use strands::{select, select_biased};

const SHORT: Duration = Duration::from_millis(10);

/// Runs `f`, which takes that long.
#[track_caller]
fn takes<T>(least: Duration, f: impl FnOnce() -> T) -> T {
    let begun = Instant::now();
    let output = f();
    let taken = begun.elapsed();
    assert!(taken >= least && taken < LONG, "{taken:?} instead of {least:?}");
    output
}

// ---- Time-outs ----

#[test]
fn what_cannot_be_done_in_time_is_given_up_and_the_message_kept() {
    for kind in KINDS {
        start(kind, || {
            for cap in [0, 1] {
                let (tx, rx) = bounded(cap);
                let late = takes(SHORT, || rx.recv_timeout(SHORT));
                assert_eq!(late, Err(RecvTimeoutError::Timeout));
                let late = takes(SHORT, || rx.recv_deadline(Instant::now() + SHORT));
                assert_eq!(late, Err(RecvTimeoutError::Timeout));
                (0..cap).for_each(|_| tx.send(0).unwrap());
                let late = takes(SHORT, || tx.send_timeout(1, SHORT));
                assert_eq!(late, Err(SendTimeoutError::Timeout(1)));
                let late = takes(SHORT, || tx.send_deadline(1, Instant::now() + SHORT));
                assert_eq!(late, Err(SendTimeoutError::Timeout(1)));
                // All have left their lines.
                assert_eq!(rx.try_recv().is_ok(), cap == 1);
                assert_eq!(tx.try_send(1).is_ok(), cap == 1);
                assert_eq!(rx.try_recv().is_ok(), cap == 1);
                takes(SHORT, || {
                    select! {
                        recv(rx) -> _ => unreachable!("empty"),
                        recv(never::<()>()) -> _ => unreachable!("never"),
                        default(SHORT) => {}
                    }
                });
                let mut select = Select::new();
                select.recv(&rx);
                assert!(takes(SHORT, || select.select_timeout(SHORT).is_err()));
                assert!(takes(SHORT, || select.ready_deadline(Instant::now() + SHORT).is_err()));
            }
        })
        .join();
    }
}

#[test]
fn a_deadline_that_has_passed_allows_what_can_be_done_at_once() {
    let passed = Instant::now().checked_sub(SHORT).unwrap_or_else(Instant::now);
    for kind in KINDS {
        start(kind, move || {
            let (tx, rx) = bounded(1);
            for n in 0..100 {
                assert_eq!(tx.send_deadline(n, passed), Ok(()));
                assert_eq!(tx.send_timeout(n, Duration::ZERO), Err(SendTimeoutError::Timeout(n)));
                let mut select = Select::new();
                select.recv(&rx);
                assert_eq!(select.ready_timeout(Duration::ZERO), Ok(0));
                assert_eq!(select.select_deadline(passed).unwrap().recv(&rx), Ok(n));
                assert_eq!(rx.recv_deadline(passed), Err(RecvTimeoutError::Timeout));
                select! { send(tx, n) -> sent => sent.unwrap(), default(Duration::ZERO) => panic!() }
                assert_eq!(rx.recv_timeout(Duration::ZERO), Ok(n));
            }
        })
        .join();
    }
}

#[test]
fn what_comes_in_time_is_not_held_up() {
    for (one, other) in MIXES {
        for cap in CAPACITIES {
            let (tx, rx) = channel(cap);
            let waiting = start_blocked(one, move || rx.recv_timeout(LONG));
            let sending = start(other, move || tx.send_timeout(1, LONG));
            assert_eq!((waiting.join(), sending.join()), (Ok(1), Ok(())));
        }
    }
    for forever in [Duration::MAX, Duration::from_secs(u32::MAX as u64)] {
        let (tx, rx) = bounded(0);
        let waiting = start_blocked(KINDS[0], {
            let rx = rx.clone();
            move || select! { recv(rx) -> n => n.unwrap(), default(forever) => 0 }
        });
        tx.send_timeout(1, forever).unwrap();
        assert_eq!(waiting.join(), 1);
        let waiting = start_blocked(KINDS[1], move || rx.recv_timeout(forever));
        tx.send(2).unwrap();
        assert_eq!(waiting.join(), Ok(2));
    }
}

/// The deadline and the message come at about the same time: one of them has won, and both sides agree on that.
#[test]
fn a_deadline_and_a_message_that_race_agree_who_has_won() {
    for (one, other) in MIXES {
        for cap in [0, 1] {
            let (tx, rx) = bounded(cap);
            let sender = start(one, move || {
                let mut sent = Vec::new();
                for n in 0..300_u64 {
                    let patience = Duration::from_micros(n % 50);
                    let done = match n % 3 {
                        0 => tx.send_timeout(n, patience).is_ok(),
                        1 => {
                            select! { send(tx, n) -> sent => sent.is_ok(), default(patience) => false }
                        }
                        _ => tx.try_send(n).is_ok(),
                    };
                    if done {
                        sent.push(n);
                    }
                }
                sent
            });
            let receiver = start(other, move || {
                let mut received = Vec::new();
                for turn in 0.. {
                    let patience = Duration::from_micros(turn % 70);
                    let next = match turn % 2 {
                        0 => rx.recv_timeout(patience),
                        _ => select! {
                            recv(rx) -> n => n.map_err(Into::into),
                            recv(after(patience)) -> _ => Err(RecvTimeoutError::Timeout),
                        },
                    };
                    match next {
                        Ok(n) => received.push(n),
                        Err(RecvTimeoutError::Timeout) => {}
                        Err(RecvTimeoutError::Disconnected) => break,
                    }
                }
                received
            });
            assert_eq!(sender.join(), receiver.join(), "{one:?} {other:?} {cap}");
        }
    }
}

// ---- Moments ----

#[test]
fn after_and_at_give_one_moment_and_then_nothing() {
    for kind in KINDS {
        start(kind, || {
            let begun = Instant::now();
            let rx = after(SHORT);
            assert_eq!(
                (rx.capacity(), rx.len(), rx.is_empty(), rx.is_full()),
                (Some(1), 0, true, false)
            );
            assert_eq!(rx.try_recv(), Err(TryRecvError::Empty));
            let moment = takes(SHORT.saturating_sub(begun.elapsed()), || rx.recv().unwrap());
            assert!(moment >= begun + SHORT && moment <= Instant::now());
            assert_eq!(rx.try_recv(), Err(TryRecvError::Empty));
            assert_eq!(rx.recv_timeout(SHORT), Err(RecvTimeoutError::Timeout));
            select! { recv(rx) -> _ => unreachable!("it was taken"), default(SHORT) => {} }
            assert_eq!(rx.len(), 0);

            let when = Instant::now() + SHORT;
            let rx = at(when);
            let mut select = Select::new();
            select.recv(&rx);
            assert_eq!(select.ready(), 0);
            assert!(Instant::now() >= when && rx.is_full() && rx.len() == 1);
            assert_eq!(select.select().recv(&rx), Ok(when));
            assert!(select.ready_timeout(SHORT).is_err());
            // What is past is now.
            assert_eq!(at(begun).recv(), Ok(begun));
        })
        .join();
    }
}

#[test]
fn of_many_who_wait_for_a_moment_one_gets_it() {
    for kind in KINDS {
        let rx = after(SHORT);
        let waiting: Vec<_> = (0..8)
            .map(|n| {
                let rx = rx.clone();
                start(kind, move || match n % 2 {
                    0 => rx.recv_timeout(10 * SHORT).is_ok(),
                    _ => select! { recv(rx) -> when => when.is_ok(), default(10 * SHORT) => false },
                })
            })
            .collect();
        let got = waiting.into_iter().map(Handle::join).filter(|got| *got).count();
        // If all have given up before it came, which takes a slow machine, it stays.
        let left = usize::from(rx.try_recv().is_ok());
        assert_eq!(got + left, 1);
    }
}

#[test]
fn ticks_are_apart_and_do_not_pile_up() {
    for kind in KINDS {
        start(kind, || {
            let begun = Instant::now();
            let rx = tick(SHORT);
            assert_eq!((rx.try_recv(), rx.len()), (Err(TryRecvError::Empty), 0));
            let mut moments = vec![begun];
            for turn in 0..9 {
                moments.push(match turn % 3 {
                    0 => rx.recv().unwrap(),
                    1 => select! { recv(rx) -> when => when.unwrap(), recv(never::<()>()) -> _ => begun },
                    _ => rx.recv_timeout(LONG).unwrap(),
                });
                assert!(*moments.last().unwrap() <= Instant::now());
            }
            assert!(moments.windows(2).all(|pair| pair[1] - pair[0] >= SHORT), "{moments:?}");
            // However many were due: one waits.
            strands::sleep(5 * SHORT);
            assert_eq!((rx.len(), rx.is_full()), (1, true));
            let before = Instant::now();
            let late = rx.try_recv().unwrap();
            assert!(late < before);
            // The next is due that long after this one was received, not after it was due.
            assert!(rx.recv().unwrap() >= before + SHORT);
        })
        .join();
    }
}

#[test]
fn a_tick_that_comes_too_late_for_a_deadline_is_left_to_the_next() {
    for kind in KINDS {
        start(kind, || {
            let begun = Instant::now();
            let rx = tick(10 * SHORT);
            // It is not asked when it gives up, but whether the tick is due by then: so this holds at any speed.
            let early = rx.recv_deadline(begun + SHORT);
            assert_eq!(early, Err(RecvTimeoutError::Timeout));
            let first = rx.recv().unwrap();
            assert!(first - begun >= 10 * SHORT);
        })
        .join();
    }
}

#[test]
fn never_is_never() {
    for kind in KINDS {
        start(kind, || {
            let rx: Receiver<i32> = never();
            assert_eq!(takes(SHORT, || rx.recv_timeout(SHORT)), Err(RecvTimeoutError::Timeout));
            assert_eq!((rx.try_recv(), rx.capacity()), (Err(TryRecvError::Empty), Some(0)));
            assert_eq!((rx.len(), rx.is_empty(), rx.is_full()), (0, true, true));
            takes(SHORT, || select! { recv(rx) -> _ => unreachable!(), default(SHORT) => {} });
            assert!(poll(pin!(rx.recv_async()), &Bell::new()).is_pending());
        })
        .join();
    }
}

#[test]
fn too_far_away_is_never() {
    for rx in [after(Duration::MAX), tick(Duration::MAX)] {
        assert_eq!(rx.recv_timeout(SHORT), Err(RecvTimeoutError::Timeout));
        let (tx, other) = unbounded();
        tx.send(()).unwrap();
        select! { recv(rx) -> _ => unreachable!(), recv(other) -> _ => {} }
    }
}

// ---- Several clocks in one select ----

#[test]
fn the_first_moment_wins_and_the_others_stay() {
    for kind in KINDS {
        start(kind, || {
            let begun = Instant::now();
            let moments: Vec<_> = (1..=3).map(|n| begun + n * SHORT).collect();
            let [a, b, c] = [0, 1, 2].map(|n| at(moments[n]));
            for expected in &moments {
                let got = select_biased! {
                    recv(a) -> when => when.unwrap(),
                    recv(b) -> when => when.unwrap(),
                    recv(c) -> when => when.unwrap(),
                    default(LONG) => unreachable!("late"),
                };
                assert_eq!(got, *expected);
            }
            assert!(a.try_recv().is_err() && b.try_recv().is_err() && c.try_recv().is_err());
        })
        .join();
    }
}

#[test]
fn a_message_beats_a_moment_that_is_far_away_and_leaves_it() {
    for (one, other) in MIXES {
        let (tx, rx) = bounded(0);
        let late = after(LONG);
        let waiting = start_blocked(one, {
            let late = late.clone();
            move || select! { recv(late) -> _ => unreachable!("late"), recv(rx) -> n => n.unwrap() }
        });
        start(other, move || tx.send(1).unwrap()).join();
        assert_eq!((waiting.join(), late.len()), (1, 0));
    }
}

#[test]
fn clones_are_the_same_clock() {
    let rx = after(Duration::ZERO);
    let clone = rx.clone();
    assert!(rx.same_channel(&clone) && !rx.same_channel(&after(Duration::ZERO)));
    assert!(clone.recv().is_ok());
    assert!(rx.try_recv().is_err());
    assert!(never::<()>().same_channel(&never()));
}

#[test]
fn a_moment_that_has_come_is_ready_for_a_future() {
    assert!(matches!(
        poll(pin!(after(Duration::ZERO).recv_async()), &Bell::new()),
        Poll::Ready(Ok(_))
    ));
}
