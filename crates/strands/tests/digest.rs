//! The `digest` example against `find`, `sort` and `sha256sum`, byte for byte.
#![cfg(unix)]

mod example_runner;

use std::collections::HashSet;
use std::env;
use std::ffi::OsStr;
use std::fs::{self, File, Permissions};
use std::io::{BufRead, BufReader};
use std::os::unix::ffi::OsStrExt;
use std::os::unix::fs::{PermissionsExt, symlink};
use std::os::unix::net::UnixListener;
use std::path::{Path, PathBuf};
use std::process::{self, Command, Output, Stdio};
use std::sync::atomic::{AtomicU32, Ordering};

use example_runner::{example, finish, long_tests, output};

/// The SHA-256 of nothing.
const EMPTY: &str = "e3b0c44298fc1c149afbf4c8996fb92427ae41e4649b934ca495991b7852b855";

/// A directory that is gone when the test has ended.
struct TempDir(PathBuf);

impl TempDir {
    fn new() -> Self {
        static NEXT: AtomicU32 = AtomicU32::new(0);
        // Ordering: only the numbers have to differ.
        let number = NEXT.fetch_add(1, Ordering::Relaxed);
        let path = env::temp_dir().join(format!("strands-digest-{}-{number}", process::id()));
        fs::create_dir(&path).expect("the temporary directory can be written");
        Self(path)
    }

    /// Writes a file and the directories that lead to it. Names are bytes.
    fn file(&self, name: impl AsRef<[u8]>, content: impl AsRef<[u8]>) {
        let path = self.0.join(OsStr::from_bytes(name.as_ref()));
        fs::create_dir_all(path.parent().expect("it is below ours")).expect("mkdir");
        fs::write(&path, content).expect("write");
    }
}

impl Drop for TempDir {
    fn drop(&mut self) {
        // What is left behind in /tmp is no reason to fail.
        let _ = fs::remove_dir_all(&self.0);
    }
}

/// The `digest` example, run in `directory`.
fn digest(directory: &Path, processors: usize) -> Command {
    let mut command = example("digest", processors);
    command.current_dir(directory);
    command
}

/// What `sha256sum` prints for the files that `find` finds, sorted by path. `None`, and the reason
/// printed, where these tools are missing.
fn reference(directory: &Path, root: &OsStr) -> Option<Vec<u8>> {
    for tool in ["find", "sort", "xargs", "sha256sum"] {
        let answer = Command::new(tool).arg("--version").output();
        if !answer.is_ok_and(|answer| answer.status.success()) {
            println!("skipped: GNU {tool} is not installed");
            return None;
        }
    }
    let script = r#"find "$1" -type f -print0 | LC_ALL=C sort -z | xargs -0 -r sha256sum"#;
    let answer =
        output(Command::new("sh").args(["-c", script, "sh"]).arg(root).current_dir(directory));
    Some(answer.stdout)
}

#[track_caller]
fn assert_same_lines(actual: &[u8], expected: &[u8]) {
    let actual: Vec<_> = actual.split(|&byte| byte == b'\n').map(show).collect();
    let expected: Vec<_> = expected.split(|&byte| byte == b'\n').map(show).collect();
    for (number, (actual, expected)) in actual.iter().zip(&expected).enumerate() {
        assert_eq!(actual, expected, "line {}", number + 1);
    }
    assert_eq!(actual.len(), expected.len(), "number of lines");
}

/// Without loss, unlike `from_utf8_lossy`.
fn show(line: &[u8]) -> String {
    line.escape_ascii().to_string()
}

fn stderr(output: &Output) -> String {
    String::from_utf8_lossy(&output.stderr).into_owned()
}

/// The lines of stderr that name a failure: all but the summary.
fn complaints(output: &Output) -> Vec<String> {
    stderr(output).lines().filter(|line| !is_summary(line)).map(str::to_owned).collect()
}

fn is_summary(line: &str) -> bool {
    line.starts_with("digest: ") && line.contains(" files, ") && line.contains(" MB/s), ")
}

/// Every kind of name and of file that has ever broken a script.
fn odd_tree() -> TempDir {
    let temp = TempDir::new();
    for name in [
        &b"tree/plain"[..],
        b"tree/with space",
        b"tree/ leading and trailing ",
        b"tree/-leading-dash",
        b"tree/--",
        b"tree/new\nline",
        b"tree/\n",
        b"tree/back\\slash",
        b"tree/\\",
        b"tree/\\n is not a newline",
        b"tree/carriage\rreturn",
        b"tree/all\\of\nthem\r",
        b"tree/tab\tand\x01\x07\x1b[31m",
        b"tree/quotes'\"`$(true)*?",
        b"tree/\xff\xfe not UTF-8 \x80",
        "tree/größe ✓".as_bytes(),
        b"tree/.hidden",
        b"tree/...",
        b"tree/\xc3\x28/inside",
        b"tree/new\nline directory/inside",
        // `-`, `.` and `0` lie around `/`: these are sorted by bytes, not by components.
        b"tree/a/b",
        b"tree/a-b",
        b"tree/a.b",
        b"tree/a0b",
        b"tree/a",
    ] {
        if name == b"tree/a" {
            continue; // It is the directory of `a/b`.
        }
        // Contents differ, so that mixed-up sums are seen.
        temp.file(name, [b"content of ", name].concat());
    }
    temp.file("tree/empty", "");
    temp.file("tree/empty too", "");
    // Around the size of the read buffer, where an off-by-one would be.
    for size in [131_071, 131_072, 131_073, 262_144] {
        temp.file(format!("tree/size {size}"), vec![size as u8; size]);
    }
    let deep = ["nested"; 200].join("/");
    temp.file(format!("tree/{deep}/file"), "at the bottom");

    let tree = temp.0.join("tree");
    fs::create_dir(tree.join("empty directory")).expect("mkdir");
    symlink("plain", tree.join("link to a file")).expect("symlink");
    symlink("a", tree.join("link to a directory")).expect("symlink");
    symlink(".", tree.join("a/loop")).expect("symlink");
    symlink("../..", tree.join("a/larger loop")).expect("symlink");
    symlink("nowhere", tree.join("dangling")).expect("symlink");
    let fifo = Command::new("mkfifo").arg(tree.join("fifo")).status();
    assert!(fifo.is_ok_and(|status| status.success()), "mkfifo");
    // Dropping the listener leaves the socket in the tree.
    UnixListener::bind(tree.join("socket")).expect("bind");
    symlink("tree", temp.0.join("link")).expect("symlink");
    temp
}

#[test]
fn agrees_with_find_and_sha256sum() {
    let temp = odd_tree();
    let sparse = if long_tests() { 1 << 30 } else { 64 << 20 };
    File::create(temp.0.join("tree/sparse"))
        .and_then(|file| file.set_len(sparse))
        .expect("a sparse file");

    let Some(expected) = reference(&temp.0, "tree".as_ref()) else {
        return;
    };
    let files = expected.split(|&byte| byte == b'\n').count() - 1;
    assert!(files > 30, "the reference is complete: {files} files");
    for processors in [1, 2] {
        let output = output(digest(&temp.0, processors).arg("tree"));
        assert_eq!(output.status.code(), Some(0), "{}", stderr(&output));
        assert_same_lines(&output.stdout, &expected);

        // One line, the summary, and no progress bar: stderr is no terminal.
        let stderr = stderr(&output);
        let summary = stderr.strip_suffix('\n').expect("a line");
        assert!(is_summary(summary), "{stderr:?}");
        assert!(summary.starts_with(&format!("digest: {files} files, ")), "{stderr:?}");
    }
}

#[test]
fn sha256sum_accepts_the_output() {
    let temp = odd_tree();
    if reference(&temp.0, "tree/empty".as_ref()).is_none() {
        return;
    }
    let list = temp.0.join("list");
    let status = digest(&temp.0, 2)
        .arg("tree")
        .stdout(File::create(&list).expect("the list can be written"))
        .stderr(Stdio::null())
        .status()
        .expect("the example runs");
    assert!(status.success(), "{status}");

    let check = |list: &Path| {
        output(
            Command::new("sha256sum")
                .args(["--check", "--strict", "--quiet"])
                .arg(list)
                .current_dir(&temp.0),
        )
    };
    let answer = check(&list);
    assert!(answer.status.success(), "{}", stderr(&answer));

    // And it is these files that it has checked.
    temp.file("tree/new\nline", "changed");
    assert!(!check(&list).status.success());
}

#[test]
fn paths_are_spelled_as_find_spells_them() {
    let temp = odd_tree();
    for root in [
        "tree",
        "tree/",
        "tree//",
        "./tree",
        ".//tree",
        "tree/.",
        "tree/../tree",
        ".",
        "./",
        "..",
        // A link is not followed; with a slash it is the directory that it leads to.
        "link",
        "link/",
        "link/.",
        "tree/link to a file",
        // A file is its own tree, and what is no file is none.
        "tree/plain",
        "tree/new\nline",
        "tree/fifo",
        "tree/empty directory",
    ] {
        // One level up there may be anything; it is looked at from a place below our own.
        let directory = match root {
            ".." => temp.0.join("tree"),
            _ => temp.0.clone(),
        };
        let Some(expected) = reference(&directory, root.as_ref()) else {
            return;
        };
        let output = output(digest(&directory, 2).arg(root));
        assert_eq!(output.status.code(), Some(0), "{root:?}: {}", stderr(&output));
        assert_same_lines(&output.stdout, &expected);
    }

    let absolute = temp.0.join("tree");
    if let Some(expected) = reference(&temp.0, absolute.as_os_str()) {
        let output = output(digest(&temp.0, 2).arg(&absolute));
        assert_same_lines(&output.stdout, &expected);
    }
}

#[test]
fn the_default_is_the_current_directory() {
    let temp = TempDir::new();
    temp.file("b", "");
    temp.file("a", "");
    let output = output(&mut digest(&temp.0, 1));
    let expected = format!("{EMPTY}  ./a\n{EMPTY}  ./b\n");
    assert_same_lines(&output.stdout, expected.as_bytes());
    assert_eq!(output.status.code(), Some(0));
}

#[test]
fn a_directory_may_look_like_an_option() {
    let temp = TempDir::new();
    temp.file("-dash/a", "");
    temp.file("--help/a", "");
    for name in ["-dash", "--help"] {
        let output = output(digest(&temp.0, 1).args(["--", name]));
        let expected = format!("{EMPTY}  {name}/a\n");
        assert_same_lines(&output.stdout, expected.as_bytes());
        assert_eq!(output.status.code(), Some(0));
    }
}

#[test]
fn what_does_not_exist_is_named() {
    let temp = TempDir::new();
    temp.file("file", "");
    for (root, reason) in [
        ("nowhere", "No such file or directory"),
        ("", "No such file or directory"),
        ("new\nline", "No such file or directory"),
        ("file/", "Not a directory"),
        ("file/below", "Not a directory"),
    ] {
        let output = output(digest(&temp.0, 1).arg(root));
        assert_eq!(output.status.code(), Some(1), "{root:?}");
        assert!(output.stdout.is_empty(), "{root:?}");
        let start = format!("digest: {}: {reason}", root.replace('\n', "\\n"));
        let complaints = complaints(&output);
        assert_eq!(complaints.len(), 1, "{root:?}: {complaints:?}");
        assert!(complaints[0].starts_with(&start), "{complaints:?}");
    }
}

#[test]
fn what_lies_too_deep_is_named_and_the_rest_is_listed() {
    let temp = TempDir::new();
    // Below some level, paths are longer than the system takes (PATH_MAX), for `sha256sum` too.
    // It takes a shell to get there, step by step. This works for root, whom no mode keeps out.
    let script = "
        mkdir tree && cd tree || exit
        for level in 1 2 3 4 5 6 7 8 9 10 11 12 13 14 15 16 17 18 19 20 21 22 23 24 25; do
            mkdir \"$1\" && cd -P \"./$1\" || exit
            : > file && : > \"$1-file\" || exit
        done";
    let name = "d".repeat(200);
    let status = Command::new("sh").args(["-c", script, "sh", &name]).current_dir(&temp.0).status();
    if !status.is_ok_and(|status| status.success()) {
        println!("skipped: the shell cannot make directories as deep as that");
        return;
    }
    let Some(expected) = reference(&temp.0, "tree".as_ref()) else {
        return;
    };
    for processors in [1, 2] {
        let output = output(digest(&temp.0, processors).arg("tree"));
        assert_eq!(output.status.code(), Some(1), "{}", stderr(&output));
        assert_same_lines(&output.stdout, &expected);
        // The file that is the first too long, and the directory.
        let complaints = complaints(&output);
        assert_eq!(complaints.len(), 2, "{complaints:?}");
        for missed in [format!("/{name}-file"), format!("/{name}")] {
            let end = format!("{missed}: File name too long");
            assert!(
                complaints
                    .iter()
                    .any(|line| line.starts_with("digest: tree/ddd") && line.contains(&end)),
                "{missed} is not in {complaints:?}"
            );
        }
    }
}

#[test]
fn what_may_not_be_read_is_named_and_the_rest_is_listed() {
    let temp = TempDir::new();
    temp.file("tree/a", "");
    temp.file("tree/secret", "");
    temp.file("tree/secrets/file", "");
    temp.file("tree/z", "");
    let (file, directory) = (temp.0.join("tree/secret"), temp.0.join("tree/secrets"));
    for path in [&file, &directory] {
        fs::set_permissions(path, Permissions::from_mode(0o000)).expect("chmod");
    }
    if File::open(&file).is_ok() {
        println!("skipped: no mode keeps this user (root?) from reading");
        return;
    }
    let output = output(digest(&temp.0, 2).arg("tree"));
    fs::set_permissions(&directory, Permissions::from_mode(0o700)).expect("chmod");

    assert_eq!(output.status.code(), Some(1), "{}", stderr(&output));
    let expected = format!("{EMPTY}  tree/a\n{EMPTY}  tree/z\n");
    assert_same_lines(&output.stdout, expected.as_bytes());
    let mut complaints = complaints(&output);
    complaints.sort();
    assert_eq!(complaints.len(), 2, "{complaints:?}");
    assert!(complaints[0].starts_with("digest: tree/secret: Permission denied"));
    assert!(complaints[1].starts_with("digest: tree/secrets: Permission denied"));
}

#[test]
fn what_cannot_be_opened_is_named_and_the_rest_is_listed() {
    // Directories of settings, some of which can only be written, even by root.
    let tried = ["/proc/sys/net/ipv4/route", "/proc/sys/vm"];
    let unreadable = |root: &str| -> Vec<PathBuf> {
        let entries = fs::read_dir(root).into_iter().flatten().flatten();
        entries
            .map(|entry| entry.path())
            .filter(|path| path.is_file() && fs::read(path).is_err())
            .collect()
    };
    let Some((root, unreadable)) = tried
        .map(|root| (root, unreadable(root)))
        .into_iter()
        .find(|(_, unreadable)| !unreadable.is_empty())
    else {
        println!("skipped: everything in {tried:?} can be read, or nothing is there");
        return;
    };
    let Some(expected) = reference("/".as_ref(), root.as_ref()) else {
        return;
    };
    assert!(!expected.is_empty(), "some of {root} can be read");

    let output = output(digest("/".as_ref(), 2).arg(root));
    assert_eq!(output.status.code(), Some(1), "{}", stderr(&output));
    assert_same_lines(&output.stdout, &expected);
    let complaints = complaints(&output);
    assert_eq!(complaints.len(), unreadable.len(), "{complaints:?}");
    for path in unreadable {
        let start = format!("digest: {}: ", path.display());
        assert!(
            complaints.iter().any(|line| line.starts_with(&start)),
            "{path:?} is not in {complaints:?}"
        );
    }
}

#[test]
fn a_read_that_fails_is_named() {
    // It can be opened, but nothing is mapped at address 0.
    let memory = "/proc/self/mem";
    if !Path::new(memory).exists() {
        println!("skipped: there is no {memory}");
        return;
    }
    let output = output(digest("/".as_ref(), 2).arg(memory));
    assert_eq!(output.status.code(), Some(1), "{}", stderr(&output));
    assert!(output.stdout.is_empty());
    let complaints = complaints(&output);
    assert_eq!(complaints.len(), 1, "{complaints:?}");
    assert!(complaints[0].starts_with("digest: /proc/self/mem: "));
}

/// So many files that the output is several times what a pipe holds.
fn large_tree() -> (TempDir, Vec<String>) {
    let temp = TempDir::new();
    let padding = "x".repeat(100);
    let names: Vec<_> =
        (0..3_000).map(|number| format!("tree/{}/{number:04}-{padding}", number % 7)).collect();
    for name in &names {
        temp.file(name, "");
    }
    (temp, names)
}

#[test]
fn files_that_vanish_spoil_nothing_but_the_status() {
    let (temp, names) = large_tree();
    let child = digest(&temp.0, 2)
        .arg("tree")
        .stdout(Stdio::piped())
        .stderr(Stdio::piped())
        .spawn()
        .expect("the example runs");
    // How many of them it has read by now is left to chance; what it says must be right anyway.
    for name in names.iter().step_by(2) {
        fs::remove_file(temp.0.join(name)).expect("the file is there");
    }
    let output = finish(child, "digest");

    let stdout = String::from_utf8(output.stdout.clone()).expect("plain names");
    let listed: Vec<_> = stdout
        .lines()
        .map(|line| line.strip_prefix(&format!("{EMPTY}  ")).expect("the sum of nothing"))
        .collect();
    assert!(listed.is_sorted(), "sorted");
    let listed: HashSet<_> = listed.into_iter().collect();
    let complaints = complaints(&output);
    for survivor in names.iter().skip(1).step_by(2) {
        assert!(listed.contains(survivor.as_str()), "{survivor} is missing");
    }
    for line in &complaints {
        let name = line
            .strip_prefix("digest: ")
            .and_then(|line| line.strip_suffix(": No such file or directory (os error 2)"))
            .unwrap_or_else(|| panic!("{line}"));
        assert!(!listed.contains(name), "{name} is both listed and missed");
    }
    let status = i32::from(!complaints.is_empty());
    assert_eq!(output.status.code(), Some(status), "{complaints:?}");
}

#[test]
fn a_reader_that_has_enough_is_no_failure() {
    let (temp, _) = large_tree();
    for processors in [1, 2] {
        let mut child = digest(&temp.0, processors)
            .arg("tree")
            .stdout(Stdio::piped())
            .stderr(Stdio::piped())
            .spawn()
            .expect("the example runs");
        let mut first = String::new();
        let stdout = child.stdout.take().expect("stdout is a pipe");
        BufReader::with_capacity(1, stdout).read_line(&mut first).expect("there is a first line");
        assert!(first.starts_with(&format!("{EMPTY}  tree/0/0000-")));

        let output = finish(child, "digest | head -1");
        assert_eq!(output.status.code(), Some(0), "{}", stderr(&output));
        assert_eq!(stderr(&output), "");
    }
}

#[test]
fn output_that_cannot_be_written_is_a_failure() {
    let Ok(full) = File::options().write(true).open("/dev/full") else {
        println!("skipped: there is no /dev/full");
        return;
    };
    let temp = TempDir::new();
    temp.file("file", "");
    let child =
        digest(&temp.0, 1).stdout(full).stderr(Stdio::piped()).spawn().expect("the example runs");
    let output = finish(child, "digest > /dev/full");
    assert_eq!(output.status.code(), Some(1));
    assert!(
        stderr(&output).starts_with("digest: stdout: No space left on device"),
        "{}",
        stderr(&output)
    );
}

#[test]
fn a_closed_stderr_is_no_reason_to_panic() {
    let temp = TempDir::new();
    temp.file("file", "");
    let mut child = digest(&temp.0, 1)
        .args(["nowhere"])
        .stdout(Stdio::piped())
        .stderr(Stdio::piped())
        .spawn()
        .expect("the example runs");
    drop(child.stderr.take());
    let output = finish(child, "digest 2>&-");
    assert_eq!(output.status.code(), Some(1));
}

#[test]
fn a_wrong_command_line_is_explained() {
    for wrong in [&["--frob"][..], &["-x"], &[".", "."], &["--", ".", "-x"]] {
        let output = output(digest("/".as_ref(), 1).args(wrong));
        let stderr = stderr(&output);
        assert_eq!(output.status.code(), Some(2), "{wrong:?}: {stderr}");
        assert!(output.stdout.is_empty(), "{wrong:?}");
        assert!(stderr.starts_with("digest: "), "{stderr}");
        assert!(stderr.contains("--help"), "{stderr}");
    }
    let output = output(digest("/".as_ref(), 1).arg("--help"));
    assert_eq!(output.status.code(), Some(0));
    let help = String::from_utf8(output.stdout).expect("the help is text");
    assert!(help.contains("Usage: digest"), "{help}");
}
