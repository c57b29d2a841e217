//! Storing so that equal neighbours become one entry.

use crate::error::StoreError;
use crate::source::NodeSource;
use crate::tree::MapleTree;
use crate::{Entry, IndexRange};

impl<T: Entry + Clone + PartialEq, S: NodeSource> MapleTree<T, S> {
    /// As [`store`](Self::store), and makes one entry of it and of the equal entries
    /// that `range` touches or cuts. Returns the range of that entry.
    ///
    /// At most one entry is taken in on each side. Where every store to a tree is of
    /// this kind, no two touching entries of it are equal.
    ///
    /// It is a single write: nobody sees, and no failure leaves, a half of it.
    ///
    /// # Complexity
    ///
    /// O(log n + k) for k overwritten entries; allocates at most three nodes a level.
    ///
    /// # Errors
    ///
    /// [`StoreErrorKind::OutOfNodes`](crate::StoreErrorKind::OutOfNodes); the tree is
    /// unchanged and the value is handed back.
    ///
    /// # Panics
    ///
    /// If comparing or cloning a value panics; the content of the tree is then
    /// unchanged.
    ///
    /// # Examples
    ///
    /// ```
    /// use maple_tree::{IndexRange, MapleTree};
    ///
    /// let mut tree = MapleTree::new();
    /// tree.store_coalescing(IndexRange::new(0, 4).unwrap(), 'a')?;
    /// tree.store_coalescing(IndexRange::new(10, 14).unwrap(), 'a')?;
    /// let whole = tree.store_coalescing(IndexRange::new(5, 9).unwrap(), 'a')?;
    /// assert_eq!((whole, tree.len()), (IndexRange::new(0, 14).unwrap(), 1));
    /// tree.store_coalescing(IndexRange::new(15, 19).unwrap(), 'b')?;
    /// assert_eq!(tree.len(), 2);
    /// # Ok::<(), maple_tree::StoreError<char>>(())
    /// ```
    #[doc(alias = "merge")]
    pub fn store_coalescing(
        &mut self,
        range: IndexRange,
        value: T,
    ) -> Result<IndexRange, StoreError<T>> {
        // The index beside `range` may belong to an entry that reaches into it.
        let equal = |beside: Option<u64>| {
            let (entry, _) = self.entry(beside?).filter(|(_, found)| **found == value)?;
            Some(entry)
        };
        let below = equal(range.first().checked_sub(1));
        let above = equal(range.last().checked_add(1));
        let first = below.map_or(range.first(), IndexRange::first);
        let last = above.map_or(range.last(), IndexRange::last);
        let whole = IndexRange::new(first, last).unwrap_or(range);
        self.store(whole, value)?;
        Ok(whole)
    }
}
