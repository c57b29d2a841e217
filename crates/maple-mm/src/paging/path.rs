//! The way from the root to an entry: finding it, making it one address space's alone, making it.

use core::sync::atomic::{AtomicU64, Ordering};

use super::arch::{Arch, Entry, LEVELS_MOST, Leaf, LeafFlags, PageKind, Writable};
use super::company::Company;
use super::error::PagingError;
use super::gather::{Gather, TlbFlusher};
use super::install::Liveness;
use super::lock::Held;
use super::memory::{Content, OutOfFrames, PhysAddr, PhysMemory};
use super::subtree::is_counted;
use super::sync::{self, broken};
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

impl<A: Arch, M: PhysMemory, C: Company<M>> PageTables<A, M, C> {
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
        gather: &mut Gather<'_, A, M, F, C>,
        go_on: impl Fn(usize) -> bool,
    ) -> Result<Place<'_>, OutOfFrames> {
        let mut place = self.top(addr);
        while place.level > 0 && go_on(place.level) {
            let Entry::Table(child, writable) = place.entry::<A>() else {
                break;
            };
            let child = Table::at(&self.memory, child);
            if writable == Writable::Yes {
                debug_assert_eq!(child.info(&self.memory).count(), 1, "PT1");
                place = place.below::<A>(child, addr);
                continue;
            }
            self.claim((place, child), addr, gather)?;
            if C::BESIDE && place.table.is_dead(&self.memory) {
                place = self.top(addr);
            }
        }
        Ok(place)
    }

    /// Lets the table that an entry leads to be changed for this address space, which the entry
    /// does not allow: a copy takes the table's place where it has other owners.
    ///
    /// Nothing happens where the entry is not what it was any more.
    fn claim<F: TlbFlusher>(
        &self,
        (place, child): (Place<'_>, Table<'_>),
        addr: u64,
        gather: &mut Gather<'_, A, M, F, C>,
    ) -> Result<(), OutOfFrames> {
        if child.info(&self.memory).count() == 1 {
            self.permit(place, child);
            return Ok(());
        }
        // K2: not while a table is held.
        gather.reserve(&self.company)?;
        let frame = gather.new_table(Content::Any)?;
        let mut held = self.hold(place.table);
        let forbidden = Entry::Table(child.addr, Writable::No);
        if held.entry::<A>(place.index, place.level) != forbidden {
            drop(held);
            gather.table_not_needed(frame);
            return Ok(());
        }
        let copy = Table::at(&self.memory, frame);
        self.unshare(child, copy, place.level - 1);
        let own = Entry::Table(copy.addr, Writable::Yes);
        held.replace::<A>(place.index, place.level, own);
        drop(held);
        let addresses = region::<A>(addr, place.level);
        // The old table keeps its count until no processor uses it for this address space.
        gather.table(&self.company, (child.addr, place.level - 1), addresses);
        Ok(())
    }

    /// Gives an entry that leads to `child` the right to write, if that has no other owner.
    fn permit(&self, place: Place<'_>, child: Table<'_>) {
        let mut held = self.hold(place.table);
        let forbidden = Entry::Table(child.addr, Writable::No);
        if held.entry::<A>(place.index, place.level) == forbidden
            && child.info(&self.memory).count() == 1
        {
            // INVARIANT: PT1: only this address space could raise the count.
            let allowed = Entry::Table(child.addr, Writable::Yes);
            held.replace::<A>(place.index, place.level, allowed);
        }
    }

    /// As [`find`](Self::find), but not into tables that have other owners. Those on the way may
    /// be changed.
    pub(super) fn find_alone(&self, addr: u64, level: usize) -> Place<'_> {
        let mut place = self.top(addr);
        while place.level > level {
            let Entry::Table(child, writable) = place.entry::<A>() else {
                break;
            };
            let child = Table::at(&self.memory, child);
            if writable == Writable::Yes {
                place = place.below::<A>(child, addr);
            } else if child.info(&self.memory).count() > 1 {
                break;
            } else {
                self.permit(place, child);
            }
        }
        place
    }

    /// As [`find`](Self::find), for who leaves an entry out that is empty: see rule K4.
    pub(super) fn find_settled(&self, addr: u64, level: usize) -> Place<'_> {
        loop {
            let place = self.find(addr, level);
            if !C::BESIDE || broken!(Empty) {
                return place;
            }
            drop(self.hold(place.table));
            let is_table = matches!(place.entry::<A>(), Entry::Table(..));
            if place.level == level || !is_table {
                return place;
            }
        }
    }

    /// Locks a table.
    pub(super) fn hold<'m>(&'m self, table: Table<'m>) -> Held<'m, C> {
        Held::lock(&self.memory, table)
    }

    /// Makes `new`, which nobody knows yet, a copy of a shared table of `level`, and counts what
    /// is in it once more.
    fn unshare(&self, old: Table<'_>, new: Table<'_>, level: usize) {
        // K5
        let _held = C::BESIDE.then(|| self.hold(old));
        for (from, to) in old.words.iter().zip(new.words).take(A::ENTRIES) {
            let raw = sync::load(from, Ordering::Acquire);
            let raw = match raw {
                0 => 0,
                _ => self.share_entry(from, level, A::decode(raw, level)),
            };
            // Relaxed: the new table becomes reachable by a `Release` later.
            sync::store(to, raw, Ordering::Relaxed);
        }
        let counted = old.tally(&self.memory);
        counted.store(new.info(&self.memory).tally());
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
    /// [`PagingError::Occupied`] by a larger page; [`PagingError::OutOfFrames`], or
    /// [`PagingError::Stale`] where tables are missing, with no table made.
    pub(super) fn own_or_create<F: TlbFlusher>(
        &self,
        (addr, live): (u64, Liveness<'_>),
        level: usize,
        gather: &mut Gather<'_, A, M, F, C>,
    ) -> Result<Place<'_>, PagingError> {
        loop {
            let place = self.own(addr, gather, |at| at > level)?;
            if place.level == level {
                return Ok(place);
            }
            match place.entry::<A>() {
                Entry::Empty => {
                    if let Some(place) = self.create_below((place, addr, live), level, gather)? {
                        return Ok(place);
                    }
                }
                Entry::Leaf(_) => return Err(PagingError::Occupied),
                // Another thread made it just now.
                Entry::Table(..) => {}
            }
        }
    }

    /// Makes the tables from an empty entry down to `level`, all of them or none; `None` if the
    /// entry is not empty any more. They can be reached all at once.
    fn create_below<'m, F: TlbFlusher>(
        &'m self,
        (place, addr, live): (Place<'m>, u64, Liveness<'_>),
        level: usize,
        gather: &mut Gather<'_, A, M, F, C>,
    ) -> Result<Option<Place<'m>>, PagingError> {
        let missing = place.level - level;
        let mut tables = [PhysAddr::new(0); LEVELS_MOST];
        let tables = &mut tables[..missing];
        for made in 0..missing {
            match gather.new_table(Content::Zeroed) {
                Ok(frame) => tables[made] = frame,
                Err(error) => {
                    tables[..made]
                        .iter()
                        .for_each(|table| gather.table_not_needed(*table));
                    return Err(error.into());
                }
            }
        }
        let mut held = self.hold(place.table);
        if held.is_dead() || held.entry::<A>(place.index, place.level) != Entry::Empty {
            drop(held);
            tables
                .iter()
                .for_each(|table| gather.table_not_needed(*table));
            return Ok(None);
        }
        // Who takes mappings out takes out what tables are there, and none comes after.
        if C::BESIDE && !live.is_live() {
            drop(held);
            tables
                .iter()
                .for_each(|table| gather.table_not_needed(*table));
            return Err(PagingError::Stale);
        }
        let mut lowest = place;
        for (at, table) in tables.iter().enumerate() {
            lowest = lowest.below::<A>(Table::at(&self.memory, *table), addr);
            if let Some(below) = tables.get(at + 1) {
                let entry = Entry::Table(*below, Writable::Yes);
                self.hold(lowest.table)
                    .put::<A>(lowest.index, lowest.level, entry);
            }
        }
        let entry = Entry::Table(tables[0], Writable::Yes);
        // Before: who takes a table out counts it off.
        for level in level + 1..=level + missing {
            self.count_in(addr, (Class::Table, level), 1);
        }
        held.put::<A>(place.index, place.level, entry);
        Ok(Some(lowest))
    }

    /// Splits the huge page at `place`, which is this address space's alone, into small ones in a
    /// table. Nothing changes for who uses them. Where another thread did so already, or the page
    /// went, there is nothing to do.
    ///
    /// # Errors
    ///
    /// [`PagingError::Unsplittable`], [`PagingError::OutOfFrames`].
    pub(super) fn split<F: TlbFlusher>(
        &self,
        place: Place<'_>,
        addr: u64,
        gather: &mut Gather<'_, A, M, F, C>,
    ) -> Result<(), PagingError> {
        let Entry::Leaf(leaf) = place.entry::<A>() else {
            return Ok(());
        };
        if leaf.attributes.flags.contains(LeafFlags::EXPLICIT) {
            return Err(PagingError::Unsplittable);
        }
        let frame = gather.new_table(Content::Any)?;
        let mut held = self.hold(place.table);
        match held.entry::<A>(place.index, place.level) {
            // Another may have come since, and such pages are never split.
            Entry::Leaf(leaf) if !leaf.attributes.flags.contains(LeafFlags::EXPLICIT) => {}
            _ => {
                drop(held);
                gather.table_not_needed(frame);
                return Ok(());
            }
        }
        let small = Table::at(&self.memory, frame);
        // Out first: what the processor notes in the entry must not be lost.
        let taken = held.take::<A>(place.index, place.level);
        self.fill_with_parts(small, taken);
        let entry = Entry::Table(small.addr, Writable::Yes);
        self.count_in(addr, (Class::Table, place.level), 1);
        held.put::<A>(place.index, place.level, entry);
        drop(held);
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
            Tally::of_class(class, A::ENTRIES).store(small.info(&self.memory).tally());
        }
    }
}
