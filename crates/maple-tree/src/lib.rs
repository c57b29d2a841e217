//! Under construction.
#![no_std]

extern crate alloc;

mod build;
mod clone_fn;
mod collect;
mod cursor;
mod dump;
mod duplicate;
mod entry;
mod error;
mod gap;
mod iter;
mod node;
#[cfg(small_nodes)]
pub mod paths;
#[cfg(not(small_nodes))]
mod paths;
mod pool;
mod prealloc;
mod range;
mod source;
mod tree;
mod validate;
mod walk;
mod write;

pub use collect::IntoIter;
pub use cursor::{Cursor, CursorMut};
pub use dump::Dump;
pub use entry::Entry;
pub use error::{DuplicateError, Occupied, OutOfNodes, StoreError, StoreErrorKind};
pub use gap::{Alignment, GapRequest};
pub use iter::{Gaps, Iter, Segments};
pub use node::NodeMemory;
pub use prealloc::Preallocation;
pub use range::{EmptyRange, IndexRange};
pub use source::{HeapNodes, NodeSource};
pub use tree::{MapleTree, Segment};
pub use validate::{Invariant, Violation};
