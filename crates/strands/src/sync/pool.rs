//! [`Pool`]: things that are expensive to make, kept for the next who needs one.
//!
//! A shelf for each thread, or nearly: who gets and puts on the same thread meets nobody. A goroutine stays on
//! its thread, so what it puts back is where the next on that thread looks first, and still in the cache.
//!
//! Shelves are under short locks; so things are made and dropped, and shelves made longer, outside them.

use crate::wait::ShortLock;
use crossbeam_utils::CachePadded;
use std::cell::Cell;
use std::fmt;
use std::mem;
use std::ops::{Deref, DerefMut};
use std::panic::{RefUnwindSafe, UnwindSafe};
use std::sync::atomic::{AtomicUsize, Ordering};

/// What is put on a shelf that has so many is dropped. Guessed.
const LONGEST_SHELF: usize = 64;

/// Things that can be used again. As Go's `sync.Pool`.
///
/// # Examples
///
/// ```
/// use strands::sync::Pool;
///
/// let buffers = Pool::new(|| Vec::with_capacity(4096));
/// {
///     let mut buffer = buffers.get();
///     buffer.clear(); // it may have been used before
///     buffer.extend_from_slice(b"hello");
/// } // and goes back
/// assert!(buffers.get().capacity() >= 4096);
/// ```
///
/// # Differences from Go
///
/// [`get`](Pool::get) makes a thing if there is none, and gives it back when dropped. What is in the pool stays
/// there until it is used, [cleared](Pool::clear), or dropped with the pool; as there is no collector to empty it,
/// it holds a limited number (some dozens for each processor), and drops what comes in beyond that.
pub struct Pool<T> {
    make: Box<dyn Fn() -> T + Send + Sync>,
    shelves: Box<[CachePadded<ShortLock<Vec<T>>>]>,
}

impl<T> UnwindSafe for Pool<T> {}
impl<T> RefUnwindSafe for Pool<T> {}

/// The number of the calling thread, for choosing a shelf.
///
/// Never inlined, so that no caller can keep a thread-local's address across a switch.
#[inline(never)]
fn thread_number() -> usize {
    static NEXT: AtomicUsize = AtomicUsize::new(1);
    thread_local! {
        static NUMBER: Cell<usize> = const { Cell::new(0) };
    }
    if NUMBER.get() == 0 {
        NUMBER.set(NEXT.fetch_add(1, Ordering::Relaxed));
    }
    NUMBER.get()
}

impl<T> Pool<T> {
    /// An empty pool. `make` is called when there is nothing to be had.
    pub fn new(make: impl Fn() -> T + Send + Sync + 'static) -> Pool<T> {
        let processors = std::thread::available_parallelism().map_or(1, usize::from);
        let shelf = || CachePadded::new(ShortLock::new(Vec::new()));
        Pool { make: Box::new(make), shelves: (0..processors).map(|_| shelf()).collect() }
    }

    /// Something from the pool, or made now. It goes back when it is dropped, in the state in which it is then.
    /// Never blocks.
    ///
    /// # Panics
    /// If there is nothing in the pool and `make` panics.
    pub fn get(&self) -> Pooled<'_, T> {
        let value = self.find().unwrap_or_else(|| (self.make)());
        Pooled { pool: self, value: Some(value) }
    }

    fn find(&self) -> Option<T> {
        let own = thread_number() % self.shelves.len();
        if let found @ Some(_) = self.shelves[own].lock().pop() {
            return found;
        }
        let others = self.shelves[own + 1..].iter().chain(&self.shelves[..own]);
        others.filter_map(|shelf| shelf.try_lock()).find_map(|mut shelf| shelf.pop())
    }

    /// Puts something in, be it from this pool or not. If there is no room it is dropped. Never blocks.
    pub fn put(&self, value: T) {
        let shelf = &self.shelves[thread_number() % self.shelves.len()];
        let mut longer = Vec::new();
        loop {
            let mut things = shelf.lock();
            let len = things.len();
            if len >= LONGEST_SHELF {
                drop(things);
                return drop(value);
            }
            if len < things.capacity() {
                return things.push(value);
            }
            if longer.capacity() > len {
                longer.append(&mut things);
                mem::swap(&mut *things, &mut longer);
                things.push(value);
                drop(things);
                return drop(longer);
            }
            drop(things);
            longer = Vec::with_capacity((2 * len).max(4));
        }
    }

    /// Drops all that is in the pool; not what is out.
    pub fn clear(&self) {
        for shelf in &self.shelves {
            let things = mem::take(&mut *shelf.lock());
            drop(things);
        }
    }
}

impl<T: Default + 'static> Default for Pool<T> {
    fn default() -> Pool<T> {
        Pool::new(T::default)
    }
}

impl<T> fmt::Debug for Pool<T> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Pool").finish_non_exhaustive()
    }
}

/// Something from a [`Pool`], which goes back when it is dropped.
pub struct Pooled<'a, T> {
    pool: &'a Pool<T>,
    /// `None` when it has been taken.
    value: Option<T>,
}

impl<T> Pooled<'_, T> {
    /// Takes it for good: it does not go back.
    pub fn take(mut this: Self) -> T {
        this.value.take().expect("it is here until now")
    }
}

impl<T> Deref for Pooled<'_, T> {
    type Target = T;

    fn deref(&self) -> &T {
        self.value.as_ref().expect("it is here")
    }
}

impl<T> DerefMut for Pooled<'_, T> {
    fn deref_mut(&mut self) -> &mut T {
        self.value.as_mut().expect("it is here")
    }
}

impl<T> Drop for Pooled<'_, T> {
    fn drop(&mut self) {
        if let Some(value) = self.value.take() {
            self.pool.put(value);
        }
    }
}

impl<T: fmt::Debug> fmt::Debug for Pooled<'_, T> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        (**self).fmt(f)
    }
}
