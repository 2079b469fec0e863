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
//! # Promises
//!
//! An arm of a select that sends makes its message only when it has been chosen, after the lock was released;
//! see [`SendArm`](super::arms::SendArm). What it is chosen for is kept for it until then:
//!
//! * **room**: a place in the buffer, counted in `reserved`. Whoever comes meanwhile finds the buffer that
//!   much smaller.
//! * **a partner**, in a rendezvous: a receiver that has been claimed and not been finished, found in `held`
//!   by its ticket. It goes on waiting, with no deadline, until the message is there; should the promise be
//!   broken (making the message panicked) it begins anew.
//!
//! # Strays
//!
//! An async receiver may have been handed a message and be dropped before it has looked. The message goes to
//! the next receiver, or else to the front of the buffer, though that be full, or a rendezvous: nothing is lost.
//!
//! Messages only move under the lock; they are dropped, and those who wait are woken, after it was released.

use super::buffer::Buffer;
use super::waiting::{Claimed, Kind, Line, Place, Slot};
use super::{RecvTimeoutError, SendError, SendTimeoutError, TryRecvError, TrySendError};
use crate::primitive::Arc;
use crate::primitive::atomic::{AtomicUsize, Ordering};
use crate::wait::{
    Reason, ShortLock, ShortLockGuard, TIMED_OUT, WaitKind, Waiter, Wake, tried_in_vain,
};
use std::mem::ManuallyDrop;
use std::ops::Deref;
use std::time::Instant;

/// When the channel is closed, so many are woken between two looks at the lock.
const BATCH: usize = 32;

/// What a send does when the buffer is full.
#[derive(Clone, Copy, PartialEq, Eq)]
pub(super) enum Overflow {
    /// It waits.
    Wait,
    /// The oldest message makes room.
    DropOldest,
    /// The new message is dropped.
    DropNewest,
}

pub(super) struct Core<T> {
    state: ShortLock<State<T>>,
    /// `None`: no bound.
    cap: Option<usize>,
    overflow: Overflow,
    /// See [`signal`](super::signal): no handle closes it.
    is_signal: bool,
    senders: AtomicUsize,
    receivers: AtomicUsize,
}

pub(super) struct State<T> {
    buffer: Buffer<T>,
    senders: Line<T>,
    receivers: Line<T>,
    /// Those who want to know when the channel may have become ready for something.
    watchers: Line<T>,
    /// One side is gone, or has said so. Nobody waits any more, from here on.
    closed: bool,
    /// Room in the buffer that was promised to arms which have yet to make their messages.
    reserved: usize,
    /// Receivers that were promised messages, by ticket.
    held: Vec<(u64, Claimed<T>)>,
    next_ticket: u64,
}

pub(super) type Guard<'a, T> = ShortLockGuard<'a, State<T>>;

/// What can be received at once.
pub(super) enum Offer<T> {
    /// A message, and the wake-up that taking it owes to a sender.
    Message(T, Option<Wake>),
    /// A sender that has yet to make its message: see [`Core::hold`].
    Promise(Claimed<T>),
    Nothing,
}

/// What a promise has been chosen for.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Chosen {
    /// The channel never makes senders wait.
    Free,
    Room,
    /// The receiver with this ticket.
    Partner(u64),
    /// The channel is closed.
    Closed,
}

impl<T> Core<T> {
    pub(super) fn ends(cap: Option<usize>, overflow: Overflow) -> (SendEnd<T>, RecvEnd<T>) {
        let core = Arc::new(Core::new(cap, overflow, false));
        (SendEnd(Arc::clone(&core)), RecvEnd(core))
    }

    /// The one end of a channel to which nothing is sent.
    pub(super) fn signal() -> RecvEnd<T> {
        RecvEnd(Arc::new(Core::new(Some(0), Overflow::Wait, true)))
    }

    fn new(cap: Option<usize>, overflow: Overflow, is_signal: bool) -> Core<T> {
        Core {
            state: ShortLock::new(State {
                buffer: Buffer::new(cap),
                senders: Line::new(),
                receivers: Line::new(),
                watchers: Line::new(),
                closed: false,
                reserved: 0,
                held: Vec::new(),
                next_ticket: 0,
            }),
            cap,
            overflow,
            is_signal,
            senders: AtomicUsize::new(1),
            receivers: AtomicUsize::new(1),
        }
    }

    #[inline]
    pub(super) fn lock(&self) -> Guard<'_, T> {
        self.state.lock()
    }

    /// Gives the lock back, after something has changed; and tells those who watch.
    #[inline]
    pub(super) fn release(&self, state: Guard<'_, T>) {
        if state.watchers.is_empty() {
            drop(state);
        } else {
            self.release_and_tell(state);
        }
    }

    #[cold]
    fn release_and_tell(&self, state: Guard<'_, T>) {
        self.wake_all(state, |state| state.watchers.claim_first(Kind::Look));
    }

    /// Wakes everyone whom `next` returns.
    fn wake_all<'a>(
        &'a self,
        mut state: Guard<'a, T>,
        mut next: impl FnMut(&mut State<T>) -> Option<Claimed<T>>,
    ) {
        loop {
            let mut wakes: [Option<Wake>; BATCH] = [const { None }; BATCH];
            let mut count = 0;
            while count < BATCH
                && let Some(claimed) = next(&mut state)
            {
                wakes[count] = Some(claimed.dismiss());
                count += 1;
            }
            drop(state);
            wakes.into_iter().flatten().for_each(Wake::deliver);
            if count < BATCH {
                return;
            }
            state = self.lock();
        }
    }

    #[inline]
    fn has_room(&self, state: &State<T>) -> bool {
        self.cap.is_none_or(|cap| state.buffer.len() + state.reserved < cap)
    }

    fn is_rendezvous(&self) -> bool {
        self.cap == Some(0)
    }

    // Sending.

    /// Passes the message on, or puts it in the buffer, or gives it back with the lock: then there is neither a
    /// receiver nor room, but the channel is open.
    #[inline]
    pub(super) fn start_send(&self, message: T) -> Result<(), (T, Option<Guard<'_, T>>)> {
        let mut state = self.lock();
        if state.closed {
            return Err((message, None));
        }
        if let Some(receiver) = state.receivers.claim_first(Kind::Passed) {
            let wake = receiver.give(message);
            drop(state);
            wake.deliver();
            return Ok(());
        }
        if self.has_room(&state) {
            state.buffer.push_back(message);
            self.release(state);
            return Ok(());
        }
        if self.overflow != Overflow::Wait {
            self.send_over(state, message);
            return Ok(());
        }
        Err((message, Some(state)))
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
    pub(super) fn try_send(&self, message: T) -> Result<(), TrySendError<T>> {
        self.start_send(message).map_err(|(message, state)| match state {
            Some(state) => {
                drop(state);
                tried_in_vain();
                TrySendError::Full(message)
            }
            None => TrySendError::Disconnected(message),
        })
    }

    #[inline]
    pub(super) fn send(
        &self,
        message: T,
        deadline: Option<Instant>,
    ) -> Result<(), SendTimeoutError<T>> {
        match self.start_send(message) {
            Ok(()) => Ok(()),
            Err((message, Some(state))) => self.wait_to_send(state, message, deadline),
            Err((message, None)) => Err(SendTimeoutError::Disconnected(message)),
        }
    }

    #[inline]
    fn wait_to_send(
        &self,
        mut state: Guard<'_, T>,
        message: T,
        deadline: Option<Instant>,
    ) -> Result<(), SendTimeoutError<T>> {
        let waiter = if deadline.is_none() { Waiter::exclusive() } else { Waiter::new() };
        let slot = Slot::holding(message);
        let place = Place::with(&waiter, &slot);
        // SAFETY: all three stay in this frame until `park` returns, which is after the claim and the
        // wake-up; or else the place leaves.
        unsafe { state.senders.join(&place) };
        self.release(state);
        let token = waiter.park(Reason::on(WaitKind::Send, self.address()), deadline);
        if token == TIMED_OUT {
            self.lock().senders.leave(&place);
            // SAFETY: nobody has taken the message, and the slot is ours again.
            return Err(SendTimeoutError::Timeout(unsafe { slot.read() }));
        }
        match Kind::of(token) {
            Kind::Passed => Ok(()),
            // SAFETY: as above.
            _ => Err(SendTimeoutError::Disconnected(unsafe { slot.read() })),
        }
    }

    /// Whether a promise would be chosen at once, with `waiter` claimed (null: none).
    pub(super) fn can_promise(&self, state: &State<T>, waiter: *const Waiter) -> bool {
        state.closed
            || self.overflow != Overflow::Wait
            || self.has_room(state)
            || (self.is_rendezvous() && state.receivers.has_other_than(waiter))
    }

    /// Chooses a promise, if that is possible at once.
    pub(super) fn promise(&self, state: &mut State<T>) -> Option<Chosen> {
        if state.closed {
            Some(Chosen::Closed)
        } else if self.overflow != Overflow::Wait || self.cap.is_none() {
            Some(Chosen::Free)
        } else if self.has_room(state) {
            state.reserved += 1;
            Some(Chosen::Room)
        } else if self.is_rendezvous() {
            let receiver = state.receivers.claim_first(Kind::Passed)?;
            Some(Chosen::Partner(state.hold(receiver)))
        } else {
            None
        }
    }

    /// Sends the message that was promised.
    pub(super) fn keep_promise(&self, chosen: Chosen, message: T) -> Result<(), SendError<T>> {
        let state = match chosen {
            Chosen::Closed => return Err(SendError(message)),
            Chosen::Free => {
                return self.send(message, None).map_err(|error| SendError(error.into_inner()));
            }
            Chosen::Room => {
                let mut state = self.lock();
                state.reserved -= 1;
                state
            }
            Chosen::Partner(ticket) => {
                let mut state = self.lock();
                if let Some(receiver) = state.let_go(ticket) {
                    let wake = receiver.give(message);
                    drop(state);
                    wake.deliver();
                    return Ok(());
                }
                // The partner was an async receiver, and has been dropped.
                state
            }
        };
        if state.closed {
            return Err(SendError(message));
        }
        self.insert(state, message, Buffer::push_back);
        Ok(())
    }

    /// What was promised will not be sent.
    pub(super) fn break_promise(&self, chosen: Chosen) {
        match chosen {
            Chosen::Free | Chosen::Closed => {}
            Chosen::Room => {
                let mut state = self.lock();
                state.reserved -= 1;
                let wake = self.fill(&mut state);
                self.release(state);
                drop(wake);
            }
            Chosen::Partner(ticket) => {
                let mut state = self.lock();
                // Under the lock to the end: an async receiver that finds itself neither finished nor held
                // may go.
                let wake = state.let_go(ticket).map(|receiver| receiver.dismiss_as(Kind::Again));
                drop(state);
                drop(wake);
            }
        }
    }

    /// Takes back a message that was received by one who has gone away without it.
    pub(super) fn put_back(&self, message: T) {
        self.insert(self.lock(), message, Buffer::push_front);
    }

    fn insert(&self, mut state: Guard<'_, T>, message: T, push: fn(&mut Buffer<T>, T)) {
        if let Some(receiver) = state.receivers.claim_first(Kind::Passed) {
            let wake = receiver.give(message);
            drop(state);
            wake.deliver();
        } else {
            push(&mut state.buffer, message);
            self.release(state);
        }
    }

    // Receiving.

    /// Whether something can be received at once, with `waiter` claimed (null: none), or never any more.
    pub(super) fn can_take(&self, state: &State<T>, waiter: *const Waiter) -> bool {
        state.closed
            || state.buffer.len() > 0
            || (self.is_rendezvous() && state.senders.has_other_than(waiter))
    }

    /// What can be received at once.
    #[inline]
    pub(super) fn take(&self, state: &mut State<T>) -> Offer<T> {
        if let Some(message) = state.buffer.pop_front() {
            let wake = if state.senders.is_empty() { None } else { self.fill(state) };
            return Offer::Message(message, wake);
        }
        if !self.is_rendezvous() {
            return Offer::Nothing;
        }
        let sender = state
            .senders
            .claim_first_by(|place| if place.is_promise() { Kind::Partner } else { Kind::Passed });
        match sender {
            None => Offer::Nothing,
            Some(promise) if promise.is_promise() => Offer::Promise(promise),
            Some(sender) => {
                let (message, wake) = sender.take();
                Offer::Message(message, Some(wake))
            }
        }
    }

    /// There is room in the buffer, perhaps: gives it to the first who waits for it.
    fn fill(&self, state: &mut State<T>) -> Option<Wake> {
        if !self.has_room(state) {
            return None;
        }
        let sender = state
            .senders
            .claim_first_by(|place| if place.is_promise() { Kind::Room } else { Kind::Passed })?;
        if sender.is_promise() {
            state.reserved += 1;
            return Some(sender.dismiss());
        }
        let (message, wake) = sender.take();
        state.buffer.push_back(message);
        Some(wake)
    }

    /// Receives what can be received at once. `None`: nothing just now; the lock comes back.
    #[inline]
    pub(super) fn start_recv<'a>(
        &'a self,
        mut state: Guard<'a, T>,
    ) -> Result<Result<T, RecvTimeoutError>, Guard<'a, T>> {
        loop {
            match self.take(&mut state) {
                Offer::Message(message, wake) => {
                    self.release(state);
                    drop(wake);
                    return Ok(Ok(message));
                }
                Offer::Promise(promise) => {
                    if let Some(message) = self.await_promise(state, promise) {
                        return Ok(Ok(message));
                    }
                    state = self.lock();
                }
                Offer::Nothing if state.closed => return Ok(Err(RecvTimeoutError::Disconnected)),
                Offer::Nothing => return Err(state),
            }
        }
    }

    /// Waits for a message that was promised; `None` if the promise is broken.
    #[cold]
    fn await_promise(&self, mut state: Guard<'_, T>, promise: Claimed<T>) -> Option<T> {
        let waiter = Waiter::exclusive();
        let slot = Slot::empty();
        let place = Place::with(&waiter, &slot);
        let wake = state.hold_for(promise, &place);
        drop(state);
        wake.deliver();
        match Kind::of(waiter.park(Reason::on(WaitKind::Receive, self.address()), None)) {
            // SAFETY: the message is there, and the slot is ours again.
            Kind::Passed => Some(unsafe { slot.read() }),
            _ => None,
        }
    }

    #[inline]
    pub(super) fn try_recv(&self) -> Result<T, TryRecvError> {
        match self.start_recv(self.lock()) {
            Ok(Ok(message)) => Ok(message),
            Ok(Err(_)) => Err(TryRecvError::Disconnected),
            Err(state) => {
                drop(state);
                tried_in_vain();
                Err(TryRecvError::Empty)
            }
        }
    }

    #[inline]
    pub(super) fn recv(&self, deadline: Option<Instant>) -> Result<T, RecvTimeoutError> {
        loop {
            let mut state = match self.start_recv(self.lock()) {
                Ok(received) => return received,
                Err(state) => state,
            };
            let waiter = if deadline.is_none() { Waiter::exclusive() } else { Waiter::new() };
            let slot = Slot::empty();
            let place = Place::with(&waiter, &slot);
            // SAFETY: as in `wait_to_send`.
            unsafe { state.receivers.join(&place) };
            self.release(state);
            let token = waiter.park(Reason::on(WaitKind::Receive, self.address()), deadline);
            if token == TIMED_OUT {
                self.lock().receivers.leave(&place);
                return Err(RecvTimeoutError::Timeout);
            }
            match Kind::of(token) {
                // SAFETY: a sender has put its message there, and the slot is ours again.
                Kind::Passed => return Ok(unsafe { slot.read() }),
                Kind::Closed => return Err(RecvTimeoutError::Disconnected),
                _ => {}
            }
        }
    }

    // The end.

    /// Nothing more will be sent. What was sent can still be received.
    pub(super) fn close(&self) {
        self.shut(false);
    }

    pub(super) fn is_closed(&self) -> bool {
        self.lock().closed
    }

    pub(super) fn is_signal(&self) -> bool {
        self.is_signal
    }

    /// Lets all go who wait. What is left is dropped if nobody can receive it.
    fn shut(&self, discard: bool) {
        let mut state = self.lock();
        state.closed = true;
        let left = if discard {
            std::mem::replace(&mut state.buffer, Buffer::nothing())
        } else {
            Buffer::nothing()
        };
        self.wake_all(state, |state| {
            let waiting = state.receivers.claim_first(Kind::Closed);
            let waiting = waiting.or_else(|| state.senders.claim_first(Kind::Closed));
            waiting.or_else(|| state.watchers.claim_first(Kind::Look))
        });
        // With no lock held: a message's `Drop` may do anything, panic included. If one panics the rest is
        // leaked, as in crossbeam-channel: were it dropped while unwinding, a second panic would abort.
        let mut left = ManuallyDrop::new(left);
        while let Some(message) = left.pop_front() {
            drop(message);
        }
        drop(ManuallyDrop::into_inner(left));
    }

    pub(super) fn len(&self) -> usize {
        let len = self.lock().buffer.len();
        // A stray does not count.
        self.cap.map_or(len, |cap| len.min(cap))
    }

    pub(super) fn is_empty(&self) -> bool {
        self.len() == 0
    }

    pub(super) fn is_full(&self) -> bool {
        self.cap.is_some_and(|cap| {
            let state = self.lock();
            state.buffer.len() + state.reserved >= cap
        })
    }

    pub(super) fn capacity(&self) -> Option<usize> {
        self.cap
    }

    /// What tells this channel from others, in dumps.
    pub(super) fn address(&self) -> usize {
        std::ptr::from_ref(self).addr()
    }
}

impl<T> State<T> {
    pub(super) fn senders(&mut self) -> &mut Line<T> {
        &mut self.senders
    }

    pub(super) fn receivers(&mut self) -> &mut Line<T> {
        &mut self.receivers
    }

    pub(super) fn watchers(&mut self) -> &mut Line<T> {
        &mut self.watchers
    }

    pub(super) fn is_closed(&self) -> bool {
        self.closed
    }

    /// Keeps a claimed receiver for one who has promised a message, and returns its ticket.
    fn hold(&mut self, receiver: Claimed<T>) -> u64 {
        self.next_ticket += 1;
        self.held.push((self.next_ticket, receiver));
        self.next_ticket
    }

    /// Lets the owner of `place`, who waits in no line, wait for the message that was promised, and returns
    /// the wake-up that tells the promise so.
    pub(super) fn hold_for(&mut self, promise: Claimed<T>, place: &Place<T>) -> Wake {
        let claimed = place.claim_oneself(Kind::Passed);
        debug_assert!(claimed, "it is in no line");
        // SAFETY: just claimed, by its owner and for this.
        promise.set_ticket(self.hold(unsafe { Claimed::new(place) }));
        promise.dismiss()
    }

    /// Whoever has this ticket, if it still waits.
    fn let_go(&mut self, ticket: u64) -> Option<Claimed<T>> {
        let at = self.held.iter().position(|(other, _)| *other == ticket)?;
        Some(self.held.swap_remove(at).1)
    }

    /// The owner of `place` no longer waits, neither in line nor for a promise.
    pub(super) fn abandon(&mut self, place: &Place<T>) {
        self.receivers.leave(place);
        self.held.retain(|(_, claimed)| !claimed.is_at(place));
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
                    self.0.shut($discard);
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
