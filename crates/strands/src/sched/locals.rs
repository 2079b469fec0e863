//! Values that belong to a goroutine, or on a plain thread to that: the storage below `local`.
//!
//! A goroutine's are reached by its heap record, so they go where it goes. One that uses none has a null pointer
//! there, which is looked at once, when it ends. Each value is in an `Rc` of its own, of which whoever looks at
//! it holds a count: the table may grow, and the value be replaced, meanwhile.
//!
//! What a child is to inherit is made at its spawn, by the parent, as a *seed*: a value that may be sent, and
//! becomes the child's when it first looks.
//!
//! **Invariant:** no user code (making, cloning, dropping a value) runs while the table is borrowed.

use super::here;
use crate::sys;
use std::any::Any;
use std::cell::{Cell, RefCell};
use std::mem;
use std::panic::{AssertUnwindSafe, catch_unwind};
use std::ptr;
use std::rc::Rc;
use std::sync::atomic::{AtomicBool, Ordering};

/// So often destructors may make values anew before that is refused. glibc's threads have four rounds.
const ROUNDS: usize = 5;

/// A value, whatever its type.
pub(crate) trait Local: Any {
    /// What a child inherits of it, if anything.
    fn seed(&self) -> Option<Seed>;
}

/// What a child inherits, on its way.
pub(crate) type Seed = Box<dyn FnOnce() -> Rc<dyn Local> + Send>;

/// What is found under a key.
pub(crate) enum Found {
    Value(Rc<dyn Local>),
    /// Nothing yet: it is to be made, of the seed if there is one.
    Nothing(Option<Seed>),
    /// Nothing any more.
    Gone,
}

enum Place {
    Empty,
    Held(Rc<dyn Local>),
    /// Its value is being dropped.
    Going,
}

/// The values of one goroutine or thread, by the numbers of their keys.
pub(crate) struct Locals {
    places: RefCell<Vec<Place>>,
    seeds: RefCell<Vec<(usize, Seed)>>,
    /// Nothing is made any more.
    is_over: Cell<bool>,
}

impl Locals {
    fn new(seeds: Vec<(usize, Seed)>) -> Locals {
        let (places, seeds) = (RefCell::new(Vec::new()), RefCell::new(seeds));
        Locals { places, seeds, is_over: Cell::new(false) }
    }

    fn find(&self, key: usize) -> Found {
        match self.places.borrow().get(key) {
            Some(Place::Held(value)) => return Found::Value(Rc::clone(value)),
            Some(Place::Going) => return Found::Gone,
            Some(Place::Empty) | None => {}
        }
        if self.is_over.get() {
            return Found::Gone;
        }
        let mut seeds = self.seeds.borrow_mut();
        let at = seeds.iter().position(|(other, _)| *other == key);
        Found::Nothing(at.map(|at| seeds.swap_remove(at).1))
    }

    /// Keeps the value, unless there is one by now (its maker may have asked for it); returns the one that
    /// is kept, and the other.
    fn keep(&self, key: usize, value: Rc<dyn Local>) -> (Rc<dyn Local>, Option<Rc<dyn Local>>) {
        let mut places = self.places.borrow_mut();
        if places.len() <= key {
            places.resize_with(key + 1, || Place::Empty);
        }
        match &places[key] {
            Place::Held(other) => (Rc::clone(other), Some(value)),
            Place::Empty | Place::Going => {
                places[key] = Place::Held(Rc::clone(&value));
                (value, None)
            }
        }
    }

    /// What a child inherits.
    fn pass_on(&self) -> Vec<(usize, Seed)> {
        // What has been inherited and not looked at is passed on as well.
        let seeds = mem::take(&mut *self.seeds.borrow_mut());
        for (key, seed) in seeds {
            let (_value, _other) = self.keep(key, seed());
        }
        let held: Vec<(usize, Rc<dyn Local>)> = {
            let places = self.places.borrow();
            let held = places.iter().enumerate().filter_map(|(key, place)| match place {
                Place::Held(value) => Some((key, Rc::clone(value))),
                Place::Empty | Place::Going => None,
            });
            held.collect()
        };
        held.iter().filter_map(|(key, value)| Some((*key, value.seed()?))).collect()
    }

    /// Drops all values. Their destructors may use the others, and make anew what is gone, up to a point.
    fn end(&self) {
        for round in 0..=ROUNDS {
            self.is_over.set(round == ROUNDS);
            let seeds = mem::take(&mut *self.seeds.borrow_mut());
            let mut is_done = seeds.is_empty();
            drop_or_abort(seeds);
            for key in 0.. {
                let Some(value) = self.take(key) else { break };
                if let Some(value) = value {
                    is_done = false;
                    drop_or_abort(value);
                    self.places.borrow_mut()[key] = Place::Empty;
                }
            }
            if is_done {
                break;
            }
        }
        self.is_over.set(true);
    }

    /// Takes a value out, if there is one; `None`: no key is so high.
    fn take(&self, key: usize) -> Option<Option<Rc<dyn Local>>> {
        let mut places = self.places.borrow_mut();
        let place = places.get_mut(key)?;
        match mem::replace(place, Place::Going) {
            Place::Held(value) => Some(Some(value)),
            other => {
                *place = other;
                Some(None)
            }
        }
    }
}

/// A destructor that panics has nowhere to take that: std aborts here too.
fn drop_or_abort<T>(value: T) {
    if catch_unwind(AssertUnwindSafe(|| drop(value))).is_err() {
        sys::say(b"strands: dropping a goroutine-local value panicked, aborting\n");
        std::process::abort();
    }
}

/// A goroutine's pointer to its values.
pub(super) struct Owner(Cell<*mut Locals>);

impl Owner {
    /// With what was inherited.
    pub(super) fn new(locals: Option<Box<Locals>>) -> Owner {
        Owner(Cell::new(locals.map_or(ptr::null_mut(), Box::into_raw)))
    }

    /// The values, if there are any. Neither `end` nor the drop comes while they are looked at.
    fn get(&self) -> Option<&Locals> {
        // SAFETY: ours, from a box, until `end` has returned or we are dropped.
        unsafe { self.0.get().as_ref() }
    }

    fn get_or_make(&self) -> &Locals {
        if self.0.get().is_null() {
            self.0.set(Box::into_raw(Box::new(Locals::new(Vec::new()))));
        }
        self.get().expect("just made")
    }

    /// Drops the values. Called by the owner itself, last of all that it does.
    #[inline]
    pub(super) fn end(&self) {
        if !self.0.get().is_null() {
            self.end_all();
        }
    }

    #[cold]
    fn end_all(&self) {
        if let Some(locals) = self.get() {
            locals.end();
        }
        let locals = self.0.replace(ptr::null_mut());
        // SAFETY: from a box, and nobody looks at it: its owner is here, and user code no longer.
        drop(unsafe { Box::from_raw(locals) });
    }
}

impl Drop for Owner {
    fn drop(&mut self) {
        self.end();
    }
}

/// Where a plain thread's values are.
struct OfThread {
    owner: Owner,
    /// The thread's destructors have been here.
    is_gone: Cell<bool>,
}

thread_local! {
    /// Has no destructor of its own, so that it can be used in those of the values.
    static OF_THREAD: mem::ManuallyDrop<OfThread> = const {
        let owner = Owner(Cell::new(ptr::null_mut()));
        mem::ManuallyDrop::new(OfThread { owner, is_gone: Cell::new(false) })
    };
    /// Ends the values with the thread, once there are any.
    static WITH_THE_THREAD: WithTheThread = const { WithTheThread };
}

struct WithTheThread;

impl Drop for WithTheThread {
    fn drop(&mut self) {
        OF_THREAD.with(|of_thread| {
            of_thread.owner.end();
            of_thread.is_gone.set(true);
        });
    }
}

/// Calls `f`, which runs no user code, with the values of whoever runs here. `None` if it is past having any.
///
/// Never inlined, so that no caller can keep a thread-local's address across a switch.
#[inline(never)]
fn with_own<R>(f: impl FnOnce(&Locals) -> R) -> Option<R> {
    if let Some(started) = here::current() {
        // The record's end is after this: `f` does not switch.
        return started.locals().map(|owner| f(owner.get_or_make()));
    }
    OF_THREAD.with(|of_thread| {
        if of_thread.is_gone.get() {
            return None;
        }
        if of_thread.owner.get().is_none() {
            WITH_THE_THREAD.try_with(|_| ()).ok()?;
        }
        Some(f(of_thread.owner.get_or_make()))
    })
}

/// What the goroutine or thread that runs here has under this key.
pub(crate) fn find(key: usize) -> Found {
    with_own(|locals| locals.find(key)).unwrap_or(Found::Gone)
}

/// Gives the goroutine or thread that runs here a value for this key; returns what it has, which may be another
/// by now. `None`: it is past having any.
pub(crate) fn keep(key: usize, value: Rc<dyn Local>) -> Option<Rc<dyn Local>> {
    let (kept, superfluous) = with_own(|locals| locals.keep(key, value))?;
    drop(superfluous);
    Some(kept)
}

/// Whether anybody ever had something to inherit.
static ANY_HEIRLOOM: AtomicBool = AtomicBool::new(false);

/// From now on values may be inherited.
pub(crate) fn note_heirloom() {
    // Ordering: Relaxed, since nobody's own values are missed for it: who makes one and spawns is one thread.
    ANY_HEIRLOOM.store(true, Ordering::Relaxed);
}

/// What a goroutine spawned here inherits. May run the user's `Clone`.
#[inline]
pub(super) fn inherit() -> Option<Box<Locals>> {
    if ANY_HEIRLOOM.load(Ordering::Relaxed) { inherit_some() } else { None }
}

#[cold]
fn inherit_some() -> Option<Box<Locals>> {
    // SAFETY: see `own`.
    let locals = unsafe { own()?.as_ref() }?;
    let seeds = locals.pass_on();
    (!seeds.is_empty()).then(|| Box::new(Locals::new(seeds)))
}

/// The values of whoever runs here, null if there are none yet.
///
/// They stay while user code of the same goroutine or thread runs, but for its very end; and who is at its end
/// is not in `inherit_some` as well, but for a destructor of a value that spawns, within `Locals::end`.
#[inline(never)]
fn own() -> Option<*const Locals> {
    if let Some(started) = here::current() {
        return started.locals().map(|owner| owner.0.get().cast_const());
    }
    OF_THREAD
        .with(|of_thread| (!of_thread.is_gone.get()).then(|| of_thread.owner.0.get().cast_const()))
}
