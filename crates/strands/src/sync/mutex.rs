//! [`Mutex`]: std's, for goroutines, threads and async tasks. The lock itself is `raw`'s.

use super::poison::{Flag, Panicking};
use super::raw::{Locking, RawMutex};
use super::{LockResult, PoisonError, TryLockError, TryLockResult};
use std::cell::UnsafeCell;
use std::fmt;
use std::future::Future;
use std::marker::PhantomData;
use std::ops::{Deref, DerefMut};
use std::panic::{RefUnwindSafe, UnwindSafe};
use std::pin::Pin;
use std::task::{Context, Poll, ready};
use std::time::{Duration, Instant};

/// Guards data, for one at a time. As [`std::sync::Mutex`], poisoning included.
///
/// The guard may be held while its owner waits for something else, be it for long: only those who want the
/// same lock wait with it, and their threads do other things meanwhile.
///
/// # Examples
///
/// ```
/// use strands::sync::{Arc, Mutex};
///
/// let total = Arc::new(Mutex::new(0));
/// let workers: Vec<_> = (1..=4)
///     .map(|n| {
///         let total = Arc::clone(&total);
///         strands::go(move || *total.lock().unwrap() += n)
///     })
///     .collect();
/// for worker in workers {
///     worker.join().unwrap();
/// }
/// assert_eq!(*total.lock().unwrap(), 10);
/// ```
///
/// # Fairness
///
/// A lock that is given back goes to whoever comes first, which is fast; but to one who has waited for a
/// millisecond it is handed over. So nobody starves.
///
/// # Reports
///
/// A mutex knows on whose stack it was locked. So a [dump](crate::runtime::dump) names, for each who waits for it, the
/// goroutine or thread that holds it at that moment (just as it changes hands: none, or the one before), and the report of a
/// deadlock tells of those who wait for each other in a circle. One that was locked by [`lock_async`](Mutex::lock_async)
/// is "held by an async task". If a guard is leaked and its owner ends, whoever gets its stack may be named.
///
/// # Differences from std
///
/// [`try_lock_for`](Mutex::try_lock_for), [`try_lock_until`](Mutex::try_lock_until) and
/// [`lock_async`](Mutex::lock_async) have no counterpart there. Whoever locks a mutex that it holds already waits
/// for itself: if nothing else can go on, that is reported as a deadlock. Unsafe code that frees a mutex must know that
/// the guards' drops have returned ([why](super::raw#a-lock-must-outlive-the-call-that-gives-it-back)). Guards of a part of the data, which std
/// has not stabilised, are in [`raw`](super::raw).
pub struct Mutex<T: ?Sized> {
    raw: RawMutex,
    poison: Flag,
    data: UnsafeCell<T>,
}

// SAFETY: the lock passes the data from one to the next.
unsafe impl<T: ?Sized + Send> Send for Mutex<T> {}
// SAFETY: as above; the data has one user at a time.
unsafe impl<T: ?Sized + Send> Sync for Mutex<T> {}
impl<T: ?Sized> UnwindSafe for Mutex<T> {}
impl<T: ?Sized> RefUnwindSafe for Mutex<T> {}

/// The right to use what a [`Mutex`] guards, until dropped. As [`std::sync::MutexGuard`].
///
/// It cannot be sent, as std's cannot:
///
/// ```compile_fail,E0277
/// static LOCK: strands::sync::Mutex<i32> = strands::sync::Mutex::new(1);
/// let guard = LOCK.lock().unwrap();
/// strands::go(move || drop(guard));
/// ```
#[must_use = "if unused the Mutex will immediately unlock"]
#[clippy::has_significant_drop]
pub struct MutexGuard<'a, T: ?Sized + 'a> {
    lock: &'a Mutex<T>,
    entered: Panicking,
    not_send: PhantomData<*mut ()>,
}

// SAFETY: through a shared guard the data can only be shared.
unsafe impl<T: ?Sized + Sync> Sync for MutexGuard<'_, T> {}

impl<T> Mutex<T> {
    /// An unlocked mutex with the data in it.
    #[inline]
    pub const fn new(data: T) -> Mutex<T> {
        Mutex { raw: RawMutex::new(), poison: Flag::new(), data: UnsafeCell::new(data) }
    }

    /// The data.
    ///
    /// # Errors
    /// The mutex is poisoned; the error has the data.
    pub fn into_inner(self) -> LockResult<T> {
        let data = self.data.into_inner();
        if self.poison.get() { Err(PoisonError::new(data)) } else { Ok(data) }
    }
}

impl<T: ?Sized> Mutex<T> {
    /// Locks it, waiting until that is possible.
    ///
    /// Blocks: the goroutine, or else the thread.
    ///
    /// # Errors
    /// An owner has panicked while it held the lock. The error has the guard.
    #[inline]
    pub fn lock(&self) -> LockResult<MutexGuard<'_, T>> {
        let entered = self.poison.enter();
        self.raw.lock();
        // SAFETY: locked just now.
        unsafe { MutexGuard::of_one_who(entered, self) }
    }

    /// Locks it if it is free. Never blocks.
    ///
    /// # Errors
    /// [`WouldBlock`](TryLockError::WouldBlock) if it is not; [`Poisoned`](TryLockError::Poisoned), with the
    /// guard, if an owner has panicked.
    #[inline]
    pub fn try_lock(&self) -> TryLockResult<MutexGuard<'_, T>> {
        self.locked_if(self.raw.try_lock())
    }

    /// Locks it, waiting for at most this long.
    ///
    /// Blocks: the goroutine, or else the thread.
    ///
    /// # Errors
    /// As [`try_lock`](Mutex::try_lock); `WouldBlock` if the time has passed.
    ///
    /// # Examples
    ///
    /// ```
    /// use std::time::Duration;
    /// use strands::sync::{Mutex, TryLockError};
    ///
    /// let lock = Mutex::new(());
    /// let guard = lock.lock().unwrap();
    /// let refused = lock.try_lock_for(Duration::from_millis(1));
    /// assert!(matches!(refused, Err(TryLockError::WouldBlock)));
    /// drop(guard);
    /// assert!(lock.try_lock_for(Duration::ZERO).is_ok());
    /// ```
    pub fn try_lock_for(&self, timeout: Duration) -> TryLockResult<MutexGuard<'_, T>> {
        let taken = self.raw.try_lock() || self.raw.lock_until(super::deadline_in(timeout));
        self.locked_if(taken)
    }

    /// Locks it, waiting until then at most. A moment that has passed makes it one attempt.
    ///
    /// Blocks: the goroutine, or else the thread.
    ///
    /// # Errors
    /// As [`try_lock`](Mutex::try_lock); `WouldBlock` if the time has passed.
    pub fn try_lock_until(&self, deadline: Instant) -> TryLockResult<MutexGuard<'_, T>> {
        self.locked_if(self.raw.lock_until(Some(deadline)))
    }

    #[inline]
    fn locked_if(&self, taken: bool) -> TryLockResult<MutexGuard<'_, T>> {
        if !taken {
            return Err(TryLockError::WouldBlock);
        }
        // SAFETY: locked just now.
        Ok(unsafe { MutexGuard::new(self) }?)
    }

    /// Locks it in async code.
    ///
    /// Can be cancelled: a future that is dropped holds nothing, and if the lock was on its way to it, that goes
    /// to the next. One that was woken must be polled or dropped, for the lock may wait for it.
    ///
    /// # Errors
    /// The future's output is that of [`lock`](Mutex::lock).
    ///
    /// # Examples
    ///
    /// ```
    /// # use std::{pin::pin, task::{Context, Waker}};
    /// use strands::sync::Mutex;
    ///
    /// async fn count(counter: &Mutex<u32>) -> u32 {
    ///     let mut counter = counter.lock_async().await.unwrap();
    ///     *counter += 1;
    ///     *counter
    /// }
    /// # let counter = Mutex::new(0);
    /// # let poll = pin!(count(&counter)).poll(&mut Context::from_waker(Waker::noop()));
    /// # assert_eq!(poll, std::task::Poll::Ready(1));
    /// ```
    pub fn lock_async(&self) -> MutexLock<'_, T> {
        MutexLock { lock: self, locking: Locking::new(&self.raw) }
    }

    /// Whether an owner has panicked while it held the lock. May change at any time.
    #[inline]
    pub fn is_poisoned(&self) -> bool {
        self.poison.get()
    }

    /// Forgets that an owner has panicked: the data is in order again.
    #[inline]
    pub fn clear_poison(&self) {
        self.poison.clear();
    }

    /// The data, of a mutex that nobody else can have locked.
    ///
    /// # Errors
    /// The mutex is poisoned; the error has the data.
    pub fn get_mut(&mut self) -> LockResult<&mut T> {
        let poisoned = self.poison.get();
        let data = self.data.get_mut();
        if poisoned { Err(PoisonError::new(data)) } else { Ok(data) }
    }
}

impl<'a, T: ?Sized> MutexGuard<'a, T> {
    /// # Safety
    /// The lock was taken, and is the guard's from here on.
    #[inline]
    unsafe fn new(lock: &'a Mutex<T>) -> LockResult<MutexGuard<'a, T>> {
        // SAFETY: the caller's promise.
        unsafe { MutexGuard::of_one_who(lock.poison.enter(), lock) }
    }

    /// The same for one who has asked itself beforehand whether it is panicking: between the locked instructions of taking
    /// the lock and giving it back nothing else can be done meanwhile, before the first of them it can.
    ///
    /// # Safety
    /// As for [`new`](MutexGuard::new).
    #[inline]
    unsafe fn of_one_who(entered: Panicking, lock: &'a Mutex<T>) -> LockResult<MutexGuard<'a, T>> {
        lock.poison.wrap(MutexGuard { lock, entered, not_send: PhantomData })
    }

    /// The lock beneath, and what says whether it is poisoned. For [`Condvar`](super::Condvar).
    pub(super) fn parts(&self) -> (&'a RawMutex, &'a Flag) {
        (&self.lock.raw, &self.lock.poison)
    }
}

impl<T: ?Sized> Deref for MutexGuard<'_, T> {
    type Target = T;

    #[inline]
    fn deref(&self) -> &T {
        // SAFETY: the lock is ours.
        unsafe { &*self.lock.data.get() }
    }
}

impl<T: ?Sized> DerefMut for MutexGuard<'_, T> {
    #[inline]
    fn deref_mut(&mut self) -> &mut T {
        // SAFETY: the lock is ours, and the guard is borrowed for writing.
        unsafe { &mut *self.lock.data.get() }
    }
}

impl<T: ?Sized> Drop for MutexGuard<'_, T> {
    #[inline]
    fn drop(&mut self) {
        self.lock.poison.leave(&self.entered);
        // SAFETY: the lock is ours, and this was the last use of the data.
        unsafe { self.lock.raw.unlock() };
    }
}

impl<T> From<T> for Mutex<T> {
    fn from(data: T) -> Mutex<T> {
        Mutex::new(data)
    }
}

impl<T: Default> Default for Mutex<T> {
    fn default() -> Mutex<T> {
        Mutex::new(T::default())
    }
}

impl<T: ?Sized + fmt::Debug> fmt::Debug for Mutex<T> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let mut f = f.debug_struct("Mutex");
        match self.try_lock() {
            Ok(guard) => f.field("data", &&*guard),
            Err(TryLockError::Poisoned(error)) => f.field("data", &&**error.get_ref()),
            Err(TryLockError::WouldBlock) => f.field("data", &format_args!("<locked>")),
        };
        f.field("poisoned", &self.poison.get()).finish_non_exhaustive()
    }
}

impl<T: ?Sized + fmt::Debug> fmt::Debug for MutexGuard<'_, T> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        (**self).fmt(f)
    }
}

impl<T: ?Sized + fmt::Display> fmt::Display for MutexGuard<'_, T> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        (**self).fmt(f)
    }
}

/// Locks a [`Mutex`] in async code: what [`Mutex::lock_async`] returns.
#[must_use = "futures do nothing unless polled"]
pub struct MutexLock<'a, T: ?Sized> {
    lock: &'a Mutex<T>,
    locking: Locking<'a>,
}

impl<'a, T: ?Sized> Future for MutexLock<'a, T> {
    type Output = LockResult<MutexGuard<'a, T>>;

    fn poll(self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<Self::Output> {
        let lock = self.lock;
        // SAFETY: `locking` is pinned as we are; nothing moves it.
        let locking = unsafe { self.map_unchecked_mut(|this| &mut this.locking) };
        ready!(locking.poll(cx));
        // SAFETY: locked just now.
        Poll::Ready(unsafe { MutexGuard::new(lock) })
    }
}

impl<T: ?Sized> fmt::Debug for MutexLock<'_, T> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("MutexLock").finish_non_exhaustive()
    }
}
