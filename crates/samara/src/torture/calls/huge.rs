//! Explicitly huge memory that is promised no pages, so that no machine refuses it.

use maple_mm::abi::*;

use super::{Kind, rarely};
use crate::torture::chooser::{Chooser, HUGE, PAGE};
use crate::torture::target::Raw;

pub(super) const KINDS: &[Kind] = &[Kind {
    weight: 1,
    make: mapped,
}];

fn mapped(chooser: &mut Chooser<'_>) -> Raw {
    let kind = chooser.rng.pick(&[2, 2, 2, 2, 2, 1, 1, 3, 8, 0]);
    let mut flags = kind | MAP_HUGETLB | MAP_ANONYMOUS;
    let has_pool = chooser.space.system().settings().huge_pages > 0;
    if has_pool || !chooser.rng.one_in(12) {
        flags |= MAP_NORESERVE;
    }
    let mut addr = chooser.huge_addr();
    match chooser.rng.below(10) {
        0..6 => flags |= MAP_FIXED,
        6 => flags |= MAP_FIXED_NOREPLACE,
        7 => {}
        _ => addr = 0,
    }
    let len = if chooser.rng.one_in(8) {
        1 + chooser.rng.below(3 * HUGE)
    } else {
        (1 + chooser.rng.below(4)) * HUGE
    };
    flags |= rarely(
        chooser,
        &[
            (MAP_POPULATE, 8),
            (MAP_LOCKED, 20),
            (MAP_STACK, 20),
            (MAP_32BIT, 20),
            (MAP_GROWSDOWN, 30),
            (MAP_SYNC, 40),
            (21 << MAP_HUGE_SHIFT, 6),
            (22 << MAP_HUGE_SHIFT, 40),
        ],
    );
    let offset = chooser.rng.pick(&[0, 0, 0, 0, 0, 0, 0, HUGE, PAGE, 1]);
    let arguments = [addr, len, chooser.protection(), flags, u64::MAX, offset];
    Raw::new(libc::SYS_mmap, arguments)
}
