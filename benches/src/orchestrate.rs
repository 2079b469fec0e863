//! Starts the processes, the peers taking turns, and hands what they say to the reports.

use std::path::PathBuf;
use std::process::{Command, ExitCode};

use crate::child::{self, Failure};
use crate::cli::Options;
use crate::distance::Distance;
use crate::golang::{self, Go};
use crate::measure::Metric;
use crate::peer::Peer;
use crate::workload::Workload;
use crate::{json, machine, report};

/// A workload at a number of processors: what each peer did.
pub(crate) struct Table {
    pub(crate) workload: Workload,
    pub(crate) procs: usize,
    pub(crate) cells: Vec<Cell>,
    /// How far the processors were from each other in each turn.
    pub(crate) distances: Vec<Distance>,
    /// How many turns were done again because that had changed.
    pub(crate) repeated: usize,
}

/// How often one turn may be done again.
const MOST_AGAIN: usize = 3;

/// What one peer did.
pub(crate) struct Cell {
    pub(crate) peer: Peer,
    /// The figures of each process that succeeded.
    pub(crate) runs: Vec<Vec<Metric>>,
    pub(crate) failures: Vec<Failure>,
    /// Why it was not tried at all.
    pub(crate) absent: Option<String>,
}

/// Of one metric over all runs.
#[derive(Clone, Copy, Debug, PartialEq)]
pub(crate) struct Summary {
    pub(crate) median: f64,
    pub(crate) min: f64,
    pub(crate) max: f64,
}

impl Cell {
    fn new(peer: Peer) -> Cell {
        Cell { peer, runs: Vec::new(), failures: Vec::new(), absent: None }
    }

    pub(crate) fn summary(&self, metric: &str) -> Option<Summary> {
        let all = self.runs.iter().flatten();
        let mut values: Vec<f64> = all.filter(|m| m.name == metric).map(|m| m.value).collect();
        if values.is_empty() {
            return None;
        }
        values.sort_by(f64::total_cmp);
        Some(Summary {
            median: (values[(values.len() - 1) / 2] + values[values.len() / 2]) / 2.0,
            min: values[0],
            max: values[values.len() - 1],
        })
    }

    /// A peer that hangs, or that has only ever failed, is not asked again: it would cost a
    /// minute each time.
    fn hopeless(&self) -> bool {
        let hung = self.failures.iter().any(|f| matches!(f, Failure::TimedOut(_)));
        hung || (self.runs.is_empty() && self.failures.len() >= 2)
    }
}

impl Table {
    pub(crate) fn cell(&self, name: &str) -> Option<&Cell> {
        self.cells.iter().find(|cell| cell.peer.name() == name)
    }
}

pub(crate) fn run(options: &Options) -> ExitCode {
    let wants_go = options.peers.contains(&Peer::Go);
    let go = if wants_go {
        eprintln!("building the Go program …");
        golang::build(options.go.as_deref())
    } else {
        Err("not asked for".to_owned())
    };
    let this = match std::env::current_exe() {
        Ok(path) => path,
        Err(error) => {
            eprintln!("strands-bench: cannot find itself: {error}");
            return ExitCode::FAILURE;
        }
    };
    let version = go.as_ref().map(|go| go.version.clone()).map_err(Clone::clone);
    let facts = machine::facts(&version);
    report::print_head(&facts, options);
    let mut tables = Vec::new();
    for &workload in &options.workloads {
        for &procs in &options.procs {
            if workload.wants_two_processors() && procs < 2 {
                continue;
            }
            let table = measure(workload, procs, options, &go, &this);
            if table.cells.is_empty() {
                continue;
            }
            report::print_table(&table, options.quick);
            tables.push(table);
        }
    }
    report::print_verdict(&tables, options.quick);
    if let Some(path) = &options.json
        && let Err(error) = std::fs::write(path, json::document(&facts, &tables))
    {
        eprintln!("strands-bench: cannot write {}: {error}", path.display());
        return ExitCode::FAILURE;
    }
    ExitCode::SUCCESS
}

/// All peers in turn, then all again: a disturbance of the machine meets every one of them. A turn in which the
/// processors were moved (see `distance`) is done again.
fn measure(
    workload: Workload,
    procs: usize,
    options: &Options,
    go: &Result<Go, String>,
    this: &PathBuf,
) -> Table {
    let fitting = options.peers.iter().filter(|peer| peer.fits(workload));
    let cells = fitting.map(|&peer| Cell::new(peer)).collect();
    let mut table = Table { workload, procs, cells, distances: Vec::new(), repeated: 0 };
    for rep in 1..=options.reps {
        for again in 0..=MOST_AGAIN {
            let begun = Distance::measure();
            let had: Vec<usize> = table.cells.iter().map(|cell| cell.runs.len()).collect();
            let mut was_moved = false;
            for cell in &mut table.cells {
                eprint!("{}, procs {procs}, {rep}/{}: ", workload.name(), options.reps);
                measure_cell(cell, workload, procs, options, go, this);
                // With one processor, too: clients and main threads have the other.
                was_moved |= !Distance::measure().is_as(begun);
                if was_moved && again < MOST_AGAIN {
                    break;
                }
            }
            if was_moved && again < MOST_AGAIN {
                eprintln!("the processors were moved: once more");
                let taken = table.cells.iter_mut().zip(had);
                taken.for_each(|(cell, had)| cell.runs.truncate(had));
                table.repeated += 1;
                continue;
            }
            table.distances.push(begun);
            break;
        }
    }
    table
}

/// One process of one peer.
fn measure_cell(
    cell: &mut Cell,
    workload: Workload,
    procs: usize,
    options: &Options,
    go: &Result<Go, String>,
    this: &PathBuf,
) {
    eprintln!("{}", cell.peer.name());
    let program = match (cell.peer, go) {
        (Peer::Go, Err(reason)) => {
            cell.absent = Some(reason.clone());
            return;
        }
        _ if cell.hopeless() => return,
        (Peer::Go, Ok(go)) => {
            let mut program = Command::new(&go.program);
            program.arg(workload.name());
            program
        }
        (peer, _) => {
            let mut program = Command::new(this);
            program.args(["one", workload.name(), peer.name()]);
            program
        }
    };
    match child::measure(program, procs, options.quick, options.timeout) {
        Ok(metrics) => cell.runs.push(metrics),
        Err(failure) => cell.failures.push(failure),
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::time::Duration;

    #[test]
    fn summaries_are_medians_with_their_spread() {
        let mut cell = Cell::new(Peer::Strands);
        for value in [3.0, 1.0, 9.0] {
            cell.runs.push(vec![Metric::new("each", "ns", value)]);
        }
        let (median, min, max) = (3.0, 1.0, 9.0);
        assert_eq!(cell.summary("each"), Some(Summary { median, min, max }));
        cell.runs.push(vec![Metric::new("each", "ns", 5.0)]);
        assert_eq!(cell.summary("each").map(|s| s.median), Some(4.0));
        assert_eq!(cell.summary("bytes"), None);
    }

    #[test]
    fn the_hopeless_are_given_up() {
        let mut cell = Cell::new(Peer::May);
        cell.failures.push(Failure::Failed(String::new()));
        assert!(!cell.hopeless());
        cell.failures.push(Failure::Failed(String::new()));
        assert!(cell.hopeless());
        cell.runs.push(Vec::new());
        assert!(!cell.hopeless());
        cell.failures.push(Failure::TimedOut(Duration::ZERO));
        assert!(cell.hopeless());
    }
}
