//! What can be chosen about the runtime before it starts: by the program ([`Config`]) or from outside
//! (the environment). The program's word goes first.

use crate::stack::{Class, GuardMode};
use crate::sys;
use std::fmt;
use std::num::NonZeroUsize;
use std::sync::{Mutex, PoisonError};

/// More processors than this are not worth having, and more likely a slip.
const MOST_PROCESSORS: usize = 1024;
/// Go's bound on threads; and what is not worth having.
const DEFAULT_THREADS: usize = 10_000;
const MOST_THREADS: usize = 1_000_000;

/// Choices for the runtime, made before its first use with [`configure`](crate::runtime::configure).
///
/// What is not chosen here comes from the environment, and what is not chosen there has a default:
///
/// | `Config` | environment | default |
/// |---|---|---|
/// | [`processors`](Config::processors) | `STRANDS_MAXPROCS` | what the affinity mask and the cgroup quotas allow |
/// | [`stack_size`](Config::stack_size) | `STRANDS_STACK` (bytes, or with a suffix `K`, `M`, `G`) | 8 MiB |
/// | [`max_threads`](Config::max_threads) | `STRANDS_MAXTHREADS` | 10,000 |
/// | [`advice`](Config::advice) | `STRANDS_DEBUG=advice=off` | on |
/// | [`panic`](Config::panic) | – | [`PanicPolicy::Keep`] |
/// | [`affinity`](Config::affinity) | `STRANDS_AFFINITY` (`home` or `roaming`) | [`Affinity::Home`] |
///
/// A malformed environment variable is named on stderr and ignored.
///
/// # Examples
///
/// ```
/// use strands::runtime::{self, Config};
///
/// # fn main() -> Result<(), Box<dyn std::error::Error>> {
/// runtime::configure(Config::new().processors(2).stack_size(1 << 20))?;
/// assert_eq!(runtime::metrics().processors, 2);
/// # Ok(())
/// # }
/// ```
#[derive(Clone, Debug, Default)]
#[must_use = "hand it to `strands::runtime::configure`"]
pub struct Config {
    processors: Option<usize>,
    stack_size: Option<usize>,
    max_threads: Option<usize>,
    advice: Option<bool>,
    panic: PanicPolicy,
    affinity: Option<Affinity>,
}

/// Whether a goroutine that has started may change its OS thread.
///
/// A goroutine that has not started yet is taken by whichever thread is free, whatever its affinity.
///
/// | | `Home` | `Roaming` |
/// |---|---|---|
/// | once started it runs | on the thread that it started on | on whichever thread is free |
/// | its `thread_local!`s are | those of its thread, which it shares | its own |
/// | a thread that is blocked or computes for long | holds up all that are at home there | holds up nobody |
/// | `std::sync::Mutex` held while it waits | may block its thread on itself | as between threads |
/// | memory, parked | a page | two pages and 300 bytes |
/// | a switch | 5 to 10 ns | 11 ns more for each thread pointer that is loaded |
/// | where | everywhere | Linux on x86-64 with glibc |
///
/// Where roaming is not possible, goroutines that ask for it are at home, one line on stderr says why, and so does
/// [`Metrics::roaming_refused`](crate::runtime::Metrics::roaming_refused).
///
/// # Which one
///
/// `Home`, unless you know what you want `Roaming` for. Measured side by side (`benches/README.md` has the tables), a
/// goroutine at home takes half the memory, is started or woken in a quarter to a half of the time, and yields in a quarter of
/// it or less; where nobody is switched, there is no difference. That is why it is the default.
///
/// `Roaming` is for programs in which some goroutines compute or block for milliseconds among others that have to be quick,
/// and which cannot tell beforehand which: the others are not held up, and answer sooner in the worst hundredth, as
/// what has become ready runs on whichever thread is free. And it is for code that is made for threads and holds their
/// locks (`std::sync::Mutex`, those of C libraries) over waits. It need not be one or the other for a whole program:
/// [`Builder::affinity`](crate::thread::Builder::affinity) says it for a goroutine.
///
/// # What a goroutine at home must not do
///
/// The initialiser of a `thread_local!` must not wait (for a channel, a lock of [`sync`](crate::sync), a socket): std takes it for
/// granted that nobody else on the thread runs meanwhile, and drops a value that a sibling may have made and borrowed. An
/// initialiser that is `const`, or that only computes, is fine, and so is [`goroutine_local!`](crate::goroutine_local).
///
/// All else that siblings on one thread share is sound, but may surprise: a `RefCell` in a thread-local that one
/// has borrowed while it waits is borrowed to the others, who panic. `std::io::stdout().lock()` does not keep them out, as
/// it is held by the thread, so lines may mix. There is one `std::thread::current()`, and one token of
/// `std::thread::park`, which any of them may take: wait by [`thread::park`](crate::thread::park). And
/// who waits in a [`std::sync::Once`], `OnceLock` or `LazyLock` that a sibling is initialising, while that waits, blocks the
/// thread of both, as with a mutex; this is reported within a second. Those of [`sync`](crate::sync) have none of that.
/// In a program of tests libtest keeps nothing of what goroutines print, of either kind: it appears at once
/// ([`#[strands::test]`](macro@crate::test) says more).
///
/// # What a roaming goroutine must not do
///
/// To Rust, to C and to glibc it is a thread, with thread-locals, an `errno`, a locale and a `pthread_self()` of its own. To
/// the kernel it is not: `gettid()`, the thread's name, its signal mask, its CPUs (`sched_getaffinity(0)`), its scheduling
/// class and timers that signal a thread are those of the thread that it runs on just now. They change when it
/// waits, and what it sets of them it leaves to others. What differs, for those who call C:
///
/// | | |
/// |---|---|
/// | `pthread_self`, `pthread_equal`, `raise`, `pthread_kill(pthread_self(), …)` | as in a thread |
/// | `setuid` and its like | as in a thread |
/// | `pthread_kill` of it from elsewhere, `pthread_setaffinity_np`, `pthread_setschedparam`, `pthread_getcpuclockid` | fail: the kernel knows no such thread |
/// | `pthread_getattr_np` | does not know its stack |
/// | `pthread_join`, `pthread_detach`, `pthread_cancel`, `pthread_exit` | must not be used on it |
/// | mutexes for which the kernel keeps the books (*robust* and *priority-inheriting* ones) | must not be used in it |
/// | `fork` | the child must not wait as a goroutine does; it may run another program, as `std::process` has it |
///
/// A shared library that is loaded by `dlopen` after goroutines have begun to roam must not be used in them if its
/// thread-locals have fixed places in each thread's block: if it was built with `-ftls-model=initial-exec`, or with TLS
/// descriptors (`-mtls-dialect=gnu2`) and has a few hundred bytes of them. They are initialised on stacks that
/// are used for the first time only, and on others as the goroutine before left them. Libraries that are there when
/// the program starts are fine, however they were built.
///
/// All thread-locals of the program and its libraries, and glibc's, are at the top of each one's slot, beside the room that it
/// was promised. If they are larger than 24 KiB, goroutines do not roam.
///
/// Destructors of its thread-locals run when it ends, as a thread's do, but those who join it may go on
/// before they have. Futures ([`task::spawn`](crate::task::spawn)) do not roam within a poll.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Hash)]
pub enum Affinity {
    /// It stays on the OS thread on which it started.
    #[default]
    Home,
    /// It runs on whichever thread is free, and carries its thread-locals along.
    Roaming,
}

/// What happens when a goroutine panics.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
#[non_exhaustive]
pub enum PanicPolicy {
    /// The panic stays in its goroutine, as in a thread: `join` returns it, and where nobody joins it
    /// is printed.
    #[default]
    Keep,
    /// The report is printed and the process aborts, as in Go.
    Abort,
}

impl Config {
    /// Nothing chosen: the environment and the defaults decide.
    pub fn new() -> Config {
        Config::default()
    }

    /// How many processors: how many goroutines run at the same time, blocked ones aside.
    pub fn processors(mut self, count: usize) -> Config {
        self.processors = Some(count);
        self
    }

    /// The room, in bytes, of the stack of a goroutine that does not ask for another. Rounded up to a
    /// power of two from 64 KiB to 1 GiB. Room is address space: memory is used as it is touched.
    pub fn stack_size(mut self, bytes: usize) -> Config {
        self.stack_size = Some(bytes);
        self
    }

    /// How many OS threads the runtime may have for goroutines and for [`blocking`](crate::blocking) calls, at
    /// least 1; at least as many as there are processors make sense.
    ///
    /// There are as many as goroutines block or hog their threads at one time, plus one for each processor. Where
    /// that would be more, goroutines that have not started yet wait until a thread comes back, and those at home
    /// on threads that are not blocked go on. It is told once on stderr. The default, 10,000, is Go's, where a
    /// program that needs more is ended.
    pub fn max_threads(mut self, count: usize) -> Config {
        self.max_threads = Some(count);
        self
    }

    /// Whether the runtime may write to stderr what would make the program better: that goroutines from some place
    /// block their threads, or compute while others at home there are ready (a line for each place), that all threads are in use (once), that
    /// goroutines wait for one that blocks their thread in a lock which one of them may hold. It may,
    /// by default. What ends the process is written in any case.
    pub fn advice(mut self, wanted: bool) -> Config {
        self.advice = Some(wanted);
        self
    }

    /// What happens when a goroutine panics.
    pub fn panic(mut self, policy: PanicPolicy) -> Config {
        self.panic = policy;
        self
    }

    /// Whether goroutines that do not ask for another affinity stay on their threads.
    pub fn affinity(mut self, affinity: Affinity) -> Config {
        self.affinity = Some(affinity);
        self
    }
}

/// Why [`configure`](crate::runtime::configure) did not take the configuration.
#[derive(Clone, Debug, PartialEq, Eq)]
#[non_exhaustive]
pub enum ConfigureError {
    /// The runtime runs already, or has been configured before.
    TooLate,
    /// A value is out of range; the text names it.
    Invalid(String),
}

impl fmt::Display for ConfigureError {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            ConfigureError::TooLate => {
                f.write_str("the runtime has been started or configured already")
            }
            ConfigureError::Invalid(what) => write!(f, "invalid configuration: {what}"),
        }
    }
}

impl std::error::Error for ConfigureError {}

/// Everything decided.
#[derive(Clone, Debug)]
pub(crate) struct Settings {
    pub(crate) processors: usize,
    pub(crate) stack: Class,
    pub(crate) panic: PanicPolicy,
    pub(crate) affinity: Affinity,
    pub(crate) guards: GuardMode,
    pub(crate) find_panic_count: bool,
    pub(crate) max_threads: usize,
    pub(crate) advice: bool,
    pub(crate) may_roam: bool,
}

#[derive(Debug)]
enum Choice {
    Open,
    Made(Settings),
    /// Kept, for a start that was refused a thread is tried again.
    Taken(Settings),
}

static CHOICE: Mutex<Choice> = Mutex::new(Choice::Open);

/// Remembers the program's choice until the runtime starts.
pub(crate) fn choose(config: Config) -> Result<(), ConfigureError> {
    if let Some(count) = config.processors
        && !(1..=MOST_PROCESSORS).contains(&count)
    {
        return Err(ConfigureError::Invalid(format!(
            "{count} processors: from 1 to {MOST_PROCESSORS} are possible"
        )));
    }
    if let Some(count) = config.max_threads
        && !(1..=MOST_THREADS).contains(&count)
    {
        return Err(ConfigureError::Invalid(format!(
            "{count} threads: from 1 to {MOST_THREADS} are possible"
        )));
    }
    if let Some(bytes) = config.stack_size {
        Class::for_size(bytes).map_err(|e| ConfigureError::Invalid(e.to_string()))?;
    }
    let mut choice = CHOICE.lock().unwrap_or_else(PoisonError::into_inner);
    match *choice {
        Choice::Open => {
            *choice = Choice::Made(settle(config));
            Ok(())
        }
        _ => Err(ConfigureError::TooLate),
    }
}

/// What the runtime starts with. From here on a choice comes too late.
pub(crate) fn take() -> Settings {
    let mut choice = CHOICE.lock().unwrap_or_else(PoisonError::into_inner);
    let settings = match &*choice {
        Choice::Made(settings) | Choice::Taken(settings) => settings.clone(),
        Choice::Open => settle(Config::default()),
    };
    *choice = Choice::Taken(settings.clone());
    settings
}

fn settle(config: Config) -> Settings {
    let processors = config
        .processors
        .or_else(|| from_env("STRANDS_MAXPROCS", processors))
        .unwrap_or_else(allowed_processors);
    let stack = config
        .stack_size
        .and_then(|bytes| Class::for_size(bytes).ok())
        .or_else(|| from_env("STRANDS_STACK", stack))
        .unwrap_or(Class::DEFAULT);
    let max_threads = config
        .max_threads
        .or_else(|| from_env("STRANDS_MAXTHREADS", threads))
        .unwrap_or(DEFAULT_THREADS);
    let debug = from_env("STRANDS_DEBUG", Debug::parse).unwrap_or_default();
    let affinity =
        config.affinity.or_else(|| from_env("STRANDS_AFFINITY", affinity)).unwrap_or_default();
    Settings {
        processors,
        stack,
        panic: config.panic,
        affinity,
        guards: debug.guards,
        find_panic_count: debug.find_panic_count,
        max_threads,
        advice: config.advice.unwrap_or(debug.advice),
        may_roam: debug.may_roam,
    }
}

/// What the affinity mask and the quotas of all cgroups above us allow: std asks all of them, v1 and v2.
fn allowed_processors() -> usize {
    std::thread::available_parallelism().map_or(1, NonZeroUsize::get).min(MOST_PROCESSORS)
}

fn from_env<T>(name: &str, parse: fn(&str) -> Result<T, String>) -> Option<T> {
    let value = std::env::var_os(name)?;
    let parsed = match value.to_str() {
        Some(text) => parse(text.trim()),
        None => Err("not UTF-8".to_owned()),
    };
    parsed
        .map_err(|why| {
            let text = format!("strands: {name}={} ignored: {why}\n", value.to_string_lossy());
            sys::say(text.as_bytes());
        })
        .ok()
}

fn processors(text: &str) -> Result<usize, String> {
    match text.parse() {
        Ok(count) if (1..=MOST_PROCESSORS).contains(&count) => Ok(count),
        _ => Err(format!("expected a number from 1 to {MOST_PROCESSORS}")),
    }
}

fn threads(text: &str) -> Result<usize, String> {
    match text.parse() {
        Ok(count) if (1..=MOST_THREADS).contains(&count) => Ok(count),
        _ => Err(format!("expected a number from 1 to {MOST_THREADS}")),
    }
}

fn affinity(text: &str) -> Result<Affinity, String> {
    match text {
        "home" => Ok(Affinity::Home),
        "roaming" => Ok(Affinity::Roaming),
        _ => Err("expected `home` or `roaming`".to_owned()),
    }
}

fn stack(text: &str) -> Result<Class, String> {
    let (digits, unit) = match text.chars().last().map(|c| c.to_ascii_uppercase()) {
        Some('K') => (&text[..text.len() - 1], 1usize << 10),
        Some('M') => (&text[..text.len() - 1], 1 << 20),
        Some('G') => (&text[..text.len() - 1], 1 << 30),
        _ => (text, 1),
    };
    digits
        .parse::<usize>()
        .ok()
        .and_then(|count| count.checked_mul(unit))
        .ok_or_else(|| "expected a number of bytes, or one with a suffix K, M or G".to_owned())
        .and_then(|bytes| Class::for_size(bytes).map_err(|e| e.to_string()))
}

/// `STRANDS_DEBUG` is a list of words. Some make the runtime take its fall-backs, so that they can be tried
/// where they are not needed: `guards=mprotect` (stacks are guarded as on Linux before 6.13), `panics=pinned`
/// (goroutines that unwind block their thread instead of being suspended) and `roaming=never` (goroutines that
/// ask to roam are at home). `advice=off` is [`Config::advice`].
#[derive(Debug)]
struct Debug {
    guards: GuardMode,
    find_panic_count: bool,
    advice: bool,
    may_roam: bool,
}

impl Default for Debug {
    fn default() -> Debug {
        Debug { guards: GuardMode::Auto, find_panic_count: true, advice: true, may_roam: true }
    }
}

impl Debug {
    fn parse(text: &str) -> Result<Debug, String> {
        let mut chosen = Debug::default();
        for word in text.split(',').filter(|word| !word.is_empty()) {
            match word {
                "guards=mprotect" => chosen.guards = GuardMode::Mprotect,
                "panics=pinned" => chosen.find_panic_count = false,
                "advice=off" => chosen.advice = false,
                "roaming=never" => chosen.may_roam = false,
                _ => {
                    return Err(format!(
                        "`{word}` is not one of: guards=mprotect, panics=pinned, advice=off, \
                         roaming=never"
                    ));
                }
            }
        }
        Ok(chosen)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn stack_sizes_take_suffixes() {
        assert_eq!(stack("65536").unwrap().size(), 64 << 10);
        assert_eq!(stack("64k").unwrap().size(), 64 << 10);
        assert_eq!(stack("2M").unwrap().size(), 2 << 20);
        assert_eq!(stack("1G").unwrap().size(), 1 << 30);
        for bad in ["", "K", "-1", "8 MiB", "18446744073709551615G", "0", "1", "2G", "é"] {
            assert!(stack(bad).is_err(), "{bad:?}");
        }
    }

    #[test]
    fn processors_are_a_small_positive_number() {
        assert_eq!(processors("3"), Ok(3));
        for bad in ["", "0", "two", "-1", "1.5", "100000"] {
            assert!(processors(bad).is_err(), "{bad:?}");
        }
    }

    #[test]
    fn affinities_go_by_their_names() {
        assert_eq!(affinity("home"), Ok(Affinity::Home));
        assert_eq!(affinity("roaming"), Ok(Affinity::Roaming));
        for bad in ["", "Roaming", "away"] {
            assert!(affinity(bad).unwrap_err().contains("roaming"), "{bad:?}");
        }
    }

    #[test]
    fn an_unknown_debug_word_is_named() {
        assert!(Debug::parse("").unwrap().advice);
        assert!(!Debug::parse("guards=mprotect,advice=off").unwrap().advice);
        assert!(Debug::parse("guards=mprotect,colour").unwrap_err().contains("colour"));
    }

    #[test]
    fn values_out_of_range_are_refused_by_name() {
        let refused = |config| match choose(config) {
            Err(ConfigureError::Invalid(text)) => text,
            other => panic!("{other:?}"),
        };
        assert!(refused(Config::new().processors(0)).contains("0 processors"));
        assert!(refused(Config::new().stack_size(1)).contains("stack size of 1"));
        assert!(refused(Config::new().max_threads(0)).contains("0 threads"));
    }
}
