//! Writing to places that were found before: `for_each_mut`, `slot`, `store_coalescing`.

use crate::accounts::{Accounts, Counted, MANY, fail_each};
use crate::{tall_tree, tree_of};
use maple_tree::{
    GapEntry, IndexRange, MapleTree, OccupiedEntry, OutOfNodes, SlotEntry, StoreError,
    StoreErrorKind,
};
use std::panic::{AssertUnwindSafe, catch_unwind};
use testkit::{FailingNodes, Token, assert_holds, assert_valid, range};

/// The failure that [`fail_each`] looks for; any other fails the test.
fn out_of_nodes(error: &StoreError<Token>) -> OutOfNodes {
    assert_eq!(error.kind, StoreErrorKind::OutOfNodes);
    assert_eq!(error.value.id(), 900, "the value comes back");
    OutOfNodes
}

mod for_each_mut {
    use super::*;
    use std::ops::Bound;

    #[test]
    fn every_overlapping_entry_is_visited_whole_and_in_order() {
        let mut tree = tree_of(&[(0, 4, 'A'), (6, 6, 'B'), (8, 20, 'C'), (30, u64::MAX, 'D')]);
        let mut visited = Vec::new();
        tree.for_each_mut(4..=8, |range, value| {
            visited.push(range);
            *value = value.to_ascii_lowercase();
        })
        .unwrap();
        assert_eq!(visited, [range(0, 4), range(6, 6), range(8, 20)]);
        let expected = [(0, 4, 'a'), (6, 6, 'b'), (8, 20, 'c'), (30, u64::MAX, 'D')];
        assert_holds(&tree, &expected);
    }

    #[test]
    fn any_kind_of_bounds_will_do() {
        let visited = |bounds: (Bound<u64>, Bound<u64>)| {
            let mut tree = tree_of(&[(0, 0, 'A'), (5, 9, 'B'), (u64::MAX, u64::MAX, 'C')]);
            let mut seen = String::new();
            tree.for_each_mut(bounds, |_, value| seen.push(*value))
                .unwrap();
            seen
        };
        use Bound::{Excluded, Included, Unbounded};
        assert_eq!(visited((Unbounded, Unbounded)), "ABC");
        assert_eq!(visited((Excluded(0), Excluded(u64::MAX))), "B");
        assert_eq!(visited((Included(u64::MAX), Unbounded)), "C");
        assert_eq!(visited((Unbounded, Included(0))), "A");
        assert_eq!(visited((Included(9), Excluded(9))), "");
        assert_eq!(visited((Excluded(u64::MAX), Unbounded)), "");
    }

    #[test]
    fn a_snapshot_does_not_see_the_change() {
        let mut tree = tall_tree(MANY.into());
        let before = tree.snapshot();
        tree.for_each_mut(.., |_, value| *value += 1).unwrap();
        assert!(before == tall_tree(MANY.into()));
        let raised = 1..=u64::from(MANY);
        assert!(tree.iter().map(|(_, &value)| value).eq(raised));
        MapleTree::validate_family(&[&tree, &before]).unwrap();
    }

    #[test]
    fn a_panic_of_the_visitor_keeps_what_it_changed() {
        let mut tree = tall_tree(100);
        let result = catch_unwind(AssertUnwindSafe(|| {
            tree.for_each_mut(.., |_, value| {
                assert_ne!(*value, 50, "the planned panic");
                *value += 1000;
            })
        }));
        assert!(result.is_err());
        assert_eq!((tree.get(490), tree.get(500)), (Some(&1049), Some(&50)));
        assert_valid(&tree);
    }

    #[test]
    fn without_memory_nothing_is_visited() {
        for entries in [20, MANY] {
            fail_each(entries, |tree, ledger| {
                let mut visited = 0;
                let done = tree.for_each_mut(.., |_, value| {
                    visited += 1;
                    *value = ledger.token(900);
                });
                assert_eq!(visited, if done.is_ok() { entries } else { 0 });
                done
            });
        }
    }
}

mod slots {
    use super::*;

    fn occupied(tree: &mut Counted, index: u64) -> OccupiedEntry<'_, Token, FailingNodes> {
        match tree.slot(index) {
            SlotEntry::Occupied(entry) => entry,
            SlotEntry::Gap(gap) => panic!("{index:#x} lies in a gap: {gap:?}"),
        }
    }

    fn gap(tree: &mut MapleTree<char>, index: u64) -> GapEntry<'_, char> {
        match tree.slot(index) {
            SlotEntry::Gap(gap) => gap,
            SlotEntry::Occupied(entry) => panic!("{index:#x} is taken: {entry:?}"),
        }
    }

    #[test]
    fn bounds_are_those_of_the_whole_entry_or_gap() {
        let mut tree = tree_of(&[(3, 4, 'A'), (9, 9, 'B')]);
        for (index, first, last) in [
            (0, 0, 2),
            (3, 3, 4),
            (4, 3, 4),
            (5, 5, 8),
            (9, 9, 9),
            (10, 10, u64::MAX),
            (u64::MAX, 10, u64::MAX),
        ] {
            assert_eq!(tree.slot(index).range(), range(first, last));
        }
        assert_eq!(MapleTree::<u64>::new().slot(0).range(), IndexRange::FULL);
    }

    #[test]
    fn a_value_is_read_changed_and_replaced() {
        let mut accounts = Accounts::of(30);
        let mut entry = occupied(&mut accounts.tree, 102);
        assert_eq!((entry.get().id(), entry.range()), (10, range(100, 104)));
        assert_eq!(entry.get_mut().unwrap().id(), 10);
        let old = entry.replace(accounts.ledger.token(77)).unwrap();
        assert_eq!((old.id(), entry.get().id()), (10, 77));
        *entry.into_mut().unwrap() = old;
        assert_eq!(accounts.tree.get(100).unwrap().id(), 10);
        assert_eq!(accounts.ledger.live(), 30);
        accounts.settle();
    }

    #[test]
    fn a_removed_entry_is_handed_out() {
        let mut accounts = Accounts::of(30);
        let (removed, value) = occupied(&mut accounts.tree, 102).remove().unwrap();
        assert_eq!((removed, value.id()), (range(100, 104), 10));
        assert!(accounts.tree.is_vacant(range(95, 109)));
        drop(value);
        assert_eq!(accounts.ledger.live(), 29);
        accounts.settle();
    }

    #[test]
    fn a_gap_is_filled_whole_or_in_part() {
        let mut tree = tree_of(&[(3, 4, 'A'), (9, 9, 'B')]);
        let entry = gap(&mut tree, 7).insert(range(6, 7), 'C').unwrap();
        assert_eq!((entry.range(), entry.get()), (range(6, 7), &'C'));
        assert_eq!(gap(&mut tree, 0).fill('D').unwrap().range(), range(0, 2));
        gap(&mut tree, u64::MAX).fill('E').unwrap();
        let expected = [
            (0, 2, 'D'),
            (3, 4, 'A'),
            (6, 7, 'C'),
            (9, 9, 'B'),
            (10, u64::MAX, 'E'),
        ];
        assert_holds(&tree, &expected);
    }

    #[test]
    fn more_than_the_gap_is_refused() {
        let mut tree = tree_of(&[(3, 4, 'A'), (9, 9, 'B')]);
        for taken in [range(4, 5), range(5, 9), IndexRange::FULL] {
            let refused = gap(&mut tree, 5).insert(taken, 'X').unwrap_err();
            assert_eq!(
                (refused.kind, refused.value),
                (StoreErrorKind::Occupied, 'X')
            );
        }
        assert_holds(&tree, &[(3, 4, 'A'), (9, 9, 'B')]);
    }

    #[test]
    fn a_value_is_made_only_where_there_is_none() {
        let mut tree = tree_of(&[(3, 4, 'A')]);
        let never = || panic!("there is a value");
        let found = tree.slot(4).or_insert_with(range(4, 9), never).unwrap();
        assert_eq!((found.range(), found.get()), (range(3, 4), &'A'));
        let made = tree.slot(5).or_insert_with(range(5, 6), || 'B').unwrap();
        assert_eq!((made.range(), made.get()), (range(5, 6), &'B'));
    }

    #[test]
    fn without_memory_nothing_is_written() {
        let middle = 10 * u64::from(MANY / 2);
        fail_each(MANY, |tree, ledger| {
            let replaced = occupied(tree, middle).replace(ledger.token(900));
            replaced.map(drop).map_err(|error| out_of_nodes(&error))
        });
        fail_each(MANY, |tree, _| occupied(tree, middle).remove().map(drop));
        fail_each(MANY, |tree, _| occupied(tree, middle).into_mut().map(drop));
        fail_each(MANY, |tree, ledger| {
            let make = || ledger.token(900);
            let made = tree
                .slot(middle + 5)
                .or_insert_with(range(middle + 5, middle + 6), make);
            made.map(drop).map_err(|error| out_of_nodes(&error))
        });
    }
}

mod store_coalescing {
    use super::*;

    /// ```text
    ///  0123456789abcdef
    ///  AAABBB...AAAA..C
    /// ```
    fn sample() -> MapleTree<char> {
        tree_of(&[(0, 2, 'A'), (3, 5, 'B'), (9, 12, 'A'), (15, 15, 'C')])
    }

    #[test]
    fn equal_entries_on_both_sides_are_taken_in() {
        let mut tree = sample();
        let whole = tree.store_coalescing(range(3, 8), 'A');
        assert_eq!(whole, Ok(range(0, 12)));
        assert_holds(&tree, &[(0, 12, 'A'), (15, 15, 'C')]);
    }

    #[test]
    fn an_entry_that_is_cut_is_taken_in_if_it_is_equal() {
        let mut tree = sample();
        assert_eq!(tree.store_coalescing(range(1, 10), 'A'), Ok(range(0, 12)));
        let mut tree = sample();
        assert_eq!(tree.store_coalescing(range(10, 11), 'A'), Ok(range(9, 12)));
        assert_holds(
            &tree,
            &[(0, 2, 'A'), (3, 5, 'B'), (9, 12, 'A'), (15, 15, 'C')],
        );
        assert_eq!(tree.store_coalescing(range(1, 3), 'B'), Ok(range(1, 5)));
        assert_holds(
            &tree,
            &[(0, 0, 'A'), (1, 5, 'B'), (9, 12, 'A'), (15, 15, 'C')],
        );
    }

    #[test]
    fn others_and_those_behind_a_gap_stay_apart() {
        let mut tree = sample();
        assert_eq!(tree.store_coalescing(range(7, 7), 'A'), Ok(range(7, 7)));
        assert_eq!(tree.store_coalescing(range(13, 14), 'X'), Ok(range(13, 14)));
        assert_eq!(tree.len(), 6);
        assert_valid(&tree);
    }

    #[test]
    fn the_ends_of_the_index_space_have_one_neighbour() {
        let mut tree = tree_of(&[(1, 1, 'A'), (u64::MAX - 1, u64::MAX - 1, 'A')]);
        let (lowest, highest) = (IndexRange::single(0), IndexRange::single(u64::MAX));
        assert_eq!(tree.store_coalescing(lowest, 'A'), Ok(range(0, 1)));
        let last = Ok(range(u64::MAX - 1, u64::MAX));
        assert_eq!(tree.store_coalescing(highest, 'A'), last);
        let all = tree.store_coalescing(range(2, u64::MAX - 2), 'A');
        assert_eq!(all, Ok(IndexRange::FULL));
        assert_holds(&tree, &[(0, u64::MAX, 'A')]);
        assert_eq!(tree.store_coalescing(IndexRange::FULL, 'B'), all);
    }

    #[test]
    fn each_value_taken_in_is_dropped_once() {
        let mut accounts = Accounts::of(0);
        for first in [0, 20, 10] {
            let value = accounts.ledger.token(7);
            accounts
                .tree
                .store_coalescing(range(first, first + 9), value)
                .unwrap();
        }
        assert_eq!((accounts.tree.len(), accounts.ledger.live()), (1, 1));
        assert_eq!(accounts.ledger.clones(), 0);
        accounts.settle();
    }

    #[test]
    fn without_memory_nothing_is_merged() {
        for entries in [1, MANY] {
            fail_each(entries, |tree, ledger| {
                let last = 10 * u64::from(entries) + 9;
                let stored = tree.store_coalescing(range(3, last), ledger.token(900));
                stored.map(drop).map_err(|error| out_of_nodes(&error))
            });
        }
    }
}
