//! The servers: the same few lines for each peer.

use std::io::{Read, Write};
use std::net::SocketAddr;
use std::sync::OnceLock;

use crate::measure::pin_to;
use crate::peer::Peer;

const BUFFER: usize = 1024;
/// One write of a transfer.
const CHUNK: usize = 64 << 10;

/// Starts an echo server, and returns its address.
pub(crate) fn echo(peer: Peer, procs: usize) -> SocketAddr {
    match peer {
        Peer::Strands | Peer::StrandsRoaming => strands::run(|| {
            let listener = strands::net::TcpListener::bind("127.0.0.1:0").expect("a port");
            let addr = listener.local_addr().expect("bound");
            strands::go(move || {
                for stream in listener.incoming() {
                    let mut stream = stream.expect("a connection");
                    stream.set_nodelay(true).expect("an option");
                    strands::go(move || {
                        let mut buffer = [0; BUFFER];
                        while let Ok(n @ 1..) = stream.read(&mut buffer) {
                            if stream.write_all(&buffer[..n]).is_err() {
                                return;
                            }
                        }
                    });
                }
            });
            addr
        }),
        Peer::Threads => {
            pin_to(procs);
            let listener = std::net::TcpListener::bind("127.0.0.1:0").expect("a port");
            let addr = listener.local_addr().expect("bound");
            std::thread::spawn(move || {
                for stream in listener.incoming() {
                    let mut stream = stream.expect("a connection");
                    stream.set_nodelay(true).expect("an option");
                    std::thread::spawn(move || {
                        let mut buffer = [0; BUFFER];
                        while let Ok(n @ 1..) = stream.read(&mut buffer) {
                            if stream.write_all(&buffer[..n]).is_err() {
                                return;
                            }
                        }
                    });
                }
            });
            addr
        }
        Peer::May => {
            may::config().set_workers(procs);
            let listener = may::net::TcpListener::bind("127.0.0.1:0").expect("a port");
            let addr = listener.local_addr().expect("bound");
            may::go!(move || {
                for stream in listener.incoming() {
                    let mut stream = stream.expect("a connection");
                    stream.set_nodelay(true).expect("an option");
                    may::go!(move || {
                        let mut buffer = [0; BUFFER];
                        while let Ok(n @ 1..) = stream.read(&mut buffer) {
                            if stream.write_all(&buffer[..n]).is_err() {
                                return;
                            }
                        }
                    });
                }
            });
            addr
        }
        Peer::Tokio => {
            let runtime = tokio_runtime(procs);
            let listener = runtime.block_on(tokio::net::TcpListener::bind("127.0.0.1:0"));
            let listener = listener.expect("a port");
            let addr = listener.local_addr().expect("bound");
            runtime.spawn(async move {
                use tokio::io::{AsyncReadExt, AsyncWriteExt};
                loop {
                    let (mut stream, _) = listener.accept().await.expect("a connection");
                    stream.set_nodelay(true).expect("an option");
                    tokio::spawn(async move {
                        let mut buffer = [0; BUFFER];
                        while let Ok(n @ 1..) = stream.read(&mut buffer).await {
                            if stream.write_all(&buffer[..n]).await.is_err() {
                                return;
                            }
                        }
                    });
                }
            });
            addr
        }
        Peer::Smol => {
            use smol::io::{AsyncReadExt, AsyncWriteExt};
            let bound = smol::block_on(smol::net::TcpListener::bind("127.0.0.1:0"));
            let listener = bound.expect("a port");
            let addr = listener.local_addr().expect("bound");
            smol::spawn(async move {
                loop {
                    let (mut stream, _) = listener.accept().await.expect("a connection");
                    stream.set_nodelay(true).expect("an option");
                    smol::spawn(async move {
                        let mut buffer = [0; BUFFER];
                        while let Ok(n @ 1..) = stream.read(&mut buffer).await {
                            if stream.write_all(&buffer[..n]).await.is_err() {
                                return;
                            }
                        }
                    })
                    .detach();
                }
            })
            .detach();
            addr
        }
        _ => unreachable!("{} has no server here", peer.name()),
    }
}

/// One for the process.
fn tokio_runtime(procs: usize) -> &'static tokio::runtime::Runtime {
    static RUNTIME: OnceLock<tokio::runtime::Runtime> = OnceLock::new();
    RUNTIME.get_or_init(|| {
        tokio::runtime::Builder::new_multi_thread()
            .worker_threads(procs)
            .enable_all()
            .build()
            .expect("a runtime")
    })
}

/// Sends so many bytes from one goroutine to another, over the loopback interface.
pub(crate) fn transfer(peer: Peer, procs: usize, bytes: usize) {
    macro_rules! blocking {
        ($net:ident, $go:expr) => {{
            let listener = $net::TcpListener::bind("127.0.0.1:0").expect("a port");
            let addr = listener.local_addr().expect("bound");
            let sender = $go(move || {
                let mut stream = $net::TcpStream::connect(addr).expect("a listener");
                let chunk = vec![7; CHUNK];
                for _ in 0..bytes / CHUNK {
                    stream.write_all(&chunk).expect("a reader");
                }
            });
            let receiver = $go(move || {
                let (mut stream, _) = listener.accept().expect("a connection");
                let mut buffer = vec![0; CHUNK];
                let mut got = 0;
                while let n @ 1.. = stream.read(&mut buffer).expect("a writer") {
                    got += n;
                }
                assert_eq!(got, bytes / CHUNK * CHUNK);
            });
            sender.join().expect("no panic");
            receiver.join().expect("no panic");
        }};
    }
    match peer {
        Peer::Strands | Peer::StrandsRoaming => {
            use strands::net;
            blocking!(net, strands::go);
        }
        Peer::Threads => {
            use std::net;
            pin_to(procs);
            blocking!(net, std::thread::spawn);
        }
        Peer::Tokio => {
            use tokio::io::{AsyncReadExt, AsyncWriteExt};
            let runtime = tokio_runtime(procs);
            let root = runtime.spawn(async move {
                let listener = tokio::net::TcpListener::bind("127.0.0.1:0").await.expect("a port");
                let addr = listener.local_addr().expect("bound");
                let sender = tokio::spawn(async move {
                    let mut stream =
                        tokio::net::TcpStream::connect(addr).await.expect("a listener");
                    let chunk = vec![7; CHUNK];
                    for _ in 0..bytes / CHUNK {
                        stream.write_all(&chunk).await.expect("a reader");
                    }
                });
                let (mut stream, _) = listener.accept().await.expect("a connection");
                let mut buffer = vec![0; CHUNK];
                let mut got = 0;
                while let n @ 1.. = stream.read(&mut buffer).await.expect("a writer") {
                    got += n;
                }
                assert_eq!(got, bytes / CHUNK * CHUNK);
                sender.await.expect("no panic");
            });
            runtime.block_on(root).expect("no panic");
        }
        _ => unreachable!("{} transfers nothing here", peer.name()),
    }
}
