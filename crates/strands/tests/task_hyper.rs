//! hyper and axum on goroutines, and futures that want tokio's runtime.

#![cfg(all(feature = "hyper", feature = "tokio", feature = "futures"))]

mod child;
mod waiting;

use child::wait_until;
use http_body_util::{BodyExt, Full};
use hyper::body::{Bytes, Incoming};
use hyper::service::service_fn;
use hyper::{Request, Response, StatusCode};
use std::convert::Infallible;
use std::io::{BufRead, BufReader, Read, Write};
use std::net::SocketAddr;
use std::sync::Arc;
use std::sync::atomic::{AtomicUsize, Ordering::SeqCst};
use std::time::{Duration, Instant};
use strands::net::{TcpListener, TcpStream};
use strands::task::hyper::{Executor, Timer};
use strands::{sync, task};
use waiting::KINDS;

/// Says what it was told, after a wait of the goroutine's.
async fn echo(request: Request<Incoming>) -> Result<Response<Full<Bytes>>, Infallible> {
    let path = request.uri().path().to_owned();
    let body = request.into_body().collect().await.map(|body| body.to_bytes());
    strands::sleep(Duration::from_micros(200));
    Ok(match body {
        Ok(body) => Response::new(Full::new([path.as_bytes(), b" ", &body].concat().into())),
        Err(_) => {
            let mut bad = Response::new(Full::default());
            *bad.status_mut() = StatusCode::BAD_REQUEST;
            bad
        }
    })
}

/// A server with a goroutine, or a task, for each connection; how many of them have ended.
fn serve(by_tasks: bool) -> (SocketAddr, Arc<AtomicUsize>) {
    let listener = TcpListener::bind("127.0.0.1:0").unwrap();
    let addr = listener.local_addr().unwrap();
    let ended = Arc::new(AtomicUsize::new(0));
    let count = Arc::clone(&ended);
    strands::go(move || {
        for stream in listener.incoming().flatten() {
            let count = Arc::clone(&count);
            let connection = async move {
                let mut http = hyper::server::conn::http1::Builder::new();
                let http = http.timer(Timer).header_read_timeout(Duration::from_millis(300));
                let _ = http.serve_connection(stream, service_fn(echo)).await;
                count.fetch_add(1, SeqCst);
            };
            match by_tasks {
                true => drop(task::spawn(connection)),
                false => drop(strands::go(|| task::block_on(connection))),
            }
        }
    });
    (addr, ended)
}

/// A client of std's: sends a request, and returns the response's body.
fn ask(stream: &mut BufReader<std::net::TcpStream>, path: &str, body: &str) -> String {
    let length = body.len();
    let request =
        format!("POST {path} HTTP/1.1\r\nhost: x\r\ncontent-length: {length}\r\n\r\n{body}");
    stream.get_mut().write_all(request.as_bytes()).unwrap();
    let mut line = String::new();
    let mut length = 0;
    loop {
        line.clear();
        stream.read_line(&mut line).unwrap();
        if let Some(value) = line.to_ascii_lowercase().strip_prefix("content-length:") {
            length = value.trim().parse().unwrap();
        }
        if line == "\r\n" {
            break;
        }
        assert!(!line.is_empty(), "the connection was closed");
    }
    let mut body = vec![0; length];
    stream.read_exact(&mut body).unwrap();
    String::from_utf8(body).unwrap()
}

fn connect(addr: SocketAddr) -> BufReader<std::net::TcpStream> {
    let stream = std::net::TcpStream::connect(addr).unwrap();
    stream.set_read_timeout(Some(waiting::PLENTY)).unwrap();
    BufReader::new(stream)
}

#[test]
fn a_server_on_goroutines_answers_clients_of_std() {
    for by_tasks in [false, true] {
        let (addr, ended) = serve(by_tasks);
        std::thread::scope(|s| {
            for client in 0..8 {
                s.spawn(move || {
                    let mut stream = connect(addr);
                    for n in 0..50 {
                        let body = "b".repeat(n * 400 * client);
                        let answer = ask(&mut stream, &format!("/{client}/{n}"), &body);
                        assert!(answer == format!("/{client}/{n} {body}"));
                    }
                });
            }
        });
        wait_until("the connections end with their clients", || ended.load(SeqCst) == 8);
    }
}

#[test]
fn a_client_that_is_slow_is_given_up_and_stalls_nobody() {
    let (addr, ended) = serve(false);
    let mut slow = std::net::TcpStream::connect(addr).unwrap();
    slow.write_all(b"POST / HT").unwrap();
    let mut stream = connect(addr);
    for n in 0..20 {
        assert_eq!(ask(&mut stream, "/", &n.to_string()), format!("/ {n}"));
    }
    let begun = Instant::now();
    wait_until("its time is up", || ended.load(SeqCst) >= 1);
    assert!(begun.elapsed() < Duration::from_secs(20));
    // Closed by the server; what it says before that is its own business.
    slow.set_read_timeout(Some(waiting::PLENTY)).unwrap();
    let _ = slow.read_to_end(&mut Vec::new());
}

#[test]
fn header_lines_that_are_too_long_are_refused() {
    let (addr, _) = serve(false);
    let mut stream = connect(addr);
    let request = format!("GET / HTTP/1.1\r\nhost: x\r\nlong: {}\r\n\r\n", "l".repeat(1_000_000));
    // It may be refused before all of it was sent.
    let _ = stream.get_mut().write_all(request.as_bytes());
    let mut line = String::new();
    let _ = stream.read_line(&mut line);
    assert!(line.is_empty() || line.contains("431"), "{line}");
    assert_eq!(ask(&mut connect(addr), "/still", "there"), "/still there");
}

#[test]
fn a_client_of_hyper_runs_its_connection_on_the_executor() {
    let (addr, _) = serve(true);
    for kind in KINDS {
        kind.start(move || {
            task::block_on(async {
                let stream = TcpStream::connect_async(addr).await.unwrap();
                let (mut sender, connection) =
                    hyper::client::conn::http1::handshake(stream).await.unwrap();
                hyper::rt::Executor::execute(&Executor, async move {
                    connection.await.unwrap();
                });
                for n in 0..20 {
                    let body = Full::new(Bytes::from(n.to_string()));
                    let request = Request::post("/hyper").header("host", "x").body(body).unwrap();
                    let response = sender.send_request(request).await.unwrap();
                    let body = response.into_body().collect().await.unwrap().to_bytes();
                    assert_eq!(body, format!("/hyper {n}"));
                }
            });
        })
        .join();
    }
}

#[test]
fn axum_serves_on_goroutines() {
    use axum::extract::{Path, State};
    use axum::routing::get;
    use tower::ServiceExt;

    let counter = Arc::new(sync::Mutex::new(0_u32));
    let count = async |State(counter): State<Arc<sync::Mutex<u32>>>, Path(by): Path<u32>| {
        let mut counter = counter.lock().unwrap();
        *counter += by;
        counter.to_string()
    };
    let router = axum::Router::new().route("/count/{by}", get(count)).with_state(counter);
    let listener = TcpListener::bind("127.0.0.1:0").unwrap();
    let addr = listener.local_addr().unwrap();
    strands::go(move || {
        for stream in listener.incoming().flatten() {
            let router = router.clone();
            strands::go(move || {
                let service = service_fn(move |request: Request<Incoming>| {
                    router.clone().oneshot(request.map(axum::body::Body::new))
                });
                let http = hyper::server::conn::http1::Builder::new();
                let _ = task::block_on(http.serve_connection(stream, service));
            });
        }
    });
    let mut stream = std::net::TcpStream::connect(addr).unwrap();
    let requests = "GET /count/3 HTTP/1.1\r\nhost: x\r\n\r\n".to_owned()
        + "GET /count/4 HTTP/1.1\r\nhost: x\r\nconnection: close\r\n\r\n";
    stream.write_all(requests.as_bytes()).unwrap();
    let mut text = String::new();
    stream.read_to_string(&mut text).unwrap();
    assert_eq!(text.matches("200 OK").count(), 2, "{text}");
    assert!(text.contains("\r\n\r\n3HTTP") && text.ends_with("\r\n\r\n7"), "{text}");
}

#[test]
fn futures_that_insist_on_tokio_get_it() {
    use tokio::io::{AsyncReadExt, AsyncWriteExt};
    let (addr, _) = serve(false);
    for kind in KINDS {
        let text = kind
            .start(move || {
                task::tokio::block_on(async move {
                    tokio::time::sleep(Duration::from_millis(1)).await;
                    let mut stream = tokio::net::TcpStream::connect(addr).await.unwrap();
                    let request = b"GET /tokio HTTP/1.1\r\nhost: x\r\nconnection: close\r\n\r\n";
                    stream.write_all(request).await.unwrap();
                    let mut text = String::new();
                    stream.read_to_string(&mut text).await.unwrap();
                    let spawned = tokio::spawn(async move { text });
                    spawned.await.unwrap()
                })
            })
            .join();
        assert!(text.ends_with("/tokio "), "{text}");
    }
    // Many at once, on workers' threads; dropped before they end.
    let tasks: Vec<_> = (0..100)
        .map(|n| {
            task::spawn(task::tokio::enter(async move {
                tokio::time::sleep(Duration::from_millis(n % 5)).await;
                n
            }))
        })
        .collect();
    let sum: u64 = tasks.into_iter().map(|task| task.join().unwrap()).sum();
    assert_eq!(sum, 4950);
    let dropped = task::spawn(task::tokio::enter(async {
        tokio::time::sleep(Duration::from_secs(3600)).await;
    }));
    dropped.abort();
    assert!(dropped.join().unwrap_err().is::<task::Cancelled>());
}

#[test]
fn sockets_and_pipes_are_readers_and_writers_of_futures() {
    async fn read<R: futures_io::AsyncRead + Unpin>(mut reader: R) -> Vec<u8> {
        let (mut all, mut piece) = (Vec::new(), [0; 100]);
        loop {
            let read = std::future::poll_fn(|cx| {
                std::pin::Pin::new(&mut reader).poll_read(cx, &mut piece)
            });
            match read.await.unwrap() {
                0 => return all,
                n => all.extend_from_slice(&piece[..n]),
            }
        }
    }
    async fn write<W: futures_io::AsyncWrite + Unpin>(mut writer: W, mut bytes: &[u8]) {
        use std::pin::Pin;
        while !bytes.is_empty() {
            let write = std::future::poll_fn(|cx| Pin::new(&mut writer).poll_write(cx, bytes));
            bytes = &bytes[write.await.unwrap()..];
        }
        std::future::poll_fn(|cx| Pin::new(&mut writer).poll_flush(cx)).await.unwrap();
        std::future::poll_fn(|cx| Pin::new(&mut writer).poll_close(cx)).await.unwrap();
    }
    let bytes: Arc<[u8]> = (0..400_000_u32).map(|n| n as u8).collect();
    let (reader, writer) = strands::io::pipe().unwrap();
    let sent = Arc::clone(&bytes);
    let writing = task::spawn(async move { write(writer, &sent).await });
    let got = task::block_on(read(reader));
    writing.join().unwrap();
    assert!(got == *bytes);

    let listener = TcpListener::bind("127.0.0.1:0").unwrap();
    let addr = listener.local_addr().unwrap();
    let sent = Arc::clone(&bytes);
    let writing = task::spawn(async move {
        let (stream, _) = listener.accept_async().await.unwrap();
        // Closing is the end for the reader, though the stream stays.
        write(&stream, &sent).await;
        stream
    });
    let stream = TcpStream::connect(addr).unwrap();
    let got = task::block_on(read(&stream));
    assert!(got == *bytes);
    drop(writing.join().unwrap());
}
