//! Sockets and the scheduler: who is busy looks all the same, who is stuck is looked after, who has nothing to do
//! uses no processor, and a deadlock is still one.
#![cfg(not(loom))]

mod child;
mod process;
mod waiting;

use child::Child;
use process::on_processors;
use std::io::{Read, Write};
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, AtomicUsize, Ordering::SeqCst};
use std::time::{Duration, Instant};
use strands::net::{TcpListener, TcpStream, UnixStream};
use strands::runtime;
use strands::thread::Affinity;
use waiting::{Kind, PLENTY};

#[test]
fn a_busy_worker_still_looks_at_its_sockets() {
    on_processors(&[1, 2], || {
        let processors = runtime::metrics().processors;
        let stop = Arc::new(AtomicBool::new(false));
        let (mut one, other) = UnixStream::pair().unwrap();
        let reader = Kind::Goroutine.start(move || (&other).read(&mut [0; 4]).unwrap());
        reader.until_it_waits("io read");
        // Turns without end, and never nothing to do.
        let busy: Vec<_> = (0..4 * processors)
            .map(|_| {
                let stop = Arc::clone(&stop);
                strands::go(move || {
                    while !stop.load(SeqCst) {
                        strands::yield_now();
                    }
                })
            })
            .collect();
        strands::sleep(Duration::from_millis(20));
        one.write_all(b"abc").unwrap();
        assert_eq!(reader.join(), 3);
        stop.store(true, SeqCst);
        busy.into_iter().for_each(|busy| busy.join().unwrap());
    });
}

#[test]
fn what_a_stuck_worker_was_told_reaches_others() {
    on_processors(&[1, 2], || {
        // Both are registered with the worker of the goroutine that waits for either …
        let (mut one, other) = UnixStream::pair().unwrap();
        let (mut trigger, triggered) = UnixStream::pair().unwrap();
        let other = Arc::new(other);
        let (stop, stuck) = (Arc::new(AtomicBool::new(false)), Arc::new(AtomicBool::new(false)));
        let first = Kind::Goroutine.start({
            let (other, stop, stuck) = (Arc::clone(&other), Arc::clone(&stop), Arc::clone(&stuck));
            move || {
                strands::select! {
                    ready(other.readable()) -> _ => unreachable!("nothing was written"),
                    ready(triggered.readable()) -> ready => ready.unwrap(),
                }
                // … which now is stuck, while others wait for one of them.
                stuck.store(true, SeqCst);
                while !stop.load(SeqCst) {
                    std::hint::spin_loop();
                }
            }
        });
        first.until_it_waits("select");
        let others: Vec<_> = (0..3)
            .map(|_| {
                let other = Arc::clone(&other);
                Kind::Thread.start(move || other.readable().wait().unwrap())
            })
            .collect();
        others.iter().for_each(|other| other.until_it_waits("select"));
        trigger.write_all(b"1").unwrap();
        child::wait_until("it is stuck", || stuck.load(SeqCst));
        one.write_all(b"2").unwrap();
        others.into_iter().for_each(|other| other.join());
        stop.store(true, SeqCst);
        first.join();
    });
}

#[test]
fn connections_are_spread_and_none_waits_for_a_stuck_worker() {
    on_processors(&[2], || {
        const COUNT: usize = 60;
        // Those that roam are at home nowhere.
        runtime::configure(runtime::Config::new().affinity(Affinity::Home)).expect("in time");
        let listener = TcpListener::bind("127.0.0.1:0").unwrap();
        let addr = listener.local_addr().unwrap();
        let stop = Arc::new(AtomicBool::new(false));
        // Each connection answers with whether it is at home with the one that accepted it; after a `!` it computes.
        strands::go({
            let stop = Arc::clone(&stop);
            move || {
                let there = std::thread::current().id();
                for stream in listener.incoming() {
                    let (mut stream, stop) = (stream.unwrap(), Arc::clone(&stop));
                    strands::go(move || {
                        let here = std::thread::current().id();
                        let mut byte = [0];
                        while stream.read(&mut byte).is_ok_and(|n| n == 1) {
                            stream.write_all(if here == there { b"h" } else { b"a" }).unwrap();
                            while byte == *b"!" && !stop.load(SeqCst) {
                                std::hint::spin_loop();
                            }
                        }
                    });
                }
            }
        });
        let ask = |peer: &mut std::net::TcpStream, question: &[u8; 1]| {
            let mut answer = [0];
            peer.write_all(question).unwrap();
            peer.read_exact(&mut answer).unwrap();
            answer[0]
        };
        let connect = || std::net::TcpStream::connect(addr).unwrap();
        // One at a time, as connections come.
        let (mut home, mut away) = (Vec::new(), Vec::new());
        for _ in 0..COUNT {
            let mut peer = connect();
            if ask(&mut peer, b".") == b'h' { &mut home } else { &mut away }.push(peer);
        }
        assert!(home.len() >= COUNT / 10 && away.len() >= COUNT / 10, "{} at home", home.len());
        // The other worker has room, and is stuck.
        let mut stuck = away.pop().unwrap();
        away.clear();
        std::thread::sleep(Duration::from_millis(20));
        ask(&mut stuck, b"!");
        let mut late: Vec<_> = (0..10).map(|_| connect()).collect();
        late.iter_mut().for_each(|peer| {
            ask(peer, b".");
        });
        stop.store(true, SeqCst);
    });
}

#[test]
fn wakers_do_not_run_on_a_workers_own_stack() {
    struct Whose(std::sync::mpsc::Sender<Option<String>>);
    impl std::task::Wake for Whose {
        fn wake(self: Arc<Whose>) {
            let _ = self.0.send(strands::thread::current().name().map(str::to_owned));
        }
    }
    on_processors(&[1, 2], || {
        let (mut one, other) = UnixStream::pair().unwrap();
        let (told, heard) = std::sync::mpsc::channel();
        let polled = strands::go(move || {
            let waker = std::task::Waker::from(Arc::new(Whose(told)));
            let mut future = Box::pin(async move { other.readable_async().await });
            let mut cx = std::task::Context::from_waker(&waker);
            assert!(future.as_mut().poll(&mut cx).is_pending());
            future
        });
        let _future = polled.join().unwrap();
        one.write_all(b"x").unwrap();
        // A worker's thread has a name, a goroutine has none.
        assert_eq!(heard.recv_timeout(PLENTY).unwrap(), None);
    });
}

#[test]
fn idle_connections_use_no_processor() {
    Child::of("idle_connections_use_no_processor")
        .run(|| {
            let listener = TcpListener::bind("127.0.0.1:0").unwrap();
            let addr = listener.local_addr().unwrap();
            strands::go(move || {
                for stream in listener.incoming() {
                    let mut stream = stream.unwrap();
                    strands::go(move || while stream.read(&mut [0; 9]).is_ok_and(|n| n > 0) {});
                }
            });
            let _peers: Vec<_> = (0..50).map(|_| TcpStream::connect(addr).unwrap()).collect();
            std::thread::sleep(Duration::from_millis(100));
            let before = cpu_time();
            std::thread::sleep(Duration::from_millis(500));
            let used = cpu_time() - before;
            assert!(used < Duration::from_millis(25), "{used:?}");
        })
        .assert_success();
}

fn cpu_time() -> Duration {
    let mut time = libc::timespec { tv_sec: 0, tv_nsec: 0 };
    // SAFETY: one live structure.
    unsafe { libc::clock_gettime(libc::CLOCK_PROCESS_CPUTIME_ID, &raw mut time) };
    Duration::new(time.tv_sec as u64, time.tv_nsec as u32)
}

#[test]
fn a_deadlock_is_reported_though_there_are_sockets() {
    let program = process::stage(|| {
        let (one, other) = UnixStream::pair().unwrap();
        // Used once, so that there is a poller, and nobody waits for it now.
        let reader = strands::go(move || {
            (&other).read_exact(&mut [0; 1]).unwrap();
            other
        });
        strands::sleep(Duration::from_millis(5));
        (&one).write_all(b"x").unwrap();
        let _other = reader.join().unwrap();
        let (_tx, rx) = strands::channel::bounded::<()>(0);
        let _ = strands::go(move || rx.recv()).join();
    });
    let Some(program) = program else { return };
    let outcome = program.run();
    assert_eq!(outcome.status.code(), Some(2), "{outcome}");
    assert!(outcome.stderr.contains("deadlock"), "{outcome}");
}

#[test]
fn timers_and_sockets_end_the_same_sleep() {
    on_processors(&[1, 2], || {
        let (mut one, mut other) = UnixStream::pair().unwrap();
        let reader = strands::go(move || {
            let mut count = 0;
            while other.read(&mut [0]).unwrap() == 1 {
                count += 1;
            }
            count
        });
        let sleeper = strands::go(|| {
            for _ in 0..50 {
                let begun = Instant::now();
                strands::sleep(Duration::from_micros(700));
                assert!(begun.elapsed() >= Duration::from_micros(700));
                assert!(begun.elapsed() < PLENTY / 10);
            }
        });
        for _ in 0..50 {
            std::thread::sleep(Duration::from_micros(500));
            one.write_all(b"x").unwrap();
        }
        sleeper.join().unwrap();
        drop(one);
        assert_eq!(reader.join().unwrap(), 50);
    });
}

#[test]
fn channels_and_sockets_wake_the_same_worker() {
    // A worker that sleeps in its poller is woken for a goroutine that another thread has made ready.
    on_processors(&[1, 2], || {
        let (mut one, mut other) = UnixStream::pair().unwrap();
        let (tx, rx) = strands::channel::bounded::<u32>(0);
        let (back, got) = strands::channel::bounded::<u32>(0);
        let by_socket = strands::go(move || {
            let mut byte = [0];
            while other.read(&mut byte).unwrap() == 1 {
                other.write_all(&byte).unwrap();
            }
        });
        let by_channel = strands::go(move || rx.iter().for_each(|n| back.send(n).unwrap()));
        for n in 0..2_000 {
            if n % 2 == 0 {
                tx.send(n).unwrap();
                assert_eq!(got.recv(), Ok(n));
            } else {
                one.write_all(b"x").unwrap();
                one.read_exact(&mut [0]).unwrap();
            }
        }
        drop((tx, one));
        by_channel.join().unwrap();
        by_socket.join().unwrap();
    });
}

#[test]
fn a_destructor_of_a_panic_may_wait_for_a_socket() {
    // Where panics cannot be told apart the worker's thread waits, and has to look at its poller itself.
    let ended = Child::of("a_destructor_of_a_panic_may_wait_for_a_socket")
        .env("STRANDS_DEBUG", "panics=pinned")
        .run(|| {
            struct Reads(UnixStream, Arc<AtomicUsize>);
            impl Drop for Reads {
                fn drop(&mut self) {
                    self.1.store(self.0.read(&mut [0; 4]).unwrap(), SeqCst);
                }
            }
            let (mut one, other) = UnixStream::pair().unwrap();
            let got = Arc::new(AtomicUsize::new(0));
            let reader = Kind::Goroutine.start({
                let got = Arc::clone(&got);
                move || {
                    let _reads = Reads(other, got);
                    panic!("on purpose");
                }
            });
            reader.until_it_waits("io read");
            one.write_all(b"abc").unwrap();
            assert!(reader.outcome().is_err());
            assert_eq!(got.load(SeqCst), 3);
        });
    ended.assert_success();
}

/// Which system calls the worker threads are in.
fn calls_of_workers() -> Vec<i64> {
    let tasks = std::fs::read_dir("/proc/self/task").unwrap().flatten();
    let workers = tasks.filter(|task| {
        let name = std::fs::read_to_string(task.path().join("comm")).unwrap_or_default();
        // A number, and neither the monitor nor the like.
        name.trim().strip_prefix("strands-").is_some_and(|rest| rest.parse::<u32>().is_ok())
    });
    let call = |task: std::fs::DirEntry| {
        let text = std::fs::read_to_string(task.path().join("syscall")).ok()?;
        text.split(' ').next()?.parse().ok()
    };
    workers.filter_map(call).collect()
}

#[test]
fn a_worker_sleeps_in_its_poller_only_as_long_as_it_has_sockets() {
    on_processors(&[1], || {
        let polls = [libc::SYS_epoll_wait, libc::SYS_epoll_pwait, libc::SYS_epoll_pwait2];
        for _ in 0..3 {
            let (mut one, mut other) = UnixStream::pair().unwrap();
            let reader = Kind::Goroutine.start(move || other.read(&mut [0]).unwrap());
            reader.until_it_waits("io read");
            child::wait_until("it sleeps in its poller", || {
                calls_of_workers().iter().any(|call| polls.contains(call))
            });
            one.write_all(b"x").unwrap();
            assert_eq!(reader.join(), 1);
            child::wait_until("it sleeps on its futex", || {
                let calls = calls_of_workers();
                !calls.is_empty() && calls.iter().all(|call| *call == libc::SYS_futex)
            });
        }
    });
}

#[test]
fn a_descriptor_that_was_given_up_can_be_taken_in_again() {
    on_processors(&[1, 2], || {
        use std::os::fd::{AsRawFd, FromRawFd, OwnedFd};
        let (ours, mut peer) = std::os::unix::net::UnixStream::pair().unwrap();
        // A copy keeps the socket open, and with it what an epoll instance knows of it.
        let copy = OwnedFd::from(ours.try_clone().unwrap());
        let number = ours.as_raw_fd();
        let mut ours = UnixStream::from(ours);
        for round in 0..5 {
            let reader = Kind::Goroutine.start(move || {
                let mut byte = [0];
                ours.read_exact(&mut byte).unwrap();
                drop(ours);
                byte[0]
            });
            reader.until_it_waits("io read");
            peer.write_all(&[round]).unwrap();
            assert_eq!(reader.join(), round);
            // The runtime may have a file open there, for a moment.
            let again = loop {
                // SAFETY: the copy is open; what is made is ours.
                let again = unsafe {
                    OwnedFd::from_raw_fd(libc::fcntl(
                        copy.as_raw_fd(),
                        libc::F_DUPFD_CLOEXEC,
                        number,
                    ))
                };
                if again.as_raw_fd() == number {
                    break again;
                }
            };
            ours = UnixStream::from(again);
        }
    });
}
