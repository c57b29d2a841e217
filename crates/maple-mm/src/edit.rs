//! Changes to the tree: gathered first, reserved, then carried out without failing.

use alloc::sync::Arc;
use alloc::vec;
use alloc::vec::Vec;

use maple_tree::IndexRange;

use crate::abi::PAGE_SIZE;
use crate::accounting::Statistics;
use crate::errno::Errno;
use crate::space::AddressSpace;
use crate::vma::Vma;

/// One change to the tree.
#[derive(Clone, Debug)]
pub(crate) enum Edit {
    /// Store the mapping over exactly its range.
    Put(Arc<Vma>),
    /// Leave nothing in the range.
    Clear(IndexRange),
}

impl Edit {
    pub(crate) fn put(vma: Vma) -> Self {
        Self::Put(Arc::new(vma))
    }

    /// The part of the tree that changes.
    fn range(&self) -> IndexRange {
        match self {
            Self::Put(vma) => vma.index_range(),
            Self::Clear(range) => *range,
        }
    }
}

/// The counters that the part of `vma` in `range` makes.
fn counters(vma: &Vma, range: IndexRange) -> Statistics {
    let bytes = range.count().unwrap_or(0);
    Statistics::of(vma.flags(), bytes / PAGE_SIZE)
}

impl AddressSpace {
    /// Carries out `edits` in order and keeps the counters true.
    ///
    /// Whatever the call charged before must be covered by `charged`; the difference to what the
    /// edits really change is settled here. An error leaves everything unchanged and takes the
    /// charge back.
    pub(crate) fn commit_charged(&mut self, edits: Vec<Edit>, charged: u64) -> Result<(), Errno> {
        if edits.is_empty() {
            self.system.uncharge(charged);
            return Ok(());
        }
        let before = self.statistics.committed;
        let Ok(mut writes) = self.tree.preallocate(edits.len()) else {
            self.system.uncharge(charged);
            return Err(Errno::ENOMEM);
        };
        let mut sums = self.statistics;
        for edit in edits {
            let range = edit.range();
            for (whole, vma) in writes.range(range.first()..=range.last()) {
                if let Some(part) = whole.intersection(range) {
                    sums = sums.minus(counters(vma, part));
                }
            }
            match edit {
                Edit::Put(vma) => {
                    sums = sums.plus(counters(&vma, range));
                    writes.store(range, vma);
                }
                Edit::Clear(range) => writes.remove(range),
            }
        }
        drop(writes);
        self.statistics = sums;
        self.system
            .charge_unchecked(sums.committed.wrapping_sub(before).wrapping_sub(charged));
        Ok(())
    }

    /// Carries out `edits` for which nothing was charged.
    pub(crate) fn commit(&mut self, edits: Vec<Edit>) -> Result<(), Errno> {
        self.commit_charged(edits, 0)
    }

    /// Stores one mapping.
    pub(crate) fn commit_put(&mut self, vma: &Arc<Vma>) -> Result<(), Errno> {
        self.commit(vec![Edit::Put(Arc::clone(vma))])
    }
}

/// The pieces of `vma` outside `start..end`, as edits that store them.
pub(crate) fn outer_pieces(vma: &Vma, start: u64, end: u64) -> impl Iterator<Item = Edit> {
    let lower = vma.with_range(vma.start(), start.min(vma.end()));
    let upper = vma.with_range(end.max(vma.start()), vma.end());
    [lower, upper].into_iter().flatten().map(Edit::put)
}

/// The two pieces of `vma` around `at`, as edits; none when `at` does not lie inside.
pub(crate) fn split_at(vma: &Vma, at: u64) -> impl Iterator<Item = Edit> {
    let inside = vma.start() < at && at < vma.end();
    let pieces = inside.then(|| {
        [
            vma.with_range(vma.start(), at),
            vma.with_range(at, vma.end()),
        ]
    });
    pieces.into_iter().flatten().flatten().map(Edit::put)
}
