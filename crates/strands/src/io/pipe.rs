//! Pipes: within the process, and to its children.

use crate::sched::{Side, Source};
use crate::sys::pipe as sys;
use std::fmt;
use std::io::{self, IoSlice, IoSliceMut, Read, Write};
use std::os::fd::{AsFd, AsRawFd, BorrowedFd, FromRawFd, IntoRawFd, OwnedFd, RawFd};
use std::task::Poll;

/// What all ends of pipes have in common: the descriptor, coming and going.
macro_rules! pipe_end {
    ($ours:ident, $std:ty) => {
        impl AsFd for $ours {
            fn as_fd(&self) -> BorrowedFd<'_> {
                self.source.exposed_fd()
            }
        }

        /// The descriptor is in non-blocking mode, and has to stay so.
        impl AsRawFd for $ours {
            fn as_raw_fd(&self) -> RawFd {
                self.as_fd().as_raw_fd()
            }
        }

        impl FromRawFd for $ours {
            unsafe fn from_raw_fd(fd: RawFd) -> $ours {
                // SAFETY: the caller's promise.
                <$ours>::from(unsafe { OwnedFd::from_raw_fd(fd) })
            }
        }

        impl IntoRawFd for $ours {
            fn into_raw_fd(self) -> RawFd {
                OwnedFd::from(self).into_raw_fd()
            }
        }

        /// It is in non-blocking mode from now on, and so is every copy of the descriptor.
        impl From<OwnedFd> for $ours {
            fn from(fd: OwnedFd) -> $ours {
                // What cannot be set so (it is no pipe) blocks its thread.
                let _ = crate::sys::pipe::set_blocking(fd.as_fd(), false);
                $ours { source: Source::new(fd) }
            }
        }

        /// It is in non-blocking mode from now on, and so is every copy of the descriptor.
        impl From<$std> for $ours {
            fn from(std: $std) -> $ours {
                <$ours>::from(OwnedFd::from(std))
            }
        }

        /// Blocking again. If there are clones it is another descriptor for the same pipe.
        ///
        /// # Panics
        /// If there are clones, and another descriptor is refused.
        impl From<$ours> for OwnedFd {
            fn from(ours: $ours) -> OwnedFd {
                let fd = match ours.source.has_clones() {
                    // The mode is the clones' too, and they need it.
                    true => crate::sys::pipe::reopen(ours.source.fd()),
                    false => ours.source.into_fd(),
                };
                let fd = fd.expect("another descriptor was refused");
                let _ = crate::sys::pipe::set_blocking(fd.as_fd(), true);
                fd
            }
        }

        /// As for the conversion into [`OwnedFd`].
        impl From<$ours> for $std {
            fn from(ours: $ours) -> $std {
                <$std>::from(OwnedFd::from(ours))
            }
        }

        /// For a child to have it: blocking again, as for the conversion into [`OwnedFd`].
        impl From<$ours> for std::process::Stdio {
            fn from(ours: $ours) -> std::process::Stdio {
                OwnedFd::from(ours).into()
            }
        }

        impl fmt::Debug for $ours {
            fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
                f.debug_tuple(stringify!($ours)).field(&self.source.fd().as_raw_fd()).finish()
            }
        }
    };
}

/// `Read`, for the end and for a reference to it, and as a future.
macro_rules! pipe_reads {
    ($ours:ident) => {
        /// Blocks: the goroutine, or else the thread.
        impl Read for &$ours {
            fn read(&mut self, buffer: &mut [u8]) -> io::Result<usize> {
                let fd = self.source.fd();
                self.source.run_read(buffer.len(), || crate::sys::pipe::read(fd, buffer))
            }

            fn read_vectored(&mut self, buffers: &mut [IoSliceMut<'_>]) -> io::Result<usize> {
                let fd = self.source.fd();
                let wanted = buffers.iter().map(|buffer| buffer.len()).sum();
                self.source.run_read(wanted, || crate::sys::pipe::read_vectored(fd, buffers))
            }
        }

        /// Blocks: the goroutine, or else the thread.
        impl Read for $ours {
            fn read(&mut self, buffer: &mut [u8]) -> io::Result<usize> {
                (&*self).read(buffer)
            }

            fn read_vectored(&mut self, buffers: &mut [IoSliceMut<'_>]) -> io::Result<usize> {
                (&*self).read_vectored(buffers)
            }
        }

        impl $ours {
            /// As a future: reads at least a byte, or finds the end. Cancel-safe: if it is dropped it has read
            /// nothing.
            ///
            /// # Errors
            /// As `read`.
            pub async fn read_async(&self, buffer: &mut [u8]) -> io::Result<usize> {
                let (fd, visitor) = (self.source.fd(), self.source.visit(Side::Read));
                let call = move |cx: &mut std::task::Context<'_>| {
                    visitor.poll_bytes(buffer.len(), cx, || crate::sys::pipe::read(fd, buffer))
                };
                std::future::poll_fn(call).await
            }

            #[allow(dead_code, reason = "for the traits of the async world")]
            pub(crate) fn poll_read(
                &self,
                cx: &mut std::task::Context<'_>,
                buffer: &mut [u8],
            ) -> Poll<io::Result<usize>> {
                let fd = self.source.fd();
                let visitor = self.source.pass_by(Side::Read);
                visitor.poll_bytes(buffer.len(), cx, || crate::sys::pipe::read(fd, buffer))
            }
        }
    };
}

/// `Write`, likewise.
macro_rules! pipe_writes {
    ($ours:ident) => {
        /// Nothing is buffered.
        ///
        /// Blocks: the goroutine, or else the thread.
        impl Write for &$ours {
            fn write(&mut self, buffer: &[u8]) -> io::Result<usize> {
                let fd = self.source.fd();
                self.source.run_write(buffer.len(), || crate::sys::pipe::write(fd, buffer))
            }

            fn write_vectored(&mut self, buffers: &[IoSlice<'_>]) -> io::Result<usize> {
                let fd = self.source.fd();
                let wanted = buffers.iter().map(|buffer| buffer.len()).sum();
                self.source.run_write(wanted, || crate::sys::pipe::write_vectored(fd, buffers))
            }

            fn flush(&mut self) -> io::Result<()> {
                Ok(())
            }
        }

        /// Nothing is buffered.
        ///
        /// Blocks: the goroutine, or else the thread.
        impl Write for $ours {
            fn write(&mut self, buffer: &[u8]) -> io::Result<usize> {
                (&*self).write(buffer)
            }

            fn write_vectored(&mut self, buffers: &[IoSlice<'_>]) -> io::Result<usize> {
                (&*self).write_vectored(buffers)
            }

            fn flush(&mut self) -> io::Result<()> {
                Ok(())
            }
        }

        impl $ours {
            /// As a future: writes at least a byte of them. Cancel-safe: if it is dropped it has written nothing.
            ///
            /// # Errors
            /// As `write`.
            pub async fn write_async(&self, buffer: &[u8]) -> io::Result<usize> {
                let (fd, visitor) = (self.source.fd(), self.source.visit(Side::Write));
                let call = move |cx: &mut std::task::Context<'_>| {
                    visitor.poll_bytes(buffer.len(), cx, || crate::sys::pipe::write(fd, buffer))
                };
                std::future::poll_fn(call).await
            }

            #[allow(dead_code, reason = "for the traits of the async world")]
            pub(crate) fn poll_write(
                &self,
                cx: &mut std::task::Context<'_>,
                buffer: &[u8],
            ) -> Poll<io::Result<usize>> {
                let fd = self.source.fd();
                let visitor = self.source.pass_by(Side::Write);
                visitor.poll_bytes(buffer.len(), cx, || crate::sys::pipe::write(fd, buffer))
            }
        }
    };
}

pub(crate) use {pipe_end, pipe_reads, pipe_writes};

/// Makes a pipe, as [`std::io::pipe`].
///
/// # Errors
/// The kernel's: no descriptors are left, say.
///
/// # Examples
///
/// ```
/// use std::io::{Read, Write};
///
/// # fn main() -> std::io::Result<()> {
/// let (mut reader, mut writer) = strands::io::pipe()?;
/// let reading = strands::go(move || {
///     let mut text = String::new();
///     reader.read_to_string(&mut text).map(|_| text)
/// });
/// writer.write_all(b"through the pipe")?;
/// drop(writer);
/// assert_eq!(reading.join().unwrap()?, "through the pipe");
/// # Ok(())
/// # }
/// ```
pub fn pipe() -> io::Result<(PipeReader, PipeWriter)> {
    let (reader, writer) = sys::pipe()?;
    Ok((PipeReader { source: Source::new(reader) }, PipeWriter { source: Source::new(writer) }))
}

/// The end of a pipe that is read from, as [`std::io::PipeReader`]. Any number of goroutines and threads may read, by
/// reference or by clones; each byte goes to one of them.
pub struct PipeReader {
    pub(crate) source: Source,
}

/// The end of a pipe that is written to, as [`std::io::PipeWriter`]. Writing when there is no reader fails with
/// [`BrokenPipe`](io::ErrorKind::BrokenPipe).
pub struct PipeWriter {
    pub(crate) source: Source,
}

pipe_end!(PipeReader, io::PipeReader);
pipe_reads!(PipeReader);
pipe_end!(PipeWriter, io::PipeWriter);
pipe_writes!(PipeWriter);

impl PipeReader {
    /// The same end once more: both share everything, and it is closed with the last.
    ///
    /// # Errors
    /// None; std, which makes a copy of the descriptor, has them.
    pub fn try_clone(&self) -> io::Result<PipeReader> {
        Ok(PipeReader { source: self.source.clone() })
    }
}

impl PipeWriter {
    /// The same end once more: both share everything, and it is closed with the last.
    ///
    /// # Errors
    /// None; std, which makes a copy of the descriptor, has them.
    pub fn try_clone(&self) -> io::Result<PipeWriter> {
        Ok(PipeWriter { source: self.source.clone() })
    }
}
