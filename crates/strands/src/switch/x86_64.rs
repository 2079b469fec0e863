//! The switch on x86-64, System V.
//!
//! A stack that is not running has these words at its saved pointer, lowest first:
//!
//! ```text
//!   where to go on │ rbx │ rbp │ …
//! ```
//!
//! and at its first start:
//!
//! ```text
//!   trampoline │ the machine │ its entry │ the entry's argument │ 0 │ 0     ◄─ base, a multiple of 64
//! ```
//!
//! # Who owns what
//!
//! | | while it is suspended | while it runs |
//! |---|---|---|
//! | `own` | whoever may resume it | nobody: it is being written when it suspends |
//! | `worker` | nobody | the machine |

use super::{Entry, Switch};
use std::arch::{asm, naked_asm};
use std::cell::Cell;

/// A computation on a stack of its own.
pub(crate) struct Machine {
    /// Its stack pointer, when it is suspended.
    own: Cell<usize>,
    /// The stack pointer of whoever resumed it, while it runs.
    worker: Cell<usize>,
}

#[unsafe(naked)]
unsafe extern "C" fn trampoline() -> ! {
    naked_asm!(
        ".cfi_startproc",
        // Here unwinders and backtraces end.
        ".cfi_undefined rip",
        "pop rdi",
        "pop rsi",
        "pop rdx",
        "xor ebp, ebp",
        "call {begin}",
        "ud2",
        ".cfi_endproc",
        begin = sym begin,
    );
}

/// # Safety
/// See [`Machine::prepare`]; called by the trampoline.
unsafe extern "C" fn begin(machine: *const Machine, entry: Entry, argument: *mut ()) -> ! {
    // SAFETY: `prepare`'s caller promised both; the machine stays while it runs.
    unsafe {
        entry(argument);
        (*machine).suspend(Switch::Ended);
    }
    unreachable!("a machine that has ended was resumed");
}

impl Machine {
    pub(crate) const fn new() -> Machine {
        Machine { own: Cell::new(0), worker: Cell::new(0) }
    }

    /// Makes it ready to run `entry(argument)` on the stack from `base` (a multiple of 64) down to `limit`.
    ///
    /// # Safety
    /// The stack is writable and nobody else's until the machine has ended, and so long the machine stays
    /// where it is. Whatever `entry` needs of its argument is its own.
    #[inline]
    pub(crate) unsafe fn prepare(
        &self,
        base: usize,
        _limit: usize,
        entry: Entry,
        argument: *mut (),
    ) {
        debug_assert_eq!(base % 64, 0);
        let words = [
            trampoline as *const () as usize,
            std::ptr::from_ref(self).expose_provenance(),
            entry as *const () as usize,
            argument.expose_provenance(),
            0,
            0,
        ];
        let top = base - size_of_val(&words);
        // SAFETY: within the stack, which is ours; aligned, as `base` is.
        unsafe { std::ptr::with_exposed_provenance_mut::<[usize; 6]>(top).write(words) };
        self.own.set(top);
    }

    /// Runs it until it suspends itself.
    ///
    /// # Safety
    /// It was prepared, is suspended and has not ended; and nobody else resumes it.
    #[inline(always)]
    pub(crate) unsafe fn resume(&self) -> Switch {
        // SAFETY: a suspended machine's pointer, see above.
        Switch::from_word(unsafe { exchange(&self.worker, self.own.get(), 0) })
    }

    /// Goes back to whoever resumed it, until it is resumed again.
    ///
    /// # Safety
    /// Called on the machine's own stack.
    #[inline(always)]
    pub(crate) unsafe fn suspend(&self, why: Switch) {
        // SAFETY: we run, so the worker waits in `resume`.
        unsafe { exchange(&self.own, self.worker.get(), why as usize) };
    }
}

/// Leaves the running stack, its pointer in `save`, for the one at `to`; returns when something comes back, with
/// the word that it brings.
///
/// # Safety
/// `to` is the pointer of a stack that was left by this function, or prepared, and not entered since. Whoever comes
/// back takes the pointer from `save`.
#[inline(always)]
unsafe fn exchange(save: &Cell<usize>, to: usize, word: usize) -> usize {
    let brought;
    // SAFETY:
    // - the stack pointer is back where it was at the end, and all that was pushed is popped.
    // - every register that is not saved here is declared as overwritten; `rbx` and `rbp`, which the compiler
    //   does not let go of, are saved on the stack.
    // - jumping, not calling: see the head of `mod`.
    unsafe {
        asm!(
            "push rbp",
            "push rbx",
            "lea rax, [rip + 2f]",
            "push rax",
            "mov [rsi], rsp",
            "mov rsp, rdx",
            "pop rax",
            "jmp rax",
            "2:",
            "pop rbx",
            "pop rbp",
            inlateout("rdi") word => brought,
            in("rsi") save.as_ptr(),
            in("rdx") to,
            lateout("r12") _, lateout("r13") _, lateout("r14") _, lateout("r15") _,
            clobber_abi("sysv64"),
        );
    }
    brought
}

/// Where the stack of the caller ends just now.
#[inline(always)]
pub(crate) fn stack_pointer() -> usize {
    let here;
    // SAFETY: reads a register.
    unsafe { asm!("mov {}, rsp", out(reg) here, options(nomem, nostack, preserves_flags)) };
    here
}
