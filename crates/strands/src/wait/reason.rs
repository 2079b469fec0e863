//! Why a goroutine or thread waits: what a dump tells of it.

use std::fmt;

/// The kind of thing that is waited for.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
#[repr(u8)]
pub(crate) enum WaitKind {
    /// Does not wait: runs.
    Running = 0,
    /// Does not wait: is in a queue.
    Runnable,
    Send,
    Receive,
    Select,
    Join,
    Scope,
    Sleep,
    Park,
    Blocking,
    MutexLock,
    RwLockRead,
    RwLockWrite,
    CondWait,
    Once,
    Barrier,
    Semaphore,
    WaitGroup,
    Future,
    IoRead,
    IoWrite,
    Accept,
    Connect,
    Child,
}

impl WaitKind {
    /// The kind that was stored as `byte`.
    pub(crate) fn from_byte(byte: u8) -> WaitKind {
        use WaitKind::*;
        const ALL: [WaitKind; 24] = [
            Running,
            Runnable,
            Send,
            Receive,
            Select,
            Join,
            Scope,
            Sleep,
            Park,
            Blocking,
            MutexLock,
            RwLockRead,
            RwLockWrite,
            CondWait,
            Once,
            Barrier,
            Semaphore,
            WaitGroup,
            Future,
            IoRead,
            IoWrite,
            Accept,
            Connect,
            Child,
        ];
        ALL.into_iter().find(|kind| *kind as u8 == byte).unwrap_or(Running)
    }

    /// Whether it is a kind of waiting at all.
    pub(crate) fn is_waiting(self) -> bool {
        !matches!(self, WaitKind::Running | WaitKind::Runnable)
    }

    /// The noun for the thing waited for, when its address helps to tell it from others.
    fn noun(self) -> Option<&'static str> {
        match self {
            WaitKind::Send | WaitKind::Receive => Some("channel"),
            WaitKind::Join => Some("goroutine"),
            WaitKind::MutexLock => Some("mutex"),
            WaitKind::RwLockRead | WaitKind::RwLockWrite => Some("rwlock"),
            WaitKind::CondWait => Some("condvar"),
            WaitKind::Once => Some("once"),
            WaitKind::Barrier => Some("barrier"),
            WaitKind::Semaphore => Some("semaphore"),
            WaitKind::WaitGroup => Some("wait group"),
            WaitKind::IoRead | WaitKind::IoWrite | WaitKind::Accept | WaitKind::Connect => {
                Some("descriptor")
            }
            _ => None,
        }
    }
}

impl fmt::Display for WaitKind {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(match self {
            WaitKind::Running => "running",
            WaitKind::Runnable => "runnable",
            WaitKind::Send => "chan send",
            WaitKind::Receive => "chan receive",
            WaitKind::Select => "select",
            WaitKind::Join => "join",
            WaitKind::Scope => "scope end",
            WaitKind::Sleep => "sleep",
            WaitKind::Park => "park",
            WaitKind::Blocking => "blocking call",
            WaitKind::MutexLock => "mutex lock",
            WaitKind::RwLockRead => "rwlock read",
            WaitKind::RwLockWrite => "rwlock write",
            WaitKind::CondWait => "cond wait",
            WaitKind::Once => "once",
            WaitKind::Barrier => "barrier",
            WaitKind::Semaphore => "semaphore acquire",
            WaitKind::WaitGroup => "wait group",
            WaitKind::Future => "future",
            WaitKind::IoRead => "io read",
            WaitKind::IoWrite => "io write",
            WaitKind::Accept => "accept",
            WaitKind::Connect => "connect",
            WaitKind::Child => "child process",
        })
    }
}

/// The kind, and which one of its kind.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Reason {
    pub(crate) kind: WaitKind,
    /// An address or id that tells one channel or goroutine from another; 0 for none. Never followed.
    pub(crate) object: usize,
}

impl Reason {
    #[inline]
    pub(crate) fn on(kind: WaitKind, object: usize) -> Reason {
        Reason { kind, object }
    }
}

impl From<WaitKind> for Reason {
    #[inline]
    fn from(kind: WaitKind) -> Reason {
        Reason { kind, object: 0 }
    }
}

impl Reason {
    /// `channel 0x7f…` or `goroutine 7`; `None` where it does not matter which one it is.
    pub(crate) fn thing(&self) -> Option<String> {
        let noun = self.kind.noun()?;
        Some(match noun {
            "goroutine" | "descriptor" => format!("{noun} {}", self.object),
            _ => format!("{noun} {:#x}", self.object),
        })
    }
}

/// `, waiting on channel 0x7f…` or `, waiting on goroutine 7` or `, 3 arms`, or nothing.
impl fmt::Display for Reason {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match (self.kind, self.thing()) {
            (WaitKind::Select, _) => write!(f, ", {} arms", self.object),
            (_, None) => Ok(()),
            (_, Some(thing)) => write!(f, ", waiting on {thing}"),
        }
    }
}
