//! UDP.

use super::addr::{ToSocketAddrs, each_addr};
use super::common::{self, common_calls, conversions, descriptors, timeouts};
use crate::sched::{Side, Source};
use crate::sys::socket::{self, View};
use crate::wait::WaitKind;
use std::fmt;
use std::io;
use std::net::{Ipv4Addr, Ipv6Addr, SocketAddr};
use std::os::fd::{AsFd, AsRawFd, BorrowedFd, FromRawFd, IntoRawFd, OwnedFd, RawFd};
use std::time::Duration;

/// A UDP socket, as [`std::net::UdpSocket`].
///
/// # Examples
///
/// ```
/// use strands::net::UdpSocket;
///
/// # fn main() -> std::io::Result<()> {
/// let here = UdpSocket::bind("127.0.0.1:0")?;
/// let addr = here.local_addr()?;
/// let sender = strands::go(move || UdpSocket::bind("127.0.0.1:0")?.send_to(b"hello", addr));
/// let mut buffer = [0; 16];
/// let (length, _from) = here.recv_from(&mut buffer)?;
/// assert_eq!(&buffer[..length], b"hello");
/// assert_eq!(sender.join().unwrap()?, 5);
/// # Ok(())
/// # }
/// ```
pub struct UdpSocket {
    pub(super) source: Source,
}

descriptors!(UdpSocket, std::net::UdpSocket);
conversions!(UdpSocket, std::net::UdpSocket);
timeouts!(UdpSocket);
common_calls!(UdpSocket);

/// What is std's in every respect.
macro_rules! options {
    ($($(#[$doc:meta])* fn $name:ident($($arg:ident: $type:ty),*) -> $result:ty;)*) => {
        impl UdpSocket {$(
            $(#[$doc])*
            ///
            /// # Errors
            /// The kernel's.
            pub fn $name(&self, $($arg: $type),*) -> io::Result<$result> {
                self.std().$name($($arg),*)
            }
        )*}
    };
}

options! {
    /// The address of the peer, if [`connect`](UdpSocket::connect) has chosen one.
    fn peer_addr() -> SocketAddr;
    /// The address of this end.
    fn local_addr() -> SocketAddr;
    /// Allows sending to broadcast addresses.
    fn set_broadcast(broadcast: bool) -> ();
    /// Whether sending to broadcast addresses is allowed.
    fn broadcast() -> bool;
    /// Has what is sent to IPv4 groups come back to this host's members.
    fn set_multicast_loop_v4(on: bool) -> ();
    /// Whether what is sent to IPv4 groups comes back.
    fn multicast_loop_v4() -> bool;
    /// Sets how many routers a packet to an IPv4 group may pass.
    fn set_multicast_ttl_v4(ttl: u32) -> ();
    /// How many routers a packet to an IPv4 group may pass.
    fn multicast_ttl_v4() -> u32;
    /// Has what is sent to IPv6 groups come back to this host's members.
    fn set_multicast_loop_v6(on: bool) -> ();
    /// Whether what is sent to IPv6 groups comes back.
    fn multicast_loop_v6() -> bool;
    /// Sets how many routers a packet may pass.
    fn set_ttl(ttl: u32) -> ();
    /// How many routers a packet may pass.
    fn ttl() -> u32;
    /// Becomes a member of an IPv4 group, on the interface with that address.
    fn join_multicast_v4(group: &Ipv4Addr, interface: &Ipv4Addr) -> ();
    /// Becomes a member of an IPv6 group, on the interface of that number.
    fn join_multicast_v6(group: &Ipv6Addr, interface: u32) -> ();
    /// Leaves an IPv4 group.
    fn leave_multicast_v4(group: &Ipv4Addr, interface: &Ipv4Addr) -> ();
    /// Leaves an IPv6 group.
    fn leave_multicast_v6(group: &Ipv6Addr, interface: u32) -> ();
}

impl UdpSocket {
    /// A socket at the first of the addresses that can be had. Port 0 has the kernel choose one.
    ///
    /// Blocks: the goroutine, or else the thread, if a name has to be resolved.
    ///
    /// # Errors
    /// [`AddrInUse`](io::ErrorKind::AddrInUse), say; the last one's if no address could be had.
    pub fn bind<A: ToSocketAddrs>(addr: A) -> io::Result<UdpSocket> {
        each_addr(addr, std::net::UdpSocket::bind).map(UdpSocket::from)
    }

    /// Chooses a peer, for [`send`](UdpSocket::send) and [`recv`](UdpSocket::recv).
    ///
    /// Blocks: the goroutine, or else the thread, if a name has to be resolved.
    ///
    /// # Errors
    /// The kernel's, for the last of the addresses.
    pub fn connect<A: ToSocketAddrs>(&self, addr: A) -> io::Result<()> {
        each_addr(addr, |addr| self.std().connect(addr))
    }

    /// Stops receiving and sending, for good. Who waits in a call is woken, and fails, as all later calls that receive or
    /// send do: with [`NotConnected`](io::ErrorKind::NotConnected). It may be called more than once. std has no
    /// such thing.
    ///
    /// Clones share this, and so does whoever has a copy of the descriptor. The address is free once all of them have
    /// been dropped.
    pub fn close(&self) {
        self.source.close();
        socket::shut_down(self.source.fd());
    }

    fn reading<T>(&self, mut call: impl FnMut() -> io::Result<T>) -> io::Result<T> {
        self.source.run(Side::Read, WaitKind::IoRead, || self.source.unless_closed(&mut call))
    }

    fn writing<T>(&self, mut call: impl FnMut() -> io::Result<T>) -> io::Result<T> {
        self.source.run(Side::Write, WaitKind::IoWrite, || self.source.unless_closed(&mut call))
    }

    /// Receives a datagram, and says from whom. What does not fit into the buffer is lost.
    ///
    /// Blocks: the goroutine, or else the thread.
    ///
    /// # Errors
    /// The kernel's.
    pub fn recv_from(&self, buffer: &mut [u8]) -> io::Result<(usize, SocketAddr)> {
        let view = self.std();
        self.reading(|| view.recv_from(buffer))
    }

    /// The same, and leaves the datagram there.
    ///
    /// Blocks: the goroutine, or else the thread.
    ///
    /// # Errors
    /// The kernel's.
    pub fn peek_from(&self, buffer: &mut [u8]) -> io::Result<(usize, SocketAddr)> {
        let view = self.std();
        self.reading(|| view.peek_from(buffer))
    }

    /// Receives a datagram from the chosen peer. What does not fit into the buffer is lost.
    ///
    /// Blocks: the goroutine, or else the thread.
    ///
    /// # Errors
    /// The kernel's; [`ConnectionRefused`](io::ErrorKind::ConnectionRefused) if nobody is there.
    pub fn recv(&self, buffer: &mut [u8]) -> io::Result<usize> {
        let view = self.std();
        self.reading(|| view.recv(buffer))
    }

    /// The same, and leaves the datagram there.
    ///
    /// Blocks: the goroutine, or else the thread.
    ///
    /// # Errors
    /// As [`recv`](UdpSocket::recv).
    pub fn peek(&self, buffer: &mut [u8]) -> io::Result<usize> {
        let view = self.std();
        self.reading(|| view.peek(buffer))
    }

    /// Sends a datagram to the first of the addresses.
    ///
    /// Blocks: the goroutine, or else the thread, if there is no room, or a name has to be resolved.
    ///
    /// # Errors
    /// The kernel's; [`InvalidInput`](io::ErrorKind::InvalidInput) if there is no address.
    pub fn send_to<A: ToSocketAddrs>(&self, buffer: &[u8], addr: A) -> io::Result<usize> {
        let Some(addr) = addr.to_socket_addrs()?.next() else {
            return Err(io::Error::new(
                io::ErrorKind::InvalidInput,
                "no addresses to send data to",
            ));
        };
        let view = self.std();
        self.writing(|| view.send_to(buffer, addr))
    }

    /// Sends a datagram to the chosen peer.
    ///
    /// Blocks: the goroutine, or else the thread, if there is no room.
    ///
    /// # Errors
    /// The kernel's.
    pub fn send(&self, buffer: &[u8]) -> io::Result<usize> {
        let view = self.std();
        self.writing(|| view.send(buffer))
    }

    /// [`recv_from`](UdpSocket::recv_from) as a future. Cancel-safe: if it is dropped it has received nothing.
    ///
    /// # Errors
    /// The kernel's.
    pub async fn recv_from_async(&self, buffer: &mut [u8]) -> io::Result<(usize, SocketAddr)> {
        let visitor = self.source.visit(Side::Read);
        let call = move |cx: &mut std::task::Context<'_>| {
            let view = self.std();
            visitor.poll_run(cx, || self.source.unless_closed(|| view.recv_from(buffer)))
        };
        std::future::poll_fn(call).await
    }

    /// [`send_to`](UdpSocket::send_to) as a future. Cancel-safe: if it is dropped it has sent nothing.
    ///
    /// # Errors
    /// The kernel's.
    pub async fn send_to_async(&self, buffer: &[u8], addr: SocketAddr) -> io::Result<usize> {
        let visitor = self.source.visit(Side::Write);
        let call = move |cx: &mut std::task::Context<'_>| {
            let view = self.std();
            visitor.poll_run(cx, || self.source.unless_closed(|| view.send_to(buffer, addr)))
        };
        std::future::poll_fn(call).await
    }
}

impl fmt::Debug for UdpSocket {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        fmt::Debug::fmt(&*self.std(), f)
    }
}
