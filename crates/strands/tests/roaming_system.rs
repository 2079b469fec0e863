//! A roaming goroutine is a thread to the C library, and what the kernel does to threads does it no harm.

mod child;
mod roamers;

use child::Child;
use roamers::{on_threads, roam, start, stay, tid};
use std::cell::{Cell, UnsafeCell};
use std::collections::HashSet;
use std::ffi::{CString, c_int, c_void};
use std::mem::MaybeUninit;
use std::net::ToSocketAddrs;
use std::path::Path;
use std::process::Command;
use std::sync::atomic::{AtomicBool, AtomicU64, AtomicUsize, Ordering};
use std::sync::{Arc, OnceLock};
use std::time::Duration;
use strands::thread::{self, Affinity};
use strands::{channel, runtime};

fn errno() -> i32 {
    std::io::Error::last_os_error().raw_os_error().unwrap()
}

fn set_errno(value: i32) {
    // SAFETY: always there, and the calling thread's.
    unsafe { *libc::__errno_location() = value };
}

#[test]
fn errno_stays_with_it() {
    if !start() {
        return;
    }
    let handles: Vec<_> = (1..100)
        .map(|number| {
            roam(move || {
                assert_eq!(errno(), 0, "as in a new thread");
                for _ in 0..200 {
                    set_errno(number);
                    thread::yield_now();
                    assert_eq!(errno(), number);
                }
            })
        })
        .collect();
    handles.into_iter().for_each(|handle| handle.join().unwrap());
}

#[test]
fn names_are_looked_up_and_programs_run_and_backtraces_taken() {
    if !start() {
        return;
    }
    let handles: Vec<_> = (0..12)
        .map(|_| {
            roam(|| {
                assert!("localhost:80".to_socket_addrs().unwrap().count() > 0);
                thread::yield_now();
                let trace = std::backtrace::Backtrace::force_capture().to_string();
                assert!(trace.contains("names_are_looked_up"), "{trace}");
                thread::yield_now();
                let output = Command::new("/bin/echo").arg("hello").output().unwrap();
                assert_eq!(output.stdout, b"hello\n");
                thread::yield_now();
                std::thread::spawn(tid).join().unwrap()
            })
        })
        .collect();
    let tids: HashSet<i32> = handles.into_iter().map(|handle| handle.join().unwrap()).collect();
    assert!(!tids.is_empty());
}

/// A mutex of pthread's that its owner may lock again.
struct Recursive(UnsafeCell<libc::pthread_mutex_t>);

// SAFETY: a mutex.
unsafe impl Sync for Recursive {}
// SAFETY: it is not moved once it is in use.
unsafe impl Send for Recursive {}

impl Recursive {
    fn new() -> Arc<Recursive> {
        let mutex = Arc::new(Recursive(UnsafeCell::new(libc::PTHREAD_MUTEX_INITIALIZER)));
        let mut attributes = MaybeUninit::uninit();
        // SAFETY: initialised before use, and destroyed after it.
        unsafe {
            libc::pthread_mutexattr_init(attributes.as_mut_ptr());
            libc::pthread_mutexattr_settype(attributes.as_mut_ptr(), libc::PTHREAD_MUTEX_RECURSIVE);
            assert_eq!(libc::pthread_mutex_init(mutex.0.get(), attributes.as_ptr()), 0);
            libc::pthread_mutexattr_destroy(attributes.as_mut_ptr());
        }
        mutex
    }
}

#[test]
fn recursive_mutexes_know_their_owner() {
    if !start() {
        return;
    }
    let mutex = Recursive::new();
    let inside = Arc::new(AtomicUsize::new(0));
    let handles: Vec<_> = (0..50)
        .map(|_| {
            let (mutex, inside) = (mutex.clone(), inside.clone());
            roam(move || {
                let mut entered = 0;
                for _ in 0..200 {
                    // SAFETY: initialised, and unlocked as often as locked, by its owner.
                    unsafe {
                        if libc::pthread_mutex_trylock(mutex.0.get()) != 0 {
                            thread::yield_now();
                            continue;
                        }
                        assert_eq!(inside.fetch_add(1, Ordering::SeqCst), 0, "two are in");
                        thread::yield_now();
                        assert_eq!(libc::pthread_mutex_lock(mutex.0.get()), 0);
                        thread::yield_now();
                        assert_eq!(libc::pthread_mutex_unlock(mutex.0.get()), 0);
                        inside.fetch_sub(1, Ordering::SeqCst);
                        assert_eq!(libc::pthread_mutex_unlock(mutex.0.get()), 0);
                    }
                    entered += 1;
                }
                entered
            })
        })
        .collect();
    let entered: u32 = handles.into_iter().map(|handle| handle.join().unwrap()).sum();
    assert!(entered > 0);
}

#[test]
fn values_under_pthread_keys_are_its_own_and_destroyed_at_its_end() {
    static DESTROYED: AtomicUsize = AtomicUsize::new(0);
    unsafe extern "C" fn destroy(value: *mut c_void) {
        DESTROYED.fetch_add(value.addr(), Ordering::SeqCst);
    }
    if !start() {
        return;
    }
    // More than the first part of the table holds.
    let keys: Vec<libc::pthread_key_t> = (0..40)
        .map(|_| {
            let mut key = 0;
            // SAFETY: it writes the key.
            assert_eq!(unsafe { libc::pthread_key_create(&raw mut key, Some(destroy)) }, 0);
            key
        })
        .collect();
    let keys = Arc::new(keys);
    let handles: Vec<_> = (0..200)
        .map(|_| {
            let keys = keys.clone();
            roam(move || {
                for key in keys.iter() {
                    // SAFETY: keys of ours.
                    unsafe {
                        assert!(libc::pthread_getspecific(*key).is_null(), "another's value");
                        libc::pthread_setspecific(*key, std::ptr::without_provenance(1));
                    }
                }
                thread::yield_now();
                for key in keys.iter() {
                    // SAFETY: as above.
                    assert!(!unsafe { libc::pthread_getspecific(*key) }.is_null());
                }
            })
        })
        .collect();
    handles.into_iter().for_each(|handle| handle.join().unwrap());
    child::wait_until("all are destroyed", || DESTROYED.load(Ordering::SeqCst) == 200 * keys.len());
}

#[test]
fn the_locale_and_the_like_begin_anew() {
    if !start() {
        return;
    }
    // SAFETY: a locale of ours, used by these goroutines only and never freed.
    let plain = unsafe { libc::newlocale(libc::LC_ALL_MASK, c"C".as_ptr(), std::ptr::null_mut()) };
    assert!(!plain.is_null());
    let plain = plain.expose_provenance();
    for _ in 0..100 {
        let before = roam(move || {
            let plain = std::ptr::with_exposed_provenance_mut::<c_void>(plain);
            // SAFETY: a valid locale.
            unsafe { libc::uselocale(plain.cast()) }.addr()
        });
        assert_eq!(before.join().unwrap(), usize::MAX, "the global locale");
    }
}

/// A shared library with a thread-local, as C has them.
const LIBRARY: &str = "
static __thread long counter = 100;
static __thread char room[3000];
long next(void) { room[counter % 3000] = 1; return ++counter; }
long used(void) { long n = 0; for (int i = 0; i < 3000; i++) n += room[i]; return n; }
";

#[test]
fn a_library_that_is_loaded_later_has_thread_locals_in_each() {
    if !start() {
        return;
    }
    let dir = Path::new(env!("CARGO_TARGET_TMPDIR"));
    let (source, library) = (dir.join("roaming_tls.c"), dir.join("roaming_tls.so"));
    std::fs::write(&source, LIBRARY).unwrap();
    let built = Command::new("cc")
        .args(["-shared", "-fPIC", "-O1", "-o"])
        .args([&library, &source])
        .status();
    if !built.as_ref().is_ok_and(std::process::ExitStatus::success) {
        eprintln!("skipped: no C compiler builds a shared library here: {built:?}");
        return;
    }
    // Some live already when it is loaded.
    let (tx, rx) = channel::bounded::<[usize; 2]>(0);
    let use_it = |functions: [usize; 2]| {
        // SAFETY: the two functions of the library, which stays loaded.
        let [next, used] = unsafe {
            std::mem::transmute::<[usize; 2], [extern "C" fn() -> std::ffi::c_long; 2]>(functions)
        };
        for round in 1..=50 {
            assert_eq!(next(), 100 + round);
            thread::yield_now();
            assert_eq!(used(), round);
        }
    };
    let early: Vec<_> = (0..20)
        .map(|_| {
            let rx = rx.clone();
            roam(move || use_it(rx.recv().unwrap()))
        })
        .collect();
    let path = CString::new(library.to_str().unwrap()).unwrap();
    // SAFETY: a library of ours without constructors, and its two functions.
    let functions = unsafe {
        let handle = libc::dlopen(path.as_ptr(), libc::RTLD_NOW);
        assert!(!handle.is_null(), "it does not load");
        [c"next", c"used"].map(|name| libc::dlsym(handle, name.as_ptr()).expose_provenance())
    };
    assert!(functions.iter().all(|function| *function != 0));
    early.iter().for_each(|_| tx.send(functions).unwrap());
    early.into_iter().for_each(|handle| handle.join().unwrap());
    // And others come later, on the same stacks: to them it is new.
    for _ in 0..20 {
        let late: Vec<_> = (0..20).map(|_| roam(move || use_it(functions))).collect();
        late.into_iter().for_each(|handle| handle.join().unwrap());
    }
}

#[test]
fn a_fork_in_one_may_end_the_child_or_run_a_program() {
    let ended = Child::of("a_fork_in_one_may_end_the_child_or_run_a_program").run(|| {
        assert!(start());
        let handles: Vec<_> = (0..20)
            .map(|number| {
                roam(move || {
                    thread::yield_now();
                    // SAFETY: the child does what a child of many threads may.
                    let child = unsafe { libc::fork() };
                    if child == 0 {
                        // SAFETY: as above.
                        unsafe {
                            libc::alarm(60);
                            libc::_exit(number);
                        }
                    }
                    thread::yield_now();
                    let mut status = 0;
                    // SAFETY: our child, and it writes the status.
                    assert_eq!(unsafe { libc::waitpid(child, &raw mut status, 0) }, child);
                    assert_eq!(libc::WEXITSTATUS(status), number);
                    let run = Command::new("/bin/true").status().unwrap();
                    assert!(run.success());
                })
            })
            .collect();
        handles.into_iter().for_each(|handle| handle.join().unwrap());
    });
    ended.assert_success();
}

#[test]
fn signals_that_arrive_during_switches_do_no_harm() {
    static HANDLED: AtomicU64 = AtomicU64::new(0);
    thread_local! {
        static IN_HANDLER: Cell<u64> = const { Cell::new(0) };
        static OUTSIDE: Cell<u64> = const { Cell::new(0x5eed) };
    }
    extern "C" fn on_signal(_: c_int) {
        let saved = errno();
        set_errno(99);
        IN_HANDLER.set(IN_HANDLER.get() + 1);
        let mut clock = MaybeUninit::<libc::timespec>::uninit();
        // SAFETY: allowed in handlers.
        unsafe { libc::clock_gettime(libc::CLOCK_MONOTONIC, clock.as_mut_ptr()) };
        HANDLED.fetch_add(1, Ordering::Relaxed);
        set_errno(saved);
    }
    let ended = Child::of("signals_that_arrive_during_switches_do_no_harm").run(|| {
        assert!(start());
        // SAFETY: the handler does what handlers may. Whatever it interrupts goes on.
        unsafe {
            let mut action: libc::sigaction = MaybeUninit::zeroed().assume_init();
            action.sa_sigaction = on_signal as *const () as usize;
            action.sa_flags = libc::SA_RESTART | libc::SA_ONSTACK;
            assert_eq!(libc::sigaction(libc::SIGUSR1, &raw const action, std::ptr::null_mut()), 0);
        }
        let workers: Arc<OnceLock<Vec<i32>>> = Arc::default();
        let tids = on_threads(3, |_| tid());
        workers.set(tids.into_iter().map(|handle| handle.join().unwrap()).collect()).unwrap();
        let done = Arc::new(AtomicBool::new(false));
        let storm = std::thread::spawn({
            let done = done.clone();
            move || {
                while !done.load(Ordering::Relaxed) {
                    for worker in workers.get().unwrap() {
                        // SAFETY: threads of this process.
                        unsafe {
                            libc::syscall(libc::SYS_tgkill, libc::getpid(), *worker, libc::SIGUSR1)
                        };
                    }
                    std::thread::sleep(Duration::from_micros(20));
                }
            }
        });
        let handles: Vec<_> = (1..=50)
            .map(|number| {
                roam(move || {
                    for round in 0..4_000 {
                        set_errno(number);
                        OUTSIDE.set(round);
                        thread::yield_now();
                        assert_eq!((errno(), OUTSIDE.get()), (number, round));
                    }
                })
            })
            .collect();
        handles.into_iter().for_each(|handle| handle.join().unwrap());
        child::wait_until("enough signals", || HANDLED.load(Ordering::Relaxed) > 300);
        done.store(true, Ordering::Relaxed);
        storm.join().unwrap();
    });
    ended.assert_success();
}

#[test]
fn an_overflow_names_the_one_that_roams() {
    #[inline(never)]
    fn deeper(depth: u64) -> u64 {
        let room = std::hint::black_box([depth; 64]);
        if depth == u64::MAX { 0 } else { deeper(depth + 1) + room[3] }
    }
    let ended = Child::of("an_overflow_names_the_one_that_roams").run(|| {
        assert!(start());
        let builder = thread::Builder::new().name("deep nomad".into()).affinity(Affinity::Roaming);
        let handle = builder.stack_size(256 << 10).spawn(|| {
            (0..10).for_each(|_| thread::yield_now());
            deeper(0)
        });
        let _ = handle.unwrap().join();
    });
    assert!(!ended.status.success());
    ended.assert_said(&["\"deep nomad\"", "has overflowed its stack of 256 KiB"]);
}

/// What the process has in memory, in bytes.
fn resident() -> usize {
    let text = std::fs::read_to_string("/proc/self/statm").unwrap();
    text.split(' ').nth(1).unwrap().parse::<usize>().unwrap() * 4096
}

#[test]
fn a_million_short_ones_leave_nothing_behind() {
    let ended = Child::of("a_million_short_ones_leave_nothing_behind").run(|| {
        assert!(start());
        let some = |count: usize| {
            let mut handles = Vec::new();
            for number in 0..count {
                handles.push(roam(move || {
                    // Something of everything that a thread might leave.
                    let text = std::hint::black_box(format!("{number}"));
                    let _ = std::thread::current().id();
                    text.len()
                }));
                if handles.len() == 100 {
                    handles.drain(..).for_each(|handle| assert!(handle.join().unwrap() > 0));
                }
            }
            handles.into_iter().for_each(|handle| assert!(handle.join().unwrap() > 0));
        };
        // Spawned by one of them: from a plain thread each spawn would wake another.
        roam(move || some(100_000)).join().unwrap();
        let before = resident();
        roam(move || some(1_000_000)).join().unwrap();
        let grown = resident().saturating_sub(before);
        println!("grown by {grown} bytes");
        // A byte for each would be a megabyte.
        assert!(grown < 4 << 20, "grown by {grown} bytes, from {before}");
    });
    ended.assert_success();
}

#[test]
fn stacks_of_both_kinds_are_shared_out_again() {
    thread_local! { static COUNT: Cell<u64> = const { Cell::new(0) }; }
    if !start() {
        return;
    }
    // One after another they get the same stacks, with a block on them or without one.
    for round in 0..2_000 {
        let roaming = round % 3 == 0;
        let body = move || {
            let room = std::hint::black_box([round; 600]);
            thread::yield_now();
            assert!(room.iter().all(|word| *word == round));
            if roaming {
                COUNT.set(COUNT.get() + 1);
                assert_eq!(COUNT.get(), 1);
            }
        };
        if roaming {
            roam(body).join().unwrap()
        } else {
            stay(body).join().unwrap()
        };
    }
    assert!(runtime::metrics().goroutines_started >= 2_000);
}
