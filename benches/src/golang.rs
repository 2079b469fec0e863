//! Builds the Go program, where there is a Go toolchain.

use std::path::{Path, PathBuf};
use std::process::Command;

/// The Go program, ready to run.
pub(crate) struct Go {
    pub(crate) program: PathBuf,
    pub(crate) version: String,
}

/// `given` or `$GO` or `go` on the PATH. An error says why Go has no rows.
pub(crate) fn build(given: Option<&Path>) -> Result<Go, String> {
    let command = match given {
        Some(path) => path.to_owned(),
        None => std::env::var_os("GO").map_or_else(|| PathBuf::from("go"), PathBuf::from),
    };
    // Beside this program, that is, in the target directory.
    let here = std::env::current_exe().map_err(|e| e.to_string())?;
    let directory = here.parent().ok_or("this program has no directory")?;
    let go = |words: &[&str]| -> Result<String, String> {
        let output = Command::new(&command)
            .args(words)
            .current_dir(concat!(env!("CARGO_MANIFEST_DIR"), "/go"))
            .env("GOFLAGS", "-mod=mod")
            .env("GOTOOLCHAIN", "local")
            .env("GO111MODULE", "on")
            .env("GOWORK", "off")
            .env("CGO_ENABLED", "0")
            .env("GOCACHE", directory.join("go-cache"))
            .output()
            .map_err(|_| "not installed".to_owned())?;
        if !output.status.success() {
            let stderr = String::from_utf8_lossy(&output.stderr);
            let line = stderr.lines().rfind(|line| !line.trim().is_empty());
            return Err(format!("go does not work: {}", line.unwrap_or_default()));
        }
        Ok(String::from_utf8_lossy(&output.stdout).trim().to_owned())
    };
    let version = go(&["env", "GOVERSION"])?;
    let program = directory.join("strands-bench-go");
    let output = program.to_str().ok_or("a path that is not UTF-8")?;
    go(&["build", "-o", output, "."])?;
    Ok(Go { program, version })
}
