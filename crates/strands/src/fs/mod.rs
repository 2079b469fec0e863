//! Files and directories, shaped as [`std::fs`].
//!
//! What is in the page cache, or goes there, is read and written right here, as by std: a call takes a microsecond,
//! and a detour by another thread would take fifty. So a slow disk *does* block the thread: within a millisecond or two
//! the runtime sees it, and another thread takes over the goroutines that have not started yet; those at home on
//! this thread wait until the disk has answered. For a file of which one knows that it is slow (on a network, say) there
//! is [`blocking`], around whatever calls.
//!
//! Calls that may take *any* time go to a spare thread by themselves when a goroutine makes them:
//!
//! * opening, reading and writing what is no regular file: a FIFO, a terminal, a device;
//! * [`File::sync_all`], [`File::sync_data`] and [`File::lock`];
//! * [`copy`], [`remove_dir_all`] and [`canonicalize`].
//!
//! ```
//! use std::io::{Read, Seek, Write};
//! use strands::fs::{self, File};
//!
//! # fn main() -> std::io::Result<()> {
//! # let path = std::env::temp_dir().join(format!("strands-fs-{}", std::process::id()));
//! let mut file = File::options().read(true).write(true).create(true).open(&path)?;
//! file.write_all(b"on the disk")?;
//! file.rewind()?;
//! let mut text = String::new();
//! file.read_to_string(&mut text)?;
//! assert_eq!(text, fs::read_to_string(&path)?);
//! fs::remove_file(&path)
//! # }
//! ```

mod file;

pub use file::{File, OpenOptions};

use crate::everyday::blocking;
use std::io;
use std::path::{Path, PathBuf};

pub use std::fs::{
    DirBuilder, DirEntry, FileTimes, FileType, Metadata, Permissions, ReadDir, TryLockError,
    create_dir, create_dir_all, exists, hard_link, metadata, read_dir, read_link, remove_dir,
    remove_file, rename, set_permissions, symlink_metadata,
};

/// Reads a whole file, as [`std::fs::read`].
///
/// Blocks: the goroutine, if it is no regular file, or else the thread.
///
/// # Errors
/// Those of opening and reading it.
pub fn read<P: AsRef<Path>>(path: P) -> io::Result<Vec<u8>> {
    let path = path.as_ref();
    at(path, || std::fs::read(path))
}

/// Reads a whole file of UTF-8, as [`std::fs::read_to_string`].
///
/// Blocks: the goroutine, if it is no regular file, or else the thread.
///
/// # Errors
/// Those of opening and reading it; [`InvalidData`](io::ErrorKind::InvalidData) if it is not UTF-8.
pub fn read_to_string<P: AsRef<Path>>(path: P) -> io::Result<String> {
    let path = path.as_ref();
    at(path, || std::fs::read_to_string(path))
}

/// Makes this the contents of a file, as [`std::fs::write`].
///
/// Blocks: the goroutine, if it is no regular file, or else the thread.
///
/// # Errors
/// Those of opening and writing it.
pub fn write<P: AsRef<Path>, C: AsRef<[u8]>>(path: P, contents: C) -> io::Result<()> {
    let (path, contents) = (path.as_ref(), contents.as_ref());
    at(path, || std::fs::write(path, contents))
}

/// Copies a file, with its permissions, as [`std::fs::copy`]; returns its length.
///
/// Blocks: the goroutine, or else the thread.
///
/// # Errors
/// Those of opening, reading and writing.
pub fn copy<P: AsRef<Path>, Q: AsRef<Path>>(from: P, to: Q) -> io::Result<u64> {
    let (from, to) = (from.as_ref(), to.as_ref());
    blocking(|| std::fs::copy(from, to))
}

/// Removes a directory with all that is in it, as [`std::fs::remove_dir_all`].
///
/// Blocks: the goroutine, or else the thread.
///
/// # Errors
/// The first that is met; some may have been removed by then.
pub fn remove_dir_all<P: AsRef<Path>>(path: P) -> io::Result<()> {
    let path = path.as_ref();
    blocking(|| std::fs::remove_dir_all(path))
}

/// The path without links and dots, as [`std::fs::canonicalize`].
///
/// Blocks: the goroutine, or else the thread.
///
/// # Errors
/// There is no such path, or it may not be looked at.
pub fn canonicalize<P: AsRef<Path>>(path: P) -> io::Result<PathBuf> {
    let path = path.as_ref();
    blocking(|| std::fs::canonicalize(path))
}

/// Does this here if the path is of a regular file or a directory, or of nothing; on a spare thread if not.
fn at<T: Send>(path: &Path, f: impl FnOnce() -> io::Result<T> + Send) -> io::Result<T> {
    let is_slow = crate::sched::is_goroutine()
        && metadata(path).is_ok_and(|metadata| file::may_take_any_time(&metadata));
    if is_slow { blocking(f) } else { f() }
}
