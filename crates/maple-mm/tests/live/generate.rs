//! Random calls that keep away from what the executor itself needs.

use std::ops::Range;

use maple_mm::{AddressSpace, Backing, VmFlags, Vma, VmaRef, abi::*};
use testkit::SplitMix;

use crate::apply::number;
use crate::target::Call;

const PAGE: u64 = 4096;
/// Where most fixed mappings go: small, so that they meet.
const ARENA: Range<u64> = 0x20_0000_0000..0x20_0000_0000 + 48 * PAGE;
const HUGE: u64 = HUGE_PAGE_SIZE;
/// Where most explicitly huge mappings go.
const HUGE_ARENA: Range<u64> = 0x28_0000_0000..0x28_0000_0000 + 12 * HUGE;
/// Where stacks grow.
const STACKS: Range<u64> = 0x30_0000_0000..0x30_0000_0000 + 4096 * PAGE;

/// Chooses calls for one process.
#[derive(Clone, Debug)]
pub(crate) struct Generator {
    rng: SplitMix,
    /// What the executor lives in.
    protected: Vec<Range<u64>>,
    lowest_break: u64,
    descriptors: Vec<u64>,
}

impl Generator {
    pub(crate) fn new(seed: u64, space: &AddressSpace, descriptors: &[u64]) -> Self {
        // The executor makes raw calls only, so the kernel's own pages may come to harm.
        let is_needed = |vma: &&VmaRef| !matches!(vma.backing(), Backing::Special(_));
        let protected = space
            .vmas()
            .filter(is_needed)
            .map(|vma| vma.start()..vma.end())
            .collect();
        let lowest_break = space.layout().brk;
        Self {
            rng: SplitMix::new(seed),
            protected,
            lowest_break,
            descriptors: descriptors.to_vec(),
        }
    }

    /// The generator a forked child continues with.
    pub(crate) fn fork(&mut self) -> Self {
        Self {
            rng: SplitMix::new(self.rng.next_u64()),
            ..self.clone()
        }
    }

    pub(crate) fn rng(&mut self) -> &mut SplitMix {
        &mut self.rng
    }

    /// The next call that cannot harm the executor.
    pub(crate) fn call(&mut self, space: &AddressSpace) -> Call {
        loop {
            let call = self.any_call(space);
            if self.is_harmless(call) && !depends_on_pages(space, call) {
                return call;
            }
        }
    }

    fn is_harmless(&self, call: Call) -> bool {
        let [a, b, c, d, e, _] = call.args;
        let free = |start: u64, len: u64| {
            let (first, end) = (
                start & !(PAGE - 1),
                start.saturating_add(len).saturating_add(PAGE),
            );
            !self
                .protected
                .iter()
                .any(|range| range.start < end && first < range.end)
        };
        match call.number {
            number::READ | number::PWRITE => free(b, 1),
            number::MMAP if d & (MAP_FIXED | MAP_FIXED_NOREPLACE) != 0 => free(a, b),
            // Lengths of explicitly huge mappings are rounded up.
            number::MREMAP => free(a, b.saturating_add(HUGE)) && free(e, c.saturating_add(HUGE)),
            number::MMAP | number::BRK | number::MSYNC | number::MLOCKALL | number::MUNLOCKALL => {
                true
            }
            _ => free(a, b),
        }
    }

    fn any_call(&mut self, space: &AddressSpace) -> Call {
        let mut args = [0; 6];
        let number = match self.rng.below(100) {
            0..20 => self.mmap(space, &mut args),
            20..22 => self.huge_mmap(space, &mut args),
            22..32 => self.ranged(space, &mut args, number::MUNMAP),
            32..48 => {
                let number = self.ranged(space, &mut args, number::MPROTECT);
                args[2] = self.protection();
                number
            }
            48..66 => self.touch(space, &mut args),
            66..74 => self.mremap(space, &mut args),
            74..78 => self.brk(space, &mut args),
            78..90 => {
                let number = self.ranged(space, &mut args, number::MADVISE);
                args[2] = self.advice() as u64;
                number
            }
            90..97 => self.lock(space, &mut args),
            97 => {
                let number = self.ranged(space, &mut args, number::MSYNC);
                args[2] = self
                    .rng
                    .pick(&[MS_SYNC, MS_ASYNC, MS_INVALIDATE, MS_SYNC | MS_ASYNC, 8]);
                number
            }
            98 if self.rng.one_in(8) => {
                let number = self.ranged(space, &mut args, number::MSEAL);
                args[1] = args[1].min(2 * PAGE);
                args[2] = u64::from(self.rng.one_in(8));
                number
            }
            _ => self.sweep(&mut args),
        };
        Call { number, args }
    }

    /// Empties an arena now and then, so that there is always room.
    fn sweep(&mut self, args: &mut [u64; 6]) -> u64 {
        let area = self.rng.pick(&[&ARENA, &STACKS, &HUGE_ARENA]);
        (args[0], args[1]) = (area.start, area.end - area.start);
        number::MUNMAP
    }

    fn wild(&mut self) -> u64 {
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

    fn owned(&mut self, space: &AddressSpace) -> Option<Range<u64>> {
        let owned: Vec<Range<u64>> = space
            .vmas()
            .map(|vma| vma.start()..vma.end())
            .filter(|range| {
                !self
                    .protected
                    .iter()
                    .any(|p| p.start < range.end && range.start < p.end)
            })
            .collect();
        if owned.is_empty() {
            None
        } else {
            Some(owned[self.rng.below(owned.len() as u64) as usize].clone())
        }
    }

    fn addr(&mut self, space: &AddressSpace) -> u64 {
        let arena = ARENA.start + self.rng.below(48) * PAGE;
        match self.rng.below(40) {
            0 => self.wild(),
            1 => arena + self.rng.below(PAGE),
            2..14 => self.owned(space).map_or(arena, |range| {
                let pages = ((range.end - range.start) / PAGE).min(64);
                range.start + self.rng.below(pages) * PAGE
            }),
            14..17 => STACKS.start + self.rng.below(4096) * PAGE,
            17..21 => self.huge_addr(),
            _ => arena,
        }
    }

    /// In the arena of huge pages; seldom within one.
    fn huge_addr(&mut self) -> u64 {
        let addr = HUGE_ARENA.start + self.rng.below(12) * HUGE;
        if self.rng.one_in(6) {
            addr + self.rng.below(512) * PAGE
        } else {
            addr
        }
    }

    fn len(&mut self) -> u64 {
        match self.rng.below(64) {
            60.. => (1 + self.rng.below(4)) * HUGE,
            0 => 0,
            1 => self.wild(),
            2 => self.rng.below(40 * PAGE),
            3..8 => (1 + self.rng.below(40)) * PAGE,
            _ => (1 + self.rng.below(8)) * PAGE,
        }
    }

    fn ranged(&mut self, space: &AddressSpace, args: &mut [u64; 6], number: u64) -> u64 {
        args[0] = self.addr(space);
        args[1] = self.len();
        if HUGE_ARENA.contains(&args[0]) && !self.rng.one_in(4) {
            args[1] = (1 + self.rng.below(4)) * HUGE;
        }
        // Whole mappings merge back.
        if self.rng.one_in(4)
            && let Some(range) = self.owned(space)
        {
            (args[0], args[1]) = (range.start, range.end - range.start);
        }
        number
    }

    fn protection(&mut self) -> u64 {
        let usual = [0, 1, 1, 3, 3, 3, 3, 5, 7, 2, 4];
        let strange = [
            8,
            16,
            PROT_GROWSDOWN | 3,
            PROT_GROWSDOWN | 1,
            PROT_GROWSUP | 1,
            1 << 40,
        ];
        if self.rng.one_in(25) {
            self.rng.pick(&strange)
        } else {
            self.rng.pick(&usual)
        }
    }

    fn mmap(&mut self, space: &AddressSpace, args: &mut [u64; 6]) -> u64 {
        let is_fixed = self.rng.below(10) < 7;
        let mut flags = self.rng.pick(&[2, 2, 2, 2, 2, 2, 1, 1, 3, 8, 0]);
        args[0] = if is_fixed || self.rng.one_in(6) {
            self.addr(space)
        } else {
            0
        };
        args[1] = self.len();
        args[2] = self.protection();
        if is_fixed {
            flags |= self
                .rng
                .pick(&[MAP_FIXED, MAP_FIXED, MAP_FIXED, MAP_FIXED_NOREPLACE]);
        } else if self.rng.one_in(3) {
            args[1] = self
                .rng
                .pick(&[2 << 20, 4 << 20, (2 << 20) + PAGE, 3 << 20]);
        } else if self.rng.one_in(30) {
            (args[1], args[2]) = (1 << 40, 3);
            flags = MAP_PRIVATE;
        }
        let is_large = args[1] > 1 << 20;
        if self.rng.one_in(4) && !(is_large && !is_fixed && args[1] == 1 << 40) {
            args[4] = self.file(&mut args[5], is_large);
        } else {
            flags |= MAP_ANONYMOUS;
            args[4] = u64::MAX;
            args[5] = self
                .rng
                .pick(&[0, 0, 0, 0, 0, 0, 0, PAGE, 1, u64::MAX - 4095]);
        }
        for (flag, rarity) in [
            (MAP_GROWSDOWN, 20),
            (MAP_STACK, 20),
            (MAP_NORESERVE, 12),
            (MAP_POPULATE, 12),
            (MAP_LOCKED, 25),
            (MAP_32BIT, 40),
            (MAP_NONBLOCK, 30),
            (MAP_ABOVE4G, 40),
            (MAP_SYNC, 60),
            (1 << 22, 60),
        ] {
            let is_costly = is_large && matches!(flag, MAP_POPULATE | MAP_LOCKED | MAP_NORESERVE);
            if self.rng.one_in(rarity) && !is_costly {
                flags |= flag;
            }
        }
        args[3] = flags;
        number::MMAP
    }

    /// Explicitly huge memory that is promised no pages, so that no machine refuses it.
    fn huge_mmap(&mut self, space: &AddressSpace, args: &mut [u64; 6]) -> u64 {
        let mut flags = MAP_HUGETLB | MAP_ANONYMOUS;
        flags |= self.rng.pick(&[2, 2, 2, 2, 2, 1, 1, 3, 8, 0]);
        let has_pool = space.system().settings().huge_pages > 0;
        if has_pool || !self.rng.one_in(12) {
            flags |= MAP_NORESERVE;
        }
        args[0] = self.huge_addr();
        match self.rng.below(10) {
            0..6 => flags |= MAP_FIXED,
            6 => flags |= MAP_FIXED_NOREPLACE,
            7 => {}
            _ => args[0] = 0,
        }
        args[1] = if self.rng.one_in(8) {
            1 + self.rng.below(3 * HUGE)
        } else {
            (1 + self.rng.below(4)) * HUGE
        };
        args[2] = self.protection();
        args[4] = u64::MAX;
        args[5] = self.rng.pick(&[0, 0, 0, 0, 0, 0, 0, HUGE, PAGE, 1]);
        for (flag, rarity) in [
            (MAP_POPULATE, 8),
            (MAP_LOCKED, 20),
            (MAP_STACK, 20),
            (MAP_32BIT, 20),
            (MAP_GROWSDOWN, 30),
            (MAP_SYNC, 40),
            (21 << MAP_HUGE_SHIFT, 6),
            (22 << MAP_HUGE_SHIFT, 40),
        ] {
            if self.rng.one_in(rarity) {
                flags |= flag;
            }
        }
        args[3] = flags;
        number::MMAP
    }

    fn file(&mut self, offset: &mut u64, is_large: bool) -> u64 {
        let pages = if is_large { 2 } else { 16 };
        *offset = self.rng.below(pages) * PAGE;
        if self.rng.one_in(30) {
            return 999;
        }
        let descriptors = self.descriptors.clone();
        self.rng.pick(&descriptors)
    }

    fn touch(&mut self, space: &AddressSpace, args: &mut [u64; 6]) -> u64 {
        args[1] = self.addr(space);
        if self.rng.one_in(5) {
            let below = self.rng.pick(&[1, 2, 3, 255, 256, 257, 300]);
            args[1] = args[1].wrapping_sub(below * PAGE);
        }
        args[2] = 1;
        if self.rng.one_in(4) {
            args[0] = self.descriptors[6];
            number::PWRITE
        } else {
            args[0] = self.descriptors[0];
            number::READ
        }
    }

    fn mremap(&mut self, space: &AddressSpace, args: &mut [u64; 6]) -> u64 {
        args[0] = self.addr(space);
        args[1] = self.len();
        if self.rng.one_in(2)
            && let Some(range) = self.owned(space)
        {
            (args[0], args[1]) = (range.start, range.end - range.start);
        }
        args[2] = if self.rng.one_in(3) {
            args[1]
        } else {
            self.len()
        };
        args[3] = self
            .rng
            .pick(&[0, 0, 1, 1, 1, 3, 3, 3, 5, 5, 7, 7, 2, 4, 8]);
        args[4] = self.addr(space);
        if args[3] & 2 != 0 && self.rng.one_in(2) {
            args[2] = args[1];
        }
        number::MREMAP
    }

    fn brk(&mut self, space: &AddressSpace, args: &mut [u64; 6]) -> u64 {
        let base = self.lowest_break;
        args[0] = match self.rng.below(10) {
            0 => self.rng.below(base),
            1 => base + (1 << 45),
            2..5 => base + self.rng.below(8 * PAGE),
            _ => space.layout().brk + self.rng.below(5 * PAGE),
        };
        if args[0] > base + 256 * PAGE && args[0] < base + (1 << 44) {
            args[0] = base;
        }
        number::BRK
    }

    fn advice(&mut self) -> i32 {
        if self.rng.one_in(20) {
            return self.rng.pick(&[5, 6, 7, 26, 99, 104, -1]);
        }
        self.rng.pick(&[
            MADV_NORMAL,
            MADV_RANDOM,
            MADV_SEQUENTIAL,
            MADV_WILLNEED,
            MADV_DONTNEED,
            MADV_FREE,
            MADV_DONTFORK,
            MADV_DOFORK,
            MADV_DOFORK,
            MADV_MERGEABLE,
            MADV_UNMERGEABLE,
            MADV_HUGEPAGE,
            MADV_NOHUGEPAGE,
            MADV_DONTDUMP,
            MADV_DODUMP,
            MADV_WIPEONFORK,
            MADV_KEEPONFORK,
            MADV_COLD,
            MADV_PAGEOUT,
            MADV_POPULATE_READ,
            MADV_POPULATE_WRITE,
            MADV_DONTNEED_LOCKED,
            MADV_GUARD_INSTALL,
            MADV_GUARD_REMOVE,
        ])
    }

    fn lock(&mut self, space: &AddressSpace, args: &mut [u64; 6]) -> u64 {
        let owned: u64 = space
            .vmas()
            .filter(|vma| !vma.flags().contains(VmFlags::LOCKED))
            .map(|vma| vma.end() - vma.start())
            .sum();
        match self.rng.below(20) {
            0 if owned < 64 << 20 => {
                args[0] = self
                    .rng
                    .pick(&[0, MCL_ONFAULT, 8, MCL_CURRENT, MCL_FUTURE, 3, 5, 7]);
                number::MLOCKALL
            }
            1..3 => number::MUNLOCKALL,
            3..9 => self.ranged(space, args, number::MUNLOCK),
            9..14 => {
                self.ranged(space, args, number::MLOCK2);
                args[2] = self.rng.pick(&[0, 1, 1, 1, 2]);
                number::MLOCK2
            }
            _ => self.ranged(space, args, number::MLOCK),
        }
    }
}

/// Whether the outcome depends on single pages, which the model does not have: bringing in pages
/// stops at the end of a file and at guard pages, and mappings behind that stay unwritten.
fn depends_on_pages(space: &AddressSpace, call: Call) -> bool {
    let [a, b, c, ..] = call.args;
    let brings_in = match call.number {
        number::MLOCK | number::MLOCK2 => true,
        number::MADVISE => c as i32 == MADV_POPULATE_WRITE,
        // The kernel's copy routines refuse the first page.
        number::READ | number::PWRITE => return b < PAGE,
        _ => false,
    };
    let has_pages = |vma: &Vma| {
        vma.flags().contains(VmFlags::MAYBE_GUARD) || !matches!(vma.backing(), Backing::Anonymous)
    };
    brings_in
        && space
            .vmas_in(a..a.saturating_add(b))
            .any(|vma| has_pages(vma))
}
