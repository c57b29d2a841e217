//! Giving a child all pages at once: both address spaces lead to the same tables.

use core::sync::atomic::Ordering;

use super::arch::{Arch, Entry, Writable};
use super::company::{Company, State as _};
use super::error::PagingError;
use super::gather::{Gather, TlbFlusher};
use super::memory::PhysMemory;
use super::table;
use super::tables::PageTables;

impl<A: Arch, M: PhysMemory, C: Company<M>> PageTables<A, M, C> {
    /// Gives `child`, which has no tables yet, all that is mapped here. Both roots lead to the
    /// same tables, and neither may write below; whoever changes something there first makes the
    /// tables on the way its own.
    ///
    /// `gather` is this address space's; everything is flushed with it, [`Beside`](super::Beside)
    /// others before this returns. The child gets what was there at one moment.
    ///
    /// # Complexity
    ///
    /// O(root entries), whatever is mapped.
    ///
    /// # Errors
    ///
    /// [`PagingError::Occupied`] if the child has tables; [`PagingError::Unsupported`] if the
    /// processor does not honour the right to write of upper entries. Nothing has changed.
    pub fn share_all<F: TlbFlusher>(
        &self,
        child: &mut Self,
        gather: &mut Gather<'_, A, M, F, C>,
    ) -> Result<(), PagingError> {
        if !A::UPPER_WRITE_PROTECT {
            return Err(PagingError::Unsupported);
        }
        if child.pgtables_bytes() != 0 {
            return Err(PagingError::Occupied);
        }
        let closed = self.close_gate();
        let level = A::LEVELS - 1;
        let (root, childs) = (self.root_table(), child.root_table());
        // What is held is the child's, which nobody else knows yet.
        let mut held = child.hold(childs);
        for index in 0..Self::user_entries() {
            if let Entry::Table(table, _) = root.entry::<A>(index, level) {
                self.memory.info(table).retain();
                // INVARIANT: PT1, for both entries.
                table::write_protect::<A>(&root.words[index], level);
                held.put::<A>(index, level, Entry::Table(table, Writable::No));
            }
        }
        drop(held);
        // Who was inside has left, and is counted; who comes later finds the root as it is now.
        child.company.copy_from(&self.company);
        // Relaxed: as in `PageTables::shares`.
        self.shares.fetch_add(1, Ordering::Relaxed);
        *child.shares.get_mut() += 1;
        gather.all_changed();
        if C::BESIDE {
            // What other processors may write still, they may no more when somebody gets in.
            gather.flush();
        }
        drop(closed);
        Ok(())
    }
}
