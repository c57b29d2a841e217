//! What a write leaves of a leaf: whole slots, and the pieces of entries it cuts.

use crate::IndexRange;
use crate::node::Node;

/// A piece of the entry in `slot` that lies outside of the written range.
#[derive(Clone, Copy)]
pub(super) struct Piece {
    pub(super) slot: usize,
    pub(super) range: IndexRange,
}

/// How a written range cuts a leaf.
///
/// ```text
///  slots    0   1   2   3   4
///          AAAABBBB    CCCCDDDD
///  written       *********
///  keep = 1, before = piece of B, after = piece of C, tail = 4
/// ```
pub(super) struct LeafCut {
    /// So many slots from the first stay as they are; the last of them is an entry.
    pub(super) keep: usize,
    /// What is left of an entry that the range begins in.
    pub(super) before: Option<Piece>,
    /// What is left of an entry that the range ends in.
    pub(super) after: Option<Piece>,
    /// From this slot on all stay; it is an entry, or `count()`.
    pub(super) tail: usize,
}

impl LeafCut {
    /// Whether no entry lies within the range.
    pub(super) fn is_vacant<T>(&self, leaf: &Node<T>) -> bool {
        let is_hole = || self.tail == self.keep + 1 && leaf.entry(self.keep).is_none();
        let is_cut = self.before.is_some() || self.after.is_some();
        !is_cut && (self.tail == self.keep || is_hole())
    }

    /// The slot of the entry over exactly `written`, if there is one.
    pub(super) fn exact_fit<T>(&self, leaf: &Node<T>, written: IndexRange) -> Option<usize> {
        let slot = leaf.leaf_slot(written.first());
        let is_cut = self.before.is_some() || self.after.is_some();
        let fits = !is_cut
            && slot < leaf.count()
            && leaf.entry(slot).is_some()
            && leaf.slot_range(slot) == written;
        fits.then_some(slot)
    }

    pub(super) fn new<T>(leaf: &Node<T>, written: IndexRange) -> Self {
        let (keep, before) = Self::front(leaf, written.first());
        let (after, tail) = Self::back(leaf, written.last());
        Self {
            keep,
            before,
            after,
            tail,
        }
    }

    /// What is left below `first`.
    pub(super) fn front<T>(leaf: &Node<T>, first: u64) -> (usize, Option<Piece>) {
        let slot = leaf.leaf_slot(first);
        let ends_in_hole = slot > 0 && leaf.entry(slot - 1).is_none();
        let keep = slot - usize::from(ends_in_hole);
        if slot == leaf.count() || leaf.entry(slot).is_none() || leaf.first(slot) >= first {
            return (keep, None);
        }
        let range = IndexRange::new(leaf.first(slot), first - 1);
        (keep, range.map(|range| Piece { slot, range }))
    }

    /// What is left above `last`.
    pub(super) fn back<T>(leaf: &Node<T>, last: u64) -> (Option<Piece>, usize) {
        let slot = leaf.leaf_slot(last);
        if slot == leaf.count() {
            return (None, slot);
        }
        let (mut after, mut tail) = (None, slot + 1);
        if leaf.first(slot) > last {
            // Only the hole before the first entry lies below a leaf's first slot.
            tail = slot;
        } else if leaf.entry(slot).is_some() && leaf.last(slot) > last {
            after = IndexRange::new(last + 1, leaf.last(slot)).map(|range| Piece { slot, range });
        }
        if tail < leaf.count() && leaf.entry(tail).is_none() {
            tail += 1;
        }
        (after, tail)
    }

    /// How many slots the leaf uses once `stored` lies between what is left,
    /// and the last index of its last entry.
    pub(super) fn tally<T>(&self, leaf: &Node<T>, stored: Option<IndexRange>) -> Tally {
        let mut tally = Tally::default();
        tally.push_slots(leaf, 0, self.keep);
        for range in [self.before.map(|piece| piece.range), stored] {
            range.into_iter().for_each(|range| tally.push(range));
        }
        self.after.iter().for_each(|piece| tally.push(piece.range));
        tally.push_slots(leaf, self.tail, leaf.count());
        tally
    }
}

/// Counts the slots that entries take, the holes between them included.
#[derive(Clone, Copy, Default)]
pub(super) struct Tally {
    pub(super) slots: usize,
    /// The last index of the last entry, once there is one.
    pub(super) end: Option<u64>,
}

impl Tally {
    /// Counts an entry over `range`, which lies above all before it.
    pub(super) fn push(&mut self, range: IndexRange) {
        self.slots += self.cost(range);
        self.end = Some(range.last());
    }

    /// How many slots an entry over `range` would take: itself, and the hole before it.
    pub(super) fn cost(&self, range: IndexRange) -> usize {
        match self.end {
            Some(end) if end + 1 < range.first() => 2,
            _ => 1,
        }
    }

    /// Counts slots `from..to` of a leaf, the first and last of which are entries.
    pub(super) fn push_slots<T>(&mut self, leaf: &Node<T>, from: usize, to: usize) {
        if from < to {
            self.push(leaf.slot_range(from));
            self.slots += to - from - 1;
            self.end = Some(leaf.last(to - 1));
        }
    }
}
