//! An echo server: whoever connects gets back what they send, each served by a goroutine.
//!
//! The program is what it was when servers had a thread for each client. But ten thousand clients are
//! ten thousand goroutines here, which share a few threads, and take a page of memory each while they wait.
//!
//! ```text
//! cargo run --release --example echo -- 7007
//! nc 127.0.0.1 7007
//! ```

use std::io::{self, Read, Write};

use strands::net::{TcpListener, TcpStream};

#[path = "common/args.rs"]
mod args;

fn main() -> io::Result<()> {
    let [port] = args::numbers("echo [PORT]", [(0, 0..=65_535)]);
    let listener = TcpListener::bind(("127.0.0.1", port as u16))?;
    println!("listening on {}", listener.local_addr()?);
    strands::run(|| {
        for stream in listener.incoming() {
            let stream = stream?;
            // A client that breaks off has only itself to tell.
            strands::go(move || echo(&stream));
        }
        Ok(())
    })
}

fn echo(mut stream: &TcpStream) -> io::Result<()> {
    // Small enough for the page that a goroutine has anyway.
    let mut buffer = [0; 1024];
    loop {
        match stream.read(&mut buffer)? {
            0 => return Ok(()),
            length => stream.write_all(&buffer[..length])?,
        }
    }
}
