//! The nodes of all trees, counted, and refused beyond a limit. A cellar: passes raw memory on.
#![expect(
    unsafe_code,
    reason = "`NodeSource` is an unsafe trait over raw memory"
)]

use std::ptr::NonNull;
use std::sync::atomic::{AtomicUsize, Ordering};

use maple_tree::{GlobalNodes, NodeMemory, NodeSource};

/// Nodes from the global allocator, each on its own: tools that watch it see them.
#[derive(Debug)]
pub(super) struct CountedNodes {
    in_use: AtomicUsize,
    most: AtomicUsize,
}

impl CountedNodes {
    /// None in use, no limit.
    pub(super) const fn new() -> Self {
        Self {
            in_use: AtomicUsize::new(0),
            most: AtomicUsize::new(usize::MAX),
        }
    }

    /// How many are in use.
    pub(super) fn in_use(&self) -> usize {
        // Relaxed, as everywhere here: numbers of their own.
        self.in_use.load(Ordering::Relaxed)
    }

    /// From now on there are at most so many.
    pub(super) fn limit(&self, most: usize) {
        self.most.store(most, Ordering::Relaxed);
    }
}

// SAFETY: passes on what `GlobalNodes` hands out and takes back, on any thread.
unsafe impl NodeSource for CountedNodes {
    fn allocate(&self) -> Option<NonNull<NodeMemory>> {
        let before = self.in_use.fetch_add(1, Ordering::Relaxed);
        let is_allowed = before < self.most.load(Ordering::Relaxed);
        let node = is_allowed.then(|| GlobalNodes.allocate()).flatten();
        if node.is_none() {
            self.in_use.fetch_sub(1, Ordering::Relaxed);
        }
        node
    }

    unsafe fn free(&self, node: NonNull<NodeMemory>) {
        // SAFETY: it came from `GlobalNodes`, and the contract is the same.
        unsafe { GlobalNodes.free(node) };
        self.in_use.fetch_sub(1, Ordering::Relaxed);
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn nodes_are_counted_and_refused_beyond_the_limit() {
        let nodes = CountedNodes::new();
        nodes.limit(1);
        let node = nodes.allocate().expect("the first");
        assert_eq!((nodes.allocate(), nodes.in_use()), (None, 1));
        // SAFETY: it came from there, and nothing uses it.
        unsafe { nodes.free(node) };
        assert_eq!(nodes.in_use(), 0);
    }
}
