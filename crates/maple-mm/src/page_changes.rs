//! What a change of mappings means for their pages.

use alloc::vec::Vec;
use core::ops::Range;

use maple_tree::IndexRange;

use crate::errno::Errno;
use crate::flags::VmFlags;
use crate::page_side::PageChange;
use crate::paging::MoveRange;
use crate::space::Mappings;
use crate::teardown::Teardown;
use crate::vma::Vma;

/// The changes to pages that a change of the tree makes necessary, in order.
///
/// - Pages move first: from there on they are where their new mapping is.
/// - What is cleared loses its pages.
/// - A mapping stored over another continues it: the pages stay, their rights change.
#[derive(Debug, Default)]
pub(crate) struct PageChanges {
    list: Vec<PageChange>,
}

impl PageChanges {
    fn push(&mut self, change: PageChange) -> Result<(), Errno> {
        self.list.try_reserve(1).map_err(|_| Errno::ENOMEM)?;
        self.list.push(change);
        Ok(())
    }

    pub(crate) fn moved(&mut self, range: MoveRange) -> Result<(), Errno> {
        match range.len {
            0 => Ok(()),
            _ => self.push(PageChange::Move(range)),
        }
    }

    pub(crate) fn guarded(&mut self, range: Range<u64>) -> Result<(), Errno> {
        self.push(PageChange::Guard(range))
    }

    pub(crate) fn clear(&mut self, range: IndexRange) -> Result<(), Errno> {
        self.push(PageChange::Clear(Teardown::of(exclusive(range))))
    }

    /// `vma` takes the place of what `tree` has in its range.
    pub(crate) fn put(&mut self, vma: &Vma, tree: &Mappings) -> Result<(), Errno> {
        let flags = vma.flags();
        for (at, old) in tree.range(vma.start()..vma.end()) {
            let Some(part) = at.intersection(vma.index_range()) else {
                continue;
            };
            // The pieces of a mapping around what is cleared keep their flags.
            if loses_rights(old.flags(), flags) && !self.clears(&exclusive(part)) {
                let range = exclusive(part);
                self.push(PageChange::Protect { range, flags })?;
            }
        }
        Ok(())
    }

    fn clears(&self, part: &Range<u64>) -> bool {
        self.list.iter().any(|change| match change {
            PageChange::Clear(Teardown { mappings, .. }) => {
                mappings.start <= part.start && part.end <= mappings.end
            }
            _ => false,
        })
    }

    pub(crate) fn as_slice(&self) -> &[PageChange] {
        &self.list
    }

    /// Whether a range is cleared, and nothing else.
    pub(crate) fn only_clear(&self) -> bool {
        matches!(self.list.as_slice(), [PageChange::Clear(_)])
    }

    /// Finds the neighbours of what was cleared in `tree`, as it is now.
    pub(crate) fn bound(&mut self, tree: &Mappings) {
        for change in &mut self.list {
            if let PageChange::Clear(teardown) = change {
                teardown.tables = neighbours(tree, &teardown.tree);
            }
        }
    }
}

/// Whether entries for pages say something else when their mapping's flags change. The right to
/// write is not given to pages by a change: the next write finds out whether it may.
fn loses_rights(old: VmFlags, new: VmFlags) -> bool {
    let any = |flags: VmFlags| flags.intersects(VmFlags::ACCESS);
    let write = |flags: VmFlags| flags.contains(VmFlags::WRITE);
    let execute = |flags: VmFlags| flags.contains(VmFlags::EXEC);
    any(old) != any(new) || execute(old) != execute(new) || write(old) && !write(new)
}

/// From the end of the mapping below to the start of the one above; 0 for none above.
fn neighbours(tree: &Mappings, range: &Range<u64>) -> Range<u64> {
    let below = range.start.checked_sub(1);
    let floor = below
        .and_then(|last| tree.at_or_before(last))
        .map_or(0, |(at, _)| at.last().saturating_add(1).min(range.start));
    let ceiling = tree
        .at_or_after(range.start)
        .map_or(0, |(at, _)| at.first().max(range.end));
    floor..ceiling
}

/// The same range as addresses, its end exclusive.
const fn exclusive(range: IndexRange) -> Range<u64> {
    range.first()..range.last() + 1
}
