//! Runs the built examples as child processes, and never waits forever for one.

#![allow(dead_code, reason = "each test file uses a part of it")]

use std::env;
use std::io::Read;
use std::path::PathBuf;
use std::process::{Child, Command, Output, Stdio};
use std::thread;
use std::time::{Duration, Instant};

/// Whether `STRANDS_LONG_TESTS` asks for the sizes that take minutes.
pub(crate) fn long_tests() -> bool {
    env::var_os("STRANDS_LONG_TESTS").is_some()
}

/// A command that runs the example `name` on so many processors.
///
/// Cargo builds the examples before it runs the tests and puts them beside the tests' directory:
/// `target/debug/deps/digest-…` tests `target/debug/examples/digest`.
pub(crate) fn example(name: &str, processors: usize) -> Command {
    let test = env::current_exe().expect("a test knows where it is");
    let profile = test.parent().and_then(|deps| deps.parent()).expect("target/PROFILE/deps/TEST");
    let program: PathBuf = [
        profile.as_os_str(),
        "examples".as_ref(),
        format!("{name}{}", env::consts::EXE_SUFFIX).as_ref(),
    ]
    .iter()
    .collect();
    assert!(
        program.is_file(),
        "{} is missing: build it with `cargo build --examples` (and the profile of the tests); \
         `cargo test` without `--test` does so by itself",
        program.display()
    );
    let mut command = Command::new(program);
    command.env("STRANDS_MAXPROCS", processors.to_string());
    command
}

/// Runs `command` to its end and returns what it wrote.
pub(crate) fn output(command: &mut Command) -> Output {
    let child = command
        .stdin(Stdio::null())
        .stdout(Stdio::piped())
        .stderr(Stdio::piped())
        .spawn()
        .unwrap_or_else(|error| panic!("{command:?}: {error}"));
    finish(child, &format!("{command:?}"))
}

/// Waits for `child` and returns what it has written to those of its pipes that are still here.
///
/// One that does not end is asked for a dump of its goroutines and killed, and the test fails.
pub(crate) fn finish(mut child: Child, what: &str) -> Output {
    // Somebody has to empty the pipes, or a child that writes much would wait for us.
    let stdout = child.stdout.take().map(|pipe| thread::spawn(|| read(pipe)));
    let stderr = child.stderr.take().map(|pipe| thread::spawn(|| read(pipe)));

    let patience = Duration::from_secs(if long_tests() { 1200 } else { 120 });
    let deadline = Instant::now() + patience;
    let mut stuck = false;
    let status = loop {
        if let Some(status) = child.try_wait().expect("the child is ours") {
            break status;
        }
        if Instant::now() > deadline && !stuck {
            stuck = true;
            let pid = child.id().to_string();
            let _ = Command::new("kill").args(["-QUIT", &pid]).status();
            thread::sleep(Duration::from_secs(2));
            let _ = child.kill();
        }
        thread::sleep(Duration::from_millis(2));
    };
    let written = |reader: Option<thread::JoinHandle<Vec<u8>>>| {
        reader.map_or_else(Vec::new, |reader| reader.join().expect("reading succeeds"))
    };
    let output = Output { status, stdout: written(stdout), stderr: written(stderr) };
    assert!(
        !stuck,
        "{what} did not end within {patience:?}; it wrote:\n{}",
        String::from_utf8_lossy(&output.stderr)
    );
    output
}

fn read(mut pipe: impl Read) -> Vec<u8> {
    let mut bytes = Vec::new();
    pipe.read_to_end(&mut bytes).expect("a pipe can be read");
    bytes
}
