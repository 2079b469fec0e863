//! Accepting TCP connections.

use super::addr::{ToSocketAddrs, each_addr};
use super::common::{common_calls, conversions, descriptors};
use super::shortage::Shortage;
use super::tcp_stream::TcpStream;
use crate::sched::{Side, Source, spread_next};
use crate::sys::socket::{self, View};
use std::fmt;
use std::io;
use std::iter::FusedIterator;
use std::net::SocketAddr;
use std::os::fd::{AsFd, AsRawFd, BorrowedFd, FromRawFd, IntoRawFd, OwnedFd, RawFd};
use std::task;

/// A TCP socket that accepts connections, as [`std::net::TcpListener`].
///
/// Any number of goroutines and threads may accept at once.
///
/// # Examples
///
/// An echo server with a goroutine for each connection:
///
/// ```
/// use std::io;
/// use std::net::Shutdown;
/// use strands::net::{TcpListener, TcpStream};
///
/// # fn main() -> io::Result<()> {
/// let listener = TcpListener::bind("127.0.0.1:0")?;
/// let addr = listener.local_addr()?;
/// strands::go(move || {
///     for stream in listener.incoming().flatten() {
///         strands::go(move || io::copy(&mut &stream, &mut &stream));
///     }
/// });
///
/// let peer = TcpStream::connect(addr)?;
/// io::Write::write_all(&mut &peer, b"round and round")?;
/// peer.shutdown(Shutdown::Write)?;
/// assert_eq!(io::read_to_string(&peer)?, "round and round");
/// # Ok(())
/// # }
/// ```
///
/// # Differs
///
/// From std: [`accept`](TcpListener::accept) waits when there are no descriptors left, and fails for nothing that is
/// over by the next call. A listener can be [closed](TcpListener::close) while others accept.
pub struct TcpListener {
    pub(super) source: Source,
}

descriptors!(TcpListener, std::net::TcpListener);
conversions!(TcpListener, std::net::TcpListener);
common_calls!(TcpListener);

impl TcpListener {
    /// Listens at the first of the addresses that can be had. Port 0 has the kernel choose one.
    ///
    /// Blocks: the goroutine, or else the thread, if a name has to be resolved.
    ///
    /// # Errors
    /// [`AddrInUse`](io::ErrorKind::AddrInUse), say; the last one's if no address could be had.
    pub fn bind<A: ToSocketAddrs>(addr: A) -> io::Result<TcpListener> {
        each_addr(addr, std::net::TcpListener::bind).map(TcpListener::from)
    }

    /// The address at which it listens.
    ///
    /// # Errors
    /// The kernel's.
    pub fn local_addr(&self) -> io::Result<SocketAddr> {
        self.std().local_addr()
    }

    /// Waits for a connection.
    ///
    /// A connection that was broken off before it was accepted is passed over. When the process or the system
    /// has no descriptors left it says so on standard error, once, and waits for some: connections are kept by
    /// the kernel meanwhile. A non-blocking listener fails instead.
    ///
    /// Blocks: the goroutine, or else the thread.
    ///
    /// # Errors
    /// The kernel's; [`NotConnected`](io::ErrorKind::NotConnected) if the listener has been
    /// [closed](TcpListener::close).
    pub fn accept(&self) -> io::Result<(TcpStream, SocketAddr)> {
        let fd = self.source.fd();
        let mut shortage = Shortage::new();
        loop {
            let accepted =
                self.source.run_accept(|| self.source.unless_closed(|| socket::accept(fd)));
            match accepted {
                Ok((fd, addr)) => {
                    spread_next();
                    return Ok((TcpStream::fresh(fd), addr));
                }
                Err(error) if self.source.is_nonblocking() => return Err(error),
                Err(error) => crate::everyday::sleep(shortage.pause_for(error)?),
            }
        }
    }

    /// As a future: waits for a connection. Cancel-safe: if it is dropped it has accepted none.
    ///
    /// # Errors
    /// The kernel's; when there are no descriptors left, that.
    pub async fn accept_async(&self) -> io::Result<(TcpStream, SocketAddr)> {
        let (fd, visitor) = (self.source.fd(), self.source.visit(Side::Read));
        let call = move |cx: &mut task::Context<'_>| {
            visitor.poll_run(cx, || self.source.unless_closed(|| socket::accept(fd)))
        };
        let (fd, addr) = std::future::poll_fn(call).await?;
        Ok((TcpStream::fresh(fd), addr))
    }

    /// Stops listening, for good: whoever connects is refused, and connections that nobody has accepted are reset. Who
    /// waits in [`accept`](TcpListener::accept) or one of its kin is woken, and fails, as all later calls do; iterators
    /// over connections end. It may be called more than once. std has no such thing.
    ///
    /// A peer whose handshake is not over yet may believe itself connected, and be told otherwise when it writes.
    ///
    /// The address can be had by others from now on. Clones share all this, and so does whoever has a copy of the
    /// descriptor, be it in another process; one that is handed on is to be dropped instead.
    ///
    /// # Examples
    ///
    /// ```
    /// use std::sync::Arc;
    /// use strands::net::TcpListener;
    ///
    /// # fn main() -> std::io::Result<()> {
    /// let listener = Arc::new(TcpListener::bind("127.0.0.1:0")?);
    /// let accepting = Arc::clone(&listener);
    /// let server = strands::go(move || accepting.incoming().count());
    /// listener.close();
    /// assert_eq!(server.join().unwrap(), 0);
    /// assert_eq!(listener.accept().unwrap_err().kind(), std::io::ErrorKind::NotConnected);
    /// # Ok(())
    /// # }
    /// ```
    pub fn close(&self) {
        self.source.close();
        socket::shut_down(self.source.fd());
    }

    /// The connections, as they come, until the listener is [closed](TcpListener::close).
    pub fn incoming(&self) -> Incoming<'_> {
        Incoming { listener: self }
    }

    /// The connections, as they come, until the listener is [closed](TcpListener::close); it goes along.
    pub fn into_incoming(self) -> IntoIncoming {
        IntoIncoming { listener: self }
    }

    fn next_incoming(&self) -> Option<io::Result<TcpStream>> {
        match self.accept() {
            Err(_) if self.source.is_closed() => None,
            accepted => Some(accepted.map(|(stream, _)| stream)),
        }
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

    fn timeouts_from_std(&self) {}

    fn timeouts_to_std(&self) {}
}

impl fmt::Debug for TcpListener {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        fmt::Debug::fmt(&*self.std(), f)
    }
}

/// The connections of a listener: see [`TcpListener::incoming`].
#[derive(Debug)]
pub struct Incoming<'a> {
    listener: &'a TcpListener,
}

impl Iterator for Incoming<'_> {
    type Item = io::Result<TcpStream>;

    fn next(&mut self) -> Option<io::Result<TcpStream>> {
        self.listener.next_incoming()
    }
}

impl FusedIterator for Incoming<'_> {}

/// The connections of a listener: see [`TcpListener::into_incoming`].
#[derive(Debug)]
pub struct IntoIncoming {
    listener: TcpListener,
}

impl Iterator for IntoIncoming {
    type Item = io::Result<TcpStream>;

    fn next(&mut self) -> Option<io::Result<TcpStream>> {
        self.listener.next_incoming()
    }
}

impl FusedIterator for IntoIncoming {}
