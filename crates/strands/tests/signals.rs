//! A storm of signals on all threads, over goroutines of either affinity that switch, wait, sleep and make system calls. With
//! `SA_RESTART` and without it, when calls fail with `EINTR` that nobody meant to interrupt.

mod child;

use child::Child;
use std::cell::Cell;
use std::ffi::c_int;
use std::mem::MaybeUninit;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};
use std::time::{Duration, Instant};
use strands::channel::bounded;
use strands::runtime::{self, Config};
use strands::thread::{self, Affinity, Builder, JoinHandle};

static HANDLED: AtomicU64 = AtomicU64::new(0);

thread_local! {
    static IN_HANDLER: Cell<u64> = const { Cell::new(0) };
}

extern "C" fn on_signal(_: c_int) {
    IN_HANDLER.set(IN_HANDLER.get() + 1);
    HANDLED.fetch_add(1, Ordering::Relaxed);
}

fn handle(signal: c_int, flags: c_int) {
    // SAFETY: the handler counts, and does nothing else.
    unsafe {
        let mut action: libc::sigaction = MaybeUninit::zeroed().assume_init();
        action.sa_sigaction = on_signal as *const () as usize;
        action.sa_flags = flags;
        assert_eq!(libc::sigaction(signal, &raw const action, std::ptr::null_mut()), 0);
    }
}

/// Sends a signal to each thread of the process but its own, again and again.
fn storm(done: &AtomicBool) {
    // SAFETY: it takes nothing.
    let us = unsafe { libc::gettid() };
    while !done.load(Ordering::Relaxed) {
        for entry in std::fs::read_dir("/proc/self/task").unwrap() {
            let tid: i32 = entry.unwrap().file_name().to_str().unwrap().parse().unwrap();
            if tid != us {
                // SAFETY: a thread of this process, or none any more.
                unsafe { libc::syscall(libc::SYS_tgkill, libc::getpid(), tid, libc::SIGUSR1) };
            }
        }
        std::thread::sleep(Duration::from_micros(20));
    }
}

/// Pairs that talk, sleep, and read what a thread writes for them; each checks what it keeps on its stack.
fn pairs(affinity: Affinity, until: Instant) -> Vec<JoinHandle<u64>> {
    let go = move |f: Box<dyn FnOnce() -> u64 + Send>| {
        Builder::new().affinity(affinity).spawn(f).unwrap()
    };
    let pair = move |number: u64| {
        let (tx, rx) = bounded::<u64>(0);
        let sender = go(Box::new(move || {
            let mut sent = 0;
            while Instant::now() < until {
                let kept = std::hint::black_box([sent as f64 * 0.5; 16]);
                tx.send(sent).unwrap();
                thread::yield_now();
                assert_eq!(kept, [sent as f64 * 0.5; 16]);
                if sent % 64 == number {
                    thread::sleep(Duration::from_micros(100));
                }
                if sent % 1024 == number {
                    let mut file = std::fs::File::open("/proc/self/comm").unwrap();
                    let mut text = String::new();
                    std::io::Read::read_to_string(&mut file, &mut text).unwrap();
                    assert!(!text.is_empty());
                    // Blocks the thread.
                    std::thread::sleep(Duration::from_micros(500));
                }
                sent += 1;
            }
            sent
        }));
        let receiver = go(Box::new(move || {
            let mut expected = 0;
            loop {
                match rx.recv_timeout(Duration::from_millis(50)) {
                    Ok(got) => {
                        assert_eq!(got, expected);
                        expected += 1;
                    }
                    Err(error) if error.is_timeout() => {}
                    Err(_) => return expected,
                }
            }
        }));
        [sender, receiver]
    };
    (0..8).flat_map(pair).collect()
}

fn under_a_storm(flags: c_int) {
    runtime::configure(Config::new().processors(3)).unwrap();
    handle(libc::SIGUSR1, flags);
    handle(libc::SIGPROF, flags);
    let every = libc::timeval { tv_sec: 0, tv_usec: 1_000 };
    let timer = libc::itimerval { it_interval: every, it_value: every };
    // SAFETY: it reads the one, and would write the other.
    let set = unsafe { libc::setitimer(libc::ITIMER_PROF, &raw const timer, std::ptr::null_mut()) };
    assert_eq!(set, 0);
    let done = Arc::new(AtomicBool::new(false));
    let storm = std::thread::spawn({
        let done = done.clone();
        move || storm(&done)
    });
    let until = Instant::now() + Duration::from_secs(2);
    let mut all = pairs(Affinity::Home, until);
    all.extend(pairs(Affinity::Roaming, until));
    let counts: Vec<u64> = all.into_iter().map(|handle| handle.join().unwrap()).collect();
    for pair in counts.chunks(2) {
        assert_eq!(pair[0], pair[1], "messages were lost");
    }
    child::wait_until("enough signals", || HANDLED.load(Ordering::Relaxed) > 300);
    done.store(true, Ordering::Relaxed);
    storm.join().unwrap();
    println!(
        "{} signals, {} messages",
        HANDLED.load(Ordering::Relaxed),
        counts.iter().sum::<u64>()
    );
}

#[test]
fn a_storm_of_signals_that_restart_calls_does_no_harm() {
    let test = "a_storm_of_signals_that_restart_calls_does_no_harm";
    Child::of(test).run(|| under_a_storm(libc::SA_RESTART)).assert_success();
}

#[test]
fn a_storm_of_signals_that_interrupt_calls_does_no_harm() {
    let test = "a_storm_of_signals_that_interrupt_calls_does_no_harm";
    Child::of(test).run(|| under_a_storm(0)).assert_success();
}

#[test]
fn a_storm_of_signals_on_a_stack_of_their_own_does_no_harm() {
    let test = "a_storm_of_signals_on_a_stack_of_their_own_does_no_harm";
    Child::of(test).run(|| under_a_storm(libc::SA_ONSTACK)).assert_success();
}
