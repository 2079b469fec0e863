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
//! Sends of a select, whose message is made when they have been chosen, are in `promise`.
//!
//! # Strays
//!
//! An async receiver may have been handed a message and be dropped before it has looked. The message goes to
//! the next receiver, or else waits before the buffer, though that be full, or a rendezvous: nothing is lost.
//!
//! Messages only move under the lock; they are dropped, and those who wait are woken, after it was released.

mod ends;
mod promise;

pub(super) use ends::{RecvEnd, SendEnd};
pub(super) use promise::Chosen;

use super::buffer::Buffer;
use super::waiting::{Claimed, Kind, Line, Place, Slot};
use super::{RecvTimeoutError, SendTimeoutError, TryRecvError, TrySendError};
use crate::primitive::Arc;
use crate::primitive::atomic::{AtomicUsize, Ordering};
use crate::wait::{
    Reason, ShortLock, ShortLockGuard, TIMED_OUT, WaitKind, Waiter, Wake, linger, tried_in_vain,
};
use std::time::Instant;

/// When the channel is closed, so many are woken between two looks at the lock.
const BATCH: usize = 32;

/// So many messages in an unbounded channel are worth while.
const ENOUGH: usize = 128;

/// A hint that there is something for everybody.
const ANY: usize = usize::MAX;

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
    /// How many messages there are, at least when there are some; [`ANY`] when the channel has been closed. For
    /// those who look whether it is worth while to take the lock. Written under the lock.
    hint: AtomicUsize,
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
    /// Messages that came back, with their numbers, in order: they go before the buffer.
    strays: Vec<(u64, T)>,
    senders: Line<T>,
    receivers: Line<T>,
    /// Those who want to know when the channel may have become ready for something.
    watchers: Line<T>,
    /// One side is gone, or has said so. Nobody waits any more, from here on.
    closed: bool,
    /// How many strays there are, and how much room in the buffer was promised to arms which have yet to make
    /// their messages. Most often 0, so that most often nothing else need be looked at.
    special: usize,
    /// Receivers that were promised messages, by ticket.
    held: Vec<(u64, Claimed<T>)>,
    /// Counts the messages that were handed over, and the receivers that were held.
    next_ticket: u64,
}

pub(super) type Guard<'a, T> = ShortLockGuard<'a, State<T>>;

/// What can be received at once.
pub(super) enum Offer<T> {
    /// A message, which is in the slot now, and the wake-up that taking it owes to a sender.
    Message(Option<Wake>),
    /// A sender that has yet to make its message: see [`Core::hold`].
    Promise(Claimed<T>),
    Nothing,
}

/// How a send begins.
pub(super) enum Sending<'a, T> {
    /// It is done, and the message is gone from the slot.
    Sent,
    /// There is neither a receiver nor room, but the channel is open.
    Full(Guard<'a, T>),
    /// The channel is closed.
    Closed,
}

/// How a receive begins.
pub(super) enum Receiving<'a, T> {
    /// It is done, and the message is in the slot.
    Received,
    /// There is nothing, but the channel is open.
    Empty(Guard<'a, T>),
    /// There is nothing, and the channel is closed.
    Closed,
}

/// How waiting ended.
enum Waited {
    Done,
    TimedOut,
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
                strays: Vec::new(),
                senders: Line::new(),
                receivers: Line::new(),
                watchers: Line::new(),
                closed: false,
                special: 0,
                held: Vec::new(),
                next_ticket: 0,
            }),
            hint: AtomicUsize::new(0),
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

    /// As `release`, if there are more messages now or fewer.
    #[inline]
    pub(super) fn release_changed(&self, state: Guard<'_, T>) {
        let level = if state.closed { ANY } else { state.buffer.len() + state.special };
        // Ordering: Relaxed: who finds it worth while takes the lock.
        self.hint.store(level, Ordering::Relaxed);
        self.release(state);
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
        self.cap.is_none_or(|cap| state.buffer.len() + state.special < cap)
    }

    #[inline]
    fn is_rendezvous(&self) -> bool {
        self.cap == Some(0)
    }

    // Sending.

    /// Passes the message on, or puts it in the buffer, if that is possible at once.
    ///
    /// Messages travel from slot to slot, not through results: a large one would be copied for each.
    ///
    /// # Safety
    /// The slot holds a message and is the caller's; when it was sent, no longer.
    #[inline(always)]
    pub(super) unsafe fn start_send(&self, slot: &Slot<T>) -> Sending<'_, T> {
        let mut state = self.lock();
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
    pub(super) fn try_send(&self, message: T) -> Result<(), TrySendError<T>> {
        let slot = Slot::holding(message);
        // SAFETY: it holds the message, and is ours; so it does below, where it was not sent.
        match unsafe { self.start_send(&slot) } {
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
    pub(super) fn send(
        &self,
        message: T,
        deadline: Option<Instant>,
    ) -> Result<(), SendTimeoutError<T>> {
        let slot = Slot::holding(message);
        // SAFETY: it holds the message, and is ours.
        match unsafe { self.start_send(&slot) } {
            Sending::Sent => Ok(()),
            // SAFETY: as above; so is what follows.
            Sending::Full(state) => match unsafe { self.wait_to_send(state, &slot, deadline) } {
                Waited::Done => Ok(()),
                // SAFETY: it has not been sent.
                Waited::Closed => Err(SendTimeoutError::Disconnected(unsafe { slot.read() })),
                // SAFETY: as above.
                Waited::TimedOut => Err(SendTimeoutError::Timeout(unsafe { slot.read() })),
            },
            // SAFETY: as above.
            Sending::Closed => Err(SendTimeoutError::Disconnected(unsafe { slot.read() })),
        }
    }

    /// A thread stays awake for a moment before it gets in line: then those whom it waits for need not wake it,
    /// and it finds several messages, or room for several, at once.
    ///
    /// # Safety
    /// As for `start_send`.
    #[cold]
    #[inline(never)]
    unsafe fn send_after_lingering<'a>(
        &'a self,
        state: Guard<'a, T>,
        slot: &Slot<T>,
    ) -> Sending<'a, T> {
        if self.is_rendezvous() {
            return Sending::Full(state);
        }
        drop(state);
        let cap = self.cap.unwrap_or(ANY);
        let room = || match self.hint.load(Ordering::Relaxed) {
            ANY => ANY,
            len => cap.saturating_sub(len),
        };
        linger(room, cap.div_ceil(2));
        // SAFETY: the caller's promise.
        unsafe { self.start_send(slot) }
    }

    /// Waits for a receiver or for room.
    ///
    /// Not inlined: what need not wait has few registers to save.
    ///
    /// # Safety
    /// As for `start_send`, for which `Done` is to have been sent.
    #[inline(never)]
    unsafe fn wait_to_send<'a>(
        &'a self,
        mut state: Guard<'a, T>,
        slot: &Slot<T>,
        deadline: Option<Instant>,
    ) -> Waited {
        let waiter = if deadline.is_none() { Waiter::exclusive() } else { Waiter::new() };
        if waiter.is_thread() {
            // SAFETY: the caller's promise.
            state = match unsafe { self.send_after_lingering(state, slot) } {
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

    /// Takes back the message that was the `number`th to be handed over, from one who has gone away without it.
    pub(super) fn put_back(&self, message: T, number: u64) {
        let mut state = self.lock();
        if let Some(receiver) = state.receivers.claim_first(Kind::Passed) {
            let wake = state.hand_over(receiver, message);
            drop(state);
            wake.deliver();
        } else {
            // In the order in which they were handed over, whoever goes first.
            let at = state.strays.partition_point(|(other, _)| *other < number);
            state.strays.insert(at, (number, message));
            state.special += 1;
            self.release_changed(state);
        }
    }

    // Receiving.

    /// Whether something can be received at once, with `waiter` claimed (null: none), or never any more.
    pub(super) fn can_take(&self, state: &State<T>, waiter: *const Waiter) -> bool {
        state.closed || state.len() > 0 || state.senders.has_other_than(waiter)
    }

    /// What can be received at once, by one who cannot wait for a promise.
    ///
    /// # Safety
    /// The slot is empty and the caller's.
    pub(super) unsafe fn take(&self, state: &mut State<T>, slot: &Slot<T>) -> Offer<T> {
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
    fn fill(&self, state: &mut State<T>) -> Option<Wake> {
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

    /// Receives what can be received at once.
    ///
    /// # Safety
    /// The slot is empty and the caller's.
    #[inline(always)]
    pub(super) unsafe fn start_recv<'a>(
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
            if unsafe { self.await_promise(state, sender, slot) } {
                return Receiving::Received;
            }
            state = self.lock();
        }
    }

    #[inline]
    pub(super) fn try_recv(&self) -> Result<T, TryRecvError> {
        let slot = Slot::empty();
        // SAFETY: it is empty, and ours.
        match unsafe { self.start_recv(self.lock(), &slot) } {
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
    pub(super) fn recv(&self, deadline: Option<Instant>) -> Result<T, RecvTimeoutError> {
        let slot = Slot::empty();
        // SAFETY: it is empty, and ours.
        match unsafe { self.start_recv(self.lock(), &slot) } {
            // SAFETY: the message is in it.
            Receiving::Received => Ok(unsafe { slot.read() }),
            Receiving::Closed => Err(RecvTimeoutError::Disconnected),
            // SAFETY: it is empty, and ours.
            Receiving::Empty(state) => match unsafe { self.wait_to_recv(state, &slot, deadline) } {
                // SAFETY: the message is in it.
                Waited::Done => Ok(unsafe { slot.read() }),
                Waited::TimedOut => Err(RecvTimeoutError::Timeout),
                Waited::Closed => Err(RecvTimeoutError::Disconnected),
            },
        }
    }

    /// Waits for a message, until it is in the slot.
    ///
    /// Not inlined: what need not wait has few registers to save.
    ///
    /// # Safety
    /// The slot is empty and the caller's.
    #[inline(never)]
    unsafe fn wait_to_recv<'a>(
        &'a self,
        mut state: Guard<'a, T>,
        slot: &Slot<T>,
        deadline: Option<Instant>,
    ) -> Waited {
        loop {
            let waiter = if deadline.is_none() { Waiter::exclusive() } else { Waiter::new() };
            if waiter.is_thread() {
                // SAFETY: the caller's promise.
                state = match unsafe { self.recv_after_lingering(state, slot) } {
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
            state = match unsafe { self.recv_anew(state, slot) } {
                Receiving::Received => return Waited::Done,
                Receiving::Closed => return Waited::Closed,
                Receiving::Empty(state) => state,
            };
        }
    }

    /// # Safety
    /// As for `start_recv`.
    #[cold]
    #[inline(never)]
    unsafe fn recv_anew<'a>(&'a self, state: Guard<'a, T>, slot: &Slot<T>) -> Receiving<'a, T> {
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
        slot: &Slot<T>,
    ) -> Receiving<'a, T> {
        if self.is_rendezvous() {
            return Receiving::Empty(state);
        }
        drop(state);
        linger(|| self.hint.load(Ordering::Relaxed), self.cap.unwrap_or(ENOUGH).div_ceil(2));
        // SAFETY: the caller's promise.
        unsafe { self.start_recv(self.lock(), slot) }
    }

    /// Whether there is nothing to receive as far as one sees without the lock. Whatever happened before is seen.
    ///
    /// In a rendezvous, messages are with their senders, who are not counted: it never looks empty.
    #[inline]
    pub(super) fn looks_empty(&self) -> bool {
        self.hint.load(Ordering::Relaxed) == 0 && !self.is_rendezvous()
    }

    pub(super) fn len(&self) -> usize {
        let len = self.lock().len();
        // A stray does not count where there would be no room for it.
        self.cap.map_or(len, |cap| len.min(cap))
    }

    pub(super) fn is_empty(&self) -> bool {
        self.len() == 0
    }

    pub(super) fn is_full(&self) -> bool {
        self.cap.is_some_and(|cap| {
            let state = self.lock();
            state.buffer.len() + state.special >= cap
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
    #[inline]
    fn len(&self) -> usize {
        self.buffer.len() + self.strays.len()
    }

    /// The first sender in line: in a rendezvous, or if all room is promised.
    #[inline]
    fn claim_sender(&mut self) -> Option<Claimed<T>> {
        self.senders.claim_first_by(
            |place| {
                if place.is_promise() { Kind::Partner } else { Kind::Passed }
            },
        )
    }

    #[cold]
    fn pop_special(&mut self) -> Option<T> {
        if self.strays.is_empty() {
            return self.buffer.pop_front();
        }
        self.special -= 1;
        Some(self.strays.remove(0).1)
    }

    /// Gives the message to one who waits for it.
    #[inline]
    fn hand_over(&mut self, receiver: Claimed<T>, message: T) -> Wake {
        self.next_ticket += 1;
        receiver.set_ticket(self.next_ticket);
        receiver.give(message)
    }

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
}
