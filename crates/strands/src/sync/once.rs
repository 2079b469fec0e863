//! [`Once`]: something that happens once.
//!
//! A state, and a crowd of those who wait for whoever makes it happen. The state changes under the short lock
//! only; those who find `COMPLETE` need no lock.

use super::line::{Crowd, Place, dismiss};
use crate::primitive::atomic::{AtomicU8, Ordering};
use crate::wait::{FIRST_FREE, Reason, ShortLock, Token, WaitKind};
use std::fmt;
use std::panic::{RefUnwindSafe, UnwindSafe};

const INCOMPLETE: u8 = 0;
/// The closure that was to complete it has panicked.
const POISONED: u8 = 1;
const RUNNING: u8 = 2;
const COMPLETE: u8 = 3;

/// It does not run any more: look again.
const LOOK: Token = FIRST_FREE;

/// Something to be done once, however many ask for it. As [`std::sync::Once`].
///
/// # Examples
///
/// ```
/// use strands::sync::Once;
///
/// static INIT: Once = Once::new();
/// let workers: Vec<_> = (0..4)
///     .map(|_| strands::go(|| INIT.call_once(|| println!("said once"))))
///     .collect();
/// for worker in workers {
///     worker.join().unwrap();
/// }
/// assert!(INIT.is_completed());
/// ```
pub struct Once {
    state: AtomicU8,
    waiting: ShortLock<Crowd>,
}

impl UnwindSafe for Once {}
impl RefUnwindSafe for Once {}

/// What [`Once::call_once_force`] tells its closure. As [`std::sync::OnceState`].
pub struct OnceState {
    poisoned: bool,
}

impl OnceState {
    /// Whether an earlier closure has panicked.
    pub fn is_poisoned(&self) -> bool {
        self.poisoned
    }
}

impl fmt::Debug for OnceState {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("OnceState").field("poisoned", &self.poisoned).finish()
    }
}

/// What one who has come finds, under the short lock.
enum Found {
    Complete,
    Poisoned,
    /// It is for us to run the closure; whether an earlier one has panicked.
    Ours(bool),
    /// Another was running it; we have waited.
    Waited,
}

impl Once {
    const_unless_loom! {
        /// Something that has not happened yet.
        pub fn new() -> Once {
            Once { state: AtomicU8::new(INCOMPLETE), waiting: ShortLock::new(Crowd::new()) }
        }
    }

    /// Whether it has happened. Never blocks.
    #[inline]
    pub fn is_completed(&self) -> bool {
        // Ordering: Acquire pairs with the Release in `set`: what the closure did is visible.
        self.state.load(Ordering::Acquire) == COMPLETE
    }

    /// Runs `f` if no closure has been run here, and returns when one has.
    ///
    /// What the closure did happens before this returns, in whichever call. If `f` calls `call_once` on the
    /// same `Once` it waits for itself.
    ///
    /// Blocks: the goroutine, or else the thread, while another runs its closure.
    ///
    /// # Panics
    /// If `f` panics, with its payload: the `Once` is then poisoned. If it is poisoned.
    #[inline]
    #[track_caller]
    pub fn call_once<F: FnOnce()>(&self, f: F) {
        if !self.is_completed() {
            let mut f = Some(f);
            self.call(false, &mut |_| f.take().expect("called once")());
        }
    }

    /// As [`call_once`](Once::call_once), but runs `f` also if an earlier closure has panicked.
    ///
    /// Blocks: the goroutine, or else the thread, while another runs its closure.
    ///
    /// # Panics
    /// If `f` panics, with its payload.
    ///
    /// # Examples
    ///
    /// ```
    /// use strands::sync::Once;
    ///
    /// static INIT: Once = Once::new();
    /// let failed = strands::go(|| INIT.call_once(|| panic!("for the sake of the example"))).join();
    /// assert!(failed.is_err());
    /// INIT.call_once_force(|state| assert!(state.is_poisoned()));
    /// INIT.call_once(|| unreachable!("it has happened"));
    /// ```
    #[inline]
    pub fn call_once_force<F: FnOnce(&OnceState)>(&self, f: F) {
        if !self.is_completed() {
            let mut f = Some(f);
            self.call(true, &mut |state| f.take().expect("called once")(state));
        }
    }

    /// Waits until it has happened.
    ///
    /// Blocks: the goroutine, or else the thread.
    ///
    /// # Panics
    /// If it is poisoned.
    #[track_caller]
    pub fn wait(&self) {
        self.wait_until_complete(false);
    }

    /// Waits until it has happened, whatever fails meanwhile.
    ///
    /// Blocks: the goroutine, or else the thread.
    pub fn wait_force(&self) {
        self.wait_until_complete(true);
    }

    #[track_caller]
    fn wait_until_complete(&self, force: bool) {
        while !self.is_completed() {
            let found = self.look(|state| match state {
                POISONED if !force => Some(Found::Poisoned),
                _ => None,
            });
            if matches!(found, Found::Poisoned) {
                panic!("Once instance has previously been poisoned");
            }
        }
    }

    #[cold]
    #[track_caller]
    fn call(&self, force: bool, f: &mut dyn FnMut(&OnceState)) {
        loop {
            let found = self.look(|state| match state {
                POISONED if !force => Some(Found::Poisoned),
                INCOMPLETE | POISONED => {
                    // Under the short lock, so nobody changes it at the same time.
                    self.state.store(RUNNING, Ordering::Relaxed);
                    Some(Found::Ours(state == POISONED))
                }
                _ => None,
            });
            match found {
                Found::Complete => return,
                Found::Poisoned => panic!("Once instance has previously been poisoned"),
                Found::Ours(poisoned) => {
                    let mut end = End { once: self, state: POISONED };
                    f(&OnceState { poisoned });
                    end.state = COMPLETE;
                    return;
                }
                Found::Waited => {}
            }
        }
    }

    /// Looks at the state under the short lock: it is complete, or `decide` has an answer, or we wait until
    /// it changes.
    fn look(&self, decide: impl FnOnce(u8) -> Option<Found>) -> Found {
        let place = Place::until(None);
        {
            let mut waiting = self.waiting.lock();
            // Ordering: Acquire, as in `is_completed`.
            let state = self.state.load(Ordering::Acquire);
            if state == COMPLETE {
                return Found::Complete;
            }
            if let Some(found) = decide(state) {
                return found;
            }
            // SAFETY: the place stays in this frame until it was claimed and woken.
            unsafe { waiting.join(&place) };
        }
        place.park(Reason::on(WaitKind::Once, std::ptr::from_ref(self).addr()), None);
        Found::Waited
    }

    /// The closure has ended.
    fn set(&self, state: u8) {
        let occurrence = {
            let mut waiting = self.waiting.lock();
            // Ordering: Release pairs with the Acquire in `is_completed`.
            self.state.store(state, Ordering::Release);
            waiting.occur()
        };
        dismiss(&self.waiting, |crowd| crowd, occurrence, LOOK);
    }
}

/// The end of the closure, be it by a panic.
struct End<'a> {
    once: &'a Once,
    state: u8,
}

impl Drop for End<'_> {
    fn drop(&mut self) {
        self.once.set(self.state);
    }
}

impl fmt::Debug for Once {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Once").finish_non_exhaustive()
    }
}
