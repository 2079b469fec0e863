//! A thread on which nothing has been set up.
//!
//! `std::thread` has a new thread inherit something of the one that spawns it, which std keeps in thread-locals and shows to
//! nobody: where libtest has what is printed go ("output capture"), and whatever hooks for spawning there will be. There is
//! no stable way to take that off, or to look whether it is there. But it hangs on nothing but the thread-locals of the
//! spawner, and those of a thread that was made by other means than std's are as they were made: empty. So who wants a
//! thread that inherits nothing spawns it from such a one.
//!
//! What the *kernel* and the C library hand on from thread to thread (the signal mask, CPUs, scheduling class, timer slack)
//! they hand on twice here, and it arrives as it would have. Nothing is said about the stack: the user's handlers of signals
//! may run on this thread as on any other, so it gets what the C library gives.
//!
//! **Rejected.** Making the runtime's threads themselves in this way: std gives its threads a name, room for a handler of
//! overflows and a guard, all of which would be ours to do again.

use std::ffi::c_void;
use std::io;
use std::mem::MaybeUninit;
use std::panic::{AssertUnwindSafe, catch_unwind, resume_unwind};
use std::ptr;

/// What lies in the frame of who waits, for the thread to work on.
struct Frame<F, T> {
    closure: Option<F>,
    result: Option<std::thread::Result<T>>,
}

/// Runs `f` on a thread that std has not made, which has ended when this returns, and returns what `f` does.
///
/// Blocks: the thread.
///
/// # Errors
/// There can be no such thread; `f` was dropped, and has not run.
///
/// # Panics
/// If `f` does, with its payload.
pub(crate) fn on_blank_thread<T: Send>(f: impl FnOnce() -> T + Send) -> io::Result<T> {
    let mut frame = Frame { closure: Some(f), result: None };
    run_and_join(&mut frame)?;
    match frame.result.expect("a thread that has ended has run") {
        Ok(value) => Ok(value),
        Err(payload) => resume_unwind(payload),
    }
}

fn run_and_join<F, T>(frame: &mut Frame<F, T>) -> io::Result<()>
where
    F: FnOnce() -> T + Send,
    T: Send,
{
    let mut thread = MaybeUninit::<libc::pthread_t>::uninit();
    let argument = ptr::from_mut(frame).cast::<c_void>();
    // SAFETY:
    // - `thread` is written to, and no attributes are the default ones.
    // - `live::<F, T>` gets a pointer to a `Frame<F, T>`. It is lent exclusively to this function, which does not touch it
    //   before the thread has ended; closure and result are `Send`.
    let error =
        unsafe { libc::pthread_create(thread.as_mut_ptr(), ptr::null(), live::<F, T>, argument) };
    if error != 0 {
        return Err(io::Error::from_raw_os_error(error));
    }
    // SAFETY: just created, so initialised; joined once, and nobody else knows of it.
    let error = unsafe { libc::pthread_join(thread.assume_init(), ptr::null_mut()) };
    if error != 0 {
        // No way of failing fits. But the frame must not go while the thread may use it.
        super::say(b"strands: a thread cannot be joined\n");
        std::process::abort();
    }
    Ok(())
}

extern "C" fn live<F: FnOnce() -> T, T>(frame: *mut c_void) -> *mut c_void {
    // SAFETY: `run_and_join` has made the thread for its frame, of these types, which is this thread's until it ends.
    let frame = unsafe { &mut *frame.cast::<Frame<F, T>>() };
    if let Some(closure) = frame.closure.take() {
        frame.result = Some(catch_unwind(AssertUnwindSafe(closure)));
    }
    ptr::null_mut()
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::cell::Cell;

    thread_local! {
        static MINE: Cell<u32> = const { Cell::new(0) };
    }

    #[test]
    fn what_the_caller_lends_is_worked_on_and_its_thread_locals_are_not_there() {
        MINE.set(7);
        let mut words = vec!["lent"];
        let there = on_blank_thread(|| {
            words.push("and written to");
            (MINE.replace(8), super::super::thread_id())
        });
        let (mine, id) = there.expect("a thread");
        assert_eq!((mine, MINE.get(), words.len()), (0, 7, 2));
        assert_ne!(id, super::super::thread_id());
    }

    #[test]
    fn a_panic_goes_on_where_it_was_asked_for() {
        let caught = catch_unwind(|| on_blank_thread(|| resume_unwind(Box::new("blank"))));
        let payload = caught.map(|_: io::Result<()>| ()).expect_err("it panicked");
        assert_eq!(payload.downcast_ref(), Some(&"blank"));
    }

    #[test]
    fn signals_are_blocked_there_and_beyond_that_are_blocked_here() {
        fn is_blocked() -> bool {
            // SAFETY: a mask of zeroes is one, and all calls get a live one.
            unsafe {
                let mut mask: libc::sigset_t = std::mem::zeroed();
                let rc = libc::pthread_sigmask(libc::SIG_BLOCK, ptr::null(), &raw mut mask);
                assert_eq!(rc, 0);
                libc::sigismember(&raw const mask, libc::SIGUSR2) == 1
            }
        }
        fn seen() -> (bool, bool) {
            let there = || (is_blocked(), std::thread::spawn(is_blocked).join().expect("no panic"));
            on_blank_thread(there).expect("a thread")
        }
        // On a thread of its own, whose mask goes with it.
        std::thread::spawn(|| {
            assert_eq!(seen(), (false, false));
            // SAFETY: as above.
            unsafe {
                let mut mask: libc::sigset_t = std::mem::zeroed();
                libc::sigaddset(&raw mut mask, libc::SIGUSR2);
                let rc = libc::pthread_sigmask(libc::SIG_BLOCK, &raw const mask, ptr::null_mut());
                assert_eq!(rc, 0);
            }
            assert_eq!(seen(), (true, true));
        })
        .join()
        .expect("no panic");
    }
}
