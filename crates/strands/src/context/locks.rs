//! Waiting for locks and permits in a way that ends with a context: by their async forms.

use super::{Context, ContextError};
use crate::sync::{
    AcquireError, LockResult, Mutex, MutexGuard, Permit, RwLock, RwLockReadGuard, RwLockWriteGuard,
    Semaphore,
};

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
        context.run(self.lock_async())
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
        context.run(self.read_async())
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
        context.run(self.write_async())
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
        context.run(self.acquire_many_async(n))
    }
}
