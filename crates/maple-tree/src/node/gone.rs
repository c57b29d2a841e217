//! What a write cut out of a tree, to be freed when nobody looks at it any more.

use core::ops::Range;
use core::ptr::NonNull;

use super::{HEIGHT_MAX, Husk, Link, Node, NodeMemory, NodeRef};
use arrayvec::ArrayVec;

/// Something that a tree owned and gave up.
#[must_use]
pub(crate) enum Gone<T> {
    /// A node that was replaced. The slots in `Kept` own what they hold still;
    /// what the others held has moved to other nodes.
    Replaced(NonNull<Node<T>>, Kept),
    /// A link.
    Link(Link<T>),
}

/// Some slots in a row, perhaps none.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) struct Kept {
    from: u8,
    count: u8,
}

impl Kept {
    /// No slot.
    pub(crate) const NONE: Self = Self { from: 0, count: 0 };

    pub(crate) fn slots(slots: Range<usize>) -> Self {
        if slots.is_empty() {
            return Self::NONE;
        }
        Self {
            from: slots.start as u8,
            count: slots.len() as u8,
        }
    }
}

impl<T> Gone<T> {
    /// A node that was replaced, but for `kept`.
    ///
    /// # Safety
    ///
    /// - The one link to `node` is given up by its slot.
    /// - What the slots outside of `kept` held has another owner, or is leaked.
    pub(crate) unsafe fn replaced(node: NodeRef<'_, T>, kept: Kept) -> Self {
        Self::Replaced(node.0, kept)
    }

    /// A link to `node` that a slot gave up.
    ///
    /// # Safety
    ///
    /// - There is such a link, and it is given up once.
    pub(crate) unsafe fn unlinked(node: NodeRef<'_, T>) -> Self {
        Self::Link(Link(node.0))
    }

    /// As one word: nodes are aligned to 256, which leaves eight bits.
    pub(crate) fn pack(self) -> *mut () {
        let (node, low) = match self {
            Self::Replaced(node, Kept { from, count }) => (node, (from << 4) | count),
            // A node of 15 slots cannot keep 15 from slot 15 on.
            Self::Link(Link(node)) => (node, 0xff),
        };
        node.as_ptr().map_addr(|at| at | usize::from(low)).cast()
    }

    /// # Safety
    ///
    /// - `word` was made by [`pack`](Self::pack), and is unpacked once.
    pub(crate) unsafe fn unpack(word: *mut ()) -> Self {
        let low = (word.addr() & 0xff) as u8;
        let node: *mut Node<T> = word.map_addr(|at| at & !0xff).cast();
        // SAFETY: `pack` made the word of a node's address, which is not null.
        let node = unsafe { NonNull::new_unchecked(node) };
        if low == 0xff {
            return Self::Link(Link(node));
        }
        let kept = Kept {
            from: low >> 4,
            count: low & 0xf,
        };
        Self::Replaced(node, kept)
    }

    /// Drops what is still owned, and gives the memory of all nodes to `free`.
    ///
    /// Entries are dropped on the way, which runs their code: the tree they came
    /// from must be whole already. If one panics, those behind it leak.
    ///
    /// # Safety
    ///
    /// - Nobody looks at the node, or through the link, any more.
    pub(crate) unsafe fn release(self, mut free: impl FnMut(NonNull<NodeMemory>)) {
        let (mut husk, Kept { from, count }) = match self {
            Self::Link(link) => return release(link, &mut free),
            Self::Replaced(node, kept) => (Husk(node), kept),
        };
        for slot in usize::from(from)..usize::from(from) + usize::from(count) {
            let node = husk.node();
            if node.is_leaf() {
                drop(node.take_entry(slot));
            } else if let Some(link) = node.take_child(slot) {
                release(link, &mut free);
            }
        }
        free(husk.into_memory());
    }
}

/// Gives up `link`, and what it led to wherever that was the last link.
pub(crate) fn release<T>(link: Link<T>, free: &mut impl FnMut(NonNull<NodeMemory>)) {
    let mut path: ArrayVec<(Husk<T>, usize), HEIGHT_MAX> = ArrayVec::new();
    path.extend(link.unlink().map(|husk| (husk, 0)));
    while let Some((husk, slot)) = path.last_mut() {
        let node = husk.node();
        if node.is_leaf() {
            if core::mem::needs_drop::<T>() {
                (0..node.count()).for_each(|slot| drop(node.take_entry(slot)));
            }
        } else if *slot < node.count() {
            let child = node.take_child(*slot);
            *slot += 1;
            path.extend(child.and_then(Link::unlink).map(|husk| (husk, 0)));
            continue;
        }
        if let Some((husk, _)) = path.pop() {
            free(husk.into_memory());
        }
    }
}
