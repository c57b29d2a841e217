//! A tree's own stock of free nodes: what makes a reserved write infallible.
//!
//! A cellar: free nodes are chained through their own memory.
#![expect(
    unsafe_code,
    reason = "chains free nodes through their memory and returns them"
)]

use core::fmt;
use core::ptr::NonNull;

use arrayvec::ArrayVec;

use crate::error::OutOfNodes;
use crate::node::{HEIGHT_MAX, Husk, Kind, Link, NodeMemory};
use crate::source::NodeSource;

/// A tree keeps at most this many free nodes between writes.
const KEPT: usize = 16;

/// A free node: the next one is named in its first word.
struct Free(Option<NonNull<Free>>);

/// Free nodes and the source they come from.
///
/// # Invariants
///
/// - **P1** Every node of the chain came from `source` and is used by nothing else.
pub(crate) struct Pool<S: NodeSource> {
    chain: Option<NonNull<Free>>,
    len: usize,
    /// So many nodes are promised to writes that were preallocated: they stay.
    promised: usize,
    source: S,
}

// SAFETY: the chain is owned memory without content (P1); where it is freed is
// the source's concern, which must be `Send` for that.
unsafe impl<S: NodeSource + Send> Send for Pool<S> {}

// SAFETY: through a shared reference only `source` can be used, which is `Sync`.
unsafe impl<S: NodeSource + Sync> Sync for Pool<S> {}

impl<S: NodeSource> Pool<S> {
    pub(crate) const fn new(source: S) -> Self {
        Self {
            chain: None,
            len: 0,
            promised: 0,
            source,
        }
    }

    pub(crate) fn source(&self) -> &S {
        &self.source
    }

    /// How many free nodes are kept.
    pub(crate) fn len(&self) -> usize {
        self.len
    }

    /// Makes sure that the next `nodes` calls of [`take`](Self::take) succeed.
    ///
    /// On error what was obtained is kept, within the usual bound.
    pub(crate) fn reserve(&mut self, nodes: usize) -> Result<(), OutOfNodes> {
        while self.len < nodes {
            let Some(memory) = self.source.allocate() else {
                self.trim();
                return Err(OutOfNodes);
            };
            self.put(memory);
        }
        Ok(())
    }

    /// An empty node of `kind`. A write has reserved what it takes.
    pub(crate) fn take<T>(&mut self, kind: Kind) -> Link<T> {
        let free = self.chain.expect("the write reserved the nodes it takes");
        // SAFETY: a node of the chain begins with the link to the next (P1).
        self.chain = unsafe { free.as_ref() }.0;
        self.len -= 1;
        Link::new(free.cast(), kind)
    }

    /// Keeps the memory of a node that was freed, up to a bound: a write in
    /// progress may yet want it, but a large subtree must not pile up here.
    fn take_back(&mut self, memory: NonNull<NodeMemory>) {
        self.put(memory);
        self.shrink_to((4 * KEPT).max(self.len - 1).max(self.promised));
    }

    fn put(&mut self, memory: NonNull<NodeMemory>) {
        let free: NonNull<Free> = memory.cast();
        // SAFETY: the memory is ours, and larger and more aligned than a `Free`.
        unsafe { free.write(Free(self.chain)) };
        self.chain = Some(free);
        self.len += 1;
    }

    /// Keeps `nodes` nodes, which are there, for writes to come.
    pub(crate) fn promise(&mut self, nodes: usize) {
        self.promised = nodes;
    }

    /// Returns what goes past the stock a tree keeps to the source.
    pub(crate) fn trim(&mut self) {
        self.shrink_to(KEPT.max(self.promised));
    }

    fn shrink_to(&mut self, nodes: usize) {
        while self.len > nodes {
            let Some(free) = self.chain else { return };
            // SAFETY: a node of the chain begins with the link to the next (P1).
            self.chain = unsafe { free.as_ref() }.0;
            self.len -= 1;
            // SAFETY: the node came from the source, and left the chain just now (P1).
            unsafe { self.source.free(free.cast()) };
        }
    }

    /// Gives up `link`, and what it led to wherever that was the last link.
    ///
    /// Entries are dropped on the way, which runs their code: the tree they
    /// came from must be whole already. If one panics, those behind it leak.
    pub(crate) fn release<T>(&mut self, link: Link<T>) {
        let mut path: ArrayVec<Husk<T>, HEIGHT_MAX> = ArrayVec::new();
        path.extend(link.unlink());
        while let Some(husk) = path.last_mut() {
            if let Some(child) = husk.next_child() {
                path.extend(child.unlink());
                continue;
            }
            husk.drop_entries();
            if let Some(husk) = path.pop() {
                self.take_back(husk.into_memory());
            }
        }
    }
}

impl<T> Husk<T> {
    /// Takes the last child that is left.
    fn next_child(&mut self) -> Option<Link<T>> {
        let node = self.node();
        if node.is_leaf() {
            return None;
        }
        while node.count() > 0 {
            let slot = node.count() - 1;
            let child = node.take_child(slot);
            node.truncate_branch(slot);
            if child.is_some() {
                return child;
            }
        }
        None
    }

    fn drop_entries(&mut self) {
        let node = self.node();
        if node.is_leaf() {
            for slot in 0..node.count() {
                drop(node.take_entry(slot));
            }
        }
    }
}

impl<S: NodeSource> Drop for Pool<S> {
    fn drop(&mut self) {
        self.shrink_to(0);
    }
}

impl<S: NodeSource> fmt::Debug for Pool<S> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Pool")
            .field("len", &self.len)
            .finish_non_exhaustive()
    }
}
