//! [`MapleTree`]: the tree itself, how it is made, and what can be looked up in it.

use core::fmt;

use crate::clone_fn::CloneFn;
use crate::error::OutOfNodes;
use crate::limbo::Limbo;
use crate::node::{Kind, Node, Root};
use crate::pool::Pool;
use crate::source::{HeapNodes, NodeSource};
use crate::view::View;
use crate::{Entry, IndexRange};

/// A map from ranges of `u64` to values, every index of which holds an entry or a gap.
///
/// A range-keyed B-tree after Linux's maple tree: entries are disjoint,
/// inclusive ranges; storing over a range overwrites what was there and cuts
/// what reaches out of it; gaps can be searched; [`snapshot`](Self::snapshot)
/// is O(1) and shares nodes until one side writes. Every write can fail for
/// lack of memory, and then leaves the tree as it was.
///
/// Entries equal to their neighbours stay apart: coalescing is the caller's choice.
///
/// `n` below is the number of entries. A tree made by [`new`](Self::new) has a
/// fan-out of 16; one made by [`with_gaps`](Self::with_gaps) also keeps the
/// longest gap below each child, which makes gap searches logarithmic and
/// costs a fan-out of 10.
///
/// If dropping an entry panics, entries that were to be dropped after it leak.
///
/// A tree is invariant in `T`: one of `&'static u64` does not pass for one of
/// references that live less long.
///
/// # Its methods, by what they are for
///
/// | to | call |
/// |---|---|
/// | make one | [`new`](Self::new), [`with_gaps`](Self::with_gaps), `collect`; from entries in order [`from_sorted`](Self::from_sorted); with nodes of one's own [`new_in`](Self::new_in) |
/// | look at one index | [`get`](Self::get), [`entry`](Self::entry) (with its bounds), [`find`](Self::find) (or the gap) |
/// | find the next | [`at_or_after`](Self::at_or_after), [`after`](Self::after), [`at_or_before`](Self::at_or_before), [`before`](Self::before), [`first`](Self::first), [`last`](Self::last) |
/// | iterate | [`iter`](Self::iter), [`range`](Self::range), [`gaps`](Self::gaps), [`segments`](Self::segments) (both); there and back, [`cursor`](Self::cursor); with another tree, [`overlay`](Self::overlay) |
/// | write | [`insert`](Self::insert) where nothing is, [`store`](Self::store) over anything, [`erase`](Self::erase) an entry, [`remove`](Self::remove) a range |
/// | see what goes | [`store_with`](Self::store_with), [`remove_with`](Self::remove_with) |
/// | look, then write in the same place | [`slot`](Self::slot), [`cursor_mut`](Self::cursor_mut) |
/// | change values | [`get_mut`](Self::get_mut), [`for_each_mut`](Self::for_each_mut) |
/// | find room | [`lowest_gap`](Self::lowest_gap), [`highest_gap`](Self::highest_gap); and store there, [`allocate_lowest`](Self::allocate_lowest), [`allocate_highest`](Self::allocate_highest), [`allocate_cyclic`](Self::allocate_cyclic) |
/// | write without failing | [`preallocate`](Self::preallocate) |
/// | have it twice | [`snapshot`](Self::snapshot), [`duplicate`](Self::duplicate), [`duplicate_with`](Self::duplicate_with) |
/// | cut and join | [`split_at`](Self::split_at), [`append`](Self::append), [`bulk_load`](Self::bulk_load), [`retain`](Self::retain) |
/// | look inside | [`dump`](Self::dump), [`validate`](Self::validate), [`memory_usage`](Self::memory_usage) |
///
/// # Examples
///
/// ```
/// use maple_tree::{IndexRange, MapleTree};
///
/// let mut areas = MapleTree::with_gaps();
/// areas.insert(IndexRange::new(0x1000, 0x3fff).unwrap(), 'a')?;
/// areas.insert(IndexRange::new(0x8000, 0x8fff).unwrap(), 'b')?;
///
/// // Overwriting the middle of an entry leaves its two ends.
/// areas.store(IndexRange::new(0x2000, 0x2fff).unwrap(), 'c')?;
/// let all: Vec<_> = areas.iter().map(|(range, &value)| (range.first(), value)).collect();
/// assert_eq!(all, [(0x1000, 'a'), (0x2000, 'c'), (0x3000, 'a'), (0x8000, 'b')]);
/// # Ok::<(), maple_tree::StoreError<char>>(())
/// ```
#[doc(alias = "mtree_destroy")]
#[doc(alias = "__mt_destroy")]
pub struct MapleTree<T: Entry, S: NodeSource = HeapNodes> {
    pub(crate) root: Root<T>,
    pub(crate) height: usize,
    pub(crate) len: usize,
    pub(crate) branches: Kind,
    pub(crate) pool: Pool<S>,
    pub(crate) clone_fn: CloneFn<T>,
    pub(crate) limbo: Limbo<T>,
}

impl<T: Entry> MapleTree<T> {
    /// Makes an empty tree without gap tracking.
    ///
    /// # Complexity
    ///
    /// O(1); allocates nothing.
    ///
    /// # Examples
    ///
    /// ```
    /// use maple_tree::MapleTree;
    ///
    /// let tree = MapleTree::<u64>::new();
    /// assert!(tree.is_empty() && !tree.tracks_gaps());
    /// ```
    #[doc(alias = "mt_init")]
    #[doc(alias = "MTREE_INIT")]
    #[doc(alias = "DEFINE_MTREE")]
    #[must_use]
    pub const fn new() -> Self {
        Self::empty(Kind::Plain, HeapNodes)
    }

    /// Makes an empty tree that tracks gaps.
    ///
    /// # Complexity
    ///
    /// O(1); allocates nothing.
    ///
    /// # Examples
    ///
    /// ```
    /// use maple_tree::MapleTree;
    ///
    /// let tree = MapleTree::<u64>::with_gaps();
    /// assert!(tree.is_empty() && tree.tracks_gaps());
    /// ```
    #[doc(alias = "mt_init_flags")]
    #[doc(alias = "MT_FLAGS_ALLOC_RANGE")]
    #[must_use]
    pub const fn with_gaps() -> Self {
        Self::empty(Kind::Gaps, HeapNodes)
    }
}

impl<T: Entry, S: NodeSource> MapleTree<T, S> {
    /// Makes an empty tree without gap tracking whose nodes come from `source`.
    ///
    /// # Complexity
    ///
    /// O(1); allocates nothing.
    ///
    /// # Examples
    ///
    /// ```
    /// use maple_tree::{HeapNodes, IndexRange, MapleTree};
    ///
    /// // `HeapNodes` is what `new` takes; see `NodeSource` for one of your own.
    /// let mut tree = MapleTree::new_in(HeapNodes);
    /// tree.insert(IndexRange::single(1), 'x')?;
    /// assert!(!tree.tracks_gaps());
    /// # Ok::<(), maple_tree::StoreError<char>>(())
    /// ```
    #[must_use]
    pub const fn new_in(source: S) -> Self {
        Self::empty(Kind::Plain, source)
    }

    /// Makes an empty tree that tracks gaps, whose nodes come from `source`.
    ///
    /// # Complexity
    ///
    /// O(1); allocates nothing.
    ///
    /// # Examples
    ///
    /// ```
    /// use maple_tree::{HeapNodes, IndexRange, MapleTree};
    ///
    /// // `HeapNodes` is what `with_gaps` takes; see `NodeSource` for one of your own.
    /// let mut tree = MapleTree::with_gaps_in(HeapNodes);
    /// tree.insert(IndexRange::single(1), 'x')?;
    /// assert!(tree.tracks_gaps());
    /// # Ok::<(), maple_tree::StoreError<char>>(())
    /// ```
    #[must_use]
    pub const fn with_gaps_in(source: S) -> Self {
        Self::empty(Kind::Gaps, source)
    }

    pub(crate) const fn empty(branches: Kind, source: S) -> Self {
        Self {
            root: Root::EMPTY,
            height: 0,
            len: 0,
            branches,
            pool: Pool::new(source),
            clone_fn: CloneFn::unset(),
            limbo: Limbo::new(),
        }
    }

    pub(crate) fn root(&self) -> Option<&Node<T>> {
        self.root.node()
    }

    pub(crate) fn view(&self) -> View<'_, T> {
        View::below(self.root.node())
    }

    /// Returns whether the tree holds no entry.
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
    /// assert!(tree.is_empty());
    /// tree.insert(IndexRange::single(0), 'x')?;
    /// assert!(!tree.is_empty());
    /// # Ok::<(), maple_tree::StoreError<char>>(())
    /// ```
    #[doc(alias = "mtree_empty")]
    #[must_use]
    pub fn is_empty(&self) -> bool {
        self.root().is_none()
    }

    /// Returns the number of entries, however many indices each of them covers.
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
    /// tree.insert(IndexRange::new(10, 19).unwrap(), 'x')?;
    /// assert_eq!(tree.len(), 1);
    /// // Cutting an entry in two makes two of it.
    /// tree.remove(IndexRange::single(15)).unwrap();
    /// assert_eq!(tree.len(), 2);
    /// # Ok::<(), maple_tree::StoreError<char>>(())
    /// ```
    #[must_use]
    pub fn len(&self) -> usize {
        self.len
    }

    /// Returns the number of node levels; 0 for an empty tree.
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
    /// let one: MapleTree<u64> = (0..1).map(|i| (IndexRange::single(i), i)).collect();
    /// let many: MapleTree<u64> = (0..100).map(|i| (IndexRange::single(i), i)).collect();
    /// assert_eq!((MapleTree::<u64>::new().height(), one.height(), many.height()), (0, 1, 2));
    /// ```
    #[doc(alias = "mt_height")]
    #[must_use]
    pub fn height(&self) -> usize {
        self.height
    }

    /// Returns whether the tree keeps the longest gap below each child.
    ///
    /// # Complexity
    ///
    /// O(1).
    ///
    /// # Examples
    ///
    /// ```
    /// use maple_tree::MapleTree;
    ///
    /// assert!(!MapleTree::<u64>::new().tracks_gaps());
    /// assert!(MapleTree::<u64>::with_gaps().tracks_gaps());
    /// ```
    #[must_use]
    pub fn tracks_gaps(&self) -> bool {
        self.branches == Kind::Gaps
    }

    /// Returns the bytes this tree uses: itself, its nodes (those shared with a
    /// snapshot included) and the few free nodes it keeps.
    ///
    /// What entries point to is not counted.
    ///
    /// # Complexity
    ///
    /// O(n / 16): every node is visited.
    ///
    /// # Examples
    ///
    /// ```
    /// use maple_tree::{IndexRange, MapleTree};
    ///
    /// let mut tree = MapleTree::new();
    /// assert_eq!(tree.memory_usage(), size_of_val(&tree));
    /// tree.insert(IndexRange::single(0), 'x')?;
    /// assert!(tree.memory_usage() >= size_of_val(&tree) + 256); // and one node
    /// # Ok::<(), maple_tree::StoreError<char>>(())
    /// ```
    #[doc(alias = "mt_get_alloc_size")]
    #[doc(alias = "mt_nr_allocated")]
    #[doc(alias = "mt_nr_tallocated")]
    #[must_use]
    pub fn memory_usage(&self) -> usize {
        (self.node_count() + self.pool.len()) * size_of::<Node<T>>() + size_of::<Self>()
    }

    /// Frees the nodes that the tree keeps for its next writes, at most a few dozen.
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
    /// let mut tree: MapleTree<u64> = (0..9).map(|i| (IndexRange::single(i), i)).collect();
    /// tree.clear();
    /// tree.shrink_to_fit();
    /// assert_eq!(tree.memory_usage(), size_of_val(&tree));
    /// ```
    pub fn shrink_to_fit(&mut self) {
        self.pool.shrink_to_fit();
    }

    /// Returns the entry at `index`.
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
    /// tree.insert(IndexRange::new(10, 19).unwrap(), 1_u64)?;
    /// assert_eq!(tree.get(19), Some(&1));
    /// assert_eq!(tree.get(20), None);
    /// # Ok::<(), maple_tree::StoreError<u64>>(())
    /// ```
    #[inline]
    #[must_use]
    #[doc(alias = "mtree_load")]
    pub fn get(&self, index: u64) -> Option<&T> {
        self.view().get(index)
    }

    /// Returns the entry at `index`, to be changed in place.
    ///
    /// A snapshot does not see the change: nodes shared with one are copied
    /// first. So this may run `T::clone` on all entries of a leaf, up to 15.
    ///
    /// # Complexity
    ///
    /// O(log n); allocates one node per shared level.
    ///
    /// # Errors
    ///
    /// [`OutOfNodes`] if a shared node could not be copied. The content of the
    /// tree is unchanged.
    ///
    /// # Panics
    ///
    /// If `T::clone` panics, which runs for every entry of a leaf that a snapshot
    /// shares. The content of the tree is then unchanged.
    ///
    /// # Examples
    ///
    /// ```
    /// use maple_tree::{IndexRange, MapleTree};
    ///
    /// let mut tree = MapleTree::new();
    /// tree.insert(IndexRange::single(4), 1_u64).unwrap();
    /// let before = tree.snapshot();
    /// *tree.get_mut(4)?.unwrap() += 1;
    /// assert_eq!((tree.get(4), before.get(4)), (Some(&2), Some(&1)));
    /// # Ok::<(), maple_tree::OutOfNodes>(())
    /// ```
    pub fn get_mut(&mut self, index: u64) -> Result<Option<&mut T>, OutOfNodes> {
        if self.get(index).is_none() {
            return Ok(None);
        }
        let leaf = self.unshared_leaf(index)?;
        let slot = leaf.leaf_slot(index);
        Ok(leaf.entry_mut(slot))
    }

    /// Returns the entry or gap around `index`, with its bounds.
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
    /// assert_eq!(tree.find(12), Segment::Entry(IndexRange::new(10, 19).unwrap(), &'x'));
    /// assert_eq!(tree.find(20), Segment::Gap(IndexRange::new(20, u64::MAX).unwrap()));
    /// # Ok::<(), maple_tree::StoreError<char>>(())
    /// ```
    #[must_use]
    #[doc(alias = "mas_walk")]
    pub fn find(&self, index: u64) -> Segment<'_, T> {
        self.view().find(index)
    }

    /// Returns the entry at `index`, with its bounds.
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
    /// tree.insert(IndexRange::new(10, 19).unwrap(), 'x')?;
    /// assert_eq!(tree.entry(12), Some((IndexRange::new(10, 19).unwrap(), &'x')));
    /// assert_eq!(tree.entry(20), None);
    /// # Ok::<(), maple_tree::StoreError<char>>(())
    /// ```
    #[must_use]
    pub fn entry(&self, index: u64) -> Option<(IndexRange, &T)> {
        self.view().entry(index)
    }

    /// Returns the entry with the lowest indices.
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
    /// let tree: MapleTree<u64> = (0..3).map(|i| (IndexRange::single(i * 10), i)).collect();
    /// assert_eq!(tree.first(), Some((IndexRange::single(0), &0)));
    /// assert_eq!(MapleTree::<u64>::new().first(), None);
    /// ```
    #[must_use]
    pub fn first(&self) -> Option<(IndexRange, &T)> {
        self.view().at_or_after(0)
    }

    /// Returns the entry with the highest indices.
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
    /// let tree: MapleTree<u64> = (0..3).map(|i| (IndexRange::single(i * 10), i)).collect();
    /// assert_eq!(tree.last(), Some((IndexRange::single(20), &2)));
    /// assert_eq!(MapleTree::<u64>::new().last(), None);
    /// ```
    #[must_use]
    pub fn last(&self) -> Option<(IndexRange, &T)> {
        self.view().at_or_before(u64::MAX)
    }

    /// Returns the entry at `index`, else the first one above it.
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
    /// tree.insert(IndexRange::new(10, 19).unwrap(), 'x')?;
    /// assert_eq!(tree.at_or_after(0).unwrap().0.first(), 10);
    /// assert_eq!(tree.at_or_after(19).unwrap().0.first(), 10);
    /// assert_eq!(tree.at_or_after(20), None);
    /// # Ok::<(), maple_tree::StoreError<char>>(())
    /// ```
    #[must_use]
    #[doc(alias = "mas_find")]
    #[doc(alias = "mt_find")]
    pub fn at_or_after(&self, index: u64) -> Option<(IndexRange, &T)> {
        self.view().at_or_after(index)
    }

    /// Returns the entry at `index`, else the last one below it.
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
    /// tree.insert(IndexRange::new(10, 19).unwrap(), 'x')?;
    /// assert_eq!(tree.at_or_before(50).unwrap().0.last(), 19);
    /// assert_eq!(tree.at_or_before(10).unwrap().0.last(), 19);
    /// assert_eq!(tree.at_or_before(9), None);
    /// # Ok::<(), maple_tree::StoreError<char>>(())
    /// ```
    #[must_use]
    #[doc(alias = "mas_find_rev")]
    pub fn at_or_before(&self, index: u64) -> Option<(IndexRange, &T)> {
        self.view().at_or_before(index)
    }

    /// Returns the first entry that begins above `index`.
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
    /// tree.insert(IndexRange::new(10, 19).unwrap(), 'x')?;
    /// assert_eq!(tree.after(9).unwrap().0.first(), 10);
    /// assert_eq!(tree.after(10), None); // the entry at 10 begins there, not above
    /// # Ok::<(), maple_tree::StoreError<char>>(())
    /// ```
    #[must_use]
    #[doc(alias = "mas_next")]
    #[doc(alias = "mt_next")]
    pub fn after(&self, index: u64) -> Option<(IndexRange, &T)> {
        self.view().after(index)
    }

    /// Returns the last entry that ends below `index`.
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
    /// tree.insert(IndexRange::new(10, 19).unwrap(), 'x')?;
    /// assert_eq!(tree.before(20).unwrap().0.last(), 19);
    /// assert_eq!(tree.before(19), None); // the entry at 19 ends there, not below
    /// # Ok::<(), maple_tree::StoreError<char>>(())
    /// ```
    #[must_use]
    #[doc(alias = "mas_prev")]
    #[doc(alias = "mt_prev")]
    pub fn before(&self, index: u64) -> Option<(IndexRange, &T)> {
        self.view().before(index)
    }

    /// Returns whether no index of `range` holds an entry.
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
    /// tree.insert(IndexRange::new(10, 19).unwrap(), 'x')?;
    /// assert!(tree.is_vacant(IndexRange::new(0, 9).unwrap()));
    /// assert!(!tree.is_vacant(IndexRange::new(0, 10).unwrap()));
    /// # Ok::<(), maple_tree::StoreError<char>>(())
    /// ```
    #[must_use]
    pub fn is_vacant(&self, range: IndexRange) -> bool {
        self.view().is_vacant(range)
    }

    /// Nodes reachable from the root.
    pub(crate) fn node_count(&self) -> usize {
        let mut count = 0;
        crate::validate::for_each_node(self.root(), |_| count += 1);
        count
    }
}

impl<T: Entry, S: NodeSource> Drop for MapleTree<T, S> {
    fn drop(&mut self) {
        if let Some(root) = self.root.replace(None) {
            self.pool.release(root);
        }
    }
}

impl<T: Entry> Default for MapleTree<T> {
    fn default() -> Self {
        Self::new()
    }
}

impl<T: Entry + fmt::Debug, S: NodeSource> fmt::Debug for MapleTree<T, S> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_map().entries(self.iter()).finish()
    }
}

/// What a part of the index space holds: an entry, or nothing.
///
/// [`MapleTree::find`], cursors and [`MapleTree::segments`] return it; between them the
/// segments of a tree cover every index once.
#[derive(Debug, PartialEq, Eq)]
pub enum Segment<'a, T> {
    /// An entry over the whole of the range.
    Entry(IndexRange, &'a T),
    /// No entry at any index of the range.
    Gap(IndexRange),
}

impl<T> Clone for Segment<'_, T> {
    fn clone(&self) -> Self {
        *self
    }
}

impl<T> Copy for Segment<'_, T> {}

impl<'a, T> Segment<'a, T> {
    /// Returns the bounds, inclusive.
    ///
    /// # Complexity
    ///
    /// O(1).
    ///
    /// # Examples
    ///
    /// ```
    /// use maple_tree::{IndexRange, Segment};
    ///
    /// let range = IndexRange::new(10, 19).unwrap();
    /// assert_eq!(Segment::Entry(range, &'x').range(), range);
    /// assert_eq!(Segment::<char>::Gap(range).range(), range);
    /// ```
    #[must_use]
    pub fn range(self) -> IndexRange {
        match self {
            Self::Entry(range, _) | Self::Gap(range) => range,
        }
    }

    /// Returns the value, or `None` for a gap.
    ///
    /// # Complexity
    ///
    /// O(1).
    ///
    /// # Examples
    ///
    /// ```
    /// use maple_tree::{IndexRange, Segment};
    ///
    /// let range = IndexRange::new(10, 19).unwrap();
    /// assert_eq!(Segment::Entry(range, &'x').entry(), Some(&'x'));
    /// assert_eq!(Segment::<char>::Gap(range).entry(), None);
    /// ```
    #[must_use]
    pub fn entry(self) -> Option<&'a T> {
        match self {
            Self::Entry(_, value) => Some(value),
            Self::Gap(_) => None,
        }
    }

    /// Returns whether this is a gap.
    ///
    /// # Complexity
    ///
    /// O(1).
    ///
    /// # Examples
    ///
    /// ```
    /// use maple_tree::{IndexRange, Segment};
    ///
    /// let range = IndexRange::new(10, 19).unwrap();
    /// assert!(Segment::<char>::Gap(range).is_gap());
    /// assert!(!Segment::Entry(range, &'x').is_gap());
    /// ```
    #[must_use]
    pub fn is_gap(self) -> bool {
        matches!(self, Self::Gap(_))
    }
}
