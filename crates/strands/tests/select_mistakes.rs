//! What `select!` says about mistakes: each message, where the mistake is.
#![cfg(not(loom))]

mod compiler;

use compiler::errors;

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
