//! The errors of the public surface; each hands back what it was given.

use core::fmt;

use crate::IndexRange;

/// A node could not be allocated.
///
/// The call that returns this says what it left; a single write leaves the
/// content of the tree as it was.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct OutOfNodes;

impl fmt::Display for OutOfNodes {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("no memory for a tree node; free some and try again")
    }
}

impl core::error::Error for OutOfNodes {}

/// Why a write was refused.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum StoreErrorKind {
    /// An index of the range already holds an entry.
    Occupied,
    /// A node could not be allocated.
    OutOfNodes,
}

/// A refused write: the reason, and the value that was to be stored.
#[derive(Clone, PartialEq, Eq)]
pub struct StoreError<T> {
    /// Why the write was refused.
    pub kind: StoreErrorKind,
    /// The value, handed back.
    pub value: T,
}

impl<T> fmt::Debug for StoreError<T> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("StoreError")
            .field("kind", &self.kind)
            .finish_non_exhaustive()
    }
}

impl<T> fmt::Display for StoreError<T> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self.kind {
            StoreErrorKind::Occupied => f.write_str(
                "the range holds an entry already; erase it first, or overwrite it with `store`",
            ),
            StoreErrorKind::OutOfNodes => fmt::Display::fmt(&OutOfNodes, f),
        }
    }
}

impl<T> core::error::Error for StoreError<T> {}

/// The range holds an entry already; the value is handed back.
///
/// The error of [`Preallocation::insert`](crate::Preallocation::insert),
/// which cannot run out of nodes.
#[derive(Clone, PartialEq, Eq)]
pub struct Occupied<T>(pub T);

impl<T> fmt::Debug for Occupied<T> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("Occupied(..)")
    }
}

impl<T> fmt::Display for Occupied<T> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("the range holds an entry already")
    }
}

impl<T> core::error::Error for Occupied<T> {}

/// Why an allocation of indices was refused.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum AllocateErrorKind {
    /// The request fits in no gap of the tree.
    NoGap,
    /// A node could not be allocated.
    OutOfNodes,
}

/// A refused allocation of indices: the reason, and the value that was to be stored.
///
/// The error of [`MapleTree::allocate_lowest`](crate::MapleTree::allocate_lowest)
/// and the others of its kind.
#[derive(Clone, PartialEq, Eq)]
pub struct AllocateError<T> {
    /// Why nothing was stored.
    pub kind: AllocateErrorKind,
    /// The value, handed back.
    pub value: T,
}

impl<T> fmt::Debug for AllocateError<T> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("AllocateError")
            .field("kind", &self.kind)
            .finish_non_exhaustive()
    }
}

impl<T> fmt::Display for AllocateError<T> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self.kind {
            AllocateErrorKind::NoGap => f.write_str(
                "no gap takes the request; erase entries, or ask for less or in a larger window",
            ),
            AllocateErrorKind::OutOfNodes => fmt::Display::fmt(&OutOfNodes, f),
        }
    }
}

impl<T> core::error::Error for AllocateError<T> {}

/// Why [`MapleTree::bulk_load`](crate::MapleTree::bulk_load) or
/// [`MapleTree::from_sorted`](crate::MapleTree::from_sorted) gave up.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum SortedError {
    /// The tree to be filled holds an entry already.
    NotEmpty,
    /// An item begins at or below the end of the one before.
    Unsorted {
        /// Which item, counted from 0.
        position: usize,
        /// The indices of the item.
        range: IndexRange,
        /// The indices of the one before.
        previous: IndexRange,
    },
    /// A node could not be allocated.
    OutOfNodes,
}

impl From<OutOfNodes> for SortedError {
    fn from(_: OutOfNodes) -> Self {
        Self::OutOfNodes
    }
}

impl fmt::Display for SortedError {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::NotEmpty => f.write_str("the tree to be filled is not empty; clear it first"),
            Self::Unsorted {
                position,
                range,
                previous,
            } => write!(
                f,
                "item {position}, {range}, does not lie above the one before, {previous}; \
                 sort the items and cut what overlaps"
            ),
            Self::OutOfNodes => fmt::Display::fmt(&OutOfNodes, f),
        }
    }
}

impl core::error::Error for SortedError {}

/// Why [`MapleTree::append`](crate::MapleTree::append) gave up.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum AppendError {
    /// An entry of the other tree does not lie above all entries of this one.
    NotAbove,
    /// A node could not be allocated.
    OutOfNodes,
}

impl From<OutOfNodes> for AppendError {
    fn from(_: OutOfNodes) -> Self {
        Self::OutOfNodes
    }
}

impl fmt::Display for AppendError {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::NotAbove => f.write_str(
                "the tree to append does not lie above this one; store its entries one by one",
            ),
            Self::OutOfNodes => fmt::Display::fmt(&OutOfNodes, f),
        }
    }
}

impl core::error::Error for AppendError {}

/// Why [`MapleTree::duplicate_with`](crate::MapleTree::duplicate_with) gave up.
///
/// Nothing of the unfinished copy is left.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum DuplicateError<E> {
    /// The closure refused an entry.
    Refused(E),
    /// A node could not be allocated.
    OutOfNodes,
}

impl<E> From<OutOfNodes> for DuplicateError<E> {
    fn from(_: OutOfNodes) -> Self {
        Self::OutOfNodes
    }
}

impl<E> fmt::Display for DuplicateError<E> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(match self {
            Self::Refused(_) => "an entry was refused; nothing is left of the copy",
            Self::OutOfNodes => "no memory for a node of the copy; nothing is left of it",
        })
    }
}

/// The [`source`](core::error::Error::source) of [`Refused`](Self::Refused) is what the
/// closure returned, which is not repeated in the message.
impl<E: core::error::Error + 'static> core::error::Error for DuplicateError<E> {
    fn source(&self) -> Option<&(dyn core::error::Error + 'static)> {
        match self {
            Self::Refused(error) => Some(error),
            Self::OutOfNodes => None,
        }
    }
}
