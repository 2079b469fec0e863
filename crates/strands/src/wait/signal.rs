//! Claiming a waiter by way of a std `Waker`: for places where wakers are left, and not pointers to waiters.

use super::{ShortLock, Token, Waiter, Wake};
use crate::primitive::Arc;
use std::ptr::NonNull;

/// Claims a waiter when it is woken, unless it was called off before.
pub(crate) struct Signal(ShortLock<Option<Target>>);

struct Target {
    waiter: NonNull<Waiter>,
    token: Token,
}

// SAFETY: waiters may be claimed from any thread.
unsafe impl Send for Target {}

impl Signal {
    /// A signal that will claim `waiter` for `token`.
    ///
    /// # Safety
    /// The waiter stays until [`call_off`](Signal::call_off) has returned.
    pub(crate) unsafe fn to(waiter: &Waiter, token: Token) -> Arc<Signal> {
        Arc::new(Signal(ShortLock::new(Some(Target { waiter: NonNull::from(waiter), token }))))
    }

    /// From now on the signal does nothing.
    pub(crate) fn call_off(&self) {
        *self.0.lock() = None;
    }

    fn give(&self) {
        let mut target = self.0.lock();
        let wake: Option<Wake> = target.take().and_then(|target| {
            // SAFETY: not called off, and while the lock is held it cannot be.
            let waiter = unsafe { target.waiter.as_ref() };
            // SAFETY: just claimed, and not touched again.
            waiter.try_claim(target.token).then(|| unsafe { waiter.finish() })
        });
        drop(target);
        drop(wake);
    }
}

impl std::task::Wake for Signal {
    fn wake(self: Arc<Self>) {
        self.give();
    }

    fn wake_by_ref(self: &Arc<Self>) {
        self.give();
    }
}

#[cfg(all(test, not(loom)))]
mod tests {
    use super::*;
    use crate::wait::{FIRST_FREE, WaitKind};
    use std::task::Waker;

    #[test]
    fn a_signal_wakes_once_and_not_after_it_was_called_off() {
        let waiter = Waiter::new();
        // SAFETY: the waiter stays to the end.
        let (one, other) =
            unsafe { (Signal::to(&waiter, FIRST_FREE), Signal::to(&waiter, FIRST_FREE + 1)) };
        other.call_off();
        Waker::from(other).wake();
        Waker::from(Arc::clone(&one)).wake();
        Waker::from(one).wake();
        assert_eq!(waiter.park(WaitKind::Join.into(), None), FIRST_FREE);
    }
}
