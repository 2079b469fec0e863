//! How a channel ends: by `close`, or when the last of its counted handles on one side goes.

use super::{ANY, Core};
use crate::channel::buffer::Buffer;
use crate::channel::waiting::Kind;
use crate::primitive::Arc;
use crate::primitive::atomic::Ordering;
use std::mem::{ManuallyDrop, replace, take};
use std::ops::Deref;

impl<T> Core<T> {
    /// Nothing more will be sent. What was sent can still be received.
    pub(in crate::channel) fn close(&self) {
        self.shut(false);
    }

    pub(in crate::channel) fn is_closed(&self) -> bool {
        self.lock().closed
    }

    pub(in crate::channel) fn is_signal(&self) -> bool {
        self.is_signal
    }

    /// Lets all go who wait. What is left is dropped if nobody can receive it.
    fn shut(&self, discard: bool) {
        let mut state = self.lock();
        state.closed = true;
        self.hint.store(ANY, Ordering::Relaxed);
        let left = if discard {
            state.special -= state.strays.len();
            (take(&mut state.strays), replace(&mut state.buffer, Buffer::nothing()))
        } else {
            (Vec::new(), Buffer::nothing())
        };
        self.wake_all(state, |state| {
            let waiting = state.receivers.claim_first(Kind::Closed);
            let waiting = waiting.or_else(|| state.senders.claim_first(Kind::Closed));
            waiting.or_else(|| state.watchers.claim_first(Kind::Look))
        });
        // With no lock held: a message's `Drop` may do anything, panic included. If one panics the rest is
        // leaked, as in crossbeam-channel: were it dropped while unwinding, a second panic would abort.
        let (strays, buffer) = left;
        let (mut strays, mut buffer) = (ManuallyDrop::new(strays), ManuallyDrop::new(buffer));
        while let Some(message) = strays.pop() {
            drop(message);
        }
        while let Some(message) = buffer.pop_front() {
            drop(message);
        }
        drop((ManuallyDrop::into_inner(strays), ManuallyDrop::into_inner(buffer)));
    }
}

/// More handles than this can only have been forgotten in a loop; std's `Arc` aborts there too.
const MOST_HANDLES: usize = isize::MAX as usize;

macro_rules! end {
    ($(#[$doc:meta])* $name:ident, $count:ident, discard: $discard:expr) => {
        $(#[$doc])*
        pub(in crate::channel) struct $name<T>(pub(super) Arc<Core<T>>);

        impl<T> Clone for $name<T> {
            fn clone(&self) -> Self {
                // Ordering: Relaxed, as in `Arc`: who clones has a handle, so the count is not zero.
                if self.0.$count.fetch_add(1, Ordering::Relaxed) > MOST_HANDLES {
                    std::process::abort();
                }
                $name(Arc::clone(&self.0))
            }
        }

        impl<T> Drop for $name<T> {
            fn drop(&mut self) {
                // Ordering: AcqRel, so that all that was done with the other handles happens before.
                if self.0.$count.fetch_sub(1, Ordering::AcqRel) == 1 {
                    self.0.shut($discard);
                }
            }
        }

        impl<T> Deref for $name<T> {
            type Target = Core<T>;

            #[inline]
            fn deref(&self) -> &Core<T> {
                &self.0
            }
        }

        impl<T> $name<T> {
            pub(in crate::channel) fn same(&self, other: &Self) -> bool {
                Arc::ptr_eq(&self.0, &other.0)
            }
        }
    };
}

end! {
    /// A counted right to send. The last one to go disconnects the channel.
    SendEnd, senders, discard: false
}

end! {
    /// A counted right to receive. The last one to go disconnects the channel, and drops what is left.
    RecvEnd, receivers, discard: true
}
