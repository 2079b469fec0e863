//! The monitor: a thread that looks after the workers.
//!
//! It takes the processor from a worker whose thread is **blocked for any reason**, or hogged, so that
//! the fresh goroutines in its queue go on elsewhere. A worker that has not moved for a millisecond while
//! work waits is looked up in `/proc/self/task/T/syscall`, which says whether it is running or asleep in
//! the kernel: a system call, a page fault, a lock, a debugger's stop, all the same. Asleep: the
//! processor goes to another worker now. Running: when it has used ten milliseconds of a CPU; the kernel then
//! shares the cores out between the hog and the rest. What else there is to know of long turns is in `overdue`.
//!
//! It also fires timers that nobody else has fired, looks at pollers that nobody has looked at, has stacks trimmed, and looks for deadlocks when all
//! is quiet. While a program runs it wakes every 250 µs if something seems stuck, and backs off to 2 ms if
//! not; when nothing runs it sleeps until a worker wakes up.
//!
//! **Rejected.** A signal to interrupt the hog: no stack is safe to leave at any instruction. `nice` or
//! `SCHED_IDLE` for it: an unprivileged thread cannot take them back. Go's 20 µs poll: it would cost a
//! third of a core.

use super::offenders::Held;
use super::overdue::Overdue;
use super::parker::Parker;
use super::runtime::Runtime;
use super::trimmer::Trimmer;
use super::worker::Worker;
use super::{census, future, poller, threads};
use crate::sys;
use crate::sys::epoll::Events;
use crate::wait::Wake;
use std::io;
use std::sync::atomic::{AtomicBool, Ordering};
use std::time::Duration;

const MICRO: u64 = 1_000;
const MILLI: u64 = 1_000_000;

/// Between looks, while something seems stuck; and the most it backs off to.
const SHORTEST: Duration = Duration::from_micros(250);
const LONGEST: Duration = Duration::from_millis(2);
/// Looks in a row that find nothing before it backs off a step.
const CALM_LOOKS: u32 = 16;
/// A worker that has not moved for this long, while work waits, is asked about.
const SUSPICIOUS: u64 = MILLI;
/// A lone fresh goroutine waits for this long before somebody idle is woken to steal it.
const LONELY: u64 = 200 * MICRO;
/// A timer this late is fired from here: its worker does not get round to it.
const LATE: u64 = 2 * MILLI;
/// A poller that was last looked at so long ago is looked at from here.
const LATE_LOOK: u64 = 10 * MILLI;
/// All is quiet once it has been for this long.
const QUIET: u64 = 5 * MILLI;
/// Between looks for a deadlock while threads that we know nothing of are alive: from, and up to.
const FIRST_LOOK: Duration = Duration::from_secs(1);
const LAST_LOOK: Duration = Duration::from_secs(60);

/// The monitor as the others see it.
pub(crate) struct Monitor {
    parker: Parker,
    /// A thread has asked for a look.
    asked: AtomicBool,
}

impl Monitor {
    pub(super) fn new() -> Monitor {
        Monitor { parker: Parker::new(), asked: AtomicBool::new(false) }
    }

    /// Wakes it, if it sleeps because nothing ran.
    #[inline]
    pub(super) fn nudge(&self) {
        self.parker.wake();
    }

    /// Has it look for a deadlock, now or when all is quiet.
    pub(super) fn ask(&self) {
        self.asked.store(true, Ordering::Relaxed);
        self.parker.wake();
    }
}

/// Starts the monitor's thread.
pub(super) fn start(runtime: &'static Runtime) -> io::Result<()> {
    let watch = Watch {
        runtime,
        seen: runtime.processors.iter().map(|_| Seen::default()).collect(),
        overdue: Overdue::new(runtime),
        gifts: Vec::new(),
        trimmer: Trimmer::new(runtime),
        quiet_since: None,
        last_progress: 0,
    };
    threads::start("strands-monitor", move || watch.run())
}

/// What was last seen of a processor.
#[derive(Default)]
struct Seen {
    owner: Option<usize>,
    progress: u64,
    since: u64,
}

struct Watch {
    runtime: &'static Runtime,
    seen: Box<[Seen]>,
    overdue: Overdue,
    /// By the worker's index: when it was first seen with gifts that it has not taken in since.
    gifts: Vec<Seen>,
    trimmer: Trimmer,
    quiet_since: Option<u64>,
    /// The turns that goroutines had had at the last look.
    last_progress: u64,
}

impl Watch {
    fn run(mut self) {
        sys::tighten_timer_slack();
        let mut interval = SHORTEST;
        let mut calm = 0;
        loop {
            std::thread::sleep(interval);
            let now = self.runtime.clock.now();
            let stuck = self.look_at_processors(now);
            self.overdue.look(now);
            if self.runtime.hosts.waiting() > 0 {
                self.runtime.hosts.let_in(self.runtime, Some(now));
            }
            self.fire_late_timers(now);
            self.look_at_late_pollers(now);
            self.look_at_gifts(now);
            self.trimmer.step(now);
            if stuck {
                (interval, calm) = (SHORTEST, 0);
            } else {
                calm += 1;
                if calm >= CALM_LOOKS {
                    (interval, calm) = ((interval * 2).min(LONGEST), 0);
                }
            }
            if self.is_quiet_for_long(now) {
                self.sleep_while_quiet();
                (interval, calm, self.quiet_since) = (SHORTEST, 0, None);
            }
        }
    }

    /// Takes processors from those who do not use them. True if something seems stuck.
    fn look_at_processors(&mut self, now: u64) -> bool {
        let runtime = self.runtime;
        let mut stuck = false;
        for at in 0..runtime.processors.len() {
            runtime.processors[at].tenure().choose();
            let owner = runtime.processors[at].owner();
            let worker = owner.and_then(|owner| runtime.worker(owner));
            let progress = worker.map_or(0, Worker::progress);
            let seen = &mut self.seen[at];
            let waiting =
                !runtime.processors[at].queue().is_empty() || !runtime.injector.is_empty();
            let Some(worker) = worker else {
                *seen = Seen { owner, progress, since: now };
                if waiting && runtime.idle.any_idle() {
                    // It was to go to a new thread, perhaps, which was refused. Try again.
                    stuck = true;
                    runtime.announce();
                }
                continue;
            };
            if seen.owner != owner || seen.progress != progress {
                *seen = Seen { owner, progress, since: now };
                continue;
            }
            let idle_for = now - seen.since;
            if !waiting {
                continue;
            }
            stuck = true;
            if idle_for >= LONELY && runtime.idle.any_idle() {
                // Somebody who searches steals from a processor that does not move.
                runtime.announce();
            }
            if idle_for >= SUSPICIOUS {
                self.retake_if_held(at, worker);
            }
        }
        stuck
    }

    fn retake_if_held(&mut self, at: usize, worker: &'static Worker) {
        let runtime = self.runtime;
        let Some(why) = self.overdue.is_held(worker) else { return };
        // It may have gone on meanwhile. That costs it a processor, and nothing else.
        if runtime.processors[at].tenure().retake(worker.index(), worker.inside()) {
            let count = match why {
                Held::Blocked => &runtime.taken_blocked,
                Held::Hogged => &runtime.taken_hogging,
            };
            count.fetch_add(1, Ordering::Relaxed);
            self.overdue.has_lost_its_processor(worker, why);
            runtime.hand_over(at);
        }
    }

    fn fire_late_timers(&self, now: u64) {
        for worker in self.runtime.workers() {
            if worker.timers().earliest() < now.saturating_sub(LATE) {
                worker.timers().fire(now, Wake::deliver);
            }
        }
    }

    /// Takes gifts back from workers that do not move.
    fn look_at_gifts(&mut self, now: u64) {
        for worker in self.runtime.workers().into_iter().filter(|worker| worker.has_gifts()) {
            let (index, progress) = (worker.index(), worker.progress());
            if self.gifts.len() <= index {
                self.gifts.resize_with(index + 1, Seen::default);
            }
            let seen = &mut self.gifts[index];
            // Seen like that the last time, and not long ago for another gift.
            if seen.owner != Some(index) || seen.progress != progress {
                *seen = Seen { owner: Some(index), progress, since: now };
            } else if now - seen.since >= SUSPICIOUS {
                seen.owner = None;
                self.runtime.reclaim_gifts(worker);
            }
        }
    }

    /// Looks where a worker has not looked for long, since a turn takes its time.
    fn look_at_late_pollers(&self, now: u64) {
        for worker in self.runtime.workers() {
            let Some(poller) = worker.poller().filter(|poller| poller.has_sources()) else {
                continue;
            };
            if poller.last_look().is_none_or(|look| now.saturating_sub(look) < LATE_LOOK) {
                continue;
            }
            let mut events = Events::new();
            poller.look(&mut events, now);
            let mut foreign = Vec::new();
            poller::handle(&events, |wake| {
                if future::is_foreign(&wake) {
                    foreign.push(wake);
                } else {
                    wake.deliver();
                }
            });
            if !foreign.is_empty() {
                poller::deliver_aside(foreign);
            }
        }
    }

    /// Whether every worker has been asleep for a while, all the while.
    fn is_quiet_for_long(&mut self, now: u64) -> bool {
        let progress = census::progress(self.runtime);
        if self.last_progress != progress {
            self.last_progress = progress;
            self.trimmer.something_ran();
            // Workers that wake up for a moment every so often are not quiet, though most looks find them asleep:
            // we would be up again at once, and begin with the shortest interval every time.
            self.quiet_since = None;
            return false;
        }
        if !census::is_quiet(self.runtime) {
            self.quiet_since = None;
            return false;
        }
        now - *self.quiet_since.get_or_insert(now) >= QUIET
    }

    /// Sleeps until a worker wakes up; looks for a deadlock now, and again as long as threads that we
    /// know nothing of keep us from being sure.
    fn sleep_while_quiet(&mut self) {
        let runtime = self.runtime;
        let mut patience = FIRST_LOOK;
        loop {
            if runtime.monitor.asked.swap(false, Ordering::Relaxed) {
                patience = FIRST_LOOK;
            }
            let life = census::life(runtime);
            if life == census::Life::None {
                census::report_deadlock(runtime);
            }
            runtime.monitor.parker.lie_down();
            // A worker that was up and is asleep again has told us, and we were not asleep to hear it. It may
            // have used up what we took for a sign of life.
            if !census::is_quiet(runtime) || census::progress(runtime) != self.last_progress {
                runtime.monitor.parker.get_up();
                return;
            }
            if runtime.monitor.asked.load(Ordering::Relaxed) {
                runtime.monitor.parker.get_up();
                continue;
            }
            let look_again = (life == census::Life::PerhapsElsewhere).then_some(patience);
            let trim = self.trimmer.pause(runtime.clock.now());
            runtime.monitor.parker.sleep(trim.or(look_again));
            if !census::is_quiet(runtime) || census::progress(runtime) != self.last_progress {
                return;
            }
            self.trimmer.step(runtime.clock.now());
            if trim.is_none() {
                patience = (patience * 2).min(LAST_LOOK);
            }
        }
    }
}
