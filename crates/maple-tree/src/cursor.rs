//! Cursors: a place in the tree that steps, and writes where it stands.

use core::fmt;

use crate::error::{OutOfNodes, StoreError};
use crate::source::NodeSource;
use crate::tree::{MapleTree, Segment};
use crate::walk::LeafPath;
use crate::{Entry, IndexRange};

impl<T: Entry, S: NodeSource> MapleTree<T, S> {
    /// A cursor that stands on the entry or gap around `index`. O(log n).
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
    pub fn cursor(&self, index: u64) -> Cursor<'_, T> {
        let path = self.root().map(|root| LeafPath::to(root, index));
        let mut cursor = Cursor {
            path,
            segment: Segment::Gap(IndexRange::FULL),
        };
        cursor.settle(index);
        cursor
    }

    /// A cursor that stands on the entry or gap around `index`, and writes. O(log n).
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
    pub fn cursor_mut(&mut self, index: u64) -> CursorMut<'_, T, S> {
        let range = self.find(index).range();
        CursorMut { tree: self, range }
    }
}

/// A place in a tree; see [`MapleTree::cursor`].
///
/// It always stands on an entry or a gap. A step that finds nothing leaves it
/// where it is. Steps are O(1) on average.
pub struct Cursor<'a, T> {
    /// The way to the leaf that `segment` belongs to; `None` in an empty tree.
    path: Option<LeafPath<'a, T>>,
    segment: Segment<'a, T>,
}

impl<'a, T> Cursor<'a, T> {
    fn settle(&mut self, index: u64) {
        if let Some(path) = &self.path {
            self.segment = path.leaf().segment(index);
        }
    }

    /// The entry or gap that the cursor stands on.
    #[must_use]
    pub fn segment(&self) -> Segment<'a, T> {
        self.segment
    }

    /// The bounds of what the cursor stands on.
    #[must_use]
    pub fn range(&self) -> IndexRange {
        self.segment.range()
    }

    /// Steps to the next entry or gap, and returns it.
    #[expect(clippy::should_implement_trait, reason = "a cursor also steps back")]
    #[doc(alias = "mas_next_range")]
    pub fn next(&mut self) -> Option<Segment<'a, T>> {
        let index = self.range().last().checked_add(1)?;
        let path = self.path.as_mut()?;
        if index > path.leaf().range.last() {
            path.next_leaf();
        }
        self.settle(index);
        Some(self.segment)
    }

    /// Steps to the entry or gap before, and returns it.
    #[doc(alias = "mas_prev_range")]
    pub fn previous(&mut self) -> Option<Segment<'a, T>> {
        let index = self.range().first().checked_sub(1)?;
        let path = self.path.as_mut()?;
        if index < path.leaf().range.first() {
            path.previous_leaf();
        }
        self.settle(index);
        Some(self.segment)
    }

    /// Steps to the next entry, and returns it. If there is none, the cursor
    /// stays where it is.
    #[doc(alias = "mas_next")]
    pub fn next_entry(&mut self) -> Option<(IndexRange, &'a T)> {
        self.step_to_entry(Self::next)
    }

    /// Steps to the entry before, and returns it. If there is none, the cursor
    /// stays where it is.
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
        // Only a gap at the end was stepped onto: back over its other side.
        if self.range() != before.range() {
            let index = before.range().first();
            if let Some(path) = &mut self.path {
                if index > path.leaf().range.last() {
                    path.next_leaf();
                }
                if index < path.leaf().range.first() {
                    path.previous_leaf();
                }
            }
            self.settle(index);
        }
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
pub struct CursorMut<'a, T: Entry, S: NodeSource> {
    tree: &'a mut MapleTree<T, S>,
    range: IndexRange,
}

impl<T: Entry, S: NodeSource> CursorMut<'_, T, S> {
    /// The entry or gap that the cursor stands on.
    #[must_use]
    pub fn segment(&self) -> Segment<'_, T> {
        self.tree.find(self.range.first())
    }

    /// The bounds of what the cursor stands on.
    #[must_use]
    pub fn range(&self) -> IndexRange {
        self.range
    }

    /// Moves to the entry or gap around `index`, and returns it.
    pub fn seek(&mut self, index: u64) -> Segment<'_, T> {
        let segment = self.tree.find(index);
        self.range = segment.range();
        segment
    }

    /// Steps to the next entry or gap, and returns it.
    #[expect(clippy::should_implement_trait, reason = "a cursor also steps back")]
    pub fn next(&mut self) -> Option<Segment<'_, T>> {
        let index = self.range.last().checked_add(1)?;
        Some(self.seek(index))
    }

    /// Steps to the entry or gap before, and returns it.
    pub fn previous(&mut self) -> Option<Segment<'_, T>> {
        let index = self.range.first().checked_sub(1)?;
        Some(self.seek(index))
    }

    /// Steps to the next entry, and returns it. If there is none, the cursor
    /// stays where it is.
    pub fn next_entry(&mut self) -> Option<(IndexRange, &T)> {
        let (range, value) = self.tree.after(self.range.last())?;
        self.range = range;
        Some((range, value))
    }

    /// Steps to the entry before, and returns it. If there is none, the cursor
    /// stays where it is.
    pub fn previous_entry(&mut self) -> Option<(IndexRange, &T)> {
        let (range, value) = self.tree.before(self.range.first())?;
        self.range = range;
        Some((range, value))
    }

    /// The value of the entry that the cursor stands on, to be changed in place.
    ///
    /// # Errors
    ///
    /// As [`MapleTree::get_mut`].
    pub fn value_mut(&mut self) -> Result<Option<&mut T>, OutOfNodes> {
        self.tree.get_mut(self.range.first())
    }

    /// As [`MapleTree::insert`]; then stands on the new entry.
    ///
    /// # Errors
    ///
    /// As [`MapleTree::insert`]; the cursor stays where it is.
    pub fn insert(&mut self, range: IndexRange, value: T) -> Result<(), StoreError<T>> {
        self.tree.insert(range, value)?;
        self.range = range;
        Ok(())
    }

    /// As [`MapleTree::store`]; then stands on the new entry.
    ///
    /// # Errors
    ///
    /// As [`MapleTree::store`]; the cursor stays where it is.
    pub fn store(&mut self, range: IndexRange, value: T) -> Result<(), StoreError<T>>
    where
        T: Clone,
    {
        self.tree.store(range, value)?;
        self.range = range;
        Ok(())
    }

    /// Removes the entry that the cursor stands on and returns it with its
    /// bounds, or `None` on a gap; then stands on the gap it left.
    ///
    /// # Errors
    ///
    /// As [`MapleTree::erase`]; the cursor stays where it is.
    pub fn erase(&mut self) -> Result<Option<(IndexRange, T)>, OutOfNodes> {
        let erased = self.tree.erase(self.range.first())?;
        self.seek(self.range.first());
        Ok(erased)
    }

    /// As [`MapleTree::remove`]; then stands on the gap around `range`.
    ///
    /// # Errors
    ///
    /// As [`MapleTree::remove`]; the cursor stays where it is.
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
