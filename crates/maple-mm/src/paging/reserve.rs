//! What a change has before it begins, so that it does not fail beside others.

use core::fmt;
use core::ops::Range;

use super::arch::{Arch, Entry};
use super::company::{Company, State};
use super::gather::{Gather, TlbFlusher};
use super::memory::{OutOfFrames, PhysMemory};
use super::stock::Stock;
use super::tables::PageTables;

/// What was set aside for changes that were prepared; whoever does not make them drops it.
///
/// Faults go on between preparing a change and making it. They add small pages and tables, and
/// make tables their own, which does no harm; but they may map a huge page over an edge, which is
/// then to be split: there is a frame for that. What moves, and where guards are laid, tables must
/// stay as prepared: the gate is closed.
///
/// Where nobody is beside, there is nothing to set aside.
pub struct Reserve<'t, A: Arch, M: PhysMemory, C: Company<M>> {
    tables: &'t PageTables<A, M, C>,
    stock: Stock,
    closed: Option<<C::State as State<M>>::Closed<'t>>,
}

impl<A: Arch, M: PhysMemory, C: Company<M>> PageTables<A, M, C> {
    /// Nothing set aside yet.
    pub(crate) const fn reserve(&self) -> Reserve<'_, A, M, C> {
        Reserve {
            tables: self,
            stock: Stock::EMPTY,
            closed: None,
        }
    }
}

impl<A: Arch, M: PhysMemory, C: Company<M>> Reserve<'_, A, M, C> {
    /// Sets a frame aside for each edge of `range` that a huge page may come to lie over.
    pub(crate) fn edges(&mut self, range: &Range<u64>) -> Result<(), OutOfFrames> {
        if !C::BESIDE {
            return Ok(());
        }
        for edge in [range.start, range.end] {
            if !edge.is_multiple_of(A::span(1)) && !self.tables.has_table(edge) {
                self.stock.fill(&self.tables.memory)?;
            }
        }
        Ok(())
    }

    /// Keeps faults out, until the gate is opened or this goes away.
    pub(crate) fn close_gate(&mut self) {
        if C::BESIDE && self.closed.is_none() {
            self.closed = Some(self.tables.close_gate());
        }
    }

    /// Lets faults in, once no processor finds pages where they were: who comes in may give them
    /// up. What is gathered stays: who gives that up may wait for who is at the gate.
    pub(crate) fn open_gate<F: TlbFlusher>(&mut self, gather: &mut Gather<'_, A, M, F, C>) {
        if self.closed.is_some() {
            gather.tell();
            self.closed = None;
        }
    }

    /// Lets what `gather` is used for take frames from here.
    pub(crate) fn lend<F: TlbFlusher>(&mut self, gather: &mut Gather<'_, A, M, F, C>) {
        gather.stock(core::mem::replace(&mut self.stock, Stock::EMPTY));
    }
}

impl<A: Arch, M: PhysMemory, C: Company<M>> PageTables<A, M, C> {
    /// Whether a huge page may be mapped to a range of its size: nothing is there.
    pub(crate) fn may_map_huge(&self, range: Range<u64>) -> bool {
        // LINUX: 6.18 maps none where an empty table is. Alone that is taken out.
        let has_room = !C::BESIDE || self.has_room_for_huge(range.start);
        has_room && self.pages(range).next().is_none()
    }

    /// Whether there is a table where a huge page would lie over `addr`. It stays until who changes
    /// mappings takes it out.
    fn has_table(&self, addr: u64) -> bool {
        let _guard = self.company.guard();
        let place = self.find(addr, 1);
        place.level == 1 && matches!(place.entry::<A>(), Entry::Table(..))
    }

    /// Whether there is neither a page nor a table where a huge page would lie over `addr`.
    fn has_room_for_huge(&self, addr: u64) -> bool {
        let _guard = self.company.guard();
        self.find(addr, 1).entry::<A>() == Entry::Empty
    }
}

impl<A: Arch, M: PhysMemory, C: Company<M>> Drop for Reserve<'_, A, M, C> {
    fn drop(&mut self) {
        self.stock.give_back(&self.tables.memory);
    }
}

impl<A: Arch, M: PhysMemory, C: Company<M>> fmt::Debug for Reserve<'_, A, M, C> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Reserve")
            .field("is_gate_closed", &self.closed.is_some())
            .finish_non_exhaustive()
    }
}

#[cfg(test)]
mod tests;
