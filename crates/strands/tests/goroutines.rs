//! Goroutines as a program uses them: spawning, joining, panics, parking, sleeping.

use std::time::Duration;
use strands::channel::{bounded, unbounded};

#[test]
fn smoke() {
    assert_eq!(strands::go(|| 42).join().unwrap(), 42);
    let (tx, rx) = bounded(0);
    let h = strands::go(move || rx.iter().sum::<u64>());
    for i in 0..1000 {
        tx.send(i).unwrap();
    }
    drop(tx);
    assert_eq!(h.join().unwrap(), 499500);
    strands::run(|| {
        let hs: Vec<_> = (0..10_000).map(|i| strands::go(move || i)).collect();
        let s: usize = hs.into_iter().map(|h| h.join().unwrap()).sum();
        assert_eq!(s, 49995000);
        strands::sleep(Duration::from_millis(5));
        strands::yield_now();
    });
    let (tx, rx) = unbounded();
    strands::scope(|s| {
        for i in 0..10 {
            let tx = tx.clone();
            s.go(move || tx.send(i).unwrap());
        }
    });
    drop(tx);
    assert_eq!(rx.iter().sum::<i32>(), 45);
    assert_eq!(strands::run(|| strands::blocking(|| 7)), 7);
}
