//! The servers among the examples, under many clients.

mod example_runner;

use std::collections::HashSet;
use std::io::{self, BufRead, BufReader, ErrorKind, Read, Write};
use std::net::{Shutdown, SocketAddr, TcpStream};
use std::os::fd::{AsRawFd, FromRawFd, OwnedFd};
use std::process::{Child, ChildStdout, ExitStatus, Stdio};
use std::sync::Arc;
use std::time::{Duration, Instant};
use std::{fs, thread};

use example_runner::{example, finish};

const PATIENCE: Duration = Duration::from_secs(100);

/// Five, and on a busy machine a few more. Were these goroutines taken for ones that hold their threads, it would be hundreds.
const MOST_THREADS: usize = 64;

/// A server that is killed with this value, unless it has ended before.
struct Server {
    child: Option<Child>,
    output: BufReader<ChildStdout>,
    addr: SocketAddr,
}

impl Server {
    fn start(name: &str, arguments: &[&str]) -> Server {
        let mut child =
            example(name, 2).args(arguments).stdout(Stdio::piped()).spawn().expect("it starts");
        let mut output = BufReader::new(child.stdout.take().expect("it is piped"));
        let mut line = String::new();
        output.read_line(&mut line).expect("a pipe can be read");
        let addr = line.trim().strip_prefix("listening on ").expect("it says where it listens");
        Server { child: Some(child), output, addr: addr.parse().expect("an address") }
    }

    fn pid(&self) -> u32 {
        self.child.as_ref().expect("it runs").id()
    }

    fn connect(&self) -> TcpStream {
        let stream = TcpStream::connect(self.addr).expect("it listens");
        stream.set_read_timeout(Some(PATIENCE)).expect("it is no zero");
        stream.set_write_timeout(Some(PATIENCE)).expect("it is no zero");
        stream
    }

    fn count(&self, what: &str) -> usize {
        fs::read_dir(format!("/proc/{}/{what}", self.pid())).expect("it runs").count()
    }

    /// Memory of its own and page tables, in bytes.
    fn memory(&self) -> usize {
        let status = fs::read_to_string(format!("/proc/{}/status", self.pid())).expect("it runs");
        let kib = |name: &str| -> usize {
            let line = status.lines().find_map(|line| line.strip_prefix(name)).expect(name);
            line.trim().trim_end_matches(" kB").parse().expect("a number")
        };
        (kib("RssAnon:") + kib("VmPTE:")) << 10
    }

    /// Waits for its end, and returns what else it printed.
    fn ended(mut self) -> (ExitStatus, String) {
        let child = self.child.take().expect("it runs");
        let status = finish(child, "the server").status;
        let mut printed = String::new();
        self.output.read_to_string(&mut printed).expect("a pipe can be read");
        (status, printed)
    }
}

impl Drop for Server {
    fn drop(&mut self) {
        if let Some(child) = &mut self.child {
            let _ = child.kill();
            let _ = child.wait();
        }
    }
}

#[track_caller]
fn wait_until(what: &str, mut is_so: impl FnMut() -> bool) {
    let deadline = Instant::now() + PATIENCE;
    while !is_so() {
        assert!(Instant::now() < deadline, "waited in vain until {what}");
        thread::sleep(Duration::from_millis(2));
    }
}

#[test]
fn echo_holds_ten_thousand_connections() {
    let mut limit = libc::rlimit { rlim_cur: 0, rlim_max: 0 };
    // SAFETY: a valid place.
    assert_eq!(unsafe { libc::getrlimit(libc::RLIMIT_NOFILE, &mut limit) }, 0);
    // The soft limit may be as high as the hard one; the child inherits it.
    limit.rlim_cur = limit.rlim_max;
    // SAFETY: a valid value.
    assert_eq!(unsafe { libc::setrlimit(libc::RLIMIT_NOFILE, &limit) }, 0);
    let count = 10_000.min(limit.rlim_max as usize - 200);
    if count < 10_000 {
        println!("with {count} connections: no more descriptors are allowed");
    }

    let server = Server::start("echo", &[]);
    // Both workers at work, so that what they need is there.
    for _ in 0..100 {
        let mut client = server.connect();
        client.write_all(b"warm").unwrap();
        client.read_exact(&mut [0; 4]).unwrap();
    }
    wait_until("they have gone", || server.count("fd") < 50);
    let before = server.memory();

    let mut clients: Vec<_> = (0..count).map(|_| server.connect()).collect();
    for round in 0..2_u64 {
        // All of them at once, each its own bytes.
        for (n, client) in clients.iter_mut().enumerate() {
            client.write_all(format!("{round}.{n:05}").repeat(20).as_bytes()).unwrap();
        }
        for (n, client) in clients.iter_mut().enumerate() {
            let mut back = [0; 140];
            client.read_exact(&mut back).unwrap();
            assert_eq!(&back[..], format!("{round}.{n:05}").repeat(20).as_bytes());
        }
    }
    let threads = server.count("task");
    assert!(threads <= MOST_THREADS, "{threads} threads");
    // A page of stack, one of page tables, and a little; without optimisation one page of stack more, and one that
    // roams has thread-locals of its own.
    let roams = std::env::var("STRANDS_AFFINITY").is_ok_and(|affinity| affinity == "roaming");
    let most = if cfg!(debug_assertions) { 14 << 10 } else { 10 << 10 };
    let most = if roams { most + (4 << 10) } else { most };
    let each = || server.memory().saturating_sub(before) / count;
    let at_rest = Instant::now() + Duration::from_secs(15);
    while each() > most {
        assert!(Instant::now() < at_rest, "an idle connection takes {} bytes", each());
        thread::sleep(Duration::from_millis(10));
    }
    println!("{count} connections: {threads} threads, {} bytes each", each());

    for client in &clients {
        client.shutdown(Shutdown::Write).unwrap();
    }
    for client in &mut clients {
        assert_eq!(client.read(&mut [0]).unwrap(), 0);
    }
    wait_until("they are closed", || server.count("fd") < 50);
}

/// A client that has little room for what it does not read: the kernel would hold megabytes for it.
fn cramped(addr: SocketAddr) -> TcpStream {
    let SocketAddr::V4(addr) = addr else { panic!("it is IPv4") };
    // SAFETY: no pointers; the descriptor is ours.
    let socket = unsafe {
        OwnedFd::from_raw_fd(libc::socket(libc::AF_INET, libc::SOCK_STREAM | libc::SOCK_CLOEXEC, 0))
    };
    let options =
        [(libc::SOL_SOCKET, libc::SO_RCVBUF, 2_048), (libc::IPPROTO_TCP, libc::TCP_MAXSEG, 536)];
    for (level, name, value) in options {
        let value: libc::c_int = value;
        // SAFETY: a value of the type and length that the option has.
        let set = unsafe {
            let length = size_of::<libc::c_int>() as u32;
            libc::setsockopt(socket.as_raw_fd(), level, name, (&raw const value).cast(), length)
        };
        assert_eq!(set, 0, "{}", io::Error::last_os_error());
    }
    let name = libc::sockaddr_in {
        sin_family: libc::AF_INET as u16,
        sin_port: addr.port().to_be(),
        sin_addr: libc::in_addr { s_addr: u32::from_ne_bytes(addr.ip().octets()) },
        sin_zero: [0; 8],
    };
    // SAFETY: an address of the length that is told.
    let connected = unsafe {
        let length = size_of::<libc::sockaddr_in>() as u32;
        libc::connect(socket.as_raw_fd(), (&raw const name).cast(), length)
    };
    assert_eq!(connected, 0, "{}", io::Error::last_os_error());
    let stream = TcpStream::from(socket);
    stream.set_read_timeout(Some(PATIENCE)).expect("it is no zero");
    stream
}

#[test]
fn chat_is_heard_by_a_thousand_and_stalled_by_none() {
    const CLIENTS: usize = 1_000;
    /// So many come and speak at once; the next when all have heard these. So the server never has much to say to one who
    /// listens, however slow this machine is.
    const GROUP: usize = 25;
    let server = Server::start("chat", &[]);
    let addr = server.addr;

    let mut slow = cramped(addr);
    slow.write_all(b"slow\n").unwrap();
    // The others are goroutines: this is a program of ours as well.
    let together = Arc::new(strands::sync::Barrier::new(CLIENTS));
    let (done, all) = strands::channel::unbounded();
    for n in 0..CLIENTS {
        let (together, done) = (Arc::clone(&together), done.clone());
        let client = strands::go(move || {
            for _ in 0..n / GROUP {
                together.wait();
            }
            let stream = strands::net::TcpStream::connect(addr).unwrap();
            stream.set_read_timeout(Some(PATIENCE)).unwrap();
            (&stream).write_all(format!("c{n}\n").as_bytes()).unwrap();
            let mut lines = BufReader::new(&stream).lines();
            let mut hear = || lines.next().expect("it goes on").expect("it is heard");
            // It is in the room when it hears of itself.
            let here = format!("* c{n} is here");
            while hear() != here {}
            together.wait();
            let (mut heard, mut slow_was_dropped) = (HashSet::new(), false);
            let is_drop = |line: &str| line == "* slow does not listen, and is dropped";
            for group in n / GROUP + 1..CLIENTS / GROUP {
                let mut came = 0;
                while came < GROUP {
                    let line = hear();
                    if line.starts_with("* slow ") {
                        slow_was_dropped |= is_drop(&line);
                        continue;
                    }
                    let who =
                        line.strip_prefix("* c").and_then(|rest| rest.strip_suffix(" is here"));
                    let who = who.unwrap_or_else(|| panic!("nobody speaks yet: {line}"));
                    came += usize::from(who.parse::<usize>().unwrap() / GROUP == group);
                }
                together.wait();
            }
            for group in 0..CLIENTS / GROUP {
                together.wait();
                if n / GROUP == group {
                    let text = "blah ".repeat(100);
                    (&stream).write_all(format!("{n} {text}\n").as_bytes()).unwrap();
                }
                while heard.len() < (group + 1) * GROUP {
                    let line = hear();
                    if let Some((name, text)) = line.split_once(": ") {
                        let number = text.split(' ').next().unwrap().parse::<usize>().unwrap();
                        assert_eq!(name, format!("c{number}"));
                        assert_eq!(text.len(), number.to_string().len() + 500);
                        assert!(heard.insert(number), "heard twice: {line}");
                    } else if line.contains("dropped") {
                        assert!(is_drop(&line), "{line}");
                        slow_was_dropped = true;
                    }
                }
            }
            // Or the others would hear that it has left.
            together.wait();
            slow_was_dropped
        });
        strands::go(move || done.send(client.join()));
    }
    for _ in 0..CLIENTS {
        // If one fails the others wait for it for ever.
        let slow_was_dropped = all.recv().unwrap().expect("a client failed");
        assert!(slow_was_dropped, "the slow one was dropped while all others heard all");
    }
    // What the slow one had room for, and then the end.
    let mut rest = Vec::new();
    match slow.read_to_end(&mut rest) {
        Ok(_) => {}
        Err(error) => assert_eq!(error.kind(), ErrorKind::ConnectionReset),
    }
    assert!(rest.len() < 400_000, "{} bytes", rest.len());
    assert!(server.count("task") <= MOST_THREADS, "{} threads", server.count("task"));
}

#[test]
fn chat_says_who_comes_and_who_leaves() {
    let server = Server::start("chat", &[]);
    let mut one = server.connect();
    let mut heard = BufReader::new(one.try_clone().unwrap()).lines();
    let mut hear = || heard.next().unwrap().unwrap();
    one.write_all("Zoë\n".as_bytes()).unwrap();
    assert_eq!(hear(), "* Zoë is here");
    let mut other = server.connect();
    // Not UTF-8, and too long for one line: taken as it comes.
    other.write_all(b"b\xff\n").unwrap();
    assert_eq!(hear(), "* b\u{fffd} is here");
    other.write_all(&[&[b'x'; 1_500][..], b"\n"].concat()).unwrap();
    assert_eq!(hear().len(), "b\u{fffd}: ".len() + 1_000);
    assert_eq!(hear().len(), "b\u{fffd}: ".len() + 500);
    drop(other);
    assert_eq!(hear(), "* b\u{fffd} has left");
}

#[test]
fn graceful_drains_and_says_whom_it_dropped() {
    let server = Server::start("graceful", &["0", "1000"]);
    let ask = |stream: &mut TcpStream, line: &str| stream.write_all(line.as_bytes()).unwrap();
    let hear = |stream: &TcpStream| {
        let mut line = String::new();
        BufReader::new(stream).read_line(&mut line).unwrap();
        line
    };
    let idle = server.connect();
    let (mut short, mut long) = (server.connect(), server.connect());
    for stream in [&mut short, &mut long] {
        ask(stream, "work 1\n");
        assert_eq!(hear(stream), "done 1\n");
    }
    ask(&mut short, "work 300\n");
    ask(&mut long, "work 3600000\n");
    // When this one is done, the server has read what was sent before it.
    let mut last = server.connect();
    ask(&mut last, "work 50\n");
    assert_eq!(hear(&last), "done 50\n");

    let begun = Instant::now();
    // SAFETY: no pointers; the process is ours and has not been waited for.
    assert_eq!(unsafe { libc::kill(server.pid() as i32, libc::SIGTERM) }, 0);
    assert_eq!(hear(&idle), "", "it is let go at once");
    assert!(begun.elapsed() < Duration::from_secs(20));
    wait_until("nobody is accepted", || {
        let connected = TcpStream::connect(server.addr);
        connected.is_err_and(|error| error.kind() == ErrorKind::ConnectionRefused)
    });
    assert_eq!(hear(&short), "done 300\n");
    let (status, printed) = server.ended();
    assert!(status.success(), "{status}");
    assert!(begun.elapsed() >= Duration::from_millis(1_000));
    let late = long.local_addr().unwrap();
    let report = format!("done: 4\ndropped: {late} at `work 3600000`\n");
    assert_eq!(printed, format!("received SIGTERM, draining\n{report}"));
    assert_eq!(hear(&long), "");
}
