//! The progress bar on stderr, if stderr is a terminal.

use indicatif::{ProgressBar, ProgressStyle};

/// Bytes read of bytes found so far, and files digested. All of it may be called from anywhere.
pub(crate) struct Progress {
    bar: ProgressBar,
}

impl Progress {
    pub(crate) fn new() -> Self {
        // Draws on stderr; hides by itself when that is not a terminal.
        let bar = ProgressBar::new(0).with_message("0 files");
        let style = "{msg} [{wide_bar}] {bytes}/{total_bytes} {bytes_per_sec}";
        bar.set_style(ProgressStyle::with_template(style).expect("the template is well-formed"));
        Self { bar }
    }

    /// A file has been found. Its length costs a system call, so it is asked for only if wanted.
    pub(crate) fn found(&self, length: impl FnOnce() -> u64) {
        if self.is_shown() {
            self.bar.inc_length(length());
        }
    }

    /// Some bytes have been read.
    pub(crate) fn read(&self, bytes: usize) {
        if self.is_shown() {
            self.bar.inc(bytes as u64);
        }
    }

    /// So many files have been digested by now.
    pub(crate) fn digested(&self, files: usize) {
        if self.is_shown() {
            self.bar.set_message(format!("{files} files"));
        }
    }

    /// Takes the bar away while `f` writes to the terminal.
    pub(crate) fn interrupt(&self, f: impl FnOnce()) {
        self.bar.suspend(f);
    }

    pub(crate) fn finish(&self) {
        self.bar.finish_and_clear();
    }

    fn is_shown(&self) -> bool {
        !self.bar.is_hidden()
    }
}
