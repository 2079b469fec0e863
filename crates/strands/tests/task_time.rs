//! Who fires the timers of async tasks.

mod process;

use process::stage;
use std::fs;
use std::future::{Future, poll_fn};
use std::pin::Pin;
use std::sync::{Arc, mpsc};
use std::task::{Context, Poll, Wake, Waker};
use std::time::{Duration, Instant};
use strands::time::{Sleep, sleep_async};
use strands::{go, task};

const ALARMS: &str = "strands-alarms";

/// The names of the threads.
fn threads() -> Vec<String> {
    let tasks = fs::read_dir("/proc/self/task").expect("/proc is mounted");
    let name = |task: &std::path::Path| fs::read_to_string(task.join("comm")).ok();
    tasks.filter_map(|task| Some(name(&task.ok()?.path())?.trim().to_owned())).collect()
}

/// A future that a task of ours has polled in vain.
fn begun(length: Duration) -> Sleep {
    let polled = task::spawn(async move {
        let mut sleep = sleep_async(length);
        poll_fn(|context| Poll::Ready(Pin::new(&mut sleep).poll(context).is_pending()))
            .await
            .then_some(sleep)
    });
    polled.join().expect("no panic").expect("it has to wait")
}

#[test]
fn tasks_and_goroutines_need_no_thread_for_their_timers() {
    let Some(program) = stage(|| {
        let (start, length) = (Instant::now(), Duration::from_millis(20));
        let tasks: Vec<_> = (0..1000).map(|_| task::spawn(sleep_async(length))).collect();
        tasks.into_iter().for_each(|task| task.join().expect("no panic"));
        go(move || task::block_on(sleep_async(length))).join().expect("no panic");
        assert!(start.elapsed() >= 2 * length);
        assert!(!threads().iter().any(|name| name == ALARMS), "{:?}", threads());
        // A plain thread has no worker.
        task::block_on(sleep_async(length));
        assert!(threads().iter().any(|name| name == ALARMS), "{:?}", threads());
    }) else {
        return;
    };
    for processors in [1, 2] {
        program.clone().processors(processors).run().succeeded();
    }
}

/// Tells on which thread it was called.
struct Witness(mpsc::Sender<String>);

impl Wake for Witness {
    fn wake(self: Arc<Self>) {
        let thread = fs::read_to_string("/proc/thread-self/comm").expect("/proc is mounted");
        self.0.send(thread.trim().to_owned()).expect("somebody listens");
    }
}

#[test]
fn a_foreign_waker_is_not_called_by_a_worker_even_if_a_task_of_ours_was_first() {
    let mut sleep = begun(Duration::from_secs(1));
    let (tx, rx) = mpsc::channel();
    let waker = Waker::from(Arc::new(Witness(tx)));
    let mut context = Context::from_waker(&waker);
    assert!(Pin::new(&mut sleep).poll(&mut context).is_pending());
    assert_eq!(rx.recv().expect("it is called"), ALARMS);
    assert!(Instant::now() >= sleep.deadline());
    assert!(Pin::new(&mut sleep).poll(&mut context).is_ready());
    assert!(rx.try_recv().is_err(), "it is called once");
}

#[test]
fn a_timer_that_a_worker_keeps_is_taken_back_or_awaited_elsewhere() {
    let far = (0..100).map(|_| begun(Duration::from_secs(3600)));
    drop(far.collect::<Vec<_>>());
    let sleep = begun(Duration::from_millis(50));
    let deadline = sleep.deadline();
    task::block_on(sleep);
    assert!(Instant::now() >= deadline);
    let sleep = begun(Duration::from_millis(50));
    let deadline = sleep.deadline();
    go(move || task::block_on(sleep)).join().expect("no panic");
    assert!(Instant::now() >= deadline);
}
