//! Futures beside goroutines: what is spawned is polled, joined, cancelled and freed, whoever wakes it.

mod child;
mod process;
mod waiting;

use child::wait_until;
use std::future::{Future, pending, poll_fn, ready};
use std::panic::resume_unwind;
use std::pin::Pin;
use std::sync::atomic::{AtomicBool, AtomicUsize, Ordering::SeqCst};
use std::sync::{Arc, Mutex};
use std::task::{Context, Poll, Waker};
use std::time::{Duration, Instant};
use strands::task::{self, Cancelled, block_on};
use strands::{channel, sync, thread, time};
use waiting::KINDS;

/// Wants another turn so often, and says its name at each.
async fn in_turns(name: char, turns: usize, said: Arc<Mutex<String>>) {
    for _ in 0..turns {
        said.lock().unwrap().push(name);
        let mut again = true;
        poll_fn(|cx| {
            cx.waker().wake_by_ref();
            if std::mem::take(&mut again) { Poll::Pending } else { Poll::Ready(()) }
        })
        .await;
    }
}

#[test]
fn tasks_that_want_another_turn_take_turns() {
    process::on_processors(&[1], || {
        strands::run(|| {
            let said = Arc::new(Mutex::new(String::new()));
            let tasks: Vec<_> = "abc"
                .chars()
                .map(|name| task::spawn(in_turns(name, 50, Arc::clone(&said))))
                .collect();
            tasks.into_iter().for_each(|task| task.join().unwrap());
            let said = said.lock().unwrap();
            // Whatever order it began with. A worker that loses its processor may disturb it now and then.
            let said: Vec<char> = said.chars().collect();
            let fair = said.windows(3).filter(|three| {
                three[0] != three[1] && three[1] != three[2] && three[0] != three[2]
            });
            assert!(fair.count() > 120, "{said:?}");
        });
    });
}

/// Ready when it is told to; leaves its waker where one can get at it.
#[derive(Clone, Default)]
struct Gate(Arc<Mutex<(bool, Option<Waker>, usize)>>);

impl Gate {
    fn open(&self) {
        let waker = {
            let mut gate = self.0.lock().unwrap();
            gate.0 = true;
            gate.1.take()
        };
        waker.into_iter().for_each(Waker::wake);
    }

    fn waker(&self) -> Option<Waker> {
        self.0.lock().unwrap().1.clone()
    }

    fn polls(&self) -> usize {
        self.0.lock().unwrap().2
    }

    #[track_caller]
    fn until_polled(&self, times: usize) {
        wait_until("it is polled", || self.polls() >= times);
    }
}

impl Future for Gate {
    type Output = ();

    fn poll(self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<()> {
        let mut gate = self.0.lock().unwrap();
        gate.2 += 1;
        if gate.0 {
            return Poll::Ready(());
        }
        gate.1 = Some(cx.waker().clone());
        Poll::Pending
    }
}

/// Gives way once: wakes itself while it is polled.
async fn give_way() {
    let mut before = false;
    poll_fn(|cx| {
        cx.waker().wake_by_ref();
        if std::mem::replace(&mut before, true) { Poll::Ready(()) } else { Poll::Pending }
    })
    .await;
}

/// Notes its drop.
struct Dropped(Arc<AtomicUsize>);

impl Drop for Dropped {
    fn drop(&mut self) {
        // As only a goroutine can: a worker's own stack cannot be suspended.
        strands::sleep(Duration::from_micros(100));
        self.0.fetch_add(1, SeqCst);
    }
}

fn drops() -> (Arc<AtomicUsize>, Dropped) {
    let count = Arc::new(AtomicUsize::new(0));
    (Arc::clone(&count), Dropped(count))
}

#[test]
fn block_on_waits_for_wakes_of_other_threads() {
    for kind in KINDS {
        let gate = Gate::default();
        let future = gate.clone();
        let waiting = kind.start(move || {
            // It need not be `Send`.
            let local = std::rc::Rc::new(5);
            block_on(async move {
                future.await;
                *local
            })
        });
        waiting.until_it_waits("future");
        // One for nothing.
        gate.waker().unwrap().wake();
        gate.until_polled(2);
        let opener = gate.clone();
        std::thread::spawn(move || opener.open()).join().unwrap();
        assert_eq!(waiting.join(), 5);
    }
}

#[test]
fn a_wake_before_block_on_waits_is_not_lost() {
    for kind in KINDS {
        kind.start(|| (0..1000).for_each(|_| block_on(give_way()))).join();
    }
}

#[test]
fn block_on_within_a_future_of_block_on_waits_for_its_own() {
    let outer = Gate::default();
    outer.open();
    let sum = block_on(async {
        let inner = block_on(async {
            time::sleep_async(Duration::from_millis(1)).await;
            1
        });
        outer.await;
        inner + 1
    });
    assert_eq!(sum, 2);
}

#[test]
fn a_hundred_thousand_tasks_all_run() {
    for kind in KINDS {
        kind.start(|| {
            let tasks: Vec<_> = (0..100_000_u64)
                .map(|n| {
                    task::spawn(async move {
                        if n % 3 == 0 {
                            give_way().await;
                        }
                        n
                    })
                })
                .collect();
            let sum: u64 = tasks.into_iter().map(|task| task.join().unwrap()).sum();
            assert_eq!(sum, 99_999 * 100_000 / 2);
        })
        .join();
    }
}

#[test]
fn tasks_and_goroutines_talk_over_channels() {
    let (tx, rx) = channel::bounded(3);
    let (echo_tx, echo_rx) = channel::bounded(0);
    let echo = task::spawn(async move {
        while let Ok(n) = rx.recv_async().await {
            let n: u32 = n;
            if echo_tx.send_async(n * 2).await.is_err() {
                break;
            }
        }
    });
    let sender = strands::go(move || (0..10_000).for_each(|n| tx.send(n).unwrap()));
    for n in 0..10_000 {
        assert_eq!(echo_rx.recv(), Ok(n * 2));
    }
    sender.join().unwrap();
    echo.join().unwrap();
}

#[test]
fn wakes_from_foreign_threads_are_not_lost() {
    const ROUNDS: usize = 20_000;
    let seen = Arc::new(AtomicUsize::new(0));
    let target = Arc::new(AtomicUsize::new(0));
    let waker = Arc::new(Mutex::new(None::<Waker>));
    let task = {
        let (seen, target, waker) = (Arc::clone(&seen), Arc::clone(&target), Arc::clone(&waker));
        task::spawn(poll_fn(move |cx| {
            *waker.lock().unwrap() = Some(cx.waker().clone());
            let now = target.load(SeqCst);
            seen.store(now, SeqCst);
            if now == ROUNDS { Poll::Ready(()) } else { Poll::Pending }
        }))
    };
    wait_until("it was polled", || waker.lock().unwrap().is_some());
    for round in 1..=ROUNDS {
        target.store(round, SeqCst);
        let waker = waker.lock().unwrap().clone();
        waker.unwrap().wake();
        let deadline = Instant::now() + waiting::PLENTY;
        while seen.load(SeqCst) != round {
            assert!(Instant::now() < deadline, "wake {round} was lost");
            std::hint::spin_loop();
            if round % 64 == 0 {
                std::thread::yield_now();
            }
        }
    }
    task.join().unwrap();
}

#[test]
fn many_wakers_at_once_lose_nothing() {
    let counts: Vec<_> = (0..200).map(|_| Arc::new(AtomicUsize::new(0))).collect();
    let gates: Vec<_> = counts.iter().map(|_| Gate::default()).collect();
    let tasks: Vec<_> = gates
        .iter()
        .zip(&counts)
        .map(|(gate, count)| {
            let (gate, count) = (gate.clone(), Arc::clone(count));
            task::spawn(async move {
                gate.await;
                count.fetch_add(1, SeqCst);
            })
        })
        .collect();
    std::thread::scope(|s| {
        for _ in 0..4 {
            s.spawn(|| {
                for gate in &gates {
                    gate.waker().into_iter().for_each(Waker::wake);
                    gate.open();
                }
            });
        }
    });
    tasks.into_iter().for_each(|task| task.join().unwrap());
    assert!(counts.iter().all(|count| count.load(SeqCst) == 1));
}

#[test]
fn wakers_outlive_their_task() {
    let gate = Gate::default();
    let task = task::spawn(gate.clone());
    gate.until_polled(1);
    let waker = gate.waker().unwrap();
    gate.open();
    task.join().unwrap();
    assert_eq!(gate.polls(), 2);
    waker.wake_by_ref();
    let other = waker.clone();
    assert!(other.will_wake(&waker));
    drop(waker);
    other.wake();
    strands::go(|| ()).join().unwrap();
    assert_eq!(gate.polls(), 2, "it was polled after its end");
}

#[test]
fn a_panic_stays_in_its_task() {
    let failed = task::spawn(async {
        give_way().await;
        if true {
            resume_unwind(Box::new("payload"));
        }
    });
    assert_eq!(failed.join().unwrap_err().downcast_ref(), Some(&"payload"));
    struct Bomb;
    impl Drop for Bomb {
        fn drop(&mut self) {
            resume_unwind(Box::new("dropped"));
        }
    }
    // Panics of the future's own drop, at its end and after a cancel.
    let at_end = task::spawn(poll_fn({
        let bomb = Bomb;
        move |_| {
            let _ = &bomb;
            Poll::Ready(())
        }
    }));
    assert_eq!(at_end.join().unwrap_err().downcast_ref(), Some(&"dropped"));
    let cancelled = task::spawn(async {
        let _bomb = Bomb;
        pending::<()>().await;
    });
    cancelled.abort();
    let payload = cancelled.join().unwrap_err();
    // Aborted before its first poll the future holds no bomb yet.
    assert!(payload.is::<Cancelled>() || payload.downcast_ref() == Some(&"dropped"));
    let both = task::spawn(poll_fn({
        let bomb = Bomb;
        move |_| -> Poll<()> {
            let _ = &bomb;
            resume_unwind(Box::new("polled"))
        }
    }));
    assert_eq!(both.join().unwrap_err().downcast_ref(), Some(&"polled"));
    assert_eq!(task::spawn(ready(1)).join().unwrap(), 1);
}

#[test]
fn a_panic_that_nobody_joins_is_printed_and_a_cancel_is_not() {
    let Some(program) = process::stage(|| {
        drop(task::spawn(async { panic!("unheard") }));
        let aborted = task::spawn(pending::<()>());
        aborted.abort();
        drop(aborted);
        wait_until("both have ended", || strands::runtime::metrics().goroutines_live == 0);
    }) else {
        return;
    };
    let outcome = program.run().succeeded();
    assert_eq!(outcome.stderr.matches("nobody joined it: unheard").count(), 1, "{outcome}");
    assert!(!outcome.stderr.contains("Any"), "{outcome}");
}

#[test]
fn results_are_dropped_once_whoever_is_left_with_them() {
    let (count, dropped) = drops();
    let task = task::spawn(async move { dropped });
    wait_until("it has ended", || task.is_finished());
    assert_eq!(count.load(SeqCst), 0);
    drop(task);
    assert_eq!(count.load(SeqCst), 1, "by the handle");

    let (gate, (count, dropped)) = (Gate::default(), drops());
    let future = gate.clone();
    drop(task::spawn(async move {
        future.await;
        dropped
    }));
    gate.until_polled(1);
    gate.open();
    wait_until("a detached task goes on, and drops its result", || count.load(SeqCst) == 1);
}

#[test]
fn an_abort_drops_the_future_wherever_it_is() {
    // Idle.
    let (gate, (count, dropped)) = (Gate::default(), drops());
    let future = gate.clone();
    let task = task::spawn(async move {
        let _dropped = dropped;
        future.await;
    });
    gate.until_polled(1);
    task.abort();
    assert!(task.join().unwrap_err().is::<Cancelled>());
    assert_eq!((count.load(SeqCst), gate.polls()), (1, 1));
    gate.open();

    // Being polled: at the end of the poll.
    let (count, dropped) = drops();
    let (in_poll, go_on) = (channel::bounded(0), channel::bounded::<()>(0));
    let task = task::spawn(async move {
        let _dropped = dropped;
        in_poll.0.send(()).unwrap();
        go_on.1.recv().unwrap();
        pending::<()>().await;
    });
    in_poll.1.recv().unwrap();
    task.abort();
    task.abort();
    assert!(!task.is_finished());
    go_on.0.send(()).unwrap();
    assert!(task.join().unwrap_err().is::<Cancelled>());
    assert_eq!(count.load(SeqCst), 1);

    // Ended.
    let task = task::spawn(ready(3));
    let abort = task.abort_handle();
    wait_until("it has ended", || task.is_finished());
    task.abort();
    abort.clone().abort();
    assert_eq!(task.join().unwrap(), 3);
    abort.abort();
}

#[test]
fn what_nobody_can_wake_is_dropped_with_all_it_holds() {
    let (tx, rx) = channel::bounded::<()>(0);
    let task = task::spawn(async move {
        let _tx = tx;
        pending::<()>().await;
    });
    // The handle can still abort it.
    assert!(rx.recv_timeout(Duration::from_millis(10)).is_err_and(|e| e.is_timeout()));
    drop(task);
    assert!(rx.recv().is_err(), "the sender was dropped");

    // The last waker.
    let (gate, (count, dropped)) = (Gate::default(), drops());
    let future = gate.clone();
    drop(task::spawn(async move {
        let _dropped = dropped;
        future.await;
    }));
    gate.until_polled(1);
    let waker = gate.0.lock().unwrap().1.take();
    strands::go(|| ()).join().unwrap();
    assert_eq!(count.load(SeqCst), 0, "somebody can wake it");
    drop(waker);
    wait_until("it is dropped", || count.load(SeqCst) == 1);
}

#[test]
fn a_poll_may_block_as_a_goroutine_does() {
    process::on_processors(&[1, 2], || {
        let (tx, rx) = channel::bounded(0);
        let lock = Arc::new(sync::Mutex::new(0));
        let tasks: Vec<_> = (0..100)
            .map(|_| {
                let (rx, lock) = (rx.clone(), Arc::clone(&lock));
                task::spawn(async move {
                    let got: u32 = rx.recv().unwrap();
                    {
                        let mut sum = lock.lock().unwrap();
                        strands::yield_now();
                        *sum += got;
                    }
                    time::sleep_async(Duration::from_micros(10)).await;
                    strands::sleep(Duration::from_micros(10));
                    // And a wait for a future within a poll.
                    block_on(task::spawn(async move { got })).unwrap()
                })
            })
            .collect();
        (0..100).for_each(|n| tx.send(n).unwrap());
        let sum: u32 = tasks.into_iter().map(|task| task.join().unwrap()).sum();
        assert_eq!((sum, *lock.lock().unwrap()), (4950, 4950));
    });
}

#[test]
fn a_future_that_always_wakes_itself_starves_nobody() {
    process::on_processors(&[1, 2], || {
        let stop = Arc::new(AtomicBool::new(false));
        let spinners: Vec<_> = (0..3)
            .map(|_| {
                let stop = Arc::clone(&stop);
                task::spawn(async move {
                    let mut turns = 0_u64;
                    while !stop.load(SeqCst) {
                        give_way().await;
                        turns += 1;
                    }
                    turns
                })
            })
            .collect();
        // Fresh goroutines, goroutines at home, other tasks, timers.
        let (tx, rx) = channel::bounded(0);
        let home = strands::go(move || rx.iter().sum::<u32>());
        for n in 0..100 {
            strands::go(|| ()).join().unwrap();
            task::spawn(async { give_way().await }).join().unwrap();
            strands::run(|| strands::sleep(Duration::from_micros(50)));
            tx.send(n).unwrap();
        }
        drop(tx);
        assert_eq!(home.join().unwrap(), 4950);
        stop.store(true, SeqCst);
        for spinner in spinners {
            assert!(spinner.join().unwrap() > 0, "each of them had turns");
        }
    });
}

#[test]
fn a_task_that_waits_is_taken_over_by_another_worker() {
    let Some(program) = process::stage(|| {
        let gate = Gate::default();
        let future = gate.clone();
        let (home_tx, home_rx) = channel::bounded(1);
        let task = task::spawn(async move {
            home_tx.send_async(std::thread::current().id()).await.unwrap();
            future.await;
            std::thread::current().id()
        });
        let first = home_rx.recv().unwrap();
        gate.until_polled(1);
        // Keeps that very thread busy until the task has ended elsewhere.
        let over = Arc::new(AtomicBool::new(false));
        let busy = Arc::new(AtomicBool::new(false));
        let mut hogs = Vec::new();
        while !busy.load(SeqCst) {
            let (over, busy) = (Arc::clone(&over), Arc::clone(&busy));
            // At home, since what is compared is threads.
            let hog = thread::Builder::new().affinity(thread::Affinity::Home);
            let hog = hog.spawn(move || {
                if std::thread::current().id() == first && !busy.swap(true, SeqCst) {
                    while !over.load(SeqCst) {
                        std::hint::spin_loop();
                    }
                }
            });
            hogs.push(hog.unwrap());
            std::thread::sleep(Duration::from_micros(100));
        }
        gate.open();
        let second = task.join().unwrap();
        over.store(true, SeqCst);
        hogs.into_iter().for_each(|hog| hog.join().unwrap());
        assert_ne!(first, second);
    }) else {
        return;
    };
    program.processors(2).run().succeeded();
}

strands::goroutine_local! {
    static MARK: std::cell::RefCell<Option<std::rc::Rc<u32>>> = std::cell::RefCell::new(None);
}

#[test]
fn goroutine_locals_belong_to_one_poll() {
    let task = task::spawn(async {
        MARK.with(|mark| *mark.borrow_mut() = Some(std::rc::Rc::new(1)));
        assert!(MARK.with(|mark| mark.borrow().is_some()));
        give_way().await;
        MARK.with(|mark| mark.borrow().is_none())
    });
    assert!(task.join().unwrap());
}

#[test]
fn a_task_is_joined_in_every_way() {
    assert_eq!(block_on(task::spawn(ready(1))).unwrap(), 1);
    let joined = task::spawn(async { task::spawn(ready(2)).await.unwrap() + 1 });
    assert_eq!(joined.join().unwrap(), 3);
    let (_tx, rx) = channel::bounded::<()>(0);
    let mut task = task::spawn(async {
        time::sleep_async(Duration::from_millis(1)).await;
        4
    });
    let got = strands::select! {
        join(task) -> result => result.unwrap(),
        recv(rx) -> _ => 0,
    };
    assert_eq!(got, 4);
    // Awaited by reference, left, and joined.
    let gate = Gate::default();
    let mut task = task::spawn(gate.clone());
    let mut polled = waiting::Polled::new(&mut task);
    polled.assert_pending();
    drop(polled);
    gate.open();
    task.join().unwrap();
    assert!(format!("{:?}", task::spawn(ready(()))).contains("JoinHandle"));
}

#[test]
fn tasks_are_polled_as_somebody() {
    let ids: Vec<_> = (0..2)
        .map(|_| {
            task::spawn(async {
                let before = thread::current().id();
                give_way().await;
                (before, thread::current().id())
            })
        })
        .map(|task| task.join().unwrap())
        .collect();
    assert_eq!(ids[0].0, ids[0].1, "a task keeps its number");
    assert_ne!(ids[0].0, ids[1].0);
}

#[test]
fn live_counts_are_of_tasks_and_not_of_polls() {
    let Some(program) = process::stage(|| {
        let gate = Gate::default();
        let task = task::spawn(gate.clone());
        gate.until_polled(1);
        for n in 1..100 {
            gate.waker().unwrap().wake();
            gate.until_polled(n + 1);
        }
        wait_until("it waits", || strands::runtime::metrics().goroutines_live == 1);
        assert_eq!(strands::runtime::metrics().goroutines_started, 1);
        gate.open();
        task.join().unwrap();
        wait_until("it has ended", || strands::runtime::metrics().goroutines_live == 0);
    }) else {
        return;
    };
    program.run().succeeded();
}

#[test]
fn a_join_of_what_nobody_can_wake_is_a_deadlock() {
    let Some(program) = process::stage(|| {
        let _ = task::spawn(pending::<()>()).join();
    }) else {
        return;
    };
    let outcome = program.run();
    assert_eq!(outcome.status.code(), Some(2), "{outcome}");
    assert!(outcome.stderr.contains("deadlock"), "{outcome}");
}
