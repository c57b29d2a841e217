//! What no other test comes by: forms of the dump, trees that differ, memory that is missing where
//! nothing can be returned.
#![cfg(feature = "crossbeam")]

use std::fmt::{self, Write};
use std::sync::Arc;

use maple_tree::{EpochRcu, IndexRange, MapleTree, RcuMapleTree, SyncMapleTree};
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

/// Takes so many bytes, and then no more.
struct Narrow {
    taken: String,
    room: usize,
    refused: usize,
}

impl Write for Narrow {
    fn write_str(&mut self, text: &str) -> fmt::Result {
        if self.taken.len() + text.len() > self.room {
            self.refused += 1;
            return Err(fmt::Error);
        }
        self.taken.push_str(text);
        Ok(())
    }
}

#[test]
fn the_dump_ends_where_no_more_of_it_is_taken() {
    for gaps in [true, false] {
        let tree = tree(gaps, 50);
        let whole = tree.dump().to_string();
        for room in 0..whole.len() {
            let mut narrow = Narrow {
                taken: String::new(),
                room,
                refused: 0,
            };
            write!(narrow, "{}", tree.dump()).unwrap_err();
            assert!(whole.starts_with(&narrow.taken), "{}", narrow.taken);
            assert_eq!(narrow.refused, 1, "nothing is written behind an error");
        }
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

#[test]
fn a_tree_that_cannot_note_what_goes_is_cleared_all_the_same() {
    type Tree = RcuMapleTree<Arc<u64>, EpochRcu, parking_lot::RawMutex, FailingNodes>;
    for entries in [0, 1, 500] {
        let nodes = FailingNodes::new();
        let value = Arc::new(7);
        let mut tree = MapleTree::with_gaps_in(nodes.clone());
        for index in 0..entries {
            tree.insert(IndexRange::single(3 * index), value.clone())
                .unwrap();
        }
        // A snapshot has no stock of free nodes.
        let snapshot = tree.snapshot();
        drop(tree);
        let tree = Tree::from_tree(snapshot, EpochRcu);
        nodes.fail_after(Some(0));
        let mut writer = tree.write();
        writer.clear();
        assert_eq!(Arc::strong_count(&value), 1, "nobody looks at them");
        assert!(writer.is_empty());
        writer.validate().unwrap();
        nodes.fail_after(None);
        writer.insert(IndexRange::single(1), value.clone()).unwrap();
        drop(writer);
        assert_eq!(tree.read().get(1), Some(&value));
        drop(tree);
        nodes.assert_settled();
    }
}
