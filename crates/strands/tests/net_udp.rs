//! UDP: in goroutines, on threads, and between them.
#![cfg(not(loom))]

mod child;
mod waiting;

use std::io::ErrorKind;
use std::net::{Ipv4Addr, SocketAddr};
use std::sync::Arc;
use std::time::{Duration, Instant};
use strands::net::UdpSocket;
use waiting::KINDS;

fn socket() -> (UdpSocket, SocketAddr) {
    let socket = UdpSocket::bind("127.0.0.1:0").unwrap();
    let addr = socket.local_addr().unwrap();
    (socket, addr)
}

#[test]
fn datagrams_go_to_and_fro() {
    for one in KINDS {
        for other in KINDS {
            let (here, here_addr) = socket();
            let (there, there_addr) = socket();
            let echo = one.start(move || {
                let mut buffer = [0; 64];
                for _ in 0..20 {
                    let (length, from) = here.recv_from(&mut buffer).unwrap();
                    assert_eq!(here.send_to(&buffer[..length], from).unwrap(), length);
                }
            });
            other
                .start(move || {
                    let mut buffer = [0; 64];
                    for n in 0..20_u8 {
                        there.send_to(&[n; 9], here_addr).unwrap();
                        let (length, from) = there.recv_from(&mut buffer).unwrap();
                        assert_eq!((&buffer[..length], from), (&[n; 9][..], here_addr));
                    }
                    assert_eq!(there.local_addr().unwrap(), there_addr);
                })
                .join();
            echo.join();
        }
    }
}

#[test]
fn connected_sockets_hear_their_peer_alone() {
    for kind in KINDS {
        kind.start(|| {
            let ((one, one_addr), (other, other_addr), (third, _)) = (socket(), socket(), socket());
            one.connect(other_addr).unwrap();
            other.connect(one_addr).unwrap();
            assert_eq!(one.peer_addr().unwrap(), other_addr);
            third.send_to(b"no", one_addr).unwrap();
            other.send(b"yes").unwrap();
            let mut buffer = [0; 8];
            assert_eq!(one.peek(&mut buffer).unwrap(), 3);
            assert_eq!(one.peek_from(&mut buffer).unwrap(), (3, other_addr));
            assert_eq!(one.recv(&mut buffer).unwrap(), 3);
            assert_eq!(&buffer[..3], b"yes");
            // Nobody is there any more, and the next call says so.
            drop(other);
            one.send(b"?").unwrap();
            let error = one.recv(&mut buffer).unwrap_err();
            assert_eq!(error.kind(), ErrorKind::ConnectionRefused);
        })
        .join();
    }
}

#[test]
fn several_receive_from_one_socket() {
    let (here, addr) = socket();
    let here = Arc::new(here);
    let receivers: Vec<_> = [KINDS, KINDS]
        .concat()
        .into_iter()
        .map(|kind| {
            let here = Arc::clone(&here);
            kind.start(move || {
                let mut buffer = [0; 4];
                here.recv_from(&mut buffer).unwrap();
                buffer[0]
            })
        })
        .collect();
    receivers.iter().for_each(|receiver| receiver.until_it_waits("io read"));
    let (there, _) = socket();
    for n in 0..receivers.len() {
        there.send_to(&[n as u8], addr).unwrap();
    }
    let mut got: Vec<u8> = receivers.into_iter().map(|receiver| receiver.join()).collect();
    got.sort_unstable();
    assert_eq!(got, [0, 1, 2, 3]);
}

#[test]
fn receiving_gives_up_when_the_time_is_up() {
    for kind in KINDS {
        kind.start(|| {
            let (here, _) = socket();
            let timeout = Duration::from_millis(20);
            here.set_read_timeout(Some(timeout)).unwrap();
            let begun = Instant::now();
            assert_eq!(here.recv(&mut [0; 4]).unwrap_err().kind(), ErrorKind::WouldBlock);
            assert!(begun.elapsed() >= timeout);
            here.set_nonblocking(true).unwrap();
            assert_eq!(here.recv(&mut [0; 4]).unwrap_err().kind(), ErrorKind::WouldBlock);
        })
        .join();
    }
}

#[test]
fn options_are_the_kernels() {
    let (here, _) = socket();
    here.set_broadcast(true).unwrap();
    assert!(here.broadcast().unwrap());
    here.set_ttl(9).unwrap();
    assert_eq!(here.ttl().unwrap(), 9);
    here.set_multicast_ttl_v4(3).unwrap();
    assert_eq!(here.multicast_ttl_v4().unwrap(), 3);
    here.set_multicast_loop_v4(false).unwrap();
    assert!(!here.multicast_loop_v4().unwrap());
    assert!(here.take_error().unwrap().is_none());
    let group = Ipv4Addr::new(224, 0, 0, 251);
    // Not every machine has a route for groups.
    if here.join_multicast_v4(&group, &Ipv4Addr::LOCALHOST).is_ok() {
        here.leave_multicast_v4(&group, &Ipv4Addr::LOCALHOST).unwrap();
    }
    let std: std::net::UdpSocket = here.into();
    assert_eq!(std.ttl().unwrap(), 9);
}
