//! [`Group`]: goroutines that work on one thing, of which the first failure counts. Go's `errgroup`.

use crate::channel::{Receiver, Sender, TrySendError, bounded, signal};
use crate::context::{CancelHandle, Context, with_cancel};
use crate::everyday;
use crate::wait::ShortLock;
use std::any::Any;
use std::convert::Infallible;
use std::fmt;
use std::mem;
use std::panic::{RefUnwindSafe, UnwindSafe, resume_unwind};
use std::sync::Arc;

/// Starts goroutines that may fail, waits for all of them, and returns the first error.
///
/// ```
/// use strands::context;
/// use strands::sync::Group;
///
/// let (group, ctx) = Group::with_context(&context::background());
/// for n in 1..=3_u32 {
///     let ctx = ctx.clone();
///     group.go(move || {
///         if n == 2 {
///             return Err(format!("{n} has failed"));
///         }
///         // Ends when another has failed.
///         ctx.done().recv().map_err(|_| "cancelled".to_owned()).map(|never| match never {})
///     });
/// }
/// assert_eq!(group.wait(), Err("2 has failed".to_owned()));
/// ```
///
/// * The error that came first, by time, is the one that [`wait`](Group::wait) returns.
///   [`wait_all`](Group::wait_all) returns all, in the order in which they came.
/// * A group that was made by [`with_context`](Group::with_context) cancels its context at the first failure.
/// * **A panic is a failure**: it cancels too, and `wait` goes on with it once all have ended. (Unless it aborts
///   the process, if that is [configured](crate::runtime::Config::panic).)
/// * [`set_limit`](Group::set_limit) says how many may run at a time.
///
/// Clones are the same group, so that one of its goroutines can start others. A group that is dropped without
/// `wait` leaves its goroutines alone; its context is cancelled when the last of them has ended, if nobody has the
/// group then. What borrows local things belongs in a [`try_scope`](crate::try_scope).
///
/// # What differs from Go
///
/// There is no zero value to be used without [`new`](Group::new); goroutines return any type as their error; the
/// other errors are not lost; and a limit can be set only once, before the first goroutine starts, where Go
/// panics later.
pub struct Group<E> {
    shared: Arc<Shared<E>>,
}

impl<E> UnwindSafe for Group<E> {}
impl<E> RefUnwindSafe for Group<E> {}

struct Shared<E> {
    state: ShortLock<State<E>>,
    cancel: Option<CancelHandle>,
}

struct State<E> {
    running: usize,
    errors: Vec<E>,
    /// The first panic's payload.
    panic: Option<Payload>,
    /// One message for each that runs.
    limit: Option<(Sender<()>, Receiver<()>)>,
    /// Goes off when none runs; made by the first who waits for that.
    all_ended: Option<Receiver<Infallible>>,
}

type Payload = Box<dyn Any + Send>;

/// One that runs. Dropped when it has ended, or was not started after all.
struct Member<E> {
    shared: Arc<Shared<E>>,
    slot: Option<Receiver<()>>,
}

impl<E> Drop for Member<E> {
    fn drop(&mut self) {
        if let Some(slot) = &self.slot {
            let freed = slot.try_recv();
            debug_assert!(freed.is_ok(), "there is a message for each that runs");
        }
        let mut state = self.shared.state.lock();
        state.running -= 1;
        let all_ended = if state.running == 0 { state.all_ended.take() } else { None };
        drop(state);
        if let Some(all_ended) = all_ended {
            all_ended.go_off();
        }
    }
}

impl<E> Shared<E> {
    fn fail(&self, failure: Result<E, Payload>) {
        let mut state = self.state.lock();
        let superfluous = match failure {
            Ok(error) => {
                state.errors.push(error);
                None
            }
            Err(payload) if state.panic.is_none() => {
                state.panic = Some(payload);
                None
            }
            Err(payload) => Some(payload),
        };
        drop(state);
        // Its message has been printed by the hook, and its drop might panic.
        mem::forget(superfluous);
        self.cancel();
    }

    fn cancel(&self) {
        if let Some(cancel) = &self.cancel {
            cancel.cancel();
        }
    }
}

impl<E: Send + 'static> Group<E> {
    /// A group without a context: a failure tells nobody but [`wait`](Group::wait).
    pub fn new() -> Group<E> {
        Group::with(None)
    }

    /// A group, and a context below `parent` that is cancelled at the first failure, or else when
    /// [`wait`](Group::wait) returns.
    pub fn with_context(parent: &Context) -> (Group<E>, Context) {
        let (context, cancel) = with_cancel(parent);
        (Group::with(Some(cancel)), context)
    }

    fn with(cancel: Option<CancelHandle>) -> Group<E> {
        let state =
            State { running: 0, errors: Vec::new(), panic: None, limit: None, all_ended: None };
        Group { shared: Arc::new(Shared { state: ShortLock::new(state), cancel }) }
    }

    /// From now on at most `limit` of its goroutines run at a time; [`go`](Group::go) waits for its turn.
    ///
    /// # Panics
    /// If a limit was set before, or goroutines of the group are running; or if `limit` is 0, with which nothing
    /// could ever start.
    pub fn set_limit(&self, limit: usize) {
        assert!(limit > 0, "a group that may run nothing");
        let slots = bounded(limit);
        let mut state = self.shared.state.lock();
        let is_new = state.running == 0 && state.limit.is_none();
        let superfluous = if is_new { state.limit.replace(slots) } else { Some(slots) };
        drop(state);
        drop(superfluous);
        assert!(is_new, "a group's limit is set once, before its goroutines are started");
    }

    /// Starts a goroutine of the group.
    ///
    /// Blocks, if there is a limit: the goroutine, or else the thread, until fewer run. A goroutine of the group
    /// that calls this counts itself: with a limit it may wait for ever. It should use [`try_go`](Group::try_go).
    ///
    /// # Panics
    /// If memory or a thread is refused.
    #[track_caller]
    pub fn go<F>(&self, f: F)
    where
        F: FnOnce() -> Result<(), E> + Send + 'static,
    {
        let slot = self.slots().map(|(enter, leave)| {
            enter.send(()).expect("we have a receiver");
            leave
        });
        self.start(slot, f);
    }

    /// Starts a goroutine of the group, unless as many run as may. False if so; then `f` is dropped.
    ///
    /// # Panics
    /// If memory or a thread is refused.
    #[track_caller]
    pub fn try_go<F>(&self, f: F) -> bool
    where
        F: FnOnce() -> Result<(), E> + Send + 'static,
    {
        let slot = match self.slots() {
            None => None,
            Some((enter, leave)) => match enter.try_send(()) {
                Ok(()) => Some(leave),
                Err(TrySendError::Full(()) | TrySendError::Disconnected(())) => return false,
            },
        };
        self.start(slot, f);
        true
    }

    fn slots(&self) -> Option<(Sender<()>, Receiver<()>)> {
        self.shared.state.lock().limit.clone()
    }

    #[track_caller]
    fn start<F>(&self, slot: Option<Receiver<()>>, f: F)
    where
        F: FnOnce() -> Result<(), E> + Send + 'static,
    {
        self.shared.state.lock().running += 1;
        let member = Member { shared: Arc::clone(&self.shared), slot };
        // Should it not start, the closure is dropped, and the member with it.
        drop(everyday::go(move || {
            let failure = match everyday::catch(f) {
                Ok(Ok(())) => None,
                Ok(Err(error)) => Some(Ok(error)),
                Err(payload) => Some(Err(payload)),
            };
            if let Some(failure) = failure {
                member.shared.fail(failure);
            }
            drop(member);
        }));
    }

    /// Waits until all goroutines of the group have ended, and returns the first error. The other errors are
    /// dropped.
    ///
    /// After that the group is as new, but for its context, which is cancelled, and its limit.
    ///
    /// Blocks: the goroutine, or else the thread.
    ///
    /// # Errors
    /// The one that came first, by time.
    ///
    /// # Panics
    /// If one of them panicked, with the payload of the first that did; whatever the errors.
    pub fn wait(&self) -> Result<(), E> {
        self.wait_all().into_iter().next().map_or(Ok(()), Err)
    }

    /// As [`wait`](Group::wait), and returns all errors, in the order in which they came.
    ///
    /// Blocks: the goroutine, or else the thread.
    ///
    /// # Panics
    /// As [`wait`](Group::wait).
    pub fn wait_all(&self) -> Vec<E> {
        loop {
            let fresh = signal();
            let mut state = self.shared.state.lock();
            if state.running == 0 {
                let (errors, panic) = (mem::take(&mut state.errors), state.panic.take());
                drop(state);
                self.shared.cancel();
                if let Some(payload) = panic {
                    resume_unwind(payload);
                }
                return errors;
            }
            let all_ended = state.all_ended.get_or_insert(fresh).clone();
            drop(state);
            // Disconnected is what it will be.
            let Err(_) = all_ended.recv();
        }
    }
}

impl<E> Clone for Group<E> {
    fn clone(&self) -> Self {
        Group { shared: Arc::clone(&self.shared) }
    }
}

impl<E: Send + 'static> Default for Group<E> {
    fn default() -> Self {
        Group::new()
    }
}

impl<E> fmt::Debug for Group<E> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let state = self.shared.state.lock();
        f.debug_struct("Group")
            .field("running", &state.running)
            .field("errors", &state.errors.len())
            .finish_non_exhaustive()
    }
}
