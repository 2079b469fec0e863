//! Pipes, the standard streams, and copies.

mod child;
mod process;
mod waiting;

use std::io::{ErrorKind, Read, Write};
use std::os::fd::{AsFd, OwnedFd};
use std::process::{Command, Stdio};
use std::sync::Arc;
use std::time::Duration;
use strands::io::{self, BufRead};
use strands::net::{Shutdown, TcpListener, TcpStream, UnixStream};
use waiting::KINDS;

/// Of sockets, pipes and processes. (The runtime opens a file now and then, to see what its threads do.)
fn open_descriptors() -> usize {
    let kinds = ["socket:", "pipe:", "anon_inode:[pidfd]"];
    let targets = std::fs::read_dir("/proc/self/fd")
        .unwrap()
        .flatten()
        .filter_map(|entry| std::fs::read_link(entry.path()).ok());
    targets.filter(|path| kinds.iter().any(|kind| path.to_string_lossy().starts_with(kind))).count()
}

fn pattern(length: usize) -> Vec<u8> {
    (0..length as u32).map(|n| (n.wrapping_mul(2_654_435_761) >> 24) as u8).collect()
}

/// A file that is nobody else's, and is removed at once.
fn file_of(bytes: &[u8]) -> std::fs::File {
    let path = std::env::temp_dir().join(format!(
        "strands-io-{}-{:?}",
        std::process::id(),
        strands::thread::current().id()
    ));
    let options = std::fs::OpenOptions::new().read(true).write(true).create_new(true).clone();
    let mut file = options.open(&path).unwrap();
    std::fs::remove_file(&path).unwrap();
    file.write_all(bytes).unwrap();
    std::io::Seek::rewind(&mut file).unwrap();
    file
}

fn tcp_pair() -> (TcpStream, TcpStream) {
    let listener = TcpListener::bind("127.0.0.1:0").unwrap();
    let client = TcpStream::connect(listener.local_addr().unwrap()).unwrap();
    (client, listener.accept().unwrap().0)
}

/// Has the kernel keep no more than it must of what is sent.
fn limit_buffer(stream: &TcpStream) {
    use std::os::fd::AsRawFd;
    let size: libc::c_int = 1;
    // SAFETY: the option is live, and as long as is said.
    let set = unsafe {
        libc::setsockopt(
            stream.as_raw_fd(),
            libc::SOL_SOCKET,
            libc::SO_SNDBUF,
            (&raw const size).cast(),
            size_of_val(&size) as libc::socklen_t,
        )
    };
    assert_eq!(set, 0);
}

#[test]
fn pipes_carry_more_than_they_hold() {
    for kind in KINDS {
        let (mut reader, mut writer) = io::pipe().unwrap();
        let bytes = pattern(3 << 20);
        let sent = bytes.clone();
        let writing = kind.start(move || writer.write_all(&sent).unwrap());
        let reading = kind.start(move || {
            let mut got = Vec::new();
            reader.read_to_end(&mut got).unwrap();
            got
        });
        writing.join();
        assert!(reading.join() == bytes);
    }
}

#[test]
fn who_waits_for_a_pipe_says_so_and_lets_others_run() {
    process::on_processors(&[1], || {
        let (mut reader, writer) = io::pipe().unwrap();
        let reading = waiting::Kind::Goroutine.start(move || {
            let mut byte = [0];
            reader.read_exact(&mut byte).unwrap();
            byte[0]
        });
        reading.until_it_waits("io read");
        strands::go(move || (&writer).write_all(&[5]).unwrap()).join().unwrap();
        assert_eq!(reading.join(), 5);
    });
}

#[test]
fn pipes_end_as_stds_do() {
    for kind in KINDS {
        kind.start(|| {
            let (mut reader, writer) = io::pipe().unwrap();
            let again = writer.try_clone().unwrap();
            drop(writer);
            (&again).write_all(b"last").unwrap();
            drop(again);
            let mut text = String::new();
            reader.read_to_string(&mut text).unwrap();
            assert_eq!(text, "last");
            let (reader, mut writer) = io::pipe().unwrap();
            drop(reader);
            assert_eq!(writer.write(b"x").unwrap_err().kind(), ErrorKind::BrokenPipe);
            // There and back; std's blocks.
            let (reader, mut writer) = io::pipe().unwrap();
            let mut std = std::io::PipeReader::from(reader);
            let reader = std::thread::spawn(move || {
                let mut byte = [0];
                std.read_exact(&mut byte).map(|()| byte[0])
            });
            std::thread::sleep(Duration::from_millis(3));
            writer.write_all(&[9]).unwrap();
            assert_eq!(reader.join().unwrap().unwrap(), 9);
            let fd = OwnedFd::from(io::PipeWriter::from(OwnedFd::from(writer)));
            drop(fd);
        })
        .join();
    }
}

#[test]
fn many_read_one_pipe_and_each_byte_goes_to_one() {
    let (reader, mut writer) = io::pipe().unwrap();
    let reader = Arc::new(reader);
    let readers: Vec<_> = (0..8)
        .map(|n| {
            let reader = Arc::clone(&reader);
            KINDS[n % 2].start(move || {
                let mut sum = 0_u64;
                let mut bytes = [0; 7];
                loop {
                    match (&*reader).read(&mut bytes).unwrap() {
                        0 => return sum,
                        n => sum += bytes[..n].iter().map(|byte| u64::from(*byte)).sum::<u64>(),
                    }
                }
            })
        })
        .collect();
    let bytes = pattern(200_000);
    for piece in bytes.chunks(4000) {
        writer.write_all(piece).unwrap();
        strands::yield_now();
    }
    drop(writer);
    let sum: u64 = readers.into_iter().map(waiting::Started::join).sum();
    assert_eq!(sum, bytes.iter().map(|byte| u64::from(*byte)).sum::<u64>());
}

#[test]
fn copies_are_the_same_by_whatever_way() {
    const LENGTH: usize = 2_500_000;
    let bytes = Arc::new(pattern(LENGTH));
    for kind in KINDS {
        // What is written to this end comes out at the other.
        let feed = |mut end: Box<dyn Write + Send>, bytes: Arc<Vec<u8>>| {
            kind.start(move || end.write_all(&bytes).unwrap())
        };
        let drain = |mut end: Box<dyn Read + Send>| {
            kind.start(move || {
                let mut got = Vec::new();
                end.read_to_end(&mut got).unwrap();
                got
            })
        };
        let check = |name: &str, copied: u64, got: Vec<u8>| {
            assert_eq!(copied, LENGTH as u64, "{name}");
            assert!(got == **bytes, "{name}");
        };

        // File to socket, by reference and not.
        let (a, b) = tcp_pair();
        let drained = drain(Box::new(b));
        let file = file_of(&bytes);
        let copied = kind.start(move || io::copy(&mut &file, &mut &a).unwrap()).join();
        check("file to socket", copied, drained.join());

        // File to pipe; the file of this crate.
        let (reader, mut writer) = io::pipe().unwrap();
        let drained = drain(Box::new(reader));
        let mut file = strands::fs::File::from(file_of(&bytes));
        let copied = kind.start(move || io::copy(&mut file, &mut writer).unwrap()).join();
        check("file to pipe", copied, drained.join());

        // Pipe to socket.
        let ((mut reader, writer), (mut a, b)) = (io::pipe().unwrap(), tcp_pair());
        let (fed, drained) = (feed(Box::new(writer), Arc::clone(&bytes)), drain(Box::new(b)));
        let copied = kind.start(move || io::copy(&mut reader, &mut a).unwrap()).join();
        fed.join();
        check("pipe to socket", copied, drained.join());

        // Socket to pipe.
        let ((reader, mut writer), (mut a, b)) = (io::pipe().unwrap(), tcp_pair());
        let (fed, drained) = (feed(Box::new(b), Arc::clone(&bytes)), drain(Box::new(reader)));
        let copied = kind.start(move || io::copy(&mut a, &mut writer).unwrap()).join();
        fed.join();
        check("socket to pipe", copied, drained.join());

        // Socket to socket, of two kinds.
        let ((a, b), (c, d)) = (tcp_pair(), UnixStream::pair().unwrap());
        let (fed, drained) = (feed(Box::new(a), Arc::clone(&bytes)), drain(Box::new(d)));
        let copied = kind.start(move || io::copy(&mut &b, &mut &c).unwrap()).join();
        fed.join();
        check("socket to socket", copied, drained.join());

        // And the other way round, with little room and a slow reader: what was taken from the one goes to the other
        // piece by piece.
        let ((a, b), (c, d)) = (UnixStream::pair().unwrap(), tcp_pair());
        limit_buffer(&c);
        let fed = feed(Box::new(a), Arc::clone(&bytes));
        let drained = kind.start(move || {
            let (mut got, mut piece) = (Vec::new(), [0; 1500]);
            loop {
                match (&d).read(&mut piece).unwrap() {
                    0 => return got,
                    read => got.extend_from_slice(&piece[..read]),
                }
                if got.len() % 7 == 0 {
                    strands::yield_now();
                }
            }
        });
        let copied = kind.start(move || io::copy(&mut &b, &mut &c).unwrap()).join();
        fed.join();
        check("socket to a slow socket", copied, drained.join());

        // Pipe to pipe.
        let ((mut reader, writer), (reader2, mut writer2)) =
            (io::pipe().unwrap(), io::pipe().unwrap());
        let (fed, drained) = (feed(Box::new(writer), Arc::clone(&bytes)), drain(Box::new(reader2)));
        let copied = kind.start(move || io::copy(&mut reader, &mut writer2).unwrap()).join();
        fed.join();
        check("pipe to pipe", copied, drained.join());

        // File to file, and what the kernel has no word for.
        let (mut from, mut to) = (file_of(&bytes), file_of(b""));
        assert_eq!(io::copy(&mut from, &mut to).unwrap(), LENGTH as u64);
        let mut got = Vec::new();
        std::io::Seek::rewind(&mut to).unwrap();
        assert_eq!(io::copy(&mut to, &mut got).unwrap(), LENGTH as u64);
        assert!(got == **bytes);
        let mut got = Vec::new();
        let copied = io::copy(&mut Read::take(&bytes[..], 10), &mut got).unwrap();
        assert_eq!((copied, &got[..]), (10, &bytes[..10]));
    }
}

#[test]
fn a_copy_from_where_there_is_no_file_is_the_kernels_error() {
    let directory = std::fs::File::open("/").unwrap();
    let (_reader, mut writer) = io::pipe().unwrap();
    let ours = io::copy(&mut &directory, &mut writer).unwrap_err();
    let stds = std::io::copy(&mut &directory, &mut std::io::sink()).unwrap_err();
    assert_eq!((ours.kind(), stds.kind()), (ErrorKind::IsADirectory, ErrorKind::IsADirectory));
    // A peer that has gone.
    let (a, b) = tcp_pair();
    drop(b);
    let file = file_of(&pattern(20 << 20));
    let error = io::copy(&mut &file, &mut &a).unwrap_err();
    assert!(matches!(error.kind(), ErrorKind::BrokenPipe | ErrorKind::ConnectionReset), "{error}");
}

#[test]
fn an_echo_by_copy_leaks_nothing() {
    let Some(program) = process::stage(|| {
        let round = || {
            let (mut a, b) = tcp_pair();
            let echo = strands::go(move || {
                io::copy(&mut &b, &mut &b).unwrap();
            });
            a.write_all(b"to and fro").unwrap();
            a.shutdown(Shutdown::Write).unwrap();
            let mut text = String::new();
            a.read_to_string(&mut text).unwrap();
            assert_eq!(text, "to and fro");
            echo.join().unwrap();
        };
        strands::run(|| {
            (0..5).for_each(|_| round());
            let before = open_descriptors();
            (0..100).for_each(|_| round());
            assert_eq!(open_descriptors(), before);
        });
    }) else {
        return;
    };
    program.processors(1).run().succeeded();
}

/// Runs this test's body in a process with these streams, whose other ends are ours.
fn with_streams(test: &str) -> std::process::Child {
    Command::new(std::env::current_exe().unwrap())
        .args(["--exact", test, "--nocapture", "--test-threads=1"])
        .env("STRANDS_TEST_STREAMS", test)
        .env("STRANDS_MAXPROCS", "1")
        .stdin(Stdio::piped())
        .stdout(Stdio::piped())
        .stderr(Stdio::piped())
        .spawn()
        .unwrap()
}

fn is_child() -> bool {
    std::env::var_os("STRANDS_TEST_STREAMS").is_some()
}

#[test]
fn reading_standard_input_stalls_no_sibling() {
    if is_child() {
        strands::run(|| {
            let (tx, rx) = strands::channel::bounded(0);
            // All at home on one thread.
            let reader = strands::go(move || {
                let mut line = String::new();
                assert_eq!(io::stdin().read_line(&mut line).unwrap(), 6);
                let rest: Vec<_> = io::stdin().lines().map(Result::unwrap).collect();
                assert_eq!(io::stdin().read(&mut [0; 8]).unwrap(), 0, "the end stays");
                (line, rest)
            });
            let sibling = strands::go(move || {
                for n in 0..3 {
                    tx.send(n).unwrap();
                }
            });
            assert_eq!(rx.iter().collect::<Vec<i32>>(), [0, 1, 2]);
            sibling.join().unwrap();
            child::wait_until("it waits", || strands::runtime::dump().contains("[io read,"));
            // Only now will there be input.
            println!("\nasks");
            let (line, rest) = reader.join().unwrap();
            println!("got {line:?} {rest:?}");
        });
        return;
    }
    let mut child = with_streams("reading_standard_input_stalls_no_sibling");
    let mut output = std::io::BufReader::new(child.stdout.take().unwrap());
    let mut said = String::new();
    while !said.contains("asks") {
        assert_ne!(output.read_line(&mut said).unwrap(), 0, "{said}");
    }
    let mut input = child.stdin.take().unwrap();
    input.write_all(b"first\nsecond\n").unwrap();
    std::thread::sleep(Duration::from_millis(5));
    input.write_all(b"third").unwrap();
    drop(input);
    output.read_to_string(&mut said).unwrap();
    assert!(child.wait().unwrap().success(), "{said}");
    assert!(said.contains(r#"got "first\n" ["second", "third"]"#), "{said}");
}

#[test]
fn a_slow_reader_of_standard_output_stalls_no_sibling_and_lines_stay_whole() {
    const LINES: usize = 2_000;
    if is_child() {
        strands::run(|| {
            println!();
            let writers: Vec<_> = (0..4)
                .map(|n| {
                    strands::go(move || {
                        let stdout = io::stdout();
                        for line in 0..LINES {
                            let mut lock = stdout.lock();
                            // Taken twice, and held over a wait.
                            write!(&stdout, "line {line} ").unwrap();
                            strands::yield_now();
                            writeln!(lock, "of {n} {}", "x".repeat(60)).unwrap();
                        }
                    })
                })
                .collect();
            // They are at home on this very thread: that we get to look shows that it is not blocked.
            while !strands::runtime::dump().contains("[io write,") {
                strands::sleep(Duration::from_millis(1));
            }
            io::stderr().write_all(b"it waits\n").unwrap();
            writers.into_iter().for_each(|writer| writer.join().unwrap());
            io::stdout().flush().unwrap();
        });
        return;
    }
    let mut child =
        with_streams("a_slow_reader_of_standard_output_stalls_no_sibling_and_lines_stay_whole");
    drop(child.stdin.take());
    // The pipe holds less than what it writes, and nobody reads before it is seen to wait.
    let mut waits = String::new();
    std::io::BufReader::new(child.stderr.take().unwrap()).read_line(&mut waits).unwrap();
    assert_eq!(waits, "it waits\n");
    let mut said = String::new();
    child.stdout.take().unwrap().read_to_string(&mut said).unwrap();
    assert!(child.wait().unwrap().success(), "{said}");
    for n in 0..4 {
        let tail = format!(" of {n} {}", "x".repeat(60));
        let lines: Vec<_> = said.lines().filter(|line| line.ends_with(&tail)).collect();
        assert_eq!(lines.len(), LINES);
        for (at, line) in lines.iter().enumerate() {
            assert_eq!(**line, format!("line {at}{tail}"));
        }
    }
}

#[test]
fn a_large_write_to_standard_output_stalls_no_sibling() {
    const LENGTH: usize = 1 << 20;
    if is_child() {
        strands::run(|| {
            println!();
            let writer = strands::go(|| io::stdout().write_all(&[b'#'; LENGTH]).unwrap());
            // At home on this very thread.
            while !strands::runtime::dump().contains("[io write,") {
                strands::sleep(Duration::from_millis(1));
            }
            io::stderr().write_all(b"it waits\n").unwrap();
            writer.join().unwrap();
            io::stdout().flush().unwrap();
        });
        return;
    }
    let mut child = with_streams("a_large_write_to_standard_output_stalls_no_sibling");
    let (told, tells) = std::sync::mpsc::channel();
    let mut stderr = std::io::BufReader::new(child.stderr.take().unwrap());
    std::thread::spawn(move || {
        let mut line = String::new();
        stderr.read_line(&mut line).unwrap();
        told.send(line)
    });
    let waits = tells.recv_timeout(waiting::PLENTY);
    if waits.is_err() {
        child.kill().unwrap();
    }
    assert_eq!(waits.as_deref(), Ok("it waits\n"));
    let mut said = String::new();
    child.stdout.take().unwrap().read_to_string(&mut said).unwrap();
    assert!(child.wait().unwrap().success(), "{said}");
    assert_eq!(said.matches('#').count(), LENGTH);
}

#[test]
fn a_standard_input_that_is_closed_is_empty() {
    let Some(program) = process::stage(|| {
        // SAFETY: this thread is the only one, and nobody has read from it.
        assert_eq!(unsafe { libc::close(libc::STDIN_FILENO) }, 0);
        // As std has it.
        assert_eq!(std::io::stdin().read(&mut [0; 8]).unwrap(), 0);
        assert_eq!(io::stdin().read(&mut [0; 8]).unwrap(), 0);
        assert_eq!(io::stdin().lines().count(), 0);
    }) else {
        return;
    };
    program.run().succeeded();
}

#[test]
fn the_standard_streams_are_the_processs() {
    use std::os::fd::AsRawFd;
    let fds = [io::stdin().as_raw_fd(), io::stdout().as_raw_fd(), io::stderr().as_raw_fd()];
    assert_eq!(fds, [0, 1, 2]);
    let stdout = io::stdout();
    assert_eq!(stdout.as_fd().as_raw_fd(), 1);
    assert_eq!(io::stderr().is_terminal(), std::io::IsTerminal::is_terminal(&std::io::stderr()));
}
