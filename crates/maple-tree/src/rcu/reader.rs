//! [`Reader`]: looking at a tree that is being written to.

use core::fmt;
use core::ops::RangeBounds;
use core::sync::atomic::{AtomicPtr, Ordering};

use super::Rcu;
use crate::node::Node;
use crate::view::View;
use crate::{Cursor, Gaps, IndexRange, Iter, Segment, Segments, sync};

/// A reader of an [`RcuMapleTree`](super::RcuMapleTree), which says what it sees, or of a
/// [`Published`](super::Published) tree.
///
/// What it returns is valid for as long as the reader. Each call begins at the root of
/// its moment, so one reader can be used for long and sees what is written meanwhile;
/// but it holds back the memory of all that is cut out until it is dropped. A thread
/// that looks now and then makes one each time.
///
/// The same thread may write while it reads. It must not wait
/// ([`barrier`](super::RcuMapleTree::barrier)), which would be for itself.
///
/// There is no search for gaps: it needs what the writer keeps beside the children. Do
/// that through a [`Writer`](super::Writer), or in a
/// [`snapshot`](super::RcuMapleTree::snapshot).
pub struct Reader<'t, T, R: Rcu + 't> {
    root: &'t AtomicPtr<Node<T>>,
    _guard: R::Guard<'t>,
}

impl<'t, T, R: Rcu> Reader<'t, T, R> {
    #[inline]
    pub(super) fn new(root: &'t AtomicPtr<Node<T>>, guard: R::Guard<'t>) -> Self {
        Self {
            root,
            _guard: guard,
        }
    }

    #[inline]
    fn view(&self) -> View<'_, T> {
        // ORDERING: `Acquire` pairs with the `Release` in `Root::replace`.
        let root = sync::load(self.root, Ordering::Acquire);
        // SAFETY: null, or a node of the tree, which is freed only after the guard is
        // gone; the view does not outlive `self`.
        View::below(unsafe { root.as_ref() })
    }

    /// Returns whether the tree holds no entry. O(1).
    #[must_use]
    pub fn is_empty(&self) -> bool {
        // ORDERING: `Relaxed`: nothing is looked at.
        self.root.load(Ordering::Relaxed).is_null()
    }

    /// As [`MapleTree::get`](crate::MapleTree::get).
    ///
    /// # Examples
    ///
    /// ```
    /// use maple_tree::{IndexRange, SyncMapleTree};
    ///
    /// let tree = SyncMapleTree::<u64>::default();
    /// tree.write().insert(IndexRange::new(10, 19).unwrap(), 7)?;
    /// let reader = tree.read();
    /// assert_eq!(reader.get(12), Some(&7));
    /// assert!(reader.find(20).is_gap());
    /// assert_eq!(reader.entry(12), reader.first());
    /// assert_eq!(reader.at_or_after(0), reader.at_or_before(u64::MAX));
    /// # Ok::<(), maple_tree::StoreError<u64>>(())
    /// ```
    #[inline]
    #[must_use]
    #[doc(alias = "mtree_load")]
    pub fn get(&self, index: u64) -> Option<&T> {
        self.view().get(index)
    }

    /// As [`MapleTree::find`](crate::MapleTree::find).
    #[inline]
    #[must_use]
    #[doc(alias = "mas_walk")]
    pub fn find(&self, index: u64) -> Segment<'_, T> {
        self.view().find(index)
    }

    /// As [`MapleTree::entry`](crate::MapleTree::entry).
    #[inline]
    #[must_use]
    pub fn entry(&self, index: u64) -> Option<(IndexRange, &T)> {
        self.view().entry(index)
    }

    /// As [`MapleTree::first`](crate::MapleTree::first).
    #[must_use]
    pub fn first(&self) -> Option<(IndexRange, &T)> {
        self.view().at_or_after(0)
    }

    /// As [`MapleTree::last`](crate::MapleTree::last).
    #[must_use]
    pub fn last(&self) -> Option<(IndexRange, &T)> {
        self.view().at_or_before(u64::MAX)
    }

    /// As [`MapleTree::at_or_after`](crate::MapleTree::at_or_after).
    #[must_use]
    #[doc(alias = "mt_find")]
    pub fn at_or_after(&self, index: u64) -> Option<(IndexRange, &T)> {
        self.view().at_or_after(index)
    }

    /// As [`MapleTree::at_or_before`](crate::MapleTree::at_or_before).
    #[must_use]
    pub fn at_or_before(&self, index: u64) -> Option<(IndexRange, &T)> {
        self.view().at_or_before(index)
    }

    /// As [`MapleTree::after`](crate::MapleTree::after).
    #[must_use]
    #[doc(alias = "mt_next")]
    pub fn after(&self, index: u64) -> Option<(IndexRange, &T)> {
        self.view().after(index)
    }

    /// As [`MapleTree::before`](crate::MapleTree::before).
    #[must_use]
    #[doc(alias = "mt_prev")]
    pub fn before(&self, index: u64) -> Option<(IndexRange, &T)> {
        self.view().before(index)
    }

    /// As [`MapleTree::iter`](crate::MapleTree::iter).
    ///
    /// # Examples
    ///
    /// ```
    /// use maple_tree::{IndexRange, SyncMapleTree};
    ///
    /// let tree = SyncMapleTree::<u64>::default();
    /// tree.write().insert(IndexRange::new(10, 19).unwrap(), 7)?;
    /// let reader = tree.read();
    /// assert_eq!(reader.iter().rev().count(), 1);
    /// assert_eq!(reader.range(20..).count(), 0);
    /// assert_eq!(reader.gaps(..).count(), 2);
    /// assert_eq!(reader.segments(..).count(), 3);
    /// assert_eq!(reader.cursor(0).next_entry().unwrap().1, &7);
    /// # Ok::<(), maple_tree::StoreError<u64>>(())
    /// ```
    #[must_use]
    #[doc(alias = "mt_for_each")]
    pub fn iter(&self) -> Iter<'_, T> {
        self.view().range(Some(IndexRange::FULL))
    }

    /// As [`MapleTree::range`](crate::MapleTree::range).
    #[must_use]
    pub fn range(&self, bounds: impl RangeBounds<u64>) -> Iter<'_, T> {
        self.view().range(IndexRange::from_bounds(bounds))
    }

    /// As [`MapleTree::gaps`](crate::MapleTree::gaps).
    #[must_use]
    pub fn gaps(&self, bounds: impl RangeBounds<u64>) -> Gaps<'_, T> {
        self.view().gaps(IndexRange::from_bounds(bounds))
    }

    /// As [`MapleTree::segments`](crate::MapleTree::segments).
    #[must_use]
    pub fn segments(&self, bounds: impl RangeBounds<u64>) -> Segments<'_, T> {
        self.view().segments(IndexRange::from_bounds(bounds))
    }

    /// As [`MapleTree::cursor`](crate::MapleTree::cursor).
    #[must_use]
    pub fn cursor(&self, index: u64) -> Cursor<'_, T> {
        self.view().cursor(index)
    }
}

impl<T: fmt::Debug, R: Rcu> fmt::Debug for Reader<'_, T, R> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_map().entries(self.iter()).finish()
    }
}
