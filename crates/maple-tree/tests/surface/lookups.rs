//! `get`, `get_mut`, `find`, `entry`, and the neighbours of an index.

use crate::{tall_tree, tree_of};
use maple_tree::{IndexRange, MapleTree, Segment};
use testkit::{assert_valid, range};

/// ```text
///  0123456789abcdef
///  AA..BBB.CC......
/// ```
fn sample() -> MapleTree<char> {
    tree_of(&[(0, 1, 'A'), (4, 6, 'B'), (8, 9, 'C')])
}

#[test]
fn an_empty_tree_is_one_gap() {
    let tree = MapleTree::<char>::new();
    assert_eq!(tree.find(7), Segment::Gap(IndexRange::FULL));
    assert_eq!(
        (tree.get(0), tree.entry(0), tree.first(), tree.last()),
        (None, None, None, None)
    );
    assert_eq!((tree.at_or_after(0), tree.after(0)), (None, None));
    assert_eq!(
        (tree.at_or_before(u64::MAX), tree.before(u64::MAX)),
        (None, None)
    );
    assert!(tree.is_vacant(IndexRange::FULL));
    assert_eq!((tree.len(), tree.height(), tree.is_empty()), (0, 0, true));
    assert_valid(&tree);
}

#[test]
fn get_sees_an_entry_at_every_index_of_it_and_nowhere_else() {
    let tree = sample();
    let found: String = (0..12)
        .map(|index| tree.get(index).copied().unwrap_or('.'))
        .collect();
    assert_eq!(found, "AA..BBB.CC..");
}

#[test]
fn find_gives_the_whole_entry_or_the_whole_gap() {
    let tree = sample();
    assert_eq!(tree.find(5), Segment::Entry(range(4, 6), &'B'));
    assert_eq!(tree.find(3), Segment::Gap(range(2, 3)));
    assert_eq!(tree.find(7), Segment::Gap(range(7, 7)));
    assert_eq!(tree.find(10), Segment::Gap(range(10, u64::MAX)));
    assert_eq!(tree.find(u64::MAX), Segment::Gap(range(10, u64::MAX)));
}

#[test]
fn a_segment_says_what_it_is() {
    let tree = sample();
    let (entry, gap) = (tree.find(5), tree.find(3));
    assert_eq!(
        (entry.range(), entry.entry(), entry.is_gap()),
        (range(4, 6), Some(&'B'), false)
    );
    assert_eq!(
        (gap.range(), gap.entry(), gap.is_gap()),
        (range(2, 3), None, true)
    );
}

#[test]
fn a_gap_is_whole_though_it_lies_between_two_leaves() {
    let mut tree = tall_tree(600);
    tree.remove(range(1000, 4999)).unwrap();
    assert_eq!(tree.find(3000), Segment::Gap(range(995, 4999)));
    tree.remove(range(0, 994)).unwrap();
    assert_eq!(tree.find(3000), Segment::Gap(range(0, 4999)));
    assert_valid(&tree);
}

#[test]
fn neighbours_of_an_index_inside_an_entry_are_on_either_side_of_it() {
    let tree = sample();
    assert_eq!(tree.at_or_after(5), Some((range(4, 6), &'B')));
    assert_eq!(tree.at_or_before(5), Some((range(4, 6), &'B')));
    assert_eq!(tree.after(5), Some((range(8, 9), &'C')));
    assert_eq!(tree.before(5), Some((range(0, 1), &'A')));
}

#[test]
fn neighbours_of_an_index_in_a_gap_are_the_ends_of_it() {
    let tree = sample();
    assert_eq!(tree.at_or_after(7), Some((range(8, 9), &'C')));
    assert_eq!(tree.after(7), Some((range(8, 9), &'C')));
    assert_eq!(tree.at_or_before(7), Some((range(4, 6), &'B')));
    assert_eq!(tree.before(7), Some((range(4, 6), &'B')));
}

#[test]
fn the_outermost_entries_have_no_neighbours_outside() {
    let tree = sample();
    assert_eq!(
        (tree.first(), tree.last()),
        (Some((range(0, 1), &'A')), Some((range(8, 9), &'C')))
    );
    assert_eq!(
        (tree.before(0), tree.before(1), tree.before(3)),
        (None, None, tree.first())
    );
    assert_eq!((tree.after(8), tree.after(u64::MAX)), (None, None));
    assert_eq!(
        (tree.at_or_after(10), tree.at_or_before(u64::MAX)),
        (None, tree.last())
    );
}

#[test]
fn entries_at_both_ends_of_the_index_space_are_found() {
    let tree = tree_of(&[(0, 0, 'A'), (u64::MAX, u64::MAX, 'Z')]);
    assert_eq!((tree.get(0), tree.get(u64::MAX)), (Some(&'A'), Some(&'Z')));
    assert_eq!(tree.after(0), Some((IndexRange::single(u64::MAX), &'Z')));
    assert_eq!(tree.before(u64::MAX), Some((IndexRange::single(0), &'A')));
    assert_eq!(tree.find(1), Segment::Gap(range(1, u64::MAX - 1)));
}

#[test]
fn neighbours_are_found_across_every_leaf_border() {
    let tree = tall_tree(1000);
    for place in 0..999_u64 {
        let (here, next) = (10 * place, 10 * place + 10);
        assert_eq!(tree.after(here).map(|(_, &value)| value), Some(place + 1));
        assert_eq!(tree.before(next).map(|(_, &value)| value), Some(place));
        assert_eq!(
            tree.at_or_after(here + 5).map(|(_, &value)| value),
            Some(place + 1)
        );
        assert_eq!(
            tree.at_or_before(here + 9).map(|(_, &value)| value),
            Some(place)
        );
    }
}

#[test]
fn a_range_is_vacant_where_it_meets_no_entry() {
    let tree = sample();
    for (first, last) in [(2, 3), (7, 7), (10, u64::MAX)] {
        assert!(tree.is_vacant(range(first, last)), "{first}..={last}");
    }
    for (first, last) in [(1, 3), (2, 4), (7, 8), (0, u64::MAX), (9, 10)] {
        assert!(!tree.is_vacant(range(first, last)), "{first}..={last}");
    }
}

#[test]
fn get_mut_changes_the_value_of_the_whole_entry() {
    let mut tree = sample();
    *tree.get_mut(6).unwrap().unwrap() = 'X';
    assert_eq!(tree.entry(4), Some((range(4, 6), &'X')));
    assert_eq!(tree.get_mut(7).unwrap(), None);
    assert_valid(&tree);
}

#[test]
fn get_mut_is_not_seen_by_a_snapshot() {
    let mut tree = sample();
    let snapshot = tree.snapshot();
    *tree.get_mut(6).unwrap().unwrap() = 'X';
    assert_eq!((snapshot.get(6), tree.get(6)), (Some(&'B'), Some(&'X')));
    assert_valid(&tree);
    assert_valid(&snapshot);
}
