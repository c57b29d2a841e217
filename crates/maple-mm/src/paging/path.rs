//! The way from the root to an entry: finding it, making it one address space's alone, making it.

use core::sync::atomic::{AtomicU64, Ordering};

use super::arch::{Arch, Entry, LEVELS_MOST, Leaf, LeafFlags, PageKind, Writable};
use super::error::PagingError;
use super::gather::{Gather, TlbFlusher};
use super::memory::{Content, FrameSize, OutOfFrames, PhysAddr, PhysMemory};
use super::subtree::is_counted;
use super::table::{self, Table};
use super::tables::{PageTables, region};
use super::tally::{Class, Tally};

/// An entry, and where it stands.
#[derive(Clone, Copy, Debug)]
pub(super) struct Place<'m> {
    pub(super) table: Table<'m>,
    pub(super) level: usize,
    pub(super) index: usize,
    /// Whether all entries on the way here may be written.
    pub(super) way: Writable,
}

impl<'m> Place<'m> {
    pub(super) const fn word(&self) -> &'m AtomicU64 {
        &self.table.words[self.index]
    }

    pub(super) fn entry<A: Arch>(&self) -> Entry {
        self.table.entry::<A>(self.index, self.level)
    }

    /// The entry for `addr` in the table that this entry leads to.
    fn below<A: Arch>(self, table: Table<'m>, addr: u64) -> Self {
        let level = self.level - 1;
        let index = A::index(addr, level);
        Self {
            table,
            level,
            index,
            way: self.way,
        }
    }
}

impl<A: Arch, M: PhysMemory> PageTables<A, M> {
    /// The root's entry for `addr`.
    fn top(&self, addr: u64) -> Place<'_> {
        let level = A::LEVELS - 1;
        Place {
            table: self.root_table(),
            level,
            index: A::index(addr, level),
            way: Writable::Yes,
        }
    }

    /// The lowest entry for `addr`, but none below `level`.
    pub(super) fn find(&self, addr: u64, level: usize) -> Place<'_> {
        let mut place = self.top(addr);
        while place.level > level {
            let below = self.find_below(place, addr);
            if below.level == place.level {
                break;
            }
            place = below;
        }
        place
    }

    /// One step of [`find`](Self::find): the place itself if no table is below.
    pub(super) fn find_below<'m>(&'m self, place: Place<'m>, addr: u64) -> Place<'m> {
        let Entry::Table(table, writable) = place.entry::<A>() else {
            return place;
        };
        let mut below = place.below::<A>(Table::at(&self.memory, table), addr);
        if writable == Writable::No {
            below.way = Writable::No;
        }
        below
    }

    /// Goes down to the entry for `addr` as far as there are tables and `go_on`, which is asked
    /// with the level of each entry that leads to one, says so. All tables on the way are this
    /// address space's alone then, and the way is writable.
    ///
    /// On error some of them are; what is mapped has not changed.
    pub(super) fn own<F: TlbFlusher>(
        &self,
        addr: u64,
        gather: &mut Gather<A, M, F>,
        go_on: impl Fn(usize) -> bool,
    ) -> Result<Place<'_>, OutOfFrames> {
        let mut place = self.top(addr);
        while place.level > 0 && go_on(place.level) {
            let Entry::Table(child, writable) = place.entry::<A>() else {
                break;
            };
            let mut child = Table::at(&self.memory, child);
            if child.info.count() > 1 {
                child = self.unshare(place, child)?;
                let addresses = region::<A>(addr, place.level);
                let Entry::Table(old, _) = self.lead_to(place, child) else {
                    unreachable!("an entry that leads to a table was just seen");
                };
                gather.table(old, place.level - 1, addresses);
            } else if writable == Writable::No {
                // INVARIANT: PT1: the count is one, and only this address space could raise it.
                self.lead_to(place, child);
            }
            place = place.below::<A>(child, addr);
        }
        Ok(place)
    }

    /// Makes an entry lead to a table that is this address space's alone: what it was.
    fn lead_to(&self, place: Place<'_>, table: Table<'_>) -> Entry {
        let entry = Entry::Table(table.addr, Writable::Yes);
        place.table.replace::<A>(place.index, place.level, entry)
    }

    /// Copies a shared table that the entry at `place` leads to, and counts what is in it once
    /// more. The old table keeps its count until no processor uses it for this address space.
    fn unshare(&self, place: Place<'_>, old: Table<'_>) -> Result<Table<'_>, OutOfFrames> {
        let frame = self.memory.allocate(FrameSize::SMALL, Content::Any)?;
        let new = Table::at(&self.memory, frame.into_addr());
        let level = place.level - 1;
        for (from, to) in old.words.iter().zip(new.words).take(A::ENTRIES) {
            let raw = from.load(Ordering::Acquire);
            let raw = match raw {
                0 => 0,
                _ => self.share_entry(from, level, A::decode(raw, level)),
            };
            // Relaxed: the new table becomes reachable by a `Release` later.
            to.store(raw, Ordering::Relaxed);
        }
        old.tally().store(new.info.tally());
        Ok(new)
    }

    /// Counts what an entry of a shared table leads to once more, and takes the right to write
    /// from it where it is no longer one owner's: the entry of the copy.
    fn share_entry(&self, word: &AtomicU64, level: usize, entry: Entry) -> u64 {
        let shared = match entry {
            Entry::Empty => entry,
            Entry::Table(child, _) => {
                self.memory.info(child).retain();
                // INVARIANT: PT1
                table::write_protect::<A>(word, level);
                Entry::Table(child, Writable::No)
            }
            Entry::Leaf(leaf) => Entry::Leaf(self.share_leaf(word, level, leaf)),
        };
        A::encode(shared, level)
    }

    fn share_leaf(&self, word: &AtomicU64, level: usize, leaf: Leaf) -> Leaf {
        if is_counted(leaf) {
            self.memory.info(leaf.frame).retain();
        }
        // A page of a file that may be written is mapped shared: it is everybody's.
        if leaf.attributes.kind == PageKind::Anon && leaf.is_writable() {
            // INVARIANT: PT2. No translation to flush: the way here is not writable.
            table::write_protect::<A>(word, level);
            return leaf.without(LeafFlags::WRITE);
        }
        leaf
    }

    /// As [`own`](Self::own) down to `level`, and makes what tables are missing on the way.
    ///
    /// # Errors
    ///
    /// [`PagingError::Occupied`] by a larger page; [`PagingError::OutOfFrames`], with no table made.
    pub(super) fn own_or_create<F: TlbFlusher>(
        &self,
        addr: u64,
        level: usize,
        gather: &mut Gather<A, M, F>,
    ) -> Result<Place<'_>, PagingError> {
        let place = self.own(addr, gather, |at| at > level)?;
        if place.level == level {
            return Ok(place);
        }
        match place.entry::<A>() {
            Entry::Empty => Ok(self.create_below(place, addr, level)?),
            _ => Err(PagingError::Occupied),
        }
    }

    /// Makes the tables from an empty entry down to `level`, all of them or none.
    fn create_below<'m>(
        &'m self,
        place: Place<'m>,
        addr: u64,
        level: usize,
    ) -> Result<Place<'m>, OutOfFrames> {
        let missing = place.level - level;
        let mut tables = [PhysAddr::new(0); LEVELS_MOST];
        for made in 0..missing {
            match self.memory.allocate(FrameSize::SMALL, Content::Zeroed) {
                Ok(frame) => tables[made] = frame.into_addr(),
                Err(error) => {
                    for table in &tables[..made] {
                        self.memory.release_at(*table);
                    }
                    return Err(error);
                }
            }
        }
        let mut place = place;
        for table in &tables[..missing] {
            let entry = Entry::Table(*table, Writable::Yes);
            place.table.put::<A>(place.index, place.level, entry);
            place = place.below::<A>(Table::at(&self.memory, *table), addr);
        }
        for level in level + 1..=level + missing {
            self.counters.add::<A>(Class::Table, level, 1);
        }
        Ok(place)
    }

    /// Splits the huge page at `place`, which is this address space's alone, into small ones in a
    /// table. Nothing changes for who uses them.
    ///
    /// # Errors
    ///
    /// [`PagingError::Unsplittable`], [`PagingError::OutOfFrames`].
    pub(super) fn split<F: TlbFlusher>(
        &self,
        place: Place<'_>,
        addr: u64,
        gather: &mut Gather<A, M, F>,
    ) -> Result<(), PagingError> {
        let Entry::Leaf(leaf) = place.entry::<A>() else {
            return Err(PagingError::NotMapped);
        };
        if leaf.attributes.flags.contains(LeafFlags::EXPLICIT) {
            return Err(PagingError::Unsplittable);
        }
        let frame = self.memory.allocate(FrameSize::SMALL, Content::Any)?;
        let small = Table::at(&self.memory, frame.into_addr());
        // Out first: what the processor notes in the entry must not be lost.
        let taken = place.table.take::<A>(place.index, place.level);
        self.fill_with_parts(small, taken);
        let entry = Entry::Table(small.addr, Writable::Yes);
        place.table.put::<A>(place.index, place.level, entry);
        self.counters.add::<A>(Class::Table, place.level, 1);
        gather.tables_changed(region::<A>(addr, place.level));
        Ok(())
    }

    /// Fills a table of level 0 with the parts of a huge page, whose one reference becomes as
    /// many as there are parts.
    fn fill_with_parts(&self, small: Table<'_>, huge: Entry) {
        let Entry::Leaf(huge) = huge else {
            unreachable!("the caller saw a huge page");
        };
        let info = self.memory.info(huge.frame);
        let apart = info.count() == 1 && self.memory.split(huge.frame) == super::Parts::Apart;
        if !apart {
            info.retain_many(A::ENTRIES as u32 - 1);
        }
        for (index, word) in small.words.iter().enumerate().take(A::ENTRIES) {
            let frame = huge.frame.plus(index as u64 * A::span(0));
            table::store::<A>(word, 0, Entry::Leaf(Leaf { frame, ..huge }));
        }
        if let Some(class) = Class::of(Entry::Leaf(huge)) {
            Tally::of_class(class, A::ENTRIES).store(small.info.tally());
        }
    }
}
