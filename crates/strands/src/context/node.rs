//! The tree of cancellation.
//!
//! A node knows its parent by a strong count, and its children by weak ones. So what nobody has a handle to is
//! gone, with its timer, and has left its parent: a parent that lives for ever keeps nothing of the children
//! it has had.
//!
//! ```text
//!   parent ── children: slab of Weak ──► child          child ── parent: Arc ──► parent
//!      │ cancel: under its lock, the state and cause are set, and children, functions, timer taken out;
//!      ▼         with no lock held: the `done` channel is disconnected, the timer put out,
//!   its children, one after the other, from a list (a tree may be a million deep)
//! ```
//!
//! # Why no cancellation is lost
//!
//! A child is put into its parent's slab under the parent's lock, where a parent that is done refuses it (the
//! child is then cancelled at once). So either the parent's cancellation finds the child, or the child finds it.
//! The `done` channel is made when first asked for, likewise: under the lock, by one who then looks whether it is
//! too late. One who has cancelled looks for it after that.
//!
//! The first cancellation wins: it alone finds the state `LIVE` under the lock.

use super::slab::{NOWHERE, Slab};
use super::{Cause, ContextError};
use crate::channel::{Receiver, signal};
use crate::everyday::go;
use crate::sched::AlarmFuture;
use crate::wait::ShortLock;
use std::any::Any;
use std::convert::Infallible;
use std::mem;
use std::pin::Pin;
use std::sync::atomic::{AtomicU8, AtomicUsize, Ordering};
use std::sync::{Arc, OnceLock, Weak};
use std::task::{Poll, Wake, Waker};
use std::time::Instant;

const LIVE: u8 = 0;
const CANCELED: u8 = 1;
const DEADLINE_EXCEEDED: u8 = 2;

/// A function to be called in a goroutine of its own.
pub(super) type Func = Box<dyn FnOnce() + Send>;

/// Something that can be cancelled.
pub(super) struct Node {
    /// `LIVE`, and then for good one of the others. Written under the lock.
    state: AtomicU8,
    parent: Option<Arc<Node>>,
    /// Where it is in its parent's slab; [`NOWHERE`] if it has left.
    place: AtomicUsize,
    deadline: Option<Instant>,
    /// Its cause, if its own deadline is what ends it.
    cause_when_late: Option<Cause>,
    done: OnceLock<Receiver<Infallible>>,
    inner: ShortLock<Inner>,
}

struct Inner {
    cause: Option<Cause>,
    children: Slab<Weak<Node>>,
    funcs: Slab<Func>,
    alarm: Option<AlarmFuture>,
    /// Dropped when the node is cancelled or dropped.
    guard: Option<Box<dyn Any + Send>>,
}

impl Inner {
    const fn new() -> Inner {
        Inner { cause: None, children: Slab::new(), funcs: Slab::new(), alarm: None, guard: None }
    }
}

impl Node {
    /// A node under `parent`, which is cancelled already if that is.
    pub(super) fn under(
        parent: Option<&Arc<Node>>,
        deadline: Option<Instant>,
        cause_when_late: Option<Cause>,
    ) -> Arc<Node> {
        let inherited = parent.and_then(|parent| parent.deadline);
        // A parent that is never later needs no help.
        let own = deadline.filter(|own| inherited.is_none_or(|inherited| *own < inherited));
        let node = Arc::new(Node {
            state: AtomicU8::new(LIVE),
            parent: parent.cloned(),
            place: AtomicUsize::new(NOWHERE),
            deadline: own.or(inherited),
            cause_when_late,
            done: OnceLock::new(),
            inner: ShortLock::new(Inner::new()),
        });
        if let Some(parent) = parent
            && !parent.adopt(&node)
        {
            let why = parent.error().expect("it has refused because it is done");
            node.cancel(why, parent.cause());
        } else if let Some(deadline) = own {
            node.set_alarm(deadline);
        }
        node
    }

    /// False if the parent is done.
    fn adopt(&self, child: &Arc<Node>) -> bool {
        let weak = Arc::downgrade(child);
        let mut inner = self.inner.lock();
        if self.error().is_some() {
            return false;
        }
        let place = inner.children.insert(weak);
        // Ordering: Relaxed, since it is read by who has the child from its maker, or under our lock.
        child.place.store(place, Ordering::Relaxed);
        true
    }

    /// Has itself cancelled at that moment.
    fn set_alarm(self: &Arc<Node>, deadline: Instant) {
        let mut alarm = AlarmFuture::new(deadline);
        let waker = Waker::from(Arc::new(Expiry(Arc::downgrade(self))));
        // With no lock held: it may start a thread.
        if let Poll::Ready(()) = Pin::new(&mut alarm).poll(&waker) {
            self.expire();
            return;
        }
        let mut alarm = Some(alarm);
        let mut inner = self.inner.lock();
        if self.error().is_none() {
            inner.alarm = alarm.take();
        }
        drop(inner);
        // If it is still here, it was quicker than we.
        drop(alarm);
    }

    /// Its own deadline has passed.
    fn expire(&self) {
        self.cancel(ContextError::DeadlineExceeded, self.cause_when_late.clone());
    }

    /// Why it is done, if it is.
    #[inline]
    pub(super) fn error(&self) -> Option<ContextError> {
        // Ordering: Acquire pairs with the Release in `end`: what came before the cancellation is seen.
        match self.state.load(Ordering::Acquire) {
            LIVE => None,
            CANCELED => Some(ContextError::Canceled),
            _ => Some(ContextError::DeadlineExceeded),
        }
    }

    pub(super) fn cause(&self) -> Option<Cause> {
        self.inner.lock().cause.clone()
    }

    pub(super) fn deadline(&self) -> Option<Instant> {
        self.deadline
    }

    /// Disconnected when it is done.
    #[inline]
    pub(super) fn done(&self) -> &Receiver<Infallible> {
        self.done.get().unwrap_or_else(|| self.make_done())
    }

    #[cold]
    fn make_done(&self) -> &Receiver<Infallible> {
        let fresh = signal();
        let inner = self.inner.lock();
        let superfluous = self.done.set(fresh);
        let is_late = self.error().is_some();
        drop(inner);
        drop(superfluous);
        let done = self.done.get().expect("it was set, if not by us");
        if is_late {
            done.go_off();
        }
        done
    }

    /// Cancels it and all below it. Nothing happens if it is done already.
    pub(super) fn cancel(&self, why: ContextError, cause: Option<Cause>) {
        let mut funcs = Vec::new();
        let Some(children) = self.end(why, cause.clone(), &mut funcs) else { return };
        self.leave();
        let mut pending = vec![children];
        while let Some(children) = pending.pop() {
            for child in children.into_things().filter_map(|child| child.upgrade()) {
                if let Some(children) = child.end(why, cause.clone(), &mut funcs)
                    && children.len() > 0
                {
                    pending.push(children);
                }
            }
        }
        for func in funcs {
            drop(go(func));
        }
    }

    /// Its own part of a cancellation; what is below it is returned. `None`: it was done before.
    fn end(
        &self,
        why: ContextError,
        cause: Option<Cause>,
        funcs: &mut Vec<Func>,
    ) -> Option<Slab<Weak<Node>>> {
        let mut inner = self.inner.lock();
        if self.error().is_some() {
            return None;
        }
        let taken = mem::replace(&mut *inner, Inner::new());
        inner.cause = cause;
        let state = match why {
            ContextError::Canceled => CANCELED,
            ContextError::DeadlineExceeded => DEADLINE_EXCEEDED,
        };
        // Ordering: Release pairs with the Acquire in `error`.
        self.state.store(state, Ordering::Release);
        drop(inner);
        if let Some(done) = self.done.get() {
            done.go_off();
        }
        funcs.extend(taken.funcs.into_things());
        drop((taken.alarm, taken.guard));
        Some(taken.children)
    }

    /// Has `func` called once it is done: now, if it is. Its place, to take it back.
    pub(super) fn after(&self, func: Func) -> usize {
        let mut inner = self.inner.lock();
        if self.error().is_none() {
            return inner.funcs.insert(func);
        }
        drop(inner);
        drop(go(func));
        NOWHERE
    }

    /// Takes a function back. False if it is too late.
    pub(super) fn take_back(&self, place: usize) -> bool {
        // Bound to a name, so that it is dropped when the lock is not.
        let taken = self.inner.lock().funcs.remove(place);
        taken.is_some()
    }

    /// Keeps `guard` until the node is done or gone.
    pub(super) fn keep(&self, guard: Box<dyn Any + Send>) {
        let mut guard = Some(guard);
        let mut inner = self.inner.lock();
        if self.error().is_none() {
            inner.guard = guard.take();
        }
        drop(inner);
        drop(guard);
    }

    /// Leaves its parent, who need not cancel it any more.
    fn leave(&self) {
        let Some(parent) = &self.parent else { return };
        // Ordering: Relaxed. The place was stored before anybody but its maker had the node.
        let place = self.place.swap(NOWHERE, Ordering::Relaxed);
        if place != NOWHERE {
            // A parent that is done has an empty slab, and adopts nobody.
            let left = parent.inner.lock().children.remove(place);
            drop(left);
        }
    }

    /// How many children it could cancel.
    #[cfg(test)]
    pub(super) fn children(&self) -> usize {
        self.inner.lock().children.len()
    }

    #[cfg(test)]
    pub(super) fn has_alarm(&self) -> bool {
        self.inner.lock().alarm.is_some()
    }
}

impl Drop for Node {
    fn drop(&mut self) {
        self.leave();
        // A chain may be so long that its links must not be dropped one within the other.
        let mut next = self.parent.take();
        while let Some(mut node) = next.and_then(Arc::into_inner) {
            node.leave();
            next = node.parent.take();
        }
    }
}

/// Cancels a node when its deadline has passed; keeps it no longer than others do.
struct Expiry(Weak<Node>);

impl Wake for Expiry {
    fn wake(self: Arc<Self>) {
        self.wake_by_ref();
    }

    fn wake_by_ref(self: &Arc<Self>) {
        if let Some(node) = self.0.upgrade() {
            node.expire();
        }
    }
}
