//! Stacks as a program meets them: they reach deep, cost little, shrink, and stop at their guards.

mod child;

use child::{Child, Ended, wait_until};
use std::fs;
use std::hint::black_box;
use std::io::ErrorKind;
use std::os::unix::process::ExitStatusExt;
use std::ptr;
use std::sync::Arc;
use std::sync::atomic::{AtomicUsize, Ordering::SeqCst};
use strands::channel::{Receiver, Sender, bounded, unbounded};
use strands::runtime::metrics;
use strands::thread::Builder;
use strands::{JoinHandle, go, yield_now};

const KIB: usize = 1 << 10;
const MIB: usize = 1 << 20;

fn address<T>(of: &T) -> usize {
    ptr::from_ref(of).addr()
}

/// Recurses until the stack is `depth` bytes deep, runs `at_the_bottom` there, and checks on the way back
/// that every frame is as it was left. In debug and in release, and whatever a frame takes.
#[inline(never)]
fn dive(top: usize, depth: usize, at_the_bottom: &mut dyn FnMut()) -> usize {
    let here = top - address(&top);
    let frame = black_box([here ^ 0x5a5a; 32]);
    let frames = if here < depth {
        dive(top, depth, at_the_bottom) + 1
    } else {
        at_the_bottom();
        1
    };
    assert!(black_box(&frame).iter().all(|word| *word == here ^ 0x5a5a), "a frame was lost");
    frames
}

/// Uses `depth` bytes of the caller's stack.
fn go_down(depth: usize) {
    and_there(depth, || {});
}

fn and_there(depth: usize, mut at_the_bottom: impl FnMut()) {
    let top = 0_u8;
    assert!(dive(address(&top), depth, &mut at_the_bottom) > 0);
}

// Depth.

#[test]
fn a_default_stack_is_as_deep_as_a_main_threads() {
    // Past what a thread of std has, and nearly to the end.
    for depth in [MIB + MIB / 2, 3 * MIB, 7 * MIB, 8 * MIB - 128 * KIB] {
        go(move || go_down(depth)).join().unwrap();
    }
}

#[test]
fn thousands_go_deep_one_after_the_other() {
    for batch in 0..40 {
        let goroutines: Vec<_> =
            (0..100).map(|i| go(move || go_down(100 * KIB + 64 * i + batch))).collect();
        goroutines.into_iter().for_each(|goroutine| goroutine.join().unwrap());
    }
}

#[test]
fn a_stack_has_the_size_that_was_asked_for() {
    let asked = [4 * KIB, 64 * KIB, 65 * KIB, 200 * KIB, MIB, 3 * MIB, 16 * MIB, 64 * MIB];
    for size in asked {
        let whole = size.max(64 * KIB).next_power_of_two();
        let depth = whole - if whole < MIB { 16 * KIB } else { 96 * KIB };
        Builder::new().stack_size(size).spawn(move || go_down(depth)).unwrap().join().unwrap();
    }
    let largest = Builder::new().stack_size(1 << 30).spawn(|| go_down(MIB));
    largest.unwrap().join().unwrap();
}

#[test]
fn goroutines_of_all_sizes_are_parked_side_by_side() {
    let (open, gate) = bounded::<()>(0);
    let goroutines: Vec<_> = (0..300)
        .map(|number| {
            let gate = gate.clone();
            let size = (64 * KIB) << (number % 8);
            let depth = 20 * KIB + number * 80;
            let body = move || and_there(depth, || assert!(gate.recv().is_err()));
            Builder::new().stack_size(size).spawn(body).unwrap()
        })
        .collect();
    drop(open);
    goroutines.into_iter().for_each(|goroutine| goroutine.join().unwrap());
}

#[test]
fn the_configured_size_is_the_default() {
    let name = "the_configured_size_is_the_default";
    // Twice as deep as the usual size.
    let body = || go(|| go_down(15 * MIB)).join().unwrap();
    Child::of(name).env("STRANDS_STACK", "16M").run(body).assert_success();
}

#[test]
fn a_panic_with_a_backtrace_fits_into_the_smallest_stack() {
    let name = "a_panic_with_a_backtrace_fits_into_the_smallest_stack";
    let ended = Child::of(name).env("RUST_BACKTRACE", "full").run(|| {
        let body = || panic!("in a small stack");
        let small = Builder::new().stack_size(64 * KIB).spawn(body).unwrap();
        assert_eq!(small.join().unwrap_err().downcast_ref(), Some(&"in a small stack"));
    });
    ended.assert_success();
    ended.assert_said(&["in a small stack", "a_panic_with_a_backtrace"]);
}

// Cost.

/// What the process has in memory, page tables included.
fn memory() -> usize {
    let status = fs::read_to_string("/proc/self/status").unwrap();
    let kib = |name: &str| -> usize {
        let line = status.lines().find(|line| line.starts_with(name)).unwrap();
        line.split_whitespace().nth(1).unwrap().parse().unwrap()
    };
    (kib("VmRSS:") + kib("VmPTE:")) * KIB
}

fn mappings() -> usize {
    fs::read_to_string("/proc/self/maps").unwrap().lines().count()
}

/// Many goroutines that wait until `gate` is closed, all of them there already.
fn park(count: usize, size: usize, gate: &Receiver<()>) -> Vec<JoinHandle<bool>> {
    let (there, all) = (Arc::new(AtomicUsize::new(0)), count);
    let goroutines: Vec<_> = (0..count)
        .map(|_| {
            let (gate, there) = (gate.clone(), Arc::clone(&there));
            let body = move || {
                there.fetch_add(1, SeqCst);
                gate.recv().is_err()
            };
            Builder::new().stack_size(size).spawn(body).unwrap()
        })
        .collect();
    wait_until("all goroutines are parked", || there.load(SeqCst) == all);
    goroutines
}

#[test]
fn twenty_thousand_parked_goroutines_cost_a_page_each() {
    const COUNT: usize = 20_000;
    let ended = Child::of("twenty_thousand_parked_goroutines_cost_a_page_each").run(|| {
        let (open, gate) = bounded::<()>(0);
        let mut goroutines = park(1000, 64 * KIB, &gate);
        let (before, mapped, threads) = (memory(), mappings(), metrics().threads);
        goroutines.extend(park(COUNT, 64 * KIB, &gate));
        let (after, mapped_now) = (memory(), mappings());
        let each = (after - before) / COUNT;
        println!("{each} bytes each, {mapped} mappings and then {mapped_now}");
        // One page, a share of a page-table page, and the record on the heap. The frames of a debug
        // build do not all fit into that page.
        let most = if cfg!(debug_assertions) { 2 * 4096 + 1400 } else { 4400 * 13 / 10 };
        // Thread-locals of its own take another.
        let roams = metrics().affinity == strands::thread::Affinity::Roaming;
        let most = if roams { most + 4096 } else { most };
        assert!(each <= most, "{each} bytes each, more than {most}");
        // Every thread more has a dozen, and on a busy machine there are more. Stacks have none.
        let threads = metrics().threads.saturating_sub(threads);
        let most = mapped + 40 + 16 * threads;
        assert!(mapped_now <= most, "{mapped} became {mapped_now} with {threads} threads more");
        drop(open);
        assert!(goroutines.into_iter().all(|goroutine| goroutine.join().unwrap()));
    });
    ended.assert_success();
}

// Shrinking.

const DEEP: usize = 64;

/// Goroutines that go down when told to, and wait in between with half a stack of frames to keep.
struct Divers {
    goroutines: Vec<JoinHandle<()>>,
    depths: Vec<Sender<usize>>,
    done: Receiver<()>,
}

impl Divers {
    fn new() -> Divers {
        let (tell, done) = unbounded();
        let (goroutines, depths) = (0..DEEP)
            .map(|number| {
                let (depth, depths) = unbounded::<usize>();
                let tell = tell.clone();
                let body = move || {
                    // Each suspends at another place in its page, and has frames above to lose.
                    and_there(2 * KIB + number * 136, || {
                        for depth in &depths {
                            go_down(depth);
                            tell.send(()).unwrap();
                        }
                    });
                };
                (go(body), depth)
            })
            .unzip();
        Divers { goroutines, depths, done }
    }

    fn go_down(&self, depth: usize) {
        self.depths.iter().for_each(|diver| diver.send(depth).unwrap());
        self.depths.iter().for_each(|_| self.done.recv().unwrap());
    }

    fn surface(self) {
        drop(self.depths);
        self.goroutines.into_iter().for_each(|diver| diver.join().unwrap());
    }
}

#[test]
fn parked_stacks_give_memory_back_and_keep_their_frames() {
    let ended = Child::of("parked_stacks_give_memory_back_and_keep_their_frames").run(|| {
        let divers = Divers::new();
        divers.go_down(KIB);
        let shallow = memory();
        for round in 0..5 {
            let trimmed = metrics().stacks_trimmed;
            divers.go_down(MIB - round * 56);
            wait_until("the memory of parked stacks comes back", || {
                memory() < shallow + DEEP * MIB / 4
            });
            assert!(metrics().stacks_trimmed >= trimmed + DEEP as u64 / 2);
        }
        divers.surface();
    });
    ended.assert_success();
}

#[test]
fn parked_stacks_give_memory_back_while_others_run() {
    let name = "parked_stacks_give_memory_back_while_others_run";
    let ended = Child::of(name).env("STRANDS_MAXPROCS", "1").run(|| {
        let divers = Divers::new();
        divers.go_down(KIB);
        let shallow = memory();
        let (stop, stopped) = bounded::<()>(1);
        let busy = go(move || {
            while stopped.try_recv().is_err() {
                yield_now();
            }
        });
        for _ in 0..2 {
            divers.go_down(MIB);
            assert!(memory() > shallow + DEEP * MIB / 2 || metrics().stacks_trimmed > 0);
            wait_until("the memory of parked stacks comes back", || {
                memory() < shallow + DEEP * MIB / 4
            });
        }
        stop.send(()).unwrap();
        busy.join().unwrap();
        divers.surface();
    });
    ended.assert_success();
}

#[test]
fn stacks_that_nobody_uses_any_more_give_memory_back() {
    let ended = Child::of("stacks_that_nobody_uses_any_more_give_memory_back").run(|| {
        let (open, gate) = bounded::<()>(0);
        let there = Arc::new(AtomicUsize::new(0));
        let before = memory();
        let goroutines: Vec<_> = (0..DEEP)
            .map(|_| {
                let (gate, there) = (gate.clone(), Arc::clone(&there));
                go(move || {
                    and_there(MIB, || {
                        there.fetch_add(1, SeqCst);
                        gate.recv().unwrap_err();
                    });
                })
            })
            .collect();
        wait_until("all are deep", || there.load(SeqCst) == DEEP);
        assert!(memory() > before + DEEP * MIB * 3 / 4, "this many stacks at a time");
        drop(open);
        goroutines.into_iter().for_each(|goroutine| goroutine.join().unwrap());
        wait_until("the memory of free stacks comes back", || memory() < before + DEEP * MIB / 4);
        // And they are as good as new.
        let again: Vec<_> = (0..DEEP).map(|_| go(|| go_down(MIB))).collect();
        again.into_iter().for_each(|goroutine| goroutine.join().unwrap());
    });
    ended.assert_success();
}

// Overflow.

/// In a child: a goroutine that overflows, after the process has said how the report is to name it.
fn overflow(builder: Builder, name: &str) {
    let (open, gate) = bounded::<()>(0);
    let line = line!() + 1;
    let goroutine = builder.spawn(move || gate.recv().map(|()| go_down(usize::MAX))).unwrap();
    let id = format!("{:?}", goroutine.thread().id());
    let id: String = id.chars().filter(char::is_ascii_digit).collect();
    println!("\nexpect: goroutine {id}{name}, born at crates/strands/tests/stacks.rs:{line}");
    open.send(()).unwrap();
    let _ = goroutine.join();
}

#[track_caller]
fn assert_overflowed(ended: &Ended, size: &str) {
    assert_eq!(ended.status.signal(), Some(libc::SIGABRT), "{ended}");
    ended.assert_said(&["has overflowed its stack of", size, "stack_size", "STRANDS_STACK"]);
    let expected = ended.stdout.lines().find_map(|line| line.strip_prefix("expect: "));
    ended.assert_said(&[expected.expect("it got as far as that")]);
}

#[test]
fn an_overflow_names_the_goroutine_and_the_remedy() {
    let ended = Child::of("an_overflow_names_the_goroutine_and_the_remedy").run(|| {
        let builder = Builder::new().name("deep thought".into()).stack_size(200 * KIB);
        overflow(builder, " \"deep thought\"");
    });
    assert_overflowed(&ended, "256 KiB");
}

#[test]
fn an_overflow_names_a_goroutine_without_a_name() {
    let ended = Child::of("an_overflow_names_a_goroutine_without_a_name").run(|| {
        // Not the first, nor the last.
        let (open, gate) = bounded::<()>(0);
        let _others = park(10, 8 * MIB, &gate);
        overflow(Builder::new(), "");
        drop(open);
    });
    assert_overflowed(&ended, "8 MiB");
}

#[test]
fn an_overflow_is_caught_by_a_guard_of_mprotect_too() {
    let ended = Child::of("an_overflow_is_caught_by_a_guard_of_mprotect_too")
        .env("STRANDS_DEBUG", "guards=mprotect")
        .run(|| overflow(Builder::new().stack_size(64 * KIB), ""));
    assert_overflowed(&ended, "64 KiB");
}

#[test]
fn an_overflow_in_a_stack_that_was_trimmed_is_caught() {
    let ended = Child::of("an_overflow_in_a_stack_that_was_trimmed_is_caught").run(|| {
        let divers = Divers::new();
        divers.go_down(MIB);
        wait_until("a stack is trimmed", || metrics().stacks_trimmed >= DEEP as u64 / 2);
        println!("\nexpect: goroutine ");
        divers.go_down(usize::MAX);
    });
    assert_overflowed(&ended, "8 MiB");
}

/// The handler of a program that had one before the first goroutine.
extern "C" fn users_handler(_: libc::c_int, info: *mut libc::siginfo_t, _: *mut libc::c_void) {
    // SAFETY: the kernel's own `siginfo_t`; `_exit` is allowed in handlers.
    unsafe { libc::_exit(if (*info).si_addr().addr() == 0x10 { 7 } else { 8 }) }
}

fn install_users_handler() {
    // SAFETY: all zeroes is a `sigaction`; the handler keeps to what handlers may do.
    unsafe {
        let mut action: libc::sigaction = std::mem::zeroed();
        action.sa_sigaction = users_handler as *const () as usize;
        action.sa_flags = libc::SA_SIGINFO | libc::SA_ONSTACK;
        assert_eq!(libc::sigaction(libc::SIGSEGV, &action, ptr::null_mut()), 0);
    }
}

#[test]
fn a_fault_that_is_no_overflow_is_the_users() {
    let name = "a_fault_that_is_no_overflow_is_the_users";
    let ended = Child::of(name).run(|| {
        install_users_handler();
        let fault = || {
            let nowhere = black_box(0x10);
            // SAFETY: none: this is to fault.
            unsafe { ptr::with_exposed_provenance_mut::<u8>(nowhere).write_volatile(1) };
        };
        go(fault).join().unwrap();
    });
    assert_eq!(ended.status.code(), Some(7), "{ended}");
}

#[test]
fn an_overflow_is_reported_although_the_user_handles_faults() {
    let ended = Child::of("an_overflow_is_reported_although_the_user_handles_faults").run(|| {
        install_users_handler();
        overflow(Builder::new(), "");
    });
    assert_overflowed(&ended, "8 MiB");
}

// Guards on kernels before 6.13.

#[test]
fn guards_by_mprotect_do_for_a_thousand_and_are_refused_before_they_run_out() {
    let name = "guards_by_mprotect_do_for_a_thousand_and_are_refused_before_they_run_out";
    let ended = Child::of(name).env("STRANDS_DEBUG", "guards=mprotect").run(|| {
        let (open, gate) = bounded::<()>(0);
        let mapped = mappings();
        let mut goroutines = park(1000, 64 * KIB, &gate);
        assert!(mappings() >= mapped + 1000, "a guard is a mapping of its own");
        let error = loop {
            let gate = gate.clone();
            match Builder::new().stack_size(64 * KIB).spawn(move || gate.recv().is_err()) {
                Ok(goroutine) => goroutines.push(goroutine),
                Err(error) => break error,
            }
        };
        assert_eq!(error.kind(), ErrorKind::OutOfMemory);
        assert!(error.to_string().contains("vm.max_map_count"), "{error}");
        // The rest of the program can still map things, threads' stacks for instance.
        for _ in 0..100 {
            std::thread::spawn(|| drop(black_box(vec![0_u8; MIB]))).join().unwrap();
        }
        drop(open);
        assert!(goroutines.into_iter().all(|goroutine| goroutine.join().unwrap()));
        let again = Builder::new().stack_size(64 * KIB).spawn(|| go_down(40 * KIB));
        again.unwrap().join().unwrap();
    });
    ended.assert_success();
}
