//! `digest DIR`: the SHA-256 of every file below a directory, as `sha256sum` prints it.
//!
//! A pipeline of goroutines, each of them plain blocking code, joined by bounded channels:
//!
//! ```text
//!               paths                     reports
//!            ┌──────────▶ digester ──────────┐
//!   walker ──┼──────────▶ digester ──────────┼──▶ collector ──▶ stdout, sorted
//!      │     └──────────▶ digester ──────────┘        ▲
//!      └──────────────────────────────────────────────┘
//!                    what could not be read
//! ```
//!
//! - What is sent belongs to the receiver: a path moves from the walker to the one digester that
//!   takes it, and on to the collector inside a report. Nothing is shared, and nothing is locked.
//! - The channels are bounded, so a walker that is faster than the disk waits, and the tree may be
//!   larger than memory as long as its paths and sums are not.
//! - Nobody is told to stop. The walker ends and drops its sender; the digesters find the channel
//!   of paths closed and empty, end, and drop theirs; then the collector's loop ends.
//! - The scope ends when all of them have, so they may borrow what `main` owns.
//!
//! A file that cannot be read is named on stderr, spoils the exit status and nothing else.
//!
//! ```text
//! cargo run --release --example digest -- DIR
//! ```

mod crew;
mod listing;
mod progress;
mod summary;
mod walk;

use std::env;
use std::ffi::OsString;
use std::io::{self, Write};
use std::path::PathBuf;
use std::process::ExitCode;
use std::time::Instant;

use strands::{channel, runtime};

use crate::listing::Listing;
use crate::progress::Progress;

const HELP: &str = "\
Print the SHA-256 of every regular file below DIR, in the format of sha256sum.

Usage: digest [--] [DIR]

DIR is `.` if absent. Paths are those of `find DIR -type f`, in the order of
`LC_ALL=C sort`; symbolic links are not followed. The output can be checked with
`sha256sum -c`. A summary goes to stderr.

Options:
  -h, --help  Print this help

Exit status:
  0  every file was read, or the reader of the output wanted no more of it
  1  something could not be read (it is named on stderr; the other lines are
     right) or the output could not be written
  2  the command line is wrong
";

/// How many paths, and how many reports, may wait in their channel.
///
/// Enough that a digester rarely waits for a walker that is in the middle of a system call.
const BACKLOG: usize = 256;

#[strands::main]
fn main() -> ExitCode {
    let root = match Command::parse(env::args_os().skip(1)) {
        Ok(Command::Digest(root)) => root,
        Ok(Command::Help) => {
            // Whoever closes stdout does not want the help.
            let _ = io::stdout().write_all(HELP.as_bytes());
            return ExitCode::SUCCESS;
        }
        Err(mistake) => {
            let _ = writeln!(io::stderr(), "digest: {mistake} (try --help)");
            return ExitCode::from(2);
        }
    };

    let started = Instant::now();
    let listing = digest(root);
    let mut failed = listing.failures() > 0;
    match listing.write(io::stdout().lock()) {
        Ok(()) => summary::print(&listing, started.elapsed()),
        // `digest DIR | head -1`: the reader has what it wanted, and that is no failure.
        Err(error) if error.kind() == io::ErrorKind::BrokenPipe => {}
        Err(error) => {
            let _ = writeln!(io::stderr(), "digest: stdout: {error}");
            failed = true;
        }
    }
    ExitCode::from(u8::from(failed))
}

/// Sets up the pipeline and lets it run dry.
fn digest(root: PathBuf) -> Listing {
    // Two for each processor: while one waits for the disk, the other computes.
    let crew = 2 * runtime::metrics().processors;
    let progress = &Progress::new();

    strands::scope(|s| {
        let (path_tx, path_rx) = channel::bounded(BACKLOG);
        let (report_tx, report_rx) = channel::bounded(BACKLOG);

        for _ in 0..crew {
            let (paths, reports) = (path_rx.clone(), report_tx.clone());
            s.go(move || crew::digest_all(paths, reports, progress));
        }
        // `main` keeps no end of a channel that it does not use: it would hold it open.
        drop(path_rx);
        s.go(move || walk::walk(root, path_tx, report_tx, progress));

        Listing::collect(report_rx, progress)
    })
}

enum Command {
    Digest(PathBuf),
    Help,
}

impl Command {
    fn parse(arguments: impl Iterator<Item = OsString>) -> Result<Self, String> {
        let mut root = None;
        let mut options = true;
        for argument in arguments {
            let bytes = argument.as_encoded_bytes();
            if options && bytes == b"--" {
                options = false;
            } else if options && (bytes == b"--help" || bytes == b"-h") {
                return Ok(Self::Help);
            } else if options && bytes.len() > 1 && bytes[0] == b'-' {
                return Err(format!("unknown option `{}`", argument.display()));
            } else if root.is_some() {
                return Err(format!("one DIR, please: `{}` is too much", argument.display()));
            } else {
                root = Some(PathBuf::from(argument));
            }
        }
        Ok(Self::Digest(root.unwrap_or_else(|| PathBuf::from("."))))
    }
}
