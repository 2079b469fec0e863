//! Goroutines wait for their sockets though there are no descriptors left for a poller.
#![cfg(not(loom))]

mod child;

use child::Child;
use std::fs::File;
use std::io::{ErrorKind, Read, Write};
use std::os::fd::AsRawFd;
use std::time::{Duration, Instant};
use strands::net::UnixStream;

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

#[test]
fn a_goroutine_whose_worker_gets_no_poller_waits_all_the_same() {
    let ended = Child::of("a_goroutine_whose_worker_gets_no_poller_waits_all_the_same").run(|| {
        let (mut one, mut other) = UnixStream::pair().unwrap();
        // The runtime is there, but has had no reason to make a poller.
        strands::go(|| {}).join().unwrap();
        // The lowest number that is free.
        let next = File::open("/dev/null").unwrap().as_raw_fd();
        limit_descriptors(next as u64);
        assert!(File::open("/dev/null").is_err());
        let reader = strands::go(move || {
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
            std::thread::sleep(Duration::from_millis(20));
            one.write_all(piece).unwrap();
        }
        let (buffer, other) = reader.join().unwrap();
        assert_eq!(&buffer, b"hello");

        // When there are descriptors again it is served as all are.
        limit_descriptors(100);
        let reader = strands::go(move || std::io::read_to_string(other).unwrap());
        std::thread::sleep(Duration::from_millis(20));
        one.write_all(b"again").unwrap();
        drop(one);
        assert_eq!(reader.join().unwrap(), "again");
    });
    assert!(ended.status.success(), "{}", ended.stderr);
}
