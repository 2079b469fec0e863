//! Which CPUs there are for whoever asks, and keeping to some of them.

/// The CPUs that this thread may use.
pub(crate) fn allowed() -> Vec<usize> {
    // SAFETY: a zeroed cpu_set_t is the empty set; the call stays within it and this thread.
    let allowed = unsafe {
        let mut allowed: libc::cpu_set_t = std::mem::zeroed();
        libc::sched_getaffinity(0, size_of::<libc::cpu_set_t>(), &mut allowed);
        allowed
    };
    // SAFETY: there are such bits.
    (0..libc::CPU_SETSIZE as usize)
        .filter(|&cpu| unsafe { libc::CPU_ISSET(cpu, &allowed) })
        .collect()
}

/// Confines this thread, and those that it starts, to these.
pub(crate) fn confine(cpus: &[usize]) {
    // SAFETY: a zeroed cpu_set_t is the empty set; all calls stay within it and this thread.
    let status = unsafe {
        let mut chosen: libc::cpu_set_t = std::mem::zeroed();
        cpus.iter().for_each(|&cpu| libc::CPU_SET(cpu, &mut chosen));
        libc::sched_setaffinity(0, size_of::<libc::cpu_set_t>(), &chosen)
    };
    assert_eq!(status, 0, "sched_setaffinity");
}
