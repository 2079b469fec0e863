//! The counted handles of a channel: when the last of one side goes, the channel is disconnected.

use super::Core;
use crate::primitive::Arc;
use crate::primitive::atomic::Ordering;
use std::ops::Deref;

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
