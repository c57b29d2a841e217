//! Iteration over what is mapped in a range.

use core::fmt;
use core::ops::Range;

use super::arch::{Arch, Entry};
use super::company::{Alone, Company, State};
use super::memory::PhysMemory;
use super::path::Place;
use super::tables::{Mapped, PageTables, region};

/// What became of a page that was shown.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Visit {
    Done,
    /// It is not what it was: another thread was faster. What is there now is to be shown.
    Again,
}

/// The entries of all pages in a range, ascending.
#[derive(Debug)]
pub(super) struct Leaves<'t, A: Arch, M: PhysMemory, C: Company<M>> {
    tables: &'t PageTables<A, M, C>,
    left: Range<u64>,
    /// The table of level 0 that the walk is in.
    current: Option<Place<'t>>,
}

impl<'t, A: Arch, M: PhysMemory, C: Company<M>> Iterator for Leaves<'t, A, M, C> {
    type Item = (u64, Place<'t>);

    fn next(&mut self) -> Option<Self::Item> {
        while self.left.start < self.left.end {
            let addr = self.left.start;
            let place = match self.current.take() {
                Some(place) => Place {
                    index: A::index(addr, 0),
                    ..place
                },
                None => self.tables.find_settled(addr, 0),
            };
            let addresses = region::<A>(addr, place.level);
            self.left.start = addresses.end;
            if place.level == 0 {
                let table = region::<A>(addr, 1);
                if place.table.tally(&self.tables.memory).is_empty() {
                    self.left.start = table.end;
                } else if addresses.end < table.end {
                    self.current = Some(place);
                }
            }
            if let Entry::Leaf(_) = place.entry::<A>() {
                return Some((addresses.start, place));
            }
        }
        None
    }
}

/// All pages in a range, ascending: see [`PageTables::pages`].
pub struct Pages<'t, A: Arch, M: PhysMemory, C: Company<M> = Alone> {
    leaves: Leaves<'t, A, M, C>,
    /// No table is freed that is come by.
    _guard: <C::State as State<M>>::Guard<'t>,
}

impl<A: Arch, M: PhysMemory, C: Company<M>> fmt::Debug for Pages<'_, A, M, C> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_tuple("Pages").field(&self.leaves.left).finish()
    }
}

impl<A: Arch, M: PhysMemory, C: Company<M>> Iterator for Pages<'_, A, M, C> {
    type Item = Mapped;

    fn next(&mut self) -> Option<Mapped> {
        let (start, place) = self.leaves.next()?;
        let Entry::Leaf(leaf) = place.entry::<A>() else {
            return None;
        };
        Some(Mapped {
            start,
            size: A::span(place.level),
            leaf,
            way: place.way,
        })
    }
}

impl<A: Arch, M: PhysMemory, C: Company<M>> PageTables<A, M, C> {
    /// All pages that have an address in `range`, ascending. A huge page that begins before it is
    /// the first.
    ///
    /// # Complexity
    ///
    /// O(tables) for all of them, and O(entries) for each table of the lowest level.
    ///
    /// # Examples
    ///
    /// ```
    /// use maple_mm::paging::*;
    /// let arena = Arena::<parking_lot::RawMutex>::new(ArenaLayout::of_frames(64))?;
    /// let tables = PageTables::<X86_64<4>, _>::new(&arena)?;
    /// let mut gather = tables.gather(NoTlb);
    /// for addr in [0x5000, 0x7000_0000_0000] {
    ///     tables.map_zero_page(addr, LeafFlags::READ | LeafFlags::USER, &mut gather)?;
    /// }
    /// let starts: Vec<_> = tables.pages(0x1000..1 << 47).map(|page| page.start).collect();
    /// assert_eq!(starts, [0x5000, 0x7000_0000_0000]);
    /// # Ok::<(), Box<dyn std::error::Error>>(())
    /// ```
    #[must_use]
    pub fn pages(&self, range: Range<u64>) -> Pages<'_, A, M, C> {
        Pages {
            _guard: self.company.guard(),
            leaves: self.leaves(&range),
        }
    }

    /// Shows each page of a range, which is in tables of this address space alone, to `visit`.
    pub(super) fn visit_leaves(
        &self,
        range: &Range<u64>,
        mut visit: impl FnMut(u64, Place<'_>) -> Visit,
    ) {
        let mut left = Range { ..*range };
        'again: loop {
            for (addr, place) in self.leaves(&left) {
                if visit(addr, place) == Visit::Again {
                    left.start = left.start.max(addr);
                    continue 'again;
                }
            }
            return;
        }
    }

    pub(super) fn leaves(&self, range: &Range<u64>) -> Leaves<'_, A, M, C> {
        Leaves {
            tables: self,
            left: range.start..range.end.min(A::USER_END),
            current: None,
        }
    }
}
