//! Select: waiting for several things, and doing one of them.
//!
//! An [`Arm`] is one thing that a select may do: receive here, send there, join a goroutine. It is the seam
//! between select and what can be selected; the engine below knows no channel. It works in three passes:
//!
//! 1. **Look.** In random order (or, biased, in the order given) every arm is asked to do its work at once,
//!    if it can. The first that could has won.
//! 2. **Enlist.** One waiter is made, and every arm puts it in the line where it would be served. In doing so
//!    each looks once more, under the same lock: what came between the passes is not overlooked. An arm that
//!    finds something to do claims the waiter *for itself* before it does it; if it cannot, another arm has been
//!    served already.
//! 3. **Withdraw.** Once the waiter was claimed, by another party, by an arm or by the deadline, every arm takes
//!    its place out of its line. The one that was claimed has won.
//!
//! Since a waiter is claimed exactly once, a losing arm has consumed nothing and sent nothing.
//!
//! A select that does not wait makes all three passes too, and claims the waiter for its own end after the
//! second: having looked at its arms one after the other it could have missed one that became ready behind its
//! back when another ceased to be.
//!
//! A winner may turn out to have won nothing (whoever promised it a message broke the promise): then all begins
//! anew. The same holds when two selects, each enlisting, find each other: both claim themselves, and neither
//! can claim the other.
//!
//! **Fairness.** The order is a fresh random permutation each time, so that among arms that stay ready each wins
//! as often as any other. Waiting arms stand in the same lines as everybody else, first come, first served.
//!
//! **Invariant:** nothing in `selection` names channels or the scheduler.

mod macros;

use crate::wait::{Reason, TIMED_OUT, Token, WaitKind, Waiter, is_fed, tried_in_vain};
use std::cell::Cell;
use std::time::{Duration, Instant};

pub(crate) use sealed::Sealed;

mod sealed {
    /// Arms are ours: the engine relies on what they do with their places.
    pub trait Sealed {}
}

/// An act of waiting, as an arm sees it.
#[derive(Clone, Copy)]
pub struct Stand<'a> {
    pub(crate) waiter: &'a Waiter,
    /// Which arm it is: part of the token for which it is claimed.
    pub(crate) index: usize,
}

impl std::fmt::Debug for Stand<'_> {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("Stand").field("index", &self.index).finish_non_exhaustive()
    }
}

/// Evidence of having been claimed, which only the engine gives out: what an arm has got follows from it.
#[derive(Debug)]
pub struct Claim(Token);

impl Claim {
    pub(crate) fn token(&self) -> Token {
        self.0
    }
}

/// What became of an attempt to enlist.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
#[must_use]
pub enum Enlisted {
    /// The arm is in line.
    InLine,
    /// It need not wait: it has claimed the waiter and done its work.
    Done,
    /// Somebody else has claimed the waiter.
    Taken,
    /// It has claimed the waiter, and then there was nothing to do after all.
    Again,
}

/// One thing that a select may do. All its state is in cells, for its place in a line is pointed to while it
/// waits.
pub trait Arm: Sealed {
    /// Does its work if that needs no waiting for others.
    fn attempt(&self) -> bool;

    /// Does its work, or gets in line, unless it is there already (as the same arm given twice is). From now until
    /// `withdraw` the arm stays where it is.
    fn enlist(&self, stand: Stand<'_>) -> Enlisted;

    /// Gets out of the line. Once this has returned, nobody will touch the arm or its stand.
    fn withdraw(&self);

    /// It was claimed: notes what it has got. False if that is nothing.
    fn accept(&self, claim: Claim) -> bool;

    /// Until when waiting for this arm makes sense without looking again.
    fn deadline(&self) -> Option<Instant> {
        None
    }

    /// Whether `attempt` would succeed.
    fn is_ready(&self) -> bool;

    /// As `enlist`, to be told that the arm may have become ready; does nothing else.
    fn watch(&self, stand: Stand<'_>) -> Enlisted;

    /// As `withdraw`, after `watch`.
    fn unwatch(&self);
}

/// An arm of a select that is used several times.
pub(crate) trait RenewableArm: Arm {
    /// A fresh arm for the same thing.
    fn renew<'b>(&self) -> Box<dyn RenewableArm + 'b>
    where
        Self: 'b;
}

/// How long a select waits.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Until {
    /// Not at all.
    Now,
    /// Until one of its arms is served.
    Served,
    /// That, or until then.
    Then(Instant),
}

impl Until {
    fn deadline(self) -> Option<Instant> {
        match self {
            Until::Then(when) => Some(when),
            Until::Now | Until::Served => None,
        }
    }

    fn has_come(self) -> bool {
        match self {
            Until::Now => true,
            Until::Served => false,
            Until::Then(when) => Instant::now() >= when,
        }
    }
}

/// In what order arms are tried.
struct Order<'o, I> {
    indices: &'o mut [I],
    biased: bool,
    chance: Chance,
}

/// The index of an arm. A byte will do for most selects, which are few instructions long.
trait Index: Copy {
    fn get(self) -> usize;
}

impl Index for u8 {
    #[inline]
    fn get(self) -> usize {
        usize::from(self)
    }
}

impl Index for u32 {
    #[inline]
    fn get(self) -> usize {
        self as usize
    }
}

/// Selects with at most this many arms need no allocation.
const FEW: usize = 32;

/// The numbers below [`FEW`]. Copied, not counted.
const IN_ORDER: [u8; FEW] = {
    let mut indices = [0; FEW];
    let mut n = 0;
    while n < FEW {
        indices[n] = n as u8;
        n += 1;
    }
    indices
};

impl<I: Index> Order<'_, I> {
    /// The arm to be tried as the `n`th: all are tried once if this is called for 0, 1, and so on.
    #[inline]
    fn pick(&mut self, n: usize) -> usize {
        let left = self.indices.len() - n;
        if !self.biased && left > 1 {
            let other = n + self.chance.below(left);
            self.indices.swap(n, other);
        }
        self.indices[n].get()
    }
}

/// Random choices, several of which come out of one random number.
struct Chance {
    /// A fraction in units of 2⁻³².
    fraction: u64,
    /// The product of all bounds that `fraction` has served.
    spent: u64,
}

impl Chance {
    /// So many outcomes may be told apart by one number, so that no choice is off by more than one in 2¹⁶.
    const MOST: u64 = 1 << 16;

    #[inline]
    fn new() -> Chance {
        Chance { fraction: 0, spent: Self::MOST }
    }

    /// A number below `bound`, each as likely as any other.
    #[inline]
    fn below(&mut self, bound: usize) -> usize {
        let bound = bound as u64;
        self.spent = self.spent.saturating_mul(bound);
        if self.spent >= Self::MOST {
            self.fraction = u64::from(random());
            self.spent = bound;
        }
        // What follows the point after one choice is as random as before, for the next.
        let product = self.fraction * bound;
        self.fraction = product & 0xffff_ffff;
        (product >> 32) as usize
    }
}

/// A random number, good enough for fairness.
///
/// Never inlined, so that no caller can keep a thread-local's address across a switch.
#[cfg(not(loom))]
#[inline(never)]
fn random() -> u32 {
    thread_local! {
        static STATE: Cell<u64> = const { Cell::new(0) };
    }
    // Gone with its thread: then any number will do.
    let mut state = STATE.try_with(Cell::get).unwrap_or(0);
    if state == 0 {
        // Differs from thread to thread, and from run to run.
        let here = (&raw const state).addr() as u64;
        let now = std::time::SystemTime::now().duration_since(std::time::UNIX_EPOCH);
        state = (here ^ now.map_or(0, |now| now.as_nanos() as u64)) | 1;
    }
    // xorshift64*.
    state ^= state >> 12;
    state ^= state << 25;
    state ^= state >> 27;
    let _ = STATE.try_with(|cell| cell.set(state));
    (state.wrapping_mul(0x2545_F491_4F6C_DD1D) >> 32) as u32
}

/// Under loom, where each run must be like the one before.
#[cfg(loom)]
fn random() -> u32 {
    0
}

/// Waits for one of the arms, which has then done its work, and returns its index; `None` if the time was up.
///
/// Blocks: the goroutine, or else the thread.
#[inline]
pub(crate) fn select(arms: &[&dyn Arm], biased: bool, until: Until) -> Option<usize> {
    if arms.len() > FEW {
        return select_of_many(arms, biased, until);
    }
    let mut indices = IN_ORDER;
    let indices = &mut indices[..arms.len()];
    select_in(arms, Order { indices, biased, chance: Chance::new() }, until)
}

#[cold]
#[inline(never)]
fn select_of_many(arms: &[&dyn Arm], biased: bool, until: Until) -> Option<usize> {
    let indices = &mut Vec::from_iter(0..arms.len() as u32)[..];
    select_in(arms, Order { indices, biased, chance: Chance::new() }, until)
}

fn select_in<I: Index>(arms: &[&dyn Arm], mut order: Order<'_, I>, until: Until) -> Option<usize> {
    if until != Until::Now {
        is_fed();
    }
    loop {
        for n in 0..arms.len() {
            let index = order.pick(n);
            if arms[index].attempt() {
                return Some(index);
            }
        }
        let is_over = until.has_come();
        // Having looked at several arms one after the other is not to have seen them all idle at one
        // time. To have been in all their lines, unclaimed, is.
        if is_over && arms.len() <= 1 {
            break;
        }
        let until = if is_over { Until::Now } else { until };
        match wait(arms, order.indices, until, Mode::Serve) {
            Waited::Served(index) => return Some(index),
            Waited::InVain if is_over => break,
            Waited::InVain | Waited::Anew => {}
        }
    }
    if until == Until::Now {
        tried_in_vain();
    }
    None
}

/// The same for those arms that are enabled; with none and no end, for ever. What `select!` expands to.
#[inline]
pub fn run(arms: &[&dyn Arm], enabled: &[bool], biased: bool, until: Until) -> Option<usize> {
    if enabled.iter().all(|enabled| *enabled) {
        return select(arms, biased, until);
    }
    let chosen: Vec<usize> = (0..arms.len()).filter(|index| enabled[*index]).collect();
    let arms: Vec<&dyn Arm> = chosen.iter().map(|index| arms[*index]).collect();
    select(&arms, biased, until).map(|at| chosen[at])
}

/// The end of a wait of this length; one that is past all reckoning has none.
pub fn within(timeout: Duration) -> Until {
    Instant::now().checked_add(timeout).map_or(Until::Served, Until::Then)
}

/// Waits until one of the arms need not wait, and returns its index; `None` if the time was up.
///
/// Blocks: the goroutine, or else the thread.
pub(crate) fn ready(arms: &[&dyn Arm], biased: bool, until: Until) -> Option<usize> {
    let indices = &mut Vec::from_iter(0..arms.len() as u32)[..];
    let mut order = Order { indices, biased, chance: Chance::new() };
    loop {
        for n in 0..arms.len() {
            let index = order.pick(n);
            if arms[index].is_ready() {
                return Some(index);
            }
        }
        if until.has_come() {
            if until == Until::Now {
                tried_in_vain();
            }
            return None;
        }
        // Whether it is so, the next look tells.
        wait(arms, order.indices, until, Mode::Watch);
    }
}

#[derive(Clone, Copy, PartialEq, Eq)]
enum Mode {
    Serve,
    Watch,
}

/// What became of passes 2 and 3.
enum Waited {
    /// This arm was served.
    Served(usize),
    /// The time was up, and all arms were in line.
    InVain,
    /// All begins anew.
    Anew,
}

/// Passes 2 and 3.
#[inline(never)]
fn wait<I: Index>(arms: &[&dyn Arm], order: &[I], until: Until, mode: Mode) -> Waited {
    let waiter = Waiter::new();
    let mut in_line = 0;
    let mut end = Enlisted::InLine;
    let mut last = 0;
    while in_line < arms.len() && end == Enlisted::InLine {
        last = order[in_line].get();
        let stand = Stand { waiter: &waiter, index: last };
        end = match mode {
            Mode::Serve => arms[last].enlist(stand),
            Mode::Watch => arms[last].watch(stand),
        };
        if end == Enlisted::InLine {
            in_line += 1;
        }
    }
    let token = match end {
        // Not to wait at all is a deadline that has passed already.
        Enlisted::InLine if until == Until::Now && waiter.try_claim(TIMED_OUT) => Some(TIMED_OUT),
        Enlisted::InLine => {
            let deadline =
                arms.iter().filter_map(|arm| arm.deadline()).chain(until.deadline()).min();
            Some(waiter.park(Reason::on(WaitKind::Select, arms.len()), deadline))
        }
        // Whoever has claimed the waiter will finish it, and must be waited for.
        Enlisted::Taken => Some(waiter.park(Reason::on(WaitKind::Select, arms.len()), None)),
        Enlisted::Done | Enlisted::Again => None,
    };
    for index in &order[..in_line] {
        match mode {
            Mode::Serve => arms[index.get()].withdraw(),
            Mode::Watch => arms[index.get()].unwatch(),
        }
    }
    match token {
        None if end == Enlisted::Done => Waited::Served(last),
        None => Waited::Anew,
        Some(TIMED_OUT) => Waited::InVain,
        Some(token) => {
            let index = index_of(token);
            if mode == Mode::Serve && arms[index].accept(Claim(token)) {
                Waited::Served(index)
            } else {
                Waited::Anew
            }
        }
    }
}

/// Kinds of claims there are room for in a token.
const KINDS: usize = 16;

/// The token for a claim of this kind on the arm with this index.
#[inline]
pub(crate) fn token_of(kind: usize, index: usize) -> Token {
    debug_assert!(kind < KINDS);
    index * KINDS + kind
}

/// The kind of claim that a token stands for.
#[inline]
pub(crate) fn kind_of(token: Token) -> usize {
    token % KINDS
}

/// The arm that a token stands for.
fn index_of(token: Token) -> usize {
    token / KINDS
}

#[cfg(all(test, not(loom)))]
mod tests {
    use super::*;

    fn order_of(count: usize, biased: bool) -> Vec<usize> {
        let indices = &mut Vec::from_iter(0..count as u32)[..];
        let mut order = Order { indices, biased, chance: Chance::new() };
        (0..count).map(|n| order.pick(n)).collect()
    }

    #[test]
    fn every_order_of_three_comes_equally_often() {
        let mut counts = std::collections::HashMap::new();
        for _ in 0..60_000 {
            *counts.entry(order_of(3, false)).or_insert(0) += 1;
        }
        assert_eq!(counts.len(), 6);
        for (order, count) in counts {
            assert!((9_000..11_000).contains(&count), "{order:?}: {count} of 60,000");
        }
    }

    #[test]
    fn in_a_long_order_every_arm_comes_everywhere() {
        const ARMS: usize = 40;
        let mut counts = [[0; ARMS]; ARMS];
        for _ in 0..40_000 {
            let order = order_of(ARMS, false);
            let mut sorted = order.clone();
            sorted.sort_unstable();
            assert_eq!(sorted, (0..ARMS).collect::<Vec<_>>());
            for (n, index) in order.into_iter().enumerate() {
                counts[n][index] += 1;
            }
        }
        // A thousand each on average, with a deviation of 31.
        let all = || counts.iter().flatten();
        assert!(all().all(|count| (800..1_200).contains(count)), "{:?}", all().max());
    }

    #[test]
    fn a_biased_order_is_the_order_given() {
        for count in [1, 5, 100] {
            assert_eq!(order_of(count, true), (0..count).collect::<Vec<_>>());
        }
    }
}
