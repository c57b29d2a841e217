//! Each invariant is broken once, and `validate` names it.

use super::for_each_node;
use crate::node::{Kind, Link, Node, Path, SPARSE_SLOTS, Steps};
use crate::{IndexRange, Invariant, MapleTree};

/// Entries over `[10i, 10i + 4]`: every leaf is sparse and has holes, the root is a
/// branch.
fn tree() -> MapleTree<u64> {
    let tree = tree_of(10);
    assert_eq!(kind_of_leaves(&tree), Kind::Sparse);
    tree
}

/// The same with `[20i + 5, 20i + 9]`: every other entry touches the one before, and
/// the leaves are dense.
fn dense_tree() -> MapleTree<u64> {
    let tree = tree_of(5);
    assert_eq!(kind_of_leaves(&tree), Kind::Dense);
    tree
}

/// Entries of five indices at multiples of 20, and so much behind.
fn tree_of(distance: u64) -> MapleTree<u64> {
    let mut tree = MapleTree::with_gaps();
    let first = |i: u64| 20 * (i / 2) + distance * (i % 2);
    let entries = (0..200).map(|i| (IndexRange::new(first(i), first(i) + 4).unwrap(), i));
    tree.try_extend(entries).unwrap();
    assert!(tree.height() >= 3);
    tree.validate().unwrap();
    tree
}

fn kind_of_leaves(tree: &MapleTree<u64>) -> Kind {
    let mut kinds = alloc::vec::Vec::new();
    for_each_node(tree.root(), |visit| {
        if visit.node.is_leaf() && visit.range.unwrap().last() != u64::MAX {
            kinds.push(visit.node.kind());
        }
    });
    assert!(kinds.iter().all(|&kind| kind == kinds[0]), "{kinds:?}");
    kinds[0]
}

/// The node at `depth` on the way to `index`.
fn node_at(tree: &mut MapleTree<u64>, index: u64, depth: usize) -> &mut Node<u64> {
    let mut steps = Steps::new();
    let path = Path::to(&mut tree.root, &mut steps, index).unwrap();
    path.into_node_mut(depth)
}

fn root(tree: &mut MapleTree<u64>) -> &mut Node<u64> {
    node_at(tree, 0, 0)
}

/// The second leaf of the tree.
fn leaf(tree: &mut MapleTree<u64>) -> &mut Node<u64> {
    let second = low_branch(tree).pivot(0) + 1;
    let depth = tree.height - 1;
    node_at(tree, second, depth)
}

/// The first branch right above the leaves.
fn low_branch(tree: &mut MapleTree<u64>) -> &mut Node<u64> {
    let depth = tree.height - 2;
    node_at(tree, 0, depth)
}

#[track_caller]
fn assert_breaks(tree: &MapleTree<u64>, invariant: Invariant) {
    assert_eq!(tree.validate().unwrap_err().invariant, invariant);
}

#[test]
fn hole_at_the_front_of_a_leaf_breaks_t1() {
    for mut tree in [tree(), dense_tree()] {
        leaf(&mut tree).take_entry(0);
        assert_breaks(&tree, Invariant::HolesInside);
    }
}

#[test]
fn hole_at_the_back_of_a_leaf_breaks_t1() {
    for mut tree in [tree(), dense_tree()] {
        let leaf = leaf(&mut tree);
        leaf.take_entry(leaf.count() - 1);
        assert_breaks(&tree, Invariant::HolesInside);
    }
}

#[test]
fn touching_holes_break_t1() {
    let mut tree = dense_tree();
    let leaf = leaf(&mut tree);
    let hole = (0..leaf.count()).find(|&slot| leaf.entry(slot).is_none());
    leaf.take_entry(hole.unwrap() + 1);
    assert_breaks(&tree, Invariant::HolesInside);
}

#[test]
fn hole_in_a_slot_of_a_sparse_leaf_breaks_t1() {
    let mut tree = tree();
    leaf(&mut tree).take_entry(2);
    assert_breaks(&tree, Invariant::HolesInside);
}

#[test]
fn slots_out_of_order_break_t2() {
    for mut tree in [tree(), dense_tree()] {
        let leaf = leaf(&mut tree);
        let last = leaf.last(0);
        leaf.set_last(1, last);
        assert_breaks(&tree, Invariant::SlotsAscend);
    }
}

#[test]
fn slots_that_overlap_break_t2() {
    let mut tree = tree();
    let leaf = leaf(&mut tree);
    let first = leaf.first(1);
    leaf.set_last(0, first);
    assert_breaks(&tree, Invariant::SlotsAscend);
}

#[test]
fn slot_past_the_leaf_breaks_t2() {
    for mut tree in [tree(), dense_tree()] {
        let leaf = leaf(&mut tree);
        let (slot, upper) = (leaf.count() - 1, leaf.upper());
        leaf.set_last(slot, upper + 1);
        assert_breaks(&tree, Invariant::SlotsAscend);
    }
}

#[test]
fn first_slot_that_ends_before_it_begins_breaks_t2() {
    for mut tree in [tree(), dense_tree()] {
        let leaf = leaf(&mut tree);
        let lower = leaf.lower();
        leaf.set_last(0, lower - 1);
        assert_breaks(&tree, Invariant::SlotsAscend);
    }
}

#[test]
fn slot_before_the_leaf_breaks_t2() {
    for mut tree in [tree(), dense_tree()] {
        let lower = leaf(&mut tree).lower();
        // The leaf before reaches up to the first index of this one.
        let depth = tree.height - 1;
        let before = node_at(&mut tree, 0, depth);
        before.set_last(before.count() - 1, lower);
        low_branch(&mut tree).set_pivot(0, lower);
        let violation = tree.validate().unwrap_err();
        assert_eq!(violation.invariant, Invariant::SlotsAscend);
        assert_eq!(violation.near, lower + 1);
    }
}

#[test]
fn pivots_out_of_order_break_t3() {
    let mut tree = tree();
    let branch = low_branch(&mut tree);
    let pivot = branch.pivot(0);
    branch.set_pivot(1, pivot);
    assert_breaks(&tree, Invariant::PivotsAscend);
}

#[test]
fn pivot_above_the_last_entry_breaks_t4() {
    let mut tree = tree();
    let branch = low_branch(&mut tree);
    let pivot = branch.pivot(0);
    branch.set_pivot(0, pivot + 1);
    assert_breaks(&tree, Invariant::PivotsTight);
}

#[test]
fn wrong_gap_breaks_t5() {
    let mut tree = tree();
    let branch = low_branch(&mut tree);
    let gap = branch.gap(1);
    branch.set_gap(1, gap + 1);
    assert_breaks(&tree, Invariant::GapsExact);
}

#[test]
fn wrong_gap_high_up_breaks_t5() {
    let mut tree = tree();
    let gap = root(&mut tree).gap(0);
    root(&mut tree).set_gap(0, gap - 1);
    assert_breaks(&tree, Invariant::GapsExact);
}

#[test]
fn leaf_with_too_few_entries_breaks_t6() {
    for mut tree in [tree(), dense_tree()] {
        let leaf = leaf(&mut tree);
        for slot in 1..leaf.count() {
            leaf.take_entry(slot);
        }
        leaf.truncate_leaf(1);
        assert_breaks(&tree, Invariant::Occupancy);
    }
}

#[test]
fn wrong_height_breaks_t7() {
    let mut tree = tree();
    tree.height += 1;
    assert_breaks(&tree, Invariant::EqualDepth);
    tree.height -= 1;
}

#[test]
fn branch_of_the_other_kind_breaks_t8() {
    let mut tree = tree();
    tree.branches = Kind::Plain;
    assert_breaks(&tree, Invariant::OneKind);
}

#[test]
fn wrong_length_breaks_t9() {
    let mut tree = tree();
    tree.len -= 1;
    assert_breaks(&tree, Invariant::Length);
}

#[test]
fn forgotten_link_breaks_t10() {
    let tree = tree();
    let snapshot = tree.snapshot();
    MapleTree::validate_family(&[&tree, &snapshot]).unwrap();
    assert!(
        MapleTree::validate_family(&[&tree]).is_err(),
        "the snapshot is an owner too"
    );
    let _leaked = tree.root.link().map(Link::share);
    let violation = MapleTree::validate_family(&[&tree, &snapshot]).unwrap_err();
    assert_eq!(violation.invariant, Invariant::Owners);
}

#[test]
fn every_invariant_has_an_id() {
    let all = [
        Invariant::HolesInside,
        Invariant::SlotsAscend,
        Invariant::PivotsAscend,
        Invariant::PivotsTight,
        Invariant::GapsExact,
        Invariant::Occupancy,
        Invariant::EqualDepth,
        Invariant::OneKind,
        Invariant::Length,
        Invariant::Owners,
    ];
    for (at, invariant) in all.into_iter().enumerate() {
        assert_eq!(invariant.id(), alloc::format!("T{}", at + 1));
    }
}

#[test]
fn last_index_behind_the_slots_in_use_breaks_l3() {
    for (count, distance, kind) in [(4, 1, Kind::Dense), (SPARSE_SLOTS, 10, Kind::Sparse)] {
        let mut tree = MapleTree::new();
        let index = |at: usize| distance * at as u64;
        for at in 0..count {
            tree.insert(IndexRange::single(index(at)), 0).unwrap();
        }
        tree.erase(index(count - 1)).unwrap();
        tree.validate().unwrap();
        let leaf = node_at(&mut tree, 0, 0);
        assert_eq!(leaf.kind(), kind);
        let slots = leaf.count();
        leaf.set_last(slots, 0);
        assert_breaks(&tree, Invariant::Padding);
    }
}

/// A tree without gaps.
fn plain_tree() -> MapleTree<u64> {
    (0..40).map(|i| (IndexRange::single(3 * i), i)).collect()
}

/// A branch with two slots at least that are not in use.
fn roomy_branch(tree: &mut MapleTree<u64>) -> &mut Node<u64> {
    let depths = (0..tree.height - 1).flat_map(|depth| [(depth, 0), (depth, u64::MAX)]);
    let mut has_room = |&(depth, index): &(usize, u64)| {
        let branch = node_at(tree, index, depth);
        branch.count() + 1 < branch.kind().slots()
    };
    let (depth, index) = depths.into_iter().find(&mut has_room).unwrap();
    node_at(tree, index, depth)
}

#[test]
fn pivot_behind_the_children_breaks_l3() {
    for mut tree in [tree(), plain_tree()] {
        let branch = roomy_branch(&mut tree);
        branch.set_unused_pivot(branch.count(), 0);
        assert_breaks(&tree, Invariant::Padding);
    }
}

#[test]
fn child_behind_the_children_breaks_l3() {
    for mut tree in [tree(), plain_tree()] {
        let branch = roomy_branch(&mut tree);
        branch.set_unused_child(branch.count());
        assert_breaks(&tree, Invariant::Padding);
    }
}

#[test]
fn gap_behind_the_children_breaks_l3() {
    let mut tree = tree();
    let branch = roomy_branch(&mut tree);
    branch.set_unused_gap(branch.count(), 1);
    assert_breaks(&tree, Invariant::Padding);
}
