//! Contexts that are done when the process gets a signal.

use super::node::Node;
use super::{CancelHandle, Cause, Context, ContextError, under};
use crate::sched::threads;
use crate::sys::{notify, signal::Action};
use std::error::Error;
use std::fmt;
use std::io;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError, Weak};

/// A signal that a process may be told of.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
#[non_exhaustive]
pub enum Signal {
    /// `SIGINT`: Ctrl-C at the terminal.
    Interrupt,
    /// `SIGTERM`: please end.
    Terminate,
    /// `SIGHUP`: the terminal is gone; for a daemon: read the configuration again.
    Hangup,
    /// `SIGQUIT`: Ctrl-\ at the terminal.
    Quit,
    /// `SIGUSR1`.
    User1,
    /// `SIGUSR2`.
    User2,
}

impl Signal {
    const ALL: [Signal; 6] = [
        Signal::Interrupt,
        Signal::Terminate,
        Signal::Hangup,
        Signal::Quit,
        Signal::User1,
        Signal::User2,
    ];

    fn number(self) -> i32 {
        match self {
            Signal::Interrupt => libc::SIGINT,
            Signal::Terminate => libc::SIGTERM,
            Signal::Hangup => libc::SIGHUP,
            Signal::Quit => libc::SIGQUIT,
            Signal::User1 => libc::SIGUSR1,
            Signal::User2 => libc::SIGUSR2,
        }
    }
}

/// By its name in C.
impl fmt::Display for Signal {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(match self {
            Signal::Interrupt => "SIGINT",
            Signal::Terminate => "SIGTERM",
            Signal::Hangup => "SIGHUP",
            Signal::Quit => "SIGQUIT",
            Signal::User1 => "SIGUSR1",
            Signal::User2 => "SIGUSR2",
        })
    }
}

/// The [`cause`](super::cause) of a context that is done because of a signal.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct SignalReceived(pub Signal);

impl fmt::Display for SignalReceived {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "received {}", self.0)
    }
}

impl Error for SignalReceived {}

/// A context that is done when the process gets one of these signals, the handle is used or dropped, or `parent`
/// is done.
///
/// As long as there is such a context that is not done, the signal does nothing else: it does not end the
/// process. After that it has its former effect. So the first Ctrl-C asks for an orderly end, and the second
/// one, should that take too long, ends the process. (Go's `NotifyContext` catches signals until `stop` is
/// called.)
///
/// Signals are passed on by a thread called `strands-signals`. Once there is one, no deadlock is reported any
/// more, since a signal may always come.
///
/// # Errors
/// A thread was refused.
///
/// # Examples
///
/// ```no_run
/// use strands::context::{self, Signal};
///
/// # fn main() -> std::io::Result<()> {
/// let root = context::background();
/// let (ctx, _cancel) = context::signals(&root, &[Signal::Interrupt, Signal::Terminate])?;
/// // … start servers that stop when `ctx` is done …
/// let _ = ctx.done().recv();
/// println!("{}", context::cause(&ctx).unwrap());
/// # Ok(())
/// # }
/// ```
pub fn signals(parent: &Context, signals: &[Signal]) -> io::Result<(Context, CancelHandle)> {
    let (context, handle) = under(parent, None, None);
    if let Some(node) = &context.node {
        let caught = Caught::catch(signals, node)?;
        node.keep(Box::new(caught));
    }
    Ok((context, handle))
}

/// [`signals`] for Ctrl-C (`SIGINT`).
///
/// # Errors
/// As [`signals`].
pub fn ctrl_c(parent: &Context) -> io::Result<(Context, CancelHandle)> {
    signals(parent, &[Signal::Interrupt])
}

/// Who wants to know of what.
struct Registry {
    wishes: Vec<Wish>,
    /// What was done before about those that are caught.
    former: Vec<(Signal, Action)>,
    next_id: u64,
    has_thread: bool,
}

struct Wish {
    id: u64,
    signal: Signal,
    node: Weak<Node>,
}

static REGISTRY: Mutex<Registry> =
    Mutex::new(Registry { wishes: Vec::new(), former: Vec::new(), next_id: 0, has_thread: false });

fn registry() -> MutexGuard<'static, Registry> {
    REGISTRY.lock().unwrap_or_else(PoisonError::into_inner)
}

/// A context's signals. Dropping it lets go of those that nobody else wants.
struct Caught {
    id: u64,
}

impl Caught {
    fn catch(signals: &[Signal], node: &Arc<Node>) -> io::Result<Caught> {
        let mut registry = registry();
        if !registry.has_thread {
            threads::start("strands-signals", pass_on)?;
            registry.has_thread = true;
        }
        registry.next_id += 1;
        let id = registry.next_id;
        for &signal in signals {
            if !registry.former.iter().any(|(caught, _)| *caught == signal) {
                match notify::catch(signal.number()) {
                    Ok(former) => registry.former.push((signal, former)),
                    Err(error) => {
                        drop(registry);
                        drop(Caught { id });
                        return Err(error);
                    }
                }
            }
            registry.wishes.push(Wish { id, signal, node: Arc::downgrade(node) });
        }
        Ok(Caught { id })
    }
}

impl Drop for Caught {
    fn drop(&mut self) {
        let mut registry = registry();
        registry.wishes.retain(|wish| wish.id != self.id);
        let Registry { wishes, former, .. } = &mut *registry;
        former.retain(|(signal, action)| {
            let is_wanted = wishes.iter().any(|wish| wish.signal == *signal);
            if !is_wanted {
                notify::let_go(signal.number(), *action);
            }
            is_wanted
        });
    }
}

/// The thread that cancels contexts when signals come.
fn pass_on() {
    loop {
        let came = notify::wait();
        for signal in Signal::ALL.into_iter().filter(|signal| came & (1 << signal.number()) != 0) {
            let registry = registry();
            let wishes = registry.wishes.iter().filter(|wish| wish.signal == signal);
            let nodes: Vec<Arc<Node>> = wishes.filter_map(|wish| wish.node.upgrade()).collect();
            // A node that is cancelled or dropped wants the lock.
            drop(registry);
            for node in nodes {
                let cause: Cause = Arc::new(SignalReceived(signal));
                node.cancel(ContextError::Canceled, Some(cause));
            }
        }
    }
}
