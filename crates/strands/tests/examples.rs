//! The small examples print what they promise to print. (`digest` has tests of its own.)

mod example_runner;

use std::fmt::Write as _;
use std::io::{BufRead, BufReader};
use std::process::Stdio;

use example_runner::{example, finish, long_tests, output};

/// A size for debug builds, which are slow, and one for release builds.
fn size(debug: u64, release: u64) -> u64 {
    if cfg!(debug_assertions) { debug } else { release }
}

/// Runs an example on one processor and on two, and compares all of its output.
#[track_caller]
fn expect(name: &str, arguments: &[u64], stdout: &str) {
    for processors in [1, 2] {
        let arguments = arguments.iter().map(u64::to_string);
        let output = output(example(name, processors).args(arguments));
        let stderr = String::from_utf8_lossy(&output.stderr);
        assert!(output.status.success(), "{name} at {processors}: {}\n{stderr}", output.status);
        assert_eq!(
            String::from_utf8_lossy(&output.stdout),
            stdout,
            "{name} at {processors}\n{stderr}"
        );
        assert!(!stderr.contains("panicked"), "{name}: {stderr}");
    }
}

fn primes(count: usize) -> String {
    let is_prime = |n: &u64| !(2..).take_while(|d| d * d <= *n).any(|d| n.is_multiple_of(d));
    (2..).filter(is_prime).take(count).map(|prime| format!("{prime}\n")).collect()
}

#[test]
fn sieve_prints_the_primes() {
    expect("sieve", &[], &primes(100));
    expect("sieve", &[0], "");
    expect("sieve", &[1], "2\n");
    let count = size(200, 2_000);
    expect("sieve", &[count], &primes(count as usize));
}

#[test]
fn sieve_stops_when_its_reader_does() {
    let mut child = example("sieve", 2)
        .arg("100000")
        .stdout(Stdio::piped())
        .stderr(Stdio::piped())
        .spawn()
        .expect("the example runs");
    let mut first = String::new();
    let stdout = child.stdout.take().expect("stdout is a pipe");
    BufReader::new(stdout).read_line(&mut first).expect("there is a first line");
    assert_eq!(first, "2\n");

    let output = finish(child, "sieve | head -1");
    assert!(output.status.success(), "{}", output.status);
    assert_eq!(String::from_utf8_lossy(&output.stderr), "");
}

#[test]
fn daisy_chain_adds_one_for_each_goroutine() {
    expect("daisy_chain", &[0], "1\n");
    expect("daisy_chain", &[1], "2\n");
    if cfg!(debug_assertions) {
        expect("daisy_chain", &[10_000], "10001\n");
    } else {
        expect("daisy_chain", &[], "100001\n");
    }
    if long_tests() {
        expect("daisy_chain", &[1_000_000], "1000001\n");
    }
}

#[test]
fn ping_pong_counts_its_round_trips() {
    expect("ping_pong", &[0], "0\n");
    let trips = size(10_000, 1_000_000);
    expect("ping_pong", &[trips], &format!("{trips}\n"));
}

#[test]
fn skynet_adds_up_its_leaves() {
    expect("skynet", &[0], "0\n");
    expect("skynet", &[1], "45\n");
    if cfg!(debug_assertions) {
        expect("skynet", &[4], "49995000\n");
    } else {
        expect("skynet", &[], "499999500000\n");
    }
}

#[test]
fn philosophers_all_eat() {
    let meals = size(1_000, 100_000);
    let mut stdout = String::new();
    for name in ["Aristotle", "Hypatia", "Laozi", "Spinoza", "Confucius"] {
        writeln!(stdout, "{name} has eaten {meals} times").expect("a string takes all");
    }
    for fork in 0..5 {
        let uses = 2 * meals;
        writeln!(stdout, "fork {fork} was used {uses} times").expect("a string takes all");
    }
    expect("philosophers", &[meals], &stdout);
}

#[test]
fn worker_pool_loses_no_job() {
    // Known values: the total stopping times of 1 to 10,000 and to 1,000,000.
    let (jobs, sum, longest) = if cfg!(debug_assertions) {
        (10_000, 849_666, "6171, 261 steps")
    } else {
        (1_000_000, 131_434_424, "837799, 524 steps")
    };
    for workers in [1, 4, 100] {
        let stdout = format!("workers: {workers}\njobs: {jobs}\nsum: {sum}\nlongest: {longest}\n");
        expect("worker_pool", &[workers, jobs], &stdout);
    }
    expect("worker_pool", &[3, 0], "workers: 3\njobs: 0\nsum: 0\n");
}

#[test]
fn a_wrong_command_line_is_explained() {
    let examples = ["sieve", "daisy_chain", "ping_pong", "skynet", "philosophers", "worker_pool"];
    for name in examples {
        let usage = format!("Usage: {name} ");
        for wrong in [&["ten"][..], &["-1"], &["1", "2", "3"], &["99999999999999999999"]] {
            let output = output(example(name, 1).args(wrong));
            let stderr = String::from_utf8_lossy(&output.stderr);
            assert_eq!(output.status.code(), Some(2), "{name} {wrong:?}: {stderr}");
            assert!(output.stdout.is_empty(), "{name} {wrong:?}");
            assert!(stderr.contains(&usage), "{name} {wrong:?}: {stderr}");
        }
        let output = output(example(name, 1).arg("--help"));
        assert!(output.status.success(), "{name} --help");
        assert!(String::from_utf8_lossy(&output.stdout).starts_with(&usage), "{name} --help");
    }
}

#[test]
fn costs_measures_every_way_of_every_kind_of_work() {
    for processors in [1, 2] {
        let output = output(example("costs", processors).arg("2000"));
        let stdout = String::from_utf8_lossy(&output.stdout);
        assert!(output.status.success(), "{}", String::from_utf8_lossy(&output.stderr));
        let kinds = stdout.lines().filter(|line| !line.starts_with(' ')).count();
        let ways: Vec<f64> = stdout
            .lines()
            .filter(|line| line.starts_with(' '))
            .map(|line| line.split_once(" ns  ").expect("a cost and a way").0)
            .map(|cost| cost.trim().parse().expect("a number"))
            .collect();
        assert_eq!((kinds, ways.len()), (5, 13), "{stdout}");
        assert!(ways.iter().all(|cost| *cost > 0.0), "{stdout}");
    }
}
