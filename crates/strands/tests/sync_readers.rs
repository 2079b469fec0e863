//! Locks that are read often, whose readers are counted per thread: all else is as before.

mod process;

use process::on_processors;
use std::sync::atomic::{AtomicU64, Ordering::SeqCst};
use std::time::{Duration, Instant};
use strands::channel::bounded;
use strands::sync::{Arc, WaitGroup, raw};
use strands::thread::{Affinity, Builder};
use strands::{go, sleep, yield_now};

type Lock = raw::RwLock<(u64, u64)>;

/// Nothing here takes a tenth of it on an idle machine.
const PATIENCE: Duration = Duration::from_secs(60);

/// Whether the kernel has what it takes. Where it has not, readers share one count, and these tests are of that.
fn can_have_lanes() -> bool {
    const PRIVATE_EXPEDITED: i64 = 1 << 3;
    // SAFETY: it asks what there is, and touches no memory.
    let there_is = unsafe { libc::syscall(libc::SYS_membarrier, 0, 0, 0) };
    there_is > 0 && there_is & PRIVATE_EXPEDITED != 0
}

fn has_lanes(lock: &Lock) -> bool {
    // SAFETY: it is looked at.
    format!("{:?}", unsafe { lock.raw() }).contains("lanes: true")
}

/// Reads until that is noticed. In a goroutine.
fn read_often(lock: &Lock) {
    let start = Instant::now();
    while can_have_lanes() && !has_lanes(lock) {
        assert!(start.elapsed() < PATIENCE, "it has not been noticed: {lock:?}");
        for _ in 0..10_000 {
            drop(lock.read());
        }
        yield_now();
    }
}

fn often_read() -> Arc<Lock> {
    let lock = Arc::new(Lock::new((0, 0)));
    let same = Arc::clone(&lock);
    go(move || read_often(&same)).join().unwrap();
    lock
}

#[test]
fn readers_of_all_kinds_and_writers_are_never_in_together() {
    const GOROUTINES: usize = 16;
    const THREADS: usize = 3;
    const TURNS: u64 = 3_000;
    on_processors(&[1, 2, 4], || {
        let lock = often_read();
        let written = Arc::new(AtomicU64::new(0));
        let work = |seed: u64| {
            let (lock, written) = (Arc::clone(&lock), Arc::clone(&written));
            move || {
                let mut random = seed.wrapping_mul(0x9e37_79b9_7f4a_7c15) | 1;
                for _ in 0..TURNS {
                    random ^= random << 13;
                    random ^= random >> 7;
                    random ^= random << 17;
                    match random >> 32 & 1023 {
                        0..8 => {
                            let mut pair = lock.write();
                            pair.0 += 1;
                            yield_now();
                            pair.1 += 1;
                            written.fetch_add(1, SeqCst);
                        }
                        8..10 => {
                            if let Some(mut pair) = lock.try_write() {
                                *pair = (pair.0 + 1, pair.1 + 1);
                                written.fetch_add(1, SeqCst);
                            }
                        }
                        10..12 => {
                            if let Some(pair) = lock.try_write_for(Duration::from_micros(50)) {
                                let pair = raw::RwLockWriteGuard::downgrade(pair);
                                assert_eq!(pair.0, pair.1);
                            }
                        }
                        // A roaming goroutine may be on another thread when it is done.
                        12..40 => {
                            let pair = lock.read();
                            let seen = *pair;
                            yield_now();
                            assert_eq!(seen, *pair);
                        }
                        40..42 => {
                            let pair = lock.read();
                            sleep(Duration::from_micros(100));
                            assert_eq!(pair.0, pair.1);
                        }
                        _ => {
                            let pair = lock.read();
                            assert_eq!(pair.0, pair.1);
                        }
                    }
                }
            }
        };
        let group = WaitGroup::new();
        group.add(GOROUTINES);
        for n in 0..GOROUTINES {
            let affinity = if n % 2 == 0 { Affinity::Home } else { Affinity::Roaming };
            let (work, group) = (work(n as u64 + 1), group.clone());
            let all = move || {
                work();
                group.done();
            };
            Builder::new().affinity(affinity).spawn(all).unwrap();
        }
        let threads: Vec<_> =
            (0..THREADS).map(|n| std::thread::spawn(work(100 + n as u64))).collect();
        group.wait();
        threads.into_iter().for_each(|thread| thread.join().unwrap());
        assert!(!lock.is_locked(), "{lock:?}");
        let pair = lock.try_write().expect("nobody has it");
        assert_eq!(*pair, (written.load(SeqCst), written.load(SeqCst)));
    });
}

/// Readers that came in lanes leave when the writer has closed them.
#[test]
fn a_writer_that_waits_for_readers_is_woken_by_the_last() {
    on_processors(&[1, 2], || {
        for _ in 0..100 {
            let lock = often_read();
            let (here, is_here) = bounded(0);
            let readers: Vec<_> = (0..3)
                .map(|_| {
                    let (lock, here) = (Arc::clone(&lock), here.clone());
                    let (leave, may_leave) = bounded::<()>(0);
                    let reader = go(move || {
                        let pair = lock.read();
                        here.send(()).unwrap();
                        may_leave.recv().unwrap_err();
                        assert_eq!(pair.0, pair.1);
                    });
                    (reader, leave)
                })
                .collect();
            readers.iter().for_each(|_| is_here.recv().unwrap());
            assert!(lock.try_write().is_none());
            assert!(lock.try_write_for(Duration::from_micros(10)).is_none());
            assert!(lock.try_read().is_some(), "a writer that has given up is in nobody's way");
            let writer = {
                let lock = Arc::clone(&lock);
                go(move || *lock.write() = (1, 1))
            };
            while lock.try_read().is_some() {
                yield_now();
            }
            for (reader, leave) in readers {
                drop(leave);
                reader.join().unwrap();
            }
            writer.join().unwrap();
            assert_eq!(*lock.read(), (1, 1));
        }
    });
}

#[test]
fn a_forgotten_reader_is_never_forgotten() {
    on_processors(&[2], || {
        let lock = often_read();
        let same = Arc::clone(&lock);
        go(move || std::mem::forget(same.read())).join().unwrap();
        assert!(lock.is_locked());
        assert!(lock.try_write().is_none());
        assert!(lock.try_write_for(Duration::from_millis(1)).is_none());
        assert!(lock.try_read().is_some());
        assert_eq!(Arc::into_inner(lock).expect("nobody else has it").into_inner(), (0, 0));
    });
}
