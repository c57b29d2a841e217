//! What no other test comes by: forms of the dump, trees that differ, memory that is missing where
//! nothing can be returned.
#![cfg(feature = "crossbeam")]

use maple_tree::{EpochRcu, IndexRange, MapleTree, SyncMapleTree};
use testkit::{FailingNodes, TestNodes};

fn tree(gaps: bool, count: u64) -> MapleTree<u64> {
    let mut tree = if gaps {
        MapleTree::with_gaps()
    } else {
        MapleTree::new()
    };
    for index in 0..count {
        tree.insert(IndexRange::single(3 * index), index).unwrap();
    }
    tree
}

#[test]
fn the_dump_says_whether_gaps_are_kept_and_nodes_shared() {
    for gaps in [true, false] {
        let tree = tree(gaps, 200);
        let alone = format!("{:?}", tree.dump());
        assert_eq!(alone.contains("gaps kept"), gaps, "{alone}");
        assert_eq!(alone.contains("; gaps"), gaps, "{alone}");
        let other = tree.snapshot();
        let shared = format!("{:?}", tree.dump());
        assert_ne!(alone, shared, "two trees own the root");
        drop(other);
        assert_eq!(format!("{:?}", tree.dump()), alone);
    }
}

#[test]
fn trees_are_equal_where_their_entries_are() {
    assert_eq!(tree(true, 30), tree(false, 30));
    assert_ne!(tree(true, 30), tree(true, 29));
    let mut other = tree(true, 30);
    other.store(IndexRange::single(0), 7).unwrap();
    assert_ne!(tree(true, 30), other);
}

#[test]
#[should_panic(expected = "memory")]
fn extending_without_memory_panics() {
    let nodes = FailingNodes::default();
    let mut tree = MapleTree::<u64, _>::new_in(nodes.clone());
    nodes.fail_after(Some(0));
    tree.extend([(IndexRange::single(1), 1)]);
}

#[test]
fn a_tree_that_keeps_gaps_comes_out_of_its_readers_with_them() {
    for gaps in [true, false] {
        let out = SyncMapleTree::from_tree(tree(gaps, 50), EpochRcu).into_tree();
        assert_eq!((out.tracks_gaps(), out.len()), (gaps, 50));
        out.validate().unwrap();
    }
}
