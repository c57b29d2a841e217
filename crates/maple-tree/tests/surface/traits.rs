//! The traits a user of Rust expects, and what the tree says of its own size.

use crate::{tall_tree, tree_of};
use maple_tree::{
    AllocateError, AllocateErrorKind, AppendError, Cursor, CursorMut, Dump, DuplicateError, Entry,
    Gaps, HeapNodes, IndexRange, IntoIter, Iter, MapleTree, NodeMemory, OutOfNodes, Overlay,
    Preallocation, Segments, SortedError, StoreError, StoreErrorKind,
};
use std::any::type_name;
use std::error::Error;
use std::fmt::Debug;
use std::num::{NonZeroI8, NonZeroU64};
use std::ptr::{self, NonNull};
use std::rc::{self, Rc};
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
    is_sync::<Overlay<'_, u64, Arc<u64>>>();
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
    let kinds = [AllocateErrorKind::NoGap, AllocateErrorKind::OutOfNodes];
    let [no_gap, no_nodes] = kinds.map(|kind| AllocateError { kind, value: 'X' });
    let errors: [&dyn Error; 7] = [
        &refused,
        &OutOfNodes,
        &no_gap,
        &no_nodes,
        &AppendError::NotAbove,
        &AppendError::OutOfNodes,
        &SortedError::NotEmpty,
    ];
    for error in errors {
        assert!(error.to_string().contains("; "), "{error}");
    }
}

#[test]
fn the_refusal_of_a_duplicate_is_its_source() {
    let tree = tree_of(&[(0, 9, 'A')]);
    let refused = tree.duplicate_with(|_, _| "x".parse::<u8>().map(Some));
    let refused = refused.map(drop).unwrap_err();
    let source = refused.source().unwrap().to_string();
    assert_eq!(source, "x".parse::<u8>().unwrap_err().to_string());
    assert!(!refused.to_string().contains(&source));
    let out_of_nodes = DuplicateError::<std::fmt::Error>::OutOfNodes;
    assert!(out_of_nodes.source().is_none());
}

#[test]
fn types_that_hold_a_tree_take_its_nodes_from_the_heap_by_default() {
    fn cursor_at(tree: &mut MapleTree<u64>, index: u64) -> CursorMut<'_, u64> {
        tree.cursor_mut(index)
    }
    fn reserve(tree: &mut MapleTree<u64>) -> Preallocation<'_, u64> {
        tree.preallocate(1).unwrap()
    }
    fn picture(tree: &MapleTree<u64>) -> Dump<'_, u64> {
        tree.dump()
    }
    fn values(tree: MapleTree<u64>) -> IntoIter<u64> {
        tree.into_iter()
    }
    let mut tree = tall_tree(3);
    assert_eq!(cursor_at(&mut tree, 10).range(), range(10, 14));
    assert_eq!(reserve(&mut tree).writes_left(), 1);
    assert!(!picture(&tree).to_string().is_empty());
    assert_eq!(values(tree).len(), 3);
}

#[test]
fn a_dump_shows_every_node() {
    let tree = tall_tree(100);
    let dump = tree.dump().to_string();
    assert!(dump.lines().count() > tree.height(), "{dump}");
}

/// A tree moves bits, whatever their type: one type of each size goes through it, and one that is
/// dropped.
#[test]
fn values_of_every_size_can_be_stored() {
    fn keeps<T: Entry + Clone + PartialEq + Debug>(value: T) {
        let mut tree = MapleTree::<T, HeapNodes>::new();
        tree.store(IndexRange::FULL, value.clone()).unwrap();
        tree.remove(range(5, 9)).unwrap();
        assert_holds(&tree, &[(0, 4, value.clone()), (10, u64::MAX, value)]);
    }
    keeps(());
    keeps(-1_i8);
    keeps(-0.5_f32);
    keeps(u64::MAX);
    keeps(Some(Rc::new(String::from("text"))));
    keeps(None::<Rc<String>>);
}

#[test]
fn words_of_the_standard_library_are_entries() {
    fn plain<T: Entry>(_: T) {
        assert!(!T::IS_POINTER, "{}", type_name::<T>());
    }
    fn pointer<T: Entry>(_: T) {
        assert!(T::IS_POINTER, "{}", type_name::<T>());
        assert_eq!(size_of::<T>(), size_of::<*const u8>());
    }
    let mut place = 7;
    plain(true);
    plain('x');
    plain(usize::MAX);
    plain(f64::INFINITY);
    plain(NonZeroU64::MAX);
    plain(NonZeroI8::new(-1));
    plain(&"text");
    plain(None::<&String>);
    plain(rc::Weak::<String>::new());
    plain(ptr::from_ref(&place));
    plain(ptr::from_mut(&mut place));
    pointer(Box::new(7));
    pointer(None::<Box<u8>>);
    pointer(Rc::new(7));
    pointer(Some(Arc::new(7)));
    pointer(NonNull::from(&mut place));
}

#[test]
fn pointers_that_keep_nothing_alive_can_be_stored() {
    let shared = Arc::new(2);
    let mut tree = MapleTree::new();
    tree.store(IndexRange::FULL, Arc::downgrade(&shared))
        .unwrap();
    tree.remove(range(5, 9)).unwrap();
    assert_eq!(Arc::weak_count(&shared), 2);
    assert_eq!(tree.get(4).unwrap().upgrade(), Some(shared));
}
