//! Standard output and standard error.
//!
//! The bytes go through std's own streams, whose buffers `println!` uses too, so that the order is kept. What is
//! ours: a lock that belongs to a goroutine (std's belongs to a thread, and two goroutines of one thread would both
//! have it), and a wait for room before each piece, so that a slow reader of a pipe blocks nobody's thread.

use crate::sched::{Side, Source};
use crate::sync::raw::RawMutex;
use crate::sys::epoll;
use crate::thread::{self, ThreadId};
use crate::wait::WaitKind;
use std::cell::Cell;
use std::fmt;
use std::io::{self, IsTerminal, Write};
use std::marker::PhantomData;
use std::os::fd::{AsFd, AsRawFd, BorrowedFd, FromRawFd, OwnedFd, RawFd};
use std::process::Stdio;
use std::sync::{LazyLock, Mutex, PoisonError};
use std::time::Duration;

/// So much goes into a pipe that has room at all (`PIPE_BUF`), less what std's line buffer may hold back.
const PIECE: usize = 4096 - 1024;

/// A lock that its owner may take again.
struct Owned {
    mutex: RawMutex,
    /// Who has it, and how often. Only the owner finds itself here.
    owner: Mutex<Option<(ThreadId, usize)>>,
}

impl Owned {
    fn lock(&self) {
        let me = thread::current().id();
        if let Some((owner, times)) =
            &mut *self.owner.lock().unwrap_or_else(PoisonError::into_inner)
            && *owner == me
        {
            *times += 1;
            return;
        }
        lock_api::RawMutex::lock(&self.mutex);
        *self.owner.lock().unwrap_or_else(PoisonError::into_inner) = Some((me, 1));
    }

    /// # Safety
    /// The caller's goroutine or thread has locked it.
    unsafe fn unlock(&self) {
        let mut owner = self.owner.lock().unwrap_or_else(PoisonError::into_inner);
        let Some((_, times)) = &mut *owner else { unreachable!("it is locked") };
        *times -= 1;
        if *times == 0 {
            *owner = None;
            drop(owner);
            // SAFETY: ours, and given up as often as taken.
            unsafe { lock_api::RawMutex::unlock(&self.mutex) };
        }
    }
}

/// A stream of the process.
struct Stream {
    lock: Owned,
    /// Its descriptor, in whatever mode others have set.
    source: Source,
}

impl Stream {
    fn new(fd: RawFd) -> Stream {
        // SAFETY: open for good, or closed: then calls fail. The stream is a static, and never closes it.
        let fd = unsafe { OwnedFd::from_raw_fd(fd) };
        let lock = Owned { mutex: lock_api::RawMutex::INIT, owner: Mutex::new(None) };
        Stream { lock, source: Source::new(fd) }
    }

    /// Waits until a write of a piece would not block. What has no readiness (a file) is ready.
    fn wait_for_room(&self) -> io::Result<()> {
        let fd = self.source.fd();
        let look = || match epoll::poll(fd, epoll::WRITABLE, Some(Duration::ZERO))? {
            true => Ok(()),
            false => Err(io::ErrorKind::WouldBlock.into()),
        };
        self.source.run(Side::Write, WaitKind::IoWrite, look)
    }
}

macro_rules! stream {
    ($static:ident, $fd:expr, $function:ident, $ours:ident, $lock:ident, $what:literal) => {
        static $static: LazyLock<Stream> = LazyLock::new(|| Stream::new($fd));

        #[doc = concat!("The process's standard ", $what, ", as [`std::io::", stringify!($function), "`].")]
        pub fn $function() -> $ours {
            $ours { stream: &$static }
        }

        #[doc = concat!("A handle to standard ", $what, ": see [`", stringify!($function), "`].")]
        ///
        /// It writes through std's, and so in order with `println!` and its kin. Each call locks it for itself, among
        /// those who write by these handles.
        pub struct $ours {
            stream: &'static Stream,
        }

        /// The stream, locked for one goroutine or thread, which may lock it again. It may be held over a wait.
        pub struct $lock<'a> {
            stream: &'a Stream,
            _is_not_send: PhantomData<Cell<*mut ()>>,
        }

        impl $ours {
            /// Locks it for several calls in a row.
            ///
            /// Blocks: the goroutine, or else the thread.
            pub fn lock(&self) -> $lock<'static> {
                self.stream.lock.lock();
                $lock { stream: self.stream, _is_not_send: PhantomData }
            }

            /// Whether it is a terminal. ([`io::IsTerminal`] is for std's types alone.)
            pub fn is_terminal(&self) -> bool {
                io::$function().is_terminal()
            }
        }

        impl Drop for $lock<'_> {
            fn drop(&mut self) {
                // SAFETY: locked when it was made, by whoever has it, for it cannot be sent.
                unsafe { self.stream.lock.unlock() };
            }
        }

        impl Write for $lock<'_> {
            fn write(&mut self, buffer: &[u8]) -> io::Result<usize> {
                self.stream.wait_for_room()?;
                io::$function().write(&buffer[..buffer.len().min(PIECE)])
            }

            fn flush(&mut self) -> io::Result<()> {
                self.stream.wait_for_room()?;
                io::$function().flush()
            }
        }

        impl Write for &$ours {
            fn write(&mut self, buffer: &[u8]) -> io::Result<usize> {
                self.lock().write(buffer)
            }

            fn write_all(&mut self, buffer: &[u8]) -> io::Result<()> {
                self.lock().write_all(buffer)
            }

            fn write_fmt(&mut self, arguments: fmt::Arguments<'_>) -> io::Result<()> {
                self.lock().write_fmt(arguments)
            }

            fn flush(&mut self) -> io::Result<()> {
                self.lock().flush()
            }
        }

        impl Write for $ours {
            fn write(&mut self, buffer: &[u8]) -> io::Result<usize> {
                (&*self).write(buffer)
            }

            fn write_all(&mut self, buffer: &[u8]) -> io::Result<()> {
                (&*self).write_all(buffer)
            }

            fn write_fmt(&mut self, arguments: fmt::Arguments<'_>) -> io::Result<()> {
                (&*self).write_fmt(arguments)
            }

            fn flush(&mut self) -> io::Result<()> {
                (&*self).flush()
            }
        }

        impl AsFd for $ours {
            fn as_fd(&self) -> BorrowedFd<'_> {
                self.stream.source.fd()
            }
        }

        impl AsRawFd for $ours {
            fn as_raw_fd(&self) -> RawFd {
                $fd
            }
        }

        impl AsFd for $lock<'_> {
            fn as_fd(&self) -> BorrowedFd<'_> {
                self.stream.source.fd()
            }
        }

        impl AsRawFd for $lock<'_> {
            fn as_raw_fd(&self) -> RawFd {
                $fd
            }
        }

        /// What a child writes there goes where this process's goes.
        impl From<$ours> for Stdio {
            fn from(_: $ours) -> Stdio {
                Stdio::from(io::$function())
            }
        }

        impl fmt::Debug for $ours {
            fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
                f.debug_struct(stringify!($ours)).finish_non_exhaustive()
            }
        }

        impl fmt::Debug for $lock<'_> {
            fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
                f.debug_struct(stringify!($lock)).finish_non_exhaustive()
            }
        }
    };
}

stream!(STDOUT, libc::STDOUT_FILENO, stdout, Stdout, StdoutLock, "output");
stream!(STDERR, libc::STDERR_FILENO, stderr, Stderr, StderrLock, "error");
