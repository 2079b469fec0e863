//! How one waits for a lock whose holder wakes nobody: looks, with pauses in between; then yields; then naps.
//!
//! A pause that is short, as long as a section, would have two threads take the lock in turn, and pass all that is under
//! it from one processor's cache to the other's each time. After a longer one the other has done several sections at a
//! stretch, ten times as fast. So a pause should be long beside what a change of hands costs, which is known only when
//! the program runs: the two processors may share a cache, or be at the two ends of a machine (25 ns for a line, or
//! 200, on one and the same virtual machine, as its host moves it about). We time our looks therefore, each of which
//! fetches the line of the lock, and pause longer when it is far: a worker eight times as long, which may have both ends of a
//! channel to run, and a plain thread, which has but one and comes to the end of the buffer soon, four times. For four producers
//! and four consumers on two processors that are far from each other, a message went from 22 ns to 18; and to 10
//! since a lock that is taken many times in a row is biased (`biased`). Who finds such a lock's owner inside leaves it
//! alone for a while before it asks for it; and a worker pauses longer before such a lock even where it is near, as long streaks
//! are what has it biased.
//!
//! Who has looked for some thirty microseconds without success does not wait for a section: the kernel must have taken
//! the holder off its processor in the middle of it. We give way, and then sleep for a little longer each time. That is rare,
//! costs no processor time, and ends at most a millisecond late. (It is no fault of the goroutine's: the monitor knows
//! where we sleep, and does not take the thread for blocked.)

#[cfg(not(loom))]
use crate::primitive::Futex;
#[cfg(not(loom))]
use std::sync::atomic::{AtomicBool, Ordering};
#[cfg(not(loom))]
use std::time::{Duration, Instant};

/// Pauses before the first look, and at most between two: each time twice as many.
#[cfg(not(loom))]
const NEAR: (u32, u32) = (16, 128);
/// Of a worker before a lock that may be biased, if it is taken for long enough at a stretch.
#[cfg(not(loom))]
const NEAR_FOR_STREAKS: (u32, u32) = (64, 512);
#[cfg(not(loom))]
const FAR_FOR_THREADS: (u32, u32) = (64, 512);
#[cfg(not(loom))]
const FAR_FOR_WORKERS: (u32, u32) = (128, 1024);
/// So many pauses in all.
#[cfg(not(loom))]
const ENOUGH: u32 = 2048;
/// A look that takes longer has fetched the line from afar. (To take the time twice is 25 ns of it.)
#[cfg(not(loom))]
const FAR: Duration = Duration::from_nanos(150);
/// Pauses for which who has a lock all the time is left alone before it is asked for it. With half as many a message between four
/// and four takes a tenth longer, with twice as many a tenth less; but who asks for one message is kept waiting.
#[cfg(not(loom))]
const A_WHILE: u32 = 512;
/// Pauses between looks for an answer, and so many looks: together as long as it takes to do without an answer.
#[cfg(not(loom))]
const ANSWER: (u32, u32) = (64, 8);
/// So often the holder is offered our processor.
#[cfg(not(loom))]
const YIELDS: u32 = 4;
/// Between looks after that: from, and up to.
#[cfg(not(loom))]
const SHORTEST_NAP: Duration = Duration::from_micros(20);
#[cfg(not(loom))]
const LONGEST_NAP: Duration = Duration::from_millis(1);

/// What those sleep on who nap. It never changes; but by its address one who naps is told from one who is blocked.
#[cfg(not(loom))]
static NAPPING: Futex = Futex::new(0);

/// Where in memory those sleep, as the kernel knows it, who nap.
#[cfg(not(loom))]
pub(crate) fn napping_place() -> usize {
    (&raw const NAPPING).addr()
}

/// Whether the last look at a lock that somebody else had in hand fetched it from afar. A guess for the whole process,
/// right where there are two processors; wrong at times where there are more, which costs some time and no more.
#[cfg(not(loom))]
static IS_FAR: AtomicBool = AtomicBool::new(false);

/// Waits until `look`, which has just failed, succeeds.
#[cfg(not(loom))]
pub(super) fn until(look: impl FnMut() -> bool) {
    wait(NEAR, look);
}

/// The same before a lock that is cheaper for whoever takes it many times in a row.
#[cfg(not(loom))]
pub(super) fn until_ones_turn(look: impl FnMut() -> bool) {
    wait(if super::current().is_none() { NEAR } else { NEAR_FOR_STREAKS }, look);
}

#[cfg(not(loom))]
fn wait(near: (u32, u32), mut look: impl FnMut() -> bool) {
    let mut spent = 0;
    let mut doublings = 0;
    while spent < ENOUGH {
        // Ordering: Relaxed, here and below; it is a guess.
        let was_far = IS_FAR.load(Ordering::Relaxed);
        let (first, most) = match was_far {
            false => near,
            true if super::current().is_none() => FAR_FOR_THREADS,
            true => FAR_FOR_WORKERS,
        };
        let pauses = most.min(first << doublings);
        for _ in 0..pauses {
            std::hint::spin_loop();
        }
        spent += pauses;
        doublings += 1;
        let start = Instant::now();
        let success = look();
        let is_far = start.elapsed() > FAR;
        if is_far != was_far {
            IS_FAR.store(is_far, Ordering::Relaxed);
        }
        if success {
            return;
        }
    }
    for _ in 0..YIELDS {
        std::thread::yield_now();
        if look() {
            return;
        }
    }
    let mut nap = SHORTEST_NAP;
    while !look() {
        NAPPING.wait(0, Some(nap));
        nap = (nap * 2).min(LONGEST_NAP);
    }
}

/// Leaves the lock for a while to whoever has just been seen to use it all the time.
#[cfg(not(loom))]
pub(super) fn let_work() {
    for _ in 0..A_WHILE {
        std::hint::spin_loop();
    }
}

/// Waits a moment until `look` succeeds. True if it did.
#[cfg(not(loom))]
pub(super) fn for_an_answer(look: impl Fn() -> bool) -> bool {
    (0..ANSWER.1).any(|_| {
        for _ in 0..ANSWER.0 {
            std::hint::spin_loop();
        }
        look()
    })
}

/// Under loom there is no time.
#[cfg(loom)]
pub(super) fn let_work() {}

/// Under loom one look is enough: others come before it, or after.
#[cfg(loom)]
pub(super) fn for_an_answer(look: impl Fn() -> bool) -> bool {
    loom::thread::yield_now();
    look()
}

/// Under loom there is no time.
#[cfg(loom)]
pub(super) use self::until as until_ones_turn;

/// Under loom others run at once.
#[cfg(loom)]
pub(super) fn until(mut look: impl FnMut() -> bool) {
    loop {
        loom::thread::yield_now();
        if look() {
            return;
        }
    }
}
