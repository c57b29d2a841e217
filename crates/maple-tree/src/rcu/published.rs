//! [`Published`]: the readers' end of a tree whose owner has a lock of its own, and the
//! memory that both ends own together.
//!
//! A cellar: one node's memory holds what readers find, by a count of two.
#![expect(unsafe_code, reason = "shares a node's memory between two owners")]

use core::fmt;
use core::marker::PhantomData;
use core::ptr::{NonNull, null_mut};
use core::sync::atomic::{AtomicPtr, AtomicU32, Ordering};

use super::face::Face;
use super::retire::pass_on;
use super::{Rcu, Reader};
use crate::limbo::{Batch, Retire};
use crate::node::NodeMemory;
use crate::source::NodeSource;
use crate::{Entry, MapleTree};

/// What a [`Publisher`](super::Publisher), which does not know `R` and `S`, uses of a
/// [`Block`].
#[repr(C)]
pub(super) struct Header<T> {
    pub(super) face: Face<T>,
    /// A free node for the publisher, or null.
    pub(super) spare: AtomicPtr<NodeMemory>,
    /// How many of the two ends are there.
    owners: AtomicU32,
    give_back: unsafe fn(NonNull<Header<T>>),
    hand_over: unsafe fn(*const (), NonNull<Batch>),
}

/// What the two ends of a published tree have in common, in the memory of a node.
#[repr(C)]
struct Block<T, R, S> {
    header: Header<T>,
    rcu: R,
    source: S,
}

/// One of the two ends' hold on a [`Block`].
///
/// # Invariants
///
/// - **PB1** It is a block of this `T`, made by [`pair`], whose `R` and `S` are `Send`
///   and `Sync`, and stays until both ends are dropped.
pub(super) struct Owner<T>(NonNull<Header<T>>);

// SAFETY: what is reached through it is shared by reference, as an `Arc`'s content, and
// dropped by whichever end is dropped last: `R` and `S` are `Send` and `Sync` (PB1), and
// of `T` there are addresses of nodes, whose bounds these are.
unsafe impl<T: Send + Sync> Send for Owner<T> {}

// SAFETY: as above.
unsafe impl<T: Send + Sync> Sync for Owner<T> {}

/// Makes a block of `memory`, and both ends of it. The face is that of `tree`.
///
/// `memory` is of a node, came from `source`, and is the block's from now on.
pub(super) fn pair<T, R, S>(
    memory: NonNull<NodeMemory>,
    tree: &MapleTree<T, S>,
    rcu: R,
) -> (Owner<T>, Published<T, R, S>)
where
    T: Entry + Send + Sync + 'static,
    R: Rcu + Send + Sync + 'static,
    S: NodeSource + Clone + Send + Sync + 'static,
{
    const {
        assert!(
            size_of::<Block<T, R, S>>() <= size_of::<NodeMemory>()
                && align_of::<Block<T, R, S>>() <= align_of::<NodeMemory>(),
            "the `Rcu` of a published tree is small: it may be a reference"
        );
    }
    let block = Block {
        header: Header {
            face: Face::of(tree),
            spare: AtomicPtr::new(null_mut()),
            owners: AtomicU32::new(2),
            give_back: give_back::<T, R, S>,
            hand_over: hand_over::<T, R, S>,
        },
        rcu,
        source: tree.pool.source().clone(),
    };
    let place: NonNull<Block<T, R, S>> = memory.cast();
    // SAFETY: the memory of a node is ours, and large and aligned enough.
    unsafe { place.write(block) };
    // INVARIANT: PB1. Two ends, as `owners` says.
    let published = Published {
        owner: Owner(place.cast()),
        _block: PhantomData,
    };
    (Owner(place.cast()), published)
}

impl<T> Owner<T> {
    #[inline]
    pub(super) fn header(&self) -> &Header<T> {
        // SAFETY: a block begins with its header (`repr(C)`), and this end keeps it (PB1).
        unsafe { self.0.as_ref() }
    }

    /// Who is told of batches; the context stays until this end is dropped.
    pub(super) fn retire(&self) -> Retire {
        Retire {
            context: self.0.as_ptr().cast_const().cast(),
            hand_over: self.header().hand_over,
        }
    }

    /// Whether both are ends of one tree.
    pub(super) fn is_of(&self, other: &Self) -> bool {
        self.0 == other.0
    }
}

impl<T> Drop for Owner<T> {
    fn drop(&mut self) {
        let header = self.header();
        let give_back = header.give_back;
        // ORDERING: `Release` pairs with the `Acquire` below: what this end did with the
        // block is done when the other takes it apart.
        if header.owners.fetch_sub(1, Ordering::Release) != 1 {
            return;
        }
        // ORDERING: `Acquire` pairs with the `Release` above, which ours continues.
        header.owners.load(Ordering::Acquire);
        // SAFETY: both ends are dropped, and the function is the one of this block (PB1).
        unsafe { give_back(self.0) };
    }
}

/// Takes a block apart.
///
/// # Safety
///
/// - `header` is that of a `Block<T, R, S>` made by [`pair`], which nobody uses any more.
unsafe fn give_back<T, R, S: NodeSource>(header: NonNull<Header<T>>) {
    let place: NonNull<Block<T, R, S>> = header.cast();
    // SAFETY: the contract; it is read once.
    let block = unsafe { place.read() };
    // SAFETY: the memory came from the source (`pair`), or a clone of it, and what it held
    // was read.
    unsafe { block.source.free(place.cast()) };
}

/// Passes a batch to the `Rcu` of the block.
///
/// # Safety
///
/// - `context` is a `Block<T, R, S>` that is there, and the batch is of its tree and
///   given up.
unsafe fn hand_over<T, R, S>(context: *const (), batch: NonNull<Batch>)
where
    T: Entry + Send + Sync + 'static,
    R: Rcu,
    S: NodeSource + Clone + Send + Sync + 'static,
{
    let block: *const Block<T, R, S> = context.cast();
    // SAFETY: the contract.
    let block = unsafe { &*block };
    // SAFETY: the contract; readers hold guards of `rcu` (`Published`).
    unsafe { pass_on::<T, R, S>(batch, &block.rcu, &block.source) };
}

/// The readers' end of a tree that a [`Publisher`](super::Publisher) writes to.
///
/// It is `Sync`, lies beside whatever lock its owner keeps the publisher under, and
/// outlives it, too: the tree is empty then. What a reader sees is what it sees of an
/// [`RcuMapleTree`](super::RcuMapleTree).
///
/// # Examples
///
/// See [`Publisher`](super::Publisher).
pub struct Published<T, R, S>
where
    T: Entry + Send + Sync + 'static,
    R: Rcu + Send + Sync + 'static,
    S: NodeSource + Clone + Send + Sync + 'static,
{
    pub(super) owner: Owner<T>,
    _block: PhantomData<(R, S)>,
}

impl<T, R, S> Published<T, R, S>
where
    T: Entry + Send + Sync + 'static,
    R: Rcu + Send + Sync + 'static,
    S: NodeSource + Clone + Send + Sync + 'static,
{
    fn block(&self) -> &Block<T, R, S> {
        let block: NonNull<Block<T, R, S>> = self.owner.0.cast();
        // SAFETY: made by `pair` of these types, and this end keeps it (PB1).
        unsafe { block.as_ref() }
    }

    pub(super) fn source(&self) -> &S {
        &self.block().source
    }

    /// Enters as a reader: never waits for the writer.
    ///
    /// # Complexity
    ///
    /// What [`Rcu::read_lock`] takes.
    ///
    /// # Examples
    ///
    /// See [`Publisher`](super::Publisher).
    #[inline]
    pub fn read(&self) -> Reader<'_, T, R> {
        let block = self.block();
        Reader::new(&block.header.face.root, block.rcu.read_lock())
    }

    /// Returns a tree with the content of this moment, which shares all nodes, without
    /// the owner's lock; or `None` if the [`Publisher`](super::Publisher) has written
    /// since it last [ended](super::Publisher::end) a call, or does at this very moment.
    /// Who gets none may try again, or take the lock.
    ///
    /// The content is that between two calls: what one wrote is there whole or not at
    /// all. The writer is not held up; its next write copies the nodes on its way.
    ///
    /// # Complexity
    ///
    /// O(1); allocates nothing.
    ///
    /// # Examples
    ///
    /// See [`Publisher`](super::Publisher).
    #[must_use]
    pub fn try_snapshot(&self) -> Option<MapleTree<T, S>>
    where
        T: Clone,
    {
        let block = self.block();
        let _guard = block.rcu.read_lock();
        // SAFETY: a guard; what is cut out goes to the `Rcu` with the links to it, as long
        // as there may be readers.
        unsafe { block.header.face.try_snapshot(&block.source) }
    }

    /// The number of this moment: odd while a call is in progress, from its first write
    /// on, and higher after it.
    ///
    /// What is looked up between two equal even numbers is of one moment, that of a
    /// [`try_snapshot`](Self::try_snapshot) between them included. And what a thread
    /// wrote before it ended the call that made the number even is seen by who reads it.
    /// (Where words have 32 bits, it stays odd after 2^31 calls.)
    ///
    /// # Complexity
    ///
    /// O(1).
    ///
    /// # Examples
    ///
    /// ```
    /// use maple_tree::{EpochRcu, IndexRange, MapleTree, Publisher};
    ///
    /// let mut writer = Publisher::new(MapleTree::<u64>::new());
    /// let readers = writer.open(EpochRcu)?;
    /// let before = readers.sequence();
    /// writer.insert(IndexRange::single(1), 7).unwrap();
    /// assert_eq!((before % 2, readers.sequence() % 2), (0, 1));
    /// writer.end();
    /// assert_eq!(readers.sequence(), before + 2);
    /// # Ok::<(), maple_tree::OutOfNodes>(())
    /// ```
    #[inline]
    #[must_use]
    pub fn sequence(&self) -> u64 {
        self.owner.header().face.sequence() as u64
    }

    /// Waits until every reader that exists now is gone. Not to be called by who holds a
    /// [`Reader`], nor under a lock that a reader waits for.
    pub fn synchronize(&self) {
        self.block().rcu.synchronize();
    }

    /// Waits until everything is freed that was cut out of the tree and
    /// [handed over](super::Publisher::hand_over). As [`synchronize`](Self::synchronize),
    /// not to be called by who holds a [`Reader`].
    ///
    /// # Examples
    ///
    /// ```
    /// use std::sync::Arc;
    /// use maple_tree::{EpochRcu, IndexRange, MapleTree, Publisher};
    ///
    /// let mut writer = Publisher::new(MapleTree::new());
    /// let (readers, value) = (writer.open(EpochRcu)?, Arc::new(7));
    /// writer.insert(IndexRange::single(1), value.clone()).unwrap();
    /// writer.clear();
    /// writer.hand_over();
    /// readers.barrier();
    /// assert_eq!(Arc::strong_count(&value), 1);
    /// # Ok::<(), maple_tree::OutOfNodes>(())
    /// ```
    pub fn barrier(&self) {
        self.block().rcu.barrier();
    }

    /// Returns how waiting for readers is done.
    pub fn rcu(&self) -> &R {
        &self.block().rcu
    }
}

impl<T, R, S> fmt::Debug for Published<T, R, S>
where
    T: Entry + Send + Sync + fmt::Debug + 'static,
    R: Rcu + Send + Sync + 'static,
    S: NodeSource + Clone + Send + Sync + 'static,
{
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_map().entries(self.read().iter()).finish()
    }
}
