//! The poller of those for whom there is no epoll instance, since the process has no descriptors left for one: a thread
//! that asks `poll`, which needs none.
//!
//! Each of those who wait has an entry, for a side of a source, by which its thread asks the kernel, every
//! [`LOOK`] at the latest. What is ready is told of once, as an edge would be, and its entry goes; whoever waits again
//! makes another. Since `poll` says what *is* so and not what has changed, nothing is lost in between.
//!
//! An entry goes, too, when nobody waits at that side any more, which the thread sees at its next look. So
//! nobody has to take one out, and a descriptor that has been closed meanwhile, or is another's by now, is
//! asked for in vain at most.
//!
//! It is slower than an epoll, and its thread wakes up although nothing has happened. But it is there when nothing
//! else is, and once there are descriptors again those who wait anew are registered as ever.

use super::record::{self, Record, Side, State};
use super::slab;
use crate::sched::threads;
use crate::sys::epoll::{self, Entry};
use crate::wait::Wake;
use std::io;
use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::{Condvar, Mutex, PoisonError};
use std::time::Duration;

/// After so long at most it asks for those, too, who have come to wait meanwhile. Guessed.
const LOOK: Duration = Duration::from_millis(5);

pub(crate) struct Makeshift {
    arrivals: Mutex<Arrivals>,
    come: Condvar,
    /// Whether it may have taken somebody out of a line whom it has yet to wake.
    delivering: AtomicBool,
}

#[derive(Default)]
struct Arrivals {
    has_thread: bool,
    wanted: Vec<Wanted>,
}

/// A side of the source that had this number.
struct Wanted {
    number: u64,
    side: Side,
}

impl Makeshift {
    pub(in crate::sched) fn new() -> Makeshift {
        Makeshift {
            arrivals: Mutex::default(),
            come: Condvar::new(),
            delivering: AtomicBool::new(false),
        }
    }

    /// Sees to it that it is told when this side is ready, if anybody waits there by the time the lock is given up.
    ///
    /// # Errors
    /// There can be no thread.
    pub(super) fn enter(
        &'static self,
        record: &Record,
        state: &mut State,
        side: Side,
    ) -> io::Result<()> {
        if state.makeshift & side.bit() != 0 {
            return Ok(());
        }
        let mut arrivals = self.arrivals.lock().unwrap_or_else(PoisonError::into_inner);
        if !arrivals.has_thread {
            threads::start("strands-makeshift", move || self.run())?;
            arrivals.has_thread = true;
        }
        arrivals.wanted.push(Wanted { number: record.number(state), side });
        state.makeshift |= side.bit();
        self.come.notify_one();
        Ok(())
    }

    /// How many threads we have started: one or none.
    pub(in crate::sched) fn threads(&self) -> usize {
        let arrivals = self.arrivals.lock().unwrap_or_else(PoisonError::into_inner);
        usize::from(arrivals.has_thread)
    }

    /// Whether it may be about to wake somebody. To be asked after it was asked who waits.
    pub(in crate::sched) fn is_delivering(&self) -> bool {
        self.delivering.load(Ordering::SeqCst)
    }

    fn run(&self) -> ! {
        let (mut wanted, mut entries) = (Vec::<Wanted>::new(), Vec::new());
        loop {
            let mut arrivals = self.arrivals.lock().unwrap_or_else(PoisonError::into_inner);
            while wanted.is_empty() && arrivals.wanted.is_empty() {
                arrivals = self.come.wait(arrivals).unwrap_or_else(PoisonError::into_inner);
            }
            wanted.append(&mut arrivals.wanted);
            drop(arrivals);

            entries.clear();
            wanted.retain(|one| {
                let entry = one.entry();
                entries.extend(entry);
                entry.is_some()
            });
            epoll::poll_all(&mut entries, LOOK);
            self.delivering.store(true, Ordering::SeqCst);
            let mut entry = entries.iter();
            wanted.retain(|one| {
                let told = entry.next().map_or(0, Entry::told);
                if told == 0 {
                    return true;
                }
                one.leave();
                record::notice(one.number, told, Wake::deliver);
                false
            });
            self.delivering.store(false, Ordering::SeqCst);
        }
    }
}

impl Wanted {
    /// Does this with the state of the source, if that is still the same.
    fn with<T>(&self, f: impl FnOnce(&Record, &mut State) -> T) -> Option<T> {
        let record = slab::get(self.number as u32);
        let mut state = record.state.lock();
        (record.number(&state) == self.number).then(|| f(record, &mut state))
    }

    /// What to ask the kernel; nothing if nobody waits any more, and then the entry is gone.
    fn entry(&self) -> Option<Entry> {
        self.with(|record, state| {
            if state.is_waited_for_at(self.side) {
                return Some(Entry::new(record.fd(), self.side.polled()));
            }
            state.makeshift &= !self.side.bit();
            None
        })?
    }

    fn leave(&self) {
        self.with(|_, state| state.makeshift &= !self.side.bit());
    }
}
