//! `from_sorted` and `bulk_load`.

use crate::accounts::{Accounts, MANY, fail_each};
use crate::tall_tree;
use maple_tree::{IndexRange, MapleTree, NodeMemory, OutOfNodes, SortedError};
use std::panic::{AssertUnwindSafe, catch_unwind};
use testkit::{assert_holds, assert_valid, range};

#[test]
fn a_tree_of_any_size_holds_what_it_was_loaded_with() {
    let sizes: &[u64] = if cfg!(miri) {
        &[0, 1, 15, 16, 17, 40]
    } else {
        &[
            0, 1, 2, 7, 8, 9, 14, 15, 16, 17, 30, 31, 32, 99, 100, 101, 225, 226, 1000, 5000,
        ]
    };
    for &entries in sizes {
        for mut tree in [MapleTree::new(), MapleTree::with_gaps()] {
            let items = (0..entries).map(|place| (range(10 * place, 10 * place + 4), place));
            tree.bulk_load(items).unwrap();
            assert_valid(&tree);
            assert!(tree == tall_tree(entries), "{entries} entries");
        }
    }
}

#[test]
fn touching_entries_fill_every_node() {
    let touching = (0..15 * 16 * 4).map(|place| (range(8 * place, 8 * place + 7), place));
    let tree = MapleTree::from_sorted(touching).unwrap();
    assert_valid(&tree);
    if !cfg!(small_nodes) {
        // 64 leaves, 4 branches, the root, and what the tree keeps for its next writes.
        let most = size_of_val(&tree) + (64 + 4 + 1 + 16) * size_of::<NodeMemory>();
        assert!(tree.memory_usage() <= most, "{}", tree.dump());
    }
}

#[test]
fn both_ends_of_the_index_space_can_be_loaded() {
    let items = [
        (IndexRange::single(0), 'a'),
        (range(1, u64::MAX - 1), 'b'),
        (IndexRange::single(u64::MAX), 'c'),
    ];
    let tree = MapleTree::from_sorted(items).unwrap();
    let most = u64::MAX - 1;
    assert_holds(
        &tree,
        &[(0, 0, 'a'), (1, most, 'b'), (u64::MAX, u64::MAX, 'c')],
    );
    let full = MapleTree::from_sorted([(IndexRange::FULL, 'x')]).unwrap();
    assert_holds(&full, &[(0, u64::MAX, 'x')]);
}

/// ```text
///  0123456789
///  AAABBB      AAABBB     AAABBB
///    CC           CCC     C
/// ```
#[test]
fn the_first_item_that_does_not_ascend_is_named() {
    for second in [range(2, 3), range(5, 7), range(0, 0)] {
        let mut tree = MapleTree::with_gaps();
        let items = [range(0, 2), range(3, 5), second, range(0, 9)].map(|it| (it, 'x'));
        let refused = SortedError::Unsorted {
            position: 2,
            range: second,
            previous: range(3, 5),
        };
        assert_eq!(tree.bulk_load(items), Err(refused));
        assert_holds(&tree, &[]);
        assert!(refused.to_string().contains("item 2"), "{refused}");
    }
}

#[test]
fn nothing_lies_above_the_highest_index() {
    let items = [u64::MAX, 0].map(|index| (IndexRange::single(index), 'x'));
    assert!(MapleTree::from_sorted(items).is_err());
}

#[test]
fn a_tree_that_holds_an_entry_is_not_loaded() {
    let mut tree = tall_tree(1);
    let items = std::iter::from_fn(|| panic!("an item was taken"));
    assert_eq!(tree.bulk_load(items), Err(SortedError::NotEmpty));
    assert_holds(&tree, &[(0, 4, 0)]);
}

#[test]
fn a_load_that_ends_early_leaves_an_empty_tree_and_loses_no_value() {
    for stop in [0, 1, 14, 15, 16, 17, MANY - 2] {
        let mut accounts = Accounts::of(0);
        let item = |place: u32| {
            let first = 10 * u64::from(place);
            (range(first, first + 5), accounts.ledger.token(place))
        };
        let unsorted = (0..MANY).map(|place| item(if place == stop + 1 { stop } else { place }));
        assert!(accounts.tree.bulk_load(unsorted).is_err());
        assert!(accounts.tree.is_empty());
        let panicking = (0..MANY).map(|place| {
            assert_ne!(place, stop, "the planned panic");
            item(place)
        });
        let tree = &mut accounts.tree;
        let result = catch_unwind(AssertUnwindSafe(|| tree.bulk_load(panicking)));
        assert!(result.is_err() && tree.is_empty());
        assert_valid(tree);
        assert_eq!(accounts.ledger.live(), 0);
        accounts.settle();
    }
}

#[test]
fn without_memory_the_tree_stays_empty() {
    fail_each(0, |tree, ledger| {
        let items = (0..MANY).map(|place: u32| {
            let first = 10 * u64::from(place);
            (range(first, first + 5), ledger.token(place))
        });
        tree.bulk_load(items).map_err(|error| {
            assert_eq!(error, SortedError::OutOfNodes);
            assert_eq!(ledger.live(), 0);
            OutOfNodes
        })
    });
}
