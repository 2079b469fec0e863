//! Sockets beside channels in a select, contexts, and async code.
#![cfg(not(loom))]

mod child;
mod waiting;

use std::io::{ErrorKind, Read, Write};
use strands::channel::{bounded, unbounded};
use strands::context::{self, ContextError};
use strands::net::{TcpListener, TcpStream, UdpSocket, UnixStream};
use strands::{select, select_biased};
use waiting::{A_MOMENT, KINDS, Kind, PLENTY, Polled, block_on};

#[test]
fn a_select_is_served_by_socket_and_channel_alike() {
    for kind in KINDS {
        let (mut one, mut other) = UnixStream::pair().unwrap();
        let (tx, rx) = unbounded::<u8>();
        let (told, heard) = unbounded();
        let party = kind.start(move || {
            let mut byte = [0];
            loop {
                select! {
                    ready(other.readable()) -> ready => {
                        ready.unwrap();
                        if other.read(&mut byte).unwrap() == 0 {
                            return;
                        }
                        told.send(('s', byte[0])).unwrap();
                    },
                    recv(rx) -> n => told.send(('c', n.unwrap())).unwrap(),
                }
            }
        });
        for n in 0..50 {
            if n < 2 {
                party.until_it_waits("select");
            }
            if n % 2 == 0 {
                one.write_all(&[n]).unwrap();
                assert_eq!(heard.recv().unwrap(), ('s', n));
            } else {
                tx.send(n).unwrap();
                assert_eq!(heard.recv().unwrap(), ('c', n));
            }
        }
        drop(one);
        party.join();
        drop(tx);
    }
}

#[test]
fn arms_that_are_not_ready_are_not_chosen() {
    for kind in KINDS {
        kind.start(|| {
            let (mut one, mut other) = UnixStream::pair().unwrap();
            let mut looks = || {
                select_biased! {
                    ready(other.readable()) -> _ => other.read(&mut [0; 4]).unwrap(),
                    default => 99,
                }
            };
            assert_eq!(looks(), 99);
            one.write_all(b"abc").unwrap();
            assert_eq!(looks(), 3);
            // The edge is old: there is nothing more.
            assert_eq!(looks(), 99);
            let timed_out = select! {
                ready(other.readable()) -> _ => false,
                default(A_MOMENT) => true,
            };
            assert!(timed_out);
            assert!(one.writable().is_ready() && !one.readable().is_ready());
            one.writable().wait().unwrap();
        })
        .join();
    }
}

#[test]
fn a_listener_is_waited_for_until_it_is_told_to_stop() {
    for kind in KINDS {
        let listener = TcpListener::bind("127.0.0.1:0").unwrap();
        let addr = listener.local_addr().unwrap();
        let (quit, quitting) = bounded::<()>(0);
        let server = kind.start(move || {
            let mut count = 0;
            loop {
                select! {
                    ready(listener.acceptable()) -> _ => {
                        listener.accept().unwrap();
                        count += 1;
                    },
                    recv(quitting) -> _ => return count,
                }
            }
        });
        for _ in 0..5 {
            // Its end tells that it was accepted.
            assert_eq!(TcpStream::connect(addr).unwrap().read(&mut [0]).unwrap(), 0);
        }
        drop(quit);
        assert_eq!(server.join(), 5);
    }
}

#[test]
fn one_socket_may_be_two_arms_and_others_may_wait_too() {
    let (mut one, other) = UnixStream::pair().unwrap();
    let other = std::sync::Arc::new(other);
    let parties: Vec<_> = [KINDS, KINDS]
        .concat()
        .into_iter()
        .map(|kind| {
            let other = std::sync::Arc::clone(&other);
            kind.start(move || {
                select! {
                    ready(other.readable()) -> ready => ready.unwrap(),
                    ready(other.readable()) -> ready => ready.unwrap(),
                }
            })
        })
        .collect();
    parties.iter().for_each(|party| party.until_it_waits("select"));
    // One edge, and nobody takes it away: all of them are told.
    one.write_all(b"x").unwrap();
    parties.into_iter().for_each(|party| party.join());
}

#[test]
fn a_context_ends_every_wait() {
    for kind in KINDS {
        let (ctx, cancel) = context::with_cancel(&context::background());
        let (listener, (_one, other), full) = (
            TcpListener::bind("127.0.0.1:0").unwrap(),
            UnixStream::pair().unwrap(),
            UnixStream::pair().unwrap(),
        );
        let udp = UdpSocket::bind("127.0.0.1:0").unwrap();
        let cancelled = |error: std::io::Error| {
            assert_eq!(error.kind(), ErrorKind::Other);
            let inner = error.get_ref().and_then(|e| e.downcast_ref::<ContextError>());
            assert_eq!(inner, Some(&ContextError::Canceled));
        };
        let parties = [
            kind.start({
                let ctx = ctx.clone();
                move || cancelled(other.read_ctx(&mut [0; 4], &ctx).unwrap_err())
            }),
            kind.start({
                let ctx = ctx.clone();
                move || {
                    let error = full.0.with_context(&ctx).write_all(&vec![0; 10_000_000]);
                    cancelled(error.unwrap_err());
                    drop(full);
                }
            }),
            kind.start({
                let ctx = ctx.clone();
                move || cancelled(listener.accept_ctx(&ctx).unwrap_err())
            }),
            kind.start({
                let ctx = ctx.clone();
                move || cancelled(udp.recv_from_ctx(&mut [0; 4], &ctx).unwrap_err())
            }),
        ];
        parties.iter().for_each(|party| party.until_it_waits("select"));
        cancel.cancel();
        parties.into_iter().for_each(|party| party.join());
    }
}

#[test]
fn a_context_that_is_not_done_is_in_nobodys_way() {
    for kind in KINDS {
        kind.start(|| {
            let (ctx, _cancel) = context::with_timeout(&context::background(), PLENTY);
            let listener = TcpListener::bind("127.0.0.1:0").unwrap();
            let addr = listener.local_addr().unwrap();
            let one = TcpStream::connect_ctx(("localhost", addr.port()), &ctx).unwrap();
            let (other, _) = listener.accept_ctx(&ctx).unwrap();
            let writer = Kind::Goroutine.start({
                let ctx = ctx.clone();
                move || {
                    let data = vec![7; 5_000_000];
                    one.with_context(&ctx).write_all(&data).unwrap();
                }
            });
            let mut all = Vec::new();
            other.with_context(&ctx).read_to_end(&mut all).unwrap();
            assert_eq!(all.len(), 5_000_000);
            writer.join();
            let (ctx, _cancel) = context::with_timeout(&ctx, A_MOMENT);
            let error = listener.accept_ctx(&ctx).unwrap_err();
            assert_eq!(error.kind(), ErrorKind::TimedOut);
            let error = TcpStream::connect_ctx(addr, &ctx).unwrap_err();
            assert_eq!(error.kind(), ErrorKind::TimedOut);
        })
        .join();
    }
}

#[test]
fn futures_wait_on_any_executor() {
    // The same futures polled on a thread, where the poller's own thread wakes them, and in a goroutine.
    for kind in KINDS {
        let listener = TcpListener::bind("127.0.0.1:0").unwrap();
        let addr = listener.local_addr().unwrap();
        let server = kind.start(move || {
            block_on(async {
                let (stream, _) = listener.accept_async().await.unwrap();
                let mut buffer = [0; 100];
                loop {
                    stream.readable_async().await.unwrap();
                    let length = stream.read_async(&mut buffer).await.unwrap();
                    if length == 0 {
                        return;
                    }
                    let mut rest = &buffer[..length];
                    while !rest.is_empty() {
                        let written = stream.write_async(rest).await.unwrap();
                        rest = &rest[written..];
                    }
                }
            });
        });
        kind.start(move || {
            block_on(async {
                let stream = TcpStream::connect_async(addr).await.unwrap();
                for n in 0..100 {
                    assert_eq!(stream.write_async(&[n; 10]).await.unwrap(), 10);
                    let (mut got, mut buffer) = (0, [0; 10]);
                    while got < 10 {
                        got += stream.read_async(&mut buffer[got..]).await.unwrap();
                    }
                    assert_eq!(buffer, [n; 10]);
                }
            });
        })
        .join();
        server.join();
    }
}

#[test]
fn a_future_that_is_dropped_has_taken_nothing() {
    let (one, other) = UnixStream::pair().unwrap();
    let mut buffer = [0; 4];
    {
        let mut reading = Polled::new(other.read_async(&mut buffer));
        reading.assert_pending();
        let bell = std::sync::Arc::clone(&reading.bell);
        (&one).write_all(b"abcd").unwrap();
        child::wait_until("the waker is called", || bell.rung() == 1);
    }
    assert_eq!(buffer, [0; 4]);
    assert_eq!((&other).read(&mut buffer).unwrap(), 4);
    // Of several that wait all are woken.
    let mut both = [Polled::new(other.readable_async()), Polled::new(other.readable_async())];
    both.iter_mut().for_each(Polled::assert_pending);
    (&one).write_all(b"e").unwrap();
    for one in &mut both {
        child::wait_until("the waker is called", || one.bell.rung() == 1);
        one.expect_ready().unwrap();
    }
}
