//! Unix streams and their listeners.

use super::common::{self, common_calls, conversions, descriptors, timeouts};
use super::shortage::Shortage;
use super::stream::stream_io;
use crate::everyday::blocking;
use crate::sched::{Side, Source, spread_next};
use crate::sys::socket::{self, View};
use std::fmt;
use std::io::{self, IoSlice, IoSliceMut, Read, Write};
use std::net::Shutdown;
use std::os::fd::{AsFd, AsRawFd, BorrowedFd, FromRawFd, IntoRawFd, OwnedFd, RawFd};
use std::os::unix::net::{self as std_unix, SocketAddr};
use std::path::Path;
use std::task::{self, Poll};
use std::time::Duration;

/// A Unix stream, as [`std::os::unix::net::UnixStream`].
///
/// # Examples
///
/// ```
/// use std::io::{Read, Write};
/// use strands::net::UnixStream;
///
/// # fn main() -> std::io::Result<()> {
/// let (mut one, mut other) = UnixStream::pair()?;
/// let reader = strands::go(move || {
///     let mut heard = String::new();
///     other.read_to_string(&mut heard).map(|_| heard)
/// });
/// one.write_all(b"hello")?;
/// drop(one);
/// assert_eq!(reader.join().unwrap()?, "hello");
/// # Ok(())
/// # }
/// ```
pub struct UnixStream {
    pub(super) source: Source,
}

descriptors!(UnixStream, std_unix::UnixStream);
conversions!(UnixStream, std_unix::UnixStream);
timeouts!(UnixStream);
common_calls!(UnixStream);
stream_io!(UnixStream);

impl UnixStream {
    /// Connects to the listener at this path.
    ///
    /// Blocks: the goroutine, or else the thread, if the listener has as many waiting as it cares for.
    ///
    /// # Errors
    /// The kernel's.
    pub fn connect<P: AsRef<Path>>(path: P) -> io::Result<UnixStream> {
        UnixStream::connect_addr(&SocketAddr::from_pathname(path)?)
    }

    /// Connects to the listener at this address.
    ///
    /// Blocks: as [`connect`](UnixStream::connect).
    ///
    /// # Errors
    /// The kernel's.
    pub fn connect_addr(addr: &SocketAddr) -> io::Result<UnixStream> {
        let fd = socket::unix_stream()?;
        match socket::connect_unix(fd.as_fd(), addr) {
            Ok(()) => Ok(UnixStream { source: Source::new(fd) }),
            // Its queue is full, and nobody would tell us when it is not: only one who blocks is let in.
            Err(error) if error.kind() == io::ErrorKind::WouldBlock => {
                blocking(|| std_unix::UnixStream::connect_addr(addr)).map(UnixStream::from)
            }
            Err(error) => Err(error),
        }
    }

    /// Two ends of one stream.
    ///
    /// # Errors
    /// The kernel's.
    pub fn pair() -> io::Result<(UnixStream, UnixStream)> {
        let (one, other) = std_unix::UnixStream::pair()?;
        Ok((one.into(), other.into()))
    }

    /// The address of this end.
    ///
    /// # Errors
    /// The kernel's.
    pub fn local_addr(&self) -> io::Result<SocketAddr> {
        self.std().local_addr()
    }

    /// The address of the other end.
    ///
    /// # Errors
    /// The kernel's.
    pub fn peer_addr(&self) -> io::Result<SocketAddr> {
        self.std().peer_addr()
    }
}

impl fmt::Debug for UnixStream {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        fmt::Debug::fmt(&*self.std(), f)
    }
}

/// A Unix socket that accepts streams, as [`std::os::unix::net::UnixListener`].
///
/// Any number of goroutines and threads may accept at once.
pub struct UnixListener {
    pub(super) source: Source,
}

descriptors!(UnixListener, std_unix::UnixListener);
conversions!(UnixListener, std_unix::UnixListener);
common_calls!(UnixListener);

impl UnixListener {
    /// Listens at this path, where a socket appears.
    ///
    /// # Errors
    /// [`AddrInUse`](io::ErrorKind::AddrInUse) if something is there, say.
    pub fn bind<P: AsRef<Path>>(path: P) -> io::Result<UnixListener> {
        std_unix::UnixListener::bind(path).map(UnixListener::from)
    }

    /// Listens at this address, which may be an abstract one.
    ///
    /// # Errors
    /// The kernel's.
    pub fn bind_addr(addr: &SocketAddr) -> io::Result<UnixListener> {
        std_unix::UnixListener::bind_addr(addr).map(UnixListener::from)
    }

    /// The address at which it listens.
    ///
    /// # Errors
    /// The kernel's.
    pub fn local_addr(&self) -> io::Result<SocketAddr> {
        self.std().local_addr()
    }

    /// Waits for a stream. Outlives a shortage of descriptors, as [`TcpListener::accept`](super::TcpListener::accept).
    ///
    /// Blocks: the goroutine, or else the thread.
    ///
    /// # Errors
    /// The kernel's; [`NotConnected`](io::ErrorKind::NotConnected) if the listener has been
    /// [closed](UnixListener::close).
    pub fn accept(&self) -> io::Result<(UnixStream, SocketAddr)> {
        let view = self.std();
        let mut shortage = Shortage::new();
        loop {
            match self.source.run_accept(|| self.source.unless_closed(|| view.accept())) {
                Ok((stream, addr)) => {
                    spread_next();
                    return Ok((stream.into(), addr));
                }
                Err(error) if self.source.is_nonblocking() => return Err(error),
                Err(error) => crate::everyday::sleep(shortage.pause_for(error)?),
            }
        }
    }

    /// As a future: waits for a stream. Cancel-safe: if it is dropped it has accepted none.
    ///
    /// # Errors
    /// The kernel's; when there are no descriptors left, that.
    pub async fn accept_async(&self) -> io::Result<(UnixStream, SocketAddr)> {
        let visitor = self.source.visit(Side::Read);
        let call = move |cx: &mut task::Context<'_>| {
            let view = self.std();
            visitor.poll_run(cx, || self.source.unless_closed(|| view.accept()))
        };
        let (stream, addr) = std::future::poll_fn(call).await?;
        Ok((stream.into(), addr))
    }

    /// Stops listening, for good, as [`TcpListener::close`](super::TcpListener::close): whoever waits for a stream is
    /// woken and fails, streams that nobody has accepted end, and who connects is refused. The path stays.
    pub fn close(&self) {
        self.source.close();
        socket::shut_down(self.source.fd());
        // The kernel would keep them for as long as the descriptor is open.
        let view = self.std();
        while view.accept().is_ok() {}
    }

    /// The streams, as they come, until the listener is [closed](UnixListener::close).
    pub fn incoming(&self) -> UnixIncoming<'_> {
        UnixIncoming { listener: self }
    }

    fn timeouts_from_std(&self) {}

    fn timeouts_to_std(&self) {}
}

impl fmt::Debug for UnixListener {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        fmt::Debug::fmt(&*self.std(), f)
    }
}

impl<'a> IntoIterator for &'a UnixListener {
    type Item = io::Result<UnixStream>;
    type IntoIter = UnixIncoming<'a>;

    fn into_iter(self) -> UnixIncoming<'a> {
        self.incoming()
    }
}

/// The streams of a listener: see [`UnixListener::incoming`].
#[derive(Debug)]
pub struct UnixIncoming<'a> {
    listener: &'a UnixListener,
}

impl Iterator for UnixIncoming<'_> {
    type Item = io::Result<UnixStream>;

    fn next(&mut self) -> Option<io::Result<UnixStream>> {
        match self.listener.accept() {
            Err(_) if self.listener.source.is_closed() => None,
            accepted => Some(accepted.map(|(stream, _)| stream)),
        }
    }
}
