//! A node source that fails on command and finds leaks, double frees and use after free.
#![expect(
    unsafe_code,
    reason = "`NodeSource` is an unsafe trait over raw memory"
)]

use maple_tree::{HeapNodes, NodeMemory, NodeSource};
use std::alloc::{Layout, alloc, dealloc};
use std::collections::{HashSet, VecDeque};
use std::ptr::NonNull;
use std::sync::atomic::{AtomicPtr, Ordering};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};

/// A node source that tests can steer and question.
pub trait TestNodes: NodeSource + Clone + Default {
    /// Makes the allocation after the next `successes` ones fail, and all after it; `None` ends it.
    fn fail_after(&self, successes: Option<u64>);

    /// The number of nodes handed out and not freed, if the source counts.
    fn live(&self) -> Option<usize>;

    /// Every free that should not have happened.
    fn faults(&self) -> Vec<String>;
}

impl TestNodes for HeapNodes {
    fn fail_after(&self, _: Option<u64>) {}

    fn live(&self) -> Option<usize> {
        None
    }

    fn faults(&self) -> Vec<String> {
        Vec::new()
    }
}

/// How many freed nodes are kept poisoned before their memory is reused.
const QUARANTINE: usize = 256;
/// What new memory is filled with: nothing may depend on zeros.
const FRESH: u8 = 0xa5;
/// What freed memory is filled with: a late read finds an odd pointer and an absurd count.
const FREED: u8 = 0xdd;

/// A handle on a source of nodes that fails on command; clones are handles on the same source.
#[derive(Clone, Debug, Default)]
pub struct FailingNodes {
    state: Arc<Mutex<State>>,
}

#[derive(Debug, Default)]
struct State {
    successes_left: Option<u64>,
    /// Addresses of the nodes handed out and not freed.
    live: HashSet<usize>,
    allocations: u64,
    /// `AtomicPtr` only because it is `Send` and keeps provenance; the mutex is the guard.
    quarantine: VecDeque<AtomicPtr<NodeMemory>>,
    faults: Vec<String>,
}

impl FailingNodes {
    /// A source without limits, until [`TestNodes::fail_after`] sets one.
    #[must_use]
    pub fn new() -> Self {
        Self::default()
    }

    /// The number of nodes handed out so far.
    #[must_use]
    pub fn allocations(&self) -> u64 {
        self.lock().allocations
    }

    /// Asserts that every node came back, once.
    #[track_caller]
    pub fn assert_settled(&self) {
        assert_eq!(self.faults(), Vec::<String>::new(), "nodes were mistreated");
        assert_eq!(self.live(), Some(0), "nodes were leaked");
    }

    fn lock(&self) -> MutexGuard<'_, State> {
        self.state.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

impl TestNodes for FailingNodes {
    fn fail_after(&self, successes: Option<u64>) {
        self.lock().successes_left = successes;
    }

    fn live(&self) -> Option<usize> {
        Some(self.lock().live.len())
    }

    fn faults(&self) -> Vec<String> {
        self.lock().faults.clone()
    }
}

// SAFETY: `allocate` returns memory of the layout of `NodeMemory` from the global allocator, which
// nobody else holds, and which stays allocated until `free` is called with it.
unsafe impl NodeSource for FailingNodes {
    fn allocate(&self) -> Option<NonNull<NodeMemory>> {
        let mut state = self.lock();
        match &mut state.successes_left {
            Some(0) => return None,
            Some(left) => *left -= 1,
            None => {}
        }
        // SAFETY: the layout of `NodeMemory` is not empty.
        let raw = unsafe { alloc(Layout::new::<NodeMemory>()) };
        let node = NonNull::new(raw.cast::<NodeMemory>())?;
        fill(node, FRESH);
        state.allocations += 1;
        state.live.insert(node.as_ptr() as usize);
        Some(node)
    }

    unsafe fn free(&self, node: NonNull<NodeMemory>) {
        let mut state = self.lock();
        let address = node.as_ptr() as usize;
        if !state.live.remove(&address) {
            state
                .faults
                .push(format!("a node was freed that is not live: {address:#x}"));
            return;
        }
        fill(node, FREED);
        state.quarantine.push_back(AtomicPtr::new(node.as_ptr()));
        if state.quarantine.len() > QUARANTINE {
            let oldest = state.quarantine.pop_front();
            release(&oldest.expect("the quarantine is not empty"));
        }
    }
}

impl Drop for State {
    fn drop(&mut self) {
        self.quarantine.iter().for_each(release);
    }
}

/// Overwrites a node that no tree holds.
fn fill(node: NonNull<NodeMemory>, byte: u8) {
    // SAFETY: the caller holds the node's memory alone: it was just allocated, or just given back.
    unsafe {
        node.cast::<u8>().write_bytes(byte, size_of::<NodeMemory>());
    }
}

/// Gives a quarantined node back to the allocator.
fn release(node: &AtomicPtr<NodeMemory>) {
    let raw = node.load(Ordering::Relaxed).cast::<u8>();
    // SAFETY: only `free` puts nodes into the quarantine, after it checked that `allocate` made
    // them and that they are not there already; they leave it once, to come here.
    unsafe { dealloc(raw, Layout::new::<NodeMemory>()) };
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_planned_allocation_fails_and_those_after_it() {
        let nodes = FailingNodes::new();
        nodes.fail_after(Some(1));
        let node = nodes.allocate().unwrap();
        assert_eq!(nodes.allocate(), None);
        assert_eq!(nodes.allocate(), None);
        nodes.fail_after(None);
        let other = nodes.allocate().unwrap();
        for node in [node, other] {
            // SAFETY: the node came from `allocate` of the same source.
            unsafe { nodes.free(node) };
        }
        nodes.assert_settled();
    }

    #[test]
    fn a_second_free_is_a_fault() {
        let nodes = FailingNodes::new();
        let node = nodes.allocate().unwrap();
        for _ in 0..2 {
            // SAFETY: broken on purpose; the source recognises the second call by the address and
            // does not touch the memory.
            unsafe { nodes.free(node) };
        }
        assert_eq!(nodes.faults().len(), 1);
    }
}
