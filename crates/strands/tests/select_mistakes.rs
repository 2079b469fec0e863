//! What `select!` says about mistakes: each message, where the mistake is.
#![cfg(not(loom))]

use std::collections::BTreeMap;
use std::env;
use std::fs;
use std::path::{Path, PathBuf};
use std::process::Command;

/// Compiles a program that has a function for each of these bodies, and returns the errors in each.
fn errors(name: &str, bodies: &[&str]) -> BTreeMap<usize, Vec<String>> {
    let directory = Path::new(env!("CARGO_TARGET_TMPDIR")).join("select").join(name);
    fs::create_dir_all(&directory).expect("the directory can be made");
    let mut source = String::new();
    for (number, body) in bodies.iter().enumerate() {
        assert!(!body.contains('\n'), "one line for each");
        source += &format!("pub fn f{number}(tx: S, rx: R) {{ let _ = (&tx, &rx); {body} }}\n");
    }
    source += "use strands::channel::{Sender as S1, Receiver as R1};\n\
        type S = S1<i32>; type R = R1<i32>;\nfn main() {}\n";
    fs::write(directory.join("main.rs"), source).expect("write");
    let (library, deps) = library();
    let compiled = Command::new(env::var_os("RUSTC").unwrap_or_else(|| "rustc".into()))
        .args(["main.rs", "--edition=2024", "--error-format=short", "--emit=metadata"])
        .arg("--extern")
        .arg(format!("strands={}", library.display()))
        .arg("-L")
        .arg(format!("dependency={}", deps.display()))
        .current_dir(&directory)
        .output()
        .expect("rustc runs: cargo has just used it");
    let stderr = String::from_utf8_lossy(&compiled.stderr);
    let mut found: BTreeMap<usize, Vec<String>> = BTreeMap::new();
    for line in stderr.lines().filter_map(|line| line.strip_prefix("main.rs:")) {
        let Some((place, message)) = line.split_once(": error") else { continue };
        let message = message.split_once(": ").expect("a message").1;
        let (line, _column) = place.split_once(':').expect("line:column");
        let line: usize = line.parse().expect("a number");
        found.entry(line - 1).or_default().push(message.to_owned());
    }
    assert_eq!(compiled.status.success(), found.is_empty(), "{stderr}");
    found
}

/// The compiled library, and what lies beside it. Of several builds the last one is ours.
fn library() -> (PathBuf, PathBuf) {
    let test = env::current_exe().expect("a test knows where it is");
    let deps = test.parent().expect("target/PROFILE/deps/TEST");
    let library = fs::read_dir(deps)
        .expect("it can be listed")
        .flatten()
        .map(|entry| entry.path())
        .filter(|path| {
            let name = path.file_name().unwrap_or_default().to_string_lossy();
            name.starts_with("libstrands-") && name.ends_with(".rlib")
        })
        .max_by_key(|path| fs::metadata(path).and_then(|file| file.modified()).ok())
        .expect("this test is linked to it");
    (library, deps.to_owned())
}

#[test]
fn mistakes_are_named() {
    let one_of = "expected one of `recv`, `send`, `join`, `ready` or `default`, found";
    let semicolon = "did you mean to put a comma instead of the semicolon after";
    let mistakes = [
        ("", "empty `select!` block".to_owned()),
        // Arms.
        ("foo(rx) -> _ => {}", format!("{one_of} `foo`")),
        ("5 => {}", format!("{one_of} `5`")),
        ("recv(rx) -> _ => {}, , default => {}", format!("{one_of} `,`")),
        ("recv", "missing argument list after `recv`".into()),
        ("send -> _ => {}", "missing argument list after `send`".into()),
        ("join => {}", "missing argument list after `join`".into()),
        ("recv(rx)", "missing `->` after `recv` case".into()),
        ("send(tx, 1) => {}", "expected `->` after `send` case, found `=>`".into()),
        ("recv(rx) = _ => {}", "expected `->`, found `=`".into()),
        ("recv(rx) -> => {}", "missing pattern after `->`".into()),
        ("recv(rx) ->", "expected `pattern => body` after `->` of a `recv` case".into()),
        ("recv(rx) -> _", "missing `=>` after `recv` case".into()),
        ("recv(rx) -> _ =>", "expected expression after `=>`".into()),
        ("recv(rx) -> _ => {}; default => {}", format!("{semicolon} `}}`?")),
        ("recv(rx) -> _ => (); default => {}", format!("{semicolon} `()`?")),
        // Arguments.
        ("recv() -> _ => {}", "invalid argument list in `recv()`".into()),
        ("recv(rx, rx) -> _ => {}", "invalid argument list in `recv(rx, rx)`".into()),
        ("send(tx) -> _ => {}", "invalid argument list in `send(tx)`".into()),
        ("send(tx, 1, 2) -> _ => {}", "invalid argument list in `send(tx, 1, 2)`".into()),
        ("join() -> _ => {}", "invalid argument list in `join()`".into()),
        // The default.
        ("default", "expected an argument list or `=>` after `default`".into()),
        ("default if true => {}", "expected an argument list or `=>` after `default`".into()),
        ("default -> _ => {}", "expected `=>` after `default` case, found `->`".into()),
        ("default() -> _ => {}", "expected `=>` after `default` case, found `->`".into()),
        ("default(1, 2) => {}", "invalid argument list in `default(1, 2)`".into()),
        ("default =>", "expected expression after `=>`".into()),
        ("default => {}; recv(rx) -> _ => {}", format!("{semicolon} `}}`?")),
        ("default => (); recv(rx) -> _ => {}", format!("{semicolon} `()`?")),
        (
            "default => {}, default => {}",
            "there can be only one `default` case in a `select!` block".into(),
        ),
        // Guards.
        ("recv(rx) if -> _ => {}", "expected a condition after `if`".into()),
        ("recv(rx) if true", "missing `->` after the condition".into()),
        ("recv(rx) if true => {}", "expected `->` after the condition, found `=>`".into()),
        ("recv(rx) if true -> => {}", "expected `pattern => body` after `->`".into()),
    ];
    let thirty_three = "recv(rx) -> _ => {} ".repeat(33);
    let too_many = (&*thirty_three, "too many operations in a `select!` block".to_owned());
    for name in ["select", "select_biased"] {
        let mistakes: Vec<_> = mistakes.iter().chain([&too_many]).collect();
        let bodies: Vec<_> =
            mistakes.iter().map(|(body, _)| format!("strands::{name}! {{ {body} }}")).collect();
        let bodies: Vec<_> = bodies.iter().map(String::as_str).collect();
        let mut found = errors(name, &bodies);
        for (number, (body, message)) in mistakes.into_iter().enumerate() {
            let said = found.remove(&number).unwrap_or_default();
            assert_eq!(said, [message.as_str()], "{name}! {{ {body} }}");
        }
        assert!(found.is_empty(), "{found:?}");
    }
}

#[test]
fn errors_of_types_and_borrows_are_errors_where_they_are() {
    let mistakes = [
        ("strands::select! { recv(tx) -> _ => {} }", "__recv_arm"),
        ("strands::select! { send(rx, 1) -> _ => {} }", "__send_arm"),
        ("strands::select! { send(tx, \"text\") -> _ => {} }", "mismatched types"),
        (
            "let _: i32 = strands::select! { recv(rx) -> _ => 1, default => \"1\" };",
            "mismatched types",
        ),
        ("strands::select! { recv(rx) if 1 -> _ => {} }", "mismatched types"),
        ("strands::select! { recv(rx) -> _ => {} default(1) => {} }", "mismatched types"),
        ("strands::select! { recv(rx) -> Ok(_) => {} }", "refutable pattern"),
        (
            "let text = String::new(); strands::select! { recv(rx) -> _ => drop(text), default => {} } drop(text);",
            "use of moved value",
        ),
        (
            "let h = strands::go(|| ()); strands::select! { join(h) -> _ => {} }",
            "cannot borrow `h` as mutable",
        ),
    ];
    // Each in a program of its own: an early error hides those of later passes.
    for (number, (body, message)) in mistakes.into_iter().enumerate() {
        let found = errors(&format!("type-{number}"), &[body]);
        assert!(
            found.len() == 1 && found[&0].iter().any(|said| said.contains(message)),
            "{body}: {found:?}"
        );
    }
}

/// Each arm costs levels of macro recursion, of which a crate has 128; so does each word of a long guard.
#[test]
fn thirty_two_arms_with_guards_are_within_the_recursion_limit() {
    let guards = ["true", "!false", "1 < 2", "f() != true", "(rx.len() + 1 < 3 || f())"];
    let bodies = guards.map(|guard| {
        let arms = format!("recv(rx) if {guard} -> _ => {{}} ").repeat(32);
        format!("fn f() -> bool {{ false }} f(); strands::select! {{ {arms} }}")
    });
    let found = errors("guards", &bodies.each_ref().map(String::as_str));
    assert!(found.is_empty(), "{found:?}");
}
