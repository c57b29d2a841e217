//! Freeing tables that hold nothing any more, within bounds that neighbours set.

use core::iter::Peekable;
use core::marker::PhantomData;
use core::ops::Range;

use super::arch::Arch;
use super::company::Company;
use super::gather::{Gather, TlbFlusher};
use super::memory::PhysMemory;
use super::tables::{PageTables, covers, region};

/// Which tables may be freed: three different things, each with a name.
///
/// A table is freed if it maps some of `addresses`, and nothing below `floor` nor from `ceiling`
/// on, where neighbours may need it.
///
/// ```text
///        floor                  ceiling
///          |    addresses          |
///  neighbour . [===============) . neighbour
///    |-------|-------|-------|-------|       what tables map
///     kept     freed   freed   kept
/// ```
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct TableRange {
    /// `start..end` that nothing is mapped in any more.
    pub addresses: Range<u64>,
    /// The end of the neighbour below; 0 if there is none.
    pub floor: u64,
    /// The start of the neighbour above, itself not to be touched; 0 if there is none: the top.
    pub ceiling: u64,
}

impl TableRange {
    /// All of an address space.
    #[must_use]
    pub const fn all<A: Arch>() -> Self {
        Self {
            addresses: 0..A::USER_END,
            floor: 0,
            ceiling: 0,
        }
    }

    const fn bounds<A: Arch>(&self) -> Range<u64> {
        let end = if self.ceiling == 0 {
            A::USER_END
        } else {
            self.ceiling
        };
        self.floor..end
    }
}

impl<A: Arch, M: PhysMemory, C: Company<M>> PageTables<A, M, C> {
    /// Frees the tables that `range` allows, lowest level first. A table that holds something is
    /// kept, and so is one that is reached through a shared table.
    ///
    /// LINUX: `free_pgd_range`, which trusts its caller that the tables are empty.
    ///
    /// # Complexity
    ///
    /// O(tables of the range).
    pub fn free_tables<F: TlbFlusher>(
        &self,
        range: &TableRange,
        gather: &mut Gather<'_, A, M, F, C>,
    ) {
        self.free_empty(range, gather);
    }

    pub(super) fn free_empty<F: TlbFlusher>(
        &self,
        range: &TableRange,
        gather: &mut Gather<'_, A, M, F, C>,
    ) {
        // The level of the entries that lead to the tables.
        for level in 1..A::LEVELS {
            let mut addr = range.addresses.start;
            while addr < range.addresses.end.min(A::USER_END) {
                addr = self.free_step(addr, level, (range, gather));
            }
        }
    }

    /// Frees the table that the entry of `level` for `addr` leads to, if it may: where to go on.
    fn free_step<F: TlbFlusher>(
        &self,
        addr: u64,
        level: usize,
        (range, gather): (&TableRange, &mut Gather<'_, A, M, F, C>),
    ) -> u64 {
        let place = self.find_alone(addr, level);
        let addresses = region::<A>(addr, place.level);
        let end = addresses.end;
        if place.level > level || !covers(&range.bounds::<A>(), &addresses) {
            return end;
        }
        self.vacate(place, addr, gather);
        end
    }
}

/// The [`TableRange`]s of mappings that go away, as few as possible: mappings that are so near to
/// each other that they may share a lowest table are joined.
///
/// LINUX: the loop in `free_pgtables`.
///
/// # Examples
///
/// ```
/// use maple_mm::paging::{TableRange, TableRanges, X86_64};
/// let mappings = [0x40_0000..0x40_1000, 0x60_1000..0x60_2000, 0x80_3000..0x80_4000];
/// let bounds = TableRange { addresses: 0..0, floor: 0x1000, ceiling: 0 };
/// let ranges: Vec<_> = TableRanges::<X86_64<4>, _>::new(mappings, &bounds).collect();
/// assert_eq!(ranges.len(), 2);
/// assert_eq!(ranges[0].addresses, 0x40_0000..0x60_2000);
/// assert_eq!(ranges[0].ceiling, 0x80_3000);
/// assert_eq!(ranges[1].floor, 0x1000);
/// ```
#[derive(Debug)]
pub struct TableRanges<A, I: Iterator<Item = Range<u64>>> {
    mappings: Peekable<I>,
    floor: u64,
    ceiling: u64,
    arch: PhantomData<fn() -> A>,
}

impl<A, I: Iterator<Item = Range<u64>>> TableRanges<A, I> {
    /// For `mappings` in ascending order, between the neighbours that stay: `bounds.floor` and
    /// `bounds.ceiling`.
    pub fn new(mappings: impl IntoIterator<IntoIter = I>, bounds: &TableRange) -> Self {
        Self {
            mappings: mappings.into_iter().peekable(),
            floor: bounds.floor,
            ceiling: bounds.ceiling,
            arch: PhantomData,
        }
    }
}

impl<A: Arch, I: Iterator<Item = Range<u64>>> Iterator for TableRanges<A, I> {
    type Item = TableRange;

    fn next(&mut self) -> Option<TableRange> {
        let mut addresses = self.mappings.next()?;
        let nearest = |end: u64| end.saturating_add(A::span(1));
        while let Some(next) = self
            .mappings
            .next_if(|next| next.start <= nearest(addresses.end))
        {
            addresses.end = next.end;
        }
        let ceiling = self.mappings.peek().map_or(self.ceiling, |next| next.start);
        Some(TableRange {
            addresses,
            floor: self.floor,
            ceiling,
        })
    }
}
