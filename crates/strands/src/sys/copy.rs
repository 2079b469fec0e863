//! Copying inside the kernel.

use super::epoll;
use std::fs::File;
use std::io;
use std::mem::ManuallyDrop;
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
    // SAFETY: no pointer but a null one, which means what is said above.
    done(unsafe { libc::sendfile(to.as_raw_fd(), from.as_raw_fd(), ptr::null_mut(), most) })
}

/// Moves bytes, one end being a pipe.
pub(crate) fn splice(from: BorrowedFd<'_>, to: BorrowedFd<'_>, most: usize) -> io::Result<usize> {
    let flags = libc::SPLICE_F_NONBLOCK | libc::SPLICE_F_MOVE;
    let (from, to) = (from.as_raw_fd(), to.as_raw_fd());
    // SAFETY: no pointers but null ones.
    done(unsafe { libc::splice(from, ptr::null_mut(), to, ptr::null_mut(), most, flags) })
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
