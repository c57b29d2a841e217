//! Cutting a tree in two, and putting two together.

use crate::error::{AppendError, OutOfNodes};
use crate::source::NodeSource;
use crate::tree::MapleTree;
use crate::{Entry, IndexRange};

impl<T: Entry + Clone, S: NodeSource + Clone> MapleTree<T, S> {
    /// Moves everything at and above `index` into a tree of its own, and returns it.
    ///
    /// An entry that reaches across is cut: both trees hold its value. The new tree
    /// tracks gaps if this one does.
    ///
    /// # Complexity
    ///
    /// O(n) to count the entries, which touches no node twice; otherwise O(log n):
    /// the two trees share no node, but only those along the cut are copied, and
    /// their entries cloned. Allocates at most six nodes a level.
    ///
    /// # Errors
    ///
    /// [`OutOfNodes`]; the content of the tree is unchanged.
    ///
    /// # Panics
    ///
    /// If `T::clone` panics; the content of the tree is then unchanged.
    ///
    /// # Examples
    ///
    /// ```
    /// use maple_tree::{IndexRange, MapleTree};
    ///
    /// let mut low = MapleTree::new();
    /// low.insert(IndexRange::new(0, 9).unwrap(), 'a').unwrap();
    /// low.insert(IndexRange::new(20, 29).unwrap(), 'b').unwrap();
    /// let high = low.split_at(5)?;
    /// assert_eq!(low.last(), Some((IndexRange::new(0, 4).unwrap(), &'a')));
    /// assert_eq!(high.first(), Some((IndexRange::new(5, 9).unwrap(), &'a')));
    /// assert_eq!((low.len(), high.len()), (1, 2));
    /// # Ok::<(), maple_tree::OutOfNodes>(())
    /// ```
    #[doc(alias = "split_off")]
    pub fn split_at(&mut self, index: u64) -> Result<Self, OutOfNodes> {
        let mut upper = self.snapshot();
        let Some(below) = IndexRange::FULL.below(index) else {
            self.clear();
            return Ok(upper);
        };
        // Each side gives up the other's part: of a shared subtree that is one count.
        upper.remove(below)?;
        if let Some(above) = IndexRange::FULL.above(below.last()) {
            self.remove(above)?;
        }
        Ok(upper)
    }

    /// Moves all entries of `other`, which lie above those of this tree, to its end,
    /// and leaves `other` empty.
    ///
    /// The values are cloned, and those of `other` dropped at the end: so a failure
    /// can leave both trees alone. A tree that was empty is packed as by
    /// [`bulk_load`](Self::bulk_load).
    ///
    /// # Complexity
    ///
    /// O(m log n) for m entries of `other`; O(m) if this tree is empty.
    ///
    /// # Errors
    ///
    /// - [`AppendError::NotAbove`] if an entry of `other` does not lie above all of
    ///   this tree.
    /// - [`AppendError::OutOfNodes`] if a node could not be allocated.
    ///
    /// The content of both trees is unchanged then.
    ///
    /// # Panics
    ///
    /// If `T::clone` panics; the content of both trees is then unchanged.
    ///
    /// # Examples
    ///
    /// ```
    /// use maple_tree::{AppendError, IndexRange, MapleTree};
    ///
    /// let mut low: MapleTree<u64> = (0..5).map(|i| (IndexRange::single(i), i)).collect();
    /// let mut high: MapleTree<u64> = (5..9).map(|i| (IndexRange::single(i), i)).collect();
    /// assert_eq!(high.append(&mut low), Err(AppendError::NotAbove));
    /// low.append(&mut high)?;
    /// assert_eq!((low.len(), high.len()), (9, 0));
    /// # Ok::<(), AppendError>(())
    /// ```
    pub fn append<R: NodeSource>(
        &mut self,
        other: &mut MapleTree<T, R>,
    ) -> Result<(), AppendError> {
        let Some((lowest, _)) = other.first() else {
            return Ok(());
        };
        match self.last() {
            Some((highest, _)) if highest.last() >= lowest.first() => {
                return Err(AppendError::NotAbove);
            }
            Some(_) => self.insert_all(other)?,
            None => self.load_all(other)?,
        }
        other.clear();
        Ok(())
    }

    /// Inserts clones of the entries of `other`; all, or none.
    fn insert_all<R: NodeSource>(&mut self, other: &MapleTree<T, R>) -> Result<(), OutOfNodes> {
        let before = self.snapshot();
        let mut undo = Undo {
            tree: self,
            before: Some(before),
        };
        for (range, value) in other {
            let inserted = undo.tree.insert(range, value.clone());
            // Not `Occupied`: all of `range` lies above the last entry.
            inserted.map_err(|_| OutOfNodes)?;
        }
        undo.before = None;
        Ok(())
    }

    /// Fills the tree, which is empty, with clones of the entries of `other`.
    fn load_all<R: NodeSource>(&mut self, other: &MapleTree<T, R>) -> Result<(), OutOfNodes> {
        let entries = other.iter().map(|(range, value)| (range, value.clone()));
        // The tree is empty, and a tree's entries are sorted: only memory is left.
        self.bulk_load(entries).map_err(|_| OutOfNodes)
    }
}

/// Puts a tree back as it was, unless `before` is taken away in time.
struct Undo<'t, T: Entry, S: NodeSource> {
    tree: &'t mut MapleTree<T, S>,
    before: Option<MapleTree<T, S>>,
}

impl<T: Entry, S: NodeSource> Drop for Undo<'_, T, S> {
    fn drop(&mut self) {
        if let Some(before) = self.before.take() {
            *self.tree = before;
        }
    }
}
