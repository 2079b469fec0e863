//! The peers: their names, which workloads fit them, and how each is run in this process.

use crate::measure::Metric;
use crate::peers::may::{May, Spsc};
use crate::peers::smol::{Smol, SmolPool};
use crate::peers::strands::{self, Strands};
use crate::peers::strands_tasks::StrandsTasks;
use crate::peers::threads::{Crossbeam, Flume, Kanal, ParkingLot, Std, Threads};
use crate::peers::tokio::{self, Permits, Tokio, TokioPool};
use crate::workload::{Sizes, Workload};
use crate::{blocking, futures, net};

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Peer {
    Strands,
    StrandsRoaming,
    StrandsTasks,
    Go,
    Tokio,
    TokioPool,
    KanalTokio,
    FlumeTokio,
    Smol,
    SmolPool,
    May,
    MaySpsc,
    StrandsThreads,
    Threads,
    CrossbeamThreads,
    KanalThreads,
    FlumeThreads,
    ParkingLotThreads,
}

impl Peer {
    pub(crate) const ALL: [Peer; 18] = [
        Peer::Strands,
        Peer::StrandsRoaming,
        Peer::StrandsTasks,
        Peer::Go,
        Peer::Tokio,
        Peer::TokioPool,
        Peer::KanalTokio,
        Peer::FlumeTokio,
        Peer::Smol,
        Peer::SmolPool,
        Peer::May,
        Peer::MaySpsc,
        Peer::StrandsThreads,
        Peer::Threads,
        Peer::CrossbeamThreads,
        Peer::KanalThreads,
        Peer::FlumeThreads,
        Peer::ParkingLotThreads,
    ];

    pub(crate) fn name(self) -> &'static str {
        match self {
            Peer::Strands => "strands",
            Peer::StrandsRoaming => "strands-roaming",
            Peer::StrandsTasks => "strands-tasks",
            Peer::Go => "go",
            Peer::Tokio => "tokio",
            Peer::TokioPool => "tokio-pool",
            Peer::KanalTokio => "kanal-tokio",
            Peer::FlumeTokio => "flume-tokio",
            Peer::Smol => "smol",
            Peer::SmolPool => "smol-pool",
            Peer::May => "may",
            Peer::MaySpsc => "may-spsc",
            Peer::StrandsThreads => "strands-threads",
            Peer::Threads => "threads",
            Peer::CrossbeamThreads => "crossbeam-threads",
            Peer::KanalThreads => "kanal-threads",
            Peer::FlumeThreads => "flume-threads",
            Peer::ParkingLotThreads => "parking-lot-threads",
        }
    }

    pub(crate) fn parse(name: &str) -> Option<Peer> {
        Peer::ALL.into_iter().find(|p| p.name() == name)
    }

    pub(crate) fn on_threads(self) -> bool {
        self.name().ends_with("threads")
    }

    /// Our goroutines, of either affinity.
    fn is_strands(self) -> bool {
        matches!(self, Peer::Strands | Peer::StrandsRoaming)
    }

    /// Whether the workload says something about this peer that no other row says.
    pub(crate) fn fits(self, workload: Workload) -> bool {
        use Workload::*;
        if workload == Transfer {
            return self.is_strands() || matches!(self, Peer::Go | Peer::Tokio | Peer::Threads);
        }
        if workload == ContextFanout {
            return matches!(self, Peer::Strands | Peer::Go);
        }
        match self {
            Peer::Strands | Peer::StrandsRoaming => true,
            // What tokio's tasks can be compared with, where they do what goroutines do.
            Peer::StrandsTasks => {
                matches!(workload, SpawnJoin | Yield2 | PingPong | Spsc | Mpmc | ManySleeps)
            }
            // The others have no answer but "do not".
            _ if workload.holds_threads() => self == Peer::Go,
            // One CPU is a question to channels that block threads.
            Peer::Go | Peer::Smol => workload != SpscOneCpu,
            // Without a bound the sieve's generator fills the memory; its select loses messages.
            Peer::May => !matches!(workload, Sieve | SpscOneCpu | Waitgroup) && !workload.selects(),
            Peer::MaySpsc => matches!(workload, PingPong | Spsc | Ring),
            // Its channel has one consumer.
            Peer::Tokio => !matches!(workload, Mpmc | SpscOneCpu),
            // The same runtimes with other channels. kanal has no select.
            Peer::KanalTokio => matches!(workload, PingPong | Spsc | Mpmc | Ring | Sieve),
            Peer::FlumeTokio => {
                matches!(workload, PingPong | Spsc | Mpmc | Ring | Sieve) || workload.selects()
            }
            // The same runtimes, told that a call blocks.
            Peer::TokioPool | Peer::SmolPool => workload == BlockedThreads,
            // As many threads as the others' goroutines: where a machine can have them.
            Peer::Threads => matches!(
                workload,
                SpawnJoin
                    | Yield2
                    | Yield1000
                    | PingPong
                    | Spsc
                    | SpscOneCpu
                    | Ring
                    | MutexUncontended
                    | Mutex4
                    | RwlockRead
                    | BlockedThreads
                    | HogLatency
                    | Echo
            ),
            Peer::ParkingLotThreads => matches!(workload, MutexUncontended | Mutex4 | RwlockRead),
            Peer::KanalThreads => matches!(workload, PingPong | Spsc | SpscOneCpu | Mpmc),
            Peer::StrandsThreads | Peer::CrossbeamThreads | Peer::FlumeThreads => {
                matches!(workload, PingPong | Spsc | SpscOneCpu | Mpmc) || workload.selects()
            }
        }
    }

    /// How this peer's row differs from the workload as strands does it, if it does.
    pub(crate) fn note(self, workload: Workload) -> Option<&'static str> {
        use Workload::*;
        let rendezvous = matches!(workload, PingPong | Ring | Sieve | Select4Rendezvous);
        match (self, workload) {
            (Peer::Tokio, Parked1m | Parked100kDefault) => {
                Some("waits on a semaphore; tasks have no stacks")
            }
            (Peer::Smol, Parked1m | Parked100kDefault) => {
                Some("channel of capacity 1; tasks have no stacks")
            }
            (Peer::Tokio | Peer::Smol, BlockedThreads) => Some("blocking call made plainly"),
            (Peer::TokioPool, _) => Some("blocking call through spawn_blocking"),
            (Peer::SmolPool, _) => Some("blocking call through unblock"),
            (Peer::Tokio | Peer::Smol, _) if rendezvous => Some("capacity 1 for rendezvous"),
            (Peer::May, Yield2 | Yield1000) => Some("its yield lets in none that has not started"),
            (Peer::Threads, Yield1000) => Some("starting the threads included"),
            (Peer::May, Parked100kDefault) => Some("mpmc, unbounded; default stacks of 32 KiB"),
            (Peer::May, _) if rendezvous || matches!(workload, Spsc | Mpmc | Skynet | Parked1m) => {
                Some("mpmc, unbounded")
            }
            (Peer::Tokio | Peer::Smol, Waitgroup) => Some("waits for the end of a channel"),
            (Peer::MaySpsc, _) => Some("spsc, unbounded"),
            (Peer::Threads, PingPong | Spsc | SpscOneCpu | Ring) => Some("std sync_channel"),
            _ => None,
        }
    }

    /// Runs the workload in this process. Go has a program of its own.
    pub(crate) fn run_here(self, workload: Workload, sizes: Sizes) -> Vec<Metric> {
        if self == Peer::StrandsRoaming {
            strands::roam();
        }
        let parked = matches!(workload, Workload::Parked1m | Workload::Parked100kDefault);
        if workload.uses_sockets() {
            return net::run(self, workload, &sizes);
        }
        if workload.locks() {
            return self.run_locks_here(workload, sizes);
        }
        match self {
            Peer::Go => unreachable!("a Rust process does not run Go"),
            Peer::ParkingLotThreads => unreachable!("parking_lot has no channels"),
            Peer::Strands | Peer::StrandsRoaming => {
                blocking::run::<Strands, Strands>(workload, sizes)
            }
            Peer::StrandsTasks => futures::run::<StrandsTasks, StrandsTasks>(workload, sizes),
            Peer::May => blocking::run::<May, May>(workload, sizes),
            Peer::MaySpsc => blocking::run::<May, Spsc>(workload, sizes),
            Peer::StrandsThreads => blocking::run::<Threads, Strands>(workload, sizes),
            Peer::Threads => blocking::run::<Threads, Std>(workload, sizes),
            Peer::CrossbeamThreads => blocking::run::<Threads, Crossbeam>(workload, sizes),
            Peer::KanalThreads => blocking::run::<Threads, Kanal>(workload, sizes),
            Peer::FlumeThreads => blocking::run::<Threads, Flume>(workload, sizes),
            Peer::Tokio if parked => futures::run::<Tokio, Permits>(workload, sizes),
            Peer::Tokio => futures::run::<Tokio, Tokio>(workload, sizes),
            Peer::TokioPool => futures::run::<TokioPool, Tokio>(workload, sizes),
            Peer::KanalTokio => futures::run::<Tokio, tokio::Kanal>(workload, sizes),
            Peer::FlumeTokio => futures::run::<Tokio, tokio::Flume>(workload, sizes),
            Peer::Smol => futures::run::<Smol, Smol>(workload, sizes),
            Peer::SmolPool => futures::run::<SmolPool, Smol>(workload, sizes),
        }
    }

    fn run_locks_here(self, workload: Workload, sizes: Sizes) -> Vec<Metric> {
        match self {
            Peer::Strands | Peer::StrandsRoaming => {
                blocking::run_locks::<Strands, Strands>(workload, sizes)
            }
            Peer::May => blocking::run_locks::<May, May>(workload, sizes),
            Peer::Threads => blocking::run_locks::<Threads, Std>(workload, sizes),
            Peer::ParkingLotThreads => blocking::run_locks::<Threads, ParkingLot>(workload, sizes),
            Peer::Tokio => futures::run_locks::<Tokio, Tokio, Tokio>(workload, sizes),
            Peer::Smol => futures::run_locks::<Smol, Smol, Smol>(workload, sizes),
            _ => unreachable!("{} brings no locks", self.name()),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn names_are_parsed_back() {
        for peer in Peer::ALL {
            assert_eq!(Peer::parse(peer.name()), Some(peer));
        }
    }

    #[test]
    fn every_target_names_a_peer_that_fits() {
        for workload in Workload::ALL {
            for target in workload.targets() {
                let peer = target.peer.map(|name| Peer::parse(name).expect(name));
                let ours = Peer::parse(target.ours).expect(target.ours);
                assert!(ours.fits(workload));
                assert!(peer.is_none_or(|peer| peer.fits(workload)));
            }
        }
    }
}
