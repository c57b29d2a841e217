//! Entries of leaves in a row, on their way to new leaves.

use core::mem::MaybeUninit;
use core::ops::Range;

use super::{Held, Kind, LEAF_SLOTS, Node, SPARSE_SLOTS};
use crate::IndexRange;

/// How many leaves hold `entries` entries that take `slots` slots together with
/// the holes between them, all of them dense or all sparse.
pub(crate) fn leaves_for(entries: usize, slots: usize) -> usize {
    slots
        .div_ceil(LEAF_SLOTS)
        .min(entries.div_ceil(SPARSE_SLOTS))
}

/// One entry.
struct Carried<T> {
    /// The index before it, wrapped round.
    before: u64,
    last: u64,
    held: Held<T>,
}

/// Entries in ascending order, to be laid out over new leaves.
pub(crate) struct LeafRun<T> {
    /// Those below `len` are written.
    entries: [MaybeUninit<Carried<T>>; LeafRun::<()>::MAX],
    len: usize,
    /// So many from the first have gone into leaves.
    taken: usize,
}

impl LeafRun<()> {
    /// The entries of three leaves, what a write puts there, and one place that is
    /// written to in vain.
    const MAX: usize = 3 * LEAF_SLOTS + 4;
}

/// How the entries of a run that are left are shared by leaves.
pub(crate) struct Shares {
    /// How many leaves are to be filled.
    leaves: usize,
    /// How many slots dense leaves would use.
    slots: usize,
    /// Whether each leaf gets as many entries; else as many slots.
    by_entries: bool,
}

impl Shares {
    /// Shares entries that would use `slots` slots evenly.
    ///
    /// `leaves` is [`leaves_for`] them: so many dense ones would do, or so many sparse
    /// ones. Dense: each leaf gets its share of the slots that are left, but for a hole
    /// at its end, so the rest fits into one leaf less. Sparse: its share of the
    /// entries. So each fits, as one kind at least. And none gets too few: more than
    /// `(leaves - 1) * LEAF_SLOTS` slots are shared, so each of two or three leaves
    /// gets 7 at least (small nodes: 2), which begin and end with an entry, and every
    /// other one of which is an entry at least; or more than
    /// `(leaves - 1) * SPARSE_SLOTS` entries: 5 each (small nodes: 2).
    pub(crate) fn evenly(leaves: usize, slots: usize) -> Self {
        Self {
            leaves,
            slots,
            by_entries: slots > leaves * LEAF_SLOTS,
        }
    }
}

impl<T> LeafRun<T> {
    pub(crate) fn new() -> Self {
        Self {
            entries: [const { MaybeUninit::uninit() }; LeafRun::<()>::MAX],
            len: 0,
            taken: 0,
        }
    }

    /// How many entries there are, those taken included.
    pub(crate) fn len(&self) -> usize {
        self.len
    }

    #[inline(always)]
    fn entry(&self, at: usize) -> &Carried<T> {
        assert!(at < self.len);
        // SAFETY: what is below `len` is written.
        unsafe { self.entries[at].assume_init_ref() }
    }

    /// Adds an entry.
    pub(crate) fn push(&mut self, range: IndexRange, held: Held<T>) {
        let before = range.first().wrapping_sub(1);
        let last = range.last();
        self.entries[self.len] = MaybeUninit::new(Carried { before, last, held });
        self.len += 1;
    }

    /// Adds the entries in `slots` of `leaf`, the first and last of which are entries.
    ///
    /// # Safety
    ///
    /// - The slots are given up: the leaf is replaced, and dropped without them.
    pub(crate) unsafe fn push_slots(&mut self, leaf: &Node<T>, slots: Range<usize>) {
        let mut owned = leaf.occupancy() >> slots.start;
        leaf.for_each_word(slots, |before, last, word| {
            // PERF: a hole is read too, and overwritten by what comes next: a branch would
            // be mispredicted as often as there are holes.
            let held = Held(word);
            self.entries[self.len] = MaybeUninit::new(Carried { before, last, held });
            self.len += usize::from(owned & 1);
            owned >>= 1;
        });
    }

    /// Whether there is a hole before entry `at`, which is not the first.
    #[inline(always)]
    fn follows_hole(&self, at: usize) -> bool {
        self.entry(at - 1).last != self.entry(at).before
    }

    /// Up to which entry those not taken fit into `most` slots of a dense leaf, and
    /// how many they use.
    fn end_within(&self, most: usize) -> (usize, usize) {
        let (mut end, mut slots) = (self.taken + 1, 1);
        while end < self.len {
            let with = slots + 1 + usize::from(self.follows_hole(end));
            if with > most {
                break;
            }
            (end, slots) = (end + 1, with);
        }
        (end, slots)
    }

    /// How many slots of a dense leaf the entries not taken use up to `end`.
    fn slots_to(&self, end: usize) -> usize {
        let holes = (self.taken + 1..end).filter(|&at| self.follows_hole(at));
        end - self.taken + holes.count()
    }

    /// Up to which entry those not taken go into the next leaf, and its kind, where
    /// `shares` are left.
    pub(crate) fn next_share(&self, shares: &mut Shares) -> (usize, Kind) {
        let left = self.len - self.taken;
        let (end, slots) = if shares.leaves == 1 {
            (self.len, shares.slots)
        } else if shares.by_entries {
            let end = self.taken + left.div_ceil(shares.leaves);
            (end, self.slots_to(end))
        } else {
            self.end_within(shares.slots.div_ceil(shares.leaves))
        };
        shares.leaves -= 1;
        shares.slots -= slots;
        if end < self.len {
            // A hole between two leaves takes no slot.
            shares.slots -= usize::from(self.follows_hole(end));
        }
        (end, Kind::of_leaf(end - self.taken, slots))
    }

    /// Up to which entry those not taken fit into one leaf, and its kind, where the
    /// leaf before is of `before`.
    pub(crate) fn next_full(&self, before: Kind) -> (usize, Kind) {
        let (dense, slots) = self.end_within(LEAF_SLOTS);
        let sparse = self.len.min(self.taken + SPARSE_SLOTS);
        if sparse > dense {
            (sparse, Kind::Sparse)
        } else if dense == self.taken + 1 {
            // One entry says nothing of those that will come.
            (dense, before)
        } else {
            (dense, Kind::of_leaf(dense - self.taken, slots))
        }
    }

    /// Takes the next entries, up to `end`.
    #[inline]
    pub(crate) fn take(&mut self, end: usize) -> impl Iterator<Item = (u64, u64, Held<T>)> {
        let from = core::mem::replace(&mut self.taken, end);
        assert!(from <= end && end <= self.len);
        self.entries[from..end].iter().map(|entry| {
            // SAFETY: what is below `len` is written. It is read once, for `taken` lies
            // behind it.
            let Carried { before, last, held } = unsafe { entry.assume_init_read() };
            (before, last, held)
        })
    }

    /// Writes the next entries, up to `end`, into `leaf`, which is empty.
    pub(crate) fn fill(&mut self, leaf: &mut Node<T>, end: usize) {
        leaf.fill(self.take(end));
    }
}
