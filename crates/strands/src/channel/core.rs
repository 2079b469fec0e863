//! The channel itself: a buffer, a line of senders, a line of receivers, one short lock.
//!
//! At any time at most one of these is non-empty:
//!
//! ```text
//!   buffer not full, nobody waits  │ send pushes, recv pops
//!   buffer empty,    receivers wait│ send hands its message to the first receiver
//!   buffer full,     senders wait  │ recv pops, and moves the first sender's message into the buffer
//! ```
//!
//! A rendezvous channel is the case in which the buffer is always both empty and full.
//!
//! Messages only move under the lock; they are dropped, and those who wait are woken, after it was released.

use super::waiting::{Line, Place};
use super::{RecvError, SendError, TryRecvError, TrySendError};
use crate::primitive::Arc;
use crate::primitive::atomic::{AtomicUsize, Ordering};
use crate::wait::{FIRST_FREE, Reason, ShortLock, Token, WaitKind, Waiter, Wake};
use std::collections::VecDeque;
use std::mem::ManuallyDrop;
use std::ops::Deref;

/// The message has changed hands.
const PASSED: Token = FIRST_FREE;
/// The other side is gone.
const DISCONNECTED: Token = FIRST_FREE + 1;

/// A bounded buffer grows as it fills; up to this many places are made at once.
const EAGER: usize = 256;
/// When the channel is closed, so many are woken between two looks at the lock.
const BATCH: usize = 32;

pub(super) struct Core<T> {
    state: ShortLock<State<T>>,
    /// `None`: no bound.
    cap: Option<usize>,
    senders: AtomicUsize,
    receivers: AtomicUsize,
}

struct State<T> {
    buffer: VecDeque<T>,
    senders: Line<T>,
    receivers: Line<T>,
    /// One side is gone. Nobody waits any more, from here on.
    disconnected: bool,
}

impl<T> Core<T> {
    pub(super) fn ends(cap: Option<usize>) -> (SendEnd<T>, RecvEnd<T>) {
        let core = Arc::new(Core {
            state: ShortLock::new(State {
                buffer: VecDeque::with_capacity(cap.unwrap_or(0).min(EAGER)),
                senders: Line::new(),
                receivers: Line::new(),
                disconnected: false,
            }),
            cap,
            senders: AtomicUsize::new(1),
            receivers: AtomicUsize::new(1),
        });
        (SendEnd(Arc::clone(&core)), RecvEnd(core))
    }

    fn has_room(&self, state: &State<T>) -> bool {
        self.cap.is_none_or(|cap| state.buffer.len() < cap)
    }

    #[inline]
    pub(super) fn try_send(&self, message: T) -> Result<(), TrySendError<T>> {
        let mut state = self.state.lock();
        if state.disconnected {
            return Err(TrySendError::Disconnected(message));
        }
        if let Some(receiver) = state.receivers.claim_first(PASSED) {
            let wake = receiver.give(message);
            drop(state);
            wake.deliver();
            return Ok(());
        }
        if self.has_room(&state) {
            state.buffer.push_back(message);
            return Ok(());
        }
        Err(TrySendError::Full(message))
    }

    #[inline]
    pub(super) fn send(&self, message: T) -> Result<(), SendError<T>> {
        let mut state = self.state.lock();
        if state.disconnected {
            return Err(SendError(message));
        }
        if let Some(receiver) = state.receivers.claim_first(PASSED) {
            let wake = receiver.give(message);
            drop(state);
            wake.deliver();
            return Ok(());
        }
        if self.has_room(&state) {
            state.buffer.push_back(message);
            return Ok(());
        }
        let waiter = Waiter::exclusive();
        let place = Place::holding(&waiter, message);
        // SAFETY: both stay in this frame until `park` returns, which is after the claim and the wake-up.
        unsafe { state.senders.join(&place) };
        drop(state);
        match waiter.park(Reason::on(WaitKind::Send, self.address()), None) {
            PASSED => Ok(()),
            // SAFETY: nobody has taken the message, and the place is ours again.
            _ => Err(SendError(unsafe { place.read() })),
        }
    }

    /// What can be received at once, and the wake-up that this owes to a sender.
    #[inline]
    fn take(&self, state: &mut State<T>) -> Option<(T, Option<Wake>)> {
        if let Some(message) = state.buffer.pop_front() {
            let wake = state.senders.claim_first(PASSED).map(|sender| {
                let (next, wake) = sender.take();
                state.buffer.push_back(next);
                wake
            });
            return Some((message, wake));
        }
        let (message, wake) = state.senders.claim_first(PASSED)?.take();
        Some((message, Some(wake)))
    }

    #[inline]
    pub(super) fn try_recv(&self) -> Result<T, TryRecvError> {
        let mut state = self.state.lock();
        match self.take(&mut state) {
            Some((message, wake)) => {
                drop(state);
                drop(wake);
                Ok(message)
            }
            None if state.disconnected => Err(TryRecvError::Disconnected),
            None => Err(TryRecvError::Empty),
        }
    }

    #[inline]
    pub(super) fn recv(&self) -> Result<T, RecvError> {
        let mut state = self.state.lock();
        if let Some((message, wake)) = self.take(&mut state) {
            drop(state);
            drop(wake);
            return Ok(message);
        }
        if state.disconnected {
            return Err(RecvError);
        }
        let waiter = Waiter::exclusive();
        let place = Place::empty(&waiter);
        // SAFETY: as in `send`.
        unsafe { state.receivers.join(&place) };
        drop(state);
        match waiter.park(Reason::on(WaitKind::Receive, self.address()), None) {
            // SAFETY: a sender has put its message there, and the place is ours again.
            PASSED => Ok(unsafe { place.read() }),
            _ => Err(RecvError),
        }
    }

    /// One side is gone: lets all who wait for it go. What is left is dropped if nobody can receive it.
    fn disconnect(&self, discard: bool) {
        let mut state = self.state.lock();
        state.disconnected = true;
        let left = if discard { std::mem::take(&mut state.buffer) } else { VecDeque::new() };
        loop {
            let mut wakes: [Option<Wake>; BATCH] = [const { None }; BATCH];
            let mut count = 0;
            while count < BATCH {
                let claimed = state
                    .receivers
                    .claim_first(DISCONNECTED)
                    .or_else(|| state.senders.claim_first(DISCONNECTED));
                let Some(claimed) = claimed else { break };
                wakes[count] = Some(claimed.dismiss());
                count += 1;
            }
            drop(state);
            wakes.into_iter().flatten().for_each(Wake::deliver);
            if count < BATCH {
                break;
            }
            state = self.state.lock();
        }
        // With no lock held: a message's `Drop` may do anything, panic included. If one panics the rest is
        // leaked, as in crossbeam-channel: were it dropped while unwinding, a second panic would abort.
        let mut left = ManuallyDrop::new(left);
        while let Some(message) = left.pop_front() {
            drop(message);
        }
        drop(ManuallyDrop::into_inner(left));
    }

    pub(super) fn len(&self) -> usize {
        self.state.lock().buffer.len()
    }

    pub(super) fn is_empty(&self) -> bool {
        self.len() == 0
    }

    pub(super) fn is_full(&self) -> bool {
        self.cap.is_some_and(|cap| self.len() >= cap)
    }

    pub(super) fn capacity(&self) -> Option<usize> {
        self.cap
    }

    /// What tells this channel from others, in dumps.
    fn address(&self) -> usize {
        std::ptr::from_ref(self).addr()
    }
}

/// More handles than this can only have been forgotten in a loop; std's `Arc` aborts there too.
const MOST_HANDLES: usize = isize::MAX as usize;

macro_rules! end {
    ($(#[$doc:meta])* $name:ident, $count:ident, discard: $discard:expr) => {
        $(#[$doc])*
        pub(super) struct $name<T>(Arc<Core<T>>);

        impl<T> Clone for $name<T> {
            fn clone(&self) -> Self {
                // Ordering: Relaxed, as in `Arc`: who clones has a handle, so the count is not zero.
                if self.0.$count.fetch_add(1, Ordering::Relaxed) > MOST_HANDLES {
                    std::process::abort();
                }
                $name(Arc::clone(&self.0))
            }
        }

        impl<T> Drop for $name<T> {
            fn drop(&mut self) {
                // Ordering: AcqRel, so that all that was done with the other handles happens before.
                if self.0.$count.fetch_sub(1, Ordering::AcqRel) == 1 {
                    self.0.disconnect($discard);
                }
            }
        }

        impl<T> Deref for $name<T> {
            type Target = Core<T>;

            #[inline]
            fn deref(&self) -> &Core<T> {
                &self.0
            }
        }

        impl<T> $name<T> {
            pub(super) fn same(&self, other: &Self) -> bool {
                Arc::ptr_eq(&self.0, &other.0)
            }
        }
    };
}

end! {
    /// A counted right to send. The last one to go disconnects the channel.
    SendEnd, senders, discard: false
}

end! {
    /// A counted right to receive. The last one to go disconnects the channel, and drops what is left.
    RecvEnd, receivers, discard: true
}
