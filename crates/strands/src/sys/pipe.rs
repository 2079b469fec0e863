//! Pipes, and descriptors that are read and written by plain `read` and `write`.

use std::io::{self, IoSlice, IoSliceMut, PipeReader, PipeWriter, Read, Write};
use std::mem::ManuallyDrop;
use std::os::fd::{AsRawFd, BorrowedFd, FromRawFd, OwnedFd};

/// A pipe in non-blocking mode.
pub(crate) fn pipe() -> io::Result<(OwnedFd, OwnedFd)> {
    let mut fds = [0; 2];
    // SAFETY: writes two descriptors to where it is told to.
    if unsafe { libc::pipe2(fds.as_mut_ptr(), libc::O_CLOEXEC | libc::O_NONBLOCK) } != 0 {
        return Err(io::Error::last_os_error());
    }
    // SAFETY: just opened, and nobody else's.
    Ok(unsafe { (OwnedFd::from_raw_fd(fds[0]), OwnedFd::from_raw_fd(fds[1])) })
}

/// Sets the mode, which is that of all copies of the descriptor.
pub(crate) fn set_blocking(fd: BorrowedFd<'_>, blocking: bool) -> io::Result<()> {
    // SAFETY: reads flags, and touches no memory.
    let flags = unsafe { libc::fcntl(fd.as_raw_fd(), libc::F_GETFL) };
    if flags < 0 {
        return Err(io::Error::last_os_error());
    }
    let wanted = if blocking { flags & !libc::O_NONBLOCK } else { flags | libc::O_NONBLOCK };
    // SAFETY: sets flags, and touches no memory.
    if flags != wanted && unsafe { libc::fcntl(fd.as_raw_fd(), libc::F_SETFL, wanted) } != 0 {
        return Err(io::Error::last_os_error());
    }
    Ok(())
}

/// Another descriptor for the same pipe, with a mode of its own. (A copy would share it.)
pub(crate) fn reopen(fd: BorrowedFd<'_>) -> io::Result<OwnedFd> {
    // SAFETY: reads flags, and touches no memory.
    let flags = unsafe { libc::fcntl(fd.as_raw_fd(), libc::F_GETFL) };
    let writes = flags >= 0 && flags & libc::O_ACCMODE == libc::O_WRONLY;
    let path = format!("/proc/self/fd/{}", fd.as_raw_fd());
    match std::fs::OpenOptions::new().read(!writes).write(writes).open(path) {
        Ok(file) => Ok(file.into()),
        // No `/proc`: a copy is better than nothing.
        Err(_) => fd.try_clone_to_owned(),
    }
}

/// As std's, without owning it.
fn reader(fd: BorrowedFd<'_>) -> ManuallyDrop<PipeReader> {
    // SAFETY: borrowed for longer than this is used, and not closed with it.
    ManuallyDrop::new(unsafe { PipeReader::from_raw_fd(fd.as_raw_fd()) })
}

fn writer(fd: BorrowedFd<'_>) -> ManuallyDrop<PipeWriter> {
    // SAFETY: as in `reader`.
    ManuallyDrop::new(unsafe { PipeWriter::from_raw_fd(fd.as_raw_fd()) })
}

pub(crate) fn read(fd: BorrowedFd<'_>, buffer: &mut [u8]) -> io::Result<usize> {
    reader(fd).read(buffer)
}

pub(crate) fn read_vectored(
    fd: BorrowedFd<'_>,
    buffers: &mut [IoSliceMut<'_>],
) -> io::Result<usize> {
    reader(fd).read_vectored(buffers)
}

pub(crate) fn write(fd: BorrowedFd<'_>, buffer: &[u8]) -> io::Result<usize> {
    writer(fd).write(buffer)
}

pub(crate) fn write_vectored(fd: BorrowedFd<'_>, buffers: &[IoSlice<'_>]) -> io::Result<usize> {
    writer(fd).write_vectored(buffers)
}
