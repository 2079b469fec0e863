//! `#[strands::main]` and `#[strands::test]`: what they run, and what they say about mistakes.

use std::env;
use std::error::Error;
use std::fs;
use std::num::ParseIntError;
use std::path::{Path, PathBuf};
use std::process::{Command, ExitCode, Output};

use strands::channel;

// ---- #[strands::test] ----

#[strands::test]
fn a_test_may_block() {
    let (tx, rx) = channel::bounded(0);
    let sender = strands::go(move || tx.send(42));
    assert_eq!(rx.recv(), Ok(42));
    sender.join().unwrap().unwrap();
}

#[strands::test]
fn a_test_may_return_a_result() -> Result<(), ParseIntError> {
    assert_eq!("42".parse::<i32>()?, 42);
    Ok(())
}

#[strands::test]
fn a_result_need_not_be_send() -> Result<(), Box<dyn Error>> {
    let rc = std::rc::Rc::new("42");
    assert_eq!(rc.parse::<i32>()?, 42);
    Ok(())
}

#[strands::test]
#[expect(clippy::unused_unit, reason = "the spelling is what is tested")]
fn a_test_may_spell_out_the_unit() -> () {
    assert_eq!(strands::go(|| 42).join().unwrap(), 42);
}

#[strands::test]
fn a_test_may_return_an_exit_code() -> ExitCode {
    ExitCode::SUCCESS
}

#[strands::test]
#[should_panic]
fn a_panic_reaches_the_harness() {
    panic!("as it should");
}

#[should_panic(expected = "out of tea")]
#[strands::test]
fn a_panic_keeps_its_message_whatever_the_order_of_attributes() {
    panic!("we are out of tea");
}

#[strands::test]
#[should_panic = "from a child"]
fn a_childs_panic_can_be_passed_on() {
    let child = strands::go::<_, ()>(|| panic!("from a child"));
    if let Err(panic) = child.join() {
        std::panic::resume_unwind(panic);
    }
}

#[strands::test]
#[cfg(any())]
fn what_is_not_configured_is_not_compiled() {
    this_does_not_exist();
}

#[strands::test]
#[expect(unused_variables, reason = "the attribute is what is tested")]
/// A comment is an attribute too.
fn attributes_reach_the_body() {
    let nobody_reads_this = 42;
}

/// In a module, with a visibility, and with a body that uses the surrounding names.
mod inner {
    const ANSWER: i32 = 42;

    fn helper() -> i32 {
        ANSWER
    }

    #[strands::test]
    pub(super) fn a_test_sees_its_module() {
        assert_eq!(helper(), ANSWER);
    }
}

macro_rules! tests {
    ($($(#[$attribute:meta])* $vis:vis fn $name:ident() -> $output:ty $body:block)*) => {$(
        $(#[$attribute])*
        #[strands::test]
        $vis fn $name() -> $output $body
    )*};
}

tests! {
    #[should_panic]
    fn a_macro_may_write_the_test() -> () { panic!("as it should") }

    pub(crate) fn a_macro_may_write_a_test_with_a_result() -> Result<(), ParseIntError> {
        "42".parse::<i32>().map(drop)
    }
}

// ---- #[strands::main], called as the function that it is ----

/// An `ExitCode` compares with nothing, but shows what it is.
fn code(code: ExitCode) -> String {
    format!("{code:?}")
}

#[test]
fn main_returns_success() {
    #[strands::main]
    fn main() {
        assert_eq!(strands::go(|| 42).join().unwrap(), 42);
    }
    assert_eq!(code(main()), code(ExitCode::SUCCESS));
}

#[test]
fn main_returns_its_own_exit_code() {
    #[strands::main]
    fn main() -> ExitCode {
        ExitCode::from(7)
    }
    assert_eq!(code(main()), code(ExitCode::from(7)));
}

#[test]
fn an_error_of_main_is_a_failure() {
    #[strands::main]
    fn main() -> Result<(), Box<dyn Error>> {
        let n: i32 = "forty-two".parse()?;
        unreachable!("{n}");
    }
    assert_eq!(code(main()), code(ExitCode::FAILURE));
}

#[test]
fn main_may_return_any_termination() {
    #[strands::main]
    fn main() -> impl std::process::Termination {
        Ok::<ExitCode, String>(ExitCode::from(3))
    }
    assert_eq!(code(main()), code(ExitCode::from(3)));
}

#[test]
fn a_panic_of_main_passes_through() {
    #[strands::main]
    fn main() -> ExitCode {
        panic!("as it should")
    }
    let panic = std::panic::catch_unwind(main).expect_err("it panics");
    assert_eq!(panic.downcast_ref(), Some(&"as it should"));
}

#[test]
fn main_may_call_itself() {
    use std::sync::atomic::{AtomicU32, Ordering};
    static CALLS: AtomicU32 = AtomicU32::new(0);

    #[strands::main]
    fn main() -> Result<(), String> {
        // Ordering: there is one goroutine.
        match CALLS.fetch_add(1, Ordering::Relaxed) {
            0..5 => main(),
            _ => Err("six".into()),
        }
    }
    assert_eq!(code(main()), code(ExitCode::FAILURE));
    assert_eq!(CALLS.load(Ordering::Relaxed), 6);
}

// ---- Programs of their own, compiled here ----

/// Stands in for the crate, below the program so that its line numbers stay what they are.
const STRANDS: &str = r#"
extern crate self as strands;
pub use strands_macros::{main, test};
pub fn run<T: Send>(f: impl FnOnce() -> T + Send) -> T {
    println!("run");
    f()
}
"#;

struct Program {
    directory: PathBuf,
    compiled: Output,
}

impl Program {
    /// Compiles a program under a name that is its own.
    fn compile(name: &str, source: &str) -> Self {
        let directory = Path::new(env!("CARGO_TARGET_TMPDIR")).join("macros").join(name);
        fs::create_dir_all(&directory).expect("the directory can be made");
        fs::write(directory.join("main.rs"), format!("{source}{STRANDS}")).expect("write");
        let compiled = Command::new(env::var_os("RUSTC").unwrap_or_else(|| "rustc".into()))
            .args(["main.rs", "--edition=2024", "--error-format=short", "-Dwarnings"])
            .arg("--extern")
            .arg(format!("strands_macros={}", macros().display()))
            .current_dir(&directory)
            .output()
            .expect("rustc runs: cargo has just used it");
        Self { directory, compiled }
    }

    /// `line:column: error: message`, for each error.
    fn errors(&self) -> Vec<String> {
        String::from_utf8_lossy(&self.compiled.stderr)
            .lines()
            .filter_map(|line| line.strip_prefix("main.rs:"))
            .map(str::to_owned)
            .collect()
    }

    fn run(&self) -> Output {
        let stderr = String::from_utf8_lossy(&self.compiled.stderr);
        assert!(self.compiled.status.success(), "{stderr}");
        assert_eq!(stderr, "", "no warnings");
        Command::new(self.directory.join(format!("main{}", env::consts::EXE_SUFFIX)))
            .output()
            .expect("the program runs")
    }
}

/// The compiled macros, which lie beside this test. Of several builds the last one is ours.
fn macros() -> PathBuf {
    let test = env::current_exe().expect("a test knows where it is");
    let deps = test.parent().expect("target/PROFILE/deps/TEST");
    let prefix = format!("{}strands_macros-", env::consts::DLL_PREFIX);
    fs::read_dir(deps)
        .expect("it can be listed")
        .flatten()
        .map(|entry| entry.path())
        .filter(|path| {
            let name = path.file_name().unwrap_or_default().to_string_lossy();
            name.starts_with(&prefix) && name.ends_with(env::consts::DLL_SUFFIX)
        })
        .max_by_key(|path| fs::metadata(path).and_then(|file| file.modified()).ok())
        .expect("strands depends on strands-macros")
}

#[test]
fn a_program_runs_its_body_inside_run() {
    let program = Program::compile(
        "run",
        "#[strands::main]\nfn main() -> std::process::ExitCode { println!(\"body\"); 7.into() }",
    );
    let output = program.run();
    assert_eq!(String::from_utf8_lossy(&output.stdout), "run\nbody\n");
    assert_eq!(output.status.code(), Some(7));
}

#[test]
fn a_main_that_never_returns_causes_no_warning() {
    let program =
        Program::compile("never", "#[strands::main]\nfn main() -> ! { std::process::exit(3) }");
    assert_eq!(program.run().status.code(), Some(3));
}

#[test]
fn mistakes_are_named_where_they_are() {
    let no_async = "takes a plain `fn`: blocking code needs no `async`";
    let no_parameters = "takes a `fn` without parameters";
    let no_generics = "takes a `fn` without generic parameters";
    let no_where = "takes a `fn` without a `where` clause";
    let mistakes = [
        // What stands after `#[strands::main`, and where the message points.
        ("]\nasync fn main() {}", "2:1", no_async),
        ("]\npub(crate) async fn main() {}", "2:12", no_async),
        ("]\n/// Doc.\nunsafe fn main() {}", "3:1", "takes a plain `fn`, not `unsafe fn`"),
        ("]\nconst fn main() {}", "2:1", "takes a plain `fn`, not `const fn`"),
        ("]\nextern \"C\" fn main() {}", "2:1", "takes a plain `fn`, not `extern fn`"),
        ("]\nfn main(n: u32) {}", "2:9", no_parameters),
        ("]\nfn main<T>() {}", "2:8", no_generics),
        ("]\nfn main() where u8: Copy {}", "2:11", no_where),
        ("(threads = 4)]\nfn main() {}", "1:17", "takes no arguments"),
        ("(crate = strands)]\nfn main() {}", "1:17", "takes no arguments"),
        ("]\nstruct S;\nfn main() { let _ = S; }", "2:1", "belongs on a `fn`"),
        ("]\nconst N: u8 = 1;\nfn main() { let _ = N; }", "2:1", "belongs on a `fn`"),
        ("]\nmod m {}\nfn main() {}", "2:1", "belongs on a `fn`"),
    ];
    for (number, (source, place, message)) in mistakes.into_iter().enumerate() {
        for attribute in ["main", "test"] {
            // The same under the other attribute, on a function that is not `main`.
            let source = match attribute {
                "test" => {
                    format!("#[strands::test{source}\n")
                        .replace("fn main", "fn it")
                        .replace("fn it() { let", "pub fn it() { let")
                        + "fn main() {}\n"
                }
                _ => format!("#[strands::main{source}\n"),
            };
            let (line, column) = place.split_once(':').expect("line:column");
            let mut column: usize = column.parse().expect("a number");
            if attribute == "test" && message.starts_with("takes a `fn`") {
                column -= "main".len() - "it".len();
            }
            let program = Program::compile(&format!("mistake-{number}-{attribute}"), &source);
            let expected = format!("{line}:{column}: error: `#[strands::{attribute}]` {message}");
            assert_eq!(program.errors(), [expected], "{source}");
        }
    }
}

#[test]
fn main_belongs_on_main() {
    let program = Program::compile("name", "#[strands::main]\nfn start() {}\nfn main() {}\n");
    let expected = "2:4: error: `#[strands::main]` belongs on `fn main`";
    assert_eq!(program.errors(), [expected]);
}

#[test]
fn a_function_without_a_body_is_a_mistake() {
    let program = Program::compile("body", "#[strands::test]\nfn it();\nfn main() {}\n");
    let expected = "2:4: error: `#[strands::test]` belongs on a `fn` with a body";
    assert_eq!(program.errors(), [expected]);
}

#[test]
fn errors_in_the_body_point_at_the_body() {
    let program = Program::compile(
        "mismatch",
        "#[strands::main]\nfn main() {\n    let _: u32 = \"text\";\n    nonsense();\n}\n",
    );
    let errors = program.errors();
    assert_eq!(errors.len(), 2, "{errors:?}");
    assert!(errors.iter().any(|error| error.starts_with("3:18: error[E0308]")), "{errors:?}");
    assert!(errors.iter().any(|error| error.starts_with("4:5: error[E0425]")), "{errors:?}");
}

#[test]
fn a_result_that_cannot_be_reported_is_an_error_of_the_return_type() {
    let program =
        Program::compile("termination", "#[strands::main]\nfn main() -> u32 {\n    1\n}\n");
    let errors = program.errors();
    assert_eq!(errors.len(), 1, "{errors:?}");
    assert!(errors[0].starts_with("2:14: error[E0277]"), "{errors:?}");
    assert!(errors[0].contains("Termination"), "{errors:?}");
}
