//! [`std::thread`] for goroutines: the same names and shapes, and "the thread" means the goroutine.
//!
//! Everything here works on a plain OS thread too, and blocks that. A program moves to goroutines by
//! changing `use std::thread` to `use strands::thread`.
//!
//! ```
//! use strands::thread;
//!
//! # fn main() -> std::io::Result<()> {
//! let worker = thread::Builder::new()
//!     .name("worker".into())
//!     .stack_size(64 << 10)
//!     .spawn(|| thread::current().name().map(str::to_owned))?;
//! assert_eq!(worker.join().unwrap().as_deref(), Some("worker"));
//! # Ok(())
//! # }
//! ```
//!
//! # What differs from std
//!
//! * [`Builder::stack_size`] counts the guard and some bookkeeping, is rounded up to a power of two from 64
//!   KiB to 1 GiB, and costs address space only: memory is used as it is touched. Sizes below 4 KiB and
//!   above 1 GiB are errors.
//! * A name with a NUL is an error of [`Builder::spawn`], not a panic.
//! * [`scope`] ends when its children have ended, even if a handle was forgotten.
//! * [`JoinHandle`] is a future.
//! * Thread-locals are the OS thread's, except in goroutines that [roam](Affinity::Roaming). `thread::current()` and what hangs on it are the goroutine's.

mod arm;
mod builder;
mod handle;
mod join;
mod scope;

pub use crate::identity::ThreadId;
pub use crate::sched::Affinity;
#[doc(hidden)]
pub use arm::JoinArm;
pub use builder::Builder;
pub use handle::{Thread, current, park, park_timeout};
pub use join::JoinHandle;
pub use scope::{Scope, ScopedJoinHandle, scope};

pub use crate::everyday::{sleep, yield_now};
pub use std::thread::{AccessError, LocalKey, Result, available_parallelism, panicking};

/// Starts a goroutine: [`go`](crate::go) by std's name.
///
/// # Panics
/// If memory or a thread is refused; [`Builder::spawn`] returns an error instead.
///
/// # Examples
///
/// ```
/// use strands::thread;
///
/// assert_eq!(thread::spawn(|| 1 + 1).join().unwrap(), 2);
/// ```
#[track_caller]
#[inline]
pub fn spawn<F, T>(f: F) -> JoinHandle<T>
where
    F: FnOnce() -> T + Send + 'static,
    T: Send + 'static,
{
    crate::everyday::go(f)
}
