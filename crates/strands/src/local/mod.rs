//! Values per goroutine: [`goroutine_local!`](crate::goroutine_local).
//!
//! ```
//! use std::cell::Cell;
//! use strands::goroutine_local;
//!
//! goroutine_local! {
//!     static COUNT: Cell<u32> = Cell::new(1);
//! }
//!
//! COUNT.set(5);
//! let other = strands::go(|| {
//!     COUNT.set(COUNT.get() + 1);
//!     COUNT.get()
//! });
//! assert_eq!(other.join().unwrap(), 2);
//! assert_eq!(COUNT.get(), 5);
//! ```
//!
//! # Or `thread_local!`?
//!
//! A goroutine stays on the thread where it first ran, and `thread_local!`s are that thread's: all goroutines at
//! home there see the same one, and where a goroutine comes to be at home is chance. That suits caches and
//! scratch buffers, of which one for each thread is enough (and of which a million goroutines would have a
//! million). It does not suit what is about *whose* work is done: the id of a request, the user, a tracing span.
//! Those are goroutine-locals. (A goroutine that [roams](crate::thread::Affinity::Roaming) has `thread_local!`s of its
//! own; but which kind it is need not be known here.)
//!
//! A value is made when its goroutine first asks for it, and dropped at the goroutine's end: on its own stack,
//! after its closure, and before a `join` or a scope's end returns. A goroutine that uses none pays nothing for
//! it. In code that is not in a goroutine, a plain thread's say, they are thread-locals; this includes closures
//! given to [`blocking`](crate::blocking), which run on a spare thread.
//!
//! # Inheritance
//!
//! With `, inherit` after its initial value, a goroutine that is spawned gets a clone of the spawner's value,
//! made at the spawn, by the spawner. If the spawner has none there is nothing to inherit. Spawning then costs a
//! clone and an allocation.
//!
//! ```
//! use std::cell::RefCell;
//! use strands::goroutine_local;
//!
//! goroutine_local! {
//!     /// In whose name we work.
//!     static USER: RefCell<String> = RefCell::new("nobody".into()), inherit;
//! }
//!
//! USER.set("ada".into());
//! let child = strands::go(|| {
//!     let inherited = USER.take();
//!     let grandchild = strands::go(|| USER.take());
//!     (inherited, grandchild.join().unwrap())
//! });
//! assert_eq!(child.join().unwrap(), ("ada".into(), "".into()));
//! assert_eq!(USER.take(), "ada");
//! ```
//!
//! What is inherited must be [`Send`], though the values of a goroutine need not:
//!
//! ```compile_fail
//! strands::goroutine_local! {
//!     static SHARED: std::rc::Rc<u32> = std::rc::Rc::new(1), inherit;
//! }
//! ```
//!
//! # Destructors
//!
//! They may use other goroutine-locals, also such as are dropped already: these are made anew, and dropped again.
//! That is done five times over, and then refused. The destructor of a value cannot get at the value itself. One
//! that panics aborts the process, as std's do. They may block.
//!
//! # What differs from Go
//!
//! Go has none, on purpose: its [`context`](crate::context)s are handed down by hand. What a function needs to do
//! its work belongs into its parameters, here too.

use crate::sched::locals::{self, Found, Local, Seed};
use std::any::Any;
use std::cell::{Cell, RefCell};
use std::error::Error;
use std::fmt;
use std::rc::Rc;
use std::sync::atomic::{AtomicUsize, Ordering};

/// Declares values of which each goroutine has its own. See the [module](crate::local).
///
/// ```
/// strands::goroutine_local! {
///     /// A comment.
///     pub static ONE: u32 = 1;
///     static WORD: std::cell::RefCell<String> = Default::default(), inherit
/// }
/// assert_eq!(ONE.with(|one| one + 1), 2);
/// # WORD.with_borrow(|word| assert!(word.is_empty()));
/// ```
///
/// Each is a `static` of type [`LocalKey`](crate::local::LocalKey). As in `thread_local!`, the last semicolon may
/// be left out.
#[macro_export]
macro_rules! goroutine_local {
    () => {};
    ($(#[$attr:meta])* $vis:vis static $name:ident: $type:ty = $init:expr, inherit; $($rest:tt)*) => {
        $crate::goroutine_local!(@one [$(#[$attr])*] [$vis] $name [$type] [$init] inheriting);
        $crate::goroutine_local!($($rest)*);
    };
    ($(#[$attr:meta])* $vis:vis static $name:ident: $type:ty = $init:expr, inherit) => {
        $crate::goroutine_local!(@one [$(#[$attr])*] [$vis] $name [$type] [$init] inheriting);
    };
    ($(#[$attr:meta])* $vis:vis static $name:ident: $type:ty = $init:expr; $($rest:tt)*) => {
        $crate::goroutine_local!(@one [$(#[$attr])*] [$vis] $name [$type] [$init] new);
        $crate::goroutine_local!($($rest)*);
    };
    ($(#[$attr:meta])* $vis:vis static $name:ident: $type:ty = $init:expr) => {
        $crate::goroutine_local!(@one [$(#[$attr])*] [$vis] $name [$type] [$init] new);
    };
    (@one [$(#[$attr:meta])*] [$vis:vis] $name:ident [$type:ty] [$init:expr] $how:ident) => {
        $(#[$attr])*
        $vis static $name: $crate::local::LocalKey<$type> = {
            fn init() -> $type {
                $init
            }
            $crate::local::LocalKey::$how(init)
        };
    };
}

#[doc(inline)]
pub use crate::goroutine_local;

/// A value of which each goroutine has its own. Made by [`goroutine_local!`](crate::goroutine_local).
///
/// As [`std::thread::LocalKey`].
pub struct LocalKey<T: 'static> {
    /// Its number among all keys, from 1; 0 until it is first used.
    number: AtomicUsize,
    init: fn() -> T,
    /// For those that are inherited.
    seed: Option<fn(&T) -> Seed>,
}

/// The goroutine has ended, or the value is being dropped: there is no value to be had.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct AccessError;

impl fmt::Display for AccessError {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("a goroutine-local value that is being or has been dropped")
    }
}

impl Error for AccessError {}

struct Value<T> {
    value: T,
    seed: Option<fn(&T) -> Seed>,
}

impl<T: 'static> Local for Value<T> {
    fn seed(&self) -> Option<Seed> {
        self.seed.map(|seed| seed(&self.value))
    }
}

/// A clone of the value, to be sent to the heir.
fn seed_of<T: Clone + Send + 'static>(value: &T) -> Seed {
    let value = value.clone();
    Box::new(move || Rc::new(Value { value, seed: Some(seed_of::<T>) }))
}

impl<T: 'static> LocalKey<T> {
    #[doc(hidden)]
    pub const fn new(init: fn() -> T) -> LocalKey<T> {
        LocalKey { number: AtomicUsize::new(0), init, seed: None }
    }

    #[doc(hidden)]
    pub const fn inheriting(init: fn() -> T) -> LocalKey<T>
    where
        T: Clone + Send,
    {
        LocalKey { number: AtomicUsize::new(0), init, seed: Some(seed_of::<T>) }
    }

    #[inline]
    fn number(&'static self) -> usize {
        // Ordering: Relaxed, a number is all there is to it.
        match self.number.load(Ordering::Relaxed) {
            0 => self.take_number(),
            number => number,
        }
    }

    #[cold]
    fn take_number(&'static self) -> usize {
        static LAST: AtomicUsize = AtomicUsize::new(0);
        let fresh = LAST.fetch_add(1, Ordering::Relaxed) + 1;
        let taken = self.number.compare_exchange(0, fresh, Ordering::Relaxed, Ordering::Relaxed);
        if self.seed.is_some() {
            locals::note_heirloom();
        }
        taken.map_or_else(|other| other, |_| fresh)
    }

    /// The value, made by `init` (or of what was inherited) if there is none.
    fn get_or(&'static self, init: impl FnOnce() -> T) -> Result<Rc<Value<T>>, AccessError> {
        let number = self.number();
        let value = match locals::find(number) {
            Found::Value(value) => value,
            Found::Gone => return Err(AccessError),
            Found::Nothing(seed) => {
                let fresh: Rc<dyn Local> = match seed {
                    Some(seed) => seed(),
                    None => Rc::new(Value { value: init(), seed: self.seed }),
                };
                locals::keep(number, fresh).ok_or(AccessError)?
            }
        };
        let value: Rc<dyn Any> = value;
        Ok(value.downcast().expect("a key has one type"))
    }

    /// Calls `f` with the value of this goroutine (or plain thread), which is made first if there is none.
    ///
    /// The goroutine may block in `f`. The reference cannot leave it:
    ///
    /// ```compile_fail
    /// strands::goroutine_local! { static TEXT: String = String::new(); }
    /// let stolen: &String = TEXT.with(|text| text);
    /// ```
    ///
    /// nor go to another goroutine if that is not [`Sync`]:
    ///
    /// ```compile_fail
    /// strands::goroutine_local! { static COUNT: std::cell::Cell<u32> = Default::default(); }
    /// COUNT.with(|count| strands::scope(|s| { s.go(|| count.set(1)); }));
    /// ```
    ///
    /// # Panics
    /// If the value is being dropped, or the goroutine is past having any; and if making it panics.
    pub fn with<R>(&'static self, f: impl FnOnce(&T) -> R) -> R {
        match self.try_with(f) {
            Ok(result) => result,
            Err(error) => panic!("{error}"),
        }
    }

    /// As [`with`](LocalKey::with).
    ///
    /// # Errors
    /// The value is being dropped, or the goroutine is past having any.
    ///
    /// # Panics
    /// If making the value panics.
    pub fn try_with<R>(&'static self, f: impl FnOnce(&T) -> R) -> Result<R, AccessError> {
        let value = self.get_or(self.init)?;
        Ok(f(&value.value))
    }

    /// The value with `value` put into it by `put`, or made of it if there is none.
    fn fill<V>(&'static self, value: V, make: fn(V) -> T, put: fn(&T, V)) {
        let mut value = Some(value);
        let held = self.get_or(|| make(value.take().expect("called once")));
        match (held, value) {
            (Err(error), _) => panic!("{error}"),
            (Ok(held), Some(value)) => put(&held.value, value),
            (Ok(_), None) => {}
        }
    }
}

impl<T: 'static> LocalKey<Cell<T>> {
    /// Sets the value. If there is none yet, the initial one is not made.
    ///
    /// # Panics
    /// As [`with`](LocalKey::with).
    pub fn set(&'static self, value: T) {
        self.fill(value, Cell::new, |cell, value| cell.set(value));
    }

    /// A copy of the value.
    ///
    /// # Panics
    /// As [`with`](LocalKey::with).
    pub fn get(&'static self) -> T
    where
        T: Copy,
    {
        self.with(Cell::get)
    }

    /// The value, with `Default::default()` left in its place.
    ///
    /// # Panics
    /// As [`with`](LocalKey::with).
    pub fn take(&'static self) -> T
    where
        T: Default,
    {
        self.with(Cell::take)
    }

    /// The value, with another left in its place.
    ///
    /// # Panics
    /// As [`with`](LocalKey::with).
    pub fn replace(&'static self, value: T) -> T {
        self.with(|cell| cell.replace(value))
    }
}

impl<T: 'static> LocalKey<RefCell<T>> {
    /// Calls `f` with the value, borrowed.
    ///
    /// # Panics
    /// As [`with`](LocalKey::with), and if it is borrowed mutably.
    pub fn with_borrow<R>(&'static self, f: impl FnOnce(&T) -> R) -> R {
        self.with(|cell| f(&cell.borrow()))
    }

    /// Calls `f` with the value, borrowed mutably.
    ///
    /// # Panics
    /// As [`with`](LocalKey::with), and if it is borrowed.
    pub fn with_borrow_mut<R>(&'static self, f: impl FnOnce(&mut T) -> R) -> R {
        self.with(|cell| f(&mut cell.borrow_mut()))
    }

    /// Sets the value. If there is none yet, the initial one is not made.
    ///
    /// # Panics
    /// As [`with_borrow_mut`](LocalKey::with_borrow_mut).
    pub fn set(&'static self, value: T) {
        self.fill(value, RefCell::new, |cell, value| drop(cell.replace(value)));
    }

    /// The value, with `Default::default()` left in its place.
    ///
    /// # Panics
    /// As [`with_borrow_mut`](LocalKey::with_borrow_mut).
    pub fn take(&'static self) -> T
    where
        T: Default,
    {
        self.with(RefCell::take)
    }

    /// The value, with another left in its place.
    ///
    /// # Panics
    /// As [`with_borrow_mut`](LocalKey::with_borrow_mut).
    pub fn replace(&'static self, value: T) -> T {
        self.with(|cell| cell.replace(value))
    }
}

impl<T: 'static> fmt::Debug for LocalKey<T> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.pad("LocalKey { .. }")
    }
}
