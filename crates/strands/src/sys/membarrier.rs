//! A memory barrier in all threads of the process at once: `membarrier(2)`.
//!
//! Two sides of a protocol that each write one word and then read the other's need a full barrier in between, on
//! both sides. Where one side is frequent and the other rare, the rare one can see to both: it has the kernel
//! interrupt every processor that runs a thread of ours. (A thread that does not run has had its barrier when it
//! was switched away.) That takes a quarter of a microsecond if no other thread runs, and nine if one does; the
//! frequent side then needs no barrier at all.
//!
//! The process has to register first. While it has one thread that takes half a microsecond, so a runtime that starts
//! then does it at once. With several it takes the kernel 10 to 25 ms: then a thread of its own does it, when somebody
//! first asks.

use std::fs;
use std::io;
use std::os::unix::fs::MetadataExt;
use std::sync::atomic::{AtomicU8, Ordering};
use std::thread;

/// The kernel's `MEMBARRIER_CMD_PRIVATE_EXPEDITED`, and what registers for it.
const EXPEDITED: libc::c_int = 1 << 3;
const REGISTER: libc::c_int = 1 << 4;

const UNASKED: u8 = 0;
const ASKED: u8 = 1;
const GRANTED: u8 = 2;
/// An old kernel, or a filter of system calls.
const REFUSED: u8 = 3;

static STATE: AtomicU8 = AtomicU8::new(UNASKED);

/// Whether [`everywhere`] may be called: from the first time that this is true, for good. Asking starts the
/// registration.
pub(crate) fn is_ready() -> bool {
    match STATE.load(Ordering::Relaxed) {
        GRANTED => true,
        UNASKED => {
            ask();
            false
        }
        _ => false,
    }
}

/// Registers, if that takes no time. For the start of the runtime.
pub(crate) fn prepare() {
    // A directory has two links, and one for each directory in it.
    let threads = fs::metadata("/proc/self/task").map(|tasks| tasks.nlink().saturating_sub(2));
    if !cfg!(miri)
        && threads.is_ok_and(|threads| threads == 1)
        && STATE.compare_exchange(UNASKED, ASKED, Ordering::Relaxed, Ordering::Relaxed).is_ok()
    {
        register();
    }
}

#[cold]
fn ask() {
    // Miri knows of no such call.
    let to = if cfg!(miri) { REFUSED } else { ASKED };
    if STATE.compare_exchange(UNASKED, to, Ordering::Relaxed, Ordering::Relaxed).is_ok()
        && to == ASKED
        && thread::Builder::new().name("strands-barrier".into()).spawn(register).is_err()
    {
        // No thread to be had just now: somebody will ask again.
        STATE.store(UNASKED, Ordering::Relaxed);
    }
}

fn register() {
    let granted = call(REGISTER);
    STATE.store(if granted { GRANTED } else { REFUSED }, Ordering::Relaxed);
}

fn call(command: libc::c_int) -> bool {
    // SAFETY: the call takes three integers, and touches no memory.
    unsafe { libc::syscall(libc::SYS_membarrier, command, 0, 0) == 0 }
}

/// Has every thread of the process pass a full memory barrier before this returns.
///
/// Aborts the process if the kernel refuses what it has granted before, as it does if a filter of system calls has been
/// installed meanwhile: others rely on the barrier by now.
pub(crate) fn everywhere() {
    if !call(EXPEDITED) {
        refused(&io::Error::last_os_error());
    }
}

#[cold]
fn refused(error: &io::Error) -> ! {
    super::say(
        format!(
            "strands: the kernel refuses membarrier(2), for which the process is registered: {error}. A filter of \
             system calls that is installed after the start has to allow it\n"
        )
        .as_bytes(),
    );
    std::process::abort()
}

#[cfg(all(test, not(loom)))]
mod tests {
    use super::*;
    use std::time::{Duration, Instant};

    #[test]
    fn what_is_granted_can_be_called() {
        let start = Instant::now();
        while !is_ready() && STATE.load(Ordering::Relaxed) != REFUSED {
            assert!(start.elapsed() < Duration::from_secs(60), "no answer");
            thread::yield_now();
        }
        if is_ready() {
            everywhere();
        }
    }
}
