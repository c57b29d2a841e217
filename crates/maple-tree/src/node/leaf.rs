//! Leaves: entries, and the holes between them, in ascending order.
//!
//! Word 0 is `lower`, the first index of the first entry; words `1..=SLOTS` are
//! the last indices of the slots; then come the entries. A slot whose bit in
//! `owned` is clear is a hole.

use core::mem::{ManuallyDrop, MaybeUninit};

use super::{LEAF_SLOTS, Node, Word};
use crate::IndexRange;

const LOWER: usize = 0;
const LASTS: usize = 1;
const ENTRIES: usize = 1 + LEAF_SLOTS;

impl<T> Node<T> {
    /// The first index of the first entry. The leaf is not empty.
    pub(crate) fn lower(&self) -> u64 {
        assert!(self.is_leaf() && self.count > 0);
        self.index(LOWER)
    }

    /// The last index of `slot`.
    pub(crate) fn last(&self, slot: usize) -> u64 {
        assert!(self.is_leaf() && slot < self.count());
        self.index(LASTS + slot)
    }

    /// The first index of `slot`.
    pub(crate) fn first(&self, slot: usize) -> u64 {
        if slot == 0 {
            self.lower()
        } else {
            self.last(slot - 1) + 1
        }
    }

    /// The last index of the last entry. The leaf is not empty.
    pub(crate) fn upper(&self) -> u64 {
        self.last(self.count() - 1)
    }

    /// The bounds of `slot`.
    pub(crate) fn slot_range(&self, slot: usize) -> IndexRange {
        IndexRange::new(self.first(slot), self.last(slot)).expect("slots are not empty (T2)")
    }

    /// The lowest slot that ends at or above `index`; `count()` if none does.
    pub(crate) fn leaf_slot(&self, index: u64) -> usize {
        assert!(self.is_leaf());
        self.indices(LASTS, LASTS + self.count())
            .partition_point(|&last| last < index)
    }

    /// The entry in `slot`, or `None` for a hole.
    pub(crate) fn entry(&self, slot: usize) -> Option<&T> {
        assert!(self.is_leaf() && slot < LEAF_SLOTS);
        if !self.owns(slot) {
            return None;
        }
        // SAFETY: the bit says that the word holds an entry.
        let entry = unsafe { &self.words[ENTRIES + slot].entry };
        // SAFETY: and an entry is written before its bit is set.
        Some(unsafe { entry.assume_init_ref() })
    }

    /// The entry in `slot`, or `None` for a hole.
    pub(crate) fn entry_mut(&mut self, slot: usize) -> Option<&mut T> {
        assert!(self.is_leaf() && slot < LEAF_SLOTS);
        if !self.owns(slot) {
            return None;
        }
        // SAFETY: the bit says that the word holds an entry.
        let entry = unsafe { &mut self.words[ENTRIES + slot].entry };
        // SAFETY: and an entry is written before its bit is set.
        Some(unsafe { entry.assume_init_mut() })
    }

    /// One bit for each slot that holds an entry.
    pub(crate) fn occupancy(&self) -> u16 {
        self.owned
    }

    /// Takes the entry out of `slot`, which is a hole from now on.
    pub(crate) fn take_entry(&mut self, slot: usize) -> Option<T> {
        assert!(self.is_leaf() && slot < LEAF_SLOTS);
        if !self.owns(slot) {
            return None;
        }
        self.owned &= !(1 << slot);
        // SAFETY: the bit said that the word holds an entry.
        let entry = unsafe { &self.words[ENTRIES + slot].entry };
        // SAFETY: the entry was written before its bit was set; with the bit
        // cleared nobody reads this copy again.
        Some(unsafe { entry.assume_init_read() })
    }

    /// Adds `value` over `range` behind all entries, with the hole before it.
    pub(crate) fn push_entry(&mut self, range: IndexRange, value: T) {
        if self.count == 0 {
            self.words[LOWER] = Word {
                index: range.first(),
            };
        } else if self.upper() + 1 < range.first() {
            self.push_slot(range.first() - 1);
        }
        let slot = self.count();
        self.push_slot(range.last());
        self.words[ENTRIES + slot] = Word {
            entry: ManuallyDrop::new(MaybeUninit::new(value)),
        };
        self.owned |= 1 << slot;
    }

    fn push_slot(&mut self, last: u64) {
        let slot = self.count();
        assert!(
            self.is_leaf() && slot < LEAF_SLOTS,
            "a leaf has no more slots"
        );
        debug_assert!(slot == 0 || self.last(slot - 1) < last);
        self.words[LASTS + slot] = Word { index: last };
        self.count += 1;
    }

    /// Drops slots from the end, whose entries have been taken, until `slots` are left.
    pub(crate) fn truncate_leaf(&mut self, slots: usize) {
        assert!(self.is_leaf());
        while self.count() > slots {
            self.shorten();
        }
    }

    /// Breaks the leaf: `slot` ends at `last`, whatever its neighbours say.
    #[cfg(test)]
    pub(crate) fn set_last(&mut self, slot: usize, last: u64) {
        assert!(self.is_leaf() && slot < self.count());
        self.words[LASTS + slot] = Word { index: last };
    }
}
