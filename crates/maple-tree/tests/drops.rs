//! Every value is dropped once, whatever becomes of it; and a clone that panics breaks nothing.

use maple_tree::{DuplicateError, IndexRange, MapleTree};
use std::panic::{AssertUnwindSafe, catch_unwind};
use testkit::{FailingNodes, Ledger, Token, assert_valid, range};

type Tree = MapleTree<Token, FailingNodes>;

/// A tree of `entries` touching entries of ten indices, with the accounts of its values and nodes.
fn tree_of(entries: u32) -> (Tree, Ledger, FailingNodes) {
    let (ledger, nodes) = (Ledger::new(), FailingNodes::new());
    let mut tree = MapleTree::with_gaps_in(nodes.clone());
    for place in 0..entries {
        let first = 10 * u64::from(place);
        tree.insert(range(first, first + 9), ledger.token(place))
            .unwrap();
    }
    (tree, ledger, nodes)
}

#[track_caller]
fn settle(tree: Tree, ledger: &Ledger, nodes: &FailingNodes) {
    drop(tree);
    ledger.assert_settled();
    nodes.assert_settled();
}

mod writes {
    use super::*;

    #[test]
    fn an_overwritten_value_is_dropped_at_once() {
        let (mut tree, ledger, nodes) = tree_of(100);
        tree.store(range(0, 499), ledger.token(1000)).unwrap();
        assert_eq!((tree.len(), ledger.live(), ledger.clones()), (51, 51, 0));
        settle(tree, &ledger, &nodes);
    }

    /// ```text
    ///  0123456789
    ///  AAAAAAAAAA
    ///     **
    /// ```
    #[test]
    fn an_entry_cut_in_two_is_cloned_once() {
        let (mut tree, ledger, nodes) = tree_of(1);
        tree.store(range(3, 4), ledger.token(1)).unwrap();
        assert_eq!((tree.len(), ledger.live(), ledger.clones()), (3, 3, 1));
        settle(tree, &ledger, &nodes);
    }

    #[test]
    fn an_entry_that_loses_one_end_is_not_cloned() {
        let (mut tree, ledger, nodes) = tree_of(2);
        tree.store(range(7, 12), ledger.token(2)).unwrap();
        assert_eq!((tree.len(), ledger.live(), ledger.clones()), (3, 3, 0));
        settle(tree, &ledger, &nodes);
    }

    #[test]
    fn an_insert_that_is_refused_hands_its_value_back_alive() {
        let (mut tree, ledger, nodes) = tree_of(50);
        let refused = tree.insert(range(5, 5), ledger.token(77)).unwrap_err();
        assert_eq!((refused.value.id(), ledger.live()), (77, 51));
        drop(refused);
        settle(tree, &ledger, &nodes);
    }

    #[test]
    fn an_erased_value_is_the_stored_one_and_not_a_clone() {
        let (mut tree, ledger, nodes) = tree_of(50);
        let serial = tree.get(250).unwrap().serial();
        let (entry, value) = tree.erase(255).unwrap().unwrap();
        assert_eq!(
            (entry, value.serial(), ledger.clones()),
            (range(250, 259), serial, 0)
        );
        drop(value);
        settle(tree, &ledger, &nodes);
    }

    #[test]
    fn clear_and_remove_drop_everything_and_give_the_tree_a_new_start() {
        for removal in [Tree::clear as fn(&mut Tree), |tree| {
            tree.remove(IndexRange::FULL).unwrap();
        }] {
            let (mut tree, ledger, nodes) = tree_of(300);
            removal(&mut tree);
            assert_eq!((ledger.live(), tree.len(), tree.height()), (0, 0, 0));
            tree.insert(range(1, 2), ledger.token(1)).unwrap();
            settle(tree, &ledger, &nodes);
        }
    }

    #[test]
    fn a_value_replaced_through_get_mut_is_dropped_in_place() {
        let (mut tree, ledger, nodes) = tree_of(50);
        *tree.get_mut(33).unwrap().unwrap() = ledger.token(99);
        assert_eq!((ledger.live(), ledger.clones()), (50, 0));
        settle(tree, &ledger, &nodes);
    }

    #[test]
    fn a_reservation_that_is_not_used_gives_its_nodes_back_with_the_tree() {
        let (mut tree, ledger, nodes) = tree_of(50);
        drop(tree.preallocate(20).unwrap());
        assert_valid(&tree);
        settle(tree, &ledger, &nodes);
    }
}

mod owned_iteration {
    use super::*;

    #[test]
    fn a_whole_iteration_moves_every_value_out() {
        let (tree, ledger, nodes) = tree_of(200);
        let values: Vec<_> = tree.into_iter().collect();
        assert_eq!(
            (values.len(), ledger.live(), ledger.clones()),
            (200, 200, 0)
        );
        drop(values);
        ledger.assert_settled();
        nodes.assert_settled();
    }

    #[test]
    fn what_an_iteration_leaves_is_dropped_with_it() {
        for taken in [0, 1, 15, 16, 99, 199] {
            let (tree, ledger, nodes) = tree_of(200);
            let mut values = tree.into_iter();
            let ids: Vec<_> = values
                .by_ref()
                .take(taken)
                .map(|(_, value)| value.id())
                .collect();
            assert_eq!(ids, (0..taken as u32).collect::<Vec<_>>());
            drop(values);
            ledger.assert_settled();
            nodes.assert_settled();
        }
    }

    #[test]
    fn an_iteration_over_shared_nodes_leaves_the_snapshot_its_values() {
        let (tree, ledger, nodes) = tree_of(200);
        let snapshot = tree.snapshot();
        assert_eq!(tree.into_iter().count(), 200);
        assert_eq!(snapshot.len(), 200);
        assert_valid(&snapshot);
        settle(snapshot, &ledger, &nodes);
    }
}

mod copies {
    use super::*;

    #[test]
    fn a_snapshot_clones_nothing_until_one_side_writes() {
        let (mut tree, ledger, nodes) = tree_of(1000);
        let snapshot = tree.snapshot();
        assert_eq!(ledger.clones(), 0);
        tree.erase(5000).unwrap();
        let cloned = ledger.clones();
        assert!(
            (1..=31).contains(&cloned),
            "a write cloned {cloned} values, not those of its leaf"
        );
        assert_valid(&snapshot);
        drop(snapshot);
        settle(tree, &ledger, &nodes);
    }

    #[test]
    fn the_last_owner_of_a_shared_tree_drops_its_values() {
        let (tree, ledger, nodes) = tree_of(500);
        let copies = [tree.snapshot(), tree.snapshot(), tree.snapshot()];
        drop(tree);
        assert_eq!(ledger.live(), 500);
        drop(copies);
        ledger.assert_settled();
        nodes.assert_settled();
    }

    #[test]
    fn a_duplicate_owns_clones() {
        let (tree, ledger, nodes) = tree_of(300);
        let copy = tree.duplicate().unwrap();
        assert_eq!(ledger.live(), 600);
        drop(tree);
        assert_valid(&copy);
        settle(copy, &ledger, &nodes);
    }

    #[test]
    fn a_refused_duplicate_leaves_nothing_behind() {
        for refused in [0, 1, 17, 150, 299] {
            let (tree, ledger, nodes) = tree_of(300);
            let result = tree.duplicate_with(|_, value| match value.id() {
                id if id == refused => Err(id),
                id => Ok((id % 3 != 0).then(|| value.clone())),
            });
            assert_eq!(result.map(drop), Err(DuplicateError::Refused(refused)));
            assert_eq!(ledger.live(), 300);
            settle(tree, &ledger, &nodes);
        }
    }
}

mod panics {
    use super::*;

    /// Runs `act` with its first, second … clone panicking, until it needs no more clones. After
    /// each panic the tree must be valid, and no value may have been dropped twice.
    #[track_caller]
    fn panic_at_each_clone(act: impl Fn(&mut Tree, &Ledger)) {
        for panicking in 0..200 {
            let (mut tree, ledger, _nodes) = tree_of(200);
            let snapshot = tree.snapshot();
            ledger.panic_after_clones(panicking);
            let result = catch_unwind(AssertUnwindSafe(|| act(&mut tree, &ledger)));
            let finished = ledger.calm();
            assert_eq!(result.is_ok(), finished, "only the planned panic");
            assert_valid(&tree);
            assert_valid(&snapshot);
            assert!(
                snapshot.iter().map(|(_, value)| value.id()).eq(0..200),
                "the snapshot"
            );
            if !finished {
                let ids = tree.iter().map(|(_, value)| value.id());
                assert!(ids.eq(0..200), "a write that panicked changed the tree");
            }
            drop((tree, snapshot));
            assert_eq!(ledger.faults(), Vec::<String>::new());
            if finished {
                ledger.assert_settled();
                return;
            }
        }
        panic!("the operation clones more values than a leaf holds");
    }

    #[test]
    fn a_store_whose_clone_panics_leaves_the_tree_as_it_was() {
        panic_at_each_clone(|tree, ledger| {
            tree.store(range(1003, 1005), ledger.token(900)).unwrap();
        });
    }

    #[test]
    fn a_spanning_store_whose_clone_panics_leaves_the_tree_as_it_was() {
        panic_at_each_clone(|tree, ledger| {
            tree.store(range(305, 1504), ledger.token(900)).unwrap();
        });
    }

    #[test]
    fn an_erase_whose_clone_panics_leaves_the_tree_as_it_was() {
        panic_at_each_clone(|tree, _| {
            tree.erase(1003).unwrap();
        });
    }

    #[test]
    fn a_remove_whose_clone_panics_leaves_the_tree_as_it_was() {
        panic_at_each_clone(|tree, _| tree.remove(range(305, 1504)).unwrap());
    }

    #[test]
    fn a_get_mut_whose_clone_panics_leaves_the_tree_as_it_was() {
        panic_at_each_clone(|tree, _| {
            tree.get_mut(1003).unwrap();
        });
    }

    #[test]
    fn a_duplicate_whose_clone_panics_drops_no_value_twice() {
        for panicking in [0, 1, 100, 199] {
            let (tree, ledger, _nodes) = tree_of(200);
            ledger.panic_after_clones(panicking);
            let result = catch_unwind(AssertUnwindSafe(|| tree.duplicate()));
            assert!(result.is_err());
            assert_valid(&tree);
            drop(tree);
            assert_eq!(ledger.faults(), Vec::<String>::new());
        }
    }

    #[test]
    fn a_drop_that_panics_drops_no_value_twice() {
        let (mut tree, ledger, _nodes) = tree_of(200);
        ledger.panic_on_drop(50);
        let result = catch_unwind(AssertUnwindSafe(|| {
            tree.store(range(400, 600), ledger.token(900)).unwrap();
        }));
        assert!(result.is_err());
        assert_valid(&tree);
        drop(tree);
        assert_eq!(ledger.faults(), Vec::<String>::new());
    }
}
