//! Panics that are suspended.
//!
//! std counts, for each thread, the panics that are under way (`thread::panicking` reads it, a mutex guard
//! poisons by it, and a second one while unwinding aborts). A goroutine that is suspended in a `Drop`
//! while it unwinds would leave that count to its neighbours: they would be "panicking", poison what they
//! lock, and abort at their first own panic. So the count is saved and zeroed when a goroutine switches
//! away, and restored when it comes back.
//!
//! The count is private to std. It is found by experiment, once, at start: the one word of the thread-local
//! block that reads 0, then 1 in a `Drop` during a panic, 2 in a nested one, and 0 afterwards. Beside it
//! std keeps whether the panic hook runs (the pair is a `(usize, bool)`), which travels along when it is set.
//!
//! Where no word, or more than one, answers to that, goroutines that unwind are not suspended: they
//! block their thread, having handed the processor on.

use std::cell::Cell;
use std::ffi::{c_int, c_void};
use std::panic::{catch_unwind, resume_unwind};
use std::ptr::NonNull;

/// Where the count is in the thread-local block of each thread.
#[derive(Clone, Copy, Debug)]
pub(crate) struct PanicCount {
    place: Option<Place>,
}

/// A word of a module's thread-local segment.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
struct Place {
    /// The how-manieth of the loaded modules it is that have such a segment.
    module: usize,
    word: usize,
}

/// The count of one thread.
#[derive(Clone, Copy, Debug)]
pub(crate) struct PanicWord(Option<NonNull<usize>>);

impl PanicCount {
    /// Not found, or not looked for.
    pub(crate) const fn unknown() -> PanicCount {
        PanicCount { place: None }
    }

    /// Whether goroutines that unwind may be suspended.
    #[inline]
    pub(crate) fn is_known(self) -> bool {
        self.place.is_some()
    }

    /// Finds it by experiment, on a thread of its own.
    pub(crate) fn find() -> PanicCount {
        let place = std::thread::Builder::new()
            .name("strands-calibration".into())
            .spawn(find)
            .ok()
            .and_then(|thread| thread.join().ok())
            .flatten();
        PanicCount { place }
    }

    /// The calling thread's count.
    pub(crate) fn on_this_thread(self) -> PanicWord {
        PanicWord(self.place.and_then(|place| {
            let (start, words) = *segments().get(place.module)?;
            let word = (place.word < words).then(|| start.wrapping_add(place.word))?;
            NonNull::new(word.cast_mut())
        }))
    }
}

impl PanicWord {
    /// Not found.
    pub(crate) const fn unknown() -> PanicWord {
        PanicWord(None)
    }

    /// Takes the thread's count away with a goroutine that has just been suspended.
    #[inline]
    pub(crate) fn save(self, to: &Cell<[usize; 2]>) {
        let Some(word) = self.0 else { return };
        // SAFETY: a word of this thread's own thread-local block, which lives as long as the thread.
        // std's cell is not borrowed: we are not in std.
        if unsafe { word.read() } != 0 {
            self.save_slow(word, to);
        }
    }

    #[cold]
    fn save_slow(self, word: NonNull<usize>, to: &Cell<[usize; 2]>) {
        // SAFETY: as in `save`; the second word is the other half of the same pair.
        unsafe {
            let flag = word.add(1).cast::<u8>();
            to.set([word.read(), usize::from(flag.read() == 1)]);
            word.write(0);
            if flag.read() == 1 {
                flag.write(0);
            }
        }
    }

    /// Brings it back with a goroutine that is about to be resumed.
    #[inline]
    pub(crate) fn restore(self, from: &Cell<[usize; 2]>) {
        if from.get()[0] != 0 {
            self.restore_slow(from);
        }
    }

    #[cold]
    fn restore_slow(self, from: &Cell<[usize; 2]>) {
        let [count, in_hook] = from.replace([0; 2]);
        let word = self.0.expect("a count was saved, so its place is known");
        // SAFETY: as in `save_slow`.
        unsafe {
            word.write(count);
            if in_hook == 1 {
                word.add(1).cast::<u8>().write(1);
            }
        }
    }
}

/// The thread-local segments of the calling thread: where each starts, and how many whole words it has.
fn segments() -> Vec<(*const usize, usize)> {
    unsafe extern "C" fn visit(
        info: *mut libc::dl_phdr_info,
        _size: libc::size_t,
        found: *mut c_void,
    ) -> c_int {
        // SAFETY: the loader passes a valid `info`, whose headers are an array of that length.
        let (info, headers) = unsafe {
            let info = &*info;
            (info, std::slice::from_raw_parts(info.dlpi_phdr, usize::from(info.dlpi_phnum)))
        };
        // SAFETY: `found` is the vector that is passed below.
        let found = unsafe { &mut *found.cast::<Vec<(*const usize, usize)>>() };
        for header in headers {
            if header.p_type == libc::PT_TLS && !info.dlpi_tls_data.is_null() {
                found.push((
                    info.dlpi_tls_data.cast_const().cast(),
                    header.p_memsz as usize / size_of::<usize>(),
                ));
            }
        }
        0
    }
    let mut found: Vec<(*const usize, usize)> = Vec::new();
    // SAFETY: `visit` has the signature that is wanted, does not unwind, and gets the vector it expects.
    unsafe { libc::dl_iterate_phdr(Some(visit), (&raw mut found).cast()) };
    found
}

/// All words of all segments, as they are now.
fn snapshot() -> Vec<Vec<usize>> {
    segments()
        .into_iter()
        .map(|(start, words)| {
            (0..words)
                // SAFETY: within the segment of this thread. Volatile, since the compiler knows these
                // words as variables with other names.
                .map(|word| unsafe { start.add(word).read_volatile() })
                .collect()
        })
        .collect()
}

fn find() -> Option<Place> {
    struct Snap<'a>(&'a Cell<Vec<Vec<usize>>>);
    impl Drop for Snap<'_> {
        fn drop(&mut self) {
            self.0.set(snapshot());
        }
    }
    struct Outer<'a> {
        one: &'a Cell<Vec<Vec<usize>>>,
        two: &'a Cell<Vec<Vec<usize>>>,
    }
    impl Drop for Outer<'_> {
        fn drop(&mut self) {
            self.one.set(snapshot());
            let two = std::panic::AssertUnwindSafe(self.two);
            let _ = catch_unwind(move || {
                let two = two;
                let _snap = Snap(two.0);
                resume_unwind(Box::new(()));
            });
        }
    }
    let (one, two) = (Cell::new(Vec::new()), Cell::new(Vec::new()));
    let before = snapshot();
    // `resume_unwind` counts as a panic does, and does not run the hook.
    let _ = catch_unwind(std::panic::AssertUnwindSafe(|| {
        let _outer = Outer { one: &one, two: &two };
        resume_unwind(Box::new(()));
    }));
    let after = snapshot();
    let (one, two) = (one.take(), two.take());
    let at = |shot: &[Vec<usize>], module: usize, word: usize| {
        shot.get(module).and_then(|words| words.get(word)).copied()
    };
    let mut hits = before.iter().enumerate().flat_map(|(module, words)| {
        let (one, two, after) = (&one, &two, &after);
        words.iter().enumerate().filter_map(move |(word, value)| {
            let here = |shot: &[Vec<usize>]| at(shot, module, word);
            (*value == 0 && here(one) == Some(1) && here(two) == Some(2) && here(after) == Some(0))
                .then_some(Place { module, word })
        })
    });
    let place = hits.next();
    if hits.next().is_some() { None } else { place }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_count_is_found_and_is_the_one_that_panicking_reads() {
        struct Check(PanicWord);
        impl Drop for Check {
            fn drop(&mut self) {
                let saved = Cell::new([0; 2]);
                assert!(std::thread::panicking());
                self.0.save(&saved);
                assert!(!std::thread::panicking(), "the count is still there");
                self.0.restore(&saved);
                assert!(std::thread::panicking());
            }
        }
        let count = PanicCount::find();
        // In another thread than the one it was found in.
        std::thread::spawn(move || {
            let word = count.on_this_thread();
            assert!(word.0.is_some());
            let result = catch_unwind(|| {
                let _check = Check(word);
                resume_unwind(Box::new(7));
            });
            assert_eq!(result.unwrap_err().downcast_ref(), Some(&7));
        })
        .join()
        .unwrap();
    }
}
