//! [`RwLock`]: std's, for goroutines, threads and async tasks. The lock itself is `raw`'s.

use super::poison::{Flag, Panicking};
use super::raw::{RawRwLock, Reading, Writing};
use super::{LockResult, PoisonError, TryLockError, TryLockResult};
use std::cell::UnsafeCell;
use std::fmt;
use std::future::Future;
use std::marker::PhantomData;
use std::mem::ManuallyDrop;
use std::ops::{Deref, DerefMut};
use std::panic::{RefUnwindSafe, UnwindSafe};
use std::pin::Pin;
use std::ptr::NonNull;
use std::task::{Context, Poll, ready};
use std::time::{Duration, Instant};

/// Guards data, for many who read or one who writes. As [`std::sync::RwLock`], poisoning included: a writer's
/// panic poisons it, a reader's does not.
///
/// # Examples
///
/// ```
/// use strands::sync::RwLock;
///
/// let lock = RwLock::new(String::from("read"));
/// {
///     let (one, another) = (lock.read().unwrap(), lock.read().unwrap());
///     assert_eq!(*one, *another);
/// }
/// lock.write().unwrap().push_str(" and written");
/// assert_eq!(*lock.read().unwrap(), "read and written");
/// ```
///
/// # Who goes first
///
/// A writer that waits holds new readers back, as in Go; std does not say. It waits for those who read already,
/// and when it is done all readers that have come meanwhile go before the next writer. So neither readers nor
/// writers starve. It also means that one who reads must not read again: if a writer has come in between, both
/// wait for good.
///
/// # What reading costs
///
/// Two atomic operations on a word that all readers share, at first. A lock that goroutines turn out to read often has
/// them counted per thread from then on (a kilobyte or more, once per lock): they cost half as much, and readers on different
/// processors do not disturb each other. A writer that has to wait for readers puts an end to that, until it turns out
/// again. Readers on plain threads always share the word, and so do all where the kernel has no
/// `membarrier(2)` for us.
///
/// # Reports
///
/// A [dump](crate::runtime::dump) and the report of a deadlock name the writer that somebody waits for, be it that it writes
/// or waits to write, as they name the holder of a [`Mutex`](super::Mutex#reports). Readers are not known: of a writer that
/// waits for readers it is not said for whom.
pub struct RwLock<T: ?Sized> {
    raw: RawRwLock,
    poison: Flag,
    data: UnsafeCell<T>,
}

// SAFETY: the lock passes the data from one to the next.
unsafe impl<T: ?Sized + Send> Send for RwLock<T> {}
// SAFETY: as above; readers share the data.
unsafe impl<T: ?Sized + Send + Sync> Sync for RwLock<T> {}
impl<T: ?Sized> UnwindSafe for RwLock<T> {}
impl<T: ?Sized> RefUnwindSafe for RwLock<T> {}

/// The right to read what a [`RwLock`] guards, until dropped. As [`std::sync::RwLockReadGuard`].
///
/// It cannot be sent, as std's cannot:
///
/// ```compile_fail,E0277
/// static LOCK: strands::sync::RwLock<i32> = strands::sync::RwLock::new(1);
/// let guard = LOCK.read().unwrap();
/// strands::go(move || drop(guard));
/// ```
#[must_use = "if unused the RwLock will immediately unlock"]
#[clippy::has_significant_drop]
pub struct RwLockReadGuard<'a, T: ?Sized + 'a> {
    /// Not a `&RwLock<T>`, which would be invariant in `T`; and not a `&T`, which would have to be valid until `drop`
    /// has returned. It is neither `Send` nor `Sync`.
    data: NonNull<T>,
    raw: &'a RawRwLock,
}

// SAFETY: through a shared guard the data can only be shared.
unsafe impl<T: ?Sized + Sync> Sync for RwLockReadGuard<'_, T> {}

/// The right to change what a [`RwLock`] guards, until dropped. As [`std::sync::RwLockWriteGuard`].
///
/// It cannot be sent, as std's cannot:
///
/// ```compile_fail,E0277
/// static LOCK: strands::sync::RwLock<i32> = strands::sync::RwLock::new(1);
/// let guard = LOCK.write().unwrap();
/// strands::go(move || drop(guard));
/// ```
#[must_use = "if unused the RwLock will immediately unlock"]
#[clippy::has_significant_drop]
pub struct RwLockWriteGuard<'a, T: ?Sized + 'a> {
    lock: &'a RwLock<T>,
    entered: Panicking,
    not_send: PhantomData<*mut ()>,
}

// SAFETY: through a shared guard the data can only be shared.
unsafe impl<T: ?Sized + Sync> Sync for RwLockWriteGuard<'_, T> {}

impl<T> RwLock<T> {
    /// A lock that nobody holds, with the data in it.
    #[inline]
    pub const fn new(data: T) -> RwLock<T> {
        RwLock { raw: RawRwLock::new(), poison: Flag::new(), data: UnsafeCell::new(data) }
    }

    /// The data.
    ///
    /// # Errors
    /// The lock is poisoned; the error has the data.
    pub fn into_inner(self) -> LockResult<T> {
        let data = self.data.into_inner();
        if self.poison.get() { Err(PoisonError::new(data)) } else { Ok(data) }
    }
}

impl<T: ?Sized> RwLock<T> {
    /// Waits until it may read: until nobody writes, or waits to write.
    ///
    /// Blocks: the goroutine, or else the thread.
    ///
    /// # Errors
    /// A writer has panicked. The error has the guard.
    #[inline]
    pub fn read(&self) -> LockResult<RwLockReadGuard<'_, T>> {
        self.raw.read_until(None);
        // SAFETY: it reads, from just now.
        unsafe { RwLockReadGuard::new(self) }
    }

    /// Reads if nobody writes, or waits to. Never blocks.
    ///
    /// # Errors
    /// [`WouldBlock`](TryLockError::WouldBlock) if somebody does; [`Poisoned`](TryLockError::Poisoned), with
    /// the guard, if a writer has panicked.
    #[inline]
    pub fn try_read(&self) -> TryLockResult<RwLockReadGuard<'_, T>> {
        self.reading_if(self.raw.try_read())
    }

    /// As [`read`](RwLock::read), waiting for at most this long.
    ///
    /// Blocks: the goroutine, or else the thread.
    ///
    /// # Errors
    /// As [`try_read`](RwLock::try_read); `WouldBlock` if the time has passed.
    pub fn try_read_for(&self, timeout: Duration) -> TryLockResult<RwLockReadGuard<'_, T>> {
        let taken = self.raw.try_read() || self.raw.read_until(super::deadline_in(timeout));
        self.reading_if(taken)
    }

    /// As [`read`](RwLock::read), waiting until then at most. A moment that has passed makes it one attempt.
    ///
    /// Blocks: the goroutine, or else the thread.
    ///
    /// # Errors
    /// As [`try_read`](RwLock::try_read); `WouldBlock` if the time has passed.
    pub fn try_read_until(&self, deadline: Instant) -> TryLockResult<RwLockReadGuard<'_, T>> {
        self.reading_if(self.raw.read_until(Some(deadline)))
    }

    #[inline]
    fn reading_if(&self, taken: bool) -> TryLockResult<RwLockReadGuard<'_, T>> {
        if !taken {
            return Err(TryLockError::WouldBlock);
        }
        // SAFETY: it reads, from just now.
        Ok(unsafe { RwLockReadGuard::new(self) }?)
    }

    /// As [`read`](RwLock::read), in async code.
    ///
    /// Can be cancelled: a future that is dropped holds nothing, and holds nobody up.
    ///
    /// # Errors
    /// The future's output is that of `read`.
    pub fn read_async(&self) -> RwLockRead<'_, T> {
        RwLockRead { lock: self, reading: Reading::new(&self.raw) }
    }

    /// Waits until it may write: until those who read already have done so, and nobody writes. Those who come to
    /// read later wait.
    ///
    /// Blocks: the goroutine, or else the thread.
    ///
    /// # Errors
    /// A writer has panicked. The error has the guard.
    #[inline]
    pub fn write(&self) -> LockResult<RwLockWriteGuard<'_, T>> {
        self.raw.write_until(None);
        // SAFETY: it writes, from just now.
        unsafe { RwLockWriteGuard::new(self) }
    }

    /// Writes if nobody reads or writes. Never blocks.
    ///
    /// # Errors
    /// [`WouldBlock`](TryLockError::WouldBlock) if somebody does; [`Poisoned`](TryLockError::Poisoned), with
    /// the guard, if a writer has panicked.
    #[inline]
    pub fn try_write(&self) -> TryLockResult<RwLockWriteGuard<'_, T>> {
        self.writing_if(self.raw.try_write())
    }

    /// As [`write`](RwLock::write), waiting for at most this long. Readers that were held back meanwhile go on
    /// when it gives up.
    ///
    /// Blocks: the goroutine, or else the thread.
    ///
    /// # Errors
    /// As [`try_write`](RwLock::try_write); `WouldBlock` if the time has passed.
    pub fn try_write_for(&self, timeout: Duration) -> TryLockResult<RwLockWriteGuard<'_, T>> {
        let taken = self.raw.try_write() || self.raw.write_until(super::deadline_in(timeout));
        self.writing_if(taken)
    }

    /// As [`write`](RwLock::write), waiting until then at most. A moment that has passed makes it one attempt.
    ///
    /// Blocks: the goroutine, or else the thread.
    ///
    /// # Errors
    /// As [`try_write`](RwLock::try_write); `WouldBlock` if the time has passed.
    pub fn try_write_until(&self, deadline: Instant) -> TryLockResult<RwLockWriteGuard<'_, T>> {
        self.writing_if(self.raw.write_until(Some(deadline)))
    }

    #[inline]
    fn writing_if(&self, taken: bool) -> TryLockResult<RwLockWriteGuard<'_, T>> {
        if !taken {
            return Err(TryLockError::WouldBlock);
        }
        // SAFETY: it writes, from just now.
        Ok(unsafe { RwLockWriteGuard::new(self) }?)
    }

    /// As [`write`](RwLock::write), in async code.
    ///
    /// Can be cancelled: a future that is dropped holds nothing, and holds nobody up. One that is neither polled
    /// nor dropped may hold up everybody.
    ///
    /// # Errors
    /// The future's output is that of `write`.
    pub fn write_async(&self) -> RwLockWrite<'_, T> {
        RwLockWrite { lock: self, writing: Writing::new(&self.raw) }
    }

    /// Whether a writer has panicked. May change at any time.
    #[inline]
    pub fn is_poisoned(&self) -> bool {
        self.poison.get()
    }

    /// Forgets that a writer has panicked: the data is in order again.
    #[inline]
    pub fn clear_poison(&self) {
        self.poison.clear();
    }

    /// The data, of a lock that nobody else can hold.
    ///
    /// # Errors
    /// The lock is poisoned; the error has the data.
    pub fn get_mut(&mut self) -> LockResult<&mut T> {
        let poisoned = self.poison.get();
        let data = self.data.get_mut();
        if poisoned { Err(PoisonError::new(data)) } else { Ok(data) }
    }
}

impl<'a, T: ?Sized> RwLockReadGuard<'a, T> {
    /// # Safety
    /// A reader was counted in, and is the guard from here on.
    #[inline]
    unsafe fn new(lock: &'a RwLock<T>) -> LockResult<RwLockReadGuard<'a, T>> {
        // SAFETY: `UnsafeCell::get` gives no null.
        let data = unsafe { NonNull::new_unchecked(lock.data.get()) };
        lock.poison.wrap(RwLockReadGuard { data, raw: &lock.raw })
    }
}

impl<'a, T: ?Sized> RwLockWriteGuard<'a, T> {
    /// # Safety
    /// The lock was taken to write, and is the guard's from here on.
    #[inline]
    unsafe fn new(lock: &'a RwLock<T>) -> LockResult<RwLockWriteGuard<'a, T>> {
        let entered = lock.poison.enter();
        lock.poison.wrap(RwLockWriteGuard { lock, entered, not_send: PhantomData })
    }

    /// Makes the writer a reader, with nobody writing in between. Readers that were held back read along.
    ///
    /// # Examples
    ///
    /// ```
    /// use strands::sync::{RwLock, RwLockWriteGuard};
    ///
    /// let lock = RwLock::new(0);
    /// let mut writer = lock.write().unwrap();
    /// *writer += 1;
    /// let reader = RwLockWriteGuard::downgrade(writer);
    /// assert_eq!((*reader, *lock.read().unwrap()), (1, 1));
    /// ```
    pub fn downgrade(s: RwLockWriteGuard<'a, T>) -> RwLockReadGuard<'a, T> {
        let writer = ManuallyDrop::new(s);
        let lock = writer.lock;
        lock.poison.leave(&writer.entered);
        // SAFETY: the guard writes, and is not dropped.
        unsafe { lock.raw.downgrade() };
        // SAFETY: `UnsafeCell::get` gives no null.
        RwLockReadGuard { data: unsafe { NonNull::new_unchecked(lock.data.get()) }, raw: &lock.raw }
    }
}

impl<T: ?Sized> Deref for RwLockReadGuard<'_, T> {
    type Target = T;

    #[inline]
    fn deref(&self) -> &T {
        // SAFETY: while we read nobody writes.
        unsafe { self.data.as_ref() }
    }
}

impl<T: ?Sized> Deref for RwLockWriteGuard<'_, T> {
    type Target = T;

    #[inline]
    fn deref(&self) -> &T {
        // SAFETY: the lock is ours.
        unsafe { &*self.lock.data.get() }
    }
}

impl<T: ?Sized> DerefMut for RwLockWriteGuard<'_, T> {
    #[inline]
    fn deref_mut(&mut self) -> &mut T {
        // SAFETY: the lock is ours, and the guard is borrowed for writing.
        unsafe { &mut *self.lock.data.get() }
    }
}

impl<T: ?Sized> Drop for RwLockReadGuard<'_, T> {
    #[inline]
    fn drop(&mut self) {
        // SAFETY: we read, and this was the last use of the data.
        unsafe { self.raw.unlock_read() };
    }
}

impl<T: ?Sized> Drop for RwLockWriteGuard<'_, T> {
    #[inline]
    fn drop(&mut self) {
        self.lock.poison.leave(&self.entered);
        // SAFETY: we write, and this was the last use of the data.
        unsafe { self.lock.raw.unlock_write() };
    }
}

impl<T> From<T> for RwLock<T> {
    fn from(data: T) -> RwLock<T> {
        RwLock::new(data)
    }
}

impl<T: Default> Default for RwLock<T> {
    fn default() -> RwLock<T> {
        RwLock::new(T::default())
    }
}

impl<T: ?Sized + fmt::Debug> fmt::Debug for RwLock<T> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let mut f = f.debug_struct("RwLock");
        match self.try_read() {
            Ok(guard) => f.field("data", &&*guard),
            Err(TryLockError::Poisoned(error)) => f.field("data", &&**error.get_ref()),
            Err(TryLockError::WouldBlock) => f.field("data", &format_args!("<locked>")),
        };
        f.field("poisoned", &self.poison.get()).finish_non_exhaustive()
    }
}

macro_rules! show_data {
    ($($guard:ident)*) => {$(
        impl<T: ?Sized + fmt::Debug> fmt::Debug for $guard<'_, T> {
            fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
                (**self).fmt(f)
            }
        }

        impl<T: ?Sized + fmt::Display> fmt::Display for $guard<'_, T> {
            fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
                (**self).fmt(f)
            }
        }
    )*};
}

show_data! { RwLockReadGuard RwLockWriteGuard }

macro_rules! future {
    ($(#[$doc:meta])* $name:ident, $field:ident: $inner:ident => $guard:ident) => {
        $(#[$doc])*
        #[must_use = "futures do nothing unless polled"]
        pub struct $name<'a, T: ?Sized> {
            lock: &'a RwLock<T>,
            $field: $inner<'a>,
        }

        impl<'a, T: ?Sized> Future for $name<'a, T> {
            type Output = LockResult<$guard<'a, T>>;

            fn poll(self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<Self::Output> {
                let lock = self.lock;
                // SAFETY: the field is pinned as we are; nothing moves it.
                let inner = unsafe { self.map_unchecked_mut(|this| &mut this.$field) };
                ready!(inner.poll(cx));
                // SAFETY: it is ready, so the lock is ours in that role.
                Poll::Ready(unsafe { $guard::new(lock) })
            }
        }

        impl<T: ?Sized> fmt::Debug for $name<'_, T> {
            fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
                f.debug_struct(stringify!($name)).finish_non_exhaustive()
            }
        }
    };
}

future! {
    /// Comes to read in async code: what [`RwLock::read_async`] returns.
    RwLockRead, reading: Reading => RwLockReadGuard
}

future! {
    /// Comes to write in async code: what [`RwLock::write_async`] returns.
    RwLockWrite, writing: Writing => RwLockWriteGuard
}
