//! The life of a host: a worker without a processor, for one guest at a time. What hosts are for is in
//! `sched::hosts`.

use super::super::goroutine::Birth;
use super::super::here::Here;
use super::super::hosts::Guest;
use super::super::offenders::{ENOUGH_TURNS, HELD, Held, Site};
use super::super::parker::Where;
use super::super::timers::NEVER;
use super::rest::RETIREMENT;
use super::turns::Task;
use crate::sys::epoll::Events;
use crate::sys::probe::own_cpu_time;
use std::sync::atomic::Ordering;
use std::time::Duration;

/// How a guest has treated its thread so far. Clocks are read at each turn, which is cheap beside what it costs to
/// wake this thread for one.
struct Conduct {
    site: Site,
    birth: Birth,
    turns: u32,
    /// What this thread had run when the guest came, or last held it.
    ran: u64,
    has_offended: bool,
    /// Its good conduct has been noted.
    is_settled: bool,
}

impl Here {
    /// Is a host until nobody comes any more.
    pub(in crate::sched) fn host(self, first: Guest) {
        self.is_host.store(true, Ordering::Relaxed);
        self.move_in();
        let mut guest = first;
        loop {
            let held = guest.held;
            self.entertain(guest);
            self.runtime.hosts.farewell(held == Held::Hogged);
            self.runtime.hosts.let_in(self.runtime, None);
            guest = match self.await_guest() {
                Some(guest) => guest,
                None => break,
            };
        }
        self.give_stacks_back();
        self.is_host.store(false, Ordering::Relaxed);
        self.move_out();
    }

    /// Runs a guest to its end, or until it roams away.
    fn entertain(self, guest: Guest) {
        let is_hog = guest.held == Held::Hogged;
        // SAFETY: fresh, and ours to start: alive.
        let (site, birth) =
            unsafe { (guest.goroutine.as_ref().site(), guest.goroutine.as_ref().birth) };
        let mut conduct = Conduct {
            site,
            birth,
            turns: 0,
            ran: own_cpu_time().unwrap_or(0),
            has_offended: false,
            is_settled: false,
        };
        let mut task = Task::Fresh(guest.goroutine);
        loop {
            let begun = self.runtime.clock.now();
            self.execute(task);
            self.judge(&mut conduct, self.runtime.clock.now() - begun);
            if !self.has_residents() {
                break;
            }
            task = loop {
                match self.pick() {
                    Some(task) => break task,
                    None => self.rest_with_guest(is_hog),
                }
            };
        }
        if !conduct.has_offended && !conduct.is_settled {
            self.runtime.offenders.behave(conduct.site);
        }
    }

    /// Notes how a turn went that took so long.
    fn judge(self, conduct: &mut Conduct, took: u64) {
        let offenders = &self.runtime.offenders;
        if took >= HELD {
            let ran = own_cpu_time().unwrap_or(0);
            let held = if ran - conduct.ran >= HELD { Held::Hogged } else { Held::Blocked };
            conduct.ran = ran;
            conduct.has_offended = true;
            offenders.offend(conduct.site, conduct.birth, held);
        }
        conduct.turns += 1;
        if conduct.turns == ENOUGH_TURNS {
            if !conduct.has_offended {
                offenders.behave(conduct.site);
                conduct.is_settled = true;
            }
            // Once more from the start: it may live for long, and change.
            (conduct.turns, conduct.has_offended) = (0, false);
        }
    }

    /// Sleeps until the guest is ready.
    fn rest_with_guest(self, is_hog: bool) {
        let runtime = self.runtime;
        if self.look_at_poller(runtime.clock.now()) > 0 {
            return;
        }
        let (bed, mut events) = (self.bed(), Events::new());
        self.parker.lie_down_in(bed);
        runtime.hosts.rest(is_hog);
        if is_hog {
            runtime.hosts.let_in(runtime, None);
        }
        self.sleep_as_host(bed, None, &mut events);
        runtime.hosts.rise(is_hog);
        self.wake_up(&events);
    }

    /// Sleeps until there is another guest; `None` if there is none for long.
    fn await_guest(self) -> Option<Guest> {
        let hosts = &self.runtime.hosts;
        loop {
            let before = self.runtime.clock.now();
            let (bed, mut events) = (self.bed(), Events::new());
            self.parker.lie_down_in(bed);
            hosts.be_free(self.worker());
            self.sleep_as_host(bed, Some(RETIREMENT), &mut events);
            let guest = hosts.get_up(self.worker());
            self.wake_up(&events);
            if guest.is_some() {
                return guest;
            }
            // Who has sources registered stays: somebody may wait for them.
            let waited = Duration::from_nanos(self.runtime.clock.now() - before);
            if waited >= RETIREMENT && self.poller_in_use().is_none() {
                hosts.retire();
                return None;
            }
        }
    }

    /// Sleeps where it lay down, unless there is something to do.
    fn sleep_as_host(self, bed: Where, most: Option<Duration>, events: &mut Events) {
        let left = match self.timers.wake_at() {
            NEVER => None,
            until => Some(Duration::from_nanos(until.saturating_sub(self.runtime.clock.now()))),
        };
        let timeout = left.into_iter().chain(most).min();
        let called = !self.inbox.is_empty() || self.has_errands.load(Ordering::SeqCst);
        if called || timeout.is_some_and(|timeout| timeout.is_zero()) {
            self.parker.get_up();
        } else {
            self.sleep_in(bed, timeout, events);
        }
    }

    /// It no longer counts as asleep: tells the monitor, and sees to what has come.
    fn wake_up(self, events: &Events) {
        self.runtime.monitor.nudge();
        self.deliver(events);
        self.fire_timers(self.runtime.clock.now());
        self.do_errands();
    }
}
