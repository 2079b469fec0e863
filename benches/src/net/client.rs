//! The load generator: one thread, one epoll instance, nothing of anybody's runtime.

use std::io::{self, Read, Write};
use std::net::{SocketAddr, TcpStream};
use std::os::fd::AsRawFd;
use std::time::{Duration, Instant};

use super::{CONNECTIONS, REQUEST};

/// `client echo ADDR MILLIS` or `client idle ADDR COUNT`.
pub(crate) fn main(words: &[String]) -> Result<(), String> {
    let [kind, addr, number] = words else { return Err("client KIND ADDR NUMBER".to_owned()) };
    let addr: SocketAddr = addr.parse().map_err(|_| format!("no address: {addr}"))?;
    let number: u64 = number.parse().map_err(|_| format!("no number: {number}"))?;
    match kind.as_str() {
        "echo" => echo(addr, Duration::from_millis(number)),
        "idle" => idle(addr, number as usize),
        _ => return Err(format!("no client {kind}")),
    }
    .map_err(|error| format!("the client failed: {error}"))
}

struct Connection {
    stream: TcpStream,
    sent: Instant,
    got: usize,
}

/// Each connection sends a request, waits for the answer, and sends the next.
fn echo(addr: SocketAddr, length: Duration) -> io::Result<()> {
    // SAFETY: touches no memory.
    let epoll = unsafe { libc::epoll_create1(libc::EPOLL_CLOEXEC) };
    let mut connections = Vec::new();
    for n in 0..CONNECTIONS {
        let stream = TcpStream::connect(addr)?;
        stream.set_nodelay(true)?;
        stream.set_nonblocking(true)?;
        let mut event = libc::epoll_event { events: libc::EPOLLIN as u32, u64: n as u64 };
        // SAFETY: both descriptors are open, the event is read only.
        let added = unsafe {
            libc::epoll_ctl(epoll, libc::EPOLL_CTL_ADD, stream.as_raw_fd(), &raw mut event)
        };
        assert_eq!(added, 0);
        connections.push(Connection { stream, sent: Instant::now(), got: 0 });
    }
    let request = [0x5a; REQUEST];
    for connection in &mut connections {
        connection.sent = Instant::now();
        connection.stream.write_all(&request)?;
    }
    // A fifth of the time again to warm up.
    let begun = Instant::now() + length / 5;
    let end = begun + length;
    let mut latencies = Vec::with_capacity(1 << 20);
    let mut buffer = [0; 4096];
    let mut events = [libc::epoll_event { events: 0, u64: 0 }; CONNECTIONS];
    'all: loop {
        // SAFETY: there is room for so many.
        let count =
            unsafe { libc::epoll_wait(epoll, events.as_mut_ptr(), events.len() as i32, 5_000) };
        assert!(count > 0, "the server does not answer");
        for event in &events[..count as usize] {
            let connection = &mut connections[event.u64 as usize];
            let n = connection.stream.read(&mut buffer)?;
            assert!(n > 0, "the server has hung up");
            assert!(buffer[..n].iter().all(|byte| *byte == 0x5a));
            connection.got += n;
            if connection.got < REQUEST {
                continue;
            }
            assert_eq!(connection.got, REQUEST);
            connection.got = 0;
            let now = Instant::now();
            if now >= begun {
                latencies.push(now - connection.sent);
            }
            if now >= end {
                break 'all;
            }
            connection.sent = now;
            connection.stream.write_all(&request)?;
        }
    }
    let each = length.as_nanos() as f64 / latencies.len() as f64;
    latencies.sort_unstable();
    let at =
        |p: f64| latencies[(p * (latencies.len() - 1) as f64) as usize].as_nanos() as f64 / 1e3;
    println!("metric each ns {each}");
    println!("metric latency_p50 µs {}", at(0.50));
    println!("metric latency_p99 µs {}", at(0.99));
    Ok(())
}

/// Connects so often, has a byte echoed by each, says so, and stays until it may go.
fn idle(addr: SocketAddr, count: usize) -> io::Result<()> {
    let mut all = Vec::with_capacity(count);
    for _ in 0..count {
        let mut stream = TcpStream::connect(addr)?;
        stream.write_all(&[1])?;
        stream.read_exact(&mut [0])?;
        all.push(stream);
    }
    println!("!");
    io::stdin().read_to_end(&mut Vec::new())?;
    Ok(())
}
