//! A map from *ranges* of `u64` to values: a B-tree after Linux's maple tree.
//!
//! Kernels, hypervisors, emulators and debuggers keep the memory areas of a
//! process in such a map; symbol tables, extent maps and id allocators are of
//! the same kind. [`MapleTree`] is that map as a `no_std` library:
//!
//! - **Ranges.** Keys are inclusive ranges, [`IndexRange`], anywhere from 0 to
//!   `u64::MAX`, both included. Storing over a range overwrites what is there
//!   and cuts what reaches out of it. Equal neighbours are not merged: that is
//!   the caller's choice.
//! - **Gaps.** A look-up can return the gap around an index as well as the
//!   entry ([`MapleTree::find`]). A tree made by [`MapleTree::with_gaps`] finds
//!   the lowest or highest place where a length fits in logarithmic time.
//! - **Snapshots.** [`MapleTree::snapshot`] is O(1). Both sides share nodes and
//!   copy on write, only the path that a write changes.
//! - **Failure.** Every write can run out of memory, says so, hands the value
//!   back, and leaves the content as it was. After [`MapleTree::preallocate`]
//!   writes cannot fail.
//! - **Duplication.** [`MapleTree::duplicate`] copies node by node;
//!   [`MapleTree::duplicate_with`] maps, drops or refuses each entry in one pass.
//!
//! ```
//! use core::num::NonZeroU64;
//! use maple_tree::{GapRequest, IndexRange, MapleTree};
//!
//! let mut areas = MapleTree::with_gaps();
//! areas.insert(IndexRange::new(0x1_0000, 0x1_ffff).unwrap(), "text".len())?;
//! areas.insert(IndexRange::new(0x4_0000, 0x4_ffff).unwrap(), "heap".len())?;
//!
//! // Where would 64 KiB fit, as low as possible, above the text?
//! let request = GapRequest::new(NonZeroU64::new(0x1_0000).unwrap())
//!     .within(IndexRange::new(0x2_0000, u64::MAX).unwrap());
//! let place = areas.lowest_gap(&request).unwrap();
//! assert_eq!(place.first(), 0x2_0000);
//!
//! // A snapshot does not see what happens after it.
//! let before = areas.snapshot();
//! areas.store(place, 7)?;
//! assert_eq!((areas.len(), before.len()), (3, 2));
//! # Ok::<(), maple_tree::StoreError<usize>>(())
//! ```
//!
//! # What is inside
//!
//! Nodes are 256 bytes, aligned to 256, and have no parent pointers, so that
//! trees can share them. A leaf has up to 15 slots, each an entry or a hole
//! between two; it begins and ends with an entry. A branch has up to 16
//! children, or 10 with the longest gap below each:
//!
//! ```text
//!            branch  | pivot 0x3fff | pivot 0x9fff |     (the last is u64::MAX)
//!                    v              v              v
//!  leaf 0x1000..=0x1fff A    leaf 0x5000.. D    leaf 0xc000.. G
//!       0x2000..=0x2fff B         (hole)             ..
//!       0x3000..=0x3fff C         0x9000.. F
//!                           ^ the hole before D belongs to D's leaf
//! ```
//!
//! A pivot is the last index of the last entry below it, so a hole belongs to
//! exactly one leaf, and gaps are exact.
//!
//! Those who come from Linux find each of its functions in [`compat`].
//!
//! # Features and dependencies
//!
//! No feature is on by default, and then there is one dependency, `arrayvec`.
//!
//! - `serde`: ranges and trees can be serialised; a tree is a sequence of
//!   `[first, last, value]`. Needs no `std`.
//! - `arbitrary`: ranges, gap requests and trees can be made of a fuzzer's bytes.
//!   This one brings `std` in.
//!
//! - `rcu`: `RcuMapleTree`, which readers look at while it is written, with any
//!   lock (`lock_api`) and any [`Rcu`]. Needs no `std`.
//! - `crossbeam`: `SyncMapleTree`, the same with `crossbeam-epoch` and `parking_lot`.
//!   This one brings `std` in.
//!
//! `alloc` is needed only for [`HeapNodes`], the default [`NodeSource`], for
//! [`GlobalNodes`], and for
//! [`MapleTree::validate_family`].
#![no_std]

extern crate alloc;

mod allocate;
#[cfg(feature = "arbitrary")]
mod arbitrary;
mod build;
mod clone_fn;
mod coalesce;
mod collect;
pub mod compat;
mod conversions;
mod cursor;
mod dump;
mod duplicate;
mod entry;
mod error;
mod gap;
mod ids;
mod iter;
mod limbo;
mod node;
mod overlay;
#[cfg(small_nodes)]
pub mod paths;
#[cfg(not(small_nodes))]
mod paths;
mod pool;
mod prealloc;
mod range;
mod range_mut;
mod rcu;
mod retain;
#[cfg(feature = "serde")]
mod serde;
mod slab;
mod slot;
mod sorted;
mod source;
mod split;
#[cfg(any(loom, shuttle))]
pub mod sync;
#[cfg(not(any(loom, shuttle)))]
mod sync;
mod tree;
mod validate;
mod view;
mod walk;
mod write;

pub use collect::IntoIter;
pub use conversions::{EmptyRange, NoExclusiveEnd, NotSingle};
pub use cursor::{Cursor, CursorMut};
pub use dump::Dump;
pub use entry::Entry;
pub use error::{
    AllocateError, AllocateErrorKind, AppendError, DuplicateError, Occupied, OutOfNodes,
    SortedError, StoreError, StoreErrorKind,
};
pub use gap::{Alignment, GapRequest};
pub use iter::{Gaps, Iter, Segments};
pub use node::NodeMemory;
pub use overlay::{Overlaid, Overlay};
pub use prealloc::Preallocation;
pub use range::IndexRange;
#[cfg(feature = "crossbeam")]
pub use rcu::{EpochRcu, SyncMapleTree};
#[cfg(feature = "rcu")]
pub use rcu::{
    LocalGuard, LocalRcu, RcuMapleTree, Reader, Writer, WriterCursor, WriterPreallocation,
};
pub use rcu::{Rcu, RcuHead, RcuList};
#[cfg(feature = "serde")]
pub use serde::TreeSeed;
pub use slot::{GapEntry, OccupiedEntry, SlotEntry};
pub use source::{GlobalNodes, HeapNodes, NodeSource};
pub use tree::{MapleTree, Segment};
pub use validate::{Invariant, Violation};

/// The example of the repository's README is compiled and run with the others.
#[cfg(doctest)]
#[doc = include_str!("../../../README.md")]
pub struct ReadmeExample;
