//! WebSockets: tungstenite as it is, over our sockets.

mod support;

use std::io::ErrorKind;
use std::net::SocketAddr;
use std::time::Duration;
use strands::net::{TcpListener, TcpStream};
use support::client;
use tungstenite::protocol::CloseFrame;
use tungstenite::protocol::frame::coding::CloseCode;
use tungstenite::{Error, Message, WebSocket, accept};

/// Says back what it is told, to each client in a goroutine. They stay until the process ends.
fn serve(timeout: Option<Duration>) -> SocketAddr {
    let listener = TcpListener::bind("127.0.0.1:0").unwrap();
    let addr = listener.local_addr().unwrap();
    strands::go(move || {
        for stream in listener.incoming() {
            let stream = stream.unwrap();
            stream.set_read_timeout(timeout).unwrap();
            strands::go(move || {
                if let Ok(mut socket) = accept(stream) {
                    let _ = echo(&mut socket);
                }
            });
        }
    });
    addr
}

fn echo(socket: &mut WebSocket<TcpStream>) -> Result<(), Error> {
    loop {
        match socket.read() {
            Ok(message @ (Message::Text(_) | Message::Binary(_))) => socket.send(message)?,
            // Pings and closes are answered by the next call.
            Ok(_) => {}
            Err(Error::Io(error)) if error.kind() == ErrorKind::WouldBlock => {
                let reason = "you say nothing".into();
                socket.close(Some(CloseFrame { code: CloseCode::Policy, reason }))?;
            }
            Err(error) => return Err(error),
        }
    }
}

fn connect<S: std::io::Read + std::io::Write>(addr: SocketAddr, stream: S) -> WebSocket<S> {
    let (socket, response) = tungstenite::client(format!("ws://{addr}/chat"), stream)
        .unwrap_or_else(|_| panic!("no handshake"));
    assert_eq!(response.status(), 101);
    socket
}

#[test]
fn messages_of_all_sizes_come_back_to_a_client_of_std() {
    let addr = serve(None);
    let mut socket = connect(addr, client(addr));
    for length in [0, 1, 125, 126, 65_535, 65_536, 3_000_000] {
        let text = Message::text("ä".repeat(length / 2));
        socket.send(text.clone()).unwrap();
        assert!(socket.read().unwrap() == text);
        let bytes: Vec<u8> = (0..length).map(|n| (n * 31 % 251) as u8).collect();
        socket.send(Message::binary(bytes.clone())).unwrap();
        assert!(socket.read().unwrap() == Message::binary(bytes));
    }
    socket.send(Message::Ping("are you there?".into())).unwrap();
    assert_eq!(socket.read().unwrap(), Message::Pong("are you there?".into()));
    socket.close(None).unwrap();
    assert!(matches!(socket.read(), Ok(Message::Close(_))));
    assert!(matches!(socket.read(), Err(Error::ConnectionClosed)));
}

#[test]
fn many_clients_talk_at_once() {
    let addr = serve(None);
    let clients: Vec<_> = (0..200)
        .map(|n| {
            strands::go(move || {
                let mut socket = connect(addr, TcpStream::connect(addr).unwrap());
                for round in 0..10 {
                    let message = Message::text(format!("{n}.{round}"));
                    socket.send(message.clone()).unwrap();
                    assert_eq!(socket.read().unwrap(), message);
                }
                socket.close(None).unwrap();
            })
        })
        .collect();
    clients.into_iter().for_each(|client| client.join().unwrap());
}

#[test]
fn a_silent_client_is_told_why_it_has_to_go() {
    let addr = serve(Some(Duration::from_millis(50)));
    let mut socket = connect(addr, client(addr));
    let Message::Close(Some(frame)) = socket.read().unwrap() else { panic!("no close") };
    assert_eq!((frame.code, frame.reason.as_str()), (CloseCode::Policy, "you say nothing"));
}
