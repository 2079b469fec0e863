//! A change of the process's user or group while goroutines roam.
//!
//! To the kernel each thread has a user of its own. So glibc's `setuid` and its like send all threads of the process a
//! signal, whose handler makes the same system call there, and strikes the thread off: clears a bit in its record of the
//! thread, which it finds by the thread pointer. It sends again until all bits are clear.
//!
//! In the middle of a roaming goroutine's turn that pointer leads to the goroutine's block, which is no thread of glibc's,
//! and the bit of the thread itself would never be cleared: `setuid` in a roaming goroutine would go on for ever, and
//! so it would elsewhere while one computes. So our handler goes before glibc's, and has that run with the thread
//! pointer of the worker's own.
//!
//! A goroutine that asks for the change has its thread make it twice, once by the signal and once as the caller, for to
//! glibc the caller is somebody else. Each of these calls, made again with the same arguments, succeeds and changes
//! nothing.

use super::super::here::Here;
use crate::switch;
use crate::sys::signal::Handler;
use std::ffi::c_int;
use std::sync::atomic::{AtomicUsize, Ordering};

/// glibc's `SIGSETXID`, of which its `sigaction` will not speak.
const SIGNAL: c_int = 33;

/// glibc's handler.
static THEIRS: AtomicUsize = AtomicUsize::new(0);

/// An action, as the kernel has it.
#[repr(C)]
struct Action {
    handler: usize,
    flags: usize,
    restorer: usize,
    mask: u64,
}

/// Puts our handler before glibc's, which that sets up with the first thread.
///
/// # Errors
/// There is none.
pub(super) fn look_after_changes() -> Result<(), String> {
    let odd = || "the C library has no handler for changes of the user".to_owned();
    let mut action = Action { handler: 0, flags: 0, restorer: 0, mask: 0 };
    let size = size_of_val(&action.mask);
    let none = std::ptr::null::<Action>();
    // SAFETY: it writes an action.
    let got = unsafe { libc::syscall(libc::SYS_rt_sigaction, SIGNAL, none, &raw mut action, size) };
    let takes_three = action.flags & libc::SA_SIGINFO as usize != 0;
    if got != 0 || !takes_three || [libc::SIG_DFL, libc::SIG_IGN].contains(&action.handler) {
        return Err(odd());
    }
    // Ordering: Relaxed: the system call below comes after it, and a handler after that.
    THEIRS.store(action.handler, Ordering::Relaxed);
    let ours: Handler = on_change;
    action.handler = ours as *const () as usize;
    // A goroutine's stack may be a small one.
    action.flags |= libc::SA_ONSTACK as usize;
    // SAFETY: it reads an action, which is theirs but for the handler; ours does what theirs does.
    let set =
        unsafe { libc::syscall(libc::SYS_rt_sigaction, SIGNAL, &raw const action, none, size) };
    if set != 0 { Err(odd()) } else { Ok(()) }
}

extern "C" fn on_change(signal: c_int, info: *mut libc::siginfo_t, context: *mut libc::c_void) {
    // SAFETY: not 0: `look_after_changes` has seen to it, and that it takes these three.
    let theirs: Handler = unsafe { std::mem::transmute(THEIRS.load(Ordering::Relaxed)) };
    // A block says whose thread it is on before it runs there. A thread that is no worker's has its own.
    match Here::get().map(|here| here.worker().thread_pointer()) {
        // SAFETY: this thread's own block: a goroutine that runs on it has another, and nobody else is on the thread. It
        // is a handler of signals.
        Some(own) if own != 0 => unsafe {
            switch::as_thread(own, || theirs(signal, info, context));
        },
        _ => theirs(signal, info, context),
    }
}
