//! TCP: in goroutines, on threads, and between them.
#![cfg(not(loom))]

mod child;
mod waiting;

use std::io::{self, ErrorKind, IoSlice, IoSliceMut, Read, Write};
use std::net::{Shutdown, SocketAddr};
use std::sync::Arc;
use std::sync::atomic::{AtomicUsize, Ordering::SeqCst};
use std::time::{Duration, Instant};
use strands::net::{TcpListener, TcpStream};
use waiting::{A_MOMENT, KINDS, Kind, PLENTY};

fn listen() -> (TcpListener, SocketAddr) {
    let listener = TcpListener::bind("127.0.0.1:0").unwrap();
    let addr = listener.local_addr().unwrap();
    (listener, addr)
}

fn pair() -> (TcpStream, TcpStream) {
    let (listener, addr) = listen();
    let one = TcpStream::connect(addr).unwrap();
    let (other, from) = listener.accept().unwrap();
    assert_eq!(from, one.local_addr().unwrap());
    (one, other)
}

/// Bytes that differ from place to place.
fn pattern(length: usize, seed: u8) -> Vec<u8> {
    let mut x = u32::from(seed) + 1;
    (0..length)
        .map(|_| {
            x = x.wrapping_mul(1_664_525).wrapping_add(1_013_904_223);
            (x >> 24) as u8
        })
        .collect()
}

#[test]
fn what_is_written_is_read_whoever_does_it() {
    for one in KINDS {
        for other in KINDS {
            let (listener, addr) = listen();
            let server = one.start(move || {
                let (mut stream, _) = listener.accept().unwrap();
                let mut all = Vec::new();
                stream.read_to_end(&mut all).unwrap();
                stream.write_all(&all).unwrap();
                all
            });
            let client = other.start(move || {
                let stream = TcpStream::connect(addr).unwrap();
                let sent = pattern(3_000_000, 1);
                (&stream).write_all(&sent).unwrap();
                stream.shutdown(Shutdown::Write).unwrap();
                let mut back = Vec::new();
                (&stream).read_to_end(&mut back).unwrap();
                assert!(back == sent, "{} bytes came back", back.len());
                sent
            });
            assert!(client.join() == server.join());
        }
    }
}

#[test]
fn a_reader_waits_and_is_woken_by_what_comes() {
    for kind in KINDS {
        let (mut one, mut other) = pair();
        let (told, heard) = std::sync::mpsc::channel();
        let reader = kind.start(move || {
            let mut buffer = [0; 8];
            // A short read, then one that must wait again.
            for _ in 0..3 {
                let length = other.read(&mut buffer).unwrap();
                told.send(buffer[..length].to_vec()).unwrap();
            }
        });
        for word in [&b"abc"[..], b"defgh"] {
            reader.until_it_waits("io read");
            one.write_all(word).unwrap();
            assert_eq!(heard.recv().unwrap(), word);
        }
        reader.until_it_waits("io read");
        drop(one);
        assert_eq!(heard.recv().unwrap(), b"");
        reader.join();
    }
}

#[test]
fn the_end_that_follows_a_short_read_is_seen() {
    // Bytes and end come so close that one look finds both.
    for round in 0..50 {
        let (mut one, mut other) = pair();
        let reader = Kind::Goroutine.start(move || {
            let mut all = Vec::new();
            let mut buffer = [0; 64];
            loop {
                match other.read(&mut buffer).unwrap() {
                    0 => return all,
                    n => all.extend_from_slice(&buffer[..n]),
                }
            }
        });
        reader.until_it_waits("io read");
        let writer = Kind::Thread.start(move || {
            for byte in b"xyz" {
                one.write_all(&[*byte]).unwrap();
            }
            if round % 2 == 0 {
                one.shutdown(Shutdown::Both).unwrap();
            }
        });
        assert_eq!(reader.join(), b"xyz");
        writer.join();
    }
}

#[test]
fn a_writer_waits_until_there_is_room() {
    for kind in KINDS {
        let (one, mut other) = pair();
        let sent = pattern(20_000_000, 2);
        let writer = kind.start({
            let sent = sent.clone();
            move || (&one).write_all(&sent).unwrap()
        });
        writer.until_it_waits("io write");
        let mut got = vec![0; sent.len()];
        other.read_exact(&mut got).unwrap();
        assert!(got == sent);
        writer.join();
    }
}

#[test]
fn many_read_and_write_one_socket() {
    const EACH: usize = 2_000;
    let (one, other) = pair();
    let (one, other) = (Arc::new(one), Arc::new(other));
    let total = Arc::new(AtomicUsize::new(0));
    let parties = [Kind::Goroutine, Kind::Goroutine, Kind::Thread, Kind::Goroutine, Kind::Thread];
    let readers: Vec<_> = parties
        .iter()
        .map(|kind| {
            let (other, total) = (Arc::clone(&other), Arc::clone(&total));
            kind.start(move || {
                let mut buffer = [0; 37];
                loop {
                    match (&*other).read(&mut buffer).unwrap() {
                        0 => return,
                        n => total.fetch_add(n, SeqCst),
                    };
                }
            })
        })
        .collect();
    let writers: Vec<_> = parties
        .iter()
        .map(|kind| {
            let one = Arc::clone(&one);
            kind.start(move || {
                for n in 0..EACH {
                    (&*one).write_all(&[7; 11]).unwrap();
                    if n % 64 == 0 {
                        strands::yield_now();
                    }
                }
            })
        })
        .collect();
    writers.into_iter().for_each(|writer| writer.join());
    one.shutdown(Shutdown::Write).unwrap();
    readers.into_iter().for_each(|reader| reader.join());
    assert_eq!(total.load(SeqCst), parties.len() * EACH * 11);
}

#[test]
fn shutdown_wakes_all_who_wait() {
    for how in [Shutdown::Read, Shutdown::Both] {
        let (_one, other) = pair();
        let other = Arc::new(other);
        let readers: Vec<_> = [KINDS, KINDS]
            .concat()
            .into_iter()
            .map(|kind| {
                let other = Arc::clone(&other);
                kind.start(move || (&*other).read(&mut [0; 4]).unwrap())
            })
            .collect();
        readers.iter().for_each(|reader| reader.until_it_waits("io read"));
        other.shutdown(how).unwrap();
        readers.into_iter().for_each(|reader| assert_eq!(reader.join(), 0));
    }
    for kind in KINDS {
        let (_one, other) = pair();
        let other = Arc::new(other);
        let writer = kind.start({
            let other = Arc::clone(&other);
            move || (&*other).write_all(&vec![1; 50_000_000]).unwrap_err().kind()
        });
        writer.until_it_waits("io write");
        other.shutdown(Shutdown::Both).unwrap();
        assert_eq!(writer.join(), ErrorKind::BrokenPipe);
    }
}

#[test]
fn timeouts_are_kept() {
    for kind in KINDS {
        let (one, other) = pair();
        assert_eq!(other.read_timeout().unwrap(), None);
        let zero = other.set_read_timeout(Some(Duration::ZERO)).unwrap_err();
        assert_eq!(zero.kind(), ErrorKind::InvalidInput);
        let timeout = Duration::from_millis(30);
        // A clone shares them.
        other.try_clone().unwrap().set_read_timeout(Some(timeout)).unwrap();
        other.set_write_timeout(Some(timeout)).unwrap();
        assert_eq!(other.read_timeout().unwrap(), Some(timeout));
        kind.start(move || {
            for _ in 0..2 {
                let begun = Instant::now();
                let error = (&other).read(&mut [0; 4]).unwrap_err();
                assert_eq!(error.kind(), ErrorKind::WouldBlock);
                assert!(begun.elapsed() >= timeout);
            }
            let begun = Instant::now();
            let error = (&other).write_all(&vec![0; 50_000_000]).unwrap_err();
            assert_eq!(error.kind(), ErrorKind::WouldBlock);
            assert!(begun.elapsed() >= timeout);
            other.set_read_timeout(None).unwrap();
            (&one).write_all(b"late").unwrap();
            assert_eq!((&other).read(&mut [0; 9]).unwrap(), 4);
        })
        .join();
    }
}

#[test]
fn nonblocking_sockets_do_not_wait() {
    for kind in KINDS {
        kind.start(|| {
            let (listener, addr) = listen();
            listener.set_nonblocking(true).unwrap();
            assert_eq!(listener.accept().unwrap_err().kind(), ErrorKind::WouldBlock);
            let one = TcpStream::connect(addr).unwrap();
            listener.set_nonblocking(false).unwrap();
            let (other, _) = listener.accept().unwrap();
            other.set_nonblocking(true).unwrap();
            let read = || (&other).read(&mut [0; 8]);
            assert_eq!(read().unwrap_err().kind(), ErrorKind::WouldBlock);
            (&one).write_all(b"1").unwrap();
            child::wait_until("the byte arrives", || read().is_ok_and(|n| n == 1));
            assert_eq!(read().unwrap_err().kind(), ErrorKind::WouldBlock);
        })
        .join();
    }
}

#[test]
fn connecting_says_why_it_failed() {
    for kind in KINDS {
        kind.start(|| {
            let (listener, addr) = listen();
            drop(listener);
            assert_eq!(TcpStream::connect(addr).unwrap_err().kind(), ErrorKind::ConnectionRefused);
            let error = TcpStream::connect_timeout(&addr, Duration::ZERO).unwrap_err();
            assert_eq!(error.kind(), ErrorKind::InvalidInput);
            let error = TcpStream::connect(&[][..]).unwrap_err();
            assert_eq!(error.kind(), ErrorKind::InvalidInput);
            // Of several addresses the first that answers.
            let (listener, other) = listen();
            let stream = TcpStream::connect(&[addr, other][..]).unwrap();
            assert_eq!(stream.peer_addr().unwrap(), other);
            drop(listener);
        })
        .join();
    }
}

#[test]
fn connecting_gives_up_when_the_time_is_up() {
    for kind in KINDS {
        kind.start(|| {
            // A queue of one that is full: the kernel drops what comes next.
            let socket = std::net::TcpListener::bind("127.0.0.1:0").unwrap();
            // SAFETY: no memory.
            assert_eq!(unsafe { libc::listen(std::os::fd::AsRawFd::as_raw_fd(&socket), 0) }, 0);
            let addr = socket.local_addr().unwrap();
            let mut connected = Vec::new();
            let error = loop {
                match TcpStream::connect_timeout(&addr, Duration::from_millis(200)) {
                    Ok(stream) => connected.push(stream),
                    Err(error) => break error,
                }
                assert!(connected.len() < 10);
            };
            assert_eq!(error.kind(), ErrorKind::TimedOut);
        })
        .join();
    }
}

#[test]
fn peeks_and_vectors() {
    for kind in KINDS {
        kind.start(|| {
            let (mut one, mut other) = pair();
            let n = one.write_vectored(&[IoSlice::new(b"hello "), IoSlice::new(b"world")]).unwrap();
            assert_eq!(n, 11);
            let mut peeked = [0; 11];
            child::wait_until("all of it is there", || other.peek(&mut peeked).unwrap() == 11);
            assert_eq!(&peeked, b"hello world");
            let (mut first, mut second) = ([0; 4], [0; 9]);
            let mut buffers = [IoSliceMut::new(&mut first), IoSliceMut::new(&mut second)];
            assert_eq!(other.read_vectored(&mut buffers).unwrap(), 11);
            assert_eq!((&first, &second[..7]), (b"hell", &b"o world"[..]));
        })
        .join();
    }
}

#[test]
fn options_are_the_kernels() {
    let (one, _other) = pair();
    one.set_nodelay(true).unwrap();
    assert!(one.nodelay().unwrap());
    one.set_ttl(33).unwrap();
    assert_eq!(one.ttl().unwrap(), 33);
    assert!(one.take_error().unwrap().is_none());
    let (listener, _) = listen();
    listener.set_ttl(44).unwrap();
    assert_eq!(listener.ttl().unwrap(), 44);
    assert!(listener.take_error().unwrap().is_none());
}

#[test]
fn sockets_become_std_s_and_come_back() {
    let (one, other) = pair();
    other.set_read_timeout(Some(A_MOMENT)).unwrap();
    let mut std: std::net::TcpStream = other.into();
    assert_eq!(std.read_timeout().unwrap().map(|t| t.as_millis() / 10), Some(0));
    std.set_read_timeout(None).unwrap();
    let writer = Kind::Thread.start(move || {
        (&one).write_all(b"to std").unwrap();
        one
    });
    // It blocks: nothing may be there yet.
    let mut buffer = [0; 6];
    std.read_exact(&mut buffer).unwrap();
    let mut one = writer.join();
    std.set_read_timeout(Some(PLENTY)).unwrap();
    let other = TcpStream::from(std);
    assert_eq!(other.read_timeout().unwrap(), Some(PLENTY));
    // With a clone about it is a copy.
    let clone = other.try_clone().unwrap();
    let mut std: std::net::TcpStream = other.into();
    std.write_all(b"copy").unwrap();
    let mut buffer = [0; 4];
    one.read_exact(&mut buffer).unwrap();
    assert_eq!(&buffer, b"copy");
    (&clone).write_all(b"last").unwrap();
    one.read_exact(&mut buffer).unwrap();
    assert_eq!(&buffer, b"last");
}

#[test]
fn a_goroutine_for_each_of_many_connections() {
    const COUNT: usize = 300;
    let (listener, addr) = listen();
    let server = strands::go(move || {
        for _ in 0..COUNT {
            let (stream, _) = listener.accept().unwrap();
            strands::go(move || io::copy(&mut &stream, &mut &stream).unwrap());
        }
    });
    let clients: Vec<_> = (0..COUNT)
        .map(|n| {
            strands::go(move || {
                let stream = TcpStream::connect(addr).unwrap();
                for round in 0..10 {
                    let sent = pattern(100 + n, round);
                    (&stream).write_all(&sent).unwrap();
                    let mut back = vec![0; sent.len()];
                    (&stream).read_exact(&mut back).unwrap();
                    assert!(back == sent);
                }
            })
        })
        .collect();
    clients.into_iter().for_each(|client| client.join().unwrap());
    server.join().unwrap();
}

#[test]
fn several_accept_at_one_listener() {
    let (listener, addr) = listen();
    let listener = Arc::new(listener);
    let acceptors: Vec<_> = [KINDS, KINDS, KINDS]
        .concat()
        .into_iter()
        .map(|kind| {
            let listener = Arc::clone(&listener);
            kind.start(move || {
                let (mut stream, _) = listener.accept().unwrap();
                stream.write_all(b"!").unwrap();
            })
        })
        .collect();
    acceptors.iter().for_each(|acceptor| acceptor.until_it_waits("accept"));
    for _ in 0..acceptors.len() {
        assert_eq!(io::read_to_string(TcpStream::connect(addr).unwrap()).unwrap(), "!");
    }
    acceptors.into_iter().for_each(|acceptor| acceptor.join());
}

#[test]
fn a_socket_may_go_from_goroutine_to_goroutine() {
    // Each is at home somewhere, and the socket's registration comes after them.
    let (one, other) = pair();
    let (one, other) = (Arc::new(one), Arc::new(other));
    for round in 0..200_u32 {
        let reader = {
            let other = Arc::clone(&other);
            strands::go(move || {
                let mut buffer = [0; 4];
                (&*other).read_exact(&mut buffer).unwrap();
                u32::from_le_bytes(buffer)
            })
        };
        let writer = {
            let one = Arc::clone(&one);
            strands::go(move || (&*one).write_all(&round.to_le_bytes()).unwrap())
        };
        writer.join().unwrap();
        assert_eq!(reader.join().unwrap(), round);
    }
}
