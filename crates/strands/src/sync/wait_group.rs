//! [`WaitGroup`]: waiting for a number of things to be done.
//!
//! Count and crowd are under one short lock, which costs what an atomic counter would, and makes reuse exact:
//! those who wait are let go by the `done` that finds zero, and those who come after the next `add` are not
//! among them.

use super::line::{Crowd, Place, dismiss};
use crate::wait::{FIRST_FREE, Reason, ShortLock, TIMED_OUT, Token, WaitKind};
use std::fmt;
use std::panic::{RefUnwindSafe, UnwindSafe};
use std::pin::Pin;
use std::sync::Arc;
use std::task::{Context, Poll};
use std::time::{Duration, Instant};

/// The count has reached zero.
const DONE: Token = FIRST_FREE;

/// Waits for a number of goroutines, or whatever else, to be done. As Go's `sync.WaitGroup`.
///
/// Clones share the group, so that it can be moved into closures; a clone is not counted.
///
/// # Examples
///
/// ```
/// use strands::sync::WaitGroup;
/// use strands::sync::atomic::{AtomicUsize, Ordering};
///
/// static FETCHED: AtomicUsize = AtomicUsize::new(0);
/// let group = WaitGroup::new();
/// for _ in 0..3 {
///     group.go(|| FETCHED.fetch_add(1, Ordering::Relaxed));
/// }
/// group.wait();
/// assert_eq!(FETCHED.load(Ordering::Relaxed), 3);
/// ```
///
/// # Differences from Go
///
/// `add` cannot subtract. Reuse while others still wait is not a mistake: each wait ends when the count that it
/// has seen reaches zero. With [`go`](WaitGroup::go) a panic counts as done, and stays in its goroutine.
///
/// Where children may borrow, or hand back results, [`scope`](crate::scope) serves better.
#[derive(Clone)]
pub struct WaitGroup {
    inner: Arc<ShortLock<Inner>>,
}

struct Inner {
    count: usize,
    crowd: Crowd,
}

impl UnwindSafe for WaitGroup {}
impl RefUnwindSafe for WaitGroup {}

impl WaitGroup {
    /// A group with nothing to wait for.
    #[must_use]
    pub fn new() -> WaitGroup {
        let inner = Inner { count: 0, crowd: Crowd::new() };
        WaitGroup { inner: Arc::new(ShortLock::new(inner)) }
    }

    /// Adds so many things to wait for. Never blocks.
    ///
    /// To be called before that is started which calls `done`; and before `wait`, if that is to wait for it.
    ///
    /// # Panics
    /// If the count overflows.
    pub fn add(&self, n: usize) {
        let mut inner = self.inner.lock();
        let count = inner.count.checked_add(n);
        if let Some(count) = count {
            inner.count = count;
        }
        drop(inner);
        assert!(count.is_some(), "WaitGroup counter overflow");
    }

    /// One thing is done; if it was the last, whoever waits goes on. Never blocks.
    ///
    /// What came before it happens before the wait returns that it ends.
    ///
    /// # Panics
    /// If there is nothing to be done: "negative WaitGroup counter". The group is as before.
    pub fn done(&self) {
        let mut inner = self.inner.lock();
        let count = inner.count.checked_sub(1);
        let occurrence = match count {
            Some(count) => {
                inner.count = count;
                if count == 0 { inner.crowd.occur() } else { None }
            }
            None => None,
        };
        drop(inner);
        assert!(count.is_some(), "negative WaitGroup counter");
        dismiss(&self.inner, |inner| &mut inner.crowd, occurrence, DONE);
    }

    /// Waits until all is done; if nothing is to be done, returns at once.
    ///
    /// Blocks: the goroutine, or else the thread.
    pub fn wait(&self) {
        self.wait_until(None);
    }

    /// Waits until all is done, for at most this long. False: the time has passed.
    ///
    /// Blocks: the goroutine, or else the thread.
    ///
    /// # Examples
    ///
    /// ```
    /// use std::time::Duration;
    /// use strands::sync::WaitGroup;
    ///
    /// let group = WaitGroup::new();
    /// group.add(1);
    /// assert!(!group.wait_timeout(Duration::from_millis(1)));
    /// group.done();
    /// assert!(group.wait_timeout(Duration::ZERO));
    /// ```
    #[must_use = "it tells whether all is done"]
    pub fn wait_timeout(&self, timeout: Duration) -> bool {
        self.wait_until(super::deadline_in(timeout))
    }

    /// Waits until all is done, until then at most. False: the time has passed.
    ///
    /// Blocks: the goroutine, or else the thread.
    #[must_use = "it tells whether all is done"]
    pub fn wait_deadline(&self, deadline: Instant) -> bool {
        self.wait_until(Some(deadline))
    }

    /// Waits until all is done, in async code on any executor.
    ///
    /// Blocks nothing: the future is pending meanwhile. It may be dropped at any time.
    pub fn wait_async(&self) -> Wait<'_> {
        Wait { group: self, place: None }
    }

    fn wait_until(&self, deadline: Option<Instant>) -> bool {
        let place = Place::until(deadline);
        {
            let mut inner = self.inner.lock();
            if inner.count == 0 {
                return true;
            }
            // SAFETY: the place stays in this frame until it was claimed and woken, or is taken out below.
            unsafe { inner.crowd.join(&place) };
        }
        let why = Reason::on(WaitKind::WaitGroup, Arc::as_ptr(&self.inner).addr());
        let in_time = place.park(why, deadline) != TIMED_OUT;
        if !in_time {
            self.inner.lock().crowd.leave(&place);
        }
        in_time
    }

    /// Starts a goroutine, and counts it until it has ended, be it by a panic.
    ///
    /// The panic is printed, as that of any goroutine nobody joins. What `f` returns is dropped.
    ///
    /// # Panics
    /// If memory or a thread is refused.
    #[track_caller]
    pub fn go<F, T>(&self, f: F)
    where
        F: FnOnce() -> T + Send + 'static,
    {
        self.add(1);
        // If the goroutine cannot be started it is dropped, and counted out.
        let member = Member(self.clone());
        drop(crate::everyday::go(move || {
            let _member = member;
            drop(f());
        }));
    }
}

/// Waits for a group in async code: what [`WaitGroup::wait_async`] returns.
#[must_use = "futures do nothing unless polled"]
pub struct Wait<'a> {
    group: &'a WaitGroup,
    place: Option<Place>,
}

impl Future for Wait<'_> {
    type Output = ();

    fn poll(self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<()> {
        // SAFETY: the place is not moved while it is in line.
        let this = unsafe { self.get_unchecked_mut() };
        // What belongs to the executor is cloned and dropped outside the short lock.
        let waker = cx.waker().clone();
        if let Some(place) = &this.place {
            let (done, former) = {
                let _inner = this.group.inner.lock();
                match place.outcome() {
                    Some(_) => (true, Some(waker)),
                    None => (false, place.renew(waker)),
                }
            };
            drop(former);
            if done {
                this.place = None;
                return Poll::Ready(());
            }
            return Poll::Pending;
        }
        let place = this.place.insert(Place::of_future(waker));
        let mut inner = this.group.inner.lock();
        if inner.count == 0 {
            drop(inner);
            this.place = None;
            return Poll::Ready(());
        }
        // SAFETY: we are pinned, and the place is out of line before it is dropped: by its claim, or in `drop`.
        unsafe { inner.crowd.join(place) };
        Poll::Pending
    }
}

impl Drop for Wait<'_> {
    fn drop(&mut self) {
        if let Some(place) = &self.place {
            self.group.inner.lock().crowd.leave(place);
        }
    }
}

impl fmt::Debug for Wait<'_> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.pad("Wait { .. }")
    }
}

/// Something that has been added, and is done when this goes.
struct Member(WaitGroup);

impl Drop for Member {
    fn drop(&mut self) {
        self.0.done();
    }
}

impl Default for WaitGroup {
    fn default() -> WaitGroup {
        WaitGroup::new()
    }
}

impl fmt::Debug for WaitGroup {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let count = self.inner.lock().count;
        f.debug_struct("WaitGroup").field("count", &count).finish()
    }
}
