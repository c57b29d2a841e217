//! [`Writer`]: writing to a tree that readers look at.

use core::fmt;
use core::ops::Deref;

use lock_api::{MutexGuard, RawMutex};

use super::face::Face;
use super::{Rcu, RcuMapleTree};
use crate::error::{Occupied, OutOfNodes, SortedError, StoreError};
use crate::source::NodeSource;
use crate::tree::Segment;
use crate::{AllocateError, CursorMut, Entry, GapRequest, IndexRange, MapleTree, Preallocation};

/// The one writer of an [`RcuMapleTree`], for as long as it is there.
///
/// It holds the lock: other writers wait until it is dropped, readers do not.
///
/// What it reads, by going through to the [`MapleTree`] underneath, is the tree of
/// this moment: nobody else writes. That is also where to search for gaps. What it
/// writes readers see at once, each write by itself: a change that readers must see
/// whole is one store, or one value that holds all of it.
///
/// # What it does not have
///
/// Of the methods of a [`MapleTree`], those that could not keep what readers are promised:
///
/// - [`get_mut`](MapleTree::get_mut), [`for_each_mut`](MapleTree::for_each_mut), a
///   cursor's `value_mut`, and [`slot`](MapleTree::slot), which hands out such a
///   reference too: a reader may look at the entry that would change in place. Store
///   another.
/// - [`split_at`](MapleTree::split_at) and [`append`](MapleTree::append) move values
///   from one tree to another without cloning them. A reader that found one before
///   may look at it still, while the other tree's owner changes or drops it. Take
///   a [`snapshot`](MapleTree::snapshot) and split that: it clones what it shares.
/// - [`retain`](MapleTree::retain) lays the whole tree out anew. Readers would keep all
///   of the old one, so that for as long as one of them stays there are two. Step
///   through with [`cursor_mut`](Self::cursor_mut) and erase: each write replaces a few
///   nodes.
/// - `extend`, which panics where nodes run out: [`try_extend`](Self::try_extend).
#[doc(alias = "mtree_unlock")]
#[doc(alias = "mas_unlock")]
#[doc(alias = "mas_unlock_irqrestore")]
pub struct Writer<'t, T, R, L, S>
where
    T: Entry + Send + Sync + 'static,
    R: Rcu,
    L: RawMutex,
    S: NodeSource + Clone + Send + Sync + 'static,
{
    core: MutexGuard<'t, L, MapleTree<T, S>>,
    tree: &'t RcuMapleTree<T, R, L, S>,
}

impl<'t, T, R, L, S> Writer<'t, T, R, L, S>
where
    T: Entry + Send + Sync + 'static,
    R: Rcu,
    L: RawMutex,
    S: NodeSource + Clone + Send + Sync + 'static,
{
    pub(super) fn new(
        core: MutexGuard<'t, L, MapleTree<T, S>>,
        tree: &'t RcuMapleTree<T, R, L, S>,
    ) -> Self {
        Self { core, tree }
    }

    /// The tree, to be written to.
    #[inline]
    fn core(&mut self) -> &mut MapleTree<T, S> {
        self.tree.face.begin(&*self.core);
        &mut self.core
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
    /// use maple_tree::{IndexRange, SyncMapleTree};
    ///
    /// let tree = SyncMapleTree::<u64>::default();
    /// let mut writer = tree.write();
    /// writer.insert(IndexRange::single(1), 7)?;
    /// assert_eq!(writer.insert(IndexRange::single(1), 8).unwrap_err().value, 8);
    /// # Ok::<(), maple_tree::StoreError<u64>>(())
    /// ```
    #[doc(alias = "mtree_insert_range")]
    #[doc(alias = "mtree_insert")]
    pub fn insert(&mut self, range: IndexRange, value: T) -> Result<(), StoreError<T>> {
        self.core().insert(range, value)
    }

    /// As [`MapleTree::store`].
    ///
    /// # Errors
    ///
    /// As there.
    #[doc(alias = "mtree_store_range")]
    #[doc(alias = "mtree_store")]
    pub fn store(&mut self, range: IndexRange, value: T) -> Result<(), StoreError<T>>
    where
        T: Clone,
    {
        self.core().store(range, value)
    }

    /// As [`MapleTree::store_with`].
    ///
    /// # Errors
    ///
    /// As there.
    pub fn store_with(
        &mut self,
        range: IndexRange,
        value: T,
        visit: impl FnMut(IndexRange, &T),
    ) -> Result<(), StoreError<T>>
    where
        T: Clone,
    {
        self.core().store_with(range, value, visit)
    }

    /// As [`MapleTree::erase`]; what is returned is a clone, for readers may still
    /// look at the entry.
    ///
    /// # Errors
    ///
    /// As there.
    ///
    /// # Examples
    ///
    /// ```
    /// use maple_tree::{IndexRange, SyncMapleTree};
    ///
    /// let tree = SyncMapleTree::<u64>::default();
    /// let mut writer = tree.write();
    /// writer.insert(IndexRange::single(1), 7).unwrap();
    /// assert_eq!(writer.erase(1)?, Some((IndexRange::single(1), 7)));
    /// # Ok::<(), maple_tree::OutOfNodes>(())
    /// ```
    #[doc(alias = "mtree_erase")]
    pub fn erase(&mut self, index: u64) -> Result<Option<(IndexRange, T)>, OutOfNodes>
    where
        T: Clone,
    {
        self.core.clone_fn.set();
        self.core().erase(index)
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
        self.core().remove(range)
    }

    /// As [`MapleTree::remove_with`].
    ///
    /// # Errors
    ///
    /// As there.
    pub fn remove_with(
        &mut self,
        range: IndexRange,
        visit: impl FnMut(IndexRange, &T),
    ) -> Result<(), OutOfNodes>
    where
        T: Clone,
    {
        self.core().remove_with(range, visit)
    }

    /// As [`MapleTree::store_coalescing`].
    ///
    /// # Errors
    ///
    /// As there.
    pub fn store_coalescing(
        &mut self,
        range: IndexRange,
        value: T,
    ) -> Result<IndexRange, StoreError<T>>
    where
        T: Clone + PartialEq,
    {
        self.core().store_coalescing(range, value)
    }

    /// As [`MapleTree::try_extend`]. Each item is a write by itself: a reader may look
    /// between any two.
    ///
    /// # Errors
    ///
    /// As there.
    ///
    /// # Examples
    ///
    /// ```
    /// use maple_tree::{IndexRange, SyncMapleTree};
    ///
    /// let tree = SyncMapleTree::<u64>::default();
    /// tree.write().try_extend((0..5).map(|i| (IndexRange::single(i * 10), i)))?;
    /// assert_eq!(tree.read().get(40), Some(&4));
    /// # Ok::<(), maple_tree::StoreError<u64>>(())
    /// ```
    pub fn try_extend(
        &mut self,
        items: impl IntoIterator<Item = (IndexRange, T)>,
    ) -> Result<(), StoreError<T>>
    where
        T: Clone,
    {
        self.core().try_extend(items)
    }

    /// As [`MapleTree::bulk_load`]. Readers see it whole or not at all: the nodes are
    /// made aside, and found from one moment on. A look-up or an iteration that began
    /// before finds the tree empty.
    ///
    /// # Complexity
    ///
    /// As there; readers are not waited for, and nothing is cut out.
    ///
    /// # Errors
    ///
    /// As there. Readers have seen none of the items that were taken.
    ///
    /// # Examples
    ///
    /// ```
    /// use maple_tree::{IndexRange, SortedError, SyncMapleTree};
    ///
    /// let tree = SyncMapleTree::<u64>::default();
    /// let squares = (0..1000).map(|i| (IndexRange::single(i * i), i));
    /// tree.write().bulk_load(squares.inspect(|_| assert!(tree.read().is_empty())))?;
    /// assert_eq!(tree.read().get(81), Some(&9));
    /// # Ok::<(), SortedError>(())
    /// ```
    #[doc(alias = "mas_expected_entries")]
    pub fn bulk_load(
        &mut self,
        items: impl IntoIterator<Item = (IndexRange, T)>,
    ) -> Result<(), SortedError> {
        if !self.core.is_empty() {
            return Err(SortedError::NotEmpty);
        }
        let mut aside = MapleTree::empty(self.core.branches, self.tree.source.clone());
        aside.bulk_load(items)?;
        let root = aside.root.replace(None);
        let (height, len) = (aside.height, aside.len);
        (aside.height, aside.len) = (0, 0);
        let core = self.core();
        (core.height, core.len) = (height, len);
        let before = core.root.replace(root);
        debug_assert!(before.is_none(), "an empty tree has no node");
        Ok(())
    }

    /// As [`MapleTree::allocate_lowest`].
    ///
    /// # Errors
    ///
    /// As there.
    ///
    /// # Examples
    ///
    /// ```
    /// use core::num::NonZeroU64;
    /// use maple_tree::{EpochRcu, GapRequest, IndexRange, SyncMapleTree};
    ///
    /// let tree = SyncMapleTree::<u64>::with_gaps(EpochRcu);
    /// let mut writer = tree.write();
    /// writer.insert(IndexRange::new(0, 9).unwrap(), 1).unwrap();
    /// let four = GapRequest::new(NonZeroU64::new(4).unwrap());
    /// assert_eq!(writer.allocate_lowest(&four, 2)?.first(), 10);
    /// assert_eq!(writer.allocate_highest(&four, 3)?.last(), u64::MAX);
    /// let mut next = 5;
    /// assert_eq!(writer.allocate_cyclic(IndexRange::new(0, 99).unwrap(), &mut next, 4)?, 14);
    /// # Ok::<(), maple_tree::AllocateError<u64>>(())
    /// ```
    #[doc(alias = "mtree_alloc_range")]
    pub fn allocate_lowest(
        &mut self,
        request: &GapRequest,
        value: T,
    ) -> Result<IndexRange, AllocateError<T>> {
        self.core().allocate_lowest(request, value)
    }

    /// As [`MapleTree::allocate_highest`].
    ///
    /// # Errors
    ///
    /// As there.
    #[doc(alias = "mtree_alloc_rrange")]
    pub fn allocate_highest(
        &mut self,
        request: &GapRequest,
        value: T,
    ) -> Result<IndexRange, AllocateError<T>> {
        self.core().allocate_highest(request, value)
    }

    /// As [`MapleTree::allocate_cyclic`].
    ///
    /// # Errors
    ///
    /// As there.
    #[doc(alias = "mtree_alloc_cyclic")]
    pub fn allocate_cyclic(
        &mut self,
        ids: IndexRange,
        next: &mut u64,
        value: T,
    ) -> Result<u64, AllocateError<T>> {
        self.core().allocate_cyclic(ids, next, value)
    }

    /// As [`MapleTree::shrink_to_fit`]. What readers may look at still is freed later, and
    /// [`clear`](Self::clear) may have to wait for them, until the next write.
    pub fn shrink_to_fit(&mut self) {
        self.core.shrink_to_fit();
    }

    /// As [`MapleTree::clear`]. Where there is no memory to note what goes, it waits
    /// for the readers that look at it, as [`Rcu::synchronize`] does: a thread that is
    /// a reader itself at that moment waits for itself (or, with `LocalRcu`, panics).
    #[doc(alias = "mtree_destroy")]
    #[doc(alias = "__mt_destroy")]
    pub fn clear(&mut self) {
        let core = self.core();
        let room = core.limbo.nodes_for(1);
        if core.pool.reserve(room).is_ok() {
            core.clear();
            return;
        }
        let root = core.root.replace(None);
        (core.height, core.len) = (0, 0);
        self.tree.rcu.synchronize();
        if let Some(root) = root {
            self.core.pool.release(root);
        }
    }

    /// As [`MapleTree::preallocate`].
    ///
    /// # Errors
    ///
    /// As there.
    ///
    /// # Examples
    ///
    /// ```
    /// use maple_tree::{IndexRange, SyncMapleTree};
    ///
    /// let tree = SyncMapleTree::<u64>::default();
    /// let mut writer = tree.write();
    /// let mut writes = writer.preallocate(2)?;
    /// writes.store(IndexRange::new(0, 9).unwrap(), 7);
    /// writes.store(IndexRange::new(5, 14).unwrap(), 8);
    /// assert_eq!(tree.read().get(5), Some(&8));
    /// # Ok::<(), maple_tree::OutOfNodes>(())
    /// ```
    #[doc(alias = "mas_preallocate")]
    pub fn preallocate(
        &mut self,
        writes: usize,
    ) -> Result<WriterPreallocation<'_, T, S>, OutOfNodes>
    where
        T: Clone,
    {
        self.core.clone_fn.set();
        let writes = self.core.preallocate(writes)?;
        Ok(WriterPreallocation {
            writes,
            face: Some(&self.tree.face),
        })
    }

    /// As [`MapleTree::cursor_mut`], without changing entries in place.
    ///
    /// # Examples
    ///
    /// ```
    /// use maple_tree::{IndexRange, SyncMapleTree};
    ///
    /// let tree = SyncMapleTree::<u64>::default();
    /// let mut writer = tree.write();
    /// for i in 0..10 {
    ///     writer.insert(IndexRange::single(10 * i), i).unwrap();
    /// }
    /// let mut cursor = writer.cursor_mut(30);
    /// assert_eq!(cursor.erase()?.unwrap().1, 3);
    /// assert_eq!(cursor.next_entry().unwrap().1, &4);
    /// # Ok::<(), maple_tree::OutOfNodes>(())
    /// ```
    pub fn cursor_mut(&mut self, index: u64) -> WriterCursor<'_, T, S>
    where
        T: Clone,
    {
        self.core.clone_fn.set();
        WriterCursor {
            cursor: self.core().cursor_mut(index),
        }
    }

    /// Passes what was cut out to the [`Rcu`] now, rather than with the next few writes.
    pub fn hand_over(&mut self) {
        self.core.limbo.hand_over();
    }
}

/// A snapshot may be taken without the lock again.
impl<T, R, L, S> Drop for Writer<'_, T, R, L, S>
where
    T: Entry + Send + Sync + 'static,
    R: Rcu,
    L: RawMutex,
    S: NodeSource + Clone + Send + Sync + 'static,
{
    fn drop(&mut self) {
        self.tree.face.end(&*self.core);
    }
}

impl<T, R, L, S> Deref for Writer<'_, T, R, L, S>
where
    T: Entry + Send + Sync + 'static,
    R: Rcu,
    L: RawMutex,
    S: NodeSource + Clone + Send + Sync + 'static,
{
    type Target = MapleTree<T, S>;

    fn deref(&self) -> &MapleTree<T, S> {
        &self.core
    }
}

impl<T, R, L, S> fmt::Debug for Writer<'_, T, R, L, S>
where
    T: Entry + Send + Sync + fmt::Debug + 'static,
    R: Rcu,
    L: RawMutex,
    S: NodeSource + Clone + Send + Sync + 'static,
{
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        fmt::Debug::fmt(&*self.core, f)
    }
}

/// Writes of a [`Writer`] or [`Publisher`](super::Publisher) that cannot fail; see
/// [`Preallocation`].
#[derive(Debug)]
pub struct WriterPreallocation<'w, T: Entry, S: NodeSource> {
    pub(super) writes: Preallocation<'w, T, S>,
    /// What readers find, if there may be any.
    pub(super) face: Option<&'w Face<T>>,
}

impl<'w, T: Entry + Clone, S: NodeSource> WriterPreallocation<'w, T, S> {
    /// The writes, one of which is made now.
    #[inline]
    fn begun(&mut self) -> &mut Preallocation<'w, T, S> {
        if let Some(face) = self.face {
            face.begin(&self.writes);
        }
        &mut self.writes
    }

    /// As [`Preallocation::insert`].
    ///
    /// # Errors
    ///
    /// As there.
    pub fn insert(&mut self, range: IndexRange, value: T) -> Result<(), Occupied<T>> {
        self.begun().insert(range, value)
    }

    /// As [`Preallocation::store`].
    pub fn store(&mut self, range: IndexRange, value: T) {
        self.begun().store(range, value);
    }

    /// As [`Preallocation::store_with`].
    pub fn store_with(&mut self, range: IndexRange, value: T, visit: impl FnMut(IndexRange, &T)) {
        self.begun().store_with(range, value, visit);
    }

    /// As [`Preallocation::erase`]; what is returned is a clone.
    pub fn erase(&mut self, index: u64) -> Option<(IndexRange, T)> {
        self.begun().erase(index)
    }

    /// As [`Preallocation::remove`].
    pub fn remove(&mut self, range: IndexRange) {
        self.begun().remove(range);
    }

    /// As [`Preallocation::remove_with`].
    pub fn remove_with(&mut self, range: IndexRange, visit: impl FnMut(IndexRange, &T)) {
        self.begun().remove_with(range, visit);
    }
}

impl<T: Entry, S: NodeSource> Deref for WriterPreallocation<'_, T, S> {
    type Target = MapleTree<T, S>;

    fn deref(&self) -> &MapleTree<T, S> {
        &self.writes
    }
}

/// A place in a tree that readers look at; see [`Writer::cursor_mut`].
#[derive(Debug)]
pub struct WriterCursor<'w, T: Entry, S: NodeSource> {
    cursor: CursorMut<'w, T, S>,
}

impl<T: Entry + Clone, S: NodeSource> WriterCursor<'_, T, S> {
    /// As [`CursorMut::segment`].
    #[must_use]
    pub fn segment(&self) -> Segment<'_, T> {
        self.cursor.segment()
    }

    /// As [`CursorMut::range`].
    #[must_use]
    pub fn range(&self) -> IndexRange {
        self.cursor.range()
    }

    /// As [`CursorMut::seek`].
    pub fn seek(&mut self, index: u64) -> Segment<'_, T> {
        self.cursor.seek(index)
    }

    /// As [`CursorMut::next`]: steps to the next entry or gap.
    ///
    /// # Examples
    ///
    /// ```
    /// use maple_tree::{IndexRange, SyncMapleTree};
    ///
    /// let tree = SyncMapleTree::<u64>::default();
    /// let mut writer = tree.write();
    /// writer.insert(IndexRange::new(10, 19).unwrap(), 7)?;
    /// let mut cursor = writer.cursor_mut(0);
    /// assert_eq!(cursor.next().unwrap().entry(), Some(&7));
    /// assert!(cursor.next().unwrap().is_gap());
    /// assert_eq!(cursor.next(), None); // that gap reaches the highest index
    /// assert_eq!(cursor.range().first(), 20);
    /// # Ok::<(), maple_tree::StoreError<u64>>(())
    /// ```
    #[expect(clippy::should_implement_trait, reason = "a cursor also steps back")]
    #[doc(alias = "mas_next_range")]
    pub fn next(&mut self) -> Option<Segment<'_, T>> {
        self.cursor.next()
    }

    /// As [`CursorMut::previous`]: steps to the entry or gap before.
    ///
    /// # Examples
    ///
    /// ```
    /// use maple_tree::{IndexRange, SyncMapleTree};
    ///
    /// let tree = SyncMapleTree::<u64>::default();
    /// let mut writer = tree.write();
    /// writer.insert(IndexRange::new(10, 19).unwrap(), 7)?;
    /// let mut cursor = writer.cursor_mut(10);
    /// assert_eq!(cursor.previous().unwrap().range(), IndexRange::new(0, 9).unwrap());
    /// assert_eq!(cursor.previous(), None);
    /// # Ok::<(), maple_tree::StoreError<u64>>(())
    /// ```
    #[doc(alias = "mas_prev_range")]
    pub fn previous(&mut self) -> Option<Segment<'_, T>> {
        self.cursor.previous()
    }

    /// As [`CursorMut::next_entry`].
    pub fn next_entry(&mut self) -> Option<(IndexRange, &T)> {
        self.cursor.next_entry()
    }

    /// As [`CursorMut::previous_entry`].
    pub fn previous_entry(&mut self) -> Option<(IndexRange, &T)> {
        self.cursor.previous_entry()
    }

    /// As [`CursorMut::insert`].
    ///
    /// # Errors
    ///
    /// As there.
    pub fn insert(&mut self, range: IndexRange, value: T) -> Result<(), StoreError<T>> {
        self.cursor.insert(range, value)
    }

    /// As [`CursorMut::store`].
    ///
    /// # Errors
    ///
    /// As there.
    pub fn store(&mut self, range: IndexRange, value: T) -> Result<(), StoreError<T>> {
        self.cursor.store(range, value)
    }

    /// As [`CursorMut::erase`]; what is returned is a clone.
    ///
    /// # Errors
    ///
    /// As there.
    pub fn erase(&mut self) -> Result<Option<(IndexRange, T)>, OutOfNodes> {
        self.cursor.erase()
    }

    /// As [`CursorMut::remove`].
    ///
    /// # Errors
    ///
    /// As there.
    pub fn remove(&mut self, range: IndexRange) -> Result<(), OutOfNodes> {
        self.cursor.remove(range)
    }
}
