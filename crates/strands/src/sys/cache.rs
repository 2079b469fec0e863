//! Telling the processor what will be needed.
//!
//! With a hundred thousand goroutines nothing of one that has slept is in a cache, and its page is not in the TLB: in a
//! virtual machine, looking that up takes several accesses to memory, one after the other, half a microsecond in all.
//! A prefetch does not wait for the line, but it does wait for the page. So one hint just before the use gains little;
//! a loop of hints for several pages has the processor look them up side by side, at a tenth of the price each.

/// The size of a cache line, or near enough for a hint.
const LINE: usize = 64;

/// Has the processor fetch so many cache lines from `address` upwards, while it does something else.
#[inline(always)]
pub(crate) fn prefetch(address: usize, lines: usize) {
    #[cfg(target_arch = "x86_64")]
    {
        use std::arch::x86_64::{_MM_HINT_T0, _mm_prefetch};
        for line in 0..lines {
            let at = std::ptr::without_provenance::<i8>(address.wrapping_add(line * LINE));
            // SAFETY: a prefetch is a hint: it neither faults nor reads, whatever the address.
            unsafe { _mm_prefetch::<_MM_HINT_T0>(at) };
        }
    }
    #[cfg(not(target_arch = "x86_64"))]
    let _ = (address, lines, LINE);
}
