//! The HTTP server under clients of std, `curl`, `wrk`, and clients that mean ill.

mod support;

use std::io::{BufReader, ErrorKind, Read, Write};
use std::net::{Shutdown, SocketAddr};
use std::process::Command;
use std::sync::Arc;
use std::sync::atomic::{AtomicUsize, Ordering::SeqCst};
use std::thread;
use std::time::{Duration, Instant};
use strands::context::{self, CancelHandle};
use strands::net::TcpListener;
use strands_proof::http::{Limits, Report, Request, Response, Server};
use support::{
    PATIENCE, Running, client, example, read_all, read_answer, say, succeeds, tool, wait_until,
};

/// A server in this process.
struct Served {
    addr: SocketAddr,
    cancel: CancelHandle,
    serving: strands::JoinHandle<std::io::Result<Report>>,
}

fn serve(
    limits: Limits,
    handler: impl Fn(&Request<'_>) -> Response + Send + Sync + 'static,
) -> Served {
    let listener = TcpListener::bind("127.0.0.1:0").unwrap();
    let addr = listener.local_addr().unwrap();
    let (stop, cancel) = context::with_cancel(&context::background());
    let server = Server::new(limits, handler);
    let serving = strands::go(move || server.serve(listener, &stop));
    Served { addr, cancel, serving }
}

fn echo(limits: Limits) -> Served {
    serve(limits, |request| {
        let text = format!("{} {} ", request.method, request.target);
        Response::new(200).body([text.as_bytes(), request.body].concat())
    })
}

impl Served {
    fn stop(self) -> Report {
        self.cancel.cancel();
        self.serving.join().unwrap().unwrap()
    }
}

/// The example server as a process.
fn server_process(drain_millis: u64) -> Running {
    Running::start(Command::new(example("http_server")).args(["0", &drain_millis.to_string()]))
}

#[test]
fn a_connection_is_kept_for_further_requests() {
    let server = echo(Limits::default());
    let mut stream = client(server.addr);
    let mut reader = BufReader::new(stream.try_clone().unwrap());
    for round in 0..20 {
        let body = "b".repeat(round * 700);
        write!(
            stream,
            "POST /{round} HTTP/1.1\r\nhost: x\r\ncontent-length: {}\r\n\r\n{body}",
            body.len()
        )
        .unwrap();
        let (head, answer) = read_answer(&mut reader);
        assert!(head.starts_with("HTTP/1.1 200 OK\r\n"), "{head}");
        assert_eq!(answer, format!("POST /{round} {body}").as_bytes());
    }
    stream.write_all(b"GET /last HTTP/1.1\r\nhost: x\r\nconnection: close\r\n\r\n").unwrap();
    let (head, answer) = read_answer(&mut reader);
    assert!(head.contains("connection: close"), "{head}");
    assert_eq!(answer, b"GET /last ");
    assert_eq!(reader.read(&mut [0]).unwrap(), 0);
    assert_eq!(server.stop(), Report { answered: 21, dropped: vec![] });
}

#[test]
fn pipelined_requests_are_answered_in_their_order() {
    const COUNT: usize = 5_000;
    let server = echo(Limits::default());
    let stream = client(server.addr);
    // All of them before the first answer is read; the chunks and bodies among them end where they say.
    let writer = thread::spawn({
        let mut stream = stream.try_clone().unwrap();
        move || {
            let mut text = String::new();
            for n in 0..COUNT {
                text += &match n % 3 {
                    0 => format!("GET /{n} HTTP/1.1\r\nhost: x\r\n\r\n"),
                    1 => format!("POST /{n} HTTP/1.1\r\nhost: x\r\ncontent-length: 3\r\n\r\nabc"),
                    _ => format!(
                        "POST /{n} HTTP/1.1\r\nhost: x\r\ntransfer-encoding: chunked\r\n\r\n1\r\na\r\n2\r\nbc\r\n0\r\n\r\n"
                    ),
                };
            }
            // In pieces that end anywhere.
            for piece in text.as_bytes().chunks(1_013) {
                stream.write_all(piece).unwrap();
            }
            stream.shutdown(Shutdown::Write).unwrap();
        }
    });
    let mut reader = BufReader::new(stream);
    for n in 0..COUNT {
        let expected = if n % 3 == 0 { format!("GET /{n} ") } else { format!("POST /{n} abc") };
        assert_eq!(String::from_utf8_lossy(&read_answer(&mut reader).1), expected);
    }
    assert_eq!(reader.read(&mut [0]).unwrap(), 0, "a client that has said all is let go");
    writer.join().unwrap();
    assert_eq!(server.stop().answered, COUNT as u64);
}

#[test]
fn answers_have_no_body_where_they_must_not() {
    let server = echo(Limits::default());
    let answer = say(server.addr, b"HEAD / HTTP/1.1\r\nhost: x\r\nconnection: close\r\n\r\n");
    assert!(answer.contains("content-length: 7\r\n") && answer.ends_with("\r\n\r\n"), "{answer}");
    let answer = say(server.addr, b"GET / HTTP/1.0\r\n\r\n");
    assert!(answer.contains("connection: close") && answer.ends_with("GET / "), "{answer}");
}

#[test]
fn a_client_that_wants_a_word_before_its_body_gets_it() {
    let server = echo(Limits::default());
    let mut stream = client(server.addr);
    stream
        .write_all(
            b"POST / HTTP/1.1\r\nhost: x\r\nexpect: 100-continue\r\ncontent-length: 3\r\n\r\n",
        )
        .unwrap();
    let mut word = [0; 25];
    stream.read_exact(&mut word).unwrap();
    assert_eq!(&word, b"HTTP/1.1 100 Continue\r\n\r\n");
    stream.write_all(b"abc").unwrap();
    assert_eq!(read_answer(&mut BufReader::new(stream)).1, b"POST / abc");
}

#[test]
fn what_is_too_large_or_nonsense_is_refused() {
    let limits = Limits { body: 10_000, ..Limits::default() };
    let server = echo(limits);
    let head = "GET / HTTP/1.1\r\nhost: x\r\n";
    let cases = [
        (431, format!("{head}x: {}\r\n\r\n", "y".repeat(100_000))),
        // One that never ends.
        (431, format!("{head}x: {}", "y".repeat(100_000))),
        (431, format!("GET /{} HTTP/1.1\r\nhost: x\r\n\r\n", "y".repeat(100_000))),
        (431, format!("{head}{}\r\n", "x: y\r\n".repeat(100))),
        (413, format!("{head}content-length: 10001\r\n\r\n{}", "x".repeat(10_001))),
        (413, format!("{head}transfer-encoding: chunked\r\n\r\n2711\r\n{}", "x".repeat(10_001))),
        (400, format!("{head}content-length: 1\r\ntransfer-encoding: chunked\r\n\r\n0\r\n\r\n")),
        (400, "GET / HTTP/1.1\r\n\r\n".to_owned()),
        (400, "\0\0\0\0".to_owned()),
        (400, format!("\x16\x03\x01{}", "?".repeat(500))),
        (501, format!("{head}transfer-encoding: gzip\r\n\r\n")),
        (505, "GET / HTTP/2.0\r\nhost: x\r\n\r\n".to_owned()),
    ];
    for (status, text) in cases {
        // The answer is read though the server did not read all: it is not lost in a reset.
        let answer = say(server.addr, text.as_bytes());
        assert!(answer.starts_with(&format!("HTTP/1.1 {status} ")), "{status}: {answer:?}");
        assert!(answer.contains("connection: close"), "{answer:?}");
    }
    // What came before a bad request is answered.
    let answer = say(server.addr, format!("{head}\r\nnonsense\r\n\r\n").as_bytes());
    assert!(answer.contains("GET / HTTP/1.1 400 "), "{answer:?}");
    assert_eq!(server.stop(), Report { answered: 1, dropped: vec![] });
}

#[test]
fn slow_clients_are_not_waited_for() {
    let limit = Duration::from_millis(300);
    // Patient as long as nothing has begun.
    let server = echo(Limits { request: limit, idle: 100 * PATIENCE, ..Limits::default() });
    let begun = Instant::now();

    // A byte now and then: each read is in time, the request is not.
    let mut dripping = client(server.addr);
    let text = b"GET /dripping HTTP/1.1\r\nhost: x\r\n\r\n".iter();
    for byte in text {
        match dripping.write_all(&[*byte]) {
            Ok(()) => thread::sleep(limit / 10),
            Err(error) => {
                let kind = error.kind();
                assert!(matches!(kind, ErrorKind::BrokenPipe | ErrorKind::ConnectionReset));
                break;
            }
        }
    }
    let mut answer = Vec::new();
    // It may have been reset after the answer by the bytes that came too late; the answer is there all the same.
    let _ = dripping.read_to_end(&mut answer);
    let answer = String::from_utf8_lossy(&answer);
    assert!(answer.starts_with("HTTP/1.1 408 "), "{answer:?}");

    // A body that never comes, and a chunk.
    for rest in ["content-length: 5\r\n\r\nabc", "transfer-encoding: chunked\r\n\r\n5\r\nabc"] {
        let answer = say(server.addr, format!("POST / HTTP/1.1\r\nhost: x\r\n{rest}").as_bytes());
        assert!(answer.starts_with("HTTP/1.1 408 "), "{answer:?}");
    }
    assert_eq!(server.stop().answered, 0);

    // Nothing at all, and nothing after a request.
    let server = echo(Limits { request: 100 * PATIENCE, idle: 2 * limit, ..Limits::default() });
    let silent = Instant::now();
    assert_eq!(say(server.addr, b""), "");
    assert!(silent.elapsed() >= 2 * limit);
    let answer = say(server.addr, b"GET / HTTP/1.1\r\nhost: x\r\n\r\n");
    assert!(answer.ends_with("GET / "), "{answer:?}");
    assert!(begun.elapsed() < PATIENCE);
    assert_eq!(server.stop().answered, 1);
}

#[test]
fn a_client_that_does_not_read_is_not_waited_for() {
    let limits = Limits { answer: Duration::from_millis(300), ..Limits::default() };
    let left = Arc::new(AtomicUsize::new(0));
    let server = serve(limits, {
        let left = Arc::clone(&left);
        move |_| {
            left.fetch_add(1, SeqCst);
            Response::new(200).body(vec![b'x'; 20_000_000])
        }
    });
    // Two that take nothing, or next to nothing.
    let mut lazy = client(server.addr);
    lazy.write_all(b"GET / HTTP/1.1\r\nhost: x\r\n\r\n").unwrap();
    let mut dripping = client(server.addr);
    dripping.write_all(b"GET / HTTP/1.1\r\nhost: x\r\n\r\n").unwrap();
    wait_until("both are answered", || left.load(SeqCst) == 2);
    let begun = Instant::now();
    let mut read = 0;
    while begun.elapsed() < Duration::from_millis(1_000) {
        read += dripping.read(&mut [0; 100]).unwrap();
        thread::sleep(Duration::from_millis(5));
    }
    // Both are cut off: what is left in the buffers is all that comes.
    for mut stream in [lazy, dripping] {
        let mut rest = Vec::new();
        let _ = stream.read_to_end(&mut rest);
        assert!(rest.len() + read < 20_000_000);
    }
    assert_eq!(server.stop().answered, 0);
}

#[test]
fn resets_half_closes_and_panics_hurt_nobody_else() {
    let server = serve(Limits::default(), |request| match request.target {
        "/panic" => panic!("as asked"),
        _ => Response::text("fine"),
    });
    for round in 0..50 {
        let mut stream = client(server.addr);
        match round % 4 {
            // Reset in the midst of a head.
            0 => stream.write_all(b"GET / HT").unwrap(),
            1 => {
                stream.write_all(b"GET / HTTP/1.1\r\nhost: x\r\n\r\n").unwrap();
                stream.shutdown(Shutdown::Write).unwrap();
                assert!(read_all(&mut stream).ends_with("fine"));
                continue;
            }
            2 => {
                stream.write_all(b"GET /panic HTTP/1.1\r\nhost: x\r\n\r\n").unwrap();
                assert_eq!(read_all(&mut stream), "");
                continue;
            }
            _ => stream
                .write_all(b"POST / HTTP/1.1\r\nhost: x\r\ncontent-length: 9\r\n\r\nabc")
                .unwrap(),
        }
        reset(stream);
    }
    let answer = say(server.addr, b"GET / HTTP/1.0\r\n\r\n");
    assert!(answer.ends_with("fine"), "{answer}");
    let report = server.stop();
    assert_eq!((report.answered, report.dropped.len()), (14, 0));
}

/// Closes a connection by a reset.
fn reset(stream: std::net::TcpStream) {
    let linger = libc::linger { l_onoff: 1, l_linger: 0 };
    // SAFETY: a socket of ours, and a value of the type and length that the option has.
    let set = unsafe {
        libc::setsockopt(
            std::os::fd::AsRawFd::as_raw_fd(&stream),
            libc::SOL_SOCKET,
            libc::SO_LINGER,
            (&raw const linger).cast(),
            size_of::<libc::linger>() as u32,
        )
    };
    assert_eq!(set, 0);
}

#[test]
fn a_stop_ends_the_idle_and_waits_for_the_busy() {
    let limits = Limits { drain: Duration::from_millis(500), ..Limits::default() };
    let begun = Arc::new(AtomicUsize::new(0));
    let server = serve(limits, {
        let begun = Arc::clone(&begun);
        move |request| {
            begun.fetch_add(1, SeqCst);
            let time = if request.target == "/short" { 100 } else { 3_600_000 };
            strands::sleep(Duration::from_millis(time));
            Response::text("done")
        }
    });
    let mut idle = client(server.addr);
    let mut short = client(server.addr);
    short.write_all(b"GET /short HTTP/1.1\r\nhost: x\r\n\r\n").unwrap();
    let mut long = client(server.addr);
    long.write_all(b"GET /long HTTP/1.1\r\nhost: x\r\n\r\n").unwrap();
    wait_until("both have begun", || begun.load(SeqCst) == 2);
    let (addr, late) = (server.addr, long.local_addr().unwrap());
    let report = server.stop();
    assert_eq!(report, Report { answered: 1, dropped: vec![late] });
    assert_eq!(read_all(&mut idle), "");
    let answer = read_all(&mut short);
    assert!(answer.contains("connection: close") && answer.ends_with("done"), "{answer}");
    assert_eq!(read_all(&mut long), "");
    let refused = std::net::TcpStream::connect(addr).unwrap_err();
    assert_eq!(refused.kind(), ErrorKind::ConnectionRefused);
}

#[test]
fn a_terminated_process_answers_what_it_has_begun() {
    let server = server_process(1_000);
    let mut short = client(server.addr);
    short.write_all(b"GET /slow/300 HTTP/1.1\r\nhost: x\r\n\r\n").unwrap();
    let mut long = client(server.addr);
    long.write_all(b"GET /slow/3600000 HTTP/1.1\r\nhost: x\r\n\r\n").unwrap();
    // The server has taken both when it has taken a third.
    assert!(say(server.addr, b"GET / HTTP/1.0\r\n\r\n").ends_with("Hello, World!"));
    thread::sleep(Duration::from_millis(50));
    server.terminate();
    assert!(read_all(&mut short).ends_with("after 300 ms"));
    let (status, printed) = server.ended();
    assert!(status.success(), "{status}");
    let late = long.local_addr().unwrap();
    assert_eq!(printed, format!("received SIGTERM: answered 2\ndropped {late}\n"));
    assert_eq!(read_all(&mut long), "");
}

#[test]
fn a_flood_of_connections_is_survived() {
    const FLOOD: usize = 150;
    let mut command = Command::new("sh");
    command.args(["-c", "ulimit -n 50; exec \"$0\" 0"]).arg(example("http_server"));
    let server = Running::start(&mut command);
    let ask = |stream: &mut std::net::TcpStream| {
        stream.write_all(b"GET / HTTP/1.1\r\nhost: x\r\n\r\n").unwrap();
        read_answer(&mut BufReader::new(stream)).1
    };
    assert_eq!(server.sockets(), 1);
    for _ in 0..2 {
        let mut flood: Vec<_> = (0..FLOOD).map(|_| client(server.addr)).collect();
        wait_until("it has no descriptors left", || server.descriptors() >= 49);
        // Those who got in are served, and as they leave, others get in: in the end all.
        for mut stream in flood.drain(..) {
            assert_eq!(ask(&mut stream), b"Hello, World!");
        }
        wait_until("all is calm again", || server.sockets() == 1);
    }
    // Its own are a few, and not more with each flood.
    assert!(server.descriptors() < 20, "{}", server.descriptors());
    assert!(say(server.addr, b"GET / HTTP/1.0\r\n\r\n").ends_with("Hello, World!"));
}

#[test]
fn curl_is_served() {
    let Some(mut curl) = tool("curl") else { return };
    let server = server_process(1_000);
    let scratch = support::Scratch::new();
    let (upload, download) = (scratch.0.join("upload"), scratch.0.join("download"));
    let bytes: Vec<u8> =
        (0..2_000_000_u32).map(|n| (n.wrapping_mul(2_654_435_761) >> 24) as u8).collect();
    std::fs::write(&upload, &bytes).unwrap();
    curl.args(["--silent", "--show-error", "--fail"]);
    let mut hello = tool("curl").expect("it was there");
    let text = succeeds(hello.args(["--silent", "--include"]).arg(server.url("/")));
    assert!(text.starts_with("HTTP/1.1 200 OK") && text.ends_with("Hello, World!"), "{text}");

    // By length, which has curl ask first; then in chunks, over the same connection.
    let data = format!("@{}", upload.display());
    succeeds(
        curl.args(["--data-binary", &data, "--output"])
            .arg(&download)
            .arg(server.url("/echo"))
            .args(["--next", "--silent", "--show-error", "--fail"])
            .args(["--header", "transfer-encoding: chunked", "--data-binary", &data, "--output"])
            .arg(scratch.0.join("second"))
            .arg(server.url("/echo")),
    );
    assert!(std::fs::read(download).unwrap() == bytes);
    assert!(std::fs::read(scratch.0.join("second")).unwrap() == bytes);

    let mut head = tool("curl").expect("it was there");
    let long = format!("x: {}", "y".repeat(100_000));
    let status = succeeds(
        head.args([
            "--silent",
            "--output",
            "/dev/null",
            "--write-out",
            "%{http_code}",
            "--header",
            &long,
        ])
        .arg(server.url("/")),
    );
    assert_eq!(status, "431");
}

#[test]
fn wrk_gets_nothing_but_good_answers() {
    let Some(mut wrk) = tool("wrk") else { return };
    let server = server_process(1_000);
    let printed =
        succeeds(wrk.args(["-t", "1", "-c", "64", "-d", "1s", "--latency"]).arg(server.url("/")));
    assert!(!printed.contains("Non-2xx") && !printed.contains("Socket errors"), "{printed}");
    let requests = printed
        .lines()
        .find_map(|line| line.trim().split_once(" requests in ")?.0.parse::<u64>().ok())
        .unwrap_or_else(|| panic!("{printed}"));
    assert!(requests > 100, "{printed}");
    server.terminate();
    let (_, report) = server.ended();
    let answered = report.strip_prefix("received SIGTERM: answered ").unwrap().trim();
    assert!(answered.parse::<u64>().unwrap() >= requests, "{answered} < {requests}");
}
