//! Stacks: one page when a goroutine starts, more by page fault, fewer again when it has parked.
//!
//! A stack is a **slot**: a range of addresses of a fixed size, its [`Class`]. Addresses are free,
//! pages are not, so a slot is roomy (8 MiB by default, what a main thread has) and costs what has
//! been touched of it. Slots of a class lie side by side in **regions**, each one mapping that is
//! reserved at once and backed by nothing:
//!
//! ```text
//!        slot 0                              slot 1
//!  ├─────────────────────────────────┼─────────────────────────────────┼──
//!  │guard│                ◄── stack ─│guard│                ◄── stack ─│guard│
//!  └─────┴────────────────────▲───▲──┴─────┴────────────────────▲───▲──┴─────┘
//!        ▲ limit             sp   top      ▲                   sp   top
//!        │                                 │
//!        └─ a multiple of 2 MiB            └─ so is this
//! ```
//!
//! - The lowest page (16 in the classes from 1 MiB on) is a **guard**. `MADV_GUARD_INSTALL` makes it
//!   so without splitting the mapping; kernels before 6.13 split it, and we count. See `guard`.
//! - Slot boundaries sit one guard below a multiple of 2 MiB. The guard of a slot then shares its
//!   page-table page with the top of the slot below, and a parked goroutine with a slot of 2 MiB or
//!   more costs one page-table page, where boundaries at the multiple would cost two.
//! - Tops are **coloured**: 64 bytes lower from slot to slot, 32 times around. Otherwise the hot
//!   words of every goroutine fall into the same few cache sets; with 20,000 shallow stacks that is
//!   up to three times slower.
//! - No huge pages (a stack would cost its whole slot), no place in core dumps (terabytes).
//!
//! # What a first use costs
//!
//! About 3 µs of the kernel's time for a default stack (on a Zen 5 guest), against 20 ns for one that has been
//! used: a page-table page and a page, each found, counted and cleared (1.9 µs), and the guard's markers (0.5 µs for
//! one page, 0.8 for sixteen). Slots of 64 KiB, of which 32 share a page-table page, take 1.9 µs with all
//! that is ours. What does not help:
//!
//! - **Faulting in batches.** The exception is the cheap part: `MADV_POPULATE_WRITE` of one page takes longer (2.5 µs) than
//!   the fault that it saves (2.1 µs), and by `process_madvise`, for 500 stacks in one call, as long.
//! - **Two tops in one page-table page.** It spans 2 MiB, and between two tops lies the room of the upper stack.
//! - **Denser slots for goroutines that are known to need little.** Such knowledge is a guess, and one that goes
//!   deeper could neither grow, for its neighbour is in the way, nor be moved.
//!
//! So whoever has 100,000 goroutines wait at once pays a third of a second for their stacks, once. It also means that the
//! frames down to a wait should stay within the first page: one of 6 KiB costs every goroutine that goes
//! through it two pages more.
//!
//! # Who owns a slot
//!
//! ```text
//!   Stacks (shared) ──draw──► StackPool (a worker's) ──take──► Slot (a goroutine's)
//!          ◄──────────spill──          ◄───────────────give──
//! ```
//!
//! [`Slot`] is an owned handle: whoever has it may write to the stack. [`SlotRef`] names a slot
//! and owns nothing; lookups, dumps and the scanner hand those out.
//!
//! **Promises.** A goroutine is promised a slot when it is spawned, and gets one when it first runs.
//! [`Stacks::reserve`] is therefore where address space can run out, in the spawner's hands, and
//! [`StackPool::take`] never fails. The books balance by one rule:
//!
//! > every slot outside of `Stacks` is covered by a promise of its own, and promises never exceed
//! > the slots that are mapped.
//!
//! It covers the slots that workers keep for themselves too. Without that, a worker could be
//! refused a promised slot because its neighbour sits on a pile of them.
//!
//! # What is absent
//!
//! **Invariant:** nothing in here knows of goroutines, of workers' threads or of scheduling. The
//! header that a goroutine keeps below [`SlotRef::top`], the report on an overflow and the decision
//! when to trim belong to the layer above.
//!
//! **Rejected.** One mapping for each stack: at most 32,000 of them, and two mappings' worth of
//! kernel work each. Segmented and copied stacks: the one splits hot loops, the other needs to know
//! every pointer. Guards by `mprotect` only: `vm.max_map_count`, and then an unrelated `malloc` fails.

mod arena;
mod guard;
#[cfg(test)]
pub(crate) mod in_child;
mod overflow;
mod pool;
mod region;
mod scan;
mod slot;
mod table;

pub(crate) use arena::Stacks;
pub(crate) use guard::GuardMode;
pub(crate) use overflow::install as install_overflow_handler;
pub(crate) use pool::StackPool;
pub(crate) use scan::{Progress, Scanner, keep_at_top, release_below};
pub(crate) use slot::{Class, Slot, SlotRef};
pub(crate) use table::lookup;

pub(crate) use crate::sys::signal::{SigWriter, ensure_alt_stack};
