//! What roaming takes for granted of the C library is checked at its start: wherever one thing is not so, goroutines are at
//! home, one line says why, and so do the metrics. And where `fs` may only be loaded by a system call, they roam all
//! the same.
//!
//! The C library here is as expected. A library that is loaded before it and answers in its place is not: it is told
//! by a variable which lie to tell.

mod child;
mod roamers;

use child::{Child, Ended};
use roamers::{on_threads, roam, tid};
use std::path::PathBuf;
use std::process::{Command, ExitStatus};
use std::sync::OnceLock;
use strands::thread::{self, Affinity};
use strands::{channel, runtime};

/// Says to `dlsym` that a function is missing, or gives another value for a number; and stands in for some functions.
const LIAR: &str = r#"
#define _GNU_SOURCE
#include <dlfcn.h>
#include <errno.h>
#include <link.h>
#include <stdarg.h>
#include <stdlib.h>
#include <string.h>
#include <sys/auxv.h>
#include <sys/prctl.h>
#include <sys/syscall.h>

static int told(const char *lie) {
    const char *what = getenv("TEST_LIE");
    return what && !strcmp(what, lie);
}
static int told_of(const char *kind, const char *name) {
    const char *what = getenv("TEST_LIE");
    size_t n = strlen(kind);
    return what && !strncmp(what, kind, n) && !strcmp(what + n, name);
}

static void *refuse(void *at) { (void)at; return 0; }
/* Whatever is asked for: too large a number, a wrong place. */
static unsigned long large[4] = { -1, -1, -1, -1 };
static unsigned int described[3] = { 32, 1, 128 };
static unsigned int moved[3] = { 64, 1, 1000 };
static void huge(size_t *size, size_t *align) { *size = 1 << 20; *align = 64; }
static void *theirs_of(const char *name);
static void tiny(size_t *size, size_t *align) {
    *size = *(unsigned *)theirs_of("_thread_db_sizeof_pthread") + 16;
    *align = 64;
}
/* A block whose variables are not those of the program. */
static void *blank(void *at) {
    at = ((void *(*)(void *))theirs_of("_dl_allocate_tls"))(at);
    if (at) memset((char *)at - 1024, 0, 1024);
    return at;
}

static void *(*their_dlsym)(void *, const char *);
static void *theirs_of(const char *name) {
    if (!their_dlsym) *(void **)&their_dlsym = dlvsym(RTLD_NEXT, "dlsym", "GLIBC_2.2.5");
    return their_dlsym(RTLD_DEFAULT, name);
}

void *dlsym(void *handle, const char *name) {
    if (told_of("without ", name)) return 0;
    if (told_of("wrong ", name)) return described;
    if (told_of("large ", name)) return large;
    if (told_of("refusing ", name)) return (void *)refuse;
    if (told_of("moved ", name)) return moved;
    if (told_of("blank ", name)) return (void *)blank;
    if (told_of("huge ", name)) return (void *)huge;
    if (told_of("tiny ", name)) return (void *)tiny;
    if (!their_dlsym) theirs_of(name);
    return their_dlsym(handle, name);
}

unsigned long getauxval(unsigned long type) {
    static unsigned long (*theirs)(unsigned long);
    if (!theirs) *(void **)&theirs = dlvsym(RTLD_NEXT, "getauxval", "GLIBC_2.16");
    if (type == AT_HWCAP2 && (told("no instruction") || told("no way"))) return 0;
    return theirs(type);
}

long syscall(long number, ...) {
    static long (*theirs)(long, ...);
    va_list list;
    long a[6];
    va_start(list, number);
    for (int i = 0; i < 6; i++) a[i] = va_arg(list, long);
    va_end(list);
    if (!theirs) *(void **)&theirs = dlvsym(RTLD_NEXT, "syscall", "GLIBC_2.2.5");
    if ((number == SYS_arch_prctl && told("no way"))
        || (number == SYS_get_robust_list && told("no list"))
        || (number == SYS_rt_sigaction && told("no handler"))) {
        errno = EPERM;
        return -1;
    }
    return theirs(number, a[0], a[1], a[2], a[3], a[4], a[5]);
}

typedef int visitor(struct dl_phdr_info *, size_t, void *);
static __thread visitor *visit_of;
static int misnumber(struct dl_phdr_info *info, size_t size, void *data) {
    struct dl_phdr_info other = *info;
    if (other.dlpi_tls_modid) other.dlpi_tls_modid += 1000;
    return visit_of(&other, size, data);
}

int dl_iterate_phdr(visitor *visit, void *data) {
    static int (*theirs)(visitor *, void *);
    if (!theirs) *(void **)&theirs = dlvsym(RTLD_NEXT, "dl_iterate_phdr", "GLIBC_2.2.5");
    char name[16] = "";
    prctl(PR_GET_NAME, name);
    if (told("no modules")) return 0;
    if (told("no modules there") && !strncmp(name, "strands-calib", 13)) return 0;
    if (!told("misnumbered modules")) return theirs(visit, data);
    visit_of = visit;
    return theirs(misnumber, data);
}
"#;

/// Where the library is, or `None` if nobody here can make it.
fn liar() -> Option<&'static PathBuf> {
    static MADE: OnceLock<Option<PathBuf>> = OnceLock::new();
    let made = MADE.get_or_init(|| {
        if !cfg!(all(target_os = "linux", target_env = "gnu", target_arch = "x86_64")) {
            eprintln!("skipped: goroutines do not roam here anyway");
            return None;
        }
        let directory = PathBuf::from(env!("CARGO_TARGET_TMPDIR"));
        let name = |suffix| directory.join(format!("roaming_liar_{}.{suffix}", std::process::id()));
        let (source, library) = (name("c"), name("so"));
        std::fs::write(&source, LIAR).unwrap();
        let mut compiler = Command::new("cc");
        compiler.args(["-shared", "-fPIC", "-O1", "-w", "-o"]).args([&library, &source]);
        let built = compiler.status();
        if !built.as_ref().is_ok_and(ExitStatus::success) {
            eprintln!("skipped: no C compiler builds a shared library here: {built:?}");
            return None;
        }
        Some(library)
    });
    made.as_ref()
}

/// Some that would roam, and say how often they have changed their threads, if they do.
fn go_round() {
    let talks = (0..8).map(|_| {
        let (tx, rx) = channel::bounded::<i32>(0);
        let asks = roam(move || (0..200).for_each(|n| tx.send(n).unwrap()));
        let answers = roam(move || {
            let before = std::thread::current().id();
            assert_eq!(rx.iter().sum::<i32>(), 199 * 100);
            before == std::thread::current().id()
        });
        (asks, answers)
    });
    for (asks, answers) in talks.collect::<Vec<_>>() {
        asks.join().unwrap();
        assert!(answers.join().unwrap());
    }
}

/// The process in which that lie is told, all goroutines are to roam, and are found to be at home.
fn at_home(test: &'static str, lie: &str) -> Option<Ended> {
    let child = Child::of(test).env("TEST_LIE", lie).env("LD_PRELOAD", liar()?);
    let ended = child.env("STRANDS_AFFINITY", "roaming").run(|| {
        for _ in 0..10 {
            let stays = roam(|| {
                let before = tid();
                (0..10).for_each(|_| thread::yield_now());
                before == tid()
            });
            assert!(stays.join().unwrap());
        }
        go_round();
        let metrics = runtime::metrics();
        assert_eq!(metrics.affinity, Affinity::Home);
        println!("\nrefused {}", metrics.roaming_refused.expect("a reason"));
    });
    ended.assert_success();
    Some(ended)
}

#[test]
fn each_assumption_that_fails_is_named_and_goroutines_are_at_home() {
    const LIES: &[(&str, &str)] = &[
        ("without gnu_get_libc_version", "it takes glibc, linked dynamically"),
        ("without _dl_allocate_tls", "the C library has no _dl_allocate_tls"),
        ("without _dl_deallocate_tls", "the C library has no _dl_deallocate_tls"),
        ("without _dl_get_tls_static_info", "the C library has no _dl_get_tls_static_info"),
        ("without __ctype_init", "the C library has no __ctype_init"),
        ("without __call_tls_dtors", "the C library has no __call_tls_dtors"),
        ("without __pthread_keys", "the C library has no __pthread_keys"),
        ("without _thread_db_pthread_tid", "the C library has no _thread_db_pthread_tid"),
        ("without _thread_db_pthread_specific", "the C library has no _thread_db_pthread_specific"),
        ("without _thread_db_sizeof_pthread", "the C library has no _thread_db_sizeof_pthread"),
        ("large _thread_db_sizeof_pthread", "the thread-local block has an odd size"),
        ("huge _dl_get_tls_static_info", "the thread-local block of a thread takes 1048576 bytes"),
        ("large _thread_db_pthread_tid", "the thread-local block is described oddly"),
        ("large _thread_db_pthread_specific", "the thread-local block is described oddly"),
        ("wrong _thread_db_pthread_tid", "the thread's id is not where it should be"),
        ("refusing _dl_allocate_tls", "no memory for a thread-local block"),
        ("no way", "the kernel lets nobody change the thread pointer"),
        ("no list", "the kernel does not say where the robust list is"),
        ("no modules", "the C library's thread-locals are not in the block"),
        (
            "tiny _dl_get_tls_static_info",
            "this library's thread-locals are not in the program's own block",
        ),
        ("moved _thread_db_pthread_specific", "the thread's keys are not where they should be"),
        ("misnumbered modules", "the table of dynamic thread-locals is not as expected"),
        ("no modules there", "the thread-local blocks of two threads differ"),
        ("blank _dl_allocate_tls", "a trial with thread-locals of its own went wrong"),
        ("no handler", "the C library has no handler for changes of the user"),
    ];
    let test = "each_assumption_that_fails_is_named_and_goroutines_are_at_home";
    for (lie, why) in LIES {
        let Some(ended) = at_home(test, lie) else { return };
        let said: Vec<_> =
            ended.stderr.lines().filter(|line| line.starts_with("strands:")).collect();
        let line = format!("strands: goroutines cannot roam here, and are at home instead: {why}");
        assert_eq!(said, [line], "{lie}: {ended}");
        assert!(ended.stdout.contains(&format!("\nrefused {why}\n")), "{lie}: {ended}");
    }
}

#[test]
fn without_the_instruction_they_roam_by_a_system_call() {
    let test = "without_the_instruction_they_roam_by_a_system_call";
    let Some(liar) = liar() else { return };
    let child = Child::of(test).env("TEST_LIE", "no instruction").env("LD_PRELOAD", liar);
    let ended = child.env("STRANDS_AFFINITY", "roaming").run(|| {
        on_threads(3, |_| ()).into_iter().for_each(|handle| handle.join().unwrap());
        go_round();
        // And the change of a user, which loads it as well.
        // SAFETY: no pointers; nothing changes.
        roam(|| assert_eq!(unsafe { libc::setuid(libc::geteuid()) }, 0)).join().unwrap();
        let metrics = runtime::metrics();
        assert_eq!((metrics.affinity, metrics.roaming_refused), (Affinity::Roaming, None));
    });
    ended.assert_success();
    assert!(!ended.stderr.contains("cannot roam"), "{ended}");
}
