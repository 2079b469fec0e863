//! [`File`] and [`OpenOptions`].

use super::{FileTimes, Metadata, Permissions, TryLockError, at};
use crate::everyday::blocking;
use std::fmt;
use std::fs;
use std::io::{self, IoSlice, IoSliceMut, Read, Seek, SeekFrom, Write};
use std::os::fd::{AsFd, AsRawFd, BorrowedFd, FromRawFd, IntoRawFd, OwnedFd, RawFd};
use std::os::unix::fs::{FileExt, OpenOptionsExt};
use std::path::Path;
use std::process::Stdio;
use std::time::SystemTime;

/// Whether calls may wait for somebody who never comes: a writer, a key.
pub(super) fn may_take_any_time(metadata: &Metadata) -> bool {
    !metadata.is_file() && !metadata.is_dir()
}

/// An open file, as [`std::fs::File`].
///
/// A regular file is read and written right here; what is none (a FIFO, a terminal, a device) by a spare thread, if
/// it is a goroutine that does. See [the module](super).
pub struct File {
    std: fs::File,
    is_slow: bool,
}

impl File {
    /// Opens a file to be read.
    ///
    /// Blocks: the goroutine, if it is no regular file, or else the thread.
    ///
    /// # Errors
    /// [`NotFound`](io::ErrorKind::NotFound), say.
    pub fn open<P: AsRef<Path>>(path: P) -> io::Result<File> {
        OpenOptions::new().read(true).open(path)
    }

    /// Opens a file to be written, empty; makes it if there is none.
    ///
    /// Blocks: as for [`open`](File::open).
    ///
    /// # Errors
    /// The system's.
    pub fn create<P: AsRef<Path>>(path: P) -> io::Result<File> {
        OpenOptions::new().write(true).create(true).truncate(true).open(path)
    }

    /// Makes a file, to be read and written.
    ///
    /// # Errors
    /// [`AlreadyExists`](io::ErrorKind::AlreadyExists) if there is one.
    pub fn create_new<P: AsRef<Path>>(path: P) -> io::Result<File> {
        OpenOptions::new().read(true).write(true).create_new(true).open(path)
    }

    /// How else to open one.
    pub fn options() -> OpenOptions {
        OpenOptions::new()
    }

    /// Does this here, or on a spare thread if it may take any time.
    fn run<T: Send>(&self, f: impl FnOnce(&fs::File) -> T + Send) -> T {
        if self.is_slow { blocking(|| f(&self.std)) } else { f(&self.std) }
    }

    /// Waits until all that was written is on the disk, with what there is to know of the file.
    ///
    /// Blocks: the goroutine, or else the thread.
    ///
    /// # Errors
    /// The disk's: also those of earlier writes.
    pub fn sync_all(&self) -> io::Result<()> {
        blocking(|| self.std.sync_all())
    }

    /// Waits until all that was written is on the disk.
    ///
    /// Blocks: the goroutine, or else the thread.
    ///
    /// # Errors
    /// As for [`sync_all`](File::sync_all).
    pub fn sync_data(&self) -> io::Result<()> {
        blocking(|| self.std.sync_data())
    }

    /// Sets its length, cutting off or filling up with zeros.
    ///
    /// # Errors
    /// The system's.
    pub fn set_len(&self, size: u64) -> io::Result<()> {
        self.std.set_len(size)
    }

    /// Locks it against others who lock it.
    ///
    /// Blocks: the goroutine, or else the thread, until nobody else has a lock.
    ///
    /// # Errors
    /// The system's.
    pub fn lock(&self) -> io::Result<()> {
        match self.std.try_lock() {
            Err(TryLockError::WouldBlock) => blocking(|| self.std.lock()),
            Err(TryLockError::Error(error)) => Err(error),
            Ok(()) => Ok(()),
        }
    }

    /// Locks it against others who [`lock`](File::lock) it, together with others of this call.
    ///
    /// Blocks: as for [`lock`](File::lock).
    ///
    /// # Errors
    /// The system's.
    pub fn lock_shared(&self) -> io::Result<()> {
        match self.std.try_lock_shared() {
            Err(TryLockError::WouldBlock) => blocking(|| self.std.lock_shared()),
            Err(TryLockError::Error(error)) => Err(error),
            Ok(()) => Ok(()),
        }
    }

    /// Locks it if that can be done at once.
    ///
    /// # Errors
    /// [`WouldBlock`](TryLockError::WouldBlock) if not, or the system's.
    pub fn try_lock(&self) -> Result<(), TryLockError> {
        self.std.try_lock()
    }

    /// Locks it with others if that can be done at once.
    ///
    /// # Errors
    /// [`WouldBlock`](TryLockError::WouldBlock) if not, or the system's.
    pub fn try_lock_shared(&self) -> Result<(), TryLockError> {
        self.std.try_lock_shared()
    }

    /// Gives the lock up.
    ///
    /// # Errors
    /// The system's.
    pub fn unlock(&self) -> io::Result<()> {
        self.std.unlock()
    }

    /// What there is to know of it.
    ///
    /// # Errors
    /// The system's.
    pub fn metadata(&self) -> io::Result<Metadata> {
        self.std.metadata()
    }

    /// The same open file once more, as [`std::fs::File::try_clone`]: both stand at one place in it.
    ///
    /// # Errors
    /// There are no descriptors left.
    pub fn try_clone(&self) -> io::Result<File> {
        Ok(File { std: self.std.try_clone()?, is_slow: self.is_slow })
    }

    /// Sets who may do what with it.
    ///
    /// # Errors
    /// The system's.
    pub fn set_permissions(&self, permissions: Permissions) -> io::Result<()> {
        self.std.set_permissions(permissions)
    }

    /// Sets when it was read and changed last.
    ///
    /// # Errors
    /// The system's.
    pub fn set_times(&self, times: FileTimes) -> io::Result<()> {
        self.std.set_times(times)
    }

    /// Sets when it was changed last.
    ///
    /// # Errors
    /// The system's.
    pub fn set_modified(&self, time: SystemTime) -> io::Result<()> {
        self.std.set_modified(time)
    }
}

/// Blocks: the goroutine, if it is no regular file, or else the thread.
impl Read for &File {
    fn read(&mut self, buffer: &mut [u8]) -> io::Result<usize> {
        self.run(|mut file| file.read(buffer))
    }

    fn read_vectored(&mut self, buffers: &mut [IoSliceMut<'_>]) -> io::Result<usize> {
        self.run(|mut file| file.read_vectored(buffers))
    }

    fn read_to_end(&mut self, into: &mut Vec<u8>) -> io::Result<usize> {
        self.run(|mut file| file.read_to_end(into))
    }

    fn read_to_string(&mut self, into: &mut String) -> io::Result<usize> {
        self.run(|mut file| file.read_to_string(into))
    }
}

/// Blocks: the goroutine, if it is no regular file, or else the thread.
impl Write for &File {
    fn write(&mut self, buffer: &[u8]) -> io::Result<usize> {
        self.run(|mut file| file.write(buffer))
    }

    fn write_vectored(&mut self, buffers: &[IoSlice<'_>]) -> io::Result<usize> {
        self.run(|mut file| file.write_vectored(buffers))
    }

    fn flush(&mut self) -> io::Result<()> {
        Ok(())
    }
}

impl Seek for &File {
    fn seek(&mut self, to: SeekFrom) -> io::Result<u64> {
        (&self.std).seek(to)
    }
}

impl Read for File {
    fn read(&mut self, buffer: &mut [u8]) -> io::Result<usize> {
        (&*self).read(buffer)
    }

    fn read_vectored(&mut self, buffers: &mut [IoSliceMut<'_>]) -> io::Result<usize> {
        (&*self).read_vectored(buffers)
    }

    fn read_to_end(&mut self, into: &mut Vec<u8>) -> io::Result<usize> {
        (&*self).read_to_end(into)
    }

    fn read_to_string(&mut self, into: &mut String) -> io::Result<usize> {
        (&*self).read_to_string(into)
    }
}

impl Write for File {
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

impl Seek for File {
    fn seek(&mut self, to: SeekFrom) -> io::Result<u64> {
        self.std.seek(to)
    }
}

impl FileExt for File {
    fn read_at(&self, buffer: &mut [u8], offset: u64) -> io::Result<usize> {
        self.run(|file| file.read_at(buffer, offset))
    }

    fn write_at(&self, buffer: &[u8], offset: u64) -> io::Result<usize> {
        self.run(|file| file.write_at(buffer, offset))
    }
}

impl From<fs::File> for File {
    fn from(std: fs::File) -> File {
        // Of what cannot be looked at one must expect anything.
        let is_slow = std.metadata().as_ref().map_or(true, may_take_any_time);
        File { std, is_slow }
    }
}

impl From<File> for fs::File {
    fn from(ours: File) -> fs::File {
        ours.std
    }
}

impl From<OwnedFd> for File {
    fn from(fd: OwnedFd) -> File {
        File::from(fs::File::from(fd))
    }
}

impl From<File> for OwnedFd {
    fn from(ours: File) -> OwnedFd {
        ours.std.into()
    }
}

/// For a child to have it.
impl From<File> for Stdio {
    fn from(ours: File) -> Stdio {
        ours.std.into()
    }
}

impl AsFd for File {
    fn as_fd(&self) -> BorrowedFd<'_> {
        self.std.as_fd()
    }
}

impl AsRawFd for File {
    fn as_raw_fd(&self) -> RawFd {
        self.std.as_raw_fd()
    }
}

impl FromRawFd for File {
    unsafe fn from_raw_fd(fd: RawFd) -> File {
        // SAFETY: the caller's promise.
        File::from(unsafe { fs::File::from_raw_fd(fd) })
    }
}

impl IntoRawFd for File {
    fn into_raw_fd(self) -> RawFd {
        self.std.into_raw_fd()
    }
}

impl fmt::Debug for File {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        self.std.fmt(f)
    }
}

/// How to open a file, as [`std::fs::OpenOptions`].
#[derive(Clone, Debug)]
pub struct OpenOptions {
    std: fs::OpenOptions,
}

macro_rules! options {
    ($($(#[$doc:meta])* $name:ident;)*) => {$(
        $(#[$doc])*
        pub fn $name(&mut self, $name: bool) -> &mut OpenOptions {
            self.std.$name($name);
            self
        }
    )*};
}

impl OpenOptions {
    /// None: the file is opened for nothing.
    #[allow(clippy::new_without_default, reason = "std's has none")]
    pub fn new() -> OpenOptions {
        OpenOptions { std: fs::OpenOptions::new() }
    }

    options! {
        /// To be read.
        read;
        /// To be written, over what is there.
        write;
        /// To be written, at the end always.
        append;
        /// Empty, if it is there.
        truncate;
        /// To be made, if it is not there.
        create;
        /// To be made, or not opened at all.
        create_new;
    }

    /// Opens the file.
    ///
    /// Blocks: the goroutine, if it is no regular file (a FIFO has to wait for its other end), or else the thread.
    ///
    /// # Errors
    /// The system's; [`InvalidInput`](io::ErrorKind::InvalidInput) for options that contradict each other.
    pub fn open<P: AsRef<Path>>(&self, path: P) -> io::Result<File> {
        let path = path.as_ref();
        at(path, || self.std.open(path)).map(File::from)
    }
}

impl OpenOptionsExt for OpenOptions {
    fn mode(&mut self, mode: u32) -> &mut OpenOptions {
        self.std.mode(mode);
        self
    }

    fn custom_flags(&mut self, flags: i32) -> &mut OpenOptions {
        self.std.custom_flags(flags);
        self
    }
}
