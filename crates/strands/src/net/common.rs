//! What sockets of all kinds have in common.

use crate::sched::{Side, Source};
use std::io;
use std::time::Duration;

/// The descriptor, coming and going.
macro_rules! descriptors {
    ($ours:ident, $std:ty) => {
        impl $ours {
            /// As std's, for the calls that do not wait.
            pub(super) fn std(&self) -> View<'_, $std> {
                View::of(self.source.fd())
            }
        }

        impl AsFd for $ours {
            fn as_fd(&self) -> BorrowedFd<'_> {
                self.source.exposed_fd()
            }
        }

        /// The descriptor is in non-blocking mode, and has to stay so.
        impl AsRawFd for $ours {
            fn as_raw_fd(&self) -> RawFd {
                self.source.exposed_fd().as_raw_fd()
            }
        }

        impl FromRawFd for $ours {
            unsafe fn from_raw_fd(fd: RawFd) -> $ours {
                // SAFETY: the caller's promise.
                <$ours>::from(unsafe { OwnedFd::from_raw_fd(fd) })
            }
        }

        impl IntoRawFd for $ours {
            fn into_raw_fd(self) -> RawFd {
                OwnedFd::from(self).into_raw_fd()
            }
        }

        impl From<OwnedFd> for $ours {
            fn from(fd: OwnedFd) -> $ours {
                <$ours>::from(<$std>::from(fd))
            }
        }

        /// Blocking again, unless it was set to be non-blocking. If there are clones it is a copy, and shares the
        /// non-blocking mode with them.
        ///
        /// # Panics
        /// If there are clones, and a descriptor for a copy is refused.
        impl From<$ours> for OwnedFd {
            fn from(ours: $ours) -> OwnedFd {
                <$std>::from(ours).into()
            }
        }
    };
}

/// `From` both ways; `$timeouts` moves the timeouts along.
macro_rules! conversions {
    ($ours:ident, $std:ty) => {
        /// It is in non-blocking mode from now on, and so is every copy of its descriptor; its calls block the
        /// goroutine nevertheless, until [`set_nonblocking`](Self::set_nonblocking) says otherwise.
        impl From<$std> for $ours {
            fn from(std: $std) -> $ours {
                let mode = std.set_nonblocking(true);
                mode.expect("a socket that is open has a mode");
                let ours = $ours { source: Source::new(std.into()) };
                ours.timeouts_from_std();
                ours
            }
        }

        /// Blocking again, unless it was set to be non-blocking. If there are clones it is a copy, and shares the
        /// non-blocking mode with them.
        ///
        /// # Panics
        /// If there are clones, and a descriptor for a copy is refused.
        impl From<$ours> for $std {
            fn from(ours: $ours) -> $std {
                ours.timeouts_to_std();
                let stays = ours.source.is_nonblocking() || ours.source.has_clones();
                let fd = ours.source.into_fd();
                let std = <$std>::from(fd.expect("a copy of the descriptor was refused"));
                if !stays {
                    let mode = std.set_nonblocking(false);
                    mode.expect("a socket that is open has a mode");
                }
                std
            }
        }
    };
}

/// Read and write timeouts.
macro_rules! timeouts {
    ($ours:ident) => {
        impl $ours {
            /// For how long a read waits; `None`: for ever. Clones share it.
            ///
            /// # Errors
            /// [`InvalidInput`](io::ErrorKind::InvalidInput) for zero. A read that has waited in vain fails with
            /// [`WouldBlock`](io::ErrorKind::WouldBlock), as std's does on Unix.
            pub fn set_read_timeout(&self, timeout: Option<Duration>) -> io::Result<()> {
                common::set_timeout(&self.source, Side::Read, timeout)
            }

            /// For how long a write waits; `None`: for ever. Clones share it.
            ///
            /// # Errors
            /// As for [`set_read_timeout`](Self::set_read_timeout).
            pub fn set_write_timeout(&self, timeout: Option<Duration>) -> io::Result<()> {
                common::set_timeout(&self.source, Side::Write, timeout)
            }

            /// For how long a read waits.
            ///
            /// # Errors
            /// None; std has them.
            pub fn read_timeout(&self) -> io::Result<Option<Duration>> {
                Ok(self.source.timeout(Side::Read))
            }

            /// For how long a write waits.
            ///
            /// # Errors
            /// None; std has them.
            pub fn write_timeout(&self) -> io::Result<Option<Duration>> {
                Ok(self.source.timeout(Side::Write))
            }

            /// What std has the kernel remember, the source does.
            fn timeouts_from_std(&self) {
                let std = self.std();
                for (side, timeout) in
                    [(Side::Read, std.read_timeout()), (Side::Write, std.write_timeout())]
                {
                    self.source.set_timeout(side, timeout.ok().flatten());
                }
            }

            fn timeouts_to_std(&self) {
                let std = self.std();
                // Those that are not set need not be: a socket of ours has none in the kernel. They fail for no socket.
                if let Some(timeout) = self.source.timeout(Side::Read) {
                    let _ = std.set_read_timeout(Some(timeout));
                }
                if let Some(timeout) = self.source.timeout(Side::Write) {
                    let _ = std.set_write_timeout(Some(timeout));
                }
            }
        }
    };
}

/// What is the same for every kind: errors that are pending, the mode.
macro_rules! common_calls {
    ($ours:ident) => {
        impl $ours {
            /// The error that is pending on the socket, which is cleared.
            ///
            /// # Errors
            /// The kernel's.
            pub fn take_error(&self) -> io::Result<Option<io::Error>> {
                self.std().take_error()
            }

            /// Chooses whether calls that would wait fail with [`WouldBlock`](io::ErrorKind::WouldBlock) instead. Clones
            /// share it.
            ///
            /// This is about our calls alone: the descriptor itself is in non-blocking mode always.
            ///
            /// # Errors
            /// None; std has them.
            pub fn set_nonblocking(&self, nonblocking: bool) -> io::Result<()> {
                self.source.set_nonblocking(nonblocking);
                Ok(())
            }

            /// The same socket once more: both share everything, and the descriptor is closed with the last.
            ///
            /// # Errors
            /// None; std, which makes a copy of the descriptor, has them.
            pub fn try_clone(&self) -> io::Result<$ours> {
                Ok($ours { source: self.source.clone() })
            }
        }
    };
}

pub(super) use {common_calls, conversions, descriptors, timeouts};

pub(super) fn set_timeout(
    source: &Source,
    side: Side,
    timeout: Option<Duration>,
) -> io::Result<()> {
    if timeout == Some(Duration::ZERO) {
        return Err(io::Error::new(io::ErrorKind::InvalidInput, "cannot set a 0 duration timeout"));
    }
    source.set_timeout(side, timeout);
    Ok(())
}
