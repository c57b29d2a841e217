//! Where mappings live: a pool of small blocks, and the counted pointer to one.

mod pool;
mod source;
mod vma_ref;

pub(crate) use pool::Batch;
pub use pool::VmaPool;
pub(crate) use source::HEAP_POOL;
pub use source::{HeapChunks, VmaSource};
pub use vma_ref::VmaRef;
