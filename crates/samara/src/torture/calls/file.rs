//! Files: mapped privately and shared, in any part, by any descriptor; written back.

use maple_mm::{VmFlags, abi::*};

use super::map::{more_flags, place};
use super::{Kind, ranged_with};
use crate::torture::chooser::{Chooser, PAGE};
use crate::torture::target::Raw;

pub(super) const KINDS: &[Kind] = &[
    Kind {
        weight: 6,
        make: mapped,
    },
    Kind {
        weight: 2,
        make: continued,
    },
    Kind {
        weight: 1,
        make: synced,
    },
];

fn mapped(chooser: &mut Chooser<'_>) -> Raw {
    let (addr, len, place) = place(chooser);
    let protection = chooser.protection();
    let kind = chooser.rng.pick(&[2, 2, 2, 2, 1, 1, 1, 3, 8, 0]);
    let flags = kind | place | more_flags(chooser, len);
    let pages = if len > 1 << 20 { 2 } else { 16 };
    let mut offset = chooser.rng.below(pages) * PAGE;
    if chooser.rng.one_in(40) {
        offset = chooser
            .rng
            .pick(&[1, u64::MAX - 4095, 1 << 62, (1 << 63) - 4096]);
    }
    let descriptor = chooser.any_descriptor();
    let arguments = [addr, len, protection, flags, descriptor, offset];
    Raw::new(libc::SYS_mmap, arguments)
}

/// Fills a hole with the next pages of a file, after those that lie below it.
fn continued(chooser: &mut Chooser<'_>) -> Raw {
    let more = chooser.hole().and_then(|(hole, below)| {
        below.file()?;
        let offset = below.page_offset().wrapping_mul(PAGE) + (below.end() - below.start());
        let is_shared = below.flags().contains(VmFlags::MAYSHARE);
        let kind = if is_shared { MAP_SHARED } else { MAP_PRIVATE };
        let protection = below.flags().access().bits();
        Some((hole, protection, kind | MAP_FIXED, offset))
    });
    let Some((hole, protection, flags, offset)) = more else {
        return mapped(chooser);
    };
    let (addr, len) = (hole.start, hole.end - hole.start);
    let descriptor = chooser.any_descriptor();
    Raw::new(
        libc::SYS_mmap,
        [addr, len, protection, flags, descriptor, offset],
    )
}

fn synced(chooser: &mut Chooser<'_>) -> Raw {
    let all = [MS_SYNC, MS_ASYNC, MS_INVALIDATE, MS_SYNC | MS_ASYNC, 8];
    let flags = chooser.rng.pick(&all);
    ranged_with(chooser, libc::SYS_msync, flags)
}
