//! [`Builder`]: goroutines with a name, a stack size or an affinity.

use super::scope::{Scope, ScopedJoinHandle};
use super::{Affinity, JoinHandle, Thread};
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
    affinity: Option<Affinity>,
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

    /// Whether it stays on the OS thread on which it starts. If this is not chosen,
    /// [`Config::affinity`](crate::runtime::Config::affinity) decides.
    ///
    /// # Examples
    ///
    /// ```
    /// use std::cell::Cell;
    /// use strands::thread::{self, Affinity};
    ///
    /// thread_local! { static COUNT: Cell<u32> = const { Cell::new(0) }; }
    ///
    /// # fn main() -> std::io::Result<()> {
    /// let counts = (0..4).map(|_| {
    ///     thread::Builder::new().affinity(Affinity::Roaming).spawn(|| {
    ///         for _ in 0..10 {
    ///             COUNT.set(COUNT.get() + 1);
    ///             thread::yield_now();
    ///         }
    ///         COUNT.get()
    ///     })
    /// });
    /// let counts = counts.collect::<std::io::Result<Vec<_>>>()?;
    /// let counts: Vec<u32> = counts.into_iter().map(|count| count.join().unwrap()).collect();
    /// # if strands::runtime::metrics().roaming_refused.is_none() {
    /// // Each has thread-locals of its own.
    /// assert_eq!(counts, [10; 4]);
    /// # }
    /// # Ok(())
    /// # }
    /// ```
    pub fn affinity(mut self, affinity: Affinity) -> Builder {
        self.affinity = Some(affinity);
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
        Order::new(self.name, self.stack_size, birth).with_affinity(self.affinity)
    }
}

/// Handles name goroutines on any thread.
const _: fn() = || {
    fn check<T: Send + Sync>() {}
    check::<Thread>();
    check::<JoinHandle<std::cell::Cell<u8>>>();
};
