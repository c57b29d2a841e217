//! The node: 256 bytes, and the only place that knows how they are used.
//!
//! This is a cellar: everything above it is safe code. What it promises:
//!
//! - A [`Link`] is one counted reference to a node. Links are made when a node
//!   is filled in, when [`Link::share`] counts another, and when one is taken
//!   out of a slot; they end in [`Link::unlink`].
//! - A node is changed only through `&mut Node`, which is reached only along
//!   nodes whose count is one ([`Link::get_mut`], [`Node::child_mut`]): nobody
//!   else can see it.
//! - What a slot holds is owned by it: a link, or an entry.
//!
//! The cellar does not know what a sound tree looks like; it guards against
//! reading a word that was never written, nothing more. The invariants of the
//! tree are those that [`validate`](crate::MapleTree::validate) lists.
//!
//! ```text
//!  word  leaf                        branch, 16 children     branch, 10 with gaps
//!  0     count | bits | refs         count | refs            count | refs
//!  1     lower                       pivot 0                 pivot 0
//!  ..    last index of slot 0..=14   ..14                    ..8
//!        entry of slot 0..=14        child 0..=15            child 0..=9
//!                                                            gap 0..=9
//! ```
#![expect(
    unsafe_code,
    reason = "the node cellar: layout, reference counts, ownership of slots"
)]

mod branch;
mod leaf;

use core::marker::PhantomData;
use core::mem::{ManuallyDrop, MaybeUninit};
use core::ptr::NonNull;
use core::sync::atomic::{AtomicU32, Ordering, fence};

pub(crate) use branch::Child;

/// Words of a node behind its header.
const WORDS: usize = 31;

/// Slots of a leaf.
pub(crate) const LEAF_SLOTS: usize = if cfg!(small_nodes) { 5 } else { 15 };
/// A leaf that is not the root uses at least this many slots.
pub(crate) const LEAF_MIN: usize = if cfg!(small_nodes) { 2 } else { 6 };
/// Children of a branch that keeps no gaps.
const PLAIN_SLOTS: usize = if cfg!(small_nodes) { 4 } else { 16 };
/// A branch that keeps no gaps and is not the root has at least this many children.
const PLAIN_MIN: usize = if cfg!(small_nodes) { 2 } else { 6 };
/// Children of a branch that keeps gaps.
const GAP_SLOTS: usize = if cfg!(small_nodes) { 4 } else { 10 };
/// A branch that keeps gaps and is not the root has at least this many children.
const GAP_MIN: usize = if cfg!(small_nodes) { 2 } else { 4 };
/// The most children any branch has.
pub(crate) const BRANCH_SLOTS_MAX: usize = PLAIN_SLOTS;

/// No tree is taller than this.
///
/// A node of the smallest fan-out has [`GAP_MIN`] children, so this height
/// would take 4^23 leaves, more than an address space of 2^48 bytes holds.
pub(crate) const HEIGHT_MAX: usize = 24;

/// A count this high is never lowered again: the node stays for ever.
///
/// It takes two thousand million forgotten snapshots to get here; leaking one
/// subtree then is better than freeing it under a reader.
const REFS_SATURATED: u32 = 1 << 31;

/// What the words of a node mean.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
#[repr(u8)]
pub(crate) enum Kind {
    /// Entries and the holes between them.
    Leaf,
    /// Children and pivots.
    Plain,
    /// Children, pivots, and the longest gap below each child.
    Gaps,
}

impl Kind {
    /// How many slots a node of this kind has.
    pub(crate) const fn slots(self) -> usize {
        match self {
            Self::Leaf => LEAF_SLOTS,
            Self::Plain => PLAIN_SLOTS,
            Self::Gaps => GAP_SLOTS,
        }
    }

    /// How many slots a node of this kind uses at least, unless it is the root.
    pub(crate) const fn min(self) -> usize {
        match self {
            Self::Leaf => LEAF_MIN,
            Self::Plain => PLAIN_MIN,
            Self::Gaps => GAP_MIN,
        }
    }
}

/// One word of a node.
union Word<T> {
    index: u64,
    child: NonNull<Node<T>>,
    entry: ManuallyDrop<MaybeUninit<T>>,
    /// All eight bytes, written or not.
    _unwritten: MaybeUninit<u64>,
}

/// Memory for one node: 256 bytes, aligned to 256.
#[repr(C, align(256))]
pub struct NodeMemory {
    bytes: [MaybeUninit<u8>; 256],
}

impl core::fmt::Debug for NodeMemory {
    fn fmt(&self, f: &mut core::fmt::Formatter<'_>) -> core::fmt::Result {
        write!(f, "NodeMemory({} bytes)", self.bytes.len())
    }
}

/// A node of the tree.
///
/// # Invariants of the layout
///
/// - **L1** The first `count` slots are filled in: their pivots (but the last
///   one's of a branch), and the child, or the entry where its bit is set.
/// - **L2** `count` is at most `kind.slots()`.
#[repr(C, align(256))]
pub(crate) struct Node<T> {
    refs: AtomicU32,
    /// Bit `i` is set where slot `i` owns an entry (leaf) or a child (branch).
    owned: u16,
    count: u8,
    kind: Kind,
    words: [Word<T>; WORDS],
    _owns: PhantomData<T>,
}

// SAFETY: through a shared reference a node gives only `&T` and its atomic
// count; all that changes it, or hands out what it owns, takes `&mut` or a link.
unsafe impl<T: Sync> Sync for Node<T> {}

impl<T> Node<T> {
    const LAYOUT: () = {
        assert!(
            size_of::<Self>() == size_of::<NodeMemory>(),
            "an entry is at most one word"
        );
        assert!(
            align_of::<Self>() == align_of::<NodeMemory>(),
            "an entry is aligned to a word"
        );
        assert!(size_of::<Word<T>>() == size_of::<u64>());
        assert!(2 * Kind::Leaf.slots() < WORDS);
        assert!(2 * Kind::Plain.slots() - 1 <= WORDS);
        assert!(3 * Kind::Gaps.slots() - 1 <= WORDS);
    };

    /// What the words of this node mean.
    pub(crate) fn kind(&self) -> Kind {
        self.kind
    }

    /// Returns whether this is a leaf.
    pub(crate) fn is_leaf(&self) -> bool {
        self.kind == Kind::Leaf
    }

    /// How many slots are used.
    pub(crate) fn count(&self) -> usize {
        usize::from(self.count)
    }

    /// How many links name this node.
    ///
    /// Where it is one, and was one on all nodes above, the node is ours alone.
    pub(crate) fn refs(&self) -> u32 {
        // ORDERING: `Acquire` pairs with the `Release` in `unlink`: whoever gave up
        // the other link to this node had shared its children before (it copies a
        // node, counts the children, then lets go), so their counts are seen too.
        self.refs.load(Ordering::Acquire)
    }

    /// Words `from..to`, all of which hold indices.
    fn indices(&self, from: usize, to: usize) -> &[u64] {
        let words = &self.words[from..to];
        let indices = words.as_ptr().cast::<u64>();
        // SAFETY:
        // - `words` is a slice of as many words, each eight bytes (`LAYOUT`) and aligned
        //   as a `u64` at least, of which it is a union.
        // - The callers pass ranges of pivots that L1 says are filled in.
        unsafe { core::slice::from_raw_parts(indices, words.len()) }
    }

    /// Word `at`, which holds an index.
    fn index(&self, at: usize) -> u64 {
        // SAFETY: the callers pass a pivot, lower bound or gap that L1 says is filled in.
        unsafe { self.words[at].index }
    }

    fn owns(&self, slot: usize) -> bool {
        self.owned & (1 << slot) != 0
    }

    /// Takes the last slot out of the node, whatever it held having been taken.
    fn shorten(&mut self) {
        debug_assert!(!self.owns(self.count() - 1));
        self.count -= 1;
    }
}

/// One counted reference to a node.
///
/// A link has no `Drop`: where it ends, [`Link::unlink`] is called with a
/// place for the memory to go. One that is forgotten leaks its node.
#[must_use]
#[repr(transparent)]
pub(crate) struct Link<T>(NonNull<Node<T>>);

// SAFETY: a link is a counted reference like `Arc`'s, and what it leads to can
// be read and dropped by whoever holds a link: as for `Arc`, both take `Send + Sync`.
unsafe impl<T: Send + Sync> Send for Link<T> {}

// SAFETY: as above.
unsafe impl<T: Send + Sync> Sync for Link<T> {}

impl<T> Link<T> {
    /// Makes an empty node of `memory`, which it owns from now on.
    pub(crate) fn new(memory: NonNull<NodeMemory>, kind: Kind) -> Self {
        const { Node::<T>::LAYOUT };
        let node: NonNull<Node<T>> = memory.cast();
        let raw = node.as_ptr();
        // SAFETY: node memory is as large and aligned as a node (`LAYOUT`), and ours.
        let refs = unsafe { &raw mut (*raw).refs };
        // SAFETY: a field of our memory, aligned.
        unsafe { refs.write(AtomicU32::new(1)) };
        // SAFETY: as for `refs`.
        let owned = unsafe { &raw mut (*raw).owned };
        // SAFETY: a field of our memory, aligned.
        unsafe { owned.write(0) };
        // SAFETY: as for `refs`.
        let count = unsafe { &raw mut (*raw).count };
        // SAFETY: a field of our memory, aligned.
        unsafe { count.write(0) };
        // SAFETY: as for `refs`.
        let place = unsafe { &raw mut (*raw).kind };
        // SAFETY: a field of our memory, aligned. The words may stay unwritten: one
        // field of their union is `MaybeUninit` over all of it.
        unsafe { place.write(kind) };
        Self(node)
    }

    /// The node.
    pub(crate) fn node(&self) -> &Node<T> {
        // SAFETY: the link keeps the node alive, and nobody has it mutably: that
        // takes the only link to it, mutably.
        unsafe { self.0.as_ref() }
    }

    /// The node, if this is the only link to it.
    ///
    /// Reached through `&mut`, and with all links above it being the only ones
    /// to theirs, this makes the node ours alone.
    pub(crate) fn get_mut(&mut self) -> Option<&mut Node<T>> {
        // ORDERING: `Acquire` pairs with the `Release` in `unlink`: what another
        // thread read through its link, it had read before it gave it up.
        if self.node().refs.load(Ordering::Acquire) != 1 {
            return None;
        }
        // SAFETY: the count is one and the link is borrowed mutably, so no other
        // reference to the node exists, nor can one be made meanwhile.
        Some(unsafe { self.0.as_mut() })
    }

    /// Counts another link to the same node.
    pub(crate) fn share(&self) -> Self {
        // ORDERING: `Relaxed`: the new link is made from one that keeps the node alive.
        let before = self.node().refs.fetch_add(1, Ordering::Relaxed);
        if before >= REFS_SATURATED {
            self.node().refs.store(REFS_SATURATED, Ordering::Relaxed);
        }
        Self(self.0)
    }

    /// Gives this link up. The last one gets the node itself back, to take it apart.
    pub(crate) fn unlink(self) -> Option<Husk<T>> {
        let refs = &self.node().refs;
        if refs.load(Ordering::Relaxed) >= REFS_SATURATED {
            return None;
        }
        // ORDERING: `Release` pairs with the `Acquire` below and in `get_mut`.
        if refs.fetch_sub(1, Ordering::Release) != 1 {
            return None;
        }
        // ORDERING: pairs with the `Release` of every other link's end.
        fence(Ordering::Acquire);
        Some(Husk(self.0))
    }
}

/// A node that no link names any more, about to be taken apart.
pub(crate) struct Husk<T>(NonNull<Node<T>>);

impl<T> Husk<T> {
    /// The node, ours alone.
    pub(crate) fn node(&mut self) -> &mut Node<T> {
        // SAFETY: the last link is gone (`Link::unlink`), so this is the only way to it.
        unsafe { self.0.as_mut() }
    }

    /// The memory, once every slot is empty; what is left in one is leaked.
    pub(crate) fn into_memory(self) -> NonNull<NodeMemory> {
        self.0.cast()
    }
}
