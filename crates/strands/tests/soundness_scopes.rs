//! Why `go` may be a safe function, rule 6 of the essay in `sched`: a scope ends after its children.

mod child;

use child::Child;
use std::panic::{AssertUnwindSafe, catch_unwind, resume_unwind};
use std::sync::atomic::{AtomicUsize, Ordering::SeqCst};
use std::sync::mpsc;
use strands::channel::unbounded;
use strands::{scope, yield_now};

/// Writes to what it borrows when it is dropped, and takes its time.
struct WritesInDrop<'a>(&'a AtomicUsize);

impl Drop for WritesInDrop<'_> {
    fn drop(&mut self) {
        (0..20).for_each(|_| yield_now());
        self.0.fetch_add(1, SeqCst);
    }
}

#[test]
fn a_scope_whose_body_panics_waits_for_its_children() {
    struct Tells(mpsc::Sender<()>);
    impl Drop for Tells {
        fn drop(&mut self) {
            self.0.send(()).unwrap();
        }
    }
    for on_goroutine in [false, true] {
        let body = || {
            let ended = AtomicUsize::new(0);
            let (open, gate) = unbounded::<()>();
            let (tell, told) = mpsc::channel();
            // Nobody gets through before the body unwinds.
            let opener = std::thread::spawn(move || {
                told.recv().unwrap();
                drop(open);
            });
            let caught = catch_unwind(AssertUnwindSafe(|| {
                scope(|s| {
                    for _ in 0..10 {
                        let (gate, ended) = (gate.clone(), &ended);
                        s.go(move || {
                            gate.recv().unwrap_err();
                            (0..20).for_each(|_| yield_now());
                            ended.fetch_add(1, SeqCst);
                        });
                    }
                    let _tells = Tells(tell);
                    resume_unwind(Box::new("the body's"));
                })
            }));
            assert_eq!(ended.load(SeqCst), 10, "the scope ended before its children");
            assert_eq!(caught.unwrap_err().downcast_ref(), Some(&"the body's"));
            opener.join().unwrap();
        };
        if on_goroutine { strands::run(body) } else { body() }
    }
}

#[test]
fn a_scope_waits_for_children_whose_handles_are_forgotten_or_dropped() {
    for round in 0..50 {
        let ended = AtomicUsize::new(0);
        scope(|s| {
            for number in 0..6 {
                let child = s.go(|| {
                    (0..10).for_each(|_| yield_now());
                    ended.fetch_add(1, SeqCst);
                });
                if number % 2 == 0 { std::mem::forget(child) } else { drop(child) }
            }
        });
        assert_eq!(ended.load(SeqCst), 6, "round {round}");
    }
}

#[test]
fn a_scope_waits_for_the_destructors_of_its_childrens_results() {
    for round in 0..200 {
        let dropped = AtomicUsize::new(0);
        scope(|s| {
            // Detached before, while or after it runs: the result is dropped by the one or the other.
            for spins in 0..4 {
                let child = s.go(|| WritesInDrop(&dropped));
                (0..spins).for_each(|_| yield_now());
                drop(child);
            }
        });
        assert_eq!(dropped.load(SeqCst), 4, "round {round}");
    }
    let dropped = AtomicUsize::new(0);
    let caught = catch_unwind(AssertUnwindSafe(|| {
        scope(|s| {
            drop(s.go(|| {
                let _held = WritesInDrop(&dropped);
                resume_unwind(Box::new(()));
            }));
        })
    }));
    assert!(caught.is_err());
    assert_eq!(dropped.load(SeqCst), 1, "it unwinds before the scope ends");
}

#[test]
fn a_childs_result_may_borrow_and_be_joined_by_a_sibling() {
    let (text, dropped) = (String::from("borrowed"), AtomicUsize::new(0));
    let joined = scope(|s| {
        let child = s.go(|| (text.as_str(), WritesInDrop(&dropped)));
        let sibling = s.go(move || {
            let (text, held) = child.join().unwrap();
            drop(held);
            text.len()
        });
        sibling.join().unwrap()
    });
    assert_eq!((joined, dropped.load(SeqCst)), (8, 1));
}

#[test]
fn children_may_have_siblings_and_scopes_of_their_own() {
    fn count(levels: usize, total: &AtomicUsize) {
        scope(|s| {
            for _ in 0..3 {
                s.go(|| {
                    total.fetch_add(1, SeqCst);
                    if levels > 0 {
                        count(levels - 1, total);
                    }
                    // From a child, when the body has long returned.
                    s.go(|| {
                        yield_now();
                        total.fetch_add(1, SeqCst);
                    });
                });
            }
        });
    }
    let (here, there) = (AtomicUsize::new(0), AtomicUsize::new(0));
    count(4, &here);
    strands::run(|| count(4, &there));
    let expected = 2 * (3 + 9 + 27 + 81 + 243);
    assert_eq!((here.load(SeqCst), there.load(SeqCst)), (expected, expected));
}

#[test]
fn a_childs_panic_is_the_scopes_unless_it_is_joined() {
    let text = |caught: std::thread::Result<()>| {
        caught.unwrap_err().downcast_ref::<&str>().copied().map(str::to_owned)
    };
    let name = "a_childs_panic_is_the_scopes_unless_it_is_joined";
    let ended = Child::of(name).run(|| {
        // The race between the child's last words and the joiner is worth a few rounds.
        for _ in 0..200 {
            let caught = catch_unwind(|| {
                scope(|s| {
                    s.go(|| resume_unwind(Box::new("the child's")));
                })
            });
            assert_eq!(text(caught).as_deref(), Some("a scoped goroutine panicked"));

            let joined = scope(|s| s.go(|| resume_unwind(Box::new("the child's"))).join());
            assert_eq!(text(joined).as_deref(), Some("the child's"));

            let one_of_two = catch_unwind(|| {
                scope(|s| {
                    let joined = s.go(|| resume_unwind(Box::new("joined")));
                    s.go(|| resume_unwind(Box::new("not joined")));
                    assert!(joined.join().is_err());
                })
            });
            assert_eq!(text(one_of_two).as_deref(), Some("a scoped goroutine panicked"));
        }
    });
    ended.assert_success();
}
