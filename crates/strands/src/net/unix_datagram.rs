//! Unix datagrams.

use super::common::{self, common_calls, conversions, descriptors, timeouts};
use crate::everyday::sleep;
use crate::sched::{Side, Source};
use crate::sys::socket::View;
use crate::wait::WaitKind;
use std::fmt;
use std::io;
use std::net::Shutdown;
use std::os::fd::{AsFd, AsRawFd, BorrowedFd, FromRawFd, IntoRawFd, OwnedFd, RawFd};
use std::os::unix::net::{self as std_unix, SocketAddr};
use std::path::Path;
use std::time::{Duration, Instant};

/// Nobody tells when the queue of somebody we are not connected to has room again: so long we wait between two looks, at
/// first and at most.
const SHORTEST: Duration = Duration::from_micros(50);
const LONGEST: Duration = Duration::from_millis(10);

/// A Unix datagram socket, as [`std::os::unix::net::UnixDatagram`].
///
/// # Examples
///
/// ```
/// use strands::net::UnixDatagram;
///
/// # fn main() -> std::io::Result<()> {
/// let (one, other) = UnixDatagram::pair()?;
/// let receiver = strands::go(move || {
///     let mut buffer = [0; 16];
///     other.recv(&mut buffer).map(|length| buffer[..length].to_vec())
/// });
/// one.send(b"hello")?;
/// assert_eq!(receiver.join().unwrap()?, b"hello");
/// # Ok(())
/// # }
/// ```
pub struct UnixDatagram {
    pub(super) source: Source,
}

descriptors!(UnixDatagram, std_unix::UnixDatagram);
conversions!(UnixDatagram, std_unix::UnixDatagram);
timeouts!(UnixDatagram);
common_calls!(UnixDatagram);

impl UnixDatagram {
    /// A socket at this path, where it appears.
    ///
    /// # Errors
    /// [`AddrInUse`](io::ErrorKind::AddrInUse) if something is there, say.
    pub fn bind<P: AsRef<Path>>(path: P) -> io::Result<UnixDatagram> {
        std_unix::UnixDatagram::bind(path).map(UnixDatagram::from)
    }

    /// A socket at this address, which may be an abstract one.
    ///
    /// # Errors
    /// The kernel's.
    pub fn bind_addr(addr: &SocketAddr) -> io::Result<UnixDatagram> {
        std_unix::UnixDatagram::bind_addr(addr).map(UnixDatagram::from)
    }

    /// A socket without an address.
    ///
    /// # Errors
    /// The kernel's.
    pub fn unbound() -> io::Result<UnixDatagram> {
        std_unix::UnixDatagram::unbound().map(UnixDatagram::from)
    }

    /// Two that are connected to each other.
    ///
    /// # Errors
    /// The kernel's.
    pub fn pair() -> io::Result<(UnixDatagram, UnixDatagram)> {
        let (one, other) = std_unix::UnixDatagram::pair()?;
        Ok((one.into(), other.into()))
    }

    /// Chooses a peer, for [`send`](UnixDatagram::send) and [`recv`](UnixDatagram::recv).
    ///
    /// # Errors
    /// The kernel's.
    pub fn connect<P: AsRef<Path>>(&self, path: P) -> io::Result<()> {
        self.std().connect(path)
    }

    /// The same by its address.
    ///
    /// # Errors
    /// The kernel's.
    pub fn connect_addr(&self, addr: &SocketAddr) -> io::Result<()> {
        self.std().connect_addr(addr)
    }

    /// The address of this end.
    ///
    /// # Errors
    /// The kernel's.
    pub fn local_addr(&self) -> io::Result<SocketAddr> {
        self.std().local_addr()
    }

    /// The address of the chosen peer.
    ///
    /// # Errors
    /// The kernel's.
    pub fn peer_addr(&self) -> io::Result<SocketAddr> {
        self.std().peer_addr()
    }

    /// Receives a datagram, and says from whom. What does not fit into the buffer is lost.
    ///
    /// Blocks: the goroutine, or else the thread.
    ///
    /// # Errors
    /// The kernel's.
    pub fn recv_from(&self, buffer: &mut [u8]) -> io::Result<(usize, SocketAddr)> {
        let view = self.std();
        self.source.run(Side::Read, WaitKind::IoRead, || view.recv_from(buffer))
    }

    /// Receives a datagram. What does not fit into the buffer is lost.
    ///
    /// Blocks: the goroutine, or else the thread.
    ///
    /// # Errors
    /// The kernel's.
    pub fn recv(&self, buffer: &mut [u8]) -> io::Result<usize> {
        let view = self.std();
        self.source.run(Side::Read, WaitKind::IoRead, || view.recv(buffer))
    }

    /// Sends a datagram to the socket at this path.
    ///
    /// Blocks: the goroutine, or else the thread, if there is no room.
    ///
    /// # Errors
    /// The kernel's.
    pub fn send_to<P: AsRef<Path>>(&self, buffer: &[u8], path: P) -> io::Result<usize> {
        let (view, path) = (self.std(), path.as_ref());
        self.send_to_stranger(|| view.send_to(buffer, path))
    }

    /// The same by its address.
    ///
    /// Blocks: the goroutine, or else the thread, if there is no room.
    ///
    /// # Errors
    /// The kernel's.
    pub fn send_to_addr(&self, buffer: &[u8], addr: &SocketAddr) -> io::Result<usize> {
        let view = self.std();
        self.send_to_stranger(|| view.send_to_addr(buffer, addr))
    }

    fn send_to_stranger(&self, mut call: impl FnMut() -> io::Result<usize>) -> io::Result<usize> {
        let mut deadline = None;
        let mut pause = SHORTEST;
        loop {
            match call() {
                Err(error) if error.kind() == io::ErrorKind::Interrupted => continue,
                Err(error) if error.kind() == io::ErrorKind::WouldBlock => {
                    let timeout = self.source.timeout(Side::Write);
                    let ends = *deadline.get_or_insert_with(|| timeout.map(crate::sched::deadline));
                    let over = ends.is_some_and(|ends| Instant::now() >= ends);
                    if over || self.source.is_nonblocking() {
                        return Err(error);
                    }
                }
                done => return done,
            }
            sleep(pause);
            pause = (2 * pause).min(LONGEST);
        }
    }

    /// Sends a datagram to the chosen peer.
    ///
    /// Blocks: the goroutine, or else the thread, if there is no room.
    ///
    /// # Errors
    /// The kernel's.
    pub fn send(&self, buffer: &[u8]) -> io::Result<usize> {
        let view = self.std();
        self.source.run(Side::Write, WaitKind::IoWrite, || view.send(buffer))
    }

    /// Ends receiving, sending or both; whoever waits here goes on.
    ///
    /// # Errors
    /// The kernel's.
    pub fn shutdown(&self, how: Shutdown) -> io::Result<()> {
        self.std().shutdown(how)
    }
}

impl fmt::Debug for UnixDatagram {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        fmt::Debug::fmt(&*self.std(), f)
    }
}
