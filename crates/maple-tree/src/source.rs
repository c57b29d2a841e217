//! [`NodeSource`]: where nodes come from. A cellar: it hands out raw memory.
#![expect(unsafe_code, reason = "allocates and frees raw node memory")]

use alloc::alloc::{Layout, alloc, dealloc};
use core::ptr::NonNull;

use crate::node::NodeMemory;

/// Where a tree's nodes come from. Allocation may fail; freeing may not.
///
/// A tree keeps a few nodes it has freed for its next writes, so the source is
/// asked less often than nodes come and go.
///
/// # Safety
///
/// - What `allocate` returns is memory for one [`NodeMemory`], aligned to it,
///   that nothing else uses until it is passed to `free`.
/// - If the source is `Clone`, memory from one may be freed by any clone, on
///   any thread the clone may be sent to.
///
/// # Examples
///
/// A source with a limit:
///
/// ```
/// use core::cell::Cell;
/// use core::ptr::NonNull;
/// use maple_tree::{HeapNodes, IndexRange, MapleTree, NodeMemory, NodeSource, StoreErrorKind};
///
/// struct Limited(Cell<usize>);
///
/// // SAFETY: passes on what `HeapNodes` hands out, and is not `Clone`.
/// unsafe impl NodeSource for Limited {
///     fn allocate(&self) -> Option<NonNull<NodeMemory>> {
///         self.0.set(self.0.get().checked_sub(1)?);
///         HeapNodes.allocate()
///     }
///     unsafe fn free(&self, node: NonNull<NodeMemory>) {
///         // SAFETY: it came from `HeapNodes`.
///         unsafe { HeapNodes.free(node) }
///     }
/// }
///
/// let mut tree = MapleTree::new_in(Limited(Cell::new(0)));
/// let refused = tree.insert(IndexRange::single(1), 1_u32).unwrap_err();
/// assert_eq!(refused.kind, StoreErrorKind::OutOfNodes);
/// ```
pub unsafe trait NodeSource {
    /// Returns memory for one node, or `None` if there is none.
    fn allocate(&self) -> Option<NonNull<NodeMemory>>;

    /// Takes the memory of a node back.
    ///
    /// # Safety
    ///
    /// - `node` came from `allocate` of this source or of a clone, was not
    ///   freed since, and nothing uses it any more.
    unsafe fn free(&self, node: NonNull<NodeMemory>);

    /// Passes memory for up to `wanted` nodes to `put`, one by one. Returns how
    /// many there were; fewer than asked for if there is no more.
    fn allocate_many(&self, wanted: usize, put: &mut dyn FnMut(NonNull<NodeMemory>)) -> usize {
        for done in 0..wanted {
            match self.allocate() {
                Some(node) => put(node),
                None => return done,
            }
        }
        wanted
    }

    /// Takes the memory of several nodes back.
    ///
    /// # Safety
    ///
    /// - As for [`free`](Self::free), for each of them.
    unsafe fn free_many(&self, nodes: &[NonNull<NodeMemory>]) {
        for &node in nodes {
            // SAFETY: the contract.
            unsafe { self.free(node) };
        }
    }
}

/// Nodes from the global allocator.
#[derive(Clone, Copy, Debug, Default)]
pub struct HeapNodes;

// SAFETY:
// - The global allocator returns memory of the layout asked for, or null.
// - It serves and frees on any thread.
unsafe impl NodeSource for HeapNodes {
    fn allocate(&self) -> Option<NonNull<NodeMemory>> {
        // SAFETY: the layout is not of size zero.
        let memory = unsafe { alloc(Layout::new::<NodeMemory>()) };
        NonNull::new(memory.cast())
    }

    unsafe fn free(&self, node: NonNull<NodeMemory>) {
        // SAFETY: `node` came from `allocate`, so from the same layout.
        unsafe { dealloc(node.as_ptr().cast(), Layout::new::<NodeMemory>()) }
    }
}
