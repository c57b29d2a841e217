//! What a tree that lock-free readers look at has cut out, noted until they are gone.
//!
//! A cellar: notes are kept in the memory of nodes that the write reserved, so
//! that noting never fails. Nothing is written to a node that was cut out: a
//! late reader may look at every word of it.
#![expect(unsafe_code, reason = "keeps records in the memory of nodes")]

use core::marker::PhantomData;
use core::mem::MaybeUninit;
use core::ptr::NonNull;

use crate::node::{Gone, NodeMemory};
use crate::pool::Pool;
use crate::rcu::RcuHead;
use crate::source::NodeSource;

/// How many records a batch holds.
pub(crate) const RECORDS: usize = 26;

/// Records of what was cut out, in the memory of one node.
#[repr(C)]
pub(crate) struct Batch {
    /// For whoever waits for the readers to be gone.
    pub(crate) head: RcuHead,
    /// Where the memory goes then: a clone of the tree's node source.
    pub(crate) source: [MaybeUninit<u64>; 2],
    len: usize,
    records: [MaybeUninit<*mut ()>; RECORDS],
}

const _: () = assert!(size_of::<Batch>() <= size_of::<NodeMemory>());

impl Batch {
    /// Takes one record out.
    ///
    /// # Safety
    ///
    /// - The records are those of a tree of `T`.
    #[cfg_attr(
        not(feature = "rcu"),
        expect(dead_code, reason = "for lock-free readers")
    )]
    pub(crate) unsafe fn pop<T>(&mut self) -> Option<Gone<T>> {
        self.len = self.len.checked_sub(1)?;
        // SAFETY: the records below `len` are written.
        let word = unsafe { self.records[self.len].assume_init() };
        // SAFETY: packed by `Limbo::push` from what a tree of `T` cut out; with `len`
        // lowered it is unpacked once.
        Some(unsafe { Gone::unpack(word) })
    }
}

/// Who is told of a batch that is full.
#[derive(Clone, Copy)]
pub(crate) struct Retire {
    pub(crate) context: *const (),
    /// Takes the batch over; the first argument is `context`.
    pub(crate) hand_over: unsafe fn(*const (), NonNull<Batch>),
}

/// The batch that is being filled.
pub(crate) struct Limbo<T> {
    open: Option<NonNull<Batch>>,
    retire: Option<Retire>,
    _cut_out: PhantomData<T>,
}

// SAFETY: the batch is owned memory; what its records lead to is sent and
// dropped as the entries of a tree are, whose bounds these are. `retire` may be used
// on any thread that the tree comes to (`set_retire`).
unsafe impl<T: Send + Sync> Send for Limbo<T> {}

// SAFETY: through a shared reference only a number is read.
unsafe impl<T: Send + Sync> Sync for Limbo<T> {}

impl<T> Limbo<T> {
    pub(crate) const fn new() -> Self {
        Self {
            open: None,
            retire: None,
            _cut_out: PhantomData,
        }
    }

    /// Sets who is told of full batches from now on.
    ///
    /// # Safety
    ///
    /// - `retire.context` is valid until the next call, or until the last push, and may
    ///   be used on each thread that pushes until then.
    #[cfg_attr(
        not(feature = "rcu"),
        expect(dead_code, reason = "for lock-free readers")
    )]
    pub(crate) unsafe fn set_retire(&mut self, retire: Retire) {
        self.retire = Some(retire);
    }

    fn room(&self) -> usize {
        // SAFETY: the open batch is ours, and its header is written.
        let len = self.open.map(|batch| unsafe { (*batch.as_ptr()).len });
        len.map_or(0, |len| RECORDS - len)
    }

    /// How many nodes have to be free for `records` more.
    pub(crate) fn nodes_for(&self, records: usize) -> usize {
        records.saturating_sub(self.room()).div_ceil(RECORDS)
    }

    /// Notes what was cut out. The nodes for that are reserved.
    pub(crate) fn push<S: NodeSource>(&mut self, gone: Gone<T>, pool: &mut Pool<S>) {
        if self.room() == 0 {
            self.hand_over();
            self.open = Some(new_batch(pool.take_memory()));
        }
        let mut batch = self.open.expect("there is room");
        // SAFETY: the open batch is ours.
        let batch = unsafe { batch.as_mut() };
        batch.records[batch.len] = MaybeUninit::new(gone.pack());
        batch.len += 1;
    }

    /// Hands the open batch over, however full it is.
    pub(crate) fn hand_over(&mut self) {
        if let (Some(batch), Some(retire)) = (self.open.take(), self.retire) {
            // SAFETY: the context is valid (`set_retire`), and the batch is given up.
            unsafe { (retire.hand_over)(retire.context, batch) };
        }
    }

    /// Takes the open batch.
    #[cfg_attr(
        not(feature = "rcu"),
        expect(dead_code, reason = "for lock-free readers")
    )]
    pub(crate) fn take(&mut self) -> Option<NonNull<Batch>> {
        self.open.take()
    }
}

fn new_batch(memory: NonNull<NodeMemory>) -> NonNull<Batch> {
    let batch: NonNull<Batch> = memory.cast();
    // SAFETY: the memory is ours, large enough and aligned.
    let len = unsafe { &raw mut (*batch.as_ptr()).len };
    // SAFETY: a field of our memory. The other fields are written before they are
    // read: the records as far as `len` says, the rest by who takes the batch over.
    unsafe { len.write(0) };
    batch
}
