//! The channel itself: a buffer, a line of senders, a line of receivers, one short lock, which is biased to the thread
//! that uses it alone.
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
//! Sending is in `send`, receiving in `recv`; sends of a select, whose message is made when they have been chosen, are in
//! `promise`; rendezvous that last until a message has been dealt with, in `meeting`.
//!
//! # Strays
//!
//! An async receiver may have been handed a message and be dropped before it has looked. The message goes to
//! the next receiver, or else waits before the buffer, though that be full, or a rendezvous: nothing is lost.
//!
//! Messages only move under the lock; they are dropped, and those who wait are woken, after it was released.

mod ends;
mod meeting;
mod promise;
mod recv;
mod send;

pub(super) use ends::{RecvEnd, SendEnd};
pub(super) use promise::Chosen;

use super::buffer::Buffer;
use super::waiting::{Claimed, Kind, Line};
use crate::primitive::Arc;
use crate::primitive::atomic::{AtomicUsize, Ordering};
use crate::wait::{BiasedLock, BiasedLockGuard, Wake};

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
    state: BiasedLock<State<T>>,
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
    /// Receivers that were promised messages, and senders whose messages are being dealt with, by ticket.
    held: Vec<(u64, Claimed<T>)>,
    /// Counts the messages that were handed over, and the receivers that were held.
    next_ticket: u64,
}

pub(super) type Guard<'a, T> = BiasedLockGuard<'a, State<T>>;

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
            state: BiasedLock::new(State {
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

    /// Says that who runs here is about to wait, and will not take the lock for a while.
    fn step_back(&self) {
        #[cfg(not(loom))]
        self.state.step_back();
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
