//! [`Builder`]: goroutines with a name or a stack size.

use super::scope::{Scope, ScopedJoinHandle};
use super::{JoinHandle, Thread};
use crate::sched::{self, Order};
use std::io;
use std::panic::Location;

/// Chooses the traits of a goroutine before it is spawned.
///
/// As [`std::thread::Builder`].
///
/// # Examples
///
/// ```
/// use strands::thread;
///
/// # fn main() -> std::io::Result<()> {
/// let sum = thread::Builder::new()
///     .name("adder".into())
///     .stack_size(64 << 10)
///     .spawn(|| (1..=100).sum::<u32>())?;
/// assert_eq!(sum.thread().name(), Some("adder"));
/// assert_eq!(sum.join().unwrap(), 5050);
/// # Ok(())
/// # }
/// ```
#[derive(Debug, Default)]
#[must_use = "a builder does nothing until `spawn`"]
pub struct Builder {
    name: Option<String>,
    stack_size: Option<usize>,
}

impl Builder {
    /// Nothing chosen: what [`go`](crate::go) does.
    pub fn new() -> Builder {
        Builder::default()
    }

    /// Names the goroutine, for dumps and panics. Must not contain a NUL.
    pub fn name(mut self, name: String) -> Builder {
        self.name = Some(name);
        self
    }

    /// The room for its stack, in bytes, guard and bookkeeping included; rounded up to a power of two from
    /// 64 KiB to 1 GiB.
    ///
    /// Room is address space. A stack uses the pages it touches: one to begin with. `64 << 10` is for very
    /// many goroutines that do not call deep: it saves page tables, and the address space of a million.
    pub fn stack_size(mut self, size: usize) -> Builder {
        self.stack_size = Some(size);
        self
    }

    /// Starts a goroutine, as [`go`](crate::go) does.
    ///
    /// # Errors
    /// [`InvalidInput`](io::ErrorKind::InvalidInput) if the name contains a NUL, or the stack size is below
    /// 4 KiB or above 1 GiB; otherwise memory or a thread was refused, and the error says which. The closure
    /// has been dropped.
    #[track_caller]
    pub fn spawn<F, T>(self, f: F) -> io::Result<JoinHandle<T>>
    where
        F: FnOnce() -> T + Send + 'static,
        T: Send + 'static,
    {
        // SAFETY: closure and result borrow nothing that ends.
        unsafe { sched::spawn(self.order(Location::caller()), f, ()) }.map(JoinHandle::new)
    }

    /// Starts a goroutine in a scope, as [`Scope::spawn`] does.
    ///
    /// # Errors
    /// As for [`spawn`](Builder::spawn).
    #[track_caller]
    pub fn spawn_scoped<'scope, 'env, F, T>(
        self,
        scope: &'scope Scope<'scope, 'env>,
        f: F,
    ) -> io::Result<ScopedJoinHandle<'scope, T>>
    where
        F: FnOnce() -> T + Send + 'scope,
        T: Send + 'scope,
    {
        scope.spawn_with(self.order(Location::caller()), f)
    }

    fn order(self, birth: &'static Location<'static>) -> Order {
        Order::new(self.name, self.stack_size, birth)
    }
}

/// Handles name goroutines on any thread.
const _: fn() = || {
    fn check<T: Send + Sync>() {}
    check::<Thread>();
    check::<JoinHandle<std::cell::Cell<u8>>>();
};
