//! Taking pages out: of a range, or all of an address space.

use core::ops::Range;
use core::sync::atomic::Ordering;

use super::arch::{Arch, Entry, Leaf, Writable};
use super::company::{Company, State as _};
use super::error::PagingError;
use super::gather::{BATCH, Gather, TlbFlusher};
use super::memory::{FRAME_BYTES, PhysAddr, PhysMemory};
use super::path::Place;
use super::subtree::{self, Tables, is_counted, note_dirty};
use super::sync::broken;
use super::table::Table;
use super::tables::{PageTables, covers, region};
use super::tally::{Class, Counters};

/// A range whose pages can be taken out without failing: see [`PageTables::prepare_zap`].
#[derive(Debug, PartialEq, Eq)]
#[must_use = "nothing was taken out yet"]
pub struct Prepared {
    range: Range<u64>,
    shares: u64,
}

impl<A: Arch, M: PhysMemory, C: Company<M>> PageTables<A, M, C> {
    /// Takes all pages of `range` out. Tables of this address space alone stay, even empty
    /// ([`free_tables`](Self::free_tables)); shared ones that lie within the range are dropped
    /// whole, without a look at their pages.
    ///
    /// # Complexity
    ///
    /// O(pages of its own + tables).
    ///
    /// # Errors
    ///
    /// As [`prepare_zap`](Self::prepare_zap); nothing was taken out.
    pub fn zap<F: TlbFlusher>(
        &self,
        range: Range<u64>,
        gather: &mut Gather<'_, A, M, F, C>,
    ) -> Result<(), PagingError> {
        let prepared = self.prepare_zap(range, gather)?;
        self.zap_prepared(prepared, gather);
        Ok(())
    }

    /// Does all of [`zap`](Self::zap) that can fail: shared tables that lie within `range` in part
    /// are copied, and huge pages at its edges split. What is mapped does not change.
    ///
    /// # Complexity
    ///
    /// O(levels), and O(entries) for each table copied, of which there are at most two a level.
    ///
    /// # Errors
    ///
    /// [`PagingError::OutOfFrames`]; [`PagingError::Unsplittable`] if an edge lies in an
    /// explicitly huge page; [`PagingError::Misaligned`] and [`PagingError::OutOfRange`].
    pub fn prepare_zap<F: TlbFlusher>(
        &self,
        range: Range<u64>,
        gather: &mut Gather<'_, A, M, F, C>,
    ) -> Result<Prepared, PagingError> {
        Self::check_range(&range)?;
        if !range.is_empty() {
            self.own_edge(range.start, &range, gather)?;
            self.own_edge(range.end - FRAME_BYTES, &range, gather)?;
        }
        let shares = self.shares();
        Ok(Prepared { range, shares })
    }

    /// Makes the tables on the way to `edge` that lie within `range` in part this address space's
    /// alone. A table that is not wholly within a range has one of the range's edges.
    pub(super) fn own_edge<F: TlbFlusher>(
        &self,
        edge: u64,
        range: &Range<u64>,
        gather: &mut Gather<'_, A, M, F, C>,
    ) -> Result<(), PagingError> {
        let is_cut = |level| !covers(range, &region::<A>(edge, level));
        let place = self.own(edge, gather, is_cut)?;
        match place.entry::<A>() {
            Entry::Leaf(_) if place.level > 0 && is_cut(place.level) => {
                self.split(place, edge, gather)
            }
            _ => Ok(()),
        }
    }

    /// Makes all tables of `range` this address space's alone, and splits huge pages at its edges.
    pub(super) fn own_all<F: TlbFlusher>(
        &self,
        range: &Range<u64>,
        gather: &mut Gather<'_, A, M, F, C>,
    ) -> Result<(), PagingError> {
        let mut addr = range.start;
        while addr < range.end {
            let place = self.own(addr, gather, |_| true)?;
            let addresses = region::<A>(addr, place.level);
            let is_cut = !covers(range, &addresses);
            match place.entry::<A>() {
                Entry::Leaf(_) if place.level > 0 && is_cut => self.split(place, addr, gather)?,
                _ if place.level == 0 => addr = region::<A>(addr, 1).end,
                _ => addr = addresses.end,
            }
        }
        Ok(())
    }

    /// Takes all pages of a range out that [`prepare_zap`](Self::prepare_zap) was called for.
    ///
    /// # Complexity
    ///
    /// O(pages of its own + tables).
    ///
    /// # Panics
    ///
    /// If since then these tables were shared, or a huge page was mapped over an edge; or if the
    /// range was prepared for other tables.
    pub fn zap_prepared<F: TlbFlusher>(
        &self,
        prepared: Prepared,
        gather: &mut Gather<'_, A, M, F, C>,
    ) {
        let Prepared { range, shares } = prepared;
        assert_eq!(shares, self.shares(), "the tables were shared since");
        self.zap_range(&range, gather);
    }

    /// How often the tables were shared by now.
    fn shares(&self) -> u64 {
        // Relaxed: who shares and who takes out is the same thread, or was told by the other.
        self.shares.load(Ordering::Relaxed)
    }

    /// As [`zap_prepared`](Self::zap_prepared), where the caller knows that no table is shared
    /// that lies within `range` in part.
    pub(super) fn zap_range<F: TlbFlusher>(
        &self,
        range: &Range<u64>,
        gather: &mut Gather<'_, A, M, F, C>,
    ) {
        let mut addr = range.start;
        while addr < range.end {
            addr = self.zap_step(addr, range, gather);
        }
    }

    /// Takes out what the largest piece from `addr` on holds that is not cut: where it ends.
    fn zap_step<F: TlbFlusher>(
        &self,
        addr: u64,
        range: &Range<u64>,
        gather: &mut Gather<'_, A, M, F, C>,
    ) -> u64 {
        let place = self.find_alone(addr, 0);
        if place.level == 0 {
            let end = range.end.min(region::<A>(addr, 1).end);
            self.zap_run(place, addr..end, gather);
            return end;
        }
        let addresses = region::<A>(addr, place.level);
        if broken!(Empty) && place.entry::<A>() == Entry::Empty {
            return addresses.end;
        }
        // K4
        let mut held = self.hold(place.table);
        let entry = held.entry::<A>(place.index, place.level);
        if let Entry::Table(_, Writable::Yes) = entry {
            // Another thread made the table just now: it is to be looked into.
            return addr;
        }
        let is_whole = entry == Entry::Empty || covers(range, &addresses);
        if C::BESIDE && !is_whole && matches!(entry, Entry::Leaf(_)) {
            drop(held);
            // A fault mapped it since this was prepared: there is a frame set aside for it.
            let split = self.split(place, addr, gather);
            assert_eq!(split, Ok(()), "the edges were reserved");
            return addr;
        }
        assert!(is_whole, "a shared table or a huge page is cut");
        // With what a processor noted in it since.
        let taken = held.take::<A>(place.index, place.level);
        drop(held);
        match taken {
            Entry::Empty => {}
            Entry::Leaf(leaf) => self.zapped(leaf, (addr, place.level), gather),
            Entry::Table(child, _) => {
                let counters = self.company.counters(addr / A::span(1));
                self.forget(counters, (child, place.level - 1));
                gather.table(&self.company, (child, place.level - 1), addresses.clone());
            }
        }
        addresses.end
    }

    /// Takes out the pages of `addresses`, all in the table of `place`, which is of level 0.
    fn zap_run<F: TlbFlusher>(
        &self,
        place: Place<'_>,
        addresses: Range<u64>,
        gather: &mut Gather<'_, A, M, F, C>,
    ) {
        let mut left = addresses;
        loop {
            let mut held = self.hold(place.table);
            if held.tally().is_empty() {
                return;
            }
            while left.start < left.end {
                let index = A::index(left.start, 0);
                if held.entry::<A>(index, 0) != Entry::Empty {
                    if gather.is_full() {
                        break;
                    }
                    if let Entry::Leaf(leaf) = held.take::<A>(index, 0) {
                        self.zapped(leaf, (left.start, 0), gather);
                    }
                }
                left.start += FRAME_BYTES;
            }
            drop(held);
            if left.is_empty() {
                return;
            }
            // K2: not while the table is held.
            gather.flush();
        }
    }

    /// Takes the page out that an entry maps, which is in a table of this address space alone.
    pub(super) fn zap_leaf<F: TlbFlusher>(
        &self,
        place: Place<'_>,
        addr: u64,
        gather: &mut Gather<'_, A, M, F, C>,
    ) {
        let entry = self.hold(place.table).take::<A>(place.index, place.level);
        if let Entry::Leaf(leaf) = entry {
            self.zapped(leaf, (addr, place.level), gather);
        }
    }

    /// Counts a page off that was taken out at `addr`, and hands it over.
    pub(super) fn zapped<F: TlbFlusher>(
        &self,
        leaf: Leaf,
        (addr, level): (u64, usize),
        gather: &mut Gather<'_, A, M, F, C>,
    ) {
        if let Some(class) = Class::of(Entry::Leaf(leaf)) {
            self.count_off(addr, (class, level), 1);
        }
        gather.changed(region::<A>(addr, level), level);
        if is_counted(leaf) {
            note_dirty(&self.memory, leaf);
            gather.frame(leaf.frame);
        }
    }

    /// Takes all pages of `range` out, each of which is in a table of this address space alone.
    pub(super) fn zap_own<F: TlbFlusher>(
        &self,
        range: &Range<u64>,
        gather: &mut Gather<'_, A, M, F, C>,
    ) {
        for (addr, place) in self.leaves(range) {
            self.zap_leaf(place, addr, gather);
        }
    }

    /// Takes what a table of `level` holds, and those below it, off `counters`, and these tables.
    fn forget(&self, counters: &Counters, (table, level): (PhysAddr, usize)) {
        for (table, level) in Tables::<A, M>::below(&self.memory, table, level) {
            counters.remove_table::<A>(table.tally(&self.memory), level);
        }
    }

    /// Takes everything out, tables included. What is shared is given up at the root, and not
    /// looked at; the rest goes after one full flush.
    ///
    /// # Complexity
    ///
    /// O(root entries + pages and tables of its own).
    ///
    /// # Panics
    ///
    /// In debug builds, which look at shared tables to check that, if the counters do not come
    /// out as zero.
    pub fn clear<F: TlbFlusher>(&self, gather: &mut Gather<'_, A, M, F, C>) {
        if C::BESIDE {
            self.zap_all_own(gather);
            // With the gate closed nothing is flushed, which may wait for readers: a batch has
            // room for all that the root leads to.
            debug_assert!(Self::user_entries() <= BATCH);
            gather.flush();
        }
        let closed = self.close_gate();
        if cfg!(debug_assertions) {
            self.check_counters();
        }
        gather.all_changed();
        let (root, level) = (self.root_table(), A::LEVELS - 1);
        for index in 0..Self::user_entries() {
            if let Some(child) = self.take_top(root, index) {
                let start = index as u64 * A::span(level);
                let addresses = start..start + A::span(level);
                gather.table(&self.company, (child, level - 1), addresses);
            }
        }
        self.company.clear();
        // Who comes in from here on finds an empty root.
        drop(closed);
    }

    /// Takes out the pages that are in tables of this address space alone. They go at once, the
    /// tables, and what is shared, when nobody is on the way to them.
    fn zap_all_own<F: TlbFlusher>(&self, gather: &mut Gather<'_, A, M, F, C>) {
        let (root, level) = (self.root_table(), A::LEVELS - 1);
        for index in 0..Self::user_entries() {
            if let Entry::Table(_, Writable::Yes) = root.entry::<A>(index, level) {
                let start = index as u64 * A::span(level);
                self.zap_range(&(start..start + A::span(level)), gather);
            }
        }
    }

    /// Takes out what an entry of the root leads to, for who gives everything up.
    fn take_top(&self, root: Table<'_>, index: usize) -> Option<PhysAddr> {
        let level = A::LEVELS - 1;
        // PERF: most are empty, and nobody fills one in meanwhile.
        let Entry::Table(child, _) = root.entry::<A>(index, level) else {
            return None;
        };
        self.hold(root).take::<A>(index, level);
        Some(child)
    }

    fn check_counters(&self) {
        let left = Counters::default();
        for class in Class::ALL {
            left.set(class, self.company.sum(class));
        }
        let level = A::LEVELS - 1;
        for index in 0..Self::user_entries() {
            if let Entry::Table(child, _) = self.root_table().entry::<A>(index, level) {
                self.forget(&left, (child, level - 1));
            }
        }
        for class in Class::ALL {
            assert_eq!(left.get(class), 0, "{class:?} was not counted right");
        }
    }

    /// Gives up everything without a flush: no processor uses the tables. Says how many explicitly
    /// huge pages are free now.
    pub(crate) fn drop_all(&self) -> u64 {
        let mut explicit = 0;
        let (root, level) = (self.root_table(), A::LEVELS - 1);
        for index in 0..Self::user_entries() {
            if let Some(child) = self.take_top(root, index) {
                explicit += subtree::release::<A, M>(&self.memory, child, level - 1);
            }
        }
        self.company.clear();
        explicit
    }
}
