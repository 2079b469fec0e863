//! Many who accept on one listener: a connection wakes one of them, and none is forgotten.
#![cfg(not(loom))]

mod child;
mod process;
mod waiting;

use child::wait_until;
use process::on_processors;
use std::io::{Read, Write};
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, AtomicUsize, Ordering::SeqCst};
use strands::channel::bounded;
use strands::net::{TcpListener, TcpStream, UnixListener};
use waiting::{Kind, Started};

const ACCEPTORS: usize = 12;

/// For how long each of those has waited who wait to accept, in tenths of a second.
fn ages() -> Vec<u64> {
    let dump = strands::runtime::dump();
    let waits = dump.split("[accept, ").skip(1);
    let seconds = waits.map(|rest| rest.split(' ').next().unwrap().parse::<f64>().unwrap());
    seconds.map(|seconds| (seconds * 10.0).round() as u64).collect()
}

#[test]
fn a_connection_wakes_one_of_those_who_accept() {
    on_processors(&[1, 3], || {
        let listener = Arc::new(TcpListener::bind("127.0.0.1:0").unwrap());
        let addr = listener.local_addr().unwrap();
        for _ in 0..ACCEPTORS {
            let listener = Arc::clone(&listener);
            strands::go(move || {
                for stream in listener.incoming() {
                    stream.unwrap().write_all(b"x").unwrap();
                }
            });
        }
        wait_until("all wait", || ages().len() == ACCEPTORS);
        for round in 1..=3 {
            wait_until("they have waited for a while", || {
                let ages = ages();
                ages.len() == ACCEPTORS && ages.iter().all(|age| *age >= 2)
            });
            let mut stream = std::net::TcpStream::connect(addr).unwrap();
            stream.read_exact(&mut [0]).unwrap();
            wait_until("all wait again", || ages().len() == ACCEPTORS);
            let woken = ages().into_iter().filter(|age| *age < 2).count();
            assert!(woken <= 1, "{woken} were woken, in round {round}");
        }
    });
}

#[test]
fn connections_that_come_at_once_wake_as_many() {
    on_processors(&[1, 3], || {
        let path = std::env::temp_dir().join(format!("strands-accept-{}", std::process::id()));
        let unix = Arc::new(UnixListener::bind(&path).unwrap());
        let tcp = Arc::new(TcpListener::bind("127.0.0.1:0").unwrap());
        let addr = tcp.local_addr().unwrap();
        for round in 0..20 {
            let accepted = Arc::new(AtomicUsize::new(0));
            let (done, until_done) = bounded::<()>(0);
            // Each accepts one, and nobody comes back for another.
            let acceptors: Vec<_> = (0..2 * ACCEPTORS)
                .map(|n| {
                    let (unix, tcp) = (Arc::clone(&unix), Arc::clone(&tcp));
                    let (accepted, until_done) = (Arc::clone(&accepted), until_done.clone());
                    Kind::Goroutine.start(move || {
                        let mut peer: Box<dyn Read> = match n % 2 {
                            0 => Box::new(tcp.accept().unwrap().0),
                            _ => Box::new(unix.accept().unwrap().0),
                        };
                        accepted.fetch_add(1, SeqCst);
                        let _ = until_done.recv();
                        peer.read_exact(&mut [0]).unwrap();
                    })
                })
                .collect();
            acceptors.iter().for_each(|acceptor| acceptor.until_it_waits("accept"));
            // On one processor, nobody looks before all have come: one edge tells of them all.
            let stop = Arc::new(AtomicBool::new(false));
            let spinning = {
                let (stop, begun) = (Arc::clone(&stop), Arc::new(AtomicBool::new(false)));
                let beginning = Arc::clone(&begun);
                let spinning = strands::go(move || {
                    beginning.store(true, SeqCst);
                    while !stop.load(SeqCst) {
                        std::hint::spin_loop();
                    }
                });
                wait_until("it spins", || begun.load(SeqCst));
                spinning
            };
            let peers: Vec<_> = (0..ACCEPTORS)
                .map(|_| {
                    let tcp = std::net::TcpStream::connect(addr).unwrap();
                    (tcp, std::os::unix::net::UnixStream::connect(&path).unwrap())
                })
                .collect();
            stop.store(true, SeqCst);
            spinning.join().unwrap();
            wait_until(&format!("all were accepted in round {round}"), || {
                accepted.load(SeqCst) == 2 * ACCEPTORS
            });
            drop(done);
            for (mut tcp, mut unix) in peers {
                tcp.write_all(b"x").unwrap();
                unix.write_all(b"x").unwrap();
            }
            acceptors.into_iter().for_each(Started::join);
        }
        std::fs::remove_file(&path).unwrap();
    });
}

#[test]
fn those_who_accept_in_different_ways_forget_no_connection() {
    // With tasks, and without: those who are only told of connections take none.
    on_processors(&[1, 3], || [2, 3].into_iter().for_each(connect_to_acceptors_of_kinds));
}

fn connect_to_acceptors_of_kinds(kinds: usize) {
    const EACH: usize = 100;
    let listener = Arc::new(TcpListener::bind("127.0.0.1:0").unwrap());
    let addr = listener.local_addr().unwrap();
    let accepted = Arc::new(AtomicUsize::new(0));
    let (quit, quitting) = bounded::<()>(0);
    for n in 0..9 {
        let (listener, accepted) = (Arc::clone(&listener), Arc::clone(&accepted));
        let quitting = quitting.clone();
        let serve = move |stream: TcpStream| {
            accepted.fetch_add(1, SeqCst);
            strands::go(move || std::io::copy(&mut &stream, &mut &stream));
        };
        match n % kinds {
            0 => drop(strands::go(move || {
                loop {
                    serve(listener.accept().unwrap().0);
                }
            })),
            1 => drop(strands::go(move || {
                loop {
                    strands::select! {
                        ready(listener.acceptable()) -> ready => ready.unwrap(),
                        recv(quitting) -> _ => return,
                    }
                    strands::yield_now();
                }
            })),
            _ => drop(strands::task::spawn(async move {
                loop {
                    serve(listener.accept_async().await.unwrap().0);
                }
            })),
        }
    }
    let clients: Vec<_> = (0..4)
        .map(|n| {
            Kind::Goroutine.start(move || {
                for _ in 0..EACH {
                    let mut stream = TcpStream::connect(addr).unwrap();
                    stream.write_all(&[n]).unwrap();
                    let mut byte = [0];
                    stream.read_exact(&mut byte).unwrap();
                    assert_eq!(byte, [n]);
                }
            })
        })
        .collect();
    clients.into_iter().for_each(Started::join);
    assert_eq!(accepted.load(SeqCst), 4 * EACH);
    drop(quit);
}
