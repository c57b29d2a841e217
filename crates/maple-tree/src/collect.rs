//! Making trees of iterators, and iterators of trees.

use core::fmt;
use core::iter::FusedIterator;

use crate::node::{Path, Steps};
use crate::source::{HeapNodes, NodeSource};
use crate::tree::MapleTree;
use crate::{Entry, IndexRange, StoreError};

impl<T: Entry + Clone, S: NodeSource> MapleTree<T, S> {
    /// Stores every item in turn; a later one overwrites an earlier one.
    ///
    /// # Complexity
    ///
    /// O(log n) an item.
    ///
    /// # Errors
    ///
    /// [`StoreErrorKind::OutOfNodes`](crate::StoreErrorKind::OutOfNodes) with
    /// the value that could not be stored; those before it are stored.
    ///
    /// # Examples
    ///
    /// ```
    /// use maple_tree::{IndexRange, MapleTree};
    ///
    /// let mut tree = MapleTree::with_gaps();
    /// tree.try_extend((0..5).map(|i| (IndexRange::single(i * 10), i)))?;
    /// assert_eq!(tree.len(), 5);
    /// # Ok::<(), maple_tree::StoreError<u64>>(())
    /// ```
    pub fn try_extend(
        &mut self,
        items: impl IntoIterator<Item = (IndexRange, T)>,
    ) -> Result<(), StoreError<T>> {
        items
            .into_iter()
            .try_for_each(|(range, value)| self.store(range, value))
    }
}

/// Stores every item in turn; a later one overwrites an earlier one.
///
/// # Panics
///
/// If a node cannot be allocated: this trait has no other way to say so.
/// [`MapleTree::try_extend`] has.
impl<T: Entry + Clone, S: NodeSource> Extend<(IndexRange, T)> for MapleTree<T, S> {
    fn extend<I: IntoIterator<Item = (IndexRange, T)>>(&mut self, items: I) {
        if let Err(error) = self.try_extend(items) {
            panic!("{error}");
        }
    }
}

/// Collects into a tree without gap tracking; a later item overwrites an earlier one.
///
/// # Panics
///
/// If a node cannot be allocated: this trait has no other way to say so.
/// [`MapleTree::try_extend`] has.
impl<T: Entry + Clone> FromIterator<(IndexRange, T)> for MapleTree<T> {
    fn from_iter<I: IntoIterator<Item = (IndexRange, T)>>(items: I) -> Self {
        let mut tree = Self::new();
        tree.extend(items);
        tree
    }
}

impl<T: Entry + Clone, S: NodeSource + Clone> Clone for MapleTree<T, S> {
    /// A [snapshot](MapleTree::snapshot): O(1), and copied on write.
    fn clone(&self) -> Self {
        self.snapshot()
    }
}

impl<T: Entry + PartialEq, S: NodeSource, R: NodeSource> PartialEq<MapleTree<T, R>>
    for MapleTree<T, S>
{
    /// Whether both trees have the same entries over the same ranges. O(n).
    fn eq(&self, other: &MapleTree<T, R>) -> bool {
        self.len() == other.len() && self.iter().eq(other.iter())
    }
}

impl<T: Entry + Eq, S: NodeSource> Eq for MapleTree<T, S> {}

impl<T: Entry, S: NodeSource> IntoIterator for MapleTree<T, S> {
    type Item = (IndexRange, T);
    type IntoIter = IntoIter<T, S>;

    /// Iterates over the entries by value. Those that a snapshot shares are cloned.
    fn into_iter(self) -> IntoIter<T, S> {
        IntoIter {
            left: Some(IndexRange::FULL),
            tree: self,
        }
    }
}

/// An iterator over the entries of a tree, by value.
///
/// # Complexity
///
/// O(log n) a step.
pub struct IntoIter<T: Entry, S: NodeSource = HeapNodes> {
    tree: MapleTree<T, S>,
    /// The indices still to be visited. Entries outside have been taken.
    left: Option<IndexRange>,
}

impl<T: Entry, S: NodeSource> IntoIter<T, S> {
    fn take(&mut self, range: IndexRange) -> Option<(IndexRange, T)> {
        // INVARIANT: T1, T4 and T5 are suspended: the tree is not written to any more.
        let mut steps = Steps::new();
        let mut path = Path::to(&mut self.tree.root, &mut steps, range.first())?;
        // It is passed over even if cloning it panics.
        self.tree.len -= 1;
        let (depth, slot) = (path.depth, path.leaf().leaf_slot(range.first()));
        let value = if path.is_alone(depth) {
            path.node_mut(depth).take_entry(slot)
        } else {
            let clone = self.tree.clone_fn.get();
            path.leaf()
                .entry(slot)
                .zip(clone)
                .map(|(value, clone)| clone(value))
        }?;
        Some((range, value))
    }
}

impl<T: Entry, S: NodeSource> Iterator for IntoIter<T, S> {
    type Item = (IndexRange, T);

    fn next(&mut self) -> Option<Self::Item> {
        let (range, _) = self.tree.range(self.left?).next()?;
        self.left = self.left?.above(range.last());
        self.take(range)
    }

    fn size_hint(&self) -> (usize, Option<usize>) {
        (self.tree.len, Some(self.tree.len))
    }
}

impl<T: Entry, S: NodeSource> DoubleEndedIterator for IntoIter<T, S> {
    fn next_back(&mut self) -> Option<Self::Item> {
        let (range, _) = self.tree.range(self.left?).next_back()?;
        self.left = self.left?.below(range.first());
        self.take(range)
    }
}

impl<T: Entry, S: NodeSource> ExactSizeIterator for IntoIter<T, S> {}

impl<T: Entry, S: NodeSource> FusedIterator for IntoIter<T, S> {}

impl<T: Entry, S: NodeSource> fmt::Debug for IntoIter<T, S> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("IntoIter")
            .field("left", &self.left)
            .finish_non_exhaustive()
    }
}
