//! Changing many values in place.

use core::ops::RangeBounds;

use crate::error::OutOfNodes;
use crate::source::NodeSource;
use crate::tree::MapleTree;
use crate::{Entry, IndexRange};

impl<T: Entry, S: NodeSource> MapleTree<T, S> {
    /// Calls `visit` with every entry that overlaps `bounds`, in ascending order, to
    /// change its value in place.
    ///
    /// Each comes with its own bounds, which may reach out of `bounds`; the value is
    /// that of the whole entry. A snapshot does not see the change: nodes shared with
    /// one are copied first, all of them before the first call.
    ///
    /// There is no `range_mut` that returns an iterator. Where a snapshot shares a leaf
    /// the leaf is copied first, which takes memory and runs `T::clone`: each step could
    /// fail, with the values before it changed already; and the references handed out so
    /// far would have to stay valid while the nodes above them are replaced. To step by
    /// hand, use [`cursor_mut`](Self::cursor_mut) and its `value_mut`, one at a time.
    ///
    /// # Complexity
    ///
    /// O(k) for k visited entries, and O(log n) for each leaf they are in; allocates one
    /// node for each that is shared.
    ///
    /// # Errors
    ///
    /// [`OutOfNodes`] if a shared node could not be copied; `visit` was not called
    /// and the content of the tree is unchanged.
    ///
    /// # Panics
    ///
    /// If `T::clone` panics, which runs where a snapshot shares a leaf; `visit` was
    /// not called then. If `visit` panics, what it changed stays changed.
    ///
    /// # Examples
    ///
    /// ```
    /// use maple_tree::{IndexRange, MapleTree};
    ///
    /// let mut tree: MapleTree<u64> = (0..5).map(|i| (IndexRange::single(i * 10), i)).collect();
    /// tree.for_each_mut(10..40, |range, value| *value += range.first())?;
    /// assert!(tree.iter().map(|(_, &value)| value).eq([0, 11, 22, 33, 4]));
    /// # Ok::<(), maple_tree::OutOfNodes>(())
    /// ```
    #[doc(alias = "range_mut")]
    #[doc(alias = "iter_mut")]
    #[doc(alias = "values_mut")]
    pub fn for_each_mut(
        &mut self,
        bounds: impl RangeBounds<u64>,
        visit: impl FnMut(IndexRange, &mut T),
    ) -> Result<(), OutOfNodes> {
        let Some(bounds) = IndexRange::from_bounds(bounds) else {
            return Ok(());
        };
        // The first time makes every node on the way this tree's own; nothing shares
        // one with it meanwhile, so the second time does not fail.
        self.visit_mut(bounds, |_, _| {})?;
        self.visit_mut(bounds, visit)
    }

    fn visit_mut(
        &mut self,
        bounds: IndexRange,
        mut visit: impl FnMut(IndexRange, &mut T),
    ) -> Result<(), OutOfNodes> {
        let mut left = Some(bounds);
        while let Some((found, _)) = left.and_then(|left| self.range(left).next()) {
            let leaf = self.unshared_leaf(found.first())?;
            let mut last = found.last();
            for slot in leaf.leaf_slot(found.first())..leaf.count() {
                let range = leaf.slot_range(slot);
                if range.first() > bounds.last() {
                    break;
                }
                last = range.last();
                if let Some(value) = leaf.entry_mut(slot) {
                    visit(range, value);
                }
            }
            left = bounds.above(last);
        }
        Ok(())
    }
}
