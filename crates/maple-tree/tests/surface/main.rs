//! What every public function promises, one claim a test.

mod accounts;
mod against_the_model;
mod allocation;
#[cfg(feature = "arbitrary")]
mod arbitrary_trees;
mod bulk;
mod cursors;
mod duplication;
mod gap_searches;
mod iteration;
mod lookups;
mod overlays;
mod places;
mod ranges;
mod retain;
#[cfg(feature = "serde")]
mod serialization;
mod split;
mod traits;
mod writes;

use maple_tree::MapleTree;
use testkit::range;

/// A tree of these entries, `(first, last, value)`, that tracks gaps.
#[track_caller]
fn tree_of(entries: &[(u64, u64, char)]) -> MapleTree<char> {
    let mut tree = MapleTree::with_gaps();
    for &(first, last, value) in entries {
        tree.insert(range(first, last), value).unwrap();
    }
    tree
}

/// A tree of `entries` entries of five indices with five vacant ones behind each.
fn tall_tree(entries: u64) -> MapleTree<u64> {
    let mut tree = MapleTree::with_gaps();
    for place in 0..entries {
        tree.insert(range(10 * place, 10 * place + 4), place)
            .unwrap();
    }
    tree
}
