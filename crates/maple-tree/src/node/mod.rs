//! The node: 256 bytes, and the only place that knows how they are used.
//!
//! This is a cellar: everything above it is safe code, but for the few places
//! that move words between nodes. What it promises:
//!
//! - A [`Link`] is one counted reference to a node. Links are made of a
//!   [`Fresh`] node, when [`Link::share`] counts another, and when one is taken
//!   out of a slot; they end in [`Link::unlink`].
//! - A linked node is changed only by the writer of the one tree it is in, and
//!   only while its count and those of all nodes above are one. Where lock-free
//!   readers may look, only the words of children and gaps are changed.
//! - What a slot holds is owned by it: a link, or an entry.
//!
//! The cellar does not know what a sound tree looks like; it guards against
//! reading a word that was never written, nothing more. The invariants of the
//! tree are those that [`validate`](crate::MapleTree::validate) lists.
//!
//! ```text
//!  word  dense leaf         sparse leaf        branch, 16 children  branch, 10 with gaps
//!  0     lower - 1          not used           pivot 0              pivot 0
//!  ..    last index of      last index of      ..14                 ..8
//!        slot 0..=14        slot 0..=9         child 0..=15         child 0..=9
//!                           index before                            gap 0..=9
//!                           slot 0..=4
//!        entry of           entry of
//!        slot 0..=14        slot 0..=9
//!                           index before
//!                           slot 5..=9
//! ```
//!
//! Before the words come eight bytes: count of links, bits of the slots that
//! hold an entry, number of slots in use, kind. Pivots and last indices that
//! are not in use are `u64::MAX`: a search looks at all of them, whatever the
//! count, and takes the same steps each time.
//!
//! Where entries touch, a dense leaf holds more of them; where they do not, each
//! hole takes a slot there, and a sparse leaf holds more. It knows where each of
//! its entries begins, and has no slots for holes.
#![expect(
    unsafe_code,
    reason = "the node cellar: layout, reference counts, ownership of slots"
)]

mod branch;
mod entries;
mod fresh;
mod gone;
mod held;
mod leaf;
mod path;
mod run;

use core::cell::UnsafeCell;
use core::hint::select_unpredictable;
use core::marker::PhantomData;
use core::mem::{ManuallyDrop, MaybeUninit};
use core::ptr::NonNull;
use core::sync::atomic::{AtomicU32, Ordering};

pub(crate) use branch::{BranchRun, Child};
pub(crate) use entries::Entries;
pub(crate) use fresh::Fresh;
pub(crate) use gone::{Gone, Kept, release};
pub(crate) use held::Held;
pub(crate) use leaf::Patch;
pub(crate) use path::{Path, Root, Slots, Steps};
pub(crate) use run::{LeafRun, Shares, leaves_for};

use crate::sync;

/// Words of a node behind its header.
const WORDS: usize = 31;

/// Slots of a dense leaf; no leaf holds more entries.
pub(crate) const LEAF_SLOTS: usize = if cfg!(small_nodes) { 5 } else { 15 };
/// Slots of a sparse leaf.
pub(crate) const SPARSE_SLOTS: usize = if cfg!(small_nodes) { 4 } else { 10 };
/// A leaf that is not at the right edge holds at least this many entries.
pub(crate) const LEAF_ENTRIES_MIN: usize = if cfg!(small_nodes) { 2 } else { 4 };
/// Children of a branch that keeps no gaps.
const PLAIN_SLOTS: usize = if cfg!(small_nodes) { 4 } else { 16 };
/// A branch that keeps no gaps and is not at the right edge has at least this many children.
const PLAIN_MIN: usize = if cfg!(small_nodes) { 2 } else { 6 };
/// Children of a branch that keeps gaps.
const GAP_SLOTS: usize = if cfg!(small_nodes) { 4 } else { 10 };
/// A branch that keeps gaps and is not at the right edge has at least this many children.
const GAP_MIN: usize = if cfg!(small_nodes) { 2 } else { 4 };
/// The most children any branch has.
pub(crate) const BRANCH_SLOTS_MAX: usize = PLAIN_SLOTS;

/// No tree is taller than this.
///
/// A node of the smallest fan-out has [`GAP_MIN`] children, so this height
/// would take 4^22 leaves, more than an address space of 2^48 bytes holds.
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
    /// A leaf with slots for entries and for the holes between them.
    Dense,
    /// A leaf with slots for entries only, each with both its bounds.
    Sparse,
    /// Children and pivots.
    Plain,
    /// Children, pivots, and the longest gap below each child.
    Gaps,
}

impl Kind {
    /// How many slots a node of this kind has.
    pub(crate) const fn slots(self) -> usize {
        match self {
            Self::Dense => LEAF_SLOTS,
            Self::Sparse => SPARSE_SLOTS,
            Self::Plain => PLAIN_SLOTS,
            Self::Gaps => GAP_SLOTS,
        }
    }

    /// How many children a branch of this kind has at least, or entries a leaf,
    /// unless it is the root or the last of its level.
    pub(crate) const fn min(self) -> usize {
        match self {
            Self::Dense | Self::Sparse => LEAF_ENTRIES_MIN,
            Self::Plain => PLAIN_MIN,
            Self::Gaps => GAP_MIN,
        }
    }

    /// The kind of a leaf that is written anew, for `entries` entries that take
    /// `slots` slots together with the holes between them. They fit into one.
    pub(crate) const fn of_leaf(entries: usize, slots: usize) -> Self {
        let holes = slots - entries;
        if entries <= SPARSE_SLOTS && (2 * holes > entries || slots > LEAF_SLOTS) {
            Self::Sparse
        } else {
            Self::Dense
        }
    }
}

/// One word of a node.
union Word<T> {
    index: u64,
    /// Null where the slot is empty.
    child: *mut Node<T>,
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
///   one's of a branch), and the child, or the entry where its bit is set; in a
///   sparse leaf also the index before each.
/// - **L2** `count` is at most `kind.slots()`.
/// - **L3** Every pivot (but the last one's of a branch) and last index that
///   L1 does not speak of is `u64::MAX`; every other child is null, and every other
///   index before a slot of a sparse leaf some number.
#[repr(C, align(256))]
pub(crate) struct Node<T> {
    refs: AtomicU32,
    /// Bit `i` is set where slot `i` of a leaf holds an entry: in a sparse leaf in
    /// all slots in use.
    owned: u16,
    count: u8,
    kind: Kind,
    words: UnsafeCell<[Word<T>; WORDS]>,
    _owns: PhantomData<T>,
}

// SAFETY: through a shared reference a node gives only `&T`, its atomic count and
// words that are changed by atomic stores or by nobody (module documentation).
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
        assert!(2 * Kind::Dense.slots() < WORDS);
        assert!(3 * Kind::Sparse.slots() < WORDS);
        assert!(2 * Kind::Plain.slots() - 1 <= WORDS);
        assert!(3 * Kind::Gaps.slots() - 1 <= WORDS);
    };

    /// What the words of this node mean.
    pub(crate) fn kind(&self) -> Kind {
        self.kind
    }

    /// Returns whether this is a leaf.
    pub(crate) fn is_leaf(&self) -> bool {
        self.kind as u8 <= Kind::Sparse as u8
    }

    /// How many slots are used.
    pub(crate) fn count(&self) -> usize {
        usize::from(self.count)
    }

    /// How many links name this node.
    ///
    /// Where it is one, and was one on all nodes above, the node is in one tree only.
    pub(crate) fn refs(&self) -> u32 {
        // ORDERING: `Acquire` pairs with the `Release` in `unlink`: whoever gave up
        // the other link to this node had shared its children before (it copies a
        // node, counts the children, then lets go), so their counts are seen too.
        sync::count(&self.refs, Ordering::Acquire)
    }

    fn word(&self, at: usize) -> *mut Word<T> {
        assert!(at < WORDS);
        // SAFETY: within the array, as was just checked.
        unsafe { self.words.get().cast::<Word<T>>().add(at) }
    }

    /// Word `at`, which holds an index.
    fn index(&self, at: usize) -> u64 {
        let word: *const u64 = self.word(at).cast();
        // SAFETY:
        // - The callers pass the word of a pivot, last index or gap: all of these
        //   are written when the node is made, and hold numbers ever since.
        // - Nobody writes to it meanwhile: gaps are read by the writer only, the
        //   others change through `&mut` only.
        unsafe { word.read() }
    }

    fn set_index(&mut self, at: usize, index: u64) {
        self.words.get_mut()[at] = Word { index };
    }

    /// The words `from..from + N`, all of which hold indices.
    fn indices<const N: usize>(&self, from: usize) -> &[u64; N] {
        assert!(from + N <= WORDS);
        let words: *const [u64; N] = self.word(from).cast();
        // SAFETY:
        // - `N` words from `from` on lie within the array; each is eight bytes
        //   (`LAYOUT`) and aligned as a `u64` at least, of which it is a union.
        // - The callers pass pivots or last indices, which are written when the node
        //   is made and changed through `&mut` only.
        unsafe { &*words }
    }

    /// Asks the processor to fetch the node, which will be looked at soon.
    #[inline(always)]
    pub(crate) fn prefetch(&self) {
        prefetch(core::ptr::from_ref(self).cast());
    }
}

/// Asks the processor to fetch the four lines of a node.
#[inline(always)]
fn prefetch(node: *const u8) {
    for line in 0..4 {
        prefetch_line(node.wrapping_add(64 * line));
    }
}

/// Asks the processor to fetch one line, which may be anywhere.
#[inline(always)]
fn prefetch_line(line: *const u8) {
    #[cfg(target_arch = "x86_64")]
    {
        use core::arch::x86_64::{_MM_HINT_T0, _mm_prefetch};
        // SAFETY: a prefetch is a hint; any address will do.
        unsafe { _mm_prefetch::<_MM_HINT_T0>(line.cast()) };
    }
    #[cfg(not(target_arch = "x86_64"))]
    let _ = line;
}

/// How many of `keys`, which ascend, are below `key`, found without a branch
/// that depends on it.
///
/// PERF: a search that leaves early costs a mispredicted branch a level, four
/// times the time of the whole step.
#[inline(always)]
fn count_below<const N: usize>(keys: &[u64; N], key: u64) -> usize {
    let mut below = 0;
    let mut outcomes = N + 1;
    while outcomes > 1 {
        let half = outcomes / 2;
        // SAFETY: `below + outcomes` starts at `N + 1` and never grows, for what is
        // added to one is at most what is taken from the other; so this is below `N`.
        let probe = unsafe { *keys.get_unchecked(below + half - 1) };
        below = select_unpredictable(probe < key, below + half, below);
        outcomes -= half;
    }
    below
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
    /// The node.
    pub(crate) fn node(&self) -> &Node<T> {
        // SAFETY: the link keeps the node alive, and nobody has it mutably: that
        // takes the only link to it, mutably.
        unsafe { self.0.as_ref() }
    }

    /// The node; a slot owns the link from now on.
    fn into_raw(self) -> NonNull<Node<T>> {
        self.0
    }

    /// Counts another link to a node that was found without having one.
    ///
    /// # Safety
    ///
    /// - There is a link to `node`, which is not given up before this returns, and
    ///   not before the new link is, should that be given up first.
    #[cfg(feature = "rcu")]
    pub(crate) unsafe fn found(node: NonNull<Node<T>>) -> Self {
        // Only looked through: it is somebody else's.
        let link = ManuallyDrop::new(Self(node));
        link.share()
    }

    /// Counts another link to the same node.
    pub(crate) fn share(&self) -> Self {
        // ORDERING: `Relaxed`: the new link is made from one that keeps the node alive.
        let before = sync::count_up(&self.node().refs, Ordering::Relaxed);
        if before >= REFS_SATURATED {
            self.node().refs.store(REFS_SATURATED, Ordering::Relaxed);
        }
        Self(self.0)
    }

    /// Gives this link up. The last one gets the node itself back, to take it apart.
    pub(crate) fn unlink(self) -> Option<Husk<T>> {
        let refs = &self.node().refs;
        // ORDERING: `Acquire` pairs with the `Release` below: what all the other
        // links' owners did with the node is done. With one link left nobody can
        // count another meanwhile, so the count need not be lowered: who counts one
        // without having one (`found`) does so while another stays.
        if sync::count(refs, Ordering::Acquire) == 1 {
            return Some(Husk(self.0));
        }
        if refs.load(Ordering::Relaxed) >= REFS_SATURATED {
            return None;
        }
        // ORDERING: `Release` pairs with the `Acquire` above, below and in `refs`.
        if sync::count_down(refs, Ordering::Release) != 1 {
            return None;
        }
        // ORDERING: `Acquire` pairs with the `Release` of every other link's end: what
        // is read is our own, which continues all of theirs. (A fence would do the
        // same, but race detectors do not see it.)
        sync::count(refs, Ordering::Acquire);
        Some(Husk(self.0))
    }
}

/// A node that is looked at, and may be cut out of its tree by who looks.
///
/// A reference would do for looking; it could not be what the node is freed by.
pub(crate) struct NodeRef<'a, T>(NonNull<Node<T>>, PhantomData<&'a Node<T>>);

impl<T> Clone for NodeRef<'_, T> {
    fn clone(&self) -> Self {
        *self
    }
}

impl<T> Copy for NodeRef<'_, T> {}

impl<'a, T> NodeRef<'a, T> {
    /// The node.
    #[inline]
    pub(crate) fn get(self) -> &'a Node<T> {
        // SAFETY: made of a link, or a slot's, that is borrowed for `'a`.
        unsafe { self.0.as_ref() }
    }

    /// The child in `slot`.
    pub(crate) fn child(self, slot: usize) -> Self {
        Self(self.get().child_raw(slot), PhantomData)
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
        #[cfg(any(loom, shuttle))]
        sync::freed(self.0.as_ptr());
        self.0.cast()
    }
}

#[cfg(test)]
mod tests;
