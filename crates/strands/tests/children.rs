//! Child processes: what they read, say and end with, and what waiting for them costs.

mod child;
mod process;
mod waiting;

use std::io::{ErrorKind, Read, Write};
use std::os::unix::process::ExitStatusExt;
use std::time::{Duration, Instant};
use strands::context::{self, ContextError};
use strands::process::{Child, Command, Stdio};
use waiting::KINDS;

fn cat() -> Command {
    let mut command = Command::new("cat");
    command.stdin(Stdio::piped()).stdout(Stdio::piped());
    command
}

/// Of sockets, pipes and processes. (The runtime opens a file now and then, to see what its threads do.)
fn open_descriptors() -> usize {
    let kinds = ["socket:", "pipe:", "anon_inode:[pidfd]"];
    let targets = std::fs::read_dir("/proc/self/fd")
        .unwrap()
        .flatten()
        .filter_map(|entry| std::fs::read_link(entry.path()).ok());
    targets.filter(|path| kinds.iter().any(|kind| path.to_string_lossy().starts_with(kind))).count()
}

fn threads() -> usize {
    std::fs::read_dir("/proc/self/task").unwrap().count()
}

/// Bytes of which none can be taken for another.
fn pattern(length: usize) -> Vec<u8> {
    (0..length as u32).map(|n| (n.wrapping_mul(2_654_435_761) >> 24) as u8).collect()
}

#[test]
fn ten_megabytes_go_through_cat_both_ways() {
    for kind in KINDS {
        kind.start(|| {
            let bytes = pattern(10 << 20);
            let mut child = cat().spawn().unwrap();
            let (mut input, mut output) =
                (child.stdin.take().unwrap(), child.stdout.take().unwrap());
            let sent = bytes.clone();
            let writer = strands::go(move || input.write_all(&sent));
            let mut back = Vec::new();
            output.read_to_end(&mut back).unwrap();
            writer.join().unwrap().unwrap();
            assert!(child.wait().unwrap().success());
            assert!(back == bytes);
        })
        .join();
    }
}

#[test]
fn what_a_child_says_on_both_streams_is_all_read() {
    // More than a pipe holds, of each, and at the end of the one only then of the other.
    let script = "head -c 300000 /dev/zero; head -c 300000 /dev/zero >&2; echo end; echo err >&2";
    for kind in KINDS {
        let output =
            kind.start(move || Command::new("sh").args(["-c", script]).output().unwrap()).join();
        assert!(output.status.success());
        assert_eq!((output.stdout.len(), output.stderr.len()), (300_004, 300_004));
        assert!(output.stdout.ends_with(b"end\n") && output.stderr.ends_with(b"err\n"));
    }
}

#[test]
fn output_pipes_what_was_not_set_and_leaves_what_was() {
    for kind in KINDS {
        kind.start(|| {
            let mut command = Command::new("sh");
            command.args(["-c", "cat; echo said; echo not >&2"]).stderr(Stdio::null());
            let output = command.output().unwrap();
            assert_eq!((&output.stdout[..], &output.stderr[..]), (&b"said\n"[..], &b""[..]));
            // Again, and after somebody else had it in hand.
            assert_eq!(command.output().unwrap().stdout, b"said\n");
            command.as_std_mut().stdout(Stdio::null());
            assert_eq!(command.output().unwrap().stdout, b"");
            // What `output` has piped is inherited by a `spawn` after it.
            let mut silent = Command::new("true");
            silent.output().unwrap();
            let mut child = silent.spawn().unwrap();
            assert!(child.stdout.is_none() && child.stdin.is_none());
            assert!(child.wait().unwrap().success());
        })
        .join();
    }
}

#[test]
fn ends_are_told_as_by_std() {
    for kind in KINDS {
        kind.start(|| {
            assert_eq!(Command::new("sh").args(["-c", "exit 7"]).status().unwrap().code(), Some(7));
            let mut child = Command::new("sleep").arg("60").spawn().unwrap();
            assert_eq!(child.try_wait().unwrap(), None);
            child.kill().unwrap();
            assert_eq!(child.wait().unwrap().signal(), Some(libc::SIGKILL));
            assert_eq!(child.wait().unwrap().signal(), Some(libc::SIGKILL), "it is remembered");
            child.kill().unwrap();
            let none = Command::new("/nonexistent/program").spawn().unwrap_err();
            assert_eq!(none.kind(), ErrorKind::NotFound);
            let other = Command::new("/etc/passwd").spawn().unwrap_err();
            assert_eq!(other.kind(), ErrorKind::PermissionDenied);
        })
        .join();
    }
}

#[test]
fn writing_to_a_child_that_does_not_read_is_a_broken_pipe() {
    for kind in KINDS {
        kind.start(|| {
            let mut child = Command::new("true").stdin(Stdio::piped()).spawn().unwrap();
            let mut input = child.stdin.take().unwrap();
            child.wait().unwrap();
            let error = input.write_all(&[0; 1 << 20]).unwrap_err();
            assert_eq!(error.kind(), ErrorKind::BrokenPipe);
        })
        .join();
    }
}

#[test]
fn two_hundred_children_are_waited_for_without_a_thread_for_each() {
    let Some(program) = process::stage(|| {
        const CHILDREN: usize = 200;
        let descriptors = open_descriptors();
        let begun = Instant::now();
        let (tx, rx) = strands::channel::bounded::<()>(0);
        // All are there before the first goroutine is: while a process is copied its threads wait for memory, and would
        // be taken for blocked.
        let children: Vec<_> = (0..CHILDREN)
            .map(|n| {
                let script = format!("read line; exit {}", n % 100);
                let mut command = Command::new("sh");
                command.args(["-c", &script]).stdin(Stdio::piped()).spawn().unwrap()
            })
            .collect();
        let waiting: Vec<_> = children
            .into_iter()
            .map(|mut child| {
                let input = child.stdin.take().unwrap();
                let rx = rx.clone();
                strands::go(move || {
                    let closer = strands::go(move || {
                        let _ = rx.recv();
                        drop(input);
                    });
                    let code = child.wait().unwrap().code();
                    closer.join().unwrap();
                    code
                })
            })
            .collect();
        child::wait_until("all wait", || {
            strands::runtime::dump().matches("[child process,").count() == CHILDREN
        });
        // Workers, the monitor, the poller of those who are no goroutines.
        assert!(threads() <= 8, "{} threads", threads());
        assert_eq!(strands::runtime::metrics().blocking_threads, 0);
        drop(tx);
        for (n, waiting) in waiting.into_iter().enumerate() {
            // `read` fails at the end of its input, and `sh` goes on.
            assert_eq!(waiting.join().unwrap(), Some(n as i32 % 100));
        }
        assert!(begun.elapsed() < Duration::from_secs(50));
        // The runtime has been started meanwhile, and may have a pipe or two of its own.
        assert!(open_descriptors() <= descriptors + 4);
    }) else {
        return;
    };
    program.processors(2).run().succeeded();
}

#[test]
fn siblings_go_on_while_a_child_is_waited_for() {
    process::on_processors(&[1], || {
        let (tx, rx) = strands::channel::bounded(0);
        let waiting = strands::go(move || {
            let mut child = cat().spawn().unwrap();
            let mut input = child.stdin.take().unwrap();
            let sibling = strands::go(move || {
                rx.recv().unwrap();
                input.write_all(b"x").unwrap();
            });
            let mut byte = [0];
            child.stdout.as_mut().unwrap().read_exact(&mut byte).unwrap();
            sibling.join().unwrap();
            child.wait().unwrap()
        });
        tx.send(()).unwrap();
        assert!(waiting.join().unwrap().success());
    });
}

#[test]
fn a_wait_ends_with_a_context_and_may_be_taken_up_again() {
    for kind in KINDS {
        kind.start(|| {
            let mut child = cat().spawn().unwrap();
            let input = child.stdin.take();
            let (ctx, _cancel) =
                context::with_timeout(&context::background(), Duration::from_millis(5));
            let waited = ctx.run(child.wait_async());
            assert_eq!(waited.unwrap_err(), ContextError::DeadlineExceeded);
            drop(input);
            let status = strands::task::block_on(child.wait_async()).unwrap();
            assert!(status.success());
        })
        .join();
    }
}

#[test]
fn children_are_chained_by_their_streams() {
    for kind in KINDS {
        kind.start(|| {
            let mut first = cat().spawn().unwrap();
            let mut second = Command::new("tr")
                .args(["a-z", "A-Z"])
                .stdin(first.stdout.take().unwrap())
                .stdout(Stdio::piped())
                .spawn()
                .unwrap();
            // More than the pipes hold: a `tr` with a non-blocking input would have given up.
            let text = "round and round ".repeat(20_000);
            let mut input = first.stdin.take().unwrap();
            let sent = text.clone();
            let writer = strands::go(move || {
                for piece in sent.as_bytes().chunks(10_000) {
                    input.write_all(piece).unwrap();
                    strands::sleep(Duration::from_micros(100));
                }
            });
            let mut got = String::new();
            second.stdout.as_mut().unwrap().read_to_string(&mut got).unwrap();
            writer.join().unwrap();
            assert!(got == text.to_uppercase());
            assert!(first.wait().unwrap().success() && second.wait().unwrap().success());
        })
        .join();
    }
}

#[test]
fn a_pipe_with_a_clone_is_given_to_a_child_in_blocking_mode() {
    strands::run(|| {
        let (mut reader, writer) = strands::io::pipe().unwrap();
        let ours = writer.try_clone().unwrap();
        // `head` would fail at a pipe that is full and does not block.
        let mut child = Command::new("head")
            .args(["-c", "1000000", "/dev/zero"])
            .stdout(writer)
            .spawn()
            .unwrap();
        strands::sleep(Duration::from_millis(20));
        let mut bytes = vec![1; 1_000_000];
        reader.read_exact(&mut bytes).unwrap();
        assert!(child.wait().unwrap().success());
        // And ours does not: a goroutine that writes too much is suspended, and others run.
        let filler = strands::go(move || (&ours).write_all(&[7; 1 << 20]));
        let mut rest = Vec::new();
        reader.read_to_end(&mut rest).unwrap();
        filler.join().unwrap().unwrap();
        assert_eq!(rest.len(), 1 << 20);
    });
}

#[test]
fn children_become_stds_and_back() {
    strands::run(|| {
        let std = std::process::Child::from(cat().spawn().unwrap());
        let mut ours = Child::from(std);
        ours.stdin.take().unwrap().write_all(b"there and back").unwrap();
        let output = ours.wait_with_output().unwrap();
        assert_eq!(output.stdout, b"there and back");
        // std's side blocks: it does not say `WouldBlock`.
        let mut std = std::process::Child::from(cat().spawn().unwrap());
        let mut out = std.stdout.take().unwrap();
        let reader = std::thread::spawn(move || {
            let mut text = String::new();
            out.read_to_string(&mut text).map(|_| text)
        });
        std::thread::sleep(Duration::from_millis(5));
        std.stdin.take().unwrap().write_all(b"blocks").unwrap();
        assert_eq!(reader.join().unwrap().unwrap(), "blocks");
        assert!(std.wait().unwrap().success());
        let command = std::process::Command::from(Command::new("true"));
        assert!(Command::from(command).output().unwrap().status.success());
    });
}

#[test]
fn no_descriptor_is_leaked() {
    let Some(program) = process::stage(|| {
        strands::run(|| {
            let round = || {
                let output = Command::new("cat").output().unwrap();
                assert!(output.status.success());
                let mut child = cat().stderr(Stdio::piped()).spawn().unwrap();
                let (ctx, cancel) = context::with_cancel(&context::background());
                cancel.cancel();
                let _ = ctx.run(child.wait_async());
                child.wait().unwrap();
                let (mut reader, writer) = strands::io::pipe().unwrap();
                Command::new("echo").stdout(writer).status().unwrap();
                Read::read_to_end(&mut reader, &mut Vec::new()).unwrap();
                let _ = Command::new("/nonexistent").stdin(Stdio::piped()).spawn();
            };
            (0..5).for_each(|_| round());
            let before = open_descriptors();
            (0..30).for_each(|_| round());
            assert_eq!(open_descriptors(), before);
        });
    }) else {
        return;
    };
    program.processors(1).run().succeeded();
}
