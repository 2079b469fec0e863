//! Goroutines that roam: with a thread-local block of their own, free to run on any thread.
//!
//! | file | story |
//! |---|---|
//! | `facts` | what has to be known of glibc, and the check that it is so |
//! | `block` | making a thread-local block, renewing it for the next goroutine, and a thread's last duties |
//! | `stage` | whose a roaming goroutine is while it is suspended |
//! | `users` | a change of the process's user, which glibc has each thread make |
//!
//! # Why that is sound
//!
//! Rust's type system knows one boundary that a `!Send` value must not cross, and that is the *thread*. What a thread
//! is, it does not say. In practice it is two things: something that runs by itself, one instruction after the other;
//! and what `thread_local!`, `errno`, `pthread_self()` and all libraries built on those take as its identity, which
//! on this platform is one register, `fs`, the *thread pointer*. Everything that is "of this thread" is found from there.
//!
//! A roaming goroutine has a stack, and a block that `fs` leads to whenever it runs. `exchange_with_tls` in `switch`
//! changes both within a few instructions of assembly, so no compiled code, neither ours nor any other, ever runs
//! with the one's stack and the other's thread pointer. The compiler may keep a thread-local's address in a register across
//! a switch (it does): it is the address in the goroutine's own block, and stays right wherever it goes on. An `Rc`
//! out of a thread-local, a `RefCell` borrow, a `StdoutLock` or a `MutexGuard` are held by the same "thread" after a
//! wait as before. That the kernel runs it on this thread or that is to them what it is to a thread whether it runs on
//! this core or that.
//!
//! So the rules of [`sched`](super) become, for these:
//!
//! 1. It may change its OS thread when it is suspended, since nothing it holds is of that. Its closure was `Send`
//!    because it begins on another "thread" than its spawner's: that is as for `std::thread::spawn`.
//! 2. Its panics travel with it: std's count is one of its thread-locals.
//! 3. Of our own thread-locals, `wait::CURRENT` is set once in each block, and says for good who runs there. The one
//!    by which a [`Here`](super::here::Here) is had is the *worker's*, and is written into the block at each turn.
//!    A `Here` must therefore not outlive a suspension; none does, since none is held over user code or a park.
//! 4. It is resumed by one worker at a time, and not before it is off its stack: see `stage`. One that parks may go over
//!    to the next one without its worker's loop in between (`Started::suspend_roaming`); that one sees it off then.
//! 5. Its block and its stack are neither freed nor given to another while it exists.
//! 6. The end of a thread is made up for: destructors of thread-locals run on its stack, with its block.
//!
//! What a worker itself needs of thread-locals, it finds in its own block: it never runs with a goroutine's.
//!
//! # Allocators
//!
//! glibc's malloc keeps a cache for each thread, in its thread-locals, which the block thereby has. It stays with the
//! slot (see `block`), so that nothing leaks; a parked goroutine that has allocated holds 690 bytes more and what is
//! cached.
//!
//! **Rejected:** sharing glibc's variables with the worker, by copying them at each switch (144 bytes with glibc 2.36,
//! both ways). It would save those 690 bytes, of 9.4 KiB. But among these variables are also `errno`, the list of the
//! thread's destructors and its locale, which are the goroutine's and must stay with it, and glibc does not say
//! which is where.
//!
//! Allocators that are linked into the program (jemalloc, mimalloc) have their state in the program's
//! thread-locals and a destructor by `pthread_key_create` or `__cxa_thread_atexit_impl`: both run when the goroutine
//! ends, and the state begins anew with the next one. A heap or a cache for each of very many goroutines is what these
//! are not made for: parked, having allocated a word, a roaming goroutine with a small stack holds 9.4 KiB with glibc's
//! malloc, 22 KiB with jemalloc 5.3 and 84 KB with mimalloc 3. `Home` is better there.

mod block;
mod facts;
mod stage;
mod users;

pub(super) use block::{Block, BlockPlace};
pub(super) use facts::thread_pointer;
pub(super) use stage::Stage;

use super::runtime::Runtime;
use super::started::Started;
use super::worker::Worker;
use crate::config::Affinity;
use crate::stack;
use crate::sys;
use facts::Facts;
use std::sync::OnceLock;

static FACTS: OnceLock<Result<Facts, String>> = OnceLock::new();

/// Whether goroutines can roam here. If not, that is said once on stderr.
pub(super) fn is_possible(runtime: &Runtime) -> bool {
    let facts = FACTS.get_or_init(|| {
        let facts = match runtime.settings.may_roam {
            true => facts::find(),
            false => Err("STRANDS_DEBUG says so".to_owned()),
        };
        match &facts {
            Ok(facts) => stack::keep_at_top(
                size_of::<Started>() + facts.record_size + facts.variables_size + 128,
            ),
            Err(why) => sys::say(
                format!("strands: goroutines cannot roam here, and are at home instead: {why}\n")
                    .as_bytes(),
            ),
        }
        facts
    });
    facts.is_ok()
}

/// Why not, if it was tried.
pub(crate) fn refused() -> Option<String> {
    FACTS.get().and_then(|facts| facts.as_ref().err().cloned())
}

/// The affinity of goroutines that do not ask for another.
pub(crate) fn affinity_in_force(runtime: &Runtime) -> Affinity {
    match runtime.settings.affinity {
        Affinity::Roaming if is_possible(runtime) => Affinity::Roaming,
        _ => Affinity::Home,
    }
}

#[inline]
fn facts() -> &'static Facts {
    match FACTS.get() {
        Some(Ok(facts)) => facts,
        _ => unreachable!("a goroutine that roams where none can"),
    }
}

/// Sees to it that the slot with this record has a block, as new. False: there is no memory for it.
///
/// # Safety
/// The slot is the caller's, and nothing on it is in use. `pristine`: it has never been.
pub(super) unsafe fn furnish(place: &BlockPlace, record: *mut Started, pristine: bool) -> bool {
    let facts = facts();
    let task = record.expose_provenance();
    if let Some(block) = place.get() {
        // SAFETY: the slot's block, and the caller's.
        unsafe { block.renew(facts, task) };
        return true;
    }
    if !pristine {
        let size = facts.record_size + facts.variables_size + 64;
        // SAFETY: the top of the slot's stack, of which nothing is in use.
        unsafe { record.cast::<u8>().sub(size).write_bytes(0, size) };
    }
    // SAFETY: zero, by the above or because nobody has written there.
    match unsafe { Block::create(facts, task, task) } {
        Some(block) => {
            place.set(block);
            true
        }
        None => false,
    }
}

impl Block {
    /// Where the stack begins, below the block; a multiple of 64.
    pub(super) fn floor(self) -> usize {
        self.floor_by(facts())
    }

    /// Tells the goroutine whose block it is on which worker it runs from now on.
    ///
    /// # Safety
    /// The goroutine is suspended, and the caller's.
    #[inline]
    pub(super) unsafe fn take_along(self, worker: &'static Worker) {
        // SAFETY: the caller's promise.
        unsafe { self.seat(facts(), worker) };
    }
}

/// What a new thread does first.
///
/// # Safety
/// Called on a roaming goroutine's stack, before anything else.
pub(super) unsafe fn begin_thread() {
    // SAFETY: the caller's promise.
    unsafe { block::begin_thread(facts()) };
}

/// What a thread does last.
///
/// # Safety
/// Called on a roaming goroutine's stack, after everything else.
pub(super) unsafe fn end_thread() {
    // SAFETY: the caller's promise.
    unsafe { block::end_thread(facts()) };
}
