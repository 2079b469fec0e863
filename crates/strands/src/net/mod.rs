//! Networking, shaped as [`std::net`]: what waits blocks the goroutine and not its thread.
//!
//! ```
//! use std::io::{BufRead, BufReader, Write};
//! use strands::net::{TcpListener, TcpStream};
//!
//! # fn main() -> std::io::Result<()> {
//! let listener = TcpListener::bind("localhost:0")?;
//! let addr = listener.local_addr()?;
//! let server = strands::go(move || -> std::io::Result<()> {
//!     let (stream, _) = listener.accept()?;
//!     let mut line = String::new();
//!     BufReader::new(&stream).read_line(&mut line)?;
//!     write!(&stream, "you said {line}")
//! });
//! let mut stream = TcpStream::connect(addr)?;
//! stream.write_all(b"hello\n")?;
//! assert_eq!(std::io::read_to_string(&stream)?, "you said hello\n");
//! server.join().unwrap()
//! # }
//! ```
//!
//! Everything works on plain threads, too, and on the same sockets: a thread that waits for one blocks. Any number
//! of goroutines and threads may use one socket at once, by reference. In async code there are futures, whose
//! names end in `_async`, for any executor.
//!
//! # Differs
//!
//! From std: sockets are in non-blocking mode, and become blocking again when they are converted into std's.
//! `try_clone` copies no descriptor. Names are resolved on spare threads. `accept` outlives a shortage of descriptors.
//! Listeners and UDP sockets can be [closed](TcpListener::close) while others wait for them.
//!
//! # With a context
//!
//! Calls whose names end in `_ctx` end with a [`Context`](crate::context::Context), and
//! [`with_context`](TcpStream::with_context) makes a stream whose every read and write does. In a
//! [`select!`](crate::select), `ready(stream.readable())` stands beside channels.

mod addr;
mod common;
mod ctx;
mod readiness;
mod shortage;
mod stream;
mod tcp_listener;
mod tcp_stream;
mod udp;
mod unix_datagram;
mod unix_stream;

pub use addr::ToSocketAddrs;
pub use ctx::WithContext;
pub use readiness::Readiness;
pub use std::net::{
    AddrParseError, IpAddr, Ipv4Addr, Ipv6Addr, Shutdown, SocketAddr, SocketAddrV4, SocketAddrV6,
};
pub use tcp_listener::{Incoming, IntoIncoming, TcpListener};
pub use tcp_stream::TcpStream;
pub use udp::UdpSocket;
pub use unix_datagram::UnixDatagram;
pub use unix_stream::{UnixListener, UnixStream};

/// Unix sockets, shaped as [`std::os::unix::net`].
pub mod unix {
    pub use super::unix_datagram::UnixDatagram;
    pub use super::unix_stream::{UnixIncoming as Incoming, UnixListener, UnixStream};
    pub use std::os::unix::net::SocketAddr;
}
