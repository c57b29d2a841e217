//! One table, looked at: its words, and what is noted for its frame.

use core::sync::atomic::{AtomicU64, Ordering};

use super::arch::{Arch, Entry, Leaf, LeafFlags, Writable};
use super::memory::{FrameInfo, PhysAddr, PhysMemory, Words};
use super::tally::{Class, Tally};

/// A table in memory. Copying it copies the look, not a reference that is counted.
#[derive(Clone, Copy, Debug)]
pub(super) struct Table<'m> {
    pub(super) addr: PhysAddr,
    pub(super) words: &'m Words,
    pub(super) info: &'m FrameInfo,
}

impl<'m> Table<'m> {
    pub(super) fn at<M: PhysMemory>(memory: &'m M, addr: PhysAddr) -> Self {
        Self {
            addr,
            words: memory.words(addr),
            info: memory.info(addr),
        }
    }

    pub(super) fn tally(self) -> Tally {
        Tally::load(self.info.tally())
    }

    pub(super) fn entry<A: Arch>(self, index: usize, level: usize) -> Entry {
        load::<A>(&self.words[index], level)
    }

    /// Puts an entry where none is, and counts it.
    pub(super) fn put<A: Arch>(self, index: usize, level: usize, entry: Entry) {
        debug_assert_eq!(self.entry::<A>(index, level), Entry::Empty);
        if let Some(class) = Class::of(entry) {
            Tally::add(self.info.tally(), class);
        }
        store::<A>(&self.words[index], level, entry);
    }

    /// Takes an entry out, and counts it off.
    pub(super) fn take<A: Arch>(self, index: usize, level: usize) -> Entry {
        // ORDERING: `Acquire` as in `load`.
        let raw = self.words[index].swap(0, Ordering::AcqRel);
        let entry = A::decode(raw, level);
        if let Some(class) = Class::of(entry) {
            Tally::remove(self.info.tally(), class);
        }
        entry
    }

    /// Puts another entry in the place of one of the class `before`.
    pub(super) fn replace<A: Arch>(self, index: usize, level: usize, entry: Entry) -> Entry {
        let raw = self.words[index].swap(A::encode(entry, level), Ordering::AcqRel);
        let before = A::decode(raw, level);
        let (removed, added) = (Class::of(before), Class::of(entry));
        if removed != added {
            if let Some(class) = removed {
                Tally::remove(self.info.tally(), class);
            }
            if let Some(class) = added {
                Tally::add(self.info.tally(), class);
            }
        }
        before
    }
}

pub(super) fn load<A: Arch>(word: &AtomicU64, level: usize) -> Entry {
    // ORDERING: `Acquire` pairs with the `Release` in `store` and the swaps above: the table that
    // an entry leads to is seen filled in.
    A::decode(word.load(Ordering::Acquire), level)
}

pub(super) fn store<A: Arch>(word: &AtomicU64, level: usize, entry: Entry) {
    // ORDERING: `Release`, see `load`.
    word.store(A::encode(entry, level), Ordering::Release);
}

/// Changes a leaf in place, and loses nothing that a processor notes in it meanwhile: what it was.
///
/// Anything but a leaf stays as it is.
pub(super) fn update_leaf<A: Arch>(
    word: &AtomicU64,
    level: usize,
    change: impl Fn(Leaf) -> Leaf,
) -> Entry {
    let mut raw = word.load(Ordering::Acquire);
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
        match word.compare_exchange(raw, new, Ordering::AcqRel, Ordering::Acquire) {
            Ok(_) => return entry,
            Err(now) => raw = now,
        }
    }
}

/// Takes the right to write from an entry, as every owner of a shared table may: whether it had it.
pub(super) fn write_protect<A: Arch>(word: &AtomicU64, level: usize) -> Writable {
    let mut raw = word.load(Ordering::Acquire);
    loop {
        let protected = match A::decode(raw, level) {
            Entry::Leaf(leaf) if leaf.is_writable() => Entry::Leaf(leaf.without(LeafFlags::WRITE)),
            Entry::Table(table, Writable::Yes) => Entry::Table(table, Writable::No),
            _ => return Writable::No,
        };
        let new = A::encode(protected, level);
        match word.compare_exchange(raw, new, Ordering::AcqRel, Ordering::Acquire) {
            Ok(_) => return Writable::Yes,
            Err(now) => raw = now,
        }
    }
}
