//! One table, looked at: its words, and what is noted for its frame.

use core::sync::atomic::{AtomicU64, Ordering};

use super::arch::{Arch, Entry, Leaf, LeafFlags, Writable};
use super::memory::{FrameInfo, PhysAddr, PhysMemory, Words};
use super::sync;
use super::tally::{DEAD, Tally};

/// A table in memory. Copying it copies the look, not a reference that is counted.
#[derive(Clone, Copy, Debug)]
pub(super) struct Table<'m> {
    pub(super) addr: PhysAddr,
    pub(super) words: &'m Words,
}

impl<'m> Table<'m> {
    pub(super) fn at<M: PhysMemory>(memory: &'m M, addr: PhysAddr) -> Self {
        Self {
            addr,
            words: memory.words(addr),
        }
    }

    /// What is noted for its frame.
    ///
    /// PERF: who only goes by does not ask: it may lie in a line of the cache with what is noted
    /// for a table that others lock.
    pub(super) fn info<M: PhysMemory>(self, memory: &'m M) -> &'m FrameInfo {
        memory.info(self.addr)
    }

    pub(super) fn tally<M: PhysMemory>(self, memory: &M) -> Tally {
        Tally::load(memory.info(self.addr).tally())
    }

    pub(super) fn entry<A: Arch>(self, index: usize, level: usize) -> Entry {
        load::<A>(&self.words[index], level)
    }

    /// Whether the table was taken out, as far as who does not hold it can tell.
    pub(super) fn is_dead<M: PhysMemory>(self, memory: &M) -> bool {
        // Relaxed: who must be sure holds the table.
        sync::load(memory.info(self.addr).tally(), Ordering::Relaxed) & DEAD != 0
    }
}

pub(super) fn load<A: Arch>(word: &AtomicU64, level: usize) -> Entry {
    // ORDERING: `Acquire` pairs with the `Release` in `store` and the swaps of `Held`: the table that an
    // entry leads to is seen filled in.
    A::decode(sync::load(word, Ordering::Acquire), level)
}

pub(super) fn store<A: Arch>(word: &AtomicU64, level: usize, entry: Entry) {
    // ORDERING: `Release`, see `load`.
    sync::store(word, A::encode(entry, level), Ordering::Release);
}

/// Changes a leaf in place, and loses nothing that a processor notes in it meanwhile: what it was.
///
/// Anything but a leaf stays as it is.
pub(super) fn update_leaf<A: Arch>(
    word: &AtomicU64,
    level: usize,
    change: impl Fn(Leaf) -> Leaf,
) -> Entry {
    let mut raw = sync::load(word, Ordering::Acquire);
    loop {
        let entry = A::decode(raw, level);
        let Entry::Leaf(leaf) = entry else {
            return entry;
        };
        let changed = change(leaf);
        if changed == leaf {
            return entry;
        }
        let new = A::encode(Entry::Leaf(changed), level);
        match sync::replace(word, (raw, new), Ordering::AcqRel) {
            Ok(_) => return entry,
            Err(now) => raw = now,
        }
    }
}

/// Takes the right to write from an entry, as every owner of a shared table may: whether it had it.
pub(super) fn write_protect<A: Arch>(word: &AtomicU64, level: usize) -> Writable {
    let mut raw = sync::load(word, Ordering::Acquire);
    loop {
        let protected = match A::decode(raw, level) {
            Entry::Leaf(leaf) if leaf.is_writable() => Entry::Leaf(leaf.without(LeafFlags::WRITE)),
            Entry::Table(table, Writable::Yes) => Entry::Table(table, Writable::No),
            _ => return Writable::No,
        };
        let new = A::encode(protected, level);
        match sync::replace(word, (raw, new), Ordering::AcqRel) {
            Ok(_) => return Writable::Yes,
            Err(now) => raw = now,
        }
    }
}
