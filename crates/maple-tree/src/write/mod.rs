//! Writing: plan, reserve, carry out.
//!
//! [`Plan`] says what a write will do and what that [needs](plan::Needs); it is
//! reserved; from then on nothing can fail. Whatever runs the caller's code
//! (cloning an entry, visiting it) runs before the tree is touched; what drops
//! an entry runs after it is whole again.
//!
//! What is in this tree only, and looked at by nobody else, is changed in place.
//! Otherwise new nodes are built aside and put in the place of the old ones in
//! one step; the old ones are freed, or noted until no reader looks at them.
#![expect(
    unsafe_code,
    reason = "moves what slots hold from old nodes to new ones"
)]

mod cut;
mod edit;
mod frontier;
pub(crate) mod gaps;
mod plan;
mod rebuild;
mod shape;
mod way;

use self::edit::{CloneEntry, Edit, dispose};
use self::plan::{Needs, Plan, Puts, Request};
pub(crate) use self::rebuild::CARRY_MAX;
use crate::error::{OutOfNodes, StoreError, StoreErrorKind};
use crate::iter::Iter;
use crate::node::{Gone, Kind, Node, Path, Steps};
use crate::paths::{Path as Reached, reached};
use crate::source::NodeSource;
use crate::tree::MapleTree;
use crate::{Entry, IndexRange};

impl<T: Entry, S: NodeSource> MapleTree<T, S> {
    /// Stores `value` over every index of `range`, which must be vacant.
    ///
    /// # Complexity
    ///
    /// O(log n); allocates at most three nodes a level.
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
    /// No write panics by itself. Where a snapshot shares a leaf, a write clones
    /// its entries, and lets a panic of `T::clone` through; the content of the
    /// tree is unchanged then.
    ///
    /// # Examples
    ///
    /// ```
    /// use maple_tree::{IndexRange, MapleTree, StoreErrorKind};
    ///
    /// let mut tree = MapleTree::new();
    /// let stack = IndexRange::new(0x7000, 0x7fff).unwrap();
    /// tree.insert(stack, "stack".as_ptr() as usize)?;
    /// let refused = tree.insert(stack, 7).unwrap_err();
    /// assert_eq!((refused.kind, refused.value), (StoreErrorKind::Occupied, 7));
    /// # Ok::<(), maple_tree::StoreError<usize>>(())
    /// ```
    #[doc(alias = "mtree_insert_range")]
    pub fn insert(&mut self, range: IndexRange, value: T) -> Result<(), StoreError<T>> {
        let request = Request {
            range,
            puts: Puts::EntryIfVacant,
        };
        self.write_entry((request, None), value, |_| {})
    }

    /// Stores `value` over every index of `range`, whatever is there.
    ///
    /// An entry that reaches out of `range` keeps what lies outside; one cut in
    /// two is cloned. What is overwritten is dropped; to see it first, use
    /// [`store_with`](Self::store_with).
    ///
    /// # Complexity
    ///
    /// O(log n + k) for k overwritten entries; allocates at most three nodes a level.
    ///
    /// # Errors
    ///
    /// [`StoreErrorKind::OutOfNodes`]; the tree is unchanged and the value is
    /// handed back.
    ///
    /// # Examples
    ///
    /// ```
    /// use maple_tree::{IndexRange, MapleTree};
    ///
    /// let mut tree = MapleTree::new();
    /// tree.store(IndexRange::FULL, 'a')?;
    /// tree.store(IndexRange::single(5), 'b')?;
    /// assert_eq!((tree.get(4), tree.get(5), tree.get(6)), (Some(&'a'), Some(&'b'), Some(&'a')));
    /// # Ok::<(), maple_tree::StoreError<char>>(())
    /// ```
    #[doc(alias = "mtree_store_range")]
    #[doc(alias = "mas_store")]
    pub fn store(&mut self, range: IndexRange, value: T) -> Result<(), StoreError<T>>
    where
        T: Clone,
    {
        let request = Request {
            range,
            puts: Puts::Entry,
        };
        self.write_entry((request, Some(T::clone)), value, |_| {})
    }

    /// As [`store`](Self::store), and first calls `visit` with each part that
    /// will be overwritten, in ascending order: its bounds within `range`, and
    /// the value. The store cannot fail any more then.
    ///
    /// # Complexity
    ///
    /// As [`store`](Self::store).
    ///
    /// # Errors
    ///
    /// [`StoreErrorKind::OutOfNodes`]; `visit` was not called, the tree is
    /// unchanged and the value is handed back.
    ///
    /// # Examples
    ///
    /// ```
    /// use maple_tree::{IndexRange, MapleTree};
    ///
    /// let mut tree = MapleTree::new();
    /// tree.store(IndexRange::new(0, 9).unwrap(), 'a')?;
    /// let mut seen = Vec::new();
    /// tree.store_with(IndexRange::new(5, 20).unwrap(), 'b', |part, &value| {
    ///     seen.push((part.first(), part.last(), value));
    /// })?;
    /// assert_eq!(seen, [(5, 9, 'a')]);
    /// # Ok::<(), maple_tree::StoreError<char>>(())
    /// ```
    pub fn store_with(
        &mut self,
        range: IndexRange,
        value: T,
        visit: impl FnMut(IndexRange, &T),
    ) -> Result<(), StoreError<T>>
    where
        T: Clone,
    {
        let request = Request {
            range,
            puts: Puts::Entry,
        };
        self.write_entry((request, Some(T::clone)), value, |root| {
            visit_parts(root, range, visit);
        })
    }

    /// Removes the whole entry at `index` and returns it with its bounds. Where a
    /// snapshot shares it, what is returned is a clone.
    ///
    /// # Complexity
    ///
    /// O(log n); allocates at most three nodes a level.
    ///
    /// # Errors
    ///
    /// [`OutOfNodes`]: leaves that get too empty are merged, which takes a new
    /// one. The tree is unchanged.
    ///
    /// # Examples
    ///
    /// ```
    /// use maple_tree::{IndexRange, MapleTree};
    ///
    /// let mut tree = MapleTree::new();
    /// let range = IndexRange::new(10, 19).unwrap();
    /// tree.insert(range, 'x').unwrap();
    /// assert_eq!(tree.erase(15)?, Some((range, 'x')));
    /// assert_eq!(tree.erase(15)?, None);
    /// # Ok::<(), maple_tree::OutOfNodes>(())
    /// ```
    #[doc(alias = "mtree_erase")]
    #[doc(alias = "mas_erase")]
    pub fn erase(&mut self, index: u64) -> Result<Option<(IndexRange, T)>, OutOfNodes> {
        let request = Request {
            range: IndexRange::single(index),
            puts: Puts::Nothing,
        };
        let mut steps = Steps::new();
        let Some(mut edit) = Edit::at(self, &mut steps, request, None) else {
            return Ok(None);
        };
        let Some(slot) = edit.path.leaf().slot_of_entry(index) else {
            return Ok(None);
        };
        let plan = edit.prepare_erase(slot)?;
        let range = edit.request.range;
        let taken = edit.take_out(slot);
        edit.commit(&plan, None);
        let value = match taken {
            // SAFETY: the write is through, so the slot it was copied from is given up.
            Ok(held) => unsafe { held.into_inner() },
            Err(clone) => clone,
        };
        Ok(Some((range, value)))
    }

    /// Empties every index of `range`.
    ///
    /// An entry that reaches out of `range` keeps what lies outside; one cut in
    /// two is cloned.
    ///
    /// # Complexity
    ///
    /// O(log n + k) for k removed entries; allocates at most three nodes a level.
    ///
    /// # Errors
    ///
    /// [`OutOfNodes`]; the tree is unchanged.
    ///
    /// # Examples
    ///
    /// ```
    /// use maple_tree::{IndexRange, MapleTree};
    ///
    /// let mut tree = MapleTree::new();
    /// tree.insert(IndexRange::new(0, 99).unwrap(), 'x').unwrap();
    /// tree.remove(IndexRange::new(40, 59).unwrap())?;
    /// assert_eq!(tree.len(), 2);
    /// # Ok::<(), maple_tree::OutOfNodes>(())
    /// ```
    pub fn remove(&mut self, range: IndexRange) -> Result<(), OutOfNodes>
    where
        T: Clone,
    {
        self.empty_range(range, |_| {})
    }

    /// As [`remove`](Self::remove), and first calls `visit` with each part that
    /// will be removed, in ascending order: its bounds within `range`, and the value.
    ///
    /// # Complexity
    ///
    /// As [`remove`](Self::remove).
    ///
    /// # Errors
    ///
    /// [`OutOfNodes`]; `visit` was not called and the tree is unchanged.
    ///
    /// # Examples
    ///
    /// ```
    /// use maple_tree::{IndexRange, MapleTree};
    ///
    /// let mut tree = MapleTree::new();
    /// tree.insert(IndexRange::new(0, 9).unwrap(), 'x').unwrap();
    /// let mut seen = Vec::new();
    /// tree.remove_with(IndexRange::new(5, 99).unwrap(), |part, &value| {
    ///     seen.push((part.first(), part.last(), value));
    /// })?;
    /// assert_eq!(seen, [(5, 9, 'x')]);
    /// # Ok::<(), maple_tree::OutOfNodes>(())
    /// ```
    pub fn remove_with(
        &mut self,
        range: IndexRange,
        visit: impl FnMut(IndexRange, &T),
    ) -> Result<(), OutOfNodes>
    where
        T: Clone,
    {
        self.empty_range(range, |root| visit_parts(root, range, visit))
    }

    /// Removes all entries.
    ///
    /// # Complexity
    ///
    /// O(n) for the entries that no snapshot keeps.
    ///
    /// # Examples
    ///
    /// ```
    /// use maple_tree::{IndexRange, MapleTree};
    ///
    /// let mut tree: MapleTree<u64> = (0..9).map(|i| (IndexRange::single(i), i)).collect();
    /// tree.clear();
    /// assert!(tree.is_empty());
    /// ```
    pub fn clear(&mut self) {
        self.height = 0;
        self.len = 0;
        if let Some(root) = self.root.replace(None) {
            // The batch for this one record is there, or will not be needed.
            self.dispose(Gone::Link(root));
        }
    }

    /// Carries out a write that puts an entry. `before` runs once it cannot fail.
    #[inline]
    fn write_entry(
        &mut self,
        (request, cut): (Request, Option<CloneEntry<T>>),
        value: T,
        before: impl FnOnce(Option<&Node<T>>),
    ) -> Result<(), StoreError<T>> {
        let refuse = |kind, value| Err(StoreError { kind, value });
        let mut steps = Steps::new();
        let Some(mut edit) = Edit::at(self, &mut steps, request, cut) else {
            return match self.prepare_first() {
                Ok(()) => {
                    before(None);
                    self.plant_leaf(request.range, value);
                    Ok(())
                }
                Err(OutOfNodes) => refuse(StoreErrorKind::OutOfNodes, value),
            };
        };
        match edit.prepare() {
            Ok(Plan::Occupied) => refuse(StoreErrorKind::Occupied, value),
            Ok(plan) => {
                before(Some(edit.path.node(0)));
                edit.commit(&plan, Some(value));
                Ok(())
            }
            Err(OutOfNodes) => refuse(StoreErrorKind::OutOfNodes, value),
        }
    }

    fn empty_range(
        &mut self,
        range: IndexRange,
        before: impl FnOnce(Option<&Node<T>>),
    ) -> Result<(), OutOfNodes>
    where
        T: Clone,
    {
        let request = Request {
            range,
            puts: Puts::Nothing,
        };
        let mut steps = Steps::new();
        if let Some(mut edit) = Edit::at(self, &mut steps, request, Some(T::clone)) {
            let plan = edit.prepare()?;
            before(Some(edit.path.node(0)));
            edit.commit(&plan, None);
        }
        Ok(())
    }

    /// Reserves what the first leaf takes. A tree that readers look at keeps room
    /// to note one root more, so that it can always be cleared.
    fn prepare_first(&mut self) -> Result<(), OutOfNodes> {
        let is_watched = self.root.is_watched();
        let needs = Needs {
            nodes: 1,
            records: 1,
        };
        self.pool.reserve(needs.nodes_with(&self.limbo, is_watched))
    }

    fn plant_leaf(&mut self, range: IndexRange, value: T) {
        reached(Reached::FirstLeaf);
        let mut leaf = self.pool.take::<T>(Kind::Dense);
        leaf.push_entry(range, value).ok().expect(ROOM);
        self.root.replace(Some(leaf.into_link()));
        (self.height, self.len) = (1, 1);
    }

    /// Makes the leaf that `index` belongs to ours alone, and changeable in place.
    /// The tree is not empty, and nobody looks at it without borrowing it.
    pub(crate) fn unshared_leaf(&mut self, index: u64) -> Result<&mut Node<T>, OutOfNodes> {
        let request = Request {
            range: IndexRange::single(index),
            puts: Puts::Nothing,
        };
        let mut steps = Steps::new();
        let mut edit = Edit::at(self, &mut steps, request, None).expect(FOUND);
        let depth = edit.path.depth;
        if !edit.path.is_alone(depth) {
            edit.pool.reserve(1 + depth - edit.path.shared.min(depth))?;
            edit.own_leaf();
        }
        let path = Path::to(&mut self.root, &mut steps, index).expect(FOUND);
        Ok(path.into_node_mut(depth))
    }
}

/// Why an entry fits into a leaf.
const ROOM: &str = "the plan found room for it";

/// Why a tree is not empty.
const FOUND: &str = "the entry was looked up before";

fn visit_parts<T>(
    root: Option<&Node<T>>,
    range: IndexRange,
    mut visit: impl FnMut(IndexRange, &T),
) {
    for (entry, value) in Iter::over(root, Some(range)) {
        if let Some(part) = entry.intersection(range) {
            visit(part, value);
        }
    }
}

impl<T: Entry, S: NodeSource> MapleTree<T, S> {
    /// Frees what was cut out of the tree, or notes it where a reader may look at it.
    fn dispose(&mut self, gone: Gone<T>) {
        let is_watched = self.root.is_watched();
        dispose(gone, is_watched, (&mut self.pool, &mut self.limbo));
        self.pool.trim();
    }
}
