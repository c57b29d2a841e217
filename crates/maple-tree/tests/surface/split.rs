//! `split_at` and `append`.

use crate::accounts::{Accounts, Counted, MANY, fail_each};
use crate::{tall_tree, tree_of};
use maple_tree::{AppendError, MapleTree, OutOfNodes};
use std::panic::{AssertUnwindSafe, catch_unwind};
use testkit::{TestNodes, assert_holds, assert_valid, range};

mod split_at {
    use super::*;

    /// ```text
    ///  0123456789
    ///  AA.BBBB..C
    ///       |
    /// ```
    #[test]
    fn an_entry_across_the_index_is_cut() {
        let mut low = tree_of(&[(0, 1, 'A'), (3, 6, 'B'), (9, u64::MAX, 'C')]);
        let high = low.split_at(5).unwrap();
        assert_holds(&low, &[(0, 1, 'A'), (3, 4, 'B')]);
        assert_holds(&high, &[(5, 6, 'B'), (9, u64::MAX, 'C')]);
        assert!(high.tracks_gaps());
    }

    #[test]
    fn an_entry_beside_the_index_stays_whole() {
        for index in 5..=7 {
            let mut low = tree_of(&[(0, 4, 'A'), (7, 9, 'B')]);
            let high = low.split_at(index).unwrap();
            assert_holds(&low, &[(0, 4, 'A')]);
            assert_holds(&high, &[(7, 9, 'B')]);
        }
    }

    #[test]
    fn both_ends_of_the_index_space_can_be_split_off() {
        let mut low = tree_of(&[(0, u64::MAX, 'A')]);
        let highest = low.split_at(u64::MAX).unwrap();
        assert_holds(&highest, &[(u64::MAX, u64::MAX, 'A')]);
        let all = low.split_at(0).unwrap();
        assert_holds(&all, &[(0, u64::MAX - 1, 'A')]);
        assert_holds(&low, &[]);
        let nothing = low.split_at(7).unwrap();
        assert_holds(&nothing, &[]);
    }

    #[test]
    fn a_tall_tree_can_be_split_anywhere() {
        let entries = u64::from(MANY);
        let end = 10 * entries;
        let indices = (0..end).step_by(137);
        for index in indices.chain([0, end - 10, end - 5, end]) {
            let mut low = tall_tree(entries);
            let high = low.split_at(index).unwrap();
            assert_valid(&low);
            assert_valid(&high);
            MapleTree::validate_family(&[&low, &high]).unwrap();
            let cut =
                |reach: bool| move |i: &u64| (10 * i + if reach { 0 } else { 4 } < index) == reach;
            assert!(
                low.iter()
                    .map(|(_, &it)| it)
                    .eq((0..entries).filter(cut(true)))
            );
            assert!(
                high.iter()
                    .map(|(_, &it)| it)
                    .eq((0..entries).filter(cut(false)))
            );
            assert!(low.last().is_none_or(|(range, _)| range.last() < index));
            assert!(high.first().is_none_or(|(range, _)| range.first() >= index));
        }
    }

    #[test]
    fn only_entries_near_the_cut_are_cloned() {
        let mut accounts = Accounts::of(8 * MANY);
        let high = accounts.tree.split_at(10 * u64::from(MANY) + 2).unwrap();
        let many = MANY as usize;
        assert_eq!((accounts.tree.len(), high.len()), (many + 1, 7 * many));
        assert!(accounts.ledger.clones() < 100, "{:?}", accounts.ledger);
        assert_eq!(accounts.ledger.live(), 8 * many + 1);
        drop(high);
        assert_eq!(accounts.ledger.live(), many + 1);
        accounts.settle();
    }

    #[test]
    fn a_snapshot_of_before_keeps_everything() {
        let mut low = tall_tree(300);
        let before = low.snapshot();
        let high = low.split_at(1234).unwrap();
        assert!(before == tall_tree(300));
        MapleTree::validate_family(&[&low, &high, &before]).unwrap();
    }

    #[test]
    fn without_memory_nothing_moves() {
        let end = 10 * u64::from(MANY);
        for (entries, index) in [
            (1, 2),
            (20, 102),
            (MANY, end / 2),
            (MANY, 4),
            (MANY, end - 6),
        ] {
            fail_each(entries, |tree, _| {
                let high = tree.split_at(index)?;
                assert_valid(&high);
                Ok(())
            });
        }
    }

    #[test]
    fn a_panic_leaves_the_tree_as_it_was() {
        let mut accounts = Accounts::of(200);
        let before = accounts.tree.duplicate().unwrap();
        for planned in 0.. {
            accounts.ledger.panic_after_clones(planned);
            let tree = &mut accounts.tree;
            let result = catch_unwind(AssertUnwindSafe(|| tree.split_at(1002)));
            if accounts.ledger.calm() {
                break;
            }
            assert!(result.is_err() && accounts.tree == before);
            assert_valid(&accounts.tree);
        }
        drop(before);
        accounts.settle();
    }
}

mod append {
    use super::*;

    /// A tree of `entries` entries that all lie above those of [`Accounts::of`].
    fn above(accounts: &Accounts, entries: u32) -> Counted {
        let mut tree = MapleTree::new_in(accounts.nodes.clone());
        for place in 0..entries {
            let first = 1_000_000 + 10 * u64::from(place);
            let value = accounts.ledger.token(place);
            tree.insert(range(first, first + 9), value).unwrap();
        }
        tree
    }

    #[test]
    fn what_was_split_is_put_together_again() {
        let entries = u64::from(MANY);
        for index in [0, 5, 5 * entries, 5 * entries + 7, 10 * entries] {
            let mut tree = tall_tree(entries);
            let mut high = tree.split_at(index).unwrap();
            tree.append(&mut high).unwrap();
            assert!(tree == tall_tree(entries) && high.is_empty());
            assert_valid(&tree);
            assert_valid(&high);
        }
    }

    #[test]
    fn a_cut_entry_stays_cut() {
        let mut tree = tree_of(&[(0, 9, 'A')]);
        let mut high = tree.split_at(5).unwrap();
        tree.append(&mut high).unwrap();
        assert_holds(&tree, &[(0, 4, 'A'), (5, 9, 'A')]);
    }

    #[test]
    fn an_overlap_is_refused_and_both_trees_are_left_alone() {
        for other in [(9, 12), (5, 6), (0, 0), (0, u64::MAX)] {
            let mut tree = tree_of(&[(2, 9, 'A')]);
            let mut other = tree_of(&[(other.0, other.1, 'B')]);
            let before = other.clone();
            assert_eq!(tree.append(&mut other), Err(AppendError::NotAbove));
            assert_holds(&tree, &[(2, 9, 'A')]);
            assert!(other == before);
        }
    }

    #[test]
    fn an_empty_tree_can_be_either_side() {
        let mut tree = tree_of(&[(3, u64::MAX, 'A')]);
        tree.append(&mut MapleTree::new()).unwrap();
        let mut empty = MapleTree::new();
        empty.append(&mut tree).unwrap();
        assert_holds(&empty, &[(3, u64::MAX, 'A')]);
        assert_holds(&tree, &[]);
    }

    #[test]
    fn each_value_has_one_owner_afterwards() {
        let mut accounts = Accounts::of(100);
        let mut other = above(&accounts, 50);
        accounts.tree.append(&mut other).unwrap();
        assert_eq!((accounts.tree.len(), accounts.ledger.live()), (150, 150));
        drop(other);
        accounts.settle();
    }

    #[test]
    fn without_memory_both_trees_are_left_alone() {
        for entries in [0, 1, MANY] {
            let source = Accounts::of(entries);
            let mut other = above(&source, MANY);
            let before = other.duplicate().unwrap();
            fail_each(entries, |tree, _| {
                let appended = tree.append(&mut other);
                assert_eq!(appended.is_ok(), other.is_empty());
                source.nodes.fail_after(None);
                if other.is_empty() {
                    other = before.duplicate().unwrap();
                }
                assert!(other == before);
                appended.map_err(|error| {
                    assert_eq!(error, AppendError::OutOfNodes);
                    OutOfNodes
                })
            });
            drop((other, before));
            source.settle();
        }
    }

    #[test]
    fn a_panic_leaves_both_trees_alone() {
        for entries in [0, 100] {
            let mut accounts = Accounts::of(entries);
            let mut other = above(&accounts, 50);
            let before = accounts.tree.duplicate().unwrap();
            for planned in [0, 1, 30, 49] {
                accounts.ledger.panic_after_clones(planned);
                let tree = &mut accounts.tree;
                let result = catch_unwind(AssertUnwindSafe(|| tree.append(&mut other)));
                assert!(result.is_err() && accounts.tree == before && other.len() == 50);
                assert_valid(&accounts.tree);
            }
            drop((before, other));
            accounts.settle();
        }
    }
}
