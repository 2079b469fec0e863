//! Who a goroutine or thread is, and the token by which it is parked and unparked by name.
//!
//! The token follows std's `park`: one token at most, `unpark` leaves it, `park` takes it or waits for
//! it. It is built on the seam, so it serves goroutines and threads alike.

use crate::wait::{FIRST_FREE, ShortLock, TIMED_OUT, WaitKind, Waiter};
use std::fmt;
use std::num::NonZeroU64;
use std::ptr;
use std::sync::Arc;
use std::time::Instant;

/// A unique identifier of a goroutine, or of a plain OS thread.
///
/// Ids are not reused as long as the process lives. The number that a dump shows is in `Debug`.
#[derive(Clone, Copy, PartialEq, Eq, Hash)]
pub struct ThreadId(Id);

#[derive(Clone, Copy, PartialEq, Eq, Hash)]
enum Id {
    Goroutine(NonZeroU64),
    Os(std::thread::ThreadId),
}

impl ThreadId {
    pub(crate) fn of_goroutine(id: NonZeroU64) -> ThreadId {
        ThreadId(Id::Goroutine(id))
    }
}

/// `ThreadId(goroutine 12)`, or std's form for an OS thread.
impl fmt::Debug for ThreadId {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self.0 {
            Id::Goroutine(id) => write!(f, "ThreadId(goroutine {id})"),
            Id::Os(id) => id.fmt(f),
        }
    }
}

/// The shared part of a `Thread` handle.
pub(crate) struct Identity {
    id: ThreadId,
    name: Option<Box<str>>,
    parking: ShortLock<Parking>,
}

struct Parking {
    token: bool,
    /// Whoever is in `park`; it takes itself out under the lock before it leaves.
    waiter: *const Waiter,
}

// SAFETY: the waiter behind the pointer is shared (`Waiter: Sync`), and is followed under the lock only,
// where its owner cannot leave.
unsafe impl Send for Parking {}

const UNPARKED: usize = FIRST_FREE;

impl Identity {
    pub(crate) fn new(id: ThreadId, name: Option<Box<str>>) -> Identity {
        let parking = Parking { token: false, waiter: ptr::null() };
        Identity { id, name, parking: ShortLock::new(parking) }
    }

    /// The calling OS thread's own.
    pub(crate) fn of_os_thread() -> Arc<Identity> {
        fn make() -> Arc<Identity> {
            let thread = std::thread::current();
            Arc::new(Identity::new(ThreadId(Id::Os(thread.id())), thread.name().map(Box::from)))
        }
        thread_local! {
            static IDENTITY: Arc<Identity> = make();
        }
        // In the destructor of another thread-local ours may be gone.
        IDENTITY.try_with(Arc::clone).unwrap_or_else(|_| make())
    }

    pub(crate) fn id(&self) -> ThreadId {
        self.id
    }

    pub(crate) fn name(&self) -> Option<&str> {
        self.name.as_deref()
    }

    /// Takes the token, or waits for it until the deadline. The caller is who this identity names.
    pub(crate) fn park(&self, deadline: Option<Instant>) {
        let waiter = Waiter::new();
        {
            let mut parking = self.parking.lock();
            if std::mem::take(&mut parking.token) {
                return;
            }
            parking.waiter = &waiter;
        }
        if waiter.park(WaitKind::Park.into(), deadline) == TIMED_OUT {
            // An `unpark` may hold the pointer just now; with the lock it is done with it.
            self.parking.lock().waiter = ptr::null();
        }
    }

    /// Wakes the one in `park`, or leaves the token for the next `park`.
    pub(crate) fn unpark(&self) {
        let wake = {
            let mut parking = self.parking.lock();
            let waiter = std::mem::replace(&mut parking.waiter, ptr::null());
            // SAFETY: a non-null waiter is alive while we hold the lock: its owner takes the lock before
            // it leaves by its deadline, and otherwise leaves only after our claim and wake.
            match unsafe { waiter.as_ref() } {
                Some(waiter) if waiter.try_claim(UNPARKED) => {
                    // SAFETY: we have just claimed it.
                    Some(unsafe { waiter.finish() })
                }
                _ => {
                    parking.token = true;
                    None
                }
            }
        };
        drop(wake);
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::time::Duration;

    #[test]
    fn a_token_left_before_ends_the_next_park_at_once_and_only_that() {
        let me = Identity::of_os_thread();
        me.unpark();
        me.unpark();
        me.park(None);
        let before = Instant::now();
        me.park(Some(before + Duration::from_millis(20)));
        assert!(before.elapsed() >= Duration::from_millis(20), "two unparks are one token");
    }

    #[test]
    fn an_unpark_wakes_a_parked_thread() {
        let me = Identity::of_os_thread();
        let waker = {
            let me = Arc::clone(&me);
            std::thread::spawn(move || me.unpark())
        };
        me.park(None);
        waker.join().unwrap();
    }
}
