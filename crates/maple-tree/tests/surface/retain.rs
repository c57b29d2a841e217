//! `retain`.

use crate::accounts::{Accounts, MANY, fail_each};
use crate::{tall_tree, tree_of};
use maple_tree::MapleTree;
use std::panic::{AssertUnwindSafe, catch_unwind};
use testkit::{assert_holds, assert_valid};

#[test]
fn what_is_refused_goes_and_the_rest_keeps_its_place() {
    let mut tree = tree_of(&[(0, 1, 'A'), (4, 6, 'B'), (7, 7, 'C'), (9, u64::MAX, 'D')]);
    tree.retain(|range, &value| value == 'B' || range.first() == 9)
        .unwrap();
    assert_holds(&tree, &[(4, 6, 'B'), (9, u64::MAX, 'D')]);
    assert!(tree.tracks_gaps());
}

#[test]
fn every_entry_is_asked_for_once_in_order() {
    let entries = u64::from(MANY);
    for first_refused in [0, 1, entries / 2, entries - 1, entries] {
        let mut tree = tall_tree(entries);
        let mut asked = Vec::new();
        tree.retain(|range, &value| {
            assert_eq!(range.first(), 10 * value);
            asked.push(value);
            value < first_refused || value % 3 == 0
        })
        .unwrap();
        assert!(asked.into_iter().eq(0..entries));
        let kept = (0..entries).filter(|value| *value < first_refused || value % 3 == 0);
        assert!(tree.iter().map(|(_, &value)| value).eq(kept));
        assert_valid(&tree);
    }
}

#[test]
fn nothing_is_left_where_all_is_refused() {
    let mut tree = tall_tree(500);
    tree.retain(|_, _| false).unwrap();
    assert_holds(&tree, &[]);
    tree.retain(|_, _| panic!("an empty tree has nothing to ask for"))
        .unwrap();
    assert_eq!(tree.height(), 0);
}

#[test]
fn where_nothing_is_refused_nothing_is_cloned() {
    let mut accounts = Accounts::of(MANY);
    accounts.tree.retain(|_, _| true).unwrap();
    assert_eq!(accounts.tree.len(), MANY as usize);
    assert_eq!(accounts.ledger.clones(), 0);
    accounts.settle();
}

#[test]
fn a_snapshot_keeps_what_goes() {
    let mut tree = tall_tree(100);
    let before = tree.snapshot();
    tree.retain(|_, value| value % 2 == 0).unwrap();
    assert_eq!((tree.len(), before.len()), (50, 100));
    assert!(before == tall_tree(100));
    MapleTree::validate_family(&[&tree, &before]).unwrap();
}

#[test]
fn each_value_that_goes_is_dropped_once() {
    let mut accounts = Accounts::of(MANY);
    accounts.tree.retain(|_, value| value.id() >= 10).unwrap();
    let left = MANY as usize - 10;
    assert_eq!((accounts.tree.len(), accounts.ledger.live()), (left, left));
    accounts.settle();
}

#[test]
fn a_panic_leaves_the_tree_as_it_was() {
    let mut accounts = Accounts::of(100);
    let before = accounts.tree.duplicate().unwrap();
    for planned in [1, 17, 99] {
        let tree = &mut accounts.tree;
        let result = catch_unwind(AssertUnwindSafe(|| {
            tree.retain(|_, value| {
                assert_ne!(value.id(), planned, "the planned panic of the closure");
                value.id() > 0
            })
        }));
        assert!(result.is_err() && *tree == before);
        accounts.ledger.panic_after_clones(u64::from(planned) - 1);
        let result = catch_unwind(AssertUnwindSafe(|| tree.retain(|_, value| value.id() > 0)));
        assert!(result.is_err() && *tree == before);
        assert_valid(tree);
    }
    drop(before);
    accounts.settle();
}

#[test]
fn without_memory_nothing_goes() {
    for entries in [2, 20, MANY] {
        fail_each(entries, |tree, _| {
            tree.retain(|_, value| value.id() % 2 == 1)
        });
    }
}
