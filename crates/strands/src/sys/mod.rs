//! The system calls that the runtime makes, as small safe functions. Linux.
//!
//! **Invariant:** nothing here knows of goroutines, and nothing here allocates after the first call.

pub(crate) mod futex;
pub(crate) mod mem;
pub(crate) mod probe;
pub(crate) mod signal;

/// The kernel's id of the calling thread.
pub(crate) fn thread_id() -> i32 {
    // SAFETY: gettid takes nothing and always succeeds.
    unsafe { libc::gettid() }
}

/// Asks the kernel to wake the calling thread as near to its time-outs as it can, instead of the
/// 50 µs of slack that it gives by default.
pub(crate) fn tighten_timer_slack() {
    // SAFETY: PR_SET_TIMERSLACK reads one integer and touches no memory of ours.
    unsafe { libc::prctl(libc::PR_SET_TIMERSLACK, 1 as libc::c_ulong) };
}
