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
//! A machine with thread-locals of its own ([`Machine::prepare_with_tls`]) has one word more below all these, and so
//! has the stack of its worker meanwhile: the thread pointer that belongs to the stack, which whoever goes there loads
//! into `fs` as the last thing before the jump. So no compiled code ever runs with another's thread pointer.
//!
//! # Who owns what
//!
//! | | while it is suspended | while it runs |
//! |---|---|---|
//! | `own` | whoever may resume it | nobody: it is being written when it suspends |
//! | `worker` | nobody | the machine |

use super::{Entry, Farewell, Switch};
use std::arch::{asm, naked_asm};
use std::cell::Cell;
use std::sync::atomic::{AtomicBool, Ordering};

/// Whether `fs` has to be loaded by a system call, for want of the instruction.
static BY_SYSTEM_CALL: AtomicBool = AtomicBool::new(false);

/// Has `fs` loaded by a system call (225 ns), where the kernel does not let programs do it themselves (10 ns).
pub(crate) fn load_fs_by_system_call() {
    // Ordering: switches that see this late are those of machines made before; none are, see the caller.
    BY_SYSTEM_CALL.store(true, Ordering::Relaxed);
}

/// What whoever resumes a machine says to it.
const NOBODY: usize = 0;

/// Whether there can be machines with thread-locals of their own.
pub(crate) const CAN_SWITCH_TLS: bool = cfg!(all(target_os = "linux", target_env = "gnu"));

/// A computation on a stack of its own.
pub(crate) struct Machine {
    /// Its stack pointer, when it is suspended.
    own: Cell<usize>,
    /// The stack pointer of whoever resumed it, while it runs.
    worker: Cell<usize>,
}

#[unsafe(naked)]
unsafe extern "C" fn trampoline<const TLS: bool>() -> ! {
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
        begin = sym begin::<TLS>,
    );
}

/// # Safety
/// See [`Machine::prepare`]; called by the trampoline.
unsafe extern "C" fn begin<const TLS: bool>(
    machine: *const Machine,
    entry: Entry,
    argument: *mut (),
) -> ! {
    // SAFETY: `prepare`'s caller promised both; the machine stays while it runs.
    unsafe {
        entry(argument);
        if TLS {
            (*machine).suspend_with_tls(Farewell::new(argument.addr(), Switch::Ended));
        } else {
            (*machine).suspend(Switch::Ended);
        }
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
            trampoline::<false> as *const () as usize,
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

    /// The same, with thread-locals of its own: those that `thread_pointer` leads to. Such a machine is resumed and
    /// suspended by the methods for such.
    ///
    /// # Safety
    /// As for [`prepare`](Machine::prepare); and the thread pointer is that of a whole thread-local block that
    /// nobody else uses until the machine has ended.
    pub(crate) unsafe fn prepare_with_tls(
        &self,
        base: usize,
        thread_pointer: usize,
        entry: Entry,
        argument: *mut (),
    ) {
        debug_assert_eq!(base % 64, 0);
        let words = [
            thread_pointer,
            trampoline::<true> as *const () as usize,
            std::ptr::from_ref(self).expose_provenance(),
            entry as *const () as usize,
            argument.expose_provenance(),
            0,
            0,
        ];
        let top = base - size_of_val(&words);
        // SAFETY: within the stack, which is ours; aligned, as `base` is.
        unsafe { std::ptr::with_exposed_provenance_mut::<[usize; 7]>(top).write(words) };
        self.own.set(top);
    }

    /// Runs a machine with thread-locals of its own until it suspends itself, or another does that it has gone over to:
    /// the farewell says which.
    ///
    /// # Safety
    /// As for [`resume`](Machine::resume); it was prepared with thread-locals. The argument of its entry, by which it
    /// says whose it is in the end, is what [`Farewell::new`] takes.
    #[inline(always)]
    pub(crate) unsafe fn resume_with_tls(&self) -> Farewell {
        // SAFETY: a suspended machine's pointer, prepared with thread-locals.
        Farewell(unsafe { exchange_with_tls(&self.worker, self.own.get(), NOBODY) })
    }

    /// Goes back to whoever waits in [`resume_with_tls`](Machine::resume_with_tls), and to their thread-locals. When it
    /// is resumed: what the machine said that has gone over to this one, if it was one.
    ///
    /// # Safety
    /// As for [`suspend`](Machine::suspend); it was resumed with thread-locals.
    #[inline(always)]
    pub(crate) unsafe fn suspend_with_tls(&self, farewell: Farewell) -> Option<Farewell> {
        // SAFETY: we run, so the worker waits in `resume_with_tls`.
        let word = unsafe { exchange_with_tls(&self.own, self.worker.get(), farewell.0) };
        (word != NOBODY).then_some(Farewell(word))
    }

    /// Leaves for another machine instead, which then is the one that runs: half of the way over the loop.
    ///
    /// # Safety
    /// As for [`suspend_with_tls`](Machine::suspend_with_tls); and `to` has suspended itself by that or by this,
    /// and is the caller's to resume.
    #[inline(always)]
    pub(crate) unsafe fn go_over(&self, to: &Machine, farewell: Farewell) -> Option<Farewell> {
        // Whoever resumed us waits for it now.
        to.worker.set(self.worker.get());
        // SAFETY: a suspended machine's pointer, with its thread-locals.
        let word = unsafe { exchange_with_tls(&self.own, to.own.get(), farewell.0) };
        (word != NOBODY).then_some(Farewell(word))
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

/// [`exchange`], and with the stack it changes the thread pointer: our own is left on our stack, and the other's
/// found on the other.
///
/// Between the two a signal may find one's stack and the other's thread-locals. Both are whole, and neither is being
/// changed by anybody, so a handler that does what handlers may notices nothing.
///
/// # Safety
/// As for [`exchange`]; `to` was left by this function, or prepared with thread-locals.
#[inline(always)]
unsafe fn exchange_with_tls(save: &Cell<usize>, to: usize, word: usize) -> usize {
    let brought;
    // SAFETY:
    // - as in `exchange`; the system call overwrites `rax`, `rcx` and `r11`.
    // - whoever comes back here has loaded our thread pointer before: what the compiler knows of thread-locals'
    //   addresses is as true as before.
    unsafe {
        asm!(
            "push rbp",
            "push rbx",
            "lea rax, [rip + 2f]",
            "push rax",
            // The block's first word is its own address.
            "push qword ptr fs:[0]",
            "mov [rsi], rsp",
            "mov rsp, rdx",
            "pop rsi",
            "cmp byte ptr [rip + {by_system_call}], 0",
            "jne 3f",
            "wrfsbase rsi",
            "4:",
            "pop rax",
            "jmp rax",
            "3:",
            "mov r8, rdi",
            "mov edi, {set_fs}",
            "mov eax, {arch_prctl}",
            "syscall",
            "mov rdi, r8",
            "jmp 4b",
            "2:",
            "pop rbx",
            "pop rbp",
            by_system_call = sym BY_SYSTEM_CALL,
            set_fs = const 0x1002,
            arch_prctl = const 158,
            inlateout("rdi") word => brought,
            inlateout("rsi") save.as_ptr() => _,
            in("rdx") to,
            lateout("r12") _, lateout("r13") _, lateout("r14") _, lateout("r15") _,
            clobber_abi("sysv64"),
        );
    }
    brought
}

/// Runs `body` with another thread pointer, on the stack that there is.
///
/// # Safety
/// It is that of a whole thread-local block which nobody else uses meanwhile. `body` does what a handler of signals may,
/// and does not unwind.
#[inline(never)]
pub(crate) unsafe fn as_thread(thread_pointer: usize, body: impl FnOnce()) {
    let own: usize;
    // SAFETY: the block's first word is its own address. Nothing in this function, into which nothing but `body` can be
    // inlined, has a thread-local's address from before; and afterwards the thread pointer is what it was.
    unsafe {
        asm!("mov {}, fs:[0]", out(reg) own, options(nostack, preserves_flags));
        load_fs(thread_pointer);
        body();
        load_fs(own);
    }
}

/// # Safety
/// As for [`as_thread`].
unsafe fn load_fs(thread_pointer: usize) {
    // Ordering: see `load_fs_by_system_call`.
    if BY_SYSTEM_CALL.load(Ordering::Relaxed) {
        // SAFETY: the caller's promise; what the call overwrites is declared.
        unsafe {
            asm!(
                "syscall",
                inlateout("rax") 158_usize => _,
                in("rdi") 0x1002,
                in("rsi") thread_pointer,
                lateout("rcx") _, lateout("r11") _,
                options(nostack),
            );
        }
    } else {
        // SAFETY: the caller's promise.
        unsafe { asm!("wrfsbase {}", in(reg) thread_pointer, options(nostack, preserves_flags)) };
    }
}

/// Where the stack of the caller ends just now.
#[inline(always)]
pub(crate) fn stack_pointer() -> usize {
    let here;
    // SAFETY: reads a register.
    unsafe { asm!("mov {}, rsp", out(reg) here, options(nomem, nostack, preserves_flags)) };
    here
}

/// Machines with thread-locals of their own, here with those of the test's thread: it is the words and the stacks that are
/// looked at.
#[cfg(test)]
mod tests {
    use super::*;
    use std::cell::RefCell;

    const SIZE: usize = 64 << 10;

    struct Nomad {
        machine: Machine,
        stack: Vec<u128>,
        body: Box<dyn Fn(&Nomad)>,
        heard: RefCell<Vec<Option<Farewell>>>,
    }

    impl Nomad {
        fn new(body: impl Fn(&Nomad) + 'static) -> &'static Nomad {
            let stack = vec![0; SIZE / 16];
            let (machine, heard) = (Machine::new(), RefCell::default());
            let nomad: &Nomad =
                Box::leak(Box::new(Nomad { machine, stack, body: Box::new(body), heard }));
            let base = (nomad.stack.as_ptr().expose_provenance() + SIZE) & !63;
            let thread_pointer: usize;
            // SAFETY: reads a word of the thread's own; the stack is the machine's, and stays, as that does.
            unsafe {
                asm!("mov {}, qword ptr fs:[0]", out(reg) thread_pointer);
                nomad.machine.prepare_with_tls(base, thread_pointer, enter, nomad.me());
            }
            nomad
        }

        fn me(&self) -> *mut () {
            std::ptr::from_ref(self).expose_provenance();
            std::ptr::from_ref(self).cast_mut().cast()
        }

        fn farewell(&self, why: Switch) -> Farewell {
            Farewell::new(self.me().addr(), why)
        }

        fn resume(&self) -> Farewell {
            // SAFETY: suspended, as each test sees to.
            unsafe { self.machine.resume_with_tls() }
        }

        fn suspend(&self, why: Switch) {
            // SAFETY: called by its body.
            let heard = unsafe { self.machine.suspend_with_tls(self.farewell(why)) };
            self.heard.borrow_mut().push(heard);
        }

        fn go_over(&self, to: &Nomad, why: Switch) {
            // SAFETY: called by its body, and the other is suspended.
            let heard = unsafe { self.machine.go_over(&to.machine, self.farewell(why)) };
            self.heard.borrow_mut().push(heard);
        }
    }

    unsafe extern "C" fn enter(nomad: *mut ()) {
        // SAFETY: `new` passed it.
        let nomad = unsafe { &*nomad.cast_const().cast::<Nomad>() };
        (nomad.body)(nomad);
    }

    /// Resumes it from further down the stack, so that whoever goes back to an earlier place is found out.
    #[inline(never)]
    fn resume_from_below(nomad: &Nomad) -> Farewell {
        let room = std::hint::black_box([7_u64; 100]);
        let farewell = nomad.resume();
        assert_eq!(std::hint::black_box(room), [7; 100]);
        farewell
    }

    #[test]
    fn who_goes_over_is_heard_there_and_the_other_goes_back_to_the_loop_in_its_place() {
        let second = Nomad::new(|me| {
            me.suspend(Switch::Parked);
            me.suspend(Switch::Parked);
            me.suspend(Switch::Yielded);
        });
        let first = Nomad::new(move |me| {
            me.go_over(second, Switch::Parked);
            me.go_over(second, Switch::Yielded);
        });
        // From here, for the first time; where it goes back to must not be this.
        assert_eq!(second.resume(), second.farewell(Switch::Parked));
        // The loop resumes the one, and hears of the other.
        assert_eq!(resume_from_below(first), second.farewell(Switch::Parked));
        assert_eq!(*second.heard.borrow(), [Some(first.farewell(Switch::Parked))]);
        assert_eq!(first.resume(), second.farewell(Switch::Yielded));
        assert_eq!(second.heard.borrow()[1], Some(first.farewell(Switch::Yielded)));
        // Each is where it left off, and from the loop there is nothing to hear.
        assert_eq!(resume_from_below(second), second.farewell(Switch::Ended));
        assert_eq!(first.resume(), first.farewell(Switch::Ended));
        assert_eq!(*first.heard.borrow(), [None, None]);
        assert_eq!(second.heard.borrow()[2], None);
    }

    #[test]
    fn many_may_go_over_in_a_row_on_the_loops_one_turn() {
        // Each goes over to the one that was suspended before it; the first goes back.
        let mut all: Vec<&'static Nomad> = Vec::new();
        for at in 0..50 {
            let before = all.last().copied();
            let nomad = Nomad::new(move |me| {
                me.suspend(Switch::Parked);
                match before {
                    Some(before) => me.go_over(before, Switch::Parked),
                    None => me.suspend(Switch::Yielded),
                }
            });
            assert_eq!(nomad.resume(), nomad.farewell(Switch::Parked), "{at}");
            all.push(nomad);
        }
        let last = all.last().expect("fifty");
        assert_eq!(resume_from_below(last), all[0].farewell(Switch::Yielded));
        for pair in all.windows(2) {
            assert_eq!(*pair[0].heard.borrow(), [Some(pair[1].farewell(Switch::Parked))]);
        }
        for nomad in all {
            assert_eq!(resume_from_below(nomad), nomad.farewell(Switch::Ended));
        }
    }
}
