//! Who has a processor, and whether that worker is using its queue just now.
//!
//! Taking a processor away must not collide with its owner using the queue, which it does in the middle of user code
//! (`go` pushes onto it), where nothing can stop it. So the owner *enters* for the few instructions of each use, and only
//! a processor that nobody is in can be taken:
//!
//! ```text
//!   owner word:  { worker + 1, recalled: bit 1, inside: bit 0 }      0: nobody's
//!
//!   nobody ──assign──► (w) ──────── enter, leave ────────► (w)
//!                       │ ▲
//!                recall │ │ the owner objects, or the monitor sees it inside
//!                       ▼ │
//!                 (w, recalled) ──retake, by compare-and-swap──► nobody
//! ```
//!
//! To enter happens with each goroutine that is spawned, with each that is started, and with each that roams and is
//! woken; to take away, once in a while. So the owner pays for no locked instruction: it says that it is inside by a plain
//! store to a word of *its own*, and looks whether the processor is still its own. It is Dekker's algorithm, in which
//! each side writes its own word and then reads the other's, and whose two full barriers are both left to the monitor:
//!
//! ```text
//!   the owner                                    the monitor
//!   ─────────                                    ───────────
//!   inside = true                                recalls: (w) → (w, recalled)
//!   (no barrier: the compiler is held off)       a barrier on all threads (`membarrier`)
//!   looks at the owner word:                     is it inside?   yes: gives the recall up
//!     (w)           it is in                                     no:  (w, recalled) → nobody
//!     (w, recalled)  objects: → (w), and is in
//!     another       inside = false, and is not
//!   … uses the queue …
//!   inside = false
//! ```
//!
//! The barrier comes, in the owner's order, before its look, or after. If after, `inside` has been written by then, and the
//! monitor sees it, and gives up. If before, the look finds the recall, or what came of it; if the recall still
//! stands, owner and monitor both want to change one word from the same value, and one of them does. That the word is the
//! worker's and not the processor's matters: a former owner may say at any time that it is inside, for it learns only then
//! that it is not.
//!
//! **Until the kernel makes such barriers** (see `sys::membarrier`), or if it makes none, the owner enters by
//! a compare-and-swap that puts `inside` into the owner word, where a recall fails for it. Which of the two ways it is, the
//! monitor says; it is the only one that takes processors away, and minds both from then on.

use crate::primitive::atomic::{AtomicBool, AtomicUsize, Ordering};
use crate::primitive::lopsided::{heavy, is_ready, light};

const NOBODY: usize = 0;
const INSIDE: usize = 1;
const RECALLED: usize = 2;

fn out(worker: usize) -> usize {
    (worker + 1) << 2
}

/// Who has one processor.
pub(super) struct Tenure {
    owner: AtomicUsize,
    /// Whether owners say that they are inside in a word of their own. Never again false once it is true.
    by_word: AtomicBool,
}

/// A worker's word: whether it is inside its processor.
pub(super) struct Inside(AtomicBool);

impl Inside {
    pub(super) fn new() -> Inside {
        Inside(AtomicBool::new(false))
    }
}

impl Tenure {
    /// Nobody's.
    pub(super) fn new() -> Tenure {
        Tenure { owner: AtomicUsize::new(NOBODY), by_word: AtomicBool::new(false) }
    }

    /// The index of the worker that has it.
    pub(super) fn owner(&self) -> Option<usize> {
        (self.owner.load(Ordering::Relaxed) >> 2).checked_sub(1)
    }

    /// Gives it to `worker`. The caller has it: took it out of the idle ones, or retook it.
    pub(super) fn assign(&self, worker: usize) {
        // Ordering: Release pairs with the Acquire in `enter`: the former owner's queue is visible.
        self.owner.store(out(worker), Ordering::Release);
    }

    /// Enters, if `worker`, whose word that is, has it still. It has not entered already.
    #[inline(always)]
    pub(super) fn enter<'a>(&'a self, worker: usize, inside: &'a Inside) -> Option<Stay<'a>> {
        let out = out(worker);
        // Ordering: Relaxed: both ways keep the monitor out, once it has said that there is the other.
        if !self.by_word.load(Ordering::Relaxed) {
            return self.enter_by_swap(out, inside);
        }
        self.enter_by_word(out, inside)
    }

    #[inline(always)]
    fn enter_by_word<'a>(&'a self, out: usize, inside: &'a Inside) -> Option<Stay<'a>> {
        // Ordering: Relaxed; `light` and `heavy` order it before the look that follows.
        inside.0.store(true, Ordering::Relaxed);
        light();
        // Ordering: Acquire, see `assign`; and nothing inside is done before the look.
        let owner = self.owner.load(Ordering::Acquire);
        if owner == out || (owner == out | RECALLED && self.object(out)) {
            return Some(Stay { tenure: self, out, inside: Some(inside) });
        }
        // Ordering: Release, as in leaving, though nothing was done.
        inside.0.store(false, Ordering::Release);
        None
    }

    /// The monitor wants it just now, and has not got it yet. True if it remains ours.
    #[cold]
    fn object(&self, out: usize) -> bool {
        // Ordering: Acquire in either case, as in `enter`. Relaxed for the monitor, which learns nothing by it.
        let objected =
            self.owner.compare_exchange(out | RECALLED, out, Ordering::Acquire, Ordering::Acquire);
        // If the recall has been given up meanwhile, the next one finds us inside.
        objected.is_ok() || objected == Err(out)
    }

    #[inline(never)]
    fn enter_by_swap<'a>(&'a self, out: usize, inside: &'a Inside) -> Option<Stay<'a>> {
        // Ordering: Acquire, see `assign`.
        match self.owner.compare_exchange(out, out | INSIDE, Ordering::Acquire, Ordering::Relaxed) {
            Ok(_) => Some(Stay { tenure: self, out, inside: None }),
            // We did not know of the other way yet.
            Err(owner) if owner == out | RECALLED => self.enter_by_word(out, inside),
            Err(_) => None,
        }
    }

    /// Has owners enter by a word of their own, if the monitor can have its barrier. For the monitor.
    pub(super) fn choose(&self) {
        if !self.by_word.load(Ordering::Relaxed) && is_ready() {
            self.by_word.store(true, Ordering::Relaxed);
        }
    }

    /// Takes it away from `worker`, whose word that is; false if that is inside it just now, or has it no more. For the
    /// monitor, that is for one at a time.
    #[must_use]
    pub(super) fn retake(&self, worker: usize, inside: &Inside) -> bool {
        let out = out(worker);
        if !self.by_word.load(Ordering::Relaxed) {
            return self.change(out, NOBODY);
        }
        if !self.change(out, out | RECALLED) {
            return false;
        }
        heavy();
        // Ordering: Acquire pairs with the Release in leaving: what the owner last did to the queue is visible, and
        // handed on by `assign`.
        if inside.0.load(Ordering::Acquire) {
            // If it has objected, or given the processor up, there is no recall any more.
            let _ = self.change(out | RECALLED, out);
            return false;
        }
        self.change(out | RECALLED, NOBODY)
    }

    fn change(&self, from: usize, to: usize) -> bool {
        // Ordering: Acquire pairs with the Release in leaving, where `inside` is in this word.
        self.owner.compare_exchange(from, to, Ordering::Acquire, Ordering::Relaxed).is_ok()
    }
}

/// Proof of being inside until this is dropped.
pub(super) struct Stay<'a> {
    tenure: &'a Tenure,
    out: usize,
    /// The worker's word; `None` if it is inside by the owner word.
    inside: Option<&'a Inside>,
}

impl Stay<'_> {
    /// Gives the processor up: it is nobody's.
    pub(super) fn release(self) {
        // Ordering: Release pairs with the Acquire in `enter` by way of whoever assigns it next. (By a swap, though a
        // store would do, over a recall as well: loom lets a store that races with a compare-and-swap be overtaken by it.)
        self.tenure.owner.swap(NOBODY, Ordering::Release);
        if let Some(inside) = self.inside {
            inside.0.store(false, Ordering::Release);
        }
        std::mem::forget(self);
    }
}

impl Drop for Stay<'_> {
    #[inline(always)]
    fn drop(&mut self) {
        // Ordering: Release, in either case, pairs with the Acquire in `retake`.
        match self.inside {
            Some(inside) => inside.0.store(false, Ordering::Release),
            None => self.tenure.owner.store(self.out, Ordering::Release),
        }
    }
}

#[cfg(all(test, not(loom)))]
mod tests {
    use super::*;

    fn only_its_owner_enters_and_only_from_outside_it_is_retaken(tenure: &Tenure) {
        let (first, second) = (Inside::new(), Inside::new());
        assert!(tenure.enter(0, &first).is_none());
        tenure.assign(3);
        assert_eq!(tenure.owner(), Some(3));
        assert!(tenure.enter(0, &first).is_none());
        let stay = tenure.enter(3, &second).unwrap();
        assert_eq!(tenure.owner(), Some(3));
        assert!(!tenure.retake(3, &second), "taken from under its owner");
        // A former owner has looked in meanwhile.
        assert!(tenure.enter(0, &first).is_none());
        assert!(!tenure.retake(3, &second), "taken from under its owner");
        drop(stay);
        assert!(!tenure.retake(0, &first));
        assert!(tenure.retake(3, &second));
        assert!(tenure.enter(3, &second).is_none(), "the former owner finds out");
        assert_eq!(tenure.owner(), None);
        tenure.assign(0);
        tenure.enter(0, &first).unwrap().release();
        assert_eq!(tenure.owner(), None);
        assert!(tenure.enter(0, &first).is_none());
    }

    #[test]
    fn by_the_owner_word() {
        only_its_owner_enters_and_only_from_outside_it_is_retaken(&Tenure::new());
    }

    #[test]
    fn by_a_word_of_their_own() {
        let tenure = Tenure::new();
        for _ in 0..10_000 {
            tenure.choose();
            if tenure.by_word.load(Ordering::Relaxed) {
                return only_its_owner_enters_and_only_from_outside_it_is_retaken(&tenure);
            }
            std::thread::sleep(std::time::Duration::from_millis(1));
        }
        println!("skipped: there are no such barriers here");
    }

    #[test]
    fn who_objects_to_a_recall_stays() {
        let (tenure, inside) = (Tenure::new(), Inside::new());
        tenure.assign(3);
        tenure.by_word.store(true, Ordering::Relaxed);
        assert!(tenure.change(out(3), out(3) | RECALLED));
        let stay = tenure.enter(3, &inside).expect("the recall was not carried through");
        assert!(!tenure.change(out(3) | RECALLED, NOBODY), "in spite of the objection");
        drop(stay);
        assert_eq!(tenure.owner(), Some(3));
    }
}

#[cfg(all(test, loom))]
mod loom_tests {
    use super::*;
    use crate::primitive::{Arc, UnsafeCell};
    use loom::thread;

    /// A processor, and two workers' words.
    struct Model {
        tenure: Tenure,
        inside: [Inside; 2],
        /// What only who is inside may touch. Loom sees to it.
        queue: UnsafeCell<u32>,
    }

    // SAFETY: the cell is touched by those who are inside.
    unsafe impl Send for Model {}
    // SAFETY: as above; loom checks it.
    unsafe impl Sync for Model {}

    impl Model {
        fn new(by_word: bool) -> Arc<Model> {
            let tenure = Tenure::new();
            tenure.assign(0);
            if by_word {
                tenure.choose();
            }
            let inside = [Inside::new(), Inside::new()];
            Arc::new(Model { tenure, inside, queue: UnsafeCell::new(0) })
        }

        /// True if it was let in.
        fn use_it(&self, worker: usize) -> bool {
            let stay = self.tenure.enter(worker, &self.inside[worker]);
            let is_in = stay.is_some();
            if is_in {
                // SAFETY: inside.
                self.queue.with_mut(|queue| unsafe { *queue += 1 });
            }
            is_in
        }
    }

    fn owner_and_monitor(by_word: bool, choose: bool) {
        loom::model(move || {
            let model = Model::new(by_word);
            let owner = thread::spawn({
                let model = model.clone();
                move || u32::from(model.use_it(0)) + u32::from(model.use_it(0))
            });
            if choose {
                model.tenure.choose();
            }
            let mut used = 0;
            if model.tenure.retake(0, &model.inside[0]) {
                model.tenure.assign(1);
                assert!(model.use_it(1), "the new owner was not let in");
                used = 1;
            }
            used += owner.join().unwrap();
            // SAFETY: all others have ended.
            assert_eq!(model.queue.with(|queue| unsafe { *queue }), used);
            assert!(model.tenure.owner().is_some());
        });
    }

    #[test]
    fn a_processor_is_not_taken_from_who_is_inside_by_the_owner_word() {
        owner_and_monitor(false, false);
    }

    #[test]
    fn a_processor_is_not_taken_from_who_is_inside_by_a_word_of_its_own() {
        owner_and_monitor(true, false);
    }

    #[test]
    fn nor_while_it_changes_from_the_one_way_to_the_other() {
        owner_and_monitor(false, true);
    }

    #[test]
    fn who_gives_it_up_while_it_is_recalled_has_given_it_up_once() {
        loom::model(|| {
            let model = Model::new(true);
            let owner = thread::spawn({
                let model = model.clone();
                move || match model.tenure.enter(0, &model.inside[0]) {
                    Some(stay) => {
                        stay.release();
                        true
                    }
                    None => false,
                }
            });
            let retaken = model.tenure.retake(0, &model.inside[0]);
            let released = owner.join().unwrap();
            assert!(retaken != released, "{retaken}, {released}");
            assert_eq!(model.tenure.owner(), None);
        });
    }
}
