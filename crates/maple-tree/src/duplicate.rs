//! Snapshots and duplicates.

use arrayvec::ArrayVec;

use crate::build::Builder;
use crate::clone_fn::CloneFn;
use crate::error::{DuplicateError, OutOfNodes};
use crate::limbo::Limbo;
use crate::node::{Fresh, HEIGHT_MAX, LEAF_SLOTS, Link, Node, Root};
use crate::pool::Pool;
use crate::source::NodeSource;
use crate::tree::MapleTree;
use crate::walk::{AHEAD, LeafPath};
use crate::{Entry, IndexRange};

impl<T: Entry, S: NodeSource + Clone> MapleTree<T, S> {
    /// Makes a tree with the same content that shares all nodes.
    ///
    /// Each side copies what it changes, when it changes it: the first write
    /// along a path copies the nodes on it and clones the entries of its leaf.
    ///
    /// # Complexity
    ///
    /// O(1); allocates nothing.
    ///
    /// # Examples
    ///
    /// ```
    /// use maple_tree::{IndexRange, MapleTree};
    ///
    /// let mut tree: MapleTree<u64> = (0..1000).map(|i| (IndexRange::single(i), i)).collect();
    /// let before = tree.snapshot();
    /// tree.store(IndexRange::new(100, 899).unwrap(), 7).unwrap();
    /// assert_eq!((tree.len(), before.len()), (201, 1000));
    /// ```
    #[must_use]
    pub fn snapshot(&self) -> Self
    where
        T: Clone,
    {
        // The source's code may panic, so it runs before anything is shared.
        let pool = Pool::new(self.pool.source().clone());
        self.clone_fn.set();
        let clone_fn = CloneFn::unset();
        clone_fn.set();
        Self {
            root: Root::of(self.root.link().map(Link::share)),
            height: self.height,
            len: self.len,
            branches: self.branches,
            pool,
            clone_fn,
            limbo: Limbo::new(),
        }
    }

    /// Makes a copy of the tree, node by node: the same shape, every entry cloned.
    ///
    /// # Complexity
    ///
    /// O(n); allocates as many nodes as the tree has.
    ///
    /// # Errors
    ///
    /// [`OutOfNodes`]; nothing is left of the copy.
    ///
    /// # Examples
    ///
    /// ```
    /// use maple_tree::{IndexRange, MapleTree};
    ///
    /// let tree: MapleTree<u64> = (0..100).map(|i| (IndexRange::single(2 * i), i)).collect();
    /// let copy = tree.duplicate()?;
    /// assert!(tree.iter().eq(copy.iter()));
    /// # Ok::<(), maple_tree::OutOfNodes>(())
    /// ```
    #[doc(alias = "mtree_dup")]
    #[doc(alias = "__mt_dup")]
    pub fn duplicate(&self) -> Result<Self, OutOfNodes>
    where
        T: Clone,
    {
        let mut copy = Self::empty(self.branches, self.pool.source().clone());
        if let Some(root) = self.root() {
            let copier = Copier {
                pool: &mut copy.pool,
                unfinished: ArrayVec::new(),
                expected: self.height + self.len / LEAF_SLOTS,
            };
            copy.root = Root::of(Some(copier.copy(root)?));
            copy.height = self.height;
            copy.len = self.len;
        }
        Ok(copy)
    }

    /// Makes a tree of what `f` makes of each entry, in one pass.
    ///
    /// `f` is called with every entry in ascending order and returns the entry
    /// of the copy, or `None` to leave its indices vacant, or an error to give
    /// up. Leaves keep their shape, but where entries are left out.
    ///
    /// # Complexity
    ///
    /// O(n); each node of the copy is written once.
    ///
    /// # Errors
    ///
    /// - [`DuplicateError::Refused`] with the error of `f`.
    /// - [`DuplicateError::OutOfNodes`] if a node could not be allocated.
    ///
    /// Nothing is left of the copy; the entries made so far are dropped.
    ///
    /// # Examples
    ///
    /// ```
    /// use maple_tree::{IndexRange, MapleTree};
    ///
    /// let parent: MapleTree<u64> = (0..10).map(|i| (IndexRange::single(i), i)).collect();
    /// let child = parent.duplicate_with(|_, &value| Ok::<_, ()>((value != 3).then_some(value + 100)));
    /// let child = child.unwrap();
    /// assert_eq!((child.len(), child.get(3), child.get(4)), (9, None, Some(&104)));
    /// ```
    pub fn duplicate_with<U: Entry, E>(
        &self,
        mut f: impl FnMut(IndexRange, &T) -> Result<Option<U>, E>,
    ) -> Result<MapleTree<U, S>, DuplicateError<E>> {
        let mut copy = MapleTree::empty(self.branches, self.pool.source().clone());
        let mut builder = Builder::new(&mut copy);
        let mut leaves = self.root().map(|root| LeafPath::to(root, 0));
        while let Some(path) = &mut leaves {
            let leaf = path.leaf();
            leaf.prefetch_entries();
            builder.push_leaf(leaf, &mut f)?;
            if !path.next_leaf() {
                leaves = None;
            }
        }
        builder.finish();
        Ok(copy)
    }
}

/// Copies nodes depth first. What is unfinished when it is dropped goes back.
struct Copier<'s, 'p, T, S: NodeSource> {
    pool: &'p mut Pool<S>,
    /// The nodes from the root down to the one being copied, with their copies.
    unfinished: ArrayVec<(&'s Node<T>, Fresh<T>), HEIGHT_MAX>,
    /// About how many nodes the tree has.
    expected: usize,
}

impl<'s, T: Entry + Clone, S: NodeSource> Copier<'s, '_, T, S> {
    fn copy(mut self, root: &'s Node<T>) -> Result<Link<T>, OutOfNodes> {
        self.begin(root)?;
        while let Some((node, copy)) = self.unfinished.last_mut() {
            let node = *node;
            if node.is_leaf() {
                copy.clone_slots(node);
            } else if copy.count() < node.count() {
                let slot = copy.count();
                if slot + AHEAD < node.count() {
                    node.prefetch_child(slot + AHEAD);
                }
                let next = node.child(slot);
                self.begin(next)?;
                continue;
            }
            let Some((_, copy)) = self.unfinished.pop() else {
                break;
            };
            let link = copy.into_link();
            let Some((_, branch)) = self.unfinished.last_mut() else {
                return Ok(link);
            };
            branch.put_child(link);
        }
        unreachable!("the root is returned when it is complete")
    }

    fn begin(&mut self, node: &'s Node<T>) -> Result<(), OutOfNodes> {
        self.pool.reserve_of_many(1, self.expected)?;
        let copy = self.pool.take_outline(node);
        self.unfinished.push((node, copy));
        Ok(())
    }
}

impl<T, S: NodeSource> Drop for Copier<'_, '_, T, S> {
    fn drop(&mut self) {
        for (_, copy) in self.unfinished.drain(..) {
            self.pool.release(copy.into_link());
        }
        self.pool.trim();
    }
}
