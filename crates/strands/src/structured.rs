//! Scopes whose children may fail: [`try_scope`], where the first failure ends the rest, and [`supervise`], where
//! it touches nobody.
//!
//! Both are a [`Scope`] with a place for what became of its children. The scope does the waiting and makes the
//! borrowing sound; here is only what is noted, and whom it cancels. Nothing is killed or unwound: a
//! child that is no longer wanted learns of it by its context.
//!
//! **Invariant:** a child's failure is noted by the child itself, before it ends. So what the scope finds at its
//! end is complete, and in the order of time.

use crate::context::{CancelHandle, Context, background, with_cancel};
use crate::everyday::catch;
use crate::thread::{Scope, ScopedJoinHandle, Thread};
use crate::wait::ShortLock;
use std::any::Any;
use std::error::Error;
use std::fmt;
use std::mem;
use std::panic::{AssertUnwindSafe, catch_unwind, resume_unwind};

type Payload = Box<dyn Any + Send>;

/// Runs `f` with a scope whose goroutines may borrow local things, as in [`scope`](crate::scope), and may fail:
/// the first error, of one of them or of `f`, cancels the scope's [context](TryScope::context) and is returned
/// once all have ended.
///
/// Cancellation is cooperative: children that wait do so [under the context](crate::context), others look
/// at it now and then. One that does neither is waited for.
///
/// Blocks: the goroutine, or else the thread.
///
/// # Errors
/// What failed first, by time, with all that failed later attached.
///
/// # Panics
/// If `f` or a child panicked, with the payload of the first that did, after all have ended. A panic cancels, as
/// an error does, and goes before all errors.
///
/// # Examples
///
/// ```
/// let words = ["1", "2", "three", "4"];
/// let sum = strands::try_scope(|s| {
///     let numbers = words.map(|word| s.go(move || word.parse::<u32>()));
///     Ok(numbers.into_iter().filter_map(|number| number.join()).sum::<u32>())
/// });
/// assert_eq!(sum.unwrap_err().first.to_string(), "invalid digit found in string");
/// ```
///
/// One that waits for what will not come any more:
///
/// ```
/// use strands::channel::unbounded;
///
/// let (_tx, rx) = unbounded::<u32>();
/// let failed = strands::try_scope(|s| {
///     s.go(|| rx.recv_ctx(s.context()).map_err(|error| error.to_string()));
///     s.go(|| Err::<(), _>("disk full".to_owned()));
///     Ok(())
/// });
/// let failed = failed.unwrap_err();
/// assert_eq!((&*failed.first, &*failed.others), ("disk full", &["context canceled".to_owned()][..]));
/// ```
///
/// A child cannot borrow what is local to the body:
///
/// ```compile_fail
/// let _: Result<(), strands::Failed<()>> = strands::try_scope(|s| {
///     let local = 1;
///     s.go(|| Ok(println!("{local}")));
///     Ok(())
/// });
/// ```
///
/// nor can a handle leave the scope:
///
/// ```compile_fail
/// let mut stolen = None;
/// let _: Result<(), strands::Failed<()>> = strands::try_scope(|s| {
///     stolen = Some(s.go(|| Ok(1)));
///     Ok(())
/// });
/// ```
#[track_caller]
pub fn try_scope<'env, F, T, E>(f: F) -> Result<T, Failed<E>>
where
    F: for<'scope> FnOnce(&'scope TryScope<'scope, 'env, E>) -> Result<T, E>,
    E: Send,
{
    try_scope_with(&background(), f)
}

/// As [`try_scope`], with a context for the scope to be under: its cancellation, or its deadline, reaches the
/// children.
///
/// That alone is no failure. If nobody fails because of it the scope succeeds.
///
/// Blocks: the goroutine, or else the thread.
///
/// # Errors
/// As [`try_scope`].
///
/// # Panics
/// As [`try_scope`].
///
/// # Examples
///
/// A scope with a deadline:
///
/// ```
/// use std::time::Duration;
/// use strands::context::{self, ContextError};
///
/// let (ctx, _cancel) = context::with_timeout(&context::background(), Duration::from_millis(2));
/// let late = strands::try_scope_with(&ctx, |s| {
///     s.go(|| s.context().sleep(Duration::from_secs(3600)));
///     Ok(())
/// });
/// assert_eq!(late.unwrap_err().first, ContextError::DeadlineExceeded);
/// ```
#[track_caller]
pub fn try_scope_with<'env, F, T, E>(context: &Context, f: F) -> Result<T, Failed<E>>
where
    F: for<'scope> FnOnce(&'scope TryScope<'scope, 'env, E>) -> Result<T, E>,
    E: Send,
{
    let (context, cancel) = with_cancel(context);
    let noted = Noted { errors: Vec::new(), panic: None };
    // SAFETY: all that is done with it is done in `enclose`, by `f` and the children, who see it with the
    // lifetimes that `scope` has.
    let scope = unsafe { Scope::new() };
    let scope = TryScope { scope, context, cancel, noted: ShortLock::new(noted) };
    // What the body has failed with is noted before the children are waited for.
    let (value, _) =
        scope.scope.enclose(|| scope.note(catch_unwind(AssertUnwindSafe(|| f(&scope)))));
    let Noted { errors, panic } =
        mem::replace(&mut *scope.noted.lock(), Noted { errors: Vec::new(), panic: None });
    if let Some(payload) = panic {
        resume_unwind(payload);
    }
    let mut errors = errors.into_iter();
    match (errors.next(), value) {
        (Some(first), _) => Err(Failed { first, others: errors.collect() }),
        (None, Ok(Some(value))) => Ok(value),
        (None, _) => unreachable!("a body without a value has failed, and that was noted"),
    }
}

/// A scope whose goroutines may fail: see [`try_scope`].
pub struct TryScope<'scope, 'env: 'scope, E> {
    scope: Scope<'scope, 'env>,
    context: Context,
    cancel: CancelHandle,
    noted: ShortLock<Noted<E>>,
}

/// Failures, in the order of time.
struct Noted<E> {
    errors: Vec<E>,
    /// The first panic's payload.
    panic: Option<Payload>,
}

impl<'scope, 'env, E: Send> TryScope<'scope, 'env, E> {
    /// Starts a goroutine that may borrow whatever outlives the scope. If it fails, or panics, the scope's
    /// context is cancelled.
    ///
    /// # Panics
    /// If memory or a thread is refused.
    #[track_caller]
    pub fn go<F, T>(&'scope self, f: F) -> TryJoinHandle<'scope, T>
    where
        F: FnOnce() -> Result<T, E> + Send + 'scope,
        T: Send + 'scope,
        E: 'scope,
    {
        TryJoinHandle { handle: self.scope.go(move || self.note(catch(f))) }
    }

    /// The context that is cancelled when something fails, and when the scope has ended.
    pub fn context(&self) -> &Context {
        &self.context
    }

    /// Notes what became of the body or of a child, if it has failed.
    fn note<T>(&self, outcome: std::thread::Result<Result<T, E>>) -> Option<T> {
        let failure = match outcome {
            Ok(Ok(value)) => return Some(value),
            Ok(Err(error)) => Ok(error),
            Err(payload) => Err(payload),
        };
        let mut noted = self.noted.lock();
        let superfluous = match failure {
            Ok(error) => {
                noted.errors.push(error);
                None
            }
            Err(payload) if noted.panic.is_none() => {
                noted.panic = Some(payload);
                None
            }
            Err(payload) => Some(payload),
        };
        drop(noted);
        // The hook has printed it, and its drop might panic.
        mem::forget(superfluous);
        self.cancel.cancel();
        None
    }
}

impl<E> fmt::Debug for TryScope<'_, '_, E> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("TryScope")
            .field("scope", &self.scope)
            .field("context", &self.context)
            .finish_non_exhaustive()
    }
}

/// Owns the right to join a goroutine of a [`try_scope`]. Dropping it is fine: the scope waits all the same.
pub struct TryJoinHandle<'scope, T> {
    handle: ScopedJoinHandle<'scope, Option<T>>,
}

impl<T> TryJoinHandle<'_, T> {
    /// Waits for the goroutine to end, and returns its value; `None` if it has failed, which the scope will
    /// report.
    ///
    /// Blocks: the goroutine, or else the thread.
    pub fn join(self) -> Option<T> {
        // A panic has been caught, and comes out of the scope.
        self.handle.join().ok().flatten()
    }

    /// Whether the goroutine has ended, so that `join` would not wait. Never blocks.
    pub fn is_finished(&self) -> bool {
        self.handle.is_finished()
    }

    /// A handle to the goroutine.
    pub fn thread(&self) -> &Thread {
        self.handle.thread()
    }
}

impl<T> fmt::Debug for TryJoinHandle<'_, T> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.pad("TryJoinHandle { .. }")
    }
}

/// What went wrong in a [`try_scope`]. Shows itself as the first error.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Failed<E> {
    /// What failed first, by time.
    pub first: E,
    /// What failed after that, in the order of time: most often because it was cancelled.
    pub others: Vec<E>,
}

impl<E> Failed<E> {
    /// The first error, for `map_err(Failed::into_first)`.
    pub fn into_first(self) -> E {
        self.first
    }
}

impl<E: fmt::Display> fmt::Display for Failed<E> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        self.first.fmt(f)
    }
}

impl<E: Error> Error for Failed<E> {
    fn source(&self) -> Option<&(dyn Error + 'static)> {
        self.first.source()
    }
}

/// Runs `f` with a scope whose goroutines are isolated from each other: neither an error nor a panic of one
/// touches the others. Returns what `f` returned, and what became of each, in the order in which they were
/// started.
///
/// The goroutines may borrow local things, as in [`scope`](crate::scope). All return the same type, which for
/// those that may fail is a `Result`.
///
/// Blocks: the goroutine, or else the thread.
///
/// # Panics
/// If `f` panics, with its payload, after all have ended. A child's panic is in the outcomes.
///
/// # Examples
///
/// ```
/// let words = ["1", "two", "3"];
/// let ((), outcomes) = strands::supervise(|s| {
///     for word in &words {
///         s.go(move || word.parse::<u32>());
///     }
///     s.go(|| std::panic::resume_unwind(Box::new("lost")));
/// });
/// assert_eq!(outcomes.len(), 4);
/// assert_eq!(*outcomes[0].as_ref().unwrap(), Ok(1));
/// assert!(outcomes[1].as_ref().unwrap().is_err());
/// assert_eq!(*outcomes[2].as_ref().unwrap(), Ok(3));
/// assert_eq!(outcomes[3].as_ref().unwrap_err().downcast_ref(), Some(&"lost"));
/// ```
#[track_caller]
pub fn supervise<'env, F, T, R>(f: F) -> (R, Vec<std::thread::Result<T>>)
where
    F: for<'scope> FnOnce(&'scope Supervisor<'scope, 'env, T>) -> R,
    T: Send,
{
    // SAFETY: as in `try_scope_with`.
    let scope = unsafe { Scope::new() };
    let scope = Supervisor { scope, outcomes: ShortLock::new(Vec::new()) };
    let (result, _) = scope.scope.enclose(|| f(&scope));
    let outcomes = mem::take(&mut *scope.outcomes.lock());
    match result {
        // A place that is empty is of one that could not be started.
        Ok(value) => (value, outcomes.into_iter().flatten().collect()),
        Err(payload) => resume_unwind(payload),
    }
}

/// A scope whose goroutines are isolated from each other: see [`supervise`].
pub struct Supervisor<'scope, 'env: 'scope, T> {
    scope: Scope<'scope, 'env>,
    outcomes: ShortLock<Vec<Option<std::thread::Result<T>>>>,
}

impl<'scope, 'env, T: Send> Supervisor<'scope, 'env, T> {
    /// Starts a goroutine that may borrow whatever outlives the scope.
    ///
    /// # Panics
    /// If memory or a thread is refused.
    #[track_caller]
    pub fn go<F>(&'scope self, f: F)
    where
        F: FnOnce() -> T + Send + 'scope,
        T: 'scope,
    {
        let place = {
            let mut outcomes = self.outcomes.lock();
            outcomes.push(None);
            outcomes.len() - 1
        };
        drop(self.scope.go(move || {
            let outcome = catch(f);
            self.outcomes.lock()[place] = Some(outcome);
        }));
    }
}

impl<T> fmt::Debug for Supervisor<'_, '_, T> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Supervisor").field("scope", &self.scope).finish_non_exhaustive()
    }
}
