//! One connection, from its first request to its last.

use super::body::Chunks;
use super::head::{self, Head, Length, NO_HEADERS, Refused};
use super::response::Date;
use super::server::Peer;
use super::{Limits, Request, Response};
use std::io::{self, ErrorKind, Read, Write};
use std::time::Instant;

/// Where the input begins and what it goes back to. Small, since there may be many connections that are idle.
const ROOM: usize = 4 << 10;
/// Answers to pipelined requests are written together, up to so many bytes.
const WRITTEN_TOGETHER: usize = 64 << 10;

/// Why a connection ends.
enum End {
    /// There will be no further request, and all that were read are answered.
    Done,
    /// Within a request, or while the client was to read the answer.
    Broken,
    /// It is answered with this, and then ends.
    Refused(Refused),
}

impl From<Refused> for End {
    fn from(refused: Refused) -> End {
        End::Refused(refused)
    }
}

pub(super) struct Connection<'a, S, H> {
    /// What is read and written: the peer's stream, or what encrypts it.
    io: S,
    peer: &'a Peer,
    limits: &'a Limits,
    handler: &'a H,
    input: Input,
    out: Vec<u8>,
    date: Date,
    /// When the request that has begun has to be here.
    deadline: Option<Instant>,
    /// Whether the stream's read timeout is that of an idle connection.
    is_patient: bool,
    /// How many answers are in `out`.
    unwritten: u64,
    pub(super) answered: u64,
}

impl<'a, S, H> Connection<'a, S, H>
where
    S: Read + Write,
    H: Fn(&Request<'_>) -> Response,
{
    pub(super) fn new(io: S, peer: &'a Peer, limits: &'a Limits, handler: &'a H) -> Self {
        Connection {
            io,
            peer,
            limits,
            handler,
            input: Input::new(),
            out: Vec::new(),
            date: Date::new(),
            deadline: None,
            is_patient: false,
            unwritten: 0,
            answered: 0,
        }
    }

    /// Answers requests until there are no more, or the connection is broken. Whether every request that had begun to come in
    /// was answered.
    pub(super) fn serve(&mut self) -> bool {
        let end = loop {
            match self.request() {
                Ok(()) => {}
                Err(end) => break end,
            }
        };
        match end {
            End::Done => self.flush().is_ok(),
            End::Broken => false,
            End::Refused(Refused(status)) => {
                Response::new(status).write(&mut self.out, &mut self.date, true, Some("close"));
                // The client may be writing still, and would lose the answer if the connection were closed at once.
                if self.flush().is_ok() {
                    self.peer.linger();
                }
                false
            }
        }
    }

    /// Reads one request and answers it.
    fn request(&mut self) -> Result<(), End> {
        let head = loop {
            let mut slots = NO_HEADERS;
            let mut parsed = httparse::Request::new(&mut []);
            let Some(head) = head::parse(self.input.bytes(), &mut parsed, &mut slots, self.limits)?
            else {
                self.fill()?;
                continue;
            };
            match head.body {
                // Mostly everything is here.
                Length::Bytes(length) if self.input.bytes().len() - head.length >= length => {
                    let body = &self.input.bytes()[head.length..head.length + length];
                    let keep_alive = answer(
                        self.handler,
                        &parsed,
                        body,
                        head,
                        self.peer,
                        &mut self.out,
                        &mut self.date,
                    );
                    return self.answered(head.length + length, keep_alive);
                }
                _ => break head,
            }
        };
        if head.expects_continue {
            self.out.extend_from_slice(b"HTTP/1.1 100 Continue\r\n\r\n");
        }
        let mut chunks = Chunks::default();
        let end = match head.body {
            Length::Bytes(length) => {
                while self.input.bytes().len() < head.length + length {
                    self.fill()?;
                }
                head.length + length
            }
            Length::Chunks => {
                while !chunks.decode(&self.input.bytes()[head.length..], self.limits.body)? {
                    self.fill()?;
                }
                head.length + chunks.taken
            }
        };
        // The input may have moved meanwhile.
        let mut slots = NO_HEADERS;
        let mut parsed = httparse::Request::new(&mut []);
        head::parse(self.input.bytes(), &mut parsed, &mut slots, self.limits)?;
        let body = match head.body {
            Length::Bytes(_) => &self.input.bytes()[head.length..end],
            Length::Chunks => &chunks.body[..],
        };
        let keep_alive =
            answer(self.handler, &parsed, body, head, self.peer, &mut self.out, &mut self.date);
        self.answered(end, keep_alive)
    }

    /// The request that is the first `length` bytes of the input has been.
    fn answered(&mut self, length: usize, keep_alive: bool) -> Result<(), End> {
        self.input.take(length);
        self.deadline = None;
        self.unwritten += 1;
        if !keep_alive {
            return Err(End::Done);
        }
        if self.out.len() >= WRITTEN_TOGETHER { self.flush() } else { Ok(()) }
    }

    /// Reads what comes next. Before it waits for the client, the client gets what it may be waiting for.
    fn fill(&mut self) -> Result<(), End> {
        self.flush()?;
        let is_idle = self.input.bytes().is_empty();
        if is_idle {
            if !self.peer.rest() {
                return Err(End::Done);
            }
            if !self.is_patient {
                self.is_patient = true;
                self.wait_for_reads(self.limits.idle)?;
            }
        } else {
            let now = Instant::now();
            let deadline = *self.deadline.get_or_insert_with(|| now + self.limits.request);
            if now >= deadline {
                return Err(End::Refused(Refused(408)));
            }
            self.is_patient = false;
            self.wait_for_reads(deadline - now)?;
        }
        let read = loop {
            match self.io.read(self.input.room()) {
                Err(error) if error.kind() == ErrorKind::Interrupted => {}
                read => break read,
            }
        };
        let read = match read {
            Ok(0) | Err(_) if is_idle => return Err(End::Done),
            Ok(0) => return Err(End::Broken),
            Ok(read) => read,
            Err(error) if error.kind() == ErrorKind::WouldBlock => {
                return Err(End::Refused(Refused(408)));
            }
            Err(_) => return Err(End::Broken),
        };
        if is_idle {
            self.peer.begin();
        }
        self.input.added(read);
        Ok(())
    }

    fn wait_for_reads(&self, time: std::time::Duration) -> Result<(), End> {
        self.peer.stream.set_read_timeout(Some(time)).map_err(|_| End::Broken)
    }

    /// Writes the answers that are ready.
    fn flush(&mut self) -> Result<(), End> {
        if self.out.is_empty() {
            return Ok(());
        }
        let result = self.write_out();
        self.out.clear();
        self.out.shrink_to(WRITTEN_TOGETHER);
        result.map_err(|_| End::Broken)?;
        self.answered += std::mem::take(&mut self.unwritten);
        Ok(())
    }

    fn write_out(&mut self) -> io::Result<()> {
        let (mut written, mut deadline) = (0, None);
        loop {
            match self.io.write(&self.out[written..]) {
                Ok(0) => return Err(ErrorKind::WriteZero.into()),
                Ok(some) => written += some,
                Err(error) if error.kind() == ErrorKind::Interrupted => {}
                Err(error) => return Err(error),
            }
            if written == self.out.len() {
                if deadline.is_some() {
                    self.peer.stream.set_write_timeout(Some(self.limits.answer))?;
                }
                return self.io.flush();
            }
            // A client that reads a byte now and then has no more time in all than one that reads none.
            let now = Instant::now();
            let deadline = *deadline.get_or_insert_with(|| now + self.limits.answer);
            if now >= deadline {
                return Err(ErrorKind::TimedOut.into());
            }
            self.peer.stream.set_write_timeout(Some(deadline - now))?;
        }
    }
}

/// Has the handler answer, and says whether there may be another request.
fn answer(
    handler: &impl Fn(&Request<'_>) -> Response,
    parsed: &httparse::Request<'_, '_>,
    body: &[u8],
    head: Head,
    peer: &Peer,
    out: &mut Vec<u8>,
    date: &mut Date,
) -> bool {
    let method = parsed.method.unwrap_or_default();
    let target = parsed.path.unwrap_or_default();
    let response = handler(&Request { method, target, headers: parsed.headers, body });
    let keep_alive = head.keep_alive && !peer.is_stopping();
    let word = match (keep_alive, head.is_http_1_0) {
        (false, _) => Some("close"),
        (true, true) => Some("keep-alive"),
        (true, false) => None,
    };
    response.write(out, date, method != "HEAD", word);
    keep_alive
}

/// What has been read and not dealt with.
struct Input {
    bytes: Vec<u8>,
    begin: usize,
    end: usize,
}

impl Input {
    fn new() -> Input {
        Input { bytes: vec![0; ROOM], begin: 0, end: 0 }
    }

    fn bytes(&self) -> &[u8] {
        &self.bytes[self.begin..self.end]
    }

    fn take(&mut self, length: usize) {
        self.begin += length;
        if self.begin == self.end {
            (self.begin, self.end) = (0, 0);
            // What a large request took is not kept for the small ones that may follow.
            if self.bytes.len() > 4 * ROOM {
                self.bytes = vec![0; ROOM];
            }
        }
    }

    /// Where more may be put: never empty.
    fn room(&mut self) -> &mut [u8] {
        if self.end == self.bytes.len() {
            if self.begin > 0 {
                self.bytes.copy_within(self.begin..self.end, 0);
                (self.begin, self.end) = (0, self.end - self.begin);
            } else {
                // As it comes, and not as it was announced.
                self.bytes.resize(2 * self.bytes.len(), 0);
            }
        }
        &mut self.bytes[self.end..]
    }

    fn added(&mut self, length: usize) {
        self.end += length;
    }
}
