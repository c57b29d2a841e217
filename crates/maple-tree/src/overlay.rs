//! Two trees laid over each other, and visited in step.

use core::fmt;
use core::iter::FusedIterator;

use crate::iter::Iter;
use crate::source::NodeSource;
use crate::tree::MapleTree;
use crate::{Entry, IndexRange};

impl<T: Entry, S: NodeSource> MapleTree<T, S> {
    /// Iterates over this tree and `other` in step, in ascending order: over the
    /// longest ranges in which neither changes from one entry, or gap, to another.
    ///
    /// Ranges in which neither holds an entry are left out.
    ///
    /// ```text
    ///           0123456789abcdef
    ///  left     AAAAAA..BBBB....
    ///  right    ..CCC..DDD....E.
    ///  pieces   112223.45566..7.       2 and 5 are in both
    /// ```
    ///
    /// # Complexity
    ///
    /// O(1) a step on average; the first one is O(log n).
    ///
    /// # Examples
    ///
    /// What differs between an address space and an earlier snapshot of it:
    ///
    /// ```
    /// use maple_tree::{IndexRange, MapleTree, Overlaid};
    ///
    /// let mut now = MapleTree::new();
    /// now.store(IndexRange::new(0x1000, 0x4fff).unwrap(), 'w').unwrap();
    /// let before = now.snapshot();
    /// now.store(IndexRange::new(0x2000, 0x2fff).unwrap(), 'r').unwrap();
    /// now.store(IndexRange::new(0x8000, 0x8fff).unwrap(), 'x').unwrap();
    ///
    /// let changes: Vec<_> = before
    ///     .overlay(&now)
    ///     .filter(|(_, found)| found.left() != found.right())
    ///     .map(|(range, found)| (range.first(), found))
    ///     .collect();
    /// assert_eq!(
    ///     changes,
    ///     [(0x2000, Overlaid::Both(&'w', &'r')), (0x8000, Overlaid::Right(&'x'))],
    /// );
    /// # Ok::<(), maple_tree::OutOfNodes>(())
    /// ```
    #[doc(alias = "compare")]
    #[doc(alias = "diff")]
    #[doc(alias = "difference")]
    #[doc(alias = "zip")]
    #[must_use]
    pub fn overlay<'a, U: Entry, R: NodeSource>(
        &'a self,
        other: &'a MapleTree<U, R>,
    ) -> Overlay<'a, T, U> {
        Overlay {
            left: Side::of(self.iter()),
            right: Side::of(other.iter()),
        }
    }
}

/// What two trees hold over a range: an entry in one of them, or in both.
#[derive(Debug, PartialEq, Eq)]
pub enum Overlaid<'a, T, U> {
    /// An entry in the tree that [`overlay`](MapleTree::overlay) was called on.
    Left(&'a T),
    /// An entry in the other tree.
    Right(&'a U),
    /// An entry in both.
    Both(&'a T, &'a U),
}

impl<'a, T, U> Overlaid<'a, T, U> {
    /// Returns the value in the tree that [`overlay`](MapleTree::overlay) was called on.
    ///
    /// # Complexity
    ///
    /// O(1).
    ///
    /// # Examples
    ///
    /// ```
    /// use maple_tree::Overlaid;
    ///
    /// assert_eq!(Overlaid::Both(&1, &'x').left(), Some(&1));
    /// assert_eq!(Overlaid::<u8, _>::Right(&'x').left(), None);
    /// ```
    #[must_use]
    pub fn left(self) -> Option<&'a T> {
        match self {
            Self::Left(value) | Self::Both(value, _) => Some(value),
            Self::Right(_) => None,
        }
    }

    /// Returns the value in the other tree.
    ///
    /// # Complexity
    ///
    /// O(1).
    ///
    /// # Examples
    ///
    /// ```
    /// use maple_tree::Overlaid;
    ///
    /// assert_eq!(Overlaid::Both(&1, &'x').right(), Some(&'x'));
    /// assert_eq!(Overlaid::<_, u8>::Left(&1).right(), None);
    /// ```
    #[must_use]
    pub fn right(self) -> Option<&'a U> {
        match self {
            Self::Right(value) | Self::Both(_, value) => Some(value),
            Self::Left(_) => None,
        }
    }
}

impl<T, U> Clone for Overlaid<'_, T, U> {
    fn clone(&self) -> Self {
        *self
    }
}

impl<T, U> Copy for Overlaid<'_, T, U> {}

/// An iterator over two trees in step; see [`MapleTree::overlay`].
pub struct Overlay<'a, T, U> {
    left: Side<'a, T>,
    right: Side<'a, U>,
}

/// One of the two trees.
struct Side<'a, T> {
    entries: Iter<'a, T>,
    /// The first entry that has not been yielded, or what is left of it.
    ahead: Option<(IndexRange, &'a T)>,
}

impl<'a, T> Side<'a, T> {
    fn of(mut entries: Iter<'a, T>) -> Self {
        let ahead = entries.next();
        Self { entries, ahead }
    }

    fn range(&self) -> Option<IndexRange> {
        self.ahead.map(|(range, _)| range)
    }

    /// Takes what lies in `piece`, which does not reach over the end of the entry ahead.
    fn take(&mut self, piece: IndexRange) -> Option<&'a T> {
        let (range, value) = self.ahead?;
        if range.first() > piece.last() {
            return None;
        }
        let rest = range.above(piece.last()).map(|rest| (rest, value));
        self.ahead = rest.or_else(|| self.entries.next());
        Some(value)
    }
}

impl<'a, T, U> Iterator for Overlay<'a, T, U> {
    type Item = (IndexRange, Overlaid<'a, T, U>);

    fn next(&mut self) -> Option<Self::Item> {
        let ahead = [self.left.range(), self.right.range()];
        let ahead = ahead.into_iter().flatten();
        let first = ahead.clone().map(IndexRange::first).min()?;
        // The piece ends with an entry, or where another begins.
        let last = ahead.map(|range| {
            if range.first() > first {
                range.first() - 1
            } else {
                range.last()
            }
        });
        let piece = IndexRange::new(first, last.min()?)?;
        let found = match (self.left.take(piece), self.right.take(piece)) {
            (Some(left), Some(right)) => Overlaid::Both(left, right),
            (Some(left), None) => Overlaid::Left(left),
            (None, Some(right)) => Overlaid::Right(right),
            (None, None) => return None,
        };
        Some((piece, found))
    }
}

impl<T, U> FusedIterator for Overlay<'_, T, U> {}

impl<T> Clone for Side<'_, T> {
    fn clone(&self) -> Self {
        Self {
            entries: self.entries.clone(),
            ahead: self.ahead,
        }
    }
}

impl<T, U> Clone for Overlay<'_, T, U> {
    fn clone(&self) -> Self {
        Self {
            left: self.left.clone(),
            right: self.right.clone(),
        }
    }
}

impl<T, U> fmt::Debug for Overlay<'_, T, U> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Overlay")
            .field("left", &self.left.range())
            .field("right", &self.right.range())
            .finish_non_exhaustive()
    }
}
