//! Entries of leaves in a row, on their way to new leaves.

use core::mem::MaybeUninit;
use core::ops::Range;

use super::{Held, Kind, LEAF_SLOTS, Node, SPARSE_SLOTS};
use crate::IndexRange;

/// How many leaves hold `entries` entries that take `slots` slots together with
/// the holes between them, all of them dense or all sparse.
pub(crate) fn leaves_for(entries: usize, slots: usize) -> usize {
    slots.div_ceil(LEAF_SLOTS).min(entries.div_ceil(SPARSE_SLOTS))
}

/// Entries in ascending order, to be laid out over new leaves.
pub(crate) struct LeafRun<T> {
    len: usize,
    /// So many from the first have gone into leaves.
    taken: usize,
    /// How many slots they would take in one long dense leaf.
    slots: usize,
    /// The last index of the last entry.
    end: u64,
    /// The index before each entry, wrapped round.
    befores: [MaybeUninit<u64>; LeafRun::<()>::MAX],
    lasts: [MaybeUninit<u64>; LeafRun::<()>::MAX],
    entries: [MaybeUninit<Held<T>>; LeafRun::<()>::MAX],
    /// The slot of each entry in one long dense leaf.
    places: [MaybeUninit<u8>; LeafRun::<()>::MAX],
}

impl LeafRun<()> {
    /// The entries of three leaves, what a write puts there, and one place that is
    /// written to in vain.
    const MAX: usize = 3 * LEAF_SLOTS + 4;
}

impl<T> LeafRun<T> {
    pub(crate) fn new() -> Self {
        Self {
            len: 0,
            taken: 0,
            slots: 0,
            end: 0,
            befores: [const { MaybeUninit::uninit() }; LeafRun::<()>::MAX],
            lasts: [const { MaybeUninit::uninit() }; LeafRun::<()>::MAX],
            entries: [const { MaybeUninit::uninit() }; LeafRun::<()>::MAX],
            places: [const { MaybeUninit::uninit() }; LeafRun::<()>::MAX],
        }
    }

    /// How many entries there are.
    pub(crate) fn len(&self) -> usize {
        self.len
    }

    /// The slot of entry `at` in one long dense leaf.
    fn place(&self, at: usize) -> usize {
        assert!(at < self.len);
        // SAFETY: what is below `len` is written.
        unsafe { self.places[at].assume_init() }.into()
    }

    /// How many slots entries `from..to`, of which there is one, take in a dense leaf.
    fn slots_of(&self, entries: &Range<usize>) -> usize {
        self.place(entries.end - 1) + 1 - self.place(entries.start)
    }

    /// Adds an entry.
    pub(crate) fn push(&mut self, range: IndexRange, held: Held<T>) {
        let before = range.first().wrapping_sub(1);
        let hole = self.len > 0 && before != self.end;
        let place = self.slots + usize::from(hole);
        self.befores[self.len] = MaybeUninit::new(before);
        self.lasts[self.len] = MaybeUninit::new(range.last());
        self.entries[self.len] = MaybeUninit::new(held);
        self.places[self.len] = MaybeUninit::new(place as u8);
        self.len += 1;
        self.slots = place + 1;
        self.end = range.last();
    }

    /// Adds the entries in `slots` of `leaf`, the first and last of which are entries.
    ///
    /// # Safety
    ///
    /// - The slots are given up: the leaf is replaced, and dropped without them.
    pub(crate) unsafe fn push_slots(&mut self, leaf: &Node<T>, slots: Range<usize>) {
        assert!(leaf.is_leaf() && slots.end <= leaf.count());
        for slot in slots {
            // PERF: a hole is read too, and overwritten by what comes next: a branch would
            // be mispredicted as often as there are holes.
            let (before, last) = (leaf.before(slot), leaf.last(slot));
            let hole = self.len > 0 && before != self.end;
            let place = self.slots + usize::from(hole);
            self.befores[self.len] = MaybeUninit::new(before);
            self.lasts[self.len] = MaybeUninit::new(last);
            self.entries[self.len] = leaf.entry_or_not(slot);
            self.places[self.len] = MaybeUninit::new(place as u8);
            let is_entry = leaf.occupancy() & (1 << slot) != 0;
            self.len += usize::from(is_entry);
            self.slots = if is_entry { place + 1 } else { self.slots };
            self.end = if is_entry { last } else { self.end };
        }
    }

    /// Up to which entry those from `from` on go into the next leaf, if all are
    /// shared evenly by `leaves` leaves, of which `left` are still to be filled.
    ///
    /// `leaves` is [`leaves_for`] what there is: so many dense ones would do, or so
    /// many sparse ones. Dense: each leaf gets its share of the slots that are left,
    /// but for a hole at its end, so the rest fits into one leaf less. Sparse: its
    /// share of the entries. So each fits, as one kind at least. And none gets too
    /// few: more than `(leaves - 1) * LEAF_SLOTS` slots are shared, so each of two
    /// or three leaves gets 7 at least (small nodes: 2), which begin and end with an
    /// entry, every other one of which is an entry at least; or more than
    /// `(leaves - 1) * SPARSE_SLOTS` entries: 5 (small nodes: 2).
    pub(crate) fn even_end(&self, from: usize, (leaves, left): (usize, usize)) -> usize {
        let entries = from..self.len;
        if self.slots > leaves * LEAF_SLOTS {
            return from + entries.len().div_ceil(left);
        }
        let end = self.place(from) + self.slots_of(&entries).div_ceil(left);
        let more = entries.skip(1).take_while(|&at| self.place(at) < end);
        from + 1 + more.count()
    }

    /// Up to which entry those from `from` on fit into one leaf.
    pub(crate) fn packed_end(&self, from: usize) -> usize {
        let most = self.place(from) + LEAF_SLOTS;
        let dense = (from..self.len).take_while(|&at| self.place(at) < most);
        let sparse = SPARSE_SLOTS.min(self.len - from);
        from + dense.count().max(sparse)
    }

    /// The kind of a new leaf for `entries`.
    pub(crate) fn kind_of(&self, entries: &Range<usize>) -> Kind {
        Kind::of_leaf(entries.len(), self.slots_of(entries))
    }

    /// Writes `entries` into `leaf`, which is empty. They are the next ones.
    pub(crate) fn fill(&mut self, leaf: &mut Node<T>, entries: Range<usize>) {
        assert!(leaf.count() == 0 && entries.start == self.taken && entries.end <= self.len);
        self.taken = entries.end;
        let base = self.place(entries.start);
        for (slot, at) in entries.enumerate() {
            // SAFETY: what is below `len` is written.
            let before = unsafe { self.befores[at].assume_init() };
            // SAFETY: as above.
            let last = unsafe { self.lasts[at].assume_init() };
            // SAFETY: as above. It is not read again, for `taken` lies behind it.
            let held = unsafe { self.entries[at].assume_init_read() };
            let slot = if leaf.is_sparse() {
                slot
            } else {
                self.place(at) - base
            };
            leaf.fill_slot(slot, (before, last), held);
        }
    }
}
