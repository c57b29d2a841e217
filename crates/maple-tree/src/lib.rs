//! A map from *ranges* of `u64` to values: a B-tree after Linux's maple tree.
//!
//! Kernels, hypervisors, emulators and debuggers keep the memory areas of a
//! process in such a map; symbol tables, extent maps and id allocators are of
//! the same kind. [`MapleTree`] is that map as a `no_std` library; with feature
//! `rcu`, `RcuMapleTree` is the same map with readers that never wait for its
//! writer.
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
//! The chapters: [ranges](#ranges), [gaps](#gaps), [values](#values),
//! [snapshots and duplicates](#snapshots-and-duplicates),
//! [running out of memory](#running-out-of-memory),
//! [what a reader may see](#what-a-reader-may-see), [what is inside](#what-is-inside),
//! [features](#features-and-dependencies), [where to go on](#where-to-go-on).
//!
//! # Ranges
//!
//! A key is an [`IndexRange`]: inclusive, never empty, anywhere from 0 to
//! `u64::MAX`, both included, so that the last page of an address space is a range
//! like any other. `try_from(start..end)` makes one of an exclusive end.
//!
//! Each index holds one entry or none. [`insert`](MapleTree::insert) wants a range
//! that is vacant. [`store`](MapleTree::store) overwrites whatever is there, and
//! [`remove`](MapleTree::remove) empties it; what reaches out of the range keeps
//! what lies outside:
//!
//! ```text
//!              0123456789abcdef
//!  before      AAAA.BBBBBBB..CC
//!  store D       *********
//!  after       AADDDDDDDDDB..CC
//! ```
//!
//! [`store_with`](MapleTree::store_with) shows each part before it goes. Equal
//! neighbours are not merged, as what is equal is the caller's to say;
//! [`store_coalescing`](MapleTree::store_coalescing) merges them.
//!
//! # Gaps
//!
//! What lies between entries is a *gap*. [`find`](MapleTree::find) returns the entry
//! or gap around an index, as a [`Segment`]; [`gaps`](MapleTree::gaps) and
//! [`segments`](MapleTree::segments) iterate. [`lowest_gap`](MapleTree::lowest_gap)
//! and [`highest_gap`](MapleTree::highest_gap) find room for a length, within a
//! window and aligned as a [`GapRequest`] says;
//! [`allocate_lowest`](MapleTree::allocate_lowest) and its neighbours store there
//! right away, and [`allocate_cyclic`](MapleTree::allocate_cyclic) hands out ids.
//!
//! Such a search takes logarithmic time in a tree made by
//! [`with_gaps`](MapleTree::with_gaps), which keeps the longest gap below each
//! child. In one made by [`new`](MapleTree::new) it looks at one gap after the
//! other; for that its nodes hold more children, and writes have less to keep.
//!
//! # Values
//!
//! A value is one machine word, an [`Entry`]: a `Box`, an `Arc`, a `&'static`, a
//! number, a `char`. What is larger goes behind a pointer. The tree owns its values
//! and drops them when they are overwritten. Where an entry is cut in two the second
//! part gets a clone; so what depends on where an entry begins does not belong into
//! the value.
//!
//! # Snapshots and duplicates
//!
//! There are four ways to make a second tree:
//!
//! | how | cost | when |
//! |---|---|---|
//! | [`snapshot`](MapleTree::snapshot) | O(1), no memory | one moment to look at, to go back to, or to go on from; the first write to a path copies it |
//! | [`duplicate`](MapleTree::duplicate) | O(n), node by node | nothing is to be shared afterwards |
//! | [`duplicate_with`](MapleTree::duplicate_with) | O(n), each node written once | values change on the way, or are left out, or one may be refused |
//! | [`from_sorted`](MapleTree::from_sorted), `collect` | O(n) | the entries come from elsewhere |
//!
//! A snapshot is a tree like any other: it can be written to, sent to another
//! thread, and dropped in any order. [`overlay`](MapleTree::overlay) says what
//! differs between two trees.
//!
//! # Running out of memory
//!
//! Nodes come from a [`NodeSource`], which may have none left. Every write then says
//! so, hands the value back, and leaves the content as it was: it finds out what it
//! needs and reserves that before it begins. After
//! [`preallocate`](MapleTree::preallocate) a number of writes cannot fail, whatever
//! they are: for changes that must be made whole or not at all. Look-ups, iteration,
//! [`snapshot`](MapleTree::snapshot) and [`clear`](MapleTree::clear) take no memory.
//!
//! `collect` and `extend` have no way to say so, and panic;
//! [`try_extend`](MapleTree::try_extend) has. `clone` is a snapshot.
//!
//! # What a reader may see
//!
//! A [`MapleTree`] is read through `&` and written through `&mut`: nobody reads while
//! it is written, and threads share it behind a lock, or by snapshots.
//!
//! An `RcuMapleTree` (feature `rcu`) is read and written at the same time. A writer
//! takes a lock, which readers do not know of: `read` enters, `get` and the rest walk
//! the tree as it is at that moment. They take no lock, write to nothing that
//! others read, and never start over, whatever the writer does. For that
//!
//! - **a look-up sees a value that the index held at some moment during the
//!   look-up.** Who looks again sees the same or what came later, never what was before.
//! - **a write is seen whole or not at all by an iteration** in one direction, over
//!   however many entries it goes. The iteration meets each index once, in order.
//! - **two writes may be seen in another order by an iteration**: it may have passed
//!   the place of the first when that was made, and find the second further on. Who
//!   needs one moment for the whole tree takes a snapshot, in O(1).
//! - **what was found stays** for as long as the reader, even if it is overwritten
//!   meanwhile. Values are dropped when nobody looks any more.
//!
//! ```text
//!  before            one store                        when they are gone
//!
//!   branch            branch                           branch
//!   |    |            |    |                           |    |
//!  old  leaf         new  leaf    old <- readers      new  leaf    old is freed
//!                                        from before
//! ```
//!
//! Searching for gaps is the writer's, or a snapshot's: readers have no use for a place
//! that is taken by the time they know of it.
//!
//! Who decides that nobody looks any more is an [`Rcu`]: `EpochRcu` (feature
//! `crossbeam`) for programs with threads, `LocalRcu` for one thread, or a kernel's own.
//! A reader that stays holds back the memory of all that is cut out meanwhile;
//! it never holds back the writer.
//!
//! # What is inside
//!
//! Nodes are 256 bytes, aligned to 256, and have no parent pointers, so that trees can
//! share them. A leaf has up to 15 slots, each an entry or a hole between two, or, where
//! most entries do not touch, up to 10 entries, each with both its bounds; it begins
//! and ends with an entry. A branch has up to 16 children, or 10 with the longest gap
//! below each:
//!
//! ```text
//!  leaf    | owners, bits, count | lower | last 0 .. last 14   | entry 0 .. entry 14 |
//!  leaf    | owners, bits, count | last 0 .. 9 | entry 0 .. 9  | first 0 .. first 9  |
//!  branch  | owners,       count | pivot 0 .. pivot 14         | child 0 .. child 15 |
//!  branch  | owners,       count | pivot 0 .. 8 | child 0 .. 9 | gap 0 .. gap 9      |
//!
//!            branch  | pivot 0x3fff | pivot 0x9fff |     (the last is u64::MAX)
//!                    v              v              v
//!  leaf 0x1000..=0x1fff A    leaf 0x5000.. D    leaf 0xc000.. G
//!       0x2000..=0x2fff B         (hole)             ..
//!       0x3000..=0x3fff C         0x9000.. F
//!                           ^ the hole before D belongs to D's leaf
//! ```
//!
//! A pivot is the last index of the last entry below it, so a hole belongs to exactly
//! one leaf, and gaps are exact. [`dump`](MapleTree::dump) prints this of any tree, and
//! [`validate`](MapleTree::validate) checks what has to hold of it, by name
//! ([`Invariant`]).
//!
//! A node with one owner is changed in place. One with several, or one that a lock-free
//! reader may look at, is replaced: its successor is made aside and put into its place
//! by a single store.
//!
//! # Features and dependencies
//!
//! No feature is on by default, and then there are two dependencies, `arrayvec` and `spin`.
//!
//! | feature | brings | needs |
//! |---|---|---|
//! | `rcu` | `RcuMapleTree`, with any lock of `lock_api` and any [`Rcu`]; `Publisher`, for who has a lock already | no `std` |
//! | `crossbeam` | `SyncMapleTree`, the same with `crossbeam-epoch` and `parking_lot` | `std` |
//! | `serde` | ranges and trees, which are sequences of `[first, last, value]` | no `std` |
//! | `arbitrary` | ranges, gap requests and trees out of a fuzzer's bytes | `std` |
//!
//! `alloc` is needed only for [`HeapNodes`], the default [`NodeSource`], for
//! [`GlobalNodes`], and for [`MapleTree::validate_family`].
//!
//! # Where to go on
//!
//! - The page of [`MapleTree`] lists its methods by what they are for.
//! - The repository's `crates/maple-tree/examples` has whole programs: `vma_map` (the areas of a
//!   process, `mprotect` and `fork`), `ids`, `extents` (a file's, with what changed since a
//!   snapshot), `symbols` (asked by many threads while modules come and go), and `kernel`
//!   (RCU, lock and nodes of one's own, all in statics).
//! - Those who come from Linux find each of its functions in [`compat`].
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
    LocalGuard, LocalRcu, Published, Publisher, RcuMapleTree, Reader, Writer, WriterCursor,
    WriterPreallocation,
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
