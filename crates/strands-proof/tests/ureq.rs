//! ureq, a blocking client of HTTP: over our sockets, by the transport that it lets one bring; and as it is, on spare threads.

mod support;

use std::io::{self, Read, Write};
use std::net::SocketAddr;
use std::time::Duration;
use strands::context::{self, CancelHandle};
use strands::net::{TcpListener, TcpStream};
use strands_proof::http::{Limits, Report, Request, Response, Server};
use support::PATIENCE;
use ureq::Agent;
use ureq::config::Config;
use ureq::unversioned::resolver::DefaultResolver;
use ureq::unversioned::transport::{
    Buffers, ConnectionDetails, Connector, LazyBuffers, NextTimeout, Transport,
};

/// Connects with our sockets.
#[derive(Debug)]
struct OnStrands;

#[derive(Debug)]
struct Connection {
    stream: TcpStream,
    buffers: LazyBuffers,
}

impl Connector for OnStrands {
    type Out = Connection;

    fn connect(
        &self,
        details: &ConnectionDetails<'_>,
        _chained: Option<()>,
    ) -> Result<Option<Connection>, ureq::Error> {
        let stream = TcpStream::connect(&details.addrs[..])?;
        stream.set_nodelay(true)?;
        let config = details.config;
        let buffers = LazyBuffers::new(config.input_buffer_size(), config.output_buffer_size());
        Ok(Some(Connection { stream, buffers }))
    }
}

/// As std's sockets have it with timeouts.
fn in_time<T>(done: io::Result<T>, timeout: NextTimeout) -> Result<T, ureq::Error> {
    done.map_err(|error| match error.kind() {
        io::ErrorKind::WouldBlock => ureq::Error::Timeout(timeout.reason),
        _ => error.into(),
    })
}

fn duration(timeout: NextTimeout) -> Option<Duration> {
    timeout.not_zero().map(|time| *time)
}

impl Transport for Connection {
    fn buffers(&mut self) -> &mut dyn Buffers {
        &mut self.buffers
    }

    fn transmit_output(&mut self, amount: usize, timeout: NextTimeout) -> Result<(), ureq::Error> {
        self.stream.set_write_timeout(duration(timeout))?;
        in_time(self.stream.write_all(&self.buffers.output()[..amount]), timeout)
    }

    fn await_input(&mut self, timeout: NextTimeout) -> Result<bool, ureq::Error> {
        self.stream.set_read_timeout(duration(timeout))?;
        let read = in_time(self.stream.read(self.buffers.input_append_buf()), timeout)?;
        self.buffers.input_appended(read);
        Ok(read > 0)
    }

    fn is_open(&mut self) -> bool {
        // An idle connection has nothing to say; an end would be something.
        !self.stream.readable().is_ready()
    }
}

struct Served {
    addr: SocketAddr,
    cancel: CancelHandle,
    serving: strands::JoinHandle<io::Result<Report>>,
}

fn serve() -> Served {
    let listener = TcpListener::bind("127.0.0.1:0").unwrap();
    let addr = listener.local_addr().unwrap();
    let (stop, cancel) = context::with_cancel(&context::background());
    let server = Server::new(Limits::default(), |request: &Request<'_>| match request.target {
        "/slow" => {
            strands::sleep(Duration::from_secs(3_600));
            Response::new(204)
        }
        "/missing" => Response::text("no").status(404),
        _ => Response::new(200).body([request.target.as_bytes(), b" ", request.body].concat()),
    });
    let serving = strands::go(move || server.serve(listener, &stop));
    Served { addr, cancel, serving }
}

fn ask(agent: &Agent, url: &str, body: &str) -> String {
    let mut answer = agent.post(url).send(body).unwrap();
    assert_eq!(answer.status(), 200);
    answer.body_mut().read_to_string().unwrap()
}

#[test]
fn one_agent_serves_many_goroutines() {
    let server = serve();
    let config = Config::builder().timeout_global(Some(PATIENCE)).build();
    let agent = Agent::with_parts(config, OnStrands, DefaultResolver::default());
    let url = format!("http://{}", server.addr);
    strands::scope(|s| {
        for n in 0..100 {
            let (agent, url) = (agent.clone(), &url);
            s.go(move || {
                for round in 0..10 {
                    let body = "b".repeat(n * round * 10);
                    let answer = ask(&agent, &format!("{url}/{n}/{round}"), &body);
                    assert!(answer == format!("/{n}/{round} {body}"));
                }
            });
        }
    });
    drop(agent);
    server.cancel.cancel();
    assert_eq!(server.serving.join().unwrap().unwrap().answered, 1_000);
}

#[test]
fn statuses_and_timeouts_are_errors() {
    let server = serve();
    let config = Config::builder().timeout_global(Some(Duration::from_millis(200))).build();
    let agent = Agent::with_parts(config, OnStrands, DefaultResolver::default());
    strands::run(|| {
        let missing = agent.get(format!("http://{}/missing", server.addr)).call();
        assert!(matches!(missing, Err(ureq::Error::StatusCode(404))), "{missing:?}");
        let slow = agent.get(format!("http://{}/slow", server.addr)).call();
        assert!(matches!(slow, Err(ureq::Error::Timeout(_))), "{slow:?}");
        // A name that nobody has.
        let nobody = agent.get("http://nobody.invalid/").call();
        assert!(nobody.is_err());
    });
}

#[test]
fn as_it_is_it_runs_on_spare_threads() {
    let server = serve();
    // It blocks its thread, and so goes where that holds up nobody: else the server, which is in this very process, might be
    // behind its own client.
    let clients: Vec<_> = (0..8)
        .map(|n| {
            let url = format!("http://{}/{n}", server.addr);
            strands::go(move || {
                let config = Config::builder().timeout_global(Some(PATIENCE)).build();
                let agent = Agent::new_with_config(config);
                strands::blocking(|| ask(&agent, &url, "plain"))
            })
        })
        .collect();
    for (n, client) in clients.into_iter().enumerate() {
        assert_eq!(client.join().unwrap(), format!("/{n} plain"));
    }
}
