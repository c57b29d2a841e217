//! `overlay`.

use crate::{tall_tree, tree_of};
use maple_tree::{IndexRange, MapleTree, Overlaid};
use testkit::range;

type Piece = (u64, u64, Option<char>, Option<char>);

fn pieces(left: &MapleTree<char>, right: &MapleTree<char>) -> Vec<Piece> {
    let piece = |(range, found): (IndexRange, Overlaid<'_, char, char>)| {
        let (left, right) = (found.left().copied(), found.right().copied());
        (range.first(), range.last(), left, right)
    };
    left.overlay(right).map(piece).collect()
}

/// ```text
///           0123456789abcdef
///  left     AAAAAA..BBBB....
///  right    ..CCC..DDD....E.
/// ```
#[test]
fn pieces_end_where_an_entry_of_either_tree_does() {
    let left = tree_of(&[(0, 5, 'A'), (8, 11, 'B')]);
    let right = tree_of(&[(2, 4, 'C'), (7, 9, 'D'), (14, 14, 'E')]);
    let expected = [
        (0, 1, Some('A'), None),
        (2, 4, Some('A'), Some('C')),
        (5, 5, Some('A'), None),
        (7, 7, None, Some('D')),
        (8, 9, Some('B'), Some('D')),
        (10, 11, Some('B'), None),
        (14, 14, None, Some('E')),
    ];
    assert_eq!(pieces(&left, &right), expected);
    let mirrored = expected.map(|(first, last, left, right)| (first, last, right, left));
    assert_eq!(pieces(&right, &left), mirrored);
}

#[test]
fn touching_entries_of_one_tree_are_pieces_of_their_own() {
    let left = tree_of(&[(0, 9, 'A')]);
    let right = tree_of(&[(0, 4, 'B'), (5, 9, 'B')]);
    let expected = [(0, 4, Some('A'), Some('B')), (5, 9, Some('A'), Some('B'))];
    assert_eq!(pieces(&left, &right), expected);
}

#[test]
fn an_empty_tree_adds_nothing() {
    let tree = tree_of(&[(0, 0, 'A'), (3, u64::MAX, 'B')]);
    let empty = MapleTree::new();
    let expected = [(0, 0, Some('A'), None), (3, u64::MAX, Some('B'), None)];
    assert_eq!(pieces(&tree, &empty), expected);
    assert_eq!(pieces(&empty, &empty), []);
}

#[test]
fn both_ends_of_the_index_space_are_compared() {
    let left = tree_of(&[(0, u64::MAX, 'A')]);
    let right = tree_of(&[(0, 0, 'B'), (u64::MAX, u64::MAX, 'C')]);
    let expected = [
        (0, 0, Some('A'), Some('B')),
        (1, u64::MAX - 1, Some('A'), None),
        (u64::MAX, u64::MAX, Some('A'), Some('C')),
    ];
    assert_eq!(pieces(&left, &right), expected);
}

#[test]
fn a_snapshot_differs_only_where_it_was_written_to() {
    let before = tall_tree(60);
    let mut now = before.snapshot();
    now.store(range(305, 333), 9).unwrap();
    now.erase(500).unwrap();
    let changed: Vec<_> = before
        .overlay(&now)
        .filter(|(_, found)| found.left() != found.right())
        .map(|(range, _)| (range.first(), range.last()))
        .collect();
    assert_eq!(
        changed,
        [
            (305, 309),
            (310, 314),
            (315, 319),
            (320, 324),
            (325, 329),
            (330, 333),
            (500, 504)
        ]
    );
}

#[test]
fn trees_of_different_values_can_be_laid_over_each_other() {
    let names = tree_of(&[(0, 9, 'A')]);
    let sizes = tall_tree(1);
    let found: Vec<_> = names.overlay(&sizes).collect();
    let expected = [
        (range(0, 4), Overlaid::Both(&'A', &0)),
        (range(5, 9), Overlaid::Left(&'A')),
    ];
    assert_eq!(found, expected);
    let mut pieces = names.overlay(&sizes);
    pieces.next();
    assert_eq!(pieces.clone().count(), 1);
    assert!(format!("{pieces:?}").contains("0x5..=0x9"), "{pieces:?}");
}
