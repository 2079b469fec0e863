//! The head of a request, and what it says about what follows.

use super::Limits;
use httparse::Status;
use std::mem::MaybeUninit;

/// A request, as long as it is being answered.
#[derive(Debug)]
pub struct Request<'a> {
    /// `GET`, say.
    pub method: &'a str,
    /// As the client wrote it: most often a path and a query.
    pub target: &'a str,
    /// In their order.
    pub headers: &'a [httparse::Header<'a>],
    /// All of it.
    pub body: &'a [u8],
}

impl<'a> Request<'a> {
    /// The value of the first header of that name, in whatever case.
    pub fn header(&self, name: &str) -> Option<&'a [u8]> {
        let mut headers = self.headers.iter();
        headers.find(|header| header.name.eq_ignore_ascii_case(name)).map(|header| header.value)
    }
}

/// Room for the headers of one request, on the stack of whoever parses it.
pub(super) type Slots<'a> = [MaybeUninit<httparse::Header<'a>>; 64];

pub(super) const NO_HEADERS: Slots<'_> = [const { MaybeUninit::uninit() }; 64];

/// How the end of a body is known.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Length {
    Bytes(usize),
    Chunks,
}

/// What the server itself wants to know.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) struct Head {
    /// In bytes, with the empty line that ends it.
    pub(super) length: usize,
    pub(super) body: Length,
    pub(super) is_http_1_0: bool,
    pub(super) keep_alive: bool,
    /// The client waits for a word before it sends the body.
    pub(super) expects_continue: bool,
}

/// Why a request is not taken: the status with which it is answered.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) struct Refused(pub(super) u16);

const BAD_REQUEST: Refused = Refused(400);
const BODY_TOO_LARGE: Refused = Refused(413);
const EXPECTATION_FAILED: Refused = Refused(417);
const HEAD_TOO_LARGE: Refused = Refused(431);
const NOT_IMPLEMENTED: Refused = Refused(501);
const VERSION: Refused = Refused(505);

/// Parses the head at the beginning of `bytes`; `None` if there is more of it to come.
pub(super) fn parse<'h, 'b>(
    bytes: &'b [u8],
    request: &mut httparse::Request<'h, 'b>,
    slots: &'h mut Slots<'b>,
    limits: &Limits,
) -> Result<Option<Head>, Refused> {
    match request.parse_with_uninit_headers(bytes, slots) {
        Ok(Status::Complete(length)) if length > limits.head => Err(HEAD_TOO_LARGE),
        Ok(Status::Complete(length)) => understand(length, request, limits).map(Some),
        Ok(Status::Partial) if bytes.len() >= limits.head => Err(HEAD_TOO_LARGE),
        Ok(Status::Partial) => Ok(None),
        Err(httparse::Error::TooManyHeaders) => Err(HEAD_TOO_LARGE),
        Err(httparse::Error::Version) => Err(VERSION),
        Err(_) => Err(BAD_REQUEST),
    }
}

/// Where the request ends, above all. What may be understood in two ways is refused: if this server and a proxy before it
/// disagreed about where a request ends, one client's bytes would become another's request.
fn understand(
    length: usize,
    request: &httparse::Request<'_, '_>,
    limits: &Limits,
) -> Result<Head, Refused> {
    let is_http_1_0 = request.version == Some(0);
    let mut head = Head {
        length,
        body: Length::Bytes(0),
        is_http_1_0,
        keep_alive: !is_http_1_0,
        expects_continue: false,
    };
    let mut bytes = None;
    let (mut has_chunks, mut hosts) = (false, 0);
    for httparse::Header { name, value } in request.headers.iter() {
        // By length first: most headers are none of these.
        match name.len() {
            4 if name.eq_ignore_ascii_case("host") => hosts += 1,
            6 if name.eq_ignore_ascii_case("expect") => {
                if !value.eq_ignore_ascii_case(b"100-continue") {
                    return Err(EXPECTATION_FAILED);
                }
                head.expects_continue = !is_http_1_0;
            }
            10 if name.eq_ignore_ascii_case("connection") => {
                for word in value.split(|byte| *byte == b',').map(<[u8]>::trim_ascii) {
                    if word.eq_ignore_ascii_case(b"close") {
                        head.keep_alive = false;
                    } else if is_http_1_0 && word.eq_ignore_ascii_case(b"keep-alive") {
                        head.keep_alive = true;
                    }
                }
            }
            14 if name.eq_ignore_ascii_case("content-length") => {
                let this = decimal(value)?;
                if bytes.replace(this).is_some_and(|other| other != this) {
                    return Err(BAD_REQUEST);
                }
            }
            17 if name.eq_ignore_ascii_case("transfer-encoding") => {
                if has_chunks || is_http_1_0 {
                    return Err(BAD_REQUEST);
                }
                if !value.eq_ignore_ascii_case(b"chunked") {
                    return Err(NOT_IMPLEMENTED);
                }
                has_chunks = true;
            }
            _ => {}
        }
    }
    if hosts > 1 || (hosts == 0 && !is_http_1_0) {
        return Err(BAD_REQUEST);
    }
    head.body = match (bytes, has_chunks) {
        (Some(_), true) => return Err(BAD_REQUEST),
        (None, true) => Length::Chunks,
        (Some(bytes), false) if bytes > limits.body as u64 => return Err(BODY_TOO_LARGE),
        (bytes, false) => Length::Bytes(bytes.unwrap_or(0) as usize),
    };
    Ok(head)
}

/// Digits and nothing else: `+1` and ` 1` are no lengths.
fn decimal(digits: &[u8]) -> Result<u64, Refused> {
    if digits.is_empty() || digits.len() > 18 {
        return Err(BAD_REQUEST);
    }
    digits.iter().try_fold(0, |number, digit| match digit {
        b'0'..=b'9' => Ok(10 * number + u64::from(digit - b'0')),
        _ => Err(BAD_REQUEST),
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    fn parsed(text: &str) -> Result<Option<Head>, Refused> {
        let mut slots = NO_HEADERS;
        let mut request = httparse::Request::new(&mut []);
        let limits = Limits { head: 1_000, body: 1_000, ..Limits::default() };
        parse(text.as_bytes(), &mut request, &mut slots, &limits)
    }

    /// Headers of a request over HTTP/1.1 with a host.
    fn with(headers: &str) -> Result<Head, Refused> {
        parsed(&format!("POST / HTTP/1.1\r\nhost: x\r\n{headers}\r\n"))
            .map(|head| head.expect("it is whole"))
    }

    #[test]
    fn a_head_that_is_too_long_is_refused_whether_it_is_whole_or_not() {
        let whole =
            |value: usize| format!("GET / HTTP/1.1\r\nhost: x\r\nx: {}\r\n\r\n", "y".repeat(value));
        let rest = whole(0).len();
        assert_eq!(parsed(&whole(1_000 - rest)).unwrap().unwrap().length, 1_000);
        assert_eq!(parsed(&whole(1_001 - rest)), Err(HEAD_TOO_LARGE));
        assert_eq!(parsed(&whole(5_000)[..999]), Ok(None));
        assert_eq!(parsed(&whole(5_000)[..1_000]), Err(HEAD_TOO_LARGE));
        assert_eq!(with(&"a: b\r\n".repeat(80)), Err(HEAD_TOO_LARGE));
    }

    #[test]
    fn the_end_of_a_body_is_known_or_refused() {
        assert_eq!(with("").unwrap().body, Length::Bytes(0));
        assert_eq!(with("Content-Length: 12\r\n").unwrap().body, Length::Bytes(12));
        assert_eq!(
            with("content-length: 7\r\ncontent-length: 7\r\n").unwrap().body,
            Length::Bytes(7)
        );
        assert_eq!(with("Transfer-Encoding: Chunked\r\n").unwrap().body, Length::Chunks);
        for bad in [
            "content-length: 7\r\ncontent-length: 8\r\n",
            "content-length: 7, 7\r\n",
            "content-length: +7\r\n",
            "content-length: 0x7\r\n",
            "content-length:\r\n",
            "content-length: 99999999999999999999\r\n",
            "content-length: 7\r\ntransfer-encoding: chunked\r\n",
            "transfer-encoding: chunked\r\ntransfer-encoding: chunked\r\n",
            "host: y\r\n",
            " folded\r\n",
            "na me: value\r\n",
        ] {
            assert_eq!(with(bad), Err(BAD_REQUEST), "{bad}");
        }
        assert_eq!(with("transfer-encoding: gzip, chunked\r\n"), Err(NOT_IMPLEMENTED));
        assert_eq!(with("content-length: 1001\r\n"), Err(BODY_TOO_LARGE));
        assert_eq!(with("expect: a miracle\r\n"), Err(EXPECTATION_FAILED));
    }

    #[test]
    fn a_connection_is_kept_alive_as_the_version_has_it() {
        assert!(with("").unwrap().keep_alive);
        assert!(!with("connection: te, Close\r\n").unwrap().keep_alive);
        let old =
            |headers: &str| parsed(&format!("GET / HTTP/1.0\r\n{headers}\r\n")).unwrap().unwrap();
        assert!(!old("").keep_alive);
        assert!(old("connection: Keep-Alive\r\n").keep_alive);
        assert_eq!(parsed("GET / HTTP/1.1\r\n\r\n"), Err(BAD_REQUEST), "no host");
        assert_eq!(parsed("GET / HTTP/2.0\r\nhost: x\r\n\r\n"), Err(VERSION));
    }
}
