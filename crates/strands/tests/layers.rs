//! The map in ARCHITECTURE.md: modules import downward only.

use std::collections::BTreeSet;
use std::fs;
use std::path::{Path, PathBuf};

/// Each module, and the modules that it may name.
const MAP: &[(&str, &[&str])] = &[
    ("sys", &[]),
    ("primitive", &["sys"]),
    ("queue", &["primitive"]),
    ("stack", &["sys"]),
    ("switch", &[]),
    // Its one upward edge: a thread that has been blocked for long asks `sched::watch` for a look.
    ("wait", &["primitive", "sys", "sched"]),
    ("identity", &["wait", "primitive"]),
    ("selection", &["wait"]),
    // To `time` for one thing: to await a receiver of moments.
    ("channel", &["selection", "wait", "primitive", "time"]),
    // `channel` for `mpsc`, `everyday` for `WaitGroup::go`; and it is the address of `group`.
    ("sync", &["wait", "primitive", "channel", "everyday", "group"]),
    ("config", &["stack", "sys"]),
    ("sched", &["config", "identity", "primitive", "queue", "stack", "switch", "sys", "wait"]),
    ("everyday", &["sched", "thread"]),
    ("thread", &["everyday", "identity", "sched", "selection", "wait"]),
    ("runtime", &["config", "sched"]),
    ("time", &["everyday", "identity", "sched", "thread", "wait"]),
    (
        "context",
        &["channel", "everyday", "identity", "sched", "selection", "sync", "sys", "thread", "wait"],
    ),
    ("fs", &["everyday", "sched"]),
    // `fs` and `process` for their types, between which `copy` copies.
    ("io", &["everyday", "fs", "net", "process", "sched", "sync", "sys", "thread", "wait"]),
    ("process", &["everyday", "io", "sched", "sys", "task", "wait"]),
    ("group", &["channel", "context", "everyday", "wait"]),
    ("local", &["sched"]),
    ("task", &["identity", "io", "net", "process", "sched", "thread", "time", "wait"]),
    ("net", &["context", "everyday", "sched", "selection", "sys", "wait"]),
    ("structured", &["context", "everyday", "thread", "wait"]),
    ("lib", &["everyday", "selection", "structured", "thread"]),
];

/// The crate's macros.
const MACROS: &[&str] =
    &["select", "select_biased", "crossbeam_channel_internal", "goroutine_local"];

fn sources(dir: &Path, into: &mut Vec<PathBuf>) {
    for entry in fs::read_dir(dir).unwrap() {
        let path = entry.unwrap().path();
        if path.is_dir() {
            sources(&path, into);
        } else if path.extension().is_some_and(|e| e == "rs") {
            into.push(path);
        }
    }
}

/// The modules that a text names by `crate::`, comments aside, and what macros name where they are used.
fn named(text: &str) -> BTreeSet<String> {
    text.replace("$crate::", "")
        .lines()
        .filter(|line| !line.trim_start().starts_with("//"))
        .flat_map(|line| line.split("crate::").skip(1))
        .map(|rest| rest.chars().take_while(|c| c.is_alphanumeric() || *c == '_').collect())
        .collect()
}

#[test]
fn modules_import_downward_only() {
    let src = Path::new(env!("CARGO_MANIFEST_DIR")).join("src");
    let mut files = Vec::new();
    sources(&src, &mut files);
    assert!(files.len() > 30, "where are the sources?");
    let mut seen = BTreeSet::new();
    for file in files {
        let path = file.strip_prefix(&src).unwrap();
        let first = path.components().next().unwrap().as_os_str().to_str().unwrap();
        let module = first.trim_end_matches(".rs");
        let (_, allowed) = MAP
            .iter()
            .find(|(name, _)| *name == module)
            .unwrap_or_else(|| panic!("{module} is not on the map"));
        seen.insert(module.to_owned());
        for other in named(&fs::read_to_string(&file).unwrap()) {
            // The crate's macros are at its root, too.
            let is_macro = MACROS.contains(&other.as_str());
            assert!(
                is_macro || other == module || allowed.contains(&other.as_str()),
                "{} names `{other}`, which is not below it",
                path.display()
            );
        }
    }
    assert_eq!(seen.len(), MAP.len(), "the map names modules that are not there");
}

#[test]
fn only_one_line_of_the_seam_looks_up() {
    let seam = Path::new(env!("CARGO_MANIFEST_DIR")).join("src/wait");
    let mut files = Vec::new();
    sources(&seam, &mut files);
    let upward: Vec<String> = files
        .iter()
        .flat_map(|file| {
            let text = fs::read_to_string(file).unwrap();
            text.lines().map(str::trim).map(str::to_owned).collect::<Vec<_>>()
        })
        .filter(|line| !line.starts_with("//") && line.contains("crate::sched"))
        .collect();
    assert_eq!(upward, ["crate::sched::watch();"]);
}
