//! Sending and receiving in async code: futures that stand in the same lines as everybody else.
//!
//! A future that is dropped has consumed nothing and lost nothing. If it had been handed a message and not looked
//! yet, the message goes back to the channel (see `core`, *strays*).
//!
//! # Who owns what
//!
//! Waiter, slot and place are in the pinned future. All that others do with them they do under the channel's
//! lock, from the claim to `finish`; so under the lock the owner finds them either finished, or in line (or
//! held, waiting for a promise) and untouched. Hence `Drop` may take them away under the lock.

use super::core::{Core, Offer, Sending};
use super::receiver::Flavor;
#[cfg(not(loom))]
use super::timed::Source;
use super::waiting::{Kind, Place, Slot};
use super::{Receiver, RecvError, SendError, Sender};
#[cfg(not(loom))]
use crate::time::{Sleep, sleep_until_async};
use crate::wait::Waiter;
use std::fmt;
use std::future::Future;
use std::pin::Pin;
use std::task::{Context, Poll, Waker};

/// Waits for a message, as part of a future.
pub(super) struct RecvWait<T> {
    /// `None`: not waiting.
    waiter: Option<Waiter>,
    slot: Slot<T>,
    place: Place<T>,
}

impl<T> RecvWait<T> {
    pub(super) fn new() -> RecvWait<T> {
        RecvWait { waiter: None, slot: Slot::empty(), place: Place::new() }
    }

    pub(super) fn poll(
        self: Pin<&mut Self>,
        core: &Core<T>,
        waker: &Waker,
    ) -> Poll<Result<T, RecvError>> {
        // SAFETY: nothing is moved out of it.
        let this = unsafe { self.get_unchecked_mut() };
        if let Some(waiter) = &this.waiter {
            if waiter.outcome().is_none() && !this.wait_on(core, waker) {
                return Poll::Pending;
            }
            if let Some(result) = this.finish() {
                return Poll::Ready(result);
            }
        }
        // With no lock held: the clone is the executor's code.
        let waker = waker.clone();
        let mut state = core.lock();
        // SAFETY: the slot is empty, and we are in no line.
        let promise = match unsafe { core.take(&mut state, &this.slot) } {
            Offer::Message(wake) => {
                core.release_changed(state);
                drop(wake);
                // SAFETY: the message is in it.
                return Poll::Ready(Ok(unsafe { this.slot.read() }));
            }
            Offer::Nothing if state.is_closed() => return Poll::Ready(Err(RecvError)),
            Offer::Nothing => None,
            Offer::Promise(promise) => Some(promise),
        };
        let waiter = this.waiter.insert(Waiter::of_future(waker));
        this.place.prepare(waiter, &this.slot, 0);
        match promise {
            Some(promise) => {
                let wake = state.hold_for(promise, Kind::Partner, &this.place);
                drop(state);
                wake.deliver();
            }
            None => {
                // SAFETY: all three are pinned, and leave when they are dropped.
                unsafe { state.receivers().join(&this.place) };
                core.release(state);
            }
        }
        Poll::Pending
    }

    /// Goes on waiting, with this waker. True if there is something instead.
    fn wait_on(&self, core: &Core<T>, waker: &Waker) -> bool {
        let Some(waiter) = &self.waiter else { return true };
        let waker = waker.clone();
        let state = core.lock();
        if waiter.outcome().is_some() {
            return true;
        }
        // SAFETY: not finished, and the lock under which it would be is held.
        let former = unsafe { waiter.replace_waker(waker) };
        drop(state);
        drop(former);
        false
    }

    /// What it was woken for; `None`: for nothing, it has to begin anew. It no longer waits.
    fn finish(&mut self) -> Option<Result<T, RecvError>> {
        let token = self.waiter.take()?.outcome()?;
        match Kind::of(token) {
            // SAFETY: a message was put there, and the slot is ours again.
            Kind::Passed => Some(Ok(unsafe { self.slot.read() })),
            Kind::Closed => Some(Err(RecvError)),
            _ => None,
        }
    }

    /// Stops waiting. To be called before it is dropped.
    pub(super) fn cancel(self: Pin<&mut Self>, core: &Core<T>) {
        // SAFETY: nothing is moved out of it but the message.
        let this = unsafe { self.get_unchecked_mut() };
        let Some(waiter) = &this.waiter else { return };
        let mut state = core.lock();
        if waiter.outcome().is_none() {
            state.abandon(&this.place);
        }
        drop(state);
        if let Some(Ok(message)) = this.finish() {
            core.put_back(message, this.place.ticket());
        }
    }
}

/// Waits for the clock.
#[cfg(not(loom))]
pub(super) fn poll_source<T>(
    source: &dyn Source<T>,
    alarm: &mut Option<Sleep>,
    cx: &mut Context<'_>,
) -> Poll<T> {
    loop {
        if let Some(message) = source.attempt() {
            return Poll::Ready(message);
        }
        let Some(when) = source.next() else { return Poll::Pending };
        let mut set = match alarm.take() {
            Some(alarm) if alarm.deadline() == when => alarm,
            _ => sleep_until_async(when),
        };
        if Pin::new(&mut set).poll(cx).is_pending() {
            *alarm = Some(set);
            return Poll::Pending;
        }
    }
}

/// What [`Receiver::recv_async`] returns.
#[must_use = "futures do nothing unless they are polled"]
pub struct RecvFuture<'a, T> {
    receiver: &'a Receiver<T>,
    wait: RecvWait<T>,
    /// For receivers whose messages are moments.
    #[cfg(not(loom))]
    alarm: Option<Sleep>,
}

// SAFETY: it is a receiver and a place for a message.
unsafe impl<T: Send> Send for RecvFuture<'_, T> {}
// SAFETY: nothing can be done with a shared one.
unsafe impl<T: Send> Sync for RecvFuture<'_, T> {}

impl<'a, T> RecvFuture<'a, T> {
    pub(super) fn new(receiver: &'a Receiver<T>) -> RecvFuture<'a, T> {
        RecvFuture {
            receiver,
            wait: RecvWait::new(),
            #[cfg(not(loom))]
            alarm: None,
        }
    }
}

impl<T> Future for RecvFuture<'_, T> {
    type Output = Result<T, RecvError>;

    fn poll(self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<Self::Output> {
        // SAFETY: nothing is moved out of it.
        let this = unsafe { self.get_unchecked_mut() };
        match this.receiver.flavor() {
            Flavor::Channel(end) => {
                // SAFETY: `wait` is pinned with the whole.
                let wait = unsafe { Pin::new_unchecked(&mut this.wait) };
                wait.poll(end, cx.waker())
            }
            #[cfg(not(loom))]
            Flavor::Timed(source) => poll_source(&**source, &mut this.alarm, cx).map(Ok),
            #[cfg(loom)]
            Flavor::Timed(_) => unreachable!("time is not modelled"),
            Flavor::Never => Poll::Pending,
        }
    }
}

impl<T> Drop for RecvFuture<'_, T> {
    fn drop(&mut self) {
        if let Flavor::Channel(end) = self.receiver.flavor() {
            // SAFETY: pinned if it was ever polled, and about to go.
            unsafe { Pin::new_unchecked(&mut self.wait) }.cancel(end);
        }
    }
}

impl<T> fmt::Debug for RecvFuture<'_, T> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.pad("RecvFuture { .. }")
    }
}

/// What [`Sender::send_async`] returns.
#[must_use = "futures do nothing unless they are polled"]
pub struct SendFuture<'a, T> {
    sender: &'a Sender<T>,
    waiter: Option<Waiter>,
    slot: Slot<T>,
    place: Place<T>,
    /// The message is in the slot, and ours unless we wait.
    has_message: bool,
}

// SAFETY: it is a sender and a message.
unsafe impl<T: Send> Send for SendFuture<'_, T> {}
// SAFETY: nothing can be done with a shared one.
unsafe impl<T: Send> Sync for SendFuture<'_, T> {}

impl<'a, T> SendFuture<'a, T> {
    pub(super) fn new(sender: &'a Sender<T>, message: T) -> SendFuture<'a, T> {
        let slot = Slot::holding(message);
        SendFuture { sender, waiter: None, slot, place: Place::new(), has_message: true }
    }

    /// What it was woken for. It no longer waits.
    fn finish(&mut self) -> Option<Result<(), SendError<T>>> {
        let token = self.waiter.take()?.outcome()?;
        self.has_message = false;
        match Kind::of(token) {
            Kind::Passed => Some(Ok(())),
            // SAFETY: nobody has taken the message, and the slot is ours again.
            _ => Some(Err(SendError(unsafe { self.slot.read() }))),
        }
    }
}

impl<T> Future for SendFuture<'_, T> {
    type Output = Result<(), SendError<T>>;

    /// # Panics
    /// If it is polled again after it was ready.
    fn poll(self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<Self::Output> {
        // SAFETY: nothing is moved out of it but the message.
        let this = unsafe { self.get_unchecked_mut() };
        let core: &Core<T> = this.sender.end();
        // With no lock held: the clone is the executor's code.
        let waker = cx.waker().clone();
        if let Some(waiter) = &this.waiter {
            let state = core.lock();
            if waiter.outcome().is_none() {
                // SAFETY: not finished, and the lock under which it would be is held.
                let former = unsafe { waiter.replace_waker(waker) };
                drop(state);
                drop(former);
                return Poll::Pending;
            }
            drop(state);
            if let Some(result) = this.finish() {
                return Poll::Ready(result);
            }
        }
        assert!(this.has_message, "a send was polled again after it was ready");
        // SAFETY: there is a message, and it is ours.
        let mut state = match unsafe { core.start_send(core.lock(), &this.slot) } {
            Sending::Sent => {
                this.has_message = false;
                return Poll::Ready(Ok(()));
            }
            Sending::Closed => {
                this.has_message = false;
                // SAFETY: as above, and noted as read.
                return Poll::Ready(Err(SendError(unsafe { this.slot.read() })));
            }
            Sending::Full(state) => state,
        };
        let waiter = this.waiter.insert(Waiter::of_future(waker));
        this.place.prepare(waiter, &this.slot, 0);
        // SAFETY: all three are pinned, and leave when they are dropped.
        unsafe { state.senders().join(&this.place) };
        core.release(state);
        Poll::Pending
    }
}

impl<T> Drop for SendFuture<'_, T> {
    fn drop(&mut self) {
        if let Some(waiter) = &self.waiter {
            let mut state = self.sender.end().lock();
            if waiter.outcome().is_none() {
                // It may be gone: whoever deals with it holds us.
                self.has_message = state.abandon_send(&self.place);
                drop(state);
            } else {
                drop(state);
                return drop(self.finish());
            }
        }
        if self.has_message {
            // SAFETY: there is a message, and it is ours: the place is in no line.
            drop(unsafe { self.slot.read() });
        }
    }
}

impl<T> fmt::Debug for SendFuture<'_, T> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.pad("SendFuture { .. }")
    }
}
