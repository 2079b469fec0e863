//! The switch: leaving a worker's stack for a goroutine's, and coming back.
//!
//! A [`Machine`] is a computation with a stack of its own. Its worker [`resume`](Machine::resume)s it, it runs on
//! that stack until it [`suspend`](Machine::suspend)s itself, and then the worker goes on, told why.
//!
//! ```text
//!   worker's stack                 goroutine's stack
//!   ──────────────                 ─────────────────
//!   resume ── registers saved ──►  … after `suspend`, or at its entry
//!                                  runs
//!   … after `resume`  ◄── registers saved ── suspend(why)
//! ```
//!
//! # Why our own on x86-64
//!
//! A processor predicts where a `ret` goes by counting `call`s. A switch that is built like a call leaves that
//! count off by one: the returns that follow on the other stack (out of `park`, out of `send`) are all predicted
//! wrongly, and each costs as much as twenty ordinary instructions. Ours *jumps* both ways and leaves the count
//! alone; two goroutines that wait in the same places, as most do, then find the very addresses there that they
//! return to. A rendezvous became a quarter faster by it. Elsewhere `corosensei` switches (`portable`), as it does
//! here too under `--cfg strands_portable_switch`, so that both can be tested on one machine.
//!
//! What is saved is what the platform's calling convention preserves across a call: the stack pointer, the frame
//! pointer and the callee-saved registers. Floating-point control words are the thread's, as between functions.
//!
//! Unwinding ends at a machine's entry, which nothing may unwind out of: that aborts.

#[cfg(any(not(target_arch = "x86_64"), strands_portable_switch))]
mod portable;
#[cfg(all(target_arch = "x86_64", not(strands_portable_switch)))]
mod x86_64;

#[cfg(any(not(target_arch = "x86_64"), strands_portable_switch))]
pub(crate) use portable::{
    CAN_SWITCH_TLS, Machine, as_thread, load_fs_by_system_call, stack_pointer,
};
#[cfg(all(target_arch = "x86_64", not(strands_portable_switch)))]
pub(crate) use x86_64::{
    CAN_SWITCH_TLS, Machine, as_thread, load_fs_by_system_call, stack_pointer,
};

/// Why a machine switched back to its worker.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
#[repr(usize)]
pub(crate) enum Switch {
    /// It waits to be resumed by whoever ends its wait.
    Parked = 0,
    /// It wants another turn.
    Yielded = 1,
    /// It has returned from its entry, and its stack is empty.
    Ended = 2,
}

impl Switch {
    #[inline]
    fn from_word(word: usize) -> Switch {
        match word {
            0 => Switch::Parked,
            1 => Switch::Yielded,
            _ => Switch::Ended,
        }
    }
}

/// What a machine with thread-locals of its own says as it leaves its stack: why, and whose that is.
///
/// It may leave for its worker's loop, or go over to another such machine, which then hears it in the loop's place.
///
/// ```text
///   { who: a multiple of 4, why: 2 bits }     0: nobody's; what the loop says to a machine
/// ```
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) struct Farewell(usize);

impl Farewell {
    const WHY: usize = 3;

    #[inline]
    pub(crate) fn new(who: usize, why: Switch) -> Farewell {
        debug_assert!(who != 0 && who & Self::WHY == 0);
        Farewell(who | why as usize)
    }

    #[inline]
    pub(crate) fn who(self) -> usize {
        self.0 & !Self::WHY
    }

    #[inline]
    pub(crate) fn why(self) -> Switch {
        Switch::from_word(self.0 & Self::WHY)
    }
}

/// Where a machine begins. It must not unwind.
pub(crate) type Entry = unsafe extern "C" fn(*mut ());

#[cfg(test)]
mod tests {
    use super::*;
    use std::cell::Cell;
    use std::panic::AssertUnwindSafe;
    use std::pin::Pin;

    const SIZE: usize = 256 << 10;

    /// A machine, and what it shares with its entry.
    struct Program {
        machine: Machine,
        stack: Vec<u128>,
        body: fn(&Program),
        log: Cell<Vec<u32>>,
    }

    impl Program {
        fn new(body: fn(&Program)) -> Pin<Box<Program>> {
            let stack = vec![0; SIZE / 16];
            let log = Cell::new(Vec::new());
            let program =
                Box::into_raw(Box::new(Program { machine: Machine::new(), stack, body, log }));
            // SAFETY: the program stays where it is until the tests drop it, ended or never resumed again.
            unsafe {
                let limit = (*program).stack.as_ptr().addr();
                let base = (limit + SIZE) & !63;
                (*program).machine.prepare(base, limit, enter, program.cast());
                Pin::new_unchecked(Box::from_raw(program))
            }
        }

        fn resume(&self) -> Switch {
            // SAFETY: prepared, and suspended: it is resumed from here only.
            unsafe { self.machine.resume() }
        }

        fn suspend(&self, why: Switch) {
            // SAFETY: called by the body.
            unsafe { self.machine.suspend(why) }
        }

        fn note(&self, word: u32) {
            let mut log = self.log.take();
            log.push(word);
            self.log.set(log);
        }
    }

    unsafe extern "C" fn enter(program: *mut ()) {
        // SAFETY: `new` passed it.
        let program = unsafe { &*program.cast::<Program>() };
        (program.body)(program);
    }

    #[test]
    fn it_goes_on_where_it_left_and_says_why_it_left() {
        let program = Program::new(|program| {
            program.note(1);
            program.suspend(Switch::Parked);
            program.note(2);
            program.suspend(Switch::Yielded);
            program.note(3);
        });
        assert_eq!(program.log.take(), []);
        assert_eq!(program.resume(), Switch::Parked);
        assert_eq!(program.resume(), Switch::Yielded);
        assert_eq!(program.resume(), Switch::Ended);
        assert_eq!(program.log.take(), [1, 2, 3]);
    }

    /// Values that live across a switch, if there is one, in as many registers as there are.
    #[inline(never)]
    fn churn(program: Option<&Program>, seed: u64) -> u32 {
        let mut x = [seed; 24];
        let mut y = [seed as f64; 24];
        for i in 0..24 {
            x[i] = x[i].wrapping_mul(i as u64 + 3);
            y[i] *= i as f64 + 0.5;
        }
        if let Some(program) = program {
            program.suspend(Switch::Yielded);
        }
        let sum: f64 = y.iter().sum();
        x.iter().fold(sum as u64, |a, b| a ^ b.rotate_left(5)) as u32
    }

    /// The same for whoever resumes.
    #[inline(never)]
    fn churn_here(programs: &[Pin<Box<Program>>], seed: u64) -> u64 {
        let mut x = [seed; 16];
        for (i, word) in x.iter_mut().enumerate() {
            *word = word.wrapping_mul(i as u64 + 7);
        }
        for program in programs {
            let _ = program.resume();
        }
        x.iter().fold(0, |a: u64, b| a.rotate_left(9) ^ b)
    }

    #[test]
    fn a_farewell_says_why_and_whose_it_is() {
        for why in [Switch::Parked, Switch::Yielded, Switch::Ended] {
            let farewell = Farewell::new(0x7fff_ffff_ffc0, why);
            assert_eq!((farewell.who(), farewell.why()), (0x7fff_ffff_ffc0, why));
        }
    }

    #[test]
    fn registers_survive_on_both_sides() {
        let programs = [
            Program::new(|p| p.note(churn(Some(p), 17))),
            Program::new(|p| p.note(churn(Some(p), 99))),
        ];
        for seed in [3, 4] {
            assert_eq!(churn_here(&programs, seed), churn_here(&[], seed));
        }
        let logs = programs.each_ref().map(|program| program.log.take());
        assert_eq!(logs, [vec![churn(None, 17)], vec![churn(None, 99)]]);
    }

    #[test]
    fn a_panic_is_caught_within_and_a_backtrace_ends_at_the_entry() {
        let program = Program::new(|program| {
            let caught = std::panic::catch_unwind(AssertUnwindSafe(|| {
                program.suspend(Switch::Yielded);
                std::panic::resume_unwind(Box::new(42_u32));
            }));
            program.note(*caught.unwrap_err().downcast::<u32>().unwrap());
            let trace = std::backtrace::Backtrace::force_capture().to_string();
            program.note(trace.lines().count() as u32);
        });
        assert_eq!(program.resume(), Switch::Yielded);
        assert_eq!(program.resume(), Switch::Ended);
        let log = program.log.take();
        assert_eq!(log[0], 42);
        assert!((2..200).contains(&log[1]), "{log:?}");
    }
}
