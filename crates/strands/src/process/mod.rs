//! Child processes, shaped as [`std::process`]: who waits for one, or for what it says, blocks the goroutine and not its
//! thread.
//!
//! ```
//! use std::io::{Read, Write};
//! use strands::process::{Command, Stdio};
//!
//! # fn main() -> std::io::Result<()> {
//! let mut child = Command::new("cat").stdin(Stdio::piped()).stdout(Stdio::piped()).spawn()?;
//! let mut input = child.stdin.take().expect("asked for");
//! let writer = strands::go(move || input.write_all(b"round trip"));
//! let mut text = String::new();
//! child.stdout.take().expect("asked for").read_to_string(&mut text)?;
//! writer.join().unwrap()?;
//! assert!(child.wait()?.success());
//! assert_eq!(text, "round trip");
//! # Ok(())
//! # }
//! ```
//!
//! A goroutine that waits for a child has no thread for it: the kernel tells of the child's end by a descriptor
//! (Linux 5.3 and later; before that, by a spare thread). Pipes to and from children are non-blocking on our side only.
//!
//! # Differs
//!
//! From std: [`Command`] has what is portable of std's; for the rest (`CommandExt`: user ids, process groups, `pre_exec`)
//! there is [`Command::as_std_mut`]. Starting a process blocks the thread for the time that the system takes for
//! it, a fraction of a millisecond.

mod child;
mod command;

pub use child::{Child, ChildStderr, ChildStdin, ChildStdout};
pub use command::Command;

pub use std::process::{
    CommandArgs, CommandEnvs, ExitCode, ExitStatus, Output, Stdio, Termination, abort, exit, id,
};
