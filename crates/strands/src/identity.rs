//! Who a goroutine or thread is, and the token by which it is parked and unparked by name.
//!
//! The token follows std's `park`: one token at most, `unpark` leaves it, `park` takes it or waits for
//! it. It is built on the seam, so it serves goroutines and threads alike.

#[cfg(not(loom))]
mod bell;

#[cfg(not(loom))]
pub(crate) use bell::Bell;

use crate::wait::{FIRST_FREE, Reason, ShortLock, TIMED_OUT, WaitKind, Waiter};
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
    token: ParkToken,
}

/// A token that one leaves and another takes, or waits for.
pub(crate) struct ParkToken(ShortLock<Parking>);

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
        Identity { id, name, token: ParkToken::new() }
    }

    /// The calling OS thread's own.
    #[cfg(not(loom))]
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
        self.token.park(WaitKind::Park.into(), deadline);
    }

    /// Wakes the one in `park`, or leaves the token for the next `park`.
    pub(crate) fn unpark(&self) {
        self.token.unpark();
    }
}

impl ParkToken {
    pub(crate) fn new() -> ParkToken {
        ParkToken(ShortLock::new(Parking { token: false, waiter: ptr::null() }))
    }

    /// Takes the token, or waits for it until the deadline. One at a time may be in here.
    pub(crate) fn park(&self, why: Reason, deadline: Option<Instant>) {
        let waiter = Waiter::new();
        {
            let mut parking = self.0.lock();
            if std::mem::take(&mut parking.token) {
                return;
            }
            parking.waiter = &waiter;
        }
        if waiter.park(why, deadline) == TIMED_OUT {
            // An `unpark` may hold the pointer just now; with the lock it is done with it.
            self.0.lock().waiter = ptr::null();
        }
    }

    /// Wakes the one in `park`, or leaves the token for the next `park`.
    pub(crate) fn unpark(&self) {
        let wake = {
            let mut parking = self.0.lock();
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

#[cfg(all(test, not(loom)))]
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

#[cfg(all(test, loom))]
mod loom_tests {
    use super::*;
    use crate::primitive::UnsafeCell;
    use crate::primitive::atomic::{AtomicBool, Ordering};
    use loom::thread;
    use std::time::Duration;

    /// Somebody who is parked by one thread and unparked by others, and what they leave for it.
    struct Parked {
        identity: Identity,
        told: AtomicBool,
        gift: UnsafeCell<u32>,
    }

    // SAFETY: the gift is written before the unpark and read after the park: which is what is checked.
    unsafe impl Send for Parked {}
    // SAFETY: as above.
    unsafe impl Sync for Parked {}

    impl Parked {
        fn new() -> loom::sync::Arc<Parked> {
            let id = ThreadId::of_goroutine(NonZeroU64::MIN);
            loom::sync::Arc::new(Parked {
                identity: Identity::new(id, None),
                told: AtomicBool::new(false),
                gift: UnsafeCell::new(0),
            })
        }

        fn give(&self) {
            // SAFETY: there is one giver.
            self.gift.with_mut(|gift| unsafe { *gift = 7 });
            self.told.store(true, Ordering::Relaxed);
            self.identity.unpark();
        }

        fn gift(&self) -> u32 {
            // SAFETY: it was given before we were unparked.
            self.gift.with(|gift| unsafe { *gift })
        }
    }

    fn passed() -> Option<Instant> {
        Some(Instant::now() - Duration::from_secs(1))
    }

    #[test]
    fn what_came_before_the_unpark_is_there_after_the_park() {
        loom::model(|| {
            let parked = Parked::new();
            let giver = {
                let parked = parked.clone();
                thread::spawn(move || parked.give())
            };
            parked.identity.park(None);
            assert!(parked.told.load(Ordering::Relaxed));
            assert_eq!(parked.gift(), 7);
            giver.join().unwrap();
        });
    }

    #[test]
    fn a_park_that_times_out_leaves_the_token_or_has_taken_it() {
        loom::model(|| {
            let parked = Parked::new();
            let giver = {
                let parked = parked.clone();
                thread::spawn(move || parked.give())
            };
            parked.identity.park(passed());
            if !parked.told.load(Ordering::Relaxed) {
                // So the first park cannot have taken the token: it is there, or comes.
                parked.identity.park(None);
                assert!(parked.told.load(Ordering::Relaxed));
                assert_eq!(parked.gift(), 7);
            }
            giver.join().unwrap();
        });
    }

    #[test]
    fn two_unparks_are_a_token_or_two_but_never_none() {
        let mut model = loom::model::Builder::new();
        model.preemption_bound = Some(3);
        model.check(|| {
            let parked = Parked::new();
            let unparkers = [(); 2].map(|()| {
                let parked = parked.clone();
                thread::spawn(move || parked.identity.unpark())
            });
            parked.identity.park(None);
            parked.identity.park(passed());
            for unparker in unparkers {
                unparker.join().unwrap();
            }
            // After all that one token at most is left.
            let left = parked.identity.token.0.lock();
            assert!(left.waiter.is_null());
        });
    }
}
