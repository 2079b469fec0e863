//! What can be resolved to addresses.

use crate::everyday::blocking;
use std::io;
use std::net::{
    IpAddr, Ipv4Addr, Ipv6Addr, SocketAddr, SocketAddrV4, SocketAddrV6, ToSocketAddrs as StdAddrs,
};
use std::{iter, option, slice, vec};

/// What can be resolved to one or more addresses, as [`std::net::ToSocketAddrs`]; a goroutine that has to ask a
/// resolver parks meanwhile, and the resolver has a spare thread.
///
/// # Examples
///
/// ```
/// use strands::net::ToSocketAddrs;
///
/// # fn main() -> std::io::Result<()> {
/// let addr = ("127.0.0.1", 443).to_socket_addrs()?.next();
/// assert_eq!(addr, Some(([127, 0, 0, 1], 443).into()));
/// # Ok(())
/// # }
/// ```
pub trait ToSocketAddrs {
    /// The addresses, one after the other.
    type Iter: Iterator<Item = SocketAddr>;

    /// Resolves.
    ///
    /// Blocks: the goroutine, or else the thread.
    ///
    /// # Errors
    /// The resolver's; [`InvalidInput`](io::ErrorKind::InvalidInput) for what is no address.
    fn to_socket_addrs(&self) -> io::Result<Self::Iter>;

    /// What a resolver would have to be asked for, if one has to be.
    #[doc(hidden)]
    fn __name(&self) -> Option<(String, u16)> {
        None
    }
}

macro_rules! known_at_once {
    ($($addr:ty),*) => {$(
        impl ToSocketAddrs for $addr {
            type Iter = option::IntoIter<SocketAddr>;

            fn to_socket_addrs(&self) -> io::Result<Self::Iter> {
                StdAddrs::to_socket_addrs(self)
            }
        }
    )*};
}

known_at_once!(
    SocketAddr,
    SocketAddrV4,
    SocketAddrV6,
    (IpAddr, u16),
    (Ipv4Addr, u16),
    (Ipv6Addr, u16)
);

impl ToSocketAddrs for (&str, u16) {
    type Iter = vec::IntoIter<SocketAddr>;

    fn to_socket_addrs(&self) -> io::Result<Self::Iter> {
        let (host, port) = *self;
        match host.parse::<IpAddr>() {
            Ok(ip) => Ok(vec![SocketAddr::new(ip, port)].into_iter()),
            Err(_) => blocking(|| StdAddrs::to_socket_addrs(&(host, port))),
        }
    }

    fn __name(&self) -> Option<(String, u16)> {
        self.0.parse::<IpAddr>().is_err().then(|| (self.0.to_owned(), self.1))
    }
}

impl ToSocketAddrs for (String, u16) {
    type Iter = vec::IntoIter<SocketAddr>;

    fn to_socket_addrs(&self) -> io::Result<Self::Iter> {
        ToSocketAddrs::to_socket_addrs(&(&*self.0, self.1))
    }

    fn __name(&self) -> Option<(String, u16)> {
        (&*self.0, self.1).__name()
    }
}

impl ToSocketAddrs for str {
    type Iter = vec::IntoIter<SocketAddr>;

    fn to_socket_addrs(&self) -> io::Result<Self::Iter> {
        match self.parse() {
            Ok(addr) => Ok(vec![addr].into_iter()),
            Err(_) => blocking(|| StdAddrs::to_socket_addrs(self)),
        }
    }

    fn __name(&self) -> Option<(String, u16)> {
        if self.parse::<SocketAddr>().is_ok() {
            return None;
        }
        // What is no such pair is refused without a resolver.
        let (host, port) = self.rsplit_once(':')?;
        Some((host.to_owned(), port.parse().ok()?))
    }
}

impl ToSocketAddrs for String {
    type Iter = vec::IntoIter<SocketAddr>;

    fn to_socket_addrs(&self) -> io::Result<Self::Iter> {
        ToSocketAddrs::to_socket_addrs(&**self)
    }

    fn __name(&self) -> Option<(String, u16)> {
        (**self).__name()
    }
}

impl<'a> ToSocketAddrs for &'a [SocketAddr] {
    type Iter = iter::Cloned<slice::Iter<'a, SocketAddr>>;

    fn to_socket_addrs(&self) -> io::Result<Self::Iter> {
        Ok(self.iter().cloned())
    }
}

impl<T: ToSocketAddrs + ?Sized> ToSocketAddrs for &T {
    type Iter = T::Iter;

    fn to_socket_addrs(&self) -> io::Result<T::Iter> {
        (**self).to_socket_addrs()
    }

    fn __name(&self) -> Option<(String, u16)> {
        (**self).__name()
    }
}

/// Tries one address after the other; the last error counts.
pub(super) fn each_addr<A: ToSocketAddrs, T>(
    addr: A,
    mut f: impl FnMut(SocketAddr) -> io::Result<T>,
) -> io::Result<T> {
    let mut last = None;
    for addr in addr.to_socket_addrs()? {
        match f(addr) {
            Ok(done) => return Ok(done),
            Err(error) => last = Some(error),
        }
    }
    Err(last.unwrap_or_else(|| {
        io::Error::new(io::ErrorKind::InvalidInput, "could not resolve to any addresses")
    }))
}
