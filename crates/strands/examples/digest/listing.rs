//! The collector, and the format of `sha256sum`.
//!
//! A line is the sum in hexadecimal, two spaces, and the path, byte for byte. A path with a
//! backslash, a newline or a carriage return would break lines or be mistaken for an escape: there
//! these three are written `\\`, `\n` and `\r`, and the whole line starts with a backslash to say so.

use std::borrow::Cow;
use std::io::{self, BufWriter, Write};
use std::path::Path;

use strands::channel::Receiver;

use crate::crew::{Digested, Failed, Report};
use crate::progress::Progress;

/// Everything that was found, sorted by path.
pub(crate) struct Listing {
    digested: Vec<Digested>,
    failures: usize,
}

impl Listing {
    /// Gathers the reports until nobody is left to send one. Failures go to stderr at once.
    pub(crate) fn collect(reports: Receiver<Report>, progress: &Progress) -> Self {
        let mut listing = Self { digested: Vec::new(), failures: 0 };
        for report in reports {
            match report {
                Ok(digested) => {
                    listing.digested.push(digested);
                    progress.digested(listing.digested.len());
                }
                Err(failed) => {
                    listing.failures += 1;
                    progress.interrupt(|| complain(&failed));
                }
            }
        }
        progress.finish();
        // Not by `Path`, which compares component by component: to it `a/b` is less than `a-b`.
        listing.digested.sort_unstable_by(|a, b| bytes(&a.path).cmp(bytes(&b.path)));
        listing
    }

    pub(crate) fn files(&self) -> usize {
        self.digested.len()
    }

    pub(crate) fn bytes(&self) -> u64 {
        self.digested.iter().map(|digested| digested.bytes).sum()
    }

    pub(crate) fn failures(&self) -> usize {
        self.failures
    }

    pub(crate) fn write(&self, out: impl Write) -> io::Result<()> {
        let mut out = BufWriter::new(out);
        for digested in &self.digested {
            let path = bytes(&digested.path);
            let escaped = escape(path);
            if escaped != path {
                out.write_all(b"\\")?;
            }
            for byte in digested.sum {
                write!(out, "{byte:02x}")?;
            }
            out.write_all(b"  ")?;
            out.write_all(&escaped)?;
            out.write_all(b"\n")?;
        }
        // By hand: a `BufWriter` that flushes in its `Drop` hides the error.
        out.flush()
    }
}

fn complain(failed: &Failed) {
    let mut line = b"digest: ".to_vec();
    line.extend_from_slice(&escape(bytes(&failed.path)));
    line.extend_from_slice(format!(": {}\n", failed.error).as_bytes());
    // In one piece, and without `eprintln!`, which panics when stderr is closed.
    let _ = io::stderr().write_all(&line);
}

/// The path as the system knows it: names are bytes there, and need not be UTF-8.
fn bytes(path: &Path) -> &[u8] {
    path.as_os_str().as_encoded_bytes()
}

fn escape(path: &[u8]) -> Cow<'_, [u8]> {
    if !path.iter().any(|byte| matches!(byte, b'\\' | b'\n' | b'\r')) {
        return Cow::Borrowed(path);
    }
    let mut escaped = Vec::with_capacity(path.len() + 8);
    for &byte in path {
        match byte {
            b'\\' => escaped.extend_from_slice(br"\\"),
            b'\n' => escaped.extend_from_slice(br"\n"),
            b'\r' => escaped.extend_from_slice(br"\r"),
            byte => escaped.push(byte),
        }
    }
    Cow::Owned(escaped)
}
