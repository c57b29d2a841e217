//! [`Publisher`]: a tree whose owner brings its own lock, opened to readers on demand.
//!
//! A cellar: it tells the tree where readers find its root, and when they are gone.
#![expect(unsafe_code, reason = "opens and closes a tree to lock-free readers")]

use core::fmt;
use core::ops::Deref;
use core::ptr::{NonNull, null_mut};
use core::sync::atomic::Ordering;

use super::published::{Header, Owner, Published, pair};
use super::retire::free_now;
use super::{Rcu, WriterPreallocation};
use crate::error::{OutOfNodes, StoreError, StoreErrorKind};
use crate::pool::Pool;
use crate::source::{HeapNodes, NodeSource};
use crate::{Entry, IndexRange, MapleTree};

/// The writer's end of a [`MapleTree`] that may be opened to lock-free readers, for
/// owners that have a lock already: one that covers more than the tree.
///
/// Until it is [opened](Self::open) it is a `MapleTree` and nothing else, which is changed
/// in place ([`get_mut`](Self::get_mut) lends it). From then on a [`Published`] gives
/// readers what those of an [`RcuMapleTree`](super::RcuMapleTree) have, and this end writes
/// as its [`Writer`](super::Writer) does. What it reads, by going through to the tree
/// underneath, is the tree of this moment: who has this end mutably is the one writer.
///
/// # Calls
///
/// A *call* is what an owner does under its lock: from the first write to
/// [`end`](Self::end). Lock-free readers see each write as it is made; snapshots
/// ([`Published::try_snapshot`]) are had between calls only, so they are of one moment
/// for all that a call wrote. An owner that forgets to end its calls is not unsound, but no
/// snapshot is had without the lock.
///
/// # What is kept
///
/// While it is open, each write keeps a free node aside, so that clearing the tree, and
/// dropping this end, never fails and never waits for readers.
///
/// # Examples
///
/// A tree and a counter under one lock; readers take none.
///
/// ```
/// use std::sync::Mutex;
/// use maple_tree::{EpochRcu, HeapNodes, IndexRange, MapleTree, Published, Publisher};
///
/// struct Areas {
///     owner: Mutex<(Publisher<u64>, u64)>,
///     readers: Published<u64, EpochRcu, HeapNodes>,
/// }
///
/// let mut writer = Publisher::new(MapleTree::with_gaps());
/// let readers = writer.open(EpochRcu)?;
/// let areas = Areas { owner: Mutex::new((writer, 0)), readers };
///
/// let mut owner = areas.owner.lock().unwrap();
/// let (tree, total) = &mut *owner;
/// let mut writes = tree.preallocate(2)?;
/// writes.store(IndexRange::new(0, 9).unwrap(), 1);
/// assert_eq!(areas.readers.read().get(3), Some(&1), "readers see it at once");
/// assert!(areas.readers.try_snapshot().is_none(), "but it is half a call");
/// writes.store(IndexRange::new(20, 29).unwrap(), 2);
/// drop(writes);
/// *total += 20;
/// tree.end();
/// assert_eq!(areas.readers.try_snapshot().unwrap().len(), 2);
/// # Ok::<(), maple_tree::OutOfNodes>(())
/// ```
pub struct Publisher<T: Entry, S: NodeSource = HeapNodes> {
    tree: MapleTree<T, S>,
    /// There while it is open.
    ///
    /// - **PB2** While it is there and the tree is not empty, its header has a spare node.
    face: Option<Owner<T>>,
}

impl<T: Entry, S: NodeSource> Publisher<T, S> {
    /// Takes `tree` over, without readers.
    ///
    /// # Complexity
    ///
    /// O(1); allocates nothing.
    ///
    /// # Examples
    ///
    /// See [`Publisher`].
    #[must_use]
    pub const fn new(tree: MapleTree<T, S>) -> Self {
        Self { tree, face: None }
    }

    /// Returns whether there may be readers.
    ///
    /// # Complexity
    ///
    /// O(1).
    #[must_use]
    pub const fn is_open(&self) -> bool {
        self.face.is_some()
    }

    /// Opens the tree to readers, who find it through what is returned.
    ///
    /// The `Rcu` is owned by both ends together: what stands for one elsewhere is a
    /// `&'static` to it, or an `Arc`.
    ///
    /// # Complexity
    ///
    /// O(1); takes two nodes.
    ///
    /// # Errors
    ///
    /// [`OutOfNodes`]; it is not open, and `rcu` is dropped.
    ///
    /// # Panics
    ///
    /// If it is open.
    ///
    /// # Examples
    ///
    /// See [`Publisher`].
    pub fn open<R>(&mut self, rcu: R) -> Result<Published<T, R, S>, OutOfNodes>
    where
        T: Clone + Send + Sync + 'static,
        R: Rcu + Send + Sync + 'static,
        S: Clone + Send + Sync + 'static,
    {
        assert!(!self.is_open(), "a tree is opened once");
        self.tree.pool.reserve(2)?;
        self.tree.clone_fn.set();
        let memory = self.tree.pool.take_memory();
        let (owner, published) = pair(memory, &self.tree, rcu);
        let header = owner.header();
        // INVARIANT: PB2, from now on by each write before it begins.
        secure(header, &mut self.tree.pool)?;
        // SAFETY:
        // - The word is in a block that `owner` keeps, and this end keeps that until it
        //   takes the tree from readers (`close`, `drop`).
        // - What was reachable goes to `limbo`, and from there to `Rcu::call_rcu`.
        unsafe { self.tree.root.watch(NonNull::from(&header.face.root)) };
        // SAFETY: as for the word; on which thread does not matter (PB1).
        unsafe { self.tree.limbo.set_retire(owner.retire()) };
        self.face = Some(owner);
        Ok(published)
    }

    /// Takes the tree from readers again: whoever has their end has no reader. From now on
    /// it is changed in place.
    ///
    /// # Complexity
    ///
    /// O(k) for k nodes that were cut out and not handed over: those are freed at once.
    ///
    /// # Panics
    ///
    /// If `published` is the end of another tree.
    ///
    /// # Examples
    ///
    /// ```
    /// use maple_tree::{EpochRcu, IndexRange, MapleTree, Publisher};
    ///
    /// let mut writer = Publisher::new(MapleTree::new());
    /// let readers = writer.open(EpochRcu)?;
    /// writer.insert(IndexRange::single(1), 7).unwrap();
    /// assert!(writer.get_mut().is_none());
    /// writer.close(readers);
    /// *writer.get_mut().unwrap().get_mut(1)?.unwrap() = 8;
    /// assert_eq!(writer.get(1), Some(&8));
    /// # Ok::<(), maple_tree::OutOfNodes>(())
    /// ```
    pub fn close<R>(&mut self, published: Published<T, R, S>)
    where
        T: Send + Sync + 'static,
        R: Rcu + Send + Sync + 'static,
        S: Clone + Send + Sync + 'static,
    {
        let is_ours = |owner: &mut Owner<T>| owner.is_of(&published.owner);
        let owner = self.face.take_if(is_ours);
        let owner = owner.expect("the two ends are of one tree");
        // SAFETY: readers borrow the other end, which is here, and nobody has it.
        unsafe { self.tree.root.unwatch() };
        if let Some(batch) = self.tree.limbo.take() {
            // SAFETY: nobody looks at what was cut out; it was by a tree of `T`, and its
            // memory came from the tree's source.
            unsafe { free_now::<T, S>(batch, published.source()) };
        }
        give_spare_back(owner.header(), &mut self.tree.pool);
        // With both ends the block goes.
        drop((owner, published));
    }

    /// Lends the tree, to be changed in every way; `None` while it is open.
    ///
    /// # Complexity
    ///
    /// O(1).
    ///
    /// # Examples
    ///
    /// See [`close`](Self::close).
    #[must_use]
    pub fn get_mut(&mut self) -> Option<&mut MapleTree<T, S>> {
        if self.is_open() {
            return None;
        }
        Some(&mut self.tree)
    }

    /// Begins a call before its first write: for an owner that changes something beside the
    /// tree first, which readers find by the same number
    /// ([`sequence`](super::Published::sequence)). Without effect if it has begun.
    ///
    /// # Complexity
    ///
    /// O(1).
    ///
    /// # Examples
    ///
    /// ```
    /// use maple_tree::{EpochRcu, MapleTree, Publisher};
    ///
    /// let mut writer = Publisher::new(MapleTree::<u64>::new());
    /// let readers = writer.open(EpochRcu)?;
    /// writer.begin();
    /// assert!(readers.try_snapshot().is_none());
    /// writer.end();
    /// assert!(readers.try_snapshot().is_some());
    /// # Ok::<(), maple_tree::OutOfNodes>(())
    /// ```
    #[inline]
    pub fn begin(&mut self) {
        self.begun();
    }

    /// Ends a call: from now on snapshots are had without the lock. Without effect if
    /// nothing was written since the last one ended.
    ///
    /// # Complexity
    ///
    /// O(1).
    ///
    /// # Examples
    ///
    /// See [`Publisher`].
    #[inline]
    pub fn end(&mut self) {
        if let Some(owner) = &self.face {
            owner.header().face.end(&self.tree);
        }
    }

    /// Passes what was cut out to the [`Rcu`] now, rather than with the next few writes.
    pub fn hand_over(&mut self) {
        self.tree.limbo.hand_over();
    }

    /// The tree, to be written to.
    #[inline]
    fn begun(&mut self) -> &mut MapleTree<T, S> {
        if let Some(owner) = &self.face {
            owner.header().face.begin(&self.tree);
        }
        &mut self.tree
    }

    /// Makes sure that the tree can be cleared after what is written next.
    #[inline]
    fn secure(&mut self) -> Result<(), OutOfNodes> {
        match &self.face {
            Some(owner) => secure(owner.header(), &mut self.tree.pool),
            None => Ok(()),
        }
    }

    /// Sets aside the nodes that any `writes` writes could take, as
    /// [`MapleTree::preallocate`] does. The call begins with the first of them.
    ///
    /// # Complexity
    ///
    /// Allocates O(`writes` * log n) nodes.
    ///
    /// # Errors
    ///
    /// [`OutOfNodes`]; the content of the tree is unchanged, and no call has begun.
    ///
    /// # Examples
    ///
    /// See [`Publisher`].
    #[doc(alias = "mas_preallocate")]
    pub fn preallocate(
        &mut self,
        writes: usize,
    ) -> Result<WriterPreallocation<'_, T, S>, OutOfNodes>
    where
        T: Clone,
    {
        self.secure()?;
        let writes = self.tree.preallocate(writes)?;
        let face = self.face.as_ref().map(|owner| &owner.header().face);
        Ok(WriterPreallocation { writes, face })
    }

    /// As [`MapleTree::insert`].
    ///
    /// # Errors
    ///
    /// As there.
    ///
    /// # Examples
    ///
    /// ```
    /// use maple_tree::{IndexRange, MapleTree, Publisher};
    ///
    /// let mut writer = Publisher::new(MapleTree::new());
    /// writer.insert(IndexRange::new(1, 9).unwrap(), 7).unwrap();
    /// assert_eq!(writer.insert(IndexRange::single(3), 8).unwrap_err().value, 8);
    /// writer.store(IndexRange::single(3), 8).unwrap();
    /// writer.remove(IndexRange::single(1))?;
    /// assert_eq!(writer.erase(3)?, Some((IndexRange::single(3), 8)));
    /// assert_eq!(writer.len(), 2);
    /// # Ok::<(), maple_tree::OutOfNodes>(())
    /// ```
    pub fn insert(&mut self, range: IndexRange, value: T) -> Result<(), StoreError<T>> {
        match self.secure() {
            Ok(()) => self.begun().insert(range, value),
            Err(OutOfNodes) => Err(refused(value)),
        }
    }

    /// As [`MapleTree::store`].
    ///
    /// # Errors
    ///
    /// As there.
    pub fn store(&mut self, range: IndexRange, value: T) -> Result<(), StoreError<T>>
    where
        T: Clone,
    {
        match self.secure() {
            Ok(()) => self.begun().store(range, value),
            Err(OutOfNodes) => Err(refused(value)),
        }
    }

    /// As [`MapleTree::erase`]; while it is open, what is returned is a clone.
    ///
    /// # Errors
    ///
    /// As there.
    pub fn erase(&mut self, index: u64) -> Result<Option<(IndexRange, T)>, OutOfNodes> {
        self.secure()?;
        self.begun().erase(index)
    }

    /// As [`MapleTree::remove`].
    ///
    /// # Errors
    ///
    /// As there.
    pub fn remove(&mut self, range: IndexRange) -> Result<(), OutOfNodes>
    where
        T: Clone,
    {
        self.secure()?;
        self.begun().remove(range)
    }

    /// Removes all entries. Neither fails nor waits for readers, who may look at what was
    /// there until they are gone.
    ///
    /// # Complexity
    ///
    /// O(1) while it is open, besides what handing over takes; else as
    /// [`MapleTree::clear`].
    ///
    /// # Examples
    ///
    /// See [`Published::barrier`].
    pub fn clear(&mut self) {
        if self.tree.is_empty() {
            return;
        }
        if let Some(owner) = &self.face {
            owner.header().face.begin(&self.tree);
            // One record is to be noted, for which an earlier write left room, perhaps.
            let room = self.tree.limbo.nodes_for(1);
            if self.tree.pool.reserve(room).is_err() {
                // INVARIANT: PB2. The spare is there, and the tree is about to be empty.
                give_spare_back(owner.header(), &mut self.tree.pool);
            }
        }
        self.tree.clear();
    }
}

/// Takes a free node aside, if there is none.
#[inline]
fn secure<T, S: NodeSource>(header: &Header<T>, pool: &mut Pool<S>) -> Result<(), OutOfNodes> {
    // ORDERING: `Relaxed`, here and below: only the publisher uses it.
    if header.spare.load(Ordering::Relaxed).is_null() {
        pool.reserve(1)?;
        let spare = pool.take_memory();
        header.spare.store(spare.as_ptr(), Ordering::Relaxed);
    }
    Ok(())
}

/// Puts the free node back.
fn give_spare_back<T, S: NodeSource>(header: &Header<T>, pool: &mut Pool<S>) {
    let spare = header.spare.swap(null_mut(), Ordering::Relaxed);
    if let Some(spare) = NonNull::new(spare) {
        pool.put(spare);
    }
}

fn refused<T>(value: T) -> StoreError<T> {
    StoreError {
        kind: StoreErrorKind::OutOfNodes,
        value,
    }
}

/// Readers find an empty tree from now on. They are not waited for.
impl<T: Entry, S: NodeSource> Drop for Publisher<T, S> {
    fn drop(&mut self) {
        if self.is_open() {
            self.clear();
            self.end();
            self.hand_over();
        }
        if let Some(owner) = &self.face {
            // SAFETY: the tree has no node, and gets none.
            unsafe { self.tree.root.unwatch() };
            give_spare_back(owner.header(), &mut self.tree.pool);
        }
    }
}

impl<T: Entry, S: NodeSource> Deref for Publisher<T, S> {
    type Target = MapleTree<T, S>;

    fn deref(&self) -> &MapleTree<T, S> {
        &self.tree
    }
}

impl<T: Entry, S: NodeSource> From<MapleTree<T, S>> for Publisher<T, S> {
    fn from(tree: MapleTree<T, S>) -> Self {
        Self::new(tree)
    }
}

impl<T: Entry + fmt::Debug, S: NodeSource> fmt::Debug for Publisher<T, S> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        fmt::Debug::fmt(&self.tree, f)
    }
}
