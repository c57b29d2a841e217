//! Leaves: entries, and the holes between them, in ascending order.
//!
//! Word 0 is the index before the first entry (wrapped round where that begins
//! at 0); words `1..=SLOTS` are the last indices of the slots; then come the
//! entries. So slot `i` begins one above word `i`. A slot whose bit in `owned`
//! is clear is a hole.

use core::marker::PhantomData;
use core::mem::{ManuallyDrop, MaybeUninit};
use core::ptr::NonNull;

use arrayvec::ArrayVec;

use super::{Held, LEAF_SLOTS, Node, Word, count_below};
use crate::{Entry, IndexRange};

const LASTS: usize = 1;
const ENTRIES: usize = 1 + LEAF_SLOTS;

impl<T> Node<T> {
    /// The first index of the first entry. The leaf is not empty.
    #[inline]
    pub(crate) fn lower(&self) -> u64 {
        self.first(0)
    }

    /// The last index of `slot`.
    #[inline]
    pub(crate) fn last(&self, slot: usize) -> u64 {
        debug_assert!(self.is_leaf() && slot < self.count());
        self.index(LASTS + slot)
    }

    /// The first index of `slot`.
    #[inline]
    pub(crate) fn first(&self, slot: usize) -> u64 {
        debug_assert!(self.is_leaf() && slot < self.count());
        self.index(slot).wrapping_add(1)
    }

    /// The last index of the last entry. The leaf is not empty.
    #[inline]
    pub(crate) fn upper(&self) -> u64 {
        self.last(self.count() - 1)
    }

    /// The bounds of `slot`.
    #[inline]
    pub(crate) fn slot_range(&self, slot: usize) -> IndexRange {
        // Slots are not empty (T2).
        IndexRange::ascending(self.first(slot), self.last(slot))
    }

    /// The lowest slot that ends at or above `index`; `count()` if none does.
    #[inline(always)]
    pub(crate) fn leaf_slot(&self, index: u64) -> usize {
        debug_assert!(self.is_leaf());
        let slot = count_below(self.indices::<LEAF_SLOTS>(LASTS), index);
        // Behind the slots in use come bounds that are `u64::MAX` (L3).
        slot.min(self.count())
    }

    /// The entry in `slot`, or `None` for a hole.
    #[inline]
    pub(crate) fn entry(&self, slot: usize) -> Option<&T> {
        if !self.holds(slot) {
            return None;
        }
        let entry: *const T = self.word(ENTRIES + slot).cast();
        // SAFETY: the bit says that the word holds an entry, which lies at its start;
        // entries change through `&mut` only.
        Some(unsafe { &*entry })
    }

    /// The entry in `slot`, or `None` for a hole.
    pub(crate) fn entry_mut(&mut self, slot: usize) -> Option<&mut T> {
        if !self.holds(slot) {
            return None;
        }
        // SAFETY: the bit says that the word holds an entry.
        let entry = unsafe { &mut self.words.get_mut()[ENTRIES + slot].entry };
        // SAFETY: and an entry is written before its bit is set.
        Some(unsafe { entry.assume_init_mut() })
    }

    /// The entry in `slot`, with its bounds.
    #[inline]
    pub(crate) fn entry_at(&self, slot: usize) -> Option<(IndexRange, &T)> {
        Some((self.slot_range(slot), self.entry(slot)?))
    }

    /// The entries in the slots from `slot` on, in ascending order.
    #[inline]
    pub(crate) fn entries_from(&self, slot: usize) -> LeafEntries<'_, T> {
        debug_assert!(self.is_leaf());
        let below = (1_u32 << slot) - 1;
        LeafEntries {
            leaf: NonNull::from(self),
            // INVARIANT: E1.
            slots: self.owned & !(below as u16),
            _borrows: PhantomData,
        }
    }

    #[inline]
    fn holds(&self, slot: usize) -> bool {
        debug_assert!(self.is_leaf());
        slot < LEAF_SLOTS && self.owned & (1 << slot) != 0
    }

    /// One bit for each slot that holds an entry.
    #[inline]
    pub(crate) fn occupancy(&self) -> u16 {
        self.owned
    }

    /// Takes the entry out of `slot`, which is a hole from now on.
    pub(crate) fn take_entry(&mut self, slot: usize) -> Option<T> {
        if !self.holds(slot) {
            return None;
        }
        self.owned &= !(1 << slot);
        // SAFETY: the bit said that the word holds an entry.
        let entry = unsafe { &self.words.get_mut()[ENTRIES + slot].entry };
        // SAFETY: the entry was written before its bit was set; with the bit
        // cleared nobody reads this copy again.
        Some(unsafe { entry.assume_init_read() })
    }

    /// Another copy of the word in `slot`, which holds an entry.
    ///
    /// # Safety
    ///
    /// - The slot is given up: this node is replaced or spliced without it.
    pub(crate) unsafe fn hold(&self, slot: usize) -> Held<T> {
        assert!(self.holds(slot));
        let entry: *const MaybeUninit<T> = self.word(ENTRIES + slot).cast();
        // SAFETY: the bit says that the word holds an entry, which lies at its start;
        // entries change through `&mut` only. What is read is no value of `T`, so it
        // owns nothing.
        Held(unsafe { entry.read() })
    }

    /// Adds `value` over `range` behind all entries, with the hole before it.
    pub(crate) fn push_entry(&mut self, range: IndexRange, value: T) {
        if self.count == 0 {
            self.set_index(0, range.first().wrapping_sub(1));
        } else if self.upper() + 1 < range.first() {
            self.push_slot(range.first() - 1);
        }
        let slot = self.count();
        self.push_slot(range.last());
        self.set_entry(slot, Held::new(value));
        self.owned |= 1 << slot;
    }

    /// Fills the slots of this leaf, an outline of `leaf`, with clones of its
    /// entries. If that panics it has those cloned so far.
    pub(crate) fn clone_slots(&mut self, leaf: &Self)
    where
        T: Entry + Clone,
    {
        assert!(self.is_leaf() && leaf.is_leaf() && self.count == leaf.count);
        leaf.prefetch_entries();
        let mut left = leaf.owned;
        while left != 0 {
            let slot = left.trailing_zeros() as usize;
            left &= left - 1;
            if let Some(value) = leaf.entry(slot) {
                self.fill_slot(slot, value.clone());
            }
        }
    }

    /// Puts `value` into `slot` of this outline of a leaf, which held an entry there.
    ///
    /// PERF: the bits are not looked at. A load that is wider than the store before it
    /// has to wait until that has left the store buffer, which cost five nanoseconds.
    #[inline]
    pub(crate) fn fill_slot(&mut self, slot: usize, value: T) {
        assert!(self.is_leaf() && slot < self.count());
        self.set_entry(slot, Held::new(value));
        self.owned |= 1 << slot;
    }

    /// Drops the slots of this outline from `slot` on, none of which is filled; the
    /// one at 0 is.
    pub(crate) fn truncate_outline(&mut self, slot: usize) {
        let end = u16::BITS - self.owned.leading_zeros();
        debug_assert!(end as usize <= slot);
        let mut patch = Patch::new();
        (patch.keep, patch.tail) = (end as usize, self.count());
        self.splice(&mut patch);
    }

    /// Asks the processor to fetch what the entries point to, if they are pointers.
    ///
    /// PERF: counting one more owner of each waits for its memory, one after the
    /// other; fetched at once they take the time of one.
    #[inline]
    pub(crate) fn prefetch_entries(&self)
    where
        T: Entry,
    {
        if !T::IS_POINTER {
            return;
        }
        for slot in 0..self.count() {
            if self.holds(slot) {
                let entry: *const *const u8 = self.word(ENTRIES + slot).cast();
                // SAFETY: the bit says that the word holds an entry, and `IS_POINTER` that
                // it can be read as a pointer, which is not followed.
                super::prefetch_line(unsafe { entry.read() });
            }
        }
    }

    fn set_entry(&mut self, slot: usize, held: Held<T>) {
        let entry = ManuallyDrop::new(held.0);
        self.words.get_mut()[ENTRIES + slot] = Word { entry };
    }

    fn push_slot(&mut self, last: u64) {
        let slot = self.count();
        assert!(
            self.is_leaf() && slot < LEAF_SLOTS,
            "a leaf has no more slots"
        );
        debug_assert!(slot == 0 || self.last(slot - 1) < last);
        self.set_index(LASTS + slot, last);
        self.count += 1;
    }

    /// Replaces slots `keep..tail` by those of `patch`. What they held is given
    /// up: the caller has taken it, or lets this node be a copy.
    pub(crate) fn splice(&mut self, patch: &mut Patch<T>) {
        let Patch {
            keep,
            tail,
            before,
            ref mut slots,
        } = *patch;
        let (count, added) = (self.count(), slots.len());
        let end = keep + added;
        let new_count = end + count - tail;
        assert!(self.is_leaf() && keep <= tail && tail <= count && new_count <= LEAF_SLOTS);
        let words = self.words.get_mut();
        if end != tail && tail < count {
            move_words(words, LASTS + tail..LASTS + count, LASTS + end);
            move_words(words, ENTRIES + tail..ENTRIES + count, ENTRIES + end);
        }
        if let Some(index) = before {
            words[0] = Word { index };
        }
        let stay = u32::from(self.owned);
        self.owned = ((stay & ((1 << keep) - 1)) | ((stay >> tail) << end)) as u16;
        for (slot, (last, held)) in (keep..).zip(slots.drain(..)) {
            self.set_index(LASTS + slot, last);
            if let Some(held) = held {
                self.set_entry(slot, held);
                self.owned |= 1 << slot;
            }
        }
        // INVARIANT: L3.
        for slot in new_count..count {
            self.set_index(LASTS + slot, u64::MAX);
        }
        self.count = new_count as u8;
    }

    /// Drops slots from the end, whose entries have been taken, until `slots` are left.
    #[cfg(test)]
    pub(crate) fn truncate_leaf(&mut self, slots: usize) {
        let mut patch = Patch::new();
        (patch.keep, patch.tail) = (slots, self.count());
        self.splice(&mut patch);
    }

    /// Breaks the leaf: `slot` ends at `last`, whatever its neighbours say.
    #[cfg(test)]
    pub(crate) fn set_last(&mut self, slot: usize, last: u64) {
        self.set_index(LASTS + slot, last);
    }
}

/// Some entries of a leaf.
///
/// # Invariants
///
/// - **E1** Where a bit is set in `slots`, `leaf` is a leaf that is borrowed for
///   `'a`, and holds an entry in that slot.
pub(crate) struct LeafEntries<'a, T> {
    leaf: NonNull<Node<T>>,
    slots: u16,
    _borrows: PhantomData<&'a Node<T>>,
}

// SAFETY: it is a shared reference to a node, and nothing else.
unsafe impl<T: Sync> Send for LeafEntries<'_, T> {}

// SAFETY: as above.
unsafe impl<T: Sync> Sync for LeafEntries<'_, T> {}

impl<T> Clone for LeafEntries<'_, T> {
    fn clone(&self) -> Self {
        Self { ..*self }
    }
}

impl<T> LeafEntries<'_, T> {
    /// No entry of no leaf.
    pub(crate) const NONE: Self = Self {
        leaf: NonNull::dangling(),
        slots: 0,
        _borrows: PhantomData,
    };

    pub(crate) fn is_empty(&self) -> bool {
        self.slots == 0
    }

    /// The first index of the first entry that is left.
    pub(crate) fn lower(&self) -> Option<u64> {
        Some(self.clone().next()?.0.first())
    }

    /// Leaves out what begins above `last`.
    pub(crate) fn keep_to(&mut self, last: u64) {
        if self.slots == 0 {
            return;
        }
        // SAFETY: E1: a bit is set.
        let leaf = unsafe { self.leaf.as_ref() };
        let slot = leaf.leaf_slot(last);
        let reaches = slot < leaf.count() && leaf.first(slot) <= last;
        let kept = (1_u32 << (slot + usize::from(reaches))) - 1;
        self.slots &= kept as u16;
    }
}

impl<'a, T> Iterator for LeafEntries<'a, T> {
    type Item = (IndexRange, &'a T);

    #[inline(always)]
    fn next(&mut self) -> Option<Self::Item> {
        if self.slots == 0 {
            return None;
        }
        // SAFETY: E1: a bit is set.
        let leaf: &'a Node<T> = unsafe { self.leaf.as_ref() };
        let slot = self.slots.trailing_zeros() as usize;
        self.slots &= self.slots - 1;
        let entry: *const T = leaf.word(ENTRIES + slot).cast();
        // SAFETY: E1: the word holds an entry, which lies at its start; entries change
        // through `&mut` only.
        let entry = unsafe { &*entry };
        Some((leaf.slot_range(slot), entry))
    }
}

fn move_words<T>(words: &mut [Word<T>], from: core::ops::Range<usize>, to: usize) {
    let count = from.len();
    assert!(from.end <= words.len() && to + count <= words.len());
    let words = words.as_mut_ptr();
    // SAFETY: within the words, as was just checked.
    let source = unsafe { words.add(from.start) };
    // SAFETY: as above.
    let target = unsafe { words.add(to) };
    // SAFETY: both lie within the words, which are ours; they may overlap. The
    // copies left behind are overwritten, or given up with their bits cleared.
    unsafe { source.copy_to(target, count) };
}

/// What takes the place of some slots of a leaf.
pub(crate) struct Patch<T> {
    /// So many slots from the first stay.
    pub(crate) keep: usize,
    /// From this slot on all stay.
    pub(crate) tail: usize,
    /// The index before the first entry, wrapped round, if that changes.
    pub(crate) before: Option<u64>,
    /// The last index of each slot between them, and its entry.
    pub(crate) slots: ArrayVec<(u64, Option<Held<T>>), 7>,
}

impl<T> Patch<T> {
    /// Nothing in the place of nothing.
    pub(crate) const fn new() -> Self {
        Self {
            keep: 0,
            tail: 0,
            before: None,
            slots: ArrayVec::new_const(),
        }
    }
}

/// Slots of leaves in a row, to be laid out over new leaves.
pub(crate) struct LeafRun<T> {
    /// As word 0 of a leaf.
    before: u64,
    len: usize,
    /// One bit for each slot that holds an entry.
    owned: u64,
    lasts: [MaybeUninit<u64>; LeafRun::<()>::MAX],
    entries: [MaybeUninit<Held<T>>; LeafRun::<()>::MAX],
}

impl LeafRun<()> {
    /// The slots of three leaves, what a write puts there, and holes between all.
    const MAX: usize = 3 * LEAF_SLOTS + 10;
}

impl<T> LeafRun<T> {
    pub(crate) fn new() -> Self {
        const { assert!(LeafRun::<()>::MAX < u64::BITS as usize) };
        Self {
            before: 0,
            len: 0,
            owned: 0,
            lasts: [const { MaybeUninit::uninit() }; LeafRun::<()>::MAX],
            entries: [const { MaybeUninit::uninit() }; LeafRun::<()>::MAX],
        }
    }

    /// How many slots there are.
    pub(crate) fn len(&self) -> usize {
        self.len
    }

    /// Whether `slot` holds an entry.
    pub(crate) fn holds(&self, slot: usize) -> bool {
        self.owned & (1 << slot) != 0
    }

    /// The last index of `slot`.
    pub(crate) fn last(&self, slot: usize) -> u64 {
        assert!(slot < self.len);
        // SAFETY: the slots below `len` are written.
        unsafe { self.lasts[slot].assume_init() }
    }

    /// Adds an entry, with the hole before it.
    pub(crate) fn push(&mut self, range: IndexRange, held: Held<T>) {
        self.make_adjacent(range.first());
        self.entries[self.len] = MaybeUninit::new(held);
        self.owned |= 1 << self.len;
        self.lasts[self.len] = MaybeUninit::new(range.last());
        self.len += 1;
    }

    /// Adds slots of `leaf`, the first and last of which are entries.
    ///
    /// # Safety
    ///
    /// - The slots are given up: the leaf is replaced, and dropped without them.
    pub(crate) unsafe fn push_slots(&mut self, leaf: &Node<T>, slots: core::ops::Range<usize>) {
        let (from, count) = (slots.start, slots.len());
        if count == 0 {
            return;
        }
        self.make_adjacent(leaf.first(from));
        assert!(slots.end <= leaf.count() && self.len + count <= LeafRun::<()>::MAX);
        let lasts = &leaf.indices::<LEAF_SLOTS>(LASTS)[slots];
        for (to, &last) in self.lasts[self.len..].iter_mut().zip(lasts) {
            *to = MaybeUninit::new(last);
        }
        let words: *const MaybeUninit<Held<T>> = leaf.word(ENTRIES + from).cast();
        for at in 0..count {
            // SAFETY: within the leaf's words, as checked above.
            let word = unsafe { words.cast::<Word<T>>().add(at) };
            // SAFETY: an entry is no larger than a word and lies at its start; the copy
            // is no value of `T`, so it may be of a hole.
            self.entries[self.len + at] = unsafe { word.cast::<MaybeUninit<Held<T>>>().read() };
        }
        let bits = (u64::from(leaf.owned) >> from) & ((1 << count) - 1);
        self.owned |= bits << self.len;
        self.len += count;
    }

    /// Sees to it that the next slot begins at `first`.
    fn make_adjacent(&mut self, first: u64) {
        let end = first.wrapping_sub(1);
        if self.len == 0 {
            self.before = end;
        } else if self.last(self.len - 1) != end {
            self.lasts[self.len] = MaybeUninit::new(end);
            self.len += 1;
        }
    }

    /// Writes slots `slots`, the first and last of which are entries, into `leaf`,
    /// which is empty. Every slot goes into one leaf at most.
    pub(crate) fn fill(&mut self, leaf: &mut Node<T>, slots: core::ops::Range<usize>) {
        assert!(leaf.count == 0 && slots.end <= self.len && slots.len() <= LEAF_SLOTS);
        let before = match slots.start.checked_sub(1) {
            Some(slot) => self.last(slot),
            None => self.before,
        };
        leaf.set_index(0, before);
        for (at, slot) in slots.clone().enumerate() {
            leaf.set_index(LASTS + at, self.last(slot));
            if self.holds(slot) {
                // SAFETY: the bit says that the slot holds an entry. It is cleared, so the
                // entry is not read again.
                let held = unsafe { self.entries[slot].assume_init_read() };
                self.owned &= !(1 << slot);
                leaf.set_entry(at, held);
                leaf.owned |= 1 << at;
            }
        }
        leaf.count = slots.len() as u8;
    }
}
