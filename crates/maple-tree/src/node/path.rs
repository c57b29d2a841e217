//! The root, and the way from it to a leaf, for the tree's only writer.

use core::marker::PhantomData;
use core::ptr::{NonNull, null_mut};
use core::sync::atomic::{AtomicPtr, Ordering};

use arrayvec::ArrayVec;

use super::{HEIGHT_MAX, Link, Node, NodeRef};
use crate::{IndexRange, sync};

/// The slots taken from the root down to a node; those below it mean nothing.
pub(crate) type Slots = [u8; HEIGHT_MAX];

/// The link to a tree's root, and where lock-free readers find it.
pub(crate) struct Root<T> {
    link: Option<Link<T>>,
    readers: Readers<T>,
}

/// Whether anybody can look at a tree without borrowing it.
enum Readers<T> {
    None,
    /// Whoever finds the root in this word.
    At(NonNull<AtomicPtr<Node<T>>>),
}

// SAFETY: the word is an atomic that is borrowed for as long as it is used, from
// one thread at a time (`watch`); what it leads to is what the link leads to.
unsafe impl<T: Send + Sync> Send for Readers<T> {}

// SAFETY: through a shared reference nothing of it is used.
unsafe impl<T: Send + Sync> Sync for Readers<T> {}

impl<T> Root<T> {
    pub(crate) const EMPTY: Self = Self::of(None);

    /// The root of a tree that nobody looks at without borrowing it.
    pub(crate) const fn of(link: Option<Link<T>>) -> Self {
        Self {
            link,
            readers: Readers::None,
        }
    }

    pub(crate) fn node(&self) -> Option<&Node<T>> {
        self.link.as_ref().map(Link::node)
    }

    pub(crate) fn link(&self) -> Option<&Link<T>> {
        self.link.as_ref()
    }

    /// Whether lock-free readers may look at the tree.
    pub(crate) fn is_watched(&self) -> bool {
        matches!(self.readers, Readers::At(_))
    }

    /// Takes it that readers find the root in `word` from now on, which is written
    /// whenever it changes.
    ///
    /// # Safety
    ///
    /// - `word` is valid for as long as this root is written to, or until the next
    ///   call.
    /// - Every node that was reachable through `word` is freed only when no reader
    ///   looks at it any more.
    #[cfg_attr(
        not(feature = "rcu"),
        expect(dead_code, reason = "for lock-free readers")
    )]
    pub(crate) unsafe fn watch(&mut self, word: NonNull<AtomicPtr<Node<T>>>) {
        self.readers = Readers::At(word);
    }

    /// Takes it that nobody looks at the tree without borrowing it from now on.
    ///
    /// # Safety
    ///
    /// - No reader is left that looks at a node of the tree, and none can find one.
    #[cfg_attr(
        not(feature = "rcu"),
        expect(dead_code, reason = "for lock-free readers")
    )]
    pub(crate) unsafe fn unwatch(&mut self) {
        self.readers = Readers::None;
    }

    /// Puts another root in the place of this one, in one step for readers.
    pub(crate) fn replace(&mut self, new: Option<Link<T>>) -> Option<Link<T>> {
        if let Readers::At(word) = self.readers {
            let node = new.as_ref().map_or(null_mut(), |link| link.0.as_ptr());
            // SAFETY: `watch` says that the word is valid.
            let word = unsafe { word.as_ref() };
            // ORDERING: `Release` pairs with the `Acquire` of a reader that loads the
            // root: it finds the node written.
            sync::store(word, node, Ordering::Release);
        }
        core::mem::replace(&mut self.link, new)
    }

    /// Where the root is, for readers; null in an empty tree.
    #[cfg_attr(
        not(feature = "rcu"),
        expect(dead_code, reason = "for lock-free readers")
    )]
    pub(crate) fn address(&self) -> *mut Node<T> {
        self.link
            .as_ref()
            .map_or(null_mut(), |link| link.0.as_ptr())
    }
}

/// Room for the steps of a [`Path`], which is moved more cheaply without it.
pub(crate) struct Steps<T> {
    nodes: ArrayVec<NonNull<Node<T>>, HEIGHT_MAX>,
    slots: Slots,
}

impl<T> Steps<T> {
    #[inline(always)]
    pub(crate) const fn new() -> Self {
        Self {
            nodes: ArrayVec::new_const(),
            slots: [0; HEIGHT_MAX],
        }
    }
}

/// The way from the root to a leaf.
///
/// It borrows the root mutably: the tree is changed through the path only, or
/// not at all, while there is one.
pub(crate) struct Path<'t, 's, T> {
    root: &'t mut Root<T>,
    steps: &'s mut Steps<T>,
    /// How far below the root the leaf is.
    pub(crate) depth: usize,
    /// The indices that belong to the leaf.
    pub(crate) range: IndexRange,
    /// From this depth on the nodes are in other trees too; `depth + 1` if none is.
    pub(crate) shared: usize,
}

impl<'t, 's, T> Path<'t, 's, T> {
    /// Walks to the leaf that `index` belongs to; `None` in an empty tree.
    #[inline(always)]
    pub(crate) fn to(root: &'t mut Root<T>, steps: &'s mut Steps<T>, index: u64) -> Option<Self> {
        let mut at = root.link.as_ref()?.0;
        steps.nodes.clear();
        let (mut min, mut max) = (0, u64::MAX);
        let (mut depth, mut shared) = (0, usize::MAX);
        loop {
            steps.nodes.push(at);
            // SAFETY: linked below the root, which is borrowed.
            let node = unsafe { at.as_ref() };
            node.prefetch();
            if shared == usize::MAX && node.refs() > 1 {
                shared = depth;
            }
            if node.is_leaf() {
                break;
            }
            let slot = node.child_slot(index);
            at = node.child_raw(slot);
            steps.slots[depth] = slot as u8;
            (min, max) = (node.child_min(slot, min), node.pivot_or(slot, max));
            depth += 1;
        }
        let range = IndexRange::new(min, max).expect("a node's bounds ascend (T3)");
        Some(Self {
            root,
            steps,
            depth,
            range,
            shared: shared.min(depth + 1),
        })
    }

    /// The node at `depth`.
    #[inline]
    pub(crate) fn node(&self, depth: usize) -> &Node<T> {
        self.node_ref(depth).get()
    }

    /// The node at `depth`.
    #[inline]
    pub(crate) fn node_ref(&self, depth: usize) -> NodeRef<'_, T> {
        let node = self.steps.nodes[depth];
        // It was linked below the root when the path was made; since then nothing was
        // cut out of the tree but by `replace` and through `node_mut`, which cut the
        // path off there. So it is alive for as long as the path is borrowed.
        NodeRef(node, PhantomData)
    }

    /// The slots taken in the branches.
    pub(crate) fn slots(&self) -> &Slots {
        &self.steps.slots
    }

    /// The slot taken in the branch at `depth`.
    #[inline]
    pub(crate) fn slot(&self, depth: usize) -> usize {
        self.steps.slots[depth].into()
    }

    /// The leaf.
    #[inline]
    pub(crate) fn leaf(&self) -> &Node<T> {
        self.node(self.depth)
    }

    /// Whether the node at `depth` may be changed in place in every way: it is in
    /// this tree only, and nobody looks at it without borrowing it.
    #[inline]
    pub(crate) fn is_alone(&self, depth: usize) -> bool {
        depth < self.shared && !self.root.is_watched()
    }

    /// The node at `depth`, to be changed in place.
    ///
    /// # Panics
    ///
    /// If it is not [alone](Self::is_alone).
    #[inline]
    pub(crate) fn node_mut(&mut self, depth: usize) -> &mut Node<T> {
        assert!(self.is_alone(depth));
        let mut node = self.steps.nodes[depth];
        // The nodes below may be replaced through this one.
        self.steps.nodes.truncate(depth + 1);
        // SAFETY: as in `node`; and it is the only reference, for the node is in this
        // tree only, the tree is borrowed mutably, and nobody else looks at it.
        unsafe { node.as_mut() }
    }

    /// As [`node_mut`](Self::node_mut), for as long as the tree is borrowed.
    pub(crate) fn into_node_mut(mut self, depth: usize) -> &'t mut Node<T> {
        let node: *mut Node<T> = self.node_mut(depth);
        // SAFETY: as in `node_mut`; the path, which could be used beside, ends here, and
        // the tree is borrowed for `'t`.
        unsafe { &mut *node }
    }

    /// Turns to the next leaf, which is below the child behind the slot taken in
    /// the branch at `depth`.
    pub(crate) fn turn_right(&mut self, depth: usize) {
        self.steps.slots[depth] += 1;
        self.steps.slots[depth + 1..].fill(0);
        self.steps.nodes.truncate(1);
        let (mut min, mut max) = (0, u64::MAX);
        for at in 0..self.depth {
            let (node, slot) = (self.node(at), self.slot(at));
            (min, max) = (node.child_min(slot, min), node.pivot_or(slot, max));
            let child = node.child_raw(slot);
            self.steps.nodes.push(child);
        }
        self.range = IndexRange::new(min, max).expect("a node's bounds ascend (T3)");
    }

    /// Puts `new` in the place of the node at `depth`, in one step for readers;
    /// the path ends above it. All nodes above are in this tree only.
    pub(crate) fn replace(&mut self, depth: usize, new: Option<Link<T>>) -> Option<Link<T>> {
        assert!(depth <= self.shared);
        self.steps.nodes.truncate(depth);
        let Some(parent) = depth.checked_sub(1) else {
            return self.root.replace(new);
        };
        let slot = self.slot(parent);
        // SAFETY: the parent is in this tree only, and the path is its writer's.
        new.map(|new| unsafe { self.node(parent).replace_child(slot, new) })
    }

    /// Sets the gap that the branch at `depth` keeps of the child in `slot`. The
    /// branch is in this tree only.
    pub(crate) fn set_gap(&mut self, depth: usize, slot: usize, gap: u64) {
        assert!(depth < self.shared);
        // SAFETY: the branch is in this tree only, the path is its writer's, and
        // readers without a lock do not look at gaps.
        unsafe { self.node(depth).store_gap(slot, gap) };
    }
}
