//! [`Child`], and its streams.

use super::{ExitStatus, Output};
use crate::everyday::blocking;
use crate::io::{pipe_end, pipe_reads, pipe_writes};
use crate::sched::{Side, Source};
use crate::sys::process as sys;
use crate::wait::WaitKind;
use std::fmt;
use std::future::poll_fn;
use std::io::{self, IoSlice, IoSliceMut, Read, Write};
use std::os::fd::{AsFd, AsRawFd, BorrowedFd, FromRawFd, IntoRawFd, OwnedFd, RawFd};
use std::process;
use std::task::{Context, Poll};

/// What is read at a time of what a child says.
const PIECE: usize = 32 * 1024;

/// A process that was started, as [`std::process::Child`]. Dropping it neither ends the process nor waits for it.
#[derive(Debug)]
pub struct Child {
    std: process::Child,
    /// Its standard input, if that was piped and has not been taken out.
    pub stdin: Option<ChildStdin>,
    /// Its standard output, likewise.
    pub stdout: Option<ChildStdout>,
    /// Its standard error, likewise.
    pub stderr: Option<ChildStderr>,
}

impl Child {
    /// The process's number.
    pub fn id(&self) -> u32 {
        self.std.id()
    }

    /// Ends it by force. No error if it has ended by itself.
    ///
    /// # Errors
    /// The kernel's.
    pub fn kill(&mut self) -> io::Result<()> {
        self.std.kill()
    }

    /// How it ended, if it has. Never blocks.
    ///
    /// # Errors
    /// The kernel's.
    pub fn try_wait(&mut self) -> io::Result<Option<ExitStatus>> {
        self.std.try_wait()
    }

    /// Closes its input, and waits for its end.
    ///
    /// Blocks: the goroutine, or else the thread.
    ///
    /// # Errors
    /// The kernel's.
    pub fn wait(&mut self) -> io::Result<ExitStatus> {
        // As std does: one that waits for the end of its input would never end.
        drop(self.stdin.take());
        if !crate::sched::is_goroutine() {
            return self.std.wait();
        }
        if let Some(status) = self.std.try_wait()? {
            return Ok(status);
        }
        match self.end() {
            Ok(end) => end.run(Side::Read, WaitKind::Child, || self.ended()),
            Err(_) => blocking(|| self.std.wait()),
        }
    }

    /// As a future: closes its input, and waits for its end. Cancel-safe, and for any executor: so with
    /// [`Context::run`](crate::context::Context::run) one waits as long as a context allows.
    ///
    /// # Errors
    /// The kernel's, which has to be Linux 5.3 or later.
    ///
    /// # Examples
    ///
    /// ```
    /// use std::time::Duration;
    /// use strands::context::{self, ContextError};
    /// use strands::process::Command;
    ///
    /// # fn main() -> std::io::Result<()> {
    /// let mut child = Command::new("sleep").arg("60").spawn()?;
    /// let (ctx, _cancel) = context::with_timeout(&context::background(), Duration::from_millis(1));
    /// let waited = ctx.run(child.wait_async());
    /// assert_eq!(waited.unwrap_err(), ContextError::DeadlineExceeded);
    /// child.kill()?;
    /// assert!(!child.wait()?.success());
    /// # Ok(())
    /// # }
    /// ```
    pub async fn wait_async(&mut self) -> io::Result<ExitStatus> {
        drop(self.stdin.take());
        if let Some(status) = self.std.try_wait()? {
            return Ok(status);
        }
        let end = self.end()?;
        let visitor = end.visit(Side::Read);
        poll_fn(move |cx| visitor.poll_run(cx, || self.ended())).await
    }

    /// What becomes readable when it has ended.
    fn end(&self) -> io::Result<Source> {
        sys::pidfd(self.std.id()).map(Source::new)
    }

    fn ended(&mut self) -> io::Result<ExitStatus> {
        self.std.try_wait()?.ok_or_else(|| io::ErrorKind::WouldBlock.into())
    }

    /// Closes its input, reads to the end of what it says on its output and its error (both at once, so that it need
    /// not wait for us to read the other), and waits for its end.
    ///
    /// Blocks: the goroutine, or else the thread.
    ///
    /// # Errors
    /// Those of reading and waiting.
    pub fn wait_with_output(mut self) -> io::Result<Output> {
        if !crate::sched::is_goroutine() {
            return process::Child::from(self).wait_with_output();
        }
        drop(self.stdin.take());
        let (mut stdout, mut stderr) = (Vec::new(), Vec::new());
        match (self.stdout.take(), self.stderr.take()) {
            (Some(out), Some(err)) => read_both((out, &mut stdout), (err, &mut stderr))?,
            (out, err) => {
                if let Some(mut out) = out {
                    out.read_to_end(&mut stdout)?;
                }
                if let Some(mut err) = err {
                    err.read_to_end(&mut stderr)?;
                }
            }
        }
        Ok(Output { status: self.wait()?, stdout, stderr })
    }
}

fn read_both(
    (out, stdout): (ChildStdout, &mut Vec<u8>),
    (err, stderr): (ChildStderr, &mut Vec<u8>),
) -> io::Result<()> {
    let mut piece = vec![0; PIECE];
    let (mut out_is_open, mut err_is_open) = (true, true);
    crate::task::block_on(poll_fn(|cx| {
        if out_is_open {
            let read = |cx: &mut Context<'_>, piece: &mut [u8]| out.poll_read(cx, piece);
            out_is_open = read_what_is_there(cx, &mut piece, stdout, read)?;
        }
        if err_is_open {
            let read = |cx: &mut Context<'_>, piece: &mut [u8]| err.poll_read(cx, piece);
            err_is_open = read_what_is_there(cx, &mut piece, stderr, read)?;
        }
        if out_is_open || err_is_open { Poll::Pending } else { Poll::Ready(Ok(())) }
    }))
}

/// False: that was the end.
fn read_what_is_there(
    cx: &mut Context<'_>,
    piece: &mut [u8],
    into: &mut Vec<u8>,
    read: impl Fn(&mut Context<'_>, &mut [u8]) -> Poll<io::Result<usize>>,
) -> io::Result<bool> {
    loop {
        match read(cx, piece) {
            Poll::Pending => return Ok(true),
            Poll::Ready(read) => match read? {
                0 => return Ok(false),
                n => into.extend_from_slice(&piece[..n]),
            },
        }
    }
}

impl From<process::Child> for Child {
    fn from(mut std: process::Child) -> Child {
        let stdin = std.stdin.take().map(ChildStdin::from);
        let stdout = std.stdout.take().map(ChildStdout::from);
        let stderr = std.stderr.take().map(ChildStderr::from);
        Child { std, stdin, stdout, stderr }
    }
}

impl From<Child> for process::Child {
    fn from(ours: Child) -> process::Child {
        let Child { mut std, stdin, stdout, stderr } = ours;
        std.stdin = stdin.map(process::ChildStdin::from);
        std.stdout = stdout.map(process::ChildStdout::from);
        std.stderr = stderr.map(process::ChildStderr::from);
        std
    }
}

/// A pipe to a child's standard input. Dropping it closes the pipe, which is what the child sees as the end.
pub struct ChildStdin {
    pub(crate) source: Source,
}

/// A pipe from a child's standard output.
pub struct ChildStdout {
    pub(crate) source: Source,
}

/// A pipe from a child's standard error.
pub struct ChildStderr {
    pub(crate) source: Source,
}

pipe_end!(ChildStdin, process::ChildStdin);
pipe_writes!(ChildStdin);
pipe_end!(ChildStdout, process::ChildStdout);
pipe_reads!(ChildStdout);
pipe_end!(ChildStderr, process::ChildStderr);
pipe_reads!(ChildStderr);
