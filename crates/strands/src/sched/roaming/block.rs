//! A thread-local block: what makes a goroutine a thread to whoever asks for one.
//!
//! ```text
//!     low ──────────────────────────────────────────────► high
//!   ◄─ stack │ surplus │ the program's variables, glibc's │ glibc's record of a thread │ `Started` │ end of the slot
//!            ▲ floor                                      ▲ thread pointer
//! ```
//!
//! It is made by glibc's own function when the first roaming goroutine gets the slot, and stays with that. For each
//! further one the variables of the program and its libraries are initialised anew. glibc's own are not: what hangs on
//! them (its malloc's cache above all) is as good for the next goroutine, and nobody but a real thread's end could
//! free it.
//!
//! # What it costs
//!
//! A parked roaming goroutine takes two pages, where one at home takes one, and some 300 bytes of the heap: the table of
//! dynamic thread-locals. With glibc 2.36 and a program with half a kilobyte of thread-locals, of the block's 4.7 KiB
//! are touched: the program's and glibc's variables (0.7 KiB), the first 0.8 KiB of the record, and in its last 36 bytes
//! the word by which whoever uses restartable sequences learns that the kernel has none here. Not touched are the
//! surplus for libraries that are loaded later (1.6 KiB), and the rest of the record.
//!
//! **One page is not to be had.** All that is touched and the stack's first frames would have to be in it. The record lies
//! above the variables, those above the surplus, and the stack, which must be able to grow, below all of them: what is
//! touched first and last is 4.6 KiB apart even without frames. The surplus could lie on a page of its own only if
//! the stack began above it, or the stack begin in it only if no library that is loaded later were ever given a part
//! of it. And the word in the record's end must not be left zero: a zero says that the thread runs on
//! processor 0 *and* that its sequences are restarted there, which they are not; an allocator that believed it would
//! hand out the same memory twice.

use super::super::worker::Worker;
use super::facts::{FIRST_KEYS, Facts, KEYS, thread_pointer};
use crate::sys;
use crate::wait;
use std::cell::Cell;
use std::ffi::c_void;
use std::ptr;
use std::sync::atomic::{AtomicU32, Ordering};

/// What stands in a thread's table for a module of which it has no variables yet.
const UNALLOCATED: usize = usize::MAX;

/// The ids of threads that are none: above all that the kernel gives (22 bits), and below what a futex can hold.
const FIRST_ID: u32 = 1 << 29;
static IDS: AtomicU32 = AtomicU32::new(0);

/// The words of glibc's record that all threads have alike: whether there are several threads, the stack protector's
/// canary, the key by which pointers are encrypted, and the processor's features in use.
const COMMON: [usize; 4] = [3, 5, 6, 9];

/// A block, by its thread pointer.
#[derive(Clone, Copy)]
pub(crate) struct Block(usize);

/// Where a slot has its block, if it has one.
pub(crate) struct BlockPlace(Cell<usize>);

impl BlockPlace {
    #[inline]
    pub(crate) fn get(&self) -> Option<Block> {
        let block = self.0.get();
        (block != 0).then_some(Block(block))
    }

    pub(super) fn set(&self, block: Block) {
        self.0.set(block.0);
    }
}

impl Block {
    /// Makes one that ends at `top`, a multiple of 64; `None` if memory is refused. In it, `task` is what runs.
    ///
    /// # Safety
    /// The memory below is the caller's, as much as a block takes, and reads as zero.
    pub(super) unsafe fn create(facts: &Facts, top: usize, task: usize) -> Option<Block> {
        let block = Block((top - facts.record_size) & !63);
        let tp = block.0;
        let pointer = ptr::with_exposed_provenance_mut::<c_void>(tp);
        // SAFETY: as `pthread_create` calls it: with a record that is all zero, below which there is room.
        if unsafe { (facts.allocate)(pointer) }.is_null() {
            return None;
        }
        let model = thread_pointer();
        let id = FIRST_ID | (IDS.fetch_add(1, Ordering::Relaxed) % FIRST_ID);
        let (list, robust) = (tp + facts.tid - 16, tp + facts.robust_list);
        // SAFETY: all within the record, at the places that `facts` has made sure of; and the calling thread's own
        // record is one, too.
        unsafe {
            block.set(0, tp);
            block.set(16, tp);
            for word in COMMON {
                block.set(8 * word, *ptr::with_exposed_provenance::<usize>(model + 8 * word));
            }
            // A list of one, so that it can be taken out of its list: `fork` does.
            block.set(facts.tid - 16, list);
            block.set(facts.tid - 8, list);
            ptr::with_exposed_provenance_mut::<u32>(tp + facts.tid).write(id);
            // An empty list of robust mutexes; the second word of its head is the same for all threads.
            block.set(facts.robust_list - 8, robust);
            block.set(facts.robust_list, robust);
            let second = *ptr::with_exposed_provenance::<usize>(model + facts.robust_list + 8);
            block.set(facts.robust_list + 8, second);
            block.set(facts.specific, tp + facts.specific - 16 * FIRST_KEYS);
            if let Some(rseq) = facts.rseq {
                // The kernel writes into the record of the thread that it knows. Who asks here is told to ask the
                // kernel.
                ptr::with_exposed_provenance_mut::<i32>(tp + rseq + 4).write(-1);
            }
            block.set_at(facts.current, task);
        }
        Some(block)
    }

    /// Initialises the program's thread-locals anew, after the last goroutine here. In it, `task` is what runs.
    ///
    /// # Safety
    /// The block is nobody's but the caller's.
    pub(super) unsafe fn renew(self, facts: &Facts, task: usize) {
        for module in &facts.modules {
            let start = self.0.wrapping_add_signed(module.offset);
            let variables = ptr::with_exposed_provenance_mut::<u8>(start);
            // SAFETY: the module's part of the block, and its image.
            unsafe {
                variables.copy_from_nonoverlapping(module.image, module.image_size);
                variables.add(module.image_size).write_bytes(0, module.size - module.image_size);
            }
        }
        // SAFETY: the second word leads to the table of dynamic thread-locals: pairs of an address and what is to be
        // freed of it, if anything is. The pair before the first has the length.
        unsafe {
            let table = *ptr::with_exposed_provenance::<usize>(self.0 + 8);
            let length = *ptr::with_exposed_provenance::<usize>(table - 16);
            for entry in 1..=length {
                let entry = ptr::with_exposed_provenance_mut::<[usize; 2]>(table + 16 * entry);
                let freed = (*entry)[1];
                if freed != 0 {
                    *entry = [UNALLOCATED, 0];
                    libc::free(ptr::with_exposed_provenance_mut(freed));
                }
            }
            self.set_at(facts.current, task);
        }
    }

    /// What `fs` is to be.
    #[inline]
    pub(crate) fn thread_pointer(self) -> usize {
        self.0
    }

    /// Where the stack begins, below the block; a multiple of 64.
    pub(super) fn floor_by(self, facts: &Facts) -> usize {
        (self.0 - facts.variables_size) & !63
    }

    /// Tells the goroutine whose block it is on which worker it runs from now on.
    ///
    /// # Safety
    /// The goroutine is suspended, and the caller's.
    #[inline]
    pub(super) unsafe fn seat(self, facts: &Facts, worker: &'static Worker) {
        // SAFETY: our own variables in the block, which its owner does not use now.
        unsafe {
            self.set_at(facts.worker, ptr::from_ref(worker).expose_provenance());
            // Whoever calls this runs on the worker's thread.
            let whereabouts = ptr::from_ref(wait::whereabouts());
            self.set_at(facts.whereabouts, whereabouts.expose_provenance());
            let tries = self.0.wrapping_add_signed(facts.tries);
            ptr::with_exposed_provenance_mut::<u32>(tries).write(0);
        }
    }

    /// # Safety
    /// There is a word in the block's record there, and it is the caller's.
    unsafe fn set(self, offset: usize, word: usize) {
        // SAFETY: the caller's promise.
        unsafe { ptr::with_exposed_provenance_mut::<usize>(self.0 + offset).write(word) };
    }

    /// # Safety
    /// There is a variable of the size of a word there, and it is the caller's.
    unsafe fn set_at(self, offset: isize, word: usize) {
        let at = self.0.wrapping_add_signed(offset);
        // SAFETY: the caller's promise.
        unsafe { ptr::with_exposed_provenance_mut::<usize>(at).write(word) };
    }
}

/// What a new thread does first.
///
/// # Safety
/// Called on the goroutine's own block.
pub(super) unsafe fn begin_thread(facts: &Facts) {
    const GLOBAL_LOCALE: libc::locale_t = ptr::without_provenance_mut(usize::MAX);
    // SAFETY: what a thread does when it starts. The locale and `errno` may be those of the last goroutine here.
    unsafe {
        (facts.ctype_init)();
        libc::uselocale(GLOBAL_LOCALE);
    }
    sys::set_errno(0);
}

/// What a thread does last: runs the destructors of its thread-locals.
///
/// # Safety
/// Called on the goroutine's own block, on which nothing of the goroutine's runs afterwards.
pub(super) unsafe fn end_thread(facts: &Facts) {
    // SAFETY: as a thread calls it.
    unsafe { (facts.call_tls_dtors)() };
    // SAFETY: as above.
    unsafe { end_keys(facts) };
}

/// Destroys what is under the keys of `pthread_key_create`.
///
/// # Safety
/// As for [`end_thread`].
unsafe fn end_keys(facts: &Facts) {
    /// As POSIX has it: destructors may leave something under a key again.
    const ROUNDS: usize = 4;
    let parts = ptr::with_exposed_provenance::<*mut Value>(thread_pointer() + facts.specific);
    for round in 0..=ROUNDS {
        let mut any = false;
        for part in 0..KEYS / FIRST_KEYS {
            // SAFETY: the table of parts in the record; those that there are have so many values.
            let values = unsafe { parts.add(part).read_volatile() };
            if values.is_null() {
                continue;
            }
            for at in 0..FIRST_KEYS {
                // SAFETY: as above. No reference is held while a destructor runs.
                let value = unsafe { values.add(at).replace(Value::NONE) };
                if value.value.is_null() {
                    continue;
                }
                any = true;
                // SAFETY: glibc's table has so many keys. It may change meanwhile, as it may for a thread's end.
                let key = unsafe { facts.keys.add(part * FIRST_KEYS + at).read_volatile() };
                // What was left under a key that has been deleted since is nobody's.
                if let Some(destructor) = key.destructor
                    && key.seq == value.seq
                    && round < ROUNDS
                {
                    // SAFETY: the key's, for its values.
                    unsafe { destructor(value.value) };
                }
            }
        }
        if !any {
            break;
        }
    }
}

/// glibc's record of what a thread has under a key.
#[repr(C)]
struct Value {
    seq: usize,
    value: *mut c_void,
}

impl Value {
    const NONE: Value = Value { seq: 0, value: ptr::null_mut() };
}
