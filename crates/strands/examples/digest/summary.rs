//! The closing line on stderr: how much, how fast, and with how little.

use std::fs;
use std::io::{self, Write};
use std::time::Duration;

use crate::listing::Listing;

pub(crate) fn print(listing: &Listing, elapsed: Duration) {
    let files = listing.files();
    let bytes = listing.bytes();
    let seconds = elapsed.as_secs_f64();
    let rate = bytes as f64 / 1e6 / seconds.max(1e-9);
    let metrics = strands::runtime::metrics();
    let goroutines = metrics.goroutines_started;
    let threads = metrics.threads;
    let mut line = format!(
        "digest: {files} files, {bytes} bytes in {seconds:.2} s ({rate:.1} MB/s), \
         {goroutines} goroutines on {threads} threads"
    );
    if let Some(kib) = peak_memory() {
        line += &format!(", {:.1} MiB of memory at most", kib as f64 / 1024.0);
    }
    let _ = writeln!(io::stderr(), "{line}");
}

/// The most memory that the process has occupied so far, in KiB, where the system says.
fn peak_memory() -> Option<u64> {
    let status = fs::read_to_string("/proc/self/status").ok()?;
    let value = status.lines().find_map(|line| line.strip_prefix("VmHWM:"))?;
    value.trim().strip_suffix(" kB")?.parse().ok()
}
