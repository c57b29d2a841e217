//! A node that is being made: no link names it yet.

use core::ops::{Deref, DerefMut};
use core::ptr::NonNull;
use core::sync::atomic::AtomicU32;

use super::{Kind, Link, Node, NodeMemory, WORDS, Word};

/// A node that only its maker has. One that is not made into a link is leaked.
#[must_use]
pub(crate) struct Fresh<T>(NonNull<Node<T>>);

impl<T> Fresh<T> {
    /// Makes an empty node of `memory`, which it owns from now on.
    #[inline]
    pub(crate) fn new(memory: NonNull<NodeMemory>, kind: Kind) -> Self {
        let node = Self::with_header(memory, (kind, 0, 0));
        let words: *mut Word<T> = node.words();
        let pivots = match kind {
            Kind::Dense | Kind::Sparse => kind.slots() + 1,
            Kind::Plain | Kind::Gaps => kind.slots() - 1,
        };
        for at in 0..WORDS {
            let index = if at < pivots { u64::MAX } else { 0 };
            // SAFETY: within the array of words.
            let word = unsafe { words.add(at) };
            // SAFETY: our memory, aligned. A null child is all zeroes.
            unsafe { word.write(Word { index }) };
        }
        node
    }

    /// Makes a copy of `node`, word by word, of `memory`, which it owns from now on.
    ///
    /// # Safety
    ///
    /// - Every slot's content is owned once in the end: it is taken out of one of
    ///   the two nodes, or counted again.
    #[inline]
    pub(crate) unsafe fn copy_of(memory: NonNull<NodeMemory>, node: &Node<T>) -> Self {
        let mut copy = Self::outline_of(memory, node);
        (copy.owned, copy.count) = (node.owned, node.count);
        copy
    }

    /// Makes a node with the bounds and gaps of `node` that holds nothing yet: a leaf
    /// of holes, or a branch whose children are still to be [put](Node::put_child).
    #[inline]
    pub(crate) fn outline_of<U>(memory: NonNull<NodeMemory>, node: &Node<U>) -> Self {
        const { Node::<U>::LAYOUT };
        let count = if node.is_leaf() { node.count } else { 0 };
        let outline = Self::with_header(memory, (node.kind, 0, count));
        let from: *const Word<T> = node.words.get().cast();
        // SAFETY: both are arrays of as many words, in different nodes; the words of
        // `node` are written (L1, L3), and only its tree's writer, who is here, would
        // change one. What they hold is copied as it is: the header says that nothing
        // but bounds and gaps means anything here.
        unsafe { from.copy_to_nonoverlapping(outline.words(), WORDS) };
        outline
    }

    fn with_header(memory: NonNull<NodeMemory>, (kind, owned, count): (Kind, u16, u8)) -> Self {
        const { Node::<T>::LAYOUT };
        let node: NonNull<Node<T>> = memory.cast();
        let raw = node.as_ptr();
        // SAFETY: node memory is as large and aligned as a node (`LAYOUT`), and ours.
        let place = unsafe { &raw mut (*raw).refs };
        // SAFETY: a field of our memory, aligned.
        unsafe { place.write(AtomicU32::new(1)) };
        // SAFETY: as for `refs`.
        let place = unsafe { &raw mut (*raw).owned };
        // SAFETY: a field of our memory, aligned.
        unsafe { place.write(owned) };
        // SAFETY: as for `refs`.
        let place = unsafe { &raw mut (*raw).count };
        // SAFETY: a field of our memory, aligned.
        unsafe { place.write(count) };
        // SAFETY: as for `refs`.
        let place = unsafe { &raw mut (*raw).kind };
        // SAFETY: a field of our memory, aligned. The callers write the words.
        unsafe { place.write(kind) };
        Self(node)
    }

    fn words(&self) -> *mut Word<T> {
        let raw = self.0.as_ptr();
        // SAFETY: a field of our node.
        unsafe { (&raw mut (*raw).words).cast() }
    }

    /// The node's only link.
    pub(crate) fn into_link(self) -> Link<T> {
        #[cfg(any(loom, shuttle))]
        self.show();
        Link(self.0)
    }
}

impl<T> Deref for Fresh<T> {
    type Target = Node<T>;

    #[inline]
    fn deref(&self) -> &Node<T> {
        // SAFETY: made by `with_header` and its callers, and ours.
        unsafe { self.0.as_ref() }
    }
}

impl<T> DerefMut for Fresh<T> {
    #[inline]
    fn deref_mut(&mut self) -> &mut Node<T> {
        // SAFETY: nobody else knows the node.
        unsafe { self.0.as_mut() }
    }
}
