//! The names of functions, by addresses in their code: from the symbol tables of the files that are mapped there.
//!
//! std has all this, and more (lines, and what was inlined), and lets nobody use it for addresses of one's own. For
//! a report that is written once this is enough. A program that was stripped has no names.

use std::collections::HashMap;
use std::fs::{self, File};
use std::os::unix::fs::FileExt;
use std::path::PathBuf;

/// The name of the function to which each of these return addresses belongs, if it can be found.
pub(crate) fn of(addresses: &[usize]) -> Vec<Option<String>> {
    let maps = fs::read_to_string("/proc/self/maps").unwrap_or_default();
    let mut files: HashMap<PathBuf, Option<Table>> = HashMap::new();
    let mut name = |address: usize| {
        // A return address is that of the next instruction, which may be another function's.
        let address = address.checked_sub(1)? as u64;
        let (path, offset) = maps.lines().find_map(|line| mapped(line, address))?;
        let table = files.entry(path.clone()).or_insert_with(|| Table::read(&path));
        table.as_ref()?.name_at(offset)
    };
    addresses.iter().map(|address| name(*address)).collect()
}

/// The file that this line of `/proc/self/maps` says is mapped at the address, and where in the file that is.
fn mapped(line: &str, address: u64) -> Option<(PathBuf, u64)> {
    let mut words = line.splitn(6, ' ');
    let (start, end) = words.next()?.split_once('-')?;
    let (start, end) = (u64::from_str_radix(start, 16).ok()?, u64::from_str_radix(end, 16).ok()?);
    let offset = u64::from_str_radix(words.nth(1)?, 16).ok()?;
    let path = words.nth(2)?.trim_start();
    ((start..end).contains(&address) && path.starts_with('/'))
        .then(|| (path.into(), address - start + offset))
}

/// The functions of an ELF file.
struct Table {
    /// Offset in the file, length, and where in `names`.
    functions: Vec<(u64, u64, usize)>,
    names: Vec<u8>,
}

impl Table {
    fn read(path: &PathBuf) -> Option<Table> {
        const LOAD: u32 = 1;
        const SYMTAB: u32 = 2;
        /// What is left of it in a library that was stripped.
        const DYNSYM: u32 = 11;
        const FUNCTION: u8 = 2;
        let file = File::open(path).ok()?;
        let part = |at: u64, len: u64| {
            // No table is as large as this; a broken file may say so.
            let mut bytes = vec![0; usize::try_from(len).ok().filter(|len| *len < 1 << 30)?];
            file.read_exact_at(&mut bytes, at).ok()?;
            Some(bytes)
        };
        let header = part(0, 64)?;
        if header[..6] != *b"\x7fELF\x02\x01" {
            return None;
        }
        let segments = part(long(&header, 32)?, 56 * u64::from(short(&header, 56)?))?;
        let sections = part(long(&header, 40)?, 64 * u64::from(short(&header, 60)?))?;
        let loads: Vec<(u64, u64, u64)> = segments
            .chunks_exact(56)
            .filter(|segment| word(segment, 0) == Some(LOAD))
            .filter_map(|s| Some((long(s, 16)?, long(s, 32)?, long(s, 8)?)))
            .collect();
        let of_kind = |kind| sections.chunks_exact(64).find(|s| word(s, 4) == Some(kind));
        let symtab = of_kind(SYMTAB).or_else(|| of_kind(DYNSYM))?;
        let strtab = sections.chunks_exact(64).nth(word(symtab, 40)? as usize)?;
        let names = part(long(strtab, 24)?, long(strtab, 32)?)?;
        let symbols = part(long(symtab, 24)?, long(symtab, 32)?)?;
        let functions = symbols
            .chunks_exact(24)
            .filter(|symbol| symbol[4] & 0xf == FUNCTION)
            .filter_map(|symbol| {
                let (value, len) = (long(symbol, 8)?, long(symbol, 16)?);
                let (start, _, offset) =
                    loads.iter().find(|(start, len, _)| (*start..start + len).contains(&value))?;
                Some((value - start + offset, len, word(symbol, 0)? as usize))
            })
            .collect();
        Some(Table { functions, names })
    }

    fn name_at(&self, offset: u64) -> Option<String> {
        let (.., at) = self
            .functions
            .iter()
            .find(|(start, len, _)| (*start..start + len).contains(&offset))?;
        let name = self.names.get(*at..)?.split(|byte| *byte == 0).next()?;
        let name = std::str::from_utf8(name).ok()?;
        // Without the hash at the end.
        Some(format!("{:#}", rustc_demangle::demangle(name)))
    }
}

fn short(bytes: &[u8], at: usize) -> Option<u16> {
    Some(u16::from_le_bytes(bytes.get(at..at + 2)?.try_into().ok()?))
}

fn word(bytes: &[u8], at: usize) -> Option<u32> {
    Some(u32::from_le_bytes(bytes.get(at..at + 4)?.try_into().ok()?))
}

fn long(bytes: &[u8], at: usize) -> Option<u64> {
    Some(u64::from_le_bytes(bytes.get(at..at + 8)?.try_into().ok()?))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_function_is_found_by_an_address_in_it() {
        let this: fn() = a_function_is_found_by_an_address_in_it;
        let names = of(&[this as usize + 2, 1, 0, usize::MAX]);
        let name = names[0].as_deref().unwrap();
        assert!(
            name.ends_with("symbols::tests::a_function_is_found_by_an_address_in_it"),
            "{name}"
        );
        assert_eq!(names[1..], [None, None, None]);
    }

    #[test]
    fn lines_of_maps_are_understood() {
        let line = "7f00-8f00 r-xp 00001000 fe:01 123456                     /usr/lib/a b.so";
        assert_eq!(mapped(line, 0x7f10), Some(("/usr/lib/a b.so".into(), 0x1010)));
        assert_eq!(mapped(line, 0x8f00), None);
        assert_eq!(mapped("7f00-8f00 rw-p 00000000 00:00 0 [heap]", 0x7f10), None);
        assert_eq!(mapped("7f00-8f00 rw-p 00000000 00:00 0", 0x7f10), None);
        assert_eq!(mapped("", 0), None);
    }
}
