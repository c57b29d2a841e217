//! Giving part of a mapping other flags: merge with a neighbour, or split.

use alloc::sync::Arc;
use alloc::vec;

use crate::edit::{Edit, outer_pieces, split_at};
use crate::errno::Errno;
use crate::file::Backing;
use crate::flags::VmFlags;
use crate::merge::{Candidate, Neighbours, merge_existing};
use crate::space::AddressSpace;
use crate::vma::{Content, Vma};

/// A change of flags over `start..end`, which lies in `vma`.
#[derive(Clone, Debug)]
pub(crate) struct Change {
    pub(crate) vma: Arc<Vma>,
    pub(crate) start: u64,
    pub(crate) end: u64,
    pub(crate) flags: VmFlags,
    /// Pages promised for it already.
    pub(crate) charged: u64,
}

impl AddressSpace {
    /// Carries out a change.
    ///
    /// - `ENOMEM`: a split would exceed `max_map_count`. A first split stays.
    /// - `EINVAL`: the mapping cannot be split.
    ///
    /// On error what was promised is given back.
    pub(crate) fn modify(&mut self, change: &Change) -> Result<(), Errno> {
        let Change {
            vma, start, end, ..
        } = &change;
        let content = Content {
            flags: change.flags,
            page_offset: vma.page_offset_at(*start),
            ..vma.content()
        };
        let is_forked = vma.anon().is_forked();
        let candidate = Candidate {
            start: *start,
            end: *end,
            content: &content,
            is_forked,
        };
        let prev = self.vma_before(vma.start()).cloned();
        let next = self.vma_at(vma.end()).cloned();
        let around = Neighbours {
            prev: prev.as_deref(),
            next: next.as_deref(),
        };
        if let Some(merged) = merge_existing(&self.profile, vma, candidate, around) {
            let mut edits: vec::Vec<Edit> = outer_pieces(vma, *start, *end).collect();
            edits.push(Edit::put(merged));
            return self.commit_charged(edits, change.charged);
        }
        self.check_splits(change)?;
        let Some(changed) = Vma::new(*start, *end, content) else {
            return Ok(());
        };
        let mut edits: vec::Vec<Edit> = outer_pieces(vma, *start, *end).collect();
        edits.push(Edit::put(changed));
        self.commit_charged(edits, change.charged)
    }

    /// Whether the splits a change needs may be made.
    fn check_splits(&mut self, change: &Change) -> Result<(), Errno> {
        let vma = &change.vma;
        let at_start = vma.start() < change.start;
        let at_end = change.end < vma.end();
        if !at_start && !at_end {
            return Ok(());
        }
        let outcome = self.may_split().and_then(|()| match vma.backing() {
            Backing::Special(_) => Err(Errno::EINVAL),
            _ => Ok(()),
        });
        if let Err(errno) = outcome {
            self.system.uncharge(change.charged);
            return Err(errno);
        }
        let max = self.system.settings().max_map_count;
        if at_start && at_end && self.map_count() + 1 >= max {
            // LINUX: the first of two splits is made before the second is refused, and stays.
            self.commit_charged(split_at(vma, change.start).collect(), change.charged)?;
            return Err(Errno::ENOMEM);
        }
        Ok(())
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
                .cloned()
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
    pub(crate) vma: Arc<Vma>,
    pub(crate) start: u64,
    pub(crate) end: u64,
}

impl Part {
    pub(crate) fn with_flags(self, flags: VmFlags) -> Change {
        Change {
            vma: self.vma,
            start: self.start,
            end: self.end,
            flags,
            charged: 0,
        }
    }
}

/// Whether a walk met addresses where nothing is mapped.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Holes {
    None,
    Some,
}
