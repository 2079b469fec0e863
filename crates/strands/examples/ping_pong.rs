//! Two goroutines and a ball, over two rendezvous channels.
//!
//! ```text
//! ping ──▶ pong
//!      ◀──
//! ```
//!
//! A rendezvous channel holds nothing: the sender hands the ball over in the instant in which the
//! receiver takes it. So there is never more than one side that can move, and a round trip is the
//! time of two switches, which makes this the smallest benchmark of a scheduler. The ball counts
//! its round trips itself; it can, since whoever has it owns it.
//!
//! ```text
//! cargo run --release --example ping_pong -- 1000000
//! ```

use std::time::Instant;

use strands::channel;

#[path = "common/args.rs"]
mod args;

struct Ball {
    round_trips: u64,
}

#[strands::main]
fn main() {
    let [trips] = args::numbers("ping_pong [ROUND_TRIPS]", [(100_000, 0..=u64::MAX)]);
    let started = Instant::now();

    let (ping, at_pong) = channel::bounded(0);
    let (pong, at_ping) = channel::bounded(0);
    let player = strands::go(move || {
        for ball in at_pong {
            pong.send(ball).expect("ping waits for the ball");
        }
    });

    let mut ball = Ball { round_trips: 0 };
    while ball.round_trips < trips {
        ping.send(ball).expect("pong plays on");
        ball = at_ping.recv().expect("pong returns the ball");
        ball.round_trips += 1;
    }
    drop(ping);
    player.join().expect("pong does not panic");

    println!("{}", ball.round_trips);
    let elapsed = started.elapsed();
    let each = elapsed.as_nanos() / u128::from(trips.max(1));
    eprintln!("{elapsed:.2?}, {each} ns for a round trip");
}
