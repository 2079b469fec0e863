//! Sending: at once, or after waiting for a receiver or for room.

use super::{ANY, Core, Guard, Overflow, Sending, State, Waited};
use crate::channel::waiting::{Kind, Place, Slot};
use crate::channel::{SendTimeoutError, TrySendError};
use crate::primitive::atomic::Ordering;
use crate::wait::{Reason, TIMED_OUT, WaitKind, Waiter, tried_in_vain};
use std::time::Instant;

impl<T> Core<T> {
    /// Whether the channel is as it is most often: open, with room, and nobody waits there.
    ///
    /// Then all is done by `push_plainly`, or for receivers `pop_plainly`, in their callers and without a call: there
    /// are no registers to save, and no stores of them that the lock would have to wait for.
    #[inline(always)]
    fn is_plain_for_sending(&self, state: &State<T>) -> bool {
        !state.closed
            && state.receivers.is_empty()
            && state.watchers.is_empty()
            && self.has_room(state)
            && state.buffer.has_space()
    }

    /// Puts the message in the buffer of a channel that is plain for sending.
    #[inline(always)]
    fn push_plainly(&self, state: &mut State<T>, message: T) {
        state.buffer.push_back(message);
        self.hint.store(state.buffer.len() + state.special, Ordering::Relaxed);
    }

    /// Passes the message on, or puts it in the buffer, if that is possible at once.
    ///
    /// Messages travel from slot to slot, not through results: a large one would be copied for each.
    ///
    /// # Safety
    /// The slot holds a message and is the caller's; when it was sent, no longer.
    #[inline(always)]
    pub(in crate::channel) unsafe fn start_send<'a>(
        &'a self,
        mut state: Guard<'a, T>,
        slot: &Slot<T>,
    ) -> Sending<'a, T> {
        if state.closed {
            return Sending::Closed;
        }
        if let Some(receiver) = state.receivers.claim_first(Kind::Passed) {
            // SAFETY: the caller's promise.
            let wake = state.hand_over(receiver, unsafe { slot.read() });
            drop(state);
            wake.deliver();
            return Sending::Sent;
        }
        if self.has_room(&state) {
            // SAFETY: as above.
            state.buffer.push_back(unsafe { slot.read() });
            self.release_changed(state);
            return Sending::Sent;
        }
        if self.overflow != Overflow::Wait {
            // SAFETY: as above.
            self.send_over(state, unsafe { slot.read() });
            return Sending::Sent;
        }
        Sending::Full(state)
    }

    /// Sends into a full buffer that holds nobody back.
    #[cold]
    fn send_over(&self, mut state: Guard<'_, T>, message: T) {
        let lost = match self.overflow {
            Overflow::DropOldest if state.buffer.len() > 0 => {
                let oldest = state.buffer.pop_front();
                state.buffer.push_back(message);
                oldest
            }
            _ => Some(message),
        };
        drop(state);
        drop(lost);
    }

    #[inline]
    pub(in crate::channel) fn try_send(&self, message: T) -> Result<(), TrySendError<T>> {
        let mut state = self.state.quick();
        if let Some(open) = &mut state
            && self.is_plain_for_sending(open)
        {
            self.push_plainly(open, message);
            return Ok(());
        }
        let slot = Slot::holding(message);
        // SAFETY: it holds the message, and is ours; so it does below, where it was not sent.
        match unsafe { self.send_anyhow(state, &slot) } {
            Sending::Sent => Ok(()),
            // SAFETY: as above.
            Sending::Closed => Err(TrySendError::Disconnected(unsafe { slot.read() })),
            Sending::Full(state) => {
                drop(state);
                tried_in_vain();
                // SAFETY: as above.
                Err(TrySendError::Full(unsafe { slot.read() }))
            }
        }
    }

    #[inline(always)]
    pub(in crate::channel) fn send(
        &self,
        message: T,
        deadline: Option<Instant>,
    ) -> Result<(), SendTimeoutError<T>> {
        let mut state = self.state.quick();
        if let Some(open) = &mut state
            && self.is_plain_for_sending(open)
        {
            self.push_plainly(open, message);
            return Ok(());
        }
        let slot = Slot::holding(message);
        // SAFETY: it holds the message, and is ours.
        match unsafe { self.send_or_wait(state, &slot, deadline) } {
            Waited::Done => Ok(()),
            // SAFETY: it has not been sent.
            Waited::Closed => Err(SendTimeoutError::Disconnected(unsafe { slot.read() })),
            // SAFETY: as above.
            Waited::TimedOut => Err(SendTimeoutError::Timeout(unsafe { slot.read() })),
        }
    }

    /// # Safety
    /// As for `start_send`, for which `Done` is to have been sent.
    #[inline(never)]
    unsafe fn send_or_wait<'a>(
        &'a self,
        state: Option<Guard<'a, T>>,
        slot: &Slot<T>,
        deadline: Option<Instant>,
    ) -> Waited {
        let state = state.unwrap_or_else(|| self.lock());
        // SAFETY: the caller's promise.
        match unsafe { self.start_send(state, slot) } {
            Sending::Sent => Waited::Done,
            Sending::Closed => Waited::Closed,
            Sending::Full(state) => {
                // SAFETY: as above.
                unsafe { self.wait_to_send(state, slot, deadline) }
            }
        }
    }

    /// # Safety
    /// As for `start_send`.
    #[inline(never)]
    unsafe fn send_anyhow<'a>(
        &'a self,
        state: Option<Guard<'a, T>>,
        slot: &Slot<T>,
    ) -> Sending<'a, T> {
        let state = state.unwrap_or_else(|| self.lock());
        // SAFETY: the caller's promise.
        unsafe { self.start_send(state, slot) }
    }

    /// Stays awake for a moment before it gets in line: then those whom it waits for need not wake it, and it finds
    /// several messages, or room for several, at once.
    ///
    /// # Safety
    /// As for `start_send`.
    #[cold]
    #[inline(never)]
    unsafe fn send_after_lingering<'a>(
        &'a self,
        state: Guard<'a, T>,
        waiter: &Waiter,
        slot: &Slot<T>,
    ) -> Sending<'a, T> {
        if !waiter.may_linger() {
            return Sending::Full(state);
        }
        drop(state);
        self.step_back();
        let cap = self.cap.unwrap_or(ANY);
        let room = || match self.hint.load(Ordering::Relaxed) {
            ANY => ANY,
            len => cap.saturating_sub(len),
        };
        waiter.linger(room, cap.div_ceil(2));
        // SAFETY: the caller's promise.
        unsafe { self.start_send(self.lock(), slot) }
    }

    /// Waits for a receiver or for room.
    ///
    /// Part of `send_or_wait`: after a switch of stacks the processor mispredicts each return, so there are to be few.
    ///
    /// # Safety
    /// As for `start_send`, for which `Done` is to have been sent.
    #[inline(always)]
    unsafe fn wait_to_send<'a>(
        &'a self,
        mut state: Guard<'a, T>,
        slot: &Slot<T>,
        deadline: Option<Instant>,
    ) -> Waited {
        let waiter = if deadline.is_none() { Waiter::exclusive() } else { Waiter::new() };
        if !self.is_rendezvous() {
            // SAFETY: the caller's promise.
            state = match unsafe { self.send_after_lingering(state, &waiter, slot) } {
                Sending::Sent => return Waited::Done,
                Sending::Full(state) => state,
                Sending::Closed => return Waited::Closed,
            };
        }
        let place = Place::with(&waiter, slot);
        // SAFETY: all three stay in their frames until `park` returns, which is after the claim and the
        // wake-up; or else the place leaves.
        unsafe { state.senders.join(&place) };
        self.release(state);
        let token = waiter.park(Reason::on(WaitKind::Send, self.address()), deadline);
        if token == Kind::Passed.token(0) {
            return Waited::Done;
        }
        if token == TIMED_OUT {
            self.lock().senders.leave(&place);
            return Waited::TimedOut;
        }
        Waited::Closed
    }
}
