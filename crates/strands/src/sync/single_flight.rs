//! [`SingleFlight`]: the same work, asked for by several at the same time, is done once.

use super::raw::Mutex;
use super::{Arc, OnceLock};
use std::any::Any;
use std::borrow::Borrow;
use std::collections::HashMap;
use std::collections::hash_map::Entry;
use std::fmt;
use std::hash::Hash;
use std::panic::{AssertUnwindSafe, catch_unwind, resume_unwind};

/// Does work that several ask for at the same time once, and gives the result to all of them. As Go's
/// `golang.org/x/sync/singleflight`.
///
/// The first to ask for a key does the work; those who ask for the same key before it is done wait, and get a
/// clone of the result. Results are not kept: who asks later starts anew.
///
/// # Examples
///
/// ```
/// use strands::sync::{Arc, SingleFlight};
///
/// let pages = Arc::new(SingleFlight::new());
/// let readers: Vec<_> = (0..3)
///     .map(|_| {
///         let pages = Arc::clone(&pages);
///         strands::go(move || pages.call("index", || String::from("<html>")))
///     })
///     .collect();
/// for reader in readers {
///     assert_eq!(reader.join().unwrap(), "<html>");
/// }
/// ```
///
/// # Differences from Go
///
/// `Do` is called `call`, as `do` is a word of the language. A panic reaches all who share the call, as in Go; each
/// can catch it. Errors are values: let the result be a `Result`.
pub struct SingleFlight<K, V> {
    /// The work that is being done. (Comparing and hashing keys is user code, so the lock is one that may be held
    /// for long.)
    flights: Mutex<HashMap<K, Arc<Flight<V>>>>,
}

/// One call, and what came of it.
struct Flight<V> {
    outcome: OnceLock<Result<V, Panicked>>,
}

/// What the payload said.
struct Panicked(String);

impl Panicked {
    fn with(payload: &(dyn Any + Send)) -> Panicked {
        let text = payload.downcast_ref::<&str>().copied();
        let text = text.or_else(|| payload.downcast_ref::<String>().map(String::as_str));
        Panicked(text.unwrap_or("Box<dyn Any>").to_owned())
    }
}

impl<K, V> SingleFlight<K, V> {
    /// With nothing to do yet.
    #[must_use]
    pub fn new() -> SingleFlight<K, V> {
        SingleFlight { flights: Mutex::new(HashMap::new()) }
    }
}

impl<K: Hash + Eq + Clone, V: Clone> SingleFlight<K, V> {
    /// The result of `f`; or that of another's closure, if one is being run for this key.
    ///
    /// If `f` calls for the same key it waits for itself.
    ///
    /// Blocks: the goroutine, or else the thread, while another does the work.
    ///
    /// # Panics
    /// If the closure that is run does: its caller with the payload, those who share the call with what that said.
    /// If hashing or comparing keys does.
    pub fn call(&self, key: K, f: impl FnOnce() -> V) -> V {
        let (flight, leads) = match self.flights.lock().entry(key.clone()) {
            Entry::Occupied(entry) => (Arc::clone(entry.get()), false),
            Entry::Vacant(entry) => {
                let flight = Arc::new(Flight { outcome: OnceLock::new() });
                (Arc::clone(entry.insert(flight)), true)
            }
        };
        if !leads {
            return match flight.outcome.wait() {
                Ok(value) => value.clone(),
                Err(Panicked(text)) => panic!("the call that is shared has panicked: {text}"),
            };
        }
        let result = catch_unwind(AssertUnwindSafe(f));
        // Before anybody has the result: who has it and calls again is to start anew. It hashes and compares the
        // key, which may panic, too; but those who wait must hear of the outcome.
        let landed = catch_unwind(AssertUnwindSafe(|| self.land(&key, &flight)));
        let (outcome, payload) = match result {
            Ok(value) => (Ok(value), landed.err()),
            Err(payload) => (Err(Panicked::with(&*payload)), Some(payload)),
        };
        let outcome = flight.outcome.get_or_init(|| outcome);
        match (outcome, payload) {
            (_, Some(payload)) => resume_unwind(payload),
            (Ok(value), None) => value.clone(),
            (Err(_), None) => unreachable!("a panic has a payload"),
        }
    }

    /// Whoever comes from now on starts anew.
    fn land(&self, key: &K, flight: &Arc<Flight<V>>) {
        let mut flights = self.flights.lock();
        // It may have been forgotten, and another be under way.
        let landed = match flights.get(key) {
            Some(there) if Arc::ptr_eq(there, flight) => flights.remove_entry(key),
            _ => None,
        };
        drop(flights);
        drop(landed);
    }

    /// Whoever asks for the key from now on starts anew, though the work may be being done: those who wait for it
    /// already get that result.
    pub fn forget<Q>(&self, key: &Q)
    where
        K: Borrow<Q>,
        Q: Hash + Eq + ?Sized,
    {
        let forgotten = self.flights.lock().remove_entry(key);
        drop(forgotten);
    }
}

impl<K, V> Default for SingleFlight<K, V> {
    fn default() -> SingleFlight<K, V> {
        SingleFlight::new()
    }
}

impl<K, V> fmt::Debug for SingleFlight<K, V> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("SingleFlight").finish_non_exhaustive()
    }
}
