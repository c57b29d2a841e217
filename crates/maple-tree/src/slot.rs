//! One place of a tree, looked up once: an entry to look at, change or remove, or a
//! gap to fill.

use core::fmt;
use core::mem;

use crate::error::{OutOfNodes, StoreError, StoreErrorKind};
use crate::source::{HeapNodes, NodeSource};
use crate::tree::MapleTree;
use crate::{Entry, IndexRange};

impl<T: Entry, S: NodeSource> MapleTree<T, S> {
    /// Returns the entry or the gap at `index`, to be written.
    ///
    /// # Complexity
    ///
    /// O(log n).
    ///
    /// # Examples
    ///
    /// ```
    /// use maple_tree::{IndexRange, MapleTree, SlotEntry};
    ///
    /// let mut tree = MapleTree::new();
    /// tree.insert(IndexRange::new(10, 19).unwrap(), 'a')?;
    /// match tree.slot(5) {
    ///     SlotEntry::Gap(gap) => {
    ///         assert_eq!(gap.range(), IndexRange::new(0, 9).unwrap());
    ///         gap.insert(IndexRange::new(4, 5).unwrap(), 'b')?;
    ///     }
    ///     SlotEntry::Occupied(entry) => panic!("taken: {}", entry.range()),
    /// }
    /// assert_eq!(tree.get(4), Some(&'b'));
    /// # Ok::<(), maple_tree::StoreError<char>>(())
    /// ```
    pub fn slot(&mut self, index: u64) -> SlotEntry<'_, T, S> {
        let segment = self.find(index);
        let (range, is_gap) = (segment.range(), segment.is_gap());
        if is_gap {
            SlotEntry::Gap(GapEntry { tree: self, range })
        } else {
            SlotEntry::Occupied(OccupiedEntry { tree: self, range })
        }
    }
}

/// A place of a tree that can be written; see [`MapleTree::slot`].
///
/// What is there says what can be done: a gap, which says how far it reaches, can be
/// filled, an entry changed, replaced or removed.
#[derive(Debug)]
pub enum SlotEntry<'t, T: Entry, S: NodeSource = HeapNodes> {
    /// There is an entry.
    Occupied(OccupiedEntry<'t, T, S>),
    /// There is none.
    Gap(GapEntry<'t, T, S>),
}

impl<'t, T: Entry, S: NodeSource> SlotEntry<'t, T, S> {
    /// Returns the bounds of the entry or gap, inclusive.
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
    /// let mut tree = MapleTree::<char>::new();
    /// assert_eq!(tree.slot(7).range(), IndexRange::FULL);
    /// ```
    #[must_use]
    pub fn range(&self) -> IndexRange {
        match self {
            Self::Occupied(entry) => entry.range,
            Self::Gap(gap) => gap.range,
        }
    }

    /// Returns the entry, or first stores what `make` returns over `range`.
    ///
    /// # Complexity
    ///
    /// O(1) for an entry. Else as [`MapleTree::insert`].
    ///
    /// # Errors
    ///
    /// As [`GapEntry::insert`].
    ///
    /// # Panics
    ///
    /// If `make` panics, or `T::clone`, which runs where a snapshot shares a leaf. The
    /// content of the tree is then unchanged.
    ///
    /// # Examples
    ///
    /// ```
    /// use maple_tree::{IndexRange, MapleTree};
    ///
    /// let mut counts = MapleTree::new();
    /// for address in [0x1010, 0x1234, 0x2000, 0x1fff] {
    ///     let page = IndexRange::new(address & !0xfff, address | 0xfff).unwrap();
    ///     let mut entry = counts.slot(address).or_insert_with(page, || 0_u64).unwrap();
    ///     *entry.get_mut()? += 1;
    /// }
    /// assert_eq!((counts.get(0x1000), counts.get(0x2fff)), (Some(&3), Some(&1)));
    /// # Ok::<(), maple_tree::OutOfNodes>(())
    /// ```
    #[doc(alias = "or_insert")]
    pub fn or_insert_with(
        self,
        range: IndexRange,
        make: impl FnOnce() -> T,
    ) -> Result<OccupiedEntry<'t, T, S>, StoreError<T>> {
        match self {
            Self::Occupied(entry) => Ok(entry),
            Self::Gap(gap) => gap.insert(range, make()),
        }
    }
}

/// An entry that can be written; see [`MapleTree::slot`].
pub struct OccupiedEntry<'t, T: Entry, S: NodeSource = HeapNodes> {
    tree: &'t mut MapleTree<T, S>,
    /// The bounds of an entry of `tree`.
    range: IndexRange,
}

/// Why an [`OccupiedEntry`] has a value.
const OCCUPIED: &str = "only this handle can remove the entry, and that consumes it";

impl<'t, T: Entry, S: NodeSource> OccupiedEntry<'t, T, S> {
    /// Returns the bounds of the entry, inclusive.
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
    /// let mut tree = MapleTree::new();
    /// let range = IndexRange::new(4, 9).unwrap();
    /// let entry = tree.slot(7).or_insert_with(range, || 'x')?;
    /// assert_eq!(entry.range(), range);
    /// # Ok::<(), maple_tree::StoreError<char>>(())
    /// ```
    #[must_use]
    pub fn range(&self) -> IndexRange {
        self.range
    }

    /// Returns the value.
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
    /// let mut tree = MapleTree::new();
    /// let entry = tree.slot(7).or_insert_with(IndexRange::single(7), || 'x')?;
    /// assert_eq!(entry.get(), &'x');
    /// # Ok::<(), maple_tree::StoreError<char>>(())
    /// ```
    #[must_use]
    pub fn get(&self) -> &T {
        self.tree.get(self.range.first()).expect(OCCUPIED)
    }

    /// Returns the value, to be changed in place.
    ///
    /// # Complexity
    ///
    /// O(log n); allocates one node per level that a snapshot shares.
    ///
    /// # Errors
    ///
    /// [`OutOfNodes`] if a shared node could not be copied. The content of the tree
    /// is unchanged.
    ///
    /// # Panics
    ///
    /// If `T::clone` panics, which runs where a snapshot shares a leaf. The content
    /// of the tree is then unchanged.
    ///
    /// # Examples
    ///
    /// See [`SlotEntry::or_insert_with`].
    pub fn get_mut(&mut self) -> Result<&mut T, OutOfNodes> {
        let value = self.tree.get_mut(self.range.first())?;
        Ok(value.expect(OCCUPIED))
    }

    /// Returns the value, to be changed in place for as long as the tree is borrowed.
    ///
    /// # Complexity
    ///
    /// As [`get_mut`](Self::get_mut); so for errors and panics.
    ///
    /// # Errors
    ///
    /// [`OutOfNodes`].
    ///
    /// # Examples
    ///
    /// ```
    /// use maple_tree::{IndexRange, MapleTree, SlotEntry};
    ///
    /// let mut tree: MapleTree<u64> = [(IndexRange::single(7), 1)].into_iter().collect();
    /// let SlotEntry::Occupied(entry) = tree.slot(7) else {
    ///     unreachable!("it was collected");
    /// };
    /// *entry.into_mut()? += 1;
    /// assert_eq!(tree.get(7), Some(&2));
    /// # Ok::<(), maple_tree::OutOfNodes>(())
    /// ```
    pub fn into_mut(self) -> Result<&'t mut T, OutOfNodes> {
        let value = self.tree.get_mut(self.range.first())?;
        Ok(value.expect(OCCUPIED))
    }

    /// Puts `value` in the place of the entry's value, and returns the old one.
    ///
    /// # Complexity
    ///
    /// O(log n); allocates one node per level that a snapshot shares.
    ///
    /// # Errors
    ///
    /// [`StoreErrorKind::OutOfNodes`] if a shared node could not be copied. The content
    /// of the tree is unchanged and the value is handed back.
    ///
    /// # Panics
    ///
    /// If `T::clone` panics, which runs where a snapshot shares a leaf. The content
    /// of the tree is then unchanged.
    ///
    /// # Examples
    ///
    /// ```
    /// use maple_tree::{IndexRange, MapleTree};
    ///
    /// let mut tree = MapleTree::new();
    /// let mut entry = tree.slot(7).or_insert_with(IndexRange::single(7), || 'x')?;
    /// assert_eq!(entry.replace('y')?, 'x');
    /// assert_eq!(tree.get(7), Some(&'y'));
    /// # Ok::<(), maple_tree::StoreError<char>>(())
    /// ```
    pub fn replace(&mut self, value: T) -> Result<T, StoreError<T>> {
        match self.get_mut() {
            Ok(place) => Ok(mem::replace(place, value)),
            Err(OutOfNodes) => Err(StoreError {
                kind: StoreErrorKind::OutOfNodes,
                value,
            }),
        }
    }

    /// Removes the entry and returns it with its bounds. Where a snapshot shares it,
    /// what is returned is a clone.
    ///
    /// # Complexity
    ///
    /// As [`MapleTree::erase`].
    ///
    /// # Errors
    ///
    /// [`OutOfNodes`]; the tree is unchanged.
    ///
    /// # Panics
    ///
    /// If `T::clone` panics, which runs where a snapshot shares a leaf. The content
    /// of the tree is then unchanged.
    ///
    /// # Examples
    ///
    /// ```
    /// use maple_tree::{IndexRange, MapleTree, SlotEntry};
    ///
    /// let mut tree: MapleTree<u64> = [(IndexRange::single(7), 1)].into_iter().collect();
    /// if let SlotEntry::Occupied(entry) = tree.slot(7) {
    ///     assert_eq!(entry.remove()?, (IndexRange::single(7), 1));
    /// }
    /// assert!(tree.is_empty());
    /// # Ok::<(), maple_tree::OutOfNodes>(())
    /// ```
    pub fn remove(self) -> Result<(IndexRange, T), OutOfNodes> {
        let erased = self.tree.erase(self.range.first())?;
        Ok(erased.expect(OCCUPIED))
    }
}

/// A gap that can be filled; see [`MapleTree::slot`].
pub struct GapEntry<'t, T: Entry, S: NodeSource = HeapNodes> {
    tree: &'t mut MapleTree<T, S>,
    /// The bounds of a gap of `tree`.
    range: IndexRange,
}

impl<'t, T: Entry, S: NodeSource> GapEntry<'t, T, S> {
    /// Returns the bounds of the gap, inclusive.
    ///
    /// # Complexity
    ///
    /// O(1).
    ///
    /// # Examples
    ///
    /// See [`MapleTree::slot`].
    #[must_use]
    pub fn range(&self) -> IndexRange {
        self.range
    }

    /// Stores `value` over every index of `range`, and returns the new entry.
    ///
    /// `range` may be a part of the gap, or lie anywhere else where it is vacant.
    ///
    /// # Complexity
    ///
    /// As [`MapleTree::insert`].
    ///
    /// # Errors
    ///
    /// - [`StoreErrorKind::Occupied`] if any index of `range` holds an entry.
    /// - [`StoreErrorKind::OutOfNodes`] if a node could not be allocated.
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
    /// See [`MapleTree::slot`].
    pub fn insert(
        self,
        range: IndexRange,
        value: T,
    ) -> Result<OccupiedEntry<'t, T, S>, StoreError<T>> {
        self.tree.insert(range, value)?;
        Ok(OccupiedEntry {
            tree: self.tree,
            range,
        })
    }

    /// Stores `value` over the whole gap, and returns the new entry.
    ///
    /// # Complexity
    ///
    /// As [`MapleTree::insert`].
    ///
    /// # Errors
    ///
    /// [`StoreErrorKind::OutOfNodes`] if a node could not be allocated. The tree is
    /// unchanged and the value is handed back.
    ///
    /// # Panics
    ///
    /// If `T::clone` panics, which runs where a snapshot shares a leaf. The content
    /// of the tree is then unchanged.
    ///
    /// # Examples
    ///
    /// ```
    /// use maple_tree::{IndexRange, MapleTree, SlotEntry};
    ///
    /// let mut tree: MapleTree<char> = [2, 9].map(|i| (IndexRange::single(i), 'x')).into_iter().collect();
    /// if let SlotEntry::Gap(gap) = tree.slot(5) {
    ///     assert_eq!(gap.fill('y')?.range(), IndexRange::new(3, 8).unwrap());
    /// }
    /// # Ok::<(), maple_tree::StoreError<char>>(())
    /// ```
    pub fn fill(self, value: T) -> Result<OccupiedEntry<'t, T, S>, StoreError<T>> {
        let range = self.range;
        self.insert(range, value)
    }
}

impl<T: Entry + fmt::Debug, S: NodeSource> fmt::Debug for OccupiedEntry<'_, T, S> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("OccupiedEntry")
            .field("range", &self.range)
            .field("value", self.get())
            .finish_non_exhaustive()
    }
}

impl<T: Entry, S: NodeSource> fmt::Debug for GapEntry<'_, T, S> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("GapEntry")
            .field("range", &self.range)
            .finish_non_exhaustive()
    }
}
