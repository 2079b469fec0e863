//! Turns that last: which goroutines hold their threads, how, and for how long.
//!
//! The monitor keeps a [`Turn`] for each worker and looks at all of them every few milliseconds. One that is still the
//! same as the time before is looked into: is its thread asleep in the kernel, or does it run? What comes of that:
//!
//! - **hand-off**, for the monitor: a thread that runs counts as a hog when its turn has used [`HOG`] *of a CPU*. On a
//!   busy machine a worker may be kept from running for tens of milliseconds: that is no fault of its
//!   goroutine's, and one more thread would make it worse;
//! - **offences**, for `offenders`: the same bound, for a thread that is blocked;
//! - **how many hogs run** without a processor, for `hosts`;
//! - **harm**, for the advice that is written: a hog with ready siblings;
//! - **deadlocks of a thread with itself**, for `stuck`.
//!
//! Time is counted by looks: of the time between two of them at most [`STEP`] counts. So neither a process
//! that was stopped nor a monitor that did not get to run makes offenders of others.

use super::offenders::{HELD, Held};
use super::runtime::Runtime;
use super::stuck;
use super::worker::Worker;
use crate::sys::probe::{self, Activity, Probe, Sleep};
use crate::wait::{self, WaitKind};
use std::time::Duration;

const MILLI: u64 = 1_000_000;

/// A turn that has used so much of a CPU is a hog's.
pub(super) const HOG: u64 = 10 * MILLI;
/// One that has used so much has done harm if there are goroutines at home that were ready meanwhile.
const HARMFUL: u64 = 100 * MILLI;
/// Finding out takes a look at every stack there is. After so many times who is to know does.
const MOST_WEIGHED: usize = 100;
/// Looks at all workers are at least so far apart.
const EVERY: u64 = 2 * MILLI;
/// Between two looks a turn is older by this at most: on a busy machine, where looks are far apart, it takes as many
/// of them as on an idle one.
const STEP: u64 = EVERY;
/// A sleep that says little of the goroutine counts for so much less. See [`is_telling`].
const HARDLY: u64 = 10;
/// So many workers are asked about through files that stay open. Files are scarce.
const KEPT_OPEN: usize = 64;
/// A turn this old is looked into.
const SUSPICIOUS: u64 = MILLI;

/// The turn that a worker has given last, as far as it has been seen.
#[derive(Default)]
struct Turn {
    progress: u64,
    /// The worker was asleep, or had no thread, when it was last seen.
    is_out: bool,
    /// When it was first seen, and last.
    since: u64,
    seen: u64,
    /// How long it has been watched, and how much of that it was found asleep.
    watched: u64,
    asleep: u64,
    /// Its thread's CPU time when it was first seen; `None` where there is no such clock.
    ran_before: Option<u64>,
    /// Its offence has been noted.
    is_noted: bool,
    /// It holds a thread that has lost its processor, and runs.
    is_hog: bool,
    /// It has been found out whom it keeps waiting.
    is_weighed: bool,
    /// When it was last looked into for a deadlock, how often, and what its thread had run then.
    examined_at: u64,
    examinations: u32,
    ran_then: Option<u64>,
    /// It has been reported.
    is_reported: bool,
}

/// Whether it is the goroutine's way that shows in this sleep.
///
/// Where memory is mapped, or a process made of this one, every thread may have to wait for every other, and on a busy
/// machine for one that waits for a CPU. A fault may be a slow file's; then it lasts. And who makes the descriptor
/// for which the process's table has to grow waits until every CPU has let go of the old one, for tens of milliseconds.
fn is_telling(sleep: Sleep) -> bool {
    const IN_NO_CALL: i64 = -1;
    const OF_MEMORY: [libc::c_long; 9] = [
        libc::SYS_mmap,
        libc::SYS_munmap,
        libc::SYS_mprotect,
        libc::SYS_mremap,
        libc::SYS_madvise,
        libc::SYS_process_madvise,
        libc::SYS_brk,
        libc::SYS_clone,
        libc::SYS_clone3,
    ];
    const OF_DESCRIPTORS: [libc::c_long; 11] = [
        libc::SYS_socket,
        libc::SYS_socketpair,
        libc::SYS_accept,
        libc::SYS_accept4,
        libc::SYS_dup,
        libc::SYS_dup3,
        libc::SYS_fcntl,
        libc::SYS_pipe2,
        libc::SYS_epoll_create1,
        libc::SYS_eventfd2,
        libc::SYS_pidfd_open,
    ];
    let call = sleep.call as libc::c_long;
    sleep.call != IN_NO_CALL && !OF_MEMORY.contains(&call) && !OF_DESCRIPTORS.contains(&call)
}

pub(super) struct Overdue {
    runtime: &'static Runtime,
    /// By the workers' numbers.
    turns: Vec<Turn>,
    probes: Vec<Option<(i32, Probe)>>,
    last_look: u64,
    reports: usize,
    weighed: usize,
}

impl Overdue {
    pub(super) fn new(runtime: &'static Runtime) -> Overdue {
        Overdue {
            runtime,
            turns: Vec::new(),
            probes: Vec::new(),
            last_look: 0,
            reports: 0,
            weighed: 0,
        }
    }

    /// Looks at all workers, if it is time to.
    pub(super) fn look(&mut self, now: u64) {
        if now - self.last_look < EVERY {
            return;
        }
        self.last_look = now;
        let runtime = self.runtime;
        let mut hogs = 0;
        for worker in runtime.workers() {
            hogs += usize::from(self.look_at(worker, now));
        }
        runtime.hosts.set_elsewhere(hogs);
    }

    /// True if it is a hog's turn, and its processor has been taken away.
    fn look_at(&mut self, worker: &'static Worker, now: u64) -> bool {
        let progress = worker.progress();
        let turn = self.turn(worker);
        let is_out = worker.tid() == 0 || worker.is_asleep();
        // From when it has got up: how long it has slept is nothing to go by.
        if is_out || turn.is_out || turn.progress != progress || turn.since == 0 {
            let ran_before = if is_out { None } else { probe::cpu_time_of(worker.tid()) };
            *turn = Turn { progress, is_out, since: now, seen: now, ran_before, ..Turn::default() };
            return false;
        }
        let step = (now - turn.seen).min(STEP);
        turn.seen = now;
        turn.watched += step;
        let (is_hog, is_noted) = (turn.is_hog, turn.is_noted);
        if worker.is_host() || turn.watched < SUSPICIOUS {
            // A host's conduct is its own affair.
            return false;
        }
        if is_noted {
            self.weigh(worker, progress);
            self.examine(worker, progress, now);
        } else {
            self.look_into(worker, step);
        }
        is_hog
    }

    /// Looks for a deadlock of the thread with itself: it has not run at all from one examination to the next. They are
    /// further apart each time, lest a thousand blocked threads be much to look at.
    fn examine(&mut self, worker: &'static Worker, progress: u64, now: u64) {
        let turn = self.turn(worker);
        let began = if turn.examinations == 0 { turn.since } else { turn.examined_at };
        let interval = stuck::PATIENCE << turn.examinations.saturating_sub(1).min(8);
        if turn.is_reported || now - began < interval {
            return;
        }
        let ran = probe::cpu_time_of(worker.tid());
        let slept = turn.examinations > 0 && ran == turn.ran_then;
        turn.examinations += 1;
        (turn.examined_at, turn.ran_then) = (now, ran);
        let held_for = Duration::from_nanos(now - turn.since);
        if slept
            && self.reports < stuck::MOST_REPORTS
            && let Activity::Blocked(sleep) = self.probe(worker)
            && stuck::examine(self.runtime, worker, progress, sleep, held_for)
        {
            self.reports += 1;
            self.turn(worker).is_reported = true;
        }
    }

    /// Notes an offence, if it is one by now.
    fn look_into(&mut self, worker: &'static Worker, step: u64) {
        let held = match self.probe(worker) {
            // Our own way of blocking a thread, where a goroutine must not be suspended, is nobody's offence.
            Activity::Blocked(sleep) if sleep.argument == worker.futex() => None,
            Activity::Blocked(sleep) => {
                let turn = self.turn(worker);
                turn.asleep += if is_telling(sleep) { step } else { step / HARDLY };
                (turn.asleep >= HELD).then_some(Held::Blocked)
            }
            _ => (self.ran(worker) >= HELD).then_some(Held::Hogged),
        };
        let turn = self.turn(worker);
        if let Some(held) = held {
            turn.is_noted = true;
            let progress = turn.progress;
            if let Some(look) = worker.whose_turn(progress) {
                self.runtime.offenders.offend(look.site, look.birth, held);
            }
        }
    }

    /// Remembers if a hog has kept others waiting for long.
    fn weigh(&mut self, worker: &'static Worker, progress: u64) {
        let turn = self.turn(worker);
        if turn.is_weighed
            || turn.asleep >= HELD
            || self.ran(worker) < HARMFUL
            || worker.residents() < 2
        {
            return;
        }
        self.turn(worker).is_weighed = true;
        let Some(hog) = worker.whose_turn(progress) else { return };
        if !self.runtime.settings.advice || self.weighed >= MOST_WEIGHED {
            return;
        }
        self.weighed += 1;
        let siblings = stuck::siblings(self.runtime, worker, &hog);
        if siblings.iter().any(|sibling| sibling.why.kind == WaitKind::Runnable) {
            self.runtime.offenders.has_harmed(hog.site);
        }
    }

    /// Whether the thread is held by its goroutine, so that its processor should go: it sleeps in the kernel, or has
    /// used up what a turn may.
    pub(super) fn is_held(&mut self, worker: &'static Worker) -> Option<Held> {
        match self.probe(worker) {
            Activity::Blocked(_) => Some(Held::Blocked),
            _ => (self.ran(worker) >= HOG).then_some(Held::Hogged),
        }
    }

    /// Its processor has been taken away for this.
    pub(super) fn has_lost_its_processor(&mut self, worker: &'static Worker, why: Held) {
        self.turn(worker).is_hog = why == Held::Hogged;
    }

    /// How long the present turn has run on a CPU, since it was first seen.
    fn ran(&mut self, worker: &'static Worker) -> u64 {
        let (progress, ran) = (worker.progress(), probe::cpu_time_of(worker.tid()));
        let turn = self.turn(worker);
        match ran.zip(turn.ran_before) {
            _ if turn.progress != progress => 0,
            Some((ran, before)) => ran.saturating_sub(before),
            // The next best that there is.
            None => turn.watched,
        }
    }

    fn turn(&mut self, worker: &Worker) -> &mut Turn {
        let index = worker.index();
        if self.turns.len() <= index {
            self.turns.resize_with(index + 1, Turn::default);
        }
        &mut self.turns[index]
    }

    fn probe(&mut self, worker: &Worker) -> Activity {
        let (index, tid) = (worker.index(), worker.tid());
        if tid == 0 {
            return Activity::Unknown;
        }
        match self.probe_thread(index, tid) {
            // For a lock that somebody has who waits for a CPU, or has it again and again: it is as if it waited for the CPU.
            Activity::Blocked(sleep) if sleep.argument == wait::napping_place() => {
                Activity::Running
            }
            activity => activity,
        }
    }

    fn probe_thread(&mut self, index: usize, tid: i32) -> Activity {
        if index >= KEPT_OPEN {
            return Probe::open(tid).map_or(Activity::Unknown, |probe| probe.look());
        }
        if self.probes.len() <= index {
            self.probes.resize_with(index + 1, || None);
        }
        let probe = &mut self.probes[index];
        if probe.as_ref().is_none_or(|(of, _)| *of != tid) {
            *probe = Probe::open(tid).ok().map(|probe| (tid, probe));
        }
        probe.as_ref().map_or(Activity::Unknown, |(_, probe)| probe.look())
    }
}
