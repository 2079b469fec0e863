//! Evidence of being on a worker's thread.
//!
//! What belongs to a worker alone is reached through a [`Here`], which exists on that worker's thread
//! only and cannot leave it. Goroutines get theirs from a thread-local by way of a function that is never
//! inlined, so that no address of a thread-local lives across a switch.

use super::started::Started;
use super::worker::Worker;
use crate::config::PanicPolicy;
use crate::stack::Class;
use crate::wait::{self, Seat};
use std::cell::Cell;
use std::marker::PhantomData;
use std::ops::Deref;
use std::ptr;

/// The worker whose thread this is.
#[derive(Clone, Copy)]
pub(crate) struct Here {
    worker: &'static Worker,
    _not_send: PhantomData<*mut ()>,
}

impl Here {
    /// The worker whose thread this is, if it is one's.
    #[inline(never)]
    pub(crate) fn get() -> Option<Here> {
        // In a thread-local's destructor the cell may be read still: it has none of its own.
        let worker = wait::seat_pointer().cast::<Worker>();
        // SAFETY: only this scheduler has seats, the first fields of its workers; workers live for good, and the
        // pointer, which is to the whole worker, was put there by the worker's own thread.
        unsafe { worker.as_ref() }.map(|worker| Here { worker, _not_send: PhantomData })
    }

    /// The worker that the calling goroutine runs on: for what can be asked of a worker from anywhere.
    pub(super) fn worker_now() -> &'static Worker {
        Here::get().expect("a goroutine runs on a worker").worker
    }

    /// Takes back what `promise_stack` promised to the calling goroutine; some time ago, perhaps on another worker, for
    /// what could not be spawned has been dropped meanwhile, which may have waited.
    #[cold]
    pub(super) fn take_promise_back(class: Class) {
        Here::get().expect("a goroutine runs on a worker").release_promise(class);
    }

    /// Where the thread-local is that says so, of the thread that asks.
    pub(super) fn place() -> *const Cell<*const Seat> {
        wait::seat_place()
    }

    /// Makes this thread the worker's.
    pub(super) fn take_seat(worker: &'static Worker) -> Here {
        debug_assert!(wait::seat_pointer().is_null(), "a thread is one worker's");
        // SAFETY: workers live for good; and who is given one to live as is its only thread until it has left.
        unsafe { wait::take_seat(ptr::from_ref(worker).cast()) };
        // Roaming goroutines are lent it in each of their turns here.
        wait::whereabouts();
        Here { worker, _not_send: PhantomData }
    }

    /// The thread is nobody's any more, and is about to end.
    pub(super) fn leave(self) {
        // SAFETY: none.
        unsafe { wait::take_seat(ptr::null()) };
        wait::set_current(ptr::null());
    }

    /// The worker.
    #[inline]
    pub(crate) fn worker(&self) -> &'static Worker {
        self.worker
    }

    /// Whether a panic of this thread's goroutine is to abort the process.
    pub(super) fn runtime_aborts_on_panic() -> bool {
        Here::get().is_some_and(|here| here.runtime().settings.panic == PanicPolicy::Abort)
    }
}

impl Deref for Here {
    type Target = Worker;

    #[inline]
    fn deref(&self) -> &Worker {
        self.worker
    }
}

/// The record of the goroutine that runs here, if one does.
#[inline]
pub(crate) fn current() -> Option<&'static Started> {
    let task = wait::current()?;
    // SAFETY: only this scheduler sets the current task, to records of its own. The record lives as long
    // as the goroutine runs, and the reference does not leave it: see the uses, all of which end before
    // the goroutine does.
    Some(unsafe { task.cast::<Started>().as_ref() })
}

#[cfg(test)]
mod tests {
    use crate::config::Affinity;
    use crate::sched::{Order, spawn, yield_now};
    use crate::stack::in_child::{in_child, stderr};
    use crate::wait;
    use std::collections::BTreeSet;
    use std::panic::Location;
    use std::ptr;
    use std::sync::mpsc::channel;

    /// By that record a thread is told from another at the locks of channels, so two that run at once must never have
    /// the same; and a goroutine that roams is to have that of the thread on which it is now.
    #[test]
    fn each_worker_has_one_record_for_all_who_have_turns_on_it() {
        let name =
            concat!(module_path!(), "::each_worker_has_one_record_for_all_who_have_turns_on_it");
        // In a process of its own: once goroutines roam, stacks are trimmed less, as their tests would find.
        let output = in_child(name, || {
            let (tell, told) = channel();
            for affinity in [Affinity::Home, Affinity::Roaming] {
                for _ in 0..64 {
                    let tell = tell.clone();
                    let order = Order::plain(Location::caller()).with_affinity(Some(affinity));
                    let body = move || {
                        for _ in 0..200 {
                            yield_now();
                            let record = ptr::from_ref(wait::whereabouts());
                            tell.send((wait::seat_pointer().addr(), record.addr())).unwrap();
                        }
                    };
                    // SAFETY: the closure borrows nothing that ends.
                    drop(unsafe { spawn(order, body, ()) }.unwrap());
                }
            }
            drop(tell);
            let pairs: BTreeSet<_> = told.iter().collect();
            let workers: BTreeSet<_> = pairs.iter().map(|(worker, _)| worker).collect();
            let records: BTreeSet<_> = pairs.iter().map(|(_, record)| record).collect();
            assert_eq!((workers.len(), records.len()), (pairs.len(), pairs.len()), "{pairs:?}");
        });
        assert!(output.status.success(), "{}", stderr(&output));
    }
}
