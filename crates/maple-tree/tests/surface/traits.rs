//! The traits a user of Rust expects, and what the tree says of its own size.

use crate::{tall_tree, tree_of};
use maple_tree::{
    Cursor, Gaps, HeapNodes, IndexRange, Iter, MapleTree, NodeMemory, OutOfNodes, Segments,
    StoreError, StoreErrorKind,
};
use std::error::Error;
use std::sync::Arc;
use testkit::{FailingNodes, assert_holds, range};

fn is_send<T: Send>() {}
fn is_sync<T: Sync>() {}

#[test]
fn trees_and_their_iterators_cross_threads_where_arcs_of_their_entries_would() {
    is_send::<MapleTree<Arc<u64>>>();
    is_sync::<MapleTree<Arc<u64>>>();
    is_send::<MapleTree<u64, FailingNodes>>();
    is_send::<Iter<'_, Arc<u64>>>();
    is_sync::<Segments<'_, Arc<u64>>>();
    is_send::<Gaps<'_, u64>>();
    is_send::<Cursor<'_, u64>>();
    is_send::<StoreError<u64>>();
}

#[test]
fn a_node_is_256_bytes_aligned_to_256() {
    assert_eq!(
        (size_of::<NodeMemory>(), align_of::<NodeMemory>()),
        (256, 256)
    );
}

#[test]
fn the_default_is_an_empty_tree() {
    let tree = MapleTree::<char>::default();
    assert!(tree.is_empty() && !tree.tracks_gaps());
}

#[test]
fn a_tree_can_be_a_static() {
    static EMPTY: MapleTree<u64> = MapleTree::new();
    assert!(EMPTY.is_empty());
}

#[test]
fn debug_shows_ranges_and_values() {
    let shown = format!("{:?}", tree_of(&[(0, 1, 'A'), (16, 31, 'B')]));
    assert!(shown.contains("'A'") && shown.contains("'B'"), "{shown}");
}

#[test]
fn a_tree_is_collected_and_extended_from_ranges_and_values() {
    let mut tree: MapleTree<char> = [(range(8, 9), 'B'), (range(0, 1), 'A')]
        .into_iter()
        .collect();
    tree.extend([(range(4, 5), 'C')]);
    assert_holds(&tree, &[(0, 1, 'A'), (4, 5, 'C'), (8, 9, 'B')]);
}

#[test]
fn what_comes_later_overwrites_what_came_before() {
    let mut tree: MapleTree<char> = [(range(0, 9), 'A'), (range(5, 6), 'B')]
        .into_iter()
        .collect();
    tree.extend([(range(6, 7), 'C')]);
    assert_holds(&tree, &[(0, 4, 'A'), (5, 5, 'B'), (6, 7, 'C'), (8, 9, 'A')]);
}

#[test]
fn a_clone_is_independent() {
    let tree = tree_of(&[(0, 9, 'A')]);
    let mut clone = tree.clone();
    clone.clear();
    assert_holds(&tree, &[(0, 9, 'A')]);
}

#[test]
fn memory_grows_with_the_entries_and_falls_with_them() {
    let empty = MapleTree::<u64>::new().memory_usage();
    let mut tree = tall_tree(1000);
    let full = tree.memory_usage();
    assert!(
        full >= 1000 / 15 * 256,
        "{full} bytes cannot hold 1000 entries"
    );
    assert!(
        cfg!(small_nodes) || full <= 1000 * 64,
        "{full} bytes for 1000 entries"
    );
    tree.clear();
    assert!(tree.memory_usage() <= empty + 16 * 256);
}

#[test]
fn a_tree_of_sorted_entries_is_no_taller_than_it_must_be() {
    for (entries, most) in [(1, 1), (7, 1), (100, 3), (1000, 4)] {
        let height = tall_tree(entries).height();
        assert!(
            cfg!(small_nodes) || height <= most,
            "{entries} entries, {height} levels"
        );
    }
}

#[test]
fn errors_say_what_to_do() {
    let mut tree = tree_of(&[(0, 9, 'A')]);
    let refused = tree.insert(range(5, 6), 'X').unwrap_err();
    assert_eq!(refused.kind, StoreErrorKind::Occupied);
    let errors: [&dyn Error; 2] = [&refused, &OutOfNodes];
    for error in errors {
        assert!(error.to_string().len() > 20, "{error}");
    }
}

#[test]
fn a_dump_shows_every_node() {
    let tree = tall_tree(100);
    let dump = tree.dump().to_string();
    assert!(dump.lines().count() > tree.height(), "{dump}");
}

#[test]
fn every_word_sized_kind_of_value_can_be_stored() {
    fn keeps<T: maple_tree::Entry + Clone + PartialEq + std::fmt::Debug>(value: T) {
        let mut tree = MapleTree::<T, HeapNodes>::new();
        tree.store(IndexRange::FULL, value.clone()).unwrap();
        tree.remove(range(5, 9)).unwrap();
        assert_holds(&tree, &[(0, 4, value.clone()), (10, u64::MAX, value)]);
    }
    keeps(());
    keeps(true);
    keeps('x');
    keeps(-1_i8);
    keeps(u64::MAX);
    keeps(usize::MAX);
    keeps("text".len());
    keeps(&"text");
    keeps(Box::new(7));
    keeps(Some(Arc::new(7)));
    keeps(None::<Box<u8>>);
    keeps(std::rc::Rc::new(String::from("text")));
}
