//! Unix sockets.
#![cfg(not(loom))]

mod child;
mod waiting;

use std::io::{ErrorKind, Read, Write};
use std::net::Shutdown;
use std::os::linux::net::SocketAddrExt;
use std::path::PathBuf;
use std::time::{Duration, Instant};
use strands::net::unix::SocketAddr;
use strands::net::{UnixDatagram, UnixListener, UnixStream};
use waiting::KINDS;

/// A path for a socket, in a directory that goes with it.
struct Home(PathBuf);

impl Home {
    fn new(name: &str) -> Home {
        let dir = std::env::temp_dir().join(format!("strands-{name}-{}", std::process::id()));
        let _ = std::fs::remove_dir_all(&dir);
        std::fs::create_dir_all(&dir).unwrap();
        Home(dir)
    }

    fn path(&self, name: &str) -> PathBuf {
        self.0.join(name)
    }
}

impl Drop for Home {
    fn drop(&mut self) {
        let _ = std::fs::remove_dir_all(&self.0);
    }
}

#[test]
fn streams_carry_bytes_whoever_has_their_ends() {
    let home = Home::new("streams");
    for (n, (one, other)) in
        KINDS.into_iter().flat_map(|one| KINDS.map(|other| (one, other))).enumerate()
    {
        let path = home.path(&n.to_string());
        let listener = UnixListener::bind(&path).unwrap();
        assert_eq!(listener.local_addr().unwrap().as_pathname(), Some(&*path));
        let server = one.start(move || {
            let (mut stream, _) = listener.accept().unwrap();
            let mut all = Vec::new();
            stream.read_to_end(&mut all).unwrap();
            stream.write_all(&all).unwrap();
        });
        let client = other.start(move || {
            let mut stream = UnixStream::connect(&path).unwrap();
            assert_eq!(stream.peer_addr().unwrap().as_pathname(), Some(&*path));
            let sent = vec![n as u8; 1_000_000];
            stream.write_all(&sent).unwrap();
            stream.shutdown(Shutdown::Write).unwrap();
            let mut back = Vec::new();
            stream.read_to_end(&mut back).unwrap();
            assert!(back == sent);
        });
        client.join();
        server.join();
        assert_eq!(
            UnixListener::bind(home.path(&n.to_string())).unwrap_err().kind(),
            ErrorKind::AddrInUse
        );
    }
}

#[test]
fn a_pair_talks_and_ends() {
    for kind in KINDS {
        let (mut one, mut other) = UnixStream::pair().unwrap();
        let reader = kind.start(move || {
            let mut buffer = [0; 8];
            let first = other.read(&mut buffer).unwrap();
            (first, other.read(&mut buffer).unwrap())
        });
        reader.until_it_waits("io read");
        one.write_all(b"ab").unwrap();
        reader.until_it_waits("io read");
        drop(one);
        assert_eq!(reader.join(), (2, 0));
    }
}

#[test]
fn connecting_waits_while_the_listeners_queue_is_full() {
    for kind in KINDS {
        let name = format!("strands-full-{}-{kind:?}", std::process::id());
        let addr = SocketAddr::from_abstract_name(name).unwrap();
        let listener = UnixListener::bind_addr(&addr).unwrap();
        // SAFETY: no memory.
        assert_eq!(unsafe { libc::listen(std::os::fd::AsRawFd::as_raw_fd(&listener), 0) }, 0);
        let clients: Vec<_> = (0..5)
            .map(|n| {
                let addr = addr.clone();
                kind.start(move || {
                    let mut stream = UnixStream::connect_addr(&addr).unwrap();
                    stream.write_all(&[n]).unwrap();
                })
            })
            .collect();
        let mut seen = Vec::new();
        for _ in 0..clients.len() {
            let (mut stream, _) = listener.accept().unwrap();
            let mut byte = [0];
            stream.read_exact(&mut byte).unwrap();
            seen.push(byte[0]);
        }
        clients.into_iter().for_each(|client| client.join());
        seen.sort_unstable();
        assert_eq!(seen, [0, 1, 2, 3, 4]);
    }
}

#[test]
fn datagrams_wait_for_room() {
    let home = Home::new("datagrams");
    for kind in KINDS {
        // Connected, the kernel tells of room; to a stranger it does not.
        for connected in [true, false] {
            let path = home.path(&format!("{kind:?}{connected}"));
            let receiver = UnixDatagram::bind(&path).unwrap();
            let sender = kind.start(move || {
                let socket = UnixDatagram::unbound().unwrap();
                if connected {
                    socket.connect(&path).unwrap();
                }
                for n in 0..2_000_u32 {
                    let bytes = n.to_le_bytes();
                    let sent =
                        if connected { socket.send(&bytes) } else { socket.send_to(&bytes, &path) };
                    assert_eq!(sent.unwrap(), 4);
                }
            });
            if connected {
                sender.until_it_waits("io write");
            }
            for n in 0..2_000_u32 {
                let mut buffer = [0; 8];
                let (length, _) = receiver.recv_from(&mut buffer).unwrap();
                assert_eq!(&buffer[..length], n.to_le_bytes());
            }
            sender.join();
        }
    }
}

#[test]
fn datagrams_give_up_when_the_time_is_up() {
    let home = Home::new("datagram-times");
    for kind in KINDS {
        let path = home.path(&format!("{kind:?}"));
        kind.start(move || {
            let receiver = UnixDatagram::bind(&path).unwrap();
            let timeout = Duration::from_millis(20);
            receiver.set_read_timeout(Some(timeout)).unwrap();
            let begun = Instant::now();
            assert_eq!(receiver.recv(&mut [0; 4]).unwrap_err().kind(), ErrorKind::WouldBlock);
            assert!(begun.elapsed() >= timeout);
            let sender = UnixDatagram::unbound().unwrap();
            sender.set_write_timeout(Some(timeout)).unwrap();
            let error = loop {
                let begun = Instant::now();
                if let Err(error) = sender.send_to(b"x", &path) {
                    assert!(begun.elapsed() >= timeout);
                    break error;
                }
            };
            assert_eq!(error.kind(), ErrorKind::WouldBlock);
        })
        .join();
    }
}

#[test]
fn sockets_become_std_s_and_come_back() {
    let (one, other) = UnixStream::pair().unwrap();
    let mut std: std::os::unix::net::UnixStream = other.into();
    let writer = KINDS[0].start(move || {
        (&one).write_all(b"x").unwrap();
        one
    });
    std.read_exact(&mut [0]).unwrap();
    let one = writer.join();
    drop(UnixStream::from(std));
    assert_eq!((&one).read(&mut [0; 4]).unwrap(), 0);
    assert_eq!((&one).write(b"x").unwrap_err().kind(), ErrorKind::BrokenPipe);
}
