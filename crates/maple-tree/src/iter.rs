//! Iteration over entries, gaps, and both.
//!
//! All three iterators keep the indices that are still to be visited; what is
//! yielded at either end shrinks them. So the two ends can meet anywhere.

use core::fmt;
use core::iter::FusedIterator;
use core::ops::RangeBounds;

use crate::node::{Entries, Node};
use crate::source::NodeSource;
use crate::tree::{MapleTree, Segment};
use crate::walk::LeafPath;
use crate::{Entry, IndexRange};

impl<T: Entry, S: NodeSource> MapleTree<T, S> {
    /// Iterates over all entries, in ascending order, from both ends.
    ///
    /// # Complexity
    ///
    /// O(1) a step on average; the first step at each end is O(log n).
    ///
    /// # Examples
    ///
    /// ```
    /// use maple_tree::{IndexRange, MapleTree};
    ///
    /// let tree: MapleTree<u64> = (0..3).map(|i| (IndexRange::single(i * 10), i)).collect();
    /// assert!(tree.iter().map(|(_, &value)| value).eq([0, 1, 2]));
    /// assert!(tree.iter().rev().map(|(_, &value)| value).eq([2, 1, 0]));
    /// ```
    #[doc(alias = "mas_for_each")]
    #[doc(alias = "mt_for_each")]
    #[must_use]
    pub fn iter(&self) -> Iter<'_, T> {
        self.range(..)
    }

    /// Iterates over the entries that overlap `bounds`, each with its own
    /// bounds, which may reach out of them.
    ///
    /// An empty range yields nothing.
    ///
    /// # Complexity
    ///
    /// O(1) a step on average; the first step at each end is O(log n).
    ///
    /// # Examples
    ///
    /// ```
    /// use maple_tree::{IndexRange, MapleTree};
    ///
    /// let tree: MapleTree<u32> = (0..10)
    ///     .map(|i| (IndexRange::new(i * 10, i * 10 + 4).unwrap(), i as u32))
    ///     .collect();
    /// let values: Vec<_> = tree.range(14..=50).map(|(_, &value)| value).collect();
    /// assert_eq!(values, [1, 2, 3, 4, 5]);
    /// assert_eq!(tree.range(..50).next_back().unwrap().1, &4);
    /// ```
    #[doc(alias = "mt_find_after")]
    #[doc(alias = "mas_find")]
    #[doc(alias = "mas_for_each")]
    #[doc(alias = "mas_find_rev")]
    #[doc(alias = "mas_for_each_rev")]
    #[must_use]
    pub fn range(&self, bounds: impl RangeBounds<u64>) -> Iter<'_, T> {
        self.view().range(IndexRange::from_bounds(bounds))
    }

    /// Iterates over the gaps within `bounds`, clipped to them.
    ///
    /// # Complexity
    ///
    /// O(1) a step on average, the entries passed over included; the first step
    /// at each end is O(log n).
    ///
    /// # Examples
    ///
    /// ```
    /// use maple_tree::{IndexRange, MapleTree};
    ///
    /// let mut tree = MapleTree::new();
    /// tree.insert(IndexRange::new(10, 19).unwrap(), 'x')?;
    /// let gaps: Vec<_> = tree.gaps(5..=30).map(|gap| (gap.first(), gap.last())).collect();
    /// assert_eq!(gaps, [(5, 9), (20, 30)]);
    /// # Ok::<(), maple_tree::StoreError<char>>(())
    /// ```
    #[must_use]
    pub fn gaps(&self, bounds: impl RangeBounds<u64>) -> Gaps<'_, T> {
        self.view().gaps(IndexRange::from_bounds(bounds))
    }

    /// Iterates over everything within `bounds`: entries with their own
    /// bounds, and the gaps between them, clipped to `bounds`.
    ///
    /// # Complexity
    ///
    /// O(1) a step on average; the first step at each end is O(log n).
    ///
    /// # Examples
    ///
    /// ```
    /// use maple_tree::{IndexRange, MapleTree};
    ///
    /// let mut tree = MapleTree::new();
    /// tree.insert(IndexRange::new(10, 19).unwrap(), 'x')?;
    /// let all: Vec<_> = tree.segments(5..15).map(|it| (it.range().first(), it.entry())).collect();
    /// assert_eq!(all, [(5, None), (10, Some(&'x'))]);
    /// assert_eq!(tree.segments(5..15).next_back().unwrap().range().last(), 19);
    /// # Ok::<(), maple_tree::StoreError<char>>(())
    /// ```
    #[doc(alias = "mas_find_range_rev")]
    #[must_use]
    pub fn segments(&self, bounds: impl RangeBounds<u64>) -> Segments<'_, T> {
        self.view().segments(IndexRange::from_bounds(bounds))
    }
}

/// The back of an iterator: a leaf, and the entries of it that are left.
struct Back<'a, T> {
    path: LeafPath<'a, T>,
    entries: Entries<'a, T>,
}

impl<T> Clone for Back<'_, T> {
    fn clone(&self) -> Self {
        Self {
            path: self.path.clone(),
            entries: self.entries.clone(),
        }
    }
}

impl<'a, T> Back<'a, T> {
    fn at(root: &'a Node<T>, index: u64) -> Self {
        let path = LeafPath::to(root, index);
        let entries = Entries::through(path.leaf(), path.leaf().leaf_slot(index));
        Self { path, entries }
    }

    fn next(&mut self) -> Option<(IndexRange, &'a T)> {
        while self.entries.is_empty() {
            if !self.path.previous_leaf() {
                return None;
            }
            self.entries = Entries::of(self.path.leaf());
        }
        self.entries.next_back()
    }
}

/// An iterator over entries; see [`MapleTree::range`].
pub struct Iter<'a, T> {
    /// None once nothing is left.
    root: Option<&'a Node<T>>,
    /// Where the front begins.
    first: u64,
    /// No index above is still to be visited.
    last: u64,
    /// What is left of the leaf that the front is in, up to `last`.
    entries: Entries<'a, T>,
    front: Option<LeafPath<'a, T>>,
    back: Option<Back<'a, T>>,
}

impl<'a, T> Iter<'a, T> {
    #[inline]
    pub(crate) fn over(root: Option<&'a Node<T>>, bounds: Option<IndexRange>) -> Self {
        let (first, last) = bounds.map_or((1, 0), |bounds| (bounds.first(), bounds.last()));
        Self {
            root: root.filter(|_| bounds.is_some()),
            first,
            last,
            entries: Entries::NONE,
            front: None,
            back: None,
        }
    }

    /// The indices still to be visited.
    fn left(&self) -> Option<IndexRange> {
        let first = match (self.entries.lower(), &self.front) {
            (Some(lower), _) => lower,
            (None, _) if self.root.is_none() => return None,
            (None, Some(path)) => path.leaf().upper().checked_add(1)?,
            (None, None) => self.first,
        };
        IndexRange::new(first, self.last)
    }

    /// Nothing is left.
    fn end(&mut self) {
        self.root = None;
        self.entries = Entries::NONE;
    }

    /// Goes on to the next leaf that has entries up to `last`, if there is one.
    fn advance(&mut self) {
        let Some(root) = self.root else { return };
        while self.entries.is_empty() {
            let (leaf, from) = match &mut self.front {
                None => {
                    let leaf = self.front.insert(LeafPath::to(root, self.first)).leaf();
                    (leaf, leaf.leaf_slot(self.first))
                }
                Some(path) => {
                    if path.leaf().upper() >= self.last || !path.next_leaf() {
                        return;
                    }
                    (path.leaf(), 0)
                }
            };
            self.entries = Entries::from(leaf, from);
            if leaf.upper() > self.last {
                self.entries.keep_to(self.last);
            }
        }
    }

    #[inline(never)]
    fn next_of_next_leaf(&mut self) -> Option<(IndexRange, &'a T)> {
        self.advance();
        self.entries.next()
    }
}

impl<'a, T> Iterator for Iter<'a, T> {
    type Item = (IndexRange, &'a T);

    #[inline(always)]
    fn next(&mut self) -> Option<Self::Item> {
        match self.entries.next() {
            None => self.next_of_next_leaf(),
            entry => entry,
        }
    }

    #[inline]
    fn fold<B, F>(mut self, init: B, mut f: F) -> B
    where
        F: FnMut(B, Self::Item) -> B,
    {
        let mut folded = init;
        loop {
            self.advance();
            if self.entries.is_empty() {
                return folded;
            }
            for entry in self.entries.by_ref() {
                folded = f(folded, entry);
            }
        }
    }
}

impl<T> DoubleEndedIterator for Iter<'_, T> {
    fn next_back(&mut self) -> Option<Self::Item> {
        let (root, left) = (self.root?, self.left()?);
        let back = self.back.get_or_insert_with(|| Back::at(root, left.last()));
        // The first slot that ends at or above the bound may begin above it: where the
        // bound lies in the hole before a leaf's first entry, or before any of a sparse
        // leaf.
        let entry = loop {
            match back.next() {
                Some((range, _)) if range.first() > left.last() => {}
                entry => break entry,
            }
        };
        let Some((range, value)) = entry.filter(|(range, _)| range.last() >= left.first()) else {
            self.end();
            return None;
        };
        match range.first().checked_sub(1) {
            Some(last) => {
                self.last = last;
                self.entries.keep_to(last);
            }
            None => self.end(),
        }
        Some((range, value))
    }
}

impl<T> FusedIterator for Iter<'_, T> {}

impl<T> Clone for Iter<'_, T> {
    fn clone(&self) -> Self {
        Self {
            root: self.root,
            first: self.first,
            last: self.last,
            entries: self.entries.clone(),
            front: self.front.clone(),
            back: self.back.clone(),
        }
    }
}

impl<T> fmt::Debug for Iter<'_, T> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Iter")
            .field("left", &self.left())
            .finish_non_exhaustive()
    }
}

/// An iterator over entries and gaps; see [`MapleTree::segments`].
pub struct Segments<'a, T> {
    entries: Iter<'a, T>,
    /// The indices still to be visited.
    left: Option<IndexRange>,
    /// The entry behind the gap that was yielded last at the front.
    front: Option<(IndexRange, &'a T)>,
    /// The entry before the gap that was yielded last at the back.
    back: Option<(IndexRange, &'a T)>,
}

impl<'a, T> Segments<'a, T> {
    pub(crate) fn over(root: Option<&'a Node<T>>, left: Option<IndexRange>) -> Self {
        Self {
            entries: Iter::over(root, left),
            left,
            front: None,
            back: None,
        }
    }
}

impl<'a, T> Iterator for Segments<'a, T> {
    type Item = Segment<'a, T>;

    fn next(&mut self) -> Option<Self::Item> {
        let left = self.left?;
        let next = self
            .front
            .take()
            .or_else(|| self.entries.next())
            .or_else(|| self.back.take());
        let Some((range, value)) = next else {
            self.left = None;
            return Some(Segment::Gap(left));
        };
        if let Some(gap) = left.below(range.first()) {
            self.front = Some((range, value));
            self.left = left.above(gap.last());
            return Some(Segment::Gap(gap));
        }
        self.left = left.above(range.last());
        Some(Segment::Entry(range, value))
    }
}

impl<T> DoubleEndedIterator for Segments<'_, T> {
    fn next_back(&mut self) -> Option<Self::Item> {
        let left = self.left?;
        let next = self
            .back
            .take()
            .or_else(|| self.entries.next_back())
            .or_else(|| self.front.take());
        let Some((range, value)) = next else {
            self.left = None;
            return Some(Segment::Gap(left));
        };
        if let Some(gap) = left.above(range.last()) {
            self.back = Some((range, value));
            self.left = left.below(gap.first());
            return Some(Segment::Gap(gap));
        }
        self.left = left.below(range.first());
        Some(Segment::Entry(range, value))
    }
}

impl<T> FusedIterator for Segments<'_, T> {}

impl<T> Clone for Segments<'_, T> {
    fn clone(&self) -> Self {
        Self {
            entries: self.entries.clone(),
            left: self.left,
            front: self.front,
            back: self.back,
        }
    }
}

impl<T> fmt::Debug for Segments<'_, T> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Segments")
            .field("left", &self.left)
            .finish_non_exhaustive()
    }
}

/// An iterator over gaps; see [`MapleTree::gaps`].
pub struct Gaps<'a, T> {
    segments: Segments<'a, T>,
}

impl<'a, T> Gaps<'a, T> {
    pub(crate) fn over(root: Option<&'a Node<T>>, left: Option<IndexRange>) -> Self {
        let segments = Segments::over(root, left);
        Self { segments }
    }
}

impl<T> Iterator for Gaps<'_, T> {
    type Item = IndexRange;

    fn next(&mut self) -> Option<IndexRange> {
        self.segments
            .find(|segment| segment.is_gap())
            .map(Segment::range)
    }
}

impl<T> DoubleEndedIterator for Gaps<'_, T> {
    fn next_back(&mut self) -> Option<IndexRange> {
        self.segments
            .rfind(|segment| segment.is_gap())
            .map(Segment::range)
    }
}

impl<T> FusedIterator for Gaps<'_, T> {}

impl<T> Clone for Gaps<'_, T> {
    fn clone(&self) -> Self {
        Self {
            segments: self.segments.clone(),
        }
    }
}

impl<T> fmt::Debug for Gaps<'_, T> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Gaps")
            .field("left", &self.segments.left)
            .finish_non_exhaustive()
    }
}

impl<'a, T: Entry, S: NodeSource> IntoIterator for &'a MapleTree<T, S> {
    type Item = (IndexRange, &'a T);
    type IntoIter = Iter<'a, T>;

    fn into_iter(self) -> Iter<'a, T> {
        self.iter()
    }
}
