//! The switch by way of `corosensei`, where we have none of our own.

use super::{Entry, Farewell, Switch};
use corosensei::stack::{Stack, StackPointer};
use corosensei::{Coroutine, CoroutineResult, Yielder};
use std::cell::{Cell, UnsafeCell};
use std::ptr;

/// Whether there can be machines with thread-locals of their own.
///
/// On aarch64 it would take the switch of `x86_64` with `tpidr_el0` in the place of `fs`: `mrs`, store, load, `msr
/// tpidr_el0`, which any program may. The thread-local block there is laid out the other way round, upwards from the
/// thread pointer, with glibc's own record below it.
pub(crate) const CAN_SWITCH_TLS: bool = false;

/// Not here.
pub(crate) fn load_fs_by_system_call() {}

/// Not here: see [`CAN_SWITCH_TLS`].
pub(crate) unsafe fn as_thread(_: usize, _: impl FnOnce()) {
    unreachable!("no machine has thread-locals of its own here");
}

/// A stack that somebody else owns.
struct Borrowed {
    base: StackPointer,
    limit: StackPointer,
}

// SAFETY: `prepare`'s caller vouches for what lies between; `base` is a multiple of 64.
unsafe impl Stack for Borrowed {
    fn base(&self) -> StackPointer {
        self.base
    }

    fn limit(&self) -> StackPointer {
        self.limit
    }
}

/// A computation on a stack of its own.
pub(crate) struct Machine {
    /// The worker's.
    coroutine: UnsafeCell<Option<Coroutine<(), Switch, (), Borrowed>>>,
    /// The computation's.
    yielder: Cell<*const Yielder<(), Switch>>,
}

impl Machine {
    pub(crate) const fn new() -> Machine {
        Machine { coroutine: UnsafeCell::new(None), yielder: Cell::new(ptr::null()) }
    }

    /// Makes it ready to run `entry(argument)` on the stack from `base` (a multiple of 64) down to `limit`.
    ///
    /// # Safety
    /// The stack is writable and nobody else's until the machine has ended, and so long the machine stays
    /// where it is. Whatever `entry` needs of its argument is its own.
    pub(crate) unsafe fn prepare(
        &self,
        base: usize,
        limit: usize,
        entry: Entry,
        argument: *mut (),
    ) {
        let pointer = |at| StackPointer::new(at).expect("a stack is not at address zero");
        let stack = Borrowed { base: pointer(base), limit: pointer(limit) };
        let this = ptr::from_ref(self);
        let coroutine = Coroutine::with_stack(stack, move |yielder: &Yielder<(), Switch>, ()| {
            // SAFETY: the machine stays while it runs; entry and argument are as promised.
            unsafe {
                (*this).yielder.set(yielder);
                entry(argument);
            }
        });
        // SAFETY: nobody runs it or looks at it just now.
        unsafe { *self.coroutine.get() = Some(coroutine) };
    }

    /// Runs it until it suspends itself.
    ///
    /// # Safety
    /// It was prepared, is suspended and has not ended; and nobody else resumes it.
    #[inline]
    pub(crate) unsafe fn resume(&self) -> Switch {
        // SAFETY: whoever resumes it owns this; it runs within this very call.
        let coroutine = unsafe { &mut *self.coroutine.get() };
        match coroutine.as_mut().expect("prepared").resume(()) {
            CoroutineResult::Yield(why) => why,
            CoroutineResult::Return(()) => {
                *coroutine = None;
                Switch::Ended
            }
        }
    }

    /// Goes back to whoever resumed it, until it is resumed again.
    ///
    /// # Safety
    /// Called on the machine's own stack.
    #[inline]
    pub(crate) unsafe fn suspend(&self, why: Switch) {
        // SAFETY: set when it started, and on this very stack.
        unsafe { (*self.yielder.get()).suspend(why) }
    }

    /// Not here: see [`CAN_SWITCH_TLS`].
    pub(crate) unsafe fn prepare_with_tls(&self, _: usize, _: usize, _: Entry, _: *mut ()) {
        unreachable!("no machine has thread-locals of its own here");
    }

    /// Not here.
    pub(crate) unsafe fn resume_with_tls(&self) -> Farewell {
        unreachable!("no machine has thread-locals of its own here");
    }

    /// Not here.
    pub(crate) unsafe fn suspend_with_tls(&self, _: Farewell) -> Option<Farewell> {
        unreachable!("no machine has thread-locals of its own here");
    }

    /// Not here.
    pub(crate) unsafe fn go_over(&self, _: &Machine, _: Farewell) -> Option<Farewell> {
        unreachable!("no machine has thread-locals of its own here");
    }
}

impl Drop for Machine {
    fn drop(&mut self) {
        // One that is suspended is never unwound from outside.
        std::mem::forget(self.coroutine.get_mut().take());
    }
}

/// An address near which the stack of the caller ends just now.
#[inline(always)]
pub(crate) fn stack_pointer() -> usize {
    let local = 0_u8;
    std::hint::black_box(&raw const local).addr()
}
