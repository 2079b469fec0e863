//! [`OnceLock`] and [`LazyLock`]: a value that is made once.

use super::Once;
use std::cell::{Cell, UnsafeCell};
use std::fmt;
use std::ops::{Deref, DerefMut};
use std::panic::{RefUnwindSafe, UnwindSafe};

/// A place for a value that is put in once, and shared from then on. As [`std::sync::OnceLock`].
///
/// # Examples
///
/// ```
/// use strands::sync::OnceLock;
///
/// static ADDRESS: OnceLock<String> = OnceLock::new();
/// let made = strands::go(|| ADDRESS.get_or_init(|| "127.0.0.1:80".into()).len());
/// assert_eq!(made.join().unwrap(), 12);
/// assert_eq!(ADDRESS.get().map(String::as_str), Some("127.0.0.1:80"));
/// ```
pub struct OnceLock<T> {
    once: Once,
    /// Written by the closure of `once`, and only read from then on.
    value: UnsafeCell<Option<T>>,
}

// SAFETY: the value moves with the place.
unsafe impl<T: Send> Send for OnceLock<T> {}
// SAFETY: the value is shared, and may have come from another thread.
unsafe impl<T: Sync + Send> Sync for OnceLock<T> {}
impl<T: RefUnwindSafe + UnwindSafe> RefUnwindSafe for OnceLock<T> {}
impl<T: UnwindSafe> UnwindSafe for OnceLock<T> {}

impl<T> OnceLock<T> {
    /// An empty place.
    #[must_use]
    pub const fn new() -> OnceLock<T> {
        OnceLock { once: Once::new(), value: UnsafeCell::new(None) }
    }

    /// The value, if it is there. Never blocks.
    #[inline]
    pub fn get(&self) -> Option<&T> {
        if !self.once.is_completed() {
            return None;
        }
        // SAFETY: completed, so nobody writes it any more, and what was written is visible.
        unsafe { (*self.value.get()).as_ref() }
    }

    /// The value, if it is there.
    #[inline]
    pub fn get_mut(&mut self) -> Option<&mut T> {
        self.value.get_mut().as_mut()
    }

    /// The value, waiting until somebody puts one in.
    ///
    /// Blocks: the goroutine, or else the thread.
    pub fn wait(&self) -> &T {
        self.once.wait_force();
        self.get().expect("completed")
    }

    /// Puts a value in.
    ///
    /// Blocks: the goroutine, or else the thread, while another is putting one in.
    ///
    /// # Errors
    /// There was one; here is yours.
    pub fn set(&self, value: T) -> Result<(), T> {
        let mut value = Some(value);
        self.get_or_init(|| value.take().expect("called once"));
        match value {
            None => Ok(()),
            Some(value) => Err(value),
        }
    }

    /// The value; if there is none, `f` makes it.
    ///
    /// Of several who come at the same time one makes it, and the others wait. If `f` asks for the same value
    /// it waits for itself.
    ///
    /// Blocks: the goroutine, or else the thread, while another makes the value.
    ///
    /// # Panics
    /// If `f` does; the place stays empty then, and the next may try.
    #[inline]
    pub fn get_or_init<F>(&self, f: F) -> &T
    where
        F: FnOnce() -> T,
    {
        if let Some(value) = self.get() {
            return value;
        }
        self.once.call_once_force(|_| {
            let value = f();
            // SAFETY: one at a time is in here, and nobody reads before we are done.
            unsafe { *self.value.get() = Some(value) };
        });
        self.get().expect("completed")
    }

    /// The value, taken out of the place.
    pub fn into_inner(self) -> Option<T> {
        self.value.into_inner()
    }

    /// Takes the value out, which leaves the place empty.
    pub fn take(&mut self) -> Option<T> {
        self.once = Once::new();
        self.value.get_mut().take()
    }
}

impl<T> Default for OnceLock<T> {
    fn default() -> OnceLock<T> {
        OnceLock::new()
    }
}

impl<T> From<T> for OnceLock<T> {
    fn from(value: T) -> OnceLock<T> {
        let lock = OnceLock::new();
        let put = lock.set(value);
        debug_assert!(put.is_ok(), "it was empty");
        lock
    }
}

impl<T: Clone> Clone for OnceLock<T> {
    fn clone(&self) -> OnceLock<T> {
        self.get().map_or_else(OnceLock::new, |value| OnceLock::from(value.clone()))
    }
}

impl<T: PartialEq> PartialEq for OnceLock<T> {
    fn eq(&self, other: &OnceLock<T>) -> bool {
        self.get() == other.get()
    }
}

impl<T: Eq> Eq for OnceLock<T> {}

impl<T: fmt::Debug> fmt::Debug for OnceLock<T> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let mut f = f.debug_tuple("OnceLock");
        match self.get() {
            Some(value) => f.field(value),
            None => f.field(&format_args!("<uninit>")),
        }
        .finish()
    }
}

/// A value that is made when it is first asked for. As [`std::sync::LazyLock`].
///
/// If the closure panics the value is *poisoned*: whoever asks for it from then on panics, too.
///
/// Blocks: the goroutine, or else the thread, while another makes the value.
///
/// # Examples
///
/// ```
/// use std::collections::HashMap;
/// use strands::sync::LazyLock;
///
/// static PORTS: LazyLock<HashMap<&str, u16>> =
///     LazyLock::new(|| HashMap::from([("http", 80), ("https", 443)]));
/// assert_eq!(PORTS["http"], 80);
/// ```
pub struct LazyLock<T, F = fn() -> T> {
    value: OnceLock<T>,
    /// Taken by whoever makes the value.
    make: Cell<Option<F>>,
}

// SAFETY: `make` is touched by the one who makes the value, and the closure may be called from any thread.
unsafe impl<T: Sync + Send, F: Send> Sync for LazyLock<T, F> {}
impl<T: RefUnwindSafe + UnwindSafe, F: UnwindSafe> RefUnwindSafe for LazyLock<T, F> {}
impl<T: UnwindSafe, F: UnwindSafe> UnwindSafe for LazyLock<T, F> {}

impl<T, F: FnOnce() -> T> LazyLock<T, F> {
    /// A value that `f` will make.
    #[inline]
    pub const fn new(f: F) -> LazyLock<T, F> {
        LazyLock { value: OnceLock::new(), make: Cell::new(Some(f)) }
    }

    /// The value, made now if it was not before. The same as `&*this`.
    ///
    /// # Panics
    /// If the closure does, or has.
    #[inline]
    pub fn force(this: &LazyLock<T, F>) -> &T {
        this.value.get_or_init(|| match this.make.take() {
            Some(make) => make(),
            None => panic!("LazyLock instance has previously been poisoned"),
        })
    }

    /// The value, made now if it was not before.
    ///
    /// # Panics
    /// If the closure does, or has.
    pub fn force_mut(this: &mut LazyLock<T, F>) -> &mut T {
        LazyLock::force(this);
        this.value.get_mut().expect("made just now")
    }
}

impl<T, F> LazyLock<T, F> {
    /// The value, if it was made.
    pub fn get(this: &LazyLock<T, F>) -> Option<&T> {
        this.value.get()
    }

    /// The value, if it was made.
    pub fn get_mut(this: &mut LazyLock<T, F>) -> Option<&mut T> {
        this.value.get_mut()
    }
}

impl<T, F: FnOnce() -> T> Deref for LazyLock<T, F> {
    type Target = T;

    #[inline]
    fn deref(&self) -> &T {
        LazyLock::force(self)
    }
}

impl<T, F: FnOnce() -> T> DerefMut for LazyLock<T, F> {
    #[inline]
    fn deref_mut(&mut self) -> &mut T {
        LazyLock::force_mut(self)
    }
}

impl<T: Default> Default for LazyLock<T> {
    fn default() -> LazyLock<T> {
        LazyLock::new(T::default)
    }
}

impl<T: fmt::Debug, F> fmt::Debug for LazyLock<T, F> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let mut f = f.debug_tuple("LazyLock");
        match self.value.get() {
            Some(value) => f.field(value),
            None => f.field(&format_args!("<uninit>")),
        }
        .finish()
    }
}
