//! What can be looked up below a root, by whoever may look there.

use crate::IndexRange;
use crate::cursor::Cursor;
use crate::iter::{Gaps, Iter, Segments};
use crate::node::Node;
use crate::tree::Segment;
use crate::walk::{descend, leaf_at};

/// A tree to be looked at: the nodes below a root, none in an empty tree.
pub(crate) struct View<'a, T> {
    root: Option<&'a Node<T>>,
}

impl<T> Clone for View<'_, T> {
    fn clone(&self) -> Self {
        *self
    }
}

impl<T> Copy for View<'_, T> {}

impl<'a, T> View<'a, T> {
    pub(crate) fn below(root: Option<&'a Node<T>>) -> Self {
        Self { root }
    }

    /// The entry at `index`.
    #[inline]
    pub(crate) fn get(self, index: u64) -> Option<&'a T> {
        descend(self.root?, index, |_, _| {}).entry_around(index)
    }

    /// The entry or gap around `index`.
    #[inline]
    pub(crate) fn find(self, index: u64) -> Segment<'a, T> {
        match self.root {
            Some(root) => leaf_at(root, index).segment(index),
            None => Segment::Gap(IndexRange::FULL),
        }
    }

    /// The entry at `index`, with its bounds.
    #[inline]
    pub(crate) fn entry(self, index: u64) -> Option<(IndexRange, &'a T)> {
        match self.find(index) {
            Segment::Entry(range, value) => Some((range, value)),
            Segment::Gap(_) => None,
        }
    }

    /// The entry at `index`, else the first one above it.
    pub(crate) fn at_or_after(self, index: u64) -> Option<(IndexRange, &'a T)> {
        Iter::over(self.root, IndexRange::new(index, u64::MAX)).next()
    }

    /// The entry at `index`, else the last one below it.
    pub(crate) fn at_or_before(self, index: u64) -> Option<(IndexRange, &'a T)> {
        Iter::over(self.root, IndexRange::new(0, index)).next_back()
    }

    /// The first entry that begins above `index`.
    pub(crate) fn after(self, index: u64) -> Option<(IndexRange, &'a T)> {
        // One pass: with two looks a write in between could make what begins below
        // `index` be found by the second.
        let mut entries = Iter::over(self.root, IndexRange::new(index, u64::MAX));
        entries.find(|(range, _)| range.first() > index)
    }

    /// The last entry that ends below `index`.
    pub(crate) fn before(self, index: u64) -> Option<(IndexRange, &'a T)> {
        // One pass, as above.
        let mut entries = Iter::over(self.root, IndexRange::new(0, index));
        entries.rfind(|(range, _)| range.last() < index)
    }

    /// Whether no index of `range` holds an entry.
    pub(crate) fn is_vacant(self, range: IndexRange) -> bool {
        match self.find(range.first()) {
            Segment::Entry(..) => false,
            Segment::Gap(gap) => gap.last() >= range.last(),
        }
    }

    /// The entries that overlap `bounds`.
    pub(crate) fn range(self, bounds: Option<IndexRange>) -> Iter<'a, T> {
        Iter::over(self.root, bounds)
    }

    /// Everything within `bounds`.
    pub(crate) fn segments(self, bounds: Option<IndexRange>) -> Segments<'a, T> {
        Segments::over(self.root, bounds)
    }

    /// The gaps within `bounds`.
    pub(crate) fn gaps(self, bounds: Option<IndexRange>) -> Gaps<'a, T> {
        Gaps::over(self.root, bounds)
    }

    /// A cursor that stands on the entry or gap around `index`.
    pub(crate) fn cursor(self, index: u64) -> Cursor<'a, T> {
        Cursor::at(self.root, index)
    }
}
