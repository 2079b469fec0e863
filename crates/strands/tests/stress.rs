//! Random programs, whose books must balance at the end.
//!
//! Each test runs in a process of its own with 1, 2 and 4 processors, for about a second in all; for a minute
//! each with `STRANDS_LONG_TESTS=1`. A round is determined by its seed, but for the schedule. A test that
//! fails or hangs prints the seed of its last round; with `STRANDS_SEED` set, that one is the first.
#![cfg(not(loom))]

mod child;

use std::env;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, AtomicU8, AtomicU64, AtomicUsize, Ordering::SeqCst};
use std::time::{Duration, Instant, SystemTime, UNIX_EPOCH};

use child::Child;
use strands::channel::{Receiver, Sender, TryRecvError, TrySendError, bounded, unbounded};
use strands::thread;

// ---- Rounds ----

/// xorshift.
struct Random(u64);

impl Random {
    fn new(seed: u64) -> Random {
        // Neighbouring seeds must not begin alike.
        let mixed = (seed ^ 0x9e37_79b9_7f4a_7c15).wrapping_mul(0xbf58_476d_1ce4_e5b9);
        Random((mixed ^ mixed >> 31) | 1)
    }

    fn next(&mut self) -> u64 {
        self.0 ^= self.0 << 13;
        self.0 ^= self.0 >> 7;
        self.0 ^= self.0 << 17;
        self.0 >> 11
    }

    fn below(&mut self, limit: usize) -> usize {
        self.next() as usize % limit
    }

    fn one_in(&mut self, n: usize) -> bool {
        self.below(n) == 0
    }

    /// A generator for somebody else.
    fn fork(&mut self) -> Random {
        Random::new(self.next())
    }
}

/// Plays rounds until the time is up, with 1, 2 and 4 processors.
fn rounds(test: &'static str, play: fn(&mut Random)) {
    let long = env::var("STRANDS_LONG_TESTS").is_ok_and(|value| value == "1");
    let time = Duration::from_millis(if long { 20_000 } else { 400 });
    for processors in ["1", "2", "4"] {
        let ended = Child::of(test).env("STRANDS_MAXPROCS", processors).run(|| {
            let clock =
                || SystemTime::now().duration_since(UNIX_EPOCH).map(|t| t.as_nanos() as u64);
            let first = match env::var("STRANDS_SEED") {
                Ok(seed) => seed.parse().expect("STRANDS_SEED is a number"),
                Err(_) => clock().unwrap_or(1),
            };
            let begun = Instant::now();
            watch(time);
            for seed in first.. {
                eprintln!("STRANDS_SEED={seed}");
                play(&mut Random::new(seed));
                if begun.elapsed() > time {
                    break;
                }
            }
        });
        if !ended.status.success() {
            let lines: Vec<_> = ended.stderr.lines().collect();
            let last = lines[lines.len().saturating_sub(60)..].join("\n");
            panic!("with STRANDS_MAXPROCS={processors}: {}\n{last}", ended.status);
        }
    }
}

/// Shows who waits for what if the process has not ended long after its time.
fn watch(time: Duration) {
    std::thread::spawn(move || {
        std::thread::sleep(time + Duration::from_secs(60));
        eprintln!("{}", strands::runtime::dump());
        std::process::abort();
    });
}

// ---- Parties: goroutines or threads ----

enum Party<T> {
    Goroutine(strands::JoinHandle<T>),
    Thread(std::thread::JoinHandle<T>),
}

impl<T: Send + 'static> Party<T> {
    /// A goroutine three times out of four.
    fn start(random: &mut Random, f: impl FnOnce() -> T + Send + 'static) -> Party<T> {
        if random.one_in(4) {
            Party::Thread(std::thread::spawn(f))
        } else {
            Party::Goroutine(strands::go(f))
        }
    }

    fn outcome(self) -> std::thread::Result<T> {
        match self {
            Party::Goroutine(handle) => handle.join(),
            // A goroutine that joined a thread by std's means would block its own thread, and with it
            // perhaps a goroutine that the other waits for.
            Party::Thread(handle) => strands::blocking(|| handle.join()),
        }
    }

    fn join(self) -> T {
        self.outcome().unwrap_or_else(|panic| std::panic::resume_unwind(panic))
    }
}

/// Takes a little time in one way or another.
fn dawdle(random: &mut Random) {
    match random.below(12) {
        0..4 => strands::yield_now(),
        4..6 => (0..random.below(2000)).for_each(|_| std::hint::spin_loop()),
        6 => strands::sleep(Duration::from_micros(random.below(300) as u64)),
        7 => thread::park_timeout(Duration::from_micros(random.below(100) as u64)),
        8 if random.one_in(8) => strands::blocking(std::thread::yield_now),
        _ => {}
    }
}

// ---- Channels ----

/// What has become of every value.
struct Ledger {
    values: Vec<AtomicU8>,
    next: AtomicUsize,
}

const SENT: u8 = 1;
const RETURNED: u8 = 2;
const RECEIVED: u8 = 4;
const DROPPED: u8 = 8;

struct Value {
    id: usize,
    channel: usize,
    ledger: Arc<Ledger>,
}

impl Value {
    fn new(ledger: &Arc<Ledger>, channel: usize) -> Value {
        let id = ledger.next.fetch_add(1, SeqCst);
        Value { id, channel, ledger: Arc::clone(ledger) }
    }

    fn note(&self, what: u8) {
        let before = self.ledger.values[self.id].fetch_or(what, SeqCst);
        assert_eq!(before & what, 0, "value {}: {what} twice, after {before}", self.id);
        assert_eq!(before & DROPPED, 0, "value {}: {what} after its drop", self.id);
    }
}

impl Drop for Value {
    fn drop(&mut self) {
        self.note(DROPPED);
    }
}

/// What is known of one channel.
struct Channel {
    ends: (Sender<Value>, Receiver<Value>),
    books: Arc<Books>,
}

#[derive(Default)]
struct Books {
    sent: AtomicUsize,
    received: AtomicUsize,
    /// Somebody has received until the end, so nothing can be left.
    drained: AtomicBool,
}

/// Both sides of a round's channels, by number. A party gets clones of what it may use.
struct Round {
    ledger: Arc<Ledger>,
    books: Vec<Arc<Books>>,
}

impl Round {
    fn send(&self, random: &mut Random, at: usize, tx: &Sender<Value>) -> bool {
        let value = Value::new(&self.ledger, at);
        let id = value.id;
        let returned = if random.one_in(3) {
            match tx.try_send(value) {
                Ok(()) => None,
                Err(TrySendError::Full(value)) => Some((value, true)),
                Err(TrySendError::Disconnected(value)) => Some((value, false)),
            }
        } else {
            tx.send(value).err().map(|error| (error.into_inner(), false))
        };
        match returned {
            None => {
                self.ledger.values[id].fetch_or(SENT, SeqCst);
                self.books[at].sent.fetch_add(1, SeqCst);
                true
            }
            Some((value, more)) => {
                assert_eq!(value.id, id);
                value.note(RETURNED);
                more
            }
        }
    }

    fn take(&self, at: usize, value: Value) {
        assert_eq!(value.channel, at);
        value.note(RECEIVED);
        self.books[at].received.fetch_add(1, SeqCst);
    }

    /// Receives once; false at the end of the channel.
    fn recv(&self, random: &mut Random, at: usize, rx: &Receiver<Value>, may_block: bool) -> bool {
        let received = if may_block && !random.one_in(3) {
            rx.recv().map_err(TryRecvError::from)
        } else {
            rx.try_recv()
        };
        match received {
            Ok(value) => self.take(at, value),
            Err(TryRecvError::Empty) => {}
            Err(TryRecvError::Disconnected) => {
                self.books[at].drained.store(true, SeqCst);
                return false;
            }
        }
        true
    }

    /// Sends on channels of its choice, which it lets go of one by one.
    fn sender(&self, random: &mut Random, mut ends: Vec<(usize, Sender<Value>)>) {
        for _ in 0..random.below(60) {
            if ends.is_empty() {
                return;
            }
            let which = random.below(ends.len());
            let (at, tx) = &ends[which];
            let go_on = self.send(random, *at, tx);
            if !go_on || random.one_in(50) {
                drop(ends.swap_remove(which));
            } else if random.one_in(20) {
                let again = (ends[which].0, ends[which].1.clone());
                ends.push(again);
            }
            dawdle(random);
        }
    }

    /// Looks into several channels without waiting, and in the end waits at one.
    fn receiver(&self, random: &mut Random, mut ends: Vec<(usize, Receiver<Value>)>) {
        let patient = random.one_in(2);
        let mut turns = random.below(60);
        while !ends.is_empty() && (turns > 0 || patient) {
            turns = turns.saturating_sub(1);
            let which = random.below(ends.len());
            // Who holds several ends and waits at one of them keeps the senders of the others waiting,
            // among whom may be the one it waits for.
            let may_block = ends.len() == 1;
            let (at, rx) = &ends[which];
            let go_on = self.recv(random, *at, rx, may_block);
            if !go_on || (ends.len() > 1 && turns == 0) || (!patient && random.one_in(50)) {
                drop(ends.swap_remove(which));
            }
            dawdle(random);
        }
    }

    /// Hands on what it gets, towards channels of higher numbers: so that nobody waits in a circle.
    fn relay(
        &self,
        random: &mut Random,
        (from, rx): (usize, Receiver<Value>),
        (to, tx): (usize, Sender<Value>),
    ) {
        assert!(from < to);
        loop {
            match rx.recv() {
                Ok(value) => self.take(from, value),
                Err(_) => {
                    self.books[from].drained.store(true, SeqCst);
                    return;
                }
            }
            if !self.send(random, to, &tx) {
                return;
            }
            dawdle(random);
        }
    }
}

fn play_channels(random: &mut Random) {
    let count = 1 + random.below(4);
    let channels: Vec<Channel> = (0..count)
        .map(|_| {
            let ends = match random.below(5) {
                4 => unbounded(),
                cap => bounded([0, 0, 1, 2][cap]),
            };
            Channel { ends, books: Arc::default() }
        })
        .collect();
    let round = Arc::new(Round {
        ledger: Arc::new(Ledger {
            values: (0..4096).map(|_| AtomicU8::new(0)).collect(),
            next: AtomicUsize::new(0),
        }),
        books: channels.iter().map(|channel| Arc::clone(&channel.books)).collect(),
    });
    let mut parties = Vec::new();
    for _ in 0..2 + random.below(10) {
        let (round, mut own) = (Arc::clone(&round), random.fork());
        let which = random.below(count);
        // Some of the channels, and surely one.
        let some: Vec<_> = (0..count).filter(|at| *at == which || random.one_in(3)).collect();
        let ends = |at: usize| (channels[at].ends.0.clone(), channels[at].ends.1.clone());
        let party = match random.below(5) {
            0 | 1 => {
                let ends: Vec<_> = some.into_iter().map(|at| (at, ends(at).0)).collect();
                Party::start(random, move || round.sender(&mut own, ends))
            }
            2 if which + 1 < count => {
                let to = which + 1 + random.below(count - which - 1);
                let (from, to) = ((which, ends(which).1), (to, ends(to).0));
                Party::start(random, move || round.relay(&mut own, from, to))
            }
            _ => {
                let ends: Vec<_> = some.into_iter().map(|at| (at, ends(at).1)).collect();
                Party::start(random, move || round.receiver(&mut own, ends))
            }
        };
        parties.push(party);
    }
    // From here on the channels are the parties'.
    drop(channels);
    parties.into_iter().for_each(Party::join);

    for (id, value) in round.ledger.values.iter().enumerate().take(round.ledger.next.load(SeqCst)) {
        let fate = value.load(SeqCst);
        let accounted = [SENT | DROPPED, SENT | RECEIVED | DROPPED, RETURNED | DROPPED];
        assert!(accounted.contains(&fate), "value {id}: {fate}");
    }
    for (at, books) in round.books.iter().enumerate() {
        let (sent, received) = (books.sent.load(SeqCst), books.received.load(SeqCst));
        assert!(received <= sent, "channel {at}: {received} of {sent}");
        if books.drained.load(SeqCst) {
            assert_eq!(received, sent, "channel {at} was received to its end");
        }
    }
}

#[test]
fn every_value_is_received_or_returned_or_dropped_with_its_channel() {
    rounds("every_value_is_received_or_returned_or_dropped_with_its_channel", play_channels);
}

// ---- Trees ----

/// How many nodes the tree below has. They are spawned, scoped, joined, detached and lost in every way.
fn tree(mut random: Random, depth: usize, detached: Sender<usize>) -> usize {
    dawdle(&mut random);
    let children = if depth == 0 { 0 } else { random.below(5) };
    let child = |random: &mut Random| {
        let (own, detached) = (random.fork(), detached.clone());
        move || tree(own, depth - 1, detached)
    };
    if random.one_in(3) {
        // Borrows; joins some, and leaves the others to the scope.
        let left = AtomicUsize::new(0);
        let joined: usize = strands::scope(|s| {
            let mut handles = Vec::new();
            for _ in 0..children {
                let child = child(&mut random);
                if random.one_in(2) {
                    handles.push(s.go(child));
                } else {
                    let left = &left;
                    s.go(move || left.fetch_add(child(), SeqCst));
                }
            }
            handles.into_iter().map(|handle| handle.join().unwrap()).sum()
        });
        return 1 + joined + left.load(SeqCst);
    }
    let mut handles = Vec::new();
    let mut panics = Vec::new();
    for at in 0..children {
        let child = child(&mut random);
        match random.below(6) {
            0 => {
                let report = detached.clone();
                drop(strands::go(move || report.send(child()).unwrap()));
            }
            1 => panics.push(Party::start(&mut random, move || {
                let count = child();
                std::panic::resume_unwind(Box::new((at, count)));
            })),
            2 if random.one_in(4) => {
                let count = strands::run(child);
                detached.send(count).unwrap();
            }
            _ => handles.push(Party::start(&mut random, child)),
        }
    }
    let panicked: usize = panics
        .into_iter()
        .map(|party: Party<()>| {
            party.outcome().unwrap_err().downcast::<(usize, usize)>().unwrap().1
        })
        .sum();
    1 + panicked + handles.into_iter().map(Party::join).sum::<usize>()
}

fn play_trees(random: &mut Random) {
    // The same tree, counted by one who plays it alone.
    fn nodes(mut random: Random, depth: usize) -> usize {
        dawdle_not(&mut random);
        let children = if depth == 0 { 0 } else { random.below(5) };
        let mut count = 1;
        if random.one_in(3) {
            for _ in 0..children {
                count += nodes(random.fork(), depth - 1);
                random.one_in(2);
            }
            return count;
        }
        for _ in 0..children {
            count += nodes(random.fork(), depth - 1);
            match random.below(6) {
                0 => {}
                1 => _ = random.one_in(4),
                2 if random.one_in(4) => {}
                _ => _ = random.one_in(4),
            }
        }
        count
    }
    /// Takes as many numbers as `dawdle`.
    fn dawdle_not(random: &mut Random) {
        match random.below(12) {
            4..6 => _ = random.below(2000),
            6 => _ = random.below(300),
            7 => _ = random.below(100),
            8 => _ = random.one_in(8),
            _ => {}
        }
    }
    let (report, reports) = unbounded();
    let root = Random(random.0);
    let expected = nodes(Random(root.0), 4);
    let counted = tree(root, 4, report);
    // Ends when the last detached one has ended.
    assert_eq!(counted + reports.iter().sum::<usize>(), expected);
}

#[test]
fn trees_of_goroutines_come_to_their_ends_and_lose_nothing() {
    rounds("trees_of_goroutines_come_to_their_ends_and_lose_nothing", play_trees);
}

// ---- Parking ----

fn play_parking(random: &mut Random) {
    struct Parked {
        told: AtomicU64,
        thread: thread::Thread,
    }
    let goal = 20 + random.below(200) as u64;
    let (introduce, introductions) = bounded(0);
    let mut parties = Vec::new();
    for _ in 0..1 + random.below(6) {
        let (introduce, mut own) = (introduce.clone(), random.fork());
        parties.push(Party::start(random, move || {
            let me = Arc::new(Parked { told: AtomicU64::new(0), thread: thread::current() });
            introduce.send(Arc::clone(&me)).unwrap();
            drop(introduce);
            // Only an unpark after each change lets the plain parks end.
            while me.told.load(SeqCst) < goal {
                match own.below(8) {
                    0 => thread::park_timeout(Duration::from_micros(own.below(200) as u64)),
                    1 => dawdle(&mut own),
                    2 => {
                        me.thread.unpark();
                        thread::park();
                    }
                    3..6 => {
                        // Time to be unparked before the park; nothing in it takes the token.
                        strands::sleep(Duration::from_micros(own.below(50) as u64));
                        thread::park();
                    }
                    _ => thread::park(),
                }
            }
        }));
    }
    drop(introduce);
    let parked: Vec<_> = introductions.iter().collect();
    let left: Arc<Vec<AtomicU64>> = Arc::new(parked.iter().map(|_| AtomicU64::new(goal)).collect());
    for _ in 0..1 + random.below(4) {
        let (parked, left, mut own) = (parked.clone(), Arc::clone(&left), random.fork());
        parties.push(Party::start(random, move || {
            let mut at = own.below(parked.len());
            let mut done = 0;
            while done < parked.len() {
                if left[at].fetch_update(SeqCst, SeqCst, |left| left.checked_sub(1)).is_ok() {
                    parked[at].told.fetch_add(1, SeqCst);
                    parked[at].thread.unpark();
                    done = 0;
                } else {
                    done += 1;
                }
                at = (at + 1) % parked.len();
                dawdle(&mut own);
            }
        }));
    }
    parties.into_iter().for_each(Party::join);
}

#[test]
fn no_unpark_is_lost_in_a_storm() {
    rounds("no_unpark_is_lost_in_a_storm", play_parking);
}

// ---- Sleeping and yielding ----

fn play_sleeping(random: &mut Random) {
    let (tx, rx) = bounded(random.below(3));
    let sleepers: Vec<_> = (0..20 + random.below(60))
        .map(|_| {
            let (tx, mut own) = (tx.clone(), random.fork());
            Party::start(random, move || {
                for _ in 0..own.below(8) {
                    let time = Duration::from_micros(own.below(2000) as u64);
                    let begun = Instant::now();
                    strands::sleep(time);
                    assert!(begun.elapsed() >= time, "woken early");
                    dawdle(&mut own);
                    tx.send(()).unwrap();
                }
            })
        })
        .collect();
    drop(tx);
    let busy = Arc::new(AtomicBool::new(true));
    let neighbours: Vec<_> = (0..random.below(4))
        .map(|_| {
            let busy = Arc::clone(&busy);
            strands::go(move || {
                while busy.load(SeqCst) {
                    strands::yield_now();
                }
            })
        })
        .collect();
    // Whatever the neighbours do, the sleepers get on.
    let woken = rx.iter().count();
    sleepers.into_iter().for_each(Party::join);
    busy.store(false, SeqCst);
    neighbours.into_iter().for_each(|neighbour| neighbour.join().unwrap());
    assert!(woken <= 80 * 8);
}

#[test]
fn sleepers_among_busy_neighbours_wake_and_not_early() {
    rounds("sleepers_among_busy_neighbours_wake_and_not_early", play_sleeping);
}

// ---- All at once ----

fn play_all(random: &mut Random) {
    let games: [fn(&mut Random); 4] = [play_channels, play_trees, play_parking, play_sleeping];
    let players: Vec<_> = (0..2 + random.below(4))
        .map(|_| {
            let (game, mut own) = (games[random.below(games.len())], random.fork());
            Party::start(random, move || game(&mut own))
        })
        .collect();
    players.into_iter().for_each(Party::join);
}

#[test]
fn all_of_it_at_once() {
    rounds("all_of_it_at_once", play_all);
}
