//! `Cursor` and `CursorMut`: steps, and writes under a cursor that goes on from where it wrote.

use crate::{tall_tree, tree_of};
use maple_tree::{IndexRange, MapleTree, Segment, StoreErrorKind};
use testkit::{FailingNodes, TestNodes, assert_holds, assert_valid, range};

/// ```text
///  0123456789abcdef
///  AA..BBB.CC......
/// ```
fn sample() -> MapleTree<char> {
    tree_of(&[(0, 1, 'A'), (4, 6, 'B'), (8, 9, 'C')])
}

mod reading {
    use super::*;

    #[test]
    fn a_cursor_begins_on_the_entry_or_gap_around_its_index() {
        let tree = sample();
        assert_eq!(tree.cursor(5).segment(), Segment::Entry(range(4, 6), &'B'));
        assert_eq!(tree.cursor(3).range(), range(2, 3));
        assert_eq!(tree.cursor(u64::MAX).range(), range(10, u64::MAX));
    }

    #[test]
    fn steps_visit_entries_and_gaps_alike_and_end_at_the_ends() {
        let tree = sample();
        let mut cursor = tree.cursor(0);
        let mut up = vec![cursor.range()];
        while let Some(segment) = cursor.next() {
            up.push(segment.range());
        }
        assert!(tree.segments(..).map(Segment::range).eq(up.iter().copied()));
        let mut down = vec![cursor.range()];
        while let Some(segment) = cursor.previous() {
            down.push(segment.range());
        }
        down.reverse();
        assert_eq!(down, up);
        assert_eq!((cursor.previous(), cursor.range()), (None, range(0, 1)));
    }

    #[test]
    fn entry_steps_pass_over_gaps() {
        let tree = sample();
        let mut cursor = tree.cursor(3);
        assert_eq!(cursor.next_entry(), Some((range(4, 6), &'B')));
        assert_eq!(cursor.next_entry(), Some((range(8, 9), &'C')));
        assert_eq!(cursor.previous_entry(), Some((range(4, 6), &'B')));
        assert_eq!(cursor.previous_entry(), Some((range(0, 1), &'A')));
    }

    #[test]
    fn an_entry_step_that_finds_none_stays_where_it_is() {
        let tree = sample();
        let mut cursor = tree.cursor(8);
        assert_eq!((cursor.next_entry(), cursor.range()), (None, range(8, 9)));
        assert_eq!(cursor.previous_entry(), Some((range(4, 6), &'B')));
        let mut behind = tree.cursor(77);
        assert_eq!(
            (behind.next_entry(), behind.range()),
            (None, range(10, u64::MAX))
        );
        let mut before = tree.cursor(0);
        assert_eq!(
            (before.previous_entry(), before.range()),
            (None, range(0, 1))
        );
    }

    #[test]
    fn an_empty_tree_is_one_gap_to_a_cursor() {
        let tree = MapleTree::<char>::new();
        let mut cursor = tree.cursor(77);
        assert_eq!(cursor.segment(), Segment::Gap(IndexRange::FULL));
        assert_eq!((cursor.next(), cursor.previous()), (None, None));
        assert_eq!((cursor.next_entry(), cursor.previous_entry()), (None, None));
    }

    #[test]
    fn a_tall_tree_is_walked_from_end_to_end_and_back() {
        let tree = tall_tree(1000);
        let mut cursor = tree.cursor(0);
        for place in 1..1000_u64 {
            assert_eq!(
                cursor.next_entry(),
                Some((range(10 * place, 10 * place + 4), &place))
            );
        }
        assert_eq!(cursor.next_entry(), None);
        for place in (0..999_u64).rev() {
            assert_eq!(
                cursor.previous_entry(),
                Some((range(10 * place, 10 * place + 4), &place))
            );
        }
        assert_eq!(cursor.previous_entry(), None);
    }

    #[test]
    fn a_clone_steps_on_its_own() {
        let tree = tall_tree(100);
        let mut cursor = tree.cursor(500);
        let mut clone = cursor.clone();
        assert_eq!(cursor.next_entry().map(|(_, &value)| value), Some(51));
        assert_eq!(clone.previous_entry().map(|(_, &value)| value), Some(49));
    }
}

mod writing {
    use super::*;

    #[test]
    fn a_store_is_what_the_cursor_then_stands_on() {
        let mut tree = sample();
        let mut cursor = tree.cursor_mut(5);
        cursor.store(range(5, 8), 'X').unwrap();
        assert_eq!(cursor.segment(), Segment::Entry(range(5, 8), &'X'));
        assert_eq!(cursor.next_entry(), Some((range(9, 9), &'C')));
        assert_holds(&tree, &[(0, 1, 'A'), (4, 4, 'B'), (5, 8, 'X'), (9, 9, 'C')]);
    }

    #[test]
    fn an_erase_leaves_the_cursor_on_the_joined_gap() {
        let mut tree = sample();
        let mut cursor = tree.cursor_mut(5);
        assert_eq!(cursor.erase(), Ok(Some((range(4, 6), 'B'))));
        assert_eq!(cursor.segment(), Segment::Gap(range(2, 7)));
        assert_eq!(cursor.erase(), Ok(None));
        assert_eq!(cursor.next_entry(), Some((range(8, 9), &'C')));
        assert_holds(&tree, &[(0, 1, 'A'), (8, 9, 'C')]);
    }

    #[test]
    fn an_insert_into_the_gap_that_the_cursor_stands_on() {
        let mut tree = sample();
        let mut cursor = tree.cursor_mut(3);
        let gap = cursor.range();
        cursor.insert(gap, 'X').unwrap();
        assert_eq!(cursor.previous_entry(), Some((range(0, 1), &'A')));
        assert_holds(&tree, &[(0, 1, 'A'), (2, 3, 'X'), (4, 6, 'B'), (8, 9, 'C')]);
    }

    #[test]
    fn a_refused_insert_leaves_the_cursor_where_it_was() {
        let mut tree = sample();
        let mut cursor = tree.cursor_mut(3);
        let refused = cursor.insert(range(3, 4), 'X').unwrap_err();
        assert_eq!(
            (refused.kind, refused.value),
            (StoreErrorKind::Occupied, 'X')
        );
        assert_eq!(cursor.range(), range(2, 3));
    }

    #[test]
    fn a_write_without_nodes_leaves_the_cursor_where_it_was() {
        let nodes = FailingNodes::new();
        let mut tree = MapleTree::new_in(nodes.clone());
        tree.insert(range(0, 9), 'A').unwrap();
        let mut copy = tree.snapshot();
        let mut cursor = copy.cursor_mut(12);
        nodes.fail_after(Some(0));
        let refused = cursor.store(range(3, 4), 'X').unwrap_err();
        assert_eq!(
            (refused.kind, refused.value),
            (StoreErrorKind::OutOfNodes, 'X')
        );
        assert!(cursor.remove(range(3, 4)).is_err());
        assert_eq!(cursor.segment(), Segment::Gap(range(10, u64::MAX)));
        nodes.fail_after(None);
        assert_holds(&copy, &[(0, 9, 'A')]);
    }

    #[test]
    fn a_removal_leaves_the_cursor_on_the_gap_around_it() {
        let mut tree = sample();
        let mut cursor = tree.cursor_mut(0);
        cursor.remove(range(5, 8)).unwrap();
        assert_eq!(cursor.segment(), Segment::Gap(range(5, 8)));
        assert_eq!(cursor.previous(), Some(Segment::Entry(range(4, 4), &'B')));
    }

    #[test]
    fn value_mut_changes_what_the_cursor_stands_on() {
        let mut tree = sample();
        let mut cursor = tree.cursor_mut(5);
        *cursor.value_mut().unwrap().unwrap() = 'X';
        assert_eq!(cursor.segment().entry(), Some(&'X'));
        cursor.next();
        assert_eq!(cursor.value_mut(), Ok(None));
    }

    #[test]
    fn seek_moves_anywhere() {
        let mut tree = sample();
        let mut cursor = tree.cursor_mut(0);
        assert_eq!(cursor.seek(9), Segment::Entry(range(8, 9), &'C'));
        assert_eq!(cursor.seek(u64::MAX), Segment::Gap(range(10, u64::MAX)));
        assert_eq!(cursor.next(), None);
        assert_eq!(cursor.range(), range(10, u64::MAX));
    }

    /// The head or the tail of each entry is overwritten while the walk stands on it; the walk goes
    /// on behind what it wrote.
    #[test]
    fn a_walk_that_overwrites_goes_on_behind_its_writes() {
        let mut tree = tall_tree(400);
        let mut cursor = tree.cursor_mut(0);
        let mut visited = 0;
        loop {
            let entry = cursor.range();
            visited += 1;
            let part = if visited % 2 == 0 {
                range(entry.first(), entry.first() + 1)
            } else {
                range(entry.last() - 1, entry.last())
            };
            cursor.store(part, 7777).unwrap();
            if visited % 2 == 0 {
                cursor.next_entry();
            }
            if cursor.next_entry().is_none() {
                break;
            }
        }
        assert_eq!((visited, tree.len()), (400, 800));
        assert_eq!(
            tree.iter().filter(|(_, value)| **value == 7777).count(),
            400
        );
        assert_valid(&tree);
    }

    #[test]
    fn a_walk_that_erases_everything_meets_every_entry() {
        let mut tree = tall_tree(700);
        let mut cursor = tree.cursor_mut(u64::MAX);
        let mut erased = Vec::new();
        while cursor.previous_entry().is_some() {
            erased.extend(cursor.erase().unwrap().map(|(_, value)| value));
        }
        assert!(erased.into_iter().eq((0..700).rev()));
        assert_holds(&tree, &[]);
    }
}
