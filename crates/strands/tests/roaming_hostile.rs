//! What safe code can do to its thread that it is not expected to do, done by goroutines that roam: to each it is as if it
//! had a thread for itself.

mod child;
mod roamers;

use child::Child;
use roamers::{Moves, PATIENCE, roam, start};
use std::cell::{Cell, OnceCell, RefCell};
use std::collections::HashSet;
use std::io::Write;
use std::panic::{AssertUnwindSafe, catch_unwind, resume_unwind};
use std::rc::Rc;
use std::sync::atomic::{AtomicBool, AtomicUsize, Ordering::SeqCst};
use std::sync::{Arc, Barrier, Condvar, LazyLock, Mutex, OnceLock, mpsc};
use std::time::{Duration, Instant};
use strands::{channel, thread};

/// Yields until the thread has changed, or not for long: on a busy machine nobody else may come by.
fn move_on() {
    let mut moves = Moves::default();
    for _ in 0..50 {
        moves.look();
        if moves.count > 0 {
            return;
        }
        thread::yield_now();
    }
}

#[test]
fn stds_thread_is_the_goroutines_and_so_is_its_token() {
    if !start() {
        return;
    }
    let (tx, rx) = mpsc::channel();
    let parked = Arc::new(AtomicBool::new(false));
    let handles: Vec<_> = (0..20)
        .map(|_| {
            let (tx, parked) = (tx.clone(), Arc::clone(&parked));
            roam(move || {
                let me = std::thread::current();
                assert_eq!(me.name(), None);
                // A token that was left before is there after a move.
                me.unpark();
                move_on();
                std::thread::park();
                assert_eq!(std::thread::current().id(), me.id());
                // Without one it blocks whichever thread it is on, and is found there.
                tx.send(me.clone()).expect("received");
                while !parked.load(SeqCst) {
                    std::thread::park();
                }
                move_on();
                std::thread::park_timeout(Duration::from_millis(1));
                assert_eq!(std::thread::current().id(), me.id());
                me.id()
            })
        })
        .collect();
    let threads: Vec<_> = (0..handles.len()).map(|_| rx.recv().expect("sent")).collect();
    parked.store(true, SeqCst);
    threads.iter().for_each(std::thread::Thread::unpark);
    let ids: HashSet<_> = handles.into_iter().map(|handle| handle.join().unwrap()).collect();
    assert_eq!(ids.len(), threads.len(), "each is a thread of its own");
}

#[test]
fn a_thread_local_whose_initialiser_waits_is_initialised_once_in_each() {
    static MADE: AtomicUsize = AtomicUsize::new(0);
    thread_local! {
        static SLOW: Rc<Cell<usize>> = {
            MADE.fetch_add(1, SeqCst);
            move_on();
            thread::sleep(Duration::from_micros(100));
            Rc::new(Cell::new(0))
        };
        static ONCE: OnceCell<Box<usize>> = const { OnceCell::new() };
    }
    if !start() {
        return;
    }
    const GOROUTINES: usize = 200;
    let handles: Vec<_> = (0..GOROUTINES)
        .map(|number| {
            roam(move || {
                SLOW.with(|slow| {
                    slow.set(number);
                    move_on();
                    // Were it initialised again meanwhile, by another here, this would be gone.
                    assert_eq!((Rc::strong_count(slow), slow.get()), (1, number));
                    ONCE.with(|once| {
                        let value = once.get_or_init(|| {
                            move_on();
                            Box::new(number)
                        });
                        assert_eq!(**value, number);
                    });
                });
                assert_eq!(SLOW.with(|slow| slow.get()), number);
            })
        })
        .collect();
    handles.into_iter().for_each(|handle| handle.join().unwrap());
    assert_eq!(MADE.load(SeqCst), GOROUTINES);
}

#[test]
fn destructors_may_make_thread_locals_whose_destructors_wait() {
    static ENDED: AtomicUsize = AtomicUsize::new(0);
    struct Late;
    impl Drop for Late {
        fn drop(&mut self) {
            move_on();
            thread::sleep(Duration::from_micros(50));
            // It is being destroyed, and says so.
            assert!(LATE.try_with(|_| ()).is_err());
            ENDED.fetch_add(1, SeqCst);
        }
    }
    struct Early;
    impl Drop for Early {
        fn drop(&mut self) {
            move_on();
            LATE.with(|late| *late.borrow_mut() = Some(Late));
            move_on();
        }
    }
    thread_local! {
        static EARLY: RefCell<Option<Early>> = const { RefCell::new(None) };
        static LATE: RefCell<Option<Late>> = const { RefCell::new(None) };
    }
    if !start() {
        return;
    }
    const GOROUTINES: usize = 200;
    let handles: Vec<_> = (0..GOROUTINES).map(|_| roam(|| EARLY.set(Some(Early)))).collect();
    handles.into_iter().for_each(|handle| handle.join().unwrap());
    child::wait_until("all have ended", || ENDED.load(SeqCst) == GOROUTINES);
}

#[test]
fn catches_and_panics_may_be_nested_over_many_moves() {
    struct Moves;
    impl Drop for Moves {
        fn drop(&mut self) {
            assert!(std::thread::panicking());
            move_on();
            assert!(std::thread::panicking());
        }
    }
    /// Panics at the bottom, and once more on each level, in what is dropped while the one below unwinds.
    fn nest(depth: u32, caught: &Cell<u32>) {
        if depth == 0 {
            let _moves = Moves;
            resume_unwind(Box::new(0_u32));
        }
        struct Nests<'a>(u32, &'a Cell<u32>);
        impl Drop for Nests<'_> {
            fn drop(&mut self) {
                move_on();
                let inner = catch_unwind(AssertUnwindSafe(|| nest(self.0, self.1)));
                assert_eq!(inner.unwrap_err().downcast_ref(), Some(&self.0));
                self.1.set(self.1.get() + 1);
                assert!(std::thread::panicking(), "the one outside goes on");
            }
        }
        let panics = catch_unwind(AssertUnwindSafe(|| {
            let _nests = Nests(depth - 1, caught);
            move_on();
            resume_unwind(Box::new(depth));
        }));
        move_on();
        resume_unwind(panics.unwrap_err());
    }
    if !start() {
        return;
    }
    let handles: Vec<_> = (0..40)
        .map(|_| {
            roam(|| {
                let caught = Cell::new(0);
                let top = catch_unwind(AssertUnwindSafe(|| nest(6, &caught)));
                assert_eq!(top.unwrap_err().downcast_ref(), Some(&6_u32));
                assert!(!std::thread::panicking());
                caught.get()
            })
        })
        .collect();
    handles.into_iter().for_each(|handle| assert_eq!(handle.join().unwrap(), 6));
}

#[test]
fn a_panic_hook_may_wait() {
    let ended = Child::of("a_panic_hook_may_wait").run(|| {
        static HOOKS: AtomicUsize = AtomicUsize::new(0);
        assert!(start());
        std::panic::set_hook(Box::new(|_| {
            let me = std::thread::current().id();
            assert!(std::thread::panicking());
            move_on();
            thread::sleep(Duration::from_micros(100));
            assert_eq!(me, std::thread::current().id());
            HOOKS.fetch_add(1, SeqCst);
        }));
        let handles: Vec<thread::JoinHandle<()>> =
            (0..50).map(|number| roam(move || panic!("{number}"))).collect();
        for (number, handle) in handles.into_iter().enumerate() {
            let payload = handle.join().unwrap_err();
            assert_eq!(payload.downcast_ref(), Some(&number.to_string()));
        }
        assert_eq!(HOOKS.load(SeqCst), 50);
    });
    ended.assert_success();
}

#[test]
fn lines_that_are_written_in_parts_under_the_lock_stay_whole() {
    let ended = Child::of("lines_that_are_written_in_parts_under_the_lock_stay_whole").run(|| {
        assert!(start());
        // The harness has begun a line.
        println!();
        let handles: Vec<_> = (0..20)
            .map(|number| {
                roam(move || {
                    for line in 0..20 {
                        let mut stdout = std::io::stdout().lock();
                        write!(stdout, "line {number} ").unwrap();
                        move_on();
                        // It is its own lock.
                        print!("{line} ");
                        move_on();
                        writeln!(stdout, "end").unwrap();
                    }
                })
            })
            .collect();
        handles.into_iter().for_each(|handle| handle.join().unwrap());
    });
    ended.assert_success();
    let lines: HashSet<_> = ended.stdout.lines().filter(|line| line.starts_with("line")).collect();
    assert_eq!(lines.len(), 400, "{ended}");
    assert!(lines.iter().all(|line| line.ends_with(" end") && line.split(' ').count() == 4));
}

#[test]
fn what_std_initialises_once_may_wait_in_its_initialiser() {
    static LAZY: LazyLock<usize> = LazyLock::new(|| {
        move_on();
        thread::sleep(Duration::from_millis(2));
        7
    });
    if !start() {
        return;
    }
    let once = Arc::new(OnceLock::new());
    let handles: Vec<_> = (0..30)
        .map(|number| {
            let once = Arc::clone(&once);
            roam(move || {
                let first = *once.get_or_init(|| {
                    // The others block their threads meanwhile.
                    thread::sleep(Duration::from_millis(2));
                    move_on();
                    number
                });
                (first, *LAZY)
            })
        })
        .collect();
    let all: HashSet<_> = handles.into_iter().map(|handle| handle.join().unwrap()).collect();
    assert_eq!(all.len(), 1);
}

#[test]
fn stds_ways_to_wait_for_each_other_work_among_them() {
    if !start() {
        return;
    }
    const GOROUTINES: usize = 24;
    let begun = Instant::now();
    let barrier = Arc::new(Barrier::new(GOROUTINES));
    let turn = Arc::new((Mutex::new(0), Condvar::new()));
    let (tx, rx) = mpsc::sync_channel(0);
    let handles: Vec<_> = (0..GOROUTINES)
        .map(|number| {
            let (barrier, turn, tx) = (Arc::clone(&barrier), Arc::clone(&turn), tx.clone());
            roam(move || {
                move_on();
                barrier.wait();
                let mut whose = turn.0.lock().expect("not poisoned");
                while *whose != number {
                    assert!(begun.elapsed() < PATIENCE);
                    whose = turn.1.wait(whose).expect("not poisoned");
                }
                // With the lock held, and in the order of their numbers.
                move_on();
                tx.send(number).expect("received");
                *whose += 1;
                turn.1.notify_all();
            })
        })
        .collect();
    drop(tx);
    let receiver = roam(move || {
        move_on();
        rx.iter().inspect(|_| move_on()).collect::<Vec<_>>()
    });
    handles.into_iter().for_each(|handle| handle.join().unwrap());
    assert_eq!(receiver.join().unwrap(), (0..GOROUTINES).collect::<Vec<_>>());
}

#[test]
fn the_environment_and_the_clock_are_read_while_they_move() {
    if !start() {
        return;
    }
    let (tx, rx) = channel::bounded(4);
    let handles: Vec<_> = (0..20)
        .map(|_| {
            let tx = tx.clone();
            roam(move || {
                for _ in 0..50 {
                    let before = Instant::now();
                    let count = std::env::vars_os().count();
                    move_on();
                    assert!(before <= Instant::now(), "time goes on, wherever one is");
                    assert_eq!(std::env::vars_os().count(), count);
                    tx.send(std::env::current_dir().unwrap()).unwrap();
                }
            })
        })
        .collect();
    drop(tx);
    assert_eq!(rx.iter().collect::<HashSet<_>>().len(), 1);
    handles.into_iter().for_each(|handle| handle.join().unwrap());
}
