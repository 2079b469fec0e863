//! Why `go` may be a safe function: a test for each rule of the essay in `sched`.

mod child;

use child::{Child, wait_until};
use std::cell::{Cell, RefCell};
use std::collections::HashMap;
use std::io::Write;
use std::panic::{AssertUnwindSafe, catch_unwind, panic_any, resume_unwind};
use std::rc::Rc;
use std::sync::atomic::{AtomicBool, AtomicUsize, Ordering::SeqCst};
use std::sync::{Arc, Mutex, mpsc};
use std::time::{Duration, Instant};
use strands::channel::{Receiver, Sender, bounded, unbounded};
use strands::{JoinHandle, Scope, ScopedJoinHandle, go, scope, thread, yield_now};

type Os = std::thread::ThreadId;

fn os_thread() -> Os {
    std::thread::current().id()
}

/// What the types promise. What they must not allow is in `compile_fail` examples beside them.
const _: fn() = || {
    fn is_shared<T: Send + Sync + Unpin>() {}
    is_shared::<JoinHandle<Cell<u8>>>();
    is_shared::<JoinHandle<std::marker::PhantomPinned>>();
    is_shared::<ScopedJoinHandle<'static, Cell<u8>>>();
    is_shared::<thread::Thread>();
    is_shared::<thread::ThreadId>();
    fn is_sync<T: Sync>() {}
    is_sync::<Scope<'static, 'static>>();
};

// Rule 1: a goroutine that has started never changes its thread.

thread_local! {
    static VISITS: Rc<Cell<usize>> = Rc::default();
    static NOTES: RefCell<Vec<usize>> = const { RefCell::new(Vec::new()) };
}

/// Suspends the caller in one of the ways there are.
fn suspend(how: usize, wakers: &Sender<thread::Thread>) {
    match how % 7 {
        0 => yield_now(),
        1 => strands::sleep(Duration::from_micros(20)),
        2 => {
            wakers.send(thread::current()).unwrap();
            thread::park();
        }
        3 => go(yield_now).join().unwrap(),
        4 => {
            let (tx, rx) = bounded(0);
            go(move || tx.send(()).unwrap());
            rx.recv().unwrap();
        }
        5 => scope(|s| {
            s.go(yield_now);
        }),
        // Rarely: it takes a thread.
        _ if how.is_multiple_of(5) => strands::blocking(std::thread::yield_now),
        _ => yield_now(),
    }
}

/// Goroutines that are suspended in all ways, and use thread-locals before and after. Returns how often
/// each thread was visited, as that thread has counted.
fn visit(goroutines: usize, rounds: usize, wakers: &Sender<thread::Thread>) -> HashMap<Os, usize> {
    let visitor = |number: usize| {
        let wakers = wakers.clone();
        move || {
            let home = os_thread();
            let visits = VISITS.with(Rc::clone);
            for round in 0..rounds {
                NOTES.with_borrow_mut(|notes| notes.push(number));
                let before = VISITS.with(Rc::clone);
                suspend(number + round, &wakers);
                assert_eq!(os_thread(), home, "round {round}");
                assert!(VISITS.with(|now| Rc::ptr_eq(now, &before)));
                // Some would be lost if another thread counted here too.
                visits.set(visits.get() + 1);
                NOTES.with_borrow_mut(|notes| {
                    let at = notes.iter().position(|note| *note == number);
                    notes.swap_remove(at.expect("it is noted on this thread"));
                });
            }
            (home, visits.get())
        }
    };
    let all: Vec<_> = (0..goroutines).map(|number| go(visitor(number))).collect();
    let mut most = HashMap::new();
    for goroutine in all {
        let (home, visits) = goroutine.join().unwrap();
        let known: &mut usize = most.entry(home).or_default();
        *known = visits.max(*known);
    }
    most
}

#[test]
fn a_started_goroutine_never_changes_its_thread() {
    let name = "a_started_goroutine_never_changes_its_thread";
    let ended = Child::of(name).env("STRANDS_MAXPROCS", "4").run(|| {
        // Plain threads that wake goroutines: not one of these is anybody's home.
        let (wakers, parked) = unbounded::<thread::Thread>();
        for _ in 0..3 {
            let parked = parked.clone();
            std::thread::spawn(move || parked.iter().for_each(|goroutine| goroutine.unpark()));
        }
        let mut total: HashMap<Os, usize> = HashMap::new();
        let mut waves = 0;
        // On a busy machine one worker may start a whole wave before another is awake.
        while waves < 2 || total.len() < 2 {
            assert!(waves < 100, "they were all at home on one thread");
            waves += 1;
            total.extend(visit(300, 100, &wakers));
        }
        assert_eq!(total.values().sum::<usize>(), waves * 300 * 100, "visits were lost");
    });
    ended.assert_success();
}

#[test]
fn a_guard_that_belongs_to_a_thread_may_be_held_over_a_suspension() {
    let name = "a_guard_that_belongs_to_a_thread_may_be_held_over_a_suspension";
    let ended = Child::of(name).env("STRANDS_MAXPROCS", "4").run(|| {
        let (tx, rx) = unbounded();
        let writers: Vec<_> = (0..100)
            .map(|number| {
                let tx = tx.clone();
                go(move || {
                    // Reentrant, and released by its owner's thread or never.
                    let mut out = std::io::stdout().lock();
                    write!(out, "<{number:03}").unwrap();
                    for _ in 0..5 {
                        yield_now();
                        tx.send(number).unwrap();
                        strands::sleep(Duration::from_micros(10));
                    }
                    writeln!(out, "{number:03}>").unwrap();
                })
            })
            .collect();
        writers.into_iter().for_each(|writer| writer.join().unwrap());
        assert_eq!(rx.try_iter().count(), 500);
        // Free again: this is another thread.
        let _lock = std::io::stdout().lock();
    });
    ended.assert_success();
    for number in 0..100 {
        for word in [format!("<{number:03}"), format!("{number:03}>\n")] {
            assert_eq!(ended.stdout.matches(&word).count(), 1, "{word:?}: {ended}");
        }
    }
}

// Rule 2: a panic that is under way stays with its goroutine.

/// Suspends its goroutine when dropped: says so, and waits to be told to go on.
struct SuspendsInDrop {
    suspended: Sender<()>,
    go_on: Receiver<()>,
}

impl Drop for SuspendsInDrop {
    fn drop(&mut self) {
        assert!(std::thread::panicking());
        self.suspended.send(()).unwrap();
        self.go_on.recv().unwrap();
        assert!(std::thread::panicking(), "the panic was lost over a suspension");
    }
}

/// A goroutine that is in the middle of a panic, and the means to let it go on.
fn panic_half_way(payload: u32) -> (JoinHandle<()>, Sender<()>) {
    let (suspended, is_suspended) = bounded(0);
    let (go_on, may_go_on) = bounded(0);
    let unwinding = go(move || {
        let _held = SuspendsInDrop { suspended, go_on: may_go_on };
        resume_unwind(Box::new(payload));
    });
    is_suspended.recv().unwrap();
    (unwinding, go_on)
}

/// Runs `body` as a goroutine of a child with one processor, so that all are at home on one thread.
fn on_one_thread(test: &'static str, body: fn()) {
    Child::of(test).env("STRANDS_MAXPROCS", "1").run(|| strands::run(body)).assert_success();
}

#[test]
fn a_suspended_panic_is_not_its_siblings() {
    on_one_thread("a_suspended_panic_is_not_its_siblings", || {
        let home = os_thread();
        let (unwinding, go_on) = panic_half_way(1);
        assert!(!std::thread::panicking());
        let mutex = Arc::new(Mutex::new(0));
        let sibling = {
            let mutex = Arc::clone(&mutex);
            go(move || {
                let roams = strands::runtime::metrics().affinity == thread::Affinity::Roaming;
                assert!(roams || os_thread() == home);
                assert!(!std::thread::panicking());
                *mutex.lock().unwrap() += 1;
                // Its own panics, one caught and one joined: neither is a panic within a panic.
                let caught = catch_unwind(|| panic!("expected")).unwrap_err();
                assert_eq!(caught.downcast_ref(), Some(&"expected"));
                assert!(!std::thread::panicking());
                panic_any(2_u32);
            })
        };
        assert_eq!(sibling.join().unwrap_err().downcast_ref(), Some(&2_u32));
        assert!(!mutex.is_poisoned(), "a neighbour's panic poisoned it");
        *mutex.lock().unwrap() += 1;
        go_on.send(()).unwrap();
        assert_eq!(unwinding.join().unwrap_err().downcast_ref(), Some(&1_u32));
        // Nothing is left behind.
        go(|| assert!(!std::thread::panicking())).join().unwrap();
        assert!(!std::thread::panicking());
    });
}

#[test]
fn several_panics_can_be_suspended_and_end_in_any_order() {
    on_one_thread("several_panics_can_be_suspended_and_end_in_any_order", || {
        let mut halves: Vec<_> = (0..50).map(|number| (number, panic_half_way(number))).collect();
        // From both ends: neither first in, first out nor the other way.
        while !halves.is_empty() {
            let at = if halves.len() % 2 == 0 { 0 } else { halves.len() - 1 };
            let (number, (unwinding, go_on)) = halves.remove(at);
            assert!(!std::thread::panicking());
            go_on.send(()).unwrap();
            assert_eq!(unwinding.join().unwrap_err().downcast_ref(), Some(&number));
        }
    });
}

/// Panics within a `Drop` within a panic, `levels` deep, and suspends at each.
struct Nested(usize);

impl Drop for Nested {
    fn drop(&mut self) {
        assert!(std::thread::panicking());
        yield_now();
        if self.0 > 0 {
            let inner = AssertUnwindSafe(self.0 - 1);
            let caught = catch_unwind(move || {
                let _inner = Nested(*inner);
                yield_now();
                resume_unwind(Box::new(*inner));
            });
            assert_eq!(caught.unwrap_err().downcast_ref(), Some(&(self.0 - 1)));
        }
        yield_now();
        assert!(std::thread::panicking(), "an inner panic took the outer one along");
    }
}

#[test]
fn nested_panics_keep_their_count_over_suspensions() {
    on_one_thread("nested_panics_keep_their_count_over_suspensions", || {
        let goroutines: Vec<_> = (0..200)
            .map(|number| {
                go(move || {
                    for round in 0..10 {
                        assert!(!std::thread::panicking(), "round {round}");
                        let levels = (number + round) % 4;
                        let caught = catch_unwind(|| {
                            let _outer = Nested(levels);
                            resume_unwind(Box::new(()));
                        });
                        assert!(caught.is_err());
                        assert!(!std::thread::panicking(), "round {round}");
                        yield_now();
                    }
                })
            })
            .collect();
        goroutines.into_iter().for_each(|goroutine| goroutine.join().unwrap());
    });
}

#[test]
fn a_panic_hook_may_suspend_while_siblings_panic() {
    on_one_thread("a_panic_hook_may_suspend_while_siblings_panic", || {
        static IN_HOOK: AtomicUsize = AtomicUsize::new(0);
        static MOST: AtomicUsize = AtomicUsize::new(0);
        std::panic::set_hook(Box::new(|_| {
            assert!(std::thread::panicking());
            MOST.fetch_max(IN_HOOK.fetch_add(1, SeqCst) + 1, SeqCst);
            for _ in 0..10 {
                yield_now();
            }
            IN_HOOK.fetch_sub(1, SeqCst);
        }));
        let goroutines: Vec<_> =
            (0..50).map(|number: usize| go(move || panic_any(number))).collect();
        let observer = go(|| {
            while MOST.load(SeqCst) == 0 {
                yield_now();
            }
            assert!(!std::thread::panicking());
        });
        observer.join().unwrap();
        for (number, goroutine) in goroutines.into_iter().enumerate() {
            assert_eq!(goroutine.join().unwrap_err().downcast_ref(), Some(&number));
        }
        assert!(MOST.load(SeqCst) > 1, "no two were in the hook at a time");
    });
}

#[test]
fn where_the_count_is_not_known_a_panic_keeps_its_thread_and_others_go_on() {
    let name = "where_the_count_is_not_known_a_panic_keeps_its_thread_and_others_go_on";
    let child = Child::of(name).env("STRANDS_MAXPROCS", "1").env("STRANDS_DEBUG", "panics=pinned");
    let ended = child.run(|| {
        let (tell, told) = mpsc::channel();
        let (suspended, is_suspended) = bounded(0);
        let (go_on, may_go_on) = bounded(0);
        let unwinding = go(move || {
            tell.send(os_thread()).unwrap();
            let _held = SuspendsInDrop { suspended, go_on: may_go_on };
            // Such a goroutine may not lend its thread to others, but it may still wait by a clock.
            struct Sleeps;
            impl Drop for Sleeps {
                fn drop(&mut self) {
                    let before = Instant::now();
                    strands::sleep(Duration::from_millis(5));
                    assert!(before.elapsed() >= Duration::from_millis(5));
                    yield_now();
                }
            }
            let _sleeps = Sleeps;
            resume_unwind(Box::new(1_u32));
        });
        let home = told.recv().unwrap();
        is_suspended.recv().unwrap();
        // There is one processor, and it has gone to another thread.
        let others: Vec<_> = (0..100)
            .map(|_| {
                go(move || {
                    assert!(!std::thread::panicking());
                    assert_ne!(os_thread(), home);
                    yield_now();
                    let caught = catch_unwind(|| resume_unwind(Box::new(())));
                    assert!(caught.is_err() && !std::thread::panicking());
                })
            })
            .collect();
        others.into_iter().for_each(|other| other.join().unwrap());
        go_on.send(()).unwrap();
        assert_eq!(unwinding.join().unwrap_err().downcast_ref(), Some(&1_u32));
    });
    ended.assert_success();
}

// Rule 3: workers sleep on a futex of their own.

#[test]
fn the_token_of_std_park_is_not_eaten() {
    on_one_thread("the_token_of_std_park_is_not_eaten", || {
        let (wakers, parked) = unbounded::<thread::Thread>();
        std::thread::spawn(move || {
            for goroutine in parked {
                // Let the worker fall asleep, so that it has something to be woken from.
                std::thread::sleep(Duration::from_millis(1));
                goroutine.unpark();
            }
        });
        for how in 0..70 {
            std::thread::current().unpark();
            suspend(how, &wakers);
            wakers.send(thread::current()).unwrap();
            thread::park();
            let before = Instant::now();
            std::thread::park_timeout(Duration::from_secs(20));
            assert!(before.elapsed() < Duration::from_secs(10), "no token after {how}");
        }
    });
}

// Rule 4: nothing of ours remembers a thread-local over a switch.

#[test]
fn the_current_goroutine_is_the_one_that_runs() {
    let goroutines: Vec<_> = (0..100)
        .map(|number| {
            go(move || {
                let (wakers, parked) = unbounded::<thread::Thread>();
                let waker = go(move || parked.iter().for_each(|goroutine| goroutine.unpark()));
                let me = thread::current().id();
                for round in 0..30 {
                    suspend(number + round, &wakers);
                    assert_eq!(thread::current().id(), me);
                }
                drop(wakers);
                waker.join().unwrap();
                me
            })
        })
        .collect();
    for goroutine in goroutines {
        let id = goroutine.thread().id();
        assert_eq!(goroutine.join().unwrap(), id);
    }
}

// Rule 5: a suspended stack is never freed or unwound.

struct SaysSo(&'static str);

impl Drop for SaysSo {
    fn drop(&mut self) {
        println!("{} is dropped", self.0);
    }
}

/// Leaves goroutines suspended in several ways.
fn leave_suspended() {
    for (name, how) in [
        ("parked", (|| thread::park()) as fn()),
        ("asleep", || strands::sleep(Duration::from_secs(3600))),
        ("receiving", || {
            let (_open, gate) = bounded::<()>(0);
            gate.recv().unwrap();
        }),
        ("yielding", || {
            loop {
                yield_now()
            }
        }),
    ] {
        let body = move || {
            let _says_so = SaysSo(name);
            how();
        };
        drop(thread::Builder::new().name(name.into()).spawn(body).unwrap());
    }
    wait_until("all have started", || {
        let dump = strands::runtime::dump();
        ["\"parked\" [park", "\"asleep\" [sleep", "\"receiving\" [chan receive", "\"yielding\""]
            .iter()
            .all(|goroutine| dump.contains(goroutine))
    });
}

#[test]
fn main_may_return_while_goroutines_are_suspended() {
    let name = "main_may_return_while_goroutines_are_suspended";
    let Some(ended) = Child::of(name).run_main(leave_suspended) else { return };
    ended.assert_success();
    assert!(ended.stdout.contains("test result: ok"), "main has returned: {ended}");
    assert!(!ended.stdout.contains("is dropped"), "{ended}");
}

#[test]
fn a_goroutine_may_end_the_process() {
    let ended = Child::of("a_goroutine_may_end_the_process").run(|| {
        leave_suspended();
        strands::run(|| std::process::exit(7));
    });
    assert_eq!(ended.status.code(), Some(7), "{ended}");
    assert!(!ended.stdout.contains("is dropped"), "{ended}");
}

// Rule 6, about scopes, is in `soundness_scopes.rs`.

// Rule 7: results are dropped where user code may run.

/// Says in whose goroutine it is dropped, after it has waited there.
struct TellsWho(Sender<thread::ThreadId>);

impl Drop for TellsWho {
    fn drop(&mut self) {
        strands::sleep(Duration::from_micros(100));
        yield_now();
        self.0.send(thread::current().id()).unwrap();
    }
}

#[test]
fn a_detached_result_is_dropped_by_its_own_goroutine_and_may_wait_there() {
    let (tx, rx) = bounded(0);
    for _ in 0..50 {
        let (open, gate) = bounded::<()>(0);
        let tx = tx.clone();
        let goroutine = go(move || {
            gate.recv().unwrap_err();
            TellsWho(tx)
        });
        let id = goroutine.thread().id();
        drop(goroutine);
        drop(open);
        assert_eq!(rx.recv().unwrap(), id);
    }
}

#[test]
fn a_result_that_came_too_late_is_dropped_by_the_handles_owner() {
    let (tx, rx) = bounded(0);
    let receiver = go(move || rx.recv().unwrap());
    let goroutine = go(move || TellsWho(tx));
    wait_until("it has ended", || goroutine.is_finished());
    let owner = go(move || drop(goroutine));
    let id = owner.thread().id();
    owner.join().unwrap();
    assert_eq!(receiver.join().unwrap(), id);
}

/// A payload whose destructor panics.
struct PanicsInDrop;

impl Drop for PanicsInDrop {
    fn drop(&mut self) {
        panic!("dropped");
    }
}

#[test]
fn a_joined_payload_that_panics_in_drop_is_its_owners() {
    let joined = go(|| panic_any(PanicsInDrop)).join();
    let caught = catch_unwind(AssertUnwindSafe(|| drop(joined)));
    assert_eq!(caught.unwrap_err().downcast_ref(), Some(&"dropped"));
}

#[test]
fn a_detached_result_that_panics_in_drop_aborts_as_in_std() {
    use std::os::unix::process::ExitStatusExt;
    let name = "a_detached_result_that_panics_in_drop_aborts_as_in_std";
    let ended = Child::of(name).run(|| {
        let detached = AtomicBool::new(false);
        scope(|s| {
            drop(s.go(|| {
                while !detached.load(SeqCst) {
                    yield_now();
                }
                PanicsInDrop
            }));
            detached.store(true, SeqCst);
        });
    });
    assert_eq!(ended.status.signal(), Some(libc::SIGABRT), "{ended}");
    ended.assert_said(&["dropping the result of goroutine", "tests/soundness.rs"]);
}

// Rule 8, about the memory of stacks, is in `stacks.rs`.
