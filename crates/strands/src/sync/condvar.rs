//! [`Condvar`]: std's, for goroutines and threads. Who waits where is `raw`'s.

use super::raw::{Notice, RawCondvar, RawMutex};
use super::{LockResult, MutexGuard, PoisonError};
use std::cell::Cell;
use std::fmt;
use std::future::Future;
use std::panic::{RefUnwindSafe, UnwindSafe};
use std::pin::{Pin, pin};
use std::time::{Duration, Instant};

/// Waits, with a [`Mutex`](super::Mutex) unlocked meanwhile, until somebody says that what it guards may have
/// changed. As [`std::sync::Condvar`].
///
/// Those who have waited longest are notified first. A wait may end for no reason, so the condition is to be
/// looked at in a loop, or by [`wait_while`](Condvar::wait_while).
///
/// # Examples
///
/// ```
/// use strands::sync::{Arc, Condvar, Mutex};
///
/// let pair = Arc::new((Mutex::new(false), Condvar::new()));
/// let other = Arc::clone(&pair);
/// strands::go(move || {
///     *other.0.lock().unwrap() = true;
///     other.1.notify_one();
/// });
/// let ready = pair.1.wait_while(pair.0.lock().unwrap(), |ready| !*ready).unwrap();
/// assert!(*ready);
/// ```
///
/// # Differences from std
///
/// It may be used with several mutexes, one after another or at the same time. [`wait_ctx`](Condvar::wait_ctx) and
/// [`wait_while_ctx`](Condvar::wait_while_ctx) end with a context.
pub struct Condvar {
    raw: RawCondvar,
}

/// Whether a wait with a time-out has ended because of it. As [`std::sync::WaitTimeoutResult`].
#[derive(Debug, PartialEq, Eq, Copy, Clone)]
pub struct WaitTimeoutResult(bool);

impl WaitTimeoutResult {
    /// Whether the time has passed.
    #[must_use]
    pub fn timed_out(&self) -> bool {
        self.0
    }
}

impl UnwindSafe for Condvar {}
impl RefUnwindSafe for Condvar {}

impl Condvar {
    /// A condition variable for which nobody waits.
    #[must_use]
    pub const fn new() -> Condvar {
        Condvar { raw: RawCondvar::new() }
    }

    /// Unlocks the mutex, waits to be notified, and locks it again.
    ///
    /// No notification is lost in between.
    ///
    /// Blocks: the goroutine, or else the thread.
    ///
    /// # Errors
    /// The mutex is poisoned when it is locked again. The error has the guard.
    pub fn wait<'a, T>(&self, guard: MutexGuard<'a, T>) -> LockResult<MutexGuard<'a, T>> {
        self.wait_until(guard, None).0
    }

    /// Waits as long as the condition holds. It is called with the mutex locked, for the first time at once.
    ///
    /// Blocks: the goroutine, or else the thread.
    ///
    /// # Errors
    /// As [`wait`](Condvar::wait).
    ///
    /// # Panics
    /// If the condition does.
    pub fn wait_while<'a, T, F>(
        &self,
        mut guard: MutexGuard<'a, T>,
        mut condition: F,
    ) -> LockResult<MutexGuard<'a, T>>
    where
        F: FnMut(&mut T) -> bool,
    {
        while condition(&mut *guard) {
            guard = self.wait(guard)?;
        }
        Ok(guard)
    }

    /// As [`wait`](Condvar::wait), for at most this long, not counting the time it takes to lock again.
    ///
    /// Blocks: the goroutine, or else the thread.
    ///
    /// # Errors
    /// The mutex is poisoned when it is locked again. The error has the guard and the result.
    pub fn wait_timeout<'a, T>(
        &self,
        guard: MutexGuard<'a, T>,
        timeout: Duration,
    ) -> LockResult<(MutexGuard<'a, T>, WaitTimeoutResult)> {
        let (guard, in_time) = self.wait_until(guard, super::deadline_in(timeout));
        let result = WaitTimeoutResult(!in_time);
        match guard {
            Ok(guard) => Ok((guard, result)),
            Err(error) => Err(PoisonError::new((error.into_inner(), result))),
        }
    }

    /// As [`wait_while`](Condvar::wait_while), for at most this long. The result says that the time has passed
    /// only if the condition still held then.
    ///
    /// Blocks: the goroutine, or else the thread.
    ///
    /// # Errors
    /// As [`wait_timeout`](Condvar::wait_timeout).
    ///
    /// # Panics
    /// If the condition does.
    pub fn wait_timeout_while<'a, T, F>(
        &self,
        mut guard: MutexGuard<'a, T>,
        timeout: Duration,
        mut condition: F,
    ) -> LockResult<(MutexGuard<'a, T>, WaitTimeoutResult)>
    where
        F: FnMut(&mut T) -> bool,
    {
        let start = Instant::now();
        loop {
            if !condition(&mut *guard) {
                return Ok((guard, WaitTimeoutResult(false)));
            }
            let Some(left) = timeout.checked_sub(start.elapsed()) else {
                return Ok((guard, WaitTimeoutResult(true)));
            };
            guard = self.wait_timeout(guard, left)?.0;
        }
    }

    fn wait_until<'a, T>(
        &self,
        guard: MutexGuard<'a, T>,
        deadline: Option<Instant>,
    ) -> (LockResult<MutexGuard<'a, T>>, bool) {
        let (mutex, poison) = guard.parts();
        // SAFETY: the guard owns the lock, and does again when this returns; it is not used meanwhile.
        let in_time = unsafe { self.raw.wait(mutex, deadline) };
        (poison.wrap(guard), in_time)
    }

    /// Waits by a future that is ready once it was notified, and that unlocks the mutex when it is polled. When `wait`
    /// returns, be it that the future is ready or not, the mutex is locked again.
    pub(crate) fn wait_by<'a, T, R>(
        &self,
        guard: MutexGuard<'a, T>,
        wait: impl FnOnce(Pin<&mut dyn Future<Output = ()>>) -> R,
    ) -> (LockResult<MutexGuard<'a, T>>, R) {
        /// Also if `wait` panics: the guard, which goes last, unlocks.
        struct LockAgain<'a> {
            mutex: &'a RawMutex,
            unlocked: &'a Cell<bool>,
        }
        impl Drop for LockAgain<'_> {
            fn drop(&mut self) {
                if self.unlocked.get() {
                    self.mutex.lock();
                }
            }
        }
        let (mutex, poison) = guard.parts();
        let unlocked = Cell::new(false);
        let again = LockAgain { mutex, unlocked: &unlocked };
        // SAFETY: the guard owns the mutex, and is not used before that is so again.
        let result = wait(pin!(unsafe { Notice::new(&self.raw, mutex, &unlocked) }));
        drop(again);
        (poison.wrap(guard), result)
    }

    /// Wakes one who waits; if nobody does, nothing happens, now or later. Never blocks.
    #[inline]
    pub fn notify_one(&self) {
        self.raw.notify_one();
    }

    /// Wakes all who wait. Never blocks.
    #[inline]
    pub fn notify_all(&self) {
        self.raw.notify_all();
    }
}

impl Default for Condvar {
    fn default() -> Condvar {
        Condvar::new()
    }
}

impl fmt::Debug for Condvar {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Condvar").finish_non_exhaustive()
    }
}
