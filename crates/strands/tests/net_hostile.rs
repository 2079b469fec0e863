//! Sockets, pipes and children in the hands of those who mean no good, or do not look: nothing to read, descriptors that
//! outlive us elsewhere, more who wait than anybody foresaw, children that others have taken away.
#![cfg(not(loom))]

mod child;
mod waiting;

use child::Child;
use std::future::Future;
use std::io::{ErrorKind, IoSlice, IoSliceMut, Read, Seek, SeekFrom, Write};
use std::os::fd::{AsRawFd, BorrowedFd, OwnedFd};
use std::pin::{Pin, pin};
use std::sync::Arc;
use std::sync::atomic::{AtomicUsize, Ordering::SeqCst};
use std::task::{Context, Poll};
use std::time::Duration;
use strands::context;
use strands::io;
use strands::net::{Shutdown, TcpListener, TcpStream, UdpSocket, UnixStream};
use strands::process::{Command, Stdio};
use waiting::KINDS;

fn tcp_pair() -> (TcpStream, TcpStream) {
    let listener = TcpListener::bind("127.0.0.1:0").unwrap();
    let client = TcpStream::connect(listener.local_addr().unwrap()).unwrap();
    (client, listener.accept().unwrap().0)
}

/// Nobody has sent anything, and nobody reads.
macro_rules! assert_nothing_is_done_at_once {
    ($reader:expr, $writer:expr) => {{
        let (reader, writer) = ($reader, $writer);
        assert_eq!((&reader).read(&mut []).unwrap(), 0);
        assert_eq!((&reader).read_vectored(&mut []).unwrap(), 0);
        assert_eq!((&reader).read_vectored(&mut [IoSliceMut::new(&mut [])]).unwrap(), 0);
        assert_eq!(strands::task::block_on(reader.read_async(&mut [])).unwrap(), 0);
        assert_eq!((&writer).write(&[]).unwrap(), 0);
        assert_eq!((&writer).write_vectored(&[]).unwrap(), 0);
        assert_eq!((&writer).write_vectored(&[IoSlice::new(&[])]).unwrap(), 0);
        assert_eq!(strands::task::block_on(writer.write_async(&[])).unwrap(), 0);
        // It may have been found not to be ready by now. The same again.
        assert_eq!((&reader).read(&mut []).unwrap(), 0);
        assert_eq!(strands::task::block_on(reader.read_async(&mut [])).unwrap(), 0);
        (reader, writer)
    }};
}

#[test]
fn reading_and_writing_nothing_waits_for_nothing() {
    for kind in KINDS {
        kind.start(|| {
            let (ctx, _cancel) = context::with_cancel(&context::background());
            let (reader, writer) = tcp_pair();
            // Found not to be ready.
            reader.set_read_timeout(Some(Duration::from_millis(1))).unwrap();
            assert_eq!((&reader).read(&mut [0]).unwrap_err().kind(), ErrorKind::WouldBlock);
            reader.set_read_timeout(None).unwrap();
            let (reader, writer) = assert_nothing_is_done_at_once!(reader, writer);
            assert_eq!(reader.read_ctx(&mut [], &ctx).unwrap(), 0);
            assert_eq!(writer.write_ctx(&[], &ctx).unwrap(), 0);
            let (one, other) = UnixStream::pair().unwrap();
            let (one, other) = assert_nothing_is_done_at_once!(one, other);
            assert_eq!(one.read_ctx(&mut [], &ctx).unwrap(), 0);
            assert_eq!(other.write_ctx(&[], &ctx).unwrap(), 0);
            let (reader, writer) = io::pipe().unwrap();
            assert_nothing_is_done_at_once!(reader, writer);
        })
        .join();
    }
}

#[test]
fn an_empty_datagram_is_one() {
    let (one, other) =
        (UdpSocket::bind("127.0.0.1:0").unwrap(), UdpSocket::bind("127.0.0.1:0").unwrap());
    let addr = other.local_addr().unwrap();
    let receiver = strands::go(move || {
        let mut buffer = [7; 4];
        assert_eq!(other.recv_from(&mut buffer).unwrap().0, 0);
        // With no room for it, the next is lost, but has come.
        assert_eq!(other.recv_from(&mut []).unwrap().0, 0);
        assert_eq!(other.recv_from(&mut buffer).unwrap().0, 1);
        buffer
    });
    for datagram in [&b""[..], b"lost", b"x"] {
        one.send_to(datagram, addr).unwrap();
    }
    assert_eq!(receiver.join().unwrap(), [b'x', 7, 7, 7]);
}

#[test]
fn children_inherit_none_of_our_descriptors() {
    // What a child is given, by number and target.
    fn given(list: Vec<u8>) -> Vec<(i32, String)> {
        let list = String::from_utf8(list).unwrap();
        let lines = list.lines().filter_map(|line| line.split_once(" -> "));
        lines
            .map(|(name, target)| {
                (name.rsplit(' ').next().unwrap().parse().unwrap(), target.to_owned())
            })
            .filter(|(number, target)| *number > 2 && !target.starts_with("/proc/"))
            .collect()
    }
    let by_std = || {
        let output = std::process::Command::new("ls").arg("-l").arg("/proc/self/fd").output();
        given(output.unwrap().stdout)
    };
    // What the tests themselves were given, children are given too.
    let before = by_std();
    strands::run(move || {
        // A bit of everything, each in use.
        let (mut one, other) = tcp_pair();
        let (mut near, far) = UnixStream::pair().unwrap();
        let listener = TcpListener::bind("127.0.0.1:0").unwrap();
        let (reader, mut writer) = io::pipe().unwrap();
        let udp = UdpSocket::bind("127.0.0.1:0").unwrap();
        let waits = [
            strands::go(move || (&other).read(&mut [0; 8]).map(drop)),
            strands::go(move || (&far).read(&mut [0; 8]).map(drop)),
            strands::go(move || (&reader).read(&mut [0; 8]).map(drop)),
        ];
        strands::yield_now();
        let mut sleeper = Command::new("sleep").arg("60").spawn().unwrap();
        let ours = Command::new("ls").arg("-l").arg("/proc/self/fd").output().unwrap();
        for after in [given(ours.stdout), by_std()] {
            let new: Vec<_> = after.iter().filter(|one| !before.contains(one)).collect();
            assert!(new.is_empty(), "{new:?}");
        }
        sleeper.kill().unwrap();
        assert!(!sleeper.wait().unwrap().success());
        one.write_all(b"x").unwrap();
        near.write_all(b"x").unwrap();
        writer.write_all(b"x").unwrap();
        waits.into_iter().for_each(|wait| wait.join().unwrap().unwrap());
        drop((listener, udp));
    });
}

#[test]
fn what_a_child_keeps_open_wakes_nobody_after_it_was_closed_here() {
    let body = || {
        // The child has a copy of this end, and so what it is an end of stays registered with an epoll that forgets it only
        // when it is told to.
        let (mut peer, ours) = UnixStream::pair().unwrap();
        ours.set_read_timeout(Some(Duration::from_millis(1))).unwrap();
        assert_eq!((&ours).read(&mut [0]).unwrap_err().kind(), ErrorKind::WouldBlock);
        let number = ours.as_raw_fd();
        // SAFETY: open, as `ours` is.
        let copy: OwnedFd = unsafe { BorrowedFd::borrow_raw(number) }.try_clone_to_owned().unwrap();
        let mut child = Command::new("sleep").arg("60").stdin(Stdio::from(copy)).spawn().unwrap();
        drop(ours);
        // Takes the number, as soon as the runtime does not have it for a moment, and most likely the record.
        let pair = || UnixStream::pair().unwrap();
        let mut pairs = std::iter::repeat_with(pair).take(10_000);
        let (next, mut writer) = pairs.find(|(next, _)| next.as_raw_fd() == number).unwrap();
        let reader = strands::go(move || {
            let mut buffer = [0; 8];
            let read = (&next).read(&mut buffer).unwrap();
            buffer[..read].to_vec()
        });
        strands::yield_now();
        for _ in 0..10 {
            peer.write_all(b"not for you").unwrap();
            strands::sleep(Duration::from_millis(1));
        }
        writer.write_all(b"for you").unwrap();
        assert_eq!(reader.join().unwrap(), b"for you");
        child.kill().unwrap();
        child.wait().unwrap();
    };
    // With nobody else who opens descriptors.
    Child::of("what_a_child_keeps_open_wakes_nobody_after_it_was_closed_here")
        .run(|| strands::run(body))
        .assert_success();
}

/// Counts how often a future is polled.
struct Counted<F>(Pin<Box<F>>, Arc<AtomicUsize>);

impl<F: Future> Future for Counted<F> {
    type Output = F::Output;

    fn poll(mut self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<F::Output> {
        self.1.fetch_add(1, SeqCst);
        self.0.as_mut().poll(cx)
    }
}

#[test]
fn a_hundred_tasks_that_wait_at_one_socket_sleep_and_each_has_its_datagram() {
    const TASKS: usize = 100;
    strands::run(|| {
        let socket = Arc::new(UdpSocket::bind("127.0.0.1:0").unwrap());
        let addr = socket.local_addr().unwrap();
        let polls = Arc::new(AtomicUsize::new(0));
        let tasks: Vec<_> = (0..TASKS)
            .map(|_| {
                let socket = Arc::clone(&socket);
                let receive = async move {
                    let mut buffer = [0; 4];
                    socket.recv_from_async(&mut buffer).await.unwrap();
                    u32::from_le_bytes(buffer)
                };
                strands::task::spawn(Counted(Box::pin(receive), Arc::clone(&polls)))
            })
            .collect();
        child::wait_until("all wait", || polls.load(SeqCst) >= TASKS);
        let before = polls.load(SeqCst);
        strands::sleep(Duration::from_millis(50));
        assert_eq!(polls.load(SeqCst), before, "nothing has come, and somebody was woken");
        let sender = UdpSocket::bind("127.0.0.1:0").unwrap();
        for n in 0..TASKS as u32 {
            sender.send_to(&n.to_le_bytes(), addr).unwrap();
            if n % 10 == 0 {
                strands::yield_now();
            }
        }
        let mut got: Vec<_> = tasks.into_iter().map(|task| task.join().unwrap()).collect();
        got.sort_unstable();
        assert_eq!(got, (0..TASKS as u32).collect::<Vec<_>>());
    });
}

#[test]
fn futures_that_were_dropped_leave_nothing_behind_and_crowd_out_nobody() {
    let (one, other) = UnixStream::pair().unwrap();
    let mut buffer = [0; 4];
    let mut reading = waiting::Polled::new(other.read_async(&mut buffer));
    reading.assert_pending();
    for _ in 0..1_000 {
        let mut other_buffer = [0; 4];
        let mut dropped = waiting::Polled::new(other.read_async(&mut other_buffer));
        dropped.assert_pending();
        let bell = Arc::clone(&dropped.bell);
        drop(dropped);
        assert_eq!(Arc::strong_count(&bell), 1, "its waker has gone with it");
    }
    assert_eq!(reading.bell.rung(), 0);
    (&one).write_all(b"abcd").unwrap();
    child::wait_until("the waker is called", || reading.bell.rung() == 1);
    assert_eq!(reading.expect_ready().unwrap(), 4);
}

#[test]
fn a_copy_to_a_peer_that_has_gone_is_a_broken_pipe_and_no_signal() {
    Child::of("a_copy_to_a_peer_that_has_gone_is_a_broken_pipe_and_no_signal")
        .run(|| {
            // As in a library that is loaded by a program in C: Rust's own start has the signal ignored.
            // SAFETY: the default action is any process's.
            unsafe { libc::signal(libc::SIGPIPE, libc::SIG_DFL) };
            for kind in KINDS {
                kind.start(|| {
                    let kind_of = |copied: std::io::Result<u64>| copied.unwrap_err().kind();
                    let gone = || UnixStream::pair().unwrap().0;
                    // A file, a pipe and a socket, into a socket.
                    let mut file = std::fs::File::open("/proc/self/exe").unwrap();
                    assert_eq!(kind_of(io::copy(&mut file, &mut gone())), ErrorKind::BrokenPipe);
                    let (mut reader, mut writer) = io::pipe().unwrap();
                    writer.write_all(b"x").unwrap();
                    assert_eq!(kind_of(io::copy(&mut reader, &mut gone())), ErrorKind::BrokenPipe);
                    let (mut one, mut other) = UnixStream::pair().unwrap();
                    one.write_all(b"x").unwrap();
                    assert_eq!(kind_of(io::copy(&mut other, &mut gone())), ErrorKind::BrokenPipe);
                    // Nor is the signal left pending, or blocked.
                    // SAFETY: all zeroes is a set, and both calls write one.
                    unsafe {
                        let mut set: libc::sigset_t = std::mem::zeroed();
                        libc::sigpending(&mut set);
                        assert_eq!(libc::sigismember(&set, libc::SIGPIPE), 0);
                        libc::pthread_sigmask(libc::SIG_BLOCK, std::ptr::null(), &mut set);
                        assert_eq!(libc::sigismember(&set, libc::SIGPIPE), 0);
                    }
                })
                .join();
            }
        })
        .assert_success();
}

#[test]
fn copies_begin_where_the_file_stands_and_leave_it_where_they_ended() {
    let bytes: Vec<u8> = (0..300_001_u32).map(|n| (n % 251) as u8).collect();
    let path = std::env::temp_dir().join(format!("strands-odd-{}", std::process::id()));
    std::fs::write(&path, &bytes).unwrap();
    for kind in KINDS {
        let (path, bytes) = (path.clone(), bytes.clone());
        kind.start(move || {
            for start in [0, 1, 4_095, 4_097, 65_537, 300_000, 300_001, 400_000] {
                let mut file = strands::fs::File::open(&path).unwrap();
                file.seek(SeekFrom::Start(start)).unwrap();
                let (mut one, other) = tcp_pair();
                let reader = strands::go(move || {
                    let mut got = Vec::new();
                    (&other).read_to_end(&mut got).map(|_| got)
                });
                let expected = &bytes[bytes.len().min(start as usize)..];
                assert_eq!(io::copy(&mut file, &mut one).unwrap(), expected.len() as u64);
                assert_eq!(file.stream_position().unwrap(), start.max(bytes.len() as u64));
                // At the end there is no more.
                assert_eq!(io::copy(&mut file, &mut one).unwrap(), 0);
                one.shutdown(Shutdown::Write).unwrap();
                assert!(reader.join().unwrap().unwrap() == expected, "from {start}");
            }
        })
        .join();
    }
    std::fs::remove_file(&path).unwrap();
}

#[test]
fn a_clone_that_is_dropped_or_shut_during_a_read_is_no_danger_to_it() {
    for kind in KINDS {
        let (ours, mut peer) = tcp_pair();
        let clone = ours.try_clone().unwrap();
        let reader = kind.start(move || {
            let mut buffer = [0; 4];
            (&ours).read_exact(&mut buffer).map(|()| (buffer, ours))
        });
        reader.until_it_waits("io read");
        drop(clone);
        peer.write_all(b"good").unwrap();
        let (buffer, ours) = reader.join().unwrap();
        assert_eq!(&buffer, b"good");
        // And one half closed by the peer is an end, not an error; what we write still arrives.
        let clone = ours.try_clone().unwrap();
        let reader = kind.start(move || (&ours).read(&mut [0; 4]));
        reader.until_it_waits("io read");
        peer.shutdown(Shutdown::Write).unwrap();
        assert_eq!(reader.join().unwrap(), 0);
        (&clone).write_all(b"late").unwrap();
        let mut late = [0; 4];
        peer.read_exact(&mut late).unwrap();
        assert_eq!(&late, b"late");
    }
}

#[test]
fn a_child_whom_somebody_else_has_waited_for_is_an_error_and_no_wait_for_ever() {
    for kind in KINDS {
        kind.start(|| {
            let mut child = Command::new("true").spawn().unwrap();
            let pid = child.id() as libc::pid_t;
            // SAFETY: waits for a child of this process; no status is wanted.
            assert_eq!(unsafe { libc::waitpid(pid, std::ptr::null_mut(), 0) }, pid);
            assert_eq!(child.wait().unwrap_err().raw_os_error(), Some(libc::ECHILD));
            assert_eq!(child.try_wait().unwrap_err().raw_os_error(), Some(libc::ECHILD));
            let waited = strands::task::block_on(child.wait_async());
            assert_eq!(waited.unwrap_err().raw_os_error(), Some(libc::ECHILD));
        })
        .join();
    }
}

#[test]
fn a_child_that_is_killed_ends_all_that_waits_for_it() {
    strands::run(|| {
        let mut child = Command::new("cat")
            .stdin(Stdio::piped())
            .stdout(Stdio::piped())
            .stderr(Stdio::piped())
            .spawn()
            .unwrap();
        let pid = child.id() as libc::pid_t;
        let mut input = child.stdin.take().unwrap();
        let killer = strands::go(move || {
            strands::yield_now();
            // SAFETY: a signal to a child that nobody has waited for.
            assert_eq!(unsafe { libc::kill(pid, libc::SIGKILL) }, 0);
            // It fills up, or is closed at the other end.
            let block = [0; 1 << 16];
            loop {
                if let Err(error) = input.write(&block) {
                    return error.kind();
                }
            }
        });
        let output = child.wait_with_output().unwrap();
        assert_eq!(
            std::os::unix::process::ExitStatusExt::signal(&output.status),
            Some(libc::SIGKILL)
        );
        assert_eq!(killer.join().unwrap(), ErrorKind::BrokenPipe);
    });
}

#[test]
fn times_that_are_up_before_they_begin_do_what_can_be_done_at_once() {
    for kind in KINDS {
        kind.start(|| {
            let (one, mut other) = tcp_pair();
            for refused in [
                one.set_read_timeout(Some(Duration::ZERO)),
                one.set_write_timeout(Some(Duration::ZERO)),
            ] {
                assert_eq!(refused.unwrap_err().kind(), ErrorKind::InvalidInput);
            }
            one.set_read_timeout(Some(Duration::from_nanos(1))).unwrap();
            assert_eq!((&one).read(&mut [0]).unwrap_err().kind(), ErrorKind::WouldBlock);
            other.write_all(b"x").unwrap();
            child::wait_until("it has come", || one.readable().is_ready());
            assert_eq!((&one).read(&mut [0]).unwrap(), 1);
            let zero = TcpStream::connect_timeout(&one.peer_addr().unwrap(), Duration::ZERO);
            assert_eq!(zero.unwrap_err().kind(), ErrorKind::InvalidInput);
            // A context that is done before the call has nothing done by it, though something could be.
            other.write_all(b"y").unwrap();
            child::wait_until("it has come", || one.readable().is_ready());
            let (ctx, cancel) = context::with_cancel(&context::background());
            cancel.cancel();
            assert!(one.read_ctx(&mut [0], &ctx).is_err());
            let mut rest = [0];
            assert_eq!((&one).read(&mut rest).unwrap(), 1);
            assert_eq!(&rest, b"y");
        })
        .join();
    }
}

#[test]
fn what_has_come_is_read_though_no_poller_has_told_of_it_and_the_time_is_up() {
    let body = || {
        let (one, mut other) = tcp_pair();
        let is_done = Arc::new(AtomicUsize::new(0));
        // With it to run, the worker has better things to do than to look at its poller.
        let busy = strands::go({
            let is_done = Arc::clone(&is_done);
            move || {
                while is_done.load(SeqCst) == 0 {
                    strands::yield_now();
                }
            }
        });
        one.set_read_timeout(Some(Duration::from_nanos(1))).unwrap();
        for _ in 0..1_000 {
            assert_eq!((&one).read(&mut [0]).unwrap_err().kind(), ErrorKind::WouldBlock);
            other.write_all(b"x").unwrap();
            while !one.readable().is_ready() {
                strands::yield_now();
            }
            assert_eq!((&one).read(&mut [0]).unwrap(), 1);
        }
        is_done.store(1, SeqCst);
        busy.join().unwrap();
    };
    Child::of("what_has_come_is_read_though_no_poller_has_told_of_it_and_the_time_is_up")
        .env("STRANDS_MAXPROCS", "1")
        .run(|| strands::run(body))
        .assert_success();
}

#[test]
fn futures_of_all_sockets_take_nothing_when_they_are_dropped() {
    fn poll_once(future: impl Future) {
        let mut future = pin!(future);
        let waker = std::task::Waker::noop();
        assert!(future.as_mut().poll(&mut Context::from_waker(waker)).is_pending());
    }
    // Datagrams.
    let (one, other) =
        (UdpSocket::bind("127.0.0.1:0").unwrap(), UdpSocket::bind("127.0.0.1:0").unwrap());
    poll_once(other.recv_from_async(&mut [0; 4]));
    one.send_to(b"here", other.local_addr().unwrap()).unwrap();
    assert_eq!(other.recv_from(&mut [0; 4]).unwrap().0, 4);
    // Connections.
    let listener = TcpListener::bind("127.0.0.1:0").unwrap();
    poll_once(listener.accept_async());
    let client = TcpStream::connect(listener.local_addr().unwrap()).unwrap();
    let (accepted, from) = listener.accept().unwrap();
    assert_eq!(from, client.local_addr().unwrap());
    // Pipes, at both ends: what a write left undone is not in there.
    let (mut reader, writer) = io::pipe().unwrap();
    poll_once(reader.read_async(&mut [0; 4]));
    let block = [1; 1 << 16];
    assert_eq!((&writer).write(&block).unwrap(), block.len());
    poll_once(writer.write_async(&[2; 8]));
    drop(writer);
    let mut got = Vec::new();
    reader.read_to_end(&mut got).unwrap();
    assert!(got == block);
    // A child's end.
    let mut child = Command::new("sleep").arg("60").spawn().unwrap();
    poll_once(child.wait_async());
    child.kill().unwrap();
    assert!(!child.wait().unwrap().success());
    drop(accepted);
}
