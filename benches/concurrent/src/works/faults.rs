//! Pages that are not there, and are brought in.

use super::{BASE, BLOCK, Subject, WRITABLE, fixed};
use crate::args::Effort;
use crate::crew;
use crate::space::{self, Space};
use crate::work::Figure;
use maple_mm::Access;
use maple_mm::abi::{MADV_DONTNEED, PAGE_SIZE};
use std::ops::Range;

/// Which pages are whose.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Pattern {
    /// Each thread has a region, with tables of its own.
    Apart,
    /// Threads have the pages of one region by turns, so that they are at one table at a time.
    Together,
}

pub(crate) struct Faults<S> {
    spaces: Vec<S>,
    pattern: Pattern,
    access: Access,
    /// What each thread faults.
    pages: u64,
}

impl<S: Space> Faults<S> {
    pub(crate) fn new(
        (spaces, most): (usize, usize),
        (pattern, access): (Pattern, Access),
        effort: &Effort,
    ) -> anyhow::Result<Self> {
        let pages = effort.pages;
        let threads_of_each = most.div_ceil(spaces) as u64;
        // Tables, too.
        let frames = threads_of_each * (pages + pages / 256 + 8) + 64;
        let spaces = (0..spaces).map(|_| S::new(space::memory(frames)?));
        let faults = Self {
            spaces: spaces.collect::<anyhow::Result<_>>()?,
            pattern,
            access,
            pages,
        };
        for (space, region) in faults.regions(most) {
            let (addr, len) = (region.start, region.end - region.start);
            let request = fixed(addr, len, WRITABLE);
            space.change(|space| space.mmap(request)).0?;
            // The first write changes the mapping, too.
            for addr in region.step_by(PAGE_SIZE as usize) {
                space.fault(addr, Access::Write)?;
            }
        }
        Ok(faults)
    }

    fn space(&self, thread: usize) -> &S {
        &self.spaces[thread % self.spaces.len()]
    }

    /// Whether threads meet at tables.
    fn is_together(&self) -> bool {
        self.pattern == Pattern::Together && self.spaces.len() == 1
    }

    /// What `threads` threads fault in all, and in which address space.
    fn regions(&self, threads: usize) -> Vec<(&S, Range<u64>)> {
        let len = self.pages * PAGE_SIZE;
        if self.is_together() {
            return vec![(self.space(0), BASE..BASE + threads as u64 * len)];
        }
        let region = |thread| {
            let start = BASE + thread as u64 * (len.next_multiple_of(BLOCK) + BLOCK);
            (self.space(thread), start..start + len)
        };
        (0..threads).map(region).collect()
    }

    /// Where `thread` begins, and how far its pages lie apart.
    fn pages_of(&self, thread: usize, threads: usize) -> (u64, u64) {
        if self.is_together() {
            let first = BASE + thread as u64 * PAGE_SIZE;
            return (first, threads as u64 * PAGE_SIZE);
        }
        let (_, region) = &self.regions(thread + 1)[thread];
        (region.start, PAGE_SIZE)
    }

    fn resident(&self) -> u64 {
        let each = self.spaces.iter();
        each.map(|space| space.statistics().resident.anon).sum()
    }
}

impl<S: Space> Subject for Faults<S> {
    fn turn(&mut self, threads: usize) -> Result<Vec<(Figure, f64)>, String> {
        for (space, region) in self.regions(threads) {
            let len = region.end - region.start;
            let (dropped, _) =
                space.change(|space| space.madvise(region.start, len, MADV_DONTNEED));
            dropped.map_err(|error| format!("madvise: {error}"))?;
        }
        let before = self.resident();
        let shares = crew::all(threads, |thread| {
            let space = self.space(thread);
            let (first, step) = self.pages_of(thread, threads);
            (0..self.pages).try_for_each(|page| space.fault(first + page * step, self.access))
        });
        for share in &shares {
            share.done.map_err(|fault| format!("a fault: {fault:?}"))?;
        }
        let faults = threads as u64 * self.pages;
        let expected = match self.access {
            Access::Write => faults,
            // The zero page is not counted.
            _ => 0,
        };
        let found = self.resident() - before;
        if found != expected {
            return Err(format!("{found} pages came in, not {expected}"));
        }
        let rate = faults as f64 / crew::seconds(&shares) / 1e3;
        Ok(vec![(Figure::Rate, rate)])
    }
}
