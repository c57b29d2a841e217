//! The entries of a leaf, to be visited from both ends.

use super::leaf::ENTRIES;
use super::{LEAF_SLOTS, Node};
use crate::IndexRange;

/// The entries of a leaf that are still to be visited.
///
/// # Invariants
///
/// - **E1** Every slot in `left` held an entry when this was made. It holds it
///   still, for entries are taken out of a leaf through `&mut` only.
pub(crate) struct Entries<'a, T> {
    leaf: &'a Node<T>,
    /// One bit for each slot.
    left: u16,
}

impl<T> Clone for Entries<'_, T> {
    fn clone(&self) -> Self {
        Self { ..*self }
    }
}

impl<'a, T> Entries<'a, T> {
    /// All entries of `leaf`.
    #[inline]
    pub(crate) fn of(leaf: &'a Node<T>) -> Self {
        let left = leaf.occupancy();
        Self { leaf, left }
    }

    /// Those in `slot` and above.
    pub(crate) fn from(leaf: &'a Node<T>, slot: usize) -> Self {
        let below = (1_u32 << slot) - 1;
        let left = leaf.occupancy() & !(below as u16);
        Self { leaf, left }
    }

    /// Those in `slot` and below.
    pub(crate) fn through(leaf: &'a Node<T>, slot: usize) -> Self {
        let through = (2_u32 << slot) - 1;
        let left = leaf.occupancy() & through as u16;
        Self { leaf, left }
    }

    /// Whether none is left.
    #[inline(always)]
    pub(crate) fn is_empty(&self) -> bool {
        self.left == 0
    }

    #[inline(always)]
    pub(crate) fn next(&mut self) -> Option<(IndexRange, &'a T)> {
        let slot = self.left.trailing_zeros() as usize;
        self.left &= self.left.wrapping_sub(1);
        self.at(slot)
    }

    pub(crate) fn next_back(&mut self) -> Option<(IndexRange, &'a T)> {
        let slot = self.left.checked_ilog2()? as usize;
        self.left &= !(1 << slot);
        self.at(slot)
    }

    /// Calls `f` with each entry, in ascending order.
    #[inline]
    pub(crate) fn fold<B>(mut self, init: B, mut f: impl FnMut(B, (IndexRange, &'a T)) -> B) -> B {
        let mut folded = init;
        while let Some(entry) = self.next() {
            folded = f(folded, entry);
        }
        folded
    }

    /// The entry in `slot`, which was in `left`, or is no slot.
    #[inline(always)]
    fn at(&self, slot: usize) -> Option<(IndexRange, &'a T)> {
        if slot >= LEAF_SLOTS {
            return None;
        }
        let entry: *const T = self.leaf.word(ENTRIES + slot).cast();
        // SAFETY: the word of a slot that holds an entry (E1), which lies at its start;
        // entries change through `&mut` only.
        let entry = unsafe { &*entry };
        Some((self.leaf.slot_range(slot), entry))
    }
}
