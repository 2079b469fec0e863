//! Accepting when there are no descriptors left: nobody tells when there are some again, so the listener looks, ever more
//! seldom.

use crate::sys;
use std::io;
use std::sync::atomic::{AtomicBool, Ordering};
use std::time::Duration;

const SHORTEST: Duration = Duration::from_millis(2);
const LONGEST: Duration = Duration::from_millis(128);

/// Of one call of `accept`.
pub(super) struct Shortage {
    pause: Duration,
}

impl Shortage {
    pub(super) fn new() -> Shortage {
        Shortage { pause: SHORTEST }
    }

    /// How long to pause before the next try, after this error.
    ///
    /// # Errors
    /// It is one that the next try would meet again.
    pub(super) fn pause_for(&mut self, error: io::Error) -> io::Result<Duration> {
        match error.raw_os_error() {
            // That connection is gone; the next may be in order.
            Some(libc::ECONNABORTED | libc::EPROTO) => Ok(Duration::ZERO),
            Some(libc::EMFILE | libc::ENFILE | libc::ENOBUFS | libc::ENOMEM) => {
                say_once(&error);
                let pause = self.pause;
                self.pause = (2 * pause).min(LONGEST);
                Ok(pause)
            }
            _ => Err(error),
        }
    }
}

#[cold]
fn say_once(error: &io::Error) {
    static SAID: AtomicBool = AtomicBool::new(false);
    if !SAID.swap(true, Ordering::Relaxed) {
        let text = format!("strands: a listener cannot accept: {error}; it waits until it can\n");
        sys::say(text.as_bytes());
    }
}
