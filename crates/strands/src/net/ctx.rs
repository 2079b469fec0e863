//! Calls that end with a context.
//!
//! As everywhere: the socket's readiness and the context's `done` are the two arms of a biased select, between two tries.

use super::addr::{ToSocketAddrs, each_addr};
use super::shortage::Shortage;
use super::{Readiness, TcpListener, TcpStream, UdpSocket, UnixDatagram, UnixListener, UnixStream};
use crate::context::Context;
use crate::everyday::go;
use crate::sched::{Side, Source, spread_next};
use crate::selection::{self, Until};
use crate::sys::socket;
use std::io::{self, Read, Write};
use std::net::SocketAddr;
use std::os::unix::net as std_unix;

/// Makes the call, and as long as it would block waits and makes it again, unless the context is done.
fn run<T>(
    context: &Context,
    readiness: Readiness<'_>,
    source: &Source,
    side: Side,
    mut call: impl FnMut() -> io::Result<T>,
) -> io::Result<T> {
    let timeout = source.timeout(side);
    let mut until = None;
    loop {
        if let Some(error) = context.err() {
            return Err(error.into());
        }
        match call() {
            Err(error) if error.kind() == io::ErrorKind::Interrupted => continue,
            Err(error) if error.kind() == io::ErrorKind::WouldBlock => {
                if source.is_nonblocking() {
                    return Err(error);
                }
            }
            done => return done,
        }
        let until = *until.get_or_insert_with(|| timeout.map_or(Until::Served, selection::within));
        let (done, ready) = (context.done().__recv_arm(), readiness.__ready_arm());
        match selection::select(&[&done, &ready], true, until) {
            // The next turn finds out why.
            Some(0) => {}
            Some(_) => ready.finish()?,
            None => return Err(io::Error::from_raw_os_error(libc::EAGAIN)),
        }
    }
}

/// A stream every read and write of which ends with a context: see [`TcpStream::with_context`].
#[derive(Debug)]
pub struct WithContext<'a, S> {
    stream: &'a S,
    context: &'a Context,
}

macro_rules! streams {
    ($($ours:ident)*) => {$(
        impl $ours {
            /// As `read`, unless the context is done before there is something. If it is done from the start nothing
            /// is read.
            ///
            /// Blocks: the goroutine, or else the thread.
            ///
            /// # Errors
            /// As `read`; and a [`ContextError`](crate::context::ContextError) as an [`io::Error`]:
            /// [`TimedOut`](io::ErrorKind::TimedOut) or [`Other`](io::ErrorKind::Other).
            pub fn read_ctx(&self, buffer: &mut [u8], context: &Context) -> io::Result<usize> {
                if buffer.is_empty() && context.err().is_none() {
                    return (&*self).read(buffer);
                }
                let fd = self.source.fd();
                run(context, self.readable(), &self.source, Side::Read, || {
                    socket::receive(fd, buffer)
                })
            }

            /// As `write`, unless the context is done before there is room. If it is done from the start nothing is
            /// written.
            ///
            /// Blocks: the goroutine, or else the thread.
            ///
            /// # Errors
            /// As [`read_ctx`](Self::read_ctx).
            pub fn write_ctx(&self, buffer: &[u8], context: &Context) -> io::Result<usize> {
                if buffer.is_empty() && context.err().is_none() {
                    return (&*self).write(buffer);
                }
                let fd = self.source.fd();
                run(context, self.writable(), &self.source, Side::Write, || {
                    socket::send(fd, buffer)
                })
            }

            /// The stream with every read and write ending with the context: for whatever takes a
            /// [`Read`] or a [`Write`].
            ///
            /// # Examples
            ///
            /// ```
            /// use std::io::{BufRead, BufReader};
            /// use std::time::Duration;
            /// use strands::context;
            #[doc = concat!("use strands::net::UnixStream;")]
            ///
            /// # fn main() -> std::io::Result<()> {
            /// let (stream, _peer) = UnixStream::pair()?;
            /// let (ctx, _cancel) =
            ///     context::with_timeout(&context::background(), Duration::from_millis(1));
            /// let mut line = String::new();
            /// let error = BufReader::new(stream.with_context(&ctx)).read_line(&mut line).unwrap_err();
            /// assert_eq!(error.kind(), std::io::ErrorKind::TimedOut);
            /// # Ok(())
            /// # }
            /// ```
            pub fn with_context<'a>(&'a self, context: &'a Context) -> WithContext<'a, $ours> {
                WithContext { stream: self, context }
            }
        }

        /// Blocks: the goroutine, or else the thread.
        impl Read for WithContext<'_, $ours> {
            fn read(&mut self, buffer: &mut [u8]) -> io::Result<usize> {
                self.stream.read_ctx(buffer, self.context)
            }
        }

        /// Blocks: the goroutine, or else the thread.
        impl Write for WithContext<'_, $ours> {
            fn write(&mut self, buffer: &[u8]) -> io::Result<usize> {
                self.stream.write_ctx(buffer, self.context)
            }

            fn flush(&mut self) -> io::Result<()> {
                Ok(())
            }
        }
    )*};
}

streams!(TcpStream UnixStream);

macro_rules! accept_ctx {
    ($listener:ident -> $stream:ident, $addr:ty, |$this:ident| $call:expr, $made:expr) => {
        impl $listener {
            /// As [`accept`](Self::accept), unless the context is done before there is a connection. If it is done from
            /// the start none is accepted.
            ///
            /// Blocks: the goroutine, or else the thread.
            ///
            /// # Errors
            /// As [`accept`](Self::accept); and a [`ContextError`](crate::context::ContextError) as an [`io::Error`].
            pub fn accept_ctx(&self, context: &Context) -> io::Result<($stream, $addr)> {
                let $this = self;
                let mut shortage = Shortage::new();
                loop {
                    let accepted =
                        run(context, self.acceptable(), &self.source, Side::Read, || {
                            self.source.unless_closed(|| $call)
                        });
                    match accepted {
                        Ok((stream, addr)) => {
                            spread_next();
                            return Ok(($made(stream), addr));
                        }
                        Err(error) if self.source.is_nonblocking() => return Err(error),
                        Err(error) => context.sleep(shortage.pause_for(error)?)?,
                    }
                }
            }
        }
    };
}

accept_ctx!(TcpListener -> TcpStream, SocketAddr,
    |this| socket::accept(this.source.fd()), TcpStream::fresh);
accept_ctx!(UnixListener -> UnixStream, std_unix::SocketAddr,
    |this| this.std().accept(), UnixStream::from);

impl TcpStream {
    /// As [`connect`](TcpStream::connect), unless the context is done before; also while a name is being resolved.
    ///
    /// Blocks: the goroutine, or else the thread.
    ///
    /// # Errors
    /// As [`connect`](TcpStream::connect); and a [`ContextError`](crate::context::ContextError) as an
    /// [`io::Error`].
    pub fn connect_ctx<A: ToSocketAddrs>(addr: A, context: &Context) -> io::Result<TcpStream> {
        let connect = |addr: SocketAddr| {
            let stream = TcpStream::fresh(socket::tcp_for(&addr)?);
            let connecting = stream.connecting(&addr);
            run(context, stream.writable(), &stream.source, Side::Write, connecting)?;
            Ok(stream)
        };
        let Some(name) = addr.__name() else { return each_addr(addr, connect) };
        // The resolver cannot be stopped, only left behind.
        let mut resolving = go(move || ToSocketAddrs::to_socket_addrs(&name));
        let resolved = resolving.join_ctx(context)?;
        let addrs: Vec<SocketAddr> =
            resolved.unwrap_or_else(|payload| std::panic::resume_unwind(payload))?.collect();
        each_addr(&addrs[..], connect)
    }
}

macro_rules! datagrams {
    ($ours:ident, $addr:ty) => {
        impl $ours {
            /// As [`recv_from`](Self::recv_from), unless the context is done before there is a datagram. If it is done
            /// from the start none is received.
            ///
            /// Blocks: the goroutine, or else the thread.
            ///
            /// # Errors
            /// As [`recv_from`](Self::recv_from); and a [`ContextError`](crate::context::ContextError) as an
            /// [`io::Error`].
            pub fn recv_from_ctx(
                &self,
                buffer: &mut [u8],
                context: &Context,
            ) -> io::Result<(usize, $addr)> {
                let view = self.std();
                run(context, self.readable(), &self.source, Side::Read, || {
                    self.source.unless_closed(|| view.recv_from(buffer))
                })
            }

            /// The same for [`recv`](Self::recv).
            ///
            /// Blocks: the goroutine, or else the thread.
            ///
            /// # Errors
            /// As [`recv_from_ctx`](Self::recv_from_ctx).
            pub fn recv_ctx(&self, buffer: &mut [u8], context: &Context) -> io::Result<usize> {
                let view = self.std();
                run(context, self.readable(), &self.source, Side::Read, || {
                    self.source.unless_closed(|| view.recv(buffer))
                })
            }

            /// The same for [`send`](Self::send).
            ///
            /// Blocks: the goroutine, or else the thread.
            ///
            /// # Errors
            /// As [`recv_from_ctx`](Self::recv_from_ctx).
            pub fn send_ctx(&self, buffer: &[u8], context: &Context) -> io::Result<usize> {
                let view = self.std();
                run(context, self.writable(), &self.source, Side::Write, || {
                    self.source.unless_closed(|| view.send(buffer))
                })
            }
        }
    };
}

datagrams!(UdpSocket, SocketAddr);
datagrams!(UnixDatagram, std_unix::SocketAddr);
