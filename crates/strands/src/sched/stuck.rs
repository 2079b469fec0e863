//! A goroutine that blocks its thread in a lock, and its siblings: the one deadlock that goroutines at home on a
//! thread have and threads have not.
//!
//! ```text
//!   goroutine A                          goroutine B, at home on the same thread
//!   ───────────                          ───────────────────────────────────────
//!   locks a std::sync::Mutex
//!   waits for a message: parks
//!                                        locks the same mutex: the *thread* waits
//!   is sent the message, is ready,
//!   and never runs: its thread waits for what only A can give
//! ```
//!
//! Nobody can tell from outside who holds a std mutex. But a thread that has been asleep in a futex
//! all through [`PATIENCE`], in the middle of a goroutine's turn, with others at home there, is either this or something that
//! holds these others up for no good reason. So it is reported, once: who waits, with a backtrace, who cannot run
//! meanwhile, and what to do about it. The backtrace is taken on the thread itself, in a signal handler, for
//! nobody else knows its registers.

use super::census::{age, describe_one, plural};
use super::holders::Holders;
use super::runtime::Runtime;
use super::started::Look;
use super::worker::Worker;
use crate::stack;
use crate::sys::probe::Sleep;
use crate::sys::{self, symbols, trace};
use std::fmt::Write;
use std::time::Duration;

/// A turn that has lasted for this long is looked at, in nanoseconds, and looked into if its thread has slept for as long
/// again.
pub(super) const PATIENCE: u64 = 200_000_000;
/// After so many reports the point has been made.
pub(super) const MOST_REPORTS: usize = 16;
/// More siblings than this are counted and not named.
const NAMED: usize = 16;

/// From here on the frames are ours.
const BOTTOM: &str = "strands::sched::goroutine::";

/// Looks into a thread that is asleep in the kernel, in the turn with that number. True if there was something to
/// report.
pub(super) fn examine(
    runtime: &'static Runtime,
    worker: &'static Worker,
    progress: u64,
    sleep: Sleep,
    held_for: Duration,
) -> bool {
    let in_a_lock = sleep.call == libc::SYS_futex && sleep.argument != worker.futex();
    if !runtime.settings.advice || !in_a_lock || worker.residents() < 2 {
        return false;
    }
    let Some(waiting) = worker.whose_turn(progress) else { return false };
    let siblings = siblings(runtime, worker, &waiting);
    if siblings.is_empty() {
        return false;
    }
    let frames = stack::lookup(sleep.stack_pointer)
        .and_then(|slot| trace::of_thread(worker.tid(), slot.limit()..slot.end()).ok())
        .unwrap_or_default();
    // What took time; it may have gone on meanwhile, and then there is nothing to report.
    let names = symbols::of(&frames);
    if worker.progress() != progress {
        return false;
    }
    let now = runtime.clock.now();
    let holders = Holders::now();
    let mut text = format!(
        "strands: a goroutine has blocked its thread, in a lock or the like, for {}; {} at home there cannot run \
         meanwhile. If one of them holds what it waits for, none of them ever will:\n  ",
        age(held_for),
        plural(siblings.len(), "goroutine"),
    );
    describe_one(&mut text, &waiting, now, &holders);
    for (address, name) in frames.iter().zip(names) {
        let name = name.unwrap_or_else(|| format!("{address:#x}"));
        if name.starts_with(BOTTOM) {
            break;
        }
        let _ = writeln!(text, "    at {name}");
    }
    text.push_str("cannot run:\n");
    for sibling in siblings.iter().take(NAMED) {
        text.push_str("  ");
        describe_one(&mut text, sibling, now, &holders);
    }
    if siblings.len() > NAMED {
        let _ = writeln!(text, "  and {} more", siblings.len() - NAMED);
    }
    text.push_str(
        "remedy: take a lock of `strands::sync` wherever it may be held over something that waits (it blocks the \
         goroutine, not the thread), or let these goroutines roam (`Affinity::Roaming`): then each waits for \
         itself\n",
    );
    sys::say(text.as_bytes());
    true
}

/// Who else is at home with this worker. It looks at every stack there is, so it is not for every day.
pub(super) fn siblings(runtime: &Runtime, worker: &Worker, but: &Look) -> Vec<Look> {
    let mut siblings: Vec<Look> = Vec::new();
    runtime.stacks.for_each_carved(None, |slot| {
        let look = Look::at(slot, true);
        siblings.extend(
            look.filter(|look| !look.roams && look.home == worker.index() && look.id != but.id),
        );
    });
    siblings.sort_unstable_by_key(|look| look.id);
    siblings.dedup_by_key(|look| look.id);
    siblings
}
