//! Models of a reader-writer lock whose readers are counted in lanes: who comes, leaves, waits, opens and closes.
//!
//! A thread of a model that sits on a seat is a worker's. loom has no barrier for all threads: see
//! `primitive::lopsided`.

use super::{Bell, Guarded, TO_THE_END, model, passed};
use crate::primitive::Arc;
use crate::sync::raw::{RawRwLock, Reading, Writing};
use crate::wait::{Seat, take_seat};
use loom::thread;
use std::pin::pin;
use std::ptr;
use std::task::{Context, Waker};

type Shared = Arc<Guarded<RawRwLock>>;

/// The thread is the worker of this number, until this is dropped.
struct Seated(Box<Seat>);

impl Seated {
    fn at(number: usize) -> Seated {
        let seat = Box::new(Seat::for_model(number));
        // SAFETY: it lives until we are dropped; the models seat no two threads alike.
        unsafe { take_seat(&raw const *seat) };
        Seated(seat)
    }
}

impl Drop for Seated {
    fn drop(&mut self) {
        // SAFETY: none.
        unsafe { take_seat(ptr::null()) };
    }
}

/// Reads, and may find what has been written by so many at most.
fn read(shared: &Shared, most: usize) {
    assert!(shared.lock.read_until(None));
    assert!(shared.read() <= most);
    // SAFETY: we read.
    unsafe { shared.lock.unlock_read() };
}

fn write(shared: &Shared) {
    assert_eq!(written_if(shared.lock.write_until(None), shared), 1);
}

/// A lock that has been read often, by the caller.
fn often_read() -> Shared {
    let shared = Guarded::new(RawRwLock::new());
    (0..2).for_each(|_| read(&shared, 0));
    assert!(shared.lock.has_open_lanes(), "{:?}", shared.lock);
    shared
}

fn ends_free(shared: &Shared, written: usize) {
    assert!(shared.lock.try_write(), "it was left locked: {:?}", shared.lock);
    assert_eq!(shared.read(), written);
}

fn spawn<R: 'static>(
    shared: &Shared,
    f: impl FnOnce(&Shared) -> R + 'static,
) -> thread::JoinHandle<R> {
    let shared = Arc::clone(shared);
    thread::spawn(move || f(&shared))
}

/// A worker of its own that reads once.
fn reads_at(seat: usize, shared: &Shared, most: usize) -> thread::JoinHandle<()> {
    spawn(shared, move |shared| {
        let _seat = Seated::at(seat);
        read(shared, most);
    })
}

/// What one has written who may write, or may not.
fn written_if(writes: bool, shared: &Shared) -> usize {
    if writes {
        shared.add_one();
        // SAFETY: ours.
        unsafe { shared.lock.unlock_write() };
    }
    usize::from(writes)
}

/// One who writes, or not, among readers in so many lanes; it says how often it has written.
fn among_readers(lanes: usize, preemptions: usize, writer: fn(&Shared) -> usize) {
    model(preemptions, move || {
        let _seat = Seated::at(0);
        let shared = often_read();
        let writer = spawn(&shared, writer);
        let readers: Vec<_> = (1..lanes).map(|seat| reads_at(seat, &shared, 1)).collect();
        read(&shared, 1);
        let written = writer.join().unwrap();
        readers.into_iter().for_each(|reader| reader.join().unwrap());
        ends_free(&shared, written);
    });
}

/// Two lanes and three preemptions pass as well, in minutes.
#[test]
fn a_writer_is_alone_among_readers_in_lanes() {
    let writer = |shared: &Shared| written_if(shared.lock.write_until(None), shared);
    among_readers(1, 4, writer);
    among_readers(2, 2, writer);
}

#[test]
fn a_writer_that_gives_up_leaves_readers_in_lanes_alone() {
    let writer = |shared: &Shared| written_if(shared.lock.write_until(passed()), shared);
    among_readers(1, 4, writer);
    among_readers(2, 2, writer);
}

#[test]
fn who_tries_to_write_is_alone_or_is_told_that_it_may_not() {
    among_readers(2, 3, |shared| written_if(shared.lock.try_write(), shared));
}

#[test]
fn a_reader_may_leave_in_another_lane_than_it_came_in() {
    model(3, || {
        let _seat = Seated::at(0);
        let shared = often_read();
        assert!(shared.lock.read_until(None));
        let writer = spawn(&shared, write);
        let elsewhere = spawn(&shared, |shared| {
            let _seat = Seated::at(1);
            assert_eq!(shared.read(), 0);
            // SAFETY: the reader that has come is us now.
            unsafe { shared.lock.unlock_read() };
        });
        read(&shared, 1);
        writer.join().unwrap();
        elsewhere.join().unwrap();
        ends_free(&shared, 1);
    });
}

#[test]
fn a_reader_may_leave_where_there_is_no_lane() {
    model(3, || {
        let shared = {
            let _seat = Seated::at(0);
            let shared = often_read();
            assert!(shared.lock.read_until(None));
            shared
        };
        let writer = spawn(&shared, write);
        let reader = reads_at(1, &shared, 1);
        assert_eq!(shared.read(), 0);
        // SAFETY: we read.
        unsafe { shared.lock.unlock_read() };
        writer.join().unwrap();
        reader.join().unwrap();
        ends_free(&shared, 1);
    });
}

/// The second writer relies on the lanes' being closed, or closes them again.
#[test]
fn writers_one_after_the_other_wait_for_readers_in_lanes() {
    model(2, || {
        let _seat = Seated::at(0);
        let shared = often_read();
        let writers = [(); 2].map(|()| spawn(&shared, write));
        (0..2).for_each(|_| read(&shared, 2));
        let _ = writers.map(|writer| writer.join().unwrap());
        ends_free(&shared, 2);
    });
}

#[test]
fn lanes_are_opened_while_a_writer_comes() {
    model(2, || {
        let shared = Guarded::new(RawRwLock::new());
        let readers = [0, 1].map(|number| {
            spawn(&shared, move |shared| {
                let _seat = Seated::at(number);
                (0..2).for_each(|_| read(shared, 1));
            })
        });
        write(&shared);
        let _ = readers.map(|reader| reader.join().unwrap());
        ends_free(&shared, 1);
    });
}

#[test]
fn futures_come_and_go_in_lanes() {
    for polls in [1, TO_THE_END] {
        model(2, move || {
            let _seat = Seated::at(0);
            let shared = often_read();
            let writer = spawn(&shared, move |shared| {
                written_if(drive!(Writing::new(&shared.lock), polls), shared)
            });
            let reader = spawn(&shared, move |shared| {
                let _seat = Seated::at(1);
                if drive!(Reading::new(&shared.lock), polls) {
                    assert!(shared.read() <= 1);
                    // SAFETY: we read.
                    unsafe { shared.lock.unlock_read() };
                }
            });
            read(&shared, 1);
            let written = writer.join().unwrap();
            reader.join().unwrap();
            ends_free(&shared, written);
        });
    }
}
