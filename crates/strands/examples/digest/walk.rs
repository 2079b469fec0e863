//! The walker: finds the files that `find DIR -type f` finds.
//!
//! **Invariant:** the walk does not recurse. Directories that wait for their turn are on a list in
//! the heap, so that a tree may be as deep as it likes, on a stack of any size.

use std::fs::{self, DirEntry, FileType};
use std::io;
use std::path::PathBuf;

use strands::channel::Sender;

use crate::crew::{Failed, Report};
use crate::progress::Progress;

/// Sends the path of every regular file at or below `root` to `files`, and what stands in the way
/// to `reports`.
///
/// Symbolic links are not followed, `root` included. A `root` with a slash at its end is no symbolic
/// link to the kernel, so `link/` walks where the link leads, as it does for `find`.
pub(crate) fn walk(
    root: PathBuf,
    files: Sender<PathBuf>,
    reports: Sender<Report>,
    progress: &Progress,
) {
    let mut walker = Walker { directories: Vec::new(), files, reports, progress };
    // Nobody listens any more only if a panic is on its way to the scope; it will be heard there.
    let _ = walker.walk(root);
}

struct Walker<'a> {
    /// Found, and not yet read.
    directories: Vec<PathBuf>,
    files: Sender<PathBuf>,
    reports: Sender<Report>,
    progress: &'a Progress,
}

/// The other side of a channel is gone.
struct HungUp;

impl Walker<'_> {
    fn walk(&mut self, root: PathBuf) -> Result<(), HungUp> {
        match fs::symlink_metadata(&root) {
            Ok(metadata) => self.sort_out(root, metadata.file_type(), || metadata.len())?,
            Err(error) => self.fail(root, error)?,
        }
        while let Some(directory) = self.directories.pop() {
            match fs::read_dir(&directory) {
                Ok(entries) => {
                    for entry in entries {
                        match entry {
                            Ok(entry) => self.visit(&entry)?,
                            Err(error) => self.fail(directory.clone(), error)?,
                        }
                    }
                }
                Err(error) => self.fail(directory, error)?,
            }
        }
        Ok(())
    }

    fn visit(&mut self, entry: &DirEntry) -> Result<(), HungUp> {
        let path = entry.path();
        match entry.file_type() {
            Ok(kind) => {
                let length = || entry.metadata().map_or(0, |metadata| metadata.len());
                self.sort_out(path, kind, length)
            }
            Err(error) => self.fail(path, error),
        }
    }

    /// A file goes to the digesters, a directory on the list. Links, pipes, sockets and devices
    /// are not asked for.
    fn sort_out(
        &mut self,
        path: PathBuf,
        kind: FileType,
        length: impl FnOnce() -> u64,
    ) -> Result<(), HungUp> {
        if kind.is_dir() {
            self.directories.push(path);
        } else if kind.is_file() {
            self.progress.found(length);
            self.files.send(path).map_err(|_| HungUp)?;
        }
        Ok(())
    }

    fn fail(&self, path: PathBuf, error: io::Error) -> Result<(), HungUp> {
        self.reports.send(Err(Failed { path, error })).map_err(|_| HungUp)
    }
}
