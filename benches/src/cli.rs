//! The command line.

use std::path::PathBuf;
use std::time::Duration;

use crate::peer::Peer;
use crate::workload::Workload;

pub(crate) const HELP: &str = "\
Usage: strands-bench run [OPTIONS]    measure and print Markdown tables
       strands-bench list             the workloads and the peers

Options of run:
  --procs 1,2        processors to run with, one after the other (default: 1,2)
  --reps 5           fresh processes for each workload and peer (default: 5)
  --filter A,B       only workloads whose name contains A or B
  --peers a,b        only these peers; strands is always among them, and strands-threads
                     where one of them runs on OS threads
  --go PATH          the Go command (default: $GO, then `go` on the PATH)
  --timeout 60       seconds that one process may take (default: 60)
  --json FILE        also write every sample to FILE
  --quick            tiny sizes: a smoke test, whose figures mean nothing
";

#[derive(Debug)]
pub(crate) enum Command {
    Run(Options),
    /// One measurement in this process; `run` starts these.
    One {
        workload: Workload,
        peer: Peer,
    },
    /// The client of a server in another process, which starts it.
    Client(Vec<String>),
    List,
    Help,
}

#[derive(Debug)]
pub(crate) struct Options {
    pub(crate) procs: Vec<usize>,
    pub(crate) reps: usize,
    pub(crate) workloads: Vec<Workload>,
    pub(crate) peers: Vec<Peer>,
    pub(crate) go: Option<PathBuf>,
    pub(crate) timeout: Duration,
    pub(crate) json: Option<PathBuf>,
    pub(crate) quick: bool,
}

impl Default for Options {
    fn default() -> Options {
        Options {
            procs: vec![1, 2],
            reps: 5,
            workloads: Workload::ALL.to_vec(),
            peers: Peer::ALL.to_vec(),
            go: None,
            timeout: Duration::from_secs(60),
            json: None,
            quick: false,
        }
    }
}

pub(crate) fn parse(words: &[String]) -> Result<Command, String> {
    let (command, rest) = words.split_first().ok_or("a command is missing")?;
    match (command.as_str(), rest) {
        ("run", _) => parse_run(rest).map(Command::Run),
        ("client", words) => Ok(Command::Client(words.to_vec())),
        ("list", []) => Ok(Command::List),
        ("help" | "--help" | "-h", _) => Ok(Command::Help),
        ("one", [workload, peer]) => {
            let workload = Workload::parse(workload).ok_or(format!("no workload {workload}"))?;
            let peer = Peer::parse(peer).ok_or(format!("no peer {peer}"))?;
            if peer == Peer::Go || !peer.fits(workload) {
                return Err(format!("{} does not run here", peer.name()));
            }
            Ok(Command::One { workload, peer })
        }
        _ => Err(format!("cannot read: {}", words.join(" "))),
    }
}

fn parse_run(words: &[String]) -> Result<Options, String> {
    let mut options = Options::default();
    let mut words = words.iter();
    while let Some(option) = words.next() {
        if option == "--quick" {
            options.quick = true;
            continue;
        }
        let value = words.next().ok_or(format!("{option} lacks its value"))?;
        match option.as_str() {
            "--procs" => {
                options.procs = value.split(',').map(positive).collect::<Result<_, _>>()?;
            }
            "--reps" => options.reps = positive(value)?,
            "--timeout" => options.timeout = Duration::from_secs(positive(value)? as u64),
            "--go" => options.go = Some(PathBuf::from(value)),
            "--json" => options.json = Some(PathBuf::from(value)),
            "--filter" => {
                let chosen = |w: &Workload| value.split(',').any(|part| w.name().contains(part));
                options.workloads.retain(chosen);
                if options.workloads.is_empty() {
                    return Err(format!("no workload's name contains {value}"));
                }
            }
            "--peers" => {
                let mut named = value
                    .split(',')
                    .map(|name| Peer::parse(name).ok_or(format!("no peer {name}")))
                    .collect::<Result<Vec<_>, _>>()?;
                named.push(Peer::Strands);
                if named.iter().any(|peer| peer.on_threads()) {
                    named.push(Peer::StrandsThreads);
                }
                options.peers.retain(|peer| named.contains(peer));
            }
            _ => return Err(format!("no option {option}")),
        }
    }
    Ok(options)
}

fn positive(text: &str) -> Result<usize, String> {
    match text.parse() {
        Ok(number) if number > 0 => Ok(number),
        _ => Err(format!("{text} is not a positive number")),
    }
}

pub(crate) fn list() {
    for workload in Workload::ALL {
        println!("{:20} {}", workload.name(), workload.title());
        let fitting = Peer::ALL.into_iter().filter(|peer| peer.fits(workload));
        let names: Vec<_> = fitting.map(Peer::name).collect();
        println!("{:20}   {}", "", names.join(" "));
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn parsed(line: &str) -> Result<Command, String> {
        let words: Vec<String> = line.split_whitespace().map(str::to_owned).collect();
        parse(&words)
    }

    fn run(line: &str) -> Options {
        match parsed(line) {
            Ok(Command::Run(options)) => options,
            other => panic!("{other:?}"),
        }
    }

    #[test]
    fn options_are_read() {
        let options = run("run --procs 2,4 --reps 3 --filter yield,sieve --peers go --quick");
        assert_eq!(options.procs, [2, 4]);
        assert_eq!((options.reps, options.quick), (3, true));
        assert_eq!(options.workloads.len(), 3);
        assert_eq!(options.peers, [Peer::Strands, Peer::Go]);
        let ours = [Peer::Strands, Peer::StrandsThreads];
        assert_eq!(run("run --peers crossbeam-threads").peers[..2], ours);
    }

    #[test]
    fn bad_words_are_named() {
        for (line, word) in [
            ("run --procs 0", "0"),
            ("run --peers golang", "golang"),
            ("run --filter nothing", "nothing"),
            ("run --json", "--json"),
            ("run --fast 1", "--fast"),
            ("one sieve threads", "threads"),
        ] {
            let message = parsed(line).expect_err(line);
            assert!(message.contains(word), "{message}");
        }
    }
}
