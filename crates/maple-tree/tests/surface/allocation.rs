//! `allocate_lowest`, `allocate_highest`, `allocate_cyclic`.

use crate::accounts::{Accounts, MANY, fail_each};
use crate::tree_of;
use maple_tree::{
    Alignment, AllocateError, AllocateErrorKind, GapRequest, IndexRange, MapleTree, OutOfNodes,
};
use std::num::NonZeroU64;
use testkit::{Token, assert_holds, range};

fn request(length: u64) -> GapRequest {
    GapRequest::new(NonZeroU64::new(length).unwrap())
}

/// The failure that [`fail_each`] looks for; any other fails the test.
fn out_of_nodes(error: &AllocateError<Token>) -> OutOfNodes {
    assert_eq!(error.kind, AllocateErrorKind::OutOfNodes);
    assert_eq!(error.value.id(), 900, "the value comes back");
    OutOfNodes
}

mod areas {
    use super::*;

    /// ```text
    ///  0123456789
    ///  ..A..BB...
    /// ```
    fn sample() -> MapleTree<char> {
        tree_of(&[(2, 2, 'A'), (5, 6, 'B'), (10, u64::MAX, 'Z')])
    }

    #[test]
    fn the_lowest_fit_is_taken() {
        let mut tree = sample();
        assert_eq!(tree.allocate_lowest(&request(2), 'x'), Ok(range(0, 1)));
        assert_eq!(tree.allocate_lowest(&request(3), 'y'), Ok(range(7, 9)));
        assert_holds(
            &tree,
            &[
                (0, 1, 'x'),
                (2, 2, 'A'),
                (5, 6, 'B'),
                (7, 9, 'y'),
                (10, u64::MAX, 'Z'),
            ],
        );
    }

    #[test]
    fn the_highest_fit_is_taken() {
        let mut tree = sample();
        assert_eq!(tree.allocate_highest(&request(2), 'x'), Ok(range(8, 9)));
        assert_eq!(tree.allocate_highest(&request(2), 'y'), Ok(range(3, 4)));
        assert_eq!(tree.get(9), Some(&'x'));
        assert_eq!(tree.get(3), Some(&'y'));
    }

    #[test]
    fn what_fits_nowhere_is_handed_back() {
        for allocate in [MapleTree::allocate_lowest, MapleTree::allocate_highest] {
            let mut tree = sample();
            for refused in [
                request(4),
                request(1).within(range(5, 6)),
                request(u64::MAX),
            ] {
                let error = allocate(&mut tree, &refused, 'x').unwrap_err();
                assert_eq!((error.kind, error.value), (AllocateErrorKind::NoGap, 'x'));
            }
            assert!(tree == sample());
        }
    }

    #[test]
    fn the_first_and_the_last_index_are_handed_out() {
        let mut tree = MapleTree::new();
        let one = request(1);
        assert_eq!(tree.allocate_lowest(&one, 'a'), Ok(range(0, 0)));
        assert_eq!(
            tree.allocate_highest(&one, 'z'),
            Ok(IndexRange::single(u64::MAX))
        );
        let middle = request(u64::MAX - 1);
        assert_eq!(
            tree.allocate_highest(&middle, 'm'),
            Ok(range(1, u64::MAX - 1))
        );
        assert!(tree.allocate_lowest(&one, 'x').is_err());
        assert_eq!(tree.len(), 3);
    }

    #[test]
    fn aligned_areas_fill_a_window_and_no_more() {
        for mut tree in [MapleTree::new(), MapleTree::with_gaps()] {
            let request = request(3)
                .within(range(1, 40))
                .aligned(Alignment::new(8).unwrap().with_offset(1));
            let mut firsts = Vec::new();
            while let Ok(place) = tree.allocate_lowest(&request, 'x') {
                firsts.push(place.first());
            }
            assert_eq!(firsts, [1, 9, 17, 25, 33]);
        }
    }

    #[test]
    fn without_memory_nothing_is_taken() {
        for entries in [0, 7, MANY] {
            fail_each(entries, |tree, ledger| {
                let value = ledger.token(900);
                let placed = tree.allocate_lowest(&request(5), value);
                placed.map(|_| ()).map_err(|error| out_of_nodes(&error))
            });
            fail_each(entries, |tree, ledger| {
                let value = ledger.token(900);
                let window = range(0, 10 * u64::from(entries) + 9);
                let placed = tree.allocate_highest(&request(5).within(window), value);
                placed.map(|_| ()).map_err(|error| out_of_nodes(&error))
            });
        }
    }

    #[test]
    fn a_refused_value_is_dropped_by_its_owner_alone() {
        let mut accounts = Accounts::of(20);
        let value = accounts.ledger.token(900);
        let nowhere = request(6).within(range(0, 194));
        drop(accounts.tree.allocate_lowest(&nowhere, value).unwrap_err());
        assert_eq!(accounts.ledger.live(), 20);
        accounts.settle();
    }
}

mod cyclic {
    use super::*;

    /// Allocates `count` ids and returns them.
    fn ids(tree: &mut MapleTree<u64>, ids: IndexRange, next: &mut u64, count: usize) -> Vec<u64> {
        (0..count)
            .map(|_| tree.allocate_cyclic(ids, next, 7).unwrap())
            .collect()
    }

    #[test]
    fn ids_ascend_and_freed_ones_wait_for_their_turn() {
        let mut tree = MapleTree::with_gaps();
        let mut next = 0;
        let all = range(10, 14);
        assert_eq!(ids(&mut tree, all, &mut next, 3), [10, 11, 12]);
        tree.erase(10).unwrap();
        tree.erase(12).unwrap();
        assert_eq!(ids(&mut tree, all, &mut next, 4), [13, 14, 10, 12]);
        assert_eq!(next, 13);
        let refused = tree.allocate_cyclic(all, &mut next, 8).unwrap_err();
        assert_eq!(
            (refused.kind, refused.value, next),
            (AllocateErrorKind::NoGap, 8, 13)
        );
    }

    #[test]
    fn the_highest_index_is_followed_by_the_lowest_id() {
        let mut tree = MapleTree::with_gaps();
        let mut next = u64::MAX - 1;
        let all = range(5, u64::MAX);
        assert_eq!(
            ids(&mut tree, all, &mut next, 3),
            [u64::MAX - 1, u64::MAX, 5]
        );
        assert_eq!(next, 6);
    }

    #[test]
    fn every_index_can_be_an_id() {
        let mut tree = MapleTree::new();
        let mut next = u64::MAX;
        assert_eq!(
            ids(&mut tree, IndexRange::FULL, &mut next, 3),
            [u64::MAX, 0, 1]
        );
        tree.store(IndexRange::FULL, 1).unwrap();
        assert!(
            tree.allocate_cyclic(IndexRange::FULL, &mut next, 1)
                .is_err()
        );
    }

    #[test]
    fn a_next_outside_of_the_ids_counts_as_the_first() {
        for outside in [0, 9, 21, u64::MAX] {
            let mut tree = MapleTree::new();
            let mut next = outside;
            assert_eq!(ids(&mut tree, range(10, 20), &mut next, 2), [10, 11]);
            assert_eq!(next, 12);
        }
    }

    #[test]
    fn a_single_id_is_given_once() {
        for only in [0, 7, u64::MAX] {
            let mut tree = MapleTree::new();
            let mut next = 3;
            let ids = IndexRange::single(only);
            assert_eq!(tree.allocate_cyclic(ids, &mut next, 1), Ok(only));
            assert_eq!(next, only);
            assert!(tree.allocate_cyclic(ids, &mut next, 1).is_err());
        }
    }

    #[test]
    fn an_entry_that_reaches_into_the_ids_takes_those() {
        let mut tree = MapleTree::new();
        tree.insert(range(0, 11), 1).unwrap();
        tree.insert(range(14, 99), 1).unwrap();
        let mut next = 14;
        assert_eq!(ids(&mut tree, range(10, 20), &mut next, 2), [12, 13]);
    }

    #[test]
    fn without_memory_no_id_is_taken() {
        for entries in [0, 7, MANY] {
            fail_each(entries, |tree, ledger| {
                let mut next = 2;
                let taken = tree.allocate_cyclic(range(0, 5000), &mut next, ledger.token(900));
                assert_eq!(next == 2, taken.is_err());
                taken.map(|_| ()).map_err(|error| out_of_nodes(&error))
            });
        }
    }
}
