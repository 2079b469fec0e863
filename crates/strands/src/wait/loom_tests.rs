//! Models of the seam: threads that wait, claimants, and deadlines, in all orders.
//!
//! A deadline here is one that has passed: the waiter lies down, and gives up at its next step. Since loom
//! runs the others between any two steps, that is every deadline there is.

use super::*;
use crate::primitive::UnsafeCell;
use loom::thread;
use std::time::Duration;

const SERVED: Token = FIRST_FREE;

/// A waiter and its neighbourhood, as a channel has them in a frame.
struct Frame {
    waiter: Waiter,
    slot: UnsafeCell<Token>,
}

// SAFETY: the slot is touched by the claimant between claim and finish, and else by the owner: which is
// what the models check.
unsafe impl Send for Frame {}
// SAFETY: as above.
unsafe impl Sync for Frame {}

impl Frame {
    fn new() -> Frame {
        Frame { waiter: Waiter::new(), slot: UnsafeCell::new(WAITING) }
    }

    fn park(&self, deadline: Option<Instant>) -> Token {
        self.waiter.park(WaitKind::Receive.into(), deadline)
    }

    /// What the claimant has left. For the owner, after `park`.
    fn look(&self) -> Token {
        // SAFETY: the claimant is done, or there was none.
        self.slot.with(|slot| unsafe { *slot })
    }

    /// Claims the waiter and leaves the token in its neighbourhood.
    fn serve(&self, token: Token) -> Option<Wake> {
        self.waiter.try_claim(token).then(|| {
            // SAFETY: claimed by us.
            self.slot.with_mut(|slot| unsafe { *slot = token });
            // SAFETY: claimed by us, and this is the last we do with it.
            unsafe { self.waiter.finish() }
        })
    }

    /// The frame ends: whoever touches it later, or has just touched it and nothing says that this came
    /// before, has touched something else. A wake-up that is owed must have nothing to do with it.
    fn end(&mut self, decoy: &Arc<ThreadParker>) {
        self.waiter.claim.with_mut(|_| ());
        self.waiter.finished.with_mut(|_| ());
        self.slot.with_mut(|_| ());
        self.waiter.task = Task::Thread(Arc::clone(decoy));
    }
}

fn passed() -> Option<Instant> {
    Some(Instant::now() - Duration::from_secs(1))
}

/// Where wakers find a waiter.
struct Meeting(ShortLock<*mut Frame>);

// SAFETY: the frame is reached under the lock, and its owner takes its pointer out before it leaves.
unsafe impl Send for Meeting {}
// SAFETY: as above.
unsafe impl Sync for Meeting {}

impl Meeting {
    fn new() -> Meeting {
        Meeting(ShortLock::new(std::ptr::null_mut()))
    }

    /// Serves whoever waits here.
    fn serve(&self) -> bool {
        let wake = {
            let mut place = self.0.lock();
            // SAFETY: its owner does not leave before it has been claimed or has taken it out.
            let wake = unsafe { place.as_ref() }.and_then(|frame| frame.serve(SERVED));
            if wake.is_some() {
                *place = std::ptr::null_mut();
            }
            wake
        };
        wake.map(Wake::deliver).is_some()
    }

    /// Waits here in a frame that ends as soon as the wait does.
    fn wait(&self, deadline: Option<Instant>, decoy: &Arc<ThreadParker>) -> Token {
        let frame = Box::into_raw(Box::new(Frame::new()));
        *self.0.lock() = frame;
        // SAFETY: alive until the end of this function.
        let token = unsafe { (*frame).park(deadline) };
        if token == TIMED_OUT {
            *self.0.lock() = std::ptr::null_mut();
        } else {
            // SAFETY: as above.
            assert_eq!(unsafe { (*frame).look() }, token);
        }
        // SAFETY: whoever could reach the frame is done with it, and it came out of a box.
        unsafe {
            (*frame).end(decoy);
            drop(Box::from_raw(frame));
        }
        token
    }
}

#[test]
fn of_two_claimants_one_wins_and_its_value_arrives() {
    loom::model(|| {
        let frame = Arc::new(Frame::new());
        let claimants = [SERVED, SERVED + 1].map(|token| {
            let frame = Arc::clone(&frame);
            thread::spawn(move || frame.serve(token).map(Wake::deliver).is_some())
        });
        let token = frame.park(None);
        assert_eq!(frame.look(), token);
        let won = claimants.map(|claimant| claimant.join().unwrap());
        assert_eq!(won, [token == SERVED, token == SERVED + 1]);
    });
}

#[test]
fn a_waiter_that_gives_up_has_been_given_nothing() {
    loom::model(|| {
        let frame = Arc::new(Frame::new());
        let claimant = {
            let frame = Arc::clone(&frame);
            thread::spawn(move || frame.serve(SERVED).map(Wake::deliver).is_some())
        };
        let token = frame.park(passed());
        assert_eq!(frame.look(), if token == SERVED { SERVED } else { WAITING });
        assert_eq!(claimant.join().unwrap(), token == SERVED);
    });
}

#[test]
fn two_claimants_and_a_deadline_make_one_winner() {
    let mut model = loom::model::Builder::new();
    model.preemption_bound = Some(3);
    model.check(|| {
        let frame = Arc::new(Frame::new());
        let claimants = [SERVED, SERVED + 1].map(|token| {
            let frame = Arc::clone(&frame);
            thread::spawn(move || frame.serve(token).map(Wake::deliver).is_some())
        });
        let token = frame.park(passed());
        assert_eq!(frame.look(), if token == TIMED_OUT { WAITING } else { token });
        let won = claimants.map(|claimant| claimant.join().unwrap());
        assert_eq!(won, [token == SERVED, token == SERVED + 1]);
    });
}

#[test]
fn nobody_touches_a_frame_that_has_ended() {
    for deadline in [None, passed()] {
        loom::model(move || {
            let meeting = Arc::new(Meeting::new());
            let decoy = ThreadParker::current();
            let waiting = {
                let (meeting, decoy) = (Arc::clone(&meeting), Arc::clone(&decoy));
                // This thread may be gone altogether when its wake-up comes.
                thread::spawn(move || meeting.wait(deadline, &decoy))
            };
            let mut served = meeting.serve();
            if !served && deadline.is_none() {
                // It was not there yet; or not seen: then it must be made to end.
                while !served {
                    thread::yield_now();
                    served = meeting.serve();
                }
            }
            assert_eq!(waiting.join().unwrap() == SERVED, served);
            assert!(!decoy.is_woken(), "the wake-up came out of a frame that had ended");
        });
    }
}

/// The first wake-up may come late, when its thread waits for the second already, since a thread that finds
/// itself served goes on without it.
#[test]
fn a_late_wake_up_does_not_swallow_the_next() {
    let mut model = loom::model::Builder::new();
    model.preemption_bound = Some(3);
    model.check(|| {
        let frames = Arc::new([Frame::new(), Frame::new()]);
        let claimants = [0, 1].map(|at| {
            let frames = Arc::clone(&frames);
            thread::spawn(move || frames[at].serve(SERVED).map(Wake::deliver).is_some())
        });
        for frame in &*frames {
            assert_eq!(frame.park(None), SERVED);
            assert_eq!(frame.look(), SERVED);
        }
        assert_eq!(claimants.map(|claimant| claimant.join().unwrap()), [true, true]);
    });
}

#[test]
fn a_late_wake_up_does_not_swallow_the_next_after_a_deadline() {
    let mut model = loom::model::Builder::new();
    model.preemption_bound = Some(3);
    model.check(|| {
        let frames = Arc::new([Frame::new(), Frame::new()]);
        let claimants = [0, 1].map(|at| {
            let frames = Arc::clone(&frames);
            thread::spawn(move || frames[at].serve(SERVED).map(Wake::deliver).is_some())
        });
        let first = frames[0].park(passed());
        assert_eq!(frames[1].park(None), SERVED);
        let served = claimants.map(|claimant| claimant.join().unwrap());
        assert_eq!(served, [first == SERVED, true]);
    });
}
