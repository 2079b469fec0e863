//! What a stack is: its [`Class`], the [`Slot`] that owns it and the [`SlotRef`] that names it.

use std::fmt;
use std::io;
use std::ops::{Deref, Range};

use crate::sys::mem;

/// A size of slots: a power of two from 64 KiB to 1 GiB.
///
/// The size includes the guard and whatever the runtime keeps at the top.
#[derive(Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub(crate) struct Class(u8);

impl Class {
    /// How many there are.
    pub(crate) const COUNT: usize = 15;
    /// 8 MiB, what a main thread has.
    pub(crate) const DEFAULT: Class = Class(7);

    const SMALLEST: usize = 64 << 10;
    const LARGEST: usize = Self::SMALLEST << (Self::COUNT - 1);

    /// The class with room for `bytes`, guard and bookkeeping included.
    ///
    /// # Errors
    /// [`InvalidInput`](io::ErrorKind::InvalidInput) below 4 KiB, where the number is more likely
    /// a mistake in units than a wish, and above 1 GiB.
    pub(crate) fn for_size(bytes: usize) -> io::Result<Class> {
        const FEWEST: usize = 4 << 10;
        if !(FEWEST..=Self::LARGEST).contains(&bytes) {
            return Err(io::Error::new(
                io::ErrorKind::InvalidInput,
                format!(
                    "a stack size of {bytes} bytes: sizes from {FEWEST} (4 KiB) to {} (1 GiB) \
                     are accepted, and rounded up to a power of two of at least 64 KiB",
                    Self::LARGEST
                ),
            ));
        }
        // Where pages are large, a guard must not be all there is.
        let smallest = Self::SMALLEST.max(4 * mem::page_size());
        let size = bytes.max(smallest).next_power_of_two();
        Ok(Class((size / Self::SMALLEST).trailing_zeros() as u8))
    }

    /// Every class, smallest first.
    pub(crate) fn all() -> impl Iterator<Item = Class> {
        (0..Self::COUNT as u8).map(Class)
    }

    /// The bytes from one slot to the next.
    #[inline]
    pub(crate) fn size(self) -> usize {
        Self::SMALLEST << self.0
    }

    /// Its place among the classes, below [`Class::COUNT`].
    #[inline]
    pub(crate) fn index(self) -> usize {
        usize::from(self.0)
    }

    /// log2 of the size.
    #[inline]
    pub(super) fn shift(self) -> u32 {
        Self::SMALLEST.trailing_zeros() + u32::from(self.0)
    }

    /// The length of the guard. Rust probes every page of a large frame, so one page stops it; C
    /// may step over a page, so the classes in which C will run have 64 KiB.
    #[inline]
    pub(crate) fn guard_len(self) -> usize {
        let page = mem::page_size();
        if self.size() < 1 << 20 { page } else { page.max(64 << 10) }
    }

    pub(super) fn from_index(index: usize) -> Class {
        debug_assert!(index < Self::COUNT);
        Class(index as u8)
    }
}

/// "64 KiB", "8 MiB", "1 GiB".
impl fmt::Display for Class {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let size = self.size();
        match size.trailing_zeros() {
            0..20 => write!(f, "{} KiB", size >> 10),
            20..30 => write!(f, "{} MiB", size >> 20),
            _ => write!(f, "{} GiB", size >> 30),
        }
    }
}

impl fmt::Debug for Class {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "Class({self})")
    }
}

/// The name of a slot: where it is, and of which class. It owns nothing, and says nothing about
/// whether anyone runs there.
///
/// One word, which leaves 8 bytes for an `Option<Slot>` and keeps free lists dense:
/// `{ base: 52, _: 3, colour: 5, class: 4 }`. A base is page-aligned, so its low twelve bits are
/// ours.
#[derive(Clone, Copy, PartialEq, Eq, Hash)]
pub(crate) struct SlotRef(std::num::NonZeroUsize);

impl SlotRef {
    const CLASS: usize = 0xf;
    const COLOUR_SHIFT: u32 = 4;
    const COLOURS: usize = 32;
    const COLOUR_STEP: usize = 64;
    const LOW: usize = 0xfff;

    /// The `index`-th slot of a region that starts at `region`.
    #[inline]
    pub(super) fn new(region: usize, class: Class, index: usize) -> SlotRef {
        let base = region + (index << class.shift());
        debug_assert_eq!(base & Self::LOW, 0);
        let colour = index % Self::COLOURS;
        let word = base | colour << Self::COLOUR_SHIFT | class.index();
        SlotRef(std::num::NonZeroUsize::new(word).expect("nothing is mapped at 0"))
    }

    /// Its class.
    #[inline]
    pub(crate) fn class(self) -> Class {
        Class((self.0.get() & Self::CLASS) as u8)
    }

    /// The bytes from its guard's start to its end.
    #[inline]
    pub(crate) fn size(self) -> usize {
        self.class().size()
    }

    /// Where its guard starts.
    #[inline]
    pub(crate) fn base(self) -> usize {
        self.0.get() & !Self::LOW
    }

    /// One past its last byte.
    #[inline]
    pub(crate) fn end(self) -> usize {
        self.base() + self.size()
    }

    /// The lowest usable address, just above the guard.
    #[inline]
    pub(crate) fn limit(self) -> usize {
        self.base() + self.class().guard_len()
    }

    /// Where the stack starts to grow downward: the end, lowered by the slot's colour. A multiple
    /// of 64, at most 1984 bytes below the end.
    #[inline]
    pub(crate) fn top(self) -> usize {
        let colour = (self.0.get() >> Self::COLOUR_SHIFT) % Self::COLOURS;
        self.end() - colour * Self::COLOUR_STEP
    }

    /// The addresses of its guard.
    #[inline]
    pub(crate) fn guard(self) -> Range<usize> {
        self.base()..self.limit()
    }
}

/// "0x7f12345f0000 (8 MiB)".
impl fmt::Debug for SlotRef {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{:#x} ({})", self.base(), self.class())
    }
}

/// A stack, owned: whoever holds this may use every byte from [`limit`](SlotRef::limit) to
/// [`end`](SlotRef::end), and its promise goes with it. It goes back to a
/// [`StackPool`](super::StackPool); dropping it loses the stack until the process ends, which is
/// safe, and right for a stack that somebody may still borrow from.
#[must_use = "a dropped slot is lost; give it back to a pool"]
#[derive(Debug, PartialEq, Eq)]
pub(crate) struct Slot(SlotRef);

impl Slot {
    /// # Safety
    /// No other `Slot` names the same stack, which is guarded.
    #[inline]
    pub(super) unsafe fn own(slot: SlotRef) -> Slot {
        Slot(slot)
    }

    /// The slot's name, for those who only look.
    #[inline]
    pub(crate) fn by_ref(&self) -> SlotRef {
        self.0
    }
}

impl Deref for Slot {
    type Target = SlotRef;

    #[inline]
    fn deref(&self) -> &SlotRef {
        &self.0
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn sizes_round_up_to_a_class() {
        let size = |bytes| Class::for_size(bytes).unwrap().size();
        assert_eq!(size(4096), 64 << 10);
        assert_eq!(size(64 << 10), 64 << 10);
        assert_eq!(size((64 << 10) + 1), 128 << 10);
        assert_eq!(size(5 << 20), 8 << 20);
        assert_eq!(size(1 << 30), 1 << 30);
        assert_eq!(Class::DEFAULT.size(), 8 << 20);
        assert_eq!(Class::all().last().unwrap().size(), 1 << 30);
    }

    #[test]
    fn a_size_out_of_range_names_the_range() {
        for bytes in [0, 1, 4095, (1 << 30) + 1, usize::MAX] {
            let error = Class::for_size(bytes).unwrap_err();
            assert_eq!(error.kind(), io::ErrorKind::InvalidInput);
            let text = error.to_string();
            assert!(text.contains("4 KiB") && text.contains("1 GiB"), "{text}");
        }
    }

    #[test]
    fn a_slot_is_one_word_that_says_it_all() {
        assert_eq!(size_of::<Option<Slot>>(), size_of::<usize>());
        let class = Class::for_size(1 << 20).unwrap();
        let slot = SlotRef::new(0x7000_0000_0000, class, 33);
        assert_eq!(slot.class(), class);
        assert_eq!(slot.base(), 0x7000_0000_0000 + (33 << 20));
        assert_eq!(slot.end(), slot.base() + (1 << 20));
        assert_eq!(slot.top(), slot.end() - 64);
        assert_eq!(slot.limit(), slot.base() + class.guard_len());
        assert_eq!(format!("{slot:?}"), "0x700002100000 (1 MiB)");
    }

    #[test]
    fn tops_go_around_in_32_colours() {
        let top = |index| {
            let slot = SlotRef::new(1 << 40, Class::DEFAULT, index);
            (slot.end() - slot.top(), slot.top() % 64)
        };
        assert_eq!(top(0), (0, 0));
        assert_eq!(top(31), (31 * 64, 0));
        assert_eq!(top(32), (0, 0));
    }
}
