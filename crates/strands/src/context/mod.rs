//! Contexts: cancellation, deadlines and request-scoped values, handed down from caller to callee. Go's
//! `context`.
//!
//! ```
//! use strands::channel::unbounded;
//! use strands::context::{self, ContextError, RecvContextError};
//!
//! let (ctx, cancel) = context::with_cancel(&context::background());
//! let (_tx, rx) = unbounded::<u32>();
//! let worker = strands::go({
//!     let ctx = ctx.clone();
//!     move || rx.recv_ctx(&ctx)
//! });
//! cancel.cancel();
//! assert_eq!(worker.join().unwrap(), Err(RecvContextError::Done(ContextError::Canceled)));
//! assert_eq!(ctx.err().unwrap().to_string(), "context canceled");
//! ```
//!
//! A [`Context`] is a word that a caller gives to those who work for it, and by which it tells them that their
//! work is no longer wanted. Contexts form a tree: one that is made from another is done when that one is.
//!
//! | made by | done when |
//! |---|---|
//! | [`background`] | never |
//! | [`with_cancel`] | its [`CancelHandle`] is used, or dropped |
//! | [`with_deadline`], [`with_timeout`] | that, or the time has come |
//! | [`signals`], [`ctrl_c`] | that, or the process gets a signal |
//! | [`with_value`] | its parent is |
//! | [`without_cancel`] | never |
//!
//! # Being told
//!
//! Cancellation is cooperative. Nothing is killed or unwound: who works under a context looks at it, or waits in
//! a way that ends with it.
//!
//! | to wait for | write |
//! |---|---|
//! | a message, room for one | [`rx.recv_ctx(&ctx)`](crate::channel::Receiver::recv_ctx), [`tx.send_ctx(message, &ctx)`](crate::channel::Sender::send_ctx) |
//! | a lock, a permit | [`lock_ctx`](crate::sync::Mutex::lock_ctx), [`read_ctx`](crate::sync::RwLock::read_ctx), [`write_ctx`](crate::sync::RwLock::write_ctx), [`acquire_ctx`](crate::sync::Semaphore::acquire_ctx) |
//! | a condition | [`wait_ctx`](crate::sync::Condvar::wait_ctx), [`wait_while_ctx`](crate::sync::Condvar::wait_while_ctx) |
//! | a group's end | [`wait_ctx`](crate::sync::WaitGroup::wait_ctx) |
//! | a goroutine's end | [`handle.join_ctx(&ctx)`](crate::JoinHandle::join_ctx) |
//! | time to pass | [`ctx.sleep(time)`](Context::sleep) |
//! | several things | `select! { recv(ctx.done()) -> _ => …, … }` |
//! | anything else that has an async form: a broadcast, a watch | [`ctx.run(receiver.recv_async())`](Context::run) |
//! | nothing: in the midst of computing | [`ctx.check()?`](Context::check) |
//!
//! A context that is done already wins: such an operation then does nothing, though it could. While it waits,
//! whichever comes first wins; one that has lost has taken nothing and sent nothing.
//!
//! # What it costs
//!
//! [`err`](Context::err) is one atomic load. A cancellation passes once over those who wait, however many, and
//! over the contexts below. A deadline is an entry in a heap, without a goroutine or a thread of its own, and is
//! taken out when the context is done or its last handle is dropped; a context whose parent's deadline is
//! earlier has none. What no handle is left of leaves its parent: one that lives as long as the process keeps
//! nothing of a million children it had.
//!
//! # What differs from Go
//!
//! * Dropping a [`CancelHandle`] cancels, so that no way out of a function forgets it. Go has `defer cancel()`, and
//!   a lint. [`CancelHandle::keep`] is for the other case.
//! * Values are found by their type, not by a key: see [`with_value`].
//! * `done()` is a [`Receiver`] that gets no message, and is disconnected when the context is done.
//! * A function given to [`after_func`] needs somebody who has the context, or it is dropped with it.

mod blocking;
mod error;
mod handle;
mod locks;
mod node;
mod signals;
mod slab;

pub use error::{ContextError, RecvContextError, SendContextError};
pub use handle::{AfterFunc, CancelHandle, after_func};
pub use signals::{Signal, SignalReceived, ctrl_c, signals};

use crate::channel::{Receiver, never};
use node::Node;
use std::any::Any;
use std::convert::Infallible;
use std::error::Error;
use std::fmt;
use std::panic::{RefUnwindSafe, UnwindSafe};
use std::sync::{Arc, LazyLock};
use std::time::{Duration, Instant};

/// Why a context was cancelled, in the words of whoever did it. See [`cause`].
pub type Cause = Arc<dyn Error + Send + Sync>;

/// Says when work is no longer wanted, and carries values. See the [module](self).
///
/// Clones are the same context.
#[derive(Clone)]
pub struct Context {
    /// `None`: it is never done.
    node: Option<Arc<Node>>,
    values: Option<Arc<Values>>,
}

impl UnwindSafe for Context {}
impl RefUnwindSafe for Context {}

/// A value, and those that were there before.
struct Values {
    value: Box<dyn Any + Send + Sync>,
    former: Option<Arc<Values>>,
}

impl Drop for Values {
    fn drop(&mut self) {
        // Not one within the other: the chain may be long.
        let mut next = self.former.take();
        while let Some(mut values) = next.and_then(Arc::into_inner) {
            next = values.former.take();
        }
    }
}

/// The context that is never done and has no values: the root of all others.
pub fn background() -> Context {
    Context { node: None, values: None }
}

/// [`background`], by a name that says that the right context is not at hand yet.
pub fn todo() -> Context {
    background()
}

/// A context that is done when the handle is used or dropped, or when `parent` is.
///
/// # Examples
///
/// ```
/// use strands::context::{self, ContextError};
///
/// let (ctx, cancel) = context::with_cancel(&context::background());
/// assert_eq!(ctx.err(), None);
/// drop(cancel);
/// assert_eq!(ctx.err(), Some(ContextError::Canceled));
/// ```
#[must_use = "dropping the handle cancels the context"]
pub fn with_cancel(parent: &Context) -> (Context, CancelHandle) {
    under(parent, None, None)
}

/// A context that is done when `deadline` has passed, the handle is used or dropped, or `parent` is done.
///
/// One whose deadline has passed already is done from the start.
///
/// # Panics
/// If memory, or a thread for the first deadline of the process, is refused.
#[must_use = "dropping the handle cancels the context"]
pub fn with_deadline(parent: &Context, deadline: Instant) -> (Context, CancelHandle) {
    under(parent, Some(deadline), None)
}

/// As [`with_deadline`], with a cause, which [`cause`] returns if it is this deadline that ends the context. One
/// that comes no sooner than that of `parent` never does.
///
/// # Panics
/// As [`with_deadline`].
#[must_use = "dropping the handle cancels the context"]
pub fn with_deadline_cause(
    parent: &Context,
    deadline: Instant,
    cause: impl Into<Box<dyn Error + Send + Sync>>,
) -> (Context, CancelHandle) {
    under(parent, Some(deadline), Some(Arc::from(cause.into())))
}

/// As [`with_deadline`], so long from now. A time that is past all reckoning sets no deadline.
///
/// # Panics
/// As [`with_deadline`].
///
/// # Examples
///
/// ```
/// use std::time::Duration;
/// use strands::context::{self, ContextError};
///
/// let (ctx, _cancel) = context::with_timeout(&context::background(), Duration::from_millis(2));
/// assert_eq!(ctx.sleep(Duration::from_secs(3600)), Err(ContextError::DeadlineExceeded));
/// ```
#[must_use = "dropping the handle cancels the context"]
pub fn with_timeout(parent: &Context, timeout: Duration) -> (Context, CancelHandle) {
    under(parent, Instant::now().checked_add(timeout), None)
}

/// As [`with_timeout`], with a cause: see [`with_deadline_cause`].
///
/// # Panics
/// As [`with_deadline`].
///
/// # Examples
///
/// ```
/// use std::time::Duration;
/// use strands::context::{self, ContextError};
///
/// let millisecond = Duration::from_millis(1);
/// let (ctx, _cancel) =
///     context::with_timeout_cause(&context::background(), millisecond, "the disk is too slow");
/// assert_eq!(ctx.sleep(Duration::from_secs(3600)), Err(ContextError::DeadlineExceeded));
/// assert_eq!(context::cause(&ctx).unwrap().to_string(), "the disk is too slow");
/// ```
#[must_use = "dropping the handle cancels the context"]
pub fn with_timeout_cause(
    parent: &Context,
    timeout: Duration,
    cause: impl Into<Box<dyn Error + Send + Sync>>,
) -> (Context, CancelHandle) {
    under(parent, Instant::now().checked_add(timeout), Some(Arc::from(cause.into())))
}

fn under(
    parent: &Context,
    deadline: Option<Instant>,
    cause: Option<Cause>,
) -> (Context, CancelHandle) {
    let node = Node::under(parent.node.as_ref(), deadline, cause);
    let context = Context { node: Some(Arc::clone(&node)), values: parent.values.clone() };
    (context, CancelHandle::of(node))
}

/// `parent` with a value, which [`Context::value`] finds by its type.
///
/// It hides a value of the same type that `parent` has. So that two libraries do not find each other's
/// strings, wrap what you store in a type of your own, as in Go one makes a key of one's own type.
///
/// # Examples
///
/// ```
/// use strands::context;
///
/// struct RequestId(u64);
///
/// let ctx = context::with_value(&context::background(), RequestId(7));
/// assert_eq!(ctx.value::<RequestId>().map(|id| id.0), Some(7));
/// assert!(ctx.value::<u64>().is_none());
/// ```
pub fn with_value<T: Send + Sync + 'static>(parent: &Context, value: T) -> Context {
    let former = parent.values.clone();
    let values = Some(Arc::new(Values { value: Box::new(value), former }));
    Context { node: parent.node.clone(), values }
}

/// A context with the values of `parent` that is not done when `parent` is, and has no deadline: for what has to
/// be finished all the same.
pub fn without_cancel(parent: &Context) -> Context {
    Context { node: None, values: parent.values.clone() }
}

/// Why a context is done: what was given to [`CancelHandle::cancel_with`], or else its
/// [`err`](Context::err). `None` as long as it is not done.
///
/// As with `err`, what came first counts, here or above.
///
/// # Examples
///
/// ```
/// use strands::context;
///
/// let (ctx, cancel) = context::with_cancel(&context::background());
/// let (child, _keep) = context::with_cancel(&ctx);
/// cancel.cancel_with("the client has hung up");
/// assert_eq!(context::cause(&child).unwrap().to_string(), "the client has hung up");
/// assert_eq!(child.err().unwrap().to_string(), "context canceled");
/// ```
pub fn cause(context: &Context) -> Option<Cause> {
    let node = context.node.as_ref()?;
    let error = node.error()?;
    Some(node.cause().unwrap_or_else(|| Arc::new(error)))
}

impl Context {
    /// Why it is done; `None` as long as it is not. One atomic load.
    ///
    /// A deadline shows once its timer has gone off, some tens of microseconds after it has passed.
    #[inline]
    pub fn err(&self) -> Option<ContextError> {
        self.node.as_ref().and_then(|node| node.error())
    }

    /// [`err`](Context::err) in a form for `?`.
    ///
    /// # Errors
    /// It is done.
    #[inline]
    pub fn check(&self) -> Result<(), ContextError> {
        self.err().map_or(Ok(()), Err)
    }

    /// A receiver that gets no message, and is disconnected when the context is done.
    ///
    /// For select, and by [`recv_async`](Receiver::recv_async) for async code. Closing it does nothing.
    ///
    /// # Examples
    ///
    /// ```
    /// use std::time::Duration;
    /// use strands::{channel, context, select};
    ///
    /// let (ctx, _cancel) = context::with_timeout(&context::background(), Duration::from_millis(1));
    /// let (_tx, rx) = channel::unbounded::<u32>();
    /// select! {
    ///     recv(ctx.done()) -> _ => println!("{}", ctx.err().unwrap()),
    ///     recv(rx) -> _ => unreachable!("nobody sends"),
    /// }
    /// ```
    #[inline]
    pub fn done(&self) -> &Receiver<Infallible> {
        static NEVER: LazyLock<Receiver<Infallible>> = LazyLock::new(never);
        match &self.node {
            Some(node) => node.done(),
            None => &NEVER,
        }
    }

    /// When it will be done at the latest, if that is known: its deadline, or that of one above it which is
    /// earlier.
    pub fn deadline(&self) -> Option<Instant> {
        self.node.as_ref()?.deadline()
    }

    /// The value of that type that was added last.
    pub fn value<T: 'static>(&self) -> Option<&T> {
        let mut values = self.values.as_ref();
        while let Some(at) = values {
            if let Some(value) = at.value.downcast_ref() {
                return Some(value);
            }
            values = at.former.as_ref();
        }
        None
    }
}

/// The [`background`].
impl Default for Context {
    fn default() -> Context {
        background()
    }
}

impl fmt::Debug for Context {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Context")
            .field("err", &self.err())
            .field("deadline", &self.deadline())
            .finish_non_exhaustive()
    }
}

/// Contexts are handed to goroutines, and shared by them.
const _: fn() = || {
    fn check<T: Send + Sync + UnwindSafe + RefUnwindSafe + 'static>() {}
    check::<Context>();
    check::<CancelHandle>();
    check::<AfterFunc>();
};

#[cfg(test)]
mod tests {
    use super::*;

    fn children(context: &Context) -> usize {
        context.node.as_ref().expect("it is no background").children()
    }

    #[test]
    fn a_parent_keeps_nothing_of_the_children_it_had() {
        let (root, _cancel) = with_cancel(&background());
        for n in 0..1_000_000 {
            let (child, cancel) = with_cancel(&root);
            match n % 3 {
                0 => drop(cancel),
                1 => drop(child),
                _ => cancel.keep(),
            }
        }
        assert_eq!(children(&root), 0);
    }

    #[test]
    fn a_child_leaves_when_it_is_cancelled_and_when_it_is_dropped() {
        let (root, _cancel) = with_cancel(&background());
        let (one, cancel_one) = with_cancel(&root);
        let (other, cancel_other) = with_cancel(&root);
        assert_eq!(children(&root), 2);
        cancel_one.cancel();
        assert_eq!(children(&root), 1);
        // Its place is another's now, which it must not take along.
        let (third, cancel_third) = with_cancel(&root);
        drop((one, cancel_one));
        assert_eq!(children(&root), 2);
        cancel_other.keep();
        cancel_third.keep();
        drop(other);
        assert_eq!(children(&root), 1);
        let value = with_value(&third, 1);
        drop(third);
        assert_eq!(children(&root), 1, "with a value it is the same one");
        drop(value);
        assert_eq!(children(&root), 0);
    }

    #[test]
    fn a_child_whose_parent_is_earlier_has_no_timer_and_that_deadline() {
        let soon = Instant::now() + Duration::from_secs(1000);
        let (root, _cancel) = with_deadline(&background(), soon);
        let (child, _keep) = with_deadline(&root, soon + Duration::from_secs(1));
        assert_eq!(child.deadline(), Some(soon));
        assert!(!child.node.as_ref().is_some_and(|node| node.has_alarm()));
        assert!(root.node.as_ref().is_some_and(|node| node.has_alarm()));
    }
}
