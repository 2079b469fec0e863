//! A worker that waits for its CPU behind a stranger is called over by one that has nothing to do.
#![cfg(not(loom))]

mod child;
mod process;

use process::on_processors;
use std::io::{ErrorKind, Read, Write};
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, AtomicUsize, Ordering::SeqCst};
use std::thread::ThreadId;
use std::time::Duration;
use strands::net::{TcpListener, UnixStream};
use strands::runtime::{self, Config};
use strands::thread::Affinity;

const NOWHERE: usize = usize::MAX;

/// The CPU on which the caller is.
fn cpu() -> usize {
    // SAFETY: takes nothing, and touches no memory of ours.
    usize::try_from(unsafe { libc::sched_getcpu() }).unwrap()
}

/// Has the calling thread run on this CPU alone.
fn stay_on(cpu: usize) {
    // SAFETY: an array of integers; there is such a bit, as somebody was seen on that CPU; the mask is live.
    unsafe {
        let mut mask: libc::cpu_set_t = std::mem::zeroed();
        libc::CPU_SET(cpu, &mut mask);
        assert_eq!(libc::sched_setaffinity(0, size_of_val(&mask), &mask), 0);
    }
}

/// The CPUs that each of these threads may use, as the kernel writes it.
fn masks(of: &[i32]) -> Vec<String> {
    let status = |tid: &i32| std::fs::read_to_string(format!("/proc/self/task/{tid}/status"));
    let mask = |status: String| {
        let mut lines = status.lines();
        lines.find(|line| line.starts_with("Cpus_allowed:")).unwrap().to_owned()
    };
    of.iter().map(|tid| mask(status(tid).unwrap())).collect()
}

/// Why no worker can be called over here.
fn why_not() -> Option<&'static str> {
    // SAFETY: an array of integers, which is live; the other calls take numbers.
    let (mine, online) = unsafe {
        let mut mask: libc::cpu_set_t = std::mem::zeroed();
        assert_eq!(libc::sched_getaffinity(0, size_of_val(&mask), &mut mask), 0);
        (libc::CPU_COUNT(&mask), libc::sysconf(libc::_SC_NPROCESSORS_ONLN))
    };
    match () {
        () if online < 2 => Some("there is one CPU"),
        () if libc::c_long::from(mine) < online => Some("this process is confined to some CPUs"),
        () => None,
    }
}

/// Where a worker is at home, and where its thread was seen last.
struct Worker {
    thread: ThreadId,
    tid: i32,
    cpu: AtomicUsize,
}

impl Worker {
    fn this() -> Arc<Worker> {
        // SAFETY: takes nothing, and touches no memory of ours.
        let tid = unsafe { libc::gettid() };
        let cpu = AtomicUsize::new(cpu());
        Arc::new(Worker { thread: std::thread::current().id(), tid, cpu })
    }

    fn is_seen(&self) {
        self.cpu.store(cpu(), SeqCst);
    }
}

#[test]
fn a_worker_behind_a_stranger_is_called_over_and_stays_as_free_as_before() {
    if let Some(reason) = why_not() {
        println!("skipped: {reason}");
        return;
    }
    on_processors(&[2], || {
        runtime::configure(Config::new().affinity(Affinity::Home)).expect("in time");
        let stop = Arc::new(AtomicBool::new(false));
        let done = |stop: &AtomicBool| stop.load(SeqCst);

        // One worker has something to do all the time, and a socket in its poller.
        let (busy_here, busy_there) = std::sync::mpsc::channel();
        let (_peer, socket) = UnixStream::pair().unwrap();
        let busy = strands::go({
            let stop = Arc::clone(&stop);
            move || {
                let worker = Worker::this();
                socket.set_read_timeout(Some(Duration::from_millis(1))).unwrap();
                let waited = (&socket).read(&mut [0]);
                assert_eq!(waited.unwrap_err().kind(), ErrorKind::WouldBlock);
                busy_here.send(Arc::clone(&worker)).unwrap();
                while !done(&stop) {
                    worker.is_seen();
                    strands::yield_now();
                }
                drop(socket);
            }
        });
        let busy_worker: Arc<Worker> = busy_there.recv().unwrap();

        // The other answers a client, and in between has nothing to do.
        let listener = TcpListener::bind("127.0.0.1:0").unwrap();
        let mut client = std::net::TcpStream::connect(listener.local_addr().unwrap()).unwrap();
        let mut served = Some(listener.accept().unwrap().0);
        let (idle_here, idle_there) = std::sync::mpsc::channel();
        let (server, idle_worker) = loop {
            let (at, mut stream) = (busy_worker.thread, served.take().unwrap());
            let idle_here = idle_here.clone();
            let server = strands::go(move || {
                let worker = Worker::this();
                if worker.thread == at {
                    // It was the busy one that has started it.
                    idle_here.send(Err(stream)).unwrap();
                    return;
                }
                idle_here.send(Ok(Arc::clone(&worker))).unwrap();
                let mut byte = [0];
                while stream.read(&mut byte).unwrap() == 1 {
                    worker.is_seen();
                    stream.write_all(&byte).unwrap();
                }
            });
            match idle_there.recv().unwrap() {
                Ok(worker) => break (server, worker),
                Err(stream) => served = Some(stream),
            }
            server.join().unwrap();
        };
        let workers = [busy_worker.tid, idle_worker.tid];
        let free = masks(&workers);

        // The client keeps the CPU of its server busy, so that the kernel sees no reason to move anybody.
        let asks = std::thread::spawn({
            let (stop, worker) = (Arc::clone(&stop), Arc::clone(&idle_worker));
            move || {
                client.set_nonblocking(true).unwrap();
                let mut there = NOWHERE;
                while !done(&stop) {
                    if std::mem::replace(&mut there, worker.cpu.load(SeqCst)) != there {
                        stay_on(there);
                    }
                    client.write_all(b"?").unwrap();
                    while let Err(error) = client.read(&mut [0]) {
                        assert_eq!(error.kind(), ErrorKind::WouldBlock);
                        std::thread::yield_now();
                    }
                }
            }
        });
        // The stranger computes wherever the busy one is.
        let stranger = std::thread::spawn({
            let (stop, worker) = (Arc::clone(&stop), Arc::clone(&busy_worker));
            move || {
                let mut there = NOWHERE;
                while !done(&stop) {
                    if std::mem::replace(&mut there, worker.cpu.load(SeqCst)) != there {
                        stay_on(there);
                    }
                    std::hint::spin_loop();
                }
            }
        });
        child::wait_until("the busy one is called over", || {
            runtime::metrics().workers_called_over > 0
        });
        stop.store(true, SeqCst);
        stranger.join().unwrap();
        asks.join().unwrap();
        busy.join().unwrap();
        server.join().unwrap();
        // Whoever moved them may be about to give the mask back.
        child::wait_until("both may run everywhere", || masks(&workers) == free);
    });
}
