//! [`Barrier`]: a place where several wait for each other.

use super::line::{Crowd, Place, dismiss};
use crate::wait::{FIRST_FREE, Reason, ShortLock, Token, WaitKind};
use std::fmt;
use std::panic::{RefUnwindSafe, UnwindSafe};

/// All are here.
const TOGETHER: Token = FIRST_FREE;

/// Lets nobody pass until so many have come. As [`std::sync::Barrier`]; it can be used again at once.
///
/// # Examples
///
/// ```
/// use strands::sync::{Arc, Barrier};
///
/// let barrier = Arc::new(Barrier::new(3));
/// let runners: Vec<_> = (0..3)
///     .map(|_| {
///         let barrier = Arc::clone(&barrier);
///         strands::go(move || barrier.wait().is_leader())
///     })
///     .collect();
/// let leaders = runners.into_iter().map(|r| r.join().unwrap());
/// assert_eq!(leaders.filter(|leader| *leader).count(), 1);
/// ```
pub struct Barrier {
    size: usize,
    state: ShortLock<State>,
}

struct State {
    /// Of this round.
    arrived: usize,
    crowd: Crowd,
}

/// Whether one who has passed a [`Barrier`] was the last to come. As [`std::sync::BarrierWaitResult`].
pub struct BarrierWaitResult(bool);

impl BarrierWaitResult {
    /// True for one of those who have passed together.
    #[must_use]
    pub fn is_leader(&self) -> bool {
        self.0
    }
}

impl fmt::Debug for BarrierWaitResult {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("BarrierWaitResult").field("is_leader", &self.0).finish()
    }
}

impl UnwindSafe for Barrier {}
impl RefUnwindSafe for Barrier {}

impl Barrier {
    const_unless_loom! {
        /// A barrier for so many. With 0 or 1 nobody ever waits.
        pub fn new(n: usize) -> Barrier {
            Barrier { size: n, state: ShortLock::new(State { arrived: 0, crowd: Crowd::new() }) }
        }
    }

    /// Waits until all are here. The last to come is the leader.
    ///
    /// What each did before happens before each goes on.
    ///
    /// Blocks: the goroutine, or else the thread.
    pub fn wait(&self) -> BarrierWaitResult {
        let place = Place::until(None);
        let together = {
            let mut state = self.state.lock();
            state.arrived += 1;
            if state.arrived < self.size {
                // SAFETY: the place stays in this frame until it was claimed and woken.
                unsafe { state.crowd.join(&place) };
                None
            } else {
                state.arrived = 0;
                Some(state.crowd.occur())
            }
        };
        match together {
            Some(occurrence) => {
                dismiss(&self.state, |state| &mut state.crowd, occurrence, TOGETHER);
                BarrierWaitResult(true)
            }
            None => {
                place.park(Reason::on(WaitKind::Barrier, std::ptr::from_ref(self).addr()), None);
                BarrierWaitResult(false)
            }
        }
    }
}

impl fmt::Debug for Barrier {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Barrier").finish_non_exhaustive()
    }
}
