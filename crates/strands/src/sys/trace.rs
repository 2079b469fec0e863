//! The frames of another thread of this process.
//!
//! Only the thread itself knows its registers, so it is asked by a signal, and walks its own stack in the handler.
//! The signal is `SIGURG`, which is ignored where nobody asks for it and which Go, too, uses to interrupt its threads;
//! ours is handled for as long as it takes to get an answer, and one that is not from us is passed on. System calls
//! that it interrupts are restarted; a futex returns to its caller, who by its contract looks again.
//!
//! The walk is the unwinder's, which has no locks to take where the C library finds frames without one (glibc
//! 2.35); and the thread we ask is asleep in a futex of its own choosing. It has been called once before, since
//! its first call may allocate.

use super::futex;
use super::signal::Action;
use std::ffi::c_void;
use std::io;
use std::ops::Range;
use std::ptr;
use std::sync::atomic::{AtomicI32, AtomicPtr, AtomicU32, AtomicUsize, Ordering};
use std::sync::{Mutex, PoisonError};
use std::time::{Duration, Instant};

/// More frames than this are left out.
const MOST: usize = 64;
/// A thread that does not answer within this has the signal blocked, or is stopped.
const PATIENCE: Duration = Duration::from_millis(100);

/// The states of an inquiry.
const IDLE: u32 = 0;
const ASKED: u32 = 1;
const ANSWERING: u32 = 2;
const ANSWERED: u32 = 3;

static STATE: AtomicU32 = AtomicU32::new(IDLE);
static ASKED_THREAD: AtomicI32 = AtomicI32::new(0);
static STACK_START: AtomicUsize = AtomicUsize::new(0);
static STACK_END: AtomicUsize = AtomicUsize::new(0);
static FRAMES: [AtomicUsize; MOST] = [const { AtomicUsize::new(0) }; MOST];
static COUNT: AtomicUsize = AtomicUsize::new(0);
/// One inquiry at a time.
static INQUIRY: Mutex<()> = Mutex::new(());
/// What was done about the signal before. Leaked, a few words for each inquiry: a handler may read it at any time.
static PREVIOUS: AtomicPtr<Action> = AtomicPtr::new(ptr::null_mut());

#[repr(C)]
struct UnwindContext {
    _opaque: [u8; 0],
}

unsafe extern "C-unwind" {
    fn _Unwind_Backtrace(
        trace: extern "C" fn(*mut UnwindContext, *mut c_void) -> libc::c_int,
        data: *mut c_void,
    ) -> libc::c_int;
    fn _Unwind_GetIP(context: *mut UnwindContext) -> usize;
    fn _Unwind_GetCFA(context: *mut UnwindContext) -> usize;
}

/// The return addresses on the stack of a thread, innermost first, as far as they are in this range of addresses.
///
/// # Errors
/// `TimedOut` if it does not answer, and whatever the signal's calls say.
pub(crate) fn of_thread(tid: i32, stack: Range<usize>) -> io::Result<Vec<usize>> {
    let _inquiry = INQUIRY.lock().unwrap_or_else(PoisonError::into_inner);
    // The unwinder's first call.
    // SAFETY: `ignore` ends the walk at once.
    unsafe { _Unwind_Backtrace(ignore, ptr::null_mut()) };
    let now = Action::current(libc::SIGURG)?;
    // Ordering: Release pairs with the Acquire in `answer`.
    PREVIOUS.store(Box::into_raw(Box::new(now)), Ordering::Release);
    ASKED_THREAD.store(tid, Ordering::Relaxed);
    STACK_START.store(stack.start, Ordering::Relaxed);
    STACK_END.store(stack.end, Ordering::Relaxed);
    COUNT.store(0, Ordering::Relaxed);
    // Ordering: Release pairs with the Acquire in `answer`. A thread that is answering a former inquiry still, after
    // all this time, must not be disturbed.
    if STATE.compare_exchange(IDLE, ASKED, Ordering::Release, Ordering::Relaxed).is_err() {
        return Err(io::ErrorKind::ResourceBusy.into());
    }
    // SAFETY: `answer` keeps to what handlers may do; see above for the unwinder.
    let installed = unsafe { Action::call(answer).restarting().install(libc::SIGURG) };
    let answered = installed.and_then(|()| ask(tid));
    // SAFETY: what was in force before may be again.
    let _ = unsafe { now.install(libc::SIGURG) };
    answered
}

fn ask(tid: i32) -> io::Result<Vec<usize>> {
    // SAFETY: no pointers; the thread is one of this process, or there is none.
    let sent = unsafe { libc::syscall(libc::SYS_tgkill, libc::getpid(), tid, libc::SIGURG) };
    if sent != 0 {
        STATE.store(IDLE, Ordering::Relaxed);
        return Err(io::Error::last_os_error());
    }
    let deadline = Instant::now() + PATIENCE;
    loop {
        // Ordering: Acquire pairs with the Release in `answer`: the frames are there.
        let state = STATE.load(Ordering::Acquire);
        let left = deadline.saturating_duration_since(Instant::now());
        if state == ANSWERED {
            break;
        }
        if left.is_zero() {
            // If it has begun, it will not be long; if not, it is not to begin any more.
            let withdrawn =
                STATE.compare_exchange(ASKED, IDLE, Ordering::Relaxed, Ordering::Relaxed).is_ok();
            if withdrawn || Instant::now() > deadline + 10 * PATIENCE {
                return Err(io::ErrorKind::TimedOut.into());
            }
        }
        futex::wait(&STATE, state, Some(left.max(Duration::from_millis(1))));
    }
    let count = COUNT.load(Ordering::Relaxed).min(MOST);
    let frames = FRAMES[..count].iter().map(|frame| frame.load(Ordering::Relaxed)).collect();
    STATE.store(IDLE, Ordering::Relaxed);
    Ok(frames)
}

extern "C" fn ignore(_: *mut UnwindContext, _: *mut c_void) -> libc::c_int {
    /// `_URC_NORMAL_STOP`
    const STOP: libc::c_int = 4;
    STOP
}

extern "C" fn note(context: *mut UnwindContext, _: *mut c_void) -> libc::c_int {
    // SAFETY: the unwinder passes a context that is good for this call.
    let (address, frame) = unsafe { (_Unwind_GetIP(context), _Unwind_GetCFA(context)) };
    // Frames of the handler, on its own stack, and of whoever the stack was entered from are elsewhere.
    let on_the_stack =
        (STACK_START.load(Ordering::Relaxed)..=STACK_END.load(Ordering::Relaxed)).contains(&frame);
    let count = COUNT.load(Ordering::Relaxed);
    if on_the_stack && count < MOST {
        FRAMES[count].store(address, Ordering::Relaxed);
        COUNT.store(count + 1, Ordering::Relaxed);
    }
    0
}

/// Does what a handler may: atomics, and a futex.
extern "C" fn answer(signal: libc::c_int, info: *mut libc::siginfo_t, context: *mut c_void) {
    // SAFETY: the kernel passes a whole `siginfo_t`.
    let directed = unsafe { (*info).si_code } == libc::SI_TKILL;
    let is_ours = directed
        && ASKED_THREAD.load(Ordering::Relaxed) == super::thread_id()
        // Ordering: Acquire pairs with the Release in `of_thread`.
        && STATE.compare_exchange(ASKED, ANSWERING, Ordering::Acquire, Ordering::Relaxed).is_ok();
    if !is_ours {
        // SAFETY: never freed.
        if let Some(previous) = unsafe { PREVIOUS.load(Ordering::Acquire).as_ref() }
            && !previous.is_default()
            && !previous.is_ignore()
        {
            // SAFETY: it is a handler, we are in one for `signal`, and pass on what came.
            unsafe { previous.deliver(signal, info, context) };
        }
        return;
    }
    // SAFETY: it returns the address of this thread's `errno`.
    let errno = unsafe { &mut *libc::__errno_location() };
    let before = *errno;
    // SAFETY: `note` is a function as it wants one, and does not unwind.
    unsafe { _Unwind_Backtrace(note, ptr::null_mut()) };
    // Ordering: Release, see `ask`.
    STATE.store(ANSWERED, Ordering::Release);
    futex::wake_one(&STATE);
    *errno = before;
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::hint::black_box;
    use std::sync::mpsc;

    #[inline(never)]
    fn waits_for_good(tell: &mpsc::Sender<(i32, usize)>, release: &mpsc::Receiver<()>) {
        let marker = 0_u8;
        tell.send((crate::sys::thread_id(), black_box(&raw const marker).addr())).unwrap();
        let _ = release.recv();
        black_box(&marker);
    }

    #[test]
    fn a_thread_that_waits_says_where() {
        let (tell, told) = mpsc::channel();
        let (release, released) = mpsc::channel::<()>();
        let thread = std::thread::spawn(move || waits_for_good(&tell, &released));
        let (tid, marker) = told.recv().unwrap();
        let before = Action::current(libc::SIGURG).unwrap();
        let stack = marker - (64 << 10)..marker + (4 << 10);
        let frames = of_thread(tid, stack).unwrap();
        let names = super::super::symbols::of(&frames);
        let found = names.iter().flatten().any(|name| name.ends_with("waits_for_good"));
        assert!(found, "{names:?}");
        let after = Action::current(libc::SIGURG).unwrap();
        assert_eq!(before.is_default(), after.is_default());
        release.send(()).unwrap();
        thread.join().unwrap();
        assert!(of_thread(tid, 0..1).is_err(), "it is gone");
    }
}
