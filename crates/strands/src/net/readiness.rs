//! Waiting until a socket is ready, as an arm of a select and otherwise.

use super::{TcpListener, TcpStream, UdpSocket, UnixDatagram, UnixListener, UnixStream};
use crate::sched::{Place, Side, Source};
use crate::selection::{self, Arm, Claim, Enlisted, Sealed, Stand, Until, token_of};
use crate::wait::FIRST_FREE;
use std::cell::Cell;
use std::fmt;
use std::io;
use std::task::{Context, Poll};

/// The kinds of claim: there was an edge, or the arm found that the side was ready.
const EDGE: usize = FIRST_FREE;
const ONESELF: usize = FIRST_FREE + 1;

/// That a call would succeed at once, or fail: what `ready(…)` in a [`select!`](crate::select) waits for.
///
/// Somebody else may be quicker with the call, which then waits after all.
///
/// # Examples
///
/// ```
/// use std::io::{Read, Write};
/// use std::time::Duration;
/// use strands::channel::{after, bounded};
/// use strands::net::UnixStream;
/// use strands::select;
///
/// # fn main() -> std::io::Result<()> {
/// let (mut one, mut other) = UnixStream::pair()?;
/// let (_quit, quitting) = bounded::<()>(1);
/// let hello = strands::go(move || one.write_all(b"hello").map(|()| one));
/// let mut buffer = [0; 16];
/// let length = select! {
///     ready(other.readable()) -> ready => ready.and_then(|()| other.read(&mut buffer))?,
///     recv(quitting) -> _ => 0,
///     recv(after(Duration::from_secs(10))) -> _ => 0,
/// };
/// assert_eq!(&buffer[..length], b"hello");
/// # hello.join().unwrap()?;
/// # Ok(())
/// # }
/// ```
#[derive(Clone, Copy)]
#[must_use = "it is for `select!`, or to be waited for"]
pub struct Readiness<'a> {
    source: &'a Source,
    side: Side,
}

impl<'a> Readiness<'a> {
    /// Waits until it is so.
    ///
    /// Blocks: the goroutine, or else the thread.
    ///
    /// # Errors
    /// The kernel has refused to tell.
    pub fn wait(self) -> io::Result<()> {
        let arm = self.__ready_arm();
        selection::select(&[&arm], true, Until::Served);
        arm.finish()
    }

    /// Whether it is so now.
    pub fn is_ready(self) -> bool {
        self.source.is_ready(self.side)
    }

    async fn wait_async(self) -> io::Result<()> {
        let visitor = self.source.visit(self.side);
        let poll = move |cx: &mut Context<'_>| loop {
            std::task::ready!(visitor.poll_ready(cx))?;
            if self.source.is_ready(self.side) {
                return Poll::Ready(Ok(()));
            }
        };
        std::future::poll_fn(poll).await
    }

    /// What `select!` expands to.
    #[doc(hidden)]
    pub fn __ready_arm(self) -> ReadyArm<'a> {
        ReadyArm {
            source: self.source,
            side: self.side,
            place: Place::new(),
            error: Cell::new(None),
        }
    }
}

impl fmt::Debug for Readiness<'_> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_tuple("Readiness").field(&self.side).field(self.source).finish()
    }
}

macro_rules! readiness {
    ($($name:ident, $name_async:ident: $side:ident of $($socket:ident),+; $what:literal)*) => {$($(
        impl $socket {
            #[doc = concat!("That ", $what, ": for [`select!`](crate::select), or to be waited for.")]
            pub fn $name(&self) -> Readiness<'_> {
                Readiness { source: &self.source, side: Side::$side }
            }

            #[doc = concat!("As a future: waits until ", $what, ". Cancel-safe.")]
            ///
            /// # Errors
            /// The kernel has refused to tell.
            pub async fn $name_async(&self) -> io::Result<()> {
                self.$name().wait_async().await
            }
        }
    )+)*};
}

readiness! {
    readable, readable_async: Read of TcpStream, UdpSocket, UnixStream, UnixDatagram;
    "there is something to be read, or the end"
    writable, writable_async: Write of TcpStream, UdpSocket, UnixStream, UnixDatagram;
    "there is room for something to be written"
    acceptable, acceptable_async: Read of TcpListener, UnixListener;
    "there is a connection to be accepted"
}

/// A socket's readiness as an arm of a select.
pub struct ReadyArm<'a> {
    source: &'a Source,
    side: Side,
    place: Place,
    error: Cell<Option<io::Error>>,
}

impl ReadyArm<'_> {
    /// Whether the kernel has told. For the arm that has won.
    ///
    /// # Errors
    /// It has refused to.
    pub fn finish(&self) -> io::Result<()> {
        self.error.take().map_or(Ok(()), Err)
    }
}

impl Sealed for ReadyArm<'_> {}

impl Arm for ReadyArm<'_> {
    fn attempt(&self) -> bool {
        self.source.is_ready(self.side)
    }

    fn enlist(&self, stand: Stand<'_>) -> Enlisted {
        loop {
            let token = token_of(EDGE, stand.index);
            // SAFETY: arm and waiter stay until `withdraw`, the engine's promise.
            let joined = unsafe { self.source.join(self.side, &self.place, stand.waiter, token) };
            let error = match joined {
                Ok(true) => return Enlisted::InLine,
                // There was an edge. It may be old.
                Ok(false) if !self.source.is_ready(self.side) => continue,
                Ok(false) => None,
                Err(error) => Some(error),
            };
            if !stand.waiter.try_claim(token_of(ONESELF, stand.index)) {
                return Enlisted::Taken;
            }
            self.error.set(error);
            return Enlisted::Done;
        }
    }

    fn withdraw(&self) {
        self.source.leave(&self.place);
    }

    fn accept(&self, _claim: Claim) -> bool {
        // Others were woken, too, and may have been quicker.
        self.source.is_ready(self.side)
    }

    fn is_ready(&self) -> bool {
        self.attempt()
    }

    fn watch(&self, stand: Stand<'_>) -> Enlisted {
        self.enlist(stand)
    }

    fn unwatch(&self) {
        self.withdraw();
    }
}

impl fmt::Debug for ReadyArm<'_> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.pad("ReadyArm { .. }")
    }
}
