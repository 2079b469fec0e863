//! Channels give back all memory that they take, whatever was done with them: the heap is counted.
#![cfg(not(loom))]

mod parties;

use parties::{Bell, CAPACITIES, KINDS, block_on, channel, poll, start};
use std::alloc::{GlobalAlloc, Layout, System};
use std::cell::Cell;
use std::panic::{AssertUnwindSafe, catch_unwind, resume_unwind};
use std::sync::Mutex;
use std::sync::atomic::{AtomicIsize, Ordering::SeqCst};
use std::time::Duration;
use strands::channel::{Receiver, Select, Sender, after, dropping, never, sliding, tick};
use strands::select;

/// The system's, with accounts: for the process, and for each thread.
struct Counting;

static ALL: AtomicIsize = AtomicIsize::new(0);

thread_local! {
    static OURS: Cell<isize> = const { Cell::new(0) };
}

fn count(bytes: isize) {
    ALL.fetch_add(bytes, SeqCst);
    let _ = OURS.try_with(|ours| ours.set(ours.get() + bytes));
}

// SAFETY: the system's allocator does it all.
unsafe impl GlobalAlloc for Counting {
    unsafe fn alloc(&self, layout: Layout) -> *mut u8 {
        count(layout.size() as isize);
        // SAFETY: the caller's promise.
        unsafe { System.alloc(layout) }
    }

    unsafe fn dealloc(&self, block: *mut u8, layout: Layout) {
        count(-(layout.size() as isize));
        // SAFETY: the caller's promise.
        unsafe { System.dealloc(block, layout) }
    }
}

#[global_allocator]
static COUNTING: Counting = Counting;

/// The tests share the heap: one at a time.
static ONE_AT_A_TIME: Mutex<()> = Mutex::new(());

type Message = Box<[usize; 100]>;

fn message() -> Message {
    Box::new([7; 100])
}

fn channels() -> impl Iterator<Item = (Sender<Message>, Receiver<Message>)> {
    let kinds = CAPACITIES.into_iter().map(channel);
    kinds.chain([sliding(0), sliding(2), dropping(0), dropping(2)])
}

/// Everything that one thread alone can do with a channel without being stuck.
fn use_all(tx: &Sender<Message>, rx: &Receiver<Message>) {
    let bell = Bell::new();
    for n in 0..10 {
        let _ = tx.try_send(message());
        let _ = tx.send_timeout(message(), Duration::ZERO);
        let _ = rx.recv_timeout(Duration::ZERO);
        select! { send(tx, message()) -> sent => drop(sent), default => {} }
        select! { recv(rx) -> got => drop(got), recv(never::<()>()) -> _ => {}, default => {} }
        // Futures: not polled, pending, handed a message, and dropped.
        drop((tx.send_async(message()), rx.recv_async()));
        let mut send = Box::pin(tx.send_async(message()));
        let mut receive = Box::pin(rx.recv_async());
        let _ = (poll(send.as_mut(), &bell), poll(receive.as_mut(), &bell));
        let _ = tx.try_send(message());
        drop((send, receive));
        // Operations that are not completed, and messages that are not made.
        let mut select = Select::new();
        select.recv(rx);
        select.send(tx);
        if n == 0 {
            let operation = select.try_select();
            let panics = operation.is_ok();
            assert_eq!(catch_unwind(AssertUnwindSafe(|| drop(operation))).is_err(), panics);
        }
        let _ = catch_unwind(AssertUnwindSafe(|| {
            select! { send(tx, broken()) -> sent => drop(sent), default => {} }
        }));
    }
    let mut many = Select::new();
    (0..50).for_each(|_| _ = many.recv(rx));
    let _ = many.clone().try_ready();
    (0..300).for_each(|_| _ = tx.try_send(message()));
    drop((after(Duration::ZERO).recv(), tick(Duration::from_secs(60))));
}

/// A message that could not be made.
fn broken() -> Message {
    resume_unwind(Box::new("broken"))
}

#[test]
fn one_thread_gets_back_what_its_channels_took() {
    let _alone = ONE_AT_A_TIME.lock();
    let play = |ends_closed: bool| {
        for (tx, rx) in channels() {
            use_all(&tx, &rx);
            if ends_closed {
                tx.close();
                use_all(&tx, &rx);
            }
        }
    };
    // The harness keeps what panics print.
    let hook = std::panic::take_hook();
    std::panic::set_hook(Box::new(|_| {}));
    // What the runtime and the thread set up once.
    play(true);
    let before = OURS.get();
    (0..10).for_each(|n| play(n % 2 == 0));
    let grown = OURS.get() - before;
    std::panic::set_hook(hook);
    assert_eq!(grown, 0, "bytes");
}

#[test]
fn buffers_that_were_full_are_given_back_with_the_channel() {
    let _alone = ONE_AT_A_TIME.lock();
    // What the runtime and the thread set up once.
    for (tx, _rx) in channels() {
        (0..10_000).for_each(|_| _ = tx.try_send(message()));
    }
    let before = OURS.get();
    for n in 0..channels().count() {
        let (tx, rx) = channels().nth(n).expect("there are so many");
        (0..10_000).for_each(|_| _ = tx.try_send(message()));
        drop(rx);
        assert!(OURS.get() - before < 20_000, "what was left goes with the last receiver");
        drop(tx);
        assert_eq!(OURS.get() - before, 0, "bytes");
    }
}

#[test]
fn an_unbounded_channel_that_was_emptied_holds_little() {
    let _alone = ONE_AT_A_TIME.lock();
    let (tx, rx) = channel(None);
    let before = OURS.get();
    (0..100_000).for_each(|_| tx.send(message()).unwrap());
    assert_eq!(rx.try_iter().count(), 100_000);
    assert!(OURS.get() - before < 10_000, "{} bytes", OURS.get() - before);
}

/// Everybody at once; what the runtime keeps for later does not grow with the rounds.
#[test]
fn all_worlds_together_give_back_what_their_channels_took() {
    const MESSAGES: usize = 200;
    let _alone = ONE_AT_A_TIME.lock();
    let play = || {
        for (tx, rx) in channels() {
            let parties: Vec<_> = (0..4)
                .map(|n| {
                    let (tx, rx) = (tx.clone(), rx.clone());
                    start(KINDS[n % 2], move || {
                        for _ in 0..MESSAGES {
                            select! {
                                send(tx, message()) -> sent => sent.unwrap(),
                                recv(rx) -> got => drop(got),
                                default(Duration::from_micros(50)) => {}
                            }
                        }
                    })
                })
                .collect();
            let sending = std::thread::spawn(move || {
                (0..MESSAGES).for_each(|_| _ = block_on(tx.send_async(message())));
            });
            // Until all have gone who send.
            while block_on(rx.recv_async()).is_ok() {}
            drop(rx);
            parties.into_iter().for_each(|party| drop(party.outcome()));
            sending.join().unwrap();
        }
    };
    (0..3).for_each(|_| play());
    let before = ALL.load(SeqCst);
    (0..10).for_each(|_| play());
    // Each round moves megabytes. Ended goroutines and threads may still be on their way out.
    let grown = ALL.load(SeqCst) - before;
    assert!(grown < 100_000, "{grown} bytes");
}

/// A select in a loop, with another party that sends and one arm that is never ready.
#[test]
fn a_select_that_waits_in_a_loop_gives_back_what_it_took() {
    const TURNS: usize = 2_000;
    let _alone = ONE_AT_A_TIME.lock();
    let play = || {
        let mut most = 0;
        for cap in CAPACITIES {
            for kind in KINDS {
                let (tx, rx) = channel(cap);
                let sending = start(kind, move || (0..TURNS).for_each(|n| tx.send(n).unwrap()));
                let (_kept, dummy) = channel::<()>(cap);
                // On this thread, whose account is exact. What it takes out of a buffer another has brought there.
                let before = OURS.get();
                let grown = (0..TURNS).map(|n| {
                    select! {
                        recv(rx) -> got => assert_eq!(got, Ok(n)),
                        recv(dummy) -> _ => unreachable!(),
                    }
                    OURS.get() - before
                });
                most = grown.max().unwrap_or(0).max(most);
                sending.join();
            }
        }
        most
    };
    // What the runtime and the threads set up once.
    (0..2).for_each(|_| _ = play());
    let before = ALL.load(SeqCst);
    assert_eq!((0..5).map(|_| play()).max(), Some(0), "bytes at one time");
    let grown = ALL.load(SeqCst) - before;
    assert!(grown < 100_000, "{grown} bytes");
}
