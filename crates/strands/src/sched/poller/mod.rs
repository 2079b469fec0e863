//! The network poller: how those who wait for a descriptor learn that it is ready.
//!
//! ```text
//!   a goroutine                              the worker with which it is at home
//!   ───────────                              ───────────────────────────────────
//!   the call ── done ──► goes on             in its loop, now and then: look, without waiting
//!      │ would block                         with nothing to run: look, and then sleep in epoll
//!      ▼                                        │ an edge
//!   registered? ──no──► epoll_ctl, once         ▼
//!   in the source's line, unless an edge     note it at the source, empty its lines,
//!   came since the call; park ◄───────────── wake whom they held
//! ```
//!
//! # A poller for each worker
//!
//! Each worker has an epoll instance of its own, and a [`Source`] is registered with the worker whose goroutine waits
//! for it first. Goroutines stay at home, so a worker finds in its epoll what its own goroutines wait for, all in
//! one call, and none of it crosses threads. With one instance for all, whichever worker looks would wake the
//! others for half of what it finds: a futex call and a switch of threads for a request that costs no more than
//! that. A source for which another worker's goroutines come to wait moves after them (`registration`).
//!
//! Who is no goroutine has no worker. Plain threads wait in `poll` and need nobody; a plain thread in a
//! select, and async tasks of other executors, are served by the `outside` poller, which has a thread that is started
//! when it is first needed. Where there are no descriptors for a poller, there is a `makeshift`.
//!
//! | file | story |
//! |---|---|
//! | `source` | a descriptor that is waited for: try, wait, try again |
//! | `visitor` | the same for async tasks |
//! | `record` | its record: the two sides, their lines, what an edge does |
//! | `registration` | with which poller it is registered, and for what |
//! | `slab` | where records live |
//! | `outside` | the poller of those who are no goroutines |
//! | `makeshift` | the poller of those for whom no descriptors are left |
//!
//! # How a worker sleeps
//!
//! On its futex as long as nothing is registered with it, in its epoll otherwise; only the worker's own goroutines
//! register anything there, so that cannot change while it sleeps. Who brings it something while it sleeps in epoll
//! rings a bell that is registered there, too, and makes no system call while it does not (`parker` has the
//! protocol). It comes off the list of sleepers *before* it takes anybody out of a line: whoever looks for a
//! deadlock finds either somebody who waits for a descriptor, or a worker that is up.
//!
//! Before it sleeps in its epoll it lets others have the CPU and looks once more, as long as that proves worth while
//! (`worker/courtesy`). Of two that share a CPU each yields to the other now and then (`worker/company`).
//!
//! A worker that is busy looks every 50 µs between two turns. If a turn takes longer than 10 ms, the
//! monitor looks in its stead: what it finds may be waited for by goroutines of other workers, or by threads.
//!
//! Wakers of async tasks are other people's code, and do not run on a worker's own stack: a goroutine is
//! spawned to call them ([`deliver_aside`]).

mod makeshift;
mod outside;
mod record;
mod registration;
mod slab;
mod source;
mod visitor;

pub(crate) use makeshift::Makeshift;
pub(crate) use outside::Outside;
pub(crate) use record::{Place, Side};
pub(crate) use source::Source;

use super::spawn::{Order, spawn};
use crate::sys::epoll::{Bell, Epoll, Events, READABLE};
use crate::wait::Wake;
use std::io;
use std::panic::Location;
use std::sync::atomic::{AtomicU64, AtomicUsize, Ordering};
use std::time::Duration;

/// The number under which a bell is registered.
const BELL: u64 = u64::MAX;
/// The time of a look that goes on.
const LOOKING: u64 = u64::MAX;

/// An epoll instance, and what goes with it.
pub(crate) struct Poller {
    epoll: Epoll,
    bell: Bell,
    /// How many sources are registered. Only the owner's thread makes it more.
    sources: AtomicUsize,
    /// When it was last looked at, or [`LOOKING`]: for the monitor.
    looked: AtomicU64,
}

impl Poller {
    pub(super) fn new() -> io::Result<Poller> {
        let (epoll, bell) = (Epoll::new()?, Bell::new()?);
        epoll.add(bell.fd(), READABLE, BELL)?;
        let (sources, looked) = (AtomicUsize::new(0), AtomicU64::new(0));
        Ok(Poller { epoll, bell, sources, looked })
    }

    /// Whether anything is registered.
    #[inline]
    pub(super) fn has_sources(&self) -> bool {
        // Ordering: who makes it more is the one who asks.
        self.sources.load(Ordering::Relaxed) > 0
    }

    /// Wakes whoever sleeps in it.
    pub(super) fn ring(&self) {
        self.bell.ring();
    }

    /// When it was last looked at; `None` while somebody waits in it.
    pub(super) fn last_look(&self) -> Option<u64> {
        let looked = self.looked.load(Ordering::Relaxed);
        (looked != LOOKING).then_some(looked)
    }

    /// Looks, without waiting.
    #[inline]
    pub(super) fn look(&self, events: &mut Events, now: u64) {
        self.looked.store(now, Ordering::Relaxed);
        self.epoll.wait(events, Some(Duration::ZERO));
    }

    /// Sleeps until something has come about, or the time is up.
    pub(super) fn sleep(&self, events: &mut Events, timeout: Option<Duration>) {
        self.looked.store(LOOKING, Ordering::Relaxed);
        self.epoll.wait(events, timeout);
    }

    /// Says that whoever slept in it is up.
    pub(super) fn got_up(&self, now: u64) {
        self.looked.store(now, Ordering::Relaxed);
    }
}

/// Notes what has come about, and hands out the wake-ups that it causes, in the order in which it came. Returns how
/// many there were.
pub(super) fn handle(events: &Events, mut deliver: impl FnMut(Wake)) -> usize {
    let mut woken = 0;
    for (number, what) in events.iter() {
        if number != BELL {
            record::notice(number, what, |wake| {
                woken += 1;
                deliver(wake);
            });
        }
    }
    woken
}

/// Calls wakers in a goroutine of their own.
#[cold]
pub(super) fn deliver_aside(wakes: Vec<Wake>) {
    let deliver = move || wakes.into_iter().for_each(Wake::deliver);
    // SAFETY: the closure owns all it uses.
    // If there is no memory for a goroutine the wake-ups are delivered here, as they are dropped.
    drop(unsafe { spawn(Order::plain(Location::caller()), deliver, ()) });
}

/// Whether anybody waits for a descriptor: it may become ready whatever happens in here.
pub(super) fn anybody_waits() -> bool {
    slab::any(record::Record::is_waited_for)
}
