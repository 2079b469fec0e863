//! What a worker does when it has nothing to run: it searches for a while, and then sleeps. The protocol
//! by which it is woken for work is in `idle`, that by which it is woken for goroutines at home in `parker`.

use super::super::goroutine::Runnable;
use super::super::here::Here;
use super::super::parker::Where;
use super::super::timers::NEVER;
use super::turns::Task;
use super::{Bed, decode};
use crate::sys::epoll::Events;
use std::ptr::NonNull;
use std::sync::atomic::Ordering;
use std::time::Duration;

/// How long a worker searches before it sleeps, in nanoseconds: about what a wake-up costs.
pub(super) const SEARCH: u64 = 20_000;
/// The same when its last sleep was long, so that work is rare.
const SHORT_SEARCH: u64 = 5_000;
/// A sleep longer than this counts as long.
const LONG_SLEEP: u64 = 1_000_000;
/// The most it waits awake for something that would have come had it waited a little longer last time. Two
/// workers whose goroutines talk to each other must not wait for less than a wake-up takes (25–50 µs), or
/// each finds the other asleep for ever: 50 µs a round trip, where half a microsecond is possible.
const LONGEST_SEARCH: u64 = 100_000;
/// How often it yields before it sleeps in its poller.
const YIELDS: usize = 2;
/// Pauses between two looks.
const SPINS: u32 = 16;
/// How long a surplus worker waits for work before its thread ends.
pub(super) const RETIREMENT: Duration = Duration::from_secs(10);

/// How a rest ended.
pub(super) enum Rest {
    /// Look again.
    Up,
    /// With this found.
    Found(Task),
    /// The thread is no longer needed.
    Retire,
}

enum Search {
    Found(NonNull<Runnable>),
    /// Nothing fresh, but a goroutine at home has become ready.
    Home,
    Nothing,
}

/// How long to wait awake, going by how long the last sleep was.
fn patience(last_sleep: u64) -> u64 {
    match last_sleep {
        brief if 2 * brief <= LONGEST_SEARCH => (2 * brief).max(SEARCH),
        slept if slept <= LONG_SLEEP => SEARCH,
        _ => SHORT_SEARCH,
    }
}

impl Here {
    /// Looks further afield, and then sleeps.
    pub(super) fn rest(self) -> Rest {
        let runtime = self.runtime;
        self.end_turns();
        let summoned = self.own.searching.get();
        if self.poller_in_use().is_some() && self.look_with_courtesy() {
            return Rest::Up;
        }
        if self.own.processor.get().is_some() && (summoned || runtime.idle.start_search()) {
            self.own.searching.set(true);
            match self.search(summoned) {
                Search::Found(runnable) => {
                    runtime.search_ended(true);
                    return Rest::Found(Task::of(runnable));
                }
                Search::Home => return Rest::Up,
                Search::Nothing => runtime.search_ended(false),
            }
        } else if self.linger() {
            return Rest::Up;
        }
        let bed = self.bed();
        self.parker.lie_down_in(bed);
        let processor = self.own.processor.take();
        let processor =
            processor.filter(|p| match runtime.processors[*p].enter(self.index, self.inside()) {
                Some(entered) => {
                    entered.release();
                    true
                }
                None => false,
            });
        runtime.idle.lie_down(Bed(self.worker()), processor, self.own.searching.take());
        // Work that nobody has a processor for is not ours to look after: those who have them will.
        let work = runtime.idle.any_idle() && runtime.has_spare_work();
        if work || !self.inbox_is_empty() || self.has_errands.load(Ordering::SeqCst) {
            self.parker.get_up();
            self.get_up();
            self.do_errands();
            return Rest::Up;
        }
        self.sleep(bed)
    }

    /// Looks at the poller, having let others have the CPU: see `courtesy`. True if there was anything.
    fn look_with_courtesy(self) -> bool {
        let clock = &self.runtime.clock;
        if !self.may_yield() {
            return self.look_at_poller(clock.now()) > 0;
        }
        self.call_over(clock.now());
        for _ in 0..YIELDS {
            let (brought, again) = self.yield_and_look();
            if brought > 0 || !self.inbox_is_empty() {
                return true;
            }
            if !again {
                break;
            }
        }
        false
    }

    fn sleep(self, bed: Where) -> Rest {
        let runtime = self.runtime;
        let before = runtime.clock.now();
        let until = self.timers.wake_at();
        // Who has sources registered stays: somebody may wait for them.
        let unused = !self.has_residents() && self.poller_in_use().is_none();
        let surplus = unused && self.index >= runtime.processors.len();
        let timeout = match until {
            NEVER => surplus.then_some(RETIREMENT),
            until => Some(Duration::from_nanos(until.saturating_sub(before))),
        };
        let mut events = Events::new();
        if timeout.is_none_or(|timeout| !timeout.is_zero()) {
            self.sleep_in(bed, timeout, &mut events);
            if bed == Where::Poller {
                self.see_who_is_here();
            }
        } else {
            self.parker.get_up();
        }
        let after = runtime.clock.now();
        self.own.patience.set(patience(after - before));
        let mail = self.get_up();
        // Only now: see the essay in `poller`.
        if self.deliver(&events) > 0 {
            // As in `watch_timers`: the kernel's time says nothing of how soon others will bring something.
            self.own.patience.set(0);
        }
        self.watch_timers(after);
        self.do_errands();
        let idle = !mail && self.inbox_is_empty() && self.own.next.get().is_none();
        if surplus && until == NEVER && idle && after - before >= RETIREMENT.as_nanos() as u64 {
            return self.retire();
        }
        Rest::Up
    }

    /// Comes off the list of sleepers; true if there was mail. Otherwise takes a processor if one is idle.
    ///
    /// The monitor sleeps only while all workers are on the list, and is told by whoever comes off it.
    fn get_up(self) -> bool {
        let alone = self.runtime.idle.get_up(Bed(self.worker()));
        self.runtime.monitor.nudge();
        if alone {
            self.take_idle_processor();
            return false;
        }
        let mail = self.mailbox.swap(0, Ordering::Acquire);
        let assignment = decode(mail).expect("whoever took us off the list left mail");
        self.take_assignment(assignment);
        true
    }

    /// Ends the thread, unless it is needed after all.
    fn retire(self) -> Rest {
        if let Some(entered) = self.enter() {
            entered.release();
            if let Some(processor) = self.own.processor.take() {
                self.runtime.idle.give_back(processor);
            }
            // Somebody may have announced work while the processor was ours.
            self.runtime.announce_spare_work();
        }
        self.give_stacks_back();
        Rest::Retire
    }

    pub(super) fn end_search(self) {
        self.own.searching.set(false);
        self.runtime.idle.end_search();
        self.runtime.announce_spare_work();
    }

    /// Looks for fresh work everywhere, for a while.
    fn search(self, summoned: bool) -> Search {
        let runtime = self.runtime;
        let begun = runtime.clock.now();
        let patience = match () {
            () if runtime.cpus == 1 => 0,
            () if summoned => self.own.patience.get().max(SEARCH),
            () => self.own.patience.get(),
        };
        let thorough = patience >= SEARCH || runtime.cpus == 1;
        let before = if thorough { runtime.progress_of_owners() } else { Vec::new() };
        loop {
            if !self.inbox_is_empty() {
                return Search::Home;
            }
            if let Some(goroutine) = self.pop_injector().or_else(|| self.steal()) {
                return Search::Found(goroutine);
            }
            let now = runtime.clock.now();
            if self.watch_timers(now) {
                return Search::Home;
            }
            if now - begun >= patience {
                break;
            }
            for _ in 0..SPINS {
                std::hint::spin_loop();
            }
        }
        // A goroutine that waits alone is mostly about to run where its data is, and stays where it
        // starts. If its processor has not moved all the while that we have searched, it is not.
        let found = if thorough { self.steal_from_the_stuck(&before) } else { None };
        found.map_or(Search::Nothing, Search::Found)
    }

    /// While another searches, waits a moment for what is at home to become ready again: two goroutines
    /// that talk to each other from different threads must not pay for a wake-up each time. True if
    /// something has come.
    fn linger(self) -> bool {
        let runtime = self.runtime;
        let patience = self.own.patience.get();
        if runtime.cpus == 1 || !self.has_residents() || patience < SEARCH {
            return false;
        }
        let begun = runtime.clock.now();
        while self.inbox_is_empty() {
            let now = runtime.clock.now();
            if self.watch_timers(now) {
                return true;
            }
            if now - begun >= patience {
                return false;
            }
            for _ in 0..SPINS {
                std::hint::spin_loop();
            }
        }
        true
    }

    /// Fires timers, and remembers that it was they who ended the wait: that says nothing of how soon others
    /// will bring something. With sleepers enough, a worker that waits awake would never lie down again.
    fn watch_timers(self, now: u64) -> bool {
        let any = self.fire_timers(now);
        if any {
            self.own.patience.set(0);
        }
        any
    }

    /// Half of what another processor has, if it has more than one.
    fn steal(self) -> Option<NonNull<Runnable>> {
        let processors = &self.runtime.processors;
        let start = self.random() as usize % processors.len();
        for at in (start..processors.len()).chain(0..start) {
            let victim = processors[at].queue();
            if Some(at) != self.own.processor.get() && victim.ring().len() > 1 {
                let entered = self.enter()?;
                // SAFETY: entered: we are the producer of the destination, and it is not the victim's.
                if let Some(goroutine) = unsafe { victim.steal_half_into(entered.queue()) } {
                    return Some(goroutine);
                }
            }
        }
        None
    }

    fn steal_from_the_stuck(self, before: &[Option<(usize, u64)>]) -> Option<NonNull<Runnable>> {
        let now = self.runtime.progress_of_owners();
        for (at, processor) in self.runtime.processors.iter().enumerate() {
            let victim = processor.queue();
            let stuck = before.get(at) == now.get(at);
            if Some(at) == self.own.processor.get() || !stuck || victim.is_empty() {
                continue;
            }
            let entered = self.enter()?;
            // SAFETY: as in `steal`.
            let found = unsafe { victim.steal_half_into(entered.queue()) };
            if let Some(goroutine) = found.or_else(|| victim.steal_next()) {
                return Some(goroutine);
            }
        }
        None
    }

    fn random(self) -> u64 {
        let mut x = self.own.random.get();
        x ^= x << 13;
        x ^= x >> 7;
        x ^= x << 17;
        self.own.random.set(x);
        x
    }
}
