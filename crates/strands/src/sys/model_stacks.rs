//! Under loom, in the binary of the models: stacks that are kept for the next execution.
//!
//! loom runs every thread of every execution on a stack that is mapped for it and unmapped after it. A model has many
//! thousands of executions, and they are short: mapping, the faults of the first touch, and unmapping, which tells all CPUs
//! that run the process, took more than half of the time, and two models at once waited for each other in the kernel.
//! The crate that makes the stacks has no place to say where they come from. So this binary has its own `mmap` and
//! `munmap`, which the linker prefers to libc's: a stack that is unmapped stays mapped, and the next one of its size is
//! had without a call. All else goes to the kernel as it came. (What libc maps for itself, for `malloc` and for threads,
//! it does not ask us for.)
//!
//! What is had in this way is not zeroed, as new memory would be; nobody reads from a stack what has not been
//! written to it. The guard page keeps its protection.
//!
//! Each thread keeps its own, so that there is nothing to lock; a test's are left behind when its thread ends, a handful.

use std::cell::Cell;
use std::ffi::{c_int, c_void};
use std::ptr;

/// A mapping that is lent as a stack, or kept to be.
#[derive(Clone, Copy)]
struct Kept {
    at: *mut c_void,
    length: usize,
    lent: bool,
}

/// More than an execution has threads. What finds no room here is mapped and unmapped as ever.
const ROOM: usize = 16;

const NOTHING: Kept = Kept { at: ptr::null_mut(), length: 0, lent: false };

thread_local! {
    // Without a destructor: this is called at all times of a thread's life.
    static KEPT: [Cell<Kept>; ROOM] = const { [const { Cell::new(NOTHING) }; ROOM] };
}

/// The first of the calling thread's mappings that is so is now lent, or kept.
fn turn(lent: bool, is: impl Fn(Kept) -> bool) -> Option<Kept> {
    KEPT.with(|all| {
        let one = all.iter().find(|one| is(one.get()))?;
        one.set(Kept { lent, ..one.get() });
        Some(one.get())
    })
}

/// A mapping that has been made for a stack is lent from now on, if there is room to remember it.
fn remember(at: *mut c_void, length: usize) {
    KEPT.with(|all| {
        if let Some(free) = all.iter().find(|one| one.get().at.is_null()) {
            free.set(Kept { at, length, lent: true });
        }
    });
}

/// libc's, but that stacks come from those that are kept.
///
/// # Safety
///
/// As libc's.
#[unsafe(no_mangle)]
unsafe extern "C" fn mmap(
    at: *mut c_void,
    length: usize,
    protection: c_int,
    flags: c_int,
    file: c_int,
    offset: libc::off_t,
) -> *mut c_void {
    let is_stack = at.is_null() && flags & libc::MAP_STACK != 0;
    if is_stack && let Some(kept) = turn(true, |one| !one.lent && one.length == length) {
        return kept.at;
    }
    // SAFETY: the call that the caller wanted.
    let mapped =
        unsafe { libc::syscall(libc::SYS_mmap, at, length, protection, flags, file, offset) };
    let mapped = ptr::with_exposed_provenance_mut(mapped as usize);
    if is_stack && mapped != libc::MAP_FAILED {
        remember(mapped, length);
    }
    mapped
}

/// libc's, but that stacks stay where they are.
///
/// # Safety
///
/// As libc's.
#[unsafe(no_mangle)]
unsafe extern "C" fn munmap(at: *mut c_void, length: usize) -> c_int {
    if turn(false, |one| one.lent && one.at == at && one.length == length).is_some() {
        return 0;
    }
    // SAFETY: the call that the caller wanted.
    unsafe { libc::syscall(libc::SYS_munmap, at, length) as c_int }
}

#[test]
fn a_stack_that_is_unmapped_is_the_next_one_of_its_size() {
    let map = |length| {
        let protection = libc::PROT_READ | libc::PROT_WRITE;
        let flags = libc::MAP_PRIVATE | libc::MAP_ANONYMOUS | libc::MAP_STACK;
        // SAFETY: a new mapping where the kernel likes it.
        let at = unsafe { libc::mmap(ptr::null_mut(), length, protection, flags, -1, 0) };
        assert_ne!(at, libc::MAP_FAILED);
        at.cast::<u8>()
    };
    // SAFETY: such a mapping, which nobody uses.
    let unmap = |at: *mut u8, length| assert_eq!(unsafe { libc::munmap(at.cast(), length) }, 0);
    // SAFETY: as before, and it is mapped.
    let (write, read) = (|at: *mut u8| unsafe { at.write(7) }, |at: *mut u8| unsafe { at.read() });
    let (first, second, larger) = (map(4096), map(4096), map(8192));
    assert!(first != second);
    [first, larger].into_iter().for_each(write);
    unmap(first, 4096);
    unmap(larger, 8192);
    // Not a new one at the same place, which would be empty.
    assert_eq!((map(4096), read(first)), (first, 7));
    assert_eq!((map(8192), read(larger)), (larger, 7));
    assert_eq!(read(map(4096)), 0);
}
