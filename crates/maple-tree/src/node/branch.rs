//! Branches: children in ascending order, pivots between them, gaps where kept.
//!
//! Pivot `i` is the last index below child `i`. The last child has none: its
//! bound is the node's own, which the walk from the root knows.

use core::mem::ManuallyDrop;

use super::{Kind, Link, Node, Word};

/// A child with what its parent keeps of it.
pub(crate) struct Child<T> {
    pub(crate) link: Link<T>,
    /// The last index below it.
    pub(crate) last: u64,
    /// The length of the longest gap below it.
    pub(crate) gap: u64,
}

impl<T> Node<T> {
    fn child_word(&self, slot: usize) -> usize {
        self.kind.slots() - 1 + slot
    }

    fn gap_word(&self, slot: usize) -> usize {
        2 * self.kind.slots() - 1 + slot
    }

    /// The last index below the child in `slot`, which is not the last child.
    pub(crate) fn pivot(&self, slot: usize) -> u64 {
        assert!(!self.is_leaf() && slot + 1 < self.count());
        self.index(slot)
    }

    /// The last index below the child in `slot`; `max` is the node's own.
    pub(crate) fn pivot_or(&self, slot: usize, max: u64) -> u64 {
        if slot + 1 < self.count() {
            self.pivot(slot)
        } else {
            max
        }
    }

    /// The first index below the child in `slot`; `min` is the node's own.
    pub(crate) fn child_min(&self, slot: usize, min: u64) -> u64 {
        if slot == 0 {
            min
        } else {
            self.pivot(slot - 1) + 1
        }
    }

    /// The slot of the child below which `index` is.
    pub(crate) fn child_slot(&self, index: u64) -> usize {
        assert!(!self.is_leaf() && self.count > 0);
        self.indices(0, self.count() - 1)
            .partition_point(|&last| last < index)
    }

    /// The child in `slot`.
    pub(crate) fn child(&self, slot: usize) -> &Self {
        assert!(!self.is_leaf() && slot < self.count() && self.owns(slot));
        // SAFETY: the bit says that the word holds a child.
        let child = unsafe { &self.words[self.child_word(slot)].child };
        // SAFETY: the slot owns a link to the child, which keeps it alive while
        // the slot is borrowed; it is changed only through the slot, mutably.
        unsafe { child.as_ref() }
    }

    /// The child in `slot`, if this is the only link to it.
    pub(crate) fn child_mut(&mut self, slot: usize) -> Option<&mut Self> {
        self.child_link_mut(slot).get_mut()
    }

    /// The link in `slot`.
    pub(crate) fn child_link_mut(&mut self, slot: usize) -> &mut Link<T> {
        assert!(!self.is_leaf() && slot < self.count() && self.owns(slot));
        let word = self.child_word(slot);
        // SAFETY: the bit says that the word holds a child.
        let child = unsafe { &mut self.words[word].child };
        let link: *mut Link<T> = core::ptr::from_mut(child).cast();
        // SAFETY: a link is one pointer and nothing else, and the slot owns it.
        unsafe { &mut *link }
    }

    /// Counts another link to the child in `slot`.
    pub(crate) fn share_child(&self, slot: usize) -> Link<T> {
        assert!(!self.is_leaf() && slot < self.count() && self.owns(slot));
        // SAFETY: the bit says that the word holds a child.
        let child = unsafe { self.words[self.child_word(slot)].child };
        // The slot keeps its link: this one is only looked through.
        let link = ManuallyDrop::new(Link(child));
        link.share()
    }

    /// Takes the link out of `slot`, whose place is empty from now on.
    pub(crate) fn take_child(&mut self, slot: usize) -> Option<Link<T>> {
        assert!(!self.is_leaf() && slot < self.count());
        if !self.owns(slot) {
            return None;
        }
        self.owned &= !(1 << slot);
        // SAFETY: the bit said that the word holds a child; with it cleared
        // nobody reads this copy again.
        Some(Link(unsafe { self.words[self.child_word(slot)].child }))
    }

    /// The length of the longest gap below the child in `slot`.
    pub(crate) fn gap(&self, slot: usize) -> u64 {
        assert!(self.kind == Kind::Gaps && slot < self.count());
        self.index(self.gap_word(slot))
    }

    /// Sets the length of the longest gap below the child in `slot`.
    pub(crate) fn set_gap(&mut self, slot: usize, gap: u64) {
        assert!(self.kind == Kind::Gaps && slot < self.count());
        let word = self.gap_word(slot);
        self.words[word] = Word { index: gap };
    }

    /// The length of the longest gap below this node.
    pub(crate) fn longest_gap(&self) -> u64 {
        assert!(self.kind == Kind::Gaps);
        let first = self.gap_word(0);
        self.indices(first, first + self.count())
            .iter()
            .copied()
            .max()
            .unwrap_or(0)
    }

    /// Adds a child behind all others.
    #[expect(
        clippy::needless_pass_by_value,
        reason = "the slot owns the link from now on"
    )]
    pub(crate) fn push_child(&mut self, child: Child<T>) {
        let Child {
            link: Link(node),
            last,
            gap,
        } = child;
        let slot = self.count();
        assert!(
            !self.is_leaf() && slot < self.kind.slots(),
            "a branch has no more slots"
        );
        // The last child of a full branch has no pivot.
        if slot + 1 < self.kind.slots() {
            self.words[slot] = Word { index: last };
        }
        let word = self.child_word(slot);
        self.words[word] = Word { child: node };
        self.owned |= 1 << slot;
        self.count += 1;
        if self.kind == Kind::Gaps {
            self.set_gap(slot, gap);
        }
    }

    /// Drops slots from the end, whose children have been taken, until `slots` are left.
    pub(crate) fn truncate_branch(&mut self, slots: usize) {
        assert!(!self.is_leaf());
        while self.count() > slots {
            self.shorten();
        }
    }

    /// Breaks the branch: the child in `slot` ends at `last`, whatever is below it.
    #[cfg(test)]
    pub(crate) fn set_pivot(&mut self, slot: usize, last: u64) {
        assert!(!self.is_leaf() && slot + 1 < self.count());
        self.words[slot] = Word { index: last };
    }
}
