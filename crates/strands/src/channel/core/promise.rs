//! Promises: sends whose message is made when they have been chosen.
//!
//! An arm of a select that sends makes its message only when it has been chosen, after the lock was released;
//! see [`SendArm`](crate::channel::SendArm). What it is chosen for is kept for it until then:
//!
//! * **room**: a place in the buffer, counted in `special`. Whoever comes meanwhile finds the buffer that
//!   much smaller; perhaps so small that it is both empty and full. Then the channel is a rendezvous for as
//!   long: it passes messages from hand to hand, and does not wait for the one that is being made.
//! * **a partner**, in a rendezvous: a receiver that has been claimed and not been finished, found in `held`
//!   by its ticket. It goes on waiting, with no deadline, until the message is there; should the promise be
//!   broken (making the message panicked) it begins anew.
//! * **a meeting**: the same, with a receiver that keeps its sender until it has dealt with the message (`meeting`).

use super::{Core, Guard, Overflow, State};
use crate::channel::SendError;
use crate::channel::waiting::{Claimed, Kind, Place, Slot};
use crate::wait::{Reason, WaitKind, Waiter, Wake};

/// What a promise has been chosen for.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(in crate::channel) enum Chosen {
    /// The channel never makes senders wait.
    Free,
    Room,
    /// The receiver with this ticket.
    Partner(u64),
    /// The same, and the sender is to stay until the message has been dealt with.
    Meeting(u64),
    /// The channel is closed.
    Closed,
}

impl<T> Core<T> {
    /// Whether a promise would be chosen at once, with `waiter` claimed (null: none).
    pub(in crate::channel) fn can_promise(&self, state: &State<T>, waiter: *const Waiter) -> bool {
        state.closed
            || self.overflow != Overflow::Wait
            || self.has_room(state)
            || state.receivers.has_other_than(waiter)
    }

    /// Chooses a promise, if that is possible at once.
    pub(in crate::channel) fn promise(&self, state: &mut State<T>) -> Option<Chosen> {
        if state.closed {
            Some(Chosen::Closed)
        } else if self.overflow != Overflow::Wait || self.cap.is_none() {
            Some(Chosen::Free)
        } else if self.has_room(state) {
            state.special += 1;
            Some(Chosen::Room)
        } else {
            let receiver = state.receivers.claim_first(Kind::Passed)?;
            Some(Chosen::Partner(state.hold(receiver)))
        }
    }

    /// Sends the message that was promised.
    pub(in crate::channel) fn keep_promise(
        &self,
        chosen: Chosen,
        message: T,
    ) -> Result<(), SendError<T>> {
        let mut state = match chosen {
            Chosen::Closed => return Err(SendError(message)),
            Chosen::Free => {
                return self.send(message, None).map_err(|error| SendError(error.into_inner()));
            }
            Chosen::Room => {
                let mut state = self.lock();
                state.special -= 1;
                state
            }
            Chosen::Partner(ticket) => {
                let mut state = self.lock();
                if let Some(receiver) = state.let_go(ticket) {
                    let wake = state.hand_over(receiver, message);
                    drop(state);
                    wake.deliver();
                    return Ok(());
                }
                // The partner was an async receiver, and has been dropped.
                state
            }
            Chosen::Meeting(ticket) => return self.keep_meeting(ticket, message),
        };
        if state.closed {
            return Err(SendError(message));
        }
        if let Some(receiver) = state.receivers.claim_first(Kind::Passed) {
            let wake = state.hand_over(receiver, message);
            // Room that was kept for it is free.
            self.release(state);
            wake.deliver();
        } else {
            state.buffer.push_back(message);
            self.release_changed(state);
        }
        Ok(())
    }

    /// What was promised will not be sent.
    pub(in crate::channel) fn break_promise(&self, chosen: Chosen) {
        match chosen {
            Chosen::Free | Chosen::Closed => {}
            Chosen::Room => {
                let mut state = self.lock();
                state.special -= 1;
                let wake = self.fill(&mut state);
                self.release_changed(state);
                drop(wake);
            }
            Chosen::Partner(ticket) | Chosen::Meeting(ticket) => {
                let mut state = self.lock();
                // Under the lock to the end: an async receiver that finds itself neither finished nor held
                // may go.
                let wake = state.let_go(ticket).map(|receiver| receiver.dismiss_as(Kind::Again));
                drop(state);
                drop(wake);
            }
        }
    }

    /// Waits for a message that was promised to `kind`, until it is in the slot, and returns the number or ticket that came
    /// with it; `None` if the promise is broken.
    ///
    /// # Safety
    /// The slot is empty and the caller's.
    #[cold]
    pub(super) unsafe fn await_promise(
        &self,
        mut state: Guard<'_, T>,
        promise: Claimed<T>,
        kind: Kind,
        slot: &Slot<T>,
    ) -> Option<u64> {
        let waiter = Waiter::exclusive();
        let place = Place::with(&waiter, slot);
        let wake = state.hold_for(promise, kind, &place);
        drop(state);
        wake.deliver();
        let token = waiter.park(Reason::on(WaitKind::Receive, self.address()), None);
        (token == Kind::Passed.token(0)).then(|| place.ticket())
    }
}

impl<T> State<T> {
    /// Keeps a claimed party until somebody comes for it, with the ticket that is returned: a receiver for one who has
    /// promised a message, a sender for one who deals with its message.
    pub(super) fn hold(&mut self, claimed: Claimed<T>) -> u64 {
        self.next_ticket += 1;
        self.held.push((self.next_ticket, claimed));
        self.next_ticket
    }

    /// Lets the owner of `place`, who waits in no line, wait for the message that was promised, and returns
    /// the wake-up that tells the promise so, and for what: [`Kind::Partner`] or [`Kind::Meeting`].
    pub(in crate::channel) fn hold_for(
        &mut self,
        promise: Claimed<T>,
        kind: Kind,
        place: &Place<T>,
    ) -> Wake {
        promise.set_ticket(self.hold_oneself(place));
        promise.dismiss_as(kind)
    }

    /// Holds the owner of `place`, who waits in no line.
    pub(super) fn hold_oneself(&mut self, place: &Place<T>) -> u64 {
        let claimed = place.claim_oneself(Kind::Passed);
        debug_assert!(claimed, "it is in no line");
        // SAFETY: just claimed, by its owner and for this.
        self.hold(unsafe { Claimed::new(place) })
    }

    /// Whoever has this ticket, if it still waits.
    pub(super) fn let_go(&mut self, ticket: u64) -> Option<Claimed<T>> {
        let at = self.held.iter().position(|(other, _)| *other == ticket)?;
        Some(self.held.swap_remove(at).1)
    }

    /// The owner of `place` no longer waits, neither in line nor for a promise.
    pub(in crate::channel) fn abandon(&mut self, place: &Place<T>) {
        self.receivers.leave(place);
        self.held.retain(|(_, claimed)| !claimed.is_at(place));
    }
}
