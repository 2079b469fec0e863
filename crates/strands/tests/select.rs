//! What a select does: one of several things, and nothing else; each as likely as any other; and nobody starves.
#![cfg(not(loom))]

mod parties;
mod process;

use parties::{
    CAPACITIES, Handle, KINDS, Kind, LONG, MIXES, channel, start, start_blocked, wait_until,
};
use std::ops::Range;
use std::sync::Arc;
use std::sync::atomic::{AtomicUsize, Ordering::SeqCst};
use std::time::{Duration, Instant};
use strands::channel::{
    Receiver, RecvError, Select, SendError, Sender, TryRecvError, TrySendError, after, bounded,
    never, unbounded,
};
use strands::{select, select_biased};

// ---- One of several things, and nothing else ----

#[test]
fn a_losing_arm_has_received_nothing_and_sent_nothing() {
    for (one, other) in MIXES {
        for cap in [Some(1), Some(3), None] {
            let inputs: [_; 3] = std::array::from_fn(|_| channel(cap));
            let outputs: [_; 3] = std::array::from_fn(|_| channel(cap));
            let (sent, received) = start(one, {
                let (inputs, outputs) = (inputs.clone(), outputs.clone());
                move || {
                    inputs.iter().for_each(|(tx, _)| tx.send(7).unwrap());
                    let [a, b, c] = [&inputs[0].1, &inputs[1].1, &inputs[2].1];
                    let [x, y, z] = [&outputs[0].0, &outputs[1].0, &outputs[2].0];
                    select! {
                        recv(a) -> n => (0, n.unwrap()),
                        send(x, 1) -> sent => (1, sent.map(|()| 0).unwrap()),
                        recv(b) -> n => (0, n.unwrap()),
                        send(y, 1) -> sent => (1, sent.map(|()| 0).unwrap()),
                        recv(c) -> n => (0, n.unwrap()),
                        send(z, 1) -> sent => (1, sent.map(|()| 0).unwrap()),
                    }
                }
            })
            .join();
            let (left, gone) = start(other, move || {
                let left = inputs.iter().filter(|(_, rx)| rx.try_recv() == Ok(7)).count();
                let gone = outputs.iter().filter(|(_, rx)| rx.try_recv() == Ok(1)).count();
                (left, gone)
            })
            .join();
            assert_eq!((left, gone), if received == 7 { (2, 0) } else { (3, 1) });
            assert_eq!(gone, sent);
        }
    }
}

#[test]
fn a_blocked_select_is_served_by_whoever_comes_first_and_leaves_all_other_lines() {
    for (one, other) in MIXES {
        for served in 0..4 {
            let ends: [_; 4] = std::array::from_fn(|_| bounded(0));
            let selecting = start_blocked(one, {
                let ends = ends.clone();
                move || {
                    select! {
                        recv(ends[0].1) -> n => (0, n.unwrap()),
                        recv(ends[1].1) -> n => (1, n.unwrap()),
                        send(ends[2].0, 5) -> sent => (2, sent.map(|()| 5).unwrap()),
                        send(ends[3].0, 5) -> sent => (3, sent.map(|()| 5).unwrap()),
                    }
                }
            });
            let serving = start(other, {
                let (tx, rx) = ends[served].clone();
                move || match served {
                    0 | 1 => tx.send(5).unwrap(),
                    _ => assert_eq!(rx.recv(), Ok(5)),
                }
            });
            assert_eq!(selecting.join(), (served, 5));
            serving.join();
            for (tx, rx) in ends {
                assert_eq!(tx.try_send(6), Err(TrySendError::Full(6)));
                assert_eq!(rx.try_recv(), Err(TryRecvError::Empty));
            }
        }
    }
}

/// A goroutine's end, a moment and a message are waited for together. Whichever comes, the other two are still to come.
#[test]
fn a_goroutine_a_moment_and_a_channel_are_waited_for_together() {
    #[derive(Clone, Copy, Debug, PartialEq)]
    enum Came {
        End(i32),
        Moment,
        Message(i32),
    }
    use Came::{End, Message, Moment};
    for kind in KINDS {
        for first in [End(1), Moment, Message(2)] {
            let ((gate, is_open), (tx, rx)) = (bounded(0), bounded(0));
            let child = strands::go(move || {
                is_open.recv().unwrap();
                1
            });
            let moment = after(if first == Moment { Duration::from_millis(5) } else { LONG });
            let body = {
                let moment = moment.clone();
                move || {
                    let mut child = child;
                    let came = select! {
                        join(child) -> ended => End(ended.unwrap()),
                        recv(moment) -> moment => { moment.unwrap(); Moment }
                        recv(rx) -> message => Message(message.unwrap()),
                    };
                    (came, child, rx)
                }
            };
            // The moment may come before the dump says that it is waited for.
            let waits = if first == Moment { start(kind, body) } else { start_blocked(kind, body) };
            match first {
                End(_) => gate.send(()).unwrap(),
                Message(n) => tx.send(n).unwrap(),
                Moment => {}
            }
            let (came, mut child, rx) = waits.join();
            assert_eq!(came, first, "{kind:?}");
            assert_eq!(moment.try_recv(), Err(TryRecvError::Empty));
            if first != End(1) {
                assert!(!child.is_finished());
                gate.send(()).unwrap();
                let ended =
                    select! { join(child) -> ended => ended.unwrap(), recv(rx) -> n => n.unwrap() };
                assert_eq!(ended, 1);
            }
            assert_eq!(tx.try_send(3), Err(TrySendError::Full(3)), "it has left the line");
        }
    }
}

#[test]
fn a_disconnected_arm_is_ready_with_an_error() {
    for kind in KINDS {
        for cap in CAPACITIES {
            let (tx, rx) = channel::<i32>(cap);
            let receiver = start_blocked(kind, move || {
                select! { recv(rx) -> n => n, recv(never()) -> n => n }
            });
            drop(tx);
            assert_eq!(receiver.join(), Err(RecvError));
        }
        for cap in [0, 1] {
            let (tx, rx) = bounded(cap);
            (0..cap).for_each(|_| tx.send(0).unwrap());
            let sender = start_blocked(kind, move || {
                select! { send(tx, 1) -> sent => sent, recv(never::<()>()) -> _ => unreachable!() }
            });
            drop(rx);
            assert_eq!(sender.join(), Err(SendError(1)));
        }
    }
}

#[test]
fn a_default_runs_only_if_nothing_else_can() {
    for kind in KINDS {
        start(kind, || {
            let (tx, rx) = bounded(1);
            for n in 0..1000 {
                select! { recv(rx) -> _ => unreachable!("empty"), default => {} }
                select! { send(tx, n) -> sent => sent.unwrap(), default => unreachable!("room") }
                select! { send(tx, n) -> _ => unreachable!("full"), default => {} }
                select! { recv(rx) -> m => assert_eq!(m, Ok(n)), default(LONG) => unreachable!() }
            }
        })
        .join();
    }
}

/// A message wanders between two channels: it is in one before it is gone from the other. Who looks at both at
/// one time finds it.
#[test]
fn a_select_that_does_not_wait_sees_all_its_arms_at_one_time() {
    for kind in KINDS {
        let ends: [(Sender<()>, Receiver<()>); 2] = std::array::from_fn(|_| bounded(1));
        ends[0].0.send(()).unwrap();
        let [(to_one, one), (to_other, other)] = ends.clone();
        let [stop, moves] = [(); 2].map(|()| Arc::new(AtomicUsize::new(0)));
        let wanderer = {
            let (stop, moves) = (Arc::clone(&stop), Arc::clone(&moves));
            start(kind, move || {
                let mut at = 0;
                while stop.load(SeqCst) == 0 {
                    ends[1 - at].0.send(()).unwrap();
                    ends[at].1.recv().unwrap();
                    at = 1 - at;
                    moves.fetch_add(1, SeqCst);
                }
            })
        };
        // Many others in between: they give it time to slip by.
        let idle: Vec<_> = (0..60).map(|_| bounded::<()>(1)).collect();
        let mut select = Select::new();
        let first = select.recv(&one);
        idle.iter().for_each(|(_, rx)| _ = select.recv(rx));
        select.recv(&other);
        for _ in 0..500 {
            // It is on its way again, after it had to wait for us to put the message back.
            let moved = moves.load(SeqCst) + 5;
            while moves.load(SeqCst) < moved {
                std::thread::yield_now();
            }
            let operation = select.try_select().expect("one of them has it");
            let (rx, tx) =
                if operation.index() == first { (&one, &to_one) } else { (&other, &to_other) };
            operation.recv(rx).unwrap();
            tx.send(()).unwrap();
        }
        stop.store(1, SeqCst);
        wanderer.join();
    }
}

// ---- The dynamic select ----

#[test]
fn a_dynamic_select_numbers_its_operations_and_keeps_the_numbers() {
    let (tx, rx) = bounded::<i32>(1);
    let (other_tx, other_rx) = bounded(1);
    let mut select = Select::new();
    assert_eq!([select.recv(&rx), select.send(&tx), select.recv(&other_rx)], [0, 1, 2]);
    select.remove(1);
    assert!(select.try_select().is_err());
    assert_eq!(select.send(&other_tx), 3);
    let operation = select.select();
    assert_eq!(operation.index(), 3);
    operation.send(&other_tx, 5).unwrap();
    let mut clone = select.clone();
    assert_eq!(select.ready(), 2);
    let operation = clone.try_select().unwrap();
    assert_eq!((operation.index(), operation.recv(&other_rx)), (2, Ok(5)));
}

#[test]
fn a_dynamic_select_may_have_very_many_operations() {
    for kind in KINDS {
        let ends: Vec<_> = (0..200).map(|_| bounded(0)).collect();
        let waiting = start_blocked(kind, {
            let ends: Vec<Receiver<usize>> = ends.iter().map(|(_, rx)| rx.clone()).collect();
            move || {
                let mut select = Select::new();
                ends.iter().for_each(|rx| _ = select.recv(rx));
                (0..3).for_each(|_| {
                    let operation = select.select();
                    let index = operation.index();
                    assert_eq!(operation.recv(&ends[index]), Ok(index));
                });
            }
        });
        for n in [199, 0, 100] {
            ends[n].0.send(n).unwrap();
        }
        waiting.join();
    }
}

#[test]
fn ready_takes_nothing() {
    for kind in KINDS {
        let (tx, rx) = bounded(0);
        let watcher = start_blocked(kind, {
            let rx = rx.clone();
            move || {
                let mut select = Select::new();
                select.recv(&rx);
                let index = select.ready();
                (index, rx.recv())
            }
        });
        // A watcher is nobody who receives.
        assert_eq!(tx.try_send(1), Err(TrySendError::Full(1)));
        tx.send(2).unwrap();
        assert_eq!(watcher.join(), (0, Ok(2)));
    }
}

#[test]
fn one_who_watches_is_told_of_everything_that_may_matter() {
    type Change = fn(&Sender<i32>, &Receiver<i32>);
    let sends: Change = |tx, _| tx.try_send(1).unwrap();
    let receives: Change = |_, rx| assert_eq!(rx.try_recv(), Ok(0));
    let closes: Change = |tx, _| tx.close();
    for kind in KINDS {
        for (full, receive, change) in [
            (false, true, sends),
            (true, false, receives),
            (false, true, closes),
            (true, false, closes),
        ] {
            let (tx, rx) = bounded(1);
            if full {
                tx.send(0).unwrap();
            }
            let watchers: Vec<_> = (0..40)
                .map(|_| {
                    let (tx, rx) = (tx.clone(), rx.clone());
                    start_blocked(kind, move || {
                        let mut select = Select::new();
                        if receive {
                            select.recv(&rx)
                        } else {
                            select.send(&tx)
                        };
                        select.ready()
                    })
                })
                .collect();
            change(&tx, &rx);
            assert!(watchers.into_iter().all(|watcher| watcher.join() == 0));
        }
    }
}

// ---- Fairness ----

const ROUNDS: usize = 20_000;
/// Between 45 and 55 %: seven standard deviations off the middle, at this number of rounds, and more.
const FAIR: Range<usize> = ROUNDS * 45 / 100..ROUNDS * 55 / 100;

#[track_caller]
fn assert_fair(what: &str, first: usize) {
    assert!(FAIR.contains(&first), "{what}: {first} of {ROUNDS}");
}

/// Counts how often the first of two arms wins that are both always ready.
fn play_ready_arms() {
    let (tx, rx) = unbounded();
    let (other_tx, other_rx) = unbounded();
    (0..ROUNDS).for_each(|_| [&tx, &other_tx].iter().for_each(|tx| tx.send(()).unwrap()));
    let mut first = 0;
    for _ in 0..ROUNDS {
        select! { recv(rx) -> _ => first += 1, recv(other_rx) -> _ => {} }
    }
    assert_fair("two receives", first);
    first = 0;
    for _ in 0..ROUNDS {
        select! { send(tx, ()) -> _ => first += 1, send(other_tx, ()) -> _ => {}, default => {} }
    }
    assert_fair("two sends", first);
    first = 0;
    for _ in 0..ROUNDS {
        // The one that receives has messages enough from both.
        select! { send(tx, ()) -> _ => first += 1, recv(other_rx) -> _ => {}, default(LONG) => {} }
        other_tx.send(()).unwrap();
    }
    assert_fair("a send and a receive", first);
    let mut select = Select::new();
    select.recv(&rx);
    select.recv(&other_rx);
    first = (0..ROUNDS).filter(|_| select.ready() == 0).count();
    assert_fair("ready", first);
    first = 0;
    for _ in 0..ROUNDS {
        let operation = select.try_select().unwrap();
        let index = operation.index();
        operation.recv(if index == 0 { &rx } else { &other_rx }).unwrap();
        if index == 0 { tx.send(()) } else { other_tx.send(()) }.unwrap();
        first += 1 - index;
    }
    assert_fair("dynamic", first);
    let (closed, other) = (bounded::<()>(0).1, bounded::<()>(0).1);
    first = 0;
    for _ in 0..ROUNDS {
        select! { recv(closed) -> _ => first += 1, recv(other) -> _ => {} }
    }
    assert_fair("two at their end", first);
    for _ in 0..100 {
        select_biased! { recv(other) -> _ => {}, recv(closed) -> _ => unreachable!("the second") }
    }
}

#[test]
fn of_arms_that_are_always_ready_each_wins_as_often() {
    process::on_processors(&[1, 2], || {
        play_ready_arms();
        let goroutines: Vec<_> = (0..2).map(|_| strands::go(play_ready_arms)).collect();
        goroutines.into_iter().for_each(|goroutine| goroutine.join().unwrap());
    });
}

/// Two who always have a message for a select that waits for both: none gets much more than the other.
#[test]
fn nobody_starves_who_meets_a_select_in_a_rendezvous() {
    process::on_processors(&[1, 2], || {
        for (one, other) in MIXES {
            let stop = Arc::new(AtomicUsize::new(0));
            let [(to_a, a), (to_b, b)] = [bounded(0), bounded(0)];
            let senders = [(one, to_a), (other, to_b)].map(|(kind, tx)| {
                let stop = Arc::clone(&stop);
                start(kind, move || while stop.load(SeqCst) == 0 && tx.send(()).is_ok() {})
            });
            let mut counts = [0, 0];
            let begun = Instant::now();
            // However slow they are: each must have its share some time.
            while counts.iter().any(|count| *count < 200) {
                select! { recv(a) -> _ => counts[0] += 1, recv(b) -> _ => counts[1] += 1 }
                assert!(begun.elapsed() < LONG, "{one:?} {other:?}: {counts:?}");
            }
            stop.store(1, SeqCst);
            drop((a, b));
            senders.into_iter().for_each(Handle::join);
        }
    });
}

#[test]
fn selects_stand_in_line_with_everybody_else() {
    for cap in [0, 1] {
        let (tx, rx) = bounded(cap);
        let elsewhere = bounded::<usize>(0);
        let waiting: Vec<_> = (0..9)
            .map(|at| {
                let (rx, other) = (rx.clone(), elsewhere.1.clone());
                start_blocked(KINDS[at % 2], move || match at % 3 {
                    0 => rx.recv(),
                    1 => select! { recv(other) -> n => n, recv(rx) -> n => n },
                    _ => {
                        let mut select = Select::new();
                        select.recv(&other);
                        select.recv(&rx);
                        select.select().recv(&rx)
                    }
                })
            })
            .collect();
        (0..9).for_each(|n| tx.send(n).unwrap());
        for (at, receiver) in waiting.into_iter().enumerate() {
            assert_eq!(receiver.join(), Ok(at), "capacity {cap}");
        }
        (0..cap).for_each(|n| tx.send(n).unwrap());
        let waiting: Vec<_> = (0..9)
            .map(|at| {
                let (tx, other) = (tx.clone(), elsewhere.0.clone());
                start_blocked(KINDS[at % 2], move || match at % 3 {
                    0 => tx.send(cap + at),
                    1 => select! { send(other, 0) -> sent => sent, send(tx, cap + at) -> sent => sent },
                    _ => {
                        let mut select = Select::new();
                        select.send(&other);
                        select.send(&tx);
                        select.select().send(&tx, cap + at)
                    }
                })
            })
            .collect();
        assert_eq!(rx.recv(), Ok(0), "capacity {cap}");
        for n in 1..cap + 9 {
            // One that is a promise has yet to make its message, and is not waited for if there is another.
            wait_until(|| rx.len() == cap);
            assert_eq!(rx.recv(), Ok(n), "capacity {cap}");
        }
        waiting.into_iter().for_each(|sender| assert_eq!(sender.join(), Ok(())));
    }
}

// ---- Many of them ----

/// A token goes round a ring of selects, each of which also waits for the end and for a time that never comes.
#[test]
fn a_ring_of_selects_passes_a_token_round() {
    process::on_processors(&[1, 2, 4], || {
        const RING: usize = 32;
        for cap in CAPACITIES {
            let ends: Vec<(Sender<usize>, Receiver<usize>)> =
                (0..RING).map(|_| channel(cap)).collect();
            let (end, ended) = bounded::<()>(0);
            let parties: Vec<_> = (0..RING)
                .map(|at| {
                    let (rx, tx) = (ends[at].1.clone(), ends[(at + 1) % RING].0.clone());
                    let (ended, late) = (ended.clone(), after(LONG));
                    let kind = if at % 8 == 0 { Kind::Thread } else { Kind::Goroutine };
                    start(kind, move || {
                        let mut seen = 0;
                        loop {
                            let token = select! {
                                recv(rx) -> token => token.unwrap(),
                                recv(ended) -> _ => return seen,
                                recv(late) -> _ => unreachable!("late"),
                            };
                            seen += 1;
                            select! {
                                send(tx, token + 1) -> sent => sent.unwrap(),
                                recv(ended) -> _ => return seen,
                            }
                        }
                    })
                })
                .collect();
            ends[0].0.send(0).unwrap();
            let begun = Instant::now();
            strands::sleep(Duration::from_millis(20));
            drop(end);
            let seen: Vec<usize> = parties.into_iter().map(Handle::join).collect();
            let (least, most) = (seen.iter().min().unwrap(), seen.iter().max().unwrap());
            assert!(most - least <= 1, "{seen:?} after {:?}", begun.elapsed());
        }
    });
}

// ---- For ever ----

#[test]
fn a_select_that_can_never_proceed_is_reported_as_a_deadlock() {
    let Some(program) = process::stage(|| {
        let (tx, rx) = bounded::<i32>(0);
        let lost = strands::go({
            let (tx, rx) = (tx.clone(), rx.clone());
            move || {
                select! {
                    recv(rx) -> _ => {}
                    send(tx, 1) -> _ => {}
                    recv(never::<()>()) -> _ => {}
                }
            }
        });
        let (other_tx, rx) = bounded::<i32>(0);
        let ready = strands::go({
            move || {
                let mut select = Select::new();
                select.recv(&rx);
                select.recv(&rx);
                select.ready()
            }
        });
        let none = strands::go(|| select! { recv(never::<()>()) if 1 > 2 -> _ => {} });
        lost.join().unwrap();
        drop((ready, none, tx, other_tx));
    }) else {
        return;
    };
    let outcome = program.run();
    assert_eq!(outcome.status.code(), Some(2), "{outcome}");
    assert!(outcome.stderr.contains("deadlock"), "{outcome}");
    assert_eq!(outcome.stderr.matches("[select").count(), 3, "{outcome}");
    for arms in [", 3 arms", ", 2 arms", ", 0 arms"] {
        assert_eq!(outcome.stderr.matches(arms).count(), 1, "{outcome}");
    }
}

#[test]
fn a_select_that_may_proceed_in_time_is_no_deadlock() {
    let Some(program) = process::stage(|| {
        let (_tx, rx) = bounded::<i32>(0);
        let late = strands::go(|| {
            select! { recv(after(Duration::from_millis(700))) -> _ => {}, recv(never::<()>()) -> _ => {} }
        });
        select! { recv(rx) -> _ => {}, default(Duration::from_millis(500)) => {} }
        late.join().unwrap();
    }) else {
        return;
    };
    program.run().succeeded();
}

/// Nobody would write this; but what a macro expands to is in reach of everybody, and must be sound.
#[test]
fn the_same_arm_given_twice_is_one_arm() {
    use strands::__private::{Until, run};
    for _ in 0..100 {
        let (tx, rx) = bounded::<String>(0);
        let arm = rx.__recv_arm();
        let sender = strands::go(move || tx.send(String::from("once")).is_ok());
        assert!(run(&[&arm, &arm], &[true, true], false, Until::Served).is_some());
        assert_eq!(arm.finish().as_deref(), Ok("once"));
        assert!(sender.join().unwrap());

        let (tx, rx) = bounded::<String>(0);
        let mut handle = strands::go(move || rx.recv());
        let arm = handle.__join_arm();
        let closer = strands::go(move || drop(tx));
        assert!(run(&[&arm, &arm], &[true, true], false, Until::Served).is_some());
        assert!(arm.finish().unwrap().is_err());
        closer.join().unwrap();
    }
}
