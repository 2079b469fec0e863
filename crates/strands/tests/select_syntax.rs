//! What `select!` lets its users write, and what it says about mistakes.
#![cfg(not(loom))]

use std::cell::{Cell, RefCell};
use std::fmt::Debug;
use std::rc::Rc;
use std::sync::Arc;
use std::time::Duration;

use strands::channel::{
    Receiver, RecvError, SendError, Sender, after, bounded, never, tick, unbounded,
};
use strands::{select, select_biased};

/// A receiver with these messages, of a channel that is at its end after them.
fn with<T>(messages: impl IntoIterator<Item = T>) -> Receiver<T> {
    let (tx, rx) = unbounded();
    messages.into_iter().for_each(|message| tx.send(message).unwrap_or_default());
    rx
}

// ---- Commas, blocks, bodies ----

#[test]
fn commas_after_the_last_body_and_after_blocks_may_be_left_out() {
    let rx = with(1..=9);
    let mut sum = 0;
    select! { recv(rx) -> n => sum += n.unwrap() }
    select! { recv(rx) -> n => sum += n.unwrap(), }
    select! { recv(rx) -> n => { sum += n.unwrap() } }
    select! { recv(rx) -> n => { sum += n.unwrap() }, }
    select! {
        recv(rx) -> n => { sum += n.unwrap() }
        recv(never::<()>()) -> _ => {},
        default => {}
    }
    select! {
        default => {}
        recv(rx) -> n => sum += n.unwrap(),
        recv(never::<()>()) -> _ => {}
    }
    select! {
        recv(rx,) -> n => if let Ok(n) = n { sum += n } else { unreachable!() },
        default(Duration::from_secs(60),) => {}
    }
    select! { recv(rx) if true -> n => { sum += n.unwrap() } default => {} }
    select! { recv(rx) if true -> n => sum += n.unwrap(), default() => {} }
    assert_eq!(sum, 45);
}

#[test]
fn a_select_is_an_expression_of_the_type_of_its_bodies() {
    let rx = with(["one", "two", "three", "four"]);
    let length: usize = select! { recv(rx) -> word => word.unwrap().len() };
    let text = select! { recv(rx) -> word => word.map_or(String::new(), str::to_owned), default => "none".into() };
    assert_eq!((length, text.as_str()), (3, "two"));
    assert_eq!(select! { recv(rx) -> word => word, default => Err(RecvError) }, Ok("three"));
    let boxed: Box<dyn Debug> = select! {
        recv(rx) -> word => Box::new(word.unwrap()) as Box<dyn Debug>,
        default => Box::new(1),
    };
    assert_eq!(format!("{boxed:?}"), "\"four\"");
    let nothing: () = select! { default => () };
    nothing
}

#[test]
fn bodies_may_leave_by_break_continue_return_and_question_mark() {
    let rx = with(1..=10);
    let mut odd = Vec::new();
    loop {
        select! {
            recv(rx) -> n => match n {
                Ok(n) if n % 2 == 0 => continue,
                Ok(n) => odd.push(n),
                Err(RecvError) => break,
            },
        }
    }
    assert_eq!(odd, [1, 3, 5, 7, 9]);
    let rx_2 = with([0]);
    let found = 'outer: loop {
        while !rx_2.is_empty() {
            select! { recv(rx_2) -> _ => continue 'outer, recv(never::<()>()) -> _ => {} }
        }
        select! { recv(rx) -> n => break n.is_err() }
    };
    assert!(found);
    fn first(rx: &Receiver<i32>) -> Result<i32, RecvError> {
        let n = select! {
            recv(rx) -> n => n?,
            default => return Ok(-1),
        };
        Ok(n + 1)
    }
    let (tx, rx) = unbounded();
    assert_eq!(first(&rx), Ok(-1));
    tx.send(1).unwrap();
    assert_eq!(first(&rx), Ok(2));
    drop(tx);
    assert_eq!(first(&rx), Err(RecvError));
    // Also out of the message, which is then not sent.
    fn none(tx: &Sender<i32>) -> Option<()> {
        select! { send(tx, None::<i32>?) -> _ => unreachable!("there is no message") }
    }
    let (tx, rx) = bounded(1);
    assert_eq!(none(&tx), None);
    for n in 0..3 {
        select! { send(tx, if n < 3 { continue } else { n }) -> _ => unreachable!("there is no message") }
    }
    assert_eq!((tx.try_send(5), rx.recv()), (Ok(()), Ok(5)));
}

// ---- Patterns ----

#[test]
fn results_are_matched_by_any_pattern_that_always_fits() {
    let rx = with([(1, "one"), (2, "two")]);
    select! { recv(rx) -> mut pair => { pair = pair.map(|(n, text)| (n + 1, text)); assert_eq!(pair, Ok((2, "one"))) } }
    select! { recv(rx) -> ref pair => assert_eq!(pair.as_ref().unwrap().1, "two") }
    select! { recv(rx) -> (Err(RecvError) | Ok(_)) => {} }
    let (tx, _rx) = bounded(1);
    select! { send(tx, 1) -> sent @ (Ok(()) | Err(SendError(_))) => assert_eq!(sent, Ok(())) }
}

#[test]
fn names_of_the_user_are_not_those_of_the_macro() {
    let (end, arm_0, arm_1, result, chosen) = (with([1]), with([2]), 3, 4, 5);
    let sum = select_biased! {
        recv(end) -> result => result.unwrap() + arm_1 + chosen,
        recv(arm_0) -> chosen => chosen.unwrap() + result,
    };
    assert_eq!(sum, 9);
    let other = select_biased! {
        recv(end) if arm_1 > 3 -> _ => unreachable!("the guard"),
        recv(arm_0) -> arm_0 => arm_0.unwrap() + result + arm_1,
    };
    assert_eq!(other, 9);
}

// ---- Expressions ----

#[test]
fn ends_may_be_any_expression_that_leads_to_one() {
    struct Hub {
        inputs: Vec<Receiver<i32>>,
        output: Arc<Sender<i32>>,
    }
    impl Hub {
        fn input(&self) -> &Receiver<i32> {
            &self.inputs[0]
        }
    }
    let (tx, rx) = bounded(10);
    let hub = Hub { inputs: vec![with(1..=7)], output: Arc::new(tx) };
    let boxed = Box::new(&hub.inputs[0]);
    let shared = Rc::new(hub.inputs[0].clone());
    let cell = RefCell::new(hub.inputs[0].clone());
    let maybe = hub.inputs.first();
    let mut sum = 0;
    for _ in 0..7 {
        sum += select! {
            recv(hub.inputs[0]) -> n => n.unwrap(),
            recv(hub.input()) -> n => n.unwrap(),
            recv(&&*boxed) -> n => n.unwrap(),
            recv(shared) -> n => n.unwrap(),
            recv(cell.borrow()) -> n => n.unwrap(),
            recv(maybe.unwrap_or(&never())) -> n => n.unwrap(),
            recv({ let rx = hub.input(); rx.clone() }) -> n => n.unwrap(),
        };
    }
    assert_eq!(sum, 28);
    select! { send(hub.output, 1) -> sent => sent.unwrap() }
    select! { send(Arc::clone(&hub.output), { 2 }) -> sent => sent.unwrap() }
    select! { send(if sum > 0 { &hub.output } else { unreachable!() }, 3,) -> sent => sent.unwrap() }
    assert_eq!(rx.try_iter().collect::<Vec<_>>(), [1, 2, 3]);
}

#[test]
fn every_end_is_evaluated_once_and_in_order_and_the_message_only_if_it_is_sent() {
    let log = RefCell::new(Vec::new());
    let note = |what| log.borrow_mut().push(what);
    let (tx, rx) = bounded(1);
    let (full, _full) = bounded(0);
    for _ in 0..2 {
        select! {
            recv({ note("first"); never::<()>() }) -> _ => unreachable!("never"),
            send({ note("second"); &full }, { note("its message"); 1 }) -> _ => unreachable!("full"),
            send({ note("third"); &tx }, { note("message"); 2 }) -> sent => { note("body"); sent.unwrap() }
            default({ note("timeout"); Duration::from_secs(60) }) => unreachable!("there was room"),
        }
        assert_eq!(rx.try_recv(), Ok(2));
        let seen = log.take();
        assert_eq!(seen[..3], ["first", "second", "third"]);
        assert_eq!(seen[seen.len() - 2..], ["message", "body"]);
        assert_eq!(seen.iter().filter(|what| **what == "timeout").count(), seen.len() - 5);
    }
}

#[test]
fn temporaries_live_as_long_as_the_select_waits() {
    struct Lent<'a>(&'a Receiver<i32>, &'a Cell<bool>);
    impl Drop for Lent<'_> {
        fn drop(&mut self) {
            self.1.set(true);
        }
    }
    impl std::ops::Deref for Lent<'_> {
        type Target = Receiver<i32>;
        fn deref(&self) -> &Receiver<i32> {
            assert!(!self.1.get(), "used after it was dropped");
            self.0
        }
    }
    let (rx, is_dropped) = (with([1]), Cell::new(false));
    select! { recv(Lent(&rx, &is_dropped)) -> n => assert_eq!(n, Ok(1)) }
    assert!(is_dropped.get());
    assert_eq!(select! { recv(with([2]).clone()) -> n => n }, Ok(2));
    assert!(select! { recv(after(Duration::ZERO)) -> when => when, recv(tick(Duration::from_secs(60))) -> when => when }.is_ok());
}

#[test]
fn a_body_may_move_and_replace_what_the_arms_have_borrowed() {
    let (tx, rx) = unbounded();
    tx.send(1).unwrap();
    select! {
        recv(rx) -> n => { drop(rx); assert_eq!(tx.send(n.unwrap()), Err(SendError(1))); drop(tx) }
        send(tx, 0) if false -> _ => { drop(tx); drop(rx) }
        default => drop((tx, rx)),
    }
    let mut current = with([1, 2]);
    let mut next = Some(with([3]));
    let mut all = Vec::new();
    loop {
        select! {
            recv(current) -> n => match n {
                Ok(n) => all.push(n),
                Err(_) => match next.take() {
                    Some(other) => current = other,
                    None => break,
                },
            }
        }
    }
    assert_eq!(all, [1, 2, 3]);
    // The message is moved in only one case, and so is there in the other.
    let (tx, _rx) = bounded(0);
    let text = String::from("still mine");
    let text = select! { send(tx, text) -> _ => unreachable!("nobody receives"), default => text };
    assert_eq!(text, "still mine");
}

#[test]
fn messages_may_have_any_type_that_the_channel_tells() {
    let (tx, rx) = bounded(3);
    select! { send(tx, None) -> sent => assert!(sent.is_ok()) }
    select! { send(tx, Some("x".parse::<i32>())) -> sent => assert!(sent.is_ok()) }
    select! { send(tx, Some("5".parse().map(|n: i32| n + 1))) -> sent => drop(sent) }
    assert!(rx.try_iter().map(|m| m.map(Result::ok)).eq([None, Some(None), Some(Some(6))]));
    let (functions, calls) = bounded::<Box<dyn FnOnce(i32) -> i32 + Send>>(1);
    select! { send(functions, Box::new(|n| n + 1)) -> sent => assert!(sent.is_ok()) }
    assert_eq!(select! { recv(calls) -> f => f.unwrap()(1) }, 2);
}

// ---- Guards ----

#[test]
fn an_arm_whose_guard_is_false_takes_no_part() {
    let (rx, other) = (with([1]), with([2]));
    for _ in 0..20 {
        select! {
            recv(rx) if false -> _ => unreachable!("the guard"),
            default => {}
        }
    }
    let limit = 3;
    let maybe: Option<i32> = None;
    select! {
        recv(rx) if limit > 3 && !rx.is_empty() -> _ => unreachable!("the guard"),
        recv(rx) if let_me(false) -> _ => unreachable!("the guard"),
        recv(rx) if maybe.is_some() || matches!(maybe, Some(1..=3)) -> _ => unreachable!("the guard"),
        recv(rx) if { let x = limit; x == 4 } -> _ => unreachable!("the guard"),
        recv(other) if limit == 3 -> n => assert_eq!(n, Ok(2)),
        default => unreachable!("one can"),
    }
    assert_eq!(rx.try_recv(), Ok(1));
}

fn let_me(answer: bool) -> bool {
    answer
}

#[test]
fn guards_open_and_close_arms_from_turn_to_turn() {
    let (tx, rx) = bounded(2);
    let (mut given, mut taken) = (0, Vec::new());
    let mut queue = Vec::new();
    while taken.len() < 100 {
        select! {
            send(tx, given) if given < 100 -> sent => { sent.unwrap(); given += 1; }
            recv(rx) if queue.len() < 3 -> n => queue.push(n.unwrap()),
            recv(never::<()>()) if queue.is_empty() -> _ => unreachable!("never"),
            default => taken.append(&mut queue),
        }
    }
    assert!(taken.into_iter().eq(0..100));
}

// ---- Where a select may stand ----

#[test]
fn selects_nest_in_bodies_messages_ends_and_guards() {
    let (tx, rx) = bounded(1);
    let numbers = with(1..=5);
    let sum = select! {
        send(
            select! { recv(never::<()>()) -> _ => unreachable!("never"), default => &tx },
            select! { recv(numbers) -> n => n.unwrap() }
        ) if select! { default => true } -> sent => {
            sent.unwrap();
            select! { recv(rx) -> n => n.unwrap() + select! { recv(numbers) -> n => n.unwrap() } }
        }
    };
    assert_eq!(sum, 3);
}

#[test]
fn a_select_may_be_in_closures_generic_functions_and_macros() {
    fn either<T, U: From<T>>(one: &Receiver<T>, other: &Receiver<U>) -> Option<U> {
        select! {
            recv(one) -> message => message.ok().map(U::from),
            recv(other) -> message => message.ok(),
        }
    }
    assert_eq!(either(&with([1_u8]), &never::<u64>()), Some(1));
    let rx = with([1, 2]);
    let next = || select! { recv(rx) -> n => n.ok() };
    assert_eq!([next(), next(), next()], [Some(1), Some(2), None]);
    macro_rules! first {
        ($($rx:expr),* $(,)? ; $name:pat => $body:expr) => {
            select! { $(recv($rx) -> $name => { $body })* }
        };
    }
    let (one, other) = (with([3]), never());
    assert_eq!(first!(one, other; message => message), Ok(3));
    use strands::select as choose;
    assert_eq!(choose! { recv(with([1])) -> n => n }, Ok(1));
    assert_eq!(strands::channel::select! { recv(with([1])) -> n => n }, Ok(1));
}

#[test]
fn a_select_may_have_32_arms() {
    let rxs: Vec<_> = (0..32).map(|_| unbounded()).collect();
    macro_rules! all {
        ($($n:literal)*) => {
            select! { $(recv(rxs[$n].1) -> n => (n, $n),)* default => (Ok(-1), 99) }
        };
    }
    let next = || all!(0 1 2 3 4 5 6 7 8 9 10 11 12 13 14 15 16 17 18 19 20 21 22 23 24 25 26 27 28 29 30 31);
    for (n, (tx, _)) in rxs.iter().enumerate() {
        assert_eq!(next(), (Ok(-1), 99));
        tx.send(n as i32).unwrap();
        assert_eq!(next(), (Ok(n as i32), n));
    }
}

#[test]
fn join_is_an_arm() {
    let (tx, rx) = bounded::<i32>(0);
    let mut child = strands::go(move || tx.send(1).is_ok());
    let got = select! {
        join(child) -> _ => unreachable!("it waits for us"),
        recv(rx) -> n => n,
    };
    assert_eq!(got, Ok(1));
    let ended =
        select! { join(child) -> ended => ended.unwrap(), recv(never::<()>()) -> _ => false };
    assert!(ended);
    let mut panics = strands::go(|| std::panic::resume_unwind(Box::new("as it should")));
    let ended: std::thread::Result<()> = select! { join(panics) if true -> ended => ended };
    assert_eq!(ended.unwrap_err().downcast_ref(), Some(&"as it should"));
}
