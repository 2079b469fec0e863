//! Sockets: the server under test in the measured process, and for `echo` and `idle_connections` the client in
//! another, the same for all peers.

pub(crate) mod client;
mod servers;

use std::net::SocketAddr;
use std::process::Command;
use std::time::Instant;

use crate::measure::{Metric, memory};
use crate::peer::Peer;
use crate::workload::{Sizes, Workload};

/// Where the Go program finds the client.
pub(crate) const CLIENT: &str = "STRANDS_BENCH_CLIENT";

/// Connections of `echo`.
pub(crate) const CONNECTIONS: usize = 100;
/// How often bytes are transferred, of which the median counts: where the kernel puts two threads that talk for twenty
/// milliseconds is luck. `go/net.go` has the same number.
const TRANSFERS: usize = 21;
/// Bytes of a request, and of its answer.
pub(crate) const REQUEST: usize = 64;

pub(crate) fn run(peer: Peer, workload: Workload, sizes: &Sizes) -> Vec<Metric> {
    match workload {
        Workload::Echo => {
            let addr = servers::echo(peer, sizes.procs);
            run_client(&["echo", &addr.to_string(), &sizes.echo.as_millis().to_string()], |_| ());
            // The client has printed its figures.
            Vec::new()
        }
        Workload::IdleConnections => idle(servers::echo(peer, sizes.procs), sizes.connections),
        Workload::Transfer => {
            let one = || {
                let begun = Instant::now();
                servers::transfer(peer, sizes.procs, sizes.transfer);
                begun.elapsed().as_secs_f64() * 1e3
            };
            let mut millis: Vec<f64> = std::iter::repeat_with(one).take(TRANSFERS).collect();
            millis.sort_by(f64::total_cmp);
            vec![Metric::new("total", "ms", millis[TRANSFERS / 2])]
        }
        _ => unreachable!("{} has no sockets", workload.name()),
    }
}

/// Runs the client to its end; `while_it_waits` is called when it closes its standard output.
fn run_client(words: &[&str], while_it_waits: impl FnOnce(&mut std::process::Child)) {
    let this = std::env::current_exe().expect("a program knows where it is");
    let mut client = Command::new(this);
    client.arg("client").args(words);
    if words[0] == "idle" {
        client.stdin(std::process::Stdio::piped()).stdout(std::process::Stdio::piped());
    }
    let mut client = client.spawn().expect("the client starts");
    while_it_waits(&mut client);
    assert!(client.wait().expect("the client is ours").success(), "the client has failed");
}

/// What so many connections cost that have sent a byte and had it back, and now say nothing.
fn idle(addr: SocketAddr, count: usize) -> Vec<Metric> {
    use std::io::Read;
    // What the first ones cost once and for all.
    run_client(&["idle", &addr.to_string(), "100"], |client| drop(client.stdin.take()));
    let before = memory();
    let mut bytes = 0.0;
    run_client(&["idle", &addr.to_string(), &count.to_string()], |client| {
        let mut said = [0];
        client.stdout.as_mut().expect("piped").read_exact(&mut said).expect("all are connected");
        bytes = (memory() - before) as f64 / count as f64;
        drop(client.stdin.take());
    });
    vec![Metric::new("bytes", "B", bytes)]
}
