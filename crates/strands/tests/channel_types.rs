//! What the types of channels are and are not: as crossbeam-channel 0.5 has them, for messages of all sorts; and each
//! end plays its role and no other.
#![cfg(not(loom))]

mod compiler;

use compiler::errors;
use std::cell::Cell;
use std::marker::PhantomData;
use std::panic::{RefUnwindSafe, UnwindSafe};
use std::rc::Rc;
use strands::channel::{
    IntoIter, Iter, ReadyTimeoutError, Receiver, RecvError, RecvTimeoutError, Select,
    SelectTimeoutError, SelectedOperation, SendError, SendTimeoutError, Sender, TryIter,
    TryReadyError, TryRecvError, TrySelectError, TrySendError,
};

/// Whether a type has a trait, either way: what the type has itself goes before what it has from a trait.
macro_rules! is {
    ($type:ty, $trait:path) => {{
        #[allow(dead_code, reason = "of types that have the trait")]
        trait Otherwise {
            const IS: bool = false;
        }
        struct Of<T>(PhantomData<T>);
        impl<T> Otherwise for Of<T> {}
        #[allow(dead_code, reason = "of types that have it not")]
        impl<T: $trait> Of<T> {
            const IS: bool = true;
        }
        <Of<$type>>::IS
    }};
}

macro_rules! all_are {
    ($expected:expr, $($type:ty),+ $(,)?) => {$({
        let traits = [
            (is!($type, Send), "Send"),
            (is!($type, Sync), "Sync"),
            (is!($type, UnwindSafe), "UnwindSafe"),
            (is!($type, RefUnwindSafe), "RefUnwindSafe"),
            (is!($type, Unpin), "Unpin"),
            (is!($type, Clone), "Clone"),
            (is!($type, Copy), "Copy"),
        ];
        let has: Vec<_> = traits.into_iter().filter(|(is, _)| *is).map(|(_, name)| name).collect();
        assert_eq!(has.join(" "), $expected, "{}", stringify!($type));
    })+};
}

type Plain = u8;
type Unshared = Cell<u8>;
type Local = Rc<u8>;
type Callback = Box<dyn FnMut() + Send>;

#[test]
fn ends_and_iterators_are_what_crossbeams_are() {
    let clones = "Send Sync UnwindSafe RefUnwindSafe Unpin Clone";
    all_are!(clones, Sender<Plain>, Sender<Unshared>, Sender<Callback>);
    all_are!(clones, Receiver<Plain>, Receiver<Unshared>, Receiver<Callback>);
    let is_alone = "Send Sync UnwindSafe RefUnwindSafe Unpin";
    all_are!(is_alone, Iter<'static, Plain>, Iter<'static, Unshared>, Iter<'static, Callback>);
    all_are!(is_alone, TryIter<'static, Unshared>, IntoIter<Unshared>, IntoIter<Callback>);
    let stays = "UnwindSafe RefUnwindSafe Unpin";
    all_are!("UnwindSafe RefUnwindSafe Unpin Clone", Sender<Local>, Receiver<Local>);
    all_are!(stays, Iter<'static, Local>, TryIter<'static, Local>, IntoIter<Local>);
}

#[test]
fn selects_are_what_crossbeams_are() {
    all_are!("Send Sync Unpin Clone", Select<'static>);
    // It stays with the thread that has selected it.
    all_are!("UnwindSafe RefUnwindSafe Unpin", SelectedOperation<'static>);
}

#[test]
fn errors_are_what_their_messages_are() {
    let plain = "Send Sync UnwindSafe RefUnwindSafe Unpin Clone Copy";
    all_are!(plain, SendError<Plain>, TrySendError<Plain>, SendTimeoutError<Plain>);
    all_are!(plain, RecvError, TryRecvError, RecvTimeoutError, TrySelectError);
    all_are!(plain, SelectTimeoutError, TryReadyError, ReadyTimeoutError);
    let unshared = "Send UnwindSafe Unpin Clone";
    all_are!(unshared, SendError<Unshared>, TrySendError<Unshared>, SendTimeoutError<Unshared>);
    let local = "UnwindSafe RefUnwindSafe Unpin Clone";
    all_are!(local, SendError<Local>, TrySendError<Local>, SendTimeoutError<Local>);
    all_are!("Send Unpin", SendError<Callback>, TrySendError<Callback>, SendTimeoutError<Callback>);
}

/// Crossbeam has none of these.
#[test]
fn ends_of_other_channels_are_as_those() {
    use strands::channel::{RecvFuture, SendFuture, broadcast, oneshot, watch};
    let clones = "Send Sync UnwindSafe RefUnwindSafe Unpin Clone";
    all_are!(clones, broadcast::Sender<Plain>, watch::Sender<Plain>, watch::Receiver<Plain>);
    let is_alone = "Send Sync UnwindSafe RefUnwindSafe Unpin";
    all_are!(is_alone, broadcast::Receiver<Plain>);
    all_are!(is_alone, oneshot::Sender<Unshared>, oneshot::Receiver<Unshared>);
    let stays = "UnwindSafe RefUnwindSafe Unpin";
    all_are!(stays, oneshot::Sender<Local>, oneshot::Receiver<Local>, broadcast::Receiver<Local>);
    let pinned = "Send Sync";
    all_are!(pinned, SendFuture<'static, Unshared>, RecvFuture<'static, Unshared>);
}

// ---- Roles ----

#[test]
fn each_end_plays_its_role_and_no_other() {
    let mistakes = [
        ("let _ = tx.recv();", "no method named `recv`"),
        ("let _ = tx.try_iter();", "no method named `try_iter`"),
        ("let _ = rx.send(1);", "no method named `send`"),
        ("let _ = rx.try_send(1);", "no method named `try_send`"),
        ("for n in tx {}", "is not an iterator"),
        ("let rx: R = tx;", "mismatched types"),
        // A message belongs to the channel once it was sent ...
        (
            "let (tx, _rx) = strands::channel::bounded(1); let text = String::new(); tx.send(text).unwrap(); drop(text);",
            "use of moved value: `text`",
        ),
        // ... and in that of an arm of a select it was moved, too, if it is the one.
        (
            "let (tx, _rx) = strands::channel::bounded(1); let text = String::new(); \
             strands::select! { send(tx, text) -> _ => drop(text) }",
            "use of moved value: `text`",
        ),
        (
            "let (tx, _rx) = strands::channel::oneshot(); tx.send(1).unwrap(); tx.send(2).unwrap();",
            "use of moved value: `tx`",
        ),
        (
            "let (tx, _rx) = strands::channel::bounded(1); tx.send(std::rc::Rc::new(1)).unwrap(); \
             std::thread::spawn(move || tx.len());",
            "cannot be sent between threads safely",
        ),
        (
            "let mut select = strands::channel::Select::new(); select.recv(&rx); drop(rx); select.ready();",
            "cannot move out of `rx` because it is borrowed",
        ),
        (
            "let mut select = strands::channel::Select::new(); select.recv(&rx); \
             let operation = select.select(); drop(rx); drop(operation);",
            "cannot move out of `rx` because it is borrowed",
        ),
    ];
    // Each in a program of its own: an early error hides those of later passes.
    for (number, (body, message)) in mistakes.into_iter().enumerate() {
        let found = errors(&format!("role-{number}"), &[body]);
        assert!(
            found.len() == 1 && found[&0].len() == 1 && found[&0][0].contains(message),
            "{body}: {found:?}"
        );
    }
}
