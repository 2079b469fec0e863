//! `select!` and `select_biased!`.
//!
//! Parsing takes the input apart, arm by arm, into a list of the form
//!
//! ```text
//!   [recv (expr) (guard) (pattern) {body}] [send (expr, message) (guard) (pattern) {body}] …
//! ```
//!
//! and a default, `()` or `(timeout…) {body}` (the timeout may be missing). Then the arms are made, one inside
//! the other, so that temporaries in their expressions live as long as the select; the engine chooses one; and
//! the chosen one is finished, all arms are dropped, and its body runs, which may move whatever the arms had
//! borrowed. The expansion is safe code.

/// Waits until one of several operations can be done, and does it.
///
/// ```
/// use std::time::Duration;
/// use strands::channel::{after, unbounded};
/// use strands::select;
///
/// let (numbers, numbers_in) = unbounded();
/// let (_words, words_in) = unbounded::<String>();
/// numbers.send(1).unwrap();
/// let found = select! {
///     recv(numbers_in) -> number => number.unwrap(),
///     recv(words_in) -> word => word.unwrap().len(),
///     recv(after(Duration::from_secs(10))) -> _ => 0,
/// };
/// assert_eq!(found, 1);
/// ```
///
/// If several can be done it picks one at random, each as likely as any other; [`select_biased!`](crate::select_biased) picks the
/// first. An arm that is not picked has received nothing and sent nothing. An operation can be done if it need
/// not wait: on a disconnected channel it can, and yields an error.
///
/// # Arms
///
/// | arm | does | the pattern gets |
/// |---|---|---|
/// | `recv(receiver) -> pattern => body` | [`recv`](crate::channel::Receiver::recv) | `Result<T, RecvError>` |
/// | `send(sender, message) -> pattern => body` | [`send`](crate::channel::Sender::send) | `Result<(), SendError<T>>` |
/// | `join(handle) -> pattern => body` | waits for a goroutine's end | `std::thread::Result<T>` |
/// | `ready(stream.readable()) -> pattern => body` | waits until a socket is [ready](crate::net::Readiness) | `io::Result<()>` |
/// | `default => body` | runs if no other arm can at once | |
/// | `default(timeout) => body` | runs if no other arm can within the `Duration` | |
///
/// The first four may carry a guard, before the arrow: `recv(receiver) if open -> pattern => body`. An arm
/// whose guard is false takes no part (but its expression in parentheses is evaluated). If no arm takes part
/// and there is no default, the select waits for ever. (Should the compiler complain of its recursion limit:
/// a long guard costs less of it in parentheses.)
///
/// The `message` is evaluated when the arm has been picked, and not otherwise. If that panics, nothing is sent,
/// and the receiver or the room that was kept goes to the next.
///
/// `join` borrows the handle mutably and leaves it where it is. The result comes out once: joining the handle
/// again panics.
///
/// Bodies are separated by commas, which may be left out after a block. All have the same type, that of the
/// select.
///
/// Blocks: the goroutine, or else the thread; not at all with `default`.
///
/// # Differs
///
/// From Go: a channel that is closed is picked with an error, not with a zero value; there are time-outs and
/// guards. From crossbeam-channel: guards and `join` are new, waiting arms are served first come, first served.
#[macro_export]
macro_rules! select {
    ($($input:tt)*) => {
        $crate::__select!(@entry (false) $($input)*)
    };
}

/// As [`select!`](crate::select), but if several operations can be done it picks the first, in the order in which they are
/// written.
///
/// ```
/// use strands::channel::unbounded;
///
/// let (urgent, urgent_in) = unbounded();
/// let (other, other_in) = unbounded();
/// other.send("other").unwrap();
/// urgent.send("urgent").unwrap();
/// strands::select_biased! {
///     recv(urgent_in) -> message => assert_eq!(message, Ok("urgent")),
///     recv(other_in) -> _ => unreachable!(),
/// }
/// ```
#[macro_export]
macro_rules! select_biased {
    ($($input:tt)*) => {
        $crate::__select!(@entry (true) $($input)*)
    };
}

/// The name by which some code written for crossbeam-channel calls `select!` from within its own macros.
#[doc(hidden)]
#[macro_export]
macro_rules! crossbeam_channel_internal {
    ($($input:tt)*) => {
        $crate::__select!(@entry (false) $($input)*)
    };
}

#[doc(hidden)]
#[macro_export]
macro_rules! __select {
    (@entry $biased:tt) => {
        compile_error!("empty `select!` block")
    };
    (@entry $biased:tt $($input:tt)*) => {
        $crate::__select!(@arm $biased () () $($input)*)
    };

    // Parsing: `@arm biased (arms) (default) input…`. As few steps as can be: each costs the caller one
    // level of macro recursion.

    (@arm $biased:tt $arms:tt $default:tt) => {
        $crate::__select!(@make $biased $default () () $arms
            (0 arm_0) (1 arm_1) (2 arm_2) (3 arm_3) (4 arm_4) (5 arm_5) (6 arm_6) (7 arm_7)
            (8 arm_8) (9 arm_9) (10 arm_10) (11 arm_11) (12 arm_12) (13 arm_13) (14 arm_14)
            (15 arm_15) (16 arm_16) (17 arm_17) (18 arm_18) (19 arm_19) (20 arm_20) (21 arm_21)
            (22 arm_22) (23 arm_23) (24 arm_24) (25 arm_25) (26 arm_26) (27 arm_27) (28 arm_28)
            (29 arm_29) (30 arm_30) (31 arm_31))
    };

    (@arm $biased:tt $arms:tt ($($former:tt)+) default $($rest:tt)*) => {
        compile_error!("there can be only one `default` case in a `select!` block")
    };
    (@arm $biased:tt $arms:tt () default => $($rest:tt)*) => {
        $crate::__select!(@default $biased $arms () $($rest)*)
    };
    (@arm $biased:tt $arms:tt () default() => $($rest:tt)*) => {
        $crate::__select!(@default $biased $arms () $($rest)*)
    };
    (@arm $biased:tt $arms:tt () default($timeout:expr $(,)?) => $($rest:tt)*) => {
        $crate::__select!(@default $biased $arms ($timeout) $($rest)*)
    };
    (@arm $biased:tt $arms:tt () default -> $($rest:tt)*) => {
        compile_error!("expected `=>` after `default` case, found `->`")
    };
    (@arm $biased:tt $arms:tt () default ($($args:tt)*) -> $($rest:tt)*) => {
        compile_error!("expected `=>` after `default` case, found `->`")
    };
    (@arm $biased:tt $arms:tt () default ($($args:tt)*) => $($rest:tt)*) => {
        compile_error!(concat!("invalid argument list in `default(", stringify!($($args)*), ")`"))
    };
    (@arm $biased:tt $arms:tt () default $($rest:tt)*) => {
        compile_error!("expected an argument list or `=>` after `default`")
    };

    (@arm $biased:tt ($($arms:tt)*) $default:tt
        $kind:ident ($($args:tt)*) -> $pattern:pat => $body:block , $($rest:tt)*) => {
        $crate::__select!(@arm $biased
            ($($arms)* [$kind ($($args)*) (true) ($pattern) ($body)]) $default $($rest)*)
    };
    (@arm $biased:tt $arms:tt $default:tt
        $kind:ident ($($args:tt)*) -> $pattern:pat => $body:block ; $($rest:tt)*) => {
        compile_error!("did you mean to put a comma instead of the semicolon after `}`?")
    };
    (@arm $biased:tt ($($arms:tt)*) $default:tt
        $kind:ident ($($args:tt)*) -> $pattern:pat => $body:block $($rest:tt)*) => {
        $crate::__select!(@arm $biased
            ($($arms)* [$kind ($($args)*) (true) ($pattern) ($body)]) $default $($rest)*)
    };
    (@arm $biased:tt ($($arms:tt)*) $default:tt
        $kind:ident ($($args:tt)*) -> $pattern:pat => $body:expr , $($rest:tt)*) => {
        $crate::__select!(@arm $biased
            ($($arms)* [$kind ($($args)*) (true) ($pattern) ($body)]) $default $($rest)*)
    };
    (@arm $biased:tt ($($arms:tt)*) $default:tt
        $kind:ident ($($args:tt)*) -> $pattern:pat => $body:expr) => {
        $crate::__select!(@arm $biased
            ($($arms)* [$kind ($($args)*) (true) ($pattern) ($body)]) $default)
    };
    (@arm $biased:tt $arms:tt $default:tt
        $kind:ident ($($args:tt)*) -> $pattern:pat => $body:expr ; $($rest:tt)*) => {
        compile_error!(concat!(
            "did you mean to put a comma instead of the semicolon after `", stringify!($body), "`?"
        ))
    };
    // Short guards at one go. (With more words, what follows an arm without an arrow could pass for its guard.)
    (@arm $biased:tt $arms:tt $default:tt
        $kind:ident ($($args:tt)*) if $a:tt -> $($rest:tt)*) => {
        $crate::__select!(@guard $biased $arms $default ($kind ($($args)*)) ($a) -> $($rest)*)
    };
    (@arm $biased:tt $arms:tt $default:tt
        $kind:ident ($($args:tt)*) if $a:tt $b:tt -> $($rest:tt)*) => {
        $crate::__select!(@guard $biased $arms $default ($kind ($($args)*)) ($a $b) -> $($rest)*)
    };
    (@arm $biased:tt $arms:tt $default:tt
        $kind:ident ($($args:tt)*) if $a:tt $b:tt $c:tt -> $($rest:tt)*) => {
        $crate::__select!(@guard $biased $arms $default ($kind ($($args)*)) ($a $b $c) -> $($rest)*)
    };
    (@arm $biased:tt $arms:tt $default:tt
        $kind:ident ($($args:tt)*) if $a:tt $b:tt $c:tt $d:tt -> $($rest:tt)*) => {
        $crate::__select!(@guard $biased $arms $default ($kind ($($args)*)) ($a $b $c $d) -> $($rest)*)
    };
    (@arm $biased:tt $arms:tt $default:tt $kind:ident ($($args:tt)*) if $($rest:tt)*) => {
        $crate::__select!(@guard $biased $arms $default ($kind ($($args)*)) () $($rest)*)
    };

    // What is wrong with an arm that is none of these.

    (@arm $biased:tt $arms:tt $default:tt
        $kind:ident ($($args:tt)*) -> $pattern:pat => ) => {
        compile_error!("expected expression after `=>`")
    };
    (@arm $biased:tt $arms:tt $default:tt $kind:ident ($($args:tt)*) -> => $($rest:tt)*) => {
        compile_error!("missing pattern after `->`")
    };
    (@arm $biased:tt $arms:tt $default:tt $kind:ident ($($args:tt)*) -> $pattern:pat) => {
        compile_error!(concat!("missing `=>` after `", stringify!($kind), "` case"))
    };
    (@arm $biased:tt $arms:tt $default:tt $kind:ident ($($args:tt)*) => $($rest:tt)*) => {
        compile_error!(concat!("expected `->` after `", stringify!($kind), "` case, found `=>`"))
    };
    (@arm $biased:tt $arms:tt $default:tt $kind:ident ($($args:tt)*)) => {
        compile_error!(concat!("missing `->` after `", stringify!($kind), "` case"))
    };
    (@arm $biased:tt $arms:tt $default:tt $kind:ident ($($args:tt)*) -> $($rest:tt)*) => {
        compile_error!(concat!("expected `pattern => body` after `->` of a `", stringify!($kind), "` case"))
    };
    (@arm $biased:tt $arms:tt $default:tt $kind:ident ($($args:tt)*) $other:tt $($rest:tt)*) => {
        compile_error!(concat!("expected `->`, found `", stringify!($other), "`"))
    };
    (@arm $biased:tt $arms:tt $default:tt recv $($rest:tt)*) => {
        compile_error!("missing argument list after `recv`")
    };
    (@arm $biased:tt $arms:tt $default:tt send $($rest:tt)*) => {
        compile_error!("missing argument list after `send`")
    };
    (@arm $biased:tt $arms:tt $default:tt join $($rest:tt)*) => {
        compile_error!("missing argument list after `join`")
    };
    (@arm $biased:tt $arms:tt $default:tt ready $($rest:tt)*) => {
        compile_error!("missing argument list after `ready`")
    };
    (@arm $biased:tt $arms:tt $default:tt $other:tt $($rest:tt)*) => {
        compile_error!(concat!(
            "expected one of `recv`, `send`, `join`, `ready` or `default`, found `", stringify!($other), "`"
        ))
    };

    // The body of the default: `@default biased (arms) (timeout) input…`.

    (@default $biased:tt $arms:tt $timeout:tt) => {
        compile_error!("expected expression after `=>`")
    };
    (@default $biased:tt $arms:tt $timeout:tt $body:block , $($rest:tt)*) => {
        $crate::__select!(@arm $biased $arms ($timeout ($body)) $($rest)*)
    };
    (@default $biased:tt $arms:tt $timeout:tt $body:block ; $($rest:tt)*) => {
        compile_error!("did you mean to put a comma instead of the semicolon after `}`?")
    };
    (@default $biased:tt $arms:tt $timeout:tt $body:block $($rest:tt)*) => {
        $crate::__select!(@arm $biased $arms ($timeout ($body)) $($rest)*)
    };
    (@default $biased:tt $arms:tt $timeout:tt $body:expr , $($rest:tt)*) => {
        $crate::__select!(@arm $biased $arms ($timeout ($body)) $($rest)*)
    };
    (@default $biased:tt $arms:tt $timeout:tt $body:expr) => {
        $crate::__select!(@arm $biased $arms ($timeout ($body)))
    };
    (@default $biased:tt $arms:tt $timeout:tt $body:expr ; $($rest:tt)*) => {
        compile_error!(concat!(
            "did you mean to put a comma instead of the semicolon after `", stringify!($body), "`?"
        ))
    };

    // A guard goes up to the arrow: `@guard biased (arms) (default) (kind (args)) (guard) input…`.

    (@guard $biased:tt $arms:tt $default:tt $head:tt () -> $($rest:tt)*) => {
        compile_error!("expected a condition after `if`")
    };
    (@guard $biased:tt $arms:tt $default:tt $head:tt $guard:tt => $($rest:tt)*) => {
        compile_error!("expected `->` after the condition, found `=>`")
    };
    (@guard $biased:tt ($($arms:tt)*) $default:tt ($($head:tt)*) $guard:tt
        -> $pattern:pat => $body:block , $($rest:tt)*) => {
        $crate::__select!(@arm $biased
            ($($arms)* [$($head)* $guard ($pattern) ($body)]) $default $($rest)*)
    };
    (@guard $biased:tt ($($arms:tt)*) $default:tt ($($head:tt)*) $guard:tt
        -> $pattern:pat => $body:block $($rest:tt)*) => {
        $crate::__select!(@arm $biased
            ($($arms)* [$($head)* $guard ($pattern) ($body)]) $default $($rest)*)
    };
    (@guard $biased:tt ($($arms:tt)*) $default:tt ($($head:tt)*) $guard:tt
        -> $pattern:pat => $body:expr , $($rest:tt)*) => {
        $crate::__select!(@arm $biased
            ($($arms)* [$($head)* $guard ($pattern) ($body)]) $default $($rest)*)
    };
    (@guard $biased:tt ($($arms:tt)*) $default:tt ($($head:tt)*) $guard:tt
        -> $pattern:pat => $body:expr) => {
        $crate::__select!(@arm $biased
            ($($arms)* [$($head)* $guard ($pattern) ($body)]) $default)
    };
    (@guard $biased:tt $arms:tt $default:tt $head:tt $guard:tt -> $($rest:tt)*) => {
        compile_error!("expected `pattern => body` after `->`")
    };
    (@guard $biased:tt $arms:tt $default:tt $head:tt $guard:tt) => {
        compile_error!("missing `->` after the condition")
    };
    (@guard $biased:tt $arms:tt $default:tt $head:tt ($($guard:tt)*) $next:tt $($rest:tt)*) => {
        $crate::__select!(@guard $biased $arms $default $head ($($guard)* $next) $($rest)*)
    };

    // Making the arms: `@make biased (default) (names) (made) (arms) labels…`.

    (@make $biased:tt $default:tt ($($names:tt)*) ($($made:tt)*)
        ([recv ($end:expr $(,)?) $($arm:tt)*] $($arms:tt)*)
        ($index:tt $name:ident) $($labels:tt)*) => {
        match $end {
            ref end => {
                let $name = end.__recv_arm();
                $crate::__select!(@make $biased $default ($($names)* $name)
                    ($($made)* [$index $name () $($arm)*]) ($($arms)*) $($labels)*)
            }
        }
    };
    (@make $biased:tt $default:tt ($($names:tt)*) ($($made:tt)*)
        ([send ($end:expr, $message:expr $(,)?) $($arm:tt)*] $($arms:tt)*)
        ($index:tt $name:ident) $($labels:tt)*) => {
        match $end {
            ref end => {
                let $name = end.__send_arm();
                $crate::__select!(@make $biased $default ($($names)* $name)
                    ($($made)* [$index $name ($message) $($arm)*]) ($($arms)*) $($labels)*)
            }
        }
    };
    (@make $biased:tt $default:tt ($($names:tt)*) ($($made:tt)*)
        ([join ($end:expr $(,)?) $($arm:tt)*] $($arms:tt)*)
        ($index:tt $name:ident) $($labels:tt)*) => {
        match $end {
            ref mut end => {
                let $name = end.__join_arm();
                $crate::__select!(@make $biased $default ($($names)* $name)
                    ($($made)* [$index $name () $($arm)*]) ($($arms)*) $($labels)*)
            }
        }
    };
    (@make $biased:tt $default:tt ($($names:tt)*) ($($made:tt)*)
        ([ready ($end:expr $(,)?) $($arm:tt)*] $($arms:tt)*)
        ($index:tt $name:ident) $($labels:tt)*) => {
        match $end {
            ref end => {
                let $name = end.__ready_arm();
                $crate::__select!(@make $biased $default ($($names)* $name)
                    ($($made)* [$index $name () $($arm)*]) ($($arms)*) $($labels)*)
            }
        }
    };
    (@make $biased:tt $default:tt $names:tt $made:tt () $($labels:tt)*) => {
        $crate::__select!(@run $biased $default $names $made)
    };
    (@make $biased:tt $default:tt $names:tt $made:tt ($($arms:tt)*)) => {
        compile_error!("too many operations in a `select!` block")
    };
    (@make $biased:tt $default:tt $names:tt $made:tt
        ([recv ($($args:tt)*) $($arm:tt)*] $($arms:tt)*) $($labels:tt)*) => {
        compile_error!(concat!("invalid argument list in `recv(", stringify!($($args)*), ")`"))
    };
    (@make $biased:tt $default:tt $names:tt $made:tt
        ([send ($($args:tt)*) $($arm:tt)*] $($arms:tt)*) $($labels:tt)*) => {
        compile_error!(concat!("invalid argument list in `send(", stringify!($($args)*), ")`"))
    };
    (@make $biased:tt $default:tt $names:tt $made:tt
        ([join ($($args:tt)*) $($arm:tt)*] $($arms:tt)*) $($labels:tt)*) => {
        compile_error!(concat!("invalid argument list in `join(", stringify!($($args)*), ")`"))
    };
    (@make $biased:tt $default:tt $names:tt $made:tt
        ([ready ($($args:tt)*) $($arm:tt)*] $($arms:tt)*) $($labels:tt)*) => {
        compile_error!(concat!("invalid argument list in `ready(", stringify!($($args)*), ")`"))
    };
    (@make $biased:tt $default:tt $names:tt $made:tt
        ([$other:tt $($arm:tt)*] $($arms:tt)*) $($labels:tt)*) => {
        compile_error!(concat!(
            "expected one of `recv`, `send`, `join`, `ready` or `default`, found `", stringify!($other), "`"
        ))
    };

    // Running: `@run biased (default) (names) (made)`.

    (@run ($biased:tt) $default:tt $names:tt
        ($([$index:tt $name:ident $message:tt $guard:tt $pattern:tt $body:tt])*)) => {{
        let chosen = $crate::__private::run(
            &[$(&$name),*],
            &[$($guard),*],
            $biased,
            $crate::__select!(@until $default),
        );
        match chosen {
            $(
                ::core::option::Option::Some($index) => {
                    let result = $crate::__select!(@finish $name $message);
                    $crate::__select!(@drop $names);
                    $crate::__select!(@bind result $pattern $body)
                }
            )*
            _ => $crate::__select!(@otherwise $default $names),
        }
    }};
    (@until ()) => { $crate::__private::Until::Served };
    (@until (() $body:tt)) => { $crate::__private::Until::Now };
    (@until (($timeout:expr) $body:tt)) => { $crate::__private::within($timeout) };
    (@finish $name:ident ()) => { $name.finish() };
    (@finish $name:ident ($message:expr)) => { $name.finish($message) };
    (@drop ($($name:ident)*)) => { $(::core::mem::drop($name);)* };
    (@bind $result:ident ($pattern:pat) ($body:expr)) => {{
        let $pattern = $result;
        $body
    }};
    (@otherwise () $names:tt) => {
        ::core::unreachable!("a select without a default that has chosen nothing")
    };
    (@otherwise ($timeout:tt ($body:expr)) $names:tt) => {{
        $crate::__select!(@drop $names);
        $body
    }};
}
