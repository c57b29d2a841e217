//! Branches: children in ascending order, pivots between them, gaps where kept.
//!
//! Pivot `i` is the last index below child `i`. The last child has none: its
//! bound is the node's own, which the walk from the root knows.
//!
//! Children and gaps may change while lock-free readers look at the branch: a
//! child by one atomic store, and gaps because readers never look at them.

use core::mem::ManuallyDrop;
use core::num::NonZeroU64;
use core::ops::Range;
use core::ptr::{NonNull, null_mut};
use core::sync::atomic::{AtomicPtr, Ordering};

use arrayvec::ArrayVec;

use super::{BRANCH_SLOTS_MAX, GAP_SLOTS, Kind, Link, Node, PLAIN_SLOTS, Word, count_below};
use crate::sync;

/// A child with what its parent keeps of it.
pub(crate) struct Child<T> {
    pub(crate) link: Link<T>,
    /// The last index below it.
    pub(crate) last: u64,
    /// The length of the longest gap below it; 0 where gaps are not kept.
    pub(crate) gap: u64,
}

impl<T> Node<T> {
    #[inline(always)]
    fn child_word(&self, slot: usize) -> usize {
        debug_assert!(!self.is_leaf());
        let before = if self.kind == Kind::Gaps {
            GAP_SLOTS - 1
        } else {
            PLAIN_SLOTS - 1
        };
        before + slot
    }

    fn gap_word(slot: usize) -> usize {
        2 * GAP_SLOTS - 1 + slot
    }

    /// The last index below the child in `slot`, which is not the last child.
    #[inline]
    pub(crate) fn pivot(&self, slot: usize) -> u64 {
        debug_assert!(!self.is_leaf() && slot + 1 < self.count());
        self.index(slot)
    }

    /// The last index below the child in `slot`; `max` is the node's own.
    #[inline]
    pub(crate) fn pivot_or(&self, slot: usize, max: u64) -> u64 {
        if slot + 1 < self.count() {
            self.pivot(slot)
        } else {
            max
        }
    }

    /// The first index below the child in `slot`; `min` is the node's own.
    #[inline]
    pub(crate) fn child_min(&self, slot: usize, min: u64) -> u64 {
        if slot == 0 {
            min
        } else {
            self.pivot(slot - 1) + 1
        }
    }

    /// The slot of the child below which `index` is.
    #[inline(always)]
    pub(crate) fn child_slot(&self, index: u64) -> usize {
        debug_assert!(!self.is_leaf() && self.count > 0);
        // What comes behind the pivots in use is `u64::MAX` (L3).
        if self.kind == Kind::Gaps {
            count_below(self.indices::<{ GAP_SLOTS - 1 }>(0), index)
        } else {
            count_below(self.indices::<{ PLAIN_SLOTS - 1 }>(0), index)
        }
    }

    /// The word of the child in `slot`.
    #[inline(always)]
    fn child_cell(&self, slot: usize) -> &AtomicPtr<Self> {
        let word: *mut *mut Self = self.word(self.child_word(slot)).cast();
        // SAFETY:
        // - The word of a branch's child is written when the node is made, aligned,
        //   and a pointer ever since.
        // - While the node is linked it is changed through this cell only, or
        //   through `&mut`.
        unsafe { AtomicPtr::from_ptr(word) }
    }

    /// The child in `slot`.
    #[inline(always)]
    pub(crate) fn child(&self, slot: usize) -> &Self {
        // ORDERING: `Acquire` pairs with the `Release` in `replace_child`: a reader
        // that finds a new node finds it written.
        let child = sync::load(self.child_cell(slot), Ordering::Acquire);
        // SAFETY: null, or a child that the slot owns a link to. That keeps it alive
        // while the slot is borrowed, or for as long as the guard of a lock-free
        // reader, which the borrow does not outlive.
        unsafe { child.as_ref() }.expect("a slot in use has a child (L1)")
    }

    /// Asks the processor to fetch the child in `slot`.
    #[inline]
    pub(crate) fn prefetch_child(&self, slot: usize) {
        // ORDERING: `Relaxed`: the child is not looked at.
        let child = self.child_cell(slot).load(Ordering::Relaxed);
        super::prefetch(child.cast_const().cast());
    }

    /// As [`child`](Self::child), for whoever keeps raw pointers.
    pub(super) fn child_raw(&self, slot: usize) -> NonNull<Self> {
        let child = sync::load(self.child_cell(slot), Ordering::Acquire);
        NonNull::new(child).expect("a slot in use has a child (L1)")
    }

    /// Shows the node to a checker: it is written, and readers may find it soon.
    #[cfg(any(loom, shuttle))]
    pub(super) fn show(&self) {
        sync::written(self);
        let children = if self.is_leaf() { 0 } else { self.count() };
        (0..children).for_each(|slot| sync::shared(self.child_cell(slot)));
    }

    /// Puts `new` in the place of the child in `slot`, in one step for readers.
    ///
    /// # Safety
    ///
    /// - The caller is the writer of the only tree that this node is in.
    pub(super) unsafe fn replace_child(&self, slot: usize, new: Link<T>) -> Link<T> {
        let cell = self.child_cell(slot);
        let old = NonNull::new(cell.load(Ordering::Relaxed));
        // ORDERING: `Release` pairs with the `Acquire` in `child`.
        sync::store(cell, new.into_raw().as_ptr(), Ordering::Release);
        Link(old.expect("a slot in use has a child (L1)"))
    }

    /// Sets the gap below the child in `slot`, which readers do not look at.
    ///
    /// # Safety
    ///
    /// - The caller is the writer of the only tree that this node is in, and
    ///   nobody else reads the gap meanwhile.
    pub(super) unsafe fn store_gap(&self, slot: usize, gap: u64) {
        assert!(self.kind == Kind::Gaps && slot < self.count());
        // SAFETY: a word of a gap; that nobody else looks at it is the contract.
        unsafe { self.word(Self::gap_word(slot)).write(Word { index: gap }) };
    }

    /// Counts another link to the child in `slot`.
    pub(crate) fn share_child(&self, slot: usize) -> Link<T> {
        // The slot keeps its link: this one is only looked through.
        let link = ManuallyDrop::new(Link(self.child_raw(slot)));
        link.share()
    }

    /// Takes the link out of `slot`, whose place is empty from now on.
    pub(crate) fn take_child(&mut self, slot: usize) -> Option<Link<T>> {
        assert!(!self.is_leaf() && slot < self.kind.slots());
        let child = self.child_cell(slot).load(Ordering::Relaxed);
        self.child_cell(slot).store(null_mut(), Ordering::Relaxed);
        NonNull::new(child).map(Link)
    }

    /// The length of the longest gap below the child in `slot`.
    #[inline]
    pub(crate) fn gap(&self, slot: usize) -> u64 {
        debug_assert!(self.kind == Kind::Gaps && slot < self.count());
        self.index(Self::gap_word(slot))
    }

    /// A bit for each slot whose child has a gap of `length` or longer.
    // PERF: one bit after the other, without a branch; which child it will be cannot be predicted.
    #[inline]
    pub(crate) fn slots_with_gap(&self, length: NonZeroU64) -> u32 {
        debug_assert!(self.kind == Kind::Gaps);
        // Gaps that are not in use are 0.
        let gaps = self.indices::<GAP_SLOTS>(Self::gap_word(0));
        let bits = gaps.iter().enumerate();
        bits.fold(0, |bits, (slot, gap)| {
            bits | u32::from(*gap >= length.get()) << slot
        })
    }

    /// What is kept of the gaps below the child in `slot`; 0 where gaps are not kept.
    pub(crate) fn kept_gap(&self, slot: usize) -> u64 {
        if self.kind == Kind::Gaps {
            self.gap(slot)
        } else {
            0
        }
    }

    /// Whether the pivots, children and gaps that are not in use are what L3 says.
    pub(crate) fn is_branch_padded(&self) -> bool {
        let (count, slots) = (self.count(), self.kind.slots());
        let has_gaps = self.kind == Kind::Gaps;
        // The last child's pivot is nobody's to say.
        (count..slots - 1).all(|slot| self.index(slot) == u64::MAX)
            && (count..slots).all(|slot| {
                self.child_cell(slot).load(Ordering::Relaxed).is_null()
                    && (!has_gaps || self.index(Self::gap_word(slot)) == 0)
            })
    }

    /// Breaks the branch: `pivot`, which is not in use, is `last`.
    #[cfg(test)]
    pub(crate) fn set_unused_pivot(&mut self, pivot: usize, last: u64) {
        self.set_index(pivot, last);
    }

    /// Breaks the branch: `slot`, which is not in use, seems to hold a child.
    #[cfg(test)]
    pub(crate) fn set_unused_child(&mut self, slot: usize) {
        let (at, child) = (self.child_word(slot), core::ptr::dangling_mut());
        self.words.get_mut()[at] = Word { child };
    }

    /// Breaks the branch: `slot`, which is not in use, has a gap.
    #[cfg(test)]
    pub(crate) fn set_unused_gap(&mut self, slot: usize, gap: u64) {
        self.set_index(Self::gap_word(slot), gap);
    }

    #[cfg(test)]
    pub(crate) fn set_gap(&mut self, slot: usize, gap: u64) {
        // SAFETY: ours alone.
        unsafe { self.store_gap(slot, gap) };
    }

    /// The length of the longest gap below this branch; 0 where gaps are not kept.
    pub(crate) fn longest_gap(&self) -> u64 {
        if self.kind != Kind::Gaps {
            return 0;
        }
        // Gaps that are not in use are 0.
        let gaps = self.indices::<GAP_SLOTS>(Self::gap_word(0));
        gaps.iter().copied().fold(0, u64::max)
    }

    /// Adds a child behind all others.
    pub(crate) fn push_child(&mut self, child: Child<T>) {
        let slot = self.count();
        assert!(
            !self.is_leaf() && slot < self.kind.slots(),
            "a branch has no more slots"
        );
        // INVARIANT: L3. What was the last child gets its pivot, this one has none.
        self.count += 1;
        self.write_child(slot, child.link, child.gap);
        if slot + 1 < self.kind.slots() {
            self.set_index(slot, child.last);
        }
    }

    /// Puts the next child into this branch, an outline of one that has its bounds
    /// and gaps.
    pub(crate) fn put_child(&mut self, link: Link<T>) {
        let slot = self.count();
        assert!(!self.is_leaf() && slot < self.kind.slots());
        let at = self.child_word(slot);
        let child = link.into_raw().as_ptr();
        self.words.get_mut()[at] = Word { child };
        self.count += 1;
    }

    fn write_child(&mut self, slot: usize, link: Link<T>, gap: u64) {
        let at = self.child_word(slot);
        let child = link.into_raw().as_ptr();
        self.words.get_mut()[at] = Word { child };
        if self.kind == Kind::Gaps {
            self.set_index(Self::gap_word(slot), gap);
        }
    }

    /// Makes `run`'s children in `slots` the only ones. Those that were there are
    /// given up: the caller has taken them.
    pub(crate) fn refill(&mut self, run: &mut BranchRun<T>, slots: Range<usize>) {
        assert!(!self.is_leaf() && slots.len() <= self.kind.slots());
        let (old, new) = (self.count(), slots.len());
        for (slot, from) in slots.enumerate() {
            let Child { link, last, gap } = run.take(from);
            self.write_child(slot, link, gap);
            if slot + 1 < new {
                self.set_index(slot, last);
            }
        }
        // INVARIANT: L3.
        for slot in new..old {
            self.words.get_mut()[if self.kind == Kind::Gaps {
                GAP_SLOTS - 1
            } else {
                PLAIN_SLOTS - 1
            } + slot] = Word { child: null_mut() };
            if self.kind == Kind::Gaps {
                self.set_index(Self::gap_word(slot), 0);
            }
        }
        for slot in new.saturating_sub(1)..old.min(self.kind.slots() - 1) {
            self.set_index(slot, u64::MAX);
        }
        self.count = new as u8;
    }

    /// Sets the last index below the child in `slot`, which is not the last child.
    pub(crate) fn set_pivot(&mut self, slot: usize, last: u64) {
        assert!(!self.is_leaf() && slot + 1 < self.count());
        self.set_index(slot, last);
    }
}

/// Children of branches in a row, to be laid out over new branches.
pub(crate) struct BranchRun<T> {
    children: ArrayVec<Option<Child<T>>, { 4 * BRANCH_SLOTS_MAX }>,
}

impl<T> BranchRun<T> {
    pub(crate) fn new() -> Self {
        Self {
            children: ArrayVec::new(),
        }
    }

    /// Forgets those that were taken.
    pub(crate) fn clear(&mut self) {
        debug_assert!(self.children.iter().all(Option::is_none));
        self.children.clear();
    }

    /// How many children there are.
    pub(crate) fn len(&self) -> usize {
        self.children.len()
    }

    pub(crate) fn push(&mut self, child: Child<T>) {
        self.children.push(Some(child));
    }

    /// Adds the children in `slots` of `branch`, whose own last index is `max`.
    ///
    /// # Safety
    ///
    /// - The slots are given up: the branch is replaced, and dropped without them.
    pub(crate) unsafe fn push_slots(&mut self, branch: &Node<T>, slots: Range<usize>, max: u64) {
        for slot in slots {
            self.push(Child {
                link: Link(branch.child_raw(slot)),
                last: branch.pivot_or(slot, max),
                gap: branch.kept_gap(slot),
            });
        }
    }

    /// As [`push_slots`](Self::push_slots), and counts another link to each:
    /// the branch stays what it is.
    pub(crate) fn share_slots(&mut self, branch: &Node<T>, slots: Range<usize>, max: u64) {
        for slot in slots {
            self.push(Child {
                link: branch.share_child(slot),
                last: branch.pivot_or(slot, max),
                gap: branch.kept_gap(slot),
            });
        }
    }

    /// The last index below the child at `at`, which has not been taken.
    pub(crate) fn last(&self, at: usize) -> Option<u64> {
        self.children[at].as_ref().map(|child| child.last)
    }

    fn take(&mut self, at: usize) -> Child<T> {
        self.children[at].take().expect("each child is taken once")
    }
}
