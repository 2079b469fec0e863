//! A descriptor that is waited for: the call is tried, its caller waits, the call is tried again.

use super::record::{Place, Record, Side};
use super::slab;
use crate::sched::here;
use crate::sys::epoll;
use crate::wait::{self, FIRST_FREE, Reason, TIMED_OUT, Token, WaitKind, Waiter};
use std::fmt;
use std::io;
use std::os::fd::{AsRawFd, BorrowedFd, FromRawFd, IntoRawFd, OwnedFd};
use std::panic::{RefUnwindSafe, UnwindSafe};
use std::sync::atomic::{Ordering, fence};
use std::time::{Duration, Instant};

/// The user wants to be told that a call would block.
const NONBLOCKING: u8 = 1;
/// Its calls fail from now on.
const CLOSED: u8 = 4;
/// A read that is short has emptied it: see `record`.
pub(super) const SHORT_IS_EMPTY: u8 = 2;

const READY: Token = FIRST_FREE;

/// A descriptor in non-blocking mode, for which goroutines, threads and async tasks can wait, many at a time.
///
/// A clone is the same one. The descriptor is closed when the last is dropped.
pub(crate) struct Source(pub(super) &'static Record);

/// Whoever panics leaves it as it is between two calls: nobody's code runs while its record is locked.
impl UnwindSafe for Source {}
impl RefUnwindSafe for Source {}

impl Source {
    /// Takes a descriptor in, whose mode the caller has seen to.
    pub(crate) fn new(fd: OwnedFd) -> Source {
        let record = slab::take();
        record.begin(fd.into_raw_fd(), 0);
        Source(record)
    }

    /// The same for a TCP socket that nobody else has had in hand: a short read has emptied it.
    pub(crate) fn of_fresh_tcp(fd: OwnedFd) -> Source {
        let source = Source::new(fd);
        source.0.flags.store(SHORT_IS_EMPTY, Ordering::Relaxed);
        source
    }

    /// The descriptor.
    pub(crate) fn fd(&self) -> BorrowedFd<'_> {
        self.0.fd()
    }

    /// The descriptor, for others: who knows what protocol they put on it.
    pub(crate) fn exposed_fd(&self) -> BorrowedFd<'_> {
        self.0.flags.fetch_and(!SHORT_IS_EMPTY, Ordering::Relaxed);
        self.0.fd()
    }

    /// The descriptor itself; a copy of it, if there are clones.
    pub(crate) fn into_fd(self) -> io::Result<OwnedFd> {
        // Ordering: as in `drop`.
        if self.0.owners.load(Ordering::Acquire) > 1 {
            return self.fd().try_clone_to_owned();
        }
        self.0.deregister();
        let fd = self.fd().as_raw_fd();
        let record = self.0;
        std::mem::forget(self);
        let wakers = record.retire();
        slab::give(record);
        drop(wakers);
        // SAFETY: ours, and nobody has it any more.
        Ok(unsafe { OwnedFd::from_raw_fd(fd) })
    }

    /// Whether there is another.
    pub(crate) fn has_clones(&self) -> bool {
        self.0.owners.load(Ordering::Acquire) > 1
    }

    /// Whether calls that would block say so instead of waiting.
    pub(crate) fn is_nonblocking(&self) -> bool {
        self.0.flags.load(Ordering::Relaxed) & NONBLOCKING != 0
    }

    pub(crate) fn set_nonblocking(&self, nonblocking: bool) {
        if nonblocking {
            self.0.flags.fetch_or(NONBLOCKING, Ordering::Relaxed);
        } else {
            self.0.flags.fetch_and(!NONBLOCKING, Ordering::Relaxed);
        }
    }

    /// Has calls that are made by way of [`unless_closed`](Source::unless_closed) fail from now on. Waking those who
    /// wait is the caller's business.
    pub(crate) fn close(&self) {
        // Ordering: whoever is woken by what the caller does next finds it closed.
        self.0.flags.fetch_or(CLOSED, Ordering::SeqCst);
    }

    pub(crate) fn is_closed(&self) -> bool {
        self.0.flags.load(Ordering::SeqCst) & CLOSED != 0
    }

    /// Makes the call.
    ///
    /// # Errors
    /// The call's; [`NotConnected`](io::ErrorKind::NotConnected) if the source has been closed.
    pub(crate) fn unless_closed<T>(&self, call: impl FnOnce() -> io::Result<T>) -> io::Result<T> {
        if !self.is_closed() {
            match call() {
                // Meanwhile, and so that is why.
                Err(_) if self.is_closed() => {}
                done => return done,
            }
        }
        Err(io::Error::new(io::ErrorKind::NotConnected, "the socket has been closed"))
    }

    /// For how long a call of this side waits.
    pub(crate) fn timeout(&self, side: Side) -> Option<Duration> {
        match self.0.timeouts[side as usize].load(Ordering::Relaxed) {
            0 => None,
            nanos => Some(Duration::from_nanos(nanos)),
        }
    }

    pub(crate) fn set_timeout(&self, side: Side, timeout: Option<Duration>) {
        let nanos = timeout.map_or(0, |t| u64::try_from(t.as_nanos()).unwrap_or(u64::MAX).max(1));
        self.0.timeouts[side as usize].store(nanos, Ordering::Relaxed);
    }

    /// Makes the call, and as long as it would block waits and makes it again; for as long as the side's timeout
    /// allows. It has been made, in vain, after the time was up, if that is what is said.
    ///
    /// Blocks: the goroutine, or else the thread.
    ///
    /// # Errors
    /// The call's; [`WouldBlock`](io::ErrorKind::WouldBlock) if the time was up, or the source is non-blocking.
    #[inline]
    pub(crate) fn run<T>(
        &self,
        side: Side,
        why: WaitKind,
        call: impl FnMut() -> io::Result<T>,
    ) -> io::Result<T> {
        self.run_for(side, why, self.timeout(side), call, |_| false)
    }

    /// The same for a call that accepts a connection. Of many goroutines that wait in it, one is woken for each.
    pub(crate) fn run_accept<T>(&self, call: impl FnMut() -> io::Result<T>) -> io::Result<T> {
        let accepted = self.run(Side::Read, WaitKind::Accept, call);
        // Whether this one was woken or came by: somebody has to see to the next connection.
        if self.0.has_acceptors() && self.is_ready(Side::Read) {
            let wake = Record::next_acceptor(&mut self.0.state.lock());
            drop(wake);
        }
        accepted
    }

    /// The same for a call that reads up to `wanted` bytes of a stream.
    #[inline]
    pub(crate) fn run_read(
        &self,
        wanted: usize,
        mut call: impl FnMut() -> io::Result<usize>,
    ) -> io::Result<usize> {
        if wanted == 0 {
            return nothing_of(call());
        }
        let is_short = |read: &usize| {
            *read < wanted
                && *read > 0
                && self.0.flags.load(Ordering::Relaxed) & SHORT_IS_EMPTY != 0
        };
        self.run_for(Side::Read, WaitKind::IoRead, self.timeout(Side::Read), call, is_short)
    }

    /// The same for a call that writes up to `wanted` bytes.
    #[inline]
    pub(crate) fn run_write(
        &self,
        wanted: usize,
        mut call: impl FnMut() -> io::Result<usize>,
    ) -> io::Result<usize> {
        if wanted == 0 {
            return nothing_of(call());
        }
        self.run(Side::Write, WaitKind::IoWrite, call)
    }

    /// The same with a timeout of its own, and with a word on whether what was done has left nothing to be done.
    #[inline]
    pub(crate) fn run_for<T>(
        &self,
        side: Side,
        why: WaitKind,
        timeout: Option<Duration>,
        mut call: impl FnMut() -> io::Result<T>,
        emptied: impl Fn(&T) -> bool,
    ) -> io::Result<T> {
        let mut deadline = None;
        let mut is_last = false;
        let trusts_edges = here::current().is_some() && !self.is_nonblocking();
        loop {
            let seen = self.0.look(side);
            if seen.is_ready() || !trusts_edges || is_last {
                match call() {
                    Ok(done) => {
                        if trusts_edges && emptied(&done) && seen.is_plain() {
                            self.0.clear(side, seen);
                        }
                        return Ok(done);
                    }
                    Err(error) if error.kind() == io::ErrorKind::Interrupted => continue,
                    Err(error) if error.kind() == io::ErrorKind::WouldBlock => {
                        if self.is_nonblocking() {
                            return Err(error);
                        }
                    }
                    Err(error) => return Err(error),
                }
                if trusts_edges {
                    self.0.clear(side, seen);
                }
            }
            if is_last {
                return Err(io::Error::from_raw_os_error(libc::EAGAIN));
            }
            if deadline.is_none() {
                deadline = timeout.map(crate::sched::deadline);
            }
            // The time is up, yet what it was waited for may be there: nobody has looked at the poller since.
            is_last = !self.wait(side, why, deadline)?;
        }
    }

    /// Waits until the side may be ready, after a call that would have blocked. False: the time is up.
    ///
    /// Blocks: the goroutine, or else the thread.
    pub(crate) fn wait(
        &self,
        side: Side,
        why: WaitKind,
        deadline: Option<Instant>,
    ) -> io::Result<bool> {
        let accepts = why == WaitKind::Accept;
        let why = Reason::on(why, self.fd().as_raw_fd() as usize);
        if here::current().is_none() {
            return self.wait_as_thread(side, why, deadline);
        }
        let waiter = if deadline.is_none() { Waiter::exclusive() } else { Waiter::new() };
        let place = match accepts {
            true => Place::new().of_acceptor(),
            false => Place::new(),
        };
        {
            let mut state = self.0.state.lock();
            self.0.register(&mut state, side)?;
            // SAFETY: we park until the waiter was claimed, and then leave.
            if !unsafe { self.0.join(&mut state, side, &place, &waiter, READY) } {
                return Ok(true);
            }
        }
        if waiter.park(why, deadline) == TIMED_OUT {
            self.0.leave(&place);
            return Ok(false);
        }
        Ok(true)
    }

    /// A plain thread waits by itself: no other has to be woken first, and none started.
    #[cold]
    fn wait_as_thread(
        &self,
        side: Side,
        why: Reason,
        deadline: Option<Instant>,
    ) -> io::Result<bool> {
        let left = match deadline {
            None => None,
            Some(deadline) => match deadline.saturating_duration_since(Instant::now()) {
                Duration::ZERO => return Ok(false),
                left => Some(left),
            },
        };
        wait::elsewhere(why, || epoll::poll(self.fd(), side.polled(), left))?;
        // Ready, or in vain: the next try tells.
        Ok(true)
    }

    /// Whether a call would succeed, or fail, at once: asked of the kernel.
    pub(crate) fn is_ready(&self, side: Side) -> bool {
        let seen = self.0.look(side);
        let is_ready =
            || epoll::poll(self.fd(), side.polled(), Some(Duration::ZERO)).unwrap_or(true);
        if is_ready() {
            return true;
        }
        self.0.clear(side, seen);
        false
    }

    /// Gets in line for an edge, to have `waiter` claimed for `token`. False: not in line, there was an edge since the
    /// side was last found not to be ready.
    ///
    /// # Safety
    /// Place and waiter stay where they are until [`leave`](Source::leave) has returned. If the place is in line, it is
    /// in this one, for this waiter.
    pub(crate) unsafe fn join(
        &self,
        side: Side,
        place: &Place,
        waiter: &Waiter,
        token: Token,
    ) -> io::Result<bool> {
        let mut state = self.0.state.lock();
        self.0.register(&mut state, side)?;
        // SAFETY: the caller's promise.
        Ok(unsafe { self.0.join(&mut state, side, place, waiter, token) })
    }

    /// Gets out of line, if it is in.
    pub(crate) fn leave(&self, place: &Place) {
        self.0.leave(place);
    }
}

/// What a call has done that was to read or to write nothing: there is nothing to wait for.
pub(super) fn nothing_of(done: io::Result<usize>) -> io::Result<usize> {
    match done {
        Err(error) if error.kind() == io::ErrorKind::WouldBlock => Ok(0),
        done => done,
    }
}

impl Clone for Source {
    fn clone(&self) -> Source {
        // Ordering: Relaxed, as one of an `Arc`.
        self.0.owners.fetch_add(1, Ordering::Relaxed);
        Source(self.0)
    }
}

impl Drop for Source {
    fn drop(&mut self) {
        // Ordering: as an `Arc`'s: what any owner did comes before the end.
        if self.0.owners.fetch_sub(1, Ordering::Release) != 1 {
            return;
        }
        fence(Ordering::Acquire);
        self.0.deregister();
        // SAFETY: ours, and this was the last who had it.
        let fd = unsafe { OwnedFd::from_raw_fd(self.fd().as_raw_fd()) };
        let wakers = self.0.retire();
        slab::give(self.0);
        drop(fd);
        drop(wakers);
    }
}

impl fmt::Debug for Source {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_tuple("Source").field(&self.fd().as_raw_fd()).finish()
    }
}

#[cfg(test)]
mod tests {
    use super::super::record::notice;
    use super::*;
    use std::os::unix::net::UnixStream;

    /// One that is known not to be ready to be read.
    fn unready() -> Source {
        let source = Source::new(UnixStream::pair().unwrap().0.into());
        source.0.clear(Side::Read, source.0.look(Side::Read));
        source
    }

    #[test]
    fn what_the_kernel_says_of_an_earlier_source_is_not_for_the_later() {
        let number_of = |source: &Source| source.0.number(&source.0.state.lock());
        let source = unready();
        let (record, number) = (source.0.index(), number_of(&source));
        notice(number, epoll::READABLE, drop);
        assert!(source.0.look(Side::Read).is_ready());
        drop(source);
        // Other tests of this process take records, too.
        let mut others = Vec::new();
        let later = loop {
            let source = unready();
            if source.0.index() == record {
                break source;
            }
            others.push(source);
        };
        notice(number, epoll::READABLE, drop);
        assert!(!later.0.look(Side::Read).is_ready());
        notice(number_of(&later), epoll::READABLE, drop);
        assert!(later.0.look(Side::Read).is_ready());
    }

    #[test]
    fn a_call_during_which_the_source_is_closed_fails_for_that() {
        let source = Source::new(UnixStream::pair().unwrap().0.into());
        assert_eq!(source.unless_closed(|| Ok(1)).unwrap(), 1);
        let broken = source.unless_closed(|| Err::<(), _>(io::ErrorKind::BrokenPipe.into()));
        assert_eq!(broken.unwrap_err().kind(), io::ErrorKind::BrokenPipe);
        // What it has done meanwhile it has done.
        let done = source.unless_closed(|| {
            source.close();
            Ok(2)
        });
        assert_eq!(done.unwrap(), 2);
        let source = Source::new(UnixStream::pair().unwrap().0.into());
        let interrupted = source.unless_closed(|| {
            source.close();
            Err::<(), _>(io::ErrorKind::InvalidInput.into())
        });
        assert_eq!(interrupted.unwrap_err().kind(), io::ErrorKind::NotConnected);
        let late = source.unless_closed(|| -> io::Result<()> { unreachable!("it is closed") });
        assert_eq!(late.unwrap_err().kind(), io::ErrorKind::NotConnected);
    }
}
