//! [`CountedNodes`]: a node source that knows how many nodes are out.
#![expect(unsafe_code, reason = "`NodeSource` is an unsafe trait")]

use std::ptr::NonNull;
use std::sync::Arc;
use std::sync::atomic::{AtomicUsize, Ordering};

use maple_tree::{HeapNodes, NodeMemory, NodeSource};

/// Nodes of the slab, counted; clones count together.
#[derive(Clone, Debug, Default)]
pub(crate) struct CountedNodes {
    out: Arc<AtomicUsize>,
}

impl CountedNodes {
    /// How many nodes were handed out and did not come back.
    pub(crate) fn out(&self) -> usize {
        self.out.load(Ordering::Acquire)
    }
}

// SAFETY: passes on what `HeapNodes` hands out and takes back, which keeps the promises.
unsafe impl NodeSource for CountedNodes {
    fn allocate(&self) -> Option<NonNull<NodeMemory>> {
        let node = HeapNodes.allocate()?;
        self.out.fetch_add(1, Ordering::Relaxed);
        Some(node)
    }

    fn allocate_many(&self, wanted: usize, put: &mut dyn FnMut(NonNull<NodeMemory>)) -> usize {
        let obtained = HeapNodes.allocate_many(wanted, put);
        self.out.fetch_add(obtained, Ordering::Relaxed);
        obtained
    }

    unsafe fn free(&self, node: NonNull<NodeMemory>) {
        // SAFETY: it came from `HeapNodes`; the rest is the contract.
        unsafe { HeapNodes.free(node) };
        // `Release`, for who reads the count thinks that the node is free.
        self.out.fetch_sub(1, Ordering::Release);
    }

    unsafe fn free_many(&self, nodes: &[NonNull<NodeMemory>]) {
        // SAFETY: they came from `HeapNodes`; the rest is the contract.
        unsafe { HeapNodes.free_many(nodes) };
        self.out.fetch_sub(nodes.len(), Ordering::Release);
    }
}
