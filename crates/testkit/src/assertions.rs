//! Short forms for hand-written tests: ranges from two numbers, and what a tree should hold.

use maple_tree::{Entry, IndexRange, MapleTree, NodeSource};
use std::fmt::Debug;

/// The range `first..=last`.
///
/// # Panics
///
/// If the bounds are not in order.
#[must_use]
#[track_caller]
pub fn range(first: u64, last: u64) -> IndexRange {
    IndexRange::new(first, last).expect("a test's ranges are in order")
}

/// Asserts that `tree` is valid and holds exactly these entries, `(first, last, value)`.
#[track_caller]
pub fn assert_holds<T, S>(tree: &MapleTree<T, S>, entries: &[(u64, u64, T)])
where
    T: Entry + Clone + PartialEq + Debug,
    S: NodeSource,
{
    assert_valid(tree);
    let part = |(range, value): (IndexRange, &T)| (range.first(), range.last(), value.clone());
    let found: Vec<_> = tree.iter().map(part).collect();
    assert_eq!(found, entries, "the contents, forwards");
    let mut backwards: Vec<_> = tree.iter().rev().map(part).collect();
    backwards.reverse();
    assert_eq!(backwards, entries, "the contents, backwards");
    assert_eq!(tree.len(), entries.len(), "len");
    assert_eq!(tree.is_empty(), entries.is_empty(), "is_empty");
}

/// Asserts that every invariant of `tree` holds.
#[track_caller]
pub fn assert_valid<T: Entry, S: NodeSource>(tree: &MapleTree<T, S>) {
    if let Err(violation) = tree.validate() {
        panic!("{violation:?}\n{}", tree.dump());
    }
}
