//! With which poller a source is registered.
//!
//! With that of the worker whose goroutine is the first to wait; with the `outside` one, if the first is no goroutine.
//! Until then with none: what never has to wait costs no call. For reading at first, for writing too once
//! somebody waits for that: many descriptors have something to tell of writing whenever a peer reads.
//!
//! When goroutines of another worker wait where nobody else does, the source moves after them: at the first time,
//! then after two in a row, then four, and so on, so that one for which workers take turns comes to rest. It is told
//! to the new poller before it is taken from the old, and the kernel tells a new poller what is so already: no
//! edge is lost, one may be noted twice.
//!
//! Where the system has nothing left for a poller or a registration, a makeshift sees to it that those who wait
//! are told.

use super::Poller;
use super::record::{Record, Side, State};
use crate::sched::here::{self, Here};
use crate::sched::runtime::Runtime;
use std::io;
use std::os::fd::BorrowedFd;
use std::ptr;
use std::sync::atomic::Ordering;

/// The poller of whoever runs here.
fn poller_here() -> io::Result<&'static Poller> {
    match (here::current(), Here::get()) {
        (Some(_), Some(here)) => here.poller_or_make(),
        _ => Runtime::get()?.outside.poller(),
    }
}

/// Whether the process or the system has too few descriptors, or too little memory: no fault of the source's.
fn is_shortage(error: &io::Error) -> bool {
    let shortages = [libc::EMFILE, libc::ENFILE, libc::ENOSPC, libc::ENOMEM];
    error.raw_os_error().is_some_and(|code| shortages.contains(&code))
}

impl Record {
    /// Sees to it that edges of this side are told of, to the poller of whoever runs here if that is possible.
    /// Under the lock.
    ///
    /// # Errors
    /// The kernel has refused, or a thread was.
    #[inline]
    pub(super) fn register(&self, state: &mut State, side: Side) -> io::Result<()> {
        let is_told = state.told_of & side.wanted() == side.wanted();
        if let (Some(poller), true) = (state.poller, is_told)
            && Here::get().is_some_and(|here| here.has_poller(poller))
        {
            state.strangers = 0;
            return Ok(());
        }
        self.register_slow(state, side)
    }

    #[cold]
    fn register_slow(&self, state: &mut State, side: Side) -> io::Result<()> {
        match self.register_with_a_poller(state, side) {
            Err(error) if is_shortage(&error) => {
                Runtime::get()?.makeshift.enter(self, state, side).map_err(|_| error)
            }
            done => done,
        }
    }

    fn register_with_a_poller(&self, state: &mut State, side: Side) -> io::Result<()> {
        let (fd, number) = (self.fd(), self.number(state));
        let what = state.told_of | side.wanted();
        // Whoever gets no poller of its own can still wait at the one where the source is.
        let here = poller_here().or_else(|error| state.poller.ok_or(error))?;
        let moves = match state.poller {
            Some(there) if !ptr::eq(here, there) => Self::is_to_move(state),
            _ => false,
        };
        match state.poller {
            None => {
                here.epoll.add(fd, what, number)?;
                here.sources.fetch_add(1, Ordering::Relaxed);
                state.poller = Some(here);
            }
            Some(there) if moves => {
                here.epoll.add(fd, what, number)?;
                here.sources.fetch_add(1, Ordering::Relaxed);
                state.poller = Some(here);
                there.epoll.remove(fd);
                there.sources.fetch_sub(1, Ordering::Relaxed);
            }
            Some(there) => {
                if what != state.told_of {
                    there.epoll.change(fd, what, number)?;
                }
            }
        }
        state.told_of = what;
        Ok(())
    }

    /// Another poller's people come to wait here: whether it is to go with them.
    fn is_to_move(state: &mut State) -> bool {
        if state.is_waited_for() {
            return false;
        }
        state.strangers = state.strangers.saturating_add(1);
        let moves = state.strangers >> state.moves.min(15) != 0;
        if moves {
            state.moves = state.moves.saturating_add(1);
            state.strangers = 0;
        }
        moves
    }

    /// Ends the registration, if there is one. Before the descriptor is closed: a copy of it may be open
    /// elsewhere, and would keep the registration alive where nobody can reach it.
    pub(super) fn deregister(&self) {
        let mut state = self.state.lock();
        if let Some(poller) = state.poller.take() {
            poller.epoll.remove(self.fd());
            poller.sources.fetch_sub(1, Ordering::Relaxed);
        }
        state.told_of = 0;
    }

    /// The descriptor.
    pub(super) fn fd(&self) -> BorrowedFd<'_> {
        let descriptor = self.descriptor.load(Ordering::Relaxed);
        // SAFETY: open as long as the source has owners, of whom the caller is one.
        unsafe { BorrowedFd::borrow_raw(descriptor) }
    }
}
