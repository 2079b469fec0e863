//! Sockets and pipes as readers and writers of the `futures` crates: feature `futures`.

use crate::io::{PipeReader, PipeWriter};
use crate::net::{Shutdown, TcpStream, UnixStream};
use crate::process::{ChildStderr, ChildStdin, ChildStdout};
use futures_io::{AsyncRead, AsyncWrite};
use std::io;
use std::pin::Pin;
use std::task::{Context, Poll};

macro_rules! reads {
    ($($ours:ty),*) => {$(
        impl AsyncRead for $ours {
            fn poll_read(
                self: Pin<&mut Self>,
                cx: &mut Context<'_>,
                buffer: &mut [u8],
            ) -> Poll<io::Result<usize>> {
                <$ours>::poll_read(&self, cx, buffer)
            }
        }

        impl AsyncRead for &$ours {
            fn poll_read(
                self: Pin<&mut Self>,
                cx: &mut Context<'_>,
                buffer: &mut [u8],
            ) -> Poll<io::Result<usize>> {
                <$ours>::poll_read(&self, cx, buffer)
            }
        }
    )*};
}

macro_rules! writes {
    ($($(#[$doc:meta])* $ours:ty, $close:expr;)*) => {$(
        $(#[$doc])*
        impl AsyncWrite for $ours {
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

            fn poll_close(self: Pin<&mut Self>, _: &mut Context<'_>) -> Poll<io::Result<()>> {
                Poll::Ready($close(&*self))
            }
        }

        $(#[$doc])*
        impl AsyncWrite for &$ours {
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

            fn poll_close(self: Pin<&mut Self>, _: &mut Context<'_>) -> Poll<io::Result<()>> {
                Poll::Ready($close(&**self))
            }
        }
    )*};
}

reads!(TcpStream, UnixStream, PipeReader, ChildStdout, ChildStderr);

/// The sockets are shut down for writing when the writer is closed; one that the peer has closed is that already.
fn shut_down(done: io::Result<()>) -> io::Result<()> {
    match done {
        Err(error) if error.kind() == io::ErrorKind::NotConnected => Ok(()),
        done => done,
    }
}

writes! {
    /// Closing shuts the socket down for writing.
    TcpStream, |it: &TcpStream| shut_down(it.shutdown(Shutdown::Write));
    /// Closing shuts the socket down for writing.
    UnixStream, |it: &UnixStream| shut_down(it.shutdown(Shutdown::Write));
    /// Closing does nothing: dropping does.
    PipeWriter, |_| Ok(());
    /// Closing does nothing: dropping does.
    ChildStdin, |_| Ok(());
}
