//! Who holds the lock that somebody waits for: names for reports, and circles of those who wait for each other.
//!
//! A lock knows on which stack it was taken (`wait::holder`), and a stack is somebody's: a slot is that of a goroutine; another
//! stack is a thread's, which can be told if that thread waits as well, or is the main thread. So the answer is about
//! stacks. It is wrong, or "that has ended", where a guard was leaked and its owner is gone, and another goroutine may have
//! the stack by now; nothing in the way of taking a lock could tell that for free.
//!
//! It is right at the moment at which the lock is looked at, but a lock that passes from hand to hand just then may still
//! name the one who had it before. In a deadlock nothing passes any more, so there the circles are what they seem.
//! Each waits for one thing at a time: from each there is at most one way on, and circles are found by going it.

use super::started::Look;
use crate::stack;
use crate::sys::mappings::Mappings;
use crate::wait::{self, BlockedThread, Held, Reason, WaitKind};
use std::cell::OnceCell;
use std::collections::HashMap;
use std::fmt::{self, Write};

/// Those who can hold something, as far as they can be told apart.
#[derive(Clone, Copy, PartialEq, Eq, Hash)]
enum Whose {
    Goroutine(u64),
    EndedGoroutine,
    Thread(i32),
    MainThread,
    SomeThread,
    Task,
}

/// One of them, with its name.
pub(super) struct Party {
    whose: Whose,
    name: Option<String>,
}

impl fmt::Display for Party {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match (self.whose, &self.name) {
            (Whose::Goroutine(id), None) => write!(f, "goroutine {id}"),
            (Whose::Goroutine(id), Some(name)) => write!(f, "goroutine {id} {name:?}"),
            (Whose::EndedGoroutine, _) => f.write_str("a goroutine that has ended"),
            (Whose::Thread(tid), None) => write!(f, "thread {tid}"),
            (Whose::Thread(_), Some(name)) => write!(f, "thread {name:?}"),
            (Whose::MainThread, _) => f.write_str("the main thread"),
            (Whose::SomeThread, _) => f.write_str("a thread"),
            (Whose::Task, _) => f.write_str("an async task"),
        }
    }
}

impl From<Whose> for Party {
    fn from(whose: Whose) -> Party {
        Party { whose, name: None }
    }
}

impl Party {
    pub(super) fn of_goroutine(look: &Look) -> Party {
        let name = look.name.as_deref().and_then(|identity| identity.name());
        Party { whose: Whose::Goroutine(look.id), name: name.map(str::to_owned) }
    }

    pub(super) fn of_thread(thread: &BlockedThread) -> Party {
        Party { whose: Whose::Thread(thread.tid), name: thread.name.clone() }
    }
}

/// What it takes to tell who holds a lock.
pub(super) struct Holders {
    /// The plain threads that wait.
    pub(super) threads: Vec<BlockedThread>,
    /// Read when the first stack is met that is no goroutine's.
    mappings: OnceCell<Mappings>,
}

impl Holders {
    pub(super) fn now() -> Holders {
        Holders { threads: wait::blocked_threads(), mappings: OnceCell::new() }
    }

    /// What is to be said about the holder of the lock for which `who` waits: `, held by goroutine 7`, or nothing.
    pub(super) fn clause(&self, who: &Party, why: Reason, held: Held) -> String {
        let Some(verb) = verb(why.kind) else { return String::new() };
        match self.find(held) {
            None => String::new(),
            Some(holder) if holder.whose == who.whose => format!(", {verb} itself"),
            Some(holder) => format!(", {verb} {holder}"),
        }
    }

    fn find(&self, held: Held) -> Option<Party> {
        match held {
            Held::Unknown => None,
            Held::ByTask => Some(Whose::Task.into()),
            Held::OnStack(address) => Some(match stack::lookup(address) {
                Some(slot) => Look::at(slot, true)
                    .map_or(Whose::EndedGoroutine.into(), |look| Party::of_goroutine(&look)),
                None => self.thread_with(address),
            }),
        }
    }

    /// The thread that has this address on its stack.
    fn thread_with(&self, address: usize) -> Party {
        let mappings = self.mappings.get_or_init(Mappings::read);
        let Some(stack) = mappings.around(address) else { return Whose::SomeThread.into() };
        match self.threads.iter().find(|thread| stack.range.contains(&thread.stack)) {
            Some(thread) => Party::of_thread(thread),
            None if stack.is_main_stack => Whose::MainThread.into(),
            None => Whose::SomeThread.into(),
        }
    }

    /// Tells of all circles, a line each: who waits for what, and who has that.
    pub(super) fn describe_circles(&self, goroutines: &[Look], text: &mut String) {
        let goroutines = goroutines
            .iter()
            .map(|look| Step::new(self, Party::of_goroutine(look), look.why, look.held));
        let threads = self
            .threads
            .iter()
            .map(|thread| Step::new(self, Party::of_thread(thread), thread.why, thread.held));
        let steps: Vec<Step> = goroutines.chain(threads).collect();
        for circle in circles(&steps) {
            describe_circle(&circle, text);
        }
    }
}

/// How a lock has its holder.
fn verb(kind: WaitKind) -> Option<&'static str> {
    match kind {
        WaitKind::MutexLock => Some("held by"),
        WaitKind::RwLockRead | WaitKind::RwLockWrite => Some("whose writer is"),
        _ => None,
    }
}

/// One who waits, and for whom.
struct Step {
    who: Party,
    why: Reason,
    whom: Option<Whose>,
}

impl Step {
    fn new(holders: &Holders, who: Party, why: Reason, held: Held) -> Step {
        let whom = match why.kind {
            WaitKind::Join => Some(Whose::Goroutine(why.object as u64)),
            kind if verb(kind).is_some() => holders.find(held).map(|holder| holder.whose),
            _ => None,
        };
        Step { who, why, whom }
    }
}

/// All circles, each beginning with its first in the list.
fn circles(steps: &[Step]) -> Vec<Vec<&Step>> {
    let places: HashMap<Whose, usize> =
        steps.iter().enumerate().map(|(at, step)| (step.who.whose, at)).collect();
    let next = |at: usize| steps[at].whom.and_then(|whom| places.get(&whom).copied());
    // Which walk has come by first, counted from one.
    let mut walks = vec![0; steps.len()];
    let mut circles = Vec::new();
    for start in 0..steps.len() {
        let mut at = Some(start);
        while let Some(here) = at
            && walks[here] == 0
        {
            walks[here] = start + 1;
            at = next(here);
        }
        // It has met itself: from there on it is a circle.
        let Some(meeting) = at.filter(|meeting| walks[*meeting] == start + 1) else { continue };
        let round = |at: &usize| next(*at).filter(|next| *next != meeting);
        let mut circle: Vec<usize> = std::iter::successors(Some(meeting), round).collect();
        let first = circle.iter().enumerate().min_by_key(|(_, at)| **at).map(|(place, _)| place);
        circle.rotate_left(first.unwrap_or(0));
        circles.push(circle.into_iter().map(|at| &steps[at]).collect());
    }
    circles
}

/// `a circle: goroutine 7 waits for mutex 0x…, held by goroutine 12, which waits for mutex 0x…, held by goroutine 7`
fn describe_circle(circle: &[&Step], text: &mut String) {
    let _ = write!(text, "a circle: {}", circle[0].who);
    for (at, step) in circle.iter().enumerate() {
        let which = if at == 0 { "" } else { ", which" };
        let whom = match circle {
            [_] => "itself".to_owned(),
            _ => circle[(at + 1) % circle.len()].who.to_string(),
        };
        let _ = match (verb(step.why.kind), step.why.thing()) {
            (Some(verb), Some(thing)) => write!(text, "{which} waits for {thing}, {verb} {whom}"),
            _ => write!(text, "{which} joins {whom}"),
        };
    }
    text.push('\n');
}

#[cfg(test)]
mod tests {
    use super::*;

    /// Goroutine `n` waits for goroutine `whom[n]`.
    fn steps(whom: &[Option<u64>]) -> Vec<Step> {
        let step = |(id, whom): (usize, &Option<u64>)| Step {
            who: Whose::Goroutine(id as u64).into(),
            why: Reason::on(WaitKind::MutexLock, 16 * id),
            whom: whom.map(Whose::Goroutine),
        };
        whom.iter().enumerate().map(step).collect()
    }

    fn found(whom: &[Option<u64>]) -> Vec<Vec<usize>> {
        let steps = steps(whom);
        let numbers = |circle: Vec<&Step>| circle.iter().map(|step| step.why.object / 16).collect();
        circles(&steps).into_iter().map(numbers).collect()
    }

    #[test]
    fn circles_are_found_once_each_and_ways_into_them_are_none() {
        assert!(found(&[]).is_empty());
        assert!(found(&[Some(1), Some(2), None]).is_empty());
        assert!(found(&[Some(1), Some(7)]).is_empty(), "whoever that is does not wait");
        assert_eq!(found(&[Some(0)]), [[0]]);
        assert_eq!(found(&[Some(3), Some(2), Some(1), Some(2)]), [[1, 2]]);
        assert_eq!(found(&[Some(2), Some(0), Some(1)]), [[0, 2, 1]]);
        assert_eq!(found(&[Some(1), Some(0), Some(3), Some(2), Some(0)]), [[0, 1], [2, 3]]);
    }

    #[test]
    fn a_circle_is_told_from_its_first_to_its_first() {
        let mut text = String::new();
        let two = steps(&[Some(1), Some(0)]);
        describe_circle(&circles(&two)[0], &mut text);
        assert_eq!(
            text,
            "a circle: goroutine 0 waits for mutex 0x0, held by goroutine 1, which waits for mutex 0x10, \
             held by goroutine 0\n"
        );
    }
}
