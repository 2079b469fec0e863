//! How far two processors are from each other: what a cache line takes there and back.
//!
//! A virtual machine's processors may share a cache now and not in ten seconds, wherever the host has put them: 45 ns there
//! and back become 400, and whatever two threads do together costs a third more, whoever wrote it. A figure that was
//! taken on either side of such a move says nothing of the program. So a turn of all peers counts only if the processors
//! are as far from each other at each measurement; and the report says how far that was.

use std::fmt;
use std::hint::spin_loop;
use std::sync::atomic::{AtomicU64, Ordering};
use std::time::Instant;

use crate::cpus;

/// Round trips of a burst, and bursts, of which the quickest counts: somebody may have had one of the CPUs meanwhile.
const TRIPS: u64 = 2_000;
const BURSTS: usize = 5;
/// Two measurements that differ by more are of processors that have been moved.
const MOVED: f64 = 2.5;

/// Nanoseconds there and back; none where there is one processor only.
#[derive(Clone, Copy, Debug, PartialEq)]
pub(crate) struct Distance(Option<f64>);

impl Distance {
    /// Between the first and the last of the CPUs that this process may use. Takes a millisecond or five.
    pub(crate) fn measure() -> Distance {
        let cpus = cpus::allowed();
        let (Some(&first), Some(&last)) = (cpus.first(), cpus.last()) else {
            return Distance(None);
        };
        if first == last {
            return Distance(None);
        }
        let bursts = (0..BURSTS).map(|_| burst(first, last));
        Distance(bursts.min_by(f64::total_cmp))
    }

    /// Whether the processors are where they were then.
    pub(crate) fn is_as(self, then: Distance) -> bool {
        match (self.0, then.0) {
            (Some(now), Some(then)) => now / then < MOVED && then / now < MOVED,
            _ => true,
        }
    }
}

impl fmt::Display for Distance {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self.0 {
            Some(nanos) => write!(f, "{nanos:.0} ns"),
            None => f.write_str("–"),
        }
    }
}

/// Nanoseconds of a round trip between the two.
fn burst(first: usize, last: usize) -> f64 {
    let ball = AtomicU64::new(0);
    let play = |cpu: usize, whose: u64| {
        cpus::confine(&[cpu]);
        let mut begun = Instant::now();
        for trip in 0..TRIPS {
            while ball.load(Ordering::Acquire) != 2 * trip + whose {
                spin_loop();
            }
            if trip == 0 {
                // The other is here now.
                begun = Instant::now();
            }
            ball.store(2 * trip + whose + 1, Ordering::Release);
        }
        begun.elapsed()
    };
    let took = std::thread::scope(|scope| {
        scope.spawn(|| play(last, 1));
        scope.spawn(|| play(first, 0)).join().expect("it counts")
    });
    took.as_nanos() as f64 / TRIPS as f64
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_cache_line_takes_its_time() {
        let distance = Distance::measure();
        assert_eq!(distance.0.is_some(), cpus::allowed().len() > 1);
        assert!(distance.0.is_none_or(|nanos| nanos > 1.0), "{distance}");
    }

    #[test]
    fn processors_that_have_been_moved_are_told_from_those_that_have_not() {
        let [near, also_near, far] = [45.0, 72.0, 380.0].map(|nanos| Distance(Some(nanos)));
        assert!(near.is_as(also_near) && also_near.is_as(near));
        assert!(!near.is_as(far) && !far.is_as(near));
        assert!(Distance(None).is_as(Distance(None)));
        assert_eq!((near.to_string(), Distance(None).to_string()), ("45 ns".into(), "–".into()));
    }
}
