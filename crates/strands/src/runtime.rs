//! The runtime as a whole: its configuration, its figures, and who waits for what.

pub use crate::config::{Affinity, Config, ConfigureError, PanicPolicy};

use crate::config;
use crate::sched::{self, Runtime};

/// Chooses how the runtime is to be. Call it before the first goroutine is started.
///
/// # Errors
/// [`TooLate`](ConfigureError::TooLate) if the runtime runs already or this was called before, and
/// [`Invalid`](ConfigureError::Invalid) for a value out of range. Nothing has changed then.
pub fn configure(config: Config) -> Result<(), ConfigureError> {
    if Runtime::running().is_some() {
        return Err(ConfigureError::TooLate);
    }
    config::choose(config)
}

/// What the runtime has done so far, and what it consists of.
///
/// The counts are taken one after another while the program goes on, so they need not be of one moment.
#[derive(Clone, Debug, PartialEq, Eq)]
#[non_exhaustive]
pub struct Metrics {
    /// How many goroutines may start or run fresh work at the same time.
    pub processors: usize,
    /// OS threads that run goroutines; more than processors if some are blocked.
    pub workers: usize,
    /// Spare threads for [`blocking`](crate::blocking), busy or kept.
    pub blocking_threads: usize,
    /// All OS threads of the runtime: workers, spare threads and the monitor.
    pub threads: usize,
    /// Goroutines spawned since the start.
    pub goroutines_started: u64,
    /// Those that have not ended.
    pub goroutines_live: usize,
    /// How often a processor was taken from a worker whose thread was blocked in the kernel.
    pub handoffs_blocked: u64,
    /// How often one was taken from a worker whose goroutine did not stop computing.
    pub handoffs_hogging: u64,
    /// Places in the program from which goroutines come that block or hog their threads for 10 ms and more, now: a
    /// place where as many goroutines in a row as it takes have behaved no longer counts.
    pub offending_sites: usize,
    /// Goroutines from such places that were started on threads of their own.
    pub goroutines_apart: u64,
    /// The threads for these: busy, or kept for the next. They are among the `workers`.
    pub threads_apart: usize,
    /// How often a worker that waited for its CPU behind another program's thread, or one of this program's that is
    /// no worker, was brought to the CPU of a worker with nothing to do.
    pub workers_called_over: u64,
    /// How often a suspended goroutine's stack was given memory back from.
    pub stacks_trimmed: u64,
    /// The affinity of goroutines that do not ask for another.
    pub affinity: Affinity,
    /// Why goroutines that asked to roam are at home instead, if any have.
    pub roaming_refused: Option<String>,
}

/// The figures of the runtime, which is started if it was not.
///
/// # Panics
/// If the runtime cannot be started because a thread is refused.
///
/// # Examples
///
/// ```
/// strands::go(|| {}).join().unwrap();
/// let metrics = strands::runtime::metrics();
/// assert!(metrics.goroutines_started >= 1);
/// assert!(metrics.processors >= 1);
/// ```
pub fn metrics() -> Metrics {
    let runtime = match Runtime::get() {
        Ok(runtime) => runtime,
        Err(error) => panic!("the runtime cannot be started: {error}"),
    };
    let tallies = runtime.tallies();
    Metrics {
        processors: runtime.settings.processors,
        workers: tallies.workers,
        blocking_threads: tallies.spares,
        threads: tallies.workers + tallies.spares + 1,
        goroutines_started: tallies.spawned,
        goroutines_live: tallies.spawned.saturating_sub(tallies.ended) as usize,
        handoffs_blocked: tallies.taken_blocked,
        handoffs_hogging: tallies.taken_hogging,
        offending_sites: tallies.offending_sites,
        goroutines_apart: tallies.goroutines_apart,
        threads_apart: tallies.threads_apart,
        workers_called_over: tallies.called_over,
        stacks_trimmed: tallies.stacks_trimmed,
        affinity: sched::affinity_in_force(runtime),
        roaming_refused: sched::roaming_refused(),
    }
}

/// Who is there and what it waits for: a line for every goroutine that has started and not ended (its
/// number, name, what it waits for and for how long, where it is at home, where it was born), and for
/// every plain thread that waits for one of our channels, joins or parks. Of a lock that is waited for it tells who
/// holds it, or is its writer: see [`sync::Mutex`](crate::sync::Mutex#reports).
///
/// It is put together while the program goes on: each line is true, but not all need be of one moment.
/// Times are exact to a few milliseconds.
///
/// # Examples
///
/// ```
/// use strands::{channel, runtime, thread};
///
/// # fn main() -> std::io::Result<()> {
/// let (tx, rx) = channel::bounded::<()>(0);
/// let waiting = thread::Builder::new().name("waiting".into()).spawn(move || rx.recv())?;
/// while !runtime::dump().contains("\"waiting\" [chan receive") {
///     thread::yield_now();
/// }
/// drop(tx);
/// assert!(waiting.join().unwrap().is_err());
/// # Ok(())
/// # }
/// ```
pub fn dump() -> String {
    sched::dump()
}
