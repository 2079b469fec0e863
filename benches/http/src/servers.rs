//! The servers. Each prints its address and serves until the process is killed.

use http_body_util::Full;
use hyper::body::{Bytes, Incoming};
use hyper::header::{CONTENT_TYPE, HeaderValue};
use hyper::server::conn::http1;
use hyper::service::service_fn;
use hyper::{Request, Response};
use std::convert::Infallible;
use std::io;
use std::net::SocketAddr;

const HELLO: &str = "Hello, World!";

pub(crate) fn serve(peer: &str, procs: usize) -> ! {
    match peer {
        "hyper on strands" => hyper_on_strands(),
        "hyper on tokio" => hyper_on_tokio(procs),
        "httparse on strands" => httparse_on_strands(),
        "may_minihttp" => may(procs),
        _ => panic!("no such server: {peer}"),
    }
    .expect("a server on the loopback interface");
    unreachable!("it serves until it is killed")
}

async fn hello(_: Request<Incoming>) -> Result<Response<Full<Bytes>>, Infallible> {
    let mut response = Response::new(Full::new(Bytes::from_static(HELLO.as_bytes())));
    response.headers_mut().insert(CONTENT_TYPE, HeaderValue::from_static("text/plain"));
    Ok(response)
}

fn hyper_on_strands() -> io::Result<()> {
    let listener = strands::net::TcpListener::bind("127.0.0.1:0")?;
    println!("{}", listener.local_addr()?);
    strands::run(|| {
        for stream in listener.incoming() {
            let stream = stream?;
            stream.set_nodelay(true)?;
            strands::go(move || {
                let served = http1::Builder::new().serve_connection(stream, service_fn(hello));
                // A client that breaks off is no concern of a benchmark's.
                let _ = strands::task::block_on(served);
            });
        }
        Ok(())
    })
}

fn hyper_on_tokio(procs: usize) -> io::Result<()> {
    let runtime =
        tokio::runtime::Builder::new_multi_thread().worker_threads(procs).enable_io().build()?;
    runtime.block_on(async {
        let listener = tokio::net::TcpListener::bind("127.0.0.1:0").await?;
        println!("{}", listener.local_addr()?);
        // Not in `block_on`, whose thread is none of the workers.
        let accepting = tokio::spawn(async move {
            loop {
                let (stream, _) = listener.accept().await?;
                stream.set_nodelay(true)?;
                tokio::spawn(async move {
                    let io = hyper_util::rt::TokioIo::new(stream);
                    let _ = http1::Builder::new().serve_connection(io, service_fn(hello)).await;
                });
            }
        });
        accepting.await?
    })
}

fn httparse_on_strands() -> io::Result<()> {
    use strands_proof::http::{Limits, Response, Server};
    let listener = strands::net::TcpListener::bind("127.0.0.1:0")?;
    println!("{}", listener.local_addr()?);
    let server = Server::new(Limits::default(), |_| {
        Response::new(200).header("content-type", "text/plain").body(HELLO.as_bytes())
    });
    strands::run(|| server.serve(listener, &strands::context::background())).map(drop)
}

#[derive(Clone)]
struct Hello;

impl may_minihttp::HttpService for Hello {
    fn call(
        &mut self,
        _: may_minihttp::Request<'_, '_, '_>,
        response: &mut may_minihttp::Response<'_>,
    ) -> io::Result<()> {
        response.header("Content-Type: text/plain").body(HELLO);
        Ok(())
    }
}

fn may(procs: usize) -> io::Result<()> {
    may::config().set_workers(procs);
    // It does not say which port it was given: one that was free a moment ago.
    let addr: SocketAddr = std::net::TcpListener::bind("127.0.0.1:0")?.local_addr()?;
    let server = may_minihttp::HttpServer(Hello).start(addr)?;
    println!("{addr}");
    server.join().map_err(|_| io::Error::other("the server has panicked"))
}
