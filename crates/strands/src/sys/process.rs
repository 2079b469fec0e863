//! A descriptor that tells of a child's end.

use std::io;
use std::os::fd::{FromRawFd, OwnedFd};

/// A descriptor that is readable once the process has ended. The caller's own child, which it has not waited for: so the
/// number is not another's.
///
/// # Errors
/// The kernel is too old, or there are no descriptors left.
pub(crate) fn pidfd(pid: u32) -> io::Result<OwnedFd> {
    // SAFETY: takes two integers, and returns a new descriptor or -1.
    let fd = unsafe { libc::syscall(libc::SYS_pidfd_open, pid as libc::pid_t, 0) };
    if fd < 0 {
        return Err(io::Error::last_os_error());
    }
    // SAFETY: just opened, and nobody else's; descriptors fit an `int`.
    Ok(unsafe { OwnedFd::from_raw_fd(fd as i32) })
}
