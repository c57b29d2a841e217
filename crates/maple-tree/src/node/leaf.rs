//! Leaves: entries, and the holes between them, in ascending order.
//!
//! Words `1..=slots` are the last indices of the slots; then come the entries.
//!
//! Dense: word 0 is the index before the first entry (wrapped round where that
//! begins at 0). So slot `i` begins one above word `i`. A slot whose bit in `owned`
//! is clear is a hole.
//!
//! Sparse: every slot is an entry, and has its own word for the index before it;
//! there is a hole where that is not the last index of the slot before. A sparse
//! leaf has fewer slots than a dense one: these words are where a dense leaf has
//! more last indices, and where it has more entries.

use core::mem::{ManuallyDrop, MaybeUninit};
use core::ops::Range;

use arrayvec::ArrayVec;

use super::{Held, Kind, LEAF_SLOTS, LeafRun, Node, SPARSE_SLOTS, Word, count_below};
use crate::{Entry, IndexRange};

const LASTS: usize = 1;
pub(super) const ENTRIES: usize = LASTS + LEAF_SLOTS;
/// Where a sparse leaf keeps the indices before its first slots.
const LOW_BEFORES: usize = LASTS + SPARSE_SLOTS;
/// How many of them there is room for.
const LOW_SLOTS: usize = LEAF_SLOTS - SPARSE_SLOTS;
/// Where it keeps those before the other slots.
const HIGH_BEFORES: usize = ENTRIES + SPARSE_SLOTS;

/// The word of the index before `slot` of a sparse leaf.
#[inline(always)]
const fn sparse_before(slot: usize) -> usize {
    if slot < LOW_SLOTS {
        LOW_BEFORES + slot
    } else {
        HIGH_BEFORES - LOW_SLOTS + slot
    }
}

impl<T> Node<T> {
    /// Whether this is a leaf without slots for holes.
    #[inline(always)]
    pub(crate) fn is_sparse(&self) -> bool {
        self.kind == Kind::Sparse
    }

    /// The index before `slot`, wrapped round.
    #[inline(always)]
    pub(super) fn before(&self, slot: usize) -> u64 {
        if self.is_sparse() {
            self.index(sparse_before(slot))
        } else {
            self.index(slot)
        }
    }

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
        self.before(slot).wrapping_add(1)
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

    /// The lowest slot that ends at or above `index`; `count()` if none does. It may
    /// begin above `index`: the first slot, and any of a sparse leaf.
    #[inline(always)]
    pub(crate) fn leaf_slot(&self, index: u64) -> usize {
        // Behind the slots in use come bounds that are `u64::MAX` (L3).
        self.lasts_below(index).min(self.count())
    }

    /// How many of the last indices are below `index`.
    #[inline(always)]
    fn lasts_below(&self, index: u64) -> usize {
        debug_assert!(self.is_leaf());
        if self.is_sparse() {
            count_below(self.indices::<SPARSE_SLOTS>(LASTS), index)
        } else {
            count_below(self.indices::<LEAF_SLOTS>(LASTS), index)
        }
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

    /// The entry at `index`.
    #[inline(always)]
    pub(crate) fn entry_around(&self, index: u64) -> Option<&T> {
        // If it is none in use, it holds nothing.
        let slot = self.lasts_below(index);
        let value = self.entry(slot)?;
        (self.first(slot) <= index).then_some(value)
    }

    /// The slot of the entry at `index`.
    #[inline(always)]
    pub(crate) fn slot_of_entry(&self, index: u64) -> Option<usize> {
        let slot = self.leaf_slot(index);
        (self.holds(slot) && self.first(slot) <= index).then_some(slot)
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

    /// How many slots a dense leaf would use for `slots`, the first and last of which
    /// are entries.
    #[inline(always)]
    pub(crate) fn dense_slots(&self, slots: Range<usize>) -> usize {
        if self.is_sparse() && slots.len() > 1 {
            slots.len() + self.holes_in(slots)
        } else {
            slots.len()
        }
    }

    /// How many holes there are between `slots` of a sparse leaf.
    fn holes_in(&self, slots: Range<usize>) -> usize {
        // PERF: without a branch for each. Slots that are not in use are looked at too (L3).
        let mut holes = 0_u32;
        for slot in 1..SPARSE_SLOTS {
            let is_hole = self.index(slot) != self.index(sparse_before(slot));
            holes |= u32::from(is_hole) << slot;
        }
        // One before each slot but the first.
        let holes = (holes >> (slots.start + 1)) & ((1 << (slots.len() - 1)) - 1);
        holes.count_ones() as usize
    }

    /// How many entries there are in `slots`.
    #[inline]
    pub(crate) fn entries_in(&self, slots: Range<usize>) -> usize {
        if self.is_sparse() {
            return slots.len();
        }
        let entries = (u32::from(self.owned) >> slots.start) & ((1 << slots.len()) - 1);
        entries.count_ones() as usize
    }

    /// The hole in `slot`, or, where holes take none, between it and the one before.
    pub(crate) fn hole(&self, slot: usize) -> Option<IndexRange> {
        if self.is_sparse() {
            let end = self.last(slot.checked_sub(1)?);
            return IndexRange::new(end + 1, self.before(slot));
        }
        self.entry(slot).is_none().then(|| self.slot_range(slot))
    }

    /// The length of the longest hole between entries.
    #[inline]
    pub(crate) fn longest_hole(&self) -> u64 {
        let mut longest = 0;
        if self.is_sparse() {
            for slot in 1..self.count() {
                longest = longest.max(self.before(slot) - self.last(slot - 1));
            }
            return longest;
        }
        let mut holes = !self.owned & ((1 << self.count()) - 1);
        while holes != 0 {
            let slot = holes.trailing_zeros() as usize;
            holes &= holes - 1;
            longest = longest.max(self.index(LASTS + slot) - self.index(slot));
        }
        longest
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

    /// Whether another entry, which begins at `first`, fits behind all others. The leaf
    /// is not empty.
    #[inline]
    pub(crate) fn has_room(&self, first: u64) -> bool {
        if self.is_sparse() {
            return self.count() < SPARSE_SLOTS;
        }
        let hole = self.upper() + 1 < first;
        self.count() + usize::from(hole) < LEAF_SLOTS
    }

    /// Sees to it that another entry, which begins at `first`, fits behind all
    /// others, by making it a leaf of the other kind; `false` if that is no help.
    pub(crate) fn make_room(&mut self, first: u64) -> bool {
        let kind = if self.is_sparse() {
            let hole = usize::from(self.upper() + 1 < first);
            if self.dense_slots(0..self.count()) + hole >= LEAF_SLOTS {
                return false;
            }
            Kind::Dense
        } else {
            if self.entries_in(0..self.count()) >= SPARSE_SLOTS {
                return false;
            }
            Kind::Sparse
        };
        let mut patch = Patch::new();
        (patch.keep, patch.tail) = (self.count(), self.count());
        self.recast(kind, &mut patch);
        true
    }

    /// Calls `visit` with the index before each of `slots`, its last index, and its
    /// word, which is an entry's where its bit is set.
    #[inline]
    pub(super) fn for_each_word(
        &self,
        slots: Range<usize>,
        mut visit: impl FnMut(u64, u64, MaybeUninit<T>),
    ) {
        assert!(self.is_leaf() && slots.end <= self.count());
        for slot in slots {
            let word: *const MaybeUninit<T> = self.word(ENTRIES + slot).cast();
            // SAFETY: a word of ours; an entry is no larger and lies at its start. What is
            // read is no value of `T`, so it may be of a hole.
            let word = unsafe { word.read() };
            visit(self.before(slot), self.index(LASTS + slot), word);
        }
    }

    /// Fills this leaf, which is empty, with entries in ascending order, each given
    /// with the index before it and its last one.
    #[inline]
    pub(super) fn fill(&mut self, entries: impl Iterator<Item = (u64, u64, Held<T>)>) {
        assert!(self.is_leaf() && self.count == 0);
        let words = self.words.get_mut();
        let (mut slot, mut owned, mut end) = (0, 0_u32, None);
        if self.kind == Kind::Sparse {
            for (before, index, held) in entries {
                assert!(slot < SPARSE_SLOTS, "a leaf has no more slots");
                words[sparse_before(slot)] = Word { index: before };
                words[LASTS + slot] = Word { index };
                let entry = ManuallyDrop::new(held.0);
                words[ENTRIES + slot] = Word { entry };
                slot += 1;
            }
            owned = (1 << slot) - 1;
        } else {
            for (before, index, held) in entries {
                slot += usize::from(end.is_some_and(|end| end != before));
                assert!(slot < LEAF_SLOTS, "a leaf has no more slots");
                // The last index of the slot before: of a hole, or the same again.
                words[slot] = Word { index: before };
                words[LASTS + slot] = Word { index };
                let entry = ManuallyDrop::new(held.0);
                words[ENTRIES + slot] = Word { entry };
                owned |= 1 << slot;
                end = Some(index);
                slot += 1;
            }
        }
        self.owned = owned as u16;
        self.count = slot as u8;
    }

    /// Adds `value` over `range` behind all entries, with the hole before it. Where
    /// there is no room it is handed back.
    #[inline]
    pub(crate) fn push_entry(&mut self, range: IndexRange, value: T) -> Result<(), T> {
        debug_assert!(self.is_leaf());
        let before = range.first().wrapping_sub(1);
        let mut slot = self.count();
        let at = if self.is_sparse() {
            if slot >= SPARSE_SLOTS {
                return Err(value);
            }
            sparse_before(slot)
        } else {
            slot += usize::from(slot > 0 && self.index(slot) != before);
            if slot >= LEAF_SLOTS {
                return Err(value);
            }
            // The last index of the slot before: of a hole, or the same again.
            slot
        };
        self.set_index(at, before);
        self.set_index(LASTS + slot, range.last());
        self.set_entry(slot, Held::new(value));
        self.owned |= 1 << slot;
        self.count = slot as u8 + 1;
        Ok(())
    }

    /// Fills the slots of this leaf, an outline of `leaf`, with clones of its
    /// entries. If that panics it has those cloned so far.
    pub(crate) fn clone_slots(&mut self, leaf: &Self)
    where
        T: Entry + Clone,
    {
        assert!(leaf.is_leaf() && self.kind == leaf.kind && self.count == leaf.count);
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
        self.splice(self.kind, &mut patch);
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

    /// Replaces slots `keep..tail` by what is in `patch`, in a leaf of `kind`. What
    /// they held is given up: the caller has taken it, or lets this node be a copy.
    #[inline]
    pub(crate) fn splice(&mut self, kind: Kind, patch: &mut Patch<T>) {
        assert!(self.is_leaf() && patch.keep <= patch.tail && patch.tail <= self.count());
        if kind != self.kind {
            self.recast(kind, patch);
        } else if self.is_sparse() {
            self.splice_sparse(patch);
        } else {
            self.splice_dense(patch);
        }
    }

    fn splice_sparse(&mut self, patch: &mut Patch<T>) {
        let (keep, tail, count) = (patch.keep, patch.tail, self.count());
        let end = keep + patch.entries.len();
        let new_count = end + count - tail;
        assert!(new_count <= SPARSE_SLOTS);
        if end != tail && tail < count {
            self.move_tail(tail, end);
            let mut befores = [0; SPARSE_SLOTS];
            for (before, slot) in befores.iter_mut().zip(tail..count) {
                *before = self.before(slot);
            }
            for (slot, before) in (end..new_count).zip(befores) {
                self.set_index(sparse_before(slot), before);
            }
        }
        self.owned = (1 << new_count) - 1;
        for (slot, (range, held)) in (keep..).zip(patch.entries.drain(..)) {
            self.set_index(sparse_before(slot), range.first().wrapping_sub(1));
            self.set_index(LASTS + slot, range.last());
            self.set_entry(slot, held);
        }
        self.set_count(new_count);
    }

    fn splice_dense(&mut self, patch: &mut Patch<T>) {
        let (keep, tail, count) = (patch.keep, patch.tail, self.count());
        // The index before the first slot that stays behind the patch.
        let tail_before = (tail < count).then(|| self.before(tail));
        let end = keep + patch.dense_slots((keep > 0).then(|| self.last(keep - 1)), tail_before);
        let new_count = end + count - tail;
        assert!(new_count <= LEAF_SLOTS);
        if end != tail && tail < count {
            self.move_tail(tail, end);
        }
        let stay = u32::from(self.owned);
        self.owned = ((stay & ((1 << keep) - 1)) | ((stay >> tail) << end)) as u16;
        let mut slot = keep;
        for (range, held) in patch.entries.drain(..) {
            let before = range.first().wrapping_sub(1);
            slot += usize::from(slot > 0 && self.index(slot) != before);
            // The last index of the slot before this one: of a hole, or the same again.
            self.set_index(slot, before);
            self.set_index(LASTS + slot, range.last());
            self.set_entry(slot, held);
            self.owned |= 1 << slot;
            slot += 1;
        }
        if let Some(before) = tail_before {
            // As above.
            self.set_index(end, before);
        }
        self.set_count(new_count);
    }

    /// Moves the last indices and entries of the slots from `tail` on to `end`.
    #[inline]
    fn move_tail(&mut self, tail: usize, end: usize) {
        let count = self.count();
        let words = self.words.get_mut();
        move_words(words, LASTS + tail..LASTS + count, LASTS + end);
        move_words(words, ENTRIES + tail..ENTRIES + count, ENTRIES + end);
    }

    /// Sets the number of slots in use, which are filled in.
    fn set_count(&mut self, count: usize) {
        // INVARIANT: L3.
        for slot in count..self.count() {
            self.set_index(LASTS + slot, u64::MAX);
        }
        self.count = count as u8;
    }

    /// Makes it a leaf of `kind`, with what is in `patch` in the place of slots
    /// `keep..tail`.
    #[cold]
    fn recast(&mut self, kind: Kind, patch: &mut Patch<T>) {
        let mut run = LeafRun::new();
        // SAFETY: the node is emptied just below.
        unsafe { run.push_slots(self, 0..patch.keep) };
        for (range, held) in patch.entries.drain(..) {
            run.push(range, held);
        }
        // SAFETY: as above.
        unsafe { run.push_slots(self, patch.tail..self.count()) };
        self.kind = kind;
        self.owned = 0;
        self.count = 0;
        // INVARIANT: L3.
        let words = self.words.get_mut();
        words.fill_with(|| Word { index: u64::MAX });
        self.fill(run.take(run.len()));
    }

    /// Whether the last indices that are not in use are what L3 says.
    pub(crate) fn is_leaf_padded(&self) -> bool {
        let slots = self.count()..self.kind.slots();
        slots
            .into_iter()
            .all(|slot| self.index(LASTS + slot) == u64::MAX)
    }

    /// Drops slots from the end, whose entries have been taken, until `slots` are left.
    #[cfg(test)]
    pub(crate) fn truncate_leaf(&mut self, slots: usize) {
        let mut patch = Patch::new();
        (patch.keep, patch.tail) = (slots, self.count());
        self.splice(self.kind, &mut patch);
    }

    /// Breaks the leaf: `slot` ends at `last`, whatever its neighbours say.
    #[cfg(test)]
    pub(crate) fn set_last(&mut self, slot: usize, last: u64) {
        self.set_index(LASTS + slot, last);
    }
}

fn move_words<T>(words: &mut [Word<T>], from: Range<usize>, to: usize) {
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
    /// So many slots from the first stay; the last of them is an entry.
    pub(crate) keep: usize,
    /// From this slot on all stay; it is an entry, or `count()`.
    pub(crate) tail: usize,
    /// The entries that come between them.
    pub(crate) entries: ArrayVec<(IndexRange, Held<T>), 3>,
}

impl<T> Patch<T> {
    /// Nothing in the place of nothing.
    pub(crate) const fn new() -> Self {
        Self {
            keep: 0,
            tail: 0,
            entries: ArrayVec::new_const(),
        }
    }

    /// How many slots it takes in a dense leaf, between the last index of what
    /// stays before it and the index before what stays behind it.
    #[inline]
    fn dense_slots(&self, end: Option<u64>, tail_before: Option<u64>) -> usize {
        let (mut slots, mut end) = (self.entries.len(), end);
        for (range, _) in &self.entries {
            let before = range.first().wrapping_sub(1);
            slots += usize::from(end.is_some_and(|end| end != before));
            end = Some(range.last());
        }
        let is_hole = end
            .zip(tail_before)
            .is_some_and(|(end, before)| end != before);
        slots + usize::from(is_hole)
    }
}
