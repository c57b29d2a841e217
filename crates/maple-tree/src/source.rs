//! [`NodeSource`] and the two sources on top of the global allocator.
//!
//! A cellar: it hands out raw memory.
#![expect(unsafe_code, reason = "allocates and frees raw node memory")]

use alloc::alloc::{Layout, alloc, dealloc};
use core::ptr::NonNull;

use crate::node::NodeMemory;
use crate::slab::{Burst, SLAB};

/// Where a tree's nodes come from. Allocation may fail; freeing may not.
///
/// A tree keeps a few nodes it has freed for its next writes, so the source is
/// asked less often than nodes come and go.
///
/// # Safety
///
/// - What `allocate` returns, and each node that `allocate_many` puts, is
///   memory for one [`NodeMemory`], aligned to it, that nothing else uses until
///   it is passed to `free` or `free_many`; which of the two is the user's choice,
///   whichever it came from.
/// - `allocate_many` calls `put` as often as the number it returns says, which
///   is at most `wanted`.
/// - If the source is `Clone`, memory from one may be freed by any clone, on
///   any thread the clone may be sent to.
///
/// # Examples
///
/// A source with a limit:
///
/// ```
/// use core::cell::Cell;
/// use core::ptr::NonNull;
/// use maple_tree::{HeapNodes, IndexRange, MapleTree, NodeMemory, NodeSource, StoreErrorKind};
///
/// struct Limited(Cell<usize>);
///
/// // SAFETY: passes on what `HeapNodes` hands out, and is not `Clone`.
/// unsafe impl NodeSource for Limited {
///     fn allocate(&self) -> Option<NonNull<NodeMemory>> {
///         self.0.set(self.0.get().checked_sub(1)?);
///         HeapNodes.allocate()
///     }
///     unsafe fn free(&self, node: NonNull<NodeMemory>) {
///         // SAFETY: it came from `HeapNodes`.
///         unsafe { HeapNodes.free(node) }
///     }
/// }
///
/// let mut tree = MapleTree::new_in(Limited(Cell::new(0)));
/// let refused = tree.insert(IndexRange::single(1), 1_u32).unwrap_err();
/// assert_eq!(refused.kind, StoreErrorKind::OutOfNodes);
/// ```
#[doc(alias = "mt_cache_shrink")]
#[doc(alias = "mt_zero_nr_tallocated")]
#[doc(alias = "mt_set_non_kernel")]
#[doc(alias = "mt_set_callback")]
#[doc(alias = "mt_set_private")]
pub unsafe trait NodeSource {
    /// Returns memory for one node, or `None` if there is none.
    fn allocate(&self) -> Option<NonNull<NodeMemory>>;

    /// Passes up to `wanted` nodes to `put`, one at a time, and returns how many
    /// those were: fewer only if there are no more.
    ///
    /// Does what as many calls of [`allocate`](Self::allocate) do, which is how it
    /// works unless the source knows a cheaper way. `put` may use the source. A
    /// panic of it is passed on; nodes that it was not given by then may leak.
    fn allocate_many(&self, wanted: usize, put: &mut dyn FnMut(NonNull<NodeMemory>)) -> usize {
        for done in 0..wanted {
            let Some(node) = self.allocate() else {
                return done;
            };
            put(node);
        }
        wanted
    }

    /// Takes the memory of a node back.
    ///
    /// # Safety
    ///
    /// - `node` came from `allocate` or `allocate_many` of this source or of a
    ///   clone, was not freed since, and nothing uses it any more.
    /// - The pointer is the one that came from there, or a cast of it: one made
    ///   from a reference to the node may access less than the source needs.
    unsafe fn free(&self, node: NonNull<NodeMemory>);

    /// Takes the memory of many nodes back.
    ///
    /// Does what a call of [`free`](Self::free) for each does, which is how it
    /// works unless the source knows a cheaper way.
    ///
    /// # Safety
    ///
    /// - What [`free`](Self::free) asks for holds for each of `nodes`.
    /// - No node occurs twice.
    unsafe fn free_many(&self, nodes: &[NonNull<NodeMemory>]) {
        for &node in nodes {
            // SAFETY: the caller's promise holds for each node, and none comes again.
            unsafe { self.free(node) };
        }
    }
}

/// Nodes from one slab for the whole process, on top of the global allocator.
///
/// The slab asks the global allocator for chunks of 64 KiB, aligned to 64 KiB,
/// of 255 nodes each. Compared with [`GlobalNodes`] it is several times as fast,
/// most of all where many nodes are asked for in one call, keeps nodes that are
/// made together near each other, and loses one part in 256 of the memory
/// instead of the global allocator's overhead beside each aligned node.
///
/// A chunk whose last node is freed is kept as a reserve, if that has no more
/// chunks than are in use, or is the only one; else it goes back to the global
/// allocator. So the slab holds at most twice the chunks in use, and one chunk
/// once all trees are gone. [`release_reserve`](Self::release_reserve)
/// gives the reserve back as well. One node in use keeps its whole chunk.
///
/// If the global allocator has no chunk, there are no more nodes: `allocate`
/// returns `None`, nothing panics. It is called without any lock held, so it may
/// itself keep a tree.
///
/// # When to choose another source
///
/// A spin lock, held for at most 64 nodes at a time, is around the slab. So use
/// [`GlobalNodes`] or a source of your own
///
/// - in signal and interrupt handlers, which may interrupt the thread that holds
///   the lock, and in the child of a fork of a process with other threads;
/// - under a scheduler where a thread that waits can keep the holder from running,
///   as with strict priorities on one processor;
/// - to look for leaks and late reads of single nodes with a tool that watches
///   the global allocator: it sees chunks only, and the reserve is still
///   reachable at the end of the program.
///
/// # Complexity
///
/// Constant time for a node, apart from the calls of the global allocator, of
/// which there is at most one for 255 nodes of a growing tree.
///
/// # Examples
///
/// ```
/// use maple_tree::{HeapNodes, IndexRange, MapleTree};
///
/// let mut tree = MapleTree::new_in(HeapNodes);
/// tree.insert(IndexRange::single(1), 1_u32)?;
/// drop(tree);
/// // If no other tree uses the chunk, it was kept, and goes now.
/// let bytes = HeapNodes::release_reserve();
/// assert_eq!(bytes % (64 * 1024), 0);
/// # Ok::<(), maple_tree::StoreError<u32>>(())
/// ```
#[derive(Clone, Copy, Debug, Default)]
pub struct HeapNodes;

impl HeapNodes {
    /// Gives the empty chunks that the slab keeps back to the global allocator,
    /// and returns their size in bytes: 0 if there are none.
    ///
    /// Nodes in use are not touched. Chunks that become empty later are kept as before.
    pub fn release_reserve() -> usize {
        SLAB.release_reserve()
    }
}

// SAFETY:
// - The slab hands out memory of a node's size and alignment, each until it is
//   freed, whichever call it leaves and comes back by.
// - `allocate_many` puts what it counts, and asks for no more than is missing.
// - There is one slab, and its lock makes it serve and free on any thread.
unsafe impl NodeSource for HeapNodes {
    fn allocate(&self) -> Option<NonNull<NodeMemory>> {
        let mut burst = Burst::new();
        SLAB.allocate(1, &mut burst);
        burst.pop()
    }

    fn allocate_many(&self, wanted: usize, put: &mut dyn FnMut(NonNull<NodeMemory>)) -> usize {
        let mut done = 0;
        while done < wanted {
            let mut burst = Burst::new();
            SLAB.allocate(wanted - done, &mut burst);
            if burst.is_empty() {
                break;
            }
            done += burst.len();
            // The lock is not held here: `put` may do what it likes.
            burst.iter().copied().for_each(&mut *put);
        }
        done
    }

    unsafe fn free(&self, node: NonNull<NodeMemory>) {
        // SAFETY: `node` came from the slab and may access its chunk, by the
        // caller's promise.
        unsafe { SLAB.free(&[node]) }
    }

    unsafe fn free_many(&self, nodes: &[NonNull<NodeMemory>]) {
        // SAFETY: as for `free`, and no node occurs twice.
        unsafe { SLAB.free(nodes) }
    }
}

/// Each node straight from the global allocator.
///
/// Slower than [`HeapNodes`], and without a lock, a reserve or shared state of
/// its own: a tool that watches the global allocator sees every node.
///
/// # Examples
///
/// ```
/// use maple_tree::{GlobalNodes, IndexRange, MapleTree};
///
/// let mut tree = MapleTree::new_in(GlobalNodes);
/// tree.insert(IndexRange::single(1), 1_u32)?;
/// # Ok::<(), maple_tree::StoreError<u32>>(())
/// ```
#[derive(Clone, Copy, Debug, Default)]
pub struct GlobalNodes;

// SAFETY:
// - The global allocator returns memory of the layout asked for, or null.
// - It serves and frees on any thread.
unsafe impl NodeSource for GlobalNodes {
    fn allocate(&self) -> Option<NonNull<NodeMemory>> {
        // SAFETY: the layout is not of size zero.
        let memory = unsafe { alloc(Layout::new::<NodeMemory>()) };
        NonNull::new(memory.cast())
    }

    unsafe fn free(&self, node: NonNull<NodeMemory>) {
        // SAFETY: `node` came from `allocate`, so from the same layout.
        unsafe { dealloc(node.as_ptr().cast(), Layout::new::<NodeMemory>()) }
    }
}
