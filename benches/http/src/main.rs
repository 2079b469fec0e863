//! `http_plaintext`: "Hello, World!" over 64 connections that are kept alive, the servers taking turns, each a process of its
//! own, under the same client: `wrk` with one thread.
//!
//! ```text
//! cargo run --release -- [--reps 3] [--seconds 3] [--procs 2] [--go PATH]
//! ```
//!
//! Client and server share the machine's processors, so a figure says how little a server leaves for the client, too. Medians
//! and the spread are printed as Markdown, and the ratios that strands has set itself.

#[path = "../../src/cpus.rs"]
mod cpus;
#[path = "../../src/distance.rs"]
mod distance;
mod servers;

use distance::Distance;
use std::io::{BufRead, BufReader};
use std::process::{Command, ExitCode, Stdio};

/// The servers: ours first.
const PEERS: [&str; 5] =
    ["hyper on strands", "hyper on tokio", "httparse on strands", "may_minihttp", "Go net/http"];

/// Of ours, at least so many times as many requests as the other's.
const TARGETS: [(&str, f64, &str); 2] =
    [("hyper on strands", 1.05, "hyper on tokio"), ("httparse on strands", 1.0, "may_minihttp")];

/// How often a turn may be done again in which the processors were moved: see `distance`.
const MOST_AGAIN: usize = 3;

struct Options {
    reps: usize,
    seconds: usize,
    procs: usize,
    go: String,
}

fn main() -> ExitCode {
    let words: Vec<String> = std::env::args().skip(1).collect();
    if let [word, peer, procs] = &words[..]
        && word == "serve"
    {
        servers::serve(peer, procs.parse().expect("a number"));
    }
    match options(&words) {
        Some(options) => measure(&options),
        None => {
            eprintln!("usage: strands-bench-http [--reps N] [--seconds N] [--procs N] [--go PATH]");
            ExitCode::from(2)
        }
    }
}

fn options(words: &[String]) -> Option<Options> {
    let go = std::env::var("GO").unwrap_or_else(|_| "go".to_owned());
    let mut options = Options { reps: 3, seconds: 3, procs: 2, go };
    for pair in words.chunks(2) {
        let [name, value] = pair else { return None };
        match name.as_str() {
            "--reps" => options.reps = value.parse().ok().filter(|reps| *reps > 0)?,
            "--seconds" => options.seconds = value.parse().ok()?,
            "--procs" => options.procs = value.parse().ok()?,
            "--go" => options.go = value.clone(),
            _ => return None,
        }
    }
    Some(options)
}

/// Of one run.
#[derive(Clone, Copy)]
struct Figures {
    per_second: f64,
    p99_micros: f64,
}

fn measure(options: &Options) -> ExitCode {
    let go = build_go(&options.go);
    let mut runs: Vec<Vec<Figures>> = vec![Vec::new(); PEERS.len()];
    let mut distances: Vec<String> = Vec::new();
    for rep in 1..=options.reps {
        for again in 0..=MOST_AGAIN {
            let (begun, mut was_moved) = (Distance::measure(), false);
            let mut turn = Vec::new();
            for peer in PEERS {
                eprintln!("{rep}/{}: {peer}", options.reps);
                turn.push(run(peer, options, go.as_deref()));
                was_moved |= !Distance::measure().is_as(begun);
            }
            if was_moved && again < MOST_AGAIN {
                eprintln!("the processors were moved: once more");
                continue;
            }
            for (outcome, runs) in turn.into_iter().zip(&mut runs) {
                match outcome {
                    Ok(figures) => runs.push(figures),
                    Err(reason) => eprintln!("  {reason}"),
                }
            }
            distances.push(begun.to_string());
            break;
        }
    }
    println!(
        "http_plaintext, 64 connections, {} processors, {} runs of {} s\n",
        options.procs, options.reps, options.seconds
    );
    println!("Between the processors, there and back, in each turn: {}.\n", distances.join(", "));
    println!("| server | requests/s | spread | p99 |\n|---|---:|---:|---:|");
    let median = |runs: &[Figures], of: fn(&Figures) -> f64| {
        let mut values: Vec<f64> = runs.iter().map(of).collect();
        values.sort_by(f64::total_cmp);
        (values.first().copied(), values.get(values.len() / 2).copied(), values.last().copied())
    };
    for (peer, runs) in PEERS.iter().zip(&runs) {
        match (median(runs, |it| it.per_second), median(runs, |it| it.p99_micros).1) {
            ((Some(least), Some(middle), Some(most)), Some(p99)) => {
                println!("| {peer} | {middle:.0} | {least:.0}–{most:.0} | {p99:.0} µs |");
            }
            _ => println!("| {peer} | – | – | – |"),
        }
    }
    println!();
    for (ours, least, theirs) in TARGETS {
        let of = |name: &str| {
            let index = PEERS.iter().position(|peer| *peer == name).expect("it is one of them");
            median(&runs[index], |it| it.per_second).1
        };
        if let (Some(mine), Some(other)) = (of(ours), of(theirs)) {
            let ratio = mine / other;
            let verdict = if ratio >= least { "reached" } else { "missed" };
            println!("{ours} ≥ {least} × {theirs}: {ratio:.2}, {verdict}");
        }
    }
    ExitCode::SUCCESS
}

fn run(peer: &str, options: &Options, go: Option<&str>) -> Result<Figures, String> {
    let procs = options.procs.to_string();
    let mut command = match peer {
        "Go net/http" => Command::new(go.ok_or("no Go")?),
        _ => {
            let this = std::env::current_exe().map_err(|error| error.to_string())?;
            let mut command = Command::new(this);
            command.args(["serve", peer, &procs]);
            command
        }
    };
    command.env("STRANDS_MAXPROCS", &procs).env("GOMAXPROCS", &procs);
    let mut server = command
        .stdin(Stdio::null())
        .stdout(Stdio::piped())
        .spawn()
        .map_err(|error| error.to_string())?;
    let mut line = String::new();
    let said = BufReader::new(server.stdout.take().expect("it is piped")).read_line(&mut line);
    let figures = match said {
        Ok(length) if length > 0 => wrk(line.trim(), options.seconds),
        _ => Err("it says nothing".to_owned()),
    };
    let _ = server.kill();
    let _ = server.wait();
    figures
}

fn wrk(addr: &str, seconds: usize) -> Result<Figures, String> {
    let output = Command::new("wrk")
        .args(["-t", "1", "-c", "64", "--latency", "-d", &format!("{seconds}s")])
        .arg(format!("http://{addr}/plaintext"))
        .output()
        .map_err(|error| format!("wrk: {error}"))?;
    let text = String::from_utf8_lossy(&output.stdout);
    if !output.status.success() || text.contains("Non-2xx") || text.contains("Socket errors") {
        return Err(format!("wrk is not content:\n{text}"));
    }
    let after = |word: &str| {
        let line = text.lines().find_map(|line| line.trim().strip_prefix(word))?;
        Some(line.trim().to_owned())
    };
    let time = |text: String| {
        let units = [("us", 1.0), ("ms", 1e3), ("s", 1e6)];
        units
            .iter()
            .find_map(|(unit, factor)| Some(text.strip_suffix(unit)?.parse::<f64>().ok()? * factor))
    };
    let per_second = after("Requests/sec:").and_then(|text| text.parse().ok());
    let p99_micros = after("99%").and_then(time);
    per_second
        .zip(p99_micros)
        .map(|(per_second, p99_micros)| Figures { per_second, p99_micros })
        .ok_or_else(|| format!("wrk says:\n{text}"))
}

/// Builds the Go server; where there is no Go, its row stays empty.
fn build_go(go: &str) -> Option<String> {
    let program = std::env::current_exe().ok()?.with_file_name("strands-bench-http-go");
    let status = Command::new(go)
        .args(["build", "-o"])
        .arg(&program)
        .arg(".")
        .current_dir(concat!(env!("CARGO_MANIFEST_DIR"), "/go"))
        .envs([("GOTOOLCHAIN", "local"), ("GOWORK", "off"), ("CGO_ENABLED", "0")])
        .env("GOCACHE", program.with_file_name("go-cache"))
        .status();
    match status {
        Ok(status) if status.success() => program.to_str().map(str::to_owned),
        _ => {
            eprintln!("no Go: its row stays empty");
            None
        }
    }
}
