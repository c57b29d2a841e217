//! Tables that were taken out while others may be on the way to them, until those have left.
//!
//! A cellar: what waits is noted in the memory of nodes, and read back when nobody looks.
//!
//! ```text
//!  a writer   takes a table out, flushes, hand_over ....... goes on
//!  a fault    found it before ----- locks it: dead -- leaves
//!  Rcu                                |  everybody from before ...  | give_up
//! ```
//!
//! A record is a reference to a table, and the table's level. Nothing is overlaid on a table that
//! was taken out: who comes late reads it as it was, locks it and finds it dead. Where a reference
//! was the last, the table is taken apart when nobody looks, and all below it: at most
//! [`PIECES`] steps at a time, then the batch waits once more, so that no callback takes long.
//!
//! A batch is made when a table is taken out, or before. Where there is no node for it, who is no
//! reader waits for the readers there and then ([`Retired::settle`]): retiring never fails.
//!
//! - **LB1** What is [pending](Waiting::pending) are the batches handed over and not given up.
#![expect(
    unsafe_code,
    reason = "keeps records in the memory of nodes, until nobody looks"
)]

use alloc::sync::Arc;
use core::mem::MaybeUninit;
use core::ptr::NonNull;
use core::sync::atomic::{AtomicUsize, Ordering};

use maple_tree::{NodeMemory, NodeSource, Rcu, RcuHead};
use spin::Once;

use super::arch::{Arch, Entry, LEVELS_MOST};
use super::company::Beside;
use super::memory::{FRAME_BYTES, FRAME_WORDS, OutOfFrames, PhysAddr, PhysMemory, Remaining};
use super::subtree::release_leaf;
use super::sync;
use super::table::Table;
use crate::counted::Counted;
use crate::memory::TreeNodes;
use crate::system::System;

/// How many references a callback gives up at most.
const PIECES: usize = 512;

/// How many records fit into a batch.
const RECORDS: usize = 21 - WAY;

/// Room for the tables on the way down from one that is taken apart.
const WAY: usize = LEVELS_MOST - 1;

/// In a record: the reference was given up, it was the last, and the table is taken apart.
const OPEN: u64 = 1 << 8;

/// What the batches of one address space have in common.
#[derive(Debug, Default)]
pub(super) struct Waiting {
    pending: AtomicUsize,
    /// Whose pool explicitly huge pages go back to.
    pool: Once<Arc<System>>,
}

impl Waiting {
    /// As that of a parent.
    pub(super) fn heir(&self) -> Self {
        let pool = self.pool.get().map(Arc::clone);
        Self {
            pending: AtomicUsize::new(0),
            pool: pool.map_or_else(Once::new, Once::initialized),
        }
    }

    pub(super) fn set_pool(&self, system: &Arc<System>) {
        self.pool.call_once(|| Arc::clone(system));
    }

    /// How many batches wait.
    pub(super) fn pending(&self) -> usize {
        // ORDERING: `Acquire` pairs with the `Release` in `free_batch`: who finds nothing left
        // sees all of it freed.
        sync::load(&self.pending, Ordering::Acquire)
    }
}

/// Tables that wait together.
#[repr(C)]
struct Batch<M, R> {
    /// The `Rcu`'s, once the batch is handed over.
    head: MaybeUninit<RcuHead>,
    /// The batch that was full before this one was begun.
    before: Option<NonNull<Self>>,
    waiting: Counted<Waiting>,
    memory: M,
    beside: Beside<R>,
    len: usize,
    records: [u64; RECORDS + WAY],
}

/// What was taken out and not handed over yet.
///
/// # Invariants
///
/// - **LB2** `batch` leads to a batch in the memory of a node that is its finder's alone, and so
///   on over `before`.
#[derive(Debug)]
pub struct Retired<M, R> {
    batch: Option<NonNull<Batch<M, R>>>,
    /// There if a record found no place, to wait with.
    unplaced: Option<R>,
}

impl<M, R> Retired<M, R> {
    pub(super) const NONE: Self = Self {
        batch: None,
        unplaced: None,
    };
}

impl<M, R> Retired<M, R>
where
    M: PhysMemory + Clone + Send + 'static,
    R: Rcu + Clone + Send + Sync + 'static,
{
    /// Makes sure that the next table has a place.
    pub(super) fn reserve(
        &mut self,
        memory: &M,
        (beside, waiting): (&Beside<R>, &Counted<Waiting>),
    ) -> Result<(), OutOfFrames> {
        const {
            assert!(
                size_of::<Batch<M, R>>() <= size_of::<NodeMemory>(),
                "memory and `Rcu` are handles of two words at most"
            );
            assert!(align_of::<Batch<M, R>>() <= align_of::<NodeMemory>());
        };
        if self.has_room() {
            return Ok(());
        }
        let node = beside.nodes.allocate().ok_or(OutOfFrames)?;
        let batch = Batch {
            head: MaybeUninit::uninit(),
            before: self.batch,
            waiting: waiting.clone(),
            memory: memory.clone(),
            beside: beside.clone(),
            len: 0,
            records: [0; RECORDS + WAY],
        };
        let place: NonNull<Batch<M, R>> = node.cast();
        // SAFETY: the memory of a node is ours, and large and aligned enough, as asserted.
        unsafe { place.write(batch) };
        // INVARIANT: LB2
        self.batch = Some(place);
        Ok(())
    }

    /// Whether the next table has a place already.
    pub(super) fn has_room(&self) -> bool {
        self.batch.is_some_and(|batch| {
            // SAFETY: it is ours (LB2).
            let batch = unsafe { batch.as_ref() };
            batch.len < RECORDS
        })
    }

    /// Takes over a reference to a table, if it has a [place](Self::reserve): whether it has. If
    /// not, it is to be kept until this is [settled](Self::settle).
    pub(super) fn push(&mut self, table: PhysAddr, level: usize, beside: &Beside<R>) -> bool {
        if !self.has_room() {
            self.unplaced.get_or_insert_with(|| beside.rcu.clone());
            return false;
        }
        let Some(mut batch) = self.batch else {
            return false;
        };
        // SAFETY: it is ours (LB2).
        let batch = unsafe { batch.as_mut() };
        batch.push(table, level);
        true
    }

    /// Waits until nobody looks at tables that found no place. Not to be called by a reader, with
    /// the gate closed, or with a table held.
    pub(super) fn settle(&mut self) {
        if let Some(rcu) = self.unplaced.take() {
            rcu.synchronize();
        }
    }

    /// Has all of it given up when nobody looks any more.
    pub(super) fn hand_over<A: Arch>(&mut self) {
        while let Some(mut place) = self.batch {
            // SAFETY: it is ours (LB2).
            let batch = unsafe { place.as_mut() };
            self.batch = batch.before.take();
            // Relaxed: nobody concludes anything from a number that is too high.
            sync::add(&batch.waiting.pending, 1, Ordering::Relaxed);
            if batch.len == 0 {
                // SAFETY: it is ours (LB2), and nothing is in it.
                unsafe { free_batch::<A, M, R>(place.cast()) };
                continue;
            }
            let rcu = batch.beside.rcu.clone();
            // SAFETY: the memory is the `Rcu`'s from here on; `free_batch` is right to be called
            // for a batch that nobody has, when nobody looks at its tables.
            unsafe { rcu.call_rcu(place.cast(), free_batch::<A, M, R>) };
        }
    }
}

impl<M: PhysMemory, R> Batch<M, R> {
    fn push(&mut self, table: PhysAddr, level: usize) {
        self.records[self.len] = table.as_u64() | level as u64;
        self.len += 1;
    }

    /// Gives up what is noted, as far as it takes [`PIECES`] steps: whether that is all.
    fn give_up<A: Arch>(&mut self, explicit: &mut u64) -> bool {
        let mut left = PIECES;
        while let Some(at) = self.len.checked_sub(1) {
            let record = self.records[at];
            let addr = PhysAddr::new(record).frame_start();
            if record & OPEN == 0 {
                if left == 0 {
                    return false;
                }
                left -= 1;
                let info = self.memory.info(addr);
                if info.release() == Remaining::Some {
                    self.len = at;
                    continue;
                }
                self.records[at] |= OPEN;
                let is_empty = super::tally::Tally::load(info.tally()).is_empty();
                // What was its tally says from here on where to go on.
                let next = if is_empty { FRAME_WORDS as u64 } else { 0 };
                // Relaxed, here and below: nobody else has the table.
                sync::store(info.tally(), next, Ordering::Relaxed);
            }
            let level = (record & (FRAME_BYTES - 1) & !OPEN) as usize;
            match self.take_apart::<A>((addr, level), &mut left, explicit) {
                Step::Done => {
                    self.len = at;
                    self.memory.free(addr);
                }
                // Below is on top of it now.
                Step::Below => {}
                Step::Later => return false,
            }
        }
        true
    }

    /// Goes on with a table that nobody has any more.
    fn take_apart<A: Arch>(
        &mut self,
        (addr, level): (PhysAddr, usize),
        left: &mut usize,
        explicit: &mut u64,
    ) -> Step {
        let table = Table::at(&self.memory, addr);
        let next = table.info(&self.memory).tally();
        let first = sync::load(next, Ordering::Relaxed) as usize;
        for index in first..A::ENTRIES {
            let entry = table.entry::<A>(index, level);
            if entry == Entry::Empty {
                continue;
            }
            if *left == 0 {
                sync::store(next, index as u64, Ordering::Relaxed);
                return Step::Later;
            }
            match entry {
                Entry::Empty => {}
                Entry::Leaf(leaf) => {
                    *left -= 1;
                    *explicit += release_leaf(&self.memory, leaf);
                }
                Entry::Table(child, _) => {
                    sync::store(next, index as u64 + 1, Ordering::Relaxed);
                    self.push(child, level - 1);
                    return Step::Below;
                }
            }
        }
        Step::Done
    }
}

/// What became of a table that is taken apart.
enum Step {
    Done,
    /// A table below it is next.
    Below,
    /// The rest takes too long.
    Later,
}

/// Gives up what a batch notes, or a part of it, and what is left later.
///
/// # Safety
///
/// - `head` is a `Batch<M, R>` in the memory of a node, and nobody else has it.
/// - Its tables have entries of `A`. Nobody looks at those that were taken out.
unsafe fn free_batch<A, M, R>(head: NonNull<RcuHead>)
where
    A: Arch,
    M: PhysMemory + Clone + Send + 'static,
    R: Rcu + Clone + Send + Sync + 'static,
{
    let mut place: NonNull<Batch<M, R>> = head.cast();
    // SAFETY: it is ours (contract).
    let batch = unsafe { place.as_mut() };
    let mut explicit = 0;
    let is_all = batch.give_up::<A>(&mut explicit);
    if explicit > 0
        && let Some(system) = batch.waiting.pool.get()
    {
        system.huge_pool().put_back(explicit);
    }
    if !is_all {
        let rcu = batch.beside.rcu.clone();
        // SAFETY: as for this call.
        unsafe { rcu.call_rcu(head, free_batch::<A, M, R>) };
        return;
    }
    // SAFETY: it is ours (contract), and read once.
    let batch = unsafe { place.read() };
    let nodes: TreeNodes = batch.beside.nodes;
    // SAFETY: the memory came from there (`reserve`), and what it held was read.
    unsafe { nodes.free(place.cast()) };
    let Batch {
        waiting, memory, ..
    } = batch;
    drop(memory);
    // ORDERING: `Release` pairs with the `Acquire` in `pending`.
    sync::subtract(&waiting.pending, 1, Ordering::Release);
}

#[cfg(test)]
mod tests;
