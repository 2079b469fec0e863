//! Timers for async tasks: [`AlarmFuture`], and the thread that fires them.
//!
//! The timer of a goroutine is fired by its home, and so is that of a task of ours, or of a goroutine that polls a
//! future by itself: by the worker on which it was set. Other wakers are code of some executor, and no such
//! code runs on a worker's own stack. So those alarms have a thread, which sleeps until the earliest is due and calls the
//! wakers. It is started with the first of them that has to wait.
//!
//! A future may be polled by a task of ours first and by a stranger then. Its alarm moves to the thread with the first
//! foreign waker, before that waker is left anywhere.
//!
//! How it learns of an alarm that is earlier than all others, and that it sleeps through none, is in `bedtime`.

use super::bedtime::Bedtime;
use super::future;
use super::here::Here;
use super::runtime::Runtime;
use super::threads;
use super::timers::{Entry, NEVER, Timers};
use crate::sys;
use crate::wait::{Waiter, Wake};
use crossbeam_utils::CachePadded;
use std::cell::Cell;
use std::io;
use std::pin::Pin;
use std::ptr::{self, NonNull};
use std::sync::atomic::{AtomicBool, AtomicUsize, Ordering};
use std::sync::{Mutex, PoisonError};
use std::task::{Poll, Waker};
use std::time::{Duration, Instant};

/// More heaps than this make looking for the earliest dearer than they save in waiting for each other.
const MOST_HEAPS: usize = 8;

/// The alarms of a runtime.
pub(crate) struct Alarms {
    heaps: Box<[CachePadded<Timers>]>,
    bed: Bedtime,
    /// Whether it may have taken out alarms whose wakers it has yet to call.
    firing: AtomicBool,
    has_thread: AtomicBool,
    starting: Mutex<()>,
}

impl Alarms {
    pub(super) fn new(cpus: usize) -> Alarms {
        let heaps = cpus.clamp(1, MOST_HEAPS);
        Alarms {
            heaps: (0..heaps).map(|_| CachePadded::new(Timers::new())).collect(),
            bed: Bedtime::new(),
            firing: AtomicBool::new(false),
            has_thread: AtomicBool::new(false),
            starting: Mutex::new(()),
        }
    }

    /// Whether an alarm is pending, or being fired.
    ///
    /// In this order: the thread says that it fires before it takes an alarm out.
    pub(super) fn any(&self) -> bool {
        self.earliest() != NEVER || self.firing.load(Ordering::SeqCst)
    }

    /// How many threads we have started: one or none.
    pub(super) fn threads(&self) -> usize {
        usize::from(self.has_thread.load(Ordering::SeqCst))
    }

    fn earliest(&self) -> u64 {
        self.heaps.iter().map(|heap| heap.earliest()).min().unwrap_or(NEVER)
    }

    /// The heap that the calling thread puts its alarms into. Never inlined, so that no caller can keep a
    /// thread-local's address across a switch.
    #[inline(never)]
    fn heap(&self) -> &Timers {
        thread_local! {
            static NUMBER: Cell<Option<usize>> = const { Cell::new(None) };
        }
        static NUMBERS: AtomicUsize = AtomicUsize::new(0);
        let number = NUMBER.get().unwrap_or_else(|| {
            let number = NUMBERS.fetch_add(1, Ordering::Relaxed);
            NUMBER.set(Some(number));
            number
        });
        &self.heaps[number % self.heaps.len()]
    }

    /// Makes sure that there is a thread that fires alarms.
    fn ensure_thread(&'static self, runtime: &'static Runtime) -> io::Result<()> {
        // Ordering: Relaxed, nothing of the thread's is reached by way of it.
        if self.has_thread.load(Ordering::Relaxed) {
            return Ok(());
        }
        let _starting = self.starting.lock().unwrap_or_else(PoisonError::into_inner);
        if !self.has_thread.load(Ordering::Relaxed) {
            threads::start("strands-alarms", move || self.run(runtime))?;
            // Counted once it is there: for a moment it looks like a thread that we know nothing of, which
            // speaks for life.
            self.has_thread.store(true, Ordering::SeqCst);
        }
        Ok(())
    }

    fn run(&self, runtime: &Runtime) -> ! {
        sys::tighten_timer_slack();
        loop {
            self.fire(runtime.clock.now());
            let until = self.wake_at();
            self.bed.lie_down(until);
            let timeout = Duration::from_nanos(until.saturating_sub(runtime.clock.now()));
            if self.wake_at() < until || timeout.is_zero() {
                self.bed.get_up();
            } else {
                self.bed.sleep((until != NEVER).then_some(timeout));
            }
        }
    }

    fn wake_at(&self) -> u64 {
        self.heaps.iter().map(|heap| heap.wake_at()).min().unwrap_or(NEVER)
    }

    fn fire(&self, now: u64) {
        self.firing.store(true, Ordering::SeqCst);
        for heap in &self.heaps {
            heap.fire(now, Wake::deliver);
        }
        self.firing.store(false, Ordering::SeqCst);
    }
}

/// Waits for a moment, in async code on any executor.
///
/// ```text
/// let mut alarm = AlarmFuture::new(deadline);              nothing happens yet
/// Pin::new(&mut alarm).poll(context.waker())               the first one that is too early sets a timer
/// drop(alarm)                                              takes it back
/// ```
///
/// It may be polled from any thread, with another waker each time (the last one counts), and moved between
/// two polls. Once it was ready it stays so.
pub(crate) struct AlarmFuture {
    deadline: Instant,
    state: State,
}

enum State {
    /// Not set yet.
    New,
    /// Set. Behind a pointer, and not in a `Box`: the heap points to it too.
    Set(NonNull<Alarm>),
    /// The deadline has passed.
    Done,
}

/// What the heap points to. Ours from the time when it has been removed, or its waiter been finished.
struct Alarm {
    waiter: Waiter,
    entry: Entry,
    timers: &'static Timers,
    /// Whether these are a worker's, which calls our own wakers only.
    at_worker: bool,
}

// SAFETY: the alarm is behind a pointer and does not move; what others do to it they do under the lock of
// its heap, as we do. The waker may be sent.
unsafe impl Send for AlarmFuture {}
// SAFETY: through a shared reference one only reads the deadline.
unsafe impl Sync for AlarmFuture {}

impl AlarmFuture {
    /// An alarm for this moment. One that is past is ready at once.
    pub(crate) fn new(deadline: Instant) -> AlarmFuture {
        AlarmFuture { deadline, state: State::New }
    }

    /// The moment.
    pub(crate) fn deadline(&self) -> Instant {
        self.deadline
    }

    /// Whether a poll has found that the moment has come.
    pub(crate) fn has_gone_off(&self) -> bool {
        matches!(self.state, State::Done)
    }

    /// Whether the moment has come. If not, the waker will be called when it has.
    ///
    /// # Panics
    /// If memory, or a thread for the first alarm of the process, is refused.
    pub(crate) fn poll(mut self: Pin<&mut Self>, waker: &Waker) -> Poll<()> {
        if let State::Set(alarm) = self.state {
            // SAFETY: ours, and freed nowhere but in `put_out`.
            let alarm = unsafe { alarm.as_ref() };
            let may_stay = alarm.may_call(waker);
            if may_stay && alarm.is_pending(waker) {
                return Poll::Pending;
            }
            self.put_out();
            if !may_stay {
                self.state = State::New;
            }
        }
        if let State::New = self.state {
            if self.deadline > Instant::now() {
                let alarm = match Alarm::set(self.deadline, waker.clone()) {
                    Ok(alarm) => alarm,
                    Err(error) => panic!("failed to set an alarm: {error}"),
                };
                self.state = State::Set(alarm);
                return Poll::Pending;
            }
            self.state = State::Done;
        }
        Poll::Ready(())
    }

    /// Takes the alarm back, if it is set.
    fn put_out(&mut self) {
        let State::Set(alarm) = std::mem::replace(&mut self.state, State::Done) else { return };
        // SAFETY: made by `set` from a box, and `state` no longer names it.
        let alarm = unsafe {
            alarm.as_ref().cancel();
            Box::from_raw(alarm.as_ptr())
        };
        // The heap does not point to it any more.
        drop(alarm);
    }
}

impl Drop for AlarmFuture {
    fn drop(&mut self) {
        self.put_out();
    }
}

impl Alarm {
    fn set(deadline: Instant, waker: Waker) -> io::Result<NonNull<Alarm>> {
        let runtime = Runtime::get()?;
        // A host may leave while timers are pending that are not its guest's.
        let worker = Here::get().filter(|here| future::is_ours(&waker) && !here.is_host());
        let timers = match worker {
            // It is awake, and looks at its timers before it sleeps; it stays as long as there are any.
            Some(here) => here.worker().timers(),
            None => {
                runtime.alarms.ensure_thread(runtime)?;
                runtime.alarms.heap()
            }
        };
        let (at_worker, entry) = (worker.is_some(), Entry::new(ptr::null()));
        let waiter = Waiter::of_future(waker);
        let alarm = Box::into_raw(Box::new(Alarm { waiter, entry, timers, at_worker }));
        let deadline = runtime.clock.nanos_of(deadline);
        // SAFETY: just made, and nobody else knows of it yet. It stays where it is until `put_out`, which
        // takes the entry out.
        unsafe {
            (*alarm).entry = Entry::new(&raw const (*alarm).waiter);
            timers.insert(&(*alarm).entry, deadline);
        }
        if !at_worker {
            runtime.alarms.bed.notice(deadline);
        }
        Ok(NonNull::new(alarm).expect("a box is somewhere"))
    }

    /// Whether this waker may be called by whoever fires it.
    fn may_call(&self, waker: &Waker) -> bool {
        !self.at_worker || future::is_ours(waker)
    }

    /// False if it has gone off. If not, it will call this waker, which it may.
    fn is_pending(&self, waker: &Waker) -> bool {
        if self.waiter.outcome().is_some() {
            return false;
        }
        // SAFETY: pending, so unclaimed, and the lock of its only place is held.
        let knows = || unsafe { self.waiter.would_wake(waker) };
        match self.timers.if_pending(&self.entry, knows) {
            None => return false,
            Some(true) => return true,
            Some(false) => {}
        }
        // Cloned out here, and whichever is not needed dropped out here: both are code of the executor's.
        let mut waker = Some(waker.clone());
        self.timers
            .if_pending(&self.entry, || {
                // SAFETY: as above.
                waker.take().map(|waker| unsafe { self.waiter.replace_waker(waker) })
            })
            .is_some()
    }

    /// Sees to it that nobody will touch it any more.
    fn cancel(&self) {
        // Once the waiter is finished nobody does, and there is no need for the lock.
        if self.waiter.outcome().is_none() {
            self.timers.remove(&self.entry);
        }
    }
}
