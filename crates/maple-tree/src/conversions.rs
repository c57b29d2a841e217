//! [`IndexRange`] from and to the ranges of `core`, and single indices.

use core::fmt;
use core::ops::{Range, RangeFull, RangeInclusive, RangeTo};

use crate::IndexRange;

/// The error of converting an empty range into an [`IndexRange`].
///
/// # Examples
///
/// ```
/// use maple_tree::{EmptyRange, IndexRange};
///
/// assert_eq!(IndexRange::try_from(4..4), Err(EmptyRange));
/// assert_eq!(IndexRange::try_from(4..5), Ok(IndexRange::single(4)));
/// ```
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct EmptyRange;

impl fmt::Display for EmptyRange {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("the range is empty; a range of the tree holds at least one index")
    }
}

impl core::error::Error for EmptyRange {}

/// The error of converting an [`IndexRange`] that ends at `u64::MAX` into a [`Range`],
/// whose exclusive end would be 2^64.
///
/// # Examples
///
/// ```
/// use core::ops::Range;
/// use maple_tree::{IndexRange, NoExclusiveEnd};
///
/// assert_eq!(Range::try_from(IndexRange::single(4)), Ok(4..5));
/// assert_eq!(Range::try_from(IndexRange::FULL), Err(NoExclusiveEnd));
/// ```
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct NoExclusiveEnd;

impl fmt::Display for NoExclusiveEnd {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("the range ends at the highest index; convert it to a `RangeInclusive`")
    }
}

impl core::error::Error for NoExclusiveEnd {}

/// The error of converting an [`IndexRange`] of more than one index into that index.
///
/// # Examples
///
/// ```
/// use maple_tree::{IndexRange, NotSingle};
///
/// assert_eq!(u64::try_from(IndexRange::single(4)), Ok(4));
/// assert_eq!(u64::try_from(IndexRange::FULL), Err(NotSingle));
/// ```
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct NotSingle;

impl fmt::Display for NotSingle {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("the range holds more than one index; use its `first` or `last`")
    }
}

impl core::error::Error for NotSingle {}

impl From<u64> for IndexRange {
    fn from(index: u64) -> Self {
        Self::single(index)
    }
}

impl TryFrom<IndexRange> for u64 {
    type Error = NotSingle;

    fn try_from(range: IndexRange) -> Result<Self, NotSingle> {
        if range.first() == range.last() {
            Ok(range.first())
        } else {
            Err(NotSingle)
        }
    }
}

impl From<RangeFull> for IndexRange {
    fn from(_: RangeFull) -> Self {
        Self::FULL
    }
}

impl TryFrom<RangeTo<u64>> for IndexRange {
    type Error = EmptyRange;

    fn try_from(range: RangeTo<u64>) -> Result<Self, EmptyRange> {
        Self::from_bounds(range).ok_or(EmptyRange)
    }
}

impl TryFrom<Range<u64>> for IndexRange {
    type Error = EmptyRange;

    fn try_from(range: Range<u64>) -> Result<Self, EmptyRange> {
        Self::from_bounds(range).ok_or(EmptyRange)
    }
}

impl TryFrom<IndexRange> for Range<u64> {
    type Error = NoExclusiveEnd;

    fn try_from(range: IndexRange) -> Result<Self, NoExclusiveEnd> {
        let end = range.last().checked_add(1).ok_or(NoExclusiveEnd)?;
        Ok(range.first()..end)
    }
}

impl TryFrom<RangeInclusive<u64>> for IndexRange {
    type Error = EmptyRange;

    fn try_from(range: RangeInclusive<u64>) -> Result<Self, EmptyRange> {
        Self::from_bounds(range).ok_or(EmptyRange)
    }
}

impl From<IndexRange> for RangeInclusive<u64> {
    fn from(range: IndexRange) -> Self {
        range.first()..=range.last()
    }
}
