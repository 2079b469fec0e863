//! Measures strands beside its peers: each workload and peer in a process of its own, the peers
//! taking turns, medians and ratios printed as Markdown. See `README.md`.
//!
//! ```text
//! run ─ orchestrate ─┬─ one spawn_join strands ─ blocking::run ─ peers::strands
//!                    ├─ one spawn_join tokio ─── futures::run ── peers::tokio
//!                    ├─ the Go program spawn_join
//!                    └─ report, json
//! ```

mod blocking;
mod child;
mod cli;
mod cpus;
mod distance;
mod futures;
mod golang;
mod json;
mod machine;
mod measure;
mod net;
mod orchestrate;
mod peer;
mod peers;
mod report;
mod workload;

use std::process::ExitCode;

fn main() -> ExitCode {
    let words: Vec<String> = std::env::args().skip(1).collect();
    match cli::parse(&words) {
        Ok(cli::Command::Run(options)) => orchestrate::run(&options),
        Ok(cli::Command::One { workload, peer }) => child::one(workload, peer),
        Ok(cli::Command::Client(words)) => match net::client::main(&words) {
            Ok(()) => ExitCode::SUCCESS,
            Err(message) => {
                eprintln!("strands-bench: {message}");
                ExitCode::FAILURE
            }
        },
        Ok(cli::Command::List) => {
            cli::list();
            ExitCode::SUCCESS
        }
        Ok(cli::Command::Help) => {
            print!("{}", cli::HELP);
            ExitCode::SUCCESS
        }
        Err(message) => {
            eprintln!("strands-bench: {message}\n\n{}", cli::HELP);
            ExitCode::from(2)
        }
    }
}
