//! Meetings: rendezvous whose sender stays until the receiver has dealt with the message.
//!
//! An ordinary receiver that comes first stands in line, and is given its message by a sender that goes on at once. One
//! who means to meet stands in no line. It watches the channel, and so senders find nobody and get in line themselves:
//! hence it is always the sender that waits, and nothing is new to those who send. The receiver claims
//! the first of them, takes the message out of its slot, and puts it among those that are `held`; finished it is when the
//! receiver's closure is done with. From the claim on its deadline cannot end the wait.
//!
//! * An **async** sender may be dropped meanwhile. It has sent its message then, and leaves `held` by itself.
//! * A **promise** (an arm of a select, which has yet to make its message) is told that it is for a meeting. Keeping it
//!   hands the message over, and then waits a second time, held like the others.
//! * A **stray** has no sender any more; it is received as it is.
//!
//! What it costs: all who watch are woken by each sender that gets in line, and ordinary receivers are served first.

use super::{Core, Guard, Overflow, State};
use crate::channel::waiting::{Claimed, Kind, Place, Slot};
use crate::channel::{RecvError, SendError};
use crate::wait::{Reason, WaitKind, Waiter, Wake};
use std::ptr;

/// Keeps the sender of a message that is being dealt with; lets it go when dropped, in a panic too.
struct Meeting<'a, T> {
    core: &'a Core<T>,
    ticket: u64,
}

impl<T> Drop for Meeting<'_, T> {
    fn drop(&mut self) {
        let mut state = self.core.lock();
        // Finished under the lock to the end: an async sender that finds itself neither finished nor held may go.
        let wake = state.let_go(self.ticket).map(Claimed::dismiss);
        drop(state);
        wake.into_iter().for_each(Wake::deliver);
    }
}

impl<T> Core<T> {
    /// Whether senders wait to be received from, so that they can be met.
    pub(in crate::channel) fn has_meetings(&self) -> bool {
        self.is_rendezvous() && self.overflow == Overflow::Wait
    }

    /// Receives a message, and lets its sender go when `deal` has returned or panicked.
    pub(in crate::channel) fn recv_with<R>(
        &self,
        deal: impl FnOnce(&mut T) -> R,
    ) -> Result<(T, R), RecvError> {
        let slot = Slot::empty();
        // Before the message, so that a panic drops it after that.
        // SAFETY: the slot is empty, and ours.
        let meeting = unsafe { self.meet(&slot) }?;
        // SAFETY: the message is in it.
        let mut message = unsafe { slot.read() };
        let result = deal(&mut message);
        drop(meeting);
        Ok((message, result))
    }

    /// Waits for a sender, and until its message is in the slot.
    ///
    /// # Safety
    /// The slot is empty and the caller's.
    unsafe fn meet(&self, slot: &Slot<T>) -> Result<Option<Meeting<'_, T>>, RecvError> {
        loop {
            let mut state = self.lock();
            if let Some(stray) = state.pop_special() {
                // SAFETY: the caller's promise.
                unsafe { slot.write(stray) };
                self.release_changed(state);
                return Ok(None);
            }
            let ticket = match state.claim_sender() {
                Some(promise) if promise.is_promise() => {
                    // SAFETY: as above.
                    unsafe { self.await_promise(state, promise, Kind::Meeting, slot) }
                }
                Some(sender) => {
                    // SAFETY: as above.
                    unsafe { slot.write(sender.take_and_keep()) };
                    Some(state.hold(sender))
                }
                None if state.closed => return Err(RecvError),
                None => {
                    self.await_sender(state);
                    None
                }
            };
            if let Some(ticket) = ticket {
                return Ok(Some(Meeting { core: self, ticket }));
            }
        }
    }

    /// Waits until a sender is in line, perhaps.
    fn await_sender(&self, mut state: Guard<'_, T>) {
        let waiter = Waiter::exclusive();
        let place = Place::new();
        place.prepare(&waiter, ptr::null(), 0);
        // SAFETY: both stay in this frame until `park` returns, which is after the claim and the wake-up.
        unsafe { state.watchers.join(&place) };
        drop(state);
        waiter.park(Reason::on(WaitKind::Receive, self.address()), None);
    }

    /// Sends the message that was promised for a meeting, and waits for its end.
    #[cold]
    pub(super) fn keep_meeting(&self, ticket: u64, message: T) -> Result<(), SendError<T>> {
        let waiter = Waiter::exclusive();
        let place = Place::new();
        place.prepare(&waiter, ptr::null(), 0);
        let mut state = self.lock();
        let receiver = state.let_go(ticket).expect("who means to meet is no future, and waits");
        let wake = state.hand_over_and_stay(receiver, message, &place);
        drop(state);
        wake.deliver();
        waiter.park(Reason::on(WaitKind::Send, self.address()), None);
        Ok(())
    }
}

impl<T> State<T> {
    /// Gives the message to one who means to meet, and tells it by which ticket it will let go the owner of `place`.
    fn hand_over_and_stay(&mut self, receiver: Claimed<T>, message: T, place: &Place<T>) -> Wake {
        receiver.set_ticket(self.hold_oneself(place));
        receiver.give(message)
    }

    /// The owner of `place`, a sender, no longer waits. Whether it still has its message.
    pub(in crate::channel) fn abandon_send(&mut self, place: &Place<T>) -> bool {
        let is_in_line = place.is_in_line();
        if is_in_line {
            self.senders.leave(place);
        } else {
            self.held.retain(|(_, claimed)| !claimed.is_at(place));
        }
        is_in_line
    }
}
