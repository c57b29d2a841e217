//! Ids that are handed out in a circle, so that one is not used again soon.

use core::num::NonZeroU64;

use crate::error::AllocateError;
use crate::gap::GapRequest;
use crate::source::NodeSource;
use crate::tree::MapleTree;
use crate::{Entry, IndexRange};

impl<T: Entry, S: NodeSource> MapleTree<T, S> {
    /// Stores `value` at a free id of `ids`, and returns that id: the first one at
    /// or above `*next`, else the lowest one.
    ///
    /// `*next` then names the id after it, and `ids.first()` after `ids.last()`: it
    /// stays within `ids`, and does not overflow where those reach `u64::MAX`. A
    /// `*next` outside of `ids` counts as `ids.first()`. An id below the `*next` of
    /// before the call says that the ids wrapped around.
    ///
    /// # Complexity
    ///
    /// O(log n) where the tree [tracks gaps](Self::tracks_gaps), O(n) where it does
    /// not; allocates at most three nodes a level.
    ///
    /// # Errors
    ///
    /// - [`AllocateErrorKind::NoGap`](crate::AllocateErrorKind::NoGap) if every id is
    ///   taken.
    /// - [`AllocateErrorKind::OutOfNodes`](crate::AllocateErrorKind::OutOfNodes) if a
    ///   node could not be allocated.
    ///
    /// On error the tree and `*next` are unchanged and the value is handed back.
    ///
    /// # Panics
    ///
    /// If `T::clone` panics, which runs where a snapshot shares a leaf. The content
    /// of the tree and `*next` are then unchanged.
    ///
    /// # Examples
    ///
    /// ```
    /// use maple_tree::{IndexRange, MapleTree};
    ///
    /// let mut tree = MapleTree::with_gaps();
    /// let (ids, mut next) = (IndexRange::new(1, 3).unwrap(), 0);
    /// assert_eq!(tree.allocate_cyclic(ids, &mut next, 'a')?, 1);
    /// assert_eq!(tree.allocate_cyclic(ids, &mut next, 'b')?, 2);
    /// tree.erase(1).unwrap();
    /// // 1 is free again, but 3 has not been used yet.
    /// assert_eq!(tree.allocate_cyclic(ids, &mut next, 'c')?, 3);
    /// assert_eq!(tree.allocate_cyclic(ids, &mut next, 'd')?, 1);
    /// assert_eq!(tree.allocate_cyclic(ids, &mut next, 'e').unwrap_err().value, 'e');
    /// # Ok::<(), maple_tree::AllocateError<char>>(())
    /// ```
    #[doc(alias = "mtree_alloc_cyclic")]
    #[doc(alias = "mas_alloc_cyclic")]
    pub fn allocate_cyclic(
        &mut self,
        ids: IndexRange,
        next: &mut u64,
        value: T,
    ) -> Result<u64, AllocateError<T>> {
        let start = if ids.contains(*next) {
            *next
        } else {
            ids.first()
        };
        let one = GapRequest::new(NonZeroU64::MIN);
        let free = [IndexRange::new(start, ids.last()), ids.below(start)]
            .into_iter()
            .flatten()
            .find_map(|window| self.lowest_gap(&one.within(window)));
        let id = self.insert_in_gap(free, value)?.first();
        *next = if id == ids.last() {
            ids.first()
        } else {
            id + 1
        };
        Ok(id)
    }
}
