//! A goroutine's end as an arm of a select.

use crate::sched::Join;
use crate::selection::{Arm, Claim, Enlisted, Sealed, Stand, token_of};
use crate::wait::{FIRST_FREE, Signal};
use std::cell::{Cell, RefCell};
use std::fmt;
use std::sync::Arc;
use std::task::{Poll, Waker};

/// The kinds of claim: the goroutine has ended, or the arm found that it had.
const ENDED: usize = FIRST_FREE;
const ONESELF: usize = FIRST_FREE + 1;

/// A join as an arm of a select.
pub struct JoinArm<'a, T> {
    join: RefCell<&'a mut Join<T>>,
    signal: Cell<Option<Arc<Signal>>>,
}

impl<'a, T> JoinArm<'a, T> {
    pub(crate) fn new(join: &'a mut Join<T>) -> JoinArm<'a, T> {
        assert!(!join.is_taken(), "a goroutine was joined twice");
        JoinArm { join: RefCell::new(join), signal: Cell::new(None) }
    }

    /// The goroutine's result. For the arm that has won.
    ///
    /// # Panics
    /// If it has not.
    pub fn finish(&self) -> std::thread::Result<T> {
        match self.join.borrow_mut().poll(Waker::noop()) {
            Poll::Ready(result) => result,
            Poll::Pending => panic!("an arm of a select that has not won"),
        }
    }
}

impl<T> Sealed for JoinArm<'_, T> {}

impl<T> Arm for JoinArm<'_, T> {
    fn attempt(&self) -> bool {
        self.join.borrow().is_finished()
    }

    fn enlist(&self, stand: Stand<'_>) -> Enlisted {
        self.withdraw();
        // SAFETY: the waiter stays until `withdraw`, which calls the signal off.
        let signal = unsafe { Signal::to(stand.waiter, token_of(ENDED, stand.index)) };
        let is_running = self.join.borrow_mut().remember(Waker::from(Arc::clone(&signal)));
        if is_running {
            self.signal.set(Some(signal));
            Enlisted::InLine
        } else if stand.waiter.try_claim(token_of(ONESELF, stand.index)) {
            Enlisted::Done
        } else {
            Enlisted::Taken
        }
    }

    fn withdraw(&self) {
        if let Some(signal) = self.signal.take() {
            signal.call_off();
        }
    }

    fn accept(&self, _claim: Claim) -> bool {
        true
    }

    fn is_ready(&self) -> bool {
        self.attempt()
    }

    fn watch(&self, stand: Stand<'_>) -> Enlisted {
        self.enlist(stand)
    }

    fn unwatch(&self) {
        self.withdraw();
    }
}

impl<T> fmt::Debug for JoinArm<'_, T> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.pad("JoinArm { .. }")
    }
}
