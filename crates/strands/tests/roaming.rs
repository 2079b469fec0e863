//! A roaming goroutine is a thread to Rust: what belongs to a thread is the goroutine's, wherever it runs.

mod child;
mod roamers;

use child::Child;
use roamers::{Moves, PATIENCE, on_threads, roam, start, tid};
use std::cell::{Cell, RefCell};
use std::collections::HashSet;
use std::io::Write;
use std::net::ToSocketAddrs;
use std::panic::{AssertUnwindSafe, catch_unwind};
use std::rc::Rc;
use std::sync::atomic::{AtomicBool, AtomicUsize, Ordering};
use std::sync::{Arc, Mutex};
use std::time::{Duration, Instant};
use strands::thread::{self, Affinity};
use strands::{channel, runtime};

thread_local! {
    static COUNT: Cell<u64> = const { Cell::new(0) };
    static SHARED: Rc<Cell<u64>> = Rc::new(Cell::new(0));
    static BORROWED: RefCell<Vec<u64>> = const { RefCell::new(Vec::new()) };
}

/// Enough that the compiler keeps the address of a thread-local if it may.
fn bump(count: &Cell<u64>) -> u64 {
    count.set(count.get() + 1);
    count.get()
}

/// What else belongs to a thread, once over: its `errno`, its panics, threads that borrow from it, its stack's frames, and
/// what C libraries keep for it.
fn do_as_threads_do(number: i32) {
    // SAFETY: always there, and the calling thread's.
    unsafe { *libc::__errno_location() = number };
    thread::yield_now();
    assert_eq!(std::io::Error::last_os_error().raw_os_error(), Some(number));
    struct Yields;
    impl Drop for Yields {
        fn drop(&mut self) {
            thread::yield_now();
            assert!(std::thread::panicking());
        }
    }
    let caught = catch_unwind(|| {
        let _yields = Yields;
        std::panic::resume_unwind(Box::new(number));
    });
    assert_eq!(caught.unwrap_err().downcast_ref(), Some(&number));
    assert!(!std::thread::panicking());
    let mut value = 0;
    std::thread::scope(|scope| {
        scope.spawn(|| value = number);
        thread::yield_now();
    });
    assert_eq!(value, number);
    let trace = std::backtrace::Backtrace::force_capture();
    assert_eq!(trace.status(), std::backtrace::BacktraceStatus::Captured);
    assert!("localhost:80".to_socket_addrs().unwrap().count() > 0);
}

#[test]
fn what_is_a_threads_stays_its_own_over_a_million_changes_of_threads() {
    const GOROUTINES: usize = 300;
    const MOVES: usize = 1_000_000;
    if !start() {
        return;
    }
    let begun = Instant::now();
    let moves = Arc::new(AtomicUsize::new(0));
    let mut inboxes = Vec::new();
    let mut roaming = Vec::new();
    for number in 1..=GOROUTINES as i32 {
        let (tx, rx) = channel::bounded::<u64>(2);
        inboxes.push(tx);
        let all = moves.clone();
        roaming.push(roam(move || {
            let me = std::thread::current().id();
            let mut moves = Moves::default();
            let mut reported = 0;
            let mut rounds = 0;
            // A lock of std's and the borrow of a thread-local are held over all the waits in here.
            let mutex = Mutex::new(0);
            let mut guard = mutex.lock().unwrap();
            BORROWED.with_borrow_mut(|borrowed| {
                COUNT.with(|count| {
                    let shared = SHARED.with(Rc::clone);
                    for value in rx {
                        moves.look();
                        rounds += 1;
                        *guard += 1;
                        if rounds % 1000 == 0 {
                            do_as_threads_do(number);
                        }
                        borrowed.push(value);
                        shared.set(shared.get() + 1);
                        assert_eq!(bump(count), rounds);
                        assert_eq!(SHARED.with(|other| other.get()), rounds);
                        assert!(SHARED.with(|other| Rc::ptr_eq(other, &shared)));
                        assert_eq!(me, std::thread::current().id());
                        if borrowed.len() > 50 {
                            borrowed.clear();
                            all.fetch_add(moves.count - reported, Ordering::Relaxed);
                            reported = moves.count;
                        }
                    }
                });
            });
            assert_eq!((COUNT.get(), *guard), (rounds, rounds));
            drop(guard);
            assert!(!mutex.is_poisoned());
            (me, rounds)
        }));
    }
    // Each is woken from three threads in turn, and runs where it was woken, or is stolen.
    let wakers = on_threads(3, {
        let (inboxes, moves) = (inboxes.clone(), moves.clone());
        move |number| {
            let mut sent = 0_u64;
            while moves.load(Ordering::Relaxed) < MOVES {
                assert!(begun.elapsed() < PATIENCE, "{moves:?} moves");
                for at in 0..GOROUTINES {
                    inboxes[(at + number * GOROUTINES / 3) % GOROUTINES].send(sent).unwrap();
                    sent += 1;
                }
            }
            sent
        }
    });
    drop(inboxes);
    let sent: u64 = wakers.into_iter().map(|waker| waker.join().unwrap()).sum();
    let ended: Vec<_> = roaming.into_iter().map(|handle| handle.join().unwrap()).collect();
    let rounds: u64 = ended.iter().map(|(_, rounds)| rounds).sum();
    assert_eq!(rounds, sent);
    let ids: HashSet<_> = ended.iter().map(|(id, _)| *id).collect();
    assert_eq!(ids.len(), GOROUTINES, "each is a thread of its own");
    println!("{} moves in {sent} turns, {:?}", moves.load(Ordering::Relaxed), begun.elapsed());
}

#[test]
fn the_ones_after_another_on_a_stack_begin_with_fresh_thread_locals() {
    if !start() {
        return;
    }
    for _ in 0..20_000 {
        let handle = roam(|| {
            assert_eq!(COUNT.replace(7), 0);
            assert_eq!(SHARED.with(|shared| shared.replace(7)), 0);
            BORROWED.with_borrow_mut(|borrowed| {
                assert!(borrowed.is_empty());
                borrowed.push(7);
            });
        });
        handle.join().unwrap();
    }
}

#[test]
fn destructors_of_thread_locals_run_once_and_may_wait() {
    static DROPPED: AtomicUsize = AtomicUsize::new(0);
    struct Waits(channel::Sender<(u64, bool)>);
    impl Drop for Waits {
        fn drop(&mut self) {
            DROPPED.fetch_add(1, Ordering::SeqCst);
            let before = bump_again();
            thread::sleep(Duration::from_millis(1));
            thread::yield_now();
            self.0.send((bump_again(), before == 11)).unwrap();
        }
    }
    fn bump_again() -> u64 {
        COUNT.with(bump)
    }
    thread_local! {
        static ENDS: RefCell<Option<Waits>> = const { RefCell::new(None) };
    }
    if !start() {
        return;
    }
    const GOROUTINES: usize = 500;
    let (tx, rx) = channel::bounded(1);
    let handles: Vec<_> = (0..GOROUTINES)
        .map(|_| {
            let tx = tx.clone();
            roam(move || {
                ENDS.set(Some(Waits(tx)));
                COUNT.set(10);
            })
        })
        .collect();
    drop(tx);
    assert_eq!(rx.iter().inspect(|seen| assert_eq!(*seen, (12, true))).count(), GOROUTINES);
    handles.into_iter().for_each(|handle| handle.join().unwrap());
    assert_eq!(DROPPED.load(Ordering::SeqCst), GOROUTINES);
}

#[test]
fn locks_of_threads_are_held_over_waits() {
    if !start() {
        return;
    }
    // At home, two on one thread would block it for ever.
    let mutex = Arc::new(Mutex::new(0));
    let handles: Vec<_> = (0..8)
        .map(|_| {
            let mutex = mutex.clone();
            roam(move || {
                for _ in 0..5 {
                    let mut guard = mutex.lock().unwrap();
                    let before = *guard;
                    thread::sleep(Duration::from_millis(1));
                    *guard = before + 1;
                    drop(guard);
                    let mut stdout = std::io::stdout().lock();
                    thread::yield_now();
                    // Taken again by its owner: it is reentrant.
                    let _ = std::io::stdout().lock().flush();
                    thread::yield_now();
                    write!(stdout, "").unwrap();
                }
            })
        })
        .collect();
    handles.into_iter().for_each(|handle| handle.join().unwrap());
    assert_eq!(*mutex.lock().unwrap(), 40);
}

#[test]
fn panics_travel_along() {
    struct WaitsInDrop;
    impl Drop for WaitsInDrop {
        fn drop(&mut self) {
            assert!(std::thread::panicking());
            for _ in 0..5 {
                thread::yield_now();
                assert!(std::thread::panicking());
            }
            // A second one, within.
            assert!(catch_unwind(|| std::panic::resume_unwind(Box::new(2))).is_err());
            thread::sleep(Duration::from_micros(100));
        }
    }
    if !start() {
        return;
    }
    let done = Arc::new(AtomicBool::new(false));
    let calm: Vec<_> = (0..20)
        .map(|_| {
            let done = done.clone();
            roam(move || {
                while !done.load(Ordering::Relaxed) {
                    assert!(!std::thread::panicking());
                    let mutex = Mutex::new(());
                    drop(mutex.lock().unwrap());
                    assert!(!mutex.is_poisoned());
                    thread::yield_now();
                }
            })
        })
        .collect();
    let panicking: Vec<_> = (0..100)
        .map(|number| {
            roam(move || {
                for _ in 0..10 {
                    let mutex = Mutex::new(());
                    let caught = catch_unwind(AssertUnwindSafe(|| {
                        let _guard = mutex.lock().unwrap();
                        let _waits = WaitsInDrop;
                        std::panic::resume_unwind(Box::new(number));
                    }));
                    assert_eq!(caught.unwrap_err().downcast_ref(), Some(&number));
                    assert!(mutex.is_poisoned());
                    assert!(!std::thread::panicking());
                }
            })
        })
        .collect();
    panicking.into_iter().for_each(|handle| handle.join().unwrap());
    done.store(true, Ordering::Relaxed);
    calm.into_iter().for_each(|handle| handle.join().unwrap());
}

#[test]
fn threads_may_be_scoped_and_joined_in_it() {
    if !start() {
        return;
    }
    let handles: Vec<_> = (0..20)
        .map(|_| {
            roam(|| {
                let mut values = [0; 4];
                std::thread::scope(|scope| {
                    for (at, value) in values.iter_mut().enumerate() {
                        scope.spawn(move || *value = at);
                    }
                    thread::yield_now();
                });
                values
            })
        })
        .collect();
    handles.into_iter().for_each(|handle| assert_eq!(handle.join().unwrap(), [0, 1, 2, 3]));
}

#[test]
fn deadlines_are_kept_wherever_it_goes_on() {
    if !start() {
        return;
    }
    let handles: Vec<_> = (0..100_u64)
        .map(|number| {
            let (tx, rx) = channel::bounded::<u64>(0);
            let receiver = roam(move || {
                let (mut received, mut late) = (0, 0);
                loop {
                    match rx.recv_timeout(Duration::from_micros(50 + number)) {
                        Ok(0) => return (received, late),
                        Ok(_) => received += 1,
                        Err(_) => late += 1,
                    }
                }
            });
            let sender = roam(move || {
                for k in 1..=100 {
                    if k % 7 == 0 {
                        thread::sleep(Duration::from_micros(60 + number));
                    }
                    tx.send(k).unwrap();
                }
                tx.send(0).unwrap();
            });
            (receiver, sender)
        })
        .collect();
    let mut late = 0;
    for (receiver, sender) in handles {
        sender.join().unwrap();
        let (received, times) = receiver.join().unwrap();
        assert_eq!(received, 100);
        late += times;
    }
    assert!(late > 0, "no deadline ever passed");
}

#[test]
fn a_sibling_that_does_not_stop_computing_holds_nobody_up() {
    if !start() {
        return;
    }
    let stop = Arc::new(AtomicBool::new(false));
    let (tx, rx) = channel::unbounded::<Instant>();
    let waiting: Vec<_> = (0..10)
        .map(|_| {
            let rx = rx.clone();
            roam(move || rx.iter().map(|sent| sent.elapsed()).max().unwrap())
        })
        .collect();
    let hogs: Vec<_> = (0..3)
        .map(|_| {
            let stop = stop.clone();
            roam(move || while !stop.load(Ordering::Relaxed) {})
        })
        .collect();
    // From a thread that is no worker, while every processor computes.
    for _ in 0..20 {
        tx.send(Instant::now()).unwrap();
        std::thread::sleep(Duration::from_millis(5));
    }
    drop(tx);
    // They end while the hogs still run.
    let worst = waiting.into_iter().filter_map(|handle| handle.join().ok()).max().unwrap();
    assert!(hogs.iter().all(|hog| !hog.is_finished()));
    stop.store(true, Ordering::Relaxed);
    hogs.into_iter().for_each(|hog| hog.join().unwrap());
    println!("the worst delay beside three hogs: {worst:?}");
}

#[test]
fn it_is_a_goroutine_still() {
    if !start() {
        return;
    }
    let named = thread::Builder::new().name("nomad".into()).affinity(Affinity::Roaming);
    let (tx, rx) = channel::bounded::<()>(0);
    let handle = named
        .spawn(move || {
            assert_eq!(thread::current().name(), Some("nomad"));
            let _ = rx.recv();
            thread::park();
            thread::current().id()
        })
        .unwrap();
    child::wait_until("the dump shows it", || {
        let dump = runtime::dump();
        let line = dump.lines().find(|line| line.contains("\"nomad\""));
        line.is_some_and(|line| line.contains("chan receive") && line.contains("last on worker"))
    });
    drop(tx);
    handle.thread().unpark();
    let id = handle.thread().id();
    assert_eq!(handle.join().unwrap(), id);
}

#[test]
fn the_affinity_comes_from_the_environment() {
    let test = "the_affinity_comes_from_the_environment";
    let ended = Child::of(test).env("STRANDS_AFFINITY", "roaming").run(|| {
        let threads = strands::go(|| {
            COUNT.set(1);
            let home = thread::Builder::new().affinity(Affinity::Home);
            let seen = home.spawn(tid).unwrap().join().unwrap();
            (COUNT.get(), seen)
        });
        assert_eq!(threads.join().unwrap().0, 1);
        let metrics = runtime::metrics();
        let possible = metrics.roaming_refused.is_none();
        let expected = if possible { Affinity::Roaming } else { Affinity::Home };
        assert_eq!(metrics.affinity, expected);
    });
    ended.assert_success();
}

#[test]
fn a_malformed_affinity_is_named_and_ignored() {
    let test = "a_malformed_affinity_is_named_and_ignored";
    let ended = Child::of(test).env("STRANDS_AFFINITY", "nomadic").run(|| {
        strands::go(|| {}).join().unwrap();
        assert_eq!(runtime::metrics().affinity, Affinity::Home);
    });
    ended.assert_success();
    ended.assert_said(&["STRANDS_AFFINITY=nomadic ignored: expected `home` or `roaming`"]);
}

#[test]
fn where_none_can_roam_they_are_at_home_and_that_is_said_once() {
    let test = "where_none_can_roam_they_are_at_home_and_that_is_said_once";
    let child = Child::of(test).env("STRANDS_DEBUG", "roaming=never");
    let ended = child.env("STRANDS_AFFINITY", "roaming").run(|| {
        for _ in 0..10 {
            let handle = roam(|| {
                let before = tid();
                (0..10).for_each(|_| thread::yield_now());
                before == tid()
            });
            assert!(handle.join().unwrap());
        }
        let metrics = runtime::metrics();
        assert_eq!(metrics.affinity, Affinity::Home);
        assert!(metrics.roaming_refused.is_some());
    });
    ended.assert_success();
    assert_eq!(ended.stderr.matches("cannot roam here").count(), 1, "{ended}");
}
