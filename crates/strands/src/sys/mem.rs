//! Memory as the kernel sees it: mappings, advice about them, what is resident, and how much room
//! is left.
//!
//! Addresses are `usize`. [`map`] exposes the provenance of what it maps, so whoever owns a range
//! may turn an address back into a pointer with `ptr::with_exposed_provenance_mut`.

use std::fs::{self, File};
use std::io;
use std::os::fd::{AsRawFd, FromRawFd, OwnedFd};
use std::ptr;
use std::sync::atomic::{AtomicUsize, Ordering};

/// What [`advise`] can tell the kernel about a range.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Advice {
    /// Never back it with huge pages.
    NoHugePages,
    /// Leave it out of core dumps.
    DontDump,
    /// Drop its pages; the next touch finds zeroes. Guards stay.
    DontNeed,
    /// Make it fault on every access, without splitting the mapping (Linux 6.13).
    Guard,
}

impl Advice {
    fn raw(self) -> libc::c_int {
        // Not in every libc that we build against.
        const MADV_GUARD_INSTALL: libc::c_int = 102;
        match self {
            Advice::NoHugePages => libc::MADV_NOHUGEPAGE,
            Advice::DontDump => libc::MADV_DONTDUMP,
            Advice::DontNeed => libc::MADV_DONTNEED,
            Advice::Guard => MADV_GUARD_INSTALL,
        }
    }
}

/// The size of a page: a power of two, 4 KiB on x86-64.
#[inline]
pub(crate) fn page_size() -> usize {
    static SIZE: AtomicUsize = AtomicUsize::new(0);
    // Ordering: Relaxed; the value is the whole message, and whoever misses it asks again.
    match SIZE.load(Ordering::Relaxed) {
        0 => {
            // SAFETY: `sysconf` takes any name.
            let size = unsafe { libc::sysconf(libc::_SC_PAGESIZE) } as usize;
            assert!(size.is_power_of_two(), "a page of {size} bytes");
            SIZE.store(size, Ordering::Relaxed);
            size
        }
        size => size,
    }
}

/// How many bytes of addresses one last-level page-table page describes: 2 MiB with pages of 4 KiB.
pub(crate) fn page_table_span() -> usize {
    page_size() / size_of::<u64>() * page_size()
}

/// Maps `len` bytes of private zeroes, readable and writable, for which no swap is set aside.
/// Pages come into being when touched.
///
/// # Errors
/// `ENOMEM` when the address space, its limit or the commit limit has no room.
pub(crate) fn map(len: usize) -> io::Result<usize> {
    // SAFETY: an anonymous mapping at an address of the kernel's choice touches nothing of ours.
    let addr = unsafe {
        libc::mmap(
            ptr::null_mut(),
            len,
            libc::PROT_READ | libc::PROT_WRITE,
            libc::MAP_PRIVATE | libc::MAP_ANONYMOUS | libc::MAP_NORESERVE,
            -1,
            0,
        )
    };
    if addr == libc::MAP_FAILED {
        return Err(io::Error::last_os_error());
    }
    Ok(addr.expose_provenance())
}

/// Gives a range back to the kernel.
///
/// # Safety
/// `[addr, addr + len)` is whole pages from [`map`], and nobody uses it any more.
pub(crate) unsafe fn unmap(addr: usize, len: usize) {
    if len == 0 {
        return;
    }
    // SAFETY: the caller owns the range and has no further use for it.
    let rc = unsafe { libc::munmap(ptr::with_exposed_provenance_mut(addr), len) };
    // It can fail where the kernel would have to split a mapping and may not. The range then stays
    // mapped, which wastes addresses and hurts nobody.
    debug_assert_eq!(rc, 0, "munmap: {}", io::Error::last_os_error());
}

/// Makes a range inaccessible. Splits the mapping, unlike [`Advice::Guard`].
///
/// # Safety
/// `[addr, addr + len)` is whole pages from [`map`], and nobody uses it any more.
pub(crate) unsafe fn forbid(addr: usize, len: usize) -> io::Result<()> {
    // SAFETY: the caller owns the range and has no further use for it.
    let rc =
        unsafe { libc::mprotect(ptr::with_exposed_provenance_mut(addr), len, libc::PROT_NONE) };
    check(rc)
}

/// Advises the kernel about a range.
///
/// # Safety
/// `[addr, addr + len)` is whole pages from [`map`]; for [`Advice::DontNeed`] and
/// [`Advice::Guard`], nobody needs what it holds.
pub(crate) unsafe fn advise(addr: usize, len: usize, advice: Advice) -> io::Result<()> {
    // SAFETY: the caller owns the range, and its contents where the advice drops them.
    let rc = unsafe { libc::madvise(ptr::with_exposed_provenance_mut(addr), len, advice.raw()) };
    check(rc)
}

/// This process as a file descriptor, which is how advice about many ranges goes in one call.
#[derive(Debug)]
pub(crate) struct Myself(OwnedFd);

impl Myself {
    /// # Errors
    /// `ENOSYS` before Linux 5.10, `EPERM` in some sandboxes.
    pub(crate) fn open() -> io::Result<Myself> {
        // SAFETY: `pidfd_open` has no pointers, and hands out a descriptor of our own.
        let fd = unsafe { libc::syscall(libc::SYS_pidfd_open, libc::getpid(), 0) };
        check(fd as libc::c_int)?;
        // SAFETY: `fd` is open and nobody else has seen it.
        Ok(Myself(unsafe { OwnedFd::from_raw_fd(fd as libc::c_int) }))
    }

    /// Advises the kernel about several ranges, in order; returns how many bytes it got through.
    ///
    /// # Errors
    /// What [`advise`] says, and `EINVAL` in a forked child: there the descriptor still means the
    /// parent, whose memory the kernel refuses to touch.
    ///
    /// # Safety
    /// As for [`advise`], for each range.
    pub(crate) unsafe fn advise_all(
        &self,
        ranges: &[libc::iovec],
        advice: Advice,
    ) -> io::Result<usize> {
        // SAFETY:
        // - `ranges` is live for the call, and the kernel only reads it.
        // - the caller owns what the ranges describe.
        let done = unsafe {
            libc::syscall(
                libc::SYS_process_madvise,
                self.0.as_raw_fd(),
                ranges.as_ptr(),
                ranges.len(),
                advice.raw(),
                0,
            )
        };
        usize::try_from(done).map_err(|_| io::Error::last_os_error())
    }
}

/// How many more bytes this process may map, where something limits that, and what does:
/// `RLIMIT_AS`, `RLIMIT_DATA`, or the commit limit of overcommit mode 2.
pub(crate) fn room() -> Option<(usize, &'static str)> {
    // The columns of `statm` that the limits are held against.
    let space = limit_left(RLIMIT_AS, 0).map(|left| (left, "RLIMIT_AS (`ulimit -v`)"));
    let data = limit_left(RLIMIT_DATA, 5).map(|left| (left, "RLIMIT_DATA (`ulimit -d`)"));
    let commit = commit_left().map(|left| (left, "the commit limit (vm.overcommit_memory is 2)"));
    [space, data, commit].into_iter().flatten().min()
}

/// The limit on addresses.
#[allow(clippy::unnecessary_cast, reason = "the type differs between C libraries")]
pub(crate) const RLIMIT_AS: u32 = libc::RLIMIT_AS as u32;
/// The limit on private writable memory, touched or not.
#[allow(clippy::unnecessary_cast, reason = "the type differs between C libraries")]
pub(crate) const RLIMIT_DATA: u32 = libc::RLIMIT_DATA as u32;

fn limit_left(resource: u32, column: usize) -> Option<usize> {
    let mut limit = libc::rlimit { rlim_cur: libc::RLIM_INFINITY, rlim_max: libc::RLIM_INFINITY };
    // SAFETY: `limit` is ours to write.
    let rc = unsafe { libc::getrlimit(resource as _, &mut limit) };
    if rc != 0 || limit.rlim_cur == libc::RLIM_INFINITY {
        return None;
    }
    let used = fs::read_to_string("/proc/self/statm")
        .ok()
        .and_then(|s| s.split_whitespace().nth(column)?.parse::<usize>().ok())
        .unwrap_or(0);
    let limit = usize::try_from(limit.rlim_cur).unwrap_or(usize::MAX);
    Some(limit.saturating_sub(used * page_size()))
}

fn commit_left() -> Option<usize> {
    let mode = fs::read_to_string("/proc/sys/vm/overcommit_memory").ok()?;
    if mode.trim() != "2" {
        return None;
    }
    let info = fs::read_to_string("/proc/meminfo").ok()?;
    let kib = |name: &str| -> Option<usize> {
        let line = info.lines().find(|line| line.starts_with(name))?;
        line.split_whitespace().nth(1)?.parse().ok()
    };
    let left = kib("CommitLimit:")?.saturating_sub(kib("Committed_AS:")?);
    Some(left << 10)
}

/// How many mappings a process may have (`vm.max_map_count`).
pub(crate) fn max_map_count() -> usize {
    const KERNEL_DEFAULT: usize = 65_530;
    fs::read_to_string("/proc/sys/vm/max_map_count")
        .ok()
        .and_then(|s| s.trim().parse().ok())
        .unwrap_or(KERNEL_DEFAULT)
}

/// A run of pages that a [`PageMap::scan`] found.
#[repr(C)]
#[derive(Clone, Copy, Debug, Default)]
pub(crate) struct PageRun {
    pub(crate) start: u64,
    pub(crate) end: u64,
    categories: u64,
}

/// Our page tables, open for questions (`PAGEMAP_SCAN`, Linux 6.7).
#[derive(Debug)]
pub(crate) struct PageMap(File);

/// `struct pm_scan_arg` of `linux/fs.h`.
#[repr(C)]
#[derive(Default)]
struct PmScanArg {
    size: u64,
    flags: u64,
    start: u64,
    end: u64,
    walk_end: u64,
    vec: u64,
    vec_len: u64,
    max_pages: u64,
    category_inverted: u64,
    category_mask: u64,
    category_anyof_mask: u64,
    return_mask: u64,
}

impl PageMap {
    pub(crate) fn open() -> io::Result<PageMap> {
        File::open("/proc/self/pagemap").map(PageMap)
    }

    /// Writes to `out` the runs of pages in `[start, end)` that exist, in memory or in swap, in
    /// order. Returns the number of runs and where it stopped: at `end`, or earlier with `out`
    /// full. Guards may be among them.
    ///
    /// # Errors
    /// `ENOTTY` before Linux 6.7.
    pub(crate) fn scan(
        &self,
        start: usize,
        end: usize,
        out: &mut [PageRun],
    ) -> io::Result<(usize, usize)> {
        const PRESENT: u64 = 1 << 3;
        const SWAPPED: u64 = 1 << 4;
        let mut arg = PmScanArg {
            size: size_of::<PmScanArg>() as u64,
            start: start as u64,
            end: end as u64,
            vec: out.as_mut_ptr() as u64,
            vec_len: out.len() as u64,
            category_anyof_mask: PRESENT | SWAPPED,
            return_mask: PRESENT,
            ..PmScanArg::default()
        };
        let request = libc::_IOWR::<PmScanArg>(u32::from(b'f'), 16);
        // SAFETY:
        // - `arg` is the structure that the request names, and live for the call.
        // - the kernel writes at most `vec_len` runs to `vec`, which `out` owns and which any bit
        //   pattern initialises.
        let runs = unsafe { libc::ioctl(self.0.as_raw_fd(), request, &mut arg) };
        check(runs)?;
        Ok((runs as usize, arg.walk_end as usize))
    }
}

/// How many bytes of memory the process holds; `None` if the kernel does not say.
pub(crate) fn held() -> Option<usize> {
    let statm = fs::read_to_string("/proc/self/statm").ok()?;
    Some(statm.split_whitespace().nth(1)?.parse::<usize>().ok()? * page_size())
}

/// Says for each page from `addr` on whether it is in memory: bit 0 of each byte of `out`.
pub(crate) fn resident(addr: usize, out: &mut [u8]) -> io::Result<()> {
    // SAFETY: the kernel reads page tables, not the range, and writes one byte a page to `out`.
    let rc = unsafe {
        libc::mincore(
            ptr::with_exposed_provenance_mut(addr),
            out.len() * page_size(),
            out.as_mut_ptr().cast(),
        )
    };
    check(rc)
}

fn check(rc: libc::c_int) -> io::Result<()> {
    if rc < 0 { Err(io::Error::last_os_error()) } else { Ok(()) }
}
