//! Being told when descriptors become ready: epoll, an eventfd to wake whoever sleeps in it, and poll.

use std::io;
use std::mem::MaybeUninit;
use std::os::fd::{AsRawFd, BorrowedFd, FromRawFd, OwnedFd};
use std::sync::atomic::{AtomicBool, Ordering};
use std::time::Duration;

/// What can be wanted of a descriptor, and what may have come about.
pub(crate) const READABLE: u32 = libc::EPOLLIN as u32;
pub(crate) const WRITABLE: u32 = libc::EPOLLOUT as u32;
/// Bytes out of band: a read stops short of them.
pub(crate) const URGENT: u32 = libc::EPOLLPRI as u32;
/// The other side has ended, or the whole thing is broken.
pub(crate) const ENDED: u32 = (libc::EPOLLRDHUP | libc::EPOLLHUP | libc::EPOLLERR) as u32;
/// Of these, what ends writing too.
pub(crate) const BROKEN: u32 = (libc::EPOLLHUP | libc::EPOLLERR) as u32;

/// The most that one look brings.
const BATCH: usize = 128;

/// An epoll instance.
#[derive(Debug)]
pub(crate) struct Epoll(OwnedFd);

/// What became ready: pairs of the number that was registered and what came about.
pub(crate) struct Events {
    all: [MaybeUninit<libc::epoll_event>; BATCH],
    count: usize,
}

impl Events {
    #[inline]
    pub(crate) fn new() -> Events {
        Events { all: [const { MaybeUninit::uninit() }; BATCH], count: 0 }
    }

    /// Whether there may be more than fitted in.
    #[inline]
    pub(crate) fn is_full(&self) -> bool {
        self.count == BATCH
    }

    pub(crate) fn iter(&self) -> impl Iterator<Item = (u64, u32)> {
        self.all[..self.count].iter().map(|event| {
            // SAFETY: the kernel has written so many.
            let event = unsafe { event.assume_init_read() };
            (event.u64, event.events)
        })
    }
}

impl Epoll {
    pub(crate) fn new() -> io::Result<Epoll> {
        // SAFETY: touches no memory; a descriptor that comes back is nobody else's.
        let fd = unsafe { libc::epoll_create1(libc::EPOLL_CLOEXEC) };
        if fd < 0 {
            return Err(io::Error::last_os_error());
        }
        // SAFETY: as above.
        Ok(Epoll(unsafe { OwnedFd::from_raw_fd(fd) }))
    }

    /// Registers a descriptor, edge-triggered, to be told of `what` and of its end. What is so already is told at
    /// once.
    pub(crate) fn add(&self, fd: BorrowedFd<'_>, what: u32, number: u64) -> io::Result<()> {
        self.control(libc::EPOLL_CTL_ADD, fd, what, number)
    }

    /// Changes what is told of a registered descriptor. What is so already is told at once, and again.
    pub(crate) fn change(&self, fd: BorrowedFd<'_>, what: u32, number: u64) -> io::Result<()> {
        self.control(libc::EPOLL_CTL_MOD, fd, what, number)
    }

    /// Ends a registration.
    pub(crate) fn remove(&self, fd: BorrowedFd<'_>) {
        // It fails if there is none, and then there is none.
        let _ = self.control(libc::EPOLL_CTL_DEL, fd, 0, 0);
    }

    fn control(&self, what: i32, fd: BorrowedFd<'_>, events: u32, number: u64) -> io::Result<()> {
        let events = events | (libc::EPOLLET | libc::EPOLLRDHUP) as u32;
        let mut event = libc::epoll_event { events, u64: number };
        // SAFETY: both descriptors are open, and the kernel only reads the event.
        let done =
            unsafe { libc::epoll_ctl(self.0.as_raw_fd(), what, fd.as_raw_fd(), &raw mut event) };
        if done == 0 { Ok(()) } else { Err(io::Error::last_os_error()) }
    }

    /// Waits until something has become ready, or the timeout has passed (`None`: never). It may find nothing.
    ///
    /// Blocks: the thread.
    pub(crate) fn wait(&self, events: &mut Events, timeout: Option<Duration>) {
        let fd = self.0.as_raw_fd();
        let first = events.all.as_mut_ptr().cast::<libc::epoll_event>();
        let count = match timeout {
            // SAFETY: there is room for `BATCH` events.
            None => unsafe { libc::epoll_wait(fd, first, BATCH as i32, -1) },
            // SAFETY: as above.
            Some(Duration::ZERO) => unsafe { libc::epoll_wait(fd, first, BATCH as i32, 0) },
            // SAFETY: as above.
            Some(timeout) => unsafe { wait_until(fd, first, timeout) },
        };
        // Interrupted by a signal: as if nothing had come.
        events.count = usize::try_from(count).unwrap_or(0);
    }
}

/// # Safety
/// `first` points to room for [`BATCH`] events.
unsafe fn wait_until(fd: i32, first: *mut libc::epoll_event, timeout: Duration) -> i32 {
    /// The call that takes nanoseconds came with Linux 5.11, and some sandboxes do not let it through.
    static TO_THE_NANOSECOND: AtomicBool = AtomicBool::new(true);
    if TO_THE_NANOSECOND.load(Ordering::Relaxed) {
        let time = libc::timespec {
            tv_sec: timeout.as_secs().min(i32::MAX as u64) as libc::time_t,
            tv_nsec: timeout.subsec_nanos() as _,
        };
        // SAFETY: there is room, by the caller's promise; the time is only read; no signal mask is given.
        let count = unsafe {
            libc::syscall(
                libc::SYS_epoll_pwait2,
                fd,
                first,
                BATCH as i32,
                &raw const time,
                std::ptr::null::<libc::sigset_t>(),
                0_usize,
            )
        };
        let refused = count < 0
            && matches!(
                io::Error::last_os_error().raw_os_error(),
                Some(libc::ENOSYS | libc::EPERM)
            );
        if !refused {
            return count as i32;
        }
        TO_THE_NANOSECOND.store(false, Ordering::Relaxed);
    }
    // Up to the next millisecond, lest it wakes before the time and again and again.
    let millis = timeout.as_nanos().div_ceil(1_000_000).min(i32::MAX as u128) as i32;
    // SAFETY: as above.
    unsafe { libc::epoll_wait(fd, first, BATCH as i32, millis) }
}

/// A descriptor that becomes readable when it is rung.
#[derive(Debug)]
pub(crate) struct Bell(OwnedFd);

impl Bell {
    pub(crate) fn new() -> io::Result<Bell> {
        // SAFETY: touches no memory; a descriptor that comes back is nobody else's.
        let fd = unsafe { libc::eventfd(0, libc::EFD_CLOEXEC | libc::EFD_NONBLOCK) };
        if fd < 0 {
            return Err(io::Error::last_os_error());
        }
        // SAFETY: as above.
        Ok(Bell(unsafe { OwnedFd::from_raw_fd(fd) }))
    }

    pub(crate) fn fd(&self) -> BorrowedFd<'_> {
        std::os::fd::AsFd::as_fd(&self.0)
    }

    /// Rings. Each time is an edge of its own, so nobody need read the count; it cannot grow to its end.
    pub(crate) fn ring(&self) {
        let one = 1_u64;
        // SAFETY: eight live bytes.
        unsafe { libc::write(self.0.as_raw_fd(), (&raw const one).cast(), 8) };
    }
}

/// Waits for one descriptor, for at most `timeout` (`None`: for ever). True if it is ready or has ended; false
/// too when a signal came.
///
/// Blocks: the thread.
pub(crate) fn poll(fd: BorrowedFd<'_>, what: u32, timeout: Option<Duration>) -> io::Result<bool> {
    let mut entry = Entry::new(fd, what).0;
    let time = timeout.map(|timeout| libc::timespec {
        tv_sec: timeout.as_secs().min(i32::MAX as u64) as libc::time_t,
        tv_nsec: timeout.subsec_nanos() as _,
    });
    let time = time.as_ref().map_or(std::ptr::null(), std::ptr::from_ref);
    // SAFETY: one live entry, a time that is null or live, no signal mask.
    match unsafe { libc::ppoll(&raw mut entry, 1, time, std::ptr::null()) } {
        0 => Ok(false),
        1.. => Ok(true),
        _ => match io::Error::last_os_error() {
            error if error.kind() == io::ErrorKind::Interrupted => Ok(false),
            error => Err(error),
        },
    }
}

/// What `poll` is asked of one descriptor, and what it says.
#[repr(transparent)]
#[derive(Clone, Copy)]
pub(crate) struct Entry(libc::pollfd);

impl Entry {
    /// The descriptor may be closed before it is asked for.
    pub(crate) fn new(fd: BorrowedFd<'_>, what: u32) -> Entry {
        let mut events = 0;
        if what & READABLE != 0 {
            events |= libc::POLLIN | libc::POLLRDHUP;
        }
        if what & WRITABLE != 0 {
            events |= libc::POLLOUT;
        }
        Entry(libc::pollfd { fd: fd.as_raw_fd(), events, revents: 0 })
    }

    /// What has come about, in the words of an epoll. Of what cannot be asked for, anything may be so.
    pub(crate) fn told(&self) -> u32 {
        match self.0.revents {
            told if told & libc::POLLNVAL != 0 => READABLE | WRITABLE,
            told => u32::from(told as u16),
        }
    }
}

/// Waits until something has come about for one of them, or the timeout has passed.
///
/// Blocks: the thread.
pub(crate) fn poll_all(entries: &mut [Entry], timeout: Duration) {
    let (first, count) = (entries.as_mut_ptr().cast::<libc::pollfd>(), entries.len());
    // SAFETY: so many live entries, each of which is a `pollfd`.
    let told = unsafe { libc::poll(first, count as libc::nfds_t, timeout.as_millis() as i32) };
    if told >= 0 {
        return;
    }
    let interrupted = io::Error::last_os_error().kind() == io::ErrorKind::Interrupted;
    // There may not be as many entries as this, after the limit of descriptors was lowered: then nobody knows.
    let told = if interrupted { 0 } else { libc::POLLNVAL };
    entries.iter_mut().for_each(|entry| entry.0.revents = told);
    if !interrupted {
        std::thread::sleep(timeout);
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::io::Write;
    use std::os::fd::AsFd;
    use std::os::unix::net::UnixStream;
    use std::time::Instant;

    fn look(epoll: &Epoll, timeout: Duration) -> Vec<(u64, u32)> {
        let mut events = Events::new();
        epoll.wait(&mut events, Some(timeout));
        events.iter().collect()
    }

    #[test]
    fn each_edge_is_told_once() {
        let (one, mut other) = UnixStream::pair().unwrap();
        let epoll = Epoll::new().unwrap();
        epoll.add(one.as_fd(), READABLE, 7).unwrap();
        assert_eq!(look(&epoll, Duration::ZERO), []);
        assert!(!poll(one.as_fd(), READABLE, Some(Duration::ZERO)).unwrap());
        for _ in 0..2 {
            other.write_all(b"x").unwrap();
            assert_eq!(look(&epoll, Duration::from_secs(10)), [(7, READABLE)]);
            assert_eq!(look(&epoll, Duration::ZERO), []);
        }
        assert!(poll(one.as_fd(), READABLE, None).unwrap());
        epoll.change(one.as_fd(), READABLE | WRITABLE, 8).unwrap();
        assert_eq!(look(&epoll, Duration::from_secs(10)), [(8, READABLE | WRITABLE)]);
        drop(other);
        assert_ne!(look(&epoll, Duration::from_secs(10))[0].1 & ENDED, 0);
        epoll.remove(one.as_fd());
        assert_eq!(look(&epoll, Duration::ZERO), []);
    }

    #[test]
    fn every_ring_is_heard_and_a_timeout_is_kept() {
        let (epoll, bell) = (Epoll::new().unwrap(), Bell::new().unwrap());
        epoll.add(bell.fd(), READABLE, 1).unwrap();
        for _ in 0..3 {
            bell.ring();
            assert_eq!(look(&epoll, Duration::from_secs(10)), [(1, READABLE)]);
        }
        let begun = Instant::now();
        assert_eq!(look(&epoll, Duration::from_micros(2_500)), []);
        assert!(begun.elapsed() >= Duration::from_micros(2_500));
    }
}
