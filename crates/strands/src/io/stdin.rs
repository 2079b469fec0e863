//! Standard input.

use crate::sched::{Side, Source};
use crate::sync::{Mutex, MutexGuard};
use crate::sys::{epoll, pipe};
use crate::wait::WaitKind;
use std::fmt;
use std::io::{self, BufRead, BufReader, IsTerminal, Read};
use std::os::fd::{AsFd, AsRawFd, BorrowedFd, FromRawFd, OwnedFd, RawFd};
use std::sync::{OnceLock, PoisonError};

/// The descriptor, whose mode stays as it is: others have it too (the shell, a child), and would not expect to
/// be told that they had to wait. So a read is made when `poll` says that there is something.
struct Raw(Source);

impl Read for Raw {
    fn read(&mut self, buffer: &mut [u8]) -> io::Result<usize> {
        let fd = self.0.fd();
        let read = || match epoll::poll(fd, epoll::READABLE, Some(std::time::Duration::ZERO))? {
            true => pipe::read(fd, buffer),
            false => Err(io::ErrorKind::WouldBlock.into()),
        };
        match self.0.run(Side::Read, WaitKind::IoRead, read) {
            // Closed: as std has it, that is an empty one.
            Err(error) if error.raw_os_error() == Some(libc::EBADF) => Ok(0),
            read => read,
        }
    }
}

fn shared() -> &'static Mutex<BufReader<Raw>> {
    static STDIN: OnceLock<Mutex<BufReader<Raw>>> = OnceLock::new();
    STDIN.get_or_init(|| {
        // SAFETY: open for good, like std's, or closed: then calls fail. The source is in a static and never dropped,
        // so it never closes it.
        let fd = unsafe { OwnedFd::from_raw_fd(libc::STDIN_FILENO) };
        Mutex::new(BufReader::new(Raw(Source::new(fd))))
    })
}

/// The process's standard input, as [`std::io::stdin`].
///
/// It has a buffer, which is shared by all handles, and another than std's: a program reads by one of the two.
///
/// # Examples
///
/// ```no_run
/// for line in strands::io::stdin().lines() {
///     println!("you said {}", line?);
/// }
/// # Ok::<(), std::io::Error>(())
/// ```
pub fn stdin() -> Stdin {
    Stdin { shared: shared() }
}

/// Reads all of standard input, or of another reader: [`std::io::read_to_string`].
///
/// # Errors
/// The reader's; [`InvalidData`](io::ErrorKind::InvalidData) if it is not UTF-8.
pub fn read_to_string<R: Read>(reader: R) -> io::Result<String> {
    io::read_to_string(reader)
}

/// A handle to standard input: see [`stdin`].
///
/// Each call locks it for itself; [`lock`](Stdin::lock) is for several in a row. Who waits for input, or for the
/// lock, blocks its goroutine; others at home on its thread go on.
pub struct Stdin {
    shared: &'static Mutex<BufReader<Raw>>,
}

/// Standard input, locked: no other goroutine and no thread reads from it meanwhile. See [`Stdin::lock`].
pub struct StdinLock<'a> {
    guard: MutexGuard<'a, BufReader<Raw>>,
}

/// The lines of standard input, or of another reader: [`std::io::Lines`].
pub type Lines<B> = io::Lines<B>;

impl Stdin {
    /// Locks it for several calls in a row, and for those of [`BufRead`]. The lock may be held while one waits.
    ///
    /// Blocks: the goroutine, or else the thread.
    pub fn lock(&self) -> StdinLock<'static> {
        StdinLock { guard: self.shared.lock().unwrap_or_else(PoisonError::into_inner) }
    }

    /// Reads a line, with its newline, and appends it. Returns how many bytes it has; 0 at the end.
    ///
    /// Blocks: the goroutine, or else the thread.
    ///
    /// # Errors
    /// The kernel's; [`InvalidData`](io::ErrorKind::InvalidData) if the line is not UTF-8.
    pub fn read_line(&self, line: &mut String) -> io::Result<usize> {
        self.lock().read_line(line)
    }

    /// The lines, without their newlines. Locked as long as the iterator is there.
    ///
    /// Blocks: the goroutine, or else the thread.
    pub fn lines(self) -> Lines<StdinLock<'static>> {
        self.lock().lines()
    }

    /// Whether it is a terminal. ([`io::IsTerminal`] is for std's types alone.)
    pub fn is_terminal(&self) -> bool {
        self.as_fd().is_terminal()
    }
}

impl Read for &Stdin {
    fn read(&mut self, buffer: &mut [u8]) -> io::Result<usize> {
        self.lock().read(buffer)
    }

    fn read_to_end(&mut self, into: &mut Vec<u8>) -> io::Result<usize> {
        self.lock().read_to_end(into)
    }

    fn read_to_string(&mut self, into: &mut String) -> io::Result<usize> {
        self.lock().read_to_string(into)
    }

    fn read_exact(&mut self, buffer: &mut [u8]) -> io::Result<()> {
        self.lock().read_exact(buffer)
    }
}

impl Read for Stdin {
    fn read(&mut self, buffer: &mut [u8]) -> io::Result<usize> {
        (&*self).read(buffer)
    }

    fn read_to_end(&mut self, into: &mut Vec<u8>) -> io::Result<usize> {
        (&*self).read_to_end(into)
    }

    fn read_to_string(&mut self, into: &mut String) -> io::Result<usize> {
        (&*self).read_to_string(into)
    }

    fn read_exact(&mut self, buffer: &mut [u8]) -> io::Result<()> {
        (&*self).read_exact(buffer)
    }
}

impl Read for StdinLock<'_> {
    fn read(&mut self, buffer: &mut [u8]) -> io::Result<usize> {
        self.guard.read(buffer)
    }
}

impl BufRead for StdinLock<'_> {
    fn fill_buf(&mut self) -> io::Result<&[u8]> {
        self.guard.fill_buf()
    }

    fn consume(&mut self, bytes: usize) {
        self.guard.consume(bytes);
    }
}

impl AsFd for Stdin {
    fn as_fd(&self) -> BorrowedFd<'_> {
        // SAFETY: as for std's: open as long as anybody counts on it.
        unsafe { BorrowedFd::borrow_raw(libc::STDIN_FILENO) }
    }
}

impl AsRawFd for Stdin {
    fn as_raw_fd(&self) -> RawFd {
        libc::STDIN_FILENO
    }
}

impl AsFd for StdinLock<'_> {
    fn as_fd(&self) -> BorrowedFd<'_> {
        // SAFETY: as above.
        unsafe { BorrowedFd::borrow_raw(libc::STDIN_FILENO) }
    }
}

impl AsRawFd for StdinLock<'_> {
    fn as_raw_fd(&self) -> RawFd {
        libc::STDIN_FILENO
    }
}

impl fmt::Debug for Stdin {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Stdin").finish_non_exhaustive()
    }
}

impl fmt::Debug for StdinLock<'_> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("StdinLock").finish_non_exhaustive()
    }
}
