//! Giving part of a mapping other flags: merge with a neighbour, or split.

use crate::anon::Local;
use crate::charge::Charge;
use crate::errno::Errno;
use crate::flags::VmFlags;
use crate::held::Held;
use crate::merge::{Candidate, Neighbours, merge_existing};
use crate::page_side::PageSide;
use crate::space::AddressSpace;
use crate::unmap::cannot_be_split;
use crate::vma::{Content, Vma};

/// A change of flags over `start..end`, which lies in `vma`.
#[derive(Debug)]
pub(crate) struct Change {
    pub(crate) part: Part,
    pub(crate) flags: VmFlags,
    /// What stands behind it from now on, if that changes.
    pub(crate) held: Option<Held>,
    /// Pages promised for it already.
    pub(crate) charge: Charge,
}

impl<P: PageSide> AddressSpace<P> {
    /// Carries out a change.
    ///
    /// - `ENOMEM`: a split would exceed `max_map_count`. A first split stays.
    /// - `EINVAL`: the mapping cannot be split there. A first split stays.
    ///
    /// On error what was promised is given back.
    pub(crate) fn modify(&mut self, change: Change) -> Result<(), Errno> {
        let Part { vma, start, end } = &change.part;
        let content = Content {
            flags: change.flags,
            page_offset: vma.page_offset_at(*start),
            held: change.held.as_ref().unwrap_or(vma.held()).clone(),
            anon: vma.anon(),
        };
        let is_forked = vma.anon().is_forked();
        let candidate = Candidate {
            start: *start,
            end: *end,
            content: &content,
            is_forked,
        };
        let prev = self.vma_before(vma.start()).map(|prev| self.local(prev));
        let next = self.local_at(vma.end());
        let around = Neighbours {
            prev: prev.as_deref(),
            next: next.as_deref(),
        };
        let merged = merge_existing(&self.profile, vma, candidate, around);
        if merged.is_none() {
            self.check_splits(&change)?;
        }
        let mut edits = self.edits();
        edits.outer_pieces(vma, *start, *end)?;
        edits.put_some(merged.or_else(|| Vma::new(*start, *end, content)))?;
        self.commit_charged(edits, change.charge)
    }

    /// Whether the splits a change needs may be made.
    fn check_splits(&mut self, change: &Change) -> Result<(), Errno> {
        let Part { vma, start, end } = &change.part;
        let at_start = vma.start() < *start;
        let at_end = *end < vma.end();
        if !at_start && !at_end {
            return Ok(());
        }
        self.may_split()?;
        let first = if at_start { *start } else { *end };
        if cannot_be_split(vma, first) {
            return Err(Errno::EINVAL);
        }
        if !at_start || !at_end {
            return Ok(());
        }
        let max = self.system.max_map_count();
        let refusal = if self.map_count() + 1 >= max {
            Errno::ENOMEM
        } else if cannot_be_split(vma, *end) {
            Errno::EINVAL
        } else {
            return Ok(());
        };
        // LINUX: the first of two splits is made before the second is refused, and stays.
        let mut edits = self.edits();
        edits.split_at(vma, *start)?;
        self.commit(edits)?;
        Err(refusal)
    }

    /// Walks the mappings of `start..end` in order and hands each with its part of the range to
    /// `visit`, which may change it.
    ///
    /// The outcome says whether there were holes.
    pub(crate) fn walk(
        &mut self,
        range: core::ops::Range<u64>,
        mut visit: impl FnMut(&mut Self, Part) -> Result<(), Errno>,
    ) -> Result<Holes, Errno> {
        let mut holes = Holes::None;
        let mut at = range.start;
        while at < range.end {
            let Some(vma) = self
                .find_vma(at)
                .filter(|vma| vma.start() < range.end)
                .map(|vma| self.local(vma))
            else {
                return Ok(Holes::Some);
            };
            if at < vma.start() {
                holes = Holes::Some;
            }
            let part_start = at.max(vma.start());
            let part_end = range.end.min(vma.end());
            visit(
                self,
                Part {
                    vma,
                    start: part_start,
                    end: part_end,
                },
            )?;
            at = part_end;
        }
        Ok(holes)
    }
}

/// The part of a mapping that a call's range covers.
#[derive(Clone, Debug)]
pub(crate) struct Part {
    pub(crate) vma: Local,
    pub(crate) start: u64,
    pub(crate) end: u64,
}

impl Part {
    pub(crate) fn with_flags(self, flags: VmFlags) -> Change {
        Change {
            part: self,
            flags,
            held: None,
            charge: Charge::NONE,
        }
    }
}

/// Whether a walk met addresses where nothing is mapped.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Holes {
    None,
    Some,
}
