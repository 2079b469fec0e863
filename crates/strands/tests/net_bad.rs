//! Peers that misbehave, limits that are reached, and nothing lost by it.
#![cfg(not(loom))]

mod child;
mod process;
mod waiting;

use child::Child;
use std::io::{self, ErrorKind, Read, Write};
use std::net::{Shutdown, SocketAddr};
use std::os::fd::AsRawFd;
use std::time::{Duration, Instant};
use strands::net::{TcpListener, TcpStream, ToSocketAddrs, UdpSocket, UnixStream};
use waiting::{KINDS, Kind};

fn listen() -> (TcpListener, SocketAddr) {
    let listener = TcpListener::bind("127.0.0.1:0").unwrap();
    let addr = listener.local_addr().unwrap();
    (listener, addr)
}

/// Closes with a reset instead of an end.
fn reset(stream: std::net::TcpStream) {
    let linger = libc::linger { l_onoff: 1, l_linger: 0 };
    // SAFETY: the option is live, and as long as is said.
    let set = unsafe {
        libc::setsockopt(
            stream.as_raw_fd(),
            libc::SOL_SOCKET,
            libc::SO_LINGER,
            (&raw const linger).cast(),
            size_of::<libc::linger>() as libc::socklen_t,
        )
    };
    assert_eq!(set, 0);
}

fn descriptors() -> usize {
    // The listing has one of its own.
    std::fs::read_dir("/proc/self/fd").unwrap().count() - 1
}

fn limit_descriptors(soft: u64) -> bool {
    let mut limit = libc::rlimit { rlim_cur: 0, rlim_max: 0 };
    // SAFETY: one live structure.
    unsafe {
        assert_eq!(libc::getrlimit(libc::RLIMIT_NOFILE, &raw mut limit), 0);
        if limit.rlim_max < soft {
            println!("skipped: no more than {} descriptors allowed", limit.rlim_max);
            return false;
        }
        limit.rlim_cur = soft;
        assert_eq!(libc::setrlimit(libc::RLIMIT_NOFILE, &raw const limit), 0);
    }
    true
}

fn threads() -> usize {
    std::fs::read_dir("/proc/self/task").unwrap().count()
}

#[test]
fn a_reset_is_an_error_and_the_end_is_not() {
    for kind in KINDS {
        let (listener, addr) = listen();
        let peer = std::net::TcpStream::connect(addr).unwrap();
        let (mut stream, _) = listener.accept().unwrap();
        let reader = kind.start(move || {
            let error = stream.read(&mut [0; 4]).unwrap_err().kind();
            // Once it was told, there is the end; writing is in vain.
            assert_eq!(stream.read(&mut [0; 4]).unwrap(), 0);
            assert_eq!(stream.write(b"x").unwrap_err().kind(), ErrorKind::BrokenPipe);
            assert_eq!(stream.peer_addr().unwrap_err().kind(), ErrorKind::NotConnected);
            error
        });
        reader.until_it_waits("io read");
        reset(peer);
        assert_eq!(reader.join(), ErrorKind::ConnectionReset);
    }
}

#[test]
fn one_half_may_be_closed_and_the_other_used() {
    for kind in KINDS {
        let (listener, addr) = listen();
        let server = kind.start(move || {
            let (mut stream, _) = listener.accept().unwrap();
            let mut all = Vec::new();
            stream.read_to_end(&mut all).unwrap();
            // Much more than the buffers hold: it has to wait for room after the end was seen.
            stream.write_all(&vec![9; 10_000_000]).unwrap();
            all
        });
        let mut peer = std::net::TcpStream::connect(addr).unwrap();
        peer.write_all(b"done").unwrap();
        peer.shutdown(Shutdown::Write).unwrap();
        let mut back = Vec::new();
        peer.read_to_end(&mut back).unwrap();
        assert_eq!(back.len(), 10_000_000);
        assert_eq!(server.join(), b"done");
    }
}

#[test]
fn a_peer_that_has_gone_is_a_broken_pipe_and_no_signal() {
    Child::of("a_peer_that_has_gone_is_a_broken_pipe_and_no_signal")
        .run(|| {
            // As in a library that is loaded by a program in C: Rust's own start has the signal ignored.
            // SAFETY: the default action is any process's.
            unsafe { libc::signal(libc::SIGPIPE, libc::SIG_DFL) };
            for kind in KINDS {
                kind.start(|| {
                    let (mut one, other) = UnixStream::pair().unwrap();
                    drop(other);
                    assert_eq!(one.write(b"x").unwrap_err().kind(), ErrorKind::BrokenPipe);
                    let buffers = [io::IoSlice::new(b"x")];
                    let error = one.write_vectored(&buffers).unwrap_err();
                    assert_eq!(error.kind(), ErrorKind::BrokenPipe);
                })
                .join();
            }
        })
        .assert_success();
}

#[test]
fn a_slow_peer_holds_up_nobody() {
    let (listener, addr) = listen();
    let server = strands::go(move || {
        for _ in 0..6 {
            let (mut stream, _) = listener.accept().unwrap();
            strands::go(move || {
                let mut word = [0; 10];
                stream.read_exact(&mut word).unwrap();
                stream.write_all(&word).unwrap();
            });
        }
    });
    let slow: Vec<_> = (0..3)
        .map(|_| {
            Kind::Thread.start(move || {
                let mut peer = std::net::TcpStream::connect(addr).unwrap();
                for _ in 0..10 {
                    peer.write_all(b".").unwrap();
                    std::thread::sleep(Duration::from_millis(30));
                }
                let mut back = [0; 10];
                peer.read_exact(&mut back).unwrap();
                Instant::now()
            })
        })
        .collect();
    let quick: Vec<_> = (0..3)
        .map(|_| {
            Kind::Goroutine.start(move || {
                let mut peer = TcpStream::connect(addr).unwrap();
                peer.write_all(b"0123456789").unwrap();
                let mut back = [0; 10];
                peer.read_exact(&mut back).unwrap();
                Instant::now()
            })
        })
        .collect();
    let quick = quick.into_iter().map(|peer| peer.join()).max();
    let slow = slow.into_iter().map(|peer| peer.join()).min();
    assert!(quick < slow);
    server.join().unwrap();
}

#[test]
fn addresses_that_cannot_be_had_are_errors() {
    for kind in KINDS {
        kind.start(|| {
            let (_listener, addr) = listen();
            assert_eq!(TcpListener::bind(addr).unwrap_err().kind(), ErrorKind::AddrInUse);
            let udp = UdpSocket::bind("127.0.0.1:0").unwrap();
            let error = UdpSocket::bind(udp.local_addr().unwrap()).unwrap_err();
            assert_eq!(error.kind(), ErrorKind::AddrInUse);
            // Not on this machine.
            let error = TcpListener::bind("192.0.2.1:0").unwrap_err();
            assert_eq!(error.kind(), ErrorKind::AddrNotAvailable);
            // By the resolver, which has a thread of its own; reserved, so that no server knows it.
            assert!(TcpStream::connect("nobody.invalid:80").is_err());
            assert!(("nobody.invalid", 80).to_socket_addrs().is_err());
            for nonsense in ["127.0.0.1", "127.0.0.1:65536", "", "::1:80:x"] {
                let error = TcpStream::connect(nonsense).unwrap_err();
                assert_eq!(error.kind(), ErrorKind::InvalidInput, "{nonsense:?}");
            }
            let error = udp.send_to(b"x", &[][..]).unwrap_err();
            assert_eq!(error.kind(), ErrorKind::InvalidInput);
        })
        .join();
    }
}

#[test]
fn a_listener_outlives_a_shortage_of_descriptors() {
    let ended = Child::of("a_listener_outlives_a_shortage_of_descriptors").run(|| {
        assert!(limit_descriptors(200), "so many are allowed everywhere");
        let (listener, addr) = listen();
        strands::go(move || {
            for stream in listener.incoming() {
                let stream = stream.unwrap();
                strands::go(move || io::copy(&mut &stream, &mut &stream));
            }
        });
        // The poller has its own descriptors from now on, and whatever else is made once.
        echo(&mut std::net::TcpStream::connect(addr).unwrap());
        echo(&mut std::net::TcpStream::connect(addr).unwrap());
        // All there are, but one for the peer: none is left for the other end.
        for _ in 0..2 {
            let mut taken = fill_descriptors();
            // The runtime may be quicker with the one that is given back: it opens files to look at its threads.
            let mut peer = loop {
                drop(taken.pop());
                if let Ok(peer) = std::net::TcpStream::connect(addr) {
                    break peer;
                }
            };
            child::wait_until("the listener pauses", || {
                strands::runtime::dump().contains("[sleep")
            });
            let used = cpu_time();
            std::thread::sleep(Duration::from_millis(300));
            assert!(cpu_time() - used < Duration::from_millis(150), "it spins");
            drop(taken);
            echo(&mut peer);
        }
    });
    ended.assert_success();
    assert_eq!(ended.stderr.matches("a listener cannot accept").count(), 1, "{ended}");
}

fn echo(peer: &mut std::net::TcpStream) {
    peer.write_all(b"hello").unwrap();
    let mut back = [0; 5];
    peer.read_exact(&mut back).unwrap();
    assert_eq!(&back, b"hello");
}

/// Takes all descriptors that there are.
fn fill_descriptors() -> Vec<std::fs::File> {
    std::iter::from_fn(|| std::fs::File::open("/dev/null").ok()).collect()
}

fn cpu_time() -> Duration {
    let mut time = libc::timespec { tv_sec: 0, tv_nsec: 0 };
    // SAFETY: one live structure.
    unsafe { libc::clock_gettime(libc::CLOCK_PROCESS_CPUTIME_ID, &raw mut time) };
    Duration::new(time.tv_sec as u64, time.tv_nsec as u32)
}

#[test]
fn a_flood_beyond_the_limit_is_served_in_the_end() {
    let ended = Child::of("a_flood_beyond_the_limit_is_served_in_the_end").run(|| {
        const PEERS: usize = 300;
        if !limit_descriptors(100) {
            return;
        }
        let (listener, addr) = listen();
        strands::go(move || {
            for stream in listener.incoming() {
                let stream = stream.unwrap();
                strands::go(move || io::copy(&mut &stream, &mut &stream));
            }
        });
        // Both ends are in this process. Were all descriptors the peers', the server could accept none of them.
        let room = std::sync::Arc::new(strands::sync::Semaphore::new(70));
        let peers: Vec<_> = (0..PEERS)
            .map(|n| {
                let room = std::sync::Arc::clone(&room);
                strands::go(move || {
                    let word = [n as u8; 30];
                    let _permit = room.acquire();
                    loop {
                        match TcpStream::connect(addr) {
                            Ok(mut stream) => {
                                stream.write_all(&word).unwrap();
                                let mut back = [0; 30];
                                stream.read_exact(&mut back).unwrap();
                                assert_eq!(back, word);
                                return;
                            }
                            Err(error) => {
                                assert_eq!(error.raw_os_error(), Some(libc::EMFILE), "{error}");
                                strands::sleep(Duration::from_millis(5));
                            }
                        }
                    }
                })
            })
            .collect();
        peers.into_iter().for_each(|peer| peer.join().unwrap());
    });
    ended.assert_success();
    assert!(ended.stderr.matches("a listener cannot accept").count() <= 1, "{ended}");
}

#[test]
fn no_descriptor_is_left_behind() {
    Child::of("no_descriptor_is_left_behind")
        .run(|| {
            // Too long for a name: no server is asked for it, whose answer might be lost and waited for.
            let nobody = format!("{}.invalid:1", "a".repeat(64));
            let round = || {
                for kind in KINDS {
                    let (listener, addr) = listen();
                    let server = kind.start(move || {
                        for _ in 0..20 {
                            let (mut stream, _) = listener.accept().unwrap();
                            let _ = stream.read(&mut [0; 4]);
                        }
                    });
                    for n in 0..20 {
                        let stream = TcpStream::connect(addr).unwrap();
                        let _clone = stream.try_clone().unwrap();
                        let _ = (&stream).write(&[n; 4]);
                        let std: std::net::TcpStream = stream.into();
                        if n % 3 == 0 {
                            reset(std);
                        }
                    }
                    server.join();
                    assert!(TcpStream::connect(addr).is_err());
                    assert!(TcpStream::connect(nobody.as_str()).is_err());
                }
            };
            // The runtime's own come first; workers may be made in any round.
            (0..5).for_each(|_| round());
            let before = descriptors();
            (0..20).for_each(|_| round());
            let after = descriptors();
            assert!(after <= before + 4, "{before} before, {after} after");
        })
        .assert_success();
}

#[test]
fn nine_thousand_connections_on_a_few_threads() {
    const COUNT: usize = 9_000;
    let ended = Child::of("nine_thousand_connections_on_a_few_threads").run(|| {
        // Both ends are in this process.
        if !limit_descriptors(2 * COUNT as u64 + 600) {
            return;
        }
        let (listener, addr) = listen();
        strands::go(move || {
            for stream in listener.incoming() {
                let mut stream = stream.unwrap();
                strands::go(move || {
                    let mut buffer = [0; 64];
                    while let Ok(n @ 1..) = stream.read(&mut buffer) {
                        stream.write_all(&buffer[..n]).unwrap();
                    }
                });
            }
        });
        let (done, all_done) = strands::channel::bounded::<()>(0);
        let gate = std::sync::Arc::new(strands::sync::WaitGroup::new());
        gate.add(COUNT);
        // No more at a time than the listener's queue holds: the kernel resets what waits too long for a place in it.
        let queue = std::sync::Arc::new(strands::sync::Semaphore::new(64));
        let peers: Vec<_> = (0..COUNT)
            .map(|n| {
                let (all_done, gate) = (all_done.clone(), std::sync::Arc::clone(&gate));
                let queue = std::sync::Arc::clone(&queue);
                strands::go(move || {
                    let permit = queue.acquire();
                    let mut stream = TcpStream::connect(addr).unwrap();
                    for round in 0..2_u64 {
                        let word = ((n as u64) << 8 | round).to_le_bytes();
                        stream.write_all(&word).unwrap();
                        let mut back = [0; 8];
                        stream.read_exact(&mut back).unwrap();
                        assert_eq!(back, word);
                    }
                    drop(permit);
                    gate.done();
                    // All are open at once.
                    assert!(all_done.recv().is_err());
                })
            })
            .collect();
        gate.wait();
        let processors = strands::runtime::metrics().processors;
        println!("{} threads on {processors} processors", threads());
        assert!(threads() <= processors + 20, "{} threads", threads());
        drop(done);
        peers.into_iter().for_each(|peer| peer.join().unwrap());
    });
    ended.assert_success();
    println!("{}", ended.stdout);
}

#[test]
fn who_waits_for_a_socket_is_not_deadlocked() {
    // Nobody in this process can go on, and its one thread that is none of the runtime's waits for a goroutine. But
    // the other end of the socket is somebody else's.
    let program = process::stage(|| {
        let (one, other) = UnixStream::pair().unwrap();
        let mut sleeper = std::process::Command::new("sleep")
            .arg("0.7")
            .stdout(std::os::fd::OwnedFd::from(one))
            .spawn()
            .unwrap();
        let reader = strands::go(move || (&other).read(&mut [0; 4]).unwrap());
        assert_eq!(reader.join().unwrap(), 0);
        sleeper.wait().unwrap();
    });
    if let Some(program) = program {
        program.run().succeeded();
    }
}
