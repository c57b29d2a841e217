//! What the counted operations work on: trees that are the same in every run.
//!
//! Entries are of 4 pages with a page's hole behind each, as byte addresses. Trees are built in
//! scattered order, so that their nodes are as full as those of a tree in use; places to look at
//! are scattered the same way.

use maple_tree::{IndexRange, MapleTree};

/// The bytes of a page.
pub const PAGE: u64 = 4096;

/// The pages from the beginning of one entry to that of the next.
const PERIOD: u64 = 5;

/// The operations of one count, where one alone would be too few to compare.
pub const ROUNDS: u64 = 1000;

/// A prime, and no divisor of a number of entries: its multiples visit every place once.
const STRIDE: u64 = 48_271;

/// Whether a tree tracks gaps.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub enum Kind {
    /// It does not.
    Plain,
    /// It does.
    Gaps,
}

impl Kind {
    /// An empty tree.
    #[must_use]
    pub const fn empty(self) -> MapleTree<u64> {
        match self {
            Self::Plain => MapleTree::new(),
            Self::Gaps => MapleTree::with_gaps(),
        }
    }
}

/// A tree and the number of its entries.
#[derive(Debug)]
pub struct Fixture {
    /// The tree.
    pub tree: MapleTree<u64>,
    /// How many entries it was made with.
    pub entries: u64,
}

impl Fixture {
    /// A tree of `entries` entries, built in scattered order.
    ///
    /// # Panics
    ///
    /// If there is no memory for it.
    #[must_use]
    pub fn new(kind: Kind, entries: u64) -> Self {
        let mut tree = kind.empty();
        for round in 0..entries {
            let place = scattered(round, entries);
            tree.store(range(place), place).expect("there is memory");
        }
        Self { tree, entries }
    }

    /// An empty tree to which `entries` entries are to be added.
    #[must_use]
    pub const fn empty(kind: Kind, entries: u64) -> Self {
        Self {
            tree: kind.empty(),
            entries,
        }
    }
}

/// The place visited in `round`, of `entries` ones.
#[must_use]
pub const fn scattered(round: u64, entries: u64) -> u64 {
    (round * STRIDE) % entries
}

/// The range of the entry in `place`.
///
/// # Panics
///
/// If `place` is so high that its range has no bounds.
#[must_use]
pub fn range(place: u64) -> IndexRange {
    let first = (16 + PERIOD * place) * PAGE;
    IndexRange::new(first, first + (PERIOD - 1) * PAGE - 1).expect("the bounds are in order")
}
