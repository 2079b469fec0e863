//! Signals: actions, alternate stacks, and words to standard error from inside a handler.

use std::fmt;
use std::io;
use std::marker::PhantomData;
use std::mem;
use std::ptr;

use crate::sys::mem as memory;

/// A handler as `SA_SIGINFO` calls it.
pub(crate) type Handler = extern "C" fn(libc::c_int, *mut libc::siginfo_t, *mut libc::c_void);

/// What the process does about a signal.
#[derive(Clone, Copy)]
pub(crate) struct Action(libc::sigaction);

// SAFETY: plain data (a function's address, a mask, flags) that belongs to no thread.
unsafe impl Send for Action {}
// SAFETY: likewise, and never changed in place.
unsafe impl Sync for Action {}

impl Action {
    /// What the process does now.
    pub(crate) fn current(signal: libc::c_int) -> io::Result<Action> {
        // SAFETY: all zeroes is a `sigaction`.
        let mut now: libc::sigaction = unsafe { mem::zeroed() };
        // SAFETY: asks only; `now` is ours to write.
        if unsafe { libc::sigaction(signal, ptr::null(), &mut now) } != 0 {
            return Err(io::Error::last_os_error());
        }
        Ok(Action(now))
    }

    /// A call of `handler` on the alternate stack.
    pub(crate) fn call(handler: Handler) -> Action {
        // SAFETY: all zeroes is a `sigaction` with an empty mask.
        let mut action: libc::sigaction = unsafe { mem::zeroed() };
        action.sa_sigaction = handler as *const () as usize;
        action.sa_flags = libc::SA_SIGINFO | libc::SA_ONSTACK;
        Action(action)
    }

    /// The same, such that system calls it interrupts go on.
    pub(crate) fn restarting(mut self) -> Action {
        self.0.sa_flags |= libc::SA_RESTART;
        self
    }

    /// What the kernel does when nobody asked for anything else.
    pub(crate) fn default_action() -> Action {
        // SAFETY: all zeroes is a `sigaction`.
        let mut action: libc::sigaction = unsafe { mem::zeroed() };
        action.sa_sigaction = libc::SIG_DFL;
        Action(action)
    }

    /// Makes this what the process does.
    ///
    /// # Safety
    /// A handler in it does only what a handler may do (signal-safety(7)).
    pub(crate) unsafe fn install(&self, signal: libc::c_int) -> io::Result<()> {
        // SAFETY: `self.0` is a whole `sigaction`; the caller vouches for the handler.
        if unsafe { libc::sigaction(signal, &self.0, ptr::null_mut()) } != 0 {
            return Err(io::Error::last_os_error());
        }
        Ok(())
    }

    pub(crate) fn is_default(&self) -> bool {
        self.0.sa_sigaction == libc::SIG_DFL
    }

    pub(crate) fn is_ignore(&self) -> bool {
        self.0.sa_sigaction == libc::SIG_IGN
    }

    /// Does what the kernel would have done, had it delivered the signal to this action: adds its
    /// mask, honours `SA_RESETHAND` and `SA_NODEFER`, and calls the handler with as many
    /// arguments as it takes. The end of the outer handler undoes the mask.
    ///
    /// # Safety
    /// - It is neither the default action nor "ignore".
    /// - We are in a handler for `signal`, and `info` and `context` are what the kernel passed it.
    pub(crate) unsafe fn deliver(
        &self,
        signal: libc::c_int,
        info: *mut libc::siginfo_t,
        context: *mut libc::c_void,
    ) {
        // SAFETY: both sets are live; these calls are allowed in handlers.
        unsafe {
            libc::pthread_sigmask(libc::SIG_BLOCK, &self.0.sa_mask, ptr::null_mut());
            if self.0.sa_flags & libc::SA_NODEFER != 0 {
                let mut only: libc::sigset_t = mem::zeroed();
                libc::sigaddset(&mut only, signal);
                libc::pthread_sigmask(libc::SIG_UNBLOCK, &only, ptr::null_mut());
            }
        }
        if self.0.sa_flags & libc::SA_RESETHAND != 0 {
            // SAFETY: there is no handler in it.
            let _ = unsafe { Action::default_action().install(signal) };
        }
        if self.0.sa_flags & libc::SA_SIGINFO != 0 {
            // SAFETY: whoever installed it said with `SA_SIGINFO` that it is such a function, and
            // by installing it that it may be called with what the kernel passes.
            unsafe {
                let handler: Handler = mem::transmute(self.0.sa_sigaction);
                handler(signal, info, context);
            }
        } else {
            // SAFETY: without `SA_SIGINFO` it takes the signal's number only.
            unsafe {
                let handler: extern "C" fn(libc::c_int) = mem::transmute(self.0.sa_sigaction);
                handler(signal);
            }
        }
    }
}

/// Sees to it that handlers of the calling thread have an alternate stack with room for
/// formatting, and keeps one that is there if it is large enough. std's has 8 KiB, of which the
/// processor's state takes up to 3 (11 with AMX): enough for std's own message, not for ours.
///
/// Keep the result until the thread is done with running goroutines.
pub(crate) fn ensure_alt_stack() -> io::Result<AltStack> {
    const ROOM: usize = 16 << 10;
    let page = memory::page_size();
    // SAFETY: `getauxval` takes any name, and answers 0 for those it does not know.
    let frame = unsafe { libc::getauxval(libc::AT_MINSIGSTKSZ) } as usize;
    let needed = (frame.max(libc::MINSIGSTKSZ) + ROOM).next_multiple_of(page);

    let before = alt_stack()?;
    if before.ss_flags & libc::SS_DISABLE == 0 && before.ss_size >= needed {
        return Ok(AltStack { ours: None, here: PhantomData });
    }
    let len = needed + page;
    let base = memory::map(len)?;
    let ours = libc::stack_t {
        ss_sp: ptr::with_exposed_provenance_mut(base + page),
        ss_flags: 0,
        ss_size: needed,
    };
    // SAFETY: the lowest page of a mapping that nobody knows of yet; `ours` starts above it.
    let guarded = unsafe { memory::forbid(base, page) };
    // SAFETY: `ours` is mapped, and stays so until the drop has taken it out of service.
    let set = guarded.and_then(|()| unsafe { set_alt_stack(&ours) });
    if let Err(error) = set {
        // SAFETY: nobody knows of it.
        unsafe { memory::unmap(base, len) };
        return Err(error);
    }
    Ok(AltStack { ours: Some(Mapped { base, len, before }), here: PhantomData })
}

/// The calling thread's alternate stack, for as long as this lives. Dropping it, which happens on
/// the same thread, puts back what was there before.
#[must_use = "dropping it takes the alternate stack away"]
pub(crate) struct AltStack {
    /// `None`: the thread had one that will do.
    ours: Option<Mapped>,
    /// `sigaltstack` speaks about the calling thread, hence not `Send`.
    here: PhantomData<*mut ()>,
}

struct Mapped {
    base: usize,
    len: usize,
    before: libc::stack_t,
}

impl Drop for AltStack {
    fn drop(&mut self) {
        let Some(Mapped { base, len, before }) = &self.ours else {
            return;
        };
        let in_use = match alt_stack() {
            Ok(now) if (*base..*base + *len).contains(&now.ss_sp.addr()) => {
                // SAFETY: `before` was in service when we came, and its owner expects it to be.
                unsafe { set_alt_stack(before) }.is_err()
            }
            // Somebody has put another in its place; that one is not ours to remove.
            Ok(_) => false,
            Err(_) => true,
        };
        if !in_use {
            // SAFETY: our mapping, and no handler can start on it any more.
            unsafe { memory::unmap(*base, *len) };
        }
    }
}

fn alt_stack() -> io::Result<libc::stack_t> {
    // SAFETY: all zeroes is a `stack_t`.
    let mut now: libc::stack_t = unsafe { mem::zeroed() };
    // SAFETY: asks only; `now` is ours to write.
    if unsafe { libc::sigaltstack(ptr::null(), &mut now) } != 0 {
        return Err(io::Error::last_os_error());
    }
    Ok(now)
}

/// # Safety
/// The stack stays mapped for as long as it is in service.
unsafe fn set_alt_stack(stack: &libc::stack_t) -> io::Result<()> {
    // SAFETY: the caller vouches for the stack.
    if unsafe { libc::sigaltstack(stack, ptr::null_mut()) } != 0 {
        return Err(io::Error::last_os_error());
    }
    Ok(())
}

/// Standard error for a handler: no allocation, no lock, a buffer of its own. Written out when
/// full and when dropped.
pub(crate) struct SigWriter {
    used: usize,
    buffer: [u8; 512],
}

impl SigWriter {
    pub(crate) fn new() -> SigWriter {
        SigWriter { used: 0, buffer: [0; 512] }
    }

    pub(crate) fn flush(&mut self) {
        super::say(&self.buffer[..self.used]);
        self.used = 0;
    }
}

impl fmt::Write for SigWriter {
    fn write_str(&mut self, text: &str) -> fmt::Result {
        let mut rest = text.as_bytes();
        while !rest.is_empty() {
            if self.used == self.buffer.len() {
                self.flush();
            }
            let n = rest.len().min(self.buffer.len() - self.used);
            self.buffer[self.used..self.used + n].copy_from_slice(&rest[..n]);
            self.used += n;
            rest = &rest[n..];
        }
        Ok(())
    }
}

impl Drop for SigWriter {
    fn drop(&mut self) {
        self.flush();
    }
}

#[cfg(test)]
mod tests {
    use std::fmt::Write;

    use super::*;

    #[test]
    fn an_alternate_stack_has_room_and_the_old_one_comes_back() {
        std::thread::spawn(|| {
            let before = alt_stack().unwrap();
            let ours = ensure_alt_stack().unwrap();
            let now = alt_stack().unwrap();
            assert_eq!(now.ss_flags & libc::SS_DISABLE, 0);
            assert!(now.ss_size >= 18 << 10, "{}", now.ss_size);
            {
                // One that will do is kept.
                let _again = ensure_alt_stack().unwrap();
                assert_eq!(alt_stack().unwrap().ss_sp, now.ss_sp);
            }
            assert_eq!(alt_stack().unwrap().ss_sp, now.ss_sp);
            drop(ours);
            let after = alt_stack().unwrap();
            assert_eq!((after.ss_sp, after.ss_flags), (before.ss_sp, before.ss_flags));
        })
        .join()
        .unwrap();
    }

    #[test]
    fn a_long_text_is_written_in_pieces() {
        let mut out = SigWriter::new();
        out.write_str(&" ".repeat(500)).unwrap();
        assert_eq!(out.used, 500);
        // Fills up, is written out, and goes on: one line of blanks among the output of tests.
        out.write_str(&" ".repeat(500)).unwrap();
        assert_eq!(out.used, 488);
        out.used = 0;
    }
}
