//! Filling a tree from entries in ascending order, each node once and full.

use crate::build::Builder;
use crate::error::SortedError;
use crate::source::NodeSource;
use crate::tree::MapleTree;
use crate::{Entry, IndexRange};

impl<T: Entry> MapleTree<T> {
    /// Makes a tree, without gap tracking, of entries in ascending order that do
    /// not overlap.
    ///
    /// Each node is written once and filled as full as it gets. To fill a tree that
    /// tracks gaps, or one with nodes of its own, see
    /// [`bulk_load`](Self::bulk_load).
    ///
    /// # Complexity
    ///
    /// O(n); allocates as few nodes as the entries fit in.
    ///
    /// # Errors
    ///
    /// - [`SortedError::Unsorted`] if an item begins at or below the end of the one
    ///   before; it says which.
    /// - [`SortedError::OutOfNodes`] if a node could not be allocated.
    ///
    /// Nothing is left of the tree: the items taken so far are dropped.
    ///
    /// # Examples
    ///
    /// ```
    /// use maple_tree::{IndexRange, MapleTree, SortedError};
    ///
    /// let squares = (0..1000).map(|i| (IndexRange::single(i * i), i));
    /// let tree = MapleTree::from_sorted(squares)?;
    /// assert_eq!((tree.len(), tree.get(81), tree.get(82)), (1000, Some(&9), None));
    ///
    /// // A tree of what `retain` would leave of another, without cloning the values.
    /// let even = MapleTree::from_sorted(tree.into_iter().filter(|(_, value)| value % 2 == 0))?;
    /// assert_eq!(even.len(), 500);
    /// # Ok::<(), SortedError>(())
    /// ```
    #[doc(alias = "mas_expected_entries")]
    pub fn from_sorted(
        items: impl IntoIterator<Item = (IndexRange, T)>,
    ) -> Result<Self, SortedError> {
        let mut tree = Self::new();
        tree.bulk_load(items)?;
        Ok(tree)
    }
}

impl<T: Entry, S: NodeSource> MapleTree<T, S> {
    /// Fills the tree, which must be empty, with entries in ascending order that do
    /// not overlap.
    ///
    /// Each node is written once and filled as full as it gets.
    ///
    /// # Complexity
    ///
    /// O(n); allocates as few nodes as the entries fit in.
    ///
    /// # Errors
    ///
    /// - [`SortedError::NotEmpty`] if the tree holds an entry; it stays as it is,
    ///   and no item is taken.
    /// - [`SortedError::Unsorted`] if an item begins at or below the end of the one
    ///   before; it says which.
    /// - [`SortedError::OutOfNodes`] if a node could not be allocated.
    ///
    /// After the last two, and if `items` panics, the tree is empty: the items taken
    /// so far are dropped.
    ///
    /// # Examples
    ///
    /// ```
    /// use maple_tree::{IndexRange, MapleTree, SortedError};
    ///
    /// let mut tree = MapleTree::with_gaps();
    /// tree.bulk_load((0..1000_u64).map(|i| (IndexRange::single(2 * i), i)))?;
    /// assert_eq!(tree.get(1998), Some(&999));
    ///
    /// let backwards = [7, 3].map(|index| (IndexRange::single(index), 'x'));
    /// let refused = MapleTree::with_gaps().bulk_load(backwards).unwrap_err();
    /// assert!(matches!(refused, SortedError::Unsorted { position: 1, .. }));
    /// # Ok::<(), SortedError>(())
    /// ```
    #[doc(alias = "mas_expected_entries")]
    pub fn bulk_load(
        &mut self,
        items: impl IntoIterator<Item = (IndexRange, T)>,
    ) -> Result<(), SortedError> {
        if !self.is_empty() {
            return Err(SortedError::NotEmpty);
        }
        // Dropped unfinished, the builder leaves the tree empty.
        let mut builder = Builder::new(self);
        let mut previous: Option<IndexRange> = None;
        for (position, (range, value)) in items.into_iter().enumerate() {
            if let Some(previous) = previous.filter(|it| it.last() >= range.first()) {
                return Err(SortedError::Unsorted {
                    position,
                    range,
                    previous,
                });
            }
            builder.push(range, value)?;
            previous = Some(range);
        }
        builder.finish();
        Ok(())
    }
}
