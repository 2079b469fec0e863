//! Sleeping, time limits and ticks: for goroutines, for threads, and on a foreign executor.

mod process;

use process::stage;
use std::future::Future;
use std::panic::{AssertUnwindSafe, catch_unwind, resume_unwind};
use std::pin::{Pin, pin};
use std::sync::atomic::{AtomicBool, AtomicU64, AtomicUsize, Ordering::SeqCst};
use std::sync::{Arc, Mutex};
use std::task::{Context, Poll, Wake, Waker};
use strands::channel::{Sender, bounded, unbounded};
use strands::time::{
    self, Duration, Elapsed, Instant, Interval, MissedTickBehavior, Sleep, Tick, Timeout,
};
use strands::{go, thread};

const VERDICT: &str = "fatal error: all goroutines are asleep - deadlock!";
/// What never comes in these tests, and what always does.
const LONG: Duration = Duration::from_secs(3600);
const SHORT: Duration = Duration::from_millis(2);

// ---- Means ----

/// An executor for one future, which parks whoever runs here: a goroutine, or a thread.
fn block_on<F: Future>(future: F) -> F::Output {
    struct Unparks(thread::Thread);
    impl Wake for Unparks {
        fn wake(self: Arc<Self>) {
            self.0.unpark();
        }
    }
    let waker = Waker::from(Arc::new(Unparks(thread::current())));
    let mut future = pin!(future);
    loop {
        match future.as_mut().poll(&mut Context::from_waker(&waker)) {
            Poll::Ready(output) => return output,
            Poll::Pending => thread::park(),
        }
    }
}

/// A waker that sends its number.
struct Rings(usize, Sender<usize>);

impl Wake for Rings {
    fn wake(self: Arc<Self>) {
        let _ = self.1.send(self.0);
    }
}

fn rings(number: usize, to: &Sender<usize>) -> Waker {
    Waker::from(Arc::new(Rings(number, to.clone())))
}

fn poll<F: Future + Unpin>(future: &mut F, waker: &Waker) -> Poll<F::Output> {
    Pin::new(future).poll(&mut Context::from_waker(waker))
}

/// xorshift, with a printed seed.
struct Random(u64);

impl Random {
    fn new() -> Random {
        let now = std::time::SystemTime::now().duration_since(std::time::UNIX_EPOCH);
        let seed = now.expect("after 1970").as_nanos() as u64 | 1;
        println!("seed {seed}");
        Random(seed)
    }

    fn below(&mut self, end: u64) -> u64 {
        self.0 ^= self.0 << 13;
        self.0 ^= self.0 >> 7;
        self.0 ^= self.0 << 17;
        self.0 % end
    }
}

/// Calls `f` on a plain thread, and in a goroutine.
fn on_both(f: fn()) {
    std::thread::spawn(f).join().unwrap_or_else(|payload| resume_unwind(payload));
    go(f).join().unwrap_or_else(|payload| resume_unwind(payload));
}

// ---- Sleeping ----

#[test]
fn nobody_wakes_early() {
    let mut random = Random::new();
    let sleepers: Vec<_> = (0..600)
        .map(|i| {
            let length = Duration::from_nanos(random.below(30_000_000));
            go(move || {
                let begun = Instant::now();
                match i % 4 {
                    0 => time::sleep(length),
                    1 => time::sleep_until(begun + length),
                    2 => block_on(time::sleep_async(length)),
                    _ => block_on(time::sleep_until_async(begun + length)),
                }
                (length, begun.elapsed())
            })
        })
        .collect();
    for sleeper in sleepers {
        let (length, slept) = sleeper.join().unwrap();
        assert!(slept >= length, "{slept:?} instead of {length:?}");
    }
    let begun = Instant::now();
    time::sleep_until(begun + SHORT);
    assert!(begun.elapsed() >= SHORT);
    block_on(time::sleep_async(SHORT));
    assert!(begun.elapsed() >= 2 * SHORT);
}

#[test]
fn short_sleeps_are_not_rounded_to_a_millisecond() {
    /// How long the shorter ones of many short sleeps take.
    fn lower_decile(sleep: fn(Duration)) -> Duration {
        let once = |_| {
            let begun = Instant::now();
            sleep(Duration::from_micros(100));
            begun.elapsed()
        };
        let mut slept: Vec<_> = (0..400).map(once).collect();
        slept.sort_unstable();
        slept[40]
    }
    // A busy machine delays some of them. Rounding would delay all but the first.
    for sleep in [time::sleep, |length| block_on(time::sleep_async(length))] {
        let slept = go(move || lower_decile(sleep)).join().unwrap();
        assert!(slept < Duration::from_micros(900), "{slept:?}");
    }
}

#[test]
fn what_is_past_is_ready_at_once() {
    on_both(|| {
        let begun = Instant::now();
        for _ in 0..100 {
            time::sleep_until(begun - SHORT);
            time::sleep(Duration::ZERO);
        }
        for mut sleep in [time::sleep_async(Duration::ZERO), time::sleep_until_async(begun - LONG)]
        {
            assert!(!sleep.is_elapsed());
            assert_eq!(poll(&mut sleep, Waker::noop()), Poll::Ready(()));
            assert_eq!(poll(&mut sleep, Waker::noop()), Poll::Ready(()), "it stays so");
            assert!(sleep.is_elapsed());
        }
    });
}

#[test]
fn those_at_home_on_one_thread_wake_in_the_order_of_their_deadlines() {
    let Some(program) = stage(|| {
        let woken = Arc::new(Mutex::new(Vec::new()));
        let base = Instant::now() + Duration::from_millis(100);
        let sleepers: Vec<_> = (0..500_u32)
            .map(|i| {
                let woken = Arc::clone(&woken);
                go(move || {
                    // Not in the order in which they go to sleep.
                    let i = i * 211 % 500;
                    time::sleep_until(base + i * Duration::from_nanos(500));
                    woken.lock().unwrap().push((std::thread::current().id(), i));
                })
            })
            .collect();
        sleepers.into_iter().for_each(|sleeper| sleeper.join().unwrap());
        let woken = woken.lock().unwrap();
        for (thread, _) in woken.iter() {
            let here: Vec<_> = woken.iter().filter(|(t, _)| t == thread).map(|w| w.1).collect();
            assert!(here.is_sorted(), "{here:?}");
        }
        assert!(woken.len() == 500);
    }) else {
        return;
    };
    program.processors(1).run().succeeded();
}

#[test]
fn a_goroutine_that_blocks_its_thread_since_it_unwinds_is_woken_too() {
    struct Sleeps(Arc<AtomicBool>);
    impl Drop for Sleeps {
        fn drop(&mut self) {
            time::sleep(10 * SHORT);
            self.0.store(true, SeqCst);
        }
    }
    let Some(program) = stage(|| {
        let slept = Arc::new(AtomicBool::new(false));
        // At home on the same thread, with deadlines before and after its own.
        let neighbours = [5, 15].map(|n| go(move || time::sleep(n * SHORT)));
        let sleeps = Sleeps(Arc::clone(&slept));
        let unwinds = go(move || {
            let _sleeps = sleeps;
            resume_unwind(Box::new("with a sleep on its way"));
        });
        assert!(unwinds.join().is_err());
        assert!(slept.load(SeqCst));
        neighbours.into_iter().for_each(|neighbour| neighbour.join().unwrap());
    }) else {
        return;
    };
    program.processors(1).env("STRANDS_DEBUG", "panics=pinned").run().succeeded();
}

#[test]
fn endless_sleeps_do_not_overflow() {
    let detached = go(|| time::sleep(Duration::MAX));
    let mut sleep = time::sleep_async(Duration::MAX);
    assert!(poll(&mut sleep, Waker::noop()).is_pending());
    let mut limited = time::timeout(Duration::MAX, std::future::pending::<()>());
    assert!(poll(&mut limited, Waker::noop()).is_pending());
    assert_eq!(time::timeout(Duration::MAX, || 1), Ok(1));
    let mut interval = time::interval(Duration::MAX);
    interval.tick();
    assert!(poll(&mut interval.tick_async(), Waker::noop()).is_pending());
    assert!(!detached.is_finished());
}

// ---- Futures ----

#[test]
fn the_last_waker_is_the_one_that_is_called() {
    let (tx, rx) = unbounded();
    let mut sleep = time::sleep_async(300 * SHORT);
    for number in [1, 2, 2, 3] {
        assert!(poll(&mut sleep, &rings(number, &tx)).is_pending());
    }
    // It may be moved, and polled on another thread.
    let mut sleep = std::thread::spawn({
        let waker = rings(4, &tx);
        move || {
            assert!(poll(&mut sleep, &waker).is_pending());
            sleep
        }
    })
    .join()
    .unwrap();
    drop(tx);
    assert_eq!(rx.iter().collect::<Vec<_>>(), [4]);
    assert_eq!(poll(&mut sleep, Waker::noop()), Poll::Ready(()));
}

#[test]
fn a_waker_is_neither_kept_nor_called_after_the_future_was_dropped() {
    let (tx, rx) = unbounded();
    let mut random = Random::new();
    // Some deadlines come while their futures are being dropped.
    let mut pending = 0;
    for _ in 0..300 {
        let mut sleep = time::sleep_async(Duration::from_nanos(random.below(300_000)));
        pending += usize::from(poll(&mut sleep, &rings(0, &tx)).is_pending());
        std::thread::sleep(Duration::from_nanos(random.below(300_000)));
        drop(sleep);
    }
    let mut sleep = time::sleep_async(LONG);
    assert!(poll(&mut sleep, &rings(0, &tx)).is_pending());
    drop(sleep);
    drop(tx);
    // Ends, for the wakers went with their futures.
    let rung = rx.iter().count();
    assert!(rung < pending, "{rung} of {pending}: each of the others was dropped long before");
}

#[test]
fn a_waker_that_panics_harms_no_other_alarm() {
    struct Panics;
    impl Wake for Panics {
        fn wake(self: Arc<Self>) {
            resume_unwind(Box::new("of the executor's"));
        }
    }
    let mut sleep = time::sleep_async(50 * SHORT);
    assert!(poll(&mut sleep, &Waker::from(Arc::new(Panics))).is_pending());
    block_on(time::sleep_async(60 * SHORT));
    block_on(time::sleep_async(SHORT));
    assert_eq!(poll(&mut sleep, Waker::noop()), Poll::Ready(()));
}

#[test]
fn an_earlier_alarm_is_not_held_up_by_a_later_one() {
    let mut later = time::sleep_async(LONG);
    assert!(poll(&mut later, Waker::noop()).is_pending());
    // The thread sleeps for an hour by now, or will in a moment.
    for _ in 0..50 {
        block_on(time::sleep_async(Duration::from_micros(300)));
    }
    assert!(poll(&mut later, Waker::noop()).is_pending());
}

#[test]
fn alarms_of_many_threads_all_go_off() {
    let rung = Arc::new(AtomicUsize::new(0));
    let seed = Random::new().below(u64::MAX);
    let threads: Vec<_> = (0..4)
        .map(|thread| {
            let rung = Arc::clone(&rung);
            let mut random = Random(seed ^ (thread + 1));
            std::thread::spawn(move || {
                for _ in 0..200 {
                    let length = Duration::from_nanos(random.below(500_000));
                    let begun = Instant::now();
                    let (kept, dropped) = (time::sleep_async(length), time::sleep_async(length));
                    let mut dropped = dropped;
                    let _ = poll(&mut dropped, Waker::noop());
                    block_on(kept);
                    assert!(begun.elapsed() >= length);
                    rung.fetch_add(1, SeqCst);
                }
            })
        })
        .collect();
    threads.into_iter().for_each(|thread| thread.join().unwrap());
    assert_eq!(rung.load(SeqCst), 800);
}

#[test]
fn a_million_sleeps_are_held_and_dropped() {
    let mut random = Random::new();
    let begun = Instant::now();
    let mut sleeps: Vec<Sleep> = Vec::with_capacity(1_000_000);
    for _ in 0..1_000_000 {
        let mut sleep = time::sleep_async(LONG + Duration::from_nanos(random.below(1 << 40)));
        assert!(poll(&mut sleep, Waker::noop()).is_pending());
        sleeps.push(sleep);
    }
    // Others go off as ever.
    block_on(time::sleep_async(SHORT));
    while !sleeps.is_empty() {
        drop(sleeps.swap_remove(random.below(sleeps.len() as u64) as usize));
    }
    // A tenth of this is usual, in a debug build; were any step linear, it would be hours.
    assert!(begun.elapsed() < Duration::from_secs(60), "{:?}", begun.elapsed());
}

#[test]
fn futures_are_send_and_need_no_pinning() {
    fn check<T: Send + Sync + Unpin>() {}
    check::<Sleep>();
    check::<Interval>();
    check::<Tick<'_>>();
    check::<Timeout<std::future::Ready<()>>>();
}

// ---- Time limits ----

#[test]
fn a_closure_in_time_gives_its_value_and_may_block() {
    on_both(|| {
        let (tx, rx) = bounded(0);
        let sender = go(move || tx.send(42).unwrap());
        assert_eq!(time::timeout(LONG, move || rx.recv().unwrap()), Ok(42));
        sender.join().unwrap();
    });
}

#[test]
fn a_closure_that_is_late_goes_on_without_whoever_waited() {
    on_both(|| {
        let (go_on, wait) = bounded::<()>(0);
        let (tx, rx) = bounded(1);
        let late = time::timeout(SHORT, move || {
            wait.recv().unwrap();
            tx.send("went on").unwrap();
        });
        assert!(late.is_err());
        go_on.send(()).unwrap();
        assert_eq!(rx.recv(), Ok("went on"));
    });
}

#[test]
fn a_result_that_comes_too_late_is_dropped() {
    struct Rings(Sender<()>);
    impl Drop for Rings {
        fn drop(&mut self) {
            let _ = self.0.send(());
        }
    }
    let (dropped_tx, dropped) = bounded(1);
    let (go_on, wait) = bounded::<()>(0);
    let late = time::timeout(Duration::ZERO, move || {
        wait.recv().unwrap();
        Rings(dropped_tx)
    });
    assert!(late.is_err());
    assert!(dropped.try_recv().is_err(), "it has not ended");
    go_on.send(()).unwrap();
    assert_eq!(dropped.recv(), Ok(()));
}

#[test]
fn a_panic_in_time_is_the_waiters() {
    on_both(|| {
        let limited = || time::timeout(LONG, || resume_unwind(Box::new(7_u8)));
        let payload = catch_unwind(AssertUnwindSafe(limited)).unwrap_err();
        assert_eq!(payload.downcast_ref(), Some(&7_u8));
    });
}

#[test]
fn a_panic_that_comes_too_late_is_nobodys() {
    let (go_on, wait) = bounded::<()>(0);
    let late: Result<(), Elapsed> = time::timeout(SHORT, move || {
        wait.recv().unwrap();
        resume_unwind(Box::new("too late"))
    });
    assert!(late.is_err());
    go_on.send(()).unwrap();
}

#[test]
fn limits_and_ends_that_coincide_give_the_one_or_the_other() {
    let mut random = Random::new();
    let ended = Arc::new(AtomicU64::new(0));
    let mut in_time = 0;
    for _ in 0..500 {
        let [limit, work] = [(); 2].map(|()| Duration::from_nanos(random.below(200_000)));
        let begun = Instant::now();
        let ended = Arc::clone(&ended);
        match time::timeout(limit, move || {
            time::sleep(work);
            ended.fetch_add(1, SeqCst);
            work
        }) {
            Ok(value) => {
                in_time += 1;
                assert_eq!(value, work);
                assert!(begun.elapsed() >= work);
            }
            Err(_) => assert!(begun.elapsed() >= limit),
        }
    }
    while ended.load(SeqCst) < 500 {
        time::sleep(SHORT);
    }
    println!("{in_time} of 500 in time");
}

#[test]
fn a_future_in_time_gives_its_output() {
    let value = block_on(time::timeout(LONG, async {
        time::sleep_async(SHORT).await;
        42
    }));
    assert_eq!(value, Ok(42));
    // Also one that is a value of ours, and one behind a pin.
    assert_eq!(block_on(time::timeout(LONG, go(|| 1))).unwrap().unwrap(), 1);
    assert_eq!(block_on(time::timeout(LONG, Box::pin(async { 2 }))), Ok(2));
}

#[test]
fn a_future_that_is_late_is_dropped_with_its_limit() {
    let (tx, rx) = bounded::<()>(0);
    let begun = Instant::now();
    let mut limited = Box::pin(time::timeout(SHORT, async move {
        std::future::pending::<()>().await;
        drop(tx);
    }));
    let late = block_on(limited.as_mut());
    assert!(begun.elapsed() >= SHORT);
    assert_eq!(late.unwrap_err().to_string(), "the time limit has elapsed");
    assert!(rx.try_recv().unwrap_err().is_empty(), "the future is there as long as its limit");
    drop(limited);
    assert!(rx.recv().is_err());
}

#[test]
fn a_limit_of_zero_polls_once_and_the_future_goes_first() {
    let (zero, past) = (Duration::ZERO, Instant::now() - SHORT);
    assert_eq!(
        poll(&mut time::timeout(zero, std::future::ready(1)), Waker::noop()).map(Result::ok),
        Poll::Ready(Some(1))
    );
    assert_eq!(block_on(time::timeout_at(past, std::future::ready(1))), Ok(1));
    let mut polls = 0;
    let pending = std::future::poll_fn(|_| {
        polls += 1;
        Poll::<()>::Pending
    });
    assert!(block_on(time::timeout(zero, pending)).is_err());
    assert_eq!(polls, 1);
    // It goes on all the same, when it is let.
    let (gate, is_open) = bounded::<()>(0);
    let (done, is_done) = bounded(1);
    let late = time::timeout_at(past, move || {
        is_open.recv().unwrap();
        done.send(()).unwrap();
    });
    assert!(late.is_err());
    gate.send(()).unwrap();
    is_done.recv().unwrap();
}

#[test]
fn an_elapsed_limit_is_an_io_error_of_the_right_kind() {
    let late = block_on(time::timeout(Duration::ZERO, std::future::pending::<()>())).unwrap_err();
    let error = std::io::Error::from(late);
    assert_eq!(error.kind(), std::io::ErrorKind::TimedOut);
    assert!(error.get_ref().is_some_and(|inner| inner.is::<Elapsed>()));
}

// ---- Ticks ----

#[test]
fn ticks_are_a_period_apart_by_blocking_and_by_awaiting() {
    on_both(|| {
        let start = Instant::now();
        let mut interval = time::interval_at(start + SHORT, SHORT);
        for n in 1..=20 {
            let due = if n % 3 == 0 { block_on(interval.tick_async()) } else { interval.tick() };
            assert_eq!(due, start + n * SHORT);
            assert!(Instant::now() >= due);
        }
    });
}

#[test]
fn the_first_tick_of_an_interval_comes_at_once() {
    let mut interval = time::interval(LONG);
    let first = interval.tick();
    assert!(Instant::now() - first < LONG / 2);
    interval.reset();
    assert!(poll(&mut interval.tick_async(), Waker::noop()).is_pending());
}

#[test]
fn a_tick_whose_future_was_dropped_comes_again() {
    let start = Instant::now();
    let mut interval = time::interval_at(start + SHORT, SHORT);
    for _ in 0..10 {
        if let Poll::Ready(due) = poll(&mut interval.tick_async(), Waker::noop()) {
            assert_eq!(due, start + SHORT);
            return;
        }
    }
    assert_eq!(block_on(interval.tick_async()), start + SHORT);
    assert_eq!(block_on(interval.tick_async()), start + 2 * SHORT);
}

#[test]
fn missed_ticks_follow_the_policy() {
    let begun = Instant::now();
    let period = Duration::from_millis(1);
    let late = |policy| {
        let mut interval = time::interval_at(begun, period);
        assert_eq!(interval.missed_tick_behavior(), MissedTickBehavior::Burst);
        interval.set_missed_tick_behavior(policy);
        while begun.elapsed() < 10 * period {
            time::sleep(period);
        }
        let asked = Instant::now();
        assert_eq!(interval.tick(), begun);
        (asked, interval.tick())
    };
    assert_eq!(late(MissedTickBehavior::Burst).1, begun + period);
    let (asked, next) = late(MissedTickBehavior::Delay);
    assert!(next >= asked + period);
    let (asked, next) = late(MissedTickBehavior::Skip);
    assert!(next > asked, "none that was missed");
    assert_eq!((next - begun).as_nanos() % period.as_nanos(), 0, "in step");
}

#[test]
fn an_interval_of_zero_is_refused() {
    let message = |payload: Box<dyn std::any::Any + Send>| {
        payload.downcast_ref::<&str>().copied().map(str::to_owned)
    };
    let refused = catch_unwind(|| time::interval(Duration::ZERO)).unwrap_err();
    assert_eq!(message(refused).as_deref(), Some("the period of an interval must not be zero"));
    assert!(catch_unwind(|| time::interval_at(Instant::now(), Duration::ZERO)).is_err());
}

// ---- Deadlocks ----

#[test]
fn timers_that_were_dropped_keep_no_deadlock_alive() {
    let Some(program) = stage(|| {
        let mut sleep = time::sleep_async(LONG);
        let mut limited = time::timeout(LONG, std::future::pending::<()>());
        let mut interval = time::interval_at(Instant::now() + LONG, LONG);
        assert!(poll(&mut sleep, Waker::noop()).is_pending());
        assert!(poll(&mut limited, Waker::noop()).is_pending());
        assert!(poll(&mut interval.tick_async(), Waker::noop()).is_pending());
        assert_eq!(time::timeout(LONG, || 1), Ok(1));
        let waited = go(|| time::timeout(LONG, || time::sleep(SHORT)));
        assert_eq!(waited.join().unwrap(), Ok(()));
        drop((sleep, limited));
        let (tx, rx) = bounded::<()>(0);
        let _ = rx.recv();
        // Its tick was dropped, it was not.
        drop((tx, interval));
    }) else {
        return;
    };
    let outcome = program.run();
    assert_eq!(outcome.status.code(), Some(2), "{outcome}");
    assert!(outcome.stderr.starts_with(VERDICT), "{outcome}");
}

#[test]
fn a_pending_alarm_is_life() {
    let Some(program) = stage(|| {
        let (tx, rx) = unbounded();
        // Longer than the first look at a quiet program.
        let mut sleep = time::sleep_async(Duration::from_millis(1500));
        assert!(poll(&mut sleep, &rings(7, &tx)).is_pending());
        assert_eq!(rx.recv(), Ok(7));
        drop(tx);
    }) else {
        return;
    };
    let outcome = program.run().succeeded();
    assert!(!outcome.stderr.contains(VERDICT), "{outcome}");
}
