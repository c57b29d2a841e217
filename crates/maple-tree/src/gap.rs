//! Gap search: the lowest or highest place where a length fits.

use core::num::NonZeroU64;

use arrayvec::ArrayVec;

use crate::node::{HEIGHT_MAX, Kind, Node};
use crate::source::NodeSource;
use crate::tree::MapleTree;
use crate::walk::LeafAt;
use crate::{Entry, IndexRange};

/// What a gap search looks for.
///
/// # Examples
///
/// ```
/// use core::num::NonZeroU64;
/// use maple_tree::{Alignment, GapRequest, IndexRange, MapleTree};
///
/// let mut tree = MapleTree::with_gaps();
/// tree.insert(IndexRange::new(0x1000, 0x1fff).unwrap(), 'x')?;
///
/// let request = GapRequest::new(NonZeroU64::new(0x1000).unwrap())
///     .within(IndexRange::new(0x800, 0xffff).unwrap())
///     .aligned(Alignment::new(0x1000).unwrap());
/// assert_eq!(tree.lowest_gap(&request), IndexRange::new(0x2000, 0x2fff));
/// assert_eq!(tree.highest_gap(&request), IndexRange::new(0xf000, 0xffff));
/// # Ok::<(), maple_tree::StoreError<char>>(())
/// ```
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct GapRequest {
    length: NonZeroU64,
    window: IndexRange,
    alignment: Alignment,
}

impl GapRequest {
    /// Makes a request for `length` vacant indices in a row, anywhere.
    ///
    /// # Complexity
    ///
    /// O(1).
    ///
    /// # Examples
    ///
    /// ```
    /// use core::num::NonZeroU64;
    /// use maple_tree::{GapRequest, IndexRange, MapleTree};
    ///
    /// let tree = MapleTree::<u64>::with_gaps();
    /// let four = GapRequest::new(NonZeroU64::new(4).unwrap());
    /// assert_eq!(tree.lowest_gap(&four), IndexRange::new(0, 3));
    /// assert_eq!(tree.highest_gap(&four), IndexRange::new(u64::MAX - 3, u64::MAX));
    /// ```
    #[must_use]
    pub const fn new(length: NonZeroU64) -> Self {
        Self {
            length,
            window: IndexRange::FULL,
            alignment: Alignment::ANY,
        }
    }

    /// Looks within `window` only: all indices of the place lie in it.
    ///
    /// # Complexity
    ///
    /// O(1).
    ///
    /// # Examples
    ///
    /// ```
    /// use core::num::NonZeroU64;
    /// use maple_tree::{GapRequest, IndexRange, MapleTree};
    ///
    /// let tree = MapleTree::<u64>::with_gaps();
    /// let four = GapRequest::new(NonZeroU64::new(4).unwrap());
    /// assert_eq!(
    ///     tree.lowest_gap(&four.within(IndexRange::new(7, 99).unwrap())),
    ///     IndexRange::new(7, 10),
    /// );
    /// assert_eq!(tree.lowest_gap(&four.within(IndexRange::new(7, 9).unwrap())), None);
    /// ```
    #[must_use]
    pub const fn within(self, window: IndexRange) -> Self {
        Self { window, ..self }
    }

    /// Looks for a place whose first index is aligned.
    ///
    /// # Complexity
    ///
    /// O(1).
    ///
    /// # Examples
    ///
    /// ```
    /// use core::num::NonZeroU64;
    /// use maple_tree::{Alignment, GapRequest, IndexRange, MapleTree};
    ///
    /// let tree = MapleTree::<u64>::with_gaps();
    /// let four = GapRequest::new(NonZeroU64::new(4).unwrap());
    /// let request = four
    ///     .within(IndexRange::new(7, 99).unwrap())
    ///     .aligned(Alignment::new(16).unwrap());
    /// assert_eq!(tree.lowest_gap(&request), IndexRange::new(16, 19));
    /// ```
    #[must_use]
    pub const fn aligned(self, alignment: Alignment) -> Self {
        Self { alignment, ..self }
    }

    /// The lowest place in `gap`.
    fn lowest_in(&self, gap: IndexRange) -> Option<IndexRange> {
        let gap = gap.intersection(self.window)?;
        let first = self.alignment.at_or_above(gap.first())?;
        let last = first.checked_add(self.length.get() - 1)?;
        IndexRange::new(first, last).filter(|&place| gap.contains_range(place))
    }

    /// The highest place in `gap`.
    fn highest_in(&self, gap: IndexRange) -> Option<IndexRange> {
        let gap = gap.intersection(self.window)?;
        let highest = gap.last().checked_sub(self.length.get() - 1)?;
        let first = self.alignment.at_or_below(highest)?;
        let last = first + (self.length.get() - 1);
        IndexRange::new(first, last).filter(|&place| gap.contains_range(place))
    }
}

/// Indices that leave a given remainder when divided by a power of two.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Alignment {
    mask: u64,
    offset: u64,
}

impl Alignment {
    /// Every index.
    pub const ANY: Self = Self { mask: 0, offset: 0 };

    /// Makes the multiples of `align`, or `None` if it is not a power of two.
    ///
    /// # Complexity
    ///
    /// O(1).
    ///
    /// # Examples
    ///
    /// ```
    /// use maple_tree::Alignment;
    ///
    /// assert!(Alignment::new(4096).is_some());
    /// assert_eq!(Alignment::new(1), Some(Alignment::ANY));
    /// assert_eq!((Alignment::new(0), Alignment::new(24)), (None, None));
    /// ```
    #[must_use]
    pub const fn new(align: u64) -> Option<Self> {
        if align.is_power_of_two() {
            Some(Self {
                mask: align - 1,
                offset: 0,
            })
        } else {
            None
        }
    }

    /// Makes the indices that leave the remainder of `offset` instead of zero.
    ///
    /// # Complexity
    ///
    /// O(1).
    ///
    /// # Examples
    ///
    /// ```
    /// use core::num::NonZeroU64;
    /// use maple_tree::{Alignment, GapRequest, IndexRange, MapleTree};
    ///
    /// let tree = MapleTree::<u64>::with_gaps();
    /// let four = GapRequest::new(NonZeroU64::new(4).unwrap());
    /// let request = four.aligned(Alignment::new(16).unwrap().with_offset(3));
    /// assert_eq!(tree.lowest_gap(&request), IndexRange::new(3, 6));
    /// ```
    #[must_use]
    pub const fn with_offset(self, offset: u64) -> Self {
        Self {
            offset: offset & self.mask,
            ..self
        }
    }

    const fn at_or_above(self, index: u64) -> Option<u64> {
        index.checked_add(self.offset.wrapping_sub(index) & self.mask)
    }

    const fn at_or_below(self, index: u64) -> Option<u64> {
        index.checked_sub(index.wrapping_sub(self.offset) & self.mask)
    }
}

/// From which end a search takes gaps.
#[derive(Clone, Copy, PartialEq, Eq)]
enum End {
    Lowest,
    Highest,
}

impl<T: Entry, S: NodeSource> MapleTree<T, S> {
    /// Returns the lowest place where `request` fits, or `None` if there is none.
    ///
    /// # Complexity
    ///
    /// O(log n) where the tree [tracks gaps](Self::tracks_gaps), and one more
    /// step for every gap that is long enough but offers no aligned place;
    /// O(n) where it does not.
    ///
    /// # Examples
    ///
    /// ```
    /// use core::num::NonZeroU64;
    /// use maple_tree::{GapRequest, IndexRange, MapleTree};
    ///
    /// let mut tree = MapleTree::with_gaps();
    /// tree.insert(IndexRange::new(0, 15).unwrap(), 'x')?;
    /// let request = GapRequest::new(NonZeroU64::new(4).unwrap());
    /// assert_eq!(tree.lowest_gap(&request), IndexRange::new(16, 19));
    /// # Ok::<(), maple_tree::StoreError<char>>(())
    /// ```
    #[must_use]
    #[doc(alias = "mas_empty_area")]
    pub fn lowest_gap(&self, request: &GapRequest) -> Option<IndexRange> {
        self.search(request, End::Lowest)
    }

    /// Returns the highest place where `request` fits, or `None` if there is none.
    ///
    /// # Complexity
    ///
    /// As [`lowest_gap`](Self::lowest_gap).
    ///
    /// # Examples
    ///
    /// ```
    /// use core::num::NonZeroU64;
    /// use maple_tree::{GapRequest, IndexRange, MapleTree};
    ///
    /// let mut tree = MapleTree::with_gaps();
    /// tree.insert(IndexRange::new(0, 15).unwrap(), 'x')?;
    /// let request = GapRequest::new(NonZeroU64::new(4).unwrap());
    /// let request = request.within(IndexRange::new(0, 99).unwrap());
    /// assert_eq!(tree.highest_gap(&request), IndexRange::new(96, 99));
    /// # Ok::<(), maple_tree::StoreError<char>>(())
    /// ```
    #[must_use]
    #[doc(alias = "mas_empty_area_rev")]
    pub fn highest_gap(&self, request: &GapRequest) -> Option<IndexRange> {
        self.search(request, End::Highest)
    }

    fn search(&self, request: &GapRequest, end: End) -> Option<IndexRange> {
        match self.root() {
            Some(root) if self.branches == Kind::Gaps => Search { request, end }.below(root),
            _ if end == End::Lowest => self
                .gaps(request.window)
                .find_map(|gap| request.lowest_in(gap)),
            _ => self
                .gaps(request.window)
                .rev()
                .find_map(|gap| request.highest_in(gap)),
        }
    }
}

struct Search<'a> {
    request: &'a GapRequest,
    end: End,
}

struct Step<'t, T> {
    node: &'t Node<T>,
    range: IndexRange,
    /// A bit for each child that is still to be looked at; none in a leaf.
    left: u32,
}

impl Search<'_> {
    /// Walks down to gaps that are long enough, from one end to the other.
    ///
    /// A child is entered only if its longest gap is long enough; it can still
    /// disappoint where that gap reaches out of the window, which only a child
    /// at the window's edge does.
    fn below<T>(&self, root: &Node<T>) -> Option<IndexRange> {
        let mut path: ArrayVec<Step<'_, T>, HEIGHT_MAX> = ArrayVec::new();
        path.push(self.step(root, IndexRange::FULL));
        while let Some(step) = path.last_mut() {
            if step.node.is_leaf() {
                let found = self.in_leaf(LeafAt {
                    node: step.node,
                    range: step.range,
                });
                if found.is_some() {
                    return found;
                }
                path.pop();
                continue;
            }
            match self.next_child(step) {
                Some(child) => path.push(child),
                None => {
                    path.pop();
                }
            }
        }
        None
    }

    fn step<'t, T>(&self, node: &'t Node<T>, range: IndexRange) -> Step<'t, T> {
        let left = if node.is_leaf() {
            0
        } else {
            node.slots_with_gap(self.request.length)
        };
        Step { node, range, left }
    }

    fn next_child<'t, T>(&self, step: &mut Step<'t, T>) -> Option<Step<'t, T>> {
        let Step { node, range, .. } = *step;
        while step.left != 0 {
            let slot = match self.end {
                End::Lowest => step.left.trailing_zeros(),
                End::Highest => step.left.ilog2(),
            };
            step.left &= !(1 << slot);
            let slot = slot as usize;
            let child = IndexRange::new(
                node.child_min(slot, range.first()),
                node.pivot_or(slot, range.last()),
            )?;
            if child.overlaps(self.request.window) {
                return Some(self.step(node.child(slot), child));
            }
        }
        None
    }

    /// The slot that is looked at as the `at`-th of `count`.
    fn nth(&self, at: usize, count: usize) -> usize {
        match self.end {
            End::Lowest => at,
            End::Highest => count - 1 - at,
        }
    }

    fn in_leaf<T>(&self, leaf: LeafAt<'_, T>) -> Option<IndexRange> {
        let LeafAt { node, range } = leaf;
        // The hole before the first entry, the slots, the hole behind the last.
        let places = node.count() + 2;
        (0..places).find_map(|at| {
            let place = self.nth(at, places);
            let gap = match place {
                0 => range.below(node.lower()),
                _ if place == places - 1 => range.above(node.upper()),
                _ => node.hole(place - 1),
            };
            match self.end {
                End::Lowest => self.request.lowest_in(gap?),
                End::Highest => self.request.highest_in(gap?),
            }
        })
    }
}
