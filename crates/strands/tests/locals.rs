//! Goroutine-locals: whose they are, when they are made and dropped, what is inherited.

mod child;
mod process;

use child::Child;
use process::on_processors;
use std::cell::{Cell, RefCell};
use std::rc::Rc;
use std::sync::Mutex;
use std::sync::atomic::{AtomicUsize, Ordering};
use strands::channel::{bounded, unbounded};
use strands::local::AccessError;
use strands::{go, goroutine_local, yield_now};

/// Counts those that are alive.
struct Counted(&'static AtomicUsize);

impl Counted {
    fn new(count: &'static AtomicUsize) -> Counted {
        count.fetch_add(1, Ordering::SeqCst);
        Counted(count)
    }
}

impl Drop for Counted {
    fn drop(&mut self) {
        self.0.fetch_sub(1, Ordering::SeqCst);
    }
}

#[test]
fn each_goroutine_has_its_own_wherever_it_is_at_home() {
    goroutine_local! {
        static NUMBER: Cell<usize> = Cell::new(usize::MAX);
        // Not `Send`, and need not be.
        static PAIR: Rc<Cell<usize>> = Rc::new(Cell::new(0));
    }
    on_processors(&[1, 2, 4], || {
        strands::scope(|s| {
            for n in 0..500 {
                s.go(move || {
                    assert_eq!(NUMBER.get(), usize::MAX);
                    NUMBER.set(n);
                    PAIR.with(|pair| {
                        pair.set(n);
                        for _ in 0..10 {
                            yield_now();
                            assert_eq!((NUMBER.get(), pair.get()), (n, n));
                        }
                    });
                });
            }
        });
    });
}

#[test]
fn a_plain_thread_has_its_own_too() {
    static ALIVE: AtomicUsize = AtomicUsize::new(0);
    goroutine_local! {
        static HELD: Counted = Counted::new(&ALIVE);
        static NUMBER: Cell<u32> = Cell::new(1);
    }
    let threads = [1, 2].map(|_| {
        std::thread::spawn(|| {
            HELD.with(|_| assert!(ALIVE.load(Ordering::SeqCst) > 0));
            NUMBER.set(NUMBER.get() + 1);
            NUMBER.get()
        })
    });
    assert_eq!(threads.map(|thread| thread.join().unwrap()), [2, 2]);
    assert_eq!(ALIVE.load(Ordering::SeqCst), 0);
}

#[test]
fn a_value_is_made_when_it_is_first_asked_for_and_once() {
    static MADE: AtomicUsize = AtomicUsize::new(0);
    goroutine_local! {
        static LAZY: usize = MADE.fetch_add(1, Ordering::SeqCst);
        static SET: Cell<usize> = unreachable!("it is set before it is read");
        static REPLACED: RefCell<usize> = unreachable!("likewise");
    }
    go(yield_now).join().unwrap();
    assert_eq!(MADE.load(Ordering::SeqCst), 0);
    go(|| assert_eq!(LAZY.with(|n| *n) + LAZY.with(|n| *n), 0)).join().unwrap();
    assert_eq!(MADE.load(Ordering::SeqCst), 1);
    go(|| {
        SET.set(3);
        REPLACED.set(4);
        assert_eq!((SET.replace(5), SET.take(), SET.get()), (3, 5, 0));
        assert_eq!((REPLACED.replace(6), REPLACED.take()), (4, 6));
        REPLACED.with_borrow_mut(|n| *n += 1);
        assert_eq!(REPLACED.with_borrow(|n| *n), 1);
        REPLACED.set(9);
        assert_eq!(REPLACED.take(), 9);
    })
    .join()
    .unwrap();
}

#[test]
fn making_a_value_may_use_others_and_panic() {
    goroutine_local! {
        static ONE: u32 = TWO.with(|two| two - 1);
        static TWO: u32 = 2;
        static FAILS: Cell<u32> = if TWO.with(|two| *two) == 2 { panic!("on purpose") } else { Cell::new(0) };
    }
    go(|| {
        assert_eq!(ONE.with(|one| *one), 1);
        for _ in 0..2 {
            assert!(std::panic::catch_unwind(|| FAILS.get()).is_err());
        }
        FAILS.set(7);
        assert_eq!(FAILS.get(), 7);
    })
    .join()
    .unwrap();
}

#[test]
fn values_are_dropped_at_the_goroutines_end_before_a_join_returns() {
    static ALIVE: AtomicUsize = AtomicUsize::new(0);
    goroutine_local! {
        static HELD: Counted = Counted::new(&ALIVE);
        static INHERITED: RefCell<Option<std::sync::Arc<Counted>>> = RefCell::new(None), inherit;
    }
    for _ in 0..100 {
        go(|| HELD.with(|_| yield_now())).join().unwrap();
        assert_eq!(ALIVE.load(Ordering::SeqCst), 0);
        let failed = go(|| HELD.with(|_| std::panic::resume_unwind(Box::new(())))).join();
        assert!(failed.is_err());
        assert_eq!(ALIVE.load(Ordering::SeqCst), 0);
        strands::scope(|s| {
            s.go(|| HELD.with(|_| ()));
        });
        assert_eq!(ALIVE.load(Ordering::SeqCst), 0);
        // What was inherited and never looked at.
        INHERITED.set(Some(std::sync::Arc::new(Counted::new(&ALIVE))));
        let heir = go(|| ());
        INHERITED.set(None);
        heir.join().unwrap();
        assert_eq!(ALIVE.load(Ordering::SeqCst), 0);
    }
}

#[test]
fn destructors_run_on_the_goroutines_stack_and_may_wait_and_use_others() {
    static SEEN: Mutex<Vec<String>> = Mutex::new(Vec::new());
    struct Last(strands::channel::Receiver<u32>);
    impl Drop for Last {
        fn drop(&mut self) {
            let me = strands::thread::current();
            let received = self.0.recv().unwrap();
            let word = OTHER.with(|other| other.to_string());
            let itself = LAST.try_with(|_| ()).unwrap_err();
            assert_eq!(itself, AccessError);
            SEEN.lock().unwrap().push(format!("{:?} {received} {word}", me.name()));
        }
    }
    goroutine_local! {
        static LAST: RefCell<Option<Last>> = RefCell::new(None);
        static OTHER: String = "other".to_owned();
    }
    let (tx, rx) = bounded(0);
    let builder = strands::thread::Builder::new().name("me".into());
    let handle = builder.spawn(move || LAST.set(Some(Last(rx)))).unwrap();
    tx.send(5).unwrap();
    handle.join().unwrap();
    assert_eq!(*SEEN.lock().unwrap(), ["Some(\"me\") 5 other"]);
}

#[test]
fn what_is_gone_is_made_anew_for_destructors_but_not_for_ever() {
    static MADE: AtomicUsize = AtomicUsize::new(0);
    static REFUSED: AtomicUsize = AtomicUsize::new(0);
    /// Each of the two asks for the other when it is dropped.
    struct Rises(bool);
    impl Drop for Rises {
        fn drop(&mut self) {
            let other = if self.0 { ODD.try_with(|_| ()) } else { EVEN.try_with(|_| ()) };
            if other.is_err() {
                REFUSED.fetch_add(1, Ordering::SeqCst);
            }
        }
    }
    fn made(even: bool) -> Rises {
        MADE.fetch_add(1, Ordering::SeqCst);
        Rises(even)
    }
    goroutine_local! {
        static EVEN: Rises = made(true);
        static ODD: Rises = made(false);
    }
    go(|| EVEN.with(|_| ())).join().unwrap();
    let of_goroutine = MADE.swap(0, Ordering::SeqCst);
    assert!((3..50).contains(&of_goroutine), "{of_goroutine}");
    assert!(REFUSED.swap(0, Ordering::SeqCst) > 0);
    std::thread::spawn(|| EVEN.with(|_| ())).join().unwrap();
    assert_eq!(MADE.load(Ordering::SeqCst), of_goroutine, "a thread's are no different");
    assert!(REFUSED.load(Ordering::SeqCst) > 0);
}

#[test]
fn code_that_runs_after_the_end_is_refused_and_reads_nothing_freed() {
    struct Late(strands::channel::Sender<bool>);
    impl Drop for Late {
        fn drop(&mut self) {
            let is_refused = VALUE.try_with(|_| ()).is_err();
            // Who this is can still be asked.
            let _ = strands::thread::current().id();
            self.0.send(is_refused).unwrap();
        }
    }
    goroutine_local! { static VALUE: Vec<u8> = vec![1; 100]; }
    let (tx, rx) = unbounded();
    // Detached, so that the goroutine itself drops its result, after its end.
    let (start, started) = bounded::<()>(0);
    drop(go(move || {
        started.recv().unwrap();
        VALUE.with(|_| ());
        Late(tx)
    }));
    start.send(()).unwrap();
    assert_eq!(rx.recv(), Ok(true));
}

#[test]
fn a_child_inherits_a_clone_and_neither_sees_the_others_changes() {
    goroutine_local! {
        static NAME: RefCell<String> = RefCell::new("initial".into()), inherit;
        static OWN: Cell<u32> = Cell::new(0)
    }
    go(|| {
        assert_eq!(go(|| NAME.with_borrow(String::clone)).join().unwrap(), "initial");
        NAME.set("parent".into());
        OWN.set(1);
        let (tx, rx) = bounded::<()>(0);
        let child = go(move || {
            rx.recv().unwrap();
            // Passed on by one who has not looked at it.
            let grandchild = go(|| NAME.with_borrow(String::clone)).join().unwrap();
            let mine = NAME.replace("child".into());
            (grandchild, mine, OWN.get())
        });
        NAME.set("changed after the spawn".into());
        tx.send(()).unwrap();
        assert_eq!(child.join().unwrap(), ("parent".into(), "parent".into(), 0));
        assert_eq!(NAME.take(), "changed after the spawn");
    })
    .join()
    .unwrap();
    std::thread::spawn(|| {
        NAME.set("thread".into());
        assert_eq!(strands::run(|| NAME.take()), "thread");
        strands::scope(|s| {
            let inherited = s.go(|| NAME.take()).join().unwrap();
            assert_eq!(inherited, "thread");
        });
    })
    .join()
    .unwrap();
}

#[test]
fn a_clone_that_panics_at_the_spawn_harms_nothing() {
    #[derive(Default)]
    struct Stubborn(bool);
    impl Clone for Stubborn {
        fn clone(&self) -> Stubborn {
            assert!(!self.0, "on purpose");
            Stubborn(false)
        }
    }
    goroutine_local! { static VALUE: RefCell<Stubborn> = Default::default(), inherit; }
    go(|| {
        VALUE.set(Stubborn(true));
        strands::scope(|s| {
            let spawned = std::panic::catch_unwind(std::panic::AssertUnwindSafe(|| {
                s.go(|| unreachable!("it was not spawned"));
            }));
            assert!(spawned.is_err());
        });
        VALUE.set(Stubborn(false));
        go(|| ()).join().unwrap();
    })
    .join()
    .unwrap();
}

#[test]
fn a_destructor_that_panics_aborts() {
    struct Fails;
    impl Drop for Fails {
        fn drop(&mut self) {
            panic!("on purpose");
        }
    }
    goroutine_local! { static FAILS: Fails = Fails; }
    let ended = Child::of("a_destructor_that_panics_aborts").run(|| {
        let _ = go(|| FAILS.with(|_| ())).join();
    });
    use std::os::unix::process::ExitStatusExt;
    assert_eq!(ended.status.signal(), Some(libc::SIGABRT), "{ended}");
    ended.assert_said(&["on purpose", "goroutine-local value panicked, aborting"]);
}
