//! What a goroutine or thread that polls a future by itself is woken by.

use super::ParkToken;
use crate::wait::Reason;
use std::mem::ManuallyDrop;
use std::ptr;
use std::sync::Arc;
use std::task::{RawWaker, RawWakerVTable, Waker};

/// Rung by whatever a future waits for.
pub(crate) struct Bell(ParkToken);

/// Of our own making and not std's, so that one can see whose it is.
static WAKER: RawWakerVTable = RawWakerVTable::new(
    |data| {
        // SAFETY: the data of a waker of ours is a count of an `Arc`, which the waker has.
        unsafe { Arc::increment_strong_count(data.cast::<Bell>()) };
        RawWaker::new(data, &WAKER)
    },
    // SAFETY: as above; the count is used up.
    |data| unsafe { Arc::from_raw(data.cast::<Bell>()) }.0.unpark(),
    // SAFETY: as above; the count stays.
    |data| ManuallyDrop::new(unsafe { Arc::from_raw(data.cast::<Bell>()) }).0.unpark(),
    // SAFETY: as above; the count is used up.
    |data| drop(unsafe { Arc::from_raw(data.cast::<Bell>()) }),
);

impl Bell {
    pub(crate) fn new() -> Arc<Bell> {
        Arc::new(Bell(ParkToken::new()))
    }

    /// A waker that rings it.
    pub(crate) fn waker(self: &Arc<Bell>) -> Waker {
        // SAFETY: the table is for a count of an `Arc<Bell>`, which is `Send` and `Sync`.
        unsafe { Waker::new(Arc::into_raw(Arc::clone(self)).cast(), &WAKER) }
    }

    /// Whether that is what this waker does.
    pub(crate) fn is_behind(waker: &Waker) -> bool {
        ptr::eq(waker.vtable(), &WAKER)
    }

    /// Waits until it has been rung since the last time. For whoever made it.
    ///
    /// Blocks: the goroutine, or else the thread.
    pub(crate) fn wait(&self, why: Reason) {
        self.0.park(why, None);
    }
}

const _: () = {
    const fn is_shared<T: Send + Sync>() {}
    is_shared::<Bell>();
};
