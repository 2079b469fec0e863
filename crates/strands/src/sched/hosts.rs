//! Threads of their own, for goroutines of sites that are known to hold their threads (see `offenders`).
//!
//! A *host* is a worker without a processor that takes in one goroutine, its *guest*, and runs it to its end. So
//! whatever the guest does to its thread, it has no siblings to do it to. A host whose guest has ended is *free*: it
//! sleeps, takes in the next one that comes, and retires if none does. (A guest that roams leaves when it first parks.)
//!
//! ```text
//!   a worker is about to start a goroutine of an offending site
//!        │
//!        ├─ a hog, and as many hogs run as there are processors ──► waits its turn here
//!        ├─ a host is free ──► is invited there
//!        ├─ fewer than the most hosts, and a thread is to be had ──► a new host
//!        └─ else ──► starts where it is, as others do: hand-off sees to it
//! ```
//!
//! **Hogs take turns.** The kernel gives a thread that computes as much as any other, so a hundred hogs on a hundred
//! threads would leave next to nothing for the goroutines on processors. As long as as many hogs run as there are
//! processors, further ones wait, unstarted, where they harm nobody. (A hog whose host sleeps does not run.) They
//! may depend on each other, though: one may compute until another, which waits, has done something. So
//! after [`FIRST_WAIT`] the monitor lets one more in, and doubles the wait with each that runs in excess, up to
//! [`LAST_WAIT`].

use super::goroutine::{Goroutine, Runnable};
use super::offenders::Held;
use super::runtime::Runtime;
use super::worker::Worker;
use crate::queue::List;
use std::collections::VecDeque;
use std::ptr::NonNull;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::sync::{Mutex, MutexGuard, PoisonError};

/// So many hosts, and no more. Guessed: enough for what blocks in a program at one time, and as little memory as
/// a worker thread takes (some 30 KiB each).
const MOST: usize = 256;
/// A hog beyond as many as there are processors waits for this long, in nanoseconds; for each that runs in excess
/// twice as long, up to the latter.
const FIRST_WAIT: u64 = 10_000_000;
const LAST_WAIT: u64 = 1_000_000_000;

/// A goroutine that is to start on a thread of its own.
pub(super) struct Guest {
    pub(super) goroutine: NonNull<Goroutine>,
    pub(super) held: Held,
}

// SAFETY: it is fresh and in no queue: whoever has this may start it.
unsafe impl Send for Guest {}

impl Guest {
    fn is_hog(&self) -> bool {
        self.held == Held::Hogged
    }
}

pub(super) struct Hosts {
    inner: Mutex<Inner>,
    /// The length of `Inner::waiting`, and how many hosts have a thread, for those who only look.
    waiting: AtomicUsize,
    threads: AtomicUsize,
    /// Hogs that run on workers which have lost their processors to them. The monitor counts them.
    elsewhere: AtomicUsize,
}

struct Inner {
    /// Hogs that wait until fewer run.
    waiting: List<Runnable>,
    /// Asleep, without a guest.
    free: Vec<&'static Worker>,
    /// Those who have been taken off the list of free ones, by their numbers, and for whom.
    invited: VecDeque<(usize, Guest)>,
    /// Hosts that sleep because their guests wait.
    resting: usize,
    /// Guests that hog, on hosts that are awake.
    hogs: usize,
    threads: usize,
    /// A thread was refused. Until a host becomes free there is no use in asking again.
    refused: bool,
    /// When a hog was last let in.
    let_in: u64,
}

/// Where a guest goes.
enum Room {
    With(&'static Worker),
    New,
    Nowhere,
}

impl Hosts {
    pub(super) fn new() -> Hosts {
        Hosts {
            inner: Mutex::new(Inner {
                waiting: List::new(),
                free: Vec::new(),
                invited: VecDeque::new(),
                resting: 0,
                hogs: 0,
                threads: 0,
                refused: false,
                let_in: 0,
            }),
            waiting: AtomicUsize::new(0),
            threads: AtomicUsize::new(0),
            elsewhere: AtomicUsize::new(0),
        }
    }

    /// How many hosts there are.
    pub(super) fn threads(&self) -> usize {
        self.threads.load(Ordering::Relaxed)
    }

    /// How many goroutines wait for a host.
    pub(super) fn waiting(&self) -> usize {
        self.waiting.load(Ordering::Relaxed)
    }

    /// How many hosts sleep. One that has been invited does not.
    pub(super) fn asleep(&self) -> usize {
        let inner = self.lock();
        inner.free.len() + inner.resting
    }

    /// So many hogs run on workers that are no hosts.
    pub(super) fn set_elsewhere(&self, hogs: usize) {
        self.elsewhere.store(hogs, Ordering::Relaxed);
    }

    fn lock(&self) -> MutexGuard<'_, Inner> {
        self.inner.lock().unwrap_or_else(PoisonError::into_inner)
    }

    fn publish(&self, inner: &Inner) {
        self.waiting.store(inner.waiting.len(), Ordering::Relaxed);
        self.threads.store(inner.threads, Ordering::Relaxed);
    }

    /// Whether one more hog may run without taking from others.
    fn has_turn(&self, inner: &Inner, processors: usize) -> bool {
        inner.hogs + self.elsewhere.load(Ordering::Relaxed) < processors
    }

    /// Finds a thread for a guest, or lets it wait for one. It is given back where there is none to be had.
    pub(super) fn lodge(&self, runtime: &Runtime, guest: Guest) -> Result<(), Guest> {
        let mut inner = self.lock();
        let room = inner.room();
        if matches!(room, Room::Nowhere) {
            return Err(guest);
        }
        if guest.is_hog() && !self.has_turn(&inner, runtime.processors.len()) {
            // SAFETY: fresh, and just taken out of its queue by whoever made the guest.
            unsafe { inner.waiting.push_back(guest.goroutine.cast()) };
            self.publish(&inner);
            return Ok(());
        }
        self.admit(runtime, inner, room, guest)
    }

    fn admit(
        &self,
        runtime: &Runtime,
        mut inner: MutexGuard<'_, Inner>,
        room: Room,
        guest: Guest,
    ) -> Result<(), Guest> {
        if guest.is_hog() {
            inner.hogs += 1;
            inner.let_in = runtime.clock.coarse();
        }
        match room {
            Room::With(host) => {
                inner.free.retain(|other| !std::ptr::eq(*other, host));
                inner.invited.push_back((host.index(), guest));
                drop(inner);
                host.call();
                Ok(())
            }
            Room::New => {
                inner.threads += 1;
                self.publish(&inner);
                drop(inner);
                runtime.start_host(guest).inspect_err(|guest| {
                    let mut inner = self.lock();
                    inner.threads -= 1;
                    inner.refused = true;
                    inner.hogs -= usize::from(guest.is_hog());
                    self.publish(&inner);
                })
            }
            Room::Nowhere => unreachable!("asked before"),
        }
    }

    /// Lets hogs in that wait, if it is their turn; the monitor also lets one in that has waited for long. Those for
    /// whom there is no host after all go where all do.
    pub(super) fn let_in(&self, runtime: &Runtime, now: Option<u64>) {
        let processors = runtime.processors.len();
        let mut late = now;
        while self.waiting() > 0 {
            let mut inner = self.lock();
            if !self.has_turn(&inner, processors) {
                let Some(now) = late.take() else { return };
                let running = inner.hogs + self.elsewhere.load(Ordering::Relaxed);
                let excess = (running - processors).min(16);
                let wait = (FIRST_WAIT << excess).min(LAST_WAIT);
                if now.saturating_sub(inner.let_in) < wait {
                    return;
                }
            }
            let room = inner.room();
            let Some(goroutine) = inner.waiting.pop_front() else { return };
            self.publish(&inner);
            let goroutine = Runnable::as_fresh(goroutine).expect("guests are fresh");
            let guest = Guest { goroutine, held: Held::Hogged };
            let refused = match room {
                Room::Nowhere => {
                    drop(inner);
                    Err(guest)
                }
                room => self.admit(runtime, inner, room, guest),
            };
            if let Err(guest) = refused {
                runtime.inject(guest.goroutine);
            }
        }
    }

    /// A host is about to sleep, for its guest waits.
    pub(super) fn rest(&self, is_hog: bool) {
        let mut inner = self.lock();
        inner.resting += 1;
        inner.hogs -= usize::from(is_hog);
    }

    /// It has slept.
    pub(super) fn rise(&self, is_hog: bool) {
        let mut inner = self.lock();
        inner.resting -= 1;
        inner.hogs += usize::from(is_hog);
    }

    /// The guest has ended.
    pub(super) fn farewell(&self, is_hog: bool) {
        self.lock().hogs -= usize::from(is_hog);
    }

    /// A host is free, and about to sleep.
    pub(super) fn be_free(&self, host: &'static Worker) {
        let mut inner = self.lock();
        inner.refused = false;
        inner.free.push(host);
    }

    /// A free host is up again: the guest for whom it was woken, if that was it.
    pub(super) fn get_up(&self, host: &'static Worker) -> Option<Guest> {
        let mut inner = self.lock();
        if let Some(at) = inner.free.iter().position(|other| std::ptr::eq(*other, host)) {
            inner.free.remove(at);
            return None;
        }
        let at = inner.invited.iter().position(|(index, _)| *index == host.index());
        let (_, guest) = at.and_then(|at| inner.invited.remove(at)).expect("it was invited");
        Some(guest)
    }

    /// One that is neither free nor has a guest is host no longer.
    pub(super) fn retire(&self) {
        let mut inner = self.lock();
        inner.threads -= 1;
        self.publish(&inner);
    }
}

impl Inner {
    fn room(&self) -> Room {
        match self.free.last() {
            Some(host) => Room::With(host),
            None if self.threads < MOST && !self.refused => Room::New,
            None => Room::Nowhere,
        }
    }
}
