//! What the tests share: programs of others, servers in processes of their own, and limits to waiting.

#![allow(dead_code, reason = "each test file uses a part of it")]

use std::env;
use std::fs;
use std::io::{BufRead, BufReader, Read, Write};
use std::net::{SocketAddr, TcpStream};
use std::path::{Path, PathBuf};
use std::process::{Child, Command, ExitStatus, Output, Stdio};
use std::sync::atomic::{AtomicU32, Ordering};
use std::thread;
use std::time::{Duration, Instant};

/// Longer than anything takes on a busy machine.
pub(crate) const PATIENCE: Duration = Duration::from_secs(60);

/// A test that hangs: the harness has named it long before this ends it.
const LAST_RESORT: u32 = 600;

extern "C" fn set_last_resort() {
    // SAFETY: no pointers.
    unsafe { libc::alarm(LAST_RESORT) };
}

// SAFETY: the section holds functions that run before `main`; this one needs nothing of the runtime's.
#[used]
#[unsafe(link_section = ".init_array")]
static SET_LAST_RESORT: extern "C" fn() = set_last_resort;

/// A program of others, with a limit to its time. Where it is not installed the test is skipped, and says so; in CI, which
/// installs it, that is a failure.
pub(crate) fn tool(name: &str) -> Option<Command> {
    let path = env::var_os("PATH").unwrap_or_default();
    if env::split_paths(&path).any(|directory| directory.join(name).is_file()) {
        let mut command = Command::new("timeout");
        command.args(["--kill-after=5", "60", name]);
        return Some(command);
    }
    assert!(env::var_os("CI").is_none(), "{name} has to be installed");
    println!("skipped: {name} is not installed");
    None
}

/// Runs it, and returns what it wrote on stdout.
#[track_caller]
pub(crate) fn succeeds(command: &mut Command) -> String {
    let output = command.stdin(Stdio::null()).output();
    let Output { status, stdout, stderr } = output.expect("it can be started");
    let stdout = String::from_utf8_lossy(&stdout).into_owned();
    let stderr = String::from_utf8_lossy(&stderr);
    assert!(status.success(), "{command:?}: {status}\n{stdout}\n{stderr}");
    stdout
}

/// A server in a process of its own, which ends with this value if it has not before.
pub(crate) struct Running {
    child: Child,
    pub(crate) addr: SocketAddr,
    output: Option<BufReader<std::process::ChildStdout>>,
}

/// An example of this crate: cargo has built it before the tests.
pub(crate) fn example(name: &str) -> PathBuf {
    let test = env::current_exe().expect("a test knows where it is");
    let profile = test.parent().and_then(Path::parent).expect("target/PROFILE/deps/TEST");
    let program = profile.join("examples").join(name);
    assert!(program.is_file(), "{} is missing: `cargo build --examples`", program.display());
    program
}

impl Running {
    /// Starts it; it says where it listens on the first line that it prints.
    pub(crate) fn start(command: &mut Command) -> Running {
        let mut child = command
            .stdin(Stdio::null())
            .stdout(Stdio::piped())
            .spawn()
            .unwrap_or_else(|error| panic!("{command:?}: {error}"));
        let mut output = BufReader::new(child.stdout.take().expect("it is piped"));
        let mut line = String::new();
        output.read_line(&mut line).expect("a pipe can be read");
        let addr = line.trim().strip_prefix("listening on ").and_then(|addr| addr.parse().ok());
        let Some(addr) = addr else {
            let _ = child.kill();
            let _ = child.wait();
            panic!("{command:?} says {line:?}");
        };
        Running { child, addr, output: Some(output) }
    }

    pub(crate) fn pid(&self) -> u32 {
        self.child.id()
    }

    pub(crate) fn url(&self, path: &str) -> String {
        format!("http://{}{path}", self.addr)
    }

    pub(crate) fn descriptors(&self) -> usize {
        let directory = format!("/proc/{}/fd", self.pid());
        fs::read_dir(directory).expect("it runs").count()
    }

    /// Those of its descriptors that are connections, or listen for them.
    pub(crate) fn sockets(&self) -> usize {
        let directory = fs::read_dir(format!("/proc/{}/fd", self.pid())).expect("it runs");
        // What was closed meanwhile is none.
        let links = directory.filter_map(|entry| fs::read_link(entry.ok()?.path()).ok());
        links.filter(|link| link.to_string_lossy().starts_with("socket:")).count()
    }

    pub(crate) fn threads(&self) -> usize {
        let directory = format!("/proc/{}/task", self.pid());
        fs::read_dir(directory).expect("it runs").count()
    }

    /// Asks it to end.
    pub(crate) fn terminate(&self) {
        // SAFETY: no pointers; the process is ours and has not been waited for, so that the number is its own.
        assert_eq!(unsafe { libc::kill(self.child.id() as i32, libc::SIGTERM) }, 0);
    }

    /// Waits for its end, and returns what else it has printed.
    pub(crate) fn ended(mut self) -> (ExitStatus, String) {
        let mut printed = String::new();
        let output = self.output.take();
        let reader = thread::spawn(move || {
            output.map(|mut output| output.read_to_string(&mut printed));
            printed
        });
        let deadline = Instant::now() + PATIENCE;
        let status = loop {
            if let Some(status) = self.child.try_wait().expect("it is ours") {
                break status;
            }
            assert!(Instant::now() < deadline, "it does not end");
            thread::sleep(Duration::from_millis(2));
        };
        (status, reader.join().expect("a pipe can be read"))
    }
}

impl Drop for Running {
    fn drop(&mut self) {
        let _ = self.child.kill();
        let _ = self.child.wait();
    }
}

/// Waits until it is so.
#[track_caller]
pub(crate) fn wait_until(what: &str, mut is_so: impl FnMut() -> bool) {
    let deadline = Instant::now() + PATIENCE;
    while !is_so() {
        assert!(Instant::now() < deadline, "waited in vain until {what}");
        thread::sleep(Duration::from_millis(2));
    }
}

/// A directory for one test, gone with this value.
pub(crate) struct Scratch(pub(crate) PathBuf);

impl Scratch {
    pub(crate) fn new() -> Scratch {
        static COUNT: AtomicU32 = AtomicU32::new(0);
        let count = COUNT.fetch_add(1, Ordering::Relaxed);
        let path = env::temp_dir().join(format!("strands-proof.{}.{count}", std::process::id()));
        fs::create_dir(&path).expect("the directory for temporary files can be written");
        Scratch(path)
    }
}

impl Drop for Scratch {
    fn drop(&mut self) {
        let _ = fs::remove_dir_all(&self.0);
    }
}

/// A client on a plain socket of std, which does not wait for ever.
pub(crate) fn client(addr: SocketAddr) -> TcpStream {
    let stream = TcpStream::connect(addr).expect("it listens");
    stream.set_read_timeout(Some(PATIENCE)).expect("it is no zero");
    stream.set_write_timeout(Some(PATIENCE)).expect("it is no zero");
    stream
}

/// Writes it, and reads to the end of the connection.
pub(crate) fn say(addr: SocketAddr, bytes: &[u8]) -> String {
    let mut stream = client(addr);
    stream.write_all(bytes).expect("it reads");
    read_all(&mut stream)
}

pub(crate) fn read_all(stream: &mut TcpStream) -> String {
    let mut bytes = Vec::new();
    stream.read_to_end(&mut bytes).expect("it closes the connection in order");
    String::from_utf8_lossy(&bytes).into_owned()
}

/// Reads one answer with a length.
pub(crate) fn read_answer(reader: &mut impl BufRead) -> (String, Vec<u8>) {
    let mut head = String::new();
    while !head.ends_with("\r\n\r\n") {
        assert!(reader.read_line(&mut head).expect("it answers") > 0, "it ends: {head:?}");
    }
    let length = head
        .lines()
        .find_map(|line| line.to_ascii_lowercase().strip_prefix("content-length: ")?.parse().ok())
        .unwrap_or_else(|| panic!("no length: {head}"));
    let mut body = vec![0; length];
    reader.read_exact(&mut body).expect("the body comes");
    (head, body)
}
