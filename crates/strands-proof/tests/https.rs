//! HTTPS: rustls as it is, over our sockets.

mod support;

use rcgen::{CertifiedKey, generate_simple_self_signed};
use rustls::pki_types::{PrivateKeyDer, ServerName};
use rustls::{
    ClientConfig, ClientConnection, RootCertStore, ServerConfig, ServerConnection, StreamOwned,
};
use std::io::{self, BufReader, Read, Write};
use std::net::{Shutdown, SocketAddr};
use std::sync::Arc;
use std::time::Duration;
use strands::context::{self, CancelHandle};
use strands::net::{TcpListener, TcpStream};
use strands_proof::http::{Limits, Report, Response, Server};
use support::{Scratch, client, read_answer, succeeds, tool};

/// A stream of rustls over ours, which says goodbye.
struct Tls(StreamOwned<ServerConnection, TcpStream>);

impl Read for Tls {
    fn read(&mut self, buffer: &mut [u8]) -> io::Result<usize> {
        self.0.read(buffer)
    }
}

impl Write for Tls {
    fn write(&mut self, buffer: &[u8]) -> io::Result<usize> {
        self.0.write(buffer)
    }

    fn flush(&mut self) -> io::Result<()> {
        self.0.flush()
    }
}

impl Drop for Tls {
    fn drop(&mut self) {
        self.0.conn.send_close_notify();
        // The client may be gone.
        let _ = self.0.flush();
    }
}

struct Served {
    addr: SocketAddr,
    certificate: CertifiedKey<rcgen::KeyPair>,
    cancel: CancelHandle,
    serving: strands::JoinHandle<io::Result<Report>>,
}

fn serve(limits: Limits) -> Served {
    let certificate = generate_simple_self_signed(["localhost".to_owned()]).unwrap();
    let key = PrivateKeyDer::try_from(certificate.signing_key.serialize_der()).unwrap();
    let config =
        ServerConfig::builder_with_provider(Arc::new(rustls::crypto::ring::default_provider()))
            .with_safe_default_protocol_versions()
            .unwrap()
            .with_no_client_auth()
            .with_single_cert(vec![certificate.cert.der().clone()], key)
            .unwrap();
    let config = Arc::new(config);
    let listener = TcpListener::bind("127.0.0.1:0").unwrap();
    let addr = listener.local_addr().unwrap();
    let (stop, cancel) = context::with_cancel(&context::background());
    let server = Server::new(limits, |request| {
        let text = format!("{} {} in secret ", request.method, request.target);
        Response::new(200).body([text.as_bytes(), request.body].concat())
    });
    let serving = strands::go(move || {
        server.serve_by(listener, &stop, move |stream| {
            let connection =
                ServerConnection::new(Arc::clone(&config)).map_err(io::Error::other)?;
            Ok(Tls(StreamOwned::new(connection, stream)))
        })
    });
    Served { addr, certificate, cancel, serving }
}

impl Served {
    fn stop(self) -> Report {
        self.cancel.cancel();
        self.serving.join().unwrap().unwrap()
    }

    /// rustls at the other end, too.
    fn client<S: Read + Write>(&self, stream: S) -> StreamOwned<ClientConnection, S> {
        let mut roots = RootCertStore::empty();
        roots.add(self.certificate.cert.der().clone()).unwrap();
        let provider = Arc::new(rustls::crypto::ring::default_provider());
        let config = ClientConfig::builder_with_provider(provider)
            .with_safe_default_protocol_versions()
            .unwrap()
            .with_root_certificates(roots)
            .with_no_client_auth();
        let name = ServerName::try_from("localhost").unwrap();
        StreamOwned::new(ClientConnection::new(Arc::new(config), name).unwrap(), stream)
    }
}

#[test]
fn curl_trusts_the_certificate_and_is_served() {
    let Some(mut curl) = tool("curl") else { return };
    let server = serve(Limits::default());
    let scratch = Scratch::new();
    let file = scratch.0.join("certificate.pem");
    std::fs::write(&file, server.certificate.cert.pem()).unwrap();
    let url = format!("https://localhost:{}/letter", server.addr.port());
    let text = succeeds(
        curl.args(["--silent", "--show-error", "--fail", "--noproxy", "*", "--cacert"])
            .arg(&file)
            .args(["--data", "dear curl"])
            // Twice over one connection.
            .args([&url, &url]),
    );
    assert_eq!(text, "POST /letter in secret dear curl".repeat(2));

    // Without the certificate it must not: or what was served above might have been no TLS.
    let mut curl = tool("curl").expect("it was there");
    let refused = curl.args(["--silent", "--noproxy", "*", &url]).status().unwrap();
    assert_eq!(refused.code(), Some(60), "the peer's certificate cannot be authenticated");
    assert_eq!(server.stop().answered, 2);
}

#[test]
fn many_clients_on_goroutines_and_one_on_a_plain_socket() {
    let server = Arc::new(serve(Limits::default()));
    let body = Arc::new("x".repeat(300_000));
    let clients: Vec<_> = (0..40)
        .map(|n| {
            let (server, body) = (Arc::clone(&server), Arc::clone(&body));
            strands::go(move || {
                let stream = TcpStream::connect(server.addr).unwrap();
                let mut reader = BufReader::new(server.client(stream));
                for round in 0..3 {
                    let length = body.len();
                    write!(
                        reader.get_mut(),
                        "PUT /{n}/{round} HTTP/1.1\r\nhost: localhost\r\ncontent-length: {length}\r\n\r\n{body}"
                    )
                    .unwrap();
                    let (_, answer) = read_answer(&mut reader);
                    assert!(answer == format!("PUT /{n}/{round} in secret {body}").as_bytes());
                }
            })
        })
        .collect();
    let mut stream = server.client(client(server.addr));
    stream.write_all(b"GET / HTTP/1.1\r\nhost: localhost\r\nconnection: close\r\n\r\n").unwrap();
    let mut answer = String::new();
    // Fails with an unexpected end unless the server says goodbye.
    stream.read_to_string(&mut answer).unwrap();
    assert!(answer.ends_with("GET / in secret "), "{answer}");
    clients.into_iter().for_each(|client| client.join().unwrap());
    let server = Arc::into_inner(server).unwrap();
    assert_eq!(server.stop().answered, 121);
}

#[test]
fn clients_that_speak_no_tls_or_stop_speaking_are_let_go() {
    let limits = Limits { idle: Duration::from_millis(300), ..Limits::default() };
    let server = serve(limits);
    let mut plain = client(server.addr);
    plain.write_all(b"GET / HTTP/1.1\r\nhost: localhost\r\n\r\n").unwrap();
    plain.shutdown(Shutdown::Write).unwrap();
    let mut alert = Vec::new();
    let _ = plain.read_to_end(&mut alert);
    assert!(!alert.starts_with(b"HTTP"), "{alert:?}");
    // Half a hello.
    let mut silent = client(server.addr);
    silent.write_all(b"\x16\x03\x01\x02").unwrap();
    let _ = silent.read_to_end(&mut Vec::new());
    assert_eq!(server.stop().answered, 0);
}
