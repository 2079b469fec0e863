//! Answers, and how they are written down.

use std::borrow::Cow;
use std::io::Write;
use std::time::{Duration, SystemTime, UNIX_EPOCH};

/// What a request is answered with.
#[derive(Clone, Debug)]
pub struct Response {
    status: u16,
    headers: Vec<(&'static str, Cow<'static, str>)>,
    body: Cow<'static, [u8]>,
}

impl Response {
    /// An answer with that status and nothing else.
    ///
    /// # Panics
    /// If `status` is not within 200 to 599.
    pub fn new(status: u16) -> Response {
        assert!((200..600).contains(&status), "{status} ends no request");
        Response { status, headers: Vec::new(), body: Cow::Borrowed(&[]) }
    }

    /// Text, with status 200.
    pub fn text(text: impl Into<Cow<'static, str>>) -> Response {
        let body = match text.into() {
            Cow::Borrowed(text) => Cow::Borrowed(text.as_bytes()),
            Cow::Owned(text) => Cow::Owned(text.into_bytes()),
        };
        Response::new(200).header("content-type", "text/plain; charset=utf-8").body(body)
    }

    /// The same with another status.
    pub fn status(self, status: u16) -> Response {
        Response { status, ..self }
    }

    /// The same with one header more. The length, the date and what is to become of the connection are the server's.
    ///
    /// # Panics
    /// If the value has a line end or another control character in it: a client would take what follows for another header.
    pub fn header(mut self, name: &'static str, value: impl Into<Cow<'static, str>>) -> Response {
        let value = value.into();
        assert!(!value.bytes().any(|byte| byte.is_ascii_control()), "a header's value is one line");
        self.headers.push((name, value));
        self
    }

    /// The same with that body.
    pub fn body(mut self, body: impl Into<Cow<'static, [u8]>>) -> Response {
        self.body = body.into();
        self
    }

    /// `word` is what the header `connection` says, if anything.
    pub(super) fn write(
        &self,
        out: &mut Vec<u8>,
        date: &mut Date,
        with_body: bool,
        word: Option<&str>,
    ) {
        // Writing into a vector cannot fail.
        if self.status == 200 {
            out.extend_from_slice(b"HTTP/1.1 200 OK\r\nserver: strands\r\ndate: ");
        } else {
            let (status, reason) = (self.status, reason(self.status));
            let _ = write!(out, "HTTP/1.1 {status} {reason}\r\nserver: strands\r\ndate: ");
        }
        out.extend_from_slice(date.now().as_bytes());
        for (name, value) in &self.headers {
            out.extend_from_slice(b"\r\n");
            out.extend_from_slice(name.as_bytes());
            out.extend_from_slice(b": ");
            out.extend_from_slice(value.as_bytes());
        }
        if let Some(word) = word {
            out.extend_from_slice(b"\r\nconnection: ");
            out.extend_from_slice(word.as_bytes());
        }
        // These have no body, whatever the handler has given them.
        if matches!(self.status, 204 | 304) {
            out.extend_from_slice(b"\r\n\r\n");
            return;
        }
        out.extend_from_slice(b"\r\ncontent-length: ");
        decimal(out, self.body.len());
        out.extend_from_slice(b"\r\n\r\n");
        if with_body {
            out.extend_from_slice(&self.body);
        }
    }
}

/// Formatting machinery is a tenth of a short answer.
fn decimal(out: &mut Vec<u8>, mut number: usize) {
    let mut digits = [0; 20];
    let mut at = digits.len();
    loop {
        at -= 1;
        digits[at] = b'0' + (number % 10) as u8;
        number /= 10;
        if number == 0 {
            break;
        }
    }
    out.extend_from_slice(&digits[at..]);
}

/// What time it is in HTTP's spelling, spelled once a second.
pub(super) struct Date {
    second: u64,
    text: String,
}

impl Date {
    pub(super) fn new() -> Date {
        Date { second: 0, text: httpdate::fmt_http_date(UNIX_EPOCH) }
    }

    fn now(&mut self) -> &str {
        let second =
            SystemTime::now().duration_since(UNIX_EPOCH).map_or(0, |since| since.as_secs());
        if second != self.second {
            self.second = second;
            self.text = httpdate::fmt_http_date(UNIX_EPOCH + Duration::from_secs(second));
        }
        &self.text
    }
}

fn reason(status: u16) -> &'static str {
    match status {
        200 => "OK",
        201 => "Created",
        204 => "No Content",
        301 => "Moved Permanently",
        302 => "Found",
        304 => "Not Modified",
        400 => "Bad Request",
        403 => "Forbidden",
        404 => "Not Found",
        405 => "Method Not Allowed",
        408 => "Request Timeout",
        413 => "Content Too Large",
        417 => "Expectation Failed",
        431 => "Request Header Fields Too Large",
        500 => "Internal Server Error",
        501 => "Not Implemented",
        503 => "Service Unavailable",
        505 => "HTTP Version Not Supported",
        _ => "Other",
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn written(response: &Response, with_body: bool, word: Option<&str>) -> String {
        let mut out = Vec::new();
        response.write(&mut out, &mut Date::new(), with_body, word);
        let text = String::from_utf8(out).unwrap();
        let date = text.split("date: ").nth(1).and_then(|rest| rest.split("\r\n").next()).unwrap();
        assert!(
            httpdate::parse_http_date(date).unwrap().elapsed().unwrap() < Duration::from_secs(5)
        );
        text.replace(date, "D")
    }

    #[test]
    fn answers_are_written_as_the_protocol_has_it() {
        let response = Response::new(404).body(&b"no"[..]);
        let head = "HTTP/1.1 404 Not Found\r\nserver: strands\r\ndate: D\r\n";
        assert_eq!(
            written(&response, true, Some("close")),
            format!("{head}connection: close\r\ncontent-length: 2\r\n\r\nno")
        );
        assert_eq!(written(&response, false, None), format!("{head}content-length: 2\r\n\r\n"));
        let none = written(&response.status(204), true, None);
        assert!(none.ends_with("date: D\r\n\r\n"), "{none}");
        assert!(
            written(&Response::text("x".repeat(1_234)), true, None).contains("length: 1234\r\n")
        );
        assert!(written(&Response::text(""), true, None).contains("length: 0\r\n"));
    }

    #[test]
    #[should_panic(expected = "one line")]
    fn no_header_brings_another() {
        let _ = Response::new(200).header("location", "/\r\nset-cookie: stolen=1");
    }
}
