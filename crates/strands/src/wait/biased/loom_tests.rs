//! Who takes a biased lock, in whichever way, is alone in it, and sees what those before have done.

use super::*;
use crate::primitive::{Arc, UnsafeCell};
use loom::thread;

impl Whereabouts {
    fn new() -> Whereabouts {
        Whereabouts { inside: AtomicUsize::new(NOWHERE) }
    }
}

/// A count under the lock, and the records of all who come.
struct Counter {
    people: [Whereabouts; 3],
    bias: Bias,
    count: UnsafeCell<u32>,
}

// SAFETY: what the models check: the count is touched under the lock.
unsafe impl Sync for Counter {}
// SAFETY: as above.
unsafe impl Send for Counter {}

impl Counter {
    fn new() -> Arc<Counter> {
        let people = std::array::from_fn(|_| Whereabouts::new());
        Arc::new(Counter { people, bias: Bias::new(), count: UnsafeCell::new(0) })
    }

    /// One that the first of them owns by now.
    fn owned() -> Arc<Counter> {
        let counter = Counter::new();
        for _ in 0..=STREAK {
            assert!(!counter.up(0));
        }
        assert!(counter.is_owner(0));
        counter
    }

    fn is_owner(&self, who: usize) -> bool {
        self.bias.owner.load(Ordering::Relaxed) == self.people[who].as_owner()
    }

    /// Whether as the owner.
    fn up(&self, who: usize) -> bool {
        let me = &self.people[who];
        let taken = self.bias.quick(me).unwrap_or_else(|| self.bias.lock(me, true));
        // SAFETY: under the lock.
        self.count.with_mut(|count| unsafe { *count += 1 });
        let as_owner = ptr::eq(taken, &me.inside);
        taken.store(0, Ordering::Release);
        as_owner
    }

    fn step_back(&self, who: usize) {
        self.bias.step_back(&self.people[who]);
    }

    fn count(&self) -> u32 {
        // SAFETY: all others are done.
        self.count.with(|count| unsafe { *count })
    }
}

fn model(f: impl Fn() + Send + Sync + 'static) {
    let mut model = loom::model::Builder::new();
    // The loops in which one waits make all orders too many.
    model.preemption_bound = Some(4);
    model.check(f);
}

fn beside(counter: &Arc<Counter>, f: impl FnOnce(&Counter) + 'static) -> thread::JoinHandle<()> {
    let counter = Arc::clone(counter);
    thread::spawn(move || f(&counter))
}

#[test]
fn the_owner_and_one_who_asks_exclude_each_other() {
    model(|| {
        let counter = Counter::owned();
        let other = beside(&counter, |counter| assert!(!counter.up(1)));
        counter.up(0);
        counter.up(0);
        other.join().unwrap();
        assert_eq!(counter.count(), STREAK + 4);
    });
}

/// (With the owner inside as well loom would have the two look in turn for ever, and never let it out.)
#[test]
fn so_do_two_who_ask_at_once() {
    model(|| {
        let counter = Counter::owned();
        let other = beside(&counter, |counter| assert!(!counter.up(1)));
        counter.up(2);
        other.join().unwrap();
        assert_eq!(counter.count(), STREAK + 3);
    });
}

#[test]
fn so_do_an_owner_that_steps_back_and_one_who_asks() {
    model(|| {
        let counter = Counter::owned();
        let other = beside(&counter, |counter| assert!(!counter.up(1)));
        counter.up(0);
        counter.step_back(0);
        counter.up(0);
        other.join().unwrap();
        assert_eq!(counter.count(), STREAK + 4);
    });
}

/// The former owner may be anywhere between its look and its store when the next one is inside.
#[test]
fn so_do_a_former_owner_and_the_next() {
    model(|| {
        let counter = Counter::owned();
        let other = beside(&counter, |counter| {
            (0..=STREAK + 1).for_each(|_| _ = counter.up(1));
        });
        counter.up(0);
        other.join().unwrap();
        assert_eq!(counter.count(), 2 * STREAK + 4);
    });
}

#[test]
fn a_lock_may_be_biased_while_others_come() {
    model(|| {
        let counter = Counter::new();
        let other = beside(&counter, |counter| assert!(!counter.up(1)));
        for _ in 0..=STREAK + 1 {
            counter.up(0);
        }
        other.join().unwrap();
        assert_eq!(counter.count(), STREAK + 3);
    });
}

/// Who waits for the owner to come out of one lock sees what it has done in there, though it finds it in the other.
#[test]
fn an_owner_of_two_locks_excludes_who_asks_for_either() {
    model(|| {
        let counter = Counter::owned();
        let (second, me) = (Bias::new(), &counter.people[0]);
        second.owner.store(me.as_owner(), Ordering::Relaxed);
        let other = beside(&counter, |counter| assert!(!counter.up(1)));
        counter.up(0);
        let taken = second.quick(me).unwrap();
        counter.up(0);
        taken.store(0, Ordering::Release);
        other.join().unwrap();
        assert_eq!(counter.count(), STREAK + 4);
    });
}
