//! [`copy`]: bytes from a reader to a writer, inside the kernel where it can.
//!
//! | from | to | by |
//! |---|---|---|
//! | a file | a socket or a pipe | `sendfile` |
//! | a socket or a pipe | a pipe | `splice` |
//! | a pipe | a socket | `splice` |
//! | a socket | a socket | `splice` into a pipe of our own, and out of it |
//! | a file | a file | std's `copy`, which knows `copy_file_range` |
//! | all else | | a buffer |
//!
//! What the kernel refuses (a file system without it, say) before the first byte goes by way of a buffer. A reader or
//! writer that is wrapped in something is something else: its wrapper may hold bytes.

use super::{PipeReader, PipeWriter, pipe};
use crate::net::{TcpStream, UnixStream};
use crate::process::{ChildStderr, ChildStdin, ChildStdout};
use crate::sched::{Side, Source};
use crate::sys::copy as sys;
use crate::wait::WaitKind;
use std::any::TypeId;
use std::fs::File;
use std::io::{self, Read, Write};
use std::marker::PhantomData;
use std::os::fd::{AsFd, BorrowedFd};

/// As std's.
const BUFFER: usize = 8 * 1024;
/// The most that is moved in one call; others at home have a turn in between.
const AT_ONCE: usize = 1 << 20;
/// What a pipe of ours holds.
const PIPE: usize = 1 << 16;

/// Copies all that is left of a reader to a writer, as [`std::io::copy`]. Returns how many bytes that was.
///
/// Between files, sockets and pipes (those of this crate, [`std::fs::File`], and references to them) the bytes
/// stay in the kernel.
///
/// Blocks: the goroutine, or else the thread.
///
/// # Errors
/// The reader's or the writer's. What was read and not written by then is lost.
///
/// # Examples
///
/// ```
/// # fn main() -> std::io::Result<()> {
/// let mut copy = Vec::new();
/// assert_eq!(strands::io::copy(&mut &b"from here"[..], &mut copy)?, 9);
/// assert_eq!(copy, b"from here");
/// # Ok(())
/// # }
/// ```
pub fn copy<R, W>(reader: &mut R, writer: &mut W) -> io::Result<u64>
where
    R: Read + ?Sized,
    W: Write + ?Sized,
{
    match (End::of(reader), End::of(writer)) {
        (Some(End::File(from)), Some(End::File(to))) => {
            return io::copy(&mut sys::file(from).by_ref(), &mut sys::file(to).by_ref());
        }
        (Some(from), Some(to)) => {
            if let Some(copied) = in_kernel(from, to)? {
                return Ok(copied);
            }
        }
        _ => {}
    }
    by_buffer(reader, writer)
}

fn by_buffer<R, W>(reader: &mut R, writer: &mut W) -> io::Result<u64>
where
    R: Read + ?Sized,
    W: Write + ?Sized,
{
    let mut buffer = [0; BUFFER];
    let mut copied = 0;
    loop {
        match reader.read(&mut buffer) {
            Ok(0) => return Ok(copied),
            Ok(read) => {
                writer.write_all(&buffer[..read])?;
                copied += read as u64;
            }
            Err(error) if error.kind() == io::ErrorKind::Interrupted => {}
            Err(error) => return Err(error),
        }
    }
}

/// An end that the kernel can copy from or to.
#[derive(Clone, Copy)]
enum End<'a> {
    File(BorrowedFd<'a>),
    Pipe(&'a Source),
    Socket(&'a Source),
}

impl<'a> End<'a> {
    /// What this is, if it is one of those that we know, or a reference to one.
    fn of<T: ?Sized>(it: &'a T) -> Option<End<'a>> {
        fn as_a<T: ?Sized, U: 'static>(it: &T) -> Option<&U> {
            // SAFETY: it is a `U`: types of the same id differ in lifetimes at most, of which `U` has none.
            (id_of::<T>() == id_of::<U>()).then(|| unsafe { &*(&raw const *it).cast::<U>() })
        }
        fn find<'a, T: ?Sized, U: 'static>(it: &'a T) -> Option<&'a U> {
            let is_reference = id_of::<T>() == id_of::<&U>() || id_of::<T>() == id_of::<&mut U>();
            if is_reference {
                // SAFETY: it is a `&U` or a `&mut U`, either a pointer to one that is borrowed for at least as long
                // as this reference to it.
                return Some(unsafe { *(&raw const *it).cast::<&'a U>() });
            }
            as_a::<T, U>(it)
        }
        None.or_else(|| find::<T, File>(it).map(|it| End::File(it.as_fd())))
            .or_else(|| find::<T, crate::fs::File>(it).map(|it| End::File(it.as_fd())))
            .or_else(|| find::<T, TcpStream>(it).map(|it| End::Socket(it.source())))
            .or_else(|| find::<T, UnixStream>(it).map(|it| End::Socket(it.source())))
            .or_else(|| find::<T, PipeReader>(it).map(|it| End::Pipe(&it.source)))
            .or_else(|| find::<T, PipeWriter>(it).map(|it| End::Pipe(&it.source)))
            .or_else(|| find::<T, ChildStdin>(it).map(|it| End::Pipe(&it.source)))
            .or_else(|| find::<T, ChildStdout>(it).map(|it| End::Pipe(&it.source)))
            .or_else(|| find::<T, ChildStderr>(it).map(|it| End::Pipe(&it.source)))
    }
}

/// The id of a type, its lifetimes aside.
fn id_of<T: ?Sized>() -> TypeId {
    trait Named {
        fn id(&self) -> TypeId
        where
            Self: 'static;
    }
    impl<T: ?Sized> Named for PhantomData<T> {
        fn id(&self) -> TypeId
        where
            Self: 'static,
        {
            TypeId::of::<T>()
        }
    }
    let named: &dyn Named = &PhantomData::<T>;
    // SAFETY: only the bound on the lifetime changes. The function that is called by it names the type, and looks
    // at no value of it.
    unsafe { std::mem::transmute::<&dyn Named, &(dyn Named + 'static)>(named) }.id()
}

/// `None`: the kernel will not, and nothing was copied.
fn in_kernel(from: End<'_>, to: End<'_>) -> io::Result<Option<u64>> {
    match (from, to) {
        (End::File(from), End::Pipe(to) | End::Socket(to)) => {
            let send = || sys::send_file(from, to.fd(), AT_ONCE);
            to_the_end(&mut || {
                let sent = to.run(Side::Write, WaitKind::IoWrite, send);
                // A fast peer never lets us wait.
                crate::everyday::yield_now();
                sent
            })
        }
        (End::Pipe(from), End::Socket(to))
        | (End::Pipe(from) | End::Socket(from), End::Pipe(to)) => {
            to_the_end(&mut || splice(from, to, AT_ONCE))
        }
        (End::Socket(from), End::Socket(to)) => {
            let (reader, writer) = pipe()?;
            let mut step = || {
                let read = splice(from, &writer.source, PIPE)?;
                let mut left = read;
                while left > 0 {
                    left -= splice(&reader.source, to, left)?;
                }
                Ok(read)
            };
            to_the_end(&mut step)
        }
        (_, End::File(_)) => Ok(None),
    }
}

/// Takes steps until one moves nothing.
fn to_the_end(step: &mut dyn FnMut() -> io::Result<usize>) -> io::Result<Option<u64>> {
    let mut copied = 0;
    loop {
        match step() {
            Ok(0) => return Ok(Some(copied)),
            Ok(moved) => copied += moved as u64,
            Err(error) if copied == 0 && sys::is_refusal(&error) => return Ok(None),
            Err(error) => return Err(error),
        }
    }
}

/// Moves up to so many bytes, and waits for either end if it must.
fn splice(from: &Source, to: &Source, most: usize) -> io::Result<usize> {
    loop {
        // It would block for want of bytes or of room, and does not say of which.
        let moved = from.run(Side::Read, WaitKind::IoRead, || {
            match sys::splice(from.fd(), to.fd(), most) {
                Err(error)
                    if error.kind() == io::ErrorKind::WouldBlock && sys::has_bytes(from.fd()) =>
                {
                    Ok(None)
                }
                moved => moved.map(Some),
            }
        })?;
        match moved {
            Some(moved) => return Ok(moved),
            None => {
                let room = || match sys::has_room(to.fd()) {
                    true => Ok(()),
                    false => Err(io::ErrorKind::WouldBlock.into()),
                };
                to.run(Side::Write, WaitKind::IoWrite, room)?;
            }
        }
    }
}
