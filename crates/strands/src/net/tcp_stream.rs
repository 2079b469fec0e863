//! TCP connections.

use super::addr::{ToSocketAddrs, each_addr};
use super::common::{self, common_calls, conversions, descriptors, timeouts};
use super::stream::stream_io;
use crate::sched::{Side, Source};
use crate::sys::socket::{self, View};
use crate::wait::WaitKind;
use std::fmt;
use std::io::{self, IoSlice, IoSliceMut, Read, Write};
use std::net::{Shutdown, SocketAddr};
use std::os::fd::{AsFd, AsRawFd, BorrowedFd, FromRawFd, IntoRawFd, OwnedFd, RawFd};
use std::task::{self, Poll};
use std::time::Duration;

/// A TCP connection, as [`std::net::TcpStream`].
///
/// Reading and writing are for any number of goroutines and threads at once, by reference or by
/// [`try_clone`](TcpStream::try_clone). The connection is closed when the last clone is dropped.
///
/// # Examples
///
/// ```
/// use std::io::{Read, Write};
/// use strands::net::{TcpListener, TcpStream};
///
/// # fn main() -> std::io::Result<()> {
/// let listener = TcpListener::bind("127.0.0.1:0")?;
/// let addr = listener.local_addr()?;
/// let server = strands::go(move || -> std::io::Result<()> {
///     let (mut peer, _) = listener.accept()?;
///     peer.write_all(b"hello")
/// });
/// let mut heard = String::new();
/// TcpStream::connect(addr)?.read_to_string(&mut heard)?;
/// assert_eq!(heard, "hello");
/// server.join().unwrap()
/// # }
/// ```
///
/// # Differs
///
/// From std: a clone shares the descriptor, and is none of its own; the descriptor is in non-blocking mode, whatever
/// [`set_nonblocking`](TcpStream::set_nonblocking) says.
pub struct TcpStream {
    pub(super) source: Source,
}

descriptors!(TcpStream, std::net::TcpStream);
conversions!(TcpStream, std::net::TcpStream);
timeouts!(TcpStream);
common_calls!(TcpStream);
stream_io!(TcpStream);

impl TcpStream {
    /// Of a socket that was just made.
    pub(super) fn fresh(fd: OwnedFd) -> TcpStream {
        TcpStream { source: Source::of_fresh_tcp(fd) }
    }

    /// Connects to the first of the addresses that takes the connection.
    ///
    /// Blocks: the goroutine, or else the thread.
    ///
    /// # Errors
    /// If no address could be connected to, the last one's; if a name cannot be resolved, the resolver's.
    pub fn connect<A: ToSocketAddrs>(addr: A) -> io::Result<TcpStream> {
        each_addr(addr, |addr| TcpStream::connect_to(&addr, None))
    }

    /// Connects to one address, and gives up after `timeout`.
    ///
    /// Blocks: the goroutine, or else the thread.
    ///
    /// # Errors
    /// [`TimedOut`](io::ErrorKind::TimedOut) if the time was up, and
    /// [`InvalidInput`](io::ErrorKind::InvalidInput) if it is zero.
    pub fn connect_timeout(addr: &SocketAddr, timeout: Duration) -> io::Result<TcpStream> {
        if timeout.is_zero() {
            return Err(io::Error::new(
                io::ErrorKind::InvalidInput,
                "cannot set a 0 duration timeout",
            ));
        }
        TcpStream::connect_to(addr, Some(timeout))
    }

    fn connect_to(addr: &SocketAddr, timeout: Option<Duration>) -> io::Result<TcpStream> {
        let stream = TcpStream::fresh(socket::tcp_for(addr)?);
        let connect = stream.connecting(addr);
        let done =
            stream.source.run_for(Side::Write, WaitKind::Connect, timeout, connect, |()| false);
        match done {
            Ok(()) => Ok(stream),
            Err(error) if error.kind() == io::ErrorKind::WouldBlock => {
                Err(io::Error::new(io::ErrorKind::TimedOut, "connection timed out"))
            }
            Err(error) => Err(error),
        }
    }

    /// As a future: connects to one address.
    ///
    /// # Errors
    /// The kernel's.
    pub async fn connect_async(addr: SocketAddr) -> io::Result<TcpStream> {
        let stream = TcpStream::fresh(socket::tcp_for(&addr)?);
        let mut connect = stream.connecting(&addr);
        let visitor = stream.source.visit(Side::Write);
        std::future::poll_fn(move |cx| visitor.poll_run(cx, &mut connect)).await?;
        Ok(stream)
    }

    /// Begins to connect when it is called first; then says how that went.
    pub(super) fn connecting(&self, addr: &SocketAddr) -> impl FnMut() -> io::Result<()> {
        let (view, mut begun) = (self.std(), false);
        move || {
            if !std::mem::replace(&mut begun, true) {
                return socket::connect(view.as_fd(), addr);
            }
            if let Some(error) = view.take_error()? {
                return Err(error);
            }
            match view.peer_addr() {
                // It was woken for nothing, and the kernel goes on connecting.
                Err(error) if error.kind() == io::ErrorKind::NotConnected => {
                    Err(io::ErrorKind::WouldBlock.into())
                }
                Err(error) => Err(error),
                Ok(_) => Ok(()),
            }
        }
    }

    /// The address of the other end.
    ///
    /// # Errors
    /// The kernel's.
    pub fn peer_addr(&self) -> io::Result<SocketAddr> {
        self.std().peer_addr()
    }

    /// The address of this end.
    ///
    /// # Errors
    /// The kernel's.
    pub fn local_addr(&self) -> io::Result<SocketAddr> {
        self.std().local_addr()
    }

    /// Reads what comes next, and leaves it there.
    ///
    /// Blocks: the goroutine, or else the thread.
    ///
    /// # Errors
    /// The kernel's.
    pub fn peek(&self, buffer: &mut [u8]) -> io::Result<usize> {
        let view = self.std();
        self.source.run(Side::Read, WaitKind::IoRead, || view.peek(buffer))
    }

    /// Has small writes sent at once, and not gathered (`TCP_NODELAY`).
    ///
    /// # Errors
    /// The kernel's.
    pub fn set_nodelay(&self, nodelay: bool) -> io::Result<()> {
        self.std().set_nodelay(nodelay)
    }

    /// Whether small writes are sent at once.
    ///
    /// # Errors
    /// The kernel's.
    pub fn nodelay(&self) -> io::Result<bool> {
        self.std().nodelay()
    }

    /// Sets how many routers a packet may pass (`IP_TTL`).
    ///
    /// # Errors
    /// The kernel's.
    pub fn set_ttl(&self, ttl: u32) -> io::Result<()> {
        self.std().set_ttl(ttl)
    }

    /// How many routers a packet may pass.
    ///
    /// # Errors
    /// The kernel's.
    pub fn ttl(&self) -> io::Result<u32> {
        self.std().ttl()
    }
}

impl fmt::Debug for TcpStream {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        fmt::Debug::fmt(&*self.std(), f)
    }
}
