//! Copying inside the kernel.
//!
//! Unlike `send`, neither call can be told to leave the signal out that comes with a broken pipe. Rust's own start has it
//! ignored; in a program that has not, it is kept from the thread for as long as the call takes ([`quietly`]).

use super::epoll;
use std::fs::File;
use std::io;
use std::mem::{self, ManuallyDrop};
use std::os::fd::{AsRawFd, BorrowedFd, FromRawFd};
use std::ptr;
use std::time::Duration;

/// A file without owning it.
pub(crate) struct Borrowed(ManuallyDrop<File>);

impl Borrowed {
    pub(crate) fn by_ref(&self) -> &File {
        &self.0
    }
}

/// As std's, for as long as the descriptor is open.
pub(crate) fn file(fd: BorrowedFd<'_>) -> Borrowed {
    // SAFETY: the caller uses it while it has the descriptor borrowed, and it is not closed with this.
    Borrowed(ManuallyDrop::new(unsafe { File::from_raw_fd(fd.as_raw_fd()) }))
}

fn done(moved: isize) -> io::Result<usize> {
    usize::try_from(moved).map_err(|_| io::Error::last_os_error())
}

/// Moves bytes from where the file stands, which moves on.
pub(crate) fn send_file(
    from: BorrowedFd<'_>,
    to: BorrowedFd<'_>,
    most: usize,
) -> io::Result<usize> {
    let (from, to) = (from.as_raw_fd(), to.as_raw_fd());
    // SAFETY: no pointer but a null one, which means what is said above.
    quietly(|| done(unsafe { libc::sendfile(to, from, ptr::null_mut(), most) }))
}

/// Moves bytes, one end being a pipe.
pub(crate) fn splice(from: BorrowedFd<'_>, to: BorrowedFd<'_>, most: usize) -> io::Result<usize> {
    let flags = libc::SPLICE_F_NONBLOCK | libc::SPLICE_F_MOVE;
    let (from, to) = (from.as_raw_fd(), to.as_raw_fd());
    quietly(|| {
        // SAFETY: no pointers but null ones.
        done(unsafe { libc::splice(from, ptr::null_mut(), to, ptr::null_mut(), most, flags) })
    })
}

/// Makes the call without SIGPIPE, which the kernel sends to the thread that makes it.
fn quietly<T>(call: impl FnOnce() -> io::Result<T>) -> io::Result<T> {
    // SAFETY: all zeroes is a value of each of these types.
    let (mut action, mut pipe, mut former): (libc::sigaction, libc::sigset_t, libc::sigset_t) =
        unsafe { (mem::zeroed(), mem::zeroed(), mem::zeroed()) };
    // SAFETY: asks only; the action is ours to write.
    unsafe { libc::sigaction(libc::SIGPIPE, ptr::null(), &raw mut action) };
    if action.sa_sigaction == libc::SIG_IGN {
        return call();
    }
    // SAFETY: the sets are ours; only this thread's mask changes.
    let was_pending = unsafe {
        libc::sigemptyset(&raw mut pipe);
        libc::sigaddset(&raw mut pipe, libc::SIGPIPE);
        libc::pthread_sigmask(libc::SIG_BLOCK, &raw const pipe, &raw mut former);
        let mut pending: libc::sigset_t = mem::zeroed();
        libc::sigpending(&raw mut pending);
        libc::sigismember(&raw const pending, libc::SIGPIPE) == 1
    };
    let result = call();
    let is_broken = result.as_ref().is_err_and(|error| error.raw_os_error() == Some(libc::EPIPE));
    // SAFETY: takes a signal that is blocked, without waiting for one; then the mask is as it was.
    unsafe {
        if is_broken && !was_pending {
            let at_once: libc::timespec = mem::zeroed();
            libc::sigtimedwait(&raw const pipe, ptr::null_mut(), &raw const at_once);
        }
        libc::pthread_sigmask(libc::SIG_SETMASK, &raw const former, ptr::null_mut());
    }
    result
}

/// Whether a read would bring something, be it the end.
pub(crate) fn has_bytes(fd: BorrowedFd<'_>) -> bool {
    epoll::poll(fd, epoll::READABLE, Some(Duration::ZERO)).unwrap_or(true)
}

/// Whether a write would take something, or fail.
pub(crate) fn has_room(fd: BorrowedFd<'_>) -> bool {
    epoll::poll(fd, epoll::WRITABLE, Some(Duration::ZERO)).unwrap_or(true)
}

/// Whether the kernel will not do it for these two, rather than that it failed.
pub(crate) fn is_refusal(error: &io::Error) -> bool {
    let refusals =
        [libc::EINVAL, libc::ENOSYS, libc::EPERM, libc::EOPNOTSUPP, libc::EBADF, libc::ESPIPE];
    error.raw_os_error().is_some_and(|code| refusals.contains(&code))
}
