//! A server that ends in order: it stops accepting on Ctrl-C or SIGTERM, lets those finish who are at work,
//! within a deadline, and reports whom it dropped.
//!
//! A client sends lines, `work 250`, each of which is answered when that many milliseconds have passed:
//! `done 250`. Two contexts say when to stop:
//!
//! ```text
//!                                  signal                        deadline
//!    ───────────────────────────────┬──────────────────────────────┬────────────▶ time
//!    `stop` is done: nobody is      │ drain: what has begun        │ `abandon` is done:
//!    accepted, no line is begun     │ goes on                      │ what still goes on is dropped
//! ```
//!
//! The second Ctrl-C ends the process at once: a signal is caught only as long as somebody waits for it.
//!
//! ```text
//! cargo run --release --example graceful -- 7007 10000
//! ```

use std::io::{self, BufRead, BufReader, Write};
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};
use std::time::Duration;

use strands::context::{self, Context, Signal};
use strands::net::{SocketAddr, TcpListener, TcpStream};
use strands::sync::{Mutex, WaitGroup};

#[path = "common/args.rs"]
mod args;

/// What comes of the work.
#[derive(Default)]
struct Tally {
    done: AtomicU64,
    dropped: Mutex<Vec<(SocketAddr, String)>>,
}

fn main() -> io::Result<()> {
    let parameters = [(0, 0..=65_535), (10_000, 0..=3_600_000)];
    let [port, patience] = args::numbers("graceful [PORT [DRAIN_MILLIS]]", parameters);

    let signals = [Signal::Interrupt, Signal::Terminate];
    let (stop, _cancel) = context::signals(&context::background(), &signals)?;
    let (abandon, give_up) = context::with_cancel(&context::background());
    let listener = TcpListener::bind(("127.0.0.1", port as u16))?;
    println!("listening on {}", listener.local_addr()?);

    let tally = Arc::new(Tally::default());
    let clients = Arc::new(WaitGroup::new());
    loop {
        match listener.accept_ctx(&stop) {
            Ok((stream, addr)) => {
                let (stop, abandon) = (stop.clone(), abandon.clone());
                let tally = Arc::clone(&tally);
                clients.go(move || serve(&stream, addr, &stop, &abandon, &tally));
            }
            Err(_) if stop.err().is_some() => break,
            Err(error) => return Err(error),
        }
    }
    // From here on who connects is refused.
    drop(listener);
    println!("{}, draining", context::cause(&stop).expect("it is done"));

    if !clients.wait_timeout(Duration::from_millis(patience)) {
        give_up.cancel_with("the time to finish is up");
        clients.wait();
    }
    println!("done: {}", tally.done.load(Ordering::Relaxed));
    for (addr, line) in tally.dropped.lock().expect("nobody panics").iter() {
        println!("dropped: {addr} at `{line}`");
    }
    Ok(())
}

/// Serves a client until it leaves, or it is time to stop.
fn serve(stream: &TcpStream, addr: SocketAddr, stop: &Context, abandon: &Context, tally: &Tally) {
    // Reading ends with the one context, writing with the other.
    let lines = BufReader::new(stream.with_context(stop)).lines();
    for line in lines.map_while(Result::ok) {
        match work(&line, stream, abandon) {
            Ok(()) => tally.done.fetch_add(1, Ordering::Relaxed),
            Err(_) => {
                tally.dropped.lock().expect("nobody panics").push((addr, line));
                return;
            }
        };
    }
}

fn work(line: &str, stream: &TcpStream, abandon: &Context) -> io::Result<()> {
    let mut out = stream.with_context(abandon);
    match line.strip_prefix("work ").and_then(|millis| millis.trim().parse().ok()) {
        Some(millis) => {
            abandon.sleep(Duration::from_millis(millis))?;
            out.write_all(format!("done {millis}\n").as_bytes())
        }
        None => out.write_all(b"say: work MILLIS\n"),
    }
}
