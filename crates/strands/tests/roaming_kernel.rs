//! A roaming goroutine is no thread to the kernel: what C and safe Rust can ask of "this thread" there, and get.

mod child;
mod roamers;

use child::Child;
use roamers::{Moves, roam, start, stay};
use std::ffi::c_int;
use std::os::unix::process::{CommandExt, ExitStatusExt};
use std::process::Command;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering::SeqCst};
use strands::thread;

/// Has all threads of the process take on the user that they have, by which glibc has each make the system call itself.
fn change_user() {
    // SAFETY: no pointers; nothing changes.
    unsafe {
        assert_eq!(libc::setuid(libc::geteuid()), 0);
        assert_eq!(libc::setegid(libc::getegid()), 0);
    }
}

#[test]
fn users_are_changed_in_one_and_while_others_run() {
    let ended = Child::of("users_are_changed_in_one_and_while_others_run").run(|| {
        assert!(start());
        // glibc waits for each thread of the process, and counts it by the record of a thread that it finds there.
        roam(change_user).join().unwrap();
        let done = Arc::new(AtomicBool::new(false));
        let busy = (0..6).map(|number| {
            let done = Arc::clone(&done);
            roam(move || {
                while !done.load(SeqCst) {
                    if number > 2 {
                        thread::yield_now();
                    }
                }
            })
        });
        let busy: Vec<_> = busy.collect();
        // By a thread that is no worker, by those at home, and by those that roam, while others compute and yield.
        for _ in 0..20 {
            change_user();
        }
        let by_all = (0..12).map(|number| {
            let body = || {
                for _ in 0..20 {
                    change_user();
                    thread::yield_now();
                }
            };
            if number % 3 == 0 { stay(body) } else { roam(body) }
        });
        by_all.collect::<Vec<_>>().into_iter().for_each(|handle| handle.join().unwrap());
        assert!(busy.iter().all(|handle| !handle.is_finished()));
        done.store(true, SeqCst);
        busy.into_iter().for_each(|handle| handle.join().unwrap());
        // A child of another user is forked, and changes before it runs its program.
        let user = roam(|| {
            // SAFETY: they take nothing.
            let (user, group) = unsafe { (libc::geteuid(), libc::getegid()) };
            Command::new("true").uid(user).gid(group).status().unwrap().success()
        });
        assert!(user.join().unwrap());
    });
    ended.assert_success();
}

#[test]
fn a_thread_of_pthreads_is_the_goroutines_and_what_the_kernel_knows_by_it_is_the_workers() {
    if !start() {
        return;
    }
    let handles = (0..20).map(|_| {
        roam(|| {
            // SAFETY: it takes nothing.
            let me = unsafe { libc::pthread_self() };
            let mut moves = Moves::default();
            for _ in 0..200 {
                moves.look();
                // SAFETY: the calling thread's, which is alive; the name ends.
                unsafe {
                    assert_eq!(libc::pthread_equal(libc::pthread_self(), me), 1);
                    assert_eq!(libc::pthread_kill(me, 0), 0);
                    let mut name = [0_i8; 16];
                    assert_eq!(libc::pthread_getname_np(me, name.as_mut_ptr(), 16), 0);
                    // That of the worker, which others have as well.
                    assert_eq!(
                        std::ffi::CStr::from_ptr(name.as_ptr()).to_bytes()[..8],
                        *b"strands-"
                    );
                    let mut set = std::mem::zeroed::<libc::cpu_set_t>();
                    assert_eq!(libc::sched_getaffinity(0, size_of_val(&set), &raw mut set), 0);
                    assert!(libc::CPU_COUNT(&set) > 0);
                }
                assert!(std::thread::available_parallelism().is_ok());
                thread::yield_now();
            }
            (me, moves.count)
        })
    });
    let handles: Vec<_> = handles.collect();
    let ended: Vec<_> = handles.into_iter().map(|handle| handle.join().unwrap()).collect();
    println!("{} moves", ended.iter().map(|(_, moves)| moves).sum::<usize>());
}

#[test]
fn a_signal_that_one_raises_is_handled_in_its_own_thread_locals() {
    use std::cell::Cell;
    thread_local! { static RAISED: Cell<usize> = const { Cell::new(0) }; }
    extern "C" fn count(_: c_int) {
        RAISED.set(RAISED.get() + 1);
    }
    if !start() {
        return;
    }
    let handler = count as extern "C" fn(c_int);
    // SAFETY: it counts, and does nothing else.
    unsafe { libc::signal(libc::SIGUSR2, handler as *const () as libc::sighandler_t) };
    let handles = (1..=50).map(|number| {
        roam(move || {
            for round in 1..=number {
                // SAFETY: it is handled.
                assert_eq!(unsafe { libc::raise(libc::SIGUSR2) }, 0);
                assert_eq!(RAISED.get(), round);
                thread::yield_now();
            }
        })
    });
    handles.collect::<Vec<_>>().into_iter().for_each(|handle| handle.join().unwrap());
}

#[test]
fn an_abort_in_one_ends_the_process_as_it_does_elsewhere() {
    let ended = Child::of("an_abort_in_one_ends_the_process_as_it_does_elsewhere").run(|| {
        assert!(start());
        roam(|| {
            thread::yield_now();
            std::process::abort()
        })
        .join()
        .unwrap()
    });
    assert_eq!(ended.status.signal(), Some(libc::SIGABRT), "{ended}");
}

/// As in std's threads, it ends the process; it does not end in somebody else's stack.
#[test]
fn a_panic_in_a_thread_locals_destructor_ends_the_process_with_a_word() {
    struct Panics;
    impl Drop for Panics {
        fn drop(&mut self) {
            thread::yield_now();
            panic!("in the end");
        }
    }
    thread_local! { static PANICS: std::cell::OnceCell<Panics> = const { std::cell::OnceCell::new() }; }
    let test = "a_panic_in_a_thread_locals_destructor_ends_the_process_with_a_word";
    let ended = Child::of(test).run(|| {
        assert!(start());
        let handle = roam(|| PANICS.with(|panics| assert!(panics.set(Panics).is_ok())));
        handle.join().unwrap();
        child::wait_until("the end", || false);
    });
    assert_eq!(ended.status.signal(), Some(libc::SIGABRT), "{ended}");
    ended.assert_said(&["in the end", "thread local panicked on drop"]);
}

#[test]
fn a_panic_while_it_panics_ends_the_process_with_a_word() {
    struct Panics;
    impl Drop for Panics {
        fn drop(&mut self) {
            thread::yield_now();
            panic!("the second");
        }
    }
    let test = "a_panic_while_it_panics_ends_the_process_with_a_word";
    let ended = Child::of(test).run(|| {
        assert!(start());
        let _ = roam(|| {
            let _panics = Panics;
            thread::yield_now();
            panic!("the first");
        })
        .join();
    });
    assert_eq!(ended.status.signal(), Some(libc::SIGABRT), "{ended}");
    ended.assert_said(&["the first", "the second"]);
}
