//! The workloads: their names, sizes and targets.

use std::time::Duration;

/// What is measured. `README.md` describes each.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Workload {
    SpawnJoin,
    Yield2,
    Yield1000,
    PingPong,
    Spsc,
    Mpmc,
    SpscOneCpu,
    Select4Rendezvous,
    Select4Buffered,
    Ring,
    Sieve,
    Skynet,
    MutexUncontended,
    Mutex4,
    RwlockRead,
    Waitgroup,
    ContextFanout,
    Parked1m,
    Parked100kDefault,
    BlockedThreads,
    HogLatency,
    Hogs2,
    Hogs8,
    BlockingSleeps,
    Skewed,
    ManySleeps,
    Echo,
    IdleConnections,
    Transfer,
    IdleCpu,
}

use Workload::*;

impl Workload {
    pub(crate) const ALL: [Workload; 30] = [
        SpawnJoin,
        Yield2,
        Yield1000,
        PingPong,
        Spsc,
        Mpmc,
        SpscOneCpu,
        Select4Rendezvous,
        Select4Buffered,
        Ring,
        Sieve,
        Skynet,
        MutexUncontended,
        Mutex4,
        RwlockRead,
        Waitgroup,
        ContextFanout,
        Parked1m,
        Parked100kDefault,
        BlockedThreads,
        HogLatency,
        Hogs2,
        Hogs8,
        BlockingSleeps,
        Skewed,
        ManySleeps,
        Echo,
        IdleConnections,
        Transfer,
        IdleCpu,
    ];

    pub(crate) fn name(self) -> &'static str {
        match self {
            SpawnJoin => "spawn_join",
            Yield2 => "yield_2",
            Yield1000 => "yield_1000",
            PingPong => "ping_pong",
            Spsc => "spsc_128",
            Mpmc => "mpmc_4x4_128",
            SpscOneCpu => "spsc_one_cpu",
            Select4Rendezvous => "select4_rendezvous",
            Select4Buffered => "select4_128",
            Ring => "ring_10000",
            Sieve => "sieve",
            Skynet => "skynet",
            MutexUncontended => "mutex_uncontended",
            Mutex4 => "mutex_4",
            RwlockRead => "rwlock_read",
            Waitgroup => "waitgroup_1000",
            ContextFanout => "context_fanout",
            Parked1m => "parked_1m",
            Parked100kDefault => "parked_100k_default",
            BlockedThreads => "blocked_threads",
            HogLatency => "hog_latency",
            Hogs2 => "hogs_2",
            Hogs8 => "hogs_8",
            BlockingSleeps => "blocking_sleeps",
            Skewed => "skewed",
            ManySleeps => "many_sleeps",
            Echo => "echo",
            IdleConnections => "idle_connections",
            Transfer => "transfer",
            IdleCpu => "idle_cpu",
        }
    }

    /// One line for the head of its table.
    pub(crate) fn title(self) -> &'static str {
        match self {
            SpawnJoin => "spawn one and join it, from inside a goroutine",
            Yield2 => "two goroutines yielding: wall time / all yields",
            Yield1000 => "1,000 goroutines yielding: wall time / all yields",
            PingPong => "a round trip over two rendezvous channels",
            Spsc => "one producer, one consumer, capacity 128: a message",
            Mpmc => "4 producers, 4 consumers, capacity 128: a message",
            SpscOneCpu => "spsc_128 with the whole process on one CPU: a message",
            Select4Rendezvous => {
                "4 producers, a rendezvous channel each; one consumer selects: a message"
            }
            Select4Buffered => {
                "4 producers, a channel of capacity 128 each; one consumer selects: a message"
            }
            Ring => "a token round a ring of 10,000, rendezvous channels: a hop",
            Sieve => "prime sieve, 2,500 primes, a goroutine and a rendezvous channel each",
            Skynet => "1,000,000 leaves under a tree of tens, results by channel",
            MutexUncontended => "one goroutine locks, counts, unlocks: each",
            Mutex4 => "4 goroutines lock, count, unlock the same mutex: each",
            RwlockRead => "4 goroutines read under one lock, writing at every 1,000th turn: a turn",
            Waitgroup => {
                "1,000 goroutines are started and waited for, again and again: a goroutine"
            }
            ContextFanout => {
                "100,000 goroutines wait for one context to be cancelled: the call, and till all are done, a waiter"
            }
            Parked1m => "1,000,000 goroutines with 64 KiB stacks parked on a channel",
            Parked100kDefault => "100,000 goroutines with default stacks parked on a channel",
            BlockedThreads => {
                "2 raw 1 s blocking calls per processor, then 1,000 fresh goroutines: till all are done"
            }
            HogLatency => "one CPU hog per processor; a fresh goroutine each 5 ms: till it runs",
            Hogs2 => {
                "2 CPU hogs: till a fresh goroutine runs, till a ready one does, a unit of the rest"
            }
            Hogs8 => {
                "8 CPU hogs: till a fresh goroutine runs, till a ready one does, a unit of the rest"
            }
            BlockingSleeps => {
                "8 raw 1 s blocking calls beside a 1 ms ticker: all of them, and its worst delay"
            }
            Skewed => "requests, one in 51 of which computes for 20 ms: how long the others take",
            ManySleeps => "100,000 sleeps of 1 to 500 ms",
            Echo => "TCP echo, 100 connections, 64 bytes, the client in another process: a request",
            IdleConnections => "10,000 TCP connections that say nothing: our memory for each",
            Transfer => "100 MB over the loopback interface, within the process",
            IdleCpu => "processor time used in 1 s of idleness after work",
        }
    }

    pub(crate) fn parse(name: &str) -> Option<Workload> {
        Workload::ALL.into_iter().find(|w| w.name() == name)
    }

    /// These show what happens to others when every one of *several* processors is held.
    pub(crate) fn wants_two_processors(self) -> bool {
        matches!(self, BlockedThreads | HogLatency) || self.holds_threads()
    }

    /// Some goroutines hold their threads among others that do not. For strands and Go.
    pub(crate) fn holds_threads(self) -> bool {
        matches!(self, Hogs2 | Hogs8 | BlockingSleeps | Skewed)
    }

    /// A consumer chooses among four channels.
    pub(crate) fn selects(self) -> bool {
        matches!(self, Select4Rendezvous | Select4Buffered)
    }

    /// Has no channels but locks, a wait group or a context.
    pub(crate) fn locks(self) -> bool {
        matches!(self, MutexUncontended | Mutex4 | RwlockRead | Waitgroup | ContextFanout)
    }

    /// Is about sockets.
    pub(crate) fn uses_sockets(self) -> bool {
        matches!(self, Echo | IdleConnections | Transfer)
    }

    pub(crate) fn targets(self) -> Vec<Target> {
        match self {
            SpawnJoin => vec![
                Target::ratio("each", Bound::AtMost(0.5), "go"),
                Target::ratio("each", Bound::Below(1.0), "smol"),
            ],
            Yield2 | Yield1000 => vec![Target::value("each", Bound::AtMost(25.0))],
            PingPong => vec![
                Target::ratio("each", Bound::AtMost(0.3), "go"),
                Target::ratio("each", Bound::AtMost(0.75), "kanal-tokio"),
                Target::ratio("each", Bound::AtMost(0.5), "go").roaming(),
            ],
            Spsc => vec![
                Target::ratio("each", Bound::AtMost(0.4), "go"),
                Target::ratio("each", Bound::AtMost(0.8), "kanal-tokio"),
                Target::ratio("each", Bound::AtMost(0.9), "crossbeam-threads").on_threads(),
            ],
            Mpmc => vec![
                Target::ratio("each", Bound::AtMost(0.45), "go"),
                Target::ratio("each", Bound::AtMost(0.9), "kanal-tokio"),
                Target::ratio("each", Bound::AtMost(0.8), "crossbeam-threads").on_threads(),
            ],
            Select4Rendezvous => vec![
                Target::ratio("each", Bound::AtMost(0.5), "go"),
                Target::ratio("each", Bound::AtMost(0.8), "tokio"),
            ],
            Select4Buffered => vec![Target::ratio("each", Bound::AtMost(0.9), "tokio")],
            MutexUncontended => {
                vec![Target::ratio("each", Bound::AtMost(1.1), "parking-lot-threads")]
            }
            Mutex4 | Waitgroup => vec![Target::ratio("each", Bound::AtMost(1.0), "go")],
            RwlockRead => vec![Target::ratio("each", Bound::Below(1.0), "go")],
            Parked1m => vec![
                Target::value("bytes", Bound::AtMost(4_400.0)),
                Target::value("bytes", Bound::AtMost(5_018.0)).roaming(),
            ],
            Parked100kDefault => vec![Target::value("bytes", Bound::AtMost(8_500.0))],
            BlockedThreads => vec![Target::value("all_done", Bound::AtMost(20.0))],
            Hogs2 => vec![
                Target::ratio("fresh_p50", Bound::AtMost(0.7), "go"),
                Target::ratio("fresh_p50", Bound::AtMost(0.7), "go").roaming(),
                Target::ratio("ready_p50", Bound::AtMost(0.7), "go").roaming(),
            ],
            BlockingSleeps => vec![
                Target::ratio("wall", Bound::AtMost(1.02), "go"),
                Target::ratio("worst_tick", Bound::AtMost(1.0), "go"),
                Target::ratio("wall", Bound::AtMost(1.02), "go").roaming(),
                Target::ratio("worst_tick", Bound::AtMost(1.0), "go").roaming(),
            ],
            Skewed => vec![Target::ratio("light_p99", Bound::AtMost(1.0), "go").roaming()],
            ManySleeps => vec![
                Target::ratio("cpu", Bound::AtMost(1.0), "tokio"),
                Target::value("late_p50", Bound::AtMost(150.0)),
            ],
            // Requests in a second are to be 1.15 and 1.4 times as many.
            Echo => vec![
                Target::ratio("each", Bound::AtMost(1.0 / 1.15), "tokio"),
                Target::ratio("each", Bound::AtMost(1.0 / 1.4), "go"),
                Target::ratio("latency_p99", Bound::AtMost(1.0), "tokio"),
                Target::ratio("latency_p99", Bound::AtMost(1.0), "go"),
            ],
            IdleConnections => vec![Target::value("bytes", Bound::AtMost(10_240.0))],
            Transfer => vec![Target::ratio("total", Bound::AtMost(1.0 / 0.95), "threads")],
            _ => Vec::new(),
        }
    }
}

/// The names of our rows.
pub(crate) const OURS: &str = "strands";
pub(crate) const OURS_ROAMING: &str = "strands-roaming";
pub(crate) const OURS_ON_THREADS: &str = "strands-threads";

/// What strands has to reach.
pub(crate) struct Target {
    /// Which of our rows: goroutines of either affinity, or OS threads.
    pub(crate) ours: &'static str,
    pub(crate) metric: &'static str,
    pub(crate) bound: Bound,
    /// The peer whose median the bound multiplies; an absolute bound has none.
    pub(crate) peer: Option<&'static str>,
}

#[derive(Clone, Copy)]
pub(crate) enum Bound {
    AtMost(f64),
    Below(f64),
}

impl Bound {
    pub(crate) fn limit(self) -> f64 {
        match self {
            Bound::AtMost(limit) | Bound::Below(limit) => limit,
        }
    }

    pub(crate) fn admits(self, value: f64) -> bool {
        match self {
            Bound::AtMost(limit) => value <= limit,
            Bound::Below(limit) => value < limit,
        }
    }
}

impl std::fmt::Display for Bound {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        match self {
            Bound::AtMost(limit) => write!(f, "≤ {limit}"),
            Bound::Below(limit) => write!(f, "< {limit}"),
        }
    }
}

impl Target {
    fn value(metric: &'static str, bound: Bound) -> Target {
        Target { ours: OURS, metric, bound, peer: None }
    }

    fn ratio(metric: &'static str, bound: Bound, peer: &'static str) -> Target {
        Target { ours: OURS, metric, bound, peer: Some(peer) }
    }

    /// What goroutines that roam have to reach.
    fn roaming(self) -> Target {
        Target { ours: OURS_ROAMING, ..self }
    }

    /// What our channels have to reach between OS threads.
    fn on_threads(self) -> Target {
        Target { ours: OURS_ON_THREADS, ..self }
    }
}

/// How many goroutines share a lock in the lock workloads.
pub(crate) const SHARERS: u64 = 4;
/// Of so many turns at a read-write lock one writes.
pub(crate) const WRITE_EVERY: u64 = 1_000;
/// How many goroutines a wait group waits for.
pub(crate) const GROUP: u64 = 1_000;

/// How much of each workload a process does.
#[derive(Clone, Debug)]
pub(crate) struct Sizes {
    pub(crate) procs: usize,
    /// How long the timed run of a paced workload lasts at least.
    pub(crate) budget: Duration,
    pub(crate) ring: u64,
    pub(crate) primes: usize,
    pub(crate) leaves: u64,
    pub(crate) parked_dense: usize,
    pub(crate) parked_default: usize,
    pub(crate) block: Duration,
    pub(crate) fresh: u64,
    pub(crate) hog: Duration,
    pub(crate) sleeps: u64,
    pub(crate) idle: Duration,
    /// For how long the client of `echo` counts.
    pub(crate) echo: Duration,
    pub(crate) connections: usize,
    pub(crate) transfer: usize,
}

impl Sizes {
    pub(crate) fn full(procs: usize) -> Sizes {
        Sizes {
            procs,
            budget: Duration::from_millis(300),
            ring: 10_000,
            primes: 2_500,
            leaves: 1_000_000,
            parked_dense: 1_000_000,
            parked_default: 100_000,
            block: Duration::from_secs(1),
            fresh: 1_000,
            hog: Duration::from_secs(2),
            sleeps: 100_000,
            idle: Duration::from_secs(1),
            echo: Duration::from_secs(2),
            connections: 10_000,
            transfer: 100 << 20,
        }
    }

    /// For smoke tests: the same shapes, too small to mean anything. `go/main.go` has the same
    /// figures.
    pub(crate) fn quick(procs: usize) -> Sizes {
        Sizes {
            procs,
            budget: Duration::from_millis(20),
            ring: 100,
            primes: 50,
            leaves: 1_000,
            parked_dense: 1_000,
            parked_default: 1_000,
            block: Duration::from_millis(100),
            fresh: 100,
            hog: Duration::from_millis(200),
            sleeps: 1_000,
            idle: Duration::from_millis(100),
            echo: Duration::from_millis(100),
            connections: 100,
            transfer: 1 << 20,
        }
    }
}

/// The `n`-th prime, to check the sieve's last one against.
pub(crate) fn nth_prime(n: usize) -> u64 {
    let mut primes: Vec<u64> = Vec::with_capacity(n);
    let mut candidate = 2;
    while primes.len() < n {
        let mut smaller = primes.iter().take_while(|&&p| p * p <= candidate);
        if smaller.all(|p| candidate % p != 0) {
            primes.push(candidate);
        }
        candidate += 1;
    }
    primes[n - 1]
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn names_are_parsed_back() {
        for workload in Workload::ALL {
            assert_eq!(Workload::parse(workload.name()), Some(workload));
        }
    }

    #[test]
    fn the_2500th_prime() {
        assert_eq!(nth_prime(2_500), 22_307);
    }

    #[test]
    fn bounds_differ_at_the_limit() {
        assert!(Bound::AtMost(1.0).admits(1.0));
        assert!(!Bound::Below(1.0).admits(1.0));
    }
}
