//! What nobody would write, and safe code may: times without end, names that are none, futures that are forgotten, wakers
//! that close what they were left at, children while there are no descriptors.
#![cfg(not(loom))]

mod child;
mod waiting;

use child::Child;
use std::future::Future;
use std::io::{ErrorKind, IoSlice, Read, Write};
use std::net::SocketAddr;
use std::pin::Pin;
use std::sync::atomic::{AtomicUsize, Ordering::SeqCst};
use std::sync::{Arc, Mutex};
use std::task::{Context, Poll, Wake, Waker};
use std::time::Duration;
use strands::net::{TcpListener, TcpStream, ToSocketAddrs, UdpSocket, UnixStream};
use strands::process::{Command, Stdio};
use waiting::KINDS;

#[test]
fn the_longest_times_are_as_good_as_none() {
    for kind in KINDS {
        let (one, mut other) = UnixStream::pair().unwrap();
        for time in [Duration::MAX, Duration::from_secs(u64::MAX), Duration::from_nanos(u64::MAX)] {
            one.set_read_timeout(Some(time)).unwrap();
            one.set_write_timeout(Some(time)).unwrap();
            assert!(one.read_timeout().unwrap() > Some(Duration::from_secs(1 << 32)));
            let reader = one.try_clone().unwrap();
            let reader = kind.start(move || (&reader).read(&mut [0; 4]).unwrap());
            reader.until_it_waits("io read");
            other.write_all(b"abc").unwrap();
            assert_eq!(reader.join(), 3);
        }
        kind.start(|| {
            let listener = TcpListener::bind("127.0.0.1:0").unwrap();
            let addr = listener.local_addr().unwrap();
            drop(TcpStream::connect_timeout(&addr, Duration::MAX).unwrap());
        })
        .join();
    }
}

#[test]
fn names_that_are_none_are_errors() {
    for kind in KINDS {
        kind.start(|| {
            let same = |name: &str| {
                let ours = (name, 80).to_socket_addrs().unwrap_err();
                let stds = std::net::ToSocketAddrs::to_socket_addrs(&(name, 80)).unwrap_err();
                assert_eq!(ours.kind(), stds.kind(), "{:?}", &name[..name.len().min(40)]);
                let text = format!("{name}:80");
                assert!(TcpStream::connect(&*text).is_err());
                assert!(UdpSocket::bind(text).is_err());
            };
            same("");
            same("a\0b");
            same("nobody.invalid");
            same(&"long.".repeat(1_000));
            same(&"x".repeat(1_000_000));
            same("1.2.3.4.5.invalid");
            same("[::1");
            let none: &[SocketAddr] = &[];
            assert_eq!(TcpStream::connect(none).unwrap_err().kind(), ErrorKind::InvalidInput);
            assert_eq!(TcpListener::bind(none).unwrap_err().kind(), ErrorKind::InvalidInput);
            for path in ["/tmp/a\0b", &*format!("/tmp/{}", "x".repeat(200))] {
                let error = UnixStream::connect(path).unwrap_err();
                assert_eq!(error.kind(), ErrorKind::InvalidInput, "{path:?}");
            }
        })
        .join();
    }
}

#[test]
fn one_call_may_have_more_buffers_than_the_kernel_takes() {
    for kind in KINDS {
        kind.start(|| {
            const MANY: usize = 5_000;
            let (mut one, mut other) = UnixStream::pair().unwrap();
            let slices = vec![IoSlice::new(b"x"); MANY];
            let written = one.write_vectored(&slices).unwrap();
            assert!((1..=MANY).contains(&written), "{written}");
            let mut bytes = vec![0; written];
            let mut buffers: Vec<_> = bytes.chunks_mut(1).map(std::io::IoSliceMut::new).collect();
            let mut got = 0;
            while got < written {
                let read = other.read_vectored(&mut buffers[got..]).unwrap();
                assert!(read > 0);
                got += read;
            }
            assert!(bytes.iter().all(|byte| *byte == b'x'));
        })
        .join();
    }
}

/// Closes the streams that it was given when it is called.
struct Closes {
    streams: Mutex<Vec<UnixStream>>,
    called: AtomicUsize,
}

impl Wake for Closes {
    fn wake(self: Arc<Self>) {
        self.called.fetch_add(1, SeqCst);
        let streams = std::mem::take(&mut *self.streams.lock().unwrap());
        drop(streams);
    }
}

#[test]
fn a_waker_may_close_the_socket_at_which_it_was_left() {
    let (one, other) = UnixStream::pair().unwrap();
    let clone = other.try_clone().unwrap();
    let closes = Arc::new(Closes { streams: Mutex::new(Vec::new()), called: AtomicUsize::new(0) });
    {
        // Forgotten, so that the waker stays where it is; and the socket itself is the waker's from now on.
        let clone = Box::leak(Box::new(clone));
        let mut reading = Box::pin(async {
            let mut buffer = [0; 4];
            clone.read_async(&mut buffer).await
        });
        let waker = Waker::from(Arc::clone(&closes));
        let polled = reading.as_mut().poll(&mut Context::from_waker(&waker));
        assert!(polled.is_pending());
        std::mem::forget(reading);
    }
    closes.streams.lock().unwrap().push(other);
    (&one).write_all(b"x").unwrap();
    child::wait_until("the waker is called", || closes.called.load(SeqCst) == 1);
    child::wait_until("it has closed it", || closes.streams.lock().unwrap().is_empty());
}

#[test]
fn a_waker_of_a_forgotten_future_goes_with_the_socket() {
    struct Counts(AtomicUsize);
    impl Wake for Counts {
        fn wake(self: Arc<Self>) {
            self.0.fetch_add(1, SeqCst);
        }
    }
    let counts = Arc::new(Counts(AtomicUsize::new(0)));
    for _ in 0..1_000 {
        let (one, other) = UnixStream::pair().unwrap();
        let waker = Waker::from(Arc::clone(&counts));
        let mut buffer = [0; 4];
        let mut reading: Pin<Box<dyn Future<Output = _>>> = Box::pin(other.read_async(&mut buffer));
        let polled: Poll<std::io::Result<usize>> =
            reading.as_mut().poll(&mut Context::from_waker(&waker));
        assert!(polled.is_pending());
        std::mem::forget(reading);
        drop((one, other));
    }
    // Each was dropped with its socket; one that was about to be called has been.
    child::wait_until("all wakers are gone", || Arc::strong_count(&counts) == 1);
}

#[test]
fn children_are_waited_for_and_refused_while_there_are_no_descriptors() {
    Child::of("children_are_waited_for_and_refused_while_there_are_no_descriptors")
        .run(|| {
            // The runtime opens files now and then.
            let descriptors = || {
                let all = std::fs::read_dir("/proc/self/fd").unwrap();
                let targets = all.filter_map(|fd| std::fs::read_link(fd.unwrap().path()).ok());
                let kinds = ["pipe:", "anon_inode:[pidfd]"];
                let of_children =
                    |target: &str| kinds.into_iter().any(|kind| target.starts_with(kind));
                targets.filter(|target| of_children(&target.to_string_lossy())).count()
            };
            for kind in KINDS {
                kind.start(move || {
                    let mut sleeper = Command::new("sleep").arg("0.2").spawn().unwrap();
                    let mut killed = Command::new("cat").stdin(Stdio::piped()).spawn().unwrap();
                    let before = descriptors();
                    let mut limit = libc::rlimit { rlim_cur: 0, rlim_max: 0 };
                    // SAFETY: live structures.
                    unsafe {
                        assert_eq!(libc::getrlimit(libc::RLIMIT_NOFILE, &mut limit), 0);
                        let none = libc::rlimit { rlim_cur: 3, ..limit };
                        assert_eq!(libc::setrlimit(libc::RLIMIT_NOFILE, &none), 0);
                    }
                    let refused = Command::new("true").stdout(Stdio::piped()).spawn();
                    let refused = refused.map(drop).unwrap_err();
                    let waited = sleeper.wait();
                    killed.kill().unwrap();
                    let ended = killed.wait_with_output();
                    // SAFETY: a live structure.
                    assert_eq!(unsafe { libc::setrlimit(libc::RLIMIT_NOFILE, &limit) }, 0);
                    assert_eq!(refused.raw_os_error(), Some(libc::EMFILE));
                    assert!(waited.unwrap().success());
                    assert!(!ended.unwrap().status.success());
                    // One end of the pipe has gone with its child.
                    assert_eq!(descriptors(), before - 1);
                })
                .join();
            }
        })
        .assert_success();
}
