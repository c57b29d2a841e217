//! Each invariant is broken once, and `validate` names it.

use crate::node::{Kind, Link, Node, Path, Steps};
use crate::{IndexRange, Invariant, MapleTree};

/// Entries over `[10i, 10i + 4]`: every leaf has holes, the root is a branch.
fn tree() -> MapleTree<u64> {
    let mut tree = MapleTree::with_gaps();
    let entries = (0..200).map(|i| (IndexRange::new(10 * i, 10 * i + 4).unwrap(), i));
    tree.try_extend(entries).unwrap();
    assert!(tree.height() >= 3);
    tree.validate().unwrap();
    tree
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
    let mut tree = tree();
    leaf(&mut tree).take_entry(0);
    assert_breaks(&tree, Invariant::HolesInside);
}

#[test]
fn touching_holes_break_t1() {
    let mut tree = tree();
    leaf(&mut tree).take_entry(2);
    assert_breaks(&tree, Invariant::HolesInside);
}

#[test]
fn slots_out_of_order_break_t2() {
    let mut tree = tree();
    let leaf = leaf(&mut tree);
    let last = leaf.last(0);
    leaf.set_last(1, last);
    assert_breaks(&tree, Invariant::SlotsAscend);
}

#[test]
fn slot_past_the_leaf_breaks_t2() {
    let mut tree = tree();
    let leaf = leaf(&mut tree);
    let (slot, upper) = (leaf.count() - 1, leaf.upper());
    leaf.set_last(slot, upper + 1);
    assert_breaks(&tree, Invariant::SlotsAscend);
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
fn leaf_with_too_few_slots_breaks_t6() {
    let mut tree = tree();
    let leaf = leaf(&mut tree);
    for slot in 1..leaf.count() {
        leaf.take_entry(slot);
    }
    leaf.truncate_leaf(1);
    assert_breaks(&tree, Invariant::Occupancy);
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
