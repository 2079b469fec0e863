//! Waiting for locks and permits in a way that ends with a context: by their async forms.

use super::{Context, ContextError};
use crate::sync::{
    AcquireError, Condvar, LockResult, Mutex, MutexGuard, Permit, PoisonError, RwLock,
    RwLockReadGuard, RwLockWriteGuard, Semaphore, TryAcquireError, TryLockError, TryLockResult,
    WaitGroup,
};
use std::future::Future;

impl Context {
    /// What `now` gets at once, or else what `later` gets before the context is done. Waiting needs a waker, which
    /// is memory: most often there is no need.
    fn lock<G>(
        &self,
        now: impl FnOnce() -> TryLockResult<G>,
        later: impl Future<Output = LockResult<G>>,
    ) -> Result<LockResult<G>, ContextError> {
        self.check()?;
        match now() {
            Ok(guard) => Ok(Ok(guard)),
            Err(TryLockError::Poisoned(error)) => Ok(Err(error)),
            Err(TryLockError::WouldBlock) => self.run(later),
        }
    }
}

impl<T: ?Sized> Mutex<T> {
    /// As [`lock`](Mutex::lock), unless the context is done before. If it is from the start, the lock is not
    /// taken though it be free.
    ///
    /// Blocks: the goroutine, or else the thread.
    ///
    /// # Errors
    /// The outer one: the context is done. The inner one: the lock is poisoned.
    ///
    /// # Examples
    ///
    /// ```
    /// use std::time::Duration;
    /// use strands::context::{self, ContextError};
    /// use strands::sync::Mutex;
    ///
    /// let lock = Mutex::new(1);
    /// let guard = lock.lock().unwrap();
    /// let (ctx, _cancel) = context::with_timeout(&context::background(), Duration::from_millis(1));
    /// assert_eq!(lock.lock_ctx(&ctx).unwrap_err(), ContextError::DeadlineExceeded);
    /// drop(guard);
    /// assert_eq!(*lock.lock_ctx(&context::background()).unwrap().unwrap(), 1);
    /// ```
    pub fn lock_ctx(
        &self,
        context: &Context,
    ) -> Result<LockResult<MutexGuard<'_, T>>, ContextError> {
        context.lock(|| self.try_lock(), self.lock_async())
    }
}

impl<T: ?Sized> RwLock<T> {
    /// As [`read`](RwLock::read), unless the context is done before.
    ///
    /// Blocks: the goroutine, or else the thread.
    ///
    /// # Errors
    /// The outer one: the context is done. The inner one: the lock is poisoned.
    pub fn read_ctx(
        &self,
        context: &Context,
    ) -> Result<LockResult<RwLockReadGuard<'_, T>>, ContextError> {
        context.lock(|| self.try_read(), self.read_async())
    }

    /// As [`write`](RwLock::write), unless the context is done before.
    ///
    /// Blocks: the goroutine, or else the thread.
    ///
    /// # Errors
    /// As [`read_ctx`](RwLock::read_ctx).
    pub fn write_ctx(
        &self,
        context: &Context,
    ) -> Result<LockResult<RwLockWriteGuard<'_, T>>, ContextError> {
        context.lock(|| self.try_write(), self.write_async())
    }
}

impl Semaphore {
    /// As [`acquire`](Semaphore::acquire), unless the context is done before.
    ///
    /// Blocks: the goroutine, or else the thread.
    ///
    /// # Errors
    /// The outer one: the context is done. The inner one: the semaphore is closed.
    pub fn acquire_ctx(
        &self,
        context: &Context,
    ) -> Result<Result<Permit<'_>, AcquireError>, ContextError> {
        self.acquire_many_ctx(1, context)
    }

    /// As [`acquire_many`](Semaphore::acquire_many), unless the context is done before.
    ///
    /// Blocks: the goroutine, or else the thread.
    ///
    /// # Errors
    /// As [`acquire_ctx`](Semaphore::acquire_ctx).
    pub fn acquire_many_ctx(
        &self,
        n: usize,
        context: &Context,
    ) -> Result<Result<Permit<'_>, AcquireError>, ContextError> {
        context.check()?;
        match self.try_acquire_many(n) {
            Ok(permit) => Ok(Ok(permit)),
            Err(TryAcquireError::Closed) => Ok(Err(AcquireError)),
            Err(TryAcquireError::NoPermits) => context.run(self.acquire_many_async(n)),
        }
    }
}

/// What a wait at a condition variable under a context comes to: the guard, and how the wait has ended.
type Waited<'a, T> = LockResult<(MutexGuard<'a, T>, Result<(), ContextError>)>;

impl Condvar {
    /// As [`wait`](Condvar::wait), unless the context is done before a notification comes. The result that comes with the
    /// guard says which it was.
    ///
    /// If the context is done from the start, the mutex is not unlocked. A notification that comes when
    /// it is too late goes to another who waits, if there is one. It takes as long as it takes to lock the mutex
    /// again, whatever the context says.
    ///
    /// Blocks: the goroutine, or else the thread.
    ///
    /// # Errors
    /// The mutex is poisoned when it is locked again. The error has the guard and the result.
    pub fn wait_ctx<'a, T>(&self, guard: MutexGuard<'a, T>, context: &Context) -> Waited<'a, T> {
        match self.wait_by(guard, |notice| context.run(notice)) {
            (Ok(guard), result) => Ok((guard, result)),
            (Err(error), result) => Err(PoisonError::new((error.into_inner(), result))),
        }
    }

    /// Waits as long as the condition holds, unless the context is done before. The result says that it is only if the
    /// condition still held then.
    ///
    /// Blocks: the goroutine, or else the thread.
    ///
    /// # Errors
    /// As [`wait_ctx`](Condvar::wait_ctx).
    ///
    /// # Panics
    /// If the condition does.
    ///
    /// # Examples
    ///
    /// ```
    /// use std::time::Duration;
    /// use strands::context::{self, ContextError};
    /// use strands::sync::{Condvar, Mutex};
    ///
    /// let (ready, changed) = (Mutex::new(false), Condvar::new());
    /// let (ctx, _cancel) = context::with_timeout(&context::background(), Duration::from_millis(1));
    /// let ready = ready.lock().unwrap();
    /// let (ready, result) = changed.wait_while_ctx(ready, |ready| !*ready, &ctx).unwrap();
    /// assert_eq!((*ready, result), (false, Err(ContextError::DeadlineExceeded)));
    /// ```
    pub fn wait_while_ctx<'a, T, F>(
        &self,
        mut guard: MutexGuard<'a, T>,
        mut condition: F,
        context: &Context,
    ) -> Waited<'a, T>
    where
        F: FnMut(&mut T) -> bool,
    {
        let mut result = Ok(());
        while condition(&mut *guard) {
            if result.is_err() {
                return Ok((guard, result));
            }
            (guard, result) = self.wait_ctx(guard, context)?;
        }
        Ok((guard, Ok(())))
    }
}

impl WaitGroup {
    /// As [`wait`](WaitGroup::wait), unless the context is done before. If it is from the start, this is an error
    /// though nothing be left to do.
    ///
    /// Blocks: the goroutine, or else the thread.
    ///
    /// # Errors
    /// The context is done.
    ///
    /// # Examples
    ///
    /// ```
    /// use std::time::Duration;
    /// use strands::context::{self, ContextError};
    /// use strands::sync::WaitGroup;
    ///
    /// let group = WaitGroup::new();
    /// group.add(1);
    /// let (ctx, _cancel) = context::with_timeout(&context::background(), Duration::from_millis(1));
    /// assert_eq!(group.wait_ctx(&ctx), Err(ContextError::DeadlineExceeded));
    /// group.done();
    /// assert_eq!(group.wait_ctx(&context::background()), Ok(()));
    /// ```
    pub fn wait_ctx(&self, context: &Context) -> Result<(), ContextError> {
        context.run(self.wait_async())
    }
}
