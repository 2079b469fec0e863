//! Channels as arms of a select.
//!
//! A receive that loses has received nothing: its slot is filled by one who has claimed the select for it. A
//! send that loses has sent nothing, and more: its message has not even been made, since `select!` evaluates
//! the expression for the message when the arm was chosen, as crossbeam-channel does. Until then the arm is a
//! *promise* (see `core`), and what was kept for it is given back if the arm is dropped instead.

use super::core::{Chosen, Core, Guard, Receiving};
use super::receiver::Flavor;
use super::waiting::{Kind, Place, Slot};
use super::{Receiver, RecvError, SendError, Sender};
use crate::selection::{Arm, Claim, Enlisted, RenewableArm, Sealed, Stand};
use std::cell::Cell;
use std::fmt;
use std::ptr;
use std::time::Instant;

/// A receive as an arm of a select.
pub struct RecvArm<'a, T> {
    receiver: &'a Receiver<T>,
    place: Place<T>,
    slot: Slot<T>,
    got: Cell<Got>,
}

#[derive(Clone, Copy, PartialEq, Eq)]
enum Got {
    Nothing,
    /// The message is in the slot.
    Message,
    Disconnected,
}

impl<'a, T> RecvArm<'a, T> {
    #[inline]
    pub(super) fn new(receiver: &'a Receiver<T>) -> RecvArm<'a, T> {
        let (place, slot) = (Place::new(), Slot::empty());
        RecvArm { receiver, place, slot, got: Cell::new(Got::Nothing) }
    }

    /// What was received. For the arm that has won.
    ///
    /// # Panics
    /// If it has not.
    #[inline]
    pub fn finish(&self) -> Result<T, RecvError> {
        match self.got.replace(Got::Nothing) {
            // SAFETY: that is what it means, and it means it once.
            Got::Message => Ok(unsafe { self.slot.read() }),
            Got::Disconnected => Err(RecvError),
            Got::Nothing => panic!("an arm of a select that has not won"),
        }
    }

    /// Receives, if that is possible at once.
    #[inline(always)]
    fn receive(&self, end: &Core<T>) -> bool {
        debug_assert!(self.got.get() == Got::Nothing);
        // SAFETY: the slot is empty, and the arm is in no line.
        self.note(unsafe { end.recv_now(&self.slot) })
    }

    /// Notes what has come of it; false if nothing.
    #[inline(always)]
    fn note(&self, receiving: Receiving<'_, T>) -> bool {
        self.got.set(match receiving {
            Receiving::Received => Got::Message,
            Receiving::Closed => Got::Disconnected,
            Receiving::Empty(_) => return false,
        });
        true
    }
}

impl<T> Sealed for RecvArm<'_, T> {}

impl<T> Arm for RecvArm<'_, T> {
    #[inline]
    fn attempt(&self) -> bool {
        if self.got.get() != Got::Nothing {
            return true;
        }
        match self.receiver.flavor() {
            Flavor::Channel(end) => !end.looks_empty() && self.receive(end),
            Flavor::Timed(source) => match source.attempt() {
                Some(message) => {
                    // SAFETY: the slot is empty, and the arm is in no line.
                    unsafe { self.slot.write(message) };
                    self.got.set(Got::Message);
                    true
                }
                None => false,
            },
            Flavor::Never => false,
        }
    }

    #[inline]
    fn enlist(&self, stand: Stand<'_>) -> Enlisted {
        let Flavor::Channel(end) = self.receiver.flavor() else { return Enlisted::InLine };
        let mut state = end.lock();
        if self.place.is_in_line() {
            return Enlisted::InLine;
        }
        self.place.prepare(stand.waiter, &self.slot, stand.index);
        if !end.can_take(&state, stand.waiter) {
            // SAFETY: arm and waiter stay until `withdraw`, the engine's promise.
            unsafe { state.receivers().join(&self.place) };
            end.release(state);
            return Enlisted::InLine;
        }
        if !self.place.claim_oneself(Kind::Oneself) {
            return Enlisted::Taken;
        }
        // SAFETY: the slot is empty, and the arm is in no line.
        let received = unsafe { end.recv_anyhow(Some(state), &self.slot) };
        if self.note(received) { Enlisted::Done } else { Enlisted::Again }
    }

    #[inline]
    fn withdraw(&self) {
        if let Flavor::Channel(end) = self.receiver.flavor() {
            end.lock().receivers().leave(&self.place);
        }
    }

    #[inline]
    fn accept(&self, claim: Claim) -> bool {
        match Kind::of(claim.token()) {
            Kind::Passed => self.got.set(Got::Message),
            Kind::Closed => self.got.set(Got::Disconnected),
            _ => return false,
        }
        true
    }

    #[inline]
    fn deadline(&self) -> Option<Instant> {
        match self.receiver.flavor() {
            Flavor::Timed(source) => source.next(),
            Flavor::Channel(_) | Flavor::Never => None,
        }
    }

    fn is_ready(&self) -> bool {
        match self.receiver.flavor() {
            Flavor::Channel(end) => end.can_take(&end.lock(), ptr::null()),
            Flavor::Timed(source) => source.next().is_some_and(|when| when <= Instant::now()),
            Flavor::Never => false,
        }
    }

    fn watch(&self, stand: Stand<'_>) -> Enlisted {
        let Flavor::Channel(end) = self.receiver.flavor() else { return Enlisted::InLine };
        let state = end.lock();
        let ready = end.can_take(&state, ptr::null());
        // SAFETY: arm and waiter stay until `unwatch`, the engine's promise.
        unsafe { watch(state, ready, &self.place, stand) }
    }

    fn unwatch(&self) {
        if let Flavor::Channel(end) = self.receiver.flavor() {
            end.lock().watchers().leave(&self.place);
        }
    }
}

impl<T> RenewableArm for RecvArm<'_, T> {
    fn renew<'b>(&self) -> Box<dyn RenewableArm + 'b>
    where
        Self: 'b,
    {
        Box::new(RecvArm::new(self.receiver))
    }
}

/// # Safety
/// Place and waiter stay where they are until they have left the watchers.
unsafe fn watch<T>(
    mut state: Guard<'_, T>,
    ready: bool,
    place: &Place<T>,
    stand: Stand<'_>,
) -> Enlisted {
    if place.is_in_line() {
        return Enlisted::InLine;
    }
    place.prepare(stand.waiter, ptr::null(), stand.index);
    if !ready {
        // SAFETY: the caller's promise.
        unsafe { state.watchers().join(place) };
        Enlisted::InLine
    } else if place.claim_oneself(Kind::Oneself) {
        Enlisted::Done
    } else {
        Enlisted::Taken
    }
}

impl<T> RecvArm<'_, T> {
    /// It has won, and nobody has asked for the message: it is not lost.
    #[cold]
    #[inline(never)]
    fn put_back(&self) {
        if let Ok(message) = self.finish()
            && let Flavor::Channel(end) = self.receiver.flavor()
        {
            // It was to be the next.
            end.put_back(message, 0);
        }
    }
}

impl<T> Drop for RecvArm<'_, T> {
    #[inline]
    fn drop(&mut self) {
        if self.got.get() == Got::Message {
            self.put_back();
        }
    }
}

impl<T> fmt::Debug for RecvArm<'_, T> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.pad("RecvArm { .. }")
    }
}

/// A send as an arm of a select.
pub struct SendArm<'a, T> {
    sender: &'a Sender<T>,
    place: Place<T>,
    chosen: Cell<Option<Chosen>>,
}

impl<'a, T> SendArm<'a, T> {
    #[inline]
    pub(super) fn new(sender: &'a Sender<T>) -> SendArm<'a, T> {
        SendArm { sender, place: Place::new(), chosen: Cell::new(None) }
    }

    /// Sends the message. For the arm that has won.
    ///
    /// # Panics
    /// If it has not.
    #[inline]
    pub fn finish(&self, message: T) -> Result<(), SendError<T>> {
        match self.chosen.take() {
            Some(chosen) => self.sender.end().keep_promise(chosen, message),
            None => panic!("an arm of a select that has not won"),
        }
    }
}

impl<T> Sealed for SendArm<'_, T> {}

impl<T> Arm for SendArm<'_, T> {
    #[inline]
    fn attempt(&self) -> bool {
        if self.chosen.get().is_none() {
            let end = self.sender.end();
            self.chosen.set(end.promise(&mut end.lock()));
        }
        self.chosen.get().is_some()
    }

    #[inline]
    fn enlist(&self, stand: Stand<'_>) -> Enlisted {
        let end = self.sender.end();
        let mut state = end.lock();
        if self.place.is_in_line() {
            return Enlisted::InLine;
        }
        self.place.prepare(stand.waiter, ptr::null(), stand.index);
        if !end.can_promise(&state, stand.waiter) {
            // SAFETY: arm and waiter stay until `withdraw`, the engine's promise.
            unsafe { state.senders().join(&self.place) };
            end.release(state);
            return Enlisted::InLine;
        }
        if !self.place.claim_oneself(Kind::Oneself) {
            return Enlisted::Taken;
        }
        self.chosen.set(end.promise(&mut state));
        if self.chosen.get().is_some() { Enlisted::Done } else { Enlisted::Again }
    }

    #[inline]
    fn withdraw(&self) {
        self.sender.end().lock().senders().leave(&self.place);
    }

    #[inline]
    fn accept(&self, claim: Claim) -> bool {
        self.chosen.set(match Kind::of(claim.token()) {
            Kind::Room => Some(Chosen::Room),
            Kind::Partner => Some(Chosen::Partner(self.place.ticket())),
            Kind::Meeting => Some(Chosen::Meeting(self.place.ticket())),
            Kind::Closed => Some(Chosen::Closed),
            _ => None,
        });
        self.chosen.get().is_some()
    }

    fn is_ready(&self) -> bool {
        let end = self.sender.end();
        end.can_promise(&end.lock(), ptr::null())
    }

    fn watch(&self, stand: Stand<'_>) -> Enlisted {
        let end = self.sender.end();
        let state = end.lock();
        let ready = end.can_promise(&state, ptr::null());
        // SAFETY: arm and waiter stay until `unwatch`, the engine's promise.
        unsafe { watch(state, ready, &self.place, stand) }
    }

    fn unwatch(&self) {
        self.sender.end().lock().watchers().leave(&self.place);
    }
}

impl<T> RenewableArm for SendArm<'_, T> {
    fn renew<'b>(&self) -> Box<dyn RenewableArm + 'b>
    where
        Self: 'b,
    {
        Box::new(SendArm::new(self.sender))
    }
}

impl<T> Drop for SendArm<'_, T> {
    #[inline]
    fn drop(&mut self) {
        if let Some(chosen) = self.chosen.take() {
            self.sender.end().break_promise(chosen);
        }
    }
}

impl<T> fmt::Debug for SendArm<'_, T> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.pad("SendArm { .. }")
    }
}
