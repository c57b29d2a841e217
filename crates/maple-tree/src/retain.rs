//! Keeping some of the entries.

use core::convert::Infallible;

use crate::error::{DuplicateError, OutOfNodes};
use crate::source::NodeSource;
use crate::tree::MapleTree;
use crate::{Entry, IndexRange};

impl<T: Entry + Clone, S: NodeSource + Clone> MapleTree<T, S> {
    /// Removes every entry for which `keep` returns `false`.
    ///
    /// `keep` is called once for each entry, in ascending order. If it refuses none,
    /// the tree is not touched. Otherwise the rest is laid out anew, as full as nodes
    /// get, with clones of the values; the tree is replaced when that is complete.
    /// So a snapshot shares nothing with the tree afterwards, and for a moment there
    /// are two trees.
    ///
    /// To drop a few entries of a large tree, [`erase`](Self::erase) them; for values
    /// that must not be cloned, filter the tree into
    /// [`from_sorted`](MapleTree::from_sorted).
    ///
    /// # Complexity
    ///
    /// O(n); allocates as few nodes as the kept entries fit in.
    ///
    /// # Errors
    ///
    /// [`OutOfNodes`]; the tree is unchanged.
    ///
    /// # Panics
    ///
    /// If `keep` or `T::clone` panics; the tree is then unchanged.
    ///
    /// # Examples
    ///
    /// ```
    /// use maple_tree::{IndexRange, MapleTree};
    ///
    /// let mut tree: MapleTree<u64> = (0..10).map(|i| (IndexRange::single(i), i)).collect();
    /// tree.retain(|range, value| range.first() < 4 || value % 2 == 0)?;
    /// assert!(tree.iter().map(|(_, &value)| value).eq([0, 1, 2, 3, 4, 6, 8]));
    /// # Ok::<(), maple_tree::OutOfNodes>(())
    /// ```
    pub fn retain(
        &mut self,
        mut keep: impl FnMut(IndexRange, &T) -> bool,
    ) -> Result<(), OutOfNodes> {
        let refused = self.iter().find(|&(range, value)| !keep(range, value));
        let Some((refused, _)) = refused else {
            return Ok(());
        };
        // Everything below the first refused entry was asked for, and is kept.
        let rest = self.duplicate_with(|range, value| {
            let keeps = range < refused || (range != refused && keep(range, value));
            Ok::<_, Infallible>(keeps.then(|| value.clone()))
        });
        match rest {
            Ok(rest) => *self = rest,
            Err(DuplicateError::OutOfNodes) => return Err(OutOfNodes),
            Err(DuplicateError::Refused(never)) => match never {},
        }
        Ok(())
    }
}
