//! Input and output, shaped as [`std::io`]: what waits blocks the goroutine and not its thread.
//!
//! Traits, errors and buffers are std's own, and whatever works with those works with goroutines. Ours are what
//! waits for the outside: [`stdin`], [`stdout`], [`stderr`], [`pipe`], and [`copy`], which leaves the bytes in the
//! kernel where it can.
//!
//! ```
//! use strands::io::{self, BufRead, BufReader, Write};
//!
//! # fn main() -> io::Result<()> {
//! let (reader, mut writer) = io::pipe()?;
//! let lines = strands::go(move || BufReader::new(reader).lines().collect::<io::Result<Vec<_>>>());
//! writer.write_all(b"one\ntwo\n")?;
//! drop(writer);
//! assert_eq!(lines.join().unwrap()?, ["one", "two"]);
//! # Ok(())
//! # }
//! ```
//!
//! # Differs
//!
//! From std: `println!` and its kin are std's, and write to std's stream as [`stdout`] does. When its reader is slow they
//! block the thread: others take its work over, but goroutines at home there wait. A program that writes much to
//! a pipe writes to [`stdout`].

mod copy;
mod output;
mod pipe;
mod stdin;

pub use copy::copy;
pub use output::{Stderr, StderrLock, Stdout, StdoutLock, stderr, stdout};
pub use pipe::{PipeReader, PipeWriter, pipe};
pub(crate) use pipe::{pipe_end, pipe_reads, pipe_writes};
pub use stdin::{Lines, Stdin, StdinLock, read_to_string, stdin};

pub use std::io::{
    BufRead, BufReader, BufWriter, Bytes, Chain, Cursor, Empty, Error, ErrorKind, IntoInnerError,
    IoSlice, IoSliceMut, IsTerminal, LineWriter, Read, Repeat, Result, Seek, SeekFrom, Sink, Split,
    Take, Write, WriterPanicked, empty, prelude, repeat, sink,
};
