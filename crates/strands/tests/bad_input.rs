//! What goes wrong, and what a program gets then: an error that says so, and nothing lost.

mod child;

use child::{Child, wait_until};
use std::any::Any;
use std::collections::HashSet;
use std::ffi::OsStr;
use std::future::Future;
use std::io::ErrorKind;
use std::os::unix::ffi::OsStrExt;
use std::os::unix::process::ExitStatusExt;
use std::panic::{AssertUnwindSafe, catch_unwind, panic_any, resume_unwind};
use std::pin::Pin;
use std::sync::Arc;
use std::sync::atomic::{AtomicUsize, Ordering::SeqCst};
use std::task::{Context, Poll, Wake, Waker};
use strands::channel::bounded;
use strands::runtime::{self, Config, ConfigureError, PanicPolicy, metrics};
use strands::thread::Builder;
use strands::{JoinHandle, go, run, scope, yield_now};

const MIB: usize = 1 << 20;

fn text(payload: Box<dyn Any + Send>) -> String {
    match payload.downcast::<String>() {
        Ok(text) => *text,
        Err(payload) => payload.downcast_ref::<&str>().expect("a text").to_string(),
    }
}

// Builders.

#[test]
fn a_stack_size_out_of_range_is_invalid_input() {
    for size in [0, 1, 4095, (1 << 30) + 1, usize::MAX / 2 + 2, usize::MAX] {
        let spawn =
            || Builder::new().stack_size(size).spawn(|| unreachable!()).map(|_: JoinHandle<()>| ());
        for error in [spawn().unwrap_err(), run(spawn).unwrap_err()] {
            assert_eq!(error.kind(), ErrorKind::InvalidInput);
            assert!(error.to_string().contains(&size.to_string()), "{error}");
        }
    }
}

#[test]
fn a_name_with_a_nul_is_invalid_input() {
    for name in ["\0", "worker\0", "a\0b"] {
        let error = Builder::new().name(name.into()).spawn(|| ()).unwrap_err();
        assert_eq!(error.kind(), ErrorKind::InvalidInput);
        assert!(error.to_string().contains("NUL"), "{error}");
    }
    let name = "é\n\"".repeat(10_000);
    let odd = Builder::new().name(name.clone()).spawn(strands::thread::current).unwrap();
    assert_eq!(odd.join().unwrap().name(), Some(&*name));
}

#[test]
fn a_closure_that_could_not_be_spawned_is_dropped() {
    let captured = Arc::new(());
    let inside = Arc::clone(&captured);
    Builder::new().stack_size(1).spawn(move || drop(inside)).unwrap_err();
    assert_eq!(Arc::strong_count(&captured), 1);
    scope(|s| {
        let inside = Arc::clone(&captured);
        Builder::new().stack_size(1).spawn_scoped(s, move || drop(inside)).unwrap_err();
    });
    assert_eq!(Arc::strong_count(&captured), 1, "and a scope does not wait for it");
}

// The environment.

#[test]
fn a_malformed_variable_is_named_and_ignored() {
    let cases: [(&str, &[&str]); 3] = [
        ("STRANDS_MAXPROCS", &["0", "two", "-1", "1000000", "1.5", ""]),
        ("STRANDS_STACK", &["0", "1", "8 apples", "2G", "99999999999999999999", "-1M"]),
        ("STRANDS_DEBUG", &["everything", "guards=", "guards=mprotect;panics=pinned"]),
    ];
    for (variable, values) in cases {
        for value in values {
            let ended = Child::of("a_malformed_variable_is_named_and_ignored")
                .env(variable, value)
                .run(|| assert_eq!(go(|| 7).join().unwrap(), 7));
            ended.assert_success();
            ended.assert_said(&[&format!("{variable}={value}")]);
        }
    }
}

#[test]
fn a_variable_that_is_not_utf8_is_named_and_ignored() {
    for variable in ["STRANDS_MAXPROCS", "STRANDS_STACK", "STRANDS_DEBUG"] {
        let ended = Child::of("a_variable_that_is_not_utf8_is_named_and_ignored")
            .env(variable, OsStr::from_bytes(b"2\xff"))
            .run(|| assert_eq!(go(|| 7).join().unwrap(), 7));
        ended.assert_success();
        ended.assert_said(&[variable, "UTF-8"]);
    }
}

#[test]
fn a_variable_in_order_is_not_complained_about() {
    let ended = Child::of("a_variable_in_order_is_not_complained_about")
        .env("STRANDS_MAXPROCS", " 3 ")
        .env("STRANDS_STACK", "128k")
        .env("STRANDS_DEBUG", "guards=mprotect,panics=pinned")
        .run(|| assert_eq!(metrics().processors, 3));
    ended.assert_success();
    assert!(!ended.stderr.contains("STRANDS"), "{ended}");
}

// Configuration.

#[test]
fn a_configuration_is_taken_once_before_the_first_use_if_it_is_valid() {
    let name = "a_configuration_is_taken_once_before_the_first_use_if_it_is_valid";
    // The program's word goes before the environment's.
    let ended = Child::of(name).env("STRANDS_MAXPROCS", "1").run(|| {
        let invalid = [
            Config::new().processors(0),
            Config::new().processors(1 << 20),
            Config::new().stack_size(0),
            Config::new().stack_size(usize::MAX),
        ];
        for config in invalid {
            let error = runtime::configure(config).unwrap_err();
            assert!(matches!(error, ConfigureError::Invalid(_)), "{error}");
        }
        runtime::configure(Config::new().processors(3)).unwrap();
        let error = runtime::configure(Config::new().processors(2)).unwrap_err();
        assert_eq!(error, ConfigureError::TooLate);
        assert_eq!(metrics().processors, 3);
        assert_eq!(runtime::configure(Config::new()), Err(ConfigureError::TooLate));
    });
    ended.assert_success();
}

#[test]
fn a_configuration_after_the_first_use_is_too_late() {
    let name = "a_configuration_after_the_first_use_is_too_late";
    let ended = Child::of(name).env("STRANDS_MAXPROCS", "2").run(|| {
        go(|| ()).join().unwrap();
        let error = runtime::configure(Config::new().processors(5)).unwrap_err();
        assert_eq!(error, ConfigureError::TooLate);
        assert_eq!(metrics().processors, 2);
    });
    ended.assert_success();
}

// Memory and threads that are refused.

/// Lets the process have at most so much of a resource.
fn limit(resource: u32, most: u64) {
    let mut limit = libc::rlimit { rlim_cur: 0, rlim_max: 0 };
    // SAFETY: `limit` is live.
    unsafe {
        assert_eq!(libc::getrlimit(resource as _, &mut limit), 0);
        limit.rlim_cur = most;
        assert_eq!(libc::setrlimit(resource as _, &limit), 0);
    }
}

/// Spawns goroutines that wait for the end of a gate until it is refused one more; then lets them end.
/// Returns how many there were, and the error.
fn spawn_until_refused(in_between: impl Fn()) -> (usize, std::io::Error) {
    let (open, gate) = bounded::<()>(0);
    let ended = Arc::new(AtomicUsize::new(0));
    let mut goroutines = Vec::new();
    let error = loop {
        let (gate, ended) = (gate.clone(), Arc::clone(&ended));
        let body = move || {
            gate.recv().unwrap_err();
            ended.fetch_add(1, SeqCst) + 1
        };
        match Builder::new().spawn(body) {
            Ok(goroutine) => goroutines.push(goroutine),
            Err(error) => break error,
        }
        in_between();
    };
    let count = goroutines.len();
    assert_eq!(Arc::strong_count(&ended), count + 1, "the closure that was refused is not dropped");

    // A stack that others have still had at hand may come free meanwhile; then once more.
    let mut waiting = Vec::new();
    let refused_as_well = (0..100).any(|_| {
        let panic = loop {
            let gate = gate.clone();
            match catch_unwind(AssertUnwindSafe(|| go(move || gate.recv().unwrap_err()))) {
                Ok(goroutine) => waiting.push(goroutine),
                Err(panic) => break text(panic),
            }
        };
        assert!(panic.contains("failed to spawn") && panic.contains("RLIMIT_AS"), "{panic}");
        let scoped = catch_unwind(|| scope(|s| s.go(|| ()).join().unwrap()));
        scoped.is_err() && catch_unwind(|| run(|| ())).is_err()
    });
    assert!(refused_as_well);

    drop(open);
    let mut places: Vec<_> = goroutines.into_iter().map(|g| g.join().unwrap()).collect();
    places.sort_unstable();
    assert!(places.into_iter().eq(1..=count), "a goroutine was lost");
    (count, error)
}

#[test]
fn where_address_space_is_refused_nothing_that_was_spawned_is_lost() {
    let name = "where_address_space_is_refused_nothing_that_was_spawned_is_lost";
    let ended = Child::of(name).run(|| {
        #[allow(clippy::unnecessary_cast, reason = "the type differs between C libraries")]
        limit(libc::RLIMIT_AS as u32, 6 << 30);
        let refused = |(count, error): (usize, std::io::Error)| {
            println!("{count} goroutines");
            assert!(count > 100, "{count} goroutines in 6 GiB");
            assert_eq!(error.kind(), ErrorKind::OutOfMemory);
            assert!(error.to_string().contains("RLIMIT_AS"), "{error}");
            // Whoever joins may be quicker than the goroutine is with putting its stack back.
            wait_until("a stack comes back", || Builder::new().spawn(|| ()).is_ok());
        };
        refused(spawn_until_refused(|| ()));
        // What came back can be had again, by goroutines too, whose workers keep stacks at hand.
        refused(run(|| spawn_until_refused(yield_now)));
        refused(run(|| spawn_until_refused(|| ())));
        refused(spawn_until_refused(std::thread::yield_now));
    });
    ended.assert_success();
}

#[test]
fn where_threads_are_refused_spawn_says_so_and_later_works_as_configured() {
    let name = "where_threads_are_refused_spawn_says_so_and_later_works_as_configured";
    let ended = Child::of(name).run(|| {
        // SAFETY: no pointers. Root has no such limit, so become a user whom nobody else is; the tables
        // in /proc stay ours.
        unsafe {
            if libc::geteuid() == 0 {
                let user = 200_000 + libc::getpid() as libc::uid_t;
                assert_eq!(libc::setresuid(user, user, user), 0);
                libc::prctl(libc::PR_SET_DUMPABLE, 1);
            }
        }
        #[allow(clippy::unnecessary_cast, reason = "the type differs between C libraries")]
        let nproc = libc::RLIMIT_NPROC as u32;
        runtime::configure(Config::new().processors(3)).unwrap();
        // Enough for nothing; for the monitor, but no worker.
        let threads = std::fs::read_dir("/proc/self/task").unwrap().count() as u64;
        for most in [threads, threads + 1] {
            limit(nproc, most);
            let captured = Arc::new(());
            let inside = Arc::clone(&captured);
            let refused = Builder::new().spawn(move || drop(inside));
            assert_eq!(refused.unwrap_err().kind(), ErrorKind::WouldBlock, "with {most}");
            assert_eq!(Arc::strong_count(&captured), 1);
            let panic = text(catch_unwind(|| drop(go(|| ()))).unwrap_err());
            assert!(panic.contains("failed to spawn"), "{panic}");
        }
        // One worker: no more of them, and no spare threads either. The kernel may count a thread for a
        // moment that has ended.
        limit(nproc, threads + 2);
        wait_until("a worker starts", || Builder::new().spawn(|| ()).is_ok());
        run(|| {
            for _ in 0..10 {
                let all: Vec<_> = (0..100).map(|n| go(move || strands::blocking(|| n))).collect();
                let sum: usize = all.into_iter().map(|goroutine| goroutine.join().unwrap()).sum();
                assert_eq!(sum, 4950);
            }
        });
        limit(nproc, 1000);
        assert_eq!(metrics().processors, 3, "the configuration was lost");
        run(|| strands::blocking(|| ()));
    });
    ended.assert_success();
}

// Panics.

#[test]
fn ten_thousand_panics_are_joined_with_their_payloads() {
    let ended = Child::of("ten_thousand_panics_are_joined_with_their_payloads").run(|| {
        static HOOKED: AtomicUsize = AtomicUsize::new(0);
        std::panic::set_hook(Box::new(|_| {
            HOOKED.fetch_add(1, SeqCst);
        }));
        let goroutines: Vec<_> = (0..10_000).map(|n: usize| go(move || panic_any(n))).collect();
        for (number, goroutine) in goroutines.into_iter().enumerate() {
            assert_eq!(goroutine.join().unwrap_err().downcast_ref(), Some(&number));
        }
        assert_eq!(HOOKED.load(SeqCst), 10_000);
    });
    ended.assert_success();
    assert!(!ended.stderr.contains("nobody joined"), "{ended}");
}

#[test]
fn ten_thousand_detached_panics_are_all_reported() {
    const NAMED: &str = "nobody listens";
    let ended = Child::of("ten_thousand_detached_panics_are_all_reported").run(|| {
        std::panic::set_hook(Box::new(|_| ()));
        for number in 0..10_000 {
            let body = move || panic!("detached {number}.");
            match number % 3 {
                0 => drop(Builder::new().name(NAMED.into()).spawn(body).unwrap()),
                1 => drop(go(body)),
                // Dropped when it has ended.
                _ => {
                    let goroutine = go(body);
                    while !goroutine.is_finished() {
                        std::thread::yield_now();
                    }
                }
            }
        }
        wait_until("all have ended", || metrics().goroutines_live == 0);
    });
    ended.assert_success();
    let reports: Vec<_> =
        ended.stderr.lines().filter(|line| line.starts_with("goroutine ")).collect();
    let ids: HashSet<_> = reports.iter().map(|line| line.split([' ', ',']).nth(1)).collect();
    assert_eq!((reports.len(), ids.len()), (10_000, 10_000), "{ended}");
    let born_here = |line: &&&str| line.contains("born at crates/strands/tests/bad_input.rs:");
    assert_eq!(reports.iter().filter(born_here).count(), 10_000, "{ended}");
    assert_eq!(reports.iter().filter(|line| line.contains(NAMED)).count(), 3334, "{ended}");
    let numbers: HashSet<_> = reports.iter().filter_map(|line| line.rsplit(' ').next()).collect();
    assert!((0..10_000).all(|number| numbers.contains(format!("{number}.").as_str())), "{ended}");
}

#[test]
fn a_report_that_cannot_be_written_harms_nobody() {
    let ended = Child::of("a_report_that_cannot_be_written_harms_nobody")
        .env("STRANDS_MAXPROCS", "nonsense")
        .run(|| {
            // SAFETY: the path is a C string.
            unsafe {
                let full = libc::open(c"/dev/full".as_ptr(), libc::O_WRONLY);
                assert_eq!(libc::dup2(full, 2), 2);
            }
            for _ in 0..10 {
                drop(go(|| panic!("unheard")));
            }
            wait_until("all have ended", || metrics().goroutines_live == 0);
            assert_eq!(go(|| 7).join().unwrap(), 7);
            println!("well");
        });
    ended.assert_success();
    assert!(ended.stdout.contains("well"), "{ended}");
}

#[test]
fn a_payload_may_be_anything() {
    #[derive(Debug, PartialEq)]
    struct Whatever([u64; 100]);
    let joined = go(|| panic_any(Whatever([3; 100]))).join();
    assert_eq!(joined.unwrap_err().downcast_ref(), Some(&Whatever([3; 100])));
    let through_run = catch_unwind(|| run(|| panic_any(4_u8)));
    assert_eq!(through_run.unwrap_err().downcast_ref(), Some(&4_u8));
    let through_blocking = run(|| catch_unwind(|| strands::blocking(|| panic_any(5_u8))));
    assert_eq!(through_blocking.unwrap_err().downcast_ref(), Some(&5_u8));
    let ended = Child::of("a_payload_may_be_anything").run(|| {
        drop(go(|| panic_any(6_u8)));
        wait_until("it has ended", || metrics().goroutines_live == 0);
    });
    ended.assert_success();
    ended.assert_said(&["born at crates/strands/tests/bad_input.rs", "Box<dyn Any>"]);
}

#[test]
fn where_panics_are_to_abort_they_abort_with_a_report() {
    let ended = Child::of("where_panics_are_to_abort_they_abort_with_a_report").run(|| {
        runtime::configure(Config::new().panic(PanicPolicy::Abort)).unwrap();
        // One that is caught is no panic of the goroutine.
        go(|| assert!(catch_unwind(|| panic!("caught")).is_err())).join().unwrap();
        let builder = Builder::new().name("doomed".into());
        let _ = builder.spawn(|| panic!("not caught")).unwrap().join();
        println!("survived");
    });
    assert_eq!(ended.status.signal(), Some(libc::SIGABRT), "{ended}");
    ended.assert_said(&["\"doomed\"", "born at crates/strands/tests/bad_input.rs", "not caught"]);
    assert!(!ended.stdout.contains("survived"), "{ended}");
}

#[test]
fn a_goroutine_may_be_started_and_joined_while_unwinding() {
    struct Goes(Option<JoinHandle<u8>>);
    impl Drop for Goes {
        fn drop(&mut self) {
            assert!(std::thread::panicking());
            let inner = go(|| {
                assert!(!std::thread::panicking(), "somebody else's panic");
                resume_unwind(Box::new(2_u8));
            });
            let inner: JoinHandle<()> = inner;
            assert_eq!(inner.join().unwrap_err().downcast_ref(), Some(&2_u8));
            assert_eq!(self.0.take().map(|goroutine| goroutine.join().unwrap()), Some(3));
        }
    }
    let unwind = || {
        let _goes = Goes(Some(go(|| 3)));
        resume_unwind(Box::new(1_u8));
    };
    assert_eq!(catch_unwind(unwind).unwrap_err().downcast_ref(), Some(&1_u8));
    assert_eq!(go(unwind).join().unwrap_err().downcast_ref(), Some(&1_u8));
}

// Odd sizes and shapes.

#[test]
fn closures_and_results_of_a_mebibyte_arrive_whole() {
    // A debug build keeps many copies of what it moves about: std wants 24 MiB for this.
    let size = if cfg!(debug_assertions) { 16 * MIB } else { 8 * MIB };
    let spawner = std::thread::Builder::new().stack_size(64 * MIB).spawn(move || {
        let big = std::hint::black_box([7_u8; MIB]);
        let body = move || {
            let mut big = big;
            big[MIB - 1] = 8;
            big
        };
        let result = Builder::new().stack_size(size).spawn(body).unwrap().join().unwrap();
        assert_eq!((result[0], result[MIB - 1]), (7, 8));
        assert_eq!(result.iter().map(|byte| usize::from(*byte)).sum::<usize>(), 7 * MIB + 1);
    });
    spawner.unwrap().join().unwrap();
}

#[test]
fn closures_and_results_of_no_size_and_of_large_alignment() {
    #[repr(align(4096))]
    struct Page(u8);
    fn is_aligned(page: &Page) -> bool {
        std::ptr::from_ref(page).addr().is_multiple_of(4096)
    }
    go(|| ()).join().unwrap();
    let _: [(); 0] = go(|| []).join().unwrap();
    let page = Page(1);
    let page = go(move || {
        assert!(is_aligned(&page));
        Page(page.0 + 1)
    })
    .join()
    .unwrap();
    assert!(is_aligned(&page) && page.0 == 2);
}

#[test]
fn runs_within_runs() {
    fn nest(levels: u32) -> u32 {
        if levels == 0 { 0 } else { run(|| nest(levels - 1)) + 1 }
    }
    assert_eq!(nest(200), 200);
    assert_eq!(run(|| scope(|s| s.go(|| run(|| nest(10))).join().unwrap())), 10);
}

#[test]
fn ten_thousand_goroutines_join_each_the_next() {
    fn chain(length: u64) -> JoinHandle<u64> {
        go(move || if length == 0 { 0 } else { chain(length - 1).join().unwrap() + 1 })
    }
    assert_eq!(chain(10_000).join().unwrap(), 10_000);
    // The same with all of them parked before the first ends.
    let (open, gate) = bounded::<()>(0);
    let first = go(move || gate.recv().map_or(0, |()| 1));
    let last = (0..10_000).fold(first, |former, _| go(move || former.join().unwrap() + 1));
    drop(open);
    assert_eq!(last.join().unwrap(), 10_000);
}

// A handle as a future, under an executor written by hand.

#[derive(Default)]
struct Counts(AtomicUsize);

impl Wake for Counts {
    fn wake(self: Arc<Self>) {
        self.0.fetch_add(1, SeqCst);
    }
}

fn poll<T>(handle: &mut JoinHandle<T>, counts: &Arc<Counts>) -> Poll<std::thread::Result<T>> {
    let waker = Waker::from(Arc::clone(counts));
    Pin::new(handle).poll(&mut Context::from_waker(&waker))
}

fn block_on<F: Future>(future: F) -> F::Output {
    struct Unparks(std::thread::Thread);
    impl Wake for Unparks {
        fn wake(self: Arc<Self>) {
            self.0.unpark();
        }
    }
    let waker = Waker::from(Arc::new(Unparks(std::thread::current())));
    let mut future = std::pin::pin!(future);
    loop {
        match future.as_mut().poll(&mut Context::from_waker(&waker)) {
            Poll::Ready(output) => return output,
            Poll::Pending => std::thread::park(),
        }
    }
}

#[test]
fn a_handle_can_be_awaited() {
    for _ in 0..300 {
        let sum = async { go(|| 1).await.unwrap() + go(|| 2).await.unwrap() };
        assert_eq!(block_on(sum), 3);
    }
    let panicked = block_on(go(|| resume_unwind(Box::new(1_u8))));
    let panicked: std::thread::Result<()> = panicked;
    assert_eq!(panicked.unwrap_err().downcast_ref(), Some(&1_u8));
}

#[test]
fn the_last_waker_is_woken_once_and_none_is_leaked() {
    let (first, last) = (Arc::new(Counts::default()), Arc::new(Counts::default()));
    let (open, gate) = bounded::<()>(0);
    let mut handle = go(move || gate.recv().is_err());
    for _ in 0..10 {
        assert!(poll(&mut handle, &first).is_pending());
    }
    assert!(poll(&mut handle, &last).is_pending());
    assert_eq!(Arc::strong_count(&first), 1, "it is not asked for any more");
    drop(open);
    wait_until("the last waker is woken", || last.0.load(SeqCst) > 0);
    assert!(matches!(poll(&mut handle, &first), Poll::Ready(Ok(true))));
    assert!(handle.is_finished());
    drop(handle);
    assert_eq!((first.0.load(SeqCst), last.0.load(SeqCst)), (0, 1));
    assert_eq!((Arc::strong_count(&first), Arc::strong_count(&last)), (1, 1));
}

#[test]
fn a_handle_that_was_polled_can_be_joined_or_dropped() {
    let counts = Arc::new(Counts::default());
    let (open, gate) = bounded::<()>(0);
    let (tell, told) = bounded(2);
    let [mut joined, mut dropped] = [(); 2].map(|()| {
        let (gate, tell) = (gate.clone(), tell.clone());
        go(move || {
            gate.recv().unwrap_err();
            tell.send(()).unwrap();
        })
    });
    assert!(poll(&mut joined, &counts).is_pending());
    assert!(poll(&mut dropped, &counts).is_pending());
    drop(dropped);
    let joiner = go(move || joined.join().unwrap());
    wait_until("the waker is gone", || Arc::strong_count(&counts) == 1);
    drop(open);
    joiner.join().unwrap();
    // It went on when nobody wanted it any more.
    told.recv().unwrap();
    told.recv().unwrap();
    assert_eq!(counts.0.load(SeqCst), 0);
}

#[test]
fn a_handle_that_was_ready_cannot_be_polled_or_joined_again() {
    let counts = Arc::new(Counts::default());
    for join in [false, true] {
        let result = Arc::new(());
        let inside = Arc::clone(&result);
        let mut handle = go(move || inside);
        wait_until("it has ended", || handle.is_finished());
        assert!(poll(&mut handle, &counts).is_ready());
        let again = catch_unwind(AssertUnwindSafe(|| {
            if join { drop(handle.join()) } else { drop(poll(&mut handle, &counts)) }
        }));
        assert!(text(again.unwrap_err()).contains("joined twice"));
        assert_eq!(Arc::strong_count(&result), 1, "the result was dropped once");
    }
}

#[test]
fn a_waker_that_panics_harms_nobody_else() {
    struct Bomb;
    impl Wake for Bomb {
        fn wake(self: Arc<Self>) {
            resume_unwind(Box::new("a waker's panic"));
        }
    }
    let ended =
        Child::of("a_waker_that_panics_harms_nobody_else").env("STRANDS_MAXPROCS", "1").run(|| {
            let (release, released) = bounded::<()>(0);
            let mut handle = go(move || _ = released.recv());
            let waker = Waker::from(Arc::new(Bomb));
            assert!(Pin::new(&mut handle).poll(&mut Context::from_waker(&waker)).is_pending());
            drop(release);
            // Not by a join, which would put the waker aside.
            wait_until("the goroutine has ended", || handle.is_finished());
            assert_eq!(go(|| 7).join().unwrap(), 7);
        });
    ended.assert_success();
}
