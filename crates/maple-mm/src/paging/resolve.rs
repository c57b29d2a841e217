//! What a write fault needs: a way that may be written, and a page of one's own.

use super::arch::{Arch, Attributes, Entry, Leaf, LeafFlags, PageKind};
use super::company::{Company, Kind, State as _};
use super::error::PagingError;
use super::gather::{Gather, TlbFlusher};
use super::install::Liveness;
use super::lock::Held;
use super::memory::{Content, Frame, FrameSize, PhysAddr, PhysMemory};
use super::path::Place;
use super::sync::broken;
use super::tables::{PageTables, Put};
use super::tally::Class;

/// Who is to see what is written.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Sharing {
    /// This address space only: a private mapping.
    Private,
    /// All that map the page: a shared mapping.
    Shared,
}

/// Whether a write may take a new page.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum NewPrivate {
    /// It may.
    Allowed,
    /// There is none for it.
    Refused,
}

/// How a page is to be written.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Written {
    /// Who is to see it.
    pub sharing: Sharing,
    /// Whether a page of its own may take the place of one that has other owners.
    pub new_page: NewPrivate,
}

impl From<Sharing> for Written {
    fn from(sharing: Sharing) -> Self {
        let new_page = NewPrivate::Allowed;
        Self { sharing, new_page }
    }
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
pub(super) enum Plan {
    Reuse,
    Zero,
    Copy,
    Split,
}

pub(super) const WRITTEN: LeafFlags = LeafFlags::WRITE
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
        gather: &mut Gather<'_, A, M, F, C>,
    ) -> Result<Resolved, PagingError> {
        self.resolve_live((addr, Liveness::SURE), sharing.into(), gather)
    }

    /// As [`resolve_write`](Self::resolve_write), if what the page is for is still so when it may
    /// be written. Without others beside nobody asks.
    ///
    /// # Errors
    ///
    /// As [`resolve_write`](Self::resolve_write); [`PagingError::Stale`];
    /// [`PagingError::NotExclusive`] if it takes a frame and may not. [`Beside`](super::Beside)
    /// others nothing has changed, either, but that tables on the way may be this address
    /// space's alone.
    pub fn resolve_live<F: TlbFlusher>(
        &self,
        (addr, live): (u64, Liveness<'_>),
        written: Written,
        gather: &mut Gather<'_, A, M, F, C>,
    ) -> Result<Resolved, PagingError> {
        if C::BESIDE {
            return self.resolve_beside((addr, live), written, gather);
        }
        loop {
            let place = self.own_leaf(addr, gather)?;
            let Some(leaf) = page_of(place.entry::<A>()) else {
                return Err(PagingError::NotMapped);
            };
            let (content, resolved) = match self.write_plan(place.level, leaf, written.sharing) {
                Plan::Split => {
                    self.split(place, addr, gather)?;
                    continue;
                }
                Plan::Reuse => {
                    let held = self.hold(place.table);
                    held.update_leaf::<A>(place.index, place.level, |leaf| leaf.with(WRITTEN));
                    return Ok(Resolved::Reused);
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
                self.copy_page(leaf, &new);
            }
            // The entry is the reference.
            self.put_alone((addr, place), (leaf, new.into_addr()), gather);
            return Ok(resolved);
        }
    }

    pub(super) fn copy_page(&self, leaf: Leaf, new: &Frame) {
        self.memory.copy(leaf.frame, new.addr(), new.size());
        if leaf.attributes.flags.contains(LeafFlags::EXPLICIT) {
            self.memory.info(new.addr()).set_explicit();
        }
    }

    /// Gives the right to write, if the page is still what it was, and nobody else has it.
    pub(super) fn allow(
        &self,
        (place, leaf): (Place<'_>, Leaf),
        (sharing, live): (Sharing, Liveness<'_>),
    ) -> Put {
        let held = self.hold(place.table);
        if held.is_dead() || !is_still::<A, C>(&held, (place, leaf)) {
            return Put::Lost;
        }
        // INVARIANT: PT2. A fork may have come since it was looked at. (A page that is not there any
        // more may be anybody's, so it is not asked about.)
        let is_own = matches!(self.write_plan(place.level, leaf, sharing), Plan::Reuse);
        if !is_own && !broken!(Own) {
            return Put::Lost;
        }
        if !live.is_live() {
            return Put::Stale;
        }
        held.update_leaf::<A>(place.index, place.level, |leaf| leaf.with(WRITTEN));
        // Other processors may have the old rights cached: they fault, and find this.
        Put::Done
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
        gather: &mut Gather<'_, A, M, F, C>,
    ) -> Result<bool, PagingError> {
        let place = match C::BESIDE {
            // The way is made ready when it is gone.
            true => {
                let _guard = self.company.guard();
                self.find(addr, 0)
            }
            false => self.own_leaf(addr, gather)?,
        };
        let Some(leaf) = page_of(place.entry::<A>()) else {
            return Err(PagingError::NotMapped);
        };
        Ok(!matches!(
            self.write_plan(place.level, leaf, sharing),
            Plan::Reuse
        ))
    }

    pub(super) fn write_plan(&self, level: usize, leaf: Leaf, sharing: Sharing) -> Plan {
        let Attributes { kind, flags, .. } = leaf.attributes;
        let is_own = || self.memory.info(leaf.frame).count() == 1;
        match (sharing, kind) {
            (_, PageKind::Special) => Plan::Zero,
            (Sharing::Shared, _) => Plan::Reuse,
            (Sharing::Private, PageKind::Anon) if is_own() => Plan::Reuse,
            _ if level > 0 && !flags.contains(LeafFlags::EXPLICIT) => Plan::Split,
            _ => Plan::Copy,
        }
    }

    /// Puts a private page in the place of one that has other owners.
    fn put_alone<F: TlbFlusher>(
        &self,
        (addr, place): (u64, Place<'_>),
        (old, frame): (Leaf, PhysAddr),
        gather: &mut Gather<'_, A, M, F, C>,
    ) {
        let mut held = self.hold(place.table);
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
    }
}

/// Whether an entry still maps what it did when it was looked at; what a processor notes in it
/// aside.
pub(super) fn is_still<A: Arch, C: Kind>(
    held: &Held<'_, C>,
    (place, leaf): (Place<'_>, Leaf),
) -> bool {
    let noted = LeafFlags::ACCESSED | LeafFlags::DIRTY;
    if broken!(Still) {
        return true;
    }
    match held.entry::<A>(place.index, place.level) {
        Entry::Leaf(now) => now.without(noted) == leaf.without(noted),
        _ => false,
    }
}

/// What an entry maps, unless that is a guard.
pub(super) const fn page_of(entry: Entry) -> Option<Leaf> {
    match entry {
        Entry::Leaf(leaf) if !leaf.is_guard() => Some(leaf),
        _ => None,
    }
}

/// The frame that an entry of a table of `level` maps.
pub(super) fn page_size<A: Arch>(level: usize) -> Result<FrameSize, PagingError> {
    let order = A::INDEX_BITS * level as u32;
    FrameSize::of_order(order).ok_or(PagingError::Misaligned)
}
