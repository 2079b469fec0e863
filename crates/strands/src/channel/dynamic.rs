//! [`Select`]: a select whose operations are only known at run time.

use super::arms::{RecvArm, SendArm};
use super::{
    ReadyTimeoutError, Receiver, RecvError, SelectTimeoutError, SendError, Sender, TryReadyError,
    TrySelectError,
};
use crate::selection::{self, Arm, RenewableArm, Until};
use std::fmt;
use std::marker::PhantomData;
use std::panic::{RefUnwindSafe, UnwindSafe};
use std::ptr;
use std::time::{Duration, Instant};

/// Selects over a list of operations that is made at run time.
///
/// `send` and `recv` add operations and return their indices, counted from 0. `select` and its kin wait until
/// one can be done, and return a [`SelectedOperation`], which has to be completed with the sender or receiver
/// that was added. `ready` and its kin only wait until one could be done (by a `try_` method: somebody else may
/// be quicker) and return its index.
///
/// A `Select` need not be made anew for each turn of a loop. Where the operations are known beforehand,
/// [`select!`](crate::select) is nicer and a little faster.
///
/// # Examples
///
/// ```
/// use strands::channel::{Select, unbounded};
///
/// let inputs: Vec<_> = (0..3).map(|_| unbounded()).collect();
/// for (n, (tx, _)) in inputs.iter().enumerate() {
///     tx.send(n).unwrap();
/// }
/// let mut select = Select::new();
/// for (_, rx) in &inputs {
///     select.recv(rx);
/// }
/// for _ in 0..3 {
///     let operation = select.select();
///     let index = operation.index();
///     assert_eq!(operation.recv(&inputs[index].1), Ok(index));
/// }
/// assert!(select.try_select().is_err());
/// ```
pub struct Select<'a> {
    entries: Vec<Entry>,
    next_index: usize,
    biased: bool,
    /// The ends of channels that were added. They may go before the select does: see `Entry`.
    ends: PhantomData<&'a ()>,
}

// SAFETY: whatever type the messages have, a select never runs their code. What an arm has received is only
// moved, under the channel's lock: out of the buffer and, if the operation is not completed, back. To complete
// it takes a sender or receiver, which is not where its messages may not be.
unsafe impl Send for Select<'_> {}
// SAFETY: a shared one can be cloned, which makes arms for the same ends; these are only moved, see above.
unsafe impl Sync for Select<'_> {}

struct Entry {
    index: usize,
    kind: Kind,
    /// The address of the sender or receiver.
    end: *const (),
    /// It has borrowed that for as long as the select may be used. But it may be dropped later, so that one can add ends
    /// that were made after the select: an arm that has won nothing does not touch them then, and one that has won is
    /// no longer here.
    arm: Box<dyn RenewableArm>,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Kind {
    Send,
    Receive,
}

impl<'a> Select<'a> {
    /// Makes an empty one. Among operations that can be done it picks one at random.
    pub fn new() -> Select<'a> {
        Select { entries: Vec::new(), next_index: 0, biased: false, ends: PhantomData }
    }

    /// Makes an empty one that picks the first, in the order in which they were added, that can be done.
    pub fn new_biased() -> Select<'a> {
        Select { biased: true, ..Select::new() }
    }

    fn add(&mut self, kind: Kind, end: *const (), arm: Box<dyn RenewableArm + 'a>) -> usize {
        let index = self.next_index;
        self.next_index += 1;
        // SAFETY: it is used in methods only, for which the lifetime has to last, and what is handed out has it
        // again. Dropped, it has won nothing, and only frees its memory.
        let arm = unsafe {
            std::mem::transmute::<Box<dyn RenewableArm + 'a>, Box<dyn RenewableArm>>(arm)
        };
        self.entries.push(Entry { index, kind, end, arm });
        index
    }

    /// Adds a send operation, and returns its index. The message is given when it has been selected.
    pub fn send<T>(&mut self, sender: &'a Sender<T>) -> usize {
        let arm = Box::new(SendArm::new(sender));
        self.add(Kind::Send, ptr::from_ref(sender).cast(), arm)
    }

    /// Adds a receive operation, and returns its index.
    pub fn recv<T>(&mut self, receiver: &'a Receiver<T>) -> usize {
        let arm = Box::new(RecvArm::new(receiver));
        self.add(Kind::Receive, ptr::from_ref(receiver).cast(), arm)
    }

    /// Removes an operation, for instance because its channel is disconnected. The other indices stay.
    ///
    /// # Panics
    /// If there is no operation with this index, or no longer.
    pub fn remove(&mut self, index: usize) {
        assert!(index < self.next_index, "index out of bounds; {index} >= {}", self.next_index);
        let at = self.entries.iter().position(|entry| entry.index == index);
        self.entries.remove(at.expect("no operation with this index"));
    }

    fn with_arms<R>(&self, f: impl FnOnce(&[&dyn Arm]) -> R) -> R {
        const FEW: usize = 8;
        if self.entries.is_empty() || self.entries.len() > FEW {
            return f(&self
                .entries
                .iter()
                .map(|entry| &*entry.arm as &dyn Arm)
                .collect::<Vec<_>>());
        }
        let mut arms: [&dyn Arm; FEW] = [&*self.entries[0].arm; FEW];
        for (arm, entry) in arms.iter_mut().zip(&self.entries) {
            *arm = &*entry.arm;
        }
        f(&arms[..self.entries.len()])
    }

    fn selected(&mut self, until: Until) -> Option<SelectedOperation<'a>> {
        let at = self.with_arms(|arms| selection::select(arms, self.biased, until))?;
        let entry = &mut self.entries[at];
        let fresh = entry.arm.renew();
        Some(SelectedOperation {
            index: entry.index,
            kind: entry.kind,
            end: entry.end,
            arm: Some(std::mem::replace(&mut entry.arm, fresh)),
        })
    }

    fn found_ready(&mut self, until: Until) -> Option<usize> {
        let at = self.with_arms(|arms| selection::ready(arms, self.biased, until))?;
        Some(self.entries[at].index)
    }

    /// Selects an operation that can be done at once. Never blocks.
    ///
    /// # Errors
    /// None can.
    pub fn try_select(&mut self) -> Result<SelectedOperation<'a>, TrySelectError> {
        self.selected(Until::Now).ok_or(TrySelectError)
    }

    /// Waits until an operation can be done, and selects it. One on a disconnected channel can be done: it
    /// returns an error.
    ///
    /// Blocks: the goroutine, or else the thread.
    ///
    /// # Panics
    /// If there are no operations.
    pub fn select(&mut self) -> SelectedOperation<'a> {
        assert!(!self.entries.is_empty(), "no operations have been added to `Select`");
        self.selected(Until::Served).expect("it waits until one is selected")
    }

    /// As [`select`](Select::select), for at most `timeout`.
    ///
    /// Blocks: the goroutine, or else the thread.
    ///
    /// # Errors
    /// None could be done in time.
    pub fn select_timeout(
        &mut self,
        timeout: Duration,
    ) -> Result<SelectedOperation<'a>, SelectTimeoutError> {
        self.selected(selection::within(timeout)).ok_or(SelectTimeoutError)
    }

    /// As [`select`](Select::select), until `deadline` at most.
    ///
    /// Blocks: the goroutine, or else the thread.
    ///
    /// # Errors
    /// None could be done in time.
    pub fn select_deadline(
        &mut self,
        deadline: Instant,
    ) -> Result<SelectedOperation<'a>, SelectTimeoutError> {
        self.selected(Until::Then(deadline)).ok_or(SelectTimeoutError)
    }

    /// Finds an operation that could be done at once. Never blocks.
    ///
    /// # Errors
    /// None could.
    pub fn try_ready(&mut self) -> Result<usize, TryReadyError> {
        self.found_ready(Until::Now).ok_or(TryReadyError)
    }

    /// Waits until an operation could be done, and returns its index.
    ///
    /// Blocks: the goroutine, or else the thread.
    ///
    /// # Panics
    /// If there are no operations.
    pub fn ready(&mut self) -> usize {
        assert!(!self.entries.is_empty(), "no operations have been added to `Select`");
        self.found_ready(Until::Served).expect("it waits until one is ready")
    }

    /// As [`ready`](Select::ready), for at most `timeout`.
    ///
    /// Blocks: the goroutine, or else the thread.
    ///
    /// # Errors
    /// None could be done in time.
    pub fn ready_timeout(&mut self, timeout: Duration) -> Result<usize, ReadyTimeoutError> {
        self.found_ready(selection::within(timeout)).ok_or(ReadyTimeoutError)
    }

    /// As [`ready`](Select::ready), until `deadline` at most.
    ///
    /// Blocks: the goroutine, or else the thread.
    ///
    /// # Errors
    /// None could be done in time.
    pub fn ready_deadline(&mut self, deadline: Instant) -> Result<usize, ReadyTimeoutError> {
        self.found_ready(Until::Then(deadline)).ok_or(ReadyTimeoutError)
    }
}

impl Default for Select<'_> {
    fn default() -> Self {
        Select::new()
    }
}

impl<'a> Clone for Select<'a> {
    fn clone(&self) -> Select<'a> {
        let entries = self.entries.iter().map(|entry| Entry {
            index: entry.index,
            kind: entry.kind,
            end: entry.end,
            arm: entry.arm.renew(),
        });
        Select { entries: entries.collect(), ..*self }
    }
}

impl fmt::Debug for Select<'_> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.pad("Select { .. }")
    }
}

/// An operation that was selected and has to be completed, with the sender or receiver that was added.
///
/// # Panics
/// If it is dropped instead. What was received is not lost then, but goes back to the channel; and so does the
/// room that was kept for what was to be sent.
#[must_use = "a selected operation must be completed"]
pub struct SelectedOperation<'a> {
    index: usize,
    kind: Kind,
    end: *const (),
    /// Taken out when it is completed.
    arm: Option<Box<dyn RenewableArm + 'a>>,
}

impl UnwindSafe for SelectedOperation<'_> {}
impl RefUnwindSafe for SelectedOperation<'_> {}

impl SelectedOperation<'_> {
    /// The index of the operation.
    pub fn index(&self) -> usize {
        self.index
    }

    /// The arm, if it is for this end of a channel.
    fn arm_for<E>(mut self, kind: Kind, end: &E, complaint: &str) -> Box<dyn RenewableArm> {
        let is_right = self.kind == kind && self.end == ptr::from_ref(end).cast();
        let arm = self.arm.take().expect("it is completed once");
        assert!(is_right, "{complaint}");
        // SAFETY: its lifetime is that of the borrowed end, which the caller has borrowed too as long as it
        // has the box.
        unsafe { std::mem::transmute::<Box<dyn RenewableArm + '_>, Box<dyn RenewableArm>>(arm) }
    }

    /// What a drop does, without its panic. For models, where any panic is a failure.
    #[cfg(all(test, loom))]
    pub(super) fn break_off(mut self) {
        self.arm = None;
    }

    /// Completes a send operation.
    ///
    /// Blocks nobody: room or receiver is kept for it. Only if that is a
    /// [`recv_with`](Receiver::recv_with), it waits until that has dealt with the message.
    ///
    /// # Errors
    /// All receivers are gone, or the channel was closed; the error holds the message.
    ///
    /// # Panics
    /// If it is not the sender that was selected.
    pub fn send<T>(self, sender: &Sender<T>, message: T) -> Result<(), SendError<T>> {
        let complaint = "passed a sender that wasn't selected";
        let arm = Box::into_raw(self.arm_for(Kind::Send, sender, complaint));
        // SAFETY: made by `Select::send` from the sender at this address, which is borrowed ever since and
        // so is still the same, of the same type: hence it is a `SendArm<T>`.
        let arm = unsafe { Box::from_raw(arm.cast::<SendArm<'_, T>>()) };
        arm.finish(message)
    }

    /// Completes a receive operation.
    ///
    /// # Errors
    /// The channel is empty, and all senders are gone or it was closed.
    ///
    /// # Panics
    /// If it is not the receiver that was selected.
    pub fn recv<T>(self, receiver: &Receiver<T>) -> Result<T, RecvError> {
        let complaint = "passed a receiver that wasn't selected";
        let arm = Box::into_raw(self.arm_for(Kind::Receive, receiver, complaint));
        // SAFETY: as in `send`.
        let arm = unsafe { Box::from_raw(arm.cast::<RecvArm<'_, T>>()) };
        arm.finish()
    }
}

impl fmt::Debug for SelectedOperation<'_> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.pad("SelectedOperation { .. }")
    }
}

impl Drop for SelectedOperation<'_> {
    fn drop(&mut self) {
        if self.arm.take().is_some() && !std::thread::panicking() {
            panic!("dropped `SelectedOperation` without completing the operation");
        }
    }
}
