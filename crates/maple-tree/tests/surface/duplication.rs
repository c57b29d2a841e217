//! `snapshot`, `duplicate`, `duplicate_with`.

use crate::{tall_tree, tree_of};
use maple_tree::{DuplicateError, MapleTree};
use testkit::{assert_holds, assert_valid, range};

#[test]
fn neither_side_of_a_snapshot_sees_the_other_write() {
    let mut tree = tree_of(&[(0, 9, 'A'), (20, 29, 'B')]);
    let mut snapshot = tree.snapshot();
    tree.store(range(5, 24), 'X').unwrap();
    snapshot.erase(0).unwrap();
    assert_holds(&tree, &[(0, 4, 'A'), (5, 24, 'X'), (25, 29, 'B')]);
    assert_holds(&snapshot, &[(20, 29, 'B')]);
}

#[test]
fn a_snapshot_outlives_its_tree() {
    let tree = tall_tree(500);
    let snapshot = tree.snapshot();
    drop(tree);
    assert_eq!(snapshot.len(), 500);
    assert!(snapshot.iter().map(|(_, &value)| value).eq(0..500));
    assert_valid(&snapshot);
}

#[test]
fn copies_of_an_empty_tree_are_empty() {
    let tree = MapleTree::<char>::with_gaps();
    for mut copy in [tree.snapshot(), tree.duplicate().unwrap()] {
        assert!(copy.is_empty() && copy.tracks_gaps());
        copy.insert(range(1, 2), 'A').unwrap();
        assert_holds(&copy, &[(1, 2, 'A')]);
    }
    assert_holds(&tree, &[]);
}

#[test]
fn a_duplicate_is_equal_and_independent() {
    let mut tree = tall_tree(1000);
    let mut copy = tree.duplicate().unwrap();
    assert!(copy.iter().eq(tree.iter()));
    assert_eq!((copy.height(), copy.tracks_gaps()), (tree.height(), true));
    copy.clear();
    tree.erase(50).unwrap();
    assert_eq!((tree.len(), copy.len()), (999, 0));
    assert_valid(&tree);
    assert_valid(&copy);
}

#[test]
fn duplicate_with_maps_to_values_of_another_type() {
    let tree = tall_tree(1000);
    let copy: MapleTree<char> = tree
        .duplicate_with(|_, &value| Ok::<_, ()>(char::from_digit((value % 10) as u32, 10)))
        .unwrap();
    assert!(
        copy.iter()
            .all(|(entry, &value)| (entry.first() / 10) % 10 == u64::from(value) - 48)
    );
    assert_eq!(copy.len(), 1000);
    assert_valid(&copy);
}

#[test]
fn duplicate_with_sees_every_entry_in_order_with_its_range() {
    let tree = tall_tree(300);
    let mut seen = Vec::new();
    let copy = tree.duplicate_with(|entry, &value| {
        seen.push((entry, value));
        Ok::<_, ()>(Some(value))
    });
    assert!(copy.is_ok());
    assert!(
        seen.into_iter()
            .eq(tree.iter().map(|(entry, &value)| (entry, value)))
    );
}

/// A name, and which values are kept.
type Case = (&'static str, fn(u64) -> bool);

#[test]
fn dropped_entries_become_gaps_of_a_valid_tree() {
    let tree = tall_tree(1000);
    let cases: [Case; 6] = [
        ("all", |_| true),
        ("none", |_| false),
        ("every other one", |value| value % 2 == 0),
        ("one in a hundred", |value| value % 100 == 50),
        ("the first half", |value| value < 500),
        ("only the last", |value| value == 999),
    ];
    for (name, keep) in cases {
        let copy = tree.duplicate_with(|_, &value| Ok::<_, ()>(keep(value).then_some(value)));
        let copy = copy.unwrap();
        let expected = tree.iter().filter(|(_, value)| keep(**value));
        assert!(copy.iter().eq(expected), "{name}");
        assert_eq!(copy.is_empty(), copy.height() == 0, "{name}");
        assert_valid(&copy);
    }
}

#[test]
fn a_refusal_ends_the_copy_with_its_reason() {
    let tree = tall_tree(1000);
    let mut calls = 0;
    let result = tree.duplicate_with(|_, &value| {
        calls += 1;
        if value == 700 {
            Err("no")
        } else {
            Ok(Some(value))
        }
    });
    assert_eq!(result.map(drop), Err(DuplicateError::Refused("no")));
    assert_eq!(calls, 701);
    assert_valid(&tree);
}
