//! [`Semaphore`]: a number of permits, for which one waits in line.
//!
//! Count and line are under one short lock. Permits that come back go to the head of the line, and to nobody
//! behind it before it has all it wants: a large request is not starved by small ones. So whatever changes the
//! count, or the head of the line, is followed by [`State::grant`].

use super::line::{Line, Place, Wakes};
use crate::wait::{FIRST_FREE, Reason, ShortLock, TIMED_OUT, Token, WaitKind};
use std::error::Error;
use std::fmt;
use std::future::Future;
use std::panic::{RefUnwindSafe, UnwindSafe};
use std::pin::Pin;
use std::sync::Arc;
use std::task::{Context, Poll};
use std::time::{Duration, Instant};

/// You have what you wanted.
const GRANTED: Token = FIRST_FREE;
/// There will be no more.
const CLOSED: Token = FIRST_FREE + 1;

/// Permits, to be acquired and given back. Weighted, first come, first served.
///
/// As Go's `golang.org/x/sync/semaphore`, with the names of tokio's.
///
/// # Examples
///
/// At most two at a time:
///
/// ```
/// use strands::sync::{Arc, Semaphore, WaitGroup};
///
/// let (gate, group) = (Arc::new(Semaphore::new(2)), WaitGroup::new());
/// for _ in 0..10 {
///     let gate = Arc::clone(&gate);
///     group.go(move || {
///         let _permit = gate.acquire().expect("nobody closes it");
///         // … what only two may do at a time …
///     });
/// }
/// group.wait();
/// assert_eq!(gate.available_permits(), 2);
/// ```
///
/// # More than there is
///
/// There may be 0 permits: then everybody waits until somebody [adds](Semaphore::add_permits) some. For the same
/// reason one who wants more permits than there are altogether is not refused: it waits, and those who come
/// later wait behind it, until permits are added, it gives up, or the semaphore is closed.
pub struct Semaphore {
    state: ShortLock<State>,
}

struct State {
    permits: usize,
    closed: bool,
    /// Each place notes how many it wants.
    line: Line,
}

/// The semaphore is closed.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct AcquireError;

/// Why permits could not be had at once.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum TryAcquireError {
    /// The semaphore is closed.
    Closed,
    /// There are not enough just now, or others wait for them.
    NoPermits,
}

/// Why permits could not be had in time.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum AcquireTimeoutError {
    /// The semaphore is closed.
    Closed,
    /// The time has passed.
    Timeout,
}

impl State {
    fn try_take(&mut self, n: usize) -> Result<(), TryAcquireError> {
        if self.closed {
            return Err(TryAcquireError::Closed);
        }
        if self.permits < n || !self.line.is_empty() {
            return Err(TryAcquireError::NoPermits);
        }
        self.permits -= n;
        Ok(())
    }

    /// Serves the head of the line as far as permits go, until `wakes` is full.
    fn grant(&mut self, wakes: &mut Wakes) {
        while !wakes.is_full()
            && let Some(wanted) = self.line.first_note()
            && wanted <= self.permits
        {
            // `None`: it has given up, and what is first now may want more.
            if let Some(wake) = self.line.take_first(GRANTED) {
                self.permits -= wanted;
                wakes.push(wake);
            }
        }
    }
}

impl UnwindSafe for Semaphore {}
impl RefUnwindSafe for Semaphore {}

impl Semaphore {
    /// As many permits as there can be.
    pub const MAX_PERMITS: usize = usize::MAX >> 3;

    const_unless_loom! {
        /// A semaphore with so many permits.
        ///
        /// # Panics
        /// If there are more than [`MAX_PERMITS`](Semaphore::MAX_PERMITS).
        pub fn new(permits: usize) -> Semaphore {
            assert!(permits <= Semaphore::MAX_PERMITS, "too many permits");
            Semaphore { state: ShortLock::new(State { permits, closed: false, line: Line::new() }) }
        }
    }

    /// Acquires a permit, waiting for one.
    ///
    /// Blocks: the goroutine, or else the thread.
    ///
    /// # Errors
    /// The semaphore is closed, or is closed meanwhile.
    pub fn acquire(&self) -> Result<Permit<'_>, AcquireError> {
        self.acquire_many(1)
    }

    /// Acquires so many permits at once, waiting for them. See [above](Semaphore#more-than-there-is) for what
    /// happens if there are not as many.
    ///
    /// Blocks: the goroutine, or else the thread.
    ///
    /// # Errors
    /// The semaphore is closed, or is closed meanwhile.
    pub fn acquire_many(&self, n: usize) -> Result<Permit<'_>, AcquireError> {
        match self.take(n, None) {
            Ok(()) => Ok(Permit { semaphore: self, count: n }),
            Err(_) => Err(AcquireError),
        }
    }

    /// Acquires a permit, waiting for one for at most this long.
    ///
    /// Blocks: the goroutine, or else the thread.
    ///
    /// # Errors
    /// [`Timeout`](AcquireTimeoutError::Timeout) or [`Closed`](AcquireTimeoutError::Closed).
    pub fn acquire_timeout(&self, timeout: Duration) -> Result<Permit<'_>, AcquireTimeoutError> {
        self.acquire_many_until(1, super::deadline_in(timeout))
    }

    /// Acquires a permit, waiting until then at most. A moment that has passed makes it one attempt.
    ///
    /// Blocks: the goroutine, or else the thread.
    ///
    /// # Errors
    /// As [`acquire_timeout`](Semaphore::acquire_timeout).
    pub fn acquire_deadline(&self, deadline: Instant) -> Result<Permit<'_>, AcquireTimeoutError> {
        self.acquire_many_until(1, Some(deadline))
    }

    /// Acquires so many permits at once, waiting for them for at most this long.
    ///
    /// Blocks: the goroutine, or else the thread.
    ///
    /// # Errors
    /// As [`acquire_timeout`](Semaphore::acquire_timeout).
    pub fn acquire_many_timeout(
        &self,
        n: usize,
        timeout: Duration,
    ) -> Result<Permit<'_>, AcquireTimeoutError> {
        self.acquire_many_until(n, super::deadline_in(timeout))
    }

    fn acquire_many_until(
        &self,
        n: usize,
        deadline: Option<Instant>,
    ) -> Result<Permit<'_>, AcquireTimeoutError> {
        self.take(n, deadline).map(|()| Permit { semaphore: self, count: n })
    }

    /// Acquires a permit if there is one, and nobody waits for it. Never blocks.
    ///
    /// # Errors
    /// [`NoPermits`](TryAcquireError::NoPermits) or [`Closed`](TryAcquireError::Closed).
    pub fn try_acquire(&self) -> Result<Permit<'_>, TryAcquireError> {
        self.try_acquire_many(1)
    }

    /// Acquires so many permits if they are there, and nobody waits for them. Never blocks.
    ///
    /// # Errors
    /// As [`try_acquire`](Semaphore::try_acquire).
    pub fn try_acquire_many(&self, n: usize) -> Result<Permit<'_>, TryAcquireError> {
        self.state.lock().try_take(n)?;
        Ok(Permit { semaphore: self, count: n })
    }

    /// Acquires a permit in async code.
    ///
    /// Can be cancelled: a future that is dropped has acquired nothing, and has lost its place in line.
    ///
    /// # Errors
    /// The future's output is that of [`acquire`](Semaphore::acquire).
    pub fn acquire_async(&self) -> Acquire<'_> {
        self.acquire_many_async(1)
    }

    /// Acquires so many permits at once in async code. As [`acquire_async`](Semaphore::acquire_async).
    pub fn acquire_many_async(&self, n: usize) -> Acquire<'_> {
        Acquire { semaphore: self, count: n, place: None }
    }

    /// Acquires a permit that can be moved anywhere, waiting for one.
    ///
    /// Blocks: the goroutine, or else the thread.
    ///
    /// # Errors
    /// The semaphore is closed, or is closed meanwhile.
    ///
    /// # Examples
    ///
    /// ```
    /// use strands::sync::{Arc, Semaphore};
    ///
    /// let gate = Arc::new(Semaphore::new(1));
    /// let permit = Arc::clone(&gate).acquire_owned().unwrap();
    /// strands::go(move || drop(permit)).join().unwrap();
    /// assert_eq!(gate.available_permits(), 1);
    /// ```
    pub fn acquire_owned(self: Arc<Self>) -> Result<OwnedPermit, AcquireError> {
        self.acquire_many_owned(1)
    }

    /// Acquires so many permits at once that can be moved anywhere, waiting for them.
    ///
    /// Blocks: the goroutine, or else the thread.
    ///
    /// # Errors
    /// The semaphore is closed, or is closed meanwhile.
    pub fn acquire_many_owned(self: Arc<Self>, n: usize) -> Result<OwnedPermit, AcquireError> {
        match self.take(n, None) {
            Ok(()) => Ok(OwnedPermit { semaphore: self, count: n }),
            Err(_) => Err(AcquireError),
        }
    }

    /// Acquires a permit that can be moved anywhere, if there is one and nobody waits for it. Never blocks.
    ///
    /// # Errors
    /// As [`try_acquire`](Semaphore::try_acquire).
    pub fn try_acquire_owned(self: Arc<Self>) -> Result<OwnedPermit, TryAcquireError> {
        self.state.lock().try_take(1)?;
        Ok(OwnedPermit { semaphore: self, count: 1 })
    }

    fn take(&self, n: usize, deadline: Option<Instant>) -> Result<(), AcquireTimeoutError> {
        match self.state.lock().try_take(n) {
            Ok(()) => return Ok(()),
            Err(TryAcquireError::Closed) => return Err(AcquireTimeoutError::Closed),
            Err(TryAcquireError::NoPermits) => {}
        }
        let place = Place::until(deadline);
        // SAFETY: the place stays in this frame until it was claimed and woken, or is taken out below.
        match unsafe { self.take_or_join(n, &place) } {
            Ok(()) => return Ok(()),
            Err(TryAcquireError::Closed) => return Err(AcquireTimeoutError::Closed),
            Err(TryAcquireError::NoPermits) => {}
        }
        match place.park(self.reason(), deadline) {
            GRANTED => Ok(()),
            TIMED_OUT => {
                self.leave(&place);
                Err(AcquireTimeoutError::Timeout)
            }
            _ => Err(AcquireTimeoutError::Closed),
        }
    }

    fn reason(&self) -> Reason {
        Reason::on(WaitKind::Semaphore, std::ptr::from_ref(self).addr())
    }

    /// Takes the permits if that is possible at once, or joins the line: then it is `NoPermits`.
    ///
    /// # Safety
    /// As for [`Line::join`].
    unsafe fn take_or_join(&self, n: usize, place: &Place) -> Result<(), TryAcquireError> {
        let mut state = self.state.lock();
        let taken = state.try_take(n);
        if taken == Err(TryAcquireError::NoPermits) {
            // SAFETY: the caller's promise.
            unsafe { state.line.join(place, n) };
        }
        taken
    }

    /// Takes one out of the line who waits no longer, which may make room for those behind it. False: it had
    /// been served.
    fn leave(&self, place: &Place) -> bool {
        let was_in = self.state.lock().line.leave(place);
        self.serve();
        was_in
    }

    /// Permits come back: serves those who wait.
    #[inline]
    fn give(&self, n: usize) {
        let mut state = self.state.lock();
        state.permits += n;
        let waited = !state.line.is_empty();
        drop(state);
        if waited {
            self.serve();
        }
    }

    #[cold]
    fn serve(&self) {
        loop {
            let mut wakes = Wakes::new();
            self.state.lock().grant(&mut wakes);
            let done = !wakes.is_full();
            wakes.deliver();
            if done {
                return;
            }
        }
    }

    /// Adds permits, for good. Never blocks.
    ///
    /// # Panics
    /// If more than [`MAX_PERMITS`](Semaphore::MAX_PERMITS) would be available.
    pub fn add_permits(&self, n: usize) {
        let fits =
            n <= Semaphore::MAX_PERMITS && self.available_permits() <= Semaphore::MAX_PERMITS - n;
        assert!(fits, "too many permits");
        self.give(n);
    }

    /// How many permits there are just now.
    #[must_use]
    pub fn available_permits(&self) -> usize {
        self.state.lock().permits
    }

    /// Closes it: whoever waits, or comes later, gets an error. Permits that are out stay good. Never blocks.
    pub fn close(&self) {
        self.state.lock().closed = true;
        loop {
            // Nobody joins any more.
            let mut wakes = Wakes::new();
            {
                let mut state = self.state.lock();
                while !wakes.is_full()
                    && let Some(wake) = state.line.claim_first(CLOSED)
                {
                    wakes.push(wake);
                }
            }
            let done = !wakes.is_full();
            wakes.deliver();
            if done {
                return;
            }
        }
    }

    /// Whether it was closed.
    #[must_use]
    pub fn is_closed(&self) -> bool {
        self.state.lock().closed
    }
}

impl fmt::Debug for Semaphore {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let (permits, closed) = {
            let state = self.state.lock();
            (state.permits, state.closed)
        };
        f.debug_struct("Semaphore")
            .field("permits", &permits)
            .field("closed", &closed)
            .finish_non_exhaustive()
    }
}

/// Permits of a [`Semaphore`], given back when dropped.
#[must_use = "if unused the permits go back immediately"]
#[clippy::has_significant_drop]
#[derive(Debug)]
pub struct Permit<'a> {
    semaphore: &'a Semaphore,
    count: usize,
}

/// Permits of a [`Semaphore`] that can be moved anywhere, given back when dropped.
#[must_use = "if unused the permits go back immediately"]
#[clippy::has_significant_drop]
#[derive(Debug)]
pub struct OwnedPermit {
    semaphore: Arc<Semaphore>,
    count: usize,
}

macro_rules! permit {
    ($($permit:ty),*) => {$(
        impl $permit {
            /// How many it is.
            #[must_use]
            pub fn count(&self) -> usize {
                self.count
            }

            /// Keeps the permits from going back: the semaphore has so many less from now on.
            pub fn forget(mut self) {
                self.count = 0;
            }
        }

        impl Drop for $permit {
            fn drop(&mut self) {
                if self.count > 0 {
                    self.semaphore.give(self.count);
                }
            }
        }
    )*};
}

permit! { Permit<'_>, OwnedPermit }

/// Acquires permits in async code: what [`Semaphore::acquire_async`] returns.
#[must_use = "futures do nothing unless polled"]
pub struct Acquire<'a> {
    semaphore: &'a Semaphore,
    count: usize,
    place: Option<Place>,
}

impl<'a> Future for Acquire<'a> {
    type Output = Result<Permit<'a>, AcquireError>;

    fn poll(self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<Self::Output> {
        // SAFETY: the place is not moved while it is in line.
        let this = unsafe { self.get_unchecked_mut() };
        // What belongs to the executor is cloned and dropped outside the short lock.
        let waker = cx.waker().clone();
        let token = match &this.place {
            Some(place) => {
                let (outcome, former) = {
                    let _state = this.semaphore.state.lock();
                    match place.outcome() {
                        None => (None, place.renew(waker)),
                        outcome => (outcome, Some(waker)),
                    }
                };
                drop(former);
                let Some(token) = outcome else { return Poll::Pending };
                this.place = None;
                token
            }
            None => {
                let place = this.place.insert(Place::of_future(waker));
                // SAFETY: we are pinned, and the place is out of line before it is dropped: by its claim, or
                // in `drop`.
                match unsafe { this.semaphore.take_or_join(this.count, place) } {
                    Err(TryAcquireError::NoPermits) => return Poll::Pending,
                    taken => {
                        this.place = None;
                        if taken.is_ok() { GRANTED } else { CLOSED }
                    }
                }
            }
        };
        Poll::Ready(match token {
            GRANTED => Ok(Permit { semaphore: this.semaphore, count: this.count }),
            _ => Err(AcquireError),
        })
    }
}

impl Drop for Acquire<'_> {
    fn drop(&mut self) {
        if let Some(place) = &self.place
            && !self.semaphore.leave(place)
            && place.outcome() == Some(GRANTED)
        {
            self.semaphore.give(self.count);
        }
    }
}

impl fmt::Debug for Acquire<'_> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Acquire").field("count", &self.count).finish_non_exhaustive()
    }
}

impl fmt::Display for AcquireError {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("acquiring from a closed semaphore")
    }
}

impl Error for AcquireError {}

impl fmt::Display for TryAcquireError {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(match self {
            TryAcquireError::Closed => "acquiring from a closed semaphore",
            TryAcquireError::NoPermits => "no permits available",
        })
    }
}

impl Error for TryAcquireError {}

impl fmt::Display for AcquireTimeoutError {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(match self {
            AcquireTimeoutError::Closed => "acquiring from a closed semaphore",
            AcquireTimeoutError::Timeout => "timed out waiting for permits",
        })
    }
}

impl Error for AcquireTimeoutError {}
