//! The everyday words, at the crate's root.

use crate::sched::{self, Order};
use crate::thread::JoinHandle;
use std::panic::{AssertUnwindSafe, Location, catch_unwind, resume_unwind};
use std::time::Duration;

/// Starts a goroutine.
///
/// Returns at once; the closure runs when its turn comes, on some worker's thread. The handle joins it;
/// dropping the handle detaches it. The process does not wait for detached goroutines when `main` returns.
///
/// # Panics
/// If memory or a thread is refused; [`thread::Builder::spawn`](crate::thread::Builder::spawn) returns
/// an error instead. A panic of the closure stays in the goroutine: `join` returns it.
///
/// # Examples
///
/// ```
/// let handle = strands::go(|| 6 * 7);
/// assert_eq!(handle.join().unwrap(), 42);
/// ```
///
/// What it borrows must live for ever, as with a thread; for anything shorter there is [`scope`](crate::scope):
///
/// ```compile_fail
/// let text = String::from("local");
/// strands::go(|| println!("{text}"));
/// ```
///
/// What it takes along must be [`Send`]:
///
/// ```compile_fail
/// let shared = std::rc::Rc::new(1);
/// strands::go(move || println!("{shared}"));
/// ```
#[track_caller]
#[inline]
pub fn go<F, T>(f: F) -> JoinHandle<T>
where
    F: FnOnce() -> T + Send + 'static,
    T: Send + 'static,
{
    // SAFETY: closure and result borrow nothing that ends.
    match unsafe { sched::spawn(Order::plain(Location::caller()), f, ()) } {
        Ok(join) => JoinHandle::new(join),
        Err(error) => panic!("failed to spawn a goroutine: {error}"),
    }
}

/// Runs `f` as a goroutine, waits for it, and returns what it returns.
///
/// What `f` borrows may be local: it has ended when `run` returns. Goroutines that it has started and not
/// joined go on.
///
/// Blocks: the calling thread, or the calling goroutine.
///
/// # Panics
/// If `f` panics, with the same payload; or if memory or a thread is refused.
///
/// # Examples
///
/// ```
/// let name = String::from("world");
/// let greeting = strands::run(|| format!("hello, {name}"));
/// assert_eq!(greeting, "hello, world");
/// ```
#[track_caller]
pub fn run<F, T>(f: F) -> T
where
    F: FnOnce() -> T + Send,
    T: Send,
{
    // SAFETY: we join right here, so closure and result end before we return. The join cannot unwind
    // before that: it waits.
    match unsafe { sched::spawn(Order::plain(Location::caller()), f, ()) } {
        Ok(join) => join.join().unwrap_or_else(|payload| resume_unwind(payload)),
        Err(error) => panic!("failed to spawn a goroutine: {error}"),
    }
}

/// As [`catch_unwind`], for all that a goroutine has to do: its panic aborts the process where panics are to do
/// that.
pub(crate) fn catch<T>(f: impl FnOnce() -> T) -> std::thread::Result<T> {
    // At once, and not by unwinding further: whoever waits for the goroutine must not be told that it has ended.
    catch_unwind(AssertUnwindSafe(f)).inspect_err(sched::abort_if_told)
}

/// Lets others run before this goroutine goes on: those at home on its thread that are ready, and fresh ones.
///
/// On a plain thread: [`std::thread::yield_now`].
///
/// # Examples
///
/// ```
/// use std::sync::atomic::{AtomicBool, Ordering};
/// # strands::run(|| {
/// static DONE: AtomicBool = AtomicBool::new(false);
/// strands::go(|| DONE.store(true, Ordering::Release));
/// while !DONE.load(Ordering::Acquire) {
///     strands::yield_now();
/// }
/// # });
/// ```
#[inline]
pub fn yield_now() {
    sched::yield_now();
}

/// Waits for `time` at least. Not rounded to milliseconds; a sleep of zero yields.
///
/// Blocks: the goroutine, or else the thread.
///
/// # Examples
///
/// ```
/// use std::time::{Duration, Instant};
///
/// let before = Instant::now();
/// strands::go(|| strands::sleep(Duration::from_micros(300))).join().unwrap();
/// assert!(before.elapsed() >= Duration::from_micros(300));
/// ```
pub fn sleep(time: Duration) {
    sched::sleep(time);
}

/// Runs `f` on a spare thread and returns what it returns, so that it may block that thread and hold up
/// nobody.
///
/// Goroutines share their thread, so one that blocks it (by a system call, a foreign function, a lock of
/// `std::sync` that is held for long) makes those at home there wait. What is known to block belongs in
/// here. `f` may borrow: it has ended when `blocking` returns. There are as many spare threads as calls in
/// progress, at most 10,000; they are kept for ten seconds. The detour costs tens of microseconds.
///
/// On a plain thread `f` runs right there.
///
/// Blocks: the goroutine, or else the thread.
///
/// # Panics
/// If `f` panics, with the same payload.
///
/// # Examples
///
/// ```
/// # strands::run(|| {
/// let path = String::from("/proc/self/comm");
/// let name = strands::blocking(|| std::fs::read_to_string(&path)).unwrap();
/// assert!(!name.is_empty());
/// # });
/// ```
pub fn blocking<F, T>(f: F) -> T
where
    F: FnOnce() -> T + Send,
    T: Send,
{
    sched::blocking(f)
}
