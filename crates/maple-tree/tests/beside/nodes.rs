//! [`CountedNodes`]: a node source that knows how many nodes are out.
//! [`KeptNodes`]: one whose memory is not used again.
#![expect(unsafe_code, reason = "`NodeSource` is an unsafe trait")]

use std::ptr::NonNull;
use std::sync::atomic::{AtomicPtr, AtomicUsize, Ordering};
use std::sync::{Arc, Mutex};

use maple_tree::{GlobalNodes, HeapNodes, NodeMemory, NodeSource};

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

/// Keeps the memory of every node that is freed until all clones are gone: what
/// looks at it too late, on purpose, still looks at memory, and no other node is
/// taken for it.
#[derive(Clone, Debug, Default)]
pub(crate) struct KeptNodes {
    kept: Arc<Kept>,
}

#[derive(Debug, Default)]
struct Kept {
    nodes: Mutex<Vec<AtomicPtr<NodeMemory>>>,
}

// SAFETY: passes on what `GlobalNodes` hands out, and never hands it out again.
unsafe impl NodeSource for KeptNodes {
    fn allocate(&self) -> Option<NonNull<NodeMemory>> {
        GlobalNodes.allocate()
    }

    unsafe fn free(&self, node: NonNull<NodeMemory>) {
        let node = AtomicPtr::new(node.as_ptr());
        self.kept.nodes.lock().unwrap().push(node);
    }
}

impl Drop for Kept {
    fn drop(&mut self) {
        for node in self.nodes.get_mut().unwrap().drain(..) {
            let node = NonNull::new(node.into_inner()).expect("not null");
            // SAFETY: it came from `GlobalNodes`, was freed, and no source is left.
            unsafe { GlobalNodes.free(node) };
        }
    }
}
