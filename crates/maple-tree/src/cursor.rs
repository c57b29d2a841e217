//! Cursors: a place in the tree that steps, and writes where it stands.

use core::fmt;

use crate::error::{OutOfNodes, StoreError};
use crate::node::Node;
use crate::source::{HeapNodes, NodeSource};
use crate::tree::{MapleTree, Segment};
use crate::walk::LeafPath;
use crate::{Entry, IndexRange};

impl<T: Entry, S: NodeSource> MapleTree<T, S> {
    /// Returns a cursor that stands on the entry or gap around `index`.
    ///
    /// # Complexity
    ///
    /// O(log n).
    ///
    /// # Examples
    ///
    /// ```
    /// use maple_tree::{IndexRange, MapleTree, Segment};
    ///
    /// let mut tree = MapleTree::new();
    /// tree.insert(IndexRange::new(10, 19).unwrap(), 'x')?;
    /// let mut cursor = tree.cursor(0);
    /// assert!(cursor.segment().is_gap());
    /// assert_eq!(cursor.next(), Some(Segment::Entry(IndexRange::new(10, 19).unwrap(), &'x')));
    /// assert_eq!(cursor.next_entry(), None);
    /// # Ok::<(), maple_tree::StoreError<char>>(())
    /// ```
    #[must_use]
    #[doc(alias = "MA_STATE")]
    #[doc(alias = "mas_init")]
    pub fn cursor(&self, index: u64) -> Cursor<'_, T> {
        self.view().cursor(index)
    }

    /// Returns a cursor that stands on the entry or gap around `index`, and can
    /// write.
    ///
    /// # Complexity
    ///
    /// O(log n).
    ///
    /// # Examples
    ///
    /// ```
    /// use maple_tree::{IndexRange, MapleTree};
    ///
    /// let mut tree: MapleTree<u64> = (0..10).map(|i| (IndexRange::single(i * 10), i)).collect();
    /// let mut cursor = tree.cursor_mut(0);
    /// // Drop every entry with an odd value.
    /// loop {
    ///     if cursor.segment().entry().is_some_and(|value| value % 2 == 1) {
    ///         cursor.erase()?;
    ///     }
    ///     if cursor.next_entry().is_none() {
    ///         break;
    ///     }
    /// }
    /// assert_eq!(tree.len(), 5);
    /// # Ok::<(), maple_tree::OutOfNodes>(())
    /// ```
    #[must_use]
    #[doc(alias = "MA_STATE")]
    #[doc(alias = "mas_init")]
    pub fn cursor_mut(&mut self, index: u64) -> CursorMut<'_, T, S> {
        let range = self.find(index).range();
        CursorMut { tree: self, range }
    }
}

/// A place in a tree; see [`MapleTree::cursor`].
///
/// It always stands on an entry or a gap. A step that finds nothing leaves it
/// where it is. Steps are O(1) on average.
///
/// It is for going back and forth, and for looking at gaps and entries alike; to go
/// one way over entries an iterator is quicker.
pub struct Cursor<'a, T> {
    /// The way to the leaf that `segment` belongs to; `None` in an empty tree.
    path: Option<LeafPath<'a, T>>,
    segment: Segment<'a, T>,
}

impl<'a, T> Cursor<'a, T> {
    pub(crate) fn at(root: Option<&'a Node<T>>, index: u64) -> Self {
        let path = root.map(|root| LeafPath::to(root, index));
        let mut cursor = Cursor {
            path,
            segment: Segment::Gap(IndexRange::FULL),
        };
        cursor.settle(index);
        cursor
    }

    fn settle(&mut self, index: u64) {
        if let Some(path) = &self.path {
            self.segment = path.segment(index);
        }
    }

    /// Returns the entry or gap that the cursor stands on.
    ///
    /// # Complexity
    ///
    /// O(1).
    ///
    /// # Examples
    ///
    /// ```
    /// use maple_tree::{IndexRange, MapleTree};
    ///
    /// let tree: MapleTree<u64> = (0..3).map(|i| (IndexRange::single(i * 10), i)).collect();
    /// assert_eq!(tree.cursor(10).segment().entry(), Some(&1));
    /// assert!(tree.cursor(11).segment().is_gap());
    /// ```
    #[must_use]
    #[doc(alias = "mas_walk")]
    pub fn segment(&self) -> Segment<'a, T> {
        self.segment
    }

    /// Returns the bounds of what the cursor stands on, inclusive.
    ///
    /// # Complexity
    ///
    /// O(1).
    ///
    /// # Examples
    ///
    /// ```
    /// use maple_tree::{IndexRange, MapleTree};
    ///
    /// let tree: MapleTree<u64> = (0..3).map(|i| (IndexRange::single(i * 10), i)).collect();
    /// assert_eq!(tree.cursor(10).range(), IndexRange::single(10));
    /// assert_eq!(tree.cursor(15).range(), IndexRange::new(11, 19).unwrap());
    /// ```
    #[must_use]
    pub fn range(&self) -> IndexRange {
        self.segment.range()
    }

    /// Steps to the next entry or gap, and returns it.
    ///
    /// At the last one, it returns `None` and the cursor stays where it is.
    ///
    /// # Complexity
    ///
    /// O(1) on average, O(log n) at worst.
    ///
    /// # Examples
    ///
    /// ```
    /// use maple_tree::{IndexRange, MapleTree};
    ///
    /// let tree: MapleTree<u64> = (0..3).map(|i| (IndexRange::single(i * 10), i)).collect();
    /// let mut cursor = tree.cursor(20);
    /// assert!(cursor.next().unwrap().is_gap());
    /// assert_eq!(cursor.next(), None); // that gap reaches the highest index
    /// assert_eq!(cursor.range().first(), 21);
    /// ```
    #[expect(clippy::should_implement_trait, reason = "a cursor also steps back")]
    #[doc(alias = "mas_next_range")]
    pub fn next(&mut self) -> Option<Segment<'a, T>> {
        let index = self.range().last().checked_add(1)?;
        let path = self.path.as_mut()?;
        if index > path.leaf().upper() {
            path.next_leaf();
        }
        self.settle(index);
        Some(self.segment)
    }

    /// Steps to the entry or gap before, and returns it.
    ///
    /// At the first one, it returns `None` and the cursor stays where it is.
    ///
    /// # Complexity
    ///
    /// O(1) on average, O(log n) at worst.
    ///
    /// # Examples
    ///
    /// ```
    /// use maple_tree::{IndexRange, MapleTree};
    ///
    /// let tree: MapleTree<u64> = (0..3).map(|i| (IndexRange::single(i * 10), i)).collect();
    /// let mut cursor = tree.cursor(5);
    /// assert_eq!(cursor.previous().unwrap().entry(), Some(&0));
    /// assert_eq!(cursor.previous(), None);
    /// assert_eq!(cursor.range(), IndexRange::single(0));
    /// ```
    #[doc(alias = "mas_prev_range")]
    pub fn previous(&mut self) -> Option<Segment<'a, T>> {
        let index = self.range().first().checked_sub(1)?;
        let path = self.path.as_mut()?;
        if index < path.leaf().lower() && !path.range().contains(index) {
            path.previous_leaf();
        }
        self.settle(index);
        Some(self.segment)
    }

    /// Steps to the next entry, and returns it.
    ///
    /// If there is none, the cursor stays where it is.
    ///
    /// # Complexity
    ///
    /// O(1) on average, O(log n) at worst.
    ///
    /// # Examples
    ///
    /// ```
    /// use maple_tree::{IndexRange, MapleTree};
    ///
    /// let tree: MapleTree<u64> = (0..3).map(|i| (IndexRange::single(i * 10), i)).collect();
    /// let mut cursor = tree.cursor(10);
    /// assert_eq!(cursor.next_entry(), Some((IndexRange::single(20), &2)));
    /// assert_eq!(cursor.next_entry(), None);
    /// assert_eq!(cursor.range(), IndexRange::single(20));
    /// ```
    #[doc(alias = "mas_next")]
    pub fn next_entry(&mut self) -> Option<(IndexRange, &'a T)> {
        self.step_to_entry(Self::next)
    }

    /// Steps to the entry before, and returns it.
    ///
    /// If there is none, the cursor stays where it is.
    ///
    /// # Complexity
    ///
    /// O(1) on average, O(log n) at worst.
    ///
    /// # Examples
    ///
    /// ```
    /// use maple_tree::{IndexRange, MapleTree};
    ///
    /// let tree: MapleTree<u64> = (0..3).map(|i| (IndexRange::single(i * 10), i)).collect();
    /// let mut cursor = tree.cursor(10);
    /// assert_eq!(cursor.previous_entry(), Some((IndexRange::single(0), &0)));
    /// assert_eq!(cursor.previous_entry(), None);
    /// assert_eq!(cursor.range(), IndexRange::single(0));
    /// ```
    #[doc(alias = "mas_prev")]
    pub fn previous_entry(&mut self) -> Option<(IndexRange, &'a T)> {
        self.step_to_entry(Self::previous)
    }

    fn step_to_entry(
        &mut self,
        step: fn(&mut Self) -> Option<Segment<'a, T>>,
    ) -> Option<(IndexRange, &'a T)> {
        let before = self.segment;
        // A gap has entries, or an end of the tree, on both sides.
        for _ in 0..2 {
            if let Some(Segment::Entry(range, value)) = step(self) {
                return Some((range, value));
            }
        }
        // Nothing but a gap at the end was stepped onto. It belongs to the leaf of the
        // entry beside it, so the path is where it was.
        self.segment = before;
        None
    }
}

impl<T> Clone for Cursor<'_, T> {
    fn clone(&self) -> Self {
        Self {
            path: self.path.clone(),
            segment: self.segment,
        }
    }
}

impl<T> fmt::Debug for Cursor<'_, T> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Cursor")
            .field("range", &self.range())
            .finish_non_exhaustive()
    }
}

/// A place in a tree that can be written to; see [`MapleTree::cursor_mut`].
///
/// It always stands on an entry or a gap, and stays valid across its own
/// writes: after one it stands on what then holds the first index it wrote.
/// Steps and writes are O(log n).
///
/// It is for loops that look at what is there and write in between. For one look and
/// one write [`MapleTree::slot`] is enough.
pub struct CursorMut<'a, T: Entry, S: NodeSource = HeapNodes> {
    tree: &'a mut MapleTree<T, S>,
    range: IndexRange,
}

impl<T: Entry, S: NodeSource> CursorMut<'_, T, S> {
    /// Returns the entry or gap that the cursor stands on.
    ///
    /// # Complexity
    ///
    /// O(log n).
    ///
    /// # Examples
    ///
    /// ```
    /// use maple_tree::{IndexRange, MapleTree};
    ///
    /// let mut tree: MapleTree<u64> = (0..3).map(|i| (IndexRange::single(i * 10), i)).collect();
    /// assert_eq!(tree.cursor_mut(10).segment().entry(), Some(&1));
    /// assert!(tree.cursor_mut(11).segment().is_gap());
    /// ```
    #[must_use]
    pub fn segment(&self) -> Segment<'_, T> {
        self.tree.find(self.range.first())
    }

    /// Returns the bounds of what the cursor stands on, inclusive.
    ///
    /// # Complexity
    ///
    /// O(1).
    ///
    /// # Examples
    ///
    /// ```
    /// use maple_tree::{IndexRange, MapleTree};
    ///
    /// let mut tree: MapleTree<u64> = (0..3).map(|i| (IndexRange::single(i * 10), i)).collect();
    /// assert_eq!(tree.cursor_mut(10).range(), IndexRange::single(10));
    /// assert_eq!(tree.cursor_mut(15).range(), IndexRange::new(11, 19).unwrap());
    /// ```
    #[must_use]
    pub fn range(&self) -> IndexRange {
        self.range
    }

    /// Moves to the entry or gap around `index`, and returns it.
    ///
    /// # Complexity
    ///
    /// O(log n).
    ///
    /// # Examples
    ///
    /// ```
    /// use maple_tree::{IndexRange, MapleTree};
    ///
    /// let mut tree: MapleTree<u64> = (0..3).map(|i| (IndexRange::single(i * 10), i)).collect();
    /// let mut cursor = tree.cursor_mut(0);
    /// assert!(cursor.seek(15).is_gap());
    /// assert_eq!(cursor.range(), IndexRange::new(11, 19).unwrap());
    /// ```
    #[doc(alias = "mas_set")]
    #[doc(alias = "mas_set_range")]
    #[doc(alias = "mas_reset")]
    #[doc(alias = "mas_walk")]
    #[doc(alias = "__mas_set_range")]
    pub fn seek(&mut self, index: u64) -> Segment<'_, T> {
        let segment = self.tree.find(index);
        self.range = segment.range();
        segment
    }

    /// Steps to the next entry or gap, and returns it.
    ///
    /// At the last one, it returns `None` and the cursor stays where it is.
    ///
    /// # Complexity
    ///
    /// O(log n).
    ///
    /// # Examples
    ///
    /// ```
    /// use maple_tree::{IndexRange, MapleTree};
    ///
    /// let mut tree: MapleTree<u64> = (0..3).map(|i| (IndexRange::single(i * 10), i)).collect();
    /// let mut cursor = tree.cursor_mut(20);
    /// assert!(cursor.next().unwrap().is_gap());
    /// assert_eq!(cursor.next(), None); // that gap reaches the highest index
    /// assert_eq!(cursor.range().first(), 21);
    /// ```
    #[expect(clippy::should_implement_trait, reason = "a cursor also steps back")]
    #[doc(alias = "mas_next_range")]
    #[doc(alias = "mas_find_range")]
    pub fn next(&mut self) -> Option<Segment<'_, T>> {
        let index = self.range.last().checked_add(1)?;
        Some(self.seek(index))
    }

    /// Steps to the entry or gap before, and returns it.
    ///
    /// At the first one, it returns `None` and the cursor stays where it is.
    ///
    /// # Complexity
    ///
    /// O(log n).
    ///
    /// # Examples
    ///
    /// ```
    /// use maple_tree::{IndexRange, MapleTree};
    ///
    /// let mut tree: MapleTree<u64> = (0..3).map(|i| (IndexRange::single(i * 10), i)).collect();
    /// let mut cursor = tree.cursor_mut(5);
    /// assert_eq!(cursor.previous().unwrap().entry(), Some(&0));
    /// assert_eq!(cursor.previous(), None);
    /// assert_eq!(cursor.range(), IndexRange::single(0));
    /// ```
    #[doc(alias = "mas_prev_range")]
    #[doc(alias = "mas_find_range_rev")]
    pub fn previous(&mut self) -> Option<Segment<'_, T>> {
        let index = self.range.first().checked_sub(1)?;
        Some(self.seek(index))
    }

    /// Steps to the next entry, and returns it.
    ///
    /// If there is none, the cursor stays where it is.
    ///
    /// # Complexity
    ///
    /// O(log n).
    ///
    /// # Examples
    ///
    /// ```
    /// use maple_tree::{IndexRange, MapleTree};
    ///
    /// let mut tree: MapleTree<u64> = (0..3).map(|i| (IndexRange::single(i * 10), i)).collect();
    /// let mut cursor = tree.cursor_mut(10);
    /// assert_eq!(cursor.next_entry(), Some((IndexRange::single(20), &2)));
    /// assert_eq!(cursor.next_entry(), None);
    /// assert_eq!(cursor.range(), IndexRange::single(20));
    /// ```
    #[doc(alias = "mas_next")]
    #[doc(alias = "mas_find")]
    pub fn next_entry(&mut self) -> Option<(IndexRange, &T)> {
        let (range, value) = self.tree.after(self.range.last())?;
        self.range = range;
        Some((range, value))
    }

    /// Steps to the entry before, and returns it.
    ///
    /// If there is none, the cursor stays where it is.
    ///
    /// # Complexity
    ///
    /// O(log n).
    ///
    /// # Examples
    ///
    /// ```
    /// use maple_tree::{IndexRange, MapleTree};
    ///
    /// let mut tree: MapleTree<u64> = (0..3).map(|i| (IndexRange::single(i * 10), i)).collect();
    /// let mut cursor = tree.cursor_mut(10);
    /// assert_eq!(cursor.previous_entry(), Some((IndexRange::single(0), &0)));
    /// assert_eq!(cursor.previous_entry(), None);
    /// assert_eq!(cursor.range(), IndexRange::single(0));
    /// ```
    #[doc(alias = "mas_prev")]
    #[doc(alias = "mas_find_rev")]
    pub fn previous_entry(&mut self) -> Option<(IndexRange, &T)> {
        let (range, value) = self.tree.before(self.range.first())?;
        self.range = range;
        Some((range, value))
    }

    /// Returns the value of the entry that the cursor stands on, to be changed in
    /// place, or `None` on a gap.
    ///
    /// As [`MapleTree::get_mut`], it may run `T::clone` on the leaf's entries.
    ///
    /// # Complexity
    ///
    /// O(log n); allocates one node per level that a snapshot shares.
    ///
    /// # Errors
    ///
    /// [`OutOfNodes`] if a shared node could not be copied. The content of the
    /// tree is unchanged, and the cursor stays where it is.
    ///
    /// # Panics
    ///
    /// If `T::clone` panics, which runs for every entry of a leaf that a snapshot
    /// shares. The content of the tree is then unchanged, and the
    /// cursor stays where it is.
    ///
    /// # Examples
    ///
    /// ```
    /// use maple_tree::{IndexRange, MapleTree};
    ///
    /// let mut tree: MapleTree<u64> = (0..3).map(|i| (IndexRange::single(i * 10), i)).collect();
    /// let mut cursor = tree.cursor_mut(10);
    /// *cursor.value_mut()?.unwrap() = 7;
    /// assert_eq!(tree.get(10), Some(&7));
    /// assert_eq!(tree.cursor_mut(11).value_mut()?, None);
    /// # Ok::<(), maple_tree::OutOfNodes>(())
    /// ```
    pub fn value_mut(&mut self) -> Result<Option<&mut T>, OutOfNodes> {
        self.tree.get_mut(self.range.first())
    }

    /// Stores `value` over every index of `range`, which must be vacant, and
    /// stands on the new entry.
    ///
    /// See [`MapleTree::insert`]. `range` may lie anywhere in the tree.
    ///
    /// # Complexity
    ///
    /// O(log n); allocates at most three nodes a level.
    ///
    /// # Errors
    ///
    /// - [`StoreErrorKind::Occupied`](crate::StoreErrorKind::Occupied) if any index
    ///   of `range` holds an entry.
    /// - [`StoreErrorKind::OutOfNodes`](crate::StoreErrorKind::OutOfNodes) if a node
    ///   could not be allocated.
    ///
    /// On error the tree is unchanged, the value is handed back and the cursor
    /// stays where it is.
    ///
    /// # Panics
    ///
    /// If `T::clone` panics, which runs where a snapshot shares a leaf. The content
    /// of the tree is then unchanged, and the cursor stays where it is.
    ///
    /// # Examples
    ///
    /// ```
    /// use maple_tree::{IndexRange, MapleTree};
    ///
    /// let mut tree: MapleTree<u64> = (0..3).map(|i| (IndexRange::single(i * 10), i)).collect();
    /// let mut cursor = tree.cursor_mut(15);
    /// cursor.insert(IndexRange::new(12, 14).unwrap(), 7)?;
    /// assert_eq!(cursor.segment().entry(), Some(&7));
    /// assert_eq!(cursor.insert(IndexRange::single(14), 8).unwrap_err().value, 8);
    /// # Ok::<(), maple_tree::StoreError<u64>>(())
    /// ```
    #[doc(alias = "mtree_insert")]
    pub fn insert(&mut self, range: IndexRange, value: T) -> Result<(), StoreError<T>> {
        self.tree.insert(range, value)?;
        self.range = range;
        Ok(())
    }

    /// Stores `value` over every index of `range`, whatever is there, and stands
    /// on the new entry.
    ///
    /// See [`MapleTree::store`]. `range` may lie anywhere in the tree.
    ///
    /// # Complexity
    ///
    /// O(log n + k) for k overwritten entries; allocates at most three nodes a level.
    ///
    /// # Errors
    ///
    /// [`StoreErrorKind::OutOfNodes`](crate::StoreErrorKind::OutOfNodes) if a node
    /// could not be allocated. The tree is unchanged, the value is handed back and
    /// the cursor stays where it is.
    ///
    /// # Panics
    ///
    /// If `T::clone` panics, which runs where a snapshot shares a leaf and
    /// where an entry is cut in two. The content of the tree is then unchanged, and
    /// the cursor stays where it is.
    ///
    /// # Examples
    ///
    /// ```
    /// use maple_tree::{IndexRange, MapleTree};
    ///
    /// let mut tree: MapleTree<u64> = (0..3).map(|i| (IndexRange::single(i * 10), i)).collect();
    /// let mut cursor = tree.cursor_mut(0);
    /// cursor.store(IndexRange::new(5, 15).unwrap(), 7)?; // over the entry at 10
    /// assert_eq!(cursor.range(), IndexRange::new(5, 15).unwrap());
    /// assert_eq!(cursor.next_entry().unwrap().1, &2);
    /// # Ok::<(), maple_tree::StoreError<u64>>(())
    /// ```
    #[doc(alias = "mas_store")]
    #[doc(alias = "mas_store_gfp")]
    #[doc(alias = "mtree_store")]
    pub fn store(&mut self, range: IndexRange, value: T) -> Result<(), StoreError<T>>
    where
        T: Clone,
    {
        self.tree.store(range, value)?;
        self.range = range;
        Ok(())
    }

    /// Removes the entry that the cursor stands on and returns it with its
    /// bounds, or `None` on a gap, and stands on the gap it left.
    ///
    /// See [`MapleTree::erase`].
    ///
    /// # Complexity
    ///
    /// O(log n); allocates at most three nodes a level.
    ///
    /// # Errors
    ///
    /// [`OutOfNodes`] if a node could not be allocated. The tree is unchanged, and
    /// the cursor stays where it is.
    ///
    /// # Panics
    ///
    /// If `T::clone` panics, which runs where a snapshot shares a leaf. The content
    /// of the tree is then unchanged, and the cursor stays where it is.
    ///
    /// # Examples
    ///
    /// ```
    /// use maple_tree::{IndexRange, MapleTree};
    ///
    /// let mut tree: MapleTree<u64> = (0..3).map(|i| (IndexRange::single(i * 10), i)).collect();
    /// let mut cursor = tree.cursor_mut(10);
    /// assert_eq!(cursor.erase()?, Some((IndexRange::single(10), 1)));
    /// assert_eq!(cursor.range(), IndexRange::new(1, 19).unwrap());
    /// assert_eq!(cursor.erase()?, None);
    /// # Ok::<(), maple_tree::OutOfNodes>(())
    /// ```
    #[doc(alias = "mas_erase")]
    pub fn erase(&mut self) -> Result<Option<(IndexRange, T)>, OutOfNodes> {
        let erased = self.tree.erase(self.range.first())?;
        self.seek(self.range.first());
        Ok(erased)
    }

    /// Empties every index of `range`, and stands on the gap around it.
    ///
    /// See [`MapleTree::remove`]. `range` may lie anywhere in the tree.
    ///
    /// # Complexity
    ///
    /// O(log n + k) for k removed entries; allocates at most three nodes a level.
    ///
    /// # Errors
    ///
    /// [`OutOfNodes`] if a node could not be allocated. The tree is unchanged, and
    /// the cursor stays where it is.
    ///
    /// # Panics
    ///
    /// If `T::clone` panics, which runs where a snapshot shares a leaf and
    /// where an entry is cut in two. The content of the tree is then unchanged, and
    /// the cursor stays where it is.
    ///
    /// # Examples
    ///
    /// ```
    /// use maple_tree::{IndexRange, MapleTree};
    ///
    /// let mut tree: MapleTree<u64> = (0..3).map(|i| (IndexRange::single(i * 10), i)).collect();
    /// let mut cursor = tree.cursor_mut(0);
    /// cursor.remove(IndexRange::new(5, 15).unwrap())?;
    /// assert_eq!(cursor.range(), IndexRange::new(1, 19).unwrap());
    /// assert_eq!(tree.len(), 2);
    /// # Ok::<(), maple_tree::OutOfNodes>(())
    /// ```
    pub fn remove(&mut self, range: IndexRange) -> Result<(), OutOfNodes>
    where
        T: Clone,
    {
        self.tree.remove(range)?;
        self.seek(range.first());
        Ok(())
    }
}

impl<T: Entry, S: NodeSource> fmt::Debug for CursorMut<'_, T, S> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("CursorMut")
            .field("range", &self.range)
            .finish_non_exhaustive()
    }
}
