//! A chat server: what one says, all others hear, and one who does not listen holds up nobody.
//!
//! ```text
//!   client ──▶ reader ──┐                    ┌──▶ outbox ──▶ writer ──▶ client
//!   client ──▶ reader ──┼──▶ events ──▶ room ┼──▶ outbox ──▶ writer ──▶ client
//!   client ──▶ reader ──┘                    └──▶ outbox ──▶ writer ──▶ client
//! ```
//!
//! Three goroutines have all of it: for each client one that reads and one that writes, and one that is the
//! room and alone knows who is in it, so that there is nothing to lock. The room never waits for a client: it puts
//! lines into *bounded* outboxes, and a member whose outbox is full is dropped, with a word to all. A reader waits
//! for the room, so that one who talks too much waits as well.
//!
//! A client first says its name on a line, and then what it likes.
//!
//! ```text
//! cargo run --release --example chat -- 7007
//! nc 127.0.0.1 7007
//! ```

use std::io::{self, BufRead, BufReader, Read, Write};
use std::net::Shutdown;
use std::sync::Arc;
use std::time::Duration;

use strands::channel::{Receiver, Sender, bounded};
use strands::net::{TcpListener, TcpStream};

#[path = "../common/args.rs"]
mod args;
mod room;

use room::{Event, Line, room};

/// How many lines wait for a client before it is dropped.
const OUTBOX: usize = 128;
/// Of a line, in bytes. What is longer is taken for several.
const LONGEST: u64 = 1_000;
/// How long a client that was dropped has to take what was said before.
const GRACE: Duration = Duration::from_secs(5);

fn main() -> io::Result<()> {
    let [port] = args::numbers("chat [PORT]", [(0, 0..=65_535)]);
    let listener = TcpListener::bind(("127.0.0.1", port as u16))?;
    println!("listening on {}", listener.local_addr()?);
    let (events, happening) = bounded(64);
    strands::go(move || room(&happening));
    strands::run(|| {
        for (id, stream) in listener.incoming().enumerate() {
            let (stream, events) = (Arc::new(stream?), events.clone());
            strands::go(move || welcome(id, stream, &events));
        }
        Ok(())
    })
}

/// Asks for a name, and then passes on what the client says until it leaves.
fn welcome(id: usize, stream: Arc<TcpStream>, events: &Sender<Event>) {
    let mut reader = BufReader::new(&*stream);
    let Some(name) = next_line(&mut reader) else { return };
    let (outbox, mail) = bounded(OUTBOX);
    let writer = strands::go({
        let stream = Arc::clone(&stream);
        move || deliver(&stream, &mail)
    });
    // The room is there as long as somebody may speak.
    let tell = |event| events.send(event).expect("the room stays");
    tell(Event::Joined { id, name: name.into(), outbox });
    while let Some(text) = next_line(&mut reader) {
        tell(Event::Said { id, text });
    }
    tell(Event::Left { id });
    // It had its outbox from the room, which has closed it by now or will.
    let _ = writer.join();
}

/// A line without its end, or so much of it as is allowed.
fn next_line(reader: &mut impl BufRead) -> Option<String> {
    let mut line = Vec::new();
    reader.take(LONGEST).read_until(b'\n', &mut line).ok().filter(|length| *length > 0)?;
    Some(String::from_utf8_lossy(&line).trim_end().to_owned())
}

/// Writes what comes into an outbox until the room closes it.
fn deliver(mut stream: &TcpStream, mail: &Receiver<Line>) {
    let _ = stream.set_write_timeout(Some(GRACE));
    let mut lines = Vec::new();
    while let Ok(line) = mail.recv() {
        // What else is there goes along: one call for all.
        lines.clear();
        lines.extend_from_slice(line.as_bytes());
        mail.try_iter().for_each(|line| lines.extend_from_slice(line.as_bytes()));
        if stream.write_all(&lines).is_err() {
            break;
        }
    }
    // Ends the reader, too, if the client has not.
    let _ = stream.shutdown(Shutdown::Both);
}
