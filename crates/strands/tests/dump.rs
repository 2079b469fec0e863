//! Dumps at any time: who waits for what, since when, and where it was born.

mod dumped;
mod process;

use dumped::{Line, number};
use process::stage;
use std::collections::HashMap;
use std::io::Read;
use std::sync::atomic::{AtomicBool, AtomicU64, Ordering::SeqCst};
use std::sync::{Arc, Mutex};
use std::time::{Duration, Instant};
use strands::channel::bounded;
use strands::{JoinHandle, go, runtime, thread};

/// What the dump says of the goroutine of that number.
fn seen(id: u64) -> Option<Line> {
    Line::all(&runtime::dump()).into_iter().find(|line| line.id == id)
}

/// Waits until that is so of a goroutine, and returns the line.
#[track_caller]
fn until(id: u64, what: impl Fn(&Line) -> bool) -> Line {
    let begun = Instant::now();
    loop {
        if let Some(line) = seen(id).filter(&what) {
            return line;
        }
        assert!(begun.elapsed() < Duration::from_secs(30), "{}", runtime::dump());
        std::thread::sleep(Duration::from_millis(1));
    }
}

/// Waits until that is so.
#[track_caller]
fn until_so(what: impl Fn() -> bool) {
    let begun = Instant::now();
    while !what() {
        assert!(begun.elapsed() < Duration::from_secs(30), "{}", runtime::dump());
    }
}

#[test]
fn a_dump_tells_who_waits_for_what_and_where_it_was_born() {
    let Some(program) = stage(|| {
        let (tx, rx) = bounded::<()>(0);
        let builder = thread::Builder::new().name("with a \"name\"".into());
        let named = builder.spawn(move || rx.recv().unwrap_or_default()).expect("spawned");
        let born = line!() - 1;
        let line = until(number(&named), |line| line.why == "chan receive");
        assert_eq!(line.name.as_deref(), Some(r#"with a \"name\""#));
        assert_eq!(line.birth, format!("{}:{born}", file!()));
        let channel = line.object.expect("a channel");

        let (full, _rx) = bounded::<()>(1);
        full.send(()).expect("there is room");
        let sends = go(move || full.send(()).unwrap_or_default());
        let born = line!() - 1;
        let line = until(number(&sends), |line| line.why == "chan send");
        assert_eq!(line.name, None);
        assert_eq!(line.birth, format!("{}:{born}", file!()));
        assert_ne!(line.object.expect("a channel"), channel, "it is another one");

        let parks = go(thread::park);
        let parks_id = number(&parks);
        until(parks_id, |line| line.why == "park" && line.object.is_none());
        let unpark = parks.thread().clone();
        let joins = go(move || drop(parks.join()));
        until(number(&joins), |line| {
            line.why == "join" && line.object == Some(format!("goroutine {parks_id}"))
        });
        let scopes = go(|| strands::scope(|s| drop(s.go(thread::park))));
        until(number(&scopes), |line| line.why == "scope end");
        let sleeps = go(|| strands::sleep(Duration::from_secs(3600)));
        until(number(&sleeps), |line| line.why == "sleep");
        let (mut reader, writer) = std::io::pipe().expect("a pipe");
        let calls = go(move || drop(strands::blocking(move || reader.read(&mut [0]))));
        until(number(&calls), |line| line.why == "blocking call");

        // Those that end are gone, and the others are as they were.
        drop((tx, writer));
        unpark.unpark();
        for ends in [named, calls, joins] {
            let id = number(&ends);
            ends.join().expect("no panic");
            // The end of a goroutine is known a moment before its last switch.
            until_so(|| seen(id).is_none());
        }
        assert_eq!(seen(parks_id), None);
        assert_eq!(seen(number(&sends)).expect("there").why, "chan send");
        assert_eq!(seen(number(&scopes)).expect("there").why, "scope end");
    }) else {
        return;
    };
    program.run().succeeded();
}

#[test]
fn a_dump_tells_of_threads_that_wait() {
    let Some(program) = stage(|| {
        let (tx, rx) = bounded::<()>(0);
        let builder = std::thread::Builder::new().name("an old thread".into());
        let waits = builder.spawn(move || rx.recv()).expect("spawned");
        let ends = go(|| ());
        ends.join().expect("no panic");
        until_any(|line| {
            line.starts_with("thread \"an old thread\" [chan receive, ")
                && line.contains("]: waiting on channel 0x")
        });
        drop(tx);
        waits.join().expect("no panic").expect_err("nobody sends");
        assert!(!runtime::dump().contains("an old thread"), "{}", runtime::dump());
    }) else {
        return;
    };
    program.run().succeeded();
}

/// Waits until a line of the dump of which this is so, and returns it.
#[track_caller]
fn until_any(what: impl Fn(&str) -> bool) -> String {
    let begun = Instant::now();
    loop {
        let dump = runtime::dump();
        if let Some(line) = dump.lines().find(|line| what(line)) {
            return line.to_owned();
        }
        assert!(begun.elapsed() < Duration::from_secs(30), "{dump}");
        std::thread::sleep(Duration::from_millis(1));
    }
}

/// A goroutine of that name, which is handed a way to park.
fn parks_within(name: &str, body: impl FnOnce(fn()) + Send + 'static) -> JoinHandle<()> {
    let builder = thread::Builder::new().name(name.to_owned());
    builder.spawn(|| body(thread::park)).expect("spawned")
}

/// Of a line whose object ends so.
fn ends(tail: String) -> impl Fn(&Line) -> bool {
    move |line| line.object.as_ref().is_some_and(|object| object.ends_with(&tail))
}

#[test]
fn a_dump_tells_who_holds_the_lock_that_is_waited_for() {
    let Some(program) = stage(|| {
        let lock = Arc::new(strands::sync::Mutex::new(()));
        let holds = |name| {
            let lock = Arc::clone(&lock);
            parks_within(name, move |park| {
                let _guard = lock.lock().expect("not poisoned");
                park();
            })
        };
        let first = holds("first");
        until(number(&first), |line| line.why == "park");
        let second = holds("second");
        let third = holds("third");
        let held_by = |id: u64, name: &str| ends(format!(", held by goroutine {id} \"{name}\""));
        for waits in [&second, &third] {
            until(number(waits), held_by(number(&first), "first"));
        }
        // A plain thread that waits, too.
        let threads = {
            let lock = Arc::clone(&lock);
            let builder = std::thread::Builder::new().name("an old thread".into());
            builder.spawn(move || drop(lock.lock().expect("not poisoned"))).expect("spawned")
        };
        let tail = format!(", held by goroutine {} \"first\"", number(&first));
        until_any(|line| {
            line.starts_with("thread \"an old thread\" [mutex lock, ")
                && line.contains("]: waiting on mutex 0x")
                && line.ends_with(&tail)
        });
        // The lock goes from one to the next, and those who wait on have not been told.
        first.thread().unpark();
        first.join().expect("no panic");
        let parked = |handle| seen(number(handle)).is_some_and(|line| line.why == "park");
        until_so(|| parked(&second) || parked(&third));
        let (next, name, last) =
            if parked(&second) { (second, "second", third) } else { (third, "third", second) };
        until(number(&last), held_by(number(&next), name));
        for handle in [next, last] {
            handle.thread().unpark();
            handle.join().expect("no panic");
        }
        threads.join().expect("no panic");

        // Now the main thread has it, whether it waits or not; then another thread; then nobody with a stack.
        let waits = || {
            let lock = Arc::clone(&lock);
            go(move || drop(lock.lock().expect("not poisoned")))
        };
        let guard = lock.lock().expect("not poisoned");
        let waiting = waits();
        until(number(&waiting), ends(", held by a thread".into()));
        drop(guard);
        waiting.join().expect("no panic");
    }) else {
        return;
    };
    program.run().succeeded();
}

#[test]
fn a_dump_tells_who_writes() {
    let Some(program) = stage(|| {
        let lock = Arc::new(strands::sync::RwLock::new(()));
        let to_hold = Arc::clone(&lock);
        let writes = parks_within("writer", move |park| {
            let _guard = to_hold.write().expect("not poisoned");
            park();
        });
        until(number(&writes), |line| line.why == "park");
        let tail = format!(", whose writer is goroutine {} \"writer\"", number(&writes));
        let (to_read, to_write) = (Arc::clone(&lock), Arc::clone(&lock));
        let reads = go(move || drop(to_read.read().expect("not poisoned")));
        let also_writes = go(move || drop(to_write.write().expect("not poisoned")));
        for (waits, why) in [(&reads, "rwlock read"), (&also_writes, "rwlock write")] {
            let is_told = ends(tail.clone());
            until(number(waits), |line| line.why == why && is_told(line));
        }
        writes.thread().unpark();
        for handle in [writes, reads, also_writes] {
            handle.join().expect("no panic");
        }

        // Readers are not known.
        let guard = lock.read().expect("not poisoned");
        let to_write = Arc::clone(&lock);
        let waits = go(move || drop(to_write.write().expect("not poisoned")));
        let line = until(number(&waits), |line| line.why == "rwlock write");
        let object = line.object.expect("the lock");
        assert!(object.starts_with("rwlock 0x") && !object.contains(','), "{object}");
        drop(guard);
        waits.join().expect("no panic");
    }) else {
        return;
    };
    program.run().succeeded();
}

/// Locks die as soon as nobody waits for them any more, while we look.
#[test]
fn dumps_look_at_no_lock_that_is_gone() {
    let Some(program) = stage(|| {
        let stop = Arc::new(AtomicBool::new(false));
        let churn: Vec<_> = (0..4)
            .map(|_| {
                let stop = Arc::clone(&stop);
                go(move || {
                    while !stop.load(SeqCst) {
                        let lock = Arc::new(strands::sync::Mutex::new(()));
                        let guard = lock.lock().expect("not poisoned");
                        let other = Arc::clone(&lock);
                        let waits = go(move || drop(other.lock().expect("not poisoned")));
                        strands::sleep(Duration::from_micros(20));
                        drop(guard);
                        drop(lock);
                        waits.join().expect("no panic");
                    }
                })
            })
            .collect();
        let begun = Instant::now();
        let mut named = 0;
        while begun.elapsed() < Duration::from_secs(2) || named == 0 {
            assert!(begun.elapsed() < Duration::from_secs(30), "{}", runtime::dump());
            let dump = runtime::dump();
            named += dump.matches(", held by goroutine ").count();
        }
        stop.store(true, SeqCst);
        churn.into_iter().for_each(|handle| handle.join().expect("no panic"));
    }) else {
        return;
    };
    program.clone().processors(1).run().succeeded();
    program.processors(2).run().succeeded();
}

#[test]
fn a_dump_tells_who_runs_and_who_would_like_to() {
    let Some(program) = stage(|| {
        let stop = Arc::new(AtomicBool::new(false));
        let started = Arc::new(AtomicU64::new(0));
        let busy = |yields: bool| {
            let (stop, started) = (Arc::clone(&stop), Arc::clone(&started));
            go(move || {
                started.fetch_add(1, SeqCst);
                while !stop.load(SeqCst) {
                    if yields || started.load(SeqCst) < 3 {
                        strands::yield_now();
                    }
                }
            })
        };
        // At one processor: the three are at home with one worker, and then one of them runs for good.
        let (first, second) = (busy(true), busy(true));
        while started.load(SeqCst) < 2 {
            std::thread::sleep(Duration::from_millis(1));
        }
        let hog = busy(false);
        until(number(&hog), |line| line.why == "running");
        let waits = [&first, &second].map(|handle| until(number(handle), |_| true));
        assert!(waits.iter().all(|line| line.why == "runnable"), "{}", runtime::dump());
        assert!(waits.iter().all(|line| line.age.is_none()), "{}", runtime::dump());
        stop.store(true, SeqCst);
        for handle in [first, second, hog] {
            handle.join().expect("no panic");
        }
    }) else {
        return;
    };
    program.processors(1).run().succeeded();
}

#[test]
fn a_dump_counts_those_that_have_not_started() {
    let Some(program) = stage(|| {
        let stop = Arc::new(AtomicBool::new(false));
        let parent = {
            let stop = Arc::clone(&stop);
            go(move || {
                let children: Vec<_> = (0..5)
                    .map(|_| {
                        let stop = Arc::clone(&stop);
                        go(move || while !stop.load(SeqCst) {})
                    })
                    .collect();
                while !stop.load(SeqCst) {}
                children
            })
        };
        // Whoever starts computes, and loses the only processor to the next.
        until_so(|| {
            ["goroutine", "goroutines"]
                .iter()
                .any(|word| runtime::dump().contains(&format!("{word} not started yet")))
        });
        stop.store(true, SeqCst);
        for child in parent.join().expect("no panic") {
            child.join().expect("no panic");
        }
        assert!(!runtime::dump().contains("not started yet"), "{}", runtime::dump());
    }) else {
        return;
    };
    program.processors(1).run().succeeded();
}

#[test]
fn in_a_dump_waiting_grows_old() {
    let Some(program) = stage(|| {
        let parks = go(thread::park);
        let id = number(&parks);
        let age = || until(id, |line| line.why == "park").age.expect("an age");
        let before = Instant::now();
        let first = age();
        std::thread::sleep(Duration::from_millis(1200));
        let second = age();
        let passed = before.elapsed().as_secs_f64();
        assert!(second - first >= 1.0 && second <= passed + 1.0, "{first} {second} {passed}");
        // It waits for something else: young again.
        parks.thread().unpark();
        parks.join().expect("no panic");
        let sleeps = go(|| {
            strands::sleep(Duration::from_millis(1100));
            thread::park();
        });
        let id = number(&sleeps);
        let before = Instant::now();
        let line = until(id, |line| line.why == "park");
        // The clock for this is a coarse one, but not by seconds. Measured from when it slept.
        let most = (before.elapsed().as_secs_f64() - 1.0).max(0.0) + 0.2;
        assert!(line.age.expect("an age") <= most, "{line:?} {most}");
        sleeps.thread().unpark();
        sleeps.join().expect("no panic");
    }) else {
        return;
    };
    program.run().succeeded();
}

/// Goroutines come and go, in slots that others had before, while we look.
#[test]
fn dumps_are_right_while_goroutines_come_and_go() {
    let Some(program) = stage(|| {
        const NAMED: &str = "named ";
        let stop = Arc::new(AtomicBool::new(false));
        // Who is who, noted by each before it waits.
        let names = Arc::new(Mutex::new(HashMap::new()));
        let churn: Vec<_> = (0..4)
            .map(|mine| {
                let (stop, names) = (Arc::clone(&stop), Arc::clone(&names));
                go(move || {
                    let mut n = mine;
                    while !stop.load(SeqCst) {
                        n += 4;
                        let name = (n % 3 != 0).then(|| format!("{NAMED}{n}"));
                        let mut builder = thread::Builder::new();
                        if let Some(name) = &name {
                            builder = builder.name(name.clone());
                        }
                        let names = Arc::clone(&names);
                        let body = move || {
                            let id = format!("{:?}", thread::current().id());
                            names.lock().expect("not poisoned").insert(id, name);
                            match n % 4 {
                                0 => strands::yield_now(),
                                1 => strands::sleep(Duration::from_micros(50)),
                                2 => thread::park_timeout(Duration::from_micros(20)),
                                _ => drop(go(|| ()).join()),
                            }
                        };
                        builder.spawn(body).expect("spawned").join().expect("no panic");
                    }
                })
            })
            .collect();
        let begun = Instant::now();
        let mut lines = 0;
        while begun.elapsed() < Duration::from_secs(2) {
            let dump = runtime::dump();
            let all = Line::all(&dump);
            let ids: std::collections::HashSet<_> = all.iter().map(|line| line.id).collect();
            assert_eq!(ids.len(), all.len(), "one line each: {dump}");
            let names = names.lock().expect("not poisoned");
            for line in all {
                assert!(line.birth.starts_with(file!()), "{dump}");
                assert_eq!(line.age.is_some(), !line.why.starts_with("runn"), "{dump}");
                if let Some(name) = names.get(&format!("ThreadId(goroutine {})", line.id)) {
                    assert_eq!(line.name.as_ref(), name.as_ref(), "{dump}");
                    lines += 1;
                }
            }
        }
        assert!(lines > 0, "nobody was seen");
        stop.store(true, SeqCst);
        churn.into_iter().for_each(|handle| handle.join().expect("no panic"));
    }) else {
        return;
    };
    program.clone().processors(1).run().succeeded();
    program.processors(2).run().succeeded();
}
