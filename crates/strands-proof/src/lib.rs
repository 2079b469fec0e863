//! `strands` proven with software that others have written.
//!
//! * [`http`]: an HTTP/1.1 server written by hand, a goroutine for each connection.
//! * `tests/`: that server under `curl`, `wrk` and hostile clients; HTTPS with rustls, WebSockets with tungstenite, hyper and
//!   axum, tokio-postgres at a real server, ureq: each on our sockets and goroutines.
//! * `examples/`: the same as programs to try out.
//!
//! This crate is not published.

pub mod http;
