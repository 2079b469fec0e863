//! How the runtime's threads are started: so that they inherit nothing.
//!
//! They are started by whoever is the first to need them, and outlive that need. What std has a thread inherit from its
//! spawner must not stay with them: in a program of tests it says where libtest keeps what the spawner's test prints, and
//! all that goroutines print from then on, and the messages of their panics, would go there, be it another test's, and
//! that one long over. So the runtime's threads are spawned from a blank one (`sys::blank`), which costs one more thread
//! for a moment.
//!
//! Not if the spawner is a thread of the runtime itself, or a goroutine: it has inherited nothing, so it has nothing to hand
//! on. (A roaming one has thread-locals of its own, which began as a new thread's do.) So a hand-off, which may start
//! threads again and again while a program runs, is as quick as ever: it is the monitor's doing, or a worker's.
//!
//! Where the process may have just one more thread, the blank one is in the way of the one that is wanted. Then that is
//! spawned from here after all, and inherits: who has hardly a thread left is served better by a worker than by none. Such a
//! thread does not count as one that has inherited nothing.
//!
//! Threads that only find something out for us, and end, print nothing and run no code of users': they are started
//! wherever they are needed, as any (`panic_count`, `roaming::facts`, `sys::membarrier`).

use super::here;
use super::started::Started;
use crate::sys::blank::on_blank_thread;
use std::cell::Cell;
use std::io;
use std::sync::{Arc, Mutex, PoisonError};
use std::thread::Builder;

thread_local! {
    /// Whether this thread is the runtime's and has inherited nothing. Without a destructor, so that those of others may
    /// ask.
    static IS_PURE: Cell<bool> = const { Cell::new(false) };
}

/// Starts a thread of the runtime, which nobody joins.
///
/// # Errors
/// There can be no such thread; `life` was dropped.
pub(crate) fn start(
    name: impl Into<String>,
    life: impl FnOnce() + Send + 'static,
) -> io::Result<()> {
    let name = name.into();
    if has_nothing_to_hand_on() {
        return spawn(name, move || live(true, life));
    }
    start_from_elsewhere(name, life)
}

#[cold]
fn start_from_elsewhere(name: String, life: impl FnOnce() + Send + 'static) -> io::Result<()> {
    // A thread that is refused takes along what it was to run; there may be two attempts.
    let life = Arc::new(Mutex::new(Some(life)));
    let attempt = |is_pure| {
        let life = Arc::clone(&life);
        spawn(name.clone(), move || {
            let life = life.lock().unwrap_or_else(PoisonError::into_inner).take();
            live(is_pure, life.expect("one attempt succeeds"));
        })
    };
    match on_blank_thread(|| attempt(true)) {
        Ok(Ok(())) => Ok(()),
        Ok(Err(_)) | Err(_) => attempt(false),
    }
}

fn spawn(name: String, life: impl FnOnce() + Send + 'static) -> io::Result<()> {
    Builder::new().name(name).spawn(life).map(drop)
}

fn live(is_pure: bool, life: impl FnOnce()) {
    IS_PURE.set(is_pure);
    life();
}

/// Whether the calling thread or goroutine has inherited nothing itself. Never inlined: it reads a thread-local, and
/// goroutines ask.
#[inline(never)]
fn has_nothing_to_hand_on() -> bool {
    IS_PURE.get() || here::current().is_some_and(Started::roams)
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::config::Affinity;
    use crate::sched::{Order, blocking, spawn as spawn_goroutine};
    use crate::stack::in_child::{in_child, stderr};
    use std::panic::Location;
    use std::sync::mpsc::{Sender, channel};

    fn in_goroutine(affinity: Affinity, f: fn() -> bool) -> bool {
        let (tell, told) = channel();
        let order = Order::plain(Location::caller()).with_affinity(Some(affinity));
        // SAFETY: the closure borrows nothing that ends.
        let joined = unsafe { spawn_goroutine(order, move || tell.send(f()).unwrap(), ()) };
        drop(joined.unwrap());
        told.recv().unwrap()
    }

    #[test]
    fn goroutines_and_threads_of_the_runtime_have_nothing_to_hand_on_and_others_may() {
        let name = concat!(
            module_path!(),
            "::goroutines_and_threads_of_the_runtime_have_nothing_to_hand_on_and_others_may"
        );
        // In a process of its own: once goroutines roam, stacks are trimmed less, as their tests would find.
        let output = in_child(name, || {
            assert!(!has_nothing_to_hand_on());
            assert!(in_goroutine(Affinity::Home, has_nothing_to_hand_on));
            assert!(in_goroutine(Affinity::Roaming, has_nothing_to_hand_on));
            assert!(in_goroutine(Affinity::Home, || blocking(has_nothing_to_hand_on)));
            assert!(!has_nothing_to_hand_on());
        });
        assert!(output.status.success(), "{}", stderr(&output));
    }

    #[test]
    fn a_thread_that_is_started_has_its_name_and_starts_others_that_are_pure() {
        let (tell, told) = channel();
        let start_two = move || {
            let of_ours = tell.clone();
            let second = move || tell.send(has_nothing_to_hand_on()).unwrap();
            let first = move || {
                let name = std::thread::current().name().map(str::to_owned);
                of_ours
                    .send(has_nothing_to_hand_on() && name.as_deref() == Some("strands-a"))
                    .unwrap();
                start("strands-b", second).unwrap();
            };
            start("strands-a", first).unwrap();
        };
        start_two();
        assert_eq!(told.iter().collect::<Vec<_>>(), [true, true]);
    }

    #[test]
    fn a_thread_may_be_started_by_the_destructor_of_a_thread_local() {
        struct Starts(Sender<bool>);
        impl Drop for Starts {
            fn drop(&mut self) {
                let tell = self.0.clone();
                start("strands-late", move || tell.send(has_nothing_to_hand_on()).unwrap())
                    .unwrap();
            }
        }
        thread_local! {
            static LATE: Cell<Option<Starts>> = const { Cell::new(None) };
        }
        let (tell, told) = channel();
        std::thread::spawn(move || LATE.set(Some(Starts(tell)))).join().unwrap();
        assert!(told.recv().unwrap());
    }
}
