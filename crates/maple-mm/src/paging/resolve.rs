//! What a write fault needs: a way that may be written, and a page of one's own.

use super::arch::{Arch, Attributes, Entry, Leaf, LeafFlags, PageKind};
use super::company::{Company, Kind};
use super::error::PagingError;
use super::gather::{Gather, TlbFlusher};
use super::lock::Held;
use super::memory::{Content, FrameSize, PhysAddr, PhysMemory};
use super::path::Place;
use super::tables::PageTables;
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

impl<A: Arch, M: PhysMemory, C: Company<M>> PageTables<A, M, C> {
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
        gather: &mut Gather<A, M, F, C>,
    ) -> Result<Resolved, PagingError> {
        loop {
            let place = self.own_leaf(addr, gather)?;
            let Some(leaf) = page_of::<A>(place) else {
                return Err(PagingError::NotMapped);
            };
            let (content, resolved) = match self.write_plan(place, leaf, sharing) {
                Plan::Split => {
                    self.split(place, addr, gather)?;
                    continue;
                }
                Plan::Reuse => {
                    if self.allow(place, leaf) {
                        return Ok(Resolved::Reused);
                    }
                    continue;
                }
                Plan::Zero => (Content::Zeroed, Resolved::Zeroed),
                Plan::Copy => (Content::Any, Resolved::Copied),
            };
            let size = match resolved {
                Resolved::Zeroed => FrameSize::SMALL,
                _ => page_size::<A>(place.level)?,
            };
            let new = self.memory.allocate(size, content)?;
            if resolved == Resolved::Copied {
                self.memory.copy(leaf.frame, new.addr(), size);
                if leaf.attributes.flags.contains(LeafFlags::EXPLICIT) {
                    self.memory.info(new.addr()).set_explicit();
                }
            }
            // If so, the entry is the reference.
            if self.put_private((place, leaf), new.addr(), (addr, gather)) {
                return Ok(resolved);
            }
            self.memory.release(new);
        }
    }

    /// Gives the right to write, if the page is still what it was: whether it is.
    pub(super) fn allow(&self, place: Place<'_>, leaf: Leaf) -> bool {
        let held = self.hold(place.table);
        let is_still = is_still::<A, C>(&held, (place, leaf));
        if is_still {
            held.update_leaf::<A>(place.index, place.level, |leaf| leaf.with(WRITTEN));
            // Other processors may have the old rights cached: they fault, and find this.
        }
        is_still
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
        gather: &mut Gather<A, M, F, C>,
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

    /// Puts a private page in the place of one that has other owners, if that is still what it
    /// was: whether it is.
    pub(super) fn put_private<F: TlbFlusher>(
        &self,
        (place, old): (Place<'_>, Leaf),
        frame: PhysAddr,
        (addr, gather): (u64, &mut Gather<A, M, F, C>),
    ) -> bool {
        let mut held = self.hold(place.table);
        if !is_still::<A, C>(&held, (place, old)) {
            return false;
        }
        let mut attributes = old.attributes;
        attributes.kind = PageKind::Anon;
        let new = Entry::Leaf(Leaf { frame, attributes }.with(WRITTEN));
        if let Some(class) = Class::of(new) {
            self.count_in(addr, (class, place.level), 1);
        }
        let before = held.replace::<A>(place.index, place.level, new);
        drop(held);
        // A processor may have noted something in it since it was looked at.
        if let Entry::Leaf(before) = before {
            self.zapped(before, (addr, place.level), gather);
        }
        true
    }
}

/// Whether an entry still maps what it did when it was looked at; what a processor notes in it
/// aside. Nobody could change it where there is no company.
fn is_still<A: Arch, C: Kind>(held: &Held<'_, C>, (place, leaf): (Place<'_>, Leaf)) -> bool {
    if !C::BESIDE {
        return true;
    }
    let noted = LeafFlags::ACCESSED | LeafFlags::DIRTY;
    match held.entry::<A>(place.index, place.level) {
        Entry::Leaf(now) => now.without(noted) == leaf.without(noted),
        _ => false,
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
