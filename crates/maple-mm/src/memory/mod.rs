//! Where mappings and the nodes of their trees live, and the counted pointer to a mapping.

mod nodes;
mod pool;
mod source;
mod vma_ref;

pub use nodes::TreeNodes;
pub(crate) use pool::Batch;
pub use pool::VmaPool;
pub(crate) use source::HEAP_POOL;
pub use source::{HeapChunks, VmaSource};
pub use vma_ref::VmaRef;
