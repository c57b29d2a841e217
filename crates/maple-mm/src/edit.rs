//! Changes to the tree: gathered first, reserved, then carried out without failing.

use alloc::vec::Vec;
use core::ops::Range;

use maple_tree::IndexRange;

use crate::abi::PAGE_SIZE;
use crate::accounting::Tally;
use crate::charge::Charge;
use crate::errno::Errno;
use crate::memory::{VmaPool, VmaRef};
use crate::page_changes::PageChanges;
use crate::page_side::PageSide;
use crate::paging::MoveRange;
use crate::space::AddressSpace;
use crate::vma::Vma;

/// One change to the tree.
#[derive(Debug)]
enum Edit {
    /// Store the mapping over exactly its range.
    Put(VmaRef),
    /// Leave nothing in the range.
    Clear(IndexRange),
}

impl Edit {
    /// The part of the tree that changes.
    fn range(&self) -> IndexRange {
        match self {
            Self::Put(vma) => vma.index_range(),
            Self::Clear(range) => *range,
        }
    }
}

/// Changes to the tree, in order; every mapping they store has its memory already.
#[derive(Debug)]
pub(crate) struct Edits {
    pool: &'static VmaPool,
    list: Vec<Edit>,
    /// Pages that move before anything else happens.
    moved: Option<MoveRange>,
    /// Where guards take the place of pages.
    guarded: Option<Range<u64>>,
}

impl Edits {
    fn push(&mut self, edit: Edit) -> Result<(), Errno> {
        self.list.try_reserve(1).map_err(|_| Errno::ENOMEM)?;
        self.list.push(edit);
        Ok(())
    }

    /// Stores `vma` over exactly its range.
    pub(crate) fn put(&mut self, vma: Vma) -> Result<(), Errno> {
        let vma = VmaRef::new(vma, self.pool)?;
        self.push(Edit::Put(vma))
    }

    /// As [`put`](Self::put), if there is a mapping.
    pub(crate) fn put_some(&mut self, vma: Option<Vma>) -> Result<(), Errno> {
        vma.map_or(Ok(()), |vma| self.put(vma))
    }

    /// Stores a mapping that has its memory.
    pub(crate) fn put_ref(&mut self, vma: VmaRef) -> Result<(), Errno> {
        self.push(Edit::Put(vma))
    }

    /// Leaves nothing in `range`.
    pub(crate) fn clear(&mut self, range: IndexRange) -> Result<(), Errno> {
        self.push(Edit::Clear(range))
    }

    /// Moves pages before mappings change.
    pub(crate) const fn move_pages(&mut self, range: MoveRange) {
        self.moved = Some(range);
    }

    /// Puts guards in the place of the pages of `range`.
    pub(crate) fn guard(&mut self, range: Range<u64>) {
        self.guarded = Some(range);
    }

    /// Stores the pieces of `vma` outside `start..end`.
    pub(crate) fn outer_pieces(&mut self, vma: &Vma, start: u64, end: u64) -> Result<(), Errno> {
        self.put_some(vma.with_range(vma.start(), start.min(vma.end())))?;
        self.put_some(vma.with_range(end.max(vma.start()), vma.end()))
    }

    /// Stores the two pieces of `vma` around `at`; nothing when `at` does not lie inside.
    pub(crate) fn split_at(&mut self, vma: &Vma, at: u64) -> Result<(), Errno> {
        if at <= vma.start() || vma.end() <= at {
            return Ok(());
        }
        self.put_some(vma.with_range(vma.start(), at))?;
        self.put_some(vma.with_range(at, vma.end()))
    }
}

/// What the part of `vma` in `range` adds to the counters.
fn counted(vma: &Vma, range: IndexRange) -> Tally {
    let bytes = range.count().unwrap_or(0);
    Tally::of(vma, bytes / PAGE_SIZE)
}

/// The range from the lower of both to the higher.
fn hull(left: IndexRange, right: IndexRange) -> IndexRange {
    let (first, last) = (
        left.first().min(right.first()),
        left.last().max(right.last()),
    );
    IndexRange::new(first, last).unwrap_or(left)
}

impl<P: PageSide> AddressSpace<P> {
    /// No changes yet.
    pub(crate) fn edits(&self) -> Edits {
        Edits {
            pool: self.system.pool(),
            list: Vec::new(),
            moved: None,
            guarded: None,
        }
    }

    /// What `edits` mean for pages.
    fn page_changes(&self, edits: &Edits) -> Result<PageChanges, Errno> {
        let mut changes = PageChanges::default();
        if !P::HAS_PAGES {
            return Ok(changes);
        }
        if let Some(range) = edits.moved {
            changes.moved(range)?;
        }
        if let Some(range) = &edits.guarded {
            changes.guarded(range.clone())?;
        }
        for edit in &edits.list {
            match edit {
                Edit::Put(vma) => changes.put(vma, &self.tree)?,
                Edit::Clear(range) => changes.clear(*range)?,
            }
        }
        Ok(changes)
    }

    /// Carries out `edits` in order and keeps the counters true.
    ///
    /// Whatever the call charged before must be covered by `charge`; the difference to what the
    /// edits really change is settled here. An error leaves everything unchanged and takes the
    /// charge back.
    pub(crate) fn commit_charged(&mut self, edits: Edits, charge: Charge) -> Result<(), Errno> {
        if edits.list.is_empty() {
            return Ok(());
        }
        let mut changes = self.page_changes(&edits)?;
        let (moved, promises) = (edits.moved, self.promises);
        let edits = edits.list;
        let hull = edits.iter().map(Edit::range).reduce(hull);
        let watched = self.tell_of(&edits).then(|| self.tree.snapshot());
        let mut writes = self
            .tree
            .preallocate(edits.len())
            .map_err(|_| Errno::ENOMEM)?;
        let mut prepared = match P::HAS_PAGES {
            // Last of all that can fail: what is prepared is carried out.
            true => Some(self.pages.prepare(changes.as_slice())?),
            false => None,
        };
        let before = self.tally;
        let mut sums = before;
        for edit in edits {
            let range = edit.range();
            for (whole, vma) in writes.range(range.first()..=range.last()) {
                if let Some(part) = whole.intersection(range) {
                    sums = sums.minus(counted(vma, part));
                    if promises.is_expected() && matches!(edit, Edit::Clear(_)) {
                        promises.unmapped(vma, part.first()..part.last() + 1, moved);
                    }
                }
            }
            match edit {
                Edit::Put(vma) => {
                    debug_assert!(
                        !self.anon_origin.is_inherited(vma.anon()),
                        "every change makes what it stores its own"
                    );
                    sums = sums.plus(counted(&vma, range));
                    writes.store(range, vma);
                }
                Edit::Clear(range) => {
                    writes.remove(range);
                    // Before another mapping is there: what is written to it stays.
                    if let Some(prepared) = prepared.take_if(|_| changes.only_clear()) {
                        changes.bound(&writes);
                        self.pages.carry_out(changes.as_slice(), prepared);
                    }
                }
            }
            // So that tests find who relies on what is so only now.
            #[cfg(test)]
            crate::shared::tests::pause();
        }
        drop(writes);
        self.tally = sums;
        self.peak_vm = self.peak_vm.max(sums.statistics.total_vm);
        if let Some(prepared) = prepared {
            // The tree comes first: who faults from now on finds the new mappings.
            changes.bound(&self.tree);
            self.pages.carry_out(changes.as_slice(), prepared);
        }
        let added = sums
            .statistics
            .committed
            .wrapping_sub(before.statistics.committed);
        self.system
            .charge_unchecked(added.wrapping_sub(charge.keep()));
        if let (Some(before), Some(range)) = (watched, hull) {
            self.tell_change(&before, range);
        }
        Ok(())
    }

    /// Whether somebody may have to be told of `edits`.
    fn tell_of(&self, edits: &[Edit]) -> bool {
        let begins = |edit: &Edit| matches!(edit, Edit::Put(vma) if vma.has_hooks());
        self.system.hooks().is_some() && (self.tally.hooked > 0 || edits.iter().any(begins))
    }

    /// Carries out `edits` for which nothing was charged.
    pub(crate) fn commit(&mut self, edits: Edits) -> Result<(), Errno> {
        self.commit_charged(edits, Charge::NONE)
    }

    /// Stores one mapping.
    pub(crate) fn commit_put(&mut self, vma: Vma) -> Result<(), Errno> {
        let mut edits = self.edits();
        edits.put(vma)?;
        self.commit(edits)
    }
}
