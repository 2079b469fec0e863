//! Bodies in chunks, put together.

use super::head::Refused;
use httparse::Status;

/// Longer than any line with a chunk's size has a reason to be.
const LONGEST_LINE: usize = 256;
/// What follows the last chunk is read over. So much of it.
const LONGEST_TRAILER: usize = 4 << 10;

/// Where the decoding of a body is.
#[derive(Debug, Default)]
pub(super) struct Chunks {
    /// Bytes of the input that are dealt with.
    pub(super) taken: usize,
    /// The body, as far as it has come.
    pub(super) body: Vec<u8>,
    /// What is missing of the chunk that has begun, and then the line end after it.
    missing: usize,
    state: State,
}

#[derive(Debug, Default, PartialEq, Eq)]
enum State {
    #[default]
    Size,
    Data,
    DataEnd,
    Trailer,
}

impl Chunks {
    /// Deals with what has come since; whether that was all. `input` begins where it began before.
    pub(super) fn decode(&mut self, input: &[u8], limit: usize) -> Result<bool, Refused> {
        loop {
            // The sizes of chunks, and what may follow them, could be any number of times as long as the chunks.
            if self.taken > 2 * limit + LONGEST_TRAILER {
                return Err(Refused(413));
            }
            let rest = &input[self.taken..];
            match self.state {
                State::Size => match httparse::parse_chunk_size(rest) {
                    Ok(Status::Complete((length, size))) => {
                        self.taken += length;
                        self.state = if size == 0 { State::Trailer } else { State::Data };
                        if size > (limit - self.body.len()) as u64 {
                            return Err(Refused(413));
                        }
                        self.missing = size as usize;
                    }
                    Ok(Status::Partial) if rest.len() <= LONGEST_LINE => return Ok(false),
                    _ => return Err(Refused(400)),
                },
                State::Data => {
                    let here = rest.len().min(self.missing);
                    self.body.extend_from_slice(&rest[..here]);
                    self.taken += here;
                    self.missing -= here;
                    if self.missing > 0 {
                        return Ok(false);
                    }
                    self.state = State::DataEnd;
                }
                State::DataEnd => match rest {
                    [b'\r', b'\n', ..] => {
                        self.taken += 2;
                        self.state = State::Size;
                    }
                    [] | [b'\r'] => return Ok(false),
                    _ => return Err(Refused(400)),
                },
                State::Trailer => match rest.iter().position(|byte| *byte == b'\n') {
                    Some(end) => {
                        self.taken += end + 1;
                        if matches!(&rest[..end], [] | [b'\r']) {
                            return Ok(true);
                        }
                        self.missing += end + 1;
                        if self.missing > LONGEST_TRAILER {
                            return Err(Refused(431));
                        }
                    }
                    None if rest.len() > LONGEST_LINE => return Err(Refused(431)),
                    None => return Ok(false),
                },
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const WHOLE: &[u8] = b"5;name=value\r\nhello\r\n6\r\n world\r\n0\r\nTrailer: x\r\n\r\nGET";

    /// Fed so many bytes at a time.
    fn fed(input: &[u8], step: usize) -> Result<(Vec<u8>, usize), Refused> {
        let mut chunks = Chunks::default();
        for end in (step..).step_by(step).map(|end| end.min(input.len())) {
            if chunks.decode(&input[..end], 100)? {
                return Ok((chunks.body, chunks.taken));
            }
            if end == input.len() {
                break;
            }
        }
        Ok((chunks.body, 0))
    }

    #[test]
    fn chunks_are_put_together_however_they_come() {
        for step in 1..=WHOLE.len() {
            let (body, taken) = fed(WHOLE, step).unwrap();
            assert_eq!((&body[..], taken), (&b"hello world"[..], WHOLE.len() - 3), "{step}");
        }
    }

    #[test]
    fn nonsense_and_too_much_are_refused() {
        assert_eq!(fed(b"5\r\nhelloX", 1), Err(Refused(400)));
        assert_eq!(fed(b"x\r\n", 1), Err(Refused(400)));
        assert_eq!(fed(b"65\r\n", 1), Err(Refused(413)));
        assert_eq!(fed(b"ffffffffffffffff\r\n", 3), Err(Refused(413)));
        assert_eq!(
            fed(&[&b"60\r\n"[..], &[b'x'; 96], b"\r\n5\r\n"].concat(), 7),
            Err(Refused(413))
        );
        let wordy = [&b"1;"[..], &[b'x'; 200], b"\r\n.\r\n"].concat().repeat(50);
        assert_eq!(fed(&wordy, 500), Err(Refused(413)));
        let endless = [&b"0\r\n"[..], &b"a: b\r\n".repeat(2_000)].concat();
        assert_eq!(fed(&endless, 1_000), Err(Refused(431)));
        assert!(fed(&[&b"1;"[..], &[b'x'; 1_000]].concat(), 1).is_err());
    }
}
