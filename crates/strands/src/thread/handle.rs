//! [`Thread`]: a handle to a goroutine or thread, to tell its name and to unpark it.

use crate::identity::{Identity, ThreadId};
use crate::sched;
use std::fmt;
use std::panic::{RefUnwindSafe, UnwindSafe};
use std::sync::Arc;
use std::time::Duration;

/// A handle to a goroutine, or to a plain OS thread.
///
/// As [`std::thread::Thread`].
#[derive(Clone)]
pub struct Thread {
    identity: Arc<Identity>,
}

// As std's: a panic leaves nothing half done in it.
impl UnwindSafe for Thread {}
impl RefUnwindSafe for Thread {}

impl Thread {
    pub(super) fn new(identity: Arc<Identity>) -> Thread {
        Thread { identity }
    }

    /// Its unique identifier.
    pub fn id(&self) -> ThreadId {
        self.identity.id()
    }

    /// Its name, if it was given one.
    pub fn name(&self) -> Option<&str> {
        self.identity.name()
    }

    /// Ends its [`park`], or lets the next one return at once. Any number of calls before that count as
    /// one.
    ///
    /// What happened before `unpark` has happened for the one who returns from `park`.
    ///
    /// # Examples
    ///
    /// ```
    /// use strands::thread;
    ///
    /// let parked = strands::go(thread::park);
    /// parked.thread().unpark();
    /// parked.join().unwrap();
    /// ```
    pub fn unpark(&self) {
        self.identity.unpark();
    }
}

impl fmt::Debug for Thread {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Thread")
            .field("id", &self.id())
            .field("name", &self.name())
            .finish_non_exhaustive()
    }
}

/// A handle to whoever calls: the goroutine, or else the thread.
///
/// # Examples
///
/// ```
/// use strands::thread;
///
/// let me = thread::current();
/// let other = strands::go(|| thread::current().id()).join().unwrap();
/// assert_ne!(me.id(), other);
/// ```
pub fn current() -> Thread {
    Thread::new(sched::identity())
}

/// Waits until somebody [unparks](Thread::unpark) the caller, or returns at once if that has happened
/// since its last `park`.
///
/// Unlike std's it does not return for no reason; but code that is written for both must not rely on that.
/// On a plain OS thread it is our own token that is waited for: [`std::thread::Thread::unpark`] does not
/// end it.
///
/// Blocks: the goroutine, or else the thread.
pub fn park() {
    sched::identity().park(None);
}

/// As [`park`], for `time` at most.
///
/// Blocks: the goroutine, or else the thread.
///
/// # Examples
///
/// ```
/// use std::time::Duration;
///
/// strands::thread::park_timeout(Duration::from_millis(1)); // nobody unparks us
/// ```
pub fn park_timeout(time: Duration) {
    sched::identity().park(Some(sched::deadline(time)));
}
