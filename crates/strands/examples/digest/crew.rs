//! The digesters: each takes a path, reads the file, and reports.

use std::fs::File;
use std::io::{self, Read};
use std::path::{Path, PathBuf};

use sha2::{Digest, Sha256};
use strands::channel::{Receiver, Sender};

use crate::progress::Progress;

/// Large enough that the system calls vanish beside the hashing, small enough for the cache.
const BUFFER: usize = 128 * 1024;

/// What has become of a path.
pub(crate) type Report = Result<Digested, Failed>;

pub(crate) struct Digested {
    pub(crate) path: PathBuf,
    pub(crate) sum: [u8; 32],
    pub(crate) bytes: u64,
}

pub(crate) struct Failed {
    pub(crate) path: PathBuf,
    pub(crate) error: io::Error,
}

/// One digester: works until there are no more `paths`.
pub(crate) fn digest_all(paths: Receiver<PathBuf>, reports: Sender<Report>, progress: &Progress) {
    let mut buffer = vec![0; BUFFER];
    for path in paths {
        let report = match digest(&path, &mut buffer, progress) {
            Ok((sum, bytes)) => Ok(Digested { path, sum, bytes }),
            Err(error) => Err(Failed { path, error }),
        };
        if reports.send(report).is_err() {
            return;
        }
    }
}

/// The sum of one file, and its length.
///
/// These are std's blocking reads, and the hashing is one long computation: the runtime lets the
/// other goroutines go on meanwhile, so nothing here yields.
fn digest(path: &Path, buffer: &mut [u8], progress: &Progress) -> io::Result<([u8; 32], u64)> {
    let mut file = File::open(path)?;
    let mut hash = Sha256::new();
    let mut bytes = 0;
    loop {
        match file.read(buffer) {
            Ok(0) => return Ok((hash.finalize().into(), bytes)),
            Ok(n) => {
                hash.update(&buffer[..n]);
                bytes += n as u64;
                progress.read(n);
            }
            Err(error) if error.kind() == io::ErrorKind::Interrupted => {}
            Err(error) => return Err(error),
        }
    }
}
