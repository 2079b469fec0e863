//! An HTTP/1.1 server in plain blocking code: a goroutine for each connection, which reads, answers and writes.
//!
//! ```
//! use std::io::{Read, Write};
//! use std::sync::Arc;
//! use strands::context;
//! use strands::net::{TcpListener, TcpStream};
//! use strands_proof::http::{Limits, Request, Response, Server};
//!
//! # fn main() -> std::io::Result<()> {
//! let listener = TcpListener::bind("127.0.0.1:0")?;
//! let addr = listener.local_addr()?;
//! let (stop, cancel) = context::with_cancel(&context::background());
//! let server = Server::new(Limits::default(), |request: &Request<'_>| {
//!     Response::text(format!("you asked for {}\n", request.target))
//! });
//! let serving = strands::go(move || server.serve(listener, &stop));
//!
//! let mut client = TcpStream::connect(addr)?;
//! client.write_all(b"GET /news HTTP/1.1\r\nHost: here\r\nConnection: close\r\n\r\n")?;
//! let mut answer = String::new();
//! client.read_to_string(&mut answer)?;
//! assert!(answer.starts_with("HTTP/1.1 200 OK\r\n"));
//! assert!(answer.ends_with("\r\n\r\nyou asked for /news\n"));
//!
//! cancel.cancel();
//! let report = serving.join().unwrap()?;
//! assert_eq!((report.answered, report.dropped.len()), (1, 0));
//! # Ok(())
//! # }
//! ```
//!
//! It keeps connections alive, answers pipelined requests in their order and with as few writes as it can, takes bodies by
//! length or in chunks, and holds every client to [`Limits`]: in bytes, so that none can fill the memory, and in time, so that
//! one that sends a byte a second cannot stay for ever. None of that needs a state machine: where the server is in a request
//! is where its code is.
//!
//! # Stopping
//!
//! When the context is done the listener is closed, connections between two requests end, and those within one get until
//! [`Limits::drain`] to finish it. Then they are cut off, and [`Report`] says which.
//!
//! No read waits for the context, which would make each a select of two things. The server *ends the reading* of the
//! connections that are idle instead (`shutdown`), which wakes them. What keeps one from slipping through is an order of two
//! stores and two loads:
//!
//! ```text
//! a connection: idle = true; then reads `stopping`      the server: stopping = true; then reads `idle`
//! ```
//!
//! Both sequentially consistent: one of them sees what the other has stored.

mod body;
mod connection;
mod head;
mod response;
mod server;

pub use head::Request;
pub use response::Response;
pub use server::{Report, Server};

use std::time::Duration;

/// What a client may take of the server. What is exceeded is answered, and the connection closed.
#[derive(Clone, Debug)]
pub struct Limits {
    /// Of a request's head, in bytes: 431. (And 64 header lines at most.)
    pub head: usize,
    /// Of a request's body, in bytes: 413.
    pub body: usize,
    /// For how long a connection may be idle between two requests. It is closed without a word.
    pub idle: Duration,
    /// How long a request may take to come in, from its first byte to its last: 408.
    pub request: Duration,
    /// How long the client may take to read answers.
    pub answer: Duration,
    /// How long those that are within a request when the server stops may take to finish it.
    pub drain: Duration,
}

impl Default for Limits {
    fn default() -> Limits {
        Limits {
            head: 16 << 10,
            body: 2 << 20,
            idle: Duration::from_secs(60),
            request: Duration::from_secs(30),
            answer: Duration::from_secs(30),
            drain: Duration::from_secs(10),
        }
    }
}
