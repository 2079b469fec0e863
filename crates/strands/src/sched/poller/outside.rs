//! The poller of those who are no goroutines: async tasks of other executors, plain threads in a select. It has a thread,
//! started when it is first needed, that sleeps in it and wakes them.

use super::{Poller, handle};
use crate::sched::runtime::Runtime;
use crate::sched::threads;
use crate::sys::epoll::Events;
use crate::wait::Wake;
use std::io;
use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::{Mutex, OnceLock, PoisonError};

pub(crate) struct Outside {
    poller: OnceLock<Poller>,
    starting: Mutex<()>,
    has_thread: AtomicBool,
    /// Whether it may have taken somebody out of a line whom it has yet to wake.
    delivering: AtomicBool,
}

impl Outside {
    pub(in crate::sched) fn new() -> Outside {
        Outside {
            poller: OnceLock::new(),
            starting: Mutex::new(()),
            has_thread: AtomicBool::new(false),
            delivering: AtomicBool::new(false),
        }
    }

    /// The poller, whose thread is started if it has none.
    pub(super) fn poller(&'static self) -> io::Result<&'static Poller> {
        if let Some(poller) = self.poller.get() {
            return Ok(poller);
        }
        let _starting = self.starting.lock().unwrap_or_else(PoisonError::into_inner);
        if let Some(poller) = self.poller.get() {
            return Ok(poller);
        }
        let poller = Poller::new()?;
        threads::start("strands-poller", move || self.run())?;
        self.has_thread.store(true, Ordering::SeqCst);
        Ok(self.poller.get_or_init(|| poller))
    }

    /// How many threads we have started: one or none.
    pub(in crate::sched) fn threads(&self) -> usize {
        usize::from(self.has_thread.load(Ordering::SeqCst))
    }

    /// Whether it may be about to wake somebody. To be asked after it was asked who waits.
    pub(in crate::sched) fn is_delivering(&self) -> bool {
        self.delivering.load(Ordering::SeqCst)
    }

    fn run(&self) -> ! {
        let poller = self.poller.wait();
        let mut events = Events::new();
        loop {
            poller.sleep(&mut events, None);
            self.delivering.store(true, Ordering::SeqCst);
            handle(&events, Wake::deliver);
            if let Some(runtime) = Runtime::running() {
                poller.got_up(runtime.clock.now());
            }
            self.delivering.store(false, Ordering::SeqCst);
        }
    }
}
