//! The lock of one table: who holds it changes entries, and counts what changes.
//!
//! It lies in the word in which a table's frame has its [tally](super::tally), so that unlocking
//! and counting are one store. Where an address space's pages are changed by one thread at a time
//! ([`Alone`](super::Alone)) there is nothing to lock, and what is left is that store.
//!
//! # Rules
//!
//! - K1: an entry of a table that one address space has alone changes while its lock is held. What
//!   processors do may be done without: noting that a page was used or written, and taking the
//!   right to write.
//! - K2: a parent is locked before its child. Who holds a table waits for no parent, and for
//!   nothing that takes long: no allocation, flush or file. One flush is an exception: that of a
//!   page that another takes the place of, which nobody may read when somebody writes the new one.
//! - K3: who takes such a table out holds it and its parent, and marks it dead.
//! - K4: who decides that an entry is empty, and so leaves out what it would have changed below,
//!   has held the table's lock: who fills the entry later knows of what was done before.
//! - K5: a table with several owners is locked to be copied or read only. Nothing in it changes
//!   but that rights to write are taken away.

use core::marker::PhantomData;
use core::sync::atomic::{AtomicU64, Ordering};

use super::arch::{Arch, Entry, Leaf};
use super::company::Kind;
use super::memory::{FrameInfo, PhysMemory};
use super::sync;
use super::table::{self, Table};
use super::tally::{Class, DEAD, LOCKED, Tally};

/// A table that is locked until this goes away.
pub(super) struct Held<'m, C: Kind> {
    table: Table<'m>,
    info: &'m FrameInfo,
    /// What the word will be: what is counted, and whether the table is dead.
    word: u64,
    company: PhantomData<fn() -> C>,
}

impl<'m, C: Kind> Held<'m, C> {
    pub(super) fn lock<M: PhysMemory>(memory: &'m M, table: Table<'m>) -> Self {
        let info = table.info(memory);
        let word = info.tally();
        // Debug builds find out who locks what it holds even where nobody else could.
        let word = if C::BESIDE || cfg!(debug_assertions) {
            acquire::<C, M>(memory, word)
        } else {
            // Relaxed: who reads it is the only one who changes it.
            sync::load(word, Ordering::Relaxed)
        };
        Self {
            table,
            info,
            word,
            company: PhantomData,
        }
    }

    pub(super) const fn tally(&self) -> Tally {
        Tally::of_word(self.word)
    }

    /// Whether the table was taken out: who found it earlier begins anew.
    pub(super) const fn is_dead(&self) -> bool {
        self.word & DEAD != 0
    }

    /// Marks the table as taken out (K3).
    pub(super) const fn kill(&mut self) {
        self.word |= DEAD;
    }

    pub(super) fn entry<A: Arch>(&self, index: usize, level: usize) -> Entry {
        self.table.entry::<A>(index, level)
    }

    /// Puts an entry where none is, and counts it.
    pub(super) fn put<A: Arch>(&mut self, index: usize, level: usize, entry: Entry) {
        debug_assert_eq!(
            self.entry::<A>(index, level),
            Entry::Empty,
            "something is there already"
        );
        self.count_in(Class::of(entry));
        table::store::<A>(&self.table.words[index], level, entry);
    }

    /// Takes an entry out, and counts it off.
    pub(super) fn take<A: Arch>(&mut self, index: usize, level: usize) -> Entry {
        let word = &self.table.words[index];
        // PERF: most entries of a root are empty. A processor changes only those that are not.
        if sync::load(word, Ordering::Relaxed) == 0 {
            return Entry::Empty;
        }
        // ORDERING: `Acquire` as in `table::load`.
        let entry = A::decode(sync::swap(word, 0, Ordering::AcqRel), level);
        self.count_off(Class::of(entry));
        entry
    }

    /// Puts another entry in the place of one: what that was.
    pub(super) fn replace<A: Arch>(&mut self, index: usize, level: usize, entry: Entry) -> Entry {
        let word = &self.table.words[index];
        // ORDERING: as in `take`, and `Release` as in `table::store`.
        let before = sync::swap(word, A::encode(entry, level), Ordering::AcqRel);
        let before = A::decode(before, level);
        self.count_off(Class::of(before));
        self.count_in(Class::of(entry));
        before
    }

    /// Changes a leaf, and nothing else: see [`table::update_leaf`].
    pub(super) fn update_leaf<A: Arch>(
        &self,
        index: usize,
        level: usize,
        change: impl Fn(Leaf) -> Leaf,
    ) {
        table::update_leaf::<A>(&self.table.words[index], level, change);
    }

    fn count_in(&mut self, class: Option<Class>) {
        self.word += class.map_or(0, Class::one);
    }

    fn count_off(&mut self, class: Option<Class>) {
        if let Some(class) = class {
            debug_assert_ne!(self.tally().count(class), 0, "{class:?} was not counted");
            self.word -= class.one();
        }
    }
}

impl<C: Kind> Drop for Held<'_, C> {
    /// Unlocks, and notes what was counted.
    fn drop(&mut self) {
        // ORDERING: `Release` pairs with the `Acquire` in `acquire`: who locks the table next sees
        // its entries, and all that was done before they changed.
        sync::store(self.info.tally(), self.word, Ordering::Release);
    }
}

/// Locks: what the word says besides.
fn acquire<C: Kind, M: PhysMemory>(memory: &M, word: &AtomicU64) -> u64 {
    loop {
        // ORDERING: `Acquire` pairs with the `Release` in `drop`.
        let before = sync::or(word, LOCKED, Ordering::Acquire);
        if before & LOCKED == 0 {
            return before;
        }
        assert!(C::BESIDE, "a table is locked twice");
        let mut spins = 0_u32;
        // Relaxed: what counts is the next attempt.
        while sync::load(word, Ordering::Relaxed) & LOCKED != 0 {
            memory.relax(spins);
            spins = spins.saturating_add(1);
        }
    }
}

#[cfg(test)]
mod tests;
