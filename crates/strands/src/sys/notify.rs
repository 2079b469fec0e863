//! Being told of signals: a handler that notes which came, and a thread that waits for the note.

use super::futex;
use super::signal::Action;
use std::io;
use std::sync::atomic::{AtomicU32, Ordering};

/// One bit for each signal that came.
static CAME: AtomicU32 = AtomicU32::new(0);

/// Does nothing that a handler may not do: an atomic operation, and a system call that sets no `errno` here.
extern "C" fn note(signal: libc::c_int, _: *mut libc::siginfo_t, _: *mut libc::c_void) {
    // Ordering: SeqCst, no worse than the signal.
    CAME.fetch_or(1 << signal, Ordering::SeqCst);
    futex::wake_one(&CAME);
}

/// Has a signal noted from now on, and returns what was done about it before. For signals up to 31.
pub(crate) fn catch(signal: libc::c_int) -> io::Result<Action> {
    debug_assert!((1..32).contains(&signal));
    let former = Action::current(signal)?;
    // SAFETY: see `note`.
    unsafe { Action::call(note).restarting().install(signal)? };
    Ok(former)
}

/// Has that done about a signal which was done before it was caught.
pub(crate) fn let_go(signal: libc::c_int, former: Action) {
    // SAFETY: what was in force before may be again. It cannot fail: the signal could be caught.
    let _ = unsafe { former.install(signal) };
}

/// Waits for signals, and returns which came: the bit of each. For one thread.
///
/// Blocks: the thread.
pub(crate) fn wait() -> u32 {
    loop {
        // Ordering: as above.
        match CAME.swap(0, Ordering::SeqCst) {
            0 => futex::wait(&CAME, 0, None),
            came => return came,
        }
    }
}
