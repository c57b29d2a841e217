//! [`Preallocation`]: writes that cannot fail, because their nodes are there.

use core::fmt;
use core::ops::Deref;

use crate::error::{Occupied, OutOfNodes, StoreErrorKind};
use crate::limbo::RECORDS;
use crate::node::{HEIGHT_MAX, LEAF_ENTRIES_MIN, NodeMemory};
use crate::source::{HeapNodes, NodeSource};
use crate::tree::MapleTree;
use crate::write::CARRY_MAX;
use crate::{Entry, IndexRange};

/// No memory holds more nodes. Asking for them would take all there is before it fails.
const NODES_MAX: usize = isize::MAX as usize / size_of::<NodeMemory>();

impl<T: Entry, S: NodeSource> MapleTree<T, S> {
    /// Sets aside the nodes that any `writes` writes to this tree could take.
    ///
    /// The writes are then made through what is returned, and cannot fail.
    /// Nodes that are left over go back when it is dropped.
    ///
    /// # Complexity
    ///
    /// Allocates O(`writes` * log n) nodes.
    ///
    /// # Errors
    ///
    /// [`OutOfNodes`]; the content of the tree is unchanged. Of more nodes than
    /// `isize::MAX` bytes hold none is asked for.
    ///
    /// # Examples
    ///
    /// ```
    /// use maple_tree::{IndexRange, MapleTree};
    ///
    /// let mut tree = MapleTree::new();
    /// let mut writes = tree.preallocate(2)?;
    /// writes.store(IndexRange::new(0, 9).unwrap(), 'a');
    /// writes.store(IndexRange::new(5, 14).unwrap(), 'b');
    /// assert_eq!(writes.len(), 2);
    /// # Ok::<(), maple_tree::OutOfNodes>(())
    /// ```
    #[doc(alias = "mas_preallocate")]
    pub fn preallocate(&mut self, writes: usize) -> Result<Preallocation<'_, T, S>, OutOfNodes> {
        let nodes_each = self.nodes_each(writes);
        let nodes = nodes_each.saturating_mul(writes);
        if nodes > NODES_MAX {
            return Err(OutOfNodes);
        }
        self.pool.reserve(nodes)?;
        self.pool.promise(nodes);
        Ok(Preallocation {
            tree: self,
            left: writes,
            nodes_each,
        })
    }

    /// The most nodes that each of the next `writes` writes can take.
    ///
    /// A write lays at most [`CARRY_MAX`] new nodes out on a level, and a new
    /// root on top. A snapshot taken meanwhile may keep all the old ones, so
    /// none is counted on to come back.
    fn nodes_each(&self, writes: usize) -> usize {
        // A write adds one entry and cuts one in two at most.
        let entries = self.len.saturating_add(writes.saturating_mul(2));
        // The last node of each level may hold less than the others.
        let mut nodes = entries / LEAF_ENTRIES_MIN + 1;
        let mut height = 1;
        while nodes > 1 {
            nodes = (nodes - 1) / self.branches.min() + 1;
            height += 1;
        }
        let nodes = CARRY_MAX * (height + 1) + 1;
        if self.root.is_watched() {
            // And what it cuts out is noted: the two ends and a neighbour on each level,
            // with their parents.
            nodes + (8 * (height + 1) + HEIGHT_MAX).div_ceil(RECORDS) + 1
        } else {
            nodes
        }
    }
}

/// Writes to a tree that cannot fail; see [`MapleTree::preallocate`].
///
/// Reading goes through to the tree. Every method that writes counts as one
/// write, whether or not it changed anything.
///
/// It is for changes of several writes that must be made whole or not at all: ask for
/// as many first, which may fail, and then make them. One write needs none of this:
/// if it fails, it has changed nothing.
///
/// # Panics
///
/// The writing methods panic when more writes are made than were asked for.
#[doc(alias = "mas_destroy")]
pub struct Preallocation<'t, T: Entry, S: NodeSource = HeapNodes> {
    tree: &'t mut MapleTree<T, S>,
    left: usize,
    /// So many nodes are set aside for each write that is left.
    nodes_each: usize,
}

impl<T: Entry, S: NodeSource> Preallocation<'_, T, S> {
    /// How many writes are left. O(1).
    ///
    /// # Examples
    ///
    /// ```
    /// use maple_tree::{IndexRange, MapleTree};
    ///
    /// let mut tree = MapleTree::new();
    /// let mut writes = tree.preallocate(2)?;
    /// writes.store(IndexRange::single(1), 'a');
    /// assert_eq!(writes.writes_left(), 1);
    /// # Ok::<(), maple_tree::OutOfNodes>(())
    /// ```
    #[must_use]
    pub fn writes_left(&self) -> usize {
        self.left
    }

    /// Makes one of the writes that were asked for.
    fn write<R>(&mut self, act: impl FnOnce(&mut MapleTree<T, S>) -> R) -> R {
        self.left = self
            .left
            .checked_sub(1)
            .expect("more writes than were preallocated");
        let result = act(self.tree);
        self.tree
            .pool
            .promise(self.nodes_each.saturating_mul(self.left));
        result
    }

    /// As [`MapleTree::insert`], without running out of nodes.
    ///
    /// # Complexity
    ///
    /// As [`MapleTree::insert`]; so for the other methods.
    ///
    /// # Errors
    ///
    /// [`Occupied`] with the value if an index of `range` holds an entry.
    ///
    /// # Panics
    ///
    /// If no write is left.
    ///
    /// # Examples
    ///
    /// ```
    /// use maple_tree::{IndexRange, MapleTree, Occupied};
    ///
    /// let mut tree = MapleTree::new();
    /// let mut writes = tree.preallocate(2)?;
    /// assert_eq!(writes.insert(IndexRange::single(1), 'a'), Ok(()));
    /// assert_eq!(writes.insert(IndexRange::single(1), 'b'), Err(Occupied('b')));
    /// # Ok::<(), maple_tree::OutOfNodes>(())
    /// ```
    pub fn insert(&mut self, range: IndexRange, value: T) -> Result<(), Occupied<T>> {
        self.write(|tree| tree.insert(range, value))
            .map_err(|error| {
                assert_eq!(error.kind, StoreErrorKind::Occupied, "{RESERVED}");
                Occupied(error.value)
            })
    }

    /// As [`MapleTree::store`], without running out of nodes.
    ///
    /// # Panics
    ///
    /// If no write is left.
    ///
    /// # Examples
    ///
    /// See [`MapleTree::preallocate`].
    #[doc(alias = "mas_store_prealloc")]
    pub fn store(&mut self, range: IndexRange, value: T)
    where
        T: Clone,
    {
        self.store_with(range, value, |_, _| {});
    }

    /// As [`MapleTree::store_with`], without running out of nodes.
    ///
    /// # Panics
    ///
    /// If no write is left.
    ///
    /// # Examples
    ///
    /// ```
    /// use maple_tree::{IndexRange, MapleTree};
    ///
    /// let mut tree = MapleTree::new();
    /// let mut writes = tree.preallocate(2)?;
    /// writes.store(IndexRange::new(0, 9).unwrap(), 'a');
    /// let mut parts = 0;
    /// writes.store_with(IndexRange::new(5, 14).unwrap(), 'b', |_, _| parts += 1);
    /// assert_eq!(parts, 1);
    /// # Ok::<(), maple_tree::OutOfNodes>(())
    /// ```
    pub fn store_with(&mut self, range: IndexRange, value: T, visit: impl FnMut(IndexRange, &T))
    where
        T: Clone,
    {
        let stored = self.write(|tree| tree.store_with(range, value, visit));
        stored.map_err(drop).expect(RESERVED);
    }

    /// As [`MapleTree::erase`], without running out of nodes.
    ///
    /// # Panics
    ///
    /// If no write is left.
    ///
    /// # Examples
    ///
    /// ```
    /// use maple_tree::{IndexRange, MapleTree};
    ///
    /// let mut tree: MapleTree<u64> = [(IndexRange::single(1), 7)].into_iter().collect();
    /// let mut writes = tree.preallocate(1)?;
    /// assert_eq!(writes.erase(1), Some((IndexRange::single(1), 7)));
    /// # Ok::<(), maple_tree::OutOfNodes>(())
    /// ```
    pub fn erase(&mut self, index: u64) -> Option<(IndexRange, T)> {
        self.write(|tree| tree.erase(index)).expect(RESERVED)
    }

    /// As [`MapleTree::remove`], without running out of nodes.
    ///
    /// # Panics
    ///
    /// If no write is left.
    ///
    /// # Examples
    ///
    /// ```
    /// use maple_tree::{IndexRange, MapleTree};
    ///
    /// let mut tree: MapleTree<u64> = [(IndexRange::single(1), 7)].into_iter().collect();
    /// let mut writes = tree.preallocate(1)?;
    /// writes.remove(IndexRange::FULL);
    /// assert!(writes.is_empty());
    /// # Ok::<(), maple_tree::OutOfNodes>(())
    /// ```
    pub fn remove(&mut self, range: IndexRange)
    where
        T: Clone,
    {
        self.remove_with(range, |_, _| {});
    }

    /// As [`MapleTree::remove_with`], without running out of nodes.
    ///
    /// # Panics
    ///
    /// If no write is left.
    ///
    /// # Examples
    ///
    /// ```
    /// use maple_tree::{IndexRange, MapleTree};
    ///
    /// let mut tree: MapleTree<u64> = [(IndexRange::single(1), 7)].into_iter().collect();
    /// let mut writes = tree.preallocate(1)?;
    /// let mut parts = 0;
    /// writes.remove_with(IndexRange::FULL, |_, _| parts += 1);
    /// assert_eq!(parts, 1);
    /// # Ok::<(), maple_tree::OutOfNodes>(())
    /// ```
    pub fn remove_with(&mut self, range: IndexRange, visit: impl FnMut(IndexRange, &T))
    where
        T: Clone,
    {
        self.write(|tree| tree.remove_with(range, visit))
            .expect(RESERVED);
    }
}

/// Why a write through a [`Preallocation`] does not fail.
const RESERVED: &str = "the nodes were set aside by `preallocate`";

impl<T: Entry, S: NodeSource> Deref for Preallocation<'_, T, S> {
    type Target = MapleTree<T, S>;

    fn deref(&self) -> &MapleTree<T, S> {
        self.tree
    }
}

impl<T: Entry, S: NodeSource> Drop for Preallocation<'_, T, S> {
    fn drop(&mut self) {
        self.tree.pool.promise(0);
        self.tree.pool.trim();
    }
}

impl<T: Entry, S: NodeSource> fmt::Debug for Preallocation<'_, T, S> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Preallocation")
            .field("writes_left", &self.left)
            .finish_non_exhaustive()
    }
}
