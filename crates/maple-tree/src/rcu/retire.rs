//! What was cut out of a tree, on its way to being freed.
//!
//! A cellar: records are read back from the memory of a node, when no reader is left.
#![expect(unsafe_code, reason = "frees what readers looked at")]

use core::ptr::NonNull;

use arrayvec::ArrayVec;

use super::{Rcu, RcuHead};
use crate::limbo::Batch;
use crate::node::NodeMemory;
use crate::source::NodeSource;

/// A clone of the source goes along with what is to be freed.
pub(super) const fn assert_source_fits<S>() {
    assert!(
        size_of::<S>() <= 16 && align_of::<S>() <= 8,
        "the node source of a tree with lock-free readers is a handle of two words at most"
    );
}

/// Passes a batch to the `Rcu` of the tree that it is of.
///
/// # Safety
///
/// - The batch is of a tree of `T`, whose nodes come from `source`, and given up.
/// - Whoever may look at what it records holds a guard of `rcu`.
pub(super) unsafe fn pass_on<T, R, S>(batch: NonNull<Batch>, rcu: &R, source: &S)
where
    T: Send + Sync + 'static,
    R: Rcu,
    S: NodeSource + Clone + Send + Sync + 'static,
{
    const { assert_source_fits::<S>() };
    let clone = source.clone();
    // SAFETY: the batch is given up, so it is ours.
    let source = unsafe { &raw mut (*batch.as_ptr()).source };
    // SAFETY: two words are enough for a source, as was just asserted.
    unsafe { source.cast::<S>().write(clone) };
    // SAFETY: the memory is valid until `free_batch`, which is right to call when no
    // reader is left that may look at what was cut out.
    unsafe { rcu.call_rcu(batch.cast(), free_batch::<T, S>) };
}

/// Frees what a batch records, and the batch.
///
/// # Safety
///
/// - `head` is a batch of a tree of `T`, with a clone of its source, and ours.
/// - Nobody looks at what it records.
unsafe fn free_batch<T, S: NodeSource>(head: NonNull<RcuHead>) {
    let batch: NonNull<Batch> = head.cast();
    // SAFETY: ours (contract).
    let source = unsafe { &raw const (*batch.as_ptr()).source };
    // SAFETY: `pass_on` wrote it, and it is read once.
    let source = unsafe { source.cast::<S>().read() };
    // SAFETY: the contract.
    unsafe { free_now::<T, S>(batch, &source) };
}

/// As [`free_batch`], where the source is at hand.
///
/// # Safety
///
/// - As for [`free_batch`], but for the clone of the source.
pub(super) unsafe fn free_now<T, S: NodeSource>(mut batch: NonNull<Batch>, source: &S) {
    let mut nodes = FreeNodes {
        nodes: ArrayVec::new(),
        source,
    };
    loop {
        // SAFETY: ours (contract).
        let records = unsafe { batch.as_mut() };
        // SAFETY: the records are of a tree of `T` (contract).
        let Some(gone) = (unsafe { records.pop::<T>() }) else {
            break;
        };
        // SAFETY: nobody looks at it (contract).
        unsafe { gone.release(|memory| nodes.put(memory)) };
    }
    nodes.put(batch.cast());
}

/// Memory that is given back many nodes at a time.
struct FreeNodes<'s, S: NodeSource> {
    nodes: ArrayVec<NonNull<NodeMemory>, 32>,
    source: &'s S,
}

impl<S: NodeSource> FreeNodes<'_, S> {
    fn put(&mut self, memory: NonNull<NodeMemory>) {
        if self.nodes.is_full() {
            self.give_back();
        }
        self.nodes.push(memory);
    }

    fn give_back(&mut self) {
        // SAFETY: the nodes came from the source or a clone, and nothing uses them.
        unsafe { self.source.free_many(&self.nodes) };
        self.nodes.clear();
    }
}

impl<S: NodeSource> Drop for FreeNodes<'_, S> {
    fn drop(&mut self) {
        self.give_back();
    }
}
