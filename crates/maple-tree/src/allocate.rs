//! Storing where there is room: an area in the lowest or highest gap that takes it.

use crate::error::{AllocateError, AllocateErrorKind};
use crate::gap::GapRequest;
use crate::source::NodeSource;
use crate::tree::MapleTree;
use crate::{Entry, IndexRange};

impl<T: Entry, S: NodeSource> MapleTree<T, S> {
    /// Stores `value` at the lowest place where `request` fits, and returns that
    /// place.
    ///
    /// It is [`lowest_gap`](Self::lowest_gap), then [`insert`](Self::insert).
    ///
    /// # Complexity
    ///
    /// As [`lowest_gap`](Self::lowest_gap) and then O(log n); allocates at most
    /// three nodes a level.
    ///
    /// # Errors
    ///
    /// - [`AllocateErrorKind::NoGap`] if the request fits nowhere.
    /// - [`AllocateErrorKind::OutOfNodes`] if a node could not be allocated.
    ///
    /// On error the tree is unchanged and the value is handed back.
    ///
    /// # Panics
    ///
    /// If `T::clone` panics, which runs where a snapshot shares a leaf. The content
    /// of the tree is then unchanged.
    ///
    /// # Examples
    ///
    /// ```
    /// use core::num::NonZeroU64;
    /// use maple_tree::{AllocateErrorKind, GapRequest, IndexRange, MapleTree};
    ///
    /// let mut tree = MapleTree::with_gaps();
    /// let page = GapRequest::new(NonZeroU64::new(0x1000).unwrap())
    ///     .within(IndexRange::new(0x1000, 0x2fff).unwrap());
    /// assert_eq!(tree.allocate_lowest(&page, 'a')?.first(), 0x1000);
    /// assert_eq!(tree.allocate_lowest(&page, 'b')?.first(), 0x2000);
    /// let refused = tree.allocate_lowest(&page, 'c').unwrap_err();
    /// assert_eq!((refused.kind, refused.value), (AllocateErrorKind::NoGap, 'c'));
    /// # Ok::<(), maple_tree::AllocateError<char>>(())
    /// ```
    #[doc(alias = "mtree_alloc_range")]
    #[doc(alias = "allocate_range")]
    pub fn allocate_lowest(
        &mut self,
        request: &GapRequest,
        value: T,
    ) -> Result<IndexRange, AllocateError<T>> {
        self.insert_in_gap(self.lowest_gap(request), value)
    }

    /// Stores `value` at the highest place where `request` fits, and returns that
    /// place.
    ///
    /// It is [`highest_gap`](Self::highest_gap), then [`insert`](Self::insert).
    ///
    /// # Complexity
    ///
    /// As [`highest_gap`](Self::highest_gap) and then O(log n); allocates at most
    /// three nodes a level.
    ///
    /// # Errors
    ///
    /// - [`AllocateErrorKind::NoGap`] if the request fits nowhere.
    /// - [`AllocateErrorKind::OutOfNodes`] if a node could not be allocated.
    ///
    /// On error the tree is unchanged and the value is handed back.
    ///
    /// # Panics
    ///
    /// If `T::clone` panics, which runs where a snapshot shares a leaf. The content
    /// of the tree is then unchanged.
    ///
    /// # Examples
    ///
    /// ```
    /// use core::num::NonZeroU64;
    /// use maple_tree::{Alignment, GapRequest, IndexRange, MapleTree};
    ///
    /// let mut tree = MapleTree::with_gaps();
    /// let request = GapRequest::new(NonZeroU64::new(3).unwrap())
    ///     .within(IndexRange::new(0, 99).unwrap())
    ///     .aligned(Alignment::new(16).unwrap());
    /// assert_eq!(tree.allocate_highest(&request, 'a')?, IndexRange::new(96, 98).unwrap());
    /// assert_eq!(tree.allocate_highest(&request, 'b')?, IndexRange::new(80, 82).unwrap());
    /// # Ok::<(), maple_tree::AllocateError<char>>(())
    /// ```
    #[doc(alias = "mtree_alloc_rrange")]
    #[doc(alias = "allocate_range")]
    pub fn allocate_highest(
        &mut self,
        request: &GapRequest,
        value: T,
    ) -> Result<IndexRange, AllocateError<T>> {
        self.insert_in_gap(self.highest_gap(request), value)
    }

    /// Stores `value` at `place`, which a gap search found.
    pub(crate) fn insert_in_gap(
        &mut self,
        place: Option<IndexRange>,
        value: T,
    ) -> Result<IndexRange, AllocateError<T>> {
        let Some(place) = place else {
            let kind = AllocateErrorKind::NoGap;
            return Err(AllocateError { kind, value });
        };
        match self.insert(place, value) {
            Ok(()) => Ok(place),
            // Not `Occupied`: the search just found the place vacant.
            Err(error) => Err(AllocateError {
                kind: AllocateErrorKind::OutOfNodes,
                value: error.value,
            }),
        }
    }
}
