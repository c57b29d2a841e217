//! What a table holds, in numbers: kept with its frame, so that dropping a table is counted
//! without looking into it.

use core::sync::atomic::{AtomicU64, Ordering};

use super::arch::{Arch, Entry, LeafFlags, PageKind};
use super::sync;

/// What an entry is counted as.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Class {
    /// A table.
    Table,
    /// A page of private memory.
    Anon,
    /// A page of a file.
    File,
    /// A page of shared memory.
    Shmem,
    /// The zero page.
    Special,
    /// A huge page that was asked for as such.
    Explicit,
}

impl Class {
    pub(super) const ALL: [Self; 6] = [
        Self::Table,
        Self::Anon,
        Self::File,
        Self::Shmem,
        Self::Special,
        Self::Explicit,
    ];

    /// The class of an entry; `None` if it is empty.
    pub(super) const fn of(entry: Entry) -> Option<Self> {
        match entry {
            Entry::Empty => None,
            Entry::Table(..) => Some(Self::Table),
            Entry::Leaf(leaf) if leaf.attributes.flags.contains(LeafFlags::EXPLICIT) => {
                Some(Self::Explicit)
            }
            Entry::Leaf(leaf) => Some(match leaf.attributes.kind {
                PageKind::Anon => Self::Anon,
                PageKind::File => Self::File,
                PageKind::Shmem => Self::Shmem,
                PageKind::Special => Self::Special,
            }),
        }
    }

    const fn shift(self) -> u32 {
        10 * self as u32
    }

    pub(super) const fn one(self) -> u64 {
        1 << self.shift()
    }
}

/// In the word of a table: somebody holds it, see [`Held`](super::lock::Held).
pub(super) const LOCKED: u64 = 1 << 63;

/// In the word of a table: it was taken out.
pub(super) const DEAD: u64 = 1 << 62;

/// Where a table's word has its [`Tally`].
const COUNTED: u64 = (1 << 60) - 1;

/// How many entries of each [`Class`] a table has: six numbers of ten bits.
///
/// A table that is one owner's alone is changed by who [holds](super::lock::Held) it, a shared one
/// not at all.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) struct Tally(u64);

impl Tally {
    pub(super) fn load(word: &AtomicU64) -> Self {
        // Relaxed: it is read by who owns the table, or while nobody may change it; or it is a
        // hint.
        Self::of_word(sync::load(word, Ordering::Relaxed))
    }

    pub(super) const fn of_word(word: u64) -> Self {
        Self(word & COUNTED)
    }

    pub(super) fn store(self, word: &AtomicU64) {
        // Relaxed: the table is not reachable yet.
        sync::store(word, self.0, Ordering::Relaxed);
    }

    pub(super) const fn of_class(class: Class, entries: usize) -> Self {
        Self(class.one() * entries as u64)
    }

    pub(super) const fn count(self, class: Class) -> u64 {
        self.0 >> class.shift() & 0x3ff
    }

    pub(super) const fn is_empty(self) -> bool {
        self.0 == 0
    }

    /// Counts what a table of `level` holds.
    pub(super) fn counted<A: Arch>(words: &[AtomicU64], level: usize) -> Self {
        let mut sum = 0;
        for word in &words[..A::ENTRIES] {
            let entry = A::decode(sync::load(word, Ordering::Acquire), level);
            sum += Class::of(entry).map_or(0, Class::one);
        }
        Self(sum)
    }
}

/// What an address space holds, in pages of 4 KiB and in tables.
#[derive(Debug, Default)]
pub struct Counters([AtomicU64; 6]);

impl Counters {
    pub(super) fn get(&self, class: Class) -> u64 {
        // Relaxed, here and below: numbers of their own. Who needs them to be exact is alone.
        sync::load(&self.0[class as usize], Ordering::Relaxed)
    }

    pub(super) fn set(&self, class: Class, count: u64) {
        sync::store(&self.0[class as usize], count, Ordering::Relaxed);
    }

    /// Counts `entries` entries of a table of `level`.
    pub(super) fn add<A: Arch>(&self, class: Class, level: usize, entries: u64) {
        let each = Self::each::<A>(class, level);
        sync::add(&self.0[class as usize], entries * each, Ordering::Relaxed);
    }

    /// Takes `entries` entries of a table of `level` off.
    pub(super) fn remove<A: Arch>(&self, class: Class, level: usize, entries: u64) {
        let each = Self::each::<A>(class, level);
        sync::subtract(&self.0[class as usize], entries * each, Ordering::Relaxed);
    }

    /// Takes off what a table of `level` holds, and the table itself.
    pub(super) fn remove_table<A: Arch>(&self, tally: Tally, level: usize) {
        for class in Class::ALL.into_iter().skip(1) {
            let entries = tally.count(class);
            if entries != 0 {
                self.remove::<A>(class, level, entries);
            }
        }
        self.remove::<A>(Class::Table, level + 1, 1);
    }

    /// LINUX: of the tables below the root the three lowest levels count.
    fn each<A: Arch>(class: Class, level: usize) -> u64 {
        match class {
            Class::Table => u64::from(level <= 3),
            _ => A::span(level) / A::span(0),
        }
    }
}
