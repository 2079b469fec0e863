//! Receiving: at once, or after waiting for a sender.

use super::{Core, ENOUGH, Guard, Offer, Receiving, State, Waited};
use crate::channel::waiting::{Kind, Place, Slot};
use crate::channel::{RecvTimeoutError, TryRecvError};
use crate::primitive::atomic::Ordering;
use crate::wait::{Reason, TIMED_OUT, WaitKind, Waiter, Wake, is_fed, tried_in_vain};
use std::time::Instant;

impl<T> Core<T> {
    /// Whether something can be received at once, with `waiter` claimed (null: none), or never any more.
    pub(in crate::channel) fn can_take(&self, state: &State<T>, waiter: *const Waiter) -> bool {
        state.closed || state.len() > 0 || state.senders.has_other_than(waiter)
    }

    /// What can be received at once, by one who cannot wait for a promise.
    ///
    /// # Safety
    /// The slot is empty and the caller's.
    pub(in crate::channel) unsafe fn take(&self, state: &mut State<T>, slot: &Slot<T>) -> Offer<T> {
        if let Some(message) = state.pop_special() {
            // SAFETY: the caller's promise.
            unsafe { slot.write(message) };
            return Offer::Message(self.fill(state));
        }
        match state.claim_sender() {
            None => Offer::Nothing,
            Some(promise) if promise.is_promise() => Offer::Promise(promise),
            Some(sender) => {
                let (message, wake) = sender.take();
                // SAFETY: as above.
                unsafe { slot.write(message) };
                Offer::Message(Some(wake))
            }
        }
    }

    /// There is room in the buffer, perhaps: gives it to the first who waits for it.
    #[inline(never)]
    pub(super) fn fill(&self, state: &mut State<T>) -> Option<Wake> {
        if !self.has_room(state) {
            return None;
        }
        let sender = state
            .senders
            .claim_first_by(|place| if place.is_promise() { Kind::Room } else { Kind::Passed })?;
        if sender.is_promise() {
            state.special += 1;
            return Some(sender.dismiss());
        }
        let (message, wake) = sender.take();
        state.buffer.push_back(message);
        Some(wake)
    }

    /// Receives, if the channel is as it is most often: open, with messages, and nobody waits there.
    #[inline(always)]
    fn pop_plainly(&self, state: &mut State<T>) -> Option<T> {
        let plain = state.special == 0
            && !state.closed
            && state.senders.is_empty()
            && state.watchers.is_empty();
        let message = if plain { state.buffer.pop_at_hand() } else { None }?;
        self.hint.store(state.buffer.len(), Ordering::Relaxed);
        Some(message)
    }

    /// Receives what can be received at once.
    ///
    /// # Safety
    /// The slot is empty and the caller's.
    #[inline(always)]
    pub(in crate::channel) unsafe fn start_recv<'a>(
        &'a self,
        mut state: Guard<'a, T>,
        slot: &Slot<T>,
    ) -> Receiving<'a, T> {
        // As `take`, but each way to its end at once: half of a rendezvous is moving results about.
        loop {
            let next =
                if state.special == 0 { state.buffer.pop_front() } else { state.pop_special() };
            if let Some(message) = next {
                // SAFETY: the caller's promise.
                unsafe { slot.write(message) };
                if state.senders.is_empty() {
                    self.release_changed(state);
                } else {
                    let wake = self.fill(&mut state);
                    self.release_changed(state);
                    if let Some(wake) = wake {
                        wake.deliver();
                    }
                }
                return Receiving::Received;
            }
            let Some(sender) = state.claim_sender() else {
                return if state.closed { Receiving::Closed } else { Receiving::Empty(state) };
            };
            if !sender.is_promise() {
                let (message, wake) = sender.take();
                // SAFETY: as above.
                unsafe { slot.write(message) };
                self.release(state);
                wake.deliver();
                return Receiving::Received;
            }
            // SAFETY: as above.
            if unsafe { self.await_promise(state, sender, Kind::Partner, slot) }.is_some() {
                return Receiving::Received;
            }
            state = self.lock();
        }
    }

    #[inline]
    pub(in crate::channel) fn try_recv(&self) -> Result<T, TryRecvError> {
        let mut state = self.state.quick();
        if let Some(open) = &mut state
            && let Some(message) = self.pop_plainly(open)
        {
            drop(state);
            return Ok(message);
        }
        let slot = Slot::empty();
        // SAFETY: it is empty, and ours.
        match unsafe { self.recv_anyhow(state, &slot) } {
            // SAFETY: the message is in it.
            Receiving::Received => Ok(unsafe { slot.read() }),
            Receiving::Closed => Err(TryRecvError::Disconnected),
            Receiving::Empty(state) => {
                drop(state);
                tried_in_vain();
                Err(TryRecvError::Empty)
            }
        }
    }

    #[inline(always)]
    pub(in crate::channel) fn recv(
        &self,
        deadline: Option<Instant>,
    ) -> Result<T, RecvTimeoutError> {
        let mut state = self.state.quick();
        if let Some(open) = &mut state
            && let Some(message) = self.pop_plainly(open)
        {
            drop(state);
            return Ok(message);
        }
        let slot = Slot::empty();
        // SAFETY: it is empty, and ours.
        match unsafe { self.recv_or_wait(state, &slot, deadline) } {
            // SAFETY: the message is in it.
            Waited::Done => Ok(unsafe { slot.read() }),
            Waited::TimedOut => Err(RecvTimeoutError::Timeout),
            Waited::Closed => Err(RecvTimeoutError::Disconnected),
        }
    }

    /// Receives for an arm of a select, what can be received at once.
    ///
    /// # Safety
    /// As for `start_recv`.
    #[inline(always)]
    pub(in crate::channel) unsafe fn recv_now<'a>(&'a self, slot: &Slot<T>) -> Receiving<'a, T> {
        let mut state = self.state.quick();
        if let Some(open) = &mut state
            && let Some(message) = self.pop_plainly(open)
        {
            drop(state);
            // SAFETY: the caller's promise.
            unsafe { slot.write(message) };
            return Receiving::Received;
        }
        // SAFETY: the caller's promise.
        unsafe { self.recv_anyhow(state, slot) }
    }

    /// # Safety
    /// As for `start_recv`, for which `Done` is to have been received.
    #[inline(never)]
    unsafe fn recv_or_wait<'a>(
        &'a self,
        state: Option<Guard<'a, T>>,
        slot: &Slot<T>,
        deadline: Option<Instant>,
    ) -> Waited {
        let state = state.unwrap_or_else(|| self.lock());
        // SAFETY: the caller's promise.
        match unsafe { self.start_recv(state, slot) } {
            Receiving::Received => {
                if !self.is_rendezvous() {
                    is_fed();
                }
                Waited::Done
            }
            Receiving::Closed => Waited::Closed,
            Receiving::Empty(state) => {
                // SAFETY: as above.
                unsafe { self.wait_to_recv(state, slot, deadline) }
            }
        }
    }

    /// Waits for a message, until it is in the slot.
    ///
    /// Part of `recv_or_wait`, as `wait_to_send` is of its caller.
    ///
    /// # Safety
    /// The slot is empty and the caller's.
    #[inline(always)]
    unsafe fn wait_to_recv<'a>(
        &'a self,
        mut state: Guard<'a, T>,
        slot: &Slot<T>,
        deadline: Option<Instant>,
    ) -> Waited {
        loop {
            let waiter = if deadline.is_none() { Waiter::exclusive() } else { Waiter::new() };
            if !self.is_rendezvous() {
                // SAFETY: the caller's promise.
                state = match unsafe { self.recv_after_lingering(state, &waiter, slot) } {
                    Receiving::Received => return Waited::Done,
                    Receiving::Closed => return Waited::Closed,
                    Receiving::Empty(state) => state,
                };
            }
            let place = Place::with(&waiter, slot);
            // SAFETY: as in `wait_to_send`.
            unsafe { state.receivers.join(&place) };
            self.release(state);
            let token = waiter.park(Reason::on(WaitKind::Receive, self.address()), deadline);
            if token == Kind::Passed.token(0) {
                return Waited::Done;
            }
            if token == TIMED_OUT {
                self.lock().receivers.leave(&place);
                return Waited::TimedOut;
            }
            if token == Kind::Closed.token(0) {
                return Waited::Closed;
            }
            state = self.lock();
            // A promise was broken: all begins anew.
            // SAFETY: the caller's promise.
            state = match unsafe { self.recv_anyhow(Some(state), slot) } {
                Receiving::Received => return Waited::Done,
                Receiving::Closed => return Waited::Closed,
                Receiving::Empty(state) => state,
            };
        }
    }

    /// # Safety
    /// As for `start_recv`.
    #[inline(never)]
    pub(in crate::channel) unsafe fn recv_anyhow<'a>(
        &'a self,
        state: Option<Guard<'a, T>>,
        slot: &Slot<T>,
    ) -> Receiving<'a, T> {
        let state = state.unwrap_or_else(|| self.lock());
        // SAFETY: the caller's promise.
        unsafe { self.start_recv(state, slot) }
    }

    /// As `send_after_lingering`.
    ///
    /// # Safety
    /// As for `start_recv`.
    #[cold]
    #[inline(never)]
    unsafe fn recv_after_lingering<'a>(
        &'a self,
        state: Guard<'a, T>,
        waiter: &Waiter,
        slot: &Slot<T>,
    ) -> Receiving<'a, T> {
        if !waiter.may_linger() {
            return Receiving::Empty(state);
        }
        drop(state);
        self.step_back();
        let enough = self.cap.unwrap_or(ENOUGH).div_ceil(2);
        waiter.linger(|| self.hint.load(Ordering::Relaxed), enough);
        // SAFETY: the caller's promise.
        unsafe { self.start_recv(self.lock(), slot) }
    }
}
