//! [`RcuMapleTree`]: one writer at a time, readers that never wait.

use core::fmt;
use core::ptr::{NonNull, null_mut};

use lock_api::{Mutex, RawMutex};

use super::face::Face;
use super::retire::{assert_source_fits, free_now, pass_on};
use super::{Rcu, Reader, Writer};
use crate::limbo::{Batch, Retire};
use crate::source::{HeapNodes, NodeSource};
use crate::{Entry, MapleTree};

/// A [`MapleTree`] with one writer at a time and any number of readers that never
/// wait for it.
///
/// `R` says how to wait until nobody looks at a node any more, `L` is the lock
/// between writers, any of `lock_api`'s. With feature `crossbeam`, `SyncMapleTree<T>`
/// names a pair.
///
/// It is for maps that are read far more often than written, by many threads or from
/// places that must not wait. A write costs more than in a [`MapleTree`]: a leaf is
/// replaced where it would be changed in place. Where one thread at a time does
/// everything, or readers are content with snapshots, a `MapleTree` behind a lock is
/// the simpler choice.
///
/// # What a reader sees
///
/// A [`Reader`] takes no lock and never starts over.
///
/// - A look-up sees a value that the index held at some moment during the look-up:
///   it is as if it had been made at once. Bounds and gaps are of that moment too.
/// - An iteration in one direction sees each write whole or not at all, however many
///   entries it went over, and meets each index once, in order. Of two writes it may
///   see the later one and not the earlier, if that was behind it.
/// - What a reader found stays valid for as long as the reader, even if it is
///   overwritten meanwhile.
/// - Who needs one moment for the whole tree takes a [`snapshot`](Self::snapshot),
///   which is O(1), or tries to without the lock ([`try_snapshot`](Self::try_snapshot)).
///
/// # Who drops what was overwritten
///
/// Nodes that were cut out are gathered, some two dozen at a time, passed to the
/// [`Rcu`], and freed with the values in them when no reader is left that may look. That
/// may be on any thread, later, and in a call that holds this tree's lock: so a value's
/// `Drop` must not write to the tree that it was in. [`barrier`](Self::barrier) waits
/// until all of it is freed.
///
/// # Running out of memory
///
/// As in a [`MapleTree`]: a write that fails has changed nothing, and
/// [`Writer::preallocate`] makes writes that cannot fail. What is cut out is noted in
/// nodes that the write reserved. Where nodes are few, those that wait for readers may
/// be all that is missing: [`barrier`](Self::barrier), and try again.
///
/// # Examples
///
/// ```
/// use std::thread;
/// use maple_tree::{IndexRange, SyncMapleTree};
///
/// let tree = SyncMapleTree::<u64>::default();
/// thread::scope(|scope| {
///     scope.spawn(|| {
///         for i in 0..1000 {
///             tree.write().store(IndexRange::single(i), i).unwrap();
///         }
///     });
///     scope.spawn(|| {
///         for _ in 0..1000 {
///             let reader = tree.read();
///             let seen = reader.iter().count();
///             // Entries are added in ascending order.
///             assert!(reader.iter().count() >= seen);
///         }
///     });
/// });
/// assert_eq!(tree.read().get(999), Some(&999));
/// tree.barrier();
/// ```
pub struct RcuMapleTree<T, R, L, S = HeapNodes>
where
    T: Entry + Send + Sync + 'static,
    R: Rcu,
    L: RawMutex,
    S: NodeSource + Clone + Send + Sync + 'static,
{
    /// What readers find.
    pub(super) face: Face<T>,
    pub(super) core: Mutex<L, MapleTree<T, S>>,
    pub(super) rcu: R,
    /// For whoever frees what was cut out.
    pub(super) source: S,
}

impl<T, R, L> RcuMapleTree<T, R, L>
where
    T: Entry + Send + Sync + 'static,
    R: Rcu,
    L: RawMutex,
{
    /// Makes an empty tree without gap tracking.
    ///
    /// # Complexity
    ///
    /// O(1); allocates nothing.
    ///
    /// # Examples
    ///
    /// ```
    /// use maple_tree::{EpochRcu, RcuMapleTree};
    ///
    /// static TREE: RcuMapleTree<u64, EpochRcu, parking_lot::RawMutex> =
    ///     RcuMapleTree::new(EpochRcu);
    /// assert!(TREE.read().is_empty());
    /// ```
    #[must_use]
    pub const fn new(rcu: R) -> Self {
        Self::of(MapleTree::new(), rcu, HeapNodes)
    }

    /// Makes an empty tree that keeps the longest gap below each child.
    ///
    /// # Complexity
    ///
    /// O(1); allocates nothing.
    ///
    /// # Examples
    ///
    /// See [`RcuMapleTree`].
    #[must_use]
    pub const fn with_gaps(rcu: R) -> Self {
        Self::of(MapleTree::with_gaps(), rcu, HeapNodes)
    }
}

impl<T, R, L, S> RcuMapleTree<T, R, L, S>
where
    T: Entry + Send + Sync + 'static,
    R: Rcu,
    L: RawMutex,
    S: NodeSource + Clone + Send + Sync + 'static,
{
    /// Makes an empty tree without gap tracking whose nodes come from `source`.
    ///
    /// It is `const`, so a kernel's tree can be a `static`.
    ///
    /// # Complexity
    ///
    /// O(1); allocates nothing.
    ///
    /// # Examples
    ///
    /// ```
    /// use maple_tree::{EpochRcu, GlobalNodes, RcuMapleTree};
    ///
    /// static TREE: RcuMapleTree<u64, EpochRcu, parking_lot::RawMutex, GlobalNodes> =
    ///     RcuMapleTree::new_in(EpochRcu, GlobalNodes);
    /// assert!(TREE.read().is_empty());
    /// ```
    #[must_use]
    pub const fn new_in(rcu: R, source: S) -> Self
    where
        S: Copy,
    {
        Self::of(MapleTree::new_in(source), rcu, source)
    }

    /// Makes an empty tree that tracks gaps, whose nodes come from `source`.
    ///
    /// # Complexity
    ///
    /// O(1); allocates nothing.
    ///
    /// # Examples
    ///
    /// See [`new_in`](Self::new_in).
    #[must_use]
    pub const fn with_gaps_in(rcu: R, source: S) -> Self
    where
        S: Copy,
    {
        Self::of(MapleTree::with_gaps_in(source), rcu, source)
    }

    /// `core` is empty, or the caller sets `face`.
    const fn of(core: MapleTree<T, S>, rcu: R, source: S) -> Self {
        const { assert_source_fits::<S>() };
        Self {
            face: Face::new(core.branches),
            core: Mutex::new(core),
            rcu,
            source,
        }
    }

    /// Makes a tree of the content of `tree`.
    ///
    /// # Complexity
    ///
    /// O(1); allocates nothing.
    ///
    /// # Examples
    ///
    /// ```
    /// use maple_tree::{EpochRcu, IndexRange, MapleTree, SyncMapleTree};
    ///
    /// let tree: MapleTree<u64> = (0..9).map(|i| (IndexRange::single(i), i)).collect();
    /// let tree = SyncMapleTree::from_tree(tree, EpochRcu);
    /// assert_eq!(tree.read().get(8), Some(&8));
    /// ```
    #[doc(alias = "mt_set_in_rcu")]
    #[must_use]
    pub fn from_tree(tree: MapleTree<T, S>, rcu: R) -> Self {
        let source = tree.pool.source().clone();
        let face = Face::of(&tree);
        let mut this = Self::of(tree, rcu, source);
        this.face = face;
        this
    }

    /// Enters as a reader: never waits for a writer.
    ///
    /// # Complexity
    ///
    /// What [`Rcu::read_lock`] takes.
    ///
    /// # Examples
    ///
    /// ```
    /// use maple_tree::{IndexRange, SyncMapleTree};
    ///
    /// let tree = SyncMapleTree::<u64>::default();
    /// tree.write().insert(IndexRange::new(10, 19).unwrap(), 7)?;
    /// let reader = tree.read();
    /// assert_eq!((reader.get(9), reader.get(10)), (None, Some(&7)));
    /// # Ok::<(), maple_tree::StoreError<u64>>(())
    /// ```
    #[inline]
    pub fn read(&self) -> Reader<'_, T, R> {
        Reader::new(&self.face.root, self.rcu.read_lock())
    }

    /// Waits for other writers, and returns what writes.
    ///
    /// # Examples
    ///
    /// ```
    /// use maple_tree::{IndexRange, SyncMapleTree};
    ///
    /// let tree = SyncMapleTree::<u64>::default();
    /// let mut writer = tree.write();
    /// writer.insert(IndexRange::single(1), 7)?;
    /// writer.store(IndexRange::FULL, 8)?;
    /// assert_eq!(writer.len(), 1);
    /// # Ok::<(), maple_tree::StoreError<u64>>(())
    /// ```
    #[doc(alias = "mtree_lock")]
    #[doc(alias = "mtree_lock_nested")]
    #[doc(alias = "mas_lock")]
    #[doc(alias = "mas_lock_nested")]
    #[doc(alias = "mas_lock_irqsave")]
    pub fn write(&self) -> Writer<'_, T, R, L, S> {
        let mut core = self.core.lock();
        let retire = Retire {
            context: core::ptr::from_ref(self).cast(),
            hand_over: hand_over::<T, R, L, S>,
        };
        // SAFETY:
        // - The word is this tree's, which is borrowed for as long as the writer, and
        //   thus the lock, is held; whoever takes the lock next sets it again.
        // - What was reachable goes to `limbo`, and from there to `Rcu::call_rcu`.
        unsafe { core.root.watch(NonNull::from(&self.face.root)) };
        // SAFETY: as for the word.
        unsafe { core.limbo.set_retire(retire) };
        Writer::new(core, self)
    }

    /// Returns a tree with the content of this moment, which shares all nodes. The
    /// lock is taken for as long as that takes.
    ///
    /// # Complexity
    ///
    /// O(1); allocates nothing.
    ///
    /// # Examples
    ///
    /// ```
    /// use maple_tree::{IndexRange, SyncMapleTree};
    ///
    /// let tree = SyncMapleTree::<u64>::default();
    /// tree.write().insert(IndexRange::single(1), 7)?;
    /// let before = tree.snapshot();
    /// tree.write().clear();
    /// assert_eq!((before.len(), tree.read().is_empty()), (1, true));
    /// # Ok::<(), maple_tree::StoreError<u64>>(())
    /// ```
    #[must_use]
    pub fn snapshot(&self) -> MapleTree<T, S>
    where
        T: Clone,
    {
        self.core.lock().snapshot()
    }

    /// Returns a tree with the content of this moment, which shares all nodes, without
    /// the lock; or `None` if a [`Writer`] has written and is still there, or comes at
    /// this very moment. Who gets none may try again, or wait for the writer by taking a
    /// [`snapshot`](Self::snapshot).
    ///
    /// The content is that between two writers: what one wrote is there whole or not at
    /// all. The writer is not held up; its next write copies the nodes on its way.
    ///
    /// # Complexity
    ///
    /// O(1); allocates nothing.
    ///
    /// # Examples
    ///
    /// ```
    /// use maple_tree::{IndexRange, SyncMapleTree};
    ///
    /// let tree = SyncMapleTree::<u64>::default();
    /// let mut writer = tree.write();
    /// assert!(tree.try_snapshot().unwrap().is_empty());
    /// writer.insert(IndexRange::single(1), 7)?;
    /// assert!(tree.try_snapshot().is_none(), "more may follow");
    /// drop(writer);
    /// assert_eq!(tree.try_snapshot().unwrap().get(1), Some(&7));
    /// # Ok::<(), maple_tree::StoreError<u64>>(())
    /// ```
    #[must_use]
    pub fn try_snapshot(&self) -> Option<MapleTree<T, S>>
    where
        T: Clone,
    {
        let _guard = self.rcu.read_lock();
        // SAFETY: a guard; what is cut out goes to the `Rcu` with the links to it
        // (`write`).
        unsafe { self.face.try_snapshot(&self.source) }
    }

    /// Waits until every reader that exists now is gone.
    ///
    /// What a writer has taken out of the tree before nobody looks at after: for what
    /// lies outside of the tree and is named in it.
    ///
    /// Not to be called by who holds a [`Reader`] or a [`Writer`].
    pub fn synchronize(&self) {
        self.rcu.synchronize();
    }

    /// Waits until everything that was cut out of the tree so far is freed.
    ///
    /// Not to be called by who holds a [`Reader`] or a [`Writer`].
    ///
    /// # Examples
    ///
    /// ```
    /// use std::sync::Arc;
    /// use maple_tree::{IndexRange, SyncMapleTree};
    ///
    /// let (tree, value) = (SyncMapleTree::default(), Arc::new(7));
    /// tree.write().insert(IndexRange::single(1), value.clone()).unwrap();
    /// tree.write().clear();
    /// tree.barrier();
    /// assert_eq!(Arc::strong_count(&value), 1);
    /// ```
    pub fn barrier(&self) {
        self.write().hand_over();
        self.rcu.barrier();
    }

    /// Returns how waiting for readers is done.
    pub fn rcu(&self) -> &R {
        &self.rcu
    }

    /// Takes the tree out: no reader is left.
    ///
    /// # Complexity
    ///
    /// O(1).
    ///
    /// # Examples
    ///
    /// ```
    /// use maple_tree::{IndexRange, SyncMapleTree};
    ///
    /// let tree = SyncMapleTree::<u64>::default();
    /// tree.write().insert(IndexRange::single(1), 7)?;
    /// let tree = tree.into_tree();
    /// assert_eq!(tree.get(1), Some(&7));
    /// # Ok::<(), maple_tree::StoreError<u64>>(())
    /// ```
    #[doc(alias = "mt_clear_in_rcu")]
    pub fn into_tree(mut self) -> MapleTree<T, S> {
        let empty = if self.core.get_mut().tracks_gaps() {
            MapleTree::with_gaps_in(self.source.clone())
        } else {
            MapleTree::new_in(self.source.clone())
        };
        self.leave();
        core::mem::replace(self.core.get_mut(), empty)
    }

    /// Ends the time in which readers may look: there are none, for the tree is
    /// borrowed mutably and each of them borrows it.
    fn leave(&mut self) {
        *self.face.root.get_mut() = null_mut();
        let core = self.core.get_mut();
        // SAFETY: there is no reader, and `root` is empty for those that may come.
        unsafe { core.root.unwatch() };
        if let Some(batch) = core.limbo.take() {
            // SAFETY: nobody looks at what was cut out; it was by a tree of `T`, and its
            // memory came from the tree's source.
            unsafe { free_now::<T, S>(batch, &self.source) };
        }
    }
}

impl<T, R, L, S> Drop for RcuMapleTree<T, R, L, S>
where
    T: Entry + Send + Sync + 'static,
    R: Rcu,
    L: RawMutex,
    S: NodeSource + Clone + Send + Sync + 'static,
{
    fn drop(&mut self) {
        self.leave();
    }
}

impl<T, R, L> Default for RcuMapleTree<T, R, L>
where
    T: Entry + Send + Sync + 'static,
    R: Rcu + Default,
    L: RawMutex,
{
    fn default() -> Self {
        Self::new(R::default())
    }
}

impl<T, R, L, S> fmt::Debug for RcuMapleTree<T, R, L, S>
where
    T: Entry + Send + Sync + fmt::Debug + 'static,
    R: Rcu,
    L: RawMutex,
    S: NodeSource + Clone + Send + Sync + 'static,
{
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_map().entries(self.read().iter()).finish()
    }
}

/// Passes a batch to the tree's [`Rcu`].
///
/// # Safety
///
/// - `tree` is an `RcuMapleTree<T, R, L, S>`, and the batch is of it and given up.
unsafe fn hand_over<T, R, L, S>(tree: *const (), batch: NonNull<Batch>)
where
    T: Entry + Send + Sync + 'static,
    R: Rcu,
    L: RawMutex,
    S: NodeSource + Clone + Send + Sync + 'static,
{
    let tree: *const RcuMapleTree<T, R, L, S> = tree.cast();
    // SAFETY: the contract. The lock's content, which is borrowed mutably, is in a
    // cell of its own.
    let tree = unsafe { &*tree };
    // SAFETY: the contract; readers hold guards of `rcu` (`read`, `try_snapshot`).
    unsafe { pass_on::<T, R, S>(batch, &tree.rcu, &tree.source) };
}
