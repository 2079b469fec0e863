//! Who is there and what it waits for: dumps, and the report that nobody can ever go on.
//!
//! # When is it a deadlock?
//!
//! When nothing that could wake anything is left:
//!
//! 1. every worker sleeps and has an empty inbox, no processor is in use, no fresh goroutine is queued;
//! 2. no timer is pending, no `blocking` call is in progress, nobody waits for a descriptor;
//! 3. every other thread of the process (main included) waits at our seam with no deadline. The kernel says
//!    how many threads there are; ours are known; those at the seam count themselves, so that none is
//!    counted that has been woken. A thread that does anything else, be it asleep in a system call, may
//!    hold a channel's end: that is life.
//!
//! All of it is read twice, and the counts that begin a reading must be the same: no goroutine has had a
//! turn, no thread was woken, none of ours has ended. So all that the first reading saw held at the same
//! time, and nothing can have moved from a place not yet looked at to one looked at already: not even a
//! thread that woke another and ended before it was counted.
//!
//! So nothing passes from hand to hand any more, and the report can say who waits for each other in a circle (`holders`).

use super::holders::{Holders, Party};
use super::runtime::Runtime;
use super::started::Look;
use crate::stack::{SigWriter, SlotRef};
use crate::sys;
use crate::wait::{Sleeps, WaitKind};
use std::fmt::Write;
use std::time::Duration;

/// What could still make something happen, when all is quiet.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Life {
    /// Nothing: and somebody waits for it.
    None,
    /// Threads that we know nothing of; somebody waits for them.
    PerhapsElsewhere,
    /// A timer, a call in progress, or nobody waits.
    Here,
}

/// Whether every worker sleeps, with nothing to wake it.
pub(super) fn is_quiet(runtime: &Runtime) -> bool {
    let (sleepers, all_idle) = runtime.idle.census(runtime.processors.len());
    all_idle
        && sleepers + runtime.hosts.asleep() == runtime.alive()
        && runtime.hosts.waiting() == 0
        && runtime.injector.is_empty()
        && runtime.processors.iter().all(|p| p.queue().is_empty())
        && runtime.workers().iter().all(|w| w.inbox_is_empty())
}

/// What keeps a quiet program alive.
pub(super) fn life(runtime: &Runtime) -> Life {
    let before = evidence(runtime);
    let Evidence { busy_here, waiting, elsewhere, .. } = before;
    if busy_here || !waiting {
        return Life::Here;
    }
    if elsewhere {
        return Life::PerhapsElsewhere;
    }
    // Long enough for whatever was on its way to arrive.
    std::thread::sleep(Duration::from_millis(2));
    if is_quiet(runtime) && evidence(runtime) == before {
        Life::None
    } else {
        Life::PerhapsElsewhere
    }
}

#[derive(PartialEq, Eq)]
struct Evidence {
    busy_here: bool,
    waiting: bool,
    elsewhere: bool,
    progress: u64,
    sleeps: Sleeps,
    ours: usize,
}

/// How many turns goroutines have had.
pub(super) fn progress(runtime: &Runtime) -> u64 {
    runtime.workers().iter().map(|worker| worker.progress()).sum()
}

fn evidence(runtime: &Runtime) -> Evidence {
    let progress = progress(runtime);
    let tallies = runtime.tallies();
    // In this order: a thread that starts meanwhile is in the second count only, and speaks for life.
    let sleeps = Sleeps::count();
    let blocked = sleeps.in_progress();
    let ours = runtime.alive()
        + runtime.spares.threads()
        + runtime.alarms.threads()
        + runtime.outside.threads()
        + runtime.makeshift.threads()
        + 1;
    let threads = sys::probe::thread_count();
    Evidence {
        busy_here: runtime.any_timers()
            || runtime.any_io()
            || runtime.spares.in_progress() > 0
            || !is_quiet(runtime),
        waiting: tallies.spawned > tallies.ended || blocked > 0,
        elsewhere: threads.is_none_or(|threads| threads > ours + blocked),
        progress,
        sleeps,
        ours,
    }
}

/// Tells the user, and ends the process.
pub(super) fn report_deadlock(runtime: &'static Runtime) -> ! {
    let mut text = String::from("fatal error: all goroutines are asleep - deadlock!\n");
    describe(runtime, &mut text, true);
    sys::say(text.as_bytes());
    std::process::exit(2)
}

/// Every goroutine and every thread that waits, one a line.
pub(crate) fn dump() -> String {
    let mut text = String::new();
    if let Some(runtime) = Runtime::running() {
        describe(runtime, &mut text, false);
    }
    text
}

fn describe(runtime: &'static Runtime, text: &mut String, dead: bool) {
    let now = runtime.clock.now();
    let mut all = Vec::new();
    runtime.stacks.for_each_carved(None, |slot| all.extend(Look::at(slot, true)));
    all.sort_unstable_by_key(|look| look.id);
    all.dedup_by_key(|look| look.id);
    let holders = Holders::now();
    if dead {
        holders.describe_circles(&all, text);
    }
    let _ = writeln!(
        text,
        "{} started on {} processors and {} workers",
        plural(all.len(), "goroutine"),
        runtime.processors.len(),
        runtime.alive(),
    );
    let queued: usize = runtime.processors.iter().map(|p| p.queue().len()).sum();
    let queued = runtime.injector.len() + runtime.hosts.waiting() + queued;
    let is_ready = |look: &&Look| look.roams && look.why.kind == WaitKind::Runnable;
    let fresh = queued.saturating_sub(all.iter().filter(is_ready).count());
    if fresh > 0 {
        let _ = writeln!(text, "{} not started yet", plural(fresh, "goroutine"));
    }
    for look in &all {
        describe_one(text, look, now, &holders);
    }
    for thread in &holders.threads {
        let party = Party::of_thread(thread);
        let _ = writeln!(
            text,
            "{party} [{}, {}]{}{}",
            thread.why.kind,
            age(thread.for_how_long),
            thread.why.to_string().replacen(", ", ": ", 1),
            holders.clause(&party, thread.why, thread.held),
        );
    }
}

/// The line of one goroutine.
pub(super) fn describe_one(text: &mut String, look: &Look, now: u64, holders: &Holders) {
    let party = Party::of_goroutine(look);
    let _ = write!(text, "{party} [{}", look.why.kind);
    if look.why.kind.is_waiting() {
        let _ = write!(text, ", {}", age(Duration::from_nanos(now.saturating_sub(look.since))));
    }
    let _ = writeln!(
        text,
        ", {} worker {}]: born at {}:{}{}{}",
        if look.roams { "last on" } else { "home" },
        look.home,
        look.birth.file(),
        look.birth.line(),
        look.why,
        holders.clause(&party, look.why, look.held),
    );
}

pub(super) fn plural(count: usize, noun: &str) -> String {
    if count == 1 { format!("1 {noun}") } else { format!("{count} {noun}s") }
}

pub(super) fn age(time: Duration) -> String {
    match time.as_secs() {
        0..60 => format!("{:.1} s", time.as_secs_f64()),
        60..3600 => format!("{} min", time.as_secs() / 60),
        secs => format!("{:.1} h", secs as f64 / 3600.0),
    }
}

/// Called on the signal stack of a thread whose goroutine has run into its guard.
pub(super) fn report_overflow(slot: SlotRef, address: usize, out: &mut SigWriter) {
    let class = slot.class();
    let _ = match Look::at(slot, false) {
        Some(look) => {
            let _ = write!(out, "\ngoroutine {}", look.id);
            if let Some(name) = look.name.as_deref().and_then(|identity| identity.name()) {
                let _ = write!(out, " {name:?}");
            }
            // The identity's count goes down again only with the process: dropping it might free.
            std::mem::forget(look.name);
            write!(out, ", born at {}:{},", look.birth.file(), look.birth.line())
        }
        None => write!(out, "\na goroutine"),
    };
    let _ = writeln!(
        out,
        " has overflowed its stack of {class} (at address {address:#x})\n\
         give it a larger one with `thread::Builder::stack_size`, or all of them with STRANDS_STACK=SIZE \
         or `Config::stack_size`\n\
         fatal error: stack overflow, aborting",
    );
}
