//! [`IndexRange`]: the inclusive, non-empty range every key of the tree is.

use core::fmt;
use core::ops::{Bound, RangeBounds, RangeFrom, RangeToInclusive};

/// An inclusive, non-empty range of indices, `first..=last`.
///
/// # Invariants
///
/// - **R1** `first <= last`.
///
/// # Examples
///
/// ```
/// use maple_tree::IndexRange;
///
/// let page = IndexRange::new(0x1000, 0x1fff).unwrap();
/// assert!(page.contains(0x1fff));
/// assert_eq!(page.count(), Some(0x1000));
/// assert_eq!(IndexRange::new(5, 4), None);
/// ```
#[derive(Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct IndexRange {
    first: u64,
    last: u64,
}

impl IndexRange {
    /// Every index: `0..=u64::MAX`.
    pub const FULL: Self = Self {
        first: 0,
        last: u64::MAX,
    };

    /// Makes `first..=last`, or `None` if it would be empty.
    ///
    /// # Complexity
    ///
    /// O(1).
    ///
    /// # Examples
    ///
    /// ```
    /// use maple_tree::IndexRange;
    ///
    /// assert_eq!(IndexRange::new(4, 7).unwrap().last(), 7);
    /// assert_eq!(IndexRange::new(5, 4), None);
    /// ```
    #[must_use]
    pub const fn new(first: u64, last: u64) -> Option<Self> {
        // INVARIANT: R1 was just checked.
        if first <= last {
            Some(Self { first, last })
        } else {
            None
        }
    }

    /// Makes `first..=last` of bounds that are known to ascend.
    #[inline]
    pub(crate) const fn ascending(first: u64, last: u64) -> Self {
        debug_assert!(first <= last);
        Self { first, last }
    }

    /// Makes the range that holds `index` alone.
    ///
    /// # Complexity
    ///
    /// O(1).
    ///
    /// # Examples
    ///
    /// ```
    /// use maple_tree::IndexRange;
    ///
    /// assert_eq!(IndexRange::single(4), IndexRange::new(4, 4).unwrap());
    /// ```
    #[must_use]
    pub const fn single(index: u64) -> Self {
        // INVARIANT: R1 holds for equal bounds.
        Self {
            first: index,
            last: index,
        }
    }

    /// Converts any range expression, or returns `None` if it is empty.
    ///
    /// # Complexity
    ///
    /// O(1).
    ///
    /// # Examples
    ///
    /// ```
    /// use maple_tree::IndexRange;
    ///
    /// assert_eq!(IndexRange::from_bounds(..), Some(IndexRange::FULL));
    /// assert_eq!(IndexRange::from_bounds(4..8), IndexRange::new(4, 7));
    /// assert_eq!(IndexRange::from_bounds(4..4), None);
    /// ```
    #[must_use]
    pub fn from_bounds(bounds: impl RangeBounds<u64>) -> Option<Self> {
        let first = match bounds.start_bound() {
            Bound::Included(&first) => first,
            Bound::Excluded(&before) => before.checked_add(1)?,
            Bound::Unbounded => 0,
        };
        let last = match bounds.end_bound() {
            Bound::Included(&last) => last,
            Bound::Excluded(&after) => after.checked_sub(1)?,
            Bound::Unbounded => u64::MAX,
        };
        Self::new(first, last)
    }

    /// Returns the lowest index, inclusive.
    ///
    /// # Complexity
    ///
    /// O(1).
    ///
    /// # Examples
    ///
    /// ```
    /// use maple_tree::IndexRange;
    ///
    /// assert_eq!(IndexRange::from_bounds(4..8).unwrap().first(), 4);
    /// ```
    #[must_use]
    pub const fn first(self) -> u64 {
        self.first
    }

    /// Returns the highest index, inclusive.
    ///
    /// # Complexity
    ///
    /// O(1).
    ///
    /// # Examples
    ///
    /// ```
    /// use maple_tree::IndexRange;
    ///
    /// assert_eq!(IndexRange::from_bounds(4..8).unwrap().last(), 7);
    /// ```
    #[must_use]
    pub const fn last(self) -> u64 {
        self.last
    }

    /// Returns how many indices the range holds, or `None` for
    /// [`FULL`](Self::FULL), whose 2^64 does not fit.
    ///
    /// # Complexity
    ///
    /// O(1).
    ///
    /// # Examples
    ///
    /// ```
    /// use maple_tree::IndexRange;
    ///
    /// assert_eq!(IndexRange::new(4, 7).unwrap().count(), Some(4));
    /// assert_eq!(IndexRange::FULL.count(), None);
    /// ```
    #[must_use]
    pub const fn count(self) -> Option<u64> {
        (self.last - self.first).checked_add(1)
    }

    /// Returns whether `index` lies in the range.
    ///
    /// # Complexity
    ///
    /// O(1).
    ///
    /// # Examples
    ///
    /// ```
    /// use maple_tree::IndexRange;
    ///
    /// let range = IndexRange::new(4, 7).unwrap();
    /// assert!(range.contains(4) && range.contains(7));
    /// assert!(!range.contains(8));
    /// ```
    #[must_use]
    pub const fn contains(self, index: u64) -> bool {
        self.first <= index && index <= self.last
    }

    /// Returns whether every index of `other` lies in the range.
    ///
    /// # Complexity
    ///
    /// O(1).
    ///
    /// # Examples
    ///
    /// ```
    /// use maple_tree::IndexRange;
    ///
    /// let range = IndexRange::new(4, 7).unwrap();
    /// assert!(range.contains_range(IndexRange::new(5, 7).unwrap()));
    /// assert!(!range.contains_range(IndexRange::new(5, 8).unwrap()));
    /// ```
    #[must_use]
    pub const fn contains_range(self, other: Self) -> bool {
        self.first <= other.first && other.last <= self.last
    }

    /// Returns whether the two ranges share an index.
    ///
    /// # Complexity
    ///
    /// O(1).
    ///
    /// # Examples
    ///
    /// ```
    /// use maple_tree::IndexRange;
    ///
    /// let range = IndexRange::new(4, 7).unwrap();
    /// assert!(range.overlaps(IndexRange::new(7, 9).unwrap()));
    /// assert!(!range.overlaps(IndexRange::new(8, 9).unwrap()));
    /// ```
    #[must_use]
    pub const fn overlaps(self, other: Self) -> bool {
        self.first <= other.last && other.first <= self.last
    }

    /// Returns the indices that both ranges hold, or `None` if there are none.
    ///
    /// # Complexity
    ///
    /// O(1).
    ///
    /// # Examples
    ///
    /// ```
    /// use maple_tree::IndexRange;
    ///
    /// let range = IndexRange::new(4, 7).unwrap();
    /// assert_eq!(range.intersection(IndexRange::new(6, 9).unwrap()), IndexRange::new(6, 7));
    /// assert_eq!(range.intersection(IndexRange::new(8, 9).unwrap()), None);
    /// ```
    #[must_use]
    pub const fn intersection(self, other: Self) -> Option<Self> {
        let first = if self.first > other.first {
            self.first
        } else {
            other.first
        };
        let last = if self.last < other.last {
            self.last
        } else {
            other.last
        };
        Self::new(first, last)
    }

    /// What remains above `index`, which is not below the range; `None` if nothing does.
    pub(crate) const fn above(self, index: u64) -> Option<Self> {
        debug_assert!(self.first <= index);
        if index >= self.last {
            return None;
        }
        // INVARIANT: R1 was just checked.
        Some(Self::ascending(index + 1, self.last))
    }

    /// What remains below `index`, which is not above the range; `None` if nothing does.
    pub(crate) const fn below(self, index: u64) -> Option<Self> {
        debug_assert!(index <= self.last);
        if index <= self.first {
            return None;
        }
        // INVARIANT: R1 was just checked.
        Some(Self::ascending(self.first, index - 1))
    }
}

impl fmt::Display for IndexRange {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{:#x}..={:#x}", self.first, self.last)
    }
}

impl fmt::Debug for IndexRange {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        fmt::Display::fmt(self, f)
    }
}

impl From<RangeFrom<u64>> for IndexRange {
    fn from(range: RangeFrom<u64>) -> Self {
        // INVARIANT: R1: nothing is above `u64::MAX`.
        Self {
            first: range.start,
            last: u64::MAX,
        }
    }
}

impl From<RangeToInclusive<u64>> for IndexRange {
    fn from(range: RangeToInclusive<u64>) -> Self {
        // INVARIANT: R1: nothing is below 0.
        Self {
            first: 0,
            last: range.end,
        }
    }
}

impl RangeBounds<u64> for IndexRange {
    fn start_bound(&self) -> Bound<&u64> {
        Bound::Included(&self.first)
    }

    fn end_bound(&self) -> Bound<&u64> {
        Bound::Included(&self.last)
    }
}
