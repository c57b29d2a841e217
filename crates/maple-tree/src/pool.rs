//! A tree's own stock of free nodes: what makes a reserved write infallible.
//!
//! A cellar: free nodes are memory that only the stock knows of.
#![expect(
    unsafe_code,
    reason = "chains free nodes through their memory and returns them"
)]

use core::fmt;
use core::ptr::NonNull;

use arrayvec::ArrayVec;

use crate::error::OutOfNodes;
use crate::node::{Fresh, Gone, Kind, Link, Node, NodeMemory};
use crate::source::NodeSource;

/// How many free nodes are at hand in an array.
const AT_HAND: usize = 32;
/// How many nodes are asked for, or given back, at a time.
const BATCH: usize = 16;

/// A free node in the chain: the next one is named in its first word.
struct Free(Option<NonNull<Free>>);

/// Free nodes and the source they come from.
///
/// # Invariants
///
/// - **P1** Every free node came from `source` and is used by nothing else.
pub(crate) struct Pool<S: NodeSource> {
    /// PERF: an array hands a node out without waiting for its memory; a chain
    /// would load the next one's address from it.
    at_hand: ArrayVec<NonNull<NodeMemory>, AT_HAND>,
    /// What does not fit there: many nodes are set aside for writes to come.
    chain: Option<NonNull<Free>>,
    chained: usize,
    /// So many nodes are promised to writes that were preallocated: they stay.
    promised: usize,
    source: S,
}

// SAFETY: free nodes are owned memory without content (P1); where it is freed is
// the source's concern, which must be `Send` for that.
unsafe impl<S: NodeSource + Send> Send for Pool<S> {}

// SAFETY: through a shared reference only `source` can be used, which is `Sync`.
unsafe impl<S: NodeSource + Sync> Sync for Pool<S> {}

impl<S: NodeSource> Pool<S> {
    pub(crate) const fn new(source: S) -> Self {
        Self {
            at_hand: ArrayVec::new_const(),
            chain: None,
            chained: 0,
            promised: 0,
            source,
        }
    }

    pub(crate) fn source(&self) -> &S {
        &self.source
    }

    /// How many free nodes are kept.
    pub(crate) fn len(&self) -> usize {
        self.at_hand.len() + self.chained
    }

    /// Makes sure that the next `nodes` calls of [`take`](Self::take) succeed.
    ///
    /// On error what was obtained is kept, within the usual bound.
    #[inline]
    pub(crate) fn reserve(&mut self, nodes: usize) -> Result<(), OutOfNodes> {
        if self.len() < nodes {
            return self.refill(nodes);
        }
        Ok(())
    }

    /// As [`reserve`](Self::reserve), by who will want `more` soon: they are fetched
    /// in batches.
    #[inline]
    pub(crate) fn reserve_of_many(&mut self, nodes: usize, more: usize) -> Result<(), OutOfNodes> {
        if self.len() < nodes {
            return self
                .refill(nodes.max(more.min(BATCH)))
                .or_else(|OutOfNodes| self.reserve(nodes));
        }
        Ok(())
    }

    #[cold]
    fn refill(&mut self, nodes: usize) -> Result<(), OutOfNodes> {
        let missing = nodes - self.len();
        let Self {
            at_hand,
            chain,
            chained,
            source,
            ..
        } = self;
        let obtained = source.allocate_many(missing, &mut |memory| {
            if at_hand.try_push(memory).is_err() {
                put_on(chain, memory);
                *chained += 1;
            }
        });
        if obtained < missing {
            self.trim();
            return Err(OutOfNodes);
        }
        Ok(())
    }

    /// An empty node of `kind`. A write has reserved what it takes.
    #[inline]
    pub(crate) fn take<T>(&mut self, kind: Kind) -> Fresh<T> {
        Fresh::new(self.take_memory(), kind)
    }

    /// An outline of `node`. It has been reserved.
    #[inline]
    pub(crate) fn take_outline<T, U>(&mut self, node: &Node<U>) -> Fresh<T> {
        Fresh::outline_of(self.take_memory(), node)
    }

    /// A copy of `node`, word by word. A write has reserved what it takes.
    ///
    /// # Safety
    ///
    /// - As for [`Fresh::copy_of`].
    #[inline]
    pub(crate) unsafe fn take_copy<T>(&mut self, node: &Node<T>) -> Fresh<T> {
        // SAFETY: the contract.
        unsafe { Fresh::copy_of(self.take_memory(), node) }
    }

    #[inline]
    pub(crate) fn take_memory(&mut self) -> NonNull<NodeMemory> {
        match self.at_hand.pop() {
            Some(memory) => memory,
            None => self
                .unchain()
                .expect("the write reserved the nodes it takes"),
        }
    }

    #[cold]
    fn unchain(&mut self) -> Option<NonNull<NodeMemory>> {
        let free = self.chain?;
        // SAFETY: a node of the chain begins with the link to the next (P1).
        self.chain = unsafe { free.as_ref() }.0;
        self.chained -= 1;
        Some(free.cast())
    }

    /// Keeps the memory of a node that was freed, as far as there is room. It came from
    /// the source.
    #[inline]
    pub(crate) fn put(&mut self, memory: NonNull<NodeMemory>) {
        if self.at_hand.try_push(memory).is_err() {
            self.make_room();
            self.at_hand.push(memory);
        }
    }

    /// Moves half of what is at hand away: to the chain while writes are promised
    /// more nodes than there are, else to the source.
    #[cold]
    fn make_room(&mut self) {
        if self.len() < self.promised + BATCH {
            for memory in self.at_hand.drain(..BATCH) {
                put_on(&mut self.chain, memory);
                self.chained += 1;
            }
            return;
        }
        // SAFETY: the nodes came from the source (P1), and leave the array.
        unsafe { self.source.free_many(&self.at_hand[..BATCH]) };
        self.at_hand.drain(..BATCH);
    }

    /// Keeps `nodes` nodes, which are there, for writes to come.
    pub(crate) fn promise(&mut self, nodes: usize) {
        self.promised = nodes;
    }

    /// Returns what does not fit at hand to the source.
    #[inline]
    pub(crate) fn trim_chain(&mut self) {
        if self.chained > 0 {
            self.shrink_to(AT_HAND.max(self.promised));
        }
    }

    /// Returns what goes past the stock a tree keeps at rest to the source.
    pub(crate) fn trim(&mut self) {
        self.shrink_to(BATCH.max(self.promised));
    }

    /// Returns all but the promised nodes to the source.
    pub(crate) fn shrink_to_fit(&mut self) {
        self.shrink_to(self.promised);
    }

    #[cold]
    fn shrink_to(&mut self, nodes: usize) {
        while self.len() > nodes {
            let Some(memory) = self.unchain().or_else(|| self.at_hand.pop()) else {
                return;
            };
            // SAFETY: the node came from the source, and left the stock just now (P1).
            unsafe { self.source.free(memory) };
        }
    }

    /// Gives up `link`, and what it led to wherever that was the last link.
    pub(crate) fn release<T>(&mut self, link: Link<T>) {
        crate::node::release(link, &mut |memory| self.put(memory));
    }

    /// Drops and frees what a write cut out of its tree, which is whole again.
    ///
    /// # Safety
    ///
    /// - Nobody looks at it any more.
    #[inline]
    pub(crate) unsafe fn release_gone<T>(&mut self, gone: Gone<T>) {
        // SAFETY: the contract.
        unsafe { gone.release(|memory| self.put(memory)) };
    }
}

fn put_on(chain: &mut Option<NonNull<Free>>, memory: NonNull<NodeMemory>) {
    let free: NonNull<Free> = memory.cast();
    // SAFETY: the memory is ours, and larger and more aligned than a `Free`.
    unsafe { free.write(Free(*chain)) };
    *chain = Some(free);
}

impl<S: NodeSource> Drop for Pool<S> {
    fn drop(&mut self) {
        while let Some(memory) = self.unchain() {
            // SAFETY: the node came from the source, and left the chain just now (P1).
            unsafe { self.source.free(memory) };
        }
        // SAFETY: the nodes came from the source (P1), and leave the array.
        unsafe { self.source.free_many(&self.at_hand) };
        self.at_hand.clear();
    }
}

impl<S: NodeSource> fmt::Debug for Pool<S> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Pool")
            .field("len", &self.len())
            .finish_non_exhaustive()
    }
}
