//! mimalloc as the global allocator, whose heaps are those of threads: those of roaming goroutines, too.

use mimalloc::MiMalloc;
use std::collections::HashMap;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::sync::{Arc, Mutex, MutexGuard, Once, PoisonError};
use strands::channel::{self, Receiver, Sender};
use strands::runtime::{self, Config};
use strands::thread::{Affinity, Builder, JoinHandle};

#[global_allocator]
static GLOBAL: MiMalloc = MiMalloc;

/// One test at a time: one of them looks at the process's memory.
fn start() -> MutexGuard<'static, ()> {
    static CONFIGURED: Once = Once::new();
    static ALONE: Mutex<()> = Mutex::new(());
    CONFIGURED.call_once(|| runtime::configure(Config::new().processors(3)).unwrap());
    ALONE.lock().unwrap_or_else(PoisonError::into_inner)
}

/// One that roams, or is at home where none can.
fn roam<T: Send + 'static>(f: impl FnOnce() -> T + Send + 'static) -> JoinHandle<T> {
    Builder::new().affinity(Affinity::Roaming).spawn(f).unwrap()
}

/// What the process has in memory, in bytes.
fn resident() -> usize {
    let text = std::fs::read_to_string("/proc/self/statm").unwrap();
    text.split(' ').nth(1).unwrap().parse::<usize>().unwrap() * 4096
}

type Parcel = (usize, HashMap<usize, Vec<u8>>);

/// Takes a parcel, adds to it and throws something out of it that another has made, and sends it on.
fn carry(number: usize, inbox: &Receiver<Parcel>, outbox: &Sender<Parcel>, moved: &AtomicUsize) {
    // SAFETY: it takes nothing.
    let tid = || unsafe { libc::gettid() };
    let mut last = tid();
    for (hops, mut parcel) in inbox {
        if tid() != last {
            last = tid();
            moved.fetch_add(1, Ordering::Relaxed);
        }
        for (of, bytes) in &parcel {
            assert!(bytes.iter().all(|byte| *byte == *of as u8), "somebody else's memory");
        }
        parcel.remove(&((number + 7) % 16));
        parcel.insert(number % 16, vec![(number % 16) as u8; 100 + hops % 5_000]);
        // The last one has gone when all hops are made.
        if hops == 0 || outbox.send((hops - 1, parcel)).is_err() {
            return;
        }
    }
}

#[test]
fn memory_made_in_one_is_freed_in_another_wherever_they_run() {
    const GOROUTINES: usize = 60;
    let _alone = start();
    let moved = Arc::new(AtomicUsize::new(0));
    let (outboxes, mut inboxes): (Vec<_>, Vec<_>) =
        (0..GOROUTINES).map(|_| channel::bounded::<Parcel>(4)).unzip();
    // Each receives from the one before it.
    inboxes.rotate_right(1);
    let entry = outboxes[GOROUTINES - 1].clone();
    let carriers: Vec<_> = inboxes
        .into_iter()
        .zip(outboxes)
        .enumerate()
        .map(|(number, (inbox, outbox))| {
            let moved = moved.clone();
            roam(move || carry(number, &inbox, &outbox, &moved))
        })
        .collect();
    for _ in 0..20 {
        entry.send((4_000, HashMap::new())).unwrap();
    }
    drop(entry);
    carriers.into_iter().for_each(|carrier| carrier.join().unwrap());
    println!("{} changes of threads", moved.load(Ordering::Relaxed));
}

#[test]
fn short_ones_leave_nothing_behind() {
    let _alone = start();
    let some = |count: usize| {
        for _ in 0..count / 100 {
            let all: Vec<_> =
                (0..100).map(|n| roam(move || vec![n as u8; 10 + n * 31].len())).collect();
            for (n, handle) in all.into_iter().enumerate() {
                assert_eq!(handle.join().unwrap(), 10 + n * 31);
            }
        }
    };
    some(20_000);
    let before = resident();
    some(100_000);
    let grown = resident().saturating_sub(before);
    println!("grown by {grown} bytes");
    // A heap that was left by each would be hundreds of megabytes.
    assert!(grown < 32 << 20, "grown by {grown} bytes, from {before}");
}
