//! [`Command`]: what is to be started, and how.

use super::{Child, CommandArgs, CommandEnvs, ExitStatus, Output, Stdio};
use crate::everyday::blocking;
use std::ffi::OsStr;
use std::fmt;
use std::io;
use std::path::Path;

/// A process to be started, as [`std::process::Command`].
///
/// # Examples
///
/// ```
/// use strands::process::Command;
///
/// # fn main() -> std::io::Result<()> {
/// let output = Command::new("echo").arg("hello").output()?;
/// assert_eq!(output.stdout, b"hello\n");
/// # Ok(())
/// # }
/// ```
pub struct Command {
    std: std::process::Command,
    /// Which of its streams were set. (std does not tell.)
    streams: [bool; 3],
    /// Others have had their hands in it, and may have set any.
    is_open: bool,
}

impl Command {
    /// A command that runs this program, with our environment, directory and streams, and no arguments.
    pub fn new<S: AsRef<OsStr>>(program: S) -> Command {
        Command { std: std::process::Command::new(program), streams: [false; 3], is_open: false }
    }

    /// Adds an argument.
    pub fn arg<S: AsRef<OsStr>>(&mut self, arg: S) -> &mut Command {
        self.std.arg(arg);
        self
    }

    /// Adds arguments.
    pub fn args<I, S>(&mut self, args: I) -> &mut Command
    where
        I: IntoIterator<Item = S>,
        S: AsRef<OsStr>,
    {
        self.std.args(args);
        self
    }

    /// Sets a variable of its environment.
    pub fn env<K: AsRef<OsStr>, V: AsRef<OsStr>>(&mut self, key: K, value: V) -> &mut Command {
        self.std.env(key, value);
        self
    }

    /// Sets variables of its environment.
    pub fn envs<I, K, V>(&mut self, vars: I) -> &mut Command
    where
        I: IntoIterator<Item = (K, V)>,
        K: AsRef<OsStr>,
        V: AsRef<OsStr>,
    {
        self.std.envs(vars);
        self
    }

    /// Takes a variable out of its environment.
    pub fn env_remove<K: AsRef<OsStr>>(&mut self, key: K) -> &mut Command {
        self.std.env_remove(key);
        self
    }

    /// Has it inherit no environment.
    pub fn env_clear(&mut self) -> &mut Command {
        self.std.env_clear();
        self
    }

    /// Sets its working directory.
    pub fn current_dir<P: AsRef<Path>>(&mut self, dir: P) -> &mut Command {
        self.std.current_dir(dir);
        self
    }

    /// Sets its standard input: a [`Stdio`], or what converts into one, as the pipes and children's streams of this
    /// crate do.
    pub fn stdin<T: Into<Stdio>>(&mut self, stdin: T) -> &mut Command {
        self.std.stdin(stdin);
        self.streams[0] = true;
        self
    }

    /// Sets its standard output.
    pub fn stdout<T: Into<Stdio>>(&mut self, stdout: T) -> &mut Command {
        self.std.stdout(stdout);
        self.streams[1] = true;
        self
    }

    /// Sets its standard error.
    pub fn stderr<T: Into<Stdio>>(&mut self, stderr: T) -> &mut Command {
        self.std.stderr(stderr);
        self.streams[2] = true;
        self
    }

    /// Starts it. What was not set it inherits.
    ///
    /// # Errors
    /// [`NotFound`](io::ErrorKind::NotFound) if there is no such program, and whatever else the system has against it.
    pub fn spawn(&mut self) -> io::Result<Child> {
        self.std.spawn().map(Child::from)
    }

    /// Starts it, waits for its end, and returns all that it said. Output and error are piped and the input is empty, if
    /// they were not set.
    ///
    /// Blocks: the goroutine, or else the thread.
    ///
    /// # Errors
    /// As for [`spawn`](Command::spawn), or those of reading and waiting.
    pub fn output(&mut self) -> io::Result<Output> {
        if self.is_open {
            return blocking(|| self.std.output());
        }
        let defaults: [fn() -> Stdio; 3] = [Stdio::null, Stdio::piped, Stdio::piped];
        self.set_unset(|stream| defaults[stream]());
        let child = self.spawn();
        // As before: inherited, unless the next call is one of this again.
        self.set_unset(|_| Stdio::inherit());
        child?.wait_with_output()
    }

    fn set_unset(&mut self, stdio: impl Fn(usize) -> Stdio) {
        let setters = [
            std::process::Command::stdin,
            std::process::Command::stdout,
            std::process::Command::stderr,
        ];
        for (stream, set) in setters.into_iter().enumerate() {
            if !self.streams[stream] {
                set(&mut self.std, stdio(stream));
            }
        }
    }

    /// Starts it, waits for its end, and returns how it ended. What was not set it inherits.
    ///
    /// Blocks: the goroutine, or else the thread.
    ///
    /// # Errors
    /// As for [`spawn`](Command::spawn), or those of waiting.
    pub fn status(&mut self) -> io::Result<ExitStatus> {
        self.spawn()?.wait()
    }

    /// The program.
    pub fn get_program(&self) -> &OsStr {
        self.std.get_program()
    }

    /// The arguments.
    pub fn get_args(&self) -> CommandArgs<'_> {
        self.std.get_args()
    }

    /// The variables that were set and taken out.
    pub fn get_envs(&self) -> CommandEnvs<'_> {
        self.std.get_envs()
    }

    /// The working directory, if it was set.
    pub fn get_current_dir(&self) -> Option<&Path> {
        self.std.get_current_dir()
    }

    /// As std's, to look at.
    pub fn as_std(&self) -> &std::process::Command {
        &self.std
    }

    /// As std's, for what this has no word for: `CommandExt`, say.
    pub fn as_std_mut(&mut self) -> &mut std::process::Command {
        self.is_open = true;
        &mut self.std
    }
}

impl From<std::process::Command> for Command {
    fn from(std: std::process::Command) -> Command {
        Command { std, streams: [false; 3], is_open: true }
    }
}

impl From<Command> for std::process::Command {
    fn from(ours: Command) -> std::process::Command {
        ours.std
    }
}

impl fmt::Debug for Command {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        self.std.fmt(f)
    }
}
