//! Overflow: a fault in a guard is reported with the name of the stack, and ends the process.
//!
//! The handler is one of several in a process. std has one for the stacks of threads, a debugger
//! or a language runtime may have another. Ours takes what is ours, faults in our guards, and passes
//! on everything else as though it were not there.
//!
//! It runs on the thread's alternate stack, the other one being full. Whoever runs on our stacks
//! must have one: see [`ensure_alt_stack`](super::ensure_alt_stack).

use std::io;
use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::{Mutex, OnceLock};

use super::slot::SlotRef;
use super::table;
use crate::sys::signal::{Action, SigWriter};

/// Says on standard error what happened: the stack, and the address that was touched. It runs in a
/// signal handler, so it takes no lock, allocates nothing, and trusts nothing that it has not
/// checked.
pub(crate) type Report = fn(SlotRef, usize, &mut SigWriter);

/// The signals of a bad memory access. Guards raise the first; the second is for other kernels.
const SIGNALS: [libc::c_int; 2] = [libc::SIGSEGV, libc::SIGBUS];

static REPORT: OnceLock<Report> = OnceLock::new();
/// What was there before us, by the places of `SIGNALS`.
static PREVIOUS: [OnceLock<Action>; 2] = [const { OnceLock::new() }; 2];

/// Has overflows reported by `report`, from now on and for good. Further calls change nothing.
pub(crate) fn install(report: Report) -> io::Result<()> {
    static INSTALLED: Mutex<bool> = Mutex::new(false);
    let mut installed = INSTALLED.lock().unwrap_or_else(|e| e.into_inner());
    if *installed {
        return Ok(());
    }
    REPORT.get_or_init(|| report);
    for (signal, previous) in SIGNALS.into_iter().zip(&PREVIOUS) {
        // First asked, then replaced: were it one step, a fault in between would find no previous
        // action to go to.
        let now = Action::current(signal)?;
        previous.get_or_init(|| now);
        // SAFETY: `on_fault` keeps to what handlers may do.
        unsafe { Action::call(on_fault).install(signal)? };
    }
    *installed = true;
    Ok(())
}

extern "C" fn on_fault(
    signal: libc::c_int,
    info: *mut libc::siginfo_t,
    context: *mut libc::c_void,
) {
    // SAFETY: the kernel passes a whole `siginfo_t` to an `SA_SIGINFO` handler. The field is read
    // whether or not it means something.
    let (code, addr) = unsafe { ((*info).si_code, (*info).si_addr().addr()) };
    // Codes up to 0 are for signals that somebody sent, which carry no address.
    let faulted = code > 0;
    if faulted
        && let Some(slot) = table::lookup(addr)
        && slot.guard().contains(&addr)
    {
        report_and_abort(slot, addr);
    }
    let at = usize::from(signal == SIGNALS[1]);
    match PREVIOUS[at].get() {
        Some(previous) if previous.is_ignore() && !faulted => {}
        Some(previous) if !previous.is_default() && !previous.is_ignore() => {
            // SAFETY: it is a handler, we are in one for `signal`, and pass on what came.
            unsafe { previous.deliver(signal, info, context) };
        }
        // The default: to die of it. The kernel treats a fault that is ignored likewise.
        _ => {
            // SAFETY: there is no handler in it.
            let _ = unsafe { Action::default_action().install(signal) };
            if !faulted {
                // Nothing will fault again when we return, so send it again.
                // SAFETY: allowed in handlers. Blocked until we return.
                unsafe { libc::raise(signal) };
            }
        }
    }
}

#[cold]
fn report_and_abort(slot: SlotRef, addr: usize) -> ! {
    static REPORTING: AtomicBool = AtomicBool::new(false);
    if REPORTING.swap(true, Ordering::Relaxed) {
        // Another thread is about to end the process. Two reports at once could not be read.
        loop {
            // SAFETY: allowed in handlers.
            unsafe { libc::pause() };
        }
    }
    if let Some(report) = REPORT.get() {
        report(slot, addr, &mut SigWriter::new());
    }
    // SAFETY: allowed in handlers.
    unsafe { libc::abort() }
}

#[cfg(test)]
mod tests {
    use std::fmt::Write;
    use std::hint::black_box;
    use std::os::unix::process::ExitStatusExt;
    use std::process::Output;
    use std::ptr;

    use super::super::in_child::{in_child, stderr};
    use super::super::{Class, GuardMode, Slot, StackPool, Stacks, ensure_alt_stack};
    use super::*;

    fn report(slot: SlotRef, addr: usize, out: &mut SigWriter) {
        let _ = writeln!(out, "stack {slot:?} overflowed at {addr:#x}");
    }

    #[inline(never)]
    fn recurse(depth: usize) -> usize {
        let frame = black_box([depth; 64]);
        if depth == usize::MAX {
            return 0;
        }
        recurse(depth + 1) + black_box(frame)[0]
    }

    extern "C" fn overflow(_: *mut libc::c_void) -> *mut libc::c_void {
        let _alt = ensure_alt_stack().unwrap();
        black_box(recurse(0));
        ptr::null_mut()
    }

    /// Runs `start` on a slot, as the stack of a thread.
    fn run_on(slot: &Slot, start: extern "C" fn(*mut libc::c_void) -> *mut libc::c_void) {
        // SAFETY: the slot is ours, and stays so until the thread has been joined.
        unsafe {
            let mut attr: libc::pthread_attr_t = std::mem::zeroed();
            assert_eq!(libc::pthread_attr_init(&mut attr), 0);
            let limit = ptr::with_exposed_provenance_mut(slot.limit());
            let len = slot.end() - slot.limit();
            assert_eq!(libc::pthread_attr_setstack(&mut attr, limit, len), 0);
            let mut thread = 0;
            let rc = libc::pthread_create(&mut thread, &attr, start, ptr::null_mut());
            assert_eq!(rc, 0);
            libc::pthread_join(thread, ptr::null_mut());
        }
    }

    fn overflow_in(mode: GuardMode, class: Class) {
        install(report).unwrap();
        let stacks = Stacks::new(mode);
        let mut pool = StackPool::new();
        stacks.reserve(class, 3).unwrap();
        let _below = pool.take(&stacks, class);
        let slot = pool.take(&stacks, class);
        eprintln!("expected: {:?}", slot.by_ref());
        run_on(&slot, overflow);
    }

    fn assert_named_and_aborted(output: &Output) {
        let text = stderr(output);
        assert_eq!(output.status.signal(), Some(libc::SIGABRT), "{text}");
        let (_, name) = text.split_once("expected: ").expect("it got as far as that");
        let name = name.lines().next().unwrap();
        assert!(text.contains(&format!("stack {name} overflowed at 0x")), "{text}");
    }

    #[test]
    fn overflow_names_the_slot_and_aborts() {
        let name = concat!(module_path!(), "::overflow_names_the_slot_and_aborts");
        let output = in_child(name, || overflow_in(GuardMode::Auto, Class::DEFAULT));
        assert_named_and_aborted(&output);
    }

    #[test]
    fn overflow_is_found_with_guards_by_mprotect() {
        let name = concat!(module_path!(), "::overflow_is_found_with_guards_by_mprotect");
        let dense = Class::for_size(64 << 10).unwrap();
        let output = in_child(name, || overflow_in(GuardMode::Mprotect, dense));
        assert_named_and_aborted(&output);
    }

    extern "C" fn earlier(signal: libc::c_int, info: *mut libc::siginfo_t, _: *mut libc::c_void) {
        // SAFETY: the kernel's own `siginfo_t`.
        let addr = unsafe { (*info).si_addr().addr() };
        let _ = writeln!(SigWriter::new(), "earlier: signal {signal} at {addr:#x}");
        // SAFETY: allowed in handlers.
        unsafe { libc::_exit(7) };
    }

    fn fault() {
        let nowhere = black_box(0x10_usize);
        // SAFETY: none whatever: this is to fault, in a process made for it.
        unsafe { ptr::with_exposed_provenance_mut::<u8>(nowhere).write_volatile(1) };
    }

    #[test]
    fn a_foreign_segv_reaches_the_previous_handler() {
        let name = concat!(module_path!(), "::a_foreign_segv_reaches_the_previous_handler");
        let output = in_child(name, || {
            // SAFETY: `earlier` keeps to what handlers may do.
            unsafe { Action::call(earlier).install(libc::SIGSEGV).unwrap() };
            install(report).unwrap();
            fault();
        });
        assert_eq!(output.status.code(), Some(7), "{}", stderr(&output));
        assert!(stderr(&output).contains("earlier: signal 11 at 0x10"));
    }

    fn unhandled(cause: fn()) {
        // SAFETY: there is no handler in it.
        unsafe { Action::default_action().install(libc::SIGSEGV).unwrap() };
        install(report).unwrap();
        cause();
    }

    #[test]
    fn a_foreign_segv_kills_where_nobody_handles_it() {
        let name = concat!(module_path!(), "::a_foreign_segv_kills_where_nobody_handles_it");
        let output = in_child(name, || unhandled(fault));
        assert_eq!(output.status.signal(), Some(libc::SIGSEGV), "{}", stderr(&output));
    }

    #[test]
    fn a_segv_that_was_sent_kills_where_nobody_handles_it() {
        let name = concat!(module_path!(), "::a_segv_that_was_sent_kills_where_nobody_handles_it");
        let output = in_child(name, || {
            // SAFETY: no pointers.
            unhandled(|| assert_eq!(unsafe { libc::raise(libc::SIGSEGV) }, 0));
        });
        assert_eq!(output.status.signal(), Some(libc::SIGSEGV), "{}", stderr(&output));
    }

    #[test]
    fn a_thread_of_std_still_gets_its_own_message() {
        let name = concat!(module_path!(), "::a_thread_of_std_still_gets_its_own_message");
        let output = in_child(name, || {
            install(report).unwrap();
            let thread = std::thread::Builder::new().name("deep".into());
            let _ = thread.spawn(|| black_box(recurse(0))).unwrap().join();
        });
        let text = stderr(&output);
        assert!(text.contains("has overflowed its stack"), "{text}");
        assert_eq!(output.status.signal(), Some(libc::SIGABRT), "{text}");
    }
}
