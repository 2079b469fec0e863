//! What hyper 1 asks of a runtime: feature `hyper`.
//!
//! [`TcpStream`] and [`UnixStream`] are connections of hyper's as they are. A goroutine for each connection runs it by
//! [`block_on`](super::block_on); what a service may do in it is what a goroutine may, blocking included. axum's
//! router (without its default features) is such a service, too.
//!
//! ```
//! use http_body_util::Full;
//! use hyper::body::{Bytes, Incoming};
//! use hyper::{Request, Response, server::conn::http1, service::service_fn};
//! use std::convert::Infallible;
//! use std::io::{Read, Write};
//! use strands::net::{TcpListener, TcpStream};
//! use strands::task::{self, hyper::Timer};
//!
//! async fn hello(_: Request<Incoming>) -> Result<Response<Full<Bytes>>, Infallible> {
//!     // Straight-line code: this suspends the goroutine, and nobody else waits.
//!     strands::sleep(std::time::Duration::from_millis(1));
//!     Ok(Response::new("hello".into()))
//! }
//!
//! # fn main() -> std::io::Result<()> {
//! let listener = TcpListener::bind("127.0.0.1:0")?;
//! let addr = listener.local_addr()?;
//! strands::go(move || {
//!     for stream in listener.incoming().flatten() {
//!         strands::go(move || {
//!             let served = http1::Builder::new().timer(Timer).serve_connection(stream, service_fn(hello));
//!             if let Err(error) = task::block_on(served) {
//!                 eprintln!("a connection failed: {error}");
//!             }
//!         });
//!     }
//! });
//!
//! let mut client = TcpStream::connect(addr)?;
//! client.write_all(b"GET / HTTP/1.1\r\nhost: here\r\nconnection: close\r\n\r\n")?;
//! let mut response = String::new();
//! client.read_to_string(&mut response)?;
//! assert!(response.starts_with("HTTP/1.1 200 OK") && response.ends_with("hello"));
//! # Ok(())
//! # }
//! ```

use crate::net::{Shutdown, TcpStream, UnixStream};
use crate::time::{Sleep, sleep_until_async};
use hyper::rt::{Read, ReadBufCursor, Write};
use std::future::Future;
use std::io::{self, IoSlice};
use std::pin::Pin;
use std::task::{Context, Poll};
use std::time::{Duration, Instant};

/// Runs hyper's futures by [`task::spawn`](super::spawn).
#[derive(Clone, Copy, Debug, Default)]
pub struct Executor;

impl<F> hyper::rt::Executor<F> for Executor
where
    F: Future + Send + 'static,
    F::Output: Send + 'static,
{
    fn execute(&self, future: F) {
        drop(super::spawn(future));
    }
}

/// Measures hyper's time-outs by [`time::sleep_async`](crate::time::sleep_async).
#[derive(Clone, Copy, Debug, Default)]
pub struct Timer;

impl hyper::rt::Timer for Timer {
    fn sleep(&self, duration: Duration) -> Pin<Box<dyn hyper::rt::Sleep>> {
        Box::pin(crate::time::sleep_async(duration))
    }

    fn sleep_until(&self, deadline: Instant) -> Pin<Box<dyn hyper::rt::Sleep>> {
        Box::pin(sleep_until_async(deadline))
    }

    fn reset(&self, sleep: &mut Pin<Box<dyn hyper::rt::Sleep>>, deadline: Instant) {
        match sleep.as_mut().downcast_mut_pin::<Sleep>() {
            Some(sleep) => sleep.get_mut().reset(deadline),
            None => *sleep = self.sleep_until(deadline),
        }
    }
}

impl hyper::rt::Sleep for Sleep {}

macro_rules! connection {
    ($ours:ty) => {
        /// Feature `hyper`.
        impl Read for $ours {
            fn poll_read(
                self: Pin<&mut Self>,
                cx: &mut Context<'_>,
                mut buffer: ReadBufCursor<'_>,
            ) -> Poll<io::Result<()>> {
                // SAFETY: nothing in it is made uninitialised.
                let room = unsafe { buffer.as_mut() };
                if room.is_empty() {
                    return Poll::Ready(Ok(()));
                }
                let read = std::task::ready!(self.poll_read_uninit(cx, room))?;
                // SAFETY: so many bytes at its beginning were read into, just now.
                unsafe { buffer.advance(read) };
                Poll::Ready(Ok(()))
            }
        }

        /// Feature `hyper`.
        impl Write for $ours {
            fn poll_write(
                self: Pin<&mut Self>,
                cx: &mut Context<'_>,
                buffer: &[u8],
            ) -> Poll<io::Result<usize>> {
                <$ours>::poll_write(&self, cx, buffer)
            }

            fn poll_flush(self: Pin<&mut Self>, _: &mut Context<'_>) -> Poll<io::Result<()>> {
                Poll::Ready(Ok(()))
            }

            fn poll_shutdown(self: Pin<&mut Self>, _: &mut Context<'_>) -> Poll<io::Result<()>> {
                Poll::Ready(self.shutdown(Shutdown::Write))
            }

            fn is_write_vectored(&self) -> bool {
                true
            }

            fn poll_write_vectored(
                self: Pin<&mut Self>,
                cx: &mut Context<'_>,
                buffers: &[IoSlice<'_>],
            ) -> Poll<io::Result<usize>> {
                <$ours>::poll_write_vectored(&self, cx, buffers)
            }
        }
    };
}

connection!(TcpStream);
connection!(UnixStream);
