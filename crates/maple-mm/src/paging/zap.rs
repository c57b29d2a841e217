//! Taking pages out: of a range, or all of an address space.

use core::ops::Range;
use core::sync::atomic::Ordering;

use super::arch::{Arch, Entry};
use super::error::PagingError;
use super::gather::{Gather, TlbFlusher};
use super::memory::{FRAME_BYTES, PhysMemory};
use super::path::Place;
use super::subtree::{self, Tables, is_counted, note_dirty};
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

impl<A: Arch, M: PhysMemory> PageTables<A, M> {
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
        gather: &mut Gather<A, M, F>,
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
        gather: &mut Gather<A, M, F>,
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
        gather: &mut Gather<A, M, F>,
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
        gather: &mut Gather<A, M, F>,
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
    pub fn zap_prepared<F: TlbFlusher>(&self, prepared: Prepared, gather: &mut Gather<A, M, F>) {
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
        gather: &mut Gather<A, M, F>,
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
        gather: &mut Gather<A, M, F>,
    ) -> u64 {
        let place = self.find_alone(addr, 0);
        if place.level == 0 {
            let end = range.end.min(region::<A>(addr, 1).end);
            self.zap_run(place, addr..end, gather);
            return end;
        }
        let addresses = region::<A>(addr, place.level);
        let entry = place.entry::<A>();
        let is_whole = entry == Entry::Empty || covers(range, &addresses);
        assert!(is_whole, "a shared table or a huge page is cut");
        match entry {
            Entry::Empty => {}
            Entry::Leaf(_) => self.zap_leaf(place, addr, gather),
            Entry::Table(child, _) => {
                self.forget(&self.counters, place);
                place.table.take::<A>(place.index, place.level);
                gather.table(child, place.level - 1, addresses.clone());
            }
        }
        addresses.end
    }

    /// Takes out the pages of `addresses`, all in the table of `place`, which is of level 0.
    fn zap_run<F: TlbFlusher>(
        &self,
        place: Place<'_>,
        addresses: Range<u64>,
        gather: &mut Gather<A, M, F>,
    ) {
        if place.table.tally().is_empty() {
            return;
        }
        for addr in addresses.step_by(FRAME_BYTES as usize) {
            let index = A::index(addr, 0);
            let place = Place { index, ..place };
            if place.entry::<A>() != Entry::Empty {
                self.zap_leaf(place, addr, gather);
            }
        }
    }

    pub(super) fn zap_leaf<F: TlbFlusher>(
        &self,
        place: Place<'_>,
        addr: u64,
        gather: &mut Gather<A, M, F>,
    ) {
        let entry = place.table.take::<A>(place.index, place.level);
        if let Some(class) = Class::of(entry) {
            self.counters.remove::<A>(class, place.level, 1);
        }
        gather.changed(region::<A>(addr, place.level), place.level);
        if let Entry::Leaf(leaf) = entry
            && is_counted(leaf)
        {
            note_dirty(&self.memory, leaf);
            gather.frame(leaf.frame);
        }
    }

    /// Takes all pages of `range` out, each of which is in a table of this address space alone.
    pub(super) fn zap_own<F: TlbFlusher>(&self, range: &Range<u64>, gather: &mut Gather<A, M, F>) {
        for (addr, place) in self.leaves(range) {
            self.zap_leaf(place, addr, gather);
        }
    }

    /// As [`find`](Self::find), but not into tables that have other owners.
    pub(super) fn find_alone(&self, addr: u64, level: usize) -> Place<'_> {
        let mut place = self.find(addr, A::LEVELS - 1);
        while place.level > level {
            let Entry::Table(child, _) = place.entry::<A>() else {
                break;
            };
            if Table::at(&self.memory, child).info.count() > 1 {
                break;
            }
            place = self.find_below(place, addr);
        }
        place
    }

    /// Takes what the table that an entry leads to holds, and those below it, off `counters`.
    fn forget(&self, counters: &Counters, place: Place<'_>) {
        if let Entry::Table(child, _) = place.entry::<A>() {
            for (table, level) in Tables::<A, M>::below(&self.memory, child, place.level - 1) {
                counters.remove_table::<A>(table.tally(), level);
            }
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
    pub fn clear<F: TlbFlusher>(&self, gather: &mut Gather<A, M, F>) {
        if cfg!(debug_assertions) {
            self.check_counters();
        }
        gather.all_changed();
        for index in 0..Self::user_entries() {
            let level = A::LEVELS - 1;
            if let Entry::Table(child, _) = self.root_table().take::<A>(index, level) {
                let start = index as u64 * A::span(level);
                gather.table(child, level - 1, start..start + A::span(level));
            }
        }
        self.counters.clear();
    }

    fn check_counters(&self) {
        let left = Counters::default();
        left.copy_from(&self.counters);
        for index in 0..Self::user_entries() {
            let addr = index as u64 * A::span(A::LEVELS - 1);
            self.forget(&left, self.find(addr, A::LEVELS - 1));
        }
        for class in Class::ALL {
            assert_eq!(left.get(class), 0, "{class:?} was not counted right");
        }
    }

    /// Gives up everything without a flush: no processor uses the tables. Says how many explicitly
    /// huge pages are free now.
    pub(crate) fn drop_all(&self) -> u64 {
        let mut explicit = 0;
        for index in 0..Self::user_entries() {
            let level = A::LEVELS - 1;
            if let Entry::Table(child, _) = self.root_table().take::<A>(index, level) {
                explicit += subtree::release::<A, M>(&self.memory, child, level - 1);
            }
        }
        self.counters.clear();
        explicit
    }
}
