//! Every message is accounted for exactly once, whatever its senders and receivers do: goroutines, threads and
//! futures send, receive, try, give up, close, break promises, drop futures and selected operations, as chance
//! has it. In the end each message was received, or returned, or dropped with what held it; once.
//!
//! A lost wake-up would leave somebody waiting; and that the runtime reports as a deadlock.
#![cfg(not(loom))]

mod parties;
mod process;

use parties::{Bell, Handle, KINDS, Random, block_on, poll, seed, start};
use std::cell::Cell;
use std::panic::{AssertUnwindSafe, catch_unwind, resume_unwind};
use std::pin::pin;
use std::sync::Arc;
use std::sync::atomic::{AtomicU8, AtomicUsize, Ordering::SeqCst};
use std::task::Poll;
use std::time::{Duration, Instant};
use strands::channel::{
    Receiver, RecvTimeoutError, Select, Sender, TryRecvError, bounded, dropping, never, sliding,
    unbounded,
};
use strands::{select, select_biased};

/// What has become of one message.
#[derive(Default)]
struct Fate {
    made: AtomicU8,
    /// The sender was told that it is sent.
    sent: AtomicU8,
    /// The sender has it back, or has broken its promise, or has dropped it with a future.
    kept: AtomicU8,
    received: AtomicU8,
    dropped: AtomicU8,
}

struct Ledger {
    fates: Vec<Fate>,
    next: AtomicUsize,
}

impl Ledger {
    fn new(messages: usize) -> Arc<Ledger> {
        let fates = (0..messages).map(|_| Fate::default()).collect();
        Arc::new(Ledger { fates, next: AtomicUsize::new(0) })
    }

    fn fate(&self, id: usize) -> &Fate {
        &self.fates[id]
    }
}

/// A message: counts what happens to it, is not `Sync`, uses a channel when it is dropped, and has a body that
/// shows whether it was copied whole.
struct Message {
    id: usize,
    sender: usize,
    body: [Cell<usize>; 32],
    ledger: Arc<Ledger>,
    obituaries: Sender<usize>,
}

impl Message {
    fn receive(self) -> (usize, usize) {
        assert!(self.body.iter().all(|word| word.get() == self.id), "torn");
        self.ledger.fate(self.id).received.fetch_add(1, SeqCst);
        (self.sender, self.id)
    }
}

impl Drop for Message {
    fn drop(&mut self) {
        self.ledger.fate(self.id).dropped.fetch_add(1, SeqCst);
        self.obituaries.send(self.id).unwrap();
    }
}

/// Who makes messages.
struct Author {
    number: usize,
    ledger: Arc<Ledger>,
    obituaries: Sender<usize>,
}

impl Author {
    fn write(&self) -> Option<Message> {
        let id = self.ledger.next.fetch_add(1, SeqCst);
        self.ledger.fates.get(id)?.made.store(1, SeqCst);
        let (ledger, obituaries) = (Arc::clone(&self.ledger), self.obituaries.clone());
        let body = std::array::from_fn(|_| Cell::new(id));
        Some(Message { id, sender: self.number, body, ledger, obituaries })
    }
}

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Shape {
    Bounded(usize),
    Unbounded,
    Sliding(usize),
    Dropping(usize),
}

const SHAPES: [Shape; 8] = [
    Shape::Bounded(0),
    Shape::Bounded(1),
    Shape::Bounded(3),
    Shape::Unbounded,
    Shape::Sliding(0),
    Shape::Sliding(2),
    Shape::Dropping(0),
    Shape::Dropping(2),
];

impl Shape {
    fn channel<T>(self) -> (Sender<T>, Receiver<T>) {
        match self {
            Shape::Bounded(cap) => bounded(cap),
            Shape::Unbounded => unbounded(),
            Shape::Sliding(cap) => sliding(cap),
            Shape::Dropping(cap) => dropping(cap),
        }
    }

    /// Whether what was sent is received, if somebody receives to the end.
    fn keeps_all(self) -> bool {
        matches!(self, Shape::Bounded(_) | Shape::Unbounded)
    }
}

/// Sends messages until there are none left or the channel is closed.
fn sender(author: &Author, tx: &Sender<Message>, mut random: Random) {
    // One who would be in other lines as well.
    let (_elsewhere, nobody) = bounded::<()>(0);
    while let Some(message) = author.write() {
        let id = message.id;
        let patience = Duration::from_micros(random.below(100) as u64);
        let (sent, goes_on) = match random.below(11) {
            0 | 1 => told(tx.send(message)),
            2 => match tx.try_send(message) {
                Err(error) => (false, error.is_full()),
                Ok(()) => (true, true),
            },
            3 => match tx.send_timeout(message, patience) {
                Err(error) => (false, error.is_timeout()),
                Ok(()) => (true, true),
            },
            4 => select! {
                recv(nobody) -> _ => unreachable!("nobody sends"),
                send(tx, message) -> sent => told(sent),
            },
            5 => select_biased! {
                send(tx, message) if id % 2 == 0 -> sent => told(sent),
                recv(nobody) -> _ => unreachable!("nobody sends"),
                default(patience) => (false, true),
            },
            6 => {
                let mut select = Select::new();
                select.recv(&nobody);
                select.send(tx);
                told(select.select().send(tx, message))
            }
            7 => told(block_on(tx.send_async(message))),
            8 => {
                // Polled once, or not at all.
                let mut future = Box::pin(tx.send_async(message));
                let polled = match random.below(3) {
                    0 => Poll::Pending,
                    _ => poll(future.as_mut(), &Bell::new()),
                };
                strands::yield_now();
                drop(future);
                match polled {
                    Poll::Ready(sent) => told(sent),
                    // Perhaps it was taken meanwhile: then it counts as sent by being received.
                    Poll::Pending => continue,
                }
            }
            9 => {
                let broken = catch_unwind(AssertUnwindSafe(|| {
                    select! {
                        recv(nobody) -> _ => unreachable!("nobody sends"),
                        send(tx, {
                            strands::yield_now();
                            broken(message)
                        }) -> _ => unreachable!("there is no message"),
                        default(patience) => {}
                    }
                }));
                (false, broken.is_err() || !tx.is_closed())
            }
            _ => {
                let dropped = catch_unwind(AssertUnwindSafe(|| {
                    let mut select = Select::new();
                    select.send(tx);
                    drop(select.select_timeout(patience));
                }));
                drop(message);
                (false, dropped.is_err() || !tx.is_closed())
            }
        };
        let fate = author.ledger.fate(id);
        if sent { &fate.sent } else { &fate.kept }.store(1, SeqCst);
        if !goes_on {
            return;
        }
    }
}

/// A message that could not be made.
fn broken(message: Message) -> Message {
    drop(message);
    // As a panic, but without the noise.
    resume_unwind(Box::new("broken"))
}

fn told<T, E>(sent: Result<T, E>) -> (bool, bool) {
    (sent.is_ok(), sent.is_ok())
}

/// Receives until the channel is at its end; returns what it has got. If `cancels`, some of it is received and
/// given back.
fn receiver(rx: &Receiver<Message>, mut random: Random, cancels: bool) -> Vec<(usize, usize)> {
    let nobody = never::<()>();
    let mut all = Vec::new();
    loop {
        let patience = Duration::from_micros(random.below(100) as u64);
        let received = match random.below(if cancels { 11 } else { 8 }) {
            0 | 1 => rx.recv().map_err(RecvTimeoutError::from),
            2 => rx.try_recv().map_err(|error| match error {
                TryRecvError::Empty => RecvTimeoutError::Timeout,
                TryRecvError::Disconnected => RecvTimeoutError::Disconnected,
            }),
            3 => rx.recv_timeout(patience),
            4 => select! {
                recv(nobody) -> _ => unreachable!("never"),
                recv(rx) -> message => message.map_err(Into::into),
            },
            5 => select! {
                recv(rx) if all.len() % 2 == 0 -> message => message.map_err(Into::into),
                recv(nobody) -> _ => unreachable!("never"),
                recv(rx) -> message => message.map_err(Into::into),
                default(patience) => Err(RecvTimeoutError::Timeout),
            },
            6 => {
                let mut select = Select::new();
                select.recv(rx);
                select.recv(&nobody);
                select.select().recv(rx).map_err(Into::into)
            }
            7 => block_on(rx.recv_async()).map_err(Into::into),
            8 => {
                let bell = Bell::new();
                let mut future = pin!(rx.recv_async());
                match poll(future.as_mut(), &bell) {
                    Poll::Ready(received) => received.map_err(Into::into),
                    Poll::Pending => {
                        strands::yield_now();
                        Err(RecvTimeoutError::Timeout)
                    }
                }
            }
            9 => {
                let mut select = Select::new();
                select.recv(rx);
                let _ = select.ready_timeout(patience);
                Err(RecvTimeoutError::Timeout)
            }
            _ => {
                let _ = catch_unwind(AssertUnwindSafe(|| {
                    let mut select = Select::new();
                    select.recv(rx);
                    drop(select.select_timeout(patience));
                }));
                Err(RecvTimeoutError::Timeout)
            }
        };
        match received {
            Ok(message) => all.push(message.receive()),
            Err(RecvTimeoutError::Timeout) => {}
            Err(RecvTimeoutError::Disconnected) => return all,
        }
    }
}

/// One history, and whether it adds up.
fn round(shape: Shape, random: &mut Random) {
    const MESSAGES: usize = 300;
    let ledger = Ledger::new(MESSAGES);
    let (obituaries, dead) = unbounded();
    let (tx, rx) = shape.channel();
    let mut next = || Random::new(random.below(usize::MAX) as u64);
    let mut chance = next();
    let cancels = chance.below(2) == 0;
    let (senders, receivers) = (1 + chance.below(4), 1 + chance.below(4));
    let sending: Vec<Handle<()>> = (0..senders)
        .map(|number| {
            let (ledger, obituaries, tx) = (Arc::clone(&ledger), obituaries.clone(), tx.clone());
            let author = Author { number, ledger, obituaries };
            let random = next();
            start(KINDS[chance.below(2)], move || sender(&author, &tx, random))
        })
        .collect();
    let receiving: Vec<_> = (0..receivers)
        .map(|_| {
            let (rx, random) = (rx.clone(), next());
            start(KINDS[chance.below(2)], move || receiver(&rx, random, cancels))
        })
        .collect();
    let closing = (chance.below(3) == 0).then(|| {
        let (tx, rx) = (tx.clone(), rx.clone());
        let pause = Duration::from_micros(chance.below(1000) as u64);
        start(KINDS[chance.below(2)], move || {
            strands::sleep(pause);
            if pause.as_micros().is_multiple_of(2) { tx.close() } else { rx.close() }
        })
    });
    drop(tx);
    closing.into_iter().for_each(Handle::join);
    sending.into_iter().for_each(Handle::join);
    for received in receiving.into_iter().map(Handle::join) {
        if !cancels {
            for number in 0..senders {
                let of_one = received.iter().filter(|(sender, _)| *sender == number);
                assert!(of_one.is_sorted(), "{shape:?}: out of order: {received:?}");
            }
        }
    }
    // What others have given back.
    while let Ok(message) = rx.recv() {
        assert!(cancels, "{shape:?}: received to the end, and there was one left");
        message.receive();
    }
    drop((rx, obituaries));
    let made = ledger.next.load(SeqCst).min(MESSAGES);
    assert_eq!(dead.iter().count(), made, "{shape:?}");
    for (id, fate) in ledger.fates.iter().enumerate().take(made) {
        let [made, sent, kept, received, dropped] =
            [&fate.made, &fate.sent, &fate.kept, &fate.received, &fate.dropped]
                .map(|count| count.load(SeqCst));
        let history = format!("{shape:?}: {id}: sent {sent} kept {kept} received {received}");
        assert_eq!((made, dropped), (1, 1), "{history} dropped {dropped}");
        assert!(received <= 1, "{history}");
        assert!(kept == 0 || received == 0, "{history}");
        if shape.keeps_all() {
            assert!(sent == 0 || received == 1, "{history}");
        }
    }
}

#[test]
fn every_message_is_accounted_for_once() {
    process::on_processors(&[1, 2, 4], || {
        // Operations that are dropped panic by the dozen.
        std::panic::set_hook(Box::new(|info| {
            let message = info.payload_as_str().unwrap_or_default();
            if !message.starts_with("dropped `SelectedOperation`") {
                eprintln!("{info}");
            }
        }));
        let mut random = Random::new(seed());
        let begun = Instant::now();
        let mut rounds = 0;
        while begun.elapsed() < Duration::from_millis(1500) {
            for shape in SHAPES {
                round(shape, &mut random);
            }
            rounds += 1;
        }
        println!("{rounds} rounds");
    });
}

/// Messages without a size have no identity, but they are as many as were sent.
#[test]
fn messages_without_a_size_are_neither_lost_nor_doubled() {
    static DROPS: AtomicUsize = AtomicUsize::new(0);
    struct Nothing;
    impl Drop for Nothing {
        fn drop(&mut self) {
            DROPS.fetch_add(1, SeqCst);
        }
    }
    for shape in SHAPES {
        DROPS.store(0, SeqCst);
        let (tx, rx) = shape.channel();
        let senders: Vec<_> = (0..4)
            .map(|at| {
                let tx = tx.clone();
                start(KINDS[at % 2], move || {
                    for n in 0..250 {
                        let sent = match n % 3 {
                            0 => tx.send(Nothing),
                            1 => select! { send(tx, Nothing) -> sent => sent },
                            _ => block_on(tx.send_async(Nothing)),
                        };
                        assert!(sent.is_ok());
                    }
                })
            })
            .collect();
        drop(tx);
        let count = rx.iter().count();
        senders.into_iter().for_each(Handle::join);
        assert_eq!(DROPS.load(SeqCst), 1000, "{shape:?}");
        assert!(count == 1000 || !shape.keeps_all() && count < 1000, "{shape:?}: {count}");
    }
}

/// A channel is used by one party many times in a row, and then by others: more often than it takes for whatever a channel
/// keeps for its habitual user, or less often, by parties that come and go. Once by each kind alone, too.
#[test]
fn parties_that_come_and_go_after_long_streaks_and_short_ones_lose_nothing() {
    const STREAKS: [usize; 5] = [1, 50, 700, 3000, 9000];
    const ROUNDS: usize = 10;
    process::on_processors(&[1, 2], || {
        for kinds in [KINDS, [KINDS[0]; 2], [KINDS[1]; 2]] {
            let (tx, rx) = unbounded();
            let seen = Arc::new(AtomicUsize::new(0));
            let mut sent = 0;
            for _ in 0..ROUNDS {
                let parties: Vec<_> = STREAKS
                    .iter()
                    .zip(kinds.iter().cycle())
                    .map(|(&streak, &kind)| {
                        let (tx, rx, seen, first) = (tx.clone(), rx.clone(), seen.clone(), sent);
                        sent += streak;
                        start(kind, move || {
                            (first..first + streak).for_each(|n| tx.send(n).unwrap());
                            let some = rx.try_iter().take(streak / 2 + 1);
                            some.for_each(|n| _ = seen.fetch_add(n + 1, SeqCst));
                        })
                    })
                    .collect();
                parties.into_iter().for_each(Handle::join);
            }
            drop(tx);
            rx.iter().for_each(|n| _ = seen.fetch_add(n + 1, SeqCst));
            assert_eq!(seen.load(SeqCst), sent * (sent + 1) / 2);
        }
    });
}
