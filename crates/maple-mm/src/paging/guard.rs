//! Guards: entries that stand for no page, and that no access gets past.

use core::ops::Range;

use super::arch::{Arch, Attributes, Entry, Leaf, LeafFlags, PageKind};
use super::company::Company;
use super::error::PagingError;
use super::free::TableRange;
use super::gather::{Gather, TlbFlusher};
use super::install::Liveness;
use super::iter::Visit;
use super::memory::{FRAME_BYTES, PhysMemory};
use super::path::Place;
use super::tables::{Mapped, PageTables, Put, covers, region};

impl Leaf {
    /// A guard: the zero page, which user mode may not use whatever else the entry allows.
    pub(super) const fn is_guard(&self) -> bool {
        matches!(self.attributes.kind, PageKind::Special)
            && !self.attributes.flags.contains(LeafFlags::USER)
    }
}

impl Mapped {
    /// Whether this is a guard: not a page, but an entry that makes every access fail, whatever
    /// rights its mapping gets. See [`PageTables::install_guards`].
    #[must_use]
    pub const fn is_guard(&self) -> bool {
        self.leaf.is_guard()
    }
}

impl<A: Arch, M: PhysMemory, C: Company<M>> PageTables<A, M, C> {
    /// Takes all pages of `range` out and puts guards there. They stay where pages go
    /// ([`zap_around_guards`](Self::zap_around_guards)), move where pages move, and are copied
    /// and shared as the zero page is; [`zap`](Self::zap) takes them out.
    ///
    /// # Complexity
    ///
    /// O(pages + tables).
    ///
    /// # Errors
    ///
    /// As [`prepare_guards`](Self::prepare_guards); what is mapped has not changed.
    ///
    /// # Examples
    ///
    /// ```
    /// use maple_mm::Access;
    /// use maple_mm::paging::{Arena, ArenaLayout, NoTlb, PageTables, X86_64};
    /// use std::sync::Arc;
    /// let arena = Arc::new(Arena::<parking_lot::RawMutex>::new(ArenaLayout::of_frames(64))?);
    /// let tables = PageTables::<X86_64<4>, _>::new(Arc::clone(&arena))?;
    /// let mut gather = tables.gather(NoTlb);
    /// tables.install_guards(&(0x1000..0x3000), &mut gather)?;
    /// assert!(tables.entry(0x2000).is_some_and(|entry| entry.is_guard()));
    /// assert!(tables.translate(0x2000, Access::Read).is_err());
    /// tables.remove_guards(&(0x2000..0x3000), &mut gather)?;
    /// assert!(tables.entry(0x2000).is_none());
    /// # Ok::<(), Box<dyn std::error::Error>>(())
    /// ```
    pub fn install_guards<F: TlbFlusher>(
        &self,
        range: &Range<u64>,
        gather: &mut Gather<'_, A, M, F, C>,
    ) -> Result<(), PagingError> {
        self.prepare_guards(range, gather)?;
        for addr in range.clone().step_by(FRAME_BYTES as usize) {
            let place = self.find(addr, 0);
            if place.entry::<A>() != Entry::Empty {
                self.zap_leaf(place, addr, gather);
            }
            let put = self.put((addr, place), self.guard(), Liveness::SURE);
            debug_assert_eq!(put, Put::Done, "nobody else maps pages meanwhile");
        }
        Ok(())
    }

    /// Does all of [`install_guards`](Self::install_guards) that can fail: tables are made, shared
    /// ones copied, huge pages split. What is mapped does not change.
    ///
    /// # Complexity
    ///
    /// O(tables), and O(entries) for each that is shared.
    ///
    /// # Errors
    ///
    /// [`PagingError::OutOfFrames`], with no table added, though huge pages may have been split;
    /// [`PagingError::Unsplittable`], [`PagingError::Misaligned`], [`PagingError::OutOfRange`].
    pub fn prepare_guards<F: TlbFlusher>(
        &self,
        range: &Range<u64>,
        gather: &mut Gather<'_, A, M, F, C>,
    ) -> Result<(), PagingError> {
        Self::check_range(range)?;
        self.make_tables(range, gather).inspect_err(|_| {
            let made = TableRange {
                addresses: range.clone(),
                floor: 0,
                ceiling: 0,
            };
            self.free_empty(&made, gather);
        })
    }

    fn make_tables<F: TlbFlusher>(
        &self,
        range: &Range<u64>,
        gather: &mut Gather<'_, A, M, F, C>,
    ) -> Result<(), PagingError> {
        let mut addr = range.start;
        while addr < range.end {
            match self.own_or_create((addr, Liveness::SURE), 0, gather) {
                Ok(_) => {}
                Err(PagingError::Occupied) => self.split(self.find(addr, 1), addr, gather)?,
                Err(error) => return Err(error),
            }
            addr = region::<A>(addr, 1).end;
        }
        Ok(())
    }

    /// Takes the guards of `range` out, and no page.
    ///
    /// # Complexity
    ///
    /// O(pages + tables).
    ///
    /// # Errors
    ///
    /// As [`prepare_around_guards`](Self::prepare_around_guards); nothing was taken out.
    pub fn remove_guards<F: TlbFlusher>(
        &self,
        range: &Range<u64>,
        gather: &mut Gather<'_, A, M, F, C>,
    ) -> Result<(), PagingError> {
        self.zap_where(range, gather, |leaf| leaf.is_guard())
    }

    /// Takes the pages of `range` out, and no guard. Tables stay, even empty.
    ///
    /// # Complexity
    ///
    /// O(pages + tables).
    ///
    /// # Errors
    ///
    /// As [`prepare_around_guards`](Self::prepare_around_guards); nothing was taken out.
    pub fn zap_around_guards<F: TlbFlusher>(
        &self,
        range: &Range<u64>,
        gather: &mut Gather<'_, A, M, F, C>,
    ) -> Result<(), PagingError> {
        self.zap_where(range, gather, |leaf| !leaf.is_guard())
    }

    /// Does all of [`remove_guards`](Self::remove_guards) and
    /// [`zap_around_guards`](Self::zap_around_guards) that can fail: shared tables are copied,
    /// huge pages at the edges split. What is mapped does not change.
    ///
    /// # Complexity
    ///
    /// O(tables), and O(entries) for each that is shared.
    ///
    /// # Errors
    ///
    /// [`PagingError::OutOfFrames`]; [`PagingError::Unsplittable`], [`PagingError::Misaligned`],
    /// [`PagingError::OutOfRange`].
    pub fn prepare_around_guards<F: TlbFlusher>(
        &self,
        range: &Range<u64>,
        gather: &mut Gather<'_, A, M, F, C>,
    ) -> Result<(), PagingError> {
        Self::check_range(range)?;
        self.own_all(range, gather)
    }

    fn zap_where<F: TlbFlusher>(
        &self,
        range: &Range<u64>,
        gather: &mut Gather<'_, A, M, F, C>,
        goes: impl Fn(Leaf) -> bool,
    ) -> Result<(), PagingError> {
        self.prepare_around_guards(range, gather)?;
        self.visit_leaves(range, |addr, place| {
            self.zap_leaf_if((addr, place), (range, gather), &goes)
        });
        Ok(())
    }

    /// Takes a page out if it `goes`, which lies in `range`.
    fn zap_leaf_if<F: TlbFlusher>(
        &self,
        (addr, place): (u64, Place<'_>),
        (range, gather): (&Range<u64>, &mut Gather<'_, A, M, F, C>),
        goes: &impl Fn(Leaf) -> bool,
    ) -> Visit {
        let mut held = self.hold(place.table);
        match held.entry::<A>(place.index, place.level) {
            Entry::Leaf(leaf) if goes(leaf) => {}
            // Another thread split a huge page just now.
            Entry::Table(..) => return Visit::Again,
            _ => return Visit::Done,
        }
        if C::BESIDE && !covers(range, &region::<A>(addr, place.level)) {
            drop(held);
            // A fault mapped it since this was prepared: there is a frame set aside for it.
            let split = self.split(place, addr, gather);
            assert_eq!(split, Ok(()), "the edges were reserved");
            return Visit::Again;
        }
        // With what a processor noted in it since.
        let taken = held.take::<A>(place.index, place.level);
        drop(held);
        if let Entry::Leaf(leaf) = taken {
            self.zapped(leaf, (addr, place.level), gather);
        }
        Visit::Done
    }

    fn guard(&self) -> Leaf {
        Leaf {
            frame: self.memory.zero_page(),
            attributes: Attributes::new(PageKind::Special, LeafFlags::empty()),
        }
    }
}
