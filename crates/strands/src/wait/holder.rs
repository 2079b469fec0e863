//! Who holds a lock, for reports; and how a report reads it while the lock may be on its way out of the world.
//!
//! **The mark.** Whoever takes a lock leaves its stack pointer in the lock's [`Holder`]: one instruction to read it, and
//! one plain store into a line of the cache that is its own just then. From a stack pointer a report finds the goroutine
//! or the thread whose stack that is. No code depends on the mark, so it is an atomic of std's under loom, too.
//!
//! **Following.** A lock may be freed as soon as nobody waits for it, so the address that a waiter has noted is worth nothing to a
//! report that comes at any time. But who waits for a lock borrows it until the wait is over. So it says where the mark is
//! in its own record, which does not go away, and takes that back before it goes on; and the two exclude each other:
//!
//! ```text
//!   one who waits (`Followed`)                    a report
//!   ──────────────────────────                    ────────
//!   F = the mark's address                        takes the turn
//!   … waits …                                     LOOKING = true
//!   F = null                                      full barrier
//!   full barrier                                  F is not null? then it reads the mark
//!   LOOKING? then it takes the turn, and          LOOKING = false
//!     gives it back                               gives the turn back
//! ```
//!
//! Whichever barrier is second, what was written before the first is seen after it: a report whose barrier is second finds null;
//! one who waits whose barrier is second finds `LOOKING`, and lets the report finish, or finds that it has finished. So a
//! wait that nobody looks at pays one barrier, after it was suspended and woken, and the mark that a report reads is as
//! it is at that time, not as it was when the wait began.
//!
//! A report has the turn for a few instructions at a time. It must not look from a signal handler.

use crate::primitive::Mutex;
use crate::primitive::atomic::{AtomicBool, AtomicPtr, Ordering, fence};
use std::ptr;
use std::sync::atomic::AtomicUsize;

/// Nobody, or somebody who has left no mark.
const NOBODY: usize = 0;
/// An async task, which has no stack.
const TASK: usize = 1;

/// The mark of whoever holds a lock. Written by that one, right after it has taken the lock.
pub(crate) struct Holder(AtomicUsize);

/// What a mark says.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Held {
    /// Nothing: nobody holds the lock, or it is on its way from one to the next, or none was looked at.
    Unknown,
    /// It was taken in async code.
    ByTask,
    /// It was taken on the stack of this address.
    OnStack(usize),
}

impl Holder {
    pub(crate) const fn new() -> Holder {
        Holder(AtomicUsize::new(NOBODY))
    }

    /// The lock was taken on this stack.
    #[inline(always)]
    pub(crate) fn mark(&self) {
        // Ordering: Relaxed, here and below: a word that means something by itself, and that nothing hangs on. Marks of
        // one lock are in the order of its owners, as each is written with the lock in hand.
        self.0.store(stack_pointer(), Ordering::Relaxed);
    }

    /// The lock was taken by an async task.
    pub(crate) fn mark_task(&self) {
        self.0.store(TASK, Ordering::Relaxed);
    }

    /// For the owner, who is about to give the lock back to others that wait.
    pub(crate) fn wipe(&self) {
        self.0.store(NOBODY, Ordering::Relaxed);
    }

    fn held(&self) -> Held {
        match self.0.load(Ordering::Relaxed) {
            NOBODY => Held::Unknown,
            TASK => Held::ByTask,
            address => Held::OnStack(address),
        }
    }
}

/// An address on the stack of the caller.
#[cfg(all(target_arch = "x86_64", not(miri)))]
#[inline(always)]
pub(crate) fn stack_pointer() -> usize {
    let here;
    // SAFETY: reads a register.
    unsafe {
        std::arch::asm!("mov {}, rsp", out(reg) here, options(nomem, nostack, preserves_flags));
    };
    here
}

/// An address on the stack of the caller.
#[cfg(not(all(target_arch = "x86_64", not(miri))))]
#[inline(always)]
pub(crate) fn stack_pointer() -> usize {
    let local = 0_u8;
    std::hint::black_box(&raw const local).addr()
}

/// In the record of a goroutine or thread: where the mark is of the lock for which it waits; null if for none.
///
/// All zeros is a valid one, that follows nothing.
#[derive(Debug)]
pub(crate) struct Followed(AtomicPtr<Holder>);

impl Followed {
    pub(crate) fn nothing() -> Followed {
        Followed(AtomicPtr::new(ptr::null_mut()))
    }
}

/// The turn of those who look.
struct Looks {
    looking: AtomicBool,
    turn: Mutex<()>,
}

impl Looks {
    /// Reads the mark by `read`, if one is followed there.
    fn look(&self, followed: &Followed, read: impl FnOnce(&Holder) -> Held) -> Held {
        // Most wait for no lock. (Who has begun to since is found next time.)
        if cfg!(not(loom)) && followed.0.load(Ordering::Relaxed).is_null() {
            return Held::Unknown;
        }
        let _turn = self.turn.lock().unwrap_or_else(|e| e.into_inner());
        self.looking.store(true, Ordering::Relaxed);
        fence(Ordering::SeqCst);
        // Ordering: Acquire pairs with the Release in `follow`: the mark is there.
        let holder = followed.0.load(Ordering::Acquire);
        // SAFETY: it is there until whoever waits has taken the address back and then found that nobody looks.
        let held = unsafe { holder.as_ref() }.map_or(Held::Unknown, read);
        // Ordering: Release pairs with the Acquire in `forget`: we have read it.
        self.looking.store(false, Ordering::Release);
        held
    }

    fn follow(&self, followed: &Followed, holder: &Holder) {
        followed.0.store(ptr::from_ref(holder).cast_mut(), Ordering::Release);
    }

    /// From here on no report reads the mark.
    fn forget(&self, followed: &Followed) {
        followed.0.store(ptr::null_mut(), Ordering::Relaxed);
        fence(Ordering::SeqCst);
        if self.looking.load(Ordering::Acquire) {
            drop(self.turn.lock());
        }
    }
}

#[cfg(not(loom))]
pub(crate) use native::Following;

#[cfg(not(loom))]
mod native {
    use super::*;

    static LOOKS: Looks = Looks { looking: AtomicBool::new(false), turn: Mutex::new(()) };

    impl Followed {
        /// Who holds the lock for which is waited here, if one is. Not for signal handlers.
        pub(crate) fn held(&self) -> Held {
            LOOKS.look(self, Holder::held)
        }
    }

    /// While it lives, reports can read the mark.
    pub(crate) struct Following<'a> {
        followed: &'a Followed,
        _holder: &'a Holder,
    }

    impl<'a> Following<'a> {
        pub(crate) fn new(followed: &'a Followed, holder: &'a Holder) -> Following<'a> {
            LOOKS.follow(followed, holder);
            Following { followed, _holder: holder }
        }
    }

    impl Drop for Following<'_> {
        fn drop(&mut self) {
            LOOKS.forget(self.followed);
        }
    }
}

#[cfg(all(test, not(loom)))]
mod tests {
    use super::*;

    #[test]
    fn a_mark_is_read_as_long_as_somebody_waits() {
        let (followed, holder) = (Followed::nothing(), Holder::new());
        assert_eq!(followed.held(), Held::Unknown);
        let following = Following::new(&followed, &holder);
        assert_eq!(followed.held(), Held::Unknown, "nobody holds it");
        holder.mark();
        let Held::OnStack(address) = followed.held() else { panic!("it was marked") };
        let local = 0_u8;
        assert!((&raw const local).addr().abs_diff(address) < 1 << 16, "on this stack");
        holder.mark_task();
        assert_eq!(followed.held(), Held::ByTask);
        holder.wipe();
        assert_eq!(followed.held(), Held::Unknown);
        holder.mark();
        drop(following);
        assert_eq!(followed.held(), Held::Unknown, "nobody waits");
    }
}

#[cfg(all(test, loom))]
mod loom_tests {
    use super::*;
    use crate::primitive::{Arc, UnsafeCell};
    use loom::thread;

    /// The lock that has the mark: used by whoever reads the mark, and gone after the wait.
    struct Lock(UnsafeCell<bool>);

    // SAFETY: what the model checks: it goes when nobody reads any more.
    unsafe impl Sync for Lock {}
    // SAFETY: as above.
    unsafe impl Send for Lock {}

    #[test]
    fn no_report_reads_a_mark_that_was_forgotten() {
        loom::model(|| {
            let looks = Looks { looking: AtomicBool::new(false), turn: Mutex::new(()) };
            let lock = Lock(UnsafeCell::new(true));
            let shared = Arc::new((looks, Followed::nothing(), lock));
            let report = {
                let shared = Arc::clone(&shared);
                thread::spawn(move || {
                    let (looks, followed, lock) = &*shared;
                    for _ in 0..2 {
                        looks.look(followed, |holder| {
                            // SAFETY: what the model checks.
                            assert!(lock.0.with(|there| unsafe { *there }));
                            holder.held()
                        });
                    }
                })
            };
            let (looks, followed, lock) = &*shared;
            let holder = Holder::new();
            looks.follow(followed, &holder);
            looks.forget(followed);
            // SAFETY: what the model checks.
            lock.0.with_mut(|there| unsafe { *there = false });
            report.join().unwrap();
        });
    }
}
