//! The system calls that the runtime makes, as small safe functions. Linux.
//!
//! **Invariant:** nothing here knows of goroutines, and nothing here allocates after the first call, but for `mappings`,
//! `symbols` and `trace`, which are for reports.

pub(crate) mod blank;
pub(crate) mod cache;
pub(crate) mod copy;
pub(crate) mod cpu;
pub(crate) mod epoll;
pub(crate) mod futex;
pub(crate) mod mappings;
pub(crate) mod mem;
pub(crate) mod membarrier;
#[cfg(all(loom, test))]
mod model_stacks;
pub(crate) mod notify;
pub(crate) mod pipe;
pub(crate) mod probe;
pub(crate) mod process;
pub(crate) mod signal;
pub(crate) mod socket;
pub(crate) mod symbols;
pub(crate) mod trace;

use std::io;

/// The kernel's id of the calling thread.
pub(crate) fn thread_id() -> i32 {
    // SAFETY: gettid takes nothing and always succeeds.
    unsafe { libc::gettid() }
}

/// The calling thread's `errno`.
pub(crate) fn errno() -> i32 {
    // SAFETY: always there.
    unsafe { *libc::__errno_location() }
}

/// Sets it.
pub(crate) fn set_errno(errno: i32) {
    // SAFETY: always there, and the calling thread's.
    unsafe { *libc::__errno_location() = errno };
}

/// Writes a text to standard error, in one piece if the kernel lets it.
///
/// Not by `eprint!`: that panics where nothing can be written (a full disk, a reader that has gone), and
/// takes a lock that a suspended goroutine may hold for ever.
pub(crate) fn say(text: &[u8]) {
    let mut rest = text;
    while !rest.is_empty() {
        // SAFETY: `rest` is live and initialised; `write` is allowed in signal handlers.
        let n = unsafe { libc::write(libc::STDERR_FILENO, rest.as_ptr().cast(), rest.len()) };
        match usize::try_from(n) {
            Ok(n) => rest = &rest[n..],
            Err(_) if io::Error::last_os_error().kind() == io::ErrorKind::Interrupted => {}
            // Nobody is listening. There is no one left to tell.
            Err(_) => return,
        }
    }
}

/// Asks the kernel to wake the calling thread as near to its time-outs as it can, instead of the
/// 50 µs of slack that it gives by default.
pub(crate) fn tighten_timer_slack() {
    // SAFETY: PR_SET_TIMERSLACK reads one integer and touches no memory of ours.
    unsafe { libc::prctl(libc::PR_SET_TIMERSLACK, 1 as libc::c_ulong) };
}
