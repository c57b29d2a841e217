//! What nobody saw: a process that was joined has done things before that nothing shows.
//!
//! Whether a mapping ever held private data, which of two mappings had it from the same place,
//! where a mapping lay before it was moved: Linux joins neighbours by such things. So where two
//! mappings that are alike meet, the kernel may see a border and the model none, or the other way
//! round. In such an address space that is learned; anything else that differs is a divergence.
//!
//! Nor does anybody see in which order neighbours were written between two looks. Where that was so,
//! and for those only, the order is learned from the border that the kernel leaves.
//!
//! Nobody sees either whether a thread wrote just before or just after another's call did its work:
//! the kernel is asked before the call and when it is over. Both may have left the same mappings,
//! and lead to others later. Where that was so, the same is not called a divergence but counted as
//! not modelled. Where the call took the only written page away, there is not even that to see: what
//! is left of the mapping is remembered, and only a border there counted so.

use maple_mm::abi::{MADV_DONTNEED, MADV_DONTNEED_LOCKED, MADV_FREE, MADV_GUARD_INSTALL};

use super::call::Compared;
use super::{Ranges, Session, address};
use crate::call::Call;
use crate::compare::{self, Comparison};
use crate::details;
use crate::engine::{MmId, Place};
use crate::event::Event;

/// What is known of an address space before it was mirrored.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Past {
    /// Everything: it has been mirrored since its program began.
    Known,
    /// Nothing but what `/proc` shows.
    Unknown,
    /// Everything but the moment of some writes of threads.
    Raced,
}

/// How what follows from [`Past::Raced`] is counted.
const RACED: &str = "a thread that wrote while another was in a call";

const PAGE: u64 = 4096;

impl Session {
    fn past(&self, mm: MmId) -> Past {
        self.spaces.get(&mm).map_or(Past::Known, |space| space.past)
    }

    /// Asks what was written while a call was under way, where others could write. When they did is
    /// not known, and the model takes it for later.
    pub(super) fn learn_races(&mut self, mm: MmId, call: &Call, near: &Ranges) {
        if !self.has_company() {
            return;
        }
        if self.learn_writes(mm, near) {
            self.note_race(mm);
        }
        self.note_unwitnessed(mm, call, near);
    }

    /// Remembers what a call left of mappings that seem unwritten, if it took pages away: it may
    /// have taken the only one that was written after the kernel was asked, but not the anon_vma
    /// that the mapping got by that.
    fn note_unwitnessed(&mut self, mm: MmId, call: &Call, near: &Ranges) {
        /// Older ones are forgotten.
        const MOST: usize = 64;
        let Ranges::Near(near) = near else {
            return;
        };
        // Who waits in `vfork` writes nothing.
        if self.verdict.threads == 0 || !takes_pages(call) {
            return;
        }
        let left = self.mirror.unwritten_near(mm, near);
        let Some(space) = self.spaces.get_mut(&mm) else {
            return;
        };
        space.unwitnessed.retain(|range| !left.contains(range));
        space.unwitnessed.extend(left);
        let surplus = space.unwitnessed.len().saturating_sub(MOST);
        space.unwitnessed.drain(..surplus);
    }

    /// Remembers where neighbours, of `candidates` in ascending order, were first written between
    /// the same two looks: which of them came first decides whose anon_vma the other shares, and so
    /// how both merge later.
    pub(super) fn note_order(&mut self, mm: MmId, candidates: &[(u64, u64)], pages: &[u64]) {
        /// Older ones are forgotten.
        const MOST: usize = 64;
        let Some(space) = self.spaces.get_mut(&mm) else {
            return;
        };
        let is_written = |range: &&(u64, u64)| {
            let mut pages = pages.iter();
            pages.any(|page| (range.0..range.1).contains(page))
        };
        let written: Vec<_> = candidates.iter().filter(is_written).collect();
        for pair in written.windows(2) {
            if pair[0].1 == pair[1].0 {
                space.unordered.push((pair[0].0, pair[1].1));
            }
        }
        let surplus = space.unordered.len().saturating_sub(MOST);
        space.unordered.drain(..surplus);
    }

    /// Whether a call may have others beside it in its address space.
    fn has_company(&self) -> bool {
        self.has_sharers || self.verdict.threads > 0
    }

    /// Remembers that somebody wrote, nobody knows when.
    pub(super) fn note_race(&mut self, mm: MmId) {
        let has_company = self.has_company();
        if let Some(space) = self.spaces.get_mut(&mm)
            && space.past == Past::Known
            && has_company
        {
            space.past = Past::Raced;
        }
    }

    /// Follows the kernel where two digests of [`crate::details`] differ in nothing but what a write
    /// that nobody saw decides: whether memory that may not be written any more is still promised.
    /// Says whether that was so.
    pub(super) fn learn_promised(&mut self, place: Place, kernel: &str, model: &str) -> bool {
        let without = |text: &str| text.replace(" ac", "");
        if without(kernel) != without(model) {
            return false;
        }
        if self.past(place.mm) != Past::Known {
            self.follow(place);
            return true;
        }
        let Some(space) = self.spaces.get(&place.mm) else {
            return false;
        };
        let pairs = kernel.lines().zip(model.lines());
        let mut differing = pairs.filter_map(|(line, other)| (line != other).then_some(line));
        let is_explained = differing.all(|line| {
            details::range_of(line).is_some_and(|range| overlaps(&space.unwitnessed, range))
        });
        if is_explained {
            self.pass_over(place, RACED);
        }
        is_explained
    }

    /// Counts what could not be predicted for what nobody saw, and follows the kernel.
    fn follow(&mut self, place: Place) {
        if self.past(place.mm) == Past::Raced {
            return self.pass_over(place, RACED);
        }
        self.verdict.learned.history += 1;
        self.resync(place);
    }

    /// `/proc` shows the page that the break lies in; what a call returns shows the rest.
    pub(super) fn learn_break(&mut self, mm: MmId, call: &Call, result: i64) {
        let known = self.mirror.brk(mm).unwrap_or(0);
        if !matches!(call, Call::Brk { .. }) || self.past(mm) != Past::Unknown {
            return;
        }
        if let Some(addr) = address(result)
            && addr != known
            && addr.div_ceil(PAGE) == known.div_ceil(PAGE)
        {
            self.verdict.learned.history += 1;
            self.learn(&Event::Break { mm, addr });
        }
    }

    /// Follows the kernel where nothing differs but borders that depend on what nobody saw. Says
    /// whether that was so.
    pub(super) fn learn_borders(
        &mut self,
        place: Place,
        compared: &Compared<'_>,
        seen: &Comparison,
    ) -> bool {
        let mm = place.mm;
        let Comparison::Different { kernel, model } = seen else {
            return false;
        };
        if compared.predicted != compared.result {
            return false;
        }
        let Some(divided) = compare::differing_borders(kernel, model) else {
            return false;
        };
        if self.past(mm) != Past::Known {
            self.verdict.comparisons += 1;
            self.follow(place);
            return true;
        }
        let Some(space) = self.spaces.get_mut(&mm) else {
            return false;
        };
        let is_unordered = |range: &(u64, u64)| overlaps(&space.unordered, *range);
        let is_explained = divided.iter().all(is_unordered);
        if is_explained {
            // What it was joined with hangs on the same.
            space.unordered.extend(divided);
            self.verdict.comparisons += 1;
            self.verdict.learned.orders += 1;
            self.resync(place);
            return true;
        }
        let is_unwitnessed = |range: &(u64, u64)| overlaps(&space.unwitnessed, *range);
        let is_explained = divided
            .iter()
            .all(|range| is_unordered(range) || is_unwitnessed(range));
        if is_explained {
            space.unwitnessed.extend(divided);
            self.verdict.comparisons += 1;
            self.pass_over(place, RACED);
        }
        is_explained
    }
}

/// Whether one of `ranges` has something of `start..end`.
fn overlaps(ranges: &[(u64, u64)], (start, end): (u64, u64)) -> bool {
    ranges.iter().any(|range| start < range.1 && range.0 < end)
}

/// Whether a call can take away pages that were written while it was under way.
const fn takes_pages(call: &Call) -> bool {
    match *call {
        Call::Munmap { .. } | Call::Mremap { .. } | Call::Brk { .. } => true,
        Call::Mmap { flags, .. } => flags & libc::MAP_FIXED as u64 != 0,
        Call::Shmat { flags, .. } => flags & libc::SHM_REMAP as u64 != 0,
        Call::Madvise { advice, .. } => matches!(
            advice,
            MADV_DONTNEED | MADV_FREE | MADV_DONTNEED_LOCKED | MADV_GUARD_INSTALL
        ),
        _ => false,
    }
}
