//! What a write fault needs: a way that may be written, and a page of one's own.

use super::arch::{Arch, Attributes, Entry, Leaf, LeafFlags, PageKind};
use super::error::PagingError;
use super::gather::{Gather, TlbFlusher};
use super::memory::{Content, FrameSize, PhysAddr, PhysMemory};
use super::path::Place;
use super::subtree::{is_counted, note_dirty};
use super::table;
use super::tables::{PageTables, region};
use super::tally::Class;

/// Who is to see what is written.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Sharing {
    /// This address space only: a private mapping.
    Private,
    /// All that map the page: a shared mapping.
    Shared,
}

/// What became of the page that was to be written.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Resolved {
    /// It may be written now.
    Reused,
    /// Its contents are in a page of this address space alone now.
    Copied,
    /// It was the zero page; there is a zeroed page of this address space alone now.
    Zeroed,
}

/// What a write fault is to do with a page.
enum Plan {
    Reuse,
    Zero,
    Copy,
    Split,
}

const WRITTEN: LeafFlags = LeafFlags::WRITE
    .union(LeafFlags::DIRTY)
    .union(LeafFlags::ACCESSED);

impl<A: Arch, M: PhysMemory> PageTables<A, M> {
    /// Lets the page at `addr` be written, whose mapping allows it: shared tables on the way are
    /// copied, and in a private mapping a page with other owners, or the zero page, makes place
    /// for a private one. A huge page with other owners is split first, an explicitly huge one is
    /// copied whole.
    ///
    /// Whether the mapping allows writing is the caller's to know.
    ///
    /// # Complexity
    ///
    /// O(levels + bytes copied), and O(entries) for each shared table on the way.
    ///
    /// # Errors
    ///
    /// [`PagingError::NotMapped`]; [`PagingError::OutOfFrames`]. What is mapped has not changed.
    pub fn resolve_write<F: TlbFlusher>(
        &self,
        addr: u64,
        sharing: Sharing,
        gather: &mut Gather<A, M, F>,
    ) -> Result<Resolved, PagingError> {
        let mut place = self.own_leaf(addr, gather)?;
        let Some(mut leaf) = page_of::<A>(place) else {
            return Err(PagingError::NotMapped);
        };
        if let Plan::Split = self.write_plan(place, leaf, sharing) {
            self.split(place, addr, gather)?;
            place = self.find(addr, 0);
            leaf.frame = leaf.frame.plus(place.index as u64 * A::span(0));
        }
        match self.write_plan(place, leaf, sharing) {
            Plan::Reuse => {
                table::update_leaf::<A>(place.word(), place.level, |leaf| leaf.with(WRITTEN));
                // Other processors may have the old rights cached: they fault, and find this.
                Ok(Resolved::Reused)
            }
            Plan::Zero => {
                let zeroed = self.memory.allocate(FrameSize::SMALL, Content::Zeroed)?;
                self.put_private(place, zeroed.into_addr(), (addr, gather));
                Ok(Resolved::Zeroed)
            }
            Plan::Copy | Plan::Split => {
                let size = page_size::<A>(place.level)?;
                let copy = self.memory.allocate(size, Content::Any)?;
                self.memory.copy(leaf.frame, copy.addr(), size);
                if leaf.attributes.flags.contains(LeafFlags::EXPLICIT) {
                    self.memory.info(copy.addr()).set_explicit();
                }
                self.put_private(place, copy.into_addr(), (addr, gather));
                Ok(Resolved::Copied)
            }
        }
    }

    /// Whether [`resolve_write`](Self::resolve_write) takes a new frame for the page at `addr`. It
    /// needs no other memory then, as long as nothing was shared or mapped in between.
    ///
    /// # Complexity
    ///
    /// O(levels), and O(entries) for each shared table on the way, which is copied.
    ///
    /// # Errors
    ///
    /// [`PagingError::NotMapped`], [`PagingError::OutOfFrames`]. What is mapped has not changed.
    pub fn write_takes_frame<F: TlbFlusher>(
        &self,
        addr: u64,
        sharing: Sharing,
        gather: &mut Gather<A, M, F>,
    ) -> Result<bool, PagingError> {
        let place = self.own_leaf(addr, gather)?;
        let Some(leaf) = page_of::<A>(place) else {
            return Err(PagingError::NotMapped);
        };
        Ok(!matches!(
            self.write_plan(place, leaf, sharing),
            Plan::Reuse
        ))
    }

    fn write_plan(&self, place: Place<'_>, leaf: Leaf, sharing: Sharing) -> Plan {
        let Attributes { kind, flags, .. } = leaf.attributes;
        let is_own = || self.memory.info(leaf.frame).count() == 1;
        match (sharing, kind) {
            (_, PageKind::Special) => Plan::Zero,
            (Sharing::Shared, _) => Plan::Reuse,
            (Sharing::Private, PageKind::Anon) if is_own() => Plan::Reuse,
            _ if place.level > 0 && !flags.contains(LeafFlags::EXPLICIT) => Plan::Split,
            _ => Plan::Copy,
        }
    }

    /// Puts a private page in the place of one that has other owners.
    fn put_private<F: TlbFlusher>(
        &self,
        place: Place<'_>,
        frame: PhysAddr,
        (addr, gather): (u64, &mut Gather<A, M, F>),
    ) {
        let Entry::Leaf(old) = place.entry::<A>() else {
            unreachable!("the caller saw the page");
        };
        let mut attributes = old.attributes;
        attributes.kind = PageKind::Anon;
        let new = Entry::Leaf(Leaf { frame, attributes }.with(WRITTEN));
        let before = place.table.replace::<A>(place.index, place.level, new);
        for (class, added) in [(Class::of(before), false), (Class::of(new), true)] {
            match class {
                Some(class) if added => self.counters.add::<A>(class, place.level, 1),
                Some(class) => self.counters.remove::<A>(class, place.level, 1),
                None => {}
            }
        }
        gather.changed(region::<A>(addr, place.level), place.level);
        if is_counted(old) {
            note_dirty(&self.memory, old);
            gather.frame(old.frame);
        }
    }
}

/// What an entry maps, unless that is a guard.
fn page_of<A: Arch>(place: Place<'_>) -> Option<Leaf> {
    match place.entry::<A>() {
        Entry::Leaf(leaf) if !leaf.is_guard() => Some(leaf),
        _ => None,
    }
}

/// The frame that an entry of a table of `level` maps.
fn page_size<A: Arch>(level: usize) -> Result<FrameSize, PagingError> {
    let order = A::INDEX_BITS * level as u32;
    FrameSize::of_order(order).ok_or(PagingError::Misaligned)
}
