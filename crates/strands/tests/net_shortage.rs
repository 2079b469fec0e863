//! Whoever waits for a socket is told, though there are no descriptors left for a poller.
#![cfg(not(loom))]

mod child;
mod waiting;

use child::Child;
use std::fs::File;
use std::io::{ErrorKind, Read, Write};
use std::os::fd::{AsRawFd, FromRawFd, OwnedFd};
use std::sync::{Arc, Barrier};
use std::time::{Duration, Instant};
use strands::channel::{after, bounded};
use strands::context;
use strands::net::{TcpListener, UdpSocket, UnixDatagram, UnixListener, UnixStream};
use strands::{select, task};
use waiting::{A_MOMENT, KINDS, Kind, PLENTY};

/// Allows no descriptor with that number or a higher one.
fn limit_descriptors(limit: u64) {
    let mut now = libc::rlimit { rlim_cur: 0, rlim_max: 0 };
    // SAFETY: both have a valid place.
    unsafe {
        assert_eq!(libc::getrlimit(libc::RLIMIT_NOFILE, &mut now), 0);
        now.rlim_cur = limit;
        assert_eq!(libc::setrlimit(libc::RLIMIT_NOFILE, &now), 0);
    }
}

/// From here on there are no more descriptors than there are.
fn allow_no_more() {
    // The lowest number that is free.
    let next = File::open("/dev/null").unwrap().as_raw_fd();
    limit_descriptors(next as u64);
    assert!(File::open("/dev/null").is_err());
}

/// Plays this in a process in which the runtime runs, but has had no reason to make a poller.
fn in_a_process(test: &'static str, processors: &str, body: impl FnOnce()) {
    let child = Child::of(test).env("STRANDS_MAXPROCS", processors);
    let ended = child.run(|| {
        strands::go(|| {}).join().unwrap();
        body();
    });
    ended.assert_success();
}

fn cpu_time() -> Duration {
    let mut time = libc::timespec { tv_sec: 0, tv_nsec: 0 };
    // SAFETY: one live structure.
    unsafe { libc::clock_gettime(libc::CLOCK_PROCESS_CPUTIME_ID, &raw mut time) };
    Duration::new(time.tv_sec as u64, time.tv_nsec as u32)
}

#[test]
fn a_goroutine_whose_worker_gets_no_poller_waits_all_the_same() {
    in_a_process("a_goroutine_whose_worker_gets_no_poller_waits_all_the_same", "1", || {
        let (mut one, mut other) = UnixStream::pair().unwrap();
        allow_no_more();
        let reader = Kind::Goroutine.start(move || {
            let mut buffer = [0; 5];
            // In three pieces, so that it waits again after it was woken; then in vain.
            other.read_exact(&mut buffer).unwrap();
            other.set_read_timeout(Some(Duration::from_millis(50))).unwrap();
            let begun = Instant::now();
            let error = other.read(&mut buffer).unwrap_err();
            assert_eq!(error.kind(), ErrorKind::WouldBlock);
            assert!(begun.elapsed() >= Duration::from_millis(50));
            (buffer, other)
        });
        for piece in [&b"he"[..], b"l", b"lo"] {
            reader.until_it_waits("io read");
            std::thread::sleep(Duration::from_millis(20));
            one.write_all(piece).unwrap();
        }
        let (buffer, mut other) = reader.join();
        assert_eq!(&buffer, b"hello");

        // Both ways at once, and much more than there is room for.
        let (mut one, other) = std::thread::scope(|s| {
            let there = strands::go(move || {
                one.write_all(&vec![1; 1_000_000]).unwrap();
                one
            });
            let back = s.spawn(move || {
                let mut buffer = vec![0; 1_000_000];
                other.read_exact(&mut buffer).unwrap();
                assert!(buffer == vec![1; 1_000_000]);
                other
            });
            (there.join().unwrap(), back.join().unwrap())
        });

        // When there are descriptors again it is served as all are.
        limit_descriptors(100);
        let reader = Kind::Goroutine.start(move || std::io::read_to_string(other).unwrap());
        reader.until_it_waits("io read");
        one.write_all(b"again").unwrap();
        drop(one);
        assert_eq!(reader.join(), "again");
    });
}

#[test]
fn waiting_with_a_context_needs_no_descriptor() {
    in_a_process("waiting_with_a_context_needs_no_descriptor", "2", || {
        let (mut one, other) = UnixStream::pair().unwrap();
        let (datagrams, sender) = UnixDatagram::pair().unwrap();
        let udp = UdpSocket::bind("127.0.0.1:0").unwrap();
        let to_udp = std::net::UdpSocket::bind("127.0.0.1:0").unwrap();
        to_udp.connect(udp.local_addr().unwrap()).unwrap();
        allow_no_more();
        let (other, udp, datagrams) = (Arc::new(other), Arc::new(udp), Arc::new(datagrams));
        for kind in KINDS {
            let socket = Arc::clone(&other);
            let reader = kind.start(move || {
                let mut buffer = [0; 8];
                let ctx = context::background();
                let read = socket.read_ctx(&mut buffer, &ctx).unwrap();
                // And in vain.
                let (late, _cancel) = context::with_timeout(&ctx, A_MOMENT);
                let error = socket.read_ctx(&mut buffer[read..], &late).unwrap_err();
                assert_eq!(error.kind(), ErrorKind::TimedOut);
                read
            });
            reader.until_it_waits("select");
            one.write_all(b"hello").unwrap();
            assert_eq!(reader.join(), 5);

            // There is no room, and then there is.
            let socket = Arc::clone(&other);
            let writer = kind.start(move || {
                let ctx = context::background();
                let mut written = 0;
                while written < 1_000_000 {
                    written += socket.write_ctx(&[7; 10_000], &ctx).unwrap();
                }
                written
            });
            writer.until_it_waits("select");
            std::io::copy(&mut (&mut one).take(1_000_000), &mut std::io::sink()).unwrap();
            assert_eq!(writer.join(), 1_000_000);

            let socket = Arc::clone(&datagrams);
            let receiver =
                kind.start(move || socket.recv_ctx(&mut [0; 9], &context::background()).unwrap());
            receiver.until_it_waits("select");
            sender.send(b"datagram").unwrap();
            assert_eq!(receiver.join(), 8);

            let socket = Arc::clone(&udp);
            let receiver = kind.start(move || {
                let received = socket.recv_from_ctx(&mut [0; 9], &context::background()).unwrap();
                received.0
            });
            receiver.until_it_waits("select");
            to_udp.send(b"udp").unwrap();
            assert_eq!(receiver.join(), 3);
        }
    });
}

#[test]
fn listeners_wait_for_connections_and_then_for_descriptors() {
    in_a_process("listeners_wait_for_connections_and_then_for_descriptors", "2", || {
        for kind in KINDS {
            for with_context in [false, true] {
                let listener = TcpListener::bind("127.0.0.1:0").unwrap();
                let addr = listener.local_addr().unwrap();
                // Made now, connected later.
                // SAFETY: touches no memory; what comes of it is ours.
                let client = unsafe { libc::socket(libc::AF_INET, libc::SOCK_STREAM, 0) };
                assert!(client >= 0);
                // SAFETY: as above.
                let client = unsafe { OwnedFd::from_raw_fd(client) };
                allow_no_more();
                let acceptor = kind.start(move || {
                    let accepted = match with_context {
                        false => listener.accept(),
                        true => listener.accept_ctx(&context::background()),
                    };
                    accepted.unwrap().0
                });
                // It tries in vain, now and then.
                std::thread::sleep(Duration::from_millis(10));
                connect(&client, addr.port());
                std::thread::sleep(Duration::from_millis(10));
                assert!(!acceptor.is_finished());
                limit_descriptors(100);
                let mut stream = acceptor.join();
                std::net::TcpStream::from(client).write_all(b"x").unwrap();
                stream.read_exact(&mut [0]).unwrap();
            }
        }
    });
}

fn connect(socket: &OwnedFd, port: u16) {
    let addr = libc::sockaddr_in {
        sin_family: libc::AF_INET as libc::sa_family_t,
        sin_port: port.to_be(),
        sin_addr: libc::in_addr { s_addr: u32::from_ne_bytes([127, 0, 0, 1]) },
        sin_zero: [0; 8],
    };
    let length = size_of_val(&addr) as libc::socklen_t;
    // SAFETY: a live address of that length.
    let done = unsafe { libc::connect(socket.as_raw_fd(), (&raw const addr).cast(), length) };
    assert_eq!(done, 0);
}

#[test]
fn a_socket_in_a_select_needs_no_descriptor() {
    in_a_process("a_socket_in_a_select_needs_no_descriptor", "2", || {
        let (mut one, other) = UnixStream::pair().unwrap();
        let (mut two, another) = UnixStream::pair().unwrap();
        let sockets = Arc::new((other, another));
        allow_no_more();
        for kind in KINDS {
            let (tx, rx) = bounded::<()>(1);
            let sockets = Arc::clone(&sockets);
            let (told, tells) = std::sync::mpsc::channel();
            let selecting = kind.start(move || {
                let (other, another) = &*sockets;
                let mut buffer = [0];
                for _ in 0..4 {
                    let what = select! {
                        ready(other.readable()) -> ready => {
                            ready.unwrap();
                            (&*other).read_exact(&mut buffer).unwrap();
                            "one"
                        },
                        ready(another.readable()) -> ready => {
                            ready.unwrap();
                            (&*another).read_exact(&mut buffer).unwrap();
                            "two"
                        },
                        recv(rx) -> _ => "channel",
                        recv(after(PLENTY)) -> _ => "late",
                    };
                    told.send(what).unwrap();
                }
                // In vain.
                let in_time = select! {
                    ready(other.readable()) -> _ => true,
                    ready(another.readable()) -> _ => true,
                    recv(after(A_MOMENT)) -> _ => false,
                };
                assert!(!in_time);
                other.writable().wait().unwrap();
                told.send("the end").unwrap();
            });
            for what in ["one", "channel", "two", "one"] {
                selecting.until_it_waits("select");
                match what {
                    "one" => one.write_all(b"x").unwrap(),
                    "two" => two.write_all(b"x").unwrap(),
                    _ => tx.send(()).unwrap(),
                }
                assert_eq!(tells.recv_timeout(PLENTY), Ok(what));
            }
            assert_eq!(tells.recv_timeout(PLENTY), Ok("the end"));
            selecting.join();
        }
    });
}

#[test]
fn futures_need_no_descriptor() {
    in_a_process("futures_need_no_descriptor", "2", || {
        let (one, other) = UnixStream::pair().unwrap();
        let path = std::env::temp_dir().join(format!("strands-short-{}", std::process::id()));
        let listener = Arc::new(UnixListener::bind(&path).unwrap());
        let udp = Arc::new(UdpSocket::bind("127.0.0.1:0").unwrap());
        let udp_addr = udp.local_addr().unwrap();
        let sender = std::net::UdpSocket::bind("127.0.0.1:0").unwrap();
        allow_no_more();
        let (one, other) = (Arc::new(one), Arc::new(other));
        let send = |byte: u8| {
            std::thread::sleep(Duration::from_millis(10));
            (&*one).write_all(&[byte]).unwrap();
        };
        let read = |socket: Arc<UnixStream>| async move {
            socket.readable_async().await.unwrap();
            let mut byte = [0];
            (&*socket).read_exact(&mut byte).unwrap();
            byte[0]
        };
        // By a worker, as a task.
        let reading = task::spawn(read(Arc::clone(&other)));
        send(1);
        assert_eq!(reading.join().unwrap(), 1);
        for (kind, byte) in KINDS.into_iter().zip(2..) {
            let future = read(Arc::clone(&other));
            let reading = kind.start(move || task::block_on(future));
            send(byte);
            assert_eq!(reading.join(), byte);
            // By somebody else's executor.
            let future = read(Arc::clone(&other));
            let reading = kind.start(move || waiting::block_on(future));
            send(byte);
            assert_eq!(reading.join(), byte);

            let socket = Arc::clone(&udp);
            let receiving = kind.start(move || {
                task::block_on(async { socket.recv_from_async(&mut [0; 4]).await.unwrap().0 })
            });
            std::thread::sleep(Duration::from_millis(10));
            sender.send_to(b"udp", udp_addr).unwrap();
            assert_eq!(receiving.join(), 3);
        }
        // A future that is dropped while it waits leaves nothing behind that would spin.
        let mut waiting = waiting::Polled::new(listener.acceptable_async());
        waiting.assert_pending();
        drop(waiting);
        let used = cpu_time();
        std::thread::sleep(Duration::from_millis(300));
        assert!(cpu_time() - used < Duration::from_millis(150), "it spins");
        std::fs::remove_file(&path).unwrap();
    });
}

#[test]
fn a_source_of_another_workers_poller_stays_there() {
    in_a_process("a_source_of_another_workers_poller_stays_there", "2", || {
        let (mut one, other) = UnixStream::pair().unwrap();
        let other = Arc::new(other);
        // At home with different workers, as both stand at the barrier at once; one of them waits for the source first.
        let (first, second) = (Arc::new(Barrier::new(2)), bounded::<()>(0));
        let (told, tells) = std::sync::mpsc::channel();
        let readers: Vec<_> = [true, false]
            .into_iter()
            .map(|is_first| {
                let (other, first, second) =
                    (Arc::clone(&other), Arc::clone(&first), second.1.clone());
                let told = told.clone();
                Kind::Goroutine.start(move || {
                    first.wait();
                    let mut byte = [0];
                    if is_first {
                        (&*other).read_exact(&mut byte).unwrap();
                        told.send(()).unwrap();
                    }
                    second.recv().unwrap();
                    (&*other).read_exact(&mut byte).unwrap();
                    byte[0]
                })
            })
            .collect();
        readers[0].until_it_waits("io read");
        allow_no_more();
        one.write_all(&[0]).unwrap();
        tells.recv_timeout(PLENTY).unwrap();
        (0..2).for_each(|_| second.0.send(()).unwrap());
        readers.iter().for_each(|reader| reader.until_it_waits("io read"));
        one.write_all(&[3]).unwrap();
        one.write_all(&[3]).unwrap();
        assert_eq!(readers.into_iter().map(waiting::Started::join).collect::<Vec<_>>(), [3, 3]);
        limit_descriptors(100);
        let mut threads = std::fs::read_dir("/proc/self/task").unwrap().flatten();
        let name = |thread: &std::fs::DirEntry| std::fs::read_to_string(thread.path().join("comm"));
        assert!(!threads.any(|thread| name(&thread).unwrap().starts_with("strands-makes")));
    });
}

#[test]
fn many_wait_without_descriptors_and_nothing_spins() {
    in_a_process("many_wait_without_descriptors_and_nothing_spins", "2", || {
        const PAIRS: u8 = 60;
        let (ours, theirs): (Vec<_>, Vec<_>) =
            (0..PAIRS).map(|_| UnixStream::pair().unwrap()).unzip();
        allow_no_more();
        let readers: Vec<_> = theirs
            .into_iter()
            .map(|mut socket| {
                Kind::Goroutine.start(move || {
                    let mut sum = 0_u32;
                    let mut bytes = [0; 2];
                    for _ in 0..10 {
                        socket.read_exact(&mut bytes).unwrap();
                        sum += u32::from(bytes[0]) + u32::from(bytes[1]);
                    }
                    sum
                })
            })
            .collect();
        readers.iter().for_each(|reader| reader.until_it_waits("io read"));
        let used = cpu_time();
        std::thread::sleep(Duration::from_millis(300));
        assert!(cpu_time() - used < Duration::from_millis(150), "it spins");
        // A record that was used before, by a source that somebody had waited for, too.
        for round in 0..20 {
            for (mut socket, n) in ours.iter().zip(0_u8..) {
                socket.write_all(&[n]).unwrap();
                if n % 7 == round % 7 {
                    std::thread::yield_now();
                }
            }
        }
        for (reader, n) in readers.into_iter().zip(0_u32..) {
            assert_eq!(reader.join(), 20 * n);
        }
        // A descriptor's number comes again, and so does a record: what was wanted of the former is not the latter's.
        drop(ours);
        let mut taken: Vec<_> = std::iter::from_fn(|| File::open("/dev/null").ok()).collect();
        taken.truncate(taken.len() - 2);
        for n in 0..20 {
            let (one, other) = UnixStream::pair().unwrap();
            let in_vain = strands::go(move || {
                for mut end in [&one, &other] {
                    end.set_read_timeout(Some(Duration::from_micros(100))).unwrap();
                    assert_eq!(end.read(&mut [0]).unwrap_err().kind(), ErrorKind::WouldBlock);
                }
            });
            in_vain.join().unwrap();
            let (mut one, other) = UnixStream::pair().unwrap();
            let (told, tells) = std::sync::mpsc::channel();
            let reader = Kind::Goroutine.start(move || {
                let mut byte = [0];
                other.set_read_timeout(Some(A_MOMENT)).unwrap();
                let error = (&other).read(&mut byte).unwrap_err();
                assert_eq!(error.kind(), ErrorKind::WouldBlock);
                other.set_read_timeout(None).unwrap();
                told.send(()).unwrap();
                (&other).read_exact(&mut byte).unwrap();
                byte[0]
            });
            tells.recv_timeout(PLENTY).unwrap();
            if n % 2 == 0 {
                reader.until_it_waits("io read");
            }
            one.write_all(&[n]).unwrap();
            assert_eq!(reader.join(), n);
        }
    });
}
