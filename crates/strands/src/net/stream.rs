//! What streams have in common, TCP and Unix: reading and writing.

/// `Read` and `Write`, for the stream and for a reference to it.
macro_rules! stream_io {
    ($ours:ident) => {
        /// Blocks: the goroutine, or else the thread.
        impl Read for &$ours {
            fn read(&mut self, buffer: &mut [u8]) -> io::Result<usize> {
                let fd = self.source.fd();
                self.source.run_read(buffer.len(), || socket::receive(fd, buffer))
            }

            fn read_vectored(&mut self, buffers: &mut [IoSliceMut<'_>]) -> io::Result<usize> {
                let wanted = buffers.iter().map(|buffer| buffer.len()).sum();
                let view = self.std();
                self.source.run_read(wanted, || (&*view).read_vectored(buffers))
            }
        }

        /// A peer that has gone is [`BrokenPipe`](io::ErrorKind::BrokenPipe), and never a signal.
        ///
        /// Blocks: the goroutine, or else the thread.
        impl Write for &$ours {
            fn write(&mut self, buffer: &[u8]) -> io::Result<usize> {
                let fd = self.source.fd();
                self.source.run_write(buffer.len(), || socket::send(fd, buffer))
            }

            fn write_vectored(&mut self, buffers: &[IoSlice<'_>]) -> io::Result<usize> {
                let fd = self.source.fd();
                let wanted = buffers.iter().map(|buffer| buffer.len()).sum();
                self.source.run_write(wanted, || socket::send_vectored(fd, buffers))
            }

            fn flush(&mut self) -> io::Result<()> {
                Ok(())
            }
        }

        /// Blocks: the goroutine, or else the thread.
        impl Read for $ours {
            fn read(&mut self, buffer: &mut [u8]) -> io::Result<usize> {
                (&*self).read(buffer)
            }

            fn read_vectored(&mut self, buffers: &mut [IoSliceMut<'_>]) -> io::Result<usize> {
                (&*self).read_vectored(buffers)
            }
        }

        /// A peer that has gone is [`BrokenPipe`](io::ErrorKind::BrokenPipe), and never a signal.
        ///
        /// Blocks: the goroutine, or else the thread.
        impl Write for $ours {
            fn write(&mut self, buffer: &[u8]) -> io::Result<usize> {
                (&*self).write(buffer)
            }

            fn write_vectored(&mut self, buffers: &[IoSlice<'_>]) -> io::Result<usize> {
                (&*self).write_vectored(buffers)
            }

            fn flush(&mut self) -> io::Result<()> {
                Ok(())
            }
        }

        impl $ours {
            /// Ends reading, writing or both: the peer is told, and whoever waits here, in whatever goroutine or thread,
            /// goes on. Reads find the end of the stream, writes fail with
            /// [`BrokenPipe`](io::ErrorKind::BrokenPipe).
            ///
            /// # Errors
            /// The kernel's: [`NotConnected`](io::ErrorKind::NotConnected) after the peer has reset the connection.
            pub fn shutdown(&self, how: Shutdown) -> io::Result<()> {
                self.std().shutdown(how)
            }

            /// As a future: reads at least a byte, or finds the end of the stream. Cancel-safe: if it is dropped it
            /// has read nothing.
            ///
            /// # Errors
            /// As `read`.
            pub async fn read_async(&self, buffer: &mut [u8]) -> io::Result<usize> {
                let (fd, visitor) = (self.source.fd(), self.source.visit(Side::Read));
                let call = move |cx: &mut task::Context<'_>| {
                    visitor.poll_bytes(buffer.len(), cx, || socket::receive(fd, buffer))
                };
                std::future::poll_fn(call).await
            }

            /// As a future: writes at least a byte of them. Cancel-safe: if it is dropped it has written nothing.
            ///
            /// # Errors
            /// As `write`.
            pub async fn write_async(&self, buffer: &[u8]) -> io::Result<usize> {
                let (fd, visitor) = (self.source.fd(), self.source.visit(Side::Write));
                let call = move |cx: &mut task::Context<'_>| {
                    visitor.poll_bytes(buffer.len(), cx, || socket::send(fd, buffer))
                };
                std::future::poll_fn(call).await
            }

            /// For those who have the kernel move its bytes.
            pub(crate) fn source(&self) -> &Source {
                &self.source
            }

            #[allow(dead_code, reason = "for the traits of the async world")]
            pub(crate) fn poll_read(
                &self,
                cx: &mut task::Context<'_>,
                buffer: &mut [u8],
            ) -> Poll<io::Result<usize>> {
                let fd = self.source.fd();
                let visitor = self.source.pass_by(Side::Read);
                visitor.poll_bytes(buffer.len(), cx, || socket::receive(fd, buffer))
            }

            /// As `poll_read`; the bytes that were read are initialised.
            #[cfg(feature = "hyper")]
            pub(crate) fn poll_read_uninit(
                &self,
                cx: &mut task::Context<'_>,
                buffer: &mut [std::mem::MaybeUninit<u8>],
            ) -> Poll<io::Result<usize>> {
                let fd = self.source.fd();
                let visitor = self.source.pass_by(Side::Read);
                visitor.poll_bytes(buffer.len(), cx, || socket::receive_uninit(fd, buffer))
            }

            #[allow(dead_code, reason = "for the traits of the async world")]
            pub(crate) fn poll_write(
                &self,
                cx: &mut task::Context<'_>,
                buffer: &[u8],
            ) -> Poll<io::Result<usize>> {
                let fd = self.source.fd();
                let visitor = self.source.pass_by(Side::Write);
                visitor.poll_bytes(buffer.len(), cx, || socket::send(fd, buffer))
            }

            #[allow(dead_code, reason = "for traits of the async world that have it")]
            pub(crate) fn poll_write_vectored(
                &self,
                cx: &mut task::Context<'_>,
                buffers: &[IoSlice<'_>],
            ) -> Poll<io::Result<usize>> {
                let fd = self.source.fd();
                let wanted = buffers.iter().map(|buffer| buffer.len()).sum();
                let visitor = self.source.pass_by(Side::Write);
                visitor.poll_bytes(wanted, cx, || socket::send_vectored(fd, buffers))
            }
        }
    };
}

pub(super) use stream_io;
