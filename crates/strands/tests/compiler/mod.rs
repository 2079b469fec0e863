//! What the compiler says about programs that use the library.

use std::collections::BTreeMap;
use std::env;
use std::fs;
use std::path::{Path, PathBuf};
use std::process::Command;

/// Compiles a program that has a function for each of these bodies, and returns the errors in each.
pub(crate) fn errors(name: &str, bodies: &[&str]) -> BTreeMap<usize, Vec<String>> {
    let directory = Path::new(env!("CARGO_TARGET_TMPDIR")).join("mistakes").join(name);
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
