//! The entries of a leaf, to be visited from both ends.

use core::marker::PhantomData;
use core::ptr::NonNull;

use super::Node;
use super::leaf::ENTRIES;
use crate::IndexRange;

/// The entries of a leaf that are still to be visited.
///
/// # Invariants
///
/// - **E1** While a bit is set in `left`, `leaf` is a leaf that is borrowed for
///   `'a`, and each slot in `left` held an entry when this was made. It holds it
///   still, for entries are taken out of a leaf through `&mut` only.
pub(crate) struct Entries<'a, T> {
    leaf: NonNull<Node<T>>,
    /// One bit for each slot.
    left: u16,
    _borrows: PhantomData<&'a Node<T>>,
}

// SAFETY: it is a shared reference to a node, or to nothing.
unsafe impl<T: Sync> Send for Entries<'_, T> {}

// SAFETY: as above.
unsafe impl<T: Sync> Sync for Entries<'_, T> {}

impl<T> Clone for Entries<'_, T> {
    fn clone(&self) -> Self {
        Self { ..*self }
    }
}

impl<'a, T> Entries<'a, T> {
    /// No entries.
    pub(crate) const NONE: Self = Self {
        leaf: NonNull::dangling(),
        left: 0,
        _borrows: PhantomData,
    };

    #[inline]
    fn new(leaf: &'a Node<T>, slots: u32) -> Self {
        debug_assert!(leaf.is_leaf());
        // INVARIANT: E1.
        Self {
            leaf: NonNull::from(leaf),
            left: leaf.occupancy() & slots as u16,
            _borrows: PhantomData,
        }
    }

    /// All entries of `leaf`.
    #[inline]
    pub(crate) fn of(leaf: &'a Node<T>) -> Self {
        Self::new(leaf, u32::MAX)
    }

    /// Those in `slot` and above.
    #[inline]
    pub(crate) fn from(leaf: &'a Node<T>, slot: usize) -> Self {
        Self::new(leaf, u32::MAX << slot)
    }

    /// Those in `slot` and below.
    pub(crate) fn through(leaf: &'a Node<T>, slot: usize) -> Self {
        Self::new(leaf, (2 << slot) - 1)
    }

    /// Whether none is left.
    #[inline(always)]
    pub(crate) fn is_empty(&self) -> bool {
        self.left == 0
    }

    /// The leaf, while an entry is left.
    #[inline(always)]
    fn leaf(&self) -> Option<&'a Node<T>> {
        if self.left == 0 {
            return None;
        }
        // SAFETY: E1: a bit is set.
        Some(unsafe { self.leaf.as_ref() })
    }

    /// The first index of the first entry.
    pub(crate) fn lower(&self) -> Option<u64> {
        Some(self.leaf()?.first(self.left.trailing_zeros() as usize))
    }

    /// Leaves out what begins above `last`.
    pub(crate) fn keep_to(&mut self, last: u64) {
        if let Some(leaf) = self.leaf() {
            let slot = leaf.leaf_slot(last);
            let reaches = slot < leaf.count() && leaf.first(slot) <= last;
            let kept = (1_u32 << (slot + usize::from(reaches))) - 1;
            self.left &= kept as u16;
        }
    }

    /// The next entry, and its slot.
    #[inline(always)]
    pub(crate) fn next_slot(&mut self) -> Option<(usize, (IndexRange, &'a T))> {
        let leaf = self.leaf()?;
        let slot = self.left.trailing_zeros() as usize;
        self.left &= self.left - 1;
        // SAFETY: the bit was set.
        Some((slot, unsafe { entry_in(leaf, slot) }))
    }
}

impl<'a, T> Iterator for Entries<'a, T> {
    type Item = (IndexRange, &'a T);

    #[inline(always)]
    fn next(&mut self) -> Option<Self::Item> {
        Some(self.next_slot()?.1)
    }
}

impl<T> DoubleEndedIterator for Entries<'_, T> {
    fn next_back(&mut self) -> Option<Self::Item> {
        let leaf = self.leaf()?;
        let slot = self.left.ilog2() as usize;
        self.left &= !(1 << slot);
        // SAFETY: the bit was set.
        Some(unsafe { entry_in(leaf, slot) })
    }
}

/// The entry in `slot`, with its bounds.
///
/// # Safety
///
/// - The slot holds an entry.
#[inline(always)]
unsafe fn entry_in<T>(leaf: &Node<T>, slot: usize) -> (IndexRange, &T) {
    let entry: *const T = leaf.word(ENTRIES + slot).cast();
    // SAFETY: the slot holds an entry (contract), which lies at the word's start;
    // entries change through `&mut` only.
    (leaf.slot_range(slot), unsafe { &*entry })
}
