//! What has to be known of glibc to give a goroutine a thread-local block, and the check that all of it is so.
//!
//! Most of it is asked of glibc itself: the functions by which `pthread_create` makes and fills such a block, and the
//! tables by which debuggers find their way in it. Nothing is believed that cannot be seen in the blocks of two
//! threads; and in the end a trial machine is run on the one and on the other.

use super::super::here::Here;
use super::block::Block;
use crate::switch::{self, Farewell, Machine, Switch};
use crate::sys;
use crate::wait;
use std::cell::Cell;
use std::ffi::{CStr, c_int, c_void};
use std::ptr;

type AllocateTls = unsafe extern "C" fn(*mut c_void) -> *mut c_void;
type DeallocateTls = unsafe extern "C" fn(*mut c_void, bool);
type StaticInfo = unsafe extern "C" fn(*mut usize, *mut usize);
/// Of a table for debuggers: bits, count, offset.
type Described = [u32; 3];

/// glibc's record of a key of `pthread_key_create`.
#[derive(Clone, Copy)]
#[repr(C)]
pub(super) struct Key {
    /// Counts how often the key was made and deleted.
    pub(super) seq: usize,
    pub(super) destructor: Option<unsafe extern "C" fn(*mut c_void)>,
}

/// The thread-local variables of a program or library that lie in every thread's block.
pub(super) struct Module {
    /// From the thread pointer.
    pub(super) offset: isize,
    pub(super) image: *const u8,
    pub(super) image_size: usize,
    pub(super) size: usize,
    id: usize,
}

/// Everything that is the same for all blocks. Offsets count from the thread pointer, in bytes.
pub(crate) struct Facts {
    pub(super) allocate: AllocateTls,
    pub(super) deallocate: DeallocateTls,
    pub(super) ctype_init: unsafe extern "C" fn(),
    pub(super) call_tls_dtors: unsafe extern "C" fn(),
    pub(super) keys: *const Key,
    /// Of all thread-local variables in a block, and of glibc's record behind them.
    pub(super) variables_size: usize,
    pub(super) record_size: usize,
    pub(super) tid: usize,
    pub(super) specific: usize,
    pub(super) robust_list: usize,
    /// Where the kernel's restartable sequences are registered, since glibc 2.35.
    pub(super) rseq: Option<usize>,
    /// Ours.
    pub(super) worker: isize,
    pub(super) current: isize,
    pub(super) tries: isize,
    pub(super) whereabouts: isize,
    /// All but glibc's own.
    pub(super) modules: Vec<Module>,
}

// SAFETY: the pointers are to functions, to a static table of glibc's and to the images of loaded modules.
unsafe impl Send for Facts {}
// SAFETY: as above; what is there is read only.
unsafe impl Sync for Facts {}

/// How many entries of glibc's table of keys there are, and in its first part, which is in the block itself.
pub(super) const KEYS: usize = 1024;
pub(super) const FIRST_KEYS: usize = 32;

/// The block of the thread that asks.
#[cfg(target_arch = "x86_64")]
pub(in crate::sched) fn thread_pointer() -> usize {
    let pointer;
    // SAFETY: the block's first word is its own address.
    unsafe {
        std::arch::asm!("mov {}, fs:[0]", out(reg) pointer, options(nostack, preserves_flags, readonly));
    }
    pointer
}

/// Not known how.
#[cfg(not(target_arch = "x86_64"))]
pub(in crate::sched) fn thread_pointer() -> usize {
    0
}

fn symbol(name: &CStr) -> Result<*mut c_void, String> {
    // SAFETY: a lookup by a valid name.
    let found = unsafe { libc::dlsym(libc::RTLD_DEFAULT, name.as_ptr()) };
    if found.is_null() {
        return Err(format!("the C library has no {}", name.to_string_lossy()));
    }
    Ok(found)
}

/// The offset that a table for debuggers gives.
fn described(name: &CStr) -> Result<usize, String> {
    let table = symbol(name)?.cast_const().cast::<Described>();
    // SAFETY: by its name it is such a table.
    Ok(unsafe { table.read() }[2] as usize)
}

/// What can be seen in the block of the thread that asks.
#[derive(Debug, PartialEq, Eq)]
struct Seen {
    worker: isize,
    current: isize,
    tries: isize,
    whereabouts: isize,
    errno: isize,
    robust_list: usize,
    modules: Vec<(usize, isize, usize, usize, usize)>,
}

/// # Safety
/// `at` is within a block.
unsafe fn word(at: usize) -> usize {
    // SAFETY: the caller's promise.
    unsafe { ptr::with_exposed_provenance::<usize>(at).read_volatile() }
}

fn look(tid: usize, specific: usize) -> Result<Seen, String> {
    let tp = thread_pointer();
    // SAFETY: the first words of the block that we run on, and further ones of glibc's record, which is as large as
    // `find` has made sure.
    unsafe {
        if tp == 0 || !tp.is_multiple_of(64) || word(tp) != tp || word(tp + 16) != tp {
            return Err("the thread-local block does not begin as expected".into());
        }
        let own_tid = ptr::with_exposed_provenance::<i32>(tp + tid).read_volatile();
        if own_tid != sys::thread_id() {
            return Err("the thread's id is not where it should be".into());
        }
        if word(tp + specific) != tp + specific - 16 * FIRST_KEYS {
            return Err("the thread's keys are not where they should be".into());
        }
        let (list, back) = (tp + tid - 16, word(tp + tid - 16));
        if back == 0 || word(back + 8) != list {
            return Err("the list of threads is not where it should be".into());
        }
    }
    let mut head: *mut c_void = ptr::null_mut();
    let mut size = 0_usize;
    // SAFETY: the kernel writes two words.
    let got = unsafe { libc::syscall(libc::SYS_get_robust_list, 0, &raw mut head, &raw mut size) };
    if got != 0 || size != 24 {
        return Err("the kernel does not say where the robust list is".into());
    }
    let offset = |at: usize| at.wrapping_sub(tp).cast_signed();
    let ours = wait::places();
    // SAFETY: always there.
    let errno = unsafe { libc::__errno_location() };
    let modules = modules(tp);
    for module in &modules {
        // SAFETY: the second word of a block leads to its table, whose first word but one is its length.
        let entry = unsafe {
            let table = word(tp + 8);
            (module.id <= word(table - 16)).then(|| word(table + 16 * module.id))
        };
        if entry != Some(tp.wrapping_add_signed(module.offset)) {
            return Err("the table of dynamic thread-locals is not as expected".into());
        }
    }
    Ok(Seen {
        worker: offset(Here::place().addr()),
        current: offset(ours.current.addr()),
        tries: offset(ours.tries.addr()),
        whereabouts: offset(ours.whereabouts.addr()),
        errno: offset(errno.addr()),
        robust_list: head.addr().wrapping_sub(tp),
        modules: modules
            .iter()
            .map(|m| (m.id, m.offset, m.image.addr(), m.image_size, m.size))
            .collect(),
    })
}

/// The modules whose variables are near the thread pointer, below it.
fn modules(tp: usize) -> Vec<Module> {
    unsafe extern "C" fn visit(
        info: *mut libc::dl_phdr_info,
        _size: libc::size_t,
        found: *mut c_void,
    ) -> c_int {
        // SAFETY: the loader passes a valid `info`, whose headers are an array of that length; and `found` is what
        // is passed below.
        let (info, headers, (tp, found)) = unsafe {
            let info = &*info;
            let headers = std::slice::from_raw_parts(info.dlpi_phdr, usize::from(info.dlpi_phnum));
            (info, headers, &mut *found.cast::<(usize, Vec<Module>)>())
        };
        for header in headers {
            let offset = info.dlpi_tls_data.addr().wrapping_sub(*tp).cast_signed();
            if header.p_type == libc::PT_TLS
                && !info.dlpi_tls_data.is_null()
                && (-(1 << 20)..0).contains(&offset)
            {
                found.push(Module {
                    offset,
                    image: ptr::with_exposed_provenance((info.dlpi_addr + header.p_vaddr) as usize),
                    image_size: header.p_filesz as usize,
                    size: header.p_memsz as usize,
                    id: info.dlpi_tls_modid,
                });
            }
        }
        0
    }
    let mut found: (usize, Vec<Module>) = (tp, Vec::new());
    // SAFETY: `visit` has the signature that is wanted, does not unwind, and gets what it expects.
    unsafe { libc::dl_iterate_phdr(Some(visit), (&raw mut found).cast()) };
    found.1
}

/// All that has to be known.
///
/// # Errors
/// Something is not as expected; the text says what.
pub(super) fn find() -> Result<Facts, String> {
    if !switch::CAN_SWITCH_TLS {
        return Err("it takes Linux on x86-64 with glibc".into());
    }
    symbol(c"gnu_get_libc_version").map_err(|_| "it takes glibc, linked dynamically")?;
    if !may_load_fs()? {
        switch::load_fs_by_system_call();
    }
    // SAFETY: by their names they are functions of these types.
    let (allocate, deallocate, info, ctype_init, call_tls_dtors) = unsafe {
        (
            std::mem::transmute::<*mut c_void, AllocateTls>(symbol(c"_dl_allocate_tls")?),
            std::mem::transmute::<*mut c_void, DeallocateTls>(symbol(c"_dl_deallocate_tls")?),
            std::mem::transmute::<*mut c_void, StaticInfo>(symbol(c"_dl_get_tls_static_info")?),
            std::mem::transmute::<*mut c_void, unsafe extern "C" fn()>(symbol(c"__ctype_init")?),
            std::mem::transmute::<*mut c_void, unsafe extern "C" fn()>(symbol(
                c"__call_tls_dtors",
            )?),
        )
    };
    let keys = symbol(c"__pthread_keys")?.cast_const().cast::<Key>();
    let (mut size, mut align) = (0, 0);
    // SAFETY: it writes two words.
    unsafe { info(&raw mut size, &raw mut align) };
    // SAFETY: by its name it is a number.
    let record_size =
        unsafe { symbol(c"_thread_db_sizeof_pthread")?.cast_const().cast::<u32>().read() } as usize;
    let tid = described(c"_thread_db_pthread_tid")?;
    let specific = described(c"_thread_db_pthread_specific")?;
    if align > 64 || !(256..16 << 10).contains(&record_size) {
        return Err("the thread-local block has an odd size".into());
    }
    if size <= record_size || size > 24 << 10 {
        return Err(format!("the thread-local block of a thread takes {size} bytes"));
    }
    if !(16 * FIRST_KEYS..record_size - 8 * FIRST_KEYS).contains(&specific)
        || !(16..record_size - 4).contains(&tid)
    {
        return Err("the thread-local block is described oddly".into());
    }
    let seen = look(tid, specific)?;
    let variables_size = size - record_size;
    for ours in [seen.worker, seen.current, seen.tries, seen.whereabouts] {
        let reach = variables_size.cast_signed();
        if !(-reach..0).contains(&ours) {
            return Err("this library's thread-locals are not in the program's own block".into());
        }
    }
    if !(16..record_size - 24).contains(&seen.robust_list) {
        return Err("the robust list is outside of the block".into());
    }
    // The others are reinitialised for each goroutine, its own are kept with the block: see `block`.
    let holds = |module: &Module, at: isize| {
        (module.offset..module.offset + module.size.cast_signed()).contains(&at)
    };
    let mut modules = modules(thread_pointer());
    let of_libc = modules.iter().position(|module| holds(module, seen.errno));
    let Some(of_libc) = of_libc else {
        return Err("the C library's thread-locals are not in the block".into());
    };
    modules.swap_remove(of_libc);
    if !modules.iter().any(|module| holds(module, seen.worker)) {
        return Err("this library's thread-locals are among those of the C library".into());
    }
    let rseq = symbol(c"__rseq_offset").ok().and_then(|offset| {
        // SAFETY: by its name it is an offset; and 0 if nothing is registered.
        usize::try_from(unsafe { offset.cast_const().cast::<isize>().read() }).ok()
    });
    let facts = Facts {
        allocate,
        deallocate,
        ctype_init,
        call_tls_dtors,
        keys,
        variables_size,
        record_size,
        tid,
        specific,
        robust_list: seen.robust_list,
        rseq: rseq.filter(|at| *at > tid && *at + 32 <= record_size),
        worker: seen.worker,
        current: seen.current,
        tries: seen.tries,
        whereabouts: seen.whereabouts,
        modules,
    };
    try_it(&facts, seen)?;
    // Now that there has been a thread, glibc has its handler.
    super::users::look_after_changes()?;
    Ok(facts)
}

/// Whether `fs` may be loaded by an instruction.
///
/// # Errors
/// Nor by a system call.
fn may_load_fs() -> Result<bool, String> {
    const HWCAP2_FSGSBASE: u64 = 2;
    const ARCH_SET_FS: c_int = 0x1002;
    // SAFETY: no pointers.
    let by_instruction = unsafe { libc::getauxval(libc::AT_HWCAP2) } & HWCAP2_FSGSBASE != 0;
    #[cfg(target_arch = "x86_64")]
    if !by_instruction {
        // SAFETY: it sets what is there already.
        let done = unsafe { libc::syscall(libc::SYS_arch_prctl, ARCH_SET_FS, thread_pointer()) };
        if done != 0 {
            return Err("the kernel lets nobody change the thread pointer".into());
        }
    }
    let _ = ARCH_SET_FS;
    Ok(by_instruction)
}

thread_local! {
    /// Not of zeros, so that it has to come from the image.
    static PROBE: Cell<u64> = const { Cell::new(0x5eed) };
}

#[inline(never)]
fn probe(new: u64) -> u64 {
    PROBE.replace(new)
}

/// A machine of the trial, with what it has seen.
struct Trial {
    machine: Machine,
    facts: *const Facts,
    thread_pointer: usize,
    is_right: Cell<bool>,
}

unsafe extern "C" fn trial(trial: *mut ()) {
    let who = trial.addr();
    // SAFETY: `try_it` passes one, and keeps it.
    let trial = unsafe { &*trial.cast_const().cast::<Trial>() };
    let is_ours = || thread_pointer() == trial.thread_pointer;
    let first = is_ours() && probe(7) == 0x5eed;
    sys::set_errno(5);
    // SAFETY: the machine itself.
    unsafe { trial.machine.suspend_with_tls(Farewell::new(who, Switch::Parked)) };
    let second = is_ours() && probe(8) == 7 && sys::errno() == 5;
    // SAFETY: on the block that is to end.
    unsafe { super::block::end_thread(&*trial.facts) };
    trial.is_right.set(first && second);
}

/// Runs a machine on this thread and then on another, and compares what the two see in their blocks.
fn try_it(facts: &Facts, seen: Seen) -> Result<(), String> {
    struct Carried<'a>(&'a Trial);
    // SAFETY: the machine is used by one thread after the other.
    unsafe impl Send for Carried<'_> {}

    const SIZE: usize = 128 << 10;
    let mut stack = vec![0_u128; SIZE / 16];
    let base = stack.as_mut_ptr().expose_provenance();
    let top = (base + SIZE) & !63;
    // SAFETY: the memory below the top is ours.
    let Some(block) = (unsafe { Block::create(facts, top, 0) }) else {
        return Err("no memory for a thread-local block".into());
    };
    let of_trial = Trial {
        machine: Machine::new(),
        facts,
        thread_pointer: block.thread_pointer(),
        is_right: Cell::new(false),
    };
    let argument = ptr::from_ref(&of_trial).cast_mut().cast();
    // SAFETY: stack, block and machine stay until it has ended.
    unsafe {
        let floor = block.floor_by(facts);
        of_trial.machine.prepare_with_tls(floor, block.thread_pointer(), trial, argument);
    }
    probe(1);
    // SAFETY: prepared.
    let first = unsafe { of_trial.machine.resume_with_tls() }.why();
    let is_untouched = probe(1) == 1;
    let carried = Carried(&of_trial);
    let (tid, specific) = (facts.tid, facts.specific);
    let second = std::thread::scope(|scope| {
        let other = std::thread::Builder::new().name("strands-calibration".into());
        let other = other.spawn_scoped(scope, move || {
            let carried = carried;
            probe(2);
            let there = look(tid, specific)?;
            // SAFETY: suspended, and nobody else has it.
            let ended = unsafe { carried.0.machine.resume_with_tls() }.why();
            Ok::<_, String>((there, ended, probe(2) == 2))
        });
        let other = other.map_err(|error| format!("a thread was refused: {error}"))?;
        other.join().map_err(|_| "the trial panicked".to_owned())?
    });
    // SAFETY: the machine has ended, or will never run again; only what was allocated besides is freed.
    unsafe { (facts.deallocate)(ptr::with_exposed_provenance_mut(block.thread_pointer()), false) };
    let (there, second, is_untouched_there) = second?;
    if there != seen {
        return Err("the thread-local blocks of two threads differ".into());
    }
    let went_well = (first, second) == (Switch::Parked, Switch::Ended)
        && is_untouched
        && is_untouched_there
        && of_trial.is_right.get();
    if !went_well {
        return Err("a trial with thread-locals of its own went wrong".into());
    }
    Ok(())
}
