//! [`Face`]: what readers find of a tree that is being written to, and the one
//! snapshot that takes no lock.
//!
//! A cellar: a node is counted that was found without having a link to it.
#![expect(unsafe_code, reason = "counts a link to a root that is only looked at")]

use core::fmt;
use core::ptr::{NonNull, null_mut};
use core::sync::atomic::{AtomicPtr, AtomicUsize, Ordering};

use crate::clone_fn::CloneFn;
use crate::node::{Kind, Link, Node, Root};
use crate::source::NodeSource;
use crate::{Entry, MapleTree, sync};

/// The side of a tree that faces its readers: the root, and what a snapshot takes
/// besides.
///
/// # Invariants
///
/// - **FC1** `sequence` is odd from before the first step of a call that writes until
///   all of it is written; while it is even, root, `len` and `height` are those of one
///   tree, which is whole.
/// - **FC2** `sequence` never comes back to a number it had.
///
/// # Why a snapshot needs no lock
///
/// ```text
///  reader   sequence += 0: s, even     counts a link to the root     sequence += 0: s still
///  writer                    sequence += 1           asks nodes how many links name them
/// ```
///
/// All three are read-modify-writes of one word, so they come one after the other, and
/// each that acquires synchronizes with those before it that release: what lies between
/// are more of them, which hand on what was released, or stores of the writer's own.
/// With `s` the reader has seen the end of the call before (`Release` in [`end`](Self::end)).
///
/// - *The reader's second comes before the writer's.* Then the writer sees the counted
///   link when it asks ([`Node::refs`]), takes the root for shared, and copies instead of
///   changing: nothing below the root changes any more. And what the reader has loaded,
///   root and numbers, cannot be of the writer's call, which comes after. So it is the
///   tree of the call that ended with `s`.
/// - *It comes after.* Then the reader finds another number (FC2), and gives its link up
///   again. At most the writer saw it, and copied what it need not have. How an entry is
///   cloned it knows then: that was set before the reader's first, which came before the
///   writer's, or found it odd and counted nothing.
///
/// The link that the tree itself has, or had when the reader found the root, stays
/// counted until its record is carried out, which waits for the reader's guard. So
/// neither does the reader count a link to a node that is gone, nor does it give the
/// last one up, and who finds the last link in its own hand may rely on that
/// ([`Link::unlink`]).
pub(super) struct Face<T> {
    /// The root, for readers; null in an empty tree.
    pub(super) root: AtomicPtr<Node<T>>,
    sequence: AtomicUsize,
    len: AtomicUsize,
    height: AtomicUsize,
    /// Set by readers, for the writer that finds nodes shared.
    clone_fn: CloneFn<T>,
    branches: Kind,
}

impl<T> Face<T> {
    /// The face of an empty tree.
    pub(super) const fn new(branches: Kind) -> Self {
        Self {
            root: AtomicPtr::new(null_mut()),
            sequence: AtomicUsize::new(0),
            len: AtomicUsize::new(0),
            height: AtomicUsize::new(0),
            clone_fn: CloneFn::unset(),
            branches,
        }
    }
}

impl<T: Entry> Face<T> {
    /// The face of `tree`, which nobody looks at yet.
    pub(super) fn of<S: NodeSource>(tree: &MapleTree<T, S>) -> Self {
        let mut face = Self::new(tree.branches);
        *face.root.get_mut() = tree.root.address();
        *face.len.get_mut() = tree.len;
        *face.height.get_mut() = tree.height;
        face
    }

    /// To be called by the writer before each write; the first one of a call is what
    /// begins it.
    #[inline]
    pub(super) fn begin<S: NodeSource>(&self, tree: &MapleTree<T, S>) {
        // ORDERING: `Relaxed`: only the writer changes it; readers add nothing.
        if is_odd(sync::number(&self.sequence, Ordering::Relaxed)) {
            return;
        }
        // ORDERING: `Acquire` pairs with both `Release`s in `try_snapshot`: the writer sees
        // how to clone what is shared, and the link of a snapshot that was had. Nobody
        // needs to see what came before: who finds it odd looks at nothing.
        sync::add(&self.sequence, 1, Ordering::Acquire);
        // INVARIANT: FC1. The tree may be written to now.
        tree.clone_fn.adopt(&self.clone_fn);
    }

    /// Ends a call of the writer's, if one has begun.
    #[inline]
    pub(super) fn end<S: NodeSource>(&self, tree: &MapleTree<T, S>) {
        // ORDERING: `Relaxed`: as in `begin`.
        let sequence = sync::number(&self.sequence, Ordering::Relaxed);
        // INVARIANT: FC2. After 2^31 calls a word of 32 bits stays odd for ever, and who
        // wants a snapshot takes the lock.
        if !is_odd(sequence) || sequence == usize::MAX {
            return;
        }
        // ORDERING: `Relaxed`: who uses them has seen the sequence, stored below.
        sync::set(&self.len, tree.len, Ordering::Relaxed);
        sync::set(&self.height, tree.height, Ordering::Relaxed);
        // INVARIANT: FC1. All is written.
        // ORDERING: `Release` pairs with the `Acquire` in `sequence` and `try_snapshot`.
        sync::set(&self.sequence, sequence + 1, Ordering::Release);
    }

    /// The number of this moment: odd while a call of the writer's is in progress, and
    /// higher after it.
    #[inline]
    pub(super) fn sequence(&self) -> usize {
        // ORDERING: `Acquire` pairs with the `Release` in `end`.
        sync::number(&self.sequence, Ordering::Acquire)
    }

    /// A tree of the content of this moment, if no call is in progress.
    ///
    /// # Safety
    ///
    /// - A guard is held that keeps what is found below `root` from being freed, and
    ///   the tree's own links to it counted.
    pub(super) unsafe fn try_snapshot<S>(&self, source: &S) -> Option<MapleTree<T, S>>
    where
        T: Clone,
        S: NodeSource + Clone,
    {
        // The source's code may panic, so it runs before anything is counted.
        let mut tree = MapleTree::empty(self.branches, source.clone());
        tree.clone_fn.set();
        self.clone_fn.set();
        // ORDERING: the `Acquire` half pairs with the `Release` in `end`: what was written
        // is seen. The `Release` half pairs with the `Acquire` in `begin`: a writer that
        // sees the link, even one that is given up again, knows how to clone.
        let sequence = sync::add(&self.sequence, 0, Ordering::AcqRel);
        if is_odd(sequence) {
            return None;
        }
        // ORDERING: `Acquire` pairs with the `Release` in `Root::replace`, should this be
        // the root of a call that has begun since.
        let root = NonNull::new(sync::load(&self.root, Ordering::Acquire));
        // SAFETY: the guard keeps the node, and the tree's link to it; the new one is
        // given up under the guard, or not here.
        let link = root.map(|root| unsafe { Link::found(root) });
        // ORDERING: `Relaxed`: they are of `sequence`, or not used.
        let len = sync::number(&self.len, Ordering::Relaxed);
        let height = sync::number(&self.height, Ordering::Relaxed);
        // ORDERING: `Release` pairs with the `Acquire` in `begin`: who writes after this
        // sees the link.
        if sync::add(&self.sequence, 0, Ordering::Release) != sequence {
            let last = link.and_then(Link::unlink);
            debug_assert!(last.is_none(), "the tree's own link is counted");
            return None;
        }
        (tree.root, tree.len, tree.height) = (Root::of(link), len, height);
        Some(tree)
    }
}

/// Whether a call is in progress.
const fn is_odd(sequence: usize) -> bool {
    !sequence.is_multiple_of(2)
}

impl<T> fmt::Debug for Face<T> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Face")
            .field("sequence", &self.sequence)
            .finish_non_exhaustive()
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::{HeapNodes, IndexRange};

    fn try_snapshot(face: &Face<u64>) -> Option<MapleTree<u64>> {
        // SAFETY: nothing is freed meanwhile, as nobody writes.
        unsafe { face.try_snapshot(&HeapNodes) }
    }

    fn one_entry() -> MapleTree<u64> {
        let mut tree = MapleTree::new();
        tree.insert(IndexRange::single(1), 7).unwrap();
        tree
    }

    #[test]
    fn a_sequence_that_has_no_higher_number_stays_odd() {
        let tree = one_entry();
        let mut face = Face::of(&tree);
        *face.sequence.get_mut() = usize::MAX - 1;
        assert!(try_snapshot(&face).is_some());
        for _ in 0..3 {
            face.begin(&tree);
            assert!(try_snapshot(&face).is_none());
            face.end(&tree);
            assert_eq!(*face.sequence.get_mut(), usize::MAX);
        }
    }

    #[test]
    fn a_call_begins_once_and_ends_once() {
        let tree = one_entry();
        let mut face = Face::of(&tree);
        face.end(&tree);
        assert_eq!(*face.sequence.get_mut(), 0);
        for _ in 0..2 {
            face.begin(&tree);
            assert_eq!(*face.sequence.get_mut(), 1);
        }
        face.end(&tree);
        assert_eq!(*face.sequence.get_mut(), 2);
        assert_eq!(try_snapshot(&face).map(|tree| tree.len()), Some(1));
    }
}
