//! Staying awake for a moment before one waits.
//!
//! Whoever finds a buffered channel full, or empty, could get in line at once. But if the other side is busy on another
//! CPU it would be woken a few nanoseconds later, for one message, and be back in line after that: each message costs a
//! wake-up across threads, and the two take the channel's lock in turn. After a few microseconds there is room, or there are
//! messages, for dozens at once. So who has nothing better to do watches the level from afar, and comes back when it is
//! worth while, or has ceased to rise. Four producers that fill four channels for one select on another thread cost 60 ns a
//! message when they wait at once, and 40 when they stay awake.
//!
//! A **thread** would sleep in the kernel, which costs tens of microseconds, of which the waker pays a third. So at the end
//! it offers its CPU to others a few times.
//!
//! A **goroutine** gives others a turn first, as it would have by waiting: nobody at home, no timer and no descriptor is
//! forgotten over it. If nobody is ready there, its worker would now search for work, looking round all the
//! time; the goroutine looks at its channel for about as long as one such round and a half, and no longer than
//! until somebody is ready while the level has not moved. On one processor it does not.
//!
//! Nobody lingers at a rendezvous, where there is no level: each message is waited for.

#[cfg(not(loom))]
use super::Task;
use super::Waiter;
#[cfg(not(loom))]
use std::sync::OnceLock;

/// Looks before one gets in line: with pauses in between that double, from so many and so often, if there is a second CPU on
/// which what is awaited can happen meanwhile. Each look takes the level's line from whoever changes it …
#[cfg(not(loom))]
const THREADS_LOOK: (u32, u32) = (1, 7);
/// … so a goroutine, which has been given a turn at no cost, begins later …
#[cfg(not(loom))]
const GOROUTINES_LOOK: (u32, u32) = (16, 5);
/// … and a thread then looks so often while it offers its CPU to others. Guessed; see the workloads of plain threads in
/// `benches` before changing.
#[cfg(not(loom))]
const YIELDS: u32 = 8;

/// Says when it is worth while to come back.
#[cfg(not(loom))]
struct Level<L> {
    level: L,
    enough: usize,
    before: usize,
}

#[cfg(not(loom))]
impl<L: FnMut() -> usize> Level<L> {
    fn is_worth_while(&mut self) -> bool {
        let now = (self.level)();
        let rises = now > self.before;
        self.before = now;
        now >= self.enough || now > 0 && !rises
    }

    /// With pauses that double. True if it is worth while, or `enough_of_it` when nothing moves.
    fn watch(
        &mut self,
        (first, looks): (u32, u32),
        mut enough_of_it: impl FnMut() -> bool,
    ) -> bool {
        for look in 0..looks {
            if self.is_worth_while() || self.before == 0 && enough_of_it() {
                return true;
            }
            for _ in 0..first << look {
                std::hint::spin_loop();
            }
        }
        false
    }
}

/// Lets a thread stay awake for a moment, until there is something for it.
///
/// `level` says how much there is for it, `enough` how much is worth while at once. As long as the level
/// rises, whoever raises it is left alone: two threads that take a lock in turn spend their time on passing it.
#[cfg(not(loom))]
#[cold]
pub(super) fn linger(level: impl FnMut() -> usize, enough: usize) {
    static SEVERAL_CPUS: OnceLock<bool> = OnceLock::new();
    let several_cpus = *SEVERAL_CPUS
        .get_or_init(|| std::thread::available_parallelism().is_ok_and(|cpus| cpus.get() > 1));
    let mut level = Level { level, enough, before: 0 };
    if several_cpus && level.watch(THREADS_LOOK, || false) {
        return;
    }
    for _ in 0..YIELDS {
        if level.is_worth_while() {
            return;
        }
        std::thread::yield_now();
    }
}

impl Waiter {
    /// Whether to [`linger`](Waiter::linger) before it waits.
    #[inline]
    pub(crate) fn may_linger(&self) -> bool {
        #[cfg(not(loom))]
        return match &self.task {
            Task::Thread(_) => true,
            // SAFETY: `new` found this goroutine running here, and it still is.
            Task::Goroutine(task) => unsafe {
                let task = task.as_ref();
                (task.vtable.is_alone)(task)
            },
            Task::Future(_) => false,
        };
        // In models all are threads.
        #[cfg(loom)]
        true
    }

    /// Stays awake for a moment, until there is something for the one who would wait, and `level` of it: see `linger`
    /// above. The waiter is in no line yet. With no lock held.
    #[cold]
    pub(crate) fn linger(&self, level: impl FnMut() -> usize, enough: usize) {
        #[cfg(not(loom))]
        match &self.task {
            Task::Goroutine(task) => {
                // SAFETY: as in `may_linger`.
                let (task, vtable) = unsafe { (task.as_ref(), task.as_ref().vtable) };
                // SAFETY: as above.
                unsafe { (vtable.give_way)(task) };
                // SAFETY: as above; it was resumed.
                let is_wanted = || unsafe { !(vtable.is_alone)(task) };
                Level { level, enough, before: 0 }.watch(GOROUTINES_LOOK, is_wanted);
            }
            Task::Thread(_) => linger(level, enough),
            Task::Future(_) => unreachable!("an async task is polled, and does not linger"),
        }
        #[cfg(loom)]
        let _ = ({ level }(), enough);
    }
}

#[cfg(all(test, not(loom)))]
mod tests {
    use super::*;

    /// How often the level was looked at, and whether it was worth while to come back; with the levels that are seen one
    /// after the other, the last for ever, and one who is wanted elsewhere from the look with this number on.
    fn watch(levels: &[usize], enough: usize, wanted_from: usize) -> (usize, bool) {
        let seen = std::cell::Cell::new(0);
        let level = || {
            seen.set(seen.get() + 1);
            levels[seen.get().min(levels.len()) - 1]
        };
        let is_wanted = || seen.get() > wanted_from;
        let over = Level { level, enough, before: 0 }.watch(GOROUTINES_LOOK, is_wanted);
        (seen.get(), over)
    }

    const NEVER: usize = usize::MAX;

    #[test]
    fn who_stays_awake_gives_up_after_so_many_looks() {
        assert_eq!(watch(&[0], 64, NEVER), (GOROUTINES_LOOK.1 as usize, false));
        let mut threads = 0;
        linger(
            || {
                threads += 1;
                0
            },
            64,
        );
        assert!(threads <= THREADS_LOOK.1 + YIELDS, "{threads} looks");
    }

    #[test]
    fn who_stays_awake_comes_back_at_once_when_somebody_else_is_ready_and_nothing_has_come() {
        assert_eq!(watch(&[0], 64, 0), (1, true));
        assert_eq!(watch(&[0], 64, 3), (4, true));
    }

    #[test]
    fn who_stays_awake_comes_back_when_there_is_enough_or_the_level_has_ceased_to_rise() {
        assert_eq!(watch(&[0, 64], 64, NEVER), (2, true));
        assert_eq!(watch(&[0, 1, 2, 2], 64, NEVER), (4, true));
        // As long as it rises, not even for somebody else.
        assert_eq!(watch(&[1, 2, 3, 4, 4], 64, 0), (5, true));
    }
}
