//! The errors of the public surface; each hands back what it was given.

use core::fmt;

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

impl<E: fmt::Display> fmt::Display for DuplicateError<E> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Refused(error) => write!(f, "an entry was refused: {error}"),
            Self::OutOfNodes => {
                f.write_str("no memory for a node of the copy; nothing is left of it")
            }
        }
    }
}

impl<E: fmt::Debug + fmt::Display> core::error::Error for DuplicateError<E> {}
