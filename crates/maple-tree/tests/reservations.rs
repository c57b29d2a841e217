//! What a reservation costs, and what is left when it is not ended properly.

use std::mem::forget;
use std::panic::{AssertUnwindSafe, catch_unwind};
use std::ptr::NonNull;

use maple_tree::{HeapNodes, MapleTree, NodeMemory, NodeSource, OutOfNodes};
use testkit::{FailingNodes, assert_valid, range};

/// Once, the height that a reservation reckoned with grew with the number of writes.
#[test]
fn a_reservation_takes_nodes_in_proportion_to_its_writes() {
    for writes in [1, 10, 100, 1000] {
        let nodes = FailingNodes::new();
        let mut tree: MapleTree<u64, _> = MapleTree::with_gaps_in(nodes.clone());
        drop(tree.preallocate(writes).unwrap());
        let each = nodes.allocations() / writes as u64;
        let most = if cfg!(small_nodes) { 50 } else { 25 };
        assert!(each <= most, "{each} nodes for each of {writes} writes");
    }
}

/// Once, such a reservation took all the memory there is before it failed.
#[test]
fn a_reservation_that_no_memory_could_hold_asks_for_none() {
    let nodes = FailingNodes::new();
    let mut tree: MapleTree<u64, _> = MapleTree::new_in(nodes.clone());
    tree.insert(range(1, 5), 7).unwrap();
    let before = nodes.allocations();
    for writes in [usize::MAX, usize::MAX / 2, isize::MAX as usize / 256] {
        assert_eq!(tree.preallocate(writes).err(), Some(OutOfNodes), "{writes}");
    }
    assert_eq!(nodes.allocations(), before);
    assert_valid(&tree);
    tree.preallocate(1).unwrap().store(range(3, 9), 8);
    assert_eq!((tree.get(2), tree.get(9)), (Some(&7), Some(&8)));
}

/// Once, a forgotten reservation made the tree keep every node it freed.
#[test]
fn a_forgotten_reservation_keeps_no_more_than_it_promised() {
    let mut tree = MapleTree::new();
    forget(tree.preallocate(1).unwrap());
    for index in 0..10_000_u64 {
        tree.insert(range(2 * index, 2 * index), index).unwrap();
    }
    tree.clear();
    assert_valid(&tree);
    assert!(
        tree.memory_usage() <= 40 * 256,
        "{} bytes",
        tree.memory_usage()
    );
}

/// A source whose clone panics.
struct Unclonable(HeapNodes);

impl Clone for Unclonable {
    fn clone(&self) -> Self {
        panic!("no second source")
    }
}

// SAFETY: passes on what `HeapNodes` hands out.
#[expect(unsafe_code, reason = "implements the source's contract")]
unsafe impl NodeSource for Unclonable {
    fn allocate(&self) -> Option<NonNull<NodeMemory>> {
        self.0.allocate()
    }

    unsafe fn free(&self, node: NonNull<NodeMemory>) {
        // SAFETY: it came from `HeapNodes`, by the caller's promise.
        unsafe { self.0.free(node) }
    }
}

/// Once, the root had one owner too many after such a snapshot.
#[test]
fn a_snapshot_whose_source_cannot_be_cloned_leaves_nothing() {
    let mut tree = MapleTree::new_in(Unclonable(HeapNodes));
    tree.insert(range(1, 5), 7_u64).unwrap();
    assert!(catch_unwind(AssertUnwindSafe(|| tree.snapshot())).is_err());
    assert!(MapleTree::validate_family(&[&tree]).is_ok());
}
