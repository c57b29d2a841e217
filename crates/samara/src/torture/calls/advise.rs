//! Advice: what changes mappings, what is refused, what does nothing that `maps` shows.

use maple_mm::abi::*;

use super::Kind;
use crate::torture::chooser::{Chooser, PAGE};
use crate::torture::target::Raw;

pub(super) const KINDS: &[Kind] = &[
    Kind {
        weight: 15,
        make: advised,
    },
    Kind {
        weight: 1,
        make: guarded,
    },
];

/// All that the model knows; that of reverting a fork twice, so that it does not win.
const ADVICE: [i32; 24] = [
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
];

fn advised(chooser: &mut Chooser<'_>) -> Raw {
    let advice = if chooser.rng.one_in(20) {
        chooser.rng.pick(&[5, 6, 7, 26, 99, 104, -1])
    } else {
        chooser.rng.pick(&ADVICE)
    };
    let (addr, len) = chooser.range();
    Raw::advise(addr, len, advice)
}

/// Guards at which a mapping begins: they are noticed before all else.
fn guarded(chooser: &mut Chooser<'_>) -> Raw {
    let start = chooser.owned().map_or(0, |range| range.start);
    let len = (1 + chooser.rng.below(3)) * PAGE;
    Raw::advise(start, len, MADV_GUARD_INSTALL)
}
