//! Snapshots that other threads write to and drop while this one writes.
//!
//! A tree asks, node by node, whether it is shared, and the answer may change
//! at any moment. These run natively in many rounds; under Miri, which also
//! lets loads see old values, a few rounds with many seeds find more.

use std::thread;

use maple_tree::MapleTree;
use testkit::{assert_valid, range};

const ROUNDS: usize = if cfg!(miri) { 1 } else { 3000 };

/// Single entries at even indices, with their place as the value.
fn base() -> MapleTree<u64> {
    (0..60)
        .map(|place| (range(2 * place, 2 * place), place))
        .collect()
}

/// Once, a stale count let a removal take a shared leaf for its own: entries
/// that should have stayed were lost.
#[test]
fn a_removal_keeps_what_it_should_while_a_snapshot_unshares_its_path() {
    for _ in 0..ROUNDS {
        let mut tree = base();
        let mut other = tree.snapshot();
        let writer = thread::spawn(move || {
            *other.get_mut(0).unwrap().unwrap() = 500;
            other
        });
        tree.remove(range(41, 80)).unwrap();
        assert_valid(&tree);
        let kept: Vec<u64> = tree.iter().map(|(_, &place)| place).collect();
        assert!(kept.into_iter().eq((0..=20).chain(41..60)));
        let other = writer.join().unwrap();
        assert_valid(&other);
        assert_eq!(
            (other.len(), other.get(0), tree.get(0)),
            (60, Some(&500), Some(&0))
        );
    }
}

/// Once, a branch that stopped being shared between two questions was taken
/// for a leaf.
#[test]
fn a_tree_is_taken_apart_while_its_last_snapshot_goes_away() {
    for _ in 0..ROUNDS {
        let base = base();
        let tree = base.snapshot();
        let dropper = thread::spawn(move || drop(base));
        let places: Vec<u64> = tree.into_iter().map(|(_, place)| place).collect();
        assert!(places.into_iter().eq(0..60));
        dropper.join().unwrap();
    }
}

#[test]
fn erasing_everything_is_right_while_the_last_snapshot_goes_away() {
    for _ in 0..ROUNDS / 3 + 1 {
        let base = base();
        let mut tree = base.snapshot();
        let dropper = thread::spawn(move || drop(base));
        for place in 0..60 {
            assert_eq!(
                tree.erase(2 * place).unwrap(),
                Some((range(2 * place, 2 * place), place))
            );
        }
        assert!(tree.is_empty());
        dropper.join().unwrap();
    }
}
