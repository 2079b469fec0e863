//! What the figures depend on: the machine, the kernel, the versions, the command.

use std::process::Command;

/// Versions come from the lock file that this program was built with.
const LOCK: &str = include_str!("../Cargo.lock");
const MANIFEST_NOTE: &str = "release, fat LTO, one codegen unit, panic = unwind, system malloc";
const CRATES: [&str; 8] =
    ["strands", "tokio", "smol", "may", "kanal", "flume", "crossbeam-channel", "parking_lot"];

/// Facts in print order, as (what, value).
pub(crate) fn facts(go: &Result<String, String>) -> Vec<(&'static str, String)> {
    let crates = CRATES.map(|name| format!("{name} {}", locked_version(name)));
    let go = match go {
        Ok(version) => version.clone(),
        Err(reason) => reason.clone(),
    };
    vec![
        ("machine", machine()),
        ("kernel", read("/proc/sys/kernel/osrelease")),
        ("load", read("/proc/loadavg")),
        ("rustc", rustc()),
        ("build", build()),
        ("crates", crates.join(", ")),
        ("Go", go),
        ("command", command()),
    ]
}

fn machine() -> String {
    let cpus = read("/proc/cpuinfo");
    let model = field(&cpus, "model name").unwrap_or(std::env::consts::ARCH);
    let processors = std::thread::available_parallelism().map_or(1, |n| n.get());
    let memory = read("/proc/meminfo");
    let kib: u64 = field(&memory, "MemTotal")
        .and_then(|text| text.split(' ').next()?.parse().ok())
        .unwrap_or(0);
    format!("{model}, {processors} processors, {} GiB", kib >> 20)
}

fn field<'a>(text: &'a str, key: &str) -> Option<&'a str> {
    let mut pairs = text.lines().filter_map(|line| line.split_once(':'));
    pairs.find_map(|(k, value)| (k.trim() == key).then(|| value.trim()))
}

fn read(path: &str) -> String {
    let text = std::fs::read_to_string(path);
    text.map_or_else(|_| "unknown".to_owned(), |text| text.trim().to_owned())
}

/// The compiler on the PATH, which built this unless somebody changed it since.
fn rustc() -> String {
    let output = Command::new("rustc").arg("--version").output();
    output.map_or_else(
        |_| "unknown".to_owned(),
        |output| String::from_utf8_lossy(&output.stdout).trim().to_owned(),
    )
}

fn build() -> String {
    if cfg!(debug_assertions) {
        "DEBUG BUILD: these figures mean nothing".to_owned()
    } else {
        MANIFEST_NOTE.to_owned()
    }
}

fn command() -> String {
    let words: Vec<String> = std::env::args().skip(1).collect();
    format!("strands-bench {}", words.join(" "))
}

fn locked_version(name: &str) -> &str {
    let mut lines = LOCK.lines();
    let wanted = format!("name = \"{name}\"");
    lines.find(|line| *line == wanted);
    let version = lines.next().and_then(|line| line.split('"').nth(1));
    version.unwrap_or("?")
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn every_crate_is_locked() {
        for name in CRATES {
            assert!(locked_version(name).contains('.'), "{name}");
        }
    }

    #[test]
    fn fields_are_found_by_their_whole_name() {
        assert_eq!(field("cpu: a\nmodel: 1\nmodel name\t: b c\n", "model name"), Some("b c"));
    }
}
