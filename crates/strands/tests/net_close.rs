//! Listeners and sockets that are closed while others wait for them.
#![cfg(not(loom))]

mod child;
mod waiting;

use std::io::{self, ErrorKind, Read, Write};
use std::os::unix::net as std_unix;
use std::path::PathBuf;
use std::sync::Arc;
use strands::context;
use strands::net::{TcpListener, TcpStream, UdpSocket, UnixListener};
use strands::{select, task};
use waiting::{KINDS, Kind, Started};

/// A path for a socket, which goes with it.
struct Path(PathBuf);

impl Path {
    fn new(name: &str) -> Path {
        Path(std::env::temp_dir().join(format!("strands-{name}-{}", std::process::id())))
    }
}

impl Drop for Path {
    fn drop(&mut self) {
        let _ = std::fs::remove_file(&self.0);
    }
}

/// One who waits, and says which error it got.
type Waiting = (Started<ErrorKind>, &'static str);

fn kind_of<T>(done: io::Result<T>) -> ErrorKind {
    done.map(drop).unwrap_err().kind()
}

macro_rules! acceptors {
    ($listener:expr) => {{
        let listener = &$listener;
        let mut all = Vec::<Waiting>::new();
        for kind in KINDS {
            for _ in 0..3 {
                let mine = Arc::clone(listener);
                all.push((kind.start(move || kind_of(mine.accept())), "accept"));
            }
            let mine = Arc::clone(listener);
            let ctx = context::background();
            all.push((kind.start(move || kind_of(mine.accept_ctx(&ctx))), "select"));
            let mine = Arc::clone(listener);
            let future = async move { kind_of(mine.accept_async().await) };
            let why = if kind == Kind::Goroutine { "future" } else { "park" };
            all.push((
                kind.start(move || match kind {
                    Kind::Goroutine => task::block_on(future),
                    Kind::Thread => waiting::block_on(future),
                }),
                why,
            ));
            let mine = Arc::clone(listener);
            let selecting = move || loop {
                select! {
                    ready(mine.acceptable()) -> ready => {
                        ready.unwrap();
                        break kind_of(mine.accept());
                    }
                }
            };
            all.push((kind.start(selecting), "select"));
            let mine = Arc::clone(listener);
            let ends = move || match mine.incoming().next() {
                None => ErrorKind::NotConnected,
                Some(_) => ErrorKind::Other,
            };
            all.push((kind.start(ends), "accept"));
        }
        all
    }};
}

/// All of them wait, and are told once it is closed.
fn assert_told(waiting: Vec<Waiting>, close: impl FnOnce()) {
    waiting.iter().for_each(|(one, why)| one.until_it_waits(why));
    close();
    for (one, _) in waiting {
        assert_eq!(one.join(), ErrorKind::NotConnected);
    }
}

#[test]
fn closing_a_listener_wakes_whoever_accepts() {
    let tcp = Arc::new(TcpListener::bind("127.0.0.1:0").unwrap());
    assert_told(acceptors!(tcp), || tcp.close());
    let path = Path::new("closing");
    let unix = Arc::new(UnixListener::bind(&path.0).unwrap());
    // By way of a clone: it is the same one.
    let clone = unix.try_clone().unwrap();
    assert_told(acceptors!(unix), || clone.close());
    // Who comes later, too; and nobody is waited for.
    for kind in KINDS {
        let (tcp, unix) = (Arc::clone(&tcp), Arc::clone(&unix));
        kind.start(move || {
            tcp.close();
            unix.close();
            assert_eq!(kind_of(tcp.accept()), ErrorKind::NotConnected);
            assert_eq!(kind_of(unix.accept()), ErrorKind::NotConnected);
            assert!(tcp.incoming().next().is_none());
            assert!(unix.incoming().next().is_none());
            assert!(tcp.acceptable().is_ready() && unix.acceptable().is_ready());
            tcp.set_nonblocking(true).unwrap();
            assert_eq!(kind_of(tcp.accept()), ErrorKind::NotConnected);
            tcp.set_nonblocking(false).unwrap();
        })
        .join();
    }
    assert!(Arc::into_inner(tcp).unwrap().into_incoming().next().is_none());
}

#[test]
fn a_listener_that_was_closed_refuses_and_its_address_is_free() {
    let tcp = TcpListener::bind("127.0.0.1:0").unwrap();
    let addr = tcp.local_addr().unwrap();
    let path = Path::new("refusing");
    let unix = UnixListener::bind(&path.0).unwrap();
    let mut tcp_peer = TcpStream::connect(addr).unwrap();
    let mut unix_peer = std_unix::UnixStream::connect(&path.0).unwrap();
    let ((mut tcp_stream, _), (mut unix_stream, _)) =
        (tcp.accept().unwrap(), unix.accept().unwrap());
    // These nobody accepts.
    let mut tcp_late = TcpStream::connect(addr).unwrap();
    let mut unix_late = std_unix::UnixStream::connect(&path.0).unwrap();
    tcp.close();
    unix.close();
    assert_eq!(kind_of(TcpStream::connect(addr)), ErrorKind::ConnectionRefused);
    assert_eq!(kind_of(std_unix::UnixStream::connect(&path.0)), ErrorKind::ConnectionRefused);
    let mut rest = Vec::new();
    assert_eq!(kind_of(tcp_late.read_to_end(&mut rest)), ErrorKind::ConnectionReset);
    assert_eq!(unix_late.read_to_end(&mut rest).unwrap(), 0);
    // Those who were accepted go on.
    tcp_peer.write_all(b"tcp").unwrap();
    unix_peer.write_all(b"unx").unwrap();
    let mut word = [0; 3];
    tcp_stream.read_exact(&mut word).unwrap();
    assert_eq!(&word, b"tcp");
    unix_stream.read_exact(&mut word).unwrap();
    assert_eq!(&word, b"unx");
    // While the first is still there.
    let again = TcpListener::bind(addr).unwrap();
    let client = TcpStream::connect(addr).unwrap();
    again.accept().unwrap();
    drop((tcp, client));
}

#[test]
fn closing_a_udp_socket_wakes_whoever_receives() {
    let udp = Arc::new(UdpSocket::bind("127.0.0.1:0").unwrap());
    let mut all = Vec::<Waiting>::new();
    for kind in KINDS {
        let socket = Arc::clone(&udp);
        all.push((kind.start(move || kind_of(socket.recv_from(&mut [0; 4]))), "io read"));
        let socket = Arc::clone(&udp);
        all.push((kind.start(move || kind_of(socket.peek(&mut [0; 4]))), "io read"));
        let socket = Arc::clone(&udp);
        let ctx = context::background();
        all.push((kind.start(move || kind_of(socket.recv_ctx(&mut [0; 4], &ctx))), "select"));
        let socket = Arc::clone(&udp);
        let future = async move { kind_of(socket.recv_from_async(&mut [0; 4]).await) };
        all.push((kind.start(move || waiting::block_on(future)), "park"));
    }
    let addr = udp.local_addr().unwrap();
    assert_told(all, || udp.close());
    udp.close();
    let ctx = context::background();
    assert_eq!(kind_of(udp.recv(&mut [0; 4])), ErrorKind::NotConnected);
    assert_eq!(kind_of(udp.recv_from_ctx(&mut [0; 4], &ctx)), ErrorKind::NotConnected);
    assert_eq!(kind_of(udp.send_to(b"x", addr)), ErrorKind::NotConnected);
    assert_eq!(kind_of(task::block_on(udp.send_to_async(b"x", addr))), ErrorKind::NotConnected);
    assert_eq!(kind_of(udp.send_ctx(b"x", &ctx)), ErrorKind::NotConnected);
}

#[test]
fn whoever_connects_while_a_listener_is_closed_hangs_nowhere() {
    for round in 0..50 {
        let listener = Arc::new(TcpListener::bind("127.0.0.1:0").unwrap());
        let addr = listener.local_addr().unwrap();
        let servers: Vec<_> = (0..4)
            .map(|n| {
                let listener = Arc::clone(&listener);
                KINDS[n % 2].start(move || {
                    let mut served = 0;
                    for stream in listener.incoming() {
                        let mut stream = stream.unwrap();
                        if stream.read_exact(&mut [0]).is_ok() && stream.write_all(b"hello").is_ok()
                        {
                            served += 1;
                        }
                    }
                    served
                })
            })
            .collect();
        let clients: Vec<_> = (0..8)
            .map(|_| {
                strands::go(move || {
                    let mut greeted = 0;
                    // Refused, or reset before it was accepted: the listener was closed. One whose handshake was
                    // not over yet is told of it when it writes.
                    for _ in 0..5 {
                        let Ok(mut stream) = TcpStream::connect(addr) else { break };
                        match stream.write_all(b"?").and_then(|()| stream.read_exact(&mut [0; 5])) {
                            Ok(()) => greeted += 1,
                            Err(_) => break,
                        }
                    }
                    greeted
                })
            })
            .collect();
        for _ in 0..round {
            strands::yield_now();
        }
        listener.close();
        let greeted: usize = clients.into_iter().map(|client| client.join().unwrap()).sum();
        let served: usize = servers.into_iter().map(Started::join).sum();
        // Of each client one at most was served and not greeted.
        assert!(greeted <= served && served <= greeted + 8, "{greeted} of {served}");
    }
}
