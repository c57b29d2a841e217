//! How many nodes trees are made of.

use maple_tree::{IndexRange, MapleTree};
use testkit::{assert_valid, range};

/// How many entries without holes between them fit into a leaf.
const LEAF: u64 = if cfg!(small_nodes) { 5 } else { 15 };

fn entry(place: u64) -> IndexRange {
    range(10 * place, 10 * place + 9)
}

/// The number of nodes, without those at hand for later.
fn nodes(tree: &MapleTree<u64>) -> usize {
    let dump = format!("{:?}", tree.dump());
    let is_node = |line: &&str| line.contains("leaf") || line.contains("branch");
    dump.lines().filter(is_node).count()
}

/// Two full leaves below a root, the first `merged` entries of one of which are made a single one.
fn two_leaves(leaf: u64, merged: u64) -> MapleTree<u64> {
    let mut tree = MapleTree::new();
    tree.bulk_load((0..2 * LEAF).map(|place| (entry(place), place)))
        .unwrap();

    let first = leaf * LEAF;
    let one = range(entry(first).first(), entry(first + merged - 1).last());
    tree.store(one, 99).unwrap();
    assert_eq!((nodes(&tree), tree.height()), (3, 2));
    tree
}

/// Cuts an entry in two, with a third between.
fn cut(tree: &mut MapleTree<u64>, place: u64) {
    let middle = IndexRange::single(entry(place).first() + 5);
    tree.store(middle, 100).unwrap();
    assert_valid(tree);
    assert_eq!(tree.get(middle.first() + 1), Some(&place));
}

#[test]
fn entries_in_ascending_order_fill_their_leaves() {
    for gaps in [false, true] {
        let mut tree = if gaps {
            MapleTree::with_gaps()
        } else {
            MapleTree::new()
        };
        for place in 0..40 * LEAF {
            tree.insert(entry(place), place).unwrap();
        }
        assert_valid(&tree);
        let most = if cfg!(small_nodes) { 70 } else { 50 };
        let nodes = nodes(&tree);
        assert!(
            (41..=most).contains(&nodes),
            "40 leaves and {} more",
            nodes - 40
        );
    }
}

/// Small leaves have no room to share: a leaf of the fewest entries beside a full one is split from
/// it again by the next entry.
#[cfg(not(small_nodes))]
#[test]
fn a_full_leaf_shares_with_a_sibling_that_has_room() {
    let merged = LEAF - 4;
    let mut left = two_leaves(0, merged);
    cut(&mut left, LEAF + LEAF / 2);
    assert_eq!(nodes(&left), 3);
    let mut right = two_leaves(1, merged);
    cut(&mut right, LEAF / 2);
    assert_eq!(nodes(&right), 3);
}

#[test]
fn a_full_leaf_beside_full_ones_is_split() {
    let mut tree = two_leaves(0, 1);
    cut(&mut tree, LEAF / 2);
    assert_eq!(nodes(&tree), 4);
}

/// Half a small leaf has no room for two entries.
#[cfg(not(small_nodes))]
#[test]
fn the_last_leaf_is_split_evenly_where_it_does_not_grow_at_its_end() {
    let mut tree = MapleTree::new();
    tree.bulk_load((0..LEAF).map(|place| (entry(place), place)))
        .unwrap();
    cut(&mut tree, LEAF / 2);
    assert_eq!((nodes(&tree), tree.height()), (3, 2));
    // The first half takes two entries more without a third leaf.
    cut(&mut tree, 0);
    assert_eq!(nodes(&tree), 3);
}
