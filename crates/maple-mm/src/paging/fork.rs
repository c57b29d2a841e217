//! Copying a range for a child at once, as Linux's `copy_page_range` does.

use core::ops::Range;

use super::arch::{Arch, Entry, LeafFlags, PageKind};
use super::company::Company;
use super::error::PagingError;
use super::free::TableRange;
use super::gather::{Gather, TlbFlusher};
use super::install::Liveness;
use super::memory::PhysMemory;
use super::path::Place;
use super::subtree::is_counted;
use super::table;
use super::tables::{PageTables, covers, region};
use super::tally::Class;

/// How the pages of a mapping are handed to a child.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Cow {
    /// Each side gets its own copy when it writes.
    Private,
    /// Both sides write to the same pages. Private pages are copied as such all the same.
    Shared,
}

/// A range to be copied for a child.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct CopyRange {
    /// `start..end`.
    pub addresses: Range<u64>,
    /// How.
    pub cow: Cow,
}

impl<A: Arch, M: PhysMemory, C: Company<M>> PageTables<A, M, C> {
    /// Gives `child` an entry for each page of a range: the same frames, counted once more. The
    /// zero page stays what it is; what the processor noted in entries does not go to the child,
    /// but that private pages are dirty. Tables are made where there are pages.
    ///
    /// Private pages lose the right to write on both sides. `gather` is this address space's, and
    /// is to be flushed before it runs again.
    ///
    /// # Complexity
    ///
    /// O(pages + tables).
    ///
    /// # Errors
    ///
    /// [`PagingError::Occupied`] if the child has pages in the range; [`PagingError::OutOfFrames`],
    /// [`PagingError::Misaligned`], [`PagingError::OutOfRange`]; [`PagingError::Unsplittable`] if
    /// an edge of the range lies in an explicitly huge page. The child is as before. Here pages
    /// may have lost the right to write, which the next write gives back
    /// ([`resolve_write`](Self::resolve_write)).
    pub fn copy_range<F: TlbFlusher>(
        &self,
        child: &mut Self,
        copy: &CopyRange,
        gather: &mut Gather<'_, A, M, F, C>,
    ) -> Result<(), PagingError> {
        let range = &copy.addresses;
        Self::check_range(range)?;
        if child.leaves(range).next().is_some() {
            return Err(PagingError::Occupied);
        }
        self.split_edges(range, gather)?;
        self.copy_leaves(child, copy, gather).inspect_err(|_| {
            child.zap_own(range, gather);
            let made = TableRange {
                addresses: range.clone(),
                floor: 0,
                ceiling: 0,
            };
            child.free_empty(&made, gather);
        })
    }

    /// Splits the huge pages that lie within `range` in part.
    fn split_edges<F: TlbFlusher>(
        &self,
        range: &Range<u64>,
        gather: &mut Gather<'_, A, M, F, C>,
    ) -> Result<(), PagingError> {
        for edge in [range.start, range.end] {
            let place = self.find(edge.min(A::USER_END - 1), 0);
            let is_cut = !covers(range, &region::<A>(edge, place.level));
            let is_inside = edge % A::span(place.level) != 0;
            if place.level > 0
                && is_cut
                && is_inside
                && matches!(place.entry::<A>(), Entry::Leaf(_))
            {
                let place = self.own(edge, gather, |_| true)?;
                self.split(place, edge, gather)?;
            }
        }
        Ok(())
    }

    fn copy_leaves<F: TlbFlusher>(
        &self,
        child: &Self,
        copy: &CopyRange,
        gather: &mut Gather<'_, A, M, F, C>,
    ) -> Result<(), PagingError> {
        // The child's table that the last page went to, and what it maps.
        let mut last: Option<(Range<u64>, Place<'_>)> = None;
        for (addr, place) in self.leaves(&copy.addresses) {
            let target = match &last {
                Some((addresses, table)) if place.level == 0 && addresses.contains(&addr) => {
                    Place {
                        index: A::index(addr, 0),
                        ..*table
                    }
                }
                _ => child.own_or_create((addr, Liveness::SURE), place.level, gather)?,
            };
            last = (place.level == 0).then(|| (region::<A>(addr, 1), target));
            if self.copy_leaf((addr, place), (child, target), copy.cow) == Writes::Forbidden {
                gather.changed(region::<A>(addr, place.level), place.level);
            }
        }
        Ok(())
    }

    /// Copies one entry to the child's `target`.
    fn copy_leaf(
        &self,
        (addr, place): (u64, Place<'_>),
        (child, target): (&Self, Place<'_>),
        cow: Cow,
    ) -> Writes {
        let cow = match place.entry::<A>() {
            // INVARIANT: PT2, whatever the caller says.
            Entry::Leaf(leaf) if leaf.attributes.kind == PageKind::Anon => Cow::Private,
            _ => cow,
        };
        let entry = match cow {
            Cow::Private => table::update_leaf::<A>(place.word(), place.level, |leaf| {
                leaf.without(LeafFlags::WRITE)
            }),
            Cow::Shared => place.entry::<A>(),
        };
        let Entry::Leaf(leaf) = entry else {
            return Writes::AsBefore;
        };
        if is_counted(leaf) {
            self.memory.info(leaf.frame).retain();
        }
        let (dropped, writes) = match cow {
            Cow::Private if leaf.is_writable() => (LeafFlags::WRITE, Writes::Forbidden),
            Cow::Private => (LeafFlags::empty(), Writes::AsBefore),
            Cow::Shared => (LeafFlags::DIRTY, Writes::AsBefore),
        };
        let copy = Entry::Leaf(leaf.without(dropped | LeafFlags::ACCESSED));
        child
            .hold(target.table)
            .put::<A>(target.index, target.level, copy);
        if let Some(class) = Class::of(copy) {
            child.count_in(addr, (class, target.level), 1);
        }
        writes
    }
}

/// What copying a page did to its own entry.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Writes {
    AsBefore,
    /// The right to write was taken away: caches are to be flushed.
    Forbidden,
}
