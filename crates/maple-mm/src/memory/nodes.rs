//! [`TreeNodes`]: the source of tree nodes that a machine was given. A cellar: passes raw memory
//! on.
#![expect(
    unsafe_code,
    reason = "`NodeSource` is an unsafe trait over raw memory"
)]

use core::fmt;
use core::ptr::NonNull;

use maple_tree::{HeapNodes, NodeMemory, NodeSource};

/// Where the trees of a machine's address spaces get their nodes.
///
/// PERF: a tree asks for many nodes at once, so the indirect call does not show.
///
/// # Examples
///
/// ```
/// use maple_mm::{System, SystemSettings, TreeNodes};
/// use maple_tree::GlobalNodes;
/// let nodes = TreeNodes::new(&GlobalNodes);
/// let system = System::new(SystemSettings::default()).with_nodes(nodes);
/// # let _ = system;
/// ```
#[derive(Clone, Copy)]
pub struct TreeNodes(&'static (dyn NodeSource + Sync));

impl TreeNodes {
    /// Nodes from one slab for the whole process.
    pub const HEAP: Self = Self(&HeapNodes);

    /// Nodes from `source`.
    #[must_use]
    pub const fn new(source: &'static (dyn NodeSource + Sync)) -> Self {
        Self(source)
    }
}

impl fmt::Debug for TreeNodes {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_tuple("TreeNodes").finish_non_exhaustive()
    }
}

// SAFETY: everything is passed on to one source, which keeps these promises; copies lead to that
// very source, which may be used on any thread.
unsafe impl NodeSource for TreeNodes {
    fn allocate(&self) -> Option<NonNull<NodeMemory>> {
        self.0.allocate()
    }

    fn allocate_many(&self, wanted: usize, put: &mut dyn FnMut(NonNull<NodeMemory>)) -> usize {
        self.0.allocate_many(wanted, put)
    }

    unsafe fn free(&self, node: NonNull<NodeMemory>) {
        // SAFETY: the contract is the source's.
        unsafe { self.0.free(node) }
    }

    unsafe fn free_many(&self, nodes: &[NonNull<NodeMemory>]) {
        // SAFETY: the contract is the source's.
        unsafe { self.0.free_many(nodes) }
    }
}
