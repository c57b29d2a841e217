//! `insert`, `store`, `erase`, `remove`, `clear`, their visitors, and `Preallocation`.

use crate::{tall_tree, tree_of};
use maple_tree::{IndexRange, MapleTree, Occupied, StoreErrorKind};
use testkit::{assert_holds, assert_valid, range};

mod insert {
    use super::*;

    #[test]
    fn a_vacant_range_is_filled() {
        let mut tree = tree_of(&[(0, 1, 'A'), (8, 9, 'C')]);
        tree.insert(range(2, 7), 'B').unwrap();
        assert_holds(&tree, &[(0, 1, 'A'), (2, 7, 'B'), (8, 9, 'C')]);
    }

    #[test]
    fn one_taken_index_refuses_the_whole_range() {
        let mut tree = tree_of(&[(4, 6, 'B')]);
        for (first, last) in [(0, 4), (6, 9), (5, 5), (4, 6), (0, u64::MAX)] {
            let refused = tree.insert(range(first, last), 'X').unwrap_err();
            assert_eq!(
                (refused.kind, refused.value),
                (StoreErrorKind::Occupied, 'X')
            );
            assert_holds(&tree, &[(4, 6, 'B')]);
        }
    }

    #[test]
    fn the_first_and_the_last_index_can_hold_an_entry() {
        let mut tree = MapleTree::new();
        tree.insert(IndexRange::single(0), 'A').unwrap();
        tree.insert(IndexRange::single(u64::MAX), 'Z').unwrap();
        tree.insert(range(1, u64::MAX - 1), 'M').unwrap();
        assert_holds(
            &tree,
            &[
                (0, 0, 'A'),
                (1, u64::MAX - 1, 'M'),
                (u64::MAX, u64::MAX, 'Z'),
            ],
        );
    }

    #[test]
    fn one_entry_can_cover_every_index() {
        let mut tree = MapleTree::new();
        tree.insert(IndexRange::FULL, 'A').unwrap();
        assert_holds(&tree, &[(0, u64::MAX, 'A')]);
        assert!(tree.insert(IndexRange::single(9), 'X').is_err());
    }

    #[test]
    fn equal_neighbours_stay_apart() {
        let tree = tree_of(&[(0, 4, 'A'), (5, 9, 'A')]);
        assert_holds(&tree, &[(0, 4, 'A'), (5, 9, 'A')]);
    }
}

mod store {
    use super::*;

    /// An entry, `(first, last, value)`.
    type Part = (u64, u64, char);

    #[test]
    fn exactly_an_entry_replaces_its_value() {
        let mut tree = tree_of(&[(0, 1, 'A'), (4, 6, 'B'), (8, 9, 'C')]);
        tree.store(range(4, 6), 'X').unwrap();
        assert_holds(&tree, &[(0, 1, 'A'), (4, 6, 'X'), (8, 9, 'C')]);
    }

    /// ```text
    ///  0123456789
    ///  AAAAAAAAAA
    ///  ***    ***
    ///     **
    /// ```
    #[test]
    fn the_head_the_tail_and_the_middle_of_an_entry_are_cut_out() {
        let cases: [(u64, u64, &[Part]); 3] = [
            (0, 2, &[(0, 2, 'X'), (3, 9, 'A')]),
            (7, 9, &[(0, 6, 'A'), (7, 9, 'X')]),
            (3, 4, &[(0, 2, 'A'), (3, 4, 'X'), (5, 9, 'A')]),
        ];
        for (first, last, expected) in cases {
            let mut tree = tree_of(&[(0, 9, 'A')]);
            tree.store(range(first, last), 'X').unwrap();
            assert_holds(&tree, expected);
        }
    }

    /// ```text
    ///  0123456789abcdef
    ///  AA..BBB.CC..DDDD
    ///   ************
    /// ```
    #[test]
    fn entries_between_go_and_the_outer_two_are_cut() {
        let mut tree = tree_of(&[(0, 1, 'A'), (4, 6, 'B'), (8, 9, 'C'), (12, 15, 'D')]);
        tree.store(range(1, 12), 'X').unwrap();
        assert_holds(&tree, &[(0, 0, 'A'), (1, 12, 'X'), (13, 15, 'D')]);
    }

    #[test]
    fn a_store_over_every_index_leaves_one_entry() {
        let mut tree = tall_tree(700);
        tree.store(IndexRange::FULL, 9).unwrap();
        assert_holds(&tree, &[(0, u64::MAX, 9)]);
        assert_eq!(tree.height(), 1);
    }

    #[test]
    fn holes_punched_into_the_full_range_reach_both_ends() {
        let mut tree = MapleTree::new();
        tree.insert(IndexRange::FULL, 'A').unwrap();
        tree.store(IndexRange::single(0), 'B').unwrap();
        tree.store(IndexRange::single(u64::MAX), 'C').unwrap();
        assert_holds(
            &tree,
            &[
                (0, 0, 'B'),
                (1, u64::MAX - 1, 'A'),
                (u64::MAX, u64::MAX, 'C'),
            ],
        );
    }

    #[test]
    fn every_displaced_part_is_visited_lowest_first_and_clipped() {
        let mut tree = tree_of(&[(0, 4, 'A'), (6, 6, 'B'), (8, 20, 'C')]);
        let mut parts = Vec::new();
        tree.store_with(range(2, 10), 'X', |part, &value| parts.push((part, value)))
            .unwrap();
        assert_eq!(
            parts,
            [(range(2, 4), 'A'), (range(6, 6), 'B'), (range(8, 10), 'C')]
        );
        assert_holds(&tree, &[(0, 1, 'A'), (2, 10, 'X'), (11, 20, 'C')]);
    }

    #[test]
    fn a_store_into_a_gap_visits_nothing() {
        let mut tree = tree_of(&[(0, 4, 'A')]);
        tree.store_with(range(5, 9), 'X', |part, _| panic!("visited {part}"))
            .unwrap();
        assert_holds(&tree, &[(0, 4, 'A'), (5, 9, 'X')]);
    }

    #[test]
    fn a_spanning_store_visits_the_parts_of_every_leaf() {
        let mut tree = tall_tree(500);
        let mut visited = Vec::new();
        tree.store_with(range(12, 4901), 7777, |_, &value| visited.push(value))
            .unwrap();
        assert!(visited.into_iter().eq(1..=490));
        assert_eq!(tree.len(), 2 + 1 + 10);
        assert_valid(&tree);
    }
}

mod erase {
    use super::*;

    #[test]
    fn the_whole_entry_goes_whichever_index_of_it_is_named() {
        for index in 4..=6 {
            let mut tree = tree_of(&[(0, 1, 'A'), (4, 6, 'B')]);
            assert_eq!(tree.erase(index), Ok(Some((range(4, 6), 'B'))));
            assert_holds(&tree, &[(0, 1, 'A')]);
        }
    }

    #[test]
    fn a_gap_has_nothing_to_erase() {
        let mut tree = tree_of(&[(4, 6, 'B')]);
        assert_eq!((tree.erase(3), tree.erase(7)), (Ok(None), Ok(None)));
        assert_holds(&tree, &[(4, 6, 'B')]);
    }

    #[test]
    fn the_gap_left_behind_joins_both_neighbours() {
        let mut tree = tree_of(&[(0, 1, 'A'), (4, 6, 'B'), (9, 9, 'C')]);
        tree.erase(5).unwrap();
        assert_eq!(tree.find(5).range(), range(2, 8));
    }

    #[test]
    fn the_last_entry_leaves_an_empty_tree() {
        let mut tree = tree_of(&[(4, 6, 'B')]);
        tree.erase(4).unwrap();
        assert_holds(&tree, &[]);
        assert_eq!(tree.height(), 0);
    }

    #[test]
    fn erasing_in_any_order_shrinks_the_tree_to_nothing() {
        for step in [1_u64, 7, 499, 998] {
            let mut tree = tall_tree(1000);
            for place in 0..1000_u64 {
                // 1000 and the odd steps here have no common divisor, 998 leaves every other one.
                let place = place * step % 1000;
                tree.erase(10 * place).unwrap();
                if place % 16 == 0 {
                    assert_valid(&tree);
                }
            }
            let left = if step == 998 { 500 } else { 0 };
            assert_eq!(tree.len(), left);
            assert_valid(&tree);
        }
    }
}

mod remove {
    use super::*;

    /// ```text
    ///  0123456789abcdef
    ///  AAAAA.BB.CCCCC..
    ///     --------
    /// ```
    #[test]
    fn entries_that_reach_out_keep_their_outer_parts() {
        let mut tree = tree_of(&[(0, 4, 'A'), (6, 7, 'B'), (9, 13, 'C')]);
        tree.remove(range(3, 10)).unwrap();
        assert_holds(&tree, &[(0, 2, 'A'), (11, 13, 'C')]);
    }

    #[test]
    fn the_middle_of_an_entry_leaves_two() {
        let mut tree = tree_of(&[(0, 9, 'A')]);
        tree.remove(range(3, 4)).unwrap();
        assert_holds(&tree, &[(0, 2, 'A'), (5, 9, 'A')]);
    }

    #[test]
    fn a_gap_stays_a_gap() {
        let mut tree = tree_of(&[(0, 4, 'A'), (9, 9, 'B')]);
        tree.remove(range(5, 8)).unwrap();
        tree.remove(range(10, u64::MAX)).unwrap();
        assert_holds(&tree, &[(0, 4, 'A'), (9, 9, 'B')]);
    }

    #[test]
    fn every_removed_part_is_visited() {
        let mut tree = tree_of(&[(0, 4, 'A'), (6, 7, 'B'), (9, 13, 'C')]);
        let mut parts = Vec::new();
        tree.remove_with(range(3, 10), |part, &value| parts.push((part, value)))
            .unwrap();
        assert_eq!(
            parts,
            [(range(3, 4), 'A'), (range(6, 7), 'B'), (range(9, 10), 'C')]
        );
    }

    #[test]
    fn everything_can_be_removed_at_once_and_the_tree_used_again() {
        let mut tree = tall_tree(700);
        tree.remove(IndexRange::FULL).unwrap();
        assert_holds(&tree, &[]);
        tree.insert(range(3, 4), 1).unwrap();
        assert_holds(&tree, &[(3, 4, 1)]);
    }

    #[test]
    fn the_edges_of_the_index_space_can_be_cut_off() {
        let mut tree = MapleTree::new();
        tree.insert(IndexRange::FULL, 'A').unwrap();
        tree.remove(IndexRange::single(0)).unwrap();
        tree.remove(IndexRange::single(u64::MAX)).unwrap();
        assert_holds(&tree, &[(1, u64::MAX - 1, 'A')]);
    }
}

#[test]
fn clear_leaves_an_empty_tree_of_the_same_kind() {
    let mut tree = tall_tree(700);
    tree.clear();
    assert_holds(&tree, &[]);
    assert!(tree.tracks_gaps());
    tree.clear();
    assert_eq!(tree.height(), 0);
}

mod preallocation {
    use super::*;
    use testkit::{FailingNodes, TestNodes};

    #[test]
    fn reserved_writes_do_what_the_others_do() {
        let mut tree = tree_of(&[(0, 9, 'A'), (20, 29, 'B'), (40, 49, 'C')]);
        let mut reserved = tree.preallocate(6).unwrap();
        reserved.store(range(3, 4), 'X');
        reserved.insert(range(10, 12), 'Y').unwrap();
        assert_eq!(reserved.insert(range(5, 12), 'Z'), Err(Occupied('Z')));
        assert_eq!(reserved.erase(25), Some((range(20, 29), 'B')));
        reserved.remove(range(45, 60));
        drop(reserved);
        let expected = [
            (0, 2, 'A'),
            (3, 4, 'X'),
            (5, 9, 'A'),
            (10, 12, 'Y'),
            (40, 44, 'C'),
        ];
        assert_holds(&tree, &expected);
    }

    #[test]
    fn reserved_writes_visit_what_they_displace() {
        let mut tree = tree_of(&[(0, 9, 'A'), (20, 29, 'B')]);
        let mut parts = Vec::new();
        let mut reserved = tree.preallocate(2).unwrap();
        reserved.store_with(range(5, 24), 'X', |part, &value| parts.push((part, value)));
        reserved.remove_with(range(0, 2), |part, &value| parts.push((part, value)));
        assert_eq!(
            parts,
            [(range(5, 9), 'A'), (range(20, 24), 'B'), (range(0, 2), 'A')]
        );
    }

    #[test]
    fn a_reservation_can_be_read_through() {
        let mut tree = tree_of(&[(0, 9, 'A')]);
        let mut reserved = tree.preallocate(1).unwrap();
        assert_eq!((reserved.get(9), reserved.len()), (Some(&'A'), 1));
        reserved.store(range(9, 9), 'B');
        assert_eq!((reserved.get(9), reserved.len()), (Some(&'B'), 2));
    }

    /// The worst a write can do to a tree of several levels, with not one node to be had.
    #[test]
    fn a_reservation_covers_spanning_writes_on_a_shared_tree() {
        let nodes = FailingNodes::new();
        let mut tree = MapleTree::with_gaps_in(nodes.clone());
        for place in 0..2000_u64 {
            tree.insert(range(10 * place, 10 * place + 4), place)
                .unwrap();
        }
        let snapshot = tree.snapshot();
        let mut reserved = tree.preallocate(20).unwrap();
        nodes.fail_after(Some(0));
        for round in 0..20_u64 {
            let first = 977 * round % 15_000;
            reserved.store(range(first + 2, first + 2 + 300 * (round % 7)), 1);
        }
        drop(reserved);
        nodes.fail_after(None);
        assert_valid(&tree);
        assert!(snapshot.iter().map(|(_, &value)| value).eq(0..2000));
        drop((tree, snapshot));
        nodes.assert_settled();
    }

    #[test]
    fn a_snapshot_taken_inside_a_reservation_does_not_break_it() {
        let nodes = FailingNodes::new();
        let mut tree = MapleTree::with_gaps_in(nodes.clone());
        for place in 0..2000_u64 {
            tree.insert(range(10 * place, 10 * place + 4), place)
                .unwrap();
        }
        let mut reserved = tree.preallocate(4).unwrap();
        nodes.fail_after(Some(0));
        let mut snapshots = Vec::new();
        for round in 0..4_u64 {
            snapshots.push(reserved.snapshot());
            reserved.store(range(4000 * round + 2, 4000 * round + 2002), 1);
        }
        drop(reserved);
        nodes.fail_after(None);
        assert_valid(&tree);
        snapshots.iter().for_each(assert_valid);
    }

    #[test]
    #[should_panic(expected = "preallocated")]
    fn more_writes_than_were_asked_for_are_a_broken_promise() {
        let mut tree = tree_of(&[(0, 9, 'A')]);
        let mut reserved = tree.preallocate(1).unwrap();
        reserved.store(range(3, 3), 'B');
        reserved.store(range(4, 4), 'C');
    }
}
