//! Sockets: the calls that std has no non-blocking form of, and std's own types as views of a descriptor.

use std::io::{self, IoSlice};
use std::marker::PhantomData;
use std::mem::{ManuallyDrop, MaybeUninit};
use std::net::{Ipv4Addr, Ipv6Addr, SocketAddr, SocketAddrV4, SocketAddrV6};
use std::ops::Deref;
use std::os::fd::{AsRawFd, BorrowedFd, FromRawFd, OwnedFd};
use std::os::linux::net::SocketAddrExt;
use std::os::unix::ffi::OsStrExt;
use std::os::unix::net as unix;

/// A type of std's that owns a descriptor, made from one that is borrowed: for its methods.
pub(crate) struct View<'fd, T>(ManuallyDrop<T>, PhantomData<BorrowedFd<'fd>>);

impl<'fd, T: From<OwnedFd>> View<'fd, T> {
    #[inline]
    pub(crate) fn of(fd: BorrowedFd<'fd>) -> View<'fd, T> {
        // SAFETY: open for `'fd`, which the view does not outlive; and it is not closed, since the owner that is made
        // of it is never dropped.
        let owned = unsafe { OwnedFd::from_raw_fd(fd.as_raw_fd()) };
        View(ManuallyDrop::new(T::from(owned)), PhantomData)
    }
}

impl<T> Deref for View<'_, T> {
    type Target = T;

    #[inline]
    fn deref(&self) -> &T {
        &self.0
    }
}

/// An address as the kernel wants it.
union RawAddr {
    v4: libc::sockaddr_in,
    v6: libc::sockaddr_in6,
    unix: libc::sockaddr_un,
    all: libc::sockaddr_storage,
}

impl RawAddr {
    fn of(addr: &SocketAddr) -> (RawAddr, libc::socklen_t) {
        match addr {
            SocketAddr::V4(addr) => {
                let v4 = libc::sockaddr_in {
                    sin_family: libc::AF_INET as libc::sa_family_t,
                    sin_port: addr.port().to_be(),
                    sin_addr: libc::in_addr { s_addr: u32::from_ne_bytes(addr.ip().octets()) },
                    sin_zero: [0; 8],
                };
                (RawAddr { v4 }, size_of::<libc::sockaddr_in>() as libc::socklen_t)
            }
            SocketAddr::V6(addr) => {
                let v6 = libc::sockaddr_in6 {
                    sin6_family: libc::AF_INET6 as libc::sa_family_t,
                    sin6_port: addr.port().to_be(),
                    sin6_addr: libc::in6_addr { s6_addr: addr.ip().octets() },
                    sin6_flowinfo: addr.flowinfo(),
                    sin6_scope_id: addr.scope_id(),
                };
                (RawAddr { v6 }, size_of::<libc::sockaddr_in6>() as libc::socklen_t)
            }
        }
    }

    fn of_unix(addr: &unix::SocketAddr) -> io::Result<(RawAddr, libc::socklen_t)> {
        let mut raw = libc::sockaddr_un {
            sun_family: libc::AF_UNIX as libc::sa_family_t,
            sun_path: [0; 108],
        };
        let (skipped, name) = match (addr.as_pathname(), addr.as_abstract_name()) {
            (Some(path), _) => (0, path.as_os_str().as_bytes()),
            (_, Some(name)) => (1, name),
            _ => (0, &b""[..]),
        };
        if skipped + name.len() > raw.sun_path.len() {
            return Err(io::Error::from(io::ErrorKind::InvalidInput));
        }
        for (to, from) in raw.sun_path[skipped..].iter_mut().zip(name) {
            *to = *from as libc::c_char;
        }
        let mut length = size_of::<libc::sa_family_t>() + skipped + name.len();
        if addr.as_pathname().is_some() && name.len() < raw.sun_path.len() {
            // A path ends with a zero, as std has it.
            length += 1;
        }
        Ok((RawAddr { unix: raw }, length as libc::socklen_t))
    }

    /// What the kernel has written.
    fn parse(&self) -> io::Result<SocketAddr> {
        // SAFETY: all of it is initialised, and any bytes are a value of each of these types; the family, which all have
        // first, says which was meant.
        unsafe {
            match i32::from(self.all.ss_family) {
                libc::AF_INET => Ok(SocketAddr::V4(SocketAddrV4::new(
                    Ipv4Addr::from(self.v4.sin_addr.s_addr.to_ne_bytes()),
                    u16::from_be(self.v4.sin_port),
                ))),
                libc::AF_INET6 => Ok(SocketAddr::V6(SocketAddrV6::new(
                    Ipv6Addr::from(self.v6.sin6_addr.s6_addr),
                    u16::from_be(self.v6.sin6_port),
                    self.v6.sin6_flowinfo,
                    self.v6.sin6_scope_id,
                ))),
                _ => Err(io::Error::new(io::ErrorKind::InvalidInput, "not an internet address")),
            }
        }
    }
}

/// Of a system call.
fn checked(result: libc::c_int) -> io::Result<libc::c_int> {
    if result < 0 { Err(io::Error::last_os_error()) } else { Ok(result) }
}

/// The same for one that counts bytes.
fn counted(result: isize) -> io::Result<usize> {
    usize::try_from(result).map_err(|_| io::Error::last_os_error())
}

fn socket(family: libc::c_int) -> io::Result<OwnedFd> {
    let kind = libc::SOCK_STREAM | libc::SOCK_CLOEXEC | libc::SOCK_NONBLOCK;
    // SAFETY: touches no memory.
    let fd = checked(unsafe { libc::socket(family, kind, 0) })?;
    // SAFETY: new, so nobody else's.
    Ok(unsafe { OwnedFd::from_raw_fd(fd) })
}

/// A TCP socket, in non-blocking mode, that can connect to such an address.
pub(crate) fn tcp_for(addr: &SocketAddr) -> io::Result<OwnedFd> {
    socket(if addr.is_ipv4() { libc::AF_INET } else { libc::AF_INET6 })
}

/// Has nothing go through the socket any more, or come in at it: that wakes whoever waits for it, in whatever way.
pub(crate) fn shut_down(fd: BorrowedFd<'_>) {
    // SAFETY: touches no memory. Of a socket without a peer it is done and called an error.
    unsafe { libc::shutdown(fd.as_raw_fd(), libc::SHUT_RDWR) };
}

/// A Unix stream socket in non-blocking mode.
pub(crate) fn unix_stream() -> io::Result<OwnedFd> {
    socket(libc::AF_UNIX)
}

/// Begins to connect. [`WouldBlock`](io::ErrorKind::WouldBlock): it goes on.
pub(crate) fn connect(fd: BorrowedFd<'_>, addr: &SocketAddr) -> io::Result<()> {
    let (raw, length) = RawAddr::of(addr);
    connect_raw(fd, &raw, length).map_err(|error| match error.raw_os_error() {
        Some(libc::EINPROGRESS) => io::Error::from_raw_os_error(libc::EAGAIN),
        _ => error,
    })
}

/// Connects. [`WouldBlock`](io::ErrorKind::WouldBlock): the other side's queue is full, and nobody will tell when it
/// is not.
pub(crate) fn connect_unix(fd: BorrowedFd<'_>, addr: &unix::SocketAddr) -> io::Result<()> {
    let (raw, length) = RawAddr::of_unix(addr)?;
    connect_raw(fd, &raw, length)
}

fn connect_raw(fd: BorrowedFd<'_>, raw: &RawAddr, length: libc::socklen_t) -> io::Result<()> {
    // SAFETY: `length` bytes of the address are initialised, and only read.
    checked(unsafe { libc::connect(fd.as_raw_fd(), (&raw const *raw).cast(), length) }).map(drop)
}

/// Accepts a TCP connection, in non-blocking mode.
pub(crate) fn accept(fd: BorrowedFd<'_>) -> io::Result<(OwnedFd, SocketAddr)> {
    // SAFETY: plain bytes.
    let mut raw = RawAddr { all: unsafe { MaybeUninit::zeroed().assume_init() } };
    let mut length = size_of::<RawAddr>() as libc::socklen_t;
    let flags = libc::SOCK_CLOEXEC | libc::SOCK_NONBLOCK;
    // SAFETY: there is room for so many bytes.
    let accepted = checked(unsafe {
        libc::accept4(fd.as_raw_fd(), (&raw mut raw).cast(), &raw mut length, flags)
    })?;
    // SAFETY: new, so nobody else's.
    let accepted = unsafe { OwnedFd::from_raw_fd(accepted) };
    Ok((accepted, raw.parse()?))
}

/// Receives without waiting, whatever the descriptor's mode.
#[inline]
pub(crate) fn receive(fd: BorrowedFd<'_>, buffer: &mut [u8]) -> io::Result<usize> {
    // SAFETY: the buffer is live and writable.
    counted(unsafe {
        libc::recv(fd.as_raw_fd(), buffer.as_mut_ptr().cast(), buffer.len(), libc::MSG_DONTWAIT)
    })
}

/// [`receive`] into memory that need not hold anything yet; the bytes that were received are initialised.
#[cfg(feature = "hyper")]
pub(crate) fn receive_uninit(
    fd: BorrowedFd<'_>,
    buffer: &mut [MaybeUninit<u8>],
) -> io::Result<usize> {
    // SAFETY: the buffer is live and writable.
    counted(unsafe {
        libc::recv(fd.as_raw_fd(), buffer.as_mut_ptr().cast(), buffer.len(), libc::MSG_DONTWAIT)
    })
}

/// Sends without waiting, whatever the descriptor's mode, and without a signal if nobody listens.
#[inline]
pub(crate) fn send(fd: BorrowedFd<'_>, buffer: &[u8]) -> io::Result<usize> {
    // SAFETY: the buffer is live.
    counted(unsafe {
        libc::send(
            fd.as_raw_fd(),
            buffer.as_ptr().cast(),
            buffer.len(),
            libc::MSG_DONTWAIT | libc::MSG_NOSIGNAL,
        )
    })
}

/// The same for several buffers; those beyond what the kernel takes at a time are left.
pub(crate) fn send_vectored(fd: BorrowedFd<'_>, buffers: &[IoSlice<'_>]) -> io::Result<usize> {
    let count = buffers.len().min(libc::UIO_MAXIOV as usize);
    // SAFETY: plain data, for which zeros will do: there are fields that only some C libraries have.
    let mut message: libc::msghdr = unsafe { MaybeUninit::zeroed().assume_init() };
    message.msg_iov = buffers.as_ptr().cast::<libc::iovec>().cast_mut();
    message.msg_iovlen = count as _;
    // SAFETY: `IoSlice` is an `iovec`, as std promises; the buffers are live, and only read.
    counted(unsafe {
        libc::sendmsg(fd.as_raw_fd(), &raw const message, libc::MSG_DONTWAIT | libc::MSG_NOSIGNAL)
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn addresses_come_back_as_they_went() {
        for text in ["127.0.0.1:80", "[::1]:65535", "[fe80::1%7]:1"] {
            let addr: SocketAddr = text.parse().unwrap();
            let (raw, _) = RawAddr::of(&addr);
            // What is beyond the address's own bytes does not matter.
            assert_eq!(raw.parse().unwrap(), addr);
        }
    }

    #[test]
    fn names_of_unix_sockets_are_measured() {
        let path = unix::SocketAddr::from_pathname("/tmp/x").unwrap();
        assert_eq!(RawAddr::of_unix(&path).unwrap().1, 2 + 6 + 1);
        let name = unix::SocketAddr::from_abstract_name(b"ab\0c").unwrap();
        assert_eq!(RawAddr::of_unix(&name).unwrap().1, 2 + 1 + 4);
    }
}
