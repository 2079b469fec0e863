//! Where the records of sources live: in chunks that are never freed, each twice as large as the one before, so that
//! a record stays where it is and can be found by its number. The kernel hands back the numbers of sources that
//! are gone already; a record that has been used again since is told by its generation.

use super::record::Record;
use crate::wait::ShortLock;
use std::ptr;
use std::sync::atomic::{AtomicPtr, AtomicU32, Ordering};

/// The size of the first chunk, as a power of two.
const FIRST: u32 = 6;
const CHUNKS: usize = 26;
/// No record.
pub(super) const NONE: u32 = u32::MAX;

static CHUNK: [AtomicPtr<Record>; CHUNKS] = [const { AtomicPtr::new(ptr::null_mut()) }; CHUNKS];
/// How many have ever been taken.
static TAKEN: AtomicU32 = AtomicU32::new(0);
/// The first of those that are free, each of which knows the next.
static FREE: ShortLock<u32> = ShortLock::new(NONE);

/// In which chunk a record is, and where in it.
fn locate(index: u32) -> (usize, usize) {
    let number = u64::from(index) + (1 << FIRST);
    let chunk = number.ilog2() - FIRST;
    (chunk as usize, (number - (1 << (chunk + FIRST))) as usize)
}

/// The record of this number, which has been taken at some time.
pub(super) fn get(index: u32) -> &'static Record {
    let (chunk, at) = locate(index);
    // Ordering: Acquire pairs with the Release in `take`, if nothing else does.
    let first = CHUNK[chunk].load(Ordering::Acquire);
    debug_assert!(!first.is_null());
    // SAFETY: numbers are given out once their chunk is there; it is large enough, and never freed.
    unsafe { &*first.add(at) }
}

/// A record that nobody has.
pub(super) fn take() -> &'static Record {
    let mut free = FREE.lock();
    if *free != NONE {
        let record = get(*free);
        *free = record.next_free.load(Ordering::Relaxed);
        return record;
    }
    let index = TAKEN.load(Ordering::Relaxed);
    let (chunk, at) = locate(index);
    assert!(chunk < CHUNKS, "more sockets than there are numbers for them");
    if at == 0 {
        let records: Box<[Record]> =
            (0..1_u32 << (FIRST + chunk as u32)).map(|n| Record::new(index + n)).collect();
        // Ordering: Release, see `get`.
        CHUNK[chunk].store(Box::leak(records).as_mut_ptr(), Ordering::Release);
    }
    // Ordering: Release pairs with the Acquire in `any`.
    TAKEN.store(index + 1, Ordering::Release);
    drop(free);
    get(index)
}

/// Takes a record back.
pub(super) fn give(record: &'static Record) {
    let mut free = FREE.lock();
    record.next_free.store(*free, Ordering::Relaxed);
    *free = record.index();
}

/// Whether this is so of any record.
pub(super) fn any(mut is_so: impl FnMut(&Record) -> bool) -> bool {
    // Ordering: Acquire, see `take`.
    (0..TAKEN.load(Ordering::Acquire)).any(|index| is_so(get(index)))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn every_number_has_a_place_of_its_own() {
        assert_eq!([0, 63, 64, 191, 192].map(locate), [(0, 0), (0, 63), (1, 0), (1, 127), (2, 0)]);
        assert!(locate(NONE - 1).0 >= CHUNKS);
    }

    #[test]
    fn a_record_that_was_given_back_is_taken_again() {
        let (one, other) = (take(), take());
        assert_ne!(one.index(), other.index());
        assert!(ptr::eq(get(one.index()), one));
        // Other tests of this process take and give, too.
        let before = TAKEN.load(Ordering::Relaxed);
        for _ in 0..1000 {
            give(one);
            give(other);
            take();
            take();
        }
        assert!(TAKEN.load(Ordering::Relaxed) < before + 500);
    }
}
