//! [`Preallocation`]: writes that cannot fail, because their nodes are there.

use core::fmt;
use core::ops::Deref;

use crate::error::{Occupied, OutOfNodes, StoreError};
use crate::source::NodeSource;
use crate::tree::MapleTree;
use crate::write::spread::CARRY_MAX;
use crate::{Entry, IndexRange};

/// A root that was split just now has [`CARRY_MAX`] children at most, and room
/// for so many writes at least, each of which adds one, before it is split again.
const WRITES_PER_LEVEL: usize = if cfg!(small_nodes) { 2 } else { 6 };

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
    /// [`OutOfNodes`]; the content of the tree is unchanged.
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
        let nodes = self.nodes_for(writes);
        self.pool.reserve(nodes)?;
        self.pool.hold();
        Ok(Preallocation {
            tree: self,
            left: writes,
        })
    }

    /// The most nodes that `writes` writes can take one after another.
    ///
    /// A write lays at most [`CARRY_MAX`] new nodes out on a level, and a new
    /// root on top. A snapshot taken meanwhile may keep all the old ones, so
    /// none is counted on to come back.
    fn nodes_for(&self, writes: usize) -> usize {
        let height = self.height + 1 + writes / WRITES_PER_LEVEL;
        (CARRY_MAX * height + 1).saturating_mul(writes)
    }
}

/// Writes to a tree that cannot fail; see [`MapleTree::preallocate`].
///
/// Reading goes through to the tree. Every method that writes counts as one
/// write, whether or not it changed anything.
///
/// # Panics
///
/// The writing methods panic when more writes are made than were asked for.
pub struct Preallocation<'t, T: Entry, S: NodeSource> {
    tree: &'t mut MapleTree<T, S>,
    left: usize,
}

impl<T: Entry, S: NodeSource> Preallocation<'_, T, S> {
    /// How many writes are left.
    #[must_use]
    pub fn writes_left(&self) -> usize {
        self.left
    }

    fn spend(&mut self) -> &mut MapleTree<T, S> {
        self.left = self
            .left
            .checked_sub(1)
            .expect("more writes than were preallocated");
        self.tree
    }

    /// As [`MapleTree::insert`], without running out of nodes.
    ///
    /// # Errors
    ///
    /// [`Occupied`] with the value if an index of `range` holds an entry.
    ///
    /// # Panics
    ///
    /// If no write is left.
    pub fn insert(&mut self, range: IndexRange, value: T) -> Result<(), Occupied<T>> {
        if !self.is_vacant(range) {
            self.spend();
            return Err(Occupied(value));
        }
        infallible(self.spend().insert(range, value));
        Ok(())
    }

    /// As [`MapleTree::store`], without running out of nodes.
    ///
    /// # Panics
    ///
    /// If no write is left.
    #[doc(alias = "mas_store_prealloc")]
    pub fn store(&mut self, range: IndexRange, value: T)
    where
        T: Clone,
    {
        infallible(self.spend().store(range, value));
    }

    /// As [`MapleTree::store_with`], without running out of nodes.
    ///
    /// # Panics
    ///
    /// If no write is left.
    pub fn store_with(&mut self, range: IndexRange, value: T, visit: impl FnMut(IndexRange, &T))
    where
        T: Clone,
    {
        infallible(self.spend().store_with(range, value, visit));
    }

    /// As [`MapleTree::erase`], without running out of nodes.
    ///
    /// # Panics
    ///
    /// If no write is left.
    pub fn erase(&mut self, index: u64) -> Option<(IndexRange, T)> {
        self.spend().erase(index).expect(RESERVED)
    }

    /// As [`MapleTree::remove`], without running out of nodes.
    ///
    /// # Panics
    ///
    /// If no write is left.
    pub fn remove(&mut self, range: IndexRange)
    where
        T: Clone,
    {
        self.spend().remove(range).expect(RESERVED);
    }

    /// As [`MapleTree::remove_with`], without running out of nodes.
    ///
    /// # Panics
    ///
    /// If no write is left.
    pub fn remove_with(&mut self, range: IndexRange, visit: impl FnMut(IndexRange, &T))
    where
        T: Clone,
    {
        self.spend().remove_with(range, visit).expect(RESERVED);
    }
}

/// Why a write through a [`Preallocation`] does not fail.
const RESERVED: &str = "the nodes were set aside by `preallocate`";

fn infallible<T>(result: Result<(), StoreError<T>>) {
    result.map_err(drop).expect(RESERVED);
}

impl<T: Entry, S: NodeSource> Deref for Preallocation<'_, T, S> {
    type Target = MapleTree<T, S>;

    fn deref(&self) -> &MapleTree<T, S> {
        self.tree
    }
}

impl<T: Entry, S: NodeSource> Drop for Preallocation<'_, T, S> {
    fn drop(&mut self) {
        self.tree.pool.let_go();
    }
}

impl<T: Entry, S: NodeSource> fmt::Debug for Preallocation<'_, T, S> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Preallocation")
            .field("writes_left", &self.left)
            .finish_non_exhaustive()
    }
}
