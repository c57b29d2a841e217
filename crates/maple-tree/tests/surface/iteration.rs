//! `iter`, `range`, `gaps`, `segments`, from both ends, and iteration by value.

use crate::{tall_tree, tree_of};
use maple_tree::{IndexRange, MapleTree, Segment};
use std::ops::Bound;
use testkit::range;

/// ```text
///  0123456789abcdef
///  AA..BBB.CC......
/// ```
fn sample() -> MapleTree<char> {
    tree_of(&[(0, 1, 'A'), (4, 6, 'B'), (8, 9, 'C')])
}

fn values<'a>(iter: impl Iterator<Item = (IndexRange, &'a char)>) -> String {
    iter.map(|(_, value)| value).collect()
}

#[test]
fn iteration_is_in_order_from_either_end() {
    let tree = sample();
    assert_eq!(values(tree.iter()), "ABC");
    assert_eq!(values(tree.iter().rev()), "CBA");
    assert_eq!(values((&tree).into_iter()), "ABC");
}

#[test]
fn an_iterator_shows_which_indices_are_left() {
    let tree = sample();
    let mut entries = tree.range(1..=9);
    assert_eq!(format!("{entries:?}"), "Iter { left: Some(0x1..=0x9), .. }");
    entries.next_back();
    assert_eq!(format!("{entries:?}"), "Iter { left: Some(0x1..=0x7), .. }");
    entries.next();
    assert_eq!(format!("{entries:?}"), "Iter { left: Some(0x4..=0x7), .. }");
    assert_eq!(entries.by_ref().rev().count(), 1);
    assert_eq!(format!("{entries:?}"), "Iter { left: None, .. }");
    let empty = MapleTree::<char>::new();
    assert_eq!(format!("{:?}", empty.iter()), "Iter { left: None, .. }");
}

#[test]
fn an_entry_that_overlaps_the_bounds_is_yielded_whole() {
    let tree = sample();
    let found: Vec<_> = tree.range(5..9).map(|(entry, _)| entry).collect();
    assert_eq!(found, [range(4, 6), range(8, 9)]);
}

#[test]
#[expect(
    clippy::reversed_empty_ranges,
    reason = "an empty range is what the test is about"
)]
fn bounds_of_every_kind_are_understood() {
    let tree = sample();
    assert_eq!(values(tree.range(1..4)), "A");
    assert_eq!(values(tree.range(1..=4)), "AB");
    assert_eq!(values(tree.range(..8)), "AB");
    assert_eq!(values(tree.range(7..)), "C");
    assert_eq!(
        values(tree.range((Bound::Excluded(1), Bound::Excluded(8)))),
        "B"
    );
    assert_eq!(values(tree.range(5..5)), "");
    assert_eq!(values(tree.range(9..2)), "");
    assert_eq!(values(tree.range(2..4)), "");
    assert_eq!(values(tree.range(10..)), "");
}

#[test]
fn empty_bounds_have_neither_gaps_nor_segments() {
    let tree = sample();
    assert_eq!(
        (tree.gaps(3..3).count(), tree.segments(3..3).count()),
        (0, 0)
    );
    assert_eq!(
        tree.gaps((Bound::Excluded(u64::MAX), Bound::Unbounded))
            .next(),
        None
    );
}

#[test]
fn gaps_are_clipped_to_the_bounds() {
    let tree = sample();
    let all: Vec<_> = tree.gaps(..).collect();
    assert_eq!(all, [range(2, 3), range(7, 7), range(10, u64::MAX)]);
    let clipped: Vec<_> = tree.gaps(3..=11).rev().collect();
    assert_eq!(clipped, [range(10, 11), range(7, 7), range(3, 3)]);
    assert_eq!(tree.gaps(4..=6).next(), None);
}

#[test]
fn segments_leave_no_index_out() {
    let tree = sample();
    let found: Vec<_> = tree.segments(1..=11).collect();
    let expected = [
        Segment::Entry(range(0, 1), &'A'),
        Segment::Gap(range(2, 3)),
        Segment::Entry(range(4, 6), &'B'),
        Segment::Gap(range(7, 7)),
        Segment::Entry(range(8, 9), &'C'),
        Segment::Gap(range(10, 11)),
    ];
    assert_eq!(found, expected);
    let mut backwards: Vec<_> = tree.segments(1..=11).rev().collect();
    backwards.reverse();
    assert_eq!(backwards, expected);
}

#[test]
fn an_empty_tree_has_one_gap_and_no_entry() {
    let tree = MapleTree::<char>::new();
    assert_eq!((tree.iter().next(), tree.iter().next_back()), (None, None));
    assert!(tree.gaps(..).eq([IndexRange::FULL]));
    assert!(tree.segments(5..=9).eq([Segment::Gap(range(5, 9))]));
}

#[test]
fn the_ends_meet_wherever_they_are_taken_from() {
    for entries in [1, 2, 16, 17, 200] {
        let tree = tall_tree(entries);
        for from_front in 0..=entries as usize {
            let mut iter = tree.iter();
            let front: Vec<u64> = iter
                .by_ref()
                .take(from_front)
                .map(|(_, &value)| value)
                .collect();
            let back: Vec<u64> = iter.by_ref().rev().map(|(_, &value)| value).collect();
            assert!(front.into_iter().eq(0..from_front as u64));
            assert!(back.into_iter().eq((from_front as u64..entries).rev()));
            assert_eq!((iter.next(), iter.next_back()), (None, None));
        }
    }
}

#[test]
fn segments_and_gaps_meet_in_the_middle_too() {
    let tree = tall_tree(40);
    for taken in 0..=80 {
        let mut segments = tree.segments(0..400);
        let front = segments.by_ref().take(taken).count();
        assert_eq!(front + segments.by_ref().rev().count(), 80);
        assert_eq!((segments.next(), segments.next_back()), (None, None));
    }
    for taken in 0..=40 {
        let mut gaps = tree.gaps(0..400);
        let front = gaps.by_ref().take(taken).count();
        assert_eq!(front + gaps.by_ref().rev().count(), 40);
        assert_eq!((gaps.next(), gaps.next_back()), (None, None));
    }
}

#[test]
fn one_entry_over_everything_is_yielded_once() {
    let tree = tree_of(&[(0, u64::MAX, 'A')]);
    let mut iter = tree.iter();
    assert_eq!(iter.next_back(), Some((IndexRange::FULL, &'A')));
    assert_eq!((iter.next(), iter.next_back()), (None, None));
    assert_eq!(values(tree.range(77..=77)), "A");
    assert_eq!(tree.gaps(..).next(), None);
}

#[test]
fn a_clone_of_an_iterator_goes_on_from_the_same_place() {
    let tree = tall_tree(100);
    let mut iter = tree.iter();
    iter.nth(30);
    iter.nth_back(30);
    assert!(iter.clone().eq(iter));
}

#[test]
fn bounds_between_every_two_leaves_are_exact() {
    let tree = tall_tree(300);
    for first in (0..3000).step_by(7) {
        let last = first + 23;
        let found: Vec<_> = tree.range(first..=last).map(|(entry, _)| entry).collect();
        let all = (0..300).map(|place| range(10 * place, 10 * place + 4));
        let expected: Vec<_> = all
            .filter(|entry| entry.overlaps(range(first, last)))
            .collect();
        assert_eq!(found, expected, "{first}..={last}");
        let mut backwards: Vec<_> = tree
            .range(first..=last)
            .rev()
            .map(|(entry, _)| entry)
            .collect();
        backwards.reverse();
        assert_eq!(backwards, expected, "{first}..={last} backwards");
    }
}

#[test]
fn iteration_by_value_moves_the_values_out_from_both_ends() {
    let mut owned = sample().into_iter();
    assert_eq!(owned.next(), Some((range(0, 1), 'A')));
    assert!(owned.eq([(range(4, 6), 'B'), (range(8, 9), 'C')]));
}
