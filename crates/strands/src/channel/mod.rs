//! Channels: pipes for messages, between goroutines, plain threads and async tasks in any mixture.
//!
//! Names, shapes, error types and semantics are those of the `crossbeam-channel` crate, so that its users
//! change one `use` line.
//!
//! ```
//! use strands::channel::bounded;
//!
//! let (tx, rx) = bounded(2);
//! let worker = strands::go(move || {
//!     for word in ["ownership", "moves"] {
//!         tx.send(word.to_owned()).expect("the receiver is there");
//!     }
//! });
//! assert_eq!(rx.iter().collect::<Vec<_>>(), ["ownership", "moves"]);
//! worker.join().unwrap();
//! ```
//!
//! * [`bounded`] holds up to `cap` messages; with `cap` 0 it is a *rendezvous*: a send waits until a receiver
//!   takes the message from its hands. [`unbounded`] holds as many as memory does. [`sliding`] and
//!   [`dropping`] hold a few and never make a sender wait.
//! * [`Sender`] is the producer's role and [`Receiver`] the consumer's. Both can be cloned and sent
//!   anywhere; neither can do the other's work.
//! * A message is owned by whoever holds it. A send that cannot happen gives it back in its error.
//! * When all senders are gone, or either side calls `close`, receivers get what is left, and then
//!   [`RecvError`]. When all receivers are gone, senders get their message back, and what was left is dropped.
//! * [`select!`](crate::select) waits for several operations and does one of them; [`Select`] does so over a list
//!   made at run time. [`after`], [`at`], [`tick`] and [`never()`] make receivers of moments.
//! * `send` and `recv` block the goroutine, or else the thread; `send_async` and `recv_async` wait in async code, on
//!   any executor. All three meet on the same channel.
//! * A sender in a rendezvous goes on when its message has been taken; [`recv_with`](Receiver::recv_with) keeps it until the
//!   message has been dealt with.
//! * For special purposes: [`oneshot`](mod@oneshot) for one message, [`watch`](mod@watch) for the latest value,
//!   [`broadcast`](mod@broadcast) for messages to everybody.
//!
//! # What is promised
//!
//! * **Order.** Messages are received in the order in which they were sent. Among several receivers each
//!   message goes to one.
//! * **Fairness.** Those who wait are served first come, first served, whether they are goroutines, threads,
//!   async tasks or arms of a select: a message is handed to the receiver that has waited longest, and space to
//!   the sender that has. Nobody who arrives later can take it. (A plain thread, and a goroutine with nobody
//!   else to run at home, stays awake for some microseconds before it gets in line at a buffered channel.) A select
//!   picks among the arms that are ready at random, each as likely as any other. A goroutine that receives without ever
//!   having to wait gives those at home with it a turn after some thousand selects, or messages for which senders waited.
//! * **All or nothing.** An arm of a select that is not picked, an operation whose time is up, a future that is
//!   dropped: none of them has consumed or sent anything. A message that had been handed to a future before it
//!   was dropped goes to the next receiver, or back to the front of the channel: even of a rendezvous, whose
//!   sender was told that it had been received.
//! * **Happens-before.** A send happens before the receive of its message returns. The `n`th receive from
//!   a channel of capacity `cap` happens before the `n + cap`th send returns. The drop of the last sender, and
//!   `close`, happen before a receive returns `RecvError` for it. As in Go's memory model.
//! * **Waiting.** `try_` variants and a select with `default` do not wait for others (beyond a lock that is held
//!   for a few instructions, and the one case that [`Receiver::try_recv`] names). A goroutine that
//!   tries hundreds of times in vain, and does nothing else, gives others a turn: what it polls for may have to
//!   be done on its very thread. So do not poll with a lock of `std::sync` held.
//!
//! # What differs from crossbeam-channel
//!
//! Receivers and senders wait in one line; crossbeam's woken waiters race with newcomers. A panic in the
//! message's expression of a `select!` leaves the channel as if the arm had not been picked. There are close,
//! guards, `join` as an arm, futures, and the channels for special purposes.
//!
//! # What differs from Go
//!
//! There is no way to send on a closed channel by mistake: a send to one returns its message. There are unbounded
//! channels, time-outs without timers to stop, and selects that prefer their first arm
//! ([`select_biased!`](crate::select_biased)).
//!
//! **Invariant:** nothing in `channel` names `sched`: it waits at the seam (`wait`), and that is all.

mod arms;
pub mod broadcast;
mod buffer;
mod core;
mod dynamic;
mod error;
mod feed;
mod future;
mod iter;
#[cfg(all(test, loom))]
mod loom_tests;
pub mod oneshot;
mod receiver;
mod sender;
#[cfg(feature = "futures")]
mod stream;
mod timed;
mod waiting;
pub mod watch;

#[doc(hidden)]
pub use arms::{RecvArm, SendArm};
pub use broadcast::channel as broadcast;
pub use dynamic::{Select, SelectedOperation};
pub use error::{
    ReadyTimeoutError, RecvError, RecvTimeoutError, SelectTimeoutError, SendError,
    SendTimeoutError, TryReadyError, TryRecvError, TrySelectError, TrySendError,
};
pub use feed::ReadFuture;
#[doc(hidden)]
pub use feed::{FeedRef, ReadArm, Reader};
pub use future::{RecvFuture, SendFuture};
pub use iter::{IntoIter, Iter, TryIter};
pub use oneshot::channel as oneshot;
pub use receiver::Receiver;
pub use sender::Sender;
pub use timed::{after, at, never, tick};
pub use watch::channel as watch;

#[doc(hidden)]
pub use crate::crossbeam_channel_internal;
/// Also at the crate's root.
pub use crate::select;
/// Also at the crate's root.
pub use crate::select_biased;

use self::core::{Core, Overflow};
use self::receiver::Flavor;

/// Makes a channel that holds up to `cap` messages; with 0, a rendezvous.
///
/// # Examples
///
/// ```
/// use strands::channel::{TrySendError, bounded};
///
/// let (tx, rx) = bounded(1);
/// tx.try_send(1).unwrap();
/// assert_eq!(tx.try_send(2), Err(TrySendError::Full(2)));
/// assert_eq!(rx.recv(), Ok(1));
/// ```
///
/// A rendezvous:
///
/// ```
/// use strands::channel::bounded;
///
/// let (tx, rx) = bounded(0);
/// let giver = strands::go(move || tx.send("from hand to hand"));
/// assert_eq!(rx.recv(), Ok("from hand to hand"));
/// assert_eq!(giver.join().unwrap(), Ok(()));
/// ```
pub fn bounded<T>(cap: usize) -> (Sender<T>, Receiver<T>) {
    ends(Some(cap), Overflow::Wait)
}

/// Makes a channel that holds as many messages as memory does: `send` never blocks.
///
/// # Examples
///
/// ```
/// use strands::channel::unbounded;
///
/// let (tx, rx) = unbounded();
/// for n in 0..1000 {
///     tx.send(n).unwrap();
/// }
/// drop(tx);
/// assert_eq!(rx.iter().sum::<i32>(), 499_500);
/// ```
pub fn unbounded<T>() -> (Sender<T>, Receiver<T>) {
    ends(None, Overflow::Wait)
}

/// Makes a channel that holds the `cap` latest messages: sending to a full one drops the oldest, and never
/// blocks.
///
/// With 0 it holds none: a message that nobody waits for is dropped.
///
/// # Examples
///
/// ```
/// let (tx, rx) = strands::channel::sliding(2);
/// for n in 1..=5 {
///     tx.send(n).unwrap();
/// }
/// assert_eq!(rx.try_iter().collect::<Vec<_>>(), [4, 5]);
/// ```
pub fn sliding<T>(cap: usize) -> (Sender<T>, Receiver<T>) {
    ends(Some(cap), Overflow::DropOldest)
}

/// Makes a channel that holds the `cap` earliest messages: what is sent to a full one is dropped, and sending
/// never blocks.
///
/// With 0 it holds none: a message that nobody waits for is dropped. [`Sender::try_send`] cannot tell a
/// message that was dropped from one that was not; for that there is [`bounded`].
///
/// # Examples
///
/// ```
/// let (tx, rx) = strands::channel::dropping(2);
/// for n in 1..=5 {
///     tx.send(n).unwrap();
/// }
/// assert_eq!(rx.try_iter().collect::<Vec<_>>(), [1, 2]);
/// ```
pub fn dropping<T>(cap: usize) -> (Sender<T>, Receiver<T>) {
    ends(Some(cap), Overflow::DropNewest)
}

/// A receiver that gets no message, and is disconnected by [`go_off`](Receiver::go_off) alone: a piece of news
/// that any number may wait for.
#[cfg(not(loom))]
pub(crate) fn signal<T>() -> Receiver<T> {
    Receiver::of(Flavor::Channel(Core::signal()))
}

fn ends<T>(cap: Option<usize>, overflow: Overflow) -> (Sender<T>, Receiver<T>) {
    let (sender, receiver) = Core::ends(cap, overflow);
    (Sender::new(sender), Receiver::of(Flavor::Channel(receiver)))
}
