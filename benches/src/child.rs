//! One measurement as a process: the side that measures, and the side that starts it.
//!
//! They speak over stdout, a line per metric: `metric NAME UNIT VALUE`. The Go program prints the
//! same lines. The environment carries the rest:
//!
//! | variable | read by |
//! |---|---|
//! | `STRANDS_MAXPROCS` | strands; and here, for the peers configured by code |
//! | `GOMAXPROCS`, `SMOL_THREADS` | Go, smol |
//! | `STRANDS_BENCH_QUICK` | here and the Go program: the sizes of `Sizes::quick` |

use std::fmt::Write as _;
use std::io::{Read, Write as _};
use std::os::unix::process::ExitStatusExt;
use std::process::{Child, Command, ExitCode, ExitStatus, Stdio};
use std::sync::mpsc;
use std::thread;
use std::time::Duration;

use crate::measure::Metric;
use crate::net;
use crate::peer::Peer;
use crate::workload::{Sizes, Workload};

const PROCS: &str = "STRANDS_MAXPROCS";
const QUICK: &str = "STRANDS_BENCH_QUICK";

/// Measures, prints, and ends the process without waiting for what the workload left running.
pub(crate) fn one(workload: Workload, peer: Peer) -> ExitCode {
    let given = std::env::var(PROCS).ok().and_then(|text| text.parse().ok());
    let procs = given.unwrap_or_else(|| thread::available_parallelism().map_or(1, |n| n.get()));
    let quick = std::env::var_os(QUICK).is_some();
    let sizes = if quick { Sizes::quick(procs) } else { Sizes::full(procs) };
    let metrics = peer.run_here(workload, sizes);
    let mut lines = String::new();
    for Metric { name, unit, value } in metrics {
        writeln!(lines, "metric {name} {unit} {value}").expect("a string takes all");
    }
    let mut stdout = std::io::stdout();
    let written = stdout.write_all(lines.as_bytes()).and_then(|()| stdout.flush());
    std::process::exit(if written.is_ok() { 0 } else { 1 });
}

/// Why a process has no figures.
#[derive(Clone, Debug, PartialEq)]
pub(crate) enum Failure {
    TimedOut(Duration),
    Failed(String),
}

impl std::fmt::Display for Failure {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        match self {
            Failure::TimedOut(limit) => write!(f, "not done after {} s", limit.as_secs()),
            Failure::Failed(reason) => f.write_str(reason),
        }
    }
}

/// Runs `program` for one measurement and returns its figures.
pub(crate) fn measure(
    mut program: Command,
    procs: usize,
    quick: bool,
    limit: Duration,
) -> Result<Vec<Metric>, Failure> {
    for variable in [PROCS, "GOMAXPROCS", "SMOL_THREADS"] {
        program.env(variable, procs.to_string());
    }
    if let Ok(this) = std::env::current_exe() {
        program.env(net::CLIENT, this);
    }
    program.env_remove(QUICK).env("RUST_BACKTRACE", "0");
    if quick {
        program.env(QUICK, "1");
    }
    program.stdin(Stdio::null()).stdout(Stdio::piped()).stderr(Stdio::piped());
    let mut child = program.spawn().map_err(|e| Failure::Failed(format!("cannot start: {e}")))?;
    // When memory runs out, the kernel is to take the measured process and no other. Where that
    // cannot be asked for, the measurement is worth having all the same.
    let _ = std::fs::write(format!("/proc/{}/oom_score_adj", child.id()), "1000");
    let (stdout, stderr) = match collect(&mut child, limit) {
        Some(output) => output,
        None => {
            // Ignored: it may have ended just now.
            let _ = child.kill();
            let _ = child.wait();
            return Err(Failure::TimedOut(limit));
        }
    };
    let status = child.wait().map_err(|e| Failure::Failed(format!("cannot wait: {e}")))?;
    if !status.success() {
        return Err(Failure::Failed(describe(status, &stderr)));
    }
    match parse(&stdout) {
        Some(metrics) if !metrics.is_empty() => Ok(metrics),
        _ => Err(Failure::Failed("printed no figures".to_owned())),
    }
}

/// Reads both outputs to their ends, without polling: this process must not disturb the other.
fn collect(child: &mut Child, limit: Duration) -> Option<(String, String)> {
    fn reader(mut from: impl Read + Send + 'static) -> mpsc::Receiver<String> {
        let (tx, rx) = mpsc::channel();
        thread::spawn(move || {
            let mut bytes = Vec::new();
            // What came before an error is still worth having.
            let _ = from.read_to_end(&mut bytes);
            let _ = tx.send(String::from_utf8_lossy(&bytes).into_owned());
        });
        rx
    }
    let stdout = reader(child.stdout.take().expect("piped"));
    let stderr = reader(child.stderr.take().expect("piped"));
    let stdout = stdout.recv_timeout(limit).ok()?;
    let stderr = stderr.recv_timeout(Duration::from_secs(5)).ok()?;
    Some((stdout, stderr))
}

fn parse(stdout: &str) -> Option<Vec<Metric>> {
    let lines = stdout.lines().filter(|line| line.starts_with("metric "));
    lines
        .map(|line| {
            let mut words = line.split(' ').skip(1);
            let (name, unit) = (words.next()?, words.next()?);
            let value: f64 = words.next()?.parse().ok()?;
            value.is_finite().then(|| Metric::new(name, unit, value))
        })
        .collect()
}

/// The line of stderr that says most, and how the process ended.
fn describe(status: ExitStatus, stderr: &str) -> String {
    let ended = match (status.signal(), status.code()) {
        (Some(signal), _) => format!("signal {signal}"),
        (_, Some(code)) => format!("exit status {code}"),
        _ => "ended oddly".to_owned(),
    };
    let mut lines = stderr.lines().map(str::trim).filter(|line| !line.is_empty());
    let first = lines.next().unwrap_or_default();
    // A Rust panic says where first, and what on the next line.
    let line = if first.contains("panicked at") { lines.next().unwrap_or(first) } else { first };
    let short: String = line.chars().take(100).collect();
    if short.is_empty() { ended } else { format!("{ended}: {short}") }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn shell(script: &str) -> Result<Vec<Metric>, Failure> {
        let mut program = Command::new("sh");
        program.args(["-c", script]);
        measure(program, 1, true, Duration::from_secs(1))
    }

    #[test]
    fn figures_are_read() {
        let metrics = shell("echo noise; echo metric each ns 12.5").unwrap();
        assert_eq!(metrics, [Metric::new("each", "ns", 12.5)]);
    }

    #[test]
    fn failures_say_why() {
        let failed = |reason: &str| Err(Failure::Failed(reason.to_owned()));
        assert_eq!(shell("true"), failed("printed no figures"));
        assert_eq!(shell("echo 'metric each ns NaN'"), failed("printed no figures"));
        assert_eq!(shell("echo oh >&2; exit 3"), failed("exit status 3: oh"));
        assert_eq!(shell("kill -9 $$"), failed("signal 9"));
        let panicked = shell("printf \"thread 'main' panicked at x:\\nlost\\n\" >&2; exit 101");
        assert_eq!(panicked, failed("exit status 101: lost"));
    }

    #[test]
    fn the_limit_holds() {
        let limit = Duration::from_secs(1);
        assert_eq!(shell("exec sleep 30"), Err(Failure::TimedOut(limit)));
    }
}
