//! What a write leaves of a leaf: whole slots, and the pieces of entries it cuts.

use crate::IndexRange;
use crate::node::{Held, Kept, LEAF_SLOTS, Node, Patch};

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
#[derive(Clone, Copy)]
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

    /// Whether one entry is cut in two: its second piece is a clone.
    pub(super) fn cuts_in_two(&self) -> bool {
        matches!((self.before, self.after), (Some(before), Some(after)) if before.slot == after.slot)
    }

    /// The slots whose entries go, in a leaf that the range begins and ends in.
    pub(super) fn dropped(&self) -> core::ops::Range<usize> {
        let from = self.before.map_or(self.keep, |piece| piece.slot + 1);
        let to = self.after.map_or(self.tail, |piece| piece.slot);
        from..to.max(from)
    }

    /// As [`dropped`](Self::dropped), for the record of a leaf that goes.
    pub(super) fn kept(&self) -> Kept {
        Kept::slots(self.dropped())
    }

    /// How many entries overlap the range.
    pub(super) fn overlapped<T>(&self, leaf: &Node<T>) -> usize {
        let touched = (leaf.occupancy() >> self.keep) & ((1 << (self.tail - self.keep)) - 1);
        touched.count_ones() as usize
    }

    /// How many entries there will be where those were.
    pub(super) fn laid(&self, stored: Option<IndexRange>) -> usize {
        self.before.iter().len() + stored.iter().len() + self.after.iter().len()
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

    /// Makes `patch` what takes the place of slots `keep..tail`: the pieces, and
    /// `stored` between them. `second` is the clone of an entry that is cut in two.
    ///
    /// # Safety
    ///
    /// - The slots `keep..tail` of `leaf` are given up but for the
    ///   [dropped](Self::dropped) ones.
    #[inline]
    pub(super) unsafe fn fill<T>(
        &self,
        patch: &mut Patch<T>,
        leaf: &Node<T>,
        (stored, second): (Option<(IndexRange, T)>, Option<T>),
    ) {
        (patch.keep, patch.tail) = (self.keep, self.tail);
        let end = self.keep.checked_sub(1).map(|slot| leaf.last(slot));
        let mut patch = Patching { patch, end };
        if let Some(piece) = self.before {
            // SAFETY: the entry is given up (contract); it lives on in its first piece.
            patch.push(piece.range, unsafe { leaf.hold(piece.slot) });
        }
        if let Some((range, value)) = stored {
            patch.push(range, Held::new(value));
        }
        if let Some(piece) = self.after {
            let held = match second {
                Some(clone) => Held::new(clone),
                // SAFETY: the entry is given up (contract), and has one piece.
                None => unsafe { leaf.hold(piece.slot) },
            };
            patch.push(piece.range, held);
        }
        if self.tail < leaf.count() {
            patch.make_adjacent(leaf.first(self.tail));
        }
    }
}

/// A [`Patch`] that is being made.
struct Patching<'p, T> {
    patch: &'p mut Patch<T>,
    /// The index before the next slot, once there is an entry.
    end: Option<u64>,
}

impl<T> Patching<'_, T> {
    /// Sees to it that the next slot begins at `first`.
    #[inline]
    fn make_adjacent(&mut self, first: u64) {
        let end = first.wrapping_sub(1);
        match self.end {
            None => self.patch.before = Some(end),
            Some(before) if before != end => self.patch.slots.push((end, None)),
            Some(_) => {}
        }
    }

    #[inline]
    fn push(&mut self, range: IndexRange, held: Held<T>) {
        self.make_adjacent(range.first());
        self.patch.slots.push((range.last(), Some(held)));
        self.end = Some(range.last());
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
    fn cost(self, range: IndexRange) -> usize {
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

    /// Whether so many slots fit into a leaf.
    pub(super) fn fits(self) -> bool {
        self.slots <= LEAF_SLOTS
    }
}
