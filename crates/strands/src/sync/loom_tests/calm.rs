//! Models of a mutex that is given back by a plain store until somebody wants to wait.
//!
//! loom has no barrier for all threads: see `primitive::lopsided`.

use super::{Bell, Guarded, TO_THE_END, model, passed};
use crate::primitive::Arc;
use crate::sync::raw::{Locking, RawMutex};
use loom::thread;
use std::pin::pin;
use std::task::{Context, Waker};
use std::time::Instant;

type Counter = Arc<Guarded<RawMutex>>;

fn settle(counter: &Counter) {
    counter.lock.lock();
    counter.lock.become_calm();
    // SAFETY: ours.
    unsafe { counter.lock.unlock() };
}

fn calm() -> Counter {
    let counter = Guarded::new(RawMutex::new());
    settle(&counter);
    assert!(counter.lock.is_calm());
    counter
}

fn adds(counter: &Counter, deadline: Option<Instant>) -> thread::JoinHandle<usize> {
    let counter = Arc::clone(counter);
    thread::spawn(move || counter.add(deadline))
}

fn ends_free(counter: &Counter, added: usize) {
    assert!(counter.lock.try_lock(), "it was left locked: {:?}", counter.lock);
    assert_eq!(counter.read(), added);
}

#[test]
fn who_wants_to_wait_ends_the_calm_and_is_not_forgotten() {
    model(3, || {
        let counter = calm();
        let others = [(); 2].map(|()| adds(&counter, None));
        counter.add(None);
        let _ = others.map(|other| other.join().unwrap());
        ends_free(&counter, 3);
    });
}

/// The owner gives the lock back, and takes it again, and so on, while one waits.
#[test]
fn an_owner_that_comes_again_does_not_forget_who_waits() {
    model(4, || {
        let counter = calm();
        let other = adds(&counter, None);
        for _ in 0..3 {
            counter.add(None);
        }
        other.join().unwrap();
        ends_free(&counter, 4);
    });
}

#[test]
fn who_ends_the_calm_and_gives_up_takes_no_wake_up_along() {
    model(3, || {
        let counter = calm();
        let others = [passed(), None].map(|deadline| adds(&counter, deadline));
        let mut added = counter.add(None);
        added += others.map(|other| other.join().unwrap()).iter().sum::<usize>();
        assert!(added >= 2);
        ends_free(&counter, added);
    });
}

#[test]
fn futures_end_the_calm_and_may_be_dropped() {
    for polls in [1, TO_THE_END] {
        model(3, move || {
            let counter = calm();
            let future = {
                let counter = Arc::clone(&counter);
                thread::spawn(move || {
                    let ready = drive!(Locking::new(&counter.lock), polls);
                    if ready {
                        counter.leave_after_adding();
                    }
                    usize::from(ready)
                })
            };
            let other = adds(&counter, None);
            let added = counter.add(None) + other.join().unwrap() + future.join().unwrap();
            ends_free(&counter, added);
        });
    }
}

#[test]
fn a_lock_becomes_calm_while_others_come() {
    model(3, || {
        let counter = Guarded::new(RawMutex::new());
        let others = [None, passed()].map(|deadline| adds(&counter, deadline));
        settle(&counter);
        let mut added = counter.add(None);
        added += others.map(|other| other.join().unwrap()).iter().sum::<usize>();
        ends_free(&counter, added);
    });
}

/// It is calm, waited for, and calm again, while the first to give it back has yet to look.
#[test]
fn a_calm_that_ends_and_comes_back_is_not_mistaken() {
    model(3, || {
        let counter = calm();
        let other = {
            let counter = Arc::clone(&counter);
            thread::spawn(move || {
                counter.add(None);
                settle(&counter);
            })
        };
        let third = adds(&counter, None);
        counter.add(None);
        other.join().unwrap();
        third.join().unwrap();
        ends_free(&counter, 3);
    });
}
