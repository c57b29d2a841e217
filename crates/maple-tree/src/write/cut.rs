//! What a write leaves of a leaf: whole slots, and the pieces of entries it cuts.

use core::ops::Range;

use crate::IndexRange;
use crate::node::{Held, Kept, Kind, LEAF_SLOTS, Node, Patch, SPARSE_SLOTS, leaves_for};

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
    /// The slot that the first written index lies in, or before.
    slot: usize,
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
    #[inline(always)]
    pub(super) fn new<T>(leaf: &Node<T>, written: IndexRange) -> Self {
        let slot = leaf.leaf_slot(written.first());
        let (keep, before) = Self::front_at(leaf, slot, written.first());
        // PERF: most writes begin and end in one slot, which is found once then.
        let ends_there = slot == leaf.count() || written.last() <= leaf.last(slot);
        let end = if ends_there {
            slot
        } else {
            leaf.leaf_slot(written.last())
        };
        let (after, tail) = Self::back_at(leaf, end, written.last());
        Self {
            slot,
            keep,
            before,
            after,
            tail,
        }
    }

    /// The cut that takes the entry in `slot` away, or puts another in its place.
    #[inline(always)]
    pub(super) fn of_entry<T>(leaf: &Node<T>, slot: usize) -> Self {
        let range = leaf.slot_range(slot);
        Self {
            slot,
            keep: Self::front_at(leaf, slot, range.first()).0,
            before: None,
            after: None,
            tail: Self::back_at(leaf, slot, range.last()).1,
        }
    }

    /// Whether no entry lies within the range.
    #[inline(always)]
    pub(super) fn is_vacant<T>(&self, leaf: &Node<T>) -> bool {
        // Of an entry that is cut, the slot would lie between as well.
        self.tail == self.keep || self.tail == self.keep + 1 && leaf.entry(self.keep).is_none()
    }

    /// The slot of the entry over exactly `written`, if there is one.
    #[inline(always)]
    pub(super) fn exact_fit<T>(&self, leaf: &Node<T>, written: IndexRange) -> Option<usize> {
        let slot = self.slot;
        let fits =
            slot < leaf.count() && leaf.slot_range(slot) == written && leaf.entry(slot).is_some();
        fits.then_some(slot)
    }

    /// What is left below `first`.
    pub(super) fn front<T>(leaf: &Node<T>, first: u64) -> (usize, Option<Piece>) {
        Self::front_at(leaf, leaf.leaf_slot(first), first)
    }

    /// What is left below `first`, which lies in `slot`, or before it.
    #[inline(always)]
    fn front_at<T>(leaf: &Node<T>, slot: usize, first: u64) -> (usize, Option<Piece>) {
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
        Self::back_at(leaf, leaf.leaf_slot(last), last)
    }

    /// What is left above `last`, which lies in `slot`, or before it.
    #[inline(always)]
    fn back_at<T>(leaf: &Node<T>, slot: usize, last: u64) -> (Option<Piece>, usize) {
        if slot == leaf.count() {
            return (None, slot);
        }
        let (mut after, mut tail) = (None, slot + 1);
        if leaf.first(slot) > last {
            // It lies in the hole before the first entry, or before any of a sparse leaf.
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
    pub(super) fn dropped(&self) -> Range<usize> {
        let from = self.before.map_or(self.keep, |piece| piece.slot + 1);
        let to = self.after.map_or(self.tail, |piece| piece.slot);
        from..to.max(from)
    }

    /// As [`dropped`](Self::dropped), for the record of a leaf that goes.
    pub(super) fn kept(&self) -> Kept {
        Kept::slots(self.dropped())
    }

    /// How many entries overlap the range.
    #[inline(always)]
    pub(super) fn overlapped<T>(&self, leaf: &Node<T>) -> usize {
        leaf.entries_in(self.keep..self.tail)
    }

    /// How many entries there will be where those were.
    pub(super) fn laid(&self, stored: Option<IndexRange>) -> usize {
        self.before.iter().len() + stored.iter().len() + self.after.iter().len()
    }

    /// How many entries there are in the leaf once `stored` lies between what is left.
    #[inline(always)]
    fn entries<T>(&self, leaf: &Node<T>, stored: Option<IndexRange>) -> usize {
        leaf.entries_in(0..leaf.count()) + self.laid(stored) - self.overlapped(leaf)
    }

    /// The last index of the last of them.
    #[inline(always)]
    pub(super) fn end<T>(&self, leaf: &Node<T>, stored: Option<IndexRange>) -> Option<u64> {
        if self.tail < leaf.count() {
            return Some(leaf.upper());
        }
        let piece = self.before.map(|piece| piece.range);
        let range = self.after.map(|piece| piece.range).or(stored).or(piece);
        let kept = || self.keep.checked_sub(1).map(|slot| leaf.last(slot));
        range.map(IndexRange::last).or_else(kept)
    }

    /// The kind of leaf that holds them, which are `least` at least. The leaf stays
    /// what it is for as long as they fit.
    #[inline(always)]
    pub(super) fn kind<T>(
        &self,
        leaf: &Node<T>,
        stored: Option<IndexRange>,
        least: usize,
    ) -> Option<Kind> {
        let entries = || self.entries(leaf, stored);
        let slots = || self.slots(leaf, stored);
        if leaf.is_sparse() {
            let entries = entries();
            return if entries < least {
                None
            } else if entries <= SPARSE_SLOTS {
                Some(Kind::Sparse)
            } else {
                (slots() <= LEAF_SLOTS).then_some(Kind::Dense)
            };
        }
        let slots = slots();
        if slots > LEAF_SLOTS {
            return (entries() <= SPARSE_SLOTS).then_some(Kind::Sparse);
        }
        // A hole is between two entries.
        (slots.div_ceil(2) >= least || entries() >= least).then_some(Kind::Dense)
    }

    /// How many slots a dense leaf uses for them.
    #[inline(always)]
    fn slots<T>(&self, leaf: &Node<T>, stored: Option<IndexRange>) -> usize {
        let mut slots = leaf.dense_slots(0..self.keep) + leaf.dense_slots(self.tail..leaf.count());
        let mut end = (self.keep > 0).then(|| leaf.last(self.keep - 1));
        let mut lay = |range: IndexRange| {
            slots += 1 + usize::from(end.is_some_and(|end| end + 1 < range.first()));
            end = Some(range.last());
        };
        if let Some(piece) = self.before {
            lay(piece.range);
        }
        if let Some(range) = stored {
            lay(range);
        }
        if let Some(piece) = self.after {
            lay(piece.range);
        }
        if self.tail < leaf.count() {
            slots += usize::from(end.is_some_and(|end| end + 1 < leaf.first(self.tail)));
        }
        slots
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
        if let Some(piece) = self.before {
            // SAFETY: the entry is given up (contract); it lives on in its first piece.
            let held = unsafe { leaf.hold(piece.slot) };
            patch.entries.push((piece.range, held));
        }
        if let Some((range, value)) = stored {
            patch.entries.push((range, Held::new(value)));
        }
        if let Some(piece) = self.after {
            let held = match second {
                Some(clone) => Held::new(clone),
                // SAFETY: the entry is given up (contract), and has one piece.
                None => unsafe { leaf.hold(piece.slot) },
            };
            patch.entries.push((piece.range, held));
        }
    }
}

/// Counts entries, and the slots that they take in dense leaves, the holes between
/// them included.
#[derive(Clone, Copy, Default)]
pub(super) struct Tally {
    pub(super) entries: usize,
    pub(super) slots: usize,
    /// The first index of the first entry, once there is one.
    first: u64,
    /// The last index of the last entry, once there is one.
    last: u64,
}

impl Tally {
    /// Counts an entry over `range`, which lies above all before it.
    #[inline]
    pub(super) fn push(&mut self, range: IndexRange) {
        self.append(Self {
            entries: 1,
            slots: 1,
            first: range.first(),
            last: range.last(),
        });
    }

    /// Counts `slots` of a leaf, the first and last of which are entries.
    #[inline]
    pub(super) fn push_slots<T>(&mut self, leaf: &Node<T>, slots: Range<usize>) {
        if !slots.is_empty() {
            self.append(Self {
                entries: leaf.entries_in(slots.clone()),
                first: leaf.first(slots.start),
                last: leaf.last(slots.end - 1),
                slots: leaf.dense_slots(slots),
            });
        }
    }

    /// Counts what `above` did, which is not nothing and lies above all before it.
    #[inline]
    pub(super) fn append(&mut self, above: Self) {
        let hole = self.entries > 0 && self.last + 1 < above.first;
        if self.entries == 0 {
            self.first = above.first;
        }
        self.entries += above.entries;
        self.slots += usize::from(hole) + above.slots;
        self.last = above.last;
    }

    /// The last index of the last entry, once there is one.
    pub(super) fn end(self) -> Option<u64> {
        (self.entries > 0).then_some(self.last)
    }

    /// How many leaves it takes.
    pub(super) fn leaves(self) -> usize {
        leaves_for(self.entries, self.slots)
    }
}
