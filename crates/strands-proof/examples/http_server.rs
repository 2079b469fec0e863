//! An HTTP server on goroutines, to be tried out with `curl` and `wrk`, and stopped with Ctrl-C.
//!
//! ```text
//! cargo run --release -p strands-proof --example http_server -- 8080
//! curl http://127.0.0.1:8080/
//! curl --data-binary @Cargo.toml http://127.0.0.1:8080/echo
//! wrk -c 64 -d 5 http://127.0.0.1:8080/
//! ```
//!
//! Ctrl-C has it finish what it is at, for ten seconds at most (or as many milliseconds as the second argument says), and
//! print whom it had to cut off.

use std::io;
use std::time::Duration;
use strands::context::{self, Signal};
use strands::net::TcpListener;
use strands_proof::http::{Limits, Request, Response, Server};

fn main() -> io::Result<()> {
    let mut arguments = std::env::args().skip(1);
    let mut number = |default: u64| {
        let given = arguments.next().map(|text| text.parse());
        given
            .unwrap_or(Ok(default))
            .map_err(|error| io::Error::new(io::ErrorKind::InvalidInput, error))
    };
    let (port, drain) = (number(0)?, Duration::from_millis(number(10_000)?));

    let (stop, _cancel) =
        context::signals(&context::background(), &[Signal::Interrupt, Signal::Terminate])?;
    let listener = TcpListener::bind(format!("127.0.0.1:{port}"))?;
    println!("listening on {}", listener.local_addr()?);
    let server = Server::new(Limits { drain, ..Limits::default() }, answer);
    let report = strands::run(|| server.serve(listener, &stop))?;
    println!("{}: answered {}", context::cause(&stop).expect("it stopped"), report.answered);
    for client in report.dropped {
        println!("dropped {client}");
    }
    Ok(())
}

fn answer(request: &Request<'_>) -> Response {
    match (request.method, request.target.split_once('/').map_or("", |(_, path)| path)) {
        ("GET" | "HEAD", "") => Response::text("Hello, World!"),
        ("POST" | "PUT", "echo") => Response::new(200).body(request.body.to_vec()),
        ("GET", path) => match path.split_once('/').map(|(word, number)| (word, number.parse())) {
            // What a database would do: the goroutine waits, and no thread.
            Some(("slow", Ok(millis))) => {
                strands::sleep(Duration::from_millis(millis));
                Response::text(format!("after {millis} ms"))
            }
            Some(("bytes", Ok(count))) if count <= 100_000_000 => {
                Response::new(200).body(vec![b'x'; count as usize])
            }
            Some(("panic", Ok(_))) => panic!("as asked"),
            _ => Response::text("nothing here\n").status(404),
        },
        _ => Response::text("not like this\n").status(405),
    }
}
