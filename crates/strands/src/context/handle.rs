//! Cancelling, and what is called then.

use super::node::Node;
use super::{Cause, Context, ContextError};
use std::error::Error;
use std::fmt;
use std::panic::{RefUnwindSafe, UnwindSafe};
use std::sync::Arc;

/// The right to cancel a context. **Dropping it cancels.**
///
/// ```
/// use strands::context::{self, Context};
///
/// fn first_answer(parent: &Context) -> Option<u32> {
///     let (ctx, _cancel) = context::with_cancel(parent);
///     // Whatever way leads out of here, those who work under `ctx` are told.
///     ctx.check().ok()?;
///     Some(42)
/// }
/// assert_eq!(first_answer(&context::background()), Some(42));
/// ```
///
/// Bind it to a name: `let (ctx, _) = …` drops it at once.
pub struct CancelHandle {
    /// `None`: the right was given away.
    node: Option<Arc<Node>>,
}

impl UnwindSafe for CancelHandle {}
impl RefUnwindSafe for CancelHandle {}

impl CancelHandle {
    pub(super) fn of(node: Arc<Node>) -> CancelHandle {
        CancelHandle { node: Some(node) }
    }

    /// Cancels the context, and all below it. Those who wait are woken before this returns. If it is done
    /// already, nothing happens.
    ///
    /// Blocks: nothing.
    ///
    /// # Panics
    /// If there are functions to be called ([`after_func`]) and memory or a thread for that is refused.
    pub fn cancel(&self) {
        self.cancel_for(None);
    }

    /// As [`cancel`](CancelHandle::cancel), and says why: see [`cause`](super::cause).
    ///
    /// Anything that `?` makes an error of will do: an error, a text.
    ///
    /// # Panics
    /// As [`cancel`](CancelHandle::cancel).
    pub fn cancel_with(&self, cause: impl Into<Box<dyn Error + Send + Sync>>) {
        self.cancel_for(Some(Cause::from(cause.into())));
    }

    fn cancel_for(&self, cause: Option<Cause>) {
        if let Some(node) = &self.node {
            node.cancel(ContextError::Canceled, cause);
        }
    }

    /// Gives the right away: the context is done when its deadline has passed or its parent is done, or never.
    pub fn keep(mut self) {
        self.node = None;
    }
}

impl Drop for CancelHandle {
    fn drop(&mut self) {
        self.cancel();
    }
}

impl fmt::Debug for CancelHandle {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.pad("CancelHandle { .. }")
    }
}

/// Has `f` called in a goroutine of its own once the context is done; at once, if it is.
///
/// The handle can take that back, and need not be kept. Somebody must have the context, though (a clone of it, one
/// below it, its [`CancelHandle`] or this handle): when nobody has, `f` is dropped with it.
///
/// # Panics
/// If memory or a thread is refused, where it is called or where the context is cancelled. A panic of `f` is
/// printed, as of any goroutine that nobody joins.
///
/// # Examples
///
/// Waking what knows nothing of contexts:
///
/// ```
/// use strands::{channel, context};
///
/// let (ctx, cancel) = context::with_cancel(&context::background());
/// let (tx, rx) = channel::unbounded::<u32>();
/// let closer = context::after_func(&ctx, move || tx.close());
/// cancel.cancel();
/// assert!(rx.recv().is_err());
/// assert!(!closer.stop(), "too late");
/// ```
pub fn after_func<F>(context: &Context, f: F) -> AfterFunc
where
    F: FnOnce() + Send + 'static,
{
    let registered = context.node.as_ref().map(|node| (Arc::clone(node), node.after(Box::new(f))));
    AfterFunc { registered }
}

/// Can take back what [`after_func`] has arranged. Dropping it changes nothing.
pub struct AfterFunc {
    /// `None`: the context is never done.
    registered: Option<(Arc<Node>, usize)>,
}

impl UnwindSafe for AfterFunc {}
impl RefUnwindSafe for AfterFunc {}

impl AfterFunc {
    /// Takes it back: true if the function will not be called; it has been dropped. False if it has been
    /// called, or was taken back before. Does not wait for a call in progress.
    ///
    /// On a context that is never done: true.
    pub fn stop(self) -> bool {
        self.registered.is_none_or(|(node, place)| node.take_back(place))
    }
}

impl fmt::Debug for AfterFunc {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.pad("AfterFunc { .. }")
    }
}
