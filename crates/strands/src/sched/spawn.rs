//! Making goroutines.

use super::goroutine::{self, Birth, Completion, Traits};
use super::here::Here;
use super::join::Join;
use super::locals::{self, Locals};
use super::roaming;
use super::runtime::Runtime;
use crate::config::Affinity;
use crate::stack::Class;
use std::io;

/// What is asked of a new goroutine.
pub(crate) struct Order {
    pub(crate) name: Option<String>,
    /// In bytes; the configured size if it is not given.
    pub(crate) stack_size: Option<usize>,
    pub(crate) birth: Birth,
    /// The configured one if it is not given.
    pub(crate) affinity: Option<Affinity>,
    /// What it inherits of `goroutine_local!`s.
    locals: Option<Box<Locals>>,
}

impl Order {
    /// Nothing special. As `new`, it may run user code: before anything counts on the spawn.
    #[inline]
    pub(crate) fn plain(birth: Birth) -> Order {
        Order::new(None, None, birth)
    }

    #[inline]
    pub(crate) fn new(name: Option<String>, stack_size: Option<usize>, birth: Birth) -> Order {
        Order { name, stack_size, birth, affinity: None, locals: locals::inherit() }
    }

    /// With this affinity, if it is given.
    pub(crate) fn with_affinity(self, affinity: Option<Affinity>) -> Order {
        Order { affinity, ..self }
    }
}

/// Spawns a goroutine.
///
/// # Safety
/// Whatever the closure, its result and the completion borrow lives until the goroutine has ended and the
/// handle is gone.
///
/// # Errors
/// `InvalidInput` for a name with a NUL or an absurd stack size; otherwise memory or a thread was refused.
/// The closure is dropped.
pub(crate) unsafe fn spawn<F, T, C>(order: Order, closure: F, completion: C) -> io::Result<Join<T>>
where
    F: FnOnce() -> T + Send,
    T: Send,
    C: Completion,
{
    let name = match order.name {
        None => None,
        Some(name) => Some(checked(name)?),
    };
    let asked = order.stack_size.map(Class::for_size).transpose()?;
    let (birth, locals) = (order.birth, order.locals);
    let roams = |runtime: &Runtime| {
        let affinity = order.affinity.unwrap_or(runtime.settings.affinity);
        affinity == Affinity::Roaming && roaming::is_possible(runtime)
    };
    let traits = |id, class, roams| Traits { id, name, birth, class, roams, locals };
    match Here::get() {
        Some(here) => {
            let class = asked.unwrap_or(here.runtime().settings.stack);
            here.promise_stack(class)?;
            let traits = traits(here.new_id(), class, roams(here.runtime()));
            let made = goroutine::create(traits, closure, completion);
            let made = made.inspect_err(|_| Here::take_promise_back(class))?;
            // SAFETY: its closure returns `T`, and this is the one handle.
            let join = unsafe { Join::new(made) };
            here.push_fresh(made);
            Ok(join)
        }
        None => {
            let runtime = Runtime::get()?;
            runtime.ensure_worker()?;
            let class = asked.unwrap_or(runtime.settings.stack);
            runtime.stacks.reserve(class, 1)?;
            let traits = traits(runtime.new_id(), class, roams(runtime));
            let made = goroutine::create(traits, closure, completion);
            let made = made.inspect_err(|_| runtime.stacks.unreserve(class, 1))?;
            // SAFETY: as above.
            let join = unsafe { Join::new(made) };
            runtime.inject_from_outside(made);
            Ok(join)
        }
    }
}

fn checked(name: String) -> io::Result<Box<str>> {
    match name.find('\0') {
        None => Ok(name.into_boxed_str()),
        Some(at) => Err(io::Error::new(
            io::ErrorKind::InvalidInput,
            format!("a goroutine's name must not contain a NUL, and {name:?} has one at {at}"),
        )),
    }
}
