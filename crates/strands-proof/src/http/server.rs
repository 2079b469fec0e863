//! Accepting connections, keeping account of them, and stopping.

use super::connection::Connection;
use super::{Limits, Request, Response};
use std::collections::HashMap;
use std::io::{self, Read, Write};
use std::net::{Shutdown, SocketAddr};
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, AtomicU64, Ordering::Relaxed, Ordering::SeqCst};
use std::time::{Duration, Instant};
use strands::context::Context;
use strands::net::{TcpListener, TcpStream};
use strands::sync::{Mutex, WaitGroup};
use strands::thread::Builder;

/// For how long a client that was refused may go on writing before the connection is closed over its answer.
const LINGER: Duration = Duration::from_secs(2);

/// An HTTP server yet to be started: see the [module](super).
#[derive(Debug)]
pub struct Server<H> {
    limits: Limits,
    handler: H,
}

/// What a server has done, when it has stopped.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Report {
    /// How many requests it has answered.
    pub answered: u64,
    /// The clients whose requests it has not, because the time for that was up.
    pub dropped: Vec<SocketAddr>,
}

impl<H> Server<H>
where
    H: Fn(&Request<'_>) -> Response + Send + Sync + 'static,
{
    /// A server that answers by `handler`, which any number of connections call at once, each in its goroutine. It may block.
    /// If it panics its connection is closed.
    pub fn new(limits: Limits, handler: H) -> Server<H> {
        Server { limits, handler }
    }

    /// Serves until the context is done; then finishes what has begun, within limits.
    ///
    /// Blocks: the goroutine, or else the thread.
    ///
    /// # Errors
    /// Those of the listener, after which it serves nobody any more.
    pub fn serve(self, listener: TcpListener, stop: &Context) -> io::Result<Report> {
        self.serve_by(listener, stop, Ok)
    }

    /// As [`serve`](Server::serve), with something between the socket and the protocol: encryption, say. `wrap` is called in
    /// the goroutine of the connection; timeouts are the socket's, and come out of the wrapper as it was given them.
    ///
    /// Blocks: the goroutine, or else the thread.
    ///
    /// # Errors
    /// As [`serve`](Server::serve). One of `wrap` ends its connection.
    pub fn serve_by<S, W>(
        self,
        listener: TcpListener,
        stop: &Context,
        wrap: W,
    ) -> io::Result<Report>
    where
        S: Read + Write,
        W: Fn(TcpStream) -> io::Result<S> + Send + Sync + 'static,
    {
        let house = Arc::new(House {
            server: self,
            wrap,
            guests: Mutex::new(HashMap::new()),
            stopping: Arc::new(AtomicBool::new(false)),
            answered: AtomicU64::new(0),
        });
        let gone = Arc::new(WaitGroup::new());
        let error = loop {
            match listener.accept_ctx(stop) {
                Ok((stream, addr)) => house.welcome(stream, addr, &gone),
                Err(_) if stop.err().is_some() => break None,
                Err(error) => break Some(error),
            }
        };
        // From here on the kernel refuses who comes.
        drop(listener);
        let dropped = house.close(&gone);
        let answered = house.answered.load(Relaxed);
        error.map_or(Ok(Report { answered, dropped }), Err)
    }
}

/// A server while it serves.
struct House<H, W> {
    server: Server<H>,
    wrap: W,
    guests: Mutex<HashMap<u64, Arc<Peer>>>,
    stopping: Arc<AtomicBool>,
    answered: AtomicU64,
}

impl<S, H, W> House<H, W>
where
    S: Read + Write,
    H: Fn(&Request<'_>) -> Response + Send + Sync + 'static,
    W: Fn(TcpStream) -> io::Result<S> + Send + Sync + 'static,
{
    /// Starts the goroutine of a connection.
    fn welcome(self: &Arc<Self>, stream: TcpStream, addr: SocketAddr, gone: &Arc<WaitGroup>) {
        // Answers are written whole. Neither fails for a socket that is open.
        let _ = stream.set_nodelay(true);
        let _ = stream.set_write_timeout(Some(self.server.limits.answer));
        let peer = Arc::new(Peer {
            stream,
            addr,
            resting: AtomicBool::new(false),
            stopping: Arc::clone(&self.stopping),
        });
        // Nobody else gives keys: the address of something that stays as long as the entry is one.
        let key = Arc::as_ptr(&peer) as u64;
        self.guests().insert(key, Arc::clone(&peer));
        gone.add(1);
        let guest = Guest { house: Arc::clone(self), key, gone: Arc::clone(gone) };
        let spawned = Builder::new().name("http".into()).spawn(move || guest.stay(&peer));
        // Where there is no memory for a goroutine this one is turned away: the closure, and the guest in it, are dropped.
        drop(spawned);
    }

    /// Tells everybody to finish, waits, and returns whom it had to throw out.
    fn close(&self, gone: &WaitGroup) -> Vec<SocketAddr> {
        // Ordering: SeqCst here and in `Peer::rest`, whose connection stores and loads the other way round.
        self.stopping.store(true, SeqCst);
        for peer in self.guests().values() {
            if peer.resting.load(SeqCst) {
                let _ = peer.stream.shutdown(Shutdown::Read);
            }
        }
        if gone.wait_timeout(self.server.limits.drain) {
            return Vec::new();
        }
        let late: Vec<_> = self.guests().values().cloned().collect();
        for peer in &late {
            let _ = peer.stream.shutdown(Shutdown::Both);
        }
        // Those who wait at their sockets leave now. Nobody can make a handler that computes leave.
        let _ = gone.wait_timeout(Duration::from_secs(1));
        late.iter().map(|peer| peer.addr).collect()
    }
}

impl<H, W> House<H, W> {
    fn guests(&self) -> strands::sync::MutexGuard<'_, HashMap<u64, Arc<Peer>>> {
        self.guests.lock().unwrap_or_else(|poisoned| poisoned.into_inner())
    }
}

/// A connection's place in the house, until its goroutine ends, however it does.
struct Guest<H, W> {
    house: Arc<House<H, W>>,
    key: u64,
    gone: Arc<WaitGroup>,
}

impl<S, H, W> Guest<H, W>
where
    S: Read + Write,
    H: Fn(&Request<'_>) -> Response + Send + Sync + 'static,
    W: Fn(TcpStream) -> io::Result<S> + Send + Sync + 'static,
{
    fn stay(self, peer: &Peer) {
        let Server { limits, handler } = &self.house.server;
        let Ok(stream) = peer.stream.try_clone() else { return };
        let Ok(io) = (self.house.wrap)(stream) else { return };
        let mut connection = Connection::new(io, peer, limits, handler);
        connection.serve();
        self.house.answered.fetch_add(connection.answered, Relaxed);
    }
}

impl<H, W> Drop for Guest<H, W> {
    fn drop(&mut self) {
        self.house.guests().remove(&self.key);
        self.gone.done();
    }
}

/// The client of a connection, known to its goroutine and to the server.
pub(super) struct Peer {
    pub(super) stream: TcpStream,
    addr: SocketAddr,
    /// Between two requests.
    resting: AtomicBool,
    stopping: Arc<AtomicBool>,
}

impl Peer {
    pub(super) fn is_stopping(&self) -> bool {
        self.stopping.load(Relaxed)
    }

    /// The connection is between two requests; whether it may wait for the next.
    pub(super) fn rest(&self) -> bool {
        // Ordering: SeqCst, see `House::close`: either we see that it stops, or it sees that we rest.
        self.resting.store(true, SeqCst);
        !self.stopping.load(SeqCst)
    }

    /// A request has begun to come.
    pub(super) fn begin(&self) {
        self.resting.store(false, Relaxed);
    }

    /// Ends writing, and reads over what the client had yet to write: closing at once would have the kernel reset the
    /// connection, and the client lose the answer that it has not read yet.
    pub(super) fn linger(&self) {
        let _ = self.stream.shutdown(Shutdown::Write);
        let deadline = Instant::now() + LINGER;
        let mut scratch = [0; 1024];
        loop {
            let left = deadline.saturating_duration_since(Instant::now());
            if left.is_zero() || self.stream.set_read_timeout(Some(left)).is_err() {
                return;
            }
            match (&self.stream).read(&mut scratch) {
                Ok(0) | Err(_) => return,
                Ok(_) => {}
            }
        }
    }
}
