//! Where calls aim: near what is mapped, near limits, at nothing, past the end.

use std::ops::Range;

use maple_mm::{AddressSpace, Vma, VmaRef, abi::HUGE_PAGE_SIZE};

use super::rng::Rng;
use super::target::{PROTECTED, Purpose};

pub(crate) const PAGE: u64 = 4096;
pub(crate) const HUGE: u64 = HUGE_PAGE_SIZE;
/// Where most fixed mappings go: small, so that they meet.
pub(crate) const ARENA: Range<u64> = 0x20_0000_0000..0x20_0000_0000 + 48 * PAGE;
/// Where most explicitly huge mappings go.
pub(crate) const HUGE_ARENA: Range<u64> = 0x28_0000_0000..0x28_0000_0000 + 12 * HUGE;
/// Where stacks grow.
pub(crate) const STACKS: Range<u64> = 0x30_0000_0000..0x30_0000_0000 + 4096 * PAGE;

/// What a call's arguments are drawn from.
#[derive(Debug)]
pub(crate) struct Chooser<'a> {
    pub(crate) rng: &'a mut Rng,
    /// The model of the process that makes the call, as it stands.
    pub(crate) space: &'a AddressSpace,
    /// The open files, and what each is good for.
    pub(crate) descriptors: &'a [(Purpose, u64)],
    /// The userfaultfds of the process that makes the call.
    pub(crate) watchers: Vec<u64>,
}

impl Chooser<'_> {
    /// A descriptor for a purpose.
    pub(crate) fn descriptor(&self, purpose: Purpose) -> u64 {
        let found = self.descriptors.iter().find(|(of, _)| *of == purpose);
        found.map_or(u64::MAX, |(_, descriptor)| *descriptor)
    }

    /// Any descriptor; seldom one that is not open.
    pub(crate) fn any_descriptor(&mut self) -> u64 {
        if self.rng.one_in(30) {
            return self.rng.pick(&[999, u64::MAX]);
        }
        self.rng.pick(self.descriptors).1
    }

    /// An address at one of the ends of what addresses may be.
    pub(crate) fn wild(&mut self) -> u64 {
        let near = self.rng.pick(&[
            0,
            0x1000,
            0x8000,
            0x1_0000,
            0x7fff_ffff_f000,
            1 << 47,
            u64::MAX,
        ]);
        near.wrapping_add(self.rng.below(3).wrapping_sub(1).wrapping_mul(PAGE))
    }

    /// The mappings that calls may change.
    pub(crate) fn all_owned(&self) -> impl Iterator<Item = &VmaRef> {
        let is_ours = |vma: &&VmaRef| vma.end() <= PROTECTED.start || PROTECTED.end <= vma.start();
        self.space.vmas().filter(is_ours)
    }

    /// A mapping that calls may change.
    pub(crate) fn owned(&mut self) -> Option<Range<u64>> {
        let place = self.rng.below(self.all_owned().count() as u64);
        let vma = self.all_owned().nth(place as usize)?;
        Some(vma.start()..vma.end())
    }

    /// An address, mostly where other calls aim, too.
    pub(crate) fn addr(&mut self) -> u64 {
        let arena = ARENA.start + self.rng.below(48) * PAGE;
        match self.rng.below(40) {
            0 => self.wild(),
            1 => arena + self.rng.below(PAGE),
            2..12 => self.owned().map_or(arena, |range| {
                let pages = ((range.end - range.start) / PAGE).min(64);
                range.start + self.rng.below(pages) * PAGE
            }),
            12..15 => self.boundary().unwrap_or(arena),
            15..17 => STACKS.start + self.rng.below(4096) * PAGE,
            17..21 => self.huge_addr(),
            _ => arena,
        }
    }

    /// The beginning or end of a mapping, or a page beside it.
    fn boundary(&mut self) -> Option<u64> {
        let range = self.owned()?;
        let end = self.rng.pick(&[range.start, range.end]);
        Some(end.wrapping_add(self.rng.below(3).wrapping_sub(1).wrapping_mul(PAGE)))
    }

    /// A small hole, and the mapping below it: what fills it has two neighbours.
    pub(crate) fn hole(&mut self) -> Option<(Range<u64>, &Vma)> {
        const WIDEST: u64 = 16 * PAGE;
        let pairs = || {
            let upper = self.space.vmas().skip(1);
            let pairs = self.space.vmas().zip(upper);
            pairs.filter(|(below, above)| {
                let gap = below.end()..above.start();
                !gap.is_empty() && gap.end - gap.start <= WIDEST && !PROTECTED.contains(&gap.start)
            })
        };
        let place = self.rng.below(pairs().count() as u64);
        let (below, above) = pairs().nth(place as usize)?;
        Some((below.end()..above.start(), below))
    }

    /// In the arena of huge pages; seldom within one.
    pub(crate) fn huge_addr(&mut self) -> u64 {
        let addr = HUGE_ARENA.start + self.rng.below(12) * HUGE;
        if self.rng.one_in(6) {
            addr + self.rng.below(512) * PAGE
        } else {
            addr
        }
    }

    /// A length: a few pages as a rule.
    pub(crate) fn len(&mut self) -> u64 {
        match self.rng.below(64) {
            60.. => (1 + self.rng.below(4)) * HUGE,
            0 => 0,
            1 => self.wild(),
            2 => self.rng.below(40 * PAGE),
            3..8 => (1 + self.rng.below(40)) * PAGE,
            _ => (1 + self.rng.below(8)) * PAGE,
        }
    }

    /// An address and a length: anywhere, a whole mapping, or from one boundary to another.
    pub(crate) fn range(&mut self) -> (u64, u64) {
        let kind = self.rng.below(8);
        if kind < 2
            && let Some(range) = self.owned()
        {
            // Whole mappings merge back.
            return (range.start, range.end - range.start);
        }
        if kind == 2
            && let (Some(one), Some(other)) = (self.boundary(), self.boundary())
            && one.abs_diff(other) < 16 * HUGE
        {
            return (one.min(other), one.abs_diff(other));
        }
        let addr = self.addr();
        if HUGE_ARENA.contains(&addr) && !self.rng.one_in(4) {
            return (addr, (1 + self.rng.below(4)) * HUGE);
        }
        (addr, self.len())
    }

    /// Protection bits: usual ones, seldom strange ones.
    pub(crate) fn protection(&mut self) -> u64 {
        use maple_mm::abi::{PROT_GROWSDOWN, PROT_GROWSUP};
        if self.rng.one_in(25) {
            let strange = [
                8,
                16,
                PROT_GROWSDOWN | 3,
                PROT_GROWSDOWN | 1,
                PROT_GROWSUP | 1,
                1 << 40,
            ];
            self.rng.pick(&strange)
        } else {
            self.rng.pick(&[0, 1, 1, 3, 3, 3, 3, 5, 7, 2, 4])
        }
    }
}
