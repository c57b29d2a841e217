//! Where a mapping goes: fixed, at a hint, in the highest or the lowest hole, on huge pages.

use core::num::NonZeroU64;

use maple_tree::GapRequest;

use crate::abi::{
    HUGE_PAGE_SIZE, MAP_32BIT, MAP_ABOVE4G, MAP_FIXED, MAP_HUGETLB, MAP_SHARED, PAGE_SIZE,
    is_page_aligned, page_ceil, page_floor,
};
use crate::errno::Errno;
use crate::file::FileKind;
use crate::flags::VmFlags;
use crate::huge_pages::huge_page_ceil;
use crate::layout::{Capabilities, Direction};
use crate::page_side::PageSide;
use crate::profile::HugePlacement;
use crate::space::AddressSpace;
use crate::vma::Vma;

/// The end of what `MAP_32BIT` may give.
const LOW_END: u64 = 0x8000_0000;
const FOUR_GIB: u64 = 1 << 32;

/// What is to be placed.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Place {
    /// The hint, or the address itself with `MAP_FIXED`.
    pub(crate) addr: u64,
    /// In bytes, whole pages.
    pub(crate) len: u64,
    /// Into the file, in pages.
    pub(crate) page_offset: u64,
    /// The `MAP_` flags.
    pub(crate) flags: u64,
    /// The kind of the file that says where.
    pub(crate) file: Option<FileKind>,
}

impl Place {
    const fn has(&self, flag: u64) -> bool {
        self.flags & flag != 0
    }

    /// How long a hole must be, and what its place in the hole is aligned to, in bytes.
    const fn need(&self) -> Need {
        let align = if self.has(MAP_HUGETLB) {
            HUGE_PAGE_SIZE
        } else {
            PAGE_SIZE
        };
        Need {
            len: self.len,
            align,
        }
    }

    fn is_huge_aligned(&self, placement: HugePlacement) -> bool {
        if placement == HugePlacement::Never || planted!(HugeAlign) {
            return false;
        }
        match self.file {
            Some(FileKind::Regular { huge_aligned }) => huge_aligned,
            Some(FileKind::DevZero) => !self.has(MAP_SHARED),
            Some(_) => false,
            // LINUX: 6.13 and newer: only without a hint and for whole huge pages.
            None => {
                !self.has(MAP_SHARED) && self.addr == 0 && self.len.is_multiple_of(HUGE_PAGE_SIZE)
            }
        }
    }
}

/// What a search looks for, in bytes.
#[derive(Clone, Copy, Debug)]
struct Need {
    len: u64,
    align: u64,
}

impl Need {
    /// What a hole must have, so that there is an aligned place in it wherever it begins.
    const fn padded(self) -> u64 {
        self.len.saturating_add(self.align - PAGE_SIZE)
    }
}

/// The range a search stays in: `low..high`, bytes.
#[derive(Clone, Copy, Debug)]
struct Bounds {
    low: u64,
    high: u64,
}

impl<P: PageSide> AddressSpace<P> {
    /// The address a mapping gets.
    ///
    /// - `ENOMEM`: longer than the address space, or no hole is large enough.
    /// - `EINVAL`: a fixed address that is no page boundary.
    /// - `EPERM`: below `mmap_min_addr` without the privilege.
    pub(crate) fn place(&self, place: &Place) -> Result<u64, Errno> {
        let task_size = self.layout.task_size;
        if place.len > task_size {
            return Err(Errno::ENOMEM);
        }
        let addr = if place.has(MAP_FIXED) {
            if place.has(MAP_HUGETLB) && !place.addr.is_multiple_of(HUGE_PAGE_SIZE) {
                return Err(Errno::EINVAL);
            }
            place.addr
        } else if place.has(MAP_HUGETLB) {
            let addr = huge_page_ceil(place.addr);
            self.place_plain(&Place { addr, ..*place })?
        } else if place.is_huge_aligned(self.profile.huge_placement) {
            self.place_huge(place)
                .map_or_else(|| self.place_plain(place), Ok)?
        } else {
            let addr = self.place_plain(place)?;
            self.moved_to_fit(place, addr).unwrap_or(addr)
        };
        // LINUX (all versions): a fixed address in the last page is taken for an error number.
        if let Some(errno) = Errno::from_result(addr) {
            return Err(errno);
        }
        if addr > task_size - place.len {
            return Err(Errno::ENOMEM);
        }
        if !is_page_aligned(addr) {
            return Err(Errno::EINVAL);
        }
        let is_low = addr < self.system.settings().mmap_min_addr;
        if is_low && !self.capabilities.contains(Capabilities::SYS_RAWIO) {
            return Err(Errno::EPERM);
        }
        Ok(addr)
    }

    /// A place whose first whole huge page of the file lies on a huge page of memory; `None`
    /// where that is no use or there is no room, and any place will do.
    fn place_huge(&self, place: &Place) -> Option<u64> {
        let offset = if place.file.is_some() {
            place.page_offset.wrapping_mul(PAGE_SIZE)
        } else {
            0
        };
        let end = offset.checked_add(place.len)?;
        let first_huge = offset.checked_next_multiple_of(HUGE_PAGE_SIZE)?;
        // LINUX: 6.18 compares as signed numbers, so that the last pages of the largest files look as
        // if they held a huge page.
        let is_none_inside = end.cast_signed() <= first_huge.cast_signed();
        if is_none_inside || end.wrapping_sub(first_huge) < HUGE_PAGE_SIZE {
            return None;
        }
        let padded = place.len.checked_add(HUGE_PAGE_SIZE)?;
        offset.checked_add(padded)?;
        let found = self
            .place_plain(&Place {
                len: padded,
                ..*place
            })
            .ok()?;
        if found == place.addr {
            return Some(found);
        }
        let shift = offset.wrapping_sub(found) & (HUGE_PAGE_SIZE - 1);
        let is_top_down = self.layout.direction == Direction::TopDown;
        Some(if is_top_down && shift == 0 {
            found + HUGE_PAGE_SIZE
        } else {
            found + shift
        })
    }

    /// Where a file of memory with huge pages goes instead of `found`, so that its huge pages lie
    /// on those of memory; `None` where it lies so already, gains nothing, or finds no room.
    fn moved_to_fit(&self, place: &Place, found: u64) -> Option<u64> {
        let has_huge_pages = place.file == Some(FileKind::HugeShmem)
            && self.profile.huge_placement != HugePlacement::Never
            && !planted!(HugeAlign);
        if !has_huge_pages || found == place.addr || place.len < HUGE_PAGE_SIZE {
            return None;
        }
        let within = |addr: u64| addr % HUGE_PAGE_SIZE;
        let offset = within(place.page_offset.wrapping_mul(PAGE_SIZE));
        let holds_none = offset != 0 && offset + place.len < 2 * HUGE_PAGE_SIZE;
        if holds_none || within(found) == offset {
            return None;
        }
        let wider = self.place_plain(&Place {
            len: place.len.checked_add(HUGE_PAGE_SIZE - PAGE_SIZE)?,
            page_offset: 0,
            file: None,
            ..*place
        });
        let wider = wider.ok()?;
        let moved = wider.checked_add(within(offset.wrapping_sub(wider)))?;
        (moved <= self.layout.task_size - place.len).then_some(moved)
    }

    fn place_plain(&self, place: &Place) -> Result<u64, Errno> {
        if place.len > self.layout.task_size {
            return Err(Errno::ENOMEM);
        }
        let is_low = place.has(MAP_32BIT) && !planted!(Low);
        if self.layout.direction == Direction::BottomUp || is_low {
            return self.place_bottom_up(place);
        }
        let hint = page_floor(place.addr);
        if hint != 0 && self.is_hint_free(hint, place.len, self.layout.task_size) {
            return Ok(hint);
        }
        let low = if place.has(MAP_ABOVE4G) {
            FOUR_GIB
        } else {
            PAGE_SIZE
        };
        let bounds = Bounds {
            low,
            high: self.layout.mmap_base,
        };
        self.highest_hole(place.need(), bounds)
            .map_or_else(|| self.place_bottom_up(place), Ok)
    }

    fn place_bottom_up(&self, place: &Place) -> Result<u64, Errno> {
        let bounds = if place.has(MAP_32BIT) {
            Bounds {
                low: self.layout.low_base,
                high: LOW_END,
            }
        } else {
            Bounds {
                low: self.layout.legacy_base,
                high: self.layout.task_size,
            }
        };
        // LINUX: a hint may lie below where the search begins.
        if place.len > bounds.high {
            return Err(Errno::ENOMEM);
        }
        // LINUX: the upward search rounds a hint up, the downward search rounds it down.
        let hint = page_ceil(place.addr);
        if place.addr != 0 && self.is_hint_free(hint, place.len, bounds.high) {
            return Ok(hint);
        }
        self.lowest_hole(place.need(), bounds).ok_or(Errno::ENOMEM)
    }

    /// Whether a hint can be granted. Only the mapping above it is asked: x86 lets a hint touch
    /// the one below.
    fn is_hint_free(&self, hint: u64, len: u64, end: u64) -> bool {
        let gap = self.system.stack_guard_gap();
        !planted!(Hint)
            && end.checked_sub(len).is_some_and(|highest| hint <= highest)
            && self
                .find_vma(hint)
                .is_none_or(|vma| hint + len <= vma.guarded_start(gap))
    }

    /// The mapping a hole ends at.
    fn above(&self, addr: u64) -> Option<&Vma> {
        self.find_vma(addr).map(|vma| &**vma)
    }

    fn highest_hole(&self, need: Need, bounds: Bounds) -> Option<u64> {
        let guard = self.system.stack_guard_gap();
        let low = bounds.low.max(self.system.lowest_address());
        let mut high = bounds.high;
        // Each round ends below one more stack, so there are at most as many as mappings.
        loop {
            let within = Self::index_range(low, high)?;
            let request = GapRequest::new(NonZeroU64::new(need.padded())?).within(within);
            let found = self.tree.highest_gap(&request)?;
            let end = found.last() + 1;
            match self
                .above(found.first())
                .map(|vma| vma.guarded_start(guard))
            {
                Some(guarded) if guarded < end => high = guarded,
                _ if planted!(GapRule) => return Some(end - need.len - PAGE_SIZE),
                _ => return Some((end - need.len) & !(need.align - 1)),
            }
        }
    }

    fn lowest_hole(&self, need: Need, bounds: Bounds) -> Option<u64> {
        let guard = self.system.stack_guard_gap();
        let mut low = bounds.low.max(self.system.lowest_address());
        loop {
            let within = Self::index_range(low, bounds.high)?;
            let request = GapRequest::new(NonZeroU64::new(need.padded())?).within(within);
            let found = self.tree.lowest_gap(&request)?;
            let start = found.first().next_multiple_of(need.align);
            // LINUX: below a stack the padding is asked for once more above an aligned place.
            let end = start.saturating_add(need.padded());
            match self.above(found.first()) {
                Some(vma)
                    if vma.flags().contains(VmFlags::GROWSDOWN)
                        && vma.guarded_start(guard) < end =>
                {
                    low = vma.end();
                }
                _ => return Some(start),
            }
        }
    }
}
