//! What passing messages costs.

use std::time::Instant;

use super::{Channels, Runtime};
use crate::measure::{Metric, Pace};
use crate::workload::{Sizes, nth_prime};

pub(super) const CAPACITY: usize = 128;
const SIDES: u64 = 4;

pub(super) fn ping_pong<R: Runtime, C: Channels>(sizes: &Sizes) -> Vec<Metric> {
    let (ping, mut pinged) = C::channel(0);
    let (pong, mut ponged) = C::channel(0);
    let echo = R::go(move || {
        let mut count = 0;
        while let Some(value) = C::recv(&mut pinged) {
            assert!(C::send(&pong, value + 1));
            count += 1;
        }
        count
    });
    let mut pace = Pace::new(100, sizes.budget);
    let mut total = 0;
    while let Some(n) = pace.next() {
        let start = Instant::now();
        for i in 0..n {
            assert!(C::send(&ping, i));
            let answer = C::recv(&mut ponged);
            assert_eq!(answer, Some(i + 1), "a wrong answer");
        }
        pace.took(start.elapsed());
        total += n;
    }
    drop(ping);
    assert_eq!(R::join(echo), total, "round trips were lost");
    pace.ns_each()
}

pub(super) fn spsc<R: Runtime, C: Channels>(sizes: &Sizes) -> Vec<Metric> {
    let mut pace = Pace::new(1_000, sizes.budget);
    while let Some(n) = pace.next() {
        let (tx, mut rx) = C::channel(CAPACITY);
        let start = Instant::now();
        let producer = R::go(move || {
            for i in 0..n {
                assert!(C::send(&tx, i));
            }
            n
        });
        let consumer = R::go(move || {
            let mut next = 0;
            while let Some(value) = C::recv(&mut rx) {
                assert_eq!(value, next, "lost or out of order");
                next += 1;
            }
            next
        });
        let sent = R::join(producer);
        let received = R::join(consumer);
        pace.took(start.elapsed());
        assert_eq!(received, sent, "messages were lost");
    }
    pace.ns_each()
}

pub(super) fn mpmc<R: Runtime, C: Channels>(sizes: &Sizes) -> Vec<Metric> {
    let mut pace = Pace::new(SIDES * 250, sizes.budget);
    while let Some(n) = pace.next() {
        let share = n / SIDES;
        let (tx, rx) = C::channel(CAPACITY);
        let start = Instant::now();
        let mut producers = Vec::new();
        let mut consumers = Vec::new();
        for side in 0..SIDES {
            let tx = C::another_tx(&tx);
            producers.push(R::go(move || {
                for i in 0..share {
                    assert!(C::send(&tx, side * share + i));
                }
                share
            }));
            let mut rx = C::another_rx(&rx);
            consumers.push(R::go(move || {
                let mut sum = 0;
                while let Some(value) = C::recv(&mut rx) {
                    // One more, so that the sum counts messages too.
                    sum += value + 1;
                }
                sum
            }));
        }
        drop((tx, rx));
        let sent: u64 = producers.into_iter().map(R::join).sum();
        let sum: u64 = consumers.into_iter().map(R::join).sum();
        pace.took(start.elapsed());
        assert_eq!(sent, n);
        assert_eq!(sum, n * (n + 1) / 2, "messages were lost or doubled");
    }
    pace.ns_each()
}

/// The channels stay open until all has arrived, so that no arm is picked for its end.
pub(super) fn select4<R: Runtime, C: Channels>(capacity: usize, sizes: &Sizes) -> Vec<Metric> {
    let mut pace = Pace::new(SIDES * 250, sizes.budget);
    while let Some(n) = pace.next() {
        let share = n / SIDES;
        let pairs: [_; SIDES as usize] = std::array::from_fn(|_| C::channel(capacity));
        let txs = pairs.each_ref().map(|(tx, _)| C::another_tx(tx));
        let mut side = 0;
        let start = Instant::now();
        let mut producers = Vec::new();
        let mut rxs = pairs.map(|(tx, rx)| {
            let first = side * share;
            side += 1;
            producers.push(R::go(move || {
                for i in 0..share {
                    assert!(C::send(&tx, first + i));
                }
                share
            }));
            rx
        });
        // One more, so that the sum counts messages too.
        let consumer = R::go(move || (0..n).map(|_| C::recv_any(&mut rxs) + 1).sum());
        let sent: u64 = producers.into_iter().map(R::join).sum();
        let sum = R::join(consumer);
        pace.took(start.elapsed());
        drop(txs);
        assert_eq!(sent, n);
        assert_eq!(sum, n * (n + 1) / 2, "messages were lost or doubled");
    }
    pace.ns_each()
}

/// This goroutine is one of the ring; the token counts its hops.
pub(super) fn ring<R: Runtime, C: Channels>(sizes: &Sizes) -> Vec<Metric> {
    let (first, mut before) = C::channel(0);
    let mut others = Vec::new();
    for _ in 1..sizes.ring {
        let (tx, rx) = C::channel(0);
        let mut rx_here = std::mem::replace(&mut before, rx);
        others.push(R::go(move || {
            let mut hops = 0;
            while let Some(token) = C::recv(&mut rx_here) {
                hops += 1;
                if !C::send(&tx, token + 1) {
                    break;
                }
            }
            hops
        }));
    }
    let mut pace = Pace::new(sizes.ring, sizes.budget);
    let mut total = 0;
    while let Some(n) = pace.next() {
        let start = Instant::now();
        let mut token = 0;
        for _ in 0..n / sizes.ring {
            assert!(C::send(&first, token + 1));
            token = C::recv(&mut before).expect("the ring is closed");
        }
        pace.took(start.elapsed());
        assert_eq!(token, n, "hops were lost");
        total += n;
    }
    drop(first);
    let hops: u64 = others.into_iter().map(R::join).sum();
    assert_eq!(hops, total / sizes.ring * (sizes.ring - 1));
    pace.ns_each()
}

pub(super) fn sieve<R: Runtime, C: Channels>(sizes: &Sizes) -> Vec<Metric> {
    let expected = nth_prime(sizes.primes);
    let start = Instant::now();
    let (tx, mut numbers) = C::channel(0);
    R::go(move || (2..).find(|&n| !C::send(&tx, n)).unwrap_or(0));
    let mut last = 0;
    for _ in 0..sizes.primes {
        let prime = C::recv(&mut numbers).expect("numbers never end");
        last = prime;
        let (tx, rx) = C::channel(0);
        let mut candidates = std::mem::replace(&mut numbers, rx);
        R::go(move || {
            while let Some(n) = C::recv(&mut candidates) {
                if n % prime != 0 && !C::send(&tx, n) {
                    break;
                }
            }
            0
        });
    }
    let ms = start.elapsed().as_secs_f64() * 1e3;
    assert_eq!(last, expected, "not the prime it should be");
    vec![Metric::new("total", "ms", ms)]
}
