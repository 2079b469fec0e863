//! Whose stack an address is on: each thread's is a mapping of its own, with a guard between it and the next.

use std::fs;
use std::ops::Range;

/// What was mapped when it was asked.
pub(crate) struct Mappings(String);

/// One stretch of mapped memory.
#[derive(Debug, PartialEq, Eq)]
pub(crate) struct Mapping {
    pub(crate) range: Range<usize>,
    /// The kernel has made it for the main thread.
    pub(crate) is_main_stack: bool,
}

impl Mappings {
    pub(crate) fn read() -> Mappings {
        Mappings(fs::read_to_string("/proc/self/maps").unwrap_or_default())
    }

    /// The one that an address is in.
    pub(crate) fn around(&self, address: usize) -> Option<Mapping> {
        self.0.lines().filter_map(parse).find(|mapping| mapping.range.contains(&address))
    }
}

/// `7ffd5c000000-7ffd5c021000 rw-p 00000000 00:00 0   [stack]`
fn parse(line: &str) -> Option<Mapping> {
    let (range, rest) = line.split_once(' ')?;
    let (start, end) = range.split_once('-')?;
    let address = |digits| usize::from_str_radix(digits, 16).ok();
    Some(Mapping {
        range: address(start)?..address(end)?,
        is_main_stack: rest.trim_end().ends_with(" [stack]"),
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_kernels_lines_are_understood() {
        let line =
            "7ffd5c000000-7ffd5c021000 rw-p 00000000 00:00 0                          [stack]";
        let stack = Mapping { range: 0x7ffd_5c00_0000..0x7ffd_5c02_1000, is_main_stack: true };
        assert_eq!(parse(line), Some(stack));
        let anonymous = Mapping { range: 0x1000..0x2000, is_main_stack: false };
        assert_eq!(parse("1000-2000 rw-p 00000000 00:00 0 "), Some(anonymous));
        assert_eq!(parse(""), None);
    }

    #[test]
    fn two_threads_have_two_stacks() {
        let on_stack = || {
            let local = 0_u8;
            let address = (&raw const local).addr();
            let mappings = Mappings::read();
            (address, mappings.around(address).expect("it is mapped"))
        };
        let (here, ours) = on_stack();
        std::thread::scope(|s| {
            let (there, its) = s.spawn(on_stack).join().unwrap();
            assert!(ours.range.contains(&here) && !ours.range.contains(&there));
            assert!(its.range.contains(&there) && !its.range.contains(&here));
            assert!(!its.is_main_stack);
        });
    }
}
